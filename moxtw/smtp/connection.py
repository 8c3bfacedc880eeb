"""An SMTP connection's framing, waiting and writing; what is said on it is in `server`.

A subclass of Twisted's ESMTP, in its place between factory and transport, with the parts
replaced that decide what is a command and when it runs:

- One command runs at a time, to its end, before the next is looked at; what arrives meanwhile
  waits, first in the buffer, then unread in the kernel.
- Replies are held back while a further complete command is in the buffer (RFC 2920 3.2), and
  leave in one write.
- Content of messages goes to a scanner in whole chunks.
- Whatever waits, on our side or on the client's, has a time limit.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer
from twisted.mail.smtp import ESMTP
from twisted.python.failure import Failure
from zope.interface import implementer

from moxtw import metrics
from moxtw.log import TRACE, TRACEAUTH, TRACEDATA, Logger
from moxtw.net.prompt import write_now
from moxtw.net.slow import SlowTransport
from moxtw.smtp import grammar
from moxtw.smtp.reply import SMTPError, format_reply

if TYPE_CHECKING:
    from moxtw.net.tlsinfo import TLSInfo
    from moxtw.smtp.context import Settings, SMTPContext
    from moxtw.smtp.data import Receiving

log = Logger("smtpserver")

MAX_LINE: Final = 2048
"""Bytes of a command line before its LF."""

TURN: Final = 200
"""Commands of one connection that run in a row; then others have their turn."""

READ_TIMEOUT: Final = 30
WRITE_TIMEOUT: Final = 30
HANDSHAKE_TIMEOUT: Final = 60
LINGER: Final = 5
"""Seconds in which input is still read, and dropped, after a reply that ends the connection in
the midst of it: closing at once would make the client's side throw the reply away."""

Command = Callable[[Any, str], Awaitable[None] | None]
"""A command: protocol and arguments; the result is what to wait for, if anything."""


_duration_metrics: dict[tuple[str, str, int, str], Callable[[float], None]] = {}


def _observe(kind: str, cmd: str, code: int, secode: str, seconds: float) -> None:
    """Count a command; label lookups are done once for each combination."""
    key = (kind, cmd, code, secode)
    observe = _duration_metrics.get(key)
    if observe is None:
        child = metrics.smtpserver_command_duration_seconds.labels(kind, cmd, str(code), secode)
        observe = _duration_metrics[key] = child.observe
    observe(seconds)


@implementer(IPushProducer)
class _Outlet:
    """Told by the transport when replies pile up unsent, and when they are gone."""

    def __init__(self, protocol: SMTPConnection) -> None:
        self._protocol = protocol

    def pauseProducing(self) -> None:
        self._protocol.output_blocked()

    def resumeProducing(self) -> None:
        self._protocol.output_drained()

    def stopProducing(self) -> None:
        pass


