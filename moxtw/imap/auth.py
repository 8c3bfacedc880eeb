"""Who may connect, and logging in: limits, TLS client certificates, LOGIN, AUTHENTICATE, STARTTLS.

RFC 9051 6.2, RFC 4959 (initial responses).
"""

from __future__ import annotations

import base64
from collections.abc import Collection
from typing import TYPE_CHECKING, Any, Final

from moxtw import metrics
from moxtw.imap.connection import READ_UNAUTHENTICATED
from moxtw.imap.errors import Bad, Close, IMAPError, No
from moxtw.imap.parser import Parser
from moxtw.imap.registry import Command, State, no_arguments
from moxtw.log import TRACEAUTH
from moxtw.net.tls import channel_binding, peer_fingerprint, tls_connection, tls_info
from moxtw.sasl import server as sasl
from moxtw.sasl.errors import (
    Aborted,
    AuthorizationDenied,
    BadBase64,
    BadMessage,
    ChannelBindingMismatch,
    MissingSecret,
    NoSuchMechanism,
    SASLError,
    TLSNeeded,
)
from moxtw.sasl.precis import username as prepare_username
from moxtw.store import auth as store_auth
from moxtw.store.auth import Attempt, Login, LoginFailed

if TYPE_CHECKING:
    from moxtw.imap.server import IMAPServer

MECHANISMS: Final = frozenset(name for name in sasl.MECHANISMS if name != "LOGIN")

# Failures on a connection from which on it is served slowly, and above which it waits.
_SLOW_FROM: Final = 3
_WAIT_ABOVE: Final = 3
# A login's record waits so long (seconds) for the client to say its name with ID.
_RECORD_DELAY: Final = 1
_MAX_RESPONSE: Final = 12 * 1024


class LoginState:
    """What a connection remembers about logging in.

    `preset` is who is logged in from the start, if somebody is. `fingerprint` names the key of
    the certificate that the client showed, `certificate_account` the account it stands for.
    """

    __slots__ = (
        "_agent",
        "_pending",
        "_timer",
        "certificate_account",
        "failures",
        "fingerprint",
        "preset",
    )

    def __init__(self, preset: Login | None) -> None:
        self.preset = preset
        self.fingerprint: str | None = None
        self.certificate_account = ""
        self.failures = 0
        self._agent = ""
        self._pending: Attempt | None = None
        self._timer: Any = None

    def capabilities_disabled(self, conn: IMAPServer) -> Collection[str]:
        """Upper-case names of capabilities that the account's settings hide."""
        if conn.session is None:
            return ()
        account = conn.app.config.dynamic.accounts.get(conn.session.account_name)
        if account is None or not account.imap_capabilities_disabled:
            return ()
        return {name.upper() for name in account.imap_capabilities_disabled}

    def attempt(self, conn: IMAPServer, mechanism: str) -> Attempt:
        """The record of a login that begins."""
        self.settle(conn)
        connection = tls_connection(conn.transport)
        return Attempt(
            protocol="imap",
            mechanism=mechanism.lower(),
            remote_ip=conn.remote_ip,
            local_ip=conn.local_ip,
            tls="" if connection is None else tls_info(connection).text,
            fingerprint=self.fingerprint or "",
            user_agent=self._agent,
        )

    def failed(self, conn: IMAPServer, attempt: Attempt, result: str) -> None:
        """Record a failure, whatever it is; from the third on the connection is slow."""
        self.failures += 1
        if self.failures >= _SLOW_FROM:
            conn.slow = True
        if conn.remote_ip and result not in store_auth.COUNTED:
            # Those are counted for the address where they are recorded.
            conn.app.failed_auth.add(conn.remote_ip, conn.clock.seconds())
        conn.log.info(
            "login failed",
            mechanism=attempt.mechanism,
            username=attempt.login_address,
            result=result,
            remote=conn.remote_ip,
        )
        conn.app.authenticator.record(attempt, result)

    def succeeded(self, conn: IMAPServer, attempt: Attempt) -> None:
        """Record a success, a little later, so that the client's name can be part of it."""
        self.failures = 0
        conn.log.info("login", mechanism=attempt.mechanism, username=attempt.login_address)
        self._pending = attempt
        if self._agent:
            self.settle(conn)
        else:
            self._timer = conn.clock.callLater(_RECORD_DELAY, self.settle, conn)

    def identified(self, conn: IMAPServer, agent: str) -> None:
        """The client has named itself."""
        self._agent = agent
        if self._pending is not None:
            self._pending.user_agent = agent
            self.settle(conn)

    def settle(self, conn: IMAPServer) -> None:
        """Record what waits for the client's name."""
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()
        pending, self._pending = self._pending, None
        if pending is not None:
            conn.app.authenticator.record(pending, store_auth.OK)

    ended = settle


