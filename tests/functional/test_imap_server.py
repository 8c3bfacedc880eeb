"""The IMAP server over sockets: Python's imaplib, real TLS, client certificates, PROXY, threads."""

from __future__ import annotations

import base64
import datetime
import imaplib
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
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

from moxtw.config.testing import FixedConfig
from moxtw.imap.context import IMAPContext, IMAPListener
from moxtw.imap.factory import IMAPServerFactory
from moxtw.net.certs import fingerprint, load_key_pair, self_signed
from moxtw.net.cid import ConnectionIds
from moxtw.net.listen import listen_tcp, wrap_factory
from moxtw.net.tls import ServerTLS
from moxtw.ratelimit import (
    connection_rate_limiter,
    failed_auth_limiter,
    open_connections_limiter,
)
from moxtw.sasl import client as sasl_client
from moxtw.sasl import password
from moxtw.store import accounts, credentials, verify
from moxtw.store.auth import Authenticator, LoginAccount
from moxtw.store.credentials import TLSKey
from moxtw.store.db import Store

ADDRESS = "me@example.org"
PASSWORD = "secret password"
VERIFIERS = password.derive(PASSWORD, cost=4)


class Directory:
    def login_account(self, username: str) -> LoginAccount | None:
        return LoginAccount("me", ADDRESS) if username == ADDRESS else None


def client_certificate() -> tuple[str, bytes]:
    """A client's certificate: the fingerprint of its key, and both as PEM."""
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


