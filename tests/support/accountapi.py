"""The account interface over an in-memory HTTP client, on real files and a real store."""

from __future__ import annotations

import json
from typing import Any

from treq.testing import StubTreq
from twisted.trial.unittest import SynchronousTestCase

from moxtw.admin import accounts
from moxtw.admin.context import Caller
from moxtw.ratelimit import failed_auth_limiter
from moxtw.service.policy import ConfigDirectory
from moxtw.store.auth import Authenticator
from moxtw.web.account import make_account
from moxtw.web.storedsessions import StoredSessions
from moxtw.web.visit import make_origin
from tests.support.admin import make_admin_context
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


class AccountCase(SynchronousTestCase):
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
        self.headers: dict[str, str] = {}
        self.login()

    def now(self, coroutine: Any) -> Any:
        """The result of a coroutine that needs not wait."""
        from twisted.internet.defer import Deferred

        return now(Deferred.fromCoroutine(coroutine))

    def login(self, username: str = "me@example.org", password: str = PASSWORD) -> str:
        """Begin a session; returns its CSRF token."""
        self.headers = {"Content-Type": "application/json"}
        token = self.call("LoginPrep")
        self.headers["Cookie"] = f"webaccountlogin={token}"
        csrf: str = self.call("Login", token, username, password)
        cookie = self.response.headers.getRawHeaders("Set-Cookie")[1].partition(";")[0]
        self.headers.update({"Cookie": cookie, "x-mox-csrf": csrf})
        return csrf

    def request(
        self, method: str, path: str, body: bytes = b"", **headers: str
    ) -> tuple[int, bytes]:
        """Status and body of the answer to a request."""
        deferred = self.stub.request(
            method, f"http://localhost/{path}", data=body, headers={**self.headers, **headers}
        )
        answers: list[Any] = []
        deferred.addCallback(answers.append)
        self.stub.flush()
        if not answers:  # held back for a second, as wrong credentials are
            self.ctx.clock.advance(1)  # type: ignore[attr-defined]
            self.stub.flush()
        self.successResultOf(deferred)
        (self.response,) = answers
        return self.response.code, self.successResultOf(self.response.content())

    def answer(self, name: str, *params: Any) -> dict[str, Any]:
        """The JSON that a function answers."""
        body = json.dumps({"params": list(params)}).encode()
        status, content = self.request("POST", f"api/{name}", body)
        self.assertEqual(status, 200, content)
        value: dict[str, Any] = json.loads(content)
        return value

    def call(self, name: str, *params: Any) -> Any:
        """The result of a function."""
        value = self.answer(name, *params)
        self.assertIn("result", value, value)
        return value["result"]

    def error(self, name: str, *params: Any) -> str:
        """The error code of a function."""
        value = self.answer(name, *params)
        self.assertIn("error", value, value)
        code: str = value["error"]["code"]
        return code
