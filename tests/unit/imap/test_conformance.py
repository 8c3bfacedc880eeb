"""What suites that try IMAP servers from outside ask for, family by family.

The cases are those that such suites are known to look at: sets in every order, views of several
sessions, partial fetches up to the last octet, envelopes, lists, searches for dates and
addresses. Responses are compared as what they say, since suites do not care for their order.
"""

from __future__ import annotations

from typing import Any

from tests.support.imapgrammar import Response
from tests.unit.imap.support import Client, IMAPTestCase

DATES = [
    "Sat, 24 Mar 2007 23:00:00 +0200",
    "Sun, 25 Mar 2007 00:00:00 +0200",
    "Sun, 25 Mar 2007 02:00:00 +0200",
    "Sun, 25 Mar 2007 04:00:00 +0300",
    "Sun, 25 Mar 2007 23:00:00 +0300",
    "Mon, 26 Mar 2007 00:00:00 +0300",
]


class ConformanceCase(IMAPTestCase):
    def ask(self, client: Client, command: str) -> list[Response]:
        """The untagged responses to a command that succeeds."""
        client.send(f"t {command}\r\n".encode())
        found = client.responses()
        assert found and found[-1].kind == "tagged" and found[-1].name == "OK", (command, found)
        return found[:-1]

    def fetch(self, client: Client, command: str) -> dict[int, dict[str, Any]]:
        return {r.number: r.data for r in self.ask(client, command) if r.name == "FETCH"}

    def body(self, client: Client, number: int, section: str) -> bytes:
        data = self.fetch(client, f"FETCH {number} BODY.PEEK[{section}]")[number]
        [value] = [value for name, value in data.items() if name.startswith("BODY[")]
        return value

    def search(self, client: Client, keys: str) -> list[int]:
        [response] = [r for r in self.ask(client, keys) if r.name == "SEARCH"]
        return response.data["numbers"]

    def listed(self, client: Client, command: str) -> dict[str, set[bytes]]:
        return {
            r.data["name"].decode(): r.data["attributes"]
            for r in self.ask(client, command)
            if r.name in ("LIST", "LSUB")
        }

    def append(self, client: Client, data: bytes, options: str = "") -> None:
        text = f"a APPEND Inbox {options}{{{len(data)}+}}\r\n".encode() + data + b"\r\n"
        client.send(text)
        lines = client.lines()
        self.assertTrue(lines[-1].startswith("a OK [APPENDUID "), lines)


