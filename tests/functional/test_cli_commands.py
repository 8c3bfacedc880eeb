"""The command line as processes, against a server that ``moxtw serve`` runs."""

from __future__ import annotations

import imaplib
import json
import os
import pty
import shlex
import signal
import smtplib
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from moxtw.admin import localserve as localserve_files
from tests.support.server import ROOT, LiveCase, MailServer, free_port, poll

MOXTW = [sys.executable, "-m", "moxtw.cli.main"]
SECONDS = 60
MESSAGE = b"From: me@a.example\r\nTo: x@b.example\r\nSubject: queued\r\n\r\nhello\r\n"


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT)}


class ServedServer(MailServer):
    """A server that is started with ``moxtw serve``."""

    def command(self) -> list[str]:
        return [*MOXTW, "-config", str(self.config_path), "serve"]

    def wait(self) -> int:
        """The exit code of the process."""
        assert self._process is not None
        code = self._process.wait(SECONDS)
        self._process = None
        return code

    def signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)


class Case(LiveCase):
    def moxtw(self, *args: Any, stdin: bytes = b"") -> tuple[int, str, str]:
        """Exit code, output and errors of a command."""
        done = subprocess.run(
            [*MOXTW, "-config", str(self.server.config_path), *map(str, args)],
            input=stdin,
            capture_output=True,
            env=environment(),
            timeout=SECONDS,
            check=False,
        )
        return done.returncode, done.stdout.decode(), done.stderr.decode()

    def good(self, *args: Any, stdin: bytes = b"") -> str:
        code, out, err = self.moxtw(*args, stdin=stdin)
        self.assertEqual((code, err), (0, ""), args)
        return out

    def make(self, **options: Any) -> ServedServer:
        self.server = ServedServer(
            self.mktemp(), accounts={"me": ["me@a.example"]}, **options
        )
        self._servers.append(self.server)
        self.addCleanup(self.server.kill)
        return self.server


