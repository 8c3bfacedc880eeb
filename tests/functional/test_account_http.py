"""The account interface of a server process over sockets: logins, settings, restart."""

from __future__ import annotations

import http.client
import imaplib
import io
import json
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from urllib.parse import urlencode

from tests.support.postgresql import start_postgresql
from tests.support.rpc import CookieClient
from tests.support.server import PASSWORD, LiveCase, MailServer, poll


class AccountClient(CookieClient):
    """A client of the account API."""

    def __init__(self, server: MailServer, path: str = "/account/") -> None:
        super().__init__(
            http.client.HTTPConnection(server.ip, server.ports.http, timeout=60), path
        )

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


def multipart(name: str, data: bytes, prefix: str = "") -> tuple[bytes, str]:
    """A form with a file to import, and its content type."""
    parts = [
        b'Content-Disposition: form-data; name="skipMailboxPrefix"\r\n\r\n' + prefix.encode(),
        b'Content-Disposition: form-data; name="file"; filename="%s"\r\n'
        b"Content-Type: application/octet-stream\r\n\r\n" % name.encode() + data,
    ]
    body = b"".join(b"--BOUND\r\n" + part + b"\r\n" for part in parts) + b"--BOUND--\r\n"
    return body, "multipart/form-data; boundary=BOUND"


