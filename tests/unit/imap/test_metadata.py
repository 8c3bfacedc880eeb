"""METADATA (RFC 5464), and METADATA of LIST (RFC 9590)."""

from __future__ import annotations

from moxtw.store import annotations
from tests.unit.imap.support import Client, IMAPTestCase


class MetadataTests(IMAPTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.client = self.login()

    def literal(self, line: bytes) -> list[str]:
        self.client.send(line)
        return self.client.lines()

    def test_examples(self) -> None:
        # RFC 5464 4.3, 4.2.
        client = self.client
        client.ok('SETMETADATA INBOX (/private/comment "My new comment across")')
        self.assertEqual(
            client.ok('GETMETADATA "INBOX" /private/comment'),
            ['* METADATA Inbox (/private/comment "My new comment across")'],
        )
        client.ok('SETMETADATA "" (/shared/comment "Shared comment")')
        self.assertEqual(
            client.ok('GETMETADATA "" /shared/comment'),
            ['* METADATA "" (/shared/comment "Shared comment")'],
        )
        client.ok('SETMETADATA INBOX (/private/comment NIL /shared/comment "x")')
        self.assertEqual(client.ok("GETMETADATA INBOX /private/comment"), [])
        self.assertEqual(
            client.ok('GETMETADATA "INBOX" (/shared/comment /private/comment)'),
            ['* METADATA Inbox (/shared/comment "x")'],
        )

    def test_sizes_and_depths(self) -> None:
        client = self.client
        client.ok(
            "SETMETADATA INBOX (/private/filters/values/small \"abc\" "
            '/private/filters/values/boss "0123456789" /private/filters "top")'
        )
        self.assertEqual(
            client.ok("GETMETADATA (DEPTH 1) INBOX (/private/filters/values)"),
            [
                '* METADATA Inbox (/private/filters/values/boss "0123456789"'
                ' /private/filters/values/small "abc")'
            ],
        )
        # RFC 5464 4.2.1; the options behind the mailbox are taken, too, as the examples show.
        for command in (
            "GETMETADATA (MAXSIZE 5 DEPTH infinity) INBOX /private/filters",
            "GETMETADATA INBOX (MAXSIZE 5 DEPTH infinity) /private/filters",
        ):
            lines = client.command(command)
            self.assertEqual(
                lines,
                [
                    '* METADATA Inbox (/private/filters "top" /private/filters/values/small "abc")',
                    "t OK [METADATA LONGENTRIES 10] GETMETADATA done",
                ],
            )
        self.assertEqual(
            client.ok("GETMETADATA (DEPTH 0) INBOX /private/filters"),
            ['* METADATA Inbox (/private/filters "top")'],
        )
        self.assertEqual(len(client.ok('GETMETADATA (DEPTH infinity) INBOX ""')), 1)

    def test_values_of_all_kinds(self) -> None:
        client = self.client
        lines = self.literal(
            b"t SETMETADATA INBOX (/private/a ~{3+}\r\n\0\xff\n /private/b {4+}\r\na\"\\b"
            b' /private/c "")\r\n'
        )
        self.assertTrue(lines[-1].startswith("t OK"), lines)
        client.send(b"t GETMETADATA INBOX (/private/a /private/b /private/c)\r\n")
        self.assertEqual(
            client.output(),
            b'* METADATA Inbox (/private/a ~{3}\r\n\0\xff\n /private/b "a\\"\\\\b"'
            b' /private/c "")\r\nt OK GETMETADATA done\r\n',
        )

    def test_names_without_case(self) -> None:
        client = self.client
        client.ok('SETMETADATA INBOX (/Private/Comment "x")')
        self.assertEqual(
            client.ok("GETMETADATA inbox /PRIVATE/comment"),
            ['* METADATA Inbox (/private/comment "x")'],
        )

    def test_bad_names(self) -> None:
        for name in ("private/x", "/private//x", "/private/x/", "/private/*", "/private/%"):
            lines = self.client.command(f'SETMETADATA INBOX ("{name}" "x")')
            self.assertTrue(lines[-1].startswith("t BAD"), (name, lines))
        for name in ("/other/x", "/private", "/private/vendor/x"):
            lines = self.client.command(f'SETMETADATA INBOX ({name} "x")')
            self.assertTrue(lines[-1].startswith("t NO"), (name, lines))
        self.client.ok('SETMETADATA INBOX (/private/vendor/x/y "x")')

    def test_no_such_mailbox(self) -> None:
        for command in ('SETMETADATA Nope (/private/x "x")', "GETMETADATA Nope /private/x"):
            lines = self.client.command(command)
            self.assertTrue(lines[-1].startswith("t NO [TRYCREATE]"), lines)

    def test_limits(self) -> None:
        self.patch(annotations, "MAX_COUNT", 2)
        self.patch(annotations, "MAX_SIZE", 60)
        client = self.client
        client.ok('SETMETADATA INBOX (/private/a "x" /private/b "x")')
        lines = client.command('SETMETADATA INBOX (/private/a "changed" /private/c "x")')
        self.assertTrue(lines[-1].startswith("t NO [METADATA TOOMANY]"), lines)
        lines = client.command(f'SETMETADATA INBOX (/private/a "{"x" * 60}")')
        self.assertTrue(lines[-1].startswith("t NO [METADATA MAXSIZE 60]"), lines)
        lines = client.command("SETMETADATA INBOX (/private/x NIL /private/y NIL /private/z NIL)")
        self.assertTrue(lines[-1].startswith("t NO [METADATA TOOMANY]"), lines)
        # All or nothing.
        self.assertEqual(
            client.ok("GETMETADATA INBOX /private/a"), ['* METADATA Inbox (/private/a "x")']
        )

    def test_removed_and_renamed_with_the_mailbox(self) -> None:
        client = self.client
        client.ok("CREATE Box")
        client.ok('SETMETADATA Box (/private/a "x")')
        client.ok("RENAME Box Other")
        self.assertEqual(
            client.ok("GETMETADATA Other /private/a"), ['* METADATA Other (/private/a "x")']
        )
        client.ok("DELETE Other")
        client.ok("CREATE Other")
        self.assertEqual(client.ok("GETMETADATA Other /private/a"), [])

    def test_syntax(self) -> None:
        for command in (
            "GETMETADATA INBOX",
            "GETMETADATA (DEPTH 2) INBOX /private/a",
            "GETMETADATA (MAXSIZE -1) INBOX /private/a",
            "GETMETADATA (DEPTH 0 DEPTH 1) INBOX /private/a",
            "GETMETADATA (NOPE) INBOX /private/a",
            "SETMETADATA INBOX ()",
            "SETMETADATA INBOX (/private/a)",
            "SETMETADATA INBOX (/private/a atom)",
            'SETMETADATA INBOX /private/a "x"',
        ):
            lines = self.client.command(command)
            self.assertTrue(lines[-1].startswith("t BAD"), (command, lines))


class ToldTests(IMAPTestCase):
    def enabled(self, name: str) -> Client:
        client = self.login()
        self.assertEqual(client.ok(f"ENABLE {name}"), [f"* ENABLED {name}"])
        return client

    def test_told_to_others(self) -> None:
        one, two, three = self.login(), self.enabled("METADATA"), self.enabled("METADATA-SERVER")
        one.ok('SETMETADATA INBOX (/private/b "x" /private/a "y")')
        one.ok('SETMETADATA "" (/shared/comment "z")')
        self.assertEqual(
            two.ok("NOOP"),
            ['* METADATA "" /shared/comment', "* METADATA Inbox /private/a /private/b"],
        )
        self.assertEqual(two.ok("NOOP"), [])
        self.assertEqual(three.ok("NOOP"), ['* METADATA "" /shared/comment'])
        self.assertEqual(one.ok("NOOP"), [])
        one.ok("SETMETADATA INBOX (/private/a NIL)")
        self.assertEqual(two.ok("NOOP"), ["* METADATA Inbox /private/a"])

    def test_not_to_itself(self) -> None:
        client = self.enabled("METADATA")
        client.ok('SETMETADATA INBOX (/private/a "x")')
        self.assertEqual(client.ok("NOOP"), [])

    def test_idle(self) -> None:
        one, two = self.login(), self.enabled("METADATA")
        two.send(b"a IDLE\r\n")
        two.output()
        one.ok('SETMETADATA INBOX (/private/a "x")')
        self.assertEqual(two.lines(), ["* METADATA Inbox /private/a"])


class ListTests(IMAPTestCase):
    def test_list(self) -> None:
        # RFC 9590 4.
        client = self.login()
        client.ok("CREATE foo")
        client.ok("CREATE bar")
        client.ok('SETMETADATA foo (/shared/vendor/cmu/cyrus-imapd/color "#b71c1c")')
        lines = client.ok(
            'LIST "" (foo bar) RETURN (METADATA ("/shared/vendor/cmu/cyrus-imapd/color"))'
        )
        self.assertEqual(
            [line for line in lines if "METADATA" in line],
            [
                "* METADATA bar (/shared/vendor/cmu/cyrus-imapd/color NIL)",
                '* METADATA foo (/shared/vendor/cmu/cyrus-imapd/color "#b71c1c")',
            ],
        )
        lines = client.ok('LIST "" foo RETURN (STATUS (MESSAGES) METADATA (/private/a))')
        self.assertEqual(
            lines[1:], ["* STATUS foo (MESSAGES 0)", "* METADATA foo (/private/a NIL)"]
        )
        self.assertTrue(
            client.command('LIST "" * RETURN (METADATA ())')[-1].startswith("t BAD")
        )