class SetTests(ConformanceCase):
    """Sets of numbers in commands and searches."""

    def setUp(self) -> None:
        super().setUp()
        self.deliver(count=6)
        self.client = self.selected()
        self.ask(self.client, "STORE 2 +FLAGS (\\Deleted)")
        self.ask(self.client, "EXPUNGE")

    def test_fetch(self) -> None:
        everything = {1: 1, 2: 3, 3: 4, 4: 5, 5: 6}
        for command, numbers in (
            ("FETCH 1:3 UID", (1, 2, 3)),
            ("FETCH 3:1 UID", (1, 2, 3)),
            ("FETCH 1,* UID", (1, 5)),
            ("FETCH * UID", (5,)),
            ("FETCH *:4 UID", (4, 5)),
            ("UID FETCH 100:* UID", (5,)),
            ("UID FETCH 1:* UID", (1, 2, 3, 4, 5)),
            ("UID FETCH 2 UID", ()),
            ("UID FETCH 1,* UID", (1, 5)),
            ("UID FETCH 5:3 UID", (2, 3, 4)),
        ):
            found = self.fetch(self.client, command)
            self.assertEqual(
                {number: data["UID"] for number, data in found.items()},
                {number: everything[number] for number in numbers},
                command,
            )

    def test_search(self) -> None:
        for keys, numbers in (
            ("SEARCH ALL", [1, 2, 3, 4, 5]),
            ("UID SEARCH ALL", [1, 3, 4, 5, 6]),
            ("SEARCH 1:3,5", [1, 2, 3, 5]),
            ("SEARCH 4:2", [2, 3, 4]),
            ("SEARCH UID 1:3,5", [1, 2, 4]),
            ("SEARCH UID 5:3", [2, 3, 4]),
            ("SEARCH 1:3 NOT UID 3", [1, 3]),
            ("SEARCH NOT 2,4", [1, 3, 5]),
            ("SEARCH OR 1 UID 3", [1, 2]),
            ("SEARCH *", [5]),
            ("SEARCH UID *", [5]),
            ("SEARCH 6:*", [5]),
            ("SEARCH *:6", [5]),
            ("SEARCH UID 7:*", [5]),
            ("SEARCH *:3", [3, 4, 5]),
            ("SEARCH 1,4,*", [1, 4, 5]),
            # Numbers that no message has find nothing.
            ("SEARCH 1000", []),
            ("SEARCH 1000,2", [2]),
            ("SEARCH 4:1000", [4, 5]),
            ("SEARCH NOT 1000", [1, 2, 3, 4, 5]),
            ("SEARCH 1000:2000", []),
        ):
            self.assertEqual(self.search(self.client, keys), numbers, keys)

    def test_results_of_searches(self) -> None:
        for keys, rest in (
            ("RETURN (ALL) ALL", b"ALL 1:5"),
            ("RETURN () ALL", b"ALL 1:5"),
            ("RETURN (MIN) ALL", b"MIN 1"),
            ("RETURN (MAX) ALL", b"MAX 5"),
            ("RETURN (COUNT) ALL", b"COUNT 5"),
            ("RETURN () 1000", b""),
            ("RETURN (MIN) 1000", b""),
            ("RETURN (MAX) 1000", b""),
            ("RETURN (COUNT) 1000", b"COUNT 0"),
        ):
            [response] = self.ask(self.client, "SEARCH " + keys)
            expected = b'* ESEARCH (TAG "t") ' + rest
            self.assertEqual(response.raw, expected.rstrip() + b"\r\n", keys)
        [response] = self.ask(self.client, "UID SEARCH RETURN (ALL) ALL")
        self.assertEqual(response.raw, b'* ESEARCH (TAG "t") UID ALL 1,3:6\r\n')
        [response] = self.ask(self.client, "UID SEARCH RETURN (MIN) 1000")
        self.assertEqual(response.raw, b'* ESEARCH (TAG "t") UID\r\n')

    def test_move_within_a_mailbox(self) -> None:
        self.transcript(
            self.client,
            r"""
            C: a MOVE 2 Inbox
            S: * OK [COPYUID … 3 7] moved
            S: * 2 EXPUNGE
            S: * 5 EXISTS
            S: a OK …
            C: b UID SEARCH ALL
            S: * SEARCH 1 4 5 6 7
            S: b OK …
            """,
        )
        other = self.selected()
        self.assertEqual(self.search(other, "UID SEARCH ALL"), [1, 4, 5, 6, 7])


