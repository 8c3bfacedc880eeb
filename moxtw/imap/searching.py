"""Running a search piece by piece, so that others get their turn and it can be given up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from moxtw.imap.connection import Gone
from moxtw.store import messages
from moxtw.store.search import Criterion, Search
from moxtw.store.tx import Tx

if TYPE_CHECKING:
    from moxtw.imap.server import IMAPServer

# Seconds of a piece.
_PIECE: Final = 0.1


async def find(
    conn: IMAPServer, mailbox_id: int, criterion: Criterion, uid_below: int = 1 << 32
) -> list[int]:
    """UIDs of messages that fit, ascending. Raises Gone when the client has gone."""
    work = Search(mailbox_id, criterion, uid_below)
    while not await conn.app.store.read(lambda tx: work.step(tx, _PIECE)):
        conn.progress_of(work.done, work.goal)
        if conn.lost:
            raise Gone
    return work.found


def modseqs(tx: Tx, mailbox_id: int, uids: list[int]) -> dict[int, int]:
    """The modseqs of messages by UID."""
    if not uids:
        return {}
    rows = messages.flags(tx, mailbox_id, [(uids[0], uids[-1])])
    wanted = set(uids)
    return {row.uid: row.modseq for row in rows if row.uid in wanted}
