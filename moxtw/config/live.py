"""The configuration in use: noticing edits of domains.conf, and making them.

An admin may edit domains.conf by hand while the server runs, and the server edits it itself.
Neither may lose what the other wrote: before an edit, the file is read again if it changed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.threads import deferToThreadPool

from moxtw.config.document import Document
from moxtw.config.dynamic import ConfigDomain, Dynamic
from moxtw.config.load import ConfigError, check_edit, load_document
from moxtw.config.sconf import SconfError
from moxtw.config.static import Static
from moxtw.log import Logger

T = TypeVar("T")

CHECK_INTERVAL: Final = 1.0
"""Seconds between two looks at the time stamp of domains.conf."""

Signature = tuple[int, int, int]
"""What tells one content of a file from another: time stamp, size, inode."""

Runner = Callable[..., Deferred[Any]]
"""Runs a function with arguments somewhere where it may block."""

log = Logger("config")


class LiveConfig:
    """Both files, domains.conf in its newest valid form.

    Reading `dynamic` costs a comparison; at most once a second it makes a thread look at the
    time stamp of the file. What is read stays valid, and unchanged, for as long as it is used.
    """

    def __init__(
        self,
        static: Static,
        document: Document[Dynamic],
        path: Path,
        reactor: Any,
        *,
        signature: Signature | None = None,
        run: Runner | None = None,
        check_files: bool = True,
    ) -> None:
        """`run` executes blocking functions, by default in the thread pool of `reactor`."""
        self.static = static
        self.path = path
        self._document = document
        self._signature = signature
        self._reactor = reactor
        self._run = run or self._in_thread
        self._check_files = check_files
        self._lock = DeferredLock()
        self._next_check: float = reactor.seconds() + CHECK_INTERVAL
        self._errors: list[str] = []  # Of the file as it is on disk.
        self._callbacks: list[Callable[[Dynamic, Dynamic], None]] = []
        self._read_callbacks: list[Callable[[list[str]], None]] = []
        self._poll: Any = None

    @classmethod
    def load(
        cls,
        static: Static,
        reactor: Any,
        *,
        path: Path | None = None,
        run: Runner | None = None,
        check_files: bool = True,
    ) -> LiveConfig:
        """Read domains.conf beside mox.conf. Blocks. Raises ConfigError."""
        path = path or static.dynamic_path
        signature = _signature(path)
        document = load_document(path, static, check_files=check_files)
        return cls(
            static,
            document,
            path,
            reactor,
            signature=signature,
            run=run,
            check_files=check_files,
        )

    def _in_thread(self, fn: Callable[..., T], *args: Any) -> Deferred[T]:
        return deferToThreadPool(self._reactor, self._reactor.getThreadPool(), fn, *args)

    # Reading

    @property
    def dynamic(self) -> Dynamic:
        """domains.conf."""
        if self._reactor.seconds() >= self._next_check:
            self.maybe_reload()
        return self._document.value

    @property
    def domains(self) -> dict[str, ConfigDomain]:
        """The configured domains by Unicode name, those just for reports included."""
        return self.dynamic.domains  # type: ignore[return-value]

    @property
    def text(self) -> str:
        """The text of domains.conf."""
        return self._document.text

    def on_change(self, callback: Callable[[Dynamic, Dynamic], None]) -> Callable[[], None]:
        """Call `callback(old, new)` after each change; returns a function that ends that."""
        self._callbacks.append(callback)

        def unsubscribe() -> None:
            if callback in self._callbacks:
                self._callbacks.remove(callback)

        return unsubscribe

    def on_read(self, callback: Callable[[list[str]], None]) -> None:
        """Call `callback(errors)` when the file was changed by hand and has been read."""
        self._read_callbacks.append(callback)

    # Noticing edits

    def start(self) -> None:
        """Look at the file once a second from now on, also while nobody uses it."""
        if self._poll is None:
            self._poll = self._reactor.callLater(CHECK_INTERVAL, self._tick)

    def stop(self) -> None:
        """End what `start` began."""
        if self._poll is not None:
            if self._poll.active():
                self._poll.cancel()
            self._poll = None

    def _tick(self) -> None:
        if self._reactor.seconds() >= self._next_check:
            self.maybe_reload()
        # A look for another reason in between delays the next one, by no more than that.
        delay = max(self._next_check - self._reactor.seconds(), CHECK_INTERVAL / 10)
        self._poll = self._reactor.callLater(delay, self._tick)

    def maybe_reload(self) -> None:
        """Have the file looked at, unless that happened within the last second."""
        now = self._reactor.seconds()
        if now < self._next_check:
            return
        self._next_check = now + CHECK_INTERVAL
        if self._lock.locked:
            return  # An edit, or another look, is under way.
        Deferred.fromCoroutine(self.refresh()).addErrback(self._reload_failed)

    def _reload_failed(self, failure: Any) -> None:
        log.failure("looking at the configuration file failed", failure)

    async def refresh(self) -> bool:
        """Look at the file now. Returns whether it is in use as it is on disk.

        Errors in the file are logged, once, and the configuration stays as it was.
        """
        await self._lock.acquire()
        try:
            return not await self._reload()
        finally:
            self._lock.release()

    async def _reload(self) -> list[str]:
        """Take over a changed file. Returns its errors. With the lock held."""
        self._next_check = self._reactor.seconds() + CHECK_INTERVAL
        signature, document, errors = await self._run(
            _load_if_changed, self.path, self.static, self._signature, self._check_files
        )
        if signature == self._signature:
            return self._errors
        self._signature = signature
        self._errors = errors
        if document is None:
            for line in errors:
                log.error("configuration file has an error, keeping the old one", err=line)
            _tell(self._read_callbacks, errors)
            return errors
        for line in document.value.warnings:
            log.warn("configuration", warning=line)
        log.info("configuration file has changed and is in use", path=str(self.path))
        self._take(document)
        _tell(self._read_callbacks, [])
        return []

    def _take(self, document: Document[Dynamic]) -> None:
        old = self._document.value
        self._document = document
        _tell(self._callbacks, old, document.value)

    # Making edits

    async def change(self, edit: Callable[[Dynamic], Dynamic]) -> Dynamic:
        """Change domains.conf: `edit` makes a new configuration out of the present one.

        Edits are done one after the other. The new configuration is checked as a whole and
        written to disk, durably and in one step, before it is in use. Comments and order of
        the file are kept. Returns what is now in use.

        Raises ConfigError if the new configuration has errors, or the file has some that were
        made by hand since it was last read; OSError if it cannot be written; and whatever
        `edit` raises. Nothing is changed then.
        """
        await self._lock.acquire()
        try:
            errors = await self._reload()
            if errors:
                raise ConfigError(
                    ["the configuration file was edited and has errors, correct them first"]
                    + errors
                )
            edited = edit(self._document.value)
            if edited is self._document.value:
                return edited
            document, signature = await self._run(
                _check_and_write,
                self._document,
                edited,
                self.static,
                self.path,
                self._check_files,
            )
            self._signature = signature
            self._take(document)
            return self._document.value
        finally:
            self._lock.release()

    async def save(self, dynamic: Dynamic) -> Dynamic:
        """Replace the whole configuration. As `change`."""
        return await self.change(lambda _: dynamic)


def _tell(callbacks: Sequence[Callable[..., None]], *args: object) -> None:
    for callback in list(callbacks):
        try:
            callback(*args)
        except Exception as exc:  # noqa: BLE001 - one listener must not stop the others
            log.failure("listener to configuration changes failed", exc)


def _signature(path: Path) -> Signature | None:
    try:
        info = path.stat()
    except OSError:
        return None
    return info.st_mtime_ns, info.st_size, info.st_ino


def _load_if_changed(
    path: Path, static: Static, known: Signature | None, check_files: bool
) -> tuple[Signature | None, Document[Dynamic] | None, list[str]]:
    """Read the file if it is another one than `known`. Blocks."""
    # The time stamp comes first: an edit while reading then shows at the next look.
    signature = _signature(path)
    if signature == known:
        return signature, None, []
    try:
        return signature, load_document(path, static, check_files=check_files), []
    except ConfigError as exc:
        return signature, None, exc.errors


def _check_and_write(
    document: Document[Dynamic], edited: Dynamic, static: Static, path: Path, check_files: bool
) -> tuple[Document[Dynamic], Signature | None]:
    checked = check_edit(edited, static, check_files=check_files)
    try:
        changed = document.edited(checked)
        data = changed.text.encode()
    except SconfError as exc:
        raise ConfigError([exc.message]) from exc
    write_file(path, data)
    return changed, _signature(path)


def write_file(path: Path, data: bytes) -> None:
    """Replace the content of a file, keeping its mode and owner. Blocks. Raises OSError.

    The new content is written beside it, synced, and renamed over it: after a power cut there
    is the old or the new content. Where that is not possible (no right to create files there or
    to give them to the owner, or the file is mounted by itself) it is written in place.
    """
    path = path.resolve()
    try:
        old = path.stat()
    except FileNotFoundError:
        old = None
    temp = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with contextlib.suppress(FileNotFoundError):
            temp.unlink()
        fd = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with open(fd, "wb", closefd=False) as file:
                file.write(data)
                file.flush()
                if old is not None:
                    made = os.fstat(fd)
                    if (made.st_uid, made.st_gid) != (old.st_uid, old.st_gid):
                        os.fchown(fd, old.st_uid, old.st_gid)
                    os.fchmod(fd, stat.S_IMODE(old.st_mode))
                else:
                    os.fchmod(fd, 0o640)
                os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(temp, path)
    except OSError as exc:
        with contextlib.suppress(OSError):
            temp.unlink()
        if old is None or exc.errno not in _IN_PLACE:
            raise
        log.debug("writing configuration file in place", path=str(path), err=exc)
        _write_in_place(path, data)
        return
    _sync_directory(path.parent)


# EPERM, EACCES: no right to create or to change the owner. EBUSY, EXDEV: a mount point.
# EROFS: only the file itself is mounted writable.
_IN_PLACE: Final = frozenset((errno.EPERM, errno.EACCES, errno.EBUSY, errno.EXDEV, errno.EROFS))


def _write_in_place(path: Path, data: bytes) -> None:
    with path.open("r+b") as file:
        file.write(data)
        file.truncate()
        file.flush()
        os.fsync(file.fileno())


def _sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
