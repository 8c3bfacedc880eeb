r"""Dialogues after the examples of RFC 9051, 2177, 4315, 4959, 5161, 5182, 6851 and 7162.

Numbers are those of this mailbox, and texts those of this server. ``{…}`` in an expected line
names a modseq or UIDVALIDITY that the test has read before.
"""

from __future__ import annotations

import base64
import re

from tests.unit.imap.support import ADDRESS, MAIL, PASSWORD, Client, IMAPTestCase


class Dialogue(IMAPTestCase):
    def modseq(self) -> int:
        return int(self.mailbox("Inbox").modseq)

    def modseq_of(self, number: int) -> int:
        [line] = self.login_and("EXAMINE Inbox (CONDSTORE)").ok(f"FETCH {number} (MODSEQ)")
        match = re.search(r"MODSEQ \((\d+)\)", line)
        assert match is not None
        return int(match[1])

    def login_and(self, *commands: str) -> Client:
        client = self.login()
        for command in commands:
            client.ok(command)
        return client


class SessionExamples(Dialogue):
    def test_a_session_from_greeting_to_logout(self) -> None:
        """RFC 9051 section 8."""
        self.deliver(count=3)
        client = self.connect()
        self.transcript(
            client,
            f"""
            C: a000 NOOP
            S: * OK [CAPABILITY IMAP4rev2 …] moxtw imap
            S: a000 OK NOOP done
            C: a001 LOGIN {ADDRESS} "{PASSWORD}"
            S: a001 OK [CAPABILITY IMAP4rev2 …
            C: a002 ENABLE IMAP4rev2
            S: * ENABLED IMAP4rev2
            S: a002 OK ENABLE done
            C: a003 SELECT inbox
            S: * FLAGS (…\\Seen…)
            S: * OK [PERMANENTFLAGS (…\\*)] …
            S: * 3 EXISTS
            S: * OK [UIDVALIDITY …] …
            S: * OK [UIDNEXT 4] …
            S: * OK [MAILBOXID (F…)] …
            S: * LIST () "/" Inbox
            S: a003 OK [READ-WRITE] …
            C: a004 FETCH 3 BODY[HEADER]
            S: * 3 FETCH (UID 3 FLAGS (\\Seen) BODY[HEADER] {{62}}
            S: From: Joe <joe@example.org>
            S: To: me@example.org
            S: Subject: hi
            S:
            S: )
            S: a004 OK FETCH done
            C: a005 STORE 3 +FLAGS \\Deleted
            S: * 3 FETCH (UID 3 FLAGS (\\Seen \\Deleted))
            S: a005 OK STORE done
            C: a006 LOGOUT
            S: * BYE see you
            S: a006 OK LOGOUT done
            """.replace("{62}", "{" + str(MAIL.index(b"\r\n\r\n") + 4) + "}"),
        )
        self.assertTrue(client.closed)

    def test_initial_responses(self) -> None:
        """RFC 4959 section 4."""
        plain = base64.b64encode(f"\0{ADDRESS}\0{PASSWORD}".encode()).decode()
        client = self.connect()
        client.output()
        self.transcript(
            client,
            f"""
            C: C01 AUTHENTICATE PLAIN {plain}
            S: C01 OK [CAPABILITY …] …
            """,
        )
        client = self.connect()
        client.output()
        self.transcript(
            client,
            f"""
            C: C02 AUTHENTICATE PLAIN
            S: +…
            C: {plain}
            S: C02 OK [CAPABILITY …] …
            """,
        )

    def test_enable(self) -> None:
        """RFC 5161 section 3."""
        self.transcript(
            self.login(),
            """
            C: t2 ENABLE CONDSTORE X-GOOD-IDEA
            S: * ENABLED CONDSTORE
            S: t2 OK ENABLE done
            C: t3 ENABLE CONDSTORE
            S: * ENABLED
            S: t3 OK ENABLE done
            C: t4 ENABLE
            S: t4 BAD …
            """,
        )

    def test_idle(self) -> None:
        """RFC 2177 section 3."""
        self.deliver(count=3, flags=64)
        client = self.selected()
        client.send(b"A002 IDLE\r\n")
        self.assertEqual(client.lines(), ["+ idling"])
        self.deliver()
        self.assertEqual(client.lines(), ["* 4 EXISTS", "* 4 FETCH (UID 4 FLAGS ())"])
        other = self.selected()
        other.ok("UID EXPUNGE 3")
        self.assertEqual(client.lines(), ["* 3 EXPUNGE"])
        self.transcript(
            client,
            """
            C: DONE
            S: A002 OK IDLE done
            C: A003 FETCH 3 UID
            S: * 3 FETCH (UID 4)
            S: A003 OK FETCH done
            """,
        )


