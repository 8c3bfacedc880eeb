"""Tests of moxtw.mail.mime."""

import mmap
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from moxtw.mail import transfer
from moxtw.mail.mime import (
    MAX_PARAMS,
    Part,
    SectionKind,
    TreeError,
    decode_body,
    find_part,
    pack_tree,
    parse_content_type,
    parse_disposition,
    parse_message,
    part_headers,
    section,
    unpack_tree,
)


def crlf(text: str) -> bytes:
    """A message from lines."""
    return text.replace("\n", "\r\n").encode()


# RFC 2049, appendix A, with the parts that are left out there.
COMPLEX = crlf(
    """\
MIME-Version: 1.0
From: Nathaniel Borenstein <nsb@nsb.fv.com>
To: Ned Freed <ned@innosoft.com>
Date: Fri, 07 Oct 1994 16:15:05 -0700 (PDT)
Subject: A multipart example
Content-Type: multipart/mixed;
              boundary=unique-boundary-1

This is the preamble area of a multipart message.

--unique-boundary-1

  ... Some text appears here ...

--unique-boundary-1
Content-type: text/plain; charset=US-ASCII

This could have been part of the previous part.

--unique-boundary-1
Content-Type: multipart/parallel; boundary=unique-boundary-2

--unique-boundary-2
Content-Type: audio/basic
Content-Transfer-Encoding: base64

QUJD
--unique-boundary-2
Content-Type: image/jpeg
Content-Transfer-Encoding: base64

--unique-boundary-2--

--unique-boundary-1
Content-type: text/enriched

This is <bold>enriched.</bold>

--unique-boundary-1
Content-Type: message/rfc822

From: (mailbox in US-ASCII)
To: (address in US-ASCII)
Subject: (subject in US-ASCII)
Content-Type: Text/plain; charset=ISO-8859-1
Content-Transfer-Encoding: Quoted-printable

  ... Additional text in ISO-8859-1 goes here ...

--unique-boundary-1--
epilogue
"""
)

# A forward of a multipart, as in the example of RFC 3501 6.4.5.
FORWARD = crlf(
    """\
Subject: outer
Content-Type: multipart/mixed; boundary=a

--a
Content-Type: text/plain

1
--a
Content-Type: application/octet-stream

2
--a
Content-Type: message/rfc822

Subject: three
Content-Type: multipart/mixed; boundary=b

--b
Content-Type: text/plain

3.1
--b
Content-Type: application/octet-stream

3.2
--b--
--a
Content-Type: multipart/mixed; boundary=c

--c
Content-Type: image/gif

4.1
--c
Content-Type: message/rfc822

Subject: four
Content-Type: multipart/alternative; boundary=d

--d
Content-Type: text/plain

4.2.1
--d
Content-Type: text/html

4.2.2
--d--
--c--
--a--
"""
)


def body(part: Part, data: bytes) -> bytes:
    """The bytes of a part's body."""
    return data[part.body_start : part.body_end]


def outline(part: Part) -> object:
    """The types of a tree."""
    if part.parts:
        return [part.media_subtype, *map(outline, part.parts)]
    if part.message is not None:
        return {part.media_subtype: outline(part.message)}
    return part.content_type


