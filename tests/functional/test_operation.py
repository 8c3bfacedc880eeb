"""Starting and ending the server as an admin does, by processes."""

from __future__ import annotations

import contextlib
import os
import signal
import smtplib
import socket
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SkipTest

from tests.support.server import ROOT, ZONE, LiveCase, MailServer, expect_ok, poll

NOBODY = 65534
SECONDS = 60


class Case(LiveCase):
    def server(self, **options: Any) -> MailServer:
        """A server that is configured, and not started."""
        server = MailServer(self.mktemp(), accounts={"mjl": ["mjl@a.example"]}, **options)
        self._servers.append(server)
        self.addCleanup(server.kill)
        return server

    def fails(self, server: MailServer, *args: str) -> str:
        """Try to start; returns what it says when it ends at once, with code 1."""
        done = subprocess.run(
            [*server.command(), *args],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=SECONDS,
            check=False,
        )
        text = done.stdout.decode()
        self.assertEqual(done.returncode, 1, text)
        self.assertNotIn("Traceback", text)
        return text


class RefusalTests(Case):
    """What keeps a server from starting is told in a line."""

    def test_a_second_start(self) -> None:
        server = self.server().start()
        self.assertIn(
            f"listening on 127.0.0.1:{server.ports.smtp}: Address already in use",
            self.fails(server),
        )
        with smtplib.SMTP("127.0.0.1", server.ports.smtp, timeout=SECONDS) as client:
            self.assertEqual(client.noop()[0], 250)

    def test_a_second_server_on_the_same_data(self) -> None:
        server = self.server().start()
        other = self.server(static={"DataDir": str(server.data_dir)})
        self.assertIn("in use by another server", self.fails(other))

    def test_a_database_of_a_newer_version(self) -> None:
        server = self.server().start()
        server.stop()
        with contextlib.closing(sqlite3.connect(server.data_dir / "moxtw.db")) as database:
            database.execute("UPDATE meta SET value = '999' WHERE key = 'schema_version'")
            database.commit()
        self.assertIn("the database has schema version 999", self.fails(server))

    def test_a_damaged_database(self) -> None:
        server = self.server().start()
        server.stop()
        (server.data_dir / "moxtw.db").write_bytes(b"nonsense" * 10_000)
        self.assertIn("file is not a database", self.fails(server))

    def test_a_damaged_key(self) -> None:
        server = self.server()
        server.data_dir.mkdir()
        (server.data_dir / "receivedid.key").write_bytes(b"short")
        self.assertIn("receivedid.key has 5 bytes instead of 24", self.fails(server))


class DaemonTests(Case):
    """twistd in the background."""

    def twistd(self, server: MailServer, *args: str) -> tuple[int, str]:
        done = subprocess.run(
            [
                *(sys.executable, "-c", "from twisted.scripts.twistd import run; run()"),
                *(*args, "moxtw", "-c", str(server.config_path)),
            ],
            cwd=server.directory,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=SECONDS,
            check=False,
        )
        return done.returncode, done.stdout.decode()

    def test_it_logs_to_a_file_with_times(self) -> None:
        server = self.server()
        code, text = self.twistd(server)
        self.assertEqual((code, text), (0, ""))
        pid = int((server.directory / "twistd.pid").read_text())
        self.addCleanup(_kill, pid)
        path = server.directory / "twistd.log"
        poll(lambda: "ready to serve" in path.read_text(), SECONDS, "ready")
        self.assertEqual(path.stat().st_mode & 0o777, 0o640)
        for line in path.read_text().splitlines():
            self.assertRegex(line, r"^t=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z l=[a-z]+ m=")
        # Truncated by a log rotation that copied it, it goes on at the beginning.
        os.truncate(path, 0)

        code, text = self.twistd(server, "--pidfile=other.pid")
        self.assertEqual(code, 1)
        self.assertIn("Address already in use", text)
        self.assertFalse((server.directory / "other.pid").exists())
        self.assertIn("l=fatal m=starting", path.read_text())

        os.kill(pid, signal.SIGTERM)
        poll(lambda: "m=stopped" in path.read_text(), SECONDS, "stopped")
        self.assertTrue(path.read_text().startswith("t="))
        poll(lambda: not (server.directory / "twistd.pid").exists(), SECONDS, "no pid file")


