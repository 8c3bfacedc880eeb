"""Tests of moxtw.mail.transfer."""

import base64
import quopri

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from moxtw.mail import transfer


class DecodeTests(SynchronousTestCase):
    """Content, sound and damaged."""

    def test_table(self) -> None:
        for data, encoding, expected in [
            (b"a=b", "7bit", b"a=b"),
            (b"a\0b", "binary", b"a\0b"),
            (b"YWJj", "base64", b"abc"),
            (b"YW\r\nJj\r\n", "base64", b"abc"),
            (b"YW Jj!\0", "base64", b"abc"),
            (b"YWI=", "base64", b"ab"),
            (b"YWI", "base64", b"ab"),
            (b"YQ", "base64", b"a"),
            (b"YWJjZ", "base64", b"abc"),
            (b"", "base64", b""),
            (b"=", "base64", b""),
            (b"Z", "base64", b""),
            (b"a=3Db", "quoted-printable", b"a=b"),
            (b"a=3db", "quoted-printable", b"a=b"),
            (b"a=\r\nb", "quoted-printable", b"ab"),
            (b"a=\nb", "quoted-printable", b"ab"),
            (b"a=  \r\nb", "quoted-printable", b"ab"),
            (b"a  \r\nb\t \n", "quoted-printable", b"a\r\nb\n"),
            (b"a=20\r\n", "quoted-printable", b"a \r\n"),
            (b"a=", "quoted-printable", b"a"),
            (b"a=zz", "quoted-printable", b"a=zz"),
        ]:
            self.assertEqual(transfer.decode(data, encoding), expected, data)

    def test_unknown_encoding(self) -> None:
        self.assertRaises(transfer.UnknownEncoding, transfer.decode, b"", "x-uuencode")
        self.assertRaises(transfer.UnknownEncoding, transfer.decoder, "BASE64")

    def test_long_blanks_cost_no_quadratic_time(self) -> None:
        data = b" " * 300_000 + b"x \r\n"
        self.assertEqual(len(transfer.decode(data, "quoted-printable")), 300_003)


def _pieces(data: bytes, cuts: list[int], encoding: str) -> bytes:
    decoder = transfer.decoder(encoding)
    out = []
    start = 0
    for cut in [*sorted(cut % (len(data) + 1) for cut in cuts), len(data)]:
        out.append(decoder.feed(data[start:cut]))
        start = cut
    out.append(decoder.finish())
    return b"".join(out)


class DecoderTests(SynchronousTestCase):
    """Content that comes in pieces."""

    @given(st.binary(max_size=300), st.lists(st.integers(0, 1000), max_size=6))
    @settings(max_examples=150, deadline=None)
    def test_encoded_content_comes_back(self, content: bytes, cuts: list[int]) -> None:
        encoded = base64.encodebytes(content).replace(b"\n", b"\r\n")
        self.assertEqual(_pieces(encoded, cuts, "base64"), content)
        self.assertEqual(_pieces(content, cuts, "8bit"), content)
        # Line ends within binary content would be encoded by a mail program, not by quopri.
        text = content.replace(b"\r", b"").replace(b"\n", b"")
        encoded = quopri.encodestring(text).replace(b"\n", b"\r\n")
        self.assertEqual(_pieces(encoded, cuts, "quoted-printable"), text)

    @given(
        st.lists(st.sampled_from([b"=", b"YWJj", b"=3D", b" ", b"\r\n", b"\n", b"x", b"=\r\n"]),
                 max_size=20).map(b"".join),
        st.lists(st.integers(0, 1000), max_size=6),
    )  # fmt: skip
    @settings(max_examples=200, deadline=None)
    def test_damaged_quoted_printable_is_the_same_in_pieces(
        self, data: bytes, cuts: list[int]
    ) -> None:
        whole = transfer.decode(data, "quoted-printable")
        self.assertEqual(_pieces(data, cuts, "quoted-printable"), whole)

    def test_long_line(self) -> None:
        data = b"a=3D" * 100_000
        self.assertEqual(_pieces(data, [70_001, 140_003], "quoted-printable"), b"a=" * 100_000)
