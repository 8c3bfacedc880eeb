"""Messages that are meant to hurt: answered soon, in bounded memory, and nobody else waits."""

from __future__ import annotations

from tests.bench.parties import cpu_seconds
from tests.support import hostilemail
from tests.support.imapload import IMAPLoad
from tests.support.imapwatch import Watcher
from tests.support.server import PASSWORD, ZONE, LiveCase
from tests.support.smtpload import SMTPLoad

USER = "mjl@a.example"
MAX_CPU = 2.0
MAX_MEMORY = 450_000_000
# Others may wait this long at most; it is far above what is usual, for busy machines.
MAX_WAIT = 1.0
# Looks into all text of all messages.
ACCOUNT = {
    "JunkFilter": {
        "Threshold": 0.95,
        "Params": {"Onegrams": True, "Twograms": True, "MaxPower": 0.1, "TopWords": 10},
    }
}


class HostileMailTests(LiveCase):
    def test_answered_soon_while_nobody_waits(self):
        names = self.name_server({**ZONE, **hostilemail.ZONE, **hostilemail.keys()})
        server = self.mail_server(
            resolver=names.address, log_level="info", account_options=ACCOUNT
        )
        pid = server.require_pid()
        with (
            IMAPLoad(server.ip, server.ports.imap, USER, PASSWORD) as session,
            SMTPLoad((server.ip, server.ports.smtp)) as sender,
        ):
            session.command(b"SELECT INBOX")
            sender.send("a@load.example", USER, b"Subject: hi\r\n\r\nfirst\r\n")
            for name, make in hostilemail.MESSAGES.items():
                with self.subTest(name):
                    server.reset_peak_memory()
                    before = cpu_seconds(pid)
                    watcher = Watcher(session)
                    try:
                        sender.begin("a@load.example", USER)
                        for piece in make():
                            sender.socket.sendall(piece)
                        sender.socket.sendall(b".\r\n")
                        sender.reply(b"250")
                    finally:
                        watcher.stop()
                    cpu = cpu_seconds(pid) - before
                    waited, memory = max(watcher.waits), server.peak_memory()
                    self.assertLess(cpu, MAX_CPU)
                    self.assertLess(waited, MAX_WAIT)
                    self.assertLess(memory, MAX_MEMORY)
        stored = dict(zip(hostilemail.MESSAGES, server.messages()[1:], strict=True))
        self.assertEqual(stored["good signatures"].count(b"dkim=pass ("), 50)
        self.assertEqual(stored["signatures of many fields"].count(b"dkim=fail ("), 50)
        claims = stored["claims of results"]
        self.assertEqual(claims.count(b"Authentication-Results: mail.a.example"), 1)
        self.assertIn(b"spf=pass (", claims)
        self.assertIn(b"dkim=none;", claims)
        self.finish(server)

    def test_loop_is_refused(self):
        server = self.mail_server(log_level="info")
        before = cpu_seconds(server.require_pid())
        with SMTPLoad((server.ip, server.ports.smtp)) as sender:
            sender.begin("a@load.example", USER)
            for piece in hostilemail.received():
                sender.socket.sendall(piece)
            sender.socket.sendall(b".\r\n")
            sender.reply(b"550 5.4.6")
        self.assertLess(cpu_seconds(server.require_pid()) - before, MAX_CPU)
        self.assertEqual(server.messages(), [])
        self.finish(server)