async def admit(conn: IMAPServer) -> None:
    """Whether the connection is served at all, and who it is by its certificate.

    Raises Close with the reason.
    """
    app = conn.app
    if app.stopping():
        raise Close(b"* BYE server is shutting down")
    now = conn.clock.seconds()
    ip = conn.remote_ip
    if ip:
        if not app.connection_rate.add(ip, now):
            raise Close(b"* BYE [UNAVAILABLE] too many new connections from your network")
        if not app.failed_auth.can_add(ip, now):
            metrics.authentication_ratelimited_total.labels("imap").inc()
            raise Close(b"* BYE [UNAVAILABLE] too many failed logins from your network")
        if not app.open_connections.add(ip, now):
            raise Close(b"* BYE [UNAVAILABLE] too many open connections from your network")
        conn.count_open()
    if conn.login.preset is not None:
        await conn.open_session(conn.login.preset)
    else:
        await look_at_certificate(conn, preauth=True)


async def look_at_certificate(conn: IMAPServer, *, preauth: bool) -> None:
    """Take note of the client's certificate, and log in by it if its key allows that.

    The handshake has refused unknown keys; one of a resumed session is only seen here.
    """
    connection = tls_connection(conn.transport)
    if connection is None or not conn.listener.client_auth:
        return
    ip = conn.remote_ip
    if ip and not conn.app.failed_auth.can_add(ip, conn.clock.seconds()):
        # It was let in before it failed that often (STARTTLS): no help for guessing.
        return
    fingerprint = peer_fingerprint(connection)
    if fingerprint is None:
        return
    login = conn.login
    attempt = login.attempt(conn, "tlsclientauth")
    attempt.user_agent = ""
    key = conn.app.authenticator.key(fingerprint)
    if key is None:
        login.failed(conn, attempt, store_auth.BAD_CREDENTIALS)
        raise Close(b"* BYE [ALERT] your TLS client certificate is not known")
    login.fingerprint = attempt.fingerprint = fingerprint
    login.certificate_account = key.account
    if not preauth or key.no_imap_preauth:
        return
    try:
        found = await conn.app.authenticator.check_certificate(fingerprint, attempt)
    except LoginFailed as exc:
        login.failed(conn, attempt, exc.result)
        raise Close(b"* BYE [ALERT] your TLS client certificate cannot be used") from None
    await conn.open_session(found)
    conn.log.info("login by certificate", username=found.address)
    conn.app.authenticator.record(attempt, store_auth.OK)


# -- STARTTLS ----------------------------------------------------------------------------------


async def run_starttls(conn: IMAPServer, tag: bytes, args: None) -> None:
    """STARTTLS (RFC 9051 6.2.1): what was sent ahead of TLS is forgotten."""
    if conn.secure:
        raise Bad("TLS is active already")
    if conn.listener.tls is None:
        raise Bad("TLS is not available here")
    text = b"go ahead with TLS (%b)" % conn.app.cids.encrypt(conn.cid).encode("ascii")
    conn.sendPositiveResponse(tag, text)
    await conn.drain()
    tls = conn.listener.tls
    if not conn.listener.client_auth:
        tls = tls.without_client_certificates()
    conn.start_tls(tls)
    await conn.handshake()
    await look_at_certificate(conn, preauth=False)


