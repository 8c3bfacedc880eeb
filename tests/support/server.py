"""A real server in a process of its own, on loopback, for tests and benchmarks.

::

    server = MailServer(directory, accounts={"mjl": ["mjl@a.example"]})
    server.start()               # returns when it serves; raises ServerError with its log
    server.ports.smtp            # all on server.ip
    server.kill()                # SIGKILL
    server.start()               # again, on the same data
    server.stop()                # SIGTERM
    server.check()               # raises ServerError unless what it stored is consistent

All calls block, with deadlines. ``LiveCase`` is a test case that cleans up behind servers and
tells their log when a test fails.
"""

from __future__ import annotations

import imaplib
import itertools
import os
import random
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from moxtw.net.certs import self_signed
from moxtw.sasl import password as passwords
from moxtw.store import accounts as account_ops
from moxtw.store import credentials, mailboxes, messages, verify
from moxtw.store.db import Store
from moxtw.store.model import Delivery, NewMessage
from moxtw.store.tx import Tx
from tests.support.nameserver import BackgroundNameServer, Zone
from tests.support.store import now

T = TypeVar("T")

ROOT = Path(__file__).resolve().parents[2]

PASSWORD = "correct horse 42"
"""The password of all accounts."""

_SPF = {"TXT": ['"v=spf1 ip4:127.0.0.0/8 ip6:::1 ?all"']}

ZONE: Zone = {
    "a.example": {"MX": ["10 mail.a.example."], "A": ["127.0.0.1"], **_SPF},
    "mail.a.example": {"A": ["127.0.0.1"]},
    "b.example": {"MX": ["10 mail.b.example."], **_SPF},
    "mail.b.example": {"A": ["127.0.0.1"]},
    "pf.example": {"MX": ["10 pf.example."], "A": ["127.0.0.1"], **_SPF},
    "client.example": {"A": ["127.0.0.1"], **_SPF},
    "load.example": {"A": ["127.0.0.1"], **_SPF},
    "localhost": {"A": ["127.0.0.1"]},
    "1.0.0.127.in-addr.arpa": {"PTR": ["localhost."]},
}
"""What servers find in DNS unless a test says otherwise."""

START_SECONDS = 60
STOP_SECONDS = 15
POLL_SECONDS = 0.02
CLIENT_SECONDS = 30
READY = b"ready to serve"


class ServerError(Exception):
    """A server did not start, stop, or keep its data as it must."""


def poll(
    ready: Callable[[], T | None], seconds: float, what: str, interval: float = POLL_SECONDS
) -> T:
    """Call `ready` until it gives something true, and return that. Raises TimeoutError."""
    end = time.monotonic() + seconds
    while True:
        result = ready()
        if result:
            return result
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {seconds:g} s")
        time.sleep(interval)


def expect_ok(answer: tuple[str, list[Any]]) -> list[Any]:
    """The data of imaplib's answer. Raises AssertionError unless it was OK."""
    status, data = answer
    if status != "OK":
        raise AssertionError(f"{status}: {data!r}")
    return data


def smarthost(port: int, *domains: str, starttls: bool = True) -> dict[str, Any]:
    """Options for a server that passes mail for the domains (all, if none) on to a local port.

    With STARTTLS, without a check of the certificate.
    """
    transport = {
        "Host": "localhost",
        "Port": port,
        ("STARTTLSInsecureSkipVerify" if starttls else "NoSTARTTLS"): True,
    }
    route: dict[str, Any] = {"Transport": "smarthost"}
    if domains:
        route["ToDomain"] = list(domains)
    return {
        "static": {"Transports": {"smarthost": {"SMTP": transport}}},
        "dynamic": {"Routes": [route]},
    }


# One for each port that was given: held until this process ends, so that no other takes the port.
_claims: list[socket.socket] = []


def free_port(ip: str = "127.0.0.1") -> int:
    """A TCP port that nobody listens on, and that no test was given before.

    Below the range from which the system takes ports for outgoing connections, so that none of
    those takes it before it is used. A name in the abstract space of Unix sockets (unix(7)) tells
    the tests in other processes that the port is taken.
    """
    for _ in range(200):
        port = random.randrange(12000, 32000)
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0moxtw-test-port-{port}")
            with socket.socket() as sock:
                sock.bind((ip, port))
        except OSError:
            claim.close()
            continue
        _claims.append(claim)
        return port
    raise ServerError("no free port")


