"""STATUS (RFC 9051 6.3.11), also for LIST with STATUS (RFC 5819)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from moxtw.imap import wire
from moxtw.imap.commands.basic import enable_condstore
from moxtw.imap.commands.mailbox import parse_name, valid_name
from moxtw.imap.errors import Bad, No
from moxtw.imap.parser import Parser
from moxtw.imap.registry import Command, State
from moxtw.store import mailboxes

if TYPE_CHECKING:
    from moxtw.imap.server import IMAPServer
    from moxtw.imap.session import Session
    from moxtw.store.model import Mailbox

_ITEMS: Final[dict[bytes, Callable[[Mailbox], bytes]]] = {
    b"MESSAGES": lambda mailbox: b"%d" % mailbox.messages,
    b"UIDNEXT": lambda mailbox: b"%d" % mailbox.uidnext,
    b"UIDVALIDITY": lambda mailbox: b"%d" % mailbox.uidvalidity,
    b"UNSEEN": lambda mailbox: b"%d" % mailbox.unseen,
    b"DELETED": lambda mailbox: b"%d" % mailbox.deleted,
    # RFC 9208 4.1.4: octets freed by an expunge.
    b"DELETED-STORAGE": lambda mailbox: b"%d" % mailbox.deleted_size,
    b"SIZE": lambda mailbox: b"%d" % mailbox.size,
    b"RECENT": lambda mailbox: b"0",
    # RFC 7889 3.1: NIL, no limit for this mailbox.
    b"APPENDLIMIT": lambda mailbox: b"NIL",
    b"HIGHESTMODSEQ": lambda mailbox: b"%d" % mailbox.modseq,
    # RFC 8474 4.3.
    b"MAILBOXID": lambda mailbox: b"(F%d)" % mailbox.id,
}


def parse_items(p: Parser) -> list[bytes]:
    """Status items in parentheses. Unknown ones are Bad."""

    def item() -> bytes:
        name = p.word()
        if name not in _ITEMS:
            raise Bad("unknown status item")
        return name

    # Each is told once.
    return list(dict.fromkeys(p.parenthesised(item)))


def parse_status(p: Parser) -> tuple[str, list[bytes]]:
    """The mailbox and what to tell of it."""
    name = parse_name(p)
    p.space()
    return name, parse_items(p)


def status_line(session: Session, mailbox: Mailbox, items: Sequence[bytes]) -> bytes:
    """A STATUS response."""
    values = b" ".join([item + b" " + _ITEMS[item](mailbox) for item in items])
    return b"* STATUS %b (%b)\r\n" % (wire.mailbox(mailbox.name, session.utf8), values)


def asked(conn: IMAPServer, items: Sequence[bytes]) -> None:
    """Asking for HIGHESTMODSEQ enables CONDSTORE (RFC 7162 3.1)."""
    if b"HIGHESTMODSEQ" in items:
        enable_condstore(conn, announce=False)


async def run_status(conn: IMAPServer, tag: bytes, args: tuple[str, list[bytes]]) -> bytes:
    """STATUS: counts of a mailbox."""
    session = conn.session
    assert session is not None
    name = valid_name(args[0])
    mailbox = await conn.app.store.read(lambda tx: mailboxes.find(tx, session.account_id, name))
    if mailbox is None:
        raise No("there is no such mailbox", b"NONEXISTENT")
    asked(conn, args[1])
    conn.send(status_line(session, mailbox, args[1]))
    return b"STATUS done"


COMMANDS = (Command("STATUS", State.LOGGED_IN, parse_status, run_status),)
