"""One question to one server, by UDP or by TCP.

Every UDP question has a socket of its own, whose port the kernel picks at random, and which
is connected, so that only packets from the asked server get through (RFC 5452 9).
"""

from __future__ import annotations

import typing
from typing import Any

from twisted.internet import error
from twisted.internet.defer import Deferred
from twisted.internet.protocol import ClientFactory, DatagramProtocol, Protocol
from twisted.python.failure import Failure

from moxtw.dns.resolvconf import Server
from moxtw.dns.wire import is_answer

# After so many packets that pretend to be the answer, somebody is guessing.
MAX_FORGED = 32


class ExchangeError(Exception):
    """No answer came, for another reason than the time."""


class Forged(ExchangeError):
    """Many packets came that are not the answer: better ask by TCP."""


class Transport(typing.Protocol):
    """How questions get to servers. Cancelling the Deferred gives the question up."""

    def udp(self, server: Server, query: bytes) -> Deferred[bytes]:
        """Send a query, get its answer; fails with ExchangeError."""
        ...

    def tcp(self, server: Server, query: bytes) -> Deferred[bytes]:
        """The same over a connection."""
        ...


class TwistedTransport:
    """Asks over the sockets of a reactor (IReactorUDP, IReactorTCP)."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        # Ports that are closing: the service waits for them when it stops.
        self.closing: set[Deferred[None]] = set()

    def udp(self, server: Server, query: bytes) -> Deferred[bytes]:
        """See Transport."""
        asking = _Datagrams(server, query, self)
        try:
            asking.port = self._reactor.listenUDP(
                0, asking, "::" if ":" in server.ip else "", maxPacketSize=4096
            )
            asking.port.connect(server.ip, server.port)
            asking.port.write(query)
        except (error.CannotListenError, OSError) as exc:
            asking.finish(_failure(ExchangeError(str(exc))))
        return asking.result

    def tcp(self, server: Server, query: bytes) -> Deferred[bytes]:
        """See Transport."""
        asking = _Connection(query)
        asking.connector = self._reactor.connectTCP(server.ip, server.port, asking, timeout=30)
        return asking.result

    def _close(self, port: Any) -> None:
        closed = port.stopListening()
        if isinstance(closed, Deferred) and not closed.called:
            self.closing.add(closed)
            closed.addBoth(lambda _: self.closing.discard(closed))


def _failure(exc: Exception) -> Failure:
    return Failure(exc)


class _Datagrams(DatagramProtocol):
    noisy = False

    def __init__(self, server: Server, query: bytes, transport: TwistedTransport) -> None:
        self._server = server
        self._query = query
        self._owner = transport
        self._forged = 0
        self.port: Any = None
        self.result: Deferred[bytes] = Deferred(lambda _: self.finish(None))

    def datagramReceived(self, data: bytes, addr: Any) -> None:  # noqa: N802
        if is_answer(self._query, data):
            self.finish(data)
            return
        self._forged += 1
        if self._forged >= MAX_FORGED:
            self.finish(_failure(Forged("too many packets that are not the answer")))

    def connectionRefused(self) -> None:  # noqa: N802
        self.finish(_failure(ExchangeError("connection refused")))

    def stopProtocol(self) -> None:  # noqa: N802
        # A reactor that polls sees the refusal as an error of the socket, and closes it.
        if self.port is not None:
            self.port = None
            self.finish(_failure(ExchangeError("connection refused")))

    def finish(self, outcome: bytes | Failure | None) -> None:
        if self.port is not None:
            port, self.port = self.port, None
            self._owner._close(port)
        if outcome is not None and not self.result.called:
            self.result.callback(outcome)


class _Connection(ClientFactory):
    """A TCP connection for one query; messages have their length before them (RFC 7766 8)."""

    noisy = False

    def __init__(self, query: bytes) -> None:
        self.query = query
        self.connector: Any = None
        self._given_up = False
        self.result: Deferred[bytes] = Deferred(self._give_up)

    def buildProtocol(self, addr: Any) -> _Message:  # noqa: N802
        return _Message(self)

    def clientConnectionFailed(self, connector: Any, reason: Failure) -> None:  # noqa: N802
        self.finish(_failure(ExchangeError(reason.getErrorMessage())))

    def finish(self, outcome: bytes | Failure) -> None:
        if not self.result.called and not self._given_up:
            self.result.callback(outcome)

    def _give_up(self, _: object) -> None:
        # Disconnecting reports a failed connection at once, which would hide who wanted it.
        self._given_up = True
        self.connector.disconnect()


class _Message(Protocol):
    transport: Any

    def __init__(self, asking: _Connection) -> None:
        self._asking = asking
        self._received = bytearray()

    def connectionMade(self) -> None:  # noqa: N802
        query = self._asking.query
        self.transport.write(len(query).to_bytes(2) + query)

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        self._received += data
        size = 2 + int.from_bytes(self._received[:2])
        if len(self._received) < max(size, 2):
            return
        message = bytes(self._received[2:size])
        if is_answer(self._asking.query, message):
            self._asking.finish(message)
        else:
            self._asking.finish(_failure(ExchangeError("answer to another question")))
        self.transport.abortConnection()

    def connectionLost(self, reason: Any = None) -> None:  # noqa: N802
        self._asking.finish(_failure(ExchangeError("connection closed before the answer")))
