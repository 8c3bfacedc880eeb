"""The HTTP side of the API: authentication, forms, errors, and pages that describe methods."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Final

import msgspec
from klein import Klein, Response
from twisted.internet.defer import Deferred, DeferredLock
from twisted.web.http import Request

from moxtw import metrics
from moxtw.admin.clock import sleep
from moxtw.admin.context import AdminContext
from moxtw.log import Logger
from moxtw.queue.submit import Submitter
from moxtw.store.auth import OK, Attempt, Authenticator, Login, LoginFailed
from moxtw.web.channel import Body
from moxtw.web.pages import page
from moxtw.web.rpc import PlainError, plain, shielded
from moxtw.web.sessions import FAILURE_DELAY
from moxtw.web.typewords import Cleaners
from moxtw.web.visit import SECURITY_HEADERS, Origin, Visit, header
from moxtw.web.webapi.examples import SEND, indented
from moxtw.web.webapi.formdata import FormError, parse_form
from moxtw.web.webapi.send import Parts, Sender
from moxtw.web.webapi.types import SendRequest, WebapiError

log = Logger("webapi")

_SMALL: Final = 1 << 16
"""Bodies up to this size are parsed on the reactor thread."""
_LARGE: Final = 1 << 20
"""Bodies above this size are worked on one at a time: they take memory."""


def body_limit(max_size: int) -> int:
    """The longest request body for messages of a size: they may be base64 in JSON."""
    return max_size + max_size // 2 + (1 << 20)


@dataclass(frozen=True, slots=True)
class Method:
    """A method: `call` gets login, visit, request and files."""

    name: str
    doc: str
    request_type: type[Any]
    call: Callable[[Login, Visit, Any, Parts], Awaitable[Any]]
    example_request: Any
    example_result: Any


class WebAPI:
    """The methods, behind HTTP basic authentication."""

    def __init__(
        self,
        admin: AdminContext,
        path: str,
        *,
        origin: Origin,
        authenticator: Authenticator,
        methods: Sequence[Method],
    ) -> None:
        self._admin = admin
        self._path = path
        self._origin = origin
        self._authenticator = authenticator
        self._methods = {method.name: method for method in methods}
        cleaners = Cleaners()
        self._cleaners = {m.name: cleaners.make(m.request_type) for m in methods}
        self._large = DeferredLock()

    def route(self, app: Klein) -> None:
        """Add the routes to a Klein app."""

        @app.route("/")  # type: ignore[type-var]
        def base(request: Request) -> Response:
            return self.base(request)

        @app.route("/v0")  # type: ignore[type-var]
        def bare(request: Request) -> Response:
            return self.base(request)

        @app.route("/v0/")  # type: ignore[type-var]
        def index(request: Request) -> Response:
            return page(request, "moxtw webapi", self._index())

        @app.route("/v0/<path:name>")  # type: ignore[type-var]
        def method(request: Request, name: str) -> Response | Deferred[Response]:
            return self.method(request, name)

        @app.route("/<path:rest>")  # type: ignore[type-var]
        def missing(request: Request, rest: str) -> Response:
            return self._not_found(request)

    def base(self, request: Request) -> Response:
        """Answer the base path: the methods are below v0/."""
        if request.method not in (b"GET", b"HEAD"):
            return self._not_allowed(request, "GET, HEAD")
        return Response(303, {**SECURITY_HEADERS, "Location": f"{self._path}v0/"}, b"")

    def _not_found(self, request: Request) -> Response:
        return plain(404, self._origin(request).text("page not found"))

    def _not_allowed(self, request: Request, allow: str) -> Response:
        return plain(405, self._origin(request).text("method not allowed"), {"Allow": allow})

    def method(self, request: Request, name: str) -> Response | Deferred[Response]:
        """Answer v0/<method>: GET describes it, POST calls it."""
        method = self._methods.get(name)
        if method is None:
            return self._not_found(request)
        if request.method in (b"GET", b"HEAD"):
            return page(request, f"moxtw webapi: {name}", _method_page(method))
        if request.method != b"POST":
            return self._not_allowed(request, "GET, HEAD, POST")
        return shielded(self._call(request, method))

    # -- Calls -------------------------------------------------------------------------

    async def _call(self, request: Request, method: Method) -> Response:
        visit = self._origin(request)
        started = self._admin.clock.seconds()
        result = "ok"
        try:
            login = await self._login(request, visit)
            request.auth_account = login.account  # type: ignore[attr-defined]
            response = await self._run(request, visit, login, method)
        except PlainError as exc:
            result = "badauth" if exc.status == 401 else "internal"
            response = plain(exc.status, visit.text(str(exc)), exc.headers)
        except WebapiError as exc:
            result = exc.code
            log.debug("webapi error", cid=visit.cid, method=method.name, code=exc.code, err=exc)
            body = {"Code": exc.code, "Message": visit.text(str(exc))}
            response = _json(400, body)
        except Exception as exc:  # noqa: BLE001 - the one place that answers for all of them
            result = "internal"
            log.failure("webapi call failed", exc, cid=visit.cid, method=method.name)
            response = plain(500, visit.text("internal error"))
        metrics.webapi_results_total.labels(method.name, result).inc()
        metrics.webapi_duration_seconds.labels(method.name).observe(
            self._admin.clock.seconds() - started
        )
        return response

    async def _run(self, request: Request, visit: Visit, login: Login, method: Method) -> Response:
        body = request.content
        size = body.size if isinstance(body, Body) else _size(body)
        content_type = header(request, "Content-Type")
        store = self._admin.store
        if size <= _SMALL:
            parsed, parts = self._parse(method, content_type, body)
            return _json(200, await method.call(login, visit, parsed, parts))
        if size > _LARGE:
            await self._large.acquire()
        try:
            parsed, parts = await store.run(self._parse, method, content_type, body)
            return _json(200, await method.call(login, visit, parsed, parts))
        finally:
            if size > _LARGE:
                self._large.release()

    def _parse(self, method: Method, content_type: str, body: Any) -> tuple[Any, Parts]:
        """The request and its files. Blocks if they are large. Raises WebapiError."""
        try:
            form = parse_form(content_type, body)
        except FormError as exc:
            raise WebapiError("protocol", str(exc)) from exc
        texts = form.fields.get("request")
        if not texts:
            raise WebapiError("protocol", "no field request in the form")
        try:
            parsed = self._decode(method, texts[0])
        except (ValueError, RecursionError) as exc:
            raise WebapiError("protocol", f"request: {exc}") from exc
        return parsed, Parts(parsed, form.files)

    def _decode(self, method: Method, text: bytes | bytearray) -> Any:
        try:
            return msgspec.json.decode(text, type=method.request_type)
        except msgspec.ValidationError:
            # Once more, with nulls for empty lists allowed: that takes more memory.
            clean = self._cleaners[method.name]
            if clean is None:
                raise
            return msgspec.convert(clean(msgspec.json.decode(text)), method.request_type)

    async def _login(self, request: Request, visit: Visit) -> Login:
        """Who calls, by HTTP basic authentication (RFC 7617). Raises PlainError."""
        challenge: dict[str | bytes, Any] = {"WWW-Authenticate": "Basic realm=webapi"}
        credentials = _basic(header(request, "Authorization"))
        if credentials is None:
            raise PlainError(401, "missing http basic authentication", challenge)
        if not visit.remote_ip:
            log.error("no client address: is X-Forwarded-For missing?", cid=visit.cid)
            raise PlainError(500, "internal error: address of the client is not known")
        if not self._authenticator.allowed(visit.remote_ip, "webapi"):
            raise PlainError(429, "too many failed logins, try again later")
        attempt = Attempt(
            "webapi",
            "httpbasic",
            visit.remote_ip,
            visit.local_ip,
            visit.tls,
            "",
            visit.user_agent,
        )
        try:
            login = await self._authenticator.check_password(*credentials, attempt)
        except LoginFailed as exc:
            wait = self._authenticator.record(attempt, exc.result)
            if wait is not None:
                await wait
            await sleep(self._admin.clock, FAILURE_DELAY)
            raise PlainError(401, exc.text, challenge) from exc
        wait = self._authenticator.record(attempt, OK)
        if wait is not None:
            await wait
        return login

    def _index(self) -> str:
        methods = "".join(
            f'<li><a href="{name}"><code>{name}</code></a>: {escape(method.doc)}</li>\n'
            for name, method in self._methods.items()
        )
        return (
            "<h1>moxtw webapi</h1>\n"
            "<p>An HTTP API for programs. A call is a <code>POST</code> to the name of a method, "
            "with HTTP basic authentication (an e-mail address of the account, and its "
            "password), and a form with a field <code>request</code> that holds a JSON object. "
            "The answer is a JSON object with status 200. When the call fails it has status 400, "
            "and fields <code>Code</code> and <code>Message</code>.</p>\n"
            f"<ul>\n{methods}</ul>\n"
        )


def _size(body: Any) -> int:
    body.seek(0, 2)
    size: int = body.tell()
    return size


def _basic(value: str) -> tuple[str, str] | None:
    scheme, _, token = value.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        text = base64.b64decode(token.strip(), validate=True).decode()
    except (binascii.Error, ValueError):
        return None
    username, colon, password = text.partition(":")
    return (username, password) if colon else None


_encode = msgspec.json.Encoder().encode


def _json(status: int, value: Any) -> Response:
    body = _encode(value)
    return Response(
        status,
        {
            **SECURITY_HEADERS,
            "Cache-Control": "no-store",
            "Content-Type": "application/json; charset=utf-8",
            "Content-Length": str(len(body)),
        },
        body,
    )


def _method_page(method: Method) -> str:
    example = indented(method.example_request)
    result = indented(method.example_result)
    return (
        f"<h1>{method.name}</h1>\n<p>{escape(method.doc)}</p>\n"
        '<form method="POST" enctype="multipart/form-data">\n'
        f'<p><textarea name="request" aria-label="request">{escape(example)}</textarea></p>\n'
        '<p><button type="submit">Call</button></p></form>\n'
        f"<h2>Example of a request</h2>\n<pre>{escape(example)}</pre>\n"
        f"<h2>Example of an answer</h2>\n<pre>{escape(result)}</pre>\n"
        '<p><a href="./">All methods</a></p>\n'
    )


def make_webapi(
    admin: AdminContext,
    path: str,
    *,
    origin: Origin,
    authenticator: Authenticator,
    submit: Submitter,
    max_size: int,
) -> Any:
    """The resource of the API at a URL path; `max_size` of a message in bytes."""
    sender = Sender(admin, submit, max_size)
    methods = [
        Method(SEND.name, SEND.doc, SendRequest, sender.send, SEND.request, SEND.result),
    ]
    app = Klein()
    WebAPI(admin, path, origin=origin, authenticator=authenticator, methods=methods).route(app)
    return app.resource()
