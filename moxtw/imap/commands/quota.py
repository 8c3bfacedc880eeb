"""GETQUOTA and GETQUOTAROOT (RFC 9208): one root for the account, with storage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moxtw.imap import wire
from moxtw.imap.commands.mailbox import parse_name
from moxtw.imap.errors import No
from moxtw.imap.parser import Parser
from moxtw.imap.registry import Command, State
from moxtw.store import accounts

if TYPE_CHECKING:
    from moxtw.imap.server import IMAPServer


def limit(conn: IMAPServer) -> int:
    """How many bytes of messages the account may hold; 0 for no limit."""
    session = conn.session
    assert session is not None
    config = conn.app.config
    account = config.dynamic.accounts.get(session.account_name)
    own = account.quota_message_size if account is not None else 0
    # A negative limit of the account lifts the general one.
    return max(own or config.static.quota_message_size, 0)


async def _quota(conn: IMAPServer) -> None:
    session = conn.session
    assert session is not None
    most = limit(conn)
    if most:
        used = await conn.app.store.read(lambda tx: accounts.usage(tx, session.account_id))
        conn.sendUntaggedResponse(
            b'QUOTA "" (STORAGE %d %d)' % (-(-used // 1024), -(-most // 1024))
        )


def parse_root(p: Parser) -> bytes:
    """The name of a quota root."""
    p.space()
    return p.astring()


async def run_getquota(conn: IMAPServer, tag: bytes, root: bytes) -> bytes:
    """GETQUOTA (RFC 9208 4.1.1)."""
    if root:
        raise No("there is no such quota root")
    await _quota(conn)
    return b"GETQUOTA done"


async def run_getquotaroot(conn: IMAPServer, tag: bytes, name: str) -> bytes:
    """GETQUOTAROOT (RFC 9208 4.1.2); the mailbox need not exist."""
    session = conn.session
    assert session is not None
    conn.sendUntaggedResponse(b'QUOTAROOT %b ""' % wire.mailbox(name, session.utf8))
    await _quota(conn)
    return b"GETQUOTAROOT done"


COMMANDS = (
    Command("GETQUOTA", State.LOGGED_IN, parse_root, run_getquota),
    Command("GETQUOTAROOT", State.LOGGED_IN, parse_name, run_getquotaroot),
)
