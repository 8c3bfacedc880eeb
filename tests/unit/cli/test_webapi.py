"""Calls of the HTTP API."""

from __future__ import annotations

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from urllib.parse import parse_qs

from twisted.trial.unittest import SynchronousTestCase

from moxtw.cli.command import UsageError
from moxtw.cli.webapi import target
from tests.unit.cli.calls import call


class TargetTests(SynchronousTestCase):
    def test_urls(self) -> None:
        cases = [
            ("http://a:b@h/webapi/", "http://h/webapi/v0/Send", b"a:b"),
            ("https://a:b@h:1443/webapi/v0/", "https://h:1443/webapi/v0/Send", b"a:b"),
            ("http://m%40x:p%3aw@[::1]:80", "http://[::1]:80/v0/Send", b"m@x:p:w"),
            ("http://a:@h/x?y#z", "http://h/x/v0/Send", b"a:"),
        ]
        for url, expected, credentials in cases:
            found, authorization = target(url, "Send")
            self.assertEqual(found, expected)
            self.assertEqual(authorization, "Basic " + base64.b64encode(credentials).decode())
        self.assertEqual(target("http://a:b@h/", "../x y")[0], "http://h/v0/..%2Fx%20y")

    def test_others(self) -> None:
        for url in ("", "h", "http://h/", "http://a@h/", "ftp://a:b@h/", "file:///etc/passwd",
                    "http://a:b@h:bla/", "http://a:b@/"):  # fmt: skip
            self.assertRaises(UsageError, target, url, "Send")


class CallTests(SynchronousTestCase):
    def setUp(self) -> None:
        case = self
        self.status, self.kind, self.answer = 200, "application/json; charset=utf-8", b"{}"
        self.requests: list[tuple[str, Any, Any]] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                case.requests.append((self.path, self.headers, parse_qs(body.decode())))
                self.send_response(case.status)
                self.send_header("Content-Type", case.kind)
                self.send_header("Content-Length", str(len(case.answer)))
                self.end_headers()
                self.wfile.write(case.answer)

            def log_message(self, *args: Any) -> None:
                pass

        server = HTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()

        def stop() -> None:
            server.shutdown()
            thread.join()
            server.server_close()

        self.addCleanup(stop)
        self.url = f"http://me%40a.example:pw@127.0.0.1:{server.server_port}/webapi/"

    def test_call(self) -> None:
        self.answer = '{"MessageID":"<ü@x>"}'.encode()
        request = '{"Text": "ü & = +"}'
        result = call("webapi", "Send", self.url, stdin=request.encode())
        self.assertEqual((result.code, result.err), (0, ""))
        self.assertEqual(result.out, '{\n  "MessageID": "<ü@x>"\n}\n')
        ((path, headers, form),) = self.requests
        self.assertEqual(path, "/webapi/v0/Send")
        self.assertEqual(
            headers["Authorization"], "Basic " + base64.b64encode(b"me@a.example:pw").decode()
        )
        self.assertEqual(form, {"request": [request]})

    def test_bytes(self) -> None:
        self.kind, self.answer = "text/plain", b"Subject: x\r\n\r\n"
        self.assertEqual(call("webapi", "MessageRawGet", self.url).out, "Subject: x\r\n\r\n")

    def test_errors(self) -> None:
        cases = [
            (400, b'{"Code":"user","Message":"no \\u001b such"}', "user: no \\x1b such"),
            (400, b"[]", "status 400: []"),
            (401, b"login needed\n", "status 401: login needed"),
            (200, b"{", "the answer is not JSON"),
        ]
        for self.status, self.answer, message in cases:
            result = call("webapi", "Send", self.url, stdin=b"{}")
            self.assertEqual((result.code, result.out), (1, ""))
            self.assertIn(message, result.err)
            self.assertNotIn(":pw@", result.err)

    def test_no_server(self) -> None:
        result = call("webapi", "Send", "http://a:pw@127.0.0.1:1/", stdin=b"{}")
        self.assertEqual((result.code, result.out), (1, ""))
        self.assertIn("127.0.0.1:1", result.err)
        self.assertNotIn("pw", result.err)

    def test_wrong_url_shows_no_password(self) -> None:
        result = call("webapi", "Send", "ftp://a:secret@h/", stdin=b"{}")
        self.assertEqual(result.code, 2)
        self.assertNotIn("secret", result.err)


class MethodTests(SynchronousTestCase):
    def test_listed(self) -> None:
        self.assertTrue(call("webapi").out.startswith("Send\n"))

    def test_examples(self) -> None:
        out = call("webapi", "Send").out
        request = out.split("Example of a request:\n")[1].split("\n\nExample")[0]
        self.assertEqual(json.loads(request)["Subject"], "hello")
        self.assertEqual(call("webapi", "Bla").code, 1)
