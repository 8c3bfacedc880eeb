"""Running a search piece by piece, so that others get their turn and it can be given up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from twisted.internet.defer import Deferred, DeferredList

from moxtw.imap.connection import Gone
from moxtw.store import messages
from moxtw.store.search import And, Criterion, Search, Uids, looks_through_text
from moxtw.store.tx import Tx

if TYPE_CHECKING:
    from moxtw.imap.server import IMAPServer

# Seconds of a piece.
_PIECE: Final = 0.1
MAX_UID: Final = 0xFFFFFFFF
# From so many messages on, both halves are looked through at once: the database does most of
# it, and has a thread for each.
_HALVES_FROM: Final = 10_000


class Found(NamedTuple):
    """UIDs, ascending, and how well each fits (RFC 6203 4)."""

    uids: list[int]
    score: Callable[[int], int]


async def find(
    conn: IMAPServer,
    mailbox_id: int,
    criterion: Criterion,
    uid_below: int = 1 << 32,
    known: Sequence[int] = (),
) -> Found:
    """Messages that fit. Raises Gone when the client has gone.

    known: UIDs that there are, ascending, if they are at hand.
    """
    middle = 0
    works = [Search(mailbox_id, criterion, uid_below)]
    if len(known) >= _HALVES_FROM and looks_through_text(criterion):
        middle = known[len(known) // 2]
        works = [
            Search(mailbox_id, criterion, middle),
            Search(mailbox_id, And((Uids([(middle, MAX_UID)]), criterion)), uid_below),
        ]

    async def run(work: Search) -> None:
        while not await conn.app.store.read(lambda tx: work.step(tx, _PIECE)):
            conn.progress_of(
                sum(each.done for each in works), sum(each.goal for each in works)
            )
            if conn.lost:
                raise Gone

    if len(works) == 1:
        await run(works[0])
    else:
        results = await DeferredList(
            [Deferred.fromCoroutine(run(work)) for work in works], consumeErrors=True
        )
        for good, result in results:
            failure: Any = result
            if not good:
                failure.raiseException()
    if len(works) == 1:
        return Found(works[0].found, works[0].score)
    return Found(
        works[0].found + works[1].found,
        lambda uid: works[0 if uid < middle else 1].score(uid),
    )


def modseqs(tx: Tx, mailbox_id: int, uids: list[int]) -> dict[int, int]:
    """The modseqs of messages by UID."""
    if not uids:
        return {}
    rows = messages.flags(tx, mailbox_id, [(uids[0], uids[-1])])
    wanted = set(uids)
    return {row.uid: row.modseq for row in rows if row.uid in wanted}
