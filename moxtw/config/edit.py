"""Changes to domains.conf that admins and users make, as functions from old to new.

Each takes the configuration in use (with its index) and returns a new one, for
`LiveConfig.change`, which checks the result as a whole:

    await live.change(lambda dynamic: edit.address_add(dynamic, "a@example.org", "me"))

What is checked here has a clearer answer than the check of the whole would give.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from moxtw.config.check import account_name_problem
from moxtw.config.defaults import default_account
from moxtw.config.duration import Duration
from moxtw.config.dynamic import (
    DKIM,
    DMARC,
    MTASTS,
    TLSRPT,
    Account,
    Alias,
    ConfigDomain,
    Destination,
    Dynamic,
    Route,
    Selector,
    WebHandler,
)
from moxtw.config.index import AccountDestination, AliasMatch, DomainIndex, Index
from moxtw.mail.address import (
    Address,
    AddressError,
    check_localpart,
    format_localpart,
    parse_address,
    parse_localpart,
)
from moxtw.mail.domain import Domain, DomainError, parse_domain


class EditError(ValueError):
    """A change that cannot be made; the message is for who asked for it."""


class NotFound(EditError):
    """What is to be changed does not exist."""


# Finding things


def _index(dynamic: Dynamic) -> Index:
    index: Index | None = dynamic.index
    if index is None:
        raise TypeError("configuration without index: edits start from one that is in use")
    return index


def _domain_name(name: str) -> Domain:
    try:
        return parse_domain(name)
    except DomainError as exc:
        raise EditError(f"bad domain {name[:100]!r}: {exc}") from exc


def find_domain(dynamic: Dynamic, name: str) -> ConfigDomain:
    """A configured domain, by its name in any form. Raises EditError, NotFound."""
    domain = dynamic.domains.get(_domain_name(name).name)
    if domain is None:
        raise NotFound(f"no domain {name[:100]} is configured")
    return domain


def find_account(dynamic: Dynamic, name: str) -> Account:
    """A configured account. Raises NotFound."""
    account = dynamic.accounts.get(name)
    if account is None:
        raise NotFound(f"no account {name[:100]!r} is configured")
    return account


def _address(text: str) -> Address:
    try:
        return parse_address(text)
    except AddressError as exc:
        raise EditError(f"bad address {text[:100]!r}: {exc}") from exc


def _hosted(dynamic: Dynamic, domain: Domain) -> DomainIndex:
    entry = _index(dynamic).domains.get(domain.name)
    if entry is None:
        raise NotFound(f"no domain {domain} is configured")
    return entry


def _new_localpart(entry: DomainIndex, localpart: str) -> str:
    """The canonical form of the localpart of a new address. Raises EditError."""
    canonical = entry.canonical(localpart)
    lower = localpart if entry.case_sensitive else localpart.lower()
    for separator in entry.separators:
        if separator and separator in lower and canonical not in entry.reserved:
            raise EditError(f"the localpart must not hold the catchall separator {separator!r}")
    return canonical


def _check_free(dynamic: Dynamic, entry: DomainIndex, canonical: str) -> None:
    found = entry.addresses.get(canonical)
    if isinstance(found, AliasMatch):
        raise EditError(f"{found.canonical} is an alias already")
    if found is None:
        return
    # An address that only gets reports may become an ordinary one of the same account: that is
    # for the check of the whole.
    for known in _index(dynamic).account_destinations.get(found.account, ()):
        if known.canonical == found.canonical:
            raise EditError(f"{found.canonical} is an address of account {found.account!r} already")


def _destination_key(dynamic: Dynamic, found: AccountDestination) -> str:
    """The name under which an account has an address."""
    account = dynamic.accounts[found.account]
    for key in account.destinations:
        if key.startswith("@"):
            if found.catchall and _domain_name(key[1:]) == found.domain:
                return key
        elif not found.catchall:
            address = _address(key) if "@" in key else Address(_localpart(key), account.dns_domain)
            if (
                address.domain == found.domain
                and _hosted(dynamic, found.domain).canonical(address.localpart) == found.localpart
            ):
                return key
    raise NotFound(f"{found.canonical} is not among the addresses of account {found.account!r}")


def _localpart(text: str) -> str:
    try:
        return parse_localpart(text)
    except AddressError as exc:
        raise EditError(f"bad localpart {text[:100]!r}: {exc}") from exc


def _with_domain(dynamic: Dynamic, name: str, domain: ConfigDomain) -> Dynamic:
    return replace(dynamic, domains={**dynamic.domains, _domain_name(name).name: domain})


def _with_account(dynamic: Dynamic, name: str, account: Account) -> Dynamic:
    return replace(dynamic, accounts={**dynamic.accounts, name: account})


# Domains


def domain_add(
    dynamic: Dynamic,
    name: str,
    domain: ConfigDomain,
    *,
    account: str,
    localpart: str = "",
) -> Dynamic:
    """Add a domain, made for example by `defaults.default_domain`.

    account: who gets the reports; a new account is made if `localpart`, of its first address in
        the new domain, is given.
    """
    dns_domain = _domain_name(name)
    if dns_domain.name in dynamic.domains:
        raise EditError(f"domain {dns_domain} is configured already")
    if localpart:
        if account in dynamic.accounts:
            raise EditError(
                f"account {account!r} exists already: a localpart is only for a new account"
            )
        _check_account_name(account)
        address = Address(_localpart(localpart), dns_domain)
        dynamic = _with_account(dynamic, account, default_account(address))
    elif account not in dynamic.accounts:
        raise EditError(f"no account {account[:100]!r} is configured: a new one needs a localpart")
    return replace(dynamic, domains={**dynamic.domains, dns_domain.name: domain})


def domain_remove(dynamic: Dynamic, name: str) -> Dynamic:
    """Remove a domain with its aliases. Refused while accounts have addresses in it."""
    find_domain(dynamic, name)
    dns_domain = _domain_name(name)
    used = [
        found.canonical
        for destinations in _index(dynamic).account_destinations.values()
        for found in destinations
        if found.domain == dns_domain
    ]
    if used:
        more = f" and {len(used) - 3} more" if len(used) > 3 else ""
        raise EditError(f"domain {dns_domain} has addresses: {', '.join(used[:3])}{more}")
    for other, config in dynamic.domains.items():
        for reports in (config.dmarc, config.tlsrpt):
            if (
                reports is not None
                and other != dns_domain.name
                and reports.dns_domain == dns_domain
            ):
                raise EditError(f"domain {other} has its reports sent to {dns_domain}")
    domains = {key: value for key, value in dynamic.domains.items() if key != dns_domain.name}
    accounts = dict(dynamic.accounts)
    for key, account in accounts.items():
        if account.dns_domain == dns_domain:
            accounts[key] = replace(account, domain=_other_domain(dynamic, key))
    return replace(dynamic, domains=domains, accounts=accounts)


def _other_domain(dynamic: Dynamic, account: str) -> str:
    """A default domain for an account that lost its own: that of an address it has."""
    for found in _index(dynamic).account_destinations.get(account, ()):
        return found.domain.name
    return ""


def domain_save(dynamic: Dynamic, name: str, **changes: Any) -> Dynamic:
    """Change fields of a domain, by their attribute names."""
    return _with_domain(dynamic, name, replace(find_domain(dynamic, name), **changes))


def domain_localparts(
    dynamic: Dynamic, name: str, separators: Sequence[str], case_sensitive: bool
) -> Dynamic:
    """Change how localparts of a domain are compared."""
    return domain_save(
        dynamic,
        name,
        localpart_catchall_separator=separators[0] if len(separators) == 1 else "",
        localpart_catchall_separators=tuple(separators) if len(separators) > 1 else (),
        localpart_case_sensitive=case_sensitive,
    )


def domain_dmarc_address(
    dynamic: Dynamic, name: str, localpart: str, domain: str, account: str, mailbox: str
) -> Dynamic:
    """Change where DMARC reports about a domain go; an empty localpart ends that."""
    value = None
    if localpart:
        value = DMARC(localpart=localpart, domain=domain, account=account, mailbox=mailbox)
    return domain_save(dynamic, name, dmarc=value)


def domain_tlsrpt_address(
    dynamic: Dynamic, name: str, localpart: str, domain: str, account: str, mailbox: str
) -> Dynamic:
    """Change where TLS reports about a domain go; an empty localpart ends that."""
    value = None
    if localpart:
        value = TLSRPT(localpart=localpart, domain=domain, account=account, mailbox=mailbox)
    return domain_save(dynamic, name, tlsrpt=value)


def domain_mtasts(
    dynamic: Dynamic, name: str, policy_id: str, mode: str, max_age: int, mx: Iterable[str]
) -> Dynamic:
    """Change the MTA-STS policy of a domain; an empty id removes it. `max_age` in ns."""
    value = None
    if policy_id:
        value = MTASTS(policy_id=policy_id, mode=mode, max_age=Duration(max_age), mx=tuple(mx))
    return domain_save(dynamic, name, mtasts=value)


def domain_dkim_add(dynamic: Dynamic, name: str, selector: str, value: Selector) -> Dynamic:
    """Add a DKIM selector, not used for signing yet."""
    config = find_domain(dynamic, name)
    if selector in config.dkim.selectors:
        raise EditError(f"selector {selector!r} exists already")
    dkim = replace(config.dkim, selectors={**config.dkim.selectors, selector: value})
    return _with_domain(dynamic, name, replace(config, dkim=dkim))


def domain_dkim_remove(dynamic: Dynamic, name: str, selector: str) -> Dynamic:
    """Remove a DKIM selector."""
    config = find_domain(dynamic, name)
    if selector not in config.dkim.selectors:
        raise NotFound(f"no selector {selector[:100]!r} is configured")
    dkim = DKIM(
        selectors={k: v for k, v in config.dkim.selectors.items() if k != selector},
        sign=tuple(name for name in config.dkim.sign if name != selector),
    )
    return _with_domain(dynamic, name, replace(config, dkim=dkim))


def domain_dkim_save(
    dynamic: Dynamic, name: str, selectors: Mapping[str, Selector], sign: Iterable[str]
) -> Dynamic:
    """Change how selectors sign, and which do. Selectors and their keys stay the same ones."""
    config = find_domain(dynamic, name)
    known = config.dkim.selectors
    if set(selectors) != set(known):
        raise EditError("selectors cannot be added or removed this way")
    changed = {}
    for key, old in known.items():
        new = selectors[key]
        if new.private_key_file != old.private_key_file:
            raise EditError(f"the private key of selector {key!r} cannot be changed")
        changed[key] = old if new == old else new
    return _with_domain(
        dynamic, name, replace(config, dkim=DKIM(selectors=changed, sign=tuple(sign)))
    )


# Accounts


def _check_account_name(name: str) -> None:
    problem = account_name_problem(name)
    if problem:
        raise EditError(f"bad account name {name[:100]!r}: {problem}")


def account_add(
    dynamic: Dynamic, name: str, address: str, account: Account | None = None
) -> Dynamic:
    """Add an account with an address; `account` replaces the default settings."""
    if name in dynamic.accounts:
        raise EditError(f"account {name!r} exists already")
    _check_account_name(name)
    parsed = _address(address)
    entry = _hosted(dynamic, parsed.domain)
    canonical = _new_localpart(entry, parsed.localpart)
    _check_free(dynamic, entry, canonical)
    made = account or default_account(Address(parsed.localpart, parsed.domain))
    return _with_account(dynamic, name, made)


def account_remove(dynamic: Dynamic, name: str) -> Dynamic:
    """Remove an account with its addresses. Refused while something needs it."""
    find_account(dynamic, name)
    for key, config in dynamic.domains.items():
        for what, reports in (("DMARC", config.dmarc), ("TLS", config.tlsrpt)):
            if reports is not None and reports.account == name:
                raise EditError(
                    f"account {name!r} gets the {what} reports about domain {key}: have them go "
                    "to another account first"
                )
    if _index(dynamic).postmaster.account == name:
        raise EditError(f"account {name!r} is that of the postmaster")
    host = _index(dynamic).host_tlsrpt
    if host is not None and host.account == name:
        raise EditError(f"account {name!r} gets the TLS reports about the hostname")
    for found in _index(dynamic).account_destinations.get(name, ()):
        if not found.catchall:
            dynamic = _drop_member(dynamic, Address(found.localpart, found.domain))
    return replace(
        dynamic, accounts={key: value for key, value in dynamic.accounts.items() if key != name}
    )


def account_save(dynamic: Dynamic, name: str, **changes: Any) -> Dynamic:
    """Change fields of an account, by their attribute names."""
    return _with_account(dynamic, name, replace(find_account(dynamic, name), **changes))


def account_settings(
    dynamic: Dynamic,
    name: str,
    *,
    max_outgoing_messages_per_day: int,
    max_first_time_recipients_per_day: int,
    quota_message_size: int,
    first_time_sender_delay: bool,
    no_custom_password: bool | None = None,
) -> Dynamic:
    """Change what an admin sets for an account; None leaves things as they are."""
    if no_custom_password is None:
        no_custom_password = find_account(dynamic, name).no_custom_password
    return account_save(
        dynamic,
        name,
        max_outgoing_messages_per_day=max_outgoing_messages_per_day,
        max_first_time_recipients_per_day=max_first_time_recipients_per_day,
        quota_message_size=quota_message_size,
        no_first_time_sender_delay=not first_time_sender_delay,
        no_custom_password=no_custom_password,
    )


def destination_save(
    dynamic: Dynamic, account: str, name: str, old: Destination, new: Destination
) -> Dynamic:
    """Change an address of an account, if it still is as in `old`."""
    config = find_account(dynamic, account)
    if name not in config.destinations:
        raise NotFound(f"{name[:100]} is not an address of this account")
    present = config.destinations[name]
    # Which is no part of what the interfaces know, and stays.
    old = replace(old, forward_to=present.forward_to)
    new = replace(new, forward_to=present.forward_to)
    if present != old:
        raise EditError("the settings of the address were changed meanwhile, load them again")
    return account_save(dynamic, account, destinations={**config.destinations, name: new})


# Addresses


def address_add(dynamic: Dynamic, address: str, account: str) -> Dynamic:
    """Give an account another address, or with ``@domain`` all that no other address takes."""
    config = find_account(dynamic, account)
    if address.startswith("@"):
        domain = _domain_name(address[1:])
        entry = _hosted(dynamic, domain)
        if entry.catchall is not None:
            raise EditError(f"account {entry.catchall.account!r} has the catchall of {domain}")
        key = f"@{domain.name}"
    else:
        parsed = _address(address)
        entry = _hosted(dynamic, parsed.domain)
        _check_free(dynamic, entry, _new_localpart(entry, parsed.localpart))
        key = parsed.pack()
    return account_save(dynamic, account, destinations={**config.destinations, key: Destination()})


def find_address(dynamic: Dynamic, address: str) -> AccountDestination:
    """The account that has an address, or with ``@domain`` the catchall. Raises NotFound."""
    found: AccountDestination | AliasMatch | None
    if address.startswith("@"):
        found = _hosted(dynamic, _domain_name(address[1:])).catchall
    else:
        parsed = _address(address)
        entry = _hosted(dynamic, parsed.domain)
        found = entry.addresses.get(entry.canonical(parsed.localpart))
    if isinstance(found, AliasMatch):
        raise NotFound(f"{found.canonical} is an alias")
    if found is None:
        raise NotFound(f"no address {address[:100]} is configured")
    return found


def address_remove(dynamic: Dynamic, address: str) -> Dynamic:
    """Take an address from its account, from aliases and from FromIDLoginAddresses."""
    found = find_address(dynamic, address)
    key = _destination_key(dynamic, found)
    config = dynamic.accounts[found.account]
    destinations = {k: v for k, v in config.destinations.items() if k != key}
    kept = tuple(
        text
        for text in config.from_id_login_addresses
        if not _leads_to(dynamic, _address(text), found)
    )
    if not found.catchall:
        dynamic = _drop_member(dynamic, Address(found.localpart, found.domain))
    return account_save(
        dynamic, found.account, destinations=destinations, from_id_login_addresses=kept
    )


def _leads_to(dynamic: Dynamic, address: Address, found: AccountDestination) -> bool:
    """Whether mail to `address` goes to the very destination `found`."""
    entry = _index(dynamic).domains.get(address.domain.name)
    if entry is None or address.domain != found.domain:
        return False
    match = entry.addresses.get(entry.canonical(address.localpart)) or entry.catchall
    return match is not None and match.canonical == found.canonical


def _drop_member(dynamic: Dynamic, address: Address) -> Dynamic:
    """Take an address out of all aliases."""
    for name, config in dynamic.domains.items():
        changed: dict[str, Alias] = {}
        for localpart, alias in config.aliases.items():
            kept = [
                text
                for text, member in zip(alias.addresses, alias.parsed_addresses, strict=True)
                if member.address != address
            ]
            if len(kept) == len(alias.addresses):
                continue
            if not kept:
                raise EditError(
                    f"{address} is the last member of alias {localpart}@{name}: remove the alias "
                    "first"
                )
            # What checking set must stay, for the next address that is dropped.
            members = [m for m in alias.parsed_addresses if m.address != address]
            changed[localpart] = _alias_with(alias, kept, members)
        if changed:
            dynamic = _with_domain(
                dynamic, name, replace(config, aliases={**config.aliases, **changed})
            )
    return dynamic


def _alias_with(alias: Alias, addresses: Iterable[str], members: Iterable[Any]) -> Alias:
    result = replace(alias, addresses=tuple(addresses))
    object.__setattr__(result, "parsed_addresses", tuple(members))
    return result


# Aliases


def split_alias(address: str) -> tuple[str, str]:
    """An alias's address as decoded localpart and domain name. Raises EditError."""
    parsed = _address(address)
    return parsed.localpart, parsed.domain.name


