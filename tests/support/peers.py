"""Mail programs of others, run beside the server on loopback: for interop tests and benchmarks.

Each runs with files of its own in a folder of its own, on free ports of loopback addresses, and
is ended by its own stop command. All calls block, with deadlines.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import smtplib
import socket
import stat
import subprocess
import tempfile
import termios
import time
import unittest
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from moxtw.net.certs import self_signed
from tests.support.server import ServerError, free_port, poll

PROGRAM_SECONDS = 30
START_SECONDS = 30


def must_be_there() -> bool:
    """Whether a missing program is a failure: on a machine prepared for all tests."""
    return os.environ.get("CI") == "true" and os.getuid() == 0


def need(*programs: str, root: bool = False) -> None:
    """Skip the test unless these programs are there (and we are root); fail under CI."""
    missing = [name for name in programs if shutil.which(name) is None]
    if missing and must_be_there():
        raise AssertionError(f"not installed, see .ci/run: {' '.join(missing)}")
    if missing:
        raise unittest.SkipTest(f"not installed: {' '.join(missing)}")
    if root and os.getuid() != 0:
        raise unittest.SkipTest(f"{programs[0]} can be started by root only")


def processes(pid: int) -> list[int]:
    """A process and those below it."""
    parents: dict[int, int] = {}
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            text = status.read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        parents[int(status.parent.name)] = int(text.partition("\nPPid:")[2].split()[0])
    found = [pid]
    for known in found:
        found += [child for child, parent in parents.items() if parent == known]
    return found


class ProgramError(AssertionError):
    """A program failed, or took too long."""


def run(
    argv: Sequence[str | Path],
    *,
    seconds: float = PROGRAM_SECONDS,
    data: bytes = b"",
    env: Mapping[str, str] | None = None,
    status: int | None = 0,
) -> subprocess.CompletedProcess[bytes]:
    """Run a program to its end; its two outputs come joined. Raises ProgramError.

    status: the exit status that it must have; None for any.
    """
    argv = [str(arg) for arg in argv]
    # A file, as a daemon that goes on would hold a pipe open.
    with tempfile.TemporaryFile() as out:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=None if env is None else os.environ | env,
            start_new_session=True,
        )
        problem = ""
        try:
            process.communicate(data, seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            problem = f"not finished within {seconds:g} s"
        else:
            if status is not None and process.returncode != status:
                problem = f"exit status {process.returncode}"
        out.seek(0)
        output = out.read()
    if problem:
        raise ProgramError(f"{problem}: {' '.join(argv)}\n{_text(output)}")
    return subprocess.CompletedProcess(argv, process.returncode, output)


def run_on_terminal(
    argv: Sequence[str | Path],
    *,
    seconds: float = PROGRAM_SECONDS,
    env: Mapping[str, str] | None = None,
) -> bytes:
    """Run a program that wants a terminal to its end; gives what it wrote. Raises ProgramError."""
    argv = [str(arg) for arg in argv]
    master, slave = os.openpty()
    try:
        termios.tcsetwinsize(slave, (50, 160))
        process = subprocess.Popen(
            argv,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=os.environ | {"TERM": "xterm"} | dict(env or {}),
            start_new_session=True,
        )
    finally:
        os.close(slave)
    output = b""
    end = time.monotonic() + seconds
    try:
        while process.poll() is None or select.select([master], [], [], 0)[0]:
            if time.monotonic() > end:
                raise ProgramError(
                    f"not finished within {seconds:g} s: {' '.join(argv)}\n{_text(output)}"
                )
            if select.select([master], [], [], 0.1)[0]:
                try:
                    output += os.read(master, 65536)
                except OSError:
                    # How a terminal tells that nobody has it open any more.
                    break
        process.wait(max(0.1, end - time.monotonic()))
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        os.close(master)
    if process.returncode != 0:
        raise ProgramError(
            f"exit status {process.returncode}: {' '.join(argv)}\n{_text(output)}"
        )
    return output


def _text(output: bytes) -> str:
    return output.decode("utf-8", "replace")[-6000:]


def answers(ip: str, port: int, first: bytes) -> bool:
    """Whether a server greets there."""
    try:
        with socket.create_connection((ip, port), 5) as sock:
            sock.settimeout(10)
            return sock.recv(100).startswith(first)
    except OSError:
        return False


class Postfix:
    """Postfix with its own queue. Needs root.

    It takes mail from loopback, for any domain. Mail for the ``domains`` is discarded with
    ``discard``, else put into maildirs (see ``messages``). Mail for others goes to ``routes``,
    domain to ``(ip, port)``. ip and port: where it listens. settings: of main.cf. access: what
    stands in the table texthash:${config_directory}/access (see ``access``), for them.
    """

    def __init__(
        self,
        *,
        hostname: str = "pf.example",
        domains: Sequence[str] = ("pf.example",),
        discard: bool = False,
        routes: Mapping[str, tuple[str, int]] | None = None,
        ip: str = "127.0.0.1",
        port: int = 0,
        settings: Mapping[str, str] | None = None,
        access: str = "",
    ) -> None:
        self.hostname = hostname
        self.domains = list(domains)
        self.ip = ip
        self.port = port or free_port(ip)
        self._started = False
        # Its processes run as user postfix and must be able to walk here.
        self.directory = Path(tempfile.mkdtemp(prefix="moxtw-postfix."))
        self.directory.chmod(0o755)
        self.config = self.directory / "etc"
        self.mail = self.directory / "mail"
        self.log_path = self.directory / "log" / "maillog"
        self._write(discard, dict(routes or {}), dict(settings or {}))
        (self.config / "access").write_text(access)

    def _write(
        self, discard: bool, routes: dict[str, tuple[str, int]], settings: dict[str, str]
    ) -> None:
        shutil.copytree("/etc/postfix", self.config)
        for name in ("log", "queue", "data", "mail"):
            (self.directory / name).mkdir()
        shutil.chown(self.directory / "data", "postfix", "postfix")
        shutil.chown(self.mail, "nobody", "nogroup")
        cert, key = self_signed([self.hostname, "localhost"], [self.ip])
        (self.config / "cert.pem").write_bytes(cert)
        (self.config / "key.pem").write_bytes(key)
        (self.config / "key.pem").chmod(0o600)
        directory = self.directory
        nobody = os.stat(self.mail)
        conf = {
            "compatibility_level": "3.6",
            "queue_directory": f"{directory}/queue",
            "data_directory": f"{directory}/data",
            "maillog_file": f"{self.log_path}",
            "maillog_file_prefixes": f"{directory}",
            "myhostname": self.hostname,
            "mydestination": "",
            "inet_interfaces": "127.0.0.1",
            "inet_protocols": "ipv4",
            "mynetworks": "127.0.0.0/8",
            "smtpd_relay_restrictions": "permit_mynetworks, reject",
            "biff": "no",
            "alias_maps": "",
            "alias_database": "",
            "local_recipient_maps": "",
            "virtual_mailbox_domains": ", ".join(self.domains),
            "virtual_transport": "discard:" if discard else "virtual:",
            "virtual_mailbox_base": f"{self.mail}",
            "virtual_mailbox_maps": f"static:{'discard' if discard else 'new-mail/'}",
            "virtual_uid_maps": f"static:{nobody.st_uid}",
            "virtual_gid_maps": f"static:{nobody.st_gid}",
            "virtual_minimum_uid": "1",
            "message_size_limit": "209715200",
            "mailbox_size_limit": "0",
            "virtual_mailbox_limit": "0",
            "smtp_dns_support_level": "disabled",
            "smtpd_peername_lookup": "no",
            "smtpd_client_connection_count_limit": "0",
            "smtpd_client_connection_rate_limit": "0",
            "smtpd_tls_security_level": "may",
            "smtpd_tls_cert_file": f"{self.config}/cert.pem",
            "smtpd_tls_key_file": f"{self.config}/key.pem",
            "smtpd_tls_loglevel": "1",
            "smtpd_tls_received_header": "yes",
            "smtp_tls_security_level": "encrypt",
            "smtp_tls_loglevel": "1",
            "minimal_backoff_time": "1s",
            "queue_run_delay": "1s",
        }
        if routes:
            entries = ", ".join(
                f"{{ {domain} = smtp:[{ip}]:{port} }}" for domain, (ip, port) in routes.items()
            )
            conf["transport_maps"] = f"inline:{{ {entries} }}"
        conf.update(settings)
        (self.config / "main.cf").write_text(
            "".join(f"{name} = {value}\n" for name, value in conf.items())
        )
        lines = [f"{self.ip}:{self.port} inet n - n - - smtpd"]
        for line in Path("/etc/postfix/master.cf").read_text().splitlines():
            fields = line.split(None, 7)
            if len(fields) < 8 or line[0] in "# \t" or fields[1] == "inet":
                continue
            if fields[0] in ("maildrop", "uucp", "ifmail", "bsmtp", "scalemail-backend", "mailman"):
                continue
            fields[4] = "n"
            lines.append(" ".join(fields))
        if not any(line.startswith("postlog ") for line in lines):
            lines.append("postlog unix-dgram n - n - 1 postlogd")
        (self.config / "master.cf").write_text("\n".join(lines) + "\n")

    def start(self) -> Postfix:
        """Start it; returns when it accepts mail."""
        self._started = True
        run(["postfix", "-c", self.config, "start"])
        try:
            poll(lambda: answers(self.ip, self.port, b"220"), START_SECONDS, "Postfix")
        except TimeoutError as exc:
            raise ServerError(f"{exc}\n{self.log()}") from None
        return self

    def stop(self) -> None:
        """End it, and remove its files."""
        if self._started:
            run(["postfix", "-c", self.config, "stop"], status=None)
            self._started = False
        shutil.rmtree(self.directory, ignore_errors=True)

    def access(self, text: str) -> None:
        """Change the table, and let that count."""
        (self.config / "access").write_text(text)
        run(["postfix", "-c", self.config, "reload"])

    @property
    def pid(self) -> int:
        """Process id of its master."""
        return int((self.directory / "queue" / "pid" / "master.pid").read_text())

    def log(self) -> str:
        """Its log."""
        try:
            return self.log_path.read_text(errors="replace")
        except FileNotFoundError:
            return ""

    def messages(self) -> list[bytes]:
        """The messages that were delivered here, in no order."""
        found = []
        for path in (self.mail / "new-mail" / "new").glob("*"):
            found.append(path.read_bytes())
        return found

    def wait_messages(
        self, text: bytes, count: int, seconds: float = PROGRAM_SECONDS
    ) -> list[bytes]:
        """The messages delivered here that hold a text, once there are as many."""

        def find() -> list[bytes] | None:
            found = [data for data in self.messages() if text in data]
            return found if len(found) >= count else None

        try:
            found = poll(find, seconds, f"{count} messages with {text!r}")
        except TimeoutError as exc:
            raise ServerError(f"{exc}\n{self.log()}") from None
        if len(found) > count:
            raise ServerError(f"{len(found)} messages with {text!r}")
        return found

    def wait_message(self, text: bytes, seconds: float = PROGRAM_SECONDS) -> bytes:
        """The one message delivered here that holds a text."""
        return self.wait_messages(text, 1, seconds)[0]

    def queued(self) -> int:
        """How many messages wait in its queue."""
        output = run(["postqueue", "-c", self.config, "-j"]).stdout
        return len(output.splitlines())

    def wait_empty(self, seconds: float = PROGRAM_SECONDS) -> None:
        """Return when nothing waits in its queue."""
        poll(lambda: self.queued() == 0, seconds, "Postfix's queue", 0.1)

    def send(self, mail_from: str, to: str, message: bytes) -> None:
        """Give it a message by SMTP."""
        with smtplib.SMTP(self.ip, self.port, timeout=PROGRAM_SECONDS) as client:
            client.sendmail(mail_from, [to], message)


class Dovecot:
    """Dovecot as an IMAP server, with sdbox mailboxes. Needs root.

    Every user name goes with the password ``password``.
    """

    def __init__(self, *, password: str = "secret", ip: str = "127.0.0.1") -> None:
        self.ip = ip
        self.port = free_port(ip)
        self.password = password
        self.directory = Path(tempfile.mkdtemp(prefix="moxtw-dovecot."))
        self.directory.chmod(0o755)
        for name in ("run", "state", "mail"):
            (self.directory / name).mkdir()
        shutil.chown(self.directory / "mail", "nobody", "nogroup")
        nobody = os.stat(self.directory / "mail")
        self.config = self.directory / "dovecot.conf"
        self.config.write_text(
            f"""
