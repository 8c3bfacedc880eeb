"""CREATE, DELETE, RENAME, subscriptions, LIST, LSUB, STATUS, NAMESPACE, QUOTA."""

from __future__ import annotations

from typing import Any

from moxtw.config.testing import DYNAMIC
from moxtw.imap import listmatch
from tests.unit.imap.support import IMAPTestCase


class MailboxTests(IMAPTestCase):
    def test_create_makes_parents_and_subscribes(self) -> None:
        self.transcript(
            self.login(),
            r"""
            C: z ENABLE IMAP4rev2
            S: * ENABLED IMAP4rev2
            S: z OK ENABLE done
            C: a CREATE a/b
            S: * LIST (\Subscribed) "/" a
            S: * LIST (\Subscribed) "/" a/b
            S: a OK [MAILBOXID (F…)] CREATE done
            C: b CREATE a/b
            S: b NO [ALREADYEXISTS] …
            C: c CREATE a/c/
            S: * LIST (\Subscribed) "/" a/c
            S: c OK [MAILBOXID (F…)] CREATE done
            C: d LSUB "" "a*"
            S: * LSUB () "/" a
            S: * LSUB () "/" a/b
            S: * LSUB () "/" a/c
            S: d OK LSUB done
            """,
        )

    def test_create_with_normalised_name_tells_old_name_to_rev2(self) -> None:
        self.transcript(
            self.login(),
            r"""
            C: a CREATE iNbOx/x
            S: a OK [MAILBOXID (F…)] CREATE done
            C: b ENABLE imap4rev2
            S: * ENABLED IMAP4rev2
            S: b OK ENABLE done
            C: c CREATE INBOX/y
            S: * LIST (\Subscribed) "/" Inbox/y ("OLDNAME" (INBOX/y))
            S: c OK [MAILBOXID (F…)] CREATE done
            """,
        )

    def test_bad_names(self) -> None:
        self.transcript(
            self.login(),
            """
            C: a CREATE ""
            S: a NO [CANNOT] mailbox name is empty
            C: b CREATE "/x"
            S: b NO [CANNOT] …
            C: c CREATE "x//y"
            S: c NO [CANNOT] …
            C: d CREATE "x/../y"
            S: d NO [CANNOT] …
            C: e CREATE "#news"
            S: e NO [CANNOT] …
            C: f CREATE inbox
            S: f NO [ALREADYEXISTS] …
            C: g CREATE "&AAE-"
            S: g NO [CANNOT] …
            C: h CREATE "&"
            S: h BAD …
            C: i CREATE "&AGE-"
            S: i BAD …
            C: j CREATE "x&AOQ-&AOQ-"
            S: j BAD superfluous shift …
            C: k CREATE "&ZeUwQQMBAA-"
            S: k BAD …
            """,
        )

    def test_special_use(self) -> None:
        self.transcript(
            self.login(),
            r"""
            C: a CREATE New (USE (\Sent \Trash))
            S: a OK [MAILBOXID (F…)] CREATE done
            C: b CREATE New2 (USE (\Everything))
            S: b NO [USEATTR] unknown special use
            C: c LIST (SPECIAL-USE) "" *
            S: * LIST (\Archive) "/" Archive
            S: * LIST (\Drafts) "/" Drafts
            S: * LIST (\Junk) "/" Junk
            S: * LIST (\Sent \Trash) "/" New
            S: c OK LIST done
            """,
        )

    def test_delete(self) -> None:
        client = self.login()
        client.ok("CREATE a/b")
        self.transcript(
            client,
            """
            C: a DELETE a
            S: a NO [HASCHILDREN] …
            C: b DELETE a/b
            S: b OK DELETE done
            C: c DELETE a/b
            S: c NO [NONEXISTENT] …
            C: d DELETE inbox
            S: d NO [CANNOT] …
            C: e LSUB "" a/*
            S: * LSUB () "/" a/b
            S: e OK LSUB done
            """,
        )

    def test_delete_of_selected_mailbox_removes_its_messages(self) -> None:
        self.deliver(mailbox="x", count=2)
        client = self.selected("x")
        self.transcript(
            client,
            """
            C: a DELETE x
            S: * 2 EXPUNGE
            S: * 1 EXPUNGE
            S: a OK DELETE done
            C: b FETCH 1 (UID)
            S: b BAD …
            C: c CLOSE
            S: c OK CLOSE done
            """,
        )

    def test_rename(self) -> None:
        client = self.login()
        client.ok("CREATE a/b")
        self.transcript(
            client,
            r"""
            C: a ENABLE IMAP4rev2
            S: * ENABLED IMAP4rev2
            S: a OK ENABLE done
            C: b RENAME a x/y
            S: * LIST () "/" x
            S: * LIST () "/" x/y ("OLDNAME" (a))
            S: * LIST () "/" x/y/b ("OLDNAME" (a/b))
            S: b OK RENAME done
            C: c RENAME nope z
            S: c NO [NONEXISTENT] …
            C: d RENAME x Sent
            S: d NO [ALREADYEXISTS] …
            """,
        )

    def test_rename_of_inbox_moves_its_messages(self) -> None:
        self.deliver(count=2)
        client = self.selected()
        self.transcript(
            client,
            r"""
            C: a RENAME inbox Old
            S: * 2 EXPUNGE
            S: * 1 EXPUNGE
            S: a OK RENAME done
            C: b STATUS Old (MESSAGES)
            S: * STATUS Old (MESSAGES 2)
            S: b OK STATUS done
            """,
        )

    def test_subscriptions(self) -> None:
        self.transcript(
            self.login(),
            r"""
            C: a SUBSCRIBE future
            S: a OK SUBSCRIBE done
            C: b UNSUBSCRIBE future
            S: b OK UNSUBSCRIBE done
            C: c UNSUBSCRIBE future
            S: c NO [NONEXISTENT] …
            C: d UNSUBSCRIBE INBOX
            S: d OK UNSUBSCRIBE done
            C: e UNSUBSCRIBE INBOX
            S: e OK UNSUBSCRIBE done
            C: f LIST (SUBSCRIBED) "" (In* S*)
            S: * LIST (\Subscribed \Sent) "/" Sent
            S: f OK LIST done
            """,
        )

    def test_names_on_the_wire(self) -> None:
        self.mailbox("Entwürfe & mehr")
        self.transcript(
            self.login(),
            r"""
            C: a LIST "" "Entw*"
            S: * LIST (\HasNoChildren) "/" "Entw&APw-rfe &- mehr"
            S: a OK LIST done
            C: b STATUS "Entw&APw-rfe &- mehr" (RECENT)
            S: * STATUS "Entw&APw-rfe &- mehr" (RECENT 0)
            S: b OK STATUS done
            C: c STATUS "Entwürfe & mehr" (RECENT)
            S: c BAD …
            C: d ENABLE UTF8=ACCEPT
            S: * ENABLED UTF8=ACCEPT
            S: d OK ENABLE done
            C: e LIST "" "Entwü*"
            S: * LIST (\HasNoChildren) "/" "Entwürfe & mehr"
            S: e OK LIST done
            """,
        )


