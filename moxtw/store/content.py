"""The bytes of messages: received into a spool, kept once, read in pieces.

Content of up to `SMALL` bytes is a row in the database; larger content is a file below
``data/content``, written and synced before the transaction that refers to it commits. A
content's row also keeps what lists and searches ask for (see `moxtw.mail.parsed`). Messages
and queue entries refer to contents; what nothing refers to any more is removed.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import threading
import time
from typing import IO, TYPE_CHECKING, Final

import sqlalchemy as sa
from sqlalchemy import bindparam
from twisted.internet.defer import Deferred, DeferredSemaphore, fail, succeed
from twisted.python.failure import Failure

from moxtw.log import Logger
from moxtw.mail.mime import parse_message
from moxtw.mail.parsed import PARSE_VERSION, ParsedMessage, analyse
from moxtw.mail.sortkeys import SortKeys
from moxtw.mail.text import search_text
from moxtw.store.db import Store
from moxtw.store.errors import DiskFull, NoContent, StoreError
from moxtw.store.schema import content_data, content_text, contents, messages
from moxtw.store.schema_keys import content_keys, keys_due
from moxtw.store.schema_queue import queue_sources
from moxtw.store.tx import Statement, Tx

if TYPE_CHECKING:
    from twisted.internet.base import DelayedCall

_log = Logger("store")

SMALL: Final = 64 * 1024
# Longer text is not written a second time, for searches; they decode it from the content.
KEPT_TEXT: Final = 64 * 1024
# What is cut at this length is above that one.
TEXT_LIMIT: Final = KEPT_TEXT + 64
# Small content that may take long to parse all the same is parsed in a thread: above the first
# size, if its header is longer than the second or it has parts.
_QUICK: Final = 16 * 1024
_QUICK_HEADER: Final = 8 * 1024
# What a spool gathers before it gives the bytes to a thread to write: most messages need to be
# written only once, when they are complete.
_WRITE_SIZE: Final = 1_200_000
# Above this many bytes in all spools together, they gather no more than small contents.
_BUDGET: Final = 64 * 1024 * 1024
# Above this, only one message is parsed at a time.
PARSE_TOGETHER: Final = 4 * 1024 * 1024
# Leftover temporary files and content files without a row are removed at this age (seconds).
_TMP_AGE: Final = 7 * 86400
_ORPHAN_AGE: Final = 3600


class Spooled:
    """A complete message, digested and parsed, that can be given to messages and queue rows.

    `data` holds small content; larger content lies synced in the file `path`. Until a job
    has stored it, `discard` removes it again.
    """

    __slots__ = ("content_id", "data", "digest", "file", "parsed", "path", "size", "stored")

    def __init__(
        self,
        size: int,
        digest: bytes,
        data: bytes | None,
        file: str | None,
        path: str | None,
        parsed: ParsedMessage,
    ) -> None:
        self.size = size
        self.digest = digest
        self.data = data
        self.file = file
        self.path = path
        self.parsed = parsed
        # Whether a committed transaction refers to it; then the file must stay.
        self.stored = False

    def read(self, start: int, length: int) -> bytes:
        """Bytes of the content; reads a file, so for use off the reactor if large."""
        if self.data is not None:
            return self.data[start : start + length]
        assert self.path is not None
        with open(self.path, "rb") as f:
            f.seek(start)
            return f.read(length)

    def discard(self) -> None:
        """Remove the file if nothing came to refer to it."""
        if self.path is not None and not self.stored:
            _unlink(self.path)


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
    except OSError as exc:
        _log.error("removing content file", path=path, err=exc)


def _disk_error(exc: OSError) -> BaseException:
    if exc.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(str(exc))
    return exc


# Up to this size, hashlib keeps the interpreter's lock.
_HASH_PIECE: Final = 2047


def _digest(data: bytes) -> bytes:
    """SHA-256 of small content, without giving the interpreter away on the way.

    To get it back from a busy writer takes longer than the whole hash.
    """
    hashed = hashlib.sha256(data[:_HASH_PIECE])
    if len(data) > _HASH_PIECE:
        view = memoryview(data)
        for start in range(_HASH_PIECE, len(data), _HASH_PIECE):
            hashed.update(view[start : start + _HASH_PIECE])
    return hashed.digest()


class Spool:
    """The receiving end for the bytes of one message.

    Up to `_WRITE_SIZE` bytes gather in memory, then they go to a file, written in a thread,
    one piece at a time.
    """

    def __init__(self, parent: Contents) -> None:
        self._contents = parent
        self._chunks: list[bytes] = []
        self._pending = 0
        self.size = 0
        self._file: IO[bytes] | None = None
        self._name = ""
        self._path = ""
        self._hash = hashlib.sha256()
        self._busy = False
        self._waiters: list[Deferred[None]] = []
        self._error: BaseException | None = None
        self._dropped = False

    def write(self, data: bytes) -> Deferred[None] | None:
        """Take bytes. None: go on; a Deferred: stop reading until it fires.

        It fails with DiskFull when the disk is full, and with OSError for other faults.
        """
        if self._error is not None:
            return fail(self._error)
        size = len(data)
        self._chunks.append(data)
        self._pending += size
        self.size += size
        self._contents.pending += size
        if self._pending < _WRITE_SIZE and (
            self._pending <= SMALL or self._contents.pending <= _BUDGET
        ):
            return None
        return self._flush()

    def _flush(self) -> Deferred[None]:
        """Fires when all bytes so far are in the file."""
        waiter: Deferred[None] = Deferred()
        self._waiters.append(waiter)
        if not self._busy:
            self._next_piece()
        return waiter

    def _take(self) -> list[bytes]:
        """What waits in memory, which is no longer counted as waiting."""
        chunks, self._chunks = self._chunks, []
        self._contents.pending -= self._pending
        self._pending = 0
        return chunks

    def _next_piece(self) -> None:
        chunks = self._take()
        waiters, self._waiters = self._waiters, []
        self._busy = True
        self._contents.store.disk(lambda: self._write_out(chunks)).addBoth(
            self._piece_done, waiters
        )

    def _write_out(self, chunks: list[bytes]) -> None:
        """Append to the file; runs in a thread."""
        if self._file is None:
            self._name, self._path = self._contents.new_file()
            self._file = open(self._path, "xb", buffering=0)  # noqa: SIM115
        for chunk in chunks:
            self._hash.update(chunk)
            view = memoryview(chunk)
            while view:
                view = view[self._file.write(view) :]

    def _piece_done(self, result: object, waiters: list[Deferred[None]]) -> None:
        self._busy = False
        if isinstance(result, Failure):
            error = result.value
            self._error = _disk_error(error) if isinstance(error, OSError) else error
            self._cleanup()
            waiters += self._waiters
            self._waiters = []
            for waiter in waiters:
                waiter.errback(self._error)
            return
        if self._dropped:
            self._cleanup()
        elif self._waiters:
            self._next_piece()
        for waiter in waiters:
            waiter.callback(None)

    async def finish(self) -> Spooled:
        """The complete message: written and synced if large, digested and parsed.

        Raises DiskFull, or OSError for other faults; the spool is discarded then.
        """
        while self._busy:
            await self._flush()
        if self._error is not None:
            raise self._error
        store = self._contents.store
        if self.size <= SMALL:
            return await self._contents.from_bytes(b"".join(self._take()))
        self._busy = True
        chunks = self._take()
        try:
            parsed = await store.disk(lambda: self._complete(chunks))
            if parsed is None:
                path = self._path
                parsed = await self._contents.parsing.run(
                    store.disk, lambda: _parse_file(path)
                )
        except BaseException as exc:
            self._busy = False
            self._cleanup()
            if isinstance(exc, OSError):
                raise _disk_error(exc) from exc
            raise
        return Spooled(self.size, self._hash.digest(), None, self._name, self._path, parsed)

    def _complete(self, chunks: list[bytes]) -> ParsedMessage | None:
        """Write what is left, sync, and parse unless that needs much memory; in a thread."""
        whole = b"".join(chunks) if self._file is None else None
        self._write_out(chunks if whole is None else [whole])
        assert self._file is not None
        os.fsync(self._file.fileno())
        self._file.close()
        sync_directory(os.path.dirname(self._path))
        if whole is not None:
            return analyse(whole, TEXT_LIMIT)
        return _parse_file(self._path) if self.size <= PARSE_TOGETHER else None

    def discard(self) -> None:
        """Drop everything."""
        self._dropped = True
        self._take()
        if not self._busy:
            self._cleanup()

    def _cleanup(self) -> None:
        file, self._file = self._file, None
        self._take()
        if file is not None:
            file.close()
            _unlink(self._path)


def _is_quick(data: bytes) -> bool:
    """Whether small content can be parsed on the reactor's thread without others waiting."""
    if len(data) <= _QUICK:
        return True
    end = data.find(b"\r\n\r\n", 0, _QUICK_HEADER)
    if end < 0:
        return False
    header = data[:end].lower()
    return b"multipart/" not in header and b"message/" not in header


