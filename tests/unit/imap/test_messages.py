"""SELECT, FETCH, STORE, COPY, MOVE, EXPUNGE, SEARCH on messages."""

# ruff: noqa: E501

from __future__ import annotations

from unittest import mock

from twisted.internet.defer import Deferred, fail

from moxtw.imap.commands import flags, quota
from moxtw.store import accounts, longcopy, mailboxes, messages, verify
from moxtw.store.errors import StoreError
from tests.support.store import job, now
from tests.unit.imap.support import MAIL, IMAPTestCase

NESTED = (
    b"From: a@example.org\r\nSubject: outer\r\nMIME-Version: 1.0\r\n"
    b"Content-Type: multipart/mixed; boundary=x\r\n\r\n"
    b"preamble\r\n--x\r\n\r\nfirst\r\n"
    b"--x\r\nContent-Type: message/rfc822\r\n\r\nSubject: inner\r\nX-A: 1\r\n\r\ninner body\r\n"
    b"--x\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    b"AAECAw==\r\n"
    b"--x\r\nContent-Type: text/plain\r\nContent-Transfer-Encoding: uuencode\r\n\r\nx\r\n"
    b"--x--\r\n"
)


class SelectTests(IMAPTestCase):
    def test_select(self) -> None:
        self.deliver(count=2, flags=1)
        self.deliver(keywords=("custom",))
        self.transcript(
            self.login(),
            r"""
            C: a SELECT inbox
            S: * FLAGS (\Seen \Answered \Flagged \Deleted \Draft $Forwarded $Junk $NotJunk $Phishing $MDNSent custom)
            S: * OK [PERMANENTFLAGS (\Seen \Answered \Flagged \Deleted \Draft $Forwarded $Junk $NotJunk $Phishing $MDNSent custom \*)] …
            S: * 0 RECENT
            S: * 3 EXISTS
            S: * OK [UNSEEN 3] …
            S: * OK [UIDVALIDITY …] …
            S: * OK [UIDNEXT 4] …
            S: * OK [MAILBOXID (F1)] …
            S: a OK [READ-WRITE] done
            C: b EXAMINE Sent (CONDSTORE)
            S: * OK [CLOSED] …
            S: * FLAGS (…)
            S: * OK [PERMANENTFLAGS ()] …
            S: * 0 RECENT
            S: * 0 EXISTS
            S: * OK [UIDVALIDITY …] …
            S: * OK [UIDNEXT 1] …
            S: * OK [MAILBOXID (F…)] …
            S: * OK [HIGHESTMODSEQ …] …
            S: b OK [READ-ONLY] done
            C: c SELECT nope
            S: * OK [CLOSED] …
            S: c NO [NONEXISTENT] …
            C: d FETCH 1 UID
            S: d NO FETCH is not possible in this state
            """,
        )

    def test_select_in_rev2_has_neither_recent_nor_unseen(self) -> None:
        self.deliver()
        client = self.login()
        client.ok("ENABLE IMAP4rev2")
        lines = " ".join(client.ok("SELECT Inbox"))
        self.assertNotIn("RECENT", lines)
        self.assertNotIn("UNSEEN", lines)
        self.assertIn('* LIST () "/" Inbox', lines)

    def test_unselect_keeps_and_close_expunges(self) -> None:
        self.deliver(flags=64)
        self.deliver()
        client = self.selected()
        client.ok("UNSELECT")
        self.assertEqual(
            client.ok("STATUS Inbox (MESSAGES)"), ["* STATUS Inbox (MESSAGES 2)"]
        )
        client.ok("EXAMINE Inbox")
        client.ok("CLOSE")
        self.assertEqual(
            client.ok("STATUS Inbox (MESSAGES)"), ["* STATUS Inbox (MESSAGES 2)"]
        )
        client.ok("SELECT Inbox")
        self.assertEqual(client.ok("CLOSE"), [])
        self.assertEqual(
            client.ok("STATUS Inbox (MESSAGES)"), ["* STATUS Inbox (MESSAGES 1)"]
        )

    def test_readonly(self) -> None:
        self.deliver()
        client = self.login()
        client.ok("EXAMINE Inbox")
        self.transcript(
            client,
            r"""
            C: a STORE 1 +FLAGS (\Seen)
            S: a NO [NOPERM] …
            C: b EXPUNGE
            S: b NO [NOPERM] …
            C: c MOVE 1 Trash
            S: c NO [NOPERM] …
            C: d FETCH 1 BODY[TEXT]
            S: * 1 FETCH (UID 1 BODY[TEXT] {6}
            S: body
            S: )
            S: d OK FETCH done
            C: e FETCH 1 FLAGS
            S: * 1 FETCH (UID 1 FLAGS ())
            S: e OK FETCH done
            C: f COPY 1 Trash
            S: f OK [COPYUID …] COPY done
            """,
        )