def may_bind(ip: str, port: int) -> bool:
    """Whether this process may listen there, and nobody does."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((ip, port))
        except OSError:
            return False
    return True


@dataclass
class Ports:
    """Where a server listens."""

    smtp: int
    submission: int
    submissions: int
    imap: int
    imaps: int
    http: int
    metrics: int


def sconf(value: Any, depth: int = 0) -> str:
    """Configuration text of nested dicts and lists; None for what has no value."""
    indent = "\t" * depth
    lines = []
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if inner is None:
                lines.append(f"{indent}{key}: nil\n")
            elif isinstance(inner, (Mapping, list, tuple)):
                lines.append(f"{indent}{key}:\n{sconf(inner, depth + 1)}")
            else:
                lines.append(f"{indent}{key}: {_scalar(inner)}\n")
    else:
        for inner in value:
            if isinstance(inner, (Mapping, list, tuple)):
                lines.append(f"{indent}-\n{sconf(inner, depth + 1)}")
            else:
                lines.append(f"{indent}- {_scalar(inner)}\n")
    return "".join(lines)


def _scalar(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


class MailServer:
    """One server with its directory.

    accounts: their names, with addresses; the hosted domains are those of the addresses.
    resolver: ``ip:port`` of the name server that it asks. smtp_port: the port for mail of
    other servers, by default a free one. static and dynamic are merged into the two
    configuration files, account_options into each account, listener into the only listener.
    """

    def __init__(
        self,
        directory: str | Path,
        *,
        accounts: Mapping[str, Sequence[str]],
        hostname: str = "mail.a.example",
        ip: str = "127.0.0.1",
        smtp_port: int = 0,
        resolver: str = "127.0.0.1:1",
        log_level: str = "debug",
        listener: Mapping[str, Any] | None = None,
        static: Mapping[str, Any] | None = None,
        dynamic: Mapping[str, Any] | None = None,
        account_options: Mapping[str, Any] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.directory = Path(directory).absolute()
        self.data_dir = self.directory / "data"
        self.log_path = self.directory / "log"
        self.accounts = {name: list(addresses) for name, addresses in accounts.items()}
        self.hostname = hostname
        self.ip = ip
        self.ports = Ports(smtp_port or free_port(ip), *(free_port(ip) for _ in range(6)))
        self._resolver = resolver
        self._log_level = log_level
        self._listener = dict(listener or {})
        self._static = dict(static or {})
        self._dynamic = dict(dynamic or {})
        self._account_options = dict(account_options or {})
        self._environment = dict(environment or {})
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0
        self._write()

    # -- Files -------------------------------------------------------------------------

    def _write(self) -> None:
        config = self.directory / "config"
        config.mkdir(parents=True)
        cert, key = self_signed([self.hostname, "localhost"], [self.ip])
        (config / "cert.pem").write_bytes(cert)
        (config / "key.pem").write_bytes(key)
        (config / "mox.conf").write_text(sconf(self._static_conf()))
        (config / "domains.conf").write_text(sconf(self._dynamic_conf()))

    @property
    def config_path(self) -> Path:
        """mox.conf."""
        return self.directory / "config" / "mox.conf"

    @property
    def certificate(self) -> Path:
        """The certificate of all its ports, which clients can also take as root."""
        return self.directory / "config" / "cert.pem"

    def _static_conf(self) -> dict[str, Any]:
        def service(name: str, **more: Any) -> dict[str, Any]:
            return {"Enabled": True, "Port": getattr(self.ports, name), **more}

        listener = {
            "IPs": [self.ip],
            "TLS": {"KeyCerts": [{"CertFile": "cert.pem", "KeyFile": "key.pem"}]},
            "SMTP": service("smtp", FirstTimeSenderDelay="0s"),
            "Submission": service("submission", NoRequireSTARTTLS=True),
            "Submissions": service("submissions"),
            "IMAP": service("imap", NoRequireSTARTTLS=True),
            "IMAPS": service("imaps"),
            "AccountHTTP": service("http", Path="/account/"),
            "AdminHTTP": service("http"),
            "WebmailHTTP": service("http"),
            "WebAPIHTTP": service("http"),
            "MetricsHTTP": service("metrics"),
        }
        listener.update(self._listener)
        first = next(iter(self.accounts))
        conf: dict[str, Any] = {
            "DataDir": "../data",
            "LogLevel": self._log_level,
            "User": os.getuid(),
            "NoFixPermissions": True,
            "Hostname": self.hostname,
            "Resolvers": [self._resolver],
            "ConnectionLimitExemptions": ["127.0.0.0/8", "::1/128"],
            "Listeners": {"local": listener},
            "Postmaster": {"Account": first, "Mailbox": "Postmaster"},
        }
        conf.update(self._static)
        return conf

    def _dynamic_conf(self) -> dict[str, Any]:
        domains: dict[str, Any] = {}
        accounts: dict[str, Any] = {}
        for name, addresses in self.accounts.items():
            for address in addresses:
                domains.setdefault(address.rpartition("@")[2], None)
            accounts[name] = {
                "Domain": addresses[0].rpartition("@")[2],
                "Destinations": dict.fromkeys(addresses),
                "NoFirstTimeSenderDelay": True,
                **self._account_options,
            }
        conf: dict[str, Any] = {"Domains": domains, "Accounts": accounts}
        conf.update(self._dynamic)
        return conf

    def edit_store(self, job: Callable[[Tx], T]) -> T:
        """Run a job on the store, while the server does not run."""
        return self._with_store(lambda store: now(store.write(job)))

    def fill(
        self,
        contents: Iterable[bytes],
        mailbox: str = "Inbox",
        account: str = "",
        flags: Callable[[int], int] = lambda number: 0,
        received: Callable[[int], int | None] = lambda number: None,
        delivery: Callable[[int], Delivery] = lambda number: Delivery(),
    ) -> int:
        """Put messages into a mailbox, while the server does not run; returns how many.

        flags, received and delivery give those of each, by its number from 0.
        """
        if not self.data_dir.exists():
            self._set_passwords()
        name = account or next(iter(self.accounts))
        numbered = enumerate(contents)

        def put(store: Store) -> int:
            count = 0
            while piece := list(itertools.islice(numbered, 1000)):
                made = [
                    NewMessage(
                        store.contents.from_bytes_now(data),
                        flags=flags(number),
                        received=received(number),
                        delivery=delivery(number),
                    )
                    for number, data in piece
                ]

                def job(tx: Tx, made: list[NewMessage] = made) -> None:
                    account_id = account_ops.ensure(tx, name).id
                    box = mailboxes.ensure(tx, account_id, mailbox)
                    for new in made:
                        messages.add(tx, account_id, box.id, new)

                now(store.write(job))
                count += len(piece)
            return count

        return self._with_store(put)

    def _with_store(self, use: Callable[[Store], T]) -> T:
        if self.pid is not None:
            raise ServerError("its store is in use")
        url = self._static.get("DatabaseURL")
        store = Store(str(self.data_dir), Clock(), url=url, inline=True)
        store.open()
        store.startService()
        try:
            return use(store)
        finally:
            now(store.stopService())

    def _set_passwords(self) -> None:
        verifiers = passwords.derive(PASSWORD)

        def job(tx: Tx) -> None:
            for name in self.accounts:
                account = account_ops.ensure(tx, name)
                credentials.set_password(tx, account.id, verifiers)

        self.edit_store(job)

    # -- The process -------------------------------------------------------------------

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        if self._process is None or self._process.poll() is not None:
            return None
        return self._process.pid

    def require_pid(self) -> int:
        """Process id. Raises ServerError if it does not run."""
        if self.pid is None:
            raise ServerError(f"it ended by itself\n{self.log()}")
        return self.pid

    def command(self) -> list[str]:
        """The command that starts it in the foreground."""
        return [
            sys.executable,
            "-c",
            "from twisted.scripts.twistd import run; run()",
            "-n",
            "--pidfile=",
            "moxtw",
            "-c",
            str(self.config_path),
        ]

    def start(self, seconds: float = START_SECONDS, *, prepare: bool = True) -> MailServer:
        """Start it, and return when it is ready to serve. Raises ServerError.

        prepare: set the accounts' passwords before the first start.
        """
        if self.pid is not None:
            raise ServerError("it runs")
        if prepare and not self.data_dir.exists():
            self._set_passwords()
        with open(self.log_path, "ab") as log:
            self._log_start = log.tell()
            self._process = subprocess.Popen(
                self.command(),
                cwd=ROOT,
                env=os.environ | {"PYTHONPATH": str(ROOT)} | self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            poll(self._is_ready, seconds, "ready to serve")
        except TimeoutError as exc:
            self.kill()
            raise ServerError(f"{exc}\n{self.log()}") from None
        return self

    def _is_ready(self) -> bool:
        if self.pid is None:
            raise ServerError(f"it ended while starting\n{self.log()}")
        return READY in self.log_bytes()

    def stop(self, seconds: float = STOP_SECONDS) -> None:
        """Ask it to end and wait for that; kill it and raise ServerError if it does not."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise ServerError(f"it did not end within {seconds:g} s\n{self.log()}") from None
        finally:
            self._process = None

    def kill(self) -> None:
        """End it as a power cut would: SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def moxtw(self, *args: str, seconds: float = CLIENT_SECONDS) -> str:
        """What the moxtw command prints for this server. Raises ServerError if it fails."""
        done = subprocess.run(
            [
                *(sys.executable, "-m", "moxtw.cli.main"),
                *("-config", str(self.config_path), *args),
            ],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=seconds,
            check=False,
        )
        if done.returncode:
            raise ServerError(f"moxtw {' '.join(args)}: {done.stderr.decode()}")
        return done.stdout.decode()

    def log_bytes(self) -> bytes:
        """What it wrote since it was last started; nothing if others have started it."""
        if not self.log_path.exists():
            return b""
        with open(self.log_path, "rb") as file:
            file.seek(self._log_start)
            return file.read()

    def log(self, lines: int = 60) -> str:
        """The last lines of its log."""
        text = self.log_bytes().decode("utf-8", "replace")
        return f"-- {self.log_path}\n" + "\n".join(text.splitlines()[-lines:])

    def errors(self) -> list[str]:
        """Lines of its log about unforeseen failures."""
        text = self.log_bytes().decode("utf-8", "replace")
        return [line for line in text.splitlines() if line.startswith("l=error")]

    def memory(self) -> int:
        """Resident memory, in bytes."""
        return self._status("VmRSS")

    def peak_memory(self) -> int:
        """Highest resident memory since the start or the last reset, in bytes."""
        return self._status("VmHWM")

    def reset_peak_memory(self) -> None:
        """Start to measure the peak anew."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def _status(self, field: str) -> int:
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            name, _, value = line.partition(":")
            if name == field:
                return int(value.split()[0]) * 1024
        raise ServerError(f"no {field}")

    # -- Clients -----------------------------------------------------------------------

    def trust(self) -> ssl.SSLContext:
        """A context for clients that verify its certificate."""
        return ssl.create_default_context(cafile=str(self.certificate))

    def imap(self, account: str = "", password: str = PASSWORD) -> imaplib.IMAP4:
        """An IMAP session, logged in as the account's first address."""
        account = account or next(iter(self.accounts))
        client = imaplib.IMAP4(self.ip, self.ports.imap, timeout=CLIENT_SECONDS)
        login = f"\0{self.accounts[account][0]}\0{password}".encode()
        client.authenticate("PLAIN", lambda _challenge: login)
        return client

    def messages(self, mailbox: str = "INBOX", account: str = "") -> list[bytes]:
        """All messages of a mailbox, in its order; the mailbox stays as it is."""
        return self.wait_messages(b"", 0, mailbox, account)

    def wait_messages(
        self,
        text: bytes,
        count: int,
        mailbox: str = "INBOX",
        account: str = "",
        seconds: float = CLIENT_SECONDS,
    ) -> list[bytes]:
        """The messages in a mailbox that hold a text; waits until there are as many.

        Raises ServerError if they do not come, or if there are more. count 0: all, at once.
        """
        client = self.imap(account)
        known: dict[bytes, bytes] = {}

        def find() -> list[bytes] | None:
            # EXAMINE again, as some commands in between may not tell of removals.
            if expect_ok(client.select(f'"{mailbox}"', readonly=True)) == [b"0"]:
                return None if count else []
            (uids,) = expect_ok(client.uid("SEARCH", "ALL"))
            for uid in uids.split():
                if uid not in known:
                    data = expect_ok(client.uid("FETCH", uid.decode(), "(BODY.PEEK[])"))
                    # What other sessions change meanwhile comes between as plain bytes.
                    known[uid] = next(item[1] for item in data if isinstance(item, tuple))
            found = [known[uid] for uid in uids.split() if text in known[uid]]
            return found if len(found) >= count else None

        try:
            if not count:
                return find() or []
            found = poll(find, seconds, f"{count} messages with {text!r}", 0.1)
        except TimeoutError as exc:
            raise ServerError(f"{exc}\n{self.log()}") from None
        finally:
            client.logout()
        if len(found) > count:
            raise ServerError(f"{len(found)} messages with {text!r}")
        return found

    def wait_message(
        self,
        text: bytes,
        mailbox: str = "INBOX",
        account: str = "",
        seconds: float = CLIENT_SECONDS,
    ) -> bytes:
        """The one message in a mailbox that holds a text; waits for it to arrive."""
        return self.wait_messages(text, 1, mailbox, account, seconds)[0]

    # -- What it kept ------------------------------------------------------------------

    def check(self) -> None:
        """Stop it if it runs, and check the store. Raises ServerError."""
        self.stop()

        def checks(store: Store) -> list[str]:
            return now(Deferred.fromCoroutine(verify.verify_all(store)))

        found = self._with_store(checks)
        if found:
            raise ServerError("the store is not consistent:\n" + "\n".join(found))


