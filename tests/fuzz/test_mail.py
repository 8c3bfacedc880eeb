"""What is understood of messages and their headers."""

from __future__ import annotations

import contextlib

from moxtw.mail import addrlist, dates, dsnparse, thread, words
from moxtw.mail.address import AddressError, parse_address
from moxtw.mail.domain import DomainError, parse_domain
from moxtw.mail.header import parse_headers, select_fields
from moxtw.mail.mime import TreeError, decode_body, pack_tree, parse_message, unpack_tree
from moxtw.mail.parsed import analyse
from tests.fuzz.engine import FuzzCase
from tests.unit.mail.test_mime import COMPLEX, FORWARD
from tests.unit.mail.test_parsed import DSN, REPLY
from tests.unit.mail.test_parsed import check as check_parsed

TOKENS = [
    b"--b\r\n", b"--b--\r\n", b"\r\n\r\n", b"Content-Type: multipart/mixed; boundary=b\r\n\r\n",
    b"Content-Type: message/rfc822\r\n\r\n", b"Content-Transfer-Encoding: base64\r\n",
    b"Content-Transfer-Encoding: quoted-printable\r\n", b"Content-Type: text/html; charset=x\r\n",
    b"; name*0*=utf-8''%c3; name*1=x", b"=?utf-8?q?=C3=BC?=", b"=?iso-8859-1?B?/w==?=", b"=\r\n",
    b"From: ", b"Subject: Re: [x] Fwd: ", b"Date: Mon, 1 Jan 2024 00:00:00 +0000\r\n", b":", b";",
    b"<a@b>", b"(", b")", b'"', b"<style>", b"&#x1f600;", b"<p>", b"> ",
]  # fmt: skip


class MessageTests(FuzzCase):
    def test_every_message_is_understood_somehow(self) -> None:
        self.fuzz(lambda data: check_parsed(analyse(data)), [COMPLEX, FORWARD, REPLY, DSN], TOKENS)

    def test_parts_lie_within_each_other(self) -> None:
        def check(data: bytes) -> None:
            root = parse_message(data)
            self.assertEqual((root.header_start, root.body_end), (0, len(data)))
            for part in root.walk():
                self.assertTrue(part.header_start <= part.body_start <= part.body_end)
                self.assertLessEqual(part.body_end, len(data))
                last = part.body_start
                for child in part.parts:
                    self.assertLessEqual(last, child.header_start)
                    last = child.body_end
                self.assertLessEqual(last, part.body_end)
                with contextlib.suppress(ValueError):
                    decode_body(part, data)
            self.assertEqual(unpack_tree(pack_tree(root)), root)
            with contextlib.suppress(dsnparse.DSNError):
                dsnparse.parse_dsn(root, data)

        self.fuzz(check, [COMPLEX, FORWARD, REPLY, DSN], TOKENS)

    def test_damaged_trees_are_noticed(self) -> None:
        def check(packed: bytes) -> None:
            with contextlib.suppress(TreeError):
                unpack_tree(packed)

        self.fuzz(check, [pack_tree(parse_message(data)) for data in (COMPLEX, FORWARD, REPLY)])


class HeaderTests(FuzzCase):
    def test_headers(self) -> None:
        def check(data: bytes) -> None:
            headers = parse_headers(data)
            self.assertLessEqual(headers.body_offset, len(data))
            thread.references(headers)
            thread.in_reply_to(headers)
            thread.message_id(headers)
            chosen = select_fields(data[: headers.body_offset], {b"from", b"subject"})
            self.assertLessEqual(len(chosen), headers.body_offset + 2)

        self.fuzz(check, [REPLY, COMPLEX], TOKENS)

    def test_values(self) -> None:
        def check(value: bytes) -> None:
            addrlist.parse_address_list(value)
            words.decode_header(value)
            text = value.decode("utf-8", "replace")
            thread.base_subject(text)
            thread.canonical_message_id(text)
            if (date := dates.parse_date(text)) is not None:
                self.assertEqual(dates.parse_date(dates.format_date(*date)), date)
            with contextlib.suppress(AddressError):
                address = parse_address(text)
                self.assertEqual(parse_address(str(address)), address)
            with contextlib.suppress(DomainError):
                domain = parse_domain(text)
                self.assertEqual(parse_domain(domain.ascii), domain)
                self.assertEqual(parse_domain(domain.name), domain)

        examples = [
            b'"A \\"B\\" C" (c (d)) <a.b@x.example>, =?utf-8?q?J=C3=B6?= <@r,@s:jo@y.example>',
            b"Group: a@x.example, b@[192.0.2.1];, undisclosed: ;",
            b"Re: [list] Fwd: =?iso-8859-1?b?R3L832U=?= (fwd)",
            b"Thu, 29 Feb 2024 12:05:07 +0200 (CEST)",
            b"29 Feb 24 12:05 EST",
            b"<a.b@x.example> <c@[x]>",
            "jö@bücher.example".encode(),
            b"xn--bcher-kva.example",
        ]
        self.fuzz(check, examples, TOKENS)
