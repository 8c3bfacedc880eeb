"""DATA: the content of a message on its way in (RFC 5321 4.1.1.4)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from moxtw.log import Logger
from moxtw.smtp import grammar, handover
from moxtw.smtp.datascan import DataScanner
from moxtw.smtp.reply import SMTPError
from moxtw.store.errors import DiskFull

if TYPE_CHECKING:
    from moxtw.smtp.server import SMTPServer
    from moxtw.store.content import Spool

log = Logger("smtpserver")

DATA_TIMEOUT: Final = 30 * 60
"""Seconds for all of DATA."""

MAX_RECEIVED: Final = 100
"""Received fields of a message, RFC 5321 6.3; more is a loop."""

_MAX_HEAD: Final = 256 * 1024
_SIZE_OF_SYSTEM: Final = 100 << 20
_RECEIVED = re.compile(rb"^received[ \t]*:", re.IGNORECASE | re.MULTILINE)


class Receiving:
    """A message that is being received.

    Its first part is kept in memory for a look at the header. Once the message cannot be
    accepted any more, nothing is stored, but reading goes on to the end of the content.
    """

    __slots__ = ("_clock", "_deadline", "_head", "_head_size", "error", "max_size", "scanner",
                 "size", "spool")  # fmt: skip

    def __init__(self, spool: Spool, max_size: int, clock: object) -> None:
        self.spool: Spool | None = spool
        self.scanner = DataScanner()
        self.max_size = max_size
        self.size = 0
        self.error: BaseException | None = None
        self._head: list[bytes] = []
        self._head_size = 0
        self._clock = clock
        self._deadline: float = clock.seconds() + DATA_TIMEOUT  # type: ignore[attr-defined]

    def feed(self, chunk: bytes) -> tuple[bool, bytes, Deferred[None] | None]:
        """Take bytes: (end of content found, bytes behind it, what to wait for).

        Raises SMTPError when the connection has to end in the midst of the content.
        """
        out, done, rest = self.scanner.feed(chunk)
        spool = self.spool
        if spool is None or self.scanner.bad:
            self.discard()
            self.size += len(chunk)
        else:
            self.size += len(out)
        if self.size > self.max_size:
            self.discard()
            secode = "4.2.3" if self.size < _SIZE_OF_SYSTEM else "4.3.4"
            raise SMTPError(
                451, secode, f"message too large, maximum is {self.max_size} bytes", close=True
            )
        if not done and self._clock.seconds() > self._deadline:  # type: ignore[attr-defined]
            self.discard()
            raise SMTPError(451, "4.4.2", "message took too long", close=True)
        waiting = None
        if out and self.spool is not None:
            if self._head_size < _MAX_HEAD:
                self._head.append(out)
                self._head_size += len(out)
            try:
                waiting = self.spool.write(out)
            except (DiskFull, OSError) as exc:
                self.write_failed(Failure(exc))
        return done, rest, waiting

    def write_failed(self, failure: Failure) -> None:
        """The content cannot be stored: remember why, for the end."""
        if self.error is None:
            self.error = failure.value
            log.error("receiving message", err=failure.value)
        self.discard()

    def discard(self) -> None:
        """Let go of what was stored."""
        spool, self.spool = self.spool, None
        self._head.clear()
        if spool is not None:
            spool.discard()

    def head(self) -> bytes:
        """The header section with the empty line that ends it, as far as it was kept."""
        head = b"".join(self._head)
        if head.startswith(b"\r\n"):
            return head[:2]
        end = head.find(b"\r\n\r\n")
        return head if end < 0 else head[: end + 4]


def command(conn: SMTPServer, rest: str) -> None:
    """DATA, up to the reply that asks for the content."""
    conn.need_hello()
    conn.need_login()
    transaction = conn.transaction
    if transaction is None:
        raise SMTPError(503, "5.5.1", "missing MAIL FROM")
    if not transaction.recipients:
        raise SMTPError(503, "5.5.1", "missing RCPT TO")
    grammar.nothing(rest, trailing=conn.trailing)
    spool = conn.services.contents.spool()
    conn.reply(354, "", "see you at the bare dot")
    conn.start_receiving(Receiving(spool, conn.settings.max_size, conn.reactor))


async def finish(
    conn: SMTPServer, receiving: Receiving, waiting: Deferred[None] | None
) -> None:
    """The content is complete: check it, hand it over, answer."""
    transaction, conn.transaction = conn.transaction, None
    assert transaction is not None
    # A failure, until it is none.
    conn.transactions_bad += 1
    if waiting is not None:
        try:
            await waiting
        except (DiskFull, OSError) as exc:
            receiving.write_failed(Failure(exc))
    if receiving.scanner.bad:
        raise SMTPError(500, "5.5.2", "bare carriage return, or lone dot at a bare line feed")
    spool = receiving.spool
    if spool is None:
        raise _not_stored(receiving.error)
    head = receiving.head()
    if not conn.submission and _too_many_hops(head):
        spool.discard()
        raise SMTPError(550, "5.4.6", "loop detected, more than 100 received headers")
    try:
        content = await spool.finish()
    except (DiskFull, OSError) as exc:
        log.error("storing message", cid=conn.cid, err=exc)
        raise _not_stored(exc) from None
    try:
        if conn.submission:
            await handover.submit(conn, transaction, content, head)
        else:
            await handover.deliver(conn, transaction, content, head)
    finally:
        content.discard()
    conn.transactions_bad -= 1
    conn.transactions_good += 1


def _not_stored(exc: BaseException | None) -> SMTPError:
    if isinstance(exc, DiskFull):
        return SMTPError(452, "4.3.1", "disk full, try again later")
    return SMTPError(451, "4.3.0", "cannot store message, try again later")


def _too_many_hops(head: bytes) -> bool:
    if head.count(b":") <= MAX_RECEIVED:
        return False
    return len(_RECEIVED.findall(head)) > MAX_RECEIVED
