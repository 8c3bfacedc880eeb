"""Tests of moxtw.mail.header."""

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from moxtw.mail.header import (
    MAX_HEADERS,
    Headers,
    find_body,
    iter_fields,
    parse_headers,
    select_fields,
    unfold,
)

MESSAGE = (
    b"Received: from a\r\n\tby b; now\r\n"
    b"Subject: one\r\n"
    b"X-Odd : spaced\r\n"
    b"junk line\r\n"
    b"SUBJECT:two\r\n"
    b"Empty:\r\n"
    b"\r\n"
    b"Body: text\r\n"
)


class FindBodyTests(SynchronousTestCase):
    """Where the header ends."""

    def test_table(self) -> None:
        for data, expected in [
            (b"", 0),
            (b"\r\n", 2),
            (b"\n", 1),
            (b"\r\nA: b\r\n\r\n", 2),
            (b"\nbody", 1),
            (b"A: b\r\n\r\nbody", 8),
            (b"A: b\n\nbody", 6),
            (b"A: b\n\r\nbody", 7),
            (b"A: b\r\n\nbody", 7),
            (b"A: b\r\r\n\r\r\nbody", 10),
            (b"\r\r\nbody", 3),
            (b"\rA: b\r\nC: d\r\n\r\nx", 15),
            # The first empty line counts, whichever form it has.
            (b"A: b\n\nbody\r\n\r\nx", 6),
            (b"A: b\n\n\r\nx", 6),
            (b"A: b\r\n\r\nbody\n\nx", 8),
            # No empty line: all is header.
            (b"A: b\r\nC: d\r\n", 12),
            (b"A: b", 4),
            # No field at all: all is body, even if there is an empty line further down.
            (b"hello\r\nworld\r\n", 0),
            (b"hello\r\n\r\nworld\r\n", 0),
            (b" : x\r\n\r\n", 0),
            # Junk in front of fields does not end the header.
            (b"From me Mon Jan 1\r\nA: b\r\n\r\nx", 27),
            (b">From me\nA: b\n\nx", 15),
            # A line of blanks continues a field; it is not empty.
            (b"A: b\r\n \r\nC: d\r\n\r\nx", 17),
            (b"A: \x00\xff\r\n\r\nx", 9),
        ]:
            self.assertEqual(find_body(data, 0, len(data)), expected, data)

    def test_works_within_a_range(self) -> None:
        data = b"xx\n\nA: b\r\n\r\nbody"
        self.assertEqual(find_body(data, 4, len(data)), 12)
        self.assertEqual(find_body(data, 4, 10), 10)
        # A CRLF that ends behind the range is not seen.
        self.assertEqual(find_body(data, 4, 11), 11)
        self.assertEqual(find_body(data, 2, 3), 3)


