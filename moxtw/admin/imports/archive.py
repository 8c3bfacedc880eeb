"""Reading archives that nobody vouches for: tar, gzipped tar, zip, folders.

All give `Entry` after `Entry`, with constant memory: nothing is kept of entries gone by, and
headers, names and contents are bounded. Blocks: for threads.
"""

from __future__ import annotations

import gzip
import os
import stat
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Any, Final

MAX_ENTRIES: Final = 5_000_000
MAX_NAME: Final = 4096
READ: Final = 1 << 18
RATIO: Final = 200
"""An archive may give so many times its own bytes, beyond a first allowance."""
ALLOWANCE: Final = 1 << 28

_PAX_LIMIT: Final = 1 << 20


class ArchiveError(Exception):
    """An archive that is damaged, or not to be trusted; the message says why."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A file, or with kind "dir" a folder, or with "other" what cannot be imported.

    name: path with slashes, as in the archive. read: gives at most so many of its bytes, none
    at the end; valid until the next entry is asked for. modified: in seconds, None if unknown.
    """

    name: str
    kind: str
    size: int
    read: Callable[[int], bytes]
    modified: float | None = None


def _nothing(size: int) -> bytes:
    return b""


class Budget:
    """How many bytes an archive of a size may still give."""

    def __init__(self, size: int) -> None:
        self._left = size * RATIO + ALLOWANCE

    def spend(self, count: int) -> None:
        """Count bytes. Raises ArchiveError when they are too many."""
        self._left -= count
        if self._left < 0:
            raise ArchiveError(
                "gives out more than can be true of mail: it is made to fill disks"
            )


def kind_of(head: bytes) -> str:
    """What a file is by its first 512 bytes: "zip", "tgz", "tar", "mbox", or ""."""
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "zip"
    if head.startswith(b"\x1f\x8b\x08"):
        return "tgz"
    if head[257:262] == b"ustar" or _is_old_tar(head):
        return "tar"
    if head.startswith(b"From "):
        return "mbox"
    return ""


def _is_old_tar(head: bytes) -> bool:
    if len(head) < 512:
        return False
    try:
        return _number(head[148:156]) == _checksum(head)
    except ArchiveError:
        return False


def entries(file: IO[bytes], kind: str, size: int) -> Iterator[Entry]:
    """The entries of an archive of a kind. Raises ArchiveError, OSError."""
    budget = Budget(size)
    file.seek(0)
    if kind == "zip":
        return _limited(_zip(file, size, budget))
    if kind == "tgz":
        return _limited(_tar(_unzipped(file), budget))
    return _limited(_tar(file.read, budget))


def tar_stream(read: Callable[[int], bytes]) -> Iterator[Entry]:
    """The entries of a tar file of our own, as it comes. Raises ArchiveError."""
    return _tar(read, Budget(1 << 60))


def _limited(found: Iterator[Entry]) -> Iterator[Entry]:
    for count, entry in enumerate(found):
        if count >= MAX_ENTRIES:
            raise ArchiveError(f"more than {MAX_ENTRIES} entries")
        yield entry


def _text(name: bytes) -> str:
    try:
        return name.decode()
    except UnicodeDecodeError:
        return name.decode("latin-1")


# -- Folders -------------------------------------------------------------------------------


def folder(path: str) -> Iterator[Entry]:
    """What is in a folder, in the order of names. Links are not followed. Raises OSError."""
    count = 0
    waiting: list[tuple[str, str]] = [("", path)]
    while waiting:
        name, place = waiting.pop()
        with os.scandir(place) as found:
            listed = sorted(found, key=lambda each: each.name)
        folders: list[tuple[str, str]] = []
        for each in listed:
            count += 1
            if count > MAX_ENTRIES:
                raise ArchiveError(f"more than {MAX_ENTRIES} files")
            full = f"{name}{each.name}"
            full = full.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
            if each.is_symlink():
                yield Entry(full, "other", 0, _nothing)
            elif each.is_dir(follow_symlinks=False):
                folders.append((f"{full}/", each.path))
                yield Entry(full, "dir", 0, _nothing)
            elif each.is_file(follow_symlinks=False):
                yield from _opened(full, each.path)
            else:
                yield Entry(full, "other", 0, _nothing)
        waiting += reversed(folders)


