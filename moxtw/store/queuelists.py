"""Lists of queued and retired messages by filter, sorted and in pages; changes of many.

Changes of many messages are meant to be cut into jobs: `ids` finds which, in a read job, and
each write job changes a part of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from moxtw.store.queuerecord import (
    COLUMNS,
    RETIRED_COLUMNS,
    Queued,
    Retired,
    queued_row,
    retired_row,
)
from moxtw.store.schema_queue import queue, queue_retired, queue_sources
from moxtw.store.tx import Statement, Tx

PART: Final = 500
"""How many messages a job changes."""


@dataclass(frozen=True, slots=True)
class Moment:
    """A bound of a time: before (or after) `time` (microseconds)."""

    before: bool
    time: int


@dataclass(frozen=True, slots=True)
class Query:
    """Which messages; what is None or empty does not matter.

    `sender` and `recipient` are parts of the full address, in any case; with both given, one
    is enough. `success` and `last_activity` are for retired messages only, `hold` and
    `next_attempt` for queued ones. `most` is the greatest number wanted, 0: all.
    """

    most: int = 0
    ids: tuple[int, ...] = ()
    account: str = ""
    sender: str = ""
    recipient: str = ""
    sender_domain: str = ""
    recipient_domain: str = ""
    submitted: Moment | None = None
    transport: str | None = None
    hold: bool | None = None
    next_attempt: Moment | None = None
    last_activity: Moment | None = None
    success: bool | None = None


@dataclass(frozen=True, slots=True)
class Order:
    """How a list is sorted: by `column`, then by id; and after which row it goes on."""

    column: str
    ascending: bool = False
    last: int | None = None
    last_id: int = 0


def _moment(column: Any, moment: Moment) -> Any:
    return column < moment.time if moment.before else column > moment.time


def _contains(table: Any, which: str, part: str) -> Any:
    address = table.c[which + "_localpart"] + "@" + table.c[which + "_domain"]
    return sa.func.lower(address).contains(part.lower(), autoescape=True)


def _conditions(table: Any, query: Query) -> list[Any]:
    found: list[Any] = []
    if query.ids:
        found.append(table.c.id.in_(query.ids))
    if query.account:
        found.append(table.c.sender_account == query.account)
    addresses = [
        _contains(table, which, part)
        for which, part in (("sender", query.sender), ("recipient", query.recipient))
        if part
    ]
    if addresses:
        found.append(sa.or_(*addresses))
    if query.sender_domain:
        found.append(table.c.sender_domain == query.sender_domain)
    if query.recipient_domain:
        found.append(table.c.recipient_domain == query.recipient_domain)
    if query.submitted is not None:
        found.append(_moment(table.c.queued, query.submitted))
    if query.transport is not None:
        found.append(table.c.transport == query.transport)
    if query.hold is not None:
        found.append(table.c.hold == int(query.hold))
    if query.next_attempt is not None:
        found.append(_moment(table.c.next_attempt, query.next_attempt))
    if query.last_activity is not None:
        found.append(_moment(table.c.last_activity, query.last_activity))
    if query.success is not None:
        found.append(table.c.success == int(query.success))
    return found


def _select(table: Any, columns: Sequence[Any], query: Query, order: Order) -> Any:
    statement = sa.select(*columns).where(*_conditions(table, query))
    column = table.c[order.column]
    if order.last is not None:
        beyond, beyond_id = (
            (column > order.last, table.c.id > order.last_id)
            if order.ascending
            else (column < order.last, table.c.id < order.last_id)
        )
        statement = statement.where(sa.or_(beyond, sa.and_(column == order.last, beyond_id)))
    by = (column, table.c.id)
    statement = statement.order_by(*(by if order.ascending else (c.desc() for c in by)))
    if query.most > 0:
        statement = statement.limit(query.most)
    return statement


def queued(tx: Tx, query: Query, order: Order) -> list[tuple[Queued, bytes, bytes | None]]:
    """Queued messages with their prefix and UTF-8 form; `order.column` next_attempt or queued."""
    columns = (*COLUMNS, queue_sources.c.prefix, queue_sources.c.dsn_utf8)
    statement = _select(queue, columns, query, order).where(
        queue_sources.c.id == queue.c.source_id
    )
    found = []
    for row in tx.all(Statement(statement)):
        utf8 = None if row[-1] is None else bytes(row[-1])
        found.append((queued_row(row[:-2]), bytes(row[-2]), utf8))
    return found


def retired(tx: Tx, query: Query, order: Order) -> list[Retired]:
    """Retired messages; `order.column` is last_activity or queued."""
    rows = tx.all(Statement(_select(queue_retired, RETIRED_COLUMNS, query, order)))
    return [retired_row(row) for row in rows]


def count(tx: Tx, query: Query | None = None) -> int:
    """The number of queued messages."""
    statement = sa.select(sa.func.count()).select_from(queue)
    if query is not None:
        statement = statement.where(*_conditions(queue, query))
    number: int = tx.value(Statement(statement))
    return number


def ids(tx: Tx, query: Query) -> list[int]:
    """Ids of queued messages, lowest first."""
    statement = sa.select(queue.c.id).where(*_conditions(queue, query)).order_by(queue.c.id)
    if query.most > 0:
        statement = statement.limit(query.most)
    return [row[0] for row in tx.all(Statement(statement))]


def _update(tx: Tx, part: Sequence[int], values: dict[str, Any]) -> int:
    return tx.run(Statement(queue.update().where(queue.c.id.in_(part)).values(values)))


def set_next_attempt(tx: Tx, part: Sequence[int], time: int) -> int:
    """Set when messages are due. All these return how many there were still."""
    tx.queue_domains.add("")
    return _update(tx, part, {"next_attempt": time})


def add_next_attempt(tx: Tx, part: Sequence[int], microseconds: int) -> int:
    """Move when messages are due."""
    tx.queue_domains.add("")
    return _update(tx, part, {"next_attempt": queue.c.next_attempt + microseconds})


def set_hold(tx: Tx, part: Sequence[int], hold: bool) -> int:
    """Put on hold, or let go."""
    tx.queue_domains.add("")
    return _update(tx, part, {"hold": int(hold)})


def set_transport(tx: Tx, part: Sequence[int], transport: str) -> int:
    """Set the transport, empty for routes."""
    return _update(tx, part, {"transport": transport})


def set_require_tls(tx: Tx, part: Sequence[int], require_tls: bool | None) -> int:
    """Set what is demanded of TLS."""
    return _update(tx, part, {"require_tls": None if require_tls is None else int(require_tls)})


def rows(tx: Tx, part: Sequence[int]) -> list[Queued]:
    """Queued messages by id, those that are queued still."""
    statement = sa.select(*COLUMNS).where(queue.c.id.in_(part)).order_by(queue.c.id)
    return [queued_row(row) for row in tx.all(Statement(statement))]
