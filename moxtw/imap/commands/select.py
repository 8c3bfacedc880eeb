"""SELECT, EXAMINE, CLOSE, UNSELECT (RFC 9051 6.3.2, 6.4.1), with QRESYNC (RFC 7162 3.2.5)."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from moxtw.imap import notices, objectid, seqset, wire
from moxtw.imap.commands.basic import enable_condstore
from moxtw.imap.commands.flags import batches
from moxtw.imap.commands.mailbox import parse_name, valid_name
from moxtw.imap.errors import Bad, No
from moxtw.imap.parser import Parser
from moxtw.imap.registry import Command, State, no_arguments
from moxtw.imap.seqset import Ranges
from moxtw.imap.session import View, uid_required
from moxtw.store import changing, mailboxes, messages
from moxtw.store.errors import NoSuchMailbox
from moxtw.store.model import FlagRow, Mailbox
from moxtw.store.tx import Tx

if TYPE_CHECKING:
    from moxtw.imap.server import IMAPServer
    from moxtw.imap.session import Session


@dataclass(frozen=True, slots=True)
class Resync:
    """The QRESYNC parameter; `known` None for all UIDs, `match` pairs of number and UID."""

    uidvalidity: int
    modseq: int
    known: Ranges | None
    match: list[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Select:
    """Arguments of SELECT and EXAMINE."""

    name: str
    condstore: bool
    resync: Resync | None


def parse_select(p: Parser) -> Select:
    """The mailbox and parameters."""
    name = parse_name(p)
    condstore = False
    resync: Resync | None = None

    def parameter() -> None:
        nonlocal condstore, resync
        word = p.word()
        if word == b"CONDSTORE":
            condstore = True
        elif word == b"QRESYNC" and resync is None:
            resync = _parse_resync(p)
        else:
            raise Bad("unknown parameter of SELECT")

    if p.take(b" "):
        p.parenthesised(parameter)
    return Select(name, condstore, resync)


def _parse_resync(p: Parser) -> Resync:
    p.expect(b" (")
    uidvalidity = p.nz_number()
    p.space()
    modseq = p.number64()
    if not modseq:
        raise Bad("modseq above 0 expected")
    known: Ranges | None = None
    match: list[tuple[int, int]] = []
    if p.take(b" "):
        if not p.peek(b"("):
            known = _known(p.sequence_set())
            if p.take(b" "):
                match = _parse_match(p)
        else:
            match = _parse_match(p)
    p.expect(b")")
    return Resync(uidvalidity, modseq, known, match)


def _known(ranges: Ranges) -> Ranges:
    if any(seqset.STAR in pair for pair in ranges):
        raise Bad("* not allowed in the sets of QRESYNC")
    return seqset.resolve(ranges, 0)


def _parse_match(p: Parser) -> list[tuple[int, int]]:
    p.expect(b"(")
    numbers = _increasing(p.sequence_set())
    p.space()
    uids = _increasing(p.sequence_set())
    p.expect(b")")
    if len(numbers) != len(uids):
        raise Bad("sets of different length in QRESYNC")
    return list(zip(numbers, uids, strict=True))


def _increasing(ranges: Ranges) -> list[int]:
    """A set as single numbers; clients send some dozen pairs, a bound keeps it so."""
    result: list[int] = []
    for start, end in ranges:
        if seqset.STAR in (start, end) or start > end or (result and start <= result[-1]):
            raise Bad("sets of QRESYNC must increase, without *")
        if len(result) + end - start > 100_000:
            raise Bad("set of QRESYNC too large")
        result.extend(range(start, end + 1))
    return result


class Selected(NamedTuple):
    """What selecting reads from the store."""

    mailbox: Mailbox
    uids: array[int]
    unseen: int | None
    changed: list[FlagRow]
    vanished: list[int]


async def select(conn: IMAPServer, args: Select, readonly: bool) -> bytes:
    """SELECT and EXAMINE."""
    session = conn.session
    assert session is not None
    if session.view is not None:
        unselect(session)
        conn.sendUntaggedResponse(b"OK [CLOSED] the mailbox selected before is closed")
    if args.resync is not None and not session.qresync:
        raise Bad("QRESYNC must be enabled first")
    if session.uidonly and args.resync is not None and args.resync.match:
        raise uid_required()
    name = valid_name(args.name)
    if args.condstore:
        enable_condstore(conn)
    # Held back from now on, before anything is read: what this view will show is kept.
    handle = session.handle
    if handle is not None:
        handle.seen(session.polled)

    def job(tx: Tx) -> Selected | None:
        mailbox = mailboxes.find(tx, session.account_id, name)
        if mailbox is None:
            return None
        uids = conn.app.uids.load(tx, mailbox)
        first = messages.first_unseen(tx, mailbox.id) if mailbox.unseen else None
        changed: list[FlagRow] = []
        vanished: list[int] = []
        resync = args.resync
        if resync is not None and resync.uidvalidity == mailbox.uidvalidity:
            changes = messages.changes_since(tx, mailbox.id, resync.modseq)
            changed, vanished = changes.changed, changes.vanished
        return Selected(mailbox, uids, first, changed, vanished)

    try:
        found = await conn.app.store.read(job)
    except NoSuchMailbox:
        found = None
    if found is None:
        if handle is not None:
            handle.idle()
        raise No("there is no such mailbox", b"NONEXISTENT")
    mailbox = found.mailbox
    view = View(mailbox, found.uids, modseq=mailbox.modseq, readonly=readonly)
    view.uidonly = session.uidonly
    session.view = view
    if handle is not None:
        handle.seen(max(mailbox.modseq, session.polled))
    _describe(conn, session, view, mailbox, found.unseen)
    if args.resync is not None and args.resync.uidvalidity == mailbox.uidvalidity:
        _resync(conn, session, view, args.resync, found)
    # What the view shows is newer than what was told of before.
    return b"[READ-ONLY] done" if readonly else b"[READ-WRITE] done"


def _describe(
    conn: IMAPServer, session: Session, view: View, mailbox: Mailbox, unseen: int | None
) -> None:
    conn.send(notices.flags_line(mailbox.keywords))
    if view.readonly:
        conn.sendUntaggedResponse(b"OK [PERMANENTFLAGS ()] nothing can be changed")
    else:
        names = [name for name, _ in wire.SYSTEM_FLAGS]
        names.extend(keyword.encode("ascii", "replace") for keyword in mailbox.keywords)
        conn.sendUntaggedResponse(
            b"OK [PERMANENTFLAGS (%b \\*)] these are kept" % b" ".join(names)
        )
    if not session.rev2:
        conn.sendUntaggedResponse(b"0 RECENT")
    conn.sendUntaggedResponse(b"%d EXISTS" % len(view.uids))
    numbers = not session.rev2 and not session.uidonly
    if numbers and unseen is not None and (number := view.number(unseen)):
        conn.sendUntaggedResponse(b"OK [UNSEEN %d] first unseen" % number)
    conn.sendUntaggedResponse(b"OK [UIDVALIDITY %d] uids valid" % view.uidvalidity)
    conn.sendUntaggedResponse(b"OK [UIDNEXT %d] next uid" % view.uidnext)
    conn.sendUntaggedResponse(b"OK [%b] mailbox id" % objectid.mailbox(mailbox.id))
    if session.rev2:
        # RFC 9051 6.3.2. Others would take it for an answer to their next LIST.
        conn.send(notices.list_line(session, mailbox.name))
    if session.condstore:
        conn.sendUntaggedResponse(b"OK [HIGHESTMODSEQ %d] modseq" % mailbox.modseq)


def _resync(
    conn: IMAPServer, session: Session, view: View, resync: Resync, found: Selected
) -> None:
    """Changes since the modseq that the client knows (RFC 7162 3.2.5.1, 3.2.5.2)."""
    known = resync.known
    if known is None:
        known = [(1, view.uidnext - 1)] if view.uidnext > 1 else []
    vanished: Sequence[int] = seqset.select(found.vanished, known)
    gone = _should_know(view, resync, found.vanished)
    if gone:
        # RFC 7162 3.2.5.2: the client lists what it must have seen go; trust nothing from there.
        conn.sendUntaggedResponse(
            b"OK [ALERT] synchronisation trouble: your client lists messages that it was told"
            b" have gone; all removed messages follow"
        )
        absent: Ranges = []
        for start, end in known:
            end = min(end, view.uidnext - 1)
            inside = seqset.to_ranges(seqset.select(view.uids, [(start, end)]))
            absent.extend(seqset.complement(inside, start, end))
        pieces = seqset.format_pieces(absent)
    else:
        pieces = seqset.format_pieces(seqset.to_ranges(vanished))
    for piece in pieces:
        conn.send(b"* VANISHED (EARLIER) %b\r\n" % piece)
    rows = [row for row in found.changed if seqset.contains(known, row.uid)]
    conn.send(notices.fetch_lines(session, view.numbers([row.uid for row in rows]), rows))


def _should_know(view: View, resync: Resync, vanished: list[int]) -> bool:
    """Whether the client lists UIDs that went at a modseq that it claims to know."""
    since = set(vanished)
    for number, uid in resync.match:
        index = number - 1
        if index < len(view.uids) and view.uids[index] == uid:
            continue
        if uid < view.uidnext and not view.number(uid) and uid not in since:
            return True
    return False


async def run_select(conn: IMAPServer, tag: bytes, args: Select) -> bytes:
    """SELECT (RFC 9051 6.3.2)."""
    return await select(conn, args, readonly=False)


async def run_examine(conn: IMAPServer, tag: bytes, args: Select) -> bytes:
    """EXAMINE (RFC 9051 6.3.3)."""
    return await select(conn, args, readonly=True)


def unselect(session: Session) -> None:
    """No mailbox is selected any more."""
    session.view = None
    if session.handle is not None:
        session.handle.idle()


async def run_unselect(conn: IMAPServer, tag: bytes, args: None) -> bytes:
    """UNSELECT (RFC 3691)."""
    assert conn.session is not None
    unselect(conn.session)
    return b"UNSELECT done"


async def run_close(conn: IMAPServer, tag: bytes, args: None) -> bytes:
    """CLOSE (RFC 9051 6.4.1): expunge without telling, then as UNSELECT."""
    session = conn.session
    assert session is not None and session.view is not None
    view = session.view
    if not view.readonly:
        for ranges in [view.uid_ranges(group) for group in batches([(0, len(view.uids))])]:
            await conn.app.store.write(
                partial(
                    changing.expunge,
                    account_id=session.account_id,
                    mailbox_id=view.mailbox_id,
                    uid_ranges=ranges,
                )
            )
    unselect(session)
    return b"CLOSE done"


COMMANDS = (
    Command("SELECT", State.LOGGED_IN, parse_select, run_select, notices=False),
    Command("EXAMINE", State.LOGGED_IN, parse_select, run_examine, notices=False),
    Command("UNSELECT", State.SELECTED, no_arguments, run_unselect),
    Command("CLOSE", State.SELECTED, no_arguments, run_close),
)
