"""Our own addresses in DNS block lists: the admin's question, and the watch."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from moxtw import metrics
from moxtw.admin import blocklists
from moxtw.admin.blocklists import Monitor
from moxtw.admin.context import Caller
from moxtw.authn import dnsbl
from moxtw.config.testing import DYNAMIC, STATIC, run_now
from moxtw.dns.fake import ZoneResolver
from tests.support.admin import make_admin_context

PUBLIC = STATIC.replace(
    "\t\t\t- 127.0.0.1\n",
    "\t\t\t- 127.0.0.1\n\t\t\t- 192.0.2.1\n\t\t\t- 2001:db8::1\n\t\t\t- 10.0.0.1\n",
).replace(
    "\t\t\tNoSTARTTLS: true\n", "\t\t\tNoSTARTTLS: true\n\t\t\tDNSBLs:\n\t\t\t\t- used.example\n"
)
WATCHED = DYNAMIC + "MonitorDNSBLs:\n\t- used.example\n\t- watched.example\n"


class Case(SynchronousTestCase):
    static = PUBLIC

    def setUp(self) -> None:
        self.ctx = make_admin_context(self, WATCHED, self.static)
        self.clock: Any = self.ctx.clock
        assert isinstance(self.ctx.resolver, ZoneResolver)
        self.zone = self.ctx.resolver
        self.zone.add("1.2.0.192.used.example", "A", "127.0.0.2")
        self.zone.add("1.2.0.192.used.example", "TXT", "sent spam")
        self.zone.add("1.2.0.192.watched.example", "A", "127.255.255.254")


class StatusTests(Case):
    def test_status(self) -> None:
        work = blocklists.status(self.ctx, Caller("test", ""))
        results, using, watching = self.successResultOf(Deferred.fromCoroutine(work))
        self.assertEqual([zone.name for zone in using], ["used.example"])
        self.assertEqual([zone.name for zone in watching], ["watched.example"])
        self.assertEqual(
            results,
            {
                "192.0.2.1": {
                    "used.example": "fail: sent spam",
                    "watched.example": "temperror: zone refuses to answer: 127.255.255.254",
                },
                "2001:db8::1": {"used.example": "pass", "watched.example": "pass"},
            },
        )


class MonitorCase(Case):
    def setUp(self) -> None:
        super().setUp()
        self.count = 0
        lookup = dnsbl.lookup

        def counted(*args: Any, **kwargs: Any) -> Any:
            self.count += 1
            return lookup(*args, **kwargs)

        self.patch(dnsbl, "lookup", counted)
        self.monitor = Monitor(self.ctx.config, self.zone, self.clock, run_now)
        self.monitor.startService()
        self.addCleanup(self.stop)

    def stop(self) -> None:
        if self.monitor.running:
            self.monitor.stopService()
        self.monitor._forget(set())

    def gauge(self) -> dict[tuple[str, str], float]:
        [family] = metrics.dnsbl_ips_success.collect()
        return {
            (sample.labels["zone"], sample.labels["ip"]): sample.value for sample in family.samples
        }

    def lookups(self, seconds: float) -> int:
        """How many lookups there are in a time."""
        before = self.count
        for _ in range(int(seconds)):
            self.clock.advance(1)
        return self.count - before


class MonitorTests(MonitorCase):
    def test_round(self) -> None:
        # A second between lookups: the first is done at once.
        self.assertEqual(self.gauge(), {("used.example", "192.0.2.1"): 0})
        self.lookups(3)
        self.assertEqual(
            self.gauge(),
            {
                ("used.example", "192.0.2.1"): 0,
                ("watched.example", "192.0.2.1"): 0,
                ("used.example", "2001:db8::1"): 1,
                ("watched.example", "2001:db8::1"): 1,
            },
        )

    def test_often_enough(self) -> None:
        self.lookups(3)
        self.assertEqual(self.lookups(blocklists.AT_LEAST - 5), 0)
        self.assertGreater(self.lookups(10), 0)

    def test_after_many_connections(self) -> None:
        self.lookups(3)
        for _ in range(blocklists.CONNECTIONS - 1):
            self.monitor.connected()
        self.assertEqual(self.lookups(600), 0)
        self.monitor.connected()
        self.assertGreater(self.lookups(5), 0)
        # Not again within 5 minutes.
        for _ in range(2 * blocklists.CONNECTIONS):
            self.monitor.connected()
        self.assertEqual(self.lookups(blocklists.MOST_OFTEN - 10), 0)
        self.assertGreater(self.lookups(10), 0)

    def test_connections_during_a_round(self) -> None:
        for _ in range(blocklists.CONNECTIONS):
            self.monitor.connected()
        self.lookups(3)
        self.assertEqual(self.lookups(blocklists.MOST_OFTEN - 10), 0)
        self.assertGreater(self.lookups(10), 0)

    def test_zones_that_went(self) -> None:
        self.lookups(3)
        self.ctx.config.path.write_text(DYNAMIC)  # type: ignore[attr-defined]
        self.lookups(blocklists.AT_LEAST)
        self.assertEqual({zone for zone, _ in self.gauge()}, {"used.example"})

    def test_stop(self) -> None:
        self.monitor.stopService()
        self.assertEqual(self.lookups(blocklists.AT_LEAST + 5), 0)


class UnknownTests(MonitorCase):
    static = PUBLIC.replace("\t\tSMTP:", "\t\tIPsNATed: true\n\t\tSMTP:")

    def test_addresses_that_are_not_known(self) -> None:
        self.assertEqual(
            self.gauge(), {("used.example", "unknown"): -1, ("watched.example", "unknown"): -1}
        )
        self.assertEqual(self.lookups(60), 0)
