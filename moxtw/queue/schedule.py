"""When messages are tried: waits between attempts, and which domain's turn it is.

All times are in microseconds since the epoch. Nothing here knows a clock or a database.
"""

from __future__ import annotations

import heapq
from random import Random
from typing import Final

SECOND: Final = 1_000_000
FIRST_WAIT: Final = 450
"""Seconds from the first attempt to the second; each further wait is twice as long."""

MAX_BUSY: Final = 10
"""Recipient domains that are delivered to at the same time."""


def backoff(attempts_before: int, random: Random) -> int:
    """Seconds from an attempt to the next one."""
    # The exponent is bound, for messages that an admin keeps trying.
    wait = FIRST_WAIT + random.randrange(-5, 5)
    exponent: int = 2 ** min(attempts_before, 20)
    return wait * exponent


def waits_after(attempts: int, allowed: int) -> list[int]:
    """Seconds of the waits that are left after so many attempts, until no more are made."""
    return [FIRST_WAIT * 2 ** (number - 1) for number in range(attempts, allowed)]


class Schedule:
    """For each recipient domain, when its next message is due; and which domains are busy."""

    def __init__(self) -> None:
        self._due: dict[str, int] = {}
        # Entries that `_due` does not confirm are left-overs. Of equal times, who came first
        # is first.
        self._heap: list[tuple[int, int, str]] = []
        self._number = 0
        self._busy: set[str] = set()
        # For busy domains: messages that became due since, looked at when they are done.
        self._again: dict[str, int] = {}

    @property
    def busy(self) -> int:
        """The number of busy domains."""
        return len(self._busy)

    def __len__(self) -> int:
        return len(self._due)

    def replace(self, due: dict[str, int]) -> None:
        """Take over what the database says, except for busy domains."""
        for domain in self._busy:
            if domain in due:
                self._again[domain] = due[domain]
        self._due = {domain: t for domain, t in due.items() if domain not in self._busy}
        self._rebuild()

    def earlier(self, domain: str, time: int) -> None:
        """A message to a domain is due at `time`, or earlier ones are."""
        if domain in self._busy:
            known = self._again.get(domain)
            if known is None or time < known:
                self._again[domain] = time
            return
        known = self._due.get(domain)
        if known is None or time < known:
            self._due[domain] = time
            self._number += 1
            heapq.heappush(self._heap, (time, self._number, domain))
            if len(self._heap) > 2 * len(self._due) + 100:
                self._rebuild()

    def take(self, now: int) -> str | None:
        """The domain that is due for the longest time, busy from now on; None if none is due."""
        if len(self._busy) >= MAX_BUSY:
            return None
        self._clean()
        if not self._heap or self._heap[0][0] > now:
            return None
        domain = heapq.heappop(self._heap)[2]
        del self._due[domain]
        self._busy.add(domain)
        return domain

    def done(self, domain: str, next_due: int | None) -> None:
        """A domain is not busy any more; its next message is due at `next_due`."""
        self._busy.discard(domain)
        again = self._again.pop(domain, None)
        times = [t for t in (next_due, again) if t is not None]
        if times:
            self.earlier(domain, min(times))

    def next_time(self) -> int | None:
        """When the next message to a domain that is not busy is due."""
        self._clean()
        return self._heap[0][0] if self._heap else None

    def _clean(self) -> None:
        while self._heap and self._due.get(self._heap[0][2]) != self._heap[0][0]:
            heapq.heappop(self._heap)

    def _rebuild(self) -> None:
        self._heap = sorted(
            (t, number, domain) for number, (domain, t) in enumerate(self._due.items())
        )
        self._number = max(self._number, len(self._heap))
