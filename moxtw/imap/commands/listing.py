"""LIST (RFC 9051 6.3.9, RFC 5258, RFC 5819, RFC 6154, RFC 9590) and LSUB (RFC 3501 6.3.9)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from moxtw.imap import listmatch, wire
from moxtw.imap.commands import metadata, status
from moxtw.imap.errors import Bad, No
from moxtw.imap.parser import Parser
from moxtw.imap.registry import Command, State
from moxtw.store import mailboxes
from moxtw.store.tx import Tx

if TYPE_CHECKING:
    from moxtw.imap.server import IMAPServer
    from moxtw.imap.session import Session
    from moxtw.store.model import Mailbox

_SELECT: Final = {b"SUBSCRIBED", b"REMOTE", b"RECURSIVEMATCH", b"SPECIAL-USE"}
_RETURN: Final = {b"SUBSCRIBED", b"CHILDREN", b"SPECIAL-USE", b"STATUS", b"METADATA"}
# Selection options that names must fit (RFC 5258 3.1, RFC 6154 5.2), in order of CHILDINFO.
_CRITERIA: Final = {b"SUBSCRIBED": None, b"SPECIAL-USE": None}.keys()
_MAX_PATTERNS: Final = 100
# Patterns times characters of names: some seconds' work for a reader of the store.
_MAX_WORK: Final = 20_000_000
# Bytes of responses that are made at once.
_PIECE: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class List:
    """Arguments of LIST. `options` is None for the plain form without options."""

    select: frozenset[bytes]
    reference: str
    patterns: list[str]
    options: frozenset[bytes] | None
    status: list[bytes]
    metadata: list[str]


def parse_list(p: Parser) -> List:
    """LIST in its plain or extended form."""
    p.space()
    extended = False
    select: list[bytes] = []
    if p.peek(b"("):
        extended = True
        select = p.parenthesised(lambda: _option(p, _SELECT), empty=True)
        p.space()
    reference = p.mailbox()
    p.space()
    if p.peek(b"("):
        extended = True
        patterns = p.parenthesised(p.list_mailbox)
        if len(patterns) > _MAX_PATTERNS:
            raise Bad("too many patterns")
    else:
        patterns = [p.list_mailbox()]
    options: list[bytes] = []
    items: list[bytes] = []
    entries: list[str] = []
    if p.take(b" RETURN "):
        extended = True

        def option() -> bytes:
            name = _option(p, _RETURN)
            if name == b"STATUS":
                p.space()
                items.extend(i for i in status.parse_items(p) if i not in items)
            elif name == b"METADATA":
                p.space()
                entries[:] = metadata.parse_listed(p)
            return name

        options = p.parenthesised(option, empty=True)
    if b"RECURSIVEMATCH" in select and _CRITERIA.isdisjoint(select):
        # RFC 5258 3.1.
        raise Bad("RECURSIVEMATCH goes with SUBSCRIBED or SPECIAL-USE only")
    return List(
        frozenset(select),
        reference,
        patterns,
        frozenset(options) if extended else None,
        items,
        entries,
    )


def _option(p: Parser, known: set[bytes]) -> bytes:
    name = p.word()
    if name not in known:
        raise Bad("unknown option of LIST")
    return name


def matching(reference: str, patterns: Collection[str], names: Collection[str]) -> set[str]:
    """The names that match one of the patterns. Raises No if that is too much to ask for."""
    if len(patterns) > 1 and len(patterns) * sum(map(len, names)) > _MAX_WORK:
        raise No("too many patterns for so many mailboxes", b"LIMIT")
    return set(filter(matcher(reference, patterns), names))


def matcher(reference: str, patterns: Iterable[str]) -> Callable[[str], bool]:
    """Whether a name matches one of the patterns."""
    joined = [listmatch.join(reference, pattern) for pattern in patterns]
    matchers = [listmatch.compile(pattern) for pattern in joined if pattern is not None]
    if len(matchers) == 1:
        return matchers[0]
    return lambda name: any(matches(name) for matches in matchers)


def ancestors(name: str) -> Iterator[str]:
    """The names above a name, from near to far."""
    while "/" in name:
        name = name.rpartition("/")[0]
        yield name


async def run_list(conn: IMAPServer, tag: bytes, args: List) -> bytes:
    """LIST: mailboxes whose names match, with attributes."""
    session = conn.session
    assert session is not None
    if args.patterns == [""] and not args.select:
        # RFC 9051 6.3.9: asks for the separator and the root of the reference.
        conn.sendUntaggedResponse(rb'LIST (\NoSelect) "/" ""')
        return b"LIST done"

    status.asked(conn, args.status)

    listing = _Listing(session, args)
    while piece := await conn.app.store.read(listing.piece):
        conn.send(piece)
        await conn.drain()
    return b"LIST done"


class _Listing:
    """The responses to a LIST in pieces, each made by a job of the store.

    Matching is done there, too, in the reader's thread: many patterns and many names take
    their time.
    """

    def __init__(self, session: Session, args: List) -> None:
        self._session = session
        self._args = args
        self._lines: Iterator[bytes] | None = None
        self._listed: metadata.Listed | None = None

    def piece(self, tx: Tx) -> bytes:
        """The next responses, none behind the last."""
        if self._lines is None:
            account_id = self._session.account_id
            listing = mailboxes.all(tx, account_id)
            subscribed = mailboxes.subscriptions_of(tx, account_id)
            if self._args.metadata:
                self._listed = metadata.Listed(tx, self._session, self._args.metadata)
            self._lines = list_lines(
                self._session, self._args, listing, subscribed, self._listed
            )
        if self._listed is not None:
            self._listed.tx = tx
        taken: list[bytes] = []
        size = 0
        for line in self._lines:
            taken.append(line)
            size += len(line)
            if size >= _PIECE:
                break
        return b"".join(taken)


def list_lines(
    session: Session,
    args: List,
    listing: list[Mailbox],
    subscribed: set[str],
    listed: metadata.Listed | None = None,
) -> Iterator[bytes]:
    """The responses to LIST, sorted by name."""
    by_name = {mailbox.name: mailbox for mailbox in listing}
    parents = {above for name in by_name for above in ancestors(name)}
    shown, childinfo = _selected(args, by_name, subscribed)
    options = args.options
    children = options is None or b"CHILDREN" in options
    tell_subscribed = b"SUBSCRIBED" in args.select or bool(options and b"SUBSCRIBED" in options)
    criteria = b" ".join([b'"%b"' % option for option in _CRITERIA if option in args.select])
    for name in sorted(shown):
        mailbox = by_name.get(name)
        attributes: list[bytes] = []
        if mailbox is None:
            attributes.append(rb"\NonExistent")
        if children:
            attributes.append(rb"\HasChildren" if name in parents else rb"\HasNoChildren")
        if tell_subscribed and name in subscribed:
            attributes.append(rb"\Subscribed")
        if mailbox is not None:
            attributes.extend(wire.uses(mailbox.special_use))
        info = b' ("CHILDINFO" (%b))' % criteria if name in childinfo else b""
        yield b'* LIST (%b) "/" %b%b\r\n' % (
            b" ".join(attributes),
            wire.mailbox(name, session.utf8),
            info,
        )
        if args.status and mailbox is not None:
            yield status.status_line(session, mailbox, args.status)
        if listed is not None and mailbox is not None:
            yield listed.line(mailbox.id, mailbox.name)


def _selected(
    args: List, by_name: dict[str, Mailbox], subscribed: set[str]
) -> tuple[set[str], set[str]]:
    """The names that LIST tells of, and those of them that have CHILDINFO (RFC 5258 4)."""
    names = set(by_name)
    if b"SUBSCRIBED" in args.select:
        names = set(subscribed)
    if b"SPECIAL-USE" in args.select:
        names = {name for name in names if name in by_name and by_name[name].special_use}
    shown = matching(args.reference, args.patterns, names)
    if b"RECURSIVEMATCH" not in args.select:
        return shown, set()
    # Names above stand for those below that are not shown themselves (RFC 5258 5, example 9).
    unseen = {above for name in names - shown for above in ancestors(name)}
    shown |= matching(args.reference, args.patterns, unseen)
    return shown, shown & {above for name in names for above in ancestors(name)}


def parse_lsub(p: Parser) -> tuple[str, str]:
    """LSUB: reference and pattern."""
    p.space()
    reference = p.mailbox()
    p.space()
    return reference, p.list_mailbox()


async def run_lsub(conn: IMAPServer, tag: bytes, args: tuple[str, str]) -> bytes:
    """LSUB: subscribed names, and with ``%`` names above them (RFC 3501 6.3.9)."""
    session = conn.session
    assert session is not None
    reference, pattern = args

    def job(tx: Tx) -> bytes:
        subscribed = mailboxes.subscriptions_of(tx, session.account_id)
        above: set[str] = set()
        if "%" in pattern:
            above.update(name for sub in subscribed for name in ancestors(sub))
        return b"".join(
            b'* LSUB (%b) "/" %b\r\n'
            % (
                b"" if name in subscribed else rb"\NoSelect",
                wire.mailbox(name, session.utf8),
            )
            for name in sorted(matching(reference, [pattern], subscribed | above))
        )

    conn.send(await conn.app.store.read(job))
    return b"LSUB done"


# Without notices: a LIST response that tells of a new mailbox would seem to be one of theirs.
COMMANDS = (
    Command("LIST", State.LOGGED_IN, parse_list, run_list, notices=False),
    Command("LSUB", State.LOGGED_IN, parse_lsub, run_lsub, notices=False),
)
