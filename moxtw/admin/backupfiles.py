"""The files of a backup: how they are copied, and the manifest that says that all are there.

Below the backup's directory lie ``config`` and ``data`` as the server has them. While it is
made, and after a failure, `MARKER` lies in ``data``; the manifest is written last. All of this
blocks, and is for threads or commands.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

MANIFEST: Final = "backup.json"
MARKER: Final = "backup-incomplete"
VERSION_FILE: Final = "moxversion"

_BLOCK: Final = 1 << 20
# A file that is written while it is copied is copied again.
_TRIES: Final = 5


class BackupError(Exception):
    """A backup that is none, or not whole; the message says why."""


class FileEntry(msgspec.Struct, frozen=True):
    """A file that is neither content nor database: its path in the backup, size, digest."""

    path: str
    size: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True):
    """What a backup holds; written when everything else is there and synced.

    Times are RFC 3339, UTC. `config` is the path of the static configuration in the backup.
    """

    version: str
    started: str
    finished: str
    config: str
    schema: int
    messages: int
    content_files: int
    content_bytes: int
    files: list[FileEntry]
    format: int = 1


def read_manifest(directory: Path) -> Manifest:
    """The manifest of a complete backup. Raises BackupError."""
    path = directory / MANIFEST
    try:
        data = path.read_bytes()
    except OSError as exc:
        if is_incomplete(directory):
            raise BackupError(f"{directory} is a backup that was not completed") from exc
        raise BackupError(f"{directory} is no complete backup: {path}: {exc.strerror}") from exc
    try:
        found = msgspec.json.decode(data, type=Manifest)
    except (ValueError, RecursionError) as exc:
        raise BackupError(f"{path}: {exc}") from exc
    if found.format != 1:
        raise BackupError(f"{path}: made by a newer version, {found.version}")
    if is_incomplete(directory):
        raise BackupError(f"{directory} is a backup that was not completed")
    return found


def is_incomplete(directory: Path) -> bool:
    """Whether a backup was begun there, and did not come to its end."""
    return (directory / "data" / MARKER).exists()


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Make a backup a complete one. Its files must be synced."""
    data = msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n"
    temporary = directory / f".{MANIFEST}.new"
    write_file(temporary, data)
    (directory / "data" / MARKER).unlink()
    sync_directory(directory / "data")
    os.replace(temporary, directory / MANIFEST)
    sync_directory(directory)


def write_file(path: Path, data: bytes) -> None:
    """Write a file anew, and sync it."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640)
    with open(fd, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_directory(path: Path | str) -> None:
    """Sync a directory's entries."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def digest_of(path: Path) -> tuple[int, str]:
    """Size and SHA-256 of a file."""
    hashed = hashlib.sha256()
    size = 0
    with open(path, "rb") as file:
        while data := file.read(_BLOCK):
            hashed.update(data)
            size += len(data)
    return size, hashed.hexdigest()


def copy_file(source: Path, target: Path, name: str) -> FileEntry:
    """Copy a file that may be changed at the same time, whole; with its mode, and synced."""
    for _ in range(_TRIES):
        before = os.stat(source)
        hashed = hashlib.sha256()
        size = 0
        fd = os.open(
            target,
            os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC,
            stat.S_IMODE(before.st_mode) & 0o770 | 0o600,
        )
        with open(source, "rb") as reader, open(fd, "wb") as writer:
            while data := reader.read(_BLOCK):
                writer.write(data)
                hashed.update(data)
                size += len(data)
            writer.flush()
            os.fsync(writer.fileno())
        after = os.stat(source)
        same = (before.st_mtime_ns, before.st_size, before.st_ino) == (
            after.st_mtime_ns,
            after.st_size,
            after.st_ino,
        )
        if same and size == after.st_size:
            os.utime(target, ns=(after.st_atime_ns, after.st_mtime_ns))
            return FileEntry(name, size, hashed.hexdigest())
    raise OSError(errno.EAGAIN, "changes while it is copied", str(source))


# Why a hard link may not be possible, where a copy is.
_NO_LINK: Final = {
    errno.EXDEV,
    errno.EPERM,
    errno.EACCES,
    errno.EMLINK,
    errno.ENOTSUP,
    errno.ENOSYS,
}


