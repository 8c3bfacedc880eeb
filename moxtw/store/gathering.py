"""Messages that are read in a thread, from files: gathered, digested, parsed, synced there."""

from __future__ import annotations

import hashlib
import os
from typing import IO, Final

from moxtw.mail.parsed import analyse
from moxtw.store.content import KEPT_TEXT, SMALL, Contents, Spooled, sync_directory

_MEMORY: Final = 1 << 20


class Gatherer:
    """The receiving end for the bytes of one message; all methods block.

    Content over 64 KiB goes to a content file, what is over 1 MiB as it comes.
    """

    def __init__(self, contents: Contents) -> None:
        self._contents = contents
        self._parts: list[bytes] = []
        self._pending = 0
        self._file: IO[bytes] | None = None
        self._name = ""
        self._path = ""
        self._hash = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> None:
        """Take bytes. Raises OSError."""
        self._parts.append(data)
        self._pending += len(data)
        self.size += len(data)
        if self._pending > _MEMORY:
            self._flush()

    def _flush(self) -> None:
        if self._file is None:
            self._name, self._path = self._contents.new_file()
            self._file = open(self._path, "xb")  # noqa: SIM115 - closed in finish and discard
        for part in self._parts:
            self._hash.update(part)
            self._file.write(part)
        self._parts, self._pending = [], 0

    def finish(self) -> Spooled:
        """The complete message. Raises OSError; nothing is left then."""
        if self.size <= SMALL:
            return self._contents.from_bytes_now(b"".join(self._parts))
        try:
            whole = b"".join(self._parts) if self._file is None else None
            self._flush()
            assert self._file is not None
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            sync_directory(os.path.dirname(self._path))
            if whole is None:
                with open(self._path, "rb") as file:
                    whole = file.read()
            parsed = analyse(whole, KEPT_TEXT + 64)
        except BaseException:
            self.discard()
            raise
        return Spooled(
            self.size, self._hash.digest(), None, self._name, self._path, parsed
        )

    def discard(self) -> None:
        """Drop everything."""
        self._parts, self._pending = [], 0
        file, self._file = self._file, None
        if file is not None:
            file.close()
            os.unlink(self._path)
