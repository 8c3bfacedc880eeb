"""Text that is nearly the same: words in any order, with typing errors, and how well they fit.

What is compared has the form of `moxtw.mail.text.folded`. Accents do not count. A word of four
letters may have one error, a long one two; three or fewer letters have to be there as they are.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Final

from moxtw.mail.text import folded

# Words of a text that is looked for which count, and letters of each.
MAX_WORDS: Final = 8
MAX_LETTERS: Final = 40
# Occurrences of a word's pieces that are looked at in one text.
_MAX_LOOKS: Final = 1000
_MAX_KNOWN: Final = 20_000

_WORD: Final = re.compile(r"[^\W_]+")
# What may belong to a word, in UTF-8.
_LETTERS: Final = frozenset(b"0123456789abcdefghijklmnopqrstuvwxyz") | set(range(0x80, 0x100))

# How well a word of the text fits, from 0 to 1.
_SAME: Final = 1.0
_BEGINS: Final = 0.85
_CONTAINS: Final = 0.7
_ERRORS: Final = (0.0, 0.6, 0.4)
_STEM: Final = 0.5


def words(text: str) -> list[str]:
    """The words that count of a text that is looked for; none if it has none."""
    found = _words(folded(text).decode())
    # Short words among longer ones say little.
    long = [word for word in found if len(word) > 2]
    return list(dict.fromkeys(word[:MAX_LETTERS] for word in long or found))[:MAX_WORDS]


def pieces(word: str) -> list[str]:
    """Parts of a word, one of which is in each text that has the word or one like it.

    Of words with fewer than six letters, some that are like them have none.
    """
    size = len(word)
    if size < 4:
        return [word]
    if size < 9:
        return [word[:3], word[-3:]]
    third = size // 3
    return [word[:third], word[third : 2 * third], word[2 * third :]]


def _words(text: str) -> list[str]:
    if not text.isascii():
        text = "".join(c for c in text if not unicodedata.combining(c))
    return _WORD.findall(text)


def distance(one: str, other: str, limit: int) -> int:
    """Letters to change, add, take away or swap with the next one; above `limit` inexact."""
    if abs(len(one) - len(other)) > limit:
        return limit + 1
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        older, before, row = before, row, [i]
        for j, b in enumerate(other, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (a != b))
            if i > 1 and j > 1 and a == other[j - 2] and one[i - 2] == b:
                cost = min(cost, older[j - 2] + 1)
            row.append(cost)
        if min(row) > limit:
            return limit + 1
    return row[-1]


class _Word:
    """A word that is looked for."""

    def __init__(self, word: str) -> None:
        self.word = word
        self.pieces = [piece.encode() for piece in pieces(word)]
        size = len(word)
        self._errors = 0 if size < 4 else 1 if size < 9 else 2
        self._stem = max(4, math.ceil(size * 0.6))
        self._known: dict[bytes, float] = {}

    def quality(self, found: bytes) -> float:
        """How well a word of a text fits."""
        known = self._known.get(found)
        if known is None:
            known = max(map(self._compare, _words(found.decode("utf-8", "ignore"))), default=0.0)
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            self._known[found] = known
        return known

    def _compare(self, found: str) -> float:
        word = self.word
        if found == word:
            return _SAME
        if len(word) < 3 and word.isascii():
            # Part of nearly every text.
            return 0.0
        if found.startswith(word):
            return _BEGINS
        if word in found:
            return _CONTAINS
        if self._errors:
            errors = distance(word, found, self._errors)
            if errors <= self._errors:
                return _ERRORS[errors]
        if len(found) >= self._stem and word.startswith(found):
            return _STEM
        return 0.0

    def find(self, text: bytes) -> tuple[float, int]:
        """How well the best place fits, and how many fit."""
        best = 0.0
        count = looks = 0
        for piece in self.pieces:
            end = 0
            while (place := text.find(piece, end)) >= 0 and looks < _MAX_LOOKS:
                looks += 1
                start, end = _around(text, place, place + len(piece))
                fits = self.quality(text[start:end])
                if fits:
                    count += 1
                    best = max(best, fits)
            if best == _SAME:
                break
        return best, count


def _around(text: bytes, start: int, end: int) -> tuple[int, int]:
    """The bounds of the word around a place; of a very long one, only what is near."""
    first = max(0, start - MAX_LETTERS)
    last = min(len(text), end + MAX_LETTERS)
    while start > first and text[start - 1] in _LETTERS:
        start -= 1
    while end < last and text[end] in _LETTERS:
        end += 1
    return start, end


class Needle:
    """A text that is looked for."""

    def __init__(self, text: str) -> None:
        self._whole = folded(text).strip()
        self._words = [_Word(word) for word in words(text)]

    def score(self, texts: Iterable[tuple[float, bytes]]) -> int:
        """How well texts fit, each with a weight up to 1: from 1 to 100, 0 if they do not.

        All words have to be there. Most depends on how exactly, the rest on whether they are
        there as they were given, and on how often.
        """
        texts = [(weight, text) for weight, text in texts if text]
        total = 0.0
        often = 0
        for word in self._words:
            best = 0.0
            for weight, text in texts:
                fits, count = word.find(text)
                best = max(best, weight * fits)
                often += count
            if not best:
                return 0
            total += best
        if not total:
            return 0
        exact = max((weight for weight, text in texts if self._whole in text), default=0.0)
        share = 0.75 * total / len(self._words) + 0.15 * exact
        share += 0.1 * min(1.0, math.log2(often / len(self._words)) / 2)
        return max(1, min(100, round(100 * share)))


def subject_first(header: bytes) -> Sequence[tuple[float, bytes]]:
    """Header lines with their weights: the subject tells more than the rest."""
    for line in header.split(b"\n", 1000):
        if line.startswith(b"subject:"):
            return (1.0, line[8:]), (0.8, header)
    return ((0.8, header),)
