"""DKIM signatures are verified, and those that are not good are told apart."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import re
import time
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from moxtw.authn.dkim import DKIMPolicy, DKIMResult, verify
from moxtw.authn.dkimcanon import BodyHash
from moxtw.authn.dkimkey import (
    KeyFormatError,
    KeyLookupError,
    choose_record,
    parse_key_record,
    public_record,
)
from moxtw.authn.dkimsign import sign
from moxtw.authn.signature import parse_signature
from moxtw.authn.signedmessage import BytesSource, SignedMessage
from moxtw.authn.tags import TagError, parse_tags
from moxtw.dns.fake import ZoneResolver
from tests.support.store import now as value
from tests.unit.authn import vectors
from tests.unit.authn.test_dkimsign import ED25519, RSA, selector

NOW = 1_700_000_000
KEY_NAME = "2026a._domainkey.example.org."
HEADER = (
    b"From: A  <a@example.org>\r\nTo: b@example.net\r\nSubject: hi  there\r\n"
    b"Date: Tue, 14 Nov 2023 22:13:20 +0000\r\nMessage-Id: <1@example.org>\r\n\r\n"
)
BODY = b"Some  text \r\n\r\nmore\r\n\r\n"


def signed(key: Any = ED25519, *, header: bytes = HEADER, body: bytes = BODY, **more: Any) -> bytes:
    fields = sign(
        [selector(key, **more)],
        localpart="a",
        domain="example.org",
        header=header,
        body=[body],
        now=NOW,
    )
    return fields + header + body


def check(
    message: bytes, zones: Any = None, *, now: int = NOW, **more: Any
) -> list[DKIMResult]:
    if zones is None:
        zones = {KEY_NAME: {"TXT": [public_record(ED25519)]}}
    resolver = zones if isinstance(zones, ZoneResolver) else ZoneResolver(zones)
    return value(
        Deferred.fromCoroutine(verify(resolver, BytesSource(message), now, **more))
    )


def one(message: bytes, zones: Any = None, **more: Any) -> tuple[str, str]:
    [result] = check(message, zones, **more)
    return result.status, result.reason


class VectorTests(SynchronousTestCase):
    def test_rfc6376(self) -> None:
        zones = {"brisbane._domainkey.example.com.": {"TXT": [vectors.RFC6376_KEY]}}
        [result] = check(vectors.RFC6376, zones)
        self.assertEqual(result.status, "pass", result)
        self.assertEqual(result.domain and result.domain.name, "example.com")
        self.assertEqual(result.identity, "joe@football.example.com")
        self.assertEqual((result.algorithm, result.bits), ("rsa-sha256", 1024))
        for changed, status in (
            (vectors.RFC6376 + b"More.\r\n", "fail"),
            (vectors.RFC6376.replace(b"dinner", b"supper"), "fail"),
            (vectors.RFC6376 + b"\r\n\r\n", "pass"),
            (b"X-New: yes\r\n" + vectors.RFC6376, "pass"),
        ):
            self.assertEqual(one(changed, zones)[0], status)

    def test_rfc8463(self) -> None:
        zones = {
            "brisbane._domainkey.football.example.com.": {"TXT": [vectors.RFC8463_ED25519]},
            "test._domainkey.football.example.com.": {"TXT": [vectors.RFC8463_RSA]},
        }
        results = check(vectors.RFC8463, zones)
        self.assertEqual([result.status for result in results], ["pass", "pass"], results)
        self.assertEqual(
            [result.algorithm for result in results], ["ed25519-sha256", "rsa-sha256"]
        )
        self.assertEqual([result.bits for result in results], [256, 1024])

    def test_rfc8463_key(self) -> None:
        seed = base64.b64decode(vectors.RFC8463_PRIVATE)
        key = ed25519.Ed25519PrivateKey.from_private_bytes(seed)
        self.assertEqual(
            public_record(key).rpartition("p=")[2], vectors.RFC8463_ED25519.rpartition("p=")[2]
        )


class VerifyTests(SynchronousTestCase):
    def test_own_signatures(self) -> None:
        for header in (False, True):
            for body in (False, True):
                for key in (RSA, ED25519):
                    message = sign(
                        [selector(key, header=header, body=body)],
                        localpart="a",
                        domain="example.org",
                        header=HEADER,
                        body=[BODY],
                        now=NOW,
                    ) + HEADER + BODY
                    zones = {KEY_NAME: {"TXT": [public_record(key)]}}
                    [result] = check(message, zones)
                    self.assertEqual(result.status, "pass", result)
                    self.assertEqual(result.signed_at, NOW)

    def test_nothing_signed(self) -> None:
        self.assertEqual(check(HEADER + BODY), [])
        self.assertEqual(check(b""), [])

    def test_changes(self) -> None:
        message = signed()
        self.assertEqual(one(message), ("pass", ""))
        self.assertEqual(
            one(message.replace(b"more", b"less")),
            ("fail", "body was changed: its hash does not match"),
        )
        header = "signature does not match the header fields"
        self.assertEqual(one(message.replace(b"Subject: hi", b"Subject: ho")), ("fail", header))
        # Oversigned fields cannot be added.
        self.assertEqual(one(b"From: x@example.org\r\n" + message), ("fail", header))
        self.assertEqual(one(b"Cc: x@example.org\r\n" + message), ("fail", header))
        # Relaxed form.
        self.assertEqual(one(message.replace(b"hi  there", b"hi there")), ("pass", ""))

    def test_expired(self) -> None:
        message = signed(expiration_seconds=100)
        self.assertEqual(one(message, now=NOW + 100)[0], "pass")
        self.assertEqual(one(message, now=NOW + 101), ("permerror", "signature has expired"))

    def test_keys(self) -> None:
        good = public_record(ED25519)
        small = rsa.generate_private_key(65537, 1024)
        for texts, status, word in (
            ([good], "pass", ""),
            (["some other text", good], "pass", ""),
            ([good, good + ";n=2"], "temperror", "several"),
            (["some other text"], "temperror", "not a key record"),
            (["v=DKIM1;k=ed25519"], "permerror", "tag p is missing"),
            (["v=DKIM1;k=ed25519;p="], "permerror", "revoked"),
            (["v=DKIM1;k=dsa;p=AAAA"], "permerror", "bad key record"),
            ([good + ";s=tlsrpt"], "permerror", "service"),
            ([good + ";s=tlsrpt:email"], "pass", ""),
            ([good + ";s=*"], "pass", ""),
            ([good.replace("h=sha256", "h=sha1")], "permerror", "hash"),
            ([good.replace("h=sha256", "h=sha1:sha256:x-y")], "pass", ""),
            ([public_record(small)], "permerror", "kind"),
            ([good + ";t=s"], "pass", ""),
            ([good + ";t=y"], "pass", ""),
        ):
            got = one(signed(), {KEY_NAME: {"TXT": texts}})
            self.assertEqual(got[0], status, (texts, got))
            self.assertIn(word, got[1])

    def test_testing(self) -> None:
        zones = {KEY_NAME: {"TXT": [public_record(ED25519) + ";t=y"]}}
        [result] = check(signed().replace(b"more", b"less"), zones)
        self.assertEqual((result.status, result.testing), ("none", True))
        [result] = check(signed(), zones)
        self.assertEqual((result.status, result.testing), ("pass", True))

    def test_strict(self) -> None:
        fields = sign(
            [selector(ED25519)],
            localpart="a",
            domain="example.org",
            header=HEADER,
            body=[BODY],
            now=NOW,
        )
        message = fields.replace(b"i=a@example.org", b"i=a@x.example.org") + HEADER + BODY
        zones = {KEY_NAME: {"TXT": [public_record(ED25519) + ";t=s"]}}
        self.assertIn("identity", one(message, zones)[1])
        # Without the flag it comes to the signature, which is of something else.
        self.assertEqual(one(message)[0], "fail")

    def test_small_rsa_key(self) -> None:
        small = rsa.generate_private_key(65537, 1024)
        message = signed(small)
        zones = {KEY_NAME: {"TXT": [public_record(small)]}}
        self.assertEqual(one(message, zones)[0], "pass")
        status, reason = one(message, zones, policy=DKIMPolicy(min_rsa_bits=2048))
        self.assertEqual(status, "permerror")
        self.assertIn("1024 bits", reason)

    def test_sha1(self) -> None:
        message = signed(RSA, effective_hash="sha1")
        status, reason = one(message, {KEY_NAME: {"TXT": [public_record(RSA)]}})
        self.assertEqual(status, "permerror")
        self.assertIn("rsa-sha1", reason)

    def test_lookup(self) -> None:
        self.assertEqual(one(signed(), {}), ("permerror", "no key record"))
        for failure in ("servfail", "timeout", "badanswer"):
            resolver = ZoneResolver({}, fail={KEY_NAME: failure})
            self.assertEqual(one(signed(), resolver)[0], "temperror")
        resolver = ZoneResolver({KEY_NAME: {"TXT": [public_record(ED25519)]}}, authentic=True)
        self.assertTrue(check(signed(), resolver)[0].authentic)
        self.assertFalse(check(signed())[0].authentic)

    def test_syntax(self) -> None:
        message = signed()
        end = message.index(b"From: A")
        field, rest = message[:end], message[end:]
        for old, new, word in (
            (rb"v=1", b"v=2", "version"),
            (rb"v=1;", b"", "v is missing"),
            (rb"d=example.org", b"d=org", "public suffix"),
            (rb"d=example.org", b"d=exa mple.org", "tag d"),
            (rb"d=example.org", b"d=example.net", "identity"),
            (rb"a=ed25519-sha256", b"a=ed448-sha256", "algorithm"),
            (rb"a=ed25519-sha256", b"a=ed25519-sha256; a=ed25519-sha256", "duplicate"),
            (rb"c=relaxed/relaxed", b"c=relaxed/loose", "canonicalization"),
            (rb"\tbh=[^;]*", b"\tbh=AAAA", "size"),
            (rb"\tbh=[^;]*", b"\tbh=A*AA", "base64"),
            (rb"\tb=", b"\tb=A", "base64"),
            (rb"t=1700000000", b"t=1700000000; x=1700000000", "expires"),
            (rb"t=1700000000", b"t=1700000000; q=http", "get the key"),
            (rb"t=1700000000", b"t=-1", "number"),
            (rb"t=1700000000", b"t", "name=value"),
            (rb"From:From:", b"", "From field"),
            (rb"h=From", b"h=:From", "empty name"),
        ):
            changed = re.sub(old, new, field)
            self.assertNotEqual(changed, field, old)
            status, reason = one(changed + rest)
            self.assertEqual(status, "permerror", (old, reason))
            self.assertIn(word, reason)

    def test_policy(self) -> None:
        length = len(BODY)
        field = signed()[: -len(HEADER + BODY)]
        status, reason = one(
            field.replace(b"t=17", b"l=%d; t=17" % length) + HEADER + BODY
        )
        self.assertEqual(status, "policy")
        self.assertIn("part of the body", reason)
        message = signed(effective_headers=("From", "To"))
        self.assertEqual(one(message), ("policy", "Subject field is not signed"))
        self.assertEqual(one(message, policy=DKIMPolicy(subject=False))[0], "pass")

    def test_localhost(self) -> None:
        fields = sign(
            [selector(ED25519)],
            localpart="a",
            domain="localhost",
            header=HEADER,
            body=[BODY],
            now=NOW,
        )
        zones = {"2026a._domainkey.localhost.": {"TXT": [public_record(ED25519)]}}
        message = fields + HEADER + BODY
        self.assertEqual(one(message, zones)[0], "permerror")
        self.assertEqual(one(message, zones, policy=DKIMPolicy(localhost=True))[0], "pass")

    def test_length(self) -> None:
        for relaxed in (False, True):
            for length in (0, 3, 16, 100):
                hasher = BodyHash("sha256", relaxed=relaxed, length=length)
                for at in range(0, len(BODY), 3):
                    hasher.update(BODY[at : at + 3])
                canonical = b"Some text\r\n\r\nmore\r\n" if relaxed else BODY[:-2]
                self.assertEqual(
                    hasher.digest(), hashlib.sha256(canonical[:length]).digest()
                )
                self.assertEqual(hasher.missing, max(length - len(canonical), 0))

    def test_utf8(self) -> None:
        """RFC 8616: names in UTF-8, looked up in ASCII."""
        field = signed()[: -len(HEADER + BODY)]
        field = field.replace(b"d=example.org", "d=bücher.example".encode())
        field = field.replace(b"i=a@example.org", "i=jörg@bücher.example".encode())
        resolver = ZoneResolver({})
        [result] = check(field + HEADER + BODY, resolver)
        self.assertEqual(result.reason, "no key record")
        self.assertEqual(resolver.asked[0][0], "2026a._domainkey.xn--bcher-kva.example.")
        self.assertEqual(result.identity, "jörg@bücher.example")


class BoundTests(SynchronousTestCase):
    def test_many_signatures(self) -> None:
        message = signed()
        field = message[: -len(HEADER + BODY)]
        resolver = ZoneResolver({KEY_NAME: {"TXT": [public_record(ED25519)]}})
        results = check(field * 60 + HEADER + BODY, resolver)
        self.assertEqual([r.status for r in results], ["pass"] * 50 + ["neutral"])
        self.assertIn("10 more", results[-1].reason)
        self.assertEqual(len(resolver.asked), 1)

    def test_header_too_large(self) -> None:
        message = b"".join(b"X-%d: %s\r\n" % (i, b"x" * 900) for i in range(2000)) + signed()
        self.assertEqual(one(message), ("permerror", "header section is too large"))

    def test_hostile(self) -> None:
        """10,000 fields and 1,000 signatures that all want all of them: 2 s of CPU at most."""
        junk = b"".join(b"X-F%d:  a \t b\r\n" % (i % 50) for i in range(10_000))
        names = b":".join(b"x-f%d" % (i % 50) for i in range(1_000))
        good = signed(body=BODY * 1000)
        field = good[: -len(HEADER + BODY * 1000)]
        own = field.replace(b"h=From", b"h=" + names[:400] + b":From")
        message = junk + own * 1000 + HEADER + BODY * 1000
        spent = time.process_time()
        results = check(message)
        spent = time.process_time() - spent
        self.assertEqual(len(results), 51)
        self.assertLess(spent, 2)
        for data in (
            b"DKIM-Signature:" + b" ;" * 300_000 + b"\r\nFrom: a@b\r\n\r\n",
            b"DKIM-Signature: h=" + b"a:" * 300_000 + b"\r\nFrom: a@b\r\n\r\n",
            b"DKIM-Signature: v=1; b=" + b"A \t" * 200_000 + b"\r\nFrom: a@b\r\n\r\n",
            b"DKIM-Signature:" + b" \r\n\t" * 100_000 + b"\r\nFrom: a@b\r\n\r\n",
            signed(body=b" \t" * 500_000 + b"\r\n"),
            signed(body=b"\r\n" * 500_000),
            signed(body=b"\r" * 500_000),
        ):
            spent = time.process_time()
            check(data)
            self.assertLess(time.process_time() - spent, 2)

    def test_key_bombs(self) -> None:
        # An RSA key of 16384 bits: the DER of its numbers alone, no such key is made here.
        def record(e: int, n: int) -> str:
            key = RSAPublicNumbers(e, n).public_key().public_bytes(
                serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
            )
            return "v=DKIM1;p=" + base64.b64encode(key).decode()

        for text in (
            record(65537, (1 << 16384) - 1),
            record((1 << 2000) + 1, (1 << 2048) - 1),
            "v=DKIM1;p=" + "A" * 100_000,
            "v=DKIM1;" + ";".join(f"a{i}=" for i in range(500)) + ";p=AAAA",
        ):
            self.assertRaises(KeyFormatError, parse_key_record, text)
            status, _ = one(signed(RSA), {KEY_NAME: {"TXT": [text]}})
            self.assertEqual(status, "permerror")

    def test_slow_lookups(self) -> None:
        clock = Clock()

        class Silent:
            asked = 0

            async def lookup(self, name: str, rtype: str) -> Any:
                Silent.asked += 1
                await Deferred()

        field = signed()[: -len(HEADER + BODY)]
        message = b"".join(
            field.replace(b"s=2026a", b"s=k%d" % i) for i in range(50)
        ) + HEADER + BODY
        results: list[Any] = []
        work = Deferred.fromCoroutine(
            verify(Silent(), BytesSource(message), NOW, clock=clock, timeout=30)
        )
        work.addCallback(results.extend)
        self.assertEqual(Silent.asked, 8)
        clock.advance(31)
        self.assertEqual([r.status for r in results], ["temperror"] * 50)
        self.assertEqual(clock.getDelayedCalls(), [])

    def test_body_is_read_once_in_pieces(self) -> None:
        body = b"x" * 78 + b"\r\n"
        message = signed(body=body * 10_000)
        field = message[: -len(HEADER + body * 10_000)]
        data = field * 3 + HEADER + body * 10_000
        reads: list[tuple[int, int]] = []

        class Source(BytesSource):
            def read(self, start: int, length: int) -> bytes:
                reads.append((start, length))
                return super().read(start, length)

        threads: list[Any] = []

        async def run(fn: Any) -> Any:
            threads.append(fn)
            return fn()

        resolver = ZoneResolver({KEY_NAME: {"TXT": [public_record(ED25519)]}})
        results = value(
            Deferred.fromCoroutine(verify(resolver, Source(data), NOW, run=run))
        )
        self.assertEqual([r.status for r in results], ["pass"] * 3)
        self.assertEqual(len(threads), 4)  # Header, signatures, keys, body.
        pieces = [length for _, length in reads[1:]]
        self.assertEqual(set(pieces), {65536})
        self.assertEqual(len(pieces), -(-len(body) * 10_000 // 65536))


class RecordTests(SynchronousTestCase):
    def test_records(self) -> None:
        record = parse_key_record(
            "v=DKIM1; h=sha256 : sha1; k=rsa; n=note=20one; s=email; t=y:s; x=1; "
            + vectors.RFC8463_RSA.split("; ")[-1]
        )
        self.assertEqual(record.hashes, ("sha256", "sha1"))
        self.assertEqual(record.notes, "note one")
        self.assertTrue(record.testing and record.strict and record.serves("email"))
        self.assertFalse(record.serves("tlsrpt"))
        self.assertEqual(parse_key_record("p=").kind, "rsa")
        self.assertTrue(parse_key_record("p=").revoked)

    def test_bad(self) -> None:
        for text, claimed in (
            ("", False),
            ("v=spf1 -all", False),
            ("k=rsa; v=DKIM1; p=", False),
            ("v=DKIM1", True),
            ("v=DKIM1.1; p=", False),
            ("v=DKIM1; p=; p=", True),
            ("v=DKIM1; p=AAAA", True),
            ("v=DKIM1; k=ed25519; p=AAAA", True),
            ("v=DKIM1; h=; p=", True),
            ("v=DKIM1; t=y,s; p=", True),
            ("v=DKIM1; n=a=ZZ; p=", True),
        ):
            with self.assertRaises(KeyFormatError) as caught:
                parse_key_record(text)
            self.assertEqual(caught.exception.claimed, claimed, text)

    @settings(max_examples=200, deadline=None)
    @given(st.one_of(
        st.text(max_size=200),
        st.lists(
            st.tuples(st.sampled_from("vhknpstabdic"), st.text("AZaz09=;:@/* \t\r\n", max_size=20)),
            max_size=8,
        ).map(lambda pairs: ";".join(f"{name}={text}" for name, text in pairs)),
    ))
    def test_any_text(self, text: str) -> None:
        try:
            tags = parse_tags(text)
        except TagError:
            tags = {}
        else:
            again = ";".join(f"{name}={each}" for name, each in tags.items())
            self.assertEqual(parse_tags(again), tags)
        for parse in (parse_key_record, lambda _: parse_signature(tags)):
            with contextlib.suppress(TagError, KeyFormatError):
                parse(text)
        with contextlib.suppress(KeyLookupError):
            choose_record([text, text], True)

    @settings(max_examples=100, deadline=None)
    @given(st.binary(max_size=300))
    def test_any_field(self, data: bytes) -> None:
        for result in check(b"DKIM-Signature: v=1;" + data + b"\r\nFrom: x\r\n\r\n"):
            self.assertNotEqual(result.status, "pass")

    def test_open(self) -> None:
        message = value(
            Deferred.fromCoroutine(SignedMessage.open(BytesSource(HEADER + BODY)))
        )
        self.assertEqual(message.header, HEADER)
        self.assertTrue(message.quick)
