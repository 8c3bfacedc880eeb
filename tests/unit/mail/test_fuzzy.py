"""Texts that are nearly the same."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from moxtw.mail import fuzzy
from moxtw.mail.fuzzy import Needle, distance, pieces, subject_first, words
from moxtw.mail.text import folded


def score(needle: str, text: str) -> int:
    return Needle(needle).score([(1.0, folded(text))])


def naive(a: str, b: str) -> int:
    """Optimal string alignment, without limit."""
    rows = [[i + j if not i or not j else 0 for j in range(len(b) + 1)] for i in range(len(a) + 1)]
    for i in range(1, len(a) + 1):
        for j in range(1, len(b) + 1):
            rows[i][j] = min(
                rows[i - 1][j] + 1,
                rows[i][j - 1] + 1,
                rows[i - 1][j - 1] + (a[i - 1] != b[j - 1]),
            )
            if i > 1 and j > 1 and a[i - 1] == b[j - 2] and a[i - 2] == b[j - 1]:
                rows[i][j] = min(rows[i][j], rows[i - 2][j - 2] + 1)
    return rows[-1][-1]


LETTERS = st.text("abc", max_size=9)


class FuzzyTests(SynchronousTestCase):
    def test_fits(self) -> None:
        for needle, text in (
            ("helo", "hello world"),
            ("helo", "help!"),
            ("IMAP server", "a server for imap"),
            ("recieve", "to receive"),
            ("adress", "my address"),
            ("internationalisation", "internationalization"),
            ("searching", "Search"),
            ("search", "researching"),
            ("resume", "the r\u00e9sum\u00e9"),
            ("r\u00e9sum\u00e9", "resume"),
            ("strasse", "Hauptstra\u00dfe"),
            ("\u6771\u4eac", "\u6771\u4eac\u90fd"),
            ("ab", "ab"),
        ):
            self.assertGreater(score(needle, text), 0, (needle, text))

    def test_does_not_fit(self) -> None:
        for needle, text in (
            ("helo", "yellow"),
            ("cat", "cut"),
            ("IMAP server", "imap client"),
            ("banana", "bandit"),
            ("ab", "a b"),
            ("ab", "cabbage"),
            ("alpha", ""),
        ):
            self.assertEqual(score(needle, text), 0, (needle, text))

    def test_better_is_more(self) -> None:
        texts = (
            "meeting agenda, the meeting agenda, a meeting agenda, meeting agenda",
            "meeting agenda",
            "agenda of the meeting",
            "meetings with agendas",
            "meetign agenta",
        )
        found = [score("meeting agenda", text) for text in texts]
        self.assertEqual(found, sorted(set(found), reverse=True))
        self.assertEqual(found[0], 100)
        self.assertLess(found[-1], 60)
        subject = Needle("lunch").score(subject_first(b"to: x\nsubject: lunch\n"))
        other = Needle("lunch").score(subject_first(b"to: lunch\nsubject: x\n"))
        self.assertLess(0, other)
        self.assertLess(other, subject)

    @settings(max_examples=200, deadline=None)
    @given(LETTERS, LETTERS)
    def test_distance(self, a: str, b: str) -> None:
        for limit in (1, 2):
            self.assertEqual(min(distance(a, b, limit), limit + 1), min(naive(a, b), limit + 1))

    @settings(max_examples=200, deadline=None)
    @given(st.text("abcdefgh", min_size=6, max_size=14), st.data())
    def test_pieces_are_in_words_with_errors(self, word: str, data: st.DataObject) -> None:
        changed = list(word)
        for _ in range(1 if len(word) < 9 else 2):
            place = data.draw(st.integers(0, len(changed) - 1))
            changed[place : place + data.draw(st.integers(0, 1))] = data.draw(
                st.sampled_from(["", "x", "a"])
            )
        found = "".join(changed)
        self.assertTrue(any(piece in found for piece in pieces(word)), found)
        self.assertGreater(score(word, found), 0)

    @settings(max_examples=200, deadline=None)
    @given(st.text(), st.binary())
    def test_anything(self, needle: str, text: bytes) -> None:
        found = Needle(needle).score([(1.0, text)])
        self.assertTrue(0 <= found <= 100)

    def test_bounds(self) -> None:
        self.assertEqual(len(words(" ".join(f"word{n}" for n in range(100)))), fuzzy.MAX_WORDS)
        self.assertEqual(words("x" * 5000), ["x" * fuzzy.MAX_LETTERS])
        self.assertEqual(words("?! _"), [])
        self.assertGreater(score("abcdefgh", "abcd" * 100_000 + " abcdefgh"), -1)
