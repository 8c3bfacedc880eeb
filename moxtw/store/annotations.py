"""Annotations of mailboxes and of the account (RFC 5464): small values under names.

A mailbox id of 0 stands for the account as a whole. Keys are lower-case; what they may look
like is the protocol's matter.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy import bindparam

from moxtw.store import accounts, mailboxes
from moxtw.store.errors import AnnotationsTooLarge, TooManyAnnotations
from moxtw.store.schema_annotations import annotation_table
from moxtw.store.tx import Statement, Tx

# Of an account altogether: how many, and bytes of keys and values.
MAX_COUNT: Final = 1000
MAX_SIZE: Final = 1_000_000
# Removed ones of an account that are remembered.
_MAX_EXPUNGED: Final = 2000


class Name(NamedTuple):
    """An annotation without its value: `size` is that of the value, in bytes."""

    mailbox_id: int
    key: str
    size: int


class Value(NamedTuple):
    """A value, and whether it was given as a string."""

    data: bytes
    is_string: bool


class Changed(NamedTuple):
    """A key that was set or removed, and when."""

    mailbox_id: int
    key: str
    modseq: int


_OF_ACCOUNT = annotation_table.c.account_id == bindparam("a")
_OF_MAILBOX = (_OF_ACCOUNT, annotation_table.c.mailbox_id == bindparam("m"))
_LIVE = annotation_table.c.expunged == 0
_NAME_COLUMNS = (
    annotation_table.c.mailbox_id,
    annotation_table.c.key,
    sa.func.length(annotation_table.c.value),
)
_NAMES = Statement(sa.select(*_NAME_COLUMNS).where(_OF_ACCOUNT, _LIVE))
_MAILBOX_NAMES = Statement(sa.select(*_NAME_COLUMNS).where(*_OF_MAILBOX, _LIVE))
_VALUE = Statement(
    sa.select(annotation_table.c.value, annotation_table.c.is_string).where(
        *_OF_MAILBOX, annotation_table.c.key == bindparam("k"), _LIVE
    )
)
_STATE = Statement(
    sa.select(annotation_table.c.expunged).where(
        *_OF_MAILBOX, annotation_table.c.key == bindparam("k")
    )
)
_INSERT = Statement(
    annotation_table.insert().values(
        account_id=bindparam("a"),
        mailbox_id=bindparam("m"),
        key=bindparam("k"),
        value=bindparam("v"),
        is_string=bindparam("s"),
        create_seq=bindparam("q"),
        modseq=bindparam("q2"),
    )
)
_UPDATE = Statement(
    annotation_table.update()
    .where(*_OF_MAILBOX, annotation_table.c.key == bindparam("k"))
    .values(
        value=bindparam("v"),
        is_string=bindparam("s"),
        modseq=bindparam("q"),
        create_seq=sa.case(
            (annotation_table.c.expunged == 0, annotation_table.c.create_seq),
            else_=sa.cast(bindparam("q2"), annotation_table.c.create_seq.type),
        ),
        expunged=0,
    )
)
_EXPUNGE = Statement(
    annotation_table.update()
    .where(*_OF_MAILBOX, annotation_table.c.key == bindparam("k"))
    .values(expunged=1, value=b"", modseq=bindparam("q"))
)
_EXPUNGE_ALL = Statement(
    annotation_table.update()
    .where(*_OF_MAILBOX, _LIVE)
    .values(expunged=1, value=b"", modseq=bindparam("q"))
)
_TOTAL = Statement(
    sa.select(
        sa.func.count(),
        sa.func.coalesce(
            sa.func.sum(
                sa.func.length(annotation_table.c.key) + sa.func.length(annotation_table.c.value)
            ),
            0,
        ),
    ).where(_OF_ACCOUNT, _LIVE)
)
_EXPUNGED = Statement(
    sa.select(annotation_table.c.modseq)
    .where(_OF_ACCOUNT, annotation_table.c.expunged != 0)
    .order_by(annotation_table.c.modseq.desc())
    .limit(1)
    .offset(_MAX_EXPUNGED)
)
_FORGET = Statement(
    annotation_table.delete().where(
        _OF_ACCOUNT, annotation_table.c.expunged != 0, annotation_table.c.modseq <= bindparam("q")
    )
)
_CHANGED = Statement(
    sa.select(
        annotation_table.c.mailbox_id, annotation_table.c.key, annotation_table.c.modseq
    )
    .where(_OF_ACCOUNT, annotation_table.c.modseq > bindparam("q"))
    .order_by(annotation_table.c.mailbox_id, annotation_table.c.key)
)
_COPY = Statement(
    annotation_table.insert().from_select(
        [
            "account_id", "mailbox_id", "key", "value", "is_string", "create_seq", "modseq",
            "expunged",
        ],
        sa.select(
            annotation_table.c.account_id,
            sa.cast(bindparam("dest"), annotation_table.c.mailbox_id.type),
            annotation_table.c.key,
            annotation_table.c.value,
            annotation_table.c.is_string,
            sa.cast(bindparam("q"), annotation_table.c.create_seq.type),
            sa.cast(bindparam("q2"), annotation_table.c.modseq.type),
            annotation_table.c.expunged,
        ).where(*_OF_MAILBOX, _LIVE),
    )
)  # fmt: skip


def names(tx: Tx, account_id: int, mailbox_id: int | None = None) -> list[Name]:
    """The annotations of a mailbox, or (None) of all of them, sorted by key."""
    if mailbox_id is None:
        rows = tx.all(_NAMES, a=account_id)
    else:
        rows = tx.all(_MAILBOX_NAMES, a=account_id, m=mailbox_id)
    return sorted(Name._make(row) for row in rows)


def value(tx: Tx, account_id: int, mailbox_id: int, key: str) -> Value | None:
    """The value under a key, None if there is none."""
    row = tx.one(_VALUE, a=account_id, m=mailbox_id, k=key)
    return None if row is None else Value(row[0], bool(row[1]))


def change(
    tx: Tx, account_id: int, mailbox_id: int, values: Iterable[tuple[str, Value | None]]
) -> int:
    """Set values, or remove them (None): all or, with an error, none.

    Returns the modseq, 0 if nothing changed. Raises TooManyAnnotations, AnnotationsTooLarge,
    and NoSuchMailbox.
    """
    if mailbox_id:
        mailboxes.get(tx, mailbox_id)
    modseq = 0
    for key, new in values:
        expunged = tx.value(_STATE, a=account_id, m=mailbox_id, k=key)
        if new is None and expunged != 0:
            continue
        modseq = accounts.modseq(tx, account_id)
        if new is None:
            tx.run(_EXPUNGE, a=account_id, m=mailbox_id, k=key, q=modseq)
            continue
        tx.run(
            _INSERT if expunged is None else _UPDATE,
            a=account_id,
            m=mailbox_id,
            k=key,
            v=new.data,
            s=int(new.is_string),
            q=modseq,
            q2=modseq,
        )
    if modseq:
        _check(tx, account_id)
        _forget(tx, account_id)
        if mailbox_id:
            mailboxes.count(tx, mailbox_id, modseq)
    return modseq


def copy(tx: Tx, account_id: int, source: int, dest: int) -> None:
    """Give a new mailbox copies of the annotations of another. Raises as `change`."""
    modseq = accounts.modseq(tx, account_id)
    if tx.run(_COPY, a=account_id, m=source, dest=dest, q=modseq, q2=modseq):
        _check(tx, account_id)
        mailboxes.count(tx, dest, modseq)


def expunge_mailbox(tx: Tx, account_id: int, mailbox_id: int) -> None:
    """Remove the annotations of a mailbox that is about to be deleted."""
    modseq = accounts.modseq(tx, account_id)
    if tx.run(_EXPUNGE_ALL, a=account_id, m=mailbox_id, q=modseq):
        _forget(tx, account_id)


def changed_since(tx: Tx, account_id: int, modseq: int) -> Sequence[Changed]:
    """The keys that were set or removed after a modseq, sorted."""
    return [Changed._make(row) for row in tx.all(_CHANGED, a=account_id, q=modseq)]


def _check(tx: Tx, account_id: int) -> None:
    row = tx.one(_TOTAL, a=account_id)
    assert row is not None
    if row[0] > MAX_COUNT:
        raise TooManyAnnotations(f"more than {MAX_COUNT} annotations")
    if row[1] > MAX_SIZE:
        raise AnnotationsTooLarge(f"annotations of more than {MAX_SIZE} bytes altogether")


def _forget(tx: Tx, account_id: int) -> None:
    """Keep no more than some removed annotations: a client could make any number."""
    last = tx.value(_EXPUNGED, a=account_id)
    if last is not None:
        tx.run(_FORGET, a=account_id, q=last)