class LocalServer(MailServer):
    """``moxtw localserve`` in a directory that it makes; on its own ports, of an address.

    It asks the resolver (``ip:port``) in place of those of the system.
    """

    def __init__(self, directory: str | Path, ip: str, resolver: str) -> None:
        self._made = Path(directory).absolute() / "local"
        super().__init__(directory, accounts={"mox": ["mox@localhost"]}, ip=ip, resolver=resolver)
        self.data_dir = self._made
        self.ports = Ports(1025, 1587, 1465, 1143, 1993, 1080, 1081)

    def _write(self) -> None:
        self.directory.mkdir(parents=True)
        subprocess.run(
            [*self.command(), "-initonly"],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.DEVNULL,
            check=True,
            timeout=START_SECONDS,
        )
        with open(self.config_path, "a") as file:
            file.write(sconf({"Resolvers": [self._resolver]}))

    def _set_passwords(self) -> None:
        pass

    @property
    def config_path(self) -> Path:
        """mox.conf."""
        return self._made / "mox.conf"

    @property
    def certificate(self) -> Path:
        """The certificate that it made."""
        return self._made / "localhost.crt"

    def command(self) -> list[str]:
        """The command that starts it in the foreground."""
        return [
            *(sys.executable, "-c", "from moxtw.cli.main import main; raise SystemExit(main())"),
            *("localserve", "-dir", str(self._made), "-ip", self.ip),
        ]


