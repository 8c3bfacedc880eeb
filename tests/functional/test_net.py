"""TLS and the PROXY protocol over real sockets, with the clients of Python's ssl module."""

import socket
import ssl

from twisted.internet import reactor
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from moxtw.net import certs, listen, tls

PEMS = certs.self_signed(["mail.example", "localhost"], ["127.0.0.1"])
CLIENT_PEMS = certs.self_signed(["client.example"])


class Echo(Protocol):
    """Tells its peer's address, then echoes; ``STARTTLS`` starts TLS."""

    def connectionMade(self):
        self.transport.write(b"%s\n" % self.transport.getPeer().host.encode())

    def dataReceived(self, data):
        if data == b"STARTTLS\n":
            self.transport.write(b"go\n")
            self.transport.startTLS(self.factory.tls)
            return
        connection = tls.tls_connection(self.transport)
        if connection is not None:
            info = tls.tls_info(connection)
            binding = tls.channel_binding(connection)
            data += f"{info.version} {info.server_name} {info.resumed} {binding[0]}\n".encode()
            data += f"{tls.peer_fingerprint(connection)}\n".encode()
            self.bindings = binding
            self.factory.bindings.append(binding)
        self.transport.write(data)


class NetTests(TestCase):
    timeout = 20

    def serve(self, *, immediate=False, proxy=False, **options):
        factory = Factory.forProtocol(Echo)
        factory.noisy = False
        factory.bindings = []
        server_tls = tls.ServerTLS([certs.load_key_pair(*PEMS)], clock=reactor, **options)
        factory.tls = server_tls
        wrapped = listen.wrap_factory(
            factory, reactor, proxy=proxy, tls=server_tls if immediate else None
        )
        port = listen.listen_tcp(reactor, "127.0.0.1", 0, wrapped)
        self.addCleanup(port.stopListening)
        self.factory = factory
        return port.getHost().port

    def context(self, version=None, client=False):
        context = ssl.create_default_context(cadata=PEMS[0].decode())
        if version:
            context.minimum_version = context.maximum_version = version
        if client:
            path = self.mktemp()
            with open(path, "wb") as file:
                file.write(b"".join(CLIENT_PEMS))
            context.load_cert_chain(path)
        return context

    def talk(self, port, context, *, start=b"", upgrade=False, name="localhost", session=None):
        """Speak with the server in a thread; returns (greeting, answer, binding, session)."""

        def run():
            with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
                raw.sendall(start)
                greeting = b""
                if upgrade:
                    greeting = raw.recv(100)
                    raw.sendall(b"STARTTLS\n")
                    assert raw.recv(3, socket.MSG_WAITALL) == b"go\n"
                with context.wrap_socket(raw, server_hostname=name, session=session) as sock:
                    if not upgrade:
                        greeting = sock.recv(100)
                    sock.sendall(b"x\n")
                    answer = b""
                    while answer.count(b"\n") < 3:
                        data = sock.recv(1000)
                        if not data:
                            raise ConnectionError("closed")
                        answer += data
                    unique = sock.get_channel_binding("tls-unique")
                    return greeting, answer.decode().splitlines(), unique, sock.session

        return deferToThread(run)

    async def test_immediate_tls(self):
        port = self.serve(immediate=True)
        greeting, answer, _, session = await self.talk(port, self.context())
        self.assertEqual(greeting, b"127.0.0.1\n")
        self.assertEqual(answer, ["x", "TLS1.3 localhost False tls-exporter", "None"])

    async def test_resumption_and_tls_unique(self):
        port = self.serve(immediate=True)
        context = self.context(ssl.TLSVersion.TLSv1_2)
        session = None
        for again in (False, True):
            _, answer, unique, session = await self.talk(port, context, session=session)
            self.assertEqual(answer[1], f"TLS1.2 localhost {again} tls-unique")
            self.assertEqual(self.factory.bindings[-1], ("tls-unique", unique))

    async def test_starttls_behind_a_proxy(self):
        port = self.serve(proxy=True)
        for start, expected in (
            (b"PROXY TCP4 192.0.2.1 198.51.100.2 5 25\r\n", b"192.0.2.1\n"),
            (b"PROXY UNKNOWN\r\n", b"127.0.0.1\n"),
        ):
            greeting, answer, _, _ = await self.talk(
                port, self.context(), start=start, upgrade=True
            )
            self.assertEqual(greeting, expected)
            self.assertTrue(answer[1].startswith("TLS1.3 "))

    async def test_immediate_tls_behind_a_proxy(self):
        port = self.serve(proxy=True, immediate=True)
        start = b"PROXY TCP6 2001:db8::1 ::1 5 25\r\n"
        greeting, answer, _, _ = await self.talk(port, self.context(), start=start)
        self.assertEqual(greeting, b"2001:db8::1\n")

    async def test_without_the_header_the_connection_is_closed(self):
        port = self.serve(proxy=True, immediate=True)
        with self.assertRaises(OSError):
            await self.talk(port, self.context())

    async def test_client_certificates(self):
        known = certs.fingerprint(certs.load_key_pair(*CLIENT_PEMS).chain[0])
        keys = {known}
        port = self.serve(immediate=True, known_key=keys.__contains__)
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            _, answer, _, _ = await self.talk(port, self.context(version, client=True))
            self.assertEqual(answer[2], known)
            _, answer, _, _ = await self.talk(port, self.context(version))
            self.assertEqual(answer[2], "None")
            keys.clear()
            with self.assertRaises(OSError):
                await self.talk(port, self.context(version, client=True))
            keys.add(known)

    async def test_unknown_server_name(self):
        context = self.context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        port = self.serve(immediate=True)
        with self.assertRaisesRegex(ssl.SSLError, "(?i)unrecognized.name"):
            await self.talk(port, context, name="unknown.example")
        port = self.serve(immediate=True, unknown_name="fallback")
        _, answer, _, _ = await self.talk(port, context, name="unknown.example")
        self.assertTrue(answer[1].startswith("TLS1.3 unknown.example"))
