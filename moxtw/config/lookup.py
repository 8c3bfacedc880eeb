"""Whose address is this: the rules for recipients, logins and authors.

All functions take a configuration view: anything with `static` and `dynamic`, such as
`moxtw.config.live.LiveConfig`. They only look into dicts, so they can be asked for every
recipient.
"""

from __future__ import annotations

from typing import Protocol

from moxtw.config.dynamic import Alias, Dynamic
from moxtw.config.index import AccountDestination, AliasMatch, DomainIndex, Index
from moxtw.config.static import Static
from moxtw.mail.address import Address, AddressError, parse_address
from moxtw.mail.domain import Domain


class ConfigView(Protocol):
    """Something that has a configuration."""

    @property
    def static(self) -> Static:
        """mox.conf."""

    @property
    def dynamic(self) -> Dynamic:
        """domains.conf."""


class LookupFailed(Exception):
    """An address that leads nowhere."""


class DomainNotFound(LookupFailed):
    """The domain is not one of ours, or has no addresses here."""


class DomainDisabled(LookupFailed):
    """The domain is ours, but disabled."""


class AddressNotFound(LookupFailed):
    """The domain is ours, the address does not exist."""


def lookup_address(
    cfg: ConfigView,
    localpart: str,
    domain: Domain | None,
    *,
    allow_postmaster: bool,
    allow_alias: bool,
    allow_disabled: bool,
) -> AccountDestination | AliasMatch:
    """Find who gets mail for a decoded localpart at a domain.

    A domain of None stands for ``<postmaster>`` without domain (RFC 5321 4.1.1.3).

    allow_postmaster: also find the postmaster, of this host and of every hosted domain, and
        the address for TLS reports about the host.
    allow_alias: also find aliases.
    allow_disabled: also find addresses of disabled domains, as for logins.

    Raises DomainNotFound, DomainDisabled, AddressNotFound.
    """
    index: Index = cfg.dynamic.index
    name = "" if domain is None else domain.name
    if allow_postmaster:
        if (not name or name in index.postmaster_hosts) and localpart.lower() == "postmaster":
            return index.postmaster
        host = index.host_tlsrpt
        if host is not None and name == host.domain.name and localpart == host.localpart:
            return host
    entry = index.domains.get(name)
    if entry is None or entry.reports_only:
        raise DomainNotFound(f"domain {name} is not hosted here")
    if entry.disabled and not allow_disabled:
        raise DomainDisabled(f"domain {name} is disabled")
    found = entry.addresses.get(entry.canonical(localpart))
    if found is not None and (allow_alias or isinstance(found, AccountDestination)):
        return found
    if found is None and entry.catchall is not None:
        return entry.catchall
    if allow_postmaster and localpart.lower() == "postmaster":
        return index.postmaster
    raise AddressNotFound(f"no address {localpart[:100]!r} in domain {name}")


def account_for_login(cfg: ConfigView, address: str) -> AccountDestination | None:
    """The address of an account that a user name stands for, or None.

    Only addresses of accounts count, not aliases, not the postmaster. They may carry a suffix
    behind a catchall separator, and be in a disabled domain.
    """
    try:
        parsed = parse_address(address)
        found = lookup_address(
            cfg,
            parsed.localpart,
            parsed.domain,
            allow_postmaster=False,
            allow_alias=False,
            allow_disabled=True,
        )
    except (AddressError, LookupFailed):
        return None
    return found if isinstance(found, AccountDestination) else None


def may_send_as(cfg: ConfigView, account: str, address: Address) -> bool:
    """Whether an account may name `address` as author or envelope sender.

    It may for its own addresses, and for aliases with AllowMsgFrom that it is a member of.
    Raises DomainDisabled.
    """
    try:
        found = lookup_address(
            cfg,
            address.localpart,
            address.domain,
            allow_postmaster=False,
            allow_alias=True,
            allow_disabled=False,
        )
    except (DomainNotFound, AddressNotFound):
        return False
    if isinstance(found, AccountDestination):
        return found.account == account
    alias = found.alias
    return alias.allow_msg_from and any(
        member.account_name == account for member in alias.parsed_addresses
    )


def domain_index(cfg: ConfigView, domain: Domain) -> DomainIndex | None:
    """A hosted domain, disabled or not, or None."""
    entry: DomainIndex | None = cfg.dynamic.index.domains.get(domain.name)
    return entry


def account_destinations(cfg: ConfigView, account: str) -> list[AccountDestination]:
    """The addresses of an account, in the order of the file; catchalls included."""
    found: list[AccountDestination] = cfg.dynamic.index.account_destinations.get(account, [])
    return found


def account_aliases(cfg: ConfigView, account: str) -> list[Alias]:
    """The aliases that an account is a member of."""
    config = cfg.dynamic.accounts.get(account)
    if config is None:
        return []
    seen: list[Alias] = []
    for membership in config.aliases:
        if all(membership.alias is not alias for alias in seen):
            seen.append(membership.alias)
    return seen
