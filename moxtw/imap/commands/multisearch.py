"""ESEARCH: searching several mailboxes at once (RFC 7377)."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from moxtw.imap import esearch, searching, wire
from moxtw.imap.commands.basic import enable_condstore
from moxtw.imap.commands.search import parse_charset, refuse_charset
from moxtw.imap.errors import Bad
from moxtw.imap.esearch import Return
from moxtw.imap.mailboxfilter import SELECTED, MailboxFilter, meant, parse_filter
from moxtw.imap.parser import Parser
from moxtw.imap.registry import Command, State
from moxtw.imap.searchkeys import Key, Keys, Now
from moxtw.imap.session import View
from moxtw.store import mailboxes
from moxtw.store.model import Mailbox
from moxtw.store.tx import Tx

if TYPE_CHECKING:
    from moxtw.imap.server import IMAPServer

_MAX_FILTERS: Final = 100


@dataclass(frozen=True, slots=True)
class ESearch:
    """Arguments of ESEARCH. `charset` None for a known one."""

    filters: list[MailboxFilter]
    wanted: Return
    charset: bytes | None
    key: Key
    uses_modseq: bool


def parse_esearch(p: Parser) -> ESearch:
    """ESEARCH: where, what to return, and a search program."""
    p.space()
    filters = [MailboxFilter(SELECTED)]
    if p.take(b"IN "):
        filters = []

        def source() -> None:
            if p.peek(b"("):
                # RFC 7377 3, scope-options: none are defined.
                raise Bad("unknown options of the scope")
            filters.append(parse_filter(p, delayed=False))
            if len(filters) > _MAX_FILTERS:
                raise Bad("too many mailbox filters")

        p.parenthesised(source)
        p.space()
    wanted = esearch.parse_return(p) or esearch.ALL
    for option in (b"UPDATE", b"CONTEXT"):
        if option in wanted:
            raise Bad(f"{option.decode()} is for the selected mailbox only")
    selected_only = all(each.kind == SELECTED for each in filters)
    if b"SAVE" in wanted and not selected_only:
        # RFC 7377 2.2.
        raise Bad("SAVE goes with the selected mailbox only")
    charset = parse_charset(p) if p.take(b"CHARSET ") else None
    keys = Keys(p, lenient=charset is not None)
    key = keys.all()
    keys.check(wanted)
    if keys.uses_numbers or keys.uses_saved:
        # RFC 7377 2.1.
        raise Bad("sequence numbers and $ have no meaning here")
    return ESearch(filters, wanted, charset, key, keys.uses_modseq)


async def run_esearch(conn: IMAPServer, tag: bytes, args: ESearch) -> bytes:
    """ESEARCH: a response for each mailbox in which something fits."""
    session = conn.session
    assert session is not None
    selected = session.view
    if selected is None and all(each.kind == SELECTED for each in args.filters):
        raise Bad("no mailbox is selected")
    if args.charset is not None:
        raise refuse_charset()
    if args.uses_modseq:
        enable_condstore(conn, announce=False)

    def job(tx: Tx) -> list[Mailbox]:
        return meant(
            args.filters,
            mailboxes.all(tx, session.account_id),
            selected=0 if selected is None else selected.mailbox_id,
            subscribed=mailboxes.subscriptions_of(tx, session.account_id),
            account=conn.app.config.dynamic.accounts.get(session.account_name),
        )

    found = await conn.app.store.read(job)
    now = conn.app.store.now()
    if b"SAVE" in args.wanted and selected is not None:
        selected.saved = []
    for mailbox in found:
        view = selected
        if view is None or view.mailbox_id != mailbox.id:
            view = View(mailbox, array("I"), modseq=mailbox.modseq, readonly=True)
            # "*" stands for the last message there may be.
            view.uids = array("I", [mailbox.uidnext - 1] if mailbox.uidnext > 1 else [])
        criterion = args.key(Now(view, now, across=view is not selected))
        uids, score = await searching.find(conn, mailbox.id, criterion, view.uidnext)
        if view is selected:
            numbers = view.numbers(uids)
            uids = [uid for uid, number in zip(uids, numbers, strict=True) if number]
            if b"SAVE" in args.wanted:
                view.saved = args.wanted.saved(uids)
        if not uids or args.wanted.silent:
            continue
        modseq = 0
        if args.uses_modseq:
            known = await conn.app.store.read(
                lambda tx: searching.modseqs(tx, mailbox.id, uids)  # noqa: B023
            )
            modseq = max([known.get(uid, 0) for uid in args.wanted.told(uids)], default=0)
        place = b" MAILBOX %b UIDVALIDITY %d" % (
            wire.mailbox(mailbox.name, session.utf8),
            mailbox.uidvalidity,
        )
        conn.send(
            esearch.response(
                tag,
                args.wanted,
                uids,
                uid=True,
                modseq=modseq,
                mailbox=place,
                score=score,
            )
        )
        await conn.drain()
    return b"ESEARCH done"


COMMANDS = (Command("ESEARCH", State.LOGGED_IN, parse_esearch, run_esearch),)