def _find_alias(dynamic: Dynamic, localpart: str, domain: str) -> tuple[ConfigDomain, str]:
    """The domain of an alias, and the key of the alias in it."""
    config = find_domain(dynamic, domain)
    entry = _hosted(dynamic, config.domain)
    canonical = entry.canonical(_checked(localpart))
    for key, alias in config.aliases.items():
        if alias.localpart_str == canonical:
            return config, key
    raise NotFound(f"no alias {format_localpart(localpart)}@{config.domain} is configured")


def _checked(localpart: str) -> str:
    try:
        return check_localpart(localpart)
    except AddressError as exc:
        raise EditError(f"bad localpart {localpart[:100]!r}: {exc}") from exc


def find_alias(dynamic: Dynamic, localpart: str, domain: str) -> Alias:
    """An alias, by decoded localpart and domain. Raises NotFound."""
    config, key = _find_alias(dynamic, localpart, domain)
    return config.aliases[key]


def _with_alias(
    dynamic: Dynamic, domain: str, config: ConfigDomain, key: str, alias: Alias
) -> Dynamic:
    return _with_domain(dynamic, domain, replace(config, aliases={**config.aliases, key: alias}))


def alias_add(dynamic: Dynamic, localpart: str, domain: str, alias: Alias) -> Dynamic:
    """Add an alias, by decoded localpart and domain."""
    config = find_domain(dynamic, domain)
    entry = _hosted(dynamic, config.domain)
    if not localpart:
        raise EditError("the localpart of an alias must not be empty")
    canonical = _new_localpart(entry, _checked(localpart))
    if entry.addresses.get(canonical) is not None:
        raise EditError(f"{format_localpart(canonical)}@{config.domain} exists already")
    if not alias.addresses:
        raise EditError("an alias needs at least one address")
    return _with_alias(dynamic, domain, config, format_localpart(canonical), alias)


