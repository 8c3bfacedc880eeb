"""SEARCH: what standards show, and what nobody should send."""

from __future__ import annotations

import base64
from random import Random

from moxtw.imap import searching
from moxtw.store import search
from tests.unit.imap.support import Client, IMAPTestCase

GREEK = "\u039f\u0394\u03a5\u03a3\u03a3\u0395\u03a5\u03a3"


class ExampleTests(IMAPTestCase):
    def test_rfc9051(self) -> None:
        # RFC 9051 6.4.4, with the messages that its examples need.
        self.deliver(count=1)
        for number in range(2, 85):
            sender = b"Smith" if number in (2, 84) else b"Brown"
            self.deliver(b"From: %b <a@example.org>\r\n\r\nx\r\n" % sender)
        client = self.selected()
        client.ok("STORE 2,84 FLAGS.SILENT (\\Flagged)")
        self.transcript(
            client,
            r"""
            C: A282 SEARCH RETURN (MIN COUNT) FLAGGED SINCE 1-Feb-1994 NOT FROM "Smith"
            S: * ESEARCH (TAG "A282") COUNT 0
            S: A282 OK …
            C: A283 SEARCH RETURN () FLAGGED SINCE 1-Feb-1994 FROM "Smith"
            S: * ESEARCH (TAG "A283") ALL 2,84
            S: A283 OK …
            C: A284 SEARCH TEXT "string not in mailbox"
            S: * SEARCH
            S: A284 OK …
            C: A285 UID SEARCH RETURN (MIN MAX) 1:5000
            S: * ESEARCH (TAG "A285") UID MIN 1 MAX 84
            S: A285 OK …
            C: A286 SEARCH RETURN (ALL) 100:*
            S: * ESEARCH (TAG "A286") ALL 84
            S: A286 OK …
            C: A287 SEARCH RETURN (ALL) 100:200
            S: * ESEARCH (TAG "A287")
            S: A287 OK …
            C: A288 SEARCH 85,2,90:100
            S: * SEARCH 2
            S: A288 OK …
            """,
        )

    def test_literals_of_a_charset(self) -> None:
        word = GREEK.encode()
        self.deliver(b"Subject: x\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n%b\r\n" % word)
        client = self.selected()
        client.send(b"A1 SEARCH CHARSET UTF-8 TEXT {%d}\r\n" % len(word))
        self.assertEqual(client.lines(), ["+ go on"])
        client.send(word + b"\r\n")
        self.assertEqual(client.lines(), ["* SEARCH 1", "A1 OK SEARCH done"])

    def test_rfc5032(self) -> None:
        self.deliver()
        self.clock.advance(300_000)
        self.deliver()
        client = self.selected()
        self.transcript(
            client,
            """
            C: a SEARCH UNSEEN YOUNGER 259200
            S: * SEARCH 2
            S: a OK …
            C: b SEARCH OLDER 259200
            S: * SEARCH 1
            S: b OK …
            C: c SEARCH OLDER 0
            S: c BAD …
            """,
        )


