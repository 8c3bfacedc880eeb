"""Connections that only find out whether TLS is there, with a certificate that is good."""

from __future__ import annotations

import ipaddress
from typing import Any, Final

from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint, wrapClientTLS
from twisted.internet.error import ConnectError, ConnectingCancelledError, ConnectionDone
from twisted.internet.interfaces import IHandshakeListener
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from moxtw.net.tlsclient import ClientTLS, Roots

TIMEOUT: Final = 10.0
"""Seconds for all of a connection."""

_MAX_LINES: Final = 100
_MAX_LINE: Final = 2048


class ProbeError(Exception):
    """What went wrong, for people."""


@implementer(IHandshakeListener)
class _Probe(Protocol):
    """Waits for the end of the handshake."""

    def __init__(self, tls: ClientTLS) -> None:
        self._tls = tls
        self.done: Deferred[None] = Deferred()

    def handshakeCompleted(self) -> None:  # noqa: N802 - Twisted's name
        """TLS is there."""
        self.end(None)

    def end(self, problem: str | None) -> None:
        """Tell the result, and hang up."""
        if not self.done.called:
            if problem is None:
                self.done.callback(None)
            else:
                self.done.errback(ProbeError(problem))
        transport: Any = self.transport
        if transport is not None:
            transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: N802
        """Before the end of the handshake that is an error."""
        if self._tls.problem is not None:
            self.end(str(self._tls.problem))
        elif reason.check(ConnectionDone):
            self.end("connection closed before TLS was there")
        else:
            self.end(f"connection lost before TLS was there: {_words(reason.value)}")


class _STARTTLSProbe(_Probe):
    """Greeting, EHLO, STARTTLS (RFC 3207)."""

    def __init__(self, tls: ClientTLS, ehlo: str) -> None:
        super().__init__(tls)
        self._ehlo = ehlo
        self._buffer = b""
        self._lines = 0
        self._steps = ["greeting", "EHLO", "STARTTLS"]
        self._offered = False

    def dataReceived(self, data: bytes) -> None:  # noqa: N802 - Twisted's name
        """Take whole lines."""
        self._buffer += data
        while self._steps and not self.done.called:
            line, newline, rest = self._buffer.partition(b"\n")
            if not newline:
                if len(line) > _MAX_LINE:
                    self.end("the server sends endless lines")
                return
            self._buffer = rest
            self._lines += 1
            if self._lines > _MAX_LINES:
                self.end("the server sends endless lines")
                return
            self._line(line.rstrip(b"\r").decode("latin-1"))

    def _line(self, line: str) -> None:
        step = self._steps[0]
        code, mark, text = line[:3], line[3:4], line[4:]
        shown = ascii(line[:200])
        if code != ("250" if step == "EHLO" else "220") or mark not in ("", " ", "-"):
            self.end(f"unexpected answer to {step}: {shown}")
            return
        if step == "EHLO" and text.split(" ")[0].upper() == "STARTTLS":
            self._offered = True
        if mark == "-":
            return
        del self._steps[0]
        transport: Any = self.transport
        if step == "greeting":
            transport.write(f"EHLO {self._ehlo}\r\n".encode("ascii"))
        elif step == "EHLO":
            if not self._offered:
                self.end("the server does not offer STARTTLS")
                return
            transport.write(b"STARTTLS\r\n")
        else:
            self._buffer = b""
            transport.startTLS(self._tls)


async def starttls(
    reactor: Any, roots: Roots, host: str, ip: str, port: int, ehlo: str
) -> None:
    """Connect with SMTP, and set up TLS that is verified for a host. Raises ProbeError."""
    tls = ClientTLS(host, roots, verify=True)
    await _probe(reactor, _endpoint(reactor, ip, port), _STARTTLSProbe(tls, ehlo))


async def handshake(reactor: Any, roots: Roots, host: str, ip: str, port: int) -> None:
    """Connect with TLS that is verified for a host. Raises ProbeError."""
    tls = ClientTLS(host, roots, verify=True, alpn=[b"http/1.1"])
    creator: Any = tls
    await _probe(reactor, wrapClientTLS(creator, _endpoint(reactor, ip, port)), _Probe(tls))


async def connect(reactor: Any, ip: str, port: int) -> None:
    """Connect, and hang up. Raises ProbeError."""

    class Hello(Protocol):
        """Nothing is said."""

    work: Deferred[Any] = _endpoint(reactor, ip, port).connect(Factory.forProtocol(Hello))
    work.addTimeout(TIMEOUT, reactor)
    try:
        protocol = await work
    except ConnectingCancelledError as exc:
        raise ProbeError(f"no connection within {TIMEOUT:g} seconds") from exc
    except (CancelledError, TimeoutError, ConnectError, OSError) as exc:
        raise ProbeError(_words(exc)) from exc
    protocol.transport.abortConnection()


def _endpoint(reactor: Any, ip: str, port: int) -> Any:
    version = ipaddress.ip_address(ip.partition("%")[0]).version
    make = TCP4ClientEndpoint if version == 4 else TCP6ClientEndpoint
    return make(reactor, ip, port, timeout=TIMEOUT)


async def _probe(reactor: Any, endpoint: Any, probe: _Probe) -> None:
    factory = Factory.forProtocol(lambda: probe)
    factory.noisy = False

    async def work() -> None:
        await endpoint.connect(factory)
        await probe.done

    running = Deferred.fromCoroutine(work())
    running.addTimeout(TIMEOUT, reactor)
    try:
        await running
    except ProbeError:
        raise
    except (TimeoutError, ConnectingCancelledError) as exc:
        what = "connection" if isinstance(exc, ConnectingCancelledError) else "TLS"
        raise ProbeError(f"no {what} within {TIMEOUT:g} seconds") from exc
    except (CancelledError, ConnectError, OSError) as exc:
        raise ProbeError(_words(exc)) from exc
    finally:
        if probe.transport is not None:
            transport: Any = probe.transport
            transport.abortConnection()
        if not probe.done.called:
            probe.done.addErrback(lambda failure: None)


def _words(exc: BaseException | None) -> str:
    return str(exc).rstrip(".") or type(exc).__name__
