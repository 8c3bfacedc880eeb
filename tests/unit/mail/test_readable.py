"""Messages as programs read them."""

from __future__ import annotations

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from moxtw.mail import readable
from moxtw.mail.header import parse_headers
from moxtw.mail.mime import parse_message


def texts(data: bytes) -> tuple[str, str]:
    return readable.texts(parse_message(data), lambda start, end: data[start:end])


def part(kind: str, text: str, more: str = "") -> str:
    return f"--m\r\nContent-Type: {kind}\r\n{more}\r\n{text}\r\n"


def multipart(kind: str, *parts: str) -> bytes:
    body = "".join(parts)
    return f"Content-Type: multipart/{kind}; boundary=m\r\n\r\n{body}--m--\r\n".encode()


class TextTests(SynchronousTestCase):
    def test_first_of_each_alternative(self) -> None:
        text, html, other = part("text/plain", "t"), part("text/html", "h"), part("text/x-y", "o")
        attached = part("text/plain", "a", "Content-Disposition: attachment\r\n")
        for data, expected in [
            (b"Subject: x\r\n\r\nt", ("t", "")),
            (b"Content-Type: text/html\r\n\r\nh", ("", "h")),
            (multipart("alternative", other, text, html, part("text/html", "2")), ("t", "h")),
            (multipart("mixed", text, html), ("t", "")),
            (multipart("mixed", attached, html), ("", "h")),
            (multipart("mixed", other, attached), ("a", "")),
            (multipart("mixed", other), ("", "")),
        ]:
            self.assertEqual(texts(data), expected, data)

    def test_address_literals_stand_as_they_are(self) -> None:
        found = readable.summary(parse_headers(b"To: <a@[192.0.2.1]>, b@X\r\n\r\n"))
        self.assertEqual([one.Address for one in found.To], ["a@[192.0.2.1]", "b@x"])

    def test_dates_that_nothing_can_hold(self) -> None:
        for date in (b"Fri, 31 Dec 9999 23:59:59 -2359", b"Mon, 1 Jan 0001 00:00:00 +1400", b"x"):
            found = readable.summary(parse_headers(b"Date: " + date + b"\r\n\r\n"))
            msgspec.json.encode(found)

    @settings(max_examples=150, deadline=None)
    @given(
        st.lists(
            st.one_of(
                st.sampled_from(
                    [
                        b"From: ",
                        b"To: a@b",
                        b"Date: ",
                        b"Content-Type: multipart/mixed; boundary=m\r\n\r\n",
                        b"Content-Type: text/html; charset=utf-7\r\n",
                        b"Content-Transfer-Encoding: base64\r\n",
                        b"--m\r\n",
                        b"--m--\r\n",
                        b"\r\n",
                        b"\r\n\r\n",
                    ]
                ),
                st.binary(max_size=20),
            ),
            max_size=12,
        )
    )
    def test_never_fails(self, pieces: list[bytes]) -> None:
        data = b"".join(pieces)
        root = parse_message(data)
        found = (
            readable.summary(parse_headers(data)),
            readable.structure(root, lambda start, end: data[start:end]),
            texts(data),
        )
        msgspec.json.encode(found)