def _opened(name: str, path: str) -> Iterator[Entry]:
    """One file, opened when it is first read."""
    file: IO[bytes] | None = None

    def read(size: int) -> bytes:
        nonlocal file
        if file is None:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            file = open(fd, "rb", buffering=0)  # noqa: SIM115 - closed below
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise ArchiveError(f"{name} is no file any more")
        return file.read(size)

    info = os.lstat(path)
    try:
        yield Entry(name, "file", info.st_size, read, info.st_mtime)
    finally:
        if file is not None:
            file.close()


# -- tar (POSIX.1-1988 and -2001, with the long names of GNU) ----------------------------------


def _unzipped(file: IO[bytes]) -> Callable[[int], bytes]:
    reader = gzip.GzipFile(fileobj=file, mode="rb")

    def read(size: int) -> bytes:
        try:
            return reader.read(size)
        except (EOFError, zlib.error, gzip.BadGzipFile) as exc:
            raise ArchiveError(f"compressed data is damaged: {exc}") from exc

    return read


def _exactly(read: Callable[[int], bytes], size: int) -> bytes:
    parts = []
    while size:
        data = read(min(size, READ))
        if not data:
            raise ArchiveError("the archive is cut off")
        parts.append(data)
        size -= len(data)
    return b"".join(parts)


def _checksum(block: bytes) -> int:
    return sum(block[:148]) + sum(block[156:512]) + 8 * 32


def _number(field: bytes) -> int:
    if field[:1] in (b"\x80", b"\xff"):
        value = int.from_bytes(field[1:], "big")
        if field[:1] == b"\xff" or value >= 1 << 62:
            raise ArchiveError("a number is out of range")
        return value
    text = field.split(b"\0", 1)[0].strip()
    try:
        return int(text, 8) if text else 0
    except ValueError as exc:
        raise ArchiveError("a header is damaged") from exc


def _tar(read: Callable[[int], bytes], budget: Budget) -> Iterator[Entry]:
    long_name: bytes | None = None
    pax: dict[str, bytes] = {}
    headers = 0
    while True:
        block = read(512)
        while 0 < len(block) < 512:
            more = read(512 - len(block))
            if not more:
                raise ArchiveError("the archive is cut off")
            block += more
        if not block or not block.strip(b"\0"):
            return
        budget.spend(512)
        if _number(block[148:156]) != _checksum(block):
            raise ArchiveError("a header is damaged")
        size = _number(block[124:136])
        kind = block[156:157]
        if kind in (b"L", b"K", b"x", b"g"):
            headers += 1
            if size > _PAX_LIMIT or headers > 100:
                raise ArchiveError("a header is too large")
            budget.spend(size)
            data = _exactly(read, size)
            _exactly(read, -size % 512)
            if kind == b"L":
                long_name = data.split(b"\0", 1)[0]
            elif kind == b"x":
                pax = _pax(data)
            continue
        headers = 0
        name = block[:100].split(b"\0", 1)[0]
        prefix = block[345:500].split(b"\0", 1)[0]
        if prefix and block[257:263] == b"ustar\0":
            name = prefix + b"/" + name
        name = pax.get("path", long_name if long_name is not None else name)
        if "size" in pax:
            size = _digits(pax["size"])
        long_name, pax = None, {}
        is_file = kind in (b"0", b"\0", b"7")
        is_dir = kind == b"5" or (is_file and name.endswith(b"/"))
        modified = None
        try:
            modified = float(_number(block[136:148]))
        except ArchiveError:
            modified = None
        if kind in (b"1", b"2", b"3", b"4", b"6") or is_dir:
            # Nothing follows, whatever the size says: for links it may be that of the target.
            size = 0
        left = [size]
        yield Entry(
            _text(name[:MAX_NAME]),
            "dir" if is_dir else "file" if is_file else "other",
            size,
            _part(read, left, budget),
            modified,
        )
        _skip(read, left[0] + -size % 512, budget)


