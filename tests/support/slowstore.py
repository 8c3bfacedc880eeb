"""A store whose jobs and answers wait until a test lets them go on, in an order of its choice.

What threads do by chance happens here by a seed: jobs of the writer are joined in batches and
commit while the reactor does other things; reads see what is committed when they run; results
come to the reactor later, one after the other.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred

from moxtw.store.db import Store, _Job
from moxtw.store.errors import StoreClosed


class SlowStore(Store):
    """A store for tests; `step` lets one thing happen."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, inline=True, **kwargs)
        self.slow = False
        self._calls: deque[Callable[[], object]] = deque()

    def write(self, fn: Any) -> Deferred[Any]:
        """A job for the next batches."""
        if not self.slow:
            return super().write(fn)
        deferred: Deferred[Any] = Deferred()
        if self._stopping:
            deferred.errback(StoreClosed("the store is stopping"))
        else:
            self._write_jobs.append(_Job(fn, deferred))
        return deferred

    def read(self, fn: Any) -> Deferred[Any]:
        """A job for a reader."""
        if not self.slow:
            return super().read(fn)
        deferred: Deferred[Any] = Deferred()
        self._read_jobs.append(_Job(fn, deferred))
        return deferred

    @property
    def busy(self) -> bool:
        """Whether there is something to do."""
        return bool(self._write_jobs or self._read_jobs or self._calls)

    def step(self, rng: random.Random) -> bool:
        """Let one thing happen: a commit, a read, or a result that arrives."""
        choices: list[Callable[[random.Random], None]] = []
        if self._write_jobs:
            choices.append(self._commit)
        if self._read_jobs:
            choices.append(self._run_reader)
        if self._calls:
            choices.append(lambda rng: void(self._calls.popleft()()))
        if not choices:
            return False
        rng.choice(choices)(rng)
        return True

    def settle(self, rng: random.Random) -> None:
        """Let everything happen that is to be done now."""
        while self.step(rng):
            pass

    def _commit(self, rng: random.Random) -> None:
        count = rng.randint(1, len(self._write_jobs))
        batch = [self._write_jobs.popleft() for _ in range(count)]
        self._run_batch(self._writer_connection, batch)

    def _run_reader(self, rng: random.Random) -> None:
        # Two readers: one may overtake the other.
        at = rng.randrange(min(2, len(self._read_jobs)))
        job = self._read_jobs[at]
        del self._read_jobs[at]
        self._run_read(self._reader_connection, job)
        self._calls.append(job.fire)

    def _finish_batch(self, batch: Any, *more: Any) -> None:
        if not self.slow:
            super()._finish_batch(batch, *more)
            return
        nothing: tuple[Any, ...] = ({}, set(), set(), set())
        changed, queue, erase, hooks = (*more, *nothing[len(more) :])
        self._calls.append(lambda: self._committed(batch, changed, queue, erase, hooks))


def make_slow_store(testcase: Any, clock: Any) -> SlowStore:
    """An open store in a fresh directory, closed after the test; not slow at first."""
    store = SlowStore(
        testcase.mktemp(),
        clock,
        now=lambda: 1_750_000_000_000_000 + int(clock.seconds() * 1_000_000),
    )
    store.open()
    store.startService()
    testcase.addCleanup(store.stopService)
    return store


def void(value: object) -> None:
    """Nothing, whatever came out."""
