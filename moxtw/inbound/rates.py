"""How much an account takes from one address, and from the networks around it.

What counts is what the store holds: live messages of the account, by when they came and from
where. Asking for that with each message would mean to count up to tens of thousands of rows
each time, so there is an upper bound in memory: the result of the last count plus all that
was let through since. Time and removals only lower the truth, so that below the limit the
bound decides, and the store is asked only when the bound is at the limit.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from twisted.internet.defer import DeferredLock

from moxtw.ratelimit import ip_classes

_MIB: Final = 1 << 20
_SECOND: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Window:
    """The limits of a time window, by IP class: messages, and bytes."""

    seconds: int
    messages: tuple[int, int, int]
    bytes: tuple[int, int, int]


WINDOWS: Final = (
    Window(60, (500, 1500, 4500), (1000 * _MIB, 3000 * _MIB, 9000 * _MIB)),
    Window(86400, (10_000, 30_000, 90_000), (3000 * _MIB, 9000 * _MIB, 27_000 * _MIB)),
)

MAX_KNOWN: Final = 50_000
"""Pairs of account and network that are remembered; beyond, the oldest are counted anew."""

Count = Callable[[str, tuple[str, str, str], list[int]], Awaitable[list[list[int]]]]
"""`count(account, masked addresses of an IP, times since, in µs)`: for each of the addresses,
numbers of messages and bytes in turn for each of the times."""


class DeliveryRates:
    """Decides whether one more message from an address is too much for an account."""

    def __init__(self, count: Count, windows: Sequence[Window] = WINDOWS) -> None:
        self._count = count
        self._windows = windows
        self._lock = DeferredLock()
        # By account, class and masked address: messages and bytes at most, for each window.
        self._bounds: OrderedDict[tuple[str, int, str], list[int]] = OrderedDict()

    def fits(self, account: str, ip: str, size: int) -> bool | None:
        """Count a message in if it surely fits; None: only `ask` can tell."""
        lists = []
        for index, masked in enumerate(ip_classes(ip)):
            bounds = self._bounds.get((account, index, masked))
            if bounds is None or self._over(bounds, index, size):
                return None
            lists.append(bounds)
        for bounds in lists:
            _add(bounds, size)
        return True

    async def ask(self, account: str, ip: str, size: int, now: int) -> bool:
        """The same after counting in the store. `now` in microseconds."""
        async with _holding(self._lock):
            known = self.fits(account, ip, size)
            if known is not None:
                return known
            classes = ip_classes(ip)
            keys = [(account, index, masked) for index, masked in enumerate(classes)]
            before = [list(self._bounds.get(key, ())) for key in keys]
            found = await self._count(
                account, classes, [now - window.seconds * _SECOND for window in self._windows]
            )
            fits = True
            for index, key in enumerate(keys):
                bounds = found[index]
                if before[index]:
                    # What was let through while we counted may not have been there to count.
                    after = self._bounds[key]
                    bounds = [
                        n + late - early
                        for n, late, early in zip(bounds, after, before[index], strict=True)
                    ]
                self._bounds[key] = bounds
                self._bounds.move_to_end(key)
                fits = fits and not self._over(bounds, index, size)
            if fits:
                for key in keys:
                    _add(self._bounds[key], size)
            while len(self._bounds) > MAX_KNOWN:
                self._bounds.popitem(last=False)
            return fits

    def _over(self, bounds: list[int], index: int, size: int) -> bool:
        """Whether a limit of messages is reached, or this one would exceed one of bytes."""
        at = 0
        for window in self._windows:
            if bounds[at] >= window.messages[index] or bounds[at + 1] + size > window.bytes[index]:
                return True
            at += 2
        return False


def _add(bounds: list[int], size: int) -> None:
    for at in range(0, len(bounds), 2):
        bounds[at] += 1
        bounds[at + 1] += size


@asynccontextmanager
async def _holding(lock: DeferredLock) -> AsyncIterator[None]:
    await lock.acquire()
    try:
        yield
    finally:
        lock.release()
