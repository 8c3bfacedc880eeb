"""Limits on connections, and what the metrics count."""

from __future__ import annotations

from moxtw import metrics
from tests.unit.smtp.test_transaction import Base


class ConnectionLimitTests(Base):
    def test_connection_rate(self) -> None:
        for _ in range(300):
            peer = self.world.peer()
            peer.transcript("S: 220 *")
            peer.disconnect()
        self.world.peer().transcript("""
        S: 421 4.7.0 *
        S: <closed>
        """)
        self.world.peer(ip="198.51.100.1").transcript("S: 220 *")
        self.world.clock.advance(60)
        self.world.peer().transcript("S: 220 *")

    def test_open_connections(self) -> None:
        peers = [self.world.peer() for _ in range(30)]
        for peer in peers:
            peer.transcript("S: 220 *")
        refused = self.world.peer()
        refused.transcript("""
        S: 421 4.7.0 *
        S: <closed>
        """)
        # A refused one does not count, neither when it comes nor when it goes.
        refused.disconnect()
        self.world.peer().transcript("S: 421 4.7.0 *")
        peers[0].disconnect()
        self.world.peer().transcript("S: 220 *")

    def test_failed_logins_count_for_submission_only(self) -> None:
        for _ in range(10):
            self.world.failed_auth.add("192.0.2.1", self.world.clock.seconds())
        self.world.peer("submission").transcript("""
        S: 421 4.7.0 *
        S: <closed>
        """)
        self.world.peer().transcript("S: 220 *")

    def refuse(self, times: int) -> None:
        """Let an address offer messages to somebody who does not live here."""
        for _ in range(times):
            peer = self.world.peer()
            peer.transcript("S: 220 *")
            peer.send(
                b"EHLO client.example.net\r\nMAIL FROM:<a@example.net>\r\n"
                b"RCPT TO:<nobody@example.org>\r\nDATA\r\n"
                b"From: <a@example.net>\r\n\r\nhi\r\n.\r\n"
            )
            self.world.clock.pump([1] * 6)
            self.assertIn(b"550 5.1.1 no such user", peer.received())
            peer.disconnect()

    def test_who_was_refused_often_waits_for_the_greeting(self) -> None:
        self.refuse(10)
        patient = self.world.peer()
        self.assertEqual(patient.received(), b"")
        self.world.clock.advance(4.9)
        self.assertEqual(patient.received(), b"")
        self.world.clock.advance(0.1)
        patient.transcript("""
        S: 220 mail.example.org ESMTP moxtw
        C: NOOP
        S: 250 *
        """)
        # Others do not wait, and users do not.
        self.world.peer(ip="198.51.100.1").transcript("S: 220 *")
        self.world.peer("submission").transcript("S: 220 *")
        # The wait can be switched off.
        self.world.peer(greeting_delay=0).transcript("S: 220 *")
        self.world.clock.advance(600)
        self.world.peer().transcript("S: 220 *")

    def test_few_refusals_do_no_harm(self) -> None:
        self.refuse(9)
        self.world.peer().transcript("S: 220 *")

    def test_talking_before_the_greeting(self) -> None:
        before = metrics.smtpserver_early_talkers_total._value.get()
        peer = self.world.peer(greeting_delay=2)
        peer.send(b"EHLO client.example.net\r\nQUIT\r\n")
        self.world.clock.advance(1.9)
        self.assertEqual(peer.received(), b"")
        self.world.clock.advance(0.1)
        peer.transcript("""
        S: 554 5.5.1 you have to wait for the greeting*
        S: <closed>
        """)
        self.assertEqual(metrics.smtpserver_early_talkers_total._value.get(), before + 1)

    def test_gone_before_the_greeting(self) -> None:
        peer = self.world.peer(greeting_delay=2)
        peer.disconnect()
        self.world.clock.advance(3)
        self.assertEqual(peer.received(), b"")

    def test_delivery_rate(self) -> None:
        peer = self.hello()
        send = (
            b"MAIL FROM:<a@example.net>\r\nRCPT TO:<me@example.org>\r\nDATA\r\n"
            b"From: <a@example.net>\r\n\r\n.\r\n"
        )
        for _ in range(500):
            peer.send(send)
        self.assertEqual(peer.received().count(b"250 2.2.0"), 500)
        peer.send(send)
        self.world.clock.pump([1] * 30)
        self.assertIn(b"52 4.2.2", peer.received())
        self.assertEqual(len(self.world.mailbox("me")), 500)
        # Another account has a limit of its own, and so has another address.
        other = self.hello(ip="198.51.100.1")
        other.send(send.replace(b"<me@", b"<you@"))
        other.send(send)
        self.assertEqual(other.received().count(b"250 2.2.0"), 2)


class MetricsTests(Base):
    def count(self, *labels: str) -> float:
        child = metrics.smtpserver_command_duration_seconds.labels(*labels)
        return sum(s.value for s in child._child_samples() if s.name == "_count")

    def test_commands_are_counted_with_their_reply(self) -> None:
        cases = [
            ("smtp", "mail", "250", "2.1.0"),
            ("smtp", "rcpt", "550", "5.1.1"),
            ("smtp", "data", "250", "2.2.0"),
            ("smtp", "quit", "221", "2.0.0"),
            ("smtp", "(unknown)", "500", "5.5.1"),
        ]
        before = [self.count(*case) for case in cases]
        self.hello().transcript("""
        C: MAIL FROM:<a@example.net>
        S: 250 *
        C: RCPT TO:<gone@example.org>
        S: 550 *
        C: RCPT TO:<me@example.org>
        S: 250 *
        C: DATA
        S: 354 *
        C: x: y\\r\\n\\r\\n.
        S: 250 *
        C: FOO
        S: 500 *
        C: QUIT
        S: 221 *
        """)
        after = [self.count(*case) for case in cases]
        self.assertEqual([b - a for a, b in zip(before, after, strict=True)], [1] * len(cases))

    def test_open_connections_are_counted(self) -> None:
        gauge = metrics.connections_count.labels("smtp", "test")
        before = gauge._value.get()
        peer = self.world.peer()
        self.assertEqual(gauge._value.get(), before + 1)
        peer.disconnect()
        self.assertEqual(gauge._value.get(), before)
