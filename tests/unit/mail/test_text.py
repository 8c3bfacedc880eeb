"""Tests of moxtw.mail.text and moxtw.mail.preview."""

import base64

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from moxtw.mail.mime import parse_message
from moxtw.mail.preview import MAX_PREVIEW, html_preview, plain_preview
from moxtw.mail.text import (
    MAX_SEARCH_TEXT,
    PREVIEW_REACH,
    folded,
    part_text,
    preview,
    search_text,
)
from tests.unit.mail.test_mime import COMPLEX, FORWARD, crlf, messages


def search(data: bytes, limit: int = MAX_SEARCH_TEXT) -> tuple[bytes, bytes]:
    """Search text of a message."""
    return search_text(parse_message(data), data, limit)


def short(data: bytes) -> str:
    """Preview of a message."""
    return preview(parse_message(data), data)


class PlainPreviewTests(SynchronousTestCase):
    """Plain text."""

    def test_table(self) -> None:
        for text, expected in [
            ("", ""),
            ("\n \r\n\t\n", ""),
            ("hello\r\n", "hello"),
            ("hello\r\n\r\n  big\tworld \r\n", "hello big world"),
            ("no line end", "no line end"),
            ("> quoted\nanswer\n", "[...] answer"),
            ("answer\n\n> quoted\n> more\n\n> again\nmore\n", "answer [...] more"),
            (">> deep\n>\n> x\nanswer\n> y\n", "[...] answer [...]"),
            ("  > indented\nanswer\n", "[...] answer"),
            ("answer\n\nOn Monday, Joe wrote:\n> quoted\n", "answer [...]"),
            ("answer\n\nOn Monday, Joe wrote:\n\n> quoted\n", "answer [...]"),
            ("On Mon, 1 Jan 2024 at 10:00, Joe Doe\n<joe@x.y> wrote:\n> quoted\nyes", "[...] yes"),
            ("See the list:\n> item\n", "See the list: [...]"),
            ("Am 01.01.24 schrieb Joe:\n> Hallo\nJa.\n", "[...] Ja."),
            ("[...]\nanswer\n[\u2026]\n> x", "[...] answer [...]"),
            ("text\n-- \nJoe\n", "text"),
            ("text\r\n-- \r\nJoe\r\n", "text"),
            ("text\n--\nJoe\n", "text -- Joe"),
            ("text\n--- \nJoe\n", "text --- Joe"),
            ("-- \nJoe\n", ""),
            ("text\n-----Original Message-----\nFrom: x\n", "text [...]"),
            ("a\u00adb\u200bc\ufeff \u00a0 d", "abc d"),
            ("a\0b\x07c", "abc"),
            ("x" * 300, "x" * MAX_PREVIEW),
            ("ä " * 300, ("ä " * 128).rstrip()),
            ("-----BEGIN PGP SIGNED MESSAGE-----\r\nHash: SHA256\r\n\r\nhello\r\n"
             "-----BEGIN PGP SIGNATURE-----\r\n\r\nabc\r\n", "hello"),
        ]:  # fmt: skip
            self.assertEqual(plain_preview(text), expected, text)

    def test_long_quote_before_the_answer(self) -> None:
        data = b"\r\n" + b"> quoted text\r\n" * 40000 + b"answer\r\n"
        self.assertEqual(short(data), "[...] answer")

    @given(
        st.lists(
            st.sampled_from(
                ["a", ">", " ", "\n", "\r\n", "-- ", "On 1", "wrote:", "[...]", "\0", "ä"]
            ),
            max_size=40,
        ).map("".join)
    )
    @settings(max_examples=200, deadline=None)
    def test_is_one_trimmed_line(self, text: str) -> None:
        for make in (plain_preview, html_preview):
            result = make(text)
            self.assertLessEqual(len(result), MAX_PREVIEW)
            self.assertEqual(result, " ".join(result.split()))
            if "[...]" not in text:
                self.assertNotIn("[...] [...]", result)


