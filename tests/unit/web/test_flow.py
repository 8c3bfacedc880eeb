"""Answers in pieces, as fast as the client takes them."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from moxtw.web.flow import send_pieces


class Client:
    """A request of a client; `producer` is who writes to it."""

    _disconnected = False

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.producer: Any = None
        self.full_after = 1000

    def registerProducer(self, producer: Any, streaming: bool) -> None:  # noqa: N802
        self.producer = producer

    def unregisterProducer(self) -> None:  # noqa: N802
        self.producer = None

    def write(self, data: bytes) -> None:
        self.written.append(data)
        if len(self.written) == self.full_after:
            self.producer.pauseProducing()


class FlowTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.client = Client()
        self.asked = 0

    async def following(self) -> bytes:
        self.asked += 1
        return b"x" if self.asked <= 5 else b""

    def start(self) -> Deferred[bool]:
        return Deferred.fromCoroutine(send_pieces(self.client, self.following))

    def test_all(self) -> None:
        self.assertTrue(self.successResultOf(self.start()))
        self.assertEqual(self.client.written, [b"x"] * 5)
        self.assertIsNone(self.client.producer)

    def test_nothing_is_read_for_a_client_that_takes_nothing(self) -> None:
        self.client.full_after = 2
        done = self.start()
        self.assertEqual((len(self.client.written), self.asked), (2, 2))
        self.assertNoResult(done)
        self.client.producer.resumeProducing()
        self.assertTrue(self.successResultOf(done))
        self.assertEqual(len(self.client.written), 5)

    def test_client_goes_away(self) -> None:
        self.client.full_after = 2
        done = self.start()
        self.client._disconnected = True
        self.client.producer.stopProducing()
        self.assertFalse(self.successResultOf(done))
        self.assertEqual(self.asked, 2)

    def test_failure_to_read(self) -> None:
        async def fail() -> bytes:
            raise OSError("broken disk")

        done = Deferred.fromCoroutine(send_pieces(self.client, fail))
        self.failureResultOf(done, OSError)
        self.assertIsNone(self.client.producer)
