"""Reading a few messages of a large mailbox does not read the others."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from moxtw.store import changing, mailboxes, messages, search, searchqueries
from moxtw.store.criteria import And, Flags, ModSeq, Text, Uids, condition
from moxtw.store.searchqueries import plain_statement
from moxtw.store.tx import Statement, Tx
from tests.support.store import job, make_account, make_store, message


class PlanTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.store = make_store(self, Clock())
        self.account = make_account(self.store)
        self.inbox = job(self.store, mailboxes.find, self.account.id, "Inbox").id

    def plan(self, statement: Statement) -> str:
        sql, order, _ = statement.compiled(self.store.backend.dialect)

        def run(tx: Tx) -> str:
            rows = tx._execute("EXPLAIN QUERY PLAN " + sql, [0] * len(order or ())).fetchall()
            return "\n".join(row[3] for row in rows)

        return job(self.store, run)

    def add(self, count: int, **more: int) -> None:
        for number in range(count):
            new = message(self.store, b"Subject: %d\r\n\r\ntext\r\n" % number, **more)
            job(self.store, messages.add, self.account.id, self.inbox, new)

    def test_indexes(self) -> None:
        unseen = condition(Flags(1, 0))
        deleted = condition(Flags(64, 64))
        for index, statements in {
            "messages_unseen": (messages._FIRST_UNSEEN, plain_statement(unseen, False)),
            "messages_deleted": (changing._FOR_EXPUNGE, plain_statement(deleted, False)),
            "messages_modseq (": (messages._CHANGED, searchqueries.MODSEQ_UIDS),
            "messages_uid": (changing._FOR_STORE, messages._FLAGS, messages._FLAG_LISTS),
            "COVERING INDEX messages_uid": (messages._UIDS, messages._EXTENT),
        }.items():
            for statement in statements:
                self.assertIn(index, self.plan(statement))

    def test_text_in_few_messages(self) -> None:
        # Asking the index, and for what is not in it yet, would cost more.
        self.add(30)
        self.patch(search, "INDEX_FROM", 20)
        asked = []
        index = self.store.backend.text_index
        self.patch(index, "candidates", lambda *args: asked.append(args))
        few = And((Uids([(5, 15)]), Text("text")))
        self.assertEqual(job(self.store, search.search, self.inbox, few), list(range(5, 16)))
        self.assertEqual(asked, [])
        many = And((Uids([(5, 25)]), Text("text")))
        self.assertEqual(job(self.store, search.search, self.inbox, many), list(range(5, 26)))
        self.assertEqual(len(asked), 1)

    def test_what_changed_last(self) -> None:
        self.add(12)
        box, last = job(self.store, messages.view, self.inbox)
        for listed in (3, 100):
            self.patch(search, "_LISTED", listed)
            for behind in range(9):
                found = job(
                    self.store, search.search, self.inbox, ModSeq(box.modseq - behind)
                )
                self.assertEqual(found, list(last[-behind - 1 :]))
