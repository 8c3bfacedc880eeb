"""Contexts: results of searches that are kept up to date (RFC 5267 4.3).

A SEARCH or SORT with UPDATE leaves a context with the view. When messages come, go or change
flags, only these are looked at again, on the snapshot that the notices are made from, and the
client is told what comes into the results (ADDTO) and what leaves them (REMOVEFROM).
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from moxtw.imap import seqset
from moxtw.imap.errors import Bad
from moxtw.imap.searchkeys import aged
from moxtw.store import search, sorting
from moxtw.store.orders import Order
from moxtw.store.search import Criterion
from moxtw.store.tx import Tx

if TYPE_CHECKING:
    from moxtw.imap.fetchitems import Items
    from moxtw.imap.server import IMAPServer
    from moxtw.imap.session import View
    from moxtw.store.model import Changes

# For one client: contexts, and results in all of them.
_MAX_CONTEXTS: Final = 10
_MAX_RESULTS: Final = 400_000
# So many are looked for one by one among the results.
_FEW: Final = 8
# Searches for ages of messages (RFC 5032) are made again after so many microseconds.
_AGING: Final = 60_000_000


Told = Callable[[Sequence[int]], Sequence[int]]


class Results(NamedTuple):
    """What a search has found, never changed in place.

    `uids` are in the order that the client has them: sorted, or ascending for a search, which
    has no `order`. `members` are the same, ascending.
    """

    order: Order | None
    uids: array[int]
    members: array[int]

    def has(self, uid: int) -> bool:
        """Whether the message is among the results."""
        index = bisect_left(self.members, uid)
        return index < len(self.members) and self.members[index] == uid

    def remove(self, gone: Sequence[int], told: Told) -> tuple[bytes, Results]:
        """The argument of REMOVEFROM, and the results without ascending UIDs among them.

        `told` makes of UIDs what the client is told.
        """
        members = seqset.without(self.members, gone)
        if self.order is None:
            text = b"0 " + seqset.format_numbers(told(gone))
            return text, Results(None, members, members)
        if len(gone) <= _FEW:
            places = sorted(map(self.uids.index, gone))
            left = self.uids[:]
            for place in reversed(places):
                del left[place]
        else:
            drop = set(gone)
            places = [place for place, uid in enumerate(self.uids) if uid in drop]
            left = array("I", [uid for uid in self.uids if uid not in drop])
        numbers = told([self.uids[place] for place in places])
        # From the end, so that places before stay as they are; neighbours together.
        pairs = []
        end = len(places)
        for first, last in reversed(seqset.to_ranges(places)):
            start = end - 1 - (last - first)
            pairs.append(b"%d %b" % (first + 1, seqset.format_numbers(numbers[start:end])))
            end = start
        return b" ".join(pairs), Results(self.order, left, members)

    def add(self, more: Sequence[tuple[int, int]], told: Told) -> tuple[bytes, Results]:
        """The argument of ADDTO, and the results with further UIDs.

        These come with the places that they have then, ascending, from 1; for a search the
        places are 0, and UIDs ascend.
        """
        uids = [uid for _, uid in more]
        numbers = told(uids)
        members = _merged(self.members, sorted(uids))
        if self.order is None:
            return b"0 " + seqset.format_numbers(numbers), Results(None, members, members)
        pairs = []
        end = 0
        while end < len(more):
            start, place = end, more[end][0]
            while end < len(more) and more[end][0] == place + end - start:
                end += 1
            pairs.append(b"%d %b" % (place, seqset.format_numbers(numbers[start:end])))
        if len(more) <= _FEW:
            both = self.uids[:]
            for place, uid in more:
                both.insert(place - 1, uid)
        else:
            both = array("I", sorting.merged(self.uids, more))
        return b" ".join(pairs), Results(self.order, both, members)


class Context:
    """A search with its results. The criterion is as of `time`, in microseconds, if `aging`.

    `items` are told of new messages that come into the results (RFC 5465 7).
    """

    __slots__ = ("aging", "criterion", "items", "results", "tag", "time", "uid")

    def __init__(
        self,
        tag: bytes,
        uid: bool,
        criterion: Criterion,
        results: Results,
        time: int,
        items: Items | None = None,
    ) -> None:
        self.tag = tag
        self.uid = uid
        self.criterion = criterion
        self.results = results
        self.aging = aged(criterion, 1) is not criterion
        self.time = time
        self.items = items

    def is_old(self, now: int) -> bool:
        """Whether the search is to be made again for a later time."""
        return self.aging and now - self.time >= _AGING


class Update(NamedTuple):
    """What becomes of a context, found by a job; `response` tells the client."""

    context: Context
    results: Results
    response: bytes
    criterion: Criterion
    time: int


def check_tag(view: View, tag: bytes) -> None:
    """Raise Bad if a context has the tag already (RFC 5267 4.3)."""
    if tag in view.contexts:
        raise Bad("this tag is in use for another search with UPDATE")


def add(
    conn: IMAPServer,
    view: View,
    tag: bytes,
    uid: bool,
    criterion: Criterion,
    uids: Sequence[int],
    order: Order | None = None,
    members: array[int] | None = None,
    items: Items | None = None,
) -> None:
    """Keep the results of a search up to date, if there is room for it, and that can be.

    With an order, `members` are the UIDs ascending.
    """
    if any(key == sorting.RELEVANCY for key, _ in order or ()):
        conn.send(b'* NO [NOUPDATE "%b"] relevancy is not kept up to date\r\n' % tag)
        return
    held = sum(len(context.results.uids) for context in view.contexts.values())
    if len(view.contexts) >= _MAX_CONTEXTS or (
        view.contexts and held + len(uids) > _MAX_RESULTS
    ):
        # RFC 5267 4.3.1.
        conn.send(b'* NO [NOUPDATE "%b"] too many searches with UPDATE\r\n' % tag)
        return
    found = array("I", uids)
    results = Results(order, found, found if members is None else members)
    view.contexts[tag] = Context(tag, uid, criterion, results, conn.app.store.now(), items)


def seconds_left(conn: IMAPServer) -> float | None:
    """Until a search is to be made again for a later time; None if none ever is."""
    view = conn.session.view if conn.session is not None else None
    times = [each.time for each in view.contexts.values() if each.aging] if view else []
    if not times:
        return None
    return max(min(times) + _AGING - conn.app.store.now(), 0) / 1_000_000


def aging(conn: IMAPServer, view: View) -> bool:
    """Whether a search depends on the time and was made too long ago."""
    if not view.contexts:
        return False
    now = conn.app.store.now()
    return any(context.is_old(now) for context in view.contexts.values())


def find_updates(tx: Tx, view: View, changes: Changes, now: int) -> list[Update]:
    """What changes in the contexts of a view by messages that are new or have other flags.

    Messages that have gone leave the results in `removing`.
    """
    changed = [row.uid for row in changes.changed]
    new = changed[bisect_left(changed, view.uidnext) :]
    numbering = seqset.Numbering(view.uids + array("I", new) if new else view.uids)
    among = search.Uids(seqset.to_ranges(changed))
    updates = []
    for context in view.contexts.values():
        results, time, criterion = context.results, context.time, context.criterion
        uids = changed
        if context.is_old(now):
            time, criterion = now, aged(criterion, now - time)
            found = search.search(tx, view.mailbox_id, criterion, changes.uidnext)
            uids = sorted({*found, *results.members})
        elif changed:
            both = search.And((among, criterion))
            found = search.search(tx, view.mailbox_id, both, changes.uidnext)
        else:
            continue
        # Those that the client is not told of yet are looked at when it is.
        fits = {uid for uid, n in zip(found, numbering(found), strict=True) if n}
        removed = [uid for uid in uids if uid not in fits and results.has(uid)]
        added = [uid for uid in uids if uid in fits and not results.has(uid)]
        told = _told(view, context, numbering)
        items = []
        if removed:
            text, results = results.remove(removed, told)
            items.append(b"REMOVEFROM (%b)" % text)
        if added:
            places = [(0, uid) for uid in added]
            if results.order is not None:
                places = sorting.places(
                    tx, view.mailbox_id, results.uids, added, results.order
                )
            text, results = results.add(places, told)
            items.append(b"ADDTO (%b)" % text)
        if items or time != context.time:
            line = _line(view, context, items) if items else b""
            updates.append(Update(context, results, line, criterion, time))
    return updates


def tell(conn: IMAPServer, view: View, updates: Iterable[Update]) -> None:
    """Write updates, and take them into the contexts. The messages are in view."""
    for context, results, response, criterion, time in updates:
        if view.contexts.get(context.tag) is context:
            context.results, context.criterion, context.time = results, criterion, time
            if response:
                conn.send(response)


def removing(conn: IMAPServer, view: View, uids: Sequence[int]) -> None:
    """Messages are about to be told as expunged (RFC 5267 4.3.4: before that)."""
    numbering = seqset.Numbering(view.uids)
    for context in view.contexts.values():
        removed = [uid for uid in uids if context.results.has(uid)]
        if removed:
            told = _told(view, context, numbering)
            text, context.results = context.results.remove(removed, told)
            conn.send(_line(view, context, [b"REMOVEFROM (%b)" % text]))


def _line(view: View, context: Context, items: Iterable[bytes]) -> bytes:
    return b'* ESEARCH (TAG "%b")%b %b\r\n' % (
        context.tag,
        b" UID" if _in_uids(view, context) else b"",
        b" ".join(items),
    )


def _in_uids(view: View, context: Context) -> bool:
    # After ENABLE UIDONLY no sequence numbers are sent (RFC 9586 3.3).
    return context.uid or view.uidonly


def _told(view: View, context: Context, numbering: Told) -> Told:
    return (lambda uids: uids) if _in_uids(view, context) else numbering


def _merged(uids: array[int], more: Sequence[int]) -> array[int]:
    """Ascending UIDs with other ascending ones."""
    if not uids or not more or more[0] > uids[-1]:
        return uids + array("I", more)
    return array("I", sorted([*uids, *more]))
