"""The maildir format: a file for each message, flags in its name (https://cr.yp.to/proto/maildir.html).

Messages lie in ``new`` or ``cur``. Keywords are letters in names; a file ``dovecot-keywords``
beside the folders says what the letters mean.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from moxtw.mail.mbox import keyword

KEYWORDS_FILE: Final = "dovecot-keywords"
MAX_KEYWORDS: Final = 26
MAX_KEYWORDS_FILE: Final = 1 << 16
FIXED_KEYWORDS: Final = ("$Forwarded", "$Junk", "$NotJunk", "$Phishing", "$MDNSent")
"""The keywords that get the first letters in what is exported."""

_FLAGS: Final = {
    "D": "\\draft",
    "F": "\\flagged",
    "R": "\\answered",
    "S": "\\seen",
    "T": "\\deleted",
}
_YEAR_10000: Final = 253_402_300_800


def parse_name(name: str) -> tuple[int | None, set[str], str]:
    """Time of arrival (microseconds), flags, and letters of keywords of a file's name."""
    unique, _, info = name.partition(":2,")
    number = unique.partition(".")[0]
    received = None
    if number.isascii() and number.isdigit() and 0 < len(number) <= 12:
        seconds = int(number)
        if seconds < _YEAR_10000:
            received = seconds * 1_000_000
    flags = {_FLAGS[letter] for letter in info if letter in _FLAGS}
    letters = "".join(sorted({letter for letter in info if "a" <= letter <= "z"}))
    return received, flags, letters


def parse_keywords(data: bytes) -> dict[str, str]:
    """Keywords by letter, of a file ``dovecot-keywords``; lines that make no sense are skipped."""
    found: dict[str, str] = {}
    for line in data.decode("utf-8", "replace").splitlines()[:1000]:
        number, _, word = line.strip().partition(" ")
        is_number = number.isascii() and number.isdigit() and len(number) <= 2
        if is_number and word.strip() and int(number) < MAX_KEYWORDS:
            found[chr(ord("a") + int(number))] = keyword(word)
    return found


def format_keywords(words: Iterable[str]) -> bytes:
    """A file ``dovecot-keywords`` of keywords, in the order of their letters."""
    return "".join(f"{number} {word}\n" for number, word in enumerate(words)).encode()


def letters_for(words: Iterable[str]) -> dict[str, str]:
    """Letters by keyword in lower case, for the keywords in this order; 26 at most."""
    return {
        word.lower(): chr(ord("a") + number)
        for number, word in enumerate(words)
        if number < MAX_KEYWORDS
    }


def format_name(
    received: int, message_id: int, flags: Iterable[str], letters: Mapping[str, str]
) -> tuple[str, str]:
    """Folder (``new`` or ``cur``) and name of a message's file."""
    names = set(flags)
    info = "".join(letter for letter, name in _FLAGS.items() if name in names)
    info += "".join(sorted({letters[name] for name in names if name in letters}))
    seconds = max(received, 0) // 1_000_000
    folder = "cur" if "\\seen" in names else "new"
    return folder, f"{seconds}.{message_id}.mox:2,{info}"
