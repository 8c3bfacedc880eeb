"""Rates: exact as the store counts, without asking it each time."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from moxtw.inbound.rates import DeliveryRates, Window
from moxtw.ratelimit import ip_classes

WINDOWS = (
    Window(60, (3, 6, 100), (1000, 10_000, 10_000)),
    Window(3600, (5, 100, 100), (100_000, 100_000, 100_000)),
)


class RateTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.stored: list[tuple[str, str, int, int]] = []
        self.asked = 0
        self.now = 1_000_000_000
        self.wait: Deferred[None] | None = None
        self.rates = DeliveryRates(self.count, WINDOWS)

    async def count(
        self, account: str, classes: tuple[str, str, str], since: list[int]
    ) -> list[list[int]]:
        self.asked += 1
        found = []
        for index, masked in enumerate(classes):
            counts: list[int] = []
            for time in since:
                sizes = [
                    size
                    for name, ip, size, when in self.stored
                    if name == account and ip_classes(ip)[index] == masked and when >= time
                ]
                counts += [len(sizes), sum(sizes)]
            found.append(counts)
        if self.wait is not None:
            await self.wait
        return found

    def deliver(self, ip: str = "192.0.2.1", size: int = 10, account: str = "me") -> bool:
        fits = self.rates.fits(account, ip, size)
        if fits is None:
            fits = self.successResultOf(
                Deferred.fromCoroutine(self.rates.ask(account, ip, size, self.now))
            )
        if fits:
            self.stored.append((account, ip, size, self.now))
        return fits

    def test_messages_of_an_address(self) -> None:
        self.assertEqual([self.deliver() for _ in range(4)], [True, True, True, False])
        self.assertTrue(self.deliver(account="you"))
        self.assertTrue(self.deliver(ip="198.51.100.1"))
        self.now += 61 * 1_000_000
        self.assertEqual([self.deliver() for _ in range(3)], [True, True, False])

    def test_messages_of_a_network(self) -> None:
        results = [self.deliver(ip=f"192.0.2.{i}") for i in range(8)]
        self.assertEqual(results, [True] * 6 + [False] * 2)
        self.assertTrue(self.deliver(ip="192.0.2.64"))

    def test_bytes(self) -> None:
        self.assertTrue(self.deliver(size=600))
        self.assertFalse(self.deliver(size=401))
        self.assertTrue(self.deliver(size=400))

    def test_removed_messages_do_not_count(self) -> None:
        for _ in range(3):
            self.assertTrue(self.deliver())
        self.stored.clear()
        self.assertTrue(self.deliver())

    def test_what_is_stored_at_the_start_counts(self) -> None:
        self.stored += [("me", "192.0.2.1", 1, self.now)] * 3
        self.assertFalse(self.deliver())

    def test_the_store_is_asked_rarely(self) -> None:
        rates = DeliveryRates(self.count)
        self.rates = rates
        for _ in range(400):
            self.assertTrue(self.deliver())
        self.assertEqual(self.asked, 1)

    def test_messages_let_through_while_counting_are_counted(self) -> None:
        self.deliver()
        self.wait = Deferred()
        # Reaches the limit of bytes, so that the store is asked.
        asking = Deferred.fromCoroutine(self.rates.ask("me", "192.0.2.1", 995, self.now))
        self.assertTrue(self.rates.fits("me", "192.0.2.1", 10))
        self.assertTrue(self.rates.fits("me", "192.0.2.1", 10))
        self.wait.callback(None)
        self.assertFalse(self.successResultOf(asking))
        self.assertIsNone(self.rates.fits("me", "192.0.2.1", 10))

    def test_memory_is_bounded(self) -> None:
        self.patch(__import__("moxtw.inbound.rates").inbound.rates, "MAX_KNOWN", 30)
        for i in range(100):
            self.deliver(ip=f"10.{i}.0.1")
        known: Any = self.rates._bounds
        self.assertLessEqual(len(known), 30)
