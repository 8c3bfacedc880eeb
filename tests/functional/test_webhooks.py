"""Webhooks of a server process to a receiver that fails, is slow, and outlives the server."""

from __future__ import annotations

import hashlib
import hmac
import json
import smtplib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.functional.test_queue_kill import Sink
from tests.support.postgresql import start_postgresql
from tests.support.server import PASSWORD, LiveCase, poll, smarthost

USER = "mjl@a.example"
KEY = "the key of both"
MESSAGES = 20


class _Request(BaseHTTPRequestHandler):
    """Notes a call once it is answered with 200."""

    server: Receiver
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:  # noqa: N802
        body = self.rfile.read(int(self.headers["Content-Length"]))
        signature = "sha256=" + hmac.digest(KEY.encode(), body, hashlib.sha256).hex()
        if self.headers["X-Mox-Webhook-Signature"] != signature:
            self.server.problems.append("signature")
        if self.headers["Authorization"] != "Bearer hooks":
            self.server.problems.append("authorization")
        with self.server.lock:
            self.server.calls += 1
            status = self.server.status
            if status == 200:
                self.server.taken.append((self.path, json.loads(body)))
        self.server.gate.wait(60)
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """No lines on standard error."""


class Receiver(ThreadingHTTPServer):
    """status: what is answered, once the gate is open; taken: path and content of good calls."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Request)
        self.lock = threading.Lock()
        self.gate = threading.Event()
        self.gate.set()
        self.status = 200
        self.calls = 0
        self.problems: list[str] = []
        self.taken: list[tuple[str, dict[str, Any]]] = []
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """The server was killed in the middle of a call."""

    def messages(self, path: str) -> list[str]:
        """The Message-IDs of the calls to a path."""
        with self.lock:
            taken = list(self.taken)
        return [_message_id(content) for where, content in taken if where == path]


def _message_id(content: dict[str, Any]) -> str:
    found = content.get("MessageID") or ""
    return str(found).strip("<>")


class WebhookTests(LiveCase):
    def setUp(self) -> None:
        super().setUp()
        self.receiver = Receiver()
        self.addCleanup(self.receiver.server_close)
        self.addCleanup(self.receiver.shutdown)
        self.addCleanup(self.receiver.gate.set)
        self.sink = Sink()
        self.addCleanup(self.sink.server_close)
        self.addCleanup(self.sink.shutdown)
        base = f"http://127.0.0.1:{self.receiver.server_address[1]}"
        common = {"Authorization": "Bearer hooks", "SigningKey": KEY}
        options = smarthost(self.sink.server_address[1], "b.example", starttls=False)
        options["static"] |= self.database()
        self.server = self.mail_server(
            accounts={"mjl": [USER]},
            account_options={
                "OutgoingWebhook": {"URL": f"{base}/out", **common},
                "IncomingWebhook": {"URL": f"{base}/in", **common},
                "KeepRetiredWebhookPeriod": "24h",
            },
            **options,
        )

    def database(self) -> dict[str, str]:
        """Fields of mox.conf for the database."""
        return {}

    def submit(self, first: int, last: int) -> None:
        """Messages to the other side, and from there."""
        for port, sender, to, name in (
            (self.server.ports.submission, USER, "x@b.example", "out"),
            (self.server.ports.smtp, "x@b.example", USER, "in"),
        ):
            with smtplib.SMTP(self.server.ip, port, timeout=20) as client:
                client.ehlo("localhost")
                if name == "out":
                    client.login(USER, PASSWORD)
                for number in range(first, last):
                    client.sendmail(
                        sender,
                        [to],
                        f"From: <{sender}>\r\nTo: <{to}>\r\nSubject: {name} {number}\r\n"
                        f"Message-ID: <{name}{number}@load.example>\r\n\r\nhello\r\n",
                    )

    def expect(self, count: int) -> None:
        for path, name in (("/out", "out"), ("/in", "in")):
            wanted = {f"{name}{number}@load.example" for number in range(count)}
            poll(
                lambda path=path, wanted=wanted: wanted <= set(self.receiver.messages(path)),
                40,
                f"calls to {path}",
                0.1,
            )
        self.assertEqual(self.receiver.problems, [])

    def test_nothing_is_lost(self) -> None:
        receiver, server = self.receiver, self.server
        # Each is told once, when all is well.
        self.submit(0, 3)
        self.expect(3)
        self.assertEqual(len(receiver.messages("/in")), 3)
        # A receiver that fails: all calls wait, then all are made.
        receiver.status = 503
        self.submit(3, 6)
        poll(lambda: receiver.calls >= 6 + 6, 30, "calls that fail", 0.1)
        poll(lambda: "503" in server.moxtw("queue", "webhook", "list"), 30, "results", 0.2)
        receiver.status = 200
        server.moxtw("queue", "webhook", "schedule", "-now", "0s")
        self.expect(6)
        # One that takes calls and does not answer, while the server is killed.
        receiver.gate.clear()
        calls = receiver.calls
        self.submit(6, MESSAGES)
        poll(lambda: receiver.calls > calls, 30, "calls under way", 0.05)
        server.kill()
        receiver.gate.set()
        server.start()
        server.moxtw("queue", "webhook", "schedule", "-now", "0s")
        self.expect(MESSAGES)
        poll(
            lambda: server.moxtw("queue", "webhook", "list") == "(none)\n", 30, "the queue", 0.2
        )
        # What was under way at the time of the kill may have come twice, and no more than that.
        for path in ("/out", "/in"):
            told = receiver.messages(path)
            twice = {name for name in told if told.count(name) > 1}
            self.assertLessEqual(max(map(told.count, told)), 2)
            self.assertLessEqual(len(twice), 10, twice)
        self.finish(server)


class PostgreSQLTests(WebhookTests):
    """The same with another database."""

    def database(self) -> dict[str, str]:
        return {"DatabaseURL": start_postgresql(self)}
