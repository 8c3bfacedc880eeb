"""Records and fields by which senders say who they are."""

from __future__ import annotations

import contextlib

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from moxtw.authn import arc, dkim, spf
from moxtw.authn.dkimkey import KeyFormatError, parse_key_record
from moxtw.authn.dmarcrecord import DMARCFormatError, parse_dmarc_record
from moxtw.authn.foreign import forged
from moxtw.authn.signedmessage import BytesSource, SignedMessage
from moxtw.authn.spfrecord import RecordError, parse_record
from moxtw.dns.fake import ZoneResolver
from moxtw.mail.address import IPDomain, Path
from moxtw.mail.domain import parse_domain
from moxtw.mail.header import iter_fields
from tests.fuzz.engine import FuzzCase
from tests.support.store import now

SPF = [
    b"v=spf1 +mx a:colo.example.com/28//64 -all exp=explain._spf.%{d}",
    b"v=spf1 exists:%{ir}.%{l1r+-}._spf.%{d} redirect=_spf.example.com",
    b"v=spf1 ip4:192.0.2.0/24 ip6:2001:db8::/32 include:example.org ptr:example.net ?all",
]
SPF_TOKENS = [b"include:", b"%{", b"}", b"%%", b"%_", b"%-", b"/", b"//", b"all", b"redirect=",
              b"exp=", b"%{p}", b"%{d99r}", b"mx", b"ptr", b"exists:a", b"a.example"]  # fmt: skip
DMARC = [
    b"v=DMARC1; p=none; rua=mailto:a@example.com!10m,mailto:b@example.org; pct=50; fo=1:d:s",
    b"v=DMARC1;p=reject;sp=quarantine;adkim=s;aspf=r;ri=3600;np=none;psd=u;t=y",
]
KEY = [b"v=DKIM1; k=rsa; h=sha256; s=email:*; t=y:s; n=x; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQ=="]
SIGNED = [
    b"DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/simple; d=example.com; s=s; t=1; x=9999999999;"
    b"\r\n\ti=@example.com; q=dns/txt; h=from:to:subject; l=3;\r\n\tbh=47DEQpj8HBSa+/TImW+5JCeuQ"
    b"eRkm5NMpJWZG3hSuFU=;\r\n\tb=AAAA\r\nFrom: <a@example.com>\r\nSubject: x\r\n\r\nbody\r\n",
    b"ARC-Seal: i=1; a=rsa-sha256; cv=none; d=example.com; s=s; t=1; b=AAAA\r\n"
    b"ARC-Message-Signature: i=1; a=rsa-sha256; c=relaxed/relaxed; d=example.com; s=s;\r\n"
    b"\th=from:subject; bh=AAAA; b=AAAA\r\n"
    b"ARC-Authentication-Results: i=1; mx.example.com; spf=pass smtp.mailfrom=a@b\r\n"
    b"From: <a@example.com>\r\n\r\nx\r\n",
]
SIGNED_TOKENS = [b"; ", b"=", b"h=", b"bh=", b"b=", b"i=2", b"cv=pass", b"l=", b"c=", b"\r\n ",
                 b"\r\n\r\n", b"ed25519-sha256", b"rsa-sha1", b"From: ", b":"]  # fmt: skip
RESULTS = [
    b"Authentication-Results: (c \\) ()) \"mx.example\\.com\" 1;\r\n\tspf=pass smtp.mailfrom=a\r\n"
]


class RecordTests(FuzzCase):
    def test_spf(self) -> None:
        domain = parse_domain("example.com")

        def check(data: bytes) -> None:
            text = data.decode("latin-1")
            with contextlib.suppress(RecordError):
                parse_record(text)
            resolver = ZoneResolver({"example.com.": {"TXT": [text[:5000]], "A": ["192.0.2.1"]}})
            clock = Clock()
            checking = Deferred.fromCoroutine(
                spf.check(
                    resolver,
                    clock=clock,
                    remote_ip="192.0.2.9",
                    mail_from=Path("a", IPDomain(domain=domain)),
                    hello=IPDomain(domain=domain),
                )
            )
            for _ in range(1000):
                # It makes pauses in long records.
                clock.advance(0)
            self.assertNotEqual(now(checking).problem, "internal error")

        self.fuzz(check, SPF, SPF_TOKENS)

    def test_dmarc(self) -> None:
        def check(data: bytes) -> None:
            with contextlib.suppress(DMARCFormatError):
                parse_dmarc_record(data.decode("latin-1"))

        self.fuzz(check, DMARC, [b"; ", b"=", b"mailto:", b"!10g", b",", b"p=", b"pct=-1"])

    def test_keys(self) -> None:
        def check(data: bytes) -> None:
            with contextlib.suppress(KeyFormatError):
                parse_key_record(data.decode("latin-1"))

        self.fuzz(check, KEY, [b"; ", b"p=", b"k=ed25519", b"h=", b"t=", b":"])


class FieldTests(FuzzCase):
    def test_signatures_and_seals(self) -> None:
        resolver = ZoneResolver({"s._domainkey.example.com.": {"TXT": ["v=DKIM1; p="]}})

        def check(data: bytes) -> None:
            async def verify() -> None:
                message = await SignedMessage.open(BytesSource(data))
                await dkim.verify(resolver, message, 1000)
                await arc.validate(resolver, message, 1000)

            now(Deferred.fromCoroutine(verify()))

        self.fuzz(check, SIGNED, SIGNED_TOKENS)

    def test_results_of_others(self) -> None:
        host = parse_domain("mx.example.com")

        def check(data: bytes) -> None:
            starts = {field.start for field in iter_fields(data, 0, len(data))}
            for start, end in forged(data, host):
                self.assertIn(start, starts)
                self.assertLessEqual(end, len(data))

        self.fuzz(check, RESULTS, [b"(", b")", b"mx.example.com", b"authentication-results:", b";"])
