"""STORE (RFC 9051 6.4.6, RFC 7162 3.1.3)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from moxtw.imap import notices, seqset
from moxtw.imap.commands.basic import enable_condstore
from moxtw.imap.commands.fetch import parse_message_set
from moxtw.imap.errors import Bad, No
from moxtw.imap.parser import Parser, split_flags
from moxtw.imap.registry import Command, State
from moxtw.imap.seqset import Ranges
from moxtw.imap.session import MessageSet
from moxtw.store import changing
from moxtw.store.errors import NoSuchMailbox
from moxtw.store.model import StoreResult
from moxtw.store.tx import Tx

if TYPE_CHECKING:
    from moxtw.imap.server import IMAPServer
    from moxtw.imap.session import Session, View

# Messages in one transaction, so that no job holds the writer for long; more of them where
# only flags change.
_BATCH: Final = 500
_FLAGS_BATCH: Final = 2000

# Where messages lie in a view: the place of the first, and that behind the last.
Slice = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Store:
    """Arguments of STORE; `op` is ``+``, ``-`` or ``=``."""

    numbers: MessageSet
    op: str
    silent: bool
    flags: int
    keywords: tuple[str, ...]
    unchanged_since: int | None


def parse_store(p: Parser, uid: bool = False) -> Store:
    """STORE and UID STORE."""
    p.space()
    numbers = parse_message_set(p, uid)
    p.space()
    unchanged_since: int | None = None
    if p.take(b"("):
        p.expect(b"UNCHANGEDSINCE")
        p.space()
        unchanged_since = p.number64()
        p.expect(b")")
        p.space()
    op = "="
    if p.take(b"+"):
        op = "+"
    elif p.take(b"-"):
        op = "-"
    word = p.word()
    if word not in (b"FLAGS", b"FLAGS.SILENT"):
        raise Bad("FLAGS expected")
    p.space()
    if p.peek(b"("):
        flags, keywords = p.flag_list()
    else:
        names = [p.flag()]
        while p.take(b" "):
            names.append(p.flag())
        flags, keywords = split_flags(names)
    return Store(numbers, op, word == b"FLAGS.SILENT", flags, keywords, unchanged_since)


def writable(session: Session) -> View:
    """The selected mailbox, which must not be read-only."""
    view = session.view
    assert view is not None
    if view.readonly:
        raise No("the mailbox is selected read-only", b"NOPERM")
    return view


async def run_store(conn: IMAPServer, tag: bytes, args: Store) -> bytes:
    """STORE: change flags and keywords."""
    session = conn.session
    assert session is not None
    view = writable(session)
    slices = view.slices(args.numbers)
    if args.unchanged_since is not None:
        enable_condstore(conn)
    failed: list[int] = []
    found = 0
    for group in batches(slices, _FLAGS_BATCH):
        ranges = view.uid_ranges(group)
        try:
            result = await conn.app.store.write(
                partial(_job, session.account_id, view.mailbox_id, ranges, args)
            )
        except NoSuchMailbox:
            raise No("the mailbox has been deleted", b"NONEXISTENT") from None
        # Before the change counts as told: what it came on top of matters.
        if args.silent:
            answer = b"".join(_silent(session, view, result))
        else:
            answer = _told(session, view, result)
        if result.changed:
            session.wrote(result.modseq, view.mailbox_id)
        if result.new_keywords:
            view.keywords = tuple(sorted({*view.keywords, *args.keywords}))
            conn.send(notices.flags_line(view.keywords))
        failed += result.failed
        found += len(result.changed) + len(result.unchanged) + len(result.failed)
        conn.send(answer)
        await conn.drain()
    if failed:
        modified = failed if args.numbers.uid else list(view.numbers(failed))
        return b"[MODIFIED %b] some messages have changed meanwhile" % seqset.format_numbers(
            modified
        )
    if found < sum(stop - start for start, stop in slices):
        return b"[EXPUNGEISSUED] some messages have been expunged"
    return b"STORE done"


def _job(
    account_id: int, mailbox_id: int, ranges: Ranges, args: Store, tx: Tx
) -> StoreResult:
    return changing.store_flags(
        tx,
        account_id,
        mailbox_id,
        ranges,
        args.op,
        args.flags,
        args.keywords,
        args.unchanged_since,
    )


def batches(slices: Sequence[Slice], most: int = 0) -> list[list[Slice]]:
    """Slices cut and grouped, at most `most` messages (by default `_BATCH`) in a group."""
    most = most or _BATCH
    groups: list[list[Slice]] = []
    room = 0
    for start, stop in slices:
        while start < stop:
            if not room:
                groups.append([])
                room = most
            end = min(start + room, stop)
            groups[-1].append((start, end))
            room -= end - start
            start = end
    return groups


def _silent(session: Session, view: View, result: StoreResult) -> Iterator[bytes]:
    """FETCH responses of a silent STORE.

    The modseq (RFC 7162 3.1.3); and flags where others had changed some that the client has not
    been told of: it only knows what it did itself (RFC 9051 6.4.6).
    """
    numbers = view.numbers([row.uid for row in result.changed])
    for number, row, before in zip(numbers, result.changed, result.before, strict=True):
        if before > view.modseq and before not in view.own:
            yield notices.fetch_lines(session, [number], [row])
        elif session.uidonly and session.condstore:
            yield b"* %d UIDFETCH (MODSEQ (%d))\r\n" % (row.uid, row.modseq)
        elif session.condstore:
            yield b"* %d FETCH (UID %d MODSEQ (%d))\r\n" % (number, row.uid, row.modseq)


def _told(session: Session, view: View, result: StoreResult) -> bytes:
    """FETCH responses with the new flags."""
    rows = result.changed
    if result.unchanged:
        rows = sorted(rows + result.unchanged)
    return notices.fetch_lines(session, view.numbers([row.uid for row in rows]), rows)


COMMANDS = (
    Command("STORE", State.SELECTED, parse_store, run_store, notices=False),
    Command("UID STORE", State.SELECTED, partial(parse_store, uid=True), run_store),
)
