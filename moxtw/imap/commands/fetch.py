"""FETCH (RFC 9051 6.4.5, RFC 7162 3.1.4): answered batch by batch, as the client takes it.

Each batch is a job of the store that reads rows and makes finished lines of them; between
batches other connections are served, and a client that does not read is waited for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from moxtw.imap import binary, sections, seqset
from moxtw.imap.commands.basic import enable_condstore
from moxtw.imap.errors import Bad, No
from moxtw.imap.esearch import Partial, parse_partial
from moxtw.imap.fetchitems import FLAG_ROW, Items, parse_items
from moxtw.imap.parser import Parser
from moxtw.imap.registry import Command, State
from moxtw.imap.seqset import Ranges
from moxtw.imap.session import MessageSet
from moxtw.imap.wire import SEEN
from moxtw.mail import mime
from moxtw.store import changing, messages
from moxtw.store.errors import NoContent, NoSuchMailbox
from moxtw.store.model import FlagRow, Row, StoreResult
from moxtw.store.tx import Tx

if TYPE_CHECKING:
    from moxtw.imap.server import IMAPServer
    from moxtw.imap.session import Session, View

# Messages in a batch: of flags only, of other columns, of sections.
_FLAGS_BATCH: Final = 2000
_ROWS_BATCH: Final = 400
_SECTIONS_BATCH: Final = 64
# A batch of sections ends when it has so many bytes.
_BATCH_BYTES: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class Fetch:
    """Arguments of FETCH. `changed_since` None without; `vanished`: tell removals too.

    `part` is the range of the messages that is wanted (RFC 9394 3.3), None for all.
    """

    numbers: MessageSet
    items: Items
    changed_since: int | None
    vanished: bool
    part: Partial | None = None


def parse_message_set(p: Parser, uid: bool) -> MessageSet:
    """A sequence set, or ``$`` for the saved result (RFC 5182)."""
    if p.take(b"$"):
        return MessageSet(None, uid)
    return MessageSet(p.sequence_set(), uid)


def parse_fetch(p: Parser, uid: bool = False) -> Fetch:
    """FETCH and UID FETCH."""
    p.space()
    numbers = parse_message_set(p, uid)
    p.space()
    items = parse_items(p)
    changed_since: int | None = None
    vanished = False
    part: Partial | None = None

    def modifier() -> None:
        nonlocal changed_since, vanished, part
        word = p.word()
        if word == b"CHANGEDSINCE" and changed_since is None:
            p.space()
            changed_since = p.number64()
        elif word == b"VANISHED" and not vanished:
            vanished = True
        elif word == b"PARTIAL" and part is None:
            p.space()
            part = parse_partial(p)
        else:
            raise Bad("unknown FETCH modifier")

    if p.take(b" "):
        p.parenthesised(modifier)
    if vanished and (not uid or changed_since is None):
        raise Bad("VANISHED goes with UID FETCH and CHANGEDSINCE only")
    return Fetch(numbers, items, changed_since, vanished, part)


@dataclass(frozen=True, slots=True)
class Unseen:
    """The beginning of the response of a message that Seen must be set on first."""

    row: Row
    number: int


Piece = bytes | sections.Stream | sections.Encoded | Unseen


class Batch(NamedTuple):
    """What a job makes of some messages.

    `out` are pieces of the response; `done` is how many of the messages it covers, `unseen`
    whether Seen must be set on some, `expunged` whether some have gone, `failed` why something
    is left out.
    """

    out: list[Piece]
    done: int
    unseen: bool
    expunged: bool
    failed: No | NoContent | None = None


class _Job:
    """Reads and writes batches of one FETCH."""

    def __init__(self, session: Session, view: View, items: Items) -> None:
        self.mailbox_id = view.mailbox_id
        self.items = items
        self.utf8 = session.utf8
        self.uidonly = session.uidonly
        self.want = items.want()
        if items.flags_only:
            self.size = _FLAGS_BATCH
            self.run = self.flags
        elif items.sections:
            self.size = _SECTIONS_BATCH
            self.run = self.sections
        else:
            self.size = _ROWS_BATCH
            self.run = self.columns
        self.mark_seen = items.seen and not view.readonly

    def flags(self, tx: Tx, uids: Sequence[int], numbers: Sequence[int]) -> Batch:
        """UID, FLAGS and MODSEQ."""
        fields = messages.flag_columns(tx, self.mailbox_id, _ranges(uids, numbers))
        if fields[0] != uids:
            return self.columns(tx, uids, numbers)
        lines = self.items.lines_of(
            fields, numbers, self.utf8, FLAG_ROW, uidonly=self.uidonly
        )
        return Batch([b"".join(lines)], len(uids), False, False)

    def _rows(
        self, tx: Tx, uids: Sequence[int], numbers: Sequence[int]
    ) -> tuple[list[Any], Sequence[int], bool]:
        """Rows with their sequence numbers, and whether some messages have gone."""
        ranges = _ranges(uids, numbers)
        rows: list[Any] = messages.rows(tx, self.mailbox_id, ranges, self.want)
        if len(rows) == len(uids):
            return rows, numbers, False
        # Others have expunged some: they stay readable as long as this view shows them.
        live = {row.uid for row in rows}
        gone = seqset.to_ranges(uid for uid in uids if uid not in live)
        rows += messages.rows(tx, self.mailbox_id, gone, self.want, expunged=True)
        rows.sort(key=lambda row: row.uid)
        number_of = dict(zip(uids, numbers, strict=True))
        return rows, [number_of[row.uid] for row in rows], True

    def columns(self, tx: Tx, uids: Sequence[int], numbers: Sequence[int]) -> Batch:
        """What the store keeps ready."""
        rows, numbers, gone = self._rows(tx, uids, numbers)
        lines = self.items.lines(rows, numbers, self.utf8, uidonly=self.uidonly)
        return Batch([b"".join(lines)], len(uids), False, gone)

    def sections(self, tx: Tx, uids: Sequence[int], numbers: Sequence[int]) -> Batch:
        """Sections of messages, up to some size."""
        rows, numbers, gone = self._rows(tx, uids, numbers)
        starts = self.items.lines(rows, numbers, self.utf8, end=b" ", uidonly=self.uidonly)
        out: list[Piece] = []
        unseen = False
        size = done = 0
        last = -1
        failed: No | NoContent | None = None
        for row, number, start in zip(rows, numbers, starts, strict=True):
            tree = mime.unpack_tree(row.tree)
            written: list[Piece] = []
            for section in self.items.sections:
                try:
                    pieces = sections.write(tx, row, tree, section)
                except (No, NoContent) as exc:
                    # The other messages are sent nevertheless.
                    failed = failed or exc
                    continue
                if written:
                    written.append(b" ")
                for piece in pieces:
                    written.append(piece)
                    size += len(piece) if isinstance(piece, bytes) else piece.length
            last = row.uid
            if not written:
                continue
            if self.mark_seen and not row.flags & SEEN:
                out.append(Unseen(row, number))
                unseen = True
            else:
                out.append(start)
            out += written
            out.append(b")\r\n")
            if size >= _BATCH_BYTES:
                break
        done = len(uids)
        if size >= _BATCH_BYTES:
            done = uids.index(last) + 1
        return Batch(out if unseen else joined(out), done, unseen, gone, failed)

    def seen(
        self, out: Sequence[Piece], became: dict[int, FlagRow], condstore: bool
    ) -> list[Piece]:
        """The pieces with the beginnings of messages that Seen was set on.

        Their new flags stand there (RFC 9051 6.4.5), with the modseq for those who know it.
        """
        plain, with_flags = self.items, self.items.with_column(b"FLAGS")
        if condstore:
            with_flags = with_flags.with_column(b"MODSEQ")
        result: list[Piece] = []
        for piece in out:
            if isinstance(piece, Unseen):
                row, items = piece.row, plain
                now = became.get(row.uid)
                if now is not None:
                    items = with_flags
                    row = row._replace(flags=now.flags, keywords=now.keywords, modseq=now.modseq)
                piece = items.lines(
                    [row], [piece.number], self.utf8, end=b" ", uidonly=self.uidonly
                )[0]
            result.append(piece)
        return joined(result)


def _ranges(uids: Sequence[int], numbers: Sequence[int]) -> Ranges:
    """UID ranges for messages: between neighbours by number there is no other live message."""
    if isinstance(numbers, range) and uids:
        return [(uids[0], uids[-1])]
    ranges: Ranges = []
    start = 0
    for index in range(1, len(uids) + 1):
        if index == len(uids) or numbers[index] != numbers[index - 1] + 1:
            ranges.append((uids[start], uids[index - 1]))
            start = index
    return ranges


def joined(pieces: list[Piece]) -> list[Piece]:
    """The same with neighbouring bytes made one."""
    result: list[Piece] = []
    run: list[bytes] = []
    for piece in pieces:
        if isinstance(piece, bytes):
            run.append(piece)
        else:
            result.append(b"".join(run))
            result.append(piece)
            run = []
    if run:
        result.append(b"".join(run))
    return result


def _cut(slices: Sequence[tuple[int, int]], part: Partial) -> list[tuple[int, int]]:
    """The slices of those messages that are in the range."""
    first, last = part.cut(sum(stop - start for start, stop in slices))
    found = []
    passed = 0
    for start, stop in slices:
        low = start + max(first - passed, 0)
        high = min(stop, start + last - passed)
        if low < high:
            found.append((low, high))
        passed += stop - start
    return found


def _take(
    view: View, slices: deque[tuple[int, int]], most: int
) -> tuple[list[int], Sequence[int]]:
    """UIDs and sequence numbers of the first messages in slices, which are taken out."""
    start, stop = slices[0]
    if stop - start >= most or len(slices) == 1:
        # All from one slice: no need to go through them.
        slices.popleft()
        end = min(stop, start + most)
        if end < stop:
            slices.appendleft((end, stop))
        return view.uids[start:end].tolist(), range(start + 1, end + 1)
    uids: list[int] = []
    numbers: list[int] = []
    while slices and len(uids) < most:
        start, stop = slices.popleft()
        end = min(stop, start + most - len(uids))
        uids.extend(view.uids[start:end])
        numbers.extend(range(start + 1, end + 1))
        if end < stop:
            slices.appendleft((end, stop))
    return uids, numbers


async def run_fetch(conn: IMAPServer, tag: bytes, args: Fetch) -> bytes:
    """FETCH and UID FETCH."""
    session = conn.session
    assert session is not None and session.view is not None
    view = session.view
    if args.vanished and not session.qresync:
        raise Bad("VANISHED needs QRESYNC to be enabled")
    slices = view.slices(args.numbers)
    if args.part is not None:
        # Before CHANGEDSINCE (RFC 9394 3.4).
        slices = _cut(slices, args.part)
    items = args.items
    uid = args.numbers.uid
    asks_modseq = any(column.name == b"MODSEQ" for column in items.columns)
    if args.changed_since is not None or asks_modseq:
        enable_condstore(conn)
    if args.changed_since is not None or (uid and session.qresync):
        items = items.with_column(b"MODSEQ")
    if args.changed_since is not None:
        slices = await _changed(conn, view, args, slices)
    if await answer(conn, session, view, items, slices):
        return b"[EXPUNGEISSUED] some messages have been expunged"
    return b"FETCH done"


async def answer(
    conn: IMAPServer,
    session: Session,
    view: View,
    items: Items,
    slices: Sequence[tuple[int, int]],
) -> bool:
    """Write FETCH responses for messages; whether some of them have been expunged meanwhile.

    Raises No, after all the others, if something cannot be sent.
    """
    job = _Job(session, view, items)
    expunged = False
    failed: No | NoContent | None = None
    left = deque(slices)
    while left:
        uids, numbers = _take(view, left, job.size)
        batch = await conn.app.store.read(partial(_call, job, uids=uids, numbers=numbers))
        if batch.done < len(uids):
            rest = seqset.to_ranges(numbers[batch.done :])
            left.extendleft((start - 1, stop) for start, stop in reversed(rest))
        expunged = expunged or batch.expunged
        failed = failed or batch.failed
        out = batch.out
        if batch.unseen:
            became = await _set_seen(conn, session, view, out)
            out = job.seen(out, became, session.condstore)
        with binary.unbroken(conn):
            for piece in out:
                if isinstance(piece, bytes):
                    conn.send(piece)
                elif isinstance(piece, sections.Encoded):
                    await binary.send(conn, piece)
                else:
                    assert isinstance(piece, sections.Stream)
                    await _stream(conn, piece)
        await conn.drain()
    if isinstance(failed, NoContent):
        conn.log.error("message content missing", err=failed)
        raise No("the content of a message is missing")
    if failed is not None:
        raise failed
    return expunged


def _call(job: _Job, tx: Tx, uids: Sequence[int], numbers: Sequence[int]) -> Batch:
    return job.run(tx, uids, numbers)


async def _changed(
    conn: IMAPServer, view: View, args: Fetch, slices: Sequence[tuple[int, int]]
) -> list[tuple[int, int]]:
    """Those of the messages that have changed since a modseq; tells the removed ones too."""
    since = args.changed_since
    assert since is not None

    def job(tx: Tx) -> tuple[list[int], list[int]]:
        changes = messages.changes_since(tx, view.mailbox_id, since)
        return [row.uid for row in changes.changed], changes.vanished

    changed, vanished = await conn.app.store.read(job)
    if args.vanished:
        asked: Ranges = view.saved
        if args.numbers.ranges is not None:
            asked = seqset.resolve(args.numbers.ranges, view.uidnext - 1)
        # Those still in view are told in their turn, as removals that the client knows not yet.
        gone = [uid for uid in seqset.select(vanished, asked) if not view.number(uid)]
        for piece in seqset.format_pieces(seqset.to_ranges(gone)):
            conn.send(b"* VANISHED (EARLIER) %b\r\n" % piece)
    wanted = seqset.to_ranges(number for number in view.numbers(changed) if number)
    asked_numbers = seqset.normalise((start + 1, stop) for start, stop in slices)
    return [(start - 1, stop) for start, stop in seqset.intersect(wanted, asked_numbers)]


async def _stream(conn: IMAPServer, source: sections.Stream) -> None:
    """Send bytes of a large section, piece after piece."""
    for offset in range(0, source.length, sections.PIECE):
        data = await conn.app.store.read(partial(sections.read, source=source, offset=offset))
        conn.send(data if source.nul else sections.without_nul(data))
        await conn.drain()


async def _set_seen(
    conn: IMAPServer, session: Session, view: View, out: Sequence[Piece]
) -> dict[int, FlagRow]:
    """Set Seen on messages whose responses are about to go out; gives their flags by UID."""
    ranges = seqset.to_ranges(piece.row.uid for piece in out if isinstance(piece, Unseen))

    def job(tx: Tx) -> StoreResult | None:
        try:
            return changing.store_flags(
                tx, session.account_id, view.mailbox_id, ranges, "+", SEEN
            )
        except NoSuchMailbox:
            return None

    result = await conn.app.store.write(job)
    if result is None:
        return {}
    if result.changed:
        session.wrote(result.modseq, view.mailbox_id)
    return {row.uid: row for row in (*result.changed, *result.unchanged)}


COMMANDS = (
    Command("FETCH", State.SELECTED, parse_fetch, run_fetch, notices=False),
    Command("UID FETCH", State.SELECTED, partial(parse_fetch, uid=True), run_fetch),
)
