"""APPEND (RFC 9051 6.3.12, RFC 3502 for several messages, RFC 6855 4 for the UTF8 form).

The bytes of messages go straight from the network into spools. Several APPENDs may be under
way at once: while the transactions of earlier ones wait for their commit, the next message is
read, so that a client that does not wait for answers gets the speed of group commit. Answers
come in the order of commands, each after the commit that holds its messages.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from moxtw.imap import notices, seqset
from moxtw.imap.commands import quota
from moxtw.imap.commands.mailbox import valid_name
from moxtw.imap.connection import READ_LITERAL, Discard
from moxtw.imap.errors import Bad, IMAPError, No
from moxtw.imap.lexer import MAX_LINE, MAX_LITERAL
from moxtw.imap.parser import NeedLiteral, Parser
from moxtw.imap.registry import Command, State
from moxtw.log import TRACEDATA
from moxtw.store import accounts, mailboxes, messages
from moxtw.store.content import SMALL, Spool, Spooled
from moxtw.store.errors import DiskFull, NoSuchMailbox, OverQuota, StoreError
from moxtw.store.model import Added, NewMessage
from moxtw.store.tx import Tx

if TYPE_CHECKING:
    from moxtw.imap.server import IMAPServer

# What may be under way on one connection.
_MAX_COMMANDS: Final = 64
_MAX_BYTES: Final = 8 * 1024 * 1024
_MAX_MESSAGES: Final = 10_000
# Larger messages that come without asking are looked at first: is there a place for them?
_CHECK_FROM: Final = 64 * 1024


@dataclass(slots=True)
class _Entry:
    """An APPEND under way. `outcome` is a Failure, or what `_job` gives."""

    tag: bytes
    size: int
    done: bool = False
    outcome: Any = None


@dataclass(slots=True)
class Appends:
    """The APPENDs of a connection that are under way, oldest first."""

    conn: IMAPServer
    queue: deque[_Entry] = field(default_factory=deque)
    size: int = 0
    answering: bool = False
    due: bool = False
    waiter: Deferred[None] | None = None

    def __len__(self) -> int:
        return len(self.queue) + self.answering

    def add(self, tag: bytes, size: int, stored: Deferred[Any]) -> None:
        """Answer when `stored` fires, and all before it have been answered."""
        entry = _Entry(tag, size)
        self.queue.append(entry)
        self.size += size
        stored.addBoth(self._finished, entry)

    async def settle(self) -> None:
        """Wait until all are answered."""
        while len(self):
            await self._progress()

    async def room(self) -> None:
        """Wait until one more may be under way."""
        while len(self.queue) >= _MAX_COMMANDS or self.size > _MAX_BYTES:
            await self._progress()

    async def _progress(self) -> None:
        self.waiter = Deferred()
        await self.waiter

    def _finished(self, outcome: Any, entry: _Entry) -> None:
        entry.outcome = outcome
        entry.done = True
        if self.queue[0].done and not self.due:
            self.due = True
            # One commit may hold several: they are answered in one piece.
            self.conn.app.store.after_telling(self._begin)

    def _begin(self) -> None:
        self.due = False
        if not self.answering:
            Deferred.fromCoroutine(self._answer())

    async def _answer(self) -> None:
        """Answer those at the front that are done."""
        self.answering = True
        conn = self.conn
        try:
            while self.queue and self.queue[0].done:
                lines = []
                while self.queue and self.queue[0].done:
                    entry = self.queue.popleft()
                    self.size -= entry.size
                    lines.append(_reply(conn, entry))
                await notices.poll(conn)
                conn.send(b"".join(lines))
                conn.flush()
        except Exception as exc:  # noqa: BLE001 - what is written has been written
            if not conn.lost:
                conn.log.failure("telling changes after APPEND", exc)
                conn.send(b"".join(lines))
                conn.flush()
        finally:
            self.answering = False
            waiter, self.waiter = self.waiter, None
            if waiter is not None:
                waiter.callback(None)


def _reply(conn: IMAPServer, entry: _Entry) -> bytes:
    """The tagged reply. Takes note of the change in the session."""
    if isinstance(entry.outcome, Failure):
        exc = refusal(conn, entry.outcome.value)
        return b"%b %b %b\r\n" % (entry.tag, exc.status, exc.reply())
    mailbox_id, added = entry.outcome
    first, last = added[0], added[-1]
    session = conn.session
    if session is not None:
        session.wrote(first.modseq, added_to=mailbox_id)
    return b"%b OK [APPENDUID %d %b] APPEND done\r\n" % (
        entry.tag,
        first.uidvalidity,
        seqset.format_ranges([(first.uid, last.uid)]),
    )


def refusal(conn: IMAPServer, exc: BaseException | None) -> IMAPError:
    """Why a message was not stored, as a reply with its code."""
    if isinstance(exc, IMAPError):
        return exc
    if isinstance(exc, NoSuchMailbox):
        return No("there is no such mailbox", b"TRYCREATE")
    if isinstance(exc, OverQuota):
        return No("the account has no room for it", b"OVERQUOTA")
    if isinstance(exc, StoreError):
        return conn.store_error(exc)
    conn.log.failure("storing an appended message", exc or RuntimeError("failed"))
    return No("internal error", b"SERVERBUG")


def parse_append(p: Parser) -> Parser:
    """Nothing yet: arguments are parsed as literals come in."""
    return p


async def run_append(conn: IMAPServer, tag: bytes, p: Parser) -> None:
    """APPEND: read the messages, start their transaction, answer later."""
    session = conn.session
    assert session is not None
    appends = conn.appends
    if appends is None:
        appends = conn.appends = Appends(conn)
    await appends.room()
    reader = _Reader(conn, p)
    try:
        await reader.read()
    except BaseException:
        reader.discard()
        raise
    if reader.refused is not None:
        reader.discard()
        raise reader.refused
    job = _Job(session.account_id, reader.name, reader.messages, reader.quota)
    stored = conn.app.store.write(job)

    def failed(failure: Failure) -> Failure:
        reader.discard()
        return failure

    stored.addErrback(failed)
    appends.add(tag, reader.size, stored)


@dataclass(frozen=True, slots=True)
class _Job:
    """The transaction of one APPEND: all messages or none."""

    account_id: int
    name: str
    new: list[NewMessage]
    quota: int

    def __call__(self, tx: Tx) -> tuple[int, list[Added]]:
        mailbox = mailboxes.find(tx, self.account_id, self.name)
        if mailbox is None:
            raise NoSuchMailbox(self.name)
        saved: dict[int, int] = {}
        return mailbox.id, [
            messages.add(tx, self.account_id, mailbox.id, new, quota=self.quota, saved=saved)
            for new in self.new
        ]


class _WhileRoom:
    """Gives the bytes of a message to a spool, and drops them once the disk is full.

    What comes of them must be read nevertheless: it would be taken for commands.
    """

    def __init__(self, spool: Spool) -> None:
        self.full: DiskFull | None = None
        self._spool = spool

    def write(self, data: bytes) -> Deferred[None] | None:
        """Take bytes; a Deferred says when more are welcome."""
        if self.full is not None:
            return None
        written = self._spool.write(data)
        return written if written is None else written.addErrback(self._failed)

    def _failed(self, failure: Failure) -> None:
        if not isinstance(failure.value, DiskFull):
            failure.raiseException()
        self.full = failure.value
        self._spool.discard()


class _Reader:
    """Reads the arguments of an APPEND. After a refusal, the rest is read and dropped."""

    def __init__(self, conn: IMAPServer, p: Parser) -> None:
        self.conn = conn
        self.p = p
        self.name = ""
        self.quota = quota.limit(conn)
        self.messages: list[NewMessage] = []
        self.size = 0
        self.refused: IMAPError | None = None
        self._checked = False

    def discard(self) -> None:
        """Drop what was received."""
        for new in self.messages:
            new.content.discard()

    async def read(self) -> None:
        """Read everything. Raises Bad and No where nothing of the client's can follow."""
        name = await self._mailbox()
        try:
            self.name = valid_name(name)
        except No as exc:
            self.refused = exc
        while True:
            self.p.space()
            await self._message()
            if self.p.at_end():
                return
            if len(self.messages) >= _MAX_MESSAGES:
                raise Bad("too many messages in one APPEND", b"LIMIT")

    async def _mailbox(self) -> str:
        p = self.p
        p.space()
        start = p.pos
        try:
            return p.mailbox()
        except NeedLiteral as need:
            if need.size > MAX_LITERAL:
                raise Bad("mailbox name too long", b"TOOBIG") from None
            await self._go_on(need)
            literal = await self.conn.read_literal(need.size)
            p.feed(literal, await self.conn.read_line(READ_LITERAL, MAX_LINE))
            p.rewind(start)
            return p.mailbox()

    async def _go_on(self, need: NeedLiteral) -> None:
        if need.sync:
            if self.conn.appends is not None:
                # What comes now must not be taken for the answer to an earlier command.
                await self.conn.appends.settle()
            self.conn.sendContinuationRequest(b"go on")

    async def _message(self) -> None:
        p = self.p
        flags = 0
        keywords: tuple[str, ...] = ()
        received: int | None = None
        if p.peek(b"("):
            flags, keywords = p.flag_list()
            p.space()
        if p.peek(b'"'):
            received = p.date_time()
            p.space()
        utf8 = p.take(b"UTF8 (")
        need = p.literal_here(binary=True)
        if utf8 and not need.binary:
            raise Bad("UTF8 goes with a binary literal")
        await self._check(need)
        if need.sync and self.refused is not None:
            raise self.refused
        if need.size == 0:
            self.refused = self.refused or No("empty message, APPEND cancelled")
            if need.sync:
                raise self.refused
        await self._go_on(need)
        # From here on the line is used up: errors need not care for its literal.
        p.restart(b"")
        content = await self._content(need.size)
        line = await self.conn.read_line(READ_LITERAL, MAX_LINE)
        p.restart(line)
        if content is not None:
            self.size += content.size
            self.messages.append(NewMessage(content, b"", flags, keywords, received))
        if utf8:
            p.expect(b")")

    async def _content(self, size: int) -> Spooled | None:
        """The bytes of a message, in a spool; None for a refused one."""
        conn = self.conn
        if self.refused is not None:
            await conn.stream_literal(size, Discard())
            return None
        contents = conn.app.store.contents
        if size <= SMALL:
            data = await conn.read_literal(size)
            conn.trace_in(data, TRACEDATA)
            return await contents.from_bytes(data)
        spool = contents.spool()
        sink = _WhileRoom(spool)
        try:
            await conn.stream_literal(size, sink)
            if sink.full is None:
                return await spool.finish()
        except DiskFull as exc:
            sink.full = exc
        except BaseException:
            spool.discard()
            raise
        spool.discard()
        self.refused = conn.store_error(sink.full)
        return None

    async def _check(self, need: NeedLiteral) -> None:
        """Look whether the messages have a place, before a client sends what it asks for."""
        if self.refused is not None:
            return
        if self._checked and not self.quota:
            return
        if not need.sync and need.size < _CHECK_FROM:
            return
        session = self.conn.session
        assert session is not None

        def job(tx: Tx) -> tuple[bool, int]:
            there = mailboxes.find(tx, session.account_id, self.name) is not None
            return there, accounts.usage(tx, session.account_id)

        there, used = await self.conn.app.store.read(job)
        self._checked = True
        if not there:
            self.refused = No("there is no such mailbox", b"TRYCREATE")
        elif self.quota and used + self.size + need.size > self.quota:
            self.refused = No("the account has no room for it", b"OVERQUOTA")


COMMANDS = (Command("APPEND", State.LOGGED_IN, parse_append, run_append, whole=False),)
