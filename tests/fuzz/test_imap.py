"""The IMAP server: the buffer of input, arguments of commands, whole sessions."""

from __future__ import annotations

import contextlib
import random
import zlib

from moxtw.imap import lexer, names
from moxtw.imap.commands import COMMANDS
from moxtw.imap.errors import Bad, IMAPError
from moxtw.imap.parser import NeedLiteral, Parser
from tests.fuzz.engine import FuzzCase
from tests.unit.imap.support import MAIL, IMAPTestCase

ARGUMENTS = [
    b'APPEND Inbox (\\Seen a) "17-Jul-1996 02:44:25 -0700" UTF8 (~{12+}',
    b"AUTHENTICATE PLAIN AGEAYg==",
    b"CREATE a/b (USE (\\Sent \\Drafts))",
    b"ENABLE CONDSTORE QRESYNC UTF8=ACCEPT",
    b"FETCH 1:*,3 (FLAGS BODY.PEEK[1.2.HEADER.FIELDS (A B)]<0.10> BINARY[1] PREVIEW (LAZY))",
    b"FETCH 1 ALL (CHANGEDSINCE 10 VANISHED)",
    b'ID ("name" "x" "version" NIL)',
    b'LIST (SUBSCRIBED) "" (% "a*") RETURN (CHILDREN STATUS (MESSAGES SIZE))',
    b"LOGIN {2+}",
    b'GETMETADATA (MAXSIZE 10 DEPTH infinity) "" (/private/a /shared/comment)',
    b'SETMETADATA Inbox (/private/a "x" /private/vendor/b/c NIL /shared/d ~{3+}',
    b"NOTIFY SET STATUS (SELECTED (MessageNew (UID BODY.PEEK[1]) MessageExpunge FlagChange))"
    b" (SUBTREE (Inbox a/b) (MailboxName SubscriptionChange)) (PERSONAL NONE)",
    b'LIST (SPECIAL-USE RECURSIVEMATCH) a (% b) RETURN (METADATA ("/private/a") SUBSCRIBED)',
    b"SEARCH RETURN (ALL COUNT SAVE) CHARSET UTF-8 OR (NOT SEEN) FROM x LARGER 10 $ UID 1:*",
    b'SEARCH HEADER a "b" SINCE 1-Feb-1994 KEYWORD x MODSEQ "/flags/\\\\Seen" all 5 1,2:4',
    b"SORT RETURN (UPDATE PARTIAL 1:9 SAVE) (REVERSE DATE DISPLAYFROM) UTF-8 OLDER 9 OR 1:* $",
    b'UID THREAD REFERENCES "us-ascii" UNSEEN NOT SUBJECT {3+}',
    b'CANCELUPDATE "t" "a\\"b"',
    b'SELECT "a&AOk-" (QRESYNC (1 2 3:4 (1,2 3,4)) CONDSTORE)',
    b"STATUS Inbox (MESSAGES UIDNEXT HIGHESTMODSEQ)",
    b"STORE 1:2 (UNCHANGEDSINCE 3) +FLAGS.SILENT (\\Seen $Junk)",
    b"UID FETCH $ FLAGS",
    b"UID EXPUNGE 1:3",
    b"MOVE 1 {5}",
    b"SETQUOTA a (STORAGE 10)",
]
TOKENS = [
    *(b"%s " % name for name in COMMANDS), b"{3}", b"{3+}", b"~{3+}", b"{99999999+}", b"1:*", b"*",
    b"$", b"NIL", b"(", b")", b"[", b"]", b"<1.2>", b'"', b"\\", b"\\Seen", b"&AOk-", b"UID ",
    b"RETURN (SAVE) ", b"NOT ", b"OR ", b"((((", b"4294967295", b"18446744073709551615",
]  # fmt: skip


class LexerTests(FuzzCase):
    def test_lines_and_pieces_come_out_as_they_went_in(self) -> None:
        def check(data: bytes) -> None:
            rng = random.Random(zlib.crc32(data))
            buffer = lexer.Lexer()
            got = bytearray()
            rest = data
            while rest:
                size = rng.choice((1, 2, 10, 100, 5000))
                buffer.feed(rest[:size])
                rest = rest[size:]
                while True:
                    if rng.random() < 0.3:
                        piece = buffer.take(rng.choice((1, 3, 50)))
                        got += piece
                        if not piece:
                            break
                        continue
                    before = len(buffer)
                    try:
                        line = buffer.line(300)
                    except lexer.LineTooLong as exc:
                        self.assertTrue(data.startswith(bytes(got) + exc.start))
                        return
                    if line is None:
                        break
                    self.assertNotIn(b"\n", line)
                    self.assertLessEqual(len(line), 300)
                    got += data[len(got) : len(got) + before - len(buffer)]
                    self.assertTrue(bytes(got).endswith((line + b"\r\n", line + b"\n")))
                self.assertEqual(len(got) + len(buffer), len(data) - len(rest))
            self.assertTrue(data.startswith(bytes(got)))

        self.fuzz(check, [b"a NOOP\r\nb X {3}\r\nabc\r\n", b"\r\n\n\r\r\n"], [b"\r\n", b"\n"])


