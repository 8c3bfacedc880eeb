"""Tests of moxtw.mail.parsed, with hostile messages."""

import mmap
import time
from collections.abc import Iterator

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from moxtw.mail.addrlist import Mailbox
from moxtw.mail.mime import MAX_DEPTH, MAX_PARTS, parse_message, unpack_tree
from moxtw.mail.parsed import ParsedMessage, analyse
from moxtw.mail.text import folded
from tests.unit.mail.imaplist import check_body, check_envelope, read_list
from tests.unit.mail.test_mime import COMPLEX, FORWARD, crlf, messages

REPLY = crlf(
    """\
Received: from x
From: =?utf-8?q?J=C3=B6?= <jo@x.example>
Reply-To: list@x.example
To: A <a@y.example>, b@y.example
Cc: Group: c@y.example;
Subject: Re: [list] =?utf-8?q?Gr=C3=BC=C3=9Fe?=
Date: Thu, 29 Feb 2024 12:05:07 +0200
Message-ID: <Reply@X.example>
In-Reply-To: <second@x.example>
References: <first@x.example> <second@x.example>
List-Id: <list.x.example>

> Hi
Hello
"""
)

DSN = crlf(
    """\
From: <postmaster@x.example>
Content-Type: multipart/report; report-type=delivery-status; boundary=b

--b

It failed.
--b
Content-Type: message/delivery-status

Reporting-MTA: dns; x.example
--b--
"""
)


