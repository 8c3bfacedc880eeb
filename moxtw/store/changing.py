"""Changing messages where they are: flags, and their end.

Sets of UIDs are as in `moxtw.store.messages`; all changes of one job share a modseq.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import compress, repeat
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import bindparam

from moxtw.store import accounts, mailboxes
from moxtw.store.messages import (
    ALL_UIDS,
    DELETED,
    IN_RANGE,
    LIVE,
    SEEN,
    STATE,
    Ranges,
    check_keywords,
    flag_columns,
)
from moxtw.store.model import FlagRow, Mailbox, StoreResult
from moxtw.store.schema import messages
from moxtw.store.tx import Statement, Tx

# -- Flags ---------------------------------------------------------------------------------

_ROWS = sa.select(
    messages.c.uid,
    messages.c.flags,
    messages.c.keywords,
    messages.c.modseq,
    messages.c.id,
    messages.c.size,
).order_by(messages.c.uid)
_FOR_STORE = Statement(_ROWS.where(*IN_RANGE, LIVE))
_IS_DELETED = messages.c.flags.op("&")(DELETED) == DELETED
_FOR_EXPUNGE = Statement(_ROWS.where(*IN_RANGE, LIVE, _IS_DELETED))
_SET_FLAGS = Statement(
    messages.update()
    .where(messages.c.id == bindparam("i"))
    .values(flags=bindparam("f"), keywords=bindparam("k"), modseq=bindparam("m"))
)
# Flags with some of them taken out and others added.
_MADE = messages.c.flags.op("&")(sa.cast(bindparam("keep"), sa.BigInteger)).op("|")(
    sa.cast(bindparam("add"), sa.BigInteger)
)
_CHANGE_FLAGS = Statement(
    messages.update()
    .where(*IN_RANGE, LIVE, messages.c.modseq <= bindparam("since"), messages.c.flags != _MADE)
    .values(flags=_MADE, modseq=bindparam("m"))
)


# So many messages in a range of UIDs are better changed all at once.
_WHOLE: Final = 10


def store_flags(
    tx: Tx,
    account_id: int,
    mailbox_id: int,
    uid_ranges: Ranges,
    op: str,
    change: int,
    keywords: Iterable[str] = (),
    unchanged_since: int | None = None,
) -> StoreResult:
    """Add (``+``), remove (``-``) or set (``=``) flags and keywords.

    Messages with a modseq above `unchanged_since` are left alone and named as failed; so are
    those that a silent ``=`` would not change, without a new modseq. Raises NoSuchMailbox.
    """
    mailbox = mailboxes.get(tx, mailbox_id)
    words = set(check_keywords(keywords).split())
    span = sum(last - first + 1 for first, last in uid_ranges)
    if (
        op != "="
        and not words
        and not change & DELETED  # whose sizes count
        and unchanged_since is None
        and span >= _WHOLE * len(uid_ranges)
    ):
        return _store_whole(tx, account_id, mailbox, uid_ranges, op, change)
    found: list[tuple[Any, ...]] = []
    for first, last in uid_ranges:
        found += tx.all(_FOR_STORE, mailbox=mailbox_id, first=first, last=last)
    # Changing all of a range at once is faster.
    whole = op != "=" and not words and len(uid_ranges) * _WHOLE < len(found)
    changed: list[FlagRow] = []
    unchanged: list[FlagRow] = []
    failed: list[int] = []
    before: list[int] = []
    updates: list[dict[str, Any]] = []
    counts = [0, 0, 0, 0, 0]
    modseq = 0
    for uid, old, old_words, row_modseq, row_id, size in found:
        if unchanged_since is not None and row_modseq > unchanged_since:
            failed.append(uid)
            continue
        if op == "+":
            new = old | change
            new_words = (
                old_words if not words else " ".join(sorted(words.union(old_words.split())))
            )
        elif op == "-":
            new = old & ~change
            new_words = (
                " ".join(sorted(set(old_words.split()) - words))
                if words and old_words
                else old_words
            )
        else:
            new = change
            new_words = " ".join(sorted(words))
        if new == old and new_words == old_words:
            unchanged.append(FlagRow(uid, old, old_words, row_modseq))
            continue
        if not modseq:
            modseq = accounts.modseq(tx, account_id)
        if not whole:
            updates.append({"i": row_id, "f": new, "k": new_words, "m": modseq})
        changed.append(FlagRow(uid, new, new_words, modseq))
        before.append(row_modseq)
        if (new ^ old) & (SEEN | DELETED):
            count_flags(counts, old, -1, size)
            count_flags(counts, new, 1, size)
    new_keywords = False
    if changed:
        if whole:
            for first, last in uid_ranges:
                tx.run(
                    _CHANGE_FLAGS,
                    mailbox=mailbox_id,
                    first=first,
                    last=last,
                    since=modseq if unchanged_since is None else unchanged_since,
                    keep=~change if op == "-" else -1,
                    add=change if op == "+" else 0,
                    m=modseq,
                )
        else:
            tx.many(_SET_FLAGS, updates)
        mailboxes.count(
            tx,
            mailbox_id,
            modseq,
            total=counts[0],
            deleted=counts[1],
            unread=counts[2],
            unseen=counts[3],
            deleted_size=counts[4],
        )
        if words and op != "-":
            new_keywords = mailboxes.add_keywords(tx, mailbox, words)
    return StoreResult(
        modseq or mailbox.modseq, changed, unchanged, failed, new_keywords, before
    )


def _store_whole(
    tx: Tx, account_id: int, mailbox: Mailbox, uid_ranges: Ranges, op: str, change: int
) -> StoreResult:
    """Add or remove flags of many messages that lie together: column by column."""
    uids, bits, words, before = flag_columns(tx, mailbox.id, uid_ranges)
    if sorted(uids) != uids:
        # A database may give them in any order.
        in_order = sorted(zip(uids, bits, words, before, strict=True))
        uids, bits, words, before = map(list, zip(*in_order, strict=True))
    keep, add = (~change, 0) if op == "-" else (-1, change)
    made = [each & keep | add for each in bits]
    differ = [old != new for old, new in zip(bits, made, strict=True)]
    if not any(differ):
        unchanged = list(map(FlagRow._make, zip(uids, bits, words, before, strict=True)))
        return StoreResult(mailbox.modseq, [], unchanged, [], False, [])
    modseq = accounts.modseq(tx, account_id)
    for first, last in uid_ranges:
        tx.run(
            _CHANGE_FLAGS,
            mailbox=mailbox.id,
            first=first,
            last=last,
            since=modseq,
            keep=keep,
            add=add,
            m=modseq,
        )
    unread = unseen = 0
    if change & SEEN:
        flipped = [old for old, new in zip(bits, made, strict=True) if (old ^ new) & SEEN]
        sign = 1 if op == "-" else -1
        unseen = sign * len(flipped)
        unread = sign * sum(not old & DELETED for old in flipped)
    mailboxes.count(tx, mailbox.id, modseq, unread=unread, unseen=unseen)
    became = map(FlagRow._make, zip(uids, made, words, repeat(modseq), strict=False))
    stayed: list[FlagRow] = []
    if not all(differ):
        rows = compress(zip(uids, bits, words, before, strict=True), [not each for each in differ])
        stayed = list(map(FlagRow._make, rows))
    return StoreResult(
        modseq, list(compress(became, differ)), stayed, [], False, list(compress(before, differ))
    )


def count_flags(counts: list[int], bits: int, sign: int, size: int) -> None:
    """Take a message with these flags into counts, or (`sign` -1) out of them.

    They are total, deleted, unread, unseen, and the size of deleted ones.
    """
    if bits & DELETED:
        counts[1] += sign
        counts[4] += sign * size
    else:
        counts[0] += sign
        if not bits & SEEN:
            counts[2] += sign
    if not bits & SEEN:
        counts[3] += sign


# -- Expunge ---------------------------------------------------------------------------------

_GONE = {"expunged": 1, "modseq": bindparam("m")}
_MARK_EXPUNGED = Statement(messages.update().where(*IN_RANGE, LIVE).values(_GONE))
_MARK_DELETED_EXPUNGED = Statement(
    messages.update().where(*IN_RANGE, LIVE, _IS_DELETED).values(_GONE)
)
_MARK_ALL_EXPUNGED = Statement(
    messages.update()
    .where(messages.c.mailbox_id == bindparam("mailbox"), LIVE)
    .values(_GONE)
)


def expunge(
    tx: Tx,
    account_id: int,
    mailbox_id: int,
    uid_ranges: Ranges = ALL_UIDS,
    *,
    only_deleted: bool = True,
) -> tuple[int, list[int]]:
    """Expunge messages (those flagged Deleted, or all); returns the modseq and their UIDs.

    The modseq is the mailbox's present one when there was nothing to expunge.
    """
    found: list[tuple[Any, ...]] = []
    statement = _FOR_EXPUNGE if only_deleted else _FOR_STORE
    for first, last in uid_ranges:
        found += tx.all(statement, mailbox=mailbox_id, first=first, last=last)
    if not found:
        state = tx.one(STATE, mailbox=mailbox_id)
        return (0 if state is None else state[0]), []
    modseq = accounts.modseq(tx, account_id)
    counts = [0, 0, 0, 0, 0]
    total = 0
    for _uid, bits, _words, _modseq, _id, size in found:
        count_flags(counts, bits, -1, size)
        total += size
    mark = _MARK_DELETED_EXPUNGED if only_deleted else _MARK_EXPUNGED
    for first, last in uid_ranges:
        tx.run(mark, mailbox=mailbox_id, first=first, last=last, m=modseq)
    mailboxes.count(
        tx,
        mailbox_id,
        modseq,
        total=counts[0],
        deleted=counts[1],
        unread=counts[2],
        unseen=counts[3],
        size=-total,
        deleted_size=counts[4],
    )
    tx.erase.add(account_id)
    return modseq, [row[0] for row in found]


def expunge_mailbox(tx: Tx, account_id: int, mailbox_id: int) -> None:
    """Expunge all messages of a mailbox that is about to be deleted."""
    tx.run(_MARK_ALL_EXPUNGED, mailbox=mailbox_id, m=accounts.modseq(tx, account_id))
    tx.erase.add(account_id)
