"""Listening sockets, and what wraps a protocol's factory: PROXY protocol, immediate TLS."""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import (
    IHalfCloseableProtocol,
    IHandshakeListener,
    IListeningPort,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import alsoProvides, directlyProvides, implementer, providedBy

from moxtw.log import Logger

log = Logger("net")

PROXY_TIMEOUT = 10.0
HANDSHAKE_TIMEOUT = 60.0
KEEP_ALIVE = 300
BACKLOG = 1024

_V1_MAX = 107  # the longest line of version 1, with CRLF
_V2_MAX = 16 * 1024  # addresses take 36 bytes; a proxy may add a client certificate
_V2_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


# Sockets


def bind_socket(ip: str, port: int, backlog: int = BACKLOG) -> socket.socket:
    """Make a listening TCP socket on an address. Raises OSError.

    An IPv6 socket takes no IPv4 connections: that address is configured by itself. What is
    set here holds for accepted connections too: keep-alive probes after five minutes, and
    no delay of small packets.
    """
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if hasattr(socket, "TCP_KEEPIDLE"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEP_ALIVE)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setblocking(False)
        # getaddrinfo, of an address only, knows about scopes: fe80::1%eth0.
        flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
        infos = socket.getaddrinfo(ip, port, family, socket.SOCK_STREAM, flags=flags)
        sock.bind(infos[0][4])
        sock.listen(backlog)
    except BaseException:
        sock.close()
        raise
    return sock


def adopt(reactor: Any, sock: socket.socket, factory: Any) -> IListeningPort:
    """Serve a listening socket, which may have been bound by somebody else; it is taken over."""
    try:
        port: IListeningPort = reactor.adoptStreamPort(sock.fileno(), sock.family, factory)
    finally:
        sock.close()  # the reactor has a duplicate
    return port


def listen_tcp(
    reactor: Any, ip: str, port: int, factory: Any, backlog: int = BACKLOG
) -> IListeningPort:
    """Listen on an address. Raises OSError."""
    return adopt(reactor, bind_socket(ip, port, backlog), factory)


def wrap_factory(
    factory: Any,
    reactor: Any,
    *,
    proxy: bool = False,
    tls: Any = None,
    on_tls_failure: Callable[[Any, Failure], object] | None = None,
    by_alpn: Mapping[bytes, Any] | None = None,
) -> Any:
    """A protocol's factory for a listener: behind a proxy, and with immediate TLS.

    With ``tls``, a ``ServerTLS`` or the like, a protocol is made only when the handshake is
    done. ``on_tls_failure`` gets address and reason of those that fail. ``by_alpn`` has other
    factories for connections that agreed on an application protocol (RFC 7301).
    """
    if tls is not None:
        gate: Any = _GateFactory(factory, reactor, on_tls_failure, by_alpn or {})
        factory = TLSMemoryBIOFactory(tls, False, gate, reactor)
    return ProxyFactory(factory, reactor) if proxy else factory


# Immediate TLS


class _GateFactory(WrappingFactory):
    noisy = False

    def __init__(
        self,
        factory: Any,
        clock: Any,
        on_failure: Callable[[Any, Failure], object] | None,
        by_alpn: Mapping[bytes, Any],
    ) -> None:
        super().__init__(factory)  # type: ignore[no-untyped-call]
        self.clock = clock
        self.on_failure = on_failure
        self.by_alpn = by_alpn

    def chosen(self, tls: Any) -> Any:
        """The factory for a connection whose handshake is done."""
        if not self.by_alpn:
            return self.wrappedFactory
        agreed = tls.getHandle().get_alpn_proto_negotiated()
        return self.by_alpn.get(agreed, self.wrappedFactory)

    def buildProtocol(self, addr: Any) -> _Gate:  # type: ignore[override]  # noqa: N802
        return _Gate(self, addr)


@implementer(IHandshakeListener)
class _Gate(Protocol):
    """Waits inside the TLS layer for the end of the handshake, then gives way."""

    transport: Any

    def __init__(self, factory: _GateFactory, addr: Any) -> None:
        self._factory = factory
        self._addr = addr
        self._timer: Any = None

    def connectionMade(self) -> None:  # noqa: N802
        self._timer = self._factory.clock.callLater(
            HANDSHAKE_TIMEOUT, self.transport.abortConnection
        )

    def handshakeCompleted(self) -> None:  # noqa: N802
        self._timer.cancel()
        self._timer = None
        tls = self.transport
        protocol = self._factory.chosen(tls).buildProtocol(self._addr)
        if protocol is None:
            tls.loseConnection()
            return
        tls.wrappedProtocol = protocol
        protocol.makeConnection(tls)
        if IHandshakeListener.providedBy(protocol):
            protocol.handshakeCompleted()

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: N802
        if self._timer is None:
            return
        if self._timer.active():
            self._timer.cancel()
        self._timer = None
        if self._factory.on_failure is not None:
            self._factory.on_failure(self._addr, reason)
        else:
            log.debug("tls handshake failed", remote=self._addr, err=reason.getErrorMessage())


# PROXY protocol


class ProxyError(Exception):
    """A connection does not begin with a PROXY header."""


# Source and destination as (ip, port), or None where the header names none.
Addresses = tuple[tuple[str, int], tuple[str, int]] | None


def parse_proxy_header(data: bytes) -> tuple[Addresses, int] | None:
    """Read the header of the PROXY protocol (version 1 or 2) at the start of a connection.

    Returns the addresses, None for UNKNOWN, LOCAL and non-IP connections, and the size of
    the header; or None if it is not complete. Raises ProxyError.

    Twisted's own parser is of no use here: it wants the header in one piece, takes anything
    for an address, and fails on ``PROXY UNKNOWN`` without more.
    """
    if data[:12] == _V2_SIGNATURE[: len(data[:12])]:
        return _parse_v2(data)
    if data[:6] == b"PROXY "[: len(data[:6])]:
        return _parse_v1(data)
    raise ProxyError("no PROXY header")


def _parse_v1(data: bytes) -> tuple[Addresses, int] | None:
    end = data.find(b"\r\n", 0, _V1_MAX)
    if end < 0:
        if len(data) >= _V1_MAX:
            raise ProxyError("PROXY line too long")
        return None
    words = data[:end].decode("ascii", "replace").split(" ")
    if words[1] == "UNKNOWN":
        return None, end + 2
    if words[1] not in ("TCP4", "TCP6") or len(words) != 6:
        raise ProxyError("bad PROXY line")
    version = int(words[1][3])
    ips = []
    for word in words[2:4]:
        try:
            ip = ipaddress.ip_address(word)
        except ValueError as exc:
            raise ProxyError("bad address in PROXY line") from exc
        if ip.version != version:
            raise ProxyError("address of the wrong family in PROXY line")
        ips.append(_address_text(ip))
    ports = []
    for word in words[4:]:
        if not (word.isascii() and word.isdigit() and len(word) <= 5 and int(word) < 65536):
            raise ProxyError("bad port in PROXY line")
        ports.append(int(word))
    return ((ips[0], ports[0]), (ips[1], ports[1])), end + 2


def _parse_v2(data: bytes) -> tuple[Addresses, int] | None:
    if len(data) < 16:
        return None
    command, family, size = struct.unpack_from("!BBH", data, 12)
    if command not in (0x20, 0x21) or size > _V2_MAX:
        raise ProxyError("bad PROXY header")
    if len(data) < 16 + size:
        return None
    if command == 0x20 or family >> 4 not in (1, 2):  # LOCAL; no internet addresses
        return None, 16 + size
    length = 4 if family >> 4 == 1 else 16
    if size < 2 * length + 4:
        raise ProxyError("addresses missing in PROXY header")
    source = ipaddress.ip_address(data[16 : 16 + length])
    destination = ipaddress.ip_address(data[16 + length : 16 + 2 * length])
    ports = struct.unpack_from("!2H", data, 16 + 2 * length)
    addresses = ((_address_text(source), ports[0]), (_address_text(destination), ports[1]))
    return addresses, 16 + size


def _address_text(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    mapped = getattr(ip, "ipv4_mapped", None)
    return str(mapped or ip)


class ProxyFactory(WrappingFactory):
    """Wraps a factory whose connections come through a proxy that speaks PROXY.

    A protocol is made when the header has come, so that it sees the client's address from
    the beginning: with ``buildProtocol`` and from ``transport.getPeer()``. A connection
    that begins otherwise, or not within 10 seconds, is closed.
    """

    noisy = False

    def __init__(self, factory: Any, clock: Any, timeout: float = PROXY_TIMEOUT) -> None:
        super().__init__(factory)  # type: ignore[no-untyped-call]
        self.clock = clock
        self.timeout = timeout

    def buildProtocol(self, addr: Any) -> ProxiedProtocol:  # noqa: N802
        """Make the protocol that reads the header."""
        return ProxiedProtocol(self)


class ProxiedProtocol(ProtocolWrapper):
    """Reads the header, then stands between the protocol and its transport."""

    wrappedProtocol: Any  # noqa: N815
    transport: Any
    factory: Any

    def __init__(self, factory: ProxyFactory) -> None:
        # The wrapped protocol comes later, when its client is known.
        unknown: Any = None
        wrapping: Any = factory
        super().__init__(wrapping, unknown)
        self._header = b""
        self._peer: Any = None
        self._host: Any = None
        self._timer: Any = None

    def logPrefix(self) -> str:  # noqa: N802
        """Name in Twisted's log."""
        return "PROXY"

    def makeConnection(self, transport: Any) -> None:  # noqa: N802
        """Begin to wait for the header."""
        directlyProvides(self, providedBy(transport))
        Protocol.makeConnection(self, transport)
        self.factory.registerProtocol(self)
        self._timer = self.factory.clock.callLater(
            self.factory.timeout, self._refuse, "no PROXY header in time"
        )

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        """Take the header; all further input belongs to the protocol."""
        if self.wrappedProtocol is not None:
            self.wrappedProtocol.dataReceived(data)
            return
        if self._timer is None:
            return  # refused
        self._header += data
        try:
            result = parse_proxy_header(self._header)
        except ProxyError as exc:
            self._refuse(str(exc))
            return
        if result is None:
            return
        self._timer.cancel()
        self._timer = None
        addresses, size = result
        rest, self._header = self._header[size:], b""
        if addresses is not None:
            self._peer, self._host = (_address(*address) for address in addresses)
        protocol = self.factory.wrappedFactory.buildProtocol(self.getPeer())
        if protocol is None:
            self.transport.loseConnection()
            return
        self.wrappedProtocol = protocol
        for interface in (IHandshakeListener, IHalfCloseableProtocol):
            if interface.providedBy(protocol):
                alsoProvides(self, interface)
        protocol.makeConnection(self)
        if rest and not self.disconnecting:
            protocol.dataReceived(rest)

    def _refuse(self, why: str) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        self._header = b""
        log.info("connection refused", reason=why, remote=self.transport.getPeer())
        self.transport.abortConnection()

    def handshakeCompleted(self) -> None:  # noqa: N802
        """Pass on that TLS, started later on this connection, is set up."""
        self.wrappedProtocol.handshakeCompleted()

    def readConnectionLost(self) -> None:  # noqa: N802
        """Pass on that the client sends no more."""
        self.wrappedProtocol.readConnectionLost()

    def writeConnectionLost(self) -> None:  # noqa: N802
        """Pass on that our side is closed."""
        self.wrappedProtocol.writeConnectionLost()

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: N802
        """Pass on, if there is a protocol already."""
        if self._timer is not None:
            if self._timer.active():
                self._timer.cancel()
            self._timer = None
        self.factory.unregisterProtocol(self)
        if self.wrappedProtocol is not None:
            self.wrappedProtocol.connectionLost(reason)
        self.wrappedProtocol = None

    def abortConnection(self) -> None:  # noqa: N802
        """Close the connection at once."""
        self.disconnecting = 1
        self.transport.abortConnection()

    def getPeer(self) -> Any:  # noqa: N802
        """The client's address."""
        return self._peer or self.transport.getPeer()

    def getHost(self) -> Any:  # noqa: N802
        """The address that the client connected to."""
        return self._host or self.transport.getHost()


def _address(ip: str, port: int) -> IPv4Address | IPv6Address:
    return IPv6Address("TCP", ip, port) if ":" in ip else IPv4Address("TCP", ip, port)
