"""Counts of words that were looked up lately, of the filters that are asked much.

With each commit of anybody SQLite forgets the pages that it has read, so that the words of the
next message are searched in pages read anew. What is kept here holds for one version of a
filter, which changes with each message that is learnt, and is part of the snapshot that a job
reads: it can be neither too old nor too new.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from threading import Lock
from typing import Final

MAX_WORDS: Final = 60_000
"""Words that are kept, of all filters together."""

MAX_LENGTH: Final = 64
"""Characters of a word that is kept."""

Counts = dict[str, tuple[int, int] | None]
"""Counts (ham, spam) by word; None: the filter does not know it."""


class WordCache:
    """The counts, by filter; for all threads."""

    def __init__(self, limit: int = MAX_WORDS) -> None:
        self._limit = limit
        self._lock = Lock()
        # By the filter's id: its version, and what is known of it.
        self._filters: OrderedDict[int, tuple[Hashable, Counts]] = OrderedDict()

    def of(self, filter_id: int, version: Hashable) -> Counts:
        """What is known; to be added to by whoever looks something up in that version."""
        with self._lock:
            found = self._filters.get(filter_id)
            if found is not None and found[0] == version:
                self._filters.move_to_end(filter_id)
            else:
                # Whoever still reads an older version keeps what it has got.
                found = self._filters[filter_id] = (version, {})
                self._filters.move_to_end(filter_id)
            return found[1]

    def trim(self) -> None:
        """Forget the filters that were not asked for the longest time, if there is too much."""
        with self._lock:
            while self.words > self._limit:
                self._filters.popitem(last=False)

    @property
    def words(self) -> int:
        """How many are kept."""
        return sum(len(known) for _, known in self._filters.values())
