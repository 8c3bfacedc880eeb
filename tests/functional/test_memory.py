"""Memory with many idle sessions and large messages: a small form of ``bin/bench memory``."""

from tests.support.imapload import IMAPLoad
from tests.support.server import PASSWORD, ZONE, LiveCase
from tests.support.smtpload import SMTPLoad, send_large_at_once

USER = "mjl@a.example"

SESSIONS = 200
MAX_PER_SESSION = 60_000

LARGE_MESSAGES = 10
LARGE_SIZE = 20 << 20
MAX_LARGE = 300_000_000


class MemoryTests(LiveCase):
    def setUp(self):
        super().setUp()
        self.server = self.mail_server(
            resolver=self.name_server(ZONE).address, log_level="info"
        )

    def idle(self, count):
        for _ in range(count):
            session = IMAPLoad(self.server.ip, self.server.ports.imap, USER, PASSWORD)
            self.addCleanup(session.close)
            session.command(b"SELECT INBOX")
            session.idle()
            yield session

    def test_idle_sessions(self):
        # What the first sessions load stays for all.
        sessions = list(self.idle(20))
        before = self.server.memory()
        sessions += self.idle(SESSIONS)
        each = (self.server.memory() - before) / SESSIONS
        self.assertLess(each, MAX_PER_SESSION)
        # All of them hear of a message at once.
        with SMTPLoad((self.server.ip, self.server.ports.smtp)) as sender:
            sender.send("load@load.example", USER, b"Subject: news\r\n\r\nnews\r\n")
        for session in sessions:
            session.read_until(b"1 EXISTS")
        self.finish(self.server)

    def test_large_messages_at_once(self):
        self.server.reset_peak_memory()
        send_large_at_once(
            (self.server.ip, self.server.ports.smtp), [USER] * LARGE_MESSAGES, LARGE_SIZE
        )
        self.assertLess(self.server.peak_memory(), MAX_LARGE)
        sizes = [len(data) for data in self.server.messages()]
        self.assertEqual(len(sizes), LARGE_MESSAGES)
        self.assertGreaterEqual(min(sizes), LARGE_SIZE)
        self.finish(self.server)
