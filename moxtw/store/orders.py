"""Orders of mailboxes that were asked for, kept in memory.

What a message is sorted by never changes, so an order of a mailbox stays right; messages that
have gone since are left out by whoever uses it.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from threading import Lock
from typing import Final, NamedTuple

# (key, whether reversed), see `moxtw.store.sorting.KEYS`.
Order = tuple[tuple[str, bool], ...]

# UIDs kept altogether (4 bytes each).
_ROOM: Final = 4_000_000


class Kept(NamedTuple):
    """The messages from a UID to another in an order, as of some time."""

    first: int
    last: int
    uids: array[int]

    def covers(self, other: Kept) -> bool:
        """Whether this serves for what the other, which is older, was kept for."""
        return len(self.uids) >= len(other.uids) or (
            self.first <= other.first and other.last <= self.last
        )


class Orders:
    """The orders used last. Readers of the store use it in their threads.

    Only what is committed may be kept.
    """

    def __init__(self, room: int = _ROOM) -> None:
        self._entries: OrderedDict[tuple[int, Order], Kept] = OrderedDict()
        self._room = room
        self._lock = Lock()

    def find(self, mailbox_id: int, order: Order) -> Kept | None:
        """What is kept of a mailbox in an order."""
        key = (mailbox_id, order)
        with self._lock:
            kept = self._entries.get(key)
            if kept is not None:
                self._entries.move_to_end(key)
            return kept

    def keep(self, mailbox_id: int, order: Order, kept: Kept) -> None:
        """Keep an order in place of what there is of it."""
        key = (mailbox_id, order)
        with self._lock:
            old = self._entries.pop(key, None)
            if old is not None:
                self._room += len(old.uids)
            self._entries[key] = kept
            self._room -= len(kept.uids)
            while self._room < 0 and len(self._entries) > 1:
                _, oldest = self._entries.popitem(last=False)
                self._room += len(oldest.uids)
