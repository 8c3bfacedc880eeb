"""Tests of moxtw.mail.thread."""

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from moxtw.mail.header import parse_headers
from moxtw.mail.thread import (
    MAX_MESSAGE_ID,
    MAX_REFERENCES,
    base_subject,
    canonical_message_id,
    in_reply_to,
    message_id,
    reference_chain,
    references,
)


class BaseSubjectTests(SynchronousTestCase):
    """RFC 5256 2.1."""

    def test_table(self) -> None:
        for subject, expected in [
            ("", ("", False)),
            ("Hello", ("hello", False)),
            ("  Hello\t big   World ", ("hello big world", False)),
            ("Re: Hello", ("hello", True)),
            ("RE : Hello", ("hello", True)),
            ("re:Hello", ("hello", True)),
            ("Fw: Hello", ("hello", True)),
            ("Fwd: Hello", ("hello", True)),
            ("Fwd: Re: FW: Hello", ("hello", True)),
            ("Re[2]: Hello", ("hello", True)),
            ("Re [2] : Hello", ("hello", True)),
            ("[list] Hello", ("hello", False)),
            ("[list] Re: Hello", ("hello", True)),
            ("Re: [list] Hello", ("hello", True)),
            ("[a] [b] Re: [c] Re: [d] Hello", ("hello", True)),
            ("[a][b]", ("[b]", False)),
            ("Re: [a]", ("[a]", True)),
            ("[a]", ("[a]", False)),
            ("Hello (fwd)", ("hello", True)),
            ("Hello (FWD) (fwd) ", ("hello", True)),
            ("(fwd)", ("", True)),
            ("[fwd: Hello]", ("hello", True)),
            ("[Fwd: Re: [list] Hello (fwd)]", ("hello", True)),
            ("Re: [fwd: Hello]", ("hello", True)),
            ("[fwd: Hello] more", ("more", False)),
            ("[fwd: Hello", ("[fwd: hello", False)),
            ("Re:", ("", True)),
            ("Re: Re:", ("", True)),
            ("Reply: Hello", ("reply: hello", False)),
            ("Regards", ("regards", False)),
            ("Hello Re: you", ("hello re: you", False)),
            ("[a [b] Hello", ("[a [b] hello", False)),
            ("=?utf-8?q?Re:_=C3=84?=", ("ä", True)),
            ("Re: STRASSE", ("strasse", True)),
            ("Re: Straße", ("strasse", True)),
        ]:
            self.assertEqual(base_subject(subject), expected, subject)

    @given(
        st.lists(
            st.sampled_from(["re", "fwd", ":", "[", "]", " ", "a", "(fwd)", "[a]", "[fwd:"]),
            max_size=30,
        ).map("".join)
    )
    @settings(max_examples=200, deadline=None)
    def test_base_of_a_base_is_itself(self, subject: str) -> None:
        base, _ = base_subject(subject)
        self.assertEqual(base_subject(base), (base, False))
        # What replies add changes nothing.
        self.assertEqual(base_subject("Re: " + subject), (base, True))

    def test_long_subjects(self) -> None:
        for part in ("[a]", "re:", "(fwd)", "[fwd:", "[", "re[", "re: [a] "):
            base_subject(part * 100_000)


class MessageIDTests(SynchronousTestCase):
    """Canonical ids."""

    def test_table(self) -> None:
        for value, expected in [
            ("<a@b>", "a@b"),
            ("  <A@B.Example>  ", "a@b.example"),
            ("<a@b> (added by x)", "a@b"),
            ('<"a"@b>', "a@b"),
            ('<"a.b"@b>', "a.b@b"),
            ('<"a b"@b>', '"a b"@b'),
            ('<"a\\"b"@b>', '"a\\"b"@b'),
            ('<"a\\b"@b>', "ab@b"),
            ("<a_b@c_d>", "a_b@c_d"),
            ("<a@b@c>", "a@b@c"),
            ("<no-at>", "no-at"),
            ("<a@[1.2.3.4]>", "a@[1.2.3.4]"),
            ("<a\r\n b@c>", "ab@c"),
            ("a@b", "a@b"),
            ("<a@b", "a@b"),
            ("", ""),
            ("<>", ""),
            ("< >", ""),
        ]:
            self.assertEqual(canonical_message_id(value), expected, value)

    def test_length_is_bounded(self) -> None:
        self.assertEqual(len(canonical_message_id("<" + "a" * 5000 + "@b>")), MAX_MESSAGE_ID)

    def test_message_id_of_headers(self) -> None:
        self.assertEqual(message_id(parse_headers(b"Message-ID: <A@b>\r\n\r\n")), "a@b")
        self.assertEqual(message_id(parse_headers(b"Message-ID:\r\n\r\n")), "")
        self.assertEqual(message_id(parse_headers(b"\r\n")), "")

    def test_references(self) -> None:
        for value, expected in [
            (b"<a@b>", ["a@b"]),
            (b"<a@b> <C@d>", ["a@b", "c@d"]),
            (b"<a@b><c@d>,<e@f>", ["a@b", "c@d", "e@f"]),
            (b"<a@b>\r\n <c@d>\r\n\t<e@f>", ["a@b", "c@d", "e@f"]),
            (b"<a\r\n b@c>", ["ab@c"]),
            (b"your message of <Monday> <a@b", ["monday"]),
            (b"a@b c@d", ["a@b", "c@d"]),
            (b"no id", []),
            (b"<>", []),
            (b"", []),
        ]:
            headers = parse_headers(b"References: " + value + b"\r\n\r\n")
            self.assertEqual(references(headers), expected, value)
            headers = parse_headers(b"In-Reply-To: " + value + b"\r\n\r\n")
            self.assertEqual(in_reply_to(headers), expected, value)
        self.assertEqual(references(parse_headers(b"")), [])
        self.assertEqual(in_reply_to(parse_headers(b"")), [])

    def test_repeated_references(self) -> None:
        value = b"<a@b> <c@d> <a@b>"
        headers = parse_headers(b"References: %b\r\nIn-Reply-To: %b\r\n\r\n" % (value, value))
        self.assertEqual(reference_chain(headers), ["a@b", "c@d", "a@b"])
        self.assertEqual(references(headers), ["c@d", "a@b"])
        # Of these, the first one counts where one is wanted.
        self.assertEqual(in_reply_to(headers), ["a@b", "c@d"])

    def test_last_references_are_kept(self) -> None:
        value = b" ".join(b"<%d@x>" % i for i in range(MAX_REFERENCES + 5))
        found = references(parse_headers(b"References: " + value + b"\r\n\r\n"))
        self.assertEqual((len(found), found[0]), (MAX_REFERENCES, "5@x"))
