"""Contexts: results of searches that are kept up to date (RFC 5267 4.3).

A SEARCH or SORT with UPDATE leaves a context with the view. When messages come, go or change
flags, only these are looked at again, on the snapshot that the notices are made from, and the
client is told what comes into the results (ADDTO) and what leaves them (REMOVEFROM).
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from moxtw.imap import seqset
from moxtw.imap.errors import Bad
from moxtw.imap.searchkeys import aged
from moxtw.store import search, sorting
from moxtw.store.orders import Order
from moxtw.store.search import Criterion
from moxtw.store.tx import Tx

if TYPE_CHECKING:
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


class Context:
    """A search with its results.

    `results` are UIDs in the order that the client has them: sorted, or ascending for a
    search, which has no `order`. `members` are the same UIDs, ascending.

    The criterion is as of `time`, in microseconds since the epoch, if it is `aging`.
    """

    __slots__ = ("aging", "criterion", "members", "order", "results", "tag", "time", "uid")

    def __init__(
        self,
        tag: bytes,
        uid: bool,
        criterion: Criterion,
        uids: Iterable[int],
        order: Order | None,
        members: array[int] | None,
        time: int,
    ) -> None:
        self.tag = tag
        self.uid = uid
        self.criterion = criterion
        self.order = order
        self.aging = aged(criterion, 1) is not criterion
        self.time = time
        self.results = array("I", uids)
        self.members = self.results if members is None else members

    def has(self, uid: int) -> bool:
        """Whether the message is among the results."""
        index = bisect_left(self.members, uid)
        return index < len(self.members) and self.members[index] == uid


    def is_old(self, now: int) -> bool:
        """Whether the search is to be made again for a later time."""
        return self.aging and now - self.time >= _AGING


class Update(NamedTuple):
    """What changes in a context, found by a job.

    `added` are the UIDs that come in, in order, with the places that they have then, from 1;
    for a search the places are 0. `criterion` and `time` are those that the context has then.
    """

    context: Context
    removed: list[int]
    added: list[tuple[int, int]]
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
) -> None:
    """Keep the results of a search up to date, if there is room for it.

    With an order, `members` are the UIDs ascending.
    """
    held = sum(len(context.results) for context in view.contexts.values())
    if len(view.contexts) >= _MAX_CONTEXTS or (
        view.contexts and held + len(uids) > _MAX_RESULTS
    ):
        # RFC 5267 4.3.1.
        conn.send(b'* NO [NOUPDATE "%b"] too many searches with UPDATE\r\n' % tag)
        return
    view.contexts[tag] = Context(tag, uid, criterion, uids, order, members, conn.app.store.now())


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
    updates = []
    among = search.Uids(seqset.to_ranges(changed))
    for context in view.contexts.values():
        time, criterion, uids = context.time, context.criterion, changed
        if context.is_old(now):
            time, criterion = now, aged(criterion, now - time)
            found = search.search(tx, view.mailbox_id, criterion, changes.uidnext)
            uids = sorted({*found, *context.members})
        elif changed:
            both = search.And((among, criterion))
            found = search.search(tx, view.mailbox_id, both, changes.uidnext)
        else:
            continue
        fits = set(found)
        removed = [uid for uid in uids if uid not in fits and context.has(uid)]
        added = [uid for uid in uids if uid in fits and not context.has(uid)]
        if context.order is None or not added:
            places = [(0, uid) for uid in added]
        else:
            left = without(context.results, removed)
            places = sorting.places(tx, view.mailbox_id, left, added, context.order)
        if removed or places or time != context.time:
            updates.append(Update(context, removed, places, criterion, time))
    return updates


def without(uids: array[int], gone: Sequence[int]) -> array[int]:
    """The UIDs, in any order, without those in `gone`, which are among them."""
    if not gone:
        return uids
    if len(gone) <= _FEW:
        left = array("I", uids)
        for uid in gone:
            left.remove(uid)
        return left
    drop = set(gone)
    return array("I", [uid for uid in uids if uid not in drop])


def tell(conn: IMAPServer, view: View, updates: Iterable[Update]) -> None:
    """Write updates, and take them into the contexts. The messages are in view."""
    for context, removed, added, criterion, time in updates:
        if view.contexts.get(context.tag) is not context:
            continue
        context.criterion, context.time = criterion, time
        items = []
        if removed:
            items.append(b"REMOVEFROM (%b)" % _remove(view, context, removed))
        known = [(place, uid) for place, uid in added if view.number(uid)]
        if len(known) != len(added):
            # Some are not known to the client (any more): the others close up.
            known = [(place and place - n, uid) for n, (place, uid) in _counted(view, added)]
        if known:
            items.append(b"ADDTO (%b)" % _add(view, context, known))
        if items:
            conn.send(_line(view, context, items))


def _counted(
    view: View, added: Sequence[tuple[int, int]]
) -> list[tuple[int, tuple[int, int]]]:
    """Those in view, each with the number of others before it that are not."""
    result = []
    missing = 0
    for pair in added:
        if view.number(pair[1]):
            result.append((missing, pair))
        else:
            missing += 1
    return result


def removing(conn: IMAPServer, view: View, uids: Sequence[int]) -> None:
    """Messages are about to be told as expunged (RFC 5267 4.3.4: before that)."""
    for context in view.contexts.values():
        removed = [uid for uid in uids if context.has(uid)]
        if removed:
            conn.send(_line(view, context, [b"REMOVEFROM (%b)" % _remove(view, context, removed)]))


def _line(view: View, context: Context, items: Iterable[bytes]) -> bytes:
    return b'* ESEARCH (TAG "%b")%b %b\r\n' % (
        context.tag,
        b" UID" if _in_uids(view, context) else b"",
        b" ".join(items),
    )


def _in_uids(view: View, context: Context) -> bool:
    # After ENABLE UIDONLY no sequence numbers are sent (RFC 9586 3.3).
    return context.uid or view.uidonly


def _set(view: View, context: Context, uids: Iterable[int]) -> bytes:
    """UIDs, in their order, as the client wants them."""
    numbers = uids if _in_uids(view, context) else map(view.number, uids)
    return seqset.format_numbers(numbers)


def _remove(view: View, context: Context, uids: list[int]) -> bytes:
    """Take UIDs out of the results: the argument of REMOVEFROM."""
    if context.order is None:
        context.results = context.members = seqset.without(context.results, uids)
        return b"0 " + _set(view, context, uids)
    results = context.results
    if len(uids) <= _FEW:
        places = sorted(map(results.index, uids))
    else:
        drop = set(uids)
        places = [place for place, uid in enumerate(results) if uid in drop]
    # From the end, so that places before stay as they are; neighbours together.
    pairs = [
        b"%d %b" % (start + 1, _set(view, context, results[start : end + 1]))
        for start, end in reversed(seqset.to_ranges(places))
    ]
    context.results = without(results, uids)
    context.members = seqset.without(context.members, uids)
    return b" ".join(pairs)


def _add(view: View, context: Context, added: Sequence[tuple[int, int]]) -> bytes:
    """Take UIDs into the results: the argument of ADDTO."""
    uids = [uid for _, uid in added]
    if context.order is None:
        context.results = context.members = _merged(context.members, uids)
        return b"0 " + _set(view, context, uids)
    context.members = _merged(context.members, sorted(uids))
    results: list[int] = []
    rest = context.results.tolist()
    taken = 0
    pairs = []
    run: list[int] = []
    start = 0
    for place, uid in added:
        until = place - 1 - len(results)
        if until or not run:
            if run:
                pairs.append(b"%d %b" % (start, _set(view, context, run)))
            results += rest[taken : taken + until]
            taken += until
            run, start = [], place
        run.append(uid)
        results.append(uid)
    pairs.append(b"%d %b" % (start, _set(view, context, run)))
    context.results = array("I", results + rest[taken:])
    return b" ".join(pairs)


def _merged(uids: array[int], more: Sequence[int]) -> array[int]:
    """Ascending UIDs with other ascending ones."""
    if not uids or not more or more[0] > uids[-1]:
        return uids + array("I", more)
    return array("I", sorted([*uids, *more]))
