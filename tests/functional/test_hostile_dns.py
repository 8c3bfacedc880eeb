"""Senders whose name servers answer slowly, wrongly, or not at all: nobody else waits."""

from __future__ import annotations

import threading
import time

from tests.support.hostilens import KINDS, SLOW, HostileNameServer
from tests.support.imapload import IMAPLoad
from tests.support.imapwatch import Watcher
from tests.support.server import PASSWORD, ZONE, LiveCase, MailServer
from tests.support.smtpload import SMTPLoad, SMTPLoadError

USER = "mjl@a.example"
# The resolver asks twice, and waits 5 s each time.
MAX_SECONDS = 20.0
MAX_WAIT = 1.0

REPLIES = {
    "many": "250",
    "text": "550 5.7.27",
    "texts": "550 5.7.27",
    "nothing": "550 5.7.27",
}
"""How senders are answered whose domain is one of these; others cannot be looked up for now."""


def mail(domain: str) -> bytes:
    """A message of a domain, signed by it."""
    signature = (
        f"DKIM-Signature: v=1; a=rsa-sha256; d={domain}; s=s; h=from:subject;"
        f" bh={'A' * 43}=; b={'A' * 342}==\r\n"
    )
    return f"{signature}From: <x@{domain}>\r\nSubject: hi\r\n\r\nhi\r\n".encode()


class Sender(threading.Thread):
    """Sends a message in a session of its own; the reply of each step that was not good."""

    def __init__(self, server: MailServer, domain: str) -> None:
        super().__init__(daemon=True)
        self._address = (server.ip, server.ports.smtp)
        self.domain = domain
        self.reply = ""
        self.seconds = 0.0
        self.start()

    def run(self) -> None:
        begun = time.monotonic()
        try:
            with SMTPLoad(self._address, self.domain) as session:
                session.send(f"x@{self.domain}", USER, mail(self.domain))
                self.reply = "250"
        except (SMTPLoadError, OSError) as exc:
            self.reply = str(exc)
        self.seconds = time.monotonic() - begun


class HostileDNSTests(LiveCase):
    def setUp(self) -> None:
        super().setUp()
        zone = {name: dict(types) for name, types in ZONE.items()}
        for kind in KINDS:
            # Fine up to the message.
            zone[f"{kind}x.example"] = {
                "MX": ["10 mail.a.example."],
                "A": ["127.0.0.1"],
                "TXT": [
                    f'"v=spf1 include:{kind}.example a:{kind}.example mx:{kind}.example'
                    f' exists:%{{i}}.{kind}.example ptr:{kind}.example -all"'
                ],
            }
            for name in ("_dmarc", "s._domainkey"):
                zone[f"{name}.{kind}x.example"] = {"CNAME": [f"{name}.{kind}.example."]}
        names = HostileNameServer(zone).start()
        self.addCleanup(names.stop)
        self.server = self.mail_server(resolver=names.address, log_level="info")

    def send(self, domains: list[str]) -> dict[str, Sender]:
        """Send from all domains at once, while somebody else looks whether all goes on."""
        server = self.server
        with IMAPLoad(server.ip, server.ports.imap, USER, PASSWORD) as session:
            session.command(b"SELECT INBOX")
            watcher = Watcher(session)
            senders = [Sender(server, domain) for domain in domains]
            for sender in senders:
                sender.join(60)
            watcher.stop()
        self.assertLess(max(watcher.waits), MAX_WAIT)
        self.assertLess(max(sender.seconds for sender in senders), MAX_SECONDS)
        return {sender.domain: sender for sender in senders}

    def test_domain_of_sender(self) -> None:
        senders = self.send([f"{kind}.example" for kind in KINDS])
        for kind in KINDS:
            with self.subTest(kind):
                reply = senders[f"{kind}.example"].reply
                self.assertTrue(reply.startswith(REPLIES.get(kind, "451 4.4.0")), reply)
        self.finish(self.server)

    def test_records_of_sender(self) -> None:
        kinds = [kind for kind in KINDS if kind not in SLOW]
        senders = self.send([f"{kind}x.example" for kind in kinds])
        self.assertEqual({sender.reply for sender in senders.values()}, {"250"})
        for message in self.server.messages():
            results = message.partition(b"Received:")[0]
            self.assertNotIn(b"=pass (with", results.replace(b"iprev=pass", b""))
        self.finish(self.server)
