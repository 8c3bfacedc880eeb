"""AUTH over SMTP (RFC 4954), and login by TLS client certificate."""

from __future__ import annotations

import base64
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Final

from twisted.internet.defer import CancelledError

from moxtw.log import Logger
from moxtw.net.tlsinfo import channel_binding, peer_fingerprint, tls_connection
from moxtw.sasl import errors, server
from moxtw.smtp import grammar
from moxtw.smtp.reply import SMTPError
from moxtw.store import auth as store_auth
from moxtw.store.auth import Attempt, Login, LoginFailed

if TYPE_CHECKING:
    from moxtw.smtp.server import SMTPServer

log = Logger("smtpserver")

MECHANISMS: Final = " ".join(m for m in server.MECHANISMS if m != "EXTERNAL").encode()

_PASSWORD_IN_CLEAR: Final = ("PLAIN", "LOGIN")
_COUNTED: Final = (store_auth.BAD_USER, store_auth.BAD_PASSWORD, store_auth.BAD_CREDENTIALS)

SLOW_AFTER: Final = 3
"""Failures on a connection after which everything takes longer."""


def capability(conn: SMTPServer) -> bytes:
    """The line in the reply to EHLO.

    Mechanisms with channel binding are named without TLS too, so that clients can tell when
    somebody on the way changes the list.
    """
    if conn.settings.require_tls_to_send and conn.tls is None:
        return b"AUTH "
    if _fingerprint(conn) is not None:
        return b"AUTH EXTERNAL " + MECHANISMS
    return b"AUTH " + MECHANISMS


def command(conn: SMTPServer, rest: str) -> Awaitable[None]:
    """AUTH mechanism [initial-response]."""
    if not conn.submission:
        raise SMTPError(503, "5.5.1", "authentication not allowed on non-submission ports")
    conn.need_hello()
    if conn.authenticated_by_sasl:
        raise SMTPError(503, "5.5.1", "already authenticated")
    if conn.transaction is not None:
        raise SMTPError(503, "5.5.1", "authentication not allowed during mail transaction")
    mechanism, initial = grammar.auth(
        rest, pedantic=conn.settings.pedantic, trailing=conn.trailing
    )
    if mechanism in _PASSWORD_IN_CLEAR and conn.settings.require_tls_to_send and conn.tls is None:
        raise SMTPError(538, "5.7.11", "authentication requires tls")
    binding = external = None
    if (connection := tls_connection(conn.transport)) is not None:
        if mechanism.endswith("-PLUS"):
            binding = channel_binding(connection)
        elif mechanism == "EXTERNAL":
            external = _fingerprint(conn)
    try:
        machine = server.start(
            mechanism,
            tls=conn.tls is not None,
            channel_binding=binding,
            external=external,
            hostname=conn.settings.hostname.ascii,
        )
    except errors.NoSuchMechanism:
        raise SMTPError(504, "5.5.4", "mechanism not supported") from None
    except errors.TLSNeeded:
        raise SMTPError(538, "5.7.11", "mechanism requires tls") from None
    return _authenticate(conn, machine, initial)


def _attempt(conn: SMTPServer, mechanism: str) -> Attempt:
    return Attempt(
        protocol="submission",
        mechanism=mechanism,
        remote_ip=conn.remote_ip,
        local_ip=conn.local_ip,
        tls=conn.tls.text if conn.tls is not None else "",
        fingerprint=_fingerprint(conn) or "",
    )


async def _authenticate(
    conn: SMTPServer, machine: server.ServerMechanism, initial: str | None
) -> None:
    """Run the exchange to its end, answer, and see to its record."""
    authenticator = conn.services.authenticator
    if not authenticator.allowed(conn.remote_ip, "submission"):
        raise SMTPError(421, "4.7.0", "too many auth failures", close=True)
    # Guessing gets slower with each wrong guess.
    if conn.failed_auths > SLOW_AFTER:
        await conn.sleep(conn.failed_auths - SLOW_AFTER)
    attempt = _attempt(conn, machine.mechanism.lower())
    result = store_auth.ERROR
    try:
        login = await _Exchange(conn, machine, attempt).run(initial)
        if conn.login is not None and conn.login.account != login.account:
            log.info("sasl login for another account than that of the certificate", cid=conn.cid)
            raise errors.WrongCredentials("another account than that of the client certificate")
        result = store_auth.OK
    except LoginFailed as exc:
        result = exc.result
        if result == store_auth.LOGIN_DISABLED:
            raise SMTPError(525, "5.7.13", f"account login is disabled: {exc.text}") from None
        raise _bad_credentials() from None
    except errors.SASLError as exc:
        result = store_auth.ERROR if isinstance(exc, errors.MissingSecret) else exc.kind
        attempt.login_address = attempt.login_address or exc.username[:256]
        raise _refusal(machine, exc) from None
    except CancelledError:
        result = store_auth.ABORTED
        raise
    finally:
        waiting = authenticator.record(attempt, result)
        if result in _COUNTED:
            conn.failed_auths += 1
            if conn.failed_auths >= SLOW_AFTER:
                conn.set_slow(True)
        log.info(
            "login attempt",
            cid=conn.cid,
            remote=conn.remote_ip,
            username=attempt.login_address,
            mechanism=attempt.mechanism,
            result=result,
        )
        if waiting is not None:
            await waiting
    conn.login = login
    conn.authenticated_by_sasl = True
    conn.failed_auths = 0
    conn.set_slow(False)
    conn.reply(235, "2.7.0", "nice")


def _bad_credentials() -> SMTPError:
    return SMTPError(535, "5.7.8", "bad user/pass")


