"""Threads of an account assigned anew, all at once.

The rules are those of `moxtw.store.threads`, but all messages are known: one that came before
the messages that it answers becomes their child, and one that answers several that are not there
any more joins what is left. What is asked of a message comes from its thread keys, so that
nothing is parsed; those of 100,000 messages take some 20 MB.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy import bindparam

from moxtw.mail.sortkeys import ThreadKeys
from moxtw.store.db import Store
from moxtw.store.errors import StoreError
from moxtw.store.schema import message_meta, messages
from moxtw.store.schema_keys import content_keys
from moxtw.store.threads import MAX_PARENTS, SUBJECT_AFTER, SUBJECT_BEFORE
from moxtw.store.tx import Statement, Tx

_LOOK: Final = 2000
_WRITE: Final = 1000
# Messages that come in while threads are made are looked at, too; at last in the same job.
_TRIES: Final = 3


class Rethreaded(NamedTuple):
    """How many messages were looked at, how many threads they are, and how many changed."""

    messages: int
    threads: int
    changed: int


class KeysMissing(StoreError):
    """Messages of an older version have no thread keys yet: the server makes them by and by."""


_NEXT = Statement(
    sa.select(
        messages.c.id,
        messages.c.thread_id,
        message_meta.c.received,
        message_meta.c.mailbox_orig_id,
        message_meta.c.dsn,
        message_meta.c.thread_parents,
        message_meta.c.thread_missing_link,
        message_meta.c.thread_muted,
        message_meta.c.thread_collapsed,
        content_keys.c.thread,
    )
    .select_from(
        messages.join(message_meta, message_meta.c.id == messages.c.id).outerjoin(
            content_keys, content_keys.c.content_id == messages.c.content_id
        )
    )
    .where(
        messages.c.account_id == bindparam("a"),
        messages.c.id > bindparam("after"),
        messages.c.expunged == 0,
    )
    .order_by(messages.c.id)
    .limit(_LOOK)
)
_SET_THREAD = Statement(
    messages.update().where(messages.c.id == bindparam("i")).values(thread_id=bindparam("t"))
)
_SET_PARENTS = Statement(
    message_meta.update()
    .where(message_meta.c.id == bindparam("i"))
    .values(
        thread_parents=bindparam("p"),
        thread_missing_link=bindparam("l"),
        thread_muted=bindparam("m"),
        thread_collapsed=bindparam("c"),
    )
)

_MISSING: Final = 1
_MUTED: Final = 2
_COLLAPSED: Final = 4
_DSN: Final = 8


class _Forest:
    """The messages of an account by their places, ascending by id, and what they are below of."""

    def __init__(self) -> None:
        self.ids = array("q")
        self.keys = ThreadKeys()
        self._received = array("q")
        self._mailboxes = array("q")
        self._threads = array("q")
        self._chains = array("q")  # a number for the list of ancestors as it is stored
        self._marks = array("B")  # as they are stored
        self.parents = array("q")
        self._links = array("B")
        self._tops = array("q")

    def add(self, row: tuple[Any, ...]) -> None:
        """Take a row of `_NEXT`. Raises KeysMissing."""
        if row[9] is None:
            raise KeysMissing("messages have not all been looked at by this version: try later")
        self.ids.append(row[0])
        self._threads.append(row[1])
        self._received.append(row[2])
        self._mailboxes.append(row[3] or 0)
        self._chains.append(hash(row[5]))
        self._marks.append(
            _MISSING * bool(row[6])
            | _MUTED * bool(row[7])
            | _COLLAPSED * bool(row[8])
            | _DSN * bool(row[4])
        )
        self.keys.append(bytes(row[9]))

    # -- Who is below whom -------------------------------------------------------------

    def _top(self, place: int) -> int:
        """The root above a message. Paths get shorter as they are walked."""
        tops = self._tops
        top = place
        while tops[top] != top:
            top = tops[top]
        while tops[place] != top:
            tops[place], place = top, tops[place]
        return top

    def _link(self, place: int, parent: int) -> bool:
        """Put a root below another message, unless that is below it."""
        if self._top(parent) == place:
            return False
        self.parents[place] = parent
        self._tops[place] = parent
        return True

    def assign(self) -> None:
        """Find the parent of each. Takes about as long as there are messages and references."""
        count = len(self.ids)
        words, starts = self.keys.words, self.keys.starts
        self.parents = array("q", [-1]) * count
        self._links = array("B", [0]) * count
        self._tops = array("q", range(count))
        by_id: dict[int, int] = {}
        for place in range(count):
            own = words[starts[place]]
            if own:
                by_id.setdefault(own, place)
        # Those that arrived first are asked first: what could be below each other is then in
        # the order in which it came.
        order = sorted(range(count), key=self._moment)
        by_subject: dict[tuple[int, int], list[int]] = {}
        for place in order:
            subject = words[starts[place] + 1]
            if subject:
                by_subject.setdefault((self._mailboxes[place], subject), []).append(place)
        for place in order:
            self._find(place, by_id, by_subject)

    def _moment(self, place: int) -> tuple[int, int]:
        return self._received[place], place

    def _find(
        self,
        place: int,
        by_id: dict[int, int],
        by_subject: dict[tuple[int, int], list[int]],
    ) -> None:
        words, starts = self.keys.words, self.keys.starts
        start, end = starts[place], starts[place + 1]
        own, subject, is_response = words[start], words[start + 1], words[start + 2]
        first = by_id.get(own, place) if own else place
        if first != place and self._link(place, first):
            self._links[place] = 1
            return
        if end > start + 3:
            passed = False
            for at in range(end - 1, start + 2, -1):
                found = by_id.get(words[at])
                if (
                    found is not None
                    and found != place
                    and (self._marks[place] & _DSN or words[starts[found] + 1] == subject)
                    and self._link(place, found)
                ):
                    self._links[place] = passed
                    return
                passed = True
            self._links[place] = 1
            return
        if is_response and subject:
            found = self._by_subject(place, by_subject[self._mailboxes[place], subject])
            if found is not None and self._link(place, self._top(found)):
                self._links[place] = 1

    def _by_subject(self, place: int, others: list[int]) -> int | None:
        """The latest before a response, or else what came soon after it and is none."""
        received = self._received[place]
        at = bisect_right(others, self._moment(place), key=self._moment)
        if at > 1:
            before = others[at - 2]
            if self._received[before] >= received - SUBJECT_BEFORE:
                return before
        words, starts = self.keys.words, self.keys.starts
        for found in others[at : at + 10]:
            if self._received[found] > received + SUBJECT_AFTER:
                break
            if not words[starts[found] + 2]:
                return found
        return None

    # -- What changes ------------------------------------------------------------------

    def _chain(self, place: int) -> str:
        """The ids of a message's ancestors, nearest first."""
        found: list[str] = []
        parent = self.parents[place]
        while parent >= 0 and len(found) < MAX_PARENTS:
            found.append(str(self.ids[parent]))
            parent = self.parents[parent]
        return " ".join(found)

    def threads(self) -> int:
        """How many there are."""
        return sum(parent < 0 for parent in self.parents)

    def changes(self) -> Iterator[tuple[int, int | None, str | None, int]]:
        """Id, thread id and ancestors of what differs, None if they do not, and marks.

        A message that came below another one is muted and collapsed as its thread is.
        """
        for place, message_id in enumerate(self.ids):
            top = self._top(place)
            thread = self.ids[top]
            chain = self._chain(place)
            marks = self._marks[place]
            wanted = marks & ~_MISSING | self._links[place]
            moved = hash(chain) != self._chains[place]
            if moved and top != place:
                shown = _MUTED | _COLLAPSED
                wanted = wanted & ~shown | self._marks[top] & shown
            other_thread = thread if thread != self._threads[place] else None
            if other_thread is not None or moved or wanted != marks:
                changed = chain if moved or wanted != marks else None
                yield message_id, other_thread, changed, wanted


