"""Carrying out an export: bytes as they are to go out, piece by piece, with constant memory."""

from __future__ import annotations

import tempfile
from array import array
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Final

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from moxtw.admin.exports.containers import Container
from moxtw.log import Logger
from moxtw.mail import maildir, mbox
from moxtw.store import exportdb, mailboxes, messages
from moxtw.store.db import Store
from moxtw.store.errors import StoreError
from moxtw.store.exportdb import ExportRow
from moxtw.store.flagnames import flag_names
from moxtw.store.model import Mailbox
from moxtw.store.tx import Tx

log = Logger("export")

# What is read at a time.
_MESSAGES: Final = 64
_BYTES: Final = 1 << 20
_PIECE: Final = 1 << 19
_MAX_ERRORS: Final = 10_000
_NICE: Final = {word.lower(): word for word in maildir.FIXED_KEYWORDS}


@dataclass(frozen=True, slots=True)
class Part:
    """What becomes one mbox or maildir: its name, messages by id, keywords."""

    name: str
    ids: array[int]
    keywords: tuple[str, ...]


def select(
    tx: Tx, account_id: int, mailbox: str, *, recursive: bool
) -> list[tuple[str, Mailbox]]:
    """The mailboxes to export, with the names that they get; all for ''.

    Without `recursive` only the one named. Raises NoSuchMailbox.
    """
    if not mailbox:
        return [(each.name, each) for each in mailboxes.all(tx, account_id)]
    top = mailboxes.named(tx, account_id, mailbox)
    skip = len(mailbox) - len(mailbox.rpartition("/")[2])
    found = [top]
    if recursive:
        below = mailbox + "/"
        found += [m for m in mailboxes.all(tx, account_id) if m.name.startswith(below)]
    return [(each.name[skip:], each) for each in found]


