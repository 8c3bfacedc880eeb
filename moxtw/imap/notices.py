"""Telling a client what others have changed (RFC 9051 5.2 and 7.5, RFC 7162 3.2.10).

The change bus says only that an account has reached a modseq. What has changed is read from
the store, compared with what the client knows, and written in an order in which sequence
numbers stay right: new messages, removals, changed flags.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from itertools import compress
from typing import TYPE_CHECKING, NamedTuple

from moxtw.imap import contexts, notify, seqset, watching, wire
from moxtw.imap.commands import fetch
from moxtw.imap.errors import No
from moxtw.store import annotations as annotation_ops
from moxtw.store import mailboxes, messages
from moxtw.store.tx import Tx

if TYPE_CHECKING:
    from moxtw.imap.fetchitems import Items
    from moxtw.imap.notify import Watch
    from moxtw.imap.server import IMAPServer
    from moxtw.imap.session import Session, View
    from moxtw.imap.watching import Gathered
    from moxtw.store.annotations import Changed
    from moxtw.store.model import Changes, FlagRow, Mailbox, MailboxChange


# FETCH responses written at once: some milliseconds.
_PIECE = 2000


class Found(NamedTuple):
    """What has changed: in the list of mailboxes, in annotations, in the selected mailbox.

    `gathered` is what else a client wants to know after NOTIFY.
    """

    listing: list[MailboxChange]
    entries: Sequence[Changed]
    changes: Changes | None
    updates: list[contexts.Update]
    gathered: Gathered | None


def pending(conn: IMAPServer) -> bool:
    """Whether the bus told of changes that the store was not asked for yet."""
    session = conn.session
    if session is None:
        return False
    view = session.view
    return session.latest > session.polled or (
        view is not None and contexts.aging(conn, view)
    )


async def poll(conn: IMAPServer, *, force: bool = False, between: bool = False) -> None:
    """Write what has changed since the store was last asked, if the bus told of anything.

    force: ask the store in any case, and tell all of the selected mailbox. between: no command
    runs, the client may be about to send one with sequence numbers.
    """
    session = conn.session
    if session is None:
        return
    view, watch = session.view, session.watch
    rules = None if force else watch
    due = view is not None and bool(view.held) and not between and not session.silent
    if not (force or due or pending(conn)):
        return
    known = session.polled
    session.polled = max(session.polled, session.latest)
    now = conn.app.store.now()
    silent = rules is not None and session.silent
    annotated = session.annotated if watch is None else watch.needs_entries
    watcher = None if watch is None else watching.watcher(conn, session, watch, known)

    def job(tx: Tx) -> Found:
        listing = mailboxes.changes_since(tx, session.account_id, known)
        entries: Sequence[Changed] = []
        if annotated:
            entries = annotation_ops.changed_since(tx, session.account_id, known)
        changes: Changes | None = None
        updates: list[contexts.Update] = []
        if view is not None and not silent:
            changes = messages.changes_since(tx, view.mailbox_id, view.modseq)
            updates = contexts.find_updates(tx, view, changes, now)
        elif view is not None and view.contexts:
            updates = _find_updates(tx, view, now)
        gathered = None if watcher is None else watcher.gather(tx, listing)
        return Found(listing, entries, changes, updates, gathered)

    try:
        found = await conn.app.store.read(job)
    except BaseException:
        session.polled = known
        raise
    if session.view is not view or session.watch is not watch:
        return
    if found.gathered is not None:
        session.polled = max(session.polled, found.gathered.modseq)
    _tell_mailboxes(conn, session, found)
    session.own = {modseq for modseq in session.own if modseq > session.polled}
    if view is None:
        return
    if found.changes is None:
        contexts.tell(conn, view, found.updates)
        return
    await _tell_messages(conn, session, view, found.changes, found.updates, rules, between)
    if len(view.held) > notify.MAX_HELD:
        # RFC 5465 5.8: as after NOTIFY NONE.
        session.watch = notify.Watch()
        conn.send(b"* OK [NOTIFICATIONOVERFLOW] too many changes: NOTIFY is off\r\n")
    elif session.handle is not None and not view.held:
        session.handle.seen(session.polled)


def _find_updates(tx: Tx, view: View, now: int) -> list[contexts.Update]:
    """What changes in the results of searches by messages that the client knows."""
    changes = messages.changes_since(tx, view.mailbox_id, view.modseq)
    known = [row for row in changes.changed if row.uid < view.uidnext]
    changes = changes._replace(changed=known, uidnext=view.uidnext)
    return contexts.find_updates(tx, view, changes, now)


async def refresh(conn: IMAPServer) -> None:
    """Write only what changes in the results of searches with UPDATE.

    That may be told at any time (RFC 5267 4.3.2), also by commands that tell of no other change.
    """
    session = conn.session
    view = session.view if session is not None else None
    if session is None or view is None or not view.contexts or not pending(conn):
        return
    now = conn.app.store.now()
    updates = await conn.app.store.read(lambda tx: _find_updates(tx, view, now))
    if session.view is view:
        contexts.tell(conn, view, updates)


def _tell_mailboxes(conn: IMAPServer, session: Session, found: Found) -> None:
    """What is not about messages of the selected mailbox."""
    watch, gathered = session.watch, found.gathered
    changed = _take_names(conn, session, found.listing)
    _tell_uidvalidity(conn, session, found.listing)
    if watch is not None and gathered is not None:
        watching.tell_names(conn, session, watch, gathered, changed)
        watching.tell_counts(conn, session, found.listing, gathered)
    else:
        for _, old, mailbox in changed:
            if mailbox is not None:
                conn.send(list_line(session, mailbox.name, mailbox.special_use, old))
            elif session.rev2 and old is not None:
                # Others take the unknown attribute for a mailbox that exists.
                name = wire.mailbox(old, session.utf8)
                conn.send(b'* LIST (\\NonExistent) "/" %b\r\n' % name)
    _tell_entries(conn, session, found)


def _take_names(
    conn: IMAPServer, session: Session, listing: Iterable[MailboxChange]
) -> list[tuple[int, str | None, Mailbox | None]]:
    """Take changed names into the session's directory.

    Gives for each its mailbox's id, the former name and the mailbox, None for one that has gone.
    """
    directory = session.directory
    changed: list[tuple[int, str | None, Mailbox | None]] = []
    for kind, mailbox in listing:
        old = directory.get(mailbox.id)
        if kind != "remove" and old != mailbox.name:
            changed.append((mailbox.id, old, mailbox))
        elif kind == "remove" and old is not None:
            changed.append((mailbox.id, old, None))
    if changed:
        session.directory = conn.app.directories.changed(
            session.account_id,
            directory,
            [(mailbox_id, mailbox.name) for mailbox_id, _, mailbox in changed if mailbox],
            [mailbox_id for mailbox_id, _, mailbox in changed if mailbox is None],
        )
    return changed


def _tell_uidvalidity(
    conn: IMAPServer, session: Session, listing: Iterable[MailboxChange]
) -> None:
    """A mailbox that is renamed gets another UIDVALIDITY (RFC 5465 5.1)."""
    view = session.view
    if view is None:
        return
    for kind, mailbox in listing:
        if mailbox.id == view.mailbox_id and kind != "remove":
            view.name = mailbox.name
            if mailbox.uidvalidity != view.uidvalidity:
                view.uidvalidity = mailbox.uidvalidity
                conn.sendUntaggedResponse(
                    b"OK [UIDVALIDITY %d] with its new name" % view.uidvalidity
                )


def _tell_entries(conn: IMAPServer, session: Session, found: Found) -> None:
    """METADATA for entries that were set or removed (RFC 5464 4.4.2, RFC 5465 5.6, 5.7)."""
    of_server_only = "METADATA" not in session.enabled
    wants = None if found.gathered is None else found.gathered.wants
    by_mailbox: dict[str, list[str]] = {}
    for mailbox_id, key, modseq in found.entries:
        if modseq in session.own:
            continue
        name = session.directory.get(mailbox_id) if mailbox_id else ""
        if name is None:
            continue
        event = notify.MAILBOX_METADATA if mailbox_id else notify.SERVER_METADATA
        if (name and of_server_only) if wants is None else not wants(event, mailbox_id, name):
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


def fetch_lines(session: Session, numbers: Sequence[int], rows: Sequence[FlagRow]) -> bytes:
    """FETCH responses that tell of changed flags, without those of messages not in view (0)."""
    if not rows:
        return b""
    uids, flags, keywords, modseqs = zip(*rows, strict=True)
    texts = map(wire.flag_list, flags, keywords)
    template, columns = b"* %d FETCH (UID %d FLAGS (%b)", [numbers, uids, texts]
    if session.uidonly:
        template, columns = b"* %d UIDFETCH (FLAGS (%b)", [uids, texts]
    if session.condstore:
        template += b" MODSEQ (%d)"
        columns.append(modseqs)
    lines = map((template + b")\r\n").__mod__, zip(*columns, strict=True))
    return b"".join(compress(lines, numbers))


async def _tell_messages(
    conn: IMAPServer,
    session: Session,
    view: View,
    changes: Changes,
    updates: Sequence[contexts.Update],
    rules: Watch | None,
    between: bool,
) -> None:
    """Write changes of the selected mailbox, and take them into the view.

    `rules` are those of NOTIFY, None to tell everything.
    """
    if changes.keywords != view.keywords and not changes.gone:
        view.keywords = changes.keywords
        conn.send(flags_line(view.keywords))
    changed = changes.changed
    own = view.own
    # Rows are ascending by UID, so new ones stand at the end.
    first_new = len(changed)
    while first_new and changed[first_new - 1].uid >= view.uidnext:
        first_new -= 1
    added = changed[first_new:]
    if changes.uidnext > view.uidnext:
        view.uidnext = changes.uidnext
    if added:
        base = len(view.uids) + 1
        view.uids = view.uids + array("I", [row.uid for row in added])
        conn.send(b"* %d EXISTS\r\n" % len(view.uids))
        told = [(n, row) for n, row in enumerate(added, start=base) if row.modseq not in own]
        numbers = [number for number, _ in told]
        items = None if rules is None or rules.selected is None else rules.selected.items
        if items is None:
            await _tell_flags(conn, session, numbers, [row for _, row in told])
        else:
            await _tell_new(conn, session, view, numbers, items)
        for update in updates:
            # RFC 5465 7: before the response that names them.
            if update.context.items is not None:
                found = [number for number, row in told if update.results.has(row.uid)]
                await _tell_new(conn, session, view, found, update.context.items)
    contexts.tell(conn, view, updates)
    if between and rules is not None and rules.delayed:
        # RFC 5465 6.1.2: sequence numbers stay as they are until a command.
        view.held += [uid for uid in changes.vanished if view.number(uid)]
    elif changes.vanished or view.held:
        gone, view.held = [*view.held, *changes.vanished], []
        expunge(conn, session, view, gone)
    rows = [row for row in changed[:first_new] if row.modseq not in own]
    if rules is None or rules.flags:
        await _tell_flags(conn, session, list(view.numbers([row.uid for row in rows])), rows)
    if changes.modseq > view.modseq:
        view.modseq = changes.modseq
    if (added or changes.vanished) and not view.held:
        view.uids = conn.app.uids.share(
            view.mailbox_id, view.uidvalidity, view.modseq, view.uidnext, view.uids
        )
    view.own = {modseq for modseq in own if modseq > view.modseq}


async def _tell_flags(
    conn: IMAPServer, session: Session, numbers: Sequence[int], rows: Sequence[FlagRow]
) -> None:
    """FETCH responses as of `fetch_lines`, in pieces between which others have their turn."""
    for start in range(0, len(rows), _PIECE):
        if start:
            await conn.drain()
            await conn.sleep(0)
        stop = start + _PIECE
        conn.send(fetch_lines(session, numbers[start:stop], rows[start:stop]))


async def _tell_new(
    conn: IMAPServer, session: Session, view: View, numbers: Iterable[int], items: Items
) -> None:
    """FETCH of new messages, by ascending sequence numbers, with items that were asked for."""
    if session.condstore:
        # RFC 7162 3.2.10: by it the client knows up to where it has heard of changes.
        items = items.with_column(b"MODSEQ")
    slices = [(start - 1, stop) for start, stop in seqset.to_ranges(numbers)]
    try:
        await fetch.answer(conn, session, view, items, slices)
    except No as exc:
        conn.log.error("telling of new messages", err=exc)


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
