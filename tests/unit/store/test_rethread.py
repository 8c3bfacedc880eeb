"""Threads assigned anew: as at arrival where all came in order, and whole where not."""

from __future__ import annotations

from typing import Any
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from moxtw.store import mailboxes, messages, rethread
from moxtw.store.errors import StoreError
from moxtw.store.verify import verify_all
from tests.support.store import job, make_account, make_store, message, now


class Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.begin()

    def begin(self) -> None:
        self.store = make_store(self)
        self.account = make_account(self.store)
        self.inbox = job(self.store, mailboxes.named, self.account.id, "Inbox")

    def add(
        self,
        number: int | None,
        *references: int,
        subject: str = "thing",
        received: int | None = None,
        more: str = "",
        body: str = "body\r\n",
    ) -> int:
        head = f"Subject: {subject}\r\n{more}"
        if number is not None:
            head += f"Message-ID: <{number}@x>\r\n"
        if references:
            head += "References: " + " ".join(f"<{each}@x>" for each in references) + "\r\n"
        new = message(self.store, f"{head}\r\n{body}".encode(), received=received)
        added = job(self.store, messages.add, self.account.id, self.inbox.id, new)
        return int(added.id)

    def state(self) -> dict[int, tuple[int, list[int], bool]]:
        rows = job(
            self.store,
            lambda tx: tx.raw(
                "SELECT m.id, m.thread_id, t.thread_parents, t.thread_missing_link"
                " FROM messages m JOIN message_meta t ON t.id = m.id ORDER BY m.id"
            ).fetchall(),
        )
        return {
            row[0]: (row[1], [int(each) for each in row[2].split()], bool(row[3])) for row in rows
        }

    def rethread(self) -> rethread.Rethreaded:
        done: rethread.Rethreaded = now(
            Deferred.fromCoroutine(rethread.reassign_threads(self.store, self.account.id))
        )
        self.assertEqual(now(Deferred.fromCoroutine(verify_all(self.store))), [])
        return done