class HTMLPreviewTests(SynchronousTestCase):
    """HTML."""

    def test_table(self) -> None:
        for text, expected in [
            ("", ""),
            ("hello", "hello"),
            ("<p>hello</p><p>world</p>", "hello world"),
            ("<p>he<b>ll</b>o</p>", "hello"),
            ("a<br>b<br/>c", "a b c"),
            ("<html><head><title>t</title><style>p { x }</style></head><body>x</body>", "x"),
            ("<STYLE type=x>a</Style>b<script>c<d></script>e", "be"),
            ("a<!-- b <p> -->c", "ac"),
            ("a<!-- b", "a"),
            ("a<style>b", "a"),
            ("<!DOCTYPE html><?xml x?>a", "a"),
            ("a &lt;b&gt; &amp;&nbsp;&auml;&#228;&#xe4;", "a <b> & äää"),
            ("&unknown; &#0;&#xd800;&#9999999; &amp", "&unknown; \ufffd\ufffd\ufffd &"),
            ("&#99999999999999999999;", "&#99999999999999999999;"),
            ("1 < 2 and <3", "1 < 2 and <3"),
            ("<p title='a'>x</p", "x</p"),
            ("<blockquote>old</blockquote>new", "[...] new"),
            ("new<blockquote>old<blockquote>older</blockquote>old</blockquote>", "new [...]"),
            ("<div>ok</div><div>On Monday, Joe wrote:<br></div><blockquote>old", "ok [...]"),
            ("a</blockquote>b", "a b"),
            ("a<div>-- <br>Joe</div>", "a"),
            ("a\r\n  b\tc", "a b c"),
            ("<p>" + "x" * 400, "x" * MAX_PREVIEW),
        ]:
            self.assertEqual(html_preview(text), expected, text)

    def test_head_of_a_newsletter(self) -> None:
        data = crlf("Content-Type: text/html\n\n<style>" + "p { a: b }\n" * 30000 + "</style>news")
        self.assertEqual(short(data), "news")


