"""NOTIFY (RFC 5465)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from moxtw.imap import notices
from moxtw.imap.commands.basic import enable_condstore
from moxtw.imap.commands.status import status_line
from moxtw.imap.errors import Bad, No
from moxtw.imap.fetchitems import Items, parse_items
from moxtw.imap.mailboxfilter import parse_filter
from moxtw.imap.notify import (
    EVENTS,
    FLAG_CHANGE,
    MESSAGE_EVENTS,
    MESSAGE_EXPUNGE,
    MESSAGE_NEW,
    Group,
    Watch,
)
from moxtw.imap.parser import Parser
from moxtw.imap.registry import Command, State
from moxtw.store import mailboxes
from moxtw.store.model import Mailbox
from moxtw.store.tx import Tx

if TYPE_CHECKING:
    from moxtw.imap.server import IMAPServer

# Of one client: groups, and names in all of them.
_MAX_GROUPS: Final = 100
_MAX_NAMES: Final = 1000
_BY_NAME: Final = {event.upper().encode("ascii"): event for event in EVENTS}


@dataclass(frozen=True, slots=True)
class Notify:
    """Arguments of NOTIFY; `status`: counts of all mailboxes are wanted at once."""

    groups: list[Group]
    status: bool


def parse_notify(p: Parser) -> Notify:
    """NOTIFY NONE, or NOTIFY SET with groups of events."""
    p.space()
    word = p.word()
    if word == b"NONE":
        return Notify([], False)
    if word != b"SET":
        raise Bad("SET or NONE expected")
    p.space()
    status = p.take(b"STATUS ")
    groups = [_group(p)]
    while p.take(b" "):
        groups.append(_group(p))
        if len(groups) > _MAX_GROUPS:
            # RFC 5465 3.1.
            raise No("too many groups of events", b"NOTIFICATIONOVERFLOW")
    if sum(len(group.where.names) for group in groups) > _MAX_NAMES:
        raise No("too many names of mailboxes", b"NOTIFICATIONOVERFLOW")
    if sum(group.where.selected for group in groups) > 1:
        raise Bad("only one of SELECTED and SELECTED-DELAYED can be given, once")
    return Notify(groups, status)


def _group(p: Parser) -> Group:
    p.expect(b"(")
    where = parse_filter(p, delayed=True)
    p.space()
    events: set[str] = set()
    items: Items | None = None
    if p.peek(b"("):

        def event() -> None:
            nonlocal items
            word = p.word()
            name = _BY_NAME.get(word)
            if name is None:
                # RFC 5465 3.1, 5: not BAD.
                supported = " ".join(EVENTS).encode("ascii")
                raise No("event is not supported", b"BADEVENT (%b)" % supported)
            events.add(name)
            if name == MESSAGE_NEW and p.peek(b" ("):
                p.space()
                items = parse_items(p)

        p.parenthesised(event)
    elif p.word() != b"NONE":
        raise Bad("events in parentheses, or NONE, expected")
    p.expect(b")")
    if (MESSAGE_NEW in events) != (MESSAGE_EXPUNGE in events):
        raise Bad("MessageNew and MessageExpunge go together")
    if FLAG_CHANGE in events and MESSAGE_NEW not in events:
        raise Bad("FlagChange goes with MessageNew and MessageExpunge")
    if where.selected and not events <= MESSAGE_EVENTS:
        raise Bad("only events of messages go with SELECTED and SELECTED-DELAYED")
    if items is not None:
        if not where.selected:
            # RFC 5465 8.
            raise Bad("items of messages go with SELECTED and SELECTED-DELAYED only")
        items = items.unasked()
    return Group(where, frozenset(events), items)


async def run_notify(conn: IMAPServer, tag: bytes, args: Notify) -> bytes:
    """NOTIFY: from now on, what was asked for is told, and nothing else."""
    session = conn.session
    assert session is not None
    watch = Watch(args.groups)
    wanted = watch.selected.items if watch.selected is not None else None
    if wanted is not None and any(column.name == b"MODSEQ" for column in wanted.columns):
        enable_condstore(conn)
    if args.groups:
        # RFC 5465 3.1: as NOOP, with all that was withheld before.
        await notices.poll(conn, force=True)

    def job(tx: Tx) -> tuple[list[Mailbox], frozenset[str]]:
        subscribed: frozenset[str] = frozenset()
        if watch.needs_subscriptions:
            subscribed = frozenset(mailboxes.subscriptions_of(tx, session.account_id))
        return mailboxes.all(tx, session.account_id) if args.status else [], subscribed

    listing, watch.subscribed = await conn.app.store.read(job)
    wants = watch.wanting(
        selected=0 if session.view is None else session.view.mailbox_id,
        subscribed=watch.subscribed,
        account=conn.app.config.dynamic.accounts.get(session.account_name),
    )
    for mailbox in listing:
        if wants(MESSAGE_NEW, mailbox.id, mailbox.name):
            items = [b"MESSAGES", b"UIDNEXT", b"UIDVALIDITY", b"UNSEEN"]
            # Without it there is nothing to see a change of flags by.
            if session.condstore or wants(FLAG_CHANGE, mailbox.id, mailbox.name):
                items.append(b"HIGHESTMODSEQ")
            conn.send(status_line(session, mailbox, items))
    session.watch = watch
    return b"NOTIFY done"


COMMANDS = (Command("NOTIFY", State.LOGGED_IN, parse_notify, run_notify),)
