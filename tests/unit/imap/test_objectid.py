"""Object identifiers (RFC 8474): of mailboxes, messages and threads."""

from __future__ import annotations

import re

from moxtw.store import messages
from moxtw.store.model import Want
from tests.support.store import job
from tests.unit.imap.support import Client, IMAPTestCase

FIRST = b"Message-ID: <one@example.org>\r\nSubject: Plan\r\n\r\none\r\n"
ANSWER = (
    b"Message-ID: <two@example.org>\r\nReferences: <one@example.org>\r\n"
    b"Subject: Re: Plan\r\n\r\ntwo\r\n"
)
OTHER = b"Message-ID: <three@example.org>\r\nSubject: Else\r\n\r\nthree\r\n"


def code(line: str, name: str) -> str:
    found = re.search(rf"{name} \((\w+)\)", line)
    assert found is not None, line
    return found.group(1)


class MailboxIdTests(IMAPTestCase):
    def test_create_status_select_and_rename(self) -> None:
        client = self.login()
        created = code(client.command("CREATE Foo")[-1], "MAILBOXID")
        other = code(client.command("CREATE bar/deep/er")[-1], "MAILBOXID")
        self.assertNotEqual(created, other)
        self.assertEqual(
            client.ok("STATUS Foo (MAILBOXID)"), [f"* STATUS Foo (MAILBOXID ({created}))"]
        )
        for command in ("SELECT", "EXAMINE"):
            lines = client.ok(f"{command} bar/deep/er")
            self.assertIn(f"* OK [MAILBOXID ({other})] mailbox id", lines)
        client.ok("RENAME Foo Renamed")
        client.ok("CREATE Foo")
        self.assertEqual(
            client.ok("STATUS Renamed (MAILBOXID MESSAGES)"),
            [f"* STATUS Renamed (MAILBOXID ({created}) MESSAGES 0)"],
        )
        self.assertNotIn(created, client.ok("STATUS Foo (MAILBOXID)")[0])
        lines = client.ok('LIST "" Renamed RETURN (STATUS (MAILBOXID))')
        self.assertEqual(lines[1], f"* STATUS Renamed (MAILBOXID ({created}))")

    def test_inbox_keeps_its_id(self) -> None:
        self.deliver()
        client = self.login()
        before = client.ok("STATUS Inbox (MAILBOXID)")
        client.ok("RENAME Inbox Old")
        self.assertEqual(client.ok("STATUS Inbox (MAILBOXID)"), before)
        after = client.ok("STATUS Old (MAILBOXID)")
        self.assertNotEqual(code(before[0], "MAILBOXID"), code(after[0], "MAILBOXID"))

    def test_announced(self) -> None:
        self.assertIn(" OBJECTID", self.login().ok("CAPABILITY")[0])


class MessageIdTests(IMAPTestCase):
    def ids(self, client: Client, which: str = "1:*") -> list[tuple[str, str]]:
        return [
            (code(line, "EMAILID"), code(line, "THREADID"))
            for line in client.ok(f"UID FETCH {which} (EMAILID THREADID)")
        ]

    def three(self) -> Client:
        for data in (FIRST, ANSWER, OTHER):
            self.deliver(data)
        return self.selected()

    def test_fetch(self) -> None:
        client = self.three()
        (one, t1), (two, t2), (three, t3) = self.ids(client)
        self.assertEqual(len({one, two, three}), 3)
        self.assertEqual(t1, t2)
        self.assertNotEqual(t1, t3)
        self.assertNotEqual(one[1:], "")
        self.assertEqual(
            client.ok("FETCH 1 EMAILID"), [f"* 1 FETCH (UID 1 EMAILID ({one}))"]
        )

    def test_copies_and_moves_keep_the_id(self) -> None:
        client = self.three()
        before = self.ids(client)
        client.ok("COPY 1:3 Archive")
        client.ok("MOVE 2 Archive")
        self.assertEqual(self.ids(client), [before[0], before[2]])
        client.ok("SELECT Archive")
        self.assertEqual(self.ids(client), [*before, before[1]])
        # Copies of copies, and moved copies.
        client.ok("COPY 1 Trash")
        client.ok("MOVE 2 Trash")
        client.ok("SELECT Trash")
        self.assertEqual(self.ids(client), before[:2])

    def test_a_moved_message_has_its_id_where_it_still_shows(self) -> None:
        client = self.three()
        before = self.ids(client)
        other = self.selected()
        other.ok("MOVE 2 Archive")
        lines = client.command("FETCH 2 (EMAILID)")
        self.assertEqual(code(lines[0], "EMAILID"), before[1][0])

    def test_search(self) -> None:
        client = self.three()
        (one, thread), (two, _), (three, _) = self.ids(client)
        client.ok("COPY 1:2 Archive")
        for keys, found in (
            (f"EMAILID {one}", " 1"),
            (f"THREADID {thread}", " 1 2"),
            (f"OR EMAILID {one} EMAILID {three}", " 1 3"),
            (f"OR (THREADID {thread} SUBJECT re) EMAILID {three}", " 2 3"),
            (f"NOT EMAILID {two}", " 1 3"),
            (f"NOT THREADID {thread} UNSEEN", " 3"),
            (f"EMAILID {two} SEEN", ""),
            (f"EMAILID {two.lower()}", ""),
            (f"EMAILID {thread}", ""),
            (f"THREADID {one}", ""),
            ("EMAILID M0", ""),
            ("EMAILID some_thing-ELSE", ""),
            (f"EMAILID {'M' + '9' * 200}", ""),
        ):
            self.assertEqual(client.ok("UID SEARCH " + keys), [f"* SEARCH{found}"], keys)
        client.ok("SELECT Archive")
        self.assertEqual(client.ok(f"SEARCH EMAILID {two}"), ["* SEARCH 2"])
        client.ok("STORE 2 +FLAGS.SILENT (\\Deleted)")
        client.ok("EXPUNGE")
        self.assertEqual(client.ok(f"SEARCH EMAILID {two}"), ["* SEARCH"])

    def test_search_finds_messages_from_the_index(self) -> None:
        client = self.three()
        ids = self.ids(client)
        client.ok("COPY 1 Archive")
        asked: list[str] = []

        def explain(tx: object) -> None:
            from moxtw.store import searchqueries

            for statement in (searchqueries.EMAIL_UIDS, searchqueries.THREAD_UIDS):
                sql, order, _ = statement.compiled(self.store.backend.dialect)
                rows = tx.raw("EXPLAIN QUERY PLAN " + re.sub(r"\?", "1", sql))  # type: ignore[attr-defined]
                asked.extend(row[3] for row in rows.fetchall())

        job(self.store, explain)
        self.assertNotEqual(asked, [])
        for step in asked:
            self.assertNotRegex(step, "SCAN|messages_uid")
        self.assertEqual(len(ids), 3)

    def test_syntax(self) -> None:
        client = self.three()
        for keys in ("EMAILID", "EMAILID ", 'EMAILID "M1"', "EMAILID M1%", "THREADID (T1)"):
            self.assertTrue(client.command("SEARCH " + keys)[-1].startswith("t BAD"), keys)

    def test_rows_of_the_store(self) -> None:
        self.three().ok("COPY 1 Archive")
        archive = self.mailbox("Archive")
        row = job(self.store, messages.rows, archive.id, [(1, 1)], Want.EMAIL | Want.THREAD)[0]
        self.assertNotEqual(row.id, row.email_id)
        self.assertEqual(row.email_id, row.thread_id)
