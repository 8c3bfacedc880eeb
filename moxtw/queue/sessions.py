"""Sessions that a domain's turn leaves open for its next message, and those being closed."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, Final

from twisted.internet.defer import Deferred, DeferredList

from moxtw.log import Logger
from moxtw.queue.delivery import SMTPSession

MAX_USES: Final = 100
"""Messages that go over one connection."""

log = Logger("queue")


class Closing:
    """Sessions that are saying goodbye; nobody waits for that but a server that stops."""

    def __init__(self) -> None:
        self._waiting: dict[Deferred[None], SMTPSession] = {}

    def close(self, session: SMTPSession) -> None:
        """Close a session in its own time."""
        deferred: Deferred[None] = Deferred.fromCoroutine(session.close())
        self._waiting[deferred] = session

        def ended(result: object) -> None:
            del self._waiting[deferred]

        deferred.addErrback(lambda failure: log.failure("closing a session", failure))
        deferred.addBoth(ended)

    def wait(self) -> Deferred[Any]:
        """Fires when all are closed."""
        waits: list[Deferred[None]] = []
        for deferred in list(self._waiting):
            done: Deferred[None] = Deferred()
            deferred.addBoth(_pass, done)
            waits.append(done)
        return DeferredList(waits)

    def abort(self) -> None:
        """Drop what is not closed yet."""
        for session in list(self._waiting.values()):
            session.abort()


def _pass(_: object, done: Deferred[None]) -> None:
    done.callback(None)


class Sessions:
    """The sessions in use during a domain's turn: the one at work, and one kept for later."""

    def __init__(self, closing: Closing) -> None:
        self._closing = closing
        self._key: Hashable = None
        self._kept: SMTPSession | None = None
        self._uses = 0
        self._at_work: SMTPSession | None = None

    def take(self, key: Hashable) -> SMTPSession | None:
        """The session that was kept for `key`, if it is usable still."""
        session, self._kept = self._kept, None
        if session is None:
            return None
        if key == self._key and session.usable and self._uses < MAX_USES:
            self._at_work = session
            return session
        self._closing.close(session)
        return None

    def use(self, key: Hashable, session: SMTPSession) -> None:
        """A new session is at work."""
        self._key = key
        self._uses = 0
        self._at_work = session

    def keep(self, session: SMTPSession) -> None:
        """A session has done its work: keep it if it is usable still."""
        self._at_work = None
        self._uses += 1
        if self._kept is not None:
            self._closing.close(self._kept)
            self._kept = None
        if session.usable:
            self._kept = session
        else:
            self._closing.close(session)

    def drop(self, session: SMTPSession) -> None:
        """A session is not wanted any more."""
        self._at_work = None
        self._closing.close(session)

    def end(self) -> None:
        """The turn is over."""
        session, self._kept = self._kept, None
        if session is not None:
            self._closing.close(session)

    def abort(self) -> None:
        """Stop at once."""
        for session in (self._at_work, self._kept):
            if session is not None:
                session.abort()
        self._kept = None
