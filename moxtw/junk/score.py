"""How likely a message is junk, by the counts of its words."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from heapq import nsmallest
from typing import Final

from moxtw.config.accounts import JunkParams
from moxtw.junk.words import ONEGRAMS, THREEGRAMS, TWOGRAMS

SIGNIFICANT: Final = 50
"""Messages that are no junk from which on the filter knows enough to be asked."""

# MaxPower may be 0; the logarithm of 0 is no number to add.
_NEVER: Final = 1e-12


@dataclass(frozen=True, slots=True)
class WordScore:
    """A word and how much it speaks for junk, between 0 and 1."""

    word: str
    score: float


@dataclass(frozen=True, slots=True)
class Classification:
    """What the filter says of a message.

    probability: that it is junk; words: how many different ones it has; known: how many of them
    the filter knows; ham, spam: those that decided, strongest first; significant: whether the
    filter has seen enough to be asked.
    """

    probability: float
    words: int = 0
    known: int = 0
    ham: tuple[WordScore, ...] = ()
    spam: tuple[WordScore, ...] = ()
    significant: bool = False


def ngram_bits(params: JunkParams) -> int:
    """Which groups of words the parameters ask for, as in `moxtw.junk.words`."""
    return (
        (ONEGRAMS if params.onegrams else 0)
        | (TWOGRAMS if params.twograms else 0)
        | (THREEGRAMS if params.threegrams else 0)
    )


def word_score(params: JunkParams, ham: int, spam: int, hams: int, spams: int) -> float | None:
    """How much a word speaks for junk; None if nothing is known.

    ham and spam: in how many messages of each kind it was; hams and spams: messages of each.
    """
    in_spam = spam / spams if spams > 0 else 0.0
    in_ham = ham / hams if hams > 0 else 0.0
    if in_spam + in_ham <= 0:
        return None
    score = in_spam / (in_spam + in_ham)
    least = params.max_power
    if score < least:
        score = least
    elif score > 1 - least:
        score = 1 - least
    seen = ham + spam
    if seen <= params.rare_words:
        score += (1 + params.rare_words - seen) * (0.5 - score) / 10
    return score


def classify_words(
    params: JunkParams,
    counts: Mapping[str, tuple[int, int]],
    hams: int,
    spams: int,
    words: int = 0,
) -> Classification:
    """Score a message by those of its words that have been counted, as (ham, spam)."""
    # Many words have the same counts, and so the same score.
    scores: dict[tuple[int, int], list[str] | None] = {}
    words_by: dict[float, list[str]] = {}
    ignored = params.ignore_words
    for word, pair in counts.items():
        try:
            same = scores[pair]
        except KeyError:
            score = word_score(params, *pair, hams, spams)
            if score is None or score == 0.5 or -ignored < 0.5 - score < ignored:
                same = None
            else:
                same = words_by.setdefault(score, [])
            scores[pair] = same
        if same is not None:
            same.append(word)
    in_order = sorted(words_by)
    ham = _strongest(words_by, (score for score in in_order if score < 0.5), params.top_words)
    spam = _strongest(
        words_by, (score for score in reversed(in_order) if score > 0.5), params.top_words
    )
    eta = 0.0
    for each in (*ham, *spam):
        score = min(max(each.score, _NEVER), 1 - _NEVER)
        eta += math.log(1 - score) - math.log(score)
    return Classification(
        probability=probability(eta),
        words=words or len(counts),
        known=len(counts),
        ham=tuple(ham),
        spam=tuple(spam),
        significant=hams >= SIGNIFICANT,
    )


def _strongest(
    words_by: Mapping[float, Sequence[str]], scores: Iterable[float], count: int
) -> list[WordScore]:
    """The words with the first scores; of equally strong ones the longer come first."""
    found: list[WordScore] = []
    for score in scores:
        left = count - len(found)
        if left <= 0:
            break
        words = nsmallest(left, words_by[score], key=lambda word: (-len(word), word))
        found += [WordScore(word, score) for word in words]
    return found


def probability(eta: float) -> float:
    """1 / (1 + e^eta), for any eta."""
    if eta > 700:
        return 0.0
    return 1 / (1 + math.exp(eta))
