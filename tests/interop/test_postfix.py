"""Postfix as the other side: it delivers to us, and we deliver to it, with STARTTLS."""

import re
import smtplib
from typing import Any

from tests.support.peers import Postfix, need
from tests.support.server import PASSWORD, LiveCase, free_port, may_bind, poll, smarthost

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

    def submit(self, server, to, content, mail=(), rcpt=()):
        with smtplib.SMTP(server.ip, server.ports.submission, timeout=20) as client:
            client.ehlo("client.example")
            client.login(USER, PASSWORD)
            to = [to] if isinstance(to, str) else to
            client.sendmail(USER, to, content, ["BODY=8BITMIME", *mail], rcpt)

    def both(self, addresses=(), **options):
        """Postfix and a server that send to each other."""
        port = free_port()
        postfix = self.postfix(routes={"a.example": ("127.0.0.1", port)}, **options)
        server = self.mail_server(
            accounts={"mjl": [USER, *addresses]},
            smtp_port=port,
            resolver=self.name_server(ZONE).address,
            **smarthost(postfix.port),
        )
        return postfix, server

    def unfolded(self, content):
        """A notification with each field on a line, and lines as they compare."""
        return re.sub(rb"\r?\n[ \t]+", b" ", content).replace(b"\r\n", b"\n")

    def test_recipients_that_postfix_refuses(self):
        postfix, server = self.both(
            settings={
                "smtpd_recipient_restrictions":
                    "check_recipient_access texthash:${config_directory}/access, permit",
            },
            access="gone@pf.example 550 5.1.1 nobody here\nlater@pf.example 451 4.2.1 not now\n",
        )
        to = [THERE, "gone@pf.example", "other@pf.example"]
        self.submit(server, to, message("three", USER, THERE))
        postfix.wait_messages(b"<three@", 2)
        failed = self.unfolded(server.wait_message(b"Action: failed"))
        self.assertIn(b"\nFinal-Recipient: rfc822; gone@pf.example\n", failed)
        self.assertIn(b"\nStatus: 5.1.1 ", failed)
        self.assertRegex(failed, rb"\nDiagnostic-Code: smtp; 550 5\.1\.1 .*nobody here.*\n")
        self.assertEqual(failed.count(b"Final-Recipient:"), 1)
        # All three in one transaction.
        self.assertEqual(postfix.log().count(" client=unknown[127.0.0.1]"), 1)

        # Not now, and then it goes.
        self.submit(server, "later@pf.example", message("later", USER, THERE))
        poll(lambda: "not now" in server.moxtw("queue", "list"), 20, "an attempt", 0.2)
        # The session that is kept for more would go on with what Postfix has read.
        poll(lambda: " quit=1 " in postfix.log(), 20, "the end of the session", 0.2)
        postfix.access("")
        self.assertIn("1 message", server.moxtw("queue", "schedule", "-now", "0s"))
        postfix.wait_message(b"<later@")
        poll(lambda: server.moxtw("queue", "list") == "(none)\n", 20, "the queue", 0.2)
        self.finish(server)

    def test_notifications(self):
        """DSN (RFC 3461) through both: what the sender asks for comes back from the other side."""
        postfix, server = self.both()
        self.submit(
            server,
            THERE,
            message("asked", USER, THERE),
            ["RET=HDRS", "ENVID=QQ+2B1"],
            ["NOTIFY=SUCCESS,FAILURE", f"ORCPT=rfc822;first+2B{THERE}"],
        )
        postfix.wait_message(b"<asked@")
        told = self.unfolded(server.wait_message(b"Action: delivered"))
        self.assertIn(b"\nOriginal-Envelope-Id: QQ+1\n", told)
        self.assertRegex(told, rb"(?i)\nOriginal-Recipient: rfc822; ?first\+friend@pf\.example\n")
        self.assertIn(b"<asked@", told)
        self.assertNotIn(b"two dots", told)
        # The other way: we answer for what we have delivered.
        with smtplib.SMTP(postfix.ip, postfix.port, timeout=20) as client:
            client.ehlo("client.example")
            client.sendmail(
                THERE, USER, message("back", THERE, USER), ["ENVID=back"], ["NOTIFY=SUCCESS"]
            )
        server.wait_message(b"<back@")
        told = self.unfolded(postfix.wait_message(b"Action: delivered"))
        self.assertIn(b"\nOriginal-Envelope-Id: back\n", told)
        self.assertIn(b"\nFinal-Recipient: rfc822; " + USER.encode(), told)
        self.finish(server)

    def test_addresses_in_utf8(self):
        here, there = "mül@a.example", "jürgen@pf.example"
        postfix, server = self.both([here])
        self.submit(server, there, message("utf8", USER, there), ["SMTPUTF8"])
        got = postfix.wait_message(b"<utf8@")
        self.assertIn(b" with UTF8SMTPS", b" ".join(got.split()))
        self.assertIn("Delivered-To: jürgen@pf.example".encode(), got)
        with smtplib.SMTP(postfix.ip, postfix.port, timeout=20) as client:
            client.ehlo("client.example")
            content = message("back8", there, here)
            client.sendmail(there, here, content, ["SMTPUTF8", "BODY=8BITMIME"])
        got = server.wait_message(b"<back8@")
        self.assertIn(b" with UTF8SMTPS", b" ".join(got.split()))
        self.assertIn("Return-Path: <jürgen@pf.example>".encode(), got)
        self.finish(server)

    def test_what_postfix_can_not_take(self):
        """Too large by SIZE (RFC 1870), and no SMTPUTF8 (RFC 6531): nothing is sent."""
        postfix, server = self.both(
            settings={"message_size_limit": "50000", "smtputf8_enable": "no"}
        )
        filler = b"0123456789\r\n" * 10000
        self.submit(server, THERE, message("huge", USER, THERE, filler))
        failed = self.unfolded(server.wait_message(b"Status: 5.3.4"))
        self.assertIn(b"Action: failed\n", failed)
        there = "jürgen@pf.example"
        self.submit(server, there, message("eai", USER, there), ["SMTPUTF8"])
        # Another server may come to have it: it waits.
        poll(lambda: "needs SMTPUTF8" in server.moxtw("queue", "list"), 20, "an attempt", 0.2)
        self.assertEqual(postfix.messages(), [])
        self.finish(server)

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
