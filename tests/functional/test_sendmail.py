"""``moxtw sendmail`` as a process, submitting to a server."""

from __future__ import annotations

import base64
import os
import stat
import subprocess
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding

from moxtw.net.certs import client_pair
from tests.functional.test_cli_commands import MOXTW, SECONDS, Case, environment
from tests.support.server import PASSWORD, ZONE, free_port, smarthost

MESSAGE = b"To: root\nSubject: from cron\n\noutput\n"


class SendmailTests(Case):
    def setUp(self) -> None:
        super().setUp()
        port = free_port()
        zone = self.name_server(ZONE).address
        self.make(smtp_port=port, resolver=zone, **smarthost(port, starttls=False)).start()
        self.home = Path(self.mktemp())
        self.home.mkdir()

    def configure(self, **fields: Any) -> None:
        fields = {
            "LocalHostname": "host.example",
            "Host": "localhost",
            "Port": self.server.ports.submissions,
            "TLS": "true",
            "Username": "me@a.example",
            "From": "me@a.example",
            "DefaultDestination": "me@a.example",
            **fields,
        }
        text = "".join(f"{name}: {value}\n" for name, value in fields.items())
        (self.home / "conf").write_text(text)

    def send(
        self, *args: str, data: bytes = MESSAGE, program: list[str] | None = None
    ) -> tuple[int, str]:
        """Exit code and errors."""
        more = {
            "HOME": str(self.home.absolute()),
            "MOXSUBMITCONF": str(self.home / "conf"),
            "SSL_CERT_FILE": str(self.server.certificate),
        }
        done = subprocess.run(
            [*(program or [*MOXTW, "sendmail"]), *args],
            input=data,
            capture_output=True,
            env=environment() | more,
            timeout=SECONDS,
            check=False,
        )
        self.assertEqual(done.stdout, b"")
        return done.returncode, done.stderr.decode()

    def arrived(self, count: int) -> list[bytes]:
        return self.server.wait_messages(b"output", count)

    def test_submission(self) -> None:
        """All in one server: to start one takes longer than all of it."""
        self.by_password()
        self.by_client_certificate()
        self.failures_are_kept()
        self.by_its_name()

    def by_password(self) -> None:
        self.configure(Password=PASSWORD)
        self.assertEqual(self.send("-FCronDaemon", "-i", "-B8BITMIME", "-oem", "root"), (0, ""))
        [message] = self.arrived(1)
        self.assertIn(b"From: CronDaemon <me@a.example>\r\n", message)
        self.assertIn(b"\r\n\r\noutput\r\n", message)
        self.configure(Password=PASSWORD, TLS="false", STARTTLS="true",
                       Port=self.server.ports.submission, AuthMethod="PLAIN")  # fmt: skip
        self.assertEqual(self.send("-t"), (0, ""))
        self.arrived(2)

    def by_client_certificate(self) -> None:
        key = Ed25519PrivateKey.generate()
        certificate = client_pair(key).chain[0].public_bytes(Encoding.PEM)
        self.good("config", "tlspubkey", "add", "me@a.example", "host", stdin=certificate)
        seed = base64.urlsafe_b64encode(key.private_bytes_raw()).decode().rstrip("=")
        self.configure(ClientAuthEd25519PrivateKey=seed)
        self.assertEqual(self.send("root"), (0, ""))
        self.arrived(3)

    def failures_are_kept(self) -> None:
        for fields, args, why in (
            ({"Password": "wrong"}, ("root",), "invalid-proof"),
            ({"Password": PASSWORD, "From": "else@a.example"}, ("root",), "me"),
            ({"Password": PASSWORD}, ("nobody@a.example", "root"), "nobody@a.example"),
            ({"Password": PASSWORD}, (), "no recipients"),
            ({"Password": PASSWORD, "Port": 1}, ("root",), "connecting"),
        ):
            self.configure(**fields)
            code, errors = self.send(*args)
            self.assertEqual(code, 1)
            self.assertIn(why, errors)
            self.assertNotIn(PASSWORD, errors)
            path = Path(errors.rstrip().rpartition(" ")[2])
            self.assertEqual(path.read_bytes(), MESSAGE)
            self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o600)
        self.configure(Password=PASSWORD)
        (self.home / "conf").unlink()
        self.assertEqual(self.send("root")[0], 1)

    def by_its_name(self) -> None:
        self.configure(Password=PASSWORD)
        program = self.home / "sendmail"
        program.write_text(
            f"#!{MOXTW[0]}\nimport sys\nfrom moxtw.cli.main import main\nsys.exit(main())\n"
        )
        program.chmod(0o755)
        self.assertEqual(self.send("root", program=[str(program)]), (0, ""))
        # With those for whom one of two recipients was refused.
        self.arrived(5)
        code, errors = self.send("-bs", program=[str(program)])
        self.assertEqual(code, 2)
        self.assertIn("standard input", errors)
