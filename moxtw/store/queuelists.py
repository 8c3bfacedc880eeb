"""Lists of queued and retired messages by filter, sorted and in pages; changes of many.

Changes of many messages are meant to be cut into jobs: `ids` finds which, in a read job, and
each write job changes a part of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
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

FEW: Final = 2000
"""Messages that may be sorted for a page of them."""


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


def _conditions(table: Any, query: Query, *, scan: bool = False) -> list[Any]:
    """The conditions of a query.

    scan: in a form that leads to no index but the one in which all these columns are.
    """

    def of(column: Any, nothing: Any) -> Any:
        return column + nothing if scan else column

    found: list[Any] = []
    if query.ids:
        found.append(table.c.id.in_(query.ids))
    if query.account:
        found.append(of(table.c.sender_account, "") == query.account)
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
        found.append(_moment(of(table.c.queued, 0), query.submitted))
    if query.transport is not None:
        found.append(of(table.c.transport, "") == query.transport)
        if query.transport:
            # Literal, for the partial index.
            found.append(of(table.c.transport, "") != sa.literal_column("''"))
    if query.hold is not None:
        found.append(of(table.c.hold, 0) == int(query.hold))
    if query.next_attempt is not None:
        found.append(_moment(table.c.next_attempt, query.next_attempt))
    if query.last_activity is not None:
        found.append(_moment(table.c.last_activity, query.last_activity))
    if query.success is not None:
        found.append(of(table.c.success, 0) == int(query.success))
    return found


def _few(tx: Tx, table: Any, query: Query, order: Order) -> bool:
    """Whether a bound of a time that is not the order's lets little through.

    Then it is better to find all of that, and sort, than to follow the order until it is met.
    """
    bounds = (
        (table.c.queued, query.submitted),
        (table.c.get("next_attempt"), query.next_attempt),
        (table.c.get("last_activity"), query.last_activity),
    )
    for column, moment in bounds:
        if column is not None and moment is not None and column.name != order.column:
            within = sa.select(column).where(_moment(column, moment)).limit(FEW + 1).subquery()
            statement = Statement(sa.select(sa.func.count()).select_from(within))
            if tx.value(statement) <= FEW:
                return True
    return False


def _select(
    table: Any, columns: Sequence[Any], query: Query, order: Order, conditions: list[Any], by: Any
) -> Any:
    """by: the order's column, or an expression to which no index leads."""
    statement = sa.select(*columns).where(*conditions)
    if order.last is not None:
        # The first condition is what PostgreSQL finds its place in the index by.
        statement = statement.where(
            *(
                (by >= order.last, sa.or_(by > order.last, table.c.id > order.last_id))
                if order.ascending
                else (by <= order.last, sa.or_(by < order.last, table.c.id < order.last_id))
            )
        )
    keys = (by, table.c.id)
    statement = statement.order_by(*(keys if order.ascending else (k.desc() for k in keys)))
    if query.most > 0:
        statement = statement.limit(query.most)
    return statement


def _page(
    tx: Tx, table: Any, columns: Sequence[Any], query: Query, order: Order, *more: Any
) -> list[tuple[Any, ...]]:
    """Rows of a page; more: conditions on other tables.

    With lists of many, what is read grows with the page: they go through the index of their
    order, within an account or what is on hold, if that is asked for. Only parts of addresses
    are searched for, within an index that has all that is needed.
    """
    by = table.c[order.column]
    if query.sender or query.recipient:
        # The first column of the index is the order of a list that does not say another.
        first = order.column != "queued"
        conditions = _conditions(table, query, scan=True)
        statement = _select(
            table, (table.c.id,), query, order, conditions, by if first else by + 0
        )
        found = [row[0] for row in tx.all(Statement(statement))]
        rows: list[tuple[Any, ...]] = []
        for start in range(0, len(found), PART):
            part = Query(ids=tuple(found[start : start + PART]))
            statement = _select(table, columns, part, order, _conditions(table, part), by)
            rows += tx.all(Statement(statement.where(*more)))
        return rows
    conditions = _conditions(table, query)
    if query.most and _few(tx, table, query, order):
        by = by + 0
    elif query.hold is False:
        # Nearly all are not: follow the order, whatever other index there is for that.
        conditions = _conditions(table, replace(query, hold=None))
        conditions.append(table.c.hold + 0 == 0)
    statement = _select(table, columns, query, order, conditions, by)
    return tx.all(Statement(statement.where(*more)))


def queued(tx: Tx, query: Query, order: Order) -> list[tuple[Queued, bytes, bytes | None]]:
    """Queued messages with their prefix and UTF-8 form; `order.column` next_attempt or queued."""
    columns = (*COLUMNS, queue_sources.c.prefix, queue_sources.c.dsn_utf8)
    same_source = queue_sources.c.id == queue.c.source_id
    found = []
    for row in _page(tx, queue, columns, query, order, same_source):
        utf8 = None if row[-1] is None else bytes(row[-1])
        found.append((queued_row(row[:-2]), bytes(row[-2]), utf8))
    return found


def retired(tx: Tx, query: Query, order: Order) -> list[Retired]:
    """Retired messages; `order.column` is last_activity or queued."""
    rows = _page(tx, queue_retired, RETIRED_COLUMNS, query, order)
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
