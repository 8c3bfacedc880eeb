"""Searching a mailbox.

Criteria are a tree; what the database can decide (flags, sizes, dates, UIDs) becomes one
query, text is then looked for only in the messages that are left. Needles are compared with
decoded, case-folded text (Unicode simple folding, RFC 9051 6.4.4), as substrings.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import bindparam
from sqlalchemy.sql import visitors

from moxtw.mail.header import parse_headers
from moxtw.mail.words import decode_words
from moxtw.store import content
from moxtw.store.schema import content_text, contents, message_meta, messages
from moxtw.store.tx import Statement, Tx, ranges

# Up to this many candidates are looked up one by one; more are found by one scan.
_ONE_BY_ONE: Final = 100
_ID_STEP: Final = 500
# Ranges of UIDs that one query has as conditions.
_MAX_RANGES: Final = 200


class Criterion:
    """A condition on a message."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class All(Criterion):
    """Every message."""


@dataclass(frozen=True, slots=True)
class Uids(Criterion):
    """UID in one of the ranges."""

    ranges: Sequence[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Flags(Criterion):
    """The flags in `mask` are exactly `value`."""

    mask: int
    value: int


@dataclass(frozen=True, slots=True)
class Keyword(Criterion):
    """The message has a keyword (lower-case)."""

    word: str


@dataclass(frozen=True, slots=True)
class Size(Criterion):
    """Larger than `above`, smaller than `below` bytes."""

    above: int | None = None
    below: int | None = None


@dataclass(frozen=True, slots=True)
class Received(Criterion):
    """Received from `start` on, before `end` (microseconds since the epoch)."""

    start: int | None = None
    end: int | None = None


@dataclass(frozen=True, slots=True)
class Saved(Criterion):
    """Saved in its mailbox from `start` on, before `end`; else its time of reception counts."""

    start: int | None = None
    end: int | None = None


@dataclass(frozen=True, slots=True)
class Sent(Criterion):
    """The day of its Date header, zone disregarded, from `start` on, before `end`."""

    start: int | None = None
    end: int | None = None


@dataclass(frozen=True, slots=True)
class ModSeq(Criterion):
    """The modseq is at least `value`."""

    value: int


@dataclass(frozen=True, slots=True)
class Email(Criterion):
    """The message of that id, or a copy of it."""

    id: int


@dataclass(frozen=True, slots=True)
class Thread(Criterion):
    """In the thread of that id."""

    id: int


@dataclass(frozen=True, slots=True)
class Header(Criterion):
    """A header field of that name (lower-case) contains the text; '' asks for the field."""

    name: str
    needle: str


@dataclass(frozen=True, slots=True)
class Text(Criterion):
    """Header or body contain the text."""

    needle: str


@dataclass(frozen=True, slots=True)
class Body(Criterion):
    """The body contains the text."""

    needle: str


@dataclass(frozen=True, slots=True)
class Not(Criterion):
    """The condition does not hold."""

    item: Criterion


@dataclass(frozen=True, slots=True)
class And(Criterion):
    """All hold."""

    items: Sequence[Criterion]


@dataclass(frozen=True, slots=True)
class Or(Criterion):
    """At least one holds."""

    items: Sequence[Criterion]


def _between(column: Any, start: int | None, end: int | None) -> Any:
    parts = []
    if start is not None:
        parts.append(column >= start)
    if end is not None:
        parts.append(column < end)
    return sa.and_(sa.true(), *parts)


# Where the Date header is missing or unreadable, the time of reception stands in.
_LOCAL_SENT = sa.func.coalesce(
    contents.c.sent + contents.c.sent_zone * 60_000_000, messages.c.received
)


def _sql(item: Criterion) -> Any | None:
    """The criterion as a condition for the database, or None where it needs text."""
    match item:
        case All():
            return sa.true()
        case Uids(ranges):
            if not ranges:
                return sa.false()
            if len(ranges) > _MAX_RANGES:
                return None
            return sa.or_(*[messages.c.uid.between(first, last) for first, last in ranges])
        case Flags(mask, value):
            return messages.c.flags.op("&")(mask) == value
        case Keyword(word):
            spaced = sa.literal(" ") + messages.c.keywords + sa.literal(" ")
            return spaced.contains(f" {word} ", autoescape=True)
        case Size(above, below):
            parts = []
            if above is not None:
                parts.append(messages.c.size > above)
            if below is not None:
                parts.append(messages.c.size < below)
            return sa.and_(sa.true(), *parts)
        case Received(start, end):
            return _between(messages.c.received, start, end)
        case Saved(start, end):
            column = sa.func.coalesce(messages.c.save_date, messages.c.received)
            return _between(column, start, end)
        case Sent(start, end):
            return _between(_LOCAL_SENT, start, end)
        case ModSeq(value):
            return messages.c.modseq >= value
        case Not(inner):
            condition = _sql(inner)
            return None if condition is None else sa.not_(condition)
        case And(items):
            found = [_sql(each) for each in items]
            known = [each for each in found if each is not None]
            return sa.and_(sa.true(), *known) if len(known) == len(found) else None
        case Or(items):
            found = [_sql(each) for each in items]
            known = [each for each in found if each is not None]
            return sa.or_(sa.false(), *known) if len(known) == len(found) else None
        case _:
            return None


def search(
    tx: Tx, mailbox_id: int, criterion: Criterion, uid_below: int = 1 << 32
) -> list[int]:
    """UIDs of live messages below `uid_below` that fit, ascending."""
    return sorted(_find(tx, mailbox_id, _located(tx, mailbox_id, criterion), None, uid_below))


# As an expression, so that the database does not take the index that leads to all messages of
# the mailbox.
_IN_MAILBOX = (messages.c.mailbox_id + 0 == bindparam("mailbox"), messages.c.expunged == 0)
_EMAIL_UIDS = Statement(
    sa.union_all(
        sa.select(messages.c.uid).where(messages.c.id == bindparam("i"), *_IN_MAILBOX),
        sa.select(messages.c.uid)
        .select_from(message_meta.join(messages, messages.c.id == message_meta.c.id))
        .where(
            message_meta.c.email_id == bindparam("i"),
            message_meta.c.email_id != 0,
            *_IN_MAILBOX,
        ),
    )
)
_THREAD_UIDS = Statement(
    sa.select(messages.c.uid).where(messages.c.thread_id == bindparam("i"), *_IN_MAILBOX)
)


def _located(tx: Tx, mailbox_id: int, item: Criterion) -> Criterion:
    """The same criterion with UIDs in place of ids, which indexes of their own lead to."""
    match item:
        case Email(message_id):
            found = tx.all(_EMAIL_UIDS, i=message_id, mailbox=mailbox_id)
        case Thread(thread_id):
            found = tx.all(_THREAD_UIDS, i=thread_id, mailbox=mailbox_id)
        case And(items):
            return And(tuple(_located(tx, mailbox_id, each) for each in items))
        case Or(items):
            left = tuple(_located(tx, mailbox_id, each) for each in items)
            uids = [pair for each in left if isinstance(each, Uids) for pair in each.ranges]
            others = tuple(each for each in left if not isinstance(each, Uids))
            if not uids or len(others) + 1 == len(left):
                return Or(left)
            joined = Uids(_joined(uids))
            return Or((joined, *others)) if others else joined
        case Not(inner):
            return Not(_located(tx, mailbox_id, inner))
        case _:
            return item
    return Uids(ranges(sorted(row[0] for row in found)))


def _joined(pairs: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ranges in order, without overlaps."""
    result: list[tuple[int, int]] = []
    for first, last in sorted(pairs):
        if result and first <= result[-1][1]:
            result[-1] = (result[-1][0], max(last, result[-1][1]))
        else:
            result.append((first, last))
    return result


def _find(
    tx: Tx, mailbox_id: int, item: Criterion, among: set[int] | None, uid_below: int
) -> set[int]:
    """The UIDs that fit, among given ones or (None) in the whole mailbox."""
    if among is None and isinstance(item, Uids) and len(item.ranges) <= _MAX_RANGES:
        # Range by range, so that the index leads to each.
        return {
            row[0]
            for first, last in item.ranges
            for row in tx.all(
                _UIDS, mailbox=mailbox_id, first=first, last=min(last, uid_below - 1)
            )
        }
    condition = _sql(item)
    if condition is not None:
        found = _query(tx, mailbox_id, condition, uid_below)
        return found if among is None else found & among
    match item:
        case And(items):
            plain = [each for each in items if _sql(each) is not None]
            left = among
            if plain:
                left = _find(tx, mailbox_id, And(plain), left, uid_below)
            for each in items:
                if left is not None and not left:
                    break
                if each not in plain:
                    left = _find(tx, mailbox_id, each, left, uid_below)
            return left if left is not None else set()
        case Or(items):
            union: set[int] = set()
            for each in items:
                union |= _find(tx, mailbox_id, each, among, uid_below)
            return union
        case Not(inner):
            if among is None:
                among = _query(tx, mailbox_id, sa.true(), uid_below)
            return among - _find(tx, mailbox_id, inner, among, uid_below)
        case Uids(ranges):
            if among is None:
                among = _query(tx, mailbox_id, sa.true(), uid_below)
            return _within(among, ranges)
        case Text(needle):
            return _text(tx, mailbox_id, needle, True, among, uid_below)
        case Body(needle):
            return _text(tx, mailbox_id, needle, False, among, uid_below)
        case Header(name, needle):
            return _header(tx, mailbox_id, name, needle, among, uid_below)
    raise TypeError(f"unknown criterion {item!r}")


def _within(uids: Iterable[int], ranges: Sequence[tuple[int, int]]) -> set[int]:
    found = set()
    index = 0
    for uid in sorted(uids):
        while index < len(ranges) and ranges[index][1] < uid:
            index += 1
        if index == len(ranges):
            break
        if ranges[index][0] <= uid:
            found.add(uid)
    return found


def _query(tx: Tx, mailbox_id: int, condition: Any, uid_below: int) -> set[int]:
    source: Any = messages
    if any(getattr(each, "table", None) is contents for each in visitors.iterate(condition)):
        source = messages.outerjoin(contents, contents.c.id == messages.c.content_id)
    statement = Statement(
        sa.select(messages.c.uid)
        .select_from(source)
        .where(
            messages.c.mailbox_id == mailbox_id,
            messages.c.expunged == 0,
            messages.c.uid < uid_below,
            condition,
        )
    )
    return {row[0] for row in tx.all(statement)}


_RANGE = (
    messages.c.mailbox_id == bindparam("mailbox"),
    messages.c.uid >= bindparam("first"),
    messages.c.uid <= bindparam("last"),
    messages.c.expunged == 0,
)
_UIDS = Statement(sa.select(messages.c.uid).where(*_RANGE))
_SCAN_BODY = Statement(
    sa.select(messages.c.uid, content_text.c.body, messages.c.content_id)
    .select_from(messages.join(content_text, content_text.c.content_id == messages.c.content_id))
    .where(*_RANGE)
)
_SCAN_TEXT = Statement(
    sa.select(
        messages.c.uid,
        content_text.c.body,
        messages.c.content_id,
        content_text.c.header,
        message_meta.c.prefix,
    )
    .select_from(
        messages.join(
            content_text, content_text.c.content_id == messages.c.content_id
        ).join(message_meta, message_meta.c.id == messages.c.id)
    )
    .where(*_RANGE)
)
_SCAN_HEADER = Statement(
    sa.select(
        messages.c.uid, content_text.c.header, message_meta.c.prefix, messages.c.content_id
    )
    .select_from(
        messages.join(
            content_text, content_text.c.content_id == messages.c.content_id
        ).join(message_meta, message_meta.c.id == messages.c.id)
    )
    .where(*_RANGE)
)


def _scan(
    tx: Tx,
    statement: Statement,
    mailbox_id: int,
    among: set[int] | None,
    uid_below: int,
) -> Iterable[tuple[Any, ...]]:
    if among is not None and len(among) <= _ONE_BY_ONE:
        for uid in among:
            yield from tx.all(statement, mailbox=mailbox_id, first=uid, last=uid)
        return
    first = 1 if among is None else min(among)
    last = uid_below - 1 if among is None else max(among)
    rows = tx.cursor(statement, {"mailbox": mailbox_id, "first": first, "last": last})
    if among is None:
        yield from rows
        return
    for row in rows:
        if row[0] in among:
            yield row


def _text(
    tx: Tx,
    mailbox_id: int,
    needle: str,
    with_header: bool,
    among: set[int] | None,
    uid_below: int,
) -> set[int]:
    wanted = needle.casefold().encode()
    found: set[int] = set()
    # Messages whose text is not kept, looked at last: each has to be read and decoded.
    long: list[tuple[int, int]] = []
    if with_header:
        for uid, body, content_id, header, prefix in _scan(
            tx, _SCAN_TEXT, mailbox_id, among, uid_below
        ):
            if body is None:
                if wanted in header or wanted in prefix.lower():
                    found.add(uid)
                else:
                    long.append((uid, content_id))
            elif wanted in body or wanted in header or wanted in prefix.lower():
                found.add(uid)
    else:
        for uid, body, content_id in _scan(tx, _SCAN_BODY, mailbox_id, among, uid_below):
            if body is None:
                long.append((uid, content_id))
            elif wanted in body:
                found.add(uid)
    found.update(uid for uid, content_id in long if wanted in content.body_text(tx, content_id))
    return found


def _header(
    tx: Tx,
    mailbox_id: int,
    name: str,
    needle: str,
    among: set[int] | None,
    uid_below: int,
) -> set[int]:
    wanted = needle.casefold()
    wanted_bytes = wanted.encode()
    lower = name.lower()
    # Without its colon, before which there may be blanks (RFC 5322 4.5).
    field = lower.encode("utf-8", "replace")
    # Cheap first: the decoded header text holds all names and values of the content's header.
    # The scan must be over before the next statement, which uses the same cursor.
    candidates = [
        (uid, prefix, content_id)
        for uid, header, prefix, content_id in _scan(
            tx, _SCAN_HEADER, mailbox_id, among, uid_below
        )
        if (wanted_bytes in header or wanted_bytes in prefix.lower())
        and (field in header or field in prefix.lower())
    ]
    return {
        uid
        for uid, prefix, content_id in candidates
        if _has_field(prefix, lower, wanted)
        or _has_field(content.header_section(tx, content_id), lower, wanted)
    }


def _has_field(data: bytes, name: str, wanted: str) -> bool:
    if not data:
        return False
    headers = parse_headers(data)
    return any(wanted in decode_words(value).casefold() for value in headers.all(name))
