"""Tests of moxtw.mail.words and moxtw.mail.charset."""

from email.header import decode_header as stdlib_decode

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from moxtw.mail import charset
from moxtw.mail.words import decode_header, decode_words, encode_phrase, encode_words, header_text


class DecodeWordsTests(SynchronousTestCase):
    """RFC 2047."""

    def test_table(self) -> None:
        for text, expected in [
            ("plain", "plain"),
            ("=?utf-8?q?a=C3=A4?=", "aä"),
            ("=?UTF-8?Q?a=C3=A4?=", "aä"),
            ("=?utf-8?b?w6Q=?=", "ä"),
            ("=?utf-8?B?w6Q?=", "ä"),  # without padding
            ("=?iso-8859-1?q?=E4?=", "ä"),
            ("=?iso-8859-1*de?q?=E4?=", "ä"),  # RFC 2231 5
            ("=?us-ascii?q?a_b?=", "a b"),
            ("=?utf-8?q?a b?=", "a b"),
            # RFC 2047 8
            ("(=?ISO-8859-1?Q?a?=)", "(a)"),
            ("(=?ISO-8859-1?Q?a?= b)", "(a b)"),
            ("(=?ISO-8859-1?Q?a?= =?ISO-8859-1?Q?b?=)", "(ab)"),
            ("(=?ISO-8859-1?Q?a?=  \t =?ISO-8859-1?Q?b?=)", "(ab)"),
            ("(=?ISO-8859-1?Q?a_b?=)", "(a b)"),
            ("(=?ISO-8859-1?Q?a?= =?ISO-8859-2?Q?_b?=)", "(a b)"),
            ("x =?utf-8?q?a?= y =?utf-8?q?b?= z", "x a y b z"),
            # A character cut in two
            ("=?utf-8?q?=C3?= =?utf-8?q?=A4?=", "ä"),
            ("=?utf-8?b?ww==?= =?utf-8?b?pA==?=", "ä"),
            # Damage
            ("=?utf-8?q?a", "=?utf-8?q?a"),
            ("=?utf-8?x?a?=", "=?utf-8?x?a?="),
            ("=?utf-8?b?***?=", "=?utf-8?b?***?="),
            ("=?utf-8?q?=C3?=", "\ufffd"),
            ("=?nonsense?q?=C3=A4?=", "ä"),
            ("=?nonsense?q?=E4?=", "ä"),
            ("=??q?a?=", "=??q?a?="),
            ("=?utf-8?q??=", ""),
            ("=?utf-8?q?a=00b?=", "ab"),
            ("=?utf-8?q?a=?= b", "a b"),
        ]:
            self.assertEqual(decode_words(text), expected, text)

    def test_raw_text(self) -> None:
        self.assertEqual(decode_header("ä =?utf-8?q?=C3=A4?=".encode()), "ä ä")
        self.assertEqual(header_text("ä".encode("latin-1")), "ä")
        self.assertEqual(header_text(b"a\0b"), "ab")

    @given(st.text(st.characters(blacklist_categories=("Cs",)), max_size=200))
    @settings(max_examples=150, deadline=None)
    def test_encoded_text_is_decoded_again(self, text: str) -> None:
        encoded = encode_words(text, 40)
        self.assertTrue(encoded.isascii())
        if encoded != text:
            for number, word in enumerate(encoded.split(" ")):
                self.assertLessEqual(len(word), 75 if number else 40)
                # Each word is whole: RFC 2047 5 (3).
                ((data, _),) = stdlib_decode(word)
                if isinstance(data, bytes):
                    data.decode("utf-8")
        self.assertEqual(decode_words(encoded), text.replace("\0", "") if encoded != text else text)

    def test_short_encoding_is_chosen(self) -> None:
        self.assertEqual(encode_words("abcd ä"), "=?utf-8?q?abcd_=C3=A4?=")
        self.assertEqual(encode_words("äöü"), "=?utf-8?b?w6TDtsO8?=")
        self.assertEqual(encode_words("plain text"), "plain text")
        self.assertNotIn("\n", encode_words("a\r\nB: c"))

    def test_phrases(self) -> None:
        for text, expected in [
            ("Joe Doe", "Joe Doe"),
            ("Joe Q. Doe", '"Joe Q. Doe"'),
            ('a "b" \\c', '"a \\"b\\" \\\\c"'),
            ("Doe, Joe", '"Doe, Joe"'),
            ("Jö", "=?utf-8?b?SsO2?="),
            ("=?x", "=?utf-8?b?PT94?="),
        ]:
            self.assertEqual(encode_phrase(text), expected)

    @given(
        st.lists(
            st.sampled_from(
                ["=?", "?=", "utf-8", "?q?", "?b?", "=C3", "w6Q=", " ", "ä", "\0", "="]
            ),
            max_size=20,
        ).map("".join)
    )
    @settings(max_examples=200, deadline=None)
    def test_never_fails(self, text: str) -> None:
        decode_words(text).encode("utf-8")


