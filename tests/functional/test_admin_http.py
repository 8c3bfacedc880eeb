"""The web side of a server process over sockets: admin API, webapi, limits, restart."""

from __future__ import annotations

import base64
import http.client
import imaplib
import json
import socket
import ssl
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from moxtw.admin import adminpassword
from tests.support.rpc import CookieClient
from tests.support.server import PASSWORD, LiveCase, MailServer, free_port, poll

ADMIN_PASSWORD = "admin pässword"


class Client(CookieClient):
    """A client of the admin API."""

    def __init__(self, server: MailServer, tls: bool = False) -> None:
        if tls:
            context = ssl.create_default_context(cafile=str(server.certificate))
            super().__init__(http.client.HTTPSConnection(
                "localhost", server.https_port, context=context, timeout=30  # type: ignore[attr-defined]
            ))
        else:
            super().__init__(
                http.client.HTTPConnection(server.ip, server.ports.http, timeout=30)
            )
        self.server = server

    def call(self, name: str, *params: Any) -> Any:
        body = json.dumps({"params": params}).encode()
        response, content = self.request("POST", f"/admin/api/{name}", body)
        value = json.loads(content)
        if response.status != 200 or "error" in value:
            raise AssertionError((response.status, value))
        return value["result"]

    def login(self) -> Client:
        token = self.call("LoginPrep")
        self.csrf = self.call("Login", token, ADMIN_PASSWORD)
        return self

    def send(
        self, request: Any, password: str = PASSWORD, user: str = "me@a.example"
    ) -> tuple[int, Any]:
        token = base64.b64encode(f"{user}:{password}".encode()).decode()
        response, content = self.request(
            "POST",
            "/webapi/v0/Send",
            urlencode({"request": json.dumps(request)}).encode(),
            **{
                "Content-Type": "application/x-www-form-urlencoded",
                "Authorization": f"Basic {token}",
            },
        )
        known = response.status in (200, 400)
        return response.status, json.loads(content) if known else content


class WebCase(LiveCase):
    def setUp(self) -> None:
        super().setUp()
        https = free_port()
        self.server = MailServer(
            self.mktemp(),
            accounts={"me": ["me@a.example"]},
            listener={
                "AdminHTTPS": {"Enabled": True, "Port": https},
                "WebAPIHTTPS": {"Enabled": True, "Port": https},
            },
            static={"AdminPasswordFile": "adminpasswd"},
        )
        self.server.https_port = https  # type: ignore[attr-defined]
        path = Path(self.server.config_path).parent / "adminpasswd"
        adminpassword.set_admin_password(path, ADMIN_PASSWORD)
        self._servers.append(self.server)
        self.addCleanup(self.server.stop)
        self.server.start()


