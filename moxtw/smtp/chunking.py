"""BDAT: message content in counted pieces (RFC 3030).

The bytes of a chunk follow its command line at once, so they are read and dropped also when
the command is refused: what comes behind them is the next command.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from moxtw.smtp import data, grammar
from moxtw.smtp.reply import SMTPError
from moxtw.smtp.spooling import Incoming, not_stored

if TYPE_CHECKING:
    from moxtw.smtp.server import SMTPServer


class LineEnds:
    """Brings the line ends of text in order, wherever its pieces were cut.

    A bare LF becomes CRLF, as with DATA. A bare CR makes the text `bad`; from then on there is
    no output. A CR at the end of a piece waits for what follows it.
    """

    __slots__ = ("_held", "bad")

    def __init__(self) -> None:
        self._held = b""
        self.bad = False

    def feed(self, piece: bytes, last: bool) -> bytes:
        """The text of a piece, as far as it is clear what that is."""
        text = self._held + piece
        self._held = b""
        if not last and text.endswith(b"\r"):
            self._held = b"\r"
            text = text[:-1]
        crs = text.count(b"\r")
        if crs:
            pairs = text.count(b"\r\n")
            self.bad = self.bad or pairs != crs
            if text.count(b"\n") != pairs:
                text = text.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        elif b"\n" in text:
            text = text.replace(b"\n", b"\r\n")
        return b"" if self.bad else text


class Chunks:
    """A message that comes in chunks. lines: None for content of any bytes (BINARYMIME)."""

    __slots__ = ("lines", "message")

    def __init__(self, message: Incoming, *, binary: bool) -> None:
        self.message = message
        self.lines = None if binary else LineEnds()

    @property
    def bad(self) -> bool:
        """Whether there are bare CRs in what has to be text."""
        return self.lines is not None and self.lines.bad

    def take(self, piece: bytes, last: bool) -> Deferred[None] | None:
        """Take bytes; a Deferred: to be waited for before more come."""
        message = self.message
        message.size += len(piece)
        if self.lines is not None:
            piece = self.lines.feed(piece, last)
            if self.lines.bad:
                message.discard()
        return message.take(piece)

    def discard(self) -> None:
        """Let go of what was stored."""
        self.message.discard()


class ChunkReceiving:
    """The bytes of one chunk. error: why they are not taken."""

    __slots__ = ("_chunks", "_error", "_last", "_left", "_size")

    def __init__(
        self, size: int, *, last: bool, chunks: Chunks | None, error: SMTPError | None = None
    ) -> None:
        self._size = self._left = size
        self._last = last
        self._chunks = chunks
        self._error = error

    def feed(self, chunk: bytes) -> tuple[bool, bytes, Deferred[None] | None]:
        """See `data.Receiving`."""
        rest = b""
        if len(chunk) > self._left:
            chunk, rest = chunk[: self._left], chunk[self._left :]
        self._left -= len(chunk)
        done = not self._left
        waiting = None
        if self._chunks is not None:
            if not done:
                self._chunks.message.check_time()
            waiting = self._chunks.take(chunk, done and self._last)
        return done, rest, waiting

    def write_failed(self, failure: Failure) -> None:
        """See `data.Receiving`."""
        if self._chunks is not None:
            self._chunks.message.write_failed(failure)

    def discard(self) -> None:
        """See `data.Receiving`."""
        if self._chunks is not None:
            self._chunks.discard()

    async def complete(self, conn: SMTPServer, waiting: Deferred[None] | None) -> None:
        """Answer for the chunk, with the last one for the message (RFC 3030 2)."""
        if self._error is not None:
            raise self._error
        chunks = self._chunks
        assert chunks is not None
        if self._last:
            await data.finish(conn, chunks.message, waiting, bad=chunks.bad)
            return
        if waiting is not None:
            waiting.addErrback(chunks.message.write_failed)
            await waiting
        if chunks.bad or chunks.message.spool is None:
            # The other chunks need not be sent.
            conn.transactions_bad += 1
            conn.reset()
            raise data.bare_cr() if chunks.bad else not_stored(chunks.message.error)
        conn.reply(250, "2.0.0", f"{self._size} bytes taken")


def command(conn: SMTPServer, rest: str) -> Awaitable[None] | None:
    """BDAT size [LAST]. None: the bytes are awaited; else what to wait for."""
    try:
        size, last = grammar.bdat(rest, trailing=conn.trailing)
    except SMTPError as exc:
        # Nobody knows where the next command begins.
        exc.close = True
        raise
    receiving = _receiving(conn, size, last)
    if not size:
        return receiving.complete(conn, receiving.feed(b"")[2])
    conn.start_receiving(receiving)
    return None


def _receiving(conn: SMTPServer, size: int, last: bool) -> ChunkReceiving:
    try:
        transaction = data.need_recipients(conn)
    except SMTPError as exc:
        if size > conn.settings.max_size:
            exc.close = True
            raise
        return ChunkReceiving(size, last=last, chunks=None, error=exc)
    chunks = transaction.chunks
    if chunks is None:
        binary = transaction.mail.body == "BINARYMIME"
        chunks = transaction.chunks = Chunks(data.incoming(conn), binary=binary)
    if chunks.message.size + size > conn.settings.max_size:
        conn.transactions_bad += 1
        conn.reset()
        error = SMTPError(
            552, "5.3.4", f"message too large, maximum is {conn.settings.max_size} bytes"
        )
        if size > conn.settings.max_size:
            # Not worth to be read to its end.
            error.close = True
            raise error
        return ChunkReceiving(size, last=last, chunks=None, error=error)
    return ChunkReceiving(size, last=last, chunks=chunks)
