"""NOTIFY (RFC 5465)."""

from __future__ import annotations

import random
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
        self.assertEqual(client.lines(), ['* LIST (\\HasNoChildren \\Subscribed) "/" Box'])


class SilenceTests(NotifyCase):
    """Nobody is told of the selected mailbox; what the client shows must stay true."""

    def read(self, client: Client, uid: int) -> list[str]:
        return client.ok(f"UID FETCH {uid} BODY.PEEK[TEXT]")

    def test_own_changes_do_not_hide_those_of_others(self) -> None:
        self.deliver(count=3)
        for text in ("NONE", f"SET (PERSONAL {EVENTS})"):
            client, other = self.watching(text), self.other()
            last = len(client.protocol.session.view.uids)  # type: ignore[union-attr]
            other.ok(f"STORE {last} +FLAGS.SILENT (\\Deleted)")
            other.ok("EXPUNGE")
            self.assertEqual(client.ok("NOOP"), [])
            client.ok("STORE 1 +FLAGS.SILENT (\\Seen)")
            client.ok("STORE 1 -FLAGS.SILENT (\\Seen)")
            client.ok("CREATE x")
            client.ok("DELETE x")
            other.ok("NOOP")
            self.clock.advance(60)
            # Its content is kept as long as it is shown.
            self.assertTrue(self.read(client, last), text)
            self.assertEqual(len(client.ok("FETCH 1:* UID")), last)
            lines = client.ok(f"NOTIFY SET (SELECTED {EVENTS})")
            self.assertEqual(lines, [f"* {last} EXPUNGE"])
            client.transport.loseConnection()

    def test_others_do_not_take_over_what_is_held(self) -> None:
        self.deliver(count=3)
        client = self.watching(f"SET (SELECTED-DELAYED {EVENTS})")
        other = self.other()
        other.ok("STORE 2 +FLAGS.SILENT (\\Deleted)")
        client.lines()
        other.ok("EXPUNGE")
        self.deliver()
        self.assertEqual(client.lines(), ["* 4 EXISTS", "* 4 FETCH (UID 4 FLAGS ())"])
        self.assertIn("* 3 EXISTS", self.login().ok("SELECT Inbox"))
        client.ok("STORE 3 +FLAGS.SILENT (\\Seen)")
        client.ok("STORE 4 +FLAGS.SILENT (\\Seen)")
        self.clock.advance(60)
        self.assertEqual(len(client.ok("FETCH 1:* UID")), 4)
        self.assertIn("* 3 EXISTS", self.login().ok("SELECT Inbox"))

    def test_held_ones_stay_readable(self) -> None:
        self.deliver(count=3)
        client = self.watching(f"SET (SELECTED-DELAYED {EVENTS})")
        other = self.other()
        other.ok("STORE 2 +FLAGS.SILENT (\\Deleted)")
        other.ok("EXPUNGE")
        client.lines()
        client.ok("STORE 3 +FLAGS.SILENT (\\Seen)")
        self.clock.advance(60)
        self.assertIn("* 2 FETCH (UID 2 BODY[TEXT] {6}", client.ok("FETCH 2 BODY.PEEK[TEXT]"))
        # NONE tells nothing; the next SET tells what was held.
        self.assertEqual(client.ok("NOTIFY NONE"), [])
        self.assertEqual(client.ok("NOOP"), [])
        self.assertEqual(client.ok("NOTIFY SET (PERSONAL (MailboxName))"), ["* 2 EXPUNGE"])
        self.assertEqual(client.ok("FETCH 2 UID"), ["* 2 FETCH (UID 3)"])

    def test_idle(self) -> None:
        client = self.watching("NONE")
        client.send(b"a IDLE\r\n")
        self.deliver()
        self.login().ok("CREATE x")
        self.assertEqual(client.lines(), ["+ idling"])
        self.assertTrue(client.protocol.waiting)
        client.send(b"DONE\r\nb NOOP\r\n")
        self.assertEqual(client.lines(), ["a OK IDLE done", "b OK NOOP done"])

    def test_results_of_searches_are_told(self) -> None:
        # RFC 5267 4.3: that has nothing to do with NOTIFY.
        self.deliver(count=3)
        client = self.watching("SET (PERSONAL (MailboxName))")
        client.send(b"x SEARCH RETURN (UPDATE ALL) UNSEEN OLDER 1000000\r\n")
        client.ok("SEARCH RETURN (UPDATE COUNT) UNSEEN")
        self.other().ok("STORE 2 +FLAGS.SILENT (\\Seen)")
        self.assertEqual(client.lines(), ['* ESEARCH (TAG "t") REMOVEFROM (0 2)'])
        self.clock.advance(600)
        self.deliver()
        self.assertTrue(client.protocol.waiting)
        self.assertEqual(client.ok("NOOP"), [])

    def test_own_appends(self) -> None:
        client = self.watching("SET (PERSONAL (MessageNew MessageExpunge))")
        [line] = client.command("APPEND Inbox {1+}\r\nx")
        self.assertIn("APPENDUID", line)
        self.assertEqual(client.ok("NOOP"), [])
        self.assertEqual(
            client.ok(f"NOTIFY SET (SELECTED {EVENTS})"),
            ["* 1 EXISTS"],
        )