class AdminHTTPTests(WebCase):
    def test_administration(self) -> None:
        client = Client(self.server).login()
        self.assertEqual([d["Domain"]["ASCII"] for d in client.call("Domains")], ["a.example"])
        client.call("DomainAdd", False, "b.example", "me", "")
        client.call("AccountAdd", "you", "you@b.example")
        client.call("SetPassword", "you", "another password")
        imap = imaplib.IMAP4(self.server.ip, self.server.ports.imap)
        imap.login("you@b.example", "another password")
        client.call("AccountLoginDisabledSave", "you", "closed")
        with self.assertRaises((imaplib.IMAP4.abort, imaplib.IMAP4.error)):
            poll(lambda: imap.noop()[0] != "OK", 10, "session ends")
        status, content = client.send(
            {"To": [{"Address": "x@c.example"}], "Text": "x"}, "another password", "you@b.example"
        )
        self.assertEqual(status, 401)
        self.assertIn(b"closed", content)
        client.call("LogLevelSet", "http", "debug")
        self.assertEqual(client.call("LogLevels")["http"], "debug")
        # The sessions of the admin end with the process, what was configured does not.
        self.server.stop()
        self.server.start()
        client = Client(self.server).login()
        self.assertEqual(client.call("Accounts"), [["me", "you"], ["you"]])
        client.call("AccountRemove", "you")
        client.call("DomainRemove", "b.example")
        self.assertEqual(self.server.errors(), [])

    def test_queue(self) -> None:
        client = Client(self.server).login()
        client.call("QueueHoldRuleAdd", {"Account": "me"})
        mail = {"To": [{"Address": "x@c.example"}], "Subject": "held", "Text": "x"}
        status, sent = client.send(mail)
        self.assertEqual(status, 200, sent)
        (message,) = client.call("QueueList", {}, {})
        self.assertEqual(message["ID"], sent["Submissions"][0]["QueueMsgID"])
        self.assertTrue(message["Hold"])
        self.assertEqual(client.call("QueueFail", {"IDs": [message["ID"]]}), 1)
        self.assertEqual(client.call("QueueSize"), 0)
        imap = imaplib.IMAP4(self.server.ip, self.server.ports.imap)
        imap.authenticate(
            "PLAIN", lambda _: b"\0me@a.example\0" + PASSWORD.encode()
        )
        imap.select("Inbox")
        poll(lambda: imap.noop() and imap.search(None, "ALL")[1][0], 10, "notification")
        data = imap.fetch("1", "(BODY[HEADER])")[1][0]
        assert isinstance(data, tuple)
        self.assertIn(b"multipart/report", data[1])
        imap.logout()

    def test_large_message_with_copy(self) -> None:
        client = Client(self.server)
        data = base64.b64encode(bytes(range(256)) * 20_000).decode()
        status, sent = client.send(
            {
                "To": [{"Address": "me@a.example"}],
                "Subject": "large",
                "Text": "see attachment",
                "AttachedFiles": [{"Name": "large.bin", "Data": data}],
                "SaveSent": True,
            }
        )
        self.assertEqual(status, 200, sent)
        imap = imaplib.IMAP4(self.server.ip, self.server.ports.imap)
        imap.authenticate("PLAIN", lambda _: b"\0me@a.example\0" + PASSWORD.encode())
        imap.select("Sent")
        body = imap.fetch("1", "(BODY[2])")[1][0]
        assert isinstance(body, tuple)
        self.assertEqual(base64.b64decode(body[1]), base64.b64decode(data))
        imap.logout()
        self.assertEqual(self.server.errors(), [])

    def test_tls(self) -> None:
        client = Client(self.server, tls=True)
        response, _ = client.request("POST", "/admin/api/LoginPrep", b'{"params":[]}')
        self.assertTrue(response.headers["Set-Cookie"].endswith("; Secure"))
        client.login()
        (attempt,) = client.call("LoginAttempts", "(admin)", 10)
        self.assertRegex(attempt["TLS"], r"^version=TLS1\.3 ciphersuite=TLS_\S+ sni=localhost ")
        self.assertEqual(attempt["RemoteIP"], "127.0.0.1")

    def test_metrics(self) -> None:
        connection = http.client.HTTPConnection(self.server.ip, self.server.ports.metrics)
        connection.request("GET", "/metrics")
        response = connection.getresponse()
        self.assertEqual(response.status, 200)
        self.assertIn(b"mox_httpserver_request_duration_seconds", response.read())

    def test_two_changes_at_once_lose_neither(self) -> None:
        clients = [Client(self.server).login() for _ in range(4)]
        problems: list[BaseException] = []

        def add(number: int, client: Client) -> None:
            try:
                for i in range(5):
                    client.call("AddressAdd", f"x{number}-{i}@a.example", "me")
            except BaseException as exc:  # noqa: BLE001 - told by the main thread
                problems.append(exc)

        threads = [
            threading.Thread(target=add, args=(number, client))
            for number, client in enumerate(clients)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(problems, [])
        config, _ = clients[0].call("Account", "me")
        self.assertEqual(len(config["Destinations"]), 21)
        self.server.stop()
        self.server.start()
        config, _ = Client(self.server).login().call("Account", "me")
        self.assertEqual(len(config["Destinations"]), 21)

    def test_clients_that_misbehave_disturb_nobody(self) -> None:
        address = (self.server.ip, self.server.ports.http)
        sockets = []
        for data in [
            b"",
            b"GET / HTTP/1.1\r\nX: " + b"y" * 40_000,
            b"POST /admin/api/Login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999\r\n\r\n{",
            b"POST /webapi/v0/Send HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9" + b"9" * 30,
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            b"GET / HTTP/9.9\r\n\r\n",
        ]:
            sock = socket.create_connection(address)
            sock.sendall(data)
            sockets.append(sock)
        client = Client(self.server).login()
        self.assertEqual(client.call("QueueSize"), 0)
        response, content = client.request(
            "POST", "/admin/api/Domains", b"x", **{"Content-Length": str(1 << 30)}
        )
        self.assertEqual((response.status, content), (413, b"413 - Request Entity Too Large\n"))
        started = time.monotonic()
        self.server.stop()
        self.assertLess(time.monotonic() - started, 6)
        for sock in sockets:
            sock.close()
        self.assertEqual(self.server.errors(), [])
