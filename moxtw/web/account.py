"""The account interface: a Klein app with the API, and a page that says where it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from klein import Klein, Response
from twisted.web.http import Request

from moxtw.admin.context import AdminContext
from moxtw.ratelimit import Limiter
from moxtw.store.auth import Authenticator
from moxtw.web import openapi
from moxtw.web.accountapi import AccountAPI, registry
from moxtw.web.accountapi.base import own
from moxtw.web.conversions import error_of
from moxtw.web.exporting import Exporting
from moxtw.web.importing import MAX_STRANGER, MAX_UPLOAD, Importing
from moxtw.web.pages import page
from moxtw.web.rpc import MAX_BODY, Endpoint, plain
from moxtw.web.sessions import WebAuth, session_token
from moxtw.web.storedsessions import StoredSessions, recorder, user_login
from moxtw.web.visit import Origin

KIND = "webaccount"


def upload_limit(sessions: StoredSessions) -> Callable[[Any], int]:
    """How long the body of a request may be: uploads are long, of those who are logged in."""

    def limit(request: Any) -> int:
        if not request.uri.partition(b"?")[0].endswith(b"/import"):
            return MAX_BODY
        token = session_token(request, KIND)
        return MAX_UPLOAD if token and sessions.known(token) else MAX_STRANGER

    return limit


_INDEX = """\
<h1>Your account</h1>
<p>Settings of your mail account are changed with JSON calls below
<a href="api/"><code>api/</code></a>, where a description of all functions and types is, also
<a href="api/openapi.json">for OpenAPI</a>. A call
is a <code>POST</code> of <code>{"params": [...]}</code> to
<code>api/&lt;Function&gt;</code> with content type <code>application/json</code>, after
<code>LoginPrep</code> and <code>Login</code>.</p>
"""


def make_account(
    ctx: AdminContext,
    path: str,
    *,
    origin: Origin,
    authenticator: Authenticator,
    sessions: StoredSessions,
    limiter: Limiter,
) -> Any:
    """The resource of the account interface at a URL path."""
    auth = WebAuth(
        KIND,
        path,
        sessions,
        authenticate=user_login(authenticator, KIND),
        record=recorder(ctx.store, KIND),
        limiter=limiter,
        clock=ctx.clock,
    )
    app = Klein()
    Endpoint(
        registry,
        context=AccountAPI(ctx, auth),
        origin=origin,
        gate=auth.gate,
        errors=error_of,
        clock=ctx.clock,
        audit=ctx.audit,
        caller=lambda call: own(call)[1],
    ).route(app)
    openapi.route(app, registry, KIND)

    Importing(ctx, auth, origin).route(app)
    Exporting(ctx, auth, origin, KIND).route(app)

    @app.route("/")  # type: ignore[type-var]
    def index(request: Request) -> Response:
        return page(request, "Mail account", _INDEX)

    @app.route("/<path:rest>")  # type: ignore[type-var]
    def missing(request: Request, rest: str) -> Response:
        return plain(404, origin(request).text("page not found"))

    return app.resource()
