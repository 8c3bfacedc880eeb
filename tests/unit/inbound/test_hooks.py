"""Webhooks of incoming messages, and notifications that are matched to sent messages."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from moxtw.authn import AuthResults
from moxtw.inbound import heard
from moxtw.inbound.deliver import Deliverer
from moxtw.mail.address import parse_path
from moxtw.mail.dsn import DSN, DSNRecipient, compose_dsn
from moxtw.mail.dsnrequest import DSNRequest
from moxtw.queue.hooktypes import Incoming, encode
from moxtw.store import hooklists, queuedb, queuelists, retireddb, suppressions
from moxtw.store.hooklists import HookQuery
from moxtw.store.hooksdb import Hook
from moxtw.store.queuelists import Order
from moxtw.store.queuerecord import NewQueued, Queued, Retired
from moxtw.store.schema import messages
from moxtw.store.tx import Statement
from tests.support.smtp import DYNAMIC
from tests.support.store import job, now
from tests.unit.inbound.test_deliver import NO, DeliverCase, FixedDecider

HOOKS = """\
		OutgoingWebhook:
			URL: http://hooks.example/out
		IncomingWebhook:
			URL: http://hooks.example/in
			Authorization: Bearer x
"""
HOUR = 3_600_000_000

MESSAGE = (
    "From: \"B\u00f6ss\" <boss@example.net>\r\nTo: <me@example.org>, Two <two@example.net>\r\n"
    "Message-ID: <1@example.net>\r\nReferences: <a@x> <b@x>\r\nIn-Reply-To: <b@x>\r\n"
    "Date: Mon, 3 Nov 2025 10:00:00 +0100\r\nSubject: =?utf-8?q?hi_=C3=BC?=\r\n"
    "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
    "--b\r\nContent-Type: text/plain; charset=iso-8859-1\r\n"
    "Content-Transfer-Encoding: quoted-printable\r\n\r\none=FC\r\ntwo\r\n"
    "--b\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<b>one</b>\r\n"
    "--b\r\nContent-Type: application/pdf; name=x.pdf\r\n"
    "Content-Disposition: attachment; filename=x.pdf\r\n"
    "Content-Transfer-Encoding: base64\r\n\r\nAAEC\r\n--b--\r\n"
).encode()


def notification(
    recipient: str = "x@dst.example",
    action: str = "failed",
    status: str = "5.1.1",
    diagnostic: str = "550 5.1.1 no such user",
    more: tuple[DSNRecipient, ...] = (),
    **fields: Any,
) -> bytes:
    told = DSNRecipient(parse_path(recipient), action, status, diagnostic=diagnostic)
    return compose_dsn(
        DSN("mx.dst.example", (told, *more), text="about your message\n", **fields),
        mail_from=parse_path("postmaster@mx.dst.example"),
        to=parse_path("me@example.org"),
        subject="about your message",
        message_id="<dsn@mx.dst.example>",
        when=0,
        utf8=False,
    )


class HookCase(DeliverCase):
    dynamic = DYNAMIC.replace("\tme:\n", "\tme:\n" + HOOKS, 1).replace(
        "\tyou:\n", "\tyou:\n\t\tRejectsMailbox: Rejects\n" + HOOKS, 1
    )

    def sent(
        self,
        from_id: str = "",
        *,
        account: str = "me",
        recipient: str = "x@dst.example",
        retired: bool = True,
        **fields: Any,
    ) -> int:
        """A message that was delivered some time ago."""
        path = parse_path(recipient)
        new = NewQueued(
            account, "me", "example.org", path.localpart, path.ipdomain.name,
            now(self.store.contents.from_bytes(b"Subject: x\r\n\r\nx\r\n")),
            from_id=from_id, **{"message_id": "<sent@example.org>", "subject": "x", **fields},
        )  # fmt: skip
        [queued] = job(self.store, queuedb.add, [new])
        if retired:
            message = job(self.store, queuedb.get, queued)
            job(self.store, queuedb.retire, message, True, HOUR)
        return int(queued)

    def hooks(self) -> list[Hook]:
        return job(self.store, hooklists.waiting, HookQuery(), Order("submitted", True))

    def told(self) -> list[dict[str, Any]]:
        return [json.loads(hook.payload) for hook in self.hooks()]

    def retired(self, from_id: str) -> Retired:
        found = job(self.store, retireddb.by_from_id, from_id)
        assert isinstance(found, Retired)
        return found

    def suppressed(self, account: str = "me") -> list[str]:
        return [each.base_address for each in job(self.store, suppressions.suppressions, account)]

    def deliver_dsn(self, data: bytes, to: str = "me+fid@example.org") -> None:
        self.assertEqual(self.codes(to, data=data, mail_from=""), [0])


class IncomingTests(HookCase):
    def test_payload(self) -> None:
        results = AuthResults(
            evaluated=True,
            mail_from_validated=True,
            mail_from_status="pass",
            dkim_domains=("example.net",),
        )
        self.deliverer = Deliverer(
            self.store, self.world.config, FixedDecider(), self.evaluator(results)
        )
        self.deliver("me+tag@example.org", data=MESSAGE)
        [hook] = self.hooks()
        self.assertEqual(
            (hook.url, hook.authorization, hook.account, hook.is_incoming, hook.event),
            ("http://hooks.example/in", "Bearer x", "me", True, ""),
        )
        self.assertEqual(
            (hook.queue_msg_id, hook.message_id, hook.subject),
            (0, "<1@example.net>", "hi \u00fc"),
        )
        told = json.loads(hook.payload)
        meta = told.pop("Meta")
        structure = told.pop("Structure")
        self.assertEqual(
            told,
            {
                "Version": 0,
                "From": [{"Name": "B\u00f6ss", "Address": "boss@example.net"}],
                "To": [
                    {"Name": "", "Address": "me@example.org"},
                    {"Name": "Two", "Address": "two@example.net"},
                ],
                "CC": [],
                "BCC": [],
                "ReplyTo": [],
                "Subject": "hi \u00fc",
                "MessageID": "<1@example.net>",
                "InReplyTo": "<b@x>",
                "References": ["<a@x>", "<b@x>"],
                "Date": "2025-11-03T10:00:00+01:00",
                "Text": "one\u00fc\ntwo",
                "HTML": "",
            },
        )
        self.assertEqual(structure["ContentType"], "multipart/mixed")
        self.assertEqual(
            [(part["ContentType"], part["Filename"], part["DecodedSize"])
             for part in structure["Parts"]],
            [("text/plain", "", 9), ("text/html", "", 10), ("application/pdf", "x.pdf", 3)],
        )  # fmt: skip
        stored = job(self.store, lambda tx: tx.value(Statement(sa.select(messages.c.id))))
        self.assertEqual(meta.pop("MsgID"), stored)
        received = datetime.fromisoformat(meta.pop("Received"))
        self.assertEqual(received.timestamp(), self.world.clock.seconds())
        self.assertEqual(
            meta,
            {
                "MailFrom": "news@example.net",
                "MailFromValidated": True,
                "MsgFromValidated": False,
                "RcptTo": "me+tag@example.org",
                "DKIMVerifiedDomains": ["example.net"],
                "RemoteIP": "192.0.2.1",
                "MailboxName": "Inbox",
                "Automated": False,
            },
        )

    def test_payload_and_back(self) -> None:
        self.deliver("me@example.org", data=MESSAGE)
        [hook] = self.hooks()
        told = msgspec.json.decode(hook.payload, type=Incoming)
        self.assertEqual(encode(told), hook.payload)
        self.assertEqual(told.Structure.Parts[2].Filename, "x.pdf")

    def test_automated(self) -> None:
        for line, automated in (
            ("X-Any: 1", False),
            ("Auto-Submitted: no", False),
            ("Auto-Submitted: No (really)", False),
            ("Auto-Submitted: auto-replied", True),
            ("Auto-Submitted: auto-generated; x=y", True),
            ("List-Id: <a.example>", True),
            ("List-Unsubscribe: <mailto:a@x>", True),
            ("Precedence: bulk", True),
            ("Content-Type: multipart/report; boundary=x", True),
        ):
            self.deliver("me@example.org", data=line.encode() + b"\r\n" + MESSAGE)
            self.assertEqual(self.told()[-1]["Meta"]["Automated"], automated, line)
        self.deliver("me@example.org", mail_from="")
        self.assertTrue(self.told()[-1]["Meta"]["Automated"])

    def test_once_for_each_account(self) -> None:
        self.deliver("me@example.org", "team@example.org")
        self.assertEqual(sorted(hook.account for hook in self.hooks()), ["me", "you"])

    def test_refused_messages_are_not_told(self) -> None:
        self.deliverer = Deliverer(
            self.store, self.world.config, FixedDecider(you=NO), self.evaluator()
        )
        self.deliver("you@example.org")
        self.assertEqual(self.count("you", "Rejects"), 1)
        self.assertEqual(self.hooks(), [])

    @settings(max_examples=60, deadline=None)
    @given(st.binary(max_size=300))
    def test_any_content(self, data: bytes) -> None:
        report = (
            b"Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n"
            b"--b\r\n\r\nx\r\n--b\r\nContent-Type: message/delivery-status\r\n\r\n"
        )
        for head in (b"", report):
            self.deliver_dsn(head + data)
        msgspec.json.decode(self.hooks()[-1].payload, type=Incoming)


class FromIDTests(HookCase):
    def test_failure(self) -> None:
        message = self.sent("fid")
        self.deliver_dsn(notification())
        [told] = self.told()
        self.assertEqual(
            {name: told[name] for name in ("Event", "DSN", "Suppressing", "QueueMsgID", "FromID",
                                           "SMTPCode", "SMTPEnhancedCode", "MessageID")},
            {"Event": "failed", "DSN": True, "Suppressing": True, "QueueMsgID": message,
             "FromID": "fid", "SMTPCode": 550, "SMTPEnhancedCode": "5.1.1",
             "MessageID": "<sent@example.org>"},
        )  # fmt: skip
        self.assertEqual(self.suppressed(), ["x@dst.example"])
        retired = self.retired("fid")
        self.assertFalse(retired.success)
        result = retired.results[-1]
        self.assertEqual((result.code, result.secode, result.success), (550, "1.1", False))
        self.assertIn("no such user", result.error)
        # The message itself is kept like any other.
        self.assertEqual(self.count("me"), 1)

    def test_other_actions(self) -> None:
        for action, event, success in (
            ("delayed", "delayed", True),
            ("delivered", "delivered", True),
            ("relayed", "relayed", True),
            ("expanded", "expanded", True),
            ("eaten", "unrecognized", True),
        ):
            from_id = "id" + action
            self.sent(from_id)
            status = "4.4.1" if action == "delayed" else "2.0.0"
            self.deliver_dsn(
                notification(action=action, status=status, diagnostic=""),
                f"me+{from_id}@example.org",
            )
            self.assertEqual((self.told()[-1]["Event"], self.told()[-1]["DSN"]), (event, True))
            self.assertEqual(self.retired(from_id).success, success)
        self.assertEqual(self.suppressed(), [])

    def test_what_is_not_understood(self) -> None:
        second = DSNRecipient(parse_path("y@dst.example"), "failed", "5.0.0")
        for number, (data, dsn) in enumerate((
            (b"Subject: out of office\r\n\r\nback soon\r\n", False),
            (notification(more=(second,)), True),
            (notification().replace(b"Final-Recipient", b"Some-Recipient"), False),
        )):  # fmt: skip
            self.sent(f"n{number}")
            self.deliver_dsn(data, f"me+n{number}@example.org")
            told = self.told()[-1]
            self.assertEqual((told["Event"], told["DSN"]), ("unrecognized", dsn), data[:100])
            self.assertTrue(self.retired(f"n{number}").results[-1].error)
        self.assertEqual(self.suppressed(), [])

    def test_of_another_account(self) -> None:
        self.sent("fid", account="you")
        self.deliver_dsn(notification())
        [hook] = self.hooks()
        self.assertTrue(hook.is_incoming)
        self.assertEqual(self.retired("fid").results, [])
        self.assertEqual(self.suppressed() + self.suppressed("you"), [])

    def test_unknown_id(self) -> None:
        self.deliver_dsn(notification())
        self.assertTrue(self.hooks()[0].is_incoming)

    def test_of_a_message_that_is_queued_still(self) -> None:
        """A host may tell of a delay before it has taken the message for good."""
        message = self.sent("fid", retired=False)
        self.deliver_dsn(notification(action="delayed", status="4.4.1", diagnostic=""))
        told = self.told()[-1]
        self.assertEqual((told["Event"], told["QueueMsgID"]), ("delayed", message))
        self.assertIsInstance(job(self.store, retireddb.by_from_id, "fid"), Queued)


class OriginalTests(HookCase):
    """Without an id of ours: anybody could write such a notification, so it is told only."""

    ORIGINAL = b"Message-Id: <sent@example.org>\r\nSubject: x\r\n\r\n"

    def deliver_dsn(self, data: bytes, to: str = "me@example.org") -> None:
        super().deliver_dsn(data, to)

    def outgoing(self) -> list[dict[str, Any]]:
        return [json.loads(hook.payload) for hook in self.hooks() if not hook.is_incoming]

    def test_by_message_id(self) -> None:
        one, two = self.sent(), self.sent(recipient="y@dst.example")
        more = (DSNRecipient(parse_path("y@dst.example"), "delayed", "4.4.1"),)
        self.deliver_dsn(notification(original=self.ORIGINAL, more=more))
        found = {told["QueueMsgID"]: told for told in self.outgoing()}
        self.assertEqual(
            {key: (told["Event"], told["SMTPCode"]) for key, told in found.items()},
            {one: ("failed", 550), two: ("delayed", 400)},
        )
        self.assertFalse(found[one]["Suppressing"])
        self.assertEqual(self.suppressed(), [])
        # It is an incoming message as well.
        self.assertEqual(len([hook for hook in self.hooks() if hook.is_incoming]), 1)

    def test_forwarded(self) -> None:
        one = self.sent()
        self.deliver_dsn(notification("else@far.example", original=self.ORIGINAL))
        self.assertEqual([told["QueueMsgID"] for told in self.outgoing()], [one])

    def test_by_original_recipient(self) -> None:
        self.sent()
        two = self.sent(recipient="y@dst.example")
        told = DSNRecipient(
            parse_path("else@far.example"), "failed", "5.1.1",
            original_recipient="rfc822;y@dst.example",
        )  # fmt: skip
        data = notification("y@dst.example", original=self.ORIGINAL, more=(told,))
        self.deliver_dsn(data)
        self.assertEqual({told["QueueMsgID"] for told in self.outgoing()}, {two})

    def test_by_envelope_id(self) -> None:
        self.sent(dsn=DSNRequest(envelope_id="other"))
        one = self.sent(dsn=DSNRequest(envelope_id="env-1"))
        self.deliver_dsn(notification(envelope_id="env-1"))
        self.assertEqual([told["QueueMsgID"] for told in self.outgoing()], [one])

    def test_not_ours(self) -> None:
        self.sent(account="you")
        self.deliver_dsn(notification(original=self.ORIGINAL))
        self.sent(message_id="<else@example.org>")
        self.deliver_dsn(notification(original=self.ORIGINAL))
        # Of somebody, not of a mail system.
        self.sent()
        self.deliver("me@example.org", data=notification(original=self.ORIGINAL))
        self.assertEqual(self.outgoing(), [])


class CodesTests(SynchronousTestCase):
    def test_codes(self) -> None:
        path = parse_path("x@dst.example")
        for status, kind, diagnostic, found in (
            ("5.1.1", "smtp", "550 5.1.2 no", (550, "1.2")),
            ("5.1.1", "smtp", "550-5.1.2 no", (550, "1.2")),
            ("5.1.1", "smtp", "450 no", (450, "")),
            ("5.1.1", "smtp", "no", (500, "1.1")),
            ("4.2.2", "x-unix", "550 5.1.2", (400, "2.2")),
            ("2.0.0", "smtp", "", (0, "")),
            ("5.1.1", "smtp", "5501 x", (500, "1.1")),
        ):
            recipient = DSNRecipient(
                path, "failed", status, diagnostic=diagnostic, diagnostic_type=kind
            )
            self.assertEqual(heard.codes(recipient), found, diagnostic)


class QueryTests(HookCase):
    def test_only_indexes(self) -> None:
        for number in range(50):
            self.sent(f"f{number}", message_id=f"<{number}@example.org>")
        for name in ("_BY_FROM_ID", "_QUEUED_BY_FROM_ID", "_BY_MESSAGE_ID", "_BY_ADDRESS"):
            statement = getattr(retireddb, name)
            sql, order, _ = statement.compiled(self.store.backend.dialect)

            def plan(tx: Any, sql: str = sql, count: int = len(order or ())) -> list[Any]:
                return tx._execute("EXPLAIN QUERY PLAN " + sql, ["x"] * count).fetchall()

            steps = [row[3] for row in job(self.store, plan)]
            self.assertTrue(all(step.startswith("SEARCH") for step in steps), (name, steps))

    def test_lists_tell_of_it(self) -> None:
        self.sent("fid")
        self.deliver_dsn(notification())
        [message] = job(self.store, queuelists.retired, queuelists.Query(), Order("queued", True))
        self.assertEqual(len(message.results), 1)
