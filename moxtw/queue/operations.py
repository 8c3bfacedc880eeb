"""What can be done with the queue: one function per operation, for admin API and commands."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any, Final, TypeVar

from moxtw.mail.address import AddressError, base_address, parse_address
from moxtw.mail.domain import DomainError, parse_domain
from moxtw.queue import api, outcome
from moxtw.queue.routes import Config
from moxtw.store import queuedb, queuelists, suppressions
from moxtw.store.db import Store
from moxtw.store.queuelists import PART, Order, Query
from moxtw.store.suppressions import Suppression
from moxtw.store.tx import Tx

T = TypeVar("T")

PAGE: Final = 1000
"""Messages that are read at a time."""

MINUTE: Final = 60_000_000
# Times stay within what timestamps can say.
MAX_AWAY: Final = 100 * 366 * 24 * 60 * MINUTE
_NOTICES: Final = 50


async def change_in_parts(
    store: Store, ids: list[int], size: int, change: Callable[[Tx, list[int]], int]
) -> int:
    """Change rows some at a time, so that the writer is never held for long. Says how many."""
    count = 0
    for start in range(0, len(ids), size):
        part = ids[start : start + size]
        count += await store.write(
            lambda tx, part=part: change(tx, part)  # type: ignore[misc]
        )
    return count


class QueueOperations:
    """Operations on queued and retired messages, hold rules and suppressions.

    All raise `api.FilterError` for what they cannot understand, and StoreError.
    """

    def __init__(self, store: Store, config: Config) -> None:
        self._store = store
        self._config = config

    # -- Looking -----------------------------------------------------------------------

    async def size(self) -> int:
        """The number of queued messages."""
        return await self._store.read(queuelists.count)

    async def messages(self, wanted: api.Filter, sort: api.Sort) -> list[api.Msg]:
        """Queued messages."""
        return [each async for page in self.pages(wanted, sort) for each in page]

    async def retired_list(
        self, wanted: api.RetiredFilter, sort: api.RetiredSort
    ) -> list[api.MsgRetired]:
        """Retired messages."""
        return [each async for page in self.retired_pages(wanted, sort) for each in page]

    async def pages(
        self, wanted: api.Filter, sort: api.Sort
    ) -> AsyncIterator[list[api.Msg]]:
        """Queued messages, however many there are: in pieces, with others' work between them."""
        query, order = api.query(wanted, self._store.now()), api.order(sort)
        pages = self._pages(query, order, queuelists.queued, lambda row: row[0])
        async for rows in pages:
            yield [api.queued(*row) for row in rows]

    async def retired_pages(
        self, wanted: api.RetiredFilter, sort: api.RetiredSort
    ) -> AsyncIterator[list[api.MsgRetired]]:
        """Retired messages in pieces."""
        query = api.retired_query(wanted, self._store.now())
        order = api.retired_order(sort)
        async for rows in self._pages(query, order, queuelists.retired, lambda row: row):
            yield [api.retired(row) for row in rows]

    async def _pages(
        self,
        query: Query,
        order: Order,
        read: Callable[[Tx, Query, Order], list[T]],
        message: Callable[[T], Any],
    ) -> AsyncIterator[list[T]]:
        left = query.most
        while True:
            most = min(left, PAGE) if left else PAGE
            page = replace(query, most=most)
            rows = await self._store.read(
                lambda tx, page=page, order=order: read(tx, page, order)  # type: ignore[misc]
            )
            if rows:
                yield rows
            left -= len(rows) if left else 0
            if len(rows) < most or (query.most and left <= 0):
                return
            last = message(rows[-1])
            order = replace(order, last=getattr(last, order.column), last_id=last.id)

    async def dump(self, message_id: int, start: int, length: int) -> bytes:
        """A part of the bytes of a queued message, empty behind its end.

        Raises NoSuchQueued, NoContent.
        """
        return await self._store.read(
            lambda tx: queuedb.read(tx, message_id, start, length)
            if start < queuedb.get(tx, message_id).size
            else b""
        )

    # -- Changing ----------------------------------------------------------------------

    async def schedule(self, wanted: api.Filter, microseconds: int, *, from_now: bool) -> int:
        """Set when messages are due: that long from now, or moved by that. Says how many."""
        if abs(microseconds) > MAX_AWAY:
            raise api.FilterError("time is too far away")
        if from_now:
            time = self._store.now() + microseconds
            return await self._change(
                wanted, lambda tx, part: queuelists.set_next_attempt(tx, part, time)
            )
        return await self._change(
            wanted, lambda tx, part: queuelists.add_next_attempt(tx, part, microseconds)
        )

    async def next_attempt_set(self, wanted: api.Filter, minutes: int) -> int:
        """Let messages be due so many minutes from now."""
        return await self.schedule(wanted, minutes * MINUTE, from_now=True)

    async def next_attempt_add(self, wanted: api.Filter, minutes: int) -> int:
        """Let messages be due so many minutes later."""
        return await self.schedule(wanted, minutes * MINUTE, from_now=False)

    async def hold_set(self, wanted: api.Filter, on_hold: bool) -> int:
        """Put messages on hold, or let them go."""
        return await self._change(
            wanted, lambda tx, part: queuelists.set_hold(tx, part, on_hold)
        )

    async def transport_set(self, wanted: api.Filter, transport: str) -> int:
        """Set the transport of messages, empty for routes. It need not exist."""
        return await self._change(
            wanted, lambda tx, part: queuelists.set_transport(tx, part, transport)
        )

    async def require_tls_set(self, wanted: api.Filter, require_tls: bool | None) -> int:
        """Set what messages demand of TLS."""
        return await self._change(
            wanted, lambda tx, part: queuelists.set_require_tls(tx, part, require_tls)
        )

    async def fail(self, wanted: api.Filter) -> int:
        """Let messages fail: their senders get a notification."""
        return await self._cancel(api.query(wanted, self._store.now()), notice=True)

    async def drop(self, wanted: api.Filter) -> int:
        """Remove messages; nobody is told."""
        return await self._cancel(api.query(wanted, self._store.now()), notice=False)

    async def remove_account(self, account: str) -> None:
        """What the removal of an account means: its messages fail, its suppressions go."""
        await self._cancel(Query(account=account), notice=True)
        await self._store.write(lambda tx: suppressions.drop_suppressions(tx, account))

    async def _change(
        self, wanted: api.Filter, change: Callable[[Tx, list[int]], int]
    ) -> int:
        return await self._change_query(api.query(wanted, self._store.now()), change)

    async def _change_query(
        self, query: Query, change: Callable[[Tx, list[int]], int]
    ) -> int:
        """Change messages in parts."""
        found = await self._store.read(lambda tx: queuelists.ids(tx, query))
        return await change_in_parts(self._store, found, PART, change)

    async def _cancel(self, query: Query, *, notice: bool) -> int:
        found = await self._store.read(lambda tx: queuelists.ids(tx, query))
        count = 0
        step = _NOTICES if notice else PART
        for start in range(0, len(found), step):
            count += await outcome.cancel(
                self._store, self._config, found[start : start + step], notice=notice
            )
        return count

    # -- Hold rules --------------------------------------------------------------------

    async def hold_rule_list(self) -> list[api.HoldRule]:
        """All hold rules."""
        rules = await self._store.read(queuedb.hold_rules)
        return [api.hold_rule(rule) for rule in rules]

    async def hold_rule_add(
        self, account: str, sender_domain: str, recipient_domain: str
    ) -> api.HoldRule:
        """Add a hold rule; what is queued and matches is put on hold too."""
        sender, recipient = _domain(sender_domain), _domain(recipient_domain)
        rule = await self._store.write(
            lambda tx: queuedb.hold_rule_add(tx, account, sender, recipient)
        )
        query = Query(
            account=account, sender_domain=sender, recipient_domain=recipient, hold=False
        )
        await self._change_query(query, lambda tx, part: queuelists.set_hold(tx, part, True))
        return api.hold_rule(rule)

    async def hold_rule_remove(self, rule_id: int) -> bool:
        """Remove a hold rule; what it holds stays on hold. False if there is none."""
        return await self._store.write(lambda tx: queuedb.hold_rule_remove(tx, rule_id))

    # -- Suppressions ------------------------------------------------------------------

    async def suppress_list(self, account: str = "") -> list[Suppression]:
        """Addresses that an account (empty: any) does not send to."""
        return await self._store.read(lambda tx: suppressions.suppressions(tx, account))

    async def suppress_add(
        self, account: str, address: str, *, manual: bool = True, reason: str = ""
    ) -> Suppression | None:
        """Add an address; None if it is there already."""
        base = _base(address)
        return await self._store.write(
            lambda tx: suppressions.suppress(
                tx, account, base, address, manual=manual, reason=reason
            )
        )

    async def suppress_remove(self, account: str, address: str) -> bool:
        """Remove an address; False if it is not there."""
        base = _base(address)
        return await self._store.write(lambda tx: suppressions.unsuppress(tx, account, base))

    async def suppress_present(self, account: str, address: str) -> bool:
        """Whether an account sends nothing to an address."""
        base = _base(address)
        found = await self._store.read(lambda tx: suppressions.suppression(tx, account, base))
        return found is not None

    async def suppress_lookup(self, account: str, address: str) -> list[Suppression]:
        """The entries for an address, of an account or (empty) of any."""
        base = _base(address)
        if not account:
            return await self._store.read(lambda tx: suppressions.suppressions_for(tx, base))
        found = await self._store.read(lambda tx: suppressions.suppression(tx, account, base))
        return [] if found is None else [found]


def _domain(name: str) -> str:
    """A domain as stored; empty stays. Raises FilterError."""
    if not name or name.startswith("["):
        return name
    try:
        return parse_domain(name, strict=False).name
    except DomainError as exc:
        raise api.FilterError(str(exc)) from exc


def _base(address: str) -> str:
    try:
        parsed = parse_address(address)
    except AddressError as exc:
        raise api.FilterError(f"address {address[:100]!r}: {exc}") from exc
    return base_address(parsed.localpart, parsed.domain.name)
