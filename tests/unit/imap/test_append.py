"""APPEND: literals, several messages, answers in order, pipelining."""

from __future__ import annotations

from unittest import mock

from twisted.internet.defer import Deferred, fail

from moxtw.imap.commands import append
from moxtw.store import messages
from moxtw.store.content import Spool
from moxtw.store.errors import DiskFull
from tests.support.store import job
from tests.unit.imap.support import MAIL, Client, IMAPTestCase


def one(tag: str, mailbox: str = "Inbox", data: bytes = MAIL, sync: str = "+") -> bytes:
    return b"%b APPEND %b {%d%b}\r\n%b\r\n" % (
        tag.encode(), mailbox.encode(), len(data), sync.encode(), data,
    )  # fmt: skip


class AppendTests(IMAPTestCase):
    def contents(self, mailbox: str = "Inbox") -> list[bytes]:
        box = self.mailbox(mailbox)

        def read(tx: messages.Tx) -> list[bytes]:
            rows = messages.rows(tx, box.id, messages.ALL_UIDS, 0)
            return [messages.read(tx, row.id) for row in rows]

        return job(self.store, read)

    def test_synchronising(self) -> None:
        client = self.login()
        validity = self.mailbox("Inbox").uidvalidity
        self.transcript(
            client,
            f"""
            C: a APPEND Inbox (\\Seen Foo) "17-Jul-1996 02:44:25 -0700" {{12}}
            S: + go on
            C: Subject: x
            C:
            S: a OK [APPENDUID {validity} 1] APPEND done
            C: b SELECT Inbox
            S: * FLAGS (… foo)
            S: …
            S: * 0 RECENT
            S: * 1 EXISTS
            S: …
            S: …
            S: …
            S: b OK [READ-WRITE] done
            C: c FETCH 1 (FLAGS INTERNALDATE RFC822.SIZE)
            S: * 1 FETCH (UID 1 FLAGS (\\Seen foo) INTERNALDATE "17-Jul-1996 09:44:25 +0000" RFC822.SIZE 12)
            S: c OK FETCH done
            """,  # noqa: E501
        )

    def test_selected_mailbox_grows_first(self) -> None:
        client = self.selected()
        client.send(one("a") + one("b"))
        lines = client.lines()
        self.assertEqual([line.split("[")[0] for line in lines],
                         ["* 1 EXISTS", "a OK ", "* 2 EXISTS", "b OK "])  # fmt: skip
        self.assertEqual(client.ok("NOOP"), [])

    def test_other_session_is_told(self) -> None:
        other = self.selected()
        client = self.login()
        client.send(one("a"))
        self.assertEqual(
            other.ok("NOOP"), ["* 1 EXISTS", "* 1 FETCH (UID 1 FLAGS ())"]
        )

    def test_several_messages(self) -> None:
        client = self.login()
        validity = self.mailbox("Inbox").uidvalidity
        client.send(b"a APPEND Inbox {3+}\r\none (\\Flagged) ~{3+}\r\ntwo {5+}\r\nthree\r\n")
        self.assertEqual(client.lines(), [f"a OK [APPENDUID {validity} 1:3] APPEND done"])
        self.assertEqual(self.contents(), [b"one", b"two", b"three"])

    def test_all_or_none(self) -> None:
        client = self.login()
        client.send(b"a APPEND Inbox {3+}\r\none {0+}\r\n {3+}\r\ntwo\r\nb NOOP\r\n")
        self.assertEqual(
            client.lines(), ["a NO empty message, APPEND cancelled", "b OK NOOP done"]
        )
        client.send(b"a APPEND Inbox {3+}\r\none {0}\r\n")
        self.assertEqual(client.lines(), ["a NO empty message, APPEND cancelled"])
        self.assertEqual(self.contents(), [])

    def test_utf8_form(self) -> None:
        client = self.login()
        client.send(b"a APPEND Inbox UTF8 (~{3+}\r\none)\r\n")
        self.assertIn("a OK [APPENDUID", client.lines()[0])
        client.send(b"a APPEND Inbox UTF8 ({3+}\r\none)\r\n")
        self.assertEqual(client.lines()[0], "a BAD UTF8 goes with a binary literal, at position"
                                            " 21: {3+} (end)")  # fmt: skip

    def test_missing_mailbox(self) -> None:
        self.transcript(
            self.login(),
            """
            C: a APPEND nope {10}
            S: a NO [TRYCREATE] …
            C: b NOOP
            S: b OK NOOP done
            C: c APPEND "#x" {10}
            S: c NO [CANNOT] …
            """,
        )
        client = self.login()
        for size in (10, 100_000):
            client.send(one("a", "nope", b"x" * size) + b"b NOOP\r\n")
            lines = client.lines()
            self.assertEqual(lines, ["a NO [TRYCREATE] there is no such mailbox",
                                     "b OK NOOP done"])  # fmt: skip

    def test_mailbox_as_literal(self) -> None:
        client = self.login()
        client.send(b"a APPEND {5}\r\n")
        self.assertEqual(client.lines(), ["+ go on"])
        client.send(b"inbox {3}\r\n")
        self.assertEqual(client.lines(), ["+ go on"])
        client.send(b"one\r\n")
        self.assertIn("a OK [APPENDUID", client.lines()[0])

    def test_bad_arguments(self) -> None:
        for text in (
            "Inbox",
            "Inbox x",
            "Inbox (\\Nope) {3}",
            "Inbox (\\Seen {3}",
            'Inbox "yesterday" {3}',
            'Inbox "31-Feb-2020 00:00:00 +0000" {3}',
            "Inbox (\\Seen) (\\Seen) {3}",
            "Inbox {3",
            "Inbox {}",
            "Inbox {99999999999999999999}",
        ):
            client = self.login()
            client.send(f"a APPEND {text}\r\n".encode())
            [line] = client.lines()
            self.assertTrue(line.startswith("a BAD "), (text, line))
            self.assertFalse(client.closed)

    def test_bad_arguments_before_a_literal_that_follows_end_the_connection(self) -> None:
        client = self.login()
        client.send(b"a APPEND Inbox (\\Nope) {8+}\r\nb LOGOUT\r\n")
        self.assertEqual(
            client.lines(),
            ["a BAD unknown system flag, at position 21: ) {8+} (end)",
             "* BYE closing: cannot skip a literal after a bad command"],
        )  # fmt: skip
        self.assertTrue(client.closed)

    def test_large_message(self) -> None:
        data = b"Subject: big\r\n\r\n" + b"0123456789abcde\n" * 50_000
        client = self.login()
        wire = one("a", data=data) + b"b NOOP\r\n"
        for start in range(0, len(wire), 30_000):
            client.send(wire[start : start + 30_000])
        lines = client.lines()
        self.assertIn("a OK [APPENDUID", lines[0])
        self.assertEqual(lines[1:], ["b OK NOOP done"])
        self.assertEqual(self.contents(), [data])

    def test_lost_connection_leaves_nothing(self) -> None:
        client = self.login()
        client.send(b"a APPEND Inbox {100000+}\r\n" + b"x" * 90_000)
        client.transport.loseConnection()
        self.assertEqual(self.contents(), [])

    def test_disk_full(self) -> None:
        client = self.login()

        def full(*args: object, **kwargs: object) -> None:
            raise DiskFull("no space")

        self.patch(messages, "add", full)
        client.send(one("a") + b"b NOOP\r\n")
        self.assertEqual(
            client.lines(), ["a NO [UNAVAILABLE] no room left on the server", "b OK NOOP done"]
        )

    def test_disk_full_while_a_large_message_comes(self) -> None:
        for part in ("write", "finish"):

            def full(*args: object, **kwargs: object) -> Deferred[None]:
                return fail(DiskFull("no space"))

            client = self.login()
            with mock.patch.object(Spool, part, full):
                client.send(one("a", data=b"y: x\r\n\r\n" + b"y" * 300_000) + b"b NOOP\r\n")
                self.assertEqual(
                    client.lines(),
                    ["a NO [UNAVAILABLE] no room left on the server", "b OK NOOP done"],
                )
        self.assertEqual(self.contents(), [])

    def test_unforeseen_exception(self) -> None:
        def bug(*args: object, **kwargs: object) -> None:
            raise ZeroDivisionError

        self.patch(messages, "add", bug)
        client = self.login()
        client.send(one("a") + b"b NOOP\r\n")
        self.assertEqual(client.lines(), ["a NO [SERVERBUG] internal error", "b OK NOOP done"])


