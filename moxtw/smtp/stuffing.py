"""Message content for DATA: dot-stuffing and line ends, by whole pieces (RFC 5321 4.5.2)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from moxtw.queue.delivery import DeliveryError, Trouble

PIECE: Final = 256 * 1024
"""Bytes of content that are read and sent at once."""


class ContentError(ValueError):
    """Content that cannot be sent by DATA."""


class Stuffer:
    """Makes pieces of a message ready for the wire, wherever they were cut.

    A carriage return at the end of a piece waits for what follows it.
    """

    __slots__ = ("_at_start", "_held")

    def __init__(self) -> None:
        self._held = b""
        # Whether what comes next begins a line.
        self._at_start = True

    def feed(self, piece: bytes) -> bytes:
        """The form on the wire of a piece that is not the last.

        Raises ContentError for a CR or LF alone: between servers that take one for a line
        end and servers that do not, a message can hide another (RFC 5321 2.3.8).
        """
        if self._held:
            piece = self._held + piece
            self._held = b""
        if piece.endswith(b"\r"):
            self._held = b"\r"
            piece = piece[:-1]
        if not piece:
            return b""
        ends = piece.count(b"\n")
        if piece.count(b"\r\n") != ends or piece.count(b"\r") != ends:
            raise ContentError("message has a carriage return or line feed alone")
        stuffed = piece.replace(b"\r\n.", b"\r\n..")
        if self._at_start and piece.startswith(b"."):
            stuffed = b"." + stuffed
        self._at_start = piece.endswith(b"\n")
        return stuffed

    def last(self, piece: bytes) -> bytes:
        """The form on the wire of the last piece, with the end of the content."""
        stuffed = self.feed(piece)
        if self._held:
            raise ContentError("message has a carriage return or line feed alone")
        return stuffed + (b".\r\n" if self._at_start else b"\r\n.\r\n")


class Source:
    """The content of a message as pieces ready for the wire."""

    def __init__(self, read: Callable[[int, int], Awaitable[bytes]], size: int) -> None:
        self._fetch = read
        self._size = size
        self._first = b""
        self._at = 0
        self._stuffer = Stuffer()
        self.ended = False

    async def first(self) -> None:
        """Get the first piece, and look for what cannot be sent, before anything is said."""
        self._first = await self._read(0)
        if self._size <= PIECE:
            self._checked(Stuffer().last, self._first)

    def rewind(self) -> None:
        """Begin again."""
        self._at = 0
        self._stuffer = Stuffer()
        self.ended = False

    async def next(self) -> bytes | None:
        """The next piece, the last one with the final dot; then None. Raises DeliveryError."""
        if self.ended:
            return None
        piece = self._first if self._at == 0 else await self._read(self._at)
        self._at += len(piece)
        if self._at < self._size:
            return self._checked(self._stuffer.feed, piece)
        self.ended = True
        return self._checked(self._stuffer.last, piece)

    async def _read(self, start: int) -> bytes:
        wanted = min(PIECE, self._size - start)
        try:
            data = await self._fetch(start, wanted)
        except DeliveryError:
            raise
        except Exception as exc:
            raise DeliveryError(Trouble.LOCAL, f"reading the message: {exc}") from exc
        if len(data) != wanted:
            raise DeliveryError(Trouble.LOCAL, "message is shorter than it should be")
        return data

    @staticmethod
    def _checked(call: Callable[[bytes], bytes], piece: bytes) -> bytes:
        try:
            return call(piece)
        except ContentError as exc:
            raise DeliveryError(Trouble.LOCAL, str(exc), permanent=True, secode="6.0") from exc
