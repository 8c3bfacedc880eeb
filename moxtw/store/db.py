"""The database: one writer thread with group commit, a few readers, prepared statements.

`Store.write` jobs queue up; the writer takes all that wait, opens one transaction, runs each
job in a savepoint, commits once, and wakes the reactor once with all results. A Deferred
fires only after the commit that holds its work, so that whatever is acknowledged is durable.
`Store.read` jobs run on a snapshot in a reader thread.

Statements and transactions are in `moxtw.store.tx`, what differs between databases in
`moxtw.store.backend`.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Final, TypeVar

import sqlalchemy as sa
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from moxtw.log import Logger
from moxtw.store import upgrade
from moxtw.store.backend import open_backend
from moxtw.store.changes import ChangeBus, SessionRegistry
from moxtw.store.errors import StoreClosed, StoreError
from moxtw.store.junkcache import WordCache
from moxtw.store.tx import TAKE_IDS, Tx

if TYPE_CHECKING:
    from twisted.internet.base import DelayedCall

    from moxtw.store.content import Contents, Spooled

T = TypeVar("T")
_log = Logger("store")

# The writer takes on more jobs for the same commit until this much time went into a batch.
_BATCH_SECONDS: Final = 0.05
_BATCH_JOBS: Final = 256
_GATHER_SECONDS: Final = 0.002

# Between checkpoints of the database: when the last one found that many pages, and otherwise.
_MANY_PAGES: Final = 500
_CHECKPOINT_SOON: Final = 0.05
_CHECKPOINT_LATER: Final = 2.0

# A reader begins no more jobs on a snapshot of this age.
_READ_SECONDS: Final = 0.005

_DISK_THREADS: Final = 2

_IDS_BLOCK: Final = 4096
_IDS_LOW: Final = 1024

# Chores with a pause make one that is so many times as long while others write.
_BUSY_PAUSE: Final = 20


class _Job:
    __slots__ = ("deferred", "error", "fn", "number", "result")

    def __init__(self, fn: Callable[[Tx], Any], deferred: Deferred[Any]) -> None:
        self.fn = fn
        self.deferred = deferred
        self.number = 0
        self.result: Any = None
        self.error: Failure | None = None

    def fire(self) -> None:
        if self.error is None:
            self.deferred.callback(self.result)
        else:
            self.deferred.errback(self.error)


def _fire_all(jobs: list[_Job]) -> None:
    for job in jobs:
        job.fire()


def _fail(jobs: list[_Job], failure: Failure) -> None:
    """Jobs fail together; one that has failed by itself keeps its own error."""
    for job in jobs:
        if job.error is None:
            job.error = failure


class Store(Service):
    """The database with its threads, the change bus and the content files.

    `data_dir` is the data directory; `url` an SQLAlchemy URL, by default SQLite in that
    directory. With ``inline=True`` (tests) jobs run at once in the calling thread.
    """

    name = "store"

    def __init__(
        self,
        data_dir: str,
        reactor: Any,
        *,
        url: str | None = None,
        readers: int = 2,
        inline: bool = False,
        now: Callable[[], int] | None = None,
    ) -> None:
        from moxtw.store.content import Contents

        self.data_dir = data_dir
        self.reactor = reactor
        self._url = url or "sqlite:///" + os.path.join(os.path.abspath(data_dir), "moxtw.db")
        self._readers = readers
        self._inline = inline
        self.now: Callable[[], int] = now or (lambda: time.time_ns() // 1000)
        self.changes = ChangeBus()
        self.sessions = SessionRegistry(self._erasable)
        self.contents: Contents = Contents(self)
        # Junk flags for a mailbox: (account, mailbox name, special use, flags) -> flags.
        # The service puts the accounts' configured rules in place.
        self.junk_flags: Callable[[str, str, int, int], int] = default_junk_flags
        # The introbox of an account, empty if it has none; put in place likewise.
        self.introbox: Callable[[str], str] = lambda account: ""
        self.organizational_domain: Callable[[str], str] = lambda domain: domain
        self.junk_words = WordCache()
        # Names by id, which never change for the life of an account.
        self.account_names: dict[int, str] = {}
        # Ids taken ahead, the next one last; used by the writer only.
        self.ids: list[int] = []
        self._write_jobs: deque[_Job] = deque()
        # Released to wake the writer, who takes all jobs there are: a plain lock, as a
        # Semaphore costs more than some jobs.
        self._write_ready = threading.Lock()
        self._write_ready.acquire()
        self._wake_due = False
        # Jobs in the last batch, set by the writer.
        self._expected = 1
        # While Deferreds of a commit fire: what is to be called afterwards.
        self._telling: list[Callable[[], object]] | None = None
        self._read_jobs: deque[_Job] = deque()
        # Of the job that was given last.
        self._read_number = 0
        self._read_ready = threading.Semaphore(0)
        self._disk_jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        # Set by the writer after a commit, and at the end.
        self._to_checkpoint = threading.Event()
        self._ended = threading.Event()
        self._stopping = False
        self._erase_timer: DelayedCall | None = None
        self._chores: list[Chore] = []
        self.add_chore(
            "text index", lambda tx: self.backend.text_index.work(tx), delay=1, pause=0.005
        )
        self._erase_accounts: set[int] = set()
        self._erasing = False
        self._writer_connection: Any = None

    # -- Life cycle ------------------------------------------------------------------

    def open(self) -> None:
        """Open the database, make or check its schema, and start the threads.

        Blocks shortly; called before the reactor serves anything. Raises StoreError.
        """
        os.makedirs(self.data_dir, mode=0o750, exist_ok=True)
        self.contents.prepare()
        self.backend = open_backend(self._url)
        try:
            upgrade.prepare(self.backend)
            connection = self.backend.connect(readonly=False)
            self.backend.text_index.prepare(connection.cursor().execute)
        except (self.backend.dialect.loaded_dbapi.Error, sa.exc.DBAPIError) as exc:
            shown = self.backend.engine.url
            raise StoreError(f"opening the database {shown}: {exc}") from exc
        self._writer_connection = connection
        self._stopping = False
        self._ended.clear()
        if self._inline:
            self._reader_connection = connection
            return
        writer = threading.Thread(
            target=self._writer_loop, args=(connection,), name="store-writer", daemon=True
        )
        self._threads.append(writer)
        for number in range(self._readers):
            self._threads.append(
                threading.Thread(
                    target=self._reader_loop, name=f"store-reader-{number}", daemon=True
                )
            )
        for number in range(_DISK_THREADS):
            self._threads.append(
                threading.Thread(target=self._disk_loop, name=f"store-disk-{number}", daemon=True)
            )
        if self.backend.checkpoints:
            checkpointer = threading.Thread(
                target=self._checkpoint_loop, name="store-checkpoint", daemon=True
            )
            self._threads.append(checkpointer)
        for thread in self._threads:
            thread.start()

    def startService(self) -> None:
        """Start, opening the database if that has not been done."""
        if self._writer_connection is None:
            self.open()
        super().startService()  # type: ignore[no-untyped-call]
        # What a crash left unerased, and content files that no row came to refer to.
        self._later_erase(None)
        self.contents.start()
        for chore in self._chores:
            chore.due()

    def stopService(self) -> Deferred[None]:
        """Finish the jobs that wait, then stop the threads."""
        super().stopService()  # type: ignore[no-untyped-call]
        self._stopping = True
        if self._erase_timer is not None and self._erase_timer.active():
            self._erase_timer.cancel()
        self._erase_timer = None
        for chore in self._chores:
            chore.stop()
        self.contents.stop()
        done: Deferred[None] = Deferred()
        if self._inline:
            self._writer_connection.close()
            self._writer_connection = None
            done.callback(None)
            return done

        def wait() -> None:
            self._wake_writer()
            for _ in range(self._readers):
                self._read_ready.release()
            for _ in range(_DISK_THREADS):
                self._disk_jobs.put(None)
            self._ended.set()
            self._to_checkpoint.set()
            for thread in self._threads:
                thread.join()
            self._threads.clear()
            self._writer_connection = None
            self.reactor.callFromThread(done.callback, None)

        threading.Thread(target=wait, name="store-stop", daemon=True).start()
        return done

    # -- Jobs ------------------------------------------------------------------------

    def write(self, fn: Callable[[Tx], T]) -> Deferred[T]:
        """Run `fn` in the writer; the Deferred fires after the commit that holds its work.

        What `fn` raises fails the Deferred and undoes that job alone.
        """
        deferred: Deferred[T] = Deferred()
        if self._stopping:
            deferred.errback(StoreClosed("the store is stopping"))
            return deferred
        job = _Job(fn, deferred)
        if self._inline:
            self._run_batch(self._writer_connection, [job])
            return deferred
        self._write_jobs.append(job)
        if self._expected == 1:
            self._wake_writer()
        elif not self._wake_due:
            # Not before all that arrived at the same time had its turn: it makes jobs, too,
            # and the writer would only compete with it for the interpreter.
            self._wake_due = True
            self.reactor.callLater(0, self._wake_writer)
        return deferred

    @property
    def busy(self) -> bool:
        """Whether several write at the same time."""
        return self._expected > 1 or bool(self._write_jobs)

    def after_telling(self, call: Callable[[], object]) -> None:
        """Call when the Deferreds of a commit have all fired; now if they do not just now.

        For answers that can be joined. The call must not raise.
        """
        if self._telling is None:
            call()
        else:
            self._telling.append(call)

    def _wake_writer(self) -> None:
        self._wake_due = False
        # Already released: the writer will look before it waits.
        with contextlib.suppress(RuntimeError):
            self._write_ready.release()

    def read(self, fn: Callable[[Tx], T]) -> Deferred[T]:
        """Run `fn` in a reader, on one snapshot of the database."""
        deferred: Deferred[T] = Deferred()
        if self._stopping:
            deferred.errback(StoreClosed("the store is stopping"))
            return deferred
        job = _Job(fn, deferred)
        if self._inline:
            self._run_read(self._reader_connection, job)
            job.fire()
            return deferred
        self._read_number += 1
        job.number = self._read_number
        self._read_jobs.append(job)
        self._read_ready.release()
        return deferred

    def disk(self, fn: Callable[[], T]) -> Deferred[T]:
        """Run `fn` in one of two threads for content: writing, syncing and parsing it.

        Few threads, since all of them and the reactor take turns at the interpreter.
        """
        deferred: Deferred[T] = Deferred()
        if self._stopping:
            deferred.errback(StoreClosed("the store is stopping"))
            return deferred
        job = _Job(lambda tx: fn(), deferred)
        if self._inline:
            self._run_disk(job)
            job.fire()
            return deferred
        self._disk_jobs.put(job)
        return deferred

    def _disk_loop(self) -> None:
        while (job := self._disk_jobs.get()) is not None:
            self._run_disk(job)
            self.reactor.callFromThread(job.fire)

    def _run_disk(self, job: _Job) -> None:
        try:
            job.result = job.fn(None)  # type: ignore[arg-type]
        except Exception as exc:  # noqa: BLE001 - handed to whoever gave the job
            job.error = Failure(exc)

    def run(self, fn: Callable[..., T], *args: Any) -> Deferred[T]:
        """Run `fn(*args)` in a thread of the reactor's pool: hashing and the like."""
        if self._inline:
            from twisted.internet.defer import maybeDeferred

            return maybeDeferred(fn, *args)
        from twisted.internet.threads import deferToThreadPool

        return deferToThreadPool(self.reactor, self.reactor.getThreadPool(), fn, *args)

    def call_from_thread(self, fn: Callable[..., object], *args: Any) -> None:
        """Call in the reactor's thread, from a job or what `run` runs; not waited for."""
        if self._inline:
            fn(*args)
        else:
            self.reactor.callFromThread(fn, *args)

    def _writer_loop(self, connection: Any) -> None:
        try:
            while True:
                self._write_ready.acquire()
                while self._write_jobs:
                    if self._expected > 1:
                        self._gather(self._expected)
                    batch: list[_Job] = []
                    while self._write_jobs and len(batch) < _BATCH_JOBS:
                        batch.append(self._write_jobs.popleft())
                    self._expected = len(batch)
                    self._run_batch(connection, batch)
                if self._stopping:
                    return
        finally:
            connection.close()

    def _checkpoint_loop(self) -> None:
        """Take the work of checkpoints from the writer, for as long as there are commits."""
        connection = self.backend.connect(readonly=False)
        try:
            while True:
                self._to_checkpoint.wait()
                if self._ended.is_set():
                    return
                self._to_checkpoint.clear()
                try:
                    pages = self.backend.checkpoint(connection)
                except Exception as exc:  # noqa: BLE001 - the writer's commits do it, then
                    _log.error("checkpoint of the database", err=self.backend.translate(exc))
                    pages = 0
                # A page that changes often is copied once for all that it changed meanwhile.
                self._ended.wait(_CHECKPOINT_SOON if pages > _MANY_PAGES else _CHECKPOINT_LATER)
        finally:
            connection.close()

    def _gather(self, expected: int) -> None:
        """Wait a moment for as many jobs as there were last time.

        Clients that were answered together come back at about the same time. A commit for all
        of them costs little more than one for the first few.
        """
        end = time.monotonic() + _GATHER_SECONDS
        while len(self._write_jobs) < expected and not self._stopping:
            left = end - time.monotonic()
            if left <= 0:
                return
            self._write_ready.acquire(timeout=left)

    def _run_batch(self, connection: Any, batch: list[_Job]) -> None:
        """Run jobs in one transaction; results go to the reactor after the commit."""
        if len(self.ids) < _IDS_LOW:
            self._take_ids(connection)
        execute = connection.cursor().execute
        changed: dict[int, int] = {}
        unlink: list[str] = []
        erase: set[int] = set()
        queue: set[str] = set()
        hooks: set[str] = set()
        stored: list[Spooled] = []
        try:
            execute(self.backend.begin_write)
        except Exception as exc:  # noqa: BLE001 - reported to every job of the batch
            _fail(batch, Failure(self.backend.translate(exc)))
            self._finish_batch(batch)
            return
        single = len(batch) == 1
        deadline = time.monotonic() + _BATCH_SECONDS
        for index, job in enumerate(batch):
            if index and time.monotonic() > deadline:
                # The rest waits for the next commit.
                self._write_jobs.extendleft(reversed(batch[index:]))
                batch = batch[:index]
                break
            tx = Tx(self, connection, self.now())
            try:
                if single:
                    job.result = job.fn(tx)
                else:
                    execute("SAVEPOINT job")
                    job.result = job.fn(tx)
                    execute("RELEASE SAVEPOINT job")
            except Exception as exc:  # noqa: BLE001 - handed to whoever gave the job
                job.error = Failure(self.backend.translate(exc))
                self.account_names.clear()  # an account that this job made is gone again
                if single:
                    with contextlib.suppress(Exception):
                        execute("ROLLBACK")
                    continue
                try:
                    execute("ROLLBACK TO SAVEPOINT job")
                    execute("RELEASE SAVEPOINT job")
                except Exception:  # noqa: BLE001 - what matters is the error that led here
                    # Gone is the whole transaction (a full disk can do that), with what
                    # earlier jobs did. Later ones have their chance in the next.
                    with contextlib.suppress(Exception):
                        execute("ROLLBACK")
                    self._write_jobs.extendleft(reversed(batch[index + 1 :]))
                    _fail(batch[:index], job.error)
                    self._finish_batch(batch[: index + 1])
                    return
                continue
            changed.update(tx.changed)
            unlink.extend(tx.unlink)
            stored.extend(tx.stored)
            erase |= tx.erase
            queue |= tx.queue_domains
            hooks |= tx.hook_urls
        if not (single and batch[0].error is not None):
            try:
                execute("COMMIT")
            except Exception as exc:  # noqa: BLE001 - reported to every job of the batch
                with contextlib.suppress(Exception):
                    execute("ROLLBACK")
                self.account_names.clear()
                _fail(batch, Failure(self.backend.translate(exc)))
                self._finish_batch(batch)
                return
        self._to_checkpoint.set()
        for content in stored:
            content.stored = True
        for path in unlink:
            self.contents.remove_file(path)
        self._finish_batch(batch, changed, queue, erase, hooks)

    def _finish_batch(
        self,
        batch: list[_Job],
        changed: dict[int, int] | None = None,
        queue: set[str] | None = None,
        erase: set[int] | None = None,
        hooks: set[str] | None = None,
    ) -> None:
        """Tell the reactor's thread how a batch ended."""
        arguments = (batch, changed or {}, queue or set(), erase or set(), hooks or set())
        if self._inline:
            self._committed(*arguments)
        else:
            self.reactor.callFromThread(self._committed, *arguments)

    def _take_ids(self, connection: Any) -> None:
        """Take a block of ids, in a transaction of its own: no failing job can undo it."""
        execute = connection.cursor().execute
        try:
            execute(self.backend.begin_write)
            end = Tx(self, connection, 0).value(TAKE_IDS, count=_IDS_BLOCK)
            execute("COMMIT")
        except Exception as exc:  # noqa: BLE001 - jobs then take ids one by one, or fail
            with contextlib.suppress(Exception):
                execute("ROLLBACK")
            _log.error("taking a block of ids", err=exc)
            return
        self.ids[:0] = range(end - 1, end - _IDS_BLOCK - 1, -1)

    def _committed(
        self,
        batch: list[_Job],
        changed: dict[int, int],
        queue: set[str],
        erase: set[int],
        hooks: set[str],
    ) -> None:
        later: list[Callable[[], object]] = []
        self._telling = later
        try:
            for job in batch:
                job.fire()
        finally:
            self._telling = None
        for call in later:
            call()
        if changed or queue or hooks:
            self.changes.publish(changed, queue, hooks)
        if changed:
            for chore in self._chores:
                chore.due()
        for account_id in erase:
            self._later_erase(account_id)

    def _reader_loop(self) -> None:
        connection = self.backend.connect(readonly=True)
        try:
            while True:
                self._read_ready.acquire()
                try:
                    job = self._read_jobs.popleft()
                except IndexError:
                    if self._stopping:
                        return
                    continue
                self._run_reads(connection, job)
        finally:
            connection.close()

    def _run_reads(self, connection: Any, job: _Job) -> None:
        """Run a job, and those that were waiting by then, on one snapshot, for a moment.

        With each new snapshot SQLite reads again what it had in memory. Jobs that came later
        may not see an older one: what they ask about may have been written in between.
        """
        begun = time.monotonic()
        last = self._read_number
        done: list[_Job] = []
        execute = connection.cursor().execute
        try:
            execute(self.backend.begin_read)
        except Exception as exc:  # noqa: BLE001 - handed to whoever gave the job
            job.error = Failure(self.backend.translate(exc))
            self.reactor.callFromThread(job.fire)
            return
        while True:
            try:
                job.result = job.fn(Tx(self, connection, self.now()))
            except Exception as exc:  # noqa: BLE001 - handed to whoever gave the job
                job.error = Failure(self.backend.translate(exc))
            done.append(job)
            if job.error is not None or time.monotonic() - begun > _READ_SECONDS:
                break
            try:
                job = self._read_jobs.popleft()
            except IndexError:
                break
            if job.number > last:
                self._read_jobs.appendleft(job)
                break
            # It was counted for whoever would take it.
            self._read_ready.acquire(blocking=False)
        with contextlib.suppress(Exception):
            execute("ROLLBACK")
        if len(done) == 1:
            self.reactor.callFromThread(done[0].fire)
        else:
            self.reactor.callFromThread(_fire_all, done)

    def _run_read(self, connection: Any, job: _Job) -> None:
        execute = connection.cursor().execute
        try:
            execute(self.backend.begin_read)
            try:
                job.result = job.fn(Tx(self, connection, self.now()))
            finally:
                execute("ROLLBACK")
        except Exception as exc:  # noqa: BLE001 - handed to whoever gave the job
            job.error = Failure(self.backend.translate(exc))

    # -- Work that follows what others did -----------------------------------------------

    def add_chore(
        self,
        name: str,
        job: Callable[[Tx], bool],
        *,
        delay: float = 0.2,
        pause: float = 0,
    ) -> None:
        """Have `job` run in the writer, `delay` seconds after something has changed.

        It finds out from the database what there is to do, does a small part of that (some ten
        milliseconds), and says whether there is more; then it runs again, when others had
        their turn. It also runs when the service starts, for what a crash has left. One that
        is in no hurry makes a `pause` (seconds) between parts, a long one while others write.
        """
        chore = Chore(self, name, job, delay, pause)
        self._chores.append(chore)
        if self.running:
            chore.due()

    # -- Erasing what was expunged ---------------------------------------------------

    def _erasable(self, account_id: int) -> None:
        if account_id in self._erase_accounts:
            self._later_erase(account_id)

    def _later_erase(self, account_id: int | None) -> None:
        """Erase soon: for one account, or (None) find all that have something to erase."""
        if account_id is not None:
            self._erase_accounts.add(account_id)
        if not self.running or self._stopping or self._erasing:
            return
        if self._erase_timer is None:
            self._erase_timer = self.reactor.callLater(0.2, self._erase, account_id is None)

    def _erase(self, find: bool) -> None:
        from moxtw.store import messages

        self._erase_timer = None
        if self._stopping:
            return
        self._erasing = True

        async def run() -> None:
            if find:
                self._erase_accounts.update(await self.read(messages.accounts_to_erase))
            for account_id in list(self._erase_accounts):
                horizon = self.sessions.horizon(account_id)
                while not self._stopping:
                    left = await self.write(
                        lambda tx, a=account_id, h=horizon: messages.erase(tx, a, h)  # type: ignore[misc]
                    )
                    if left != "more":
                        break
                if left == "done":
                    self._erase_accounts.discard(account_id)

        def ended(result: object) -> None:
            self._erasing = False
            if isinstance(result, Failure) and not result.check(StoreClosed):
                _log.failure("erasing expunged messages", result)

        Deferred.fromCoroutine(run()).addBoth(ended)


