"""Filters that name mailboxes: those of NOTIFY (RFC 5465 6) and ESEARCH (RFC 7377 2.2).

A filter is parsed once, and resolved against what holds now: which mailbox is selected, what
the account subscribes to, where its configuration has mail delivered. What comes of that is a
predicate on id and name of a mailbox, whose cost does not grow with the names in the filter.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from moxtw.imap.errors import Bad, No
from moxtw.imap.parser import Parser
from moxtw.store import mailboxes
from moxtw.store.errors import InvalidMailboxName

if TYPE_CHECKING:
    from moxtw.config.accounts import Account
    from moxtw.store.model import Mailbox

SELECTED: Final = "selected"
SELECTED_DELAYED: Final = "selected-delayed"
INBOXES: Final = "inboxes"
PERSONAL: Final = "personal"
SUBSCRIBED: Final = "subscribed"
SUBTREE: Final = "subtree"
SUBTREE_ONE: Final = "subtree-one"
MAILBOXES: Final = "mailboxes"

_PLAIN: Final = {SELECTED, INBOXES, PERSONAL, SUBSCRIBED}
_NAMED: Final = {SUBTREE, SUBTREE_ONE, MAILBOXES}

# Whether the mailbox of that id and name is meant.
Predicate = Callable[[int, str], bool]


@dataclass(frozen=True, slots=True)
class MailboxFilter:
    """A filter: its kind as one of the constants above, and the names that some kinds have."""

    kind: str
    names: tuple[str, ...] = ()

    @property
    def selected(self) -> bool:
        """Whether it is about the selected mailbox."""
        return self.kind in (SELECTED, SELECTED_DELAYED)


def parse_filter(p: Parser, *, delayed: bool) -> MailboxFilter:
    """One filter (RFC 5465 8, filter-mailboxes; RFC 7377 adds subtree-one).

    `delayed` allows selected-delayed, which is for NOTIFY only. Raises No with CANNOT for
    names that no mailbox can have.
    """
    kind = p.word().lower().decode("ascii")
    if kind in _PLAIN or (delayed and kind == SELECTED_DELAYED):
        return MailboxFilter(kind)
    if kind not in _NAMED:
        raise Bad("unknown mailbox filter")
    p.space()
    names = p.parenthesised(p.mailbox) if p.peek(b"(") else [p.mailbox()]
    try:
        valid = tuple(dict.fromkeys(mailboxes.valid_name(name) for name in names))
    except InvalidMailboxName as exc:
        raise No(str(exc), b"CANNOT") from None
    return MailboxFilter(kind, valid)


def resolve(
    wanted: MailboxFilter,
    *,
    selected: int,
    subscribed: Collection[str],
    account: Account | None,
) -> Predicate:
    """What a filter means now.

    `selected` is the id of the selected mailbox, 0 for none; `subscribed` are the names that
    the account subscribes to; `account` is its configuration, None if it has gone.
    """
    names = frozenset(wanted.names)
    match wanted.kind:
        case "selected" | "selected-delayed":
            return lambda mailbox_id, name: mailbox_id == selected
        case "inboxes":
            inboxes = delivered_to(account)
            return lambda mailbox_id, name: name in inboxes or name.startswith("Inbox/")
        case "personal":
            # There are no others: all mailboxes belong to the account (RFC 2342).
            return lambda mailbox_id, name: True
        case "subscribed":
            return lambda mailbox_id, name: name in subscribed
        case "subtree":
            return lambda mailbox_id, name: _below(name, names)
        case "subtree-one":
            return lambda mailbox_id, name: name in names or name.rpartition("/")[0] in names
        case "mailboxes":
            return lambda mailbox_id, name: name in names
    raise ValueError(wanted.kind)


def meant(
    filters: Iterable[MailboxFilter],
    listing: Iterable[Mailbox],
    *,
    selected: int,
    subscribed: Collection[str],
    account: Account | None,
) -> list[Mailbox]:
    """The mailboxes of `listing` that at least one filter means, in the order of the listing."""
    predicates = [
        resolve(each, selected=selected, subscribed=subscribed, account=account)
        for each in filters
    ]
    return [
        mailbox
        for mailbox in listing
        if any(fits(mailbox.id, mailbox.name) for fits in predicates)
    ]


def delivered_to(account: Account | None) -> frozenset[str]:
    """Inbox, and mailboxes that the configuration has mail delivered to.

    Those of rulesets for mailing lists are none of them (RFC 5465 6.3).
    """
    found = {"Inbox"}
    if account is not None:
        for destination in account.destinations.values():
            found.add(destination.mailbox or "Inbox")
            found.update(
                ruleset.mailbox
                for ruleset in destination.rulesets
                if not ruleset.list_allow_domain
            )
    return frozenset(found)


def _below(name: str, tops: frozenset[str]) -> bool:
    """Whether a name is one of `tops`, or below one."""
    while name:
        if name in tops:
            return True
        name = name.rpartition("/")[0]
    return False
