"""The mbox and maildir formats: what is written is read again, whatever it is."""

from __future__ import annotations

import io
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from moxtw.mail import maildir, mbox

FLAGS = ["\\seen", "\\answered", "\\flagged", "\\draft", "\\deleted", "$junk", "$forwarded", "work"]


def read_all(data: bytes, step: int = 1 << 20) -> list[tuple[bytes, bytes, set[str]]]:
    """From line, message and flags of all messages, read in steps of some bytes."""
    found: list[Any] = []
    file = io.BytesIO(data)
    for part in mbox.read(lambda size: file.read(min(size, step))):
        if isinstance(part, mbox.Start):
            found.append([part.from_line, b"", set()])
            continue
        if part.first:
            text, found[-1][2] = mbox.take_status(part.data)
            part = part._replace(data=text)
        found[-1][1] += mbox.unquote(part)
    return [tuple(each) for each in found]


def write(messages: list[bytes], flags: list[str] | None = None) -> bytes:
    return b"".join(
        mbox.from_line("a@b.example", 0) + mbox.status_fields(flags or []) + mbox.quote(m) + b"\n"
        for m in messages
    )


_LINES = st.sampled_from(
    [b"From me", b">From you", b">>From", b"From", b"", b"text", b"From ", b" From x", b"Status: x"]
) | st.binary(max_size=20).map(lambda d: d.replace(b"\r", b"").replace(b"\n", b""))
_MESSAGES = st.lists(
    st.lists(_LINES, max_size=8).map(
        lambda lines: b"Subject: x\r\n\r\n" + b"".join(line + b"\r\n" for line in lines)
    ),
    max_size=5,
)


class MboxTests(SynchronousTestCase):
    @settings(max_examples=150, deadline=None, database=None)
    @given(_MESSAGES, st.sets(st.sampled_from(FLAGS)), st.integers(min_value=1, max_value=300))
    def test_what_is_written_is_read(
        self, messages: list[bytes], flags: set[str], step: int
    ) -> None:
        found = read_all(write(messages, sorted(flags)), step)
        self.assertEqual([message for _, message, _ in found], messages)
        self.assertTrue(all(each[2] == flags for each in found))

    @settings(max_examples=100, deadline=None, database=None)
    @given(st.lists(st.sampled_from([b"From ", b"\n", b"\r\n", b">"]) | st.binary(max_size=4)))
    def test_anything_is_read_or_refused_the_same_in_small_steps(self, parts: list[bytes]) -> None:
        data = b"From " + b"".join(parts)
        self.assertEqual(read_all(data), read_all(data, 3))

    def test_large_messages_come_in_pieces(self) -> None:
        self.patch(mbox, "PIECE", 1000)
        self.patch(mbox, "READ", 300)
        body = b"From line\r\n" * 2000
        long = b"x" * 5000 + b"\r\nFrom end\r\n"
        messages = [b"Subject: 1\r\n\r\n" + body, b"Subject: 2\r\n\r\n" + long, b"A: b\r\n\r\n"]
        self.assertEqual([m for _, m, _ in read_all(write(messages))], messages)
        sizes = []
        file = io.BytesIO(write(messages))
        for part in mbox.read(file.read):
            if isinstance(part, mbox.Piece):
                sizes.append(len(part.data))
        self.assertGreater(len(sizes), 20)
        self.assertLess(max(sizes), 3000)

    def test_files_that_are_no_mbox(self) -> None:
        self.assertEqual(read_all(b""), [])
        for bad in [b"Subject: x\n\n", b"\nFrom x\n", b"Fro", b"From " + b"x" * 5000]:
            with self.assertRaises(mbox.MboxError):
                read_all(bad)

    def test_separators(self) -> None:
        data = b"From a\nA: 1\n\nFrom the start\nof a line\nFrom b\n\nFrom c\r\nB: 2\r\n\r\nx\r\n"
        found = read_all(data)
        self.assertEqual([f for f, _, _ in found], [b"From a", b"From the start", b"From c"])
        self.assertEqual(found[1][1], b"of a line\r\nFrom b\r\n")
        self.assertEqual(found[2][1], b"B: 2\r\n\r\nx\r\n")

    def test_flags_of_other_programs(self) -> None:
        data = (
            b"From a\nSubject: x\nStatus: RO\nX-Status: AFT\nX-Keywords: NonJunk, Work  \n"
            b" $MDNSent\nTo: y\n\nStatus: R\n"
        )
        ((_, message, flags),) = read_all(data)
        self.assertEqual(message, b"Subject: x\r\nTo: y\r\n\r\nStatus: R\r\n")
        self.assertEqual(
            flags,
            {"\\seen", "\\answered", "\\flagged", "\\draft", "$notjunk", "work", "$mdnsent"},
        )

    def test_times_of_from_lines(self) -> None:
        second = 1_136_214_245 * 1_000_000  # 2006-01-02 15:04:05
        for text, zone in [
            ("a@b Mon Jan  2 15:04:05 2006", 0),
            ("- Mon Jan  2 15:04:05 2006", 0),
            ("MAILER-DAEMON Mon Jan 2 15:04:05 MST 2006", -420),
            ("a@b Mon Jan 02 15:04:05 2006 +0100", 60),
            ('"a b"@c Mon, 2 Jan 2006 15:04:05 +0000', 0),
        ]:
            found = mbox.parse_from_line(b"From " + text.encode())
            self.assertEqual(found, second - zone * 60_000_000, text)
        for text in ["", "a@b", "a@b yesterday", "Mon Tue Wed"]:
            self.assertIsNone(mbox.parse_from_line(b"From " + text.encode()))
        line = mbox.from_line("a b\n@c", second)
        self.assertEqual(line, b"From ab@c Mon Jan  2 15:04:05 2006\n")
        self.assertEqual(mbox.parse_from_line(line), second)


class MaildirTests(SynchronousTestCase):
    @settings(max_examples=100, deadline=None, database=None)
    @given(
        st.sets(st.sampled_from(FLAGS)),
        st.integers(min_value=0, max_value=2**33),
        st.integers(min_value=1, max_value=2**40),
    )
    def test_names(self, flags: set[str], seconds: int, number: int) -> None:
        words = [*maildir.FIXED_KEYWORDS, "work"]
        letters = maildir.letters_for(words)
        folder, name = maildir.format_name(seconds * 1_000_000, number, flags, letters)
        self.assertEqual(folder, "cur" if "\\seen" in flags else "new")
        received, found, marks = maildir.parse_name(name)
        self.assertEqual(received, seconds * 1_000_000)
        known = maildir.parse_keywords(maildir.format_keywords(words))
        self.assertEqual(found | {known[mark] for mark in marks}, flags)

    def test_names_of_others(self) -> None:
        self.assertEqual(
            maildir.parse_name("1600000000.M1P2.host,S=5:2,PRSTab"),
            (1_600_000_000_000_000, {"\\answered", "\\seen", "\\deleted"}, "ab"),
        )
        self.assertEqual(maildir.parse_name("x.y"), (None, set(), ""))
        self.assertEqual(maildir.parse_name("99999999999999999.x:2,S")[0], None)

    def test_keyword_files_of_others(self) -> None:
        data = b"0 NonJunk\n1 $label1\nx y\n99 z\n26 a\n3\n"
        self.assertEqual(maildir.parse_keywords(data), {"a": "$notjunk", "b": "$label1"})