class ViewTests(ConformanceCase):
    """What one session does, and another comes to see."""

    def setUp(self) -> None:
        super().setUp()
        self.deliver(count=4)
        self.one, self.two = self.selected(), self.selected()

    def told(self, client: Client, command: str) -> list[bytes]:
        return [r.raw.strip() for r in self.ask(client, command)]

    def test_an_expunged_message_stays_until_it_is_told(self) -> None:
        self.ask(self.one, "STORE 4 FLAGS (\\Deleted)")
        self.assertEqual(self.told(self.one, "EXPUNGE"), [b"* 4 EXPUNGE"])
        self.assertEqual(self.told(self.two, "FETCH 4 UID"), [b"* 4 FETCH (UID 4)"])
        self.assertEqual(self.told(self.two, "NOOP"), [b"* 4 EXPUNGE"])

    def test_uid_commands_tell_removals_behind_what_they_answer(self) -> None:
        self.ask(self.one, "STORE 1,3 +FLAGS (\\Deleted)")
        self.ask(self.one, "EXPUNGE")
        told = self.told(self.two, "UID FETCH 2,4 UID")
        self.assertEqual(told[:2], [b"* 2 FETCH (UID 2)", b"* 4 FETCH (UID 4)"])
        self.assertEqual(told[2:], [b"* 3 EXPUNGE", b"* 1 EXPUNGE"])
        self.ask(self.one, "STORE 1 +FLAGS (\\Deleted)")
        self.ask(self.one, "EXPUNGE")
        told = self.told(self.two, "UID STORE 4 FLAGS (\\Seen)")
        self.assertEqual(told, [b"* 2 FETCH (UID 4 FLAGS (\\Seen))", b"* 1 EXPUNGE"])

    def test_check_is_as_good_as_noop(self) -> None:
        self.ask(self.one, "STORE 1 +FLAGS (\\Deleted)")
        self.ask(self.one, "EXPUNGE")
        self.assertEqual(self.told(self.two, "CHECK"), [b"* 1 EXPUNGE"])

    def test_sessions_do_not_undo_each_others_changes(self) -> None:
        self.ask(self.one, "STORE 1 FLAGS (\\Seen)")
        self.ask(self.one, "STORE 1 +FLAGS (\\Draft)")
        self.ask(self.two, "STORE 1 -FLAGS (\\Seen)")
        self.ask(self.one, "CHECK")
        for client in (self.one, self.two):
            self.assertEqual(self.fetch(client, "FETCH 1 FLAGS")[1]["FLAGS"], {b"\\draft"})

    def test_counts_of_appended_messages(self) -> None:
        third = self.login()
        self.append(third, b"Subject: x\r\n\r\n", "(\\Seen) ")
        [status] = self.ask(third, "STATUS Inbox (MESSAGES UNSEEN RECENT)")
        self.assertEqual(
            status.data, {"name": b"Inbox", "MESSAGES": 5, "UNSEEN": 4, "RECENT": 0}
        )
        for client in (self.one, self.two):
            self.assertIn(b"* 5 EXISTS", self.told(client, "NOOP"))
            self.assertEqual(self.fetch(client, "FETCH 5 FLAGS")[5]["FLAGS"], {b"\\seen"})