def alias_update(
    dynamic: Dynamic,
    localpart: str,
    domain: str,
    *,
    post_public: bool | None = None,
    list_members: bool | None = None,
    allow_msg_from: bool | None = None,
) -> Dynamic:
    """Change flags of an alias; those that are None stay."""
    config, key = _find_alias(dynamic, localpart, domain)
    alias = config.aliases[key]
    alias = replace(
        alias,
        post_public=alias.post_public if post_public is None else post_public,
        list_members=alias.list_members if list_members is None else list_members,
        allow_msg_from=alias.allow_msg_from if allow_msg_from is None else allow_msg_from,
    )
    return _with_alias(dynamic, domain, config, key, alias)


def alias_remove(dynamic: Dynamic, localpart: str, domain: str) -> Dynamic:
    """Remove an alias."""
    config, key = _find_alias(dynamic, localpart, domain)
    aliases = {k: v for k, v in config.aliases.items() if k != key}
    return _with_domain(dynamic, domain, replace(config, aliases=aliases))


def alias_addresses_add(
    dynamic: Dynamic, localpart: str, domain: str, addresses: Iterable[str]
) -> Dynamic:
    """Add members to an alias."""
    config, key = _find_alias(dynamic, localpart, domain)
    alias = config.aliases[key]
    added = tuple(_address(text).pack() for text in addresses)
    if not added:
        raise EditError("no addresses given")
    return _with_alias(
        dynamic, domain, config, key, replace(alias, addresses=alias.addresses + added)
    )


