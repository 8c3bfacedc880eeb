"""The IMAP protocol: greeting, one command after the other, replies, the end.

A command runs to its end before the next is read, so replies come in the order of commands
(RFC 9051 5.5), and what a command fails with becomes its tagged reply here, in one place.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Final, NoReturn

from twisted.internet.defer import Deferred
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from moxtw import metrics
from moxtw.imap import auth, capability, commands, notices
from moxtw.imap.binary import Index
from moxtw.imap.commands import append
from moxtw.imap.connection import READ_LITERAL, Connection, Discard, Gone, TimedOut
from moxtw.imap.context import IMPLICIT_TLS, IMAPContext, IMAPListener
from moxtw.imap.errors import Bad, Close, IMAPError, No
from moxtw.imap.lexer import MAX_LINE, MAX_LITERAL, MAX_LITERALS, MAX_LITERALS_SIZE
from moxtw.imap.parser import LITERAL, NeedLiteral, Parser
from moxtw.imap.progress import Progress
from moxtw.imap.registry import Command, State
from moxtw.imap.session import Session, uid_required
from moxtw.log import TRACE, TRACEAUTH, Logger
from moxtw.store import accounts, mailboxes
from moxtw.store.auth import Login
from moxtw.store.errors import DiskFull, StoreClosed, StoreError, TooMany
from moxtw.store.tx import Tx

_log: Final = Logger("imapserver")
_SECRET: Final = (b"LOGIN", b"AUTHENTICATE")

# Commands whose arguments or answers have sequence numbers (RFC 9586 3.3).
_NUMBERS: Final = frozenset(
    ("FETCH", "STORE", "COPY", "MOVE", "SEARCH", "REPLACE", "SORT", "THREAD")
)
# So many bytes of literals are skipped behind a command that is refused unread.
_MAX_SKIPPED: Final = 1_000_000

# After so many literals a command is parsed no more until all of it has been read.
_PARSED_LITERALS: Final = 8

_durations: dict[tuple[str, str], Any] = {}


class IMAPServer(Connection):
    """One connection of an IMAP client."""

    IDENT = b"moxtw imap"

    def __init__(
        self,
        app: IMAPContext,
        listener: IMAPListener,
        *,
        opened: set[IMAPServer] | None = None,
        login: Login | None = None,
    ) -> None:
        self.cid = app.cids.next()
        super().__init__(app.reactor, _log.bind(cid=self.cid))
        self.app = app
        self.listener = listener
        self.session: Session | None = None
        self.login = auth.LoginState(login)
        self.remote_ip = self.local_ip = ""
        self._opened = opened
        self._counted = False
        self._first = True
        self.appends: append.Appends | None = None
        self._stop = False
        self._progress: Progress | None = None
        self._idling = False
        # Of the large part that was decoded last.
        self.decoded: Index | None = None

    # -- Life of a connection -----------------------------------------------------------

    def connectionMade(self) -> None:  # noqa: N802
        """Greet, and run commands until the end."""
        if self._opened is not None:
            self._opened.add(self)
        self.remote_ip = getattr(self.transport.getPeer(), "host", None) or ""
        self.local_ip = getattr(self.transport.getHost(), "host", None) or ""
        metrics.imap_connection_total.labels(self.listener.kind).inc()
        metrics.connections_count.labels(self.listener.kind, self.listener.name).inc()
        self.log.debug("connection", remote=self.remote_ip, listener=self.listener.name)
        self.opened()
        Deferred.fromCoroutine(self._run())

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: N802
        """Take the connection out of the counts."""
        super().connectionLost(reason)
        if self._opened is not None:
            self._opened.discard(self)
        metrics.connections_count.labels(self.listener.kind, self.listener.name).dec()
        if self._counted:
            self.app.open_connections.sub(self.remote_ip)
        self.log.debug("connection closed")

    async def _run(self) -> None:
        try:
            await self._greet()
            while not self.closing:
                await self._next()
                if self._stop:
                    raise Close(b"* BYE server is shutting down")
        except Gone:
            await self._answer_last()
            self.close()
        except StoreClosed:
            self.close()
        except TimedOut:
            self.close(b"* BYE closing the connection after a time without input")
        except Close as exc:
            self.close(*exc.lines)
        except Exception as exc:  # noqa: BLE001 - one connection must not take others down
            self.log.failure("connection ends", exc)
            self.close(b"* BYE internal error")
        finally:
            if self.session is not None:
                self.session.close()
                self.session = None
            self.login.ended(self)

    async def _answer_last(self) -> None:
        """Answer what is under way when a client has closed its side only."""
        if self.appends and not self.closing:
            with suppress(Gone, StoreClosed):
                await self.appends.settle()

    def shutdown(self) -> None:
        """End as soon as the running command, if any, is done."""
        self._stop = True
        if self.waiting:
            Deferred.fromCoroutine(self._shut_down())

    async def _shut_down(self) -> None:
        if self.appends:
            await self.appends.settle()
        self.close(b"* BYE server is shutting down")

    async def _greet(self) -> None:
        if self.listener.kind == IMPLICIT_TLS and self.secure:
            await self.handshake()
        await auth.admit(self)
        if self.session is not None:
            self._greeting(b"PREAUTH")
        else:
            self._greeting(b"OK")

    def count_open(self) -> None:
        """The connection is one of the open ones that are limited."""
        self._counted = True

    def _greeting(self, state: bytes) -> None:
        self.respond(state, None, b"[%b] %b" % (self.capability_text(), self.IDENT))

    def capability_text(self) -> bytes:
        """``CAPABILITY`` and the names, for the connection's present state."""
        return b"CAPABILITY " + b" ".join(self.listCapabilities())

    def listCapabilities(self) -> list[bytes]:  # noqa: N802
        """The capabilities for the connection's present state."""
        return capability.announced(
            disabled=self.login.capabilities_disabled(self),
            starttls=not self.secure and self.listener.tls is not None,
            plain=self.secure or self.listener.plain_allowed,
            external=self.login.fingerprint is not None,
            compressed=self.compressed,
        )

    # -- Commands -----------------------------------------------------------------------

    @property
    def now_state(self) -> State:
        """The state of RFC 9051 section 3."""
        if self.session is None:
            return State.NOT_AUTHENTICATED
        return State.AUTHENTICATED if self.session.view is None else State.SELECTED

    def lookupCommand(self, cmd: bytes) -> Command | None:  # noqa: N802
        """The command of an upper-case name, or None."""
        return commands.COMMANDS.get(cmd)

    async def _next(self) -> None:
        """Read a command and run it."""
        line = await self._read_command()
        started = self.clock.seconds()
        p = Parser(line, self.session is not None and self.session.utf8)
        tag: bytes | None = None
        name = "(unknown)"
        result = "ok"
        try:
            try:
                command, tag = self._command(p, line)
            finally:
                if self.appends and (tag is None or command.name != "APPEND"):
                    # Their answers come first.
                    await self.appends.settle()
            name = command.name
            if name != "ID":
                self.login.settle(self)
            if not command.states & self.now_state:
                await self._refuse(p, No(f"{name} is not possible in this state"))
            if name in _NUMBERS and self.session is not None and self.session.uidonly:
                await self._refuse(p, uid_required())
            args = await self._arguments(p, command)
            self._progress = Progress(self, name, tag)
            text = await command.run(self, tag, args)
            # What follows may be messages, in the middle of which nothing can be told.
            self._progress.end()
            if text is not None:
                if command.notices:
                    await notices.poll(self)
                else:
                    await notices.refresh(self)
                self.respond(b"OK", tag, text)
        except Close:
            result = "ok" if name == "LOGOUT" else "badsyntax"
            raise
        except IMAPError as exc:
            result = "badsyntax" if isinstance(exc, Bad) else "usererror"
            await self._fail(tag or p.partial_tag(), exc, p)
        except StoreError as exc:
            if isinstance(exc, StoreClosed):
                raise
            result = "servererror"
            await self._fail(tag, self.store_error(exc), p)
        except (Gone, TimedOut):
            result = "ioerror"
            raise
        except Exception as exc:  # noqa: BLE001 - the connection stays
            result = "panic"
            self.log.failure("unforeseen exception in command", exc, cmd=name)
            await self._fail(tag, No("internal error", b"SERVERBUG"), p)
        finally:
            self._first = False
            if self._progress is not None:
                self._progress.end()
                self._progress = None
            self._observe(name, result, self.clock.seconds() - started)
        if not self.closing:
            await self.drain(TRACE)
            await self.take_turn()

    async def _read_command(self) -> bytes:
        """The next command's line; until it is there, changes are told to who wants that."""
        while True:
            line = self.next_line()
            if line is not None:
                return line
            session = self.session
            if session is None or session.watch is None or not session.watch.events:
                await self.wait()
                continue
            if not self.appends:
                # Else their answers come first.
                try:
                    await notices.poll(self, between=True)
                except StoreError as exc:
                    if isinstance(exc, StoreClosed):
                        raise
                    self.log.error("telling changes", err=exc)
                    await self.wait_idle()
                    continue
                await self.drain(TRACE)
            if self.appends or not notices.pending(self):
                await self.wait_idle()

    def _command(self, p: Parser, line: bytes) -> tuple[Command, bytes]:
        try:
            tag = p.tag()
            p.space()
            word = p.word()
            if word == b"UID":
                p.space()
                word = b"UID " + p.word()
            command = self.lookupCommand(word)
            if command is None:
                raise Bad("unknown command")
        except Bad:
            self.trace_in(line)
            if self._first and self.session is None:
                raise Close(b"* BYE please speak IMAP") from None
            raise
        self.trace_in(line, TRACEAUTH if word in _SECRET else TRACE)
        return command, tag

    async def _arguments(self, p: Parser, command: Command) -> Any:
        """Parse the arguments; get the literals on the way (RFC 9051 4.3, RFC 7888)."""
        start = p.pos
        size = 0
        room = MAX_LINE - len(p.buf)
        while True:
            try:
                args = command.parse(p)
                if command.whole:
                    p.end()
                return args
            except NeedLiteral as exc:
                # Without its traceback, which would hold this frame in a circle.
                need: NeedLiteral | None = exc.with_traceback(None)
            while need is not None:
                size += need.size
                if need.size > MAX_LITERAL or size > MAX_LITERALS_SIZE:
                    raise _too_big(need)
                if len(p.literals) >= MAX_LITERALS:
                    raise _too_big(need, "too many literals in a command")
                if need.sync:
                    self.sendContinuationRequest(b"go on")
                literal = await self.read_literal(need.size)
                line = await self.read_line(READ_LITERAL, room)
                room -= len(line)
                secret = command.name.encode("ascii") in _SECRET
                self.trace_in(literal + line, TRACEAUTH if secret else TRACE)
                p.feed(literal, line)
                # Parsing anew with each literal shows bad syntax early. A command with many
                # must not cost the square of its length, though.
                need = p.announced() if len(p.literals) >= _PARSED_LITERALS else None
            p.rewind(start)

    async def _refuse(self, p: Parser, exc: IMAPError) -> NoReturn:
        """Raise `exc` for a command whose arguments are not looked at.

        What literals it brings along without asking are read, up to some size, so that the
        connection goes on (RFC 7888 4).
        """
        left = _MAX_SKIPPED
        while (need := p.announced()) is not None and not need.sync and need.size <= left:
            left -= need.size + 100
            await self.stream_literal(need.size, Discard())
            p.restart(await self.read_line(READ_LITERAL))
        raise exc

    async def _fail(self, tag: bytes | None, exc: IMAPError, p: Parser) -> None:
        if self.appends:
            await self.appends.settle()
        text = exc.reply()
        if isinstance(exc, Bad) and self.session is not None and p.rest():
            shown = p.rest().decode("ascii", "backslashreplace")
            text = Bad(f"{exc.text}, at position {p.pos}: {shown}", exc.code).reply()
        need = p.announced()
        if need is not None and not need.sync:
            # The literal follows, and cannot be told from commands (RFC 7888 4).
            if exc.code == b"TOOBIG":
                self.sendLine(b"* BYE [ALERT] " + exc.text.encode("ascii", "replace"))
                self.respond(exc.status, tag, text)
                raise Close
            self.respond(exc.status, tag, text)
            raise Close(b"* BYE closing: cannot skip a literal after a bad command")
        self.respond(exc.status, tag, text)

    def store_error(self, exc: StoreError) -> IMAPError:
        """What the store cannot do, as a reply. Logs it."""
        if isinstance(exc, DiskFull):
            self.log.error("disk full", err=exc)
            return No("no room left on the server", b"UNAVAILABLE")
        if isinstance(exc, TooMany):
            return No(str(exc), b"LIMIT")
        self.log.error("store", err=exc)
        return No(f"cannot be done: {exc}", b"SERVERBUG")

    @staticmethod
    def _observe(name: str, result: str, seconds: float) -> None:
        child = _durations.get((name, result))
        if child is None:
            child = metrics.imap_command_duration_seconds.labels(name.lower(), result)
            _durations[name, result] = child
        child.observe(seconds)

    def line_too_long(self, start: bytes) -> Close:
        """What ends the connection after an endless line."""
        tag = Parser(start).partial_tag() or b"*"
        return Close(
            b"%b BAD command lines are limited to %d bytes" % (tag, MAX_LINE),
            b"* BYE closing the connection after an endless line",
        )

    # -- The session --------------------------------------------------------------------

    async def open_session(self, login: Login) -> None:
        """Somebody has logged in: `login` says who."""
        session = Session(login.account_id, login.account, login.address)

        def changed(modseq: int) -> None:
            if modseq > session.latest:
                session.latest = modseq
                self.nudge()

        # Listening first, so that nothing is missed.
        session.unsubscribe = self.app.store.changes.subscribe(session.account_id, changed)

        def job(tx: Tx) -> tuple[int, dict[int, str]]:
            listing = mailboxes.all(tx, session.account_id)
            account = accounts.by_id(tx, session.account_id)
            return account.modseq, {mailbox.id: mailbox.name for mailbox in listing}

        try:
            session.polled, names = await self.app.store.read(job)
        except BaseException:
            session.close()
            raise
        session.directory = self.app.directories.share(session.account_id, names)
        session.handle = self.app.store.sessions.register(session.account_id)
        self.session = session
        self.authenticated = True
        self.slow = False
        self.log = self.log.bind(account=session.account_name)

    def progress_of(self, done: int, goal: int) -> None:
        """How far the running command is."""
        if self._progress is not None:
            self._progress.done, self._progress.goal = done, goal

    def nudge(self) -> None:
        """There may be changes to tell: end the wait for them, or for a command."""
        if self._idling:
            self.wake()

    async def wait_idle(self) -> None:
        """Wait for input or for a change by others."""
        self._idling = True
        try:
            await self.wait()
        finally:
            self._idling = False


def _too_big(need: NeedLiteral, text: str = "") -> IMAPError:
    return Bad(
        text
        or f"literals in arguments are limited to {MAX_LITERAL} bytes each"
        f" and {MAX_LITERALS_SIZE} together",
        b"TOOBIG",
    )


__all__ = ["LITERAL", "IMAPServer"]
