"""Who logs in: checks of credentials for every protocol, and the record of attempts.

Protocols ask here whether a login is right; hashing happens in threads, attempts are stored
in the background, and failures count against the IP address (over all protocols together).
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from twisted.internet.defer import Deferred

from moxtw import metrics
from moxtw.log import Logger
from moxtw.ratelimit import Limiter
from moxtw.sasl import password as passwords
from moxtw.sasl.cram import CramSecret
from moxtw.sasl.password import Verifiers
from moxtw.sasl.scram import ScramSecret
from moxtw.store import accounts, credentials
from moxtw.store.db import Store
from moxtw.store.errors import NoSuchAccount, StoreClosed
from moxtw.store.tx import Tx

if TYPE_CHECKING:
    from twisted.internet.base import DelayedCall

_log = Logger("store")

# Results of login attempts, as stored and counted.
OK: Final = "ok"
BAD_USER: Final = "baduser"
BAD_PASSWORD: Final = "badpassword"
BAD_CREDENTIALS: Final = "badcreds"
BAD_CHANNEL_BINDING: Final = "badchanbind"
BAD_PROTOCOL: Final = "badprotocol"
LOGIN_DISABLED: Final = "logindisabled"
ERROR: Final = "error"
ABORTED: Final = "aborted"

# What counts against the IP address.
COUNTED: Final = frozenset({BAD_USER, BAD_PASSWORD, BAD_CREDENTIALS})
_CACHE_SECONDS: Final = 15 * 60
_CACHE_MAX: Final = 10_000
_PENDING_MAX: Final = 100


@dataclass(frozen=True, slots=True)
class LoginAccount:
    """What the configuration says of a login name. `login_disabled` is a text, '' if enabled."""

    account: str
    address: str
    login_disabled: str = ""


class Directory(Protocol):
    """The configuration's view of login names."""

    def login_account(self, username: str) -> LoginAccount | None:
        """The account that an address logs in to, or None."""


@dataclass(frozen=True, slots=True)
class Login:
    """A login that succeeded."""

    account: str
    account_id: int
    address: str


@dataclass(slots=True)
class Attempt:
    """What is recorded of a login attempt. `protocol` and `mechanism` are lower-case names.

    `tls` is a text as ``version=TLS1.3 ciphersuite=… sni=… resumed=… alpn=…``.
    """

    protocol: str
    mechanism: str
    remote_ip: str
    local_ip: str = ""
    tls: str = ""
    fingerprint: str = ""
    user_agent: str = ""
    account: str = "-"
    login_address: str = ""


class LoginFailed(Exception):
    """A login is refused; `result` is one of this module's results, the text for the user."""

    def __init__(self, result: str, text: str) -> None:
        super().__init__(text)
        self.result = result
        self.text = text


