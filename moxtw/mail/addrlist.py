"""Address lists of header fields (RFC 5322 3.4, with 4.4), read with tolerance.

Mail is full of address fields that no grammar allows. What can be told from them is told; the
parser never fails, and its time is linear in the length of the field.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from moxtw.mail.words import decode_words, header_text

MAX_ADDRESSES: Final = 10_000
"""Addresses looked at in one list."""


class Entry(NamedTuple):
    """A member of a list in raw bytes, as IMAP's ENVELOPE sees it (RFC 9051 7.5.2).

    Quoting is undone, encoded words are not decoded. A group begins with an entry that has its
    name as `local` and no `host`, and ends with one that has nothing at all. An address without
    a domain has an empty `host`.
    """

    name: bytes | None
    route: bytes | None
    local: bytes | None
    host: bytes | None


class Mailbox(NamedTuple):
    """An address with its display name ("" if none), all of it decoded text."""

    name: str
    localpart: str
    domain: str


class Group(NamedTuple):
    """A named group of mailboxes (RFC 5322 3.4)."""

    name: str
    members: list[Mailbox]


GROUP_END: Final = Entry(None, None, None, None)

# One ordinary mailbox with the commas around it: "name" <a@b>, name <a@b>, <a@b>, a@b.
_SIMPLE: Final = re.compile(
    rb"[ \t,]*+(?:"
    rb'(?:"([^"\\]*+)"[ \t]*+|([^\x00-\x20"(),:;<>@\[\\\]][^"(),:;<>@\[\\\]]*+)?)'
    rb'<([^\x00-\x20"(),:;<>@\[\\\]]++)@([^\x00-\x20"(),:;<>@\[\\\]]++)>'
    rb'|([^\x00-\x20"(),:;<>@\[\\\]]++)@([^\x00-\x20"(),:;<>@\[\\\]]++)'
    rb")[ \t]*+(?:,|\Z)"
)
_QUOTED: Final = rb'"(?P<quoted>(?:[^"\\]++|\\.)*+)"|'
_NOT_QUOTED: Final = (
    rb"(?P<blank>[ \t\r\n]++)|\[(?P<literal>[^\[\]\\]*+)\]"
    rb'|(?P<atom>[^\x00-\x20"(),:;<>@\[\\\]]++)|(?P<special>.)'
)
_TOKEN: Final = re.compile(_QUOTED + _NOT_QUOTED, re.DOTALL)
_TOKEN_UNQUOTED: Final = re.compile(_NOT_QUOTED, re.DOTALL)
_EMPTY: Final = re.compile(rb"[ \t,]*+")
_PAREN: Final = re.compile(rb"[()\\]")
_ESCAPE: Final = re.compile(rb"\\(.)", re.DOTALL)


def _unquote(text: bytes) -> bytes:
    return _ESCAPE.sub(rb"\1", text) if b"\\" in text else text


class _Scanner:
    """Reads what is not ordinary: one member of the list at a time."""

    __slots__ = ("in_group", "no_comments", "pos", "token", "value")

    def __init__(self, value: bytes) -> None:
        self.value = value
        self.pos = 0
        self.in_group = False
        # Once a comment or quoted string is not closed, its signs mean themselves: looking for
        # each one's end again would cost quadratic time.
        self.no_comments = False
        self.token = _TOKEN

    def _comment(self, start: int) -> int:
        """The end of the comment that begins at `start`, or -1 if it is not closed."""
        depth = 0
        pos = start
        while match := _PAREN.search(self.value, pos):
            pos = match.end()
            char = match[0]
            if char == b"\\":
                pos += 1
            elif char == b"(":
                depth += 1
            else:
                depth -= 1
                if not depth:
                    return pos
        self.no_comments = True
        return -1

    def member(self, out: list[Entry]) -> None:
        """Read up to the next comma, group start or group end, and add what was found."""
        value = self.value
        pos = self.pos
        words: list[bytes] = []  # What stands before any "<": with blanks kept as single ones.
        blank = False
        comment: bytes | None = None
        angle: list[bytes] | None = None  # Pieces within <>; quoted ones are marked by a NUL.
        closed = False
        at = -1  # Index in `words` of the first "@" outside <>.
        end = b""
        while match := self.token.match(value, pos):
            kind = match.lastgroup
            text = match[kind] if kind is not None else b""
            pos = match.end()
            if kind == "blank":
                blank = True
                continue
            if kind == "special":
                if text == b"(" and not self.no_comments:
                    close = self._comment(match.start())
                    if close >= 0:
                        if angle is None or closed:
                            comment = value[pos : close - 1]
                        pos = close
                        blank = True
                        continue
                if text == b'"':
                    self.token = _TOKEN_UNQUOTED
                    continue
                if angle is not None and not closed:
                    if text == b">":
                        closed = True
                    elif text == b"<":
                        pass
                    elif text == b";" or (text == b"," and not (angle and angle[0] == b"@")):
                        end = text  # The ">" is missing.
                        break
                    else:
                        angle.append(text)
                    continue
                if text == b",":
                    end = text
                    break
                if text == b";" and (self.in_group or not words or closed or at >= 0):
                    end = text
                    break
                if text == b"<" and angle is None:
                    angle = []
                    continue
                if text == b">":
                    continue
                if text == b":" and angle is None and not self.in_group and at < 0:
                    self.in_group = True
                    self.pos = pos
                    out.append(Entry(None, None, b"".join(words).strip(), None))
                    return
                if text == b"@" and at < 0 and not closed:
                    at = len(words)
                    words.append(text)
                    blank = False
                    continue
            elif kind == "quoted":
                text = _unquote(text)
            elif kind == "literal":
                text = match[0]
            if angle is not None and not closed:
                angle.append(b"\0" + text if kind == "quoted" else text)
                continue
            if closed:
                continue  # Text behind <...> says nothing.
            if blank and words and (at < 0 or len(words) > at + 1):
                words.append(b" ")
            blank = False
            words.append(text)
        self.pos = pos
        self._add(out, words, at, angle, comment)
        if end == b";" and self.in_group:
            self.in_group = False
            out.append(GROUP_END)

    @staticmethod
    def _add(
        out: list[Entry],
        words: list[bytes],
        at: int,
        angle: list[bytes] | None,
        comment: bytes | None,
    ) -> None:
        route: bytes | None = None
        name: bytes | None = None
        if angle is not None:
            name = b"".join(words).strip() or None
            if angle and angle[0] == b"@" and b":" in angle:
                # RFC 5322 4.4, obs-route: <@a,@b:local@domain>
                colon = angle.index(b":")
                route = b"".join(angle[:colon])
                angle = angle[colon + 1 :]
            if b"@" in angle:
                split = len(angle) - 1 - angle[::-1].index(b"@")
                local, host = b"".join(angle[:split]), b"".join(angle[split + 1 :])
            else:
                local, host = b"".join(angle), b""
            local = local.replace(b"\0", b"")
            host = host.replace(b"\0", b"")
            if not local and not host and name is None:
                return
        elif at >= 0:
            local, host = b"".join(words[:at]).strip(), b"".join(words[at + 1 :]).strip()
            # RFC 5322 4.4: blanks around the dots.
            local = (
                local.replace(b" .", b".") if b" . " not in local else local.replace(b" . ", b".")
            )
            host = host.replace(b" . ", b".").replace(b" .", b".").replace(b". ", b".")
            if b" " in local:
                # "name local@domain": somebody forgot the brackets.
                before, _, last = local.rpartition(b" ")
                if len(words[at - 1]) == len(last):
                    name, local = before.strip() or None, last
            host, _, more = host.partition(b" ")
            if more and name is None:
                name = more.strip() or None
            if b"@" in host:
                # Two of them: the last counts, as within brackets.
                before, _, host = host.rpartition(b"@")
                local = local + b"@" + before
        elif words:
            text = b"".join(words).strip()
            if b" " in text:
                name, local, host = text, b"", b""
            else:
                local, host = text, b""
        else:
            return
        if name is None and comment is not None:
            name = _unquote(comment).strip() or None
        out.append(Entry(name, route, local, host))


def parse_entries(value: bytes) -> list[Entry]:
    """The members of an unfolded address list, in order, groups included. Never fails."""
    out: list[Entry] = []
    pos = 0
    size = len(value)
    match_simple = _SIMPLE.match
    scanner: _Scanner | None = None
    while pos < size and len(out) < MAX_ADDRESSES:
        match = match_simple(value, pos)
        if match is not None:
            quoted, phrase, local, host, bare_local, bare_host = match.groups()
            if host is not None:
                name = quoted or (phrase.rstrip(b" \t") if phrase else None) or None
                out.append(Entry(name, None, local, host))
            else:
                out.append(Entry(None, None, bare_local, bare_host))
            pos = match.end()
            continue
        if scanner is None:
            scanner = _Scanner(value)
        # Not one by one: before each, `_SIMPLE` would look at all that follow.
        empty = _EMPTY.match(value, pos)
        scanner.pos = pos if empty is None else empty.end()
        scanner.member(out)
        pos = scanner.pos
    if scanner is not None and scanner.in_group:
        out.append(GROUP_END)
    return out


def text_of(raw: bytes | None) -> str:
    """A raw display name as text, encoded words decoded; "" for None."""
    if not raw:
        return ""
    text = header_text(raw)
    return decode_words(text) if "=?" in text else text


def mailboxes(entries: list[Entry]) -> list[Mailbox]:
    """The mailboxes among the entries, those in groups too, as decoded text."""
    return [
        Mailbox(text_of(name), header_text(local), header_text(host))
        for name, _, local, host in entries
        if local is not None and host is not None
    ]


def parse_address_list(value: str | bytes) -> list[Mailbox | Group]:
    """The members of an unfolded address list as decoded text. Never fails.

    An address without a domain has an empty domain; text that is no address is the name of a
    mailbox that has neither localpart nor domain.
    """
    raw = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
    out: list[Mailbox | Group] = []
    target: list[Mailbox] | None = None
    for name, _, local, host in parse_entries(raw):
        if local is None:
            target = None
        elif host is None:
            group = Group(text_of(local), [])
            target = group.members
            out.append(group)
        else:
            box = Mailbox(text_of(name), header_text(local), header_text(host))
            if target is None:
                out.append(box)
            else:
                target.append(box)
    return out
