"""UIDs of mailboxes, shared by the sessions that show them.

A view's UIDs are never changed in place, so sessions that know the same of a mailbox can have
the same array: a thousand of them then cost no more than one. And selecting a mailbox again
reads only what changed since somebody last did.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from threading import Lock
from typing import TYPE_CHECKING, Final, NamedTuple

from moxtw.imap import seqset
from moxtw.store import messages
from moxtw.store.tx import Tx

if TYPE_CHECKING:
    from moxtw.store.model import Mailbox

# UIDs kept for mailboxes altogether (4 bytes each).
_MAX_UIDS: Final = 2_000_000
# With more changes than this, reading all UIDs is as fast.
_MAX_CHANGES: Final = 2000


class _Entry(NamedTuple):
    uidvalidity: int
    modseq: int
    uidnext: int
    uids: array[int]


class UidCache:
    """The UIDs of mailboxes used last, each as of some modseq.

    Readers of the store use it in their threads; entries are replaced, never changed.
    """

    def __init__(self) -> None:
        self._entries: OrderedDict[int, _Entry] = OrderedDict()
        self._size = 0
        self._lock = Lock()

    def load(self, tx: Tx, mailbox: Mailbox) -> array[int]:
        """The UIDs of a mailbox as the transaction sees it."""
        entry = self._entries.get(mailbox.id)
        if entry is not None and entry.uidvalidity == mailbox.uidvalidity:
            if entry.modseq == mailbox.modseq:
                return entry.uids
            if entry.modseq < mailbox.modseq:
                changes = messages.changes_since(tx, mailbox.id, entry.modseq)
                if len(changes.changed) + len(changes.vanished) <= _MAX_CHANGES:
                    uids = seqset.without(entry.uids, changes.vanished)
                    uids.extend(
                        row.uid for row in changes.changed if row.uid >= entry.uidnext
                    )
                    self._put(mailbox, uids)
                    return uids
        uids = messages.view(tx, mailbox.id)[1]
        if entry is None or entry.modseq < mailbox.modseq:
            self._put(mailbox, uids)
        return uids

    def share(
        self, mailbox_id: int, uidvalidity: int, modseq: int, uidnext: int, uids: array[int]
    ) -> array[int]:
        """The same UIDs, as an array that others have already, if there is one."""
        entry = self._entries.get(mailbox_id)
        if entry is not None and entry.uidvalidity == uidvalidity:
            if entry.uids == uids:
                return entry.uids
            if entry.modseq >= modseq:
                return uids
        self._replace(mailbox_id, _Entry(uidvalidity, modseq, uidnext, uids))
        return uids

    def _put(self, mailbox: Mailbox, uids: array[int]) -> None:
        entry = _Entry(mailbox.uidvalidity, mailbox.modseq, mailbox.uidnext, uids)
        self._replace(mailbox.id, entry)

    def _replace(self, mailbox_id: int, entry: _Entry) -> None:
        with self._lock:
            old = self._entries.pop(mailbox_id, None)
            if old is not None:
                self._size -= len(old.uids)
            self._entries[mailbox_id] = entry
            self._size += len(entry.uids)
            while self._size > _MAX_UIDS and len(self._entries) > 1:
                _, oldest = self._entries.popitem(last=False)
                self._size -= len(oldest.uids)
