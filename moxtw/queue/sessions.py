"""Sessions that are left open for the next message to the same host, and those being closed."""

from __future__ import annotations

from collections.abc import Collection, Hashable
from dataclasses import dataclass
from typing import Any, Final

from twisted.internet.defer import Deferred, DeferredList

from moxtw.log import Logger
from moxtw.queue.delivery import SMTPSession

MAX_USES: Final = 100
"""Messages that go over one connection."""

MAX_IDLE: Final = 20
"""Sessions that wait for a message of another domain."""

IDLE: Final = 5
"""Seconds that they wait; other servers have better things to do with a connection."""

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


@dataclass(slots=True, eq=False)
class _Idle:
    """A session that waits for its next use. about: see `Sessions`."""

    key: Hashable
    session: SMTPSession
    uses: int
    about: Any
    timer: Any = None


class Pool:
    """Sessions that a domain's turn left, for the turns of other domains with the same host."""

    def __init__(self, closing: Closing, reactor: Any) -> None:
        self._closing = closing
        self._reactor = reactor
        # The oldest first.
        self._idle: list[_Idle] = []
        self._stopped = False

    def __len__(self) -> int:
        return len(self._idle)

    def put(self, key: Hashable, session: SMTPSession, uses: int, about: Any = None) -> None:
        """Keep a session for a while."""
        if self._stopped or not session.usable or uses >= MAX_USES:
            self._closing.close(session)
            return
        if len(self._idle) >= MAX_IDLE:
            self._close(self._idle[0])
        idle = _Idle(key, session, uses, about)
        idle.timer = self._reactor.callLater(IDLE, self._close, idle)
        self._idle.append(idle)

    def take(
        self, key: Hashable, ips: Collection[str] | None
    ) -> tuple[SMTPSession, int, Any] | None:
        """A session that was kept, how often it was used, and what was noted about it.

        ips: its server is one of these.
        """
        for idle in reversed(self._idle):
            if idle.key != key or (ips is not None and idle.session.remote_ip not in ips):
                continue
            if not idle.session.usable:
                self._close(idle)
                continue
            self._remove(idle)
            return idle.session, idle.uses, idle.about
        return None

    def start(self) -> None:
        """Keep sessions from now on."""
        self._stopped = False

    def stop(self) -> None:
        """Close all, and those that come yet."""
        self._stopped = True
        for idle in list(self._idle):
            self._close(idle)

    def _remove(self, idle: _Idle) -> None:
        self._idle.remove(idle)
        if idle.timer.active():
            idle.timer.cancel()

    def _close(self, idle: _Idle) -> None:
        self._remove(idle)
        self._closing.close(idle.session)


class Sessions:
    """The sessions in use during a domain's turn: the one at work, and one kept for later.

    about: whatever was noted of the one at work when it was new.
    """

    def __init__(self, closing: Closing, pool: Pool) -> None:
        self._closing = closing
        self._pool = pool
        self._key: Hashable = None
        self._kept: SMTPSession | None = None
        self._uses = 0
        self.about: Any = None
        self._at_work: SMTPSession | None = None

    def take(self, key: Hashable, ips: Collection[str] | None = None) -> SMTPSession | None:
        """A session that was kept for `key`, if there is a usable one.

        ips: not one with another server than these.
        """
        session, self._kept = self._kept, None
        if session is not None:
            if (
                key == self._key
                and session.usable
                and self._uses < MAX_USES
                and (ips is None or session.remote_ip in ips)
            ):
                self._at_work = session
                return session
            self._pool.put(self._key, session, self._uses, self.about)
        found = self._pool.take(key, ips)
        if found is None:
            return None
        self._key = key
        self._at_work, self._uses, self.about = found
        return self._at_work

    def use(self, key: Hashable, session: SMTPSession, about: Any = None) -> None:
        """A new session is at work."""
        self._key = key
        self.about = about
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
            self._pool.put(self._key, session, self._uses, self.about)

    def abort(self) -> None:
        """Stop at once."""
        for session in (self._at_work, self._kept):
            if session is not None:
                session.abort()
        self._kept = None