class TreeTests(SynchronousTestCase):
    """Parts and their offsets."""

    def test_simple_message(self) -> None:
        data = b"Subject: x\r\n\r\nline\r\nlast"
        root = parse_message(data)
        self.assertEqual((root.header_start, root.body_start, root.body_end), (0, 14, 24))
        self.assertEqual(root.lines, 1)
        self.assertEqual(root.content_type, "text/plain")
        self.assertEqual(root.params, {"charset": "us-ascii"})
        self.assertEqual(root.encoding, "7bit")
        self.assertEqual(root.size, 10)

    def test_complex_message(self) -> None:
        root = parse_message(COMPLEX)
        self.assertEqual(
            outline(root),
            [
                "mixed",
                "text/plain",
                "text/plain",
                ["parallel", "audio/basic", "image/jpeg"],
                "text/enriched",
                {"rfc822": "text/plain"},
            ],
        )
        self.assertEqual(body(root.parts[0], COMPLEX), b"  ... Some text appears here ...\r\n")
        self.assertEqual(body(root.parts[2].parts[0], COMPLEX), b"QUJD")
        self.assertEqual(decode_body(root.parts[2].parts[0], COMPLEX), b"ABC")
        self.assertEqual(body(root.parts[2].parts[1], COMPLEX), b"")
        message = root.parts[4].message
        assert message is not None
        self.assertEqual(root.parts[4].lines, 7)
        self.assertEqual(message.encoding, "quoted-printable")
        self.assertEqual(message.charset, "iso-8859-1")
        self.assertEqual(message.body_end, root.parts[4].body_end)
        self.assertEqual(message.header_start, root.parts[4].body_start)
        self.assertEqual(part_headers(message, COMPLEX).get("subject"), "(subject in US-ASCII)")
        self.assertEqual(
            [part.content_type for part in root.walk()][-3:],
            ["text/enriched", "message/rfc822", "text/plain"],
        )

    def test_fields_of_a_part(self) -> None:
        data = crlf(
            """\
Content-Type: TEXT/Html; Charset="UTF-8"; name=x.html (comment)
Content-Transfer-Encoding: (yes) Quoted-Printable ; x
Content-Disposition: ATTACHMENT; FileName="a;b.html"; size=3
Content-ID:  <id@x>
Content-Description: =?utf-8?q?a?=
Content-MD5: Q2hlY2sgSW50ZWdyaXR5IQ==
Content-Language: en, de (German), fr
Content-Location: http://x/y

x
"""
        )
        part = parse_message(data)
        self.assertEqual(part.content_type, "text/html")
        self.assertEqual(part.params, {"charset": "UTF-8", "name": "x.html"})
        self.assertEqual(part.charset, "utf-8")
        self.assertEqual(part.encoding, "quoted-printable")
        self.assertEqual(part.disposition, "attachment")
        self.assertEqual(part.disp_params, {"filename": "a;b.html", "size": "3"})
        self.assertEqual(part.filename, "a;b.html")
        self.assertEqual(part.id, "<id@x>")
        self.assertEqual(part.description, "=?utf-8?q?a?=")
        self.assertEqual(part.md5, "Q2hlY2sgSW50ZWdyaXR5IQ==")
        self.assertEqual(part.language, ["en", "de", "fr"])
        self.assertEqual(part.location, "http://x/y")

    def test_digest_has_messages(self) -> None:
        data = crlf(
            """\
Content-Type: multipart/digest; boundary=b

--b

Subject: one

text one
--b
Content-Type: text/plain

text two
--b--
"""
        )
        root = parse_message(data)
        self.assertEqual(outline(root), ["digest", {"rfc822": "text/plain"}, "text/plain"])
        message = root.parts[0].message
        assert message is not None
        self.assertEqual(body(message, data), b"text one")

    def test_any_buffer(self) -> None:
        expected = parse_message(COMPLEX)
        with mmap.mmap(-1, len(COMPLEX)) as mapped:
            mapped[:] = COMPLEX
            self.assertEqual(parse_message(mapped), expected)
        self.assertEqual(parse_message(memoryview(COMPLEX)), expected)
        self.assertEqual(parse_message(bytearray(COMPLEX)), expected)


def _multipart(content: bytes, boundary: bytes = b"b") -> list[bytes]:
    """The bodies of the parts that a multipart with this content has."""
    data = b"Content-Type: multipart/mixed; boundary=" + boundary + b"\r\n\r\n" + content
    return [body(part, data) for part in parse_message(data).parts]


