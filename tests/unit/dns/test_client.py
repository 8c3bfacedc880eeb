"""The stub resolver over a fake transport, and its parts."""

import random
import struct
import time

import dns.edns
import dns.flags
import dns.message
import dns.name
import dns.rdtypes.ANY.PTR
import dns.rdtypes.ANY.TXT
import dns.rrset
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from moxtw import metrics
from moxtw.dns import client, resolvconf, wire
from moxtw.dns import resolver as r
from moxtw.dns.cache import Cache
from moxtw.dns.transport import ExchangeError, Forged

SOA = "example.org. 600 IN SOA ns.example.org. x.example.org. 1 2 3 4 60"


def respond(query, *answers, rcode=0, ad=False, authority=(), options=(), flags=0):
    """Wire form of an answer to a query; answers are lines of a master file."""
    message = dns.message.from_wire(query)
    response = dns.message.make_response(message, recursion_available=True)
    response.set_rcode(rcode)
    response.flags |= flags | (dns.flags.AD if ad else 0)
    for section, lines in ((response.answer, answers), (response.authority, authority)):
        for line in lines:
            name, ttl, cls, rtype, rest = line.split(" ", 4)
            section.append(dns.rrset.from_text(name, int(ttl), cls, rtype, rest))
    if options:
        response.use_edns(0, options=list(options))
    return response.to_wire()


class FakeTransport:
    """Answers by ``script[ip]``: a function of the query, giving bytes, an exception, or None
    for silence; (kind, ip) of each question is in ``asked``.
    """

    def __init__(self, **scripts):
        self.scripts = scripts
        self.asked = []
        self.pending = []
        self.cancelled = 0

    def udp(self, server, query):
        return self._ask("udp", server, query)

    def tcp(self, server, query):
        return self._ask("tcp", server, query)

    def _ask(self, kind, server, query):
        self.asked.append((kind, server.ip))
        script = self.scripts.get(kind) or self.scripts["udp"]
        outcome = script(server, query)
        d = Deferred(self._cancel)
        if isinstance(outcome, bytes):
            d.callback(outcome)
        elif outcome is not None:
            d.errback(outcome)
        else:
            self.pending.append((d, query))
        return d

    def _cancel(self, d):
        self.cancelled += 1


class Base(SynchronousTestCase):
    servers = ("127.0.0.1",)

    def setUp(self):
        self.clock = Clock()

    def stub(self, udp=None, tcp=None, servers=None, **options):
        self.transport = FakeTransport(udp=udp, tcp=tcp)
        stub = client.StubResolver(
            self.clock, servers or ["127.0.0.1"], transport=self.transport, **options
        )
        self.addCleanup(stub.stopService)
        return stub

    def look(self, stub, name="example.org", rtype="A"):
        return Deferred.fromCoroutine(stub.lookup(name, rtype))

    def get(self, *args):
        return self.successResultOf(self.look(*args))

    def fails(self, kind, *args):
        return self.failureResultOf(self.look(*args), kind).value


def a_record(server, query):
    return respond(query, "example.org. 300 IN A 192.0.2.1", ad=True)


