"""Composing messages. The standard library's email package reads them back."""

import email
import email.header
import email.policy
import itertools

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from moxtw.mail.address import parse_address
from moxtw.mail.compose import (
    ComposeError,
    Composer,
    FilePart,
    MultiPart,
    NameAddress,
    RawPart,
    TextPart,
    address_header,
    assemble,
    base64_lines,
    content_header,
    message_id,
    message_ids_header,
    parse_content_type,
    render,
    text_header,
)
from moxtw.mail.domain import parse_domain
from moxtw.mail.headerwriter import HeaderWriter, comment, token_or_quoted

PRINTABLE = st.text(
    st.characters(min_codepoint=0x20, exclude_characters="\x7f", exclude_categories=["Cs"]),
    max_size=200,
)


def unfold(field):
    name, _, value = field.decode().partition(":")
    return value.replace("\r\n", "").strip(" \t")


def decode(text):
    return "".join(
        part if isinstance(part, str) else part.decode(charset or "ascii")
        for part, charset in email.header.decode_header(text)
    )


def make(part, **options):
    counter = itertools.count(1)
    composer = Composer(boundary=lambda: f"limit{next(counter)}", **options)
    composer.text("Subject", "x")
    return composer.message(part)


def check_lines(test, data):
    test.assertTrue(data.endswith(b"\r\n"))
    for line in data.split(b"\r\n"):
        test.assertNotIn(b"\r", line)
        test.assertNotIn(b"\n", line)
        test.assertLessEqual(len(line), 998)


class HeaderWriterTests(SynchronousTestCase):
    def test_folds_at_width(self):
        writer = HeaderWriter("X", width=12)
        writer.add("aaaa", "bbbb", "cccc")
        self.assertEqual(writer.data(), b"X: aaaa bbbb\r\n\tcccc\r\n")

    def test_long_token_stays_whole(self):
        writer = HeaderWriter("X")
        writer.add("a" * 100, "b")
        self.assertEqual(writer.data(), b"X: " + b"a" * 100 + b"\r\n\tb\r\n")

    def test_no_line_of_blanks_only(self):
        writer = HeaderWriter("X")
        writer.add("a")
        writer.newline()
        writer.newline()
        self.assertEqual(writer.data(), b"X: a\r\n")

    def test_controls_cannot_begin_a_field(self):
        writer = HeaderWriter("X")
        writer.add("a\r\nBcc: b", "\0")
        self.assertEqual(writer.data(), b"X: a??Bcc: b ?\r\n")

    def test_quoting(self):
        self.assertEqual(token_or_quoted(""), '""')
        self.assertEqual(token_or_quoted("a.b"), "a.b")
        self.assertEqual(token_or_quoted("a@b"), '"a@b"')
        self.assertEqual(token_or_quoted("a@b", address_like=True), "a@b")
        self.assertEqual(token_or_quoted('a"\\'), r'"a\"\\"')
        self.assertEqual(comment("a (b) \\"), r"(a \(b\) \\)")


