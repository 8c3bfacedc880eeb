"""The MIME tree of a message, with byte offsets for every part (RFC 2045, 2046).

The tree is made without recursion and in time linear in the size of the message, whatever the
message contains: depth, number of parts, and the bytes searched for boundaries are bounded.
What lies beyond a bound is a leaf of type application/octet-stream.

Damage is understood the same way each time:

* A section without an empty line is all header; without any field either, it is all body.
* A multipart without a usable boundary, or in which the boundary never occurs, has one part:
  its whole body as text.
* A multipart whose last boundary is missing ends with its body.
* A message/rfc822 in base64 or quoted-printable (forbidden by RFC 2046 5.2.1) embeds a message
  that has no header, and the encoded text as its body.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Final, Literal, TypeAlias

import msgspec

from moxtw.mail import transfer
from moxtw.mail.charset import decode
from moxtw.mail.header import MAX_HEADERS, MAX_PART_HEADERS, Headers, parse_headers
from moxtw.mail.words import decode_words, header_text

Buffer: TypeAlias = "bytes | bytearray | memoryview"

MAX_DEPTH: Final = 100
"""Multiparts and embedded messages within each other."""

MAX_PARTS: Final = 10_000
MAX_PARAMS: Final = 1000
MAX_VALUE: Final = 16384
"""Bytes of a header value that are looked at for types, parameters and names."""

# Bytes that may be searched for boundaries, in sizes of the message, and for all messages.
_SCANS: Final = 24
_FREE_SCANS: Final = 64 << 20

_TREE_VERSION: Final = b"\x01"


class TreeError(ValueError):
    """Bytes that are no packed tree, or one of another version."""


class Part(msgspec.Struct, array_like=True, gc=True):
    """A message, or a part of one.

    Offsets count from the first byte of the message: buf[header_start:body_start] is the header
    section with its empty line, buf[body_start:body_end] the body. `lines` is the number of line
    ends in the body of text/* and embedded messages, else 0. Type, encoding, disposition and
    parameter names are in lower case; parameters are decoded (RFC 2231). A multipart has at least
    one member in `parts`, an embedded message (message/rfc822, message/global) its content in
    `message`.
    """

    header_start: int
    body_start: int
    body_end: int
    lines: int = 0
    media_type: str = "text"
    media_subtype: str = "plain"
    params: dict[str, str] = {}
    encoding: str = "7bit"
    disposition: str | None = None
    disp_params: dict[str, str] = {}
    id: str | None = None
    description: str | None = None
    md5: str | None = None
    language: list[str] | None = None
    location: str | None = None
    parts: list[Part] = []
    message: Part | None = None

    @property
    def size(self) -> int:
        """Bytes of the (encoded) body."""
        return self.body_end - self.body_start

    @property
    def content_type(self) -> str:
        """Type and subtype, like text/plain."""
        return f"{self.media_type}/{self.media_subtype}"

    @property
    def is_multipart(self) -> bool:
        """Whether the part consists of parts."""
        return bool(self.parts)

    @property
    def boundary(self) -> str | None:
        """The boundary parameter."""
        return self.params.get("boundary")

    @property
    def charset(self) -> str | None:
        """The charset parameter, lower-case; None if there is none."""
        charset = self.params.get("charset")
        return charset.lower() if charset else None

    @property
    def filename(self) -> str | None:
        """The name for the content: of the disposition, else of the type; encoded words decoded."""
        name = self.disp_params.get("filename") or self.params.get("name")
        return decode_words(name) if name else None

    def walk(self) -> Iterator[Part]:
        """The part and all below it, embedded messages and their parts too, in order."""
        todo = [self]
        while todo:
            part = todo.pop()
            yield part
            if part.message is not None:
                todo.append(part.message)
            elif part.parts:
                todo.extend(reversed(part.parts))


# Type and parameters ---------------------------------------------------------------------------

_TYPE: Final = re.compile(rb"[ \t]*([^\x00-\x20()<>@,;:\\\"/\[\]?=]+)[ \t]*/[ \t]*"
                          rb"([^\x00-\x20()<>@,;:\\\"/\[\]?=]+)")  # fmt: skip
