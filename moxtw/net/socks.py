"""Connecting through a SOCKS5 proxy without authentication (RFC 1928)."""

from __future__ import annotations

import ipaddress
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

_REPLIES: Final = {
    1: "general failure",
    2: "not allowed",
    3: "network unreachable",
    4: "host unreachable",
    5: "connection refused",
    6: "time ran out",
    7: "command not supported",
    8: "address type not supported",
}
_ADDRESS_SIZES: Final = {1: 4, 4: 16}


class SOCKSError(ConnectError):
    """The proxy did not connect."""

    def __init__(self, text: str) -> None:
        super().__init__(string=f"socks proxy: {text}")  # type: ignore[no-untyped-call]


@implementer(IStreamClientEndpoint)
class SOCKSEndpoint:
    """Connects to an address by way of a proxy.

    proxy: an endpoint that leads to the proxy. timeout: seconds for what the proxy does.
    """

    def __init__(self, clock: Any, proxy: Any, ip: str, port: int, timeout: float) -> None:
        self._clock = clock
        self._proxy = proxy
        self._request = _connect_request(ip, port)
        self._timeout = timeout

    def connect(self, factory: Any) -> Deferred[Any]:
        """See IStreamClientEndpoint. Fails with SOCKSError, or as the endpoint of the proxy."""
        return Deferred.fromCoroutine(self._connect(factory))

    async def _connect(self, factory: Any) -> Any:
        made: Any = Factory.forProtocol(lambda: _Handshake(self._request))
        made.noisy = False
        handshake: _Handshake = await self._proxy.connect(made)
        transport: Any = handshake.transport
        handshake.done.addTimeout(self._timeout, self._clock)
        try:
            rest = await handshake.done
        except BaseException:
            transport.abortConnection()
            raise
        protocol = factory.buildProtocol(transport.getPeer())
        if protocol is None:
            transport.abortConnection()
            raise SOCKSError("connection not wanted any more")
        transport.protocol = protocol
        protocol.makeConnection(transport)
        if rest:
            protocol.dataReceived(rest)
        return protocol


def _connect_request(ip: str, port: int) -> bytes:
    address = ipaddress.ip_address(ip.partition("%")[0])
    kind = 1 if address.version == 4 else 4
    return b"\x05\x01\x00" + bytes([kind]) + address.packed + port.to_bytes(2, "big")


class _Handshake(Protocol):
    """The dialogue with the proxy; `done` gives what came behind it."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._buffer = b""
        self._asked = False
        self.done: Deferred[bytes] = Deferred()

    def connectionMade(self) -> None:  # noqa: N802 - Twisted's name
        """Offer to go without authentication, the only way we know."""
        self._write(b"\x05\x01\x00")

    def _write(self, data: bytes) -> None:
        transport: Any = self.transport
        transport.write(data)

    def dataReceived(self, data: bytes) -> None:  # noqa: N802 - Twisted's name
        """Read replies."""
        self._buffer += data
        try:
            self._read()
        except SOCKSError as exc:
            if not self.done.called:
                self.done.errback(exc)

    def _read(self) -> None:
        if not self._asked:
            if len(self._buffer) < 2:
                return
            if self._buffer[:2] != b"\x05\x00":
                raise SOCKSError("not version 5 without authentication")
            self._buffer = self._buffer[2:]
            self._asked = True
            self._write(self._request)
        # RFC 1928 6: version, reply, reserved, address type, address, port.
        if len(self._buffer) < 5 or self.done.called:
            return
        version, reply, _, kind = self._buffer[:4]
        if version != 5:
            raise SOCKSError("bad reply")
        if reply:
            raise SOCKSError(_REPLIES.get(reply, f"reply {reply}"))
        size = 1 + self._buffer[4] if kind == 3 else _ADDRESS_SIZES.get(kind, 0)
        if not size:
            raise SOCKSError("bad address in the reply")
        end = 4 + size + 2
        if len(self._buffer) >= end:
            rest, self._buffer = self._buffer[end:], b""
            self.done.callback(rest)

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: N802
        """The proxy has gone."""
        if not self.done.called:
            self.done.errback(SOCKSError("connection lost"))
