"""DNS block lists."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from moxtw import metrics
from moxtw.authn import dnsbl
from moxtw.dns import resolver as dns
from moxtw.dns.fake import ZoneResolver
from moxtw.mail.domain import parse_domain

ZONE = parse_domain("bl.example")
OTHER = parse_domain("other.example")
NIBBLES = "0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2"


class Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.resolver = ZoneResolver()
        self.lists = dnsbl.BlockLists(self.resolver, self.clock)

    def run_(self, coroutine: Any) -> Any:
        result = self.successResultOf(Deferred.fromCoroutine(coroutine))
        self.assertEqual(self.clock.getDelayedCalls(), [])
        return result

    def lookup(self, ip: str, **options: Any) -> dnsbl.Lookup:
        result = self.run_(
            dnsbl.lookup(
                options.pop("resolver", self.resolver), ZONE, ip, clock=self.clock, **options
            )
        )
        assert isinstance(result, dnsbl.Lookup)
        return result

    def healthy(self, zone: str = "bl.example") -> None:
        """What a zone must answer."""
        self.resolver.add(f"2.0.0.127.{zone}", "A", "127.0.0.2")


class LookupTests(Case):
    def test_names(self) -> None:
        """RFC 5782 2.1, 2.4."""
        self.assertEqual(dnsbl.query_name("192.0.2.99", ZONE), "99.2.0.192.bl.example.")
        self.assertEqual(dnsbl.query_name("::ffff:192.0.2.99", ZONE), "99.2.0.192.bl.example.")
        self.assertEqual(
            dnsbl.query_name("2001:db8:1:2:3:4:567:89ab", ZONE),
            "b.a.9.8.7.6.5.0.4.0.0.0.3.0.0.0.2.0.0.0.1.0.0.0.8.b.d.0.1.0.0.2.bl.example.",
        )

    def test_not_listed(self) -> None:
        self.assertEqual(self.lookup("192.0.2.1"), dnsbl.Lookup(ZONE, "pass"))

    def test_listed(self) -> None:
        self.resolver.add("1.2.0.192.bl.example", "A", "127.0.0.3", "127.0.0.9")
        self.resolver.add("1.2.0.192.bl.example", "TXT", "See\nhttp://bl.example/?", "two")
        self.assertEqual(
            self.lookup("192.0.2.1"),
            dnsbl.Lookup(
                ZONE, "fail", "See?http://bl.example/?; two", ("127.0.0.3", "127.0.0.9")
            ),
        )
        self.assertEqual(self.lookup("192.0.2.1", explain=False).explanation, "")

    def test_ipv6(self) -> None:
        self.resolver.add(f"1.0.0.0.0.{NIBBLES}.bl.example", "A", "127.0.0.2")
        self.assertEqual(self.lookup("2001:db8::1").status, "fail")
        self.assertEqual(self.lookup("2001:db8::2").status, "pass")

    def test_explanation_is_bounded(self) -> None:
        self.resolver.add("1.2.0.192.bl.example", "A", "127.0.0.2")
        self.resolver.add("1.2.0.192.bl.example", "TXT", *["x" * 60000] * 50)
        self.assertEqual(self.lookup("192.0.2.1").explanation, "x" * 500)

    def test_explanation_fails(self) -> None:
        self.resolver.add("1.2.0.192.bl.example", "A", "127.0.0.2")
        self.assertEqual(self.lookup("192.0.2.1").status, "fail")
        self.resolver.fail["1.2.0.192.bl.example.", "TXT"] = "servfail"
        result = self.lookup("192.0.2.1")
        self.assertEqual((result.status, result.explanation, result.problem), ("fail", "", ""))

    def test_temporary_error(self) -> None:
        self.resolver.fail["1.2.0.192.bl.example."] = "timeout"
        result = self.lookup("192.0.2.1")
        self.assertEqual(result.status, "temperror")
        self.assertIn("timed out", result.problem)

    def test_answers_that_are_no_listing(self) -> None:
        """The domain was sold, or the list does not answer us."""
        for address in ("203.0.113.5", "127.255.255.254", "127.255.255.252"):
            self.resolver.zones["1.2.0.192.bl.example."] = {"A": [address]}
            result = self.lookup("192.0.2.1")
            self.assertEqual((result.status, result.codes), ("temperror", (address,)))
            self.assertIn(address, result.problem)

    def test_zone_whose_names_are_too_long(self) -> None:
        zone = parse_domain(".".join(["a" * 60] * 4))
        result = self.run_(dnsbl.lookup(self.resolver, zone, "2001:db8::1", clock=self.clock))
        self.assertEqual(result.status, "temperror")

    def test_dnssec(self) -> None:
        resolver = ZoneResolver(
            {"1.2.0.192.bl.example": {"A": ["127.0.0.2"]}}, authentic=True
        )
        self.assertTrue(self.lookup("192.0.2.1", resolver=resolver).authentic)
        self.assertTrue(self.lookup("192.0.2.2", resolver=resolver).authentic)

    def test_time(self) -> None:
        resolver = Silent()
        work = Deferred.fromCoroutine(
            dnsbl.lookup(resolver, ZONE, "192.0.2.1", clock=self.clock)
        )
        self.clock.advance(29)
        self.assertNoResult(work)
        self.clock.advance(2)
        self.assertEqual(self.successResultOf(work).status, "temperror")

    def test_unforeseen_errors(self) -> None:
        class Broken:
            async def lookup(self, name: str, rtype: str) -> dns.Answer[Any]:
                raise ZeroDivisionError

        self.assertEqual(self.lookup("192.0.2.1", resolver=Broken()).status, "temperror")

    def test_metric(self) -> None:
        def count() -> float:
            return (
                metrics.REGISTRY.get_sample_value(
                    "mox_dnsbl_lookup_duration_seconds_count",
                    {"zone": "bl.example", "status": "pass"},
                )
                or 0
            )

        before = count()
        self.lookup("192.0.2.1")
        self.assertEqual(count(), before + 1)


class Silent(ZoneResolver):
    """Answers nothing until it may; counts what waits."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.waiting: list[Deferred[None]] = []
        self.silent = True

    async def lookup(self, name: str, rtype: str) -> dns.Answer[Any]:
        if self.silent:
            waiter: Deferred[None] = Deferred()
            self.waiting.append(waiter)
            await waiter
        return await super().lookup(name, rtype)

    def speak(self) -> None:
        self.silent = False
        for waiter in self.waiting:
            if not waiter.called:
                waiter.callback(None)


