"""Lexer, parser, sets, names, patterns, wire forms: examples, properties, hostile input."""

from __future__ import annotations

import contextlib
import re
import time
from array import array
from datetime import UTC, datetime

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from moxtw.imap import lexer, listmatch, names, seqset, wire
from moxtw.imap.commands import COMMANDS
from moxtw.imap.errors import Bad, IMAPError
from moxtw.imap.parser import NeedLiteral, Parser
from tests.unit.imap.support import MAIL, IMAPTestCase

ranges = st.lists(
    st.tuples(st.integers(1, 300), st.integers(1, 300)).map(lambda t: (min(t), max(t))), max_size=8
).map(seqset.normalise)


def numbers(given_ranges: list[tuple[int, int]]) -> set[int]:
    return {n for start, end in given_ranges for n in range(start, end + 1)}


class LexerTests(SynchronousTestCase):
    @given(st.lists(st.binary(max_size=30), max_size=20), st.integers(1, 7))
    @settings(max_examples=100)
    def test_lines_come_out_however_they_come_in(self, lines: list[bytes], step: int) -> None:
        lines = [line.replace(b"\n", b"").rstrip(b"\r") for line in lines]
        wire_form = b"".join(line + b"\r\n" for line in lines)
        buffer = lexer.Lexer()
        found = []
        for start in range(0, len(wire_form), step):
            buffer.feed(wire_form[start : start + step])
            while (line := buffer.line()) is not None:
                found.append(line)
        self.assertEqual(found, lines)
        self.assertEqual(len(buffer), 0)

    def test_take(self) -> None:
        buffer = lexer.Lexer()
        buffer.feed(b"a\r\nliteralb\r\n")
        self.assertEqual(buffer.line(), b"a")
        self.assertEqual(buffer.take(7), b"literal")
        self.assertEqual(buffer.line(), b"b")
        buffer.feed(b"xyz")
        self.assertEqual(buffer.take(10), b"xyz")
        self.assertEqual(buffer.take(10), b"")

    def test_limit(self) -> None:
        for end in (b"\r\n", b"\n"):
            buffer = lexer.Lexer()
            buffer.feed(b"x" * 10 + end)
            self.assertEqual(buffer.line(10), b"x" * 10)
            buffer.feed(b"x" * 11 + end)
            self.assertRaises(lexer.LineTooLong, buffer.line, 10)
        buffer = lexer.Lexer()
        buffer.feed(b"x" * 11)
        self.assertIsNone(buffer.line(10))
        buffer.feed(b"x")
        self.assertRaises(lexer.LineTooLong, buffer.line, 10)

    def test_small_pieces_of_long_lines_cost_linear_time(self) -> None:
        buffer = lexer.Lexer()
        start = time.perf_counter()
        for _ in range(100_000):
            buffer.feed(b"x")
            buffer.line(200_000)
        self.assertLess(time.perf_counter() - start, 2)


class SetTests(SynchronousTestCase):
    def test_parse(self) -> None:
        self.assertEqual(seqset.parse(b"1,3:5,7:*,* x"), ([(1, 1), (3, 5), (7, 0), (0, 0)], 11))
        for text in (b"", b"0", b"x", b",1", b"01", b"4294967296", b"-1"):
            self.assertRaises(Bad, seqset.parse, text)

    def test_resolve(self) -> None:
        self.assertEqual(seqset.resolve([(559, 0)], 100), [(100, 559)])
        self.assertEqual(seqset.resolve([(5, 2), (3, 9)], 100), [(2, 9)])
        self.assertEqual(seqset.resolve([(1, 0)], 0), [])
        self.assertRaises(Bad, seqset.resolve_numbers, [(1, 5)], 4)
        self.assertRaises(Bad, seqset.resolve_numbers, [(0, 0)], 0)

    @given(ranges, ranges)
    @settings(max_examples=150)
    def test_operations_are_those_of_sets(
        self, a: list[tuple[int, int]], b: list[tuple[int, int]]
    ) -> None:
        self.assertEqual(numbers(seqset.intersect(a, b)), numbers(a) & numbers(b))
        self.assertEqual(
            numbers(seqset.complement(a, 1, 200)), set(range(1, 201)) - numbers(a)
        )
        uids = array("I", sorted(numbers(b)))
        self.assertEqual(set(seqset.select(uids, a)), numbers(a) & numbers(b))
        self.assertEqual(set(seqset.without(uids, numbers(a))), numbers(b) - numbers(a))
        self.assertEqual(seqset.to_ranges(sorted(numbers(a))), a)
        for number in range(1, 301):
            self.assertEqual(seqset.contains(a, number), number in numbers(a))
        if a:
            parsed, end = seqset.parse(seqset.format_ranges(a))
            self.assertEqual(seqset.normalise(parsed), a)
            pieces = list(seqset.format_pieces(a, 8))
            self.assertTrue(all(len(piece) <= 8 for piece in pieces))
            again = [pair for piece in pieces for pair in seqset.parse(piece)[0]]
            self.assertEqual(again, a)