def _read_on(tx: Tx, account_id: int, forest: _Forest) -> int:
    """Take more messages; how many there were."""
    rows = tx.all(_NEXT, a=account_id, after=forest.ids[-1] if forest.ids else 0)
    for row in rows:
        forest.add(row)
    return len(rows)


def _write(tx: Tx, forest: _Forest) -> int:
    threads: list[dict[str, Any]] = []
    parents: list[dict[str, Any]] = []
    count = 0

    def flush() -> None:
        if threads:
            tx.many(_SET_THREAD, threads)
            threads.clear()
        if parents:
            tx.many(_SET_PARENTS, parents)
            parents.clear()

    for message_id, thread, chain, marks in forest.changes():
        count += 1
        if thread is not None:
            threads.append({"i": message_id, "t": thread})
        if chain is not None:
            parents.append(
                {
                    "i": message_id,
                    "p": chain,
                    "l": marks & _MISSING,
                    "m": int(bool(marks & _MUTED)),
                    "c": int(bool(marks & _COLLAPSED)),
                }
            )
        if len(threads) + len(parents) >= _WRITE:
            flush()
    flush()
    return count


async def reassign_threads(
    store: Store, account_id: int, progress: Callable[[int], object] = lambda count: None
) -> Rethreaded:
    """Assign the threads of an account anew.

    All changes are written in one job, or none: others write when it is over, after about a
    second for 100,000 messages that change. `progress` is told how many messages were read.
    Raises KeysMissing.
    """
    forest = _Forest()
    for attempt in range(_TRIES):
        while await store.read(lambda tx: _read_on(tx, account_id, forest)):
            progress(len(forest.ids))
        await store.run(forest.assign)
        last = attempt == _TRIES - 1

        def write(tx: Tx, last: bool = last) -> int | None:
            # Messages that have come meanwhile joined the threads as they were.
            fresh = 0
            while count := _read_on(tx, account_id, forest):
                fresh += count
            if fresh and not last:
                return None
            if fresh:
                forest.assign()
            return _write(tx, forest)

        changed = await store.write(write)
        if changed is not None:
            return Rethreaded(len(forest.ids), forest.threads(), changed)
    raise AssertionError("the last attempt writes")
