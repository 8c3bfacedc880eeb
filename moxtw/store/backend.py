"""What differs between databases."""

from __future__ import annotations

import sqlite3
from typing import Any

import sqlalchemy as sa

from moxtw.store.errors import DiskFull, StoreError
from moxtw.store.textindex import SQLiteTextIndex, TextIndex


class Backend:
    """What differs between databases."""

    def __init__(self, engine: sa.Engine) -> None:
        self.engine = engine
        self.dialect = engine.dialect
        self.text_index = TextIndex()

    def connect(self, *, readonly: bool) -> Any:
        """A raw driver connection in autocommit mode."""
        raise NotImplementedError

    begin_write = "BEGIN"
    begin_read = "BEGIN"

    # Whether `checkpoint` is to be called, with a connection of its own, while there are commits.
    checkpoints = False

    def checkpoint(self, connection: Any) -> int:
        """Bring commits to where they stay, beside readers and the writer; how much was done."""
        raise NotImplementedError

    def translate(self, exc: BaseException) -> BaseException:
        """An error of the driver as one of the store's, where there is one."""
        return exc


class SQLiteBackend(Backend):
    """SQLite in write-ahead mode, with each commit synced to disk."""

    begin_write = "BEGIN IMMEDIATE"
    checkpoints = True

    def __init__(self, engine: sa.Engine) -> None:
        super().__init__(engine)
        self.text_index = SQLiteTextIndex()

    def connect(self, *, readonly: bool) -> Any:
        """Open the database file; a reader can not write."""
        connection = sqlite3.connect(
            self.engine.url.database or ":memory:",
            isolation_level=None,
            check_same_thread=False,
            cached_statements=512,
            timeout=30,
        )
        for pragma in (
            # In force for new databases only. The text of a usual message then lies in one
            # page, which scans for text gain from.
            "page_size = 8192",
            "journal_mode = WAL",
            "synchronous = FULL",
            "foreign_keys = ON",
            "temp_store = MEMORY",
            "cache_size = -32768",
            "mmap_size = 0",
            # Copies the pages of the log into the database within somebody's commit, which then
            # takes the longer the more there are, 30 ms for these. So only for when `checkpoint`
            # does not keep up.
            "wal_autocheckpoint = 4000",
            "journal_size_limit = 67108864",
            "query_only = ON" if readonly else "query_only = OFF",
        ):
            connection.execute("PRAGMA " + pragma)
        return connection

    def checkpoint(self, connection: Any) -> int:
        """Copy pages of the write-ahead log into the database file; how many there are in it.

        PASSIVE waits for nobody and lets nobody wait. The log begins anew, in the same file,
        with the next commit after one that finds all of it copied.
        """
        _busy, pages, _copied = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        return int(pages)

    def translate(self, exc: BaseException) -> BaseException:
        """SQLITE_FULL becomes DiskFull."""
        # Only errors of the library have a name, not those of Python's module around it.
        name = getattr(exc, "sqlite_errorname", "") if isinstance(exc, sqlite3.Error) else ""
        return DiskFull(str(exc)) if name in ("SQLITE_FULL", "SQLITE_IOERR_WRITE") else exc


class PostgreSQLBackend(Backend):
    """PostgreSQL through psycopg, for those who outgrow one machine."""

    begin_write = "BEGIN ISOLATION LEVEL READ COMMITTED"
    begin_read = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"

    def connect(self, *, readonly: bool) -> Any:
        """Connect in autocommit mode; transactions are opened by name."""
        fairy = self.engine.raw_connection()
        connection: Any = fairy.driver_connection
        fairy.detach()
        connection.autocommit = True
        return connection


def open_backend(url: str) -> Backend:
    """The backend for a database URL. Raises StoreError for an unknown kind."""
    try:
        engine = sa.create_engine(url)
    except (sa.exc.ArgumentError, sa.exc.NoSuchModuleError, ImportError) as exc:
        raise StoreError(f"database URL: {exc}") from exc
    if engine.dialect.name == "sqlite":
        return SQLiteBackend(engine)
    if engine.dialect.name == "postgresql":
        return PostgreSQLBackend(engine)
    raise StoreError(f"database kind {engine.dialect.name!r} is not supported")
