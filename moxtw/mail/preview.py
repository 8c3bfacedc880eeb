"""Short previews of texts: one line without quotes, signature and markup (RFC 8970)."""

from __future__ import annotations

import re
from html.entities import html5
from typing import Final

MAX_PREVIEW: Final = 256
"""Characters of a preview."""

SNIPPED: Final = "[...]"
"""Stands for quoted text."""

# Characters without width that fill up or break words; joiners stay, some scripts need them.
_INVISIBLE: Final = re.compile(
    r"[\x00-\x08\x0e-\x1b\x7f\u00ad\u034f\u200b\u200e\u200f\u2060\ufeff]+"
)
_SNIPS: Final = frozenset((SNIPPED, "[\u2026]"))
_ORIGINAL: Final = re.compile(r"-{2,}\s*Original Message\s*-{2,}", re.IGNORECASE)
_LIKE_ATTRIBUTION: Final = re.compile(r"[\d@]|wrote", re.IGNORECASE)

# Empty lines, or quoted lines with the empty ones between and after them, or one other line. No
# repeat can give back what it took, so the time is linear.
_PIECE: Final = re.compile(
    r"(?P<quote>(?:[ \t]*+>[^\n]*+\n?+(?:[ \t\r]*+\n)*+)++)|(?:[ \t\r]*+\n)++|[^\n]*+\n?+",
)
_PGP_ENCRYPTED: Final = re.compile(r"\s*-----BEGIN PGP MESSAGE-----")
# RFC 9580 7: armor headers and an empty line stand before the signed text.
_PGP_SIGNED: Final = re.compile(r"\s*-----BEGIN PGP SIGNED MESSAGE-----[^\n]*\n(?:[^\n\r]+\r?\n)*+")
_PGP_SIGNATURE: Final = "-----BEGIN PGP SIGNATURE-----"


class _Preview:
    """Collects lines until there are enough."""

    __slots__ = ("lines", "room")

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.room = MAX_PREVIEW

    def line(self, line: str) -> None:
        """Add a line, whose blanks are made single."""
        if not line.isascii() or not line.isprintable():
            line = _INVISIBLE.sub("", line)
        line = " ".join(line.split())
        if not line:
            return
        if line in _SNIPS:
            self.quote()
            return
        self.lines.append(line)
        self.room -= len(line) + 1

    def quote(self) -> None:
        """Note that quoted text stands here; the line that announces it goes too."""
        lines = self.lines
        if lines and lines[-1] == SNIPPED:
            return
        if lines and lines[-1][-1] == ":" and len(lines[-1]) <= 300:
            if _LIKE_ATTRIBUTION.search(lines[-1]):
                last = lines.pop()
                # "On <date>, <name>" and "<address> wrote:" on two lines
                if lines and lines[-1].startswith("On ") and not last.startswith("On "):
                    lines.pop()
            if lines and lines[-1] == SNIPPED:
                return
        lines.append(SNIPPED)
        self.room -= len(SNIPPED) + 1

    def text(self) -> str:
        return " ".join(self.lines)[:MAX_PREVIEW].rstrip()


def is_encrypted(text: str) -> bool:
    """Whether a text is an encrypted OpenPGP message."""
    return _PGP_ENCRYPTED.match(text) is not None


def plain_preview(text: str) -> str:
    """The preview of a plain text."""
    pos = 0
    signed = _PGP_SIGNED.match(text)
    if signed:
        pos = signed.end()
    out = _Preview()
    for match in _PIECE.finditer(text, pos):
        if match.lastgroup:
            out.quote()
            continue
        line = match[0]
        if line[:2] == "--":
            stripped = line.rstrip("\r\n")
            if stripped == "-- ":  # RFC 3676 4.3
                break
            if _ORIGINAL.match(stripped):
                out.quote()
                break
            if signed and stripped.startswith(_PGP_SIGNATURE):
                break
        out.line(line)
        if out.room <= 0:
            break
    return out.text()


# HTML -------------------------------------------------------------------------------------------

# A tag, or the beginning of a comment, a declaration or an instruction.
_TAG: Final = re.compile(r"<(?:(/?)([a-zA-Z][a-zA-Z0-9]*+)[^<>]*+>|(!--)|[!?][^<>]*+>)")
_ENTITY: Final = re.compile(
    r"&(?:#(\d{1,7}+)(?!\d)|#[xX]([0-9a-fA-F]{1,6}+)(?![0-9a-fA-F])|([a-zA-Z][a-zA-Z0-9]{1,31}));?"
)
_HIDDEN_END: Final = {
    name: re.compile(rf"</{name}[\s>/]", re.IGNORECASE)
    for name in ("script", "style", "title", "template", "svg", "textarea", "xml")
}
_INLINE: Final = frozenset(
    [
        "a",
        "abbr",
        "acronym",
        "b",
        "bdi",
        "bdo",
        "big",
        "cite",
        "code",
        "data",
        "del",
        "dfn",
        "em",
        "font",
        "i",
        "ins",
        "kbd",
        "label",
        "mark",
        "nobr",
        "q",
        "s",
        "samp",
        "small",
        "span",
        "strike",
        "strong",
        "sub",
        "sup",
        "time",
        "tt",
        "u",
        "var",
        "wbr",
        "o",
    ]
)


def _entity(match: re.Match[str]) -> str:
    decimal, hexadecimal, name = match.groups()
    if name is not None:
        return html5.get(name + ";") or html5.get(name) or match[0]
    code = int(decimal) if decimal else int(hexadecimal, 16)
    if code == 0 or 0xD800 <= code <= 0xDFFF or code > 0x10FFFF:
        return "\ufffd"
    return chr(code)


def unescape(text: str) -> str:
    """Text of HTML with its character references replaced."""
    return _ENTITY.sub(_entity, text) if "&" in text else text


def html_preview(text: str) -> str:
    """The preview of an HTML text: without tags, scripts, styles and comments."""
    out = _Preview()
    line: list[str] = []
    quoted = 0  # Depth of blockquotes.
    pos = 0
    end = len(text)
    while pos < end:
        match = _TAG.search(text, pos)
        stop = match.start() if match else end
        if stop > pos and not quoted:
            line.append(unescape(text[pos:stop]))
        if match is None:
            break
        pos = match.end()
        closing, name, comment = match.groups()
        if comment:
            close = text.find("-->", pos)
            if close < 0:
                break
            pos = close + 3
            continue
        if name is None:
            continue
        name = name.lower()
        if name in _INLINE:
            continue
        if name in _HIDDEN_END:
            if not closing:
                hidden = _HIDDEN_END[name].search(text, pos)
                if hidden is None:
                    break
                pos = hidden.start()
            continue
        if line:
            content = "".join(line)
            line.clear()
            if content.strip("\r\n\t") in ("-- ", "--\u00a0"):
                return out.text()
            out.line(content)
            if out.room <= 0:
                break
        if name == "blockquote":
            if closing:
                quoted = max(0, quoted - 1)
            else:
                if not quoted:
                    out.quote()
                quoted += 1
    if line:
        out.line("".join(line))
    return out.text()
