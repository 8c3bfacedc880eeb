"""SEARCH (RFC 9051 6.4.4, RFC 4731, RFC 5182, RFC 6203, RFC 9394)."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from moxtw.imap import contexts, esearch, searching, seqset
from moxtw.imap.commands.basic import enable_condstore
from moxtw.imap.errors import No
from moxtw.imap.esearch import Return
from moxtw.imap.parser import Parser
from moxtw.imap.registry import Command, State
from moxtw.imap.searchkeys import Key, Keys, Now
from moxtw.store.tx import Tx

if TYPE_CHECKING:
    from moxtw.imap.server import IMAPServer

_CHARSETS: Final = {b"US-ASCII", b"ASCII", b"UTF-8"}
# Numbers in one SEARCH response. Most clients look at one response only; some have a limit
# for the length of lines.
_PER_LINE: Final = 50_000
# Results of which an answer takes less time than a thread would.
_AT_ONCE: Final = 1000


@dataclass(frozen=True, slots=True)
class Search:
    """Arguments of SEARCH; `wanted` is None without RETURN. `charset` None for a known one."""

    uid: bool
    wanted: Return | None
    charset: bytes | None
    key: Key
    uses_modseq: bool


def parse_search(p: Parser, uid: bool = False) -> Search:
    """SEARCH and UID SEARCH."""
    p.space()
    wanted = esearch.parse_return(p)
    charset = parse_charset(p) if p.take(b"CHARSET ") else None
    keys = Keys(p, lenient=charset is not None)
    key = keys.all()
    keys.check(wanted)
    return Search(uid, wanted, charset, key, keys.uses_modseq)


def parse_charset(p: Parser) -> bytes | None:
    """The name of a charset and the space behind it; None for one that can be read."""
    name = p.astring().upper()
    p.space()
    return None if name in _CHARSETS else name


def refuse_charset() -> No:
    """What a search in a charset that cannot be read fails with (RFC 9051 6.4.4)."""
    return No("unknown charset", b"BADCHARSET (US-ASCII UTF-8)")


async def run_search(conn: IMAPServer, tag: bytes, args: Search) -> bytes:
    """SEARCH: numbers or UIDs of messages that fit."""
    session = conn.session
    assert session is not None and session.view is not None
    view = session.view
    wanted = args.wanted
    save = wanted is not None and b"SAVE" in wanted
    live = wanted is not None and b"UPDATE" in wanted
    if live:
        contexts.check_tag(view, tag)
    try:
        if args.charset is not None:
            raise refuse_charset()
        criterion = args.key(Now(view, conn.app.store.now(), live))
        if args.uses_modseq:
            enable_condstore(conn, announce=False)
        result = await searching.find(
            conn, view.mailbox_id, criterion, view.uidnext, view.uids
        )
        make = partial(_answer, tag, args, session.rev2, view.mailbox_id, view.uids, result)
        # What takes long is done beside the reactor.
        long = len(result.uids) > _AT_ONCE or args.uses_modseq
        answer = await conn.app.store.read(make) if long else make(None)
    except No:
        if save:
            # RFC 5182 2.1: a search that fails leaves an empty result.
            view.saved = []
        raise
    if save:
        view.saved = answer.saved
    if live:
        items = wanted.items if wanted is not None else None
        contexts.add(conn, view, tag, args.uid, criterion, answer.found, items=items)
    conn.send(answer.response)
    return b"SEARCH done"


class _Answer(NamedTuple):
    """The UIDs found, what SAVE keeps, and the response."""

    found: Sequence[int]
    saved: seqset.Ranges
    response: bytes


def _answer(
    tag: bytes,
    args: Search,
    rev2: bool,
    mailbox_id: int,
    known: array[int],
    result: searching.Found,
    tx: Tx | None,
) -> _Answer:
    """Make the answer; MODSEQ needs the store."""
    uids = result.uids
    numbering = seqset.Numbering(known)
    numbers = numbering(uids)
    # Rows of the store that this client has not been told of yet, or no longer, don't count.
    found = uids if 0 not in numbers else [uid for uid, n in zip(uids, numbers, strict=True) if n]
    modseqs: dict[int, int] = {}
    if args.uses_modseq and tx is not None:
        modseqs = searching.modseqs(tx, mailbox_id, found)
    wanted = args.wanted
    if wanted is None and not rev2:
        told = found if args.uid else [number for number in numbers if number]
        return _Answer(found, [], _plain(told, max(modseqs.values(), default=0)))
    if wanted is None:
        wanted = esearch.ALL
    response = b""
    if not wanted.silent:
        modseq = max([modseqs.get(uid, 0) for uid in wanted.told(found)], default=0)
        response = esearch.response(
            tag,
            wanted,
            found,
            uid=args.uid,
            numbered=None if args.uid else numbering,
            modseq=modseq,
            score=result.score,
        )
    saved = wanted.saved(found) if b"SAVE" in wanted else []
    return _Answer(array("I", found), saved, response)


def _plain(numbers: list[int], modseq: int) -> bytes:
    """SEARCH responses."""
    lines = []
    for start in range(0, len(numbers) or 1, _PER_LINE):
        piece = numbers[start : start + _PER_LINE]
        line = b"* SEARCH" + (b" " + b" ".join([b"%d" % number for number in piece])) * bool(piece)
        if modseq and start + _PER_LINE >= len(numbers):
            line += b" (MODSEQ %d)" % modseq
        lines.append(line + b"\r\n")
    return b"".join(lines)


COMMANDS = (
    Command("SEARCH", State.SELECTED, parse_search, run_search, notices=False),
    Command("UID SEARCH", State.SELECTED, partial(parse_search, uid=True), run_search),
)
