"""ESEARCH over several mailboxes (RFC 7377); telling how far a command is (RFC 9585)."""

from __future__ import annotations

import re
from typing import Any

from twisted.internet.defer import Deferred

from moxtw.imap import progress, searching
from moxtw.store import search
from tests.unit.imap.support import IMAPTestCase


def plain(lines: list[str]) -> list[str]:
    return [re.sub(r"UIDVALIDITY \d+", "UIDVALIDITY 1", line) for line in lines]


class MultisearchTests(IMAPTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.client = self.login()
        for name in ("folder1", "folder2", "folder2/salmon", "folder3"):
            self.client.ok(f'CREATE "{name}"')
        self.deliver(b"Subject: no\r\n\r\n", "folder1")
        self.deliver(b"Subject: chicken\r\n\r\n", "folder1", count=3)
        self.deliver(b"Subject: chicken\r\n\r\n", "folder2/salmon", count=2)
        self.deliver(b"Subject: beef\r\n\r\n", "folder3")

    def test_example(self) -> None:
        # RFC 7377 2.4.
        self.assertEqual(
            plain(
                self.client.ok(
                    'ESEARCH IN (mailboxes "folder1" subtree "folder2") RETURN (COUNT ALL)'
                    ' SUBJECT "chicken"'
                )
            ),
            [
                '* ESEARCH (TAG "t" MAILBOX folder1 UIDVALIDITY 1) UID ALL 2:4 COUNT 3',
                '* ESEARCH (TAG "t" MAILBOX folder2/salmon UIDVALIDITY 1) UID ALL 1:2 COUNT 2',
            ],
        )

    def test_everywhere_without_return(self) -> None:
        lines = plain(self.client.ok("ESEARCH IN (personal) ALL"))
        self.assertEqual(len(lines), 3)
        self.assertEqual(lines[0], '* ESEARCH (TAG "t" MAILBOX folder1 UIDVALIDITY 1) UID ALL 1:4')

    def test_names_are_encoded(self) -> None:
        self.client.ok('CREATE "a b&AOQ-"')
        self.deliver(b"Subject: x\r\n\r\n", "a b\u00e4")
        self.assertEqual(
            plain(self.client.ok('ESEARCH IN (mailboxes "a b&AOQ-") RETURN (MAX) ALL')),
            ['* ESEARCH (TAG "t" MAILBOX "a b&AOQ-" UIDVALIDITY 1) UID MAX 1'],
        )

    def test_selected(self) -> None:
        self.assertTrue(self.client.command("ESEARCH ALL")[-1].startswith("t BAD"))
        self.client.ok("SELECT folder1")
        wanted = ['* ESEARCH (TAG "t" MAILBOX folder1 UIDVALIDITY 1) UID ALL 2:4']
        for text in ("SUBJECT chicken", "IN (selected) SUBJECT chicken"):
            self.assertEqual(plain(self.client.ok(f"ESEARCH {text}")), wanted)
        self.client.ok("ESEARCH IN (selected) RETURN (SAVE) SUBJECT chicken")
        self.assertEqual(len(self.client.ok("FETCH $ UID")), 3)

    def test_messages_not_told_yet_do_not_count(self) -> None:
        self.client.ok("SELECT folder1")
        self.deliver(b"Subject: chicken\r\n\r\n", "folder1")
        self.assertIn("UID ALL 2:4", self.client.ok("ESEARCH IN (selected) SUBJECT chicken")[0])

    def test_uids_and_modseqs(self) -> None:
        lines = plain(self.client.ok("ESEARCH IN (mailboxes folder1) UID 2,4:*"))
        self.assertEqual(lines, ['* ESEARCH (TAG "t" MAILBOX folder1 UIDVALIDITY 1) UID ALL 2,4'])
        [line] = self.client.ok("ESEARCH IN (mailboxes folder1) RETURN (COUNT) MODSEQ 1")
        self.assertRegex(line, r"COUNT 4 MODSEQ \d+$")

    def test_bad(self) -> None:
        for text in (
            "ESEARCH IN (personal) 1:3",
            "ESEARCH IN (personal) $",
            "ESEARCH IN (personal) UID $",
            "ESEARCH IN () ALL",
            "ESEARCH IN personal ALL",
            "ESEARCH IN (nowhere) ALL",
            "ESEARCH IN (selected-delayed) ALL",
            "ESEARCH IN (personal (option)) ALL",
            "ESEARCH IN (personal) RETURN (SAVE) ALL",
            "ESEARCH IN (personal) RETURN (UPDATE) ALL",
            "ESEARCH IN (personal)",
        ):
            lines = self.client.command(text)
            self.assertTrue(lines[-1].startswith("t BAD"), (text, lines))
        lines = self.client.command("ESEARCH IN (personal) CHARSET x-none ALL")
        self.assertTrue(lines[-1].startswith("t NO [BADCHARSET"), lines)


class ProgressTests(IMAPTestCase):
    def test_long_command(self) -> None:
        client = self.selected()
        waiting: list[Deferred[Any]] = []
        read = self.store.read

        def slow(job: Any) -> Deferred[Any]:
            waiting.append(Deferred())
            return waiting[-1].addCallback(lambda _: read(job))

        self.patch(self.store, "read", slow)
        client.send(b"x SEARCH TEXT foo\r\n")
        for _ in range(2):
            self.clock.advance(progress.INTERVAL)
            self.assertEqual(client.lines(), ['* OK [INPROGRESS ("x" NIL NIL)] still at it'])
        while waiting:
            waiting.pop().callback(None)
        self.assertEqual(client.lines(), ["* SEARCH", "x OK SEARCH done"])
        self.clock.advance(100)
        self.assertEqual(client.lines(), [])

    def test_search_tells_how_far_it_is(self) -> None:
        self.deliver(count=7)
        self.patch(search, "_PIECE", 1)
        self.patch(searching, "_PIECE", 0.0)
        client = self.selected()
        steps: list[tuple[int, int]] = []
        told = type(client.protocol).progress_of
        self.patch(
            type(client.protocol),
            "progress_of",
            lambda conn, done, goal: (steps.append((done, goal)), told(conn, done, goal)),
        )
        self.assertEqual(client.ok("SEARCH BODY body"), ["* SEARCH 1 2 3 4 5 6 7"])
        self.assertEqual(steps[0][1], 7)
        self.assertEqual([done for done, _ in steps], sorted({done for done, _ in steps}))

    def test_given_up_when_the_client_goes(self) -> None:
        self.deliver(count=50)
        self.patch(search, "_PIECE", 1)
        self.patch(searching, "_PIECE", 0.0)
        client = self.selected()
        pieces = []
        read = self.store.read

        def counted(job: Any) -> Deferred[Any]:
            pieces.append(job)
            if len(pieces) == 3:
                client.transport.loseConnection()
            return read(job)

        self.patch(self.store, "read", counted)
        client.send(b"x SEARCH BODY body\r\n")
        self.assertLess(len(pieces), 6)

    def test_not_between_pieces_of_an_answer(self) -> None:
        for name in ("FETCH", "UID FETCH", "APPEND", "IDLE"):
            self.assertIn(name, progress._NOT_FOR)


class HalvesTests(IMAPTestCase):
    def test_both_halves_together(self) -> None:
        self.patch(searching, "_HALVES_FROM", 2)
        self.deliver(count=9)
        self.deliver(b"Subject: other\r\n\r\nelse\r\n")
        client = self.selected()
        client.ok("STORE 3 +FLAGS.SILENT (\\Deleted)")
        client.ok("EXPUNGE")
        self.assertEqual(client.ok("SEARCH BODY body"), ["* SEARCH 1 2 3 4 5 6 7 8"])
        self.assertEqual(client.ok("SEARCH NOT BODY body"), ["* SEARCH 9"])
        self.assertEqual(client.ok("SEARCH UID 5:7 BODY body"), ["* SEARCH 4 5 6"])
        self.assertEqual(client.ok("SEARCH 1:2 BODY body"), ["* SEARCH 1 2"])
        self.assertEqual(client.ok("UID SEARCH OR BODY else UID 1"), ["* SEARCH 1 10"])
