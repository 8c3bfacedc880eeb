"""Telling a client what it watches of mailboxes: names, subscriptions, counts (RFC 5465 5).

A job of the store gathers what has changed since the client was told last, and what was made
by the session itself is left out (RFC 5465 5).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from moxtw.imap import notify, wire
from moxtw.imap.commands import status
from moxtw.store import accounts, activity, mailboxes
from moxtw.store.activity import Activity
from moxtw.store.tx import Tx

if TYPE_CHECKING:
    from moxtw.config.accounts import Account
    from moxtw.imap.directory import Names
    from moxtw.imap.notify import Watch
    from moxtw.imap.server import IMAPServer
    from moxtw.imap.session import Session
    from moxtw.store.model import Mailbox, MailboxChange

# Of event, mailbox id and name: whether that is to be told.
Wants = Callable[[str, int, str], bool]


class Gathered(NamedTuple):
    """What a job finds.

    `modseq` is that of the account. `subscribed` are the names subscribed to, None if they were
    not needed; `subscriptions` are names that came to these or left them, with their mailboxes.
    `activity` is by mailbox id.
    """

    modseq: int
    wants: Wants
    subscribed: frozenset[str] | None
    subscriptions: list[tuple[str, Mailbox | None]]
    activity: dict[int, Activity]


class Watcher(NamedTuple):
    """What the job needs to know of the session."""

    account_id: int
    watch: Watch
    selected: int
    directory: Names
    own: frozenset[int]
    account: Account | None
    known: int

    def gather(self, tx: Tx, listing: Iterable[MailboxChange]) -> Gathered:
        """Read what is to be told, given the mailboxes that have changed since `known`."""
        watch = self.watch
        modseq = accounts.by_id(tx, self.account_id).modseq
        subscribed: frozenset[str] | None = None
        if watch.needs_subscriptions or (
            notify.MAILBOX_NAME in watch.events and any(self._renamed(listing))
        ):
            subscribed = frozenset(mailboxes.subscriptions_of(tx, self.account_id))
        wants = watch.wanting(
            selected=self.selected, subscribed=subscribed or (), account=self.account
        )
        subscriptions = []
        if subscribed is not None and notify.SUBSCRIPTION_CHANGE in watch.events:
            subscriptions = [
                (name, mailboxes.find(tx, self.account_id, name))
                for name in sorted(subscribed ^ watch.subscribed)
            ]
        found = {
            mailbox.id: activity.since(tx, mailbox.id, self.known, self.own)
            for kind, mailbox in listing
            if kind != "remove" and wants(notify.MESSAGE_NEW, mailbox.id, mailbox.name)
        }
        return Gathered(modseq, wants, subscribed, subscriptions, found)

    def _renamed(self, listing: Iterable[MailboxChange]) -> Iterator[bool]:
        for kind, mailbox in listing:
            old = self.directory.get(mailbox.id)
            yield (old is not None) if kind == "remove" else (old != mailbox.name)


def watcher(conn: IMAPServer, session: Session, watch: Watch, known: int) -> Watcher:
    """What is to be gathered for a session; `known`: changes up to that modseq were told."""
    return Watcher(
        session.account_id,
        watch,
        0 if session.view is None else session.view.mailbox_id,
        session.directory,
        frozenset(session.own),
        conn.app.config.dynamic.accounts.get(session.account_name),
        known,
    )


def tell_names(
    conn: IMAPServer,
    session: Session,
    watch: Watch,
    gathered: Gathered,
    changed: Collection[tuple[int, str | None, Mailbox | None]],
) -> None:
    """LIST for changed names and subscriptions (RFC 5465 5.4, 5.5).

    `changed` are ids with the former name, None for a new one, and the mailbox, None if it has
    gone. The session's directory knows of them already.
    """
    told: set[str] = set()
    wants = gathered.wants
    subscribed = gathered.subscribed or frozenset()
    lines: list[tuple[str, str | None, Mailbox | None]] = []
    for mailbox_id, old, mailbox in changed:
        names = [name for name in (mailbox and mailbox.name, old) if name]
        if any(wants(notify.MAILBOX_NAME, mailbox_id, name) for name in names):
            lines.append((names[0], old if mailbox else None, mailbox))
            told.add(names[0])
    for name, mailbox in gathered.subscriptions:
        mailbox_id = mailbox.id if mailbox else 0
        if name not in told and wants(notify.SUBSCRIPTION_CHANGE, mailbox_id, name):
            lines.append((name, None, mailbox))
    if gathered.subscribed is not None:
        watch.subscribed = gathered.subscribed
    if not lines:
        return
    parents = {name.rpartition("/")[0] for name in session.directory.values()}
    for name, old, mailbox in lines:
        attributes = []
        if mailbox is None:
            attributes.append(rb"\NonExistent")
        else:
            attributes.append(rb"\HasChildren" if name in parents else rb"\HasNoChildren")
        if name in subscribed:
            attributes.append(rb"\Subscribed")
        if mailbox is not None:
            attributes.extend(wire.uses(mailbox.special_use))
        line = b'* LIST (%b) "/" %b' % (
            b" ".join(attributes),
            wire.mailbox(name, session.utf8),
        )
        if old is not None:
            line += b' ("OLDNAME" (%b))' % wire.mailbox(old, session.utf8)
        conn.send(line + b"\r\n")


def tell_counts(
    conn: IMAPServer, session: Session, listing: Iterable[MailboxChange], gathered: Gathered
) -> None:
    """STATUS for mailboxes with messages that came, went or changed (RFC 5465 5.1 to 5.3)."""
    for _, mailbox in listing:
        found = gathered.activity.get(mailbox.id)
        if found is None:
            continue
        items: list[bytes] = []
        if found.new or found.gone:
            items = [b"UIDNEXT", b"MESSAGES"]
        if found.flags and gathered.wants(notify.FLAG_CHANGE, mailbox.id, mailbox.name):
            items.append(b"UIDVALIDITY")
        if items:
            items.append(b"UNSEEN")
            if session.condstore:
                items.append(b"HIGHESTMODSEQ")
            conn.send(status.status_line(session, mailbox, items))
