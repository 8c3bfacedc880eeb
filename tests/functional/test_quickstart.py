"""quickstart in a fresh folder, with a name server on loopback; the server that it sets up."""

from __future__ import annotations

import http.client
import imaplib
import json
import os
import re
import shutil
import signal
import smtplib
import ssl
import subprocess
import sys
from pathlib import Path
from unittest import SkipTest

from moxtw.config.load import load_dynamic, load_static
from moxtw.dns.resolver import reverse_name
from tests.support.server import (
    READY,
    ROOT,
    START_SECONDS,
    LiveCase,
    expect_ok,
    may_bind,
    poll,
)

MOXTW = [sys.executable, "-m", "moxtw.cli.main"]
SECONDS = 60
IP = "127.0.0.23"
HOST = "mail.q.example"
PORTS = [(IP, port) for port in (25, 465, 993, 80, 443)] + [
    (ip, port) for ip in ("127.0.0.1",) for port in (80, 8010)
]

ZONE = {
    "com": {"NS": ["a.gtld-servers.net."]},
    HOST: {"A": [IP]},
    reverse_name(IP): {"PTR": [HOST + "."]},
    "localhost": {"A": ["127.0.0.1"]},
}


class QuickstartTests(LiveCase):
    def setUp(self) -> None:
        super().setUp()
        self.base = Path(self.mktemp()).absolute()
        self.base.mkdir()
        self.resolver = self.name_server(ZONE)

    def environment(self) -> dict[str, str]:
        found = os.environ | {"PYTHONPATH": str(ROOT)}
        found.pop("MOXCONF", None)
        return found

    def moxtw(self, *args: str) -> tuple[int, str, str]:
        done = subprocess.run(
            [*MOXTW, *args],
            cwd=self.base,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=self.environment(),
            timeout=SECONDS,
            check=False,
        )
        return done.returncode, done.stdout.decode(), done.stderr.decode()

    def quickstart(self, *args: str) -> tuple[int, str, str]:
        return self.moxtw(
            "quickstart", "-resolver", self.resolver.address, "-skipdial", "-hostname", HOST,
            "-ips", IP, *args,
        )  # fmt: skip

    def listing(self) -> list[str]:
        return sorted(str(path.relative_to(self.base)) for path in self.base.rglob("*"))

    def start(self) -> None:  # type: ignore[override]
        """The server as a newcomer starts it, on the ports of mail and web."""
        log = self.base / "log"
        twistd = Path(sys.executable).with_name("twistd")
        with open(log, "wb") as file:
            process = subprocess.Popen(
                [twistd, "-n", "--pidfile=", "moxtw", "-c", "config/mox.conf"],
                cwd=self.base,
                stdout=file,
                stderr=file,
                env=self.environment(),
            )

        def stop() -> None:
            process.send_signal(signal.SIGTERM)
            process.wait(SECONDS)

        self.addCleanup(stop)

        def ready() -> bool:
            text = log.read_bytes()
            self.assertIsNone(process.poll(), text.decode())
            return READY in text

        poll(ready, START_SECONDS, "start")
        self.log = log.read_text()

    def test_the_server_starts_and_takes_mail(self) -> None:
        if os.getuid() != 0 or not all(may_bind(ip, port) for ip, port in PORTS):
            raise SkipTest("needs root, and the ports of mail and web on loopback")
        code, out, err = self.quickstart("you@q.example", "root")
        self.assertEqual((code, err), (0, ""), out)
        self.assertEqual((self.base / "quickstart.log").read_text(), out)
        account = self.passwords(out)[0]
        self.assertRegex(out, "(?m)^DNS resolver ... verifies DNSSEC$")
        self.assertRegex(out, r"(?m)^Ports ... free$")
        self.assertRegex(out, rf'(?m)^q\.example\. +TXT "v=spf1 ip4:{IP} mx ~all"$')
        self.assertRegex(out, rf"(?m)^_25\._tcp\.{HOST}\. +TLSA 3 1 1 [0-9a-f]{{64}}$")
        self.assertRegex(out, "(?m)^IMAP +mail.q.example +993 ")

        self.start()
        for address in (f"smtp={IP}:25", f"submissions={IP}:465", f"imaps={IP}:993"):
            self.assertIn(address, self.log)
        with smtplib.SMTP(IP, 25, "localhost", timeout=SECONDS) as smtp:
            smtp.sendmail("", ["postmaster@q.example"], b"Subject: first\r\n\r\nhello\r\n")
        tls = ssl._create_unverified_context()
        with imaplib.IMAP4_SSL(IP, 993, ssl_context=tls, timeout=SECONDS) as imap:
            expect_ok(imap.login("you@q.example", account))
            expect_ok(imap.select("INBOX"))
        with smtplib.SMTP_SSL(IP, 465, "localhost", context=tls, timeout=SECONDS) as smtp:
            smtp.login("you@q.example", account)
            smtp.noop()
        self.admin_login(self.passwords(out)[1])

    def passwords(self, out: str) -> tuple[str, str]:
        account = re.search(r"(?m)^Account +you@q\.example, password (\S{12})$", out)
        admin = re.search(r"(?m)^Admin +password (\S{12})$", out)
        assert account is not None
        assert admin is not None
        return account[1], admin[1]

    def admin_login(self, password: str) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", 80, timeout=SECONDS)
        self.addCleanup(connection.close)

        def call(name: str, *params: str, cookie: str = "") -> tuple[object, str]:
            headers = {"Content-Type": "application/json"}
            if cookie:
                headers["Cookie"] = cookie
            body = json.dumps({"params": params})
            connection.request("POST", f"/admin/api/{name}", body, headers)
            answer = connection.getresponse()
            text = answer.read()
            found = json.loads(text)
            self.assertNotIn("error", found)
            return found["result"], (answer.headers["Set-Cookie"] or "").partition(";")[0]

        token, cookie = call("LoginPrep")
        result, _ = call("Login", str(token), password, cookie=cookie)
        self.assertRegex(str(result), ".")

    def test_second_time_changes_nothing(self) -> None:
        self.assertEqual(self.quickstart("you@q.example", "root")[0], 0)
        before = {path: (self.base / path).read_bytes() for path in self.listing()
                  if (self.base / path).is_file()}  # fmt: skip
        code, out, err = self.quickstart("me@q.example", "root")
        self.assertEqual((code, out), (1, ""))
        self.assertRegex(err, "there is an installation already: .*mox.conf")
        after = {path: (self.base / path).read_bytes() for path in self.listing()
                 if (self.base / path).is_file()}  # fmt: skip
        self.assertEqual(after, before)

    def test_after_an_error_nothing_is_left(self) -> None:
        (self.base / "data").mkdir()
        (self.base / "data" / "content").write_text("in the way of the store")
        code, _, err = self.quickstart("you@q.example", "root")
        self.assertEqual(code, 1)
        self.assertIn("removed again", err)
        self.assertEqual(self.listing(), ["data", "data/content"])
        code, _, err = self.quickstart("you@q.example", "no such user!")
        self.assertEqual(code, 1)
        self.assertIn("bad user name", err)
        self.assertEqual(self.listing(), ["data", "data/content"])

    def test_existing_web_server(self) -> None:
        code, out, err = self.quickstart("-existing-webserver", "you@q.example")
        self.assertEqual((code, err), (0, ""), out)
        for pattern in (
            r"Your web server", r"mta-sts\.q\.example", r"http://127\.0\.0\.1:81,",
            r"ssh -L 8080:localhost:1080 root@mail\.q\.example", "useradd .* mox",
        ):  # fmt: skip
            self.assertRegex(out, pattern)
        self.assertNotIn("TLSA", out)
        static = load_static(self.base / "config" / "mox.conf", check_files=False)
        self.assertEqual(static.listeners["public"].webserver_http.enabled, False)
        self.assertEqual(static.effective_user, "mox")
        code, _, err = self.moxtw("config", "test")
        self.assertEqual(code, 1)  # There are no certificates yet.
        self.assertRegex(err, r"path/to/mail\.q\.example")

    def test_unit_file_and_other_folder(self) -> None:
        config = self.base / "etc" / "mail server" / "mox.conf"
        code, out, err = self.quickstart("-config", str(config), "you@q.example", "12345")
        self.assertEqual((code, err), (0, ""), out)
        static = load_static(config)
        load_dynamic(static.dynamic_path, static)
        unit = (config.parent / "moxtw.service").read_text()
        self.assertIn(f'-config "{config}" serve', unit)
        self.assertRegex(out, "'?-config '/.*/mail server/mox.conf' config dnscheck q.example")
        self.assertNotIn("useradd", out)
        if shutil.which("systemd-analyze") is None:
            return
        done = subprocess.run(
            ["systemd-analyze", "verify", config.parent / "moxtw.service"],
            capture_output=True, timeout=SECONDS, check=False,
        )  # fmt: skip
        self.assertNotIn(b"moxtw.service:", done.stderr)

    def test_wrong_calls(self) -> None:
        for args, pattern in [
            ((), "argument is missing"),
            (("you",), "address 'you'"),
            (("you@",), "address"),
            (("you@q.example", "a", "b"), "too many"),
            (("-hostname", "x y", "you@q.example"), "-hostname"),
            (("-hostname", "mail", "you@q.example"), "not a full name"),
            (("-ips", "192.0.2", "you@q.example"), "-ips"),
            (("-resolver", "x", "you@q.example"), "-resolver"),
        ]:
            code, out, err = self.moxtw("quickstart", *args)
            self.assertEqual(code, 2, err)
            self.assertNotIn("Password", out)
            self.assertRegex(err, pattern)
            self.assertEqual(self.listing(), [])

    def test_help(self) -> None:
        code, out, err = self.moxtw("quickstart", "-help")
        self.assertEqual((code, err), (0, ""))
        for flag in ("existing-webserver", "hostname", "skipdial", "ips", "resolver"):
            self.assertIn(f"-{flag}", out)
