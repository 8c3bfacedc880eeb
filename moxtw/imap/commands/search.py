"""SEARCH (RFC 9051 6.4.4, RFC 4731, RFC 5182, RFC 9394)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from moxtw.imap import contexts, esearch, searching
from moxtw.imap.commands.basic import enable_condstore
from moxtw.imap.errors import No
from moxtw.imap.esearch import Return
from moxtw.imap.parser import Parser
from moxtw.imap.registry import Command, State
from moxtw.imap.searchkeys import Key, Keys, Now

if TYPE_CHECKING:
    from moxtw.imap.server import IMAPServer

_CHARSETS: Final = {b"US-ASCII", b"ASCII", b"UTF-8"}
# Numbers in one SEARCH response. Most clients look at one response only; some have a limit
# for the length of lines.
_PER_LINE: Final = 50_000


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
        uids = await searching.find(conn, view.mailbox_id, criterion, view.uidnext)
        modseqs: dict[int, int] = {}
        if args.uses_modseq:
            modseqs = await conn.app.store.read(
                lambda tx: searching.modseqs(tx, view.mailbox_id, uids)
            )
    except No:
        if save:
            # RFC 5182 2.1: a search that fails leaves an empty result.
            view.saved = []
        raise
    # Rows of the store that this client has not been told of yet, or no longer, don't count.
    numbers = view.numbers(uids)
    found = [uid for uid, number in zip(uids, numbers, strict=True) if number]
    if wanted is None and not session.rev2:
        _plain(
            conn,
            found if args.uid else [number for number in numbers if number],
            max(modseqs.values(), default=0),
        )
        return b"SEARCH done"
    if wanted is None:
        wanted = esearch.ALL
    if save:
        view.saved = wanted.saved(found)
    if live:
        contexts.add(conn, view, tag, args.uid, criterion, found)
    if not wanted.silent:
        modseq = max([modseqs.get(uid, 0) for uid in wanted.told(found)], default=0)
        numbered = None if args.uid else view.numbers
        conn.send(
            esearch.response(
                tag, wanted, found, uid=args.uid, numbered=numbered, modseq=modseq
            )
        )
    return b"SEARCH done"


def _plain(conn: IMAPServer, numbers: list[int], modseq: int) -> None:
    """SEARCH responses."""
    for start in range(0, len(numbers) or 1, _PER_LINE):
        piece = numbers[start : start + _PER_LINE]
        line = b"* SEARCH" + (b" " + b" ".join([b"%d" % number for number in piece])) * bool(piece)
        if modseq and start + _PER_LINE >= len(numbers):
            line += b" (MODSEQ %d)" % modseq
        conn.send(line + b"\r\n")


COMMANDS = (
    Command("SEARCH", State.SELECTED, parse_search, run_search, notices=False),
    Command("UID SEARCH", State.SELECTED, partial(parse_search, uid=True), run_search),
)
