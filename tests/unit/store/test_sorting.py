"""Sorting of mailboxes, with orders that are kept."""

from __future__ import annotations

import random
from array import array

from twisted.trial.unittest import SynchronousTestCase

from moxtw.store import changing, messages, sorting
from moxtw.store.mailboxes import ensure
from moxtw.store.orders import Kept, Orders
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
            data = f"Subject: {subject}\r\nFrom: {subject}@x\r\n\r\n{body}\r\n"
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
        for some in (uids, sorted(self.rng.sample(uids, len(uids) - 5)), uids[50:]):
            for order in ORDERS:
                found = job(self.store, sorting.ordered, self.box.id, some, order, orders=orders)
                expected = job(self.store, sorting.ordered, self.box.id, some, order)
                self.assertEqual(found, expected)

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
            self.assertIsNotNone(orders.find(self.box.id, order))

    def test_room(self) -> None:
        orders = Orders(10)
        some = array("I", [1, 2, 3, 4])
        for number in range(3):
            orders.keep(number, ORDERS[0], Kept(1, 4, some))
            orders.find(0, ORDERS[0])
        # The one that was not used for longest has gone.
        self.assertIsNone(orders.find(1, ORDERS[0]))
        self.assertIsNotNone(orders.find(0, ORDERS[0]))
        self.assertIsNotNone(orders.find(2, ORDERS[0]))
        # One larger than the room is kept alone.
        orders.keep(2, ORDERS[0], Kept(1, 20, array("I", range(20))))
        self.assertIsNone(orders.find(0, ORDERS[0]))
        self.assertIsNotNone(orders.find(2, ORDERS[0]))
