"""ARC chains are validated and grow."""

from __future__ import annotations

import time
from typing import Any

import dkim
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from moxtw.authn.arc import ARCResult, Sealer, seal, validate
from moxtw.authn.dkimkey import public_record
from moxtw.authn.dkimsign import SignError
from moxtw.authn.signedmessage import BytesSource
from moxtw.dns.fake import ZoneResolver
from moxtw.mail.received import AuthMethod
from tests.support.store import now as value
from tests.unit.authn import vectors
from tests.unit.authn.test_dkim import BODY, HEADER, NOW
from tests.unit.authn.test_dkimsign import ED25519, RSA

METHODS = [AuthMethod("spf", "pass", comment="x", reason="y"), AuthMethod("dkim", "none")]
MESSAGE = HEADER + BODY
RECORDS = {RSA: public_record(RSA), ED25519: public_record(ED25519)}


def name(number: int) -> str:
    return f"s{number}._domainkey.hop{number}.example."


def zones(*keys: Any) -> ZoneResolver:
    return ZoneResolver(
        {name(number): {"TXT": [RECORDS[key]]} for number, key in enumerate(keys, 1)},
        authentic=True,
    )


def check(message: bytes, resolver: Any, **more: Any) -> ARCResult:
    found: ARCResult = value(
        Deferred.fromCoroutine(validate(resolver, BytesSource(message), NOW, **more))
    )
    return found


def hop(message: bytes, number: int, resolver: Any, key: Any = RSA, before: bytes = b"") -> bytes:
    """What the hop of this number passes on; `before` is what it got, if it changes it."""
    chain = check(before or message, resolver)
    sealer = Sealer(key, f"hop{number}.example", f"s{number}", f"mx.hop{number}.example")
    fields: bytes = value(
        Deferred.fromCoroutine(seal(BytesSource(message), chain, sealer, METHODS, NOW))
    )
    return fields + message


class ChainTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.resolver = zones(RSA, ED25519, RSA)
        self.first = hop(MESSAGE, 1, self.resolver)
        self.second = hop(self.first, 2, self.resolver, ED25519)
        changed = self.second.replace(b"Subject: hi", b"Subject: [list] hi") + b"-- \r\nfooter\r\n"
        self.third = hop(changed, 3, self.resolver, before=self.second)

    def test_none(self) -> None:
        self.assertEqual(check(MESSAGE, self.resolver).status, "none")

    def test_chain(self) -> None:
        result = check(self.third, self.resolver)
        self.assertEqual((result.status, result.instances), ("pass", 3), result)
        self.assertEqual(result.oldest_pass, 3)
        self.assertTrue(result.authentic)
        self.assertEqual([s.cv for s in result.sets], ["none", "pass", "pass"])
        self.assertEqual([s.message_valid for s in result.sets], [False, False, True])
        self.assertEqual([s.bits for s in result.sets], [2048, 256, 2048])
        self.assertIn("mx.hop1.example", result.sets[0].results)
        result = check(self.second, self.resolver)
        self.assertEqual((result.status, result.oldest_pass), ("pass", 0))

    def test_another_implementation(self) -> None:
        resolver = zones(RSA, RSA)
        message = hop(hop(MESSAGE, 1, resolver), 2, resolver)

        def txt(wanted: bytes, timeout: int = 0) -> bytes:
            return RECORDS[RSA].encode()

        cv, _, reason = dkim.arc_verify(message, dnsfunc=txt)
        self.assertEqual(cv, b"pass", reason)
        cv, _, _ = dkim.arc_verify(message.replace(b"more", b"less"), dnsfunc=txt)
        self.assertEqual(cv, b"fail")

    def test_broken(self) -> None:
        for old, new, word in (
            (b"footer", b"", "message signature 3: body"),
            (b"[list] hi", b"", "message signature 3: signature"),
            (b"spf=pass", b"spf=fail", "seal 1 does not match"),
            (b"cv=none", b"cv=pass", "cv=pass"),
            (b"ARC-Seal: i=2", b"ARC-Seal: i=4", "complete"),
            (b"ARC-Seal: i=2", b"ARC-Seal: i=3", "two fields"),
            (b"ARC-Seal: i=2", b"ARC-Seal: j=2", "instance number"),
            (b"ARC-Seal: i=2", b"X-Seal: i=2", "complete"),
            (b"ARC-Authentication-Results: i=1", b"X: i=1", "complete"),
            (b"ARC-Message-Signature: i=1", b"ARC-Message-Signature: i=51", "complete"),
            (b"ARC-Message-Signature: i=1; a=", b"ARC-Message-Signature: i=1; a=x", "algorithm"),
            (b"ARC-Seal: i=1;", b"ARC-Seal: i=1; h=from;", "list of fields"),
            (b"cv=none", b"cv=maybe", "state"),
            (b"cv=none; ", b"", "cv is missing"),
            (b"ARC-Authentication-Results: i=1;", b"ARC-Authentication-Results:", "number"),
        ):
            changed = self.third.replace(old, new)
            self.assertNotEqual(changed, self.third, old)
            result = check(changed, self.resolver)
            self.assertEqual(result.status, "fail")
            self.assertIn(word, result.reason, old)

    def test_broken_chain_is_sealed_once_more(self) -> None:
        broken = self.second.replace(b"more", b"less")
        message = hop(broken, 3, self.resolver)
        self.assertIn(b"cv=fail", message)
        result = check(message, self.resolver)
        self.assertEqual((result.status, result.sealed_fail), ("fail", True))
        with self.assertRaises(SignError):
            hop(message, 4, self.resolver)

    def test_keys(self) -> None:
        resolver = zones(RSA, ED25519)
        resolver.fail[(name(1), "TXT")] = "servfail"
        result = check(self.second, resolver)
        self.assertEqual((result.status, result.temporary), ("fail", True))
        with self.assertRaises(SignError):
            hop(self.second, 3, resolver)
        result = check(self.second, ZoneResolver({}))
        self.assertEqual((result.status, result.temporary), ("fail", False))
        self.assertIn("no key record", result.reason)

    def test_timeout(self) -> None:
        class Silent:
            async def lookup(self, name: str, rtype: str) -> Any:
                await Deferred()

        clock = Clock()
        work = Deferred.fromCoroutine(
            validate(Silent(), BytesSource(self.second), NOW, clock=clock, timeout=5)
        )
        self.assertNoResult(work)
        clock.advance(6)
        self.assertTrue(self.successResultOf(work).temporary)

    def test_instances(self) -> None:
        resolver = zones(ED25519)
        resolver.zones = {
            f"s{n}._domainkey.hop{n}.example.": {"TXT": [RECORDS[ED25519]]} for n in range(1, 60)
        }
        message = MESSAGE
        for number in range(1, 51):
            message = hop(message, number, resolver, ED25519)
        spent = time.process_time()
        result = check(message, resolver)
        self.assertLess(time.process_time() - spent, 1)
        self.assertEqual((result.status, result.instances, result.oldest_pass), ("pass", 50, 0))
        with self.assertRaises(SignError):
            hop(message, 51, resolver, ED25519)
        more = message[: message.index(b"ARC-Seal: i=49")].replace(b"i=50;", b"i=51;") + message
        self.assertIn("more than 50", check(more, resolver).reason)

    def test_two_authors(self) -> None:
        with self.assertRaises(SignError):
            hop(b"From: b@example.org\r\n" + MESSAGE, 1, self.resolver)


