"""The dialogue of a connection: greeting, states, framing, limits, ends."""

from __future__ import annotations

from moxtw import metrics
from moxtw.imap import connection, lexer
from moxtw.imap.commands import basic
from tests.unit.imap.support import ADDRESS, MAIL, PASSWORD, IMAPTestCase


class GreetingTests(IMAPTestCase):
    def test_greeting_carries_capabilities(self) -> None:
        client = self.connect()
        [line] = client.lines()
        self.assertTrue(line.startswith("* OK [CAPABILITY IMAP4rev2 IMAP4rev1 "))
        self.assertTrue(line.endswith("] moxtw imap"))
        self.assertIn(" AUTH=PLAIN]", line)
        self.assertNotIn("STARTTLS", line)

    def test_login(self) -> None:
        client = self.connect()
        client.output()
        self.transcript(
            client,
            """
            C: a LOGIN me@example.org "secret password"
            S: a OK [CAPABILITY …] welcome
            C: b NOOP
            S: b OK NOOP done
            C: c LOGIN me@example.org "secret password"
            S: c NO LOGIN is not possible in this state
            C: d LOGOUT
            S: * BYE see you
            S: d OK LOGOUT done
            """,
        )
        self.assertTrue(client.closed)

    def test_not_imap(self) -> None:
        for line in ("GET / HTTP/1.1", "EHLO x", "", "\x16\x03\x01", "a"):
            client = self.connect()
            client.output()
            client.send(line.encode() + b"\r\n")
            self.assertEqual(client.lines(), ["* BYE please speak IMAP"])
            self.assertTrue(client.closed)

    def test_shutting_down(self) -> None:
        self.stopping = True
        client = self.connect()
        self.assertEqual(client.lines(), ["* BYE server is shutting down"])
        self.assertTrue(client.closed)

    def test_shutdown_of_idle_connection(self) -> None:
        client = self.login()
        self.factory.shutdown()
        self.assertEqual(client.lines(), ["* BYE server is shutting down"])
        self.assertTrue(client.closed)

    def test_sessions_of_an_account_can_be_ended(self) -> None:
        one, two = self.login(), self.connect()
        two.output()
        self.factory.end_sessions("other")
        self.assertFalse(one.closed)
        self.factory.end_sessions("me")
        self.assertTrue(one.closed)
        self.assertFalse(two.closed)

    def test_open_connections_are_limited_and_counted_down(self) -> None:
        clients = [self.connect() for _ in range(30)]
        self.assertIn("* OK", clients[-1].lines()[0])
        self.assertEqual(
            self.connect().lines(),
            ["* BYE [UNAVAILABLE] too many open connections from your network"],
        )
        clients[0].transport.loseConnection()
        self.assertIn("* OK", self.connect().lines()[0])
        self.assertIn("* OK", self.connect("198.51.100.1").lines()[0])

    def test_new_connections_are_limited(self) -> None:
        for _ in range(300):
            self.connect().transport.loseConnection()
        self.assertEqual(
            self.connect().lines(),
            ["* BYE [UNAVAILABLE] too many new connections from your network"],
        )
        self.clock.advance(60)
        self.assertIn("* OK", self.connect().lines()[0])

    def test_failed_logins_are_limited(self) -> None:
        self.failed_auth.add("192.0.2.7", self.clock.seconds(), 10)
        self.assertEqual(
            self.connect().lines(),
            ["* BYE [UNAVAILABLE] too many failed logins from your network"],
        )


