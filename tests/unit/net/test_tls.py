"""TLS contexts, by handshakes in memory."""

import contextlib
import datetime
import gc

from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL
from twisted.internet.interfaces import (
    IOpenSSLClientConnectionCreator,
    IOpenSSLServerConnectionCreator,
)
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.test import iosim
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from moxtw.net import certs, tls, tlsclient, tlsinfo


def pair(*names, ecdsa=True, **options):
    return certs.load_key_pair(*certs.self_signed(names, ecdsa=ecdsa, **options))


def pem(key_pair):
    return key_pair.chain[0].public_bytes(Encoding.PEM)


MAIL = pair("mail.example", "localhost")
MAIL_RSA = pair("mail.example", ecdsa=False)
OTHER = pair("other.example", "*.wild.example")
CLIENT = pair("client.example")


class HandshakeFailure(Exception):
    """Which side failed, and how: (side, reason of OpenSSL)."""


def pump(source, target):
    try:
        data = source.bio_read(65536)
    except SSL.WantReadError:
        return 0
    target.bio_write(data)
    return len(data)


def handshake(client, server):
    """Drive both sides to the end of the handshake, tickets included."""
    server.set_accept_state()
    client.set_connect_state()
    failure = None
    done = set()
    for _ in range(20):
        for name, side in (("client", client), ("server", server)):
            if name in done or failure:
                continue
            try:
                side.do_handshake()
                done.add(name)
            except SSL.WantReadError:
                pass
            except SSL.Error as exc:
                failure = (name, exc.args[0][-1][2] if exc.args and exc.args[0] else str(exc))
        if not pump(client, server) + pump(server, client) and (failure or len(done) == 2):
            break
    # What one side notices only when reading: alerts and tickets.
    for name, side in (("client", client), ("server", server)):
        try:
            side.recv(1)
        except SSL.WantReadError:
            pass
        except SSL.Error as exc:
            if failure is None or failure[0] != name:
                failure = failure or (name, exc.args[0][-1][2])
                raise HandshakeFailure(failure, exc.args[0][-1][2]) from exc
    if failure:
        raise HandshakeFailure(failure)
    return client, server


class Base(SynchronousTestCase):
    def setUp(self):
        self.clock = Clock()

    def server(self, *pairs, **options):
        return tls.ServerTLS(pairs or [MAIL, OTHER], clock=self.clock, **options)

    def client(self, name=None, *, version=None, again=None, pair=None, alpn=(), tune=None):
        """A client; ``again`` is an earlier one, whose session it tries to take up."""
        if again is not None:
            connection = SSL.Connection(again.get_context(), None)
            connection.set_session(again.get_session())
            if name:
                connection.set_tlsext_host_name(name)
            return connection
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        if version:
            context.set_min_proto_version(version)
            context.set_max_proto_version(version)
        if pair:
            context.use_certificate(pair.chain[0])
            context.use_privatekey(pair.key)
        if alpn:
            context.set_alpn_protos(list(alpn))
        if tune:
            tune(context)
        connection = SSL.Connection(context, None)
        if name:
            connection.set_tlsext_host_name(name)
        return connection

    def served(self, server, name=None, **options):
        client, _ = handshake(self.client(name, **options), server.connection())
        return client.get_peer_certificate().to_cryptography()


