"""Webhooks for messages that arrive, queued in the transaction that delivers them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from msgspec.structs import replace

from moxtw.config.accounts import IncomingWebhook
from moxtw.config.dynamic import Account
from moxtw.config.lookup import ConfigView
from moxtw.inbound import heard
from moxtw.inbound.envelope import Envelope, Recipient
from moxtw.log import Logger
from moxtw.mail import readable
from moxtw.mail.address import pack_address
from moxtw.mail.dsn import DSN
from moxtw.mail.header import MAX_HEADER_BYTES, Headers, parse_headers
from moxtw.mail.mime import TreeError, unpack_tree
from moxtw.queue.api import timestamp
from moxtw.queue.hooks import keep_period
from moxtw.queue.hooktypes import Incoming, IncomingMeta, encode
from moxtw.store import hooksdb
from moxtw.store.content import Spooled
from moxtw.store.db import Store
from moxtw.store.hooksdb import NewHook
from moxtw.store.model import Delivery
from moxtw.store.tx import Tx

log = Logger("webhook")


@dataclass(frozen=True, slots=True)
class Prepared:
    """What is worked out of a message before it is stored.

    found: the notification that it is, or why it is none. incoming: what incoming webhooks are
    told, without the facts of the delivery; None if there are none.
    """

    found: DSN | str = ""
    incoming: Incoming | None = None


NOTHING = Prepared()


def from_id(config: ConfigView, recipient: Recipient) -> str:
    """The unique id in the address of a recipient, empty if it has none."""
    domain = config.dynamic.domains.get(recipient.path.ipdomain.name)
    if domain is None:
        return ""
    return heard.from_id(recipient.path.localpart, domain.effective_separators)


async def prepare(
    store: Store, content: Spooled, envelope: Envelope, *, ids: bool, incoming: bool
) -> Prepared:
    """Work out what webhooks need of a message.

    ids: it goes to an address that may have a unique id. incoming: somebody wants to be told
    of incoming messages.
    """
    if not (ids or incoming or (content.parsed.is_dsn and envelope.mail_from.is_zero)):
        return NOTHING
    try:
        return await store.run(_prepare, content, envelope, incoming)
    except Exception as exc:  # noqa: BLE001 - mail is delivered, whatever becomes of webhooks
        log.failure("composing webhook for incoming message", exc, cid=envelope.cid)
        return Prepared("message could not be read", Incoming() if incoming else None)


def _prepare(content: Spooled, envelope: Envelope, incoming: bool) -> Prepared:
    found = heard.read(content)
    if not incoming:
        return Prepared(found)
    headers = parse_headers(content.read(0, min(content.size, MAX_HEADER_BYTES)))
    head = readable.summary(headers)
    try:
        root = unpack_tree(content.parsed.tree)
    except TreeError:
        return Prepared(found, Incoming())

    def read(start: int, end: int) -> bytes:
        return content.read(start, max(0, end - start))

    text, html = readable.texts(root, read)
    report = (root.media_type, root.media_subtype) == ("multipart", "report")
    automated = envelope.mail_from.is_zero or report or is_automated(headers)
    return Prepared(
        found,
        Incoming(
            From=head.From,
            To=head.To,
            CC=head.CC,
            BCC=head.BCC,
            ReplyTo=head.ReplyTo,
            Subject=head.Subject,
            MessageID=head.MessageID,
            InReplyTo=head.InReplyTo,
            References=head.References,
            Date=head.Date,
            Text=text,
            HTML=html,
            Structure=readable.structure(root, read),
            Meta=IncomingMeta(Automated=automated),
        ),
    )


def is_automated(headers: Headers) -> bool:
    """Whether no person has sent this, so that no program may reply (RFC 3834 2)."""
    for name in ("list-id", "list-unsubscribe", "list-unsubscribe-post", "precedence"):
        if headers.get(name):
            return True
    submitted = (headers.get("auto-submitted") or "").lower()
    # The keyword; parameters and comments may follow (RFC 3834 5).
    return re.split(r"[;(]", submitted, maxsplit=1)[0].strip() not in ("", "no")


def delivered(
    tx: Tx,
    config: ConfigView,
    prepared: Prepared,
    *,
    account_name: str,
    account: Account,
    recipient: Recipient,
    envelope: Envelope,
    delivery: Delivery,
    message_id: int,
    mailbox: str,
) -> None:
    """A message was added to a mailbox: queue the calls that follow from it."""
    unique = from_id(config, recipient)
    if unique and heard.by_from_id(tx, config, account_name, unique, prepared.found):
        return
    if isinstance(prepared.found, DSN) and envelope.mail_from.is_zero:
        heard.by_original(tx, config, account_name, prepared.found)
    hook = account.incoming_webhook
    if hook is not None and prepared.incoming is not None:
        told = _told(prepared.incoming, recipient, envelope, delivery, message_id, mailbox)
        _add(tx, config, hook, account_name, told)


def _told(
    incoming: Incoming,
    recipient: Recipient,
    envelope: Envelope,
    delivery: Delivery,
    message_id: int,
    mailbox: str,
) -> Incoming:
    path = recipient.path
    meta = replace(
        incoming.Meta,
        MsgID=message_id,
        MailFrom=delivery.mail_from or "",
        MailFromValidated=bool(delivery.mail_from_validated),
        MsgFromValidated=bool(delivery.msg_from_validated),
        RcptTo=pack_address(path.localpart, path.ipdomain.name) if path.ipdomain.name else "",
        DKIMVerifiedDomains=list(delivery.dkim_domains or ()),
        RemoteIP=delivery.remote_ip or "",
        Received=timestamp(envelope.received),
        MailboxName=mailbox,
    )
    return replace(incoming, Meta=meta)


def _add(
    tx: Tx, config: ConfigView, hook: IncomingWebhook, account: str, told: Incoming
) -> None:
    new = NewHook(
        account=account,
        url=hook.url,
        payload=encode(told),
        authorization=hook.authorization,
        signing_key=hook.signing_key,
        is_incoming=True,
        message_id=told.MessageID.replace("\0", ""),
        subject=told.Subject.replace("\0", ""),
    )
    hooksdb.add(tx, new, keep_period(config.dynamic, account))
