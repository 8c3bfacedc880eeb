"""HTTP connections with limits: header and body times, body sizes, slow clients.

Twisted's HTTPChannel does HTTP/1.1. Replaced are its timeouts, which a client that sends a
byte now and then prolongs for ever, and the place where bodies go: they have a bound that
depends on the path, and large ones are written to a file off the reactor thread.
"""

from __future__ import annotations

import io
import tempfile
from typing import IO, TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure
from twisted.web import http

from moxtw.log import Logger

if TYPE_CHECKING:
    from moxtw.admin.clock import DelayedCall

log = Logger("http")

HEADER_TIMEOUT: Final = 30
"""Seconds for the request line and all headers."""
IDLE_TIMEOUT: Final = 65
"""Seconds between requests, and between bytes of one."""
BODY_PERIOD: Final = 30
BODY_RATE: Final = 1024
"""A body has to come in with so many bytes a second, on average over each period."""
LINGER: Final = 2
"""Seconds after a refusal in which the client's data is read and dropped."""

MEMORY_BODY: Final = 1 << 18
"""Bytes of a body that are kept in memory when it may go to a file."""
_FLUSH: Final = 1 << 18


class Body:
    """A request body: in memory, or with a directory given in a file there if it is long.

    Reads like a binary file once `finish` has fired.
    """

    def __init__(self, limit: int, directory: str | None) -> None:
        self.limit = limit
        self.size = 0
        self._directory = directory
        self._memory: io.BytesIO | None = io.BytesIO()
        self._file: IO[bytes] | None = None
        self._pending: list[bytes] = []
        self._pending_size = 0
        self._lock = DeferredLock()

    def write(self, data: bytes) -> Deferred[None] | None:
        """Take data; a Deferred says: no more of it until that has fired."""
        self.size += len(data)
        if self._memory is not None:
            if self._directory is None or self.size <= MEMORY_BODY:
                self._memory.write(data)
                return None
            self._pending.append(self._memory.getvalue())
            self._memory = None
        self._pending.append(data)
        self._pending_size += len(data)
        return self._lock.run(self._flush) if self._pending_size >= _FLUSH else None

    def finish(self) -> Deferred[None] | None:
        """Make it ready to be read; None means at once."""
        if self._memory is not None:
            self._memory.seek(0)
            return None
        return self._lock.run(self._flush)

    @property
    def in_file(self) -> bool:
        """Whether it is in a file: then it should be read off the reactor thread."""
        return self._memory is None

    @property
    def file(self) -> IO[bytes] | None:
        """The file, if it is in one."""
        return self._file if self._memory is None else None

    def _flush(self) -> Deferred[None]:
        chunks, self._pending, self._pending_size = self._pending, [], 0
        return deferToThread(self._append, chunks)

    def _append(self, chunks: list[bytes]) -> None:
        if self._file is None:
            # It has no name: nothing is left behind, whatever happens.
            self._file = tempfile.TemporaryFile(  # noqa: SIM115 - closed in close
                dir=self._directory, prefix="httpbody"
            )
        self._file.writelines(chunks)
        self._file.flush()

    def read(self, size: int = -1) -> bytes:
        """Read from the current place."""
        return self._source().read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a place."""
        return self._source().seek(offset, whence)

    def tell(self) -> int:
        """The current place."""
        return self._source().tell()

    def _source(self) -> IO[bytes]:
        source = self._memory if self._memory is not None else self._file
        assert source is not None
        return source

    def close(self) -> None:
        """Let go of memory and file, the file when what is being written has been."""
        self._pending = []
        if self._memory is not None:
            self._memory.close()
        else:
            self._lock.run(self._close_file)

    def _close_file(self) -> None:
        if self._file is not None:
            self._file.close()


class Channel(http.HTTPChannel):
    """A server side HTTP connection.

    Uses `site` (its factory), and `callLater` that the factory sets.
    """

    site: Any
    totalHeadersSize = 32768
    MAX_LENGTH = 16384
    _deadline: DelayedCall | None = None
    _refused = False
    _progress = 0

    def connectionMade(self) -> None:
        """Start the clock for the first header."""
        super().connectionMade()  # type: ignore[no-untyped-call]
        self._start_deadline(HEADER_TIMEOUT, self._header_timeout)
        self.site.connected(self)

    def dataReceived(self, data: bytes) -> None:
        """Take bytes off the wire."""
        if self._refused:
            return
        if self._deadline is None and not self._handlingRequest:
            self._start_deadline(HEADER_TIMEOUT, self._header_timeout)
        super().dataReceived(data)  # type: ignore[no-untyped-call]

    def allHeadersReceived(self) -> None:
        """The header is complete: from now on the body has its own deadline."""
        self._stop_deadline()
        if self.length != 0:
            self._progress = 0
            self._start_deadline(BODY_PERIOD, self._body_timeout)
        super().allHeadersReceived()  # type: ignore[no-untyped-call]

    def allContentReceived(self) -> None:
        """The request is complete."""
        self._stop_deadline()
        if not self._refused:
            super().allContentReceived()  # type: ignore[no-untyped-call]

    def lineLengthExceeded(self, line: bytes) -> None:
        """RFC 9112 3, RFC 6585 5: a request line or header field too long."""
        self._plain_answer(b"431 Request Header Fields Too Large")

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        """The connection is gone."""
        self._stop_deadline()
        self.site.disconnected(self)
        super().connectionLost(reason)  # type: ignore[no-untyped-call]

    def refuse(self, status: int) -> None:
        """Answer before the body has come in, and close: it would be too much to read.

        Closing at once would lose the answer: the client's unread data makes the kernel
        reset the connection.
        """
        phrase = http.RESPONSES.get(status, b"Error")
        self._plain_answer(b"%d %s" % (status, phrase))

    def _send100Continue(self) -> None:
        if not self._refused:
            super()._send100Continue()  # type: ignore[no-untyped-call]

    def _plain_answer(self, status: bytes) -> None:
        if self._refused:
            return
        self._refused = True
        self._stop_deadline()
        self.setTimeout(None)  # type: ignore[no-untyped-call]
        body = status.replace(b" ", b" - ", 1) + b"\n"
        transport: Any = self.transport
        transport.write(
            b"HTTP/1.1 %s\r\nConnection: close\r\nContent-Type: text/plain\r\n"
            b"Content-Length: %d\r\n\r\n%s" % (status, len(body), body)
        )
        self._deadline = self.callLater(LINGER, self._give_up)  # type: ignore[no-untyped-call]

    def _give_up(self) -> None:
        self._deadline = None
        self.loseConnection()  # type: ignore[no-untyped-call]

    def _start_deadline(self, seconds: float, call: Any) -> None:
        self._deadline = self.callLater(seconds, call)  # type: ignore[no-untyped-call]

    def _stop_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _header_timeout(self) -> None:
        self._deadline = None
        if self.requests and not self._handlingRequest:
            self._plain_answer(b"408 Request Timeout")
        else:
            self.loseConnection()  # type: ignore[no-untyped-call]

    def _body_timeout(self) -> None:
        self._deadline = None
        body = self.requests[-1].content if self.requests else None
        received = body.size if isinstance(body, Body) else 0
        if received - self._progress < BODY_PERIOD * BODY_RATE:
            self._plain_answer(b"408 Request Timeout")
        else:
            self._progress = received
            self._start_deadline(BODY_PERIOD, self._body_timeout)