class VectorTests(SynchronousTestCase):
    def test_rfc8617(self) -> None:
        result = check(vectors.RFC8617, ZoneResolver({}))
        self.assertEqual((result.status, result.instances), ("fail", 3))
        self.assertEqual(result.reason, "message signature 3: no key record")
        self.assertEqual(
            [(s.instance, s.cv, s.domain.name, s.selector.name) for s in result.sets],
            [
                (1, "none", "lists.example.org", "dk-lists"),
                (2, "pass", "gmail.example", "20120806"),
                (3, "pass", "clochette.example.org", "clochette"),
            ],
        )
        # The body is what was signed.
        key = {"TXT": [RECORDS[RSA]]}
        resolver = ZoneResolver(
            {
                "dk-lists._domainkey.lists.example.org.": key,
                "20120806._domainkey.gmail.example.": key,
                "clochette._domainkey.clochette.example.org.": key,
            }
        )
        self.assertIn("does not match the header", check(vectors.RFC8617, resolver).reason)


class HostileTests(SynchronousTestCase):
    @settings(max_examples=100, deadline=None)
    @given(st.lists(st.tuples(
        st.sampled_from(
            [b"ARC-Seal", b"ARC-Message-Signature", b"ARC-Authentication-Results"]
        ),
        st.binary(max_size=60),
    ), max_size=8))
    def test_any_fields(self, pairs: list[tuple[bytes, bytes]]) -> None:
        message = b"".join(field + b": i=1; " + text + b"\r\n" for field, text in pairs)
        self.assertIn(check(message + MESSAGE, ZoneResolver({})).status, ("none", "fail"))

    def test_many_and_large(self) -> None:
        resolver = zones(RSA)
        message = hop(MESSAGE, 1, resolver)
        fields = message[: -len(MESSAGE)]
        for data in (
            fields * 300 + MESSAGE,
            b"ARC-Seal: " + b"i=1;" * 200_000 + b"\r\n" + MESSAGE,
            b"ARC-Seal: i=1" + b" \t" * 400_000 + b"\r\n" + MESSAGE,
            b"ARC-Seal: " + b"; \r\n i" * 100_000 + b"\r\n" + MESSAGE,
            b"ARC-Authentication-Results: " + b" " * 900_000 + b"i\r\n" + MESSAGE,
        ):
            spent = time.process_time()
            self.assertEqual(check(data, resolver).status, "fail")
            self.assertLess(time.process_time() - spent, 1)
