"""The messages of a mailbox in an order, or in threads (RFC 5256, RFC 5957).

What is compared was found when a message arrived (`moxtw.mail.sortkeys`) and stands in narrow
rows. Whole mailboxes are sorted by the database, which needs no interpreter meanwhile.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import bindparam

from moxtw.mail import threading
from moxtw.mail.sortkeys import read_keys
from moxtw.mail.threading import Forest
from moxtw.store import content
from moxtw.store.errors import NoContent
from moxtw.store.orders import Columns, Kept, Order, Orders
from moxtw.store.schema import messages
from moxtw.store.schema_keys import content_keys, keys_due
from moxtw.store.tx import Statement, Tx, ranges

# RFC 5256 2.2: without a usable Date header the time of arrival counts. Times are of whole
# seconds, as clients see them.
_ARRIVAL: Final = messages.c.received // 1_000_000
_SENT: Final = sa.func.coalesce(content_keys.c.sent, messages.c.received) // 1_000_000
KEYS: Final[dict[str, Any]] = {
    "arrival": _ARRIVAL,
    "cc": content_keys.c.cc,
    "date": _SENT,
    "display_from": content_keys.c.display_from,
    "display_to": content_keys.c.display_to,
    "from": content_keys.c.from_,
    "size": messages.c.size,
    "subject": content_keys.c.subject,
    "to": content_keys.c.to_,
}
RELEVANCY: Final = "relevancy"
"""Not kept: a search finds out how relevant messages are (RFC 6203 6)."""
_NARROW: Final = frozenset({"arrival", "size", RELEVANCY})

# Up to this many messages, or if they lie far apart, only they are looked at.
_FEW: Final = 500
_APART: Final = 16
# What is kept of a mailbox serves for one in so many of its messages.
_SERVES: Final = 8
# One in so many messages: finding places for more is no quicker than sorting all anew.
_ADDED: Final = 64

_JOINED: Final = messages.join(
    content_keys, content_keys.c.content_id == messages.c.content_id
)
_ANY: Final = (
    messages.c.mailbox_id == bindparam("mailbox"),
    messages.c.uid >= bindparam("first"),
    messages.c.uid <= bindparam("last"),
)
_RANGE: Final = (*_ANY, messages.c.expunged == 0)


def _is_dense(uids: Sequence[int]) -> bool:
    """Whether to look at all that lies between the first and the last of ascending UIDs."""
    return len(uids) > _FEW and uids[-1] - uids[0] < _APART * len(uids)


def ordered(
    tx: Tx,
    mailbox_id: int,
    uids: Sequence[int],
    order: Order,
    *,
    live: bool = True,
    orders: Orders | None = None,
    score: Callable[[int], int] | None = None,
) -> list[int]:
    """The (ascending) UIDs of messages in the order; where it decides nothing, ascending.

    Without `live`, some may have gone, as long as their content is there for sessions that
    show them. `orders` is for reading jobs: what is kept there is used, and kept. `score` is
    for "relevancy": the most relevant come first.
    """
    if len(uids) < 2:
        return list(uids)
    if any(key == RELEVANCY for key, _ in order):
        return _by_score(tx, mailbox_id, uids, order, live, score or (lambda uid: 0))
    if _is_dense(uids):
        first, last = uids[0], uids[-1]
        kept = orders.sorted.find((mailbox_id, order)) if orders is not None else None
        found = None
        if kept is not None and kept.first <= first and len(kept.uids) <= _SERVES * len(uids):
            found = kept.uids.tolist()
            if kept.last < last:
                more = uids[bisect_right(uids, kept.last) :]
                if len(more) * _ADDED <= len(found):
                    wanted = set(uids)
                    found = [uid for uid in found if uid in wanted]
                    return merged(found, places(tx, mailbox_id, found, more, order))
                found = None
        if found is None:
            rows = tx.all(_sorting(order, live), mailbox=mailbox_id, first=first, last=last)
            found = [uid for (uid,) in rows]
            new = Kept(first, last, array("I", found))
            if orders is not None and (kept is None or new.covers(kept)):
                orders.sorted.keep((mailbox_id, order), new)
        if len(found) == len(uids):
            return found
        wanted = set(uids)
        return [uid for uid in found if uid in wanted]
    statement = _fetching(order, live)
    rows = []
    for first, last in ranges(uids):
        rows += tx.all(statement, mailbox=mailbox_id, first=first, last=last)
    for index in range(len(order), 0, -1):
        rows.sort(key=lambda row, i=index: row[i], reverse=order[index - 1][1])  # type: ignore[misc]
    return [row[0] for row in rows]


def _by_score(
    tx: Tx,
    mailbox_id: int,
    uids: Sequence[int],
    order: Order,
    live: bool,
    score: Callable[[int], int],
) -> list[int]:
    keys = tuple(each for each in order if each[0] != RELEVANCY)
    rows: list[tuple[Any, ...]] = [(uid,) for uid in uids]
    if keys:
        statement = _fetching(keys, live)
        wanted = set(uids)
        rows = []
        spans = [(uids[0], uids[-1])] if _is_dense(uids) else ranges(uids)
        for first, last in spans:
            found = tx.all(statement, mailbox=mailbox_id, first=first, last=last)
            rows += [row for row in found if row[0] in wanted]
    index = len(keys)
    for key, reverse in reversed(order):
        if key == RELEVANCY:
            rows.sort(key=lambda row: score(row[0]), reverse=not reverse)
        else:
            rows.sort(key=lambda row, i=index: row[i], reverse=reverse)  # type: ignore[misc]
            index -= 1
    return [row[0] for row in rows]


def places(
    tx: Tx, mailbox_id: int, uids: Sequence[int], more: Sequence[int], order: Order
) -> list[tuple[int, int]]:
    """Where further messages belong among `uids`, which are in the order already.

    Gives (place, UID) of `more` in the order, with the place, from 1, that each has once all
    are there. Takes little when there are few of them: keys of messages never change.
    """
    count = len(uids)
    if len(more) * _ADDED > count:
        whole = ordered(tx, mailbox_id, sorted([*uids, *more]), order, live=False)
        if len(whole) == count + len(more):
            wanted = set(more)
            return [(place, uid) for place, uid in enumerate(whole, start=1) if uid in wanted]
    statement = _looking(order)

    def row(uid: int) -> tuple[Any, ...] | None:
        return tx.one(statement, mailbox=mailbox_id, uid=uid)

    found: list[tuple[int, int]] = []
    inner = ordered(tx, mailbox_id, sorted(more), order)
    for uid in inner:
        own = row(uid)
        low = found[-1][0] if found else 0
        high = count
        while low < high:
            middle = (low + high) // 2
            if _is_before(own, row(uids[middle]), order, uid, uids[middle]):
                high = middle
            else:
                low = middle + 1
        found.append((low, uid))
    return [(low + n, uid) for n, (low, uid) in enumerate(found, start=1)]


def merged(uids: Sequence[int], more: Iterable[tuple[int, int]]) -> list[int]:
    """UIDs with others at the places that `places` found for them."""
    result: list[int] = []
    taken = 0
    for place, uid in more:
        until = taken + place - 1 - len(result)
        result += uids[taken:until]
        result.append(uid)
        taken = until
    result += uids[taken:]
    return result


def _is_before(
    a: tuple[Any, ...] | None, b: tuple[Any, ...] | None, order: Order, uid_a: int, uid_b: int
) -> bool:
    if a is not None and b is not None:
        for index, (_, reverse) in enumerate(order):
            if a[index] != b[index]:
                return bool(a[index] > b[index] if reverse else a[index] < b[index])
    return uid_a < uid_b


@lru_cache(maxsize=200)
def _looking(order: Order) -> Statement:
    # Also for messages that have gone and that the client has not been told of.
    return Statement(
        sa.select(*[KEYS[key] for key, _ in order])
        .select_from(_source(order))
        .where(
            messages.c.mailbox_id == bindparam("mailbox"), messages.c.uid == bindparam("uid")
        )
    )


@lru_cache(maxsize=200)
def _sorting(order: Order, live: bool) -> Statement:
    columns = [KEYS[key].desc() if reverse else KEYS[key] for key, reverse in order]
    return Statement(
        sa.select(messages.c.uid)
        .select_from(_source(order))
        .where(*(_RANGE if live else _ANY))
        .order_by(*columns, messages.c.uid)
    )


@lru_cache(maxsize=200)
def _fetching(order: Order, live: bool) -> Statement:
    return Statement(
        sa.select(messages.c.uid, *[KEYS[key] for key, _ in order])
        .select_from(_source(order))
        .where(*(_RANGE if live else _ANY))
        .order_by(messages.c.uid)
    )


def needs_keys(order: Order) -> bool:
    """Whether more than the messages' own rows is needed, so that `is_due` is to be asked."""
    return any(key not in _NARROW for key, _ in order)


