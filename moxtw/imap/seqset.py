"""Sets of sequence numbers and UIDs, always as ranges (RFC 9051 section 9, sequence-set).

A set is never expanded to single numbers before it has met what a mailbox really holds: the
four bytes ``1:*`` may name four thousand million messages.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from moxtw.imap.errors import Bad

Range = tuple[int, int]
Ranges = list[Range]

MAX_NUMBER: Final = 0xFFFFFFFF
# Stands for "*" in a set that is not resolved yet; no message has the number 0.
STAR: Final = 0

_NUMBER = rb"(?:[1-9][0-9]{0,9}|\*)"
_SET: Final = re.compile(
    rb"%(n)s(?::%(n)s)?(?:,%(n)s(?::%(n)s)?)*" % {b"n": _NUMBER}
)


def _number(text: bytes) -> int:
    if text == b"*":
        return STAR
    number = int(text)
    if number > MAX_NUMBER:
        raise Bad("number in sequence set too large")
    return number


def parse(buf: bytes, pos: int = 0) -> tuple[Ranges, int]:
    """The set at `pos` of `buf`, as pairs in the order written, and the position behind it.

    Raises Bad when there is none.
    """
    match = _SET.match(buf, pos)
    if match is None:
        raise Bad("sequence set expected")
    ranges: Ranges = []
    for item in match.group().split(b","):
        first, colon, last = item.partition(b":")
        start = _number(first)
        ranges.append((start, _number(last) if colon else start))
    return ranges, match.end()


def normalise(ranges: Iterable[Range]) -> Ranges:
    """The same numbers as ascending ranges that neither overlap nor touch."""
    result: Ranges = []
    for start, end in sorted(ranges):
        if result and start <= result[-1][1] + 1:
            if end > result[-1][1]:
                result[-1] = (result[-1][0], end)
        else:
            result.append((start, end))
    return result


def resolve(ranges: Iterable[Range], last: int) -> Ranges:
    """The set with `last` put for "*", normalised; "*" names nothing when `last` is 0.

    RFC 9051 section 9: the ends of a range may come in either order, so that 559:* contains
    the last message even if its number is below 559.
    """
    resolved: Ranges = []
    for start, end in ranges:
        if STAR in (start, end) and not last:
            continue
        start, end = start or last, end or last
        resolved.append((start, end) if start <= end else (end, start))
    return normalise(resolved)


def resolve_open(ranges: Iterable[Range], last: int) -> Ranges:
    """A set of UIDs, normalised; ranges up to "*" have no end, "*" alone is `last`."""
    return normalise(
        (min(start or last, end or last), MAX_NUMBER if STAR in (start, end) else max(start, end))
        if start != end
        else (start or last, end or last)
        for start, end in ranges
    )


def existing(ranges: Iterable[Range], count: int) -> Ranges:
    """The set without the numbers that none of `count` messages has.

    Of ranges with "*" the other end is brought down to the last message.
    """
    result: Ranges = []
    for start, end in ranges:
        if STAR in (start, end):
            if count:
                result.append((min(start, count), min(end, count)))
        elif min(start, end) <= count:
            result.append((min(start, end), min(max(start, end), count)))
    return result


def resolve_numbers(ranges: Iterable[Range], count: int) -> Ranges:
    """A set of message sequence numbers for a mailbox of `count` messages, normalised.

    Raises Bad for a number that no message has, or "*" in an empty mailbox.
    """
    ranges = list(ranges)
    for start, end in ranges:
        if start > count or end > count or (STAR in (start, end) and not count):
            raise Bad("no message has this sequence number")
    return resolve(ranges, count)


def slices(uids: Sequence[int], ranges: Iterable[Range]) -> list[tuple[int, int]]:
    """Where the UIDs of ascending `ranges` lie in the ascending `uids`: pairs (start, stop).

    Empty ones are left out.
    """
    result = []
    for start, end in ranges:
        lo = bisect_left(uids, start)
        hi = bisect_right(uids, end, lo)
        if lo < hi:
            result.append((lo, hi))
    return result


def select(uids: Sequence[int], ranges: Iterable[Range]) -> list[int]:
    """Those of the ascending `uids` that are in `ranges`."""
    result: list[int] = []
    for lo, hi in slices(uids, ranges):
        result.extend(uids[lo:hi])
    return result


# One in so many messages: looking each up is quicker than a table of all.
_LOOKED_UP: Final = 8


class Numbering:
    """Makes sequence numbers of UIDs in any order, 0 for those that are not in view."""

    def __init__(self, known: array[int]) -> None:
        self._known = known
        self._table: dict[int, int] | None = None

    def __call__(self, uids: Sequence[int]) -> list[int]:
        """The sequence numbers."""
        known = self._known
        count = len(known)
        if count and known[-1] - known[0] == count - 1:
            # Without gaps, as long as nothing was removed.
            before = known[0] - 1
            return [uid - before if 0 < uid - before <= count else 0 for uid in uids]
        if len(uids) < count // _LOOKED_UP:
            numbers = []
            for uid in uids:
                index = bisect_left(known, uid)
                numbers.append(index + 1 if index < count and known[index] == uid else 0)
            return numbers
        if self._table is None:
            self._table = dict(zip(known, range(1, count + 1), strict=True))
        table = self._table
        return [table.get(uid, 0) for uid in uids]


def contains(ranges: Sequence[Range], number: int) -> bool:
    """Whether a normalised set holds `number`."""
    index = bisect_right(ranges, (number, MAX_NUMBER + 1)) - 1
    return index >= 0 and ranges[index][0] <= number <= ranges[index][1]


def intersect(a: Sequence[Range], b: Sequence[Range]) -> Ranges:
    """The numbers that both of two normalised sets hold."""
    result: Ranges = []
    i = j = 0
    while i < len(a) and j < len(b):
        start = max(a[i][0], b[j][0])
        end = min(a[i][1], b[j][1])
        if start <= end:
            result.append((start, end))
        if a[i][1] < b[j][1]:
            i += 1
        else:
            j += 1
    return result


def complement(ranges: Sequence[Range], first: int, last: int) -> Ranges:
    """The numbers from `first` to `last` that a normalised set does not hold."""
    result: Ranges = []
    for start, end in ranges:
        if start > last:
            break
        if first < start:
            result.append((first, start - 1))
        first = max(first, end + 1)
    if first <= last:
        result.append((first, last))
    return result


def to_ranges(numbers: Iterable[int]) -> Ranges:
    """Ascending numbers as ranges."""
    result: Ranges = []
    iterator = iter(numbers)
    start = end = next(iterator, None)
    if start is None or end is None:
        return result
    for number in iterator:
        if number != end + 1:
            result.append((start, end))
            start = number
        end = number
    result.append((start, end))
    return result


def format_ranges(ranges: Iterable[Range]) -> bytes:
    """Ranges in wire form: ``1:3,5``."""
    return b",".join(
        [b"%d" % start if start == end else b"%d:%d" % (start, end) for start, end in ranges]
    )


def format_numbers(numbers: Iterable[int]) -> bytes:
    """Ascending numbers in wire form, as short as ranges make them."""
    return format_ranges(to_ranges(numbers))


def format_pieces(ranges: Iterable[Range], limit: int = 4000) -> Iterator[bytes]:
    """Ranges in wire form, cut into sets of at most `limit` bytes each."""
    pieces: list[bytes] = []
    size = 0
    for start, end in ranges:
        piece = b"%d" % start if start == end else b"%d:%d" % (start, end)
        if pieces and size + len(piece) + 1 > limit:
            yield b",".join(pieces)
            pieces, size = [], 0
        pieces.append(piece)
        size += len(piece) + 1
    if pieces:
        yield b",".join(pieces)


def without(uids: array[int], gone: Iterable[int]) -> array[int]:
    """The ascending `uids` without those in `gone`, as a new array."""
    drop = set(gone)
    if len(drop) <= 8:
        # Few removals, the usual case: copy whole stretches.
        result = array("I", uids)
        for uid in drop:
            index = bisect_left(result, uid)
            if index < len(result) and result[index] == uid:
                del result[index]
        return result
    return array("I", [uid for uid in uids if uid not in drop])
