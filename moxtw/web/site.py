"""The HTTP server of one port: rate limits, and which service answers a request.

In this order: rate limit, cleaning of the path, system handlers, the configured web handlers,
the services by the longest path. So configured sites come before the services, and never
before the system handlers.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, cast

from twisted.internet.protocol import ServerFactory
from twisted.web.resource import Resource

from moxtw import metrics
from moxtw.admin.clock import Clock
from moxtw.mail.domain import DomainError, parse_domain
from moxtw.net.cid import ConnectionIds
from moxtw.ratelimit import Limiter, Window
from moxtw.web.channel import IDLE_TIMEOUT, Channel
from moxtw.web.request import Target, WebRequest, clean_path
from moxtw.web.visit import SECURITY_HEADERS, valid_ip

REQUEST_WINDOWS: Final = (
    Window(60, (1000, 3000, 9000)),
    Window(3600, (5000, 15000, 45000)),
)


class TextPage(Resource):
    """A fixed text or page with a status; `{id}` in it becomes the connection id."""

    isLeaf = True

    def __init__(
        self,
        status: int,
        text: str,
        content_type: str = "text/plain; charset=utf-8",
        headers: Iterable[tuple[str, str]] = (),
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._status = status
        self._text = text
        self._headers = [
            *(cast("Iterable[tuple[str, str]]", SECURITY_HEADERS.items())),
            ("Content-Type", content_type),
            *headers,
        ]

    def render(self, request: Any) -> bytes:
        """Answer."""
        if self._status == 200 and request.method not in (b"GET", b"HEAD"):
            return method_not_allowed(request, "GET, HEAD")
        return answer(request, self._status, self._text, self._headers)


def answer(
    request: Any, status: int, text: str, headers: Iterable[tuple[str, str]]
) -> bytes:
    """Set status and headers; returns the body, with the connection id filled in."""
    request.setResponseCode(status)
    for name, value in headers:
        request.responseHeaders.setRawHeaders(name, [value])
    if "{id}" in text:
        text = text.replace("{id}", request.site.ids.encrypt(request.cid))
    return text.encode()


def method_not_allowed(request: Any, allow: str) -> bytes:
    """Answer 405."""
    return answer(
        request,
        405,
        "405 - method not allowed (id {id})\n",
        [("Allow", allow), ("Content-Type", "text/plain; charset=utf-8")],
    )


def _error_page(status: int, text: str) -> TextPage:
    return TextPage(status, f"{status} - {text} (id {{id}})\n")


_LIMITED: Final = Target("(ratelimited)", _error_page(429, "too many requests"), logged=False)
_BAD_PATH: Final = Target("(badpath)", _error_page(400, "bad path"))
_BAD_HOST: Final = Target("(badhost)", _error_page(400, "bad host"))
_NO_MATCH: Final = Target("(nomatch)", _error_page(404, "page not found"))
_BROKEN: Final = Target("(broken)", _error_page(500, "internal error"))


class _Redirect(Resource):
    isLeaf = True

    def __init__(self, path: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._path = path

    def render(self, request: Any) -> bytes:
        _, question, query = request.uri.partition(b"?")
        location = self._path.encode() + question + query
        return answer(request, 303, "", [("Location", location.decode("latin-1"))])


Hosts = Callable[[str], bool]
"""Whether a service answers for a host: an ASCII domain, an IP address, or '' for none."""


def any_host(host: str) -> bool:
    """For services that answer whatever the host is."""
    return True


@dataclass(frozen=True, slots=True)
class Service:
    """What answers below a path.

    path: begins and ends with a slash, or is that of a single resource.
    exact: only this very path, nothing below it.
    system: goes before configured web handlers.
    forwarded: a proxy in front names the client.
    limit_of: instead of `body_limit`, says it for each request.
    """

    name: str
    path: str
    resource: Any
    hosts: Hosts = any_host
    body_limit: int = 1 << 16
    body_dir: str | None = None
    exact: bool = False
    system: bool = False
    forwarded: bool = False
    limit_of: Callable[[WebRequest], int] | None = None

    def limit(self, request: WebRequest) -> int:
        """The longest body of a request, in bytes."""
        return self.body_limit if self.limit_of is None else self.limit_of(request)


class WebHandlers:
    """The configured web handlers of a port; this one has none."""

    def find(self, request: WebRequest, host: str, segments: tuple[bytes, ...]) -> Target | None:
        """The target for a request, or None."""
        return None


class PortSite(ServerFactory[Channel]):
    """The HTTP server of one listener's port."""

    noisy = False
    _parsePOSTFormSubmission = False

    def __init__(
        self,
        services: Sequence[Service],
        *,
        clock: Clock,
        ids: ConnectionIds,
        listener: str = "",
        tls: bool = False,
        limiter: Limiter | None = None,
        handlers: WebHandlers | None = None,
    ) -> None:
        self.clock = clock
        self.ids = ids
        self._limiter = limiter
        self._handlers = handlers or WebHandlers()
        self._proto = "https" if tls else "http"
        self._gauge = metrics.connections_count.labels(self._proto, listener)
        self.connections: set[Channel] = set()
        self._closing = False
        longest = sorted(services, key=lambda service: len(service.path), reverse=True)
        self._system = [_Route(service) for service in longest if service.system]
        self._services = [_Route(service) for service in longest if not service.system]

    def buildProtocol(self, addr: Any) -> Channel:  # noqa: N802 - Twisted's name
        """A connection."""
        channel = Channel()  # type: ignore[no-untyped-call]
        channel.callLater = self.clock.callLater  # type: ignore[method-assign,assignment]
        channel.timeOut = IDLE_TIMEOUT
        channel.factory = self
        channel.site = self
        channel.requestFactory = WebRequest
        return channel

    def connected(self, channel: Channel) -> None:
        """A connection was made."""
        self.connections.add(channel)
        self._gauge.inc()

    def disconnected(self, channel: Channel) -> None:
        """A connection is gone."""
        if channel in self.connections:
            self.connections.discard(channel)
            self._gauge.dec()

    def log(self, request: WebRequest) -> None:
        """A request is complete; called by Twisted."""
        request.log_once()

    def shutdown(self) -> int:
        """Close idle connections, the others after their request. Returns how many are busy."""
        self._closing = True
        busy = 0
        for channel in list(self.connections):
            if channel.requests:
                channel.persistent = 0
                busy += 1
            else:
                channel.loseConnection()  # type: ignore[no-untyped-call]
        return busy

    def broken(self) -> Target:
        """Where requests go whose routing failed."""
        return replace(_BROKEN, proto=self._proto)

    def route(self, request: WebRequest) -> Target:
        """Find out what answers a request, of which the header is known."""
        if self._closing:
            request.responseHeaders.setRawHeaders(b"Connection", [b"close"])
        target = self._route(request)
        return target if target.proto == self._proto else replace(target, proto=self._proto)

    def _route(self, request: WebRequest) -> Target:
        ip = valid_ip(getattr(request.client, "host", "") or "")
        if self._limiter is not None and ip and not self._limiter.add(ip, self.clock.seconds()):
            return replace(_LIMITED, status=429)
        segments = clean_path(request.uri.partition(b"?")[0])
        if segments is None:
            return _BAD_PATH
        host = request_host(request)
        if host is None:
            return _BAD_HOST
        for route in self._system:
            target = route.match(request, host, segments)
            if target is not None:
                return target
        target = self._handlers.find(request, host, segments)
        if target is not None:
            return target
        for route in self._services:
            target = route.match(request, host, segments)
            if target is not None:
                return target
        return _NO_MATCH


