"""Two servers that send mail to each other, as two hosts on the internet do."""

from __future__ import annotations

import base64
import imaplib
import smtplib
from email import message_from_bytes
from email.message import Message
from typing import Any

from tests.support.server import PASSWORD, LiveCase, MailServer, may_bind, poll

A, B = "127.0.0.21", "127.0.0.22"


def plain(user: str) -> bytes:
    return f"\0{user}\0{PASSWORD}".encode()


class Exchange(LiveCase):
    def setUp(self) -> None:
        super().setUp()
        if not (may_bind(A, 25) and may_bind(B, 25)):
            self.skipTest("may not listen on port 25")
        zone: dict[str, Any] = {}
        for name, ip in (("a", A), ("b", B)):
            zone[f"{name}.example."] = {"MX": [f"10 mail.{name}.example."]}
            zone[f"mail.{name}.example."] = {"A": [ip]}
        names = self.name_server(zone)
        self.a, self.b = (
            self.mail_server(
                accounts={name: [f"me@{name}.example"]},
                hostname=f"mail.{name}.example",
                ip=ip,
                smtp_port=25,
                resolver=names.address,
            )
            for name, ip in (("a", A), ("b", B))
        )

    def send(self, server: MailServer, sender: str, recipients: list[str], text: str) -> None:
        with smtplib.SMTP(server.ip, server.ports.submission, timeout=30) as client:
            client.starttls()
            client.ehlo()
            code, _ = client.docmd("AUTH", "PLAIN " + base64.b64encode(plain(sender)).decode())
            self.assertEqual(code, 235)
            client.sendmail(
                sender,
                recipients,
                f"From: <{sender}>\r\nTo: {', '.join(recipients)}\r\n"
                f"Subject: {text}\r\n\r\n{text}\r\n",
            )

    def inbox(self, server: MailServer, user: str, count: int) -> list[Message]:
        """The messages of an inbox, once there are so many."""

        def look() -> list[Message]:
            with imaplib.IMAP4(server.ip, server.ports.imap, timeout=30) as client:
                client.authenticate("PLAIN", lambda _: plain(user))
                client.select("INBOX", readonly=True)
                numbers = client.search(None, "ALL")[1][0].split()
                if len(numbers) < count:
                    return []
                found: list[Any] = [client.fetch(n, "(BODY.PEEK[])")[1][0] for n in numbers]
                return [message_from_bytes(item[1]) for item in found]

        return poll(look, 20, f"{count} messages for {user}", 0.1)

    def test_both_ways_with_tls(self) -> None:
        self.send(self.a, "me@a.example", ["me@b.example"], "to b")
        (message,) = self.inbox(self.b, "me@b.example", 1)
        self.assertEqual(message["Subject"], "to b")
        self.assertEqual(message["Return-Path"], "<me@a.example>")
        received = message.get_all("Received", [])
        self.assertEqual(len(received), 2)
        self.assertIn("with ESMTPS", received[0])
        self.assertIn("from mail.a.example", received[0])
        self.assertIn("TLS1.3", received[0])
        self.assertTrue(message["Message-Id"])
        self.assertTrue(message["Date"])
        self.send(self.b, "me@b.example", ["me@a.example"], "to a")
        (message,) = self.inbox(self.a, "me@a.example", 1)
        self.assertEqual(message["Subject"], "to a")
        self.assertEqual(self.a.errors() + self.b.errors(), [])
        self.a.check()
        self.b.check()

    def test_unknown_user_comes_back(self) -> None:
        self.send(self.a, "me@a.example", ["me@b.example", "nobody@b.example"], "hello")
        (message,) = self.inbox(self.b, "me@b.example", 1)
        self.assertEqual(message["Subject"], "hello")
        (notice,) = self.inbox(self.a, "me@a.example", 1)
        self.assertEqual(notice.get_content_type(), "multipart/report")
        self.assertIn("nobody@b.example", notice.as_string())

    def test_waiting_mail_survives_a_crash(self) -> None:
        self.b.kill()
        for number in range(5):
            self.send(self.a, "me@a.example", ["me@b.example"], f"number {number}")
        self.a.kill()
        self.b.start()
        self.a.start()
        # What was tried already waits for its next attempt.
        self.retry()
        messages = self.inbox(self.b, "me@b.example", 5)
        self.assertEqual(
            sorted(message["Subject"] for message in messages),
            [f"number {number}" for number in range(5)],
        )
        self.a.check()

    def retry(self) -> None:
        """Make everything in a's queue due."""
        from moxtw.store import queuelists
        from moxtw.store.queuelists import Query

        self.a.stop()
        self.a.edit_store(
            lambda tx: queuelists.set_next_attempt(tx, queuelists.ids(tx, Query()), tx.now)
        )
        self.a.start()
