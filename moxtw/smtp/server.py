"""The SMTP server protocol: the session and its commands (RFC 5321).

`connection` cares for framing, waiting and writing. The larger commands are in `transaction`
(MAIL, RCPT), `data` (DATA), `chunking` (BDAT) and `auth` (AUTH); here are the greeting and the
others.

At STARTTLS everything that came in plain text is dropped: commands that somebody put behind
it are never executed within TLS. What looks like the start of a handshake is handed on to it,
for clients that do not wait for the reply.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.interfaces import IHandshakeListener
from twisted.python.failure import Failure
from zope.interface import implementer

from moxtw import metrics
from moxtw.log import Logger
from moxtw.mail.address import IPDomain
from moxtw.net.tlsinfo import tls_connection, tls_info
from moxtw.smtp import auth, chunking, data, grammar, transaction
from moxtw.smtp.connection import HANDSHAKE_TIMEOUT, READ_TIMEOUT, Command, SMTPConnection
from moxtw.smtp.reply import SMTPError
from moxtw.smtp.tlserrors import handshake_error

if TYPE_CHECKING:
    from moxtw.inbound.envelope import TraceFields
    from moxtw.smtp.context import Settings, SMTPContext
    from moxtw.smtp.transaction import Transaction
    from moxtw.store.auth import Login

log = Logger("smtpserver")

GREETING_DELAY: Final = 5.0
"""Seconds that clients wait for the greeting from whom much was refused lately."""


@implementer(IHandshakeListener)
class SMTPServer(SMTPConnection):
    """One session of a client."""

    def __init__(self, ctx: SMTPContext, settings: Settings) -> None:
        super().__init__(ctx, settings)
        self.hello: IPDomain | None = None
        self.esmtp = False
        self.login: Login | None = None
        self.ignore_certificate = False
        self.authenticated_by_sasl = False
        self.failed_auths = 0
        self.transaction: Transaction | None = None
        # The Received field of messages, with what it was made of.
        self.trace: tuple[object, TraceFields] | None = None
        # The client is on the list of those that are not limited.
        self.exempt = False
        self.transactions_good = 0
        self.transactions_bad = 0
        self._starttls = False
        self._counted_open = False

    # -- Connection ----------------------------------------------------------------

    def connectionMade(self) -> None:  # noqa: N802
        """Greet, or wait for the TLS handshake first."""
        super().connectionMade()
        self.exempt = self.services.open_connections.exempt(self.remote_ip)
        metrics.smtpserver_connection_total.labels(self.settings.kind).inc()
        self.factory.opened(self)
        if self.settings.implicit_tls:
            self._handshaking = True
            self.setTimeout(HANDSHAKE_TIMEOUT)
        else:
            self.setTimeout(READ_TIMEOUT)
            self._greet()

    def handshakeCompleted(self) -> None:  # noqa: N802
        """TLS is established (IHandshakeListener)."""
        if not self._handshaking:
            return
        self._handshaking = False
        self.setTimeout(self._read_timeout)
        connection = tls_connection(self.transport)
        self.tls = tls_info(connection) if connection is not None else None
        log.debug("tls handshake completed", cid=self.cid, tls=self.tls and self.tls.text)
        if self._starttls:
            self._run(self._after_starttls())
        else:
            self._run(self._after_implicit_tls())

    async def _after_implicit_tls(self) -> None:
        await auth.login_by_certificate(self)
        self._greet()

    async def _after_starttls(self) -> None:
        await auth.login_by_certificate(self)

    def _greet(self) -> None:
        """Check limits, in this order, and greet (RFC 5321 3.1)."""
        ctx = self.services
        now = ctx.reactor.seconds()
        ip = self.remote_ip
        log.debug("new connection", cid=self.cid, remote=ip, local=self.local_ip)
        if self._stopping:
            self._refuse("4.3.2", self._stopping)
        elif not ctx.connection_rate.add(ip, now):
            log.info("refusing connection: rate", cid=self.cid, remote=ip)
            self._refuse("4.7.0", "connection rate from your ip or network too high, slow down")
        elif self.submission and not ctx.failed_auth.can_add(ip, now):
            metrics.authentication_ratelimited_total.labels("submission").inc()
            log.info("refusing connection: many failed authentications", cid=self.cid, remote=ip)
            self._refuse("4.7.0", "too many auth failures")
        elif not ctx.open_connections.add(ip, now):
            log.info("refusing connection: many open connections", cid=self.cid, remote=ip)
            self._refuse("4.7.0", "too many open connections from your ip or network")
        else:
            self._counted_open = True
            pause = self._greeting_pause()
            if pause:
                self._run(self._greet_late(pause))
            else:
                self._welcome()

    def _greeting_pause(self) -> float:
        """Seconds in which the client has to be silent before it is greeted."""
        ctx = self.services
        if self.submission or self.exempt or ctx.localserve:
            return 0
        delay = self.settings.greeting_delay
        if delay is not None:
            return delay
        return 0 if ctx.refusals.can_add(self.remote_ip, ctx.reactor.seconds()) else GREETING_DELAY

    async def _greet_late(self, seconds: float) -> None:
        await self.sleep(seconds)
        if self.heard:
            # RFC 5321 4.3.1: wait for the greeting. Who does not is no mail server.
            metrics.smtpserver_early_talkers_total.inc()
            log.info("client talked before the greeting", cid=self.cid, remote=self.remote_ip)
            self.refused()
            raise SMTPError(554, "5.5.1", "you have to wait for the greeting", close=True)
        self._welcome()

    def _welcome(self) -> None:
        self.reply(220, "", f"{self.settings.hostname.ascii} ESMTP moxtw")
        self._flush()

    def refused(self) -> None:
        """Remember that the client came with something that we do not want."""
        if not self.submission:
            self.services.refusals.add(self.remote_ip, self.services.reactor.seconds())

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override] # noqa: N802
        """The connection is gone."""
        if self._counted_open:
            self._counted_open = False
            self.services.open_connections.sub(self.remote_ip)
        if self._handshaking:
            if self._starttls and not self.submission:
                label = handshake_error(reason)
                metrics.smtpserver_delivery_starttls_errors_total.labels(label).inc()
            log.info("tls handshake failed", cid=self.cid, remote=self.remote_ip, err=reason.value)
        else:
            log.debug("connection closed", cid=self.cid, remote=self.remote_ip)
        super().connectionLost(reason)
        self.factory.closed(self)

    # -- Commands ------------------------------------------------------------------

    def lookupMethod(self, command: Any) -> Command | None:  # noqa: N802
        """The function for a verb in upper case."""
        return _COMMANDS.get(command)

    @property
    def tell_rest(self) -> bool:
        """Users are told what of their command was not understood."""
        return self.login is not None

    @property
    def trailing(self) -> bool:
        """Whether white space at the end of a command is let pass."""
        return not self.submission

    def reset(self) -> None:
        """Forget the mail transaction."""
        transaction, self.transaction = self.transaction, None
        if transaction is not None and transaction.chunks is not None:
            transaction.chunks.discard()

    def do_HELO(self, rest: str) -> Awaitable[None] | None:  # noqa: N802
        """HELO (RFC 5321 4.1.1.1)."""
        return self._hello(rest, esmtp=False)

    def do_EHLO(self, rest: str) -> Awaitable[None] | None:  # noqa: N802
        """EHLO (RFC 5321 4.1.1.1)."""
        return self._hello(rest, esmtp=True)

    def _hello(self, rest: str, *, esmtp: bool) -> Awaitable[None] | None:
        # Even a failed one starts anew.
        self.reset()
        hello = IPDomain()
        if not self.submission or self.settings.pedantic:
            hello = grammar.ehlo(rest)
        if not esmtp and not self.submission and hello.domain is not None:
            known = self.services.senders.known_address(hello.domain)
            if known is None:
                return self._checked_helo(hello)
            if not known:
                raise _no_such_helo()
        self._accept_hello(hello, esmtp)
        return None

    async def _checked_helo(self, hello: IPDomain) -> None:
        """HELO is for programs of old; those that make up a name are mostly sending junk."""
        assert hello.domain is not None
        if not await self.services.senders.has_address(hello.domain):
            raise _no_such_helo()
        self._accept_hello(hello, False)

    def _accept_hello(self, hello: IPDomain, esmtp: bool) -> None:
        self.hello = hello
        self.esmtp = esmtp
        self.last_code, self.last_secode = 250, ""
        lines = [self.host, *self._capabilities()]
        last = len(lines) - 1
        self.send(
            b"".join(
                b"250%c%s\r\n" % (b" " if i == last else b"-", line) for i, line in enumerate(lines)
            )
        )

    def _capabilities(self) -> list[bytes]:
        """What EHLO announces, in order."""
        settings = self.settings
        lines = [b"PIPELINING", b"SIZE %d" % settings.max_size]
        if self.tls is None and settings.tls is not None:
            lines.append(b"STARTTLS")
        elif settings.requiretls:
            lines.append(b"REQUIRETLS")
        if self.submission:
            lines.append(auth.capability(self))
            lines.append(transaction.future_release(self.reactor.seconds()))
        lines += [
            b"ENHANCEDSTATUSCODES",
            b"8BITMIME",
            b"CHUNKING",
            b"BINARYMIME",
            b"DSN",
            b"LIMITS RCPTMAX=1000",
            b"SMTPUTF8",
        ]
        return lines

    def need_hello(self) -> None:
        """Refuse a command before EHLO."""
        if self.hello is None:
            raise SMTPError(503, "5.5.1", "no ehlo/helo yet")

    def need_login(self) -> None:
        """Refuse mail from clients that have to log in first (RFC 4954 6)."""
        if self.submission and self.login is None:
            raise SMTPError(530, "5.7.0", "authentication required")

    def ext_STARTTLS(self, rest: str) -> None:  # noqa: N802
        """STARTTLS (RFC 3207)."""
        self.need_hello()
        grammar.nothing(rest, trailing=self.trailing)
        tls = self.settings.tls
        if self.tls is not None:
            raise SMTPError(503, "5.5.1", "already speaking tls")
        if self.login is not None:
            raise SMTPError(503, "5.5.1", "cannot starttls after authentication")
        if tls is None:
            raise SMTPError(503, "5.5.1", "starttls not offered")
        if not self.submission:
            metrics.smtpserver_delivery_starttls_total.inc()
        self.reply(220, "", "go!")
        self._flush()
        slow = self.slow
        if self._slow_transport is not None:
            # What it holds back of input is plain text, and goes with it.
            self.set_slow(False)
            self._slow_transport.stop()
            self._slow_transport = None
            self._hold = False
        early, self._buffer, self._pos = self._buffer[self._pos :], b"", 0
        # RFC 3207 4.2: what was learned before is worth nothing.
        self.hello = None
        self.esmtp = False
        self.reset()
        self.trace = None
        self._handshaking = True
        self._starttls = True
        self.setTimeout(HANDSHAKE_TIMEOUT)
        creator: Any = tls
        if self.settings.client_certificates and not self.services.failed_auth.can_add(
            self.remote_ip, self.reactor.seconds()
        ):
            creator = tls.without_client_certificates()
        self.transport.startTLS(creator)
        self.set_slow(slow)
        if not early:
            return
        if early[0] == 22:
            # A TLS handshake record (RFC 8446 5.1), sent without waiting for our reply.
            self.transport.protocol.dataReceived(early)
        else:
            log.warn(
                "dropping plain text sent behind starttls",
                cid=self.cid,
                remote=self.remote_ip,
                size=len(early),
            )

    def ext_AUTH(self, rest: str) -> Awaitable[None] | None:  # noqa: N802
        """AUTH (RFC 4954)."""
        return auth.command(self, rest)

    def do_MAIL(self, rest: str) -> Awaitable[None] | None:  # noqa: N802
        """MAIL (RFC 5321 4.1.1.2)."""
        return transaction.mail(self, rest)

    def do_RCPT(self, rest: str) -> Awaitable[None] | None:  # noqa: N802
        """RCPT (RFC 5321 4.1.1.3)."""
        return transaction.rcpt(self, rest)

    def do_DATA(self, rest: str) -> None:  # noqa: N802
        """DATA (RFC 5321 4.1.1.4)."""
        data.command(self, rest)

    def ext_BDAT(self, rest: str) -> Awaitable[None] | None:  # noqa: N802
        """BDAT (RFC 3030 2)."""
        return chunking.command(self, rest)

    def do_RSET(self, rest: str) -> None:  # noqa: N802
        """RSET (RFC 5321 4.1.1.5)."""
        grammar.nothing(rest, trailing=self.trailing)
        self.reset()
        self.reply(250, "2.0.0", "all clear")

    def do_NOOP(self, rest: str) -> None:  # noqa: N802
        """NOOP (RFC 5321 4.1.1.9)."""
        self.reply(250, "2.0.0", "alrighty")

    def do_VRFY(self, rest: str) -> None:  # noqa: N802
        """VRFY and EXPN (RFC 5321 3.5.3): nobody is told who lives here."""
        self.reply(252, "2.7.0", "send some mail to find out")

    def do_HELP(self, rest: str) -> None:  # noqa: N802
        """HELP (RFC 5321 4.1.1.8)."""
        self.reply(214, "2.0.0", "see rfc 5321 (smtp)")

    def do_QUIT(self, rest: str) -> None:  # noqa: N802
        """QUIT (RFC 5321 4.1.1.10)."""
        grammar.nothing(rest, trailing=self.trailing)
        self.reply(221, "2.0.0", "bye")
        self._observe()
        self.close()


_COMMANDS: Final[dict[str, Command]] = {
    "HELO": SMTPServer.do_HELO,
    "EHLO": SMTPServer.do_EHLO,
    "STARTTLS": SMTPServer.ext_STARTTLS,
    "AUTH": SMTPServer.ext_AUTH,
    "MAIL": SMTPServer.do_MAIL,
    "RCPT": SMTPServer.do_RCPT,
    "DATA": SMTPServer.do_DATA,
    "BDAT": SMTPServer.ext_BDAT,
    "RSET": SMTPServer.do_RSET,
    "VRFY": SMTPServer.do_VRFY,
    "EXPN": SMTPServer.do_VRFY,
    "HELP": SMTPServer.do_HELP,
    "NOOP": SMTPServer.do_NOOP,
    "QUIT": SMTPServer.do_QUIT,
}


def _no_such_helo() -> SMTPError:
    return SMTPError(550, "5.5.0", "your helo domain has no ip address")
