"""The method Send: a message out of JSON and uploads, composed, checked and queued."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, cast

import msgspec

from moxtw import metrics
from moxtw.admin.context import AdminContext
from moxtw.config.dynamic import Account
from moxtw.config.lookup import DomainDisabled, account_for_login, may_send_as
from moxtw.log import Logger
from moxtw.mail import compose
from moxtw.mail.address import Address, AddressError, IPDomain, Path, parse_address
from moxtw.mail.compose import ComposeError, Composer, FilePart, NameAddress
from moxtw.mail.dates import format_date
from moxtw.mail.headerwriter import HeaderWriter
from moxtw.mail.readable import NameAddress as JSONAddress
from moxtw.queue.submit import SubmitError, SubmitRequest, Submitted, Submitter
from moxtw.store import accounts, mailboxes, messages, sentrequests
from moxtw.store.auth import Login
from moxtw.store.content import Spooled
from moxtw.store.errors import DiskFull
from moxtw.store.model import Flag, NewMessage, SpecialUse
from moxtw.store.sentrequests import KeyUsed
from moxtw.store.tx import Tx
from moxtw.version import VERSION
from moxtw.web.visit import Visit
from moxtw.web.webapi.formdata import Upload
from moxtw.web.webapi.sniff import sniff
from moxtw.web.webapi.types import (
    File,
    SendRequest,
    SendResult,
    Submission,
    WebapiError,
)

log = Logger("webapi")

MAX_FUTURE: Final = timedelta(days=60)
MAX_RECIPIENTS: Final = 1000
MAX_HEADER: Final = 1 << 18
"""Characters of all that goes into the header."""
MAX_EXTRA: Final = 1 << 16
"""Characters of extra data: it is kept for each recipient."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_INLINE: Final = 1 << 18
"""Messages up to about this size are composed on the reactor thread."""

_CONTROL: Final = re.compile(r"[\x00-\x1f]")
# What Send writes itself, or what servers on the way do.
_OWN_HEADERS: Final = frozenset(
    {
        "from",
        "reply-to",
        "to",
        "cc",
        "bcc",
        "subject",
        "date",
        "message-id",
        "mime-version",
        "content-type",
        "content-transfer-encoding",
        "received",
        "return-path",
        "dkim-signature",
    }
)

# (code of the API, result in metrics) by the reason of a SubmitError.
_REASONS: Final = {
    "badfrom": ("badFrom", "badfrom"),
    "domaindisabled": ("domainDisabled", "domaindisabled"),
    "messagelimiterror": ("messageLimitReached", "messagelimiterror"),
    "recipientlimiterror": ("recipientLimitReached", "recipientlimiterror"),
    "badmessage": ("user", "queueerror"),
    "badheader": ("user", "queueerror"),
}


