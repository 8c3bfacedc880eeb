"""``moxtw localserve``: what somebody gets who tries the server out."""

import imaplib
import json
import smtplib
import time
import urllib.error
import urllib.request

from tests.support.server import CLIENT_SECONDS, LiveCase, LocalServer, expect_ok, may_bind

IP = "127.0.0.8"
USER, PASSWORD = "mox@localhost", "moxmoxmox"

MESSAGE = "From: <{0}>\r\nTo: <{1}>\r\nSubject: {2}\r\nMessage-ID: <{2}@localhost>\r\n\r\ntext\r\n"


class LocalserveTests(LiveCase):
    def setUp(self):
        super().setUp()
        if not may_bind(IP, 1025):
            self.skipTest(f"port 1025 of {IP} can not be bound")
        self.server = self.start(LocalServer(self.mktemp(), IP, self.name_server({}).address))

    def search(self, name):
        """Wait for a message, over IMAP; returns its content."""
        client = imaplib.IMAP4(IP, self.server.ports.imap, timeout=CLIENT_SECONDS)
        try:
            expect_ok(client.login(USER, PASSWORD))
            end = time.monotonic() + CLIENT_SECONDS
            while time.monotonic() < end:
                for mailbox in ("INBOX", "Rejects"):
                    if client.select(mailbox, readonly=True)[0] != "OK":
                        continue
                    (found,) = expect_ok(client.search(None, "HEADER", "Message-ID", name))
                    if found:
                        return expect_ok(client.fetch(found.split()[0], "(RFC822)"))[0][1]
                time.sleep(0.05)
        finally:
            client.logout()
        return self.fail(f"{name} did not arrive")

    def test_mail_in_and_out(self):
        # For anybody, whoever sends it.
        for number, to in enumerate((USER, "anybody@elsewhere.example")):
            with smtplib.SMTP(IP, self.server.ports.smtp, timeout=CLIENT_SECONDS) as client:
                content = MESSAGE.format("you@remote.example", to, f"in{number}")
                client.sendmail("you@remote.example", [to], content)
            self.assertIn(b"\r\n\r\ntext\r\n", self.search(f"in{number}"))
        # What is sent comes back.
        context = self.server.trust()
        context.check_hostname = False
        for number in range(3):
            if number == 2:
                client = smtplib.SMTP_SSL(
                    IP, self.server.ports.submissions, timeout=CLIENT_SECONDS, context=context
                )
            else:
                client = smtplib.SMTP(IP, self.server.ports.submission, timeout=CLIENT_SECONDS)
            with client:
                if number == 1:
                    client.starttls(context=context)
                client.login(USER, PASSWORD)
                content = MESSAGE.format(USER, "friend@remote.example", f"out{number}")
                client.sendmail(USER, ["friend@remote.example"], content)
            message = self.search(f"out{number}")
            self.assertIn(b"\r\n\r\ntext\r\n", message)
            # Its own signatures are verified, though there is no such DNS record.
            self.assertIn(b"\tdkim=pass (without dnssec) header.d=localhost ", message)
            self.assertIn(b"iprev=pass", message)
        # Addresses that are made for trying failures.
        with (
            smtplib.SMTP(IP, self.server.ports.smtp, timeout=CLIENT_SECONDS) as client,
            self.assertRaises(smtplib.SMTPDataError) as caught,
        ):
            client.sendmail(
                "you@remote.example", ["x471@localhost"], MESSAGE.format("a@b", "c@d", "no")
            )
        self.assertEqual(caught.exception.smtp_code, 471)
        self.finish(self.server)

    def test_imaps_web_and_restart(self):
        with imaplib.IMAP4_SSL(
            "localhost" if IP == "127.0.0.1" else IP,
            self.server.ports.imaps,
            ssl_context=self.context(),
            timeout=CLIENT_SECONDS,
        ) as client:
            expect_ok(client.login(USER, PASSWORD))
            expect_ok(client.append("INBOX", None, None, b"Message-ID: <kept@x>\r\n\r\ntext\r\n"))
        url = f"http://{IP}:{self.server.ports.http}/admin/api/LoginPrep"
        request = urllib.request.Request(url, b'{"params":[]}')
        request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, timeout=CLIENT_SECONDS) as response:
            token = json.load(response)["result"]
        self.assertIsInstance(token, str)
        with urllib.request.urlopen(
            f"http://{IP}:{self.server.ports.metrics}/metrics", timeout=CLIENT_SECONDS
        ) as response:
            self.assertIn(b"mox_authentication_total", response.read())
        self.assertIn(USER, self.server.moxtw("config", "account", "addresses", "mox"))
        self.server.stop()
        self.server.start()
        self.search("kept")
        self.finish(self.server)

    def context(self):
        context = self.server.trust()
        context.check_hostname = False
        return context
