"""Values in their wire form (RFC 9051 section 9): strings, names, flags, dates."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from moxtw.imap import names

# Flags with a bit of their own, in the order in which they are announced and listed. The bits
# are those of the store's rows.
SYSTEM_FLAGS: Final[tuple[tuple[bytes, int], ...]] = (
    (rb"\Seen", 1),
    (rb"\Answered", 2),
    (rb"\Flagged", 4),
    (rb"\Deleted", 64),
    (rb"\Draft", 128),
    (b"$Forwarded", 8),
    (b"$Junk", 16),
    (b"$NotJunk", 32),
    (b"$Phishing", 256),
    (b"$MDNSent", 512),
)
FLAG_BITS: Final[dict[bytes, int]] = {name.lower(): bit for name, bit in SYSTEM_FLAGS}
SEEN: Final = 1
DELETED: Final = 64

SPECIAL_USES: Final[tuple[tuple[bytes, int], ...]] = (
    (rb"\Archive", 1),
    (rb"\Drafts", 2),
    (rb"\Junk", 4),
    (rb"\Sent", 8),
    (rb"\Trash", 16),
)
USE_BITS: Final[dict[bytes, int]] = {name.lower(): bit for name, bit in SPECIAL_USES}

_ATOM: Final = re.compile(rb"[^\x00-\x20\x7f-\xff(){%*\"\\\]]+")
_QUOTABLE: Final = re.compile(rb"[^\x00\r\n\x80-\xff]*")
_QUOTABLE_UTF8: Final = re.compile(rb"[^\x00\r\n]*")

_MONTHS: Final = (
    b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun",
    b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec",
)  # fmt: skip


def string(value: bytes, utf8: bool = False) -> bytes:
    """A string: quoted where that can be, else a literal.

    8-bit characters go into a literal as long as the client has not enabled UTF-8.
    """
    if len(value) <= 1000 and (_QUOTABLE_UTF8 if utf8 else _QUOTABLE).fullmatch(value):
        if b'"' in value or b"\\" in value:
            value = value.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
        return b'"' + value + b'"'
    return b"{%d}\r\n%b" % (len(value), value)


def astring(value: bytes, utf8: bool = False) -> bytes:
    """An atom where that can be, else a string. ``NIL`` is quoted, so that nobody errs."""
    if _ATOM.fullmatch(value) and value.upper() != b"NIL":
        return value
    return string(value, utf8)


def nstring(value: bytes | None, utf8: bool = False) -> bytes:
    """A string or NIL."""
    return b"NIL" if value is None else string(value, utf8)


def mailbox(name: str, utf8: bool = False) -> bytes:
    """A mailbox name."""
    return astring(names.encode(name, utf8), utf8)


@lru_cache(maxsize=4096)
def flag_list(flags: int, keywords: str) -> bytes:
    """Flags and space-separated keywords, without parentheses."""
    items = [name for name, bit in SYSTEM_FLAGS if flags & bit]
    if keywords:
        items.append(keywords.encode("ascii", "replace"))
    return b" ".join(items)


@lru_cache(maxsize=32)
def uses(bits: int) -> list[bytes]:
    """The attributes of a special-use mailbox (RFC 6154 2)."""
    return [name for name, bit in SPECIAL_USES if bits & bit]


@lru_cache(maxsize=4096)
def _day(days: int) -> bytes:
    """The date, days after 1 January 1970, as date-day-fixed (`` 1-Feb-2003``)."""
    # Civil date from a day count, of the proleptic Gregorian calendar.
    shifted = days + 719468
    era, doe = divmod(shifted, 146097)
    yoe = (doe - doe // 1460 + doe // 36524 - doe // 146096) // 365
    doy = doe - (365 * yoe + yoe // 4 - yoe // 100)
    mp = (5 * doy + 2) // 153
    month = mp + 3 if mp < 10 else mp - 9
    year = yoe + era * 400 + (month <= 2)
    return b"%2d-%b-%04d" % (doy - (153 * mp + 2) // 5 + 1, _MONTHS[month - 1], year)


def date_time(micros: int) -> bytes:
    """A date-time without its quotes, in UTC; `micros` are microseconds since the epoch."""
    days, seconds = divmod(micros // 1000000, 86400)
    minutes, seconds = divmod(seconds, 60)
    return b"%b %02d:%02d:%02d +0000" % (_day(days), minutes // 60, minutes % 60, seconds)
