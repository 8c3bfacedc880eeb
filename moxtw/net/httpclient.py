"""HTTP to servers that somebody else names: our resolver, verified TLS, all of it bounded."""

from __future__ import annotations

import io
import ipaddress
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint, wrapClientTLS
from twisted.internet.error import ConnectingCancelledError
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import (
    URI,
    Agent,
    FileBodyProducer,
    HTTPConnectionPool,
    ResponseDone,
)
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

from moxtw import metrics
from moxtw.net.tlsclient import ClientTLS, Roots, VerificationError

Resolve = Callable[[str], Awaitable[Sequence[str]]]
"""Gives the addresses of a host name."""

DIAL_TIMEOUT: Final = 30.0

MAX_HEAD: Final = 1 << 18
"""Bytes that a server may send before its response begins, those of TLS included."""

# The metric's results, by the first digit of the status.
_RESULTS: Final = {2: "ok", 4: "usererror", 5: "servererror"}

BODY_TIMEOUT: Final = 5.0
"""Seconds for the body of a response of which the beginning is enough."""


class HTTPError(Exception):
    """No response, or none that may be used: what went wrong, for people."""


class TooLarge(HTTPError):
    """The body of a response exceeds its bound."""


@dataclass(frozen=True, slots=True)
class Response:
    """A response with all of its body. headers: names in lower case, the first of each."""

    code: int
    headers: Mapping[str, str]
    body: bytes


