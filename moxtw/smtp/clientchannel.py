"""The wire of an SMTP client: replies framed within bounds, commands, TLS, timeouts.

`Channel` keeps the class and the place of Twisted's `ESMTPClient`, but not its line handling
or its state methods: replies are handed, one by one, to coroutines that say the dialogue in
its order (`moxtw.smtp.client`).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IHandshakeListener,
    IOpenSSLClientConnectionCreator,
    IPushProducer,
)
from twisted.internet.protocol import connectionDone
from twisted.mail.smtp import ESMTPClient
from twisted.python.failure import Failure
from zope.interface import implementer

from moxtw import metrics
from moxtw.log import TRACE, TRACEAUTH, TRACEDATA, Logger
from moxtw.net.tlsinfo import tls_connection, tls_version
from moxtw.queue.delivery import DeliveryError, Finding, Timeouts, Trouble
from moxtw.smtp.clientreply import Reply, make_reply, refusal, tls_error_text, tls_reason
from moxtw.tlspolicy import tlsrpt

_log = Logger("smtpclient")

MAX_LINE: Final = 2048
"""Bytes of a reply line."""

MAX_LINES: Final = 200
"""Lines of a reply."""


@implementer(IHandshakeListener, IPushProducer)
class Channel(ESMTPClient):
    """One connection to a server.

    host
        The server, for texts.
    ehlo
        Our own name (A-labels, or an address literal).
    reactor
        For timeouts.
    """

    debug = False
    transport: Any

    def __init__(
        self,
        host: str,
        ehlo: str,
        reactor: Any,
        timeouts: Timeouts | None = None,
        log: Logger = _log,
    ) -> None:
        super().__init__(None, None, ehlo)  # type: ignore[no-untyped-call]
        self.host = host
        self._reactor = reactor
        self.remote_ip = ""
        self.local_ip = ""
        self.tls_version = ""
        self.tls_findings: tuple[Finding, ...] = ()
        self._timeouts = timeouts or Timeouts()
        self._logger = log
        # Input: an unfinished line, the lines of an unfinished reply, replies not yet read,
        # and how many replies are due for what was sent.
        self._partial = b""
        self._lines: list[bytes] = []
        self._arrived: deque[Reply] = deque()
        self._due = 1  # the greeting
        self._reader: Deferred[Reply] | None = None
        # Raised each time that plaintext read so far must not be used any more.
        self._epoch = 0
        self._handshake: Deferred[None] | None = None
        # Output: whether the transport wants no more, and who waits for it.
        self._paused = False
        self._drained: Deferred[None] | None = None
        self._farewell: Reply | None = None
        self._error: DeliveryError | None = None
        self._lost = False
        self._secret = False
        self._owner: tuple[Callable[[bytes], None], Callable[[Failure], None]] | None = None

    def fail(self, exc: DeliveryError) -> None:
        """End the session: whoever waits for it gets `exc`, the connection is dropped."""
        if self._error is None:
            self._error = exc
        self._limit(None)
        if not self._lost:
            self.transport.abortConnection()
        self._wake()

    def abort(self) -> None:
        """Disconnect at once."""
        self.fail(self._trouble(Trouble.CANCELED, "delivery was stopped"))

    async def starttls(self, creator: IOpenSSLClientConnectionCreator) -> None:
        """Turn the connection into TLS; `hello` has to be said again. Raises DeliveryError."""
        reply = await self._command("STARTTLS")
        if reply.code != 220:
            failed = refusal(reply, "STARTTLS", self.host)
            failed.trouble = Trouble.TLS
            # How a server puts off STARTTLS says nothing of the message.
            failed.permanent = False
            failed.problem = tlsrpt.STARTTLS_NOT_SUPPORTED
            failed.reason = f"smtp-starttls-reply-code-{reply.code}"
            raise failed
        await self.secure(creator)

    async def secure(
        self, creator: IOpenSSLClientConnectionCreator, *, greeting: bool = False
    ) -> None:
        """Begin TLS on the connection as it is. Raises DeliveryError.

        With `greeting`, the server's greeting is to come after it (implicit TLS).
        """
        # RFC 3207 4.2, 6: what was known in plaintext is forgotten, and what came behind the
        # reply to STARTTLS was put there by somebody else.
        self._epoch += 1
        self._partial = b""
        self._lines = []
        self._arrived.clear()
        self._due = int(greeting)
        self._handshake = Deferred(lambda _: self.abort())
        self._limit(self._timeouts.handshake)
        begun = time.monotonic()
        self.transport.startTLS(creator)
        try:
            await self._handshake
        except DeliveryError as exc:
            problem = getattr(creator, "problem", None)
            if problem is not None and exc.trouble is Trouble.TLS:
                exc.text = f"{self.host}: TLS: {problem}"
                exc.problem, exc.reason = problem.kind, ""
            raise
        finally:
            self._handshake = None
            self._limit(None)
            self._observe("tlshandshake", begun, None)
        failure = getattr(creator, "failure", None)
        if failure is not None:
            # The connection is being dropped; nothing must be said on it meanwhile.
            self.fail(self._lost_error(Failure(failure), in_handshake=True))
            assert self._error is not None
            raise self._error
        self._tlsMode = True
        connection = tls_connection(self.transport)
        if connection is not None:
            self.tls_version = tls_version(connection)
        problem = getattr(creator, "problem", None)
        if problem is not None:
            self.tls_findings += (Finding(problem.kind, "", str(problem)),)

    def hand_over(
        self, received: Callable[[bytes], None], lost: Callable[[Failure], None]
    ) -> None:
        """Leave the connection to somebody else, who gets its bytes, and is told of its end."""
        self._limit(None)
        self._owner = (received, lost)
        if self._partial:
            rest, self._partial = self._partial, b""
            received(rest)

    # -- Commands and replies ----------------------------------------------------------

    async def _command(
        self, verb: str, argument: str = "", *, timeout: float | None = None
    ) -> Reply:
        """Say a command, return the reply. Raises DeliveryError.

        Without `verb`, `argument` is a line of an exchange that AUTH has begun.
        """
        line = f"{verb} {argument}" if verb and argument else verb or argument
        self._send(line.encode("ascii") + b"\r\n", 1)
        return await self._read((verb or "auth").lower(), timeout or self._timeouts.command)

    def _send(self, data: bytes, replies: int) -> None:
        if self._error is not None or self._lost:
            raise self._error or self._closed()
        self._due += replies
        if self._logger.enabled(TRACE):
            shown = b"***" if self._secret and not self._logger.enabled(TRACEAUTH) else data
            self._logger.log(TRACE, "client", out=shown.decode("utf-8", "backslashreplace"))
        self.transport.write(data)

    def _trace_content(self, piece: bytes) -> None:
        if self._logger.enabled(TRACEDATA):
            self._logger.log(TRACEDATA, "client", out=piece.decode("utf-8", "backslashreplace"))
        else:
            self._logger.log(TRACE, "client", out="...")

    async def _read(self, name: str, timeout: float, begun: float | None = None) -> Reply:
        """The next reply. Raises DeliveryError."""
        begun = time.monotonic() if begun is None else begun
        if self._arrived:
            reply = self._arrived.popleft()
        else:
            if self._error is not None or self._lost:
                raise self._error or self._closed()
            self._reader = Deferred(lambda _: self.abort())
            self._limit(timeout)
            try:
                reply = await self._reader
            finally:
                self._reader = None
                self._limit(None)
        self._observe(name, begun, reply)
        return reply

    def _limit(self, seconds: float | None) -> None:
        """Expect something within so many seconds; None: no more."""
        self.setTimeout(seconds)  # type: ignore[no-untyped-call]

    def _observe(self, name: str, begun: float, reply: Reply | None) -> None:
        metrics.smtpclient_command_duration_seconds.labels(
            name, str(reply.code) if reply else "", reply.secode if reply else ""
        ).observe(time.monotonic() - begun)

    def _trouble(self, trouble: Trouble, text: str, **more: Any) -> DeliveryError:
        return DeliveryError(trouble, f"{self.host}: {text}", remote_mta=self.host, **more)

    def _closed(self) -> DeliveryError:
        return self._trouble(Trouble.IO, "connection closed")

    def callLater(self, period: float, func: Any) -> Any:  # noqa: N802
        """For TimeoutMixin."""
        return self._reactor.callLater(period, func)

    # -- The transport's side ----------------------------------------------------------

    def connectionMade(self) -> None:
        """The connection is there; nothing is said before `greet`."""
        self._tlsMode = False

    def dataReceived(self, data: bytes) -> None:
        """Frame lines and replies."""
        if self._owner is not None:
            self._owner[0](data)
            return
        if self._error is not None:
            return
        buffer = self._partial + data if self._partial else data
        epoch = self._epoch
        start = 0
        while True:
            end = buffer.find(b"\n", start)
            if end < 0:
                break
            line = buffer[start:end]
            start = end + 1
            if len(line) > MAX_LINE:
                break
            # Before `_line`, as whoever waits for the reply goes on within it.
            self._partial = b""
            self._line(line[:-1] if line.endswith(b"\r") else line)
            if epoch != self._epoch or self._error is not None:
                return
        self._partial = buffer[start:]
        if end >= 0 or len(self._partial) > MAX_LINE:
            self.fail(self._trouble(Trouble.PROTOCOL, f"reply line over {MAX_LINE} bytes"))

    def _line(self, line: bytes) -> None:
        if self._logger.enabled(TRACE):
            shown = b"***" if self._secret and not self._logger.enabled(TRACEAUTH) else line
            self._logger.log(TRACE, "server", line=shown.decode("utf-8", "backslashreplace"))
        code = line[:3]
        if not (
            len(code) == 3
            and code.isdigit()
            and code[:1] in b"2345"
            and line[3:4] in (b"", b" ", b"-")
            and (not self._lines or self._lines[0][:3] == code)
        ):
            shown_line = line[:100].decode("utf-8", "backslashreplace")
            self.fail(self._trouble(Trouble.PROTOCOL, f"not an SMTP reply: {shown_line!r}"))
            return
        self._lines.append(line)
        if len(self._lines) > MAX_LINES:
            self.fail(self._trouble(Trouble.PROTOCOL, f"reply of more than {MAX_LINES} lines"))
            return
        if line[3:4] == b"-":
            return
        lines = tuple(part.decode("utf-8", "backslashreplace") for part in self._lines)
        self._lines = []
        self._reply(make_reply(int(code), lines))

    def _reply(self, reply: Reply) -> None:
        if reply.code == 421:
            # RFC 5321 3.8: the server closes; this may come at any time.
            self._farewell = reply
        if self._due == 0:
            if reply.code != 421:
                self.fail(
                    self._trouble(Trouble.PROTOCOL, f"reply without a command: {reply.text}")
                )
            return
        self._due -= 1
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.callback(reply)
        else:
            self._arrived.append(reply)
            # A reply in the middle of the content ends the sending.
            drained, self._drained = self._drained, None
            if drained is not None:
                drained.callback(None)

    def handshakeCompleted(self) -> None:
        """TLS is there (IHandshakeListener)."""
        waiting, self._handshake = self._handshake, None
        if waiting is not None:
            waiting.callback(None)

    def timeoutConnection(self) -> None:
        """The server was silent for too long."""
        if self._handshake is not None:
            self.fail(
                self._trouble(
                    Trouble.TLS,
                    "timeout in TLS handshake",
                    problem=tlsrpt.VALIDATION_FAILURE,
                    reason="io-timeout-during-handshake",
                )
            )
        else:
            self.fail(self._trouble(Trouble.TIMEOUT, "server did not answer in time"))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection is gone, for `reason`."""
        self._lost = True
        self._limit(None)
        if self._error is None:
            self._error = self._lost_error(reason)
        self._wake()
        if self._owner is not None:
            self._owner[1](reason)
        super().connectionLost(reason)  # type: ignore[no-untyped-call]

    def _lost_error(self, reason: Failure, *, in_handshake: bool = False) -> DeliveryError:
        value: Any = reason.value
        if self._farewell is not None:
            return refusal(self._farewell, "the session", self.host)
        if isinstance(value, DeliveryError):
            return value
        kind = getattr(value, "kind", "")
        if in_handshake or self._handshake is not None or kind or isinstance(value, SSL.Error):
            return self._trouble(
                Trouble.TLS,
                f"TLS: {tls_error_text(value)}",
                problem=kind or tlsrpt.VALIDATION_FAILURE,
                reason=tls_reason(value),
            )
        return self._trouble(Trouble.IO, f"connection lost: {value}")

    def _wake(self) -> None:
        """Give the error to whoever waits."""
        exc = self._error
        assert exc is not None
        for name in ("_reader", "_handshake", "_drained"):
            waiting = getattr(self, name)
            setattr(self, name, None)
            if waiting is not None and not waiting.called:
                waiting.errback(exc)

    # -- IPushProducer -----------------------------------------------------------------

    def pauseProducing(self) -> None:
        """The transport has enough."""
        self._paused = True

    def resumeProducing(self) -> None:
        """The transport takes more."""
        self._paused = False
        drained, self._drained = self._drained, None
        if drained is not None:
            drained.callback(None)

    def stopProducing(self) -> None:
        """The transport is gone; `connectionLost` tells why."""
