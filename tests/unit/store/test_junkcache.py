"""What is remembered of the counts of words."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from moxtw.store import junkdb
from moxtw.store.junkcache import WordCache
from moxtw.store.junkdb import Filter
from tests.support.store import job, make_account, make_store

WORDS = [*"abcdef", "long" * 20, "longer" * 20]


class CacheTests(SynchronousTestCase):
    def test_versions(self) -> None:
        cache = WordCache()
        known = cache.of(1, 1)
        known["a"] = (1, 2)
        self.assertEqual(cache.of(1, 1), {"a": (1, 2)})
        self.assertEqual(cache.of(2, 1), {})
        self.assertEqual(cache.of(1, 2), {})

    def test_bounded(self) -> None:
        """Those go that were not asked for the longest time."""
        cache = WordCache(limit=10)
        for number in range(4):
            cache.of(number, 0).update({f"{number}{n}": None for n in range(4)})
            cache.of(0, 0)
            cache.trim()
        self.assertEqual(cache.words, 8)
        self.assertEqual((len(cache.of(0, 0)), len(cache.of(3, 0)), len(cache.of(2, 0))), (4, 4, 0))


class CountsTests(SynchronousTestCase):
    """The same counts with and without it."""

    def setUp(self) -> None:
        self.store = make_store(self)
        self.account = make_account(self.store)
        self.filter = job(self.store, junkdb.begin, self.account.id, 1)

    def current(self) -> Filter:
        found = job(self.store, junkdb.asked, self.account.id)
        assert found is not None
        return found

    @given(
        st.lists(
            st.dictionaries(
                st.sampled_from(WORDS),
                st.tuples(st.integers(-1, 2), st.integers(-1, 2)),
                max_size=5,
            )
            | st.sets(st.sampled_from([*WORDS, "unknown"])),
            max_size=12,
        )
    )
    @settings(max_examples=60, deadline=None)
    def test_any_changes(self, steps: list[dict[str, tuple[int, int]] | set[str]]) -> None:
        for step in steps:
            if isinstance(step, dict):
                # Messages of the two kinds come and go: their numbers alone tell no change.
                job(self.store, junkdb.count, self.filter.id, step, 0, 0)
            else:
                words = sorted(step)
                self.assertEqual(
                    job(self.store, junkdb.counts_of, self.current(), words),
                    job(self.store, junkdb.counts, self.filter.id, words),
                )

    def test_known_words_need_no_statement(self) -> None:
        job(self.store, junkdb.count, self.filter.id, {"a": (1, 0), "b": (2, 3)}, 1, 0)
        found = self.current()
        words = ["a", "b", "unknown"]
        first = job(self.store, junkdb.counts_of, found, words)
        self.patch(junkdb, "counts", None)
        self.assertEqual(job(self.store, junkdb.counts_of, found, words), first)
        self.assertEqual(first, {"a": (1, 0), "b": (2, 3)})
