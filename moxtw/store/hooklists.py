"""Lists of hooks and retired hooks by filter, sorted and in pages; changes of many.

Changes of many hooks are meant to be cut into jobs: `ids` finds which, in a read job, and each
write job changes a part of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from moxtw.store.hooksdb import (
    COLUMNS,
    RETIRED_COLUMNS,
    Hook,
    RetiredHook,
    hook_row,
    retired_row,
)
from moxtw.store.queuelists import Moment, Order
from moxtw.store.schema_hooks import hooks, hooks_retired
from moxtw.store.tx import Statement, Tx

PART: Final = 200
"""How many hooks a job changes."""

MAX_PAYLOADS: Final = 8 << 20
"""Characters of payloads that are read at a time."""

INCOMING: Final = "incoming"
"""In filters, stands for hooks about incoming messages."""


@dataclass(frozen=True, slots=True)
class HookQuery:
    """Which hooks; what is None or empty does not matter.

    event: of outgoing messages, or `INCOMING`. `next_attempt` is for hooks that wait,
    `last_activity` for retired ones. `most` is the greatest number wanted, 0: all.
    """

    most: int = 0
    ids: tuple[int, ...] = ()
    account: str = ""
    event: str = ""
    submitted: Moment | None = None
    next_attempt: Moment | None = None
    last_activity: Moment | None = None


def _moment(column: Any, moment: Moment) -> Any:
    return column < moment.time if moment.before else column > moment.time


def _conditions(table: Any, query: HookQuery) -> list[Any]:
    found: list[Any] = []
    if query.ids:
        found.append(table.c.id.in_(query.ids))
    if query.account:
        found.append(table.c.account == query.account)
    if query.event:
        # Those about incoming messages, and only those, have no event.
        found.append(table.c.event == ("" if query.event == INCOMING else query.event))
    if query.submitted is not None:
        found.append(_moment(table.c.submitted, query.submitted))
    if query.next_attempt is not None:
        found.append(_moment(table.c.next_attempt, query.next_attempt))
    if query.last_activity is not None:
        found.append(_moment(table.c.last_activity, query.last_activity))
    return found


def _select(table: Any, columns: Sequence[Any], query: HookQuery, order: Order) -> Statement:
    statement = sa.select(*columns).where(*_conditions(table, query))
    column = table.c[order.column]
    if order.last is not None:
        # As a bound of the index, and what is left of it then.
        bound, beyond, beyond_id = (
            (column >= order.last, column > order.last, table.c.id > order.last_id)
            if order.ascending
            else (column <= order.last, column < order.last, table.c.id < order.last_id)
        )
        statement = statement.where(bound, sa.or_(beyond, beyond_id))
    by = (column, table.c.id)
    statement = statement.order_by(*(by if order.ascending else (c.desc() for c in by)))
    if query.most > 0:
        statement = statement.limit(query.most)
    return Statement(statement)


def _page(
    tx: Tx, table: Any, columns: Sequence[Any], query: HookQuery, order: Order, *, payloads: bool
) -> list[list[Any]]:
    """Rows; payloads, the last of the columns, are empty if they are not wanted.

    There may be fewer than the query wants, if their payloads are long, but one at least.
    """
    first = [*columns[:-1], sa.func.length(columns[-1]) if payloads else sa.literal("")]
    found = [list(row) for row in tx.all(_select(table, first, query, order))]
    if not payloads:
        return found
    total = 0
    for number, row in enumerate(found):
        total += row[-1]
        if total > MAX_PAYLOADS and number:
            del found[number:]
            break
    for start in range(0, len(found), PART):
        part = found[start : start + PART]
        wanted = sa.select(table.c.id, table.c.payload).where(
            table.c.id.in_([row[0] for row in part])
        )
        texts = dict(tx.all(Statement(wanted)))
        for row in part:
            row[-1] = texts[row[0]]
    return found


def waiting(tx: Tx, query: HookQuery, order: Order, *, payloads: bool = True) -> list[Hook]:
    """Hooks that wait; `order.column` is next_attempt or submitted.

    Without `payloads` those are empty. With long payloads there may be fewer hooks than there
    are, but one at least if there is one: lists of all go on after the last one.
    """
    return [
        hook_row(row) for row in _page(tx, hooks, COLUMNS, query, order, payloads=payloads)
    ]


def retired(
    tx: Tx, query: HookQuery, order: Order, *, payloads: bool = True
) -> list[RetiredHook]:
    """Retired hooks, see `waiting`; `order.column` is last_activity or submitted."""
    rows = _page(tx, hooks_retired, RETIRED_COLUMNS, query, order, payloads=payloads)
    return [retired_row(row) for row in rows]


def count(tx: Tx) -> int:
    """The number of hooks that wait."""
    number: int = tx.value(_COUNT)
    return number


_COUNT = Statement(sa.select(sa.func.count()).select_from(hooks))


def ids(tx: Tx, query: HookQuery) -> list[int]:
    """Ids of hooks that wait, lowest first."""
    statement = sa.select(hooks.c.id).where(*_conditions(hooks, query)).order_by(hooks.c.id)
    if query.most > 0:
        statement = statement.limit(query.most)
    return [row[0] for row in tx.all(Statement(statement))]


def rows(tx: Tx, part: Sequence[int]) -> list[Hook]:
    """Hooks by id, those that wait still, without their payloads."""
    columns = [*COLUMNS[:-1], sa.literal("")]
    statement = sa.select(*columns).where(hooks.c.id.in_(part)).order_by(hooks.c.id)
    return [hook_row(row) for row in tx.all(Statement(statement))]


def set_next_attempt(tx: Tx, part: Sequence[int], time: int) -> int:
    """Set when hooks are due. These return how many waited still."""
    return _update(tx, part, {"next_attempt": time})


def add_next_attempt(tx: Tx, part: Sequence[int], microseconds: int) -> int:
    """Move when hooks are due."""
    return _update(tx, part, {"next_attempt": hooks.c.next_attempt + microseconds})


def _update(tx: Tx, part: Sequence[int], values: dict[str, Any]) -> int:
    tx.hook_urls.add("")
    return tx.run(Statement(hooks.update().where(hooks.c.id.in_(part)).values(values)))
