"""Messages in other transfer encodings."""

from __future__ import annotations

import email
import email.policy

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from moxtw.mail import transcode
from moxtw.mail.mime import parse_message
from moxtw.mail.transcode import TranscodeError


def convert(data: bytes, *, seven_bit: bool = False) -> bytes:
    pieces = transcode.transcode(
        parse_message(data), len(data), lambda s, n: data[s : s + n], seven_bit=seven_bit
    )
    return b"".join(pieces)


MIXED = (
    b"Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n"
    b"Content-Transfer-Encoding: binary\r\n\r\npreamble\r\n"
    b"--b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n"
    b"\r\nh\xc3\xa9\r\n"
    b"--b\r\nContent-Type: image/png\r\ncontent-transfer-encoding:\r\n binary\r\nX-A: b\r\n\r\n"
    b"\x00\r\n--c\r\n\xff\n\r\n"
    b"--b\r\nContent-Type: message/rfc822\r\nContent-Transfer-Encoding: binary\r\n\r\n"
    b"Subject: inner\r\n\r\n\x01\x00\r\n--b--\r\nend\r\n"
)


class TranscodeTests(SynchronousTestCase):
    def test_clean_messages_stay(self) -> None:
        for data in (
            b"Subject: x\r\n\r\nbody\r\n",
            b"Subject: x\r\n\r\n",
            b"Subject: x\r\n",
            b"",
            b"Subject: x\r\n\r\nno line end",
            MIXED.replace(b"\x00", b"a").replace(b"\xff\n", b"b").replace(b"binary", b"8bit"),
        ):
            self.assertEqual(convert(data), data)

    def test_binary_parts_become_base64(self) -> None:
        got = convert(MIXED)
        self.assertNotIn(b"binary", got)
        self.assertNotIn(b"\x00", got)
        message = email.message_from_bytes(got, policy=email.policy.SMTP)
        text, image, inner = message.iter_parts()
        self.assertEqual(text.get_content().strip(), "hé")
        self.assertEqual(image["x-a"], "b")
        self.assertEqual(image.get_payload(decode=True), b"\x00\r\n--c\r\n\xff\n")
        self.assertEqual(inner.get_content().get_payload(decode=True), b"\x01\x00")
        self.assertTrue(got.endswith(b"--b--\r\nend\r\n"))

    def test_seven_bit(self) -> None:
        got = convert(MIXED, seven_bit=True)
        self.assertTrue(got.isascii())
        message = email.message_from_bytes(got, policy=email.policy.SMTP)
        self.assertEqual(message["content-transfer-encoding"], "7bit")
        self.assertEqual(next(message.iter_parts()).get_content().strip(), "hé")

    def test_long_lines(self) -> None:
        self.assertIn(b"base64", convert(b"Subject: x\r\n\r\n" + b"x" * 999))
        data = b"Subject: x\r\n\r\n" + b"x" * 998 + b"\r\n"
        self.assertEqual(convert(data), data)
        large = b"Subject: x\r\n\r\n" + (b"x" * 70 + b"\r\n") * 10_000
        self.assertEqual(convert(large), large)

    def test_bad_headers(self) -> None:
        for data in (b"Subject: \x00\r\n\r\n", b"A: b\rc\r\n\r\nx"):
            self.assertRaises(TranscodeError, convert, data)

    @settings(max_examples=200)
    @given(st.binary(max_size=300), st.booleans(), st.sampled_from(["binary", "8bit", "7bit"]))
    def test_content_is_kept(self, body: bytes, seven_bit: bool, encoding: str) -> None:
        data = (
            b"MIME-Version: 1.0\r\nContent-Type: application/x-a\r\n"
            b"Content-Transfer-Encoding: %b\r\n\r\n%b" % (encoding.encode(), body)
        )
        got = convert(data, seven_bit=seven_bit)
        self.assertEqual(got.count(b"\n"), got.count(b"\r\n"))
        self.assertNotIn(b"\x00", got)
        if seven_bit:
            self.assertTrue(got.isascii())
        message = email.message_from_bytes(got)
        if message["content-transfer-encoding"] == "base64":
            self.assertEqual(message.get_payload(decode=True), body)
        else:
            self.assertTrue(got.endswith(b"\r\n\r\n" + body))
