"""Connecting: addresses in turn, time shared between them, what follows the connection."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from moxtw.net.tlsclient import ClientTLS, Roots
from moxtw.queue.delivery import DeliveryError, Login, Target, Timeouts, TLSMode, Trouble
from moxtw.smtp.dial import Dialer
from tests.unit.smtp.wire import Wire

GREETING = b"220 mx ESMTP\r\n"


class Dialing(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor: Any = MemoryReactorClock()
        self.dialer = Dialer(self.reactor, Roots(system=False))
        self.dialed: list[str] = []

    def start(self, *ips: str, **more: Any) -> Deferred[Any]:
        target = Target(host="mx.example", ips=ips, port=25, ehlo="me.example", **more)
        return Deferred.fromCoroutine(self.dialer.connect(target, dialed=self.dialed.append))

    def refuse(self) -> None:
        factory = self.reactor.tcpClients[-1][2]
        factory.clientConnectionFailed(None, Failure(ConnectionRefusedError()))

    def accept(self) -> Wire:
        protocol = self.reactor.tcpClients[-1][2].buildProtocol(None)
        wire = Wire()
        wire.protocol = protocol
        self.protocol = protocol
        protocol.makeConnection(wire)
        return wire

    def test_addresses_in_turn(self) -> None:
        deferred = self.start("127.0.0.1", "::1", "127.0.0.2")
        self.refuse()
        self.refuse()
        self.assertEqual([c[0] for c in self.reactor.tcpClients], ["127.0.0.1", "::1", "127.0.0.2"])
        self.assertEqual([c[3] for c in self.reactor.tcpClients], [10.0] * 3)
        self.accept()
        self.assertEqual(self.dialed, ["127.0.0.2"])
        self.protocol.dataReceived(GREETING + b"250 mx\r\n")
        session = self.successResultOf(deferred)
        self.assertEqual(session.remote_ip, "127.0.0.2")
        self.assertTrue(session.usable)
        self.assertFalse(session.has_starttls)

    def test_no_address_answers(self) -> None:
        deferred = self.start("127.0.0.1", "127.0.0.2")
        self.refuse()
        self.refuse()
        exc = self.failureResultOf(deferred, DeliveryError).value
        self.assertEqual((exc.trouble, exc.permanent), (Trouble.DIAL, False))
        self.assertIn("127.0.0.2", exc.text)
        self.assertEqual(self.dialed, [])

    def test_no_addresses(self) -> None:
        exc = self.failureResultOf(self.start(), DeliveryError).value
        self.assertEqual(exc.trouble, Trouble.DIAL)

    def test_local_address_by_family(self) -> None:
        self.start("127.0.0.1", "::1", local_ips=((4, "127.0.0.9"),))
        self.refuse()
        self.assertEqual([c[4] for c in self.reactor.tcpClients], [("127.0.0.9", 0), None])

    def test_greeting_that_refuses(self) -> None:
        deferred = self.start("127.0.0.1")
        wire = self.accept()
        self.protocol.dataReceived(b"554 5.7.1 go away\r\n")
        self.assertEqual(wire.value(), b"QUIT\r\n")
        self.protocol.dataReceived(b"221 bye\r\n")
        exc = self.failureResultOf(deferred, DeliveryError).value
        self.assertEqual((exc.code, exc.secode, exc.remote_mta), (554, "7.1", "mx.example"))
        self.assertTrue(wire.lost)
        self.assertEqual(self.dialed, ["127.0.0.1"])

    def test_setup_is_bound_in_time(self) -> None:
        deferred = self.start("127.0.0.1", timeouts=Timeouts(setup=60))
        wire = self.accept()
        self.protocol.dataReceived(GREETING)
        self.reactor.advance(59)
        self.assertNoResult(deferred)
        self.reactor.advance(1)
        exc = self.failureResultOf(deferred, DeliveryError).value
        self.assertEqual(exc.trouble, Trouble.TIMEOUT)
        self.assertTrue(wire.lost)

    def test_no_timer_is_left(self) -> None:
        deferred = self.start("127.0.0.1", timeouts=Timeouts(setup=60))
        self.accept()
        self.protocol.dataReceived(GREETING + b"250 mx\r\n")
        self.successResultOf(deferred)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_starttls_by_mode(self) -> None:
        for mode, offered, expected in (
            (TLSMode.OPPORTUNISTIC, True, True),
            (TLSMode.OPPORTUNISTIC, False, False),
            (TLSMode.REQUIRED, False, True),
            (TLSMode.SKIP, True, False),
        ):
            self.start("127.0.0.1", tls=mode)
            wire = self.accept()
            words = b"250-mx\r\n250 STARTTLS\r\n" if offered else b"250 mx\r\n"
            self.protocol.dataReceived(GREETING)
            self.protocol.dataReceived(words)
            self.assertEqual(b"STARTTLS\r\n" in wire.value(), expected, (mode, offered))

    def test_implicit_tls_comes_first(self) -> None:
        self.start("127.0.0.1", tls=TLSMode.IMMEDIATE, verify=True)
        wire = self.accept()
        self.assertIsInstance(wire.tls, ClientTLS)
        self.assertEqual(wire.tls.hostname, "mx.example")
        self.assertEqual(wire.value(), b"")

    def test_login_without_mechanism(self) -> None:
        deferred = self.start("127.0.0.1", tls=TLSMode.SKIP, login=Login("u", "p"))
        wire = self.accept()
        self.protocol.dataReceived(GREETING + b"250-mx\r\n250 AUTH PLAIN\r\n")
        self.assertTrue(wire.value().endswith(b"QUIT\r\n"))
        self.protocol.dataReceived(b"221 bye\r\n")
        exc = self.failureResultOf(deferred, DeliveryError).value
        self.assertTrue(exc.permanent)

    def test_cancel_while_dialing(self) -> None:
        deferred = self.start("127.0.0.1")
        deferred.cancel()
        exc = self.failureResultOf(deferred, DeliveryError).value
        self.assertEqual(exc.trouble, Trouble.CANCELED)

    def test_cancel_while_greeting(self) -> None:
        deferred = self.start("127.0.0.1")
        wire = self.accept()
        deferred.cancel()
        exc = self.failureResultOf(deferred, DeliveryError).value
        self.assertEqual(exc.trouble, Trouble.CANCELED)
        self.assertTrue(wire.lost)
