"""The bytes of one connection: reading with time limits, writing with back-pressure, TLS.

`Connection` keeps `twisted.mail.imap4.IMAP4Server` as its class, so that it stays in its place
among Twisted's protocols, and replaces how input is read: one coroutine takes lines and
literals as it wants them, and while a command runs, further input waits, in a bounded buffer
and then in the network.
"""

from __future__ import annotations

import socket
from typing import Any, Final, Protocol, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IHalfCloseableProtocol,
    IHandshakeListener,
    IPushProducer,
    ISSLTransport,
)
from twisted.internet.protocol import connectionDone
from twisted.mail.imap4 import IMAP4Server
from twisted.python.failure import Failure
from zope.interface import implementer

from moxtw.imap.deflate import Compression, DeflateError
from moxtw.imap.errors import Close
from moxtw.imap.lexer import HIGH_WATER, MAX_LINE, Lexer, LineTooLong
from moxtw.log import TRACE, TRACEDATA, Logger
from moxtw.net.prompt import write_now

# Seconds. A write may stall longer once the client has authenticated.
READ_UNAUTHENTICATED: Final = 30
READ_AUTHENTICATED: Final = 30 * 60
READ_LITERAL: Final = 30
WRITE_UNAUTHENTICATED: Final = 30
WRITE_AUTHENTICATED: Final = 5 * 60
CLOSING: Final = 10
HANDSHAKE: Final = 60
KEEP_ALIVE: Final = 5 * 60

# Output is handed to the transport in pieces of about this size.
OUT_SIZE: Final = 64 * 1024
# Of slow output so many bytes take a second each; within the 30 s of a write all is out.
_SLOW_BYTES: Final = 25
# So many waits for input in a row may be over at once before others get their turn.
_TURNS: Final = 40


class Gone(Exception):
    """The connection was lost, or is given up."""


class TimedOut(Exception):
    """The client let a time limit pass."""


class Sink(Protocol):
    """What takes the bytes of a message: a spool of the store, or nothing."""

    def write(self, data: bytes) -> Deferred[None] | None:
        """Take bytes; a Deferred says when more are welcome."""


class Discard:
    """Takes bytes of a message that is refused."""

    def write(self, data: bytes) -> None:
        """Forget the bytes."""


