"""Telling a client that waits for long how far its command is (RFC 9585)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from moxtw.imap.server import IMAPServer

INTERVAL: Final = 10.0
"""Seconds until the first of these responses, and between them."""

# Commands that write responses in pieces, or wait for the client: nothing may come between.
_NOT_FOR: Final = frozenset(
    (
        "APPEND",
        "AUTHENTICATE",
        "COMPRESS",
        "FETCH",
        "IDLE",
        "LOGIN",
        "LOGOUT",
        "NOTIFY",
        "REPLACE",
        "STARTTLS",
        "UID FETCH",
        "UID REPLACE",
    )
)


class Progress:
    """The progress of a command that runs. done, goal: of what it has to look at, if known."""

    __slots__ = ("_conn", "_tag", "_timer", "done", "goal")

    def __init__(self, conn: IMAPServer, name: str, tag: bytes) -> None:
        self._conn = conn
        self._tag = tag
        self.done: int | None = None
        self.goal: int | None = None
        self._timer: Any = None
        if conn.session is not None and name not in _NOT_FOR:
            self._timer = conn.clock.callLater(INTERVAL, self._tell)

    def end(self) -> None:
        """The command is done."""
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _tell(self) -> None:
        conn = self._conn
        self._timer = None
        if conn.lost or conn.closing:
            return
        conn.sendUntaggedResponse(
            b'OK [INPROGRESS ("%b" %b %b)] still at it'
            % (self._tag, _number(self.done), _number(self.goal))
        )
        conn.flush()
        self._timer = conn.clock.callLater(INTERVAL, self._tell)


def _number(value: int | None) -> bytes:
    return b"NIL" if value is None else b"%d" % value