class BoundaryTests(SynchronousTestCase):
    """What separates parts."""

    def test_table(self) -> None:
        for content, expected in [
            (b"--b\r\n\r\nx\r\n--b--\r\n", [b"x"]),
            (b"--b\n\nx\n--b--\n", [b"x"]),
            (b"--b\n\nx\r\n\n--b--\n", [b"x\r\n"]),
            (b"--b\r\n\r\nx\r\n\r\n--b--", [b"x\r\n"]),
            (b"pre\r\n--b\r\n\r\nx\r\n--b--\r\npost", [b"x"]),
            (b"--b  \t\r\n\r\nx\r\n--b-- \t\r\n", [b"x"]),
            (b"--b\r\n\r\nx\r\n--b\r\n\r\ny\r\n--b--", [b"x", b"y"]),
            (b"--b\r\n\r\nx\r\n--b--\r\n--b\r\n\r\ny", [b"x"]),
            # No end
            (b"--b\r\n\r\nx\r\n", [b"x\r\n"]),
            (b"--b\r\n\r\nx\r\n--b", [b"x"]),
            (b"--b\r\n\r\nx\r\n--b\r\n", [b"x"]),
            (b"--b\r\n\r\nx\r\n--b\r\n\r\n", [b"x", b""]),
            # Empty parts
            (b"--b\r\n--b\r\n--b--", [b"", b""]),
            (b"--b\r\n\r\n--b--", [b""]),
            (b"--b\r\n\r\n\r\n--b--", [b""]),
            (b"--b--\r\n", [b"--b--\r\n"]),
            (b"--b", [b""]),
            # No boundary line
            (b"-- b\r\n\r\nx\r\n", [b"-- b\r\n\r\nx\r\n"]),
            (b"--b\r\n\r\nx --b\r\n --b\r\n--b--", [b"x --b\r\n --b"]),
            (b"--b\r\n\r\nx\r\n--bb\r\n--b--", [b"x\r\n--bb"]),
            (b"--B\r\n\r\nx", [b"--B\r\n\r\nx"]),
            (b"just text", [b"just text"]),
            (b"", [b""]),
            # More in its line
            (b"--b (part)\r\n\r\nx\r\n--b more\r\n\r\ny\r\n--b-- end\r\nz", [b"x", b"y"]),
            (b"--b\r\n\r\nx\r\n--b c\r\n--b--d\r\n--b-- end\r\nz", [b"x\r\n--b c\r\n--b--d"]),
            (b"--b\r\r\n\r\r\nx\r\n--b--\r\r\n", [b"x"]),
            # RFC 2046 5.1.1: the beginning of the line is sufficient, if there is nothing better.
            (b"--bc\r\n\r\nx\r\n--bd\r\n\r\ny\r\n--b--c\r\nz", [b"x", b"y"]),
            # A part without an empty line
            (b"--b\r\nA: b\r\n--b--", [b""]),
            (b"--b\r\ntext\r\n--b--", [b"text"]),
        ]:
            self.assertEqual(_multipart(content), expected, content)

    def test_boundary_values(self) -> None:
        for value in (b"=_x", b'"a b"', b"'()+_,-./:=?'", b'"a\\"b"', b'"x "', b"b;x=y"):
            name = parse_content_type(b"multipart/mixed; boundary=" + value)[2]["boundary"].rstrip()
            content = b"--%b\r\n\r\nx\r\n--%b--\r\n" % (name.encode(), name.encode())
            self.assertEqual(_multipart(content, value), [b"x"], value)

    def test_boundary_that_ends_in_a_blank(self) -> None:
        self.assertEqual(_multipart(b"--b \r\n\r\nx\r\n--b --\r\nz", b'"b "'), [b"x"])

    def test_inner_boundary_with_outer_as_prefix(self) -> None:
        data = (
            b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n"
            b"Content-Type: multipart/mixed; boundary=bb\r\n\r\n--bb\r\n\r\nx\r\n"
            b"--bb--\r\n--b--\r\n"
        )
        self.assertEqual(outline(parse_message(data)), ["mixed", ["mixed", "text/plain"]])

    def test_outer_boundary_ends_inner_multipart(self) -> None:
        data = (
            b"Content-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\n"
            b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--a\r\n"
            b"\r\ny\r\n--a--"
        )
        root = parse_message(data)
        self.assertEqual(outline(root), ["mixed", ["mixed", "text/plain"], "text/plain"])
        self.assertEqual(body(root.parts[0].parts[0], data), b"x")
        self.assertEqual(body(root.parts[1], data), b"y")

    def test_multipart_without_boundary_is_one_text(self) -> None:
        for value in (
            b"multipart/mixed",
            b"multipart/mixed; boundary=",
            b'multipart/x; boundary=""',
        ):
            data = b"Content-Type: " + value + b"\r\n\r\n--\r\ntext\r\n"
            root = parse_message(data)
            self.assertEqual(len(root.parts), 1)
            self.assertEqual(root.parts[0].content_type, "text/plain")
            self.assertEqual(body(root.parts[0], data), b"--\r\ntext\r\n")

    def test_encoded_embedded_message_is_not_decoded(self) -> None:
        data = (
            b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\n"
            b"U3ViamVjdDogeA==\r\n"
        )
        root = parse_message(data)
        message = root.message
        assert message is not None
        self.assertEqual(message.header_start, message.body_start)
        self.assertEqual(body(message, data), b"U3ViamVjdDogeA==\r\n")

    def test_unknown_encoding(self) -> None:
        data = b"Content-Transfer-Encoding: x-uu\r\n\r\nx"
        root = parse_message(data)
        self.assertEqual(root.encoding, "x-uu")
        self.assertRaises(transfer.UnknownEncoding, decode_body, root, data)