class PipelineTests(IMAPTestCase):
    """With a store whose commits come when the test says so."""

    def setUp(self) -> None:
        super().setUp()
        self.waiting: list[tuple[object, Deferred[object]]] = []
        self.hold = False
        write = self.store.write

        def held(fn: object) -> Deferred[object]:
            if not self.hold:
                return write(fn)  # type: ignore[arg-type]
            deferred: Deferred[object] = Deferred()
            self.waiting.append((fn, deferred))
            return deferred

        self.patch(self.store, "write", held)
        self.write = write

    def commit(self, index: int = 0) -> None:
        fn, deferred = self.waiting.pop(index)
        self.write(fn).chainDeferred(deferred)  # type: ignore[arg-type]

    def tags(self, client: Client) -> list[str]:
        return [line.split()[0] for line in client.lines()]

    def test_next_is_read_while_commits_wait_and_answers_keep_their_order(self) -> None:
        client = self.login()
        client.ok("NOOP")
        self.hold = True
        client.send(one("a") + one("b") + one("c") + b"d NOOP\r\n")
        self.assertEqual(len(self.waiting), 3)
        self.assertEqual(client.lines(), [])
        self.commit(1)
        self.assertEqual(client.lines(), [])
        self.commit(0)
        self.assertEqual(self.tags(client), ["a", "b"])
        self.commit()
        self.assertEqual(self.tags(client), ["c", "d"])

    def test_synchronising_literal_waits_for_answers(self) -> None:
        client = self.login()
        client.ok("NOOP")
        self.hold = True
        client.send(one("a") + b"b APPEND Inbox {3}\r\n")
        self.assertEqual(client.lines(), [])
        self.commit()
        self.assertEqual(self.tags(client), ["a", "+"])

    def test_bad_command_is_answered_in_order(self) -> None:
        client = self.login()
        client.ok("NOOP")
        self.hold = True
        client.send(one("a") + b"b NOPE\r\n" + b"c APPEND\r\n")
        self.assertEqual(client.lines(), [])
        self.commit()
        self.assertEqual(self.tags(client), ["a", "b", "c"])

    def test_number_under_way_is_bounded(self) -> None:
        self.patch(append, "_MAX_COMMANDS", 4)
        client = self.login()
        client.ok("NOOP")
        self.hold = True
        client.send(b"".join(one(str(number)) for number in range(10)))
        self.assertEqual(len(self.waiting), 4)
        self.commit()
        self.assertEqual(len(self.waiting), 4)
        while self.waiting:
            self.commit()
        self.assertEqual(self.tags(client), [str(number) for number in range(10)])

    def test_shutdown_answers_first(self) -> None:
        client = self.login()
        client.ok("NOOP")
        self.hold = True
        client.send(one("a"))
        self.factory.shutdown()
        self.assertEqual(client.lines(), [])
        self.commit()
        self.assertEqual(self.tags(client), ["a", "*"])
        self.assertTrue(client.closed)
