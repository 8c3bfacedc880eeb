"""Sessions of users that outlast the process: those of the account pages and of webmail."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Awaitable, Callable
from typing import Final

from moxtw.admin.context import Config, OperationError
from moxtw.store import accounts, credentials, websessions
from moxtw.store.auth import Attempt, Authenticator, LoginFailed
from moxtw.store.db import Store
from moxtw.store.errors import NoSuchAccount
from moxtw.store.tx import Tx
from moxtw.web.sessions import BadSession, LoginRefused, Session
from moxtw.web.visit import Visit

LIFETIME: Final = 24 * 3600 * 1_000_000
"""Microseconds that a session lasts after its last use."""
_LAG: Final = 5 * 60 * 1_000_000
"""Microseconds of use that may not be written down yet."""
_KNOWN: Final = 10_000


def digest(token: str) -> bytes:
    """What is kept of a token."""
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()


class StoredSessions:
    """Sessions in the store, for `moxtw.web.sessions.WebAuth`.

    A session ends when its account may log in no more.
    """

    def __init__(self, store: Store, config: Config) -> None:
        self._store = store
        self._config = config
        # Digests of tokens that were good, the last used ones last: for what has to be decided
        # before the store can be asked.
        self._known: dict[bytes, int] = {}

    async def load(self) -> None:
        """Learn of the sessions that there are, before there are requests."""
        for key, expires in reversed(
            await self._store.read(lambda tx: websessions.latest(tx, _KNOWN))
        ):
            self._known[key] = expires

    async def add(self, account: str, login_address: str) -> Session:
        """Make a session."""
        session = Session(
            secrets.token_urlsafe(16), secrets.token_urlsafe(16), account, login_address
        )
        token, csrf = digest(session.token), digest(session.csrf)

        def job(tx: Tx) -> None:
            found = accounts.get(tx, account)
            websessions.add(tx, found.id, token, csrf, login_address, tx.now + LIFETIME)

        try:
            await self._store.write(job)
        except NoSuchAccount as exc:
            raise OperationError("server", "the account is not ready yet") from exc
        self._remember(token)
        return session

    async def use(self, account: str, token: str, csrf: str | None) -> Session:
        """Find and prolong a session. Raises BadSession."""
        key = digest(token)
        found = await self._store.read(lambda tx: websessions.find(tx, key))
        now = self._store.now()
        if found is None or found.account != account or found.expires <= now:
            self._known.pop(key, None)
            raise BadSession("unknown or expired session")
        if csrf is not None and not hmac.compare_digest(digest(csrf), found.csrf):
            raise BadSession("wrong csrf token for session")
        config = self._config.dynamic.accounts.get(account)
        if config is None or config.login_disabled:
            self._known.pop(key, None)
            await self._store.write(lambda tx: websessions.remove(tx, key))
            raise BadSession("the account may not log in")
        if found.expires < now + LIFETIME - _LAG:
            await self._store.write(lambda tx: websessions.prolong(tx, key, now + LIFETIME))
        self._remember(key)
        return Session(token, csrf or "", account, found.login_address)

    async def remove(self, session: Session) -> None:
        """End a session."""
        key = digest(session.token)
        self._known.pop(key, None)
        await self._store.write(lambda tx: websessions.remove(tx, key))

    def known(self, token: str) -> bool:
        """Whether a token was good when it was last used, not long ago; asks no store."""
        return self._known.get(digest(token), 0) > self._store.now()

    def _remember(self, key: bytes) -> None:
        self._known.pop(key, None)
        self._known[key] = self._store.now() + LIFETIME
        if len(self._known) > _KNOWN:
            del self._known[next(iter(self._known))]


def user_login(
    authenticator: Authenticator, kind: str
) -> Callable[[str, str, Visit], Awaitable[tuple[str, str]]]:
    """The check of user name and password, for `WebAuth`."""

    async def authenticate(username: str, password: str, visit: Visit) -> tuple[str, str]:
        attempt = _attempt(kind, visit, "-", username)
        try:
            login = await authenticator.check_password(username, password, attempt)
        except LoginFailed as exc:
            raise LoginRefused(exc.result, str(exc), attempt.account) from exc
        return login.account, login.address

    return authenticate


def recorder(store: Store, kind: str) -> Callable[[Visit, str, str, str], Awaitable[None]]:
    """What keeps login attempts, for `WebAuth`."""

    async def record(visit: Visit, account: str, address: str, result: str) -> None:
        attempt = _attempt(kind, visit, account, address)
        await store.write(lambda tx: credentials.record_attempt(tx, attempt, result))

    return record


def _attempt(kind: str, visit: Visit, account: str, address: str) -> Attempt:
    return Attempt(
        kind,
        "weblogin",
        visit.remote_ip,
        visit.local_ip,
        visit.tls,
        "",
        visit.user_agent,
        account,
        address[:256],
    )
