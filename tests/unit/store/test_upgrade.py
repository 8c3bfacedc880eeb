"""Databases of older versions."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import sqlalchemy as sa
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from moxtw.store import (
    accounts,
    history,
    junkdb,
    mailboxes,
    messages,
    queuedb,
    schema,
    sorting,
    upgrade,
)
from moxtw.store import annotations as annotation_ops
from moxtw.store.backend import open_backend
from moxtw.store.db import Store
from moxtw.store.errors import SchemaTooNew, StoreError
from moxtw.store.model import Want
from moxtw.store.schema_history import history as history_table
from moxtw.store.tx import Statement
from moxtw.store.verify import verify_all
from tests.support.store import job

# A database as version 1 made it: three messages, the second junk, the third not junk; and one
# in the queue.
VERSION_1 = Path(__file__).with_name("schema_v1.sql").read_text()


def _place(name: str) -> int:
    """Where the step of that name stands."""
    return [step.__name__ for step in upgrade.STEPS[2]].index(name)


class UpgradeTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.dir = self.mktemp()
        Path(self.dir).mkdir()
        self.path = f"{self.dir}/moxtw.db"

    def old(self, script: str = VERSION_1) -> None:
        connection = sqlite3.connect(self.path)
        connection.executescript(script)
        connection.close()

    def open(self) -> Store:
        store = Store(
            self.dir, Clock(), inline=True, now=lambda: 1_750_000_000_000_000
        )
        store.open()
        store.startService()
        self.addCleanup(store.stopService)
        return store

    def schema(self) -> dict[str, object]:
        """What there is in the database file: columns by table, and other things by name."""
        connection = sqlite3.connect(self.path)
        found: dict[str, object] = {}
        for kind, name, sql in connection.execute("SELECT type, name, sql FROM sqlite_master"):
            if kind == "table":
                columns = connection.execute(f"PRAGMA table_info({name})").fetchall()
                found[name] = sorted(column[1:] for column in columns)
            else:
                found[name] = sql and " ".join(sql.replace("IF NOT EXISTS ", "").split())
        connection.close()
        return found

    def test_it_becomes_like_a_new_one(self) -> None:
        self.old()
        self.open()
        upgraded = self.schema()
        self.dir = self.mktemp()
        Path(self.dir).mkdir()
        self.path = f"{self.dir}/moxtw.db"
        self.open()
        self.assertEqual(upgraded, self.schema())

    def test_what_it_holds_stays(self) -> None:
        self.old()
        store = self.open()
        account = job(store, accounts.get, "me")
        inbox = job(store, mailboxes.find, account.id, "Inbox")
        rows = job(store, messages.rows, inbox.id, [(1, 9)], Want.FLAGS)
        self.assertEqual([row.flags for row in rows], [0, 16, 33])
        whole = job(store, messages.read, rows[2].id)
        self.assertTrue(whole.endswith(b"body 3\r\n"), whole)
        queued = job(store, queuedb.get, 1)
        self.assertEqual(queued.dsn.notify, 0)

    def test_messages_are_themselves_and_annotations_can_be_kept(self) -> None:
        self.old()
        store = self.open()
        account = job(store, accounts.get, "me")
        inbox = job(store, mailboxes.find, account.id, "Inbox")
        rows = job(store, messages.rows, inbox.id, [(1, 9)], Want.EMAIL)
        self.assertEqual([row.email_id for row in rows], [row.id for row in rows])
        entry = ("/private/comment", annotation_ops.Value(b"old", True))
        job(store, annotation_ops.change, account.id, inbox.id, [entry])
        found = job(store, annotation_ops.names, account.id)
        self.assertEqual(found, [(inbox.id, "/private/comment", 3)])

    def test_history_is_made_of_what_was_judged(self) -> None:
        self.old()
        store = self.open()
        self.assertFalse(job(store, history.follow))
        judged = job(
            store,
            lambda tx: tx.all(
                Statement(sa.select(history_table.c.junk, history_table.c.from_domain))
            ),
        )
        self.assertEqual(sorted(judged), [(0, "example.net"), (1, "example.net")])

    def test_keys_to_sort_by_are_made_in_pieces(self) -> None:
        self.old()
        store = self.open()
        inbox = job(store, mailboxes.find, job(store, accounts.get, "me").id, "Inbox")
        self.assertTrue(job(store, sorting.is_due, inbox.id))
        self.assertTrue(job(store, sorting.fill, inbox.id))
        self.assertFalse(job(store, sorting.is_due, inbox.id))
        order = (("subject", True),)
        self.assertEqual(job(store, sorting.ordered, inbox.id, [1, 2, 3], order), [3, 2, 1])
        # A step that runs once more changes nothing.
        connection = sqlite3.connect(self.path)
        upgrade.STEPS[2][_place("_sort_keys")](upgrade.Upgrade(store.backend, connection.execute))
        connection.commit()
        connection.close()
        self.assertFalse(job(store, sorting.is_due, inbox.id))
        # What is left is of no mailbox.
        self.assertTrue(job(store, sorting.fill))
        self.assertFalse(job(store, sorting.fill))
        self.assertEqual(self.successResultOf(Deferred.fromCoroutine(verify_all(store))), [])

    def test_flagged_messages_are_to_be_learned(self) -> None:
        self.old()
        store = self.open()
        account = job(store, accounts.get, "me")
        found = job(store, junkdb.untrained, account.id, 0, 0, 10, 10_000)
        self.assertEqual([each.data[-8:] for each in found], [b"body 2\r\n", b"body 3\r\n"])

    def test_an_interrupted_step_is_undone(self) -> None:
        self.old()
        steps = dict(upgrade.STEPS)

        def broken(up: upgrade.Upgrade) -> None:
            raise ZeroDivisionError

        self.patch(upgrade, "STEPS", {**steps, 2: (*steps[2], broken)})
        before = self.schema()
        self.assertRaises(ZeroDivisionError, self.open)
        self.assertEqual(self.schema(), before)
        self.patch(upgrade, "STEPS", steps)
        self.open()

    def test_steps_to_each_version(self) -> None:
        self.assertEqual(list(upgrade.STEPS), list(range(2, schema.VERSION + 1)))

    def test_newer_and_incomplete_ones_are_refused(self) -> None:
        self.open()
        connection = sqlite3.connect(self.path)
        connection.execute("UPDATE meta SET value = '99' WHERE key = 'schema_version'")
        connection.commit()
        backend = open_backend(f"sqlite:///{self.path}")
        exc = self.assertRaises(SchemaTooNew, upgrade.prepare, backend)
        self.assertIn("version 99", str(exc))
        connection.execute("DELETE FROM meta")
        connection.commit()
        connection.close()
        self.assertRaises(StoreError, upgrade.prepare, backend)
