"""Webhooks as rows."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from moxtw.store import hooklists, hooksdb
from moxtw.store.hooklists import HookQuery
from moxtw.store.hooksdb import DELIVERING, Hook, HookResult, NewHook, RetiredHook
from moxtw.store.queuelists import Moment, Order
from moxtw.store.tx import Statement, Tx
from tests.support.store import job, make_store

MINUTE = 60_000_000
URL = "https://hooks.example/a"


class Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.store = make_store(self, self.clock)
        self.woken: list[set[str]] = []
        self.store.changes.on_hooks(self.woken.append)

    def add(self, keep: int = MINUTE, **fields: Any) -> int:
        values: dict[str, Any] = {"account": "me", "url": URL, "payload": "{}", **fields}
        return job(self.store, hooksdb.add, NewHook(**values), keep)

    def get(self, hook_id: int) -> Hook:
        hook = job(self.store, hooksdb.get, hook_id)
        assert hook is not None
        return hook

    def begin(self, url: str = URL) -> Hook:
        def run(tx: Tx) -> Hook:
            hook = hooksdb.first_due(tx, url)
            assert hook is not None
            hooksdb.begin(tx, hook, tx.now + MINUTE)
            return hook

        return job(self.store, run)

    def waiting(self, query: HookQuery | None = None, column: str = "submitted") -> list[int]:
        order = Order(column, True)
        found = job(self.store, hooklists.waiting, query or HookQuery(), order)
        return [hook.id for hook in found]

    def retired(self) -> list[RetiredHook]:
        return job(self.store, hooklists.retired, HookQuery(), Order("submitted", True))


class Adding(Case):
    def test_what_was_added_is_there(self) -> None:
        hook_id = self.add(
            authorization="Basic x",
            signing_key="k",
            event="delivered",
            queue_msg_id=7,
            from_id="f",
            message_id="<m@x>",
            subject="s",
            extra={"a": "b"},
            payload='{"Event":"delivered"}',
        )
        hook = self.get(hook_id)
        self.assertEqual(
            hook,
            Hook(
                hook_id, 7, "f", "<m@x>", "s", {"a": "b"}, "me", URL, False, "delivered",
                self.store.now(), 0, [], "Basic x", "k", self.store.now(), False,
                '{"Event":"delivered"}',
            ),
        )  # fmt: skip
        self.assertEqual(self.woken, [{URL}])

    def test_a_newer_one_about_the_message_supersedes(self) -> None:
        first = self.add(queue_msg_id=7, event="delayed", authorization="secret")
        other = self.add(queue_msg_id=8, event="delayed")
        second = self.add(queue_msg_id=7, event="delivered")
        self.assertEqual(self.waiting(), [other, second])
        (old,) = self.retired()
        self.assertEqual((old.id, old.superseded_by, old.success), (first, second, False))
        self.assertEqual((old.event, old.has_authorization), ("delayed", True))
        self.assertEqual(old.keep_until, self.store.now() + MINUTE)

    def test_incoming_ones_supersede_nothing(self) -> None:
        ids = [self.add(is_incoming=True) for _ in range(3)]
        self.assertEqual(self.waiting(), ids)

    def test_a_superseded_one_need_not_be_kept(self) -> None:
        self.add(keep=0, queue_msg_id=7)
        second = self.add(keep=0, queue_msg_id=7)
        self.assertEqual(self.waiting(), [second])
        self.assertEqual(self.retired(), [])

    def test_one_under_way_gets_its_result_when_superseded(self) -> None:
        self.add(queue_msg_id=7, event="delayed")
        hook = self.begin()
        self.add(queue_msg_id=7, event="delivered")
        self.assertEqual(self.retired()[0].results, [])
        hook.results[-1] = HookResult(5, url=URL, success=True, code=200)

        def finish(tx: Tx) -> bool:
            return hooksdb.retire(tx, hook, success=True, keep=MINUTE)

        self.assertFalse(job(self.store, finish))
        job(self.store, hooksdb.add_late_result, hook, hook.results[-1])
        (old,) = self.retired()
        self.assertEqual([r.code for r in old.results], [200])
        self.assertEqual((old.success, old.attempts), (True, 1))


class Scheduling(Case):
    def test_the_next_of_each_url(self) -> None:
        a = self.add(url="http://a/")
        self.clock.advance(60)
        self.add(url="http://b/")
        self.add(url="http://a/")
        now = self.store.now()
        self.assertEqual(
            job(self.store, hooksdb.urls), [("http://a/", now - MINUTE), ("http://b/", now)]
        )
        self.assertEqual(job(self.store, hooksdb.next_of_url, "http://a/"), now - MINUTE)
        self.assertEqual(self.begin("http://a/").id, a)
        self.assertIsNone(job(self.store, hooksdb.next_of_url, "http://c/"))
        self.assertIsNone(job(self.store, hooksdb.first_due, "http://c/"))

    def test_an_attempt_is_noted_before_it_is_made(self) -> None:
        hook_id = self.add()
        self.begin()
        hook = self.get(hook_id)
        self.assertEqual((hook.attempts, hook.delivering), (1, True))
        self.assertEqual(hook.next_attempt, self.store.now() + MINUTE)
        self.assertEqual([r.error for r in hook.results], [DELIVERING])

    def test_an_interrupted_attempt_is_due_again(self) -> None:
        hook_id = self.add()
        self.begin()
        self.woken.clear()
        self.assertEqual(job(self.store, hooksdb.resume), 1)
        hook = self.get(hook_id)
        self.assertEqual((hook.attempts, hook.delivering), (1, False))
        self.assertEqual(hook.next_attempt, self.store.now())
        self.assertIn("interrupted", hook.results[-1].error)
        self.assertEqual(self.woken, [{URL}])
        self.assertEqual(job(self.store, hooksdb.resume), 0)

    def test_nothing_reads_all_hooks(self) -> None:
        def plan(statement: Statement, **params: Any) -> str:
            dialect = self.store.backend.dialect
            sql, order, bound = statement.compiled(dialect)
            values = [{**bound, **params}[name] for name in order or ()]

            def run(tx: Tx) -> str:
                rows = tx._execute("EXPLAIN QUERY PLAN " + sql, values).fetchall()
                return "\n".join(row[-1] for row in rows)

            return job(self.store, run)

        for statement, params, index in (
            (hooksdb._FIRST_DUE, {"url": URL, "t": 1}, "hooks_due"),
            (hooksdb._NEXT_OF_URL, {"url": URL}, "hooks_due"),
            (hooksdb._URLS, {}, "hooks_due"),
            (hooksdb._INTERRUPTED, {"most": 1}, "hooks_delivering"),
            (hooksdb._OLDER, {"message": 1, "i": 1}, "hooks_message"),
            (hooksdb._EXPIRED, {"t": 1}, "hooks_retired_keep_until"),
        ):
            found = plan(statement, **params)
            self.assertIn(index, found)
            self.assertNotIn("SCAN hooks\n", found + "\n")
            self.assertNotIn("TEMP B-TREE", found)


class Retiring(Case):
    def test_it_is_kept_for_a_while_without_its_secrets(self) -> None:
        hook_id = self.add(authorization="secret", signing_key="key", payload='{"a":1}')
        hook = self.begin()
        hook.results[-1] = HookResult(1, 2, URL, True, 204, "", "fine")
        self.assertTrue(
            job(self.store, lambda tx: hooksdb.retire(tx, hook, success=True, keep=MINUTE))
        )
        self.assertEqual(self.waiting(), [])
        (row,) = self.retired()
        self.assertEqual((row.id, row.success, row.payload), (hook_id, True, '{"a":1}'))
        self.assertEqual(row.results, [HookResult(1, 2, URL, True, 204, "", "fine")])
        dump = job(self.store, lambda tx: tx.raw("SELECT * FROM hooks_retired").fetchall())
        self.assertNotIn("secret", repr(dump))
        self.assertEqual(job(self.store, hooksdb.remove_expired), 0)
        self.clock.advance(61)
        self.assertEqual(job(self.store, hooksdb.remove_expired), 1)
        self.assertEqual(self.retired(), [])

    def test_ids_are_never_given_again(self) -> None:
        first = self.add()
        hook = self.get(first)
        job(self.store, lambda tx: hooksdb.retire(tx, hook, success=True, keep=0))
        self.assertGreater(self.add(), first)

    def test_a_failure_waits_for_the_next_attempt(self) -> None:
        hook_id = self.add()
        hook = self.begin()
        hook.results[-1].error = "no"
        self.assertTrue(job(self.store, hooksdb.postpone, hook))
        found = self.get(hook_id)
        self.assertEqual((found.delivering, found.results[-1].error), (False, "no"))
        self.assertIsNone(job(self.store, hooksdb.first_due, URL))


class Lists(Case):
    def test_filters(self) -> None:
        a = self.add(event="delivered", queue_msg_id=1)
        self.clock.advance(60)
        b = self.add(is_incoming=True, account="other")
        now = self.store.now()
        for query, ids in (
            (HookQuery(), [a, b]),
            (HookQuery(most=1), [a]),
            (HookQuery(ids=(b, 99)), [b]),
            (HookQuery(account="other"), [b]),
            (HookQuery(event="incoming"), [b]),
            (HookQuery(event="delivered"), [a]),
            (HookQuery(event="failed"), []),
            (HookQuery(submitted=Moment(True, now)), [a]),
            (HookQuery(next_attempt=Moment(False, now - 1)), [b]),
        ):
            self.assertEqual(self.waiting(query), ids, query)
            self.assertEqual(job(self.store, hooklists.ids, query), ids, query)
        self.assertEqual(job(self.store, hooklists.count), 2)

    def test_pages(self) -> None:
        ids = [self.add() for _ in range(5)]
        found: list[int] = []
        last: tuple[int | None, int] = (None, 0)
        while True:
            order = Order("next_attempt", False, *last)
            page = job(self.store, hooklists.waiting, HookQuery(most=2), order)
            if not page:
                break
            found += [hook.id for hook in page]
            last = (page[-1].next_attempt, page[-1].id)
        self.assertEqual(found, ids[::-1])

    def test_rescheduling(self) -> None:
        hook_id = self.add()
        self.woken.clear()
        job(self.store, hooklists.add_next_attempt, [hook_id, 99], MINUTE)
        self.assertEqual(self.get(hook_id).next_attempt, self.store.now() + MINUTE)
        self.assertEqual(job(self.store, hooklists.set_next_attempt, [hook_id, 99], 5), 1)
        self.assertEqual(self.get(hook_id).next_attempt, 5)
        self.assertEqual(self.woken, [{""}, {""}])
