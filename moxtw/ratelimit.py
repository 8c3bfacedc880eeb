"""Rate limits per IP address and its surrounding networks, in fixed time windows.

Three classes of an address are counted: the address itself (IPv6: its /64) and two networks
around it, so that neither one host nor a network of them can take all of a server.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

_PREFIXES: Final = {4: (32, 26, 21), 6: (64, 48, 32)}

# Above this many counters in a window, an attacker spreads over many networks; then the
# counters of single addresses matter less than the memory. The window starts anew.
_MAX_COUNTERS: Final = 1_000_000


@lru_cache(maxsize=4096)
def ip_classes(ip: str) -> tuple[str, str, str]:
    """The three classes of an address as texts: IPv4 /32, /26, /21; IPv6 /64, /48, /32.

    Raises ValueError when `ip` is no address.
    """
    address = ipaddress.ip_address(ip.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    a, b, c = (
        str(ipaddress.ip_network((address, bits), strict=False).network_address)
        for bits in _PREFIXES[address.version]
    )
    return a, b, c


@dataclass(frozen=True, slots=True)
class Window:
    """A time window of `seconds` (None: for ever) with a limit for each of the classes."""

    seconds: int | None
    limits: tuple[int, int, int]


class Limiter:
    """Counts events per IP class; an event over any limit is refused and not counted.

    Windows are aligned to the epoch: a counter starts again when the window number changes.
    """

    def __init__(self, windows: Iterable[Window], exempt: Sequence[str] = ()) -> None:
        self._windows = tuple(windows)
        self._exempt = tuple(ipaddress.ip_network(net) for net in exempt)
        self._exempt_ips: dict[str, bool] = {}
        self._numbers = [0] * len(self._windows)
        # Per window, per class: counters by masked address.
        self._counts: list[tuple[dict[str, int], dict[str, int], dict[str, int]]] = [
            ({}, {}, {}) for _ in self._windows
        ]

    def exempt(self, ip: str) -> bool:
        """Whether `ip` is in a network that is never limited."""
        if not self._exempt:
            return False
        known = self._exempt_ips.get(ip)
        if known is None:
            address = ipaddress.ip_address(ip.partition("%")[0])
            known = any(
                address in net for net in self._exempt if net.version == address.version
            )
            if len(self._exempt_ips) >= 4096:
                self._exempt_ips.clear()
            self._exempt_ips[ip] = known
        return known

    def can_add(self, ip: str, now: float, n: int = 1) -> bool:
        """Whether `n` more events of `ip` at `now` (seconds since the epoch) would fit."""
        if self.exempt(ip):
            return True
        classes = ip_classes(ip)
        for index, window in enumerate(self._windows):
            self._turn(index, window, now)
            for counts, key, limit in zip(
                self._counts[index], classes, window.limits, strict=True
            ):
                if counts.get(key, 0) + n > limit:
                    return False
        return True

    def add(self, ip: str, now: float, n: int = 1) -> bool:
        """Count `n` events of `ip`. Returns False, and counts nothing, over any limit."""
        if not self.can_add(ip, now, n):
            return False
        if not self.exempt(ip):
            classes = ip_classes(ip)
            for windows in self._counts:
                for counts, key in zip(windows, classes, strict=True):
                    counts[key] = counts.get(key, 0) + n
        return True

    def sub(self, ip: str, n: int = 1) -> None:
        """Take back `n` events of `ip`, such as a connection that was closed."""
        classes = ip_classes(ip)
        for windows in self._counts:
            for counts, key in zip(windows, classes, strict=True):
                left = counts.get(key, 0) - n
                if left > 0:
                    counts[key] = left
                else:
                    counts.pop(key, None)

    def reset(self, ip: str, now: float) -> None:
        """Forget the events of this very address, in all its classes: it has logged in."""
        classes = ip_classes(ip)
        for index, window in enumerate(self._windows):
            self._turn(index, window, now)
            windows = self._counts[index]
            own = windows[0].pop(classes[0], 0)
            for counts, key in zip(windows[1:], classes[1:], strict=True):
                left = counts.get(key, 0) - own
                if left > 0:
                    counts[key] = left
                else:
                    counts.pop(key, None)

    def _turn(self, index: int, window: Window, now: float) -> None:
        number = 0 if window.seconds is None else int(now // window.seconds)
        full = window.seconds is not None and len(self._counts[index][0]) > _MAX_COUNTERS
        if number != self._numbers[index] or full:
            self._numbers[index] = number
            for counts in self._counts[index]:
                counts.clear()


def connection_rate_limiter(exempt: Sequence[str] = ()) -> Limiter:
    """New connections of a mail protocol: 300, 900, 2700 a minute."""
    return Limiter([Window(60, (300, 900, 2700))], exempt)


def open_connections_limiter(exempt: Sequence[str] = ()) -> Limiter:
    """Open connections of a mail protocol: 30, 90, 270."""
    return Limiter([Window(None, (30, 90, 270))], exempt)


def refusals_limiter(exempt: Sequence[str] = ()) -> Limiter:
    """Refused messages and failed commands of clients that are to wait for the greeting then."""
    return Limiter([Window(600, (10, 30, 90))], exempt)


def failed_auth_limiter() -> Limiter:
    """Failed logins, counted over all protocols together."""
    return Limiter([Window(60, (10, 30, 90)), Window(86400, (50, 150, 450))])
