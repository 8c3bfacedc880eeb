"""Repair of what can be computed anew: counts, sizes, UIDs and the numbers given out next.

Each job leaves a consistent state, and one that fails is undone as a whole. Damage to the bytes
of messages cannot be repaired here: see `moxtw.store.verify` for what is checked.
"""

from __future__ import annotations

import os
from typing import Any, Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy import bindparam

from moxtw.store import accounts, mailboxes
from moxtw.store.errors import NoSuchMailbox
from moxtw.store.schema import accounts as account_table
from moxtw.store.schema import content_data, contents, message_meta, messages
from moxtw.store.schema import mailboxes as mailbox_table
from moxtw.store.tx import Statement, Tx

# UIDs and UIDVALIDITYs have 32 bits (RFC 9051 2.3.1.1).
_MAX_NUMBER: Final = 0xFFFFFFFF

# -- UIDs ------------------------------------------------------------------------------------


class Bumped(NamedTuple):
    """A mailbox that got another UIDVALIDITY."""

    mailbox: str
    old: int
    new: int


_SET_UIDVALIDITY = Statement(
    mailbox_table.update()
    .where(mailbox_table.c.id == bindparam("i"))
    .values(uidvalidity=bindparam("v"), modseq=bindparam("m"))
)


def bump_uidvalidity(tx: Tx, account_id: int, name: str | None = None) -> list[Bumped]:
    """Give one new UIDVALIDITY to a mailbox, or to all of the account.

    Clients then forget what they know of them, as after a backup was restored. Raises
    NoSuchMailbox.
    """
    boxes = (
        mailboxes.all(tx, account_id)
        if name is None
        else [mailboxes.named(tx, account_id, name)]
    )
    value = accounts.next_uidvalidity(tx, account_id)
    modseq = accounts.modseq(tx, account_id)
    for box in boxes:
        tx.run(_SET_UIDVALIDITY, i=box.id, v=value, m=modseq)
    return [Bumped(box.name, box.uidvalidity, value) for box in boxes]


_ASIDE = Statement(
    messages.update()
    .where(messages.c.mailbox_id == bindparam("b"))
    .values(uid=-messages.c.id)
)
_OF_MAILBOX = Statement(
    sa.select(messages.c.id)
    .where(messages.c.mailbox_id == bindparam("b"))
    .order_by(messages.c.id)
)
_SET_UID = Statement(
    messages.update()
    .where(messages.c.id == bindparam("i"))
    .values(uid=bindparam("u"), modseq=bindparam("m"))
)
_SET_UIDNEXT = Statement(
    mailbox_table.update()
    .where(mailbox_table.c.id == bindparam("b"))
    .values(uidnext=bindparam("n"))
)
_ROWS_AT_ONCE: Final = 1000


class Reassigned(NamedTuple):
    """A mailbox whose messages got new UIDs, how many, and its new UIDVALIDITY."""

    mailbox: str
    messages: int
    uidvalidity: int


def reassign_uids(
    tx: Tx, account_id: int, mailbox_id: int | None = None
) -> list[Reassigned]:
    """Number the messages of a mailbox, or of all, from 1 on in the order of their ids.

    Also those that were expunged. The mailbox gets a new UIDVALIDITY, others do not. Takes a
    second for 100,000 messages: for a store that nobody else uses. Raises NoSuchMailbox.
    """
    boxes = mailboxes.all(tx, account_id)
    if mailbox_id is not None:
        boxes = [box for box in boxes if box.id == mailbox_id]
        if not boxes:
            raise NoSuchMailbox(f"no mailbox with id {mailbox_id}")
    value = accounts.next_uidvalidity(tx, account_id)
    modseq = accounts.modseq(tx, account_id)
    found = []
    for box in boxes:
        # No UID may be there twice on the way.
        tx.run(_ASIDE, b=box.id)
        uid = 0
        piece: list[dict[str, Any]] = []
        for (message_id,) in tx.all(_OF_MAILBOX, b=box.id):
            uid += 1
            piece.append({"i": message_id, "u": uid, "m": modseq})
            if len(piece) == _ROWS_AT_ONCE:
                tx.many(_SET_UID, piece)
                piece.clear()
        if piece:
            tx.many(_SET_UID, piece)
        tx.run(_SET_UIDNEXT, b=box.id, n=uid + 1)
        tx.run(_SET_UIDVALIDITY, i=box.id, v=value, m=modseq)
        found.append(Reassigned(box.name, uid, value))
    return found


