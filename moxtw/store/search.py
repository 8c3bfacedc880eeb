"""Searching a mailbox.

Criteria are a tree (`moxtw.store.criteria`). What the database can decide (flags, sizes, dates,
UIDs) becomes one query; text is then looked for only in the messages that are left, in pieces,
so that a long search can be given up, and others get their turn. The database itself looks
through the texts: a row costs Python nothing unless it is found. Of a large mailbox, the text
index tells which messages may have a text (`moxtw.store.textindex`).

Needles are compared with decoded text in the form of `moxtw.mail.text.folded`, as substrings
(RFC 9051 6.4.4).
"""

from __future__ import annotations

import time
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from moxtw.log import Logger
from moxtw.mail.fuzzy import Needle, subject_first
from moxtw.mail.header import parse_headers
from moxtw.mail.text import folded, folded_header
from moxtw.mail.words import decode_words
from moxtw.store import content
from moxtw.store import searchqueries as queries
from moxtw.store.criteria import (
    MAX_RANGES,
    All,
    And,
    Body,
    Criterion,
    Email,
    Flags,
    Fuzzy,
    Header,
    Keyword,
    ModSeq,
    Not,
    Or,
    Received,
    Saved,
    Sent,
    Size,
    Text,
    Thread,
    Uids,
    condition,
    fuzzy,
    nearby,
)
from moxtw.store.errors import NoContent
from moxtw.store.sqlfunctions import as_list, numbers
from moxtw.store.tx import Statement, Tx, ranges

__all__ = [
    "All",
    "And",
    "Body",
    "Criterion",
    "Email",
    "Flags",
    "Fuzzy",
    "Header",
    "Keyword",
    "ModSeq",
    "Not",
    "Or",
    "Received",
    "Saved",
    "Search",
    "Sent",
    "Size",
    "Text",
    "Thread",
    "Uids",
    "fuzzy",
    "search",
    "looks_through_text",
]

_log = Logger("store")

Leaf = Text | Body | Header

# The index is asked when there are so many messages to look through.
INDEX_FROM: Final = 2000
# Messages that are looked through at a time, and of which is asked by their numbers.
_PIECE: Final = 2000
_FUZZY_PIECE: Final = 200
_LISTED: Final = 1000


def search(
    tx: Tx, mailbox_id: int, criterion: Criterion, uid_below: int = 1 << 32
) -> list[int]:
    """UIDs of live messages below `uid_below` that fit, ascending."""
    work = Search(mailbox_id, criterion, uid_below)
    work.step(tx)
    return work.found


def looks_through_text(criterion: Criterion) -> bool:
    """Whether texts of messages have to be looked through, and not just their columns."""
    match criterion:
        case Not(item):
            return looks_through_text(item)
        case And(items) | Or(items):
            return any(map(looks_through_text, items))
    return isinstance(criterion, Text | Body | Header | Fuzzy)


@dataclass(frozen=True, slots=True)
class _Candidates:
    """UIDs, ascending, of messages whose content, or whose prefix, may have a text."""

    texts: list[int]
    prefixes: list[int]

    def all(self) -> list[int]:
        return sorted({*self.texts, *self.prefixes})


