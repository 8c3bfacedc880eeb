"""Filters that name mailboxes: their grammar, and what they mean."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from moxtw.config.testing import dynamic_from
from moxtw.imap.errors import Bad, No
from moxtw.imap.mailboxfilter import MailboxFilter, delivered_to, parse_filter, resolve
from moxtw.imap.parser import Parser

NAMES = [
    "Archive", "Archive/2023", "Archive/2023/May", "Archives", "Inbox", "Inbox/Friends",
    "Lists/news", "Sales",
]  # fmt: skip
CONFIG = dynamic_from(
    """\
Domains:
	example.org: nil
Accounts:
	me:
		Domain: example.org
		Destinations:
			me@example.org:
				Rulesets:
					-
						SMTPMailFromRegexp: ^bounce@news
						VerifiedDomain: news.example
						ListAllowDomain: news.example
						Mailbox: Lists/news
					-
						MsgFromRegexp: ^shop@
						Mailbox: Archive/2023
			sales@example.org:
				Mailbox: Sales
"""
)


def parse(text: bytes, delayed: bool = True) -> MailboxFilter:
    p = Parser(text)
    found = parse_filter(p, delayed=delayed)
    p.end()
    return found


class ParseTests(SynchronousTestCase):
    def test_forms(self) -> None:
        for kind in ("selected", "selected-delayed", "inboxes", "personal", "subscribed"):
            self.assertEqual(parse(kind.upper().encode()), MailboxFilter(kind))
        self.assertEqual(parse(b"subtree inbox"), MailboxFilter("subtree", ("Inbox",)))
        self.assertEqual(
            parse(b'Mailboxes ("a b" INBOX/x &AOk- inbox/x)'),
            MailboxFilter("mailboxes", ("a b", "Inbox/x", "é")),
        )
        self.assertEqual(parse(b"subtree-one (a)"), MailboxFilter("subtree-one", ("a",)))
        self.assertTrue(parse(b"selected-delayed").selected)

    def test_refused(self) -> None:
        for text in (b"", b"all", b"subtree", b"subtree ()", b"mailboxes (a", b"selected x"):
            self.assertRaises(Bad, parse, text)
        self.assertRaises(Bad, parse, b"selected-delayed", delayed=False)
        error = self.assertRaises(No, parse, b"mailboxes (fine a//b)")
        self.assertEqual(error.code, b"CANNOT")


class ResolveTests(SynchronousTestCase):
    def meant(self, text: bytes) -> list[str]:
        fits = resolve(
            parse(text),
            selected=NAMES.index("Sales") + 1,
            subscribed={"Archive", "Gone", "Lists/news"},
            account=CONFIG.accounts["me"],
        )
        return [name for number, name in enumerate(NAMES, start=1) if fits(number, name)]

    def test_kinds(self) -> None:
        for text, expected in (
            (b"selected", ["Sales"]),
            (b"selected-delayed", ["Sales"]),
            (b"personal", NAMES),
            (b"subscribed", ["Archive", "Lists/news"]),
            # Those of mailing lists are no inboxes (RFC 5465 6.3).
            (b"inboxes", ["Archive/2023", "Inbox", "Inbox/Friends", "Sales"]),
            (b"subtree (Archive Sales)", [*NAMES[:3], "Sales"]),
            (b"subtree-one Archive", NAMES[:2]),
            (b"mailboxes (Archive Inbox nothing)", ["Archive", "Inbox"]),
        ):
            self.assertEqual(self.meant(text), expected, text)

    def test_without_configuration(self) -> None:
        self.assertEqual(delivered_to(None), {"Inbox"})
