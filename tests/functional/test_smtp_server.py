"""The SMTP server over sockets, with real TLS and clients of other makers."""

from __future__ import annotations

import base64
import contextlib
import datetime
import smtplib
import socket
import ssl
from collections.abc import Callable
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from OpenSSL import SSL
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from moxtw.net.certs import fingerprint, load_key_pair, self_signed
from moxtw.net.listen import listen_tcp, wrap_factory
from moxtw.net.tls import ServerTLS
from moxtw.sasl import client
from moxtw.store import credentials
from tests.support.smtp import PASSWORD, World, now_or_later
from tests.support.store import job

MESSAGE = "From: <a@example.net>\r\nTo: <me@example.org>\r\nSubject: hi\r\n\r\n.body\r\n"


def insecure(version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = version
    return context


def client_certificate() -> tuple[str, bytes]:
    """A certificate of a client: (fingerprint of its key, PEM with key)."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "laptop")])
    now = datetime.datetime.now(datetime.UTC)
    cert = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ) + cert.public_bytes(serialization.Encoding.PEM)
    return fingerprint(cert), pem


class Lines:
    """A client over a blocking socket."""

    def __init__(self, sock: Any) -> None:
        self.sock = sock
        self.buffer = b""

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def line(self) -> bytes:
        while b"\r\n" not in self.buffer:
            data = self.sock.recv(4096)
            if not data:
                return b"<eof>"
            self.buffer += data
        line, _, self.buffer = self.buffer.partition(b"\r\n")
        return line

    def reply(self) -> bytes:
        """The last line of a reply."""
        while (line := self.line())[3:4] == b"-":
            pass
        return line

    def ask(self, line: str) -> bytes:
        self.send(line.encode() + b"\r\n")
        return self.reply()


class ServerCase(TestCase):
    timeout = 60

    def setUp(self) -> None:
        self.world = World(self, reactor=reactor)
        cert, key = self_signed(["mail.example.org", "localhost"])
        self.pair = load_key_pair(cert, key)

    def serve(
        self, kind: str = "smtp", *, tls: bool = True, proxy: bool = False, **options: Any
    ) -> int:
        """Listen; the port."""
        known_key = self.world.authenticator.known_key if kind != "smtp" else None
        server_tls = None
        if tls:
            server_tls = ServerTLS(
                [self.pair], clock=reactor, unknown_name="fallback", known_key=known_key
            )
        factory = self.world.factory(
            kind,
            tls=server_tls,
            require_tls_to_send=kind != "smtp",
            client_certificates=kind != "smtp",
            **options,
        )
        wrapped = wrap_factory(
            factory, reactor, proxy=proxy, tls=server_tls if kind == "submissions" else None
        )
        port: Any = listen_tcp(reactor, "127.0.0.1", 0, wrapped)

        async def close() -> None:
            await port.stopListening()
            factory.abort()
            await factory.shutdown()

        self.addCleanup(lambda: Deferred.fromCoroutine(close()))
        number: int = port.getHost().port
        return number

    async def client(self, fn: Callable[..., Any], *args: Any) -> Any:
        """Run a blocking client."""
        return await deferToThread(fn, *args)


def connect(port: int, first: bytes = b"") -> Lines:
    sock = socket.create_connection(("127.0.0.1", port), timeout=20)
    lines = Lines(sock)
    if first:
        lines.send(first)
    assert lines.reply().startswith(b"220 ")
    return lines


class DeliveryTests(ServerCase):
    async def test_smtplib_with_starttls(self) -> None:
        port = self.serve()

        def run() -> None:
            with smtplib.SMTP("127.0.0.1", port, "client.example", timeout=20) as smtp:
                smtp.ehlo()
                assert smtp.has_extn("starttls")
                smtp.starttls(context=insecure())
                smtp.ehlo()
                assert not smtp.has_extn("starttls")
                smtp.sendmail("a@example.net", ["me@example.org", "you@example.org"], MESSAGE)

        await self.client(run)
        [message] = self.world.mailbox("me")
        self.assertTrue(message.endswith(MESSAGE.encode()))
        unfolded = message.replace(b"\r\n\t", b" ")
        self.assertRegex(unfolded, rb"with ESMTPS id \S+ \(TLS1\.3 TLS_[A-Z0-9_]+\) for <me@")

    async def test_plain_text_behind_starttls_is_never_executed(self) -> None:
        port = self.serve()

        def run() -> list[bytes]:
            lines = connect(port)
            lines.ask("EHLO client.example")
            lines.send(
                b"STARTTLS\r\nEHLO evil.example\r\nMAIL FROM:<evil@example.net>\r\n"
                b"RCPT TO:<me@example.org>\r\nNOOP\r\n"
            )
            got = [lines.reply()]
            assert not lines.buffer
            lines.sock = insecure().wrap_socket(lines.sock)
            # Whatever had been executed would be answered first, and EHLO be known.
            got.append(lines.ask("MAIL FROM:<a@example.net>"))
            lines.ask("EHLO client.example")
            got.append(lines.ask("RCPT TO:<me@example.org>"))
            got.append(lines.ask("QUIT"))
            return got

        got = await self.client(run)
        self.assertEqual([line[:3] for line in got], [b"220", b"503", b"503", b"221"])

    async def test_client_that_does_not_wait_for_the_reply_to_starttls(self) -> None:
        port = self.serve()

        def run() -> bytes:
            lines = connect(port)
            lines.ask("EHLO client.example")
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            tls = insecure().wrap_bio(incoming, outgoing)
            with contextlib.suppress(ssl.SSLWantReadError):
                tls.do_handshake()
            lines.send(b"STARTTLS\r\n" + outgoing.read())
            assert lines.reply().startswith(b"220 ")
            incoming.write(lines.buffer)
            while True:
                try:
                    tls.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    lines.send(outgoing.read())
                    incoming.write(lines.sock.recv(65536))
            tls.write(b"NOOP\r\n")
            lines.send(outgoing.read())
            while True:
                try:
                    return tls.read()
                except ssl.SSLWantReadError:
                    incoming.write(lines.sock.recv(65536))

        self.assertTrue((await self.client(run)).startswith(b"250 2.0.0 "))

    async def test_handshake_that_fails(self) -> None:
        port = self.serve()

        def run() -> bytes:
            lines = connect(port)
            lines.ask("EHLO client.example")
            lines.ask("STARTTLS")
            lines.send(b"this is no TLS at all\r\n")
            data = b""
            while chunk := lines.sock.recv(4096):
                data += chunk
            return data

        got = await self.client(run)
        self.assertNotIn(b"500", got)

    async def test_large_message_and_its_memory(self) -> None:
        port = self.serve(max_size=30 << 20)
        body = "x" * 998 + "\r\n"

        def run() -> None:
            with smtplib.SMTP("127.0.0.1", port, "client.example", timeout=40) as smtp:
                smtp.sendmail("a@example.net", ["me@example.org"], MESSAGE + body * 10_000)

        await self.client(run)
        [message] = self.world.mailbox("me")
        self.assertTrue(message.endswith((MESSAGE + body * 10_000).encode()))

    async def test_reply_reaches_a_client_that_goes_on_sending_too_much(self) -> None:
        port = self.serve(max_size=1 << 20)

        def run() -> bytes:
            lines = connect(port)
            for line in ("EHLO x.example", "MAIL FROM:<a@example.net>", "RCPT TO:<me@example.org>"):
                lines.ask(line)
            lines.ask("DATA")
            for _ in range(40):
                lines.send(b"x" * 65_536 + b"\r\n")
            return lines.reply()

        self.assertTrue((await self.client(run)).startswith(b"451 4.2.3 "))

    async def test_reply_to_an_endless_line(self) -> None:
        port = self.serve()

        def run() -> list[bytes]:
            lines = connect(port)
            lines.send(b"x" * 1_000_000)
            return [lines.reply(), lines.line()]

        got = await self.client(run)
        self.assertTrue(got[0].startswith(b"500 5.5.0 "), got)
        self.assertEqual(got[1], b"<eof>")

    async def test_client_that_never_reads(self) -> None:
        port = self.serve()

        def run() -> int:
            sock = socket.create_connection(("127.0.0.1", port), timeout=1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sent = 0
            try:
                while sent < 64 << 20:
                    sent += sock.send(b"NOOP\r\n" * 10_000)
            except TimeoutError:
                pass
            finally:
                sock.close()
            return sent

        # The server stops reading once its replies are not taken.
        self.assertLess(await self.client(run), 64 << 20)

    async def test_proxy_protocol(self) -> None:
        port = self.serve(tls=False, proxy=True)

        def run() -> list[bytes]:
            lines = connect(port, b"PROXY TCP4 198.51.100.7 192.0.2.99 40000 25\r\n")
            return [
                lines.ask(line)
                for line in (
                    "EHLO client.example",
                    "MAIL FROM:<a@example.net>",
                    "RCPT TO:<me@example.org>",
                    "DATA",
                    MESSAGE + ".",
                    "QUIT",
                )
            ]

        got = await self.client(run)
        self.assertEqual([g[:3] for g in got], [b"250", b"250", b"250", b"354", b"250", b"221"])
        [message] = self.world.mailbox("me")
        self.assertIn(
            b"([198.51.100.7]) by mail.example.org ([192.0.2.99])",
            message.replace(b"\r\n\t", b" "),
        )

    async def test_proxy_protocol_and_starttls(self) -> None:
        port = self.serve(proxy=True)

        def run() -> bytes:
            lines = connect(port, b"PROXY TCP4 198.51.100.7 192.0.2.99 40000 25\r\n")
            lines.ask("EHLO client.example")
            lines.ask("STARTTLS")
            lines.sock = insecure().wrap_socket(lines.sock)
            lines.ask("EHLO client.example")
            return lines.ask("MAIL FROM:<a@example.net> REQUIRETLS")

        self.assertTrue((await self.client(run)).startswith(b"250 "))

    async def test_client_that_sends_everything_and_closes_its_side(self) -> None:
        commands = (
            b"EHLO client.example\r\nMAIL FROM:<a@example.net>\r\nRCPT TO:<me@example.org>\r\n"
            b"DATA\r\n" + MESSAGE.encode() + b".\r\nNOOP\r\n"
        )

        def run(port: int, first: bytes) -> bytes:
            with socket.create_connection(("127.0.0.1", port), timeout=20) as sock:
                sock.sendall(first + commands)
                sock.shutdown(socket.SHUT_WR)
                with sock.makefile("rb") as file:
                    return file.read()

        for proxy in (False, True):
            port = self.serve(tls=False, proxy=proxy)
            got = await self.client(run, port, b"PROXY UNKNOWN\r\n" if proxy else b"")
            codes = [line[:3] for line in got.splitlines() if line[3:4] == b" "]
            self.assertEqual(codes, [b"220", b"250", b"250", b"250", b"354", b"250", b"250"])
        self.assertEqual(len(self.world.mailbox("me")), 2)

    async def test_no_greeting_without_proxy_header(self) -> None:
        port = self.serve(tls=False, proxy=True)

        def run() -> bytes:
            sock = socket.create_connection(("127.0.0.1", port), timeout=20)
            sock.sendall(b"EHLO client.example\r\n")
            try:
                return sock.recv(100)
            except ConnectionResetError:
                return b""

        self.assertEqual(await self.client(run), b"")


class SubmissionTests(ServerCase):
    async def test_smtplib_login_with_each_mechanism(self) -> None:
        port = self.serve("submission")

        def run(mechanism: str) -> tuple[int, bytes]:
            with smtplib.SMTP("127.0.0.1", port, timeout=20) as smtp:
                smtp.ehlo()
                assert smtp.esmtp_features["auth"].strip() == ""
                smtp.starttls(context=insecure())
                smtp.ehlo()
                smtp.user, smtp.password = "me@example.org", PASSWORD
                method = getattr(smtp, "auth_" + mechanism.lower().replace("-", "_"))
                return smtp.auth(mechanism, method)

        for mechanism in ("PLAIN", "LOGIN", "CRAM-MD5"):
            self.assertEqual((await self.client(run, mechanism))[0], 235)

    async def test_implicit_tls(self) -> None:
        port = self.serve("submissions")

        def run() -> None:
            with smtplib.SMTP_SSL("127.0.0.1", port, timeout=20, context=insecure()) as smtp:
                smtp.login("me@example.org", PASSWORD)
                smtp.sendmail("me@example.org", ["b@example.net"], MESSAGE)

        await self.client(run)
        [request] = self.world.submitted
        self.assertRegex(request.received.replace(b"\r\n\t", b" "), rb"with ESMTPSA id \S+ \(TLS1")

    async def test_channel_binding_tls_exporter(self) -> None:
        port = self.serve("submissions")

        def run() -> bytes:
            sock = socket.create_connection(("127.0.0.1", port), timeout=None)
            connection = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), sock)
            connection.set_connect_state()
            connection.do_handshake()
            binding = connection.export_keying_material(b"EXPORTER-Channel-Binding", 32, b"")
            return scram_plus(Lines(connection), ("tls-exporter", binding))

        self.assertTrue((await self.client(run)).startswith(b"235 "))

    async def test_channel_binding_tls_unique(self) -> None:
        port = self.serve("submissions")

        def run(wrong: bool) -> bytes:
            sock = socket.create_connection(("127.0.0.1", port), timeout=20)
            tls = insecure(ssl.TLSVersion.TLSv1_2).wrap_socket(sock)
            binding = tls.get_channel_binding("tls-unique") or b""
            return scram_plus(Lines(tls), ("tls-unique", b"x" if wrong else binding))

        self.assertTrue((await self.client(run, False)).startswith(b"235 "))
        self.assertTrue((await self.client(run, True)).startswith(b"535 5.7.7"))

    async def test_client_certificate(self) -> None:
        name, pem = client_certificate()
        path = self.mktemp()
        with open(path, "wb") as f:
            f.write(pem)

        def login(port: int, starttls: bool) -> list[bytes]:
            context = insecure()
            context.load_cert_chain(path)
            sock = socket.create_connection(("127.0.0.1", port), timeout=20)
            lines = Lines(sock)
            if starttls:
                lines.reply()
                lines.ask("EHLO x")
                lines.ask("STARTTLS")
            try:
                lines.sock = context.wrap_socket(sock)
                if not starttls:
                    lines.reply()
                lines.ask("EHLO x")
                return [lines.ask("MAIL FROM:<me@example.org>"), lines.ask("AUTH EXTERNAL =")]
            except OSError:
                return []

        submissions, submission = self.serve("submissions"), self.serve("submission")
        # An unknown key does not get through the handshake.
        for port, starttls in ((submissions, False), (submission, True)):
            got = await self.client(login, port, starttls)
            self.assertFalse([g for g in got if g != b"<eof>"])
        job(
            self.world.store,
            credentials.add_tls_key,
            credentials.TLSKey(
                fingerprint=name,
                created=0,
                type="ecdsa-p256",
                name="laptop",
                no_imap_preauth=False,
                cert_der=b"",
                account="me",
                login_address="me@example.org",
            ),
        )
        now_or_later(self.world.authenticator.reload_keys())
        for port, starttls in ((submissions, False), (submission, True)):
            got = await self.client(login, port, starttls)
            self.assertEqual([g[:3] for g in got], [b"250", b"503"])


def scram_plus(lines: Lines, binding: tuple[str, bytes]) -> bytes:
    lines.reply()
    lines.ask("EHLO x")
    credentials = client.Credentials("me@example.org", PASSWORD, channel_binding=binding)
    machine = client.start(client.Choice("SCRAM-SHA-256-PLUS"), credentials)
    initial = machine.initial()
    assert initial is not None
    reply = lines.ask("AUTH SCRAM-SHA-256-PLUS " + base64.b64encode(initial).decode())
    while reply.startswith(b"334 "):
        challenge = base64.b64decode(reply[4:])
        if challenge.startswith(b"e="):
            reply = lines.ask("*")
        else:
            reply = lines.ask(base64.b64encode(machine.step(challenge)).decode())
    return reply
