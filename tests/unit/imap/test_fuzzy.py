"""SEARCH=FUZZY (RFC 6203)."""

from __future__ import annotations

import re

from tests.unit.imap.support import IMAPTestCase


class FuzzyTests(IMAPTestCase):
    def setUp(self) -> None:
        super().setUp()
        for subject, body in (
            ("hello", "hello, hello, hello, hello"),
            ("other", "nothing"),
            ("x", "a word of help in a text"),
            ("IMAP break", "x"),
            ("broken IMAP", "to break imap"),
        ):
            text = f"From: a@example.org\r\nSubject: {subject}\r\n\r\n{body}\r\n"
            self.deliver(text.encode())
        self.client = self.selected()

    def scores(self, line: str) -> list[int]:
        found = re.search(r" RELEVANCY \(([0-9 ]+)\)", line)
        assert found is not None, line
        return [int(each) for each in found[1].split()]

    def test_search(self) -> None:
        self.assertEqual(self.client.ok('SEARCH FUZZY TEXT "helo"'), ["* SEARCH 1 3"])
        self.assertEqual(self.client.ok("SEARCH TEXT helo"), ["* SEARCH"])
        self.assertEqual(self.client.ok('SEARCH FUZZY SUBJECT "imap breek"'), ["* SEARCH 4"])
        self.assertEqual(self.client.ok('SEARCH FUZZY BODY "imap breek"'), ["* SEARCH 5"])

    def test_exact_keys_beside(self) -> None:
        self.client.ok("STORE 3 FLAGS.SILENT (\\Seen)")
        self.assertEqual(self.client.ok("SEARCH FUZZY TEXT helo SEEN"), ["* SEARCH 3"])
        self.assertEqual(self.client.ok("SEARCH FUZZY SEEN"), ["* SEARCH 3"])
        self.assertEqual(
            self.client.ok("SEARCH FUZZY (OR TEXT helo SUBJECT othre) NOT 3"), ["* SEARCH 1 2"]
        )
        self.assertEqual(self.client.ok("SEARCH NOT FUZZY TEXT helo"), ["* SEARCH 2 4 5"])
        self.assertEqual(self.client.ok('SEARCH FUZZY SUBJECT ""'), ["* SEARCH 1 2 3 4 5"])
        self.assertEqual(self.client.ok('SEARCH FUZZY TEXT "!?"'), ["* SEARCH"])

    def test_relevancy(self) -> None:
        [line] = self.client.ok("SEARCH RETURN (RELEVANCY ALL) FUZZY TEXT helo")
        self.assertTrue(line.startswith('* ESEARCH (TAG "t") ALL 1,3 RELEVANCY ('), line)
        first, second = self.scores(line)
        self.assertTrue(1 <= second < first <= 100)
        [line] = self.client.ok("UID SEARCH RETURN (MAX RELEVANCY) FUZZY TEXT helo")
        self.assertEqual(line, f'* ESEARCH (TAG "t") UID MAX 3 RELEVANCY ({second})')
        [line] = self.client.ok("SEARCH RETURN (PARTIAL 1:1 RELEVANCY) FUZZY TEXT helo")
        self.assertTrue(line.endswith(f"PARTIAL (1:1 1) RELEVANCY ({first})"), line)
        [line] = self.client.ok("SEARCH RETURN (ALL RELEVANCY) FUZZY TEXT nowhere")
        self.assertEqual(line, '* ESEARCH (TAG "t")')
        [line] = self.client.ok("SEARCH RETURN (ALL RELEVANCY) FUZZY 1:2")
        self.assertEqual(self.scores(line), [100, 100])

    def test_sort(self) -> None:
        ok = self.client.ok
        self.assertEqual(ok("SORT (RELEVANCY) UTF-8 FUZZY TEXT helo"), ["* SORT 1 3"])
        self.assertEqual(ok("SORT (REVERSE RELEVANCY) UTF-8 FUZZY TEXT helo"), ["* SORT 3 1"])
        [line] = ok("SORT RETURN (RELEVANCY ALL) (REVERSE RELEVANCY) UTF-8 FUZZY TEXT helo")
        self.assertIn(" ALL 3,1 ", line)
        self.assertEqual(self.scores(line), sorted(self.scores(line)))
        self.assertEqual(
            ok("SORT (RELEVANCY REVERSE SUBJECT) UTF-8 FUZZY 1:5"), ["* SORT 3 2 4 1 5"]
        )
        self.assertEqual(
            ok("SORT (SUBJECT RELEVANCY SIZE) UTF-8 FUZZY TEXT helo"), ["* SORT 1 3"]
        )
        self.assertEqual(ok("SORT (RELEVANCY) UTF-8 FUZZY ALL"), ["* SORT 1 2 3 4 5"])

    def test_not_kept_up_to_date(self) -> None:
        lines = self.client.ok("SORT RETURN (UPDATE) (RELEVANCY) UTF-8 FUZZY TEXT helo")
        self.assertIn('* NO [NOUPDATE "t"] relevancy is not kept up to date', lines)

    def test_several_mailboxes(self) -> None:
        [line] = self.client.ok("ESEARCH IN (inboxes) RETURN (ALL RELEVANCY) FUZZY TEXT helo")
        self.assertEqual(len(self.scores(line)), 2)

    def test_bad(self) -> None:
        for text in (
            "SEARCH RETURN (RELEVANCY) TEXT x",
            "SORT (RELEVANCY) UTF-8 TEXT x",
            "SORT RETURN (RELEVANCY) (DATE) UTF-8 ALL",
            "ESEARCH IN (inboxes) RETURN (RELEVANCY) TEXT x",
            "SEARCH FUZZY",
            "SEARCH FUZZY ",
            "SEARCH " + "FUZZY " * 300 + "ALL",
            "SEARCH FUZZY (" + " ".join(["TEXT x"] * 11) + ")",
            "SEARCH " + "FUZZY " * 90 + "TEXT x",
        ):
            lines = self.client.command(text)
            self.assertTrue(lines[-1].startswith("t BAD"), (text, lines))