def alias_addresses_remove(
    dynamic: Dynamic, localpart: str, domain: str, addresses: Iterable[str]
) -> Dynamic:
    """Remove members from an alias."""
    config, key = _find_alias(dynamic, localpart, domain)
    alias = config.aliases[key]
    kept = list(zip(alias.addresses, alias.parsed_addresses, strict=True))
    for text in addresses:
        parsed = _address(text)
        entry = _hosted(dynamic, parsed.domain)
        wanted = Address(entry.canonical(parsed.localpart), parsed.domain)
        rest = [pair for pair in kept if pair[1].address != wanted]
        if len(rest) == len(kept):
            raise NotFound(f"{parsed} is not a member of the alias")
        kept = rest
    if not kept:
        raise EditError("an alias needs at least one address: remove the alias instead")
    return _with_alias(
        dynamic, domain, config, key, replace(alias, addresses=tuple(text for text, _ in kept))
    )


# Global settings


def routes_save(dynamic: Dynamic, routes: Iterable[Route]) -> Dynamic:
    """Replace the global routes."""
    return replace(dynamic, routes=tuple(routes))


def monitor_dnsbls_save(dynamic: Dynamic, text: str) -> Dynamic:
    """Replace the DNS block lists to watch; one in a line of `text`."""
    zones = []
    for line in text.splitlines():
        line = line.strip()
        if line:
            zone = _domain_name(line).name
            if zone in zones:
                raise EditError(f"duplicate zone {zone}")
            zones.append(zone)
    return replace(dynamic, monitor_dnsbls=tuple(zones))


def webserver_save(
    dynamic: Dynamic,
    old: tuple[Mapping[str, str], Sequence[WebHandler]],
    new: tuple[Mapping[str, str], Sequence[WebHandler]],
) -> Dynamic:
    """Replace redirects and handlers of the web server, if they still are as in `old`."""
    if dict(dynamic.web_domain_redirects) != dict(old[0]) or dynamic.web_handlers != tuple(old[1]):
        raise EditError("the webserver settings were changed meanwhile, load them again")
    return replace(dynamic, web_domain_redirects=dict(new[0]), web_handlers=tuple(new[1]))