# -- LOGIN and AUTHENTICATE --------------------------------------------------------------------


def parse_login(p: Parser) -> tuple[bytes, bytes]:
    """LOGIN: user and password."""
    p.space()
    user = p.astring()
    p.space()
    return user, p.astring()


def _need_privacy(conn: IMAPServer) -> None:
    if not conn.secure and not conn.listener.plain_allowed:
        raise No("passwords need TLS here", b"PRIVACYREQUIRED")


async def _wait_after_failures(conn: IMAPServer) -> None:
    over = conn.login.failures - _WAIT_ABOVE
    if over > 0:
        await conn.sleep(over)


async def run_login(conn: IMAPServer, tag: bytes, args: tuple[bytes, bytes]) -> bytes:
    """LOGIN (RFC 9051 6.2.3)."""
    _need_privacy(conn)
    attempt = conn.login.attempt(conn, "login")
    try:
        user, password = args[0].decode("utf-8"), args[1].decode("utf-8")
        user = prepare_username(user)
    except (UnicodeDecodeError, SASLError):
        conn.login.failed(conn, attempt, store_auth.BAD_CREDENTIALS)
        raise _refused() from None
    await _wait_after_failures(conn)
    return await _finish(conn, await _password(conn, user, password, attempt), attempt)


def _refused() -> No:
    return No("wrong user or password", b"AUTHENTICATIONFAILED")


async def _password(conn: IMAPServer, user: str, password: str, attempt: Attempt) -> Login:
    try:
        return await conn.app.authenticator.check_password(user, password, attempt)
    except LoginFailed as exc:
        raise _login_failed(conn, exc, attempt) from None


def _login_failed(conn: IMAPServer, exc: LoginFailed, attempt: Attempt) -> No:
    conn.login.failed(conn, attempt, exc.result)
    if exc.result == store_auth.LOGIN_DISABLED:
        return No(exc.text or "login is disabled", b"AUTHENTICATIONFAILED")
    return _refused()


async def _finish(conn: IMAPServer, login: Login, attempt: Attempt) -> bytes:
    """The login is right: the account must be that of the certificate, if there is one."""
    known = conn.login.certificate_account
    if known and known != login.account:
        conn.login.failed(conn, attempt, store_auth.BAD_CREDENTIALS)
        raise No("the TLS client certificate is of another account", b"AUTHENTICATIONFAILED")
    await conn.open_session(login)
    conn.login.succeeded(conn, attempt)
    return b"[%b] welcome" % conn.capability_text()


def parse_authenticate(p: Parser) -> tuple[str, bytes | None]:
    """AUTHENTICATE: mechanism, and initial response in base64 (RFC 4959)."""
    p.space()
    mechanism = p.word().decode("ascii")
    if p.at_end():
        return mechanism, None
    p.space()
    return mechanism, p.base64()


async def run_authenticate(
    conn: IMAPServer, tag: bytes, args: tuple[str, bytes | None]
) -> bytes:
    """AUTHENTICATE (RFC 9051 6.2.2)."""
    mechanism, initial = args
    if mechanism not in MECHANISMS:
        raise No("this mechanism is not available")
    if mechanism == "PLAIN":
        _need_privacy(conn)
    attempt = conn.login.attempt(conn, mechanism)
    await _wait_after_failures(conn)
    connection = tls_connection(conn.transport)
    try:
        machine = sasl.start(
            mechanism,
            tls=conn.secure,
            channel_binding=None if connection is None else channel_binding(connection),
            external=conn.login.fingerprint,
            plus_offered=conn.secure,
            hostname=conn.listener.hostname,
        )
        login = await _exchange(conn, machine, initial, attempt)
    except SASLError as exc:
        attempt.login_address = attempt.login_address or exc.username
        if isinstance(exc, MissingSecret):
            # No fault of the client's: recorded, and not counted against it.
            conn.app.authenticator.record(attempt, store_auth.ERROR)
        else:
            conn.login.failed(conn, attempt, exc.kind)
        raise _sasl_reply(exc) from None
    return await _finish(conn, login, attempt)