class SignalTests(Case):
    def test_hangup_reads_the_configuration(self) -> None:
        # The server leaves the signal alone where it is ignored, as for tests under nohup.
        before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
        try:
            server = self.server().start()
        finally:
            signal.signal(signal.SIGHUP, before)
        path = server.config_path.parent / "domains.conf"
        path.write_text(path.read_text() + "Nonsense: x\n")
        assert server.pid is not None
        os.kill(server.pid, signal.SIGHUP)
        poll(lambda: b"unknown field 'Nonsense'" in server.log_bytes(), SECONDS, "an error")
        self.assertIn(b"as told by SIGHUP", server.log_bytes())
        with smtplib.SMTP("127.0.0.1", server.ports.smtp, timeout=SECONDS) as client:
            self.assertEqual(client.noop()[0], 250)
        server.stop()

    def test_busy_connections_are_cut_in_time(self) -> None:
        server = self.server(resolver=self.name_server(ZONE).address).start()
        busy = [smtplib.SMTP("127.0.0.1", server.ports.smtp, "client.example", SECONDS)]
        busy[0].ehlo()
        busy[0].mail("me@client.example")
        busy[0].rcpt("mjl@a.example")
        busy[0].putcmd("data")
        busy[0].getreply()
        busy[0].send(b"Subject: never ends\r\n")
        plain = [
            socket.create_connection(("127.0.0.1", port), SECONDS)
            for port in (server.ports.smtp, server.ports.submissions, server.ports.imaps,
                         server.ports.http, server.ports.metrics)
        ]  # fmt: skip
        idle = server.imap()
        expect_ok(idle.select("INBOX"))
        idle.send(b"x IDLE\r\n")
        self.assertIn(b"+", idle.readline())
        begun = time.monotonic()
        server.stop()
        self.assertLess(time.monotonic() - begun, 6)
        self.assertIn(b"m=stopped", server.log_bytes())
        for each in plain:
            each.close()
        busy[0].close()
        idle.shutdown()


