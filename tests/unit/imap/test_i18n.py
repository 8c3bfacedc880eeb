"""I18NLEVEL=1 (RFC 5255 4): SEARCH, SORT and THREAD compare by i;unicode-casemap."""

from __future__ import annotations

import quopri
import unicodedata

from tests.unit.imap.support import Client, IMAPTestCase
from tests.unit.imap.test_sort import mail

# The same text for the comparator.
FORMS = ("\u00c4rger", "\u00e4rger", "A\u0308RGER", "a\u0308rgeR")
HEAD = (
    "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=%s\r\n"
    "Content-Transfer-Encoding: %s\r\n"
)


def encoded(text: str) -> str:
    return f"=?utf-8?q?{quopri.encodestring(text.encode(), header=True).decode()}?="


class ComparatorTests(IMAPTestCase):
    def setUp(self) -> None:
        super().setUp()
        for subject in (*FORMS, "Arger", "Brger", "Aerger", "\u00d6l"):
            self.deliver(
                mail(
                    encoded(subject),
                    more=f"From: {encoded(subject)} <x@x.org>\r\n" + HEAD % ("utf-8", "8bit"),
                    body=f"so much {subject} here",
                )
            )
        head = HEAD % ("iso-8859-1", "quoted-printable")
        self.deliver(mail(more=head, body="so much =C4rger here"))

    def search(self, client: Client, key: str, text: str) -> list[int]:
        data = text.encode()
        client.send(f"t SEARCH CHARSET UTF-8 {key} {{{len(data)}+}}\r\n".encode() + data + b"\r\n")
        line = client.lines()[0]
        return [int(word) for word in line.split()[2:]]

    def test_announced(self) -> None:
        (line, _) = self.login().command("CAPABILITY")
        self.assertIn("I18NLEVEL=1", line.split())

    def test_search(self) -> None:
        client = self.selected()
        for text in FORMS:
            for key in ("SUBJECT", "FROM", "HEADER SUBJECT"):
                self.assertEqual(self.search(client, key, text), [1, 2, 3, 4], (key, text))
            for key in ("BODY", "TEXT"):
                self.assertEqual(self.search(client, key, text), [1, 2, 3, 4, 9], (key, text))
        self.assertEqual(self.search(client, "SUBJECT", "\u00f6L"), [8])
        self.assertEqual(self.search(client, "SUBJECT", "ARGER"), [5])
        # Parts of a letter that is decomposed are parts of the text.
        self.assertEqual(self.search(client, "SUBJECT", "a"), [1, 2, 3, 4, 5, 7])

    def test_sort_and_thread(self) -> None:
        client = self.selected()
        expected = sorted(
            range(1, 9),
            key=lambda n: (
                unicodedata.normalize(
                    "NFKD", (*FORMS, "Arger", "Brger", "Aerger", "\u00d6l")[n - 1].upper()
                ).encode(),
                n,
            ),
        )
        text = " ".join(str(number) for number in expected)
        self.assertEqual(text, "7 5 1 2 3 4 6 8")
        for key in ("SUBJECT", "DISPLAYFROM"):
            self.assertEqual(client.ok(f"SORT ({key}) UTF-8 1:8"), [f"* SORT {text}"])
        self.assertEqual(
            client.ok("THREAD ORDEREDSUBJECT UTF-8 1:8"), ["* THREAD (1 (2)(3)(4))(5)(6)(7)(8)"]
        )

    def test_charsets(self) -> None:
        self.transcript(
            self.selected(),
            r"""
            C: a SEARCH CHARSET us-ascii SUBJECT arger
            S: * SEARCH 5
            S: a OK …
            C: b SEARCH CHARSET "utf-8" SUBJECT arger
            S: * SEARCH 5
            S: b OK …
            C: c SEARCH CHARSET ISO-8859-1 SUBJECT x
            S: c NO [BADCHARSET (US-ASCII UTF-8)] …
            C: d SORT (SUBJECT) ISO-8859-1 SUBJECT x
            S: d NO [BADCHARSET (US-ASCII UTF-8)] …
            C: e UID THREAD REFS ISO-8859-1 SUBJECT x
            S: e NO [BADCHARSET (US-ASCII UTF-8)] …
            C: f UID SORT RETURN (UPDATE COUNT) (SUBJECT) x-none ALL
            S: f NO [BADCHARSET (US-ASCII UTF-8)] …
            """,
        )
