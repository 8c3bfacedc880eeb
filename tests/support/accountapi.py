"""The account interface over an in-memory HTTP client, on real files and a real store."""

from __future__ import annotations

from typing import Any

from treq.testing import StubTreq

from moxtw.admin import accounts
from moxtw.admin.context import Caller
from moxtw.ratelimit import failed_auth_limiter
from moxtw.service.policy import ConfigDirectory
from moxtw.store.auth import Authenticator
from moxtw.web.account import make_account
from moxtw.web.storedsessions import StoredSessions
from moxtw.web.visit import make_origin
from tests.support.admin import make_admin_context
from tests.support.rpc import RPCCase
from tests.support.store import now

PASSWORD = "own password"

DYNAMIC = """\
Domains:
	example.org:
		LocalpartCatchallSeparator: +
		Aliases:
			secret:
				Addresses:
					- me@example.org
					- you@other.example
			open:
				Addresses:
					- me@example.org
					- you@other.example
				ListMembers: true
	other.example: nil
Accounts:
	# Ours.
	me:
		OutgoingWebhook:
			URL: http://127.0.0.1/hook
			Authorization: Basic x
			SigningKey: signed
		Domain: example.org
		Destinations:
			me@example.org:
				ForwardTo:
					- me@elsewhere.example
				Rulesets:
					-
						SMTPMailFromRegexp: x@y
						Mailbox: Lists
			also@example.org: nil
		QuotaMessageSize: 1000000
	you:
		Domain: other.example
		Destinations:
			you@other.example: nil
"""

STATIC = """\
DataDir: data
LogLevel: error
Hostname: mail.example.org
Listeners:
	public:
		IPs:
			- 127.0.0.1
Postmaster:
	Account: you
	Mailbox: Postmaster
"""


class AccountCase(RPCCase):
    """Logged in to account me, as me@example.org."""

    def setUp(self) -> None:
        self.ctx = make_admin_context(self, DYNAMIC, STATIC)
        for name in ("me", "you"):
            self.now(accounts.set_password(self.ctx, Caller("test", ""), name, PASSWORD))
        self.limiter = failed_auth_limiter()
        self.sessions = StoredSessions(self.ctx.store, self.ctx.config)
        authenticator = Authenticator(
            self.ctx.store,
            ConfigDirectory(self.ctx.config),
            failed_auth_limiter(),
            self.ctx.clock.seconds,
        )
        resource = make_account(
            self.ctx,
            "/account/",
            origin=make_origin(self.ctx.ids),
            authenticator=authenticator,
            sessions=self.sessions,
            limiter=self.limiter,
        )
        self.stub = StubTreq(resource)
        self.login()

    def now(self, coroutine: Any) -> Any:
        """The result of a coroutine that needs not wait."""
        from twisted.internet.defer import Deferred

        return now(Deferred.fromCoroutine(coroutine))

    def login(self, username: str = "me@example.org", password: str = PASSWORD) -> str:
        """Begin a session; returns its CSRF token."""
        return self.log_in("webaccount", username, password)
