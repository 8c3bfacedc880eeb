"""DKIM signatures, verified by another implementation."""

from __future__ import annotations

import base64
import dataclasses
from types import SimpleNamespace
from typing import Any

import dkim
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from dkim.canonicalization import Relaxed, Simple
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from moxtw.authn.dkimcanon import BodyHash, relaxed_field
from moxtw.authn.dkimsign import SignError, selectors_for, sign
from moxtw.config.dynamic import DEFAULT_DKIM_HEADERS, Canonicalization, ConfigDomain, Selector
from moxtw.mail.domain import parse_domain

RSA = rsa.generate_private_key(65537, 2048)
ED25519 = ed25519.Ed25519PrivateKey.generate()
HEADER = (
    b"From: A  <a@example.org>\r\nTo: b@example.net,\r\n\tc@example.net\r\n"
    b"Received: x\r\nSubject: =?utf-8?q?h=C3=A9?=  there \r\nSubject: again\r\n"
    b"Message-Id: <1@example.org>\r\n\r\n"
)


def make(cls: Any, **fields: Any) -> Any:
    """A configuration section with these fields, the others empty."""
    section = cls.__new__(cls)
    for field in dataclasses.fields(cls):
        default = fields.pop(field.name, None)
        object.__setattr__(section, field.name, default)
    assert not fields, fields
    return section


def selector(key: Any = RSA, *, header: bool = True, body: bool = True, **more: Any) -> Selector:
    fields: dict[str, Any] = {
        "canonicalization": make(Canonicalization, header_relaxed=header, body_relaxed=body),
        "effective_hash": "sha256",
        "effective_headers": tuple(DEFAULT_DKIM_HEADERS),
        "private_key": key,
        "dns_name": parse_domain("2026a"),
        "expiration_seconds": 0,
        **more,
    }
    return make(Selector, **fields)


def record(name: bytes, timeout: int = 0) -> bytes:
    assert name == b"2026a._domainkey.example.org.", name
    return TXT[0]


TXT = [b""]


def use(key: Any) -> None:
    if isinstance(key, rsa.RSAPrivateKey):
        der = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        TXT[0] = b"v=DKIM1; p=" + base64.b64encode(der)
    else:
        raw = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        TXT[0] = b"v=DKIM1; k=ed25519; p=" + base64.b64encode(raw)


class VerifyKey:
    """What dkimpy asks of PyNaCl, which need not be there."""

    def __init__(self, text: bytes, encoder: Any) -> None:
        self.key = ed25519.Ed25519PublicKey.from_public_bytes(base64.b64decode(text))

    def verify(self, message: bytes, signature: bytes) -> bytes:
        try:
            self.key.verify(signature, message)
        except InvalidSignature as exc:
            raise ValueError from exc
        return message


NACL = SimpleNamespace(
    signing=SimpleNamespace(VerifyKey=VerifyKey),
    encoding=SimpleNamespace(Base64Encoder=None),
    exceptions=SimpleNamespace(ValueError=ValueError, BadSignatureError=ValueError),
)


