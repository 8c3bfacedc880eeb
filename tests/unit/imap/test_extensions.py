r"""Small extensions, with the examples of their standards.

ID (RFC 2971), LITERAL+ (RFC 7888), MULTIAPPEND (RFC 3502), PREVIEW (RFC 8970), SAVEDATE
(RFC 8514), QUOTA with DELETED-STORAGE (RFC 9208), and what REPLACE (RFC 8508) tells clients
that know modseqs.
"""

from __future__ import annotations

import re

from tests.unit.imap.support import MAIL, IMAPTestCase


class IDTests(IMAPTestCase):
    def test_examples(self) -> None:
        """RFC 2971 3.1 and 3.2."""
        client = self.connect()
        client.output()
        self.transcript(
            client,
            """
            C: a023 ID ("name" "sodr" "version" "19.34" "vendor" "Pink Floyd Music Limited")
            S: * ID ("name" "moxtw")
            S: a023 OK ID done
            C: a042 ID NIL
            S: * ID ("name" "moxtw")
            S: a042 OK ID done
            """,
        )
        self.transcript(
            self.login(),
            """
            C: a ID ("Name" NIL)
            S: * ID ("name" "moxtw" "version" "1.2")
            S: a OK ID done
            C: b ID ()
            S: * ID (…)
            S: b OK ID done
            """,
        )

    def test_limits(self) -> None:
        client = self.login()
        pairs = [f'"k{n}" "v"' for n in range(31)]
        client.ok(f"ID ({' '.join(pairs[:30])})")
        for bad in (
            "", '"name"', '("name")', '("name" "a" "version")', '("name" "a" "NAME" "b")',
            '(name "a")', '("name" a)', '(NIL "a")', f'("{"k" * 31}" "v")',
            f'("name" "{"v" * 1025}")', f"({' '.join(pairs)})", '("a" "b"', '("a"  "b")',
        ):  # fmt: skip
            self.assertTrue(client.command(f"ID {bad}")[-1].startswith("t BAD"), bad)

    def test_literals(self) -> None:
        client = self.login()
        client.send(b'a ID ({4+}\r\nname {6+}\r\n"evil\x00)\r\nb NOOP\r\n')
        self.assertTrue(client.lines()[0].startswith("a BAD"))
        client = self.login()
        client.send(b"a ID ({4+}\r\nname {6+}\r\na\r\nb\"c)\r\n")
        self.assertEqual(client.lines()[-1], "a OK ID done")