class MessageExamples(Dialogue):
    def test_uids_of_what_was_appended_copied_moved(self) -> None:
        """RFC 4315 section 3, RFC 6851 section 3.3."""
        self.deliver(count=4)
        validity = self.mailbox("Sent").uidvalidity
        client = self.selected()
        client.send(b"A003 APPEND Sent (\\Seen) {22+}\r\nSubject: x\r\n\r\nHello!\r\n\r\n")
        self.assertEqual(client.lines(), [f"A003 OK [APPENDUID {validity} 1] APPEND done"])
        self.transcript(
            client,
            f"""
            C: A004 COPY 2:4 Sent
            S: A004 OK [COPYUID {validity} 2:4 2:4] COPY done
            C: A005 UID COPY 1,3 Sent
            S: A005 OK [COPYUID {validity} 1,3 5:6] COPY done
            C: A006 UID MOVE 3:4 Sent
            S: * OK [COPYUID {validity} 3:4 7:8] moved
            S: * 4 EXPUNGE
            S: * 3 EXPUNGE
            S: A006 OK MOVE done
            C: A007 STORE 1:2 +FLAGS.SILENT (\\Deleted)
            S: A007 OK STORE done
            C: A008 UID EXPUNGE 2:4
            S: * 2 EXPUNGE
            S: A008 OK EXPUNGE done
            """,
        )

    def test_saved_results(self) -> None:
        """RFC 5182 section 2."""
        self.deliver(count=4)
        self.transcript(
            self.selected(),
            """
            C: A282 SEARCH RETURN (MIN COUNT SAVE) FROM Joe
            S: * ESEARCH (TAG "A282") MIN 1 COUNT 4
            S: A282 OK SEARCH done
            C: A283 SEARCH RETURN (SAVE) 2:3
            S: A283 OK SEARCH done
            C: A284 FETCH $ UID
            S: * 2 FETCH (UID 2)
            S: * 3 FETCH (UID 3)
            S: A284 OK FETCH done
            C: A285 SEARCH RETURN (ALL) $ 3:4
            S: * ESEARCH (TAG "A285") ALL 3
            S: A285 OK SEARCH done
            C: A286 SEARCH RETURN (SAVE) CHARSET KOI8-R SUBJECT x
            S: A286 NO [BADCHARSET (US-ASCII UTF-8)] …
            C: A287 FETCH $ UID
            S: A287 OK FETCH done
            C: A288 STORE 3 +FLAGS.SILENT \\Deleted
            S: A288 OK STORE done
            C: A289 SEARCH RETURN (SAVE) ALL
            S: A289 OK SEARCH done
            C: A290 EXPUNGE
            S: * 3 EXPUNGE
            S: A290 OK EXPUNGE done
            C: A291 UID SEARCH $
            S: * SEARCH 1 2 4
            S: A291 OK SEARCH done
            """,
        )


