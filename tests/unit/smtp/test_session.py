"""The command loop: greeting, simple commands, pipelining, framing, faults, shutdown."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from moxtw.smtp import transaction
from tests.support.smtp import World
from tests.support.transcript import Peer

MESSAGE = "From: <a@example.net>\\r\\nSubject: hi\\r\\n\\r\\nbody"


class SessionTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.world = World(self)

    def hello(self, kind: str = "smtp", **options: Any) -> Peer:
        peer = self.world.peer(kind, **options)
        peer.transcript("""
        S: 220 mail.example.org ESMTP *
        C: EHLO client.example
        S: *
        """)
        return peer

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
        S: 250-CHUNKING
        S: 250-BINARYMIME
        S: 250-DSN
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
        S: 250 2.2.0 *
        C: QUIT
        S: 221 2.0.0 *
        S: <closed>
        """)
        [message] = self.world.mailbox("me")
        self.assertTrue(message.startswith(b"X-Mox-Reason: no-bad-signals; reputation"), message)
        self.assertTrue(message.endswith(b"From: <a@example.net>\r\nSubject: hi\r\n\r\n.body\r\n"))

    def test_capabilities_of_submission(self) -> None:
        self.world.peer("submission").transcript("""
        S: 220 *
        C: EHLO anything at all
        S: 250-mail.example.org
        S: 250-PIPELINING
        S: 250-SIZE 104857600
        S: 250-REQUIRETLS
        S: 250-AUTH SCRAM-SHA-256-PLUS SCRAM-SHA-256 SCRAM-SHA-1-PLUS SCRAM-SHA-1 CRAM-MD5 PLAIN LOGIN
        S: 250-FUTURERELEASE 5184000 2025-08-14T15:06:40Z
        S: 250-ENHANCEDSTATUSCODES
        S: 250-8BITMIME
        S: 250-CHUNKING
        S: 250-BINARYMIME
        S: 250-DSN
        S: 250-LIMITS RCPTMAX=1000
        S: 250 SMTPUTF8
        """)  # noqa: E501

    def test_capabilities_when_tls_is_needed_first(self) -> None:
        peer = self.world.peer(
            "submission", require_tls_to_send=True, tls=object(), max_size=5000
        )
        peer.transcript("""
        S: 220 *
        C: HELO x
        S: 250-mail.example.org
        S: 250-PIPELINING
        S: 250-SIZE 5000
        S: 250-STARTTLS
        S: 250-AUTH\x20
        S: *
        """)

    def test_capabilities_without_requiretls(self) -> None:
        peer = self.world.peer(requiretls=False)
        self.assertNotIn("REQUIRETLS", "".join(peer.ask("EHLO client.example")))

    def test_simple_commands(self) -> None:
        self.hello().transcript("""
        C: NOOP
        S: 250 2.0.0 *
        C: noop anything
        S: 250 2.0.0 *
        C: RSET
        S: 250 2.0.0 *
        C: RSET now
        S: 501 5.5.2 * (*)
        C: VRFY me
        S: 252 2.7.0 *
        C: EXPN team
        S: 252 2.7.0 *
        C: HELP
        S: 214 2.0.0 *
        C: QUIT now
        S: 501 5.5.2 *
        C: XDAT 5 LAST
        S: 500 5.5.1 unknown command (*)
        C: STARTTLS
        S: 503 5.5.1 *
        C: AUTH PLAIN
        S: 503 5.5.1 *
        C:
        S: 500 5.5.1 *
        C: QUIT \\x09
        S: 221 2.0.0 *
        S: <closed>
        """)

    def test_errors_end_with_the_connection_id_of_received(self) -> None:
        peer = self.hello()
        [reply] = peer.ask("FOO")
        cid = reply.rpartition("(")[2].rstrip(")")
        self.assertEqual(self.world.ctx.cids.decrypt(cid), 1001)

    def test_first_command_unknown_closes(self) -> None:
        self.world.peer().transcript("""
        S: 220 *
        C: GET / HTTP/1.1
        S: 500 5.5.2 *
        S: <closed>
        """)

    def test_first_bytes_that_are_no_text_close(self) -> None:
        for data in (b"\x16\x03\x01\x02\x00\x01\xfc\x03\x03\n", b"\xff\xfe\r\n"):
            peer = self.world.peer()
            peer.transcript("S: 220 *")
            peer.send(data)
            peer.transcript("""
            S: 500 5.5.2 *
            S: <closed>
            """)

    def test_commands_need_ehlo(self) -> None:
        for kind in ("smtp", "submission"):
            peer = self.world.peer(kind)
            peer.transcript("""
            S: 220 *
            C: NOOP
            S: 250 *
            C: MAIL FROM:<a@example.net>
            S: 503 5.5.1 *
            C: RCPT TO:<a@example.net>
            S: 503 5.5.1 *
            C: DATA
            S: 503 5.5.1 *
            C: STARTTLS
            S: 503 5.5.1 *
            C: AUTH PLAIN
            S: 503 5.5.1 *
            """)

    def test_ehlo_and_helo(self) -> None:
        self.world.peer().transcript("""
        S: 220 *
        C: EHLO
        S: 501 5.5.2 *
        C: EHLO a b
        S: 501 5.5.2 *
        C: EHLO -bad-
        S: 501 5.5.2 *
        C: EHLO [192.0.2.1]
        S: *
        C: EHLO [IPv6:::1] some text
        S: *
        C: HELO client.example
        S: *
        C: HELO nowhere.example
        S: 550 5.5.0 *
        C: HELO broken.example
        S: *
        C: HELO [192.0.2.1]
        S: *
        """)

    def test_ehlo_resets_the_transaction(self) -> None:
        self.hello().transcript("""
        C: MAIL FROM:<a@example.net>
        S: 250 *
        C: RCPT TO:<me@example.org>
        S: 250 *
        C: EHLO client.example
        S: *
        C: DATA
        S: 503 5.5.1 *
        C: MAIL FROM:<a@example.net>
        S: 250 *
        """)

    def test_rset_resets_the_transaction(self) -> None:
        self.hello().transcript("""
        C: MAIL FROM:<a@example.net>
        S: 250 *
        C: RSET
        S: 250 *
        C: RCPT TO:<me@example.org>
        S: 503 5.5.1 *
        """)

    def test_received_field(self) -> None:
        peer = self.hello()
        peer.transcript(f"""
        C: MAIL FROM:<a@example.net>
        S: 250 *
        C: RCPT TO:<me@example.org>
        S: 250 *
        C: DATA
        S: 354 *
        C: {MESSAGE}\\r\\n.
        S: 250 *
        """)
        cid = self.world.ctx.cids.encrypt(1001)
        [message] = self.world.mailbox("me")
        unfolded = message.replace(b"\r\n\t", b" ").decode()
        self.assertIn(
            "Delivered-To: me@example.org\r\nReturn-Path: <a@example.net>\r\n"
            "Received: from client.example ([192.0.2.1]) by mail.example.org ([192.0.2.99]) "
            f"via tcp with ESMTP id {cid} for <me@example.org>; 15 Jun 2025 15:06:40 +0000\r\n"
            "From: <a@example.net>\r\n",
            unfolded.replace("Sun, ", ""),
        )

    # -- Pipelining and framing ----------------------------------------------------

    def test_pipelined_commands_are_answered_in_one_write(self) -> None:
        peer = self.hello()
        writes: list[bytes] = []
        write = peer.transport.write
        peer.transport.write = lambda data: (writes.append(data), write(data))  # type: ignore
        peer.send(
            b"MAIL FROM:<a@example.net>\r\nRCPT TO:<me@example.org>\r\n"
            b"RCPT TO:<you@example.org>\r\nDATA\r\n"
        )
        self.assertEqual(len(writes), 1)
        self.assertEqual(writes[0].count(b"\r\n"), 4)
        peer.received()
        peer.send(b"From: <a@example.net>\r\n\r\nx\r\n.\r\nMAIL FROM:<b@example.net>\r\nQUIT\r\n")
        got = peer.received()
        self.assertRegex(got, rb"\A250 2\.2\.0 .*\r\n250 2\.1\.0 .*\r\n221 2\.0\.0 .*\r\n\Z")
        self.assertEqual(len(self.world.mailbox("me")), 1)
        self.assertEqual(len(self.world.mailbox("you")), 1)

    def test_a_whole_session_byte_by_byte(self) -> None:
        peer = self.world.peer()
        for byte in (
            b"EHLO client.example\r\nMAIL FROM:<a@example.net>\r\nRCPT TO:<me@example.org>\r\n"
            b"DATA\r\nFrom: <a@example.net>\r\n\r\n..\r\n.\r\nQUIT\r\n"
        ):
            peer.send(bytes([byte]))
        codes = [line[:3] for line in peer.received().splitlines() if line[3:4] == b" "]
        self.assertEqual(codes, [b"220", b"250", b"250", b"250", b"354", b"250", b"221"])
        self.assertTrue(self.world.mailbox("me")[0].endswith(b"\r\n\r\n.\r\n"))

    def test_lf_alone_ends_a_command_line(self) -> None:
        self.hello().transcript("""
        C= NOOP\\nNOOP\\n
        S: 250 *
        S: 250 *
        """)

    def test_bare_cr_does_not_end_a_command_line(self) -> None:
        self.hello().transcript("""
        C: RSET\\rQUIT
        S: 500 5.5.1 *
        S: <open>
        """)

    def test_line_of_2048_bytes_passes(self) -> None:
        peer = self.hello()
        peer.send(b"NOOP " + b"x" * 2042 + b"\r\n")
        self.assertTrue(peer.received().startswith(b"250"))

    def test_longer_line_closes(self) -> None:
        for line in (b"NOOP " + b"x" * 2044 + b"\r\n", b"x" * 2049, b"x" * 100_000):
            peer = self.hello()
            peer.send(line)
            peer.transcript("""
            S: 500 5.5.0 *
            S: <closed>
            """)
            peer.send(b"NOOP\r\n")
            self.assertEqual(peer.received(), b"")

    def test_long_line_in_small_pieces_closes(self) -> None:
        peer = self.hello()
        for _ in range(300):
            peer.send(b"xxxxxxxxxx")
        self.assertTrue(peer.received().startswith(b"500 5.5.0 "))

    def test_line_that_is_not_utf8(self) -> None:
        self.hello().transcript("""
        C: NOOP \\xff
        S: 501 5.5.2 *
        C: FOO \\xff
        S: 500 5.5.1 *
        """)

    def test_white_space_at_the_end(self) -> None:
        self.hello().transcript("""
        C: RSET\\x09
        S: 250 2.0.0 *
        C: EHLO\\x09
        S: 501 5.5.2 *
        C: QUIT\\x09\x20\\x09
        S: 221 2.0.0 *
        S: <closed>
        """)
        self.hello("submission").transcript("""
        C: RSET\\x09
        S: 501 5.5.2 *
        """)

    def test_very_many_commands_at_once_leave_time_for_others(self) -> None:
        peer = self.hello()
        commands = (b"\n", b"NOOP\n", b"RSET\r\n", b"FOO\n")
        peer.send(b"".join(commands) * 2000 + b"MAIL FROM:<>\r\n")
        first = peer.received().count(b"\r\n")
        self.assertGreater(first, 10)
        self.assertLess(first, 500)
        # What comes meanwhile has to wait.
        peer.send(b"QUIT\r\n")
        self.assertEqual(peer.received(), b"")
        self.assertEqual(peer.transport.producerState, "paused")
        got = b""
        for _ in range(1000):
            self.world.clock.advance(0)
            got += peer.received()
        lines = got.splitlines()
        self.assertEqual(len(lines), 8002 - first)
        self.assertTrue(lines[-2].startswith(b"250 2.1.0 "))
        self.assertTrue(lines[-1].startswith(b"221 "))
        self.assertTrue(peer.transport.closed)

    def test_connection_lost_with_many_commands_left(self) -> None:
        peer = self.hello()
        peer.send(b"NOOP\n" * 5000)
        peer.disconnect()
        peer.received()
        self.world.clock.advance(0)
        self.assertEqual(peer.received(), b"")

    def test_shutdown_with_many_commands_left(self) -> None:
        peer = self.hello()
        peer.send(b"NOOP\n" * 5000)
        peer.received()
        peer.protocol.shutdown()
        self.world.clock.advance(0)
        peer.transcript("""
        S: 421 4.3.2 *
        S: <closed>
        """)

    # -- A client that closes its side ------------------------------------------------

    def test_what_came_before_the_end_of_input_is_answered(self) -> None:
        peer = self.hello()
        waiting = self.slow_check()
        peer.send(b"MAIL FROM:<a@example.net>\r\nRCPT TO:<me@example.org>\r\nDATA\r\n")
        peer.send(b"Subject: hi\r\n\r\n.\r\nNOOP\r\n")
        peer.protocol.readConnectionLost()
        self.assertFalse(peer.transport.closed)
        waiting.callback(None)
        peer.transcript("""
        S: 250 2.1.0 *
        S: 250 2.1.0 *
        S: 354 *
        S: 250 *
        S: 250 2.0.0 *
        S: <closed>
        """)
        self.assertEqual(len(self.world.mailbox("me")), 1)

    def test_end_of_input_closes(self) -> None:
        for data in (b"", b"NOO", b"MAIL FROM:<>\r\nRCPT TO:<me@example.org>\r\nDATA\r\nx\r\n"):
            peer = self.hello()
            peer.send(data)
            peer.received()
            peer.protocol.readConnectionLost()
            self.assertTrue(peer.transport.closed)
            peer.disconnect()
        self.assertEqual(self.world.mailbox("me"), [])

    def test_end_of_input_behind_very_many_commands(self) -> None:
        peer = self.hello()
        peer.send(b"NOOP\r\n" * 1000)
        peer.protocol.readConnectionLost()
        self.world.clock.pump([0] * 10)
        self.assertEqual(peer.received(), b"250 2.0.0 alrighty\r\n" * 1000)
        self.assertTrue(peer.transport.closed)

    def test_end_of_input_in_slow_mode(self) -> None:
        peer = self.hello()
        peer.protocol.set_slow(True)
        peer.send(b"NOOP\r\n")
        peer.protocol.readConnectionLost()
        self.world.clock.pump([1] * 40)
        peer.transcript("""
        S: 250 2.0.0 *
        S: <closed>
        """)

    def test_end_of_input_within_authentication(self) -> None:
        peer = self.hello("submission")
        peer.transcript("""
        C: AUTH PLAIN
        S: 334\x20
        """)
        peer.protocol.readConnectionLost()
        self.assertTrue(peer.transport.closed)

    def test_end_of_input_while_a_refused_transfer_lingers(self) -> None:
        peer = self.hello()
        peer.send(b"x" * 5000)
        peer.transcript("S: 500 *")
        self.assertFalse(peer.transport.disconnecting)
        peer.protocol.readConnectionLost()
        self.assertTrue(peer.transport.disconnecting)

    def test_nobody_is_kept_waiting_for_long_behind_the_end_of_input(self) -> None:
        peer = World(self, localserve=True).peer()
        peer.transcript("""
        S: 220 *
        C: EHLO client.example
        S: *
        C: MAIL FROM:<mailfromtimeout@example.net>
        """)
        peer.protocol.readConnectionLost()
        self.assertTrue(peer.transport.aborted)

    # -- Waiting -------------------------------------------------------------------

    def slow_check(self) -> Deferred[None]:
        """Makes MAIL wait for the returned Deferred."""
        waiting: Deferred[None] = Deferred()

        async def wait() -> None:
            await waiting

        self.patch(type(self.world.ctx.senders), "check", lambda self, domain: wait())
        return waiting

    def test_commands_wait_for_the_one_before(self) -> None:
        peer = self.hello()
        waiting = self.slow_check()
        peer.send(b"NOOP\r\nMAIL FROM:<a@example.net>\r\nRCPT TO:<me@example.org>\r\nNOOP\r\n")
        peer.transcript("S: 250 2.0.0 *")
        waiting.callback(None)
        peer.transcript("""
        S: 250 2.1.0 *
        S: 250 2.1.0 *
        S: 250 2.0.0 *
        """)

    def test_reading_pauses_while_a_command_waits_and_more_comes(self) -> None:
        peer = self.hello()
        waiting = self.slow_check()
        peer.send(b"MAIL FROM:<a@example.net>\r\n")
        peer.send(b"NOOP\r\n")
        self.assertEqual(peer.transport.producerState, "paused")
        waiting.callback(None)
        self.assertEqual(peer.transport.producerState, "producing")
        peer.transcript("""
        S: 250 2.1.0 *
        S: 250 2.0.0 *
        """)

    def test_no_timeout_while_we_are_the_slow_ones(self) -> None:
        peer = self.hello()
        waiting = self.slow_check()
        peer.send(b"MAIL FROM:<a@example.net>\r\n")
        for _ in range(10):
            self.world.clock.advance(29)
        waiting.callback(None)
        peer.transcript("""
        S: 250 2.1.0 *
        T: 29
        C: NOOP
        S: 250 2.0.0 *
        T: 31
        S: 421 4.4.2 *
        S: <closed>
        """)

    def test_connection_lost_while_a_command_waits(self) -> None:
        peer = self.hello()
        waiting = self.slow_check()
        peer.send(b"MAIL FROM:<a@example.net>\r\n")
        peer.disconnect()
        waiting.callback(None)
        self.assertEqual(peer.received(), b"")
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_client_that_does_not_read_replies(self) -> None:
        peer = self.hello()
        outlet = peer.transport.producer
        outlet.pauseProducing()
        peer.send(b"NOOP\r\n")
        self.assertEqual(peer.received(), b"")
        self.assertEqual(peer.transport.producerState, "paused")
        outlet.resumeProducing()
        self.assertEqual(peer.transport.producerState, "producing")
        peer.transcript("S: 250 2.0.0 *")
        outlet.pauseProducing()
        self.world.clock.advance(31)
        self.assertTrue(peer.transport.aborted)

    def test_idle_client_is_told_and_disconnected(self) -> None:
        self.hello().transcript("""
        T: 29
        S: <open>
        C= NO
        T: 29
        S: <open>
        T: 2
        S: 421 4.4.2 *
        S: <closed>
        """)

    def test_connection_is_aborted_when_closing_takes_too_long(self) -> None:
        peer = self.hello()
        peer.transcript("""
        C: QUIT
        S: 221 *
        """)
        self.assertFalse(peer.transport.aborted)
        self.world.clock.advance(31)
        self.assertTrue(peer.transport.aborted)

    def test_no_timers_are_left(self) -> None:
        peer = self.hello()
        peer.disconnect()
        left = [c for c in self.world.clock.getDelayedCalls() if c.getTime() < 1_750_000_200]
        ours = [c for c in left if "smtp" in repr(c.func)]
        self.assertEqual(ours, [])

    # -- Faults --------------------------------------------------------------------

    def test_unforeseen_exception_answers_451_and_the_connection_goes_on(self) -> None:
        peer = self.hello()
        with patch.object(transaction, "_recipient", side_effect=ZeroDivisionError):
            peer.transcript("""
            C: MAIL FROM:<a@example.net>
            S: 250 *
            C: RCPT TO:<me@example.org>
            S: 451 4.3.0 * (*)
            """)
        peer.transcript("""
        C: RCPT TO:<me@example.org>
        S: 503 5.5.1 *
        C: MAIL FROM:<a@example.net>
        S: 250 *
        """)

    def test_unforeseen_exception_in_an_asynchronous_command(self) -> None:
        peer = self.hello()
        self.slow_check().errback(ZeroDivisionError())
        peer.transcript("""
        C: MAIL FROM:<a@example.net>
        S: 451 4.3.0 *
        C: NOOP
        S: 250 *
        """)

    def test_unforeseen_exception_in_content_ends_the_connection(self) -> None:
        peer = self.hello()
        peer.transcript("""
        C: MAIL FROM:<a@example.net>
        S: 250 *
        C: RCPT TO:<me@example.org>
        S: 250 *
        C: DATA
        S: 354 *
        """)
        with patch("moxtw.store.content.Spool.write", side_effect=ZeroDivisionError):
            peer.transcript("""
            C: x
            S: 421 4.3.0 *
            S: <closed>
            """)

    # -- Shutdown ------------------------------------------------------------------

    def test_shutdown_ends_idle_sessions(self) -> None:
        factory = self.world.factory()
        peer = self.world.peer(factory=factory)
        peer.transcript("S: 220 *")
        done = factory.shutdown()
        peer.transcript("""
        S: 421 4.3.2 *
        S: <closed>
        """)
        self.assertNoResult(done)
        peer.disconnect()
        self.successResultOf(done)

    def test_shutdown_lets_transfers_finish(self) -> None:
        factory = self.world.factory()
        peer = self.world.peer(factory=factory)
        peer.transcript("""
        S: 220 *
        C: EHLO client.example
        S: *
        C: MAIL FROM:<a@example.net>
        S: 250 *
        C: RCPT TO:<me@example.org>
        S: 250 *
        C: DATA
        S: 354 *
        """)
        factory.shutdown()
        peer.transcript(f"""
        S: <open>
        C: {MESSAGE}\\r\\n.
        S: 250 2.2.0 *
        S: 421 4.3.2 *
        S: <closed>
        """)
        self.assertEqual(len(self.world.mailbox("me")), 1)

    def test_shutdown_lets_a_command_finish(self) -> None:
        factory = self.world.factory()
        peer = self.world.peer(factory=factory)
        peer.transcript("""
        S: 220 *
        C: EHLO client.example
        S: *
        """)
        waiting = self.slow_check()
        peer.send(b"MAIL FROM:<a@example.net>\r\n")
        factory.shutdown()
        self.assertEqual(peer.received(), b"")
        waiting.callback(None)
        peer.transcript("""
        S: 250 2.1.0 *
        S: 421 4.3.2 *
        S: <closed>
        """)

    def test_connections_after_shutdown_are_refused(self) -> None:
        factory = self.world.factory()
        factory.shutdown()
        self.world.peer(factory=factory).transcript("""
        S: 421 4.3.2 *
        S: <closed>
        """)

    def test_abort(self) -> None:
        factory = self.world.factory()
        peer = self.world.peer(factory=factory)
        factory.abort()
        self.assertTrue(peer.transport.aborted)