class HealthTests(Case):
    """RFC 5782 5."""

    def check(self, family: int = 4) -> dnsbl.Health:
        health = self.run_(
            dnsbl.check_health(self.resolver, ZONE, family=family, clock=self.clock)
        )
        assert isinstance(health, dnsbl.Health)
        return health

    def test_healthy(self) -> None:
        self.healthy()
        self.assertEqual(self.check(), dnsbl.Health(True))

    def test_lists_nothing(self) -> None:
        health = self.check()
        self.assertFalse(health.healthy)
        self.assertIn("127.0.0.2", health.problem)

    def test_lists_everything(self) -> None:
        self.healthy()
        self.resolver.add("1.0.0.127.bl.example", "A", "127.0.0.2")
        health = self.check()
        self.assertFalse(health.healthy)
        self.assertIn("127.0.0.1", health.problem)

    def test_is_no_block_list(self) -> None:
        for name in ("1.0.0.127.bl.example", "2.0.0.127.bl.example"):
            self.resolver.add(name, "A", "203.0.113.5")
        self.assertEqual((self.check().healthy, self.check().known), (False, True))

    def test_refuses(self) -> None:
        self.resolver.add("2.0.0.127.bl.example", "A", "127.255.255.254")
        self.assertFalse(self.check().healthy)

    def test_errors_tell_nothing(self) -> None:
        for name in ("1.0.0.127.bl.example.", "2.0.0.127.bl.example."):
            self.resolver.zones.clear()
            self.healthy()
            self.resolver.fail = {name: "servfail"}
            health = self.check()
            self.assertEqual((health.healthy, health.known), (True, False))
            self.assertTrue(health.problem)

    def test_ipv6(self) -> None:
        self.healthy()
        self.assertFalse(self.check(6).healthy)
        name = dns.reverse_name("::ffff:7f00:2").removesuffix("ip6.arpa.") + "bl.example"
        self.resolver.add(name, "A", "127.0.0.2")
        self.assertEqual(self.check(6), dnsbl.Health(True))
        self.resolver.add(name.replace("2.", "1.", 1), "A", "127.0.0.2")
        self.assertFalse(self.check(6).healthy)


