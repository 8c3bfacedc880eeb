"""moxtw.junk.trainer and classify: the filter follows the flags of messages."""

from __future__ import annotations

import os
from typing import Any

import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from moxtw import metrics
from moxtw.config.accounts import JunkParams
from moxtw.junk.classify import classify, classify_small
from moxtw.junk.trainer import Trainer
from moxtw.store import accounts, changing, junkdb, mailboxes, messages, transfer, verify
from moxtw.store.db import Store
from moxtw.store.schema import messages as message_table
from moxtw.store.schema_junk import junk_words
from moxtw.store.tx import Statement
from tests.support.store import job, make_account, make_store, message, now

PARAMS = JunkParams(onegrams=True, max_power=0.01, top_words=10, ignore_words=0.1, rare_words=2)
JUNK, NOTJUNK = 16, 32


class Bench:
    """A store with an account and a trainer."""

    def __init__(self, case: Any, params: JunkParams | None = PARAMS) -> None:
        self.clock = Clock()
        self.store: Store = make_store(case, self.clock)
        self.account = make_account(self.store)
        self.params = params
        self.boxes = {
            box.name: box.id for box in job(self.store, mailboxes.all, self.account.id)
        }
        self.trainer = self.make_trainer()
        case.addCleanup(lambda: self.trainer.stopService())

    def make_trainer(self) -> Trainer:
        trainer = Trainer(self.store, lambda name: self.params, self.clock)
        trainer.startService()
        return trainer

    def settle(self) -> None:
        """Let the trainer do what is to do."""
        for _ in range(2000):
            calls = self.clock.getDelayedCalls()
            if not calls:
                return
            self.clock.advance(max(0.0, min(c.getTime() for c in calls) - self.clock.seconds()))
        raise AssertionError("the trainer does not come to an end")

    def add(self, text: str, flags: int = 0, mailbox: str = "Inbox") -> Any:
        """Add a message whose body is `text`."""
        new = message(self.store, b"\r\n" + text.encode() + b"\r\n", flags=flags)
        return job(self.store, messages.add, self.account.id, self.boxes[mailbox], new)

    def flag(self, uid: int, op: str, flags: int, mailbox: str = "Inbox") -> None:
        job(
            self.store,
            changing.store_flags,
            self.account.id,
            self.boxes[mailbox],
            [(uid, uid)],
            op,
            flags,
        )

    def counted(self) -> tuple[int, int, dict[str, tuple[int, int]]]:
        """Messages of each kind, and all words."""
        asked = job(self.store, junkdb.asked, self.account.id)
        if asked is None:
            return 0, 0, {}
        rows = job(
            self.store,
            lambda tx: tx.all(
                Statement(
                    junk_words.select()
                    .where(junk_words.c.filter_id == asked.id)
                    .order_by(junk_words.c.word)
                )
            ),
        )
        return asked.ham, asked.spam, {word: (ham, spam) for _, word, ham, spam in rows}


