"""What can be done with webhooks: one function per operation, for admin API and commands."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from functools import partial
from typing import Final, TypeVar

from moxtw.queue import hookapi
from moxtw.queue.api import FilterError
from moxtw.queue.hooks import keep_period
from moxtw.queue.operations import MAX_AWAY, MINUTE, change_in_parts
from moxtw.queue.routes import Config
from moxtw.store import hooklists, hooksdb
from moxtw.store.db import Store
from moxtw.store.hooklists import PART, HookQuery
from moxtw.store.hooksdb import Hook, RetiredHook
from moxtw.store.queuelists import Order
from moxtw.store.tx import Tx

T = TypeVar("T", Hook, RetiredHook)

PAGE: Final = 1000
"""Hooks that are read at a time."""

MAX_LIST: Final = 64 << 20
"""Characters of payloads in a list."""

CANCELED: Final = "canceled by admin"
ACCOUNT_REMOVED: Final = "account was removed"

Read = Callable[[Tx, HookQuery, Order], list[T]]


class HookOperations:
    """Operations on webhook calls that wait, and on retired ones.

    All raise `FilterError` for what they cannot understand, and StoreError.
    """

    def __init__(self, store: Store, config: Config) -> None:
        self._store = store
        self._config = config

    # -- Looking -----------------------------------------------------------------------

    async def size(self) -> int:
        """The number of calls that wait."""
        return await self._store.read(hooklists.count)

    async def waiting(
        self, wanted: hookapi.HookFilter, sort: hookapi.HookSort
    ) -> list[hookapi.Hook]:
        """Calls that wait."""
        return await _all(self.pages(wanted, sort))

    async def retired(
        self, wanted: hookapi.HookRetiredFilter, sort: hookapi.HookRetiredSort
    ) -> list[hookapi.HookRetired]:
        """Retired calls."""
        return await _all(self.retired_pages(wanted, sort))

    async def pages(
        self, wanted: hookapi.HookFilter, sort: hookapi.HookSort, *, payloads: bool = True
    ) -> AsyncIterator[list[hookapi.Hook]]:
        """Calls that wait, in pieces, with others' work between them.

        Without `payloads` those are empty.
        """
        query = hookapi.query(wanted, self._store.now())

        def read(tx: Tx, query: HookQuery, order: Order) -> list[Hook]:
            return hooklists.waiting(tx, query, order, payloads=payloads)

        async for rows in self._pages(query, hookapi.order(sort), read):
            yield [hookapi.waiting(row) for row in rows]

    async def retired_pages(
        self,
        wanted: hookapi.HookRetiredFilter,
        sort: hookapi.HookRetiredSort,
        *,
        payloads: bool = True,
    ) -> AsyncIterator[list[hookapi.HookRetired]]:
        """Retired calls in pieces."""
        query = hookapi.retired_query(wanted, self._store.now())

        def read(tx: Tx, query: HookQuery, order: Order) -> list[RetiredHook]:
            return hooklists.retired(tx, query, order, payloads=payloads)

        async for rows in self._pages(query, hookapi.retired_order(sort), read):
            yield [hookapi.retired(row) for row in rows]

    async def _pages(
        self, query: HookQuery, order: Order, read: Read[T]
    ) -> AsyncIterator[list[T]]:
        left = query.most
        while True:
            page: HookQuery = replace(query, most=min(left, PAGE) if left else PAGE)
            rows = await self._store.read(partial(_read, read, page, order))
            if not rows:
                return
            yield rows
            left -= len(rows) if left else 0
            if query.most and left <= 0:
                return
            last = rows[-1]
            order = replace(order, last=getattr(last, order.column), last_id=last.id)

    # -- Changing ----------------------------------------------------------------------

    async def schedule(
        self, wanted: hookapi.HookFilter, microseconds: int, *, from_now: bool
    ) -> int:
        """Set when calls are due: that long from now, or moved by that. Says how many."""
        if abs(microseconds) > MAX_AWAY:
            raise FilterError("time is too far away")
        now = self._store.now()
        if from_now:
            time = now + microseconds
            return await self._change(
                hookapi.query(wanted, now),
                lambda tx, part: hooklists.set_next_attempt(tx, part, time),
            )
        return await self._change(
            hookapi.query(wanted, now),
            lambda tx, part: hooklists.add_next_attempt(tx, part, microseconds),
        )

    async def next_attempt_set(self, wanted: hookapi.HookFilter, minutes: int) -> int:
        """Let calls be due so many minutes from now."""
        return await self.schedule(wanted, minutes * MINUTE, from_now=True)

    async def next_attempt_add(self, wanted: hookapi.HookFilter, minutes: int) -> int:
        """Let calls be due so many minutes later."""
        return await self.schedule(wanted, minutes * MINUTE, from_now=False)

    async def cancel(self, wanted: hookapi.HookFilter) -> int:
        """Give calls up; they are retired as failed. Says how many."""
        return await self._cancel(hookapi.query(wanted, self._store.now()), CANCELED)

    async def remove_account(self, account: str) -> None:
        """What the removal of an account means: nothing more is told of it."""
        await self._cancel(HookQuery(account=account), ACCOUNT_REMOVED)

    async def _cancel(self, query: HookQuery, reason: str) -> int:
        def cancel(tx: Tx, part: list[int]) -> int:
            return sum(
                hooksdb.cancel(
                    tx,
                    hook,
                    keep=keep_period(self._config.dynamic, hook.account),
                    reason=reason,
                )
                for hook in hooklists.rows(tx, part)
            )

        return await self._change(query, cancel)

    async def _change(self, query: HookQuery, change: Callable[[Tx, list[int]], int]) -> int:
        """Change hooks in parts."""
        found = await self._store.read(lambda tx: hooklists.ids(tx, query))
        return await change_in_parts(self._store, found, PART, change)


Listed = TypeVar("Listed", hookapi.Hook, hookapi.HookRetired)


def _read(read: Read[T], query: HookQuery, order: Order, tx: Tx) -> list[T]:
    return read(tx, query, order)


async def _all(pages: AsyncIterator[list[Listed]]) -> list[Listed]:
    """All in one list, unless that is more than one should send in an answer."""
    found: list[Listed] = []
    size = 0
    async for page in pages:
        found += page
        size += sum(len(each.Payload) for each in page)
        if size > MAX_LIST:
            raise FilterError("the list is too long for one answer: ask for parts, with Max")
    return found