class StateTests(IMAPTestCase):
    def test_commands_in_wrong_state(self) -> None:
        self.transcript(
            self.login(),
            """
            C: a STARTTLS
            S: a NO STARTTLS is not possible in this state
            C: b FETCH 1 UID
            S: b NO FETCH is not possible in this state
            C: c SELECT Inbox
            S: …
            S: …
            S: …
            S: …
            S: …
            S: …
            S: …
            S: c OK …
            C: d uid fetch 1 uid
            S: d OK FETCH done
            C: e check
            S: e OK CHECK done
            C: f UID NOOP
            S: f BAD unknown command…
            C: g UID
            S: g BAD …
            """,
        )
        client = self.connect()
        client.output()
        self.assertEqual(
            client.command("SELECT Inbox"), ["t NO SELECT is not possible in this state"]
        )

    def test_bad_text_tells_position_only_after_login(self) -> None:
        client = self.connect()
        client.output()
        client.command("NOOP")
        self.assertEqual(client.command("NOOP extra"), ["t BAD end of command expected"])
        self.assertEqual(
            self.login().command("NOOP extra"),
            ["t BAD end of command expected, at position 6:  extra"],
        )

    def test_untagged_bad(self) -> None:
        client = self.login()
        for line in (b"", b"*", b"(a) NOOP", b"{5}x", b"+ NOOP", b"\x00", b"\xff\xfe x"):
            client.send(line + b"\r\n")
            [reply] = client.lines()
            self.assertTrue(reply.startswith("* BAD "), (line, reply))
        self.assertEqual(client.command("FOO")[0].split(",")[0], "t BAD unknown command")

    def test_bare_line_feeds_end_lines(self) -> None:
        client = self.login()
        client.send(b"a NOOP\nb NOOP\r\n")
        self.assertEqual(client.lines(), ["a OK NOOP done", "b OK NOOP done"])

    def test_bytes_one_by_one(self) -> None:
        client = self.login()
        for byte in b"a STATUS {5}\r\ninbox (MESSAGES)\r\n":
            client.send(bytes([byte]))
        self.assertEqual(
            client.lines(), ["+ go on", "* STATUS Inbox (MESSAGES 0)", "a OK STATUS done"]
        )

    def test_id_and_enable(self) -> None:
        client = self.connect()
        client.output()
        self.transcript(
            client,
            r"""
            C: a ID ("name" "tester" "version" NIL)
            S: * ID ("name" "moxtw")
            S: a OK ID done
            C: b LOGIN me@example.org "secret password"
            S: b OK …
            C: c ID NIL
            S: * ID ("name" "moxtw" "version" "1.2")
            S: c OK ID done
            C: d ID ("a" "b" "A" "c")
            S: d BAD …
            C: e ENABLE condstore nonsense X-Y
            S: * ENABLED CONDSTORE
            S: e OK ENABLE done
            C: f ENABLE condstore
            S: * ENABLED
            S: f OK ENABLE done
            C: g ENABLE
            S: g BAD …
            C: h CAPABILITY
            S: * CAPABILITY IMAP4rev2 …
            S: h OK CAPABILITY done
            """,
        )

    def test_unforeseen_exception_keeps_the_connection(self) -> None:
        async def bug(*args: object) -> bytes:
            raise ZeroDivisionError

        from moxtw.imap import commands
        from moxtw.imap.registry import Command, State, no_arguments

        broken = Command("NOOP", State.ANY, no_arguments, bug)
        self.patch(commands, "COMMANDS", {**commands.COMMANDS, b"NOOP": broken})
        before = metrics.panic_total.labels("imapserver")._value.get()
        client = self.login()
        self.assertEqual(client.command("NOOP"), ["t NO [SERVERBUG] internal error"])
        self.assertEqual(client.command("CHECK"), ["t NO CHECK is not possible in this state"])
        self.assertEqual(metrics.panic_total.labels("imapserver")._value.get(), before + 1)
        self.assertIs(basic.run_noop.__module__, basic.__name__)

    def test_imap_capabilities_disabled(self) -> None:
        self.app = self.make_app()
        account = self.app.config.dynamic.accounts["me"]
        object.__setattr__(account, "imap_capabilities_disabled", ("condstore", "MOVE"))
        from moxtw.imap.factory import IMAPServerFactory

        self.factory = IMAPServerFactory(self.app, self.listener)
        client = self.login()
        names = client.ok("CAPABILITY")[0].split()
        self.assertNotIn("CONDSTORE", names)
        self.assertNotIn("MOVE", names)
        self.assertIn("IDLE", names)
        self.assertEqual(client.ok("ENABLE CONDSTORE"), ["* ENABLED"])


