"""The one way into the queue for what users send.

SMTP submission, the HTTP API and webmail call the same `Submitter`: it checks who writes as
whom (RFC 6409 6.1), keeps limits, completes the header, signs, and queues a message for each
recipient in one transaction.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import Final, Protocol

from moxtw import metrics
from moxtw.authn.dkimsign import SignError, selectors_for, sign
from moxtw.config.dynamic import Account as AccountConfig
from moxtw.config.dynamic import ConfigDomain, Dynamic, Selector
from moxtw.config.lookup import DomainDisabled, domain_index, may_send_as
from moxtw.config.static import Static
from moxtw.log import Logger
from moxtw.mail.address import Address, IPDomain, Path
from moxtw.mail.compose import message_id as new_message_id
from moxtw.mail.compose import random_id
from moxtw.mail.dates import format_date
from moxtw.mail.domain import DomainError, parse_domain
from moxtw.mail.dsnrequest import NO_REQUEST, DSNRequest
from moxtw.mail.header import MAX_HEADER_BYTES, Headers, parse_headers
from moxtw.mail.received import AuthMethod, AuthProp, authentication_results
from moxtw.mail.words import header_text
from moxtw.store import accounts, outgoing, queuedb
from moxtw.store.content import Spooled
from moxtw.store.db import Store
from moxtw.store.errors import DiskFull, NoSuchAccount
from moxtw.store.queuerecord import NewQueued
from moxtw.store.tx import Tx

MAX_FUTURE: Final = 60 * 86400
"""Seconds that a message may wait for its release (RFC 4865)."""

_PIECE: Final = 1 << 20
# Longer header sections are looked through in a thread.
_LONG_HEADER: Final = 16 * 1024
_EXTRA: Final = b"x-mox-extra-"

_log = Logger("queue")


class SubmitError(Exception):
    """A message that is not taken: the reply for SMTP, and the reason as metrics name it.

    Reasons: badmessage, badfrom, domaindisabled, badheader, messagelimiterror,
    recipientlimiterror, queueerror.
    """

    def __init__(self, code: int, secode: str, text: str, reason: str) -> None:
        super().__init__(text)
        self.code = code
        self.secode = secode
        self.text = text
        self.reason = reason


@dataclass(frozen=True, slots=True)
class SubmitRequest:
    """A message to be completed, signed and queued.

    account, login_address: who sends.
    received: the Received field to put on top, or empty.
    require_tls: REQUIRETLS was asked for; False: TLS policies are to be let pass (RFC 8689);
        None: as the header says.
    hold: what FUTURERELEASE asked for, `for;N` or `until;TIME`; empty if nothing.
    not_before: the time that this means, in microseconds since the epoch; 0 for now.
    keep_from_id: a MAIL FROM with a separator has an id of its own, that stays. Otherwise
        what follows the separator is replaced.
    dsn: for each recipient what the sender wants to be told; empty: the usual.
    authenticated: say in Authentication-Results that the sender has logged in.
    extra: for webhooks, besides what X-Mox-Extra fields give.
    together: called in the transaction that queues the message, with what was saved of its
        content: to keep a copy that shares the content, or nothing of both.
    recorded: called at the end of that transaction with what was queued.
    """

    account: str
    login_address: Address
    mail_from: Path
    recipients: Sequence[Path]
    content: Spooled
    received: bytes = b""
    require_tls: bool | None = None
    smtputf8: bool = False
    body8bit: bool = False
    hold: str = ""
    not_before: int = 0
    dsn: Sequence[DSNRequest] = ()
    cid: int = 0
    keep_from_id: bool = True
    authenticated: bool = True
    extra: Mapping[str, str] = field(default_factory=dict)
    together: Callable[[Tx, dict[int, int]], None] | None = None
    recorded: Callable[[Tx, list[Submitted]], None] | None = None


@dataclass(frozen=True, slots=True)
class Submitted:
    """A recipient's queued message. `from_id` is empty without unique MAIL FROM."""

    recipient: Path
    id: int
    from_id: str
    mail_from: Path


class Config(Protocol):
    """A configuration view, see `moxtw.config.live.LiveConfig`."""

    static: Static

    @property
    def dynamic(self) -> Dynamic:
        """domains.conf."""

    @property
    def domains(self) -> Mapping[str, ConfigDomain]:
        """Configured domains by Unicode name."""


