"""Retired messages that are heard of again: found by what notifications say, and updated."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from sqlalchemy import bindparam

from moxtw.store.queuerecord import (
    COLUMNS,
    MAX_RESULTS,
    RETIRED_COLUMNS,
    Queued,
    Result,
    Retired,
    queued_row,
    retired_row,
    to_json,
)
from moxtw.store.schema_queue import queue, queue_retired
from moxtw.store.tx import Statement, Tx

MAX_FOUND: Final = 200
"""Recipients of one message that are looked at."""

MAX_MESSAGE_ID: Final = 400
"""Ids of this length and above are not in the index."""

_BY_FROM_ID = Statement(
    sa.select(*RETIRED_COLUMNS)
    .where(queue_retired.c.from_id == bindparam("f"))
    .order_by(queue_retired.c.id.desc())
    .limit(1)
)
_QUEUED_BY_FROM_ID = Statement(sa.select(*COLUMNS).where(queue.c.from_id == bindparam("f")))
_BY_MESSAGE_ID = Statement(
    sa.select(*RETIRED_COLUMNS)
    .where(
        queue_retired.c.sender_account == bindparam("account"),
        queue_retired.c.message_id == bindparam("m"),
        # As in the partial index.
        sa.func.length(queue_retired.c.message_id) < sa.literal_column(str(MAX_MESSAGE_ID)),
    )
    .limit(MAX_FOUND)
)
_BY_ADDRESS = Statement(
    sa.select(*RETIRED_COLUMNS)
    .where(
        queue_retired.c.sender_account == bindparam("account"),
        queue_retired.c.recipient_address == bindparam("address"),
    )
    .order_by(queue_retired.c.last_activity.desc())
    .limit(MAX_FOUND)
)
_UPDATE = Statement(
    queue_retired.update()
    .where(queue_retired.c.id == bindparam("i"))
    .values(
        results=bindparam("r"), success=bindparam("success"), last_activity=bindparam("t")
    )
)


def by_from_id(tx: Tx, from_id: str) -> Retired | Queued | None:
    """The message, retired or queued still, with that id in its MAIL FROM."""
    row = tx.one(_BY_FROM_ID, f=from_id)
    if row is not None:
        return retired_row(row)
    row = tx.one(_QUEUED_BY_FROM_ID, f=from_id)
    return None if row is None else queued_row(row)


def by_message_id(tx: Tx, account: str, message_id: str) -> list[Retired]:
    """Messages of an account with a Message-ID: one for each recipient."""
    if not message_id or len(message_id) >= MAX_MESSAGE_ID:
        return []
    return [retired_row(row) for row in tx.all(_BY_MESSAGE_ID, account=account, m=message_id)]


def by_address(tx: Tx, account: str, base: str) -> list[Retired]:
    """The latest messages of an account to a base address."""
    return [retired_row(row) for row in tx.all(_BY_ADDRESS, account=account, address=base)]


def add_result(tx: Tx, message: Retired, result: Result, *, success: bool) -> None:
    """Note what was heard of a retired message, and whether it counts as delivered now."""
    message.results = [*message.results, result][-MAX_RESULTS:]
    message.success = success
    message.last_activity = tx.now
    tx.run(
        _UPDATE,
        i=message.id,
        r=to_json(message.results),
        success=int(success),
        t=tx.now,
    )
