"""Names of an account's mailboxes, shared by its sessions.

Each session knows the names by mailbox id, to tell new names and removals with. These mappings
are never changed in place: a thousand sessions that know the same cost no more than one.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Final

Names = Mapping[int, str]

# Accounts whose mapping is kept; sessions keep theirs themselves.
_MAX_ACCOUNTS: Final = 1000


class Directories:
    """The mapping that was made last, for each account."""

    def __init__(self) -> None:
        self._kept: OrderedDict[int, Names] = OrderedDict()

    def share(self, account_id: int, names: Names) -> Names:
        """The same mapping, as the one that others have already, if there is one."""
        kept = self._kept.pop(account_id, None)
        if kept != names:
            kept = names
        self._kept[account_id] = kept
        if len(self._kept) > _MAX_ACCOUNTS:
            self._kept.popitem(last=False)
        return kept

    def changed(
        self,
        account_id: int,
        names: Names,
        new: Iterable[tuple[int, str]] = (),
        removed: Iterable[int] = (),
    ) -> Names:
        """The mapping with `new` names in it, and without `removed` ids."""
        result = {**names, **dict(new)}
        for mailbox_id in removed:
            result.pop(mailbox_id, None)
        return self.share(account_id, result)
