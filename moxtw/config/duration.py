"""Durations as the configuration writes them: 72h0m0s, 15s, 1h30m, 500ms."""

from __future__ import annotations

import re
from typing import Final

_UNITS: Final = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,  # U+00B5, micro sign
    "μs": 1_000,  # U+03BC, Greek letter mu
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_PART: Final = re.compile(r"([0-9]*)(?:\.([0-9]*))?(ns|us|µs|μs|ms|s|m|h)")
_MAX: Final = (1 << 63) - 1
_MAX_DIGITS: Final = 40


class DurationError(ValueError):
    """Text that is no duration."""


class Duration(int):
    """A length of time in nanoseconds, a signed 64-bit number. Its text form is like 1h30m0s."""

    __slots__ = ()

    @property
    def seconds(self) -> float:
        """In seconds, as clocks and timers take it."""
        return self / 1_000_000_000

    @property
    def microseconds(self) -> int:
        """In whole microseconds, as the store counts."""
        return self // 1_000

    def __str__(self) -> str:
        if not self:
            return "0s"
        sign = "-" if self < 0 else ""
        rest = abs(int(self))
        for unit in ("ns", "µs", "ms"):
            size = _UNITS[unit]
            if rest < size * 1000:
                return f"{sign}{_decimal(rest, size)}{unit}"
        minutes, rest = divmod(rest, _UNITS["m"])
        text = f"{_decimal(rest, _UNITS['s'])}s"
        if minutes:
            hours, minutes = divmod(minutes, 60)
            text = f"{minutes}m{text}"
            if hours:
                text = f"{hours}h{text}"
        return sign + text

    def __repr__(self) -> str:
        return f"Duration({str(self)!r})"

    @classmethod
    def of(cls, *, hours: float = 0, minutes: float = 0, seconds: float = 0) -> Duration:
        """A duration of the sum of the parts."""
        return cls(round((hours * 3600 + minutes * 60 + seconds) * 1e9))


def _decimal(value: int, size: int) -> str:
    whole, fraction = divmod(value, size)
    if not fraction:
        return str(whole)
    digits = f"{fraction:0{len(str(size)) - 1}d}".rstrip("0")
    return f"{whole}.{digits}"


def parse_duration(text: str) -> Duration:
    """Read a duration: numbers with units h, m, s, ms, us (or µs), ns, one after the other.

    A sign may come first; 0 needs no unit. Raises DurationError.
    """
    rest = text
    sign = 1
    if rest[:1] in ("-", "+"):
        sign = -1 if rest[0] == "-" else 1
        rest = rest[1:]
    if rest == "0":
        return Duration(0)
    total = 0
    pos = 0
    if not rest or len(rest) > 200:
        raise DurationError(f"bad duration {text[:60]!r}, need for example 15s or 1h30m")
    while pos < len(rest):
        match = _PART.match(rest, pos)
        if match is None or not (match[1] or match[2]) or len(match[1]) > _MAX_DIGITS:
            raise DurationError(f"bad duration {text[:60]!r}, need for example 15s or 1h30m")
        size = _UNITS[match[3]]
        total += int(match[1] or "0") * size
        if match[2]:
            total += int(match[2]) * size // 10 ** len(match[2])
        pos = match.end()
    if total > _MAX + (sign < 0):
        raise DurationError(f"duration {text[:60]!r} is too long")
    return Duration(sign * total)
