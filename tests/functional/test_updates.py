"""New versions, from the announcement to the postmaster's mailbox, with real commands."""

from __future__ import annotations

import base64
import os
import ssl
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from twisted.trial.unittest import SkipTest

from moxtw.updates.check import running
from tests.support.ca import Authority, Issued
from tests.support.server import ROOT, ZONE, LiveCase, poll

HOST = "updates.prog.example"
NEW = "v99.2.0"


class _Front(BaseHTTPRequestHandler):
    """A web server that does TLS, in front of another one."""

    server: Front

    def do_GET(self) -> None:  # noqa: N802
        url = f"http://{self.server.behind}{self.path}"
        request = urllib.request.Request(url, headers={"Accept": self.headers["Accept"] or ""})
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                status, body = response.status, response.read()
        except urllib.error.HTTPError as exc:
            status, body = exc.code, exc.read()
        self.server.paths.append(self.path)
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """No lines on standard error."""


class Front(ThreadingHTTPServer):
    """behind: address and port; paths: what was requested."""

    daemon_threads = True
    behind = ""

    def __init__(self, ip: str, context: ssl.SSLContext) -> None:
        super().__init__((ip, 443), _Front)
        self.paths: list[str] = []
        self.socket = context.wrap_socket(self.socket, server_side=True)


