"""Tests of moxtw.mail.addrlist."""

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from moxtw.mail.addrlist import (
    GROUP_END,
    MAX_ADDRESSES,
    Entry,
    Group,
    Mailbox,
    mailboxes,
    parse_address_list,
    parse_entries,
)
from moxtw.mail.words import encode_phrase

# Value of the field; name, localpart, domain of what is in it.
TABLE: list[tuple[str, list[tuple[str, str, str]]]] = [
    ("", []),
    (" , ,, ", []),
    ("a@b", [("", "a", "b")]),
    ("<a@b>", [("", "a", "b")]),
    ("Joe <a@b>", [("Joe", "a", "b")]),
    ("Joe<a@b>", [("Joe", "a", "b")]),
    ('"Joe" <a@b>', [("Joe", "a", "b")]),
    ('"Last, First" <a@b>, c@d', [("Last, First", "a", "b"), ("", "c", "d")]),
    ('"a \\"b\\" \\\\c" <a@b>', [('a "b" \\c', "a", "b")]),
    ('"" <a@b>', [("", "a", "b")]),
    ("John Q. Public <j@x>", [("John Q. Public", "j", "x")]),
    ("a@b (Joe)", [("Joe", "a", "b")]),
    ("a@b (Joe (the boss) Doe)", [("Joe (the boss) Doe", "a", "b")]),
    ("Joe (x) <a@b> (y)", [("Joe", "a", "b")]),
    ('"a b"@c', [("", "a b", "c")]),
    ('"a@b"@c', [("", "a@b", "c")]),
    ('<"a@b"@c>', [("", "a@b", "c")]),
    ("a@[127.0.0.1]", [("", "a", "[127.0.0.1]")]),
    ("<a@[IPv6:::1]>", [("", "a", "[IPv6:::1]")]),
    # RFC 2047, also within quotes, where it is not allowed but common
    ("=?utf-8?q?J=C3=B6?= <j@x>", [("Jö", "j", "x")]),
    ('"=?utf-8?q?J=C3=B6?=" <j@x>', [("Jö", "j", "x")]),
    ("=?utf-8?q?a?= =?utf-8?q?b?= <j@x>", [("ab", "j", "x")]),
    # RFC 6532
    ("Jörg <jörg@bücher.example>", [("Jörg", "jörg", "bücher.example")]),
    # RFC 5322 A.6.3
    ("Mary Smith <mary@example.net>, , jdoe@test   . example", [
        ("Mary Smith", "mary", "example.net"), ("", "jdoe", "test.example")]),
    ("Pete(A nice \\) chap) <pete(his account)@silly.test(his host)>", [
        ("Pete", "pete", "silly.test")]),
    ("<@node.test:mary@example.net>, , jdoe@test", [
        ("", "mary", "example.net"), ("", "jdoe", "test")]),
    ("<@a,@b.c:mary@example.net>", [("", "mary", "example.net")]),
    # Groups
    ("undisclosed-recipients:;", []),
    ("Undisclosed recipients: ;", []),
    ("A:b@c,d@e;, f@g", [("", "b", "c"), ("", "d", "e"), ("", "f", "g")]),
    ("(Empty list)(start)Hidden recipients  :(nobody(that I know))  ;", []),
    # What no grammar allows
    ("foo", [("", "foo", "")]),
    ("<foo>", [("", "foo", "")]),
    ("foo bar", [("foo bar", "", "")]),
    ("Joe Doe a@b", [("Joe Doe", "a", "b")]),
    ("a@b; c@d", [("", "a", "b"), ("", "c", "d")]),
    ("Joe <a@b>; Jane <c@d>", [("Joe", "a", "b"), ("Jane", "c", "d")]),
    ("Joe <a@b", [("Joe", "a", "b")]),
    ("Joe <<a@b>>", [("Joe", "a", "b")]),
    ("Joe <a@b>>", [("Joe", "a", "b")]),
    ('"Joe <a@b>', [("Joe", "a", "b")]),
    ("Joe (the <a@b>", [("Joe (the", "a", "b")]),
    ("Joe <a@b> more", [("Joe", "a", "b")]),
    ("joe@x <a@b>", [("joe@x", "a", "b")]),
    ("Joe <a@b@c>", [("Joe", "a@b", "c")]),
    ("a@b@c", [("", "a@b", "c")]),
    ("<joe (comment)@ (comment) b.example>", [("", "joe", "b.example")]),
    ("<>", []),
    ("Joe <>", [("Joe", "", "")]),
    (";;", []),
    ("a@b,", [("", "a", "b")]),
    ("a@b c@d", [("c@d", "a", "b")]),
    ("@", [("", "", "")]),
]  # fmt: skip


