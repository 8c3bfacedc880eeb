"""Slow mode: what clients get that fail to log in, or send to recipients that are refused.

Guessing passwords or addresses is the less worth, the longer each answer takes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

READ_DELAY = 1.0
WRITE_DELAY = 1.0
WRITE_DEADLINE = 30.0
# With less than this left of the deadline, what remains is sent at once.
WRITE_RESERVE = 5.0

# Bound for what waits in either direction; past it there is no more waiting.
MAX_PENDING = 256 * 1024


class SlowTransport:
    """Stands between a protocol and its transport; in slow mode everything takes its time.

    Input is delivered a second after it came, and after all output is on its way. Output
    goes a byte a second, but each piece is out before its deadline of 30 seconds: what is
    left of it after 25 seconds goes at once. Order is kept, also when slow mode is switched
    with data on the way. Outside slow mode, data passes straight through.

    transport
        Has ``write`` and ``loseConnection``.
    clock
        IReactorTime.
    receive
        The protocol's own handling of input.
    hold
        Called with True when no more input should be read, then with False when it should
        again: the protocol pauses its transport for this and for reasons of its own.
    """

    def __init__(
        self,
        transport: Any,
        clock: Any,
        receive: Callable[[bytes], object],
        hold: Callable[[bool], object],
    ) -> None:
        self._transport = transport
        self._clock = clock
        self._receive = receive
        self._hold = hold
        self.slow = False
        self._holding = False
        self._input: list[bytes] = []
        self._input_size = 0
        self._reading: Any = None  # delayed call
        self._current = b""
        self._deadline = 0.0
        self._next = bytearray()
        self._writing: Any = None  # delayed call
        self._closing = False
        self._stopped = False

    def set_slow(self, slow: bool) -> None:
        """Switch slow mode. Switched off, waiting output goes at once, and input soon."""
        if self.slow == slow or self._stopped:
            return
        self.slow = slow
        if slow:
            return
        self._write_all()
        if self._input:
            # Not from here: we may be called from within ``receive``.
            self._read_later(0)

    # Input

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        """Take input for the protocol."""
        if not self.slow and not self._input:
            self._receive(data)
            return
        self._input.append(data)
        self._input_size += len(data)
        if not self._holding:
            self._holding = True
            self._hold(True)
        if self._reading is None and self._writing is None:
            self._read_later(READ_DELAY if self.slow else 0)
        if self._input_size > MAX_PENDING:
            self._deliver()

    def _read_later(self, delay: float) -> None:
        if self._reading is not None:
            self._reading.cancel()
        self._reading = self._clock.callLater(delay, self._deliver)

    def _deliver(self) -> None:
        if self._reading is not None and self._reading.active():
            self._reading.cancel()
        self._reading = None
        data = b"".join(self._input)
        self._input.clear()
        self._input_size = 0
        if self._holding:
            self._holding = False
            self._hold(False)
        if data:
            self._receive(data)

    @property
    def holds_input(self) -> bool:
        """Whether input waits here."""
        return bool(self._input)

    # Output

    @property
    def pending(self) -> int:
        """Bytes of output that wait here."""
        return len(self._current) + len(self._next)

    def write(self, data: bytes) -> None:
        """Send output."""
        if self._stopped or self._closing:
            return
        if self._writing is None and not self.slow:
            self._transport.write(data)
            return
        self._next += data
        if self.pending > MAX_PENDING:
            self._write_all()
        elif self._writing is None:
            self._start_piece()

    def writeSequence(self, parts: list[bytes]) -> None:  # noqa: N802
        """Send output."""
        self.write(b"".join(parts))

    def loseConnection(self) -> None:  # noqa: N802
        """Close the connection when all output is on its way."""
        if self._writing is None:
            self._transport.loseConnection()
        self._closing = True

    def stop(self) -> None:
        """Drop everything; to be called when the connection is lost."""
        self._stopped = True
        for call in (self._reading, self._writing):
            if call is not None and call.active():
                call.cancel()
        self._reading = self._writing = None
        self._input.clear()
        self._input_size = 0
        self._current = b""
        self._next.clear()

    def _start_piece(self) -> None:
        self._current = bytes(self._next)
        self._next.clear()
        self._deadline = self._clock.seconds() + WRITE_DEADLINE
        self._write_byte()

    def _write_byte(self) -> None:
        self._writing = None
        if not self._current:
            if self._next:
                self._start_piece()
            else:
                self._written()
            return
        size = 1
        if self._deadline - self._clock.seconds() < WRITE_RESERVE:
            size = len(self._current)
        data, self._current = self._current[:size], self._current[size:]
        self._transport.write(data)
        # Also after the last byte, so that the next piece does not follow at once.
        self._writing = self._clock.callLater(WRITE_DELAY, self._write_byte)

    def _write_all(self) -> None:
        if self._writing is not None and self._writing.active():
            self._writing.cancel()
        self._writing = None
        data = self._current + bytes(self._next)
        self._current = b""
        self._next.clear()
        if data:
            self._transport.write(data)
        self._written()

    def _written(self) -> None:
        if self._closing:
            self._transport.loseConnection()
        elif self._input and self._reading is None:
            self._read_later(READ_DELAY if self.slow else 0)
