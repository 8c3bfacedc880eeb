"""Sorting of mailboxes, with orders that are kept."""

from __future__ import annotations

import random
from array import array

from twisted.trial.unittest import SynchronousTestCase

from moxtw.store import changing, messages, sorting
from moxtw.store.mailboxes import ensure
from moxtw.store.orders import Cache, Kept, Orders
from moxtw.store.tx import Tx
from tests.support.store import job, make_account, make_store, message

ORDERS = (
    (("subject", False),),
    (("subject", True), ("size", False)),
    (("arrival", False),),
    (("date", True), ("from", False)),
)


class OrdersTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.store = make_store(self)
        self.account = make_account(self.store)
        self.box = job(self.store, ensure, self.account.id, "Inbox")
        self.rng = random.Random(3)
        self.received = 0

    def add(self, count: int) -> None:
        new = []
        for _ in range(count):
            subject = self.rng.choice("abcdefgh") * self.rng.randrange(3)
            body = "x" * self.rng.randrange(9)
            more = f"Message-ID: <{self.rng.randrange(900)}@x>\r\n"
            more += f"References: <{self.rng.randrange(900)}@x>\r\n"
            data = f"{more}Subject: {subject}\r\nFrom: {subject}@x\r\n\r\n{body}\r\n"
            received = self.rng.randrange(1000) * 1_000_000
            new.append(message(self.store, data.encode(), received=received))

        def add(tx: Tx) -> None:
            for each in new:
                messages.add(tx, self.account.id, self.box.id, each)

        job(self.store, add)

    def uids(self) -> list[int]:
        found: array[int] = job(self.store, messages.view, self.box.id)[1]
        return found.tolist()

    def check(self, orders: Orders) -> None:
        uids = self.uids()
        several = [uids, sorted(self.rng.sample(uids, len(uids) - 5)), uids[50:], uids[:-30]]
        for some in self.rng.sample(several, 3):
            for order in ORDERS:
                found = job(self.store, sorting.ordered, self.box.id, some, order, orders=orders)
                expected = job(self.store, sorting.ordered, self.box.id, some, order)
                self.assertEqual(found, expected)
            for algorithm in ("ORDEREDSUBJECT", "REFERENCES", "REFS"):
                kept = job(self.store, sorting.threads, self.box.id, some, algorithm, orders=orders)
                anew = job(self.store, sorting.threads, self.box.id, some, algorithm)
                self.assertEqual(kept, anew)
                self.assertEqual(kept[0].tolist(), some)

    def test_an_order_that_is_kept_stays_right(self) -> None:
        orders = Orders()
        self.add(620)
        for count in (0, 1, 0, 3, 200, 0):
            self.add(count)
            self.check(orders)
            gone = self.rng.sample(self.uids(), 7)
            job(
                self.store,
                changing.expunge,
                self.account.id,
                self.box.id,
                [(uid, uid) for uid in sorted(gone)],
                only_deleted=False,
            )
            self.check(orders)
        for order in ORDERS:
            self.assertIsNotNone(orders.sorted.find((self.box.id, order)))
        self.assertIsNotNone(orders.columns.find(self.box.id))

    def test_all_have_gone_meanwhile(self) -> None:
        orders = Orders()
        self.add(620)
        uids = self.uids()
        job(self.store, changing.expunge, self.account.id, self.box.id, only_deleted=False)
        for some in ([], [1], uids):
            found, forest = job(
                self.store, sorting.threads, self.box.id, some, "REFS", orders=orders
            )
            self.assertEqual((found.tolist(), forest.roots), ([], []))
        self.assertEqual(
            job(self.store, sorting.ordered, self.box.id, uids, ORDERS[0], orders=orders), []
        )

    def test_room(self) -> None:
        cache: Cache[int, Kept] = Cache(40)
        some = Kept(1, 4, array("I", [1, 2, 3, 4]))
        for number in range(3):
            cache.keep(number, some)
            cache.find(0)
        # The one that was not used for longest has gone.
        self.assertIsNone(cache.find(1))
        self.assertIsNotNone(cache.find(0))
        self.assertIsNotNone(cache.find(2))
        # One larger than the room is kept alone.
        cache.keep(2, Kept(1, 20, array("I", range(20))))
        self.assertIsNone(cache.find(0))
        self.assertIsNotNone(cache.find(2))
        cache.keep(2, some)
        cache.keep(3, some)
        self.assertIsNotNone(cache.find(2))
