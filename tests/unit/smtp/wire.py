"""A transport and a scripted server for tests of the SMTP client: no sockets, no time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from moxtw.queue.delivery import RcptResult, Timeouts, Transaction
from moxtw.smtp.client import DeliveryClient


class Wire(StringTransport):
    """A StringTransport that ends connections and starts (pretended) TLS."""

    protocol: Any = None
    tls: Any = None
    lost = False
    pause_after: int | None = None

    def write(self, data: bytes) -> None:
        super().write(data)
        if self.pause_after is not None and self.producer is not None:
            self.pause_after -= 1
            if self.pause_after <= 0:
                self.producer.pauseProducing()

    def startTLS(self, creator: Any) -> None:  # noqa: N802
        self.tls = creator

    def abortConnection(self) -> None:  # noqa: N802
        self.lose(ConnectionAborted())

    def loseConnection(self) -> None:  # noqa: N802
        self.lose(ConnectionDone())

    def lose(self, reason: Exception) -> None:
        if not self.lost:
            self.lost = True
            self.protocol.connectionLost(Failure(reason))


class Server:
    """Answers commands by a table: verb -> reply, or list of replies used one after another.

    A reply may have several lines (joined by newline); None: no answer; "CLOSE": connection
    ends. `received` has all command lines, `contents` the messages as they came.
    """

    def __init__(
        self,
        answers: dict[str, Any] | None = None,
        extensions: Iterable[str] = ("PIPELINING", "8BITMIME", "SMTPUTF8", "SIZE 1000000"),
        timeouts: Timeouts | None = None,
    ) -> None:
        self.clock = Clock()
        self.client = DeliveryClient("mx.example", "me.example", self.clock, timeouts)
        self.wire = Wire()
        self.wire.protocol = self.client
        self.received: list[str] = []
        self.contents: list[bytes] = []
        lines = ["me.example", *extensions]
        ehlo = "\n".join(
            f"250{' ' if n == len(lines) - 1 else '-'}{line}" for n, line in enumerate(lines)
        )
        self.answers: dict[str, Any] = {
            "EHLO": ehlo,
            "HELO": "250 hi",
            "STARTTLS": "220 go",
            "MAIL": "250 ok",
            "RCPT": "250 ok",
            "DATA": "354 go",
            ".": "250 2.0.0 taken",
            "RSET": "250 ok",
            "QUIT": "221 bye",
            **(answers or {}),
        }
        self._buffer = b""
        self._data = False
        self.client.makeConnection(self.wire)

    def say(self, text: str) -> None:
        """Send a reply."""
        self.client.dataReceived(text.replace("\n", "\r\n").encode() + b"\r\n")

    def run(self, coroutine: Any) -> Any:
        """Drive a coroutine, answering what the client says; returns its result."""
        deferred = Deferred.fromCoroutine(coroutine)
        self.pump()
        results: list[Any] = []
        deferred.addBoth(results.append)
        if not results:
            raise AssertionError(f"still waiting; so far: {self.received}")
        if isinstance(results[0], Failure):
            results[0].raiseException()
        return results[0]

    def start(self, coroutine: Any) -> Deferred[Any]:
        """Begin a coroutine that will not end yet."""
        deferred = Deferred.fromCoroutine(coroutine)
        self.pump()
        return deferred

    def pump(self) -> None:
        """Answer all that the client has said."""
        while (output := self.wire.value()) and not self.wire.lost:
            self.wire.clear()
            self._buffer += output
            self._process()
            if self.wire.producer is not None and getattr(self.client, "_paused", False):
                self.client.resumeProducing()

    def _process(self) -> None:
        while not self.wire.lost:
            if self._data:
                if self._buffer.startswith(b".\r\n"):
                    content, self._buffer = b"", self._buffer[3:]
                elif b"\r\n.\r\n" in self._buffer:
                    content, _, self._buffer = self._buffer.partition(b"\r\n.\r\n")
                    content += b"\r\n"
                else:
                    return
                self._data = False
                self.contents.append(content)
                self._answer(".")
                continue
            line, found, rest = self._buffer.partition(b"\r\n")
            if not found:
                return
            self._buffer = rest
            self.received.append(line.decode())
            self._answer(line.split(b" ")[0].decode())

    def _answer(self, verb: str) -> None:
        answer = self.answers.get(verb, "500 what")
        if isinstance(answer, list):
            answer = answer.pop(0) if answer else "500 script ended"
        if answer is None:
            return
        if answer == "CLOSE":
            self.wire.lose(ConnectionLost())
            return
        closing = answer.endswith("\nCLOSE")
        answer = answer.removesuffix("\nCLOSE")
        if verb == "DATA" and answer.startswith("354"):
            self._data = True
        self.say(answer)
        if closing:
            self.wire.lose(ConnectionLost())

    def ready(self) -> Server:
        """Greet and say EHLO."""
        self.say("220 mx.example ESMTP")
        self.run(self.client.greet())
        self.run(self.client.hello())
        self.received.clear()
        return self

    def deliver(self, transaction: Transaction) -> list[RcptResult]:
        """Deliver, and return the results."""
        return self.run(self.client.deliver(transaction))


def message(
    content: bytes = b"Subject: hi\r\n\r\nbody\r\n",
    *rcpts: str,
    mail_from: str = "a@src.example",
    **more: Any,
) -> Transaction:
    """A transaction with `content` for `rcpts` (or one recipient)."""

    async def read(start: int, length: int) -> bytes:
        return content[start : start + length]

    return Transaction(mail_from, rcpts or ("x@dst.example",), len(content), read, **more)