class LookupTests(Base):
    def test_answer_with_dnssec_status(self):
        answer = self.get(self.stub(a_record))
        self.assertEqual(
            (list(answer), answer.authentic, answer.ttl), (["192.0.2.1"], True, 300)
        )

    def test_ad_bit_of_others_does_not_count(self):
        stub = self.stub(a_record)
        stub.use(resolvconf.parse("nameserver 192.0.2.53"))
        self.assertFalse(self.get(stub).authentic)
        stub.use(resolvconf.parse("nameserver 192.0.2.53\noptions trust-ad"))
        self.assertTrue(self.get(stub).authentic)
        stub.use(resolvconf.parse("nameserver ::1"))
        self.assertTrue(self.get(stub).authentic)

    def test_all_types(self):
        records = {
            "MX": ("10 Mail.Example.ORG.", r.MX(10, "mail.example.org.")),
            "TXT": ('"v=spf1 " "-all"', "v=spf1 -all"),
            "AAAA": ("2001:DB8:0::1", "2001:db8::1"),
            "NS": ("NS.example.org.", "ns.example.org."),
            "PTR": ("a.example.org.", "a.example.org."),
            "CNAME": ("b.example.org.", "b.example.org."),
            "SRV": ("0 1 993 .", r.SRV(0, 1, 993, ".")),
            "TLSA": ("3 1 1 " + "ab" * 32, r.TLSA(3, 1, 1, b"\xab" * 32)),
            "CAA": ('0 issue "ca.example"', '0 issue "ca.example"'),
        }
        for rtype, (text, expected) in records.items():
            stub = self.stub(
                lambda s, q, t=text, rt=rtype: respond(q, f"example.org. 9 IN {rt} {t}")
            )
            self.assertEqual(self.get(stub, "Example.org.", rtype)[0], expected)
            self.assertEqual(len(self.get(stub, "Example.org.", rtype.lower())), 1)
        self.failureResultOf(self.look(self.stub(a_record), "example.org", "BOGUS"), ValueError)

    def test_octets_that_are_not_ascii_in_txt(self):
        stub = self.stub(
            lambda s, q: respond(q, 'example.org. 9 IN TXT "caf\\195\\169 \\255"')
        )
        self.assertEqual(self.get(stub, "example.org", "TXT")[0], "café \\xff")

    def test_not_found_kinds(self):
        stub = self.stub(lambda s, q: respond(q, rcode=3, authority=[SOA], ad=True))
        exc = self.fails(r.NXDomain, stub)
        self.assertEqual((exc.authentic, exc.ttl), (True, 60))
        stub = self.stub(lambda s, q: respond(q))
        exc = self.fails(r.NoData, stub)
        self.assertEqual((exc.authentic, exc.ttl), (False, 0))
        stub = self.stub(lambda s, q: respond(q, "example.org. 9 IN TXT x"))
        self.fails(r.NoData, stub)

    def test_cname_within_the_answer(self):
        stub = self.stub(
            lambda s, q: respond(
                q,
                "example.org. 50 IN CNAME b.example.",
                "B.example. 30 IN CNAME c.example.",
                "c.example. 70 IN A 192.0.2.3",
            )
        )
        answer = self.get(stub)
        self.assertEqual((list(answer), answer.ttl), (["192.0.2.3"], 30))
        self.assertEqual(self.get(stub, "example.org", "CNAME")[0], "b.example.")

    def test_cname_to_nothing(self):
        stub = self.stub(
            lambda s, q: respond(
                q, "example.org. 50 IN CNAME b.example.", rcode=3, authority=[SOA]
            )
        )
        self.fails(r.NXDomain, stub)

    def test_cname_that_leads_out_of_the_answer_is_asked_on(self):
        def script(server, query):
            name = dns.message.from_wire(query).question[0].name.to_text()
            if name == "b.example.":
                return respond(query, "b.example. 20 IN A 192.0.2.3")
            return respond(query, "example.org. 50 IN CNAME b.example.", ad=True)

        answer = self.get(self.stub(script))
        self.assertEqual(
            (list(answer), answer.authentic, answer.ttl), (["192.0.2.3"], False, 20)
        )

    def test_cname_loops(self):
        stub = self.stub(
            lambda s, q: respond(
                q, "example.org. 50 IN CNAME b.example.", "b.example. 1 IN CNAME example.org."
            )
        )
        self.fails(r.CNAMEError, stub)

        def script(server, query):  # never ending, one at a time
            name = dns.message.from_wire(query).question[0].name.to_text()
            return respond(query, f"{name} 50 IN CNAME a.{name}")

        stub = self.stub(script)
        self.fails(r.CNAMEError, stub)
        self.assertLess(len(self.transport.asked), 20)

    def test_names_known_without_asking(self):
        stub = self.stub(a_record)
        self.assertEqual(list(self.get(stub, "a.localhost")), ["127.0.0.1"])
        self.fails(r.NoData, stub, "localhost", "MX")
        self.fails(r.NXDomain, stub, "x.invalid")
        self.fails(r.InvalidName, stub, "x..y")
        for name in ("a\\.b", "a\\000b", "a\nb", "a\0b"):
            self.fails(r.InvalidName, stub, name)
        self.assertEqual(self.transport.asked, [])

    def test_strange_but_legal_names_are_asked(self):
        def script(server, query):
            return respond(query)

        for name in ("a b.example", "@", '"x".example', "_a._b.example", "*.example", "."):
            self.fails(r.NoData, self.stub(script), name)

    def test_record_count_is_bounded(self):
        lines = [f"example.org. 9 IN A 10.0.{i >> 8}.{i & 255}" for i in range(900)]

        def script(server, query):
            message = dns.message.make_response(dns.message.from_wire(query))
            texts = [line.split()[-1] for line in lines]
            message.answer.append(dns.rrset.from_text("example.org.", 9, "IN", "A", *texts))
            return message.to_wire(max_size=65535)

        self.assertEqual(len(self.get(self.stub(script))), wire.MAX_RECORDS)


