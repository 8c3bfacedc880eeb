"""RETURN options of SEARCH and SORT, and the ESEARCH response to them.

RFC 9051 6.4.4 and 7.3.4 (before: RFC 4731), SAVE of RFC 5182, PARTIAL of RFC 9394 (before:
RFC 5267 4.4), CONTEXT and UPDATE of RFC 5267 4, with the items of RFC 5465 7, RELEVANCY of RFC
6203 4. It is the same for every command that searches: the results come in the order in which
they are told, UIDs ascending for SEARCH, sorted for SORT.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from moxtw.imap import seqset
from moxtw.imap.errors import Bad
from moxtw.imap.fetchitems import Items, parse_items
from moxtw.imap.parser import MAX_NUMBER, Parser

# Options that ask for data, and the others.
_DATA: Final = frozenset([b"MIN", b"MAX", b"ALL", b"COUNT", b"PARTIAL", b"RELEVANCY"])
_KNOWN: Final = _DATA | {b"SAVE", b"UPDATE", b"CONTEXT"}
_NUMBER = rb"[1-9][0-9]{0,9}"
_PARTIAL: Final = re.compile(rb"%(n)s:%(n)s|-%(n)s:-%(n)s" % {b"n": _NUMBER})


class Partial(NamedTuple):
    """A range of results, from the first one (1) on, or from the last one (-1) backwards."""

    start: int
    end: int

    def cut(self, count: int) -> tuple[int, int]:
        """Which of `count` results are in the range: from the first to before the second."""
        # RFC 9394 section 4: the ends may come in either order.
        low, high = sorted(self)
        if low < 0:
            low, high = count + 1 + low, count + 1 + high
        low = max(low, 1)
        high = min(high, count)
        return (low - 1, high) if low <= high else (0, 0)

    def wire(self) -> bytes:
        """As in commands and responses."""
        return b"%d:%d" % self


def parse_partial(p: Parser) -> Partial:
    """The range of PARTIAL (RFC 9394 section 4, partial-range)."""
    text = p.match(_PARTIAL, "range of results")
    first, last = text.split(b":")
    partial = Partial(int(first), int(last))
    if 0 < partial.end < partial.start:
        # RFC 5267 section 5: 500:400 is the same as 400:500.
        partial = Partial(partial.end, partial.start)
    if max(abs(partial.start), abs(partial.end)) > MAX_NUMBER:
        raise Bad("number too large")
    return partial


@dataclass(frozen=True, slots=True)
class Return:
    """What a searching command shall return: upper-case options, with the range of PARTIAL.

    `items` are told of messages that come in later (UPDATE with items, RFC 5465 7).
    """

    options: frozenset[bytes]
    partial: Partial | None = None
    items: Items | None = None

    def __contains__(self, option: bytes) -> bool:
        return option in self.options

    @property
    def silent(self) -> bool:
        """No data is asked for, so that there is no response (RFC 5182 2.1)."""
        return not self.options & _DATA

    def told(self, found: Sequence[int]) -> Sequence[int]:
        """Those of the results that the response tells of.

        They are what SAVE keeps (RFC 5182 2.1, RFC 9394 3.2) and what MODSEQ is about (RFC
        7162 3.1.5): all with ALL or COUNT, else only those of MIN, MAX and PARTIAL.
        """
        options = self.options
        if options & {b"ALL", b"COUNT"} or not options & (_DATA - {b"RELEVANCY"}):
            return found
        told: list[int] = []
        if b"MIN" in options:
            told += found[:1]
        if b"MAX" in options:
            told += found[-1:]
        if self.partial is not None:
            start, end = self.partial.cut(len(found))
            told += found[start:end]
        return told

    def saved(self, found: Sequence[int]) -> seqset.Ranges:
        """What SAVE keeps of the UIDs found."""
        return seqset.to_ranges(sorted(set(self.told(found))))


ALL: Final = Return(frozenset([b"ALL"]))


def parse_return(p: Parser, extra: frozenset[bytes] = frozenset()) -> Return | None:
    """``RETURN (...)`` and the space behind it; None if something else stands here.

    `extra` are options without arguments that only this command knows.
    """
    if not p.take(b"RETURN "):
        return None
    options: set[bytes] = set()
    partial: Partial | None = None
    items: Items | None = None

    def option() -> None:
        nonlocal partial, items
        word = p.word()
        if word not in _KNOWN and word not in extra:
            raise Bad("unknown RETURN option")
        if word == b"PARTIAL":
            if partial is not None:
                raise Bad("PARTIAL is there twice")
            p.space()
            partial = parse_partial(p)
        elif word == b"ALL" and word in options:
            # RFC 9394 3.1: one ALL at most.
            raise Bad("ALL is there twice")
        elif word == b"UPDATE" and p.peek(b" ("):
            p.space()
            items = parse_items(p).unasked()
        options.add(word)

    p.parenthesised(option, empty=True)
    p.space()
    if b"ALL" in options and partial is not None:
        # RFC 9394 3.1: either one PARTIAL, or one ALL, or neither.
        raise Bad("PARTIAL and ALL exclude each other")
    if not options & (_DATA | {b"SAVE"}):
        # RFC 4731 3.1: without any, all are returned.
        options.add(b"ALL")
    return Return(frozenset(options), partial, items)


def response(
    tag: bytes,
    wanted: Return,
    found: Sequence[int],
    *,
    uid: bool,
    numbered: Callable[[Sequence[int]], Sequence[int]] | None = None,
    modseq: int = 0,
    mailbox: bytes = b"",
    score: Callable[[int], int] | None = None,
) -> bytes:
    """The ESEARCH response.

    `found` are the results in their order, `numbered` makes of them what the client is told
    (None: they are told as they are). `modseq` is the highest of those that are told of, if
    that is asked for. `mailbox` goes into the correlator (RFC 7377 2.1). `score` tells how relevant
    a result is, from 1 to 100.
    """

    def told(some: Sequence[int]) -> Sequence[int]:
        return some if numbered is None else numbered(some)

    parts = [b'* ESEARCH (TAG "%b"%b)' % (tag, mailbox)]
    if uid:
        parts.append(b"UID")
    if found:
        if b"MIN" in wanted:
            parts.append(b"MIN %d" % told(found[:1])[0])
        if b"MAX" in wanted:
            parts.append(b"MAX %d" % told(found[-1:])[0])
        if b"ALL" in wanted:
            parts.append(b"ALL " + seqset.format_numbers(told(found)))
    if wanted.partial is not None:
        start, end = wanted.partial.cut(len(found))
        # RFC 9394 3.1: NIL if no result is in the range.
        some = seqset.format_numbers(told(found[start:end])) if start < end else b"NIL"
        parts.append(b"PARTIAL (%b %b)" % (wanted.partial.wire(), some))
    if b"COUNT" in wanted:
        parts.append(b"COUNT %d" % len(found))
    if found and score is not None and b"RELEVANCY" in wanted:
        # RFC 6203 4: in the order of the results.
        scores = b" ".join([b"%d" % score(each) for each in wanted.told(found)])
        parts.append(b"RELEVANCY (%b)" % scores)
    if modseq:
        parts.append(b"MODSEQ %d" % modseq)
    return b" ".join(parts) + b"\r\n"
