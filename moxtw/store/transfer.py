"""Copies and moves of messages between mailboxes of an account.

Ten thousand messages must not keep the writer from others for long: all work is done by
statements on sets. A run of messages with consecutive UIDs gets consecutive UIDs and ids, so
that the new ones are the old ones plus a number.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy import bindparam

from moxtw.store import accounts, mailboxes
from moxtw.store.changing import count_flags
from moxtw.store.errors import NoSuchMailbox, OverQuota, StoreError
from moxtw.store.messages import SEEN
from moxtw.store.model import CopyResult, Mailbox
from moxtw.store.schema import mailboxes as mailbox_table
from moxtw.store.schema import message_meta, messages, recipients
from moxtw.store.tx import Statement, Tx, ranges

Ranges = Sequence[tuple[int, int]]

_IN_RANGE = (
    messages.c.mailbox_id == bindparam("mailbox"),
    messages.c.uid >= bindparam("first"),
    messages.c.uid <= bindparam("last"),
    messages.c.expunged == 0,
)
_SELECT = Statement(
    sa.select(messages.c.uid, messages.c.flags, messages.c.keywords, messages.c.size)
    .where(*_IN_RANGE)
    .order_by(messages.c.uid)
)
_TAKE_UIDS = Statement(
    mailbox_table.update()
    .where(mailbox_table.c.id == bindparam("mailbox"), mailbox_table.c.expunged == 0)
    .values(uidnext=mailbox_table.c.uidnext + bindparam("count"))
    .returning(mailbox_table.c.uidnext - bindparam("count2"))
)


def _as(name: str, column: sa.Column[Any]) -> Any:
    return sa.cast(bindparam(name), column.type)


# Of a run, `uid_step` and `id_step` lead from an old UID to the new UID and id.
_ID = messages.c.uid + sa.cast(bindparam("id_step"), messages.c.id.type)
_INSERTED: Final = (
    "id",
    "account_id",
    "mailbox_id",
    "uid",
    "modseq",
    "create_seq",
    "expunged",
    "flags",
    "keywords",
    "size",
    "received",
    "save_date",
    "content_id",
    "thread_id",
)


def _insert(**different: Any) -> Statement:
    """Insert rows made from those of a run; `different` are the columns that differ."""
    return Statement(
        messages.insert().from_select(
            list(_INSERTED),
            sa.select(*[different.get(name, messages.c[name]) for name in _INSERTED]).where(
                *_IN_RANGE
            ),
        )
    )


_COPY = _insert(
    id=_ID,
    mailbox_id=_as("dest", messages.c.mailbox_id),
    uid=messages.c.uid + sa.cast(bindparam("uid_step"), messages.c.uid.type),
    modseq=_as("m", messages.c.modseq),
    create_seq=_as("m", messages.c.modseq),
    save_date=_as("now", messages.c.save_date),
)
_STUBS = _insert(
    id=_ID,
    modseq=_as("m", messages.c.modseq),
    expunged=sa.literal_column("2"),
    save_date=sa.null(),
)

_META_COPIED: Final = [
    column.name
    for column in message_meta.columns
    if column.name not in ("id", "is_reject")
]
# What leaves the rejects mailbox began where it was meant to go.
_ORIGIN = sa.case(
    (
        sa.and_(message_meta.c.is_reject != 0, message_meta.c.mailbox_destined_id != 0),
        message_meta.c.mailbox_destined_id,
    ),
    else_=message_meta.c.mailbox_orig_id,
)
# A copy is the same message to clients (RFC 8474 5.1, EMAILID).
_EMAIL_ID = sa.case(
    (message_meta.c.email_id == 0, message_meta.c.id), else_=message_meta.c.email_id
)
_COMPUTED: Final[dict[str, Any]] = {"mailbox_orig_id": _ORIGIN, "email_id": _EMAIL_ID}
_COPY_META = Statement(
    message_meta.insert().from_select(
        ["id", *_META_COPIED],
        sa.select(
            _ID, *[_COMPUTED.get(name, message_meta.c[name]) for name in _META_COPIED]
        )
        .select_from(messages.join(message_meta, message_meta.c.id == messages.c.id))
        .where(*_IN_RANGE),
    )
)
_RECIPIENT_COLUMNS: Final = ("account_id", "localpart", "domain", "org_domain", "sent")
_COPY_RECIPIENTS = Statement(
    recipients.insert().from_select(
        ["message_id", *_RECIPIENT_COLUMNS],
        sa.select(_ID, *[recipients.c[name] for name in _RECIPIENT_COLUMNS])
        .select_from(messages.join(recipients, recipients.c.message_id == messages.c.id))
        .where(*_IN_RANGE),
    )
)
_RELOCATE = Statement(
    messages.update()
    .where(*_IN_RANGE)
    .values(
        mailbox_id=bindparam("dest"),
        uid=messages.c.uid + bindparam("uid_step"),
        modseq=bindparam("m"),
        create_seq=bindparam("m"),
        save_date=bindparam("now"),
    )
)
_SET_FLAGS = Statement(
    messages.update()
    .where(*_IN_RANGE, messages.c.flags == bindparam("old"))
    .values(flags=bindparam("new"))
)
_REJECTED = Statement(
    sa.select(messages.c.id, messages.c.uid, message_meta.c.mailbox_destined_id)
    .select_from(messages.join(message_meta, message_meta.c.id == messages.c.id))
    .where(*_IN_RANGE, message_meta.c.is_reject != 0)
)
_UNREJECT = Statement(
    message_meta.update()
    .where(message_meta.c.id == bindparam("i"))
    .values(is_reject=0, mailbox_orig_id=bindparam("orig"))
)
_UNSEE = Statement(
    messages.update()
    .where(messages.c.id == bindparam("i"))
    .values(flags=messages.c.flags.op("&")(sa.literal_column(str(~SEEN))))
)
# Out of the introbox. The bits are those of Junk and NotJunk.
_DESTINED = sa.select(message_meta.c.mailbox_destined_id).where(
    message_meta.c.id == messages.c.id
)
_WELCOME = Statement(
    messages.update()
    .where(
        *_IN_RANGE,
        messages.c.flags.op("&")(sa.literal_column("48")) == 0,
        _DESTINED.scalar_subquery() == bindparam("dest"),
    )
    .values(flags=messages.c.flags.op("|")(sa.literal_column("32")))
)
_ARRIVED = Statement(
    message_meta.update()
    .where(
        message_meta.c.mailbox_destined_id != 0,
        message_meta.c.id.in_(
            sa.select(messages.c.id).where(
                *_IN_RANGE, messages.c.flags.op("&")(sa.literal_column("48")) != 0
            )
        ),
    )
    .values(mailbox_orig_id=message_meta.c.mailbox_destined_id, mailbox_destined_id=0)
)


class _Run(NamedTuple):
    """Messages with consecutive UIDs: where they are, and the steps to the new numbers."""

    first: int
    last: int
    uid_step: int
    id_step: int


def _select(tx: Tx, mailbox_id: int, uid_ranges: Ranges) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = []
    for first, last in uid_ranges:
        found += tx.all(_SELECT, mailbox=mailbox_id, first=first, last=last)
    return found


def _runs(uids: list[int], first_uid: int, first_id: int) -> list[_Run]:
    """The runs of ascending UIDs, which get new UIDs and ids from the given ones on."""
    runs = []
    done = 0
    for first, last in ranges(uids):
        runs.append(_Run(first, last, first_uid + done - first, first_id + done - first))
        done += last - first + 1
    return runs


def _take_uids(tx: Tx, mailbox_id: int, count: int) -> int:
    first: int | None = tx.value(_TAKE_UIDS, mailbox=mailbox_id, count=count, count2=count)
    if first is None:
        raise NoSuchMailbox(str(mailbox_id))
    if first + count > 0xFFFFFFFF:
        raise StoreError("the mailbox has no UIDs left")
    return first


def _adapt(
    tx: Tx, account_id: int, dest: Mailbox, found: list[tuple[Any, ...]], dest_uids: list[int]
) -> dict[int, int]:
    """Give messages that have come into `dest` the junk flags that suit it.

    Returns what became of each combination of flags.
    """
    account = accounts.name_of(tx, account_id)
    became = {
        bits: tx.store.junk_flags(account, dest.name, dest.special_use, bits)
        for bits in {row[1] for row in found}
    }
    # In any order: flags that suit the mailbox are not changed once more.
    for old, new in became.items():
        if old != new:
            tx.run(
                _SET_FLAGS,
                mailbox=dest.id,
                first=dest_uids[0],
                last=dest_uids[-1],
                old=old,
                new=new,
            )
    return became


def _introduce(
    tx: Tx, account_id: int, mailbox_id: int, dest: Mailbox, dest_uids: list[int]
) -> None:
    """Messages that have left the introbox count for the mailbox that they were meant for.

    In that mailbox they are not junk, if nothing else says what they are. In others, only once
    they are flagged as junk or not junk.
    """
    introbox = tx.store.introbox(accounts.name_of(tx, account_id))
    if not introbox or mailbox_id == dest.id:
        return
    if mailboxes.get(tx, mailbox_id).name != introbox:
        return
    place = {"mailbox": dest.id, "first": dest_uids[0], "last": dest_uids[-1]}
    tx.run(_WELCOME, **place, dest=dest.id)
    tx.run(_ARRIVED, **place)


def _count(
    tx: Tx, mailbox_id: int, modseq: int, counts: Sequence[int], size: int
) -> None:
    mailboxes.count(
        tx,
        mailbox_id,
        modseq,
        total=counts[0],
        deleted=counts[1],
        unread=counts[2],
        unseen=counts[3],
        size=size,
        deleted_size=counts[4],
    )


def _add_keywords(tx: Tx, dest: Mailbox, found: list[tuple[Any, ...]]) -> None:
    words = {word for keywords in {row[2] for row in found} for word in keywords.split()}
    if words:
        mailboxes.add_keywords(tx, dest, words)


def copy(
    tx: Tx,
    account_id: int,
    mailbox_id: int,
    uid_ranges: Ranges,
    dest_id: int,
    quota: int = 0,
) -> CopyResult:
    """Copy messages to another mailbox; no content is copied.

    All or none. Raises NoSuchMailbox, OverQuota.
    """
    dest = mailboxes.get(tx, dest_id)
    found = _select(tx, mailbox_id, uid_ranges)
    if not found:
        return CopyResult(dest.uidvalidity, [], [], dest.modseq)
    total = sum(row[3] for row in found)
    modseq, used = accounts.use(tx, account_id, total)
    if quota > 0 and used > quota:
        raise OverQuota(f"{used} bytes would be used of {quota}")
    uids = [row[0] for row in found]
    first_uid = _take_uids(tx, dest_id, len(uids))
    dest_uids = list(range(first_uid, first_uid + len(uids)))
    for run in _runs(uids, first_uid, tx.new_ids(len(uids))):
        place = {"mailbox": mailbox_id, "first": run.first, "last": run.last}
        tx.run(
            _COPY,
            **place,
            dest=dest_id,
            uid_step=run.uid_step,
            id_step=run.id_step,
            m=modseq,
            now=tx.now,
        )
        tx.run(_COPY_META, **place, id_step=run.id_step)
        tx.run(_COPY_RECIPIENTS, **place, id_step=run.id_step)
    became = _adapt(tx, account_id, dest, found, dest_uids)
    _introduce(tx, account_id, mailbox_id, dest, dest_uids)
    counts = [0, 0, 0, 0, 0]
    for _uid, bits, _keywords, size in found:
        count_flags(counts, became[bits], 1, size)
    _count(tx, dest_id, modseq, counts, total)
    _count(tx, mailbox_id, modseq, (0, 0, 0, 0, 0), 0)
    _add_keywords(tx, dest, found)
    return CopyResult(dest.uidvalidity, uids, dest_uids, modseq)


def move(
    tx: Tx,
    account_id: int,
    mailbox_id: int,
    uid_ranges: Ranges,
    dest_id: int,
    *,
    adapt: bool = True,
) -> CopyResult:
    """Move messages to another mailbox of the account, or to the end of the same one.

    A message keeps its id; an expunged row takes its old mailbox and UID, through which
    sessions that have not noticed can still read it. With `adapt`, junk flags follow the
    mailbox. Raises NoSuchMailbox.
    """
    dest = mailboxes.get(tx, dest_id)
    found = _select(tx, mailbox_id, uid_ranges)
    if not found:
        return CopyResult(dest.uidvalidity, [], [], dest.modseq)
    modseq = accounts.modseq(tx, account_id)
    uids = [row[0] for row in found]
    first_uid = _take_uids(tx, dest_id, len(uids))
    dest_uids = list(range(first_uid, first_uid + len(uids)))
    rejected: set[int] = set()
    for run in _runs(uids, first_uid, tx.new_ids(len(uids))):
        place = {"mailbox": mailbox_id, "first": run.first, "last": run.last}
        tx.run(_STUBS, **place, id_step=run.id_step, m=modseq)
        tx.run(_COPY_META, **place, id_step=run.id_step)
        if adapt:
            rejected |= _unreject(tx, place, dest_id)
        tx.run(
            _RELOCATE, **place, dest=dest_id, uid_step=run.uid_step, m=modseq, now=tx.now
        )
    source_counts = [0, 0, 0, 0, 0]
    dest_counts = [0, 0, 0, 0, 0]
    arrived = [
        (uid, bits & ~SEEN if uid in rejected else bits, keywords, size)
        for uid, bits, keywords, size in found
    ]
    became = {}
    if adapt:
        became = _adapt(tx, account_id, dest, arrived, dest_uids)
        _introduce(tx, account_id, mailbox_id, dest, dest_uids)
    for old, new in zip(found, arrived, strict=True):
        count_flags(source_counts, old[1], -1, old[3])
        count_flags(dest_counts, became.get(new[1], new[1]), 1, new[3])
    total = sum(row[3] for row in found)
    _count(tx, mailbox_id, modseq, source_counts, -total)
    _count(tx, dest_id, modseq, dest_counts, total)
    _add_keywords(tx, dest, found)
    tx.erase.add(account_id)
    return CopyResult(dest.uidvalidity, uids, dest_uids, modseq)


_NEXT: Final = Statement(
    sa.select(messages.c.uid)
    .where(
        messages.c.mailbox_id == bindparam("mailbox"),
        messages.c.expunged == 0,
        messages.c.uid <= bindparam("last"),
    )
    .order_by(messages.c.uid)
    .limit(bindparam("most"))
)


def move_some(
    tx: Tx, account_id: int, mailbox_id: int, dest_id: int, last_uid: int, most: int = 500
) -> int:
    """Move the first messages of a mailbox, as they are; the modseq, 0 if there are none left.

    Only those with UIDs up to `last_uid`. For what a mailbox holds altogether: in one job that
    would hold up everybody.
    """
    uids = [row[0] for row in tx.all(_NEXT, mailbox=mailbox_id, last=last_uid, most=most)]
    if not uids:
        return 0
    return move(
        tx, account_id, mailbox_id, [(uids[0], uids[-1])], dest_id, adapt=False
    ).modseq


def _unreject(tx: Tx, place: dict[str, int], dest_id: int) -> set[int]:
    """Out of the rejects mailbox: what was refused is wanted after all. Returns the UIDs."""
    uids = set()
    for row_id, uid, destined in tx.all(_REJECTED, **place):
        tx.run(_UNREJECT, i=row_id, orig=destined or dest_id)
        tx.run(_UNSEE, i=row_id)
        uids.add(uid)
    return uids
