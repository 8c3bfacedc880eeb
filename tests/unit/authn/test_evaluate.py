"""All checks of a message together, and how they are told."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from moxtw.authn import AuthResults
from moxtw.authn.dkimkey import public_record
from moxtw.authn.evaluate import Evaluation
from moxtw.authn.foreign import forged
from moxtw.dns.fake import ZoneResolver
from moxtw.mail.address import parse_ipdomain, parse_path
from moxtw.mail.domain import parse_domain
from moxtw.mail.parsed import analyse
from moxtw.mail.received import authentication_results, received_spf
from tests.unit.authn.test_dkim import BODY, HEADER, KEY_NAME, NOW, signed
from tests.unit.authn.test_dkimsign import ED25519

HOST = parse_domain("mx.example.net")
ZONES = {
    "10.2.0.192.in-addr.arpa.": {"PTR": ["mail.example.org."]},
    "mail.example.org.": {"A": ["192.0.2.10"]},
    "example.org.": {"TXT": ["v=spf1 ip4:192.0.2.10 -all"]},
    KEY_NAME: {"TXT": [public_record(ED25519)]},
    "_dmarc.example.org.": {"TXT": ["v=DMARC1; p=reject; rua=mailto:r@example.org"]},
}


class Message:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.size = len(data)
        self.parsed = analyse(data)

    def read(self, start: int, length: int) -> bytes:
        return self.data[start : start + length]


def fields(results: AuthResults) -> str:
    text = authentication_results("mx.example.net", results.methods).decode()
    return text.replace("\r\n\t", " ").replace("\r\n", "\n")


class EvaluateTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(NOW)
        self.resolver: Any = ZoneResolver(ZONES)

    def start(self, data: bytes, **more: Any) -> Deferred[AuthResults]:
        evaluation = Evaluation(
            self.resolver, self.clock, lambda: HOST, random=lambda n: 0, **more.pop("made", {})
        )
        values: dict[str, Any] = {
            "remote_ip": "192.0.2.10",
            "hello": parse_ipdomain("mail.example.org"),
            "mail_from": parse_path("<a@example.org>"),
            "message": Message(data),
            "cid": 1,
            **more,
        }
        return Deferred.fromCoroutine(evaluation.authenticate(**values))

    def check(self, data: bytes, **more: Any) -> AuthResults:
        return self.successResultOf(self.start(data, **more))

    def test_all_good(self) -> None:
        results = self.check(signed())
        self.assertTrue(results.evaluated and results.from_validated)
        self.assertTrue(results.mail_from_validated)
        self.assertFalse(results.ehlo_validated or results.temporary)
        self.assertEqual(results.from_validation, "strict")
        self.assertEqual(results.dkim_domains, ("example.org",))
        self.assertEqual(results.reverse_name, "mail.example.org")
        self.assertEqual((results.mail_from_status, results.ehlo_status), ("pass", ""))
        assert results.dmarc is not None and results.author is not None
        self.assertEqual(results.dmarc.status, "pass")
        self.assertEqual(str(results.author), "a@example.org")
        short = results.dkim[0].short
        self.assertEqual(
            fields(results),
            "Authentication-Results: mx.example.net; "
            "iprev=pass (without dnssec) policy.iprev=192.0.2.10; "
            "dkim=pass (without dnssec) header.d=example.org header.s=2026a "
            f'header.a=ed25519-sha256 header.b={self.quoted(short)} header.i=a@example.org; '
            "spf=pass (without dnssec) smtp.mailfrom=a@example.org; "
            "dmarc=pass (without dnssec, policy reject) header.from=example.org\n",
        )
        assert results.received_spf is not None
        field = received_spf(results.received_spf).decode()
        self.assertTrue(field.startswith("Received-SPF: pass ("))
        self.assertIn("identity=mailfrom", field)

    def quoted(self, text: str) -> str:
        return f'"{text}"' if "/" in text or "=" in text else text

    def test_nothing_good(self) -> None:
        data = signed().replace(b"more", b"less")
        results = self.check(data, remote_ip="192.0.2.11")
        self.assertEqual(results.from_validation, "none")
        self.assertEqual(results.dkim_domains, ())
        assert results.dmarc is not None
        self.assertTrue(results.dmarc.apply_reject)
        text = fields(results)
        self.assertIn("iprev=permerror", text)
        self.assertIn('dkim=fail (without dnssec) reason="body was changed', text)
        self.assertIn("spf=fail", text)
        self.assertIn("dmarc=fail (without dnssec, policy reject)", text)

    def test_not_signed_and_null_sender(self) -> None:
        results = self.check(HEADER + BODY, mail_from=parse_path("<>"))
        self.assertIn(" dkim=none;", fields(results))
        self.assertEqual((results.mail_from_status, results.ehlo_status), ("", "none"))
        self.assertIn("smtp.helo=mail.example.org", fields(results))

    def test_relaxed(self) -> None:
        data = signed().replace(b"From: A  <a@example.org>", b"From: A <a@sub.example.org>")
        results = self.check(data)
        # The signature is broken by that, SPF has passed for the organizational domain.
        self.assertEqual(results.from_validation, "dmarc")
        del self.resolver.zones["_dmarc.example.org."]
        self.assertEqual(self.check(data).from_validation, "relaxed")

    def test_authors(self) -> None:
        for field in (
            b"From: a@example.org, b@example.org",
            b"From: a@example.org\r\nFrom: a@example.org",
            b"From: undisclosed:;",
            b"From: nobody",
            b"X-From: a@example.org",
        ):
            results = self.check(field + b"\r\nSubject: hi\r\n\r\nbody\r\n")
            self.assertIsNone(results.author, field)
            self.assertIsNone(results.dmarc)
            self.assertEqual(results.from_validation, "none")
            self.assertIn('dmarc=none (', fields(results).replace("none reason", "none ( reason"))

    def test_temporary(self) -> None:
        self.resolver.fail = {(KEY_NAME, "TXT"): "servfail", "example.org.": "timeout"}
        results = self.check(signed())
        self.assertTrue(results.temporary)
        assert results.dmarc is not None
        self.assertEqual(results.dmarc.status, "temperror")
        self.assertFalse(results.dmarc.reject)

    def test_time(self) -> None:
        class Silent:
            async def lookup(self, name: str, rtype: str) -> Any:
                await Deferred()

        self.resolver = Silent()
        work = self.start(signed())
        for _ in range(2):
            self.assertNoResult(work)
            self.clock.advance(61)
        results = self.successResultOf(work)
        self.assertTrue(results.temporary)
        assert results.dmarc is not None
        self.assertEqual(results.dmarc.status, "temperror")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_bugs_are_results(self) -> None:
        class Broken:
            async def lookup(self, name: str, rtype: str) -> Any:
                raise ZeroDivisionError

        self.resolver = Broken()
        results = self.check(signed())
        self.assertTrue(results.evaluated and results.temporary)
        self.flushLoggedErrors()

    def test_unreadable(self) -> None:
        class Gone(Message):
            def read(self, start: int, length: int) -> bytes:
                raise OSError("gone")

        results = self.check(b"", message=Gone(signed()))
        self.assertTrue(results.temporary)
        self.flushLoggedErrors()

    def test_names_in_utf8(self) -> None:
        data = signed().replace(b"a@example.org", "jörg@bücher.example".encode())
        data = data.replace(b"d=example.org", "d=bücher.example".encode())
        sender = parse_path("<jörg@bücher.example>")
        text = fields(self.check(data, mail_from=sender, utf8=True))
        self.assertIn("header.d=bücher.example (xn--bcher-kva.example)", text)
        self.assertIn("header.from=bücher.example (xn--bcher-kva.example)", text)
        text = fields(self.check(data, mail_from=sender))
        self.assertTrue(text.isascii())
        self.assertIn("smtp.mailfrom=xn--bcher-kva.example", text)

    def test_localhost(self) -> None:
        results = self.check(signed(), made={"localserve": True})
        self.assertEqual(results.dkim[0].status, "pass")

    def test_hostile_names(self) -> None:
        data = b"DKIM-Signature: a=x;\r\n d=a\x01b; s=(; b=)\"\\;\r\n" + HEADER + BODY
        text = fields(self.check(data))
        self.assertEqual(text.count("\n"), 1)
        self.assertIn("dkim=permerror", text)


class ForeignTests(SynchronousTestCase):
    def test_claims(self) -> None:
        for value, ours in (
            (b"mx.example.net; spf=pass", True),
            (b"MX.Example.NET; none", True),
            (b"mx.example.net 1; none", True),
            (b"(a;b (c\\)) d) mx.example.net; none", True),
            (b'"mx.example.net"; none', True),
            (b'"mx\\.example.net"; none', True),
            (b"mx.example.net(x); none", True),
            (b"\r\n\tmx.example.net;\r\n\tspf=pass", True),
            (b"mx.example.net", True),
            (b"mx.example.net.; none", True),
            (b"a.mx.example.net; none", False),
            (b"mx.example.net.example; none", False),
            (b"example.org; spf=pass smtp.mailfrom=mx.example.net", False),
            (b"(mx.example.net) example.org; none", False),
            (b"", False),
            (b"((((", False),
            (b"(" + b"x" * 3000 + b") mx.example.net; none", True),
            (b"(" * 3000, True),
            (b"(" + b"x" * 1000 + b") example.org; " + b"spf=pass " * 300, False),
        ):
            header = b"A: b\r\nauthentication-Results : " + value + b"\r\nB: c\r\n\r\n"
            found = forged(header, HOST)
            self.assertEqual(len(found), int(ours), value)
            if ours:
                [(start, end)] = found
                self.assertEqual(header[:start] + header[end:], b"A: b\r\nB: c\r\n\r\n")

    def test_international(self) -> None:
        host = parse_domain("mx.bücher.example")
        for name in ("mx.bücher.example", "mx.xn--bcher-kva.example"):
            self.assertTrue(forged(f"Authentication-Results: {name}; none\r\n".encode(), host))