def _parse_file(path: str) -> ParsedMessage:
    # Read, not mapped: the parser wants bytes, and a mapping would be in memory beside them.
    with open(path, "rb") as f:
        return analyse(f.read(), TEXT_LIMIT)


class Contents:
    """Content files of a store, and the way in for new content."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.directory = os.path.join(store.data_dir, "content")
        self.tmp = os.path.join(store.data_dir, "tmp")
        # Bytes that wait in the memory of all spools.
        self.pending = 0
        # Big messages are parsed one at a time, so that memory stays bounded.
        self.parsing = DeferredSemaphore(1)
        self._cleanup: DelayedCall | None = None
        # While somebody copies what an older state of the database refers to (`hold`): how
        # many do, and the files to remove afterwards. Files are removed by several threads.
        self._holds = 0
        self._held: list[str] = []
        self._hold_lock = threading.Lock()

    def prepare(self) -> None:
        """Make the directories."""
        for path in (self.directory, self.tmp):
            os.makedirs(path, mode=0o750, exist_ok=True)

    def start(self) -> None:
        """Begin removing leftovers of crashes, a little after the start."""
        self._cleanup = self.store.reactor.callLater(5, self._remove_leftovers)

    def stop(self) -> None:
        """Stop what `start` began."""
        if self._cleanup is not None and self._cleanup.active():
            self._cleanup.cancel()
        self._cleanup = None

    def new_file(self) -> tuple[str, str]:
        """A new name below the content directory and its full path."""
        token = secrets.token_hex(16)
        name = f"{token[:2]}/{token}"
        directory = os.path.join(self.directory, token[:2])
        if not os.path.isdir(directory):
            os.makedirs(directory, mode=0o750, exist_ok=True)
            sync_directory(self.directory)
        return name, os.path.join(directory, token)

    def spool(self) -> Spool:
        """A place to receive a message."""
        return Spool(self)

    def from_bytes_now(self, data: bytes) -> Spooled:
        """Small content, digested and parsed at once. Raises ValueError over `SMALL` bytes.

        For what comes from outside there is `from_bytes`.
        """
        if len(data) > SMALL:
            raise ValueError("content is too large to be handled at once")
        return Spooled(len(data), _digest(data), data, None, None, analyse(data))

    def from_bytes(self, data: bytes) -> Deferred[Spooled]:
        """Content of any size. The Deferred has fired if it is parsed quickly."""
        if len(data) <= SMALL:
            if _is_quick(data):
                return succeed(self.from_bytes_now(data))
            return self.store.disk(lambda: self.from_bytes_now(data))
        spool = self.spool()
        written = spool.write(data)

        async def run() -> Spooled:
            if written is not None:
                await written
            return await spool.finish()

        return Deferred.fromCoroutine(run())

    def path(self, file: str) -> str:
        """The full path of a content file's name."""
        return os.path.join(self.directory, file)

    def remove_file(self, file: str) -> None:
        """Remove a content file by name, after the transaction that let go of it."""
        with self._hold_lock:
            if self._holds:
                self._held.append(file)
                return
        _unlink(self.path(file))

    def hold(self) -> None:
        """Keep all content files until `unhold`, those too that nothing refers to any more.

        If the process ends before, they are found as leftovers.
        """
        with self._hold_lock:
            self._holds += 1

    def unhold(self) -> None:
        """End what `hold` began, and remove what was kept. Blocks."""
        with self._hold_lock:
            self._holds -= 1
            if self._holds:
                return
            held, self._held = self._held, []
        for file in held:
            _unlink(self.path(file))

    def _remove_leftovers(self) -> None:
        self._cleanup = None

        async def run() -> None:
            found = await self.store.run(self._old_files, time.time())
            for start in range(0, len(found), 500):
                names = found[start : start + 500]
                known = await self.store.read(
                    lambda tx, n=names: {  # type: ignore[misc]
                        name for name in n if tx.value(_BY_FILE, file=name) is not None
                    }
                )
                for name in names:
                    if name not in known:
                        _log.warn("removing content file without a row", file=name)
                        self.remove_file(name)

        def failed(failure: object) -> None:
            from moxtw.store.errors import StoreClosed

            if not failure.check(StoreClosed):  # type: ignore[attr-defined]
                _log.failure("removing leftover files", failure)  # type: ignore[arg-type]

        Deferred.fromCoroutine(run()).addErrback(failed)

    def _old_files(self, now: float) -> list[str]:
        """Names of content files old enough that a transaction in flight can't want them."""
        found = []
        for entry in os.scandir(self.tmp):
            if entry.is_file() and entry.stat().st_mtime < now - _TMP_AGE:
                _unlink(entry.path)
        for directory in os.scandir(self.directory):
            if directory.is_dir():
                for entry in os.scandir(directory.path):
                    if entry.stat().st_mtime < now - _ORPHAN_AGE:
                        found.append(f"{directory.name}/{entry.name}")
        return found


