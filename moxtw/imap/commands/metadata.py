"""GETMETADATA and SETMETADATA (RFC 5464), and METADATA of LIST (RFC 9590).

Entries below /private/ and /shared/ are kept alike, since only one account sees a mailbox.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from moxtw.imap import wire
from moxtw.imap.commands.mailbox import valid_name
from moxtw.imap.errors import Bad, No
from moxtw.imap.parser import Parser
from moxtw.imap.registry import Command, State
from moxtw.store import annotations as annotation_ops
from moxtw.store import mailboxes
from moxtw.store.annotations import Value
from moxtw.store.errors import AnnotationsTooLarge, NoSuchMailbox, TooManyAnnotations
from moxtw.store.tx import Tx

if TYPE_CHECKING:
    from moxtw.imap.server import IMAPServer
    from moxtw.imap.session import Session

_MAX_ENTRY: Final = 1000
# In LIST, where each is told for each mailbox.
_MAX_LISTED: Final = 100

_ROOTS: Final = ("private", "shared")
# RFC 5464 3.1: US-ASCII without controls and wildcards; no empty component.
_ENTRY: Final = re.compile(rb"(?:/[!-$&-)+-.0-~ ]+)+")


# -- Entries -------------------------------------------------------------------------------


def parse_entry(p: Parser, root: bool = False) -> str:
    """An entry name, in lower case. With `root`, the empty one that all are below."""
    name = p.astring()
    if root and name in (b"", b"/"):
        return ""
    if len(name) > _MAX_ENTRY:
        raise Bad("name of entry too long")
    if not _ENTRY.fullmatch(name):
        raise Bad("bad name of an entry")
    return name.decode("ascii").lower()


def parse_entries(p: Parser, root: bool = False) -> list[str]:
    """One entry, or several in parentheses."""
    if p.peek(b"("):
        return p.parenthesised(lambda: parse_entry(p, root))
    return [parse_entry(p, root)]


def parse_listed(p: Parser) -> list[str]:
    """The entries that LIST is to tell (RFC 9590 3), each once."""
    entries = list(dict.fromkeys(parse_entries(p)))
    if len(entries) > _MAX_LISTED:
        raise Bad("too many entries")
    return entries


def _above(entry: str) -> Iterable[str]:
    """The names above an entry, from near to far, the empty one last."""
    while entry:
        entry = entry.rpartition("/")[0]
        yield entry


def _selects(wanted: Collection[str], entry: str, depth: int | None) -> bool:
    """Whether an entry is one of those wanted, or at most `depth` (None: any) below one."""
    if entry in wanted:
        return True
    if depth == 0:
        return False
    for distance, above in enumerate(_above(entry), start=1):
        if above in wanted:
            return True
        if distance == depth:
            return False
    return False


def _value(value: Value | None, session: Session) -> bytes:
    """A value as it was given: a string, or binary data as a literal8."""
    if value is None:
        return b"NIL"
    data, is_string = value
    if not is_string:
        return b"~{%d}\r\n%b" % (len(data), data)
    # What is not UTF-8 can only be a literal.
    return wire.string(data, session.utf8 and _is_utf8(data))


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def response(
    session: Session, mailbox: str, entries: Sequence[tuple[str, Value | None]]
) -> bytes:
    """A METADATA response with values (RFC 5464 4.4.1); the mailbox "" is the server."""
    return b"* METADATA %b (%b)\r\n" % (
        _name(session, mailbox),
        b" ".join(
            [
                wire.astring(entry.encode("ascii")) + b" " + _value(value, session)
                for entry, value in entries
            ]
        ),
    )


def _name(session: Session, mailbox: str) -> bytes:
    return wire.mailbox(mailbox, session.utf8) if mailbox else b'""'


# -- GETMETADATA ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Get:
    """Arguments of GETMETADATA; `depth` None is infinity, `most` None no limit."""

    mailbox: str
    entries: frozenset[str]
    most: int | None
    depth: int | None


def parse_get(p: Parser) -> Get:
    """GETMETADATA. Options stand before the mailbox, or behind it as RFC 5464 4.2.1 shows it."""
    p.space()
    options: dict[bytes, int | None] = {}
    if p.peek(b"("):
        p.parenthesised(lambda: _option(p, options))
        p.space()
    mailbox = p.mailbox()
    p.space()
    if p.peek(b"(MAXSIZE ") or p.peek(b"(DEPTH "):
        p.parenthesised(lambda: _option(p, options))
        p.space()
    entries = parse_entries(p, root=True)
    return Get(
        mailbox, frozenset(entries), options.get(b"MAXSIZE"), options.get(b"DEPTH", 0)
    )


def _option(p: Parser, options: dict[bytes, int | None]) -> None:
    name = p.word()
    if name in options:
        raise Bad("option given twice")
    p.space()
    if name == b"MAXSIZE":
        options[name] = p.number()
    elif name == b"DEPTH":
        word = p.word()
        if word not in (b"0", b"1", b"INFINITY"):
            raise Bad("0, 1 or infinity expected")
        options[name] = None if word == b"INFINITY" else int(word)
    else:
        raise Bad("unknown option of GETMETADATA")


def _mailbox_id(tx: Tx, account_id: int, name: str) -> int:
    """The id of a mailbox, 0 for the server. Raises NoSuchMailbox."""
    return mailboxes.named(tx, account_id, name).id if name else 0


async def run_get(conn: IMAPServer, tag: bytes, args: Get) -> bytes:
    """GETMETADATA (RFC 5464 4.2): entries that there are, with their values."""
    session = conn.session
    assert session is not None
    account_id = session.account_id
    name = valid_name(args.mailbox) if args.mailbox else ""

    def job(tx: Tx) -> tuple[list[tuple[str, Value | None]], int]:
        mailbox_id = _mailbox_id(tx, account_id, name)
        found: list[tuple[str, Value | None]] = []
        longest = -1
        for _, key, size in annotation_ops.names(tx, account_id, mailbox_id):
            if not _selects(args.entries, key, args.depth):
                continue
            if args.most is not None and size > args.most:
                longest = max(longest, size)
                continue
            found.append((key, annotation_ops.value(tx, account_id, mailbox_id, key)))
        return found, longest

    try:
        found, longest = await conn.app.store.read(job)
    except NoSuchMailbox:
        raise No("there is no such mailbox", b"TRYCREATE") from None
    if found:
        conn.send(response(session, name, found))
    if longest >= 0:
        return b"[METADATA LONGENTRIES %d] GETMETADATA done" % longest
    return b"GETMETADATA done"


# -- SETMETADATA ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Set:
    """Arguments of SETMETADATA; None removes an entry."""

    mailbox: str
    values: list[tuple[str, Value | None]]


def parse_set(p: Parser) -> Set:
    """SETMETADATA: a mailbox, entries and values."""
    p.space()
    mailbox = p.mailbox()
    p.space()

    def pair() -> tuple[str, Value | None]:
        entry = parse_entry(p)
        p.space()
        return entry, _parse_value(p)

    return Set(mailbox, p.parenthesised(pair))


def _parse_value(p: Parser) -> Value | None:
    """A value (RFC 5464 5): NIL, a string, or a literal8."""
    c = p.buf[p.pos : p.pos + 1]
    if c == b'"':
        return Value(p.quoted(), True)
    if c == b"~":
        return Value(p.literal(binary=True), False)
    if c == b"{":
        return Value(p.literal(), True)
    p.expect(b"NIL")
    return None


def _check_name(entry: str) -> None:
    """RFC 5464 3.1: what entries that are set may be called. Raises No."""
    components = entry.split("/")[1:]
    if components[0] not in _ROOTS or len(components) < 2:
        raise No("entries are below /private/ or /shared/")
    if components[1] == "vendor" and len(components) < 4:
        raise No("vendor entries have the vendor's name and one more component")


async def run_set(conn: IMAPServer, tag: bytes, args: Set) -> bytes:
    """SETMETADATA (RFC 5464 4.3): all entries, or with an error none."""
    session = conn.session
    assert session is not None
    account_id = session.account_id
    name = valid_name(args.mailbox) if args.mailbox else ""
    for entry, _ in args.values:
        _check_name(entry)
    if len(args.values) > annotation_ops.MAX_COUNT:
        raise No("too many entries in a command", b"METADATA TOOMANY")

    def job(tx: Tx) -> int:
        mailbox_id = _mailbox_id(tx, account_id, name)
        return annotation_ops.change(tx, account_id, mailbox_id, args.values)

    try:
        modseq = await conn.app.store.write(job)
    except NoSuchMailbox:
        raise No("there is no such mailbox", b"TRYCREATE") from None
    except TooManyAnnotations as exc:
        raise No(str(exc), b"METADATA TOOMANY") from None
    except AnnotationsTooLarge as exc:
        raise No(str(exc), b"METADATA MAXSIZE %d" % annotation_ops.MAX_SIZE) from None
    if modseq:
        session.wrote(modseq)
    return b"SETMETADATA done"


# -- LIST ----------------------------------------------------------------------------------


class Listed:
    """What LIST tells of the annotations of mailboxes (RFC 9590): each entry, NIL without.

    `tx` is the transaction that is read in.
    """

    def __init__(self, tx: Tx, session: Session, entries: Sequence[str]) -> None:
        self.tx = tx
        self._session = session
        self._entries = entries
        self._known = {
            (mailbox_id, key)
            for mailbox_id, key, _ in annotation_ops.names(tx, session.account_id)
        }

    def line(self, mailbox_id: int, name: str) -> bytes:
        """The METADATA response for a mailbox."""
        values = [
            (
                entry,
                annotation_ops.value(self.tx, self._session.account_id, mailbox_id, entry)
                if (mailbox_id, entry) in self._known
                else None,
            )
            for entry in self._entries
        ]
        return response(self._session, name, values)


COMMANDS = (
    Command("GETMETADATA", State.LOGGED_IN, parse_get, run_get),
    Command("SETMETADATA", State.LOGGED_IN, parse_set, run_set),
)
