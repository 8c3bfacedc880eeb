"""The HTTP API of a server process, called by curl."""

from __future__ import annotations

import imaplib
import json
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.support.server import PASSWORD, LiveCase, MailServer

USER = f"me@a.example:{PASSWORD}"


class CurlTests(LiveCase):
    if shutil.which("curl") is None:
        skip = "curl is not installed"

    def setUp(self) -> None:
        super().setUp()
        self.server = MailServer(self.mktemp(), accounts={"me": ["me@a.example"]})
        self._servers.append(self.server)
        self.addCleanup(self.server.stop)
        self.server.start()
        self.base = f"http://{self.server.ip}:{self.server.ports.http}/webapi/v0/"

    def curl(self, *args: str, user: str = USER) -> tuple[int, bytes]:
        command = ["curl", "-s", "-m", "30", "--user", user, "-w", "%{stderr}%{http_code}", *args]
        done = subprocess.run(command, capture_output=True, check=True)
        return int(done.stderr), done.stdout

    def call(self, method: str, request: Any, *more: str) -> Any:
        data = "request=" + json.dumps(request)
        status, content = self.curl("--data-urlencode", data, *more, self.base + method)
        self.assertEqual(status, 200, content)
        return json.loads(content)

    def test_methods(self) -> None:
        status, content = self.curl("-L", self.base.removesuffix("v0/"))
        self.assertEqual(status, 200)
        self.assertIn(b'href="MessageRawGet"', content)
        file = Path(self.mktemp())
        file.write_bytes(bytes(range(256)) * 1000)
        request = {
            "To": [{"Address": "x@elsewhere.example"}],
            "Text": "hello",
            "HTML": "<p>hello</p>",
            "SaveSent": True,
            "FutureRelease": "2020-01-01T00:00:00Z",
        }
        form = [
            *("-F", "request=" + json.dumps(request)),
            *("-F", f"attachedfile=@{file};filename=data.bin"),
            *("-H", "Idempotency-Key: one"),
        ]
        status, first = self.curl(*form, self.base + "Send")
        self.assertEqual(status, 200, first)
        # curl makes another boundary for each form.
        self.assertEqual(self.curl(*form, self.base + "Send"), (200, first))
        number = self.find()
        got = self.call("MessageGet", {"MsgID": number})
        self.assertEqual(got["Message"]["Text"], "hello\n")
        self.assertEqual(got["Message"]["MessageID"], json.loads(first)["MessageID"])
        self.assertEqual(got["Meta"]["MailboxName"], "Sent")
        self.assertEqual(got["Structure"]["Parts"][1]["Filename"], "data.bin")
        part = "request=" + json.dumps({"MsgID": number, "PartPath": [1]})
        status, content = self.curl("--data-urlencode", part, self.base + "MessagePartGet")
        self.assertEqual((status, content), (200, file.read_bytes()))
        raw = "request=" + json.dumps({"MsgID": number})
        status, content = self.curl("--data-urlencode", raw, self.base + "MessageRawGet")
        self.assertEqual((status, len(content)), (200, got["Meta"]["Size"]))
        self.call("MessageFlagsAdd", {"MsgID": number, "Flags": ["\\Flagged"]})
        self.call("MessageMove", {"MsgID": number, "DestMailboxName": "Archive"})
        got = self.call("MessageGet", {"MsgID": number})
        self.assertEqual(got["Meta"]["MailboxName"], "Archive")
        self.assertIn("\\flagged", got["Meta"]["Flags"])
        self.call("MessageDelete", {"MsgID": number})
        status, content = self.curl("--data-urlencode", raw, self.base + "MessageGet")
        self.assertEqual((status, json.loads(content)["Code"]), (400, "messageNotFound"))
        self.call("SuppressionAdd", {"EmailAddress": "x@elsewhere.example"})
        # A key is known after a restart, too.
        self.server.stop()
        self.server.start()
        self.assertEqual(self.curl(*form, self.base + "Send"), (200, first))
        self.assertEqual(len(self.call("SuppressionList", {})["Suppressions"]), 1)

    def test_same_key_at_once(self) -> None:
        request = json.dumps({"To": [{"Address": "x@elsewhere.example"}], "Text": "hello"})
        args = ("--data-urlencode", "request=" + request, "-H", "Idempotency-Key: k")
        with ThreadPoolExecutor(6) as pool:
            answers = list(pool.map(lambda _: self.curl(*args, self.base + "Send"), range(6)))
        self.assertEqual(len(set(answers)), 1, answers)
        self.assertEqual(answers[0][0], 200)

    def find(self) -> int:
        """The id of the only message in Sent: EMAILID of IMAP says it."""
        imap = imaplib.IMAP4(self.server.ip, self.server.ports.imap)
        imap.login("me@a.example", PASSWORD)
        imap.select("Sent")
        (line,) = imap.fetch("1", "(EMAILID)")[1]
        imap.logout()
        assert isinstance(line, bytes)
        return int(line.partition(b"(M")[2].partition(b")")[0])
