"""The server's side of the control socket: one command after the other on each connection."""

from __future__ import annotations

import errno
import inspect
import os
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.protocol import Protocol, ServerFactory, connectionDone
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure

from moxtw.admin.audit import Audit
from moxtw.admin.clock import Clock, DelayedCall
from moxtw.admin.context import AdminContext, Caller, OperationError
from moxtw.ctl import CHUNK, GREETING, MAX_LINE
from moxtw.log import Logger

log = Logger("ctl")

IDLE_TIMEOUT: Final = 300
"""Seconds between commands, and for an acknowledgement."""
PARAMETER_TIMEOUT: Final = 60
"""Seconds for each parameter line: people type passwords before, not meanwhile."""
MAX_CONNECTIONS: Final = 50


class ConnectionLost(Exception):
    """The client went away."""


@dataclass(frozen=True, slots=True)
class Lines:
    """An answer of lines after ``ok``."""

    lines: Sequence[str]


@dataclass(frozen=True, slots=True)
class Stream:
    """An answer that is a stream after ``ok``: bytes, or pieces of them as they come."""

    data: bytes | AsyncIterator[bytes]


@dataclass(frozen=True, slots=True)
class Takeover:
    """An answer after whose ``ok`` the connection belongs to another protocol."""

    protocol: Protocol