class LiteralTests(IMAPTestCase):
    def test_examples(self) -> None:
        """RFC 7888 3: a login whose literals do not wait."""
        client = self.connect()
        client.output()
        client.send(b"A001 LOGIN {14+}\r\nme@example.org {15+}\r\nsecret password\r\n")
        self.assertTrue(client.lines()[0].startswith("A001 OK "))

    def test_refused_literal_is_not_asked_for(self) -> None:
        """RFC 7888 4, in its place a size that is too large."""
        client = self.login()
        self.transcript(
            client,
            """
            C: A044 BLURDYBLOOP {102856}
            S: A044 BAD unknown command…
            C: A045 CREATE {102401}
            S: A045 BAD [TOOBIG] …
            C: A046 NOOP
            S: A046 OK NOOP done
            """,
        )

    def test_around_4096(self) -> None:
        """What LITERAL- forbids (RFC 7888 5) is allowed with LITERAL+."""
        for size in (4096, 4097, 100 * 1024):
            client = self.login()
            client.send(b"a SEARCH\r\n")
            client.output()
            client.ok("SELECT Inbox")
            client.send(b"a SEARCH SUBJECT {%d+}\r\n%b\r\nb NOOP\r\n" % (size, b"x" * size))
            lines = client.lines()
            self.assertTrue(lines[-2].startswith(("a OK", "a NO")), lines)
            self.assertEqual(lines[-1], "b OK NOOP done")

    def test_literal_that_is_too_big_and_does_not_wait(self) -> None:
        client = self.login()
        client.send(b"a CREATE {200000+}\r\n" + b"b NOOP\r\n" * 25000)
        lines = client.lines()
        self.assertTrue(lines[0].startswith("* BYE [ALERT]"), lines)
        self.assertTrue(lines[1].startswith("a BAD [TOOBIG]"), lines)
        self.assertEqual(len(lines), 2)
        self.assertTrue(client.closed)

    def test_literals_in_the_wrong_state_are_no_commands(self) -> None:
        inside = b"b LOGIN me@example.org x\r\nc LOGOUT\r\n"
        for command in (b"SELECT", b"APPEND Inbox", b"SEARCH TEXT", b"STORE 1 FLAGS"):
            client = self.connect()
            client.output()
            client.send(b"a %b {%d+}\r\n%b\r\nd NOOP\r\n" % (command, len(inside), inside))
            lines = client.lines()
            self.assertTrue(lines[0].startswith("a NO "), lines)
            self.assertEqual(lines[1:], ["d OK NOOP done"])

    def test_several_literals_in_the_wrong_state(self) -> None:
        client = self.login()
        client.send(
            b"a LOGIN {8+}\r\nb LOGOUT {10+}\r\nc LOGOUT\r\n\r\nd UID REPLACE 1 Inbox {10+}\r\n"
            b"e LOGOUT\r\n\r\nf NOOP\r\n"
        )
        lines = client.lines()
        self.assertEqual([line[:4] for line in lines], ["a NO", "d NO", "f OK"])


class MultiAppendTests(IMAPTestCase):
    def test_example(self) -> None:
        """RFC 3502 6.3.11."""
        self.mailbox("saved-messages")
        client = self.login()
        first = b"Date: Mon, 7 Feb 1994 21:52:25 -0800 (PST)\r\nSubject: afternoon\r\n\r\nHello\r\n"
        second = b"Date: Mon, 7 Feb 1994 22:43:04 -0800 (PST)\r\nSubject: again\r\n\r\nHello\r\n"
        client.send(b"A003 APPEND saved-messages (\\Seen) {%d}\r\n" % len(first))
        self.assertEqual(client.lines(), ["+ go on"])
        client.send(
            first + b' (\\Seen) " 7-Feb-1994 22:43:04 -0800" {%d}\r\n' % len(second)
        )
        self.assertEqual(client.lines(), ["+ go on"])
        client.send(second + b"\r\n")
        [line] = client.lines()
        self.assertRegex(line, r"A003 OK \[APPENDUID \d+ 1:2\] ")
        client.ok("SELECT saved-messages")
        lines = client.ok("FETCH 1:2 (FLAGS INTERNALDATE BODY.PEEK[HEADER.FIELDS (Subject)])")
        self.assertEqual(" ".join(lines).count("FLAGS (\\Seen)"), 2)
        self.assertIn(' INTERNALDATE " 8-Feb-1994 06:43:04 +0000"', " ".join(lines))

    def test_cancelled_by_an_empty_message(self) -> None:
        """RFC 3502 3: a client changes its mind with a literal of no bytes."""
        client = self.login()
        client.ok("SELECT Inbox")
        size = len(MAIL)
        for wait in (b"", b"+"):
            client.send(b"a APPEND Inbox {%d+}\r\n%b (\\Seen) {0%b}\r\n" % (size, MAIL, wait))
            if wait:
                client.send(b"\r\n")
            lines = client.lines()
            self.assertTrue(lines[-1].startswith("a NO empty message"), lines)
        self.assertEqual(client.command("NOOP"), ["t OK NOOP done"])

    def test_binary_and_plain_messages(self) -> None:
        client = self.login()
        client.ok("SELECT Inbox")
        binary = b"Content-Transfer-Encoding: binary\r\n\r\n\0\1\2"
        client.send(
            b"a APPEND Inbox ~{%d+}\r\n%b {%d+}\r\n%b UTF8 (~{%d+}\r\n%b)\r\n"
            % (len(binary), binary, len(MAIL), MAIL, len(MAIL), MAIL)
        )
        self.assertRegex(client.lines()[-1], r"a OK \[APPENDUID \d+ 1:3\] ")
        client.send(b"a FETCH 1 BINARY.PEEK[1]\r\n")
        self.assertIn(b"BINARY[1] ~{3}\r\n\0\1\2)", client.output())