@dataclass(frozen=True, slots=True)
class Sender:
    """Sends messages. `max_size` is the largest message in bytes."""

    admin: AdminContext
    submit: Submitter
    max_size: int

    async def send(
        self,
        login: Login,
        visit: Visit,
        request: SendRequest,
        parts: Parts,
        key: Key | None = None,
    ) -> SendResult:
        """Check, compose and queue a message, once for a key. Raises WebapiError."""
        if key is not None:
            known = await self._repeated(login, key)
            if known is not None:
                return known
        account = self.admin.config.dynamic.accounts.get(login.account)
        if account is None:
            raise WebapiError("server", "account is gone")
        message = self._message(login, account, request, parts)
        content = await self._compose(message, request, parts)
        copy = self._copy(login, account, message, content) if request.SaveSent else None
        try:
            submissions = await self._queue(login, visit, request, message, content, copy, key)
        except KeyUsed as exc:
            # The same request came twice at once, and the other was first.
            known = None if key is None else await self._repeated(login, key)
            if known is None:
                raise WebapiError("server", "request was carried out and forgotten") from exc
            return known
        finally:
            content.discard()
        if copy is not None and copy.over_quota:
            metrics.webapi_submission_total.labels("storesenterror").inc()
            raise _over_quota()
        metrics.webapi_submission_total.labels("ok").inc()
        return SendResult(message.message_id, submissions)

    async def _repeated(self, login: Login, key: Key) -> SendResult | None:
        """The answer to the request if it was carried out before. Raises WebapiError."""
        found = await self.admin.store.read(
            lambda tx: sentrequests.find(tx, login.account_id, key.text)
        )
        if found is None:
            return None
        if found.digest != key.digest:
            raise WebapiError(
                "idempotencyKeyReused",
                "another message was sent with this Idempotency-Key: use a new one",
            )
        answer = msgspec.json.decode(found.answer, type=_Answer)
        if answer.over_quota:
            raise _over_quota()
        return answer.result

    # -- Checks ------------------------------------------------------------------------

    def _message(
        self, login: Login, account: Account, request: SendRequest, parts: Parts
    ) -> _Message:
        if not (request.Text or request.HTML or parts.alternative):
            raise WebapiError("missingBody", "neither Text nor HTML given")
        if len(request.From) > 1:
            raise WebapiError("multipleFrom", "more than one From address")
        _check_sizes(request)
        if request.From:
            author = _parse_mailbox(request.From[0])
        else:
            author = self._default_author(login, account)
        lists = {
            name: [_parse_mailbox(one) for one in given]
            for name, given in (
                ("Reply-To", request.ReplyTo),
                ("To", request.To),
                ("Cc", request.CC),
                ("Bcc", request.BCC),
            )
        }
        self._check_author(login, author)
        recipients = [*lists["To"], *lists["Cc"], *lists["Bcc"]]
        if not recipients:
            raise WebapiError("noRecipients", "no To, CC or BCC address")
        if len(recipients) > MAX_RECIPIENTS:
            raise WebapiError("user", f"more than {MAX_RECIPIENTS} recipients")
        for name, ids in (("MessageID", [request.MessageID]), ("References", request.References)):
            for text in ids:
                if text and not compose.is_message_id(text):
                    raise WebapiError(
                        "malformedMessageID", f"{name} {text[:100]!r} is not of the form <id@host>"
                    )
        self._check_release(request)
        return _Message(
            author,
            lists,
            recipients,
            request.MessageID or compose.message_id(self.admin.config.static.dns_hostname),
        )

    def _default_author(self, login: Login, account: Account) -> NameAddress:
        found = account_for_login(self.admin.config, login.address)
        name = account.full_name
        if found is not None and found.destination.full_name:
            name = found.destination.full_name
        return NameAddress(name, parse_address(login.address))

    def _check_author(self, login: Login, author: NameAddress) -> None:
        try:
            allowed = may_send_as(self.admin.config, login.account, author.address)
        except DomainDisabled as exc:
            metrics.webapi_submission_total.labels("domaindisabled").inc()
            raise WebapiError("domainDisabled", str(exc)) from exc
        if not allowed:
            metrics.webapi_submission_total.labels("badfrom").inc()
            raise WebapiError("badFrom", "From address does not belong to the account")

    def _check_release(self, request: SendRequest) -> None:
        if request.FutureRelease is not None:
            now = _EPOCH + timedelta(microseconds=self.admin.store.now())
            if request.FutureRelease > now + MAX_FUTURE:
                raise WebapiError("user", "FutureRelease is more than 60 days ahead")

    # -- Composing ---------------------------------------------------------------------

    async def _compose(self, message: _Message, request: SendRequest, parts: Parts) -> Spooled:
        store = self.admin.store
        try:
            composer = self._headers(message, request)
            part = compose.assemble(
                text=request.Text or None,
                html=request.HTML or None,
                alternative=parts.alternative,
                inline=parts.inline,
                attached=parts.attached,
            )
            pieces = composer.pieces(part)
            if parts.size + len(request.Text) + len(request.HTML) <= _INLINE:
                data = b"".join(pieces)
                self._check_size(len(data))
                return await store.contents.from_bytes(data)
            return await self._spool(pieces)
        except ComposeError as exc:
            raise WebapiError("user", str(exc)) from exc
        except DiskFull as exc:
            raise WebapiError("server", "disk is full") from exc

    def _check_size(self, size: int) -> None:
        if size > self.max_size:
            raise WebapiError(
                "messageTooLarge", f"message is larger than the maximum of {self.max_size} bytes"
            )

    async def _spool(self, pieces: Iterator[bytes]) -> Spooled:
        """Compose in a thread, piece by piece, into a file."""
        store = self.admin.store
        spool = store.contents.spool()

        def following() -> bytes:
            return next(pieces, b"")

        try:
            while piece := await store.run(following):
                self._check_size(spool.size + len(piece))
                wait = spool.write(piece)
                if wait is not None:
                    await wait
            return await spool.finish()
        except BaseException:
            spool.discard()
            raise

    def _headers(self, message: _Message, request: SendRequest) -> Composer:
        composer = Composer(utf8=message.needs_utf8)
        composer.addresses("From", [message.author])
        for name in ("Reply-To", "To", "Cc"):
            composer.addresses(name, message.lists[name])
        if request.Subject:
            composer.text("Subject", _plain("Subject", request.Subject))
        date = request.Date
        now = self.admin.store.now()
        composer.date(now if date is None else (date - _EPOCH) // timedelta(microseconds=1))
        composer.message_ids("Message-Id", [message.message_id])
        references = [text for text in request.References if text]
        composer.message_ids("References", references)
        composer.message_ids("In-Reply-To", references[-1:])
        names = set()
        for name, value in request.Headers:
            lower = name.lower()
            names.add(lower)
            if lower in _OWN_HEADERS or (references and lower in ("references", "in-reply-to")):
                raise WebapiError("user", f"header {name[:100]!r} cannot be given in Headers")
            composer.text(name, _plain(name, value))
        if request.RequireTLS is False and "tls-required" not in names:
            composer.text("TLS-Required", "No")  # RFC 8689 3
        if not names & {"user-agent", "x-mailer"}:
            composer.text("User-Agent", f"moxtw/{VERSION}")
        return composer

    # -- Queueing ----------------------------------------------------------------------

    async def _queue(
        self,
        login: Login,
        visit: Visit,
        request: SendRequest,
        message: _Message,
        content: Spooled,
        copy: _SentCopy | None,
        key: Key | None,
    ) -> list[Submission]:
        author = message.author.address
        paths = [_path(recipient.address) for recipient in message.recipients]
        hold, not_before = "", 0
        if request.FutureRelease is not None:
            # In UTC the first day of the calendar may be no date any more.
            release = max(request.FutureRelease, _EPOCH).astimezone(UTC)
            hold = f"until;{release.strftime('%Y-%m-%dT%H:%M:%SZ')}"
            not_before = max((release - _EPOCH) // timedelta(microseconds=1), 1)

        def record(tx: Tx, queued: list[Submitted]) -> None:
            if key is not None:
                answer = _Answer(
                    SendResult(message.message_id, _submissions(queued)),
                    copy is not None and copy.over_quota,
                )
                sentrequests.add(
                    tx, login.account_id, key.text, key.digest, msgspec.json.encode(answer)
                )

        try:
            submitted = await self.submit(
                SubmitRequest(
                    account=login.account,
                    login_address=parse_address(login.address),
                    mail_from=_path(author),
                    recipients=paths,
                    content=content,
                    received=self._received(visit, paths, utf8=message.needs_utf8),
                    require_tls=request.RequireTLS,
                    hold=hold,
                    not_before=not_before,
                    cid=visit.cid,
                    keep_from_id=False,
                    authenticated=False,
                    extra=request.Extra,
                    together=copy,
                    recorded=None if key is None else record,
                )
            )
        except SubmitError as exc:
            code, result = _REASONS.get(exc.reason, ("server", "queueerror"))
            metrics.webapi_submission_total.labels(result).inc()
            if code == "server":
                metrics.webapi_errors_total.labels("submit").inc()
                log.error("queueing message", cid=visit.cid, account=login.account, err=exc)
            raise WebapiError(code, exc.text) from exc
        log.info(
            "message queued",
            cid=visit.cid,
            account=login.account,
            messageid=message.message_id,
            recipients=len(paths),
        )
        return _submissions(submitted)

    def _received(self, visit: Visit, recipients: Sequence[Path], *, utf8: bool) -> bytes:
        """The Received field, RFC 5321 4.4; there is no `with` for HTTP."""
        hostname = self.admin.config.static.dns_hostname.form(utf8)
        writer = HeaderWriter("Received")
        writer.add("from", hostname, "by", hostname)
        clauses = ["id", visit.id_text]
        if len(recipients) == 1:
            clauses += ["for", recipients[0].wire(utf8)]
        clauses[-1] += ";"
        writer.add(*clauses, format_date(self.admin.store.now(), 0))
        return writer.data()

    def _copy(
        self, login: Login, account: Account, message: _Message, content: Spooled
    ) -> _SentCopy:
        """A copy, with its Bcc field, for the mailbox for sent messages if there is one."""
        prefix = b""
        if message.lists["Bcc"]:
            prefix = compose.address_header("Bcc", message.lists["Bcc"], utf8=message.needs_utf8)
        quota = account.quota_message_size or self.admin.config.static.quota_message_size
        new = NewMessage(
            content, prefix=prefix, flags=int(Flag.SEEN | Flag.NOTJUNK), junk_flags=False
        )
        return _SentCopy(login.account_id, new, max(quota, 0))


def _submissions(submitted: Sequence[Submitted]) -> list[Submission]:
    return [Submission(one.recipient.form(), one.id, one.from_id) for one in submitted]


def _over_quota() -> WebapiError:
    return WebapiError(
        "sentOverQuota", "the message was queued, but the quota has no room for its copy"
    )


class _Answer(msgspec.Struct):
    """What is kept for a request with a key."""

    result: SendResult
    over_quota: bool


@dataclass(frozen=True, slots=True)
class Key:
    """An Idempotency-Key, with a digest of the request that it stands for."""

    text: str
    digest: bytes


def make_key(
    text: str, login: str, request: SendRequest, uploads: Mapping[str, Sequence[Upload]]
) -> Key:
    """The key of a request. Blocks if that is large."""
    digest = hashlib.sha256()

    def feed(*values: bytes | memoryview) -> None:
        for value in values:
            digest.update(b"%d:" % len(value))
            digest.update(value)

    bare = msgspec.structs.replace(request, AlternativeFiles=[], InlineFiles=[], AttachedFiles=[])
    feed(login.encode(), msgspec.json.encode(bare, order="deterministic"))
    for files in (request.AlternativeFiles, request.InlineFiles, request.AttachedFiles):
        feed(b"%d" % len(files))
        for file in files:
            names = (file.Name, file.ContentType, file.ContentID)
            feed(*(name.encode("utf-8", "replace") for name in names), file.Data)
    for field in sorted(uploads):
        feed(field.encode("utf-8", "replace"))
        for upload in uploads[field]:
            names = (upload.name, upload.content_type, upload.content_id)
            feed(*(name.encode("utf-8", "replace") for name in names), upload.data)
    return Key(text, digest.digest())


class _SentCopy:
    """Keeps a copy in the transaction that queues the message."""

    def __init__(self, account_id: int, message: NewMessage, quota: int) -> None:
        self._account_id = account_id
        self._message = message
        self._quota = quota
        self.over_quota = False

    def __call__(self, tx: Tx, saved: dict[int, int]) -> None:
        mailbox = mailboxes.with_use(tx, self._account_id, SpecialUse.SENT)
        if mailbox is None:
            return
        size = len(self._message.prefix) + self._message.content.size
        if self._quota and accounts.usage(tx, self._account_id) + size > self._quota:
            self.over_quota = True
            return
        messages.add(tx, self._account_id, mailbox.id, self._message, saved=saved)


@dataclass(frozen=True, slots=True)
class _Message:
    """What is known of a message before it is composed."""

    author: NameAddress
    lists: Mapping[str, Sequence[NameAddress]]
    recipients: Sequence[NameAddress]
    message_id: str

    @property
    def needs_utf8(self) -> bool:
        """Whether addresses in the header cannot be written in ASCII (RFC 6531)."""
        mailboxes = [self.author, *(one for given in self.lists.values() for one in given)]
        return not all(one.address.localpart.isascii() for one in mailboxes)


class Parts:
    """The files of a message: those in JSON, then uploads. Raises WebapiError."""

    def __init__(self, request: SendRequest, uploads: Mapping[str, Sequence[Upload]]) -> None:
        unknown = set(uploads) - {"alternativefile", "inlinefile", "attachedfile"}
        if unknown:
            raise WebapiError("protocol", f"unknown file field {min(unknown)[:100]!r}")
        self.size = 0
        self.alternative = self._files(
            request.AlternativeFiles, uploads.get("alternativefile", ()), "inline"
        )
        self.inline = self._files(request.InlineFiles, uploads.get("inlinefile", ()), "inline")
        self.attached = self._files(
            request.AttachedFiles, uploads.get("attachedfile", ()), "attachment"
        )

    def _files(
        self, files: Sequence[File], uploads: Sequence[Upload], disposition: str
    ) -> list[FilePart]:
        made = [
            self._part(one.Name, one.ContentType, one.ContentID, one.Data, disposition)
            for one in files
        ]
        for upload in uploads:
            made.append(
                self._part(
                    upload.name,
                    upload.content_type,
                    upload.content_id,
                    _content(upload),
                    disposition,
                )
            )
        return made

    def _part(
        self, name: str, content_type: str, content_id: str, data: bytes, disposition: str
    ) -> FilePart:
        self.size += len(data)
        return FilePart(
            data, _plain("Name", name), content_type or sniff(data), disposition, content_id
        )


def _content(upload: Upload) -> bytes:
    """The data of an upload. A view of it is enough for what becomes base64."""
    if upload.content_type.lower().startswith("message/"):
        return bytes(upload.data)
    return cast(bytes, upload.data)


def _check_sizes(request: SendRequest) -> None:
    """Refuse what would take long to make a header of, or be kept many times."""
    extra = sum(len(key) + len(value) for key, value in request.Extra.items())
    if extra > MAX_EXTRA:
        raise WebapiError("user", f"Extra is larger than {MAX_EXTRA} characters")
    lists = (request.From, request.To, request.CC, request.BCC, request.ReplyTo)
    size = (
        len(request.Subject)
        + sum(len(one) + 1 for one in request.References)
        + sum(len(name) + len(value) + 4 for name, value in request.Headers)
        + sum(len(one.Name) + len(one.Address) + 4 for given in lists for one in given)
    )
    if size > MAX_HEADER:
        raise WebapiError("user", f"header would be larger than {MAX_HEADER} characters")


def _plain(name: str, value: str) -> str:
    if _CONTROL.search(value):
        raise WebapiError("user", f"control character in {name[:100]}")
    return value


def _parse_mailbox(given: JSONAddress) -> NameAddress:
    try:
        address = parse_address(given.Address)
    except AddressError as exc:
        raise WebapiError("badAddress", f"address {given.Address[:200]!r}: {exc}") from exc
    return NameAddress(_plain("Name", given.Name), address)


def _path(address: Address) -> Path:
    return Path(address.localpart, IPDomain(domain=address.domain))
