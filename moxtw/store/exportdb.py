"""Messages as they are exported: by time of arrival, with flags and where their bytes are."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy import bindparam

from moxtw.store.messages import LIVE
from moxtw.store.schema import message_meta, messages
from moxtw.store.tx import Statement, Tx


class ExportRow(NamedTuple):
    """A message. `received` in microseconds, `keywords` separated by spaces."""

    id: int
    flags: int
    keywords: str
    received: int
    size: int
    content_id: int
    prefix: bytes
    mail_from: str


_IDS = Statement(
    sa.select(messages.c.id)
    .where(messages.c.mailbox_id == bindparam("mailbox"), LIVE)
    .order_by(messages.c.received, messages.c.id)
)
_ROW = Statement(
    sa.select(
        messages.c.id,
        messages.c.flags,
        messages.c.keywords,
        messages.c.received,
        messages.c.size,
        messages.c.content_id,
        message_meta.c.prefix,
        message_meta.c.mail_from,
    )
    .select_from(messages.join(message_meta, message_meta.c.id == messages.c.id))
    .where(messages.c.id == bindparam("i"), messages.c.account_id == bindparam("a"), LIVE)
)


def ids(tx: Tx, mailbox_id: int) -> array[int]:
    """Ids of the messages of a mailbox, by time of arrival."""
    return array("q", [row[0] for row in tx.all(_IDS, mailbox=mailbox_id)])


def rows(tx: Tx, account_id: int, wanted: Iterable[int]) -> list[ExportRow]:
    """Messages of an account by id; those that are gone are left out."""
    found = (tx.one(_ROW, i=each, a=account_id) for each in wanted)
    return [ExportRow._make(row) for row in found if row is not None]
