"""How likely a message is junk, by the counts of its words."""

from __future__ import annotations

import math
from collections.abc import Mapping
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
    ham: list[tuple[float, int, str]] = []
    spam: list[tuple[float, int, str]] = []
    ignored = params.ignore_words
    for word, (in_ham, in_spam) in counts.items():
        score = word_score(params, in_ham, in_spam, hams, spams)
        if score is None or -ignored < 0.5 - score < ignored:
            continue
        # In order of strength; of equally strong words the longer ones come first.
        if score < 0.5:
            ham.append((score, -len(word), word))
        elif score > 0.5:
            spam.append((-score, -len(word), word))
    top_ham = [WordScore(w, s) for s, _, w in nsmallest(params.top_words, ham)]
    top_spam = [WordScore(w, -s) for s, _, w in nsmallest(params.top_words, spam)]
    eta = 0.0
    for each in (*top_ham, *top_spam):
        score = min(max(each.score, _NEVER), 1 - _NEVER)
        eta += math.log(1 - score) - math.log(score)
    return Classification(
        probability=probability(eta),
        words=words or len(counts),
        known=len(counts),
        ham=tuple(top_ham),
        spam=tuple(top_spam),
        significant=hams >= SIGNIFICANT,
    )


def probability(eta: float) -> float:
    """1 / (1 + e^eta), for any eta."""
    if eta > 700:
        return 0.0
    return 1 / (1 + math.exp(eta))