class ParserTests(FuzzCase):
    def test_arguments_are_understood_or_refused(self) -> None:
        def check(line: bytes) -> None:
            line = line.replace(b"\n", b"")
            for utf8 in (False, True):
                p = Parser(line, utf8)
                try:
                    name = p.atom().upper()
                except Bad:
                    return
                command = COMMANDS.get(name)
                if command is None:
                    return
                with contextlib.suppress(IMAPError, NeedLiteral):
                    command.parse(p)

        self.fuzz(check, ARGUMENTS, TOKENS)

    def test_mailbox_names_have_one_spelling(self) -> None:
        def check(form: bytes) -> None:
            try:
                name = names.decode(form, False)
            except Bad:
                return
            if name.isprintable():
                self.assertEqual(names.encode(name, False), form)

        self.fuzz(check, [b"a&AOk-b/&2D3eAA-", b"&-"], [b"&", b"-", b"&AO", b"/"])


class SessionTests(IMAPTestCase, FuzzCase):
    def test_nothing_breaks_down(self) -> None:
        self.deliver(MAIL, count=2)
        number = 0

        def check(data: bytes) -> None:
            nonlocal number
            rng = random.Random(zlib.crc32(data))
            number += 1
            client = self.connect(f"192.0.2.{number % 250 + 1}")
            client.output()
            if rng.random() < 0.9:
                client.login()
                client.command("SELECT Inbox")
            while data and not client.closed:
                size = rng.randint(1, 2000)
                client.send(data[:size])
                data = data[size:]
                # A wrong password is waited for, slowly; commands give others their turn.
                self.clock.pump([0, 0, 0.1])
            self.assertEqual(self.flushLoggedErrors(), [])
            output = client.output()
            self.assertNotIn(b"SERVERBUG", output)
            self.assertNotIn(b"internal error", output)
            client.transport.loseConnection()

        examples = [
            b"".join(b"t %s\r\n" % line for line in lines)
            for lines in (
                [b"CREATE a", b"COPY 1:* a", b"SELECT a", b"STORE 1 +FLAGS (\\Deleted)", b"CLOSE"],
                [b"FETCH 1:* (FLAGS ENVELOPE BODYSTRUCTURE BODY[] BINARY[1])", b"IDLE\r\nDONE"],
                [b"SEARCH RETURN (SAVE) ALL", b"STORE $ FLAGS (x)", b"RENAME a b", b"DELETE b"],
                [b"SEARCH RETURN (UPDATE) 2:*", b"STORE 1 -FLAGS x", b"THREAD REFS UTF-8 ALL"],
                [
                    b"NOTIFY SET (SELECTED-DELAYED (MessageNew (BODY[]) MessageExpunge FlagChange))"
                    b" (PERSONAL (MessageNew MessageExpunge FlagChange MailboxName))",
                    b"STORE 1 +FLAGS (x \\Deleted)", b"CREATE a", b"COPY 1 Inbox", b"EXPUNGE",
                    b"NOTIFY NONE", b"DELETE a",
                ],
                [b'SETMETADATA a (/private/x "1")', b"LIST (SUBSCRIBED) a % RETURN (CHILDREN)"],
                [
                    b"SORT RETURN (UPDATE (UID)) (DATE) UTF-8 ALL", b"UID MOVE 1 a",
                    b'CANCELUPDATE "t"',
                ],
                [b"APPEND Inbox {14+}\r\nSubject: x\r\n\r\n", b'LIST "" *', b"EXPUNGE", b"LOGOUT"],
                [b"ENABLE QRESYNC", b"SELECT Inbox (QRESYNC (1 1))", b"UID FETCH 1:* UID"],
            )
        ]  # fmt: skip
        self.fuzz(check, [*examples, *(b"t " + line + b"\r\n" for line in ARGUMENTS)], TOKENS)