class HeaderTests(SynchronousTestCase):
    def test_ascii_stays(self):
        self.assertEqual(text_header("Subject", "hi  there"), b"Subject: hi  there\r\n")
        self.assertEqual(text_header("Subject", ""), b"Subject:\r\n")

    def test_folds_at_blanks_which_stay(self):
        text = "word " * 30 + "  end"
        field = text_header("Subject", text)
        self.assertGreater(field.count(b"\r\n "), 1)
        self.assertEqual(unfold(field), text)

    def test_non_ascii(self):
        self.assertEqual(text_header("Subject", "hélène"), b"Subject: =?utf-8?b?aMOpbMOobmU=?=\r\n")
        self.assertEqual(text_header("Subject", "δοκ"), b"Subject: =?utf-8?b?zrTOv866?=\r\n")
        self.assertEqual(text_header("Subject", "hé", utf8=True), "Subject: hé\r\n".encode())

    def test_what_looks_like_an_encoded_word_is_encoded(self):
        text = "=?utf-8?q?x?="
        self.assertEqual(decode(unfold(text_header("Subject", text))), text)

    def test_long_words_are_encoded(self):
        for utf8 in (False, True):
            field = text_header("Subject", "x" * 5000, utf8=utf8)
            check_lines(self, field)
            self.assertEqual(decode(unfold(field)), "x" * 5000)

    def test_refused(self):
        for name, text in (
            ("Subject", "a\r\nBcc: x"), ("Subject", "a\0"), ("Subject", "a\tb"), ("Sub ject", "a"),
            ("", "a"), ("A:", "a"), ("é", "a"), ("A\r\n", "a"), ("Subject", "\ud800"),
            ("Subject", "\x7f"),
        ):  # fmt: skip
            with self.assertRaises(ComposeError, msg=repr((name, text))):
                text_header(name, text)

    @settings(max_examples=150, deadline=None)
    @given(PRINTABLE)
    def test_text_roundtrip(self, text):
        field = text_header("Subject", text)
        check_lines(self, field)
        self.assertEqual(field.count(b"\r\n"), field.count(b"\r\n ") + field.count(b"\r\n\t") + 1)
        self.assertEqual(decode(unfold(field)).strip(" "), text.strip(" "))

    def test_addresses(self):
        def field(*names, utf8=False):
            address = parse_address("u@bücher.example")
            return address_header("To", [NameAddress(n, address) for n in names], utf8=utf8)

        spec = b"<u@xn--bcher-kva.example>"
        self.assertEqual(field(""), b"To: " + spec + b"\r\n")
        self.assertEqual(field("A B"), b"To: A B " + spec + b"\r\n")
        self.assertEqual(field('A. "B"'), b'To: "A. \\"B\\"" ' + spec + b"\r\n")
        words = b"=?utf-8?q?Zo=C3=A9_Example=2C?= "
        self.assertEqual(field("Zoé Example,"), b"To: " + words + spec + b"\r\n")
        self.assertEqual(field("é,", utf8=True), 'To: "é," <u@bücher.example>\r\n'.encode())
        self.assertEqual(field("A", "B"), b"To: A " + spec + b", B " + spec + b"\r\n")
        for name in ("a\r\nb", "a\0"):
            with self.assertRaises(ComposeError):
                field(name)
        self.assertRaises(ComposeError, address_header, "To", [])

    @settings(max_examples=100, deadline=None)
    @given(st.lists(PRINTABLE, min_size=1, max_size=4))
    def test_address_names_roundtrip(self, names):
        address = parse_address("u@example.org")
        field = address_header("To", [NameAddress(name, address) for name in names])
        self.assertTrue(field.isascii())
        check_lines(self, field)
        read = email.utils.getaddresses([unfold(field).replace("\t", " ")])
        self.assertEqual(
            [(decode(name), spec) for name, spec in read],
            [(name, "u@example.org") for name in names],
        )

    def test_message_ids(self):
        self.assertEqual(message_ids_header("References", ["<a@b>", "<c>"]),
                         b"References: <a@b>\r\n\t<c>\r\n")  # fmt: skip
        for text in ("a@b", "<a b>", "<a\r\n>", "<>", "<é@b>", "<a@b> ", "<" + "x" * 1000 + ">"):
            with self.assertRaises(ComposeError, msg=text):
                message_ids_header("References", [text])

    def test_new_message_ids(self):
        text = message_id(parse_domain("bücher.example"))
        self.assertRegex(text, r"\A<[A-Za-z0-9_-]{22}@xn--bcher-kva\.example>\Z")
        self.assertNotEqual(text, message_id("xn--bcher-kva.example"))


class ParameterTests(SynchronousTestCase):
    def test_forms(self):
        def field(name):
            return content_header("Content-Disposition", "attachment", [("filename", name)])

        self.assertEqual(field("a.txt"), b"Content-Disposition: attachment; filename=a.txt\r\n")
        self.assertIn(b'; filename="a \\"b\\""\r\n', field('a "b"'))
        self.assertEqual(
            field("é.txt"), b"Content-Disposition: attachment; filename*=utf-8''%C3%A9.txt\r\n"
        )

    @settings(max_examples=150, deadline=None)
    @given(PRINTABLE.filter(bool))
    def test_filename_roundtrip(self, name):
        part = FilePart(b"x", name)
        data = make(MultiPart("mixed", (TextPart("t"), part)))
        check_lines(self, data)
        read = email.message_from_bytes(data).get_payload()[1]
        self.assertEqual(email.utils.collapse_rfc2231_value(read.get_param(
            "filename", header="content-disposition")), name)  # fmt: skip

    def test_content_types_of_clients(self):
        self.assertEqual(parse_content_type(""), ("application/octet-stream", []))
        self.assertEqual(
            parse_content_type('Text/Plain; Charset="a\\"b"; x=y ;'),
            ("text/plain", [("charset", 'a"b'), ("x", "y")]),
        )
        for text in ("text", "text/", "/x", "a/b\r\nX: y", "a/b; x", "a/b x", "é/b", "a/b/c",
                     "a/b;" * 500):  # fmt: skip
            with self.assertRaises(ComposeError, msg=text):
                parse_content_type(text)


