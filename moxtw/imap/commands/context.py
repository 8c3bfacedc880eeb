"""CANCELUPDATE (RFC 5267 4.3.5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moxtw.imap.errors import No
from moxtw.imap.parser import Parser
from moxtw.imap.registry import Command, State

if TYPE_CHECKING:
    from moxtw.imap.server import IMAPServer


def parse_cancel(p: Parser) -> list[bytes]:
    """One or more quoted tags."""
    tags = []
    while True:
        p.space()
        tags.append(p.quoted())
        if p.at_end():
            return tags


async def run_cancel(conn: IMAPServer, tag: bytes, tags: list[bytes]) -> bytes:
    """Tell nothing more of the searches that had these tags."""
    view = conn.session.view if conn.session is not None else None
    assert view is not None
    missing = [each for each in tags if each not in view.contexts]
    if missing:
        raise No("there is no search with UPDATE that had this tag")
    for each in tags:
        view.contexts.pop(each, None)
    return b"CANCELUPDATE done"


COMMANDS = (Command("CANCELUPDATE", State.SELECTED, parse_cancel, run_cancel),)
