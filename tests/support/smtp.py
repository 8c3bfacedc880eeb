"""An SMTP server for unit tests: everything real but time, network and threads."""

from __future__ import annotations

from random import Random
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock

from moxtw.authn import NotEvaluated
from moxtw.config.lookup import account_for_login
from moxtw.config.testing import FixedConfig
from moxtw.dns.fake import ZoneResolver
from moxtw.inbound.decide import Decider
from moxtw.inbound.deliver import Deliverer
from moxtw.inbound.rates import DeliveryRates
from moxtw.mail.domain import parse_domain
from moxtw.net.cid import ConnectionIds
from moxtw.ratelimit import (
    connection_rate_limiter,
    failed_auth_limiter,
    open_connections_limiter,
    refusals_limiter,
)
from moxtw.sasl import password as passwords
from moxtw.smtp.context import Settings, SMTPContext
from moxtw.smtp.factory import SMTPServerFactory
from moxtw.smtp.sendercheck import SenderDomains
from moxtw.store import accounts, credentials, incoming, mailboxes, messages
from moxtw.store.auth import Authenticator, LoginAccount
from moxtw.store.db import Store
from moxtw.store.model import Want
from tests.support.store import job, now
from tests.support.transcript import Peer, PeerTransport

START = 1_750_000_000.0
PASSWORD = "te$tPassw0rd"
_verifiers: list[passwords.Verifiers] = []

DYNAMIC = """\
Domains:
	example.org:
		LocalpartCatchallSeparator: +
		TLSRPT:
			Localpart: tlsrpt
			Account: me
			Mailbox: TLSRPT
		Aliases:
			team:
				Addresses:
					- me@example.org
					- you@example.org
				PostPublic: true
				AllowMsgFrom: true
			closed:
				Addresses:
					- me@example.org
					- you@example.org
	disabled.example:
		Disabled: true
	bücher.example: nil
Accounts:
	me:
		Domain: example.org
		Destinations:
			me@example.org: nil
			møx@bücher.example: nil
			soon@example.org:
				SMTPError: 421 come back later
			gone@example.org:
				SMTPError: 550 no longer here
			off@disabled.example: nil
			rules@example.org:
				Mailbox: Other
				Rulesets:
					-
						HeadersRegexp:
							^list-id$: <announce\\.lists\\.example\\.org>
						Mailbox: Lists/announce
					-
						SMTPMailFromRegexp: ^news@
						MsgFromRegexp: ^boss@
						Mailbox: News
	you:
		Domain: example.org
		Destinations:
			you@example.org: nil
	locked:
		LoginDisabled: out of office
		Domain: example.org
		Destinations:
			locked@example.org: nil
	small:
		QuotaMessageSize: 3000
		Domain: example.org
		Destinations:
			small@example.org: nil
"""

ZONES = {
    "example.net.": {
        "MX": [(10, "mx.example.net.")],
        "TXT": ["v=spf1 ip4:192.0.2.0/24 ip6:2001:db8::/32 ip4:127.0.0.0/8 -all"],
    },
    "mx.example.net.": {"A": ["192.0.2.25"]},
    "a-only.example.": {"A": ["192.0.2.26"]},
    "null.example.": {"MX": [(0, ".")]},
    "nomail.example.": {"TXT": ["nothing"]},
    "dangling.example.": {"MX": [(10, "gone.example.")]},
    "mx-gone.example.": {"MX": [(10, "gone.example.")], "A": ["192.0.2.3"]},
    "client.example.": {"A": ["192.0.2.1"]},
}


