"""Tests of moxtw.mail.structure."""

from hypothesis import given, settings
from twisted.trial.unittest import SynchronousTestCase

from moxtw.mail.mime import parse_message
from moxtw.mail.structure import MAX_ADDRESS_BYTES, bodystructure_wire, structure_wires
from tests.unit.mail.imaplist import check_body, read_list
from tests.unit.mail.test_mime import COMPLEX, FORWARD, crlf, messages


def full(data: bytes) -> bytes:
    """BODYSTRUCTURE."""
    return bodystructure_wire(parse_message(data), data, True)


def short(data: bytes) -> bytes:
    """BODY."""
    return bodystructure_wire(parse_message(data), data, False)


class StructureTests(SynchronousTestCase):
    """Exact wire forms."""

    def test_rfc_examples(self) -> None:
        # RFC 3501 7.4.2 and 8
        text = crlf("x" * 48 + "\n") * 22 + crlf("x" * 50 + "\n")
        self.assertEqual(len(text), 1152)
        base64 = crlf("y" * 60 + "\n") * 72 + crlf("y" * 88 + "\n")
        self.assertEqual(len(base64), 4554)
        data = b"Content-Type: text/plain; charset=US-ASCII\r\n\r\n" + text
        leaf = b'("TEXT" "PLAIN" ("CHARSET" "US-ASCII") NIL NIL "7BIT" 1152 23)'
        self.assertEqual(short(data), leaf)
        data = b"".join(
            (
                b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n",
                data,
                b"\r\n--b\r\nContent-Type: text/plain; name=cc.diff; charset=US-ASCII\r\n"
                b"Content-ID: <960723163407.20117h@cac.washington.edu>\r\n"
                b"Content-Description: Compiler diff\r\n"
                b"Content-Transfer-Encoding: base64\r\n\r\n",
                base64,
                b"\r\n--b--\r\n",
            )
        )
        self.assertEqual(
            short(data),
            b"(" + leaf + b'("TEXT" "PLAIN" ("CHARSET" "US-ASCII" "NAME" "cc.diff") '
            b'"<960723163407.20117h@cac.washington.edu>" "Compiler diff" "BASE64" 4554 73) '
            b'"MIXED")',
        )

    def test_extension_data(self) -> None:
        data = crlf(
            """\
Content-Type: text/x-myown; charset=us-ascii; foo="quoted\\"string"
Content-ID: <foo@example.com>
Content-MD5: Q2hlY2sgSW50ZWdyaXR5IQ==
Content-Disposition: inline; foo=bar
Content-Description: hellodescription
Content-Language: en, fi, se
Content-Location: http://example.com/test.txt

hello
"""
        )
        start = (
            b'("TEXT" "X-MYOWN" ("CHARSET" "us-ascii" "FOO" "quoted\\"string") "<foo@example.com>" '
            b'"hellodescription" "7BIT" 7 1'
        )
        self.assertEqual(short(data), start + b")")
        self.assertEqual(
            full(data),
            start + b' "Q2hlY2sgSW50ZWdyaXR5IQ==" ("inline" ("FOO" "bar")) ("en" "fi" "se") '
            b'"http://example.com/test.txt")',
        )

    def test_defaults(self) -> None:
        self.assertEqual(
            full(b""), b'("TEXT" "PLAIN" ("CHARSET" "us-ascii") NIL NIL "7BIT" 0 0 NIL NIL NIL NIL)'
        )
        self.assertEqual(
            full(b"Content-Type: image/png\r\nContent-Language: en\r\n"
                 b"Content-Disposition: inline\r\n\r\nx"),
            b'("IMAGE" "PNG" NIL NIL NIL "7BIT" 1 NIL ("inline" NIL) "en" NIL)',
        )  # fmt: skip

    def test_nested_message(self) -> None:
        envelope = b'(NIL "(subject in US-ASCII)" NIL NIL NIL NIL NIL NIL NIL NIL)'
        self.assertEqual(
            full(COMPLEX),
            b'(("TEXT" "PLAIN" ("CHARSET" "us-ascii") NIL NIL "7BIT" 34 1 NIL NIL NIL NIL)'
            b'("TEXT" "PLAIN" ("CHARSET" "US-ASCII") NIL NIL "7BIT" 49 1 NIL NIL NIL NIL)'
            b'(("AUDIO" "BASIC" NIL NIL NIL "BASE64" 4 NIL NIL NIL NIL)'
            b'("IMAGE" "JPEG" NIL NIL NIL "BASE64" 0 NIL NIL NIL NIL)'
            b' "PARALLEL" ("BOUNDARY" "unique-boundary-2") NIL NIL NIL)'
            b'("TEXT" "ENRICHED" NIL NIL NIL "7BIT" 32 1 NIL NIL NIL NIL)'
            b'("MESSAGE" "RFC822" NIL NIL NIL "7BIT" 232 '
            + envelope
            + b' ("TEXT" "PLAIN" ("CHARSET" "ISO-8859-1") NIL NIL "QUOTED-PRINTABLE" 51 1'
            b" NIL NIL NIL NIL) 7 NIL NIL NIL NIL)"
            b' "MIXED" ("BOUNDARY" "unique-boundary-1") NIL NIL NIL)',
        )
        check_body(read_list(short(FORWARD)), False)

    def test_multipart_in_a_message(self) -> None:
        data = crlf(
            """\
Content-Type: message/rfc822
Content-Disposition: attachment; filename=x.eml

From: a@b
Content-Type: multipart/mixed; boundary=b

--b

x
--b--
"""
        )
        a = b'((NIL NIL "a" "b"))'
        envelope = b"(NIL NIL %b %b %b NIL NIL NIL NIL NIL)" % (a, a, a)
        text = b'("TEXT" "PLAIN" ("CHARSET" "us-ascii") NIL NIL "7BIT" 1 0'
        self.assertEqual(
            structure_wires(parse_message(data), data),
            (
                b'("MESSAGE" "RFC822" NIL NIL NIL "7BIT" 73 '
                + envelope
                + b" ("
                + text
                + b') "MIXED") 7)',
                b'("MESSAGE" "RFC822" NIL NIL NIL "7BIT" 73 '
                + envelope
                + b" ("
                + text
                + b' NIL NIL NIL NIL) "MIXED" ("BOUNDARY" "b") NIL NIL NIL) 7 NIL '
                b'("attachment" ("FILENAME" "x.eml")) NIL NIL)',
            ),
        )

    def test_parameters_beyond_ascii(self) -> None:
        for value, expected in [
            ("filename*=utf-8'de'%c3%a4%20b", b'("FILENAME*" "utf-8\'\'%C3%A4%20b")'),
            ('filename="ä\'.txt"', b'("FILENAME*" "utf-8\'\'%C3%A4%27.txt")'),
            ("filename*0=a; filename*1=b", b'("FILENAME" "ab")'),
            ("filename*=utf-8''a%20b", b'("FILENAME" "a b")'),
            ('filename="=?utf-8?q?a?="', b'("FILENAME" "=?utf-8?q?a?=")'),
        ]:
            data = f"Content-Disposition: attachment; {value}\r\n\r\n".encode()
            self.assertIn(b'("attachment" ' + expected + b")", full(data), value)

    def test_odd_names(self) -> None:
        data = 'Content-Type: tex"t/ä; x=y\r\nContent-Transfer-Encoding: ö\r\n\r\n'.encode()
        check_body(read_list(full(data)), True)
        data = "Content-Type: ä/ö; ü=y\r\nContent-Transfer-Encoding: ö\r\n\r\n".encode()
        self.assertEqual(
            full(data),
            '({2}\r\nÄ {2}\r\nÖ ({2}\r\nÜ "y") NIL NIL {2}\r\nÖ 0 NIL NIL NIL NIL)'.encode(),
        )

    def test_depth_bound_keeps_the_form(self) -> None:
        for data in (
            b"Content-Type: message/rfc822\r\n\r\n" * 300,
            b"".join(
                b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (i, i)
                for i in range(300)
            ),
        ):
            check_body(read_list(full(data)), True)
            check_body(read_list(short(data)), False)
            self.assertEqual(full(data).count(b'"APPLICATION" "OCTET-STREAM"'), 1)

    def test_addresses_of_embedded_messages_are_bounded(self) -> None:
        part = b"--b\r\n\r\nSubject: x\r\nTo: " + b"a@b," * 20000 + b"\r\n\r\n\r\n"
        count = MAX_ADDRESS_BYTES // len(part) + 3
        data = b"Content-Type: multipart/digest; boundary=b\r\n\r\n" + part * count
        structure = read_list(full(data))
        check_body(structure, True)
        self.assertEqual(len(structure[0][7][5]), 10000)
        self.assertEqual(structure[count - 1][7][:6], [None, b"x", None, None, None, None])


class PropertyTests(SynchronousTestCase):
    """For any bytes."""

    @given(messages)
    @settings(max_examples=200, deadline=None)
    def test_form_is_always_right(self, data: bytes) -> None:
        body, structure = structure_wires(parse_message(data), data)
        check_body(read_list(body), False)
        check_body(read_list(structure), True)