class HTTPClient:
    """Makes requests, each on a connection of its own; redirects are not followed.

    resolve: gives the addresses of hosts; what it raises, a request raises. pkg: who makes the
    requests, for the metric. ports: where to
    connect in place of the port of the URL, by that port; for tests.
    """

    def __init__(
        self,
        reactor: Any,
        roots: Roots,
        resolve: Resolve,
        *,
        pkg: str,
        user_agent: str,
        ports: Mapping[int, int] | None = None,
    ) -> None:
        self._pkg = pkg
        self._reactor = reactor
        self._roots = roots
        self._resolve = resolve
        self._user_agent = user_agent
        self._ports = dict(ports or {})

    async def request(
        self,
        method: str,
        url: str,
        *,
        timeout: float,
        max_size: int,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        truncate: bool = False,
    ) -> Response:
        """Make a request and read the response.

        timeout: seconds for all of it; max_size: bytes of the response's body. truncate: so
        many bytes of the body are enough, or what comes of it within some seconds. Raises
        HTTPError, VerificationError for a server that is not who it should be, and what
        `resolve` raises.
        """
        fields = Headers({"User-Agent": [self._user_agent]})
        for name, value in (headers or {}).items():
            fields.setRawHeaders(name, [value])
        producer: Any = FileBodyProducer(io.BytesIO(body)) if body else None
        way = _Way(self._reactor, self._roots, self._resolve, self._ports)
        pool = HTTPConnectionPool(self._reactor, persistent=False)
        agent: Any = Agent.usingEndpointFactory(self._reactor, way, pool)
        work = Deferred.fromCoroutine(
            self._request(
                agent,
                way,
                method.encode(),
                url.encode("ascii"),
                fields,
                producer,
                _Body(max_size, truncate),
            )
        )

        def expired(_: object, seconds: float) -> None:
            raise HTTPError(f"no response within {seconds:g} s")

        work.addTimeout(timeout, self._reactor, expired)
        begun = self._reactor.seconds()
        code, result = 0, "error"
        try:
            response = await work
            code = response.code
            result = _RESULTS.get(code // 100, "other")
        except CancelledError:
            result = "canceled"
            raise
        finally:
            metrics.httpclient_request_duration_seconds.labels(
                self._pkg, method, str(code), result
            ).observe(self._reactor.seconds() - begun)
        return response

    async def _request(
        self,
        agent: Any,
        way: _Way,
        method: bytes,
        url: bytes,
        fields: Headers,
        producer: Any,
        reading: _Body,
    ) -> Response:
        try:
            response = await agent.request(method, url, fields, producer)
            way.answered = True
            found = {
                name.decode("latin-1").lower(): values[0].decode("latin-1")
                for name, values in response.headers.getAllRawHeaders()
            }
            response.deliverBody(reading)
            if reading.truncate:
                timer = self._reactor.callLater(BODY_TIMEOUT, reading.enough)
                try:
                    content = await reading.done
                finally:
                    if timer.active():
                        timer.cancel()
            else:
                content = await reading.done
        except HTTPError:
            raise
        except Exception as exc:
            raise way.explain(exc) from exc
        return Response(response.code, found, content)


@implementer(IStreamClientEndpoint)
class _Addresses:
    """Connects to the first address of a host that takes a connection."""

    def __init__(self, reactor: Any, resolve: Resolve, host: str, port: int, way: _Way) -> None:
        self._reactor = reactor
        self._resolve = resolve
        self._host = host
        self._port = port
        self._way = way

    def connect(self, factory: Any) -> Deferred[Any]:
        """See IStreamClientEndpoint."""
        return Deferred.fromCoroutine(self._connect(factory))

    async def _connect(self, factory: Any) -> Any:
        try:
            ips = [str(ipaddress.ip_address(self._host))]
        except ValueError:
            try:
                ips = list(await self._resolve(self._host))
            except Exception as exc:
                # The agent would wrap it.
                self._way.failures.append(exc)
                raise
        if not ips:
            raise HTTPError(f"{self._host} has no addresses")
        share = max(1.0, DIAL_TIMEOUT / len(ips))
        last: Exception | None = None
        for ip in ips:
            make = TCP6ClientEndpoint if ":" in ip else TCP4ClientEndpoint
            endpoint: Any = make(self._reactor, ip, self._port, timeout=share)
            try:
                protocol = await endpoint.connect(factory)
            except (CancelledError, ConnectingCancelledError):
                raise  # Nobody waits any more, not for another address either.
            except Exception as exc:  # noqa: BLE001 - the next address may do
                last = exc
            else:
                self._bound(protocol)
                return protocol
        raise HTTPError(f"connecting to {self._host}: {last}") from last

    def _bound(self, protocol: Any) -> None:
        """End the connection if too much comes before there is a response."""
        way, take = self._way, protocol.dataReceived
        seen = 0

        def bounded(data: bytes) -> None:
            nonlocal seen
            seen += len(data)
            if not way.answered and seen > MAX_HEAD:
                way.failures.append(HTTPError("response with too large a header"))
                protocol.transport.abortConnection()
                return
            take(data)

        protocol.dataReceived = bounded


@implementer(IAgentEndpointFactory)
class _Way:
    """The endpoint of one request, and what is known of why it failed."""

    def __init__(
        self, reactor: Any, roots: Roots, resolve: Resolve, ports: Mapping[int, int]
    ) -> None:
        self._reactor = reactor
        self._roots = roots
        self._resolve = resolve
        self._ports = ports
        self._tls: ClientTLS | None = None
        self.failures: list[Exception] = []
        self.answered = False

    def endpointForURI(self, uri: URI) -> Any:  # noqa: N802 - Twisted's name
        """See IAgentEndpointFactory."""
        host = uri.host.decode("ascii").strip("[]")
        port = self._ports.get(uri.port, uri.port)
        endpoint: Any = _Addresses(self._reactor, self._resolve, host, port, self)
        if uri.scheme == b"https":
            self._tls = ClientTLS(host, self._roots, verify=True, alpn=[b"http/1.1"])
            creator: Any = self._tls
            endpoint = wrapClientTLS(creator, endpoint)
        return endpoint

    def explain(self, exc: Exception) -> Exception:
        """The error that a caller can do something with."""
        if self._tls is not None and self._tls.problem is not None:
            return self._tls.problem
        if self.failures:
            return self.failures[0]
        for reason in getattr(exc, "reasons", None) or ():
            if isinstance(reason.value, HTTPError | VerificationError):
                return reason.value
            return HTTPError(str(reason.value) or type(reason.value).__name__)
        return HTTPError(str(exc) or type(exc).__name__)


class _Body(Protocol):
    """Reads a body, but not more than it may have; with `truncate`, that much is enough."""

    def __init__(self, limit: int, truncate: bool = False) -> None:
        self._limit = limit
        self.truncate = truncate
        self._parts: list[bytes] = []
        self._size = 0
        self.done: Deferred[bytes] = Deferred(self._cancel)

    def dataReceived(self, data: bytes) -> None:  # noqa: N802 - Twisted's name
        """Keep some more."""
        if self.done.called:
            return
        self._size += len(data)
        if self._size > self._limit:
            if self.truncate:
                self._parts.append(data)
                self.enough()
                return
            self._fail(TooLarge(f"response of more than {self._limit} bytes"))
            return
        self._parts.append(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: N802
        """The end of the body, or of the connection."""
        if self.done.called:
            return
        # Without a length, a body that the end of the connection ends may be cut short: TLS
        # tells (RFC 9112 9.8), but not all servers end it as they should.
        if self.truncate or reason.check(ResponseDone, PotentialDataLoss):
            self.done.callback(b"".join(self._parts)[: self._limit])
        else:
            self.done.errback(HTTPError(f"response was cut short: {reason.value}"))

    def enough(self) -> None:
        """Give what is there, and end the connection."""
        if not self.done.called:
            self.done.callback(b"".join(self._parts)[: self._limit])
        self._drop()

    def _cancel(self, done: Deferred[bytes]) -> None:
        self._drop()

    def _fail(self, exc: Exception) -> None:
        self._parts.clear()
        if not self.done.called:
            self.done.errback(exc)
        self._drop()

    def _drop(self) -> None:
        transport: Any = self.transport
        if transport is not None:
            transport.abortConnection()
