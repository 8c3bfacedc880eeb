"""Searching: what the database, the text index and a look at each message find is the same."""

from __future__ import annotations

from random import Random
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from moxtw.mail.text import folded
from moxtw.store import changing, mailboxes, messages, search
from moxtw.store.search import (
    All,
    And,
    Body,
    Criterion,
    Header,
    Not,
    Or,
    Size,
    Text,
    Uids,
    fuzzy,
)
from moxtw.store.textindex import TextIndex
from moxtw.store.tx import Tx
from tests.support.store import job, make_account, make_store, message

WORDS = ["alpha", "beta", "Gämma", "Straße", "ab", "x\0y", "quote\"d", "a'b", "%_", "日本語の"]
FIELDS = ["subject", "x-other", "from", "nothing"]


class Sample:
    """Messages with texts known."""

    def __init__(self, random: Random, count: int) -> None:
        self.messages = []
        for number in range(count):
            subject = " ".join(random.sample(WORDS[:5], random.randrange(0, 4)))
            other = random.choice(["", random.choice(WORDS[:4])])
            prefix = random.choice(["", f"X-Other: {random.choice(WORDS[:4])}\r\n"])
            body = " ".join(random.choices(WORDS, k=random.randrange(0, 6)))
            head = f"Subject: {subject}\r\n"
            if other:
                head += f"X-Other: {other}\r\n"
            text = f"{head}Content-Type: text/plain; charset=utf-8\r\n\r\n{body} {number}\r\n"
            self.messages.append((prefix, text, subject, other, body))

    def matches(self, number: int, criterion: Criterion) -> bool:
        prefix, text, *_ = self.messages[number]
        whole = prefix + text
        head, _, body = whole.partition("\r\n\r\n")
        match criterion:
            case All():
                return True
            case Uids(ranges):
                return any(a <= number + 1 <= b for a, b in ranges)
            case Size(above, below):
                size = len(whole.encode())
                return (above is None or size > above) and (below is None or size < below)
            case Text(needle):
                return folded(needle) in folded(whole)
            case Body(needle):
                return folded(needle) in folded(body)
            case Header(name, needle):
                return any(
                    line.lower().startswith(name + ":")
                    and folded(needle) in folded(line[len(name) + 1 :])
                    for line in head.split("\r\n")
                )
            case Not(item):
                return not self.matches(number, item)
            case And(items):
                return all(self.matches(number, item) for item in items)
            case Or(items):
                return any(self.matches(number, item) for item in items)
        raise AssertionError(criterion)


def needles() -> st.SearchStrategy[str]:
    pieces = [word[a:b] for word in WORDS for a in range(3) for b in range(a, len(word) + 1)]
    return st.one_of(
        st.sampled_from(pieces + [word.upper() for word in WORDS]),
        st.sampled_from(["alpha beta", "strasse", "gamma", "nirgends", "a" * 300]),
    )


LEAVES: st.SearchStrategy[Criterion] = st.one_of(
    st.builds(Text, needles()),
    st.builds(Body, needles()),
    st.builds(Header, st.sampled_from(FIELDS), needles()),
    st.builds(Size, st.one_of(st.none(), st.integers(0, 200)), st.none()),
    st.just(All()),
    st.sampled_from([Uids([(1, 5)]), Uids([]), Uids([(3, 3), (10, 4000)])]),
)
CRITERIA: st.SearchStrategy[Criterion] = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.builds(lambda a, b: And((a, b)), inner, inner),
        st.builds(lambda a, b: Or((a, b)), inner, inner),
    ),
    max_leaves=6,
)


class Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.store = make_store(self, self.clock)
        self.account = make_account(self.store)
        self.inbox = job(self.store, mailboxes.find, self.account.id, "Inbox").id
        self.sample = Sample(Random(3), 60)

    def fill(self, start: int, end: int) -> None:
        def run(tx: Tx) -> None:
            for prefix, text, *_ in self.sample.messages[start:end]:
                new = message(self.store, text.encode(), prefix=prefix.encode())
                messages.add(tx, self.account.id, self.inbox, new)

        job(self.store, run)

    def index(self) -> None:
        """Let the chore do its work."""
        for _ in range(100):
            if not job(self.store, self.store.backend.text_index.work):
                return
        self.fail("the index is never done")

    def search(self, criterion: Criterion, **more: Any) -> list[int]:
        return job(self.store, search.search, self.inbox, criterion, **more)

    def check(self, criterion: Criterion) -> None:
        wanted = [
            number + 1
            for number in range(len(self.sample.messages))
            if self.sample.matches(number, criterion)
        ]
        self.assertEqual(self.search(criterion), wanted, criterion)


