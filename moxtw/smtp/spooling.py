"""Message content that comes in by DATA or BDAT, on its way into a spool."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from moxtw.log import Logger
from moxtw.smtp.reply import SMTPError
from moxtw.store.errors import DiskFull

if TYPE_CHECKING:
    from moxtw.store.content import Spool

log = Logger("smtpserver")

DATA_TIMEOUT: Final = 30 * 60
"""Seconds for all of the content."""

MAX_HEAD: Final = 256 * 1024
"""Bytes of a message that are kept in memory for a look at its header."""

_SIZE_OF_SYSTEM: Final = 100 << 20


class Incoming:
    """The content of a message as far as it has come in.

    Its first part is kept in memory for a look at the header. Once the message cannot be
    accepted any more, nothing is stored.
    """

    __slots__ = ("_clock", "_deadline", "_head", "_head_size", "error", "max_size", "size", "spool")

    def __init__(self, spool: Spool, max_size: int, clock: Any) -> None:
        self.spool: Spool | None = spool
        self.max_size = max_size
        self.size = 0
        self.error: BaseException | None = None
        self._head: list[bytes] = []
        self._head_size = 0
        self._clock = clock
        self._deadline: float = clock.seconds() + DATA_TIMEOUT

    def take(self, out: bytes) -> Deferred[None] | None:
        """Take bytes of the message; a Deferred: to be waited for before more come."""
        if not out or self.spool is None:
            return None
        if self._head_size < MAX_HEAD:
            self._head.append(out)
            self._head_size += len(out)
        try:
            return self.spool.write(out)
        except (DiskFull, OSError) as exc:
            self.write_failed(Failure(exc))
        return None

    def check_time(self) -> None:
        """Raise SMTPError when the message takes too long."""
        if self._clock.seconds() > self._deadline:
            self.discard()
            raise SMTPError(451, "4.4.2", "message took too long", close=True)

    def too_large(self) -> SMTPError:
        """For a message that has turned out to be larger than is let in."""
        self.discard()
        secode = "4.2.3" if self.size < _SIZE_OF_SYSTEM else "4.3.4"
        return SMTPError(
            451, secode, f"message too large, maximum is {self.max_size} bytes", close=True
        )

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
        return header_section(b"".join(self._head))


def header_section(head: bytes) -> bytes:
    """The header section at the beginning of a message, with the empty line that ends it."""
    if head.startswith(b"\r\n"):
        return head[:2]
    end = head.find(b"\r\n\r\n")
    return head if end < 0 else head[: end + 4]


def not_stored(exc: BaseException | None) -> SMTPError:
    """For content that could not be stored."""
    if isinstance(exc, DiskFull):
        return SMTPError(452, "4.3.1", "disk full, try again later")
    return SMTPError(451, "4.3.0", "cannot store message, try again later")
