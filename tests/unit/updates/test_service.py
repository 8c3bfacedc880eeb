"""When versions are asked for, and what the postmaster gets."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from moxtw.config.testing import FixedConfig
from moxtw.store import mailboxes, messages
from moxtw.store.model import Flag, Want
from moxtw.updates import changelog, lastknown, service
from moxtw.updates.check import UpdateError, running
from moxtw.updates.record import Version
from moxtw.updates.service import UpdateService
from tests.support.store import job, make_account, make_store
from tests.unit.updates.test_changelog import SEED, text

DAY = 24 * 3600


class FakeSource:
    """What is announced."""

    def __init__(self) -> None:
        self.version = Version()
        self.texts: list[str] = []
        self.error: Exception | None = None
        self.waits: Deferred[None] | None = None
        self.asked = 0
        self.since: list[Version] = []

    async def latest(self) -> Version:
        self.asked += 1
        if self.waits is not None:
            await self.waits
        if self.error is not None:
            raise self.error
        return self.version

    async def changes(self, since: Version) -> list[changelog.Change]:
        self.since.append(since)
        return changelog.since([changelog.sign(SEED, each) for each in self.texts], since)


class UpdateServiceTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.patch(service, "running", lambda: Version(0, 1, 0))
        self.clock = Clock()
        self.clock.advance(1_800_000_000)
        self.store = make_store(self, self.clock)
        self.account = make_account(self.store, "me")
        self.config = FixedConfig()
        self.source = FakeSource()
        self.data = Path(self.mktemp())
        self.data.mkdir()
        self.service = self.make()

    def make(self) -> UpdateService:
        made = UpdateService(
            self.store, self.config, self.source, self.data, self.clock
        )
        made.startService()
        self.addCleanup(lambda: made.running and made.stopService())
        self.clock.advance(0)
        return made

    def told(self) -> list[tuple[bytes, int]]:
        """Messages for the postmaster, and their flags."""
        static = self.config.static
        found = job(self.store, mailboxes.find, self.account.id, static.postmaster.mailbox)
        if found is None:
            return []
        rows = job(self.store, messages.rows, found.id, [(1, 99)], Want.FLAGS)
        return [(job(self.store, messages.read, row.id), row.flags) for row in rows]

    def test_nothing_new(self) -> None:
        self.source.version = Version(0, 1, 0)
        self.clock.advance(DAY)
        self.assertEqual((self.source.asked, self.source.since, self.told()), (2, [], []))
        self.assertEqual(lastknown.read(self.data), (Version(0, 1, 0), self.clock.seconds()))

    def test_new_versions(self) -> None:
        self.source.version = Version(0, 3, 0)
        self.source.texts = [text("v0.3.0"), text("v0.2.0"), text("v0.1.0")]
        self.clock.advance(DAY - 1)
        self.assertEqual(self.source.asked, 1)
        self.assertEqual(self.told(), [])
        self.clock.advance(1)
        self.assertEqual(self.source.since, [Version(0, 1, 0)])
        ((data, flags),) = self.told()
        self.assertEqual(flags, Flag.FLAGGED)
        self.assertIn(b"Subject: moxtw v0.3.0 is available\r\n", data)
        self.assertIn(b"From: moxtw <postmaster@", data)
        self.assertTrue(data.startswith(b"Return-Path: <>\r\n"))
        self.assertLess(data.index(b"version: v0.3.0"), data.index(b"version: v0.2.0"))
        self.assertNotIn(b"version: v0.1.0", data)
        # Told once only, by the next process too.
        self.clock.advance(DAY)
        self.service.stopService()
        self.service = self.make()
        self.clock.advance(DAY)
        self.assertEqual(len(self.told()), 1)
        self.assertEqual(self.source.asked, 4)

    def test_time_of_the_last_check_outlasts_restarts(self) -> None:
        self.service.stopService()
        asked = self.source.asked
        self.clock.advance(DAY - 100)
        self.service = self.make()
        self.clock.advance(99)
        self.assertEqual(self.source.asked, asked)
        self.clock.advance(1)
        self.assertEqual(self.source.asked, asked + 1)

    def test_a_time_to_come(self) -> None:
        self.service.stopService()
        path = self.data / lastknown.NAME
        os.utime(path, (2_000_000_000, 2_000_000_000))
        asked = self.source.asked
        self.service = self.make()
        self.clock.advance(DAY)
        self.assertEqual(self.source.asked, asked + 1)

    def test_errors_are_tried_again_sooner(self) -> None:
        self.source.error = UpdateError("no answer")
        self.clock.advance(DAY)
        self.source.error = None
        self.source.version = Version(0, 2, 0)
        self.source.texts = [text("v0.2.0")]
        self.clock.advance(3599)
        self.assertEqual(self.told(), [])
        self.clock.advance(1)
        self.assertEqual(len(self.told()), 1)

    def test_announced_without_description(self) -> None:
        self.source.version = Version(0, 2, 0)
        self.clock.advance(DAY)
        self.assertEqual(self.told(), [])
        self.assertEqual(lastknown.read(self.data)[0], Version(0, 1, 0))
        # What is signed counts, rather than what DNS says.
        self.source.version = Version(9, 0, 0)
        self.source.texts = [text("v0.2.0")]
        self.clock.advance(3600)
        self.assertEqual(len(self.told()), 1)
        self.assertEqual(lastknown.read(self.data)[0], Version(0, 2, 0))

    def test_not_stored(self) -> None:
        self.source.version = Version(0, 2, 0)
        self.source.texts = [text("v0.2.0")]
        write = self.store.write

        def refuse(fn: Any) -> Any:
            raise OSError("disk full")

        self.patch(self.store, "write", refuse)
        self.clock.advance(DAY)
        self.assertEqual(lastknown.read(self.data)[0], Version(0, 1, 0))
        self.patch(self.store, "write", write)
        self.clock.advance(3600)
        self.assertEqual(len(self.told()), 1)

    def test_stopped_while_it_asks(self) -> None:
        self.source.waits = Deferred()
        self.clock.advance(DAY)
        self.service.stopService()
        self.clock.advance(DAY)
        self.clock.advance(DAY)
        self.assertEqual(self.source.asked, 2)

    def test_unreadable_file(self) -> None:
        self.service.stopService()
        (self.data / lastknown.NAME).write_bytes(b"\xff\x00")
        asked = self.source.asked
        self.service = self.make()
        self.assertEqual(self.source.asked, asked + 1)
        self.assertEqual(lastknown.read(self.data)[0], Version(0, 1, 0))

    def test_running_version(self) -> None:
        self.assertGreater(running(), Version())
