"""The account interface of a server process over sockets: logins, settings, restart."""

from __future__ import annotations

import http.client
import imaplib
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

from tests.support.server import PASSWORD, LiveCase, MailServer


class AccountClient:
    """A client of the account API that keeps cookies, as a browser does."""

    def __init__(self, server: MailServer, path: str = "/account/") -> None:
        self.path = path
        self.cookies: dict[str, str] = {}
        self.csrf = ""
        self.connection = http.client.HTTPConnection(server.ip, server.ports.http, timeout=60)

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

    def answer(self, name: str, *params: Any) -> Any:
        """The JSON that a function answers."""
        body = json.dumps({"params": params}).encode()
        response, content = self.request("POST", f"api/{name}", body)
        if response.status != 200:
            raise AssertionError((response.status, content))
        return json.loads(content)

    def call(self, name: str, *params: Any) -> Any:
        """The result of a function."""
        value = self.answer(name, *params)
        if "error" in value:
            raise AssertionError(value)
        return value["result"]

    def login(self, user: str = "me@a.example", password: str = PASSWORD) -> AccountClient:
        """Begin a session."""
        self.csrf = ""
        token = self.call("LoginPrep")
        self.csrf = self.call("Login", token, user, password)
        return self


class _Hook(BaseHTTPRequestHandler):
    def do_POST(self) -> None:  # noqa: N802 - the library's name
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.seen.append((self.headers, json.loads(body)))  # type: ignore[attr-defined]
        self.send_response(202)
        self.end_headers()
        self.wfile.write(b"thanks")

    def log_message(self, format: str, *args: Any) -> None:
        pass


class AccountHTTPTests(LiveCase):
    def test_account(self) -> None:
        server = self.mail_server(accounts={"me": ["me@a.example"]})
        client = AccountClient(server).login()
        config = client.call("Account")[0]
        self.assertEqual(list(config["Destinations"]), ["me@a.example"])
        client.call("AccountSaveFullName", "Me Myself")
        client.call("RejectsSave", "Rejects", False)
        self.assertIn("Me Myself", (server.config_path.parent / "domains.conf").read_text())

        hook = HTTPServer(("127.0.0.1", 0), _Hook)
        hook.seen = []  # type: ignore[attr-defined]
        thread = threading.Thread(target=hook.handle_request, daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{hook.server_address[1]}/x"
        answer = client.call("OutgoingWebhookTest", url, "Basic eA==", {"Event": "delayed"})
        thread.join(10)
        hook.server_close()
        self.assertEqual(answer, [202, "thanks", ""])
        ((headers, payload),) = hook.seen  # type: ignore[attr-defined]
        self.assertEqual(payload["Event"], "delayed")
        self.assertEqual(headers["X-Mox-Webhook-ID"], "1")
        self.assertEqual(headers["Authorization"], "Basic eA==")

        other = AccountClient(server).login()
        password = client.call("GeneratePassword")
        self.assertEqual(other.answer("Version")["error"]["code"], "user:badAuth")
        imap = imaplib.IMAP4(server.ip, server.ports.imap)
        imap.login("me@a.example", password)
        imap.logout()
        # A restart ends no session, and forgets no setting.
        server.kill()
        server.start()
        client.connection.close()
        self.assertEqual(client.call("Account")[0]["FullName"], "Me Myself")
        client.call("Logout")
        self.assertEqual(client.answer("Version")["error"]["code"], "user:noAuth")
        self.finish(server)