class NameTests(SynchronousTestCase):
    def test_examples(self) -> None:
        for name, form in (
            ("~peter/mail/台北/日本語", b"~peter/mail/&U,BTFw-/&ZeVnLIqe-"),
            ("Hi Mom -☺-!", b"Hi Mom -&Jjo--!"),
            ("a&b", b"a&-b"),
            ("Jos\u00e9", b"Jos&AOk-"),
            ("\U0001f600", b"&2D3eAA-"),
        ):
            self.assertEqual(names.encode(name, False), form)
            self.assertEqual(names.decode(form, False), name)
            self.assertEqual(names.encode(name, True), name.encode())
            self.assertEqual(names.decode(name.encode(), True), name)

    def test_other_spellings_are_bad(self) -> None:
        for form in (
            b"&", b"&x", b"&AOk", b"&AOk-&AOk-", b"&AGE-", b"&ACY-", b"&AA-", b"&2D0-", b"&3gA-",
            b"&AOl-", b"&AO k-", b"\xe9", b"a&-\xe9", b"&AOk=-", b"&AOkAYQ-",
        ):  # fmt: skip
            self.assertRaises(Bad, names.decode, form, False)
        self.assertRaises(Bad, names.decode, b"\xff", True)
        self.assertRaises(Bad, names.decode, b"x" * 5000, True)

    @given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=30))
    @settings(max_examples=200)
    def test_decoding_undoes_encoding(self, name: str) -> None:
        self.assertEqual(names.decode(names.encode(name, False), False), name)
        self.assertEqual(names.decode(names.encode(name, True), True), name)

    @given(st.binary(max_size=20))
    @settings(max_examples=200)
    def test_one_spelling(self, form: bytes) -> None:
        try:
            name = names.decode(form, False)
        except Bad:
            return
        # ASCII controls may stand for themselves; the store refuses them.
        if name.isprintable():
            self.assertEqual(names.encode(name, False), form)


class PatternTests(SynchronousTestCase):
    @given(st.text(alphabet="ab/*%", max_size=10), st.text(alphabet="ab/", max_size=10))
    @settings(max_examples=200)
    def test_same_as_a_regular_expression(self, pattern: str, name: str) -> None:
        expression = "".join(
            {"*": ".*", "%": "[^/]*"}.get(c, re.escape(c)) for c in pattern
        )
        self.assertEqual(
            listmatch.compile(pattern)(name), re.fullmatch(expression, name) is not None
        )

    def test_inbox_in_any_case(self) -> None:
        for pattern in ("inbox", "INBOX", "iNb%", "INBOX*"):
            self.assertTrue(listmatch.compile(pattern)("Inbox"))
        self.assertTrue(listmatch.compile("inbox/A")("Inbox/A"))
        self.assertFalse(listmatch.compile("inbox/a")("Inbox/A"))
        self.assertFalse(listmatch.compile("inboxes")("Inboxes"))

    def test_join(self) -> None:
        self.assertEqual(listmatch.join("", "a"), "a")
        self.assertEqual(listmatch.join("a", "b"), "a/b")
        self.assertEqual(listmatch.join("a/", "b"), "a/b")
        self.assertIsNone(listmatch.join("a", "/b"))

    def test_no_pattern_takes_long(self) -> None:
        matches = listmatch.compile("*a" * 500 + "b")
        start = time.perf_counter()
        for _ in range(100):
            matches("a" * 1000)
        self.assertLess(time.perf_counter() - start, 2)


