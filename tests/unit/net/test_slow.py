"""Slow mode and the watchdog over writes."""

from twisted.internet.error import ConnectionAborted
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from moxtw.net.deadline import WriteWatchdog, unsent
from moxtw.net.slow import MAX_PENDING, SlowTransport


class SlowTests(SynchronousTestCase):
    def setUp(self):
        self.clock = Clock()
        self.transport = StringTransport()
        self.received = []
        self.holds = []
        self.slow = SlowTransport(
            self.transport, self.clock, self.received.append, self.holds.append
        )

    def written(self):
        return self.transport.value()

    def test_passes_through_when_not_slow(self):
        self.slow.dataReceived(b"in")
        self.slow.write(b"out")
        self.slow.writeSequence([b"1", b"2"])
        self.slow.loseConnection()
        self.assertEqual((self.received, self.written()), ([b"in"], b"out12"))
        self.assertTrue(self.transport.disconnecting)
        self.assertEqual((self.holds, self.clock.getDelayedCalls()), ([], []))

    def test_input_waits_a_second(self):
        self.slow.set_slow(True)
        self.slow.dataReceived(b"a")
        self.assertEqual(self.holds, [True])
        self.clock.advance(0.5)
        self.slow.dataReceived(b"b")
        self.clock.advance(0.4)
        self.assertEqual(self.received, [])
        self.clock.advance(0.1)
        self.assertEqual((self.received, self.holds), ([b"ab"], [True, False]))

    def test_a_byte_each_second(self):
        self.slow.set_slow(True)
        self.slow.write(b"abc")
        self.assertEqual(self.written(), b"a")
        self.clock.advance(0.9)
        self.assertEqual(self.written(), b"a")
        self.clock.advance(0.1)
        self.assertEqual(self.written(), b"ab")
        self.clock.advance(1)
        self.assertEqual((self.written(), self.slow.pending), (b"abc", 0))

    def test_the_rest_goes_before_the_deadline(self):
        self.slow.set_slow(True)
        self.slow.write(b"x" * 1000)
        self.clock.pump([1] * 25)
        self.assertEqual(len(self.written()), 26)
        self.clock.advance(1)
        self.assertEqual(len(self.written()), 1000)

    def test_each_piece_has_its_own_deadline(self):
        self.slow.set_slow(True)
        self.slow.write(b"x" * 100)
        self.slow.write(b"y" * 50)
        self.slow.write(b"z" * 50)
        self.clock.pump([1] * 26)
        self.assertEqual(self.written(), b"x" * 100)
        self.clock.pump([1] * 26)
        self.assertEqual(len(self.written()), 126)
        self.clock.advance(1)
        self.assertEqual(self.written(), b"x" * 100 + b"y" * 50 + b"z" * 50)

    def test_input_waits_for_output(self):
        self.slow.set_slow(True)
        self.slow.write(b"abc")
        self.slow.dataReceived(b"in")
        self.clock.pump([1] * 3)
        self.assertEqual((self.received, self.written()), ([], b"abc"))
        self.clock.advance(1)
        self.assertEqual(self.received, [b"in"])

    def test_switched_off_all_goes_in_order(self):
        self.slow.set_slow(True)
        self.slow.write(b"abc")
        self.slow.write(b"def")
        self.slow.dataReceived(b"1")
        self.slow.set_slow(False)
        self.slow.write(b"ghi")
        self.assertEqual(self.written(), b"abcdefghi")
        self.slow.dataReceived(b"2")
        self.assertEqual(self.received, [])
        self.clock.advance(0)
        self.assertEqual(self.received, [b"12"])
        self.slow.dataReceived(b"3")
        self.assertEqual((self.received, self.holds), ([b"12", b"3"], [True, False]))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_switched_from_within_receive(self):
        def receive(data):
            self.received.append(data)
            self.slow.set_slow(data == b"slow")
            self.slow.write(data)

        self.slow = SlowTransport(self.transport, self.clock, receive, self.holds.append)
        self.slow.dataReceived(b"slow")
        self.slow.dataReceived(b"fast")
        self.assertEqual(self.written(), b"s")
        self.clock.pump([1] * 6)
        self.assertEqual(self.written(), b"slowfast")

    def test_closing_waits_for_output(self):
        self.slow.set_slow(True)
        self.slow.write(b"bye")
        self.slow.loseConnection()
        self.slow.write(b"too late")
        self.clock.pump([1] * 2)
        self.assertFalse(self.transport.disconnecting)
        self.clock.advance(1)
        self.assertTrue(self.transport.disconnecting)
        self.assertEqual(self.written(), b"bye")

    def test_closing_then_fast(self):
        self.slow.set_slow(True)
        self.slow.write(b"bye")
        self.slow.loseConnection()
        self.slow.set_slow(False)
        self.assertEqual(self.written(), b"bye")
        self.assertTrue(self.transport.disconnecting)

    def test_bounds(self):
        self.slow.set_slow(True)
        self.slow.write(b"x" * MAX_PENDING)
        self.slow.write(b"y" * 10)
        self.assertEqual(self.slow.pending, 0)
        self.assertEqual(len(self.written()), MAX_PENDING + 10)
        self.slow.write(b"z" * (MAX_PENDING + 1))
        self.assertEqual(len(self.written()), 2 * MAX_PENDING + 11)
        self.slow.dataReceived(b"x" * (MAX_PENDING + 1))
        self.assertEqual(len(b"".join(self.received)), MAX_PENDING + 1)

    def test_stop_drops_all(self):
        self.slow.set_slow(True)
        self.slow.write(b"abc")
        self.slow.dataReceived(b"in")
        self.slow.stop()
        self.slow.write(b"more")
        self.slow.set_slow(False)
        self.clock.advance(60)
        self.assertEqual((self.written(), self.received), (b"a", []))
        self.assertEqual(self.clock.getDelayedCalls(), [])


