"""A copy of the database as of one moment, made while the store works. Blocks: for threads."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from typing import Final

from moxtw.store.db import Store
from moxtw.store.errors import StoreError

DATABASE: Final = "moxtw.db"

# Pages that are copied at a time (4 MiB); between two pieces others have their turn.
_PIECE: Final = 512
# Files named at a time.
_FILES: Final = 500


def can_copy(store: Store) -> bool:
    """Whether the database is one that `copy_database` can copy."""
    return store.backend.dialect.name == "sqlite"


def copy_database(
    store: Store, path: str, progress: Callable[[int, int], object] = lambda done, all_: None
) -> None:
    """Copy the database to a new file, synced; what is written meanwhile is not in it.

    `progress` is told how many pages are done, of how many. Raises StoreError, OSError.
    """
    source = store.backend.connect(readonly=True)
    try:
        # The snapshot begins with the first read; with it in use, pages that others change do
        # not make the copy begin anew.
        source.execute("BEGIN")
        source.execute("SELECT value FROM meta WHERE key = 'schema_version'").fetchall()
        target = sqlite3.connect(path, isolation_level=None)
        try:
            # Nobody uses it before all is there and synced.
            target.execute("PRAGMA journal_mode = OFF")
            target.execute("PRAGMA synchronous = OFF")
            source.backup(
                target,
                pages=_PIECE,
                progress=lambda status, left, total: progress(total - left, total),
            )
        finally:
            target.close()
    except sqlite3.Error as exc:
        raise StoreError(f"copying the database: {exc}") from exc
    finally:
        source.close()
    for name in (f"{path}-wal", f"{path}-shm"):
        if os.path.exists(name):
            os.unlink(name)
    with open(path, "rb") as file:
        os.fsync(file.fileno())


class SnapshotFiles:
    """The content files that a copy of the database refers to."""

    def __init__(self, path: str) -> None:
        # Read as it is: nothing else has it open.
        self._connection = sqlite3.connect(
            f"file:{_quoted(path)}?mode=ro&immutable=1", uri=True, check_same_thread=False
        )

    def totals(self) -> tuple[int, int]:
        """How many files, and their bytes."""
        row = self._connection.execute(
            "SELECT count(*), coalesce(sum(size), 0) FROM contents WHERE file IS NOT NULL"
        ).fetchone()
        return row[0], row[1]

    def messages(self) -> int:
        """How many live messages there are."""
        row = self._connection.execute(
            "SELECT coalesce(sum(total + deleted), 0) FROM mailboxes WHERE expunged = 0"
        ).fetchone()
        return int(row[0])

    def pieces(self) -> Iterator[list[tuple[str, int]]]:
        """Names and sizes of the files, some at a time."""
        after = 0
        while rows := self._connection.execute(
            "SELECT id, file, size FROM contents WHERE id > ? AND file IS NOT NULL"
            " ORDER BY id LIMIT ?",
            (after, _FILES),
        ).fetchall():
            yield [(file, size) for _, file, size in rows]
            after = rows[-1][0]

    def close(self) -> None:
        """Done with it."""
        self._connection.close()


def _quoted(path: str) -> str:
    from urllib.parse import quote

    return quote(os.path.abspath(path))
