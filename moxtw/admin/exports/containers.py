"""Archives that are written as they go out, with constant memory: tar, gzipped tar, zip."""

from __future__ import annotations

import struct
import tarfile
import tempfile
import time
import zlib
from typing import Final, Protocol

_BIG: Final = 0xF0000000
_ZIP32: Final = 0xFFFFFFFF


class Container(Protocol):
    """An archive: for each member `start`, `write` and `stop`, at last `finish`.

    All return bytes that are to go out. `size` is that of all data written for a member, in
    bytes; `modified` in seconds. Names of directories end with a slash.
    """

    def start(self, name: str, size: int, modified: int) -> bytes:
        """Begin a member."""
        ...

    def write(self, data: bytes) -> bytes:
        """Data of the member."""
        ...

    def stop(self) -> bytes:
        """End the member."""
        ...

    def finish(self) -> bytes:
        """End the archive."""
        ...


class Tar:
    """A tar file, POSIX.1-2001."""

    def __init__(self, *, gzip: bool) -> None:
        self._deflate = zlib.compressobj(6, zlib.DEFLATED, 31) if gzip else None
        self._size = 0

    def _out(self, data: bytes) -> bytes:
        return data if self._deflate is None else self._deflate.compress(data)

    def start(self, name: str, size: int, modified: int) -> bytes:
        """Begin a member."""
        info = tarfile.TarInfo(name)
        info.size, info.mtime, info.mode = size, max(modified, 0), 0o600
        if name.endswith("/"):
            info.type, info.mode = tarfile.DIRTYPE, 0o700
        self._size = size
        return self._out(info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape"))

    def write(self, data: bytes) -> bytes:
        """Data of the member."""
        return self._out(data)

    def stop(self) -> bytes:
        """End the member."""
        return self._out(bytes(-self._size % 512))

    def finish(self) -> bytes:
        """End the archive."""
        end = self._out(bytes(1024))
        return end if self._deflate is None else end + self._deflate.flush()


class Zip:
    """A zip file (PKWARE's APPNOTE 6.3), sizes behind each member, with zip64 where needed."""

    def __init__(self) -> None:
        self._directory = tempfile.SpooledTemporaryFile(max_size=1 << 20)  # noqa: SIM115
        self._count = 0
        self._at = 0
        self._begun = 0
        self._name = b""
        self._stamp = (0, 0)
        self._crc = self._packed = self._size = 0
        self._big = self._is_dir = False
        self._deflate = zlib.compressobj(6, zlib.DEFLATED, -15)

    def _out(self, data: bytes) -> bytes:
        self._at += len(data)
        return data

    def start(self, name: str, size: int, modified: int) -> bytes:
        """Begin a member."""
        moment = time.gmtime(max(modified, 315_532_800))
        date = (min(moment.tm_year, 2107) - 1980) << 9 | moment.tm_mon << 5 | moment.tm_mday
        clock = moment.tm_hour << 11 | moment.tm_min << 5 | min(moment.tm_sec, 59) // 2
        self._begun, self._stamp = self._at, (clock, date)
        self._name, self._is_dir = name.encode("utf-8", "surrogateescape"), name.endswith("/")
        self._crc = self._packed = self._size = 0
        self._big = size >= _BIG
        self._deflate = zlib.compressobj(6, zlib.DEFLATED, -15)
        extra = struct.pack("<HHQQ", 1, 16, 0, 0) if self._big else b""
        sizes = _ZIP32 if self._big else 0
        header = struct.pack(
            "<IHHHHHIIIHH",
            0x04034B50,
            45 if self._big else 20,
            self._flags,
            self._method,
            clock,
            date,
            0,
            sizes,
            sizes,
            len(self._name),
            len(extra),
        )
        return self._out(header + self._name + extra)

    @property
    def _flags(self) -> int:
        """Names in UTF-8, and sizes behind the data."""
        return 0x800 if self._is_dir else 0x808

    @property
    def _method(self) -> int:
        return 0 if self._is_dir else 8

    def write(self, data: bytes) -> bytes:
        """Data of the member."""
        self._crc = zlib.crc32(data, self._crc)
        self._size += len(data)
        packed = self._deflate.compress(data)
        self._packed += len(packed)
        return self._out(packed)

    def stop(self) -> bytes:
        """End the member."""
        rest = b""
        if not self._is_dir:
            rest = self._deflate.flush()
            self._packed += len(rest)
            form = "<IIQQ" if self._big else "<IIII"
            rest += struct.pack(form, 0x08074B50, self._crc, self._packed, self._size)
        far = self._begun >= _ZIP32
        extra = b""
        if self._big:
            extra += struct.pack("<QQ", self._size, self._packed)
        if far:
            extra += struct.pack("<Q", self._begun)
        if extra:
            extra = struct.pack("<HH", 1, len(extra)) + extra
        mode = 0o40700 if self._is_dir else 0o100600
        self._directory.write(
            struct.pack(
                "<IHHHHHHIIIHHHHHII",
                0x02014B50,
                3 << 8 | 45,
                45 if extra else 20,
                self._flags,
                self._method,
                *self._stamp,
                self._crc,
                _ZIP32 if self._big else self._packed,
                _ZIP32 if self._big else self._size,
                len(self._name),
                len(extra),
                0,
                0,
                0,
                mode << 16,
                _ZIP32 if far else self._begun,
            )
            + self._name
            + extra
        )
        self._count += 1
        return self._out(rest)

    def finish(self) -> bytes:
        """End the archive. Its directory is kept in memory while it goes out."""
        start = self._at
        self._directory.seek(0)
        data = self._directory.read()
        self._directory.close()
        size, count = len(data), self._count
        if count >= 0xFFFF or start >= _ZIP32 or size >= _ZIP32:
            record = struct.pack(
                "<IQHHIIQQQQ", 0x06064B50, 44, 3 << 8 | 45, 45, 0, 0, count, count, size, start
            )
            data += record + struct.pack("<IIQI", 0x07064B50, 0, start + size, 1)
        data += struct.pack(
            "<IHHHHIIH",
            0x06054B50,
            0,
            0,
            min(count, 0xFFFF),
            min(count, 0xFFFF),
            min(size, _ZIP32),
            min(start, _ZIP32),
            0,
        )
        return self._out(data)
