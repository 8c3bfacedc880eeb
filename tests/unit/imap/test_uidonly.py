"""UIDONLY (RFC 9586): sessions without message sequence numbers."""

from __future__ import annotations

from tests.unit.imap.support import Client, IMAPTestCase


class UidOnlyTests(IMAPTestCase):
    def only(self, mailbox: str = "Inbox") -> Client:
        client = self.login()
        self.assertEqual(client.ok("ENABLE UIDONLY"), ["* ENABLED UIDONLY"])
        client.ok(f"SELECT {mailbox}")
        return client

    def test_announced(self) -> None:
        self.assertIn(" UIDONLY ", self.login().ok("CAPABILITY")[0] + " ")

    def test_commands_with_numbers(self) -> None:
        self.deliver(count=2)
        client = self.only()
        for text in (
            "FETCH 1 FLAGS",
            "STORE 1 +FLAGS (\\Seen)",
            "COPY 1 Trash",
            "MOVE 1 Trash",
            "SEARCH ALL",
            "FETCH $ FLAGS",
            "UID SEARCH 1:*",
            "UID SEARCH NOT (OR SEEN 1)",
        ):
            with self.subTest(text):
                self.assertRegex(client.command(text)[-1], r"^t BAD \[UIDREQUIRED\] ")
        self.assertEqual(client.ok("UID SEARCH UID 1:*"), ["* SEARCH 1 2"])
        self.assertEqual(client.ok("UID SEARCH RETURN (SAVE) ALL"), [])
        self.assertEqual(client.ok("UID SEARCH $ UNSEEN"), ["* SEARCH 1 2"])

    def test_literal_behind_refused_command(self) -> None:
        client = self.only()
        client.send(b"a SEARCH SUBJECT {3+}\r\nxyz TEXT {2+}\r\nab\r\nb NOOP\r\n")
        lines = client.lines()
        self.assertTrue(lines[0].startswith("a BAD [UIDREQUIRED]"), lines)
        self.assertEqual(lines[1:], ["b OK NOOP done"])

    def test_fetch(self) -> None:
        self.deliver(count=3)
        client = self.only()
        self.transcript(
            client,
            """
            C: a UID FETCH 2:3 FLAGS
            S: * 2 UIDFETCH (FLAGS ())
            S: * 3 UIDFETCH (FLAGS ())
            S: a OK FETCH done
            C: b UID FETCH 2 (FLAGS UID RFC822.SIZE)
            S: * 2 UIDFETCH (UID 2 FLAGS () RFC822.SIZE 70)
            S: b OK FETCH done
            C: c UID FETCH 2 UID
            S: * 2 UIDFETCH (UID 2)
            S: c OK FETCH done
            C: d UID FETCH 2 BODY.PEEK[TEXT]
            S: * 2 UIDFETCH (BODY[TEXT] {6}
            S: body
            S: )
            S: d OK FETCH done
            C: e UID FETCH 2 BODY[TEXT]
            S: * 2 UIDFETCH (FLAGS (\\Seen) BODY[TEXT] {6}
            S: body
            S: )
            S: e OK FETCH done
            """,
        )

    def test_store_and_notices(self) -> None:
        self.deliver(count=3)
        client, other = self.only(), self.selected()
        self.assertEqual(
            client.ok("UID STORE 2 +FLAGS (\\Flagged)"), ["* 2 UIDFETCH (FLAGS (\\Flagged))"]
        )
        other.ok("STORE 1 +FLAGS.SILENT (\\Deleted)")
        other.ok("EXPUNGE")
        self.deliver()
        self.assertEqual(
            client.ok("NOOP"),
            ["* 4 EXISTS", "* 4 UIDFETCH (FLAGS ())", "* VANISHED 1"],
        )
        client.ok("UID STORE 3 +FLAGS.SILENT (\\Deleted)")
        self.assertEqual(client.ok("EXPUNGE"), ["* VANISHED 3"])
        lines = client.ok("UID MOVE 2 Trash")
        self.assertRegex(lines[0], r"^\* OK \[COPYUID \d+ 2 1\]")
        self.assertEqual(lines[1:], ["* VANISHED 2"])

    def test_condstore(self) -> None:
        self.deliver(count=2)
        client = self.only()
        client.ok("ENABLE CONDSTORE")
        self.assertRegex(
            client.ok("UID STORE 2 +FLAGS.SILENT (\\Seen)")[0],
            r"^\* 2 UIDFETCH \(MODSEQ \(\d+\)\)$",
        )
        self.assertRegex(
            client.ok("UID STORE 1 +FLAGS (\\Seen)")[0],
            r"^\* 1 UIDFETCH \(FLAGS \(\\Seen\) MODSEQ \(\d+\)\)$",
        )

    def test_select(self) -> None:
        self.deliver(count=2)
        self.assertTrue(any("[UNSEEN" in line for line in self.login().ok("SELECT Inbox")))
        client = self.login()
        client.ok("ENABLE UIDONLY QRESYNC")
        self.assertFalse(any("[UNSEEN" in line for line in client.ok("SELECT Inbox")))
        validity = self.mailbox("Inbox").uidvalidity
        lines = client.command(f"SELECT Inbox (QRESYNC ({validity} 1 1:2 (1 1)))")
        self.assertTrue(lines[-1].startswith("t BAD [UIDREQUIRED]"), lines)
        lines = client.ok(f"SELECT Inbox (QRESYNC ({validity} 1 1:2))")
        self.assertTrue(any(" UIDFETCH (FLAGS () MODSEQ (" in line for line in lines), lines)

    def test_enabled_while_selected(self) -> None:
        self.deliver()
        client = self.selected()
        client.ok("ENABLE UIDONLY")
        self.assertTrue(client.command("UID SEARCH 1")[-1].startswith("t BAD [UIDREQUIRED]"))
