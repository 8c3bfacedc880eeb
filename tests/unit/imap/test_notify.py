"""NOTIFY (RFC 5465)."""

from __future__ import annotations

import re

from moxtw.imap import notify
from moxtw.store import annotations, mailboxes
from moxtw.store.annotations import Value
from tests.support.store import job
from tests.unit.imap.support import Client, IMAPTestCase

EVENTS = "(MessageNew MessageExpunge FlagChange)"


def plain(lines: list[str]) -> list[str]:
    """The lines without the UIDVALIDITY that is different each time."""
    return [re.sub(r"UIDVALIDITY \d+", "UIDVALIDITY 1", line) for line in lines]


class NotifyCase(IMAPTestCase):
    def watching(self, text: str, select: str = "Inbox") -> Client:
        client = self.login()
        if select:
            client.ok(f"SELECT {select}")
        client.ok(f"NOTIFY {text}")
        return client

    def other(self) -> Client:
        client = self.login()
        client.ok("SELECT Inbox")
        return client


class SelectedTests(NotifyCase):
    def test_told_at_once(self) -> None:
        self.deliver(count=2)
        client = self.watching(f"SET (SELECTED {EVENTS})")
        other = self.other()
        self.deliver()
        self.assertEqual(client.lines(), ["* 3 EXISTS", "* 3 FETCH (UID 3 FLAGS ())"])
        other.ok("UID STORE 1 +FLAGS (\\Seen)")
        self.assertEqual(client.lines(), ["* 1 FETCH (UID 1 FLAGS (\\Seen))"])
        other.ok("UID STORE 1 +FLAGS.SILENT (\\Deleted)")
        client.lines()
        other.ok("EXPUNGE")
        self.assertEqual(client.lines(), ["* 1 EXPUNGE"])
        self.assertEqual(client.ok("NOOP"), [])

    def test_items_of_new_messages(self) -> None:
        # RFC 5465 3.1's example.
        client = self.watching(
            "SET (selected (MessageNew (uid body.peek[header.fields (from to subject)])"
            " MessageExpunge))"
        )
        self.deliver(count=1)
        client_lines = client.lines()
        self.assertEqual(client_lines[0], "* 1 EXISTS")
        self.assertEqual(
            client_lines[1], "* 1 FETCH (UID 1 BODY[HEADER.FIELDS (from to subject)] {64}"
        )
        self.assertEqual(client_lines[-1], ")")

    def test_items_do_not_set_seen(self) -> None:
        client = self.watching("SET (selected (MessageNew (BODY[TEXT]) MessageExpunge))")
        self.deliver()
        self.assertIn("* 1 FETCH (UID 1 BODY[TEXT] {6}", client.lines())
        self.assertEqual(self.other().ok("FETCH 1 FLAGS"), ["* 1 FETCH (UID 1 FLAGS ())"])

    def test_without_flags(self) -> None:
        self.deliver()
        client = self.watching("SET (SELECTED (MessageNew MessageExpunge))")
        self.other().ok("STORE 1 +FLAGS (\\Seen)")
        self.assertEqual(client.lines(), [])
        self.assertEqual(client.ok("NOOP"), [])

    def test_delayed(self) -> None:
        self.deliver(count=3)
        client = self.watching(f"SET (SELECTED-DELAYED {EVENTS})")
        other = self.other()
        other.ok("STORE 1 +FLAGS.SILENT (\\Deleted)")
        self.assertEqual(client.lines(), ["* 1 FETCH (UID 1 FLAGS (\\Deleted))"])
        other.ok("EXPUNGE")
        self.deliver()
        # Sequence numbers stay as they are, and the message can still be read.
        self.assertEqual(client.lines(), ["* 4 EXISTS", "* 4 FETCH (UID 4 FLAGS ())"])
        self.assertIn("* 1 FETCH (UID 1 BODY[TEXT] {6}", client.ok("FETCH 1 (UID BODY.PEEK[TEXT])"))
        self.assertEqual(client.ok("FETCH 2 UID"), ["* 2 FETCH (UID 2)"])
        self.assertEqual(client.ok("NOOP"), ["* 1 EXPUNGE"])
        self.assertEqual(client.ok("FETCH 2 UID"), ["* 2 FETCH (UID 3)"])

    def test_too_many_removals_held(self) -> None:
        self.patch(notify, "MAX_HELD", 2)
        self.deliver(count=5)
        client = self.watching("SET (SELECTED-DELAYED (MessageNew MessageExpunge))")
        other = self.other()
        other.ok("STORE 1:3 +FLAGS.SILENT (\\Deleted)")
        other.ok("EXPUNGE")
        self.assertEqual(
            client.lines(), ["* OK [NOTIFICATIONOVERFLOW] too many changes: NOTIFY is off"]
        )
        self.deliver()
        self.assertEqual(client.lines(), [])
        self.assertEqual(client.ok("NOOP"), [])

    def test_qresync_and_uidonly(self) -> None:
        self.deliver(count=2)
        for name in ("QRESYNC", "UIDONLY"):
            client = self.login()
            client.ok(f"ENABLE {name}")
            client.ok("SELECT Inbox")
            client.ok("NOTIFY SET (SELECTED (MessageNew (UID FLAGS) MessageExpunge))")
            self.deliver()
            lines = client.lines()
            self.assertTrue(lines[0].endswith("EXISTS"), lines)
            self.assertIn("UIDFETCH" if name == "UIDONLY" else "FETCH (UID", lines[1])
            other = self.other()
            other.ok("STORE 1 +FLAGS.SILENT (\\Deleted)")
            other.ok("EXPUNGE")
            self.assertTrue(client.lines()[-1].startswith("* VANISHED "))

    def test_not_without_selector(self) -> None:
        client = self.watching(f"SET (INBOXES {EVENTS})")
        self.deliver()
        self.assertEqual(client.lines(), [])
        self.assertEqual(client.ok("NOOP"), [])

    def test_none(self) -> None:
        client = self.watching("NONE")
        self.deliver()
        self.other().ok("CREATE Box")
        self.assertEqual(client.lines(), [])
        self.assertEqual(client.ok("NOOP"), [])
        # What happened until then comes with the next NOTIFY.
        self.assertEqual(
            client.ok(f"NOTIFY SET (SELECTED {EVENTS})")[-2:],
            ["* 1 EXISTS", "* 1 FETCH (UID 1 FLAGS ())"],
        )

    def test_part_of_a_command_waits(self) -> None:
        client = self.watching(f"SET (SELECTED {EVENTS})")
        client.send(b"a NO")
        self.deliver()
        self.assertEqual(client.lines(), ["* 1 EXISTS", "* 1 FETCH (UID 1 FLAGS ())"])
        client.send(b"OP\r\n")
        self.assertEqual(client.lines(), ["a OK NOOP done"])

    def test_idle(self) -> None:
        client = self.watching(f"SET (SELECTED {EVENTS}) (PERSONAL (MailboxName))")
        client.send(b"a IDLE\r\n")
        client.lines()
        self.deliver()
        self.assertEqual(client.lines(), ["* 1 EXISTS", "* 1 FETCH (UID 1 FLAGS ())"])
        self.login().ok("CREATE Box")
        self.assertEqual(client.lines(), ['* LIST () "/" Box'])