class ParameterTests(SynchronousTestCase):
    """Content-Type and Content-Disposition."""

    def test_types(self) -> None:
        for value, expected in [
            (b"text/plain", ("text", "plain", {})),
            (b" Text / Plain ", ("text", "plain", {})),
            (b"text/plain;", ("text", "plain", {})),
            (b"text/plain; a=b", ("text", "plain", {"a": "b"})),
            (b"text/plain ; A = b ; c=d", ("text", "plain", {"a": "b", "c": "d"})),
            (b"text/plain;;; a=b", ("text", "plain", {"a": "b"})),
            (b'text/plain; a="b c"; d=e', ("text", "plain", {"a": "b c", "d": "e"})),
            (b'text/plain; a="b\\"\\\\c;"', ("text", "plain", {"a": 'b"\\c;'})),
            (b'text/plain; a="b', ("text", "plain", {"a": "b"})),
            (b"text/plain; a=b c; d=e", ("text", "plain", {"a": "b c", "d": "e"})),
            (b"text/plain; a=b; a=c", ("text", "plain", {"a": "b"})),
            (b"text/plain; junk; a=b", ("text", "plain", {"a": "b"})),
            (b"text/plain (c) ; a=b (c; (d)) ; e=f", ("text", "plain", {"a": "b", "e": "f"})),
            (b'text/plain; a="(b)"', ("text", "plain", {"a": "(b)"})),
            (b"application/x+y.z-1", ("application", "x+y.z-1", {})),
            # RFC 2045 5.2: what cannot be read is text
            (b"text", ("text", "plain", {})),
            (b"text; charset=utf-8", ("text", "plain", {"charset": "utf-8"})),
            (b"/", ("text", "plain", {})),
            (b"\xff\0", ("text", "plain", {})),
            (b"multipart; boundary=x", ("multipart", "mixed", {"boundary": "x"})),
            ('text/plain; name="ä"'.encode(), ("text", "plain", {"name": "ä"})),
            ('text/plain; name="ä"'.encode("latin-1"), ("text", "plain", {"name": "ä"})),
        ]:
            self.assertEqual(parse_content_type(value), expected, value)

    def test_extended_parameters(self) -> None:
        for value, expected in [
            # RFC 2231 3 and 4.1
            (b'; URL*0="ftp://"; URL*1="cs.utk.edu/x"', {"url": "ftp://cs.utk.edu/x"}),
            (
                b"; title*=us-ascii'en-us'This%20is%20%2A%2A%2Afun%2A%2A%2A",
                {"title": "This is ***fun***"},
            ),
            (
                b"; title*0*=us-ascii'en'This%20is%20even%20more%20"
                b'; title*1*=%2A%2A%2Afun%2A%2A%2A%20; title*2="isn\'t it!"',
                {"title": "This is even more ***fun*** isn't it!"},
            ),
            (b"; a*1=y; a*0=x", {"a": "xy"}),
            (b"; a*0=x; a*2=z", {"a": "x"}),
            (b"; a*1=y", {}),
            (b"; a*=utf-8''%e2%82%ac", {"a": "€"}),
            (b"; a*=UTF-8''%E2%82%AC; a=EUR", {"a": "€"}),
            (b"; a=EUR; a*=UTF-8''%E2%82%AC", {"a": "€"}),
            (b"; a*0*=utf-8''%e2%82; a*1*=%ac", {"a": "€"}),
            (b"; a*=iso-8859-1''%e4", {"a": "ä"}),
            (b"; a*=%e4", {"a": "ä"}),
            (b"; a*=nonsense''%c3%a4", {"a": "ä"}),
            (b"; a*=utf-8''%zz%", {"a": "%zz%"}),
            (b"; a*=utf-8''x%00y", {"a": "xy"}),
            (b"; a*0*=x; a*1=y", {"a": "xy"}),
        ]:
            self.assertEqual(parse_disposition(b"x" + value), ("x", expected), value)

    def test_results_are_not_shared(self) -> None:
        parse_content_type(b"text/x-shared; a=b")[2]["a"] = "changed"
        self.assertEqual(parse_content_type(b"text/x-shared; a=b")[2], {"a": "b"})

    def test_number_is_bounded(self) -> None:
        value = b"x" + b"".join(b";p%d=" % i for i in range(2 * MAX_PARAMS))
        parsed = parse_disposition(value)
        assert parsed is not None
        self.assertEqual(len(parsed[1]), MAX_PARAMS)
        value = b"x" + b"".join(b";p*%d=a" % i for i in range(MAX_PARAMS))
        self.assertEqual(parse_disposition(value), ("x", {"p": "a" * MAX_PARAMS}))

    def test_disposition_without_name(self) -> None:
        self.assertIsNone(parse_disposition(b""))
        self.assertIsNone(parse_disposition(b"; filename=x"))

    def test_filename_has_encoded_words_decoded(self) -> None:
        data = b'Content-Type: text/plain; name="=?utf-8?q?=C3=A4?=.txt"\r\n\r\n'
        self.assertEqual(parse_message(data).filename, "ä.txt")
        self.assertIsNone(parse_message(b"").filename)