def _sasl_reply(exc: SASLError) -> IMAPError:
    if isinstance(exc, Aborted):
        return Bad("authentication given up")
    if isinstance(exc, BadBase64 | BadMessage):
        return Bad(str(exc))
    if isinstance(exc, TLSNeeded):
        return No(str(exc), b"PRIVACYREQUIRED")
    if isinstance(exc, AuthorizationDenied):
        return No(str(exc), b"AUTHORIZATIONFAILED")
    if isinstance(exc, MissingSecret):
        return No("no secret for this mechanism, use another", b"AUTHENTICATIONFAILED")
    if isinstance(exc, ChannelBindingMismatch):
        return No(str(exc), b"AUTHENTICATIONFAILED")
    if isinstance(exc, NoSuchMechanism):
        return No(str(exc))
    return _refused()


async def _exchange(
    conn: IMAPServer, machine: sasl.ServerMechanism, initial: bytes | None, attempt: Attempt
) -> Login:
    """Challenges and responses until the machine is content. Raises SASLError and No."""
    authenticator = conn.app.authenticator
    login: Login | None = None
    step = machine.step(None if initial is None else sasl.decode_initial(initial))
    while True:
        match step:
            case sasl.Challenge(data):
                step = machine.step(await _challenge(conn, data))
            case sasl.NeedPassword(_, username, password):
                login = await _password(conn, username, password, attempt)
                step = machine.supply_password(True)
            case sasl.NeedScram(username, hash_name):
                login, verifiers = await authenticator.secrets(username, attempt)
                scram = None
                if verifiers is not None:
                    scram = verifiers.scram_sha1 if hash_name == "sha1" else verifiers.scram_sha256
                step = machine.supply_scram(scram, missing=login is not None)
            case sasl.NeedCram(username):
                login, verifiers = await authenticator.secrets(username, attempt)
                cram = None if verifiers is None else verifiers.cram_md5
                step = machine.supply_cram(cram, missing=login is not None)
            case sasl.NeedExternal(authzid, fingerprint):
                login = await _certificate(conn, authzid, fingerprint, attempt)
                step = machine.supply_external(None if login is None else login.address)
            case sasl.Success(_, data):
                if data is not None and await _challenge(conn, data):
                    raise BadMessage("empty response expected")
                assert login is not None
                try:
                    return authenticator.complete(login, attempt)
                except LoginFailed as exc:
                    raise _login_failed(conn, exc, attempt) from None


async def _certificate(
    conn: IMAPServer, authzid: str, fingerprint: str, attempt: Attempt
) -> Login | None:
    """The login of the client's certificate; an identity asked for must be of its account."""
    try:
        login = await conn.app.authenticator.check_certificate(fingerprint, attempt)
    except LoginFailed as exc:
        raise _login_failed(conn, exc, attempt) from None
    if not authzid:
        return login
    known = conn.app.authenticator.login_account(authzid)
    if known is None or known.account != login.account:
        return None
    return Login(login.account, login.account_id, known.address)


async def _challenge(conn: IMAPServer, data: bytes) -> bytes:
    """Send a challenge and decode the response. Raises Aborted, BadBase64."""
    conn.sendLine(b"+ " + base64.b64encode(data))
    conn.flush(TRACEAUTH)
    line = await conn.read_line(READ_UNAUTHENTICATED, _MAX_RESPONSE)
    conn.trace_in(line, TRACEAUTH)
    return sasl.decode(line)


COMMANDS = (
    Command("STARTTLS", State.NOT_AUTHENTICATED, no_arguments, run_starttls, notices=False),
    Command("LOGIN", State.NOT_AUTHENTICATED, parse_login, run_login, notices=False),
    Command(
        "AUTHENTICATE", State.NOT_AUTHENTICATED, parse_authenticate, run_authenticate, notices=False
    ),
)