class DecodedTests(IMAPTestCase):
    """What is found in texts that are encoded."""

    def setUp(self) -> None:
        super().setUp()
        body = base64.encodebytes(f"Die {GREEK} und die Stra\u00dfe".encode("utf-16-le"))
        self.deliver(
            b"From: =?iso-8859-7?Q?=CF=C4=D5?= =?iso-8859-7?Q?=D3=D3=C5=D5=D3?= <o@example.org>\r\n"
            b"Subject: =?utf-8?B?%b?=\r\n"
            b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
            b"--b\r\nContent-Type: text/plain; charset=utf-16le\r\n"
            b"Content-Transfer-Encoding: base64\r\n\r\n%b\r\n"
            b"--b\r\nContent-Type: message/rfc822\r\n\r\n"
            b"Subject: =?utf-8?Q?gr=C3=BC=C3=9Fe?=\r\n\r\ninner =3D text\r\n"
            b"--b\r\nContent-Type: application/octet-stream\r\n\r\nbinary\r\n--b--\r\n"
            % (base64.b64encode("L\u00c4RGER".encode()), body)
        )
        self.deliver(b"Subject: a folded\r\n  subject\r\nX-Empty:\r\n\r\nA=\r\nB\r\n")
        self.client = self.selected()

    def test_found(self) -> None:
        for keys, wanted in (
            (f'BODY "{GREEK.lower()}"', "1"),
            (f'TEXT "{GREEK.lower()}"', "1"),
            ('BODY "STRASSE"', "1"),
            ('FROM "\u03bf\u03b4\u03c5\u03c3"', "1"),
            ('FROM "o@EXAMPLE"', "1"),
            ('SUBJECT "l\u00e4rger"', "1"),
            ('SUBJECT "larger"', ""),
            ('FUZZY SUBJECT "larger"', "1"),
            ('SUBJECT "rger"', "1"),
            ('BODY "gr\u00fcsse"', "1"),
            ('SUBJECT "gr\u00fcsse"', ""),
            ('BODY "inner =3D text"', "1"),
            ('BODY "larger"', ""),
            ('TEXT "l\u00c4rger"', "1"),
            ('SUBJECT "folded subject"', "2"),
            ("HEADER X-Empty \"\"", "2"),
            ("HEADER X-Emp \"\"", ""),
            ("HEADER x-empty x", ""),
            ('TEXT ""', "1 2"),
            ('BODY ""', "1 2"),
            ('SUBJECT ""', "1 2"),
            ('BCC ""', ""),
        ):
            found = self.client.ok("SEARCH CHARSET UTF-8 " + keys)
            self.assertEqual(found, [f"* SEARCH {wanted}".rstrip()], keys)


class PartTests(IMAPTestCase):
    """TEXT is in MIME header fields, too (RFC 9051 6.4.4); other keys are not."""

    def setUp(self) -> None:
        super().setUp()
        self.deliver(
            b"Subject: bill\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
            b"--b\r\n\r\nhello\r\n--b\r\nContent-Type: application/pdf; name=invoice.pdf\r\n"
            b"Content-Disposition: attachment; filename*=utf-8''R%C3%A9sum%C3%A9.pdf\r\n"
            b"Content-Transfer-Encoding: base64\r\n\r\naGVsbG8=\r\n--b--\r\n"
        )
        self.deliver(b"Subject: x\r\nContent-Disposition: inline\r\n\r\ninvoice\r\n")
        self.deliver(
            b"Content-Type: multipart/report; boundary=b\r\n\r\n--b\r\n\r\nFailed.\r\n--b\r\n"
            b"Content-Type: message/delivery-status\r\n\r\nFinal-Recipient: rfc822; X@y.example\r\n"
            b"--b--\r\n"
        )

    def test_keys(self) -> None:
        # By looking into each message, then with the index.
        for limit in (search.INDEX_FROM, 1):
            self.patch(search, "INDEX_FROM", limit)
            client = self.selected()
            for keys, found in (
                ('TEXT "invoice.pdf"', " 1"),
                ('TEXT "attachment"', " 1"),
                ('TEXT "invoice"', " 1 2"),
                ('BODY "invoice"', " 2"),
                ('BODY "attachment"', ""),
                ('SUBJECT "invoice"', ""),
                ('HEADER Content-Disposition ""', " 2"),
                ('HEADER Content-Disposition "attachment"', ""),
                ('HEADER Content-Type "pdf"', ""),
                ('HEADER Content-Type "report"', " 3"),
                ('BODY "x@Y.example"', " 3"),
                ('HEADER Final-Recipient ""', ""),
                ('NOT TEXT "pdf"', " 2 3"),
            ):
                self.assertEqual(client.ok(f"SEARCH {keys}"), [f"* SEARCH{found}"], keys)
            client.send("t SEARCH CHARSET UTF-8 TEXT {10+}\r\nrésumé.p\r\n".encode())
            self.assertIn("* SEARCH 1", client.lines())