class FullDiskTests(Case):
    """No room left in the data directory, a small file system of its own here."""

    def test_nothing_is_lost_and_all_goes_on_with_room(self) -> None:
        server = self.server(resolver=self.name_server(ZONE).address)
        server.data_dir.mkdir()
        self.mount(server.data_dir, "size=8m")
        server._set_passwords()
        server.start()
        accepted = self.fill(server, 100_000, 2) + self.fill(server, 4000, 3)
        self.assertGreater(len(accepted), 20)
        client = server.imap()
        for size in (100, 100_000, 2_000_000):
            status, text = client.append("Inbox", "", "", b"Subject: no\r\n\r\n" + b"y" * size)
            self.assertEqual((status, text[0][:13]), ("NO", b"[UNAVAILABLE]"))
        self.assertEqual(client.noop()[0], "OK")

        self.mount(server.data_dir, "remount,size=32m")
        accepted += self.send(server, 4000, "later")
        self.assertEqual(accepted[-1], b"later")
        self.assertEqual(client.append("Inbox", "", "", b"Subject: yes\r\n\r\n")[0], "OK")
        client.logout()
        found = server.wait_messages(b"Subject: ", len(accepted) + 1)
        subjects = [message.partition(b"Subject: ")[2].partition(b"\r\n")[0] for message in found]
        self.assertEqual(sorted(subjects), sorted([*accepted, b"yes"]))
        self.assertNotIn("AlreadyCalled", server.log(10_000))
        server.check()

    def mount(self, path: Path, options: str) -> None:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "none", str(path)],
            capture_output=True,
            check=False,
        )
        if done.returncode:
            raise SkipTest("cannot mount a small file system")
        if not options.startswith("remount"):
            self.addCleanup(subprocess.run, ["umount", "--lazy", str(path)], check=True)

    def fill(self, server: MailServer, size: int, refusals: int) -> list[bytes]:
        """Send until so many messages are refused; the subjects of the others."""
        accepted: list[bytes] = []
        while refusals:
            subject = f"{size}-{len(accepted)}"
            sent = self.send(server, size, subject)
            accepted += sent
            refusals -= not sent
        return accepted

    def send(self, server: MailServer, size: int, subject: str) -> list[bytes]:
        text = f"Subject: {subject}\r\n\r\n" + (70 * "x" + "\r\n") * (size // 72)
        with smtplib.SMTP("127.0.0.1", server.ports.smtp, "client.example", SECONDS) as client:
            try:
                client.sendmail("me@client.example", ["mjl@a.example"], text)
            except smtplib.SMTPDataError as exc:
                self.assertEqual((exc.smtp_code, exc.smtp_error[:5]), (452, b"4.3.1"))
                return []
        return [subject.encode()]


class PrivilegeTests(Case):
    """Started as root: ports are bound, then the server is somebody else."""

    def setUp(self) -> None:
        super().setUp()
        if os.geteuid() != 0:
            raise SkipTest("needs root")
        if not _others_can_run():
            raise SkipTest("other users cannot read this program")

    def open_way(self, server: MailServer) -> None:
        """Let others come to the server's directory."""
        for parent in [server.directory, *server.directory.parents]:
            mode = parent.stat().st_mode & 0o7777
            if not mode & 0o001:
                os.chmod(parent, mode | 0o011)
                self.addCleanup(os.chmod, parent, mode)

    def test_it_gives_up_root_and_its_files_are_the_users(self) -> None:
        server = self.server(static={"User": NOBODY, "NoFixPermissions": False})
        self.open_way(server)
        server.start()
        for name in ("Uid", "Gid"):
            self.assertEqual(_status(server, name), [str(NOBODY)] * 4)
        self.assertEqual(_status(server, "Groups"), [])
        self.assertEqual(_status(server, "CapEff"), ["0000000000000000"])
        config = server.config_path.parent
        for path in (config, server.data_dir):
            self.assertEqual(_owner(path), (NOBODY, 0, 0o2750))
        for path in (*config.iterdir(), server.data_dir / "moxtw.db"):
            self.assertEqual(_owner(path), (NOBODY, 0, 0o640), path)
        self.assertEqual(_owner(server.data_dir / "ctl"), (NOBODY, 0, 0o660))
        server.stop()
        server.start()

    def test_keys_that_only_root_reads(self) -> None:
        server = self.server(static={"User": NOBODY, "NoFixPermissions": True})
        self.open_way(server)
        key = server.config_path.parent / "key.pem"
        key.chmod(0o600)
        # A directory that root makes is the user's.
        server.start(prepare=False)
        self.assertEqual(_owner(key), (0, 0, 0o600))
        self.assertEqual(_owner(server.data_dir), (NOBODY, NOBODY, 0o750))
        self.assertEqual(_owner(server.data_dir / "receivedid.key")[0], NOBODY)

    def test_configuration_that_the_user_cannot_read(self) -> None:
        server = self.server(static={"User": NOBODY, "NoFixPermissions": True})
        self.open_way(server)
        domains = server.config_path.parent / "domains.conf"
        domains.chmod(0o600)
        server.data_dir.mkdir()
        os.chown(server.data_dir, NOBODY, NOBODY)
        self.assertIn(f"user nobody cannot read {domains}", self.fails(server))


def _others_can_run() -> bool:
    try:
        done = subprocess.run(
            [sys.executable, "-c", "import moxtw.service"],
            cwd="/",
            env={"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]},
            user=NOBODY,
            group=NOBODY,
            extra_groups=[],
            capture_output=True,
            check=False,
        )
    except PermissionError:
        return False
    return done.returncode == 0


def _status(server: MailServer, name: str) -> list[str]:
    for line in Path(f"/proc/{server.pid}/status").read_text().splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return value.split()
    raise AssertionError(name)


def _owner(path: Path) -> tuple[int, int, int]:
    state = path.stat()
    return state.st_uid, state.st_gid, state.st_mode & 0o7777


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
