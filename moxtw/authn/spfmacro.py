"""Macros of SPF: parsing and expansion (RFC 7208 7).

Text with macros is parsed once into a tuple of literal texts and `Macro`s. What macros stand
for is given to the expansion as a dict of lower-case letters; nothing is looked up here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

LETTERS: Final = frozenset("slodipvh")
"""Macro letters for domain names, RFC 7208 7.2."""

EXPLANATION_LETTERS: Final = LETTERS | frozenset("crt")
"""Macro letters for explanations, RFC 7208 7.2."""

MAX_NAME: Final = 253
"""Characters of an expanded domain name, RFC 7208 7.3."""

# RFC 7208 12: macro-expand, or macro-literal (visible characters but "%"), or, in
# explanations, also blanks.
_TOKEN: Final = re.compile(
    r"%(?:\{([A-Za-z])([0-9]*)([rR]?)([-.+,/_=]*)\}|([%_-]))|([!-$&-~]+)|( +)"
)
_ESCAPED: Final = {"%": "%", "_": " ", "-": "%20"}


class MacroError(ValueError):
    """Text that breaks the rules of macros; the message says how."""


@dataclass(frozen=True, slots=True)
class Macro:
    """A macro in braces.

    letter: lower-case. escape: whether the value is URL-escaped (an upper-case letter).
    digits: how many parts from the right are kept, 0 for all. reverse: whether the parts are
    turned round. delimiters: characters that part them, sorted; empty means ".".
    """

    letter: str
    escape: bool = False
    digits: int = 0
    reverse: bool = False
    delimiters: str = ""

    def apply(self, value: str) -> str:
        """What becomes of the value that the letter stands for, RFC 7208 7.3."""
        if self.digits or self.reverse or self.delimiters:
            parts = re.split(f"[{re.escape(self.delimiters or '.')}]", value)
            if self.reverse:
                parts.reverse()
            value = ".".join(parts[-self.digits :])
        return quote(value, safe="") if self.escape else value


MacroString = tuple[str | Macro, ...]


def parse(
    text: str, letters: frozenset[str] = EXPLANATION_LETTERS, *, blanks: bool = False
) -> MacroString:
    """Parse a macro-string, with `blanks` an explain-string. Raises MacroError."""
    parts: list[str | Macro] = []
    literal = ""
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None or (match[7] and not blanks):
            what = "macro" if text[position] == "%" else "character"
            raise MacroError(f"bad {what} at {text[position : position + 12]!r}")
        position = match.end()
        if match[1] is None:
            literal += match[6] or match[7] or _ESCAPED[match[5]]
            continue
        letter = match[1].lower()
        if letter not in letters:
            known = letter in EXPLANATION_LETTERS
            where = "only allowed in explanations" if known else "unknown"
            raise MacroError(f"macro {match[0]!r} {where}")
        # RFC 7208 7.3: zero is an error. No value has as many parts as a long number says.
        digits = int(match[2][-9:]) if match[2] else 0
        if match[2] and not match[2].strip("0"):
            raise MacroError(f"macro {match[0]!r} keeps no part")
        if len(match[2].lstrip("0")) > 9:
            digits = 999_999_999
        if literal:
            parts.append(literal)
            literal = ""
        parts.append(
            Macro(
                letter,
                match[1].isupper(),
                digits,
                bool(match[3]),
                "".join(sorted(set(match[4]))),
            )
        )
    if literal:
        parts.append(literal)
    return tuple(parts)


def letters_of(parts: MacroString) -> set[str]:
    """The letters that occur."""
    return {part.letter for part in parts if isinstance(part, Macro)}


def expand_name(parts: MacroString, values: Mapping[str, str]) -> str:
    """Expand to a domain name, without final dot.

    Labels are dropped on the left until 253 characters remain (RFC 7208 7.3); so it is
    expanded from the right, and no further than that. The result may be no valid name.
    """
    pieces: list[str] = []
    length = 0
    for part in reversed(parts):
        piece = part if isinstance(part, str) else part.apply(values[part.letter])
        pieces.append(piece)
        length += len(piece)
        if length > MAX_NAME + 1:
            break
    name = "".join(reversed(pieces)).removesuffix(".")
    if len(name) > MAX_NAME:
        name = name[-MAX_NAME - 1 :].partition(".")[2]
    return name


def expand_text(parts: MacroString, values: Mapping[str, str], limit: int) -> str:
    """Expand to text, cut to `limit` characters."""
    pieces: list[str] = []
    length = 0
    for part in parts:
        piece = part if isinstance(part, str) else part.apply(values[part.letter])
        pieces.append(piece)
        length += len(piece)
        if length >= limit:
            break
    return "".join(pieces)[:limit]
