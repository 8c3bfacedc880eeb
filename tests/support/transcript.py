"""Conversations with a server protocol, written down the way they read on the wire.

::

    peer.transcript('''
        S: 220 *
        C: EHLO client.example
        S: 250-mail.example.org
        S: *
        C+ MAIL FROM:<a@example.net>      (sent together with the next C line)
        C: RCPT TO:<me@example.org>
        S: 250 2.1.0 *
        S: 250 2.1.0 *
        T: 30                             (time passes, in seconds)
        S: 421 *
        S: <closed>
    ''')

What the server sends has to match line by line; ``*`` stands for any text, and a line that is
just ``*`` for the remaining lines of a reply. ``\\r``, ``\\n``, ``\\0`` and ``\\xhh`` in C lines
are the characters; ``C=`` sends without a line end.
"""

from __future__ import annotations

import re
import textwrap
from typing import Any

from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|[rn0\\])")
_SIMPLE = {"r": "\r", "n": "\n", "0": "\0", "\\": "\\"}


def unescape(text: str) -> bytes:
    """Bytes of a line with its escapes undone."""

    def char(match: re.Match[str]) -> str:
        code = match[1]
        return chr(int(code[1:], 16)) if code[0] == "x" else _SIMPLE[code]

    if not _ESCAPE.search(text):
        return text.encode()
    return "".join(
        part if i % 2 == 0 else char(_ESCAPE.fullmatch("\\" + part))  # type: ignore[arg-type]
        for i, part in enumerate(_ESCAPE.split(text))
    ).encode("latin-1" if text.isascii() else "utf-8")


class PeerTransport(StringTransport):
    """A StringTransport that can be told apart when it is closed, and how."""

    def __init__(self, peer: Any = None, host: Any = None) -> None:
        super().__init__(hostAddress=host, peerAddress=peer)  # type: ignore[no-untyped-call]
        self.aborted = False
        self.half_closed = False
        self.paused = 0

    def abortConnection(self) -> None:
        self.aborted = True
        self.disconnecting = True

    def loseWriteConnection(self) -> None:
        self.half_closed = True

    def pauseProducing(self) -> None:
        self.paused += 1
        super().pauseProducing()  # type: ignore[no-untyped-call]

    @property
    def closed(self) -> bool:
        return bool(self.disconnecting) or self.half_closed


class Peer:
    """The client's side of one connection to a protocol, with its time."""

    def __init__(self, testcase: Any, protocol: Any, transport: PeerTransport, clock: Clock):
        self.testcase = testcase
        self.protocol = protocol
        self.transport = transport
        self.clock = clock
        self.lost = False
        self._received = b""

    def connect(self) -> Peer:
        """Make the connection; it is lost at the end of the test at the latest."""
        self.protocol.makeConnection(self.transport)
        self.testcase.addCleanup(self.disconnect)
        return self

    def disconnect(self, clean: bool = True) -> None:
        """Lose the connection."""
        if not self.lost:
            self.lost = True
            self.protocol.connectionLost(Failure(ConnectionDone() if clean else ConnectionLost()))

    def send(self, data: bytes) -> None:
        """Send bytes in one chunk."""
        self.protocol.dataReceived(data)

    def received(self) -> bytes:
        """What came since the last call."""
        got = self._received + self.transport.value()
        self.transport.clear()
        self._received = b""
        return got

    def ask(self, line: str) -> list[str]:
        """Send a line, get the lines that come back."""
        self.send(line.encode() + b"\r\n")
        return self.received().decode().splitlines()

    def transcript(self, text: str) -> None:
        """Play a conversation."""
        pending = b""
        for line in textwrap.dedent(text).strip("\n").split("\n"):
            kind, rest = line[:2], line[3:]
            if kind == "C:":
                self._nothing_more(line)
                self.send(pending + unescape(rest) + b"\r\n")
                pending = b""
            elif kind == "C+":
                pending += unescape(rest) + b"\r\n"
            elif kind == "C=":
                self._nothing_more(line)
                self.send(pending + unescape(rest))
                pending = b""
            elif kind == "T:":
                self.clock.advance(float(rest))
            elif kind == "S:":
                self._expect(rest)
            elif line.strip():
                raise ValueError(f"bad transcript line {line!r}")
        self._nothing_more("the end")

    def _nothing_more(self, where: str) -> None:
        left = self.received()
        self.testcase.assertEqual(left, b"", f"unexpected output before {where!r}")

    def _expect(self, pattern: str) -> None:
        if pattern == "<closed>":
            self._nothing_more(pattern)
            self.testcase.assertTrue(self.transport.closed, "connection is still open")
            return
        if pattern == "<open>":
            self.testcase.assertFalse(self.transport.closed, "connection is closed")
            return
        if pattern == "*":
            while True:
                got = self._line(pattern)
                if got[3:4] != "-":
                    return
        got = self._line(pattern)
        regex = ".*".join(map(re.escape, pattern.split("*")))
        if not re.fullmatch(regex, got):
            self.testcase.fail(f"expected {pattern!r}, got {got!r}")

    def _line(self, wanted: str) -> str:
        data = self.received()
        line, end, rest = data.partition(b"\r\n")
        self._received = rest
        if not end:
            self.testcase.fail(f"expected {wanted!r}, got {data!r}")
        return line.decode()