_HIGHEST_UID = Statement(
    sa.select(sa.func.max(messages.c.uid)).where(messages.c.mailbox_id == bindparam("b"))
)
_UID_META = Statement(
    sa.select(
        mailbox_table.c.id,
        mailbox_table.c.name,
        mailbox_table.c.uidnext,
        mailbox_table.c.uidvalidity,
        mailbox_table.c.expunged,
    )
    .where(mailbox_table.c.account_id == bindparam("a"))
    .order_by(mailbox_table.c.name, mailbox_table.c.id)
)
_NEXT_UIDVALIDITY = Statement(
    sa.select(account_table.c.next_uidvalidity).where(account_table.c.id == bindparam("a"))
)
_SET_NEXT_UIDVALIDITY = Statement(
    account_table.update()
    .where(account_table.c.id == bindparam("a"))
    .values(next_uidvalidity=bindparam("v"))
)


def fix_uid_meta(tx: Tx, account_id: int) -> list[str]:
    """Raise each UIDNEXT, and the account's next UIDVALIDITY, above what is in use.

    Returns what was changed, in words.
    """
    told = []
    highest = 0
    for box_id, name, uidnext, uidvalidity, expunged in tx.all(_UID_META, a=account_id):
        highest = max(highest, uidvalidity)
        used = tx.value(_HIGHEST_UID, b=box_id) or 0
        if uidnext <= used:
            tx.run(_SET_UIDNEXT, b=box_id, n=used + 1)
            gone = ", deleted" if expunged else ""
            told.append(f"mailbox {name!r}{gone}: uidnext {uidnext} becomes {used + 1}")
        elif uidnext < 1:
            tx.run(_SET_UIDNEXT, b=box_id, n=1)
            told.append(f"mailbox {name!r}: uidnext {uidnext} becomes 1")
    following = tx.value(_NEXT_UIDVALIDITY, a=account_id)
    if following <= highest < _MAX_NUMBER:
        tx.run(_SET_NEXT_UIDVALIDITY, a=account_id, v=highest + 1)
        told.append(f"next uidvalidity {following} becomes {highest + 1}")
    if told:
        accounts.modseq(tx, account_id)
    return told


# -- Counts ----------------------------------------------------------------------------------

_DELETED_BIT = messages.c.flags.op("&")(64) != 0
_UNSEEN_BIT = messages.c.flags.op("&")(1) == 0
_zero: Any = sa.literal_column("0")
_one: Any = sa.literal_column("1")


def _sum(condition: Any, value: Any = _one) -> Any:
    return sa.func.coalesce(sa.func.sum(sa.case((condition, value), else_=_zero)), _zero)


_COUNTED = Statement(
    sa.select(
        _sum(~_DELETED_BIT),
        _sum(_DELETED_BIT),
        _sum(sa.and_(_UNSEEN_BIT, ~_DELETED_BIT)),
        _sum(_UNSEEN_BIT),
        sa.func.coalesce(sa.func.sum(messages.c.size), _zero),
        _sum(_DELETED_BIT, messages.c.size),
    ).where(messages.c.mailbox_id == bindparam("b"), messages.c.expunged == 0)
)
_COUNTS: Final = ("total", "deleted", "unread", "unseen", "size", "deleted_size")
_SET_COUNTS = Statement(
    mailbox_table.update()
    .where(mailbox_table.c.id == bindparam("b"))
    .values({name: bindparam(name) for name in _COUNTS})
)
_KEPT_COUNTS = Statement(
    sa.select(mailbox_table.c.name, *(mailbox_table.c[name] for name in _COUNTS)).where(
        mailbox_table.c.id == bindparam("b"), mailbox_table.c.expunged == 0
    )
)


