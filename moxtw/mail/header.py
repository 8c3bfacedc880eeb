"""The header section of a message or part: finding its end, its fields and their values.

RFC 5322 2.2 and 3.6. Everything works on byte offsets into the message and tolerates what real
mail contains: bare LF, junk lines, missing separators, 8-bit text.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Final, NamedTuple

from moxtw.mail.addrlist import Group as Group
from moxtw.mail.addrlist import Mailbox as Mailbox
from moxtw.mail.addrlist import parse_address_list as parse_address_list
from moxtw.mail.dates import format_date as format_date
from moxtw.mail.dates import parse_date as parse_date
from moxtw.mail.words import decode_header, header_text
from moxtw.mail.words import decode_words as decode_words
from moxtw.mail.words import encode_phrase as encode_phrase
from moxtw.mail.words import encode_words as encode_words

MAX_HEADERS: Final = 10_000
"""Fields of a section that are looked at; more are part of the section, but not interpreted."""

MAX_PART_HEADERS: Final = 1000
"""The same for the parts of a message, of which there can be thousands."""

MAX_HEADER_BYTES: Final = 1 << 20
"""Bytes of a section that are looked at, likewise."""

# A line end that no continuation line follows (RFC 5322 2.2.3).
_FIELD_END: Final = re.compile(rb"\n(?![ \t])")
# Some programs made CRLF of the LF in CRLF.
_EMPTY_LINE: Final = re.compile(rb"\n\r{0,2}\n")
_FIRST_EMPTY: Final = re.compile(rb"\r{0,2}\n")
_FIELD_NAME: Final = re.compile(rb"[!-9;-~]++[ \t]*+:")
_ANY_FIELD: Final = re.compile(rb"^[!-9;-~]++[ \t]*+:", re.MULTILINE)
_TOKEN: Final = re.compile(rb"[!-9;-~]+")


class HeaderField(NamedTuple):
    """A field: lower-case name, and offsets of its first byte, its value, and behind its end.

    The end lies behind the line end of its last line.
    """

    name: bytes
    start: int
    value: int
    end: int


def find_body(buf: bytes, start: int, end: int) -> int:
    """Where the body of the message (or part) in buf[start:end] begins.

    That is behind the first empty line. Without an empty line all is header (the result is
    `end`); but when there is not one field either, all is body (the result is `start`).
    """
    if buf[start : start + 1] in (b"\r", b"\n") and start < end:
        first = _FIRST_EMPTY.match(buf, start, end)
        if first is not None:
            return first.end()
    empty = _EMPTY_LINE.search(buf, start, end)
    body = end if empty is None else empty.end()
    if _FIELD_NAME.match(buf, start, body) is None and _ANY_FIELD.search(buf, start, body) is None:
        return start
    return body


def unfold(raw: bytes) -> bytes:
    """A raw value on one line, without blanks around it (RFC 5322 2.2.3)."""
    if b"\n" in raw:
        raw = raw.replace(b"\r\n", b"").replace(b"\n", b"")
    return raw.strip(b" \t\r\n")


class Headers:
    """The fields of a header section, by lower-case name.

    A line that is no field is skipped with its continuation lines.
    """

    __slots__ = ("_buf", "_values", "body_offset", "start")

    def __init__(self, buf: bytes, start: int, body_offset: int, limit: int = MAX_HEADERS) -> None:
        """The section buf[start:body_offset], with its empty line; `limit` fields are read."""
        self._buf = buf
        self.start = start
        self.body_offset = body_offset
        values: dict[bytes, list[bytes]] = {}
        stop = body_offset
        if stop - start > MAX_HEADER_BYTES:
            stop = start + MAX_HEADER_BYTES
        for line in _FIELD_END.split(buf[start:stop], limit)[:limit]:
            name, colon, value = line.partition(b":")
            if colon:
                name = name.lower()
                # RFC 5322 4.5 (obsolete): blanks before the colon.
                if name[-1:] in b" \t":
                    name = name.rstrip(b" \t")
                if name in values:
                    values[name].append(value)
                else:
                    values[name] = [value]
        self._values = values

    @property
    def section(self) -> bytes:
        """The bytes of the section, with its empty line."""
        return self._buf[self.start : self.body_offset]

    @property
    def fields(self) -> list[HeaderField]:
        """The fields in order, at most `MAX_HEADERS`."""
        stop = min(self.body_offset, self.start + MAX_HEADER_BYTES)
        fields = []
        for field in iter_fields(self._buf, self.start, stop):
            if field.name:
                fields.append(field)
                if len(fields) >= MAX_HEADERS:
                    break
        return fields

    def __contains__(self, name: bytes) -> bool:
        return name in self._values

    def raw(self, name: bytes) -> bytes | None:
        """The first value of the (lower-case) name, unfolded and trimmed; None if there is none."""
        values = self._values.get(name)
        return None if values is None else unfold(values[0])

    def raw_all(self, name: bytes) -> list[bytes]:
        """All values of the (lower-case) name, unfolded and trimmed."""
        values = self._values.get(name)
        return [] if values is None else [unfold(value) for value in values]

    def get(self, name: str | bytes) -> str | None:
        """The first value as text, unfolded and trimmed, encoded words not decoded."""
        raw = self.raw(_key(name))
        return None if raw is None else header_text(raw)

    def all(self, name: str | bytes) -> list[str]:
        """All values as text, unfolded and trimmed, encoded words not decoded."""
        return [header_text(raw) for raw in self.raw_all(_key(name))]

    def text(self, name: str | bytes) -> str | None:
        """The first value as text, encoded words decoded."""
        raw = self.raw(_key(name))
        return None if raw is None else decode_header(raw)


def _key(name: str | bytes) -> bytes:
    return name.lower() if isinstance(name, bytes) else name.lower().encode("utf-8", "replace")


def parse_headers(
    buf: bytes, start: int = 0, end: int | None = None, limit: int = MAX_HEADERS
) -> Headers:
    """The header section at the beginning of the message (or part) in buf[start:end].

    Of its fields, the first `limit` are read.
    """
    if end is None:
        end = len(buf)
    return Headers(buf, start, find_body(buf, start, end), limit)


def iter_fields(buf: bytes, start: int, end: int) -> Iterator[HeaderField]:
    """The fields of the section buf[start:end] in order, without bound.

    Junk lines, and the empty line at the end, come with an empty name.
    """
    pos = start
    while pos < end:
        match = _FIELD_END.search(buf, pos, end)
        stop = end if match is None else match.end()
        colon = buf.find(b":", pos, stop)
        name = b"" if colon < 0 else buf[pos:colon].rstrip(b" \t")
        if _TOKEN.fullmatch(name):
            yield HeaderField(name.lower(), pos, colon + 1, stop)
        else:
            yield HeaderField(b"", pos, pos, stop)
        pos = stop


def select_fields(section: bytes, names: Collection[bytes], exclude: bool = False) -> bytes:
    """The fields with the given lower-case names, raw, and the empty line if there is one.

    With `exclude` all lines but those. This is HEADER.FIELDS and HEADER.FIELDS.NOT of IMAP
    (RFC 9051 6.4.5.1).
    """
    wanted = frozenset(names)
    out: list[bytes] = []
    for name, start, _, end in iter_fields(section, 0, len(section)):
        line = section[start:end]
        if line in (b"\r\n", b"\n", b"\r\r\n") or (name in wanted) != exclude:
            out.append(line)
    return b"".join(out)
