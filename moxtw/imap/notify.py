"""What a client wants to be told of all the time, and of which mailboxes (RFC 5465).

After NOTIFY, changes are told also while no command runs, and only those that were asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from moxtw.imap.mailboxfilter import SELECTED_DELAYED, MailboxFilter, Predicate, resolve

if TYPE_CHECKING:
    from moxtw.config.accounts import Account
    from moxtw.imap.fetchitems import Items

MESSAGE_NEW: Final = "MessageNew"
MESSAGE_EXPUNGE: Final = "MessageExpunge"
FLAG_CHANGE: Final = "FlagChange"
MAILBOX_NAME: Final = "MailboxName"
SUBSCRIPTION_CHANGE: Final = "SubscriptionChange"
MAILBOX_METADATA: Final = "MailboxMetadataChange"
SERVER_METADATA: Final = "ServerMetadataChange"

MESSAGE_EVENTS: Final = frozenset((MESSAGE_NEW, MESSAGE_EXPUNGE, FLAG_CHANGE))
EVENTS: Final = (
    MESSAGE_NEW,
    MESSAGE_EXPUNGE,
    FLAG_CHANGE,
    MAILBOX_NAME,
    SUBSCRIPTION_CHANGE,
    MAILBOX_METADATA,
    SERVER_METADATA,
)

# Removals that are held back from a client until one of its commands can tell them.
MAX_HELD: Final = 1000


@dataclass(frozen=True, slots=True)
class Group:
    """Events that are wanted of some mailboxes, none of them for "NONE".

    items: what is told of new messages in the selected mailbox; None for what is usual.
    """

    where: MailboxFilter
    events: frozenset[str]
    items: Items | None = None


class Watch:
    """What a session watches: groups in order of the command; none for NOTIFY NONE."""

    __slots__ = ("events", "groups", "selected", "subscribed")

    def __init__(self, groups: Sequence[Group] = ()) -> None:
        self.groups = [group for group in groups if not group.where.selected]
        self.selected: Group | None = next(
            (group for group in groups if group.where.selected), None
        )
        self.events = frozenset(event for group in groups for event in group.events)
        # Names that were subscribed to when the client was told last.
        self.subscribed: frozenset[str] = frozenset()

    @property
    def delayed(self) -> bool:
        """Whether removals wait for a command that can tell them."""
        return self.selected is not None and self.selected.where.kind == SELECTED_DELAYED

    @property
    def messages(self) -> bool:
        """Whether messages that come and go in the selected mailbox are told."""
        return self.selected is not None and MESSAGE_NEW in self.selected.events

    @property
    def flags(self) -> bool:
        """Whether changes of flags in the selected mailbox are told."""
        return self.selected is not None and FLAG_CHANGE in self.selected.events

    @property
    def needs_subscriptions(self) -> bool:
        """Whether subscriptions have to be looked up."""
        return SUBSCRIPTION_CHANGE in self.events or any(
            group.where.kind == "subscribed" for group in self.groups
        )

    @property
    def needs_entries(self) -> bool:
        """Whether changes of annotations have to be looked up."""
        return MAILBOX_METADATA in self.events or SERVER_METADATA in self.events

    def wanting(
        self, *, selected: int, subscribed: Collection[str], account: Account | None
    ) -> Callable[[str, int, str], bool]:
        """A predicate of event, mailbox id and name: whether that is to be told now.

        For events of messages the selected mailbox is not asked about here.
        """
        resolved: list[tuple[Predicate, frozenset[str]]] = [
            (
                resolve(group.where, selected=selected, subscribed=subscribed, account=account),
                group.events,
            )
            for group in self.groups
        ]

        def wants(event: str, mailbox_id: int, name: str) -> bool:
            if event == SERVER_METADATA:
                # RFC 5465 5.7: not about a mailbox.
                return event in self.events
            if event in MESSAGE_EVENTS and mailbox_id == selected:
                return False
            for fits, events in resolved:
                if fits(mailbox_id, name):
                    if event in events:
                        return True
                    if not events:
                        return False
            return False

        return wants
