"""Commands and their replies, as conversations."""

from twisted.trial.unittest import SynchronousTestCase

from tests.support.smtp import World

HELLO = """
S: 220 mail.example.org ESMTP *
C: EHLO client.example
S: *
"""


class SessionTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.world = World(self)

    def test_message(self) -> None:
        peer = self.world.peer()
        peer.transcript("""
        S: 220 mail.example.org ESMTP moxtw
        C: EHLO client.example
        S: 250-mail.example.org
        S: 250-PIPELINING
        S: 250-SIZE 104857600
        S: 250-REQUIRETLS
        S: 250-ENHANCEDSTATUSCODES
        S: 250-8BITMIME
        S: 250-LIMITS RCPTMAX=1000
        S: 250 SMTPUTF8
        C: MAIL FROM:<a@example.net>
        S: 250 2.1.0 *
        C: RCPT TO:<me@example.org>
        S: 250 2.1.0 *
        C: DATA
        S: 354 *
        C+ From: <a@example.net>
        C+ Subject: hi
        C+
        C+ ..body
        C: .
        S: 250 2.6.0 *
        C: QUIT
        S: 221 2.0.0 *
        S: <closed>
        """)
        [message] = self.world.mailbox("me")
        self.assertTrue(message.startswith(b"X-Mox-Reason: no-bad-signals;\r\n"), message)
        self.assertTrue(message.endswith(b"From: <a@example.net>\r\nSubject: hi\r\n\r\n.body\r\n"))