class OthersTests(NotifyCase):
    def test_status(self) -> None:
        client = self.login()
        for name in ("One", "Two"):
            client.ok(f"CREATE {name}")
        client.ok("SELECT Inbox")
        names = "(MAILBOXES (One Two Inbox)"
        lines = client.ok(f"NOTIFY SET STATUS (SELECTED {EVENTS}) {names} {EVENTS})")
        self.assertEqual(
            plain(lines),
            [
                "* STATUS One (MESSAGES 0 UIDNEXT 1 UIDVALIDITY 1 UNSEEN 0)",
                "* STATUS Two (MESSAGES 0 UIDNEXT 1 UIDVALIDITY 1 UNSEEN 0)",
            ],
        )

    def test_changes_of_other_mailboxes(self) -> None:
        other = self.other()
        other.ok("CREATE One")
        other.ok("CREATE Two")
        client = self.watching(f"SET (MAILBOXES One {EVENTS})", select="")
        self.deliver()
        other.ok("NOOP")
        other.ok("COPY 1 One")
        self.assertEqual(client.lines(), ["* STATUS One (UIDNEXT 2 MESSAGES 1 UNSEEN 1)"])
        other.ok("COPY 1 Two")
        self.assertEqual(client.lines(), [])
        other.ok("SELECT One")
        other.ok("STORE 1 +FLAGS (\\Seen)")
        self.assertEqual(plain(client.lines()), ["* STATUS One (UIDVALIDITY 1 UNSEEN 0)"])
        other.ok("STORE 1 +FLAGS (\\Deleted)")
        other.ok("EXPUNGE")
        self.assertEqual(client.lines(), ["* STATUS One (UIDNEXT 2 MESSAGES 0 UNSEEN 0)"])

    def test_modseq_with_condstore(self) -> None:
        self.other().ok("CREATE One")
        client = self.login()
        client.ok("ENABLE CONDSTORE")
        lines = client.ok(f"NOTIFY SET STATUS (SUBTREE One {EVENTS})")
        self.assertIn("HIGHESTMODSEQ", lines[0])
        other = self.other()
        self.deliver()
        other.ok("NOOP")
        other.ok("COPY 1 One")
        self.assertIn("HIGHESTMODSEQ", client.lines()[0])

    def test_first_filter_decides(self) -> None:
        self.other().ok("CREATE Quiet")
        client = self.watching(f"SET (MAILBOXES Quiet NONE) (PERSONAL {EVENTS})", select="")
        other = self.other()
        self.deliver()
        self.assertEqual(client.lines(), ["* STATUS Inbox (UIDNEXT 2 MESSAGES 1 UNSEEN 1)"])
        other.ok("NOOP")
        other.ok("COPY 1 Quiet")
        self.assertEqual(client.lines(), [])

    def test_names(self) -> None:
        client = self.watching("SET (PERSONAL (MailboxName))")
        other = self.login()
        other.ok("CREATE Box")
        self.assertEqual(client.lines(), ['* LIST () "/" Box'])
        other.ok("RENAME Box Carton")
        self.assertEqual(client.lines(), ['* LIST () "/" Carton ("OLDNAME" (Box))'])
        other.ok("DELETE Carton")
        self.assertEqual(client.lines(), ['* LIST (\\NonExistent) "/" Carton'])

    def test_names_of_a_subtree_only(self) -> None:
        client = self.watching("SET (SUBTREE Work (MailboxName))")
        other = self.login()
        other.ok("CREATE Home/a")
        self.assertEqual(client.lines(), [])
        other.ok("CREATE Work/b")
        self.assertEqual(client.lines(), ['* LIST () "/" Work', '* LIST () "/" Work/b'])
        # That was told by what NOTIFY asked for, and is not told again.
        client.ok("NOTIFY SET (PERSONAL (MailboxName))")
        self.assertEqual(client.ok("NOOP"), [])

    def test_subscriptions(self) -> None:
        client = self.watching("SET (PERSONAL (SubscriptionChange))")
        other = self.login()
        other.ok("UNSUBSCRIBE Trash")
        self.assertEqual(client.lines(), ['* LIST () "/" Trash'])
        other.ok("SUBSCRIBE Trash")
        self.assertEqual(client.lines(), ['* LIST (\\Subscribed) "/" Trash'])
        other.ok("SUBSCRIBE Nope")
        self.assertEqual(client.lines(), ['* LIST (\\Subscribed \\NonExistent) "/" Nope'])

    def test_subscribed_ones(self) -> None:
        other = self.other()
        other.ok("UNSUBSCRIBE Trash")
        client = self.watching(f"SET (SUBSCRIBED {EVENTS})", select="")
        self.deliver()
        client.lines()
        other.ok("NOOP")
        other.ok("COPY 1 Trash")
        self.assertEqual(client.lines(), [])
        other.ok("SUBSCRIBE Trash")
        other.ok("COPY 1 Trash")
        self.assertEqual(client.lines(), ["* STATUS Trash (UIDNEXT 3 MESSAGES 2 UNSEEN 2)"])

    def test_metadata(self) -> None:
        client = self.watching("SET (MAILBOXES Inbox (MailboxMetadataChange ServerMetadataChange))")
        inbox = job(self.store, mailboxes.find, self.account.id, "Inbox").id
        value = [("/private/a", Value(b"x", True))]
        job(self.store, annotations.change, self.account.id, inbox, value)
        self.assertEqual(client.lines(), ["* METADATA Inbox /private/a"])
        trash = job(self.store, mailboxes.find, self.account.id, "Trash").id
        job(self.store, annotations.change, self.account.id, trash, value)
        self.assertEqual(client.lines(), [])
        client.ok("NOTIFY SET (PERSONAL (ServerMetadataChange))")
        job(self.store, annotations.change, self.account.id, 0, value)
        self.assertEqual(client.lines(), ['* METADATA "" /private/a'])