class HeadersTests(SynchronousTestCase):
    """Fields and values."""

    def test_values_are_unfolded_and_trimmed(self) -> None:
        headers = parse_headers(MESSAGE)
        self.assertEqual(headers.get("Received"), "from a\tby b; now")
        self.assertEqual(headers.get("subject"), "one")
        self.assertEqual(headers.all(b"Subject"), ["one", "two"])
        self.assertEqual(headers.get("empty"), "")
        self.assertIsNone(headers.get("missing"))
        self.assertEqual(headers.all("missing"), [])
        self.assertEqual(headers.get("x-odd"), "spaced")
        self.assertIn(b"empty", headers)
        self.assertNotIn(b"body", headers)
        self.assertEqual(MESSAGE[headers.body_offset :], b"Body: text\r\n")
        self.assertEqual(headers.section + b"Body: text\r\n", MESSAGE)

    def test_fields_have_exact_offsets(self) -> None:
        fields = parse_headers(MESSAGE).fields
        self.assertEqual(
            [(f.name, MESSAGE[f.start : f.end], unfold(MESSAGE[f.value : f.end])) for f in fields],
            [
                (b"received", b"Received: from a\r\n\tby b; now\r\n", b"from a\tby b; now"),
                (b"subject", b"Subject: one\r\n", b"one"),
                (b"x-odd", b"X-Odd : spaced\r\n", b"spaced"),
                (b"subject", b"SUBJECT:two\r\n", b"two"),
                (b"empty", b"Empty:\r\n", b""),
            ],
        )

    def test_bare_lf(self) -> None:
        headers = parse_headers(b"Subject: a\n b\nTo: c\n\nbody\n")
        self.assertEqual(headers.get("subject"), "a b")
        self.assertEqual(headers.get("to"), "c")

    def test_8bit_text(self) -> None:
        utf8 = parse_headers("Subject: Grüße\r\n\r\n".encode())
        self.assertEqual(utf8.get("subject"), "Grüße")
        latin1 = parse_headers("Subject: Grüße\r\n\r\n".encode("latin-1"))
        self.assertEqual(latin1.get("subject"), "Grüße")
        self.assertEqual(parse_headers(b"Subject: a\0b\r\n\r\n").get("subject"), "ab")

    def test_words_are_decoded_on_request(self) -> None:
        headers = parse_headers(b"Subject: =?utf-8?q?a=C3=A4?=\r\n\r\n")
        self.assertEqual(headers.get("subject"), "=?utf-8?q?a=C3=A4?=")
        self.assertEqual(headers.text("subject"), "aä")
        self.assertIsNone(headers.text("to"))

    def test_first_fields_are_read_up_to_the_limit(self) -> None:
        data = b"".join(b"H%d: v\r\n" % i for i in range(MAX_HEADERS + 5)) + b"\r\nbody"
        headers = parse_headers(data)
        self.assertEqual(len(headers.fields), MAX_HEADERS)
        self.assertEqual(headers.get(f"h{MAX_HEADERS - 1}"), "v")
        self.assertIsNone(headers.get(f"h{MAX_HEADERS}"))
        self.assertEqual(data[headers.body_offset :], b"body")

    def test_folding_at_the_very_start_is_skipped(self) -> None:
        headers = parse_headers(b" folded: x\r\nA: b\r\n\r\n")
        self.assertIsNone(headers.get("folded"))
        self.assertEqual(headers.get("a"), "b")


class SelectFieldsTests(SynchronousTestCase):
    """HEADER.FIELDS and HEADER.FIELDS.NOT."""

    section = MESSAGE[: -len(b"Body: text\r\n")]

    def test_fields(self) -> None:
        self.assertEqual(
            select_fields(self.section, [b"subject"]),
            b"Subject: one\r\nSUBJECT:two\r\n\r\n",
        )
        self.assertEqual(
            select_fields(self.section, {b"received", b"x-odd"}),
            b"Received: from a\r\n\tby b; now\r\nX-Odd : spaced\r\n\r\n",
        )
        self.assertEqual(select_fields(self.section, []), b"\r\n")

    def test_fields_not(self) -> None:
        self.assertEqual(
            select_fields(self.section, [b"received", b"subject"], exclude=True),
            b"X-Odd : spaced\r\njunk line\r\nEmpty:\r\n\r\n",
        )
        self.assertEqual(select_fields(self.section, [], exclude=True), self.section)

    def test_section_without_empty_line(self) -> None:
        self.assertEqual(select_fields(b"A: b\r\nC: d", [b"c"]), b"C: d")
        self.assertEqual(select_fields(b"", [b"c"]), b"")

    @given(st.binary(max_size=200), st.lists(st.sampled_from([b"a", b"b", b""]), max_size=3))
    @settings(max_examples=150, deadline=None)
    def test_every_line_is_in_one_of_both(self, data: bytes, names: list[bytes]) -> None:
        fields = list(iter_fields(data, 0, len(data)))
        self.assertEqual(b"".join(data[f.start : f.end] for f in fields), data)
        empty = sum(f.end - f.start for f in fields if data[f.start : f.end] in (b"\n", b"\r\n"))
        both = select_fields(data, names) + select_fields(data, names, exclude=True)
        self.assertEqual(len(both), len(data) + empty)


class PropertyTests(SynchronousTestCase):
    """For any bytes."""

    @given(
        st.lists(
            st.sampled_from([b"a", b":", b" ", b"\r\n", b"\n", b"\t", b"\r", b"B: c\r\n", b"\0"]),
            max_size=40,
        ).map(b"".join)
    )
    @settings(max_examples=200, deadline=None)
    def test_index_and_fields_agree(self, data: bytes) -> None:
        headers = parse_headers(data)
        self.assertTrue(0 <= headers.body_offset <= len(data))
        for field in headers.fields:
            self.assertIn(unfold(data[field.value : field.end]), headers.raw_all(field.name))
        # The same when the end of the section is known.
        again = Headers(data, 0, headers.body_offset)
        self.assertEqual(again.fields, headers.fields)