def recount_mailbox(tx: Tx, mailbox_id: int) -> str | None:
    """Count a mailbox's messages anew; in words what was changed, None if nothing was."""
    row = tx.one(_KEPT_COUNTS, b=mailbox_id)
    if row is None:
        return None
    name, kept = row[0], [int(value) for value in row[1:]]
    counted = [int(value) for value in tx.one(_COUNTED, b=mailbox_id) or ()]
    if kept == counted:
        return None
    tx.run(_SET_COUNTS, b=mailbox_id, **dict(zip(_COUNTS, counted, strict=True)))
    changes = [
        f"{what} {old} becomes {new}"
        for what, old, new in zip(_COUNTS, kept, counted, strict=True)
        if old != new
    ]
    return f"mailbox {name!r}: {', '.join(changes)}"


_LIVE_SIZE = Statement(
    sa.select(sa.func.coalesce(sa.func.sum(mailbox_table.c.size), _zero)).where(
        mailbox_table.c.account_id == bindparam("a"), mailbox_table.c.expunged == 0
    )
)
_UNERASED_SIZE = Statement(
    sa.select(sa.func.coalesce(sa.func.sum(messages.c.size), _zero)).where(
        messages.c.account_id == bindparam("a"),
        messages.c.expunged == 1,
        messages.c.content_id.is_not(None),
    )
)
_USAGE = Statement(
    sa.select(account_table.c.disk_usage).where(account_table.c.id == bindparam("a"))
)
_SET_USAGE = Statement(
    account_table.update()
    .where(account_table.c.id == bindparam("a"))
    .values(disk_usage=bindparam("s"))
)


def recount_usage(tx: Tx, account_id: int) -> str | None:
    """Sum up what an account uses, given that its mailboxes' sizes are right."""
    kept = int(tx.value(_USAGE, a=account_id))
    counted = int(tx.value(_LIVE_SIZE, a=account_id)) + int(
        tx.value(_UNERASED_SIZE, a=account_id)
    )
    if kept == counted:
        return None
    tx.run(_SET_USAGE, a=account_id, s=counted)
    return f"disk usage {kept} becomes {counted}"


# -- Sizes -----------------------------------------------------------------------------------

_SIZES = Statement(
    sa.select(
        messages.c.id,
        messages.c.size,
        sa.func.length(message_meta.c.prefix),
        contents.c.id,
        contents.c.size,
        contents.c.file,
        sa.func.length(content_data.c.data),
    )
    .select_from(
        messages.join(message_meta, message_meta.c.id == messages.c.id)
        .join(contents, contents.c.id == messages.c.content_id)
        .outerjoin(content_data, content_data.c.content_id == contents.c.id)
    )
    .where(
        messages.c.account_id == bindparam("a"),
        messages.c.id > bindparam("after"),
    )
    .order_by(messages.c.id)
    .limit(bindparam("n"))
)


class WrongSizes(NamedTuple):
    """Of some messages those whose size is wrong.

    `contents` maps ids of contents to their real size; `messages` are ids. `last` is the id of
    the last message looked at, 0 if there is none; `seen` is how many were. `problems` are
    contents that cannot be read, in words.
    """

    last: int
    seen: int
    contents: dict[int, int]
    messages: list[int]
    problems: list[str]