class SectionTests(SynchronousTestCase):
    """BODY[...] of IMAP."""

    def _get(
        self, data: bytes, path: Sequence[int], kind: SectionKind = "", prefix: bytes = b""
    ) -> bytes | None:
        found = section(parse_message(data), path, kind, len(prefix))
        return None if found is None else (prefix + data)[found[0] : found[1]]

    def test_rfc_example(self) -> None:
        def end(value: bytes | None) -> bytes:
            assert value is not None
            return value

        get = self._get
        self.assertEqual(get(FORWARD, ()), FORWARD)
        self.assertTrue(end(get(FORWARD, (), "HEADER")).startswith(b"Subject: outer\r\n"))
        self.assertTrue(end(get(FORWARD, (), "TEXT")).startswith(b"--a\r\n"))
        self.assertEqual(get(FORWARD, (1,)), b"1")
        self.assertEqual(get(FORWARD, (1,), "MIME"), b"Content-Type: text/plain\r\n\r\n")
        self.assertEqual(get(FORWARD, (2,)), b"2")
        self.assertEqual(get(FORWARD, (3,), "MIME"), b"Content-Type: message/rfc822\r\n\r\n")
        header = b"Subject: three\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
        self.assertEqual(get(FORWARD, (3,), "HEADER"), header)
        text = end(get(FORWARD, (3,), "TEXT"))
        self.assertTrue(text.startswith(b"--b\r\n") and text.endswith(b"--b--"), text)
        self.assertEqual(get(FORWARD, (3,)), header + text)
        self.assertEqual(get(FORWARD, (3, 1)), b"3.1")
        self.assertEqual(get(FORWARD, (3, 2)), b"3.2")
        self.assertEqual(get(FORWARD, (4, 1)), b"4.1")
        self.assertEqual(get(FORWARD, (4, 1), "MIME"), b"Content-Type: image/gif\r\n\r\n")
        self.assertEqual(
            get(FORWARD, (4, 2), "HEADER"),
            b"Subject: four\r\nContent-Type: multipart/alternative; boundary=d\r\n\r\n",
        )
        self.assertEqual(get(FORWARD, (4, 2, 1)), b"4.2.1")
        self.assertEqual(get(FORWARD, (4, 2, 2)), b"4.2.2")

    def test_missing_sections(self) -> None:
        for path, kind in [
            ((0,), ""),
            ((5,), ""),
            ((1, 1), ""),
            ((3, 3), ""),
            ((3, 1, 1), ""),
            ((4, 2, 3), ""),
            ((), "MIME"),
            ((1,), "HEADER"),
            ((1,), "TEXT"),
            ((4,), "HEADER"),
            ((3, 1), "HEADER"),
        ]:
            self.assertIsNone(self._get(FORWARD, path, kind), (path, kind))

    def test_message_of_one_part(self) -> None:
        data = b"Subject: x\r\n\r\ntext"
        self.assertEqual(self._get(data, (1,)), b"text")
        self.assertEqual(self._get(data, (1,), "MIME"), b"Subject: x\r\n\r\n")
        self.assertIsNone(self._get(data, (1, 1)))
        self.assertIsNone(self._get(data, (2,)))
        self.assertIsNone(self._get(data, (1,), "HEADER"))

    def test_message_that_is_a_message(self) -> None:
        data = b"Content-Type: message/rfc822\r\n\r\nSubject: in\r\n\r\ntext"
        self.assertEqual(self._get(data, (1,)), b"Subject: in\r\n\r\ntext")
        self.assertEqual(self._get(data, (1,), "HEADER"), b"Subject: in\r\n\r\n")
        self.assertEqual(self._get(data, (1,), "TEXT"), b"text")
        self.assertEqual(self._get(data, (1, 1)), b"text")
        self.assertEqual(self._get(data, (1,), "MIME"), b"Content-Type: message/rfc822\r\n\r\n")
        self.assertIsNone(self._get(data, (1, 1, 1)))

    def test_added_header_lines_are_part_of_the_header(self) -> None:
        prefix = b"Received: here\r\n"
        data = b"Subject: x\r\n\r\ntext"
        self.assertEqual(self._get(data, (), "", prefix), prefix + data)
        self.assertEqual(self._get(data, (), "HEADER", prefix), prefix + b"Subject: x\r\n\r\n")
        self.assertEqual(self._get(data, (), "TEXT", prefix), b"text")
        self.assertEqual(self._get(data, (1,), "", prefix), b"text")
        self.assertEqual(self._get(data, (1,), "MIME", prefix), prefix + b"Subject: x\r\n\r\n")
        self.assertEqual(self._get(FORWARD, (3, 1), "", prefix), b"3.1")
        self.assertEqual(
            self._get(FORWARD, (1,), "MIME", prefix), b"Content-Type: text/plain\r\n\r\n"
        )
        self.assertEqual(self._get(b"just a body", (), "HEADER", prefix), prefix)
        self.assertEqual(self._get(b"just a body", (), "TEXT", prefix), b"just a body")

    def test_find_part(self) -> None:
        root = parse_message(FORWARD)
        self.assertIs(find_part(root, ()), root)
        part = find_part(root, (4, 2))
        assert part is not None
        self.assertEqual(part.content_type, "message/rfc822")