class SectionTests(ConformanceCase):
    """Sections of messages, to the octet."""

    def test_partial_fetches(self) -> None:
        self.deliver(b"From: User1 <user1@domain.org>\r\nSubject: s1\r\n\r\nbody3\r\n\r\n")
        client = self.selected()
        for section, data in (
            ("TEXT]<0.3>", b"bod"),
            ("TEXT]<3.3>", b"y3\r"),
            ("TEXT]<5.1>", b"\r"),
            ("TEXT]<5.2>", b"\r\n"),
            ("TEXT]<6.2>", b"\n\r"),
            ("TEXT]<8.5>", b"\n"),
            ("TEXT]<9.1>", b""),
            ("TEXT]<4000000000.4000000000>", b""),
        ):
            [item] = [
                (name, value)
                for name, value in self.fetch(client, "FETCH 1 BODY.PEEK[" + section)[1].items()
                if name != "UID"
            ]
            start = section.partition("<")[2].partition(".")[0]
            self.assertEqual(item, (f"BODY[TEXT]<{start}>", data))
        self.assertEqual(
            self.body(client, 1, "HEADER.FIELDS (FROM)"), b"From: User1 <user1@domain.org>\r\n\r\n"
        )
        self.assertEqual(self.body(client, 1, "HEADER.FIELDS (XYZ)"), b"\r\n")
        self.assertEqual(
            self.body(client, 1, "HEADER.FIELDS.NOT (From)"), b"Subject: s1\r\n\r\n"
        )

    def test_parts_within_embedded_messages(self) -> None:
        inner = (
            b"From: sub@domain.org\r\nSubject: submsg\r\n"
            b'Content-Type: multipart/digest; boundary="foo"\r\n\r\nprologue\r\n\r\n'
            b"--foo \r\n\r\nFrom: m1@example.com\r\nSubject: m1\r\n\r\nm1 body\r\n\r\n"
            b"--foo \r\nX-Mime: m2 header\r\n\r\n"
            b"From: m2@example.com\r\nSubject: m2\r\n\r\nm2 body\r\n\r\n--foo--\r\n\r\nepilogue\r\n"
        )
        self.deliver(b"From: a@b\r\nContent-Type: message/rfc822\r\n\r\n" + inner)
        client = self.selected()
        head, _, text = inner.partition(b"\r\n\r\n")
        for section, data in (
            ("TEXT", inner),
            ("1", inner),
            ("1.HEADER", head + b"\r\n\r\n"),
            ("1.TEXT", text),
            ("1.1", b"From: m1@example.com\r\nSubject: m1\r\n\r\nm1 body\r\n"),
            ("1.1.MIME", b"\r\n"),
            ("1.1.HEADER", b"From: m1@example.com\r\nSubject: m1\r\n\r\n"),
            ("1.1.TEXT", b"m1 body\r\n"),
            ("1.2.MIME", b"X-Mime: m2 header\r\n\r\n"),
            ("1.2.HEADER", b"From: m2@example.com\r\nSubject: m2\r\n\r\n"),
            ("1.2.HEADER.FIELDS (SUBJECT X)", b"Subject: m2\r\n\r\n"),
            ("1.2.HEADER.FIELDS.NOT (SUBJECT X)", b"From: m2@example.com\r\n\r\n"),
            ("1.2.TEXT", b"m2 body\r\n"),
            ("1.2.1", b"m2 body\r\n"),
            ("1.3", None),
            ("2", None),
        ):
            self.assertEqual(self.body(client, 1, section), data, section)

    def test_a_message_in_a_message_in_a_message(self) -> None:
        third = b"From: c@x\r\nSubject: three\r\n\r\nHello\r\n"
        second = b"From: b@x\r\nContent-Type: message/rfc822\r\n\r\n" + third
        self.deliver(b"From: a@x\r\nContent-Type: message/rfc822\r\n\r\n" + second)
        client = self.selected()
        for section, data in (
            ("1", second),
            ("1.TEXT", third),
            ("1.1", third),
            ("1.1.HEADER", b"From: c@x\r\nSubject: three\r\n\r\n"),
            ("1.1.TEXT", b"Hello\r\n"),
            ("1.1.1", b"Hello\r\n"),
        ):
            self.assertEqual(self.body(client, 1, section), data, section)

    def test_sizes_are_what_is_sent(self) -> None:
        self.deliver(
            b"From: a@b\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\npre\r\n--b\r\n"
            b"Content-Type: text/html\r\n\r\none\r\ntwo\r\n--b\r\n"
            b"Content-Type: message/rfc822\r\n\r\n"
            b"Subject: x\r\nContent-Type: multipart/alternative; boundary=c\r\n\r\n"
            b"--c\r\n\r\nplain\r\n--c\r\nContent-Type: text/html\r\n\r\n\r\n--c--\r\n--b--\r\n"
        )
        client = self.selected()
        structure = self.fetch(client, "FETCH 1 BODYSTRUCTURE")[1]["BODYSTRUCTURE"]

        def check(part: dict[str, Any], path: str) -> int:
            seen = 0
            if "size" in part:
                data = self.body(client, 1, path or "1")
                self.assertEqual(len(data), part["size"], path)
                if "lines" in part:
                    self.assertEqual(data.count(b"\n"), part["lines"], path)
                seen = 1
            parts = part.get("parts", ())
            if "envelope" in part:
                if "parts" not in parts[0]:
                    return seen + check(parts[0], path + ".1")
                parts = parts[0]["parts"]
            for number, inner in enumerate(parts, start=1):
                seen += check(inner, f"{path}.{number}".lstrip("."))
            return seen

        self.assertEqual(check(structure, ""), 4)