_TOKEN: Final = re.compile(rb"[ \t]*([^\x00-\x20()<>@,;:\\\"\[\]?=]+)")
# One parameter: a name and a quoted value, or one that runs up to the next semicolon. The closing
# quote may be missing.
_PARAM: Final = re.compile(
    rb';[ \t]*+([^\x00-\x20()<>@,;:\\"/\[\]?=]++)[ \t]*+=[ \t]*+'
    rb'(?:"((?:[^"\\]++|\\.)*+)(?:"|\Z)|([^;]*+))',
    re.DOTALL,
)
_ESCAPE: Final = re.compile(rb"\\(.)", re.DOTALL)
_COMMENT_OR_QUOTED: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\Z)|\\.|[()]', re.DOTALL)
_CONTINUATION: Final = re.compile(r"([^*]+)(?:\*(\d{1,4}))?(\*)?")
_PERCENT: Final = re.compile(rb"%([0-9A-Fa-f]{2})")

Params: TypeAlias = dict[str, str]


def _without_comments(value: bytes) -> bytes:
    """`value` without RFC 822 comments, outside of quoted strings."""
    out: list[bytes] = []
    depth = 0
    start = 0
    for match in _COMMENT_OR_QUOTED.finditer(value):
        sign = match[0]
        if sign == b"(":
            if not depth:
                out.append(value[start : match.start()])
            depth += 1
        elif sign == b")" and depth:
            depth -= 1
            start = match.end()
    if not depth:
        out.append(value[start:])
    return b" ".join(out)


def _percent_decode(value: bytes) -> bytes:
    return _PERCENT.sub(lambda match: bytes((int(match[1], 16),)), value)


def _text(value: bytes, charset: str | None) -> str:
    return decode(value, charset).replace("\0", "")


def _extended(value: bytes) -> str:
    """The text of charset'language'percent-encoded (RFC 2231 4)."""
    charset, quote, rest = value.partition(b"'")
    _, second, text = rest.partition(b"'")
    if not quote or not second:
        return _text(_percent_decode(value), None)
    return _text(_percent_decode(text), charset.decode("latin-1") or None)


def _parse_params(value: bytes, pos: int) -> Params:
    """The parameters from `pos` on; the first of a name counts, continuations are joined."""
    params: Params = {}
    pieces: dict[str, dict[int, tuple[bytes, bool]]] = {}
    extended: Params = {}
    count = 0
    for match in _PARAM.finditer(value, pos):
        count += 1
        if count > MAX_PARAMS:
            break
        raw_name, quoted, plain = match.groups()
        if quoted is not None:
            content = _ESCAPE.sub(rb"\1", quoted) if b"\\" in quoted else quoted
        else:
            content = plain.rstrip(b" \t")
        name = header_text(raw_name).lower()
        if "*" in name and (parts := _CONTINUATION.fullmatch(name)):
            # RFC 2231 3 and 4: name*0=, name*0*=, name*=
            base, number, star = parts.groups()
            if number is not None:
                pieces.setdefault(base, {}).setdefault(int(number), (content, star is not None))
            else:
                extended.setdefault(base, _extended(content))
            continue
        params.setdefault(name, header_text(content))
    for base, numbered in pieces.items():
        if 0 in numbered and base not in extended:
            extended[base] = _join(numbered)
    # RFC 2231 / 6266 4.3: the extended form goes before the plain one.
    params.update(extended)
    return params