def insecure(version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = version
    return context


class Lines:
    """A client over a blocking socket."""

    def __init__(self, port: int, first: bytes = b"") -> None:
        self.sock: Any = socket.create_connection(("127.0.0.1", port), timeout=20)
        self.buffer = b""
        self.sock.sendall(first)

    def line(self) -> bytes:
        while b"\r\n" not in self.buffer:
            data = self.sock.recv(65536)
            if not data:
                return b"<eof>"
            self.buffer += data
        line, _, self.buffer = self.buffer.partition(b"\r\n")
        return line

    def ask(self, command: bytes) -> list[bytes]:
        self.sock.sendall(b"t " + command + b"\r\n")
        lines = [self.line()]
        while not lines[-1].startswith((b"t ", b"+ ", b"<eof>")):
            lines.append(self.line())
        return lines


class ServerCase(TestCase):
    timeout = 60

    async def setUp(self) -> None:
        self.store = Store(self.mktemp(), reactor)
        self.store.startService()
        self.addCleanup(self.store.stopService)

        def setup(tx: Any) -> int:
            account = accounts.ensure(tx, "me")
            credentials.set_password(tx, account.id, VERIFIERS)
            return account.id

        self.account_id = await self.store.write(setup)
        self.failed_auth = failed_auth_limiter()
        self.authenticator = Authenticator(self.store, Directory(), self.failed_auth)
        self.app = IMAPContext(
            reactor=reactor,
            store=self.store,
            config=FixedConfig(),  # type: ignore[arg-type]
            authenticator=self.authenticator,
            cids=ConnectionIds(bytes(24), 1),
            connection_rate=connection_rate_limiter(),
            open_connections=open_connections_limiter(),
            failed_auth=self.failed_auth,
            version="1",
        )
        cert, key = self_signed(["mail.example.org", "localhost"])
        self.pair = load_key_pair(cert, key)

    async def add_key(self, key: str, preauth: bool = True) -> None:
        row = TLSKey(key, 1, "ecdsa-p256", "laptop", not preauth, b"", "me", ADDRESS)
        await self.store.write(lambda tx: credentials.add_tls_key(tx, row))
        await self.authenticator.reload_keys()

    def serve(self, kind: str = "imap", *, proxy: bool = False, **more: Any) -> int:
        """Listen; the port."""
        tls = ServerTLS(
            [self.pair],
            clock=reactor,
            unknown_name="fallback",
            known_key=self.authenticator.known_key,
        )
        listener = IMAPListener("test", kind, "mail.example.org", tls, client_auth=True)
        factory = IMAPServerFactory(self.app, replace(listener, **more))
        wrapped = wrap_factory(
            factory, reactor, proxy=proxy, tls=tls if kind == "imaps" else None
        )
        port: Any = listen_tcp(reactor, "127.0.0.1", 0, wrapped)

        async def close() -> None:
            await port.stopListening()
            gone: Deferred[None] = Deferred()

            def wait() -> None:
                if factory.connections:
                    reactor.callLater(0.01, wait)  # type: ignore[attr-defined]
                else:
                    gone.callback(None)

            for connection in list(factory.connections):
                connection.abort()
            wait()
            await gone

        self.addCleanup(lambda: Deferred.fromCoroutine(close()))
        number: int = port.getHost().port
        return number

    async def client(self, fn: Callable[..., Any], *args: Any) -> Any:
        """Run a blocking client."""
        return await deferToThread(fn, *args)


class ImaplibTests(ServerCase):
    async def test_daily_work(self) -> None:
        port = self.serve("imaps")

        def run() -> None:
            with imaplib.IMAP4_SSL("127.0.0.1", port, ssl_context=insecure()) as imap:
                assert "AUTH=PLAIN" in imap.capabilities
                imap.login(ADDRESS, PASSWORD)
                for number in range(5):
                    text = f"Subject: number {number}\r\n\r\nbody {number}\r\n".encode()
                    kind, data = imap.append("INBOX", r"(\Flagged)", None, text)
                    assert kind == "OK" and b"APPENDUID" in data[0], data
                assert imap.select("INBOX") == ("OK", [b"5"])
                assert imap.search(None, "SUBJECT", '"number 3"') == ("OK", [b"4"])
                kind, data = imap.fetch("1:2", "(FLAGS BODY[TEXT])")
                assert [part[1] for part in data if isinstance(part, tuple)] == [
                    b"body 0\r\n",
                    b"body 1\r\n",
                ]
                assert imap.store("1:3", "+FLAGS", r"(\Deleted)")[0] == "OK"
                assert imap.copy("4", "Archive")[0] == "OK"
                assert imap.uid("MOVE", "5", "Trash")[0] == "OK"
                # imaplib still holds the EXPUNGE of the MOVE.
                assert imap.expunge() == ("OK", [b"5", b"3", b"2", b"1"])
                assert imap.status("Archive", "(MESSAGES)") == ("OK", [b"Archive (MESSAGES 1)"])
                assert imap.create("new/box")[0] == "OK"
                kind, names = imap.list()
                assert any(name.endswith(b" new/box") for name in names)
                assert imap.close()[0] == "OK"

        await self.client(run)
        self.assertEqual(await verify.verify_account(self.store, "me"), [])

    async def test_starttls_and_mechanisms(self) -> None:
        port = self.serve()

        def run() -> None:
            with imaplib.IMAP4("127.0.0.1", port) as imap:
                assert "LOGINDISABLED" in imap.capabilities
                imap.starttls(insecure())
                assert "LOGINDISABLED" not in imap.capabilities
                assert "STARTTLS" not in imap.capabilities
                imap.authenticate("CRAM-MD5", lambda challenge: _cram(challenge))
                imap.select("INBOX")

        await self.client(run)


def _cram(challenge: bytes) -> bytes:
    machine = sasl_client.start(
        sasl_client.Choice("CRAM-MD5", False), sasl_client.Credentials(ADDRESS, PASSWORD)
    )
    machine.initial()
    return machine.step(challenge) or b""


class TLSTests(ServerCase):
    async def test_plain_text_behind_starttls_is_never_executed(self) -> None:
        port = self.serve(plain_allowed=True)

        def run() -> list[bytes]:
            lines = Lines(port)
            lines.line()
            lines.sock.sendall(
                b'a STARTTLS\r\nb LOGIN me@example.org "secret password"\r\nc SELECT INBOX\r\n'
            )
            got = [lines.line()]
            assert not lines.buffer
            lines.sock = insecure().wrap_socket(lines.sock)
            # Whatever had been executed would be answered first.
            got += lines.ask(b"SELECT INBOX")
            got += lines.ask(b"STARTTLS")
            return got

        got = await self.client(run)
        self.assertTrue(got[0].startswith(b"a OK go ahead with TLS ("), got)
        self.assertEqual(
            got[1:],
            [b"t NO SELECT is not possible in this state", b"t BAD TLS is active already"],
        )

    async def test_channel_binding(self) -> None:
        port = self.serve()

        def run(version: int, name: str, wrong: bool) -> bytes:
            sock = socket.create_connection(("127.0.0.1", port), timeout=20)
            sock.recv(1000)
            sock.sendall(b"a STARTTLS\r\n")
            sock.recv(1000)
            context = SSL.Context(SSL.TLS_CLIENT_METHOD)
            context.set_max_proto_version(version)
            tls = SSL.Connection(context, sock)
            sock.setblocking(True)
            tls.set_connect_state()
            tls.do_handshake()
            if name == "tls-exporter":
                data = tls.export_keying_material(b"EXPORTER-Channel-Binding", 32, b"")
            else:
                data = tls.get_finished()
            if wrong:
                data = b"x" + data[1:]
            machine = sasl_client.start(
                sasl_client.Choice("SCRAM-SHA-256-PLUS", True),
                sasl_client.Credentials(ADDRESS, PASSWORD, channel_binding=(name, data)),
            )
            initial = base64.b64encode(machine.initial() or b"")
            tls.send(b"b AUTHENTICATE SCRAM-SHA-256-PLUS " + initial + b"\r\n")
            while (line := tls.recv(4000)).startswith(b"+ "):
                response = machine.step(base64.b64decode(line[2:]))
                tls.send(base64.b64encode(response or b"") + b"\r\n")
            return line

        for version, name in ((SSL.TLS1_3_VERSION, "tls-exporter"),
                              (SSL.TLS1_2_VERSION, "tls-unique")):  # fmt: skip
            line = await self.client(run, version, name, False)
            self.assertTrue(line.startswith(b"b OK [CAPABILITY "), line)
            line = await self.client(run, version, name, True)
            self.assertTrue(line.startswith(b"b NO [AUTHENTICATIONFAILED] "), line)

    async def test_client_certificates(self) -> None:
        port = self.serve("imaps")
        plain_port = self.serve()
        known, pem = client_certificate()
        _, other_pem = client_certificate()
        await self.add_key(known)

        def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
            made = []
            for number, text in enumerate((pem, other_pem)):
                path = Path(f"client{number}.pem")
                path.write_bytes(text)
                context = insecure()
                context.load_cert_chain(path)
                made.append(context)
            return made[0], made[1]

        right, wrong = contexts()

        def preauth() -> list[bytes]:
            lines = Lines(port)
            lines.sock = right.wrap_socket(lines.sock)
            return [lines.line(), *lines.ask(b"SELECT INBOX")[-1:]]

        def unknown() -> bytes:
            lines = Lines(port)
            try:
                lines.sock = wrong.wrap_socket(lines.sock)
                return lines.line()
            except OSError as exc:
                return str(exc).encode()

        def starttls() -> list[bytes]:
            lines = Lines(plain_port)
            lines.line()
            lines.ask(b"STARTTLS")
            lines.sock = right.wrap_socket(lines.sock)
            return [*lines.ask(b"SELECT INBOX"), *lines.ask(b"AUTHENTICATE EXTERNAL =")]

        greeting, selected = await self.client(preauth)
        self.assertTrue(greeting.startswith(b"* PREAUTH [CAPABILITY "), greeting)
        self.assertTrue(selected.startswith(b"t OK [READ-WRITE]"), selected)
        self.assertNotIn(b"OK", await self.client(unknown))
        refused, accepted = await self.client(starttls)
        self.assertEqual(refused, b"t NO SELECT is not possible in this state")
        self.assertTrue(accepted.startswith(b"t OK [CAPABILITY "), accepted)

    async def test_proxy(self) -> None:
        port = self.serve("imaps", proxy=True)
        self.failed_auth.add("192.0.2.99", reactor.seconds(), 10)  # type: ignore[attr-defined]

        def run(ip: bytes) -> bytes:
            lines = Lines(port, b"PROXY TCP4 " + ip + b" 127.0.0.1 1234 993\r\n")
            lines.sock = insecure().wrap_socket(lines.sock)
            return lines.line()

        self.assertTrue((await self.client(run, b"192.0.2.98")).startswith(b"* OK ["))
        self.assertTrue((await self.client(run, b"192.0.2.99")).startswith(b"* BYE "))


class ConcurrencyTests(ServerCase):
    async def test_many_clients_on_one_mailbox(self) -> None:
        """Each appends, flags, expunges its own; at the end all see the same."""
        port = self.serve(plain_allowed=True)
        clients, rounds = 6, 15
        barrier = threading.Barrier(clients)

        def run(number: int) -> list[bytes]:
            lines = Lines(port)
            lines.line()
            lines.ask(b'LOGIN me@example.org "secret password"')
            lines.ask(b"SELECT INBOX")
            for count in range(rounds):
                text = b"Subject: %d\r\n\r\n%d\r\n" % (number, count)
                append = b"APPEND INBOX {%d+}\r\n%b" % (len(text), text)
                answer = lines.ask(append)[-1]
                assert b"APPENDUID" in answer, answer
                uid = answer.split(b"]")[0].split()[-1]
                if count % 3 == 0:
                    lines.ask(b"UID STORE %b +FLAGS.SILENT (\\Deleted)" % uid)
                    assert lines.ask(b"UID EXPUNGE %b" % uid)[-1].startswith(b"t OK")
            barrier.wait(30)
            lines.ask(b"NOOP")
            seen = [
                line.split(b"(")[1] for line in lines.ask(b"UID FETCH 1:* (UID)")[:-1]
            ]
            assert lines.ask(b"LOGOUT")[-1].startswith(b"t OK")
            return seen

        results = await _gather([self.client(run, number) for number in range(clients)])
        for seen in results:
            self.assertEqual(seen, results[0])
        self.assertEqual(len(results[0]), clients * (rounds - rounds // 3))
        self.assertEqual(await verify.verify_account(self.store, "me"), [])

    async def test_idle_hears_at_once(self) -> None:
        port = self.serve(plain_allowed=True)

        def connect() -> Lines:
            lines = Lines(port)
            lines.line()
            lines.ask(b'LOGIN me@example.org "secret password"')
            lines.ask(b"SELECT INBOX")
            return lines

        def run() -> list[bytes]:
            one, two = connect(), connect()
            one.ask(b"IDLE")
            two.ask(b"APPEND INBOX {3+}\r\nabc")
            return [one.line(), one.line()]

        self.assertEqual(
            await self.client(run), [b"* 1 EXISTS", b"* 1 FETCH (UID 1 FLAGS ())"]
        )


    async def test_client_that_closes_its_side_gets_its_answers(self) -> None:
        port = self.serve(plain_allowed=True)

        def run(rest: bytes) -> list[bytes]:
            with socket.create_connection(("127.0.0.1", port), 20) as sock:
                sock.sendall(b'a LOGIN me@example.org "secret password"\r\n' + rest)
                sock.shutdown(socket.SHUT_WR)
                with sock.makefile("rb") as file:
                    return file.read().splitlines()

        append = b"APPEND INBOX {3+}\r\nabc\r\n"
        lines = await self.client(
            run, b"b %bc %bd SELECT INBOX\r\ne SEARCH ALL\r\nf %b" % (append, append, append)
        )
        tagged = [line[:4] for line in lines if line[:1] not in b"*+"]
        self.assertEqual(tagged, [b"%c OK" % tag for tag in b"abcdef"])
        self.assertIn(b"* SEARCH 1 2", lines)
        # In the middle of a literal, of a line, of IDLE: the connection ends.
        for rest in (b"b APPEND INBOX {9+}\r\nabc", b"b NOOP", b"b IDLE\r\n"):
            lines = await self.client(run, rest)
            self.assertEqual(lines[1][:4], b"a OK", rest)
        self.assertEqual(await verify.verify_account(self.store, "me"), [])

    async def test_notify_hears_at_once_and_costs_nothing_in_between(self) -> None:
        port = self.serve(plain_allowed=True)
        tls_port = self.serve("imaps")
        events = b"(MessageNew MessageExpunge FlagChange)"

        def connect(secure: bool) -> Lines:
            lines = Lines(tls_port if secure else port)
            if secure:
                lines.sock = insecure().wrap_socket(lines.sock)
            lines.line()
            lines.ask(b'LOGIN me@example.org "secret password"')
            lines.ask(b"SELECT INBOX")
            return lines

        reads: list[object] = []
        read = self.store.read

        def counted(job: Any) -> Any:
            reads.append(job)
            return read(job)

        self.patch(self.store, "read", counted)

        def run() -> tuple[list[list[bytes]], int]:
            watchers = [connect(secure) for secure in (False, True)]
            silent = connect(False)
            for lines in watchers:
                lines.ask(b"NOTIFY SET (SELECTED %b) (PERSONAL %b)" % (events, events))
            silent.ask(b"NOTIFY NONE")
            silent.ask(b"IDLE")
            writer = connect(False)
            writer.ask(b"APPEND INBOX {3+}\r\nabc")
            heard = [[lines.line(), lines.line()] for lines in watchers]
            writer.ask(b"APPEND Archive {3+}\r\nabc")
            for lines, told in zip(watchers, heard, strict=True):
                told.append(lines.line())
            # Nobody asks the store when nothing happens.
            before = len(reads)
            for _ in range(20):
                writer.ask(b"CAPABILITY")
            return heard, len(reads) - before

        heard, used = await self.client(run)
        for told in heard:
            self.assertEqual(
                told,
                [
                    b"* 1 EXISTS",
                    b"* 1 FETCH (UID 1 FLAGS ())",
                    b"* STATUS Archive (UIDNEXT 2 MESSAGES 1 UNSEEN 1)",
                ],
            )
        self.assertEqual(used, 0)


class MemoryTests(ServerCase):
    async def test_idle_sessions_are_small(self) -> None:
        """Both ends of each connection are in this process, so the bound is a loose one."""
        port = self.serve(plain_allowed=True)
        self.app.open_connections._windows = ()
        count = 200

        def memory() -> int:
            return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

        def connect() -> Lines:
            lines = Lines(port)
            lines.line()
            lines.ask(b'LOGIN me@example.org "secret password"')
            lines.ask(b"SELECT INBOX")
            lines.ask(b"IDLE")
            return lines

        def run() -> tuple[float, list[bytes]]:
            first = [connect() for _ in range(20)]
            before = memory()
            clients = [connect() for _ in range(count)]
            grown = (memory() - before) / count
            first[0].sock.sendall(b"DONE\r\n")
            first[0].ask(b"APPEND INBOX {3+}\r\nabc")
            heard = [client.line() for client in clients]
            for client in first + clients:
                client.sock.close()
            return grown, heard

        grown, heard = await self.client(run)
        self.assertLess(grown, 40_000)
        self.assertEqual(heard, [b"* 1 EXISTS"] * count)


async def _gather(coroutines: list[Any]) -> list[Any]:
    started = [Deferred.fromCoroutine(coroutine) for coroutine in coroutines]
    return [await each for each in started]