class Search:
    """A search under way.

    Each `step` may run on another snapshot: messages that are expunged meanwhile may be found
    or not. `found` are the UIDs found so far, ascending; of `goal` messages to look through
    `done` have been. The criterion's sets of UIDs must be ascending.
    """

    def __init__(self, mailbox_id: int, criterion: Criterion, uid_below: int = 1 << 32) -> None:
        self.mailbox_id = mailbox_id
        self.found: list[int] = []
        self.done = 0
        self.goal = 0
        self._criterion = criterion
        self._planned = False
        self._rest: Criterion = All()
        # Where to look: among these UIDs, or (None) all in a range of UIDs.
        self._among: list[int] | None = None
        self._first = 1
        self._last = uid_below - 1
        self._candidates: dict[Leaf, _Candidates] = {}
        self._statements: dict[int, tuple[Criterion, Statement | None]] = {}
        # What is near to texts that need not be exact, and how well messages fit.
        self._nearby = {each: nearby(each) for each in _fuzzy(criterion)}
        self._needles = {each: Needle(each.item.needle) for each in self._nearby}
        self._scores: dict[Fuzzy, dict[int, int]] = {each: {} for each in self._nearby}
        self._size = _FUZZY_PIECE if self._nearby else _PIECE
        # The piece: its bounds.
        self._low = 0
        self._high = 0

    def step(self, tx: Tx, seconds: float | None = None) -> bool:
        """Search on, for about so many seconds; whether the search has ended."""
        end = None if seconds is None else time.monotonic() + seconds
        if not self._planned:
            self._planned = True
            self._plan(tx)
        while self.done < self.goal:
            if not self._piece(tx):
                self.done = self.goal
            if end is not None and time.monotonic() > end:
                break
        return self.done >= self.goal

    def score(self, uid: int) -> int:
        """How relevant a message is that was found, from 1 to 100 (RFC 6203 4)."""
        score = self._score(self._criterion, uid)
        return 100 if score is None else max(1, round(score))

    def _score(self, item: Criterion, uid: int) -> float | None:
        """The mean of what must all fit, the best of others; exact keys do not count."""
        match item:
            case Fuzzy():
                return self._scores[item].get(uid)
            case And(items) | Or(items):
                known = [each for each in (self._score(part, uid) for part in items) if each]
                if not known:
                    return None
                return sum(known) / len(known) if isinstance(item, And) else max(known)
        return None

    # -- The plan ----------------------------------------------------------------------

    def _plan(self, tx: Tx) -> None:
        """Decide what the database can, and find out where the rest is to be looked for."""
        item = _located(tx, self.mailbox_id, self._criterion)
        items = _flat(item)
        plain: list[Criterion] = []
        rest: list[Criterion] = []
        for each in items:
            if isinstance(each, Uids):
                self._narrow(tx, each.ranges)
            elif isinstance(each, All):
                pass
            elif self._statement(each) is not None:
                plain.append(each)
            else:
                rest.append(each)
        if self._nothing_left():
            return
        if plain or (not rest and self._among is None):
            found = self._query(tx, And(tuple(plain)), self._among)
            if self._among is None:
                self._among = found
            else:
                wanted = set(found)
                self._among = [uid for uid in self._among if uid in wanted]
        if not rest:
            self.found = self._among or []
            return
        if self._nothing_left():
            return
        self._rest = rest[0] if len(rest) == 1 else And(tuple(rest))
        if self._among is not None:
            self.goal = len(self._among)
        else:
            count = tx.value(queries.COUNT, mailbox=self.mailbox_id) or 0
            self.goal = min(count, self._last - self._first + 1)
        if self.goal >= INDEX_FROM:
            for leaf in self._leaves(self._rest):
                self._ask_index(tx, leaf)
            bound = self._bound(self._rest)
            if bound is not None:
                within = None if self._among is None else set(self._among)
                self._among = [uid for uid in bound if within is None or uid in within]
                self.goal = len(self._among)

    def _nothing_left(self) -> bool:
        return self._first > self._last or (self._among is not None and not self._among)

    def _narrow(self, tx: Tx, given: Sequence[tuple[int, int]]) -> None:
        """Only UIDs in the ranges."""
        if not given:
            self._last = 0
            return
        self._first = max(self._first, given[0][0])
        self._last = min(self._last, given[-1][1])
        if self._among is not None:
            self._among = sorted(_within(self._among, given))
        elif len(given) > MAX_RANGES:
            self._among = sorted(_within(self._query(tx, All(), None), given))
        elif len(given) > 1:
            self._among = [
                uid
                for first, last in given
                for uid in numbers(
                    tx.value(
                        queries.UIDS,
                        mailbox=self.mailbox_id,
                        first=max(first, self._first),
                        last=min(last, self._last),
                    )
                )
            ]

    def _ask_index(self, tx: Tx, leaf: Leaf) -> None:
        """Find out which messages may have a text, unless that costs more than looking."""
        if leaf in self._candidates:
            return
        index = tx.store.backend.text_index
        found = index.candidates(tx, leaf, self.goal)
        if found is None:
            return
        place = {"mailbox": self.mailbox_id, "first": self._first, "last": self._last}
        reached = index.reached(tx)
        texts = set(numbers(tx.value(queries.OF_CONTENTS, **place, ids=found.contents)))
        prefixes = set(numbers(tx.value(queries.OF_MESSAGES, **place, ids=found.messages)))
        if not isinstance(leaf, Header):
            texts.update(numbers(tx.value(index.long_texts, **place)))
        # What came after the index was brought up to date.
        by_id = tx.value(queries.TAIL_CONTENTS, reached=reached[0], limit=self.goal) < self.goal
        tail = queries.CONTENTS_ABOVE if by_id else queries.CONTENTS_ABOVE_IN
        texts.update(numbers(tx.value(tail, **place, reached=reached[0])))
        if not isinstance(leaf, Body):
            by_id = tx.value(queries.TAIL_MESSAGES, reached=reached[1], limit=self.goal) < self.goal
            tail = queries.MESSAGES_ABOVE if by_id else queries.MESSAGES_ABOVE_IN
            prefixes.update(numbers(tx.value(tail, **place, reached=reached[1])))
        self._candidates[leaf] = _Candidates(sorted(texts), sorted(prefixes))

    def _leaves(self, item: Criterion) -> Iterable[Leaf]:
        match item:
            case Text() | Body() | Header():
                yield item
            case Fuzzy():
                yield from self._leaves(self._nearby[item])
            case And(items) | Or(items):
                for each in items:
                    yield from self._leaves(each)
            case Not(inner):
                yield from self._leaves(inner)

    def _bound(self, item: Criterion) -> list[int] | None:
        """UIDs among which all are that fit, if the index knows."""
        match item:
            case Text() | Body() | Header():
                known = self._candidates.get(item)
                return None if known is None else known.all()
            case Fuzzy():
                return self._bound(self._nearby[item])
            case And(items):
                bounds = [each for each in map(self._bound, items) if each is not None]
                return min(bounds, key=len, default=None)
            case Or(items):
                union: set[int] = set()
                for each in items:
                    bound = self._bound(each)
                    if bound is None:
                        return None
                    union.update(bound)
                return sorted(union)
        return None

    # -- Looking through a piece -------------------------------------------------------

    def _piece(self, tx: Tx) -> bool:
        """Look through the next messages; False if there are none."""
        pool: set[int] | None = None
        if self._among is not None:
            uids = self._among[self.done : self.done + self._size]
            if not uids:
                return False
            self._low, self._high = uids[0], uids[-1]
            pool = set(uids)
            self.done += len(uids)
        else:
            self._low = max(self._first, self._high + 1)
            if self._low > self._last:
                return False
            end = tx.value(
                queries.NTH,
                mailbox=self.mailbox_id,
                first=self._low,
                last=self._last,
                n=self._size - 1,
            )
            self._high = self._last if end is None else end
            self.done += self._size
        self.found += sorted(self._find(tx, self._rest, pool))
        if self._high >= self._last:
            return False
        self.done = min(self.done, self.goal if pool is not None else self.goal - 1)
        return True

    def _find(self, tx: Tx, item: Criterion, pool: set[int] | None) -> set[int]:
        """The UIDs that fit, among given ones or (None) in the whole piece."""
        if pool is not None and not pool:
            return pool
        match item:
            case Text() | Body() | Header():
                return self._look(tx, item, pool)
            case Fuzzy():
                near = self._find(tx, self._nearby[item], self._pool(tx, pool))
                return {uid for uid in near if self._rate(tx, item, uid)}
            case Uids(given):
                return _within(self._pool(tx, pool), given)
        if self._statement(item) is not None:
            listed = sorted(pool) if pool is not None and len(pool) <= _LISTED else None
            found = set(self._query(tx, item, listed, piece=True))
            return found if pool is None else found & pool
        match item:
            case And(items):
                left = pool
                for each in items:
                    left = self._find(tx, each, left)
                return self._pool(tx, left)
            case Or(items):
                union: set[int] = set()
                scored = any(True for _ in _fuzzy(item))
                for each in items:
                    # Those that fit already need not be looked through again, unless it
                    # matters how well they fit.
                    again = pool is None or not union or scored
                    left = pool if again or pool is None else pool - union
                    union |= self._find(tx, each, left)
                return union
            case Not(inner):
                pool = self._pool(tx, pool)
                return pool - self._find(tx, inner, pool)
        raise TypeError(f"unknown criterion {item!r}")

    def _pool(self, tx: Tx, pool: set[int] | None) -> set[int]:
        if pool is not None:
            return pool
        return set(self._query(tx, All(), None, piece=True))

    def _statement(self, item: Criterion, listed: bool = False) -> Statement | None:
        """The query for a criterion that the database decides; None for others."""
        key = id(item) * 2 + listed
        known = self._statements.get(key)
        if known is None:
            decides = condition(item)
            known = item, None if decides is None else queries.plain_statement(decides, listed)
            self._statements[key] = known
        return known[1]

    def _query(
        self, tx: Tx, item: Criterion, among: list[int] | None, *, piece: bool = False
    ) -> list[int]:
        """The UIDs in reach that fit, ascending; looked up one by one if they are few."""
        listed = among is not None and len(among) <= _LISTED
        statement = self._statement(item, listed)
        assert statement is not None
        place = {
            "mailbox": self.mailbox_id,
            "first": self._low if piece else self._first,
            "last": self._high if piece else self._last,
        }
        if listed and among is not None:
            place["uids"] = as_list(among)  # type: ignore[assignment]
        return sorted(numbers(tx.value(statement, **place)))

    def _look(self, tx: Tx, leaf: Leaf, pool: set[int] | None) -> set[int]:
        """Look into texts."""
        known = self._candidates.get(leaf)
        needle = folded(leaf.needle)
        if isinstance(leaf, Header):
            if known is not None:
                pool = _near({*known.texts, *known.prefixes}, pool, self._low, self._high)
            name = folded(leaf.name)
            marks = {"name": name, "line": b"\n" + name + b":", "skip": len(name) + 1}
            return self._scan(tx, "header", leaf, needle, pool, marks)
        if isinstance(leaf, Body):
            if known is not None:
                pool = _near(known.texts, pool, self._low, self._high)
            return self._scan(tx, "body", leaf, needle, pool, {})
        if known is None:
            return self._scan(tx, "text", leaf, needle, pool, {})
        texts = _near(known.texts, pool, self._low, self._high)
        prefixes = _near(known.prefixes, pool, self._low, self._high)
        found = self._scan(tx, "content", leaf, needle, texts, {})
        return found | self._scan(tx, "prefix", leaf, needle, prefixes - found, {})

    def _scan(
        self,
        tx: Tx,
        kind: str,
        leaf: Leaf,
        needle: bytes,
        pool: set[int] | None,
        marks: dict[str, Any],
    ) -> set[int]:
        """Messages of the piece, or of a part of it, that have the text."""
        if pool is not None and not pool:
            return set()
        place = {
            "mailbox": self.mailbox_id,
            "first": self._low,
            "last": self._high,
            "needle": needle,
            **marks,
        }
        # One by one, rows cost about twice as much.
        some = self._high - self._low >= 2 * len(pool or ())
        listed = pool is not None and len(pool) <= _LISTED and some
        if listed and pool is not None:
            place["uids"] = as_list(pool)
        found = numbers(tx.value(queries.SCANS[kind, listed], **place))
        sure = {uid for uid in found if uid > 0}
        for uid in found:
            if uid < 0 and (pool is None or -uid in pool) and self._has(tx, leaf, needle, -uid):
                sure.add(-uid)
        return sure if pool is None else sure & pool

    def _has(self, tx: Tx, leaf: Leaf, needle: bytes, uid: int) -> bool:
        """Look into a single message where that cannot be left to the database."""
        row = tx.one(queries.MESSAGE, mailbox=self.mailbox_id, uid=uid)
        if row is None:
            return False
        content_id, header, body, prefix = row
        try:
            if isinstance(leaf, Header):
                name = leaf.name.lower()
                return _has_field(prefix, name, needle) or _has_field(
                    content.header_section(tx, content_id), name, needle
                )
            if isinstance(leaf, Text) and (needle in header or needle in folded_header(prefix)):
                return True
            if body is None:
                body = content.body_text(tx, content_id)
            return needle in body
        except NoContent as exc:
            # One damaged message must not be in the way of all others.
            _log.error("searching a message", err=exc, mailbox=self.mailbox_id, uid=uid)
            return False


    def _rate(self, tx: Tx, item: Fuzzy, uid: int) -> int:
        """How well a message fits; 0 if it does not."""
        row = tx.one(queries.MESSAGE, mailbox=self.mailbox_id, uid=uid)
        if row is None:
            return 0
        content_id, header, body, prefix = row
        leaf = item.item
        texts: list[tuple[float, bytes]] = []
        try:
            if isinstance(leaf, Header):
                for section in (prefix, content.header_section(tx, content_id)):
                    values = parse_headers(section).all(leaf.name) if section else []
                    texts += [(1.0, folded(decode_words(value))) for value in values]
            else:
                if isinstance(leaf, Text):
                    texts += [*subject_first(header), (0.8, folded_header(prefix))]
                if body is None:
                    body = content.body_text(tx, content_id)
                texts.append((0.9, body))
        except NoContent as exc:
            _log.error("searching a message", err=exc, mailbox=self.mailbox_id, uid=uid)
            return 0
        score = self._needles[item].score(texts)
        if score:
            self._scores[item][uid] = score
        return score


