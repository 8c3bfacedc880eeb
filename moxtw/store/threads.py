"""Threads are assigned when a message is added.

A message becomes a child of one with the same Message-ID, else of the nearest message that it
refers to, else (for what looks like a response) of a recent one with the same base subject.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy import bindparam

from moxtw.mail.parsed import ParsedMessage
from moxtw.store.schema import message_meta, messages
from moxtw.store.tx import Statement, Tx

_DAY: Final = 86400 * 1_000_000
SUBJECT_BEFORE: Final = 28 * _DAY
SUBJECT_AFTER: Final = _DAY
"""Microseconds that a message with the same subject may be older, or newer."""
# References looked at: a hostile header may have thousands.
_MAX_REFERENCES: Final = 50
# Ancestors kept for a message; deeper chains keep the nearest ones and stay in their thread.
MAX_PARENTS: Final = 500

_COLUMNS = (
    message_meta.c.id,
    messages.c.thread_id,
    message_meta.c.thread_parents,
    message_meta.c.subject_base,
    message_meta.c.thread_muted,
    message_meta.c.thread_collapsed,
)
_JOIN = message_meta.join(messages, messages.c.id == message_meta.c.id)
_BY_MESSAGE_ID = Statement(
    sa.select(*_COLUMNS)
    .select_from(_JOIN)
    .where(
        message_meta.c.account_id == bindparam("a"),
        message_meta.c.message_id == bindparam("m"),
        messages.c.expunged == 0,
    )
    .order_by(message_meta.c.id)
    .limit(1)
)
_BY_SUBJECT = Statement(
    sa.select(*_COLUMNS)
    .select_from(_JOIN)
    .where(
        message_meta.c.account_id == bindparam("a"),
        message_meta.c.subject_base == bindparam("s"),
        message_meta.c.received >= bindparam("after"),
        message_meta.c.received <= bindparam("before"),
        message_meta.c.mailbox_orig_id == bindparam("mailbox"),
        messages.c.expunged == 0,
    )
    .order_by(message_meta.c.received.desc())
    .limit(1)
)


class Place(NamedTuple):
    """Where a message belongs. `thread_id` 0: it begins a thread under its own id."""

    thread_id: int = 0
    parents: str = ""
    missing_link: bool = False
    muted: bool = False
    collapsed: bool = False


def _below(row: tuple[int, int, str, str, int, int], missing_link: bool) -> Place:
    parent_id, thread_id, parents, _subject, muted, collapsed = row
    chain = [str(parent_id), *parents.split()][:MAX_PARENTS]
    return Place(thread_id, " ".join(chain), missing_link, bool(muted), bool(collapsed))


def place(
    tx: Tx, account_id: int, parsed: ParsedMessage, mailbox_orig_id: int, received: int
) -> Place:
    """Find the thread for a message that is about to be added."""
    if parsed.message_id:
        row = tx.one(_BY_MESSAGE_ID, a=account_id, m=parsed.message_id)
        if row is not None:
            return _below(row, True)
    references = parsed.references or parsed.in_reply_to
    if references:
        passed = False
        for reference in reversed(references[-_MAX_REFERENCES:]):
            row = tx.one(_BY_MESSAGE_ID, a=account_id, m=reference)
            if row is not None and (parsed.is_dsn or row[3] == parsed.subject_base):
                return _below(row, passed)
            passed = True
        return Place(missing_link=True)
    if parsed.is_response and parsed.subject_base:
        row = tx.one(
            _BY_SUBJECT,
            a=account_id,
            s=parsed.subject_base,
            mailbox=mailbox_orig_id,
            after=received - SUBJECT_BEFORE,
            before=received + SUBJECT_AFTER,
        )
        if row is not None:
            return _below(row, True)
    return Place()