class EnvelopeTests(ConformanceCase):
    """The forms of addresses in envelopes."""

    def test_addresses(self) -> None:
        user = [(None, None, b"user", b"domain")]
        named = [(b"Real Name", None, b"user", b"domain")]
        group = [
            (None, None, b"group", None),
            (None, None, b"g1", b"d1.org"),
            (None, None, b"g2", b"d2.org"),
            (None, None, None, None),
            (None, None, b"group2", None),
            (None, None, b"g3", b"d3.org"),
            (None, None, None, None),
        ]
        cases = [
            (b"From: user@domain\r\n", [user, user, user, None]),
            (b"From: user@domain (Real Name)\r\n", [named, named, named, None]),
            (b"From: user@domain (Real Name)\r\nSender: \r\nReply-To: \r\n",
             [named, named, named, None]),
            (b"From: <@route:user@domain>\r\n",
             [[(None, b"@route", b"user", b"domain")]] * 3 + [None]),
            (b"To: group: g1@d1.org, g2@d2.org;, group2: g3@d3.org;\r\n",
             [None, None, None, group]),
            (b"To: nobody:;\r\n",
             [None, None, None, [(None, None, b"nobody", None), (None, None, None, None)]]),
            (b'From: "a \\"b\\" \\\\c" <x@y>\r\nSender: s@t\r\nReply-To: r@t, q@t\r\n',
             [[(b'a "b" \\c', None, b"x", b"y")], [(None, None, b"s", b"t")],
              [(None, None, b"r", b"t"), (None, None, b"q", b"t")], None]),
        ]  # fmt: skip
        for header, _ in cases:
            self.deliver(b"Date: Thu, 15 Feb 2007 01:02:03 +0200\r\n" + header + b"\r\nbody\r\n")
        found = self.fetch(self.selected(), "FETCH 1:* ENVELOPE")
        for number, (header, expected) in enumerate(cases, start=1):
            envelope = found[number]["ENVELOPE"]
            self.assertEqual(envelope[0], b"Thu, 15 Feb 2007 01:02:03 +0200")
            self.assertEqual(envelope[2:6], expected, header)
            self.assertEqual(envelope[6:], [None] * 4)