class SyntaxTests(NotifyCase):
    def test_unknown_events(self) -> None:
        client = self.login()
        for text in (
            "SET (PERSONAL (MessageNew MessageExpunge AnnotationChange))",
            "SET (PERSONAL (Nope))",
        ):
            self.assertEqual(
                client.command(f"NOTIFY {text}"),
                [f"t NO [BADEVENT ({' '.join(notify.EVENTS)})] event is not supported"],
            )

    def test_bad(self) -> None:
        client = self.login()
        for text in (
            "",
            "SET",
            "SET STATUS",
            "MAYBE",
            "NONE x",
            "SET PERSONAL (MailboxName)",
            "SET (PERSONAL)",
            "SET (PERSONAL ())",
            "SET (NOWHERE (MailboxName))",
            "SET (MAILBOXES (MailboxName))",
            "SET (PERSONAL (MessageNew))",
            "SET (PERSONAL (MessageExpunge))",
            "SET (PERSONAL (FlagChange))",
            "SET (SELECTED (MailboxName))",
            f"SET (SELECTED {EVENTS}) (SELECTED-DELAYED {EVENTS})",
            f"SET (SELECTED {EVENTS}) (SELECTED NONE)",
            "SET (SELECTED (MessageNew (NOPE) MessageExpunge))",
            f"SET (SELECTED {EVENTS})(PERSONAL (MailboxName))",
        ):
            lines = client.command(f"NOTIFY {text}")
            self.assertTrue(lines[-1].startswith("t BAD"), (text, lines))

    def test_words_in_any_case(self) -> None:
        self.login().ok("notify set status (personal (messagenew messageexpunge flagchange))")
