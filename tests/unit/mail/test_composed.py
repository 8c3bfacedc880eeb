"""Messages that Python's email package composes are read as they were meant."""

import email
from email.headerregistry import Address, Group
from email.message import EmailMessage
from email.policy import SMTP, SMTPUTF8, default

from twisted.trial.unittest import SynchronousTestCase

from moxtw.mail.addrlist import Mailbox
from moxtw.mail.mime import decode_body, parse_message, unpack_tree
from moxtw.mail.parsed import ParsedMessage, analyse
from moxtw.mail.text import folded, part_text
from tests.unit.mail.imaplist import check_body, check_envelope, read_list

SUBJECT = "Grüße aus Köln, 東京 und anderswo – " * 4
FILENAME = "Größe, 東京 und ein sehr langer Name, der auf mehrere Zeilen verteilt wird €.pdf"
TEXT = "Häuser und Bäume\n> Zitat = \n" * 20
CONTENT = bytes(range(256)) * 9


def compose() -> EmailMessage:
    """A message with all that is hard to write."""
    inner = EmailMessage()
    inner["Subject"] = "inner ä"
    inner["From"] = Address("Ä", "a", "b.example")
    inner.set_content("inner text\n")
    message = EmailMessage()
    message["Subject"] = SUBJECT
    message["From"] = Address('Jörg, der "Chef"', "joerg", "x.example")
    message["To"] = (
        Address("A", "a", "y.example"),
        Group("Gruppe ä", (Address("", "b", "y.example"), Address("", "c d", "y.example"))),
    )
    message["Message-ID"] = "<" + "x" * 80 + "@x.example>"
    message.set_content(TEXT)
    message.add_alternative("<p>" + TEXT + "</p>", subtype="html")
    message.add_attachment(CONTENT, maintype="application", subtype="pdf", filename=FILENAME)
    message.add_attachment(inner)
    return message


class ComposedTests(SynchronousTestCase):
    """The same in each form of transport."""

    def _check(self, data: bytes) -> ParsedMessage:
        parsed = analyse(data)
        root = unpack_tree(parsed.tree)
        self.assertEqual(root, parse_message(data))
        # The package loses a blank when it folds, so it must tell what it wrote.
        subject = str(email.message_from_bytes(data, policy=default)["Subject"]).strip()
        self.assertEqual(subject.replace(" ", ""), SUBJECT.replace(" ", ""))
        self.assertEqual(parsed.subject.strip(), subject)
        self.assertEqual(parsed.from_, [Mailbox('Jörg, der "Chef"', "joerg", "x.example")])
        self.assertEqual(
            parsed.to,
            [
                Mailbox("A", "a", "y.example"),
                Mailbox("", "b", "y.example"),
                Mailbox("", "c d", "y.example"),
            ],
        )
        self.assertEqual(parsed.message_id, "x" * 80 + "@x.example")
        alternative, pdf, message = root.parts
        plain, html = alternative.parts
        self.assertEqual(part_text(plain, data).replace("\r\n", "\n"), TEXT)
        self.assertEqual(part_text(html, data).strip(), f"<p>{TEXT}</p>".replace("\n", "\r\n"))
        self.assertEqual(pdf.filename, FILENAME)
        self.assertEqual(pdf.disposition, "attachment")
        self.assertEqual(decode_body(pdf, data), CONTENT)
        assert message.message is not None
        self.assertEqual(part_text(message.message, data).strip(), "inner text")
        self.assertTrue(parsed.preview.startswith("Häuser und Bäume [...] Häuser"))
        self.assertIn(folded("subject: inner ä"), parsed.body_text)
        self.assertIn(folded("häuser und bäume"), parsed.body_text)
        self.assertIn(folded(subject), parsed.header_text)
        check_envelope(read_list(parsed.envelope))
        check_body(read_list(parsed.bodystructure), True)
        return parsed

    def test_ascii(self) -> None:
        parsed = self._check(compose().as_bytes(policy=SMTP))
        self.assertFalse(parsed.needs_smtputf8)
        self.assertTrue(parsed.envelope.isascii())
        self.assertTrue(parsed.bodystructure.isascii())

    def test_utf8(self) -> None:
        parsed = self._check(compose().as_bytes(policy=SMTPUTF8))
        self.assertTrue(parsed.needs_smtputf8)
        self.assertTrue(parsed.has_8bit_header)