def _flat(item: Criterion) -> list[Criterion]:
    """The criteria that must all hold."""
    if not isinstance(item, And):
        return [item]
    return [part for each in item.items for part in _flat(each)]


def _fuzzy(item: Criterion) -> Iterable[Fuzzy]:
    match item:
        case Fuzzy():
            yield item
        case And(items) | Or(items):
            for each in items:
                yield from _fuzzy(each)
        case Not(inner):
            yield from _fuzzy(inner)


def _near(uids: Iterable[int], pool: set[int] | None, low: int, high: int) -> set[int]:
    """Those of a list, or set, of UIDs that are in a piece."""
    if isinstance(uids, list):
        uids = uids[bisect_left(uids, low) : bisect_right(uids, high)]
    else:
        uids = [uid for uid in uids if low <= uid <= high]
    return set(uids) if pool is None else pool.intersection(uids)


def _located(tx: Tx, mailbox_id: int, item: Criterion) -> Criterion:
    """The same criterion with UIDs in place of ids, which indexes of their own lead to."""
    match item:
        case Email(message_id):
            found = tx.all(queries.EMAIL_UIDS, i=message_id, mailbox=mailbox_id)
        case Thread(thread_id):
            found = tx.all(queries.THREAD_UIDS, i=thread_id, mailbox=mailbox_id)
        case ModSeq(lowest):
            found = tx.all(queries.MODSEQ_UIDS, m=lowest, mailbox=mailbox_id, n=_LISTED + 1)
            if len(found) > _LISTED:
                return item
        case And(items):
            return And(tuple(_located(tx, mailbox_id, each) for each in items))
        case Or(items):
            left = tuple(_located(tx, mailbox_id, each) for each in items)
            uids = [pair for each in left if isinstance(each, Uids) for pair in each.ranges]
            others = tuple(each for each in left if not isinstance(each, Uids))
            if not uids or len(others) + 1 == len(left):
                return Or(left)
            both = Uids(_merged(uids))
            return Or((both, *others)) if others else both
        case Not(inner):
            return Not(_located(tx, mailbox_id, inner))
        case _:
            return item
    return Uids(ranges(sorted(row[0] for row in found)))


def _merged(pairs: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ranges in order, without overlaps."""
    result: list[tuple[int, int]] = []
    for first, last in sorted(pairs):
        if result and first <= result[-1][1]:
            result[-1] = (result[-1][0], max(last, result[-1][1]))
        else:
            result.append((first, last))
    return result


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


def _has_field(data: bytes, name: str, wanted: bytes) -> bool:
    if not data:
        return False
    headers = parse_headers(data)
    return any(
        wanted in folded(decode_words(form))
        for value in headers.all(name)
        # Folded with a tab, or with several blanks: a search has one blank there.
        for form in {value, " ".join(value.split())}
    )