class NameTests(Base):
    def test_certificate_by_server_name(self):
        server = self.server()
        for name, expected in (
            (None, MAIL),
            (b"mail.example", MAIL),
            (b"LOCALHOST", MAIL),
            (b"other.example", OTHER),
            (b"a.wild.example", OTHER),
        ):
            with self.subTest(name=name):
                self.assertEqual(self.served(server, name), expected.chain[0])

    def test_unknown_name_fails_with_its_alert(self):
        server = self.server()
        for name in (b"unknown.example", b"wild.example", b"a.b.wild.example", b"\xff.example"):
            for version in (SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION):
                with self.subTest(name=name, version=version):
                    with self.assertRaises(HandshakeFailure) as caught:
                        handshake(self.client(name, version=version), server.connection())
                    self.assertIn("unrecognized name", str(caught.exception))

    def test_unknown_name_falls_back_to_the_first(self):
        server = self.server(unknown_name="fallback")
        self.assertEqual(self.served(server, b"unknown.example"), MAIL.chain[0])
        self.assertEqual(self.served(server, b"other.example"), OTHER.chain[0])
        self.assertEqual(server.chosen("x.example"), (MAIL,))

    def test_key_types_of_one_name(self):
        server = self.server(OTHER, MAIL, MAIL_RSA)
        for ciphers, expected in ((b"ECDHE-ECDSA-AES128-GCM-SHA256", MAIL),
                                  (b"ECDHE-RSA-AES128-GCM-SHA256", MAIL_RSA)):  # fmt: skip
            got = self.served(
                server,
                b"mail.example",
                version=SSL.TLS1_2_VERSION,
                tune=lambda context, ciphers=ciphers: context.set_cipher_list(ciphers),
            )
            self.assertEqual(got, expected.chain[0])

    def test_without_certificates_all_fails(self):
        server = tls.ServerTLS([], clock=self.clock, unknown_name="fallback")
        self.assertRaises(HandshakeFailure, handshake, self.client(), server.connection())
        server.set_pairs([MAIL])
        self.assertEqual(self.served(server), MAIL.chain[0])

    def test_chain_is_sent(self):
        longer = certs.KeyPair(MAIL.key, (*MAIL.chain, *OTHER.chain), MAIL.names, ())
        client, _ = handshake(self.client(), self.server(longer).connection())
        chain = [cert.to_cryptography() for cert in client.get_peer_cert_chain()]
        self.assertEqual(chain, [MAIL.chain[0], OTHER.chain[0]])

    def test_serving_many_names_outlives_renewed_contexts(self):
        server = self.server()
        connection = server.connection()
        client = self.client(b"other.example")
        self.clock.advance(90_000)
        server.connection()  # renews
        server.set_pairs([OTHER, MAIL])
        gc.collect()
        handshake(client, connection)


class VersionTests(Base):
    def test_minimum_version(self):
        server = self.server(min_version="TLSv1.3")
        with self.assertRaises(HandshakeFailure):
            handshake(self.client(version=SSL.TLS1_2_VERSION), server.connection())
        handshake(self.client(version=SSL.TLS1_2_VERSION), self.server().connection())

    def test_old_version_when_configured(self):
        def weak(context):
            context.set_cipher_list(b"DEFAULT:@SECLEVEL=0")

        old = self.client(version=SSL.TLS1_VERSION, tune=weak)
        self.assertRaises(HandshakeFailure, handshake, old, self.server().connection())
        _, server = handshake(
            self.client(version=SSL.TLS1_VERSION, tune=weak),
            self.server(min_version="TLSv1.0").connection(),
        )
        self.assertEqual(tls.tls_version(server), "TLS1.0")

    def test_version_names(self):
        self.assertRaises(ValueError, tls.parse_version, "TLSv9")
        self.assertEqual(tls.parse_version("TLSv1.2"), SSL.TLS1_2_VERSION)

    def test_twisted_interfaces(self):
        verifyObject(IOpenSSLServerConnectionCreator, self.server())
        verifyObject(
            IOpenSSLServerConnectionCreator, self.server().without_client_certificates()
        )
        verifyObject(
            IOpenSSLClientConnectionCreator,
            tlsclient.ClientTLS("a", tlsclient.Roots(system=False), verify=True),
        )


