"""What a search asks for: criteria as a tree, and those that the database decides by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import sqlalchemy as sa

from moxtw.mail.fuzzy import pieces, words
from moxtw.store.schema import contents, messages

# Ranges of UIDs that one query has as conditions.
MAX_RANGES: Final = 200


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
class Fuzzy(Criterion):
    """Something like the text (RFC 6203)."""

    item: Header | Text | Body


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


def fuzzy(item: Criterion) -> Criterion:
    """The criterion, with texts that need not be exact (RFC 6203 3).

    What is to be left out is so only if it is there exactly; keys without text are exact.
    """
    match item:
        case Header(_, needle) | Text(needle) | Body(needle) if words(needle):
            return Fuzzy(item)
        case And(items):
            return And(tuple(map(fuzzy, items)))
        case Or(items):
            return Or(tuple(map(fuzzy, items)))
    return item


def nearby(item: Fuzzy) -> Criterion:
    """What is so of all messages that fit, and of some others."""
    leaf = item.item
    return And(
        tuple(
            Or(tuple(replace(leaf, needle=piece) for piece in pieces(word)))
            for word in words(leaf.needle)
        )
    )


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


def condition(item: Criterion) -> Any | None:
    """The criterion as a condition for the database, or None where it needs text."""
    match item:
        case All():
            return sa.true()
        case Uids(ranges):
            if not ranges:
                return sa.false()
            if len(ranges) > MAX_RANGES:
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
            negated = condition(inner)
            return None if negated is None else sa.not_(negated)
        case And(items):
            found = [condition(each) for each in items]
            known = [each for each in found if each is not None]
            return sa.and_(sa.true(), *known) if len(known) == len(found) else None
        case Or(items):
            found = [condition(each) for each in items]
            known = [each for each in found if each is not None]
            return sa.or_(sa.false(), *known) if len(known) == len(found) else None
        case _:
            return None
