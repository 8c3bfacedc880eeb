"""The sending side of SMTP: a session with a server, with several transactions on it.

What the queue sees of `DeliveryClient` is `moxtw.queue.delivery.SMTPSession`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.threads import deferToThreadPool

from moxtw.log import TRACE
from moxtw.net.tlsinfo import channel_binding, tls_connection
from moxtw.queue.delivery import DeliveryError, Login, RcptResult, Transaction, Trouble
from moxtw.smtp.clientauth import login
from moxtw.smtp.clientchannel import Channel
from moxtw.smtp.clientreply import Reply, refusal
from moxtw.smtp.extensions import Extensions, parse_extensions
from moxtw.smtp.stuffing import Source

DEFAULT_RCPTMAX: Final = 100
"""Recipients of a transaction that a server has to take (RFC 5321 4.5.3.1.8)."""


class DeliveryClient(Channel):
    """A session: greeting, EHLO, TLS, login, then messages."""

    def __init__(self, *args: Any, **kw: Any) -> None:
        super().__init__(*args, **kw)
        self.extensions = Extensions()
        # The lines of the last reply to EHLO.
        self.announced: tuple[str, ...] = ()
        self._busy = False
        # Whether a transaction was begun and not completed, and how many there were.
        self._dirty = False
        self._transactions = 0

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
        self.announced = reply.lines
        self.extensions = parse_extensions(line[4:] for line in reply.lines[1:])

    async def secure(
        self, creator: IOpenSSLClientConnectionCreator, *, greeting: bool = False
    ) -> None:
        """Begin TLS, see `Channel.secure`; what the server can do is to be asked again."""
        self.extensions = Extensions()
        await super().secure(creator, greeting=greeting)

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
        requests = wanted.dsn if extensions.dsn else ()
        rcpts = [
            b"RCPT TO:<%s>%s\r\n"
            % (
                self._path(rcpt, smtputf8),
                requests[i].rcpt_parameters(utf8=smtputf8).encode() if requests else b"",
            )
            for i, rcpt in enumerate(wanted.recipients)
        ]
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
        # RFC 3461 4.3, 4.4: the same for all recipients.
        asked = wanted.dsn[0].mail_parameters() if extensions.dsn and wanted.dsn else ""
        if asked:
            parts.append(asked.lstrip().encode())
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
        done = RcptResult(
            None, reply.code, reply.secode, reply.text, dsn=self.extensions.dsn
        )
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


def _failed(exc: DeliveryError) -> RcptResult:
    return RcptResult(exc, exc.code, exc.secode, exc.text)
