"""Tests of moxtw.mail.strict."""

import time

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from moxtw.mail.strict import fault

MULTI = b'Content-Type: multipart/mixed; boundary="a b"\r\n\r\n'


class FaultTests(SynchronousTestCase):
    def test_good(self) -> None:
        for data in (
            b"",
            b"\r\n",
            b"just text\r\n",
            b"just text\r\n\r\nmore\r\n",
            b"Subject: x\r\n",
            b"Subject: x\r\n\r\nbody: no header\r\nneither this\r\n",
            b"Subject: x\r\n folded\r\n\tand so\r\n \r\nTo: x\r\n\r\n",
            b"From : x\r\nX:\r\n\r\n",
            "Subject: grüß\r\n\r\n".encode(),
            b"Content-Type: text/plain; (comment) charset=x\r\n\r\n",
            MULTI + b"--a b\r\n\r\nx\r\n--a b--\r\n",
            MULTI + b"preamble\r\n--a b \r\nA: b\r\n\r\nx\r\n--a b-- \r\nepilogue",
            MULTI + b"--a b\r\nContent-Type: multipart/x; boundary=c\r\n\r\n"
            b"--c\r\n\r\n--c--\r\n--a b--",
            b"Content-Type: message/rfc822\r\n\r\nSubject: x\r\n\r\nx\r\n",
        ):
            self.assertEqual(fault(data), "", data)

    def test_bad(self) -> None:
        for data, text in (
            (b"Subject: x\r\nnonsense\r\n\r\nbody\r\n", "header line 'nonsense"),
            (b"nonsense\r\nSubject: x\r\n\r\nbody\r\n", "header line 'nonsense"),
            (b" folded\r\nSubject: x\r\n\r\nbody\r\n", "header line"),
            (b"Sub ject: x\r\nTo: x\r\n\r\nbody\r\n", "header line 'Sub ject: x"),
            (b": x\r\nTo: x\r\n\r\nbody\r\n", "header line ': x"),
            (b"To: x\r\n\xff: y\r\n\r\nbody\r\n", r"header line '\\xff"),
            (b"Content-Type: plain\r\n\r\n", "Content-Type 'plain'"),
            (b"Content-Type: \r\n\r\n", "Content-Type ''"),
            (b"Content-Type: multipart/mixed\r\n\r\n--a\r\n", "without boundary"),
            (b"Content-Type: multipart/mixed; boundary=\r\n\r\n--\r\n", "without boundary"),
            (MULTI, "closing"),
            (MULTI + b"--a b\r\n\r\nx\r\n", "closing"),
            (MULTI + b"--a b\r\n\r\nx\r\n--a b--x\r\n", "closing"),
            (MULTI + b"--a b\r\nnonsense\r\nA: b\r\n\r\n--a b--\r\n", "header line 'nonsense"),
            (MULTI + b"--a b\r\nContent-Type: multipart/x; boundary=c\r\n\r\n"
             b"--c\r\n\r\n--a b--\r\n", "closing"),
            (b"Content-Type: message/rfc822\r\n\r\nA: b\r\nnonsense\r\n\r\nx\r\n", "header line"),
        ):  # fmt: skip
            self.assertIn(text, fault(data), data)

    def test_hostile(self) -> None:
        for data in (
            MULTI + b"--a b\r\n\r\n" * 50_000,
            MULTI + b"--a b--x\r\n" * 50_000,
            b"a" * 1_000_000,
            b"a: b\r\n" * 200_000,
            b"a \t" * 300_000 + b"\r\n\r\n",
            b"".join(b"Content-Type: multipart/x; boundary=%d\r\n\r\n--%d\r\n" % (i, i)
                     for i in range(5000)),
        ):  # fmt: skip
            start = time.perf_counter()
            fault(data)
            self.assertLess(time.perf_counter() - start, 5, data[:100])

    @given(
        st.lists(
            st.sampled_from([b"a: b", b"\r\n", b" ", b"x", b"--a b", b"--", b"\n", MULTI, b"\xff"]),
            max_size=20,
        ).map(b"".join)
    )
    @settings(max_examples=200, deadline=None)
    def test_never_fails(self, data: bytes) -> None:
        self.assertIsInstance(fault(data), str)