class Submitter:
    """Takes messages that users send. Times are those of the store."""

    def __init__(self, store: Store, config: Config) -> None:
        self._store = store
        self._config = config

    async def __call__(self, request: SubmitRequest) -> list[Submitted]:
        """Check, complete, sign and queue a message; durable when this returns.

        One result for each recipient, in order. Raises SubmitError; the content is then still
        the caller's to discard.
        """
        config = self._config
        account = config.dynamic.accounts.get(request.account)
        if account is None:
            raise SubmitError(451, "4.3.0", "no such account", "queueerror")
        now = self._store.now()
        content = request.content
        if content.data is not None:
            head = content.data[:MAX_HEADER_BYTES]
        else:
            head = await self._store.run(content.read, 0, MAX_HEADER_BYTES)
        long = head.find(b"\r\n\r\n", 0, _LONG_HEADER) < 0
        headers = await self._store.run(parse_headers, head) if long else parse_headers(head)
        author = self._author(request, headers)
        self._check_author(request, author)
        require_tls = request.require_tls
        if require_tls is None and _tls_not_required(headers):
            require_tls = False
        if config.static.pedantic and b"return-path" in headers:
            raise SubmitError(550, "5.6.0", "message has a Return-Path field", "badheader")
        if long:
            extra = await self._store.run(_extra, headers, request.extra)
        else:
            extra = _extra(headers, request.extra)
        added = b""
        message_id = headers.get("message-id") or ""
        if not message_id:
            message_id = new_message_id(config.static.dns_hostname)
            added += f"Message-Id: {message_id}\r\n".encode()
        if b"date" not in headers:
            added += f"Date: {format_date(now)}\r\n".encode()
        signatures = await self._sign(request, author, added, headers, now)
        prefix = b"".join((request.received, added, signatures, self._results(request)))
        senders = self._senders(request, account)
        parsed = content.parsed
        utf8 = parsed.needs_smtputf8 or not prefix.isascii()
        has8bit = parsed.has_8bit_header or parsed.has_8bit_body or not prefix.isascii()
        rows = [
            NewQueued(
                sender_account=request.account,
                sender_localpart=sender.localpart,
                sender_domain=sender.ipdomain.name,
                recipient_localpart=recipient.localpart,
                recipient_domain=recipient.ipdomain.name or config.static.dns_hostname.name,
                content=content,
                prefix=prefix,
                from_id=from_id,
                next_attempt=request.not_before or None,
                has8bit=has8bit,
                smtputf8=utf8 or sender.needs_utf8 or recipient.needs_utf8,
                message_id=message_id,
                subject=parsed.subject,
                require_tls=require_tls,
                future_release=request.hold,
                extra=extra,
                dsn=dsn,
            )
            for recipient, (sender, from_id), dsn in zip(
                request.recipients,
                senders,
                request.dsn or repeat(NO_REQUEST, len(request.recipients)),
                strict=True,
            )
        ]
        return await self._queue(request, account, rows, senders)

    # -- Checks ------------------------------------------------------------------------

    @staticmethod
    def _author(request: SubmitRequest, headers: Headers) -> Address:
        """The author: the single address of the single From field (RFC 5322 3.6.2)."""
        mailboxes = request.content.parsed.from_
        if len(headers.raw_all(b"from")) != 1 or len(mailboxes) != 1:
            raise SubmitError(
                550, "5.6.0", "message must have one From field with one address", "badmessage"
            )
        try:
            return Address(mailboxes[0].localpart, parse_domain(mailboxes[0].domain, strict=False))
        except DomainError as exc:
            raise SubmitError(550, "5.6.0", f"From field: {exc}", "badmessage") from exc

    def _check_author(self, request: SubmitRequest, author: Address) -> None:
        try:
            allowed = may_send_as(self._config, request.account, author)
        except DomainDisabled as exc:
            raise SubmitError(
                451, "4.3.0", "domain of the From address is disabled", "domaindisabled"
            ) from exc
        if not allowed:
            raise SubmitError(
                550, "5.7.1", "From address does not belong to your account", "badfrom"
            )

    # -- Additions ---------------------------------------------------------------------

    def _results(self, request: SubmitRequest) -> bytes:
        if not request.authenticated:
            return b""
        props: tuple[AuthProp, ...] = ()
        if not request.mail_from.is_zero:
            # What can be told in ASCII makes no message need SMTPUTF8.
            sender = request.mail_from.form(request.mail_from.needs_utf8)
            props = (AuthProp("smtp", "mailfrom", sender, address_like=True),)
        hostname = self._config.static.dns_hostname
        return authentication_results(hostname.ascii, [AuthMethod("auth", "pass", props=props)])

    async def _sign(
        self, request: SubmitRequest, author: Address, added: bytes, headers: Headers, now: int
    ) -> bytes:
        """DKIM-Signature fields; without key, or for a message that cannot be signed, none."""
        selectors = selectors_for(self._config.domains.get(author.domain.name))
        if not selectors:
            return b""
        index = domain_index(self._config, author.domain)
        localpart = author.localpart if index is None else index.canonical(author.localpart)
        try:
            return await self._store.run(
                _sign, selectors, localpart, author, added, headers, request.content, now
            )
        except (SignError, OSError) as exc:
            metrics.smtpserver_errors_total.labels("dkimsign").inc()
            _log.error("signing message", cid=request.cid, domain=author.domain.name, err=exc)
            return b""

    # -- Senders and limits ------------------------------------------------------------

    def _senders(
        self, request: SubmitRequest, account: AccountConfig
    ) -> list[tuple[Path, str]]:
        """MAIL FROM with its unique id for each recipient, if the account wants that."""
        mail_from = request.mail_from
        count = len(request.recipients)
        unchanged = [(mail_from, "")] * count
        domain = mail_from.ipdomain.domain
        if (
            mail_from.is_zero
            or domain is None
            or request.login_address not in account.parsed_from_id_login_addresses
        ):
            return unchanged
        config = self._config.domains.get(domain.name)
        separators = () if config is None else config.effective_separators
        if not separators:
            return unchanged
        separator = separators[0]
        base, found, own = mail_from.localpart.partition(separator)
        if found and request.keep_from_id:
            if count > 1:
                raise SubmitError(
                    554, "5.5.3", "unique MAIL FROM only for a single recipient", "badmessage"
                )
            return [(mail_from, own)]
        senders = []
        for _ in range(count):
            from_id = random_id()
            path = Path(f"{base}{separator}{from_id}", IPDomain(domain=domain))
            senders.append((path, from_id))
        return senders

    async def _queue(
        self,
        request: SubmitRequest,
        account: AccountConfig,
        rows: list[NewQueued],
        senders: Sequence[tuple[Path, str]],
    ) -> list[Submitted]:
        recipients = [path.form() for path in request.recipients]

        def job(tx: Tx) -> list[Submitted]:
            account_id = accounts.get(tx, request.account).id
            outgoing.check_limits(
                tx,
                account_id,
                recipients,
                account.effective_max_outgoing,
                account.effective_max_first_time,
            )
            saved: dict[int, int] = {}
            ids = queuedb.add(tx, rows, saved)
            outgoing.add(tx, account_id, recipients)
            if request.together is not None:
                request.together(tx, saved)
            submitted = [
                Submitted(recipient, message, from_id, sender)
                for recipient, message, (sender, from_id) in zip(
                    request.recipients, ids, senders, strict=True
                )
            ]
            if request.recorded is not None:
                request.recorded(tx, submitted)
            return submitted

        try:
            return await self._store.write(job)
        except outgoing.MessageLimit as exc:
            raise SubmitError(
                451, "4.7.1", "max number of messages sent per day reached", "messagelimiterror"
            ) from exc
        except outgoing.FirstTimeLimit as exc:
            raise SubmitError(
                451,
                "4.7.1",
                "max number of new recipients per day reached",
                "recipientlimiterror",
            ) from exc
        except queuedb.FromIDInUse as exc:
            raise SubmitError(
                554, "5.1.7", "id in MAIL FROM has been used already", "badmessage"
            ) from exc
        except DiskFull as exc:
            raise SubmitError(452, "4.3.1", "disk is full", "queueerror") from exc
        except NoSuchAccount as exc:
            raise SubmitError(451, "4.3.0", "no such account", "queueerror") from exc


