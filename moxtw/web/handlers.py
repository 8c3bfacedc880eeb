"""Sites that the admin configures: redirects of domains, and web handlers by host and path."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from twisted.web.resource import Resource

from moxtw.admin.context import Config
from moxtw.config.dynamic import Dynamic
from moxtw.config.webserver import WebHandler
from moxtw.log import Logger
from moxtw.mail.domain import parse_domain
from moxtw.web.request import Target, WebRequest
from moxtw.web.site import Service, TextPage, WebHandlers, answer
from moxtw.web.static import Run, StaticFiles

log = Logger("webserver")

InternalService = Callable[[str, str], Service | None]
"""(service name, base path) -> the service of that name at that path, None if there is none."""


class _RedirectTo(Resource):
    isLeaf = True

    def __init__(self, base: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._base = base

    def render(self, request: Any) -> bytes:
        """Redirect to the same path and query below another base."""
        path, question, query = request.uri.partition(b"?")
        location = self._base + path.decode("latin-1") + (question + query).decode("latin-1")
        return answer(request, 308, "", [("Location", location)])


class ConfiguredHandlers(WebHandlers):
    """The redirects and handlers of domains.conf, as they are at each request."""

    def __init__(
        self,
        config: Config,
        run: Run,
        *,
        tls: bool,
        internal: InternalService = lambda name, path: None,
    ) -> None:
        self._config = config
        self._run = run
        self._tls = tls
        self._internal = internal
        self._dynamic: Dynamic | None = None
        self._redirects: Mapping[str, Target] = {}
        self._handlers: Mapping[str, list[tuple[WebHandler, Target | Service]]] = {}

    def find(self, request: WebRequest, host: str, segments: tuple[bytes, ...]) -> Target | None:
        """The target of a request, or None."""
        dynamic = self._config.dynamic
        if dynamic is not self._dynamic:
            self._prepare(dynamic)
        redirect = self._redirects.get(host)
        if redirect is not None:
            return redirect
        handlers = self._handlers.get(host)
        if not handlers:
            return None
        path = "/" + b"/".join(segments).decode()
        for handler, target in handlers:
            if handler.path is not None and not handler.path.search(path):
                continue
            if not self._tls and not handler.dont_redirect_plain_http:
                return Target(handler.name, _RedirectTo(f"https://{host}"))
            if isinstance(target, Service):
                return self._internal_target(request, handler, target, path, segments)
            return replace(target, segments=segments)
        return None

    def _internal_target(
        self,
        request: WebRequest,
        handler: WebHandler,
        service: Service,
        path: str,
        segments: tuple[bytes, ...],
    ) -> Target | None:
        if not path.startswith(service.path):
            return None
        return Target(
            handler.name,
            service.resource,
            prefix=len([part for part in service.path.split("/") if part]),
            body_limit=service.limit(request),
            body_dir=service.body_dir,
            segments=segments,
        )

    def _prepare(self, dynamic: Dynamic) -> None:
        """Make targets of a new configuration."""
        redirects = {}
        for source, target in dynamic.web_dns_domain_redirects.items():
            resource = _RedirectTo(f"https://{target.ascii}")
            redirects[parse_domain(source).ascii] = Target("(domainredirect)", resource)
        handlers: dict[str, list[tuple[WebHandler, Target | Service]]] = {}
        for handler in dynamic.web_handlers:
            made = self._make(handler)
            if made is not None:
                handlers.setdefault(handler.dns_domain.ascii, []).append((handler, made))
        self._redirects, self._handlers, self._dynamic = redirects, handlers, dynamic

    def _make(self, handler: WebHandler) -> Target | Service | None:
        if handler.web_static is not None:
            settings = handler.web_static
            resource = StaticFiles(
                settings.root_path,
                self._run,
                strip=settings.strip_prefix,
                list_files=settings.list_files,
                headers=settings.response_headers,
            )
            return Target(handler.name, resource)
        if handler.web_internal is not None:
            return self._internal(handler.web_internal.service, handler.web_internal.base_path)
        log.warn("web handler of a kind that this version does not serve", handler=handler.name)
        text = "501 - not served by this version (id {id})\n"
        return Target(handler.name, TextPage(501, text))
