"""A junk filter in files of its own, for trying what parameters do: `moxtw junk`.

A database with the counts of words, and a Bloom filter of words that were seen.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from moxtw.config.accounts import JunkParams
from moxtw.junk.bloom import Bloom
from moxtw.junk.message import words_of
from moxtw.junk.score import Classification, classify_words, ngram_bits

# Stands for the counts of messages: no word is so short.
_MESSAGES: Final = "-"


class FilterError(Exception):
    """The files cannot be used."""


class FileFilter:
    """The filter. What it learns is kept in memory until `save`.

    `path` and `bloom_path` are its files; with `create` they may be missing. Raises FilterError.
    """

    def __init__(
        self, params: JunkParams, path: Path, bloom_path: Path, *, create: bool
    ) -> None:
        if not create and not path.exists():
            raise FilterError(f"no filter {path}: train one first")
        self.params = params
        self._path = path
        self._bloom_path = bloom_path
        self._ngrams = ngram_bits(params)
        self._added: dict[str, tuple[int, int]] = {}
        try:
            self._bloom = Bloom.load(bloom_path) if create else None
            self._database = sqlite3.connect(path)
            self._database.execute(
                "CREATE TABLE IF NOT EXISTS words (word TEXT PRIMARY KEY, ham INTEGER NOT NULL,"
                " spam INTEGER NOT NULL) WITHOUT ROWID"
            )
            self.ham, self.spam = self._stored([_MESSAGES]).get(_MESSAGES, (0, 0))
        except (sqlite3.Error, OSError, ValueError) as exc:
            raise FilterError(f"filter {path}: {exc}") from exc

    def words(self, path: Path) -> tuple[tuple[str, ...], bool]:
        """The words of a message file, and whether its type is unreadable. Raises OSError."""
        found = words_of(path.read_bytes(), self._ngrams)
        return found.words, found.malformed

    def classify(self, path: Path) -> Classification:
        """Score a message file. Raises OSError."""
        words, malformed = self.words(path)
        return self.classify_words(words, malformed=malformed)

    def classify_words(self, words: Iterable[str], *, malformed: bool = False) -> Classification:
        """Score a message by its words."""
        unique = list(words)
        if malformed:
            return Classification(1.0, len(unique), significant=True)
        counts = self._stored(unique)
        for word in unique:
            if word in self._added:
                counts[word] = self._with_added(word, counts.get(word, (0, 0)))
        return classify_words(self.params, counts, self.ham, self.spam, len(unique))

    def train(self, words: Iterable[str], *, ham: bool, skip_new: bool) -> None:
        """Learn from a message; with `skip_new`, words count from the second time on."""
        added = self._added
        if ham:
            self.ham += 1
        else:
            self.spam += 1
        assert self._bloom is not None
        for word in words:
            if not self._bloom.add(word) and skip_new:
                continue
            in_ham, in_spam = added.get(word, (0, 0))
            added[word] = (in_ham + ham, in_spam + (not ham))

    def save(self) -> None:
        """Write what was learned. Raises FilterError."""
        rows = [(word, ham, spam) for word, (ham, spam) in self._added.items()]
        try:
            with self._database as database:
                database.executemany(
                    "INSERT INTO words VALUES (?, ?, ?) ON CONFLICT (word) DO UPDATE SET"
                    " ham = ham + excluded.ham, spam = spam + excluded.spam",
                    rows,
                )
                database.execute(
                    "INSERT OR REPLACE INTO words VALUES (?, ?, ?)",
                    (_MESSAGES, self.ham, self.spam),
                )
            if self._bloom is not None:
                new = self._bloom_path.with_name(self._bloom_path.name + ".new")
                new.write_bytes(self._bloom.data)
                os.replace(new, self._bloom_path)
        except (sqlite3.Error, OSError) as exc:
            raise FilterError(f"filter {self._path}: {exc}") from exc
        self._added.clear()

    def close(self) -> None:
        """Close the files; what was not saved is lost."""
        self._database.close()

    def _with_added(self, word: str, stored: tuple[int, int]) -> tuple[int, int]:
        ham, spam = self._added[word]
        return stored[0] + ham, stored[1] + spam

    def _stored(self, words: list[str]) -> dict[str, tuple[int, int]]:
        found: dict[str, tuple[int, int]] = {}
        for start in range(0, len(words), 500):
            part = words[start : start + 500]
            marks = ",".join("?" * len(part))
            for word, ham, spam in self._database.execute(
                f"SELECT word, ham, spam FROM words WHERE word IN ({marks})", part
            ):
                found[word] = (ham, spam)
        return found
