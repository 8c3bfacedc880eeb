"""Compression of a connection (RFC 4978): raw DEFLATE (RFC 1951) in both directions.

What the client sends may become a thousand times as much: it is inflated only so far as
somebody takes it. What it gets ends at a byte, so that it can inflate all that was said.
"""

from __future__ import annotations

import zlib
from typing import Final

# The server's side has more to say, and time matters more than the last percent.
_LEVEL: Final = 4
_RAW: Final = -15
PIECE: Final = 64 * 1024
"""Bytes that are inflated at a time, at most."""


class DeflateError(Exception):
    """The client's bytes are no DEFLATE stream, or its end."""


class Compression:
    """Both directions of a connection."""

    __slots__ = ("_deflate", "_full", "_inflate", "_waiting")

    def __init__(self) -> None:
        self._deflate = zlib.compressobj(_LEVEL, zlib.DEFLATED, _RAW)
        self._inflate = zlib.decompressobj(_RAW)
        self._waiting = b""
        # The inflater may hold more than it has given, though it has taken all of the input.
        self._full = False

    @property
    def waiting(self) -> bool:
        """Whether `inflate` may have more without further input."""
        return self._full or bool(self._waiting)

    def feed(self, data: bytes) -> None:
        """Take input."""
        self._waiting = self._waiting + data if self._waiting else data

    def inflate(self) -> bytes:
        """Some of what the input means; empty if more of it is needed. Raises DeflateError."""
        if not self.waiting:
            return b""
        given = self._waiting
        try:
            data = self._inflate.decompress(given, PIECE)
        except zlib.error as exc:
            raise DeflateError(str(exc)) from exc
        self._waiting = self._inflate.unconsumed_tail
        self._full = len(data) == PIECE
        if self._inflate.eof and given and not data:
            raise DeflateError("end of the stream")
        return data

    def deflate(self, data: bytes, flush: bool = True) -> bytes:
        """What to send for some output: all of it, or without `flush` as it comes out."""
        packed = self._deflate.compress(data)
        return packed + self._deflate.flush(zlib.Z_SYNC_FLUSH) if flush else packed
