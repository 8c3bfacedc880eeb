"""SMTP clients for load: what they sent, and what of it was acknowledged."""

from __future__ import annotations

import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence

SECONDS = 60

Address = tuple[str, int]


class SMTPLoadError(Exception):
    """A reply other than the expected one."""


class SMTPLoad:
    """A session that pipelines: a message costs two round trips."""

    def __init__(self, address: Address, name: str = "load.example") -> None:
        self._socket = socket.create_connection(address, SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = self._socket.makefile("rb")
        self.reply(b"220")
        self._socket.sendall(f"EHLO {name}\r\n".encode())
        self.reply(b"250")

    def reply(self, expected: bytes) -> bytes:
        """Read one reply. Raises SMTPLoadError, OSError."""
        while True:
            line = self._file.readline()
            if not line.endswith(b"\n"):
                raise ConnectionError("connection closed")
            if line[3:4] != b"-":
                break
        if not line.startswith(expected):
            raise SMTPLoadError(line.decode("utf-8", "replace").strip())
        return line

    def send(self, sender: str, recipient: str, content: bytes) -> None:
        """Send one message; returns after the 250. Content: with CRLF, without lines of a dot."""
        self.begin(sender, recipient)
        self._socket.sendall(content + b".\r\n")
        self.reply(b"250")

    def begin(self, sender: str, recipient: str) -> None:
        """Begin a message, up to 354."""
        self._socket.sendall(
            f"MAIL FROM:<{sender}>\r\nRCPT TO:<{recipient}>\r\nDATA\r\n".encode()
        )
        for code in (b"250", b"250", b"354"):
            self.reply(code)

    @property
    def socket(self) -> socket.socket:
        """The connection."""
        return self._socket

    def close(self) -> None:
        """Close the connection."""
        self._file.close()
        self._socket.close()

    def __enter__(self) -> SMTPLoad:
        return self

    def __exit__(self, *_args: object) -> None:
        self.close()


class Workers:
    """Threads that repeat `work(name)` until told to end or until it fails with OSError.

    `work` returns whether the named piece was acknowledged; names are unique. `acknowledged`
    holds those that were; an acknowledgement that got lost does not count.
    """

    def __init__(self) -> None:
        self.acknowledged: list[str] = []
        self.problems: list[BaseException] = []
        self._ending = threading.Event()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()

    def add(self, run: Callable[[Workers], None]) -> None:
        """Start a thread. `run` is to call `done` for all that was acknowledged."""

        def target() -> None:
            try:
                run(self)
            except OSError:
                # The server was killed.
                pass
            except BaseException as exc:  # noqa: BLE001 - told to the test
                self.problems.append(exc)

        thread = threading.Thread(target=target, daemon=True)
        self._threads.append(thread)
        thread.start()

    def done(self, name: str) -> None:
        """A piece was acknowledged."""
        with self._lock:
            self.acknowledged.append(name)

    def wait(self, count: int, seconds: float = SECONDS) -> None:
        """Return when as many pieces were acknowledged. Raises TimeoutError."""
        end = time.monotonic() + seconds
        while len(self.acknowledged) < count:
            if self.problems:
                raise self.problems[0]
            if time.monotonic() > end:
                raise TimeoutError(f"{len(self.acknowledged)} of {count} after {seconds:g} s")
            time.sleep(0.005)

    @property
    def ending(self) -> bool:
        """Whether to begin no more."""
        return self._ending.is_set()

    def finish(self, seconds: float = SECONDS) -> None:
        """Let the threads end and wait for them. Raises what went wrong in one."""
        self._ending.set()
        for thread in self._threads:
            thread.join(seconds)
        if self.problems:
            raise self.problems[0]
        if any(thread.is_alive() for thread in self._threads):
            raise TimeoutError("clients did not end")


_LARGE_LINE = b"0123456789" * 7 + b"abcdef\r\n"
_LARGE_BLOCK = _LARGE_LINE * (128 * 1024 // len(_LARGE_LINE))


def large_body(size: int) -> Iterator[bytes]:
    """The body of messages that `send_large_at_once` sends, in pieces."""
    while size > 0:
        yield _LARGE_BLOCK
        size -= len(_LARGE_BLOCK)


def send_large_at_once(
    address: Address,
    recipients: Sequence[str],
    size: int,
    sender: str = "load@b.example",
    seconds: float = 300,
    head: bytes = b"From: <load@b.example>\r\nSubject: large\r\n\r\n",
) -> float:
    """Send one message of that size to each recipient, all at the same time, interleaved.

    Needs little memory itself. head: the header section; the rest is `large_body`. Returns the
    seconds it took. Raises SMTPLoadError, OSError.
    """
    block = _LARGE_BLOCK
    begun = time.monotonic()
    sessions = [SMTPLoad(address) for _ in recipients]
    try:
        left: dict[int, int] = {}
        pending: dict[int, memoryview] = {}
        by_fd = {session.socket.fileno(): session for session in sessions}
        with selectors.DefaultSelector() as selector:
            for session, recipient in zip(sessions, recipients, strict=True):
                session.begin(sender, recipient)
                fd = session.socket.fileno()
                left[fd] = size
                pending[fd] = memoryview(head)
                session.socket.setblocking(False)
                selector.register(fd, selectors.EVENT_WRITE)
            while left:
                if time.monotonic() - begun > seconds:
                    raise TimeoutError(f"{len(left)} messages not sent after {seconds:g} s")
                for key, _ in selector.select(1):
                    fd = key.fd
                    if not pending[fd]:
                        if left[fd] <= 0:
                            selector.unregister(fd)
                            del left[fd], pending[fd]
                            continue
                        left[fd] -= len(block)
                        end = b"" if left[fd] > 0 else b".\r\n"
                        pending[fd] = memoryview(block + end if end else block)
                    sent = by_fd[fd].socket.send(pending[fd])
                    pending[fd] = pending[fd][sent:]
        for session in sessions:
            session.socket.settimeout(seconds)
        for session in sessions:
            session.reply(b"250")
    finally:
        for session in sessions:
            session.close()
    return time.monotonic() - begun
