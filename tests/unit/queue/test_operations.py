"""Operations on the queue, and their JSON types."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from moxtw.queue import api, operations
from moxtw.queue.api import Filter, FilterError, RetiredFilter, RetiredSort, Sort
from moxtw.queue.operations import QueueOperations
from moxtw.store import queuedb, queuelists
from moxtw.store.queuelists import Moment
from tests.support.store import job
from tests.unit.queue.fakes import refused, reply
from tests.unit.queue.test_service import Case


class Operations(Case):
    def setUp(self) -> None:
        super().setUp()
        self.operations = QueueOperations(self.store, self.config)
        job(self.store, queuedb.hold_rule_add, "", "", "dst.example")
        self.ids = self.add("a@dst.example", "b@dst.example", "c@dst.example", prefix=b"A: b\r\n")

    def call(self, coroutine: Any) -> Any:
        return self.successResultOf(Deferred.fromCoroutine(coroutine))

    def refusal(self, coroutine: Any) -> None:
        self.failureResultOf(Deferred.fromCoroutine(coroutine), FilterError)

    def test_size_and_list(self) -> None:
        self.assertEqual(self.call(self.operations.size()), 3)
        listed = self.call(self.operations.messages(Filter(), Sort(Field="Queued", Asc=True)))
        self.assertEqual([m.ID for m in listed], self.ids)
        found = msgspec.to_builtins(listed[0])
        self.assertEqual(found["Queued"], "2025-06-15T15:06:40Z")
        self.assertEqual(
            found["RecipientDomain"],
            {"IP": "", "Domain": {"ASCII": "dst.example", "Unicode": ""}},
        )
        self.assertEqual(found["MsgPrefix"], "QTogYg0K")
        self.assertIsNone(found["LastAttempt"])
        self.assertTrue(found["Hold"])

    def test_pages(self) -> None:
        sort = Sort(Asc=True)
        page = self.call(self.operations.messages(Filter(Max=2), sort))
        last = msgspec.to_builtins(page[-1])
        sort = Sort(Asc=True, LastID=last["ID"], Last=last["NextAttempt"])
        rest = self.call(self.operations.messages(Filter(Max=2), sort))
        self.assertEqual([m.ID for m in page + rest], self.ids)

    def test_long_lists_are_read_in_pieces(self) -> None:
        self.patch(operations, "PAGE", 3)
        self.ids += self.add(*(f"u{number}@dst.example" for number in range(5)))

        async def pages(wanted: Filter, sort: Sort) -> list[list[int]]:
            found = self.operations.pages(wanted, sort)
            return [[message.ID for message in page] async for page in found]

        for field in ("Queued", "NextAttempt"):
            found = self.call(pages(Filter(), Sort(Field=field, Asc=True)))
            self.assertEqual([len(page) for page in found], [3, 3, 2])
            self.assertEqual(sum(found, []), self.ids)
        found = self.call(pages(Filter(Max=4, To="@dst.example"), Sort()))
        self.assertEqual(found, [self.ids[:4:-1], self.ids[4:3:-1]])
        self.assertEqual(self.call(pages(Filter(Max=3), Sort())), [self.ids[:4:-1]])
        self.assertEqual(self.call(pages(Filter(Account="nobody"), Sort())), [])
        self.call(self.operations.fail(Filter()))
        retired = self.call(self.operations.retired_list(RetiredFilter(), RetiredSort(Asc=True)))
        self.assertEqual([message.ID for message in retired], self.ids)

    def test_hold_schedule_and_release(self) -> None:
        hour = self.store.now() + 3_600_000_000
        first = Filter(IDs=[self.ids[0]])
        self.assertEqual(self.call(self.operations.next_attempt_set(first, 60)), 1)
        self.assertEqual(self.get(self.ids[0]).next_attempt, hour)
        self.assertEqual(self.call(self.operations.next_attempt_add(first, -30)), 1)
        self.assertEqual(self.get(self.ids[0]).next_attempt, hour - 1_800_000_000)
        self.assertEqual(self.call(self.operations.hold_set(Filter(), False)), 3)
        self.assertEqual([m.id for m in self.queued()], self.ids[:1])
        self.assertEqual(len(self.dialer.delivered), 1)
        self.settle(1900)
        self.assertEqual(self.queued(), [])

    def test_transport_and_requiretls(self) -> None:
        self.assertEqual(self.call(self.operations.transport_set(Filter(To="b@"), "x")), 1)
        set_tls = self.operations.require_tls_set
        self.assertEqual(self.call(set_tls(Filter(Transport="x"), False)), 1)
        message = self.get(self.ids[1])
        self.assertEqual((message.transport, message.require_tls), ("x", False))

    def test_fail_tells_the_sender(self) -> None:
        self.assertEqual(self.call(self.operations.fail(Filter(To="a@dst"))), 1)
        (notice,) = self.inbox()
        self.assertIn(b"canceled by admin", notice)
        (retired,) = self.call(self.operations.retired_list(RetiredFilter(), RetiredSort()))
        self.assertEqual((retired.ID, retired.Success), (self.ids[0], False))
        self.assertIn("canceled", retired.Results[0].Error)
        self.assertEqual(len(self.queued()), 2)

    def test_drop_tells_nobody(self) -> None:
        self.assertEqual(self.call(self.operations.drop(Filter())), 3)
        self.assertEqual((self.queued(), self.inbox()), ([], []))
        self.assertEqual(len(self.retired()), 3)

    def test_drop_of_a_message_under_way(self) -> None:
        done: Deferred[Any] = Deferred()
        self.dialer.answers["mx1.example"] = done
        (message_id,) = self.add("x@d1.example")
        self.assertEqual(self.call(self.operations.drop(Filter(IDs=[message_id]))), 1)
        done.callback(refused(reply(550)))
        (retired,) = self.retired()
        self.assertEqual(len(retired.results), 1)
        self.assertEqual(self.inbox(), [])

    def test_many_messages_in_parts(self) -> None:
        names = [f"u{n}@dst.example" for n in range(queuelists.PART + 50)]
        self.add(*names, sender_account="other")
        self.assertEqual(
            self.call(self.operations.transport_set(Filter(Account="other"), "t")), len(names)
        )
        self.assertEqual(self.call(self.operations.drop(Filter(Account="other"))), len(names))

    def test_dump(self) -> None:
        data = self.call(self.operations.dump(self.ids[0], 0, 1000))
        self.assertTrue(data.startswith(b"A: b\r\nFrom:"))
        self.assertEqual(self.call(self.operations.dump(self.ids[0], len(data), 1000)), b"")
        deferred = Deferred.fromCoroutine(self.operations.dump(999, 0, 10))
        self.failureResultOf(deferred, queuedb.NoSuchQueued)

    def test_hold_rules(self) -> None:
        self.add("x@d1.example", next_attempt=self.store.now() + 1_000_000_000)
        rule = self.call(self.operations.hold_rule_add("me", "Example.ORG", "D1.example"))
        self.assertEqual(rule.SenderDomainStr, "example.org")
        self.assertEqual(rule.RecipientDomain.ASCII, "d1.example")
        self.assertEqual(len(self.call(self.operations.messages(Filter(Hold=True), Sort()))), 4)
        self.assertEqual(len(self.call(self.operations.hold_rule_list())), 2)
        self.assertTrue(self.call(self.operations.hold_rule_remove(rule.ID)))
        self.assertFalse(self.call(self.operations.hold_rule_remove(rule.ID)))
        self.refusal(self.operations.hold_rule_add("", "not a domain", ""))

    def test_suppressions(self) -> None:
        add, lookup = self.operations.suppress_add, self.operations.suppress_lookup
        entry = self.call(add("me", "A.b+c@dst.example", reason="r"))
        self.assertEqual(entry.base_address, "ab@dst.example")
        self.assertIsNone(self.call(add("me", "ab@dst.example")))
        self.assertEqual(self.call(lookup("", "ab-x@dst.example")), [entry])
        self.assertEqual(self.call(lookup("other", "ab@dst.example")), [])
        self.assertTrue(self.call(self.operations.suppress_remove("me", "ab@dst.example")))
        self.assertFalse(self.call(self.operations.suppress_remove("me", "ab@dst.example")))
        self.refusal(add("me", "nonsense"))

    def test_removal_of_an_account(self) -> None:
        self.call(self.operations.suppress_add("me", "x@y.example"))
        self.call(self.operations.remove_account("me"))
        self.assertEqual(self.queued(), [])
        self.assertEqual(len(self.inbox()), 3)
        self.assertEqual(self.call(self.operations.suppress_list()), [])

    def test_bad_filters(self) -> None:
        for wanted in (
            Filter(Submitted="1h"),
            Filter(NextAttempt="<soon"),
            Filter(Max=-1),
            Filter(Submitted=">"),
        ):
            self.refusal(self.operations.messages(wanted, Sort()))
        for sort in (Sort(Field="Size"), Sort(Last="yesterday"), Sort(Last=5)):
            self.refusal(self.operations.messages(Filter(), sort))
        self.refusal(self.operations.next_attempt_set(Filter(), 2**31 - 1))


class Types(Case):
    def test_moments(self) -> None:
        for text, expected in (
            ("", None),
            ("<now", Moment(True, 1000)),
            (">-1ms", Moment(False, 0)),
            ("< 30m", Moment(True, 1_800_001_000)),
            (">1h30m", Moment(False, 5_400_001_000)),
        ):
            self.assertEqual(api.moment(text, 1000), expected, text)

    @settings(max_examples=200)
    @given(st.text(max_size=12))
    def test_any_text_is_a_moment_or_refused(self, text: str) -> None:
        with contextlib.suppress(FilterError):
            api.moment(text, 0)

    def test_timestamps(self) -> None:
        now = 1_750_000_000_123_456
        self.assertEqual(api.microseconds(api.timestamp(now)), now)
        self.assertEqual(api.microseconds(datetime(1970, 1, 1, 0, 0, 1)), 1_000_000)
        self.assertEqual(api.microseconds(datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)), 1_000_000)

    def test_domains(self) -> None:
        self.assertEqual(api.ip_domain("[::1]").IP, "::1")
        found = api.ip_domain("bücher.example").Domain
        self.assertEqual((found.ASCII, found.Unicode), ("xn--bcher-kva.example", "bücher.example"))
        self.assertEqual(api.ip_domain("").Domain, api.Domain())

    def test_every_message_can_be_written(self) -> None:
        self.dialer.answers["mx1.example"] = refused(reply(451))
        self.add("é@dst.example", extra={"a": "b"}, dsn_utf8=b"x", require_tls=False)
        operations = QueueOperations(self.store, self.config)
        listed = self.successResultOf(
            Deferred.fromCoroutine(operations.messages(Filter(), Sort()))
        )
        data = msgspec.json.encode(listed)
        self.assertEqual(msgspec.json.decode(data, type=list[api.Msg]), listed)
