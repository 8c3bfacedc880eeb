"""Removing header fields from content that has come in: for those that claim to be ours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from moxtw.authn.foreign import forged
from moxtw.authn.signedmessage import Source
from moxtw.mail.domain import Domain
from moxtw.mail.header import MAX_HEADER_BYTES, find_body
from moxtw.store.content import SMALL, Contents, Spooled

_PIECE: Final = 1 << 18

Spans = Sequence[tuple[int, int]]


def cut(data: bytes, spans: Spans) -> bytes:
    """Bytes without some spans of them, which are in order."""
    pieces = []
    at = 0
    for start, end in spans:
        pieces.append(data[at:start])
        at = end
    pieces.append(data[at:])
    return b"".join(pieces)


def forged_spans(content: Source, hostname: Domain) -> list[tuple[int, int]]:
    """Where in a message Authentication-Results fields stand that claim to be of this host.

    Reads the header section: of large messages not for the reactor's thread.
    """
    data = content.read(0, min(content.size, MAX_HEADER_BYTES + 4))
    return forged(data[: find_body(data, 0, len(data))], hostname)


async def without(contents: Contents, content: Spooled, spans: Spans) -> Spooled:
    """The content without these spans, as new content; for its owner to discard.

    Raises DiskFull, OSError.
    """
    if content.size <= SMALL:
        return await contents.from_bytes(cut(content.read(0, content.size), spans))
    spool = contents.spool()
    try:
        head = content.read(0, spans[-1][1])
        written = spool.write(cut(head, spans))
        at = len(head)
        while at < content.size:
            if written is not None:
                await written
            piece = await contents.store.disk(lambda a=at: content.read(a, _PIECE))  # type: ignore[misc]
            if not piece:
                raise OSError("content is shorter than it was")
            written = spool.write(piece)
            at += len(piece)
        if written is not None:
            await written
    except BaseException:
        spool.discard()
        raise
    return await spool.finish()
