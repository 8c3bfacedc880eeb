"""CAPABILITY, NOOP, LOGOUT, ID, ENABLE, NAMESPACE, COMPRESS, CHECK: about the connection."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moxtw.imap import capability, wire
from moxtw.imap.errors import Bad, Close, No
from moxtw.imap.parser import Parser
from moxtw.imap.registry import Command, State, no_arguments

if TYPE_CHECKING:
    from moxtw.imap.server import IMAPServer

# RFC 2971 3.3.
_MAX_ID_PAIRS = 30
_MAX_ID_KEY = 30
_MAX_ID_VALUE = 1024


async def run_capability(conn: IMAPServer, tag: bytes, args: None) -> bytes:
    """CAPABILITY (RFC 9051 6.1.1)."""
    conn.sendUntaggedResponse(conn.capability_text())
    return b"CAPABILITY done"


async def run_noop(conn: IMAPServer, tag: bytes, args: None) -> bytes:
    """NOOP (RFC 9051 6.1.2): tells what has changed."""
    return b"NOOP done"


async def run_check(conn: IMAPServer, tag: bytes, args: None) -> bytes:
    """CHECK (RFC 3501 6.4.1): there is nothing to do, all is on disk."""
    return b"CHECK done"


async def run_logout(conn: IMAPServer, tag: bytes, args: None) -> None:
    """LOGOUT (RFC 9051 6.1.3)."""
    raise Close(b"* BYE see you", tag + b" OK LOGOUT done")


def parse_id(p: Parser) -> dict[bytes, bytes | None]:
    """The arguments of ID: NIL, or keys with values. A key twice is Bad."""
    p.space()
    found: dict[bytes, bytes | None] = {}
    if p.take(b"NIL"):
        return found

    def pair() -> None:
        key = p.string().lower()
        p.space()
        value = p.nstring()
        if key in found:
            raise Bad("field twice in ID")
        if len(key) > _MAX_ID_KEY or len(value or b"") > _MAX_ID_VALUE:
            raise Bad("field of ID too long")
        if len(found) >= _MAX_ID_PAIRS:
            raise Bad("too many fields in ID")
        found[key] = value

    p.parenthesised(pair, empty=True)
    return found


async def run_id(conn: IMAPServer, tag: bytes, args: dict[bytes, bytes | None]) -> bytes:
    """ID (RFC 2971): who the client says it is, for the record of its login."""
    agent = " ".join(
        "{}={}".format(
            key.decode("utf-8", "replace"),
            '"' + (value or b"").decode("utf-8", "replace").replace('"', "'") + '"',
        )
        for key, value in args.items()
    )
    conn.login.identified(conn, agent)
    if agent:
        conn.log.info("client", agent=agent)
    version = b""
    if conn.session is not None:
        version = b' "version" ' + wire.string(conn.app.version.encode("ascii", "replace"))
    conn.sendUntaggedResponse(b'ID ("name" "moxtw"' + version + b")")
    return b"ID done"


def parse_enable(p: Parser) -> list[str]:
    """The arguments of ENABLE: one capability or more."""
    names = []
    while True:
        p.space()
        names.append(p.atom().decode("ascii").upper())
        if p.at_end():
            return names


async def run_enable(conn: IMAPServer, tag: bytes, names: list[str]) -> bytes:
    """ENABLE (RFC 9051 6.3.1): what the client may use from now on."""
    session = conn.session
    assert session is not None
    disabled = conn.login.capabilities_disabled(conn)
    became: list[str] = []
    for name in names:
        if name not in capability.ENABLEABLE or name in disabled:
            continue
        for one in (name, *capability.ENABLEABLE[name]):
            if one in session.enabled:
                continue
            became.append(capability.ENABLE_SPELLING.get(one, one))
            if one == "CONDSTORE":
                enable_condstore(conn)
            session.enable(one)
    conn.sendUntaggedResponse(b" ".join([b"ENABLED", *[n.encode("ascii") for n in became]]))
    return b"ENABLE done"


def enable_condstore(conn: IMAPServer, announce: bool = True) -> None:
    """CONDSTORE becomes active (RFC 7162 3.1): tell the modseq if a mailbox is selected."""
    session = conn.session
    assert session is not None
    if session.condstore:
        return
    session.enable("CONDSTORE")
    if announce and session.view is not None:
        conn.sendUntaggedResponse(
            b"OK [HIGHESTMODSEQ %d] CONDSTORE is on" % session.view.modseq
        )


async def run_namespace(conn: IMAPServer, tag: bytes, args: None) -> bytes:
    """NAMESPACE (RFC 9051 6.3.10): there are personal mailboxes only."""
    conn.sendUntaggedResponse(b'NAMESPACE (("" "/")) NIL NIL')
    return b"NAMESPACE done"


def parse_compress(p: Parser) -> None:
    """COMPRESS: by DEFLATE, there is nothing else."""
    p.space()
    if p.word() != b"DEFLATE":
        raise No("only DEFLATE is known")


async def run_compress(conn: IMAPServer, tag: bytes, args: None) -> None:
    """COMPRESS (RFC 4978): behind the reply everything is compressed, in both directions."""
    if conn.compressed:
        raise No("the connection is compressed already", b"COMPRESSIONACTIVE")
    conn.sendPositiveResponse(tag, b"DEFLATE active")
    conn.start_compression()


COMMANDS = (
    Command("CAPABILITY", State.ANY, no_arguments, run_capability),
    Command("NOOP", State.ANY, no_arguments, run_noop),
    Command("LOGOUT", State.ANY, no_arguments, run_logout),
    Command("ID", State.ANY, parse_id, run_id),
    Command("ENABLE", State.LOGGED_IN, parse_enable, run_enable),
    Command("NAMESPACE", State.LOGGED_IN, no_arguments, run_namespace),
    Command("COMPRESS", State.LOGGED_IN, parse_compress, run_compress, notices=False),
    Command("CHECK", State.SELECTED, no_arguments, run_check),
)
