"""What kinds of changes there were in a mailbox, without what has changed (RFC 5465 5)."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy import bindparam

from moxtw.store.schema import messages
from moxtw.store.tx import Statement, Tx

# With more changed messages than that, all kinds are taken to be among them.
_MOST: Final = 1000

_CHANGED = Statement(
    sa.select(messages.c.modseq, messages.c.create_seq, messages.c.expunged)
    .where(messages.c.mailbox_id == bindparam("mailbox"), messages.c.modseq > bindparam("m"))
    .order_by(messages.c.modseq)
    .limit(_MOST + 1)
)


class Activity(NamedTuple):
    """Whether messages came, went, or got other flags."""

    new: bool
    gone: bool
    flags: bool


def since(tx: Tx, mailbox_id: int, modseq: int, own: Collection[int] = ()) -> Activity:
    """What happened in a mailbox after `modseq`, but for changes with one of the `own` modseqs."""
    rows = tx.all(_CHANGED, mailbox=mailbox_id, m=modseq)
    if len(rows) > _MOST:
        return Activity(new=True, gone=True, flags=True)
    new = gone = flags = False
    for changed, created, expunged in rows:
        if created > modseq:
            # Perhaps changed again, by this session.
            new = new or created not in own
        elif changed not in own:
            gone = gone or bool(expunged)
            flags = flags or not expunged
    return Activity(new, gone, flags)