Answer = Lines | Stream | Takeover | None
Handler = Callable[..., Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Command:
    """A command with how many parameter lines it has.

    `handler` gets the context, the caller and the parameters. `reads`: it changes nothing.
    """

    handler: Handler
    params: int
    reads: bool = False

    def named(self, params: Sequence[str]) -> dict[str, str]:
        """Parameters by the names that the handler has for them."""
        names = list(inspect.signature(self.handler).parameters)[2:]
        return dict(zip(names, params, strict=True))


class ControlProtocol(LineReceiver):
    """One connection."""

    delimiter = b"\n"
    MAX_LENGTH = MAX_LINE

    def __init__(
        self,
        context: AdminContext,
        commands: Mapping[str, Command],
        clock: Clock,
        gone: Callable[[ControlProtocol], object],
    ) -> None:
        self._context = context
        self._gone = gone
        self._commands = commands
        self._clock = clock
        self._lines: list[str] = []
        self._waiting: Deferred[str] | None = None
        self._timer: DelayedCall | None = None
        self._lost = False
        self._successor: Protocol | None = None
        self.busy = False

    def connectionMade(self) -> None:
        """Greet, and serve."""
        self._write_line(GREETING)
        Deferred.fromCoroutine(self._serve()).addErrback(self._failed)

    async def _serve(self) -> None:
        caller = Caller("ctl", _peer_name(self.transport), cid=self._context.ids.next())
        while True:
            try:
                name = await self._read_line(IDLE_TIMEOUT)
            except ConnectionLost:
                return
            self.busy = True
            try:
                await self._command(name, caller)
            except ConnectionLost:
                log.info("connection lost during command", cid=caller.cid, command=name)
                return
            finally:
                self.busy = False
            if self._lost or self._successor is not None:
                return

    async def _command(self, name: str, caller: Caller) -> None:
        command = self._commands.get(name)
        if command is None:
            # What follows may be parameters: they cannot be told from commands.
            self._write_line("unknown command")
            self._close()
            return
        params = [await self._read_line(PARAMETER_TIMEOUT) for _ in range(command.params)]
        log.debug("command", cid=caller.cid, command=name)
        try:
            answer = await self._noted(name, command, caller, params)
        except OperationError as exc:
            log.debug("command refused", cid=caller.cid, command=name, err=exc)
            self._write_line(_one_line(str(exc)))
            return
        except Exception as exc:  # noqa: BLE001 - whatever it was, the server goes on
            log.failure("command failed", exc, cid=caller.cid, command=name)
            self._write_line("internal error, see the log of the server")
            return
        self._write_line("ok")
        if isinstance(answer, Lines):
            for line in answer.lines:
                self._write_line(_one_line(line))
        elif isinstance(answer, Stream):
            await self._write_stream(answer, caller)
        elif isinstance(answer, Takeover) and not self._lost:
            self._give_over(answer.protocol)

    def _give_over(self, protocol: Protocol) -> None:
        """Let another protocol have the connection, and what came in already."""
        transport: Any = self.transport
        self._gone(self)
        self._successor = transport.protocol = protocol
        transport.resumeProducing()
        protocol.makeConnection(transport)
        for line in self._lines:
            protocol.dataReceived(line.encode() + b"\r\n")
        self._lines.clear()
        if rest := self.clearLineBuffer():  # type: ignore[no-untyped-call]
            protocol.dataReceived(rest)

    async def _noted(
        self, name: str, command: Command, caller: Caller, params: Sequence[str]
    ) -> Answer:
        """Run a command; one that may change something with an entry in the audit log."""
        if command.reads:
            return await command.handler(self._context, caller, *params)
        audit = self._context.audit
        entry = await audit.begin(caller, name, command.named(params))
        try:
            answer = await command.handler(self._context, caller, *params)
        except Exception as exc:
            await audit.failed(entry, exc)
            raise
        if isinstance(answer, Stream) and not isinstance(answer.data, bytes):
            return Stream(_noted_stream(answer.data, audit, entry))
        await audit.end(entry)
        return answer

    async def _write_stream(self, stream: Stream, caller: Caller) -> None:
        data = stream.data
        try:
            if isinstance(data, bytes):
                for start in range(0, len(data), CHUNK):
                    await self._write_chunk(data[start : start + CHUNK])
            else:
                async for piece in data:
                    for start in range(0, len(piece), CHUNK):
                        await self._write_chunk(piece[start : start + CHUNK])
        except OperationError as exc:
            # In place of a length: the client takes it for the error that it is.
            self._write_line("error: " + _one_line(str(exc)))
            return
        except ConnectionLost:
            raise
        except Exception as exc:  # noqa: BLE001
            log.failure("command failed", exc, cid=caller.cid)
            self._write_line("internal error, see the log of the server")
            return
        self._write_line("0")

    async def _write_chunk(self, data: bytes) -> None:
        if not data:
            return
        transport: Any = self.transport
        transport.write(b"%d\n" % len(data))
        transport.write(data)
        line = await self._read_line(IDLE_TIMEOUT)
        if line != "ok":
            log.info("client stopped a stream", err=line)
            self._close()
            raise ConnectionLost

    def _failed(self, failure: Failure) -> None:
        log.failure("control connection", failure)
        self._close()

    def lineReceived(self, line: bytes) -> None:
        """A line came in; while no one reads, only a few are taken."""
        if self._successor is not None:
            self._successor.dataReceived(line + b"\n")
            return
        text = line.removesuffix(b"\r").decode("utf-8", "replace")
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            self._stop_timer()
            waiting.callback(text)
        else:
            self._lines.append(text)
            if len(self._lines) > 16:
                transport: Any = self.transport
                transport.pauseProducing()

    def lineLengthExceeded(self, line: bytes) -> None:
        """A line over the limit."""
        self._write_line("line too long")
        self._close()

    async def _read_line(self, timeout: float) -> str:
        if self._lines:
            line = self._lines.pop(0)
            if len(self._lines) == 16 and not self._lost:
                transport: Any = self.transport
                transport.resumeProducing()
            return line
        if self._lost:
            raise ConnectionLost
        self._waiting = Deferred()
        self._timer = self._clock.callLater(timeout, self._timed_out)
        return await self._waiting

    def _timed_out(self) -> None:
        self._timer = None
        self._close()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _write_line(self, line: str) -> None:
        transport: Any = self.transport
        transport.write(line.encode("utf-8", "replace") + b"\n")

    def _close(self) -> None:
        transport: Any = self.transport
        transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The client is gone; a command that runs goes on to its end."""
        self._lost = True
        self._stop_timer()
        self._gone(self)
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.errback(ConnectionLost())

    def close_idle(self) -> None:
        """Close the connection unless it runs a command."""
        if not self.busy:
            self._close()


async def _noted_stream(
    pieces: AsyncIterator[bytes], audit: Audit, entry: int
) -> AsyncIterator[bytes]:
    """The same pieces, of an operation that works while they come."""
    try:
        async for piece in pieces:
            yield piece
    except Exception as exc:
        await audit.failed(entry, exc)
        raise
    except GeneratorExit:
        # Of what goes on by itself nobody hears any more.
        Deferred.fromCoroutine(audit.end(entry, "lost", "the client went away before the end"))
        raise
    await audit.end(entry)


def _one_line(text: str) -> str:
    return " ".join(text.splitlines()) or "error"


def _peer_name(transport: Any) -> str:
    """Who is at the other end, by the kernel's word."""
    sock = getattr(transport, "socket", None)
    if sock is None or not hasattr(socket, "SO_PEERCRED"):
        return "unknown"
    try:
        data = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    except OSError:
        return "unknown"
    _, uid, _ = struct.unpack("3i", data)
    return f"uid {uid}"


class ControlFactory(ServerFactory[ControlProtocol]):
    """Connections to the control socket."""

    noisy = False

    def __init__(
        self, context: AdminContext, commands: Mapping[str, Command], clock: Clock
    ) -> None:
        self._context = context
        self._commands = commands
        self._clock = clock
        self.connections: set[ControlProtocol] = set()

    def buildProtocol(self, addr: Any) -> ControlProtocol | None:  # noqa: N802
        """A connection; over the limit it is closed at once."""
        if len(self.connections) >= MAX_CONNECTIONS:
            log.warn("too many connections to the control socket")
            return None
        protocol = ControlProtocol(
            self._context, self._commands, self._clock, self.connections.discard
        )
        protocol.factory = self
        self.connections.add(protocol)
        return protocol


class ControlService(Service):
    """Listens on the control socket at `path`."""

    name = "ctl"

    def __init__(
        self,
        context: AdminContext,
        path: str,
        reactor: Any,
        commands: Mapping[str, Command] | None = None,
    ) -> None:
        if commands is None:
            from moxtw.ctl.commands import COMMANDS

            commands = COMMANDS
        self._path = path
        self._reactor = reactor
        self._port: Any = None
        self._directory = -1
        self.factory = ControlFactory(context, commands, reactor)

    def startService(self) -> None:
        """Make the socket and listen.

        A socket that nobody serves any more is replaced. Raises OSError (EADDRINUSE) if a
        server answers there.
        """
        super().startService()  # type: ignore[no-untyped-call]
        directory, name = os.path.split(self._path)
        # Through the directory's descriptor, as a socket address holds only 108 bytes.
        self._directory = os.open(directory or ".", os.O_PATH | os.O_DIRECTORY)
        short = f"/proc/self/fd/{self._directory}/{name}"
        try:
            _remove_stale(short)
            # Never open to others, not even until its mode is set.
            umask = os.umask(0o117)
            try:
                self._port = self._reactor.listenUNIX(short, self.factory, mode=0o660)
            finally:
                os.umask(umask)
        except BaseException:
            os.close(self._directory)
            raise

    async def _stop(self) -> None:
        port, self._port = self._port, None
        if port is not None:
            await maybeDeferred(port.stopListening)
            os.close(self._directory)
        for connection in list(self.factory.connections):
            connection.close_idle()

    def stopService(self) -> Deferred[None]:
        """Stop listening, close idle connections, remove the socket."""
        super().stopService()  # type: ignore[no-untyped-call]
        return Deferred.fromCoroutine(self._stop())


def _remove_stale(path: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(5)
        try:
            probe.connect(path)
        except FileNotFoundError:
            return
        except ConnectionRefusedError:
            os.unlink(path)
            return
    raise OSError(errno.EADDRINUSE, "another server serves the control socket")
