"""PROXY protocol, immediate TLS, listening sockets."""

import socket
import struct

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IHalfCloseableProtocol, IHandshakeListener
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactor, StringTransport
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.test import iosim
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from moxtw.net import certs, listen, tls, tlsclient

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


def v2(command=0x21, family=0x11, body=b""):
    return SIGNATURE + struct.pack("!BBH", command, family, len(body)) + body


V4 = socket.inet_aton("192.0.2.1") + socket.inet_aton("198.51.100.2") + struct.pack("!2H", 5, 25)
V6 = (
    socket.inet_pton(socket.AF_INET6, "2001:db8::1")
    + socket.inet_pton(socket.AF_INET6, "2001:db8::2")
    + struct.pack("!2H", 5, 25)
)


@implementer(IHandshakeListener)
class Recorder(Protocol):
    """Remembers what happens to it, and greets with what it takes for its client."""

    def __init__(self):
        self.events = []
        self.data = b""

    def connectionMade(self):
        self.events.append("made")
        self.transport.write(b"hello %s\n" % self.transport.getPeer().host.encode())

    def dataReceived(self, data):
        self.data += data

    def handshakeCompleted(self):
        self.events.append("tls")

    def connectionLost(self, reason):
        self.events.append("lost")


class RecorderFactory(Factory):
    noisy = False

    def __init__(self):
        self.built = []

    def buildProtocol(self, addr):
        protocol = Recorder()
        self.built.append((addr, protocol))
        return protocol


class HeaderTests(SynchronousTestCase):
    good = (
        (b"PROXY TCP4 192.0.2.1 198.51.100.2 5 25\r\n", ("192.0.2.1", 5), ("198.51.100.2", 25)),
        (b"PROXY TCP6 2001:DB8:0::1 2001:db8::2 5 25\r\n", ("2001:db8::1", 5), ("2001:db8::2", 25)),
        (b"PROXY TCP6 ::ffff:192.0.2.1 ::1 5 25\r\n", ("192.0.2.1", 5), ("::1", 25)),
        (v2(body=V4), ("192.0.2.1", 5), ("198.51.100.2", 25)),
        (v2(family=0x21, body=V6), ("2001:db8::1", 5), ("2001:db8::2", 25)),
        (v2(body=V4 + b"\x04\0\x01x"), ("192.0.2.1", 5), ("198.51.100.2", 25)),
    )
    unknown = (
        b"PROXY UNKNOWN\r\n",
        b"PROXY UNKNOWN ffff:f::1 whatever\r\n",
        v2(command=0x20, family=0),
        v2(command=0x20, body=V4),
        v2(family=0, body=b""),
        v2(family=0x31, body=b"\0" * 216),
    )
    bad = (
        b"EHLO example\r\n",
        b"PROXY\r\n",
        b"PROXY TCP4\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.2 5\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.2 5 25 7\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.2 5 65536\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.2 -5 25\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.2 x 25\r\n",
        b"PROXY TCP4 ::1 ::1 5 25\r\n",
        b"PROXY TCP6 192.0.2.1 192.0.2.1 5 25\r\n",
        b"PROXY TCP4 localhost 192.0.2.1 5 25\r\n",
        b"PROXY TCP5 192.0.2.1 192.0.2.1 5 25\r\n",
        b"PROXY UNKNOWN " + b"x" * 200,
        b"\x16\x03\x01\0\0",
        v2(command=0x22),
        v2(command=0x11),
        v2(body=b"\0" * 11),
        v2(family=0x21, body=V4),
        SIGNATURE + b"\x21\x11\xff\xff",
    )

    def test_addresses(self):
        for header, source, destination in self.good:
            result = listen.parse_proxy_header(header + b"EHLO")
            self.assertEqual(result, ((source, destination), len(header)))

    def test_no_addresses(self):
        for header in self.unknown:
            self.assertEqual(listen.parse_proxy_header(header + b"EHLO"), (None, len(header)))

    def test_incomplete(self):
        for header in [header for header, *_ in self.good] + list(self.unknown):
            for size in range(len(header)):
                self.assertIsNone(listen.parse_proxy_header(header[:size]))

    def test_bad(self):
        for header in self.bad:
            with self.assertRaises(listen.ProxyError, msg=header):
                listen.parse_proxy_header(header)

    @given(st.binary(max_size=200), st.sampled_from([b"", b"PROXY ", SIGNATURE + b"\x21"]))
    def test_junk(self, data, start):
        try:
            listen.parse_proxy_header(start + data)
        except listen.ProxyError:
            return


class Aborting(StringTransport):
    aborted = False

    def abortConnection(self):
        self.aborted = True