class TicketTests(Base):
    def resumes(self, server, version, **options):
        client, _ = handshake(self.client(version=version, **options), server.connection())
        _, second = handshake(
            self.client(version=version, again=client, **options), server.connection()
        )
        return tlsinfo.resumed(second), client

    def test_sessions_are_resumed(self):
        for version in (SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION):
            self.assertTrue(self.resumes(self.server(), version)[0])
            self.assertTrue(self.resumes(self.server(), version, name=b"other.example")[0])

    def test_switched_off_none_is_resumed_nor_offered(self):
        for version in (SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION):
            for name in (None, b"other.example"):
                server = self.server(tickets=False)
                self.assertFalse(self.resumes(server, version, name=name)[0])
        # Nothing at all follows the handshake of TLS 1.3, in which tickets come as messages.
        for tickets in (True, False):
            client = self.client(version=SSL.TLS1_3_VERSION)
            server = self.server(tickets=tickets).connection()
            server.set_accept_state()
            client.set_connect_state()
            for _ in range(2):
                for side in (client, server):
                    with contextlib.suppress(SSL.WantReadError):
                        side.do_handshake()
                    if side is client:
                        pump(client, server)
                    elif server.get_state_string() != b"SSL negotiation finished successfully":
                        pump(server, client)
            server.do_handshake()
            self.assertEqual(pump(server, client) > 0, tickets)

    def test_new_ticket_keys_every_day(self):
        server = self.server()
        client = self.resumes(server, SSL.TLS1_3_VERSION)[1]
        self.clock.advance(24 * 3600 - 1)
        _, later = handshake(self.client(again=client), server.connection())
        self.assertTrue(tlsinfo.resumed(later))
        self.clock.advance(1)
        _, later = handshake(self.client(again=client), server.connection())
        self.assertFalse(tlsinfo.resumed(later))

    def test_tickets_of_another_socket_are_not_taken(self):
        client = self.resumes(self.server(), SSL.TLS1_2_VERSION)[1]
        _, other = handshake(self.client(again=client), self.server().connection())
        self.assertFalse(tlsinfo.resumed(other))


class ClientCertificateTests(Base):
    def test_known_key(self):
        known = certs.fingerprint(CLIENT.chain[0])
        asked = []

        def known_key(fingerprint):
            asked.append(fingerprint)
            return fingerprint == known

        server = self.server(known_key=known_key)
        for version in (SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION):
            _, connection = handshake(
                self.client(b"other.example", version=version, pair=CLIENT), server.connection()
            )
            self.assertEqual(tls.peer_fingerprint(connection), known)
        self.assertEqual(set(asked), {known})

    def test_unknown_key_fails_the_handshake(self):
        server = self.server(known_key=lambda fingerprint: False)
        for version in (SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION):
            with self.assertRaises(HandshakeFailure) as caught:
                handshake(self.client(version=version, pair=CLIENT), server.connection())
            self.assertEqual(caught.exception.args[0][0], "server")

    def test_certificate_is_not_required(self):
        server = self.server(known_key=lambda fingerprint: False)
        _, connection = handshake(self.client(), server.connection())
        self.assertIsNone(tls.peer_fingerprint(connection))

    def test_not_asked_for(self):
        for creator in (
            self.server(known_key=lambda f: False).without_client_certificates(),
            self.server(),
        ):
            _, connection = handshake(
                self.client(pair=CLIENT), creator.serverConnectionForTLS(None)
            )
            self.assertIsNone(tls.peer_fingerprint(connection))

    def test_expired_certificate_of_known_key_is_fine(self):
        old = pair("x", now=datetime.datetime(2001, 1, 1, tzinfo=datetime.UTC), years=1)
        server = self.server(known_key=lambda f: f == certs.fingerprint(old.chain[0]))
        handshake(self.client(pair=old), server.connection())

    def test_error_in_the_check_is_a_refusal(self):
        def broken(fingerprint):
            raise RuntimeError("broken")

        server = self.server(known_key=broken)
        with self.assertRaises(HandshakeFailure):
            handshake(self.client(pair=CLIENT), server.connection())

    def test_resumed_session_still_knows_the_key(self):
        known = {certs.fingerprint(CLIENT.chain[0])}
        server = self.server(known_key=known.__contains__)
        for version in (SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION):
            client, _ = handshake(
                self.client(version=version, pair=CLIENT), server.connection()
            )
            _, connection = handshake(self.client(again=client), server.connection())
            self.assertTrue(tlsinfo.resumed(connection))
            self.assertEqual({tls.peer_fingerprint(connection)}, known)


class ALPNTests(Base):
    def test_first_of_ours_that_is_offered(self):
        server = self.server(alpn=[b"imap", b"http/1.1"])
        for name in (None, b"other.example"):
            _, connection = handshake(
                self.client(name, alpn=[b"h2", b"http/1.1", b"imap"]), server.connection()
            )
            self.assertEqual(tls.tls_info(connection).alpn, "imap")

    def test_no_overlap_fails_and_no_offer_is_fine(self):
        server = self.server(alpn=[b"imap"])
        with self.assertRaises(HandshakeFailure):
            handshake(self.client(alpn=[b"h2"]), server.connection())
        handshake(self.client(), server.connection())

    def test_ignored_when_none_is_configured(self):
        _, connection = handshake(self.client(alpn=[b"imap"]), self.server().connection())
        self.assertEqual(tls.tls_info(connection).alpn, "")


