"""Deliveries through a SOCKS5 proxy (RFC 1928)."""

from __future__ import annotations

import ipaddress
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from moxtw.net.socks import SOCKSEndpoint, SOCKSError
from moxtw.net.tlsclient import Roots
from moxtw.queue.delivery import DeliveryError, Target, TLSMode, Transaction, Trouble
from moxtw.smtp.dial import Dialer
from tests.functional.smtpsink import Sink, reactor, tls_context


class Onward(Protocol):
    def __init__(self, back: Proxy) -> None:
        self.back = back

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        self.back.transport.write(data)

    def connectionLost(self, reason: Any = None) -> None:  # noqa: N802
        self.back.transport.loseConnection()


class Proxy(Protocol):
    """A proxy; `factory.reply` is what it answers to the request, or None to connect."""

    factory: Any
    onward: Any = None

    def __init__(self) -> None:
        self.buffer = b""

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        if self.onward is not None:
            self.onward.transport.write(data)
            return
        self.buffer += data
        if self.buffer == b"\x05\x01\x00":
            self.transport.write(self.factory.method)
            return
        request = self.buffer[3:]
        if len(request) < 10:
            return
        self.factory.asked.append(
            (str(ipaddress.ip_address(request[4:8])), int.from_bytes(request[8:10], "big"))
        )
        if self.factory.reply is not None:
            self.transport.write(self.factory.reply)
            return
        ip, port = self.factory.asked[-1]
        made = Factory.forProtocol(lambda: Onward(self))
        TCP4ClientEndpoint(reactor, ip, port).connect(made).addCallback(self._connected)

    def _connected(self, onward: Onward) -> None:
        self.onward = onward
        # With a name as the address.
        self.transport.write(b"\x05\x00\x00\x03\x03a.b\x00\x19")

    def connectionLost(self, reason: Any = None) -> None:  # noqa: N802
        if self.onward is not None:
            self.onward.transport.loseConnection()


class SocksTests(TestCase):
    timeout = 30

    def setUp(self) -> None:
        self.proxy: Any = Factory.forProtocol(Proxy)
        self.proxy.reply = None
        self.proxy.method = b"\x05\x00"
        self.proxy.asked = []
        listening = reactor.listenTCP(0, self.proxy, interface="127.0.0.1")
        self.addCleanup(listening.stopListening)
        self.address = ("127.0.0.1", listening.getHost().port)

    def target(self, port: int, **more: Any) -> Target:
        return Target("mx.example", ("127.0.0.1",), port, "me.example", proxy=self.address, **more)

    def test_message_over_tls(self) -> Deferred[None]:
        async def run() -> None:
            sink = Sink(tls=tls_context())
            listening = reactor.listenTCP(0, sink, interface="127.0.0.1")
            self.addCleanup(listening.stopListening)
            port = listening.getHost().port
            dialer = Dialer(reactor, Roots(system=False))
            session = await dialer.connect(self.target(port, tls=TLSMode.REQUIRED))
            data = b"Subject: hi\r\n\r\nbody\r\n"

            async def read(start: int, length: int) -> bytes:
                return data[start : start + length]

            wanted = Transaction("me@a.example", ("x@b.example",), len(data), read)
            [result] = await session.deliver(wanted)
            self.assertTrue(result.success, result)
            await session.close()
            # Until the other ends have noticed.
            while any(type(each).__name__ == "Server" for each in reactor.getReaders()):
                await deferLater(reactor, 0.01)
            self.assertEqual(self.proxy.asked, [("127.0.0.1", port)])
            self.assertEqual(sink.messages[0][2:], (data, True))

        return Deferred.fromCoroutine(run())

    def test_refusals(self) -> Deferred[None]:
        async def run() -> None:
            dialer = Dialer(reactor, Roots(system=False))
            for reply, text in (
                (b"\x05\x05\x00\x01\0\0\0\0\0\0", "connection refused"),
                (b"\x05\x63\x00\x01\0\0\0\0\0\0", "reply 99"),
                (b"\x05\x00\x00\x09\0\0\0\0\0\0", "bad address"),
                (b"\x04\x00\x00\x01\0\0\0\0\0\0", "bad reply"),
            ):
                self.proxy.reply = reply
                with self.assertRaises(DeliveryError) as caught:
                    await dialer.connect(self.target(25))
                self.assertIs(caught.exception.trouble, Trouble.DIAL)
                self.assertIn(text, caught.exception.text)
            self.proxy.method = b"\x05\xff"
            with self.assertRaises(DeliveryError) as caught:
                await dialer.connect(self.target(25))
            self.assertIn("without authentication", caught.exception.text)

        return Deferred.fromCoroutine(run())

    def test_proxy_that_goes(self) -> Deferred[None]:
        async def run() -> None:
            closing: Any = Factory.forProtocol(Closing)
            listening = reactor.listenTCP(0, closing, interface="127.0.0.1")
            self.addCleanup(listening.stopListening)
            way = TCP4ClientEndpoint(reactor, "127.0.0.1", listening.getHost().port)
            endpoint = SOCKSEndpoint(reactor, way, "127.0.0.1", 25, 5)
            with self.assertRaises(SOCKSError):
                await endpoint.connect(Factory.forProtocol(Protocol))

        return Deferred.fromCoroutine(run())


class Closing(Protocol):
    def connectionMade(self) -> None:  # noqa: N802
        self.transport.loseConnection()
