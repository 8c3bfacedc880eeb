"""A watchdog over writes: a client that stops reading does not keep a connection for ever.

Twisted buffers what the socket does not take. The watchdog registers itself as the
transport's producer, so that it learns when the buffer is full and when it is empty again,
and looks from time to time whether anything moves.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionAborted
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer


@implementer(IPushProducer)
class WriteWatchdog:
    """Aborts a connection when for ``timeout`` seconds nothing of the output gets away.

    A protocol writes through ``write``, and streams large output with ``await
    watchdog.writable()`` between its pieces; closes with ``close``; and calls ``stop`` when
    the connection is lost. ``on_stall``, if given, is called before the connection is
    aborted, for the log.
    """

    def __init__(
        self,
        transport: Any,
        clock: Any,
        timeout: float = 30.0,
        on_stall: Callable[[], object] | None = None,
    ) -> None:
        self._transport = transport
        self._clock = clock
        self._timeout = timeout
        self._on_stall = on_stall
        self._paused = False
        self._stopped = False
        self._closing = False
        self._waiters: list[Deferred[None]] = []
        self._check: Any = None  # delayed call
        self._written = 0
        self._sent = 0
        transport.registerProducer(self, True)

    @property
    def paused(self) -> bool:
        """Whether the transport's buffer is full."""
        return self._paused

    def write(self, data: bytes) -> None:
        """Write to the transport, and watch that it gets away."""
        self._written += len(data)
        self._transport.write(data)
        if self._check is None and not self._stopped:
            self._arm()

    def writable(self) -> Deferred[None]:
        """Fires when the transport wants more; fails with ConnectionAborted if it is lost."""
        waiter: Deferred[None] = Deferred(self._forget)
        if self._stopped:
            waiter.errback(ConnectionAborted())
        elif self._paused:
            self._waiters.append(waiter)
        else:
            waiter.callback(None)
        return waiter

    def close(self) -> None:
        """Close the connection when its output is away; abort it if that takes too long."""
        if self._stopped or self._closing:
            return
        self._closing = True
        # As long as there is a producer, a TLS transport does not close.
        self._transport.unregisterProducer()
        self._transport.loseConnection()
        if self._check is None and not self._stopped:
            self._arm()

    def stop(self) -> None:
        """Watch no more: the connection is lost."""
        if self._stopped:
            return
        self._stopped = True
        if self._check is not None:
            self._check.cancel()
            self._check = None
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.errback(ConnectionAborted())

    # IPushProducer, called by the transport

    def pauseProducing(self) -> None:  # noqa: N802
        """The buffer is full."""
        self._paused = True
        if self._check is None and not self._stopped:
            self._arm()

    def resumeProducing(self) -> None:  # noqa: N802
        """The buffer is empty."""
        self._paused = False
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.callback(None)

    def stopProducing(self) -> None:  # noqa: N802
        """The connection is lost."""
        self.stop()

    def _forget(self, waiter: Deferred[None]) -> None:
        if waiter in self._waiters:
            self._waiters.remove(waiter)

    def _arm(self) -> None:
        self._sent = self._written - (unsent(self._transport) or 0)
        self._check = self._clock.callLater(self._timeout, self._look)

    def _look(self) -> None:
        self._check = None
        left = unsent(self._transport)
        if left == 0 and not self._paused and not self._closing:
            return  # all is away; the next write watches again
        if left is None and not self._paused and not self._closing:
            return
        if left and self._written - left > self._sent:
            self._arm()
            return
        if self._on_stall is not None:
            self._on_stall()
        self._transport.abortConnection()


def unsent(transport: Any) -> int | None:
    """Bytes in the buffer of a transport, below TLS and other wrappers; None if unknown."""
    for _ in range(5):
        buffered = getattr(transport, "dataBuffer", None)
        if buffered is not None:
            size = len(buffered) - getattr(transport, "offset", 0)
            return size + int(getattr(transport, "_tempDataLen", 0))
        inner = getattr(transport, "transport", None)
        if inner is None:
            break
        transport = inner
    return None