def wrong_sizes(tx: Tx, account_id: int, after: int, count: int = 1000) -> WrongSizes:
    """Look at the sizes of some messages with ids above `after`."""
    rows = tx.all(_SIZES, a=account_id, after=after, n=count)
    bad_contents: dict[int, int] = {}
    bad_messages = []
    problems = []
    for message_id, size, prefix_size, content_id, kept, file, data_size in rows:
        actual = data_size
        if file is not None:
            path = tx.store.contents.path(file)
            try:
                actual = os.stat(path).st_size
            except OSError as exc:
                problems.append(f"message {message_id}: {path}: {exc.strerror}")
                continue
        elif data_size is None:
            problems.append(f"message {message_id}: content {content_id} has no data")
            continue
        if actual != kept:
            bad_contents[content_id] = actual
        if size != prefix_size + actual:
            bad_messages.append(message_id)
    last = rows[-1][0] if rows else 0
    return WrongSizes(last, len(rows), bad_contents, bad_messages, problems)


_SET_CONTENT_SIZE = Statement(
    contents.update().where(contents.c.id == bindparam("i")).values(size=bindparam("s"))
)
_WITH_CONTENT = Statement(sa.select(messages.c.id).where(messages.c.content_id == bindparam("i")))
_ONE_SIZE = Statement(
    sa.select(
        messages.c.account_id,
        messages.c.mailbox_id,
        messages.c.expunged,
        messages.c.flags,
        messages.c.size,
        sa.func.length(message_meta.c.prefix) + contents.c.size,
    )
    .select_from(
        messages.join(message_meta, message_meta.c.id == messages.c.id).join(
            contents, contents.c.id == messages.c.content_id
        )
    )
    .where(messages.c.id == bindparam("i"))
)
_SET_SIZE = Statement(
    messages.update().where(messages.c.id == bindparam("i")).values(size=bindparam("s"))
)
_ADD_SIZE = Statement(
    mailbox_table.update()
    .where(mailbox_table.c.id == bindparam("b"))
    .values(
        size=mailbox_table.c.size + bindparam("d"),
        deleted_size=mailbox_table.c.deleted_size + bindparam("dd"),
    )
)
_ADD_USAGE = Statement(
    account_table.update()
    .where(account_table.c.id == bindparam("a"))
    .values(disk_usage=account_table.c.disk_usage + bindparam("d"))
)


def fix_sizes(tx: Tx, wrong: WrongSizes) -> int:
    """Set right what `wrong_sizes` found, with counts and disk usage; returns how many messages.

    All messages with a content whose size was wrong are set right, also those of other accounts.
    """
    ids = set(wrong.messages)
    for content_id, size in wrong.contents.items():
        tx.run(_SET_CONTENT_SIZE, i=content_id, s=size)
        ids.update(row[0] for row in tx.all(_WITH_CONTENT, i=content_id))
    fixed = 0
    for message_id in sorted(ids):
        row = tx.one(_ONE_SIZE, i=message_id)
        if row is None:
            continue  # erased meanwhile
        account_id, box_id, expunged, flags, size, actual = row
        if size == actual:
            continue
        fixed += 1
        tx.run(_SET_SIZE, i=message_id, s=actual)
        if expunged == 0:
            tx.run(_ADD_SIZE, b=box_id, d=actual - size, dd=actual - size if flags & 64 else 0)
        if expunged != 2:
            tx.run(_ADD_USAGE, a=account_id, d=actual - size)
    return fixed


# -- Ids -------------------------------------------------------------------------------------


_SET_SEQUENCE = sa.text("UPDATE sequences SET next = :n WHERE name = 'ids' AND next < :n")
_RAISE_SEQUENCE = Statement(_SET_SEQUENCE)
HIGHEST_ID = Statement(
    sa.select(
        sa.func.coalesce(
            sa.select(sa.func.max(messages.c.id)).scalar_subquery(), _zero
        ),
        sa.func.coalesce(
            sa.select(sa.func.max(contents.c.id)).scalar_subquery(), _zero
        ),
    )
)


def fix_ids(tx: Tx) -> bool:
    """Raise the number from which ids are taken above those in use; whether that was needed."""
    row = tx.one(HIGHEST_ID)
    assert row is not None
    tx.store.ids.clear()
    return tx.run(_RAISE_SEQUENCE, n=max(row) + 1) > 0
