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
from moxtw.imap.commands.incoming import MessageReader
from moxtw.imap.errors import IMAPError, No
from moxtw.imap.parser import Parser
from moxtw.imap.registry import Command, State
from moxtw.store import mailboxes, messages
from moxtw.store.errors import NoSuchMailbox, OverQuota, StoreError
from moxtw.store.model import Added, NewMessage
from moxtw.store.tx import Tx

if TYPE_CHECKING:
    from moxtw.imap.server import IMAPServer

# What may be under way on one connection.
_MAX_COMMANDS: Final = 64
_MAX_BYTES: Final = 8 * 1024 * 1024


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
            conn.nudge()


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
    reader = MessageReader(conn, p)
    try:
        await reader.read_all()
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


COMMANDS = (Command("APPEND", State.LOGGED_IN, parse_append, run_append, whole=False),)