class LimitTests(IMAPTestCase):
    def test_endless_line(self) -> None:
        client = self.login()
        client.send(b"a NOOP " + b"x" * 9000)
        self.assertEqual(client.lines(), [])
        client.send(b"x" * 9000)
        self.assertEqual(
            client.lines(),
            ["a BAD command lines are limited to 16384 bytes",
             "* BYE closing the connection after an endless line"],
        )  # fmt: skip
        self.assertTrue(client.closed)

    def test_line_of_just_the_limit(self) -> None:
        client = self.login()
        client.send(b"a NOOP".ljust(lexer.MAX_LINE) + b"\r\n")
        self.assertTrue(client.lines()[0].startswith("a BAD end of command expected"))
        client.send(b"a NOOP".ljust(lexer.MAX_LINE + 1) + b"\r\n")
        self.assertEqual(client.lines()[0], "a BAD command lines are limited to 16384 bytes")

    def test_large_literal(self) -> None:
        client = self.login()
        self.assertEqual(
            client.command("SELECT {102401}"),
            ["t BAD [TOOBIG] literals in arguments are limited to 102400 bytes each and 1024000"
             " together, at position 9: {102401} (end)"],
        )  # fmt: skip
        self.assertFalse(client.closed)
        client.send(b"a SELECT {102401+}\r\n")
        lines = client.lines()
        self.assertTrue(lines[0].startswith("* BYE [ALERT] literals in arguments"), lines)
        self.assertTrue(lines[1].startswith("a BAD [TOOBIG] "), lines)
        self.assertTrue(client.closed)

    def test_literals_together(self) -> None:
        client = self.selected()
        client.send(b"a SEARCH")
        for _ in range(10):
            client.send(b" TEXT {102400+}\r\n" + b"x" * 102_400)
        client.send(b" TEXT {1+}\r\nx\r\n")
        self.assertTrue(client.lines()[0].startswith("* BYE [ALERT]"))
        self.assertTrue(client.closed)

    def test_number_of_literals(self) -> None:
        client = self.login()
        client.send(b"a LIST \"\" (" + b"{1+}\r\nx " * 1001 + b")\r\n")
        lines = client.lines()
        self.assertEqual(lines[0], "* BYE [ALERT] too many literals in a command")
        client = self.login()
        client.send(b"a LIST \"\" (" + b"{1+}\r\nx " * 99 + b"{1+}\r\nx)\r\n")
        self.assertEqual(client.lines(), ["a OK LIST done"])

    def test_no_reply_ends_like_the_announcement_of_a_literal(self) -> None:
        # Clients that look at ends of lines only would wait for it.
        client = self.login()
        self.assertFalse(client.command("CREATE ( {5}")[0].endswith("}"))

    def test_literal_is_not_asked_for_after_bad_arguments(self) -> None:
        client = self.login()
        self.assertTrue(client.command("CREATE ( {5}")[0].startswith("t BAD "))
        self.assertTrue(client.command("NOPE {5}")[0].startswith("t BAD "))
        self.assertTrue(client.command("FETCH {5}")[0].startswith("t NO "))
        self.assertTrue(client.command("NOOP")[0].startswith("t OK"))

    def test_literal_that_follows_a_bad_command_ends_the_connection(self) -> None:
        for text in (b"CREATE ( {5+}", b"NOPE {5+}", b"FETCH {1000001+}", b"NOOP {5+}"):
            client = self.login()
            client.send(b"a " + text + b"\r\nb LOGOUT\r\n")
            lines = client.lines()
            self.assertTrue(lines[0].startswith("a "), lines)
            self.assertEqual(
                lines[1:], ["* BYE closing: cannot skip a literal after a bad command"]
            )
            self.assertTrue(client.closed)

    def test_literals_of_a_command_in_the_wrong_state_are_skipped(self) -> None:
        client = self.login()
        client.send(b"a SEARCH SUBJECT {8+}\r\nx LOGOUT BODY {3+}\r\nabc\r\nb NOOP\r\n")
        self.assertEqual(
            client.lines(), ["a NO SEARCH is not possible in this state", "b OK NOOP done"]
        )
        client = self.connect()
        client.output()
        client.send(b"a SELECT {5+}\r\nInbox\r\nb NOOP\r\n")
        self.assertEqual(
            client.lines(), ["a NO SELECT is not possible in this state", "b OK NOOP done"]
        )

    def test_nul_in_literal(self) -> None:
        client = self.login()
        client.send(b"a SELECT {3+}\r\na\0b\r\n")
        self.assertTrue(client.lines()[0].startswith("a BAD NUL in literal"))

    def test_input_waits_while_a_command_runs(self) -> None:
        from twisted.internet.defer import Deferred

        waiting: Deferred[None] = Deferred()
        client = self.login()
        self.patch(self.store, "read", lambda fn: waiting)
        client.send(b"a LIST \"\" *\r\n")
        client.send(b"b NOOP\r\n" * 20_000)
        self.assertEqual(client.lines(), [])
        self.assertEqual(client.transport.producerState, "paused")
        self.assertFalse(waiting.called)

    def test_other_connections_get_their_turn(self) -> None:
        client = self.login()
        client.send(b"b NOOP\r\n" * 200)
        self.assertLess(len(client.lines()), 50)
        for _ in range(10):
            self.clock.advance(0)
        self.assertGreater(len(client.lines()), 100)

    def test_slow_reader_is_waited_for(self) -> None:
        self.deliver(MAIL + b"x" * 200_000, count=5)
        client = self.selected()
        client.protocol.pauseProducing()
        client.send(b"a FETCH 1:* BODY.PEEK[]\r\n")
        taken = len(client.output())
        self.assertLess(taken, 600_000)
        self.assertGreater(taken, 100_000)
        client.protocol.resumeProducing()
        self.assertTrue(client.output().endswith(b"a OK FETCH done\r\n"))

    def test_reader_that_never_reads_is_dropped(self) -> None:
        self.deliver(MAIL + b"x" * 200_000, count=5)
        client = self.selected()
        client.protocol.pauseProducing()
        client.send(b"a FETCH 1:* BODY.PEEK[]\r\n")
        self.clock.advance(connection.WRITE_AUTHENTICATED - 1)
        self.assertFalse(client.closed)
        self.clock.advance(1)
        self.assertTrue(client.closed)