class _Route:
    """A service, prepared for matching."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._prefix = tuple(part.encode() for part in service.path.strip("/").split("/") if part)
        self._redirect = Target(service.name, _Redirect(service.path))
        self._target = Target(
            service.name,
            service.resource,
            prefix=len(self._prefix),
            body_limit=service.body_limit,
            body_dir=service.body_dir,
        )

    def match(
        self, request: WebRequest, host: str, segments: tuple[bytes, ...]
    ) -> Target | None:
        service = self._service
        size = len(self._prefix)
        if segments[:size] != self._prefix or not service.hosts(host):
            return None
        rest = segments[size:]
        if service.exact:
            if rest and (rest != (b"",) or self._prefix):
                return None
        elif not rest:
            return self._redirect
        client_ip = ""
        if service.forwarded:
            values = request.requestHeaders.getRawHeaders(b"X-Forwarded-For") or [b""]
            client_ip = valid_ip(values[0].partition(b",")[0].decode("latin-1"))
        return replace(
            self._target,
            segments=segments,
            client_ip=client_ip,
            body_limit=service.limit(request),
        )


def request_host(request: WebRequest) -> str | None:
    """The host that a request is for, without port: an IP address or an ASCII domain.

    '' if there is none, as HTTP/1.0 allows; None if it is missing in HTTP/1.1, given twice or
    malformed (RFC 9112 3.2).
    """
    values = request.requestHeaders.getRawHeaders(b"Host") or []
    if not values and request.clientproto != b"HTTP/1.1":
        return ""
    if len(values) != 1:
        return None
    return parse_host(values[0].decode("utf-8", "replace"))


def parse_host(text: str) -> str | None:
    """The host in ``host[:port]``: an IP address or an ASCII domain, lower-case; None if bad."""
    if text.startswith("["):
        literal, bracket, port = text[1:].partition("]")
        if not bracket or (port and not port.startswith(":")):
            return None
        host, port = valid_ip(literal), port[1:]
        if not host or ipaddress.ip_address(host).version != 6:
            return None
    else:
        name, _, port = text.partition(":")
        host = valid_ip(name)
        if not host:
            try:
                host = parse_domain(name.removesuffix("."), False).ascii
            except DomainError:
                return None
    if port and not (port.isascii() and port.isdigit()):
        return None
    return host

