"""Addresses that reports are not sent to for a while, for DMARC and for TLS apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import sqlalchemy as sa
from sqlalchemy import bindparam

from moxtw.store.errors import StoreError
from moxtw.store.schema_reports import report_suppressions as table
from moxtw.store.tx import Statement, Tx

Kind = Literal["dmarc", "tls"]


class AlreadySuppressed(StoreError):
    """The address is on the list."""


@dataclass(frozen=True, slots=True)
class ReportSuppression:
    """An address on the list. inserted, until: microseconds since the epoch."""

    id: int
    inserted: int
    address: str
    until: int
    comment: str


_COLUMNS: Final = (
    table.c.id,
    table.c.inserted,
    table.c.address,
    table.c.until,
    table.c.comment,
)
_OF_KIND = table.c.kind == bindparam("kind")
_LIST: Final = Statement(sa.select(*_COLUMNS).where(_OF_KIND).order_by(table.c.id))
_FIND: Final = Statement(
    sa.select(*_COLUMNS).where(_OF_KIND, table.c.address == bindparam("address"))
)
_ADD: Final = Statement(
    table.insert().values(
        kind=bindparam("kind"),
        inserted=bindparam("now"),
        address=bindparam("address"),
        until=bindparam("until"),
        comment=bindparam("comment"),
    )
)
_RENEW: Final = Statement(
    table.update()
    .where(table.c.id == bindparam("i"))
    .values(inserted=bindparam("now"), until=bindparam("until"), comment=bindparam("comment"))
)
_REMOVE: Final = Statement(table.delete().where(_OF_KIND, table.c.id == bindparam("i")))
_EXTEND: Final = Statement(
    table.update()
    .where(_OF_KIND, table.c.id == bindparam("i"))
    .values(until=bindparam("until"))
)


def add(tx: Tx, kind: Kind, address: str, until: int, comment: str) -> ReportSuppression:
    """Put an address on the list. Raises AlreadySuppressed."""
    row = tx.one(_FIND, kind=kind, address=address)
    if row is not None and row[3] > tx.now:
        raise AlreadySuppressed(f"{address} is on the list already")
    if row is not None:
        tx.run(_RENEW, i=row[0], now=tx.now, until=until, comment=comment)
    else:
        tx.run(_ADD, kind=kind, address=address, now=tx.now, until=until, comment=comment)
    found = tx.one(_FIND, kind=kind, address=address)
    assert found is not None
    return ReportSuppression(*found)


def listed(tx: Tx, kind: Kind) -> list[ReportSuppression]:
    """All, in the order in which they were added."""
    return [ReportSuppression(*row) for row in tx.all(_LIST, kind=kind)]


def is_suppressed(tx: Tx, kind: Kind, address: str) -> bool:
    """Whether an address gets no reports now."""
    row = tx.one(_FIND, kind=kind, address=address)
    return row is not None and row[3] > tx.now


def remove(tx: Tx, kind: Kind, suppression_id: int) -> bool:
    """Take an address off the list; whether it was there."""
    return tx.run(_REMOVE, kind=kind, i=suppression_id) > 0


def extend(tx: Tx, kind: Kind, suppression_id: int, until: int) -> bool:
    """Change how long an address gets no reports; whether it is on the list."""
    return tx.run(_EXTEND, kind=kind, i=suppression_id, until=until) > 0
