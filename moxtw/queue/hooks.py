"""Webhooks at work: makes the calls that are due, one at a time for each URL.

A call is made until the receiver takes it, at growing intervals. It is noted in the database
before it is made, so that one that the end of the process interrupted is made again: receivers
may see a call twice, with the same id, but lose none.
"""

from __future__ import annotations

from random import SystemRandom
from typing import Any, Final

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure

from moxtw.config.dynamic import Dynamic
from moxtw.log import Logger
from moxtw.queue.hookcall import Answer, HookCaller
from moxtw.queue.routes import Config
from moxtw.queue.schedule import SECOND, Schedule
from moxtw.store import hooksdb
from moxtw.store.db import Store
from moxtw.store.errors import StoreClosed
from moxtw.store.hooksdb import Hook
from moxtw.store.tx import Tx

log = Logger("webhook")

_MINUTE: Final = 60
_HOUR: Final = 3600
WAITS: Final = (
    1 * _MINUTE,
    2 * _MINUTE,
    4 * _MINUTE,
    7 * _MINUTE + 30,
    15 * _MINUTE,
    30 * _MINUTE,
    1 * _HOUR,
    2 * _HOUR,
    4 * _HOUR,
    8 * _HOUR,
    16 * _HOUR,
)
"""Seconds from the beginning of each attempt to the next one, give or take 1 %."""

MAX_ATTEMPTS: Final = len(WAITS) + 1

MAX_INTERRUPTED: Final = 5
"""Attempts beyond those, for hooks whose last ones were interrupted."""

MAX_TURN: Final = 20
"""Calls of a URL in a row when other URLs wait."""

IDLE: Final = 86400
AFTER_ERROR: Final = 60
STOP_GRACE: Final = 2.5
CLEANUP: Final = 3600
KEEP_WITHOUT_ACCOUNT: Final = 7 * 86400
"""Seconds, see `moxtw.queue.service` and `moxtw.queue.outcome`."""


def wait_after(attempts_before: int, random: Any) -> int:
    """Microseconds from the beginning of an attempt to the next one."""
    wait = WAITS[min(attempts_before, len(WAITS) - 1)] * SECOND
    share: int = random.randrange(-100, 101)
    return wait + wait * share // 10_000


def keep_period(dynamic: Dynamic, account: str) -> int:
    """Microseconds that an account's retired hooks are kept, 0: not at all."""
    known = dynamic.accounts.get(account)
    if known is None:
        return KEEP_WITHOUT_ACCOUNT * SECOND
    return int(known.keep_retired_webhook_period.seconds * SECOND)