class InfoTests(Base):
    def test_text(self):
        client, server = handshake(
            self.client(b"Other.example", version=SSL.TLS1_2_VERSION), self.server().connection()
        )
        info = tls.tls_info(server)
        self.assertEqual(info.version, "TLS1.2")
        self.assertEqual(info.version_number, 0x0303)
        self.assertRegex(info.cipher, "^TLS_ECDHE_ECDSA_WITH_AES_(128|256)_GCM_SHA(256|384)$")
        self.assertIn(info.cipher_number, (0xC02B, 0xC02C))
        self.assertEqual(
            info.text,
            f"version=TLS1.2 ciphersuite={info.cipher} sni=other.example resumed=false alpn=",
        )
        _, server = handshake(self.client(), self.server().connection())
        info = tls.tls_info(server)
        self.assertEqual((info.version, info.version_number), ("TLS1.3", 0x0304))
        self.assertTrue(info.cipher.startswith("TLS_AES_"))
        self.assertNotEqual(info.cipher_number, 0)

    def test_iana_names(self):
        for ours, name in {
            "ECDHE-RSA-AES128-GCM-SHA256": "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
            "ECDHE-ECDSA-AES256-SHA384": "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA384",
            "ECDHE-RSA-CHACHA20-POLY1305": "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
            "AES128-SHA": "TLS_RSA_WITH_AES_128_CBC_SHA",
            "ECDHE-ECDSA-AES128-CCM8": "TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8",
            "TLS_AES_128_GCM_SHA256": "TLS_AES_128_GCM_SHA256",
            "": "",
        }.items():
            self.assertEqual(tlsinfo.iana_cipher_name(ours), name)

    def test_channel_binding_is_the_same_on_both_sides(self):
        server = self.server()
        for version, kind in ((SSL.TLS1_2_VERSION, "tls-unique"),
                              (SSL.TLS1_3_VERSION, "tls-exporter")):  # fmt: skip
            again = None
            seen = set()
            for _ in range(2):
                ends = handshake(
                    self.client(version=version, again=again), server.connection()
                )
                ours = tls.channel_binding(ends[1])
                self.assertEqual(ours, tls.channel_binding(ends[0], server=False))
                self.assertEqual(ours[0], kind)
                self.assertGreaterEqual(len(ours[1]), 12)
                seen.add(ours)
                again = ends[0]
            self.assertTrue(tlsinfo.resumed(ends[1]))
            self.assertEqual(len(seen), 2)


class Peer(Protocol):
    def __init__(self):
        self.received = b""
        self.lost = None

    def dataReceived(self, data):
        self.received += data

    def connectionLost(self, reason):
        self.lost = reason


