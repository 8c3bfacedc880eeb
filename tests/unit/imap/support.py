"""An IMAP server in memory, and transcripts that read like the protocol."""

from __future__ import annotations

import re
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransportWithDisconnection
from twisted.trial.unittest import SynchronousTestCase

from moxtw.config.testing import DYNAMIC, STATIC, FixedConfig
from moxtw.imap.context import IMAPContext, IMAPListener
from moxtw.imap.factory import IMAPServerFactory
from moxtw.imap.server import IMAPServer
from moxtw.net.cid import ConnectionIds
from moxtw.ratelimit import (
    Limiter,
    connection_rate_limiter,
    failed_auth_limiter,
    open_connections_limiter,
)
from moxtw.sasl import password
from moxtw.store import credentials, messages
from moxtw.store.auth import Authenticator, LoginAccount
from moxtw.store.mailboxes import ensure
from tests.support.imapgrammar import Response, ResponseReader
from tests.support.store import job, make_account, make_store, message, now

ADDRESS = "me@example.org"
PASSWORD = "secret password"
VERIFIERS = password.derive(PASSWORD, cost=4)

MAIL = b"From: Joe <joe@example.org>\r\nTo: me@example.org\r\nSubject: hi\r\n\r\nbody\r\n"


class Directory:
    """Login names of the tests: that of the account, an alias, and a disabled account's."""

    def __init__(self) -> None:
        self.names = {
            ADDRESS: LoginAccount("me", ADDRESS),
            "alias@example.org": LoginAccount("me", "alias@example.org"),
            "other@example.org": LoginAccount("other", "other@example.org"),
            "gone@example.org": LoginAccount("gone", "gone@example.org", "account is on leave"),
        }

    def login_account(self, username: str) -> LoginAccount | None:
        return self.names.get(username.lower())


class Client:
    """A client's end of a connection in memory."""

    # Whether what comes is looked at as IMAP; not to be after COMPRESS or STARTTLS.
    strict = True

    def __init__(self, test: IMAPTestCase, protocol: IMAPServer, ip: str) -> None:
        self.test = test
        self.protocol = protocol
        self.reader = ResponseReader()
        self._responses: list[Response] = []
        self.transport = StringTransportWithDisconnection(
            hostAddress=IPv4Address("TCP", "127.0.0.1", 143),
            peerAddress=IPv4Address("TCP", ip, 4321),
        )
        self.transport.protocol = protocol
        protocol.makeConnection(self.transport)

    @property
    def closed(self) -> bool:
        return not self.transport.connected

    def send(self, data: bytes) -> None:
        self.protocol.dataReceived(data)

    def output(self) -> bytes:
        """What the server has sent; all of it must be in the grammar."""
        data = self.transport.value()
        self.transport.clear()
        session = self.protocol.session
        self.reader.utf8 = self.reader.utf8 or (session is not None and session.utf8)
        if self.strict:
            self._responses = self.reader.feed(data)
        return data

    def responses(self) -> list[Response]:
        """What the server has sent, as responses."""
        self.output()
        return self._responses

    def lines(self) -> list[str]:
        return self.output().decode("utf-8", "surrogateescape").split("\r\n")[:-1]

    def command(self, text: str, tag: str = "t") -> list[str]:
        """Send a command and give the lines that come back, the tagged one last."""
        self.send(f"{tag} {text}\r\n".encode())
        lines = self.lines()
        assert lines and lines[-1].startswith(tag + " "), (text, lines)
        return lines

    def ok(self, text: str) -> list[str]:
        """The same for a command that must succeed; without the tagged line."""
        lines = self.command(text)
        assert lines[-1].startswith("t OK"), (text, lines)
        return lines[:-1]

    def login(self) -> Client:
        lines = self.command(f'LOGIN {ADDRESS} "{PASSWORD}"')
        assert lines[-1].startswith("t OK"), lines
        return self


