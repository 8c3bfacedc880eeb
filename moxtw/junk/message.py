"""The words of a message: of some header fields, and of all its text parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from moxtw.junk.html import html_text
from moxtw.junk.words import Words
from moxtw.mail.charset import decode
from moxtw.mail.header import MAX_HEADER_BYTES, Headers, parse_headers
from moxtw.mail.mime import Part, is_content_type, parse_message
from moxtw.mail.text import decode_content
from moxtw.mail.words import header_text

MAX_TEXT: Final = 1 << 20
"""Bytes of text parts, as they are encoded, that are looked at; the first ones."""

# Fields whose words count, with the name that marks them.
_FIELDS: Final[Mapping[bytes, str]] = {
    name.lower().encode(): name
    for name in (
        "From",
        "To",
        "Cc",
        "Bcc",
        "Reply-To",
        "Subject",
        "Sender",
        "Return-Path",
    )
}

Reader = Callable[[int, int], bytes]
"""Gives the bytes of a message from one offset up to another."""


@dataclass(frozen=True, slots=True)
class MessageWords:
    """The words of a message; `malformed`: its Content-Type cannot be read."""

    words: tuple[str, ...]
    malformed: bool = False


def words_of(data: bytes, ngrams: int, *, prefix: bytes = b"") -> MessageWords:
    """The words of a whole message, with header lines in front of it. Never fails."""
    return words_by(parse_message(data), lambda start, end: data[start:end], ngrams, prefix)


def words_by(tree: Part, read: Reader, ngrams: int, prefix: bytes = b"") -> MessageWords:
    """The words of a message whose tree is known, of which only what counts is read."""
    words = Words(ngrams)
    if prefix:
        _header(words, parse_headers(prefix))
    section = read(tree.header_start, min(tree.body_start, tree.header_start + MAX_HEADER_BYTES))
    headers = Headers(section, 0, len(section))
    _header(words, headers)
    content_type = headers.raw(b"content-type")
    malformed = bool(content_type) and not is_content_type(content_type or b"")
    room = MAX_TEXT
    for part in tree.walk():
        if part.media_type != "text" or part.parts or part.message is not None:
            continue
        if room <= 0 or words.full:
            break
        raw = read(part.body_start, min(part.body_end, part.body_start + room))
        room -= len(raw)
        text = decode(decode_content(raw, part.encoding), part.charset)
        words.text(html_text(text) if part.media_subtype == "html" else text)
    return MessageWords(tuple(words.found), malformed)


def _header(words: Words, headers: Headers) -> None:
    for field, name in _FIELDS.items():
        for value in headers.raw_all(field):
            words.header(name, header_text(value))
