"""Addresses that an account sends nothing more to, as deliveries to them have failed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import bindparam

from moxtw.store.schema_queue import queue_suppressions
from moxtw.store.tx import Statement, Tx


@dataclass(frozen=True, slots=True)
class Suppression:
    """An address that an account sends nothing to. `created` in microseconds."""

    id: int
    created: int
    account: str
    base_address: str
    original_address: str
    manual: bool
    reason: str


_SUPPRESSION_COLUMNS: Final = tuple(
    queue_suppressions.c[name]
    for name in (
        "id",
        "created",
        "account",
        "base_address",
        "original_address",
        "manual",
        "reason",
    )
)
_SUPPRESSED = Statement(
    sa.select(*_SUPPRESSION_COLUMNS).where(
        queue_suppressions.c.account == bindparam("account"),
        queue_suppressions.c.base_address == bindparam("address"),
    )
)
_SUPPRESSIONS = Statement(
    sa.select(*_SUPPRESSION_COLUMNS).order_by(
        queue_suppressions.c.account, queue_suppressions.c.id
    )
)
_SUPPRESSIONS_OF = Statement(
    sa.select(*_SUPPRESSION_COLUMNS)
    .where(queue_suppressions.c.account == bindparam("account"))
    .order_by(queue_suppressions.c.id)
)
_SUPPRESSIONS_FOR = Statement(
    sa.select(*_SUPPRESSION_COLUMNS)
    .where(queue_suppressions.c.base_address == bindparam("address"))
    .order_by(queue_suppressions.c.account)
)
_SUPPRESS = Statement(
    queue_suppressions.insert()
    .values(
        {
            name: bindparam(name)
            for name in (
                "created",
                "account",
                "base_address",
                "original_address",
                "manual",
                "reason",
            )
        }
    )
    .returning(queue_suppressions.c.id)
)
_UNSUPPRESS = Statement(
    queue_suppressions.delete().where(
        queue_suppressions.c.account == bindparam("account"),
        queue_suppressions.c.base_address == bindparam("address"),
    )
)
_DROP_SUPPRESSIONS = Statement(
    queue_suppressions.delete().where(queue_suppressions.c.account == bindparam("account"))
)


def _suppression(row: Sequence[Any]) -> Suppression:
    entry_id, created, account, base, original, manual, reason = row
    return Suppression(entry_id, created, account, base, original, bool(manual), reason)


def suppression(tx: Tx, account: str, base: str) -> Suppression | None:
    """The entry of an account for a base address."""
    row = tx.one(_SUPPRESSED, account=account, address=base)
    return None if row is None else _suppression(row)


def suppressions(tx: Tx, account: str = "") -> list[Suppression]:
    """The entries of an account, or of all."""
    rows = tx.all(_SUPPRESSIONS_OF, account=account) if account else tx.all(_SUPPRESSIONS)
    return [_suppression(row) for row in rows]


def suppressions_for(tx: Tx, base: str) -> list[Suppression]:
    """The entries of all accounts for a base address."""
    return [_suppression(row) for row in tx.all(_SUPPRESSIONS_FOR, address=base)]


def suppress(
    tx: Tx, account: str, base: str, original: str, *, manual: bool, reason: str
) -> Suppression | None:
    """Add an entry, None if there is one already."""
    if suppression(tx, account, base) is not None:
        return None
    entry_id = tx.value(
        _SUPPRESS,
        created=tx.now,
        account=account,
        base_address=base,
        original_address=original,
        manual=int(manual),
        reason=reason,
    )
    return Suppression(entry_id, tx.now, account, base, original, manual, reason)


def unsuppress(tx: Tx, account: str, base: str) -> bool:
    """Remove an entry; False if there is none."""
    return tx.run(_UNSUPPRESS, account=account, address=base) > 0


def drop_suppressions(tx: Tx, account: str) -> None:
    """Remove all entries of an account that goes."""
    tx.run(_DROP_SUPPRESSIONS, account=account)
