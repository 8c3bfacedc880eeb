"""Jobs that share a transaction: what each of them gets when things go wrong."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Generator
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

from moxtw.store import accounts, db, mailboxes, messages
from moxtw.store.backend import SQLiteBackend
from moxtw.store.db import _Job
from moxtw.store.errors import DiskFull
from tests.support.store import job as run_job
from tests.support.store import make_account, make_store, message

FULL = sqlite3.OperationalError("database or disk is full")
FULL.sqlite_errorname = "SQLITE_FULL"  # type: ignore[attr-defined]


class Connection:
    """A connection that fails one statement, once."""

    def __init__(self, connection: Any, statement: str) -> None:
        self._connection = connection
        self._statement: str | None = statement

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def cursor(self) -> Any:
        return Cursor(self, self._connection.cursor())

    def failing(self, sql: str) -> bool:
        if sql != self._statement:
            return False
        self._statement = None
        return True


class Cursor:
    def __init__(self, connection: Connection, cursor: Any) -> None:
        self._connection = connection
        self._cursor = cursor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)

    def execute(self, sql: str, *args: Any) -> Any:
        if self._connection.failing(sql):
            raise FULL
        return self._cursor.execute(sql, *args)


class BatchTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.store = make_store(self)
        # Takes a block of ids, in a transaction of its own.
        run_job(self.store, accounts.ensure, "first")
        self.results: list[Any] = []

    def job(self, fn: Any) -> _Job:
        deferred: Deferred[Any] = Deferred()
        deferred.addBoth(self.results.append)
        return _Job(fn, deferred)

    def adding(self, name: str) -> _Job:
        return self.job(lambda tx: accounts.ensure(tx, name).name)

    def failing(self, exc: Exception, *statements: str) -> _Job:
        def fn(tx: Any) -> None:
            for sql in statements:
                self.store._writer_connection.execute(sql)
            raise exc

        return self.job(fn)

    def outcomes(self) -> list[Any]:
        return [r.type if isinstance(r, Failure) else r for r in self.results]

    def names(self) -> list[str]:
        return [name for name in run_job(self.store, accounts.all_names) if name != "first"]

    def test_failing_job_hurts_only_itself(self) -> None:
        jobs = [self.adding("a"), self.failing(KeyError()), self.adding("b")]
        self.store._run_batch(self.store._writer_connection, jobs)
        self.assertEqual(self.outcomes(), ["a", KeyError, "b"])
        self.assertEqual(sorted(self.names()), ["a", "b"])

    def test_each_job_fails_once_when_the_commit_does(self) -> None:
        connection = Connection(self.store._writer_connection, "COMMIT")
        jobs = [self.adding("a"), self.failing(KeyError()), self.adding("b")]
        self.store._run_batch(connection, jobs)
        self.assertCountEqual(self.outcomes(), [DiskFull, KeyError, DiskFull])
        self.assertEqual(self.names(), [])
        self.store._run_batch(connection, [self.adding("c")])
        self.assertEqual(self.names(), ["c"])

    def test_single_job_fails_once_when_the_commit_does(self) -> None:
        connection = Connection(self.store._writer_connection, "COMMIT")
        self.store._run_batch(connection, [self.adding("a")])
        self.assertEqual(self.outcomes(), [DiskFull])

    def test_file_goes_with_the_message_that_could_not_be_committed(self) -> None:
        account = make_account(self.store)
        new = message(self.store, b"Subject: big\r\n\r\n" + b"x" * 100_000)
        path = new.content.path
        assert path is not None

        def add(tx: Any) -> int:
            inbox = mailboxes.find(tx, account.id, "Inbox")
            assert inbox is not None
            return messages.add(tx, account.id, inbox.id, new).uid

        for connection in (
            Connection(self.store._writer_connection, "COMMIT"),
            self.store._writer_connection,
        ):
            self.assertTrue(os.path.exists(path))
            self.store._run_batch(connection, [self.job(add), self.adding("a")])
        self.assertEqual(self.outcomes(), [DiskFull, DiskFull, 1, "a"])
        new.content.discard()
        self.assertTrue(os.path.exists(path))

        new = message(self.store, b"Subject: big\r\n\r\n" + b"x" * 100_000)
        connection = Connection(self.store._writer_connection, "COMMIT")
        self.store._run_batch(connection, [self.job(add)])
        assert new.content.path is not None
        new.content.discard()
        self.assertFalse(os.path.exists(new.content.path))

    def test_transaction_that_is_gone_in_the_middle(self) -> None:
        """SQLite may roll back everything when the disk is full, not just the statement."""
        jobs = [self.adding("a"), self.failing(FULL, "ROLLBACK"), self.adding("b")]
        self.store._run_batch(self.store._writer_connection, jobs)
        # The first is undone and must know. The last one has its chance in a new transaction.
        self.assertEqual(self.outcomes(), [DiskFull, DiskFull])
        self.assertEqual(list(self.store._write_jobs), [jobs[2]])
        self.store._write_jobs.clear()
        self.store._run_batch(self.store._writer_connection, [jobs[2]])
        self.assertEqual(self.outcomes(), [DiskFull, DiskFull, "b"])
        self.assertEqual(self.names(), ["b"])

    def test_single_job_whose_transaction_is_gone(self) -> None:
        self.store._run_batch(
            self.store._writer_connection, [self.failing(FULL, "ROLLBACK")]
        )
        self.assertEqual(self.outcomes(), [DiskFull])
        self.store._run_batch(self.store._writer_connection, [self.adding("a")])
        self.assertEqual(self.names(), ["a"])


class Counting(Connection):
    """A connection that counts its transactions."""

    begun = 0

    def failing(self, sql: str) -> bool:
        self.begun += sql.startswith("BEGIN")
        return super().failing(sql)


class ReadTests(SynchronousTestCase):
    """Readers, as their threads run jobs: those that wait share a snapshot."""

    def setUp(self) -> None:
        self.store = make_store(self)
        self.connection = Counting(self.store._reader_connection, "")
        self.store._inline = False
        self.addCleanup(setattr, self.store, "_inline", True)
        self.addCleanup(setattr, self.store, "reactor", self.store.reactor)
        self.store.reactor = self
        self.told: list[Any] = []

    def callFromThread(self, call: Any, *args: Any) -> None:
        call(*args)

    def give(self, fn: Any) -> None:
        self.store.read(fn).addBoth(self.told.append)

    def run_some(self) -> None:
        """What a reader does when it wakes up."""
        self.store._read_ready.acquire(blocking=False)
        self.store._run_reads(self.connection, self.store._read_jobs.popleft())

    def test_those_that_wait_share_a_snapshot(self) -> None:
        for number in range(3):
            self.give(lambda tx, number=number: number)
        self.run_some()
        self.assertEqual((self.told, self.connection.begun), ([0, 1, 2], 1))
        self.assertFalse(self.store._read_ready.acquire(blocking=False))
        self.assertFalse(self.store._reader_connection.in_transaction)

    def test_what_comes_later_sees_what_was_written_until_then(self) -> None:
        def first(tx: Any) -> str:
            # The answer to a write may have come while the snapshot was older than that.
            self.give(lambda tx: "later")
            return "first"

        self.give(first)
        self.run_some()
        self.assertEqual(self.told, ["first"])
        self.run_some()
        self.assertEqual((self.told, self.connection.begun), (["first", "later"], 2))

    def test_failure_is_of_one_job(self) -> None:
        self.give(lambda tx: tx.raw("SELECT nonsense"))
        self.give(lambda tx: "good")
        self.run_some()
        self.assertEqual(len(self.told), 1)
        self.assertIsInstance(self.told[0], Failure)
        self.run_some()
        self.assertEqual(self.told[1:], ["good"])

    def test_no_transaction_to_be_had(self) -> None:
        self.connection._statement = self.store.backend.begin_read
        for _ in range(2):
            self.give(lambda tx: "good")
        self.run_some()
        self.assertIsInstance(self.told[0].value, DiskFull)
        self.run_some()
        self.assertEqual(self.told[1:], ["good"])

    def test_a_slow_one_keeps_nobody_waiting(self) -> None:
        now = [0.0]
        self.patch(db.time, "monotonic", lambda: now[0])

        def slow(tx: Any) -> None:
            now[0] += 1

        self.give(slow)
        self.give(lambda tx: "next")
        self.run_some()
        self.assertEqual(len(self.store._read_jobs), 1)
        self.run_some()
        self.assertEqual(self.told, [None, "next"])


class CheckpointTests(TestCase):
    """Pages of the log come into the database beside the writer."""

    @inlineCallbacks
    def test_beside_the_writer(self) -> Generator[Deferred[Any], Any, None]:
        from twisted.internet import reactor

        self.patch(db, "_CHECKPOINT_LATER", 0.0)
        store = db.Store(self.mktemp(), reactor)
        done = threading.Event()
        checkpoint = SQLiteBackend.checkpoint
        failed: list[Exception] = []

        def watched(backend: SQLiteBackend, connection: Any) -> int:
            if not failed:
                failed.append(FULL)
                raise FULL  # is told, and tried again after the next commit
            pages = checkpoint(backend, connection)
            done.set()
            return pages

        self.patch(SQLiteBackend, "checkpoint", watched)
        store.open()
        store.startService()
        self.addCleanup(store.stopService)
        for number in range(100):
            yield store.write(lambda tx, name=f"a{number}": accounts.ensure(tx, name))
            if done.is_set():
                break
        yield deferToThread(done.wait, 10)
        # Sees the database file alone, without the log.
        path = os.path.join(store.data_dir, "moxtw.db")
        alone = sqlite3.connect(f"file:{path}?immutable=1", uri=True)
        self.addCleanup(alone.close)
        names = [row[0] for row in alone.execute("SELECT name FROM accounts")]
        self.assertIn("a0", names)
