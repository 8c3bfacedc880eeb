"""The scanner of message content, against a slow and obvious one."""

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from moxtw.smtp.datascan import DataScanner


def reference(data: bytes) -> tuple[bytes, bool, bool, bytes]:
    """(content, bad, done, rest), one line at a time."""
    out = []
    bad = False
    after_crlf = True
    at = 0
    while True:
        lf = data.find(b"\n", at)
        if lf < 0:
            return b"".join(out), bad, False, b""
        line = data[at:lf]
        at = lf + 1
        crlf = line.endswith(b"\r")
        if crlf:
            line = line[:-1]
        if b"\r" in line:
            bad = True
        if line == b".":
            if after_crlf and crlf:
                return b"".join(out), bad, True, data[at:]
            bad = True
        if after_crlf and line.startswith(b"."):
            line = line[1:]
        out.append(line + b"\r\n")
        after_crlf = crlf


def scan(chunks: list[bytes]) -> tuple[bytes, bool, bool, bytes]:
    scanner = DataScanner()
    out = []
    for index, chunk in enumerate(chunks):
        piece, done, rest = scanner.feed(chunk)
        out.append(piece)
        if done:
            rest += b"".join(chunks[index + 1 :])
            return b"".join(out), scanner.bad, True, rest
    return b"".join(out), scanner.bad, False, b""


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    chunks = []
    for size in sizes:
        chunks.append(data[:size])
        data = data[size:]
    chunks.append(data)
    return chunks


# Mostly what matters: line ends, dots, and something else.
tricky = st.lists(
    st.sampled_from([b"\r", b"\n", b"\r\n", b".", b"a", b"\r\n.", b"..", b"\r\n.\r\n", b"\n.\n"]),
    max_size=24,
).map(b"".join)


class ReferenceTests(SynchronousTestCase):
    @settings(max_examples=200, deadline=None)
    @given(data=tricky, sizes=st.lists(st.integers(0, 6), max_size=40))
    def test_every_chunking_gives_what_the_reference_gives(
        self, data: bytes, sizes: list[int]
    ) -> None:
        data += b"\r\n.\r\nQUIT\r\n"
        content, bad, done, rest = reference(data)
        got = scan(cut(data, sizes))
        self.assertTrue(done)
        self.assertEqual(got[1:], (bad, True, rest))
        if not bad:
            self.assertEqual(got[0], content)

    @settings(max_examples=100, deadline=None)
    @given(data=tricky)
    def test_byte_by_byte(self, data: bytes) -> None:
        data += b"\r\n.\r\n"
        content, bad, _, rest = reference(data)
        got = scan([data[i : i + 1] for i in range(len(data))])
        self.assertEqual(got[1:], (bad, True, rest))
        if not bad:
            self.assertEqual(got[0], content)

    @settings(max_examples=100, deadline=None)
    @given(data=tricky, sizes=st.lists(st.integers(0, 6), max_size=40))
    def test_without_an_end_nothing_is_done_and_little_is_held_back(
        self, data: bytes, sizes: list[int]
    ) -> None:
        content, bad, done, _ = reference(data)
        if done:
            return
        got, got_bad, got_done, _ = scan(cut(data, sizes))
        self.assertFalse(got_done)
        if not bad and not got_bad:
            # The reference gives whole lines only, the scanner all but an open tail.
            self.assertEqual(content[: len(got)], got[: len(content)])
            self.assertLessEqual(len(content) - len(got), 4)


class CaseTests(SynchronousTestCase):
    def check_good(self, data: bytes, content: bytes, rest: bytes = b"") -> None:
        self.assertEqual(scan([data]), (content, False, True, rest))
        self.assertEqual(
            scan([data[i : i + 1] for i in range(len(data))]), (content, False, True, rest)
        )

    def check_bad(self, data: bytes, rest: bytes = b"") -> None:
        for chunks in ([data], [data[i : i + 1] for i in range(len(data))]):
            _, bad, done, got_rest = scan(chunks)
            self.assertEqual((bad, done, got_rest), (True, True, rest), chunks)

    def test_empty_message(self) -> None:
        self.check_good(b".\r\n", b"")

    def test_plain(self) -> None:
        self.check_good(b"a: b\r\n\r\nc\r\n.\r\nNOOP\r\n", b"a: b\r\n\r\nc\r\n", b"NOOP\r\n")

    def test_dot_at_the_start_of_a_line_is_taken_off(self) -> None:
        self.check_good(b"..a\r\n...\r\n.b\r\n.\r\n", b".a\r\n..\r\nb\r\n")

    def test_bare_lf_becomes_crlf_and_keeps_its_dot(self) -> None:
        self.check_good(b"a\n.b\nc\r\n.\r\n", b"a\r\n.b\r\nc\r\n")

    def test_bare_lf_at_the_start(self) -> None:
        self.check_good(b"\n\r\n.\r\n", b"\r\n\r\n")

    def test_smuggling_variants_are_bad_and_end_at_the_proper_end(self) -> None:
        for fake in (
            b"\n.\n",
            b"\n.\r\n",
            b"\r\n.\n",
            b"\r.\r",
            b"\r\n.\r",
            b"\r.\r\n",
            b"\r\r\n.\n",
            b"\n\n.\n\n",
            b"\r\n\x00.\r",
            b"\r\n.\r\r\n",
        ):
            # Not a CRLF directly behind: "\r" + "\r\n" would read otherwise.
            self.check_bad(
                b"a: b\r\n\r\nc" + fake + b"MAIL FROM:<x@example.org>\r\n.\r\nQUIT\r\n",
                b"QUIT\r\n",
            )

    def test_lone_dot_before_lf_at_the_very_start(self) -> None:
        self.check_bad(b".\nx\r\n.\r\n")

    def test_bare_cr_anywhere(self) -> None:
        self.check_bad(b"\rx\r\n.\r\n")
        self.check_bad(b"x\ry\r\n.\r\n")
        self.check_bad(b"x\r\r\n.\r\n")

    def test_what_follows_the_end_is_not_judged(self) -> None:
        self.check_good(b"a\r\n.\r\nb\rc\n.\n", b"a\r\n", b"b\rc\n.\n")

    def test_output_stops_once_bad(self) -> None:
        scanner = DataScanner()
        self.assertEqual(scanner.feed(b"a\rb"), (b"", False, b""))
        self.assertTrue(scanner.bad)
        self.assertEqual(scanner.feed(b"cccc\r\n"), (b"", False, b""))
        self.assertEqual(scanner.feed(b".\r\nx"), (b"", True, b"x"))

    def test_work_is_linear_for_one_byte_chunks(self) -> None:
        scanner = DataScanner()
        total = 0
        for _ in range(50_000):
            out, _, _ = scanner.feed(b"\n")
            total += len(out)
        self.assertLessEqual(len(scanner._held), 4)
        self.assertEqual(total, 2 * 49_999)
