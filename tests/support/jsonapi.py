"""A client of the JSON APIs that holds each answer against the server's own description."""

from __future__ import annotations

import http.client
import json
from typing import Any

from jsonschema import Draft202012Validator

from tests.support.rpc import CookieClient
from tests.support.server import PASSWORD, MailServer

ADMIN_PASSWORD = "admin password"


class ApiClient(CookieClient):
    """A client of ``/admin/`` or ``/account/`` of a server.

    source: the address on loopback that it comes from. Raises AssertionError for an answer
    that is not as described, or that has another status than expected.
    """

    def __init__(self, server: MailServer, path: str, source: str = "127.0.0.1") -> None:
        connection = http.client.HTTPConnection(
            server.ip, server.ports.http, timeout=60, source_address=(source, 0)
        )
        super().__init__(connection, path)
        self.document: dict[str, Any] = {}
        self._validators: dict[tuple[str, int], Draft202012Validator] = {}

    def describe(self) -> ApiClient:
        """Load the description, by which answers are checked from then on."""
        response, content = self.request("GET", "api/openapi.json")
        assert response.status == 200, response.status
        self.document = json.loads(content)
        return self

    def log_in(self) -> ApiClient:
        """Begin a session, of the admin or of me@a.example."""
        self.csrf = ""
        who = [ADMIN_PASSWORD] if self.path == "/admin/" else ["me@a.example", PASSWORD]
        self.csrf = self.answer("Login", [self.answer("LoginPrep", [])["result"], *who])["result"]
        return self

    def answer(self, name: str, params: Any, status: int = 200) -> Any:
        """The JSON that a function answers."""
        response, content = self.request("POST", f"api/{name}", json.dumps({"params": params}))
        if response.status != status:
            raise AssertionError((name, params, response.status, content))
        value = json.loads(content)
        if self.document and f"/{name}" in self.document["paths"]:
            self.check(name, status, value)
        return value

    def check(self, name: str, status: int, value: Any) -> None:
        """Hold an answer against the description."""
        key = (name, status)
        if key not in self._validators:
            responses = self.document["paths"][f"/{name}"]["post"]["responses"]
            schema = responses[str(status)]["content"]["application/json"]["schema"]
            self._validators[key] = Draft202012Validator(
                {**schema, "components": self.document["components"]}
            )
        error = next(iter(self._validators[key].iter_errors(value)), None)
        if error is not None:
            raise AssertionError(f"{name}: {error.message[:500]} in {value!r:.1000}")
