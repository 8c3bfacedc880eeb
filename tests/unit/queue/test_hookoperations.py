"""Operations on webhook calls, and their JSON types."""

from __future__ import annotations

from typing import Any

import msgspec
from twisted.internet.defer import Deferred

from moxtw.net.httpclient import HTTPError, Response
from moxtw.queue import hookoperations
from moxtw.queue.api import FilterError
from moxtw.queue.hookapi import HookFilter, HookRetiredFilter, HookRetiredSort, HookSort
from moxtw.queue.hookoperations import HookOperations
from moxtw.store import hooklists, hooksdb
from moxtw.store.hooksdb import NewHook
from moxtw.store.tx import Tx
from tests.support.store import job
from tests.unit.queue.test_hooks import URL, Case

MINUTE = 60_000_000


class Operations(Case):
    def setUp(self) -> None:
        super().setUp()
        self.operations = HookOperations(self.store, self.config)
        self.client.answer = HTTPError("refused")
        self.first = self.add(
            queue_msg_id=5,
            event="delayed",
            from_id="f",
            message_id="<m@x>",
            subject="s",
            extra={"k": "v"},
            authorization="secret",
            payload='{"a":1}',
        )
        self.clock.advance(10)
        self.second = self.add(account="other", is_incoming=True, url="http://b/")
        self.clock.advance(10)
        self.third = self.add(queue_msg_id=6, event="delivered")
        self.ids = [self.first, self.second, self.third]

    def call(self, coroutine: Any) -> Any:
        return self.successResultOf(Deferred.fromCoroutine(coroutine))

    def refusal(self, coroutine: Any) -> str:
        failure = self.failureResultOf(Deferred.fromCoroutine(coroutine), FilterError)
        return str(failure.value)

    def listed(self, sort: HookSort | None = None, **fields: Any) -> list[int]:
        sort = sort or HookSort(Field="Submitted", Asc=True)
        found = self.call(self.operations.waiting(HookFilter(**fields), sort))
        return [hook.ID for hook in found]

    def retired_ids(self, **fields: Any) -> list[int]:
        wanted = HookRetiredFilter(**fields)
        sort = HookRetiredSort(Field="Submitted", Asc=True)
        return [hook.ID for hook in self.call(self.operations.retired(wanted, sort))]

    def test_what_a_hook_looks_like(self) -> None:
        self.assertEqual(self.call(self.operations.size()), 3)
        (hook,) = self.call(self.operations.waiting(HookFilter(IDs=[self.first]), HookSort()))
        self.assertEqual(
            msgspec.to_builtins(hook),
            {
                "ID": self.first,
                "QueueMsgID": 5,
                "FromID": "f",
                "MessageID": "<m@x>",
                "Subject": "s",
                "Extra": {"k": "v"},
                "Account": "me",
                "URL": URL,
                "Authorization": "secret",
                "IsIncoming": False,
                "OutgoingEvent": "delayed",
                "Payload": '{"a":1}',
                "Submitted": "2025-06-15T15:06:40Z",
                "Attempts": 1,
                "NextAttempt": msgspec.to_builtins(hook.NextAttempt),
                "Results": [
                    {
                        "Start": "2025-06-15T15:06:40Z",
                        "Duration": 0,
                        "URL": URL,
                        "Success": False,
                        "Code": 0,
                        "Error": "refused",
                        "Response": "",
                    }
                ],
            },
        )

    def test_filters(self) -> None:
        first, second, third = self.ids
        for fields, expected in (
            ({}, self.ids),
            ({"Account": "me"}, [first, third]),
            ({"Event": "incoming"}, [second]),
            ({"Event": "delayed"}, [first]),
            ({"Event": "failed"}, []),
            ({"Submitted": "<-15s"}, [first]),
            ({"Submitted": ">-15s"}, [second, third]),
            ({"NextAttempt": "<now"}, []),
            ({"NextAttempt": ">45s"}, [second, third]),
            ({"IDs": [third, 999]}, [third]),
            ({"Max": 1}, [first]),
            ({"Account": "me", "Event": "delivered", "Submitted": "<now"}, []),
        ):
            self.assertEqual(self.listed(**fields), expected, fields)

    def test_sorts_and_pages(self) -> None:
        for field in ("", "NextAttempt", "Submitted"):
            self.assertEqual(self.listed(HookSort(Field=field)), self.ids[::-1])
            found = self.call(
                self.operations.waiting(HookFilter(Max=2), HookSort(Field=field, Asc=True))
            )
            last = msgspec.to_builtins(found[-1])
            rest = HookSort(
                Field=field, Asc=True, LastID=last["ID"], Last=last[field or "NextAttempt"]
            )
            self.assertEqual(self.listed(rest), self.ids[2:])

    def test_long_lists_are_read_in_pieces(self) -> None:
        self.patch(hookoperations, "PAGE", 2)
        self.assertEqual(self.listed(), self.ids)
        self.assertEqual(self.listed(Max=3), self.ids)
        self.assertEqual(self.listed(Max=2), self.ids[:2])

        async def pages(payloads: bool) -> list[list[str]]:
            found = self.operations.pages(
                HookFilter(), HookSort(Field="Submitted", Asc=True), payloads=payloads
            )
            return [[hook.Payload for hook in page] async for page in found]

        self.assertEqual(self.call(pages(False)), [["", ""], [""]])
        # Long payloads make pages shorter, but never empty.
        self.patch(hooklists, "MAX_PAYLOADS", 3)
        self.assertEqual(self.call(pages(True)), [['{"a":1}'], ["{}"], ["{}"]])
        self.assertEqual(self.listed(), self.ids)
        self.patch(hookoperations, "MAX_LIST", 10)
        wanted = self.operations.waiting(HookFilter(), HookSort())
        self.assertIn("Max", self.refusal(wanted))

    def test_wrong_wishes(self) -> None:
        for wanted in (
            HookFilter(Max=-1),
            HookFilter(Event="nonsense"),
            HookFilter(Submitted="1h"),
            HookFilter(NextAttempt="<soon"),
        ):
            self.refusal(self.operations.waiting(wanted, HookSort()))
            self.refusal(self.operations.cancel(wanted))
        for sort in (HookSort(Field="Queued"), HookSort(Last=3), HookSort(Last="x")):
            self.refusal(self.operations.waiting(HookFilter(), sort))
        sort = HookRetiredSort(Field="NextAttempt")
        self.refusal(self.operations.retired(HookRetiredFilter(), sort))
        self.refusal(self.operations.next_attempt_set(HookFilter(), 2**31 - 1))

    def test_schedule(self) -> None:
        now = self.store.now()
        only = HookFilter(IDs=[self.first])
        self.assertEqual(self.call(self.operations.next_attempt_set(only, 60)), 1)
        self.assertEqual(self.call(self.operations.next_attempt_add(only, -30)), 1)
        hook = job(self.store, hooksdb.get, self.first)
        self.assertEqual(hook.next_attempt, now + 30 * MINUTE)
        # At once.
        self.client.answer = Response(200, {}, b"")
        self.assertEqual(self.call(self.operations.next_attempt_set(HookFilter(), 0)), 3)
        self.assertEqual(self.listed(), [])
        self.assertEqual(sorted(self.client.ids[-3:]), self.ids)

    def test_cancel(self) -> None:
        self.assertEqual(self.call(self.operations.cancel(HookFilter(Account="me"))), 2)
        self.assertEqual(self.listed(), [self.second])
        self.assertEqual(self.retired_ids(), [self.first, self.third])
        wanted = HookRetiredFilter(IDs=[self.first])
        (hook,) = self.call(self.operations.retired(wanted, HookRetiredSort()))
        found = msgspec.to_builtins(hook)
        self.assertEqual((found["Authorization"], found["Success"]), (True, False))
        self.assertEqual((found["SupersededByID"], found["Payload"]), (0, '{"a":1}'))
        self.assertEqual([r["Error"] for r in found["Results"]], ["refused", "canceled by admin"])
        self.assertEqual(found["LastActivity"], "2025-06-15T15:07:00Z")
        self.assertEqual(found["KeepUntil"], "2025-06-18T15:07:00Z")
        self.client.requests.clear()
        self.pass_time(3600)
        self.assertNotIn(self.first, self.client.ids)

    def test_cancel_of_a_call_under_way(self) -> None:
        self.client.answer = slow = Deferred()
        hook_id = self.add(url="http://c/")
        self.assertEqual(self.call(self.operations.cancel(HookFilter(IDs=[hook_id]))), 1)
        slow.callback(Response(204, {}, b""))
        wanted = HookRetiredFilter(IDs=[hook_id])
        (hook,) = self.call(self.operations.retired(wanted, HookRetiredSort()))
        self.assertEqual(
            [(r.Code, r.Error) for r in hook.Results],
            [(0, "canceled by admin"), (204, "(canceled)")],
        )
        self.assertTrue(hook.Success)

    def test_retired_filters(self) -> None:
        self.call(self.operations.cancel(HookFilter()))
        # The other account keeps nothing.
        kept = [self.first, self.third]
        for fields, expected in (
            ({}, kept),
            ({"Event": "delayed"}, [self.first]),
            ({"Event": "incoming"}, []),
            ({"Account": "other"}, []),
            ({"LastActivity": "<now"}, []),
            ({"LastActivity": "<1s"}, kept),
            ({"Submitted": "<-15s", "Max": 5}, [self.first]),
        ):
            self.assertEqual(self.retired_ids(**fields), expected, fields)

    def test_removal_of_an_account(self) -> None:
        self.call(self.operations.remove_account("me"))
        self.assertEqual(self.listed(), [self.second])
        self.assertEqual(self.retired_ids(Account="me"), [self.first, self.third])