class ServeTests(Case):
    def test_a_day_of_an_admin(self) -> None:
        zone = {
            "b.example.": {"MX": ["10 mail.b.example."]},
            "mail.b.example.": {"A": ["127.0.0.1"]},
        }
        server = self.make(
            static={"AdminPasswordFile": "adminpasswd"}, resolver=self.name_server(zone).address
        )
        self.assertEqual(self.good("config", "test"), "config OK\n")
        code, _, err = self.moxtw("stop")
        self.assertEqual(code, 1)
        self.assertIn("no server is running", err)
        server.start()

        # Passwords and accounts: what is set is what logs in.
        self.good("setadminpassword", stdin=b"the admin password\n")
        self.assertTrue((server.config_path.parent / "adminpasswd").read_text().startswith("$2"))
        self.good("setaccountpassword", "me", stdin=b"a first password\n")
        self.login("me@a.example", "a first password")
        self.good("setaccountpassword", "me", stdin=b"an other password\n")
        self.login("me@a.example", "an other password")
        self.assertRaises(imaplib.IMAP4.error, self.login, "me@a.example", "a first password")
        self.good("config", "account", "add", "new", "new@a.example")
        self.good("setaccountpassword", "new", stdin=b"one more password\n")
        self.login("new@a.example", "one more password")
        self.assertEqual(self.good("config", "account", "list"), "me\nnew\n")
        self.assertIn("new@a.example", server.config_path.with_name("domains.conf").read_text())
        self.good("config", "address", "add", "info@a.example", "new")
        self.deliver("info@a.example")
        self.good("config", "account", "rm", "new")
        self.assertEqual(self.moxtw("config", "address", "account", "info@a.example")[0], 1)
        self.good("config", "domain", "add", "c.example", "me")
        self.assertEqual(self.good("config", "test"), "config OK\n")

        # The queue.
        self.good("queue", "holdrules", "add", "-account", "me")
        with smtplib.SMTP(server.ip, server.ports.submission, timeout=SECONDS) as smtp:
            smtp.ehlo()
            smtp.login("me@a.example", "an other password")
            smtp.sendmail("me@a.example", ["x@b.example", "y@c2.example"], MESSAGE)
        lines = self.good("queue", "list", "-to", "@b.example").splitlines()
        self.assertEqual(len(lines), 2)
        self.assertIn("hold", lines[1])
        number = lines[1].split()[0]
        self.assertIn("Subject: queued\r\n", self.raw("queue", "dump", number))
        self.assertEqual(self.good("queue", "drop", "-ids", number), "1 message dropped.\n")
        self.assertEqual(self.good("queue", "fail"), "1 message failed, senders are told.\n")
        self.assertEqual(self.good("queue", "list"), "(none)\n")

        # Log levels are in force at once.
        self.good("loglevels", "trace", "imapserver")
        self.assertEqual(
            self.good("loglevels"), "(default): debug\nimapserver: trace\n"
        )
        self.login("me@a.example", "an other password")
        poll(lambda: b"l=trace" in server.log_bytes(), SECONDS, "trace lines")

        # IMAP without login, over a command, in mbsync called a tunnel.
        tunnel = shlex.join([*MOXTW, "-config", str(server.config_path), "admin", "imapserve"])
        with_env = f"exec env PYTHONPATH={shlex.quote(environment()['PYTHONPATH'])} {tunnel}"
        with imaplib.IMAP4_stream(f"{with_env} me@a.example") as imap:
            self.assertEqual(imap.state, "AUTH")
            self.assertEqual(imap.append("Archive", "", "", b"x" * 300_000)[0], "OK")
            self.assertEqual(imap.select("Archive"), ("OK", [b"1"]))
            [found, _] = imap.fetch("1", "(BODY.PEEK[])")[1]
            self.assertEqual(len(found[1]), 300_000)
        out = self.good("admin", "imapserve", "me@a.example", stdin=b"a NOOP\r\n")
        self.assertRegex(out, r"(?s)\A\* PREAUTH \[.*\r\na OK .*\r\n\Z")
        code, out, err = self.moxtw("admin", "imapserve", "nobody@a.example")
        self.assertEqual((code, out), (1, ""))
        self.assertIn("nobody@a.example", err)
        # Both directions on one socket.
        ours, theirs = socket.socketpair()
        with ours, subprocess.Popen(
            [*MOXTW, "-config", str(server.config_path), "admin", "imapserve", "-fd0",
             "me@a.example"],
            stdin=theirs,
            env=environment(),
        ) as process:
            theirs.close()
            ours.settimeout(SECONDS)
            ours.sendall(b"a LOGOUT\r\n")
            data = b""
            while more := ours.recv(4096):
                data += more
            self.assertIn(b"\r\na OK ", data)
            self.assertEqual(process.wait(SECONDS), 0)

        # What was done is in the audit log, the latest first, without passwords.
        log = self.good("auditlog").splitlines()
        self.assertRegex(log[0], r"^ID +TIME +VIA +CALLER +FROM +OPERATION +RESULT +PARAMETERS$")
        self.assertRegex(log[1], r"^\d+ +\S+Z +ctl +uid \d+ +imapserve +ok +{")
        self.assertIn("setaccountpassword", "".join(log))
        self.assertNotIn("an other password", "".join(log))
        shown = self.good("auditlog", "-json", "-operation", "setloglevels", "-since", "-1h")
        [entry] = json.loads(shown)
        self.assertEqual(entry["Params"], '{"pkg":"imapserver","level":"trace"}')
        self.assertEqual(self.good("auditlog", "-until", "2020-01-01"), "(none)\n")

        self.assertEqual(self.good("stop"), "Server stopped.\n")
        self.assertIsNone(server.pid)
        self.assertEqual(server.wait(), 0)
        self.assertEqual(server.errors(), [])
        self.assertFalse((server.data_dir / "ctl").exists())
        self.assertEqual(
            self.good("verifydata", server.data_dir), f"{server.data_dir}: OK\n"
        )

    def raw(self, *args: str) -> str:
        return self.moxtw(*args)[1]

    def login(self, user: str, password: str) -> None:
        with imaplib.IMAP4(self.server.ip, self.server.ports.imap, timeout=SECONDS) as client:
            client.login(user, password)

    def deliver(self, recipient: str) -> None:
        with smtplib.SMTP(self.server.ip, self.server.ports.smtp, timeout=SECONDS) as smtp:
            smtp.sendmail("x@b.example", [recipient], MESSAGE)

    def test_exit_code_is_the_signal(self) -> None:
        server = self.make()
        for number in (signal.SIGTERM, signal.SIGINT):
            server.start()
            server.signal(number)
            self.assertEqual(server.wait(), number)
            self.assertEqual(server.errors(), [])

    def test_what_keeps_it_from_starting_is_told(self) -> None:
        server = self.make()
        self.assertEqual(self.moxtw("-loglevel", "bla", "serve")[0], 2)
        first = ServedServer(self.mktemp(), accounts={"me": ["me@a.example"]})
        self._servers.append(first)
        self.addCleanup(first.kill)
        first.start()
        # The same port, then the same data.
        text = server.config_path.read_text()
        taken = text.replace(f"Port: {server.ports.smtp}\n", f"Port: {first.ports.smtp}\n")
        server.config_path.write_text(taken)
        code, out, err = self.moxtw("serve")
        self.assertEqual((code, out), (1, ""))
        self.assertIn(
            f"moxtw: listening on 127.0.0.1:{first.ports.smtp}: Address already in use",
            err,
        )
        self.assertNotIn("Traceback", err)
        server.config_path.write_text(text.replace("../data", str(first.data_dir)))
        code, out, err = self.moxtw("serve")
        self.assertEqual((code, out), (1, ""))
        self.assertIn("another server", err)
        self.assertNotIn("Traceback", err)
        # And that one serves on.
        self.server = first
        self.assertEqual(self.good("config", "account", "list"), "me\n")

    def test_password_at_a_terminal(self) -> None:
        server = self.make(static={"AdminPasswordFile": "adminpasswd"})
        master, slave = pty.openpty()
        self.addCleanup(os.close, master)
        process = subprocess.Popen(
            [*MOXTW, "-config", str(server.config_path), "setadminpassword"],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=environment(),
            start_new_session=True,
            preexec_fn=lambda: _controlling(slave),
        )
        os.close(slave)
        shown = b""
        for prompt in (b"Admin password: ", b"Admin password again: "):
            while not shown.endswith(prompt):
                shown += os.read(master, 1000)
            os.write(master, b"typed password\n")
        while b"Admin password set" not in shown:
            shown += os.read(master, 1000)
        self.assertEqual(process.wait(SECONDS), 0)
        self.assertNotIn(b"typed", shown)
        self.assertTrue((server.config_path.parent / "adminpasswd").exists())


