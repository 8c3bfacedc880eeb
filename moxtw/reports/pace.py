"""When reports are made, in UTC; all times are seconds since the epoch."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

HOUR: Final = 3600
DAY: Final = 24 * HOUR

MAX_PAUSE: Final = 300.0
"""Seconds between two reports at most."""


def hour_of(seconds: int) -> int:
    """The hour of the day, 0 to 23."""
    return seconds % DAY // HOUR


def day_of(seconds: int) -> str:
    """The day, as ``20261231``."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y%m%d")


def start_of(day: str) -> int:
    """The first second of a day given as ``20261231``."""
    return int(datetime.strptime(day, "%Y%m%d").replace(tzinfo=UTC).timestamp())


def pause(count: int, spread: float) -> float:
    """Seconds to wait between `count` reports that are spread over some time."""
    return min(MAX_PAUSE, spread / count) if count else 0.0
