"""The writer thread: jobs share commits, each gets its own result."""

import threading

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import TestCase

from moxtw.store import accounts, db
from moxtw.store.db import Store
from moxtw.store.errors import NoSuchAccount, StoreClosed


class GroupCommitTests(TestCase):
    timeout = 30

    def setUp(self):
        self.store = Store(self.mktemp(), reactor)
        self.batches = []
        run_batch = self.store._run_batch

        def counted(connection, batch):
            self.batches.append(len(batch))
            run_batch(connection, batch)

        self.store._run_batch = counted
        self.store.startService()
        self.addCleanup(self.store.stopService)

    def make(self, name):
        return self.store.write(lambda tx: accounts.ensure(tx, name).id)

    def light(self, result):
        return self.store.write(lambda tx: result)

    def hold(self):
        """Keep the writer busy with a job. Returns the event that lets it go on, and the job.

        What is written meanwhile is there before the writer looks, however the threads run.
        """
        self.patch(db, "_BATCH_SECONDS", 20)
        running, go = threading.Event(), threading.Event()
        self.addCleanup(go.set)

        def wait(tx):
            running.set()
            return go.wait(20)

        held = self.store.write(wait)
        self.assertTrue(running.wait(20))
        return go, held

    async def test_jobs_of_one_turn_share_a_commit(self):
        go, held = self.hold()
        jobs = [self.light(i) for i in range(100)]
        go.set()
        await held
        self.assertEqual(await gatherResults(jobs), list(range(100)))
        self.assertEqual(self.batches, [1, 100])

    async def test_alone_nobody_waits_for_others(self):
        for i in range(20):
            await self.light(i)
        self.assertEqual(self.batches, [1] * 20)

    async def test_fewer_than_last_time(self):
        """The writer waits a moment for the others, who do not come."""
        go, held = self.hold()
        jobs = [self.light(i) for i in range(10)]
        go.set()
        await gatherResults([held, *jobs])
        await self.light(1)
        await self.light(2)
        self.assertEqual(self.batches, [1, 10, 1, 1])

    async def test_failing_job_hurts_only_itself(self):
        good, bad, last = (
            self.make("a"),
            self.store.write(lambda tx: accounts.get(tx, "nobody")),
            self.make("b"),
        )
        await good
        await self.assertFailure(bad, NoSuchAccount)
        await last
        names = await self.store.read(accounts.all_names)
        self.assertEqual(names, ["a", "b"])

    async def test_stopping_finishes_what_waits(self):
        jobs = [self.make(f"account{i}") for i in range(5)]
        await self.store.stopService()
        self.assertEqual(len(await gatherResults(jobs)), 5)
        await self.assertFailure(self.make("late"), StoreClosed)

    async def test_after_telling(self):
        """What is joined over a commit is called when all have heard of it, once."""
        calls = []
        all_heard = Deferred()

        def heard(_id, name):
            calls.append(name)
            self.store.after_telling(lambda: calls.append("after " + name))
            if name == "b":
                self.store.after_telling(lambda: all_heard.callback(None))

        for name in ("a", "b"):
            self.make(name).addCallback(heard, name)
        await all_heard
        self.assertEqual(calls, ["a", "b", "after a", "after b"])
        self.store.after_telling(lambda: calls.append("now"))
        self.assertEqual(calls[-1], "now")
