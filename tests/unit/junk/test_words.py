"""moxtw.junk.words, html and message: which words of a message count."""

from __future__ import annotations

import re
import time

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from moxtw.junk.html import html_text
from moxtw.junk.message import MAX_TEXT, words_of
from moxtw.junk.words import MAX_WORDS, ONEGRAMS, THREEGRAMS, TWOGRAMS, Words, counts


def words(text: str, ngrams: int = ONEGRAMS) -> list[str]:
    """The words of a text, in order."""
    found = Words(ngrams)
    found.text(text)
    return list(found.found)


class SameTests(SynchronousTestCase):
    """The quick way and the obvious one."""

    @given(
        st.lists(
            st.text("abcdfgst019'_ßö٣ ", max_size=9) | st.text(max_size=4), max_size=30
        )
    )
    @settings(max_examples=150, deadline=None)
    def test_any_text(self, parts: list[str]) -> None:
        text = " ".join(parts)
        found = re.findall(r"[^\W_]+(?:'[^\W_]+)*", text.lower())
        self.assertEqual(words(text), [w for w in dict.fromkeys(found) if counts(w)])


class CountsTests(SynchronousTestCase):
    """Which words count."""

    def test_table(self) -> None:
        """Short, numeric and random words do not count."""
        for word, expected in {
            "ab": False,
            "abc": True,
            "öl": True,  # three bytes
            "ß": False,
            "123": False,
            "٣٤٥٦": False,  # digits of another script
            "qwrtps": False,
            "qwrtpa": True,
            "qwrtp1s": True,  # 1 may stand for a letter
            "qwrtp2": False,
            "öqwrtps": True,  # not ASCII only
            "a1234": False,
            "z123": True,
            "abc123": False,
            "0x12f": True,  # two digits are few
            "0x123": False,
            "0xz123": True,
            "ab12": True,
            "don't": True,
        }.items():
            self.assertEqual(counts(word), expected, word)