@dataclass
class Export:
    """An export of an account. kind: "mbox" or "maildir"."""

    store: Store
    account_id: int
    kind: str

    def __post_init__(self) -> None:
        self.errors: list[str] = []
        self.messages = 0

    async def mailboxes(
        self, container: Container, found: Sequence[tuple[str, Mailbox]]
    ) -> AsyncIterator[bytes]:
        """An archive of mailboxes."""
        for name, mailbox in found:
            ids = await self._ids(mailbox)
            async for piece in self._part(container, Part(name, ids, mailbox.keywords)):
                yield piece
        async for piece in self._end(container):
            yield piece

    async def selection(self, container: Container, wanted: array[int]) -> AsyncIterator[bytes]:
        """An archive of messages by id, as mailbox Export."""
        part = await self._selected(wanted)
        async for piece in self._part(container, part):
            yield piece
        async for piece in self._end(container):
            yield piece

    async def single(self, mailbox: Mailbox | None, wanted: array[int]) -> AsyncIterator[bytes]:
        """One mbox as it is, of a mailbox, or of messages by id."""
        if mailbox is None:
            part = await self._selected(wanted)
        else:
            part = Part(mailbox.name, await self._ids(mailbox), mailbox.keywords)
        async for piece in self._mbox(part):
            yield piece

    async def _ids(self, mailbox: Mailbox) -> array[int]:
        return await self.store.read(lambda tx: exportdb.ids(tx, mailbox.id))

    async def _selected(self, wanted: array[int]) -> Part:
        keywords: set[str] = set()
        order: list[tuple[int, int]] = []
        for start in range(0, len(wanted), _MESSAGES):
            some = wanted[start : start + _MESSAGES]
            rows = await self.store.read(
                lambda tx, some=some: exportdb.rows(tx, self.account_id, some)  # type: ignore[misc]
            )
            there = {row.id for row in rows}
            for each in some:
                if each not in there:
                    self._error(f"message {each}: not found")
            for row in rows:
                keywords.update(row.keywords.split())
                order.append((row.received, row.id))
        ids = array("q", [message_id for _, message_id in sorted(set(order))])
        return Part("Export", ids, tuple(sorted(keywords)))

    def _error(self, text: str) -> None:
        log.warn("export: message left out", err=text)
        if len(self.errors) < _MAX_ERRORS:
            self.errors.append(text)

    # -- Messages ------------------------------------------------------------------------

    async def _read(
        self, part: Part
    ) -> AsyncIterator[list[tuple[ExportRow, bytes | None]]]:
        """Messages of a part in batches; the bytes of large ones are left to be read."""
        at = 0
        while at < len(part.ids):
            some = part.ids[at : at + _MESSAGES]
            batch, errors, taken = await self.store.read(
                lambda tx, some=some: _batch(tx, self.account_id, some)  # type: ignore[misc]
            )
            at += taken
            for text in errors:
                self._error(f"{part.name}: {text}")
            self.messages += len(batch)
            yield batch

    async def _large(self, row: ExportRow) -> IO[bytes] | None:
        """A large message, with LF as line ends, in a file; None if it cannot be read."""
        run = self.store.run
        file: IO[bytes] = await run(_temporary, self.store.contents.tmp)
        try:
            at, held = 0, b""
            while at < row.size:
                data = await self.store.read(
                    lambda tx, at=at: messages.read_parts(  # type: ignore[misc]
                        tx, row.content_id, row.prefix, at, _PIECE
                    )
                )
                if not data:
                    break
                at += len(data)
                data = held + data
                held = data[-1:] if data.endswith(b"\r") else b""
                await run(file.write, data[: len(data) - len(held)].replace(b"\r\n", b"\n"))
            await run(file.write, held)
        except StoreError as exc:
            self._error(f"message {row.id}: {exc}")
            await run(file.close)
            return None
        except BaseException:
            file.close()
            raise
        return file

    # -- mbox ----------------------------------------------------------------------------

    async def _mbox(self, part: Part) -> AsyncIterator[bytes]:
        run = self.store.run
        async for batch in self._read(part):
            small: list[tuple[ExportRow, bytes]] = []
            for row, data in batch:
                if data is not None:
                    small.append((row, data))
                    continue
                if small:
                    yield await run(_mbox_messages, small)
                    small = []
                file = await self._large(row)
                if file is None:
                    continue
                try:
                    yield _mbox_head(row)
                    async for piece in self._quoted(file):
                        yield piece
                finally:
                    file.close()
            if small:
                yield await run(_mbox_messages, small)

    async def _quoted(self, file: IO[bytes]) -> AsyncIterator[bytes]:
        run = self.store.run
        await run(file.seek, 0)
        begun, held, last = True, b"", b""
        while data := await run(file.read, _PIECE):
            data = held + data
            cut = data.rfind(b"\n") + 1
            if cut == 0 and len(data) < _PIECE:
                held = data
                continue
            # The end of a line, of which it is not yet known whether it needs a quote.
            cut = cut or len(data)
            data, held = data[:cut], data[cut:]
            yield mbox.quote(data, begun)
            begun, last = data.endswith(b"\n"), data[-1:]
        if held:
            yield mbox.quote(held, begun)
            last = held[-1:]
        yield b"\n" if last in (b"\n", b"") else b"\n\n"

    # -- Parts in containers -------------------------------------------------------------

    async def _part(self, container: Container, part: Part) -> AsyncIterator[bytes]:
        if self.kind == "mbox":
            async for piece in self._mbox_member(container, part):
                yield piece
        else:
            async for piece in self._maildir(container, part):
                yield piece

    async def _mbox_member(self, container: Container, part: Part) -> AsyncIterator[bytes]:
        # Its size has to be known before it goes out.
        run = self.store.run
        file: IO[bytes] = await run(_temporary, self.store.contents.tmp)
        try:
            async for piece in self._mbox(part):
                await run(file.write, piece)
            async for piece in self._file(container, f"{part.name}.mbox", file):
                yield piece
        finally:
            file.close()

    async def _file(
        self, container: Container, name: str, file: IO[bytes], modified: int = 0
    ) -> AsyncIterator[bytes]:
        """A member with what a file holds."""
        run = self.store.run
        size = await run(file.tell)
        await run(file.seek, 0)
        yield container.start(name, size, modified or self.store.now() // 1_000_000)
        while data := await run(file.read, _PIECE):
            yield await run(container.write, data)
        yield await run(container.stop)

    async def _maildir(self, container: Container, part: Part) -> AsyncIterator[bytes]:
        run = self.store.run
        words = [*maildir.FIXED_KEYWORDS, *part.keywords]
        if len(words) > maildir.MAX_KEYWORDS:
            left = " ".join(words[maildir.MAX_KEYWORDS :])
            self._error(f"{part.name}: a maildir cannot have more keywords, left out: {left}")
            words = words[: maildir.MAX_KEYWORDS]
        letters = maildir.letters_for(words)
        now = self.store.now() // 1_000_000
        head = b"".join(
            container.start(f"{part.name}/{name}/", 0, now) + container.stop()
            for name in ("new", "cur", "tmp")
        )
        name = f"{part.name}/{maildir.KEYWORDS_FILE}"
        yield head + _member(container, name, maildir.format_keywords(words), now)
        async for batch in self._read(part):
            small: list[tuple[ExportRow, bytes]] = []
            for row, data in batch:
                if data is not None:
                    small.append((row, data))
                    continue
                file = await self._large(row)
                if file is not None:
                    name = _maildir_name(part.name, row, letters)
                    try:
                        when = row.received // 1_000_000
                        async for piece in self._file(container, name, file, when):
                            yield piece
                    finally:
                        file.close()
            if small:
                yield await run(_maildir_messages, container, part.name, small, letters)

    async def _end(self, container: Container) -> AsyncIterator[bytes]:
        if self.errors:
            data = "".join(text + "\n" for text in self.errors).encode()
            yield _member(container, "errors.txt", data, self.store.now() // 1_000_000)
        data = await self.store.run(container.finish)
        for start in range(0, len(data), _PIECE):
            yield data[start : start + _PIECE]


def _temporary(directory: str) -> IO[bytes]:
    return tempfile.TemporaryFile(dir=directory, prefix="export")


def _batch(
    tx: Tx, account_id: int, wanted: Sequence[int]
) -> tuple[list[tuple[ExportRow, bytes | None]], list[str], int]:
    """Some messages with their bytes, what is wrong with others, and how many ids that was."""
    found: list[tuple[ExportRow, bytes | None]] = []
    errors: list[str] = []
    size = taken = 0
    for message_id in wanted:
        taken += 1
        for row in exportdb.rows(tx, account_id, [message_id]):
            if row.size > _BYTES:
                found.append((row, None))
                continue
            try:
                data = messages.read_parts(tx, row.content_id, row.prefix)
            except StoreError as exc:
                errors.append(f"message {row.id}: {exc}")
                continue
            found.append((row, data))
            size += row.size
        if size >= _BYTES:
            break
    return found, errors, taken


def _names(row: ExportRow) -> list[str]:
    return [_NICE.get(name, name) for name in flag_names(row.flags, row.keywords)]


def _mbox_head(row: ExportRow) -> bytes:
    return mbox.from_line(row.mail_from, row.received) + mbox.status_fields(_names(row))


def _mbox_messages(batch: list[tuple[ExportRow, bytes]]) -> bytes:
    parts = []
    for row, data in batch:
        text = mbox.quote(data)
        parts += [_mbox_head(row), text, b"\n" if text.endswith(b"\n") or not text else b"\n\n"]
    return b"".join(parts)


def _maildir_name(part: str, row: ExportRow, letters: dict[str, str]) -> str:
    folder, name = maildir.format_name(
        row.received, row.id, flag_names(row.flags, row.keywords), letters
    )
    return f"{part}/{folder}/{name}"


def _member(container: Container, name: str, data: bytes, modified: int) -> bytes:
    return container.start(name, len(data), modified) + container.write(data) + container.stop()


def _maildir_messages(
    container: Container,
    part: str,
    batch: list[tuple[ExportRow, bytes]],
    letters: dict[str, str],
) -> bytes:
    return b"".join(
        _member(
            container,
            _maildir_name(part, row, letters),
            data.replace(b"\r\n", b"\n"),
            row.received // 1_000_000,
        )
        for row, data in batch
    )


def all_of(pieces: AsyncIterator[bytes]) -> Iterator[bytes]:
    """The pieces of an export from a store that works at once. Raises what the export raises."""
    while True:
        results: list[bytes | Failure] = []
        Deferred.fromCoroutine(_next(pieces)).addBoth(results.append)
        (result,) = results
        if not isinstance(result, Failure):
            yield result
        elif result.check(_End):
            return
        else:
            result.raiseException()


class _End(Exception):
    pass


async def _next(pieces: AsyncIterator[bytes]) -> bytes:
    try:
        return await anext(pieces)
    except StopAsyncIteration as exc:
        raise _End from exc
