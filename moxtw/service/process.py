"""What a server does to its process: log file, open files, signals, the lock on its data."""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TextIO


def open_log(path: str) -> TextIO:
    """A log file to append to, for its owner and group only. Raises OSError.

    Appending means that it may be truncated by a log rotation that copied it (copytruncate).
    """
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
    return open(fd, "w", encoding="utf-8", errors="backslashreplace")


def allow_open_files() -> None:
    """Let the process have as many files and connections open as the system lets it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def on_hangup(call: Callable[[], object]) -> None:
    """Call `call`, in the main thread, at SIGHUP, which otherwise ends the process at once.

    Left alone when it is ignored (nohup) or handled, and outside of the main thread.
    """
    if (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGHUP) == signal.SIG_DFL
    ):
        signal.signal(signal.SIGHUP, lambda number, frame: call())


class DataLock:
    """Keeps a second server away from a data directory, until it is released.

    The lock (flock) ends with the process, however that ends.
    """

    def __init__(self, data: Path) -> None:
        """Take the lock. Raises OSError (EAGAIN) when another process has it."""
        self._fd = os.open(data, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            os.close(self._fd)
            if exc.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            raise OSError(
                errno.EAGAIN, f"data directory {data} is in use by another server"
            ) from None

    def release(self) -> None:
        """Let others have it."""
        os.close(self._fd)
