"""Arguments of commands."""

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from moxtw.mail.address import IPDomain, Path, parse_ipdomain, parse_path
from moxtw.smtp import grammar
from moxtw.smtp.grammar import GrammarError, Mail
from moxtw.smtp.reply import SMTPError


def mail(args: str, submission: bool = False, pedantic: bool = False) -> Mail:
    return grammar.mail(args, submission=submission, pedantic=pedantic, trailing=not submission)


def rcpt(args: str, pedantic: bool = False, trailing: bool = True) -> Path:
    return grammar.rcpt(args, pedantic=pedantic, trailing=trailing).path


class MailTests(SynchronousTestCase):
    def test_good(self) -> None:
        for args, want in (
            (" FROM:<>", Mail(Path())),
            (" FROM:<a@example.org>", Mail(parse_path("a@example.org"))),
            (" from:<a@EXAMPLE.org>", Mail(parse_path("a@example.org"))),
            (" FROM: <a@example.org>", Mail(parse_path("a@example.org"))),
            (" FROM:<a@example.org> \t", Mail(parse_path("a@example.org"))),
            (" FROM:<@x.example,@y.example:a@example.org>", Mail(parse_path("a@example.org"))),
            (' FROM:<"a b"@example.org>', Mail(parse_path('"a b"@example.org'))),
            (" FROM:<a@[192.0.2.1]>", Mail(Path("a", IPDomain(ip="192.0.2.1")))),
            (" FROM:<a@[IPv6:2001:db8::1]>", Mail(Path("a", IPDomain(ip="2001:db8::1")))),
            (" FROM:<é@bücher.example>", Mail(parse_path("é@bücher.example"))),
            (" FROM:<> SIZE=12345678901234567890", Mail(Path(), size=12345678901234567890)),
            (" FROM:<> size=0 body=8bitmime", Mail(Path(), size=0, body="8BITMIME")),
            (" FROM:<> BODY=7BIT SMTPUTF8", Mail(Path(), body="7BIT", smtputf8=True)),
            (" FROM:<> REQUIRETLS AUTH=<>", Mail(Path(), requiretls=True)),
            (" FROM:<> AUTH=e+2Bmc2@example.com", Mail(Path())),
        ):
            with self.subTest(args=args):
                self.assertEqual(mail(args), want)

    def test_future_release(self) -> None:
        got = mail(" FROM:<> HOLDFOR=999999999", submission=True)
        self.assertEqual(got.hold_for, 999999999)
        got = mail(" FROM:<> HOLDUNTIL=2024-02-29T12:00:00Z", submission=True)
        self.assertEqual(got.hold_until, 1709208000)
        self.assertEqual(got.hold_until_text, "2024-02-29T12:00:00Z")

    def test_bad(self) -> None:
        for args, code, secode in (
            ("", 501, "5.5.2"),
            (" ", 501, "5.5.2"),
            (" FROM", 501, "5.5.2"),
            ("  FROM:<>", 501, "5.5.2"),
            (" FROM :<>", 501, "5.5.2"),
            (" FROM:  <>", 501, "5.5.2"),
            (" FROM:a@example.org", 501, "5.5.2"),
            (" FROM:<a@example.org", 501, "5.5.2"),
            (" FROM:<a>", 501, "5.5.2"),
            (" FROM:<postmaster>", 501, "5.5.2"),
            (" FROM:<a@example.org>x", 501, "5.5.2"),
            (" FROM:<a@b@example.org>", 501, "5.5.2"),
            (" FROM:<a@-x.example>", 501, "5.5.2"),
            (" FROM:<a@[300.0.2.1]>", 501, "5.5.2"),
            (" FROM:<" + "a" * 129 + "@example.org>", 501, "5.5.2"),
            (" FROM:<a@" + "b." * 130 + "example>", 501, "5.5.2"),
            (" FROM:<>  SIZE=1", 501, "5.5.2"),
            (" FROM:<> SIZE", 501, "5.5.2"),
            (" FROM:<> SIZE=x", 501, "5.5.2"),
            (" FROM:<> SIZE=\u0661", 501, "5.5.2"),
            (" FROM:<> SIZE=123456789012345678901", 501, "5.5.2"),
            (" FROM:<> SMTPUTF8=1", 501, "5.5.2"),
            (" FROM:<> AUTH=a+4@example.org", 501, "5.5.2"),
            (" FROM:<> AUTH=nobody", 501, "5.5.2"),
            (" FROM:<> BODY=BINARY", 555, "5.5.4"),
            (" FROM:<> SIZE=1 SIZE=1", 501, "5.5.4"),
            (" FROM:<> SIZE=1 size=1", 501, "5.5.4"),
            (" FROM:<> RET=ALL", 501, "5.5.4"),
            (" FROM:<> HOLDFOR=1", 555, "5.3.3"),
        ):
            with self.subTest(args=args):
                exc = self.assertRaises(SMTPError, mail, args)
                self.assertEqual((exc.code, exc.secode), (code, secode))

    def test_bad_for_submission(self) -> None:
        for args, code, secode in (
            (" FROM:<> ", 501, "5.5.2"),
            (" FROM:<> HOLDFOR=0", 554, "5.5.4"),
            (" FROM:<> HOLDFOR=1234567890", 554, "5.5.4"),
            (" FROM:<> HOLDUNTIL=2024-02-30T12:00:00Z", 554, "5.5.4"),
            (" FROM:<> HOLDUNTIL=2024-02-20T12:00:00+01:00", 554, "5.5.4"),
            (" FROM:<> HOLDFOR=1 HOLDUNTIL=2024-02-20T12:00:00Z", 501, "5.5.4"),
        ):
            with self.subTest(args=args):
                exc = self.assertRaises(SMTPError, mail, args, submission=True)
                self.assertEqual((exc.code, exc.secode), (code, secode))

    def test_pedantic_takes_no_liberties(self) -> None:
        for args in (" FROM: <>", " FROM:<" + "a" * 65 + "@example.org>", " FROM:<a@x_y.example>"):
            with self.subTest(args=args):
                mail(args)
                self.assertRaises(GrammarError, mail, args, pedantic=True)

    def test_error_has_what_was_left(self) -> None:
        exc = self.assertRaises(GrammarError, mail, " FROM:<a@example.org>junk")
        self.assertEqual(exc.rest, "junk")

    @settings(max_examples=150, deadline=None)
    @given(st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"])))
    def test_any_text_gives_a_value_or_an_smtp_error(self, text: str) -> None:
        for args in (text, " FROM:" + text, " FROM:<>" + text, " TO:" + text, " TO:<" + text):
            for parse in (mail, rcpt, grammar.ehlo, grammar.nothing):
                try:
                    parse(args)
                except SMTPError as exc:
                    self.assertIn(exc.code, (501, 554, 555))

    @settings(max_examples=100, deadline=None)
    @given(
        st.text(
            st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=60
        ),
        st.sampled_from(["example.org", "xn--bcher-kva.example", "[192.0.2.7]"]),
    )
    def test_a_written_path_is_read_again(self, localpart: str, domain: str) -> None:
        path = Path(localpart, parse_ipdomain(domain))
        self.assertEqual(mail(" FROM:" + path.wire()).path, path)
        self.assertEqual(rcpt(" TO:" + path.wire(False)), path)


class RcptTests(SynchronousTestCase):
    def test_good(self) -> None:
        for args, want in (
            (" TO:<a@example.org>", parse_path("a@example.org")),
            (" to: <a@example.org> ", parse_path("a@example.org")),
            (" TO:<PostMaster>", Path("PostMaster")),
        ):
            with self.subTest(args=args):
                self.assertEqual(rcpt(args), want)

    def test_bad(self) -> None:
        for args, code, secode in (
            (" TO:<>", 501, "5.5.2"),
            (" TO:<someone>", 501, "5.5.2"),
            (" TO:<a" + "a" * 20 + "@" + f"{'b' * 60}." * 3 + "c" * 50 + ".example>", 501, "5.5.2"),
            (" TO:<a@example.org> XNOTIFY=NEVER", 555, "5.3.3"),
            (" FROM:<a@example.org>", 501, "5.5.2"),
        ):
            with self.subTest(args=args):
                exc = self.assertRaises(SMTPError, rcpt, args)
                self.assertEqual((exc.code, exc.secode), (code, secode))


class OtherTests(SynchronousTestCase):
    def test_verb_and_arguments(self) -> None:
        for line, verb, args in (
            (b"mail FROM:<>", "MAIL", " FROM:<>"),
            (b"noop", "NOOP", ""),
            (b"", "", ""),
            (b" x", "", " x"),
            (b"noop \xc3\xa4", "NOOP", " ä"),
            # White space at the end is no part of the verb (RFC 5321 4.1.1).
            (b"noop\t", "NOOP", "\t"),
            (b"noop\t \t", "NOOP", "\t \t"),
            (b"no\top", "NO\tOP", ""),
        ):
            with self.subTest(line=line):
                self.assertEqual(grammar.verb(line), verb)
                self.assertEqual(grammar.arguments(line), args)
        self.assertRaises(GrammarError, grammar.arguments, b"noop \xff")

    def test_verb_that_is_no_text(self) -> None:
        # Of these none is a command, also if its upper-case form in Unicode would be one.
        for line in (b"\xff", b"\x16\x03\x01", "ſtarttls".encode(), "maıl FROM:<>".encode()):
            with self.subTest(line=line):
                self.assertNotIn(grammar.verb(line), ("STARTTLS", "MAIL", ""))

    def test_ehlo(self) -> None:
        for args, want in (
            (" mail.example.org", "mail.example.org"),
            (" my_host.example", "my_host.example"),
            (" [192.0.2.1]", "[192.0.2.1]"),
            (" [IPv6:2001:db8::1]", "[IPv6:2001:db8::1]"),
            (" [192.0.2.1] my host", "[192.0.2.1]"),
        ):
            with self.subTest(args=args):
                self.assertEqual(str(grammar.ehlo(args)), want)
        for args in ("", " ", " a b", " [x]", " a..b", " -", "  a.example"):
            with self.subTest(args=args):
                self.assertRaises(GrammarError, grammar.ehlo, args)

    def test_auth(self) -> None:
        def auth(args: str, pedantic: bool = False) -> tuple[str, str | None]:
            return grammar.auth(args, pedantic=pedantic, trailing=False)

        self.assertEqual(auth(" plain"), ("PLAIN", None))
        self.assertEqual(auth(" PLAIN ="), ("PLAIN", "="))
        self.assertEqual(auth(" SCRAM-SHA-256 abcd"), ("SCRAM-SHA-256", "abcd"))
        self.assertEqual(auth(" PLAIN   abcd"), ("PLAIN", "abcd"))
        self.assertEqual(auth(" PLAIN   abcd", True), ("PLAIN", "  abcd"))
        for args in ("", " ", " PLAIN ", " PLAIN\tabc", " ?"):
            with self.subTest(args=args):
                self.assertRaises(GrammarError, auth, args)

    def test_base64(self) -> None:
        self.assertEqual(grammar.decode_base64("AGEAYg=="), b"\0a\0b")
        self.assertEqual(grammar.decode_base64(""), b"")
        for text in ("AGE", "A*==", "é", " AGEAYg==", "AGEAYg==\r"):
            self.assertRaises(GrammarError, grammar.decode_base64, text)
