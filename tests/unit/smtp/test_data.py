"""DATA: content, smuggling, limits, back-pressure; and what delivery answers."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

from twisted.internet.defer import Deferred

from moxtw.queue.submit import SubmitError
from moxtw.smtp.data import MAX_RECEIVED
from moxtw.store.errors import DiskFull
from tests.support.transcript import Peer
from tests.unit.smtp.test_transaction import Base

HEADER = b"From: <a@example.net>\r\nSubject: hi\r\n\r\n"


class DataBase(Base):
    def data(
        self,
        *recipients: str,
        sender: str = "<a@example.net>",
        peer: Peer | None = None,
        parameters: str = "",
        **options: Any,
    ) -> Peer:
        """A connection that awaits content."""
        peer = peer or self.hello(**options)
        self.check(peer, f"MAIL FROM:{sender}{parameters}", "250 *")
        for recipient in recipients or ("<me@example.org>",):
            self.check(peer, f"RCPT TO:{recipient}", "250 *")
        self.check(peer, "DATA", "354 *")
        return peer

    def content(self, peer: Peer, content: bytes, *replies: str) -> None:
        peer.send(content)
        peer.transcript("\n".join(f"S: {reply}" for reply in replies))


class ContentTests(DataBase):
    def test_dots_and_bare_lf(self) -> None:
        peer = self.data()
        self.content(peer, HEADER + b"..a\n.b\nc\r\n.\r\n", "250 *")
        self.assertTrue(self.world.mailbox("me")[0].endswith(b"\r\n\r\n.a\r\n.b\r\nc\r\n"))

    def test_end_in_pieces(self) -> None:
        for cut in range(1, 5):
            peer = self.data()
            peer.send(HEADER + b"x\r\n.\r\n"[:-cut])
            self.assertEqual(peer.received(), b"")
            self.content(peer, b"\r\n.\r\n"[-cut:], "250 *")

    def test_smuggling_is_refused_after_the_proper_end(self) -> None:
        fakes = [b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r\n.\r", b"\r.\r\n", b"\r\r\n.\n"]
        for fake in fakes:
            with self.subTest(fake=fake):
                peer = self.data()
                self.content(
                    peer,
                    HEADER + b"x" + fake + b"MAIL FROM:<b@example.net>\r\n"
                    b"RCPT TO:<you@example.org>\r\nDATA\r\n" + HEADER + b"in\r\n.\r\nNOOP\r\n",
                    "500 5.5.2 *",
                    "250 2.0.0 *",
                )
                # The transaction is over.
                self.check(peer, "DATA", "503 5.5.1 *")
        self.assertEqual(self.world.mailbox("me"), [])
        self.assertEqual(self.world.mailbox("you"), [])

    def test_empty_content(self) -> None:
        self.content(self.data(), b".\r\n", "250 *")
        self.assertEqual(len(self.world.mailbox("me")), 1)

    def test_commands_behind_the_end_run(self) -> None:
        peer = self.data()
        self.content(peer, HEADER + b".\r\nNOOP\r\n", "250 2.2.0 *", "250 2.0.0 *")

    def test_large_message_goes_through_a_file(self) -> None:
        peer = self.data()
        peer.send(HEADER)
        line = b"x" * 998 + b"\r\n"
        for _ in range(300):
            peer.send(line)
        self.content(peer, b".\r\n", "250 *")
        [message] = self.world.mailbox("me")
        self.assertTrue(message.endswith(HEADER + line * 300))

    def test_size_limit(self) -> None:
        peer = self.data(max_size=100)
        self.content(peer, b"x" * 98 + b"\r\n.\r\n", "250 *")
        peer = self.data(max_size=100)
        self.content(peer, b"x" * 101, "451 4.2.3 *", "<closed>")
        peer.send(b"x" * 100)
        self.assertEqual(peer.received(), b"")
        peer = self.data(max_size=100)
        self.content(peer, b"x" * 99 + b"\r\n.\r\n", "451 4.2.3 *", "<closed>")
        # Refused content is not read for ever either.
        peer = self.data(max_size=100)
        self.content(peer, b"a\rb" + b"x" * 110, "451 4.2.3 *", "<closed>")

    def test_size_limit_at_100_mib(self) -> None:
        peer = self.data(max_size=100 << 20)
        peer.protocol.receiving.message.size = 100 << 20
        self.content(peer, b"xx", "451 4.3.4 *", "<closed>")

    def test_input_is_read_and_dropped_for_a_while_after_the_limit(self) -> None:
        peer = self.data(max_size=100)
        self.content(peer, b"x" * 101, "451 4.2.3 *")
        self.assertTrue(peer.transport.half_closed)
        self.assertFalse(peer.transport.disconnecting)
        self.world.clock.advance(5)
        self.assertTrue(peer.transport.disconnecting)

    def test_too_many_received(self) -> None:
        hops = b"Received: from x\r\n\tby y\r\n"
        content = hops * MAX_RECEIVED + HEADER + b"Received: x\r\n.\r\n"
        self.content(self.data(), content, "250 *")
        self.content(self.data(), b"received : x\r\n" + content, "550 5.4.6 *")

    def test_disk_full(self) -> None:
        peer = self.data()
        with patch("moxtw.store.content.Spool.write", side_effect=DiskFull("full")):
            peer.send(HEADER + b"body\r\n")
            self.assertEqual(peer.received(), b"")
            peer.send(b"more\r\n")
        self.content(peer, b"end\r\n.\r\nNOOP\r\n", "452 4.3.1 *", "250 2.0.0 *")

    def test_disk_full_later(self) -> None:
        peer = self.data()
        waiting: Deferred[None] = Deferred()
        with patch("moxtw.store.content.Spool.write", return_value=waiting):
            peer.send(HEADER + b"body\r\n.\r\nNOOP\r\n")
        self.assertEqual(peer.received(), b"")
        waiting.errback(DiskFull("full"))
        peer.transcript("""
        S: 452 4.3.1 *
        S: 250 2.0.0 *
        """)

    def test_disk_error(self) -> None:
        peer = self.data()
        with patch("moxtw.store.content.Spool.write", side_effect=OSError(5, "i/o error")):
            peer.send(HEADER)
        self.content(peer, b".\r\n", "451 4.3.0 *")

    def test_disk_full_when_storing(self) -> None:
        peer = self.data()
        with patch("moxtw.store.messages.add", side_effect=DiskFull("full")):
            self.content(peer, HEADER + b".\r\n", "452 4.3.1 *")

    def test_error_when_storing(self) -> None:
        peer = self.data()
        with patch("moxtw.store.messages.add", side_effect=ZeroDivisionError):
            self.content(peer, HEADER + b".\r\n", "451 4.3.0 *")
        self.assertEqual(self.world.mailbox("me"), [])

    def test_reading_pauses_while_the_spool_is_busy(self) -> None:
        peer = self.data()
        waiting: Deferred[None] = Deferred()
        with patch("moxtw.store.content.Spool.write", return_value=waiting):
            peer.send(HEADER)
        self.assertEqual(peer.transport.producerState, "paused")
        peer.send(b"body\r\n.\r\n")
        self.assertEqual(peer.received(), b"")
        waiting.callback(None)
        self.assertEqual(peer.transport.producerState, "producing")
        peer.transcript("S: 250 *")

    def test_connection_lost_in_content(self) -> None:
        peer = self.data()
        with patch("moxtw.store.content.Spool.discard") as discard:
            peer.send(HEADER)
            peer.disconnect()
        discard.assert_called_once()
        self.assertEqual(self.world.mailbox("me"), [])

    def test_time_limit(self) -> None:
        peer = self.data()
        for _ in range(75):
            peer.send(b"x\r\n")
            self.world.clock.advance(24)
        self.assertEqual(peer.received(), b"")
        self.world.clock.advance(1)
        self.content(peer, b"x", "451 4.4.2 *", "<closed>")

    def test_timeout_in_content(self) -> None:
        peer = self.data()
        peer.send(b"x")
        peer.transcript("""
        T: 31
        S: 421 4.4.2 *
        S: <closed>
        """)


class DeliveryReplyTests(DataBase):
    def test_unknown_user_waits(self) -> None:
        peer = self.data("<nobody@example.org>", "<nobody2@example.org>")
        peer.send(HEADER + b".\r\n")
        peer.transcript("""
        T: 4.9
        S: <open>
        T: 0.1
        S: 550 5.1.1 no such user (*)
        """)

    def test_one_of_two_unknown(self) -> None:
        peer = self.data("<nobody@example.org>", "<me@example.org>")
        self.content(peer, HEADER + b".\r\n", "250 2.2.0 *")
        self.assertEqual(len(self.world.mailbox("me")), 1)
        [(envelope, content, failed)] = self.world.bounced
        self.assertEqual([str(r.recipient.path) for r in failed], ["nobody@example.org"])
        self.assertEqual(failed[0].code, 550)

    def test_accepted_though_the_notification_cannot_be_queued(self) -> None:
        self.world.bounce_error = ZeroDivisionError()
        peer = self.data("<nobody@example.org>", "<me@example.org>")
        self.content(peer, HEADER + b".\r\n", "250 2.2.0 *")

    def test_over_quota(self) -> None:
        peer = self.data("<small@example.org>")
        self.content(peer, HEADER + b"x" * 3000 + b"\r\n.\r\n", "452 4.2.2 *")
        self.assertEqual(self.world.mailbox("small"), [])

    def test_quota_of_one_of_two(self) -> None:
        peer = self.data("<small@example.org>", "<me@example.org>")
        self.content(peer, HEADER + b"x" * 3000 + b"\r\n.\r\n", "250 2.2.0 *")
        self.assertEqual(len(self.world.mailbox("me")), 1)
        self.assertEqual(self.world.bounced[0][2][0].code, 452)

    def test_different_errors(self) -> None:
        peer = self.data("<small@example.org>", "<nobody@example.org>")
        self.content(
            peer,
            HEADER + b"x" * 3000 + b"\r\n.\r\n",
            "554-5.3.0 multiple errors",
            "554-5.3.0 small@example.org: 452 4.2.2 *",
            "554 5.3.0 nobody@example.org: 550 5.1.1 * (*)",
        )

    def test_high_rate_makes_the_connection_slow(self) -> None:
        self.patch(type(self.world.rates), "fits", lambda *args: False)
        peer = self.data()
        peer.send(HEADER + b".\r\n")
        self.assertEqual(peer.received(), b"4")
        self.world.clock.pump([1] * 24)
        self.assertEqual(peer.received(), b"52 4.2.2 accepting mail ")
        # With five seconds left of the time for writing, the rest goes at once.
        self.world.clock.pump([1] * 2)
        self.assertTrue(peer.received().endswith(b")\r\n"))
        peer.send(b"NOOP\r\n")
        self.assertEqual(peer.transport.producerState, "paused")
        self.world.clock.pump([0.9])
        self.assertEqual(peer.received(), b"")
        self.world.clock.pump([1] * 2)
        self.assertEqual(peer.transport.producerState, "producing")
        self.assertEqual(peer.received(), b"2")
        self.world.clock.pump([1] * 30)
        self.assertTrue(peer.received().endswith(b"\r\n"))
        # The client then has its time for the next command.
        self.world.clock.pump([1] * 25)
        self.assertEqual(peer.received(), b"")
        peer.send(b"QUIT\r\n")
        self.world.clock.pump([1] * 40)
        self.assertTrue(peer.received().startswith(b"221 "))
        self.assertTrue(peer.transport.disconnecting)

    def test_same_message_for_several(self) -> None:
        peer = self.data("<me@example.org>", "<you@example.org>", "<me+x@example.org>")
        self.content(peer, HEADER + b".\r\n", "250 *")
        self.assertEqual(len(self.world.mailbox("me")), 2)
        [message] = self.world.mailbox("you")
        self.assertIn(b"for <you@example.org>;", message.replace(b"\r\n\t", b" "))


class SubmissionTests(DataBase):
    def submit(self, content: bytes, reply: str, *recipients: str, **options: Any) -> Any:
        peer = self.user(**options)
        options = {"sender": "<me@example.org>", "peer": peer}
        self.data(*(recipients or ("<b@example.net>",)), **options)
        self.content(peer, content, reply)
        return self.world.submitted[-1] if self.world.submitted else None

    def test_good(self) -> None:
        request = self.submit(
            b"From: <me@example.org>\r\n\r\nx\r\n.\r\n",
            "250 2.2.0 *",
            "<b@example.net>",
            "<you@example.org>",
        )
        self.assertEqual(request.account, "me")
        self.assertEqual(str(request.login_address), "me@example.org")
        self.assertEqual(str(request.mail_from), "me@example.org")
        self.assertEqual([str(r) for r in request.recipients], ["b@example.net", "you@example.org"])
        self.assertIsNone(request.require_tls)
        self.assertEqual(request.content.data, b"From: <me@example.org>\r\n\r\nx\r\n")
        received = request.received.replace(b"\r\n\t", b" ")
        self.assertIn(b"from mail.example.org by mail.example.org ", received)
        self.assertIn(b"with ESMTPA id ", received)
        # Where the user is stays hidden, and so do the recipients from each other.
        self.assertNotIn(b"192.0.2.1]", received)
        self.assertNotIn(b" for ", received)
        self.assertIn(b"; ", received)

    def test_single_recipient_is_named(self) -> None:
        request = self.submit(b"From: <me@example.org>\r\n\r\n.\r\n", "250 *")
        self.assertIn(b"for <b@example.net>; ", request.received.replace(b"\r\n\t", b" "))

    def test_refused_by_the_queue(self) -> None:
        self.world.submit_error = SubmitError(451, "4.7.1", "too many", "messagelimiterror")
        self.submit(b"From: <me@example.org>\r\n\r\n.\r\n", "451 4.7.1 too many (*)")

    def test_unforeseen_error_of_the_queue(self) -> None:
        self.world.submit_error = ZeroDivisionError()
        self.submit(b"From: <me@example.org>\r\n\r\n.\r\n", "451 4.3.0 *")

    def test_header_without_body(self) -> None:
        self.submit(b"From: <me@example.org>\r\n.\r\n", "554 5.6.0 *")

    def test_parameters_are_passed_on(self) -> None:
        peer = self.user(tls=True)
        self.data(
            "<b@example.net>",
            sender="<me@example.org>",
            peer=peer,
            parameters=" REQUIRETLS BODY=8BITMIME HOLDFOR=60 SMTPUTF8",
        )
        self.content(peer, b"From: <me@example.org>\r\n\r\n.\r\n", "250 *")
        [request] = self.world.submitted
        self.assertTrue(request.require_tls)
        self.assertTrue(request.body8bit)
        self.assertEqual(request.hold, "for;60")
        self.assertEqual(request.not_before, 1_750_000_060_000_000)
        # Asked for, but not needed.
        self.assertFalse(request.smtputf8)
        self.assertIn(b"with ESMTPSA (requiretls) id ", request.received.replace(b"\r\n\t", b" "))

    def test_utf8_is_found_out(self) -> None:
        request = self.submit("From: <me@example.org>\r\nSubject: é\r\n\r\n.\r\n".encode(), "250 *")
        self.assertTrue(request.smtputf8)
        self.assertIn(b"with UTF8SMTPA id ", request.received.replace(b"\r\n\t", b" "))

    def test_pedantic(self) -> None:
        self.submit(
            "From: <me@example.org>\r\nSubject: é\r\n\r\n.\r\n".encode(),
            "550 5.6.0 SMTPUTF8 *",
            pedantic=True,
        )
        self.submit(
            "From: <me@example.org>\r\n\r\né\r\n.\r\n".encode(), "500 5.6.0 *", pedantic=True
        )
