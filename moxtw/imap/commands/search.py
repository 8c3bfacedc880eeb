"""SEARCH (RFC 9051 6.4.4, RFC 4731, RFC 5182)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from moxtw.imap import seqset
from moxtw.imap.commands.basic import enable_condstore
from moxtw.imap.errors import Bad, No
from moxtw.imap.parser import Parser
from moxtw.imap.registry import Command, State
from moxtw.imap.searchkeys import Key, Keys, Now
from moxtw.store import messages, search
from moxtw.store.tx import Tx

if TYPE_CHECKING:
    from moxtw.imap.server import IMAPServer
    from moxtw.imap.session import View

_RETURN: Final = {b"MIN", b"MAX", b"ALL", b"COUNT", b"SAVE"}
_CHARSETS: Final = {b"US-ASCII", b"ASCII", b"UTF-8"}
# Numbers in one SEARCH response. Most clients look at one response only; some have a limit
# for the length of lines.
_PER_LINE: Final = 50_000


@dataclass(frozen=True, slots=True)
class Search:
    """Arguments of SEARCH; `options` is None without RETURN. `charset` None for a known one."""

    uid: bool
    options: frozenset[bytes] | None
    charset: bytes | None
    key: Key
    uses_modseq: bool


def parse_search(p: Parser, uid: bool = False) -> Search:
    """SEARCH and UID SEARCH."""
    p.space()
    options: frozenset[bytes] | None = None
    if p.take(b"RETURN "):
        options = frozenset(p.parenthesised(lambda: _option(p), empty=True)) or frozenset([b"ALL"])
        p.space()
    charset: bytes | None = None
    if p.take(b"CHARSET "):
        name = p.astring().upper()
        if name not in _CHARSETS:
            charset = name
        p.space()
    keys = Keys(p, lenient=charset is not None)
    key = keys.all()
    return Search(uid, options, charset, key, keys.uses_modseq)


def _option(p: Parser) -> bytes:
    word = p.word()
    if word not in _RETURN:
        raise Bad("unknown RETURN option of SEARCH")
    return word


async def run_search(conn: IMAPServer, tag: bytes, args: Search) -> bytes:
    """SEARCH: numbers or UIDs of messages that fit."""
    session = conn.session
    assert session is not None and session.view is not None
    view = session.view
    options = args.options
    save = options is not None and b"SAVE" in options
    try:
        if args.charset is not None:
            raise No("unknown charset", b"BADCHARSET (US-ASCII UTF-8)")
        criterion = args.key(Now(view, conn.app.store.now()))
        if args.uses_modseq:
            enable_condstore(conn, announce=False)
        uids, modseqs = await conn.app.store.read(partial(_job, view, criterion, args.uses_modseq))
    except No:
        if save:
            # RFC 5182 2.1: a search that fails leaves an empty result.
            view.saved = []
        raise
    # Rows of the store that this client has not been told of yet, or no longer, don't count.
    numbers = view.numbers(uids)
    found = [uid for uid, number in zip(uids, numbers, strict=True) if number]
    if options is None and not session.rev2:
        _plain(
            conn,
            found if args.uid else [number for number in numbers if number],
            max(modseqs.values(), default=0),
        )
        return b"SEARCH done"
    if options is None:
        options = frozenset([b"ALL"])
    _extended(conn, tag, args, options, view, found, modseqs)
    return b"SEARCH done"


def _job(
    view: View, criterion: search.Criterion, with_modseq: bool, tx: Tx
) -> tuple[list[int], dict[int, int]]:
    uids = search.search(tx, view.mailbox_id, criterion, view.uidnext)
    if not with_modseq or not uids:
        return uids, {}
    rows = messages.flags(tx, view.mailbox_id, [(uids[0], uids[-1])])
    wanted = set(uids)
    return uids, {row.uid: row.modseq for row in rows if row.uid in wanted}


def _plain(conn: IMAPServer, numbers: list[int], modseq: int) -> None:
    """SEARCH responses."""
    for start in range(0, len(numbers) or 1, _PER_LINE):
        piece = numbers[start : start + _PER_LINE]
        line = b"* SEARCH" + (b" " + b" ".join([b"%d" % number for number in piece])) * bool(piece)
        if modseq and start + _PER_LINE >= len(numbers):
            line += b" (MODSEQ %d)" % modseq
        conn.send(line + b"\r\n")


def _extended(
    conn: IMAPServer,
    tag: bytes,
    args: Search,
    options: frozenset[bytes],
    view: View,
    found: list[int],
    modseqs: dict[int, int],
) -> None:
    """The ESEARCH response (RFC 4731 3.1), and the saved result."""
    whole = bool(options & {b"ALL", b"COUNT"})
    ends = []
    if b"MIN" in options:
        ends += found[:1]
    if b"MAX" in options:
        ends += found[-1:]
    counted = found if whole or not ends else sorted(set(ends))
    if b"SAVE" in options:
        # RFC 5182 2.1: MIN and MAX alone save only those.
        only_ends = bool(options & {b"MIN", b"MAX"}) and not whole
        view.saved = seqset.to_ranges(sorted(set(ends)) if only_ends else found)
        if options == {b"SAVE"}:
            return

    def numbered(uids: list[int]) -> Sequence[int]:
        return uids if args.uid else view.numbers(uids)

    parts = [b'* ESEARCH (TAG "%b")' % tag]
    if args.uid:
        parts.append(b"UID")
    if found:
        if b"MIN" in options:
            parts.append(b"MIN %d" % numbered(found[:1])[0])
        if b"MAX" in options:
            parts.append(b"MAX %d" % numbered(found[-1:])[0])
        if b"ALL" in options:
            parts.append(b"ALL " + seqset.format_numbers(numbered(found)))
    if b"COUNT" in options:
        parts.append(b"COUNT %d" % len(found))
    modseq = max((modseqs.get(uid, 0) for uid in counted), default=0)
    if modseq:
        # RFC 7162 3.1.5: the highest of what is told.
        parts.append(b"MODSEQ %d" % modseq)
    conn.send(b" ".join(parts) + b"\r\n")


COMMANDS = (
    Command("SEARCH", State.SELECTED, parse_search, run_search, notices=False),
    Command("UID SEARCH", State.SELECTED, partial(parse_search, uid=True), run_search),
)
