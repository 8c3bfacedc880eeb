"""Copies of many messages: in several transactions, and yet all or none.

One transaction for all of them would keep the writer from everybody else for as long as it
takes. What the transactions so far have added is noted in each of them, to be taken back if a
later one fails, or at the next start if there was no later one.
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from sqlalchemy import bindparam

from moxtw.store import changing, transfer
from moxtw.store.model import CopyResult
from moxtw.store.schema_copies import copy_ranges
from moxtw.store.transfer import Ranges
from moxtw.store.tx import Statement, Tx

_NOTE = Statement(
    copy_ranges.insert().values(
        copy_id=bindparam("c"),
        first_uid=bindparam("f"),
        last_uid=bindparam("l"),
        account_id=bindparam("a"),
        mailbox_id=bindparam("m"),
    )
)
_PART: Final = sa.select(
    copy_ranges.c.copy_id,
    copy_ranges.c.account_id,
    copy_ranges.c.mailbox_id,
    copy_ranges.c.first_uid,
    copy_ranges.c.last_uid,
).limit(1)
_ANY_PART = Statement(_PART)
_PART_OF = Statement(_PART.where(copy_ranges.c.copy_id == bindparam("c")))
_FORGET_PART = Statement(
    copy_ranges.delete().where(
        copy_ranges.c.copy_id == bindparam("c"), copy_ranges.c.first_uid == bindparam("f")
    )
)
_FORGET = Statement(copy_ranges.delete().where(copy_ranges.c.copy_id == bindparam("c")))


def copy_part(
    tx: Tx,
    account_id: int,
    mailbox_id: int,
    uid_ranges: Ranges,
    dest_id: int,
    quota: int,
    copy_id: int,
) -> CopyResult:
    """A part of a copy, not the last one; `copy_id` is an id (`Tx.new_id`) that all parts share.

    As `transfer.copy`. Parts are to come one after the other.
    """
    result = transfer.copy(tx, account_id, mailbox_id, uid_ranges, dest_id, quota)
    if result.dest_uids:
        first, last = result.dest_uids[0], result.dest_uids[-1]
        tx.run(_NOTE, c=copy_id, a=account_id, m=dest_id, f=first, l=last)
    return result


def complete(tx: Tx, copy_id: int) -> None:
    """The copy is complete, in the transaction that adds its last part."""
    tx.run(_FORGET, c=copy_id)


def undo_some(tx: Tx, copy_id: int = 0) -> bool:
    """Take back one part of a copy, by default of any; whether there was one.

    Messages that have been moved on since are somebody's: they stay.
    """
    row = tx.one(_PART_OF, c=copy_id) if copy_id else tx.one(_ANY_PART)
    if row is None:
        return False
    number, account_id, mailbox_id, first, last = row
    changing.expunge(tx, account_id, mailbox_id, [(first, last)], only_deleted=False)
    tx.run(_FORGET_PART, c=number, f=first)
    return True


def undo_all(tx: Tx) -> int:
    """Take back all copies that were interrupted; how many parts there were.

    For the start of the server, when no copy is under way.
    """
    count = 0
    while undo_some(tx):
        count += 1
    return count
