"""Tests of moxtw.mail.envelope."""

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from moxtw.mail.envelope import envelope_wire, wire_nstring, wire_string
from moxtw.mail.header import parse_headers
from tests.unit.mail.imaplist import check_envelope, read_list


def envelope(header: str | bytes) -> bytes:
    """The envelope of header lines."""
    data = header.encode() if isinstance(header, str) else header
    return envelope_wire(parse_headers(data.replace(b"\n", b"\r\n") + b"\r\n"))


def subject(value: bytes) -> bytes:
    """The wire form of a subject."""
    wire = envelope(b"Subject: " + value + b"\n")
    return wire[len(b"(NIL ") : -len(b" NIL NIL NIL NIL NIL NIL NIL NIL)")]


class EnvelopeTests(SynchronousTestCase):
    """Exact wire forms."""

    def test_rfc_example(self) -> None:
        # RFC 3501 8, RFC 9051 8
        header = """\
Date: Wed, 17 Jul 1996 02:23:25 -0700 (PDT)
From: Terry Gray <gray@cac.washington.edu>
Subject: IMAP4rev2 WG mtg summary and minutes
To: imap@cac.washington.edu
cc: minutes@CNRI.Reston.VA.US, John Klensin <KLENSIN@MIT.EDU>
Message-Id: <B27397-0100000@cac.washington.edu>
MIME-Version: 1.0
Content-Type: TEXT/PLAIN; CHARSET=US-ASCII
"""
        gray = b'(("Terry Gray" NIL "gray" "cac.washington.edu"))'
        self.assertEqual(
            envelope(header),
            b'("Wed, 17 Jul 1996 02:23:25 -0700 (PDT)" "IMAP4rev2 WG mtg summary and minutes" '
            + gray
            + b" "
            + gray
            + b" "
            + gray
            + b' ((NIL NIL "imap" "cac.washington.edu")) '
            b'((NIL NIL "minutes" "CNRI.Reston.VA.US")("John Klensin" NIL "KLENSIN" "MIT.EDU")) '
            b'NIL NIL "<B27397-0100000@cac.washington.edu>")',
        )

    def test_nothing(self) -> None:
        self.assertEqual(envelope(""), b"(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)")

    def test_empty_fields(self) -> None:
        # RFC 9051 7.5.2: empty texts are "", address lists without address NIL.
        self.assertEqual(
            envelope("Date:\nSubject: \nFrom:\nTo: ,\nIn-Reply-To:\nMessage-ID:\n"),
            b'("" "" NIL NIL NIL NIL NIL NIL "" "")',
        )

    def test_sender_and_reply_to(self) -> None:
        self.assertEqual(
            envelope("From: a@b\nSender: c@d\nReply-To: E <e@f>, g@h\n"),
            b'(NIL NIL ((NIL NIL "a" "b")) ((NIL NIL "c" "d")) '
            b'(("E" NIL "e" "f")(NIL NIL "g" "h")) NIL NIL NIL NIL NIL)',
        )
        # Present but empty counts as missing.
        self.assertEqual(
            envelope("From: a@b\nSender: \nReply-To: ,\n"),
            b'(NIL NIL ((NIL NIL "a" "b")) ((NIL NIL "a" "b")) ((NIL NIL "a" "b")) '
            b"NIL NIL NIL NIL NIL)",
        )

    def test_all_fields(self) -> None:
        self.assertEqual(
            envelope("To: a@b\nCc: c@d\nBcc: e@f\nIn-Reply-To: <x@y>\nMessage-ID: <z@y>\n"),
            b'(NIL NIL NIL NIL NIL ((NIL NIL "a" "b")) ((NIL NIL "c" "d")) ((NIL NIL "e" "f")) '
            b'"<x@y>" "<z@y>")',
        )

    def test_addresses(self) -> None:
        for value, expected in [
            ('"Doe, \\"J\\"" <a@b>', b'(("Doe, \\"J\\"" NIL "a" "b"))'),
            ("=?utf-8?q?=C3=A4?= <a@b>", b'(("=?utf-8?q?=C3=A4?=" NIL "a" "b"))'),
            ("Jö <a@bü>", b'(({3}\r\nJ\xc3\xb6 NIL "a" {3}\r\nb\xc3\xbc))'),
            ("<@r,@s:a@b>", b'((NIL "@r,@s" "a" "b"))'),
            ('"a b"@c', b'((NIL NIL "a b" "c"))'),
            ("a", b'((NIL NIL "a" ""))'),
            ("<a@b> <c@d>", b'((NIL NIL "a" "b"))'),
            ("a b", b'(("a b" NIL "" ""))'),
            ("G: a@b, C <c@d>;", b'((NIL NIL "G" NIL)(NIL NIL "a" "b")("C" NIL "c" "d")'
             b"(NIL NIL NIL NIL))"),
            ("undisclosed-recipients:;",
             b'((NIL NIL "undisclosed-recipients" NIL)(NIL NIL NIL NIL))'),
        ]:  # fmt: skip
            self.assertEqual(
                envelope(f"To: {value}\n"),
                b"(NIL NIL NIL NIL NIL " + expected + b" NIL NIL NIL NIL)",
                value,
            )

    def test_fields_of_one_name_are_taken_together(self) -> None:
        self.assertEqual(
            envelope("Subject: one\nSubject: two\nTo: a@b\nTo: c@d\n"),
            b'(NIL "one" NIL NIL NIL ((NIL NIL "a" "b")(NIL NIL "c" "d")) NIL NIL NIL NIL)',
        )

    def test_strings(self) -> None:
        for value, expected in [
            (b"plain", b'"plain"'),
            (b'a "b" \\c', b'"a \\"b\\" \\\\c"'),
            (b"  folded\n\t text  ", b'"folded\t text"'),
            (b"=?utf-8?q?=C3=A4?=", b'"=?utf-8?q?=C3=A4?="'),
            ('ä"'.encode(), b'{3}\r\n\xc3\xa4"'),
            (b"\xe4", b"{1}\r\n\xe4"),
            (b"a\0b", b'"ab"'),
            (b"\xe4\0", b"{1}\r\n\xe4"),
            (b"a\rb", b'"a b"'),
            (b"a\x01\x7f", b'"a\x01\x7f"'),
            (b"(NIL)", b'"(NIL)"'),
            (b"{3}", b'"{3}"'),
        ]:
            self.assertEqual(subject(value), expected, value)

    def test_nstring(self) -> None:
        self.assertEqual(wire_nstring(None), b"NIL")
        self.assertEqual(wire_nstring(b""), b'""')
        self.assertEqual(wire_nstring(b"NIL"), b'"NIL"')


class PropertyTests(SynchronousTestCase):
    """For any bytes."""

    @given(st.binary(max_size=60))
    @settings(max_examples=200, deadline=None)
    def test_strings_are_read_back(self, value: bytes) -> None:
        expected = value.replace(b"\0", b"").replace(b"\r\n", b" ")
        expected = expected.replace(b"\r", b" ").replace(b"\n", b" ")
        self.assertEqual(read_list(b"(" + wire_string(value) + b")"), [expected])

    @given(
        st.lists(
            st.sampled_from(
                [b"From: ", b"To: ", b"Subject: ", b"Date:", b"\n", b"\n", b"a@b", b"<", b">", b",",
                 b":", b";", b'"', b"\\", b"\xc3\xa4", b"\0", b"(", b")", b" ", b"Sender:", b"@"]
            ),
            max_size=40,
        ).map(b"".join)
    )  # fmt: skip
    @settings(max_examples=200, deadline=None)
    def test_form_is_always_right(self, header: bytes) -> None:
        check_envelope(read_list(envelope(header)))
