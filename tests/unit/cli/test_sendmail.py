"""sendmail: how it is called, its configuration, and the messages that it makes."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from moxtw.cli.command import CommandError, UsageError
from moxtw.cli.sendmail import Call, parse_call, prepare
from moxtw.config.describe import describe_sendmail
from moxtw.config.sendmail import Sendmail, SendmailConfigError, read_config

NOW = 1_795_608_000_000_000
CONFIG = Sendmail(
    local_hostname="host.example",
    host="mail.example",
    port=465,
    from_="me@example.org",
    default_destination="admin@example.org",
)


class CallTests(SynchronousTestCase):
    def test_as_programs_call_it(self) -> None:
        for words, expected in (
            # cron of Debian
            ("-i -FCronDaemon -B8BITMIME -oem root", Call(["root"], name="CronDaemon", dots=True)),
            ("-t -oi", Call(from_header=True, dots=True)),
            ("-oi -f me@x -- -odd@x", Call(["-odd@x"], dots=True)),
            ("-fme@x a b", Call(["a", "b"])),
            ("-F Name a", Call(["a"], name="Name")),
            ("-it", Call(from_header=True, dots=True)),
            ("-N never -R hdrs -V id -bm -v -q a", Call(["a"])),
            ("-G -U -O Timeout=1 -d a", Call(["a"])),
            ("-", Call(["-"])),
        ):
            self.assertEqual(parse_call(words.split()), expected, words)

    def test_other_modes(self) -> None:
        for words in ("-bs", "-bp", "-bd -q1h", "-b t"):
            self.assertRaises(UsageError, parse_call, words.split())


class MessageTests(SynchronousTestCase):
    def prepare(self, data: bytes, call: Call, config: Sendmail = CONFIG) -> tuple[bytes, Any]:
        message, recipients = prepare(data, call, config, NOW)
        return message, [each.pack() for each in recipients]

    def test_what_is_added_and_replaced(self) -> None:
        message, recipients = self.prepare(
            b"From: root (Cron)\nTo: root\nSubject: Cron <root@h> x\nBcc: z@example.org\n\nhi\n",
            Call(["root"], name="Cron Daemon"),
        )
        self.assertEqual(recipients, ["admin@example.org"])
        head, _, body = message.partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        self.assertEqual(lines[0], b"From: Cron Daemon <me@example.org>")
        self.assertEqual(lines[1], b"Date: Wed, 25 Nov 2026 12:00:00 +0000")
        self.assertRegex(lines[2], rb"Message-Id: <[^ ]+@host.example>")
        self.assertEqual(lines[3:], [b"To: root", b"Subject: Cron <root@h> x"])
        self.assertEqual(body, b"hi\r\n")

    def test_what_is_there_stays(self) -> None:
        message, _ = self.prepare(
            b"Message-ID: <1@x>\r\nDate: x\r\nX: a\r\n b\r\n\r\nhi", Call(["a@example.org"])
        )
        self.assertEqual(
            message,
            b"From: <me@example.org>\r\nMessage-ID: <1@x>\r\nDate: x\r\nX: a\r\n b\r\n\r\nhi\r\n",
        )

    def test_without_header(self) -> None:
        for data in (b"just text\nmore\n", b"\njust text\nmore\n"):
            message, _ = self.prepare(data, Call(["a@example.org"]))
            self.assertTrue(message.endswith(b"\r\n\r\njust text\r\nmore\r\n"), message)

    def test_dot(self) -> None:
        data = b"Subject: x\n\none\n.\ntwo\n"
        message, _ = self.prepare(data, Call(["a@example.org"]))
        self.assertTrue(message.endswith(b"\r\n\r\none\r\n"))
        message, _ = self.prepare(data, Call(["a@example.org"], dots=True))
        self.assertTrue(message.endswith(b"\r\n\r\none\r\n.\r\ntwo\r\n"))

    def test_bare_cr(self) -> None:
        message, _ = self.prepare(b"Subject: x\n\na\rb\n", Call(["a@example.org"]))
        self.assertTrue(message.endswith(b"\r\n\r\na\r\nb\r\n"))

    def test_recipients_of_the_header(self) -> None:
        data = (
            b"To: A <a@example.org>, team: b@example.org, root;\nCc: c@example.org, a@example.org\n"
            b"Bcc: d@example.org\n\nhi\n"
        )
        message, recipients = self.prepare(data, Call(["c@example.org"], from_header=True))
        self.assertEqual(
            recipients, ["a@example.org", "b@example.org", "admin@example.org", "d@example.org"]
        )
        self.assertNotIn(b"d@example.org", message)

    def test_no_recipients(self) -> None:
        for data, call in (
            (b"Subject: x\n\n", Call()),
            (b"Subject: x\n\n", Call(from_header=True)),
            (b"\n", Call(["a@b@c@"])),
        ):
            self.assertRaises(CommandError, prepare, data, call, CONFIG, NOW)
        config = Sendmail(local_hostname="h", from_="me@example.org")
        error = self.assertRaises(CommandError, prepare, b"\n", Call(["root"]), config, NOW)
        self.assertIn("DefaultDestination", str(error))

    def test_tls_not_required(self) -> None:
        config = Sendmail(local_hostname="h", from_="me@example.org", require_tls="no")
        message, _ = self.prepare(b"Subject: x\n\n", Call(["a@example.org"]), config)
        self.assertIn(b"\r\nTLS-Required: No\r\n", message)


class ConfigTests(SynchronousTestCase):
    def read(self, text: str) -> Sendmail:
        path = Path(self.mktemp())
        path.write_text(text)
        return read_config(path)

    def test_the_printed_one_is_nearly_right(self) -> None:
        text = describe_sendmail()
        self.assertIn("LocalHostname: host.example.org", text)
        found = self.read(text)
        self.assertEqual((found.host, found.port, found.tls), ("mail.example.org", 465, True))
        self.assertEqual(found.from_, "me@example.org")

    def test_problems_without_secrets(self) -> None:
        good = "LocalHostname: h\nHost: mail\nPort: 465\nTLS: true\nFrom: me@example.org\n"
        key = base64.urlsafe_b64encode(bytes(32)).decode().rstrip("=")
        for more, why in (
            (f"Username: u\nPassword: hunter2\nClientAuthEd25519PrivateKey: {key}\n", "only one"),
            ("Password: hunter2\n", "needs Username"),
            ("STARTTLS: true\n", "not both"),
            ("ClientAuthEd25519PrivateKey: hunter2\n", "32 bytes"),
            ("AuthMethod: hunter2x\n", "AuthMethod must be"),
            ("RequireTLS: maybe\n", "RequireTLS"),
            ("DefaultDestination: x\n", "DefaultDestination"),
            ("Password hunter2\n", "line 6"),
            ("TLSInsecureSkipVerify: hunter2\n", "line 6"),
        ):
            error = self.assertRaises(SendmailConfigError, self.read, good + more)
            self.assertIn(why, str(error))
            self.assertNotIn("hunter2\n", str(error) + "\n")
        error = self.assertRaises(SendmailConfigError, self.read, good.partition("\n")[2])
        self.assertIn("missing required field LocalHostname", str(error))
        self.assertEqual(self.read(good + f"ClientAuthEd25519PrivateKey: {key}\n").port, 465)

    def test_missing(self) -> None:
        error = self.assertRaises(SendmailConfigError, read_config, "/nonexistent/x")
        self.assertIn("No such file", str(error))