class CharsetTests(SynchronousTestCase):
    """Bytes into text."""

    def test_table(self) -> None:
        for data, name, expected in [
            (b"abc", None, "abc"),
            ("ä".encode(), None, "ä"),
            (b"\xe4", None, "ä"),
            (b"\xe4", "us-ascii", "ä"),
            ("ä".encode(), "us-ascii", "ä"),
            (b"\xe4", "iso-8859-1", "ä"),
            (b"\x80", "iso-8859-1", "€"),
            (b"\xa4", "ISO-8859-15", "€"),
            (b"\x80", "Windows-1252", "€"),
            (b"\xcf", "windows_1251", "П"),
            (b"\xcf", "cp-1251", "П"),
            (b"\xf0", "koi8-r", "П"),
            ("日本".encode("iso2022_jp"), "ISO-2022-JP", "日本"),
            ("日本".encode("cp932"), "x-sjis", "日本"),
            ("中".encode("gb18030"), "gb2312", "中"),
            ("한".encode("cp949"), "ks_c_5601-1987", "한"),
            (b"+AOQ-", "utf-7", "ä"),
            (b"+AOQ-", "unicode-1-1-utf-7", "ä"),
            ("ä".encode("utf-16"), "utf-16", "ä"),
            ("שלום".encode("iso8859_8"), "iso-8859-8-i", "שלום"),
            (b"\xc3", "utf-8", "\ufffd"),
            # No charsets, whatever Python makes of these names
            (b"eJw=", "zlib", "eJw="),
            (b"6162", "hex", "6162"),
            (b"nop", "rot13", "nop"),
            (b"a-b", "punycode", "a-b"),
            (b"\\u0041", "unicode_escape", "\\u0041"),
            (b"a.b", "idna", "a.b"),
            (b"x", "../../etc", "x"),
            (b"x", "u" * 100, "x"),
            (b"x", "", "x"),
        ]:
            self.assertEqual(charset.decode(data, name), expected, (data, name))

    def test_cut_off_utf8_is_still_utf8(self) -> None:
        self.assertEqual(charset.guess("äö".encode()[:-1]), "ä\ufffd")

    def test_result_has_no_surrogates(self) -> None:
        for name in ("utf-7", "utf-16", "utf-8", "utf-32"):
            for data in (b"+2AA-", b"\xd8\x00\xd8\x00", b"\xed\xa0\x80", b"\x00\xd8\x00\x00"):
                charset.decode(data, name).encode("utf-8")

    def test_names(self) -> None:
        self.assertTrue(charset.is_known("utf-8"))
        self.assertFalse(charset.is_known("x-unknown"))
        self.assertFalse(charset.is_known("hex"))
        self.assertTrue(charset.is_ascii_superset("utf-8"))
        self.assertTrue(charset.is_ascii_superset("x-unknown"))
        self.assertFalse(charset.is_ascii_superset("utf-7"))
        self.assertFalse(charset.is_ascii_superset("utf-16"))
        self.assertFalse(charset.is_ascii_superset("iso-2022-jp"))

    @given(st.binary(max_size=60), st.sampled_from(sorted(charset._PYTHON_NAMES)))
    @settings(max_examples=200, deadline=None)
    def test_never_fails(self, data: bytes, name: str) -> None:
        charset.decode(data, name).encode("utf-8")
