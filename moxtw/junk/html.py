"""The text of HTML as its reader sees it, for the filter: no markup, scripts or style sheets.

Tags are no separators: what stands on both sides of one is one word unless there is a blank.
In time linear in the length, whatever the text contains.
"""

from __future__ import annotations

import re
from typing import Final

from moxtw.mail.preview import unescape

# A tag whose quoted values have no angle brackets. It never reaches beyond the next "<", and
# nothing gives back what it took, so that all attempts together are linear.
_TAG: Final = re.compile(
    r"""<(/?)([a-zA-Z][^\s/<>"']*+)((?:[^"'<>]++|"[^"<>]*+"|'[^'<>]*+')*+)>"""
)
_NAME: Final = re.compile(r"<(/?)([a-zA-Z][^\s/<>\"']*+)")
_UNQUOTED: Final = re.compile(r"[^\"'>]*+")
_ALT: Final = re.compile(r"""\salt\s*+=\s*+(?:"([^"]*+)"|'([^']*+)'|([^\s"'>]++))""", re.IGNORECASE)
_RAW_END: Final = {
    name: re.compile(rf"</{name}(?=[\s>/])", re.IGNORECASE) for name in ("script", "style")
}
_VOID: Final = frozenset(
    ["area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param"]
    + ["source", "track", "wbr"]
)
# Open elements that an end tag looks back over to find its own.
_REACH: Final = 32
_MAX_DEPTH: Final = 1000


class _Finder:
    """Finds texts, and does not look again for those that do not come any more."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._gone: set[str] = set()

    def find(self, what: str, start: int) -> int:
        """Where `what` is, at or after `start`; -1 if nowhere. `start` never goes back."""
        if what in self._gone:
            return -1
        found = self._text.find(what, start)
        if found < 0:
            self._gone.add(what)
        return found


def _tag_end(text: str, pos: int, finder: _Finder) -> int:
    """Where the tag ends whose attributes begin at `pos`; -1 if it does not."""
    while True:
        match = _UNQUOTED.match(text, pos)
        assert match is not None
        pos = match.end()
        if pos >= len(text):
            return -1
        quote = text[pos]
        if quote == ">":
            return pos
        close = finder.find(quote, pos + 1)
        # A quote that is never closed is one character like others.
        pos = pos + 1 if close < 0 else close + 1


def html_text(text: str) -> str:
    """Text nodes that are not directly inside script, style or svg, and alt texts of images."""
    out: list[str] = []
    open_elements: list[str] = []
    finder = _Finder(text)
    hidden = False
    pos = 0
    while True:
        start = text.find("<", pos)
        if not hidden:
            out.append(text[pos:] if start < 0 else text[pos:start])
        if start < 0:
            break
        match = _TAG.match(text, start)
        if match is not None:
            closing, name, attributes = match.groups()
            pos = match.end()
        elif (match := _NAME.match(text, start)) is not None:
            closing, name = match.groups()
            end = _tag_end(text, match.end(), finder)
            if end < 0:
                break  # A tag that never ends: the rest is its attributes.
            attributes = text[match.end() : end]
            pos = end + 1
        else:
            pos = _after_declaration(text, start, finder)
            if pos < 0:
                break
            if pos == start + 1 and not hidden:
                out.append("<")
            continue
        name = name.lower()
        if closing:
            recent = open_elements[-_REACH:]
            while recent:
                if recent.pop() == name:
                    del open_elements[len(open_elements) - min(len(open_elements), _REACH)
                                      + len(recent) :]  # fmt: skip
                    break
            hidden = bool(open_elements) and open_elements[-1] == "svg"
            continue
        if name in _RAW_END:
            found = _RAW_END[name].search(text, pos)
            if found is None:
                break
            pos = _tag_end(text, found.end(), finder) + 1
            if pos == 0:
                break
            continue
        if name == "img" and (alt := _ALT.search(attributes)) is not None:
            out.append(alt[1] or alt[2] or alt[3] or "")
        if name in _VOID or attributes.endswith("/"):
            continue
        if len(open_elements) < _MAX_DEPTH:
            open_elements.append(name)
        hidden = name == "svg"
    return unescape("".join(out))


def _after_declaration(text: str, start: int, finder: _Finder) -> int:
    """Behind a comment, declaration or instruction; behind the "<" if that is text.

    -1 if it does not end.
    """
    if text.startswith("<!--", start):
        # As in the HTML standard, <!--> is a whole comment.
        end = finder.find("-->", start + 2)
        return end + 3 if end >= 0 else -1
    if text[start + 1 : start + 2] in ("!", "?", "/") and start + 1 < len(text):
        end = finder.find(">", start + 1)
        return end + 1 if end >= 0 else -1
    return start + 1