class PackTests(SynchronousTestCase):
    """The packed form."""

    def test_round_trip(self) -> None:
        for data in (COMPLEX, FORWARD, b""):
            root = parse_message(data)
            self.assertEqual(unpack_tree(pack_tree(root)), root)

    def test_small(self) -> None:
        self.assertLess(len(pack_tree(parse_message(b"Subject: x\r\n\r\ntext"))), 64)

    def test_other_bytes_are_refused(self) -> None:
        packed = pack_tree(parse_message(FORWARD))
        for data in (b"", b"\x00" + packed[1:], packed[:-1], packed[:1], b"\x01\x90", b"\x01\xc0",
                     b"\x01\xdc\x00\x11\x00\xcd\x01ext\xa5\xcdU\xbcai"):  # fmt: skip
            self.assertRaises(TreeError, unpack_tree, data)


class LimitTests(SynchronousTestCase):
    """Bounds."""

    def test_depth(self) -> None:
        nested = b"".join(
            b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (i, i)
            for i in range(8)
        )
        root = parse_message(nested + b"\r\nx", max_depth=3)
        leaf = root.parts[0].parts[0].parts[0]
        self.assertEqual(leaf.content_type, "application/octet-stream")
        self.assertEqual((leaf.parts, leaf.message), ([], None))
        self.assertEqual(leaf.body_end, len(nested) + 3)
        root = parse_message(b"Content-Type: message/rfc822\r\n\r\n" * 8, max_depth=2)
        assert root.message is not None and root.message.message is not None
        self.assertEqual(root.message.message.content_type, "application/octet-stream")

    def test_parts(self) -> None:
        data = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n\r\nx\r\n" * 50
        root = parse_message(data, max_parts=10)
        self.assertEqual(len(root.parts), 9)
        self.assertEqual(sum(1 for _ in root.walk()), 10)
        inner = (
            b"--a\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n\r\nx\r\n" * 5
        )
        data = b"Content-Type: multipart/mixed; boundary=a\r\n\r\n" + inner * 5
        root = parse_message(data, max_parts=10)
        self.assertEqual(len(root.parts), 5)
        self.assertLessEqual(sum(1 for _ in root.walk()), 10)
        self.assertEqual(root.parts[4].content_type, "application/octet-stream")


