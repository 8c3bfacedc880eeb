"""The mailbox with copies of refused messages: bounded in age and number."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from sqlalchemy import bindparam

from moxtw.store import changing, mailboxes
from moxtw.store.model import Mailbox
from moxtw.store.schema import message_meta
from moxtw.store.schema import messages as message_table
from moxtw.store.tx import Statement, Tx

MAX_AGE: Final = 14 * 86400 * 1_000_000
"""Microseconds after which a copy goes."""

MAX_MESSAGES: Final = 1000

_BATCH: Final = 100

_OLD: Final = Statement(
    sa.select(message_table.c.uid)
    .where(
        message_table.c.mailbox_id == bindparam("mailbox"),
        message_table.c.expunged == 0,
        message_table.c.received < bindparam("before"),
    )
    .order_by(message_table.c.uid)
    .limit(_BATCH)
)
_BY_MESSAGE_ID: Final = Statement(
    sa.select(message_table.c.id, message_table.c.uid)
    .select_from(message_meta.join(message_table, message_table.c.id == message_meta.c.id))
    .where(
        message_meta.c.account_id == bindparam("account"),
        message_meta.c.message_id == bindparam("message_id"),
        message_table.c.mailbox_id == bindparam("mailbox"),
        message_table.c.expunged == 0,
    )
    .order_by(message_table.c.uid)
    .limit(_BATCH)
)
_BY_HASH: Final = Statement(
    sa.select(message_table.c.id)
    .select_from(message_table.join(message_meta, message_table.c.id == message_meta.c.id))
    .where(
        message_table.c.mailbox_id == bindparam("mailbox"),
        message_table.c.expunged == 0,
        message_meta.c.message_hash == bindparam("hash"),
    )
    .limit(1)
)


def tidy(tx: Tx, account_id: int, mailbox: Mailbox, *, keep: bool) -> bool:
    """Remove copies that are too old, unless `keep`; returns whether there is room for one more.

    At most a batch goes at a time, as each refused message comes by here.
    """
    if keep:
        return True
    old = tx.all(_OLD, mailbox=mailbox.id, before=tx.now - MAX_AGE)
    _expunge(tx, account_id, mailbox.id, [row[0] for row in old])
    return mailbox.messages - len(old) < MAX_MESSAGES


def has(tx: Tx, account_id: int, mailbox_id: int, message_id: str, message_hash: str) -> bool:
    """Whether there is a copy already: of the same Message-ID, or else the same content."""
    if message_id:
        found = tx.one(
            _BY_MESSAGE_ID, account=account_id, message_id=message_id, mailbox=mailbox_id
        )
        if found is not None:
            return True
    return tx.one(_BY_HASH, mailbox=mailbox_id, hash=message_hash) is not None


def remove(tx: Tx, account_id: int, name: str, message_id: str, *, keep: int = 0) -> None:
    """Remove copies with this (canonical) Message-ID: the message has been accepted after all.

    keep: id of a message that stays, being the one that was accepted.
    """
    mailbox = mailboxes.find(tx, account_id, name)
    if mailbox is None or not mailbox.messages:
        return
    found = tx.all(_BY_MESSAGE_ID, account=account_id, message_id=message_id, mailbox=mailbox.id)
    _expunge(tx, account_id, mailbox.id, [uid for number, uid in found if number != keep])


def _expunge(tx: Tx, account_id: int, mailbox_id: int, uids: list[int]) -> None:
    if uids:
        changing.expunge(
            tx, account_id, mailbox_id, [(uid, uid) for uid in uids], only_deleted=False
        )
