"""Large parts with their transfer encoding undone (RFC 3516), piece after piece.

How large a part is once decoded has to be said before its first byte. So it is decoded twice,
the first time to measure it. On the way places are noted from which decoding can start again:
clients fetch large parts in many ranges one after the other, and each must cost no more than
what it asks for.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from functools import partial
from typing import TYPE_CHECKING, Final

from moxtw.imap.connection import Gone, TimedOut
from moxtw.imap.sections import PIECE, Encoded, Stream, read
from moxtw.mail import transfer
from moxtw.mail.transfer import Decoder
from moxtw.store.errors import NoContent, StoreClosed, StoreError
from moxtw.store.tx import Tx

if TYPE_CHECKING:
    from moxtw.imap.server import IMAPServer

# Places that are noted of a part, at most: one for each piece, of very large parts fewer.
_MAX_POINTS: Final = 256
# No place is noted where a decoder holds more than this back (lines without an end).
_MAX_HELD: Final = 1024


class Index:
    """The size of a decoded part, and places from which it can be decoded.

    `points` are triples: where in the encoded bytes, how many bytes that is decoded, and the
    decoder as it is then.
    """

    __slots__ = ("key", "points", "size")

    def __init__(self, key: object) -> None:
        self.key = key
        self.points: list[tuple[int, int, Decoder]] = []
        self.size = 0

    def before(self, place: int) -> tuple[int, int, Decoder]:
        """The last point that is not behind decoded byte `place`."""
        low, high = 0, len(self.points)
        while high - low > 1:
            middle = (low + high) // 2
            if self.points[middle][1] <= place:
                low = middle
            else:
                high = middle
        offset, decoded, decoder = self.points[low]
        return offset, decoded, copy(decoder)


def _step(tx: Tx, source: Stream, offset: int, decoder: Decoder) -> tuple[bytes, Decoder]:
    """Decode the piece at `offset`. The job may be run again, so the decoder is a new one."""
    decoder = copy(decoder)
    data = decoder.feed(read(tx, source, offset))
    if offset + PIECE >= source.length:
        data += decoder.finish()
    return data, decoder


async def _measure(conn: IMAPServer, part: Encoded) -> Index:
    """The index of a part: that of the last one if it is the same."""
    source = part.source
    key = (source.content_id, len(source.prefix), source.start, source.length, part.encoding)
    if conn.decoded is not None and conn.decoded.key == key:
        return conn.decoded
    index = Index(key)
    stride = PIECE * -(-source.length // (PIECE * _MAX_POINTS))
    decoder = transfer.decoder(part.encoding)
    for offset in range(0, source.length, PIECE):
        if offset % stride == 0 and decoder.held <= _MAX_HELD:
            index.points.append((offset, index.size, decoder))
        step = partial(_step, source=source, offset=offset, decoder=decoder)
        data, decoder = await conn.app.store.read(step)
        index.size += len(data)
        if conn.lost:
            raise Gone
    conn.decoded = index
    return index


async def send(conn: IMAPServer, part: Encoded) -> None:
    """Write a BINARY or BINARY.SIZE section of a FETCH response."""
    section = part.section
    index = await _measure(conn, part)
    size = len(part.head) + index.size
    if section.what == b"BINARY.SIZE":
        conn.send(b"%b %d" % (section.label, size))
        return
    first, count = section.partial or (0, size)
    first = min(first, size)
    count = min(count, size - first)
    conn.send(b"%b ~{%d}\r\n" % (section.label, count))
    front = part.head[first : first + count]
    conn.send(front)
    count -= len(front)
    if not count:
        return
    first = max(first - len(part.head), 0)
    offset, decoded, decoder = index.before(first)
    skip = first - decoded
    while count:
        if offset >= part.source.length:
            raise NoContent("a part has become smaller")
        step = partial(_step, source=part.source, offset=offset, decoder=decoder)
        data, decoder = await conn.app.store.read(step)
        offset += PIECE
        wanted = data[skip : skip + count]
        skip = max(skip - len(data), 0)
        count -= len(wanted)
        conn.send(wanted)
        await conn.drain()


@contextmanager
def unbroken(conn: IMAPServer) -> Iterator[None]:
    """While part of a response has been written: what fails now ends the connection.

    A reply would be taken for bytes of the message.
    """
    try:
        yield
    except (Gone, TimedOut, StoreClosed):
        raise
    except Exception as exc:
        if isinstance(exc, StoreError):
            conn.log.error("a response cannot be written to its end", err=exc)
        else:
            conn.log.failure("a response cannot be written to its end", exc)
        conn.abort()
        raise Gone from exc