class AnalyseTests(SynchronousTestCase):
    """What is found in a message."""

    def test_reply(self) -> None:
        parsed = analyse(REPLY)
        self.assertEqual(parsed.subject, "Re: [list] Grüße")
        self.assertEqual((parsed.subject_base, parsed.is_response), ("grüsse", True))
        self.assertEqual(parsed.message_id, "reply@x.example")
        self.assertEqual(parsed.references, ["first@x.example", "second@x.example"])
        self.assertEqual(parsed.in_reply_to, ["second@x.example"])
        self.assertEqual((parsed.date, parsed.date_zone), (1709201107_000000, 120))
        self.assertEqual(parsed.from_, [Mailbox("Jö", "jo", "x.example")])
        self.assertEqual(parsed.sender, parsed.from_)
        self.assertEqual(parsed.reply_to, [Mailbox("", "list", "x.example")])
        self.assertEqual(parsed.to, [Mailbox("A", "a", "y.example"), Mailbox("", "b", "y.example")])
        self.assertEqual(parsed.cc, [Mailbox("", "c", "y.example")])
        self.assertEqual(parsed.bcc, [])
        self.assertEqual(parsed.preview, "[...] Hello")
        self.assertEqual(parsed.body_text, b"> hi\r\nhello\r\n")
        self.assertIn(folded("grüsse"), parsed.header_text)
        self.assertTrue(parsed.is_mailing_list)
        self.assertFalse(parsed.is_dsn)
        self.assertFalse(parsed.needs_smtputf8)
        self.assertEqual(unpack_tree(parsed.tree), parse_message(REPLY))
        self.assertTrue(parsed.envelope.startswith(b'("Thu, 29 Feb 2024 12:05:07 +0200" "Re: '))
        self.assertEqual(
            parsed.body, b'("TEXT" "PLAIN" ("CHARSET" "us-ascii") NIL NIL "7BIT" 13 2)'
        )

    def test_nothing(self) -> None:
        parsed = analyse(b"")
        self.assertEqual(
            (parsed.subject, parsed.message_id, parsed.references, parsed.date, parsed.from_),
            ("", "", [], None, []),
        )
        self.assertEqual((parsed.preview, parsed.header_text, parsed.body_text), ("", b"", b""))

    def test_dsn(self) -> None:
        self.assertTrue(analyse(DSN).is_dsn)
        self.assertTrue(
            analyse(DSN.replace(b"message/delivery", b"message/global-delivery")).is_dsn
        )
        self.assertFalse(analyse(DSN.replace(b"multipart/report", b"multipart/mixed")).is_dsn)
        self.assertFalse(analyse(DSN.replace(b"message/delivery", b"text/delivery")).is_dsn)

    def test_mailing_lists(self) -> None:
        for header, expected in [
            (b"List-Id: <x>", True),
            (b"List-Post: <mailto:x@y>", True),
            (b"Precedence: List", True),
            (b"Precedence: bulk", False),
            (b"List-Unsubscribe: <http://x>", False),
        ]:
            self.assertEqual(analyse(header + b"\r\n\r\n").is_mailing_list, expected, header)

    def test_8bit(self) -> None:
        for data, expected in [
            (b"A: b\r\n\r\nc", (False, False, False)),
            (b"A: \xe4\r\n\r\nc", (True, False, True)),
            (b"A: b\r\n\r\n\xe4", (False, True, False)),
            (
                b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nX: \xe4\r\n\r\nx",
                (False, True, True),
            ),
            (b"Content-Type: message/rfc822\r\n\r\nX: \xe4\r\n\r\nx", (False, True, True)),
            (b"Content-Type: message/global\r\n\r\nX: y\r\n\r\nx", (False, False, True)),
            (
                b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n"
                b"Content-Type: message/global-headers\r\n\r\nx",
                (False, False, True),
            ),
            (b"Content-Type: message/global-headers\r\n\r\nx", (False, False, True)),
        ]:
            parsed = analyse(data)
            self.assertEqual(
                (parsed.has_8bit_header, parsed.has_8bit_body, parsed.needs_smtputf8),
                expected,
                data,
            )

    def test_texts_have_no_nul(self) -> None:
        # PostgreSQL has no way to store one.
        data = (
            b"Subject: a\0b =?utf-8?q?=00c?=\r\nFrom: x\0y <a\0@b\0>\r\nMessage-ID: <a\0@b>\r\n"
            b"References: <\0c@d>\r\n\r\nte\0xt"
        )
        parsed = analyse(data)
        self.assertEqual(parsed.subject, "ab c")
        self.assertEqual(parsed.from_, [Mailbox("xy", "a", "b")])
        self.assertEqual(parsed.message_id, "a@b")
        self.assertEqual(parsed.references, ["c@d"])
        self.assertEqual(parsed.preview, "text")
        self.assertNotIn(b"\0", parsed.envelope)

    def test_addresses_with_comments_in_them_are_found(self) -> None:
        parsed = analyse(b"From: Joe <joe(x)@(y)X.Example>\r\nTo: a@b (Ann)\r\n\r\nbody\r\n")
        self.assertEqual(
            parsed.header_text,
            b"from: joe <joe(x)@(y)x.example> joe@x.example\r\nto: a@b (ann)\r\n\r\n",
        )
        parsed = analyse(b"To: a (x)@b")
        self.assertEqual(parsed.header_text, b"to: a (x)@b a@b")

    def test_any_buffer(self) -> None:
        expected = analyse(COMPLEX)
        with mmap.mmap(-1, len(COMPLEX)) as mapped:
            mapped[:] = COMPLEX
            self.assertEqual(analyse(mapped), expected)
        self.assertEqual(analyse(memoryview(COMPLEX)), expected)
        self.assertEqual(analyse(bytearray(COMPLEX)), expected)


def check(parsed: ParsedMessage) -> None:
    """Check what holds for every message."""
    check_envelope(read_list(parsed.envelope))
    check_body(read_list(parsed.body), False)
    check_body(read_list(parsed.bodystructure), True)
    unpack_tree(parsed.tree)
    for text in (
        parsed.preview,
        parsed.subject,
        parsed.subject_base,
        parsed.message_id,
        *parsed.references,
        *parsed.in_reply_to,
        *(item for box in (*parsed.from_, *parsed.to) for item in box),
    ):
        assert "\0" not in text
        text.encode("utf-8")


