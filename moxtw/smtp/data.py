"""The content of a message on its way in, and DATA (RFC 5321 4.1.1.4)."""

from __future__ import annotations

import re
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Final, Protocol

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from moxtw.log import Logger
from moxtw.smtp import grammar, handover
from moxtw.smtp.datascan import DataScanner
from moxtw.smtp.reply import SMTPError
from moxtw.smtp.spooling import Incoming, not_stored
from moxtw.store.errors import DiskFull

if TYPE_CHECKING:
    from moxtw.smtp.server import SMTPServer
    from moxtw.smtp.transaction import Transaction

log = Logger("smtpserver")

MAX_RECEIVED: Final = 100
"""Received fields of a message, RFC 5321 6.3; more is a loop."""

_RECEIVED = re.compile(rb"^received[ \t]*:", re.IGNORECASE | re.MULTILINE)


class Receiving(Protocol):
    """What takes the input of a connection while that is message content."""

    def feed(self, chunk: bytes) -> tuple[bool, bytes, Deferred[None] | None]:
        """Take bytes: (end of content found, bytes behind it, what to wait for).

        Raises SMTPError when the connection has to end in the midst of the content.
        """
        ...

    def write_failed(self, failure: Failure) -> None:
        """The content cannot be stored; the rest of it is still read."""
        ...

    def discard(self) -> None:
        """Let go of what was stored."""
        ...

    def complete(self, conn: SMTPServer, waiting: Deferred[None] | None) -> Awaitable[None]:
        """The end of content was found: answer. `waiting`: what `feed` gave last."""
        ...


class DataReceiving:
    """The content of DATA; reading goes on to its end, accepted or not."""

    __slots__ = ("message", "scanner")

    def __init__(self, message: Incoming) -> None:
        self.message = message
        self.scanner = DataScanner()

    def feed(self, chunk: bytes) -> tuple[bool, bytes, Deferred[None] | None]:
        """See `Receiving`."""
        message = self.message
        out, done, rest = self.scanner.feed(chunk)
        if message.spool is None or self.scanner.bad:
            message.discard()
            message.size += len(chunk)
        else:
            message.size += len(out)
        if message.size > message.max_size:
            raise message.too_large()
        if not done:
            message.check_time()
        return done, rest, message.take(out)

    def write_failed(self, failure: Failure) -> None:
        """See `Receiving`."""
        self.message.write_failed(failure)

    def discard(self) -> None:
        """See `Receiving`."""
        self.message.discard()

    async def complete(self, conn: SMTPServer, waiting: Deferred[None] | None) -> None:
        """The content is complete: check it, hand it over, answer."""
        await finish(conn, self.message, waiting, bad=self.scanner.bad)


def need_recipients(conn: SMTPServer) -> Transaction:
    """The transaction that content may come for now. Raises SMTPError."""
    conn.need_hello()
    conn.need_login()
    transaction = conn.transaction
    if transaction is None:
        raise SMTPError(503, "5.5.1", "missing MAIL FROM")
    if not transaction.recipients:
        raise SMTPError(503, "5.5.1", "missing RCPT TO")
    return transaction


def command(conn: SMTPServer, rest: str) -> None:
    """DATA, up to the reply that asks for the content."""
    transaction = need_recipients(conn)
    grammar.nothing(rest, trailing=conn.trailing)
    if transaction.mail.body == "BINARYMIME":
        # RFC 3030 3: lines cannot be told from content.
        raise SMTPError(503, "5.5.1", "binary content needs BDAT")
    if transaction.chunks is not None:
        raise SMTPError(503, "5.5.1", "DATA after BDAT")
    conn.reply(354, "", "see you at the bare dot")
    conn.start_receiving(DataReceiving(incoming(conn)))


def incoming(conn: SMTPServer) -> Incoming:
    """For the content of a message that begins."""
    return Incoming(conn.services.contents.spool(), conn.settings.max_size, conn.reactor)


async def finish(
    conn: SMTPServer, message: Incoming, waiting: Deferred[None] | None, *, bad: bool
) -> None:
    """The content is complete: check it, hand it over, answer. bad: it has bare CRs."""
    transaction, conn.transaction = conn.transaction, None
    assert transaction is not None
    # A failure, until it is none.
    conn.transactions_bad += 1
    if waiting is not None:
        try:
            await waiting
        except (DiskFull, OSError) as exc:
            message.write_failed(Failure(exc))
    if bad:
        message.discard()
        raise bare_cr()
    spool = message.spool
    if spool is None:
        raise not_stored(message.error)
    head = message.head()
    if not conn.submission and _too_many_hops(head):
        spool.discard()
        raise SMTPError(550, "5.4.6", "loop detected, more than 100 received headers")
    try:
        content = await spool.finish()
    except (DiskFull, OSError) as exc:
        log.error("storing message", cid=conn.cid, err=exc)
        raise not_stored(exc) from None
    try:
        if conn.submission:
            await handover.submit(conn, transaction, content, head)
        else:
            await handover.deliver(conn, transaction, content, head)
    finally:
        content.discard()
    conn.transactions_bad -= 1
    conn.transactions_good += 1


def bare_cr() -> SMTPError:
    """For content in which other servers could see other lines than we do."""
    return SMTPError(500, "5.5.2", "bare carriage return, or lone dot at a bare line feed")


def _too_many_hops(head: bytes) -> bool:
    if head.count(b":") <= MAX_RECEIVED:
        return False
    return len(_RECEIVED.findall(head)) > MAX_RECEIVED