class ParserTests(SynchronousTestCase):
    def test_quoted(self) -> None:
        self.assertEqual(Parser(rb'"a\"b\\"').quoted(), rb'a"b' + b"\\")
        self.assertEqual(Parser(rb'"\\"x"').quoted(), b"\\")
        for text in (rb'"a\b"', b'"', b'"a', b'"a\x00"', rb'"a\"', b'"' + b"a" * 10000):
            self.assertRaises(Bad, Parser(text).quoted)

    def test_astring(self) -> None:
        self.assertEqual(Parser(b"a]b c").astring(), b"a]b")
        self.assertEqual(Parser(b'"a b"').astring(), b"a b")
        for text in (b"", b"(", b" ", b"%", b"*x", b"\\x", b"\x80"):
            self.assertRaises(Bad, Parser(text).astring)

    def test_literal(self) -> None:
        p = Parser(b"{3}")
        with self.assertRaises(NeedLiteral) as caught:
            p.astring()
        self.assertEqual((caught.exception.size, caught.exception.sync), (3, True))
        p.feed(b"abc", b" x")
        p.rewind(0)
        self.assertEqual(p.astring(), b"abc")
        p.space()
        self.assertEqual(p.atom(), b"x")
        p.end()
        for text in (b"{3} ", b"{3", b"{}", b"{-1}", b"{3++}", b"~{3}", b"{99999999999999999999}"):
            self.assertRaises(Bad, Parser(text).string)

    def test_dates(self) -> None:
        self.assertEqual(Parser(b"1-Feb-1970").date(), 31)
        self.assertEqual(Parser(b'"01-feb-1970"').date(), 31)
        self.assertEqual(
            Parser(b'" 1-Jan-1970 01:00:01 +0100"').date_time(), 1_000_000
        )
        for text in (b"30-Feb-2020", b"1-Foo-2020", b"1-Jan-20", b'"1-Jan-2020', b"x"):
            self.assertRaises(Bad, Parser(text).date)
        for text in (b'"1-Jan-1970 01:00:01 +0100"', b'" 1-Jan-1970 25:00:01 +0100"',
                     b'" 1-Jan-1970 01:00:01 +2560"', b'"31-Apr-1970 01:00:01 +0000"',
                     b'" 1-Jan-0000 01:00:01 +0000"', b'" 1-Jan-0001 00:00:00 +1400'):  # fmt: skip
            self.assertRaises(Bad, Parser(text).date_time)

    @given(st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 31)))  # noqa: DTZ001
    @settings(max_examples=100)
    def test_date_time_round_trip(self, time_: datetime) -> None:
        micros = int(time_.replace(microsecond=0, tzinfo=UTC).timestamp()) * 1_000_000
        form = wire.date_time(micros)
        self.assertEqual(Parser(b'"' + form + b'"').date_time(), micros)

    @given(st.binary(max_size=60), st.booleans())
    @settings(max_examples=200)
    def test_string_round_trip(self, value: bytes, utf8: bool) -> None:
        for make in (wire.string, wire.astring):
            form = make(value, utf8)
            p = Parser(form.partition(b"\r\n")[0])
            try:
                self.assertEqual(p.astring(), value)
                p.end()
            except NeedLiteral as need:
                self.assertEqual(form[-need.size :] if need.size else b"", value)

    @given(st.sampled_from(sorted(COMMANDS)), st.binary(max_size=80))
    @settings(max_examples=200)
    def test_arguments_are_parsed_or_refused(self, name: bytes, rest: bytes) -> None:
        p = Parser(b" " + rest.replace(b"\n", b""))
        with contextlib.suppress(IMAPError, NeedLiteral):
            COMMANDS[name].parse(p)


_WORDS_TEXT = (
    "1:* * 1 $ ( ) [ ] <0.5> \\Seen +FLAGS FLAGS UID ALL BODY[] BODY[HEADER.FIELDS (A)] {3} {3+}"
    ' {99999999+} "x" "" NIL Inbox RETURN SAVE NOT OR FROM a UNCHANGEDSINCE CHANGEDSINCE CONDSTORE'
    " QRESYNC STATUS MESSAGES ~{3+} UTF8 \xff \x00 + - % & , : 0 4294967296 DONE"
)
_WORDS = _WORDS_TEXT.split(" ")
_NAMES = sorted(name.decode() for name in COMMANDS if name != b"LOGOUT")


class FuzzTests(IMAPTestCase):
    """Whatever a client sends, each line gets an answer, and the connection never breaks down."""

    def play(self, chunks: list[bytes], login: bool) -> None:
        client = self.connect(f"192.0.2.{self.number % 250 + 1}")
        self.number += 1
        client.output()
        if login:
            client.login()
            client.command("SELECT Inbox")
        for chunk in chunks:
            if client.closed:
                break
            client.send(chunk)
            # A wrong password is waited for, slowly; commands give others their turn.
            self.clock.pump([0, 0, 0.1])
        self.assertEqual(self.flushLoggedErrors(), [])
        output = client.output()
        self.assertNotIn(b"SERVERBUG", output, chunks)
        self.assertNotIn(b"internal error", output, chunks)
        client.transport.loseConnection()

    number = 0

    def setUp(self) -> None:
        super().setUp()
        self.deliver(MAIL, count=2)

    @given(
        st.lists(
            st.tuples(
                st.sampled_from(_NAMES),
                st.lists(st.sampled_from(_WORDS), max_size=6),
                st.sampled_from(("\r\n", "\r\n", "\n", "")),
            ),
            max_size=8,
        ),
        st.booleans(),
    )
    @settings(max_examples=150, deadline=None)
    def test_words(
        self, commands: list[tuple[str, list[str], str]], login: bool
    ) -> None:
        chunks = [
            f"t {name} {' '.join(words)}{end}".encode("latin-1") for name, words, end in commands
        ]
        self.play(chunks, login)

    @given(st.lists(st.binary(max_size=60), max_size=8), st.booleans())
    @settings(max_examples=100, deadline=None)
    def test_bytes(self, chunks: list[bytes], login: bool) -> None:
        self.play(chunks, login)
