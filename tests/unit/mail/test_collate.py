"""Comparison of text: i;unicode-casemap, and the form for searches, which agrees with it."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from moxtw.mail.collate import casemap
from moxtw.mail.text import folded

# All characters but surrogates.
CHARACTERS = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]


class CollateTests(SynchronousTestCase):
    def test_table(self) -> None:
        for one, other in (
            ("a", "A"),
            ("\u00e4", "\u00c4"),
            ("\u00e4", "A\u0308"),
            ("\u03c3", "\u03c2"),
            ("\u01c6", "\u01c4"),
            ("\u0131", "I"),
            ("\uff21", "a"),
            ("\u0434", "\u0414"),
        ):
            self.assertEqual(casemap(one), casemap(other))
        # Simple mappings only, and before the decomposition (RFC 5051 2).
        self.assertEqual(casemap("\ufb01"), b"fi")
        self.assertNotEqual(casemap("\u00df"), casemap("ss"))
        self.assertLess(casemap("A"), casemap("a\u0308"))
        self.assertLess(casemap("\u00e4"), casemap("B"))

    def test_what_compares_equal_is_found(self) -> None:
        groups: dict[bytes, bytes] = {}
        for char in CHARACTERS:
            self.assertEqual(groups.setdefault(casemap(char), folded(char)), folded(char), char)

    @given(st.text(), st.text())
    @settings(max_examples=200, deadline=None)
    def test_texts(self, one: str, other: str) -> None:
        for text in (one, other, one + other):
            self.assertEqual(folded(folded(text).decode()), folded(text))
        # A part of a text is found in it.
        if one.isascii():
            self.assertIn(folded(one), folded(one + other))

    def test_surrogates_do_not_matter(self) -> None:
        casemap("\udcff")
        folded("\udcff")