class FindingTests(Case):
    def setUp(self) -> None:
        super().setUp()
        self.patch(search, "INDEX_FROM", 1)
        self.patch(search, "_PIECE", 7)

    @settings(
        max_examples=150,
        deadline=None,
        suppress_health_check=[HealthCheck.differing_executors],
    )
    @given(CRITERIA)
    def _compare(self, criterion: Criterion) -> None:
        self.check(criterion)

    def test_all_indexed(self) -> None:
        self.fill(0, 60)
        self.index()
        self._compare()

    def test_some_indexed(self) -> None:
        self.fill(0, 40)
        self.index()
        self.fill(40, 60)
        self._compare()

    def test_none_indexed(self) -> None:
        self.fill(0, 60)
        self._compare()

    def test_without_index(self) -> None:
        self.store.backend.text_index.available = False
        self.fill(0, 60)
        self._compare()


class FuzzyTests(Case):
    """What need not be exact: the index makes no difference."""

    def results(self, criterion: Criterion) -> list[tuple[int, int]]:
        def run(tx: Tx) -> list[tuple[int, int]]:
            work = search.Search(self.inbox, criterion)
            work.step(tx)
            return [(uid, work.score(uid)) for uid in work.found]

        return job(self.store, run)

    def test_indexed_or_not(self) -> None:
        self.patch(search, "INDEX_FROM", 1)
        self.patch(search, "_FUZZY_PIECE", 7)
        self.fill(0, 40)
        self.index()
        self.fill(40, 60)
        leaves: list[Criterion] = [
            Text("alpah"),
            Text("GAMMA"),
            Body("strase beta"),
            Header("subject", "stra\u00dfen"),
            Header("x-other", "alpha"),
            Text("ab"),
            Text("\u65e5\u672c"),
        ]
        criteria = [fuzzy(leaf) for leaf in leaves]
        criteria += [Or((a, b)) for a, b in zip(criteria, criteria[1:], strict=False)]
        criteria += [And((criteria[0], Size(10, None), criteria[4])), Not(criteria[0])]
        with_index = [self.results(each) for each in criteria]
        index, self.store.backend.text_index = self.store.backend.text_index, TextIndex()
        without = [self.results(each) for each in criteria]
        self.store.backend.text_index = index
        self.assertEqual(with_index, without)
        self.assertNotIn([], with_index[:7])
        for leaf, found in zip(leaves, with_index, strict=False):
            # What is there exactly is found, as far as it is a word.
            exact = set(self.search(leaf))
            self.assertLessEqual(exact if leaf != Text("ab") else set(), dict(found).keys(), leaf)
            self.assertTrue(all(1 <= score <= 100 for _, score in found))


class IndexTests(Case):
    def test_kept_up_by_itself(self) -> None:
        index = self.store.backend.text_index
        before = job(self.store, index.reached)
        self.fill(0, 60)
        for _ in range(200):
            self.clock.advance(1)
        after = job(self.store, index.reached)
        self.assertGreater(after.contents, before.contents)
        self.assertFalse(job(self.store, index.work))

    def test_candidates(self) -> None:
        self.fill(0, 60)
        self.index()
        index = self.store.backend.text_index
        found = job(self.store, index.candidates, Text("nowhere at all"), 1000)
        self.assertEqual(found, ("", ""))
        self.assertIsNone(job(self.store, index.candidates, Text("ab"), 1000))
        self.assertIsNone(job(self.store, index.candidates, Text("alpha"), 3))
        found = job(self.store, index.candidates, Text("alpha"), 1000)
        wanted = sum("alpha" in text for _, text, *_ in self.sample.messages)
        self.assertEqual(len(found.contents.split(",")), wanted)

    def test_erased_messages_leave_it(self) -> None:
        self.fill(0, 60)
        self.index()
        index = self.store.backend.text_index
        ids = (self.account.id, self.inbox)
        job(self.store, changing.expunge, *ids, only_deleted=False)
        for _ in range(50):
            if not job(self.store, messages.erase, self.account.id, None):
                break
        self.index()
        found = job(self.store, index.candidates, Text("alpha"), 1000)
        self.assertEqual(found, ("", ""))

    def test_long_texts_are_found(self) -> None:
        long = b"word " * 60_000 + b"needle in it\r\n"
        body = b"Subject: long\r\n\r\n" + long + b"filler " * 60_000
        added = job(
            self.store,
            messages.add,
            self.account.id,
            self.inbox,
            message(self.store, body),
        )
        self.patch(search, "INDEX_FROM", 1)
        self.index()
        self.assertEqual(self.search(Text("needle in it")), [added.uid])
        self.assertEqual(self.search(Text("needle in nothing")), [])

    def test_given_up(self) -> None:
        self.fill(0, 60)
        self.patch(search, "_PIECE", 5)
        work = search.Search(self.inbox, Text("alpha"))
        done = []
        while not job(self.store, work.step, 0.0):
            done.append(work.done)
        self.assertGreater(len(done), 5)
        self.assertEqual(work.found, self.search(Text("alpha")))