class PropertyTests(SynchronousTestCase):
    """For any bytes."""

    @given(st.one_of(messages, st.binary(max_size=300)))
    @settings(max_examples=200, deadline=None)
    def test_never_fails(self, data: bytes) -> None:
        check(analyse(data))

    @given(
        st.sampled_from([COMPLEX, FORWARD, REPLY, DSN]),
        st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 3), st.binary(max_size=3))),
    )
    @settings(max_examples=200, deadline=None)
    def test_damaged_messages(self, data: bytes, damage: list[tuple[int, int, bytes]]) -> None:
        for place, length, insert in damage:
            place %= len(data) + 1
            data = data[:place] + insert + data[place + length :]
        check(analyse(data))


MB = 1 << 20


def hostile() -> Iterator[tuple[str, bytes, float]]:
    """Messages made to hurt: name, message, seconds that are far too many for it."""
    nested = b"".join(
        b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (i, i)
        for i in range(10_000)
    )
    yield "nested multiparts", nested, 2
    yield "nested messages", b"Content-Type: message/rfc822\r\n\r\n" * 10_000, 2
    yield "deep and long", nested[:20_000] + b"\n--b\n--" * MB, 5
    yield "headers", b"".join(b"X-H%d: v\r\n" % i for i in range(100_000)) + b"\r\nbody", 2
    yield "one header line", b"Subject: " + b"a" * (50 * MB) + b"\r\n\r\nbody", 2
    yield "no line end", b"a" * (20 * MB), 2
    yield "empty lines", b"\n" + b"\n" * (20 * MB), 2
    yield "folds", b"Subject: a\r\n" + b" \r\n" * (5 * MB) + b"\r\nx", 2
    yield "junk lines", b"abc\r\n" * (4 * MB), 2
    part = b"--b\r\n\r\nx\r\n"
    multipart = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
    yield "parts", multipart + part * 200_000, 2
    yield (
        "parameters",
        (
            b"Content-Type: text/plain"
            + b"".join(b"; p%d=v; q*%d*=%%20" % (i, i) for i in range(1000))
            + b"\r\n\r\nx"
        ),
        1,
    )
    for piece in (
        b'"',
        b'"\\',
        b"(",
        b"(\\",
        b"<",
        b"[",
        b"@",
        b"a ",
        b"a:",
        b"a@b,",
        b",",
        b" ,",
        b"],",
        b";,",
        b"=?",
        b"; ",
    ):
        fill = piece * (MB // 8 // len(piece))
        yield (
            f"fields of {piece!r}",
            b"".join(
                name + b": " + fill + b"\r\n"
                for name in (b"From", b"To", b"Subject", b"References", b"Date", b"Message-ID")
            )
            + b"Content-Type: text/x; a="
            + fill
            + b"\r\nContent-Disposition: a;"
            + fill
            + (b"\r\n\r\nx"),
            5,
        )
    for subtype in (b"plain", b"html"):
        for piece in (b"> a\n", b"\t \n", b"<", b"<a", b"<!--", b"<style>", b"&", b"<p>", b"=\n"):
            header = b"Content-Type: text/%b\r\nContent-Transfer-Encoding: " % subtype
            body = piece * (MB // len(piece))
            yield f"{subtype!r} of {piece!r}", header + b"quoted-printable\r\n\r\n" + body, 3


class HostileTests(SynchronousTestCase):
    """Messages made to hurt are parsed in bounded time, and to a sound result."""

    def test_hostile(self) -> None:
        for name, data, seconds in hostile():
            start = time.perf_counter()
            parsed = analyse(data)
            took = time.perf_counter() - start
            self.assertLess(took, seconds, name)
            check(parsed)

    def test_depth_and_parts_are_bounded(self) -> None:
        found = {name: analyse(data) for name, data, _ in hostile() if name in (
            "nested multiparts", "nested messages", "parts")}  # fmt: skip
        for name in ("nested multiparts", "nested messages"):
            part = unpack_tree(found[name].tree)
            depth = 0
            while part.parts or part.message:
                part = part.message or part.parts[0]
                depth += 1
            self.assertEqual(depth, MAX_DEPTH)
            self.assertEqual(part.content_type, "application/octet-stream")
        tree = unpack_tree(found["parts"].tree)
        self.assertEqual(len(tree.parts), MAX_PARTS - 1)
