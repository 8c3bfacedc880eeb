"""What messages are sorted and threaded by, and orders of mailboxes, kept in memory.

What a message is sorted by never changes, so an order of a mailbox stays right; messages that
have gone since are left out by whoever uses it.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from threading import Lock
from typing import Final, Generic, NamedTuple, Protocol, TypeVar

from moxtw.mail.sortkeys import ThreadKeys

# (key, whether reversed), see `moxtw.store.sorting.KEYS`.
Order = tuple[tuple[str, bool], ...]

# Bytes kept altogether, of orders and of keys.
_ROOM_FOR_ORDERS: Final = 16_000_000
_ROOM_FOR_KEYS: Final = 32_000_000


class Kept(NamedTuple):
    """The messages from a UID to another in an order, as of some time."""

    first: int
    last: int
    uids: array[int]

    @property
    def size(self) -> int:
        """Bytes."""
        return 4 * len(self.uids)

    def covers(self, other: Kept) -> bool:
        """Whether this serves for what the other, which is older, was kept for."""
        return len(self.uids) >= len(other.uids) or (
            self.first <= other.first and other.last <= self.last
        )


class Columns:
    """What messages are threaded by: their ascending UIDs, times in whole seconds, and keys."""

    __slots__ = ("arrived", "keys", "sent", "uids")

    def __init__(self) -> None:
        self.uids = array("I")
        self.sent = array("q")
        self.arrived = array("q")
        self.keys = ThreadKeys()

    @property
    def size(self) -> int:
        """Bytes."""
        return 28 * len(self.uids) + 8 * len(self.keys.words)

    def covers(self, other: Columns) -> bool:
        """Whether this serves for what the other, which is older, was kept for."""
        return self is not other and (
            len(self.uids) >= len(other.uids)
            or (self.uids[0] <= other.uids[0] and other.uids[-1] <= self.uids[-1])
        )

    def append(self, uid: int, sent: int, arrived: int, packed: bytes) -> None:
        """Add a message behind the others; `packed` are its ThreadKeys."""
        self.uids.append(uid)
        self.sent.append(sent)
        self.arrived.append(arrived)
        self.keys.append(packed)

    def copy(self) -> Columns:
        """The same, to be added to."""
        other = Columns()
        other.uids = self.uids[:]
        other.sent = self.sent[:]
        other.arrived = self.arrived[:]
        other.keys = self.keys.copy()
        return other

    def among(self, uids: Sequence[int]) -> Columns:
        """Those of the messages whose UIDs are given."""
        other = Columns()
        wanted = set(uids)
        places = [place for place, uid in enumerate(self.uids) if uid in wanted]
        other.uids = array("I", [self.uids[place] for place in places])
        other.sent = array("q", [self.sent[place] for place in places])
        other.arrived = array("q", [self.arrived[place] for place in places])
        other.keys = self.keys.among(places)
        return other


class _Sized(Protocol):
    @property
    def size(self) -> int: ...


K = TypeVar("K", bound=Hashable)
V = TypeVar("V", bound=_Sized)


class Cache(Generic[K, V]):
    """The values used last, as far as there is room for them. Threads may share it.

    Values must not change once they are here.
    """

    def __init__(self, room: int) -> None:
        self._entries: OrderedDict[K, V] = OrderedDict()
        self._room = room
        self._lock = Lock()

    def find(self, key: K) -> V | None:
        """What is kept for a key."""
        with self._lock:
            value = self._entries.get(key)
            if value is not None:
                self._entries.move_to_end(key)
            return value

    def keep(self, key: K, value: V) -> None:
        """Keep a value in place of what there is."""
        with self._lock:
            old = self._entries.pop(key, None)
            if old is not None:
                self._room += old.size
            self._entries[key] = value
            self._room -= value.size
            while self._room < 0 and len(self._entries) > 1:
                _, oldest = self._entries.popitem(last=False)
                self._room += oldest.size


class Orders:
    """The orders used last, by mailbox and order, and keys for threads, by mailbox.

    Readers of the store use it in their threads. Only what is committed may be kept.
    """

    def __init__(self) -> None:
        self.sorted: Cache[tuple[int, Order], Kept] = Cache(_ROOM_FOR_ORDERS)
        self.columns: Cache[int, Columns] = Cache(_ROOM_FOR_KEYS)