class ListTests(IMAPTestCase):
    def setUp(self) -> None:
        super().setUp()
        for name in ("a", "a/b", "a/b/c", "Inbox/sub"):
            self.mailbox(name)

    def test_patterns_are_matched_in_the_job_of_the_store(self) -> None:
        # Not on the reactor's thread: many patterns against many names take long.
        client = self.login()
        inside: list[bool] = []
        read = self.store.read

        def counted(fn: Any) -> Any:
            inside.append(True)
            try:
                return read(fn)
            finally:
                inside.pop()

        compiled: list[bool] = []
        compile_pattern = listmatch.compile

        def matched(pattern: str) -> Any:
            matches = compile_pattern(pattern)

            def check(name: str) -> bool:
                compiled.append(bool(inside))
                return matches(name)

            return check

        self.patch(self.store, "read", counted)
        self.patch(listmatch, "compile", matched)
        client.ok('LIST "" (a* b*)')
        client.ok('LSUB "" a*')
        self.assertEqual(set(compiled), {True})

    def test_patterns(self) -> None:
        self.transcript(
            self.login(),
            r"""
            C: a LIST "" a
            S: * LIST (\HasChildren) "/" a
            S: a OK LIST done
            C: b LIST "" a/%
            S: * LIST (\HasChildren) "/" a/b
            S: b OK LIST done
            C: c LIST a *
            S: * LIST (\HasChildren) "/" a/b
            S: * LIST (\HasNoChildren) "/" a/b/c
            S: c OK LIST done
            C: d LIST "" inbox*
            S: * LIST (\HasChildren) "/" Inbox
            S: * LIST (\HasNoChildren) "/" Inbox/sub
            S: d OK LIST done
            C: e LIST "" ""
            S: * LIST (\NoSelect) "/" ""
            S: e OK LIST done
            C: f LIST "" /a
            S: f OK LIST done
            C: g LIST "" (a/b a)
            S: * LIST () "/" a
            S: * LIST () "/" a/b
            S: g OK LIST done
            """,
        )

    def test_return_options(self) -> None:
        self.transcript(
            self.login(),
            r"""
            C: a LIST "" a% RETURN (CHILDREN SUBSCRIBED STATUS (MESSAGES UIDNEXT))
            S: * LIST (\HasChildren \Subscribed) "/" a
            S: * STATUS a (MESSAGES 0 UIDNEXT 1)
            S: a OK LIST done
            C: b LIST "" a RETURN ()
            S: * LIST () "/" a
            S: b OK LIST done
            C: c LIST "" a RETURN (EVERYTHING)
            S: c BAD unknown option of LIST…
            C: d LIST (RECURSIVEMATCH) "" a
            S: d BAD …
            C: e LIST (REMOTE) "" a
            S: * LIST () "/" a
            S: e OK LIST done
            """,
        )

    def test_recursive_match(self) -> None:
        client = self.login()
        for name in ("a", "a/b"):
            client.ok(f"UNSUBSCRIBE {name}")
        client.ok("SUBSCRIBE x/y")
        self.transcript(
            client,
            r"""
            C: a LIST (SUBSCRIBED) "" a*
            S: * LIST (\Subscribed) "/" a/b/c
            S: a OK LIST done
            C: b LIST (SUBSCRIBED RECURSIVEMATCH) "" (a% x%)
            S: * LIST () "/" a ("CHILDINFO" ("SUBSCRIBED"))
            S: * LIST (\NonExistent) "/" x ("CHILDINFO" ("SUBSCRIBED"))
            S: b OK LIST done
            C: c LIST (SUBSCRIBED) "" x*
            S: * LIST (\NonExistent \Subscribed) "/" x/y
            S: c OK LIST done
            C: d LSUB "" %
            S: * LSUB () "/" Archive
            S: * LSUB () "/" Drafts
            S: * LSUB () "/" Inbox
            S: * LSUB () "/" Junk
            S: * LSUB () "/" Sent
            S: * LSUB () "/" Trash
            S: * LSUB (\NoSelect) "/" a
            S: * LSUB (\NoSelect) "/" x
            S: d OK LSUB done
            """,
        )

    def test_status_items_are_told_once(self) -> None:
        client = self.login()
        [line] = client.ok("STATUS Sent (RECENT RECENT MESSAGES)")
        self.assertEqual(line, "* STATUS Sent (RECENT 0 MESSAGES 0)")
        lines = client.ok('LIST "" Sent RETURN (STATUS (RECENT) STATUS (RECENT MESSAGES))')
        self.assertEqual(lines[-1], line)

    def test_status_items(self) -> None:
        self.deliver(mailbox="a", count=2, flags=1)
        self.deliver(mailbox="a", flags=64)
        client = self.login()
        [line] = client.ok(
            "STATUS a (MESSAGES UIDNEXT UNSEEN DELETED DELETED-STORAGE SIZE RECENT APPENDLIMIT)"
        )
        self.assertEqual(
            line,
            "* STATUS a (MESSAGES 3 UIDNEXT 4 UNSEEN 1 DELETED 1 DELETED-STORAGE 70 SIZE 210"
            " RECENT 0 APPENDLIMIT NIL)",
        )
        self.transcript(
            client,
            """
            C: a STATUS nope (MESSAGES)
            S: a NO [NONEXISTENT] …
            C: b STATUS a ()
            S: b BAD …
            C: c STATUS a (NOPE)
            S: c BAD unknown status item…
            C: d NAMESPACE
            S: * NAMESPACE (("" "/")) NIL NIL
            S: d OK NAMESPACE done
            """,
        )

    def test_changes_by_another_session_are_told(self) -> None:
        one, two = self.login(), self.login()
        two.ok("ENABLE IMAP4rev2")
        one.ok("CREATE new")
        self.assertEqual(two.ok("NOOP"), ['* LIST () "/" new'])
        one.ok("RENAME new newer")
        self.assertEqual(two.ok("NOOP"), ['* LIST () "/" newer ("OLDNAME" (new))'])
        one.ok("DELETE newer")
        self.assertEqual(two.ok("NOOP"), ['* LIST (\\NonExistent) "/" newer'])
        self.assertEqual(one.ok("NOOP"), [])