class SearchTests(ConformanceCase):
    """Searches for addresses, header fields, dates, flags, sizes."""

    def test_addresses(self) -> None:
        for data in (
            b"From: user-from@domain.org\r\nTo: user-to@domain.org\r\n",
            b"From: RealFrom <user-from@domain.org>\r\nTo: RealTo <user-to@domain.org>\r\n",
            b"From: <user-from (comment)@ (comment) domain.org>\r\nTo: <user-to@domain.org>\r\n",
            b"From: user-from@domain.org (RealFrom)\r\nTo: user-to@domain.org (RealTo)\r\n",
            b"From: user-from1@domain.org, user-from2@domain.org\r\nCc: x@domain.org\r\n",
            b"To: groupname: groupuser1@domain.org, g2@domain.org;,\r\n"
            b" groupname2: g3@domain.org;\r\n",
        ):
            self.deliver(data + b"\r\nbody\r\n")
        client = self.selected()
        for keys, numbers in (
            ("FROM user-from@domain.org", [1, 2, 3, 4]),
            ("TO user-to@domain.org", [1, 2, 3, 4]),
            ("FROM realfrom", [2, 4]),
            ("TO ealt", [2, 4]),
            ("FROM ser-fro", [1, 2, 3, 4, 5]),
            ('HEADER FROM ""', [1, 2, 3, 4, 5]),
            ('HEADER TO ""', [1, 2, 3, 4, 6]),
            ('NOT HEADER CC ""', [1, 2, 3, 4, 6]),
            ("FROM user-from1", [5]),
            ("FROM user-from2", [5]),
            ("TO groupname", [6]),
            ("TO groupname2", [6]),
            ("TO groupuser1", [6]),
            ("TO g3", [6]),
            ("TO g4", []),
        ):
            self.assertEqual(self.search(client, "SEARCH " + keys), numbers, keys)

    def test_header_fields(self) -> None:
        self.deliver(b"Subject: hello beautiful world\r\n\r\nbody\r\n")
        self.deliver(b"X-Extra: hello beautiful header\r\n\r\nnil\r\n")
        client = self.selected()
        self.deliver(b"Subject: folded\r\n\twith a\r\n  tab\r\nX: y\r\nX: a\r\n\tb\r\n\r\n")
        client = self.selected()
        self.assertEqual(self.search(client, 'SEARCH SUBJECT "folded with a tab"'), [3])
        self.assertEqual(self.search(client, 'SEARCH HEADER X "a b"'), [3])
        self.ask(client, "STORE 3 +FLAGS.SILENT (\\Deleted)")
        self.ask(client, "EXPUNGE")
        self.ask(client, 'SEARCH SUBJECT ""')
        for keys, numbers in (
            ("SUBJECT hello", [1]),
            ('SUBJECT "eautiful worl"', [1]),
            ('HEADER SUBJECT ""', [1]),
            ('NOT HEADER SUBJECT ""', [2]),
            ('HEADER X-Extra ""', [2]),
            ('HEADER x-extra "eautiful head"', [2]),
            # NIL is an ordinary word where a string is meant.
            ("BODY NIL", [2]),
            ("SUBJECT NIL", []),
        ):
            self.assertEqual(self.search(client, "SEARCH " + keys), numbers, keys)

    def test_dates_are_those_of_the_zone_they_are_written_in(self) -> None:
        for date in DATES:
            self.deliver(f"Date: {date}\r\n\r\nbody\r\n".encode())
        client = self.selected()
        for keys, numbers in (
            ("SENTBEFORE 24-Mar-2007", []),
            ("SENTBEFORE 25-Mar-2007", [1]),
            ("SENTBEFORE 26-Mar-2007", [1, 2, 3, 4, 5]),
            ("SENTON 24-Mar-2007", [1]),
            ("SENTON 25-Mar-2007", [2, 3, 4, 5]),
            ("SENTON 26-Mar-2007", [6]),
            ("SENTSINCE 25-Mar-2007", [2, 3, 4, 5, 6]),
            ("SENTSINCE 26-Mar-2007", [6]),
            ("SENTSINCE 27-Mar-2007", []),
        ):
            self.assertEqual(self.search(client, "SEARCH " + keys), numbers, keys)

    def test_flags_and_sizes(self) -> None:
        for count in range(5):
            self.deliver(b"Subject: x\r\n\r\n" + b"x" * count)
        client = self.selected()
        for command in (
            "STORE 1 FLAGS ($hello)",
            "STORE 2 FLAGS (\\Seen \\Flagged)",
            "STORE 3 FLAGS (\\Answered $Hello)",
            "STORE 4 FLAGS (\\Flagged \\Draft)",
            "STORE 5 FLAGS (\\Deleted \\Answered)",
        ):
            self.ask(client, command)
        size = self.fetch(client, "FETCH 3 RFC822.SIZE")[3]["RFC822.SIZE"]
        for keys, numbers in (
            ("ANSWERED", [3, 5]),
            ("UNANSWERED", [1, 2, 4]),
            ("DELETED", [5]),
            ("UNDELETED", [1, 2, 3, 4]),
            ("DRAFT", [4]),
            ("UNDRAFT", [1, 2, 3, 5]),
            ("FLAGGED", [2, 4]),
            ("UNFLAGGED", [1, 3, 5]),
            ("SEEN", [2]),
            ("UNSEEN", [1, 3, 4, 5]),
            ("KEYWORD $hello", [1, 3]),
            ("UNKEYWORD $hello", [2, 4, 5]),
            (f"SMALLER {size}", [1, 2]),
            (f"LARGER {size}", [4, 5]),
            (f"NOT SMALLER {size}", [3, 4, 5]),
            (f"NOT SMALLER {size} NOT LARGER {size}", [3]),
            (f"OR SMALLER {size} LARGER {size}", [1, 2, 4, 5]),
        ):
            self.assertEqual(self.search(client, "SEARCH " + keys), numbers, keys)


