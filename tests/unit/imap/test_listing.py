"""LIST and LSUB by the examples of RFC 5258, 5819, 6154 and 9051; names of every kind."""

from __future__ import annotations

import re

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from moxtw.imap import names
from moxtw.imap.commands import listing
from moxtw.store import mailboxes
from moxtw.store.errors import InvalidMailboxName
from tests.support.store import job
from tests.unit.imap.support import Client, IMAPTestCase


class ListCase(IMAPTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.client = self.login()
        for name in ("Archive", "Drafts", "Junk", "Sent", "Trash"):
            self.client.ok(f"DELETE {name}")
            self.client.ok(f"UNSUBSCRIBE {name}")

    def make(self, *names: str, subscribed: tuple[str, ...] = ()) -> None:
        """Make mailboxes; of them and of all names only those in `subscribed` are."""
        for name in names:
            self.mailbox(name)
        account_id = self.account.id
        for name in job(self.store, mailboxes.subscriptions_of, account_id):
            job(self.store, mailboxes.unsubscribe, account_id, name)
        for name in subscribed:
            self.client.ok(f"SUBSCRIBE {name}")

    def listed(self, command: str, client: Client | None = None) -> list[str]:
        """What LIST answers, without what all lines have."""
        lines = (client or self.client).ok(command)
        return [re.sub(r"^\* LIST \((.*?)\) \"/\" ", r"\1 ", line).strip() for line in lines]


class ExampleTests(ListCase):
    """RFC 5258 section 5; names that are not there exist only as subscriptions."""

    def fruit(self) -> None:
        self.make(
            "Fruit", "Fruit/Apple", "Fruit/Banana", "Tofu", "Vegetable", "Vegetable/Broccoli",
            "Vegetable/Corn",
            subscribed=("Inbox", "Fruit/Banana", "Fruit/Peach", "Vegetable", "Vegetable/Broccoli"),
        )  # fmt: skip

    def test_plain(self) -> None:
        self.fruit()
        self.assertEqual(
            self.listed('LIST "" "*"'),
            [
                "\\HasChildren Fruit",
                "\\HasNoChildren Fruit/Apple",
                "\\HasNoChildren Fruit/Banana",
                "\\HasNoChildren Inbox",
                "\\HasNoChildren Tofu",
                "\\HasChildren Vegetable",
                "\\HasNoChildren Vegetable/Broccoli",
                "\\HasNoChildren Vegetable/Corn",
            ],
        )

    def test_subscribed(self) -> None:
        self.fruit()
        self.assertEqual(
            self.listed('LIST (SUBSCRIBED) "" "*"'),
            [
                "\\Subscribed Fruit/Banana",
                "\\NonExistent \\Subscribed Fruit/Peach",
                "\\Subscribed Inbox",
                "\\Subscribed Vegetable",
                "\\Subscribed Vegetable/Broccoli",
            ],
        )

    def test_children(self) -> None:
        self.fruit()
        for select in ("()", "(REMOTE)"):
            self.assertEqual(
                self.listed(f'LIST {select} "" "%" RETURN (CHILDREN)'),
                [
                    "\\HasChildren Fruit",
                    "\\HasNoChildren Inbox",
                    "\\HasNoChildren Tofu",
                    "\\HasChildren Vegetable",
                ],
            )
        self.assertEqual(
            self.listed('LIST (REMOTE SUBSCRIBED) "" "*ea%"'),
            ["\\NonExistent \\Subscribed Fruit/Peach"],
        )

    def test_return_subscribed(self) -> None:
        self.fruit()
        self.assertEqual(
            self.listed('LIST (REMOTE) "" "*an*" RETURN (SUBSCRIBED)'),
            ["\\Subscribed Fruit/Banana"],
        )
        # What does not exist is told to those only who select by subscription.
        self.assertEqual(self.listed('LIST "" "*Peach" RETURN (SUBSCRIBED)'), [])

    def test_several_patterns(self) -> None:
        self.make("Drafts", "Sent", "Sent/March2004", "Sent/December2003", "Sent/August2004")
        self.assertEqual(
            self.listed('LIST "" ("INBOX" "Drafts" "Sent/%")'),
            ["Drafts", "Inbox", "Sent/August2004", "Sent/December2003", "Sent/March2004"],
        )

    def test_recursive_match(self) -> None:
        self.make("Foo", "Foo/Bar", "Foo/Baz", "Moo")
        self.assertEqual(
            self.listed('LIST "" "%" RETURN (CHILDREN)'),
            ["\\HasChildren Foo", "\\HasNoChildren Inbox", "\\HasNoChildren Moo"],
        )
        self.client.ok("SUBSCRIBE Foo/Baz")
        self.assertEqual(
            self.listed('LIST (SUBSCRIBED RECURSIVEMATCH) "" "%" RETURN (CHILDREN)'),
            ['\\HasChildren Foo ("CHILDINFO" ("SUBSCRIBED"))'],
        )
        self.client.ok("UNSUBSCRIBE Foo/Baz")
        self.client.ok("SUBSCRIBE Moo")
        self.assertEqual(
            self.listed('LIST (RECURSIVEMATCH SUBSCRIBED) "" "%" RETURN (CHILDREN)'),
            ["\\HasNoChildren \\Subscribed Moo"],
        )
        # A parent that is not there itself.
        self.client.ok("SUBSCRIBE Xyzzy/Plugh")
        self.assertEqual(
            self.listed('LIST (RECURSIVEMATCH SUBSCRIBED) "" "X%"'),
            ['\\NonExistent Xyzzy ("CHILDINFO" ("SUBSCRIBED"))'],
        )

    def test_parents_stand_for_names_that_are_not_shown(self) -> None:
        names = (
            "foo2", "foo2/bar1", "foo2/bar2", "baz2", "baz2/bar2", "baz2/bar22", "baz2/bar222",
            "eps2", "eps2/mamba", "qux2/bar2",
        )  # fmt: skip
        self.make(*names, subscribed=tuple(n for n in names if n not in ("foo2", "baz2")))
        child = ' ("CHILDINFO" ("SUBSCRIBED"))'
        self.assertEqual(
            self.listed('LIST (RECURSIVEMATCH SUBSCRIBED) "" "*2"'),
            [
                "\\Subscribed baz2/bar2",
                "\\Subscribed baz2/bar22",
                "\\Subscribed baz2/bar222",
                "\\Subscribed eps2" + child,
                "foo2" + child,
                "\\Subscribed foo2/bar2",
                "\\Subscribed qux2/bar2",
            ],
        )
        self.assertEqual(
            self.listed('LIST (RECURSIVEMATCH SUBSCRIBED) "" %'),
            ["baz2" + child, "\\Subscribed eps2" + child, "foo2" + child, "qux2" + child],
        )

    def test_nothing_to_match(self) -> None:
        self.assertEqual(self.client.ok('LIST "" ""'), [r'* LIST (\NoSelect) "/" ""'])
        self.assertEqual(self.client.ok('LIST (SUBSCRIBED) "" ""'), [])
        self.assertEqual(self.client.ok('LSUB "" ""'), [])

    def test_bad_options(self) -> None:
        for command in (
            'LIST (RECURSIVEMATCH) "" %', 'LIST (RECURSIVEMATCH REMOTE) "" %',
            'LIST (CHILDREN) "" %', 'LIST "" % RETURN (REMOTE)', 'LIST "" % RETURN',
            'LIST "" % RETURN (STATUS)', 'LIST "" % RETURN (STATUS ())', 'LIST "" ()',
            'LIST "" % RETURN (STATUS (NOPE))', 'LIST "" % (', "LIST", 'LIST ""',
            'LIST () "" (% ) ', 'LIST "" (' + "x " * 100 + "x)",
        ):  # fmt: skip
            [line] = self.client.command(command)
            self.assertTrue(line.startswith("t BAD "), (command, line))


class SpecialUseTests(ListCase):
    def setUp(self) -> None:
        super().setUp()
        self.make("ToDo", "Projects", "Projects/Work")
        self.client.ok("CREATE SentMail (USE (\\Sent))")
        self.client.ok("CREATE MyDrafts (USE (\\Drafts))")
        self.client.ok("CREATE Projects/Old (USE (\\Archive))")

    def test_plain_and_return(self) -> None:
        # RFC 6154 5.1 and 5.2: told in every case.
        for more in ("", " RETURN (SPECIAL-USE)", " RETURN ()"):
            found = self.listed('LIST "" %' + more)
            self.assertEqual([line.split()[-2:] for line in found if "SentMail" in line],
                             [["\\Sent", "SentMail"]])  # fmt: skip

    def test_selection(self) -> None:
        self.assertEqual(
            self.listed('LIST (SPECIAL-USE) "" "*"'),
            ["\\Drafts MyDrafts", "\\Archive Projects/Old", "\\Sent SentMail"],
        )
        self.assertEqual(self.listed('LIST (SPECIAL-USE) "" "%"'),
                         ["\\Drafts MyDrafts", "\\Sent SentMail"])  # fmt: skip
        self.assertEqual(
            self.listed('LIST (SPECIAL-USE RECURSIVEMATCH) "" "P%"'),
            ['Projects ("CHILDINFO" ("SPECIAL-USE"))'],
        )
        self.client.ok("UNSUBSCRIBE MyDrafts")
        self.assertEqual(
            self.listed('LIST (SPECIAL-USE SUBSCRIBED RECURSIVEMATCH) "" "%"'),
            [
                'Projects ("CHILDINFO" ("SUBSCRIBED" "SPECIAL-USE"))',
                "\\Subscribed \\Sent SentMail",
            ],
        )

    def test_create(self) -> None:
        # RFC 6154 5.3 and 5.4.
        self.transcript(
            self.client,
            r"""
            C: a CREATE MySpecial (USE (\Drafts \Sent))
            S: a OK [MAILBOXID (F…)] CREATE done
            C: b LIST (SPECIAL-USE) "" *
            S: * LIST (\Drafts \Sent) "/" MySpecial
            S: * LIST (\Archive) "/" Projects/Old
            S: b OK LIST done
            C: c CREATE Everything (USE (\All))
            S: c NO [USEATTR] unknown special use
            C: d CREATE Everything (USE (\Drafts \Flagged))
            S: d NO [USEATTR] unknown special use
            C: e CREATE Everything (USE ())
            S: e OK [MAILBOXID (F…)] CREATE done
            C: f CREATE x (USE (Drafts))
            S: f BAD …
            C: g CREATE x (USE)
            S: g BAD …
            C: h CREATE x ()
            S: h BAD …
            C: i CREATE x (NOPE (\Drafts))
            S: i BAD …
            """,
        )


class StatusTests(ListCase):
    def test_status(self) -> None:
        # RFC 5819 section 2 and 3.
        self.make("foo", "bar/baz", subscribed=("Inbox", "foo", "gone"))
        self.deliver(count=3, mailbox="foo")
        self.transcript(
            self.client,
            r"""
            C: a LIST "" % RETURN (STATUS (MESSAGES UNSEEN))
            S: * LIST () "/" Inbox
            S: * STATUS Inbox (MESSAGES 0 UNSEEN 0)
            S: * LIST () "/" bar
            S: * STATUS bar (MESSAGES 0 UNSEEN 0)
            S: * LIST () "/" foo
            S: * STATUS foo (MESSAGES 3 UNSEEN 3)
            S: a OK LIST done
            C: b LIST (SUBSCRIBED RECURSIVEMATCH) "" % RETURN (STATUS (MESSAGES))
            S: * LIST (\Subscribed) "/" Inbox
            S: * STATUS Inbox (MESSAGES 0)
            S: * LIST (\Subscribed) "/" foo
            S: * STATUS foo (MESSAGES 3)
            S: * LIST (\NonExistent \Subscribed) "/" gone
            S: b OK LIST done
            C: c LIST "" foo RETURN (STATUS (SIZE DELETED MAILBOXID HIGHESTMODSEQ))
            S: * LIST () "/" foo
            S: * STATUS foo (SIZE 210 DELETED 0 MAILBOXID (F…) HIGHESTMODSEQ …)
            S: c OK LIST done
            C: d FETCH 1 (UID)
            S: d NO …
            """,
        )
        self.assertTrue(self.client.protocol.session.condstore)  # type: ignore[union-attr]


class NoticeTests(ListCase):
    def test_lists_hold_only_what_was_asked_for(self) -> None:
        other = self.login()
        other.ok("CREATE new")
        self.assertEqual(self.client.ok('LIST "" S*'), [])
        self.assertEqual(self.client.ok('LSUB "" S*'), [])
        self.assertEqual(self.client.ok("NOOP"), ['* LIST () "/" new'])
        # Nor is there any of the own making, where those without rev2 could mistake it.
        self.assertEqual(self.client.ok("CREATE other/x"), [])
        self.assertEqual(self.client.ok("RENAME other another"), [])
        lines = self.client.ok("SELECT new")
        self.assertFalse([line for line in lines if "LIST" in line])


class LongTests(ListCase):
    def test_in_pieces(self) -> None:
        self.make(*(f"a/{n}" for n in range(50)))
        self.client.ok('SETMETADATA a/7 (/private/comment "seven")')
        command = 'LIST "" a* RETURN (STATUS (MESSAGES) METADATA (/private/comment))'
        whole = self.client.ok(command)
        self.assertEqual(len(whole), 51 * 3)
        self.assertIn('* METADATA a/7 (/private/comment "seven")', whole)
        self.assertIn("* METADATA a/8 (/private/comment NIL)", whole)
        self.patch(listing, "_MAX_WORK", 1000)
        [line] = self.client.command('LIST "" (' + " ".join(["x"] * 30) + ")")
        self.assertEqual(line, "t NO [LIMIT] too many patterns for so many mailboxes")
        self.patch(listing, "_PIECE", 100)
        self.assertEqual(self.client.ok(command), whole)


class ReferenceTests(ListCase):
    def test_reference_and_pattern_are_joined_like_a_path(self) -> None:
        self.make("a", "a/b", "a/b/c", "ab")
        for reference, pattern, found in (
            ("a", "%", ["a/b"]),
            ("a/", "%", ["a/b"]),
            ("a", "*", ["a/b", "a/b/c"]),
            ("a/b", "c", ["a/b/c"]),
            ("A", "b", []),
            ("a", "/b", []),
            ("a/%", "%", ["a/b/c"]),
            ("inbox", "%", []),
            ("", "iNBoX", ["Inbox"]),
            ("", "i%", ["Inbox"]),
            ("", "a%/c", []),
            ("", "a*c", ["a/b/c"]),
        ):
            lines = self.listed(f'LIST "{reference}" "{pattern}" RETURN ()')
            self.assertEqual(lines, found, (reference, pattern))


class NameTests(IMAPTestCase):
    def test_awkward_names(self) -> None:
        """Each legal name can be made, listed, selected and removed in both spellings."""
        old, new = self.login(), self.login()
        new.ok("ENABLE IMAP4rev2")
        for name in (
            "NIL", "a b", 'quo"te', "back\\slash", "per%cent", "st*ar", "(x)", "{5}", "[y]", "~z",
            "&", "a&b", "&-", "&AOQ-x", "ä", "日本語/台北", "😀", "x😀&y", "\u00a0", "\ufffd",
            "a+b,c", "INBOXES", "Inbox2", "lower/inbox", "'", "-", ".x", "x.", "..x", "a.b.c",
        ):  # fmt: skip
            for client, utf8 in ((old, False), (new, True)):
                wire = names.encode(name, utf8)
                quoted = wire.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
                for command in (b'CREATE "%b"', b'STATUS "%b" (MESSAGES)', b'SELECT "%b"'):
                    client.send(b"t " + command % quoted + b"\r\n")
                    self.assertIn(b"t OK ", client.output(), (name, command))
                # As a literal, and as a pattern that is the name itself.
                client.send(b'l LIST "" {%d+}\r\n%b RETURN (SUBSCRIBED)\r\n' % (len(wire), wire))
                found = client.responses()
                listed = [r.data["name"] for r in found if r.name == "LIST"]
                self.assertIn(wire, listed, name)
                client.send(b'u UNSELECT\r\nd DELETE "%b"\r\n' % quoted)
                self.assertIn(b"d OK ", client.output(), name)

    @given(st.text(max_size=40))
    @settings(
        max_examples=200, deadline=None, suppress_health_check=[HealthCheck.differing_executors]
    )
    def test_spellings(self, name: str) -> None:
        try:
            name = mailboxes.valid_name(name)
        except InvalidMailboxName:
            return
        for utf8 in (False, True):
            self.assertEqual(names.decode(names.encode(name, utf8), utf8), name)

    def test_inbox_in_any_case(self) -> None:
        client = self.login()
        for name in ("INBOX", "inbox", "InBoX", '"Inbox"'):
            for command in ("SELECT", "EXAMINE", "SUBSCRIBE", "UNSUBSCRIBE"):
                client.ok(f"{command} {name}")
            [line] = client.ok(f"STATUS {name} (MESSAGES)")
            self.assertEqual(line, "* STATUS Inbox (MESSAGES 0)")
            for command in ("CREATE", "DELETE"):
                self.assertIn(" NO [", client.command(f"{command} {name}")[-1])
        client.ok("CREATE inbox/Sub")
        self.assertEqual(
            client.ok('LIST "" INBOX/%'), ['* LIST (\\HasNoChildren) "/" Inbox/Sub']
        )
        # Only as the first level.
        client.ok("CREATE x/inbox")
        self.assertIn("NO [NONEXISTENT]", client.command("SELECT x/INBOX")[-1])


class HierarchyTests(IMAPTestCase):
    def test_rename_of_parents(self) -> None:
        client = self.login()
        client.ok("CREATE a/b/c")
        client.ok("ENABLE IMAP4rev2")
        self.transcript(
            client,
            r"""
            C: a RENAME a/b x/y/z
            S: * LIST () "/" x
            S: * LIST () "/" x/y
            S: * LIST () "/" x/y/z ("OLDNAME" (a/b))
            S: * LIST () "/" x/y/z/c ("OLDNAME" (a/b/c))
            S: a OK RENAME done
            C: b LIST "" (a/* x/*) RETURN (SUBSCRIBED CHILDREN)
            S: * LIST (\HasChildren \Subscribed) "/" x/y
            S: * LIST (\HasChildren \Subscribed) "/" x/y/z
            S: * LIST (\HasNoChildren \Subscribed) "/" x/y/z/c
            S: b OK LIST done
            C: c LIST (SUBSCRIBED) "" a/*
            S: * LIST (\NonExistent \Subscribed) "/" a/b
            S: * LIST (\NonExistent \Subscribed) "/" a/b/c
            S: c OK LIST done
            C: d RENAME x x/inside
            S: d NO [CANNOT] …
            C: e RENAME x X
            S: * LIST () "/" X ("OLDNAME" (x))
            S: * LIST () "/" X/y ("OLDNAME" (x/y))
            S: * LIST () "/" X/y/z ("OLDNAME" (x/y/z))
            S: * LIST () "/" X/y/z/c ("OLDNAME" (x/y/z/c))
            S: e OK RENAME done
            C: f RENAME X/y "X/y"
            S: f NO [ALREADYEXISTS] …
            C: g RENAME X/y inbox
            S: g NO [ALREADYEXISTS] …
            C: h RENAME X "//"
            S: h NO [CANNOT] …
            """,
        )

    def test_limits(self) -> None:
        client = self.login()
        self.patch(mailboxes, "_MAX_MAILBOXES", 8)
        client.ok("CREATE a/b")
        [line] = client.command("CREATE c")
        self.assertEqual(line, "t NO [LIMIT] too many mailboxes")
        self.patch(mailboxes, "_MAX_SUBSCRIPTIONS", 9)
        client.ok("SUBSCRIBE x")
        [line] = client.command("SUBSCRIBE y")
        self.assertEqual(line, "t NO [LIMIT] too many subscriptions")
        client.ok("SUBSCRIBE x")

    def test_names_that_become_too_long_change_nothing(self) -> None:
        client = self.login()
        client.ok("CREATE a/" + "b" * 1000)
        [line] = client.command("RENAME a " + "c" * 100)
        self.assertTrue(line.startswith("t NO [CANNOT] "), line)
        self.assertEqual(len(client.ok('LIST "" a/%')), 1)
        self.assertEqual(client.ok('LIST "" c*'), [])
        self.assertEqual(client.ok("NOOP"), [])

    def test_rename_of_the_selected_mailbox(self) -> None:
        self.deliver(mailbox="old")
        client = self.selected("old")
        client.ok("RENAME old new")
        validity = self.mailbox("new").uidvalidity
        self.assertEqual(client.protocol.session.view.uidvalidity, validity)  # type: ignore[union-attr]
        self.assertEqual(len(client.ok("FETCH 1 UID")), 1)
        self.assertIn(
            f"[APPENDUID {validity} 2]", client.command("APPEND new {1+}\r\nx")[-1]
        )

    def test_uidvalidity_of_names_that_are_used_again(self) -> None:
        client = self.login()
        seen = []
        for name in ("a", "b"):
            client.ok("CREATE a")
            seen.append(self.mailbox("a").uidvalidity)
            client.ok(f"RENAME a c{name}")
            seen.append(self.mailbox(f"c{name}").uidvalidity)
            client.ok(f"DELETE c{name}")
        self.assertEqual(len(set(seen)), len(seen))
        self.assertEqual(sorted(seen), seen)

    def test_rename_of_inbox(self) -> None:
        # RFC 9051 6.3.6: Inbox stays, empty; names below it stay, too.
        self.deliver(count=2)
        client = self.login()
        client.ok("CREATE Inbox/sub")
        client.ok("RENAME INBOX old/mail")
        self.assertEqual(
            client.ok('LIST "" o* RETURN (STATUS (MESSAGES))'),
            [
                '* LIST () "/" old',
                "* STATUS old (MESSAGES 0)",
                '* LIST () "/" old/mail',
                "* STATUS old/mail (MESSAGES 2)",
            ],
        )
        self.assertEqual(client.ok("STATUS Inbox (MESSAGES)"), ["* STATUS Inbox (MESSAGES 0)"])
        client.ok("STATUS Inbox/sub (MESSAGES)")

    def test_delete(self) -> None:
        client, other = self.login(), self.login()
        client.ok("CREATE a/b")
        other.ok("SELECT a/b")
        self.transcript(
            client,
            """
            C: a DELETE a
            S: a NO [HASCHILDREN] …
            C: b DELETE A/b
            S: b NO [NONEXISTENT] …
            C: c DELETE a/b
            S: c OK DELETE done
            C: d DELETE a
            S: d OK DELETE done
            C: e SELECT a/b
            S: e NO [NONEXISTENT] …
            C: f STATUS a (MESSAGES)
            S: f NO [NONEXISTENT] …
            C: g RENAME a b
            S: g NO [NONEXISTENT] …
            """,
        )
        # Whoever has it selected goes on with what it shows.
        other.ok("NOOP")
        self.assertEqual(other.ok("UID FETCH 1:* FLAGS"), [])
        other.ok("CLOSE")

    def test_rename_of_many(self) -> None:
        # The statements do not grow with what is there, only with what is renamed.
        client = self.login()
        client.ok("ENABLE IMAP4rev2")
        for number in range(40):
            self.mailbox(f"a/{number}/b")
        lines = client.ok("RENAME a z")
        self.assertEqual(len([line for line in lines if "OLDNAME" in line]), 81)
        box = self.mailbox("z/7/b")
        self.assertEqual(box.parent_id, self.mailbox("z/7").id)
        found = job(self.store, mailboxes.all, self.account.id)
        self.assertEqual(len({each.uidvalidity for each in found}), len(found))
        self.assertEqual(client.ok('LIST "" a*'), [])
        self.assertEqual(len(client.ok('LIST (SUBSCRIBED) "" z*')), 81)