class PreviewTests(IMAPTestCase):
    def test_examples(self) -> None:
        """RFC 8970 3."""
        text = b"Just wanted to let you know this is a reminder.\r\n"
        self.deliver(b"Subject: x\r\n\r\n" + text)
        self.deliver(b"Subject: x\r\nContent-Type: image/x\r\n\r\nx\r\n")
        self.transcript(
            self.selected(),
            """
            C: A1 FETCH 1 (PREVIEW)
            S: * 1 FETCH (UID 1 PREVIEW "Just wanted to let you know this is a reminder.")
            S: A1 OK FETCH done
            C: B1 FETCH 2 (PREVIEW (LAZY))
            S: * 2 FETCH (UID 2 PREVIEW "")
            S: B1 OK FETCH done
            C: C1 FETCH 1 (PREVIEW (LAZY) FLAGS)
            S: * 1 FETCH (UID 1 PREVIEW "Just wanted…" FLAGS ())
            S: C1 OK FETCH done
            C: D1 FETCH 1 PREVIEW (LAZY)
            S: * 1 FETCH (UID 1 PREVIEW "Just wanted…")
            S: D1 OK FETCH done
            """,
        )

    def test_bad_modifiers(self) -> None:
        client = self.selected()
        self.deliver()
        client.ok("NOOP")
        for bad in ("PREVIEW (EAGER)", "(PREVIEW ())", "(PREVIEW (LAZY)", "(PREVIEW(LAZY))"):
            self.assertTrue(client.command(f"FETCH 1 {bad}")[-1].startswith("t BAD"), bad)

    def test_long_text_of_several_languages(self) -> None:
        self.deliver(
            b"Content-Type: text/plain; charset=utf-8\r\n\r\n" + "grüße ".encode() * 100 + b"\r\n"
        )
        client = self.selected()
        client.send(b"a FETCH 1 PREVIEW\r\n")
        match = re.search(rb"PREVIEW \{(\d+)\}\r\n", client.output())
        assert match is not None
        # RFC 8970 4: at most 200 characters (256 may be generated), of more bytes.
        self.assertGreater(int(match.group(1)), 200)
        client.ok("ENABLE UTF8=ACCEPT")
        [line] = client.ok("FETCH 1 PREVIEW")
        match2 = re.search(r'PREVIEW "(.*)"', line)
        assert match2 is not None
        self.assertLessEqual(len(match2.group(1)), 200)


class SaveDateTests(IMAPTestCase):
    def test_dates(self) -> None:
        """RFC 8514 4: when a message came into this mailbox, by whatever way."""
        self.mailbox("other")
        self.deliver(received=1_000_000_000_000_000)
        client = self.selected()
        [line] = client.ok("FETCH 1 (INTERNALDATE SAVEDATE)")
        self.assertRegex(line, r'INTERNALDATE " 9-Sep-2001 [^"]*" SAVEDATE "[^"]*"\)$')
        before = line.rpartition("SAVEDATE")[2]
        self.clock.advance(100)
        client.ok("COPY 1 other")
        client.ok("SELECT other")
        [line] = client.ok("FETCH 1 (INTERNALDATE SAVEDATE)")
        self.assertIn('INTERNALDATE " 9-Sep-2001', line)
        self.assertNotEqual(line.rpartition("SAVEDATE")[2], before)
        self.assertEqual(client.ok("SEARCH SAVEDATESUPPORTED"), ["* SEARCH 1"])
        self.assertEqual(client.ok("SEARCH SAVEDBEFORE 10-Sep-2001"), ["* SEARCH"])
        self.assertEqual(client.ok("SEARCH BEFORE 10-Sep-2001"), ["* SEARCH 1"])


