"""Sections of messages (RFC 9051 6.4.5.1, RFC 3516): found by offsets, read in pieces.

Everything here runs in jobs of the store. What is small is read at once; of what is large only
the place is told, and the connection reads piece after piece as the client takes them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from moxtw.imap.errors import No
from moxtw.imap.fetchitems import Section
from moxtw.mail import mime, transfer
from moxtw.mail.header import select_fields
from moxtw.store import messages
from moxtw.store.model import Row
from moxtw.store.tx import Tx

# Larger than this is read in pieces of this size.
PIECE: Final = 256 * 1024
# So many encoded bytes are decoded at once, and if little or nothing of them is to be sent.
_DECODED: Final = 64 * 1024
_DECODED_FOR_LESS: Final = 16 * 1024


@dataclass(frozen=True, slots=True)
class Stream:
    """Bytes of a message that are read later: `length` from `start`; `nul`: NULs are sent."""

    content_id: int
    prefix: bytes
    start: int
    length: int
    nul: bool = False


@dataclass(frozen=True, slots=True)
class Encoded:
    """A binary section that is decoded later: `head` as it is, then `source` decoded."""

    section: Section
    head: bytes
    source: Stream
    encoding: str

    @property
    def length(self) -> int:
        """How many bytes are to be decoded."""
        return self.source.length


def write(
    tx: Tx, row: Row, tree: mime.Part, section: Section
) -> list[bytes | Stream | Encoded]:
    """A section's label and value, as pieces of a FETCH response.

    Raises No when a binary section cannot be decoded, NoContent when bytes are missing.
    """
    assert row.prefix is not None and row.content_id is not None
    if section.what != b"BODY":
        return _binary(tx, row, tree, section)
    found = find(tx, row, tree, section)
    if found is None:
        return [section.label + b" NIL"]
    if isinstance(found, bytes):
        return [_literal(section, found)]
    return [b"%b {%d}\r\n" % (section.label, found.length), found]


def find(tx: Tx, row: Row, tree: mime.Part, section: Section) -> bytes | Stream | None:
    """The bytes of a BODY section, or where they are if they are many; None for no such part.

    Raises NoContent when bytes are missing.
    """
    assert row.prefix is not None and row.content_id is not None
    kind = section.kind.decode("ascii")
    place = mime.section(tree, section.part, kind, len(row.prefix))  # type: ignore[arg-type]
    if place is None:
        return None
    start, end = place
    if section.fields is not None:
        header = messages.read_parts(tx, row.content_id, row.prefix, start, end - start)
        data = select_fields(header, section.fields, section.exclude)
        return _cut(data, section.partial)
    if section.partial is not None:
        first, count = section.partial
        start = min(start + first, end)
        end = min(start + count, end)
    length = end - start
    if length > PIECE:
        return Stream(row.content_id, row.prefix, start, length)
    return messages.read_parts(tx, row.content_id, row.prefix, start, length) if length else b""


def _cut(data: bytes, partial: tuple[int, int] | None) -> bytes:
    if partial is None:
        return data
    return data[partial[0] : partial[0] + partial[1]]


def _literal(section: Section, data: bytes) -> bytes:
    return b"%b {%d}\r\n%b" % (section.label, len(data), without_nul(data))


def without_nul(data: bytes) -> bytes:
    """What can be in a literal (RFC 9051 section 9, CHAR8): x80 stands where a NUL is.

    Sizes stay as they are. BINARY gives the NULs.
    """
    return data.replace(b"\0", b"\x80") if b"\0" in data else data


def _binary(
    tx: Tx, row: Row, tree: mime.Part, section: Section
) -> list[bytes | Stream | Encoded]:
    """BINARY and BINARY.SIZE: the part with its transfer encoding undone.

    What has no encoding of its own is given as it is: headers, and parts that consist of
    parts. Clients may not ask for those (RFC 9051 6.4.5.1), but some do.
    """
    assert row.prefix is not None and row.content_id is not None
    part = mime.find_part(tree, section.part)
    only_size = section.what == b"BINARY.SIZE"
    leaf = part is not None and not part.parts and part.message is None
    if part is None or section.kind or (section.part and not leaf):
        found = None if part is None else find(tx, row, tree, section)
        if found is None:
            return [section.label + (b" 0" if only_size else b" NIL")]
        if only_size:
            length = len(found) if isinstance(found, bytes) else found.length
            return [b"%b %d" % (section.label, length)]
        if isinstance(found, bytes):
            return [_value(section, found)]
        return [b"%b ~{%d}\r\n" % (section.label, found.length), replace(found, nul=True)]
    shift = len(row.prefix)
    start, end = part.body_start + shift, part.body_end + shift
    encoding = part.encoding if leaf else "binary"
    # The message as a whole keeps its header as it is.
    head = b""
    if not section.part:
        if encoding in transfer.IDENTITY:
            start = 0
        else:
            head = messages.read_parts(tx, row.content_id, row.prefix, 0, start)
    if encoding in transfer.IDENTITY:
        if only_size:
            return [b"%b %d" % (section.label, end - start)]
        if section.partial is not None:
            first, count = section.partial
            start = min(start + first, end)
            end = min(start + count, end)
        source = Stream(row.content_id, row.prefix, start, end - start, nul=True)
        if source.length > PIECE:
            return [b"%b ~{%d}\r\n" % (section.label, source.length), source]
        return [_value(section, read(tx, source, 0) if source.length else b"")]
    try:
        transfer.decoder(encoding)
    except transfer.UnknownEncoding:
        raise No("the part has an unknown transfer encoding", b"UNKNOWN-CTE") from None
    source = Stream(row.content_id, row.prefix, start, end - start)
    less = only_size or section.partial is not None
    if source.length > (_DECODED_FOR_LESS if less else _DECODED):
        return [Encoded(section, head, source, encoding)]
    data = head
    if source.length:
        decoder = transfer.decoder(encoding)
        data += decoder.feed(read(tx, source, 0)) + decoder.finish()
    if only_size:
        return [b"%b %d" % (section.label, len(data))]
    return [_value(section, _cut(data, section.partial))]


def _value(section: Section, data: bytes) -> bytes:
    """Decoded data: a literal8 if it has NULs (RFC 3516 4.2)."""
    form = b"%b ~{%d}\r\n%b" if b"\0" in data else b"%b {%d}\r\n%b"
    return form % (section.label, len(data), data)


def read(tx: Tx, source: Stream, offset: int) -> bytes:
    """A piece of the (encoded) bytes, `offset` from their start."""
    length = min(PIECE, source.length - offset)
    return messages.read_parts(
        tx, source.content_id, source.prefix, source.start + offset, length
    )
