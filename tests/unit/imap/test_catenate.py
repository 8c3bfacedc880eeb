"""CATENATE (RFC 4469), with URLs of messages (RFC 5092)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from moxtw.imap.commands import incoming
from moxtw.imap.imapurl import MessageURL, URLError, parse_url
from moxtw.store import messages
from tests.support.store import job
from tests.unit.imap.support import MAIL, Client, IMAPTestCase

PARTS = (
    b"Subject: two parts\r\nMIME-Version: 1.0\r\n"
    b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
    b"--b\r\n\r\nfirst\r\n--b\r\nContent-Type: image/x\r\n\r\nimage\r\n--b--\r\n"
)
HOST = "mail.example.org"


class URLTests(SynchronousTestCase):
    def test_forms(self) -> None:
        for text, mailbox, validity, uid, label, partial in (
            ("/Drafts;UIDVALIDITY=385759045/;UID=20/;section=HEADER", "Drafts", 385759045, 20,
             b"BODY[HEADER]", None),
            ("/Drafts;UIDVALIDITY=3/;UID=20/;section=1.MIME", "Drafts", 3, 20, b"BODY[1.MIME]",
             None),
            ("/INBOX/;UID=1", "INBOX", 0, 1, b"BODY[]", None),
            ("/a%20b/c%C3%A4/;uid=1", "a b/c\u00e4", 0, 1, b"BODY[]", None),
            (";UID=7", "", 0, 7, b"BODY[]", None),
            ("/;UID=7/;SECTION=TEXT/;PARTIAL=3.5", "", 0, 7, b"BODY[TEXT]<3>", (3, 5)),
            ("/A/;UID=7/;PARTIAL=3", "A", 0, 7, b"BODY[]<3>", (3, 2**62)),
            ("/A/;UID=7/;SECTION=HEADER.FIELDS%20(To%20From)", "A", 0, 7,
             b"BODY[HEADER.FIELDS (To From)]", None),
            (f"imap://joe@{HOST}/A/;UID=7", "A", 0, 7, b"BODY[]", None),
            (f"IMAP://{HOST}:143/A/;UID=7", "A", 0, 7, b"BODY[]", None),
        ):  # fmt: skip
            url = parse_url(text.encode(), HOST)
            self.assertEqual((url.mailbox, url.uidvalidity, url.uid), (mailbox, validity, uid))
            self.assertEqual((url.section.label, url.section.partial), (label, partial))

    def test_bad(self) -> None:
        for text in (
            "", "/", "/INBOX", ";UID=0", ";UID=4294967296", "/A/;UID=x", "/A/;UID=1/;SECTION=NO",
            "/A/;UID=1/;SECTION=BODY]", "/A/;UID=1;URLAUTH=anonymous:INTERNAL:00",
            "/%zz/;UID=1", "/%ff/;UID=1", "/A b/;UID=1", ";UIDVALIDITY=1/;UID=1",
            "imap://other.example/A/;UID=1", "http://mail.example.org/A/;UID=1",
            "/A/;UID=1/;PARTIAL=1.0", "/A/;UID=1/;SECTION=HEADER.FIELDS%20({3}", "/A/;UID=\u0661",
            "/" + "a" * 9000 + "/;UID=1",
        ):  # fmt: skip
            with self.assertRaises(URLError, msg=text):
                parse_url(text.encode(), HOST)

    @given(st.one_of(st.binary(), st.from_regex(r"/a;UIDVALIDITY=\d+/;UID=\d+/;SECTION=.*")))
    def test_anything(self, data: bytes | str) -> None:
        raw = data.encode("utf-8", "replace") if isinstance(data, str) else data
        try:
            self.assertIsInstance(parse_url(raw, HOST), MessageURL)
        except URLError:
            return


class CatenateTests(IMAPTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.deliver(PARTS)
        self.client = self.login()
        self.validity = self.mailbox("Inbox").uidvalidity

    def last(self, mailbox: str = "Inbox") -> bytes:
        box = self.mailbox(mailbox)

        def read(tx: messages.Tx) -> bytes:
            rows = messages.rows(tx, box.id, messages.ALL_UIDS, 0)
            return messages.read(tx, rows[-1].id)

        return job(self.store, read)

    def append(self, parts: bytes, client: Client | None = None) -> str:
        client = client or self.client
        client.send(b"t APPEND Inbox (\\Draft) CATENATE (" + parts + b")\r\n")
        return client.lines()[-1]

    def url(self, rest: str) -> bytes:
        return f'URL "/INBOX;UIDVALIDITY={self.validity}/;UID=1{rest}"'.encode()

    def test_text_and_parts(self) -> None:
        # RFC 4469 3.
        line = self.append(
            self.url("/;section=HEADER")
            + b" TEXT {10+}\r\n\r\n--b\r\n\r\nx "
            + self.url("/;section=1")
            + b" TEXT {5+}\r\n\r\n--b "
            + self.url("/;section=2.MIME")
            + b" "
            + self.url("/;section=2")
            + b" TEXT {9+}\r\n\r\n--b--\r\n"
        )
        self.assertEqual(line, f"t OK [APPENDUID {self.validity} 2] APPEND done")
        head = PARTS.partition(b"--b")[0]
        self.assertEqual(
            self.last(),
            head + b"\r\n--b\r\n\r\nxfirst\r\n--bContent-Type: image/x\r\n\r\nimage\r\n--b--\r\n",
        )
        self.client.ok("SELECT Inbox")
        self.assertEqual(self.client.ok("FETCH 2 FLAGS"), ["* 2 FETCH (UID 2 FLAGS (\\Draft))"])

    def test_whole_message_and_range(self) -> None:
        self.assertIn("OK", self.append(self.url("")))
        self.assertEqual(self.last(), PARTS)
        self.assertIn("OK", self.append(self.url("/;PARTIAL=9.3") + b" TEXT {2+}\r\n\r\n"))
        self.assertEqual(self.last(), b"two\r\n")

    def test_relative_to_the_selected_mailbox(self) -> None:
        self.assertIn("BADURL", self.append(b'URL ";UID=1"'))
        self.client.ok("SELECT Inbox")
        self.assertIn("OK", self.append(b'URL ";UID=1/;SECTION=1"'))
        self.assertEqual(self.last(), b"first")

    def test_synchronising_literals(self) -> None:
        client = self.client
        client.send(b"t APPEND Inbox CATENATE (TEXT {3}\r\n")
        self.assertEqual(client.lines(), ["+ go on"])
        client.send(b"a\r\n URL {%d}\r\n" % len(self.url("")[5:-1]))
        self.assertEqual(client.lines(), ["+ go on"])
        client.send(self.url("")[5:-1] + b" TEXT {1}\r\n")
        self.assertEqual(client.lines(), ["+ go on"])
        client.send(b"z)\r\n")
        self.assertTrue(client.lines()[-1].startswith("t OK"))
        self.assertEqual(self.last(), b"a\r\n" + PARTS + b"z")

    def test_bad_urls(self) -> None:
        for url in (
            "/INBOX;UIDVALIDITY=1/;UID=1",
            "/INBOX/;UID=9",
            "/Nope/;UID=1",
            "/INBOX/;UID=1/;SECTION=7",
            "/INBOX",
            "http://example.org/",
        ):
            line = self.append(b'TEXT {3+}\r\nabc URL "%b" TEXT {3+}\r\ndef' % url.encode())
            self.assertTrue(line.startswith(f't NO [BADURL "{url}"]'), line)
        self.assertEqual(self.mailbox("Inbox").messages, 1)

    def test_refused_before_a_literal_is_sent(self) -> None:
        self.client.send(b'u APPEND Inbox CATENATE (URL "/x" TEXT {100}\r\n')
        self.assertTrue(self.client.lines()[-1].startswith('u NO [BADURL "/x"]'))
        self.assertEqual(self.client.ok("NOOP"), [])

    def test_too_large(self) -> None:
        self.patch(incoming, "_MAX_SIZE", 270)
        for parts in (
            self.url("") + b" " + self.url(""),
            b"TEXT {250+}\r\n" + b"x" * 250 + b" " + self.url(""),
            b"TEXT {271+}\r\n" + b"x" * 271,
        ):
            line = self.append(parts)
            self.assertTrue(line.startswith("t NO [TOOBIG]"), line)
        self.assertEqual(self.client.ok("NOOP"), [])

    def test_several_messages(self) -> None:
        self.client.send(
            b"t APPEND Inbox CATENATE (TEXT {3+}\r\none) (\\Seen) CATENATE (TEXT {3+}\r\ntwo)"
            b" {%d+}\r\n%b\r\n" % (len(MAIL), MAIL)
        )
        line = self.client.lines()[-1]
        self.assertEqual(line, f"t OK [APPENDUID {self.validity} 2:4] APPEND done")

    def test_binary_and_utf8(self) -> None:
        self.assertIn("OK", self.append(b"TEXT ~{3+}\r\na\0b TEXT {1+}\r\nc"))
        self.assertEqual(self.last(), b"a\0bc")
        self.assertIn("OK", self.append(b"UTF8 (~{4+}\r\na\xc3\xa4b)"))
        self.assertEqual(self.last(), "aäb".encode())

    def test_large_parts(self) -> None:
        body = b"Subject: large\r\n\r\n" + b"0123456789abcde\n" * 60_000
        self.deliver(body)
        self.assertIn("OK", self.append(b'URL "/INBOX/;UID=2" TEXT {100000+}\r\n' + b"y" * 100_000))
        self.assertEqual(self.last(), body + b"y" * 100_000)

    def test_syntax(self) -> None:
        for parts in (b"", b"NOPE x", b"TEXT x", b'URL "/a"URL "/b"', b"URL", b'TEXT "x"'):
            line = self.append(parts)
            self.assertTrue(line.startswith("t BAD"), (parts, line))
        line = self.append(b'URL "/INBOX/;UID=1/;SECTION=99" ')
        self.assertTrue(line.startswith("t BAD"), line)
        self.assertIn("OK", self.append(b"TEXT {0+}\r\n TEXT {1+}\r\nx"))
        self.assertIn("t NO empty", self.append(b"TEXT {0+}\r\n"))


class ReplaceTests(IMAPTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.deliver(count=4)
        self.client = self.selected()

    def replace(self, text: bytes, client: Client | None = None) -> list[str]:
        client = client or self.client
        client.send(b"t %b {%d+}\r\n%b\r\n" % (text, len(MAIL), MAIL))
        return client.lines()

    def test_example(self) -> None:
        # RFC 8508 3.5.
        validity = self.mailbox("Inbox").uidvalidity
        self.assertEqual(
            self.replace(b"REPLACE 4 Inbox (\\Seen \\Draft)"),
            [
                f"* OK [APPENDUID {validity} 5] the new message is there",
                "* 5 EXISTS",
                "* 4 EXPUNGE",
                "t OK REPLACE done",
            ],
        )
        self.assertEqual(
            self.client.ok("FETCH 4 (UID FLAGS)"),
            ["* 4 FETCH (UID 5 FLAGS (\\Seen \\Draft))"],
        )

    def test_by_uid_into_another_mailbox(self) -> None:
        self.client.ok("CREATE Other")
        validity = self.mailbox("Other").uidvalidity
        self.assertEqual(
            self.replace(b"UID REPLACE 2 Other"),
            [
                f"* OK [APPENDUID {validity} 1] the new message is there",
                "* 2 EXPUNGE",
                "t OK REPLACE done",
            ],
        )

    def test_told_to_others(self) -> None:
        other = self.selected()
        self.replace(b"REPLACE 1 Inbox")
        self.assertEqual(
            other.ok("NOOP"), ["* 5 EXISTS", "* 5 FETCH (UID 5 FLAGS ())", "* 1 EXPUNGE"]
        )
        quick = self.login()
        quick.ok("ENABLE QRESYNC")
        quick.ok("SELECT Inbox")
        self.assertIn("* VANISHED 2", self.replace(b"UID REPLACE 2 Inbox", quick))

    def test_nothing_happens_on_failure(self) -> None:
        for text, start in (
            (b"REPLACE 9 Inbox", "t NO [NONEXISTENT]"),
            (b"UID REPLACE 9 Inbox", "t NO [NONEXISTENT]"),
            (b"REPLACE 1 Nope", "t NO [TRYCREATE]"),
            (b"REPLACE 1:2 Inbox", "t BAD"),
        ):
            client = self.selected()
            line = self.replace(text, client)
            self.assertTrue(
                any(each.startswith(start) for each in line), (text, line)
            )
        self.assertEqual(self.mailbox("Inbox").messages, 4)

    def test_last_one(self) -> None:
        self.assertIn("* 4 EXPUNGE", self.replace(b"REPLACE * Inbox"))

    def test_expunged_by_another(self) -> None:
        other = self.selected()
        other.ok("STORE 1 +FLAGS.SILENT (\\Deleted)")
        other.ok("EXPUNGE")
        line = self.replace(b"REPLACE 1 Inbox")[-1]
        self.assertTrue(line.startswith("t NO [EXPUNGEISSUED]"), line)
        self.assertEqual(self.mailbox("Inbox").messages, 3)

    def test_read_only(self) -> None:
        self.client.ok("EXAMINE Inbox")
        line = self.replace(b"REPLACE 1 Inbox")[-1]
        self.assertTrue(line.startswith("t NO [NOPERM]"), line)

    def test_one_message_only(self) -> None:
        data = b"{%d+}\r\n%b" % (len(MAIL), MAIL)
        self.client.send(b"t REPLACE 1 Inbox " + data + b" " + data + b"\r\n")
        self.assertTrue(self.client.lines()[0].startswith("t BAD"))
        self.assertEqual(self.mailbox("Inbox").messages, 4)

    def test_with_catenate(self) -> None:
        self.client.send(b't UID REPLACE 1 Inbox CATENATE (URL ";UID=1" TEXT {4+}\r\nmore)\r\n')
        self.assertEqual(self.client.lines()[-1], "t OK REPLACE done")
        self.assertIn("more)", self.client.ok("UID FETCH 5 BODY.PEEK[TEXT]"))

    def test_after_uidonly(self) -> None:
        client = self.login()
        client.ok("ENABLE UIDONLY")
        client.ok("SELECT Inbox")
        lines = self.replace(b"UID REPLACE 3 Inbox", client)
        self.assertIn("* VANISHED 3", lines)
        client.send(b"t REPLACE 1 Inbox {3+}\r\nabc\r\n")
        self.assertTrue(client.lines()[-1].startswith("t BAD [UIDREQUIRED]"))