def _refusal(machine: server.ServerMechanism, exc: errors.SASLError) -> SMTPError:
    """The reply for an exchange that failed."""
    scram = isinstance(machine, server.Scram)
    if isinstance(exc, errors.Aborted):
        return SMTPError(501, "5.5.0", "authentication aborted")
    if isinstance(exc, errors.BadBase64):
        return SMTPError(501, "5.5.2", str(exc))
    if isinstance(exc, errors.BadFirstMessage):
        return SMTPError(455, "4.7.0", f"bad message: {exc}")
    if isinstance(exc, errors.BadMessage):
        if scram:
            return SMTPError(535, "5.7.0", f"bad message: {exc}")
        return SMTPError(501, "5.5.2", f"bad message: {exc}")
    if isinstance(exc, errors.ChannelBindingMismatch):
        return SMTPError(535, "5.7.7", f"channel binding: {exc}")
    if scram and isinstance(exc, (errors.UnknownUser, errors.MissingSecret)):
        return SMTPError(454, "4.3.0", "authentication not possible, check user or password")
    return _bad_credentials()


class _Exchange:
    """One run of a mechanism over the connection."""

    def __init__(
        self, conn: SMTPServer, machine: server.ServerMechanism, attempt: Attempt
    ) -> None:
        self.conn = conn
        self.machine = machine
        self.attempt = attempt
        self.authenticator = conn.services.authenticator
        self.login: Login | None = None
        self.challenged = False

    async def run(self, initial: str | None) -> Login:
        """The login that it leads to. Raises SASLError, LoginFailed."""
        try:
            return await self._run(initial)
        except errors.SASLError as exc:
            if exc.data is not None and self.challenged:
                # The mechanism's own message of failure; what the client says to that does
                # not matter (RFC 5802 7).
                await self._ask(exc.data)
            raise

    async def _run(self, initial: str | None) -> Login:
        response = None if initial is None else server.decode_initial(initial.encode())
        step = self.machine.step(response)
        while not isinstance(step, server.Success):
            if isinstance(step, server.Challenge):
                step = self.machine.step(server.decode(await self._ask(step.data)))
            else:
                step = await self._look_up(step)
        if step.data is not None and server.decode(await self._ask(step.data)):
            raise errors.BadMessage("expected empty last response")
        assert self.login is not None
        if not isinstance(self.machine, (server.Plain, server.Login)):
            self.authenticator.complete(self.login, self.attempt)
        return self.login

    async def _ask(self, challenge: bytes) -> bytes:
        self.challenged = True
        self.conn.challenge(base64.b64encode(challenge))
        return await self.conn.read_line()

    async def _look_up(self, step: server.Step) -> server.Step:
        machine, attempt = self.machine, self.attempt
        match step:
            case server.NeedPassword(username=username, password=password):
                self.login = await self.authenticator.check_password(username, password, attempt)
                return machine.supply_password(True)
            case server.NeedScram(username=username, hash_name=hash_name):
                self.login, verifiers = await self.authenticator.secrets(username, attempt)
                secret = None
                if verifiers is not None:
                    sha1 = hash_name == "sha1"
                    secret = verifiers.scram_sha1 if sha1 else verifiers.scram_sha256
                if secret is None:
                    # The reply tells in any case, so there is no use in going on.
                    absent = errors.UnknownUser if self.login is None else errors.MissingSecret
                    raise absent("no verifier", username=username)
                return machine.supply_scram(secret)
            case server.NeedCram(username=username):
                self.login, verifiers = await self.authenticator.secrets(username, attempt)
                cram = verifiers.cram_md5 if verifiers is not None else None
                return machine.supply_cram(cram, missing=self.login is not None)
            case server.NeedExternal(authzid=authzid, external=fingerprint):
                return await self._external(authzid, fingerprint)
        raise AssertionError(f"unexpected step {step!r}")

    async def _external(self, authzid: str, fingerprint: str) -> server.Step:
        login = await self.authenticator.check_certificate(fingerprint, self.attempt)
        if authzid and authzid != login.address:
            # Another address will do, if it is one of the same account.
            other, _ = await self.authenticator.secrets(authzid, self.attempt)
            if other is None or other.account != login.account:
                return self.machine.supply_external(None)
            login = other
        self.login = login
        return self.machine.supply_external(login.address)


def _fingerprint(conn: SMTPServer) -> str | None:
    """The key of the client's TLS certificate, if it has one that is of use here."""
    if conn.tls is None or not conn.settings.client_certificates or conn.ignore_certificate:
        return None
    connection = tls_connection(conn.transport)
    return None if connection is None else peer_fingerprint(connection)


async def login_by_certificate(conn: SMTPServer) -> None:
    """Log in as whom the client's TLS certificate stands for, if it has one.

    The handshake has let known keys through only, but for a resumed session that was earlier.
    """
    if not conn.settings.client_certificates:
        return
    if not conn.services.failed_auth.can_add(conn.remote_ip, conn.reactor.seconds()):
        conn.ignore_certificate = True
        return
    fingerprint = _fingerprint(conn)
    if fingerprint is None:
        return
    authenticator = conn.services.authenticator
    attempt = _attempt(conn, "tlsclientauth")
    result = store_auth.ERROR
    try:
        conn.login = await authenticator.check_certificate(fingerprint, attempt)
        result = store_auth.OK
    except LoginFailed as exc:
        result = exc.result
        log.info("tls client certificate refused", cid=conn.cid, err=exc)
        conn.abort()
    except Exception:
        conn.abort()
        raise
    finally:
        waiting = authenticator.record(attempt, result)
    if waiting is not None:
        await waiting
