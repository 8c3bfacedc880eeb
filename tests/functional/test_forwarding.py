"""Mail that an address passes on to another server, which passes it back."""

from __future__ import annotations

import smtplib
import urllib.request
from typing import Any

from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from tests.support import signing
from tests.support.server import LiveCase, MailServer, free_port, may_bind, poll, smarthost

A, B = "mjl@a.example", "you@b.example"
IP_A, IP_B = "127.0.0.6", "127.0.0.7"
KEY = signing.rsa_key()
LOCAL = {"TXT": ['"v=spf1 ip4:127.0.0.0/8 -all"']}
ZONE: dict[str, Any] = {
    "localhost": {"A": ["127.0.0.1"]},
    "a.example": {"MX": ["10 mail.a.example."], **LOCAL},
    "mail.a.example": {"A": [IP_A]},
    "s._domainkey.a.example": {"TXT": [signing.key_record(KEY)]},
    "b.example": {"MX": ["10 mail.b.example."], **LOCAL},
    "mail.b.example": {"A": [IP_B]},
    "c.example": {"MX": ["10 mail.c.example."], **LOCAL},
    "mail.c.example": {"A": ["127.0.0.1"]},
    "_dmarc.c.example": {"TXT": ['"v=DMARC1; p=none"']},
    "6.0.0.127.in-addr.arpa": {"PTR": ["mail.a.example."]},
    "7.0.0.127.in-addr.arpa": {"PTR": ["mail.b.example."]},
}
MESSAGE = (
    "From: <x@c.example>\r\nTo: <mjl@a.example>\r\nSubject: {0}\r\n"
    "Message-ID: <{0}@c.example>\r\nDate: Fri, 27 Nov 2026 10:00:00 +0000\r\n\r\nhello {0}\r\n"
)


class ForwardingTests(LiveCase):
    def setUp(self) -> None:
        super().setUp()
        ips, ports = (IP_A, IP_B), (25, 25)
        routes: list[dict[str, Any]] = [{}, {}]
        if not (may_bind(IP_A, 25) and may_bind(IP_B, 25)):
            # Who may not listen on port 25 gets routes in place of MX records.
            ips, ports = ("127.0.0.1", "127.0.0.1"), (free_port(), free_port())
            routes = [smarthost(ports[1], "b.example"), smarthost(ports[0], "a.example")]
        names = self.name_server(ZONE)
        made = []
        for name, address, to, ip, port, route in (
            ("a", A, B, ips[0], ports[0], routes[0]),
            ("b", B, A, ips[1], ports[1], routes[1]),
        ):
            account = address.partition("@")[0]
            dkim = {"Selectors": {"s": {"PrivateKeyFile": "s.pem"}}, "Sign": ["s"]}
            dynamic = {
                "Domains": {f"{name}.example": {"DKIM": dkim} if name == "a" else None},
                "Accounts": {
                    account: {
                        "Domain": f"{name}.example",
                        "Destinations": {address: {"ForwardTo": [to]}},
                        "NoFirstTimeSenderDelay": True,
                    }
                },
            }
            server = MailServer(
                self.mktemp(),
                accounts={account: [address]},
                hostname=f"mail.{name}.example",
                ip=ip,
                smtp_port=port,
                resolver=names.address,
                dynamic=dynamic,
                **route,
            )
            key = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            (server.config_path.parent / "s.pem").write_bytes(key)
            made.append(self.start(server))
        self.a, self.b = made

    def send(self, name: str, sender: str = "x@c.example") -> None:
        """A stranger's message to the first server."""
        with smtplib.SMTP(self.a.ip, self.a.ports.smtp, "mail.c.example", 30) as smtp:
            smtp.sendmail(sender, [A], MESSAGE.format(name).encode())

    def count(self, server: MailServer, result: str) -> float:
        """How many messages were passed on."""
        url = f"http://{server.ip}:{server.ports.metrics}/metrics"
        with urllib.request.urlopen(url, timeout=30) as response:
            for line in response.read().decode().splitlines():
                if line.startswith(f'mox_smtpserver_forward_total{{result="{result}"}} '):
                    return float(line.split()[-1])
        return 0

    def test_there_and_back(self) -> None:
        self.send("first")
        own = self.a.wait_message(b"<first@")
        self.assertIn(b"Return-Path: <x@c.example>\r\n", own)
        got = self.b.wait_message(b"<first@")
        head, _, body = got.partition(b"\r\n\r\n")
        words = b" ".join(head.split())
        self.assertEqual(body, b"hello first\r\n")
        self.assertIn(b"Return-Path: <mjl@a.example>\r\n", got)
        # What the first server found, sealed; the second one has checked the seal.
        self.assertIn(b"ARC-Authentication-Results: i=1; mail.a.example; ", words)
        self.assertRegex(words, rb"ARC-Authentication-Results: i=1;.* spf=pass .*dmarc=pass")
        self.assertIn(b"ARC-Seal: i=1; a=rsa-sha256; cv=none; d=a.example; s=s;", words)
        results = words.partition(b"Authentication-Results: mail.b.example; ")[2]
        self.assertIn(b"arc=pass", results)
        self.assertIn(b"spf=pass", results)
        # Trace fields of both, and nothing that is for the first server's users only.
        self.assertEqual(words.count(b"Delivered-To: "), 2)
        self.assertEqual(words.count(b"X-Mox-Reason: "), 1)
        # It comes back, and goes no further.
        poll(lambda: len(self.a.messages()) == 2, 30, "the message to come back")
        self.assertEqual((self.count(self.a, "queued"), self.count(self.a, "loop")), (1, 1))
        self.assertEqual(len(self.b.messages()), 1)
        # A notification goes on as one.
        self.send("null", "")
        self.assertIn(b"Return-Path: <>\r\n", self.b.wait_message(b"<null@"))
        self.finish(self.a, self.b)

    def test_not_taken(self) -> None:
        """The account is told when the other server refuses, and has the message."""
        config = self.b.config_path.with_name("domains.conf")
        text = config.read_text()
        self.b.stop()
        config.write_text(text.replace("you@b.example", "somebody@b.example"))
        self.b.start()
        self.send("refused")
        self.a.wait_message(b"<refused@")
        told = self.a.wait_message(b"report-type=delivery-status")
        self.assertIn(b"you@b.example", told)
        self.assertIn(b"\r\nTo: <mjl@a.example>\r\n", told)
        self.finish(self.a, self.b)

    def test_kill_right_after_the_reply(self) -> None:
        self.b.stop()
        self.send("kept")
        self.a.kill()
        self.a.start()
        self.b.start()
        self.a.moxtw("queue", "schedule", "-now", "0s")
        self.assertIn(b"ARC-Seal: i=1;", self.b.wait_message(b"<kept@"))
        self.finish(self.a, self.b)