class LongLists(Case):
    def test_lists_follow_an_index(self) -> None:
        """No list sorts all rows, and none reads them all to show some."""

        def fill(tx: Tx) -> None:
            for number in range(20):
                new = NewHook("me", f"http://h{number % 3}/", "{}", event="failed")
                hooksdb.add(tx, new, 0)

        self.service.stopService()
        job(self.store, fill)
        plans: list[str] = []

        def explain(tx: Tx, query: Any, table: Any, columns: Any, order: Any) -> None:
            statement = hooklists._select(table, columns, query, order)
            text, names, values = statement.compiled(tx._dialect)
            rows = tx._execute(
                "EXPLAIN QUERY PLAN " + text, [values.get(name) for name in names or ()]
            )
            plans.extend(f"{query}: {row[3]}" for row in rows)

        queries = ({}, {"account": "me"}, {"event": "failed"}, {"event": "incoming"})
        for fields in queries:
            for last in (None, 5):
                for asc in (True, False):
                    for column in ("next_attempt", "submitted"):
                        query = hooklists.HookQuery(most=10, **fields)
                        order = hooklists.Order(column, asc, last, 3)
                        job(self.store, explain, query, hooklists.hooks, hooksdb.COLUMNS, order)
                    for column in ("last_activity", "submitted"):
                        query = hooklists.HookQuery(most=10, **fields)
                        order = hooklists.Order(column, asc, last, 3)
                        job(
                            self.store,
                            explain,
                            query,
                            hooklists.hooks_retired,
                            hooksdb.RETIRED_COLUMNS,
                            order,
                        )
        self.assertEqual(len(plans), 64)
        self.assertEqual([plan for plan in plans if "USING INDEX" not in plan], [])
