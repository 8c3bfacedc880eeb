"""From configured listeners to HTTP servers: which service is on which port, for which hosts."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from moxtw import metrics
from moxtw.admin.context import AdminContext
from moxtw.config.dynamic import Dynamic
from moxtw.config.static import Listener, WebService
from moxtw.log import Logger
from moxtw.queue.submit import Submitter
from moxtw.ratelimit import Limiter
from moxtw.store.auth import Authenticator
from moxtw.web.account import make_account, upload_limit
from moxtw.web.admin import admin_sessions, make_admin
from moxtw.web.handlers import ConfiguredHandlers
from moxtw.web.rpc import MAX_BODY
from moxtw.web.sessions import Sessions
from moxtw.web.site import (
    REQUEST_WINDOWS,
    Hosts,
    PortSite,
    Service,
    TextPage,
    WebHandlers,
    any_host,
)
from moxtw.web.storedsessions import StoredSessions
from moxtw.web.visit import make_origin
from moxtw.web.webapi import body_limit, make_webapi

log = Logger("http")


@dataclass
class WebContext:
    """What the web side is made of.

    limiter: failed logins, counted over all protocols together.
    exempt: networks whose clients have no limit of requests.
    """

    admin: AdminContext
    authenticator: Authenticator
    submit: Submitter
    limiter: Limiter
    exempt: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.admin_sessions: Sessions = admin_sessions(self.admin)
        self.user_sessions = StoredSessions(self.admin.store, self.admin.config)


@dataclass(frozen=True, slots=True)
class HTTPPort:
    """A port to listen on, with its server; `tls`: immediate TLS."""

    listener: str
    port: int
    tls: bool
    site: PortSite

    @property
    def kind(self) -> str:
        """``http`` or ``https``."""
        return "https" if self.tls else "http"


def make_ports(ctx: WebContext, name: str, listener: Listener) -> list[HTTPPort]:
    """The HTTP servers of a listener, by port."""
    ports: dict[tuple[int, bool], list[Service]] = {}
    for port, tls, service in _services(ctx, listener):
        ports.setdefault((port, tls), []).extend([service] if service else [])
    limiter = Limiter(REQUEST_WINDOWS, ctx.exempt)
    result = []
    for (port, tls), services in sorted(ports.items()):
        webserver = _webserver(listener, port, tls)
        handlers = WebHandlers()
        if webserver is not None:
            handlers = ConfiguredHandlers(
                ctx.admin.config,
                ctx.admin.store.run,
                tls=tls,
                internal=_internal(ctx, listener),
            )
        unlimited = webserver is not None and webserver.rate_limit_disabled
        site = PortSite(
            services,
            clock=ctx.admin.clock,
            ids=ctx.admin.ids,
            listener=name,
            tls=tls,
            limiter=None if unlimited else limiter,
            handlers=handlers,
        )
        result.append(HTTPPort(name, port, tls, site))
    return result


def _webserver(listener: Listener, port: int, tls: bool) -> Any:
    settings = listener.webserver_https if tls else listener.webserver_http
    return settings if settings.enabled and settings.effective_port == port else None


def _services(ctx: WebContext, listener: Listener) -> Iterator[tuple[int, bool, Service | None]]:
    """Ports with what is on them; None for a port whose service is not served yet."""
    own, settings_hosts = listener_hosts(listener), client_settings_hosts(ctx, listener)
    for tls, account, admin, webapi, others in (
        (
            False,
            listener.account_http,
            listener.admin_http,
            listener.webapi_http,
            (listener.webmail_http, listener.webserver_http),
        ),
        (
            True,
            listener.account_https,
            listener.admin_https,
            listener.webapi_https,
            (listener.webmail_https, listener.webserver_https),
        ),
    ):
        for other in others:
            if other.enabled:
                yield other.effective_port, tls, None
        if account.enabled:
            service = _account(ctx, account.effective_path, account, settings_hosts)
            yield account.effective_port, tls, service
        if admin.enabled:
            yield admin.effective_port, tls, _admin(ctx, admin.effective_path, admin, own)
        if webapi.enabled:
            service = _webapi(ctx, listener, webapi.effective_path, webapi, settings_hosts)
            yield webapi.effective_port, tls, service
    if listener.metrics_http.enabled:
        for service in _metrics():
            yield listener.metrics_http.effective_port, False, service


def _account(ctx: WebContext, path: str, settings: WebService, hosts: Hosts) -> Service:
    return Service(
        "account",
        path,
        make_account(
            ctx.admin,
            path,
            origin=make_origin(ctx.admin.ids, forwarded=settings.forwarded),
            authenticator=ctx.authenticator,
            sessions=ctx.user_sessions,
            limiter=ctx.limiter,
        ),
        hosts,
        body_dir=ctx.admin.store.contents.tmp,
        limit_of=upload_limit(ctx.user_sessions),
        forwarded=settings.forwarded,
    )


def _admin(ctx: WebContext, path: str, settings: WebService, hosts: Hosts) -> Service:
    return Service(
        "admin",
        path,
        make_admin(
            ctx.admin,
            path,
            origin=make_origin(ctx.admin.ids, forwarded=settings.forwarded),
            sessions=ctx.admin_sessions,
            limiter=ctx.limiter,
        ),
        hosts,
        body_limit=MAX_BODY,
        forwarded=settings.forwarded,
    )


def _webapi(
    ctx: WebContext, listener: Listener, path: str, settings: WebService, hosts: Hosts
) -> Service:
    limit = listener.effective_max_message_size
    return Service(
        "webapi",
        path,
        make_webapi(
            ctx.admin,
            path,
            origin=make_origin(ctx.admin.ids, forwarded=settings.forwarded),
            authenticator=ctx.authenticator,
            submit=ctx.submit,
            max_size=limit,
        ),
        hosts,
        body_limit=body_limit(limit),
        body_dir=ctx.admin.store.contents.tmp,
        forwarded=settings.forwarded,
    )


def _internal(ctx: WebContext, listener: Listener) -> Callable[[str, str], Service | None]:
    """Our services at paths of configured sites."""
    known: dict[tuple[str, str], Service | None] = {}
    plain = WebService()

    def find(service: str, path: str) -> Service | None:
        if (service, path) not in known:
            made = None
            if service == "admin":
                made = _admin(ctx, path, plain, any_host)
            elif service == "account":
                made = _account(ctx, path, plain, any_host)
            elif service == "webapi":
                made = _webapi(ctx, listener, path, plain, any_host)
            else:
                log.warn("service is not served by this version", service=service, path=path)
            known[service, path] = made
        return known[service, path]

    return find


class _Metrics(TextPage):
    def __init__(self) -> None:
        super().__init__(200, "", "text/plain; version=0.0.4; charset=utf-8")

    def render(self, request: Any) -> bytes:
        """Answer."""
        self._text = metrics.exposition().decode()
        return super().render(request)


_METRICS_PAGE: Final = (
    "<!doctype html>\n<html><head><title>Metrics</title></head>"
    '<body><p><a href="/metrics">Metrics of this mail server</a>, for Prometheus.</p>'
    "</body></html>\n"
)


def _metrics() -> Iterator[Service]:
    page = TextPage(200, _METRICS_PAGE, "text/html; charset=utf-8")
    yield Service("metrics", "/metrics", _Metrics(), exact=True, system=True)
    yield Service("metricspage", "/", page, exact=True, system=True)


# Hosts


def _is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def listener_hosts(listener: Listener) -> Hosts:
    """The listener's own names: its hostname, localhost (for tunnels), any IP address."""
    names = {"", "localhost", listener.effective_hostname.ascii}

    def answers(host: str) -> bool:
        return host in names or _is_literal(host)

    return answers


def client_settings_hosts(ctx: WebContext, listener: Listener) -> Hosts:
    """The listener's own names, and the hosts that users' mail programs are told to use."""
    own = listener_hosts(listener)
    cached: tuple[Dynamic | None, frozenset[str]] = (None, frozenset())

    def answers(host: str) -> bool:
        nonlocal cached
        if own(host):
            return True
        dynamic = ctx.admin.config.dynamic
        if cached[0] is not dynamic:
            names = (d.client_settings_dns_domain.ascii for d in dynamic.domains.values())
            cached = (dynamic, frozenset(name for name in names if name))
        return host in cached[1]

    return answers
