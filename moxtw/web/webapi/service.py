"""The HTTP side of the API: authentication, forms, errors, and pages that describe methods."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
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
from moxtw.store.errors import NoContent
from moxtw.web.channel import Body
from moxtw.web.flow import send_pieces
from moxtw.web.pages import page
from moxtw.web.rpc import PlainError, plain, shielded
from moxtw.web.sessions import FAILURE_DELAY
from moxtw.web.typewords import Cleaners
from moxtw.web.visit import SECURITY_HEADERS, Origin, Visit, header
from moxtw.web.webapi.descriptions import index_page, method_page
from moxtw.web.webapi.examples import EXAMPLES
from moxtw.web.webapi.formdata import FormError, parse_form
from moxtw.web.webapi.messages import Messages
from moxtw.web.webapi.send import Key, Parts, Sender, make_key
from moxtw.web.webapi.suppressions import Suppressions
from moxtw.web.webapi.types import Download, SendRequest, SendResult, WebapiError

log = Logger("webapi")

_KEY: Final = re.compile(r"[ -~]{1,255}")
_SMALL: Final = 1 << 16
"""Bodies up to this size are parsed on the reactor thread."""
_LARGE: Final = 1 << 20
"""Bodies above this size are worked on one at a time: they take memory."""


def body_limit(max_size: int) -> int:
    """The longest request body for messages of a size: they may be base64 in JSON."""
    return max_size + max_size // 2 + (1 << 20)


@dataclass(slots=True)
class Call:
    """A call: who asks for what. `parts` are the files of a message to send."""

    login: Login
    visit: Visit
    request: Any
    parts: Parts | None
    key: Key | None = None


Handler = Callable[[Call], Awaitable[Any]]


class WebAPI:
    """The methods, behind HTTP basic authentication."""

    def __init__(
        self,
        admin: AdminContext,
        path: str,
        *,
        origin: Origin,
        authenticator: Authenticator,
        methods: Mapping[str, Handler],
    ) -> None:
        self._admin = admin
        self._path = path
        self._origin = origin
        self._authenticator = authenticator
        self._methods = methods
        cleaners = Cleaners()
        self._types = {name: type(EXAMPLES[name].request) for name in methods}
        self._cleaners = {name: cleaners.make(kind) for name, kind in self._types.items()}
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
            return page(request, "moxtw webapi", index_page(self._methods))

        @app.route("/v0/<path:name>")  # type: ignore[type-var]
        def method(request: Request, name: str) -> Response | Deferred[Response | bytes]:
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

    def method(self, request: Request, name: str) -> Response | Deferred[Response | bytes]:
        """Answer v0/<method>: GET describes it, POST calls it."""
        if name not in self._methods:
            return self._not_found(request)
        if request.method in (b"GET", b"HEAD"):
            return page(request, f"moxtw webapi: {name}", method_page(EXAMPLES[name]))
        if request.method != b"POST":
            return self._not_allowed(request, "GET, HEAD, POST")
        return shielded(self._call(request, name))

    # -- Calls -------------------------------------------------------------------------

    async def _call(self, request: Request, name: str) -> Response | bytes:
        """The answer; empty bytes if it has been written already."""
        visit = self._origin(request)
        started = self._admin.clock.seconds()
        result = "ok"
        response: Response | bytes
        try:
            if header(request, "Sec-Fetch-Site") == "cross-site":
                # A browser that knows the password sends it for pages of others, too.
                raise PlainError(403, "not to be called from pages of other sites")
            login = await self._login(request, visit)
            request.auth_account = login.account  # type: ignore[attr-defined]
            value = await self._run(request, visit, login, name)
            if isinstance(value, Download):
                await self._download(request, value)
                response = b""
            else:
                response = _json(200, value)
        except PlainError as exc:
            result = "badauth" if exc.status in (401, 403, 429) else "internal"
            response = plain(exc.status, visit.text(str(exc)), exc.headers)
        except WebapiError as exc:
            result = exc.code
            log.debug("webapi error", cid=visit.cid, method=name, code=exc.code, err=exc)
            body = {"Code": exc.code, "Message": visit.text(str(exc))}
            response = _json(400, body)
        except Exception as exc:  # noqa: BLE001 - the one place that answers for all of them
            result = "internal"
            log.failure("webapi call failed", exc, cid=visit.cid, method=name)
            response = plain(500, visit.text("internal error"))
        metrics.webapi_results_total.labels(name, result).inc()
        metrics.webapi_duration_seconds.labels(name).observe(
            self._admin.clock.seconds() - started
        )
        return response

    async def _run(self, request: Request, visit: Visit, login: Login, name: str) -> Any:
        body = request.content
        size = body.size if isinstance(body, Body) else _size(body)
        content_type = header(request, "Content-Type")
        store = self._admin.store
        handler = self._methods[name]
        key = header(request, "Idempotency-Key")
        if key and not _KEY.fullmatch(key):
            raise WebapiError(
                "protocol", "Idempotency-Key must be 1 to 255 printable ASCII characters"
            )
        if size <= _SMALL:
            return await handler(self._parse(name, content_type, body, login, visit, key))
        if size > _LARGE:
            await self._large.acquire()
        try:
            return await handler(
                await store.run(self._parse, name, content_type, body, login, visit, key)
            )
        finally:
            if size > _LARGE:
                self._large.release()

    async def _download(self, request: Any, download: Download) -> None:
        """Write an answer of bytes as fast as the client takes it."""
        run = self._admin.store.run
        try:
            first = await run(download.following)
            headers = request.responseHeaders
            for key, value in SECURITY_HEADERS.items():
                headers.setRawHeaders(key, [value])
            for key, value in download.headers.items():
                headers.setRawHeaders(key, [value])
            headers.setRawHeaders("Cache-Control", ["no-store"])
            headers.setRawHeaders("Content-Type", [download.content_type])
            if download.size is not None:
                headers.setRawHeaders("Content-Length", [str(download.size)])
            elif len(first) == 0:
                headers.setRawHeaders("Content-Length", ["0"])
            request.setResponseCode(200)
            if request._disconnected:
                return
            request.write(first)
            if first:
                try:
                    await send_pieces(request, lambda: run(download.following))
                except (NoContent, OSError) as exc:
                    log.error("message cannot be read", cid=request.cid, err=exc)
                    if not request._disconnected:
                        # The client must see that the answer is cut off.
                        request.transport.abortConnection()
        finally:
            await run(download.close)

    def _parse(
        self, name: str, content_type: str, body: Any, login: Login, visit: Visit, key: str
    ) -> Call:
        """The call: request and its files. Blocks if they are large. Raises WebapiError."""
        try:
            form = parse_form(content_type, body)
        except FormError as exc:
            raise WebapiError("protocol", str(exc)) from exc
        texts = form.fields.get("request")
        if not texts:
            raise WebapiError("protocol", "no field request in the form")
        try:
            parsed = self._decode(name, texts[0])
        except (ValueError, RecursionError) as exc:
            raise WebapiError("protocol", f"request: {exc}") from exc
        if isinstance(parsed, SendRequest):
            parts = Parts(parsed, form.files)
            made = make_key(key, login.address, parsed, form.files) if key else None
            return Call(login, visit, parsed, parts, made)
        if form.files:
            raise WebapiError("protocol", "the method takes no files")
        return Call(login, visit, parsed, None)

    def _decode(self, name: str, text: bytes | bytearray) -> Any:
        kind = self._types[name]
        try:
            return msgspec.json.decode(text, type=kind)
        except msgspec.ValidationError:
            # Once more, with nulls for empty lists allowed: that takes more memory.
            clean = self._cleaners[name]
            if clean is None:
                raise
            return msgspec.convert(clean(msgspec.json.decode(text)), kind)

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
    suppressions = Suppressions(admin.queue)
    messages = Messages(admin.store)

    async def send(call: Call) -> SendResult:
        assert call.parts is not None
        return await sender.send(call.login, call.visit, call.request, call.parts, call.key)

    def simple(operation: Callable[[Login, Any], Awaitable[Any]]) -> Handler:
        return lambda call: operation(call.login, call.request)

    methods: dict[str, Handler] = {
        "Send": send,
        "SuppressionList": simple(suppressions.list),
        "SuppressionAdd": simple(suppressions.add),
        "SuppressionRemove": simple(suppressions.remove),
        "SuppressionPresent": simple(suppressions.present),
        "MessageGet": simple(messages.get),
        "MessageRawGet": simple(messages.raw),
        "MessagePartGet": simple(messages.part),
        "MessageDelete": simple(messages.delete),
        "MessageFlagsAdd": simple(messages.flags_add),
        "MessageFlagsRemove": simple(messages.flags_remove),
        "MessageMove": simple(messages.move),
    }
    app = Klein()
    WebAPI(admin, path, origin=origin, authenticator=authenticator, methods=methods).route(app)
    return app.resource()