class ListTests(ConformanceCase):
    """Patterns, and what selection options make of them."""

    def test_patterns(self) -> None:
        client = self.login()
        for name in ("", "test", "test2", "test3/", "test3/test4/", "test3/test4/test5"):
            self.ask(client, "CREATE m/" + name)
        for command, names in (
            ('LIST "" m/%', ["m/test", "m/test2", "m/test3"]),
            ('LIST "" m/%/%', ["m/test3/test4"]),
            ('LIST m/ *', ["m/test", "m/test2", "m/test3", "m/test3/test4", "m/test3/test4/test5"]),
            ('LIST "" m/*test4', ["m/test3/test4"]),
            ('LIST "" m/%3/%', ["m/test3/test4"]),
            ('LIST "" m/%3/%4', ["m/test3/test4"]),
            ('LIST "" m/%t*4', ["m/test3/test4"]),
            ('LIST "" (m/*2 m/test3)', ["m/test2", "m/test3"]),
            ('LIST "" NIL', []),
        ):
            self.assertEqual(sorted(self.listed(client, command)), names, command)
        self.ask(client, "DELETE m/test2")
        self.assertNotIn("m/test2", self.listed(client, 'LIST "" m/*'))
        self.assertEqual(list(self.listed(client, 'LIST "" INBOX')), ["Inbox"])

    def test_selection_options(self) -> None:
        client = self.login()
        for name in ("m/a", "m/b/c", "m/d"):
            self.ask(client, "CREATE " + name)
        for name in ("m", "m/b"):
            self.ask(client, "UNSUBSCRIBE " + name)
        self.ask(client, "DELETE m/d")
        found = self.listed(client, 'LIST (SUBSCRIBED) "" m/*')
        self.assertEqual(sorted(found), ["m/a", "m/b/c", "m/d"])
        self.assertIn(b"\\nonexistent", found["m/d"])
        for attributes in found.values():
            self.assertIn(b"\\subscribed", attributes)
        [response] = self.ask(client, 'LIST (SUBSCRIBED RECURSIVEMATCH) "" m/b')
        self.assertEqual(response.data["more"], {b"CHILDINFO": [b"SUBSCRIBED"]})
        self.assertNotIn(b"\\subscribed", response.data["attributes"])
        found = self.listed(client, 'LIST "" m/% RETURN (CHILDREN SUBSCRIBED)')
        self.assertEqual(found["m/a"], {b"\\subscribed", b"\\hasnochildren"})
        self.assertEqual(found["m/b"], {b"\\haschildren"})
        for bad in (
            'LIST (IMAPTEST) "" ""',
            'LIST (RECURSIVEMATCH) "" ""',
            'LIST (RECURSIVEMATCH REMOTE) "" ""',
            'LIST "" "" RETURN (IMAPTEST)',
        ):
            self.assertTrue(client.command(bad)[-1].startswith("t BAD "), bad)
        self.ask(client, 'LIST (REMOTE) "" %')

    def test_lsub_shows_parents_of_what_is_subscribed(self) -> None:
        client = self.login()
        for name in ("m/test", "m/test2/test", "m/test3/test3"):
            self.ask(client, "CREATE " + name)
        for name in ("m", "m/test2", "m/test3"):
            self.ask(client, "UNSUBSCRIBE " + name)
        self.assertEqual(
            self.listed(client, 'LSUB "" m/%'),
            {"m/test": set(), "m/test2": {b"\\noselect"}, "m/test3": {b"\\noselect"}},
        )
        self.assertEqual(
            self.listed(client, 'LSUB "" m/*test'), {"m/test": set(), "m/test2/test": set()}
        )
        self.ask(client, "UNSUBSCRIBE m/test2/test")
        self.assertEqual(
            sorted(self.listed(client, 'LSUB "" m/*')), ["m/test", "m/test3/test3"]
        )

    def test_commands_in_a_row(self) -> None:
        client = self.login()
        client.send(b"a CREATE m\r\nb CREATE m2\r\nc STATUS m (MESSAGES)\r\nd NOOP\r\n")
        tagged = [r for r in client.responses() if r.kind == "tagged"]
        self.assertEqual([r.tag for r in tagged], [b"a", b"b", b"c", b"d"])
        self.assertEqual({r.name for r in tagged}, {"OK"})