class BlockListsTests(Case):
    def results(self, ip: str = "192.0.2.1") -> list[tuple[str, str]]:
        found = self.run_(self.lists.check([ZONE, OTHER], ip))
        return [(result.zone.name, result.status) for result in found]

    def test_unhealthy_zones_are_left_out(self) -> None:
        self.healthy()
        self.resolver.add("1.2.0.192.bl.example", "A", "127.0.0.2")
        self.resolver.add("1.2.0.192.other.example", "A", "127.0.0.2")
        self.assertEqual(self.results(), [("bl.example", "fail")])
        self.assertNotIn(("1.2.0.192.other.example.", "A"), self.resolver.asked)

    def test_order_of_zones(self) -> None:
        self.healthy()
        self.healthy("other.example")
        self.resolver.add("1.2.0.192.other.example", "A", "127.0.0.2")
        self.assertEqual(self.results(), [("bl.example", "pass"), ("other.example", "fail")])
        self.assertEqual(self.run_(self.lists.check([], "192.0.2.1")), ())

    def test_health_is_remembered(self) -> None:
        self.healthy()
        self.assertEqual(self.results(), [("bl.example", "pass")])
        self.resolver.asked.clear()
        self.resolver.zones.clear()
        self.healthy("other.example")
        self.clock.advance(4 * 3600 - 1)
        self.assertEqual(self.results(), [("bl.example", "pass")])
        self.assertEqual(self.resolver.asked, [("1.2.0.192.bl.example.", "A")])
        self.clock.advance(2)
        self.assertEqual(self.results(), [("other.example", "pass")])

    def test_errors_are_tried_again_soon(self) -> None:
        self.resolver.fail["2.0.0.127.bl.example."] = "servfail"
        self.assertEqual(self.results(), [("bl.example", "pass")])
        self.resolver.fail.clear()
        self.clock.advance(299)
        self.assertEqual(self.results(), [("bl.example", "pass")])
        self.clock.advance(2)
        self.assertEqual(self.results(), [])

    def test_families_have_their_own_health(self) -> None:
        self.healthy()
        self.assertEqual(self.results(), [("bl.example", "pass")])
        self.assertEqual(self.results("2001:db8::1"), [])

    def test_zones_are_asked_at_once_and_tested_once(self) -> None:
        resolver = Silent({"2.0.0.127.bl.example": {"A": ["127.0.0.2"]}})
        lists = dnsbl.BlockLists(resolver, self.clock)
        first = Deferred.fromCoroutine(lists.check([ZONE, OTHER], "192.0.2.1"))
        second = Deferred.fromCoroutine(lists.check([ZONE], "192.0.2.2"))
        third = Deferred.fromCoroutine(lists.check([ZONE], "192.0.2.3"))
        self.assertEqual(len(resolver.waiting), 4)
        # Who asked first goes away; the others get their answer.
        first.cancel()
        self.failureResultOf(first)
        resolver.speak()
        for work in (second, third):
            self.assertEqual([found.status for found in self.successResultOf(work)], ["pass"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_silent_zones_end_in_time(self) -> None:
        lists = dnsbl.BlockLists(Silent(), self.clock)
        work = Deferred.fromCoroutine(lists.check([ZONE], "192.0.2.1"))
        for _ in range(2):
            self.assertNoResult(work)
            self.clock.advance(31)
        self.assertEqual([found.status for found in self.successResultOf(work)], ["temperror"])
