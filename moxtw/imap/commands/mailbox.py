"""CREATE, DELETE, RENAME, SUBSCRIBE, UNSUBSCRIBE: which mailboxes there are."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from moxtw.imap import notices, objectid, wire
from moxtw.imap.errors import No
from moxtw.imap.parser import Parser
from moxtw.imap.registry import Command, State
from moxtw.store import accounts, mailboxes, transfer
from moxtw.store.errors import (
    InvalidMailboxName,
    MailboxExists,
    MailboxHasChildren,
    NoSuchMailbox,
    StoreError,
)
from moxtw.store.model import Mailbox
from moxtw.store.tx import Tx

if TYPE_CHECKING:
    from moxtw.imap.server import IMAPServer
    from moxtw.imap.session import Session


def valid_name(name: str) -> str:
    """A mailbox name in its one spelling. Raises No with CANNOT (RFC 9051 7.1)."""
    try:
        return mailboxes.valid_name(name)
    except InvalidMailboxName as exc:
        raise No(str(exc), b"CANNOT") from None


def refusal(exc: StoreError) -> StoreError | No:
    """What the store refuses about mailboxes, as a reply with its code (RFC 9051 7.1)."""
    if isinstance(exc, NoSuchMailbox):
        return No("there is no such mailbox", b"NONEXISTENT")
    if isinstance(exc, MailboxExists):
        return No("there is a mailbox of that name", b"ALREADYEXISTS")
    if isinstance(exc, MailboxHasChildren):
        return No("there are mailboxes below it", b"HASCHILDREN")
    if isinstance(exc, InvalidMailboxName):
        return No(str(exc), b"CANNOT")
    return exc


def parse_name(p: Parser) -> str:
    """One mailbox name."""
    p.space()
    return p.mailbox()


@dataclass(frozen=True, slots=True)
class Create:
    """Arguments of CREATE; `use` are special-use bits, -1 for unknown ones."""

    name: str
    use: int


def parse_create(p: Parser) -> Create:
    """CREATE with its parameters (RFC 6154 3)."""
    name = parse_name(p)
    use = 0
    if p.take(b" ("):
        p.expect(b"USE")
        p.space()
        for flag in p.parenthesised(lambda: _use(p), empty=True):
            use = -1 if use < 0 or flag is None else use | flag
        p.expect(b")")
    return Create(name, use)


def _use(p: Parser) -> int | None:
    p.expect(b"\\")
    return wire.USE_BITS.get(b"\\" + p.atom().lower())


async def run_create(conn: IMAPServer, tag: bytes, args: Create) -> bytes:
    """CREATE (RFC 9051 6.3.4): makes missing parents too, and subscribes."""
    session = conn.session
    assert session is not None
    if args.use < 0:
        raise No("unknown special use", b"USEATTR")
    given = args.name[:-1] if args.name.endswith("/") else args.name
    name = valid_name(given)

    def job(tx: Tx) -> tuple[list[Mailbox], int]:
        made = mailboxes.create(tx, session.account_id, name, args.use)
        return made, accounts.modseq(tx, session.account_id)

    try:
        made, modseq = await conn.app.store.write(job)
    except StoreError as exc:
        raise refusal(exc) from exc
    _subscribed(session, modseq, {mailbox.name for mailbox in made})
    session.directory = conn.app.directories.changed(
        session.account_id, session.directory, ((m.id, m.name) for m in made)
    )
    for mailbox in made if session.rev2 else ():
        # RFC 9051 6.3.4. Others would take it for an answer to their next LIST.
        old = given if mailbox.name == name != given else None
        conn.send(
            notices.list_line(
                session, mailbox.name, mailbox.special_use, old, attributes=(rb"\Subscribed",)
            )
        )
    return b"[%b] CREATE done" % objectid.mailbox(made[-1].id)


async def run_delete(conn: IMAPServer, tag: bytes, name: str) -> bytes:
    """DELETE (RFC 9051 6.3.5): not with mailboxes below it; the subscription stays."""
    session = conn.session
    assert session is not None
    name = valid_name(name)

    def job(tx: Tx) -> tuple[Mailbox, int]:
        mailbox = mailboxes.delete(tx, session.account_id, name)
        return mailbox, accounts.modseq(tx, session.account_id)

    try:
        mailbox, modseq = await conn.app.store.write(job)
    except StoreError as exc:
        raise refusal(exc) from exc
    session.directory = conn.app.directories.changed(
        session.account_id, session.directory, removed=(mailbox.id,)
    )
    if session.view is not None and session.view.mailbox_id == mailbox.id:
        # Its messages are to be told as removed.
        session.made(modseq)
    else:
        session.wrote(modseq)
    return b"DELETE done"


def parse_rename(p: Parser) -> tuple[str, str]:
    """RENAME: old and new name."""
    return parse_name(p), parse_name(p)


async def run_rename(conn: IMAPServer, tag: bytes, args: tuple[str, str]) -> bytes:
    """RENAME (RFC 9051 6.3.6): those below follow; Inbox only gives away its messages."""
    session = conn.session
    assert session is not None
    old = valid_name(args[0])
    given = args[1][:-1] if args[1].endswith("/") else args[1]
    new = valid_name(given)

    def job(tx: Tx) -> tuple[list[tuple[str | None, Mailbox]], int]:
        changed = mailboxes.rename(tx, session.account_id, old, new)
        return changed, accounts.modseq(tx, session.account_id)

    try:
        changed, modseq = await conn.app.store.write(job)
    except StoreError as exc:
        raise refusal(exc) from exc
    view = session.view
    if old == "Inbox":
        session.made(modseq)
        await _empty(conn, session, new)
        modseq = 0
    _subscribed(session, modseq, {mailbox.name for _, mailbox in changed})
    session.directory = conn.app.directories.changed(
        session.account_id, session.directory, ((m.id, m.name) for _, m in changed)
    )
    for former, mailbox in changed:
        if view is not None and view.mailbox_id == mailbox.id:
            view.name, view.uidvalidity = mailbox.name, mailbox.uidvalidity
            conn.sendUntaggedResponse(b"OK [UIDVALIDITY %d] with its new name" % view.uidvalidity)
        if session.rev2:
            # RFC 9051 6.3.6.
            conn.send(notices.list_line(session, mailbox.name, mailbox.special_use, former))
    return b"RENAME done"


async def _empty(conn: IMAPServer, session: Session, name: str) -> None:
    """Move what is in Inbox to another mailbox."""

    def begin(tx: Tx) -> tuple[int, int, int]:
        inbox = mailboxes.named(tx, session.account_id, "Inbox")
        return inbox.id, mailboxes.named(tx, session.account_id, name).id, inbox.uidnext - 1

    inbox_id, dest_id, last = await conn.app.store.read(begin)
    while True:
        modseq = await conn.app.store.write(
            lambda tx: transfer.move_some(tx, session.account_id, inbox_id, dest_id, last)
        )
        if not modseq:
            return
        session.made(modseq)


async def run_subscribe(conn: IMAPServer, tag: bytes, name: str) -> bytes:
    """SUBSCRIBE (RFC 9051 6.3.7): to any valid name."""
    session = conn.session
    assert session is not None
    name = valid_name(name)

    def job(tx: Tx) -> int:
        if not mailboxes.subscribe(tx, session.account_id, name):
            return 0
        return accounts.modseq(tx, session.account_id)

    modseq = await conn.app.store.write(job)
    _subscribed(session, modseq, {name})
    return b"SUBSCRIBE done"


def _subscribed(session: Session, modseq: int, names: Collection[str], gone: bool = False) -> None:
    """The session itself has changed subscriptions: it is not told of that."""
    if modseq:
        session.wrote(modseq)
    watch = session.watch
    if watch is not None:
        known = watch.subscribed
        watch.subscribed = known.difference(names) if gone else known.union(names)


async def run_unsubscribe(conn: IMAPServer, tag: bytes, name: str) -> bytes:
    """UNSUBSCRIBE (RFC 9051 6.3.8): NO for a name without mailbox and subscription."""
    session = conn.session
    assert session is not None
    name = valid_name(name)

    def job(tx: Tx) -> tuple[bool, int]:
        if mailboxes.unsubscribe(tx, session.account_id, name):
            return True, accounts.modseq(tx, session.account_id)
        return mailboxes.find(tx, session.account_id, name) is not None, 0

    there, modseq = await conn.app.store.write(job)
    _subscribed(session, modseq, {name}, gone=True)
    if not there:
        raise No("there is neither such a mailbox nor a subscription", b"NONEXISTENT")
    return b"UNSUBSCRIBE done"


COMMANDS = (
    Command("CREATE", State.LOGGED_IN, parse_create, run_create),
    Command("DELETE", State.LOGGED_IN, parse_name, run_delete),
    Command("RENAME", State.LOGGED_IN, parse_rename, run_rename),
    Command("SUBSCRIBE", State.LOGGED_IN, parse_name, run_subscribe),
    Command("UNSUBSCRIBE", State.LOGGED_IN, parse_name, run_unsubscribe),
)

