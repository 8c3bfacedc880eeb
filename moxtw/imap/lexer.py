"""The bytes that have arrived and are not used yet: cut into lines and literals.

Every byte is looked at once for a line end and copied once, whatever the sizes of the pieces
that the network delivers.
"""

from __future__ import annotations

from typing import Final

# RFC 9051 section 4: a client should keep to 8192 octets. Without literals.
MAX_LINE: Final = 16 * 1024
# Literals in arguments of a command; message literals of APPEND are not meant.
MAX_LITERAL: Final = 100 * 1024
MAX_LITERALS_SIZE: Final = 1000 * 1024
MAX_LITERALS: Final = 1000
# Above this the connection is not read until what has arrived is used.
HIGH_WATER: Final = 128 * 1024


class LineTooLong(Exception):
    """A line without an end; `start` is how it begins."""

    def __init__(self, start: bytes) -> None:
        super().__init__("line too long")
        self.start = start


class Lexer:
    """A buffer with a place up to which no line end was found."""

    __slots__ = ("_buf", "_pos", "_scanned")

    def __init__(self) -> None:
        self._buf = bytearray()
        self._pos = 0
        self._scanned = 0

    def __len__(self) -> int:
        return len(self._buf) - self._pos

    def feed(self, data: bytes) -> None:
        """Add what has arrived."""
        if self._pos:
            # The front of a bytearray is dropped without moving the rest.
            del self._buf[: self._pos]
            self._scanned -= self._pos
            self._pos = 0
        self._buf += data

    def clear(self) -> None:
        """Forget what has arrived (RFC 9051 6.2.1: nothing is taken over into TLS)."""
        self._buf = bytearray()
        self._pos = self._scanned = 0

    def line(self, limit: int = MAX_LINE) -> bytes | None:
        """The next line without its end (CR LF, or LF alone); None if it is not all there.

        Raises LineTooLong for more than `limit` bytes without an end.
        """
        buf, pos = self._buf, self._pos
        end = buf.find(b"\n", max(self._scanned, pos), pos + limit + 2)
        if end < 0:
            self._scanned = len(buf)
            if len(buf) - pos > limit + 1:
                raise LineTooLong(bytes(buf[pos : pos + 1100]))
            return None
        self._pos = self._scanned = end + 1
        if end > pos and buf[end - 1] == 13:
            end -= 1
        if end - pos > limit:
            raise LineTooLong(bytes(buf[pos : pos + 1100]))
        line = bytes(memoryview(buf)[pos:end])
        if self._pos == len(buf):
            self._drop()
        return line

    def take(self, most: int) -> bytes:
        """Up to `most` bytes, as many as are there."""
        buf, pos = self._buf, self._pos
        if len(buf) - pos <= most:
            data = bytes(memoryview(buf)[pos:]) if pos else bytes(buf)
            self._drop()
            return data
        self._pos = self._scanned = pos + most
        return bytes(memoryview(buf)[pos : pos + most])

    def _drop(self) -> None:
        # A new one rather than a cleared one: idle connections hold no memory here.
        self._buf = bytearray()
        self._pos = self._scanned = 0