class TableTests(SynchronousTestCase):
    """Each form gives the addresses that a reader sees in it."""

    def test_table(self) -> None:
        for value, expected in TABLE:
            found = mailboxes(parse_entries(value.encode()))
            self.assertEqual(found, [Mailbox(*box) for box in expected], value)

    def test_order_of_forms_is_no_matter(self) -> None:
        # The quick way for ordinary members and the thorough one take turns.
        for value, expected in TABLE:
            if ":" in value or value.count('"') % 2 or value.count("(") != value.count(")"):
                continue
            found = mailboxes(parse_entries(b"x@y, " + value.encode() + b", Z <z@z>"))
            boxes = [("", "x", "y"), *expected, ("Z", "z", "z")]
            if value.endswith("b") and "<" in value:
                continue  # Without its ">" the next member belongs to it.
            self.assertEqual(found, [Mailbox(*box) for box in boxes], value)

    def test_groups(self) -> None:
        self.assertEqual(
            parse_address_list("A Group:Ed <e@x>,j@y;, k@z"),
            [
                Group("A Group", [Mailbox("Ed", "e", "x"), Mailbox("", "j", "y")]),
                Mailbox("", "k", "z"),
            ],
        )
        self.assertEqual(
            parse_entries(b"A:b@c;"),
            [
                Entry(None, None, b"A", None),
                Entry(None, None, b"b", b"c"),
                GROUP_END,
            ],
        )
        # A group without end ends with the list.
        self.assertEqual(parse_entries(b"A:b@c")[-1], GROUP_END)

    def test_raw_names_stay_encoded(self) -> None:
        self.assertEqual(
            parse_entries(b"=?utf-8?q?J=C3=B6?= <j@x>"),
            [Entry(b"=?utf-8?q?J=C3=B6?=", None, b"j", b"x")],
        )

    def test_route_is_kept(self) -> None:
        self.assertEqual(parse_entries(b"<@a,@b:c@d>"), [Entry(None, b"@a,@b", b"c", b"d")])

    def test_number_is_bounded(self) -> None:
        found = parse_entries(b"a@b," * (MAX_ADDRESSES + 10))
        self.assertEqual(len(found), MAX_ADDRESSES)


_name = st.text(st.characters(blacklist_categories=("Cs", "Cc", "Zl", "Zp")), max_size=60)
_local = st.from_regex(r"[a-z0-9]{1,8}(\.[a-z0-9]{1,8}){0,2}", fullmatch=True)


class PropertyTests(SynchronousTestCase):
    """For any input."""

    @given(st.lists(st.tuples(_name, _local, _local), min_size=1, max_size=5))
    @settings(max_examples=150, deadline=None)
    def test_written_addresses_are_read_again(self, boxes: list[tuple[str, str, str]]) -> None:
        boxes = [(" ".join(name.split()), local, domain) for name, local, domain in boxes]
        value = ", ".join(
            f"{encode_phrase(name) + ' ' if name else ''}<{local}@{domain}>"
            for name, local, domain in boxes
        )
        self.assertEqual(mailboxes(parse_entries(value.encode())), [Mailbox(*box) for box in boxes])

    @given(
        st.lists(
            st.sampled_from([c.encode() for c in '<>@,;:()[]\\" .ab\0é'] + [b"a@b", b"=?"]),
            max_size=30,
        ).map(b"".join)
    )
    @settings(max_examples=200, deadline=None)
    def test_never_fails(self, value: bytes) -> None:
        groups = 0
        for name, route, local, host in parse_entries(value):
            if local is None:
                self.assertEqual((name, route, host), (None, None, None))
                groups -= 1
            elif host is None:
                groups += 1
            self.assertIn(groups, (0, 1))
        self.assertEqual(groups, 0)
        for item in parse_address_list(value):
            for box in item.members if isinstance(item, Group) else [item]:
                self.assertNotIn("\0", "".join(box))
