"""A cache of answers, bounded in number and in bytes; the least recently used go first."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from moxtw.dns.resolver import TLSA, Answer, NotFound

Key = tuple[str, str]
Outcome = Answer[Any] | NotFound

# RFC 2308 5 wants a bound for negative answers, RFC 8767 4 for all.
MAX_TTL = 3600
MAX_NEGATIVE_TTL = 900


class Cache:
    """Keeps answers, and that there are none, for as long as they may be believed.

    Times are seconds of a clock that the caller reads.
    """

    def __init__(self, max_entries: int = 20_000, max_bytes: int = 16 * 1024 * 1024) -> None:
        self.max_entries = max_entries
        self.max_bytes = max_bytes
        self.bytes = 0
        self._entries: OrderedDict[Key, tuple[float, Outcome, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: Key, now: float) -> Outcome | None:
        """What is known, with the rest of its TTL; None if nothing is."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        expires, outcome, size = entry
        if expires <= now:
            del self._entries[key]
            self.bytes -= size
            return None
        self._entries.move_to_end(key)
        left = int(expires - now)
        if isinstance(outcome, Answer):
            return Answer(outcome.records, outcome.authentic, left)
        return type(outcome)(*key, outcome.text, authentic=outcome.authentic, ttl=left)

    def put(self, key: Key, outcome: Outcome, now: float) -> None:
        """Keep an outcome by its TTL."""
        limit = MAX_TTL if isinstance(outcome, Answer) else MAX_NEGATIVE_TTL
        ttl = min(outcome.ttl, limit)
        if ttl <= 0:
            return
        size = _size(key, outcome)
        if size > self.max_bytes // 16:
            return
        if (old := self._entries.pop(key, None)) is not None:
            self.bytes -= old[2]
        self._entries[key] = (now + ttl, outcome, size)
        self.bytes += size
        while len(self._entries) > self.max_entries or self.bytes > self.max_bytes:
            _, (_, _, size) = self._entries.popitem(last=False)
            self.bytes -= size

    def clear(self) -> None:
        """Forget all."""
        self._entries.clear()
        self.bytes = 0


def _size(key: Key, outcome: Outcome) -> int:
    """About how many bytes of memory an entry takes."""
    size = 400 + len(key[0])
    if isinstance(outcome, Answer):
        for record in outcome.records:
            size += 60
            if isinstance(record, str):
                size += len(record)
            elif isinstance(record, TLSA):
                size += 60 + len(record.data)
            else:
                size += 100 + len(record[-1])
    return size