class ReassignTests(Case):
    def test_what_came_in_order_stays(self) -> None:
        self.add(1)
        self.add(2, 1, subject="Re: thing")
        self.add(3, 1, 2, subject="Re: thing")
        self.add(2, 1, subject="Re: thing")
        self.add(None, subject="Fwd: thing")
        self.add(4, 1, subject="another")
        self.add(5, 77, 78)
        before = self.state()
        done = self.rethread()
        self.assertEqual((done.messages, done.changed), (7, 0))
        self.assertEqual(self.state(), before)

    def test_later_parents_adopt(self) -> None:
        third = self.add(3, 1, 2)
        second = self.add(2, 1)
        first = self.add(1)
        self.assertEqual(len({each[0] for each in self.state().values()}), 3)
        done = self.rethread()
        self.assertEqual(done, (3, 1, 2))
        self.assertEqual(
            self.state(),
            {
                third: (first, [second, first], False),
                second: (first, [first], False),
                first: (first, [], False),
            },
        )
        self.assertEqual(self.rethread().changed, 0)

    def test_a_gap_is_marked(self) -> None:
        last = self.add(9, 1, 77)
        first = self.add(1)
        self.rethread()
        self.assertEqual(self.state()[last], (first, [first], True))

    def test_cycles_are_broken(self) -> None:
        found = [self.add(1, 3), self.add(2, 1), self.add(3, 2), self.add(4, 4)]
        self.rethread()
        state = self.state()
        self.assertEqual(len({state[each][0] for each in found[:3]}), 1)
        self.assertEqual(sum(not state[each][1] for each in found[:3]), 1)
        self.assertEqual(state[found[3]][1], [])

    def test_another_subject_is_another_thread_but_for_notifications(self) -> None:
        other = self.add(2, 1, subject="other")
        notice = self.add(
            3,
            1,
            subject="failed",
            more="Content-Type: multipart/report; report-type=delivery-status; boundary=x\r\n",
            body="--x\r\n\r\n--x\r\nContent-Type: message/delivery-status\r\n\r\n--x--\r\n",
        )
        first = self.add(1)
        self.rethread()
        self.assertEqual(self.state()[other], (other, [], True))
        self.assertEqual(self.state()[notice], (first, [first], False))

    def test_responses_by_subject_hang_below_the_first(self) -> None:
        day = 86400 * 1_000_000
        at = 1_700_000_000_000_000
        late = self.add(None, subject="Re: thing", received=at + 2)
        later = self.add(None, subject="Re: thing", received=at + 3)
        first = self.add(None, received=at)
        old = self.add(None, subject="Re: thing", received=at - 29 * day)
        soon = self.add(None, subject="Re: soon", received=at)
        after = self.add(None, subject="soon", received=at + day)
        self.rethread()
        state = self.state()
        self.assertEqual(state[late], (first, [first], True))
        self.assertEqual(state[later], (first, [first], True))
        self.assertEqual(state[old], (old, [], False))
        self.assertEqual(state[soon], (after, [after], True))

    def test_who_joins_a_muted_thread_is_muted(self) -> None:
        late = self.add(2, 1)
        first = self.add(1)
        job(
            self.store,
            lambda tx: tx.raw(f"UPDATE message_meta SET thread_muted = 1 WHERE id = {first}")
            and None,
        )
        self.rethread()
        sql = "SELECT id, thread_muted FROM message_meta"
        rows = job(self.store, lambda tx: tx.raw(sql).fetchall())
        self.assertEqual(dict(map(tuple, rows)), {late: 1, first: 1})

    def test_messages_that_come_meanwhile_take_part(self) -> None:
        late = self.add(2, 1)
        real = rethread._Forest.assign
        added: list[int] = []

        def assign(forest: Any) -> None:
            real(forest)
            # The last time is in the job that writes: nothing comes meanwhile.
            if len(added) < 3:
                added.append(self.add(1 if not added else None, subject=f"{len(added)}x thing"))

        with mock.patch.object(rethread._Forest, "assign", assign):
            done = self.rethread()
        self.assertEqual(done.messages, 1 + len(added))
        self.assertEqual(self.state()[late][0], late)
        self.add(1)
        self.rethread()

    def test_all_or_nothing(self) -> None:
        self.add(3, 2)
        self.add(2, 1)
        self.add(1)
        before = self.state()
        with (
            mock.patch.object(rethread, "_WRITE", 1),
            mock.patch.object(rethread._Forest, "changes", lambda forest: self.failing(before)),
            self.assertRaises(StoreError),
        ):
            self.rethread()
        self.assertEqual(self.state(), before)

    def failing(self, found: Any) -> Any:
        first, second, *_ = found
        yield first, second, str(second), 0
        raise StoreError("no more")

    def test_keys_that_are_still_to_be_made(self) -> None:
        self.add(1)
        job(self.store, lambda tx: tx.raw("DELETE FROM content_keys") and None)
        deferred = Deferred.fromCoroutine(
            rethread.reassign_threads(self.store, self.account.id)
        )
        self.failureResultOf(deferred, rethread.KeysMissing)


class Properties(Case):
    @settings(max_examples=30, deadline=None)
    @given(
        st.lists(
            st.tuples(
                st.one_of(st.none(), st.integers(0, 8)),
                st.lists(st.integers(0, 8), max_size=3),
                st.sampled_from(["a", "Re: a", "b", "Re: b", ""]),
                st.integers(0, 5),
            ),
            max_size=14,
        )
    )
    def test_it_is_consistent_and_stays_so(self, made: list[Any]) -> None:
        self.begin()
        for number, references, subject, day in made:
            self.add(number, *references, subject=subject, received=day * 10**12 + 10**15)
        done = self.rethread()
        state = self.state()
        self.assertEqual(done.threads, sum(not each[1] for each in state.values()))
        for message_id, (thread, parents, _) in state.items():
            self.assertNotIn(message_id, parents)
            self.assertEqual(thread, parents[-1] if parents else message_id)
            if parents:
                self.assertEqual(state[parents[0]][1], parents[1:])
        self.assertEqual(self.rethread().changed, 0)