class OrderTests(NotifyCase):
    def test_new_messages_come_before_the_results_they_are_in(self) -> None:
        # RFC 5465 5.2.
        client = self.watching("SET (SELECTED (MessageNew (FLAGS) MessageExpunge))")
        client.ok("SEARCH RETURN (UPDATE COUNT) ALL")
        self.deliver()
        self.assertEqual(
            client.lines(),
            [
                "* 1 EXISTS",
                "* 1 FETCH (UID 1 FLAGS ())",
                '* ESEARCH (TAG "t") ADDTO (0 1)',
            ],
        )

    def test_items_of_messages_that_come_into_results(self) -> None:
        # RFC 5465 7.
        for command in ("SEARCH RETURN (COUNT UPDATE (BODY[TEXT] FLAGS)) UNSEEN",
                        "SORT RETURN (COUNT UPDATE (BODY[TEXT] FLAGS)) (ARRIVAL) UTF-8 UNSEEN",
                        "UID SEARCH RETURN (UPDATE (BODY[TEXT] FLAGS) COUNT) UNSEEN"):  # fmt: skip
            client = self.selected()
            client.ok(command)
            client.send(b"a IDLE\r\n")
            count = len(client.protocol.session.view.uids)  # type: ignore[union-attr]
            client.lines()
            self.deliver()
            self.deliver(flags=1)
            lines = client.lines()
            self.assertEqual(
                [line for line in lines if "FLAGS ()" not in line or "BODY" in line],
                [
                    f"* {count + 1} EXISTS",
                    f"* {count + 1} FETCH (UID {count + 1} FLAGS () BODY[TEXT] {{6}}",
                    "body",
                    ")",
                    lines[5],
                    f"* {count + 2} EXISTS",
                    f"* {count + 2} FETCH (UID {count + 2} FLAGS (\\Seen))",
                ],
            )
            self.assertIn("ADDTO", lines[5])
            # Not when flags bring a message in.
            other = self.other()
            other.ok("STORE * -FLAGS (\\Seen)")
            self.assertNotIn("BODY", " ".join(client.lines()))
            client.transport.loseConnection()

    def test_answers_to_appends_come_with_what_they_made(self) -> None:
        client = self.watching(f"SET (SELECTED {EVENTS})")
        client.send(b"a APPEND Inbox {1+}\r\nx\r\nb APPEND Inbox {1+}\r\ny\r\n")
        lines = client.lines()
        self.assertEqual([line for line in lines if "FETCH" in line], [])
        self.assertEqual([line[:5] for line in lines if " OK " in line], ["a OK ", "b OK "])
        self.deliver()
        self.assertEqual(client.lines(), ["* 3 EXISTS", "* 3 FETCH (UID 3 FLAGS ())"])

    def test_own_messages_are_not_fetched(self) -> None:
        client = self.watching("SET (SELECTED (MessageNew (FLAGS) MessageExpunge))")
        lines = client.command("APPEND Inbox {1+}\r\nx")
        self.assertEqual(lines[0], "* 1 EXISTS")
        self.assertEqual(len(lines), 2)

    def test_other_uidvalidity(self) -> None:
        self.deliver(mailbox="Box")
        client = self.watching(f"SET (SELECTED {EVENTS})", select="Box")
        self.login().ok("RENAME Box Carton")
        validity = self.mailbox("Carton").uidvalidity
        self.assertEqual(
            client.lines(), [f"* OK [UIDVALIDITY {validity}] with its new name"]
        )

    def test_modseq_among_the_items_enables_condstore(self) -> None:
        client = self.login()
        client.ok("SELECT Inbox")
        [line] = client.ok("NOTIFY SET (SELECTED (MessageNew (MODSEQ) MessageExpunge))")
        self.assertTrue(line.startswith("* OK [HIGHESTMODSEQ "), line)
        self.deliver()
        self.assertRegex(client.lines()[1], r"^\* 1 FETCH \(UID 1 MODSEQ \(\d+\)\)$")
        client.ok("NOTIFY SET (SELECTED (MessageNew (FLAGS) MessageExpunge))")
        self.deliver()
        self.assertIn("FLAGS () MODSEQ (", client.lines()[1])


