"""moxtw.junk.score, against numbers computed by hand."""

from __future__ import annotations

import math

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from moxtw.config.accounts import JunkParams
from moxtw.junk.score import (
    Classification,
    WordScore,
    classify_words,
    ngram_bits,
    probability,
    word_score,
)

USUAL = JunkParams(
    onegrams=True, max_power=0.01, top_words=10, ignore_words=0.1, rare_words=2
)


class WordScoreTests(SynchronousTestCase):
    """Single words."""

    def test_by_hand(self) -> None:
        """Shares of both kinds, the clamp, and the weakening of rare words."""
        # 30 of 200 junk messages against 10 of 100 others: 0.15 / 0.25.
        self.assertAlmostEqual(word_score(USUAL, 10, 30, 100, 200) or 0, 0.6)
        # Only in junk: 1, clamped to 0.99; only in others: 0.01.
        self.assertAlmostEqual(word_score(USUAL, 0, 5, 100, 100) or 0, 0.99)
        self.assertAlmostEqual(word_score(USUAL, 5, 0, 100, 100) or 0, 0.01)
        # Seen twice: 0.99 + (1 + 2 - 2) * (0.5 - 0.99) / 10.
        self.assertAlmostEqual(word_score(USUAL, 0, 2, 100, 100) or 0, 0.941)
        # Seen once: 0.01 + (1 + 2 - 1) * (0.5 - 0.01) / 10.
        self.assertAlmostEqual(word_score(USUAL, 1, 0, 100, 100) or 0, 0.108)
        # No message of one kind.
        self.assertAlmostEqual(word_score(USUAL, 5, 0, 100, 0) or 0, 0.01)
        self.assertIsNone(word_score(USUAL, 0, 0, 100, 100))
        self.assertIsNone(word_score(USUAL, 1, 1, 0, 0))

    @given(st.integers(0, 50), st.integers(0, 50), st.integers(50, 99), st.integers(50, 99))
    @settings(max_examples=100, deadline=None)
    def test_between_the_clamps(self, ham: int, spam: int, hams: int, spams: int) -> None:
        """The clamp holds, and the kinds are treated alike."""
        score = word_score(USUAL, ham, spam, hams, spams)
        other = word_score(USUAL, spam, ham, spams, hams)
        if score is None or other is None:
            self.assertEqual((ham, spam), (0, 0))
            return
        self.assertTrue(0.01 <= score <= 0.99)
        self.assertAlmostEqual(score, 1 - other)


class ClassifyTests(SynchronousTestCase):
    """Messages."""

    def test_by_hand(self) -> None:
        """Two words for junk, one against, one that says nothing."""
        found = classify_words(
            USUAL,
            {"viagra": (0, 50), "offer": (10, 40), "meeting": (30, 10), "the": (50, 50)},
            100,
            100,
            7,
        )
        # offer: 0.4 / 0.5 = 0.8; meeting: 0.1 / 0.4 = 0.25.
        self.assertEqual([w.word for w in found.spam], ["viagra", "offer"])
        self.assertEqual([w.word for w in found.ham], ["meeting"])
        product = 0.99 * 0.8 * 0.25
        inverse = 0.01 * 0.2 * 0.75
        self.assertAlmostEqual(found.probability, product / (product + inverse))
        self.assertAlmostEqual(found.probability, 0.1980 / 0.1995, places=6)
        self.assertEqual((found.words, found.known, found.significant), (7, 4, True))

    def test_rare_word_by_hand(self) -> None:
        """One word seen twice, in junk."""
        found = classify_words(USUAL, {"word": (0, 2)}, 49, 10)
        self.assertAlmostEqual(found.probability, 0.941)
        self.assertEqual(found.spam[0].word, "word")
        self.assertFalse(found.significant)

    def test_nothing_known(self) -> None:
        """A message without known words is undecided."""
        self.assertEqual(classify_words(USUAL, {}, 0, 0), Classification(0.5))
        self.assertEqual(classify_words(USUAL, {"word": (0, 0)}, 9, 9).probability, 0.5)

    def test_top_words(self) -> None:
        """The strongest of each side; of equally strong ones the longer."""
        params = JunkParams(onegrams=True, max_power=0.01, top_words=2, rare_words=0)
        counted = {"aaa": (0, 9), "bbbb": (0, 9), "ccccc": (0, 9), "dddddd": (1, 9)}
        counted |= {"eee": (9, 3), "ffff": (9, 1), "ggggg": (9, 0)}
        found = classify_words(params, counted, 10, 10)
        self.assertEqual(found.spam, (WordScore("ccccc", 0.99), WordScore("bbbb", 0.99)))
        self.assertEqual([w.word for w in found.ham], ["ggggg", "ffff"])
        none = JunkParams(onegrams=True, max_power=0.01, top_words=0)
        self.assertEqual(classify_words(none, counted, 10, 10).probability, 0.5)

    def test_certain_words(self) -> None:
        """Without a clamp nothing overflows, on either side and on both."""
        params = JunkParams(onegrams=True, max_power=0.0, top_words=100)
        junk = {f"junk{n}": (0, 9) for n in range(100)}
        good = {f"good{n}": (9, 0) for n in range(100)}
        self.assertAlmostEqual(classify_words(params, junk, 10, 10).probability, 1)
        self.assertAlmostEqual(classify_words(params, good, 10, 10).probability, 0)
        both = classify_words(params, junk | good, 10, 10).probability
        self.assertAlmostEqual(both, 0.5, places=2)

    def test_probability(self) -> None:
        """The logistic function."""
        self.assertEqual(probability(0.0), 0.5)
        self.assertAlmostEqual(probability(math.log(3)), 0.25)
        self.assertEqual(probability(10_000), 0)
        self.assertEqual(probability(-10_000), 1)

    def test_ngram_bits(self) -> None:
        """A bit for each kind."""
        self.assertEqual(ngram_bits(USUAL), 1)
        self.assertEqual(ngram_bits(JunkParams(twograms=True, threegrams=True)), 6)
