"""Whatever comes in, in whatever pieces: an answer, never a fault, never another's trouble."""

from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from moxtw import metrics
from tests.support.smtp import World

LINES = [
    b"EHLO client.example",
    b"HELO client.example",
    b"MAIL FROM:<a@example.net>",
    b"MAIL FROM:<> SIZE=10",
    b"RCPT TO:<me@example.org>",
    b"RCPT TO:<nobody@example.org>",
    b"DATA",
    b"From: <a@example.net>",
    b"",
    b"..",
    b".",
    b".\rx",
    b"\n.",
    b"RSET",
    b"NOOP",
    b"VRFY x",
    b"AUTH PLAIN",
    b"AUTH PLAIN AGEAYg==",
    b"AUTH CRAM-MD5",
    b"AUTH SCRAM-SHA-256 biwsbj1tZUBleGFtcGxlLm9yZyxyPTEyMzQ1Njc4",
    b"*",
    b"STARTTLS",
    b"\xff\xfe",
    b"MAIL FROM:<\xe9@x>",
    b"x" * 600,
    b"QUIT",
]

conversation = st.lists(
    st.one_of(st.sampled_from(LINES), st.binary(max_size=20)), max_size=20
).map(lambda lines: b"\r\n".join([b"EHLO client.example", *lines, b""]))

REPLY = re.compile(rb"(?:[2345]\d\d[- ][^\r\n]*\r\n)*\Z")


class HostileTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.world = World(self)
        self.panics = metrics.panic_total.labels("smtpserver")

    @settings(max_examples=150, deadline=None)
    @given(
        data=conversation,
        sizes=st.lists(st.integers(1, 40), max_size=60),
        kind=st.sampled_from(["smtp", "submission"]),
    )
    def test_conversations(self, data: bytes, sizes: list[int], kind: str) -> None:
        before = self.panics._value.get()
        peer = self.world.peer(kind, ip="198.51.100.9")
        for size in sizes:
            peer.send(data[:size])
            data = data[size:]
        peer.send(data)
        for _ in range(12):
            self.world.clock.advance(29)
            if not peer.transport.closed:
                peer.send(b"\r\n.\r\nNOOP\r\n")
        got = peer.received()
        self.assertTrue(got.startswith((b"220 ", b"421 ")), got)
        self.assertRegex(got, REPLY)
        peer.disconnect()
        self.assertEqual(self.panics._value.get(), before)
        self.world.failed_auth.reset("198.51.100.9", self.world.clock.seconds())

    @settings(max_examples=60, deadline=None)
    @given(data=conversation, cut=st.integers(0, 400))
    def test_replies_do_not_depend_on_the_pieces(self, data: bytes, cut: int) -> None:
        def codes(pieces: list[bytes]) -> list[bytes]:
            peer = self.world.peer(ip="198.51.100.10")
            for piece in pieces:
                peer.send(piece)
            self.world.clock.advance(6)
            got = [line[:4] for line in peer.received().split(b"\r\n")]
            peer.disconnect()
            return got

        whole = codes([data])
        self.assertEqual(codes([data[:cut], data[cut:]]), whole)
        self.assertEqual(codes([data[i : i + 1] for i in range(len(data))]), whole)