class QuotaTests(IMAPTestCase):
    dynamic = DYNAMIC.replace(
        "\t\tDomain: example.org", "\t\tDomain: example.org\n\t\tQuotaMessageSize: 10000"
    )

    def test_quota(self) -> None:
        self.deliver(b"x" * 1025)
        self.transcript(
            self.login(),
            """
            C: a GETQUOTAROOT inbox
            S: * QUOTAROOT inbox ""
            S: * QUOTA "" (STORAGE 2 10)
            S: a OK GETQUOTAROOT done
            C: b GETQUOTA ""
            S: * QUOTA "" (STORAGE 2 10)
            S: b OK GETQUOTA done
            C: c GETQUOTA other
            S: c NO …
            """,
        )

    def test_append_over_quota(self) -> None:
        client = self.login()
        self.transcript(
            client,
            """
            C: a APPEND inbox {20000}
            S: a NO [OVERQUOTA] …
            C: b NOOP
            S: b OK NOOP done
            """,
        )
        client.send(b"c APPEND inbox {20000+}\r\n" + b"x" * 20000 + b"\r\nd NOOP\r\n")
        self.assertEqual(
            client.lines(), ["c NO [OVERQUOTA] the account has no room for it", "d OK NOOP done"]
        )


class NoQuotaTests(IMAPTestCase):
    def test_no_quota(self) -> None:
        self.transcript(
            self.login(),
            """
            C: a GETQUOTAROOT nope
            S: * QUOTAROOT nope ""
            S: a OK GETQUOTAROOT done
            """,
        )