def sync_directory(path: str) -> None:
    """Make names in a directory durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


# -- Rows ----------------------------------------------------------------------------------

_INSERT = Statement(
    contents.insert()
    .values(
        {
            name: bindparam(name)
            for name in (
                "id",
                "size",
                "digest",
                "file",
                "created",
                "parse_version",
                "envelope",
                "body",
                "bodystructure",
                "preview",
                "sent",
                "sent_zone",
                "tree",
            )
        }
    )
)
_INSERT_DATA = Statement(
    content_data.insert().values(content_id=bindparam("content_id"), data=bindparam("data"))
)
_INSERT_TEXT = Statement(
    content_text.insert().values(
        content_id=bindparam("content_id"), header=bindparam("header"), body=bindparam("body")
    )
)
_INSERT_KEYS = Statement(
    content_keys.insert().values(
        {column.name: bindparam(column.name) for column in content_keys.columns}
    )
)
_BY_FILE = Statement(sa.select(contents.c.id).where(contents.c.file == bindparam("file")).limit(1))
_INFO = Statement(
    sa.select(contents.c.size, contents.c.file).where(contents.c.id == bindparam("id"))
)
_DATA = Statement(
    sa.select(content_data.c.data).where(content_data.c.content_id == bindparam("id"))
)
_DATA_RANGE = Statement(
    sa.select(sa.func.substr(content_data.c.data, bindparam("start"), bindparam("length"))).where(
        content_data.c.content_id == bindparam("id")
    )
)
_TREE = Statement(sa.select(contents.c.tree).where(contents.c.id == bindparam("id")))
_DELETE = [
    Statement(keys_due.delete().where(keys_due.c.content_id == bindparam("id"))),
    Statement(content_keys.delete().where(content_keys.c.content_id == bindparam("id"))),
    Statement(content_text.delete().where(content_text.c.content_id == bindparam("id"))),
    Statement(content_data.delete().where(content_data.c.content_id == bindparam("id"))),
    Statement(contents.delete().where(contents.c.id == bindparam("id"))),
]

# The tables that refer to contents. All stand here, so that a program that has nothing to do
# with the queue sees what waits there.
REFERRING: Final = (messages, queue_sources)
referrers: Final = tuple(
    Statement(sa.select(table.c.id).where(table.c.content_id == bindparam("id")).limit(1))
    for table in REFERRING
)


def save(tx: Tx, spooled: Spooled, saved: dict[int, int]) -> int:
    """Write a content's rows, once per transaction; returns its id.

    `saved` remembers, by identity of the spooled content, what this job has written already.
    """
    known = saved.get(id(spooled))
    if known is not None:
        return known
    parsed = spooled.parsed
    content_id = tx.new_id()
    tx.run(
        _INSERT,
        id=content_id,
        size=spooled.size,
        digest=spooled.digest,
        file=spooled.file,
        created=tx.now,
        parse_version=PARSE_VERSION,
        envelope=parsed.envelope,
        body=parsed.body,
        bodystructure=parsed.bodystructure,
        preview=parsed.preview,
        sent=parsed.date,
        sent_zone=parsed.date_zone,
        tree=parsed.tree,
    )
    if spooled.data is not None:
        tx.run(_INSERT_DATA, content_id=content_id, data=spooled.data)
    body = parsed.body_text
    tx.run(
        _INSERT_TEXT,
        content_id=content_id,
        header=parsed.header_text,
        body=body if len(body) <= KEPT_TEXT else None,
    )
    save_keys(tx, content_id, parsed.date, parsed.keys)
    tx.stored.append(spooled)
    saved[id(spooled)] = content_id
    return content_id


def save_keys(tx: Tx, content_id: int, sent: int | None, keys: SortKeys) -> None:
    """Write what a content is sorted by, for which there must be no row yet."""
    tx.run(
        _INSERT_KEYS,
        content_id=content_id,
        sent=sent,
        subject=keys.subject,
        from_=keys.from_,
        to_=keys.to,
        cc=keys.cc,
        display_from=keys.display_from,
        display_to=keys.display_to,
        thread=keys.thread,
    )


def info(tx: Tx, content_id: int) -> tuple[int, str | None]:
    """Size in bytes and the file's path, None for content kept as a row."""
    row = tx.one(_INFO, id=content_id)
    if row is None:
        raise NoContent(f"content {content_id} is missing")
    return row[0], None if row[1] is None else tx.store.contents.path(row[1])


