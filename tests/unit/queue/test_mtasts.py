"""MTA-STS policies that are kept."""

from __future__ import annotations

from random import Random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from moxtw.dns.resolver import DNSError, ServFail
from moxtw.queue.mtasts import REFRESH, SPREAD, UNUSED, Known, PolicyCache, Refresher
from moxtw.store import mtastsdb
from moxtw.store.mtastsdb import PolicyRecord
from moxtw.tlspolicy.mtasts import Policy, Record, RecordError, parse_policy
from moxtw.tlspolicy.mtastsfetch import FetchError, NoPolicy
from tests.support.store import make_store, now

TEXT = "version: STSv1\nmode: enforce\nmx: mx.example\nmax_age: 1000000\n"
DAY = 86400


class Source:
    """Says what it is told."""

    def __init__(self) -> None:
        self.records: dict[str, Any] = {}
        self.policies: dict[str, Any] = {}
        self.asked: list[str] = []

    async def record(self, domain: str, timeout: float = 0) -> Record:
        self.asked.append(f"record {domain}")
        found = self.records.get(domain, RecordError("none"))
        if isinstance(found, Deferred):
            found = await found
        if isinstance(found, Exception):
            raise found
        return Record(found)

    async def policy(self, domain: str, timeout: float = 0) -> tuple[Policy, str]:
        self.asked.append(f"policy {domain}")
        found = self.policies.get(domain, NoPolicy("sts-policy-fetch-error", "none"))
        if isinstance(found, Exception):
            raise found
        return parse_policy(found.encode()), found


class Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_750_000_000)
        self.store = make_store(self, self.clock)
        self.store.now = lambda: int(self.clock.seconds() * 1_000_000)  # type: ignore[method-assign]
        self.source = Source()
        self.cache = PolicyCache(self.store, self.source, self.clock.seconds)

    def get(self, domain: str = "a.example") -> Known:
        return self.successResultOf(Deferred.fromCoroutine(self.cache.get(domain)))

    def kept(self, domain: str = "a.example") -> PolicyRecord | None:
        return now(self.store.read(lambda tx: mtastsdb.get(tx, domain)))

    def asked(self) -> list[str]:
        found, self.source.asked = self.source.asked, []
        return found


class CacheTests(Case):
    def test_none(self) -> None:
        self.assertEqual(self.get(), Known(None))
        self.assertIsNone(self.kept())
        self.assertEqual(self.asked(), ["record a.example"])

    def test_dns_trouble(self) -> None:
        self.source.records["a.example"] = ServFail("a.example", "TXT")
        self.failureResultOf(
            Deferred.fromCoroutine(self.cache.get("a.example")), DNSError
        )

    def test_kept_until_its_end(self) -> None:
        self.source.records["a.example"] = "1"
        self.source.policies["a.example"] = TEXT
        self.assertEqual(self.get(), Known(parse_policy(TEXT.encode()), TEXT))
        self.assertEqual(self.asked(), ["record a.example", "policy a.example"])
        self.clock.advance(999_999)
        self.assertEqual(self.get().text, TEXT)
        self.assertEqual(self.asked(), ["record a.example"])
        for trouble in (ServFail("a.example", "TXT"), RecordError("gone")):
            self.source.records["a.example"] = trouble
            self.assertEqual(self.get().text, TEXT)
        self.clock.advance(2)
        self.assertEqual(self.get(), Known(None))

    def test_newer(self) -> None:
        self.source.records["a.example"] = "1"
        self.source.policies["a.example"] = TEXT
        self.get()
        self.source.records["a.example"] = "2"
        self.source.policies["a.example"] = FetchError("sts-policy-invalid", "bad")
        self.assertEqual(
            self.get(),
            Known(parse_policy(TEXT.encode()), TEXT, "sts-policy-invalid", "bad", cached=True),
        )
        newer = TEXT.replace("enforce", "testing")
        self.source.policies["a.example"] = newer
        self.assertEqual(self.get().text, newer)
        kept = self.kept()
        assert kept is not None
        self.assertEqual((kept.record_id, kept.policy_text), ("2", newer))

    def test_backoff(self) -> None:
        self.source.records["a.example"] = "1"
        self.assertEqual(self.get(), Known(None, problem="sts-policy-fetch-error", detail="none"))
        self.asked()
        self.clock.advance(299)
        self.assertEqual(self.get(), Known(None))
        self.assertEqual(self.asked(), [])
        self.clock.advance(2)
        self.source.policies["a.example"] = TEXT
        self.assertEqual(self.get().text, TEXT)

    def test_several_ask_once(self) -> None:
        waiting: Deferred[str] = Deferred()
        self.source.records["a.example"] = waiting
        self.source.policies["a.example"] = TEXT
        first = Deferred.fromCoroutine(self.cache.get("a.example"))
        second = Deferred.fromCoroutine(self.cache.get("a.example"))
        third = Deferred.fromCoroutine(self.cache.get("a.example"))
        third.cancel()
        self.failureResultOf(third)
        waiting.callback("1")
        self.assertEqual(self.successResultOf(first).text, TEXT)
        self.assertEqual(self.successResultOf(second).text, TEXT)
        self.assertEqual(self.asked(), ["record a.example", "policy a.example"])

    def test_the_first_of_several_is_stopped(self) -> None:
        self.source.records["a.example"] = Deferred()
        first = Deferred.fromCoroutine(self.cache.get("a.example"))
        second = Deferred.fromCoroutine(self.cache.get("a.example"))
        first.cancel()
        self.failureResultOf(first)
        self.failureResultOf(second, DNSError)
        self.source.records["a.example"] = "1"
        self.source.policies["a.example"] = TEXT
        self.assertEqual(self.get().text, TEXT)