class Chore:
    """A job that follows changes, see `Store.add_chore`."""

    def __init__(
        self, store: Store, name: str, job: Callable[[Tx], bool], delay: float, pause: float
    ) -> None:
        self._store = store
        self._name = name
        self._job = job
        self._delay = delay
        self._pause = pause
        self._timer: DelayedCall | None = None
        self._busy = False
        self._again = False

    def due(self) -> None:
        """Something has changed."""
        if self._busy:
            self._again = True
        elif self._timer is None and self._store.running:
            self._timer = self._store.reactor.callLater(self._delay, self._start)

    def stop(self) -> None:
        """Do nothing more."""
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
            self._busy = False

    def _start(self) -> None:
        self._timer = None
        self._busy = True
        self._again = False
        Deferred.fromCoroutine(self._work()).addBoth(self._ended)

    async def _work(self) -> None:
        # A look is cheap, and disturbs nobody who writes.
        while self._store.running and await self._store.write(self._job):
            if self._pause:
                # Nobody may wait for it: what is written at the same time comes first.
                await self._rest(self._pause * (_BUSY_PAUSE if self._store.busy else 1))

    def _rest(self, seconds: float) -> Deferred[None]:
        done: Deferred[None] = Deferred()
        self._timer = self._store.reactor.callLater(seconds, self._rested, done)
        return done

    def _rested(self, done: Deferred[None]) -> None:
        self._timer = None
        done.callback(None)

    def _ended(self, result: object) -> None:
        self._busy = False
        if isinstance(result, Failure):
            if not result.check(StoreClosed):
                _log.failure(f"chore {self._name}", result)
            # It is tried again with the next change.
            return
        if self._again:
            self.due()


def default_junk_flags(account: str, mailbox: str, special_use: int, flags: int) -> int:
    """Flags of a message that comes into a mailbox, without configured rules for names."""
    if special_use & 4:  # SpecialUse.JUNK, Flag.JUNK, Flag.NOTJUNK: as plain numbers, for speed
        return (flags | 16) & ~32
    return flags
