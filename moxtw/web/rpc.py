"""The JSON API convention: ``POST <base>api/<Function>`` with ``{"params": [...]}``.

Functions are coroutine functions with Python type annotations, registered under their own
names. Parameters are decoded and checked against the annotations, results are encoded, and
the description of all functions and types is made from the same annotations.

Answers have status 200 and ``{"result": ...}`` or ``{"error": {"code", "message"}}``. Codes
begin ``user:`` (the caller's doing), ``server:`` (ours, logged) or ``sherpa:`` (the form of
the request).
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeVar, get_args, get_origin, get_type_hints

import msgspec
from klein import Klein, Response
from twisted.internet.defer import Deferred
from twisted.web.http import Request

from moxtw import metrics
from moxtw.admin.audit import Audit
from moxtw.admin.clock import Clock
from moxtw.admin.context import Caller
from moxtw.log import Logger
from moxtw.version import VERSION
from moxtw.web.typewords import Cleaner, Cleaners, Describer
from moxtw.web.visit import SECURITY_HEADERS, HeaderDict, Origin, Visit, header

log = Logger("webapi-rpc")

T = TypeVar("T")

BAD_FUNCTION: Final = "sherpa:badFunction"
BAD_REQUEST: Final = "sherpa:badRequest"
BAD_PARAMS: Final = "sherpa:badParams"
SERVER_ERROR: Final = "server:error"
USER_ERROR: Final = "user:error"
USER_NOT_FOUND: Final = "user:notFound"

MAX_BODY: Final = 1 << 20
"""Longest request body in bytes."""

_FORM: Final = "application/x-www-form-urlencoded"


class ApiError(Exception):
    """An answer with an error code; `status` is the HTTP status.

    `headers` go out with it, such as a cookie that is no longer valid.
    """

    def __init__(
        self, code: str, message: str, status: int = 200, headers: HeaderDict | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.status = status
        self.headers = headers or {}


class PlainError(Exception):
    """An answer in plain text with an HTTP status, outside the JSON convention."""

    def __init__(self, status: int, message: str, headers: HeaderDict | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers or {}


@dataclass(slots=True)
class Call:
    """One call of a function: who asks, on what. `headers` are added to the answer."""

    context: Any
    request: Request
    visit: Visit
    session: Any = None
    headers: HeaderDict = field(default_factory=dict)


Handler = Callable[..., Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Function:
    """A registered function with its compiled annotations.

    `older` is the same with the parameters that it once had, if clients may still send them.
    `reads`: it changes nothing.
    """

    name: str
    handler: Handler
    doc: str
    params: tuple[tuple[str, Any], ...]
    cleaners: tuple[Cleaner | None, ...]
    results: tuple[tuple[str, Any], ...]
    open: bool
    any_form: bool
    reads: bool
    older: Function | None = None


class Registry:
    """The functions of one API. `label` names it in metrics, `name` in the description."""

    def __init__(self, name: str, label: str, doc: str) -> None:
        self.name = name
        self.label = label
        self.doc = doc
        self.functions: dict[str, Function] = {}
        self._cleaners = Cleaners()
        self._description: dict[str, Any] | None = None

    def function(
        self, *results: str, open: bool = False, any_form: bool = False, reads: bool = False
    ) -> Callable[[Handler], Handler]:
        """Register a coroutine function; its first parameter is the `Call`.

        `results` names what it returns (r0, r1... by default): several for an annotation
        ``tuple[...]``. An `open` function needs no session; it is about sessions, of which
        other records are kept. `any_form`: the body is read as JSON also when the client
        labels it as a form, which is what curl does by default; only for a function that
        changes nothing. `reads`: the function changes nothing; calls of all others are noted
        in the audit log.
        """

        def register(handler: Handler) -> Handler:
            fn = self._compiled(handler, results, open=open, any_form=any_form, reads=reads)
            self.functions[fn.name] = fn
            return handler

        return register

    def older(self, name: str) -> Callable[[Handler], Handler]:
        """Register a coroutine function for the parameters that a function had in the past.

        It answers calls whose parameters do not fit the function itself.
        """

        def register(handler: Handler) -> Handler:
            fn = self.functions[name]
            older = self._compiled(handler, tuple(label for label, _ in fn.results))
            self.functions[name] = replace(fn, older=replace(older, name=name))
            return handler

        return register

    def _compiled(
        self,
        handler: Handler,
        results: Sequence[str],
        *,
        open: bool = False,
        any_form: bool = False,
        reads: bool = False,
    ) -> Function:
        hints = get_type_hints(handler, include_extras=True)
        names = list(inspect.signature(handler).parameters)[1:]
        params = tuple((name, hints[name]) for name in names)
        returned = hints["return"]
        if returned is type(None):
            types: tuple[Any, ...] = ()
        elif get_origin(returned) is tuple:
            types = get_args(returned)
        else:
            types = (returned,)
        labels = results or tuple(f"r{i}" for i in range(len(types)))
        return Function(
            name=handler.__name__,
            handler=handler,
            doc=inspect.cleandoc(handler.__doc__ or ""),
            params=params,
            cleaners=tuple(self._cleaners.make(hint) for _, hint in params),
            results=tuple(zip(labels, types, strict=True)),
            open=open,
            any_form=any_form,
            reads=reads,
        )

    def describe(self) -> dict[str, Any]:
        """The machine-readable description of all functions and types."""
        if self._description is None:
            describer = Describer()
            functions = [
                {
                    "Name": fn.name,
                    "Docs": fn.doc,
                    "Params": _arguments(describer, fn.params),
                    "Returns": _arguments(describer, fn.results),
                }
                for fn in self.functions.values()
            ]
            self._description = {
                "Name": self.name,
                "Docs": self.doc,
                "Functions": functions,
                "Sections": [],
                "Structs": list(describer.structs.values()),
                "Ints": [],
                "Strings": list(describer.strings.values()),
                "Version": VERSION,
                "SherpaVersion": 0,
                "SherpadocVersion": 1,
            }
        return self._description

    def decode(self, fn: Function, body: bytes) -> tuple[Function, list[Any]]:
        """The function, or its older form, that a request body fits; the parameters in it.

        Raises ApiError.
        """
        try:
            request = msgspec.json.decode(body)
        except (ValueError, RecursionError) as exc:
            raise ApiError(BAD_REQUEST, f"body is not valid JSON: {exc}") from exc
        if type(request) is not dict or "params" not in request:
            raise ApiError(BAD_REQUEST, 'body is not an object of the form {"params": [...]}')
        if len(request) > 1:
            raise ApiError(BAD_REQUEST, 'body has unknown fields beside "params"')
        values = [] if request["params"] is None else request["params"]
        if type(values) is not list:
            raise ApiError(BAD_REQUEST, '"params" is not a list')
        try:
            return fn, _fitted(fn, values)
        except ApiError as exc:
            if fn.older is None:
                raise
            try:
                return fn.older, _fitted(fn.older, values)
            except ApiError:
                raise exc from None


def _fitted(fn: Function, values: Sequence[Any]) -> list[Any]:
    """Parameters by the annotations of a function. Raises ApiError."""
    if len(values) != len(fn.params):
        raise ApiError(
            BAD_PARAMS, f"{fn.name} takes {len(fn.params)} parameters, got {len(values)}"
        )
    params = []
    for value, (name, hint), clean in zip(values, fn.params, fn.cleaners, strict=True):
        try:
            params.append(msgspec.convert(clean(value) if clean else value, hint))
        except (ValueError, RecursionError) as exc:
            raise ApiError(BAD_PARAMS, f"parameter {name}: {exc}") from exc
    return params


def _arguments(describer: Describer, args: Sequence[tuple[str, Any]]) -> list[dict[str, Any]]:
    return [{"Name": name, "Typewords": describer.words(hint)} for name, hint in args]


Gate = Callable[[Request, Visit], Awaitable[Any]]
"""Checks the session of an API request; returns it, or raises ApiError or PlainError."""

ErrorMap = Callable[[Exception], ApiError | None]
"""Turns the errors of operations into answers; None for an unforeseen exception."""

_encode = msgspec.json.Encoder().encode


class Endpoint:
    """Answers the requests below ``api/`` of one API.

    What functions change is noted in `audit`, as by the `caller` of a call.
    """

    def __init__(
        self,
        registry: Registry,
        *,
        context: Any,
        origin: Origin,
        gate: Gate,
        errors: ErrorMap,
        clock: Clock,
        audit: Audit,
        caller: Callable[[Call], Caller],
    ) -> None:
        self._registry = registry
        self._context = context
        self._origin = origin
        self._gate = gate
        self._errors = errors
        self._clock = clock
        self._audit = audit
        self._caller = caller

    def route(self, app: Klein, base: str = "/api/") -> None:
        """Add the routes to a Klein app."""

        @app.route(base)  # type: ignore[type-var]
        def description(request: Request) -> Response:
            return self.description(request)

        @app.route(f"{base}<path:name>")  # type: ignore[type-var]
        def call(request: Request, name: str) -> Deferred[Response]:
            return shielded(self.call(request, name))

    def description(self, request: Request) -> Response:
        """Answer ``GET api/``: the description of all functions and types."""
        if request.method not in (b"GET", b"HEAD"):
            return self._not_allowed("GET, HEAD")
        metrics.sherpa_json_requests_total.labels(self._registry.label).inc()
        return json_answer(200, self._registry.describe(), {"Cache-Control": "no-cache"})

    def _not_allowed(self, allow: str) -> Response:
        metrics.sherpa_protocol_errors_total.labels(self._registry.label).inc()
        return plain(405, "method not allowed", {"Allow": allow})

    async def call(self, request: Request, name: str) -> Response:
        """Answer ``api/<name>``."""
        label = self._registry.label
        if request.method != b"POST":
            return self._not_allowed("POST")
        visit = self._origin(request)
        fn = self._registry.functions.get(name)
        call = Call(self._context, request, visit)
        started = self._clock.seconds()
        known = name if fn is not None or name == "_docs" else "(unknown)"
        try:
            if fn is None or not fn.open:
                call.session = await self._gate(request, visit)
            if name == "_docs":
                fn = _DOCS
            if fn is None:
                metrics.sherpa_bad_function_total.labels(label).inc()
                raise ApiError(BAD_FUNCTION, f"no function {name!r}", 404)
            _check_content_type(header(request, "Content-Type"), any_form=fn.any_form)
            body = request.content.read(MAX_BODY + 1) if request.content else b""
            if len(body) > MAX_BODY:
                raise ApiError(BAD_REQUEST, f"body is longer than {MAX_BODY} bytes")
            metrics.sherpa_requests_total.labels(label, known).inc()
            form, params = self._registry.decode(fn, body)
            if fn is _DOCS:
                return json_answer(200, {"result": self._registry.describe()})
            if fn.open or fn.reads:
                result = await form.handler(call, *params)
            else:
                result = await self._noted(call, form, params)
            metrics.sherpa_requests_duration_seconds.labels(label, known).observe(
                self._clock.seconds() - started
            )
            return json_answer(200, {"result": result}, call.headers)
        except PlainError as exc:
            return plain(exc.status, visit.text(str(exc)), exc.headers)
        except ApiError as exc:
            error = exc
        except Exception as exc:  # noqa: BLE001 - the one place that answers for all of them
            error = self._errors(exc) or self._unforeseen(exc, visit, known)
        return self._error(error, visit, known)

    async def _noted(self, call: Call, fn: Function, params: list[Any]) -> Any:
        """Call a function that may change something, with an entry in the audit log."""
        names = [name for name, _ in fn.params]
        named = dict(zip(names, params, strict=True))
        work = fn.handler(call, *params)
        return await self._audit.noted(self._caller(call), fn.name, named, work, self._explained)

    def _explained(self, exc: Exception) -> tuple[str, str] | None:
        error = exc if isinstance(exc, ApiError) else self._errors(exc)
        return None if error is None else (error.code, str(error))

    def _unforeseen(self, exc: Exception, visit: Visit, function: str) -> ApiError:
        log.failure("api call failed", exc, cid=visit.cid, function=function)
        return ApiError(SERVER_ERROR, "internal error", 500)

    def _error(self, error: ApiError, visit: Visit, function: str) -> Response:
        label = self._registry.label
        metrics.sherpa_errors_total.labels(label, function, error.code).inc()
        if error.code.startswith("sherpa:"):
            metrics.sherpa_protocol_errors_total.labels(label).inc()
        if error.code.startswith("server:"):
            log.error("api error", cid=visit.cid, function=function, code=error.code, err=error)
        else:
            log.debug("api error", cid=visit.cid, function=function, code=error.code, err=error)
        body = {"error": {"code": error.code, "message": visit.text(str(error))}}
        return json_answer(error.status, body, error.headers)


async def _no_call(call: Call) -> None:
    raise AssertionError("answered by the endpoint itself")


_DOCS: Final = Function(
    "_docs", _no_call, "", (), (), (), open=False, any_form=False, reads=True
)


def _check_content_type(text: str, *, any_form: bool) -> None:
    media, _, parameters = text.partition(";")
    media = media.strip().lower()
    if media == "application/json":
        charset = "utf-8"
        for parameter in parameters.split(";"):
            key, _, value = parameter.partition("=")
            if key.strip().lower() == "charset":
                charset = value.strip().strip('"').lower()
        if charset == "utf-8":
            return
        raise ApiError(BAD_REQUEST, f"charset {charset!r} instead of utf-8")
    if any_form and media == _FORM:
        return
    if not media:
        raise ApiError(BAD_REQUEST, "no content type; application/json is expected")
    raise ApiError(BAD_REQUEST, f"content type {media!r} instead of application/json")


def json_answer(status: int, body: Any, headers: HeaderDict | None = None) -> Response:
    """An answer in JSON, which caches do not keep if the headers say nothing else."""
    return Response(
        status,
        {
            **SECURITY_HEADERS,
            "Cache-Control": "no-store",
            "Content-Type": "application/json; charset=utf-8",
            **(headers or {}),
        },
        _encode(body),
    )


def plain(status: int, text: str, headers: HeaderDict | None = None) -> Response:
    """An answer in plain text: the status, then what went wrong."""
    return Response(
        status,
        {
            **SECURITY_HEADERS,
            "Cache-Control": "no-store",
            "Content-Type": "text/plain; charset=utf-8",
            **(headers or {}),
        },
        f"{status} - {text}\n".encode(),
    )


def shielded(awaitable: Awaitable[T]) -> Deferred[T]:
    """Run to the end even when the client goes away.

    Klein cancels what a closed connection waits for; an operation that was begun must not
    stop half-way.
    """
    outer: Deferred[T] = Deferred()
    inner = Deferred.fromCoroutine(_coroutine(awaitable))
    inner.addCallbacks(
        lambda response: None if outer.called else outer.callback(response),
        lambda failure: None if outer.called else outer.errback(failure),
    )
    return outer


async def _coroutine(awaitable: Awaitable[T]) -> T:
    return await awaitable
