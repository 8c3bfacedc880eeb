"""Carrying out an import: in many small jobs, so that others do not wait.

Each job adds some messages and notes how far the import is. So after a crash the same import
goes on where it was, without a message twice; one that fails or is aborted is taken back.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from twisted.internet.defer import Deferred

from moxtw.admin.imports.archive import ArchiveError
from moxtw.admin.imports.items import Folder, Found, Item, Problem, Source, read
from moxtw.log import Logger
from moxtw.mail.mbox import MboxError
from moxtw.store import accounts, importsdb, mailboxes, messages
from moxtw.store.db import Store
from moxtw.store.errors import (
    InvalidMailboxName,
    MailboxExists,
    NoSuchAccount,
    NoSuchMailbox,
    StoreError,
    TooMany,
)
from moxtw.store.importsdb import ImportState
from moxtw.store.model import NewMessage
from moxtw.store.tx import Tx

log = Logger("import")

# What one job adds.
_MESSAGES: Final = 64
_BYTES: Final = 1 << 20
# A batch is given up waiting for, to let others have the thread, after so many seconds.
_SECONDS: Final = 0.5
_MAX_KEYWORDS: Final = 900
_MAX_PROBLEMS: Final = 1000


class ImportFailed(Exception):
    """An import that cannot be carried out; the message is for whoever began it."""


class Aborted(Exception):
    """Somebody asked for the end of the import."""


@dataclass(frozen=True, slots=True)
class Event:
    """Progress: kind is count, problem, step, done or aborted.

    count: `mailbox` has `count` messages so far. problem, step: `text` for people.
    """

    kind: str
    text: str = ""
    mailbox: str = ""
    count: int = 0


@dataclass
class Import:
    """An import under way. `events` is told of progress; `stop` is looked at between jobs.

    quota: most bytes of the account, 0 for no limit.
    """

    store: Store
    account_id: int
    source: Source
    token: str
    quota: int
    events: Callable[[Event], object]
    stopped: str = ""
    position: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    resumed: int = 0
    problems: int = 0
    _made: dict[int, None] = field(default_factory=dict)
    _ids: dict[str, int] = field(default_factory=dict)
    _keywords: dict[str, set[str]] = field(default_factory=dict)

    def stop(self, how: str) -> None:
        """End it soon: "abort" takes back what it added, "leave" lets it be continued."""
        if self.stopped != "abort":
            self.stopped = how

    async def run(self) -> None:
        """Carry it out. Raises ImportFailed, Aborted; what was added is taken back then.

        When it is stopped to be continued, or the store fails, what was added stays.
        """
        try:
            await self._run()
        except (ArchiveError, MboxError, _Refused) as exc:
            await self.undo()
            raise ImportFailed(str(exc)) from exc
        except OSError as exc:
            await self.undo()
            raise ImportFailed(f"{self.source.name}: {exc.strerror or exc}") from exc
        except Aborted:
            if self.stopped == "abort":
                await self.undo()
            raise

    async def _run(self) -> None:
        store, source = self.store, self.source
        self.events(Event("step", "looking at what is to be imported"))
        digest = await store.run(source.digest)
        self._check()
        await store.run(source.scan)
        self._check()
        state = await store.write(
            lambda tx: importsdb.begin(tx, self.account_id, digest, self.token)
        )
        self.position, self.counts = state.position, dict(state.counts)
        self.resumed = state.position
        self._made = dict.fromkeys(state.made)
        if self.resumed:
            self.events(Event("step", f"going on after {self.resumed} messages"))
            for mailbox, count in self.counts.items():
                self.events(Event("count", mailbox=mailbox, count=count))
        else:
            self.events(Event("step", "importing messages"))
        found = read(source, store.contents, self.resumed)
        ahead: Deferred[tuple[list[Found], bool]] | None = store.run(_batch, found)
        try:
            while ahead is not None:
                current, ahead = ahead, None
                batch, more = await current
                self._check(batch)
                if more:
                    # The next messages are read while these are written.
                    ahead = store.run(_batch, found)
                state = await self._add(state, batch)
        finally:
            if ahead is not None:
                await _settled(ahead)
            await store.run(_close, found)
        self._check()
        self.events(Event("step", "training the junk filter goes on in the background"))
        await store.write(lambda tx: importsdb.forget(tx, self.token))

    def _check(self, batch: list[Found] | None = None) -> None:
        if self.stopped:
            for item in batch or ():
                _discard(item)
            raise Aborted

    async def _add(self, state: ImportState, batch: list[Found]) -> ImportState:
        """Write a batch in one job, and tell of it."""
        items: list[Item] = []
        folders: list[str] = []
        position = state.position
        for found in batch:
            if isinstance(found, Problem):
                self._problem(found.text)
            elif isinstance(found, Folder):
                if found.mailbox not in self._ids:
                    folders.append(found.mailbox)
            else:
                position = max(position, found.number)
                if found.content is not None:
                    self._limit_keywords(found)
                    items.append(found)
                elif found.number > self.resumed:
                    self._problem(f"{found.place}: the message is too large (skipping)")
        if not items and not folders and position == state.position:
            return state
        counts = dict(self.counts)
        for item in items:
            counts[item.mailbox] = counts.get(item.mailbox, 0) + 1
        for name in folders:
            counts.setdefault(name, 0)

        def job(tx: Tx) -> tuple[dict[str, int], list[int]]:
            return self._job(tx, state, items, folders, position, counts)

        try:
            try:
                result = await self.store.write(job)
            except NoSuchMailbox:
                # Somebody has removed a mailbox meanwhile: it is made again.
                self._ids.clear()
                result = await self.store.write(job)
        except (StoreError, OSError) as exc:
            for item in items:
                _discard(item)
            if isinstance(exc, OSError):
                raise
            raise _refused(exc) from exc
        ids, made = result
        self._ids.update(ids)
        self._made.update(dict.fromkeys(made))
        told = {item.mailbox for item in items}.union(folders)
        self.counts, self.position = counts, position
        for mailbox in sorted(told):
            self.events(Event("count", mailbox=mailbox, count=counts[mailbox]))
        return state._replace(position=position)

    def _job(
        self,
        tx: Tx,
        state: ImportState,
        items: list[Item],
        folders: list[str],
        position: int,
        counts: dict[str, int],
    ) -> tuple[dict[str, int], list[int]]:
        ids: dict[str, int] = {}
        made: list[int] = []

        def mailbox_id(name: str) -> int:
            known = self._ids.get(name) or ids.get(name)
            if known is None:
                mailbox = mailboxes.find(tx, self.account_id, name)
                if mailbox is None:
                    created = mailboxes.create(tx, self.account_id, name)
                    made.extend(each.id for each in created)
                    mailbox = created[-1]
                known = ids[name] = mailbox.id
            return known

        added: dict[int, tuple[int, int]] = {}
        for name in folders:
            mailbox_id(name)
        for item in items:
            assert item.content is not None
            received = item.received
            if received is None:
                received = item.content.parsed.date
            if received is None or not 0 <= received < _YEAR_10000:
                received = tx.now
            result = messages.add(
                tx,
                self.account_id,
                mailbox_id(item.mailbox),
                NewMessage(item.content, b"", item.flags, item.keywords, received),
                quota=self.quota,
            )
            first, _ = added.get(result.mailbox_id, (result.uid, 0))
            added[result.mailbox_id] = (first, result.uid)
        importsdb.advance(tx, state, position, counts, (*self._made, *made), added)
        return ids, made

    def _limit_keywords(self, item: Item) -> None:
        """Mailboxes have a bounded number of keywords."""
        if not item.keywords:
            return
        known = self._keywords.setdefault(item.mailbox, set())
        if len(known) + len(item.keywords) > _MAX_KEYWORDS:
            kept = tuple(word for word in item.keywords if word in known)
            if len(kept) < len(item.keywords):
                self._problem(f"{item.place}: too many different keywords (leaving some away)")
            item.keywords = kept
        known.update(item.keywords)

    def _problem(self, text: str) -> None:
        self.problems += 1
        if self.problems <= _MAX_PROBLEMS:
            self.events(Event("problem", text))
        elif self.problems == _MAX_PROBLEMS + 1:
            self.events(Event("problem", "there are more problems, which are not told"))

    async def undo(self) -> None:
        """Take back what was added."""
        await undo(self.store, self.token)


async def undo(store: Store, token: str) -> None:
    """Take back what an import added, in many jobs."""
    more = True
    while more:
        more = await store.write(lambda tx: importsdb.undo_some(tx, token))


def account_of(tx: Tx, name: str) -> int:
    """The id of an account. Raises NoSuchAccount."""
    return accounts.get(tx, name).id


_YEAR_10000: Final = 253_402_300_800 * 1_000_000


class _Refused(Exception):
    pass


def _refused(exc: StoreError) -> Exception:
    """What the store refuses, in words; other errors of the store stay as they are."""
    from moxtw.store.errors import DiskFull, OverQuota

    if isinstance(exc, OverQuota):
        return _Refused(f"the messages do not fit into the account: {exc}")
    if isinstance(exc, DiskFull):
        return _Refused("the disk of the server is full")
    if isinstance(exc, NoSuchAccount):
        return _Refused("the account has been removed")
    if isinstance(exc, TooMany | InvalidMailboxName | MailboxExists | importsdb.ImportGone):
        return _Refused(str(exc))
    return exc


def _batch(found: Iterator[Found]) -> tuple[list[Found], bool]:
    """The next messages, and whether there may be more; in a thread."""
    batch: list[Found] = []
    size = count = 0
    end = time.monotonic() + _SECONDS
    for item in found:
        batch.append(item)
        if isinstance(item, Item) and item.content is not None:
            size += item.content.size
            count += 1
            if count >= _MESSAGES or size >= _BYTES:
                return batch, True
        if len(batch) >= 10_000 or (len(batch) % 16 == 0 and time.monotonic() > end):
            return batch, True
    return batch, False


def _close(found: Iterator[Found]) -> None:
    close: Callable[[], None] | None = getattr(found, "close", None)
    if close is not None:
        close()


async def _settled(ahead: Deferred[tuple[list[Found], bool]]) -> None:
    """Wait for a batch that nobody wants any more, and let go of its files."""
    try:
        batch, _ = await ahead
    except (ArchiveError, MboxError, OSError, StoreError) as exc:
        log.debug("reading ahead ended", err=exc)
        return
    for item in batch:
        _discard(item)


def _discard(item: Found) -> None:
    if isinstance(item, Item) and item.content is not None:
        item.content.discard()