class WordsTests(SynchronousTestCase):
    """Words, pairs and triplets of texts."""

    def test_separators(self) -> None:
        """All but letters and digits separates; apostrophes only at the ends of words."""
        self.assertEqual(
            words("Hello, WORLD_wide 'quoted' don't half-time straße"),
            ["hello", "world", "wide", "quoted", "don't", "half", "time", "straße"],
        )

    def test_a_set(self) -> None:
        """A word counts once."""
        self.assertEqual(words("one two ONE two"), ["one", "two"])

    def test_groups(self) -> None:
        """Words that do not count do not interrupt pairs and triplets."""
        self.assertEqual(words("red of green 12 blue", TWOGRAMS), ["red green", "green blue"])
        self.assertEqual(words("red of green 12 blue", THREEGRAMS), ["red green blue"])
        self.assertEqual(
            words("red green", ONEGRAMS | TWOGRAMS | THREEGRAMS), ["red", "red green", "green"]
        )
        self.assertEqual(words("red green blue", 0), [])

    def test_long_texts(self) -> None:
        """Looked at in pieces, without dividing a word or a pair."""
        text = " ".join(f"word{chr(97 + n // 26 % 26)}{chr(97 + n % 26)}" for n in range(40_000))
        whole = list(dict.fromkeys(text.split()))
        self.assertEqual(words(text), whole)
        self.assertEqual(len(words(text, TWOGRAMS)), len(whole))

    def test_bounds(self) -> None:
        """Very many words, and huge ones."""
        names = ["".join(chr(97 + n // 20**k % 20) for k in range(4)) + "a" for n in range(30_000)]
        self.assertEqual(words(" ".join(names)), [n for n in names if counts(n)][:MAX_WORDS])
        self.assertEqual(words("ab" * 20_000), [])
        self.assertEqual(words(("ao" * 10_000) + " word"), ["ao" * 10_000, "word"])
        self.assertEqual(words("ao" * 10_000 + " " + "ea" * 10_000, TWOGRAMS), [])

    @given(st.text(max_size=300), st.integers(0, 7))
    @settings(max_examples=100, deadline=None)
    def test_any_text(self, text: str, ngrams: int) -> None:
        """Whatever the text, words are such that count."""
        for key in words(text, ngrams):
            for word in key.split(" "):
                self.assertTrue(counts(word), word)


class HTMLTests(SynchronousTestCase):
    """Text of HTML."""

    def test_table(self) -> None:
        """Tags vanish without leaving a gap; scripts, styles and pictures with their text."""
        for html, text in {
            "plain": "plain",
            "<p>Hel<b>l</b>o</p>": "Hello",
            "one<br>two <i>three</i>": "onetwo three",
            "a &amp; b&nbsp;c &#65;&#x42; &copy; &#99999999;": "a & b\xa0c AB © &#99999999;",
            "<script>if (a<b) '</b>'</script>x<STYLE>p{}</style>y": "xy",
            "<svg>no<g>yes</g>no</svg>end": "yesend",
            '<img src=x alt="a > b">z<img alt=c>': "a > bzc",
            "<img alt>x": "x",
            '<a title="1 > 2" href=\'<b>\'>link</a>': "link",
            "<!-- <b>no</b> -->x<!DOCTYPE html>y<?php z ?>!": "xy!",
            "1 < 2 <3": "1 < 2 <3",
            "<svg/>text": "text",
            "<svg><br>no</svg>yes": "yes",
            "<svg>no</p>no</svg>yes": "yes",
            "x<b never ends": "x",
            "x<!-- never ends": "x",
            "x<script>never ends": "x",
        }.items():
            self.assertEqual(html_text(html), text, html)

    def test_hostile(self) -> None:
        """In time linear in the length."""
        for unit in ('<a "', "<", "<a b='", "<svg>", "</a>", "<!--", "&#", "<script>", "<img alt="):
            text = unit * (300_000 // len(unit))
            begun = time.process_time()
            html_text(text)
            self.assertLess(time.process_time() - begun, 1.5, unit)

    @given(st.text(alphabet="<>/!-&;\"' abgimsvltcrp=#x1", max_size=200))
    @settings(max_examples=200, deadline=None)
    def test_any_text(self, text: str) -> None:
        """Never fails, never gets longer."""
        self.assertLessEqual(len(html_text(text)), len(text))


MULTIPART = b"""\
From: "Some One" <someone@example.org>\r
To: you@example.com\r
To: other@example.com\r
Subject: Big =?utf-8?q?sale?= of\r
 sofas\r
X-Other: ignored\r
Content-Type: multipart/mixed; boundary=B\r
\r
preamble\r
--B\r
\r
untyped text\r
--B\r
Content-Type: text/html; charset=iso-8859-1\r
Content-Transfer-Encoding: quoted-printable\r
\r
<p>gr=FCne <b>Wie</b>se</p>\r
--B\r
Content-Type: text/calendar\r
\r
summary\r
--B\r
Content-Type: image/png\r
\r
picture\r
--B\r
Content-Type: message/rfc822\r
\r
Subject: embedded subject\r
Content-Type: text/plain; charset=utf-8\r
Content-Transfer-Encoding: base64\r
\r
aW5uZXIgdGV4dA==\r
--B--\r
"""


class MessageTests(SynchronousTestCase):
    """Words of messages."""

    def test_sources(self) -> None:
        """Some header fields, all text parts, embedded messages without their header."""
        found = words_of(MULTIPART, ONEGRAMS)
        self.assertEqual(
            found.words,
            (
                "From:some",
                "From:someone",
                "From:example",
                "To:example",
                "To:other",
                "Subject:sale",
                "Subject:sofas",
                "untyped",
                "text",
                "grüne",
                "wiese",
                "summary",
                "inner",
            ),
        )
        self.assertFalse(found.malformed)

    def test_prefix(self) -> None:
        """Header lines in front count too."""
        found = words_of(
            b"Subject: hello\r\n\r\nbody\r\n",
            ONEGRAMS,
            prefix=b"Return-Path: <sender@example.org>\r\nReceived: from example\r\n",
        )
        self.assertEqual(
            found.words,
            ("Return-Path:sender", "Return-Path:example", "Subject:hello", "body"),
        )

    def test_malformed_content_type(self) -> None:
        """Told, and the words are still there."""
        found = words_of(b"Content-Type: ;;nonsense\r\n\r\nsome text\r\n", ONEGRAMS)
        self.assertTrue(found.malformed)
        self.assertEqual(found.words, ("some", "text"))

    def test_hostile(self) -> None:
        """Many parts, deep nesting, huge texts and binary junk end soon."""
        parts = b"Content-Type: multipart/mixed; boundary=B\r\n\r\n"
        parts += b"--B\r\n\r\nword\r\n" * 10_000
        deep = b"".join(
            b"Content-Type: multipart/mixed; boundary=%d\r\n\r\n--%d\r\n" % (n, n)
            for n in range(5000)
        )
        text = b"Subject: x\r\n\r\n" + b"lorem ipsum dolor\r\n" * 500_000
        for data in (parts, deep, text, bytes(range(256)) * 8000, b"", b"To: a\r\n" * 50_000):
            begun = time.process_time()
            found = words_of(data, ONEGRAMS | TWOGRAMS | THREEGRAMS)
            self.assertLess(time.process_time() - begun, 3)
            self.assertLessEqual(len(found.words), MAX_WORDS)

    def test_only_so_much_text(self) -> None:
        """What comes after much text is not looked at."""
        data = b"\r\n" + b"word " * (MAX_TEXT // 5) + b" behind"
        self.assertEqual(words_of(data, ONEGRAMS).words, ("word",))

    @given(st.binary(max_size=400), st.integers(0, 7))
    @settings(max_examples=100, deadline=None)
    def test_any_bytes(self, data: bytes, ngrams: int) -> None:
        """Never fails."""
        self.assertEqual(words_of(data, ngrams), words_of(data, ngrams))