class PreviewTests(SynchronousTestCase):
    """Which part is taken."""

    def _parts(self, kind: str, *parts: str, header: str = "") -> bytes:
        return crlf(
            f"Content-Type: multipart/{kind}; boundary=b\n{header}\n"
            + "".join(f"--b\n{part}\n" for part in parts)
            + "--b--\n"
        )

    def test_first_text(self) -> None:
        plain = "Content-Type: text/plain\n\nplain"
        html = "Content-Type: text/html\n\n<p>html</p>"
        image = "Content-Type: image/png\n\npng"
        attached = "Content-Type: text/plain\nContent-Disposition: attachment\n\nattached"
        self.assertEqual(short(self._parts("alternative", plain, html)), "plain")
        self.assertEqual(short(self._parts("alternative", html, plain)), "html")
        self.assertEqual(short(self._parts("mixed", image, html)), "html")
        self.assertEqual(short(self._parts("mixed", attached, plain)), "plain")
        self.assertEqual(short(self._parts("mixed", attached)), "")
        self.assertEqual(short(self._parts("mixed", image)), "")
        self.assertEqual(short(self._parts("mixed", "\n \n", html)), "html")
        self.assertEqual(short(self._parts("signed", image, plain)), "")
        self.assertEqual(short(self._parts("signed", plain, image)), "plain")
        self.assertEqual(short(self._parts("encrypted", plain, plain)), "")
        self.assertEqual(
            short(self._parts("mixed", "Content-Type: message/rfc822\n\n\nx", html)), "html"
        )
        self.assertEqual(short(self._parts("mixed", "Content-Type: text/calendar\n\nx")), "")

    def test_encrypted_text(self) -> None:
        data = crlf("Subject: x\n\n-----BEGIN PGP MESSAGE-----\n\nabc\n")
        self.assertEqual(short(data), "")

    def test_encodings(self) -> None:
        data = crlf(
            "Content-Type: text/plain; charset=iso-8859-1\n"
            "Content-Transfer-Encoding: quoted-printable\n\n=E4=\n=F6"
        )
        self.assertEqual(short(data), "äö")
        data = (
            b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n"
            + base64.encodebytes("ä\u20ac".encode())
        )
        self.assertEqual(short(data), "ä€")
        data = (
            b"Content-Type: text/plain; charset=bad\r\nContent-Transfer-Encoding: bad\r\n\r\n\xe4"
        )
        self.assertEqual(short(data), "ä")

    def test_text_beyond_the_reach_is_not_looked_at(self) -> None:
        image = "Content-Type: image/png\n\n" + "x" * PREVIEW_REACH
        self.assertEqual(short(self._parts("mixed", image, "\ntext")), "")
        data = b"Subject: x\r\n\r\n" + b"> q\r\n" * (PREVIEW_REACH // 5) + b"answer"
        self.assertEqual(short(data), "[...]")

    def test_complex(self) -> None:
        self.assertEqual(short(COMPLEX), "... Some text appears here ...")
        self.assertEqual(short(FORWARD), "1")


class SearchTests(SynchronousTestCase):
    """Text for word search."""

    def test_simple(self) -> None:
        self.assertEqual(
            search(b"Subject: Hello\r\n World\r\nX: Y\r\n\r\nSome Text\r\n"),
            (b"subject: hello world\r\nx: y\r\n\r\n", b"some text\r\n"),
        )

    def test_folds_all_scripts(self) -> None:
        header, body = search("Subject: GROẞ ÄÖ\r\n\r\nSTRASSE Straße ΣΑΣ\r\n".encode())
        self.assertEqual(header, folded("subject: gross äö\r\n\r\n"))
        # Decomposed: what an accent was put on is found without it.
        self.assertIn("a\u0308o\u0308".encode(), header)
        self.assertEqual(body.decode(), "strasse strasse σασ\r\n")

    def test_words_and_folds_in_headers(self) -> None:
        header, _ = search(
            b"Subject: =?utf-8?q?=C3=84?=\r\n =?utf-8?q?=C3=96?= X\n\tY\r\nFrom: \xc4@b\r\n\r\n"
        )
        self.assertEqual(header, folded("subject: äö x y\r\nfrom: ä@b\r\n\r\n"))

    def test_all_text_parts(self) -> None:
        data = crlf(
            """\
Content-Type: multipart/mixed; boundary=b

preamble
--b
Content-Type: text/plain; charset=iso-8859-1
Content-Transfer-Encoding: quoted-printable

=C4 lo=
ng
--b
Content-Type: text/html
Content-Disposition: attachment

<B>Source</B>
--b
Content-Type: application/pdf

PDF
--b
Content-Type: message/rfc822

Subject: Inner
Content-Type: text/x-any

Body
--b--
"""
        )
        _, body = search(data)
        self.assertEqual(
            body,
            folded(
                "ä long\n<b>source</b>\nsubject: inner\r\ncontent-type: text/x-any\r\n\r\n\nbody"
            ),
        )

    def test_fields_of_parts(self) -> None:
        data = crlf(
            """\
Subject: Outer
Content-Type: multipart/mixed; boundary=b

--b
Content-Type: application/pdf
Content-Description: =?utf-8?q?=C3=84?=
Content-Disposition: attachment;
 filename*=utf-8''R%C3%A9sum%C3%A9.pdf

PDF
--b

plain
--b
Content-Type: message/rfc822

Subject: Inner
Content-Type: multipart/mixed; boundary=c

--c
X-Part: y

text
--c--
--b
Content-Type: message/delivery-status

Final-Recipient: rfc822; X@B.example
--b--
"""
        )
        header, body = search(data)
        self.assertEqual(
            header,
            folded(
                "subject: outer\r\ncontent-type: multipart/mixed; boundary=b\r\n\r\n"
                "\tcontent-type: application/pdf\r\n\tcontent-description: ä\r\n"
                "\tcontent-disposition: attachment; filename*=utf-8''r%c3%a9sum%c3%a9.pdf\r\n"
                "\trésumé.pdf\r\n\tcontent-type: message/rfc822\r\n\tx-part: y\r\n"
                "\tcontent-type: message/delivery-status\r\n"
            ),
        )
        self.assertIn(b"final-recipient: rfc822; x@b.example", body)
        self.assertNotIn(b"application/pdf", body)

    def test_fields_of_parts_are_bounded(self) -> None:
        part = b"--b\r\nContent-Type: text/plain\r\nX-Y: " + b"y" * 1000 + b"\r\n\r\nz\r\n"
        data = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + part * 1000 + b"--b--\r\n"
        header, body = search(data)
        self.assertLess(len(header), 100 + (64 << 10))
        self.assertEqual(body.count(b"z"), 1000)

    def test_charset_where_ascii_bytes_are_not_ascii(self) -> None:
        data = b"Content-Type: text/plain; charset=iso-2022-jp\r\n\r\n" + "日本".encode(
            "iso2022_jp"
        )
        self.assertEqual(search(data)[1].decode(), "日本")
        data = b"Content-Type: text/plain; charset=utf-7\r\n\r\n+AMQ-"
        self.assertEqual(search(data)[1], folded("ä"))

    def test_length_is_bounded(self) -> None:
        self.assertEqual(search(b"\r\n" + b"X" * 1000, 100)[1], b"x" * 100)
        # Cut at a character, after growing by case folding.
        body = search(b"\r\n" + "ŉ".encode() * 1000, 100)[1]
        self.assertEqual(body.decode(), ("ʼn" * 34)[: len(body.decode())])
        self.assertIn(len(body), (98, 99, 100))
        data = crlf(
            "Content-Type: multipart/mixed; boundary=b\n\n" + f"--b\n\n{'x' * 60}\n" * 5 + "--b--"
        )
        self.assertEqual(search(data, 100)[1], b"x" * 60 + b"\n" + b"x" * 39)
        data = b"Content-Transfer-Encoding: base64\r\n\r\n" + base64.encodebytes(b"Y" * 1000)
        self.assertEqual(search(data, 100)[1], b"y" * 100)

    def test_part_text(self) -> None:
        data = b"Content-Transfer-Encoding: base64\r\n\r\nw6TDtg=="
        self.assertEqual(part_text(parse_message(data), data), "äö")
        self.assertEqual(part_text(parse_message(data), data, 4), "ä\ufffd")

    @given(messages)
    @settings(max_examples=200, deadline=None)
    def test_is_always_utf8(self, data: bytes) -> None:
        header, body = search(data)
        self.assertEqual(header.decode().casefold().encode(), header)
        self.assertEqual(body.decode().casefold().encode(), body)
        short(data).encode("utf-8")
