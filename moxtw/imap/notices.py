"""Telling a client what others have changed (RFC 9051 5.2 and 7.5, RFC 7162 3.2.10).

The change bus says only that an account has reached a modseq. What has changed is read from
the store, compared with what the client knows, and written in an order in which sequence
numbers stay right: new messages, removals, changed flags.
"""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from moxtw.imap import contexts, seqset, wire
from moxtw.store import annotations as annotation_ops
from moxtw.store import mailboxes, messages
from moxtw.store.tx import Tx

if TYPE_CHECKING:
    from moxtw.imap.server import IMAPServer
    from moxtw.imap.session import Session, View
    from moxtw.store.annotations import Changed
    from moxtw.store.model import Changes, FlagRow, MailboxChange


class Found(NamedTuple):
    """What has changed: in the list of mailboxes, in annotations, in the selected mailbox."""

    listing: list[MailboxChange]
    entries: Sequence[Changed]
    changes: Changes | None
    updates: list[contexts.Update]


def pending(conn: IMAPServer) -> bool:
    """Whether the bus told of changes that the store was not asked for yet."""
    session = conn.session
    if session is None:
        return False
    view = session.view
    return session.latest > session.polled or (
        view is not None and contexts.aging(conn, view)
    )


async def poll(conn: IMAPServer) -> None:
    """Write what has changed since the store was last asked, if the bus told of anything."""
    session = conn.session
    if session is None or not pending(conn):
        return
    known = session.polled
    session.polled = session.latest
    view = session.view
    now = conn.app.store.now()

    def job(tx: Tx) -> Found:
        listing = mailboxes.changes_since(tx, session.account_id, known)
        entries: Sequence[Changed] = []
        if session.annotated:
            entries = annotation_ops.changed_since(tx, session.account_id, known)
        if view is None:
            return Found(listing, entries, None, [])
        changes = messages.changes_since(tx, view.mailbox_id, view.modseq)
        return Found(listing, entries, changes, contexts.find_updates(tx, view, changes, now))

    try:
        found = await conn.app.store.read(job)
    except BaseException:
        session.polled = known
        raise
    if session.view is not view:
        return
    _tell_listing(conn, session, found.listing)
    _tell_entries(conn, session, found.entries)
    if view is not None and found.changes is not None:
        tell(conn, session, view, found.changes, found.updates)
        if session.handle is not None:
            session.handle.seen(session.polled)


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


def _tell_listing(conn: IMAPServer, session: Session, listing: list[MailboxChange]) -> None:
    """LIST for mailboxes that came, went, or have another name (RFC 5465 5.4's forms)."""
    directory = session.directory
    new: dict[int, str] = {}
    removed: list[int] = []
    for kind, mailbox in listing:
        old = directory.get(mailbox.id)
        if kind == "remove":
            if old is None:
                continue
            removed.append(mailbox.id)
            if session.rev2:
                # Others take the unknown attribute for a mailbox that exists.
                conn.send(
                    b'* LIST (\\NonExistent) "/" %b\r\n' % wire.mailbox(old, session.utf8)
                )
        elif old != mailbox.name:
            new[mailbox.id] = mailbox.name
            conn.send(list_line(session, mailbox.name, mailbox.special_use, old))
    if new or removed:
        session.directory = conn.app.directories.changed(
            session.account_id, directory, new.items(), removed
        )


def _tell_entries(conn: IMAPServer, session: Session, entries: Sequence[Changed]) -> None:
    """METADATA for entries that were set or removed (RFC 5464 4.4.2)."""
    of_server_only = "METADATA" not in session.enabled
    by_mailbox: dict[str, list[str]] = {}
    own: Collection[int] = session.view.own if session.view is not None else ()
    for mailbox_id, key, modseq in entries:
        if modseq in own:
            continue
        name = session.directory.get(mailbox_id) if mailbox_id else ""
        if name is None or (name and of_server_only):
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
) -> bytes:
    """A LIST response for a mailbox; `old` is its former name (RFC 9051 7.3.1, OLDNAME)."""
    line = b'* LIST (%b) "/" %b' % (
        b" ".join([*attributes, *wire.uses(special_use)]),
        wire.mailbox(name, session.utf8),
    )
    if old is not None and session.rev2:
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
) -> None:
    """Write changes of the selected mailbox, and take them into the view."""
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
        conn.send(fetch_lines(session, [n for n, _ in told], [row for _, row in told]))
    if changes.uidnext > view.uidnext:
        view.uidnext = changes.uidnext
    contexts.tell(conn, view, updates)
    if changes.vanished:
        expunge(conn, session, view, changes.vanished)
    rows = [row for row in changed[:first_new] if row.modseq not in view.own]
    conn.send(fetch_lines(session, view.numbers([row.uid for row in rows]), rows))
    if changes.modseq > view.modseq:
        view.modseq = changes.modseq
    if added or changes.vanished:
        view.uids = conn.app.uids.share(
            view.mailbox_id, view.uidvalidity, view.modseq, view.uidnext, view.uids
        )
    view.own = {modseq for modseq in view.own if modseq > view.modseq}


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
