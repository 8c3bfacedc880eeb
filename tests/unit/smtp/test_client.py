"""The SMTP client against scripted servers."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.trial.unittest import SynchronousTestCase

from moxtw.mail.dsnrequest import DSNRequest, Notify
from moxtw.queue.delivery import DeliveryError, RcptResult, Timeouts, Trouble
from moxtw.smtp.stuffing import PIECE
from tests.unit.smtp.wire import Server, message

PLAIN = ("8BITMIME", "SIZE")


def codes(results: list[RcptResult]) -> list[tuple[bool, int, str]]:
    return [(r.success, r.code, r.secode) for r in results]


class Session(SynchronousTestCase):
    def test_pipelined_transaction(self) -> None:
        server = Server().ready()
        server.wire.clear()
        deferred = Deferred.fromCoroutine(server.client.deliver(message(b"a\r\n", "x@d", "y@d")))
        self.assertEqual(
            server.wire.value(),
            b"MAIL FROM:<a@src.example> SIZE=3 BODY=7BIT\r\n"
            b"RCPT TO:<x@d>\r\nRCPT TO:<y@d>\r\nDATA\r\n",
        )
        server.pump()
        self.assertEqual(
            codes(self.successResultOf(deferred)), [(True, 250, "0.0"), (True, 250, "0.0")]
        )
        self.assertEqual(server.contents, [b"a\r\n"])
        self.assertTrue(server.client.usable)

    def test_transaction_without_pipelining(self) -> None:
        server = Server(extensions=PLAIN).ready()
        results = server.deliver(message(b"a\r\n", "x@d", "y@d"))
        self.assertEqual([r.success for r in results], [True, True])
        self.assertEqual(
            server.received,
            [
                "MAIL FROM:<a@src.example> SIZE=3 BODY=7BIT",
                "RCPT TO:<x@d>",
                "RCPT TO:<y@d>",
                "DATA",
            ],
        )

    def test_null_sender_and_8bit(self) -> None:
        server = Server(extensions=["8BITMIME"]).ready()
        server.deliver(message("é\r\n".encode(), mail_from="", has8bit=True))
        self.assertEqual(server.received[0], "MAIL FROM:<> BODY=8BITMIME")

    def test_8bit_content_goes_out_without_8bitmime(self) -> None:
        server = Server(extensions=[]).ready()
        self.assertTrue(server.deliver(message("é\r\n".encode(), has8bit=True))[0].success)
        self.assertEqual(server.received[0], "MAIL FROM:<a@src.example>")

    def test_several_messages_on_one_connection(self) -> None:
        server = Server().ready()
        for _ in range(3):
            self.assertTrue(server.deliver(message())[0].success)
        self.assertEqual(len(server.contents), 3)
        self.assertNotIn("RSET", server.received)

    def test_rset_follows_a_failed_transaction(self) -> None:
        server = Server({"RCPT": ["550 no", "250 ok"], "DATA": ["503 no", "354 go"]}).ready()
        self.assertFalse(server.deliver(message())[0].success)
        self.assertTrue(server.deliver(message())[0].success)
        self.assertEqual([line.split()[0] for line in server.received][3], "RSET")

    def test_quit(self) -> None:
        server = Server().ready()
        server.run(server.client.close())
        self.assertEqual(server.received, ["QUIT"])
        self.assertTrue(server.wire.lost)
        self.assertFalse(server.client.usable)

    def test_quit_waits_only_a_little(self) -> None:
        server = Server({"QUIT": None}).ready()
        deferred = server.start(server.client.close())
        self.assertNoResult(deferred)
        server.clock.advance(5)
        self.successResultOf(deferred)
        self.assertTrue(server.wire.lost)

    def test_close_after_loss(self) -> None:
        server = Server().ready()
        server.wire.lose(ConnectionLost())
        server.run(server.client.close())

    def test_helo_for_servers_without_ehlo(self) -> None:
        for code in (500, 501, 502, 503, 504):
            server = Server({"EHLO": f"{code} no"})
            server.say("220 hi")
            server.run(server.client.greet())
            server.run(server.client.hello())
            self.assertEqual(server.received, ["EHLO me.example", "HELO me.example"])
            self.assertFalse(server.client.extensions.size)

    def test_refused_greeting_and_ehlo(self) -> None:
        for greeting, permanent in (("554 no", True), ("421 later", False), ("250 ok", False)):
            server = Server()
            server.say(greeting)
            with self.assertRaises(DeliveryError) as caught:
                server.run(server.client.greet())
            self.assertEqual(caught.exception.code, int(greeting[:3]))
            self.assertEqual(caught.exception.permanent, permanent)
        server = Server({"EHLO": "550 5.7.1 no"})
        server.say("220 hi")
        server.run(server.client.greet())
        with self.assertRaises(DeliveryError) as caught:
            server.run(server.client.hello())
        self.assertEqual((caught.exception.code, caught.exception.secode), (550, "7.1"))
        self.assertTrue(caught.exception.permanent)

    def test_multi_line_greeting_in_single_bytes(self) -> None:
        server = Server()
        deferred = Deferred.fromCoroutine(server.client.greet())
        for byte in b"220-mx.example\r\n220-hello\r\n220 ESMTP\r\n":
            self.assertNoResult(deferred)
            server.client.dataReceived(bytes([byte]))
        self.successResultOf(deferred)

    def test_lines_ending_in_lf_and_codes_alone(self) -> None:
        server = Server()
        server.client.dataReceived(b"220\n")
        server.run(server.client.greet())


class Refusals(SynchronousTestCase):
    def test_every_step_with_every_kind_of_code(self) -> None:
        for extensions in (("PIPELINING",), ()):
            for verb in ("MAIL", "RCPT", "DATA", "."):
                for code in (199 + 1, 251, 299, 300, 334, 354, 400, 421, 450, 500, 550, 552, 599):
                    expected = code == 354 if verb == "DATA" else 200 <= code < 300
                    server = Server({verb: f"{code} 9.9.9 text"}, extensions=extensions).ready()
                    (result,) = server.deliver(message())
                    with self.subTest(verb=verb, code=code, extensions=extensions):
                        self.assertEqual(result.success, expected)
                        if result.error is not None:
                            self.assertEqual(result.error.code, code)
                            self.assertEqual(
                                result.error.permanent,
                                code >= 500 and (verb, code) != ("RCPT", 552),
                            )
                            self.assertEqual(result.error.lines, (f"{code} 9.9.9 text",))

    def test_refused_mail_is_the_error_of_all(self) -> None:
        answers = {
            "MAIL": "550 5.7.1 not you",
            "RCPT": "503 5.5.1 mail first",
            "DATA": "503 5.5.1 mail first",
        }
        server = Server(answers).ready()
        results = server.deliver(message(b"", "x@d", "y@d"))
        self.assertEqual(codes(results), [(False, 550, "7.1")] * 2)
        self.assertEqual(server.contents, [])

    def test_refused_mail_explains_a_closed_connection(self) -> None:
        server = Server({"MAIL": "554 5.7.1 go away\nCLOSE"}).ready()
        self.assertEqual(codes(server.deliver(message())), [(False, 554, "7.1")])

    def test_each_recipient_has_its_own_result(self) -> None:
        answers = {"RCPT": ["250 ok", "550 5.1.1 unknown", "450 4.2.1 later", "251 forwarded"]}
        server = Server(answers).ready()
        results = server.deliver(message(b"c\r\n", "a@d", "b@d", "c@d", "d@d"))
        self.assertEqual(
            codes(results),
            [(True, 250, "0.0"), (False, 550, "1.1"), (False, 450, "2.1"), (True, 250, "0.0")],
        )
        self.assertEqual([r.error.permanent for r in results if r.error], [True, False])

    def test_lone_dot_when_data_is_accepted_without_recipients(self) -> None:
        server = Server({"RCPT": "550 5.1.1 unknown", ".": "554 no recipients"}).ready()
        self.assertEqual(codes(server.deliver(message())), [(False, 550, "1.1")])
        self.assertEqual(server.contents, [b""])
        self.assertTrue(server.client.usable)

    def test_no_data_without_recipients_when_not_pipelined(self) -> None:
        server = Server({"RCPT": "550 5.1.1 unknown"}, extensions=PLAIN).ready()
        server.deliver(message())
        self.assertNotIn("DATA", server.received)

    def test_too_many_recipients_go_into_further_transactions(self) -> None:
        for extensions in (("PIPELINING",), ()):
            for code in ("452 4.5.3", "552 too many"):
                rcpt = ["250 ok", "250 ok", code, code] + ["250 ok"] * 2
                server = Server({"RCPT": rcpt}, extensions=extensions).ready()
                results = server.deliver(message(b"x\r\n", "a@d", "b@d", "c@d", "d@d"))
                self.assertEqual([r.success for r in results], [True] * 4)
                self.assertEqual(len(server.contents), 2)

    def test_452_for_the_first_recipient_is_its_result(self) -> None:
        server = Server({"RCPT": ["452 4.3.1 full", "250 ok"]}).ready()
        results = server.deliver(message(b"x\r\n", "a@d", "b@d"))
        self.assertEqual(codes(results), [(False, 452, "3.1"), (True, 250, "0.0")])

    def test_full_mailbox_is_no_limit_of_recipients(self) -> None:
        server = Server({"RCPT": ["250 ok", "452 4.2.2 full"]}).ready()
        results = server.deliver(message(b"x\r\n", "a@d", "b@d"))
        self.assertEqual(codes(results), [(True, 250, "0.0"), (False, 452, "2.2")])
        self.assertEqual(len(server.contents), 1)

    def test_452_for_all_ends(self) -> None:
        server = Server({"RCPT": "452 4.5.3 no", "DATA": "503 no"}).ready()
        results = server.deliver(message(b"x\r\n", "a@d", "b@d", "c@d"))
        self.assertEqual(codes(results), [(False, 452, "5.3")] * 3)

    def test_notification_requests(self) -> None:
        dsn = (DSNRequest("FULL", "e1", Notify.SUCCESS), DSNRequest("FULL", "e1"))
        for extensions, mail, rcpt in (
            (["DSN"], " RET=FULL ENVID=e1", " NOTIFY=SUCCESS"),
            ([], "", ""),
        ):
            server = Server(extensions=["PIPELINING", *extensions]).ready()
            results = server.deliver(
                message(b"x\r\n", "a@dst.example", "b@dst.example", dsn=dsn)
            )
            self.assertEqual([result.dsn for result in results], [bool(extensions)] * 2)
            self.assertIn(f"RCPT TO:<a@dst.example>{rcpt}", server.received)
            self.assertIn("RCPT TO:<b@dst.example>", server.received)
            self.assertIn(f"MAIL FROM:<a@src.example>{mail}", server.received)

    def test_announced_limits(self) -> None:
        server = Server(extensions=["PIPELINING", "LIMITS RCPTMAX=2 MAILMAX=2"]).ready()
        results = server.deliver(message(b"x\r\n", "a@d", "b@d", "c@d", "d@d", "e@d"))
        self.assertEqual([r.success for r in results], [True] * 4 + [False])
        self.assertTrue(results[4].untried)
        self.assertFalse(server.client.usable)

    def test_loss_in_a_later_transaction_keeps_earlier_results(self) -> None:
        answers = {"MAIL": ["250 ok", "CLOSE"]}
        server = Server(answers, extensions=["PIPELINING", "LIMITS RCPTMAX=1"]).ready()
        results = server.deliver(message(b"x\r\n", "a@d", "b@d"))
        self.assertEqual([r.success for r in results], [True, False])
        self.assertEqual(results[1].error and results[1].error.trouble, Trouble.IO)

    def test_loss_after_recipients_keeps_their_refusals(self) -> None:
        server = Server({"RCPT": ["250 ok", "550 5.1.1 no"], "DATA": "CLOSE"}).ready()
        results = server.deliver(message(b"x\r\n", "a@d", "b@d"))
        self.assertEqual(codes(results), [(False, 0, ""), (False, 550, "1.1")])

    def test_421_at_any_time_ends_the_session(self) -> None:
        server = Server().ready()
        server.say("421 4.3.2 going down")
        self.assertFalse(server.client.usable)
        server.wire.lose(ConnectionLost())
        self.assertEqual(codes(server.deliver(message())), [(False, 421, "3.2")])

    def test_answer_in_the_middle_of_the_content(self) -> None:
        server = Server(extensions=["PIPELINING"]).ready()
        content = b"line\r\n" * 100_000
        server.wire.pause_after = 1
        deferred = Deferred.fromCoroutine(server.client.deliver(message(content)))
        server.say("250 ok\n250 ok\n354 go")
        self.assertNoResult(deferred)
        server.say("552 5.3.4 too big")
        (result,) = self.successResultOf(deferred)
        self.assertEqual((result.code, result.secode), (552, "3.4"))
        self.assertTrue(result.error and result.error.permanent)
        self.assertFalse(server.client.usable)
        self.assertLess(len(server.wire.value()), len(content))


class Requirements(SynchronousTestCase):
    def check(self, extensions: list[str], **more: object) -> DeliveryError:
        server = Server(extensions=extensions).ready()
        (result,) = server.deliver(message(b"x" * 100 + b"\r\n", **more))  # type: ignore[arg-type]
        assert result.error is not None
        self.assertEqual(server.received, [])
        self.assertEqual(result.error.trouble, Trouble.UNSUPPORTED)
        return result.error

    def test_size(self) -> None:
        self.assertTrue(self.check(["SIZE 100"]).permanent)

    def test_size_zero_is_no_limit(self) -> None:
        server = Server(extensions=["SIZE 0"]).ready()
        self.assertTrue(server.deliver(message())[0].success)

    def test_smtputf8(self) -> None:
        self.assertFalse(self.check([], smtputf8=True).permanent)

    def test_8bitmime_where_demanded(self) -> None:
        self.assertTrue(self.check([], has8bit=True, require_8bitmime=True).permanent)

    def test_requiretls_counts_only_within_tls(self) -> None:
        exc = self.check(["REQUIRETLS"], requiretls=True)
        self.assertEqual((exc.permanent, exc.secode), (False, "7.30"))

    def test_parameters(self) -> None:
        server = Server(extensions=["8BITMIME", "SMTPUTF8"]).ready()
        server.deliver(message(b"x\r\n", "é@d", smtputf8=True))
        self.assertEqual(
            server.received[:2],
            ["MAIL FROM:<a@src.example> BODY=7BIT SMTPUTF8", "RCPT TO:<é@d>"],
        )

    def test_utf8_form_only_where_it_is_understood(self) -> None:
        for extensions, used in ((["8BITMIME", "SMTPUTF8"], True), (["SMTPUTF8"], False)):
            server = Server(extensions=extensions).ready()
            server.deliver(message(b"ascii\r\n", utf8_content="ütf\r\n".encode()))
            self.assertEqual(server.contents, ["ütf\r\n".encode() if used else b"ascii\r\n"])
            self.assertEqual("SMTPUTF8" in server.received[0], used)

    def test_addresses_that_would_inject_commands(self) -> None:
        for address in ("a@b>\r\nRSET", "a\nb@c", "<x@y>"):
            server = Server().ready()
            (result,) = server.deliver(message(b"x\r\n", address))
            self.assertTrue(result.error and result.error.permanent)
            self.assertEqual(server.received, [])


class Content(SynchronousTestCase):
    def sent(self, content: bytes) -> bytes:
        server = Server().ready()
        (result,) = server.deliver(message(content))
        self.assertTrue(result.success, result.error)
        return server.contents[0].replace(b"\r\n..", b"\r\n.")

    def test_dots(self) -> None:
        for content in (b"a\r\n.\r\nb\r\n", b"a\r\n..b\r\n", b"a.\r\n", b"a\r\n.b"):
            expected = content if content.endswith(b"\r\n") else content + b"\r\n"
            self.assertEqual(self.sent(content), expected)
        server = Server().ready()
        server.deliver(message(b".first\r\n"))
        self.assertEqual(server.contents, [b"..first\r\n"])

    def test_bare_line_ends_are_refused_before_anything_is_said(self) -> None:
        for content in (b"a\nb\r\n", b"a\rb\r\n", b"a\r\n\r", b"\r\r\n", b"a\n.\nb\r\n"):
            server = Server().ready()
            (result,) = server.deliver(message(content))
            self.assertTrue(result.error and result.error.permanent)
            self.assertEqual(server.received, [])

    def test_bare_line_end_late_in_large_content_drops_the_connection(self) -> None:
        server = Server().ready()
        (result,) = server.deliver(message(b"x" * 300_000 + b"\ny\r\n"))
        self.assertTrue(result.error and result.error.permanent)
        self.assertEqual(server.contents, [])
        self.assertTrue(server.wire.lost)

    def test_large_content_waits_for_the_transport(self) -> None:
        content = b"0123456789\r\n" * 100_000
        server = Server(extensions=["PIPELINING"]).ready()
        server.wire.pause_after = 1
        deferred = Deferred.fromCoroutine(server.client.deliver(message(content)))
        server.say("250 ok\n250 ok\n354 go")
        self.assertLess(len(server.wire.value()), 2 * PIECE)
        self.assertNoResult(deferred)
        server.wire.pause_after = None
        server.wire.clear()
        server.client.resumeProducing()
        self.assertGreater(len(server.wire.value()), len(content) - 2 * PIECE)
        server.say("250 ok")
        self.assertTrue(self.successResultOf(deferred)[0].success)

    def test_stalled_content_times_out(self) -> None:
        server = Server().ready()
        server.wire.pause_after = 1
        deferred = Deferred.fromCoroutine(server.client.deliver(message(b"a\r\n" * 200_000)))
        server.say("250 ok\n250 ok\n354 go")
        server.clock.advance(179)
        self.assertNoResult(deferred)
        server.clock.advance(1)
        (result,) = self.successResultOf(deferred)
        self.assertEqual(result.error and result.error.trouble, Trouble.TIMEOUT)
        self.assertTrue(server.wire.lost)

    def test_failure_to_read_the_message_sends_no_half(self) -> None:
        async def read(start: int, length: int) -> bytes:
            if start:
                raise OSError("gone")
            return b"x" * (length - 2) + b"\r\n"

        server = Server().ready()
        wanted = message()
        object.__setattr__(wanted, "read", read)
        object.__setattr__(wanted, "size", 1_000_000)
        (result,) = server.deliver(wanted)
        self.assertEqual(result.error and result.error.trouble, Trouble.LOCAL)
        self.assertFalse(result.error and result.error.permanent)
        self.assertTrue(server.wire.lost)

    def test_short_message_is_an_error(self) -> None:
        server = Server().ready()
        wanted = message(b"short\r\n")
        object.__setattr__(wanted, "size", 1000)
        (result,) = server.deliver(wanted)
        self.assertEqual(result.error and result.error.trouble, Trouble.LOCAL)
        self.assertEqual(server.received, [])


class Hostile(SynchronousTestCase):
    def failure(self, data: bytes) -> DeliveryError:
        server = Server()
        server.client.dataReceived(data)
        with self.assertRaises(DeliveryError) as caught:
            server.run(server.client.greet())
        self.assertTrue(server.wire.lost)
        return caught.exception

    def test_garbage(self) -> None:
        for data in (
            b"hello\r\n",
            b"22 hi\r\n",
            b"220x\r\n",
            b"120 hi\r\n",
            b"620 hi\r\n",
            b"\r\n",
            "２２０ hi\r\n".encode(),
            b"220-a\r\n221 b\r\n",
            b"\xff\xfe\xfd\r\n",
        ):
            self.assertEqual(self.failure(data).trouble, Trouble.PROTOCOL)

    def test_long_line(self) -> None:
        self.assertEqual(self.failure(b"220 " + b"x" * 2048).trouble, Trouble.PROTOCOL)
        self.assertEqual(self.failure(b"220 " + b"x" * 2048 + b"\r\n").trouble, Trouble.PROTOCOL)

    def test_line_at_the_limit(self) -> None:
        server = Server()
        server.client.dataReceived(b"220 " + b"x" * (2047 - 4) + b"\r\n")
        server.run(server.client.greet())

    def test_endless_reply(self) -> None:
        self.assertEqual(self.failure(b"220-x\r\n" * 1000).trouble, Trouble.PROTOCOL)

    def test_reply_nobody_asked_for(self) -> None:
        server = Server().ready()
        server.say("250 here is more")
        self.assertTrue(server.wire.lost)

    def test_slow_reply_is_bound_in_time_as_a_whole(self) -> None:
        server = Server()
        deferred = Deferred.fromCoroutine(server.client.greet())
        for _ in range(5):
            server.client.dataReceived(b"220-wait\r\n")
            server.clock.advance(59)
        self.assertNoResult(deferred)
        server.clock.advance(5)
        self.failureResultOf(deferred, DeliveryError)

    def test_delivery_is_bound_in_time_as_a_whole(self) -> None:
        server = Server(timeouts=Timeouts(transaction=100), extensions=[]).ready()
        deferred = Deferred.fromCoroutine(server.client.deliver(message()))
        server.clock.advance(60)
        server.say("250 ok")
        server.clock.advance(40)
        (result,) = self.successResultOf(deferred)
        self.assertEqual(result.error and result.error.trouble, Trouble.TIMEOUT)
        self.assertEqual(server.clock.getDelayedCalls(), [])

    def test_no_timers_are_left(self) -> None:
        server = Server().ready()
        server.deliver(message())
        self.assertEqual(server.clock.getDelayedCalls(), [])

    def test_abort_in_the_middle(self) -> None:
        server = Server().ready()
        deferred = Deferred.fromCoroutine(server.client.deliver(message()))
        server.client.abort()
        (result,) = self.successResultOf(deferred)
        self.assertEqual(result.error and result.error.trouble, Trouble.CANCELED)

    @settings(max_examples=200, deadline=None)
    @given(st.lists(st.binary(max_size=40), max_size=8))
    def test_any_bytes_end_in_a_result(self, chunks: list[bytes]) -> None:
        server = Server().ready()
        deferred = Deferred.fromCoroutine(server.client.deliver(message()))
        for chunk in chunks:
            server.client.dataReceived(chunk)
        server.clock.pump([700] * 10)
        (result,) = self.successResultOf(deferred)
        self.assertIsInstance(result, RcptResult)

    @settings(max_examples=100, deadline=None)
    @given(st.data())
    def test_replies_however_they_are_cut(self, data: st.DataObject) -> None:
        stream = b"250-first\r\n250 2.1.0 ok\r\n250 2.1.5 ok\r\n354 go\r\n250 2.0.0 done\r\n"
        cuts = sorted(data.draw(st.sets(st.integers(0, len(stream)), max_size=10)))
        server = Server().ready()
        deferred = Deferred.fromCoroutine(server.client.deliver(message()))
        for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
            server.client.dataReceived(stream[start:end])
        self.assertEqual(codes(self.successResultOf(deferred)), [(True, 250, "0.0")])


class StartTLS(SynchronousTestCase):
    def begun(self, reply: str = "220 go") -> tuple[Server, Deferred[None], object]:
        server = Server({"STARTTLS": reply}).ready()
        creator = object()
        return server, server.start(server.client.starttls(creator)), creator  # type: ignore[arg-type]

    def test_starttls(self) -> None:
        server, deferred, creator = self.begun()
        self.assertIs(server.wire.tls, creator)
        self.assertNoResult(deferred)
        server.client.handshakeCompleted()
        self.successResultOf(deferred)
        self.assertFalse(server.client.extensions.pipelining)
        server.run(server.client.hello())
        self.assertTrue(server.client.extensions.pipelining)
        self.assertTrue(server.client.has_starttls)

    def test_what_follows_the_reply_is_dropped(self) -> None:
        for more in ("\n250-evil\n250 SIZE 1", "\n250 no line end"):
            server, deferred, _ = self.begun("220 go" + more)
            server.client.handshakeCompleted()
            self.successResultOf(deferred)
            server.run(server.client.hello())
            self.assertEqual(server.client.extensions.size_limit, 1_000_000)

    def test_half_a_line_before_tls_is_dropped(self) -> None:
        server = Server({"STARTTLS": None}).ready()
        deferred = server.start(server.client.starttls(object()))  # type: ignore[arg-type]
        server.client.dataReceived(b"220 go\r\n250-evil")
        server.client.handshakeCompleted()
        self.successResultOf(deferred)
        server.run(server.client.hello())
        self.assertTrue(server.client.extensions.pipelining)

    def test_refusal_is_a_tls_trouble(self) -> None:
        for reply in ("454 not now", "502 no", "250 ok"):
            server, deferred, _ = self.begun(reply)
            exc = self.failureResultOf(deferred, DeliveryError).value
            self.assertEqual((exc.trouble, exc.permanent), (Trouble.TLS, False))
            self.assertEqual(exc.code, int(reply[:3]))
            self.assertIsNone(server.wire.tls)

    def test_failed_handshake(self) -> None:
        server, deferred, _ = self.begun()
        server.wire.lose(SSL.Error([("SSL routines", "", "wrong version number")]))
        exc = self.failureResultOf(deferred, DeliveryError).value
        self.assertEqual(exc.trouble, Trouble.TLS)
        self.assertIn("wrong version number", exc.text)

    def test_alert_after_the_handshake(self) -> None:
        server, deferred, _ = self.begun()
        server.client.handshakeCompleted()
        hello = Deferred.fromCoroutine(server.client.hello())
        server.wire.lose(SSL.Error([("SSL routines", "", "tlsv13 alert certificate required")]))
        self.assertEqual(self.failureResultOf(hello, DeliveryError).value.trouble, Trouble.TLS)

    def test_slow_handshake(self) -> None:
        server, deferred, _ = self.begun()
        server.clock.advance(60)
        exc = self.failureResultOf(deferred, DeliveryError).value
        self.assertEqual(exc.trouble, Trouble.TLS)

    def test_no_helo_after_starttls(self) -> None:
        server, deferred, _ = self.begun()
        server.client.handshakeCompleted()
        server.answers["EHLO"] = "502 no"
        with self.assertRaises(DeliveryError) as caught:
            server.run(server.client.hello())
        self.assertTrue(caught.exception.permanent)

    def test_implicit_tls(self) -> None:
        server = Server()
        secured = Deferred.fromCoroutine(server.client.secure(object(), greeting=True))  # type: ignore[arg-type]
        server.client.handshakeCompleted()
        self.successResultOf(secured)
        server.say("220 hi")
        server.run(server.client.greet())

    def test_requiretls(self) -> None:
        server, _, _ = self.begun()
        server.client.handshakeCompleted()
        server.answers["EHLO"] = "250-hi\n250 REQUIRETLS"
        server.run(server.client.hello())
        server.received.clear()
        server.deliver(message(requiretls=True))
        self.assertEqual(server.received[0], "MAIL FROM:<a@src.example> REQUIRETLS")
