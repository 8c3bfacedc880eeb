"""What a connection knows once somebody has logged in, and its view of the selected mailbox.

A view is what the client has been told: which UIDs there are, hence which sequence number
each has, and up to which modseq. The store is asked for what came after that modseq, and only
when it is told to the client does the view change (RFC 9051 5.2, 7.5.1).
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from moxtw.imap import seqset
from moxtw.imap.directory import Names
from moxtw.imap.errors import Bad
from moxtw.imap.seqset import Ranges

if TYPE_CHECKING:
    from moxtw.imap.contexts import Context
    from moxtw.imap.notify import Watch
    from moxtw.store.changes import SessionHandle
    from moxtw.store.model import Mailbox


# So many own changes are remembered for a view that others' changes are not told of.
_MAX_OWN: Final = 10_000


class View:
    """The selected mailbox as the client knows it.

    `uids` is ascending and never changed in place. `uidnext`: the client knows of messages
    below it. `modseq`: all changes up to it have been told. `own` are the modseqs of changes
    that this session made and has told already.
    """

    __slots__ = (
        "contexts",
        "held",
        "keywords",
        "mailbox_id",
        "modseq",
        "name",
        "own",
        "readonly",
        "saved",
        "uidnext",
        "uidonly",
        "uids",
        "uidvalidity",
    )

    def __init__(
        self, mailbox: Mailbox, uids: array[int], *, modseq: int, readonly: bool
    ) -> None:
        self.mailbox_id = mailbox.id
        self.name = mailbox.name
        self.uidvalidity = mailbox.uidvalidity
        self.uidnext = mailbox.uidnext
        self.keywords = mailbox.keywords
        self.uids = uids
        self.modseq = modseq
        self.readonly = readonly
        # The client uses no sequence numbers (RFC 9586).
        self.uidonly = False
        self.own: set[int] = set()
        # Messages that have gone, of which the client is told later (RFC 5465 6.1.2).
        self.held: list[int] = []
        # Result of the last SEARCH with SAVE (RFC 5182): UIDs.
        self.saved: Ranges = []
        # Searches that are kept up to date (RFC 5267), by tag.
        self.contexts: dict[bytes, Context] = {}

    def number(self, uid: int) -> int:
        """The sequence number of a UID, 0 if it is not in view."""
        uids = self.uids
        index = bisect_left(uids, uid)
        return index + 1 if index < len(uids) and uids[index] == uid else 0

    def numbers(self, uids: Sequence[int]) -> Sequence[int]:
        """The sequence numbers of ascending UIDs, 0 for those that are not in view."""
        own = self.uids
        if not uids:
            return []
        if len(uids) < 100:
            return [self.number(uid) for uid in uids]
        first, last = self.number(uids[0]), self.number(uids[-1])
        if first and last - first == len(uids) - 1 and own[first - 1 : last].tolist() == uids:
            return range(first, last + 1)
        places = dict(zip(own, range(1, len(own) + 1), strict=True))
        return [places.get(uid, 0) for uid in uids]

    def slices(self, numbers: MessageSet, search: bool = False) -> list[tuple[int, int]]:
        """Where the messages of a set lie in `uids`, as pairs (start, stop) without empty ones.

        Raises Bad for sequence numbers that no message has. In a `search` they find nothing:
        clients search for 1:* without knowing what there is.
        """
        if numbers.ranges is None:
            return seqset.slices(self.uids, self.saved)
        if numbers.uid:
            last = self.uids[-1] if self.uids else 0
            return seqset.slices(self.uids, seqset.resolve(numbers.ranges, last))
        if self.uidonly:
            raise uid_required()
        given = numbers.ranges
        if search:
            given = seqset.existing(given, len(self.uids))
        ranges = seqset.resolve_numbers(given, len(self.uids))
        return [(start - 1, end) for start, end in ranges]

    def uid_ranges(self, slices: Sequence[tuple[int, int]]) -> Ranges:
        """UID ranges that hold the messages of `slices` and no other known one."""
        return [(self.uids[start], self.uids[stop - 1]) for start, stop in slices]


@dataclass(frozen=True, slots=True)
class MessageSet:
    """A set of messages as a command names them; `ranges` None stands for ``$`` (RFC 5182)."""

    ranges: Ranges | None
    uid: bool


def uid_required() -> Bad:
    """Refuses sequence numbers, after ENABLE UIDONLY (RFC 9586 3.3)."""
    return Bad("sequence numbers are not to be used after ENABLE UIDONLY", b"UIDREQUIRED")


class Session:
    """Who has logged in, what the client has enabled, which mailbox is selected."""

    __slots__ = (
        "account_id",
        "account_name",
        "condstore",
        "directory",
        "enabled",
        "handle",
        "latest",
        "login_address",
        "own",
        "polled",
        "qresync",
        "rev2",
        "uidonly",
        "unsubscribe",
        "utf8",
        "view",
        "watch",
    )

    def __init__(self, account_id: int, account_name: str, login_address: str) -> None:
        self.account_id = account_id
        self.account_name = account_name
        self.login_address = login_address
        self.enabled: set[str] = set()
        # Shortcuts for what is asked often.
        self.utf8 = False
        self.rev2 = False
        self.condstore = False
        self.qresync = False
        self.uidonly = False
        self.view: View | None = None
        # What the client wants to be told of at any time (RFC 5465), None for what is usual.
        self.watch: Watch | None = None
        # Modseq of the account of which the bus told, and up to which the store was asked.
        self.latest = 0
        self.polled = 0
        # Modseqs above that which changes by this session took.
        self.own: set[int] = set()
        # Names of all mailboxes by id, as the client may know them.
        self.directory: Names = {}
        self.handle: SessionHandle | None = None
        self.unsubscribe: Callable[[], None] | None = None

    def enable(self, name: str) -> None:
        """Enable an extension by its upper-case name."""
        self.enabled.add(name)
        self.rev2 = "IMAP4REV2" in self.enabled
        self.utf8 = self.rev2 or "UTF8=ACCEPT" in self.enabled
        self.condstore = "CONDSTORE" in self.enabled
        self.qresync = "QRESYNC" in self.enabled
        self.uidonly = "UIDONLY" in self.enabled
        if self.view is not None:
            self.view.uidonly = self.uidonly

    @property
    def annotated(self) -> bool:
        """Whether changes of annotations are told (RFC 5464 4.4)."""
        return "METADATA" in self.enabled or "METADATA-SERVER" in self.enabled

    @property
    def vanished(self) -> bool:
        """Whether removals are told as VANISHED (RFC 7162 3.2.10.1, RFC 9586 3.4)."""
        return self.qresync or self.uidonly

    def wrote(self, modseq: int, mailbox_id: int = 0, added_to: int = 0) -> None:
        """A change by this session took `modseq`.

        `mailbox_id` is the mailbox whose messages changed, in a way that the client has been
        told of by the command. `added_to` is one that got messages: if it is selected, the
        client is still to be told of those.

        If the modseq is the very next after what is known, nothing else has happened
        meanwhile, and the store need not be asked.
        """
        view = self.view
        selected = 0 if view is None else view.mailbox_id
        known = mailbox_id != selected or view is None or not view.contexts
        added = added_to and added_to == selected
        if modseq == self.polled + 1 and known and not added and not self.withheld:
            self.polled = modseq
            if view is not None and mailbox_id == selected and view.modseq < modseq:
                view.modseq = modseq
            if view is not None and self.handle is not None:
                self.handle.seen(modseq)
        elif modseq > self.polled:
            self.made(modseq)
            if view is not None:
                view.own.add(modseq)
                if len(view.own) > _MAX_OWN:
                    # Of the older ones the client is told once more, which does no harm.
                    view.own = set(sorted(view.own)[_MAX_OWN // 2 :])

    def made(self, modseq: int) -> None:
        """A change by this session took `modseq`, and the selected mailbox may tell of it."""
        self.latest = max(self.latest, modseq)
        self.own.add(modseq)

    @property
    def silent(self) -> bool:
        """Whether messages of the selected mailbox are not told of at all (RFC 5465 3.1)."""
        return self.watch is not None and not self.watch.messages

    @property
    def withheld(self) -> bool:
        """Whether changes of the selected mailbox are not told, or not all yet."""
        return self.view is not None and (self.silent or bool(self.view.held))

    def close(self) -> None:
        """The connection has ended."""
        if self.handle is not None:
            self.handle.close()
            self.handle = None
        if self.unsubscribe is not None:
            self.unsubscribe()
            self.unsubscribe = None
