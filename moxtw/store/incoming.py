"""What came in from where: counts for limits on deliveries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import sqlalchemy as sa
from sqlalchemy import bindparam

from moxtw.store import accounts
from moxtw.store.schema import message_meta, messages
from moxtw.store.tx import Statement, Tx

# The index is on the widest class of the address; the narrower ones are within it.
_COLUMNS: Final = (
    message_meta.c.remote_ip_masked1,
    message_meta.c.remote_ip_masked2,
    message_meta.c.remote_ip_masked3,
)
_COUNT: Final = tuple(
    Statement(
        sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(messages.c.size), 0))
        .select_from(message_meta.join(messages, messages.c.id == message_meta.c.id))
        .where(
            message_meta.c.account_id == bindparam("a"),
            message_meta.c.remote_ip_masked3 != "",
            message_meta.c.remote_ip_masked3 == bindparam("widest"),
            message_meta.c.received >= bindparam("since"),
            column == bindparam("masked"),
            messages.c.expunged == 0,
        )
    )
    for column in _COLUMNS
)


def count_from(
    tx: Tx, account: str, classes: tuple[str, str, str], since: Sequence[int]
) -> list[list[int]]:
    """Live messages that came from an address and its networks.

    `classes` are as `moxtw.ratelimit.ip_classes` gives them. For each of them, the result has
    the number and the size in bytes of the messages received after each of the times `since`.
    """
    found = accounts.find(tx, account)
    result: list[list[int]] = []
    for statement, masked in zip(_COUNT, classes, strict=True):
        counts: list[int] = []
        for time in since:
            row = None
            if found is not None:
                row = tx.one(statement, a=found.id, widest=classes[2], since=time, masked=masked)
            counts += (int(row[0]), int(row[1])) if row is not None else (0, 0)
        result.append(counts)
    return result