def _join(numbered: dict[int, tuple[bytes, bool]]) -> str:
    """Continued pieces as one text; the first tells the charset, a missing one ends it."""
    first, is_extended = numbered[0]
    if not is_extended:
        charset: str | None = None
        head = first
    else:
        name, quote, rest = first.partition(b"'")
        _, second, text = rest.partition(b"'")
        charset, head = (
            (name.decode("latin-1") or None, text) if quote and second else (None, first)
        )
        head = _percent_decode(head)
    out = [head]
    number = 1
    while (piece := numbered.get(number)) is not None:
        content, star = piece
        out.append(_percent_decode(content) if star else content)
        number += 1
    return _text(b"".join(out), charset)


def parse_content_type(value: bytes) -> tuple[str, str, Params]:
    """Type, subtype and parameters of an unfolded Content-Type value.

    RFC 2045 5.2: what is unreadable is text/plain.
    """
    if len(value) <= 128:
        media_type, media_subtype, params = _cached_content_type(value)
        return media_type, media_subtype, params.copy()
    return _parse_content_type(value)


def is_content_type(value: bytes) -> bool:
    """Whether an unfolded Content-Type value begins with a type and subtype, as it has to."""
    return _TYPE.match(_without_comments(value[:MAX_VALUE])) is not None


def _parse_content_type(value: bytes) -> tuple[str, str, Params]:
    value = value[:MAX_VALUE]
    if b"(" in value:
        value = _without_comments(value)
    match = _TYPE.match(value)
    if match is None:
        semicolon = value.find(b";")
        params = {} if semicolon < 0 else _parse_params(value, semicolon)
        if value[:9].lower() == b"multipart":
            return "multipart", "mixed", params
        return "text", "plain", params
    return (
        header_text(match[1]).lower(),
        header_text(match[2]).lower(),
        _parse_params(value, match.end()) if len(value) > match.end() else {},
    )


# Most messages have one of a few dozen values.
_cached_content_type = lru_cache(maxsize=512)(_parse_content_type)


def parse_disposition(value: bytes) -> tuple[str, Params] | None:
    """Disposition and parameters of an unfolded Content-Disposition value (RFC 2183)."""
    value = value[:MAX_VALUE]
    if b"(" in value:
        value = _without_comments(value)
    match = _TOKEN.match(value)
    if match is None:
        return None
    return header_text(match[1]).lower(), _parse_params(value, match.end())


@lru_cache(maxsize=64)
def _cached_encoding(value: bytes) -> str:
    if b"(" in value:
        value = _without_comments(value)
    match = _TOKEN.match(value)
    return header_text(match[1][:64]).lower() if match is not None else "7bit"


# The tree ----------------------------------------------------------------------------------------

# What may follow a boundary: the end of the multipart, padding, a line end (RFC 2046 5.1.1). Where
# blanks at the end of the boundary were left out, some may stand before the end.
_AFTER_BOUNDARY: Final = re.compile(
    rb"(?:[ \t]*+(--)(?:[ \t][^\n]*+)?|[ \t]*+)\r*+(?:\n|\Z)"
)
# "It is sufficient that the boundary appear in its entirety following the CRLF": for a multipart
# in which there is no better one, as one may begin like another's.
_ANYTHING_AFTER: Final = re.compile(rb"[ \t]*+(--)?[^\n]*+(?:\n|\Z)")


def _embeds(part: Part) -> bool:
    return part.media_type == "message" and part.media_subtype in ("rfc822", "global")