class OwnTests(NotifyCase):
    def test_own_changes_are_not_told(self) -> None:
        # RFC 5465 5.
        self.deliver(count=2)
        client = self.watching(
            f"SET (SELECTED {EVENTS}) (PERSONAL (MessageNew MessageExpunge FlagChange MailboxName"
            " SubscriptionChange MailboxMetadataChange ServerMetadataChange))"
        )
        other = self.other()
        for command in (
            "COPY 1 Sent", "SUBSCRIBE later", "UNSUBSCRIBE Trash", "CREATE a/b", "RENAME a c",
            "DELETE c/b", 'SETMETADATA "" (/private/a "x")', 'SETMETADATA Sent (/private/a "x")',
            "UID MOVE 2 Trash", "APPEND Drafts {1+}\r\nx",
        ):  # fmt: skip
            # With a change by somebody else just before, and without.
            other.ok("CREATE z")
            other.ok("DELETE z")
            lines = [line for line in client.command(command)[:-1] if " z" not in line]
            self.assertEqual(
                [line for line in lines if "EXPUNGE" not in line and "COPYUID" not in line], []
            )
            self.assertEqual([line for line in client.lines() if " z" not in line], [], command)
        other.ok("UNSUBSCRIBE later")
        self.assertEqual(client.lines(), ['* LIST (\\NonExistent) "/" later'])

    def test_own_flags_on_what_is_new_from_others(self) -> None:
        other = self.other()
        client = self.watching(f"SET (PERSONAL {EVENTS})", select="")
        client.send(b"a NO")
        self.deliver(mailbox="Sent")
        self.assertEqual(client.lines(), ["* STATUS Sent (UIDNEXT 2 MESSAGES 1 UNSEEN 1)"])
        other.ok("SELECT Sent")
        other.ok("STORE 1 +FLAGS (\\Flagged)")
        # Without CONDSTORE, too, and though no count has changed.
        self.assertEqual(
            plain(client.lines()), ["* STATUS Sent (UIDVALIDITY 1 UNSEEN 1)"]
        )


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
                "* STATUS One (MESSAGES 0 UIDNEXT 1 UIDVALIDITY 1 UNSEEN 0 HIGHESTMODSEQ 3)",
                "* STATUS Two (MESSAGES 0 UIDNEXT 1 UIDVALIDITY 1 UNSEEN 0 HIGHESTMODSEQ 4)",
            ],
        )
        # Changes of flags are seen by it; it says nothing about new messages.
        lines = client.ok(f"NOTIFY SET STATUS {names} (MessageNew MessageExpunge))")
        self.assertNotIn("HIGHESTMODSEQ", lines[0])

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
        client.lines()
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
        # RFC 5465 5.4's examples, with attributes as it wants them.
        known = "(\\HasNoChildren \\Subscribed)"
        other.ok("CREATE Box")
        self.assertEqual(client.lines(), [f'* LIST {known} "/" Box'])
        other.ok("RENAME Box Carton")
        self.assertEqual(client.lines(), [f'* LIST {known} "/" Carton ("OLDNAME" (Box))'])
        other.ok("UNSUBSCRIBE Carton")
        self.assertEqual(client.lines(), [])
        other.ok("DELETE Carton")
        self.assertEqual(client.lines(), ['* LIST (\\NonExistent) "/" Carton'])
        other.ok("CREATE Tr&AOQ-sh (USE (\\Trash))")
        self.assertEqual(
            client.lines(), ['* LIST (\\HasNoChildren \\Subscribed \\Trash) "/" Tr&AOQ-sh']
        )

    def test_names_of_a_subtree_only(self) -> None:
        client = self.watching("SET (SUBTREE Work (MailboxName))")
        other = self.login()
        other.ok("CREATE Home/a")
        self.assertEqual(client.lines(), [])
        other.ok("CREATE Work/b")
        self.assertEqual(client.lines(), [
            '* LIST (\\HasChildren \\Subscribed) "/" Work',
            '* LIST (\\HasNoChildren \\Subscribed) "/" Work/b',
        ])  # fmt: skip
        # That was told by what NOTIFY asked for, and is not told again.
        client.ok("NOTIFY SET (PERSONAL (MailboxName))")
        self.assertEqual(client.ok("NOOP"), [])

    def test_subscriptions(self) -> None:
        client = self.watching("SET (PERSONAL (SubscriptionChange))")
        other = self.login()
        other.ok("UNSUBSCRIBE Trash")
        self.assertEqual(client.lines(), ['* LIST (\\HasNoChildren \\Trash) "/" Trash'])
        other.ok("SUBSCRIBE Trash")
        self.assertEqual(client.lines(), [
            '* LIST (\\HasNoChildren \\Subscribed \\Trash) "/" Trash'
        ])  # fmt: skip
        other.ok("SUBSCRIBE Nope")
        self.assertEqual(client.lines(), ['* LIST (\\NonExistent \\Subscribed) "/" Nope'])

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
        job(self.store, annotations.change, self.account.id, 0, [("/private/a", None)])
        self.assertEqual(client.lines(), ['* METADATA "" /private/a'])
        # The filter is of no matter: no mailbox is meant.
        client.ok("NOTIFY SET (MAILBOXES nope (ServerMetadataChange))")
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
            "SET (PERSONAL (MessageNew (FLAGS) MessageExpunge))",
            "SET (SELECTED (MessageNew () MessageExpunge))",
            "SET (SELECTED (MailboxName)) (SELECTED-DELAYED (MailboxName))",
            "SET STATUS ()",
            "SET (PERSONAL MessageNew)",
            f"SET (SELECTED {EVENTS})(PERSONAL (MailboxName))",
        ):
            lines = client.command(f"NOTIFY {text}")
            self.assertTrue(lines[-1].startswith("t BAD"), (text, lines))

    def test_too_many_groups(self) -> None:
        names = " ".join(map(str, range(1001)))
        for groups in (" ".join(["(PERSONAL NONE)"] * 101), f"(MAILBOXES ({names}) (MailboxName))"):
            [line] = self.login().command("NOTIFY SET " + groups)
            self.assertTrue(line.startswith("t NO [NOTIFICATIONOVERFLOW] "), line)

    def test_words_in_any_case(self) -> None:
        self.login().ok("notify set status (personal (messagenew messageexpunge flagchange))")


