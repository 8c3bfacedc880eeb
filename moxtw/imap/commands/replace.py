"""REPLACE (RFC 8508): a new message in place of one, with nothing in between."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from moxtw.imap import seqset
from moxtw.imap.commands.append import refusal
from moxtw.imap.commands.incoming import MessageReader
from moxtw.imap.errors import Bad, No
from moxtw.imap.parser import Parser
from moxtw.imap.registry import Command, State
from moxtw.store import changing, mailboxes, messages
from moxtw.store.errors import NoSuchMailbox, StoreClosed
from moxtw.store.model import Added, Want
from moxtw.store.tx import Tx

if TYPE_CHECKING:
    from moxtw.imap.server import IMAPServer
    from moxtw.imap.session import View


def parse_replace(p: Parser) -> Parser:
    """Nothing yet: arguments are parsed as literals come in."""
    return p


def _message(view: View, ranges: seqset.Ranges, uid: bool) -> int:
    """The UID of the message to be replaced, 0 if there is none."""
    if len(ranges) != 1 or ranges[0][0] != ranges[0][1]:
        raise Bad("one message is replaced")
    number = ranges[0][0]
    if uid:
        if number == seqset.STAR:
            return view.uids[-1] if view.uids else 0
        return number if view.number(number) else 0
    if number == seqset.STAR:
        number = len(view.uids)
    return view.uids[number - 1] if 0 < number <= len(view.uids) else 0


async def run_replace(conn: IMAPServer, tag: bytes, p: Parser, uid: bool = False) -> bytes:
    """REPLACE and UID REPLACE: append one message, and expunge another, or neither."""
    session = conn.session
    assert session is not None and session.view is not None
    view = session.view
    p.space()
    old = _message(view, p.sequence_set(), uid)
    reader = MessageReader(conn, p)
    if view.readonly:
        reader.refused = No("the mailbox is selected read-only", b"NOPERM")
    elif not old:
        reader.refused = No("there is no such message", b"NONEXISTENT")
    try:
        await reader.read_one()
        if reader.refused is not None:
            raise reader.refused
    except BaseException:
        reader.discard()
        raise

    def job(tx: Tx) -> tuple[Added, int]:
        mailbox = mailboxes.find(tx, session.account_id, reader.name)
        if mailbox is None:
            raise NoSuchMailbox(reader.name)
        rows = messages.rows(tx, view.mailbox_id, [(old, old)], Want.SIZE)
        if not rows:
            raise No("the message has been expunged", b"EXPUNGEISSUED")
        # What goes makes room for what comes.
        limit = reader.quota + (rows[0].size or 0) if reader.quota else 0
        new = reader.messages[0]
        added = messages.add(tx, session.account_id, mailbox.id, new, quota=limit)
        gone = [(old, old)]
        modseq, _ = changing.expunge(
            tx, session.account_id, view.mailbox_id, gone, only_deleted=False
        )
        return added, modseq

    try:
        added, modseq = await conn.app.store.write(job)
    except StoreClosed:
        raise
    except Exception as exc:
        reader.discard()
        raise refusal(conn, exc) from exc
    # RFC 8508 4.1: the client learns where the new message is before the old one goes.
    conn.sendPositiveResponse(
        None, b"[APPENDUID %d %d] the new message is there" % (added.uidvalidity, added.uid)
    )
    session.wrote(added.modseq, added_to=view.mailbox_id)
    if session.condstore:
        # RFC 7162 3.2.7: what the removal took.
        return b"[HIGHESTMODSEQ %d] REPLACE done" % modseq
    return b"REPLACE done"


COMMANDS = (
    Command("REPLACE", State.SELECTED, parse_replace, run_replace, whole=False),
    Command(
        "UID REPLACE", State.SELECTED, parse_replace, partial(run_replace, uid=True), whole=False
    ),
)