class World:
    """The services that connections share, and ways to look at what they did."""

    def __init__(
        self,
        testcase: Any,
        *,
        dynamic: str = DYNAMIC,
        localserve: bool = False,
        reactor: Any = None,
    ) -> None:
        """`reactor`: a real one in place of a Clock."""
        self.testcase = testcase
        self.clock: Any = reactor or Clock()
        if reactor is None:
            self.clock.rightNow = START
        self.store = Store(
            testcase.mktemp(),
            self.clock,
            inline=True,
            now=lambda: int(self.clock.seconds() * 1_000_000),
        )
        self.store.open()
        self.store.startService()
        testcase.addCleanup(self.store.stopService)
        self.config = FixedConfig(dynamic)
        for name in self.config.dynamic.accounts:
            account = job(self.store, accounts.ensure, name)
            job(self.store, credentials.set_password, account.id, _password())
        self.resolver = ZoneResolver(
            ZONES, fail={"broken.example.": "servfail", "slow.example.": "timeout"}
        )
        self.failed_auth = failed_auth_limiter()
        self.authenticator = Authenticator(
            self.store, self, self.failed_auth, now=self.clock.seconds
        )
        now_or_later(self.authenticator.start())
        testcase.addCleanup(self.authenticator.stop)
        self.submitted: list[Any] = []
        self.submit_error: Exception | None = None
        self.bounced: list[Any] = []
        self.bounce_error: Exception | None = None
        self.rates = DeliveryRates(self._count)
        self.ctx = SMTPContext(
            reactor=self.clock,
            config=self.config,  # type: ignore[arg-type]
            contents=self.store.contents,
            authenticator=self.authenticator,
            senders=SenderDomains(self.resolver, self.clock, lenient=localserve),
            deliverer=Deliverer(
                self.store,
                self.config,
                Decider(self.rates, self.store, random=Random(1)),
                NotEvaluated(),
                self._bounce,
            ),
            submit=self._submit,
            cids=ConnectionIds(bytes(range(24)), 1000),
            connection_rate=connection_rate_limiter(),
            open_connections=open_connections_limiter(),
            failed_auth=self.failed_auth,
            refusals=refusals_limiter(),
            resolver=self.resolver,
            localserve=localserve,
        )

    def login_account(self, username: str) -> LoginAccount | None:
        """Directory of the authenticator."""
        found = account_for_login(self.config, username)
        if found is None:
            return None
        disabled = self.config.dynamic.accounts[found.account].login_disabled
        return LoginAccount(found.account, found.canonical, disabled)

    async def _submit(self, request: Any) -> None:
        if self.submit_error is not None:
            raise self.submit_error
        self.submitted.append(request)

    async def _bounce(self, envelope: Any, content: Any, failed: Any) -> None:
        if self.bounce_error is not None:
            raise self.bounce_error
        self.bounced.append((envelope, content, failed))

    async def _count(
        self, account: str, classes: tuple[str, str, str], since: list[int]
    ) -> list[list[int]]:
        return await self.store.read(lambda tx: incoming.count_from(tx, account, classes, since))

    def factory(self, kind: Any = "smtp", **options: Any) -> SMTPServerFactory:
        """A factory with settings like those of a listener of that kind."""
        options.setdefault("require_tls_to_send", False)
        # Strangers wait only where a test is about that.
        options.setdefault("first_time_sender_delay", 0)
        settings = Settings(
            kind=kind, listener="test", hostname=parse_domain("mail.example.org"), **options
        )
        return SMTPServerFactory(self.ctx, settings)

    def peer(
        self,
        kind: Any = "smtp",
        *,
        ip: str = "192.0.2.1",
        factory: SMTPServerFactory | None = None,
        **options: Any,
    ) -> Peer:
        """A new connection, at the greeting."""
        factory = factory or self.factory(kind, **options)
        address = IPv4Address("TCP", ip, 12345)
        protocol = factory.buildProtocol(address)
        transport = PeerTransport(address, IPv4Address("TCP", "192.0.2.99", 25))
        return Peer(self.testcase, protocol, transport, self.clock).connect()

    def mailbox(self, account: str, name: str = "Inbox") -> list[bytes]:
        """The messages of a mailbox, whole."""

        def read(tx: Any) -> list[bytes]:
            found = mailboxes.find(tx, accounts.get(tx, account).id, name)
            if found is None:
                return []
            rows = messages.rows(tx, found.id, [(1, 2**31)], Want.FLAGS)
            return [messages.read(tx, row.id) for row in rows]

        return now(self.store.read(read))


def now_or_later(coroutine: Any) -> Any:
    """The result of a coroutine that needs no waiting."""
    from twisted.internet.defer import Deferred

    return now(Deferred.fromCoroutine(coroutine))


def _password() -> passwords.Verifiers:
    if not _verifiers:
        _verifiers.append(passwords.derive(PASSWORD, cost=4))
    return _verifiers[0]
