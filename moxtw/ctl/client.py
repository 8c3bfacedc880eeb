"""The commands' side of the control socket: blocking, and quick to import."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from typing import IO, Any

from moxtw.ctl import CHUNK, GREETING, MAX_LINE

TIMEOUT = 600.0
"""Seconds to wait for the server: some operations take their time."""


class ControlError(Exception):
    """The server refused a command, or is not there; the message says why."""


class ControlClient:
    """A connection to the control socket at `path`.

    All methods raise ControlError. After an error of a command the connection can still be
    used; after one of the connection it cannot.
    """

    def __init__(self, path: str, timeout: float = TIMEOUT) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout)
        try:
            _connect(self._socket, path)
        except (FileNotFoundError, ConnectionRefusedError) as exc:
            self._socket.close()
            raise ControlError(
                f"no server is running: control socket {path}: {exc.strerror}"
            ) from exc
        except OSError as exc:
            self._socket.close()
            raise ControlError(f"control socket {path}: {exc.strerror or exc}") from exc
        self._file = self._socket.makefile("rwb")
        greeting = self.read_line()
        if greeting != GREETING:
            self.close()
            raise ControlError(f"the server greets with {greeting!r} instead of {GREETING!r}")

    @property
    def peer_pid(self) -> int:
        """The process that serves the socket, 0 if that is not known."""
        option = getattr(socket, "SO_PEERCRED", None)
        if option is None:
            return 0
        credentials = self._socket.getsockopt(socket.SOL_SOCKET, option, 12)
        return int.from_bytes(credentials[:4], sys.byteorder)

    def __enter__(self) -> ControlClient:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        with contextlib.suppress(OSError):
            self._file.close()
        self._socket.close()

    def command(self, name: str, *params: str) -> None:
        """Send a command and wait for its ``ok``."""
        self.send(name, *params)
        self.read_ok()

    def send(self, *lines: str) -> None:
        """Send lines."""
        for line in lines:
            if "\n" in line or "\r" in line:
                raise ControlError("parameters cannot contain line breaks")
        try:
            self._file.write("".join(line + "\n" for line in lines).encode())
            self._file.flush()
        except OSError as exc:
            raise ControlError(f"connection to the server: {exc.strerror or exc}") from exc

    def read_line(self) -> str:
        """Read a line."""
        try:
            line = self._file.readline(MAX_LINE + 1)
        except OSError as exc:
            raise ControlError(f"connection to the server: {exc.strerror or exc}") from exc
        if not line.endswith(b"\n"):
            if len(line) > MAX_LINE:
                raise ControlError("the server sent a line that is too long")
            raise ControlError("the server closed the connection")
        return line[:-1].decode("utf-8", "replace")

    def read_ok(self) -> None:
        """Read an ``ok``; anything else is the error."""
        line = self.read_line()
        if line != "ok":
            raise ControlError(line)

    def read_stream(self) -> Iterator[bytes]:
        """The chunks of a stream."""
        while True:
            line = self.read_line()
            if not line.isascii() or not line.isdigit():
                raise ControlError(line)
            left = int(line)
            if left == 0:
                return
            while left:
                try:
                    data = self._file.read(min(left, CHUNK))
                except OSError as exc:
                    raise ControlError(f"connection to the server: {exc.strerror or exc}") from exc
                if not data:
                    raise ControlError("the server closed the connection")
                left -= len(data)
                yield data
            self.send("ok")

    def read_text(self) -> str:
        """A whole stream as text."""
        return b"".join(self.read_stream()).decode("utf-8", "replace")

    def write_stream(self, file: IO[bytes]) -> None:
        """Send what a file holds as a stream."""
        while data := file.read(CHUNK):
            try:
                self._file.write(b"%d\n" % len(data) + data)
                self._file.flush()
            except OSError as exc:
                raise ControlError(f"connection to the server: {exc.strerror or exc}") from exc
            self.read_ok()
        self.send("0")

    def converse(self, source: int, sink: Callable[[bytes], object]) -> None:
        """Give the connection to whatever else the server speaks on it, until that ends.

        What comes from the descriptor `source` is sent, and when it ends, the server is told;
        what the server sends goes to `sink`.
        """
        self._socket.settimeout(None)

        def send() -> None:
            with contextlib.suppress(OSError):  # The reader below sees that it has ended.
                while data := os.read(source, CHUNK):
                    self._socket.sendall(data)
                self._socket.shutdown(socket.SHUT_WR)

        # It may wait for input when the server has ended: it does not keep the process.
        threading.Thread(target=send, daemon=True).start()
        raw: Any = self._file
        while True:
            try:
                data = raw.read1(CHUNK)
            except OSError as exc:
                raise ControlError(f"connection to the server: {exc.strerror or exc}") from exc
            if not data:
                return
            sink(data)

    def read_eof(self) -> None:
        """Wait until the server closes the connection."""
        try:
            while self._file.read(CHUNK):
                pass
        except OSError as exc:
            raise ControlError(f"connection to the server: {exc.strerror or exc}") from exc


def _connect(sock: socket.socket, path: str) -> None:
    """Connect, also to a path longer than a socket address holds (108 bytes)."""
    try:
        sock.connect(path)
    except OSError as exc:
        if "too long" not in str(exc):
            raise
        directory, name = os.path.split(path)
        fd = os.open(directory or ".", os.O_PATH | os.O_DIRECTORY)
        try:
            sock.connect(f"/proc/self/fd/{fd}/{name}")
        finally:
            os.close(fd)