def _tls_not_required(headers: Headers) -> bool:
    """Whether the author waives TLS policies (RFC 8689 3)."""
    values = headers.raw_all(b"tls-required")
    return bool(values) and all(value.lower() == b"no" for value in values)


def _extra(headers: Headers, given: Mapping[str, str]) -> dict[str, str]:
    """What X-Mox-Extra-<Key> fields say, by key in canonical case, with what is `given`."""
    extra: dict[str, str] = {}
    for header in headers.fields:
        if not header.name.startswith(_EXTRA):
            continue
        key = _canonical_key(header.name[len(_EXTRA) :].decode("ascii"))
        if key in extra:
            raise SubmitError(554, "5.6.0", f"duplicate field X-Mox-Extra-{key}", "badheader")
        extra[key] = header_text(headers.raw(header.name) or b"")
    return {**extra, **given}


def _canonical_key(name: str) -> str:
    return re.sub(r"(?:^|(?<=-))[a-z]", lambda match: match[0].upper(), name.lower())


def _sign(
    selectors: Sequence[Selector],
    localpart: str,
    author: Address,
    added: bytes,
    headers: Headers,
    content: Spooled,
    now: int,
) -> bytes:
    return sign(
        selectors,
        localpart=localpart,
        domain=author.domain.ascii,
        header=added + headers.section,
        body=_body(content, headers.body_offset),
        now=now // 1_000_000,
    )


def _body(content: Spooled, start: int) -> Iterable[bytes]:
    if content.data is not None:
        return (content.data[start:],)
    return _pieces(content, start)


def _pieces(content: Spooled, start: int) -> Iterator[bytes]:
    assert content.path is not None
    with open(content.path, "rb") as f:
        f.seek(start)
        while piece := f.read(_PIECE):
            yield piece
