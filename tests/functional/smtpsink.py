"""A small SMTP server on loopback that takes, refuses or breaks as it is told."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import CertificateOptions

from moxtw.net.certs import load_key_pair, self_signed

reactor: Any = global_reactor


class SinkProtocol(Protocol):
    """One connection."""

    factory: Sink

    def __init__(self) -> None:
        self._buffer = b""
        self._data: list[bytes] | None = None
        self._mail = ""
        self._rcpts: list[str] = []
        self._tls = False

    def connectionMade(self) -> None:  # noqa: N802
        self.factory.connections += 1
        self._say("220 sink ESMTP")

    def _say(self, text: str) -> None:
        self.transport.write(text.replace("\n", "\r\n").encode() + b"\r\n")

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        self._buffer += data
        while True:
            if self._data is not None:
                end = self._buffer.find(b"\r\n.\r\n")
                if end < 0:
                    keep = min(4, len(self._buffer))
                    cut = len(self._buffer) - keep
                    self._data.append(self._buffer[:cut])
                    self._buffer = self._buffer[cut:]
                    return
                content = b"".join([*self._data, self._buffer[: end + 2]])[2:]
                self._buffer = self._buffer[end + 5 :]
                self._data = None
                self._done(content)
                continue
            line, found, rest = self._buffer.partition(b"\r\n")
            if not found:
                return
            self._buffer = rest
            self._command(line.decode())

    def _command(self, line: str) -> None:
        verb = line.split(" ")[0].upper()
        answer = self.factory.answers.get(verb)
        if callable(answer):
            answer = answer(line)
        if answer == "SILENT":
            return
        if answer == "CLOSE":
            self.transport.loseConnection()
        elif answer is not None:
            self._say(answer)
        elif verb == "EHLO":
            words = ["sink", "PIPELINING", "8BITMIME", "SMTPUTF8", "SIZE 100000000"]
            if self.factory.tls is not None and not self._tls:
                words.append("STARTTLS")
            if self.factory.requiretls and self._tls:
                words.append("REQUIRETLS")
            self._say("\n".join([f"250-{w}" for w in words[:-1]] + [f"250 {words[-1]}"]))
        elif verb == "STARTTLS" and self.factory.tls is None:
            self._say("502 5.5.1 no STARTTLS here")
        elif verb == "STARTTLS":
            self._say("220 go")
            if self.factory.tls == "broken":
                # Apart from the reply: what comes with it is dropped unread.
                reactor.callLater(0.05, self.transport.write, b"this is not TLS\r\n" * 10)
            else:
                self._tls = True
                self.transport.startTLS(self.factory.tls)
        elif verb == "MAIL":
            self._mail, self._rcpts = line, []
            self._say("250 ok")
        elif verb == "RCPT":
            self._rcpts.append(line)
            self._say("250 ok")
        elif verb == "DATA":
            self._say("354 go")
            # As if a line end came before, so that an empty message has its end too.
            self._data = []
            self._buffer = b"\r\n" + self._buffer
        elif verb == "QUIT":
            self._say("221 bye")
            self.transport.loseConnection()
        else:
            self._say("250 ok")

    def _done(self, content: bytes) -> None:
        self._say(self.factory.answers.get(".", "250 2.0.0 taken"))
        message = (self._mail, self._rcpts, content.replace(b"\r\n..", b"\r\n."), self._tls)
        self._rcpts = []
        self.factory.took(message)


class Sink(Factory):
    """The server. `tls` is None, a context factory, or "broken"; `requiretls`: within it.

    Answers by verb are replies, functions of the line, or "CLOSE" or "SILENT".
    """

    protocol = SinkProtocol
    noisy = False

    def __init__(
        self,
        answers: dict[str, Any] | None = None,
        tls: Any = None,
        *,
        requiretls: bool = False,
    ) -> None:
        self.answers = answers or {}
        self.tls = tls
        self.requiretls = requiretls
        self.connections = 0
        self.messages: list[tuple[str, list[str], bytes, bool]] = []
        self._waiting: list[tuple[int, Deferred[None]]] = []

    def took(self, message: tuple[str, list[str], bytes, bool]) -> None:
        self.messages.append(message)
        for entry in list(self._waiting):
            if len(self.messages) >= entry[0]:
                self._waiting.remove(entry)
                entry[1].callback(None)

    def received(self, count: int) -> Deferred[None]:
        """Fires when so many messages have come."""
        done: Deferred[None] = Deferred()
        if len(self.messages) >= count:
            done.callback(None)
        else:
            self._waiting.append((count, done))
        return done


def tls_context(name: str = "sink.example") -> Any:
    """A context with a certificate that nobody trusts."""
    pair = load_key_pair(*self_signed([name]))
    return CertificateOptions(privateKey=pair.key, certificate=pair.chain[0])