def tree(tx: Tx, content_id: int) -> bytes:
    """The packed MIME tree."""
    packed: bytes | None = tx.value(_TREE, id=content_id)
    if packed is None:
        raise NoContent(f"content {content_id} is missing")
    return packed


def read(tx: Tx, content_id: int, start: int = 0, length: int | None = None) -> bytes:
    """Bytes of a content. Raises NoContent when they are missing or cut off."""
    if start == 0 and length is None:
        data = tx.value(_DATA, id=content_id)
    else:
        data = tx.value(
            _DATA_RANGE,
            id=content_id,
            start=start + 1,
            length=0x7FFFFFFF if length is None else max(length, 0),
        )
    if data is not None:
        return bytes(data)
    size, path = info(tx, content_id)
    if path is None:
        raise NoContent(f"content {content_id} has no data")
    wanted = size - start if length is None else min(length, size - start)
    if wanted <= 0:
        return b""
    try:
        with open(path, "rb") as f:
            f.seek(start)
            data = f.read(wanted)
    except OSError as exc:
        raise NoContent(f"content {content_id}: {exc}") from exc
    if len(data) != wanted:
        raise NoContent(f"content {content_id} is cut off")
    return data


def header_section(tx: Tx, content_id: int) -> bytes:
    """The header section of a content, with more or less behind it."""
    size = 16 * 1024
    while True:
        data = read(tx, content_id, 0, size)
        if len(data) < size or b"\r\n\r\n" in data or size >= 16 * 1024 * 1024:
            return data
        size *= 8


