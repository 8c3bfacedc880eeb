"""The admin interface: a Klein app with the API, and a page that says where it is."""

from __future__ import annotations

from typing import Any

from klein import Klein, Response
from twisted.web.http import Request

from moxtw.admin import adminpassword
from moxtw.admin.context import AdminContext, OperationError
from moxtw.log import Logger
from moxtw.ratelimit import Limiter
from moxtw.web import openapi
from moxtw.web.adminapi import AdminAPI, registry
from moxtw.web.adminapi.base import admin_of
from moxtw.web.conversions import error_of
from moxtw.web.pages import page
from moxtw.web.rpc import SERVER_ERROR, USER_ERROR, ApiError, Endpoint, plain
from moxtw.web.sessions import ADMIN_ACCOUNT, LoginRefused, MemorySessions, Sessions, WebAuth
from moxtw.web.storedsessions import recorder
from moxtw.web.visit import Origin, Visit

KIND = "webadmin"

log = Logger(KIND)

_INDEX = """\
<h1>moxtw administration</h1>
<p>This server is administered with JSON calls below <a href="api/"><code>api/</code></a>, where
a description of all functions and types is, also
<a href="api/openapi.json">for OpenAPI</a>. A call is a <code>POST</code> of
<code>{"params": [...]}</code> to <code>api/&lt;Function&gt;</code> with content type
<code>application/json</code>, after <code>LoginPrep</code> and <code>Login</code>.</p>
<p>The same operations are on the command line: see <code>moxtw help config</code> and
<code>moxtw help queue</code>.</p>
"""


def admin_sessions(ctx: AdminContext) -> Sessions:
    """The sessions of the admin, to be shared by all places where the interface is served."""
    return MemorySessions(ctx.clock)


def make_admin(
    ctx: AdminContext, path: str, *, origin: Origin, sessions: Sessions, limiter: Limiter
) -> Any:
    """The resource of the admin interface at a URL path."""

    async def authenticate(username: str, password: str, visit: Visit) -> tuple[str, str]:
        try:
            good = await adminpassword.check(ctx, password)
        except OperationError as exc:
            code = SERVER_ERROR if exc.kind == "server" else USER_ERROR
            raise ApiError(code, str(exc)) from exc
        if not good:
            raise LoginRefused("badcreds", "wrong password", ADMIN_ACCOUNT)
        return ADMIN_ACCOUNT, ""

    auth = WebAuth(
        KIND,
        path,
        sessions,
        authenticate=authenticate,
        record=recorder(ctx.store, KIND),
        limiter=limiter,
        clock=ctx.clock,
    )
    app = Klein()
    Endpoint(
        registry,
        context=AdminAPI(ctx, auth),
        origin=origin,
        gate=auth.gate,
        errors=error_of,
        clock=ctx.clock,
        audit=ctx.audit,
        caller=lambda call: admin_of(call)[1],
    ).route(app)
    openapi.route(app, registry, KIND)

    @app.route("/")  # type: ignore[type-var]
    def index(request: Request) -> Response:
        return page(request, "moxtw administration", _INDEX)

    @app.route("/<path:rest>")  # type: ignore[type-var]
    def missing(request: Request, rest: str) -> Response:
        return plain(404, origin(request).text("page not found"))

    return app.resource()
