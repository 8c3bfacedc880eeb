"""Imports: where messages go, with which flags; what is left after failures and stops."""

from __future__ import annotations

import io
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from moxtw.admin.imports import engine
from moxtw.admin.imports.engine import Aborted, Event, Import, ImportFailed
from moxtw.admin.imports.items import Source, open_source
from moxtw.store import accounts, importsdb, mailboxes, messages
from moxtw.store.db import Store
from moxtw.store.flagnames import flag_names
from moxtw.store.tx import Tx
from tests.support.store import job, make_account, make_store, now
from tests.unit.admin.imports.test_archive import make_tar, make_zip


def make_mbox(count: int, size: int = 10) -> bytes:
    return b"".join(
        b"From a@b Mon Jan  2 15:04:05 2006\nStatus: R\nSubject: %d\n\n%s\n\n" % (n, b"x" * size)
        for n in range(count)
    )


class ImportCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.store: Store = make_store(self)
        self.account = make_account(self.store)
        self.events: list[Event] = []

    def source(self, data: bytes, name: str = "up.mbox", **options: Any) -> Source:
        return open_source(io.BytesIO(data), name, len(data), **options)

    def make(self, data: bytes, token: str = "t", quota: int = 0, **options: Any) -> Import:
        source = self.source(data, **options)
        return Import(self.store, self.account.id, source, token, quota, self.events.append)

    def run_import(self, task: Import) -> None:
        now(Deferred.fromCoroutine(task.run()))

    def content(self) -> dict[str, list[tuple[bytes, list[str], int]]]:
        """Messages with flags and seconds by mailbox, of mailboxes that have some."""

        def read(tx: Tx) -> Any:
            found = {}
            for mailbox in mailboxes.all(tx, self.account.id):
                rows = messages.rows(tx, mailbox.id, messages.ALL_UIDS, 3 | 4)
                if rows:
                    found[mailbox.name] = [
                        (
                            messages.read(tx, row.id),
                            flag_names(row.flags or 0, row.keywords or ""),
                            (row.received or 0) // 1_000_000,
                        )
                        for row in rows
                    ]
            return found

        return job(self.store, read)  # type: ignore[no-any-return]

    def names(self) -> set[str]:
        return {m.name for m in job(self.store, mailboxes.all, self.account.id)}

    def told(self, kind: str) -> list[str]:
        return [event.text for event in self.events if event.kind == kind]