def body_text(tx: Tx, content_id: int) -> bytes:
    """The text for searches of a content for which it is not kept; reads all of it."""
    data = read(tx, content_id)
    return search_text(parse_message(data), data)[1]


def release(tx: Tx, content_id: int) -> None:
    """Remove a content that nothing refers to any more."""
    for statement in referrers:
        if tx.value(statement, id=content_id) is not None:
            return
    row = tx.one(_INFO, id=content_id)
    if row is None:
        return
    tx.store.backend.text_index.forget_content(tx, content_id)
    for statement in _DELETE:
        tx.run(statement, id=content_id)
    if row[1] is not None:
        tx.unlink.append(row[1])


def verify(tx: Tx, content_id: int, chunk: int = 1 << 20) -> str | None:
    """Compare a content with its size and digest; a text says what is wrong."""
    row = tx.one(_VERIFY, id=content_id)
    if row is None:
        return f"content {content_id} is missing"
    size, digest, file = row
    hashed = hashlib.sha256()
    try:
        if file is None:
            data = read(tx, content_id)
            hashed.update(data)
            length = len(data)
        else:
            length = 0
            with open(tx.store.contents.path(file), "rb") as f:
                while data := f.read(chunk):
                    hashed.update(data)
                    length += len(data)
    except (StoreError, OSError) as exc:
        return f"content {content_id}: {exc}"
    if length != size:
        return f"content {content_id} has {length} bytes, its row says {size}"
    if hashed.digest() != digest:
        return f"content {content_id} differs from its digest"
    return None


_VERIFY = Statement(
    sa.select(contents.c.size, contents.c.digest, contents.c.file).where(
        contents.c.id == bindparam("id")
    )
)

