"""The methods for single messages of the account: reading, flags, moving, deleting."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from moxtw.mail import readable
from moxtw.mail.address import pack_address
from moxtw.mail.header import parse_headers
from moxtw.mail.mime import Part, TreeError, unpack_tree
from moxtw.store import changing, content, mailboxes, messages, transfer
from moxtw.store.auth import Login
from moxtw.store.db import Store
from moxtw.store.details import Details, Source, details, source
from moxtw.store.errors import (
    InvalidMailboxName,
    NoContent,
    NoSuchMailbox,
    NoSuchMessage,
    TooMany,
)
from moxtw.store.flagnames import flag_names, parse_flags
from moxtw.store.tx import Tx
from moxtw.web.webapi.types import (
    Download,
    Empty,
    Message,
    MessageFlagsRequest,
    MessageGetResult,
    MessageMeta,
    MessageMoveRequest,
    MessagePartRequest,
    MessageRequest,
    WebapiError,
)

PIECE: Final = 1 << 17
"""Bytes of a message that are read at once for a download."""
MAX_PATH: Final = 1000


@dataclass(frozen=True, slots=True)
class Messages:
    """Messages of the account that calls. All raise WebapiError."""

    store: Store

    async def get(self, login: Login, request: MessageRequest) -> MessageGetResult:
        """Text and facts of a message."""

        def read(tx: Tx) -> tuple[Details, Source, bytes]:
            found = details(tx, login.account_id, request.MsgID)
            return found, source(tx, found.content_id), content.tree(tx, found.content_id)

        return await self.store.run(_result, *await self._read(read))

    async def raw(self, login: Login, request: MessageRequest) -> Download:
        """The bytes of a message."""

        def read(tx: Tx) -> tuple[Details, Source]:
            found = details(tx, login.account_id, request.MsgID)
            return found, source(tx, found.content_id)

        found, where = await self._read(read)
        try:
            opened = await self.store.run(where.open)
        except NoContent as exc:
            raise _gone() from exc
        pieces = _raw(found.prefix, opened.read, where.size)
        return Download(
            lambda: next(pieces, b""),
            opened.close,
            "text/plain",
            len(found.prefix) + where.size,
        )

    async def part(self, login: Login, request: MessagePartRequest) -> Download:
        """The decoded content of a part of a message."""
        if len(request.PartPath) > MAX_PATH:
            raise WebapiError("partNotFound", "no such part")

        def read(tx: Tx) -> tuple[Source, bytes]:
            found = details(tx, login.account_id, request.MsgID)
            return source(tx, found.content_id), content.tree(tx, found.content_id)

        where, tree = await self._read(read)
        try:
            root = await self.store.run(unpack_tree, tree)
        except TreeError as exc:
            raise WebapiError("server", "structure of the message cannot be read") from exc
        part = readable.find(root, request.PartPath)
        if part is None:
            raise WebapiError("partNotFound", f"no part at {request.PartPath[:20]}")
        try:
            opened = await self.store.run(where.open)
        except NoContent as exc:
            raise _gone() from exc
        pieces = readable.decoded(part, opened.read, PIECE)
        kind, headers = _part_headers(part)
        return Download(lambda: next(pieces, b""), opened.close, kind, None, headers)

    async def delete(self, login: Login, request: MessageRequest) -> Empty:
        """Expunge a message."""

        def job(tx: Tx) -> None:
            mailbox, uid = messages.place_of(tx, login.account_id, request.MsgID)
            changing.expunge(tx, login.account_id, mailbox, [(uid, uid)], only_deleted=False)

        await self._write(job)
        return Empty()

    async def flags_add(self, login: Login, request: MessageFlagsRequest) -> Empty:
        """Add flags to a message."""
        return await self._flags(login, request, "+")

    async def flags_remove(self, login: Login, request: MessageFlagsRequest) -> Empty:
        """Remove flags from a message."""
        return await self._flags(login, request, "-")

    async def _flags(self, login: Login, request: MessageFlagsRequest, op: str) -> Empty:
        try:
            bits, keywords = parse_flags(request.Flags)
        except ValueError as exc:
            raise WebapiError("user", str(exc)) from exc

        def job(tx: Tx) -> None:
            mailbox, uid = messages.place_of(tx, login.account_id, request.MsgID)
            changing.store_flags(
                tx, login.account_id, mailbox, [(uid, uid)], op, bits, keywords
            )

        await self._write(job)
        return Empty()

    async def move(self, login: Login, request: MessageMoveRequest) -> Empty:
        """Move a message to another mailbox."""

        def job(tx: Tx) -> None:
            dest = mailboxes.named(
                tx, login.account_id, mailboxes.valid_name(request.DestMailboxName)
            )
            mailbox, uid = messages.place_of(tx, login.account_id, request.MsgID)
            if mailbox == dest.id:
                raise WebapiError("user", "message is in that mailbox already")
            transfer.move(tx, login.account_id, mailbox, [(uid, uid)], dest.id)

        await self._write(job)
        return Empty()

    # -- Errors ------------------------------------------------------------------------

    async def _read(self, job: Callable[[Tx], Any]) -> Any:
        try:
            return await self.store.read(job)
        except (NoSuchMessage, NoContent) as exc:
            raise _gone() from exc

    async def _write(self, job: Callable[[Tx], None]) -> None:
        try:
            await self.store.write(job)
        except NoSuchMessage as exc:
            raise _gone() from exc
        except NoSuchMailbox as exc:
            raise WebapiError("user", "no such mailbox") from exc
        except (InvalidMailboxName, TooMany) as exc:
            raise WebapiError("user", str(exc)) from exc


def _gone() -> WebapiError:
    return WebapiError("messageNotFound", "no such message")


def _result(found: Details, where: Source, tree: bytes) -> MessageGetResult:
    """A message as its answer. Reads all of it. Raises WebapiError."""
    try:
        opened = where.open()
    except NoContent as exc:
        raise _gone() from exc
    try:
        root = unpack_tree(tree)
        text, html = readable.texts(root, opened.read)
        structure = readable.structure(root, opened.read)
        head = found.prefix + opened.read(0, root.body_start)
    except (NoContent, TreeError) as exc:
        raise WebapiError("server", f"message cannot be read: {exc}") from exc
    finally:
        opened.close()
    told = readable.summary(parse_headers(head))
    references = told.References
    if told.InReplyTo and told.InReplyTo not in references:
        references = [told.InReplyTo, *references]
    return MessageGetResult(
        Message(
            From=told.From,
            To=told.To,
            CC=told.CC,
            BCC=told.BCC,
            ReplyTo=told.ReplyTo,
            MessageID=told.MessageID,
            References=references,
            Date=told.Date,
            Subject=told.Subject,
            Text=text,
            HTML=html,
        ),
        structure,
        MessageMeta(
            Size=found.size,
            DSN=found.dsn,
            Flags=flag_names(found.flags, found.keywords),
            MailFrom=found.mail_from,
            MailFromValidated=found.mail_from_validated,
            RcptTo=_packed(found.rcpt_to_localpart, found.rcpt_to_domain),
            MsgFrom=_packed(found.msg_from_localpart, found.msg_from_domain),
            MsgFromValidated=found.msg_from_validated,
            DKIMVerifiedDomains=found.dkim_domains.split(),
            RemoteIP=found.remote_ip,
            MailboxName=found.mailbox,
        ),
    )


def _packed(localpart: str, domain: str) -> str:
    return pack_address(localpart, domain) if domain else ""


def _raw(prefix: bytes, read: readable.Read, size: int) -> Iterator[bytes]:
    if prefix:
        yield prefix
    for start in range(0, size, PIECE):
        yield read(start, min(start + PIECE, size))


def _part_headers(part: Part) -> tuple[str, dict[str, str]]:
    """Content type and further headers: browsers must not run what a message brings."""
    kind = part.content_type
    if not kind.isascii() or not kind.isprintable() or part.parts or len(kind) > 200:
        kind = "application/octet-stream"
    elif kind.startswith("text/") and (part.charset or "").replace("-", "").isalnum():
        charset = part.charset or ""
        if charset.isascii():
            kind = f"{kind}; charset={charset}"
    disposition = "attachment"
    if part.filename:
        name = quote(part.filename[:200].encode("utf-8", "replace"), safe="")
        disposition += f"; filename*=UTF-8''{name}"
    return kind, {
        "Content-Disposition": disposition,
        "Content-Security-Policy": "sandbox; default-src 'none'",
    }