def _make(buf: bytes, start: int, end: int, headers: Headers, in_digest: bool) -> Part:
    """The part in buf[start:end], without what it contains."""
    part = Part(start, headers.body_offset, end)
    value = headers.raw(b"content-type")
    if value:
        part.media_type, part.media_subtype, part.params = parse_content_type(value)
    elif in_digest:
        part.media_type, part.media_subtype, part.params = "message", "rfc822", {}
    else:
        part.params = {"charset": "us-ascii"}
    if (value := headers.raw(b"content-transfer-encoding")) is not None:
        part.encoding = _cached_encoding(value[:128])
    if (value := headers.raw(b"content-disposition")) is not None:
        disposition = parse_disposition(value)
        if disposition is not None:
            part.disposition, part.disp_params = disposition
    if (value := headers.raw(b"content-id")) is not None:
        part.id = header_text(value[:MAX_VALUE])
    if (value := headers.raw(b"content-description")) is not None:
        part.description = header_text(value[:MAX_VALUE])
    if (value := headers.raw(b"content-md5")) is not None:
        part.md5 = header_text(value[:MAX_VALUE])
    if (value := headers.raw(b"content-language")) is not None:
        tags = _without_comments(value[:MAX_VALUE]).split(b",", 100)[:100]
        part.language = [header_text(tag.strip()) for tag in tags if tag.strip()] or None
    if (value := headers.raw(b"content-location")) is not None:
        part.location = header_text(value[:MAX_VALUE])
    return part


def _opaque(part: Part) -> None:
    """Make the part a leaf whose content is not looked into."""
    part.media_type, part.media_subtype = "application", "octet-stream"
    part.lines = 0


def _plain(buf: bytes, start: int, end: int) -> Part:
    """A part without header, with plain text in buf[start:end]."""
    return Part(start, start, end, buf.count(b"\n", start, end))


def _sections(
    buf: bytes,
    start: int,
    end: int,
    boundary: bytes,
    room: int,
    rest: re.Pattern[bytes] = _AFTER_BOUNDARY,
) -> list[tuple[int, int]]:
    """Start and end of at most `room` sections that the boundary makes in buf[start:end].

    `rest` is what may stand behind it in its line.
    """
    line = b"\n--" + boundary
    sections: list[tuple[int, int]] = []
    begin = -1
    # A boundary in the first line has its line end in front of the body.
    pos = start - 1
    while True:
        pos = buf.find(line, pos, end)
        if pos < 0:
            break
        after = rest.match(buf, pos + len(line), end)
        if after is None:
            pos += len(line)
            continue
        if begin >= 0:
            # RFC 2046 5.1.1: the line end before the boundary belongs to the boundary.
            stop = pos - 1 if pos > begin and buf[pos - 1] == 0x0D else pos
            sections.append((begin, max(begin, stop)))
            begin = -1
            if len(sections) >= room:
                break
        if after[1]:
            break
        begin = after.end()
        pos = max(begin - 1, pos + 1)
    if begin >= 0 and (begin < end or not sections):
        sections.append((begin, end))
    return sections


def as_bytes(buf: Buffer) -> bytes:
    """The content of any buffer (an mmap too) as bytes; bytes are returned as they are."""
    return buf if type(buf) is bytes else bytes(buf)


def parse_message(
    buf: Buffer,
    *,
    headers: Headers | None = None,
    max_depth: int = MAX_DEPTH,
    max_parts: int = MAX_PARTS,
) -> Part:
    """The tree of the message in `buf`. Never fails.

    `headers` are those of the message, if they were parsed before.
    """
    data = as_bytes(buf)
    if headers is None:
        headers = parse_headers(data)
    root = _make(data, 0, len(data), headers, False)
    count = 1
    budget = max(_SCANS * len(data), _FREE_SCANS)
    todo = [(root, 0)]
    while todo:
        part, depth = todo.pop()
        media_type = part.media_type
        if media_type == "text":
            part.lines = data.count(b"\n", part.body_start, part.body_end)
            continue
        multipart = media_type == "multipart"
        if not multipart and not _embeds(part):
            continue
        start, end = part.body_start, part.body_end
        budget -= end - start
        if depth >= max_depth or count >= max_parts or budget < 0:
            _opaque(part)
            continue
        if multipart:
            sections: Sequence[tuple[int, int]] = ()
            # RFC 2046 5.1.1: a boundary does not end in white space.
            boundary = part.params.get("boundary", "").rstrip().encode("utf-8")
            if boundary:
                room = max_parts - count
                sections = _sections(data, start, end, boundary, room)
                if not sections:
                    budget -= end - start
                    sections = _sections(data, start, end, boundary, room, _ANYTHING_AFTER)
            in_digest = part.media_subtype == "digest"
            part.parts = [
                _make(
                    data, first, last, parse_headers(data, first, last, MAX_PART_HEADERS), in_digest
                )
                for first, last in sections
            ] or [_plain(data, start, end)]
            count += len(part.parts)
            todo.extend((child, depth + 1) for child in reversed(part.parts))
        else:
            part.lines = data.count(b"\n", start, end)
            count += 1
            if part.encoding in ("base64", "quoted-printable"):
                part.message = _plain(data, start, end)
            else:
                part.message = _make(
                    data, start, end, parse_headers(data, start, end, MAX_PART_HEADERS), False
                )
                todo.append((part.message, depth + 1))
    return root


