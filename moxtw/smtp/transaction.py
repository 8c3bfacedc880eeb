"""The mail transaction: MAIL and RCPT (RFC 5321 3.3)."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from moxtw.authn import spf
from moxtw.config.index import AccountDestination, AliasMatch
from moxtw.config.lookup import (
    AddressNotFound,
    DomainDisabled,
    DomainNotFound,
    lookup_address,
    may_send_as,
)
from moxtw.inbound.envelope import Recipient
from moxtw.log import Logger
from moxtw.mail.address import Path
from moxtw.mail.dsnrequest import DSNRequest
from moxtw.smtp import grammar, localserve
from moxtw.smtp.grammar import Mail, Rcpt
from moxtw.smtp.reply import SMTPError

if TYPE_CHECKING:
    from moxtw.smtp.chunking import Chunks
    from moxtw.smtp.server import SMTPServer

log = Logger("smtpserver")

MAX_RECIPIENTS: Final = 1000
MAX_FAILED: Final = 10
"""Transactions that may fail on a connection before one succeeds."""

MAX_HOLD: Final = 60 * 24 * 3600
"""Seconds that a message can be held for, RFC 4865."""

_SIZE_OF_SYSTEM: Final = 100 << 20
_LOCALSERVE_ACCOUNT: Final = "mox"


class Transaction:
    """What MAIL and RCPT have told. `not_before` is in seconds since the epoch, 0 for now.

    `chunks` is the content that has come in by BDAT so far, None before the first. `spf_passed`:
    whether SPF says that the client may send for the sender's domain, None if nobody has asked.
    """

    __slots__ = ("chunks", "mail", "not_before", "recipients", "spf_passed")

    def __init__(self, mail: Mail, not_before: float = 0) -> None:
        self.mail = mail
        self.not_before = not_before
        self.recipients: list[Recipient] = []
        self.chunks: Chunks | None = None
        self.spf_passed: bool | None = None

    @property
    def hold(self) -> str:
        """What the client asked for with FUTURERELEASE, for DSNs (RFC 4865 8)."""
        if self.mail.hold_for is not None:
            return f"for;{self.mail.hold_for}"
        if self.mail.hold_until is not None:
            return f"until;{self.mail.hold_until_text}"
        return ""


def future_release(now: float) -> bytes:
    """The line in the reply to EHLO: the most seconds, and the latest time (RFC 4865 3)."""
    latest = datetime.fromtimestamp(int(now) + MAX_HOLD, UTC)
    return f"FUTURERELEASE {MAX_HOLD} {latest:%Y-%m-%dT%H:%M:%SZ}".encode()


def mail(conn: SMTPServer, rest: str) -> Awaitable[None] | None:
    """MAIL FROM:<path> parameters. None when it is done, else what to wait for."""
    conn.need_hello()
    conn.need_login()
    if conn.transaction is not None:
        raise SMTPError(503, "5.5.1", "already have MAIL")
    if conn.transactions_bad > MAX_FAILED and not conn.transactions_good:
        # Somebody who tries addresses or content until something gets through.
        conn.refused()
        raise SMTPError(550, "5.1.0", "too many failures", close=True)
    settings = conn.settings
    args = grammar.mail(
        rest, submission=conn.submission, pedantic=settings.pedantic, trailing=conn.trailing
    )
    if args.size is not None and args.size > settings.max_size:
        secode = "5.2.3" if args.size < _SIZE_OF_SYSTEM else "5.3.4"
        raise SMTPError(552, secode, f"message too large, maximum is {settings.max_size} bytes")
    if args.requiretls:
        if conn.tls is None:
            raise SMTPError(523, "5.7.10", "REQUIRETLS only allowed on tls-encrypted connections")
        if not settings.requiretls:
            raise SMTPError(555, "5.3.3", "REQUIRETLS not allowed for this connection")
    not_before = _not_before(args, conn.reactor.seconds())
    path = args.path
    conn.utf8 = args.smtputf8
    if path.needs_utf8 and not args.smtputf8:
        raise SMTPError(550, "5.6.7", "non-ascii address requires SMTPUTF8")
    transaction = Transaction(args, not_before)
    services = conn.services
    if services.localserve:
        error, wait = localserve.special(path.localpart, "mailfrom")
        if error is not None:
            return _fail_later(conn, error, wait)
    if conn.submission:
        if not path.is_zero:
            _check_own(conn, path)
    elif path.ipdomain.is_ip:
        raise SMTPError(550, "5.7.0", "address literals not accepted as sender domain")
    elif path.ipdomain.domain is not None:
        waiting = services.senders.check(path.ipdomain.domain)
        if waiting is not None:
            return _after_check(conn, transaction, waiting)
    _begin(conn, transaction)
    return None


async def _after_check(
    conn: SMTPServer, transaction: Transaction, waiting: Awaitable[None]
) -> None:
    await waiting
    _begin(conn, transaction)


async def _fail_later(conn: SMTPServer, error: SMTPError, seconds: float) -> None:
    if seconds:
        await conn.sleep(seconds)
    raise error


def _begin(conn: SMTPServer, transaction: Transaction) -> None:
    conn.transaction = transaction
    conn.reply(250, "2.1.0", "looking good")


def _not_before(args: Mail, now: float) -> float:
    """When FUTURERELEASE wants the message to go, RFC 4865 5."""
    if args.hold_for is not None:
        if args.hold_for > MAX_HOLD:
            raise SMTPError(554, "5.5.4", "future release interval too far in the future")
        return now + args.hold_for
    if args.hold_until is not None:
        if args.hold_until <= now:
            raise SMTPError(554, "5.5.4", "future release time is not in the future")
        if args.hold_until > now + MAX_HOLD:
            raise SMTPError(554, "5.5.4", "future release time too far in the future")
        return args.hold_until
    return 0


def _check_own(conn: SMTPServer, path: Path) -> None:
    """Users can use their own addresses only."""
    assert conn.login is not None
    address = path.address
    try:
        own = address is not None and may_send_as(
            conn.services.config, conn.login.account, address
        )
    except DomainDisabled:
        raise SMTPError(451, "4.3.0", "domain is temporarily disabled") from None
    if not own:
        log.info("user with unconfigured mail from", cid=conn.cid, mailfrom=path.log_name)
        raise SMTPError(550, "5.7.1", "must match authenticated user")


def rcpt(conn: SMTPServer, rest: str) -> Awaitable[None] | None:
    """RCPT TO:<path>. None when it is done, else what to wait for."""
    conn.need_hello()
    conn.need_login()
    transaction = conn.transaction
    if transaction is None:
        raise SMTPError(503, "5.5.1", "missing MAIL FROM")
    if transaction.chunks is not None:
        raise SMTPError(503, "5.5.1", "RCPT after BDAT")
    args = grammar.rcpt(rest, pedantic=conn.settings.pedantic, trailing=conn.trailing)
    path = args.path
    if path.needs_utf8 and not transaction.mail.smtputf8:
        raise SMTPError(553, "5.6.7", "non-ascii address requires SMTPUTF8")
    if conn.settings.require_tls_to_send and conn.tls is None and not _tls_reports(conn, path):
        raise SMTPError(530, "5.7.0", "STARTTLS required")
    recipients = transaction.recipients
    if len(recipients) >= MAX_RECIPIENTS:
        raise SMTPError(452, "4.5.3", f"max of {MAX_RECIPIENTS} recipients reached")
    if not conn.submission and recipients and transaction.mail.path.is_zero:
        # RFC 5321 3.6.3: only notifications have the null sender, each for one sender.
        raise SMTPError(452, "4.5.3", "only one recipient allowed with null reverse address")
    if conn.services.localserve:
        error, wait = localserve.special(path.localpart, "rcptto")
        if error is not None:
            return _fail_later(conn, error, wait)
    elif not conn.submission and recipients:
        # A forged sender would be told once for each recipient that refuses.
        if transaction.spf_passed is None:
            return _after_spf(conn, transaction, args)
        _need_spf(transaction)
    _add(conn, transaction, args)
    return None


async def _after_spf(conn: SMTPServer, transaction: Transaction, args: Rcpt) -> None:
    """Take another recipient if SPF vouches for the sender."""
    assert conn.hello is not None
    sender = transaction.mail.path
    result = await spf.check(
        conn.services.resolver,
        clock=conn.reactor,
        remote_ip=conn.remote_ip,
        mail_from=sender,
        hello=conn.hello,
        local_hostname=conn.services.config.static.dns_hostname,
        explain=False,
        cid=conn.cid,
    )
    transaction.spf_passed = result.status == "pass" and result.identity == "mailfrom"
    _need_spf(transaction)
    _add(conn, transaction, args)


def _need_spf(transaction: Transaction) -> None:
    if not transaction.spf_passed:
        raise SMTPError(
            452, "4.5.3", "only one recipient allowed for senders without spf pass"
        )


def _add(conn: SMTPServer, transaction: Transaction, args: Rcpt) -> None:
    """Take a recipient."""
    recipients = transaction.recipients
    recipient = _recipient(conn, args.path)
    mail = transaction.mail
    if args.notify or args.original or mail.ret or mail.envelope_id:
        request = DSNRequest(mail.ret, mail.envelope_id, args.notify, args.original)
        recipient = replace(recipient, dsn=request)
    recipients.append(recipient)
    conn.reply(250, "2.1.0", "now on the list")


def _tls_reports(conn: SMTPServer, path: Path) -> bool:
    """Whether an address is for reports that TLS does not work (RFC 8460 5.3)."""
    if path.ipdomain.is_ip:
        return False
    try:
        found = lookup_address(
            conn.services.config,
            path.localpart,
            path.ipdomain.domain,
            allow_postmaster=True,
            allow_alias=False,
            allow_disabled=False,
        )
    except (DomainNotFound, DomainDisabled, AddressNotFound):
        return False
    return isinstance(found, AccountDestination) and found.tls_reports


def _recipient(conn: SMTPServer, path: Path) -> Recipient:
    """Where a recipient leads. Raises SMTPError."""
    services = conn.services
    if path.ipdomain.is_ip:
        if conn.submission:
            return Recipient(path)
        raise SMTPError(550, "5.1.1", "not accepting email for ip addresses")
    try:
        found = lookup_address(
            services.config,
            path.localpart,
            path.ipdomain.domain,
            allow_postmaster=True,
            allow_alias=True,
            allow_disabled=False,
        )
    except DomainDisabled:
        raise SMTPError(450, "4.2.1", "recipient domain temporarily disabled") from None
    except DomainNotFound:
        if conn.submission:
            return Recipient(path)
        if services.localserve:
            return _localserve_recipient(conn, path)
        raise SMTPError(550, "5.1.1", "not accepting email for domain") from None
    except AddressNotFound:
        if services.localserve:
            return Recipient(path) if conn.submission else _localserve_recipient(conn, path)
        if conn.submission:
            raise SMTPError(550, "5.1.1", "no such user") from None
        # Told after DATA only, so that finding out who lives here takes more work.
        return Recipient(path, local=True)
    if isinstance(found, AliasMatch):
        return Recipient(path, alias=found, local=True)
    destination = found.destination
    if destination.smtp_error_code:
        raise SMTPError(
            destination.smtp_error_code,
            destination.smtp_error_secode,
            destination.smtp_error_text,
        )
    return Recipient(path, destination=found, local=True)


def _localserve_recipient(conn: SMTPServer, path: Path) -> Recipient:
    """Everything is for the one account of a local test server."""
    index = conn.services.config.dynamic.index
    destinations = index.account_destinations.get(_LOCALSERVE_ACCOUNT)
    if not destinations:
        raise SMTPError(550, "5.1.1", "no such user")
    return Recipient(path, destination=destinations[0], local=True)