class ModSeqExamples(Dialogue):
    """RFC 7162."""

    def test_conditional_store(self) -> None:
        """Section 3.1.3."""
        self.deliver(count=3)
        client = self.login_and("ENABLE CONDSTORE", "SELECT Inbox")
        other = self.selected()
        before = self.modseq()
        other.ok("STORE 2 +FLAGS (\\Flagged)")
        self.transcript(
            client,
            f"""
            C: d105 STORE 1:3 (UNCHANGEDSINCE {before}) +FLAGS.SILENT (\\Deleted)
            S: * 1 FETCH (UID 1 MODSEQ ({before + 2}))
            S: * 3 FETCH (UID 3 MODSEQ ({before + 2}))
            S: d105 OK [MODIFIED 2] …
            C: d106 UID STORE 2 (UNCHANGEDSINCE {before}) FLAGS (\\Seen)
            S: * 2 FETCH (UID 2 FLAGS (\\Flagged) MODSEQ ({before + 1}))
            S: d106 OK [MODIFIED 2] …
            C: d107 STORE 2 (UNCHANGEDSINCE {before + 1}) FLAGS (\\Seen)
            S: * 2 FETCH (UID 2 FLAGS (\\Seen) MODSEQ ({before + 3}))
            S: d107 OK STORE done
            C: d108 STORE 2 (UNCHANGEDSINCE 0) FLAGS ()
            S: d108 OK [MODIFIED 2] …
            """,
        )

    def test_changed_since(self) -> None:
        """Section 3.1.4."""
        self.deliver(count=3)
        client = self.selected()
        before = self.modseq()
        client.ok("STORE 2 +FLAGS (\\Flagged)")
        self.transcript(
            client,
            f"""
            C: s100 UID FETCH 1:* (FLAGS) (CHANGEDSINCE {before})
            S: * OK [HIGHESTMODSEQ {before + 1}] …
            S: * 2 FETCH (UID 2 FLAGS (\\Flagged) MODSEQ ({before + 1}))
            S: s100 OK FETCH done
            C: s101 FETCH 1:3 (MODSEQ) (CHANGEDSINCE {before + 1})
            S: s101 OK FETCH done
            C: s102 SEARCH MODSEQ "/flags/\\\\Flagged" all {before + 1}
            S: * SEARCH 2 (MODSEQ {before + 1})
            S: s102 OK SEARCH done
            C: s103 SEARCH OR NOT MODSEQ {before + 1} LARGER 50000
            S: * SEARCH 1 3 (MODSEQ {before})
            S: s103 OK SEARCH done
            C: s104 SEARCH MODSEQ {before + 100}
            S: * SEARCH
            S: s104 OK SEARCH done
            C: s105 SEARCH RETURN (MIN) MODSEQ 1
            S: * ESEARCH (TAG "s105") MIN 1 MODSEQ …
            S: s105 OK SEARCH done
            C: s106 STATUS Inbox (UIDNEXT HIGHESTMODSEQ)
            S: * STATUS Inbox (UIDNEXT 4 HIGHESTMODSEQ {before + 1})
            S: s106 OK STATUS done
            """,
        )

    def test_resynchronisation(self) -> None:
        """Section 3.2.5."""
        self.deliver(count=6)
        validity = self.mailbox("Inbox").uidvalidity
        before = self.modseq()
        other = self.selected()
        other.ok("STORE 1,4 +FLAGS.SILENT (\\Deleted)")
        other.ok("EXPUNGE")
        other.ok("UID STORE 3 +FLAGS.SILENT (\\Flagged)")
        self.deliver()
        now = self.modseq()
        client = self.login()
        self.transcript(
            client,
            f"""
            C: A00 SELECT Inbox (QRESYNC ({validity} {before}))
            S: A00 BAD QRESYNC must be enabled first…
            C: A01 ENABLE QRESYNC
            S: * ENABLED QRESYNC CONDSTORE
            S: A01 OK ENABLE done
            C: A02 SELECT Inbox (QRESYNC ({validity} {before} 1:6))
            S: * FLAGS …
            S: * OK [PERMANENTFLAGS …
            S: * 0 RECENT
            S: * 5 EXISTS
            S: * OK [UNSEEN 1] …
            S: * OK [UIDVALIDITY {validity}] …
            S: * OK [UIDNEXT 8] …
            S: * OK [MAILBOXID …
            S: * OK [HIGHESTMODSEQ {now}] …
            S: * VANISHED (EARLIER) 1,4
            S: * 2 FETCH (UID 3 FLAGS (\\Flagged) MODSEQ ({now - 1}))
            S: A02 OK [READ-WRITE] …
            C: A03 UID FETCH 1:* (FLAGS) (CHANGEDSINCE {before} VANISHED)
            S: * VANISHED (EARLIER) 1,4
            S: * 2 FETCH (UID 3 FLAGS (\\Flagged) MODSEQ ({now - 1}))
            S: * 5 FETCH (UID 7 FLAGS () MODSEQ ({now}))
            S: A03 OK FETCH done
            C: A04 STORE 1:2 +FLAGS.SILENT (\\Deleted)
            S: * 1 FETCH (UID 2 MODSEQ ({now + 1}))
            S: * 2 FETCH (UID 3 MODSEQ ({now + 1}))
            S: A04 OK STORE done
            C: A05 EXPUNGE
            S: * VANISHED 2:3
            S: A05 OK [HIGHESTMODSEQ {now + 2}] …
            C: A06 SELECT Sent
            S: * OK [CLOSED] …
            S: * FLAGS …
            S: * OK [PERMANENTFLAGS …
            S: * 0 RECENT
            S: * 0 EXISTS
            S: * OK [UIDVALIDITY …
            S: * OK [UIDNEXT 1] …
            S: * OK [MAILBOXID …
            S: * OK [HIGHESTMODSEQ …
            S: A06 OK [READ-WRITE] …
            """,
        )

    def test_modseqs_come_with_changes_by_others(self) -> None:
        """Section 3.2.10: VANISHED, and MODSEQ in each FETCH."""
        self.deliver(count=3)
        client = self.login_and("ENABLE QRESYNC", "SELECT Inbox")
        now = self.modseq()
        other = self.selected()
        other.ok("STORE 3 FLAGS.SILENT (\\Deleted)")
        other.ok("EXPUNGE")
        other.ok("STORE 1 FLAGS.SILENT (\\Seen)")
        self.transcript(
            client,
            f"""
            C: a FETCH 3 (UID)
            S: * 3 FETCH (UID 3)
            S: a OK [EXPUNGEISSUED] …
            C: b NOOP
            S: * VANISHED 3
            S: * 1 FETCH (UID 1 FLAGS (\\Seen) MODSEQ ({now + 3}))
            S: b OK NOOP done
            """,
        )


