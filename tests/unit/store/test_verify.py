"""Checks of what is stored find each fault, and what can be computed anew is repaired."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from moxtw.cli.datadir import repair_all, verify
from moxtw.store import mailboxes, messages, repair
from moxtw.store.errors import NoSuchMailbox
from moxtw.store.verify import verify_all
from tests.support.store import job, make_account, make_store, message, now


class Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.store = make_store(self)
        self.account = make_account(self.store)
        self.inbox = self.box("Inbox")
        for number in range(4):
            self.add(b"Subject: s\r\nMessage-ID: <%d@x>\r\n\r\nbody\r\n" % number)
        self.add(
            b"Subject: Re: s\r\nMessage-ID: <9@x>\r\nReferences: <0@x>\r\n\r\n"
            + b"x" * 70
            + b"\r\n" * 100_000
        )
        job(self.store, self.expunge, 2)

    def box(self, name: str) -> Any:
        return job(self.store, mailboxes.named, self.account.id, name)

    def add(self, data: bytes, mailbox: str = "Inbox") -> Any:
        new = message(self.store, data)
        return job(
            self.store, messages.add, self.account.id, self.box(mailbox).id, new
        )

    def expunge(self, tx: Any, uid: int) -> None:
        from moxtw.store import changing

        changing.expunge(
            tx, self.account.id, self.inbox.id, [(uid, uid)], only_deleted=False
        )

    def sql(self, text: str) -> None:
        job(self.store, lambda tx: tx.raw(text) and None)

    def problems(self, **more: Any) -> list[str]:
        return now(Deferred.fromCoroutine(verify_all(self.store, **more)))

    def fix(self) -> list[str]:
        return list(repair_all(self.store, lambda text: None))


class VerifyTests(Case):
    FIXED = (
        ("UPDATE mailboxes SET total = total + 1 WHERE name = 'Inbox'", "counts"),
        ("UPDATE mailboxes SET unseen = 0 WHERE name = 'Inbox'", "counts"),
        ("UPDATE mailboxes SET uidnext = 3 WHERE name = 'Inbox'", "not below uidnext 3"),
        ("UPDATE accounts SET next_uidvalidity = 1", "uidvalidity not below the next one"),
        ("UPDATE accounts SET disk_usage = disk_usage + 7", "disk usage"),
        ("UPDATE messages SET size = size + 3 WHERE uid = 1", "size"),
        ("UPDATE sequences SET next = 1", "next id"),
    )
    FOUND = (
        ("UPDATE messages SET modseq = 1000000 WHERE uid = 1", "bad create_seq or modseq"),
        ("UPDATE messages SET modseq = 0 WHERE uid = 1", "bad create_seq or modseq"),
        ("UPDATE mailboxes SET modseq = 1000000 WHERE name = 'Inbox'", "modseq"),
        ("UPDATE mailboxes SET modseq = create_seq WHERE name = 'Inbox'", "modseq below"),
        ("UPDATE mailboxes SET parent_id = 77 WHERE name = 'Inbox'", "parent does not fit"),
        ("UPDATE mailboxes SET expunged = 1 WHERE name = 'Inbox'", "live in a deleted"),
        ("UPDATE messages SET thread_id = 0 WHERE uid = 1", "no thread"),
        (
            "UPDATE message_meta SET thread_parents = id WHERE message_id = '0@x'",
            "own ancestor",
        ),
        (
            "UPDATE message_meta SET thread_parents = thread_parents || ' 3'"
            " WHERE message_id = '9@x'",
            "ancestors differ",
        ),
        ("UPDATE messages SET content_id = NULL WHERE uid = 1", "content or prefix is missing"),
        ("UPDATE messages SET keywords = 'strange' WHERE uid = 1", "keywords"),
        ("DELETE FROM content_text WHERE content_id = (SELECT min(id) FROM contents)", "text"),
        ("DELETE FROM content_keys", "sorted by is missing"),
        ("UPDATE content_data SET data = CAST(data || ' ' AS BLOB)", "its row says"),
        (
            "UPDATE content_data SET data = CAST(replace(data, 'b', 'c') AS BLOB)",
            "differs from its digest",
        ),
        (
            "INSERT INTO annotations (account_id, mailbox_id, key, is_string, value, create_seq,"
            " modseq, expunged) VALUES (1, 77, '/private/x', 1, 'v', 1, 1, 0)",
            "missing or deleted",
        ),
        ("DELETE FROM content_data", "None bytes, its row says"),
        ("UPDATE messages SET mailbox_id = 77 WHERE uid = 1", "mailbox 77 is missing"),
        ("INSERT INTO content_text (content_id, header) VALUES (777, x'')", "refers to one in"),
    )

    def test_good(self) -> None:
        told: list[str] = []
        self.assertEqual(self.problems(progress=told.append), [])
        self.assertIn("account mox: 5 messages", told)
        self.assertEqual(self.fix(), [])

    def test_each_fault_is_found_and_repaired(self) -> None:
        for statement, text in self.FIXED:
            self.sql(statement)
            found = self.problems()
            self.assertTrue(any(text in each for each in found), (statement, found))
            self.assertTrue(self.fix(), statement)
            self.assertEqual(self.problems(), [], statement)

    def test_each_fault_is_found(self) -> None:
        for statement, text in self.FOUND:
            self.setUp()
            # Not within a transaction.
            self.store._writer_connection.execute("PRAGMA foreign_keys = OFF")
            self.sql(statement)
            found = self.problems()
            self.assertTrue(any(text in each for each in found), (statement, found))

    def test_files(self) -> None:
        directory = Path(self.store.data_dir) / "content"
        (path,) = (each for each in directory.glob("*/*") if each.is_file())
        data = path.read_bytes()
        path.write_bytes(data[:-1] + b"?")
        self.assertTrue(any("digest" in each for each in self.problems()))
        self.assertEqual(self.problems(digests=False), [])
        path.write_bytes(data[:-1])
        self.assertTrue(any("its row says" in each for each in self.problems(digests=False)))
        # What was cut off is not made good by counting it anew.
        self.fix()
        self.assertTrue(any("its row says" in each for each in self.problems(digests=False)))
        path.unlink()
        self.assertTrue(any("No such file" in each for each in self.problems(digests=False)))
        (directory / "stray").write_text("x")
        self.assertEqual(
            verify(self.store, digests=True, progress=lambda text: None)[1], ["stray"]
        )

    def test_many_faults_of_a_kind(self) -> None:
        for number in range(30):
            self.add(b"Subject: n%d\r\n\r\n" % number)
        self.sql("UPDATE messages SET thread_id = 0 WHERE expunged = 0")
        found = self.problems()
        self.assertEqual(len(found), 21)
        self.assertIn("left out", found[-1])


class RepairTests(Case):
    def uids(self, name: str = "Inbox") -> list[int]:
        return list(job(self.store, messages.view, self.box(name).id)[1])

    def test_bump_uidvalidity(self) -> None:
        before = {each.name: each for each in job(self.store, mailboxes.all, self.account.id)}
        (bumped,) = job(self.store, repair.bump_uidvalidity, self.account.id, "Inbox")
        self.assertEqual(bumped.old, before["Inbox"].uidvalidity)
        after = {each.name: each for each in job(self.store, mailboxes.all, self.account.id)}
        self.assertGreater(after["Inbox"].uidvalidity, max(b.uidvalidity for b in before.values()))
        self.assertEqual(after["Inbox"].uidvalidity, bumped.new)
        self.assertEqual(after["Sent"], before["Sent"])
        self.assertEqual(self.uids(), [1, 3, 4, 5])
        every = job(self.store, repair.bump_uidvalidity, self.account.id)
        self.assertEqual({each.mailbox for each in every}, set(before))
        self.assertEqual(len({each.new for each in every}), 1)
        self.assertEqual(self.problems(), [])
        self.assertRaises(
            NoSuchMailbox, job, self.store, repair.bump_uidvalidity, self.account.id, "none"
        )

    def test_reassign_uids(self) -> None:
        self.sql("UPDATE messages SET uid = uid * 10")
        self.sql("UPDATE mailboxes SET uidnext = 60 WHERE name = 'Inbox'")
        self.add(b"Subject: other\r\n\r\n", "Sent")
        sent = self.box("Sent")
        (done,) = job(self.store, repair.reassign_uids, self.account.id, self.inbox.id)
        self.assertEqual((done.mailbox, done.messages), ("Inbox", 5))
        # The expunged one has a number, too.
        self.assertEqual(self.uids(), [1, 3, 4, 5])
        inbox = self.box("Inbox")
        self.assertEqual(inbox.uidnext, 6)
        self.assertEqual(inbox.uidvalidity, done.uidvalidity)
        self.assertNotEqual(inbox.uidvalidity, self.inbox.uidvalidity)
        self.assertEqual(self.box("Sent"), sent)
        self.assertEqual(self.problems(), [])
        self.assertEqual(
            len(job(self.store, repair.reassign_uids, self.account.id)), len(self.boxes())
        )
        self.assertEqual(self.problems(), [])
        self.assertRaises(
            NoSuchMailbox, job, self.store, repair.reassign_uids, self.account.id, 12345
        )

    def boxes(self) -> Any:
        return job(self.store, mailboxes.all, self.account.id)

    def state(self) -> Any:
        def read(tx: Any) -> Any:
            return [
                tx.raw(f"SELECT * FROM {table} ORDER BY 1").fetchall()
                for table in ("accounts", "mailboxes", "messages", "contents", "message_meta")
            ]

        return job(self.store, read)

    def test_failure_undoes_all(self) -> None:
        self.sql("UPDATE messages SET size = size + 3 WHERE uid < 3")
        before = self.state()
        wrong = job(self.store, repair.wrong_sizes, self.account.id, 0)
        for fn, args in (
            (repair.reassign_uids, (self.account.id,)),
            (repair.bump_uidvalidity, (self.account.id,)),
            (repair.fix_sizes, (wrong,)),
            (repair.recount_mailbox, (self.inbox.id,)),
        ):

            def failing(tx: Any, fn: Any = fn, args: Any = args) -> None:
                fn(tx, *args)
                raise RuntimeError("power cut")

            self.assertRaises(RuntimeError, job, self.store, failing)
            self.assertEqual(self.state(), before)

    def test_sizes_of_contents(self) -> None:
        # As if the row had been wrong from the beginning.
        self.sql("UPDATE contents SET size = size + 5 WHERE file IS NULL")
        wrong = job(self.store, repair.wrong_sizes, self.account.id, 0)
        self.assertEqual(len(wrong.contents), 4)
        self.assertEqual(wrong.messages, [])
        self.assertEqual(job(self.store, repair.fix_sizes, wrong), 0)
        self.assertEqual(self.problems(), [])

    def test_nothing_to_repair_changes_nothing(self) -> None:
        before = self.state()
        self.assertEqual(job(self.store, repair.fix_uid_meta, self.account.id), [])
        self.assertIsNone(job(self.store, repair.recount_mailbox, self.inbox.id))
        self.assertIsNone(job(self.store, repair.recount_usage, self.account.id))
        self.assertFalse(job(self.store, repair.fix_ids))
        self.assertEqual(self.state(), before)