class TrainingTests(SynchronousTestCase):
    """What flags, moves, copies and expunges do."""

    def setUp(self) -> None:
        """A store."""
        self.bench = Bench(self)

    def check(self, ham: int, spam: int, words: dict[str, tuple[int, int]]) -> None:
        """What the filter has counted, once it is at rest."""
        self.bench.settle()
        self.assertEqual(self.bench.counted(), (ham, spam, words))
        self.assertEqual(now(Deferred.fromCoroutine(verify.verify_all(self.bench.store))), [])

    def test_added_with_a_flag(self) -> None:
        """Trained; without a flag, or with both, it is not."""
        self.bench.add("one two", JUNK)
        self.bench.add("two three", NOTJUNK)
        self.bench.add("four")
        self.bench.add("five", JUNK | NOTJUNK)
        self.check(1, 1, {"one": (0, 1), "two": (1, 1), "three": (1, 0)})

    def test_mailbox_gives_the_flag(self) -> None:
        """The Junk mailbox makes junk of what comes there."""
        self.bench.add("one", mailbox="Junk")
        self.check(0, 1, {"one": (0, 1)})

    def test_flags_changed(self) -> None:
        """Trained, trained the other way round, untrained."""
        uid = self.bench.add("one two").uid
        self.check(0, 0, {})
        self.bench.flag(uid, "+", JUNK)
        self.check(0, 1, {"one": (0, 1), "two": (0, 1)})
        self.bench.flag(uid, "=", NOTJUNK)
        self.check(1, 0, {"one": (1, 0), "two": (1, 0)})
        self.bench.flag(uid, "+", JUNK)
        self.check(0, 0, {})
        self.bench.flag(uid, "-", NOTJUNK)
        self.check(0, 1, {"one": (0, 1), "two": (0, 1)})

    def test_changes_between_looks(self) -> None:
        """Only what is in the end counts."""
        uid = self.bench.add("one", JUNK).uid
        self.bench.flag(uid, "=", NOTJUNK)
        self.bench.flag(uid, "=", 0)
        self.bench.flag(uid, "=", NOTJUNK)
        self.check(1, 0, {"one": (1, 0)})

    def test_moved(self) -> None:
        """A message that is moved keeps its training, and gets the flags of the mailbox."""
        bench = self.bench
        added = bench.add("one", NOTJUNK)
        self.check(1, 0, {"one": (1, 0)})
        uids = [(added.uid, added.uid)]
        job(bench.store, transfer.move, bench.account.id, bench.boxes["Inbox"], uids,
            bench.boxes["Archive"])  # fmt: skip
        self.check(1, 0, {"one": (1, 0)})
        job(bench.store, transfer.move, bench.account.id, bench.boxes["Archive"], [(1, 1)],
            bench.boxes["Junk"])  # fmt: skip
        self.check(0, 1, {"one": (0, 1)})

    def test_copied(self) -> None:
        """A copy is trained by itself."""
        bench = self.bench
        bench.add("one", NOTJUNK)
        self.check(1, 0, {"one": (1, 0)})
        job(bench.store, transfer.copy, bench.account.id, bench.boxes["Inbox"], [(1, 1)],
            bench.boxes["Archive"])  # fmt: skip
        self.check(2, 0, {"one": (2, 0)})

    def test_expunged(self) -> None:
        """Untrained, and its content is erased after that."""
        bench = self.bench
        bench.add("one two", JUNK)
        bench.add("two", JUNK)
        self.check(0, 2, {"one": (0, 1), "two": (0, 2)})
        job(bench.store, changing.expunge, bench.account.id, bench.boxes["Inbox"], [(1, 1)],
            only_deleted=False)  # fmt: skip
        self.assertEqual(job(bench.store, messages.erase, bench.account.id, None), "done")
        self.check(0, 1, {"two": (0, 1)})
        columns = message_table.c
        left = Statement(
            sa.select(columns.uid).where(columns.content_id.is_not(None)).order_by(columns.uid)
        )
        self.assertEqual(job(bench.store, lambda tx: tx.all(left)), [(2,)])

    def test_mailbox_deleted(self) -> None:
        """All of its messages are untrained."""
        self.bench.add("one", mailbox="Junk")
        self.check(0, 1, {"one": (0, 1)})
        job(self.bench.store, mailboxes.delete, self.bench.account.id, "Junk")
        self.check(0, 0, {})

    def test_account_removed(self) -> None:
        """Nothing stays of its filter, trained or not."""
        bench = self.bench
        bench.add("one", JUNK)
        bench.settle()
        bench.add("two", JUNK)
        now(Deferred.fromCoroutine(accounts.remove(bench.store, "mox")))
        bench.settle()
        left = job(bench.store, lambda tx: tx.all(Statement(junk_words.select())))
        self.assertEqual(left, [])
        self.assertEqual(now(Deferred.fromCoroutine(verify.verify_all(bench.store))), [])

    def test_without_settings(self) -> None:
        """Nothing is learned, but what is expunged is forgotten."""
        bench = self.bench
        bench.add("one", JUNK)
        bench.add("two", JUNK)
        self.check(0, 2, {"one": (0, 1), "two": (0, 1)})
        bench.params = None
        bench.add("three", JUNK)
        job(bench.store, changing.expunge, bench.account.id, bench.boxes["Inbox"], [(1, 1)],
            only_deleted=False)  # fmt: skip
        self.check(0, 1, {"two": (0, 1)})
        bench.params = PARAMS
        bench.trainer.look_at_all()
        self.check(0, 2, {"two": (0, 1), "three": (0, 1)})

    def test_stopped_in_between(self) -> None:
        """What happened while nobody trained is made up for."""
        bench = self.bench
        now(bench.trainer.stopService())
        for n in range(120):
            bench.add(f"common word{chr(97 + n % 26)}a", JUNK if n % 2 else NOTJUNK)
        bench.settle()
        self.assertEqual(bench.counted(), (0, 0, {}))
        bench.trainer = bench.make_trainer()
        bench.settle()
        ham, spam, words = bench.counted()
        self.assertEqual((ham, spam, words["common"]), (60, 60, (60, 60)))

    def test_content_that_is_gone(self) -> None:
        """Is passed over; others are trained."""
        bench = self.bench
        big = message(bench.store, b"\r\n" + b"large text\r\n" * 9000, flags=JUNK)
        path = big.content.path
        job(bench.store, messages.add, bench.account.id, bench.boxes["Inbox"], big)
        bench.add("small", JUNK)
        assert path is not None
        with open(path, "rb") as file:
            data = file.read()
        os.unlink(path)
        bench.settle()
        self.assertEqual(bench.counted(), (0, 1, {"small": (0, 1)}))
        with open(path, "wb") as file:
            file.write(data)
        bench.trainer.look_at_all()
        self.check(0, 2, {"small": (0, 1), "large": (0, 1), "text": (0, 1)})

    def test_metrics(self) -> None:
        """Counted."""
        def value(action: str) -> float:
            return metrics.junk_trained_total.labels(action)._value.get()

        before = value("train"), value("untrain")
        uid = self.bench.add("one", JUNK).uid
        self.bench.settle()
        self.bench.flag(uid, "=", NOTJUNK)
        self.bench.settle()
        self.assertEqual((value("train"), value("untrain")), (before[0] + 2, before[1] + 1))

    @given(
        st.lists(
            st.tuples(
                st.integers(1, 4),
                st.sampled_from([0, JUNK, NOTJUNK, JUNK | NOTJUNK]),
                st.booleans(),
            ),
            max_size=12,
        )
    )
    @settings(max_examples=20, deadline=None)
    def test_any_order_of_changes(self, changes: list[tuple[int, int, bool]]) -> None:
        """The filter is in the end as if trained with the last flags only."""
        bench = Bench(self)
        texts = {n: f"common text{'abcd'[n - 1]} {'ao' * n}ab" for n in range(1, 5)}
        flags = dict.fromkeys(texts, 0)
        for text in texts.values():
            bench.add(text)
        for uid, bits, look in changes:
            bench.flag(uid, "=", bits)
            flags[uid] = bits
            if look:
                bench.settle()
        bench.settle()
        expected: dict[str, tuple[int, int]] = {}
        ham = spam = 0
        for uid, bits in flags.items():
            if bits not in (JUNK, NOTJUNK):
                continue
            ham += bits == NOTJUNK
            spam += bits == JUNK
            for word in set(texts[uid].split()):
                h, s = expected.get(word, (0, 0))
                expected[word] = (h + (bits == NOTJUNK), s + (bits == JUNK))
        self.assertEqual(bench.counted(), (ham, spam, dict(sorted(expected.items()))))