class LiveCase(SynchronousTestCase):
    """Tests with real processes. Blocking calls; servers end with the test."""

    def setUp(self) -> None:
        self._servers: list[MailServer] = []

    def run(self, result: Any) -> None:
        """Run, and tell the servers' logs after a failure."""
        reporter = getattr(result, "_originalReporter", result)

        def bad() -> int:
            return len(reporter.errors) + len(reporter.failures)

        before = bad()
        super().run(result)
        if bad() > before:
            for server in self._servers:
                sys.stderr.write(f"\n{server.log()}\n")

    def name_server(self, zone: Zone) -> BackgroundNameServer:
        """A name server that ends with the test."""
        server = BackgroundNameServer(zone).start()
        self.addCleanup(server.stop)
        return server

    def mail_server(self, **options: Any) -> MailServer:
        """A mail server in a directory of its own, started; ended with the test."""
        options.setdefault("accounts", {"mjl": ["mjl@a.example"]})
        if "resolver" not in options:
            options["resolver"] = self.name_server(ZONE).address
        return self.start(MailServer(self.mktemp(), **options))

    def start(self, server: MailServer) -> MailServer:
        """Start a server, which ends with the test."""
        self._servers.append(server)
        self.addCleanup(server.kill)
        return server.start()

    def finish(self, *servers: MailServer) -> None:
        """End servers: nothing unforeseen was logged, and their stores are consistent."""
        for server in servers:
            self.assertIsNotNone(server.pid, "the server ended by itself")
            server.stop()
            self.assertEqual(server.errors(), [])
            server.check()