class Authenticator:
    """Checks logins against the store.

    A protocol calls `allowed` first, then one of the checks, then `record` with the outcome
    once (for `check_password` and `check_certificate`: on success and for each LoginFailed).
    """

    def __init__(
        self,
        store: Store,
        directory: Directory,
        limiter: Limiter,
        now: Callable[[], float] | None = None,
    ) -> None:
        self._store = store
        self._directory = directory
        self._limiter = limiter
        self._now = now or (lambda: store.now() / 1_000_000)
        self._cache: dict[tuple[str, bytes], bytes] = {}
        self._cache_key = secrets.token_bytes(32)
        self._cache_timer: DelayedCall | None = None
        self._keys: dict[str, credentials.TLSKey] = {}
        self._pending = 0

    # -- Life cycle ------------------------------------------------------------------

    async def start(self) -> None:
        """Load what must be known without waiting: the keys of TLS client certificates."""
        await self.reload_keys()
        self._expire_cache()

    def stop(self) -> None:
        """Stop the timer."""
        if self._cache_timer is not None and self._cache_timer.active():
            self._cache_timer.cancel()
        self._cache_timer = None

    def _expire_cache(self) -> None:
        self._cache.clear()
        self._cache_timer = self._store.reactor.callLater(_CACHE_SECONDS, self._expire_cache)

    def forget(self, account: str) -> None:
        """Drop what was cached of passwords: an account's password or login has changed."""
        self._cache.clear()

    async def reload_keys(self) -> None:
        """Read the TLS public keys again, after a change to them."""
        keys = await self._store.read(credentials.tls_keys)
        self._keys = {key.fingerprint: key for key in keys}

    # -- Rate limit ------------------------------------------------------------------

    def allowed(self, remote_ip: str, kind: str) -> bool:
        """Whether an address may try to log in; counts refusals for `kind`."""
        if self._limiter.can_add(remote_ip, self._now()):
            return True
        metrics.authentication_ratelimited_total.labels(kind).inc()
        return False

    # -- Checks ----------------------------------------------------------------------

    def login_account(self, username: str) -> LoginAccount | None:
        """The account that an address logs in to, or None."""
        return self._directory.login_account(username)

    async def check_password(self, username: str, password: str, attempt: Attempt) -> Login:
        """Verify a password. Raises LoginFailed.

        Takes as long for unknown users as for known ones. The username may be any form of an
        address that the configuration knows.
        """
        attempt.login_address = username[:256]
        known = self._directory.login_account(username)
        if known is None:
            await self._store.run(passwords.verify, password[:1024], passwords.FAKE_HASH)
            raise LoginFailed(BAD_USER, "bad user or password")
        attempt.account, attempt.login_address = known.account, known.address

        def load(tx: Tx) -> tuple[int, Verifiers | None]:
            account = accounts.get(tx, known.account)
            return account.id, credentials.verifiers(tx, account.id)

        try:
            account_id, verifiers = await self._store.read(load)
        except NoSuchAccount:
            account_id, verifiers = 0, None
        if verifiers is None:
            await self._store.run(passwords.verify, password[:1024], passwords.FAKE_HASH)
            raise LoginFailed(BAD_PASSWORD, "bad user or password")
        if not await self._verify(known.account, password, verifiers):
            raise LoginFailed(BAD_PASSWORD, "bad user or password")
        if known.login_disabled:
            raise LoginFailed(LOGIN_DISABLED, known.login_disabled)
        return Login(known.account, account_id, known.address)

    async def _verify(self, account: str, password: str, verifiers: Verifiers) -> bool:
        if len(password) > 1024:
            return False
        digest = hmac.digest(self._cache_key, password.encode("utf-8", "replace"), "sha256")
        # The stored hash is part of what is remembered: after a change, nothing old fits.
        stored = hashlib.sha256(verifiers.bcrypt.encode()).digest()
        if self._cache.get((account, digest)) == stored:
            return True
        if not await self._store.run(passwords.verify, password, verifiers.bcrypt):
            return False
        if len(password.encode("utf-8", "replace")) >= 8 and len(self._cache) < _CACHE_MAX:
            self._cache[account, digest] = stored
        return True

    async def secrets(
        self, username: str, attempt: Attempt
    ) -> tuple[Login | None, Verifiers | None]:
        """What SCRAM and CRAM-MD5 need. (None, None) for unknown users.

        The login is good only once the mechanism says so, and `complete` has been called.
        """
        attempt.login_address = username[:256]
        known = self._directory.login_account(username)
        if known is None:
            return None, None
        attempt.account, attempt.login_address = known.account, known.address

        def load(tx: Tx) -> tuple[int, Verifiers | None]:
            account = accounts.get(tx, known.account)
            return account.id, credentials.verifiers(tx, account.id)

        try:
            account_id, verifiers = await self._store.read(load)
        except NoSuchAccount:
            return None, None
        return Login(known.account, account_id, known.address), verifiers

    async def scram(
        self, username: str, hash_name: str, attempt: Attempt
    ) -> tuple[Login | None, ScramSecret | None]:
        """The SCRAM secret of a user for ``sha1`` or ``sha256``; see `secrets`."""
        login, verifiers = await self.secrets(username, attempt)
        return login, None if verifiers is None else verifiers.scram(hash_name)

    async def cram(self, username: str, attempt: Attempt) -> tuple[Login | None, CramSecret | None]:
        """The CRAM-MD5 secret of a user; see `secrets`."""
        login, verifiers = await self.secrets(username, attempt)
        return login, None if verifiers is None else verifiers.cram_md5

    def complete(self, login: Login, attempt: Attempt) -> Login:
        """The last check after SCRAM, CRAM-MD5 or EXTERNAL: raises LoginFailed if disabled."""
        known = self._directory.login_account(login.address)
        if known is None or known.account != login.account:
            raise LoginFailed(BAD_USER, "bad user or password")
        if known.login_disabled:
            raise LoginFailed(LOGIN_DISABLED, known.login_disabled)
        return login

    # -- TLS client certificates -------------------------------------------------------

    def known_key(self, fingerprint: str) -> bool:
        """Whether a client certificate's key belongs to an account (without waiting)."""
        return self.key(fingerprint) is not None

    def key(self, fingerprint: str) -> credentials.TLSKey | None:
        """The key of that fingerprint, if its login address still belongs to its account."""
        key = self._keys.get(fingerprint)
        if key is None:
            return None
        known = self._directory.login_account(key.login_address)
        if known is None or known.account != key.account:
            return None
        if known.login_disabled and not key.no_imap_preauth:
            return None
        return key

    async def check_certificate(self, fingerprint: str, attempt: Attempt) -> Login:
        """The login of a client certificate's key. Raises LoginFailed."""
        attempt.fingerprint = fingerprint
        key = self.key(fingerprint)
        if key is None:
            raise LoginFailed(BAD_CREDENTIALS, "unknown client certificate")
        attempt.account, attempt.login_address = key.account, key.login_address
        account = await self._store.read(lambda tx: accounts.get(tx, key.account))
        return self.complete(Login(key.account, account.id, key.login_address), attempt)

    # -- Record ------------------------------------------------------------------------

    def record(self, attempt: Attempt, result: str) -> Deferred[Any] | None:
        """Note the outcome: counts, limits, and (in the background) the stored record.

        Returns a Deferred when many records wait to be stored: the login should wait too.
        """
        metrics.authentication_total.labels(attempt.protocol, attempt.mechanism, result).inc()
        if result == OK:
            self._limiter.reset(attempt.remote_ip, self._now())
        elif result in COUNTED:
            self._limiter.add(attempt.remote_ip, self._now())
        self._pending += 1
        stored = self._store.write(lambda tx: credentials.record_attempt(tx, attempt, result))

        def done(outcome: Any) -> None:
            self._pending -= 1

        def failed(failure: Any) -> None:
            if not failure.check(StoreClosed):
                _log.failure("storing login attempt", failure)

        stored.addErrback(failed).addBoth(done)
        return stored if self._pending > _PENDING_MAX else None