class RetrainTests(SynchronousTestCase):
    """Training anew."""

    def test_all_messages(self) -> None:
        """From all flagged ones; the old filter is asked until then, and goes then."""
        bench = Bench(self)
        for n in range(60):
            bench.add("good" if n % 3 else "evil", NOTJUNK if n % 3 else JUNK)
        bench.add("neutral")
        bench.settle()
        before = bench.counted()
        old = job(bench.store, junkdb.asked, bench.account.id)
        job(bench.store, lambda tx: junkdb.count(tx, old.id, {"wrong": (7, 7)}, 5, 5))
        told: list[int] = []
        waiting = Deferred.fromCoroutine(
            bench.trainer.retrain(bench.account.id, PARAMS, told.append)
        )
        self.assertEqual(job(bench.store, junkdb.asked, bench.account.id).id, old.id)
        bench.settle()
        self.assertEqual(now(waiting), 60)
        self.assertEqual(told[-1], 60)
        self.assertEqual(bench.counted(), before)
        self.assertNotEqual(job(bench.store, junkdb.asked, bench.account.id).id, old.id)
        self.assertEqual(len(job(bench.store, junkdb.filters, bench.account.id)), 1)
        self.assertEqual(now(Deferred.fromCoroutine(verify.verify_all(bench.store))), [])

    def test_interrupted(self) -> None:
        """Goes on after a stop at any point, and once more when it is asked for twice."""
        for stops in range(6):
            bench = Bench(self)
            for _ in range(120):
                bench.add("good", NOTJUNK)
            bench.settle()
            expected = bench.counted()
            waiting = Deferred.fromCoroutine(bench.trainer.retrain(bench.account.id, PARAMS))
            for _ in range(stops):
                bench.clock.advance(1)
            again = stops % 2
            if again:
                second = Deferred.fromCoroutine(bench.trainer.retrain(bench.account.id, PARAMS))
                second.addErrback(lambda f: None)
            now(bench.trainer.stopService())
            waiting.addErrback(lambda f: None)
            bench.add("good", NOTJUNK)
            bench.trainer = bench.make_trainer()
            bench.settle()
            self.assertEqual(expected, (120, 0, {"good": (120, 0)}))
            self.assertEqual(bench.counted(), (121, 0, {"good": (121, 0)}))
            self.assertEqual(len(job(bench.store, junkdb.filters, bench.account.id)), 1)

    def test_other_groups_of_words(self) -> None:
        """A change of the settings that asks for it trains anew by itself."""
        bench = Bench(self)
        bench.add("one two", JUNK)
        bench.settle()
        bench.params = JunkParams(twograms=True, max_power=0.01, top_words=10)
        bench.trainer.look_at_all()
        bench.settle()
        self.assertEqual(bench.counted(), (0, 1, {"one two": (0, 1)}))


