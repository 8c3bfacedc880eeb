"""Logging in to the web interfaces: login cookies, sessions, CSRF tokens, rate limits.

A login takes two steps, so that a page of another site cannot log a browser in: `prep` hands
out a token that also goes into a short-lived cookie, `login` wants both back, and answers
with a CSRF token while the session goes into a cookie. Each API call then carries the CSRF
token in header ``x-mox-csrf``.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Protocol
from urllib.parse import quote_plus, unquote_plus

from twisted.web.http import Request

from moxtw import metrics
from moxtw.admin.clock import Clock, sleep
from moxtw.log import Logger
from moxtw.ratelimit import Limiter
from moxtw.web.rpc import USER_ERROR, ApiError, Call, PlainError
from moxtw.web.visit import HeaderDict, Visit, header

log = Logger("webauth")

CSRF_HEADER: Final = "x-mox-csrf"
LOGIN_LIFETIME: Final = 30
"""Seconds between prep and login."""
FAILURE_DELAY: Final = 1.0
"""Seconds that a wrong session or password costs."""

NO_AUTH: Final = "user:noAuth"
BAD_AUTH: Final = "user:badAuth"
LOGIN_FAILED: Final = "user:loginFailed"

ADMIN_ACCOUNT: Final = "(admin)"
ADMIN_LIFETIME: Final = 12 * 3600
ADMIN_SESSIONS: Final = 10


class LoginRefused(Exception):
    """Wrong credentials, or login is disabled; the message may be shown.

    `result` is the result of the login attempt as recorded, such as ``badcreds``; `account`
    that of which it is, "-" if it is not known.
    """

    def __init__(self, result: str, message: str, account: str = "-") -> None:
        super().__init__(message)
        self.result = result
        self.account = account


class BadSession(Exception):
    """No such session, an expired one, or the wrong CSRF token; the message may be shown."""


@dataclass(frozen=True, slots=True)
class Session:
    """A session that was checked."""

    token: str
    csrf: str
    account: str
    login_address: str = ""


class Sessions(Protocol):
    """Keeps the sessions of one kind."""

    async def add(self, account: str, login_address: str) -> Session:
        """Make a session."""
        ...

    async def use(self, account: str, token: str, csrf: str | None) -> Session:
        """Find and prolong a session; `csrf` None: it is not asked for. Raises BadSession."""
        ...

    async def remove(self, session: Session) -> None:
        """End a session."""


class MemorySessions:
    """Sessions in memory, gone with the process: those of the admin."""

    def __init__(
        self, clock: Clock, lifetime: int = ADMIN_LIFETIME, limit: int = ADMIN_SESSIONS
    ) -> None:
        self._clock = clock
        self._lifetime = lifetime
        self._limit = limit
        # By token, with the time of expiry; the next to expire comes first, as each use
        # moves a session to the end and all have the same lifetime.
        self._sessions: dict[str, tuple[Session, float]] = {}

    async def add(self, account: str, login_address: str) -> Session:
        """Make a session; at the limit, that which would expire first goes."""
        self._expire()
        while len(self._sessions) >= self._limit:
            del self._sessions[next(iter(self._sessions))]
        session = Session(_random(16), _random(16), account, login_address)
        self._sessions[session.token] = (session, self._clock.seconds() + self._lifetime)
        return session

    async def use(self, account: str, token: str, csrf: str | None) -> Session:
        """Find and prolong a session. Raises BadSession."""
        self._expire()
        session, _ = self._sessions.get(token, (None, 0.0))
        if session is None or session.account != account:
            raise BadSession("unknown or expired session")
        if csrf is not None and not hmac.compare_digest(csrf.encode(), session.csrf.encode()):
            raise BadSession("wrong csrf token for session")
        del self._sessions[token]
        self._sessions[token] = (session, self._clock.seconds() + self._lifetime)
        return session

    async def remove(self, session: Session) -> None:
        """End a session."""
        self._sessions.pop(session.token, None)

    def _expire(self) -> None:
        now = self._clock.seconds()
        while self._sessions:
            token, (_, end) = next(iter(self._sessions.items()))
            if end > now:
                return
            del self._sessions[token]


def _random(size: int) -> str:
    return secrets.token_urlsafe(size)


Authenticate = Callable[[str, str, Visit], Awaitable[tuple[str, str]]]
"""(username, password, visit) -> (account, login address). Raises LoginRefused."""

Record = Callable[[Visit, str, str, str], Awaitable[None]]
"""(visit, account, login address, result): keeps a login attempt."""


class WebAuth:
    """Logins and session checks for one interface.

    `kind` is ``webadmin``, ``webaccount`` or ``webmail``; `path` the URL path of the
    interface, for its cookies.
    """

    def __init__(
        self,
        kind: str,
        path: str,
        sessions: Sessions,
        *,
        authenticate: Authenticate,
        record: Record,
        limiter: Limiter,
        clock: Clock,
    ) -> None:
        self._kind = kind
        self._path = path
        self._sessions = sessions
        self._authenticate = authenticate
        self._record = record
        self._limiter = limiter
        self._clock = clock

    def prep(self, call: Call) -> str:
        """Hand out a login token, also as a cookie."""
        token = _random(8)
        self._set_cookie(call, "login", token, LOGIN_LIFETIME)
        return token

    async def login(self, call: Call, token: str, username: str, password: str) -> str:
        """Log in; returns the CSRF token. Raises ApiError, and PlainError for rate limits."""
        cookie = _cookie(call.request, f"{self._kind}login")
        if cookie is None:
            raise ApiError(
                USER_ERROR,
                "missing login cookie; it is valid for 30 seconds, and if there is a reverse "
                f"proxy in front, it has to keep the path {self._path}",
            )
        if not hmac.compare_digest(cookie.encode(), token.encode()):
            raise ApiError(USER_ERROR, "login token does not match the login cookie")
        visit = call.visit
        now = self._limit(visit)
        try:
            account, address = await self._authenticate(username, password, visit)
        except LoginRefused as exc:
            metrics.authentication_total.labels(self._kind, "weblogin", exc.result).inc()
            log.info("login failed", cid=visit.cid, kind=self._kind, result=exc.result)
            await self._record(visit, exc.account, username, exc.result)
            await sleep(self._clock, FAILURE_DELAY)
            raise ApiError(LOGIN_FAILED, str(exc)) from exc
        self._limiter.reset(visit.remote_ip, now)
        metrics.authentication_total.labels(self._kind, "weblogin", "ok").inc()
        await self._record(visit, account, address, "ok")
        session = await self._sessions.add(account, address)
        log.info("login", cid=visit.cid, kind=self._kind, account=account)
        self._set_cookie(call, "login", "", 0)
        # The value has a space, which only quoted is kept by all who parse cookies.
        self._set_cookie(call, "session", f'"{session.token} {quote_plus(account)}"', None)
        return session.csrf

    async def logout(self, call: Call) -> None:
        """End the session of a call."""
        await self._sessions.remove(call.session)
        self._set_cookie(call, "session", "", 0)

    async def gate(self, request: Request, visit: Visit) -> Session:
        """Check the session of an API call. Raises ApiError, and PlainError for rate limits."""
        token, account = self._token(request)
        csrf = header(request, CSRF_HEADER)
        if not csrf:
            raise ApiError(NO_AUTH, f"missing header {CSRF_HEADER}")
        session = await self._check(visit, token, account, csrf)
        request.auth_account = session.account  # type: ignore[attr-defined]
        return session

    async def page(self, request: Request, visit: Visit, csrf: str | None = None) -> Session:
        """Check the session of what a browser loads by itself. Raises PlainError."""
        try:
            token, account = self._token(request)
            return await self._check(visit, token, account, csrf)
        except ApiError as exc:
            raise PlainError(403, str(exc)) from exc

    def _token(self, request: Request) -> tuple[str, str]:
        cookie = _cookie(request, f"{self._kind}session")
        if not cookie:
            raise ApiError(NO_AUTH, "no session")
        token, space, account = cookie.partition(" ")
        if not space:
            raise ApiError(BAD_AUTH, "malformed session cookie")
        return token, unquote_plus(account, errors="replace")

    async def _check(self, visit: Visit, token: str, account: str, csrf: str | None) -> Session:
        self._limit(visit)
        try:
            session = await self._sessions.use(account, token, csrf)
        except BadSession as exc:
            metrics.authentication_total.labels(self._kind, "websession", "badcreds").inc()
            await sleep(self._clock, FAILURE_DELAY)
            raise ApiError(BAD_AUTH, str(exc)) from exc
        self._limiter.sub(visit.remote_ip)
        metrics.authentication_total.labels(self._kind, "websession", "ok").inc()
        return session

    def _limit(self, visit: Visit) -> float:
        """Count an attempt as failed until it proves good, so that none run beside."""
        if not visit.remote_ip:
            raise ApiError(
                NO_AUTH, "no address of the client known (missing header X-Forwarded-For?)"
            )
        now = self._clock.seconds()
        if not self._limiter.add(visit.remote_ip, now):
            metrics.authentication_ratelimited_total.labels(self._kind).inc()
            raise PlainError(429, "too many failed logins, try again later")
        return now

    def _set_cookie(self, call: Call, name: str, value: str, max_age: int | None) -> None:
        parts = [f"{self._kind}{name}={value}", f"Path={self._path}"]
        if max_age is not None:
            parts.append(f"Max-Age={max_age}")
        parts += ["HttpOnly", "SameSite=Strict"]
        if call.visit.secure:
            parts.append("Secure")
        _add_header(call.headers, "Set-Cookie", "; ".join(parts))


def session_token(request: Request, kind: str) -> str:
    """The session token that a request carries, unchecked; '' if there is none.

    Before the body has come in, cookies are not yet parsed.
    """
    for line in request.requestHeaders.getRawHeaders(b"Cookie") or []:
        for pair in line.decode("latin-1").split(";"):
            name, _, value = pair.strip().partition("=")
            if name == f"{kind}session":
                return value.strip().strip('"').partition(" ")[0]
    return ""


def _add_header(headers: HeaderDict, name: str, value: str) -> None:
    there = headers.get(name, ())
    assert not isinstance(there, str | bytes)
    headers[name] = [*there, value]


def _cookie(request: Request, name: str) -> str | None:
    value = request.received_cookies.get(name.encode())
    if value is None:
        return None
    text = value.strip().decode("utf-8", "replace")
    if len(text) >= 2 and text[0] == text[-1] == '"':
        text = text[1:-1]
    return text