class HookService(Service):
    """Makes webhook calls."""

    name = "webhooks"

    def __init__(
        self, store: Store, config: Config, caller: HookCaller, reactor: Any, random: Any = None
    ) -> None:
        self._store = store
        self._config = config
        self._caller = caller
        self._reactor = reactor
        self._random = random or SystemRandom()
        self._schedule = Schedule()
        # By URL: what fires when its turn has ended, and the call that is under way.
        self._turns: dict[str, Deferred[None]] = {}
        self._calls: dict[str, Deferred[Answer]] = {}
        self._timer: Any = None
        self._unsubscribe: Any = None
        self._reading = False
        self._named: set[str] = set()
        self._cleanup = LoopingCall(self._remove_expired)
        self._stopping = False

    # -- Life cycle --------------------------------------------------------------------

    def startService(self) -> None:
        """Begin: what was interrupted at the end of the last run is due again."""
        super().startService()  # type: ignore[no-untyped-call]
        self._stopping = False
        self._unsubscribe = self._store.changes.on_hooks(self._changed)
        self._cleanup = LoopingCall(self._remove_expired)
        self._cleanup.clock = self._reactor
        self._cleanup.start(CLEANUP, now=True).addErrback(self._failed, "cleanup")
        self._start(self._resume(), "starting")

    def stopService(self) -> Deferred[Any]:
        """Begin nothing more; give calls under way a little time, then cut them off."""
        super().stopService()  # type: ignore[no-untyped-call]
        self._stopping = True
        if self._unsubscribe is not None:
            self._unsubscribe()
        if self._cleanup.running:
            self._cleanup.stop()
        self._set_timer(None)
        waits: list[Deferred[Any]] = list(self._turns.values())
        done = DeferredList(waits) if waits else succeed(None)
        deadline = self._reactor.callLater(STOP_GRACE, self._abort)

        def stopped(result: object) -> None:
            if deadline.active():
                deadline.cancel()

        return done.addBoth(stopped)

    def _abort(self) -> None:
        for call in list(self._calls.values()):
            call.cancel()

    async def _resume(self) -> None:
        while await self._store.write(hooksdb.resume):
            pass
        await self._read_schedule()

    def _start(self, coroutine: Any, what: str) -> None:
        Deferred.fromCoroutine(coroutine).addErrback(self._failed, what)

    def _failed(self, failure: Failure, what: str) -> None:
        if failure.check(StoreClosed):
            return
        log.failure(f"webhooks: {what}", failure, unforeseen=True)

    async def _remove_expired(self) -> None:
        try:
            while await self._store.write(hooksdb.remove_expired):
                pass
        except StoreClosed:
            return
        except Exception as exc:  # noqa: BLE001 - tried again in an hour
            log.failure("removing retired webhooks", exc)

    # -- The schedule ------------------------------------------------------------------

    def kick(self) -> None:
        """Look at everything anew."""
        self._changed({""})

    def _changed(self, urls: set[str]) -> None:
        """Hooks of these URLs are due earlier than was known; "": who knows which."""
        if self._stopping:
            return
        if self._reading:
            self._named |= urls
        elif "" in urls:
            self._start(self._read_schedule(), "reading the schedule")
        else:
            now = self._store.now()
            for url in urls:
                self._schedule.earlier(url, now)
            self._run()

    async def _read_schedule(self) -> None:
        """Learn from the database what is due when."""
        self._reading = True
        try:
            while True:
                self._named.clear()
                self._schedule.replace(dict(await self._store.read(hooksdb.urls)))
                if "" not in self._named:
                    break
        except StoreClosed:
            return
        except Exception as exc:  # noqa: BLE001 - tried again
            log.failure("reading the schedule of webhooks", exc)
            if not self._stopping:
                self._reactor.callLater(AFTER_ERROR, self.kick)
            return
        finally:
            self._reading = False
        now = self._store.now()
        for url in self._named:
            self._schedule.earlier(url, now)
        self._named.clear()
        self._run()

    def _run(self) -> None:
        """Begin turns of URLs that are due, and set the timer for the next."""
        if self._stopping or not self.running:
            return
        now = self._store.now()
        while (url := self._schedule.take(now)) is not None:
            self._turns[url] = Deferred()
            self._start(self._turn(url), "calling")
        due = self._schedule.next_time()
        wait = IDLE if due is None else min(IDLE, max(0.0, (due - now) / SECOND))
        # All places taken: the end of a turn is what matters.
        self._set_timer(wait if wait > 0 or due is None else None)

    def _set_timer(self, wait: float | None) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        if wait is not None:
            self._timer = self._reactor.callLater(wait, self._run)

    async def _turn(self, url: str) -> None:
        """Make the calls of a URL that are due."""
        due: int | None = None
        number = 0
        try:
            while True:
                hook, due = await self._store.write(lambda tx: self._begin(tx, url))
                if hook is None:
                    break
                answer = await self._call(hook)
                if answer is None:
                    # What was not decided is found at the next start, and made again then.
                    break
                due = await self._finish(hook, answer)
                number += 1
                if self._stopping or due is None or due > self._store.now():
                    break
                if number >= MAX_TURN and self._others_wait():
                    due = self._store.now()
                    break
        except StoreClosed:
            due = None
        except Exception as exc:  # noqa: BLE001 - the URL is tried again, others go on
            log.failure("calling webhook", exc, url=url, unforeseen=True)
            due = self._store.now() + AFTER_ERROR * SECOND
        finally:
            ended = self._turns.pop(url)
            self._schedule.done(url, due)
            ended.callback(None)
            self._run()

    def _others_wait(self) -> bool:
        due = self._schedule.next_time()
        return due is not None and due <= self._store.now()

    # -- An attempt --------------------------------------------------------------------

    def _begin(self, tx: Tx, url: str) -> tuple[Hook | None, int | None]:
        """Begin the attempt of a hook of the URL that is due; else when the next one is."""
        hook = hooksdb.first_due(tx, url)
        if hook is None:
            return None, hooksdb.next_of_url(tx, url)
        hooksdb.begin(tx, hook, tx.now + wait_after(hook.attempts, self._random))
        return hook, None

    async def _call(self, hook: Hook) -> Answer | None:
        """Make a call; None if it was cut off because the service stops."""
        log.debug("webhook attempt", **_fields(hook))
        if hook.attempts > MAX_ATTEMPTS + MAX_INTERRUPTED:
            # Attempts that a crash ended do not fail a hook, but may be its doing.
            return Answer(0, "too many attempts were interrupted")
        call = self._calls[hook.url] = Deferred.fromCoroutine(
            self._caller.call(
                hook.url,
                hook.payload,
                authorization=hook.authorization,
                signing_key=hook.signing_key,
                hook_id=hook.id,
                attempt=hook.attempts,
            )
        )
        try:
            answer = await call
        except Exception as exc:  # noqa: BLE001 - counts as a failed attempt
            if self._stopping:
                return None
            log.failure("calling webhook", exc, unforeseen=True)
            return Answer(0, f"internal error: {exc!r}"[:500])
        finally:
            del self._calls[hook.url]
        # A failure after the end has begun may be our own doing.
        return None if self._stopping and not answer.success else answer

    async def _finish(self, hook: Hook, answer: Answer) -> int | None:
        """Store what came of a call; returns when the next hook of the URL is due."""
        result = hook.results[-1]
        result.duration = max(0, self._store.now() - result.start)
        result.success = answer.success
        result.code = answer.code
        result.error = answer.error
        result.response = answer.response
        final = answer.success or hook.attempts >= MAX_ATTEMPTS
        keep = keep_period(self._config.dynamic, hook.account)

        def job(tx: Tx) -> int | None:
            if final:
                there = hooksdb.retire(tx, hook, success=answer.success, keep=keep)
            else:
                there = hooksdb.postpone(tx, hook)
            if not there:
                # Superseded or canceled meanwhile.
                hooksdb.add_late_result(tx, hook, result)
            return hooksdb.next_of_url(tx, hook.url)

        due = await self._store.write(job)
        if answer.success:
            log.debug("webhook call made", **_fields(hook))
        elif final:
            log.info("webhook call given up", err=answer.error, **_fields(hook))
        else:
            log.debug("webhook call is tried again later", err=answer.error, **_fields(hook))
        return due


def _fields(hook: Hook) -> dict[str, Any]:
    return {
        "webhookid": hook.id,
        "msgid": hook.queue_msg_id,
        "account": hook.account,
        "url": hook.url,
        "event": "incoming" if hook.is_incoming else hook.event,
        "attempts": hook.attempts,
    }