def link(source: Path, target: Path) -> bool:
    """Make a hard link; False if that cannot be there."""
    try:
        os.link(source, target)
    except OSError as exc:
        if exc.errno in _NO_LINK:
            return False
        raise
    return True


class ContentCopier:
    """Brings content files into a backup: a link to the server's, or to one of an earlier backup.

    Only what can be linked nowhere is copied. Content files never change, so links are as good
    as copies, and cost nothing.
    """

    def __init__(self, source: Path, target: Path, earlier: list[Path]) -> None:
        self._source = source
        self._target = target
        self._earlier = earlier
        self._linking = True
        self._directories: set[str] = set()
        self.linked = 0
        self.copied = 0
        self.kept = 0

    def bring(self, name: str, size: int) -> None:
        """Bring a file. Raises OSError, BackupError for one that is not what it should be."""
        directory, _, _ = name.partition("/")
        target = self._target / name
        if directory not in self._directories:
            target.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
            self._directories.add(directory)
        source = self._source / name
        actual = source.stat().st_size
        if actual != size:
            raise BackupError(f"content file {source} has {actual} bytes instead of {size}")
        if _has_size(target, size):
            self.kept += 1
            return
        if target.exists():
            target.unlink()
        if self._linking:
            if link(source, target):
                self.linked += 1
                return
            self._linking = False
        for earlier in self._earlier:
            if _has_size(earlier / name, size) and link(earlier / name, target):
                self.linked += 1
                return
        temporary = target.with_name(f".{target.name}.new")
        copy_file(source, temporary, name)
        os.replace(temporary, target)
        self.copied += 1

    def sync(self) -> None:
        """Sync all directories."""
        for directory in sorted(self._directories):
            sync_directory(self._target / directory)
        if self._target.exists():
            sync_directory(self._target)


def _has_size(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except OSError:
        return False


def earlier_contents(directory: Path) -> list[Path]:
    """Content directories of complete backups beside one that is to be made, the newest first."""
    found: list[tuple[str, Path]] = []
    try:
        entries = list(os.scandir(directory.parent))
    except OSError:
        return []
    for entry in entries:
        path = Path(entry.path)
        if path == directory or not (path / MANIFEST).is_file():
            continue
        try:
            found.append((read_manifest(path).started, path / "data" / "content"))
        except BackupError:
            continue
    return [path for _, path in sorted(found, reverse=True)][:3]


def walk(top: Path, skip: frozenset[Path]) -> Iterator[tuple[Path, os.stat_result]]:
    """All that is below a directory, directories before what is in them."""
    for entry in sorted(os.scandir(top), key=lambda entry: entry.name):
        path = Path(entry.path)
        if path in skip:
            continue
        info = entry.stat(follow_symlinks=False)
        yield path, info
        if stat.S_ISDIR(info.st_mode):
            yield from walk(path, skip)


class TreeCopier:
    """Copies a directory, file by file."""

    def __init__(self, source: Path, target: Path, name: str, skip: frozenset[Path]) -> None:
        self._source = source
        self._target = target
        self._name = name
        self._skip = skip
        self.files: list[FileEntry] = []
        self.warnings: list[str] = []

    def run(self) -> None:
        """Copy everything. Raises OSError."""
        self._target.mkdir(mode=0o750, parents=True, exist_ok=True)
        directories = [self._target]
        for path, info in walk(self._source, self._skip):
            below = path.relative_to(self._source)
            target = self._target / below
            name = f"{self._name}/{below}"
            if stat.S_ISDIR(info.st_mode):
                target.mkdir(mode=0o750, exist_ok=True)
                directories.append(target)
            elif stat.S_ISREG(info.st_mode):
                try:
                    self.files.append(copy_file(path, target, name))
                except FileNotFoundError:
                    if path.exists():
                        raise
                    # Removed meanwhile; temporary files of the server are.
                    target.unlink(missing_ok=True)
            elif stat.S_ISLNK(info.st_mode):
                self._link(path, target, name)
            else:
                self.warnings.append(f"{path} is no file, and was left out")
        for directory in directories:
            sync_directory(directory)

    def _link(self, path: Path, target: Path, name: str) -> None:
        """Copy what a link leads to: elsewhere it may not be there any more."""
        if path.is_file():
            self.files.append(copy_file(path, target, name))
        else:
            self.warnings.append(f"{path} is a link that leads to no file, and was left out")
