"""Comparison of text without regard to case: i;unicode-casemap (RFC 5051).

Text is brought into a form, as UTF-8, whose bytes are compared: each character in title case,
then decomposed. So "Ä" compares as "A" with an accent behind it.
"""

from __future__ import annotations

import unicodedata
from typing import Final

# Characters that are remembered with their title case at most.
_REMEMBERED: Final = 20_000


class _TitleCase(dict[int, str]):
    """What `str.translate` puts for each character: its title case if that is a single one.

    RFC 5051 2 means the simple mapping of the Unicode data: "ß" has none.
    """

    def __missing__(self, code: int) -> str:
        char = chr(code)
        title = char.title()
        found = title if len(title) == 1 else char
        if len(self) >= _REMEMBERED:
            self.clear()
        self[code] = found
        return found


_TITLE: Final = _TitleCase()


def casemap(text: str) -> bytes:
    """The form of `text` in which it is compared (RFC 5051 2)."""
    if text.isascii():
        return text.upper().encode("ascii")
    return unicodedata.normalize("NFKD", text.translate(_TITLE)).encode("utf-8", "replace")