class IMAPTestCase(SynchronousTestCase):
    """Tests with a server in memory: a store, the account ``me``, a clock."""

    listener = IMAPListener("test", "imap", "mail.example.org", plain_allowed=True)
    dynamic = DYNAMIC
    static = STATIC

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1000)
        self.store = self.make_store()
        self.account = make_account(self.store, "me")
        job(self.store, credentials.set_password, self.account.id, VERIFIERS)
        other = make_account(self.store, "other")
        job(self.store, credentials.set_password, other.id, VERIFIERS)
        gone = make_account(self.store, "gone")
        job(self.store, credentials.set_password, gone.id, VERIFIERS)
        self.failed_auth = failed_auth_limiter()
        self.directory = Directory()
        self.authenticator = Authenticator(
            self.store, self.directory, self.failed_auth, self.clock.seconds
        )
        self.stopping = False
        self.app = self.make_app()
        self.factory = IMAPServerFactory(self.app, self.listener)

    def make_store(self) -> Any:
        return make_store(self, self.clock)

    def make_app(self, **more: Any) -> IMAPContext:
        fields: dict[str, Any] = {
            "reactor": self.clock,
            "store": self.store,
            "config": FixedConfig(self.dynamic, self.static),
            "authenticator": self.authenticator,
            "cids": ConnectionIds(bytes(24), 1),
            "connection_rate": connection_rate_limiter(),
            "open_connections": open_connections_limiter(),
            "failed_auth": self.failed_auth,
            "version": "1.2",
            "stopping": lambda: self.stopping,
        }
        return IMAPContext(**{**fields, **more})

    def connect(self, ip: str = "192.0.2.7", listener: IMAPListener | None = None) -> Client:
        factory = IMAPServerFactory(self.app, listener) if listener else self.factory
        protocol = factory.buildProtocol(IPv4Address("TCP", ip, 4321))
        return Client(self, protocol, ip)

    def login(self) -> Client:
        client = self.connect()
        client.output()
        return client.login()

    def selected(self, mailbox: str = "Inbox", more: str = "") -> Client:
        client = self.login()
        client.ok(f"SELECT {mailbox}{more}")
        return client

    def mailbox(self, name: str) -> Any:
        return job(self.store, ensure, self.account.id, name)

    def deliver(
        self, data: bytes = MAIL, mailbox: str = "Inbox", count: int = 1, **fields: Any
    ) -> None:
        """Put messages into a mailbox, as somebody else would."""
        box = self.mailbox(mailbox)
        for _ in range(count):
            new = message(self.store, data, **fields)
            job(self.store, messages.add, self.account.id, box.id, new)

    def transcript(self, client: Client, text: str) -> None:
        r"""Play a dialogue: ``C:`` lines are sent, all that comes back must be the ``S:`` lines.

        ``…`` in an expected line stands for anything. ``C+`` sends without a line end.
        """
        expected: list[str] = []

        def check() -> None:
            got = client.lines()
            shown = "\n".join(got)
            self.assertEqual(len(got), len(expected), f"expected {expected}, got\n{shown}")
            for want, have in zip(expected, got, strict=True):
                pattern = ".*".join(re.escape(part) for part in want.split("…"))
                if not re.fullmatch(pattern, have, re.DOTALL):
                    self.fail(f"expected {want!r}, got {have!r} in\n{shown}")
            expected.clear()

        pending = False
        for raw in text.strip().splitlines():
            line = raw.strip()
            kind, rest = line[:2], line[3:]
            if kind in ("C:", "C+"):
                if pending:
                    check()
                    pending = False
                client.send(rest.encode() + (b"\r\n" if kind == "C:" else b""))
            elif kind == "S:":
                expected.append(rest)
                pending = True
            else:
                raise ValueError(line)
        check()


__all__ = ["ADDRESS", "MAIL", "PASSWORD", "Client", "IMAPTestCase", "Limiter", "now"]