class ProxyTests(SynchronousTestCase):
    def setUp(self):
        self.clock = Clock()
        self.inner = RecorderFactory()
        self.factory = listen.wrap_factory(self.inner, self.clock, proxy=True)
        self.transport = Aborting(peerAddress=IPv4Address("TCP", "127.0.0.9", 1))
        self.protocol = self.factory.buildProtocol(self.transport.getPeer())
        self.protocol.makeConnection(self.transport)

    def feed(self, data):
        for i in range(len(data)):
            self.protocol.dataReceived(data[i : i + 1])

    def test_protocol_is_made_with_the_address_of_the_client(self):
        self.feed(b"PROXY TCP4 192.0.2.1 198.51.100.2 5 25\r")
        self.assertEqual((self.inner.built, self.transport.value()), ([], b""))
        self.protocol.dataReceived(b"\nEHLO")
        self.protocol.dataReceived(b" x\r\n")
        ((addr, recorder),) = self.inner.built
        self.assertEqual(addr, IPv4Address("TCP", "192.0.2.1", 5))
        self.assertEqual(self.transport.value(), b"hello 192.0.2.1\n")
        self.assertEqual(recorder.data, b"EHLO x\r\n")
        self.assertEqual(recorder.transport.getHost(), IPv4Address("TCP", "198.51.100.2", 25))
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.protocol.connectionLost(None)
        self.assertEqual(recorder.events, ["made", "lost"])

    def test_version_2_and_ipv6(self):
        self.feed(v2(family=0x21, body=V6))
        self.assertEqual(self.inner.built[0][0], IPv6Address("TCP", "2001:db8::1", 5))

    def test_without_addresses_the_connection_counts(self):
        self.feed(v2(command=0x20, family=0))
        self.assertEqual(self.transport.value(), b"hello 127.0.0.9\n")

    def test_bad_header_closes(self):
        self.protocol.dataReceived(b"EHLO x\r\n")
        self.assertTrue(self.transport.aborted)
        self.protocol.dataReceived(b"PROXY UNKNOWN\r\n")
        self.assertEqual(self.inner.built, [])
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.protocol.connectionLost(None)

    def test_missing_header_closes(self):
        self.protocol.dataReceived(b"PROXY TCP4 ")
        self.clock.advance(9)
        self.assertFalse(self.transport.aborted)
        self.clock.advance(1)
        self.assertTrue(self.transport.aborted)
        self.protocol.connectionLost(None)
        self.assertEqual(self.inner.built, [])

    def test_lost_before_the_header(self):
        self.protocol.connectionLost(None)
        self.assertEqual((self.inner.built, self.clock.getDelayedCalls()), ([], []))

    def test_end_of_input_is_passed_on_if_it_is_wanted(self):
        self.feed(b"PROXY UNKNOWN\r\n")
        self.assertFalse(IHalfCloseableProtocol.providedBy(self.protocol))
        self.protocol.connectionLost(None)

        @implementer(IHalfCloseableProtocol)
        class HalfCloseable(Protocol):
            ends = ()

            def readConnectionLost(self):
                self.ends += ("read",)

            def writeConnectionLost(self):
                self.ends += ("write",)

        inner = HalfCloseable()
        self.inner.buildProtocol = lambda addr: inner
        protocol = self.factory.buildProtocol(self.transport.getPeer())
        protocol.makeConnection(self.transport)
        self.assertFalse(IHalfCloseableProtocol.providedBy(protocol))
        protocol.dataReceived(b"PROXY UNKNOWN\r\n")
        self.assertTrue(IHalfCloseableProtocol.providedBy(protocol))
        protocol.writeConnectionLost()
        protocol.readConnectionLost()
        self.assertEqual(inner.ends, ("write", "read"))
        protocol.connectionLost(None)

    def test_factory_may_refuse(self):
        self.inner.buildProtocol = lambda addr: None
        self.feed(b"PROXY UNKNOWN\r\n")
        self.assertTrue(self.transport.disconnecting)
        self.protocol.connectionLost(None)

    def test_no_input_after_the_protocol_closed(self):
        self.inner.buildProtocol = lambda addr: closing

        class Closing(Recorder):
            def connectionMade(self):
                self.transport.loseConnection()

        closing = Closing()
        self.protocol.dataReceived(b"PROXY UNKNOWN\r\nEHLO")
        self.assertEqual(closing.data, b"")


class Client(Protocol):
    def __init__(self, start=b""):
        self.start = start
        self.data = b""
        self.lost = None

    def connectionMade(self):
        self.transport.write(self.start)

    def dataReceived(self, data):
        self.data += data

    def connectionLost(self, reason):
        self.lost = reason


PAIR = certs.load_key_pair(*certs.self_signed(["localhost"]))