@implementer(IPushProducer, IHandshakeListener, IHalfCloseableProtocol)
class Connection(IMAP4Server):
    """Reading and writing of one connection."""

    # Attributes of the base class that are not per connection here.
    challengers: dict[bytes, object] = {}
    _queuedAsync: list[bytes] = []  # noqa: N815 - a name of the base class
    ctx = None

    transport: Any
    slow = False
    lost = False
    closing = False
    authenticated = False
    _waiting: Deferred[None] | None = None
    _drained: Deferred[None] | None = None
    _handshake: Deferred[None] | None = None
    _blocked = False
    _paused = False
    _turns = 0
    # The client will send no more.
    _ended = False

    def __init__(self, clock: Any, log: Logger) -> None:
        # Not the initialiser of the base class: what it makes is for its own parser.
        self.clock = clock
        self.log = log
        self._lexer = Lexer()
        self._out: list[bytes] = []
        self._out_size = 0
        self._compression: Compression | None = None

    # The timer of TimeoutMixin, which has no types.

    def callLater(self, period: float, function: Any) -> Any:  # noqa: N802
        """Set a timer."""
        return self.clock.callLater(period, function)

    def setTimeout(self, period: float | None) -> None:  # noqa: N802
        """Start the timer anew with another period, or stop it (None)."""
        super().setTimeout(period)  # type: ignore[no-untyped-call]

    def resetTimeout(self) -> None:  # noqa: N802
        """Start the timer anew."""
        super().resetTimeout()  # type: ignore[no-untyped-call]

    # -- Events from the transport ----------------------------------------------------

    def opened(self) -> None:
        """Prepare the transport: keep-alive, back-pressure, first time limit."""
        _socket_options(self.transport)
        self.transport.registerProducer(self, True)
        self.setTimeout(READ_UNAUTHENTICATED)

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        """Keep what arrived, and go on with whoever waits for it."""
        if self.closing:
            return
        self.resetTimeout()
        if self._compression is None:
            self._lexer.feed(data)
        else:
            self._compression.feed(data)
            self._inflate(self._compression)
        waiting = self._waiting
        if waiting is not None:
            self._waiting = None
            waiting.callback(None)
        if not self._paused and (
            len(self._lexer) > HIGH_WATER
            or (self._compression is not None and self._compression.waiting)
        ):
            self._paused = True
            self.transport.pauseProducing()

    def _inflate(self, compression: Compression) -> bool:
        """Inflate some of the input, if nobody has enough; says whether there was any."""
        if len(self._lexer) > HIGH_WATER or not compression.waiting:
            return False
        try:
            self._lexer.feed(compression.inflate())
        except DeflateError as exc:
            self.log.info("compressed input", err=exc)
            self.close(b"* BYE compressed input is broken")
            self.connectionBroken()
        return True

    def connectionBroken(self) -> None:  # noqa: N802 - beside connectionLost
        """What has come makes no sense any more: an end for whoever waits."""
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.errback(Gone())

    def lineReceived(self, line: bytes) -> None:  # noqa: N802
        """Not used: `dataReceived` does without the framing of LineReceiver."""
        raise NotImplementedError

    def rawDataReceived(self, data: bytes) -> None:  # noqa: N802
        """Not used: literals are read by `read_literal` and `stream_literal`."""
        raise NotImplementedError

    def handshakeCompleted(self) -> None:  # noqa: N802
        """TLS is up (IHandshakeListener)."""
        waiting, self._handshake = self._handshake, None
        if waiting is not None:
            waiting.callback(None)

    def readConnectionLost(self) -> None:  # noqa: N802
        """The client closed its side; what it sent is answered still (IHalfCloseableProtocol)."""
        self._ended = True
        if self.closing:
            self.transport.loseConnection()
            return
        for name in ("_waiting", "_handshake"):
            waiting: Deferred[None] | None = getattr(self, name)
            if waiting is not None:
                setattr(self, name, None)
                waiting.errback(Gone())

    def writeConnectionLost(self) -> None:  # noqa: N802
        """Our side is closed: we did that (IHalfCloseableProtocol)."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: N802
        """End everything that waits."""
        self.lost = self.closing = True
        self.setTimeout(None)
        for name in ("_waiting", "_drained", "_handshake"):
            waiting: Deferred[None] | None = getattr(self, name)
            if waiting is not None:
                setattr(self, name, None)
                waiting.errback(Gone())

    def timeoutConnection(self) -> None:  # noqa: N802
        """The timer ran out: an end for whoever waits, while a running command goes on."""
        for name in ("_waiting", "_handshake"):
            waiting: Deferred[None] | None = getattr(self, name)
            if waiting is not None:
                setattr(self, name, None)
                waiting.errback(TimedOut())
                return
        if self._drained is not None or self.closing:
            self.abort()
        else:
            self.setTimeout(self._read_limit())

    def pauseProducing(self) -> None:  # noqa: N802
        """The transport holds more than it likes (IPushProducer)."""
        self._blocked = True

    def resumeProducing(self) -> None:  # noqa: N802
        """The transport has room again (IPushProducer)."""
        self._blocked = False
        waiting, self._drained = self._drained, None
        if waiting is not None:
            waiting.callback(None)

    def stopProducing(self) -> None:  # noqa: N802
        """The transport is closed (IPushProducer); `connectionLost` follows."""
        self._blocked = False

    # -- Reading ----------------------------------------------------------------------

    def _read_limit(self) -> int:
        return READ_AUTHENTICATED if self.authenticated else READ_UNAUTHENTICATED

    async def wait(self, limit: float | None = None) -> None:
        """Wait until more input has arrived, or `wake` is called.

        Raises TimedOut after `limit` seconds without input, Gone when the connection is lost.
        """
        if self.slow or self._blocked:
            await self.drain()
        else:
            self.flush()
        if self.closing:
            raise Gone
        if self._compression is not None and self._inflate(self._compression):
            if self.closing:
                raise Gone
            await self.take_turn()
            return
        if self._ended:
            raise Gone
        if self._paused:
            self._paused = False
            self.transport.resumeProducing()
        limit = self._read_limit() if limit is None else limit
        if self.timeOut != limit:
            self.setTimeout(limit)
        self._turns = 0
        self._waiting = Deferred()
        await self._waiting
        if self.slow:
            await self.sleep(1)

    def wake(self) -> None:
        """End a `wait` though no input has arrived."""
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)

    @property
    def waiting(self) -> bool:
        """Whether the connection waits for input."""
        return self._waiting is not None

    async def sleep(self, seconds: float) -> None:
        """Do nothing for a while. Raises Gone if the connection is lost then."""
        done: Deferred[None] = Deferred()
        self.clock.callLater(seconds, done.callback, None)
        await done
        if self.lost:
            raise Gone

    async def take_turn(self) -> None:
        """Let other connections have a turn, if this one has run for long without a wait."""
        self._turns += 1
        if self._turns >= _TURNS:
            self._turns = 0
            await self.sleep(0)

    async def read_line(self, limit: float | None = None, room: int = MAX_LINE) -> bytes:
        """The next line. Raises Close if it is longer than `room`."""
        while True:
            line = self.next_line(room)
            if line is not None:
                return line
            await self.wait(limit)

    def next_line(self, room: int = MAX_LINE) -> bytes | None:
        """The next line, or None if it has not arrived yet. Raises Close if it is too long."""
        try:
            return self._lexer.line(room)
        except LineTooLong as exc:
            raise self.line_too_long(exc.start) from None

    def line_too_long(self, start: bytes) -> Close:
        """What ends the connection after an endless line that begins with `start`."""
        return Close(b"* BYE lines are limited to %d bytes" % MAX_LINE)

    async def read_literal(self, size: int) -> bytes:
        """The bytes of a literal that fits into memory."""
        pieces = []
        while size:
            data = self._lexer.take(size)
            if data:
                pieces.append(data)
                size -= len(data)
            else:
                await self.wait(READ_LITERAL)
        return b"".join(pieces)

    async def stream_literal(self, size: int, sink: Sink) -> None:
        """Give the bytes of a literal to `sink` as they come."""
        while size:
            data = self._lexer.take(min(size, OUT_SIZE))
            if not data:
                await self.wait(READ_LITERAL)
                continue
            size -= len(data)
            written = sink.write(data)
            if written is not None:
                await written
                if self.lost:
                    raise Gone

    def trace_in(self, data: bytes, level: int = TRACE) -> None:
        """Put input into the log's protocol trace."""
        if self.log.enabled(TRACE):
            self.log.trace("C: ", data, level)

    # -- Writing ----------------------------------------------------------------------

    def send(self, data: bytes) -> None:
        """Write whole lines, with their ends. They leave with `flush` or `drain`."""
        self._out.append(data)
        self._out_size += len(data)

    # The response helpers of the base class, with types and without its queues.

    def sendLine(self, line: bytes) -> None:  # noqa: N802
        """Write a line without its end."""
        self.send(line + b"\r\n")

    def sendUntaggedResponse(  # noqa: N802
        self, message: bytes, isAsync: bool | None = None  # noqa: N803
    ) -> None:
        """Write an untagged response."""
        self.send(b"* %b\r\n" % message)

    def sendPositiveResponse(self, tag: bytes | None = None, message: bytes = b"") -> None:  # noqa: N802
        """Write an OK."""
        self.respond(b"OK", tag, message)

    def sendContinuationRequest(self, msg: bytes = b"go on") -> None:  # noqa: N802
        """Ask for more of a command."""
        self.send(b"+ %b\r\n" % msg)

    def respond(self, state: bytes, tag: bytes | None, message: bytes) -> None:
        """Write a status response, untagged if `tag` is None."""
        self.send(b"%b %b %b\r\n" % (tag or b"*", state, message))

    def flush(self, level: int = TRACE) -> None:
        """Hand what was sent to the transport."""
        if not self._out:
            return
        out, self._out, self._out_size = self._out, [], 0
        if self.closing:
            return
        data = out[0] if len(out) == 1 else b"".join(out)
        if self.log.enabled(TRACE):
            self.log.trace("S: ", data, level)
        if self._compression is not None:
            data = self._compression.deflate(data)
        write_now(self.transport, data)

    async def drain(self, level: int = TRACEDATA) -> None:
        """Hand what was sent to the transport, and wait while it holds too much.

        Raises Gone when the connection is lost.
        """
        if self.slow and self._out:
            await self._write_slowly()
        while self._compression is not None and self._out_size > OUT_SIZE and not self.closing:
            self._compress_some(self._compression, level)
            await self.sleep(0)
            await self._unblocked()
        self.flush(level)
        if self.lost:
            raise Gone
        await self._unblocked()

    def _compress_some(self, compression: Compression, level: int) -> None:
        """Hand some of what was sent to the transport, never all: compressing takes its time."""
        size = count = 0
        while size < OUT_SIZE:
            size += len(self._out[count])
            count += 1
        data = b"".join(self._out[:count])
        self._out = [data[OUT_SIZE:], *self._out[count:]]
        self._out_size -= OUT_SIZE
        data = data[:OUT_SIZE]
        if self.log.enabled(TRACE):
            self.log.trace("S: ", data, level)
        packed = compression.deflate(data, flush=False)
        if packed:
            write_now(self.transport, packed)

    async def _unblocked(self) -> None:
        """Wait while the transport holds too much. Raises Gone."""
        if self._blocked:
            self.setTimeout(WRITE_AUTHENTICATED if self.authenticated else WRITE_UNAUTHENTICATED)
            self._drained = Deferred()
            await self._drained
            self.setTimeout(self._read_limit())

    async def _write_slowly(self) -> None:
        """A byte a second, and after a while the rest: for clients that guess passwords."""
        data = b"".join(self._out)
        self._out, self._out_size = [], 0
        slowly = data[:_SLOW_BYTES]
        for index in range(len(slowly)):
            self.transport.write(slowly[index : index + 1])
            self.resetTimeout()
            await self.sleep(1)
        if len(data) > _SLOW_BYTES:
            self.transport.write(data[_SLOW_BYTES:])

    # -- Ends -------------------------------------------------------------------------

    async def handshake(self) -> None:
        """Wait until TLS is up. Raises TimedOut and Gone."""
        if self.lost:
            raise Gone
        self.setTimeout(HANDSHAKE)
        self._handshake = Deferred()
        await self._handshake
        self.setTimeout(self._read_limit())

    def start_tls(self, context: Any) -> None:
        """Go over to TLS, with nothing of the input that has arrived (RFC 9051 6.2.1)."""
        self.flush()
        self._lexer.clear()
        if self._paused:
            self._paused = False
            self.transport.resumeProducing()
        self.transport.startTLS(context)
        self.startedTLS = True

    def start_compression(self) -> None:
        """Go over to DEFLATE in both directions; what has arrived already is compressed."""
        self.flush()
        self._compression = Compression()
        self._compression.feed(self._lexer.take(len(self._lexer)))

    @property
    def compressed(self) -> bool:
        """Whether the connection is compressed (RFC 4978)."""
        return self._compression is not None

    @property
    def secure(self) -> bool:
        """Whether TLS is active."""
        return self.startedTLS or ISSLTransport.providedBy(self.transport)

    def close(self, *lines: bytes) -> None:
        """Write last lines and close."""
        if self.closing:
            return
        for line in lines:
            self.sendLine(line)
        self.flush()
        self.closing = True
        self._lexer.clear()
        if self._paused:
            # Else the end of the connection would not be seen.
            self._paused = False
            self.transport.resumeProducing()
        self.transport.unregisterProducer()
        self.setTimeout(CLOSING)
        self.transport.loseConnection()

    def abort(self) -> None:
        """Drop the connection at once."""
        self.closing = True
        self.setTimeout(None)
        abort = getattr(self.transport, "abortConnection", self.transport.loseConnection)
        abort()


def _socket_options(transport: Any) -> None:
    """Have the kernel look after idle peers, and send without delay."""
    while transport is not None and not isinstance(
        getattr(transport, "socket", None), socket.socket
    ):
        transport = getattr(transport, "transport", None)
    if transport is None:
        return
    sock = cast("socket.socket", transport.socket)
    if sock.family in (socket.AF_INET, socket.AF_INET6):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEP_ALIVE)
        # Answers leave in few large writes: the last must not wait for an acknowledgement.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