class ImportTests(ImportCase):
    def test_archives_with_everything(self) -> None:
        files = {
            "mail/Lists/cur/1136214245.1.x:2,FSab": b"Subject: a\nDate: x\n\nlf\n",
            "mail/Lists/new/1136214246.2.x": b"Subject: b\r\n\r\ncrlf\r\n",
            "mail/Lists/tmp/3": b"incomplete",
            "mail/Lists/dovecot-keywords": b"0 NonJunk\n1 Work\n",
            "mail/Sent.mbox": make_mbox(2),
            "mail/empty.mbox": b"",
            "mail/none.mbox": b"no mbox",
            "mail/README": b"?",
            "../evil.mbox": make_mbox(1),
            "/abs.mbox": make_mbox(1),
            "mail/a//../b.mbox": make_mbox(1),
        }
        for data in [make_tar(files), make_tar(files, "w:gz"), make_zip(files)]:
            self.setUp()
            self.run_import(self.make(data, prefix="mail/"))
            found = self.content()
            expected_flags = ["\\seen", "\\flagged", "$notjunk", "work"]
            self.assertEqual(
                found["Lists"],
                [
                    (b"Subject: a\r\nDate: x\r\n\r\nlf\r\n", expected_flags, 1_136_214_245),
                    (b"Subject: b\r\n\r\ncrlf\r\n", [], 1_136_214_246),
                ],
            )
            self.assertEqual(set(found), {"Lists", "Sent"})
            self.assertEqual([m[2] for m in found["Sent"]], [1_136_214_245] * 2)
            self.assertTrue({"empty", "none"} <= self.names())
            problems = " ".join(self.told("problem"))
            for word in ["README", "../evil", "/abs", "a//../b", "none.mbox"]:
                self.assertIn(word, problems)
            self.assertEqual(len(self.told("problem")), 5)
            subscribed = job(self.store, mailboxes.subscriptions_of, self.account.id)
            self.assertIn("Lists", subscribed)

    def test_names_of_mailboxes(self) -> None:
        files = {
            "cur/1": b"A: b\n\n",
            "inbox.mbox": make_mbox(1),
            "a/b/c.mbox": make_mbox(1),
            "e\u0301.mbox": make_mbox(1),
            "#x.mbox": make_mbox(1),
            "./d.mbox": make_mbox(1),
        }
        self.run_import(self.make(make_zip(files)))
        self.assertEqual(len(self.content()["Inbox"]), 2)
        self.assertEqual(set(self.content()), {"Inbox", "a/b/c", "\u00e9", "d"})
        self.assertIn("#x", " ".join(self.told("problem")))

    def test_a_plain_mbox(self) -> None:
        self.run_import(self.make(make_mbox(3)))
        self.assertEqual(len(self.content()["up"]), 3)
        self.assertIsNone(job(self.store, importsdb.find, "t"))
        self.assertEqual([e.count for e in self.events if e.kind == "count"][-1], 3)

    def test_large_messages_and_too_large_ones(self) -> None:
        from moxtw.admin.imports import items

        self.patch(items, "MAX_MESSAGE", 3_000_000)
        data = make_mbox(1) + make_mbox(1, 2_000_000) + make_mbox(1, 4_000_000) + make_mbox(1)
        self.run_import(self.make(data))
        self.assertEqual([len(m[0]) > 100_000 for m in self.content()["up"]], [False, True, False])
        self.assertEqual(len(self.told("problem")), 1)

    def test_quota(self) -> None:
        with self.assertRaises(ImportFailed):
            self.run_import(self.make(make_mbox(300, 1000), quota=150_000))
        self.assertEqual(self.content(), {})
        self.assertNotIn("up", self.names())

    def test_damage_changes_nothing(self) -> None:
        data = make_tar({"a.mbox": make_mbox(200), "b.mbox": make_mbox(200)})
        for bad in [data[: len(data) // 2], b"nothing"]:
            with self.assertRaises((ImportFailed, Exception)):
                self.run_import(self.make(bad))
            self.assertEqual(self.content(), {})
        with self.assertRaises(ImportFailed):
            self.run_import(self.make(make_tar({"a.mbox": make_mbox(200)}, "w:gz")[:-200]))
        self.assertNotIn("a", self.names())

    def stop_after(self, data: bytes, count: int, how: str, token: str = "t") -> None:
        def tell(event: Event) -> None:
            if event.kind == "count" and event.count >= count:
                task.stop(how)

        task = self.make(data, token)
        task.events = tell
        with self.assertRaises(Aborted):
            self.run_import(task)

    def test_an_aborted_import_leaves_nothing(self) -> None:
        job(self.store, mailboxes.create, self.account.id, "up/kept")
        self.stop_after(make_mbox(500), 100, "abort")
        self.assertEqual(self.content(), {})
        self.assertIn("up", self.names())
        self.stop_after(make_tar({"x/y.mbox": make_mbox(500)}), 100, "abort")
        self.assertEqual(self.names() & {"x", "x/y"}, set())

    def test_an_interrupted_import_goes_on(self) -> None:
        for data, mailbox in [
            (make_mbox(500), "up"),
            (make_zip({"z.mbox": make_mbox(300), "z/cur/1": b"A: b\n\n"}), "z"),
        ]:
            self.stop_after(data, 100, "leave")
            between = len(self.content()[mailbox])
            self.assertTrue(100 <= between < 300)
            self.stop_after(data, between + 50, "leave", "u")
            self.assertIsNone(job(self.store, importsdb.find, "t"))
            self.run_import(self.make(data, "v"))
            found = [m[0] for m in self.content()[mailbox]]
            self.assertEqual(len(found), len(set(found)))
            self.assertEqual(len(found), 500 if mailbox == "up" else 301)

    def test_an_interrupted_import_can_be_taken_back(self) -> None:
        self.stop_after(make_mbox(500), 100, "leave")
        now(Deferred.fromCoroutine(engine.undo(self.store, "t")))
        self.assertEqual(self.content(), {})
        self.run_import(self.make(make_mbox(500), "u"))
        self.assertEqual(len(self.content()["up"]), 500)

    def test_the_same_twice_is_imported_twice(self) -> None:
        for _ in range(2):
            self.run_import(self.make(make_mbox(5)))
        self.assertEqual(len(self.content()["up"]), 10)

    def test_two_that_continue_the_same(self) -> None:
        self.stop_after(make_mbox(500), 100, "leave")
        task = self.make(make_mbox(500), "other")
        state = job(self.store, importsdb.find, "t")
        job(self.store, importsdb.undo_some, "t")
        with self.assertRaises(importsdb.ImportGone):
            job(self.store, importsdb.advance, state._replace(position=1), 5, {}, (), {})
        self.run_import(task)

    def test_mailboxes_that_are_removed_meanwhile(self) -> None:
        def tell(event: Event) -> None:
            if event.kind == "count" and event.count == 128:
                job(self.store, mailboxes.delete, self.account.id, "up")

        task = self.make(make_mbox(300))
        task.events = tell
        self.run_import(task)
        self.assertEqual(len(self.content()["up"]), 300 - 128)

    def test_accounts_that_are_removed_meanwhile(self) -> None:
        def tell(event: Event) -> None:
            if event.kind == "count" and event.count == 128:
                now(Deferred.fromCoroutine(accounts.remove(self.store, "mox")))

        task = self.make(make_mbox(300))
        task.events = tell
        with self.assertRaises(ImportFailed):
            self.run_import(task)
