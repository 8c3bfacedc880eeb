"""Messages that a client sends: APPEND's arguments, with literals and CATENATE's parts.

The bytes go straight from the network into spools.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from moxtw.imap import sections
from moxtw.imap.commands import quota
from moxtw.imap.commands.mailbox import valid_name
from moxtw.imap.connection import READ_LITERAL, Discard
from moxtw.imap.errors import Bad, IMAPError, No
from moxtw.imap.imapurl import MessageURL, URLError, parse_url
from moxtw.imap.lexer import MAX_LINE, MAX_LITERAL
from moxtw.imap.parser import NeedLiteral, Parser
from moxtw.log import TRACEDATA
from moxtw.mail import mime
from moxtw.store import accounts, mailboxes, messages
from moxtw.store.content import SMALL, Spool, Spooled
from moxtw.store.errors import DiskFull, InvalidMailboxName, NoContent
from moxtw.store.model import NewMessage, Want
from moxtw.store.tx import Tx

if TYPE_CHECKING:
    from moxtw.imap.server import IMAPServer

T = TypeVar("T")

_MAX_MESSAGES: Final = 10_000
_MAX_PARTS: Final = 10_000
# RFC822.SIZE is a number of 32 bits for most.
_MAX_SIZE: Final = 2**32 - 1
# Larger messages that come without asking are looked at first: is there a place for them?
_CHECK_FROM: Final = 64 * 1024


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


class MessageReader:
    """Reads the mailbox and the messages of a command. After a refusal the rest is dropped."""

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

    async def read_all(self) -> None:
        """Read a mailbox and messages. Raises Bad and No where nothing of the client's follows."""
        await self._name()
        while True:
            self.p.space()
            await self._message()
            if self.p.at_end():
                return
            if len(self.messages) >= _MAX_MESSAGES:
                raise Bad("too many messages in one APPEND", b"LIMIT")

    async def read_one(self) -> None:
        """The same with one message only."""
        await self._name()
        self.p.space()
        await self._message()
        self.p.end()

    async def _name(self) -> None:
        self.p.space()
        name = await self._with_literal(self.p.mailbox)
        try:
            self.name = valid_name(name)
        except No as exc:
            self.refused = self.refused or exc

    async def _with_literal(self, parse: Callable[[], T]) -> T:
        """Parse something that may be a literal."""
        p = self.p
        start = p.pos
        try:
            return parse()
        except NeedLiteral as need:
            if need.size > MAX_LITERAL:
                raise Bad("literal too long here", b"TOOBIG") from None
            if need.sync and self.refused is not None:
                raise self.refused from None
            await self._go_on(need)
            literal = await self.conn.read_literal(need.size)
            p.feed(literal, await self.conn.read_line(READ_LITERAL, MAX_LINE))
            p.rewind(start)
            found = parse()
            # The lines before are done with.
            p.restart(p.buf[p.pos :])
            return found

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
        if p.take(b"CATENATE ("):
            content = await self._catenated()
            if content is not None:
                self.messages.append(NewMessage(content, b"", flags, keywords, received))
            return
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

        async def fill(sink: _WhileRoom) -> None:
            await conn.stream_literal(size, sink)

        return await self._spooled(fill)

    async def _spooled(self, fill: Callable[[_WhileRoom], Awaitable[None]]) -> Spooled | None:
        """What `fill` writes as a message; None, refused, when the disk is full."""
        spool = self.conn.app.store.contents.spool()
        sink = _WhileRoom(spool)
        try:
            await fill(sink)
            if sink.full is None and self.refused is None:
                return await spool.finish()
        except DiskFull as exc:
            sink.full = exc
        except BaseException:
            spool.discard()
            raise
        spool.discard()
        if sink.full is not None:
            self.refused = self.refused or self.conn.store_error(sink.full)
        return None

    # -- CATENATE (RFC 4469) -----------------------------------------------------------

    async def _catenated(self) -> Spooled | None:
        """A message made of parts of others and of new text."""
        content = await self._spooled(self._parts)
        if content is not None and not content.size:
            content.discard()
            self.refused = No("empty message, APPEND cancelled")
            return None
        if content is not None:
            self.size += content.size
        return content

    async def _parts(self, sink: _WhileRoom) -> None:
        p = self.p
        size = 0
        for number in range(_MAX_PARTS + 1):
            if number == _MAX_PARTS:
                raise Bad("too many parts in CATENATE", b"LIMIT")
            word = p.word()
            p.space()
            if word == b"URL":
                url = await self._with_literal(p.astring)
                if self.refused is None:
                    size += await self._from_url(url, sink, size)
            elif word in (b"TEXT", b"UTF8"):
                utf8 = word == b"UTF8"
                if utf8:
                    p.expect(b"(")
                need = p.literal_here(binary=True)
                if utf8 and not need.binary:
                    raise Bad("UTF8 goes with a binary literal")
                self._limit(size + need.size)
                await self._check(need)
                if need.sync and self.refused is not None:
                    raise self.refused
                await self._go_on(need)
                p.restart(b"")
                if self.refused is None:
                    await self.conn.stream_literal(need.size, sink)
                    size += need.size
                else:
                    await self.conn.stream_literal(need.size, Discard())
                p.restart(await self.conn.read_line(READ_LITERAL, MAX_LINE))
                if utf8:
                    p.expect(b")")
            else:
                raise Bad("URL or TEXT expected")
            if p.take(b")"):
                return
            p.space()

    def _limit(self, size: int) -> None:
        if size > _MAX_SIZE and self.refused is None:
            # RFC 4469 5.
            self.refused = No("the message would be too large", b"TOOBIG")

    async def _from_url(self, url: bytes, sink: _WhileRoom, before: int) -> int:
        """Write what a URL names; how many bytes that are."""
        conn = self.conn
        session = conn.session
        assert session is not None
        if not self._checked:
            # That there is no such mailbox matters more than a bad URL.
            await self._look(0)
            if self.refused is not None:
                return 0
        try:
            wanted = parse_url(url, conn.listener.hostname)
            if not wanted.mailbox and session.view is None:
                raise URLError("no mailbox is selected")
            selected = 0 if session.view is None else session.view.mailbox_id
            found = await conn.app.store.read(
                lambda tx: _find(tx, session.account_id, selected, wanted)
            )
            length = len(found) if isinstance(found, bytes) else found.length
            self._limit(before + length)
            if self.quota and before + length > self.quota:
                self.refused = No("the account has no room for it", b"OVERQUOTA")
            if self.refused is not None:
                return 0
            if isinstance(found, bytes):
                await _write(sink, found)
                return length
            stream = found
            for offset in range(0, length, sections.PIECE):
                start = offset
                data = await conn.app.store.read(
                    lambda tx: sections.read(tx, stream, start)  # noqa: B023
                )
                await _write(sink, data)
            return length
        except (URLError, NoContent) as exc:
            shown = b""
            if url.isascii() and url.decode("ascii").isprintable() and not set(url) & set(b'"\\]'):
                shown = b' "%b"' % url[:1000]
            # RFC 4469 4: which of them it was.
            self.refused = No(f"cannot catenate: {exc}", b"BADURL" + shown if shown else b"")
            return 0

    async def _check(self, need: NeedLiteral) -> None:
        """Look whether the messages have a place, before a client sends what it asks for."""
        if self.refused is not None:
            return
        if self._checked and not self.quota:
            return
        if need.sync or need.size >= _CHECK_FROM:
            await self._look(need.size)

    async def _look(self, size: int) -> None:
        """Look whether the mailbox is there, and has room for `size` more bytes."""
        session = self.conn.session
        assert session is not None

        def job(tx: Tx) -> tuple[bool, int]:
            there = mailboxes.find(tx, session.account_id, self.name) is not None
            return there, accounts.usage(tx, session.account_id)

        there, used = await self.conn.app.store.read(job)
        self._checked = True
        if not there:
            self.refused = No("there is no such mailbox", b"TRYCREATE")
        elif self.quota and used + self.size + size > self.quota:
            self.refused = No("the account has no room for it", b"OVERQUOTA")



async def _write(sink: _WhileRoom, data: bytes) -> None:
    written = sink.write(data)
    if written is not None:
        await written


def _find(
    tx: Tx, account_id: int, selected: int, wanted: MessageURL
) -> bytes | sections.Stream:
    """What a URL names. Raises URLError, NoContent."""
    mailbox_id = selected
    if wanted.mailbox:
        try:
            mailbox = mailboxes.find(tx, account_id, mailboxes.valid_name(wanted.mailbox))
        except InvalidMailboxName:
            mailbox = None
        if mailbox is None:
            raise URLError("no such mailbox")
        if wanted.uidvalidity and wanted.uidvalidity != mailbox.uidvalidity:
            raise URLError("the mailbox has another uidvalidity")
        mailbox_id = mailbox.id
    want = Want.TREE | Want.PREFIX | Want.CONTENT
    rows = messages.rows(tx, mailbox_id, [(wanted.uid, wanted.uid)], want)
    if not rows:
        raise URLError("no such message")
    tree = rows[0].tree
    assert tree is not None
    found = sections.find(tx, rows[0], mime.unpack_tree(tree), wanted.section)
    if found is None:
        raise URLError("no such part")
    return found