# Packed form --------------------------------------------------------------------------------------

_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(Part)


def pack_tree(part: Part) -> bytes:
    """The tree as bytes: a version byte, then msgpack."""
    return _TREE_VERSION + _encoder.encode(part)


def unpack_tree(packed: bytes) -> Part:
    """The tree out of its packed form. Raises TreeError."""
    if packed[:1] != _TREE_VERSION:
        raise TreeError("a tree of another version")
    try:
        return _decoder.decode(memoryview(packed)[1:])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise TreeError(str(exc)) from exc


# Sections -----------------------------------------------------------------------------------------

SectionKind: TypeAlias = Literal["", "HEADER", "TEXT", "MIME"]


def find_part(root: Part, path: Sequence[int]) -> Part | None:
    """The part with the numbers `path` (RFC 9051 6.4.5.1); the message itself for ().

    The only part of a message that is no multipart has number 1.
    """
    part = root
    # A message's own body is numbered from within; a part is entered through what it embeds.
    within = True
    for number in path:
        if not within:
            if part.message is not None:
                part = part.message
            elif not part.parts:
                return None
        if part.parts:
            if not 1 <= number <= len(part.parts):
                return None
            part = part.parts[number - 1]
        elif number != 1:
            return None
        within = False
    return part


def section(
    root: Part, path: Sequence[int], kind: SectionKind = "", prefix: int = 0
) -> tuple[int, int] | None:
    """Where a section of IMAP's BODY[...] lies: start and end; None if there is no such section.

    "" is the whole message, or the body of a part; HEADER and TEXT are of the message or of an
    embedded message, MIME is the header of a part. The offsets are into the stored message:
    `prefix` bytes of header lines before the content of which `root` is the tree. For HEADER.FIELDS
    take HEADER, and `moxtw.mail.header.select_fields` on its bytes.
    """
    part = find_part(root, path)
    if part is None:
        return None
    if kind == "":
        start, end = (0, root.body_end) if not path else (part.body_start, part.body_end)
    elif kind == "MIME":
        if not path:
            return None
        start, end = part.header_start, part.body_start
    else:
        if path:
            if part.message is None:
                return None
            part = part.message
        if kind == "HEADER":
            start, end = part.header_start, part.body_start
        else:
            start, end = part.body_start, part.body_end
    if part is root and (kind in ("HEADER", "MIME") or not path and not kind):
        return 0, end + prefix  # The prefix is the beginning of the message's header.
    return start + prefix, end + prefix


def decode_body(part: Part, buf: bytes) -> bytes:
    """The content of the part, transfer encoding undone. Raises transfer.UnknownEncoding."""
    return transfer.decode(buf[part.body_start : part.body_end], part.encoding)


def part_headers(part: Part, buf: bytes) -> Headers:
    """The header fields of a part of the message in `buf`."""
    # Only the header of the message itself begins at 0.
    limit = MAX_PART_HEADERS if part.header_start else MAX_HEADERS
    return Headers(buf, part.header_start, part.body_start, limit)