def _digits(text: bytes) -> int:
    if not text.isdigit() or len(text) > 18:
        raise ArchiveError("a number is out of range")
    return int(text)


def _pax(data: bytes) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    at = 0
    while at < len(data):
        space = data.find(b" ", at, at + 20)
        if space < 0 or not data[at:space].isdigit():
            raise ArchiveError("an extended header is damaged")
        length = int(data[at:space])
        record = data[space + 1 : at + length]
        key, equals, value = record.partition(b"=")
        if length <= space - at or not equals or not value.endswith(b"\n"):
            raise ArchiveError("an extended header is damaged")
        if key in (b"path", b"size"):
            found[key.decode()] = value[:-1]
        at += length
    return found


def _part(read: Callable[[int], bytes], left: list[int], budget: Budget) -> Callable[[int], bytes]:
    def part(size: int) -> bytes:
        wanted = min(size, left[0])
        if wanted <= 0:
            return b""
        data = read(wanted)
        if not data:
            raise ArchiveError("the archive is cut off")
        budget.spend(len(data))
        left[0] -= len(data)
        return data

    return part


def _skip(read: Callable[[int], bytes], size: int, budget: Budget) -> None:
    while size > 0:
        data = read(min(size, READ))
        if not data:
            raise ArchiveError("the archive is cut off")
        budget.spend(len(data))
        size -= len(data)


# -- zip (PKWARE's APPNOTE 6.3) ------------------------------------------------------------


def _at(file: IO[bytes], offset: int, size: int) -> bytes:
    file.seek(offset)
    return file.read(size)


def _zip(file: IO[bytes], size: int, budget: Budget) -> Iterator[Entry]:
    start, count, directory_size = _directory(file, size)
    at, end = start, start + directory_size
    if count > MAX_ENTRIES or end > size:
        raise ArchiveError("the directory of the archive is damaged")
    for _ in range(count):
        fixed = _at(file, at, 46)
        if len(fixed) < 46 or fixed[:4] != b"PK\x01\x02":
            raise ArchiveError("the directory of the archive is damaged")
        flags, method = struct.unpack("<HH", fixed[8:12])
        crc, packed, unpacked = struct.unpack("<III", fixed[16:28])
        name_size, extra_size, comment_size = struct.unpack("<HHH", fixed[28:34])
        attributes, offset = struct.unpack("<II", fixed[38:46])
        variable = _at(file, at + 46, name_size + extra_size)
        at += 46 + name_size + extra_size + comment_size
        name, extra = variable[:name_size], variable[name_size:]
        unpacked, packed, offset = _zip64(extra, unpacked, packed, offset)
        text = name.decode("utf-8" if flags & 0x800 else "cp437", "replace")
        if not flags & 0x800 and not name.isascii():
            text = _text(name)
        text = text[:MAX_NAME].replace("\\", "/") if fixed[5] == 0 else text[:MAX_NAME]
        mode = attributes >> 16
        if text.endswith("/"):
            yield Entry(text, "dir", 0, _nothing)
        elif (
            flags & 0x41  # encrypted
            or method not in (0, 8)
            or (fixed[5] == 3 and stat.S_IFMT(mode) not in (0, stat.S_IFREG))
        ):
            yield Entry(text, "other", 0, _nothing)
        else:
            read = _member(file, size, offset, packed, unpacked, method, crc, budget)
            yield Entry(text, "file", unpacked, read)