class TroubleTests(Base):
    def test_server_failure(self):
        stub = self.stub(lambda s, q: respond(q, rcode=2))
        self.assertIn("SERVFAIL", str(self.fails(r.ServFail, stub)))
        # Asked once: it did answer.
        self.assertEqual(len(self.transport.asked), 1)

    def test_extended_error(self):
        option = dns.edns.EDEOption(6, "no good")
        stub = self.stub(lambda s, q: respond(q, rcode=2, options=[option]))
        exc = self.fails(r.ServFail, stub)
        self.assertEqual((exc.extended, exc.dnssec), ((6, "no good"), True))

    def test_next_server_after_failure(self):
        def script(server, query):
            return a_record(server, query) if server.ip == "127.0.0.2" else respond(query, rcode=5)

        stub = self.stub(script, servers=["127.0.0.1", "127.0.0.2"])
        self.assertEqual(list(self.get(stub)), ["192.0.2.1"])
        self.assertEqual([ip for _, ip in self.transport.asked], ["127.0.0.1", "127.0.0.2"])

    def test_silence_then_retries_then_timeout(self):
        stub = self.stub(lambda s, q: None, servers=["127.0.0.1", "127.0.0.2"])
        d = self.look(stub)
        self.clock.pump([5] * 3)
        self.assertNoResult(d)
        self.clock.advance(5)
        self.failureResultOf(d, r.Timeout)
        self.assertEqual(len(self.transport.asked), 4)
        self.assertEqual(self.transport.cancelled, 4)

    def test_silent_server_is_asked_last_for_a_while(self):
        def script(server, query):
            return None if server.ip == "127.0.0.1" else a_record(server, query)

        stub = self.stub(script, servers=["127.0.0.1", "127.0.0.2"])
        d = self.look(stub)
        self.clock.advance(5)
        self.successResultOf(d)
        self.transport.asked.clear()
        self.fails(r.NoData, stub, "example.org", "MX")
        self.assertEqual(self.transport.asked, [("udp", "127.0.0.2")])
        self.clock.advance(31)
        self.transport.asked.clear()
        self.look(stub, "example.org", "TXT").addErrback(lambda _: None)
        self.assertEqual(self.transport.asked, [("udp", "127.0.0.1")])

    def test_total_time_is_bounded(self):
        stub = self.stub(lambda s, q: None, servers=[f"127.0.0.{i}" for i in range(1, 9)])
        d = self.look(stub)
        self.clock.pump([1] * 29)
        self.assertNoResult(d)
        self.clock.advance(1)
        self.failureResultOf(d, r.Timeout)

    def test_refused_connection_is_known_at_once(self):
        stub = self.stub(lambda s, q: ExchangeError("connection refused"))
        self.fails(r.ServFail, stub)

    def test_truncated_answer_is_asked_by_tcp(self):
        stub = self.stub(lambda s, q: respond(q, flags=dns.flags.TC), a_record)
        self.assertEqual(list(self.get(stub)), ["192.0.2.1"])
        self.assertEqual([kind for kind, _ in self.transport.asked], ["udp", "tcp"])

    def test_tcp_failing_or_silent(self):
        truncated = lambda s, q: respond(q, flags=dns.flags.TC)  # noqa: E731
        self.fails(r.ServFail, self.stub(truncated, lambda s, q: ExchangeError("refused")))
        d = self.look(self.stub(truncated, lambda s, q: None))
        self.clock.pump([5] * 2)
        self.failureResultOf(d, r.Timeout)

    def test_truncated_by_tcp_too(self):
        self.fails(r.BadAnswer, self.stub(lambda s, q: respond(q, flags=dns.flags.TC)))

    def test_forged_packets_lead_to_tcp(self):
        stub = self.stub(lambda s, q: Forged(), a_record)
        self.assertEqual(list(self.get(stub)), ["192.0.2.1"])

    def test_server_without_edns(self):
        def script(server, query):
            if query[11]:  # has an OPT record
                return struct.pack("!6H", int.from_bytes(query[:2]), 0x8181, 0, 0, 0, 0)
            return a_record(server, query)

        stub = self.stub(script)
        self.get(stub)
        self.assertEqual(len(self.transport.asked), 2)
        self.fails(r.NoData, stub, "example.org", "MX")  # remembered
        self.assertEqual(len(self.transport.asked), 3)

    def test_format_error_always(self):
        self.fails(r.ServFail, self.stub(lambda s, q: respond(q, rcode=1)))

    def test_referral_of_a_server_that_does_not_resolve(self):
        def script(server, query):
            message = dns.message.make_response(dns.message.from_wire(query))
            message.authority.append(
                dns.rrset.from_text("example.org.", 9, "IN", "NS", "ns.example.org.")
            )
            return message.to_wire()

        self.fails(r.ServFail, self.stub(script))

    def test_damaged_answers(self):
        stub = self.stub(lambda s, q: a_record(s, q) + b"junk")
        self.assertEqual(len(self.get(stub)), 1)  # what comes after does no harm
        for damage in (
            lambda data: data[:-1],
            lambda data: data[:12] + data[12:29] + b"\xc0\x1d" * 20,
            lambda data: data[:6] + b"\xff\xff" + data[8:],
        ):
            stub = self.stub(lambda s, q, damage=damage: damage(a_record(s, q)))
            self.fails(r.BadAnswer, stub)

    @settings(max_examples=150, deadline=None)
    @given(st.binary(max_size=200), st.integers(0, 0xFFFF))
    def test_hostile_answers_raise_dns_errors_only(self, junk, counts):
        query = wire.make_query(1, "example.org.", "TXT")
        data = query[:2] + b"\x81\x80\0\1" + counts.to_bytes(2) + b"\0\0\0\0" + query[12:-11]
        try:
            outcome, _ = wire.read_answer(data + junk, "example.org.", "TXT", trusted=True)
        except wire.NoEDNS:
            return
        self.assertIsInstance(outcome, r.Answer | r.DNSError)

    def test_cost_of_a_hostile_answer_is_bounded(self):
        # 64 KiB of records whose names are as long as can be, by pointers.
        query = wire.make_query(1, "example.org.", "MX", edns=False)
        name = b"\x01a" * 120 + b"\0"
        first = name + struct.pack("!HHIH", 15, 1, 9, 4) + b"\0\1\xc0" + bytes([len(query)])
        records = b"\xc0" + bytes([len(query)]) + struct.pack("!HHIH", 15, 1, 9, 4)
        records += b"\0\1\xc0" + bytes([len(query)])
        data = query[:2] + b"\x81\x80\0\1\xff\xff\0\0\0\0" + query[12:] + first
        data += records * ((65535 - len(data)) // len(records))
        started = time.process_time()
        outcome, _ = wire.read_answer(data, "example.org.", "MX", trusted=True)
        self.assertLess(time.process_time() - started, 2)
        self.assertIsInstance(outcome, r.NoData)

    def test_cost_of_pointers_into_a_long_name_is_bounded(self):
        query = wire.make_query(1, "example.org.", "PTR", edns=False)
        base = len(query)
        names = b"\x01a" * 120 + b"\0"
        data = query[:2] + b"\x81\x80\0\1\xff\xff\0\0\0\0" + query[12:]
        data += names + struct.pack("!HHIH", 16, 1, 9, 0)
        records = []
        for i in range(5000):
            pointer = (0xC000 | (base + 2 * (i % 100))).to_bytes(2)
            records.append(pointer + struct.pack("!HHIH", 12, 1, 9, 2) + pointer)
        started = time.process_time()
        outcome, _ = wire.read_answer(
            data + b"".join(records)[: 65535 - len(data)], "example.org.", "PTR", trusted=True
        )
        self.assertLess(time.process_time() - started, 2)
        self.assertIsInstance(outcome, r.DNSError)


class ReaderTests(SynchronousTestCase):
    """Our reader against dnspython's."""

    def read(self, lines, rtype, name="example.org.", **options):
        query = wire.make_query(1, name, rtype)
        return wire.read_answer(respond(query, *lines, **options), name, rtype, trusted=True)[0]

    def test_compressed_names(self):
        lines = [
            "example.org. 9 IN MX 1 a.example.org.",
            "example.org. 9 IN MX 2 b.a.example.org.",
            "example.org. 9 IN MX 3 .",
            "example.org. 9 IN MX 4 org.",
            "EXAMPLE.org. 7 IN MX 5 b.A.example.org.",
            "other.org. 7 IN MX 5 x.",
        ]
        answer = self.read(lines, "MX")
        self.assertEqual(
            [host for _, host in answer],
            ["a.example.org.", "b.a.example.org.", ".", "org.", "b.a.example.org."],
        )
        self.assertEqual(answer.ttl, 7)

    def test_odd_octets_in_names_are_escaped(self):
        answer = self.read([r"example.org. 9 IN PTR a\.b\032\255\\c.example.org."], "PTR")
        self.assertEqual(answer[0], r"a\.b\032\255\\c.example.org.")

    @settings(max_examples=100, deadline=None)
    @given(st.lists(st.lists(st.binary(min_size=1, max_size=20), max_size=6), min_size=1))
    def test_names_as_dnspython_reads_them(self, names):
        query = dns.message.make_query("example.org.", "PTR", id=1)
        response = dns.message.make_response(query)
        targets = [dns.name.Name([*labels, b""]) for labels in names]
        rrset = dns.rrset.RRset(dns.name.from_text("example.org."), 1, 12)
        for target in targets:
            rrset.add(dns.rdtypes.ANY.PTR.PTR(1, 12, target), 9)
        response.answer.append(rrset)
        data = response.to_wire(max_size=65535)
        outcome, _ = wire.read_answer(data, "example.org.", "PTR", trusted=True)
        expected = {dns.name.Name([x.lower() for x in rd.target.labels]) for rd in rrset}
        self.assertEqual({dns.name.from_text(text) for text in outcome}, expected)

    @settings(max_examples=100, deadline=None)
    @given(st.lists(st.binary(max_size=255), min_size=1, max_size=20))
    def test_txt(self, strings):
        query = dns.message.make_query("example.org.", "TXT", id=1)
        response = dns.message.make_response(query)
        rrset = dns.rrset.RRset(dns.name.from_text("example.org."), 1, 16)
        rrset.add(dns.rdtypes.ANY.TXT.TXT(1, 16, strings), 9)
        response.answer.append(rrset)
        data = response.to_wire(max_size=65535)
        outcome, _ = wire.read_answer(data, "example.org.", "TXT", trusted=True)
        self.assertEqual(outcome[0], b"".join(strings).decode("utf-8", "backslashreplace"))

    def test_pointer_loops_and_long_names(self):
        query = wire.make_query(1, "example.org.", "PTR", edns=False)
        start = len(query) + 12
        for target in (
            (0xC000 | start).to_bytes(2),
            b"\x01a" + (0xC000 | start).to_bytes(2),
            b"\xff\xff",
            b"\xc0\x00",
            b"\x41" + b"a" * 65 + b"\0",
            b"\x3f" + b"a" * 10,
            b"\x01a" * 128 + b"\0",
            b"",
            b"\x01a\0\0",
        ):
            data = query[:2] + b"\x81\x80\0\1\0\1\0\0\0\0" + query[12:] + b"\xc0\x0c"
            data += struct.pack("!HHIH", 12, 1, 9, len(target)) + target
            outcome, _ = wire.read_answer(data, "example.org.", "PTR", trusted=True)
            self.assertIsInstance(outcome, r.BadAnswer, target)

    def test_wrong_sizes(self):
        for rtype, number, rdata in (
            ("A", 1, b"123"),
            ("AAAA", 28, b"123"),
            ("MX", 15, b"1"),
            ("SRV", 33, b"12345"),
            ("TLSA", 52, b"12"),
            ("TXT", 16, b"\x05abc"),
            ("CAA", 257, b"\0"),
            ("SOA", 6, b"\0"),
        ):
            query = wire.make_query(1, "example.org.", rtype, edns=False)
            data = query[:2] + b"\x81\x80\0\1\0\1\0\0\0\0" + query[12:] + b"\xc0\x0c"
            data += struct.pack("!HHIH", number, 1, 9, len(rdata)) + rdata
            outcome, _ = wire.read_answer(data, "example.org.", rtype, trusted=True)
            self.assertIsInstance(outcome, r.BadAnswer, rtype)

    def test_extended_rcode(self):
        query = wire.make_query(1, "example.org.", "A")
        message = dns.message.make_response(dns.message.from_wire(query))
        message.set_rcode(16)
        self.assertRaises(
            wire.NoEDNS,
            wire.read_answer,
            message.to_wire(),
            "example.org.",
            "A",
            trusted=True,
        )
        message.set_rcode(23)
        outcome, _ = wire.read_answer(message.to_wire(), "example.org.", "A", trusted=True)
        self.assertIn("(23)", str(outcome))


class AnswerMatchTests(SynchronousTestCase):
    def test_id_question_and_kind(self):
        for edns in (True, False):
            query = wire.make_query(0x1234, "a.example.org.", "A", edns=edns)
            good = respond(query, "a.example.org. 9 IN A 192.0.2.1")
            self.assertTrue(wire.is_answer(query, good))
            self.assertTrue(wire.is_answer(query, good.replace(b"example", b"eXaMplE", 1)))
            other = wire.make_query(0x1234, "b.example.org.", "A")
            for bad in (
                query,
                b"",
                good[:11],
                good[:13],
                b"\x12\x35" + good[2:],
                respond(other),
                respond(wire.make_query(0x1234, "a.example.org.", "MX")),
                good[:4] + b"\0\0" + good[6:],
            ):
                self.assertFalse(wire.is_answer(query, bad))

    def test_query_form(self):
        query = wire.make_query(7, "example.org.", "MX")
        message = dns.message.from_wire(query)
        self.assertEqual(message.id, 7)
        self.assertEqual(message.flags, dns.flags.RD | dns.flags.AD)
        self.assertEqual((message.edns, message.payload, message.ednsflags), (0, 1232, 0))


class CacheTests(Base):
    def test_answers_are_kept_for_their_ttl(self):
        stub = self.stub(a_record)
        self.get(stub)
        self.clock.advance(299)
        answer = self.get(stub, "EXAMPLE.org.")
        self.assertEqual((len(self.transport.asked), answer.ttl), (1, 1))
        self.assertTrue(answer.authentic)
        self.clock.advance(1)
        self.get(stub)
        self.assertEqual(len(self.transport.asked), 2)

    def test_negative_answers_by_soa(self):
        stub = self.stub(lambda s, q: respond(q, rcode=3, authority=[SOA], ad=True))
        self.fails(r.NXDomain, stub)
        self.clock.advance(59)
        exc = self.fails(r.NXDomain, stub)
        self.assertEqual((exc.authentic, len(self.transport.asked)), (True, 1))
        self.clock.advance(1)
        self.fails(r.NXDomain, stub)
        self.assertEqual(len(self.transport.asked), 2)

    def test_negative_without_soa_and_failures_are_not_kept(self):
        for rcode, kind in ((3, r.NXDomain), (2, r.ServFail)):
            stub = self.stub(lambda s, q, rcode=rcode: respond(q, rcode=rcode))
            self.fails(kind, stub)
            self.fails(kind, stub)
            self.assertEqual(len(self.transport.asked), 2)

    def test_fresh_view_asks_anew(self):
        stub = self.stub(a_record)
        self.get(stub)
        self.get(stub.fresh())
        self.get(r.for_pkg(stub.fresh(), "admin"))
        self.assertEqual(len(self.transport.asked), 3)

    def test_bounds_on_entries_and_bytes(self):
        cache = Cache(max_entries=3, max_bytes=100_000)
        for i in range(5):
            cache.put((f"{i}.", "A"), r.Answer(("192.0.2.1",), False, 60), 0)
            cache.get(("1.", "A"), 0)
        self.assertEqual(len(cache), 3)
        self.assertIsNotNone(cache.get(("1.", "A"), 0))  # used lately
        self.assertIsNone(cache.get(("0.", "A"), 0))
        cache = Cache(max_entries=1000, max_bytes=100_000)
        for i in range(100):
            cache.put((f"{i}.", "TXT"), r.Answer(("x" * 5000,), False, 60), 0)
        self.assertLessEqual(cache.bytes, 100_000)
        self.assertGreater(len(cache), 5)
        cache.put(("big.", "TXT"), r.Answer(("x" * 50_000,), False, 60), 0)
        self.assertIsNone(cache.get(("big.", "TXT"), 0))

    def test_byte_count_returns_to_nothing(self):
        cache = Cache()
        for ttl in (5, 9):
            cache.put(("a.", "MX"), r.Answer((r.MX(1, "b."),), False, ttl), 0)
            cache.put(("b.", "TLSA"), r.Answer((r.TLSA(3, 1, 1, b"x"),), False, ttl), 0)
        cache.put(("c.", "A"), r.NoData("c.", "A", ttl=5), 0)
        for key in (("a.", "MX"), ("b.", "TLSA"), ("c.", "A")):
            self.assertIsNotNone(cache.get(key, 4))
            self.assertIsNone(cache.get(key, 9))
        self.assertEqual((cache.bytes, len(cache)), (0, 0))

    def test_ttl_is_capped(self):
        cache = Cache()
        cache.put(("a.", "A"), r.Answer(("192.0.2.1",), False, 10**6), 0)
        self.assertEqual(cache.get(("a.", "A"), 0).ttl, 3600)


class CoalescingTests(Base):
    def test_equal_lookups_share_a_query(self):
        stub = self.stub(lambda s, q: None)
        lookups = [self.look(stub) for _ in range(3)]
        self.assertEqual(len(self.transport.asked), 1)
        d, query = self.transport.pending[0]
        d.callback(a_record(None, query))
        for lookup in lookups:
            self.assertEqual(list(self.successResultOf(lookup)), ["192.0.2.1"])

    def test_each_gets_an_error_of_its_own(self):
        stub = self.stub(lambda s, q: None)
        lookups = [self.look(stub) for _ in range(2)]
        d, query = self.transport.pending[0]
        d.callback(respond(query, rcode=2, options=[dns.edns.EDEOption(6, "x")]))
        errors = [self.failureResultOf(lookup, r.ServFail).value for lookup in lookups]
        self.assertIsNot(*errors)
        self.assertEqual(str(errors[0]), str(errors[1]))
        self.assertEqual(errors[1].extended, (6, "x"))

    def test_one_may_leave(self):
        stub = self.stub(lambda s, q: None)
        first, second = self.look(stub), self.look(stub)
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.assertEqual(self.transport.cancelled, 0)
        second.cancel()
        self.failureResultOf(second, CancelledError)
        self.assertEqual(self.transport.cancelled, 1)
        third = self.look(stub)
        self.assertEqual(len(self.transport.asked), 2)
        third.cancel()
        self.failureResultOf(third, CancelledError)

    def test_questions_at_a_time_are_bounded(self):
        stub = self.stub(lambda s, q: None)
        lookups = [self.look(stub, f"{i}.example") for i in range(client.MAX_QUERIES + 5)]
        self.assertEqual(len(self.transport.asked), client.MAX_QUERIES)
        for d, query in list(self.transport.pending):
            d.callback(respond(query, rcode=3))
        self.assertEqual(len(self.transport.asked), client.MAX_QUERIES + 5)
        stub.stopService()
        for lookup in lookups[-5:]:
            self.failureResultOf(lookup, r.ServFail)
        for lookup in lookups[:-5]:
            self.failureResultOf(lookup, r.NXDomain)

    def test_bug_in_a_transport_is_a_temporary_error(self):
        def broken(server, query):
            return RuntimeError("broken")

        before = metrics.panic_total.labels("dns")._value.get()
        self.fails(r.ServFail, self.stub(broken))
        self.assertEqual(metrics.panic_total.labels("dns")._value.get(), before + 1)
        self.flushLoggedErrors()


class MetricTests(Base):
    def count(self, pkg, rtype, result):
        return metrics.REGISTRY.get_sample_value(
            "mox_dns_lookup_duration_seconds_count",
            {"pkg": pkg, "type": rtype, "result": result},
        ) or 0

    def test_results(self):
        pkg = f"test{random.randrange(10**9)}"
        stub = self.stub(a_record)
        self.get(r.for_pkg(stub, pkg))
        self.fails(r.NoData, r.for_pkg(stub, pkg), "example.org", "MX")
        self.fails(r.ServFail, r.for_pkg(self.stub(lambda s, q: respond(q, rcode=2)), pkg))
        silent = r.for_pkg(self.stub(lambda s, q: None), pkg)
        d, e = self.look(silent), self.look(silent)
        e.cancel()
        self.failureResultOf(e, CancelledError)
        self.clock.pump([5, 5])
        self.failureResultOf(d, r.Timeout)
        for rtype, result in (
            ("a", "ok"),
            ("mx", "nxdomain"),
            ("a", "temporary"),
            ("a", "canceled"),
            ("a", "timeout"),
        ):
            self.assertEqual(self.count(pkg, rtype, result), 1, result)


class ResolvConfTests(SynchronousTestCase):
    def test_parse(self):
        conf = resolvconf.parse(
            "# comment\n; other\nnameserver 192.0.2.53\nnameserver fe80::1%eth0\n"
            "nameserver bogus\nnameserver 192.0.2.53\nsearch example.org\n"
            "options timeout:2 attempts:4 edns0 ndots:5 timeout:x\n"
        )
        self.assertEqual([s.ip for s in conf.servers], ["192.0.2.53", "fe80::1%eth0"])
        self.assertEqual((conf.timeout, conf.attempts), (2, 4))
        self.assertFalse(conf.servers[0].trusted)

    def test_bounds(self):
        conf = resolvconf.parse(
            "options timeout:9999 attempts:9999\n"
            + "".join(f"nameserver 192.0.2.{i}\n" for i in range(50))
        )
        self.assertEqual((conf.timeout, conf.attempts, len(conf.servers)), (30, 5, 8))

    def test_missing_file_means_this_machine(self):
        conf = resolvconf.read(self.mktemp())
        self.assertEqual(conf.servers, (resolvconf.Server("127.0.0.1", 53, True),))

    def test_configured_servers(self):
        conf = resolvconf.configured(["192.0.2.1", "192.0.2.1:5353", "::1", "[::1]:5353"])
        self.assertEqual(
            [(s.ip, s.port, s.trusted) for s in conf.servers],
            [
                ("192.0.2.1", 53, True),
                ("192.0.2.1", 5353, True),
                ("::1", 53, True),
                ("::1", 5353, True),
            ],
        )
        for bad in ("", "localhost", "1.2.3.4:", "1.2.3.4:0", "1.2.3.4:99999", "[::1]x", "[::1"):
            if bad == "[::1":
                continue
            self.assertRaises(ValueError, resolvconf.configured, [bad])

    @given(st.text(max_size=200))
    def test_junk(self, text):
        self.assertTrue(resolvconf.parse("nameserver " + text).servers)
        self.assertTrue(resolvconf.parse("options " + text).servers)


class OfflineTests(Base):
    def test_silence_is_not_waited_for_again(self):
        stub = self.stub(lambda s, q: None)
        offline = r.OfflineResolver(stub, clock=self.clock)
        d = self.look(offline)
        self.clock.advance(r.OfflineResolver.patience)
        self.failureResultOf(d, r.NoData)
        asked = len(self.transport.asked)
        self.fails(r.NoData, offline, "other.example")
        self.assertEqual(len(self.transport.asked), asked)
        self.clock.advance(r.OfflineResolver.pause)
        d = self.look(offline, "third.example")
        self.assertEqual(len(self.transport.asked), asked + 1)
        d.cancel()
        self.failureResultOf(d)