def _source(order: Order) -> Any:
    return _JOINED if needs_keys(order) else messages


_THREADING: Final = Statement(
    sa.select(messages.c.uid, _SENT, content_keys.c.thread, _ARRIVAL)
    .select_from(_JOINED)
    .where(*_RANGE)
    .order_by(messages.c.uid)
)


def threads(
    tx: Tx,
    mailbox_id: int,
    uids: Sequence[int],
    algorithm: str,
    *,
    orders: Orders | None = None,
) -> tuple[array[int], Forest]:
    """Threads of live messages by their ascending UIDs: the UIDs, and places among them.

    `algorithm` is "ORDEREDSUBJECT", "REFERENCES" or "REFS"; `orders` as for `ordered`.
    """
    columns = _columns(tx, mailbox_id, uids, orders)
    order = threading.order_by(columns.sent)
    if algorithm == "ORDEREDSUBJECT":
        return columns.uids, threading.by_subject(columns.keys, order)
    if algorithm == "REFERENCES":
        return columns.uids, threading.by_references(columns.keys, order)
    arrival = threading.order_by(columns.arrived)
    return columns.uids, threading.by_references_only(columns.keys, order, arrival)


def _columns(
    tx: Tx, mailbox_id: int, uids: Sequence[int], orders: Orders | None
) -> Columns:
    """What live messages are threaded by."""
    if not _is_dense(uids):
        columns = Columns()
        for first, last in ranges(uids):
            _read(tx, mailbox_id, first, last, columns)
        return columns
    first, last = uids[0], uids[-1]
    kept = orders.columns.find(mailbox_id) if orders is not None else None
    if kept is not None and kept.uids[0] <= first and len(kept.uids) <= _SERVES * len(uids):
        columns = kept
        if kept.uids[-1] < last:
            columns = kept.copy()
            _read(tx, mailbox_id, kept.uids[-1] + 1, last, columns)
    else:
        columns = Columns()
        _read(tx, mailbox_id, first, last, columns)
    # All that is there between two UIDs, and perhaps some that have gone since.
    if orders is not None and columns.uids and (kept is None or columns.covers(kept)):
        orders.columns.keep(mailbox_id, columns)
    return columns if len(columns.uids) == len(uids) else columns.among(uids)


