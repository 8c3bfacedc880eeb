"""Submission: checks, completion of the header, signing, limits, unique MAIL FROM."""

from __future__ import annotations

import re
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from moxtw.authn import dkimsign
from moxtw.mail.header import parse_headers
from moxtw.queue.submit import SubmitError, SubmitRequest, Submitted, Submitter
from moxtw.store import queuedb
from moxtw.store.queuerecord import Queued
from tests.support.store import job
from tests.unit.queue.support import (
    DYNAMIC,
    STATIC,
    FixedConfig,
    address,
    make_account,
    make_store,
    now,
    path,
)

BODY = b"From: Me <me@example.org>\r\nTo: x@dst.example\r\nSubject: hi\r\n\r\nbody\r\n"


class Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.store = make_store(self, self.clock)
        make_account(self.store, "me")
        self.use(DYNAMIC)

    def use(self, dynamic: str, static: str = STATIC) -> None:
        self.config = FixedConfig(dynamic, static)
        self.submitter = Submitter(self.store, self.config)

    def submit(self, body: bytes = BODY, *recipients: str, **more: Any) -> list[Submitted]:
        values: dict[str, Any] = {
            "account": "me",
            "login_address": address("me@example.org"),
            "mail_from": path("me@example.org"),
            "recipients": [path(r) for r in recipients or ("x@dst.example",)],
            "content": now(self.store.contents.from_bytes(body)),
            "received": b"Received: from here\r\n",
            **more,
        }
        return now(Deferred.fromCoroutine(self.submitter(SubmitRequest(**values))))

    def refusal(self, *args: Any, **more: Any) -> tuple[int, str, str]:
        with self.assertRaises(SubmitError) as caught:
            self.submit(*args, **more)
        exc = caught.exception
        self.assertEqual(job(self.store, lambda tx: len(queuedb.domains(tx))), self.queued)
        return exc.code, exc.secode, exc.reason

    queued = 0

    def row(self, submitted: Submitted) -> Queued:
        return job(self.store, queuedb.get, submitted.id)

    def sent(self, submitted: Submitted) -> bytes:
        return job(self.store, queuedb.read, submitted.id)


class Checks(Case):
    def test_from_field(self) -> None:
        for body in (
            b"Subject: x\r\n\r\n",
            b"From: a@example.org\r\nFrom: me@example.org\r\n\r\n",
            b"From: me@example.org, other@example.org\r\n\r\n",
            b"From: me@-bad-.org..\r\n\r\n",
            b"From: just a name\r\n\r\n",
        ):
            self.assertEqual(self.refusal(body), (550, "5.6.0", "badmessage"), body)

    def test_from_rule(self) -> None:
        for name in ("me", "me+list", "ME", "team"):
            author = f"{name}@example.org"
            self.submit(BODY.replace(b"me@example.org", author.encode()))
        self.queued = 1
        for author in (
            "other@example.org",
            "closed@example.org",
            "me@else.example",
            "x@example.org",
        ):
            body = BODY.replace(b"me@example.org", author.encode())
            self.assertEqual(self.refusal(body), (550, "5.7.1", "badfrom"), author)
        body = BODY.replace(b"me@example.org", b"me@off.example")
        self.assertEqual(self.refusal(body), (451, "4.3.0", "domaindisabled"))

    def test_return_path_only_matters_when_pedantic(self) -> None:
        body = b"Return-Path: <x@y>\r\n" + BODY
        self.submit(body)
        self.queued = 1
        self.use(DYNAMIC, "Pedantic: true\n" + STATIC)
        self.assertEqual(self.refusal(body), (550, "5.6.0", "badheader"))

    def test_unknown_account(self) -> None:
        self.assertEqual(self.refusal(account="nobody")[0], 451)


