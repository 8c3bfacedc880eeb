"""BDAT: content in chunks, binary content, and what goes wrong with either."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from moxtw.smtp.chunking import LineEnds
from tests.support.transcript import Peer
from tests.unit.smtp.test_transaction import Base

HEADER = b"From: <me@example.org>\r\nSubject: hi\r\n\r\n"


class LineEndsTests(SynchronousTestCase):
    @settings(max_examples=200)
    @given(st.lists(st.binary(max_size=6).map(lambda b: bytes(b"\r\nab"[c % 4] for c in b))))
    def test_pieces_do_not_matter(self, pieces: list[bytes]) -> None:
        whole = b"".join(pieces)
        lines = LineEnds()
        out = b"".join([lines.feed(piece, False) for piece in pieces] + [lines.feed(b"", True)])
        bare = b"\r" in whole.replace(b"\r\n", b"")
        self.assertEqual(lines.bad, bare)
        if not bare:
            self.assertEqual(out, whole.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))


class BdatTests(Base):
    def begin(self, parameters: str = "", kind: str = "smtp", **options: Any) -> Peer:
        if kind == "smtp":
            peer = self.hello(**options)
            self.check(peer, f"MAIL FROM:<a@example.net>{parameters}", "250 *")
        else:
            peer = self.user(**options)
            self.check(peer, f"MAIL FROM:<me@example.org>{parameters}", "250 *")
        self.check(peer, "RCPT TO:<me@example.org>", "250 *")
        return peer

    def bdat(self, peer: Peer, data: bytes, reply: str, last: bool = False) -> None:
        peer.send(b"BDAT %d%b\r\n%b" % (len(data), b" LAST" * last, data))
        peer.transcript(f"S: {reply}")

    def test_chunks(self) -> None:
        peer = self.begin()
        for piece in (HEADER, b".\r\nline one", b"\r", b"\n..two\r\n"):
            self.bdat(peer, piece, f"250 2.0.0 {len(piece)} bytes taken")
        self.bdat(peer, b"end\r\n", "250 2.2.0 *", last=True)
        [message] = self.world.mailbox("me")
        self.assertTrue(message.endswith(HEADER + b".\r\nline one\r\n..two\r\nend\r\n"))

    def test_empty_last_chunk_and_lower_case(self) -> None:
        peer = self.begin()
        self.bdat(peer, HEADER, "250 *")
        self.check(peer, "bdat 0 last", "250 2.2.0 *")
        self.assertEqual(len(self.world.mailbox("me")), 1)

    def test_pipelined(self) -> None:
        peer = self.hello()
        peer.send(
            b"MAIL FROM:<a@example.net>\r\nRCPT TO:<me@example.org>\r\nBDAT 39\r\n" + HEADER
            + b"BDAT 5 LAST\r\nQUIT\nNOOP\r\n"
        )  # fmt: skip
        peer.transcript("""
        S: 250 2.1.0 *
        S: 250 2.1.0 *
        S: 250 2.0.0 *
        S: 250 2.2.0 *
        S: 250 2.0.0 *
        """)
        # What looks like a command is content.
        self.assertTrue(self.world.mailbox("me")[0].endswith(b"\r\n\r\nQUIT\r\n"))

    def test_byte_by_byte(self) -> None:
        peer = self.begin()
        for byte in b"BDAT 39 LAST\r\n" + HEADER:
            peer.send(bytes([byte]))
        peer.transcript("S: 250 2.2.0 *")
        self.assertEqual(len(self.world.mailbox("me")), 1)

    def test_refused_chunks_are_read_to_their_end(self) -> None:
        peer = self.hello()
        self.bdat(peer, b"MAIL FROM:<>\r\n", "503 5.5.1 missing MAIL FROM*", last=True)
        self.check(peer, "MAIL FROM:<a@example.net>", "250 *")
        self.bdat(peer, b"RSET\r\n", "503 5.5.1 missing RCPT TO*")
        self.check(peer, "RCPT TO:<me@example.org>", "250 *")

    def test_without_greeting_or_login(self) -> None:
        peer = self.world.peer("submission")
        peer.transcript("S: 220 *")
        self.bdat(peer, b"NOOP\r\n", "503 5.5.1 no ehlo*")
        peer = self.hello("submission")
        self.bdat(peer, b"NOOP\r\n", "530 5.7.0 *")

    def test_syntax_ends_the_connection(self) -> None:
        for args in ("", " ", " x", " -1", " 5 FIRST", " 5  LAST", " 5 LAST x", " 5LAST",
                     " 123456789012345678901"):  # fmt: skip
            peer = self.begin()
            self.check(peer, f"BDAT{args}", "501 5.5.2 *")
            peer.transcript("S: <closed>")

    def test_bare_cr(self) -> None:
        peer = self.begin()
        self.bdat(peer, HEADER + b"a\rb", "500 5.5.2 *")
        # The rest of it is refused too, and nothing is kept.
        self.bdat(peer, b"rest\r\n", "503 5.5.1 *", last=True)
        peer = self.begin()
        self.bdat(peer, HEADER + b"a\r", "250 *")
        self.bdat(peer, b"b", "500 5.5.2 *", last=True)
        self.assertEqual(self.world.mailbox("me"), [])

    def test_size_limit(self) -> None:
        peer = self.begin(max_size=100)
        self.bdat(peer, b"x" * 60, "250 *")
        self.bdat(peer, b"x" * 41, "552 5.3.4 *")
        self.bdat(peer, b"x", "503 5.5.1 *", last=True)
        peer = self.begin(max_size=100)
        self.check(peer, "BDAT 101 LAST", "552 5.3.4 *")
        peer.transcript("S: <closed>")

    def test_order_of_commands(self) -> None:
        peer = self.begin()
        self.bdat(peer, HEADER, "250 *")
        self.check(peer, "DATA", "503 5.5.1 DATA after BDAT*")
        self.check(peer, "RCPT TO:<you@example.org>", "503 5.5.1 *")
        self.check(peer, "MAIL FROM:<>", "503 5.5.1 *")
        self.check(peer, "RSET", "250 *")
        self.bdat(peer, b"x", "503 5.5.1 *", last=True)
        self.assertEqual(self.world.mailbox("me"), [])

    def test_loop(self) -> None:
        peer = self.begin()
        self.bdat(peer, b"Received: x\r\n" * 101 + HEADER, "550 5.4.6 *", last=True)

    def test_binary_content_is_delivered_as_it_is(self) -> None:
        content = (
            b"From: <a@example.net>\r\nMIME-Version: 1.0\r\nContent-Type: image/png\r\n"
            b"Content-Transfer-Encoding: binary\r\n\r\n\x00\r\n\r\x89\n.\n"
        )
        peer = self.begin(" BODY=BINARYMIME")
        self.check(peer, "DATA", "503 5.5.1 binary*")
        self.bdat(peer, content, "250 2.2.0 *", last=True)
        self.assertTrue(self.world.mailbox("me")[0].endswith(content))

    def test_binary_content_is_submitted_as_base64(self) -> None:
        content = (
            b"From: <me@example.org>\r\nContent-Type: image/png\r\n"
            b"Content-Transfer-Encoding: binary\r\n\r\n\x00\r\n\r\x89\n.\n"
        )
        peer = self.begin(" BODY=BINARYMIME", "submission")
        self.bdat(peer, content, "250 2.2.0 *", last=True)
        [request] = self.world.submitted
        self.assertEqual(
            request.content.read(0, 1000),
            b"From: <me@example.org>\r\nContent-Type: image/png\r\nMIME-Version: 1.0\r\n"
            b"Content-Transfer-Encoding: base64\r\n\r\nAA0KDYkKLgo=\r\n",
        )

    def test_what_cannot_be_submitted_as_lines(self) -> None:
        peer = self.begin(" BODY=BINARYMIME", "submission")
        self.bdat(peer, b"From: <me@example.org>\r\nX: \x00\r\n\r\n", "554 5.6.0 *", last=True)
        self.assertEqual(self.world.submitted, [])

    def test_notification_requests_are_submitted(self) -> None:
        peer = self.user()
        self.check(peer, "MAIL FROM:<me@example.org> RET=HDRS ENVID=a+2Bb", "250 *")
        self.check(
            peer, "RCPT TO:<x@example.net> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;X+2By@example.net",
            "250 *",
        )  # fmt: skip
        self.check(peer, "RCPT TO:<y@example.net> NOTIFY=NEVER,DELAY", "501 5.5.4 *")
        self.check(peer, "RCPT TO:<y@example.net> ORCPT=x", "501 5.5.4 *")
        self.check(peer, "RCPT TO:<y@example.net> ORCPT", "501 5.5.2 *")
        self.check(peer, "RCPT TO:<y@example.net>", "250 *")
        self.bdat(peer, HEADER, "250 *", last=True)
        [request] = self.world.submitted
        first, second = request.dsn
        self.assertEqual((first.ret, first.envelope_id), ("HDRS", "a+b"))
        self.assertEqual((first.on_success, first.on_failure, first.on_delay), (True, False, True))
        self.assertEqual(first.original, "rfc822;X+y@example.net")
        self.assertEqual((second.on_success, second.on_failure, second.on_delay),
                         (False, True, True))  # fmt: skip
