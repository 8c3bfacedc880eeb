"""What the store asks of the configuration: login names, junk flags, first mailboxes."""

from __future__ import annotations

from typing import Final

from moxtw.config.dynamic import AutomaticJunkFlags
from moxtw.config.lookup import ConfigView, account_for_login
from moxtw.config.static import Static
from moxtw.store.auth import LoginAccount
from moxtw.store.model import Flag, SpecialUse


class ConfigDirectory:
    """Login names as the configuration has them (`moxtw.store.auth.Directory`)."""

    def __init__(self, config: ConfigView) -> None:
        self._config = config

    def login_account(self, username: str) -> LoginAccount | None:
        """The account that an address logs in to."""
        found = account_for_login(self._config, username)
        if found is None:
            return None
        account = self._config.dynamic.accounts[found.account]
        return LoginAccount(found.account, found.canonical, account.login_disabled)


_JUNK: Final = int(Flag.JUNK)
_NOTJUNK: Final = int(Flag.NOTJUNK)
_JUNK_USE: Final = int(SpecialUse.JUNK)


class JunkFlags:
    """Flags of messages that come into a mailbox, by its use and its name.

    Called for each message that is added, so what the expressions say of a mailbox's name is
    remembered until the account's settings change.
    """

    def __init__(self, config: ConfigView) -> None:
        self._config = config
        self._kinds: dict[tuple[str, str], tuple[AutomaticJunkFlags, int]] = {}

    def __call__(self, account: str, mailbox: str, special_use: int, flags: int) -> int:
        """The flags, adapted."""
        if special_use & _JUNK_USE:
            return (flags | _JUNK) & ~_NOTJUNK
        settings = self._config.dynamic.accounts.get(account)
        if settings is None or not settings.automatic_junk_flags.enabled:
            return flags
        rules = settings.automatic_junk_flags
        known = self._kinds.get((account, mailbox))
        if known is None or known[0] is not rules:
            if len(self._kinds) > 10_000:
                self._kinds.clear()
            known = self._kinds[account, mailbox] = (rules, _kind(rules, mailbox.lower()))
        kind = known[1]
        if kind == 0:
            return (flags | _JUNK) & ~_NOTJUNK
        if kind == 1:
            return flags & ~(_JUNK | _NOTJUNK)
        if kind == 2:
            return (flags | _NOTJUNK) & ~_JUNK
        return flags

    def introbox(self, account: str) -> str:
        """The account's mailbox for messages of strangers, empty if there is none."""
        settings = self._config.dynamic.accounts.get(account)
        return "" if settings is None else settings.introbox


def _kind(rules: AutomaticJunkFlags, name: str) -> int:
    """What a mailbox's lower-case name says: 0 junk, 1 neutral, 2 not junk, -1 nothing."""
    expressions = (rules.junk, rules.neutral, rules.not_junk)
    for index, expression in enumerate(expressions):
        if expression is not None and expression.search(name):
            return index
    # The one class without an expression takes all that no other one takes.
    return expressions.index(None) if expressions.count(None) == 1 else -1


def first_mailboxes(static: Static) -> tuple[dict[str, int] | None, tuple[str, ...]]:
    """Mailboxes of new accounts: special uses by name (None: the usual ones), and others."""
    configured = static.initial_mailboxes
    uses = configured.special_use
    special = {
        name: int(use)
        for name, use in (
            (uses.sent, SpecialUse.SENT),
            (uses.archive, SpecialUse.ARCHIVE),
            (uses.trash, SpecialUse.TRASH),
            (uses.draft, SpecialUse.DRAFT),
            (uses.junk, SpecialUse.JUNK),
        )
        if name
    }
    if special or configured.regular:
        return special, configured.regular
    if static.default_mailboxes:
        known = {
            "Sent": SpecialUse.SENT,
            "Archive": SpecialUse.ARCHIVE,
            "Trash": SpecialUse.TRASH,
            "Drafts": SpecialUse.DRAFT,
            "Junk": SpecialUse.JUNK,
        }
        named = {name: int(known[name]) for name in static.default_mailboxes if name in known}
        return named, tuple(name for name in static.default_mailboxes if name not in known)
    return None, ()