class Picture:
    """What a client makes of what it is told of mailboxes."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.names: set[str] = set()
        self.subscribed: set[str] = set()
        self.counts: dict[str, dict[str, int]] = {}
        for line in client.ok('LIST (SUBSCRIBED) "" *'):
            self.subscribed.add(line.split()[-1])
        for line in client.ok('LIST "" * RETURN (STATUS (MESSAGES UIDNEXT UNSEEN))'):
            if line.startswith("* LIST"):
                self.names.add(line.split()[-1])
            else:
                self.status(line)

    def status(self, line: str) -> None:
        name, rest = line.removeprefix("* STATUS ").rstrip(")").split(" (")
        words = rest.split()
        pairs = zip(words[::2], map(int, words[1::2]), strict=True)
        self.counts.setdefault(name, {}).update(pairs)

    def take(self, line: str) -> None:
        if line.startswith("* STATUS "):
            self.status(line)
            return
        match = re.fullmatch(r'\* LIST \((.*?)\) "/" (\S+)(?: \("OLDNAME" \((\S+)\)\))?', line)
        assert match, line
        attributes, name, old = match.groups()
        (self.subscribed.add if "\\Subscribed" in attributes else self.subscribed.discard)(name)
        if "\\NonExistent" in attributes:
            self.names.discard(name)
            self.counts.pop(name, None)
            return
        self.names.add(name)
        zero = {"MESSAGES": 0, "UIDNEXT": 1, "UNSEEN": 0}
        if old is not None:
            self.names.remove(old)
            self.counts[name] = self.counts.pop(old)
        else:
            self.counts.setdefault(name, zero)


class PictureTests(NotifyCase):
    """Others do what they like with mailboxes; who watches knows of all that they did."""

    def test_pictures_stay_true(self) -> None:
        for seed in range(4):
            self.check(random.Random(seed))

    def check(self, rng: random.Random) -> None:
        watcher, others = self.login(), [self.login() for _ in range(2)]
        picture = Picture(watcher)
        watcher.ok(
            "NOTIFY SET (PERSONAL (MessageNew MessageExpunge FlagChange MailboxName"
            " SubscriptionChange))"
        )
        names = ["a", "b", "a/x", "a/y", "b/x", "b/x/z", "c", "Inbox", "Sent"]
        for _ in range(120):
            one, two = rng.choice(names), rng.choice(names)
            client = rng.choice(others)
            for command in rng.choice(
                (
                    [f"CREATE {one}"], [f"DELETE {one}"], [f"RENAME {one} {two}"],
                    [f"SUBSCRIBE {one}"], [f"UNSUBSCRIBE {one}"], [f"SELECT {one}"],
                    [f"APPEND {one} {{1+}}\r\nx"], [f"APPEND {one} {{1+}}\r\nx"],
                    [f"SELECT {one}", "STORE 1 +FLAGS.SILENT (\\Seen)", f"COPY 1 {two}"],
                    [f"SELECT {one}", "STORE 1 +FLAGS.SILENT (\\Deleted)", "EXPUNGE"],
                    [f"SELECT {one}", f"MOVE 1 {two}"], [f"SELECT {one}", "UNSELECT"],
                )
            ):  # fmt: skip
                client.command(command)
            if rng.random() < 0.6:
                for line in watcher.lines():
                    picture.take(line)
        for line in watcher.lines():
            picture.take(line)
        fresh = Picture(self.login())
        self.assertEqual(picture.names, fresh.names)
        self.assertEqual(picture.subscribed & fresh.names, fresh.subscribed & fresh.names)
        self.assertEqual(picture.subscribed, fresh.subscribed)
        for name, counts in fresh.counts.items():
            told = {key: picture.counts[name][key] for key in counts}
            self.assertEqual(told, counts, name)
        for client in (watcher, fresh.client, *others):
            client.transport.loseConnection()
        # New connections are limited by the minute.
        self.clock.advance(61)