class ResponseCodeExamples(Dialogue):
    """Response codes of RFC 9051 section 7.1 where this server has a use for them."""

    def test_codes(self) -> None:
        self.deliver(count=2)
        client = self.login_and("CREATE a/b", "SELECT Inbox")
        for command, reply in (
            ("CREATE a", "NO [ALREADYEXISTS]"),
            ("RENAME a/b Sent", "NO [ALREADYEXISTS]"),
            ("CREATE a//b", "NO [CANNOT]"),
            ("CREATE Inbox", "NO [ALREADYEXISTS]"),
            ("DELETE Inbox", "NO [CANNOT]"),
            ("DELETE a", "NO [HASCHILDREN]"),
            ("DELETE nope", "NO [NONEXISTENT]"),
            ("RENAME nope other", "NO [NONEXISTENT]"),
            ("STATUS nope (MESSAGES)", "NO [NONEXISTENT]"),
            ("UNSUBSCRIBE nope", "NO [NONEXISTENT]"),
            ("COPY 1 nope", "NO [TRYCREATE]"),
            ("MOVE 1 nope", "NO [TRYCREATE]"),
            ("COPY 1 a//b", "NO [CANNOT]"),
            ("SEARCH CHARSET x ALL", "NO [BADCHARSET (US-ASCII UTF-8)]"),
            ("CREATE x (USE (\\Nope))", "NO [USEATTR]"),
            (f"LIST {'{'}102401{'}'}", "BAD [TOOBIG]"),
            ("SELECT nope", "NO [NONEXISTENT]"),
            ("EXAMINE Inbox", "OK [READ-ONLY]"),
            ("STORE 1 FLAGS ()", "NO [NOPERM]"),
            ("EXPUNGE", "NO [NOPERM]"),
            ("LOGIN x y", "NO "),
        ):
            self.assertEqual(client.command(command)[-1][: len(reply) + 2], "t " + reply, command)

    def test_codes_before_login(self) -> None:
        client = self.connect()
        client.output()
        client.send(b"t LOGIN me@example.org wrong\r\n")
        self.assertTrue(client.lines()[-1].startswith("t NO [AUTHENTICATIONFAILED] "))
        identity = base64.b64encode(b"other@example.org\0me@example.org\0x").decode()
        client.send(f"t AUTHENTICATE PLAIN {identity}\r\n".encode())
        self.assertTrue(client.lines()[-1].startswith("t NO [AUTHORIZATIONFAILED] "))

    def test_selecting_nothing_closes_what_was_selected(self) -> None:
        self.transcript(
            self.selected(),
            """
            C: a SELECT nope
            S: * OK [CLOSED] …
            S: a NO [NONEXISTENT] …
            C: b CHECK
            S: b NO …
            """,
        )
