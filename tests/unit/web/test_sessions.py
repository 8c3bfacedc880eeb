"""Logging in to a web interface, over an in-memory HTTP client with a clock."""

from __future__ import annotations

import json
from typing import Any

from klein import Klein
from treq.testing import StubTreq
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from moxtw.admin.audit import Audit
from moxtw.admin.context import Caller
from moxtw.net.cid import ConnectionIds
from moxtw.ratelimit import failed_auth_limiter
from moxtw.web.rpc import Call, Endpoint, Registry
from moxtw.web.sessions import ADMIN_ACCOUNT, LoginRefused, MemorySessions, WebAuth
from moxtw.web.visit import Visit, make_origin
from tests.support.store import make_store

registry = Registry("Test", "test", "For tests.")


@registry.function(open=True)
async def LoginPrep(call: Call) -> str:
    return call.context.prep(call)


@registry.function(open=True)
async def Login(call: Call, token: str, password: str) -> str:
    return await call.context.login(call, token, "", password)


@registry.function()
async def Logout(call: Call) -> None:
    await call.context.logout(call)


@registry.function()
async def Who(call: Call) -> str:
    return call.session.account


class SessionTests(SynchronousTestCase):
    forwarded = False

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_700_000_000)
        self.attempts: list[tuple[str, str, str]] = []
        self.limiter = failed_auth_limiter()
        self.sessions = MemorySessions(self.clock)
        auth = WebAuth(
            "webadmin",
            "/admin/",
            self.sessions,
            authenticate=self.authenticate,
            record=self.record,
            limiter=self.limiter,
            clock=self.clock,
        )
        app = Klein()
        Endpoint(
            registry,
            context=auth,
            origin=make_origin(ConnectionIds(b"k" * 24, 1000), forwarded=self.forwarded),
            gate=auth.gate,
            errors=lambda exc: None,
            clock=self.clock,
            audit=Audit(make_store(self)),
            caller=lambda call: Caller("test", ""),
        ).route(app)
        self.stub = StubTreq(app.resource())
        self.extra: dict[str, str] = {}

    async def authenticate(self, username: str, password: str, visit: Visit) -> tuple[str, str]:
        if password != "secret":
            raise LoginRefused("badcreds", "wrong password")
        return ADMIN_ACCOUNT, ""

    async def record(self, visit: Visit, account: str, address: str, result: str) -> None:
        self.attempts.append((account, address, result))

    def start(
        self, name: str, *params: Any, cookie: str = "", csrf: str = ""
    ) -> Deferred[Any]:
        headers = {"Content-Type": "application/json", **self.extra}
        if cookie:
            headers["Cookie"] = cookie
        if csrf:
            headers["x-mox-csrf"] = csrf
        body = json.dumps({"params": list(params)}).encode()
        return self.stub.post(f"http://localhost/api/{name}", data=body, headers=headers)

    def finish(self, deferred: Deferred[Any]) -> Any:
        self.stub.flush()
        response = self.successResultOf(deferred)
        self.set_cookies = response.headers.getRawHeaders("Set-Cookie", [])
        content = self.successResultOf(response.content())
        if response.code != 200:
            return response.code, content
        value = json.loads(content)
        return value["error"]["code"] if "error" in value else value["result"]

    def call(self, name: str, *params: Any, cookie: str = "", csrf: str = "") -> Any:
        return self.finish(self.start(name, *params, cookie=cookie, csrf=csrf))

    def slow(self, *args: Any, **kw: Any) -> Any:
        """A call whose answer is held back for a second."""
        deferred = self.start(*args, **kw)
        self.stub.flush()
        self.clock.advance(0.99)
        self.stub.flush()
        self.assertNoResult(deferred)
        self.clock.advance(0.01)
        return self.finish(deferred)

    def login(self) -> tuple[str, str]:
        token = self.call("LoginPrep")
        csrf = self.call("Login", token, "secret", cookie=f"webadminlogin={token}")
        return self.set_cookies[1].partition(";")[0], csrf

    def test_login_session_logout(self) -> None:
        token = self.call("LoginPrep")
        self.assertEqual(
            self.set_cookies,
            [f"webadminlogin={token}; Path=/admin/; Max-Age=30; HttpOnly; SameSite=Strict"],
        )
        csrf = self.call("Login", token, "secret", cookie=f"webadminlogin={token}")
        self.assertEqual(self.attempts, [(ADMIN_ACCOUNT, "", "ok")])
        cleared, session = self.set_cookies
        self.assertEqual(
            cleared, "webadminlogin=; Path=/admin/; Max-Age=0; HttpOnly; SameSite=Strict"
        )
        self.assertRegex(
            session,
            r'^webadminsession="[\w-]{22} %28admin%29"; Path=/admin/; HttpOnly; SameSite=Strict$',
        )
        cookie = session.partition(";")[0]
        self.assertEqual(self.call("Who", cookie=cookie, csrf=csrf), ADMIN_ACCOUNT)
        unquoted = cookie.replace('"', "")
        self.assertEqual(self.call("Who", cookie=unquoted, csrf=csrf), ADMIN_ACCOUNT)
        self.assertIsNone(self.call("Logout", cookie=cookie, csrf=csrf))
        self.assertEqual(self.slow("Who", cookie=cookie, csrf=csrf), "user:badAuth")

    def test_login_needs_the_cookie(self) -> None:
        token = self.call("LoginPrep")
        self.assertEqual(self.call("Login", token, "secret"), "user:error")
        other = self.call("LoginPrep")
        self.assertEqual(
            self.call("Login", token, "secret", cookie=f"webadminlogin={other}"), "user:error"
        )
        self.assertEqual(self.attempts, [])

    def test_wrong_password_costs_a_second(self) -> None:
        token = self.call("LoginPrep")
        cookie = f"webadminlogin={token}"
        self.assertEqual(self.slow("Login", token, "x", cookie=cookie), "user:loginFailed")
        self.assertEqual(self.attempts, [("-", "", "badcreds")])

    def test_session_checks(self) -> None:
        cookie, csrf = self.login()
        self.assertEqual(self.call("Who"), "user:noAuth")
        self.assertEqual(self.call("Who", csrf=csrf), "user:noAuth")
        self.assertEqual(self.call("Who", cookie=cookie), "user:noAuth")
        self.assertEqual(
            self.call("Who", cookie="webadminsession=abc", csrf=csrf), "user:badAuth"
        )
        self.assertEqual(self.slow("Who", cookie=cookie, csrf="wrong"), "user:badAuth")
        other = cookie.replace("admin%29", "root%29")
        self.assertEqual(self.slow("Who", cookie=other, csrf=csrf), "user:badAuth")
        self.assertEqual(self.call("Who", cookie=cookie, csrf=csrf), ADMIN_ACCOUNT)

    def test_sessions_slide_and_expire(self) -> None:
        cookie, csrf = self.login()
        for _ in range(3):
            self.clock.advance(11 * 3600)
            self.assertEqual(self.call("Who", cookie=cookie, csrf=csrf), ADMIN_ACCOUNT)
        self.clock.advance(12 * 3600)
        self.assertEqual(self.slow("Who", cookie=cookie, csrf=csrf), "user:badAuth")

    def test_the_eleventh_session_ends_the_one_unused_for_longest(self) -> None:
        logins = [self.login() for _ in range(10)]
        cookie, csrf = logins[0]
        self.assertEqual(self.call("Who", cookie=cookie, csrf=csrf), ADMIN_ACCOUNT)
        self.login()
        self.assertEqual(self.call("Who", cookie=cookie, csrf=csrf), ADMIN_ACCOUNT)
        cookie, csrf = logins[1]
        self.assertEqual(self.slow("Who", cookie=cookie, csrf=csrf), "user:badAuth")

    def test_failures_are_limited_and_good_sessions_are_not_counted(self) -> None:
        cookie, csrf = self.login()
        for _ in range(30):
            self.assertEqual(self.call("Who", cookie=cookie, csrf=csrf), ADMIN_ACCOUNT)
        token = self.call("LoginPrep")
        waiting = [
            self.start("Login", token, "x", cookie=f"webadminlogin={token}") for _ in range(10)
        ]
        self.assertEqual(self.call("Who", cookie=cookie, csrf=csrf)[0], 429)
        limited = self.call("Login", token, "secret", cookie=f"webadminlogin={token}")
        self.assertEqual(limited[0], 429)
        self.clock.advance(1)
        self.assertEqual({self.finish(d) for d in waiting}, {"user:loginFailed"})
        self.clock.advance(60)
        self.assertEqual(self.call("Who", cookie=cookie, csrf=csrf), ADMIN_ACCOUNT)


class ForwardedTests(SessionTests):
    forwarded = True

    def setUp(self) -> None:
        super().setUp()
        self.extra = {"X-Forwarded-For": "192.0.2.7, 10.0.0.1"}

    def test_secure_cookies_behind_tls(self) -> None:
        self.extra["X-Forwarded-Proto"] = "https"
        self.call("LoginPrep")
        self.assertTrue(self.set_cookies[0].endswith("; HttpOnly; SameSite=Strict; Secure"))

    def test_no_address_of_the_client(self) -> None:
        for value in ["", "unknown", "x, 192.0.2.1"]:
            self.extra["X-Forwarded-For"] = value
            token = self.call("LoginPrep")
            self.assertEqual(
                self.call("Login", token, "secret", cookie=f"webadminlogin={token}"),
                "user:noAuth",
            )
