"""SORT and THREAD (RFC 5256, RFC 5957), with the RETURN options of SORT (RFC 5267)."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from moxtw.imap import contexts, esearch, searching, seqset
from moxtw.imap.commands.basic import enable_condstore
from moxtw.imap.commands.search import parse_charset, refuse_charset
from moxtw.imap.errors import Bad, No
from moxtw.imap.esearch import Return
from moxtw.imap.parser import Parser
from moxtw.imap.registry import Command, State
from moxtw.imap.searchkeys import Key, Keys, Now
from moxtw.imap.seqset import Ranges
from moxtw.mail import threading
from moxtw.store import mailboxes, messages, search, sorting
from moxtw.store.errors import NoSuchMailbox
from moxtw.store.orders import Order, Orders
from moxtw.store.search import Criterion
from moxtw.store.tx import Tx, ranges

if TYPE_CHECKING:
    from moxtw.imap.server import IMAPServer
    from moxtw.imap.session import View

T = TypeVar("T")

_KEYS: Final = {
    b"ARRIVAL": "arrival",
    b"CC": "cc",
    b"DATE": "date",
    b"DISPLAYFROM": "display_from",
    b"DISPLAYTO": "display_to",
    b"FROM": "from",
    # RFC 6203 6.
    b"RELEVANCY": "relevancy",
    b"SIZE": "size",
    b"SUBJECT": "subject",
    b"TO": "to",
}
_ALGORITHMS: Final = (b"ORDEREDSUBJECT", b"REFERENCES", b"REFS")
_MAX_CRITERIA: Final = 50


@dataclass(frozen=True, slots=True)
class Program:
    """Which messages: as of SEARCH, with a charset that must be there."""

    charset: bytes | None
    key: Key
    uses_modseq: bool


@dataclass(frozen=True, slots=True)
class Sort:
    """Arguments of SORT; `wanted` is None without RETURN."""

    uid: bool
    wanted: Return | None
    order: Order
    program: Program


@dataclass(frozen=True, slots=True)
class Thread:
    """Arguments of THREAD."""

    uid: bool
    algorithm: str
    program: Program


def _program(
    p: Parser, charset: bytes | None, wanted: Return | None = None, relevancy: bool = False
) -> Program:
    keys = Keys(p, lenient=charset is not None)
    key = keys.all()
    keys.check(wanted)
    if relevancy and not keys.uses_fuzzy:
        raise Bad("RELEVANCY needs FUZZY")
    return Program(charset, key, keys.uses_modseq)


def parse_sort(p: Parser, uid: bool = False) -> Sort:
    """SORT and UID SORT."""
    p.space()
    wanted = esearch.parse_return(p)
    order: dict[str, bool] = {}

    def criterion() -> None:
        reverse = False
        word = p.word()
        if word == b"REVERSE":
            p.space()
            reverse = True
            word = p.word()
        key = _KEYS.get(word)
        if key is None:
            raise Bad("unknown sort criterion")
        if len(order) >= _MAX_CRITERIA:
            raise Bad("too many sort criteria")
        # What is there twice decides nothing the second time.
        order.setdefault(key, reverse)

    p.parenthesised(criterion)
    p.space()
    charset = parse_charset(p)
    if wanted is None:
        # Some programs have it here.
        wanted = esearch.parse_return(p)
    program = _program(p, charset, wanted, "relevancy" in order)
    return Sort(uid, wanted, tuple(order.items()), program)


def parse_thread(p: Parser, uid: bool = False) -> Thread:
    """THREAD and UID THREAD."""
    p.space()
    algorithm = p.word()
    if algorithm not in _ALGORITHMS:
        raise Bad("unknown threading algorithm")
    p.space()
    return Thread(uid, algorithm.decode("ascii"), _program(p, parse_charset(p)))


def _criterion(conn: IMAPServer, view: View, program: Program, live: bool = False) -> Criterion:
    if program.charset is not None:
        raise refuse_charset()
    if program.uses_modseq:
        enable_condstore(conn, announce=False)
    return program.key(Now(view, conn.app.store.now(), live))


async def _with_keys(
    conn: IMAPServer, mailbox_id: int, job: Callable[[Tx], T], order: Order | None = None
) -> T:
    """What `job` reads, once all messages of the mailbox have the keys that it needs."""
    store = conn.app.store
    if order is not None and not sorting.needs_keys(order):
        return await store.read(job)

    def attempt(tx: Tx) -> tuple[T] | None:
        return None if sorting.is_due(tx, mailbox_id) else (job(tx),)

    while (result := await store.read(attempt)) is None:
        while await store.write(partial(_fill, mailbox_id)):
            pass
    return result[0]


def _fill(mailbox_id: int, tx: Tx) -> bool:
    return sorting.fill(tx, mailbox_id)


class _Found:
    """The messages that are found, by the UIDs that are in view; made and used in a job."""

    def __init__(self, known: array[int], uids: list[int]) -> None:
        self.numbers = seqset.Numbering(known)
        if len(uids) != len(known) or uids != known.tolist():
            uids = [uid for uid, number in zip(uids, self.numbers(uids), strict=True) if number]
        self.uids = uids


class _Where(NamedTuple):
    """Which messages a job works on: `found` in what is known of a mailbox, or (None) all.

    `score` is how relevant one is.
    """

    mailbox_id: int
    known: array[int]
    uidnext: int
    found: list[int] | None
    score: Callable[[int], int] | None = None

    def find(self, tx: Tx) -> _Found:
        """Those in view."""
        if self.found is not None:
            return _Found(self.known, self.found)
        with suppress(NoSuchMailbox):
            mailbox = mailboxes.get(tx, self.mailbox_id)
            if (mailbox.uidnext, mailbox.total + mailbox.deleted) == (
                self.uidnext,
                len(self.known),
            ):
                # All that is there is in view.
                return _Found(self.known, self.known.tolist())
        found = search.search(tx, self.mailbox_id, search.All(), self.uidnext)
        return _Found(self.known, found)


async def _search(conn: IMAPServer, view: View, criterion: Criterion) -> _Where:
    """Search, piece by piece unless all is wanted."""
    known, uidnext = view.uids, view.uidnext
    if isinstance(criterion, search.All):
        return _Where(view.mailbox_id, known, uidnext, None)
    result = await searching.find(conn, view.mailbox_id, criterion, uidnext, known)
    return _Where(view.mailbox_id, known, uidnext, result.uids, result.score)


class _Sorted(NamedTuple):
    """What a job has found.

    `uids` are in order, `members` the same ascending, if results are to be kept up to date.
    `saved` is for SAVE, `response` for the client.
    """

    uids: list[int]
    members: array[int] | None
    saved: Ranges
    response: bytes


def _sort_job(
    args: Sort, tag: bytes, orders: Orders | None, where: _Where, tx: Tx
) -> _Sorted:
    found = where.find(tx)
    mailbox_id = where.mailbox_id
    uids = sorting.ordered(
        tx, mailbox_id, found.uids, args.order, orders=orders, score=where.score
    )
    wanted = args.wanted
    members: array[int] | None = None
    saved: Ranges = []
    if wanted is not None and b"UPDATE" in wanted:
        # Some that were found may have gone.
        members = array("I", found.uids if len(uids) == len(found.uids) else sorted(uids))
    if wanted is not None and b"SAVE" in wanted:
        saved = wanted.saved(uids)
    modseq = 0
    if args.program.uses_modseq:
        told = uids if wanted is None else wanted.told(uids)
        rows = messages.flags(tx, mailbox_id, ranges(sorted(set(told))))
        modseq = max((row.modseq for row in rows), default=0)
    if wanted is not None:
        line = b"" if wanted.silent else esearch.response(
            tag,
            wanted,
            uids,
            uid=args.uid,
            numbered=None if args.uid else found.numbers,
            modseq=modseq,
            score=where.score,
        )
        return _Sorted(uids, members, saved, line)
    numbers = uids if args.uid else found.numbers(uids)
    line = b"* SORT" + b"".join([b" %d" % number for number in numbers])
    if modseq:
        # RFC 7162 3.1.5.
        line += b" (MODSEQ %d)" % modseq
    return _Sorted(uids, members, saved, line + b"\r\n")


async def run_sort(conn: IMAPServer, tag: bytes, args: Sort) -> bytes:
    """SORT: what SEARCH finds, in order."""
    view = conn.session.view if conn.session is not None else None
    assert view is not None
    wanted = args.wanted
    save = wanted is not None and b"SAVE" in wanted
    live = wanted is not None and b"UPDATE" in wanted
    if live:
        contexts.check_tag(view, tag)
    try:
        criterion = _criterion(conn, view, args.program, live)
        where = await _search(conn, view, criterion)
        job = partial(_sort_job, args, tag, conn.app.orders, where)
        found = await _with_keys(conn, view.mailbox_id, job, args.order)
    except No:
        if save:
            # RFC 5182 2.1: a search that fails leaves an empty result.
            view.saved = []
        raise
    if save:
        view.saved = found.saved
    if live:
        contexts.add(
            conn,
            view,
            tag,
            args.uid,
            criterion,
            found.uids,
            args.order,
            found.members,
            wanted.items if wanted is not None else None,
        )
    conn.send(found.response)
    return b"SORT done"


def _thread_job(args: Thread, orders: Orders | None, where: _Where, tx: Tx) -> bytes:
    found = where.find(tx)
    uids, forest = sorting.threads(
        tx, where.mailbox_id, found.uids, args.algorithm, orders=orders
    )
    if not uids:
        return b"* THREAD\r\n"
    numbers = uids if args.uid else found.numbers(uids)
    return b"* THREAD " + threading.wire(forest, numbers) + b"\r\n"


async def run_thread(conn: IMAPServer, tag: bytes, args: Thread) -> bytes:
    """THREAD: what SEARCH finds, in threads."""
    view = conn.session.view if conn.session is not None else None
    assert view is not None
    criterion = _criterion(conn, view, args.program)
    where = await _search(conn, view, criterion)
    job = partial(_thread_job, args, conn.app.orders, where)
    conn.send(await _with_keys(conn, view.mailbox_id, job))
    return b"THREAD done"


COMMANDS = (
    Command("SORT", State.SELECTED, parse_sort, run_sort, notices=False),
    Command("UID SORT", State.SELECTED, partial(parse_sort, uid=True), run_sort),
    Command("THREAD", State.SELECTED, parse_thread, run_thread, notices=False),
    Command("UID THREAD", State.SELECTED, partial(parse_thread, uid=True), run_thread),
)
