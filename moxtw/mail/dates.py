"""Dates of mail (RFC 5322 3.3 and 4.3), read with tolerance."""

from __future__ import annotations

import re
import time
from typing import Final

_MONTHS: Final = {
    name: number
    for number, name in enumerate(
        ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"), 1
    )
}
_MONTH_NAMES: Final = tuple(name.capitalize() for name in _MONTHS)
_DAY_NAMES: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
# RFC 5322 4.3. The single military letters (but Z) were used with both signs and say nothing.
_ZONES: Final = {
    "ut": 0,
    "utc": 0,
    "gmt": 0,
    "z": 0,
    "wet": 0,
    "bst": 60,
    "cet": 60,
    "met": 60,
    "west": 60,
    "cest": 120,
    "mest": 120,
    "eet": 120,
    "eest": 180,
    "msk": 180,
    "jst": 540,
    "kst": 540,
    "est": -300,
    "edt": -240,
    "cst": -360,
    "cdt": -300,
    "mst": -420,
    "mdt": -360,
    "pst": -480,
    "pdt": -420,
}
_MAX_LENGTH: Final = 200
_COMMENT: Final = re.compile(r"\([^()]*\)")
_TIME: Final = r"(\d{1,2})[:.](\d{1,2})(?:[:.](\d{1,2})(?:[.,]\d{1,9})?)?(?:\s*([ap])\.?m\.?)?"
_ZONE: Final = r"(?:\s*(?:gmt|utc?)?([+-])(\d{1,2}):?(\d{2})|\s*([a-z]{1,5}))?"
_DATE: Final = re.compile(
    rf"\s*(?:[^\W\d_]{{2,12}}\.?\s*,?\s*)?(\d{{1,2}})[\s-]*([a-z]{{3}})[a-z]*\.?,?[\s-]*(\d{{2,4}})"
    rf",?(?:\s+{_TIME}{_ZONE})?",
    re.IGNORECASE,
)
# The form of C's asctime: the year stands last.
_ASCTIME: Final = re.compile(
    rf"\s*(?:[a-z]{{3,9}},?\s+)?([a-z]{{3}})[a-z]*\s+(\d{{1,2}}),?\s+{_TIME}"
    r"(?:\s+([a-z]{1,5}))?\s+(\d{4})(?:\s*([+-])(\d{2}):?(\d{2}))?",
    re.IGNORECASE,
)
_ISO: Final = re.compile(rf"\s*(\d{{4}})-(\d{{1,2}})-(\d{{1,2}})(?:[T\s]+{_TIME}{_ZONE})?", re.I)
_DAYS_BEFORE: Final = (0, 0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334)
_DAYS_IN: Final = (0, 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def _days(year: int, month: int, day: int) -> int:
    """Days since 1970-01-01."""
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    past = year - 1
    days = past * 365 + past // 4 - past // 100 + past // 400 - 719162
    return days + _DAYS_BEFORE[month] + (1 if leap and month > 2 else 0) + day - 1


def _make(
    year: str, month: int, day: str, clock: tuple[str | None, ...], zone: int
) -> tuple[int, int] | None:
    number = int(year)
    if len(year) == 2:
        number += 2000 if number < 50 else 1900  # RFC 5322 4.3
    elif len(year) == 3:
        number += 1900
    hour, minute, second = (int(part or 0) for part in clock[:3])
    if clock[3]:
        hour = hour % 12 + (12 if clock[3] in "pP" else 0)
    date = int(day)
    if not (1900 <= number <= 9999 and 1 <= date <= _DAYS_IN[month]):
        return None
    if hour > 24 or minute > 59 or second > 60:
        # RFC 5256 2.2: of a date with an invalid time the day counts.
        hour = minute = second = 0
    seconds = _days(number, month, date) * 86400 + hour * 3600 + minute * 60 + min(second, 59)
    return (seconds - zone * 60) * 1_000_000, zone


def _zone(sign: str | None, hours: str | None, minutes: str | None, name: str | None) -> int:
    if sign is not None and hours is not None and minutes is not None:
        offset = int(hours) * 60 + int(minutes)
        if offset >= 24 * 60:
            return 0
        return -offset if sign == "-" else offset
    return _ZONES.get(name.lower(), 0) if name else 0


def parse_date(text: str) -> tuple[int, int] | None:
    """The time in microseconds since the epoch, and the zone in minutes east; None if unreadable.

    A missing or unknown zone counts as UTC, a missing or impossible time as midnight.
    """
    text = text[:_MAX_LENGTH]
    match = _DATE.match(text)
    if match is None and "(" in text:
        text = _COMMENT.sub(" ", text)
        match = _DATE.match(text)
    if match is not None:
        day, name, year, *rest = match.groups()
        month = _MONTHS.get(name.lower())
        if month is None:
            return None
        zone = _zone(rest[4], rest[5], rest[6], rest[7])
        return _make(year, month, day, tuple(rest[:4]), zone)
    match = _ISO.match(text)
    if match is not None:
        year, number, day, *rest = match.groups()
        if not 1 <= int(number) <= 12:
            return None
        zone = _zone(rest[4], rest[5], rest[6], rest[7])
        return _make(year, int(number), day, tuple(rest[:4]), zone)
    match = _ASCTIME.match(text)
    if match is not None:
        name, day, *rest = match.groups()
        month = _MONTHS.get(name.lower())
        if month is None:
            return None
        zone = _zone(rest[6], rest[7], rest[8], rest[4])
        return _make(rest[5] or "", month, day, tuple(rest[:4]), zone)
    return None


def format_date(when: int, zone: int = 0) -> str:
    """RFC 5322 date-time of microseconds since the epoch, shown in the zone (minutes east)."""
    t = time.gmtime(when // 1_000_000 + zone * 60)
    sign = "-" if zone < 0 else "+"
    return (
        f"{_DAY_NAMES[t.tm_wday]}, {t.tm_mday} {_MONTH_NAMES[t.tm_mon - 1]} {t.tm_year:04d} "
        f"{t.tm_hour:02d}:{t.tm_min:02d}:{t.tm_sec:02d} {sign}{abs(zone) // 60:02d}"
        f"{abs(zone) % 60:02d}"
    )
