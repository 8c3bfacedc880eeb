"""Backoff, and whose turn it is."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from moxtw.queue.schedule import MAX_BUSY, Schedule, backoff, waits_after


class Backoff(SynchronousTestCase):
    def test_waits(self) -> None:
        random = Random(1)
        for attempts in range(8):
            seen = {backoff(attempts, random) for _ in range(200)}
            self.assertEqual(seen, {(450 + n) * 2**attempts for n in range(-5, 5)})

    def test_bound(self) -> None:
        self.assertLess(backoff(10_000, Random(1)), 455 * 2**20)

    def test_waits_that_are_left(self) -> None:
        # Attempts are made at 0, 7.5m, 22.5m, 52.5m, 1h52m, 3h52m, 7h52m, 15h52m.
        self.assertEqual(waits_after(5, 8), [7200, 14400, 28800])
        self.assertEqual(sum(waits_after(1, 8)), (15 * 60 + 52) * 60 + 30)
        self.assertEqual(waits_after(8, 8), [])


class Turns(SynchronousTestCase):
    def test_longest_due_first(self) -> None:
        schedule = Schedule()
        schedule.replace({"a": 30, "b": 10, "c": 20, "d": 99})
        self.assertEqual([schedule.take(50) for _ in range(4)], ["b", "c", "a", None])
        self.assertEqual(schedule.next_time(), 99)
        self.assertEqual(schedule.busy, 3)

    def test_at_most_so_many_at_once(self) -> None:
        schedule = Schedule()
        schedule.replace({f"d{n}": n for n in range(MAX_BUSY + 1)})
        taken = [schedule.take(100) for _ in range(MAX_BUSY + 1)]
        self.assertIsNone(taken[-1])
        schedule.done("d0", None)
        self.assertEqual(schedule.take(100), f"d{MAX_BUSY}")

    def test_busy_domain_is_looked_at_again(self) -> None:
        schedule = Schedule()
        schedule.earlier("a", 5)
        self.assertEqual(schedule.take(10), "a")
        schedule.earlier("a", 7)
        self.assertIsNone(schedule.take(10))
        self.assertIsNone(schedule.next_time())
        schedule.done("a", 500)
        self.assertEqual(schedule.take(10), "a")
        schedule.done("a", 500)
        self.assertIsNone(schedule.take(10))
        self.assertEqual(schedule.next_time(), 500)

    def test_reading_anew_keeps_busy_domains_busy(self) -> None:
        schedule = Schedule()
        schedule.earlier("a", 5)
        schedule.take(10)
        schedule.replace({"a": 6, "b": 7})
        self.assertEqual(schedule.take(10), "b")
        self.assertIsNone(schedule.take(10))
        schedule.done("a", None)
        self.assertEqual(schedule.take(10), "a")

    def test_vanished_domains(self) -> None:
        schedule = Schedule()
        schedule.replace({"a": 1, "b": 2})
        schedule.replace({"b": 2})
        self.assertEqual(schedule.take(10), "b")
        self.assertEqual(len(schedule), 0)

    @settings(max_examples=200)
    @given(
        st.lists(
            st.tuples(
                st.sampled_from(["earlier", "take", "done", "replace"]),
                st.sampled_from("abcd"),
                st.integers(0, 9),
            ),
            max_size=60,
        )
    )
    def test_against_a_plain_model(self, steps: list[tuple[str, str, int]]) -> None:
        schedule = Schedule()
        due: dict[str, int] = {}
        busy: dict[str, int | None] = {}
        for step, domain, time in steps:
            if step == "earlier":
                schedule.earlier(domain, time)
                if domain in busy:
                    known = busy[domain]
                    busy[domain] = time if known is None else min(known, time)
                else:
                    due[domain] = min(due.get(domain, time), time)
            elif step == "take":
                first = min(due.values(), default=99)
                taken = schedule.take(time)
                if first > time:
                    self.assertIsNone(taken)
                else:
                    assert taken is not None
                    self.assertEqual(due[taken], first)
                    del due[taken]
                    busy[taken] = None
            elif step == "done" and domain in busy:
                schedule.done(domain, time)
                again = busy.pop(domain)
                due[domain] = time if again is None else min(again, time)
            elif step == "replace":
                schedule.replace({domain: time})
                if domain in busy:
                    busy[domain] = time
                due = {} if domain in busy else {domain: time}
            self.assertEqual(schedule.next_time(), min(due.values(), default=None))
