"""Backups of the running server.

The database is copied as of one moment, while others go on to write. Content files that it
refers to are kept until they are in the backup, even if their messages are removed meanwhile.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from moxtw.admin.backupfiles import (
    MANIFEST,
    MARKER,
    VERSION_FILE,
    BackupError,
    ContentCopier,
    FileEntry,
    Manifest,
    TreeCopier,
    earlier_contents,
    is_incomplete,
    sync_directory,
    write_file,
    write_manifest,
)
from moxtw.admin.context import AdminContext, Caller, OperationError, user_error
from moxtw.store import schema
from moxtw.store.errors import StoreError
from moxtw.store.snapshot import DATABASE, SnapshotFiles, can_copy, copy_database
from moxtw.version import VERSION

Tell = Callable[[str], object]

# Of the data directory, what is not copied as any other file.
_OWN: Final = ("content", "tmp", "ctl", DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm")
_KNOWN: Final = frozenset(
    {"receivedid.key", "acme", "lastknownversion", "moved", VERSION_FILE, *_OWN}
)

POSTGRESQL: Final = (
    "the database is PostgreSQL, which this command does not copy, and a backup without it"
    " would be none. Copy the content directory, then run pg_dump, then copy the content"
    " directory again over the first copy without removing anything; add the configuration and"
    " the other files of the data directory"
)


@dataclass(frozen=True, slots=True)
class Backup:
    """What a backup came to."""

    messages: int
    content_files: int
    linked: int
    copied: int
    warnings: list[str]


async def backup(
    ctx: AdminContext,
    caller: Caller,
    directory: str,
    tell: Tell = lambda text: None,
    progress: Tell = lambda text: None,
) -> Backup:
    """Make a backup in a directory that is new or empty, or finish one that was interrupted.

    tell: is told of warnings; progress: of each step. Raises OperationError; then there is no
    complete backup in the directory, and it says so itself.
    """
    target = _check(ctx, directory)
    if not can_copy(ctx.store):
        raise user_error(POSTGRESQL)
    started = datetime.now(UTC)
    ctx.done(caller, "backup begun", directory=directory)
    work = _Work(ctx, target, tell, progress)
    ctx.store.contents.hold()
    try:
        done = await work.run(started)
    except (OSError, StoreError, BackupError) as exc:
        raise OperationError("server", f"backup is not complete: {_told(exc)}") from exc
    finally:
        await ctx.store.run(ctx.store.contents.unhold)
    ctx.done(
        caller,
        "backup made",
        directory=directory,
        messages=done.messages,
        files=done.content_files,
        warnings=len(done.warnings) or None,
    )
    return done


def _told(exc: Exception) -> str:
    if isinstance(exc, OSError) and exc.strerror:
        return f"{exc.filename}: {exc.strerror}" if exc.filename else exc.strerror
    return str(exc)


def _check(ctx: AdminContext, directory: str) -> Path:
    """The directory to write to. Raises OperationError."""
    if not directory or "\0" in directory or not os.path.isabs(directory):
        raise user_error("the directory must be given by its full path")
    target = Path(os.path.normpath(directory))
    data = ctx.config.static.data_path.resolve()
    config = ctx.config.static.directory.resolve()
    real = target.resolve()
    for own in (data, config):
        if real == own or own in real.parents:
            raise user_error(f"{target} lies in {own}, which is to be backed up")
        if real in own.parents and real.exists() and any(real.iterdir()):
            raise user_error(f"{target} is not empty")
    try:
        if not target.exists():
            return target
        if not target.is_dir():
            raise user_error(f"{target} is there already, and is no directory")
        if (target / MANIFEST).exists():
            raise user_error(
                f"{target} holds a backup already, and none is overwritten: name a new"
                " directory (beside it, so that what both have takes no room twice)"
            )
        if any(target.iterdir()) and not is_incomplete(target):
            raise user_error(f"{target} is not empty")
    except OSError as exc:
        raise user_error(f"{target}: {exc.strerror}") from exc
    return target


class _Work:
    """A backup that is being made; methods named after steps run in threads."""

    def __init__(self, ctx: AdminContext, target: Path, tell: Tell, progress: Tell) -> None:
        self._ctx = ctx
        self._static = ctx.config.static
        self._target = target
        self._data = target / "data"
        self._tell = tell
        self._progress = progress
        self._warnings: list[str] = []
        self._entries: list[FileEntry] = []

    def _warn(self, text: str) -> None:
        self._warnings.append(text)
        self._ctx.store.call_from_thread(self._tell, text)

    def _say(self, text: str) -> None:
        self._ctx.store.call_from_thread(self._progress, text)

    async def run(self, started: datetime) -> Backup:
        """Make it. Raises OSError, StoreError, BackupError."""
        run = self._ctx.store.run
        await run(self._begin)
        await run(self._copy_database)
        files = SnapshotFiles(str(self._data / DATABASE))
        try:
            messages = await run(files.messages)
            count, size = await run(files.totals)
            copier = ContentCopier(
                self._static.data_path / "content",
                self._data / "content",
                await run(earlier_contents, self._target),
            )
            pieces = files.pieces()
            done = 0
            while (taken := await run(self._copy_contents, copier, pieces)) is not None:
                done += taken
                self._say(f"content: {done} of {count} files")
            await run(copier.sync)
        finally:
            await run(files.close)
        await run(self._copy_rest)
        self._say("writing the manifest")
        await run(
            self._end,
            Manifest(
                version=VERSION,
                started=_stamp(started),
                finished=_stamp(datetime.now(UTC)),
                config=f"config/{self._static.path.name}",
                schema=schema.VERSION,
                messages=messages,
                content_files=count,
                content_bytes=size,
                files=self._entries,
            ),
        )
        return Backup(messages, count, copier.linked, copier.copied, self._warnings)

    def _begin(self) -> None:
        new = not self._target.exists()
        # Only the last directory that is made gets the mode.
        self._target.mkdir(mode=0o750, parents=True, exist_ok=True)
        self._data.mkdir(mode=0o750, exist_ok=True)
        write_file(self._data / MARKER, b"This backup is not complete.\n")
        sync_directory(self._data)
        sync_directory(self._target)
        if new:
            try:
                sync_directory(self._target.parent)
            except PermissionError:
                # It may be searched, but not read: then it cannot be synced by us.
                self._warn(f"{self._target.parent} cannot be read, and was not synced")

    def _copy_database(self) -> None:
        self._say("copying the database")
        path = self._data / DATABASE
        for name in (DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm"):
            (self._data / name).unlink(missing_ok=True)
        last = [-1]

        def tell(done: int, total: int) -> None:
            percent = 100 * done // max(total, 1)
            if percent >= last[0] + 10:
                last[0] = percent
                self._say(f"database: {percent} %")

        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640))
        copy_database(self._ctx.store, str(path), tell)

    def _copy_contents(
        self, copier: ContentCopier, pieces: Iterator[list[tuple[str, int]]]
    ) -> int | None:
        """Bring some files; how many, None when all are there."""
        names = next(pieces, None)
        if names is None:
            return None
        for name, size in names:
            try:
                copier.bring(name, size)
            except FileNotFoundError as exc:
                raise BackupError(
                    f"content file {name} is missing: verifydata tells more"
                ) from exc
        return len(names)

    def _copy_rest(self) -> None:
        data, config = self._static.data_path, self._static.directory
        self._say("copying other files of the data directory")
        skip = frozenset(data / name for name in _OWN)
        for name in sorted(os.listdir(data)):
            if name not in _KNOWN:
                self._warn(f"unknown file {data / name} is copied, too")
        others = TreeCopier(data, self._data, "data", skip)
        others.run()
        self._say("copying the configuration")
        settings = TreeCopier(
            config, self._target / "config", "config", frozenset({data, self._target})
        )
        settings.run()
        for copier in (others, settings):
            self._entries += copier.files
            for text in copier.warnings:
                self._warn(text)
        (self._data / "tmp").mkdir(mode=0o750, exist_ok=True)
        (self._data / "content").mkdir(mode=0o750, exist_ok=True)
        for path in self._outside(config):
            self._warn(f"{path} is used by the configuration, lies elsewhere and is not copied")

    def _outside(self, config: Path) -> list[str]:
        """Key and certificate files of listeners that are not beside the configuration."""
        found = set()
        for listener in self._static.listeners.values():
            if listener.tls is None:
                continue
            names = list(listener.tls.host_private_key_files)
            for pair in listener.tls.key_certs:
                names += [pair.cert_file, pair.key_file]
            for name in names:
                path = self._static.resolve_path(name)
                if not os.path.realpath(path).startswith(os.path.realpath(config) + os.sep):
                    found.add(str(path))
        return sorted(found)

    def _end(self, manifest: Manifest) -> None:
        write_file(self._data / VERSION_FILE, f"{VERSION}\n".encode())
        for directory in (self._data, self._target / "config", self._target):
            sync_directory(directory)
        write_manifest(self._target, manifest)


def _stamp(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")