base_dir = {self.directory}/run
state_dir = {self.directory}/state
log_path = {self.directory}/log
protocols = imap
ssl = no
disable_plaintext_auth = no
listen = {self.ip}
mail_location = sdbox:{self.directory}/mail/%n
mail_fsync = optimized
mail_uid = {nobody.st_uid}
mail_gid = {nobody.st_gid}
first_valid_uid = 1
mail_max_userip_connections = 2000
passdb {{
  driver = static
  args = password={password}
}}
userdb {{
  driver = static
  args = uid={nobody.st_uid} gid={nobody.st_gid} home={self.directory}/mail/%n
}}
service imap-login {{
  inet_listener imap {{
    port = {self.port}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
"""
        )
        self._started = False

    def start(self) -> Dovecot:
        """Start it; returns when it answers."""
        self._started = True
        run(["dovecot", "-c", self.config])
        try:
            poll(lambda: answers(self.ip, self.port, b"* OK"), START_SECONDS, "Dovecot")
        except TimeoutError as exc:
            raise ServerError(f"{exc}\n{self.log()}") from None
        return self

    @property
    def pid(self) -> int:
        """Process id of its master."""
        return int((self.directory / "run" / "master.pid").read_text())

    def stop(self, *, keep: bool = False) -> None:
        """End it, and remove its files unless they are to be kept for another start."""
        if self._started:
            pid_file = self.directory / "run" / "master.pid"
            pid = int(pid_file.read_text()) if pid_file.exists() else 0
            run(["doveadm", "-c", self.config, "stop"], status=None)
            if pid:
                poll(lambda: not os.path.exists(f"/proc/{pid}"), 10, "end of Dovecot")
            self._started = False
        if keep:
            return
        shutil.rmtree(self.directory, ignore_errors=True)

    def log(self) -> str:
        """Its log."""
        try:
            return (self.directory / "log").read_text(errors="replace")
        except FileNotFoundError:
            return ""


class SMTPSink:
    """Postfix's smtp-sink: takes all mail and forgets it; counts it. options: more of its own."""

    def __init__(self, ip: str = "127.0.0.1", options: Sequence[str] = ()) -> None:
        self.ip = ip
        self._options = options
        self.port = free_port(ip)

    def start(self) -> SMTPSink:
        """Start it; returns when it answers."""
        user = ["-u", "nobody"] if os.getuid() == 0 else []
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - closed by stop()
        self._process = subprocess.Popen(
            [
                *("smtp-sink", *user, *self._options, "-c", "-h", "sink.example"),
                *(f"{self.ip}:{self.port}", "1000"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
        )
        poll(lambda: answers(self.ip, self.port, b"220"), START_SECONDS, "smtp-sink")
        return self

    def count(self) -> int:
        """How many messages it took."""
        size = os.fstat(self._output.fileno())[stat.ST_SIZE]
        tail = os.pread(self._output.fileno(), 400, max(0, size - 400))
        for line in reversed(tail.replace(b"\r", b"\n").split(b"\n")):
            # Its running counters: connect=1 disconnect=1 mail=1 rcpt=1 data=1 ...
            fields = dict(part.split(b"=", 1) for part in line.split() if b"=" in part)
            if b"dot" in fields or b"mesg" in fields:
                return int(fields.get(b"mesg") or fields[b"dot"])
        return 0

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(10)
        self._output.close()


def smtp_source(
    address: tuple[str, int],
    *,
    messages: int,
    size: int,
    connections: int,
    persistent: bool = True,
    sender: str = "load@pf.example",
    to: str = "mjl@a.example",
    seconds: float = 300,
) -> None:
    """Send a load of messages with Postfix's smtp-source.

    persistent: all messages of a session over one connection. Raises ProgramError.
    """
    run(
        [
            "smtp-source",
            *(["-d"] if persistent else []),
            *("-s", str(connections), "-m", str(messages), "-l", str(size)),
            *("-M", "pf.example", "-f", sender, "-t", to),
            f"{address[0]}:{address[1]}",
        ],
        seconds=seconds,
    )


def curl(*args: str | Path, certificate: Path | None = None, **options: Any) -> bytes:
    """What curl prints."""
    trust = [] if certificate is None else ["--cacert", certificate]
    return run(
        ["curl", "-sS", "--max-time", str(PROGRAM_SECONDS - 5), *trust, *args], **options
    ).stdout


def swaks(*args: str, **options: Any) -> str:
    """The transcript of a session by swaks."""
    return run(["swaks", "--timeout", "20", *args], **options).stdout.decode("utf-8", "replace")
