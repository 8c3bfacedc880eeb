"""The stub resolver against a small DNS server on loopback, over real sockets."""

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from moxtw.dns import resolver as r
from moxtw.dns.client import StubResolver
from moxtw.dns.resolvconf import ResolvConf, Server
from tests.support.nameserver import NameServer

ZONE = {
    "a.example.": {
        "A": ["192.0.2.1", "192.0.2.2"],
        "AAAA": ["2001:db8::1"],
        "MX": ["10 mail.a.example.", "5 mx.a.example."],
    },
    "big.example.": {"TXT": [f'"{"x" * 250}{i}"' for i in range(40)]},
}


def small_server(interface="127.0.0.1"):
    return NameServer(reactor, ZONE, interface=interface).start()


class ResolverTests(TestCase):
    timeout = 20

    def setUp(self):
        self.server = small_server()
        self.addCleanup(self.server.stop)
        self.resolver = self.stub([self.server.address])

    def stub(self, resolvers):
        stub = StubResolver(reactor, resolvers)
        stub.startService()
        self.addCleanup(stub.stopService)
        return stub

    async def test_lookups(self):
        answer = await r.ips(self.resolver, "A.example")
        self.assertEqual(sorted(answer), ["192.0.2.1", "192.0.2.2", "2001:db8::1"])
        self.assertTrue(answer.authentic)
        exchangers = await r.mx(self.resolver, "a.example.")
        self.assertEqual([host for _, host in exchangers], ["mx.a.example.", "mail.a.example."])
        with self.assertRaises(r.NXDomain):
            await r.mx(self.resolver, "nowhere.example")
        with self.assertRaises(r.NoData):
            await r.txt(self.resolver, "a.example")

    async def test_large_answer_comes_by_tcp(self):
        answer = await r.txt(self.resolver, "big.example")
        self.assertEqual(len(answer), 40)
        self.assertEqual(self.server.questions, [("big.example.", "TXT")] * 2)

    async def test_cached(self):
        await r.mx(self.resolver, "a.example.")
        await r.mx(self.resolver, "a.example.")
        self.assertEqual(len(self.server.questions), 1)

    async def test_forged_answers_are_passed_over(self):
        def tweak(data):
            other = bytes([data[0] ^ 1]) + data[1:]
            return [b"", other, data[:11], data.replace(b"\x01a\x07", b"\x01b\x07"), data]

        self.server.tweak = tweak
        answer = await self.resolver.lookup("a.example", "A")
        self.assertEqual(len(answer), 2)

    async def test_flood_of_forged_answers_leads_to_tcp(self):
        self.server.tweak = lambda data: [bytes([data[0] ^ 1]) + data[1:]] * 40
        answer = await self.resolver.lookup("a.example", "A")
        self.assertEqual(len(answer), 2)

    async def test_ports_differ(self):
        for i in range(8):
            with self.assertRaises(r.NXDomain):
                await self.resolver.lookup(f"x{i}.example", "A")
        self.assertGreater(len(self.server.ports), 4)

    async def test_nobody_listens(self):
        dead = small_server()
        await dead.stop()
        with self.assertRaises(r.ServFail):
            await self.stub([dead.address]).lookup("a.example", "A")
        # The next one helps out at once.
        both = self.stub([dead.address, self.server.address])
        self.assertEqual(len(await both.lookup("a.example", "A")), 2)

    async def test_truncated_and_nobody_on_tcp(self):
        await self.server.tcp.stopListening()
        with self.assertRaises(r.ServFail):
            await self.resolver.lookup("big.example", "TXT")

    async def test_silent_server_and_the_next(self):
        mute = small_server()
        mute.tweak = lambda data: []
        self.addCleanup(mute.stop)
        stub = self.stub([mute.address, self.server.address])
        stub.use(ResolvConf(stub.conf.servers, timeout=0.05))
        self.assertEqual(len(await stub.lookup("a.example", "A")), 2)

    async def test_stopping_with_lookups_under_way(self):
        mute = small_server()
        mute.tweak = lambda data: []
        self.addCleanup(mute.stop)
        stub = self.stub([mute.address])
        lookup = Deferred.fromCoroutine(stub.lookup("a.example", "A"))
        await stub.stopService()
        await self.assertFailure(lookup, r.ServFail)

    async def test_over_ipv6(self):
        try:
            server = small_server("::1")
        except OSError:
            self.skipTest("no IPv6 here")
        self.addCleanup(server.stop)
        self.assertEqual(len(await self.stub([server.address]).lookup("a.example", "A")), 2)

    async def test_server_that_is_not_trusted(self):
        server = Server("127.0.0.1", self.server.udp.getHost().port, trusted=False)
        self.resolver.use(ResolvConf((server,)))
        self.assertFalse((await self.resolver.lookup("a.example", "A")).authentic)

    async def test_resolv_conf_is_read_again(self):
        path = self.mktemp()
        with open(path, "w") as file:
            file.write("nameserver 127.0.0.9\n")
        stub = StubResolver(reactor, path=path)
        with open(path, "w") as file:
            file.write("nameserver 127.0.0.10\noptions attempts:3\n")
        await stub._read_conf()
        self.assertEqual((stub.conf.servers[0].ip, stub.conf.attempts), ("127.0.0.10", 3))