def fake_server(server):
    address = IPv4Address("TCP", "127.0.0.1", 7)
    return iosim.FakeTransport(server, isServer=True, peerAddress=address)


class TLSTests(SynchronousTestCase):
    def setUp(self):
        self.clock = Clock()
        self.failures = []
        self.inner = RecorderFactory()
        self.tls = tls.ServerTLS([PAIR], clock=self.clock)

    def server(self, **options):
        return listen.wrap_factory(
            self.inner,
            self.clock,
            on_tls_failure=lambda addr, reason: self.failures.append(addr),
            **options,
        ).buildProtocol(IPv4Address("TCP", "127.0.0.1", 7))

    def connect(self, server, client):
        pump = iosim.connect(
            server, fake_server(server), client, iosim.makeFakeClient(client)
        )
        self.settle(pump)
        return pump

    def settle(self, pump):
        for _ in range(4):
            pump.flush()
            self.clock.advance(0)

    def client_tls(self, name="localhost"):
        roots = tlsclient.Roots(system=False)
        return tlsclient.ClientTLS(name, roots, verify=False)

    def test_protocol_is_made_after_the_handshake(self):
        server = self.server(tls=self.tls)
        client = Client()
        wrapped = TLSMemoryBIOFactory(
            self.client_tls(), True, Factory.forProtocol(lambda: client), self.clock
        ).buildProtocol(None)
        pump = self.connect(server, wrapped)
        ((_, recorder),) = self.inner.built
        self.assertEqual(recorder.events, ["made", "tls"])
        self.assertTrue(client.data.startswith(b"hello "))
        self.assertIsNotNone(tls.tls_connection(recorder.transport))
        client.transport.write(b"quit")
        self.settle(pump)
        self.assertEqual(recorder.data, b"quit")
        client.transport.loseConnection()
        self.settle(pump)
        self.assertEqual(recorder.events[-1], "lost")
        self.assertEqual((self.failures, self.clock.getDelayedCalls()), ([], []))

    def test_failing_handshakes(self):
        for client in (
            Client(b"EHLO plain text\r\n"),
            TLSMemoryBIOFactory(
                self.client_tls("unknown.example"), True, Factory.forProtocol(Client), self.clock
            ).buildProtocol(None),
        ):
            pump = self.connect(self.server(tls=self.tls), client)
            self.settle(pump)
            self.assertEqual((self.inner.built, len(self.failures)), ([], 1))
            self.failures.clear()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_silent_client(self):
        pump = self.connect(self.server(tls=self.tls), Client())
        self.clock.advance(59)
        self.assertEqual(self.failures, [])
        self.clock.advance(1)
        self.settle(pump)
        self.assertEqual((self.inner.built, len(self.failures)), ([], 1))

    def test_behind_a_proxy(self):
        client = Client()
        wrapped = TLSMemoryBIOFactory(
            self.client_tls(), True, Factory.forProtocol(lambda: client), self.clock
        ).buildProtocol(None)

        class Proxy(Protocol):
            """Says where the client is, then lets it speak."""

            def connectionMade(self):
                self.transport.write(b"PROXY TCP4 192.0.2.1 198.51.100.2 5 25\r\n")
                wrapped.makeConnection(self.transport)

            def dataReceived(self, data):
                wrapped.dataReceived(data)

            def connectionLost(self, reason):
                wrapped.connectionLost(reason)

        self.connect(self.server(tls=self.tls, proxy=True), Proxy())
        self.assertEqual(client.data, b"hello 192.0.2.1\n")


class SocketTests(SynchronousTestCase):
    def test_bound_socket(self):
        sock = listen.bind_socket("127.0.0.1", 0)
        self.addCleanup(sock.close)
        client = socket.create_connection(sock.getsockname(), timeout=5)
        self.addCleanup(client.close)
        self.assertTrue(sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR))
        self.assertTrue(sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))
        self.assertFalse(sock.getblocking())
        with self.assertRaises(OSError):
            listen.bind_socket("127.0.0.1", sock.getsockname()[1])
        with self.assertRaises(OSError):
            listen.bind_socket("localhost", 0)

    def test_both_families_on_one_port(self):
        try:
            first = listen.bind_socket("::1", 0)
        except OSError:
            self.skipTest("no IPv6 here")
        self.addCleanup(first.close)
        self.assertTrue(first.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY))

    def test_adopted(self):
        reactor = MemoryReactor()
        sock = listen.bind_socket("127.0.0.1", 0)
        factory = RecorderFactory()
        listen.adopt(reactor, sock, factory)
        ((_, family, adopted),) = reactor.adoptedPorts
        self.assertEqual((family, adopted, sock.fileno()), (socket.AF_INET, factory, -1))
