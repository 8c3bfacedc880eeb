"""An IMAP client that sends commands and only reads bytes, so that little of the time is its own.

It looks for tags at the beginning of lines and does not parse answers; what it fetches must
not hold lines that begin with its tags.
"""

from __future__ import annotations

import itertools
import select
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

READ_SIZE = 1 << 20
SECONDS = 120


class IMAPError(Exception):
    """A command was not answered with OK."""


@dataclass(frozen=True)
class Answer:
    """What came back for a command. data: all of it, only if asked to keep it."""

    seconds: float
    size: int
    line: bytes
    data: bytes = b""


class IMAPLoad:
    """A session, logged in."""

    def __init__(self, ip: str, port: int, user: str, password: str) -> None:
        self._socket = socket.create_connection((ip, port), SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._count = 0
        self._socket.recv(4096)
        name = user.encode()
        secret = password.encode()
        self.command(b"LOGIN {%d+}\r\n%s {%d+}\r\n%s" % (len(name), name, len(secret), secret))

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def __enter__(self) -> IMAPLoad:
        return self

    def __exit__(self, *_args: object) -> None:
        self.close()

    def fileno(self) -> int:
        """Of the connection."""
        return self._socket.fileno()

    def command(self, text: bytes, *, keep: bool = False) -> Answer:
        """Send a command and read to the end of its answer. Raises IMAPError unless OK."""
        self._count += 1
        tag = b"t%d" % self._count
        begun = time.perf_counter()
        self._socket.sendall(tag + b" " + text + b"\r\n")
        return self._read(b"\r\n" + tag + b" ", tag, begun, keep)

    def idle(self) -> None:
        """Begin to IDLE."""
        self._count += 1
        self._socket.sendall(b"t%d IDLE\r\n" % self._count)
        self.read_until(b"+ ")

    def read_until(self, text: bytes) -> bytes:
        """Read until a text came, within a few kilobytes."""
        data = b""
        while text not in data:
            data += self._receive()
        return data

    def _receive(self) -> bytes:
        data = self._socket.recv(READ_SIZE)
        if not data:
            raise IMAPError("connection closed")
        return data

    def _read(self, mark: bytes, tag: bytes, begun: float, keep: bool) -> Answer:
        size = 0
        kept: list[bytes] = []
        # The end of what was read; long enough to hold the final line.
        tail = b"\r\n"
        while True:
            data = self._receive()
            size += len(data)
            if keep:
                kept.append(data)
            tail = (tail + data)[-4096:] if len(data) < 4096 else data[-4096:]
            if tail.endswith(b"\r\n"):
                at = tail.rfind(mark)
                if at >= 0:
                    break
        seconds = time.perf_counter() - begun
        line = tail[at + 2 :].rstrip()
        if not line.startswith(tag + b" OK"):
            raise IMAPError(line.decode("utf-8", "replace"))
        return Answer(seconds, size, line, b"".join(kept))

    def append(
        self,
        mailbox: bytes,
        messages: Iterable[bytes],
        window: int = 500,
        on_ok: Callable[[int], None] | None = None,
    ) -> float:
        """APPEND messages, pipelined with LITERAL+; returns the seconds it took.

        window: how many may be unanswered. on_ok is told the number of each message that was
        answered with OK. Raises IMAPError at another answer.
        """
        self._count += 1
        prefix = b"p%d." % self._count
        sent = answered = 0
        out = bytearray()
        rest = b""
        source = iter(messages)
        more = True
        begun = time.perf_counter()
        self._socket.setblocking(False)
        try:
            while more or answered < sent:
                while more and len(out) < 256 * 1024 and sent - answered < window:
                    message = next(source, None)
                    if message is None:
                        more = False
                        break
                    out += b"%s%d APPEND %s {%d+}\r\n" % (prefix, sent, mailbox, len(message))
                    out += message
                    out += b"\r\n"
                    sent += 1
                readable, writable, _ = select.select(
                    [self._socket], [self._socket] if out else [], [], SECONDS
                )
                if not readable and not writable:
                    raise IMAPError(f"{answered} of {sent} answered, then nothing came")
                if writable:
                    del out[: self._socket.send(out)]
                if readable:
                    *lines, rest = (rest + self._receive()).split(b"\n")
                    for line in lines:
                        if not line.startswith(prefix):
                            continue
                        number, _, answer = line[len(prefix) :].partition(b" ")
                        if not answer.startswith(b"OK"):
                            raise IMAPError(line.decode("utf-8", "replace"))
                        answered += 1
                        if on_ok is not None:
                            on_ok(int(number))
        finally:
            self._socket.setblocking(True)
            self._socket.settimeout(SECONDS)
        return time.perf_counter() - begun

    def multiappend(self, mailbox: bytes, messages: Iterable[bytes], number: int = 200) -> None:
        """APPEND messages, so many with each command (RFC 3502)."""
        source = iter(messages)
        while piece := list(itertools.islice(source, number)):
            parts = b"".join(b" {%d+}\r\n%s" % (len(data), data) for data in piece)
            self.command(b"APPEND %s%s" % (mailbox, parts))


def messages(count: int, size: int = 4096, start: int = 0) -> Iterable[bytes]:
    """Messages of about that size as people write them; each fourth in two forms (MIME).

    The word ``needle`` stands in the text of each hundredth.
    """
    line = (
        b"The committee met in the late afternoon and went through %d open points of the list, "
        b"one by one.\r\n"
    )
    for number in range(start, start + count):
        head = (
            b"Received: from mail%d.example.net (mail%d.example.net [192.0.2.%d])\r\n"
            b"\tby mail.a.example with ESMTPS id %08x for <mjl@a.example>;\r\n"
            b"\tMon, 3 Nov 2025 %02d:%02d:%02d +0100\r\n"
            b"From: =?utf-8?q?J=C3=BCrgen_No?= %d <sender%d@example.net>\r\n"
            b'To: "M. J. L." <mjl@a.example>, other%d@example.org\r\n'
            b"Cc: third%d@example.com\r\n"
            b"Subject: Re: Minutes of meeting %d, points that are open\r\n"
            b"Message-ID: <%d.%d@example.net>\r\n"
            b"In-Reply-To: <%d.0@example.net>\r\n"
            b"References: <%d.0@example.net>\r\n"
            b"Date: Mon, 3 Nov 2025 %02d:%02d:%02d +0100\r\n"
            b"MIME-Version: 1.0\r\n"
        ) % (
            number % 7,
            number % 7,
            number % 250,
            number,
            number // 3600 % 24,
            number // 60 % 60,
            number % 60,
            number % 50,
            number % 50,
            number % 20,
            number % 30,
            number // 5,
            number,
            size,
            number // 5,
            number // 5,
            number // 3600 % 24,
            number // 60 % 60,
            number % 60,
        )
        text = b"Dear all,\r\n\r\n"
        if number % 100 == 7:
            text += b"here is the Needle that you looked for.\r\n"
        filler = line % number
        if number % 4:
            head += b"Content-Type: text/plain; charset=utf-8\r\n\r\n"
            text += filler * max(1, (size - len(head) - len(text)) // len(filler))
            yield head + text
            continue
        head += b'Content-Type: multipart/alternative; boundary="b-%d"\r\n\r\n' % number
        half = max(1, (size - len(head) - len(text) - 250) // 2 // len(filler))
        yield (
            head
            + b"--b-%d\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n" % number
            + text
            + filler * half
            + b"\r\n--b-%d\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<p>" % number
            + filler * half
            + b"</p>\r\n--b-%d--\r\n" % number
        )
