"""Flags of messages by name, as programs give and get them (RFC 9051 2.3.2)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from moxtw.store.model import Flag

_NAMES: Final = (
    ("\\seen", Flag.SEEN),
    ("\\answered", Flag.ANSWERED),
    ("\\flagged", Flag.FLAGGED),
    ("\\deleted", Flag.DELETED),
    ("\\draft", Flag.DRAFT),
    ("$forwarded", Flag.FORWARDED),
    ("$junk", Flag.JUNK),
    ("$notjunk", Flag.NOTJUNK),
    ("$phishing", Flag.PHISHING),
    ("$mdnsent", Flag.MDNSENT),
)
_BITS: Final = {name: int(bit) for name, bit in _NAMES}
# An atom of IMAP, in ASCII.
_KEYWORD: Final = re.compile(r"[^\x00-\x20\x7f-\U0010ffff(){%*\"\\\]]{1,255}")
_MAX: Final = 100


def parse_flags(names: Iterable[str]) -> tuple[int, tuple[str, ...]]:
    """Bits of the system flags, and keywords in lower case. Raises ValueError."""
    bits = 0
    keywords: dict[str, None] = {}
    for name in names:
        lower = name.lower()
        bit = _BITS.get(lower)
        if bit is not None:
            bits |= bit
        elif lower.startswith("\\"):
            raise ValueError(f"unknown system flag {name[:100]!r}")
        elif not _KEYWORD.fullmatch(lower):
            raise ValueError(f"invalid keyword {name[:100]!r}")
        else:
            keywords[lower] = None
    if len(keywords) > _MAX:
        raise ValueError(f"more than {_MAX} keywords")
    return bits, tuple(keywords)


def flag_names(bits: int, keywords: str) -> list[str]:
    """The names, in lower case, of bits and of keywords separated by spaces."""
    return [name for name, bit in _BITS.items() if bits & bit] + keywords.split()


def known_flags(names: Iterable[str]) -> tuple[int, tuple[str, ...]]:
    """As `parse_flags`, without what is no flag."""
    bits = 0
    keywords: dict[str, None] = {}
    for name in names:
        lower = name.lower()
        bit = _BITS.get(lower)
        if bit is not None:
            bits |= bit
        elif _KEYWORD.fullmatch(lower) and len(keywords) < _MAX:
            keywords[lower] = None
    return bits, tuple(sorted(keywords))
