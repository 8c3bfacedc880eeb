"""Imports under way: how far they are, and what they have added."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

import msgspec
import sqlalchemy as sa
from sqlalchemy import bindparam

from moxtw.store import changing, mailboxes
from moxtw.store.errors import StoreError
from moxtw.store.schema_imports import import_ranges, imports
from moxtw.store.tx import Statement, Tx

KEPT: Final = 30 * 86400 * 1_000_000
"""Microseconds that an interrupted import can be continued."""
_UNDO: Final = 200


class ImportState(NamedTuple):
    """An import: its token, messages done with, messages by mailbox, mailboxes made."""

    token: str
    account_id: int
    position: int
    counts: dict[str, int]
    made: tuple[int, ...]


class ImportGone(StoreError):
    """The import was ended by somebody else, or goes on somewhere else."""


_COLUMNS: Final = (
    imports.c.token,
    imports.c.account_id,
    imports.c.position,
    imports.c.counts,
    imports.c.made,
)
_FIND = Statement(sa.select(*_COLUMNS).where(imports.c.token == bindparam("t")))
_BY_SOURCE = Statement(
    sa.select(*_COLUMNS).where(
        imports.c.account_id == bindparam("a"),
        imports.c.source == bindparam("s"),
        imports.c.updated > bindparam("after"),
    )
)
_OLD = Statement(
    sa.select(imports.c.token).where(
        imports.c.account_id == bindparam("a"), imports.c.updated <= bindparam("before")
    )
)
_ADD = Statement(
    imports.insert().values(
        token=bindparam("t"),
        account_id=bindparam("a"),
        source=bindparam("s"),
        counts=bindparam("c"),
        updated=bindparam("now"),
    )
)
_ADVANCE = Statement(
    imports.update()
    .where(imports.c.token == bindparam("t"), imports.c.position == bindparam("old"))
    .values(
        position=bindparam("p"),
        counts=bindparam("c"),
        made=bindparam("m"),
        updated=bindparam("now"),
    )
)
_RENAME = Statement(
    imports.update().where(imports.c.token == bindparam("t")).values(token=bindparam("n"))
)
_RENAME_RANGES = Statement(
    import_ranges.update()
    .where(import_ranges.c.token == bindparam("t"))
    .values(token=bindparam("n"))
)
_REMOVE = Statement(imports.delete().where(imports.c.token == bindparam("t")))
_ADD_RANGE = Statement(
    import_ranges.insert().values(
        token=bindparam("t"),
        account_id=bindparam("a"),
        mailbox_id=bindparam("m"),
        first_uid=bindparam("f"),
        last_uid=bindparam("l"),
    )
)
_RANGE = Statement(
    sa.select(
        import_ranges.c.id,
        import_ranges.c.mailbox_id,
        import_ranges.c.first_uid,
        import_ranges.c.last_uid,
    )
    .where(import_ranges.c.token == bindparam("t"))
    .order_by(import_ranges.c.id.desc())
    .limit(1)
)
_DROP_RANGE = Statement(import_ranges.delete().where(import_ranges.c.id == bindparam("i")))
_SHORTEN_RANGE = Statement(
    import_ranges.update()
    .where(import_ranges.c.id == bindparam("i"))
    .values(first_uid=bindparam("f"))
)
_DROP_RANGES = Statement(import_ranges.delete().where(import_ranges.c.token == bindparam("t")))


def _state(row: tuple[str, int, int, str, str]) -> ImportState:
    token, account_id, position, counts, made = row
    return ImportState(
        token,
        account_id,
        position,
        msgspec.json.decode(counts or "{}", type=dict[str, int]),
        tuple(map(int, made.split())),
    )


def find(tx: Tx, token: str) -> ImportState | None:
    """The import of that token."""
    row = tx.one(_FIND, t=token)
    return None if row is None else _state(row)


def begin(tx: Tx, account_id: int, source: str, token: str) -> ImportState:
    """The interrupted import of the same source, or a new one; from now on with this token."""
    for (old,) in tx.all(_OLD, a=account_id, before=tx.now - KEPT):
        forget(tx, old)
    row = tx.one(_BY_SOURCE, a=account_id, s=source, after=tx.now - KEPT)
    if row is not None:
        tx.run(_RENAME, t=row[0], n=token)
        tx.run(_RENAME_RANGES, t=row[0], n=token)
        return _state(row)._replace(token=token)
    tx.run(_ADD, t=token, a=account_id, s=source, c="{}", now=tx.now)
    return ImportState(token, account_id, 0, {}, ())


def advance(
    tx: Tx,
    old: ImportState,
    position: int,
    counts: Mapping[str, int],
    made: tuple[int, ...],
    added: Mapping[int, tuple[int, int]],
) -> None:
    """Note, in the job that adds messages, which UIDs they got. Raises ImportGone."""
    done = tx.run(
        _ADVANCE,
        t=old.token,
        old=old.position,
        p=position,
        c=msgspec.json.encode(dict(counts)).decode(),
        m=" ".join(map(str, made)),
        now=tx.now,
    )
    if not done:
        raise ImportGone("the import was ended or is continued elsewhere")
    for mailbox_id, (first, last) in added.items():
        tx.run(_ADD_RANGE, t=old.token, a=old.account_id, m=mailbox_id, f=first, l=last)


def forget(tx: Tx, token: str) -> None:
    """An import is complete, or too old: it cannot be continued or taken back any more."""
    tx.run(_DROP_RANGES, t=token)
    tx.run(_REMOVE, t=token)


def undo_some(tx: Tx, token: str) -> bool:
    """Take back a part of what an import has added; whether there is more.

    Messages that were moved since stay. At the end, mailboxes that were made for it go if they
    are empty, and the import is forgotten.
    """
    state = find(tx, token)
    if state is None:
        return False
    row = tx.one(_RANGE, t=token)
    if row is not None:
        range_id, mailbox_id, first, last = row
        end = min(last, first + _UNDO - 1)
        changing.expunge(
            tx, state.account_id, mailbox_id, [(first, end)], only_deleted=False
        )
        if end < last:
            tx.run(_SHORTEN_RANGE, i=range_id, f=end + 1)
        else:
            tx.run(_DROP_RANGE, i=range_id)
        return True
    mine = set(state.made)
    found = mailboxes.all(tx, state.account_id)
    # Children before their parents.
    for mailbox in sorted(found, key=lambda each: each.name, reverse=True):
        if mailbox.id in mine and not mailbox.messages:
            name = mailbox.name
            if not any(m.name.startswith(f"{name}/") for m in found if m.id not in mine):
                mailboxes.unsubscribe(tx, state.account_id, name)
                _delete(tx, state.account_id, name)
    forget(tx, token)
    return False


def _delete(tx: Tx, account_id: int, name: str) -> None:
    from moxtw.store.errors import InvalidMailboxName, MailboxHasChildren

    try:
        mailboxes.delete(tx, account_id, name)
    except (InvalidMailboxName, MailboxHasChildren):
        return  # Somebody has begun to use it.