class TimeoutTests(IMAPTestCase):
    def test_before_login(self) -> None:
        client = self.connect()
        client.output()
        self.clock.advance(29)
        client.command("NOOP")
        self.clock.advance(29)
        self.assertFalse(client.closed)
        self.clock.advance(1)
        self.assertEqual(
            client.lines(), ["* BYE closing the connection after a time without input"]
        )
        self.assertTrue(client.closed)

    def test_after_login(self) -> None:
        client = self.login()
        self.clock.advance(30 * 60 - 1)
        self.assertFalse(client.closed)
        self.clock.advance(1)
        self.assertIn("* BYE ", client.lines()[0])
        self.assertTrue(client.closed)

    def test_literal(self) -> None:
        client = self.login()
        client.send(b"a APPEND Inbox {100+}\r\nx")
        self.clock.advance(29)
        client.send(b"x")
        self.clock.advance(29)
        self.assertFalse(client.closed)
        self.clock.advance(1)
        self.assertTrue(client.closed)

    def test_no_timers_are_left(self) -> None:
        client = self.login()
        client.send(b"a IDLE\r\n")
        self.clock.advance(2)
        own = [call for call in self.clock.calls if "timedOut" in str(call.func)]
        self.assertEqual(len(own), 1)
        client.transport.loseConnection()
        left = [call for call in self.clock.calls if "imap" in str(call.func).lower()]
        self.assertEqual(left, [])


class CountTests(IMAPTestCase):
    def test_metrics(self) -> None:
        def count(name: str, result: str) -> float:
            return metrics.imap_command_duration_seconds.labels(name, result)._sum.get() + sum(
                bucket.get()
                for bucket in metrics.imap_command_duration_seconds.labels(name, result)._buckets
            )

        kinds = (("noop", "ok"), ("(unknown)", "badsyntax"), ("select", "usererror"))
        before = [count(*kind) for kind in kinds]
        client = self.login()
        client.ok("NOOP")
        client.command("NOPE")
        client.command("SELECT nope")
        after = [count(*kind) for kind in kinds]
        for old, new in zip(before, after, strict=True):
            self.assertGreater(new, old)

    def test_connections_are_counted_down(self) -> None:
        gauge = metrics.connections_count.labels("imap", "test")
        before = gauge._value.get()
        client = self.connect()
        self.assertEqual(gauge._value.get(), before + 1)
        client.transport.loseConnection()
        self.assertEqual(gauge._value.get(), before)
        self.assertEqual(self.factory.connections, set())

    def test_credentials_are_not_in_the_trace(self) -> None:
        from moxtw import log

        seen: list[str] = []
        self.patch(log, "globalLogPublisher", lambda event: seen.append(event["moxtw_text"]))
        log.levels.set("imapserver", "trace")
        self.addCleanup(log.levels.remove, "imapserver")
        self.connect().command(f'LOGIN {ADDRESS} "{PASSWORD}"')
        text = "\n".join(seen)
        self.assertIn("C: ***", text)
        self.assertIn("S: t OK", text)
        self.assertNotIn(PASSWORD, text)