def start_front(testcase: LiveCase, folder: Path, issued: Issued) -> Front:
    """Serve with a certificate on port 443 of an address that nobody else has, or skip."""
    certificate = folder / "web.pem"
    certificate.write_bytes(
        b"".join(each.public_bytes(Encoding.PEM) for each in issued.chain)
        + issued.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    pid = os.getpid()
    try:
        front = Front(f"127.77.{pid >> 8 & 255}.{pid % 254 + 1}", context)
    except PermissionError:
        raise SkipTest("only root may listen on port 443") from None
    threading.Thread(target=front.serve_forever, daemon=True).start()
    testcase.addCleanup(front.server_close)
    testcase.addCleanup(front.shutdown)
    return front


class UpdateTests(LiveCase):
    def setUp(self) -> None:
        super().setUp()
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        authority = Authority()
        (self.folder / "ca.pem").write_bytes(authority.pem)
        self.front = start_front(self, self.folder, authority.issue(HOST))
        ip = self.front.server_address[0]
        names = self.name_server({**ZONE, HOST: {"A": [ip]}})
        self.zone, self.resolver = names.zone, names.address
        self.set_latest(str(running()))

    def set_latest(self, version: str) -> None:
        """What DNS says."""
        self.zone["_updates.prog.example."] = {"TXT": [f'"v=UPDATES0; l={version}"']}

    def run_command(self, *args: str, stdin: bytes = b"", config: str = "none") -> tuple[int, str]:
        """Exit code of a command, and what it prints: its error, if it fails."""
        done = subprocess.run(
            [sys.executable, "-m", "moxtw.cli.main", "-config", config, *args],
            input=stdin,
            capture_output=True,
            cwd=self.folder,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            timeout=60,
            check=False,
        )
        out, err = done.stdout.decode(), done.stderr.decode()
        self.assertNotIn("Traceback", err)
        self.assertEqual(err == "", done.returncode == 0, (args, err))
        return done.returncode, err if done.returncode else out

    def announce(self, version: str) -> tuple[int, str]:
        """Add a version to the changelog."""
        text = f"version: {version}\ndate: 2026-11-27\n\nChanges of {version}.\n"
        return self.run_command(
            "updates", "addsigned", "priv", "changelog.json", stdin=text.encode()
        )

    def make_changelog(self) -> str:
        """A changelog with two versions, served; the public key."""
        code, private = self.run_command("updates", "genkey")
        self.assertEqual(code, 0)
        (self.folder / "priv").write_text(private)
        code, public = self.run_command("updates", "pubkey", stdin=private.encode())
        self.assertEqual((code, len(base64.b64decode(public))), (0, 32))
        self.assertEqual(self.announce("v99.1.0")[0], 0)
        self.assertEqual(self.announce(NEW), (0, f"changelog.json: {NEW} added, 2 in all\n"))
        serving = subprocess.Popen(
            [sys.executable, "-m", "moxtw.cli.main", "updates", "serve",
             "-address", "127.0.0.1:0"],
            stdout=subprocess.PIPE,
            cwd=self.folder,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        self.addCleanup(serving.wait, 30)
        self.addCleanup(serving.terminate)
        assert serving.stdout is not None
        line = serving.stdout.readline().decode()
        serving.stdout.close()
        self.assertRegex(line, r"^serving 2 changes on 127\.0\.0\.1:[0-9]+\n$")
        self.front.behind = line.split()[-1]
        return public.strip()

    def test_from_the_announcement_to_the_postmaster(self) -> None:
        public = self.make_changelog()
        server = self.mail_server(
            resolver=self.resolver,
            static={
                "CheckUpdates": True,
                "Updates": {"Domain": "prog.example", "PublicKey": public},
                "TLS": {"CA": {"CertFiles": [str((self.folder / "ca.pem").absolute())]}},
            },
        )
        known = server.data_dir / "lastknownversion"
        poll(known.exists, 30, "a check")
        self.assertEqual(known.read_text(), f"{running()}\n")
        self.assertEqual(self.front.paths, [])
        config = str(server.config_path.absolute())
        code, out = self.run_command("checkupdate", config=config)
        self.assertEqual((code, out.splitlines()[-1]), (0, "no new version"))

        self.set_latest(NEW)
        code, out = self.run_command("checkupdate", config=config)
        self.assertEqual(code, 0, out)
        self.assertIn(f"latest:     {NEW}\n", out)
        self.assertLess(out.index(f"Changes of {NEW}"), out.index("Changes of v99.1.0"))
        self.assertEqual(self.front.paths, [f"/?from={running()}"])

        # The next check is due a day after the last one.
        server.stop()
        os.utime(known, (1_700_000_000, 1_700_000_000))
        server.start()
        poll(lambda: known.read_text() == f"{NEW}\n", 30, "the new version")
        imap = server.imap("mjl")
        self.assertEqual(imap.select("Postmaster"), ("OK", [b"1"]))
        self.assertEqual(imap.search(None, "FLAGGED", "UNSEEN", "SUBJECT", NEW)[1], [b"1"])
        imap.logout()
        # And is told of no more.
        code, out = self.run_command("checkupdate", config=config)
        self.assertEqual((code, out.splitlines()[-1]), (0, "no new version"))
        self.assertIn(f"last known: {NEW}\n", out)
        url = f"http://{server.ip}:{server.ports.metrics}/metrics"
        with urllib.request.urlopen(url, timeout=10) as response:
            metrics = response.read().decode()
        for name in ("updates_lookup", "updates_fetchchangelog"):
            self.assertIn(f'mox_{name}_duration_seconds_count{{result="ok"}} 1.0', metrics)
        self.assertIn(
            'mox_httpclient_request_duration_seconds_count{code="200",method="GET",'
            'pkg="updates",result="ok"} 1.0',
            metrics,
        )

        # Nothing that is signed by somebody else.
        (self.folder / "priv").write_text(base64.b64encode(bytes(32)).decode())
        self.assertEqual(self.announce("v99.3.0")[0], 0)
        self.set_latest("v99.3.0")
        code, out = self.run_command("checkupdate", config=config)
        self.assertEqual(code, 1)
        self.assertIn("change 1 is signed with another key", out)
        del self.zone["_updates.prog.example."]
        code, out = self.run_command("checkupdate", config=config)
        self.assertEqual(code, 1)
        self.assertIn("no record about updates", out)
        self.finish(server)

    def test_commands(self) -> None:
        public = self.make_changelog()
        data = (self.folder / "changelog.json").read_bytes()
        self.assertEqual(
            self.run_command("updates", "verify", public, stdin=data), (0, "2 changes verified\n")
        )
        for args, stdin, error in (
            (("verify", base64.b64encode(bytes(32)).decode()), data, "with another key"),
            (("verify", public), data.replace(b"Changes of", b"changes of"), "invalid signature"),
            (("verify", public), b"{", "not a changelog"),
            (("verify", "AAAA"), data, "need 32 bytes in base64, not 3"),
            (("verify", "A"), data, "bad base64"),
            (("pubkey",), b"AAAA", "need 32 bytes"),
            (("addsigned", "priv", "changelog.json"), b"no head", "no version in the head"),
            (("addsigned", "nokey", "changelog.json"), b"", "nokey"),
            (("addsigned", "priv", "priv"), b"", "not a changelog"),
            (("serve", "-changelog", "none.json"), b"", "none.json"),
            (("serve", "-address", "127.0.0.1:x"), b"", "need an address and a port"),
            (("serve", "-address", self.front.behind), b"", "in use"),
        ):
            code, out = self.run_command("updates", *args, stdin=stdin)
            self.assertNotEqual(code, 0, args)
            self.assertIn(error, out)
        self.assertEqual(self.announce(NEW), (1, f"moxtw: changelog.json has {NEW} already\n"))
        self.assertEqual((self.folder / "changelog.json").read_bytes(), data)
        code, out = self.run_command("checkupdate")
        self.assertEqual(code, 1)
        self.assertIn("configuration", out)

        def get(path: str, accept: str) -> tuple[int, str, bytes]:
            url = f"http://{self.front.behind}{path}"
            request = urllib.request.Request(url, headers={"Accept": accept})
            try:
                with urllib.request.urlopen(request, timeout=10) as response:
                    return response.status, response.headers["Content-Type"], response.read()
            except urllib.error.HTTPError as exc:
                return exc.code, exc.headers["Content-Type"], exc.read()

        self.assertEqual(get("/", "*/*"), (200, "application/json; charset=utf-8", data))
        self.assertNotIn(b"v99.1.0", get("/changelog?from=v99.1.0", "")[2])
        status, kind, body = get("/?from=v99.1.0", "text/html,application/xml;q=0.9,*/*;q=0.8")
        self.assertEqual((status, kind), (200, "text/html; charset=utf-8"))
        self.assertIn(b"<h1>Changes since v99.1.0</h1>", body)
        self.assertIn(b"Changes of v99.2.0.", body)
        self.assertEqual(get("/", "text/html;q=0.0, */*")[1], "application/json; charset=utf-8")
        self.assertEqual(get("/?from=%3Cb%3E", "text/html")[0], 400)
        self.assertEqual(get("/other", "*/*")[0], 404)
        (self.folder / "changelog.json").write_bytes(b"{")
        self.assertEqual(get("/", "*/*")[0], 500)