def _read(tx: Tx, mailbox_id: int, first: int, last: int, columns: Columns) -> None:
    # Row by row: a list of all would take much room.
    bounds = {"mailbox": mailbox_id, "first": first, "last": last}
    for uid, sent, thread, arrived in tx.cursor(_THREADING, bounds):
        columns.append(uid, sent, arrived, thread)


# -- Contents from before there were keys --------------------------------------------------

_DUE: Final = Statement(sa.select(keys_due.c.content_id).limit(50))
_DUE_IN_MAILBOX: Final = Statement(
    sa.select(keys_due.c.content_id)
    .select_from(messages.join(keys_due, keys_due.c.content_id == messages.c.content_id))
    .where(messages.c.mailbox_id == bindparam("mailbox"))
    .limit(50)
)
_DONE: Final = Statement(keys_due.delete().where(keys_due.c.content_id == bindparam("id")))


def is_due(tx: Tx, mailbox_id: int) -> bool:
    """Whether messages of a mailbox still lack their keys, so that `fill` must come first."""
    if tx.one(_DUE) is None:
        return False
    return tx.one(_DUE_IN_MAILBOX, mailbox=mailbox_id) is not None


def fill(tx: Tx, mailbox_id: int | None = None) -> bool:
    """Make keys for some contents that lack them; says whether there may be more of these.

    With a mailbox, only for what is in there.
    """
    due = tx.all(_DUE) if mailbox_id is None else tx.all(_DUE_IN_MAILBOX, mailbox=mailbox_id)
    for content_id in {row[0] for row in due}:
        try:
            data = content.header_section(tx, content_id)
        except NoContent:
            data = b""
        sent, keys = read_keys(data)
        content.save_keys(tx, content_id, sent, keys)
        tx.run(_DONE, id=content_id)
    return bool(due)