class DeletedStorageTests(IMAPTestCase):
    def status(self, client: object, name: str) -> str:
        [line] = client.ok(f"STATUS {name} (MESSAGES DELETED DELETED-STORAGE SIZE)")  # type: ignore[attr-defined]
        return str(line.partition("(")[2].rstrip(")"))

    def test_whatever_happens(self) -> None:
        """RFC 9208 5.1: what an expunge would free, told truly all the time."""
        size = len(MAIL)
        self.mailbox("other")
        client = self.selected()
        self.deliver(count=4)

        def counts(name: str, messages: int, deleted: int) -> None:
            self.assertEqual(
                self.status(client, name),
                f"MESSAGES {messages} DELETED {deleted} DELETED-STORAGE {deleted * size}"
                f" SIZE {messages * size}",
            )

        client.ok("NOOP")
        counts("Inbox", 4, 0)
        client.ok(r"STORE 1:2 +FLAGS (\Deleted)")
        client.ok(r"STORE 2 +FLAGS.SILENT (\Deleted \Seen)")
        counts("Inbox", 4, 2)
        client.ok(r"STORE 1 FLAGS (\Seen)")
        counts("Inbox", 4, 1)
        client.ok("COPY 1:2 other")
        counts("other", 2, 1)
        client.ok("MOVE 2 other")
        counts("Inbox", 3, 0)
        counts("other", 3, 2)
        client.send(b"a APPEND other (\\Deleted) {%d+}\r\n%b\r\n" % (size, MAIL))
        client.output()
        counts("other", 4, 3)
        client.ok("SELECT other")
        client.send(b"a REPLACE 4 Inbox (\\Deleted) {%d+}\r\n%b\r\n" % (size, MAIL))
        self.assertIn(b"a OK", client.output())
        counts("other", 3, 2)
        counts("Inbox", 4, 1)
        client.ok("UID EXPUNGE 2")
        counts("other", 2, 1)
        client.ok("CLOSE")
        counts("other", 1, 0)
        client.ok("RENAME other third")
        counts("third", 1, 0)


class ReplaceTests(IMAPTestCase):
    def test_modseq_is_told(self) -> None:
        """RFC 7162 3.2.7, as after EXPUNGE: up to where the client knows all now."""
        self.deliver(count=2)
        client = self.selected(more=" (CONDSTORE)")
        client.send(b"a REPLACE 1 Inbox {%d+}\r\n%b\r\n" % (len(MAIL), MAIL))
        lines = client.lines()
        self.assertRegex(lines[0], r"\* OK \[APPENDUID \d+ 3\] ")
        self.assertEqual(lines[1], "* 3 EXISTS")
        self.assertIn("* 1 EXPUNGE", lines)
        modseq = self.mailbox("Inbox").modseq
        self.assertEqual(lines[-1], f"a OK [HIGHESTMODSEQ {modseq}] REPLACE done")
        [line] = client.ok("STATUS Inbox (HIGHESTMODSEQ)")
        self.assertIn(f"HIGHESTMODSEQ {modseq}", line)

    def test_vanished(self) -> None:
        self.deliver(count=2)
        client = self.login()
        client.ok("ENABLE QRESYNC")
        client.ok("SELECT Inbox")
        client.send(b"a UID REPLACE 2 Inbox {%d+}\r\n%b\r\n" % (len(MAIL), MAIL))
        lines = client.lines()
        self.assertIn("* VANISHED 2", lines)
        self.assertLess(lines.index("* 3 EXISTS"), lines.index("* VANISHED 2"))
        self.assertRegex(lines[-1], r"a OK \[HIGHESTMODSEQ \d+\] REPLACE done")