def _controlling(fd: int) -> None:
    """Make a terminal the controlling one, as a login does."""
    import fcntl
    import termios

    fcntl.ioctl(fd, termios.TIOCSCTTY, 0)


class LocalserveTests(Case):
    """The files of localserve, on ports of the test's own."""

    def test_mail_arrives(self) -> None:
        directory = Path(self.mktemp()).absolute()
        localserve_files.prepare(directory, "127.0.0.1")
        config = directory / "mox.conf"
        text = config.read_text()
        ports = {}
        for port in (1025, 1587, 1465, 1143, 1993, 1080, 1443, 1081):
            ports[port] = free_port()
            text = text.replace(f"Port: {port}\n", f"Port: {ports[port]}\n")
        config.write_text(text)
        log = directory / "log"
        with open(log, "wb") as out:
            process = subprocess.Popen(
                [*MOXTW, "localserve", "-dir", str(directory)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=environment() | {"MOXCONF": "/nonexistent"},
                start_new_session=True,
            )
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        poll(
            lambda: process.poll() is not None or b"ready to serve" in log.read_bytes(),
            SECONDS,
            "ready to serve",
        )
        told = log.read_text()
        self.assertIsNone(process.poll(), told)
        self.assertLess(told.index("mox@localhost, password moxmoxmox"), told.index("ready to"))
        self.assertIn(f"localhost:{ports[1025]}", told)
        with smtplib.SMTP("127.0.0.1", ports[1025], timeout=SECONDS) as smtp:
            smtp.sendmail("a@nowhere.example", ["any@where.example"], MESSAGE)
        with imaplib.IMAP4("127.0.0.1", ports[1143], timeout=SECONDS) as client:
            client.login("mox@localhost", "moxmoxmox")
            self.assertEqual(client.select("INBOX"), ("OK", [b"1"]))
        begun = time.monotonic()
        done = subprocess.run(
            [*MOXTW, "-config", str(config), "stop"],
            capture_output=True,
            env=environment(),
            timeout=SECONDS,
            check=False,
        )
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        self.assertEqual(done.stdout, b"Server stopped.\n")
        self.assertEqual(process.wait(SECONDS), 0)
        self.assertLess(time.monotonic() - begun, 10)
