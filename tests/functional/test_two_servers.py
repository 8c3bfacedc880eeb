"""Two servers with different domains exchange mail through their queues."""

import smtplib
from typing import Any

from tests.support.server import PASSWORD, LiveCase, free_port, may_bind, smarthost

A, B = "mjl@a.example", "you@b.example"
IP_A, IP_B = "127.0.0.4", "127.0.0.5"

ZONE: dict[str, Any] = {
    "localhost": {"A": ["127.0.0.1"]},
    "a.example": {"MX": ["10 mail.a.example."], "TXT": ['"v=spf1 ip4:127.0.0.0/8 -all"']},
    "mail.a.example": {"A": [IP_A]},
    "b.example": {"MX": ["5 gone.b.example.", "10 mail.b.example."]},
    "mail.b.example": {"A": [IP_B]},
    "4.0.0.127.in-addr.arpa": {"PTR": ["mail.a.example."]},
    "5.0.0.127.in-addr.arpa": {"PTR": ["mail.b.example."]},
}

MESSAGE = (
    b"From: <%(from)s>\r\nTo: <%(to)s>\r\nSubject: %(name)s\r\nMessage-ID: <%(name)s@x.example>\r\n"
    b"\r\ntext\r\n.\r\n..\r\n%(filler)s"
)


def message(name: str, sender: str, to: str, filler: bytes = b"") -> bytes:
    return MESSAGE % {
        b"name": name.encode(),
        b"from": sender.encode(),
        b"to": to.encode(),
        b"filler": filler,
    }


class TwoServersTests(LiveCase):
    def setUp(self):
        super().setUp()
        ip_a, ip_b, port_a, port_b = IP_A, IP_B, 25, 25
        routes_a, routes_b = {}, {}
        if not (may_bind(IP_A, 25) and may_bind(IP_B, 25)):
            # Who may not listen on port 25 gets routes in place of MX records.
            ip_a = ip_b = "127.0.0.1"
            port_a, port_b = free_port(), free_port()
            routes_a, routes_b = smarthost(port_b, "b.example"), smarthost(port_a, "a.example")
        resolver = self.name_server(ZONE).address
        self.a = self.mail_server(
            accounts={"mjl": [A]},
            hostname="mail.a.example",
            ip=ip_a,
            smtp_port=port_a,
            resolver=resolver,
            **routes_a,
        )
        self.b = self.mail_server(
            accounts={"you": [B], "second": ["second@b.example"]},
            hostname="mail.b.example",
            ip=ip_b,
            smtp_port=port_b,
            resolver=resolver,
            **routes_b,
        )

    def submit(self, server, sender, to, content):
        with smtplib.SMTP(server.ip, server.ports.submission, timeout=20) as client:
            client.starttls(context=self.context(server))
            client.login(sender, PASSWORD)
            client.sendmail(sender, to, content)

    def context(self, server):
        context = server.trust()
        context.check_hostname = False
        return context

    def test_both_ways(self):
        large = b"0123456789012345678901234567890123456789\r\n" * 10000
        self.submit(self.a, A, [B], message("to.b", A, B, large))
        self.submit(self.b, B, [A], message("to.a", B, A))
        for server, name, sender, to in ((self.b, "to.b", A, B), (self.a, "to.a", B, A)):
            got = server.wait_message(f"<{name}@".encode())
            sent = message(name, sender, to, large if name == "to.b" else b"")
            self.assertEqual(got.partition(b"\r\n\r\n")[2], sent.partition(b"\r\n\r\n")[2])
            words = b" ".join(got.split())
            # Submitted and passed on over TLS.
            self.assertEqual(words.count(b" with ESMTPSA "), 1, got)
            self.assertEqual(words.count(b" with ESMTPS "), 1, got)
            self.assertIn(f"Return-Path: <{sender}>".encode(), got)
        # To several people over there, and to one who does not exist.
        self.submit(
            self.a, A, [B, "second@b.example", "nobody@b.example"], message("all", A, "all@b")
        )
        self.b.wait_message(b"<all@")
        self.b.wait_message(b"<all@", account="second")
        failure = self.a.wait_message(b"report-type=delivery-status")
        self.assertIn(b"nobody@b.example", failure)
        self.finish(self.a, self.b)

    def test_one_is_away(self):
        """What was accepted for a server that is down stays, over a restart, until it is back."""
        self.b.kill()
        self.submit(self.a, A, [B], message("later", A, B))
        self.a.kill()
        self.a.start()
        self.b.start()
        self.a.moxtw("queue", "schedule", "-now", "0s")
        got = self.b.wait_message(b"<later@")
        self.assertIn(b"\r\n\r\ntext\r\n.\r\n..\r\n", got)
        self.finish(self.a, self.b)