class ClientTests(Base):
    """The client side, over Twisted's TLS layer."""

    def connect(self, server, client):
        ours, theirs = Peer(), Peer()
        s = TLSMemoryBIOFactory(
            server, False, Factory.forProtocol(lambda: ours), self.clock
        ).buildProtocol(None)
        c = TLSMemoryBIOFactory(
            client, True, Factory.forProtocol(lambda: theirs), self.clock
        ).buildProtocol(None)
        pump = iosim.connect(
            s, iosim.makeFakeServer(s), c, iosim.makeFakeClient(c), greet=False
        )
        pump.flush()
        theirs.transport.write(b"hello")
        ours.transport.write(b"welcome")
        self.clock.advance(0)
        pump.flush()
        return ours, theirs

    def roots(self, *pairs):
        return tlsclient.Roots(system=False, pems=[pem(p) for p in pairs])

    def test_verified(self):
        client = tlsclient.ClientTLS("mail.example.", self.roots(MAIL), verify=True)
        ours, theirs = self.connect(self.server(), client)
        self.assertEqual((ours.received, theirs.received), (b"hello", b"welcome"))
        self.assertIsNone(client.problem)
        connection = tls.tls_connection(ours.transport)
        self.assertEqual(tls.tls_info(connection).server_name, "mail.example")
        self.assertIsNone(tls.tls_connection(Peer()))

    def test_localhost_and_wildcard(self):
        for name, pair_ in (("localhost", MAIL), ("a.wild.example", OTHER)):
            client = tlsclient.ClientTLS(name, self.roots(pair_), verify=True)
            self.assertEqual(self.connect(self.server(), client)[0].received, b"hello")

    def refused(self, client, kind, server=None):
        ours, theirs = self.connect(server or self.server(), client)
        self.assertEqual((ours.received, theirs.received), (b"", b""))
        self.assertEqual(client.problem.kind, kind)
        self.assertIsNotNone(theirs.lost)

    def test_untrusted(self):
        client = tlsclient.ClientTLS("mail.example", self.roots(OTHER), verify=True)
        self.refused(client, tlsclient.NOT_TRUSTED)

    def test_wrong_name(self):
        server = self.server(unknown_name="fallback")
        client = tlsclient.ClientTLS("x.example", self.roots(MAIL), verify=True)
        self.refused(client, tlsclient.HOST_MISMATCH, server)
        client = tlsclient.ClientTLS("192.0.2.1", self.roots(MAIL), verify=True)
        self.refused(client, tlsclient.HOST_MISMATCH, server)

    def test_address(self):
        own = certs.load_key_pair(*certs.self_signed(["m.example"], ["192.0.2.1"]))
        client = tlsclient.ClientTLS("192.0.2.1", self.roots(own), verify=True)
        ours, _ = self.connect(self.server(own), client)
        self.assertEqual(ours.received, b"hello")

    def test_expired(self):
        old = pair("m.example", now=datetime.datetime(2001, 1, 1, tzinfo=datetime.UTC))
        client = tlsclient.ClientTLS("m.example", self.roots(old), verify=True)
        self.refused(client, tlsclient.EXPIRED, self.server(old))

    def test_opportunistic_records_the_problem(self):
        client = tlsclient.ClientTLS("mail.example", self.roots(), verify=False)
        ours, theirs = self.connect(self.server(), client)
        self.assertEqual((ours.received, theirs.received), (b"hello", b"welcome"))
        self.assertEqual(client.problem.kind, tlsclient.NOT_TRUSTED)
        client = tlsclient.ClientTLS("mail.example", self.roots(MAIL), verify=False)
        self.connect(self.server(), client)
        self.assertIsNone(client.problem)

    def test_check_sees_the_chain_and_can_refuse(self):
        seen = []
        client = tlsclient.ClientTLS(
            "mail.example", self.roots(), verify=False, check=seen.append
        )
        self.assertEqual(self.connect(self.server(), client)[0].received, b"hello")
        self.assertEqual(seen, [[MAIL.chain[0]]])

        def refuse(chain):
            raise ValueError("no match")

        for version in ("TLSv1.2", "TLSv1.3"):
            client = tlsclient.ClientTLS(
                "mail.example", self.roots(), verify=False, check=refuse
            )
            ours, theirs = self.connect(self.server(min_version=version), client)
            self.assertEqual((ours.received, theirs.received), (b"", b""))
            theirs.lost.trap(ValueError)

    def test_own_certificate(self):
        server = self.server(known_key=lambda f: f == certs.fingerprint(CLIENT.chain[0]))
        client = tlsclient.ClientTLS("mail.example", self.roots(MAIL), verify=True, pair=CLIENT)
        self.assertEqual(self.connect(server, client)[0].received, b"hello")
        stranger = tlsclient.ClientTLS(
            "mail.example", self.roots(MAIL), verify=True, pair=OTHER
        )
        ours, theirs = self.connect(server, stranger)
        self.assertEqual(ours.received, b"")
        self.assertIsNotNone(theirs.lost)

    def test_bad_roots(self):
        self.assertRaises(certs.CertError, tlsclient.Roots, system=False, pems=[b"junk"])

    def test_problem_reads_well(self):
        self.assertEqual(tlsclient.crypto_error_text(10), "certificate has expired")
