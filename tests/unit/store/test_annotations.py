"""Annotations of mailboxes and of the account."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from moxtw.store import accounts, mailboxes, verify
from moxtw.store import annotations as annotation_ops
from moxtw.store.annotations import Changed, Name, Value
from moxtw.store.errors import AnnotationsTooLarge, NoSuchMailbox, TooManyAnnotations
from moxtw.store.schema_annotations import annotation_table as table
from moxtw.store.tx import Statement
from tests.support.store import job, make_account, make_store, now


class AnnotationTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.store = make_store(self)
        self.account = make_account(self.store)
        self.inbox = self.mailbox("Inbox")
        self.addCleanup(self.verify)

    def verify(self) -> None:
        self.assertEqual(now(Deferred.fromCoroutine(verify.verify_all(self.store))), [])

    def mailbox(self, name: str) -> Any:
        return job(self.store, mailboxes.ensure, self.account.id, name)

    def change(self, mailbox_id: int, **values: str | bytes | None) -> int:
        found: int = job(
            self.store,
            annotation_ops.change,
            self.account.id,
            mailbox_id,
            [
                (
                    "/private/" + key,
                    None
                    if new is None
                    else Value(new.encode(), True) if isinstance(new, str) else Value(new, False),
                )
                for key, new in values.items()
            ],
        )
        return found

    def value(self, mailbox_id: int, key: str) -> Any:
        return job(
            self.store, annotation_ops.value, self.account.id, mailbox_id, "/private/" + key
        )

    def names(self, mailbox_id: int | None = None) -> list[Name]:
        found: list[Name] = job(self.store, annotation_ops.names, self.account.id, mailbox_id)
        return found

    def changed(self, modseq: int) -> list[Changed]:
        found: list[Changed] = job(
            self.store, annotation_ops.changed_since, self.account.id, modseq
        )
        return found

    def test_set_replace_remove(self) -> None:
        first = self.change(self.inbox.id, a="one", b=b"\0two")
        self.assertEqual(self.value(self.inbox.id, "a"), Value(b"one", True))
        self.assertEqual(self.value(self.inbox.id, "b"), Value(b"\0two", False))
        self.assertIsNone(self.value(0, "a"))
        second = self.change(self.inbox.id, a=b"1", b=None)
        self.assertGreater(second, first)
        self.assertEqual(self.value(self.inbox.id, "a"), Value(b"1", False))
        self.assertIsNone(self.value(self.inbox.id, "b"))
        self.assertEqual(self.names(), [Name(self.inbox.id, "/private/a", 1)])
        self.assertEqual(self.mailbox("Inbox").modseq, second)

    def test_of_the_account(self) -> None:
        modseq = self.change(0, x="y")
        self.assertEqual(self.value(0, "x"), Value(b"y", True))
        self.assertEqual(self.names(self.inbox.id), [])
        self.assertEqual(self.names(0), [Name(0, "/private/x", 1)])
        self.assertEqual(job(self.store, accounts.get, "mox").modseq, modseq)

    def test_nothing_changes(self) -> None:
        before = job(self.store, accounts.get, "mox").modseq
        self.assertEqual(self.change(self.inbox.id, a=None), 0)
        self.assertEqual(job(self.store, accounts.get, "mox").modseq, before)

    def test_no_such_mailbox(self) -> None:
        with self.assertRaises(NoSuchMailbox):
            self.change(999, a="x")

    def test_changed_since(self) -> None:
        first = self.change(self.inbox.id, a="x", b="x")
        second = self.change(0, c="x")
        third = self.change(self.inbox.id, a=None)
        inbox = self.inbox.id
        self.assertEqual(
            self.changed(first - 1),
            [
                Changed(0, "/private/c", second),
                Changed(inbox, "/private/a", third),
                Changed(inbox, "/private/b", first),
            ],
        )
        self.assertEqual(self.changed(second), [Changed(inbox, "/private/a", third)])
        self.assertEqual(self.changed(third), [])
        # Removed and set again: one row, one change.
        last = self.change(inbox, a="y")
        self.assertEqual(self.changed(third), [Changed(inbox, "/private/a", last)])

    def test_all_or_none(self) -> None:
        self.patch(annotation_ops, "MAX_COUNT", 3)
        self.change(self.inbox.id, a="x", b="x")
        with self.assertRaises(TooManyAnnotations):
            self.change(self.inbox.id, a="changed", c="x", d="x")
        self.assertEqual(self.value(self.inbox.id, "a"), Value(b"x", True))
        self.assertEqual(len(self.names()), 2)
        # What goes makes room for what comes.
        self.change(0, c="x")
        self.change(self.inbox.id, a=None, d="x")

    def test_size(self) -> None:
        self.patch(annotation_ops, "MAX_SIZE", 100)
        with self.assertRaises(AnnotationsTooLarge):
            self.change(self.inbox.id, a=b"x" * 100)
        self.change(self.inbox.id, a=b"x" * 80)
        with self.assertRaises(AnnotationsTooLarge):
            self.change(0, b=b"x" * 80)
        self.change(self.inbox.id, a=b"x")
        self.change(0, b=b"x" * 70)

    def test_removed_ones_are_forgotten(self) -> None:
        self.patch(annotation_ops, "_EXPUNGED", _few_expunged(3))
        for number in range(10):
            self.change(0, **{f"k{number}": "x"})
            self.change(0, **{f"k{number}": None})
        self.assertEqual(
            [row.key for row in self.changed(0)], ["/private/k7", "/private/k8", "/private/k9"]
        )

    def test_deleted_mailbox(self) -> None:
        box = self.mailbox("a")
        self.change(box.id, a="x")
        job(self.store, mailboxes.delete, self.account.id, "a")
        self.assertEqual(self.names(), [])
        self.assertEqual(self.names(self.mailbox("a").id), [])

    def test_renamed_mailbox(self) -> None:
        box = self.mailbox("a")
        self.change(box.id, a="x")
        job(self.store, mailboxes.rename, self.account.id, "a", "b")
        self.assertEqual(self.value(self.mailbox("b").id, "a"), Value(b"x", True))

    def test_inbox_gives_copies(self) -> None:
        self.change(self.inbox.id, a=b"x", b="y", c=None)
        job(self.store, mailboxes.rename, self.account.id, "Inbox", "b")
        copy = self.mailbox("b")
        self.assertEqual(self.value(copy.id, "a"), Value(b"x", False))
        self.assertEqual(self.value(self.inbox.id, "a"), Value(b"x", False))
        self.assertEqual(len(self.names(copy.id)), 2)
        self.patch(annotation_ops, "MAX_COUNT", 5)
        with self.assertRaises(TooManyAnnotations):
            job(self.store, mailboxes.rename, self.account.id, "Inbox", "c")

    def test_removed_account(self) -> None:
        self.change(0, a="x")
        now(Deferred.fromCoroutine(accounts.remove(self.store, "mox")))
        self.account = make_account(self.store)
        self.assertEqual(self.names(), [])


class VerifyTests(SynchronousTestCase):
    def test_damage_is_found(self) -> None:
        store = make_store(self)
        account = make_account(store)
        inbox = job(store, mailboxes.named, account.id, "Inbox")
        entry = [("/private/a", Value(b"x", True))]
        job(store, annotation_ops.change, account.id, inbox.id, entry)
        for values, text in (
            ({"modseq": 1000}, "bad create_seq or modseq"),
            ({"modseq": inbox.modseq + 1, "mailbox_id": 77}, "mailbox is missing or deleted"),
        ):
            job(store, lambda tx, v=values: tx.run(Statement(table.update().values(**v))))
            found = now(Deferred.fromCoroutine(verify.verify_account(store, "mox")))
            self.assertTrue(any(text in each for each in found), found)


def _few_expunged(count: int) -> Statement:
    clause = annotation_ops._EXPUNGED._clause.offset(count)  # type: ignore[attr-defined]
    return Statement(clause)
