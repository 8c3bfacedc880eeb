"""Delivery to accounts and aliases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import zip_longest
from typing import Any
from unittest.mock import patch

import sqlalchemy as sa
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from moxtw.authn import NOTHING, AuthResults
from moxtw.config.lookup import AddressNotFound, lookup_address
from moxtw.inbound.bounce import Bouncer
from moxtw.inbound.decide import Decider, Decision
from moxtw.inbound.deliver import Deliverer
from moxtw.inbound.envelope import Envelope, Recipient, RecipientResult, TraceFields
from moxtw.mail.address import parse_ipdomain, parse_path
from moxtw.mail.dsnparse import parse_dsn
from moxtw.mail.dsnrequest import NO_REQUEST, DSNRequest, Notify
from moxtw.mail.mime import parse_message
from moxtw.mail.received import AuthMethod, Trace
from moxtw.store import accounts, mailboxes, messages, queuedb, queuelists, rejects, verify
from moxtw.store.model import Flag, Want
from moxtw.store.schema import contents, message_meta
from moxtw.store.tx import Statement
from tests.support.smtp import DYNAMIC, World
from tests.support.store import job, now

MESSAGE = b"From: <boss@example.net>\r\nMessage-ID: <1@example.net>\r\nSubject: hi\r\n\r\nbody\r\n"

REJECTS = DYNAMIC.replace("\tyou:\n", "\tyou:\n\t\tRejectsMailbox: Rejects\n")


class FixedDecider(Decider):
    """Decides as told, by account."""

    def __init__(self, **decisions: Decision) -> None:
        self.decisions = decisions

    async def decide(self, case: Any) -> Decision:
        return self.decisions.get(case.account_name) or Decision(True, "Inbox", "no-bad-signals")


class FixedEvaluator:
    def __init__(self, results: AuthResults) -> None:
        self.results = results

    async def authenticate(self, **kwargs: Any) -> AuthResults:
        return self.results


NO = Decision(False, "Inbox", "junk-content", text="rejected")


class DeliverCase(SynchronousTestCase):
    """Delivers to accounts; the store must be consistent in the end."""

    dynamic = DYNAMIC

    def setUp(self) -> None:
        self.world = World(self, dynamic=self.dynamic)
        self.store = self.world.store
        self.deliverer = self.world.ctx.deliverer
        self.addCleanup(self.check_store)

    def evaluator(self, results: AuthResults | None = None) -> FixedEvaluator:
        return FixedEvaluator(results or AuthResults())

    def recipient(self, address: str) -> Recipient:
        path = parse_path(address)
        try:
            found = lookup_address(
                self.world.config,
                path.localpart,
                path.ipdomain.domain,
                allow_postmaster=True,
                allow_alias=True,
                allow_disabled=False,
            )
        except AddressNotFound:
            return Recipient(path, local=True)
        if hasattr(found, "alias"):
            return Recipient(path, alias=found, local=True)
        return Recipient(path, destination=found, local=True)  # type: ignore[arg-type]

    def deliver(
        self,
        *recipients: str,
        data: bytes = MESSAGE,
        mail_from: str = "news@example.net",
        dsn: Sequence[DSNRequest] = (),
        **fields: Any,
    ) -> list[RecipientResult]:
        hostname = self.world.config.static.dns_hostname
        envelope = Envelope(
            cid=1,
            remote_ip="192.0.2.1",
            hello=parse_ipdomain("client.example"),
            mail_from=parse_path(mail_from),
            recipients=[
                replace(self.recipient(address), dsn=request)
                for address, request in zip_longest(recipients, dsn, fillvalue=NO_REQUEST)
            ],
            received=int(self.world.clock.seconds() * 1_000_000),
            head=data.partition(b"\r\n\r\n")[0] + b"\r\n\r\n",
            trace=TraceFields(Trace(
                hostname=hostname,
                local_ip="192.0.2.99",
                protocol="ESMTP",
                id="x",
                hello=parse_ipdomain("client.example"),
                remote_ip="192.0.2.1",
            )),
            **fields,
        )
        content = now(self.store.contents.from_bytes(data))
        self.slept: list[float] = []

        async def sleep(seconds: float) -> None:
            self.slept.append(seconds)

        return self.successResultOf(
            Deferred.fromCoroutine(self.deliverer.deliver(envelope, content, sleep))
        )

    def codes(self, *recipients: str, **fields: Any) -> list[int]:
        return [result.code for result in self.deliver(*recipients, **fields)]

    def count(self, account: str, mailbox: str = "Inbox") -> int:
        return len(self.world.mailbox(account, mailbox))

    def check_store(self) -> None:
        checking = Deferred.fromCoroutine(verify.verify_all(self.store))
        self.assertEqual(self.successResultOf(checking), [])


class DeliverTests(DeliverCase):
    def test_account(self) -> None:
        [result] = self.deliver("me@example.org")
        self.assertEqual((result.code, result.reason), (0, "no-bad-signals"))
        [message] = self.world.mailbox("me")
        self.assertTrue(message.endswith(MESSAGE))

    def test_metadata_is_stored(self) -> None:
        self.deliver("me+x@example.org", requiretls=True)
        row = job(self.store, lambda tx: tx.one(Statement(sa.select(message_meta))))
        got = dict(zip([c.name for c in message_meta.c], row, strict=True))
        for name, value in (
            ("remote_ip", "192.0.2.1"),
            ("ehlo_domain", "client.example"),
            ("mail_from", "news@example.net"),
            ("mail_from_localpart", "news"),
            ("mail_from_domain", "example.net"),
            ("rcpt_to_localpart", "me+x"),
            ("rcpt_to_domain", "example.org"),
            ("msg_from_localpart", "boss"),
            ("msg_from_domain", "example.net"),
            ("received_tls_version", 1),
            ("received_requiretls", 1),
            ("message_id", "1@example.net"),
            ("is_reject", 0),
        ):
            self.assertEqual(got[name], value, name)

    def test_one_content_for_all(self) -> None:
        self.deliver("me@example.org", "you@example.org", "postmaster@example.org")
        count = Statement(sa.select(sa.func.count()).select_from(contents))
        self.assertEqual(job(self.store, lambda tx: tx.value(count)), 1)
        self.assertEqual(self.count("me"), 1)
        self.assertEqual(self.count("me", "Postmaster"), 1)
        self.assertEqual(self.count("you"), 1)

    def test_rulesets_choose_the_mailbox(self) -> None:
        self.deliver("rules@example.org")
        self.assertEqual(self.count("me", "News"), 1)
        self.deliver("rules@example.org", mail_from="other@example.net")
        self.assertEqual(self.count("me", "Other"), 1)
        self.deliver(
            "rules@example.org",
            data=b"List-ID: <announce.lists.example.org>\r\n" + MESSAGE,
        )
        self.assertEqual(self.count("me", "Lists/announce"), 1)

    def test_unknown_users(self) -> None:
        results = self.deliver("nobody@example.org", "me@example.org")
        self.assertEqual([r.code for r in results], [550, 0])
        self.assertEqual(results[0].reason, "unknownuser")
        self.assertEqual(len(self.world.bounced), 1)

    def test_nobody_is_told_without_a_sender(self) -> None:
        self.deliver("nobody@example.org", "me@example.org", mail_from="")
        self.deliver("nobody@example.org", "me@example.org", localserve=True)
        self.deliver("nobody@example.org")
        self.assertEqual(self.world.bounced, [])

    def test_missing_account_row(self) -> None:
        with patch("moxtw.store.accounts.find", return_value=None):
            self.assertEqual(self.codes("me@example.org"), [451])

    # -- Aliases -------------------------------------------------------------------

    def test_alias_goes_to_all_members(self) -> None:
        self.assertEqual(self.codes("team@example.org"), [0])
        [message] = self.world.mailbox("me")
        self.assertIn(b"Delivered-To: me@example.org\r\n", message)
        self.assertIn(b"for <team@example.org>;", message.replace(b"\r\n\t", b" "))
        self.assertEqual(self.count("you"), 1)

    def test_members_that_are_recipients_get_one_copy(self) -> None:
        self.assertEqual(self.codes("team@example.org", "Me+x@example.org"), [0, 0])
        self.assertEqual(self.count("me"), 1)
        self.assertEqual(self.count("you"), 1)

    def test_the_author_gets_no_copy(self) -> None:
        data = MESSAGE.replace(b"boss@example.net", b"me@example.org")
        self.assertEqual(self.codes("team@example.org", data=data), [0])
        self.assertEqual(self.count("me"), 0)
        self.assertEqual(self.count("you"), 1)

    def test_alias_for_members_only(self) -> None:
        [result] = self.deliver("closed@example.org")
        self.assertEqual((result.code, result.secode), (550, "5.7.2"))
        data = MESSAGE.replace(b"boss@example.net", b"Me@EXAMPLE.org")
        self.assertEqual(self.codes("closed@example.org", data=data), [550])
        data = MESSAGE.replace(b"boss@example.net", b"me@EXAMPLE.org")
        self.assertEqual(self.codes("closed@example.org", data=data), [0])
        data = MESSAGE.replace(b"boss@example.net", b"closed@example.org")
        self.assertEqual(self.codes("closed@example.org", data=data), [550])
        data = MESSAGE.replace(b"boss@example.net", b"team@example.org")
        self.assertEqual(self.codes("team@example.org", data=data), [0])

    def test_alias_is_accepted_when_one_member_accepts(self) -> None:
        self.deliverer = Deliverer(
            self.store, self.world.config, FixedDecider(me=NO), self.evaluator()
        )
        [result] = self.deliver("team@example.org")
        self.assertEqual((result.code, result.reason), (0, "no-bad-signals"))
        # The other member too gets what the alias has accepted.
        self.assertEqual((self.count("me"), self.count("you")), (1, 1))

    def test_alias_is_refused_when_all_members_refuse(self) -> None:
        self.deliverer = Deliverer(
            self.store, self.world.config, FixedDecider(me=NO, you=NO), self.evaluator()
        )
        [result] = self.deliver("team@example.org")
        self.assertEqual((result.code, result.secode, result.reason), (451, "4.3.0", "reject"))

    # -- Refusals ------------------------------------------------------------------

    def test_refused_message_is_not_kept_without_rejects_mailbox(self) -> None:
        self.deliverer = Deliverer(
            self.store, self.world.config, FixedDecider(me=NO), self.evaluator()
        )
        self.assertEqual(self.codes("me@example.org"), [451])
        self.assertEqual(self.count("me"), 0)

    def test_first_time_senders_wait(self) -> None:
        first = Decision(True, "Inbox", "no-bad-signals", first_time=True)
        self.deliverer = Deliverer(
            self.store, self.world.config, FixedDecider(me=first), self.evaluator()
        )
        self.deliver("me@example.org", first_time_delay=15.0)
        self.assertEqual(self.slept, [15.0])
        self.deliver("you@example.org", first_time_delay=15.0)
        self.assertEqual(self.slept, [])

    def test_what_the_checks_found_is_written_down(self) -> None:
        results = AuthResults(
            evaluated=True,
            mail_from_validated=True,
            mail_from_status="pass",
            dkim_domains=("example.net",),
            from_validation="strict",
            methods=(AuthMethod("spf", "pass"),),
            reverse_name="relay.example.com",
            author=parse_path("<x@sub.example.co.uk>").address,
        )
        self.deliverer = Deliverer(
            self.store,
            self.world.config,
            Decider(self.world.rates, self.store),
            self.evaluator(results),
        )
        self.deliver("me@example.org")
        [message] = self.world.mailbox("me")
        [row] = job(
            self.store,
            lambda tx: tx.all(
                Statement(
                    sa.select(
                        message_meta.c.msg_from_domain,
                        message_meta.c.msg_from_org_domain,
                        message_meta.c.msg_from_validated,
                    )
                )
            ),
        )
        self.assertEqual(tuple(row), ("sub.example.co.uk", "example.co.uk", True))
        self.assertIn(b"(relay.example.com [", message)
        self.assertIn(
            b"Return-Path: <news@example.net>\r\nAuthentication-Results: mail.example.org;\r\n"
            b"\tspf=pass\r\nReceived: ",
            message,
        )

    def test_results_that_claim_to_be_ours_are_removed(self) -> None:
        forged = b"Authentication-Results: (x) MAIL.example.org;\r\n\tdmarc=pass\r\n"
        other = b"Authentication-Results: mx.example.net; dmarc=pass\r\n"
        for body in (b"", b"Some text.\r\n" * 10_000):
            data = forged + other + MESSAGE.replace(b"<1@", b"<%d@" % len(body)) + body
            self.assertEqual(self.codes("me@example.org", data=data), [0])
            message = self.world.mailbox("me")[-1]
            self.assertNotIn(b"(x)", message)
            self.assertTrue(message.endswith(data[len(forged) :]))
            self.assertEqual(len(message.split(data[len(forged) :])), 2)


class RejectsTests(DeliverCase):
    dynamic = REJECTS

    def reject(self, data: bytes = MESSAGE) -> None:
        self.deliverer = Deliverer(
            self.store, self.world.config, FixedDecider(you=NO), self.evaluator()
        )
        self.assertEqual(self.codes("you@example.org", data=data), [451])

    def test_refused_message_is_kept(self) -> None:
        self.reject()
        self.assertEqual(self.count("you"), 0)
        self.assertEqual(self.count("you", "Rejects"), 1)

        def read(tx: Any) -> Any:
            account = accounts.get(tx, "you")
            mailbox = mailboxes.named(tx, account.id, "Rejects")
            return messages.rows(tx, mailbox.id, [(1, 100)], Want.FLAGS)

        [row] = job(self.store, read)
        self.assertTrue(row.flags & Flag.SEEN)

    def test_same_message_is_kept_once(self) -> None:
        self.reject()
        self.reject()
        self.assertEqual(self.count("you", "Rejects"), 1)
        without_id = MESSAGE.replace(b"Message-ID: <1@example.net>\r\n", b"")
        self.reject(without_id)
        self.reject(without_id)
        self.assertEqual(self.count("you", "Rejects"), 2)

    def test_accepted_message_removes_its_earlier_copies(self) -> None:
        self.reject()
        self.deliverer = self.world.ctx.deliverer
        self.deliver("you@example.org")
        self.assertEqual(self.count("you"), 1)
        self.assertEqual(self.count("you", "Rejects"), 0)

    def test_old_copies_go(self) -> None:
        self.reject()
        self.world.clock.advance(14 * 86400 + 1)
        self.reject(MESSAGE.replace(b"<1@", b"<2@"))
        [message] = self.world.mailbox("you", "Rejects")
        self.assertIn(b"<2@example.net>", message)

    def test_no_more_than_a_thousand(self) -> None:
        self.patch(__import__("moxtw.store.rejects").store.rejects, "MAX_MESSAGES", 2)
        for number in range(4):
            self.reject(MESSAGE.replace(b"<1@", b"<%d@" % number))
        self.assertEqual(self.count("you", "Rejects"), 2)

    def test_where_it_belongs(self) -> None:
        """The mailbox that the message was meant for is made, and noted."""
        self.deliverer = Deliverer(
            self.store,
            self.world.config,
            FixedDecider(you=replace(NO, mailbox="Lists/One")),
            self.evaluator(),
        )
        self.codes("you@example.org")

        def read(tx: Any) -> tuple[int, ...]:
            account = accounts.get(tx, "you")
            wanted = mailboxes.named(tx, account.id, "Lists/One")
            kept = mailboxes.named(tx, account.id, "Rejects")
            row = tx.raw(
                "SELECT is_reject, mailbox_destined_id, mailbox_orig_id FROM message_meta"
            ).fetchone()
            return tuple(row) + (wanted.id, kept.id)

        is_reject, destined, orig, wanted, kept = job(self.store, read)
        self.assertEqual((is_reject, destined, orig), (1, wanted, kept))

    def test_members_keep_copies(self) -> None:
        """Of a message for an alias, all members but those who are recipients themselves."""
        self.deliverer = Deliverer(
            self.store, self.world.config, FixedDecider(me=NO, you=NO), self.evaluator()
        )
        self.assertEqual(self.codes("team@example.org"), [451])
        self.assertEqual(self.count("you", "Rejects"), 1)
        data = MESSAGE.replace(b"<1@", b"<2@")
        self.assertEqual(self.codes("team@example.org", "you@example.org", data=data), [451, 451])
        self.assertEqual(self.count("you", "Rejects"), 2)

    def test_too_high_rates_are_not_kept(self) -> None:
        decision = replace(NO, reason="high-rate", keep_reject=False, code=452, secode="4.2.2")
        self.deliverer = Deliverer(
            self.store, self.world.config, FixedDecider(you=decision), self.evaluator()
        )
        self.assertEqual(self.codes("you@example.org"), [452])
        self.assertEqual(self.count("you", "Rejects"), 0)


class KeepRejectsTests(DeliverCase):
    """An account that wants to keep them all."""

    dynamic = REJECTS.replace(
        "RejectsMailbox: Rejects\n", "RejectsMailbox: Rejects\n\t\tKeepRejects: true\n"
    )

    def test_nothing_goes_by_itself(self) -> None:
        """Neither with time nor by number; only when the message is accepted after all."""
        self.patch(rejects, "MAX_MESSAGES", 1)
        self.deliverer = Deliverer(
            self.store, self.world.config, FixedDecider(you=NO), self.evaluator()
        )
        for number in range(3):
            self.codes("you@example.org", data=MESSAGE.replace(b"<1@", b"<%d@" % number))
            self.world.clock.advance(14 * 86400 + 1)
        self.assertEqual(self.count("you", "Rejects"), 3)
        self.deliverer = self.world.ctx.deliverer
        self.deliver("you@example.org")
        self.assertEqual(self.count("you", "Rejects"), 2)


class BounceTests(DeliverCase):
    def setUp(self) -> None:
        super().setUp()
        self.deliverer = Deliverer(
            self.store,
            self.world.config,
            Decider(self.world.rates, self.store),
            self.evaluator(),
            Bouncer(self.store, self.world.config),
        )

    def test_nobody_is_told_without_a_sender(self) -> None:
        self.deliver("nobody@example.org", "me@example.org", mail_from="")
        self.assertEqual(self.queued(), [])

    def test_unknown_users(self) -> None:
        self.deliver("nobody@example.org", "me@example.org", "nobody2@example.org")
        [message] = self.queued()
        self.assertEqual(message.sender, "")
        self.assertEqual(message.sender_account, "me")
        self.assertEqual(message.recipient, "news@example.net")
        data = self.content(message.id)
        self.assertIn(b"From: <postmaster@example.org>\r\nTo: <news@example.net>\r\n", data)
        dsn = parse_dsn(parse_message(data), data)
        self.assertEqual(
            [(r.final_recipient, r.action, r.status) for r in dsn.recipients],
            [
                (parse_path("nobody@example.org"), "failed", "5.1.1"),
                (parse_path("nobody2@example.org"), "failed", "5.1.1"),
            ],
        )
        self.assertIn(b"Subject: hi", data)

    def test_both_forms_about_a_message_with_smtputf8(self) -> None:
        message = MESSAGE.replace(b"Subject: hi", "Subject: grüß".encode())
        for sender, needs in (("news@bücher.example", False), ("grüße@bücher.example", True)):
            self.deliver(
                "nöbody@example.org",
                "me@example.org",
                mail_from=sender,
                data=message,
                smtputf8=True,
            )
            row = self.queued()[-1]
            # It can go anywhere, if its recipient's address can.
            self.assertEqual((row.has8bit, row.smtputf8), (False, needs))
            data = self.content(row.id)
            self.assertTrue(data.isascii(), data)
            self.assertIn(b"rfc822-headers; charset=utf-8", data)
            utf8 = job(self.store, queuedb.source, row.id)[2]
            assert utf8 is not None
            for text in ("Subject: grüß", "utf-8; nöbody@example.org", f"To: <{sender}>"):
                self.assertIn(text.encode(), utf8)
            for form in (data, utf8):
                dsn = parse_dsn(parse_message(form), form)
                [recipient] = dsn.recipients
                self.assertEqual(recipient.final_recipient, parse_path("nöbody@example.org"))

    def test_one_form_about_other_messages(self) -> None:
        self.deliver("nobody@example.org", "me@example.org", mail_from="news@bücher.example")
        [row] = self.queued()
        self.assertIsNone(job(self.store, queuedb.source, row.id)[2])
        self.assertTrue(self.content(row.id).isascii())

    def test_success_on_request(self) -> None:
        success = DSNRequest("FULL", "e1", Notify.SUCCESS, "rfc822;Me@example.org")
        never = DSNRequest("FULL", "e1", Notify.NEVER)
        self.deliver(
            "me@example.org", "you@example.org", "nobody@example.org", dsn=(success, never, never)
        )
        [row] = self.queued()
        data = self.content(row.id)
        dsn = parse_dsn(parse_message(data), data)
        self.assertEqual(dsn.envelope_id, "e1")
        [recipient] = dsn.recipients
        self.assertEqual((recipient.action, recipient.status), ("delivered", "2.0.0"))
        self.assertEqual(recipient.original_recipient, "rfc822;Me@example.org")
        self.assertNotIn(b"nobody", data)
        self.assertIn(b"rfc822-headers", data)

    def test_whole_message_on_request(self) -> None:
        wanted = DSNRequest("FULL", "", Notify.SUCCESS | Notify.FAILURE)
        self.deliver("me@example.org", "nobody@example.org", dsn=(wanted, wanted))
        [row] = self.queued()
        data = self.content(row.id)
        dsn = parse_dsn(parse_message(data), data)
        self.assertEqual([r.action for r in dsn.recipients], ["delivered", "failed"])
        self.assertIn(b"Content-Type: message/rfc822\r\n", data)
        self.assertIn(MESSAGE, data)

    def test_success_is_not_told_to_forged_senders(self) -> None:
        wanted = DSNRequest(notify=Notify.SUCCESS)
        results = replace(NOTHING, evaluated=True, mail_from_status="softfail")
        self.deliverer._evaluator = FixedEvaluator(results)
        self.deliver("me@example.org", dsn=(wanted,))
        self.assertEqual(self.queued(), [])

    def queued(self) -> list[Any]:
        ids = job(self.store, lambda tx: queuelists.ids(tx, queuelists.Query()))
        return job(self.store, queuelists.rows, ids)

    def content(self, message_id: int) -> bytes:
        return job(self.store, queuedb.read, message_id)
