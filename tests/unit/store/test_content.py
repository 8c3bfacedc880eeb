"""Contents: spools, files, and what happens to them when things go wrong."""

import hashlib
import os
import subprocess
import sys

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from moxtw.store import content as content_module
from moxtw.store import mailboxes, messages, upgrade, verify
from moxtw.store.errors import DiskFull, NoContent
from moxtw.store.model import NewMessage
from tests.support.store import job, make_account, make_store, now

HEADER = b"Subject: hi\r\n\r\n"


class SpoolTests(SynchronousTestCase):
    def setUp(self):
        self.store = make_store(self)
        self.contents = self.store.contents

    def files(self):
        found = []
        for folder, _folders, names in os.walk(self.contents.directory):
            found += [os.path.join(folder, name) for name in names]
        return found

    def spooled(self, *chunks):
        spool = self.contents.spool()
        for chunk in chunks:
            waiting = spool.write(chunk)
            if waiting is not None:
                now(waiting)
        return now(Deferred.fromCoroutine(spool.finish()))

    def test_sizes_around_the_limits(self):
        small, write = content_module.SMALL, content_module._WRITE_SIZE
        for size in (0, 1, small - 1, small, small + 1, write - 1, write, write + 1, 3 * write):
            data = (HEADER + b"0123456789abcde\n" * (size // 16 + 1))[:size]
            pieces = [data[i : i + 50_000] for i in range(0, size, 50_000)]
            spooled = self.spooled(*pieces)
            self.assertEqual(spooled.size, size)
            self.assertEqual(spooled.read(0, size), data)
            self.assertEqual(spooled.data is not None, size <= small)
            self.assertEqual(self.contents.pending, 0)
            spooled.discard()
            self.assertEqual(self.files(), [])

    def test_digest_of_small_contents(self):
        for size in (0, 1, 2046, 2047, 2048, 4094, 4095, 65536):
            data = os.urandom(size)
            spooled = self.store.contents.from_bytes_now(data)
            self.assertEqual(spooled.digest, hashlib.sha256(data).digest())

    def test_memory_of_all_spools_is_bounded(self):
        self.patch(content_module, "_BUDGET", 200_000)
        spools = [self.contents.spool() for _ in range(4)]
        for spool in spools:
            self.assertIsNone(spool.write(b"x" * 60_000))
        # Over the budget together: who has more than a small content must write.
        waiting = spools[0].write(b"x" * 10_000)
        self.assertIsNotNone(waiting)
        now(waiting)
        self.assertIsNone(spools[1].write(b"x"))
        self.assertEqual(self.contents.pending, 180_001)
        for spool in spools:
            spool.discard()
        self.assertEqual((self.contents.pending, self.files()), (0, []))

    def test_full_disk(self):
        def full():
            raise OSError(28, "No space left on device")

        self.patch(self.contents, "new_file", full)
        spool = self.contents.spool()
        waiting = spool.write(b"x" * content_module._WRITE_SIZE)
        self.assertRaises(DiskFull, now, waiting)
        self.assertRaises(DiskFull, now, spool.write(b"more"))
        self.assertRaises(DiskFull, now, Deferred.fromCoroutine(spool.finish()))
        other = self.contents.spool()
        other.write(b"x" * 100_000)
        self.assertRaises(DiskFull, now, Deferred.fromCoroutine(other.finish()))
        self.assertEqual((self.contents.pending, self.files()), (0, []))

    def test_damage_is_found(self):
        account = make_account(self.store)
        inbox = job(self.store, mailboxes.named, account.id, "Inbox")
        spooled = self.spooled(HEADER + b"x" * 100_000)
        added = job(self.store, messages.add, account.id, inbox.id, NewMessage(spooled))
        self.assertEqual(now(Deferred.fromCoroutine(verify.verify_all(self.store))), [])
        (path,) = self.files()
        with open(path, "r+b") as f:
            f.seek(500)
            f.write(b"y")
        (error,) = now(Deferred.fromCoroutine(verify.verify_all(self.store)))
        self.assertIn("digest", error)
        with open(path, "r+b") as f:
            f.truncate(1000)
        self.assertRaises(NoContent, job, self.store, messages.read, added.id)
        os.unlink(path)
        errors = now(Deferred.fromCoroutine(verify.verify_all(self.store)))
        self.assertTrue(any("No such file" in error for error in errors))


class ReferrerTests(SynchronousTestCase):
    def test_every_table_counts(self):
        """In a process that has loaded no more than the contents, too."""
        code = "from moxtw.store import content; print(*content.REFERRING)"
        found = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
        )
        self.assertIn("queue_sources", upgrade.schema.metadata.tables)  # All are loaded.
        referring = {
            table.name
            for table in upgrade.schema.metadata.tables.values()
            for key in table.foreign_keys
            if key.target_fullname == "contents.id" and not table.c.content_id.primary_key
        }
        self.assertEqual(set(found.stdout.split()), referring)
        self.assertGreater(len(referring), 1)