class Signing(SynchronousTestCase):
    def setUp(self) -> None:
        self.patch(dkim, "nacl", NACL) if hasattr(dkim, "nacl") else setattr(dkim, "nacl", NACL)

    def signed(
        self, *selectors: Selector, header: bytes = HEADER, body: bytes = b"hi\r\n"
    ) -> bytes:
        signature = sign(
            selectors,
            localpart="a",
            domain="example.org",
            header=header,
            body=[body],
            now=1_750_000_000,
        )
        return signature + header + body

    def verify(self, message: bytes) -> bool:
        return bool(dkim.verify(message, dnsfunc=record))

    def test_all_kinds_are_verified(self) -> None:
        bodies = (b"", b"\r\n\r\n", b"hi\r\n", b"a  b \t\r\n \r\nc\r\n\r\n\r\n", b" x\r\n" * 50)
        for key in (RSA, ED25519):
            use(key)
            for header in (True, False):
                for relaxed in (True, False):
                    for body in bodies:
                        message = self.signed(
                            selector(key, header=header, body=relaxed), body=body
                        )
                        self.assertTrue(self.verify(message), (key, header, relaxed, body))

    def test_what_was_changed_is_noticed(self) -> None:
        use(RSA)
        message = self.signed(selector())
        self.assertTrue(self.verify(message))
        for old, new in ((b"hi\r\n", b"ho\r\n"), (b"again", b"later"), (b"c@exa", b"d@exa")):
            self.assertFalse(self.verify(message.replace(old, new)))

    def test_sealed_fields_cannot_be_added(self) -> None:
        use(RSA)
        for sealed in (True, False):
            message = self.signed(selector(dont_seal_headers=not sealed))
            for added in (b"Subject: new\r\n", b"Cc: x@y\r\n", b"Reply-To: e@evil\r\n"):
                self.assertEqual(self.verify(added + message), not sealed, added)

    def test_fields_and_tags(self) -> None:
        use(RSA)
        message = self.signed(selector(expiration_seconds=60))
        field = message[: message.index(b"\r\nFrom:")]
        self.assertLess(max(map(len, field.split(b"\r\n"))), 79)
        tags = relaxed_field(field).decode().partition(":")[2].replace(" ", "")
        names = [tag.partition("=")[0] for tag in tags.strip().split(";")]
        self.assertEqual(names, ["v", "d", "s", "i", "a", "c", "t", "x", "h", "bh", "b"])
        self.assertIn("x=1750000060;", tags)
        self.assertIn(":Subject:Subject:Subject:", tags)
        plain = self.signed(selector(header=False, body=False))
        self.assertNotIn(b"c=", plain[: plain.index(b"bh=")])

    def test_several_selectors(self) -> None:
        use(RSA)
        message = self.signed(selector(), selector(ED25519))
        self.assertEqual(message.count(b"DKIM-Signature:"), 2)
        self.assertTrue(self.verify(message))

    def test_identity_is_encoded(self) -> None:
        (field,) = sign(
            [selector()],
            localpart='é;"x',
            domain="example.org",
            header=HEADER,
            body=[],
            now=1,
        ).split(b"DKIM-Signature:")[1:]
        self.assertIn(b"i==C3=A9=3B=22x@example.org;", field)

    def test_what_cannot_be_signed(self) -> None:
        for header in (b"To: x\r\n\r\n", b"From: a@b\r\nFrom: c@d\r\n\r\n"):
            with self.assertRaises(SignError):
                self.signed(selector(), header=header)
        with self.assertRaises(SignError):
            self.signed(selector(None))
        with self.assertRaises(SignError):
            self.signed(selector(), header=b"From: a@b\r\n" + b"X: y\r\n" * 1_000_000 + b"\r\n")

    def test_selectors_of_a_domain(self) -> None:
        one = selector()
        chosen = make(type(ConfigDomain().dkim), sign_selectors=(("a", one),))
        for disabled, expected in ((False, (one,)), (True, ())):
            domain = make(ConfigDomain, dkim=chosen, disabled=disabled)
            self.assertEqual(selectors_for(domain), expected)
        self.assertEqual(selectors_for(None), ())


class Bodies(SynchronousTestCase):
    pieces = st.lists(
        st.sampled_from([b"\r\n", b" ", b"\t", b"a", b" \r\n", b"\r\n\r\n", b"b c"]), max_size=12
    ).map(b"".join)

    def digest(self, body: bytes, cuts: list[int], relaxed: bool) -> bytes:
        hasher = BodyHash("sha256", relaxed=relaxed)
        for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True):
            hasher.update(body[start:end])
        return hasher.digest()

    @settings(max_examples=200)
    @given(pieces, st.data())
    def test_any_cuts_and_another_implementation(self, body: bytes, data: st.DataObject) -> None:
        cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=5)))
        ended = body if body.endswith(b"\r\n") or not body else body + b"\r\n"
        for relaxed, other in ((True, Relaxed), (False, Simple)):
            expected = BodyHash("sha256", relaxed=False)._hash
            canonical = other.canonicalize_body(ended)
            # In relaxed form, a body of blanks and empty lines is empty.
            if relaxed and not canonical.strip(b"\r\n"):
                canonical = b""
            expected.update(canonical)
            self.assertEqual(self.digest(body, cuts, relaxed), expected.digest(), relaxed)

    def test_many_empty_lines_in_linear_time(self) -> None:
        body = b"\r\n" * 500_000
        for tail in (b"", b"\n", b"x"):
            for relaxed in (True, False):
                self.digest(body + tail, [400_001], relaxed)
        self.digest(b" " * 1_000_000 + b"x" + b"\t" * 1_000_000, [], True)
