"""Queued messages as rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from moxtw.store import content, queuedb, queuelists, queueverify, suppressions
from moxtw.store.queuelists import Moment, Order, Query
from moxtw.store.queuerecord import DELIVERING, NewQueued, Queued, Result
from moxtw.store.tx import Statement, Tx
from tests.support.store import job, make_store, now

BODY = b"Subject: hi\r\n\r\nbody\r\n"
MINUTE = 60_000_000


class Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.store = make_store(self, self.clock)
        self.woken: list[set[str]] = []
        self.store.changes.on_queue(self.woken.append)

    def new(self, recipient: str = "x@dst.example", **fields: Any) -> NewQueued:
        localpart, _, domain = recipient.partition("@")
        spooled = fields.pop("content", None) or now(self.store.contents.from_bytes(BODY))
        values: dict[str, Any] = {
            "sender_account": "mox",
            "sender_localpart": "a",
            "sender_domain": "src.example",
            **fields,
        }
        return NewQueued(
            recipient_localpart=localpart, recipient_domain=domain, content=spooled, **values
        )

    def add(self, *recipients: str, **fields: Any) -> list[int]:
        spooled = now(self.store.contents.from_bytes(BODY))
        news = [self.new(r, content=spooled, **fields) for r in recipients]
        return job(self.store, queuedb.add, news)

    def get(self, message_id: int) -> Queued:
        return job(self.store, queuedb.get, message_id)

    def begin(self, domain: str) -> Queued:
        def run(tx: Tx) -> Queued:
            message = queuedb.first_due(tx, domain)
            assert message is not None
            queuedb.begin(tx, [message], tx.now + MINUTE)
            return message

        return job(self.store, run)

    def contents(self) -> int:
        return job(self.store, lambda tx: tx.raw("SELECT count(*) FROM contents").fetchone()[0])


class Adding(Case):
    def test_one_recipient(self) -> None:
        (message_id,) = self.add("x@dst.example", prefix=b"A: b\r\n", extra={"k": "v"})
        message = self.get(message_id)
        self.assertEqual(message.base_id, 0)
        self.assertEqual(message.size, len(BODY) + 6)
        self.assertEqual(message.recipient, "x@dst.example")
        self.assertEqual(message.extra, {"k": "v"})
        self.assertEqual(message.next_attempt, message.queued)
        self.assertEqual(self.woken, [{"dst.example"}])
        read = job(self.store, queuedb.read, message_id)
        self.assertEqual(read, b"A: b\r\n" + BODY)
        self.assertEqual(job(self.store, queuedb.read, message_id, 4, 5), b"\r\nSub")
        self.assertEqual(job(self.store, queuedb.read, message_id, 6, 3), b"Sub")
        self.assertEqual(job(self.store, queuedb.read, message_id, 0, 6), b"A: b\r\n")

    def test_base_id_is_shared_by_equal_sender_and_prefix(self) -> None:
        ids = self.add("x@a.example", "y@a.example", "z@b.example")
        self.assertEqual([self.get(i).base_id for i in ids], [ids[0]] * 3)
        spooled = now(self.store.contents.from_bytes(BODY))
        news = [
            self.new("x@a.example", content=spooled, sender_localpart="a+1", from_id="1"),
            self.new("y@a.example", content=spooled, sender_localpart="a+2", from_id="2"),
        ]
        ids = job(self.store, queuedb.add, news)
        self.assertEqual([self.get(i).base_id for i in ids], [0, 0])

    def test_content_is_stored_once_and_goes_with_the_last(self) -> None:
        ids = self.add("x@a.example", "y@a.example")
        self.assertEqual(self.contents(), 1)
        job(self.store, lambda tx: queuedb.retire(tx, queuedb.get(tx, ids[0]), True, 0))
        self.assertEqual(self.contents(), 1)
        job(self.store, lambda tx: queuedb.retire(tx, queuedb.get(tx, ids[1]), True, MINUTE))
        self.assertEqual(self.contents(), 0)

    def test_from_id_is_unique_among_queued_and_retired(self) -> None:
        (message_id,) = self.add("x@a.example", from_id="abc")
        with self.assertRaises(queuedb.FromIDInUse):
            self.add("y@a.example", from_id="abc")
        job(self.store, lambda tx: queuedb.retire(tx, queuedb.get(tx, message_id), True, MINUTE))
        with self.assertRaises(queuedb.FromIDInUse):
            self.add("y@a.example", from_id="abc")
        self.assertEqual(self.contents(), 0)

    def test_ids_are_never_given_twice(self) -> None:
        (first,) = self.add("x@a.example")
        job(self.store, lambda tx: queuedb.retire(tx, queuedb.get(tx, first), True, 0))
        (second,) = self.add("x@a.example")
        self.assertGreater(second, first)

    def test_hold_rules_match_all_fields_given(self) -> None:
        job(self.store, queuedb.hold_rule_add, "mox", "", "b.example")
        held = [self.get(*self.add(r)).hold for r in ("x@a.example", "x@b.example")]
        self.assertEqual(held, [False, True])
        self.assertFalse(self.get(*self.add("x@b.example", sender_account="other")).hold)
        self.assertEqual(job(self.store, queuedb.held), 1)
        (rule,) = job(self.store, queuedb.hold_rules)
        self.assertTrue(job(self.store, queuedb.hold_rule_remove, rule.id))
        self.assertFalse(job(self.store, queuedb.hold_rule_remove, rule.id))
        self.assertFalse(self.get(*self.add("x@b.example")).hold)

    def test_empty_rule_holds_all(self) -> None:
        job(self.store, queuedb.hold_rule_add, "", "", "")
        self.assertTrue(self.get(*self.add("x@a.example")).hold)


class Schedule(Case):
    def test_domains_with_their_next_time(self) -> None:
        base = self.store.now()
        self.add("x@b.example", next_attempt=base + 5)
        self.add("y@b.example", next_attempt=base + 3)
        self.add("x@a.example", next_attempt=base + 9)
        (held,) = self.add("x@c.example")
        job(self.store, queuelists.set_hold, [held], True)
        self.assertEqual(
            job(self.store, queuedb.domains), [("a.example", base + 9), ("b.example", base + 3)]
        )
        self.assertEqual(job(self.store, queuedb.next_in_domain, "b.example"), base + 3)
        self.assertIsNone(job(self.store, queuedb.next_in_domain, "c.example"))
        self.assertIsNone(job(self.store, queuedb.first_due, "a.example"))

    def test_no_domains(self) -> None:
        self.assertEqual(job(self.store, queuedb.domains), [])

    def test_begin_and_postpone(self) -> None:
        (message_id,) = self.add("x@a.example")
        message = self.begin("a.example")
        self.assertEqual(message.results, [Result(self.store.now(), error=DELIVERING)])
        self.assertEqual(self.get(message_id), message)
        self.assertTrue(message.delivering)
        self.assertEqual(message.attempts, 1)
        message.results[-1].error = "no"
        message.dialed_ips = {"mx": ["127.0.0.1"]}
        job(self.store, queuedb.postpone, message)
        self.assertEqual(self.get(message_id), message)
        self.assertFalse(message.delivering)
        self.assertIsNone(job(self.store, queuedb.first_due, "a.example"))

    def test_gathering(self) -> None:
        first, *_ = self.add("a@d", "b@d", "c@other", "d@d", "e@d", "f@d", "g@d")
        job(self.store, queuelists.set_hold, [first + 1], True)
        job(self.store, queuelists.set_transport, [first + 3], "t")
        job(self.store, queuelists.set_require_tls, [first + 4], False)
        self.add("z@d")
        message = self.get(first)
        found = job(self.store, queuedb.gather, message, 10)
        self.assertEqual([m.recipient for m in found], ["f@d", "g@d"])
        self.assertEqual(len(job(self.store, queuedb.gather, message, 1)), 1)

    def test_interrupted_attempts_are_resumed(self) -> None:
        (message_id,) = self.add("x@a.example")
        self.begin("a.example")
        self.woken.clear()
        self.assertEqual(job(self.store, queuedb.resume), 1)
        self.assertEqual(job(self.store, queuedb.resume), 0)
        message = self.get(message_id)
        self.assertEqual((message.attempts, message.delivering), (1, False))
        self.assertIn("interrupted", message.results[0].error)
        self.assertEqual(self.woken, [{"a.example"}])
        self.assertIsNotNone(job(self.store, queuedb.first_due, "a.example"))

    def test_no_query_of_the_scheduler_reads_all_rows(self) -> None:
        for statement in (
            queuedb._DOMAINS,
            queuedb._FIRST_DUE,
            queuedb._NEXT_IN_DOMAIN,
            queuedb._GATHER,
            queuedb._INTERRUPTED,
            queuedb._FROM_ID_QUEUED,
            queuedb._FROM_ID_RETIRED,
            queuedb._OTHER_RETIRED,
            queuedb._SOURCE,
            queuedb._SOURCE_USED,
            queuedb._EXPIRED,
            *content.referrers,
        ):
            self.assertNotIn("SCAN queue", self.plan(statement))
        self.assertIn("queue_base", self.plan(queuedb._GATHER))
        self.assertIn("queue_delivering", self.plan(queuedb._INTERRUPTED))

    def plan(self, statement: Statement) -> str:
        sql, order, _ = statement.compiled(self.store.backend.dialect)

        def run(tx: Tx) -> str:
            rows = tx._execute("EXPLAIN QUERY PLAN " + sql, [0] * len(order or ())).fetchall()
            return "\n".join(row[3] for row in rows)

        return job(self.store, run)

    def test_a_turn_for_each_domain(self) -> None:
        self.fill(2_000, 200)
        found = job(self.store, queuedb.domains)
        self.assertEqual(len(found), 200)
        for domain, _ in found:
            self.begin(domain)

    def fill(self, count: int, domains: int) -> None:
        self.add("x@d0")

        def run(tx: Tx) -> None:
            tx.raw(
                "INSERT INTO queue (queued, sender_account, sender_localpart, sender_domain,"
                " recipient_localpart, recipient_domain, next_attempt, source_id)"
                f" WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < {count})"
                f" SELECT i, 'mox', 'a', 'src', 'u' || i, 'd' || (i % {domains}), i,"
                " (SELECT min(id) FROM queue_sources)"
                " FROM n"
            )

        job(self.store, run)


class Outcomes(Case):
    def test_retired_record(self) -> None:
        (message_id,) = self.add("x.Y+z@a.example", from_id="f", extra={"a": "b"})
        message = self.begin("a.example")
        message.results[-1].success = True
        job(self.store, queuedb.retire, message, True, MINUTE)
        with self.assertRaises(queuedb.NoSuchQueued):
            self.get(message_id)
        (retired,) = job(self.store, queuelists.retired, Query(), Order("last_activity"))
        self.assertEqual(retired.id, message_id)
        self.assertEqual(retired.recipient_address, "xy@a.example")
        self.assertEqual(retired.results, message.results)
        self.assertEqual((retired.success, retired.extra), (True, {"a": "b"}))
        self.assertEqual(job(self.store, queuedb.remove_expired), 0)
        self.clock.advance(61)
        self.assertEqual(job(self.store, queuedb.remove_expired), 1)

    def test_retiring_what_is_gone(self) -> None:
        self.add("x@a.example")
        message = self.begin("a.example")
        job(self.store, queuedb.retire, message, False, 0)
        with self.assertRaises(queuedb.NoSuchQueued):
            job(self.store, queuedb.retire, message, False, 0)

    def test_others_failed(self) -> None:
        for successes, expected in (([], False), ([False], False), ([True, False, False], True)):
            for success in successes:
                self.clock.advance(1)
                (message_id,) = self.add("x@c.example")
                job(
                    self.store,
                    lambda tx, i=message_id, s=success: queuedb.retire(
                        tx, queuedb.get(tx, i), s, 100 * MINUTE
                    ),
                )
            (message_id,) = self.add("x@c.example")
            self.assertEqual(
                job(self.store, queuedb.others_failed, self.get(message_id)), expected
            )


class Consistency(Case):
    def test_clean(self) -> None:
        ids = self.add("x@a.example", "y@b.example", prefix=b"A: b\r\n")
        self.assertEqual(job(self.store, queueverify.problems), [])
        job(self.store, lambda tx: queuedb.retire(tx, queuedb.get(tx, ids[0]), True, 0))
        self.assertEqual(job(self.store, queueverify.problems), [])

    def test_damage_is_found(self) -> None:
        self.add("x@a.example")
        job(self.store, lambda tx: tx.raw("UPDATE queue SET size = size + 1"))
        (text,) = job(self.store, queueverify.problems)
        self.assertIn("bytes are not there", text)
        job(self.store, lambda tx: tx.raw("DELETE FROM queue"))
        (text,) = job(self.store, queueverify.problems)
        self.assertIn("no message has them", text)


class Lists(Case):
    def setUp(self) -> None:
        super().setUp()
        self.ids = []
        for number in range(6):
            self.clock.advance(60)
            self.ids += self.add(
                f"user{number}@dst{number % 2}.example",
                sender_account="mox" if number < 4 else "other",
                next_attempt=self.store.now() - number,
            )

    def found(self, order: Order | None = None, **query: Any) -> list[int]:
        rows = job(
            self.store, queuelists.queued, Query(**query), order or Order("queued", True)
        )
        ids = [row[0].id for row in rows]
        self.assertEqual(sorted(ids), job(self.store, queuelists.ids, Query(**query)))
        if not query.get("most"):
            self.assertEqual(job(self.store, queuelists.count, Query(**query)), len(ids))
        return [self.ids.index(i) for i in ids]

    def test_filters(self) -> None:
        middle = self.store.now() - 150_000_000
        for expected, query in (
            ([0, 1, 2, 3, 4, 5], {}),
            ([1, 3], {"ids": (self.ids[1], self.ids[3], 999)}),
            ([4, 5], {"account": "other"}),
            ([1, 3, 5], {"recipient": "@DST1.example"}),
            ([2], {"recipient": "user2"}),
            ([], {"recipient": "user%"}),
            ([0, 1, 2, 3, 4, 5], {"recipient": "nobody", "sender": "a@src"}),
            ([0, 1, 2], {"submitted": Moment(True, middle)}),
            ([3, 4, 5], {"submitted": Moment(False, middle)}),
            ([3, 4, 5], {"next_attempt": Moment(False, middle)}),
            ([0, 1, 2, 3, 4, 5], {"transport": "", "hold": False}),
            ([], {"hold": True}),
            ([], {"transport": "x"}),
            ([0, 2, 4], {"recipient_domain": "dst0.example", "sender_domain": "src.example"}),
        ):
            self.assertEqual(self.found(**query), expected, query)

    def test_most(self) -> None:
        self.assertEqual(self.found(most=2), [0, 1])

    def test_order_and_pages(self) -> None:
        for column in ("queued", "next_attempt"):
            for ascending in (True, False):
                seen: list[int] = []
                order = Order(column, ascending)
                while True:
                    rows = job(self.store, queuelists.queued, Query(most=4), order)
                    if not rows:
                        break
                    seen += [row[0].id for row in rows]
                    last = rows[-1][0]
                    order = Order(column, ascending, getattr(last, column), last.id)
                self.assertEqual(seen, self.ids if ascending else self.ids[::-1])

    def test_pages_with_equal_times(self) -> None:
        job(self.store, queuelists.set_next_attempt, self.ids, 5)
        order = Order("next_attempt", True, 5, self.ids[2])
        rows = job(self.store, queuelists.queued, Query(), order)
        self.assertEqual([row[0].id for row in rows], self.ids[3:])

    def test_changes(self) -> None:
        before = self.get(self.ids[0]).next_attempt
        self.woken.clear()
        self.assertEqual(job(self.store, queuelists.add_next_attempt, self.ids[:2], 7), 2)
        self.assertEqual(self.get(self.ids[0]).next_attempt, before + 7)
        self.assertEqual(self.woken, [{""}])
        self.assertEqual(job(self.store, queuelists.set_hold, [self.ids[0], 999], True), 1)
        self.assertTrue(self.get(self.ids[0]).hold)
        job(self.store, queuelists.set_require_tls, self.ids, True)
        self.assertIs(self.get(self.ids[5]).require_tls, True)
        job(self.store, queuelists.set_require_tls, self.ids, None)
        self.assertIsNone(self.get(self.ids[5]).require_tls)
        found = job(self.store, queuelists.rows, [999, *self.ids])
        self.assertEqual([m.id for m in found], self.ids)


    def test_pages_of_searches(self) -> None:
        for column, ascending in (("queued", True), ("next_attempt", False)):
            whole = self.found(Order(column, ascending), recipient="@dst1")
            self.assertEqual(len(whole), 3)
            query, order = Query(recipient="@dst1", most=2), Order(column, ascending)
            first = [row[0] for row in job(self.store, queuelists.queued, query, order)]
            self.assertEqual([self.ids.index(message.id) for message in first], whole[:2])
            order = Order(column, ascending, getattr(first[1], column), first[1].id)
            rows = job(self.store, queuelists.queued, query, order)
            self.assertEqual([self.ids.index(row[0].id) for row in rows], whole[2:])

    def test_lists_read_no_more_than_they_show(self) -> None:
        old, new = Moment(True, 1), Moment(False, 1)
        by_next, by_queued = Order("next_attempt", True), Order("queued")
        for query, order, index in (
            (Query(), by_next, "queue_search"),
            (Query(), by_queued, "queue_queued"),
            (Query(), Order("queued", False, 5, 7), "queue_queued (queued<?)"),
            (Query(), Order("next_attempt", True, 5, 7), "queue_search (next_attempt>?)"),
            (Query(account="a"), by_next, "queue_account_next"),
            (Query(account="a", hold=False), by_queued, "queue_account_queued"),
            (Query(hold=True), by_next, "queue_held_next"),
            (Query(hold=True), by_queued, "queue_held_queued"),
            (Query(hold=False), by_next, "queue_search"),
            (Query(transport="x"), by_next, "queue_transport"),
            (Query(transport=""), by_queued, "queue_queued"),
            (Query(submitted=new), by_queued, "queue_queued (queued>?)"),
            (Query(submitted=old), by_next, "queue_queued (queued<?)"),
            (Query(next_attempt=old), by_queued, "queue_search (next_attempt<?)"),
            (Query(recipient="x", account="a"), by_next, "COVERING INDEX queue_search"),
            (Query(sender="x", hold=True), by_queued, "COVERING INDEX queue_search"),
            (Query(recipient="x", transport="t", submitted=new), by_queued, "COVERING"),
        ):
            plan = self.plans(lambda tx, q=query, o=order: queuelists.queued(tx, _most(q), o))
            self.assertIn(index, plan[0], query)
            sorts = order.column == "queued" and (query.sender or query.recipient)
            if not sorts and old not in (query.submitted, query.next_attempt):
                self.assertNotIn("TEMP B-TREE", plan[0], query)
        by_activity = Order("last_activity")
        for query, order, index in (
            (Query(), by_activity, "queue_retired_search"),
            (Query(), by_queued, "queue_retired_queued"),
            (Query(account="a"), by_activity, "queue_retired_account ("),
            (Query(account="a"), by_queued, "queue_retired_account_queued"),
            (Query(success=False), by_activity, "queue_retired_failed"),
            (Query(recipient="x", success=False), by_activity, "COVERING"),
        ):
            plan = self.plans(lambda tx, q=query, o=order: queuelists.retired(tx, _most(q), o))
            self.assertIn(index, plan[0], query)
            self.assertNotIn("TEMP B-TREE", plan[0], query)
        for query, index in (
            (Query(sender_domain="x", hold=False), "queue_sender_domain"),
            (Query(recipient_domain="x", hold=False), "queue_due_in"),
        ):
            plan = self.plans(lambda tx, q=query: queuelists.ids(tx, q))
            self.assertIn(index, plan[0], query)

    def plans(self, run: Callable[[Any], Any]) -> list[str]:
        """How SQLite executes what a job reads."""

        def look(tx: Tx) -> list[str]:
            plans = _Plans(tx)
            run(plans)
            return plans.found

        return job(self.store, look)


def _most(query: Query) -> Query:
    return replace(query, most=100)


class _Plans:
    """In place of a transaction: notes how rows are found."""

    def __init__(self, tx: Tx) -> None:
        self.found: list[str] = []
        self.value = tx.value
        self._tx = tx

    def all(self, statement: Statement) -> list[Any]:
        sql, order, bound = statement.compiled(self._tx._dialect)
        rows = self._tx._execute("EXPLAIN QUERY PLAN " + sql, [bound[n] for n in order or ()])
        self.found.append("\n".join(row[3] for row in rows.fetchall()))
        return self._tx.all(statement)


class Suppressions(Case):
    def test_all(self) -> None:
        def add(**fields: Any) -> Any:
            return job(
                self.store,
                suppressions.suppress,
                "mox",
                "xy@a",
                "x.y+z@a",
                **{"manual": True, "reason": "why", **fields},
            )

        entry = add()
        self.assertEqual(job(self.store, suppressions.suppression, "mox", "xy@a"), entry)
        self.assertIsNone(add())
        self.assertIsNone(job(self.store, suppressions.suppression, "other", "xy@a"))
        self.assertEqual(job(self.store, suppressions.suppressions), [entry])
        self.assertEqual(job(self.store, suppressions.suppressions, "other"), [])
        self.assertTrue(job(self.store, suppressions.unsuppress, "mox", "xy@a"))
        self.assertFalse(job(self.store, suppressions.unsuppress, "mox", "xy@a"))
        add()
        job(self.store, suppressions.drop_suppressions, "mox")
        self.assertEqual(job(self.store, suppressions.suppressions, "mox"), [])