class ClassifyTests(SynchronousTestCase):
    """Asking."""

    def ask(self, bench: Bench, data: bytes) -> Any:
        """What the filter says, the same in both ways."""
        content = now(bench.store.contents.from_bytes(data))
        found = now(
            Deferred.fromCoroutine(classify(bench.store, bench.account.id, PARAMS, content))
        )
        small = now(
            bench.store.read(lambda tx: classify_small(tx, bench.account.id, PARAMS, content))
        )
        self.assertEqual(small, found if len(data) <= 16384 else None)
        return found

    def test_by_hand(self) -> None:
        """One word in 3 of 3 junk messages, another in 1 of 50 others."""
        bench = Bench(self)
        found = self.ask(bench, b"\r\nviagra\r\n")
        self.assertEqual((found.probability, found.known, found.significant), (0.5, 0, False))
        for _ in range(3):
            bench.add("viagra", JUNK)
        for n in range(50):
            bench.add("meeting" if n == 0 else "lunch", NOTJUNK)
        bench.settle()
        found = self.ask(bench, b"\r\nViagra unknown\r\n")
        self.assertAlmostEqual(found.probability, 0.99)
        self.assertEqual((found.words, found.known, found.significant), (2, 1, True))
        found = self.ask(bench, b"\r\nviagra meeting lunch\r\n")
        # meeting was seen once: 0.01 + 2 * 0.49 / 10 = 0.108; lunch: 0.01.
        junk, other = 0.99 * 0.108 * 0.01, 0.01 * 0.892 * 0.99
        self.assertAlmostEqual(found.probability, junk / (junk + other))
        self.assertEqual([w.word for w in found.ham], ["lunch", "meeting"])

    def test_unreadable_type(self) -> None:
        """Is junk, for sure."""
        found = self.ask(Bench(self), b"Content-Type: ;nonsense\r\n\r\nhello\r\n")
        self.assertEqual((found.probability, found.significant), (1.0, True))

    def test_large_message(self) -> None:
        """Read from its file."""
        bench = Bench(self)
        bench.add("large text", JUNK)
        bench.settle()
        found = self.ask(bench, b"\r\n" + b"large text\r\n" * 9000)
        self.assertEqual(found.known, 2)
