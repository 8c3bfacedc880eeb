"""COPY, MOVE, EXPUNGE and their UID forms (RFC 9051 6.4.3, 6.4.7, 6.4.8)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from moxtw.imap import notices, seqset
from moxtw.imap.commands import quota
from moxtw.imap.commands.fetch import parse_message_set
from moxtw.imap.commands.flags import batches, writable
from moxtw.imap.commands.mailbox import parse_name, valid_name
from moxtw.imap.errors import No
from moxtw.imap.parser import Parser
from moxtw.imap.registry import Command, State, no_arguments
from moxtw.imap.seqset import Ranges
from moxtw.imap.session import MessageSet
from moxtw.store import changing, longcopy, mailboxes, transfer
from moxtw.store.errors import NoSuchMailbox, OverQuota
from moxtw.store.model import CopyResult
from moxtw.store.tx import Tx

if TYPE_CHECKING:
    from moxtw.imap.server import IMAPServer
    from moxtw.imap.session import View

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Copy:
    """Arguments of COPY and MOVE."""

    numbers: MessageSet
    name: str


def parse_copy(p: Parser, uid: bool = False) -> Copy:
    """COPY, MOVE and their UID forms."""
    p.space()
    numbers = parse_message_set(p, uid)
    return Copy(numbers, parse_name(p))


@dataclass(frozen=True, slots=True)
class _Job:
    """The transactions of a COPY or MOVE; each call of `move` or `copy` is one."""

    account_id: int
    source_id: int
    name: str
    quota: int
    # Known once the first transaction has found them.
    dest_id: int = 0
    copy_id: int = 0

    def _found(self, tx: Tx) -> int:
        """The destination, which may be renamed between two transactions."""
        if self.dest_id:
            return self.dest_id
        dest = mailboxes.find(tx, self.account_id, self.name)
        if dest is None:
            raise NoSuchMailbox(self.name)
        return dest.id

    def move(self, ranges: Ranges, tx: Tx) -> tuple[int, CopyResult]:
        """Move messages; the destination, and what was done."""
        dest_id = self._found(tx)
        return dest_id, transfer.move(tx, self.account_id, self.source_id, ranges, dest_id)

    def copy(self, ranges: Ranges, last: bool, tx: Tx) -> tuple[int, int, CopyResult]:
        """Copy messages; the destination, an id of what is not complete yet, what was done."""
        dest_id = self._found(tx)
        if dest_id == self.source_id:
            raise No("the messages are in that mailbox already", b"CANNOT")
        place = (tx, self.account_id, self.source_id, ranges, dest_id, self.quota)
        if not last:
            copy_id = self.copy_id or tx.new_id()
            return dest_id, copy_id, longcopy.copy_part(*place, copy_id)
        result = transfer.copy(*place)
        if self.copy_id:
            longcopy.complete(tx, self.copy_id)
        return dest_id, 0, result


def _job(conn: IMAPServer, view: View, name: str) -> _Job:
    assert conn.session is not None
    return _Job(conn.session.account_id, view.mailbox_id, name, quota.limit(conn))


async def _write(conn: IMAPServer, job: Callable[[Tx], T]) -> T:
    try:
        return await conn.app.store.write(job)
    except NoSuchMailbox:
        raise No("there is no such mailbox", b"TRYCREATE") from None
    except OverQuota:
        raise No("the account has no room for them", b"OVERQUOTA") from None


def _copyuid(result: CopyResult) -> bytes:
    return b"[COPYUID %d %b %b]" % (
        result.uidvalidity,
        seqset.format_numbers(result.source_uids),
        seqset.format_numbers(result.dest_uids),
    )


async def run_copy(conn: IMAPServer, tag: bytes, args: Copy) -> bytes:
    """COPY (RFC 9051 6.4.7): all or none, of many in several transactions."""
    session = conn.session
    assert session is not None and session.view is not None
    view = session.view
    job = _job(conn, view, valid_name(args.name))
    copied: list[CopyResult] = []
    groups = batches(view.slices(args.numbers)) or [[]]
    try:
        for number, group in enumerate(groups, 1):
            write = partial(job.copy, view.uid_ranges(group), number == len(groups))
            dest_id, copy_id, result = await _write(conn, write)
            job = replace(job, dest_id=dest_id, copy_id=copy_id)
            if result.source_uids:
                session.wrote(result.modseq, added_to=dest_id)
                copied.append(result)
    finally:
        if job.copy_id:
            await _undo(conn, job.copy_id)
    if not copied:
        raise No("no messages match")
    return _copyuid(*_joined(copied)) + b" COPY done"


async def _undo(conn: IMAPServer, copy_id: int) -> None:
    """Take back what a COPY has added that failed."""
    while await conn.app.store.write(lambda tx: longcopy.undo_some(tx, copy_id)):
        pass


async def run_move(conn: IMAPServer, tag: bytes, args: Copy) -> bytes:
    """MOVE: each message or not (RFC 6851 3.3), so that many need not be one transaction.

    Within a mailbox messages get new UIDs at its end.
    """
    session = conn.session
    assert session is not None
    view = writable(session)
    job = _job(conn, view, valid_name(args.name))
    moved: list[CopyResult] = []
    try:
        for group in batches(view.slices(args.numbers)) or [[]]:
            dest_id, result = await _write(conn, partial(job.move, view.uid_ranges(group)))
            job = replace(job, dest_id=dest_id)
            if result.source_uids:
                session.wrote(result.modseq, view.mailbox_id, added_to=dest_id)
                moved.append(result)
    finally:
        # What was moved before something failed is told in any case.
        for told in _joined(moved):
            conn.sendUntaggedResponse(b"OK " + _copyuid(told) + b" moved")
            notices.expunge(conn, session, view, told.source_uids)
    if not moved:
        raise No("no messages match")
    if session.qresync:
        return b"[HIGHESTMODSEQ %d] MOVE done" % moved[-1].modseq
    return b"MOVE done"


def _joined(results: list[CopyResult]) -> list[CopyResult]:
    """Results one after the other as one, for each mailbox that was the destination."""
    joined: list[CopyResult] = []
    for result in results:
        if joined and joined[-1].uidvalidity == result.uidvalidity:
            last = joined.pop()
            result = result._replace(
                source_uids=last.source_uids + result.source_uids,
                dest_uids=last.dest_uids + result.dest_uids,
            )
        joined.append(result)
    return joined


def parse_uid_expunge(p: Parser) -> MessageSet:
    """UID EXPUNGE: which UIDs."""
    p.space()
    return parse_message_set(p, True)


async def run_expunge(conn: IMAPServer, tag: bytes, args: MessageSet | None) -> bytes:
    """EXPUNGE and UID EXPUNGE: of messages that the client knows, those flagged Deleted."""
    session = conn.session
    assert session is not None
    view = writable(session)
    slices = [(0, len(view.uids))] if args is None else view.slices(args)
    modseq = 0
    for ranges in [view.uid_ranges(group) for group in batches(slices)]:

        def job(tx: Tx, ranges: Ranges = ranges) -> tuple[int, list[int]]:
            return changing.expunge(tx, session.account_id, view.mailbox_id, ranges)

        reached, uids = await conn.app.store.write(job)
        if uids:
            modseq = reached
            session.wrote(modseq, view.mailbox_id)
            notices.expunge(conn, session, view, uids)
    if modseq and session.condstore:
        return b"[HIGHESTMODSEQ %d] EXPUNGE done" % modseq
    return b"EXPUNGE done"


COMMANDS = (
    Command("COPY", State.SELECTED, parse_copy, run_copy),
    Command("UID COPY", State.SELECTED, partial(parse_copy, uid=True), run_copy),
    Command("MOVE", State.SELECTED, parse_copy, run_move),
    Command("UID MOVE", State.SELECTED, partial(parse_copy, uid=True), run_move),
    Command("EXPUNGE", State.SELECTED, no_arguments, run_expunge),
    Command("UID EXPUNGE", State.SELECTED, parse_uid_expunge, run_expunge),
)