def make_mbox(count: int, size: int = 500) -> bytes:
    return b"".join(
        b"From a@b Mon Jan  2 15:04:05 2006\nStatus: R\nX-Keywords: label%d\nSubject: %d\n\n%s\n\n"
        % (n % 3, n, b"text " * (size // 5))
        for n in range(count)
    )


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


class ImportTests(LiveCase):
    def upload(self, client: AccountClient, name: str, data: bytes, prefix: str = "") -> str:
        body, content_type = multipart(name, data, prefix)
        response, content = client.request("POST", "import", body, **{"Content-Type": content_type})
        self.assertEqual(response.status, 200, content)
        return str(json.loads(content)["Token"])

    def export(
        self, client: AccountClient, form: dict[str, str]
    ) -> tuple[http.client.HTTPResponse, bytes]:
        csrf, client.csrf = client.csrf, ""
        try:
            return client.request(
                "POST",
                "export",
                urlencode(form).encode(),
                **{"Content-Type": "application/x-www-form-urlencoded"},
            )
        finally:
            client.csrf = csrf

    def events(self, client: AccountClient, token: str) -> list[tuple[str, dict[str, Any]]]:
        """The events of an import, to its end."""
        response, content = client.request("GET", f"importprogress?token={token}")
        self.assertEqual(response.status, 200, content)
        self.assertEqual(response.headers["Content-Type"], "text/event-stream")
        found = []
        for block in content.decode().split("\n\n"):
            kind, _, data = block.partition("\n")
            if kind.startswith("event: "):
                found.append((kind[7:], json.loads(data.removeprefix("data: "))))
        return found

    def test_import(self) -> None:
        server = self.mail_server(accounts={"me": ["me@a.example"]})
        client = AccountClient(server).login()
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
            file.writestr("top/Big.mbox", make_mbox(1200))
            file.writestr("top/Dir/cur/1:2,SFa", b"Subject: m\n\nx\n")
            file.writestr("top/Dir/dovecot-keywords", b"0 Work\n")
            file.writestr("top/other", b"?")
        token = self.upload(client, "m.zip", out.getvalue(), "top/")
        # For watching, the token is enough.
        events = self.events(AccountClient(server), token)
        self.assertEqual(events[-1], ("done", {}))
        self.assertIn(("count", {"Mailbox": "Big", "Count": 1200}), events)
        (problem,) = [data["Message"] for kind, data in events if kind == "problem"]
        self.assertIn("top/other", problem)
        self.assertTrue(all(set(d) == {"Title"} for kind, d in events if kind == "step"))
        # What ended is told again, for a while.
        self.assertEqual(self.events(client, token)[-1], ("done", {}))
        imap = server.imap("me")
        self.assertEqual(imap.select("Big"), ("OK", [b"1200"]))
        self.assertEqual(len(imap.search(None, "SEEN", "KEYWORD", "label1")[1][0].split()), 400)
        imap.select("Dir")
        flags = imap.fetch("1", "(FLAGS)")[1][0]
        self.assertEqual(set(imaplib.ParseFlags(flags)), {b"\\Flagged", b"\\Seen", b"work"})
        imap.logout()

        form = {"csrf": client.csrf, "format": "mbox", "archive": "none", "mailbox": "Big"}
        response, exported = self.export(client, form)
        self.assertEqual(response.status, 200, exported[:200])
        disposition = response.headers["Content-Disposition"]
        self.assertRegex(disposition, r'^attachment; filename="mailexport-Big-mbox-[0-9-]+\.mbox"$')
        self.assertEqual(exported.count(b"\nStatus: R\n"), 1200)
        response, archive = self.export(
            client, {"csrf": client.csrf, "format": "maildir", "archive": "tgz", "recursive": "1"}
        )
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            names = tar.getnames()
        self.assertEqual(len([n for n in names if n.startswith("Big/cur/")]), 1200)
        self.assertTrue(any(n.startswith("Dir/cur/") and n.endswith(":2,FSf") for n in names))
        self.assertIn("Sent/new", names)
        token = self.upload(client, "again.mbox", exported)
        self.assertEqual(self.events(client, token)[-1], ("done", {}))
        self.assertEqual(client.answer("ImportAbort", token)["error"]["code"], "user:notFound")
        # Big enough to be under way for a while.
        token = self.upload(client, "Huge.mbox", make_mbox(8_000))
        body, content_type = multipart("m.mbox", make_mbox(1))
        response, _ = client.request("POST", "import", body, **{"Content-Type": content_type})
        self.assertEqual(response.status, 400)  # one at a time
        client.call("ImportAbort", token)
        self.assertEqual(self.events(client, token)[-1], ("aborted", {}))
        imap = server.imap("me")
        self.assertEqual(imap.select("Huge")[0], "NO")
        imap.logout()
        self.finish(server)

    def test_large_upload_right_after_a_restart(self) -> None:
        # Strangers may send less, and who is none has to be known before the store is asked.
        server = self.mail_server(accounts={"me": ["me@a.example"]})
        client = AccountClient(server).login()
        server.kill()
        server.start()
        client.connection.close()
        token = self.upload(client, "Large.mbox", make_mbox(34, 1 << 20))
        self.assertEqual(self.events(client, token)[-1], ("done", {}))
        imap = server.imap("me")
        self.assertEqual(imap.select("Large"), ("OK", [b"34"]))
        imap.logout()
        self.finish(server)

    def test_kill_and_continue(self) -> None:
        server = self.mail_server(accounts={"me": ["me@a.example"]})
        client = AccountClient(server).login()
        data = make_mbox(2500)
        self.upload(client, "Big.mbox", data)

        def some() -> bool:
            imap = server.imap("me")
            try:
                status, found = imap.select("Big")
                return status == "OK" and int(found[0] or b"0") >= 200
            finally:
                imap.logout()

        poll(some, 30, "messages")
        server.kill()
        server.start()
        client = AccountClient(server).login()
        token = self.upload(client, "Big.mbox", data)
        events = self.events(client, token)
        self.assertEqual(events[-1], ("done", {}))
        self.assertTrue(any("going on after" in d.get("Title", "") for _, d in events), events[:3])
        imap = server.imap("me")
        self.assertEqual(imap.select("Big"), ("OK", [b"2500"]))
        subjects = imap.fetch("1:*", "(BODY.PEEK[HEADER.FIELDS (SUBJECT)])")[1]
        self.assertEqual(len({each[1] for each in subjects if isinstance(each, tuple)}), 2500)
        imap.logout()
        self.finish(server)


class PostgreSQLTests(ImportTests):
    """The same with another database."""

    def mail_server(self, **options: Any) -> MailServer:
        return super().mail_server(static={"DatabaseURL": start_postgresql(self)}, **options)