class RefreshTests(Case):
    def setUp(self) -> None:
        super().setUp()
        for name in "abc":
            self.source.records[f"{name}.example"] = "1"
            self.source.policies[f"{name}.example"] = TEXT
            self.get(f"{name}.example")
        self.asked()
        self.refresher = Refresher(self.store, self.cache, self.clock, Random(1))
        self.refresher.startService()
        self.addCleanup(self.refresher.stopService)

    def advance(self, seconds: int) -> None:
        for _ in range(seconds // 30):
            self.clock.advance(30)

    def test_renewed_each_day(self) -> None:
        self.advance(SPREAD)
        self.assertEqual(self.asked(), [])  # They are new.
        before = self.kept()
        self.advance(REFRESH)
        self.assertEqual(
            sorted(self.asked()), ["record a.example", "record b.example", "record c.example"]
        )
        after = self.kept()
        assert before is not None and after is not None
        self.assertGreater(after.valid_end, before.valid_end)
        self.assertEqual(after.last_use, before.last_use)

    def test_changed_and_unknown_records(self) -> None:
        newer = TEXT.replace("mx.example", "my.example")
        self.source.records["a.example"] = "2"
        self.source.policies["a.example"] = newer
        self.source.records["b.example"] = ServFail("b", "TXT")
        self.source.policies["b.example"] = newer
        self.source.records["c.example"] = RecordError("gone")
        self.source.policies["c.example"] = FetchError("sts-policy-fetch-error", "gone")
        self.advance(REFRESH + SPREAD)
        for name, record_id, text in (("a", "2", newer), ("b", "1", newer), ("c", "1", TEXT)):
            kept = self.kept(f"{name}.example")
            assert kept is not None
            self.assertEqual((kept.record_id, kept.policy_text), (record_id, text))

    def test_end_of_having_policies(self) -> None:
        self.source.records["a.example"] = "2"
        self.source.policies["a.example"] = TEXT.replace("enforce", "none")
        self.advance(REFRESH + SPREAD)
        self.source.records["a.example"] = RecordError("gone")
        self.advance(REFRESH + SPREAD)
        self.assertIsNone(self.kept("a.example"))
        self.assertIsNotNone(self.kept("b.example"))

    def test_unused_are_forgotten(self) -> None:
        for _ in range(UNUSED // DAY + 2):
            self.advance(DAY)
        self.assertIsNone(self.kept("a.example"))