class Additions(Case):
    def test_header_is_completed_in_order(self) -> None:
        (submitted,) = self.submit()
        sent = self.sent(submitted)
        names = [f.name for f in parse_headers(sent).fields]
        self.assertEqual(
            names,
            [
                b"received",
                b"message-id",
                b"date",
                b"authentication-results",
                b"from",
                b"to",
                b"subject",
            ],
        )
        row = self.row(submitted)
        self.assertRegex(row.message_id, r"^<[\w-]{22}@mail\.example\.org>$")
        self.assertIn(row.message_id.encode(), sent)
        self.assertIn(b"auth=pass smtp.mailfrom=me@example.org", sent)
        self.assertEqual((row.size, row.subject), (len(sent), "hi"))
        self.assertEqual((row.sender, row.recipient), ("me@example.org", "x@dst.example"))
        self.assertTrue(sent.endswith(BODY))

    def test_what_is_there_stays(self) -> None:
        body = b"Message-ID: <1@x>\r\nDate: Mon, 1 Jan 2024 00:00:00 +0000\r\n" + BODY
        (submitted,) = self.submit(body)
        sent = self.sent(submitted).lower()
        self.assertEqual((sent.count(b"message-id:"), sent.count(b"date:")), (1, 1))
        self.assertEqual(self.row(submitted).message_id, "<1@x>")

    def test_null_sender(self) -> None:
        (submitted,) = self.submit(mail_from=path("<>"))
        self.assertEqual(self.row(submitted).sender, "")
        self.assertIn(b"auth=pass\r\n", self.sent(submitted))

    def test_tls_required_no(self) -> None:
        for field, given, expected in (
            (b"TLS-Required: no\r\n", None, False),
            (b"TLS-Required: No\r\nTLS-Required: no\r\n", None, False),
            (b"TLS-Required: No\r\nTLS-Required: yes\r\n", None, None),
            (b"TLS-Required: No\r\n", True, True),
            (b"", None, None),
            (b"", False, False),
        ):
            (submitted,) = self.submit(field + BODY, require_tls=given)
            self.assertIs(self.row(submitted).require_tls, expected, (field, given))

    def test_extra_fields(self) -> None:
        body = b"X-Mox-Extra-order-ID: 1\r\nx-mox-extra-b: a\r\n b\r\n" + BODY
        (submitted,) = self.submit(body, extra={"given": "x"})
        self.assertEqual(
            self.row(submitted).extra, {"Order-Id": "1", "B": "a b", "given": "x"}
        )
        self.assertIn(b"X-Mox-Extra-order-ID: 1", self.sent(submitted))
        self.queued = 1
        body = b"X-Mox-Extra-a: 1\r\nX-Mox-Extra-A: 2\r\n" + BODY
        self.assertEqual(self.refusal(body), (554, "5.6.0", "badheader"))

    def test_what_needs_8bit_and_smtputf8(self) -> None:
        for body, recipient, expected in (
            (BODY, "x@dst.example", (False, False)),
            (BODY + "é\r\n".encode(), "x@dst.example", (True, False)),
            ("X-é: ü\r\n".encode() + BODY, "x@dst.example", (True, True)),
            (BODY, "é@dst.example", (False, True)),
        ):
            (submitted,) = self.submit(body, recipient)
            row = self.row(submitted)
            self.assertEqual((row.has8bit, row.smtputf8), expected, (body, recipient))

    def test_added_fields_are_ascii_for_messages_that_are(self) -> None:
        (submitted,) = self.submit(mail_from=path("me@é.example"))
        sent = self.sent(submitted)
        self.assertTrue(sent.isascii(), sent)
        self.assertIn(b"smtp.mailfrom=me@xn--9ca.example", sent)
        row = self.row(submitted)
        self.assertEqual((row.has8bit, row.smtputf8), (False, False))

    def test_added_fields_beyond_ascii_count(self) -> None:
        rows = self.submit(BODY, "x@dst.example", "y@dst.example", mail_from=path("é@é.example"))
        for submitted in rows:
            self.assertIn("smtp.mailfrom=é@é.example".encode(), self.sent(submitted))
            row = self.row(submitted)
            self.assertEqual((row.has8bit, row.smtputf8), (True, True))
        # Some recipient needs it, and so the field is written that way for all.
        (one, _) = self.submit(
            BODY, "x@dst.example", "é@dst.example", received="Received: by é.example\r\n".encode()
        )
        row = self.row(one)
        self.assertEqual((row.has8bit, row.smtputf8), (True, True))

    def test_future_release(self) -> None:
        later = self.store.now() + 5_000_000
        (submitted,) = self.submit(hold="for;5", not_before=later)
        row = self.row(submitted)
        self.assertEqual((row.next_attempt, row.future_release), (later, "for;5"))

    def test_address_literals_and_postmaster(self) -> None:
        rows = self.submit(BODY, "x@[127.0.0.1]", "x@[IPv6:::1]", "x@é.example")
        domains = [self.row(s).recipient_domain for s in rows]
        self.assertEqual(domains, ["[127.0.0.1]", "[::1]", "é.example"])

    def test_large_message(self) -> None:
        body = BODY + b"line\r\n" * 50_000
        (submitted,) = self.submit(body)
        self.assertTrue(self.sent(submitted).endswith(body))


