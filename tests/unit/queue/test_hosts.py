"""Looking up where mail goes."""

from __future__ import annotations

from random import Random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from moxtw.dns.fake import ZoneResolver
from moxtw.queue.delivery import DeliveryError
from moxtw.queue.hosts import LOOKUP_TIMEOUT, HostFinder, rotate


class Lookups(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()

    def finder(self, zones: Any, **more: Any) -> HostFinder:
        pedantic = more.pop("pedantic", False)
        return HostFinder(ZoneResolver(zones, **more), self.clock, Random(1), pedantic=pedantic)

    def run_(self, coroutine: Any) -> Any:
        return self.successResultOf(Deferred.fromCoroutine(coroutine))

    def error(self, coroutine: Any) -> DeliveryError:
        return self.failureResultOf(Deferred.fromCoroutine(coroutine), DeliveryError).value

    def test_hosts_by_preference(self) -> None:
        records = [(20, "c."), (10, "a.example."), (10, "b.example."), (30, "d_x.example.")]
        orders = set()
        for seed in range(20):
            finder = HostFinder(
                ZoneResolver({"dst.example.": {"MX": records}}), self.clock, Random(seed)
            )
            found = self.run_(finder.destination("dst.example"))
            self.assertEqual(found.hosts[2:], ("c", "d_x.example"))
            orders.add(found.hosts[:2])
        self.assertEqual(len(orders), 2)
        self.assertTrue(found.has_mx)

    def test_underscores_only_when_not_pedantic(self) -> None:
        zones = {"dst.example.": {"MX": [(10, "a_b.example.")]}}
        exc = self.error(self.finder(zones, pedantic=True).destination("dst.example"))
        self.assertFalse(exc.permanent)

    def test_invalid_entries_are_passed_over(self) -> None:
        zones = {"dst.example.": {"MX": [(5, "127.0.0.1."), (6, "."), (10, "ok.example.")]}}
        found = self.run_(self.finder(zones).destination("dst.example"))
        self.assertEqual(found.hosts, ("ok.example",))

    def test_null_mx(self) -> None:
        zones = {"dst.example.": {"MX": [(0, ".")]}}
        exc = self.error(self.finder(zones).destination("dst.example"))
        self.assertEqual((exc.permanent, exc.secode), (True, "1.10"))

    def test_without_mx_the_name_itself(self) -> None:
        for zones in ({"dst.example.": {"A": ["127.0.0.2"]}}, {}):
            found = self.run_(self.finder(zones).destination("dst.example"))
            self.assertEqual((found.hosts, found.has_mx), (("dst.example",), False))

    def test_cnames(self) -> None:
        zones: Any = {f"n{n}.example.": {"CNAME": [f"n{n + 1}.example."]} for n in range(20)}
        zones["n20.example."] = {"MX": [(1, "mx.example.")]}
        found = self.run_(self.finder(zones).destination("n5.example"))
        self.assertEqual((found.hosts, found.expanded), (("mx.example",), "n20.example"))
        exc = self.error(self.finder(zones).destination("n4.example"))
        self.assertFalse(exc.permanent)
        zones["n20.example."] = {"CNAME": ["n6.example."]}
        self.assertFalse(self.error(self.finder(zones).destination("n6.example")).permanent)

    def test_errors_are_temporary(self) -> None:
        for rtype in ("CNAME", "MX"):
            finder = self.finder({}, fail={("dst.example.", rtype): "servfail"})
            self.assertFalse(self.error(finder.destination("dst.example")).permanent)

    def test_slow_lookup(self) -> None:
        class Silent:
            async def lookup(self, name: str, rtype: str) -> Any:
                return await Deferred()

        finder = HostFinder(Silent(), self.clock, Random(1))
        deferred = Deferred.fromCoroutine(finder.destination("dst.example"))
        self.clock.advance(LOOKUP_TIMEOUT - 1)
        self.assertNoResult(deferred)
        self.clock.advance(1)
        self.failureResultOf(deferred, DeliveryError)

    def test_authentic(self) -> None:
        zones = {
            "dst.example.": {"CNAME": ["other.example."]},
            "other.example.": {"MX": [(1, "mx.example.")]},
        }
        for authentic, expected in (
            (True, (True, True)),
            (["dst.example.", ("other.example.", "CNAME")], (False, False)),
            (["other.example."], (False, False)),
        ):
            found = self.run_(
                self.finder(zones, authentic=authentic).destination("dst.example")
            )
            self.assertEqual((found.authentic, found.expanded_authentic), expected)

    def test_addresses(self) -> None:
        zones = {
            "mx.example.": {"CNAME": ["host.example."]},
            "host.example.": {"A": ["127.0.0.1", "127.0.0.2"], "AAAA": ["::1"]},
            "four.example.": {"A": ["127.0.0.1"]},
        }
        found = self.run_(self.finder(zones).addresses("mx.example", []))
        self.assertEqual(found.ips, ("127.0.0.1", "127.0.0.2", "::1"))
        self.assertEqual((found.expanded, found.dual_stack), ("host.example", True))
        found = self.run_(self.finder(zones).addresses("host.example", [], (6,)))
        self.assertEqual((found.ips, found.dual_stack), (("::1",), False))
        exc = self.error(self.finder(zones).addresses("four.example", [], (6,)))
        self.assertFalse(exc.permanent)
        self.assertFalse(self.error(self.finder(zones).addresses("none.example", [])).permanent)


class Rotation(SynchronousTestCase):
    def test_table(self) -> None:
        a, b, x, y = "1.1.1.1", "1.1.1.2", "::1", "::2"
        for dialed, expected in (
            ([], (a, b, x, y)),
            ([a], (x, y, a, b)),
            ([b], (x, y, b, a)),
            ([x], (a, b, x, y)),
            ([y], (a, b, y, x)),
            ([a, y], (a, b, y, x)),
            ([b, x, b], (x, y, a, b)),
            (["9.9.9.9"], (x, y, a, b)),
        ):
            self.assertEqual(rotate((a, b, x, y), dialed), expected, dialed)

    def test_one_family(self) -> None:
        self.assertEqual(rotate(("1.1.1.1", "1.1.1.2"), ["1.1.1.2"]), ("1.1.1.2", "1.1.1.1"))