_pieces = st.sampled_from(
    [
        b"Content-Type: multipart/mixed; boundary=a\r\n",
        b"Content-Type: multipart/digest; boundary=b\r\n",
        b"Content-Type: message/rfc822\r\n",
        b"Content-Type: text/plain; charset=utf-8\n",
        b"Content-Transfer-Encoding: base64\r\n",
        b"Content-Disposition: attachment; filename*0=a; filename*1*=%e4\r\n",
        b"\r\n",
        b"\r\n",
        b"\n",
        b"\r",
        b"--a\r\n",
        b"--a\n",
        b"--b\r\n",
        b"--a--\r\n",
        b"--b--",
        b"text",
        b"\0",
        b"\xff",
    ]
)
messages = st.lists(_pieces, max_size=40).map(b"".join)


class PropertyTests(SynchronousTestCase):
    """For any bytes."""

    @given(messages)
    @settings(max_examples=200, deadline=None)
    def test_parts_lie_within_each_other_and_do_not_overlap(self, data: bytes) -> None:
        root = parse_message(data)
        self.assertEqual((root.header_start, root.body_end), (0, len(data)))
        for part in root.walk():
            self.assertTrue(0 <= part.header_start <= part.body_start <= part.body_end <= len(data))
            last = part.body_start
            for child in part.parts:
                self.assertLessEqual(last, child.header_start)
                last = child.body_end
            self.assertLessEqual(last, part.body_end)
            self.assertTrue(part.parts or part.media_type != "multipart")
            if part.message is not None:
                self.assertEqual(part.message.header_start, part.body_start)
                self.assertEqual(part.message.body_end, part.body_end)
                self.assertEqual(part.media_type, "message")
        self.assertEqual(unpack_tree(pack_tree(root)), root)

    @given(messages, st.lists(st.integers(0, 3), max_size=4), st.integers(0, 50))
    @settings(max_examples=200, deadline=None)
    def test_sections_lie_within_the_message(
        self, data: bytes, path: list[int], prefix: int
    ) -> None:
        root = parse_message(data)
        kinds: tuple[SectionKind, ...] = ("", "HEADER", "TEXT", "MIME")
        for kind in kinds:
            found = section(root, path, kind, prefix)
            if found is not None:
                self.assertTrue(0 <= found[0] <= found[1] <= len(data) + prefix)
                if found[0] < prefix:
                    self.assertEqual(found[0], 0)
