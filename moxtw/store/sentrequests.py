"""Requests to send messages that carry a key, so that clients may repeat them safely.

The answer is kept in the transaction that queues the message: there is one if, and only if, the
message was queued.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy import bindparam

from moxtw.store.errors import StoreError
from moxtw.store.schema_requests import sent_requests
from moxtw.store.tx import Statement, Tx

KEPT: Final = 24 * 3600 * 1_000_000
"""Microseconds that an answer is kept."""
_CLEANED: Final = 100


class KeyUsed(StoreError):
    """A request with the key was carried out already."""


class SentRequest(NamedTuple):
    """A request that was carried out."""

    digest: bytes
    answer: bytes


_FIND = Statement(
    sa.select(sent_requests.c.digest, sent_requests.c.answer).where(
        sent_requests.c.account_id == bindparam("a"),
        sent_requests.c.key == bindparam("k"),
        sent_requests.c.created > bindparam("t"),
    )
)
_OLD = Statement(
    sa.select(sent_requests.c.account_id, sent_requests.c.key)
    .where(sent_requests.c.created <= bindparam("t"))
    .order_by(sent_requests.c.created)
    .limit(_CLEANED)
)
_DELETE = Statement(
    sent_requests.delete().where(
        sent_requests.c.account_id == bindparam("a"), sent_requests.c.key == bindparam("k")
    )
)
_ADD = Statement(
    sent_requests.insert().values(
        account_id=bindparam("a"),
        key=bindparam("k"),
        digest=bindparam("d"),
        created=bindparam("t"),
        answer=bindparam("r"),
    )
)


def find(tx: Tx, account_id: int, key: str) -> SentRequest | None:
    """The request with that key, if it is not too old."""
    row = tx.one(_FIND, a=account_id, k=key, t=tx.now - KEPT)
    return None if row is None else SentRequest(bytes(row[0]), bytes(row[1]))


def add(tx: Tx, account_id: int, key: str, digest: bytes, answer: bytes) -> None:
    """Keep the answer to a request; forgets some old ones. Raises KeyUsed."""
    if find(tx, account_id, key) is not None:
        raise KeyUsed(key)
    for account, old in tx.all(_OLD, t=tx.now - KEPT):
        tx.run(_DELETE, a=account, k=old)
    tx.run(_DELETE, a=account_id, k=key)
    tx.run(_ADD, a=account_id, k=key, d=digest, t=tx.now, r=answer)
