"""Imports that are under way: one for an account at a time, watched by tokens."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from twisted.internet.defer import Deferred, DeferredList

from moxtw.admin.imports.engine import Aborted, Event, Import, ImportFailed, undo
from moxtw.log import Logger
from moxtw.store import accounts, importsdb
from moxtw.store.errors import StoreClosed, StoreError

if TYPE_CHECKING:
    from moxtw.admin.clock import Clock
    from moxtw.admin.imports.items import Source
    from moxtw.store.db import Store

log = Logger("import")

KEEP: Final = 60
"""Seconds that the outcome of an import can still be asked for."""
MAX_RUNNING: Final = 4

Listener = Callable[[Event], object]


class Busy(Exception):
    """No import can be begun now; the message says why."""


@dataclass
class Running:
    """An import under way, or just ended.

    `done` fires with the last event: done, or aborted with the reason as its text. All that
    was told before is told to listeners that come later.
    """

    account: str
    task: Import
    counts: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    step: str = ""
    last: Event | None = None
    listeners: set[Listener] = field(default_factory=set)

    @property
    def token(self) -> str:
        """What it is asked for by."""
        return self.task.token

    @property
    def messages(self) -> int:
        """How many messages have been imported."""
        return sum(self.counts.values())

    def tell(self, event: Event) -> None:
        """Note progress, and tell who listens."""
        if event.kind == "count":
            self.counts[event.mailbox] = event.count
        elif event.kind == "problem":
            self.problems.append(event.text)
        elif event.kind == "step":
            self.step = event.text
        else:
            self.last = event
        for listener in list(self.listeners):
            listener(event)

    def history(self) -> list[Event]:
        """What happened so far, in few events."""
        found = [Event("problem", text) for text in self.problems]
        found += [Event("count", mailbox=name, count=n) for name, n in self.counts.items()]
        if self.last is not None:
            return [*found, self.last]
        return [*found, Event("step", self.step)] if self.step else found


class Imports:
    """All imports of this process."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._running: dict[str, Running] = {}
        self._tasks: set[Deferred[None]] = set()

    def find(self, token: str) -> Running | None:
        """The import with a token, until some time after its end."""
        return self._running.get(token)

    async def begin(
        self, account: str, source: Source, *, quota: int, close: Callable[[], object]
    ) -> Running:
        """Begin an import; `close` lets go of its source at the end. Raises Busy.

        An import of the same that was interrupted is continued.
        """
        active = [each for each in self._running.values() if each.last is None]
        if any(each.account == account for each in active):
            raise Busy("an import for this account is under way already")
        if len(active) >= MAX_RUNNING:
            raise Busy("too many imports are under way, try again later")
        token = secrets.token_urlsafe(16)
        task = Import(self._store, 0, source, token, quota, lambda event: running.tell(event))
        running = Running(account, task)
        # From here on nobody else begins one, though the store has yet to answer.
        self._running[token] = running
        try:
            found = await self._store.read(lambda tx: accounts.get(tx, account))
        except StoreError:
            del self._running[token]
            raise
        task.account_id = found.id
        working = Deferred.fromCoroutine(self._work(running, close))
        self._tasks.add(working)
        working.addBoth(lambda _: self._tasks.discard(working))
        return running

    async def _work(self, running: Running, close: Callable[[], object]) -> None:
        task = running.task
        last = Event("aborted", "internal error, see the log of the server")
        try:
            await task.run()
            last = Event("done")
        except Aborted:
            last = Event("aborted", "aborted" if task.stopped == "abort" else "interrupted")
        except ImportFailed as exc:
            running.tell(Event("problem", f"{exc} (aborting)"))
            last = Event("aborted", str(exc))
        except StoreClosed:
            last = Event("aborted", "interrupted: the server is stopping")
        except Exception as exc:  # noqa: BLE001 - the server goes on, and says so
            log.failure("import failed", exc, account=running.account)
            running.tell(Event("problem", "internal error (aborting)"))
        finally:
            close()
            log.info(
                "import ended",
                account=running.account,
                outcome=last.kind,
                messages=running.messages,
                problems=task.problems,
                err=last.text or None,
            )
            running.tell(last)
            self._clock.callLater(KEEP, lambda: self._running.pop(running.token, None))

    async def abort(self, account: str, token: str) -> bool:
        """Abort an import of an account, or take back an interrupted one; False if there is none.

        Returns when nothing of it is left, but for messages that were moved meanwhile.
        """
        running = self._running.get(token)
        if running is not None and running.account == account and running.last is None:
            running.task.stop("abort")
            ended: Deferred[None] = Deferred()

            def listen(event: Event) -> None:
                if event.kind in ("done", "aborted") and not ended.called:
                    ended.callback(None)

            running.listeners.add(listen)
            await ended
            running.listeners.discard(listen)
            return True
        state = await self._store.read(lambda tx: importsdb.find(tx, token))
        found = await self._store.read(lambda tx: accounts.get(tx, account))
        if state is None or state.account_id != found.id:
            return False
        await undo(self._store, token)
        return True

    async def stop(self) -> None:
        """Stop all; they can be continued."""
        for running in self._running.values():
            running.task.stop("leave")
        await DeferredList(list(self._tasks))
