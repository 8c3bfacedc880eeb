"""What the store asks of the configuration: login names, junk flags, first mailboxes."""

from __future__ import annotations

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


class JunkFlags:
    """Flags of messages that come into a mailbox, by its use and its name."""

    def __init__(self, config: ConfigView) -> None:
        self._config = config

    def __call__(self, account: str, mailbox: str, special_use: int, flags: int) -> int:
        """The flags, adapted."""
        if special_use & SpecialUse.JUNK:
            return (flags | Flag.JUNK) & ~Flag.NOTJUNK
        settings = self._config.dynamic.accounts.get(account)
        if settings is None or not settings.automatic_junk_flags.enabled:
            return flags
        rules = settings.automatic_junk_flags
        name = mailbox.lower()
        expressions = (rules.junk, rules.neutral, rules.not_junk)
        kind = next(
            (
                index
                for index, expression in enumerate(expressions)
                if expression is not None and expression.search(name)
            ),
            -1,
        )
        if kind < 0 and expressions.count(None) == 1:
            # The one class without an expression takes all that no other one takes.
            kind = expressions.index(None)
        if kind == 0:
            return (flags | Flag.JUNK) & ~Flag.NOTJUNK
        if kind == 1:
            return flags & ~(Flag.JUNK | Flag.NOTJUNK)
        if kind == 2:
            return (flags | Flag.NOTJUNK) & ~Flag.JUNK
        return flags


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