class HostileTests(IMAPTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.deliver(count=3)
        self.client = self.selected()

    def answer(self, keys: bytes) -> str:
        self.client.send(b"t SEARCH %b\r\n" % keys)
        return self.client.lines()[-1]

    def test_deep(self) -> None:
        for opening, inner, closing in (
            (b"(", b"ALL", b")"),
            (b"NOT ", b"ALL", b""),
            (b"OR ALL ", b"ALL", b""),
            (b"OR ", b"ALL", b" ALL"),
            (b"NOT (", b"ALL", b")"),
            (b"FUZZY ", b"ALL", b""),
            (b"OR (NOT ", b"ALL", b") ALL"),
        ):
            for depth in (10, 40, 51, 200, 1000):
                keys = opening * depth + inner + closing * depth
                line = self.answer(keys)
                wanted = "t OK" if depth == 10 else ("t OK", "t BAD") if depth == 40 else "t BAD"
                self.assertTrue(line.startswith(wanted), (keys[:80], depth, line))
            line = self.answer(opening * 1000)
            self.assertTrue(line.startswith("t BAD"), line)
        self.client.ok("NOOP")

    def test_many(self) -> None:
        # Too many; too many that look through texts.
        for keys in (
            b" ".join([b"ALL"] * 4000),
            b" ".join([b"ALL"] * 251),
            b"(" + b" ".join([b"TEXT a"] * 51) + b")",
            b" ".join([b"OR TEXT a"] * 60) + b" ALL",
        ):
            line = self.answer(keys)
            self.assertTrue(line.startswith("t BAD"), line)
        self.assertEqual(self.client.closed, False)
        self.assertTrue(self.answer(b" ".join([b"ALL"] * 250)).startswith("t OK"))
        self.assertTrue(self.answer(b" ".join([b"TEXT a"] * 50)).startswith("t OK"))

    def test_too_many_for_a_line(self) -> None:
        self.client.send(b"t SEARCH " + b" ".join([b"ALL"] * 10_000) + b"\r\n")
        self.assertTrue(self.client.lines()[-1].startswith("* BYE"))
        self.assertTrue(self.client.closed)

    def test_many_by_literals(self) -> None:
        # What fits in no line might come in literals.
        self.client.send(b"t SEARCH " + b"TEXT {1+}\r\nx " * 1001 + b"ALL\r\n")
        self.assertTrue(any(line.startswith("t BAD") for line in self.client.lines()))

    def test_huge_texts(self) -> None:
        text = b"x" * (100 * 1024)
        self.client.send(b"t SEARCH BODY {%d+}\r\n%b\r\n" % (len(text), text))
        self.assertEqual(self.client.lines()[-1], "t OK SEARCH done")
        for key in (b"FUZZY TEXT", b"FUZZY HEADER Subject", b"HEADER", b"SUBJECT"):
            words = b"ab c " * (20 * 1024)
            tail = b" x" if key == b"HEADER" else b""
            self.client.send(b"t SEARCH %b {%d+}\r\n%b%b\r\n" % (key, len(words), words, tail))
            self.assertEqual(self.client.lines()[-1], "t OK SEARCH done", key)
        self.client.send(b"t SEARCH BODY {%d+}\r\n%b\r\n" % (len(text) + 1, text + b"x"))
        self.assertIn("TOOBIG", self.client.output().decode())

    def test_odd_texts(self) -> None:
        texts = (b'a"b', b"a\\b", b"%_*", b"' OR 1=1 --", b"\xc3\xa9", b"]]", b"NEAR(a b)", b"*")
        for text in texts:
            for key in (b"BODY", b"TEXT", b"SUBJECT", b"FUZZY TEXT", b"HEADER X"):
                self.client.send(b"t SEARCH %b {%d+}\r\n%b\r\n" % (key, len(text), text))
                self.assertEqual(self.client.lines(), ["* SEARCH", "t OK SEARCH done"], text)
        for line in (b"BODY a\0b", b'BODY "a\0b"', b'BODY "\xff\xfe"', b'HEADER "a:b" c'):
            self.client.send(b"t SEARCH %b\r\n" % line)
            answer = self.client.lines()[-1]
            self.assertTrue(answer.startswith(("t BAD", "t OK")), (line, answer))
        for text in (b"\xff\xfe", b"a\0b", b"\xed\xa0\x80"):
            self.client.send(b"t SEARCH BODY {%d+}\r\n%b\r\n" % (len(text), text))
            answer = self.client.lines()[-1]
            self.assertTrue(answer.startswith(("t BAD", "t OK", "t NO")), (text, answer))

    def test_bad_charsets(self) -> None:
        for name in (b"x", b'""', b"utf-7", b'"utf 8"', b"rot13", b"idna", b"a" * 1000, b"UTF-16"):
            line = self.answer(b"CHARSET %b SUBJECT x" % name)
            self.assertTrue(line.startswith("t NO [BADCHARSET (US-ASCII UTF-8)]"), line)
        for keys in (b"CHARSET", b"CHARSET utf-8", b"CHARSET  utf-8 ALL", b"ALL CHARSET utf-8"):
            self.assertTrue(self.answer(keys).startswith("t BAD"), keys)

    def test_odd_numbers(self) -> None:
        for keys in (
            b"LARGER 9223372036854775807",
            b"SMALLER 9223372036854775807",
            b"MODSEQ 9223372036854775807",
            b"OLDER 4294967295",
            b"YOUNGER 4294967295",
            b"4294967295",
            b"UID 1:4294967295",
            b"*:4294967295",
            b"BEFORE 1-Jan-0001",
            b"SINCE 31-Dec-9999",
            b"SENTON 1-Jan-1900",
        ):
            self.assertTrue(self.answer(keys).startswith("t OK"), keys)
        for keys in (
            b"LARGER 9223372036854775808",
            b"LARGER -1",
            b"OLDER 4294967296",
            b"4294967296",
            b"UID 0",
            b"1:0",
            b"BEFORE 30-Feb-2024",
            b"BEFORE 1-Jan-0000",
            b"BEFORE 1-Jan-24",
            b"MODSEQ -1",
        ):
            self.assertTrue(self.answer(keys).startswith("t BAD"), keys)
        many = b",".join([b"1:*"] * 3000)
        self.assertTrue(self.answer(many).startswith("t OK"))


class PiecesTests(IMAPTestCase):
    """A search in pieces, and in halves, finds the same."""

    def test_any_keys(self) -> None:
        random = Random(5)
        words = ("alpha", "beta", "gamma", "delta")
        for _ in range(60):
            subject, body = random.choice(words), " ".join(random.choices(words, k=2))
            self.deliver(f"Subject: {subject}\r\n\r\n{body}\r\n".encode())
        whole, pieces = self.selected(), self.selected()

        def keys(depth: int = 0) -> str:
            kind = random.randrange(8 if depth < 3 else 5)
            word = random.choice(words)
            return (
                f"SUBJECT {word}",
                f"BODY {word}",
                f"TEXT {word}",
                f"FUZZY TEXT {word[:-1]}x",
                f"{random.randrange(1, 40)}:{random.randrange(1, 90)}",
                f"NOT {keys(depth + 1)}" if depth < 3 else "",
                f"OR {keys(depth + 1)} {keys(depth + 1)}" if depth < 3 else "",
                f"({keys(depth + 1)} {keys(depth + 1)})" if depth < 3 else "",
            )[kind]

        for _ in range(60):
            program = keys()
            option = " RETURN (RELEVANCY ALL)" if "FUZZY" in program else ""
            wanted = whole.ok(f"SEARCH{option} {program}")
            with self.small():
                self.assertEqual(pieces.ok(f"SEARCH{option} {program}"), wanted, program)

    def small(self) -> _Small:
        return _Small()

    def test_gone_while_searching_in_halves(self) -> None:
        self.deliver(count=20)
        client: Client = self.selected()
        with self.small():
            read = self.store.read
            count = [0]

            def counted(job: object) -> object:
                count[0] += 1
                if count[0] == 3:
                    client.transport.loseConnection()
                return read(job)  # type: ignore[arg-type]

            self.patch(self.store, "read", counted)
            client.send(b"x SEARCH TEXT nothing\r\n")
        self.assertLess(count[0], 8)


class _Small:
    """Small pieces for a while."""

    VALUES = (
        (search, "_PIECE", 7),
        (search, "_FUZZY_PIECE", 5),
        (searching, "_PIECE", 0.0),
        (searching, "_HALVES_FROM", 2),
    )

    def __enter__(self) -> None:
        self.before = [getattr(module, name) for module, name, _ in self.VALUES]
        for module, name, value in self.VALUES:
            setattr(module, name, value)

    def __exit__(self, *exc: object) -> None:
        for (module, name, _), value in zip(self.VALUES, self.before, strict=True):
            setattr(module, name, value)