class FakeTransport(StringTransport):
    """A transport with the buffer of Twisted's socket transports."""

    def __init__(self):
        super().__init__()
        self.dataBuffer = b""
        self.offset = 0
        self._tempDataLen = 0
        self.aborted = False

    def write(self, data):
        self._tempDataLen += len(data)

    def drain(self, size):
        self._tempDataLen = max(0, self._tempDataLen - size)

    def abortConnection(self):
        self.aborted = True


class WatchdogTests(SynchronousTestCase):
    def setUp(self):
        self.clock = Clock()
        self.transport = FakeTransport()
        self.stalls = []
        self.dog = WriteWatchdog(
            self.transport, self.clock, 30, lambda: self.stalls.append(self.clock.seconds())
        )

    def test_client_that_reads(self):
        self.dog.write(b"x" * 1000)
        self.transport.drain(1000)
        self.clock.advance(30)
        self.assertFalse(self.transport.aborted)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_client_that_stopped_reading(self):
        self.dog.write(b"x" * 1000)
        self.clock.advance(29)
        self.dog.write(b"y" * 10)
        self.assertFalse(self.transport.aborted)
        self.clock.advance(1)
        self.assertTrue(self.transport.aborted)
        self.assertEqual(self.stalls, [30])

    def test_slow_client_makes_progress(self):
        self.dog.write(b"x" * 1000)
        for _ in range(9):
            self.transport.drain(100)
            self.clock.advance(30)
            self.assertFalse(self.transport.aborted)
        self.clock.advance(30)
        self.assertTrue(self.transport.aborted)

    def test_full_buffer_of_unknown_size(self):
        transport = StringTransport()
        aborted = []
        transport.abortConnection = lambda: aborted.append(1)
        dog = WriteWatchdog(transport, self.clock, 30)
        dog.write(b"x")
        self.clock.advance(31)
        self.assertEqual(aborted, [])
        transport.producer.pauseProducing()
        self.clock.advance(20)
        transport.producer.resumeProducing()
        self.clock.advance(20)
        self.assertEqual(aborted, [])
        transport.producer.pauseProducing()
        self.clock.advance(30)
        self.assertEqual(aborted, [1])

    def test_writable_follows_the_transport(self):
        self.successResultOf(self.dog.writable())
        self.transport.producer.pauseProducing()
        self.assertTrue(self.dog.paused)
        first, second = self.dog.writable(), self.dog.writable()
        self.assertNoResult(first)
        second.cancel()
        self.failureResultOf(second)
        self.transport.producer.resumeProducing()
        self.successResultOf(first)
        self.successResultOf(self.dog.writable())

    def test_lost_connection(self):
        self.dog.write(b"x")
        self.transport.producer.pauseProducing()
        waiting = self.dog.writable()
        self.dog.stop()
        self.failureResultOf(waiting, ConnectionAborted)
        self.failureResultOf(self.dog.writable(), ConnectionAborted)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.dog.close()
        self.dog.stop()
        self.assertFalse(self.transport.disconnecting)

    def test_closing_is_watched_too(self):
        self.dog.write(b"x" * 1000)
        self.dog.close()
        self.assertTrue(self.transport.disconnecting)
        self.assertIsNone(self.transport.producer)
        self.clock.advance(30)
        self.assertTrue(self.transport.aborted)

    def test_peer_that_does_not_close(self):
        # All is sent, but the closing of TLS never gets an answer.
        self.dog.close()
        self.clock.advance(30)
        self.assertTrue(self.transport.aborted)

    def test_unsent_below_wrappers(self):
        class Wrapper:
            transport = self.transport

        self.transport.write(b"abc")
        self.assertEqual(unsent(Wrapper()), 3)
        self.assertIsNone(unsent(object()))