@implementer(IHalfCloseableProtocol)
class SMTPConnection(ESMTP):
    """One connection of a client, as far as it is the same whatever is said."""

    factory: Any
    transport: Any
    timeout = READ_TIMEOUT
    if TYPE_CHECKING:
        # Twisted's have no types.
        setTimeout: Callable[[float | None], float | None]
        resetTimeout: Callable[[], None]

    def __init__(self, ctx: SMTPContext, settings: Settings) -> None:
        ESMTP.__init__(self)
        self.services = ctx
        self.settings = settings
        self.reactor = ctx.reactor
        self.submission = settings.submission
        self.metric_kind = "submission" if settings.submission else "smtp"
        self.host = settings.hostname.ascii.encode("ascii")
        self.cid = ctx.cids.next()
        self._cid_text = ""
        self.remote_ip = ""
        self.local_ip = ""
        self.tls: TLSInfo | None = None
        self.tracing = log.enabled(TRACE)

        # Input.
        self._buffer = b""
        self._pos = 0
        self._processing = False
        self._busy = False
        self._paused = False
        self._closing = False
        self._lost = False
        # The client has closed its side.
        self._ended = False
        self._first_command = True
        self._handshaking = False
        self._line_wanted: Deferred[bytes] | None = None
        self.receiving: Receiving | None = None

        # Output.
        self._out: list[bytes] = []
        self._blocked = False
        self.last_code = 0
        self.last_secode = ""
        # Whether replies may have UTF-8: after MAIL with SMTPUTF8 (RFC 6531 3.7.4.2).
        self.utf8 = False

        # The command that runs.
        self._command = ""
        self._command_start = 0.0
        self._sleeping: Deferred[None] | None = None
        self._sleep_end = 0.0
        self.slow = False
        self._slow_transport: SlowTransport | None = None
        self._hold = False
        self._stopping = ""
        self._next_turn: Any = None
        self._close_timer: Any = None

    # -- What is said --------------------------------------------------------------

    def lookupMethod(self, command: Any) -> Command | None:  # noqa: N802
        """The function for a verb in upper case."""
        raise NotImplementedError

    def handshakeCompleted(self) -> None:  # noqa: N802
        """TLS is established."""
        raise NotImplementedError

    def reset(self) -> None:
        """Forget the mail transaction."""
        raise NotImplementedError

    @property
    def tell_rest(self) -> bool:
        """Whether the client may know what of its command was not understood."""
        return False

    # -- Connection ----------------------------------------------------------------

    def callLater(self, period: float, func: Callable[[], None]) -> Any:  # noqa: N802
        """Timeouts go by the clock that was given (TimeoutMixin)."""
        return self.reactor.callLater(period, func)

    def connectionMade(self) -> None:  # noqa: N802
        """Note who is there, and watch over output."""
        self.local_ip = _host(self.transport.getHost())
        self.remote_ip = _host(self.transport.getPeer())
        self.transport.registerProducer(_Outlet(self), True)

    def _refuse(self, secode: str, text: str) -> None:
        self.reply(421, secode, text)
        self.close()

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override] # noqa: N802
        """The connection is gone: let go of everything that waits for it."""
        self._lost = True
        self._closing = True
        self.setTimeout(None)
        for call in (self._next_turn, self._close_timer):
            if call is not None and call.active():
                call.cancel()
        if self._slow_transport is not None:
            self._slow_transport.stop()
        self._out.clear()
        self._buffer = b""
        if self.receiving is not None:
            self.receiving.discard()
            self.receiving = None
        self.reset()
        wanted, self._line_wanted = self._line_wanted, None
        if wanted is not None:
            wanted.errback(CancelledError())
        if self._sleeping is not None:
            self._sleeping.cancel()

    def readConnectionLost(self) -> None:  # noqa: N802
        """The client closed its side; what it sent is answered still (IHalfCloseableProtocol)."""
        self._ended = True
        asleep = self._sleeping is not None
        if asleep and self._sleep_end - self.reactor.seconds() > READ_TIMEOUT:
            # Nobody waits for so late an answer.
            self.abort()
        elif self._closing:
            if self._slow_transport is None:
                self.transport.loseConnection()
        else:
            self._close_at_end()

    def writeConnectionLost(self) -> None:  # noqa: N802
        """Our side is closed: we did that (IHalfCloseableProtocol)."""

    def _close_at_end(self) -> None:
        """After the end of input: close when all of it is answered."""
        slow = self._slow_transport
        if not (
            self._busy
            or self._blocked
            or self._closing
            or self._processing
            or (slow is not None and slow.holds_input)
        ):
            self.close()

    @property
    def cid_text(self) -> str:
        """The connection id for outsiders."""
        if not self._cid_text:
            self._cid_text = self.services.cids.encrypt(self.cid)
        return self._cid_text

    def close(self, *, linger: bool = False) -> None:
        """Send what is to be sent, then disconnect; input is ignored from now on."""
        if self._closing:
            return
        self._flush()
        self._closing = True
        self._buffer = b""
        self.setTimeout(None)
        transport = self.transport
        transport.unregisterProducer()
        if self._slow_transport is not None:
            self._slow_transport.loseConnection()
            self._close_timer = self.reactor.callLater(
                2 * WRITE_TIMEOUT, transport.abortConnection
            )
        elif (
            linger
            and self.tls is None
            and not self._ended
            and hasattr(transport, "loseWriteConnection")
        ):
            if self._paused:
                self._paused = False
                transport.resumeProducing()
            transport.loseWriteConnection()
            self._close_timer = self.reactor.callLater(LINGER, transport.loseConnection)
        else:
            transport.loseConnection()
            self._close_timer = self.reactor.callLater(WRITE_TIMEOUT, transport.abortConnection)

    def shutdown(self, why: str = "shutting down") -> None:
        """End the session as soon as no command or transfer is in progress."""
        self._stopping = why
        if self._handshaking:
            self.transport.abortConnection()
        elif not self._closing and not self._busy and self.receiving is None:
            self._refuse("4.3.2", self._stopping)

    def abort(self) -> None:
        """Disconnect at once."""
        if not self._lost:
            self.transport.abortConnection()

    @property
    def heard(self) -> bool:
        """Whether there is input that was not looked at yet."""
        return self._pos < len(self._buffer)

    # -- Timers --------------------------------------------------------------------

    def timeoutConnection(self) -> None:  # noqa: N802
        """Nothing was read, or nothing could be written, for too long (TimeoutMixin)."""
        if self._closing:
            return
        if self._blocked or self._handshaking:
            log.info("timeout", cid=self.cid, remote=self.remote_ip)
            self.transport.abortConnection()
        elif self._busy or (self._slow_transport is not None and self._slow_transport.pending):
            # We are the slow ones.
            self.setTimeout(self._read_timeout)
        else:
            log.info("timeout waiting for client", cid=self.cid, remote=self.remote_ip)
            self.reply(421, "4.4.2", "timeout")
            self.close()

    def sleep(self, seconds: float) -> Deferred[None]:
        """Wait, unless the connection is lost: then the Deferred is cancelled."""
        waiting: Deferred[None] = Deferred(lambda _: call.cancel())
        if self._lost:
            waiting.cancel()
            return waiting
        call = self.reactor.callLater(seconds, waiting.callback, None)
        self._sleeping = waiting
        self._sleep_end = call.getTime()

        def done(result: Any) -> Any:
            self._sleeping = None
            return result

        return waiting.addBoth(done)

    # -- Input ---------------------------------------------------------------------

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        """Take bytes from the transport."""
        if self._closing:
            return
        if self._handshaking:
            # A wrapper between TLS and us does not tell about the handshake; but the first
            # bytes within TLS do.
            self.handshakeCompleted()
        self.resetTimeout()
        self.tracing = log.enabled(TRACE)
        if self._slow_transport is not None:
            self._slow_transport.dataReceived(data)
        else:
            self._take(data)

    def _take(self, data: bytes) -> None:
        if self._closing:
            return
        self._buffer = self._buffer + data if self._buffer else data
        if self._busy or self._blocked:
            self._pause()
            return
        self._process()

    def _pause(self) -> None:
        if not self._paused:
            self._paused = True
            self.transport.pauseProducing()

    def _resume(self) -> None:
        if self._paused and not (
            self._busy or self._blocked or self._hold or self._closing or self._ended
        ):
            self._paused = False
            self.transport.resumeProducing()

    def set_slow(self, slow: bool) -> None:
        """Make the client wait for everything, or no longer."""
        if self._lost or self._closing or slow == self.slow:
            return
        self.slow = slow
        if self._slow_transport is None:
            self._slow_transport = SlowTransport(
                self.transport, self.reactor, self._take, self._hold_input
            )
        self._slow_transport.set_slow(slow)
        if not (self._blocked or self._handshaking):
            self.setTimeout(self._read_timeout)

    @property
    def _read_timeout(self) -> float:
        """Seconds to wait for input; a slow reply takes time of its own."""
        return READ_TIMEOUT + WRITE_TIMEOUT if self.slow else READ_TIMEOUT

    def _hold_input(self, hold: bool) -> None:
        self._hold = hold
        if hold:
            self._pause()
        else:
            self._resume()

    def output_blocked(self) -> None:
        """The client does not read replies as fast as it sends commands: wait for it."""
        self._blocked = True
        self.setTimeout(WRITE_TIMEOUT)

    def output_drained(self) -> None:
        """The client has read the replies."""
        if self._blocked and not self._closing:
            self._blocked = False
            self.setTimeout(self._read_timeout)
            self._process()

    def _process(self) -> None:
        """Run what is in the buffer, as far as it goes."""
        if self._processing:
            return
        self._processing = True
        left = TURN
        try:
            while not (self._busy or self._closing or self._blocked or self._handshaking):
                buffer, pos = self._buffer, self._pos
                if self.receiving is not None:
                    if pos >= len(buffer):
                        break
                    self._buffer, self._pos = b"", 0
                    self._receive(buffer[pos:] if pos else buffer)
                    continue
                end = buffer.find(b"\n", pos)
                if (len(buffer) if end < 0 else end) - pos > MAX_LINE:
                    self.reply(500, "5.5.0", "line too long")
                    self.close(linger=True)
                    break
                if end < 0:
                    break
                if not left:
                    self._busy = True
                    self._next_turn = self.reactor.callLater(0, self._go_on)
                    break
                left -= 1
                self._pos = end + 1
                line = buffer[pos : end - 1 if end > pos and buffer[end - 1] == 13 else end]
                wanted, self._line_wanted = self._line_wanted, None
                if wanted is not None:
                    if self.tracing:
                        log.trace("C: ", line, TRACEAUTH, cid=self.cid)
                    self._busy = True
                    wanted.callback(line)
                else:
                    self.state_COMMAND(line)
                if self._stopping and not self._busy and self.receiving is None:
                    self._refuse("4.3.2", self._stopping)
        finally:
            self._processing = False
        if self._pos:
            self._buffer = self._buffer[self._pos :]
            self._pos = 0
        if self._out:
            self._flush()
        self._resume()
        if self._ended:
            self._close_at_end()

    def _go_on(self) -> None:
        """Run more of the many commands that came at once."""
        self._busy = False
        if self._stopping:
            self._refuse("4.3.2", self._stopping)
        elif not self._closing:
            self._process()

    def state_COMMAND(self, line: bytes) -> None:  # noqa: N802
        """Run a command line."""
        self._command_start = self.reactor.seconds()
        self._command = "(unknown)"
        first, self._first_command = self._first_command, False
        try:
            verb = grammar.verb(line)
            if self.tracing:
                level = TRACEAUTH if verb == "AUTH" else TRACE
                log.trace("C: ", line, level, cid=self.cid)
            method = self.lookupMethod(verb)
            if method is None:
                if first:
                    # Most likely not a client of SMTP at all.
                    raise SMTPError(500, "5.5.2", "bad syntax: unknown command", close=True)
                raise SMTPError(500, "5.5.1", "unknown command")
            self._command = verb.lower()
            waiting = method(self, grammar.arguments(line))
        except SMTPError as exc:
            self._failed(exc)
        except Exception as exc:  # noqa: BLE001 - a fault of ours must not end the server
            self._panic(exc)
        else:
            if waiting is not None:
                self._run(waiting)
                return
        if self.receiving is None:
            self._observe()

    def _run(self, waiting: Awaitable[None]) -> None:
        """Run a command that has to wait for something; input waits until it is done."""
        self._busy = True
        deferred: Deferred[None] = Deferred.fromCoroutine(waiting)  # type: ignore[arg-type]
        deferred.addErrback(self._run_failed)
        deferred.addCallback(self._run_done)
        if self._busy and not self._processing:
            self._flush()

    def _run_failed(self, failure: Failure) -> None:
        exc = failure.value
        if isinstance(exc, SMTPError):
            self._failed(exc)
        elif not (isinstance(exc, CancelledError) and self._closing):
            self._panic(failure)

    def _run_done(self, _: object) -> None:
        self._busy = False
        self._observe()
        if self._closing:
            return
        self.resetTimeout()
        if self._stopping and self.receiving is None:
            self._refuse("4.3.2", self._stopping)
        elif not self._processing:
            self._process()

    def _observe(self) -> None:
        if self._command:
            seconds = self.reactor.seconds() - self._command_start
            _observe(self.metric_kind, self._command, self.last_code, self.last_secode, seconds)
            self._command = ""

    def _failed(self, exc: SMTPError) -> None:
        """Tell the client why its command is refused."""
        text = exc.text
        if isinstance(exc, grammar.GrammarError) and exc.rest and self.tell_rest:
            text = f"{text}, remaining data {exc.rest[:200]!r}"
        if not self._lost:
            log.debug(
                "command failed",
                cid=self.cid,
                cmd=self._command,
                code=exc.code,
                secode=exc.secode,
                err=text,
            )
        self.reply(exc.code, exc.secode, text)
        if exc.close:
            self.close(linger=True)

    def _panic(self, failure: Failure | BaseException) -> None:
        """A fault of ours: the transaction is off, the connection goes on."""
        log.failure("unexpected exception", failure, cid=self.cid, cmd=self._command)
        if self.receiving is not None:
            # Nobody knows where in the content the client is.
            self.receiving.discard()
            self.receiving = None
            self.reply(421, "4.3.0", "internal error")
            self.close(linger=True)
            return
        self.reset()
        self.reply(451, "4.3.0", "internal error, try again later")

    async def read_line(self) -> bytes:
        """The client's next line, for a command that goes on over several of them."""
        if self._closing:
            raise CancelledError
        wanted: Deferred[bytes] = Deferred()
        self._line_wanted = wanted
        self._busy = False
        if not self._processing:
            self._process()
        return await wanted

    # -- Content -------------------------------------------------------------------

    def start_receiving(self, receiving: Receiving) -> None:
        """From now on input is message content."""
        self.receiving = receiving

    def _receive(self, chunk: bytes) -> None:
        """Take message content."""
        receiving = self.receiving
        assert receiving is not None
        if self.tracing:
            log.trace("C: ", chunk, TRACEDATA, cid=self.cid)
        try:
            done, rest, waiting = receiving.feed(chunk)
        except SMTPError as exc:
            self.receiving = None
            self._failed(exc)
            self._observe()
            return
        except Exception as exc:  # noqa: BLE001 - a fault of ours must not end the server
            self._panic(exc)
            return
        if done:
            self.receiving = None
            self._buffer = rest
            self._run(receiving.complete(self, waiting))  # type: ignore[arg-type]
        elif waiting is not None:
            self._busy = True
            self._pause()
            waiting.addErrback(receiving.write_failed)
            waiting.addCallback(self._written)

    def _written(self, _: object) -> None:
        self._busy = False
        if not self._closing:
            self.resetTimeout()
            self._process()

    # -- Output --------------------------------------------------------------------

    def reply(self, code: int, secode: str, text: str) -> None:
        """Add a reply to what is to be sent. Errors get the connection id."""
        if self._closing:
            return
        self.last_code = code
        self.last_secode = secode
        if not text.isascii() and not self.utf8:
            text = text.encode("ascii", "backslashreplace").decode()
        self.send(format_reply(code, secode, text, self.cid_text if code >= 400 else ""))

    def send(self, raw: bytes, level: int = TRACE) -> None:
        """Add bytes to what is to be sent."""
        if self.tracing:
            log.trace("S: ", raw.rstrip(), level, cid=self.cid)
        self._out.append(raw)

    def challenge(self, text: bytes) -> None:
        """Ask for the next response of an authentication (RFC 4954 4)."""
        self.send(b"334 " + text + b"\r\n", TRACEAUTH)

    def sendCode(self, code: int, message: bytes = b"") -> None:  # noqa: N802
        """Twisted's way to give a reply."""
        self.reply(code, "", message.decode("utf-8", "replace"))

    def _flush(self) -> None:
        out = self._out
        if out and not self._lost:
            raw = out[0] if len(out) == 1 else b"".join(out)
            out.clear()
            if self._slow_transport is not None:
                self._slow_transport.write(raw)
            else:
                write_now(self.transport, raw)


def _host(address: Any) -> str:
    """The IP address of a transport's end, without scope; empty for others than IP."""
    host: str = getattr(address, "host", "") or ""
    return host.partition("%")[0].removeprefix("::ffff:") if "." in host else host.partition("%")[0]
