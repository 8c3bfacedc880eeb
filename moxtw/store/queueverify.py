"""Consistency of the queue: the queue part of ``verifydata``."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from moxtw.store.db import Store
from moxtw.store.schema import contents
from moxtw.store.schema_queue import queue, queue_sources
from moxtw.store.tx import Statement, Tx

MAX_PER_KIND: Final = 20

_WRONG_SIZE: Final = Statement(
    sa.select(queue.c.id, queue.c.size)
    .select_from(
        queue.outerjoin(queue_sources, queue_sources.c.id == queue.c.source_id).outerjoin(
            contents, contents.c.id == queue_sources.c.content_id
        )
    )
    .where(
        sa.func.coalesce(sa.func.length(queue_sources.c.prefix) + contents.c.size, -1)
        != queue.c.size
    )
    .order_by(queue.c.id)
    .limit(MAX_PER_KIND)
)
_UNUSED: Final = Statement(
    sa.select(queue_sources.c.id)
    .where(~sa.select(queue.c.id).where(queue.c.source_id == queue_sources.c.id).exists())
    .order_by(queue_sources.c.id)
    .limit(MAX_PER_KIND)
)


def problems(tx: Tx) -> list[str]:
    """What is wrong with the queue, in plain words. Contents are checked elsewhere."""
    found = [
        f"queued message {message_id}: its bytes are not there, or not {size} of them"
        for message_id, size in tx.all(_WRONG_SIZE)
    ]
    found += [f"bytes of queued messages {row[0]}: no message has them" for row in tx.all(_UNUSED)]
    return found


async def verify_queue(store: Store) -> list[str]:
    """Check the queue."""
    return await store.read(problems)
