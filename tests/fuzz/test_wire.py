"""What else comes from the network: DNS answers, PROXY headers, SASL messages, forms."""

from __future__ import annotations

import contextlib
import io
import struct

from moxtw.dns import wire
from moxtw.dns.resolver import Answer, DNSError
from moxtw.net.listen import ProxyError, parse_proxy_header
from moxtw.sasl import cram, scram
from moxtw.sasl.errors import SASLError
from moxtw.web.webapi.formdata import FormError, parse_form
from tests.fuzz.engine import FuzzCase


def _answer(rtype: str, data: bytes) -> bytes:
    query = wire.make_query(1, "example.org.", rtype, edns=False)
    number = wire.rtype_number(rtype)
    record = b"\xc0\x0c" + struct.pack("!HHIH", number, 1, 300, len(data)) + data
    alias = b"\xc0\x0c" + struct.pack("!HHIH", 5, 1, 300, 2) + b"\xc0\x0c"
    return query[:2] + b"\x81\xa0\0\1\0\2\0\0\0\0" + query[12:] + record + alias


class DNSTests(FuzzCase):
    def test_answers_are_read_or_bad(self) -> None:
        def check(data: bytes) -> None:
            data = data.ljust(12, b"\0")
            wire.is_answer(data[:12], data)
            wire.is_truncated(data)
            for rtype in ("A", "MX", "TXT", "TLSA", "SRV", "CNAME", "PTR"):
                with contextlib.suppress(wire.NoEDNS):
                    outcome, _ = wire.read_answer(data, "example.org.", rtype, trusted=True)
                    self.assertIsInstance(outcome, (Answer, DNSError))

        examples = [
            _answer("A", b"\xc0\0\2\1"),
            _answer("MX", b"\0\1\4mail\xc0\x0c"),
            _answer("TXT", b"\3a b\0\2cd"),
            _answer("TLSA", b"\3\1\1" + b"x" * 32),
            _answer("SRV", b"\0\1\0\2\0\x19\xc0\x0c"),
        ]
        self.fuzz(check, examples, [b"\xc0\x0c", b"\xc0\x20", b"\x3f", b"\x40", b"\0\0\x29"])


class ProxyTests(FuzzCase):
    def test_headers_are_read_or_refused(self) -> None:
        def check(data: bytes) -> None:
            with contextlib.suppress(ProxyError):
                found = parse_proxy_header(data)
                if found is None:
                    # More was needed: what is there begins a header.
                    self.assertLess(len(data), 16 * 1024 + 17)
                else:
                    self.assertLessEqual(found[1], len(data))

        examples = [
            b"PROXY TCP4 192.0.2.1 192.0.2.2 1000 25\r\nEHLO x\r\n",
            b"PROXY TCP6 2001:db8::1 ::1 1 65535\r\n",
            b"PROXY UNKNOWN\r\n",
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes(12),
            b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x24" + bytes(36),
            b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
        ]
        self.fuzz(check, examples, [b" ", b"\r\n", b"::ffff:1.2.3.4", b"65536", b"TCP4"])


class SASLTests(FuzzCase):
    def test_messages_are_understood_or_refused(self) -> None:
        def check(data: bytes) -> None:
            for parse in (
                scram.parse_client_first,
                scram.parse_client_final,
                scram.parse_server_first,
                cram.parse_response,
            ):
                with contextlib.suppress(SASLError, scram.SyntaxProblem):
                    parse(data)

        examples = [
            b"n,a=other,n=us=2Cer,r=fyko+d2lbbFgONRv9qkxdawL",
            b"c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
            b"p=tls-exporter,,n=user,r=x",
            b"r=xyz,s=QSXCR+Q6sek8bf92,i=4096",
            b"user " + b"0" * 32,
        ]
        self.fuzz(check, examples, [b"=", b",", b"=2C", b"=3D", b"m=", b"n=", b"c=", b"biws"])


class FormTests(FuzzCase):
    def test_forms_are_read_or_refused(self) -> None:
        def check(data: bytes) -> None:
            for kind in ("application/x-www-form-urlencoded", "multipart/form-data; boundary=b"):
                with contextlib.suppress(FormError):
                    parse_form(kind, io.BytesIO(data))

        examples = [
            b"request=%7b%22a%22%3a1%7d&x=y+z",
            b'--b\r\nContent-Disposition: form-data; name="request"\r\n\r\n{}\r\n'
            b'--b\r\nContent-Disposition: form-data; name="attachedfile"; filename="x"\r\n'
            b"Content-Type: text/plain\r\n\r\nhi\r\n--b--\r\n",
        ]
        self.fuzz(check, examples, [b"--b", b"--b--", b"\r\n\r\n", b"%", b"&", b"=", b'name="'])
