"""The audit log in the database."""

from __future__ import annotations

from functools import cache
from typing import Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy import bindparam

from moxtw.store.schema_audit import audit_log
from moxtw.store.tx import Statement, Tx

KEPT: Final = 400 * 86400 * 1_000_000
"""Microseconds that an entry is kept: a year, and what comes before somebody looks at it."""
MOST: Final = 200_000
"""Entries that are kept."""
_CLEANED: Final = 20


class Entry(NamedTuple):
    """An operation. begun: microseconds since 1970; params: JSON; result: a code, or ""."""

    id: int
    begun: int
    via: str
    caller: str
    remote_ip: str
    cid: int
    operation: str
    params: str
    result: str
    message: str


_ADD = Statement(
    audit_log.insert()
    .values(
        begun=bindparam("b"),
        via=bindparam("v"),
        caller=bindparam("c"),
        remote_ip=bindparam("r"),
        cid=bindparam("n"),
        operation=bindparam("o"),
        params=bindparam("p"),
        result="",
        message="",
    )
    .returning(audit_log.c.id)
)
_END = Statement(
    audit_log.update()
    .where(audit_log.c.id == bindparam("i"))
    .values(result=bindparam("r"), message=bindparam("m"))
)
_OLD = Statement(
    audit_log.delete().where(
        audit_log.c.id.in_(
            sa.select(audit_log.c.id)
            .where(audit_log.c.begun < bindparam("before"))
            .order_by(audit_log.c.begun)
            .limit(_CLEANED)
        )
    )
)
_FIRST = Statement(
    audit_log.delete().where(
        audit_log.c.id.in_(
            sa.select(audit_log.c.id)
            .where(audit_log.c.id <= bindparam("last"))
            .order_by(audit_log.c.id)
            .limit(_CLEANED)
        )
    )
)
_ALL: Final = sa.select(*[audit_log.c[name] for name in Entry._fields]).order_by(
    audit_log.c.id.desc()
)
_BEFORE: Final = audit_log.c.id < bindparam("before")
_WHERE: Final = {
    "caller": audit_log.c.caller == bindparam("caller"),
    "operation": audit_log.c.operation == bindparam("operation"),
    "since": audit_log.c.begun >= bindparam("since"),
    "until": audit_log.c.begun < bindparam("until"),
}


def begin(
    tx: Tx, via: str, caller: str, remote_ip: str, cid: int, operation: str, params: str
) -> int:
    """Note that an operation begins; returns the entry's id. Some old entries go."""
    number: int = tx.value(
        _ADD, b=tx.now, v=via, c=caller, r=remote_ip, n=cid, o=operation, p=params
    )
    tx.run(_OLD, before=tx.now - KEPT)
    if number > MOST:
        tx.run(_FIRST, last=number - MOST)
    return number


def end(tx: Tx, number: int, result: str, message: str) -> None:
    """Note how an operation ended."""
    tx.run(_END, i=number, r=result, m=message)


def entries(
    tx: Tx,
    most: int,
    *,
    before: int = 0,
    caller: str = "",
    operation: str = "",
    since: int = 0,
    until: int = 0,
) -> list[Entry]:
    """The latest entries, latest first, at most `most`; those with ids below `before` if given.

    since, until: microseconds since 1970, 0 for any.
    """
    wanted = {"caller": caller, "operation": operation, "since": since, "until": until}
    given = {name: value for name, value in wanted.items() if value}
    found = tx.all(
        _listing(tuple(given)), before=before or (1 << 63) - 1, most=most, **given
    )
    return [Entry(*row) for row in found]


@cache
def _listing(given: tuple[str, ...]) -> Statement:
    return Statement(
        _ALL.where(_BEFORE, *[_WHERE[name] for name in given]).limit(bindparam("most"))
    )