class PartTests(SynchronousTestCase):
    def read(self, data):
        check_lines(self, data)
        return email.message_from_bytes(data, policy=email.policy.default)

    def test_text_encodings(self):
        for text, encoding, charset in (
            ("hi", "7bit", "us-ascii"),
            ("hé", "8bit", "utf-8"),
            ("x" * 999, "quoted-printable", "us-ascii"),
            ("é" * 500, "quoted-printable", "utf-8"),
            ("a\0b", "quoted-printable", "us-ascii"),
            ("x" * 998, "7bit", "us-ascii"),
        ):
            message = self.read(make(TextPart(text)))
            self.assertEqual(message["Content-Transfer-Encoding"], encoding)
            self.assertEqual(message.get_content_charset(), charset)
            self.assertEqual(message.get_content().rstrip("\r\n"), text)
        data = make(TextPart("hé"), eight_bit=False)
        self.assertIn(b"quoted-printable", data)
        self.assertTrue(data.isascii())

    @settings(max_examples=150, deadline=None)
    @given(st.text(st.characters(exclude_categories=["Cs"]), max_size=100), st.booleans())
    def test_text_roundtrip(self, text, eight_bit):
        message = self.read(make(TextPart(text), eight_bit=eight_bit))
        expected = text.replace("\r\n", "\n").replace("\r", "\n")
        payload = message.get_payload(decode=True).decode().replace("\r\n", "\n")
        self.assertEqual(payload, expected if expected.endswith("\n") else expected + "\n")

    def test_structure_only_as_far_as_needed(self):
        file = FilePart(b"\0\1", "a.bin", "application/x-a")
        image = FilePart(b"png", "i.png", "image/png", "inline", "<i@x>")
        self.assertEqual(assemble(text="t"), TextPart("t"))
        self.assertRaises(ComposeError, assemble, attached=[file])
        part = assemble(text="t", html="<b>", inline=[image], attached=[file])
        message = self.read(make(part))
        self.assertEqual(
            [p.get_content_type() for p in message.walk()],
            [
                "multipart/mixed", "multipart/related", "multipart/alternative",
                "text/plain", "text/html", "image/png", "application/x-a",
            ],
        )  # fmt: skip
        related = message.get_payload()[0]
        self.assertEqual(related.get_param("type"), "multipart/alternative")
        leaves = [p for p in message.walk() if not p.is_multipart()]
        self.assertEqual(leaves[2].get_content(), b"png")
        self.assertEqual(leaves[2]["Content-ID"], "<i@x>")
        self.assertEqual(leaves[2].get_content_disposition(), "inline")
        self.assertEqual(leaves[3].get_content(), b"\0\1")
        self.assertEqual(leaves[3].get_filename(), "a.bin")

    def test_missing_type_of_a_file(self):
        data = make(assemble(text="t", attached=[FilePart(b"x")]))
        self.assertIn(b"Content-Type: application/octet-stream\r\n", data)

    def test_attached_messages_are_not_encoded(self):
        def kinds(data, **options):
            message = self.read(make(assemble(text="t", attached=[
                FilePart(data, content_type="message/rfc822")]), **options))  # fmt: skip
            part = message.get_payload()[1]
            return part.get_content_type(), part["Content-Transfer-Encoding"]

        self.assertEqual(kinds(b"A: b\r\n\r\nx\r\n"), ("message/rfc822", "7bit"))
        utf8 = "A: b\r\n\r\né\r\n".encode()
        self.assertEqual(kinds(utf8), ("message/rfc822", "8bit"))
        self.assertEqual(kinds(utf8, eight_bit=False), ("application/octet-stream", "base64"))
        self.assertEqual(kinds(b"A: b\n\nx"), ("application/octet-stream", "base64"))

    def test_large_files_come_in_pieces(self):
        size = 3_000_000
        pieces = list(render(FilePart(bytes(size))))
        self.assertLess(max(map(len, pieces)), 1_400_000)
        body = b"".join(pieces[1:])
        self.assertEqual(body, base64_lines(bytes(size)))
        self.assertEqual(max(map(len, body.split(b"\r\n"))), 76)

    def test_raw(self):
        part = MultiPart("report", (RawPart(b"Content-Type: x/y\r\n", b"z\r\n"),))
        self.assertIn(b"\r\n\r\n--limit1\r\nContent-Type: x/y\r\n\r\nz\r\n\r\n--limit1--\r\n",
                      make(part))  # fmt: skip

    def test_bad_content_id(self):
        with self.assertRaises(ComposeError):
            make(FilePart(b"", content_id="a\r\nb"))
        with self.assertRaises(ComposeError):
            make(FilePart(b"", name="a\r\nb"))
