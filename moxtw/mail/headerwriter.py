"""Writing header fields: folding, quoting, comments (RFC 5322 2.2.3, 3.2)."""

from __future__ import annotations

import re
from typing import Final

WIDTH: Final = 76
"""Columns after which a header line is folded, where a fold is possible."""

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
# RFC 2045 5.1 tspecials; blanks and controls too end a token. UTF-8 is fine, RFC 6532 3.2.
_NO_TOKEN: Final = re.compile(r'[\x00-\x20\x7f()<>@,;:\\"/\[\]?=]')
_NO_TOKEN_BUT_AT: Final = re.compile(r'[\x00-\x20\x7f()<>,;:\\"/\[\]?=]')
_TO_ESCAPE: Final = re.compile(r'["\\]')
_TO_ESCAPE_IN_COMMENT: Final = re.compile(r"[()\\]")
# RFC 5322 3.2.3 dot-atom with the UTF-8 of RFC 6532 3.2.
_DOT_ATOM: Final = re.compile(
    r"[\w!#$%&'*+/=?^`{|}~-]+(?:\.[\w!#$%&'*+/=?^`{|}~-]+)*"  # \w includes "_"
)


class HeaderWriter:
    """Collects the tokens of one header field and folds between them.

    What is added is never broken up itself. Control characters in it, line ends above all,
    become "?", so that text from outside cannot begin a header field of its own.
    """

    __slots__ = ("_line", "_lines", "_lonely", "width")

    def __init__(self, name: str, width: int = WIDTH) -> None:
        self.width = width
        self._lines: list[str] = []
        self._line = name + ":"
        self._lonely = True  # Nothing on the line yet but the name or the fold.

    def add(self, *tokens: str, separator: str = " ") -> None:
        """Add tokens, each with `separator` before it; a fold takes the place of a blank."""
        for token in tokens:
            if _CONTROL.search(token):
                token = _CONTROL.sub("?", token)
            if not self._lonely and len(self._line) + len(separator) + len(token) > self.width:
                self._lines.append(self._line + separator.rstrip(" "))
                self._line = "\t" + token
            elif self._lonely and self._lines:
                self._line += token
            else:
                self._line += separator + token
            self._lonely = False

    def add_text(self, text: str) -> None:
        """Add text that is folded at its blanks, which stay what they are."""
        if _CONTROL.search(text):
            text = _CONTROL.sub("?", text)
        for match in re.finditer(r" *[^ ]+", text):
            word = match[0]
            if not self._lonely and len(self._line) + len(word) > self.width and word[0] == " ":
                self._lines.append(self._line)
                self._line = word
            else:
                self._line += " " + word if self._lonely and not self._lines else word
            self._lonely = False

    def newline(self) -> None:
        """Fold before the next token."""
        if not self._lonely:
            self._lines.append(self._line)
            self._line = "\t"
            self._lonely = True

    def text(self) -> str:
        """The whole field, lines ending in CRLF."""
        lines = self._lines if self._lonely and self._lines else [*self._lines, self._line]
        return "\r\n".join(lines) + "\r\n"

    def data(self) -> bytes:
        """The whole field in UTF-8, lines ending in CRLF."""
        return self.text().encode("utf-8", "replace")


def quoted_string(text: str) -> str:
    """Text as a quoted-string, RFC 5322 3.2.4."""
    return '"' + _TO_ESCAPE.sub(r"\\\g<0>", text) + '"'


def token_or_quoted(text: str, *, address_like: bool = False) -> str:
    """Text as a MIME value: a token if it is one (RFC 2045 5.1), else quoted.

    address_like: "@" may stand without quotes, as in RFC 8601 2.2 pvalue.
    """
    pattern = _NO_TOKEN_BUT_AT if address_like else _NO_TOKEN
    return quoted_string(text) if not text or pattern.search(text) else text


def dot_atom_or_quoted(text: str) -> str:
    """Text as a dot-atom if it is one, else quoted (RFC 7208 9.1)."""
    return text if _DOT_ATOM.fullmatch(text) else quoted_string(text)


def comment(text: str) -> str:
    """Text as a comment with its parentheses, RFC 5322 3.2.2."""
    return "(" + _TO_ESCAPE_IN_COMMENT.sub(r"\\\g<0>", text) + ")"