class FetchTests(IMAPTestCase):
    def test_columns(self) -> None:
        self.deliver(flags=3, keywords=("b", "a"), received=1_700_000_000_000_000)
        client = self.selected()
        self.assertEqual(
            client.ok("FETCH 1 ALL"),
            [
                '* 1 FETCH (UID 1 FLAGS (\\Seen \\Answered a b) INTERNALDATE'
                ' "14-Nov-2023 22:13:20 +0000" RFC822.SIZE 70 ENVELOPE (NIL "hi"'
                ' (("Joe" NIL "joe" "example.org")) (("Joe" NIL "joe" "example.org"))'
                ' (("Joe" NIL "joe" "example.org")) ((NIL NIL "me" "example.org")) NIL NIL NIL NIL))'
            ],
        )
        self.assertEqual(
            client.ok("FETCH 1 (RFC822.SIZE BODY BODYSTRUCTURE)"),
            [
                '* 1 FETCH (UID 1 RFC822.SIZE 70 BODY ("TEXT" "PLAIN" ("CHARSET" "us-ascii") NIL NIL'
                ' "7BIT" 6 1) BODYSTRUCTURE ("TEXT" "PLAIN" ("CHARSET" "us-ascii") NIL NIL "7BIT" 6 1'
                " NIL NIL NIL NIL))"
            ],
        )
        [line] = client.ok("FETCH 1 (PREVIEW (LAZY) SAVEDATE UID)")
        self.assertTrue(line.startswith('* 1 FETCH (UID 1 PREVIEW "body" SAVEDATE "'), line)

    def test_sets(self) -> None:
        self.deliver(count=4)
        client = self.selected()
        client.ok("UID STORE 2 +FLAGS.SILENT (\\Deleted)")
        client.ok("EXPUNGE")

        def uids(numbers: str) -> list[str]:
            words = [line.split() for line in client.ok(numbers)]
            return [word[1] + ":" + word[4].rstrip(")") for word in words]

        self.assertEqual(uids("FETCH 1:* UID"), ["1:1", "2:3", "3:4"])
        self.assertEqual(uids("FETCH 3,1 UID"), ["1:1", "3:4"])
        self.assertEqual(uids("FETCH * UID"), ["3:4"])
        self.assertEqual(uids("FETCH 3:1,2 UID"), ["1:1", "2:3", "3:4"])
        self.assertEqual(uids("UID FETCH 2:3 UID"), ["2:3"])
        self.assertEqual(uids("UID FETCH 10:* UID"), ["3:4"])
        self.assertEqual(uids("UID FETCH 2 UID"), [])
        self.transcript(
            client,
            """
            C: a FETCH 4 UID
            S: a BAD no message has this sequence number…
            C: b FETCH 0 UID
            S: b BAD sequence set expected…
            C: c UID FETCH 4294967296 UID
            S: c BAD …
            C: d FETCH 1:2,,3 UID
            S: d BAD …
            C: e SELECT Sent
            S: …
            S: …
            S: …
            S: …
            S: …
            S: …
            S: …
            S: …
            S: e OK [READ-WRITE] done
            C: f FETCH * UID
            S: f BAD …
            C: g UID FETCH 1:* FLAGS
            S: g OK FETCH done
            """,
        )

    def test_sections(self) -> None:
        self.deliver(NESTED)
        client = self.selected()

        def section(name: str) -> bytes | None:
            client.send(f"t UID FETCH 1 (BODY.PEEK[{name}])\r\n".encode())
            data = client.output()
            label = f"* 1 FETCH (UID 1 BODY[{name}] ".encode()
            self.assertTrue(data.startswith(label), data)
            rest = data[len(label) :]
            if rest.startswith(b"NIL)\r\n"):
                return None
            size, _, rest = rest[1:].partition(b"}\r\n")
            value = rest[: int(size)]
            self.assertEqual(rest[int(size) :], b")\r\nt OK FETCH done\r\n")
            return value

        self.assertEqual(section(""), NESTED)
        header, _, text = NESTED.partition(b"\r\n\r\n")
        self.assertEqual(section("HEADER"), header + b"\r\n\r\n")
        self.assertEqual(section("TEXT"), text)
        self.assertEqual(
            section("HEADER.FIELDS (SUBJECT X-None)"), b"Subject: outer\r\n\r\n"
        )
        self.assertEqual(
            section("HEADER.FIELDS.NOT (Subject MIME-Version Content-Type)"),
            b"From: a@example.org\r\n\r\n",
        )
        self.assertEqual(section("1"), b"first")
        self.assertEqual(section("1.MIME"), b"\r\n")
        self.assertEqual(section("2.MIME"), b"Content-Type: message/rfc822\r\n\r\n")
        self.assertEqual(section("2.HEADER"), b"Subject: inner\r\nX-A: 1\r\n\r\n")
        self.assertEqual(section("2.TEXT"), b"inner body")
        self.assertEqual(section("2.1"), b"inner body")
        self.assertEqual(section("2.HEADER.FIELDS (X-A)"), b"X-A: 1\r\n\r\n")
        self.assertIsNone(section("9"))
        self.assertIsNone(section("1.HEADER"))

    def test_partial(self) -> None:
        self.deliver(prefix=b"Received: here\r\n")
        client = self.selected()
        self.transcript(
            client,
            """
            C: a UID FETCH 1 BODY.PEEK[]<10.8>
            S: * 1 FETCH (UID 1 BODY[]<10> {8}
            S: here
            S: Fr)
            S: a OK FETCH done
            C: b UID FETCH 1 BODY.PEEK[TEXT]<4.100>
            S: * 1 FETCH (UID 1 BODY[TEXT]<4> {2}
            S:
            S: )
            S: b OK FETCH done
            C: c UID FETCH 1 BODY.PEEK[TEXT]<100.1>
            S: * 1 FETCH (UID 1 BODY[TEXT]<100> {0}
            S: )
            S: c OK FETCH done
            C: d UID FETCH 1 BODY.PEEK[HEADER.FIELDS (Subject)]<0.7>
            S: * 1 FETCH (UID 1 BODY[HEADER.FIELDS (Subject)]<0> {7}
            S: Subject)
            S: d OK FETCH done
            C: e UID FETCH 1 BODY.PEEK[]<1.0>
            S: e BAD …
            """,
        )

    def test_prefix_is_part_of_the_message(self) -> None:
        self.deliver(prefix=b"Received: here\r\n")
        client = self.selected()
        client.send(b"a FETCH 1 (RFC822.SIZE RFC822.HEADER RFC822)\r\n")
        whole = b"Received: here\r\n" + MAIL
        header = whole[: whole.index(b"\r\n\r\n") + 4]
        self.assertEqual(
            client.output(),
            b"* 1 FETCH (UID 1 RFC822.SIZE %d FLAGS (\\Seen)"
            b" RFC822.HEADER {%d}\r\n%b RFC822 {%d}\r\n%b)\r\n"
            b"a OK FETCH done\r\n" % (len(whole), len(header), header, len(whole), whole),
        )

    def test_seen(self) -> None:
        self.deliver(count=2)
        client = self.selected()
        client.ok("FETCH 1 BODY.PEEK[]")
        client.ok("FETCH 1 RFC822.HEADER")
        self.assertEqual(client.ok("NOOP"), [])
        # RFC 9051 6.4.5: the flags that the command changed are in its responses.
        self.assertEqual(
            client.ok("FETCH 1 (FLAGS BODY[TEXT])")[0],
            "* 1 FETCH (UID 1 FLAGS (\\Seen) BODY[TEXT] {6}",
        )
        self.assertEqual(client.ok("NOOP"), [])
        lines = client.ok("UID FETCH 1:2 RFC822.TEXT")
        self.assertEqual(lines[0], "* 1 FETCH (UID 1 RFC822.TEXT {6}")
        self.assertEqual(lines[3], "* 2 FETCH (UID 2 FLAGS (\\Seen) RFC822.TEXT {6}")
        self.assertEqual(client.ok("NOOP"), [])

    def test_seen_changes_nothing_when_all_are_seen(self) -> None:
        self.deliver(count=2, flags=1)
        client = self.selected()
        before = self.mailbox("Inbox").modseq
        with mock.patch.object(self.store, "write") as write:
            client.ok("FETCH 1:2 BODY[]")
        self.assertEqual(write.call_count, 0)
        self.assertEqual(self.mailbox("Inbox").modseq, before)

    def test_seen_with_condstore_tells_the_modseq(self) -> None:
        self.deliver()
        client = self.selected(more=" (CONDSTORE)")
        line = client.ok("FETCH 1 BODY[TEXT]")[0]
        modseq = self.mailbox("Inbox").modseq
        self.assertEqual(
            line, f"* 1 FETCH (UID 1 FLAGS (\\Seen) MODSEQ ({modseq}) BODY[TEXT] {{6}}"
        )

    def test_seen_beside_flags_that_others_set(self) -> None:
        self.deliver()
        one, two = self.selected(), self.selected()
        one.ok("STORE 1 +FLAGS (\\Flagged)")
        self.assertEqual(
            two.ok("FETCH 1 BODY[TEXT]")[0],
            "* 1 FETCH (UID 1 FLAGS (\\Seen \\Flagged) BODY[TEXT] {6}",
        )
        self.assertEqual(two.ok("NOOP"), [])
        self.assertEqual(one.ok("NOOP"), ["* 1 FETCH (UID 1 FLAGS (\\Seen \\Flagged))"])

    def test_seen_of_an_expunged_message(self) -> None:
        self.deliver(count=2)
        one, two = self.selected(), self.selected()
        one.ok("STORE 1 +FLAGS.SILENT (\\Deleted)")
        one.ok("EXPUNGE")
        lines = two.command("FETCH 1:2 BODY[TEXT]")
        self.assertEqual(lines[0], "* 1 FETCH (UID 1 BODY[TEXT] {6}")
        self.assertEqual(lines[3], "* 2 FETCH (UID 2 FLAGS (\\Seen) BODY[TEXT] {6}")
        self.assertTrue(lines[-1].startswith("t OK [EXPUNGEISSUED]"))

    def test_binary(self) -> None:
        self.deliver(NESTED)
        client = self.selected()
        client.send(b"a UID FETCH 1 (BINARY.PEEK[3] BINARY.SIZE[3] BINARY.PEEK[3]<1.2>)\r\n")
        self.assertEqual(
            client.output(),
            b"* 1 FETCH (UID 1 BINARY[3] ~{4}\r\n\x00\x01\x02\x03 BINARY.SIZE[3] 4"
            b" BINARY[3]<1> {2}\r\n\x01\x02)\r\na OK FETCH done\r\n",
        )
        self.transcript(
            client,
            """
            C: a FETCH 1 BINARY.PEEK[4]
            S: a NO [UNKNOWN-CTE] …
            """,
        )

    def test_nul_in_a_message(self) -> None:
        # A literal has none (RFC 9051 section 9), a literal8 may.
        for padding in (b"", b"x" * 300_000):
            mail = b"Subject: x\r\n\r\na\0b" + padding
            self.deliver(mail)
            client = self.selected()
            size = len(mail)
            client.send(b"a FETCH * BODY.PEEK[]\r\n")
            self.assertIn(b" BODY[] {%d}\r\n" % size, data := client.output())
            self.assertIn(b"\r\n\r\na\x80b", data)
            client.send(b"a FETCH * BINARY.PEEK[]\r\n")
            self.assertIn(b" BINARY[] ~{%d}\r\n%b" % (size, mail), client.output())

    def test_large_message_is_streamed(self) -> None:
        import base64

        data = bytes(range(256)) * 4000
        encoded = base64.encodebytes(data).replace(b"\n", b"\r\n")
        mail = b"Subject: x\r\nContent-Transfer-Encoding: base64\r\n\r\n" + encoded
        self.deliver(mail)
        client = self.selected()
        client.send(b"a FETCH 1 BODY.PEEK[]\r\n")
        self.assertEqual(
            client.output(),
            b"* 1 FETCH (UID 1 BODY[] {%d}\r\n%b)\r\na OK FETCH done\r\n" % (len(mail), mail),
        )
        client.send(b"a FETCH 1 BINARY.PEEK[1]<1000.500000>\r\n")
        self.assertEqual(
            client.output(),
            b"* 1 FETCH (UID 1 BINARY[1]<1000> ~{500000}\r\n%b)\r\na OK FETCH done\r\n"
            % data[1000:501000],
        )
        client.send(b"a FETCH 1 BINARY.SIZE[1]\r\n")
        self.assertEqual(
            client.output(), b"* 1 FETCH (UID 1 BINARY.SIZE[1] 1024000)\r\na OK FETCH done\r\n"
        )

    def test_expunged_by_another_session_stays_readable(self) -> None:
        self.deliver(count=3)
        one, two = self.selected(), self.selected()
        two.ok("STORE 2 +FLAGS.SILENT (\\Deleted)")
        two.ok("EXPUNGE")
        self.clock.advance(1)
        self.transcript(
            one,
            r"""
            C: a FETCH 1:3 (BODY.PEEK[TEXT]<0.4>)
            S: * 1 FETCH (UID 1 BODY[TEXT]<0> {4}
            S: body)
            S: * 2 FETCH (UID 2 BODY[TEXT]<0> {4}
            S: body)
            S: * 3 FETCH (UID 3 BODY[TEXT]<0> {4}
            S: body)
            S: a OK [EXPUNGEISSUED] …
            C: b FETCH 2:3 FLAGS
            S: * 2 FETCH (UID 2 FLAGS (\Deleted))
            S: * 3 FETCH (UID 3 FLAGS ())
            S: b OK [EXPUNGEISSUED] …
            C: c NOOP
            S: * 2 EXPUNGE
            S: c OK NOOP done
            """,
        )
        self.clock.advance(1)
        self.assertEqual(one.ok("UID FETCH 2 BODY[]"), [])

    def test_bad_items(self) -> None:
        self.deliver()
        self.transcript(
            self.selected(),
            """
            C: a FETCH 1 NOPE
            S: a BAD unknown FETCH item…
            C: b FETCH 1 ()
            S: b BAD …
            C: c FETCH 1 (FLAGS
            S: c BAD …
            C: d FETCH 1 BODY[
            S: d BAD …
            C: e FETCH 1 BODY[HEADER.FIELDS ()]
            S: e BAD …
            C: f FETCH 1 BODY[MIME]
            S: f BAD …
            C: g FETCH 1 BODY[0]
            S: g BAD …
            C: h FETCH 1 (FLAGS) (VANISHED)
            S: h BAD …
            C: i FETCH 1 ALLX
            S: i BAD …
            C: j FETCH
            S: j BAD …
            C: k FETCH 1
            S: k BAD …
            """,
        )


