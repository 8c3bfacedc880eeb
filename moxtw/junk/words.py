"""Words of texts, as the filter counts them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Final

MAX_WORDS: Final = 8192
"""Words of a message that count, the first ones: what one transaction can train quickly."""

MAX_KEY: Final = 32768
"""Bytes of a word, pair or triplet; longer ones do not count."""

ONEGRAMS: Final = 1
TWOGRAMS: Final = 2
THREEGRAMS: Final = 4

# Characters below which a word surely is no long one.
_SHORT: Final = 1000

# Letters and digits of any script; an apostrophe between them is part of the word.
_WORD: Final = re.compile(r"[^\W_]+(?:'[^\W_]+)*")
_OUTSIDE: Final = re.compile(r"[^\w']")
# What can make a word look random or like a number, which most words do not.
_SUSPECT: Final = re.compile(r"[0-9]{3}|[b-df-hj-np-tv-z2-9]{6}")
_RANDOM: Final = re.compile(r"[b-df-hj-np-tv-z2-9]{6}")
_LONG_NUMBER: Final = re.compile(r"[0-9]{4}")
_NUMBER: Final = re.compile(r"[0-9]{3}")
_HEX: Final = re.compile(r"[0-9a-f]*")


def _table(characters: bytes, mark: bytes | None = None, other: bytes = b".") -> bytes:
    """A table for `bytes.translate`: characters become a mark, or stay, all others become one."""
    table = bytearray(other * 256)
    for byte in characters:
        table[byte] = byte if mark is None else mark[0]
    table[32] = 32
    return bytes(table)


# The same with translated bytes, in which one string is looked for: many times faster.
_DIGITS: Final = _table(b"0123456789", b"d")
_NOISE: Final = _table(b"bcdfghjklmnpqrstvwxyz23456789", b"r")
# Lower-case ASCII in which words stand between spaces.
_SPACED: Final = _table(b"abcdefghijklmnopqrstuvwxyz0123456789'", None, b" ")

# Characters that are looked at without giving other threads a turn, and how far from there a
# boundary between words is looked for: what has none there is too long to count.
_SLICE: Final = 32768
_SEARCH: Final = 2 * MAX_KEY


def counts(word: str) -> bool:
    """Whether a word counts: not if it is short, random or a number."""
    if len(word) <= 2 and len(word.encode("utf-8", "replace")) <= 2:
        return False
    if _SUSPECT.search(word) is None:
        # Digits of other scripts are none of the above.
        return word.isascii() or not word.isdecimal()
    if word.isascii() and _RANDOM.search(word):
        return False
    word = word.removeprefix("0x")
    if _LONG_NUMBER.search(word) or word.isdecimal():
        return False
    return not (_NUMBER.search(word) and _HEX.fullmatch(word))


def _fits(key: str) -> bool:
    return len(key) <= MAX_KEY // 4 or len(key.encode("utf-8", "replace")) <= MAX_KEY


def _slices(text: str) -> Iterator[list[str]]:
    """All words of a (lower-case) text, in lists, which no word is divided between."""
    pos, end = 0, len(text)
    ascii_only = text.isascii()
    while pos < end:
        stop = pos + _SLICE
        if stop < end:
            gap = _OUTSIDE.search(text, stop, stop + _SEARCH)
            stop = min(stop + _SEARCH, end) if gap is None else gap.end()
        yield _ascii_words(text[pos:stop]) if ascii_only else _WORD.findall(text, pos, stop)
        pos = stop


def _ascii_words(text: str) -> list[str]:
    """The words of a lower-case text of ASCII."""
    words = text.encode("ascii").translate(_SPACED).decode("ascii").split()
    if "'" not in text:
        return words
    found: list[str] = []
    for word in words:
        if "'" in word:
            found += _WORD.findall(word)
        else:
            found.append(word)
    return found


def _suspects(words: Collection[str]) -> set[str]:
    """Those of different words that `_SUSPECT` finds something in."""
    data = " ".join(words).encode("utf-8", "replace")
    digits, noise = data.translate(_DIGITS), data.translate(_NOISE)
    if b"ddd" not in digits and b"rrrrrr" not in noise:
        return set()
    return {
        word
        for word, with_digits, with_noise in zip(
            words, digits.split(b" "), noise.split(b" "), strict=True
        )
        if b"ddd" in with_digits or b"rrrrrr" in with_noise
    }


class Words:
    """The set of words of one message, in the order in which they came.

    `ngrams` are bits: single words, pairs, triplets. Once there are `limit` words, no more are
    taken.
    """

    __slots__ = ("_limit", "_ngrams", "found")

    def __init__(self, ngrams: int, limit: int = MAX_WORDS) -> None:
        self.found: dict[str, None] = {}
        self._ngrams = ngrams
        self._limit = limit

    @property
    def full(self) -> bool:
        """Whether no more words are taken."""
        return len(self.found) >= self._limit

    def text(self, text: str) -> None:
        """Take the words of a text."""
        if self._ngrams == ONEGRAMS:
            for words in _slices(text.lower()):
                self._single(words)
                if self.full:
                    return
        elif self._ngrams:
            self._groups(text.lower())

    def header(self, name: str, text: str) -> None:
        """Take the words of a header field, marked with its name; short ones do not count."""
        inner = Words(self._ngrams, self._limit)
        inner.text(text)
        for word in inner.found:
            if len(word) > 3 or len(word.encode("utf-8", "replace")) > 3:
                if self.full:
                    return
                self.found[f"{name}:{word}"] = None

    def _single(self, words: list[str]) -> None:
        found = self.found
        fresh = dict.fromkeys(words)
        # Most words are of no interest one by one.
        suspects = _suspects(fresh)
        good = [
            word
            for word in fresh
            if (
                len(word) > 2
                if len(word) < _SHORT and word not in suspects and word.isascii()
                else counts(word) and _fits(word)
            )
        ]
        if len(found) + len(good) <= self._limit:
            found.update(dict.fromkeys(good))
            return
        for word in good:
            if len(found) >= self._limit:
                return
            found[word] = None

    def _groups(self, text: str) -> None:
        """Single words, pairs and triplets; words that do not count do not interrupt them."""
        found = self.found
        single, pairs, triplets = (
            self._ngrams & ONEGRAMS,
            self._ngrams & TWOGRAMS,
            self._ngrams & THREEGRAMS,
        )
        known: dict[str, bool] = {}
        before = second = ""
        for words in _slices(text):
            for word in words:
                ok = known.get(word)
                if ok is None:
                    ok = known[word] = counts(word)
                if not ok:
                    continue
                keys = []
                if triplets and second:
                    keys.append(f"{second} {before} {word}")
                if pairs and before:
                    keys.append(f"{before} {word}")
                if single:
                    keys.append(word)
                for key in keys:
                    if key not in found and _fits(key):
                        if len(found) >= self._limit:
                            return
                        found[key] = None
                second, before = before, word
