"""Names of clients' addresses."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from moxtw import metrics
from moxtw.authn import iprev
from moxtw.dns import resolver as dns
from moxtw.dns.fake import ZoneResolver

REVERSE = "1.2.0.192.in-addr.arpa."


class IPRevTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.resolver = ZoneResolver()

    def start(self, ip: str = "192.0.2.1", resolver: Any = None) -> Deferred[iprev.IPRevResult]:
        return Deferred.fromCoroutine(
            iprev.check(resolver or self.resolver, ip, clock=self.clock)
        )

    def check(self, *args: Any) -> iprev.IPRevResult:
        result = self.successResultOf(self.start(*args))
        assert isinstance(result, iprev.IPRevResult)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(bool(result.problem), result.status != "pass")
        return result

    def test_pass(self) -> None:
        self.resolver.add(REVERSE, "PTR", "no.example", "Mail.Example", "none.example")
        self.resolver.add("no.example", "A", "192.0.2.2")
        self.resolver.add("mail.example", "A", "192.0.2.7", "192.0.2.1")
        result = self.check()
        self.assertEqual((result.status, result.name), ("pass", "mail.example"))
        self.assertEqual(result.names, ("no.example", "mail.example", "none.example"))
        self.assertFalse(result.authentic)
        self.assertEqual(self.check("::ffff:192.0.2.1").name, "mail.example")

    def test_ipv6(self) -> None:
        self.resolver.add(dns.reverse_name("2001:db8::1"), "PTR", "mail.example")
        self.resolver.add("mail.example", "AAAA", "2001:db8::1")
        self.resolver.add("mail.example", "A", "192.0.2.1")
        self.assertEqual(self.check("2001:DB8:0::1").name, "mail.example")
        self.assertNotIn(("mail.example.", "A"), self.resolver.asked)

    def test_fail(self) -> None:
        self.resolver.add(REVERSE, "PTR", "no.example", "none.example")
        self.resolver.add("no.example", "A", "192.0.2.2")
        result = self.check()
        self.assertEqual((result.status, result.name), ("fail", ""))
        self.assertEqual(result.names, ("no.example", "none.example"))

    def test_permerror(self) -> None:
        self.assertEqual(self.check().status, "permerror")

    def test_temperror(self) -> None:
        self.resolver.fail[REVERSE] = "servfail"
        self.assertEqual(self.check().status, "temperror")
        self.resolver.fail = {"slow.example.": "timeout"}
        self.resolver.add(REVERSE, "PTR", "no.example", "slow.example")
        self.assertEqual(self.check().status, "temperror")
        self.resolver.add("no.example", "A", "192.0.2.1")
        self.assertEqual(self.check().status, "pass")

    def test_ten_names(self) -> None:
        self.resolver.add(REVERSE, "PTR", *(f"h{number}.example" for number in range(3000)))
        self.resolver.add("h10.example", "A", "192.0.2.1")
        self.assertEqual(self.check().status, "fail")
        self.assertEqual(len(self.resolver.asked), 11)
        self.resolver.add("h9.example", "A", "192.0.2.1")
        self.assertEqual(self.check().status, "pass")

    def test_names_no_host_has(self) -> None:
        for name in ("a b.example", "evil;x=y.example", "(x).example", '".example', "-"):
            self.resolver.zones[REVERSE] = {"PTR": [name + "."]}
            self.resolver.zones[name + "."] = {"A": ["192.0.2.1"]}
            result = self.check()
            self.assertEqual((result.status, result.names), ("fail", ()), name)
        self.resolver.zones[REVERSE] = {"PTR": ["."]}
        self.assertEqual(self.check().status, "fail")

    def test_authentic(self) -> None:
        zone = {
            REVERSE: {"PTR": ["no.example", "mail.example"]},
            "mail.example": {"A": ["192.0.2.1"]},
        }
        for authentic, ip, expected in (
            ((REVERSE, "mail.example"), "192.0.2.1", True),
            ((REVERSE,), "192.0.2.1", False),
            (("mail.example",), "192.0.2.1", False),
            ((dns.reverse_name("192.0.2.9"),), "192.0.2.9", True),
            ((), "192.0.2.9", False),
        ):
            result = self.check(ip, ZoneResolver(zone, authentic=authentic))
            self.assertEqual(result.authentic, expected, (authentic, ip))
        zone["mail.example"] = {}
        result = self.check("192.0.2.1", ZoneResolver(zone, authentic=True))
        self.assertEqual((result.status, result.authentic), ("fail", True))

    def test_one_slow_name_does_not_matter(self) -> None:
        cancelled: list[str] = []

        class Slow(ZoneResolver):
            async def lookup(self, name: str, rtype: str) -> dns.Answer[Any]:
                if name == "slow.example.":
                    await Deferred(lambda _: cancelled.append(name))
                return await super().lookup(name, rtype)

        resolver = Slow({REVERSE: {"PTR": ["slow.example", "mail.example"]}})
        work = self.start("192.0.2.1", resolver)
        self.clock.advance(19)
        self.assertNoResult(work)
        self.clock.advance(2)
        self.assertEqual(self.successResultOf(work).status, "temperror")
        self.assertEqual(cancelled, ["slow.example."])
        resolver.add("mail.example", "A", "192.0.2.1")
        self.assertEqual(self.check("192.0.2.1", resolver).name, "mail.example")
        self.assertEqual(len(cancelled), 2)

    def test_unforeseen_errors(self) -> None:
        class Broken:
            async def lookup(self, name: str, rtype: str) -> dns.Answer[Any]:
                if rtype == "PTR":
                    return dns.Answer(("a.example.",))
                raise ZeroDivisionError

        self.assertEqual(self.check("192.0.2.1", Broken()).status, "temperror")

    def test_metric(self) -> None:
        def count() -> float:
            return (
                metrics.REGISTRY.get_sample_value(
                    "mox_iprev_lookup_total", {"status": "permerror"}
                )
                or 0
            )

        before = count()
        self.check()
        self.assertEqual(count(), before + 1)