class StoreTests(IMAPTestCase):
    def test_store(self) -> None:
        self.deliver(count=3)
        self.transcript(
            self.selected(),
            r"""
            C: a STORE 1:2 +FLAGS (\Seen \Flagged)
            S: * 1 FETCH (UID 1 FLAGS (\Seen \Flagged))
            S: * 2 FETCH (UID 2 FLAGS (\Seen \Flagged))
            S: a OK STORE done
            C: b STORE 2 -FLAGS \Seen
            S: * 2 FETCH (UID 2 FLAGS (\Flagged))
            S: b OK STORE done
            C: c UID STORE 3 FLAGS (Foo $forwarded)
            S: * FLAGS (… foo)
            S: * 3 FETCH (UID 3 FLAGS ($Forwarded foo))
            S: c OK STORE done
            C: d STORE 1 +FLAGS.SILENT (\Answered)
            S: d OK STORE done
            C: e STORE 1 +FLAGS (\Answered)
            S: * 1 FETCH (UID 1 FLAGS (\Seen \Answered \Flagged))
            S: e OK STORE done
            C: f STORE 1 FLAGS ()
            S: * 1 FETCH (UID 1 FLAGS ())
            S: f OK STORE done
            C: g STORE 1 +FLAGS (\Recent)
            S: g BAD unknown system flag…
            C: h STORE 1 ~FLAGS (\Seen)
            S: h BAD …
            C: i NOOP
            S: i OK NOOP done
            """,
        )

    def test_condstore(self) -> None:
        self.deliver(count=2)
        client = self.selected()
        [line] = client.ok("UID FETCH 1 MODSEQ")[1:]
        modseq = int(line.split("(")[-1].rstrip(")"))
        self.transcript(
            client,
            rf"""
            C: a STORE 1 (UNCHANGEDSINCE {modseq}) +FLAGS (\Seen)
            S: * 1 FETCH (UID 1 FLAGS (\Seen) MODSEQ ({modseq + 2}))
            S: a OK STORE done
            C: b STORE 1:2 (UNCHANGEDSINCE {modseq + 1}) +FLAGS.SILENT (\Flagged)
            S: * 2 FETCH (UID 2 MODSEQ ({modseq + 3}))
            S: b OK [MODIFIED 1] …
            C: c UID STORE 1:2 (UNCHANGEDSINCE 0) +FLAGS.SILENT (\Flagged)
            S: c OK [MODIFIED 1:2] …
            C: d FETCH 1:* (FLAGS) (CHANGEDSINCE {modseq + 2})
            S: * 2 FETCH (UID 2 FLAGS (\Flagged) MODSEQ ({modseq + 3}))
            S: d OK FETCH done
            C: e SEARCH MODSEQ {modseq + 2}
            S: * SEARCH 1 2 (MODSEQ {modseq + 3})
            S: e OK SEARCH done
            C: f SEARCH MODSEQ "/flags/\\seen" all {modseq + 3}
            S: * SEARCH 2 (MODSEQ {modseq + 3})
            S: f OK SEARCH done
            """,
        )

    def test_condstore_becomes_active_by_use(self) -> None:
        self.deliver()
        for command in ("FETCH 1 MODSEQ", "STORE 1 (UNCHANGEDSINCE 1) FLAGS ()",
                        "FETCH 1 FLAGS (CHANGEDSINCE 1)", "ENABLE CONDSTORE"):  # fmt: skip
            lines = self.selected().ok(command)
            self.assertTrue(any("[HIGHESTMODSEQ " in line for line in lines), (command, lines))
        client = self.selected()
        client.ok("STATUS Inbox (HIGHESTMODSEQ)")
        self.assertIn("MODSEQ", client.ok("STORE 1 +FLAGS (\\Seen)")[0])


