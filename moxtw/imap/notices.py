"""Telling a client what others have changed (RFC 9051 5.2 and 7.5, RFC 7162 3.2.10).

The change bus says only that an account has reached a modseq. What has changed is read from
the store, compared with what the client knows, and written in an order in which sequence
numbers stay right: new messages, removals, changed flags.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from moxtw.imap import contexts, notify, seqset, wire
from moxtw.imap.commands import fetch, status
from moxtw.store import annotations as annotation_ops
from moxtw.store import mailboxes, messages
from moxtw.store.tx import Tx

if TYPE_CHECKING:
    from moxtw.imap.notify import Watch
    from moxtw.imap.server import IMAPServer
    from moxtw.imap.session import Session, View
    from moxtw.store.annotations import Changed
    from moxtw.store.model import Changes, FlagRow, MailboxChange


class Found(NamedTuple):
    """What has changed: in the list of mailboxes, in annotations, in the selected mailbox.

    `subscribed` are the names subscribed to, None if nobody wants to know.
    """

    listing: list[MailboxChange]
    entries: Sequence[Changed]
    changes: Changes | None
    updates: list[contexts.Update]
    subscribed: frozenset[str] | None = None


def pending(conn: IMAPServer) -> bool:
    """Whether the bus told of changes that the store was not asked for yet."""
    session = conn.session
    if session is None:
        return False
    view = session.view
    return session.latest > session.polled or (
        view is not None and contexts.aging(conn, view)
    )


async def poll(conn: IMAPServer, *, force: bool = False, hold: bool = False) -> None:
    """Write what has changed since the store was last asked, if the bus told of anything.

    force: ask the store in any case. hold: no command runs, the client may be about to send
    one with sequence numbers.
    """
    session = conn.session
    if session is None:
        return
    view, watch = session.view, session.watch
    if watch is not None and not watch.events:
        return
    due = view is not None and bool(view.held) and not hold
    if not (force or due or pending(conn)):
        return
    known = session.polled
    session.polled = max(session.polled, session.latest)
    now = conn.app.store.now()
    telling = watch is None or watch.messages
    entries_wanted = session.annotated if watch is None else watch.needs_entries

    def job(tx: Tx) -> Found:
        listing = mailboxes.changes_since(tx, session.account_id, known)
        entries: Sequence[Changed] = []
        subscribed = None
        if entries_wanted:
            entries = annotation_ops.changed_since(tx, session.account_id, known)
        if watch is not None and watch.needs_subscriptions:
            subscribed = frozenset(mailboxes.subscriptions_of(tx, session.account_id))
        if view is None or not telling:
            return Found(listing, entries, None, [], subscribed)
        changes = messages.changes_since(tx, view.mailbox_id, view.modseq)
        updates = contexts.find_updates(tx, view, changes, now)
        return Found(listing, entries, changes, updates, subscribed)

    try:
        found = await conn.app.store.read(job)
    except BaseException:
        session.polled = known
        raise
    if session.view is not view or session.watch is not watch:
        return
    if watch is None:
        _tell_listing(conn, session, found.listing)
        _tell_entries(conn, session, found.entries)
    else:
        _tell_watched(conn, session, watch, found)
    if view is not None and found.changes is not None:
        added = tell(conn, session, view, found.changes, found.updates, hold=hold)
        items = None if watch is None or watch.selected is None else watch.selected.items
        if added is not None and items is not None:
            await fetch.answer(conn, session, view, items, [(added, len(view.uids))])
        if len(view.held) > notify.MAX_HELD:
            # RFC 5465 5.8: as after NOTIFY NONE.
            session.watch = notify.Watch()
            conn.send(b"* OK [NOTIFICATIONOVERFLOW] too many changes: NOTIFY is off\r\n")
        elif session.handle is not None and not view.held:
            session.handle.seen(session.polled)


def _tell_watched(conn: IMAPServer, session: Session, watch: Watch, found: Found) -> None:
    """What a client wants to know of mailboxes (RFC 5465 5)."""
    selected = 0 if session.view is None else session.view.mailbox_id
    subscribed = watch.subscribed if found.subscribed is None else found.subscribed
    wants = watch.wanting(
        selected=selected,
        subscribed=subscribed,
        account=conn.app.config.dynamic.accounts.get(session.account_name),
    )
    _tell_listing(
        conn, session, found.listing, lambda i, name: wants(notify.MAILBOX_NAME, i, name)
    )
    if found.subscribed is not None:
        ids = {name: mailbox_id for mailbox_id, name in session.directory.items()}
        for name in sorted(found.subscribed ^ watch.subscribed):
            if wants(notify.SUBSCRIPTION_CHANGE, ids.get(name, 0), name):
                attributes = [b"\\Subscribed"] if name in found.subscribed else []
                if name not in ids:
                    attributes.append(b"\\NonExistent")
                conn.send(list_line(session, name, attributes=attributes))
        watch.subscribed = found.subscribed
    for kind, mailbox in found.listing:
        old = watch.known.pop(mailbox.id, None)
        if kind == "remove":
            continue
        new = watch.known[mailbox.id] = notify.counts(mailbox)
        if old is None:
            old = notify.Counts(0, 1, 0, 0)
        items: list[bytes] = []
        if old[:2] != new[:2] and wants(notify.MESSAGE_NEW, mailbox.id, mailbox.name):
            items = [b"UIDNEXT", b"MESSAGES", b"UNSEEN"]
        elif (
            old[:2] == new[:2]
            and (old.unseen != new.unseen or (session.condstore and old.modseq != new.modseq))
            and wants(notify.FLAG_CHANGE, mailbox.id, mailbox.name)
        ):
            items = [b"UIDVALIDITY", b"UNSEEN"]
        if items:
            if session.condstore:
                items.append(b"HIGHESTMODSEQ")
            conn.send(status.status_line(session, mailbox, items))
    _tell_entries(
        conn,
        session,
        found.entries,
        lambda mailbox_id, name: wants(
            notify.MAILBOX_METADATA if mailbox_id else notify.SERVER_METADATA, mailbox_id, name
        ),
    )


async def refresh(conn: IMAPServer) -> None:
    """Write only what changes in the results of searches with UPDATE.

    That may be told at any time (RFC 5267 4.3.2), also by commands that tell of no other change.
    """
    session = conn.session
    view = session.view if session is not None else None
    if session is None or view is None or not view.contexts or not pending(conn):
        return
    now = conn.app.store.now()

    def job(tx: Tx) -> list[contexts.Update]:
        changes = messages.changes_since(tx, view.mailbox_id, view.modseq)
        known = [row for row in changes.changed if row.uid < view.uidnext]
        changes = changes._replace(changed=known, uidnext=view.uidnext)
        return contexts.find_updates(tx, view, changes, now)

    updates = await conn.app.store.read(job)
    if session.view is view:
        contexts.tell(conn, view, updates)


def _tell_listing(
    conn: IMAPServer,
    session: Session,
    listing: list[MailboxChange],
    wants: Callable[[int, str], bool] | None = None,
) -> None:
    """LIST for mailboxes that came, went, or have another name (RFC 5465 5.4's forms).

    `wants` says of id and name whether the client asked to be told; without it, it did not ask.
    """
    directory = session.directory
    new: dict[int, str] = {}
    removed: list[int] = []
    for kind, mailbox in listing:
        old = directory.get(mailbox.id)
        if kind == "remove":
            if old is None:
                continue
            removed.append(mailbox.id)
            if session.rev2 if wants is None else wants(mailbox.id, old):
                # Others take the unknown attribute for a mailbox that exists.
                conn.send(
                    b'* LIST (\\NonExistent) "/" %b\r\n' % wire.mailbox(old, session.utf8)
                )
        elif old != mailbox.name:
            new[mailbox.id] = mailbox.name
            if wants is None:
                conn.send(list_line(session, mailbox.name, mailbox.special_use, old))
            elif wants(mailbox.id, mailbox.name) or (old and wants(mailbox.id, old)):
                conn.send(
                    list_line(session, mailbox.name, mailbox.special_use, old, old_name=True)
                )
    if new or removed:
        session.directory = conn.app.directories.changed(
            session.account_id, directory, new.items(), removed
        )


def _tell_entries(
    conn: IMAPServer,
    session: Session,
    entries: Sequence[Changed],
    wants: Callable[[int, str], bool] | None = None,
) -> None:
    """METADATA for entries that were set or removed (RFC 5464 4.4.2, RFC 5465 5.6, 5.7)."""
    of_server_only = "METADATA" not in session.enabled
    by_mailbox: dict[str, list[str]] = {}
    own: Collection[int] = session.view.own if session.view is not None else ()
    for mailbox_id, key, modseq in entries:
        if modseq in own:
            continue
        name = session.directory.get(mailbox_id) if mailbox_id else ""
        if name is None:
            continue
        if (name and of_server_only) if wants is None else not wants(mailbox_id, name):
            continue
        by_mailbox.setdefault(name, []).append(key)
    for name, keys in sorted(by_mailbox.items()):
        conn.send(metadata_line(session, name, keys))


def metadata_line(session: Session, mailbox: str, entries: Iterable[str]) -> bytes:
    """A METADATA response without values; the mailbox "" is the server."""
    return b"* METADATA %b %b\r\n" % (
        wire.mailbox(mailbox, session.utf8) if mailbox else b'""',
        b" ".join([wire.astring(entry.encode("ascii")) for entry in entries]),
    )


def list_line(
    session: Session,
    name: str,
    special_use: int = 0,
    old: str | None = None,
    attributes: Iterable[bytes] = (),
    *,
    old_name: bool = False,
) -> bytes:
    """A LIST response for a mailbox; `old` is its former name (RFC 9051 7.3.1, OLDNAME).

    old_name: the client knows OLDNAME, though it may not have enabled IMAP4rev2.
    """
    line = b'* LIST (%b) "/" %b' % (
        b" ".join([*attributes, *wire.uses(special_use)]),
        wire.mailbox(name, session.utf8),
    )
    if old is not None and (session.rev2 or old_name):
        line += b' ("OLDNAME" (%b))' % wire.mailbox(old, session.utf8)
    return line + b"\r\n"


def flags_line(keywords: Iterable[str]) -> bytes:
    """The FLAGS response of a mailbox."""
    names = [name for name, _ in wire.SYSTEM_FLAGS]
    names.extend(keyword.encode("ascii", "replace") for keyword in keywords)
    return b"* FLAGS (%b)\r\n" % b" ".join(names)


def fetch_lines(session: Session, numbers: Iterable[int], rows: Sequence[FlagRow]) -> bytes:
    """FETCH responses that tell of changed flags, without those of messages not in view (0)."""
    flag_list = wire.flag_list
    pairs = zip(numbers, rows, strict=True)
    if session.uidonly:
        return b"".join(
            [
                b"* %d UIDFETCH (FLAGS (%b)" % (row.uid, flag_list(row.flags, row.keywords))
                + (b" MODSEQ (%d))\r\n" % row.modseq if session.condstore else b")\r\n")
                for number, row in pairs
                if number
            ]
        )
    if session.condstore:
        return b"".join(
            [
                b"* %d FETCH (UID %d FLAGS (%b) MODSEQ (%d))\r\n"
                % (number, uid, flag_list(flags, keywords), modseq)
                for number, (uid, flags, keywords, modseq) in pairs
                if number
            ]
        )
    return b"".join(
        [
            b"* %d FETCH (UID %d FLAGS (%b))\r\n" % (number, uid, flag_list(flags, keywords))
            for number, (uid, flags, keywords, _) in pairs
            if number
        ]
    )


def tell(
    conn: IMAPServer,
    session: Session,
    view: View,
    changes: Changes,
    updates: Iterable[contexts.Update] = (),
    *,
    hold: bool = False,
) -> int | None:
    """Write changes of the selected mailbox, and take them into the view.

    hold: sequence numbers must stay as they are. Returns how many messages there were before
    new ones came of which the caller is to tell more; None for none.
    """
    watch = session.watch
    untold: int | None = None
    if changes.keywords != view.keywords and not changes.gone:
        view.keywords = changes.keywords
        conn.send(flags_line(view.keywords))
    changed = changes.changed
    # Rows are ascending by UID, so new ones stand at the end.
    first_new = len(changed)
    while first_new and changed[first_new - 1].uid >= view.uidnext:
        first_new -= 1
    added = changed[first_new:]
    if added:
        uids = view.uids + array("I", [row.uid for row in added])
        base = len(view.uids) + 1
        view.uids = uids
        conn.send(b"* %d EXISTS\r\n" % len(uids))
        own = view.own
        told = [(n, row) for n, row in enumerate(added, start=base) if row.modseq not in own]
        if watch is not None and watch.selected is not None and watch.selected.items is not None:
            untold = base - 1
        else:
            conn.send(fetch_lines(session, [n for n, _ in told], [row for _, row in told]))
    if changes.uidnext > view.uidnext:
        view.uidnext = changes.uidnext
    contexts.tell(conn, view, updates)
    if hold and watch is not None and watch.delayed:
        view.held += [uid for uid in changes.vanished if view.number(uid)]
    elif changes.vanished or view.held:
        gone, view.held = [*view.held, *changes.vanished], []
        expunge(conn, session, view, gone)
    rows = [row for row in changed[:first_new] if row.modseq not in view.own]
    if watch is None or watch.flags:
        conn.send(fetch_lines(session, view.numbers([row.uid for row in rows]), rows))
    if changes.modseq > view.modseq:
        view.modseq = changes.modseq
    if added or changes.vanished:
        view.uids = conn.app.uids.share(
            view.mailbox_id, view.uidvalidity, view.modseq, view.uidnext, view.uids
        )
    view.own = {modseq for modseq in view.own if modseq > view.modseq}
    return untold


def expunge(conn: IMAPServer, session: Session, view: View, uids: Iterable[int]) -> None:
    """Write that messages have gone, those that are in view, and take them out of it."""
    gone = sorted(set(uids))
    pairs = [(n, uid) for n, uid in zip(view.numbers(gone), gone, strict=True) if n]
    if not pairs:
        return
    known = [uid for _, uid in pairs]
    contexts.removing(conn, view, known)
    if session.vanished:
        for piece in seqset.format_pieces(seqset.to_ranges(known)):
            conn.send(b"* VANISHED %b\r\n" % piece)
    else:
        # From high to low, so that each is the number at the time it is read.
        conn.send(
            b"".join([b"* %d EXPUNGE\r\n" % number for number, _ in reversed(pairs)])
        )
    view.uids = seqset.without(view.uids, known)
