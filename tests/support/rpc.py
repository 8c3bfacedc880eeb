"""Clients for the JSON APIs: in memory, and over sockets."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterable
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from treq.testing import StubTreq
from twisted.trial.unittest import SynchronousTestCase

from moxtw.admin.context import AdminContext


class RPCCase(SynchronousTestCase):
    """Requests to the resource that `stub` serves, with `headers`."""

    ctx: AdminContext
    stub: StubTreq
    headers: dict[str, str]
    response: Any

    def log_in(self, cookie: str, *login: str) -> str:
        """Begin a session, whose cookies are named after `cookie`; returns its CSRF token."""
        self.headers = {"Content-Type": "application/json"}
        token = self.call("LoginPrep")
        self.headers["Cookie"] = f"{cookie}login={token}"
        csrf: str = self.call("Login", token, *login)
        session = self.response.headers.getRawHeaders("Set-Cookie")[1].partition(";")[0]
        self.headers.update({"Cookie": session, "x-mox-csrf": csrf})
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

    def fuzz(
        self, names: Iterable[str], call_of: Callable[[str], Any], max_examples: int
    ) -> None:
        """Any call gets an answer, and an error leaves the configuration as it was.

        call_of: a strategy for the name of a function and parameters for it.
        """

        @settings(
            max_examples=max_examples,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            database=None,
        )
        @given(st.sampled_from(sorted(names)).flatmap(call_of))
        def run(call: tuple[str, list[Any]]) -> None:
            name, params = call
            before = self.ctx.config.path.read_bytes()
            body = json.dumps({"params": params}).encode()
            status, content = self.request("POST", f"api/{name}", body)
            self.assertEqual(status, 200, (name, params, content))
            if "error" in json.loads(content):
                self.assertEqual(self.ctx.config.path.read_bytes(), before)

        run()


class CookieClient:
    """A client of a server's API that keeps cookies, as a browser does."""

    def __init__(self, connection: http.client.HTTPConnection, path: str = "") -> None:
        self.connection = connection
        self.path = path
        self.cookies: dict[str, str] = {}
        self.csrf = ""

    def request(
        self, method: str, path: str, body: Any = b"", **headers: str
    ) -> tuple[http.client.HTTPResponse, bytes]:
        """The response to a request below the path, and its body."""
        headers = {"Content-Type": "application/json", **headers}
        if self.cookies:
            headers["Cookie"] = "; ".join(f"{k}={v}" for k, v in self.cookies.items())
        if self.csrf:
            headers["x-mox-csrf"] = self.csrf
        self.connection.request(method, self.path + path, body, headers)
        response = self.connection.getresponse()
        for value in response.headers.get_all("Set-Cookie", []):
            name, _, text = value.partition(";")[0].partition("=")
            self.cookies[name] = text
        return response, response.read()