class Signing(Case):
    def setUp(self) -> None:
        super().setUp()
        self.use(
            DYNAMIC.replace(
                "\t\tLocalpartCatchallSeparator: +\n",
                "\t\tLocalpartCatchallSeparator: +\n"
                "\t\tDKIM:\n\t\t\tSelectors:\n\t\t\t\tsel:\n\t\t\t\t\tPrivateKeyFile: none\n"
                "\t\t\tSign:\n\t\t\t\t- sel\n",
            )
        )
        (self.selector,) = dkimsign.selectors_for(self.config.domains["example.org"])

    def with_key(self, key: Any) -> None:
        object.__setattr__(self.selector, "private_key", key)

    def test_signature_stands_between_added_fields(self) -> None:
        self.with_key(Ed25519PrivateKey.generate())
        for more in (b"", b"x" * 70 + b"\r\n", b"line\r\n" * 50_000):
            body = BODY.replace(b"me@", b"Me+x@") + more
            (submitted,) = self.submit(body, "x@dst.example")
            sent = self.sent(submitted)
            names = [f.name for f in parse_headers(sent).fields]
            self.assertEqual(names[2:5], [b"date", b"dkim-signature", b"authentication-results"])
            signature = parse_headers(sent).get("dkim-signature") or ""
            self.assertIn("i=me@example.org;", signature)
            self.assertIn("Date:Date:", re.sub(r"\s", "", signature))

    def test_message_goes_out_unsigned_if_that_fails(self) -> None:
        self.with_key(None)
        (submitted,) = self.submit()
        self.assertNotIn(b"DKIM-Signature", self.sent(submitted))


class Limits(Case):
    def test_messages_per_day(self) -> None:
        self.submit(BODY, *["x@dst.example"] * 8)
        self.queued = 1
        self.assertEqual(
            self.refusal(BODY, *["x@dst.example"] * 3), (451, "4.7.1", "messagelimiterror")
        )
        self.submit(BODY, *["x@dst.example"] * 2)
        self.clock.advance(86401)
        self.submit(BODY, *["x@dst.example"] * 10)

    def test_first_time_recipients(self) -> None:
        names = [f"u{n}@dst.example" for n in range(8)]
        self.submit(BODY, *names[:4])
        self.queued = 1
        self.assertEqual(
            self.refusal(BODY, *names[4:6]), (451, "4.7.1", "recipientlimiterror")
        )
        self.submit(BODY, names[0], names[4])
        self.assertEqual(self.refusal(BODY, names[5])[2], "recipientlimiterror")
        self.submit(BODY, *names[:3])
        self.clock.advance(86401)
        # Those of yesterday are known.
        self.submit(BODY, *names[:5], *names[5:8])
        self.submit(BODY, "z@dst.example")

    def test_failed_submission_counts_nothing(self) -> None:
        self.refusal(BODY, *[f"u{n}@d.example" for n in range(6)])
        self.submit(BODY, *[f"u{n}@d.example" for n in range(5)])


class UniqueMailFrom(Case):
    def send(self, mail_from: str = "unique@example.org", *rcpts: str, **more: Any) -> Any:
        body = BODY.replace(b"me@", b"unique@")
        return self.submit(
            body,
            *rcpts,
            login_address=address("unique@example.org"),
            mail_from=path(mail_from),
            **more,
        )

    def test_each_recipient_has_its_own(self) -> None:
        submitted = self.send("unique@example.org", "a@d.example", "b@d.example")
        rows = [self.row(s) for s in submitted]
        self.assertEqual(len({row.from_id for row in rows}), 2)
        for row, result in zip(rows, submitted, strict=True):
            self.assertRegex(row.from_id, r"^[\w-]{22}$")
            self.assertEqual(row.from_id, result.from_id)
            self.assertEqual(row.sender, f"unique+{row.from_id}@example.org")
            self.assertEqual(row.base_id, 0)

    def test_only_for_configured_logins(self) -> None:
        (submitted,) = self.submit()
        self.assertEqual(submitted.from_id, "")

    def test_chosen_id(self) -> None:
        (submitted,) = self.send("unique+mine@example.org")
        self.assertEqual(self.row(submitted).from_id, "mine")
        self.queued = 1
        with self.assertRaises(SubmitError) as caught:
            self.send("unique+mine@example.org")
        self.assertEqual((caught.exception.code, caught.exception.secode), (554, "5.1.7"))
        with self.assertRaises(SubmitError) as caught:
            self.send("unique+two@example.org", "a@d.example", "b@d.example")
        self.assertEqual((caught.exception.code, caught.exception.secode), (554, "5.5.3"))

    def test_replaced_id(self) -> None:
        (submitted,) = self.send("unique+tag@example.org", keep_from_id=False)
        self.assertEqual(self.row(submitted).sender, f"unique+{submitted.from_id}@example.org")
        self.assertNotEqual(submitted.from_id, "tag")

    def test_null_sender_stays(self) -> None:
        (submitted,) = self.send("<>")
        self.assertEqual(submitted.from_id, "")


class Failures(Case):
    def test_full_disk(self) -> None:
        from moxtw.store.errors import DiskFull

        def full(*_: Any) -> None:
            raise DiskFull("full")

        self.patch(queuedb, "add", full)
        self.assertEqual(self.refusal(), (452, "4.3.1", "queueerror"))