class CatenateTests(ConformanceCase):
    """Messages put together of others (RFC 4469)."""

    def catenate(self, box: str, *parts: str) -> str:
        """The reply to an APPEND of texts, and of URLs where a part begins with a slash."""
        pieces = [
            f'URL "{part}"'
            if part.startswith("/")
            else f"TEXT {{{len(part)}+}}\r\n{part}"
            for part in parts
        ]
        self.client.send(f"t APPEND {box} CATENATE ({' '.join(pieces)})\r\n".encode())
        return self.client.lines()[-1]

    def test_catenate(self) -> None:
        self.client = self.login()
        self.client.ok("CREATE m")
        validity = self.mailbox("m").uidvalidity
        whole = "From: foo@example.com\r\n\r\nHello"
        self.assertTrue(self.catenate("m", whole).startswith("t OK [APPENDUID "))
        bad = "/m;uidvalidity=12345/;uid=1/;section=header"
        made = [
            (("/m/;uid=1/;section=header", "body1"), b"From: foo@example.com\r\n\r\nbody1"),
            ((f"/m;uidvalidity={validity}/;uid=1/;section=header", "2"),
             b"From: foo@example.com\r\n\r\n2"),
            (("Subject: x\r\n\r\n", "/m/;uid=1/;section=1", "\r\nend"),
             b"Subject: x\r\n\r\nHello\r\nend"),
            (("From: a@b\r\n", "Subject: y\r\n", "\r\nbody"),
             b"From: a@b\r\nSubject: y\r\n\r\nbody"),
            # A range behind the end is empty.
            (("/m/;uid=1/;partial=100000.1", "Hdr: z\r\n\r\n"), b"Hdr: z\r\n\r\n"),
        ]  # fmt: skip
        for parts, _ in made:
            self.assertTrue(self.catenate("Inbox", *parts).startswith("t OK "), parts)
        for parts in ((bad, "x"), ("x", bad), ("x", bad, "y", bad), ("/m/;uid=1", bad)):
            self.assertTrue(self.catenate("Inbox", *parts).startswith("t NO [BADURL "), parts)
            # A mailbox that is not there is told first, whatever else is wrong.
            self.assertTrue(self.catenate("nope", *parts).startswith("t NO [TRYCREATE] "), parts)
        self.ask(self.client, "SELECT Inbox")
        for number, (_, data) in enumerate(made, start=1):
            self.assertEqual(self.body(self.client, number, ""), data)

    def test_several_messages_in_one_command(self) -> None:
        self.client = client = self.login()
        client.ok("CREATE m")
        text = "From: foo@example.com\r\n\r\nHello"
        head = b"From: foo@example.com\r\n\r\n"
        first = f"CATENATE (TEXT {{{len(text)}+}}\r\n{text})"
        client.send(f"a APPEND m {first} {first}\r\n".encode())
        self.assertIn(" 1:2] ", client.lines()[-1])
        url = 'CATENATE (URL "/m/;uid=1/;section=header")'
        plain = f"{{{len(text)}+}}\r\n{text}"
        for arguments in (
            f"{url} {url}",
            f"{url} {plain}",
            f"{url} (\\Answered) {plain}",
            f"(\\Seen) {plain} (\\Flagged) {url}",
        ):
            client.send(f"b APPEND m {arguments}\r\n".encode())
            self.assertTrue(client.lines()[-1].startswith("b OK [APPENDUID "), arguments)
        bad = 'CATENATE (URL "/m;uidvalidity=12345/;uid=1/;section=header")'
        for arguments in (f"{bad} {url}", f"{bad} {plain}", f"{bad} {first}", f"{plain} {bad}"):
            client.send(f"c APPEND m (\\Seen) {arguments}\r\n".encode())
            self.assertTrue(client.lines()[-1].startswith("c NO "), arguments)
        self.ask(client, "SELECT m")
        whole = text.encode()
        expected = [whole, whole, head, head, head, whole, head, whole, whole, head]
        self.assertEqual(
            [self.body(client, number, "") for number in range(1, 11)], expected
        )
        flags = self.fetch(client, "FETCH 1:* FLAGS")
        self.assertEqual(len(flags), 10)
        self.assertEqual(flags[8]["FLAGS"], {b"\\answered"})
        self.assertEqual(flags[10]["FLAGS"], {b"\\flagged"})