def _directory(file: IO[bytes], size: int) -> tuple[int, int, int]:
    """Where the central directory begins, its number of entries, and its size."""
    tail_size = min(size, 22 + 0xFFFF)
    tail = _at(file, size - tail_size, tail_size)
    found = tail.rfind(b"PK\x05\x06")
    if found < 0 or len(tail) - found < 22:
        raise ArchiveError("the archive has no directory: it is cut off or damaged")
    disk, first_disk = struct.unpack("<HH", tail[found + 4 : found + 8])
    count, directory_size, start = struct.unpack("<HII", tail[found + 10 : found + 20])
    place = size - tail_size + found
    if 0xFFFF in (count, disk) or 0xFFFFFFFF in (directory_size, start):
        locator = _at(file, place - 20, 20) if place >= 20 else b""
        if locator[:4] == b"PK\x06\x07":
            (record,) = struct.unpack("<Q", locator[8:16])
            data = _at(file, record, 56) if record < size else b""
            if len(data) < 56 or data[:4] != b"PK\x06\x06":
                raise ArchiveError("the directory of the archive is damaged")
            count, directory_size, start = struct.unpack("<QQQ", data[32:56])
            disk = first_disk = 0
    if disk or first_disk:
        raise ArchiveError("archives in several parts are not supported")
    return start, count, directory_size


def _zip64(extra: bytes, *values: int) -> tuple[int, int, int]:
    """Sizes and offset, where they stand in the extra field because they are large."""
    found = list(values)
    at = 0
    while at + 4 <= len(extra):
        tag, length = struct.unpack("<HH", extra[at : at + 4])
        if tag == 1:
            data = extra[at + 4 : at + 4 + length]
            place = 0
            for index, value in enumerate(found):
                if value == 0xFFFFFFFF and place + 8 <= len(data):
                    (found[index],) = struct.unpack("<Q", data[place : place + 8])
                    place += 8
        at += 4 + length
    return found[0], found[1], found[2]


def _member(
    file: IO[bytes],
    size: int,
    offset: int,
    packed: int,
    unpacked: int,
    method: int,
    crc: int,
    budget: Budget,
) -> Callable[[int], bytes]:
    """Reads a member; what it gives is checked at the end."""
    state: dict[str, Any] = {"at": -1, "left": packed, "given": 0, "crc": 0, "done": False}
    inflate = zlib.decompressobj(-15) if method == 8 else None

    def raw(wanted: int) -> bytes:
        if state["at"] < 0:
            local = _at(file, offset, 30)
            if len(local) < 30 or local[:4] != b"PK\x03\x04":
                raise ArchiveError("a member's header is damaged")
            name_size, extra_size = struct.unpack("<HH", local[26:30])
            state["at"] = offset + 30 + name_size + extra_size
            if state["at"] + packed > size:
                raise ArchiveError("a member is cut off")
        data = _at(file, state["at"], min(wanted, state["left"]))
        state["at"] += len(data)
        state["left"] -= len(data)
        return data

    def read(wanted: int) -> bytes:
        if state["done"] or wanted <= 0:
            return b""
        data = b""
        if inflate is None:
            data = raw(wanted)
        else:
            while not data and not inflate.eof:
                source = inflate.unconsumed_tail or raw(READ)
                try:
                    data = inflate.decompress(source, wanted)
                except zlib.error as exc:
                    raise ArchiveError(f"compressed data is damaged: {exc}") from exc
                if not data and not source and not inflate.eof:
                    raise ArchiveError("a member is cut off")
        budget.spend(len(data))
        state["given"] += len(data)
        state["crc"] = zlib.crc32(data, state["crc"])
        if state["given"] > unpacked:
            raise ArchiveError("a member is longer than it says")
        if not data:
            state["done"] = True
            if state["given"] != unpacked or state["crc"] != crc:
                raise ArchiveError("a member is damaged")
        return data

    return read
