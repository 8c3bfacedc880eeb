"""The sending side of SMTP: a session with a server, with several transactions on it.

`DeliveryClient` keeps the class and the place of Twisted's `ESMTPClient`, but not its line
handling or its state methods: replies are framed here within bounds and handed, one by one,
to coroutines that say the dialogue in its order. What the queue sees is
`moxtw.queue.delivery.SMTPSession`.
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
from twisted.internet.threads import deferToThreadPool
from twisted.mail.smtp import ESMTPClient
from twisted.python.failure import Failure
from zope.interface import implementer

from moxtw import metrics
from moxtw.log import TRACE, TRACEAUTH, TRACEDATA, Logger
from moxtw.net.tlsinfo import channel_binding, tls_connection, tls_version
from moxtw.queue.delivery import (
    DeliveryError,
    Login,
    RcptResult,
    Timeouts,
    Transaction,
    Trouble,
)
from moxtw.smtp.clientauth import login
from moxtw.smtp.clientreply import Reply, make_reply, refusal, tls_error_text
from moxtw.smtp.extensions import Extensions, parse_extensions
from moxtw.smtp.stuffing import Source

_log = Logger("smtpclient")

MAX_LINE: Final = 2048
"""Bytes of a reply line."""

MAX_LINES: Final = 200
"""Lines of a reply."""

DEFAULT_RCPTMAX: Final = 100
"""Recipients of a transaction that a server has to take (RFC 5321 4.5.3.1.8)."""


@implementer(IHandshakeListener, IPushProducer)
class DeliveryClient(ESMTPClient):
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
        self.tls_version = ""
        self.tls_problem = ""
        self.extensions = Extensions()
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
        self._busy = False
        self._secret = False
        # Whether a transaction was begun and not completed, and how many there were.
        self._dirty = False
        self._transactions = 0

    # -- What the queue asks -----------------------------------------------------------

    @property
    def has_starttls(self) -> bool:
        """Whether the server offers STARTTLS, or the session is TLS already."""
        return self._tlsMode or self.extensions.starttls

    @property
    def has_requiretls(self) -> bool:
        """Whether the server announces REQUIRETLS, which counts only within TLS."""
        return self._tlsMode and self.extensions.requiretls

    @property
    def usable(self) -> bool:
        """Whether a further transaction can be had."""
        mailmax = self.extensions.mailmax
        return (
            self._error is None
            and self._farewell is None
            and not self._lost
            and not self._busy
            and (mailmax is None or self._transactions < mailmax)
        )

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

    async def close(self) -> None:
        """Say QUIT, wait a little for the answer, disconnect."""
        if self._error is None and not self._lost:
            try:
                if self._farewell is None and not self._busy:
                    await self._command("QUIT", timeout=self._timeouts.quit)
            except DeliveryError as exc:
                # Nothing hangs on the answer.
                self._logger.debug("quit", err=exc)
        if not self._lost:
            self._limit(None)
            self.transport.loseConnection()
            # A peer that never closes its side must not hold the connection open.
            self._limit(self._timeouts.quit)

    async def greet(self) -> None:
        """Wait for the greeting. Raises DeliveryError."""
        reply = await self._read("greeting", self._timeouts.greeting)
        if reply.code != 220:
            raise refusal(reply, "the connection", self.host)

    async def hello(self) -> None:
        """Say EHLO, or HELO to a server that does not know it. Raises DeliveryError."""
        name = self.identity.decode("ascii")
        reply = await self._command("EHLO", name)
        # RFC 5321 4.1.4, 3.2: 500-504 may mean a server without extensions. One that had
        # STARTTLS is none.
        if reply.code in (500, 501, 502, 503, 504) and not self._tlsMode:
            reply = await self._command("HELO", name)
            if not reply.good:
                raise refusal(reply, "HELO", self.host)
            self.extensions = Extensions()
            return
        if not reply.good:
            raise refusal(reply, "EHLO", self.host)
        self.extensions = parse_extensions(line[4:] for line in reply.lines[1:])

    async def starttls(self, creator: IOpenSSLClientConnectionCreator) -> None:
        """Turn the connection into TLS; `hello` has to be said again. Raises DeliveryError."""
        reply = await self._command("STARTTLS")
        if reply.code != 220:
            failed = refusal(reply, "STARTTLS", self.host)
            failed.trouble = Trouble.TLS
            # How a server puts off STARTTLS says nothing of the message.
            failed.permanent = False
            failed.problem = "starttls-not-supported"
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
        self.extensions = Extensions()
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
                exc.problem = problem.kind
            raise
        finally:
            self._handshake = None
            self._limit(None)
            self._observe("tlshandshake", begun, None)
        self._tlsMode = True
        connection = tls_connection(self.transport)
        if connection is not None:
            self.tls_version = tls_version(connection)
        problem = getattr(creator, "problem", None)
        self.tls_problem = "" if problem is None else str(problem)

    async def log_in(self, credentials: Login) -> None:
        """Log in by the first mechanism wanted that the server has. Raises DeliveryError."""
        connection = tls_connection(self.transport) if self._tlsMode else None
        binding = None if connection is None else channel_binding(connection, server=False)
        self._secret = True
        try:
            await login(
                self._command, credentials, self.extensions.auth, binding, self._hash, self.host
            )
        finally:
            self._secret = False

    async def _hash(self, function: Callable[[bytes], bytes], argument: bytes) -> bytes:
        """Call a function that takes its time in a thread, where the reactor has threads."""
        pool = getattr(self._reactor, "getThreadPool", None)
        if pool is None:
            return function(argument)
        return await deferToThreadPool(self._reactor, pool(), function, argument)

    async def deliver(self, transaction: Transaction) -> list[RcptResult]:
        """Hand a message over; one result for each recipient, in order."""
        count = len(transaction.recipients)
        results: list[RcptResult | None] = [None] * count
        self._busy = True
        limit = self._timeouts.transaction
        deadline = (
            None
            if limit is None
            else self._reactor.callLater(
                limit, lambda: self.fail(self._trouble(Trouble.TIMEOUT, "delivery took too long"))
            )
        )
        try:
            await self._deliver(transaction, results)
        except DeliveryError as exc:
            for index, result in enumerate(results):
                if result is None:
                    results[index] = RcptResult(exc, exc.code, exc.secode, exc.text)
        finally:
            self._busy = False
            if deadline is not None and deadline.active():
                deadline.cancel()
        untried = RcptResult(
            self._trouble(Trouble.IO, "no further transaction on this connection"), untried=True
        )
        return [untried if result is None else result for result in results]

    # -- A transaction -----------------------------------------------------------------

    async def _deliver(self, wanted: Transaction, results: list[RcptResult | None]) -> None:
        extensions = self.extensions
        read, size = wanted.read, wanted.size
        has8bit, smtputf8 = wanted.has8bit, wanted.smtputf8
        if wanted.utf8_content is not None and extensions.smtputf8 and extensions.eightbitmime:
            content = wanted.utf8_content

            async def read_utf8(start: int, length: int) -> bytes:
                return content[start : start + length]

            read, size = read_utf8, len(content)
            has8bit = smtputf8 = True
        self._check(wanted, size, has8bit, smtputf8)
        mail = self._mail_command(wanted, size, has8bit, smtputf8)
        rcpts = [b"RCPT TO:<%s>\r\n" % self._path(rcpt, smtputf8) for rcpt in wanted.recipients]
        source = Source(read, size)
        await source.first()
        per_transaction = min(extensions.rcptmax or DEFAULT_RCPTMAX, max(1, len(rcpts)))
        todo = list(range(len(rcpts)))
        while todo:
            if extensions.mailmax is not None and self._transactions >= extensions.mailmax:
                if self._transactions == 0 or all(result is None for result in results):
                    raise self._trouble(Trouble.PROTOCOL, "server takes no message")
                return
            batch, todo = todo[:per_transaction], todo[per_transaction:]
            again = await self._transaction(mail, rcpts, batch, source, results)
            # A server with a lower limit than we assumed: fewer from now on.
            if again:
                per_transaction = max(1, len(batch) - len(again))
            todo = again + todo
            source.rewind()

    def _check(self, wanted: Transaction, size: int, has8bit: bool, smtputf8: bool) -> None:
        """Whether the server can take such a message at all. Raises DeliveryError."""
        extensions = self.extensions
        if extensions.size_limit and size > extensions.size_limit:
            raise self._trouble(
                Trouble.UNSUPPORTED,
                f"message of {size} bytes is above the server's limit of {extensions.size_limit}",
                permanent=True,
                secode="3.4",
            )
        if has8bit and wanted.require_8bitmime and not extensions.eightbitmime:
            raise self._trouble(
                Trouble.UNSUPPORTED,
                "message has 8-bit content, server lacks 8BITMIME",
                permanent=True,
                secode="6.3",
            )
        if smtputf8 and not extensions.smtputf8:
            raise self._trouble(
                Trouble.UNSUPPORTED, "message needs SMTPUTF8, server lacks it", secode="6.7"
            )
        if wanted.requiretls and not self.has_requiretls:
            raise self._trouble(
                Trouble.UNSUPPORTED, "message needs REQUIRETLS, server lacks it", secode="7.30"
            )

    def _mail_command(
        self, wanted: Transaction, size: int, has8bit: bool, smtputf8: bool
    ) -> bytes:
        extensions = self.extensions
        parts = [b"MAIL FROM:<%s>" % self._path(wanted.mail_from, smtputf8)]
        if extensions.size:  # RFC 1870 6
            parts.append(b"SIZE=%d" % size)
        if extensions.eightbitmime:  # RFC 6152 2
            parts.append(b"BODY=8BITMIME" if has8bit else b"BODY=7BIT")
        if smtputf8:  # RFC 6531 3.4
            parts.append(b"SMTPUTF8")
        if wanted.requiretls:  # RFC 8689 2
            parts.append(b"REQUIRETLS")
        return b" ".join(parts) + b"\r\n"

    def _path(self, path: str, smtputf8: bool) -> bytes:
        if not path.isprintable() or "<" in path or ">" in path:
            raise self._trouble(
                Trouble.LOCAL, f"address {path!r} cannot be sent", permanent=True, secode="1.3"
            )
        if not path.isascii() and not smtputf8:
            raise self._trouble(
                Trouble.LOCAL, f"address {path!r} needs SMTPUTF8", permanent=True, secode="6.7"
            )
        return path.encode()

    async def _transaction(
        self,
        mail: bytes,
        rcpts: list[bytes],
        batch: list[int],
        source: Source,
        results: list[RcptResult | None],
    ) -> list[int]:
        """One transaction for the recipients in `batch`; returns those to try in another."""
        if self._dirty:
            reply = await self._command("RSET")
            if not reply.good:
                raise refusal(reply, "RSET", self.host)
            self._dirty = False
        self._transactions += 1
        self._dirty = True
        pipelining = self.extensions.pipelining
        if pipelining:  # RFC 2920 3.1: DATA may be the last of a group.
            self._send(b"".join([mail, *(rcpts[i] for i in batch), b"DATA\r\n"]), len(batch) + 2)
        else:
            self._send(mail, 1)
        refused: DeliveryError | None = None
        accepted: list[int] = []
        limited: dict[int, DeliveryError] = {}
        try:
            reply = await self._read("mailfrom", self._timeouts.command)
            if not reply.good:
                refused = refusal(reply, "MAIL", self.host)
                if not pipelining:
                    raise refused
            for number, index in enumerate(batch):
                if not pipelining:
                    self._send(rcpts[index], 1)
                reply = await self._read("rcptto", self._timeouts.command)
                if refused is not None:
                    continue
                if reply.good:
                    accepted.append(index)
                    continue
                failed = refusal(reply, "RCPT", self.host)
                # RFC 5321 4.5.3.1.10. An enhanced code about the mailbox (4.2.2, full) is
                # about this recipient alone.
                if number and reply.code in (452, 552) and not reply.secode.startswith("2."):
                    limited[index] = failed
                else:
                    results[index] = _failed(failed)
            if not accepted:
                for index, failed in limited.items():
                    results[index] = _failed(failed)
                limited = {}
                if not pipelining:
                    return []
            if not pipelining:
                self._send(b"DATA\r\n", 1)
            reply = await self._read("data", self._timeouts.data)
            if not accepted:
                if reply.code == 354:
                    # RFC 2920 3.1: then a message without content has to end it.
                    self._send(b".\r\n", 1)
                    await self._read("dataend", self._timeouts.final)
                if refused is not None:
                    raise refused
                return []
            if reply.code != 354:
                raise refusal(reply, "DATA", self.host)
            reply = await self._content(source)
            if not reply.good:
                raise refusal(reply, "the message", self.host)
        except DeliveryError as exc:
            # What is decided stays so. A refused MAIL explains the end of the connection.
            failed = exc if refused is None else refused
            for index in batch:
                if results[index] is None:
                    results[index] = _failed(limited.get(index, failed))
            if self._error is not None or refused is exc or exc.trouble is not Trouble.REPLY:
                raise failed from None
            return []
        self._dirty = False
        done = RcptResult(None, reply.code, reply.secode, reply.text)
        for index in accepted:
            results[index] = done
        return list(limited)

    async def _content(self, source: Source) -> Reply:
        """Send the content after 354, and return what the server says to it."""
        transport = self.transport
        # From here on the reply to the content may come, even before its end.
        self._due += 1
        begun = time.monotonic()
        self._paused = False
        transport.registerProducer(self, True)
        try:
            while True:
                piece = await source.next()
                if self._error is not None:
                    raise self._error
                if self._arrived or piece is None:
                    break
                if self._logger.enabled(TRACE):
                    self._trace_content(piece)
                transport.write(piece)
                if self._paused and not self._arrived:
                    self._drained = Deferred(lambda _: self.abort())
                    self._limit(self._timeouts.block)
                    try:
                        await self._drained
                    finally:
                        self._drained = None
                        self._limit(None)
        except DeliveryError as exc:
            # Half a message must not look like a whole one.
            self.fail(exc)
            raise
        finally:
            transport.unregisterProducer()
        unfinished = bool(self._arrived) and not source.ended
        reply = await self._read("dataend", self._timeouts.final, begun)
        if unfinished:
            # The server answered in the middle of the content: nothing else can follow.
            self.fail(refusal(reply, "the message", self.host))
            if reply.good:
                raise self._trouble(Trouble.PROTOCOL, "server answered before the content's end")
        return reply

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
                    Trouble.TLS, "timeout in TLS handshake", problem="io-timeout-during-handshake"
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
        super().connectionLost(reason)  # type: ignore[no-untyped-call]

    def _lost_error(self, reason: Failure) -> DeliveryError:
        value: Any = reason.value
        if self._farewell is not None:
            return refusal(self._farewell, "the session", self.host)
        if isinstance(value, DeliveryError):
            return value
        kind = getattr(value, "kind", "")
        if self._handshake is not None or kind or isinstance(value, SSL.Error):
            return self._trouble(Trouble.TLS, f"TLS: {tls_error_text(value)}", problem=kind)
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


def _failed(exc: DeliveryError) -> RcptResult:
    return RcptResult(exc, exc.code, exc.secode, exc.text)