class CopyTests(IMAPTestCase):
    def test_copy(self) -> None:
        self.deliver(count=3, flags=1, keywords=("k",))
        client = self.selected()
        validity = self.mailbox("Trash").uidvalidity
        self.transcript(
            client,
            f"""
            C: a COPY 1,3 Trash
            S: a OK [COPYUID {validity} 1,3 1:2] COPY done
            C: b UID COPY 2 Trash
            S: b OK [COPYUID {validity} 2 3] COPY done
            C: c COPY 1 nope
            S: c NO [TRYCREATE] …
            C: d COPY 1 Inbox
            S: d NO [CANNOT] …
            C: e UID COPY 77 Trash
            S: e NO no messages match
            C: f SELECT Trash
            S: …
            S: …
            S: …
            S: …
            S: * 3 EXISTS
            S: …
            S: …
            S: …
            S: f OK [READ-WRITE] done
            C: g FETCH 2 (FLAGS BODY.PEEK[TEXT])
            S: * 2 FETCH (UID 2 FLAGS (\\Seen k) BODY[TEXT] {{6}}
            S: body
            S: )
            S: g OK FETCH done
            """,
        )

    def test_move(self) -> None:
        self.deliver(count=3)
        client = self.selected()
        validity = self.mailbox("Trash").uidvalidity
        self.transcript(
            client,
            f"""
            C: a MOVE 1:2 Trash
            S: * OK [COPYUID {validity} 1:2 1:2] moved
            S: * 2 EXPUNGE
            S: * 1 EXPUNGE
            S: a OK MOVE done
            C: b FETCH 1:* UID
            S: * 1 FETCH (UID 3)
            S: b OK FETCH done
            C: c ENABLE QRESYNC
            S: * OK [HIGHESTMODSEQ …] …
            S: * ENABLED QRESYNC CONDSTORE
            S: c OK ENABLE done
            C: d UID MOVE 3 Trash
            S: * OK [COPYUID {validity} 3 3] moved
            S: * VANISHED 3
            S: d OK [HIGHESTMODSEQ …] MOVE done
            """,
        )

    def test_expunge(self) -> None:
        self.deliver(count=5)
        client = self.selected()
        client.ok("STORE 1,3,5 +FLAGS.SILENT (\\Deleted)")
        self.transcript(
            client,
            """
            C: a UID EXPUNGE 3:4
            S: * 3 EXPUNGE
            S: a OK EXPUNGE done
            C: b EXPUNGE
            S: * 4 EXPUNGE
            S: * 1 EXPUNGE
            S: b OK EXPUNGE done
            C: c EXPUNGE
            S: c OK EXPUNGE done
            C: d FETCH 1:* UID
            S: * 1 FETCH (UID 2)
            S: * 2 FETCH (UID 4)
            S: d OK FETCH done
            C: e ENABLE CONDSTORE
            S: * OK [HIGHESTMODSEQ …] …
            S: * ENABLED CONDSTORE
            S: e OK ENABLE done
            C: f STORE 1 +FLAGS.SILENT (\\Deleted)
            S: * 1 FETCH (UID 2 MODSEQ (…))
            S: f OK STORE done
            C: g EXPUNGE
            S: * 1 EXPUNGE
            S: g OK [HIGHESTMODSEQ …] EXPUNGE done
            """,
        )

    def test_many_messages_in_few_transactions(self) -> None:
        # A message here and there, more than one job takes, and none of them a job of its own.
        self.deliver(count=50)
        self.patch(flags, "_BATCH", 10)
        self.patch(flags, "_FLAGS_BATCH", 10)
        client = self.selected("Inbox")
        jobs: list[object] = []
        write = self.store.write

        def counted(fn: object) -> object:
            jobs.append(fn)
            return write(fn)  # type: ignore[arg-type]

        self.patch(self.store, "write", counted)
        odd = ",".join(str(number) for number in range(1, 51, 2))
        client.ok(f"STORE {odd} +FLAGS.SILENT (\\Deleted)")
        self.assertEqual(len(jobs), 3)
        jobs.clear()
        lines = client.ok(f"MOVE {odd} Archive")
        self.assertEqual(len(jobs), 3)
        self.assertRegex(lines[0], rf"^\* OK \[COPYUID \d+ {odd} 1:25\]")
        self.assertEqual(len(lines), 26)
        self.assertEqual(lines[1], "* 49 EXPUNGE")
        self.assertEqual(client.ok("NOOP"), [])
        client.ok("STORE 1:25 +FLAGS.SILENT (\\Deleted)")
        jobs.clear()
        self.assertEqual(len(client.ok("EXPUNGE")), 25)
        self.assertEqual(len(jobs), 3)
        client.ok("SELECT Archive")
        jobs.clear()
        client.ok("CLOSE")
        self.assertEqual(len(jobs), 3)
        self.assertEqual(now(Deferred.fromCoroutine(verify.verify_all(self.store))), [])

    def test_what_was_moved_before_a_failure_is_told(self) -> None:
        self.deliver(count=3)
        self.patch(flags, "_BATCH", 2)
        client = self.selected()
        self.failing(2)
        lines = client.command("MOVE 1:3 Archive")
        self.assertRegex(lines[0], r"^\* OK \[COPYUID \d+ 1:2 1:2\]")
        self.assertEqual(lines[1:3], ["* 2 EXPUNGE", "* 1 EXPUNGE"])
        self.assertTrue(lines[3].startswith("t NO"))

    def held(self, name: str) -> int:
        """How many messages a mailbox has."""
        find = mailboxes.named
        return now(self.store.read(lambda tx: find(tx, self.account.id, name).messages))

    def failing(self, *which: int) -> None:
        """Let these jobs fail, counted from 1."""
        write = self.store.write
        jobs: list[object] = []

        def some_fail(fn: object) -> object:
            jobs.append(fn)
            if len(jobs) in which:
                return fail(StoreError("no"))
            return write(fn)  # type: ignore[arg-type]

        self.patch(self.store, "write", some_fail)

    def test_copies_of_many_are_in_parts(self) -> None:
        self.deliver(count=5)
        self.patch(flags, "_BATCH", 2)
        client = self.selected()
        [line] = client.command("COPY 1,3:5 Archive")
        self.assertRegex(line, r"OK \[COPYUID \d+ 1,3:5 1:4\] COPY done$")
        self.assertEqual(self.held("Archive"), 4)
        # What is complete cannot be taken back.
        self.assertEqual(now(self.store.write(longcopy.undo_all)), 0)
        self.assertEqual(self.held("Archive"), 4)
        self.assertEqual(client.command("COPY 1:5 Inbox")[-1][:4], "t NO")

    def test_a_failed_copy_leaves_nothing(self) -> None:
        self.deliver(count=5)
        self.patch(flags, "_BATCH", 2)
        client = self.selected()
        self.failing(3)
        self.assertTrue(client.command("COPY 1:5 Archive")[-1].startswith("t NO"))
        self.assertEqual(self.held("Archive"), 0)
        self.assertEqual(now(Deferred.fromCoroutine(verify.verify_all(self.store))), [])

    def test_an_interrupted_copy_is_taken_back_at_the_start(self) -> None:
        self.deliver(count=5)
        self.patch(flags, "_BATCH", 2)
        client = self.selected()
        # The third part, and taking back the two before.
        self.failing(3, 4)
        self.assertTrue(client.command("COPY 1:5 Archive")[-1].startswith("t NO"))
        self.assertEqual(self.held("Archive"), 4)
        self.assertEqual(now(self.store.write(longcopy.undo_all)), 2)
        self.assertEqual(self.held("Archive"), 0)
        self.assertEqual(now(self.store.write(longcopy.undo_all)), 0)

    def test_a_copy_beyond_the_quota_leaves_nothing(self) -> None:
        self.deliver(count=5)
        self.patch(flags, "_BATCH", 2)
        client = self.selected()
        used = now(self.store.read(lambda tx: accounts.usage(tx, self.account.id)))
        self.patch(quota, "limit", lambda conn: used * 9 // 5)
        self.assertRegex(client.command("COPY 1:5 Archive")[-1], r"^t NO \[OVERQUOTA\]")
        self.assertEqual(self.held("Archive"), 0)

    def test_expunge_only_of_what_the_client_knows(self) -> None:
        self.deliver()
        client = self.selected()
        self.deliver(flags=64)
        client.send(b"a EXPUNGE\r\n")
        self.assertEqual(
            client.lines(),
            ["* 2 EXISTS", "* 2 FETCH (UID 2 FLAGS (\\Deleted))", "a OK EXPUNGE done"],
        )


class SearchTests(IMAPTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.deliver(
            b"From: Ann <ann@example.org>\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n"
            b"Date: Mon, 1 Jan 2024 23:30:00 -0500\r\n\r\nhello world\r\n",
            flags=1,
            received=1_704_153_600_000_000,  # 2 January 2024 UTC
        )
        self.deliver(MAIL, flags=4, keywords=("todo",), received=1_704_067_199_000_000)
        self.deliver(MAIL + b"x" * 1000, flags=64 | 8)
        self.client = self.selected()

    def found(self, keys: str) -> str:
        [line] = self.client.ok("SEARCH " + keys)
        return line.removeprefix("* SEARCH").strip()

    def test_keys(self) -> None:
        cases = {
            "ALL": "1 2 3",
            "SEEN": "1",
            "UNSEEN": "2 3",
            "NEW": "",
            "RECENT": "",
            "OLD": "1 2 3",
            "FLAGGED": "2",
            "NOT FLAGGED": "1 3",
            "OR SEEN FLAGGED": "1 2",
            "(SEEN)": "1",
            "(OR (SEEN) (FLAGGED)) UNSEEN": "2",
            "KEYWORD todo": "2",
            "UNKEYWORD TODO": "1 3",
            "KEYWORD $Forwarded": "3",
            "DELETED": "3",
            "UNDELETED": "1 2",
            "LARGER 500": "3",
            "SMALLER 500": "1 2",
            "2:3": "2 3",
            "UID 3": "3",
            "UID 7:*": "3",
            "*": "3",
            "1,3 UNDELETED": "1",
            "FROM ann": "1",
            "FROM JOE": "2 3",
            "TO me@": "2 3",
            "CC x": "",
            "BCC x": "",
            "SUBJECT hi": "2 3",
            'HEADER Subject ""': "1 2 3",
            "HEADER X-None x": "",
            "BODY WORLD": "1",
            "TEXT joe": "2 3",
            'TEXT "grüsse"': "1",
            'SUBJECT "Grüße"': "1",
            "BEFORE 1-Jan-2024": "2",
            "ON 2-Jan-2024": "1",
            'SINCE "02-Jan-2024"': "1 3",
            "SENTON 1-Jan-2024": "1",
            "SENTSINCE 1-Jan-2024 SENTBEFORE 2-Jan-2024": "1",
            "OLDER 3600": "1 2",
            "YOUNGER 3600": "3",
            "SAVEDATESUPPORTED": "1 2 3",
            "SAVEDSINCE 1-Jan-2025": "1 2 3",
            "SAVEDBEFORE 1-Jan-2025": "",
            "CHARSET utf-8 ALL": "1 2 3",
            "CHARSET US-ASCII TEXT hello": "1",
        }
        for keys, expected in cases.items():
            self.assertEqual(self.found(keys), expected, keys)

    def test_bad_keys(self) -> None:
        deep = "(" * 60 + "ALL" + ")" * 60
        for keys in ("", "NOPE", "NOT", "OR SEEN", "FROM", "ON 32-Jan-2024", "ON 1-Foo-2024",
                     "0", "UID 0", "()", "LARGER x", "ALL ", " ALL", "MODSEQ", deep,
                     "NOT " * 60 + "ALL", "ALL " * 300 + "ALL"):  # fmt: skip
            self.client.send(f"a SEARCH {keys}\r\n".encode())
            [line] = self.client.lines()
            self.assertTrue(line.startswith("a BAD "), (keys, line))
        self.transcript(
            self.client,
            """
            C: a SEARCH CHARSET KOI8-R TEXT x
            S: a NO [BADCHARSET (US-ASCII UTF-8)] unknown charset
            """,
        )

    def test_open_sets(self) -> None:
        # RFC 9051 section 9: 6:* has the last message in it however few there are.
        for keys, want in (("6:*", " 3"), ("*:6", " 3"), ("*:2", " 2 3"), ("UID 9:*", " 3")):
            self.assertEqual(self.client.ok("SEARCH " + keys), ["* SEARCH" + want], keys)
        self.client.ok("CREATE empty")
        self.client.ok("SELECT empty")
        for keys in ("1:* NOT DELETED", "*", "UID 1:*", "1"):
            self.assertEqual(self.client.ok("SEARCH " + keys), ["* SEARCH"])
            self.assertEqual(self.client.ok("UID SEARCH " + keys), ["* SEARCH"])

    def test_extended(self) -> None:
        self.transcript(
            self.client,
            """
            C: a SEARCH RETURN (MIN MAX COUNT ALL) UNSEEN
            S: * ESEARCH (TAG "a") MIN 2 MAX 3 ALL 2:3 COUNT 2
            S: a OK SEARCH done
            C: b UID SEARCH RETURN () NOT 2
            S: * ESEARCH (TAG "b") UID ALL 1,3
            S: b OK SEARCH done
            C: c SEARCH RETURN (COUNT MIN) FROM nobody
            S: * ESEARCH (TAG "c") COUNT 0
            S: c OK SEARCH done
            C: d SEARCH RETURN (NOPE) ALL
            S: d BAD …
            C: e ENABLE IMAP4rev2
            S: * ENABLED IMAP4rev2
            S: e OK ENABLE done
            C: f SEARCH SEEN
            S: * ESEARCH (TAG "f") ALL 1
            S: f OK SEARCH done
            C: g SEARCH RETURN (MIN) MODSEQ 1
            S: * ESEARCH (TAG "g") MIN 1 MODSEQ …
            S: g OK SEARCH done
            """,
        )

    def test_saved_result(self) -> None:
        self.transcript(
            self.client,
            r"""
            C: a SEARCH RETURN (SAVE) UNSEEN
            S: a OK SEARCH done
            C: b FETCH $ UID
            S: * 2 FETCH (UID 2)
            S: * 3 FETCH (UID 3)
            S: b OK FETCH done
            C: c SEARCH $ DELETED
            S: * SEARCH 3
            S: c OK SEARCH done
            C: d SEARCH RETURN (SAVE MIN) ALL
            S: * ESEARCH (TAG "d") MIN 1
            S: d OK SEARCH done
            C: e UID STORE $ +FLAGS.SILENT (\Deleted)
            S: e OK STORE done
            C: f UID EXPUNGE $
            S: * 1 EXPUNGE
            S: f OK EXPUNGE done
            C: g UID FETCH $ FLAGS
            S: g OK FETCH done
            C: h SEARCH RETURN (SAVE COUNT) ALL
            S: * ESEARCH (TAG "h") COUNT 2
            S: h OK SEARCH done
            C: i SEARCH RETURN (SAVE) CHARSET KOI8-R TEXT x
            S: i NO [BADCHARSET (US-ASCII UTF-8)] unknown charset
            C: j COPY $ Trash
            S: j NO no messages match
            """,
        )

    def test_literal(self) -> None:
        self.client.send(b"a SEARCH TEXT {7}\r\n")
        self.assertEqual(self.client.lines(), ["+ go on"])
        self.client.send("grüß".encode()[:6] + b"e OR SEEN BODY {5+}\r\nhello\r\n")
        self.assertEqual(self.client.lines()[-1], "a OK SEARCH done")


class SharedViewTests(IMAPTestCase):
    def test_sessions_share_the_uids_of_a_mailbox(self) -> None:
        self.deliver(count=3)
        one, two = self.selected(), self.selected()
        assert one.protocol.session and one.protocol.session.view
        assert two.protocol.session and two.protocol.session.view
        self.assertIs(one.protocol.session.view.uids, two.protocol.session.view.uids)
        one.ok("STORE 1 +FLAGS.SILENT (\\Deleted)")
        one.ok("EXPUNGE")
        self.assertEqual(list(two.protocol.session.view.uids), [1, 2, 3])
        uids = job(self.store, messages.view, self.mailbox("Inbox").id)[1]
        self.assertEqual(list(uids), list(one.protocol.session.view.uids))
