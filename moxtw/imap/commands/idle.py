"""IDLE (RFC 2177, RFC 9051 6.3.13): changes are told as they happen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moxtw.imap import contexts, notices
from moxtw.imap.errors import Close
from moxtw.imap.registry import Command, State, no_arguments

if TYPE_CHECKING:
    from moxtw.imap.server import IMAPServer


async def run_idle(conn: IMAPServer, tag: bytes, args: None) -> bytes:
    """Tell changes until the client says DONE; anything else ends the connection."""
    conn.sendContinuationRequest(b"idling")
    while True:
        await notices.poll(conn)
        line = conn.next_line(64)
        if line is not None:
            break
        await conn.drain()
        if not notices.pending(conn):
            seconds = contexts.seconds_left(conn)
            timer = None if seconds is None else conn.clock.callLater(seconds, conn.wake)
            try:
                await conn.wait_idle()
            finally:
                if timer is not None and timer.active():
                    timer.cancel()
    conn.trace_in(line)
    if line.upper() != b"DONE":
        raise Close(b"%b BAD only DONE ends IDLE" % tag, b"* BYE closing: not in step any more")
    return b"IDLE done"


COMMANDS = (Command("IDLE", State.LOGGED_IN, no_arguments, run_idle),)
