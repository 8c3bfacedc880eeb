"""Postfix as the other side: it delivers to us, and we deliver to it, with STARTTLS."""

import smtplib
from typing import Any

from tests.support.peers import Postfix, need
from tests.support.server import PASSWORD, LiveCase, free_port, may_bind, smarthost

USER = "mjl@a.example"
THERE = "friend@pf.example"
DIRECT_IP = "127.0.0.3"

ZONE: dict[str, Any] = {
    "a.example": {"MX": ["10 mail.a.example."]},
    "mail.a.example": {"A": ["127.0.0.1"]},
    "pf.example": {"MX": ["5 mx.pf.example."], "TXT": ["v=spf1 ip4:127.0.0.0/8 -all"]},
    "mx.pf.example": {"A": [DIRECT_IP]},
    "localhost": {"A": ["127.0.0.1"]},
}

MESSAGE = (
    b"From: <%(from)s>\r\nTo: <%(to)s>\r\nSubject: %(name)s\r\n"
    b"Message-ID: <%(name)s@a.example>\r\nDate: Mon, 3 Nov 2025 10:00:00 +0100\r\n"
    b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
    b"Content-Transfer-Encoding: 8bit\r\n\r\n"
    b"gr\xc3\xbc\xc3\x9fe\r\n.\r\n..two dots\r\nFrom the start\r\n%(filler)s"
)


def message(name: str, sender: str, to: str, filler: bytes = b"") -> bytes:
    return MESSAGE % {
        b"name": name.encode(),
        b"from": sender.encode(),
        b"to": to.encode(),
        b"filler": filler,
    }


class PostfixTests(LiveCase):
    def setUp(self):
        need("postfix", root=True)
        super().setUp()

    def postfix(self, **options):
        postfix = Postfix(**options)
        self.addCleanup(postfix.stop)
        return postfix.start()

    def submit(self, server, to, content):
        with smtplib.SMTP(server.ip, server.ports.submission, timeout=20) as client:
            client.ehlo("client.example")
            client.login(USER, PASSWORD)
            client.sendmail(USER, [to] if isinstance(to, str) else to, content, ["BODY=8BITMIME"])

    def body(self, content):
        return content.partition(b"\r\n\r\n")[2]

    def test_postfix_delivers(self):
        port = free_port()
        postfix = self.postfix(routes={"a.example": ("127.0.0.1", port)})
        server = self.mail_server(
            accounts={"mjl": [USER, "second@a.example"]},
            smtp_port=port,
            resolver=self.name_server(ZONE).address,
        )
        small = message("small", THERE, USER)
        large = message("large", THERE, USER, (b"0123456789" * 7 + b"\r\n") * 20000)
        postfix.send(THERE, USER, small)
        postfix.send(THERE, USER, large)
        for name, sent in ((b"<small@", small), (b"<large@", large)):
            got = server.wait_message(name)
            self.assertEqual(self.body(got), self.body(sent))
            self.assertIn(b" with ESMTPS ", b" ".join(got.split()))
            self.assertIn(b"Return-Path: <friend@pf.example>\r\n", got)
        # One that we refuse goes back to its sender, from Postfix.
        postfix.send(THERE, "nobody@a.example", message("lost", THERE, "nobody@a.example"))
        bounce = postfix.wait_message(b"Undelivered Mail Returned to Sender")
        self.assertIn(b"550 5.1.1", b" ".join(bounce.split()))
        # Several recipients in one transaction.
        with smtplib.SMTP(postfix.ip, postfix.port, timeout=20) as client:
            client.sendmail(THERE, [USER, "second@a.example"], message("both", THERE, USER))
        server.wait_messages(b"<both@", 2)
        self.assertIn("Untrusted TLS connection established to 127.0.0.1", postfix.log())
        postfix.wait_empty()
        self.finish(server)

    def test_delivery_to_postfix_by_mx(self):
        if not may_bind(DIRECT_IP, 25):
            self.skipTest(f"port 25 of {DIRECT_IP} can not be bound")
        self.to_postfix(self.postfix(ip=DIRECT_IP, port=25), {})

    def test_delivery_to_postfix_as_smarthost(self):
        postfix = self.postfix()
        self.to_postfix(postfix, smarthost(postfix.port))

    def to_postfix(self, postfix, options):
        server = self.mail_server(resolver=self.name_server(ZONE).address, **options)
        small = message("small", USER, THERE)
        large = message("large", USER, THERE, (b"0123456789" * 7 + b"\r\n") * 20000)
        self.submit(server, THERE, small)
        self.submit(server, [THERE, "other@pf.example"], large)
        for name, sent, count in ((b"<small@", small, 1), (b"<large@", large, 2)):
            for got in postfix.wait_messages(name, count):
                # Postfix keeps messages with LF.
                body = got.partition(b"\n\n")[2]
                self.assertEqual(body, self.body(sent).replace(b"\r\n", b"\n"))
                self.assertIn(b"(using TLSv1.3 ", got)
                self.assertIn(b" with ESMTPS ", b" ".join(got.split()))
        self.finish(server)
