"""Which address belongs to whom: built once for a configuration, asked for every recipient.

Building checks all references between sections: accounts, domains, addresses, members of
aliases. `moxtw.config.lookup` has the rules for asking.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from moxtw.config.check import Report, Scope
from moxtw.config.codec import set_resolved, with_resolved
from moxtw.config.dynamic import (
    DMARC,
    TLSRPT,
    Account,
    AddressAlias,
    Alias,
    AliasAddress,
    ConfigDomain,
    Destination,
    Dynamic,
)
from moxtw.config.static import Static
from moxtw.mail.address import (
    Address,
    AddressError,
    canonical_localpart,
    parse_address,
    parse_localpart,
)
from moxtw.mail.domain import Domain, DomainError, parse_domain

INBOX: Final = "Inbox"


@dataclass(frozen=True, slots=True)
class AccountDestination:
    """An address of an account.

    `account` is its name. `canonical` is the address as configured, in canonical form, with
    the Unicode domain; for a catchall it is ``@domain``. The flags say that messages are to be
    looked at as reports.
    """

    account: str
    canonical: str
    localpart: str
    domain: Domain
    destination: Destination
    catchall: bool = False
    dmarc_reports: bool = False
    domain_tls_reports: bool = False
    host_tls_reports: bool = False

    @property
    def tls_reports(self) -> bool:
        """Whether TLS reports arrive here, about the hostname or a domain."""
        return self.domain_tls_reports or self.host_tls_reports

    @property
    def mailbox(self) -> str:
        """The mailbox for messages that match no ruleset."""
        return self.destination.mailbox or INBOX


@dataclass(frozen=True, slots=True)
class AliasMatch:
    """An address that is an alias. `canonical` is its address, with the Unicode domain."""

    alias: Alias
    canonical: str
    localpart: str
    domain: Domain


@dataclass(slots=True)
class DomainIndex:
    """A domain's addresses."""

    config: ConfigDomain
    domain: Domain
    disabled: bool
    case_sensitive: bool
    separators: tuple[str, ...]
    reserved: tuple[str, ...] = ()
    catchall: AccountDestination | None = None
    addresses: dict[str, AccountDestination | AliasMatch] = field(default_factory=dict)

    @property
    def reports_only(self) -> bool:
        """Whether the domain has no addresses: it is here only to receive reports elsewhere."""
        return not self.addresses and self.catchall is None

    def canonical(self, localpart: str) -> str:
        """The localpart that counts."""
        return canonical_localpart(
            localpart,
            case_sensitive=self.case_sensitive,
            separators=self.separators,
            reserved=self.reserved,
        )


@dataclass(slots=True, repr=False)
class Index:
    """All addresses of a configuration; not changed once built."""

    domains: dict[str, DomainIndex]
    """By Unicode name."""
    postmaster: AccountDestination
    postmaster_hosts: frozenset[str]
    host_tlsrpt: AccountDestination | None
    account_destinations: dict[str, list[AccountDestination]]
    """By account name; without reports and postmaster."""

    @property
    def hosted(self) -> Mapping[str, DomainIndex]:
        """Domains that are not just for reports."""
        return {n: d for n, d in self.domains.items() if not d.reports_only}


def build_index(
    dynamic: Dynamic, domains: dict[str, ConfigDomain], static: Static, report: Report
) -> Dynamic:
    """Check what refers to each other, and return the configuration with its index.

    `domains` holds the checked domains of `dynamic`, by name as in the file.
    """
    return _Builder(dynamic, domains, static, report).build()


class _Builder:
    def __init__(
        self, dynamic: Dynamic, domains: dict[str, ConfigDomain], static: Static, report: Report
    ) -> None:
        self.dynamic = dynamic
        self.configs = domains
        self.static = static
        self.at = Scope(report)
        self.domains: dict[str, DomainIndex] = {}
        self.by_account: dict[str, list[AccountDestination]] = {}
        self.memberships: dict[str, list[tuple[str, Alias]]] = {}

    def build(self) -> Dynamic:
        for key, config in self.configs.items():
            name = config.domain.name
            if name in self.domains:
                self.at.at("Domains", key).error(f"domain {name} is configured twice")
                continue
            self.domains[name] = DomainIndex(
                config=config,
                domain=config.domain,
                disabled=config.disabled,
                case_sensitive=config.localpart_case_sensitive,
                separators=config.effective_separators,
            )
        self._reserve_reports()
        for name, account in self.dynamic.accounts.items():
            self._account(name, account)
        self._reports()
        configs = {key: self._aliases(key, config) for key, config in self.configs.items()}
        for name, account in self.dynamic.accounts.items():
            self._from_ids(name, account)
        postmaster = self._postmaster()
        host_tlsrpt = self._host_tlsrpt()
        for key, config in configs.items():
            entry = self.domains.get(config.domain.name)
            if entry is not None:
                configs[key] = entry.config = with_resolved(config, reports_only=entry.reports_only)
        dynamic = dataclasses.replace(self.dynamic, domains=configs, accounts=self._with_aliases())
        hosts = {self.static.dns_hostname.name, *self.static.smtp_hostnames}
        set_resolved(
            dynamic,
            index=Index(
                self.domains,
                postmaster,
                frozenset(hosts),
                host_tlsrpt,
                self.by_account,
            ),
        )
        return dynamic

    # Reports

    def _report_domain(self, key: str, reports: DMARC | TLSRPT) -> Domain:
        return reports.dns_domain if reports.domain else self.configs[key].domain

    def _reserve_reports(self) -> None:
        """Note the localparts for reports, which may hold a separator."""
        reserved: dict[str, list[str]] = {}
        for key, config in self.configs.items():
            for reports in (config.dmarc, config.tlsrpt):
                if reports is None or not reports.parsed_localpart:
                    continue
                name = self._report_domain(key, reports).name
                entry = self.domains.get(name)
                if entry is None:
                    continue
                localpart = reports.parsed_localpart
                if not entry.case_sensitive:
                    localpart = localpart.lower()
                names = reserved.setdefault(name, [])
                if localpart not in names:
                    names.append(localpart)
        for name, names in reserved.items():
            # The longest first: one may begin with another.
            self.domains[name].reserved = tuple(sorted(names, key=len, reverse=True))

    def _reports(self) -> None:
        for key, config in self.configs.items():
            for kind, reports in (("DMARC", config.dmarc), ("TLSRPT", config.tlsrpt)):
                if reports is None:
                    continue
                at = self.at.at("Domains", key, kind)
                if reports.account and reports.account not in self.dynamic.accounts:
                    at.at("Account").error(f"no account {reports.account[:100]!r} is configured")
                domain = self._report_domain(key, reports)
                entry = self.domains.get(domain.name)
                if entry is None:
                    if not domain.is_zero:
                        at.at("Domain").error(f"domain {domain} is not configured")
                    continue
                if reports.parsed_localpart:
                    self._report_address(entry, kind, reports, at)

    def _report_address(
        self, entry: DomainIndex, kind: str, reports: DMARC | TLSRPT, at: Scope
    ) -> None:
        localpart = entry.canonical(reports.parsed_localpart)
        old = entry.addresses.get(localpart)
        if old is None:
            old = AccountDestination(
                reports.account,
                Address(localpart, entry.domain).pack(),
                localpart,
                entry.domain,
                Destination(mailbox=reports.mailbox),
            )
        elif not isinstance(old, AccountDestination):
            at.error(f"address {old.canonical} is an alias")
            return
        elif old.account != reports.account:
            at.error(
                f"address {old.canonical} belongs to account {old.account!r}, "
                f"not to {reports.account[:100]!r}"
            )
            return
        elif old.mailbox != reports.mailbox:
            if old.dmarc_reports or old.domain_tls_reports:
                at.error(f"other reports to {old.canonical} go to mailbox {old.mailbox!r}")
                return
            old = dataclasses.replace(
                old, destination=_copy_destination(old.destination, reports.mailbox)
            )
        if kind == "DMARC":
            old = dataclasses.replace(old, dmarc_reports=True)
        else:
            old = dataclasses.replace(old, domain_tls_reports=True)
        entry.addresses[localpart] = old

    def _postmaster(self) -> AccountDestination:
        postmaster = self.static.postmaster
        if postmaster.account and postmaster.account not in self.dynamic.accounts:
            self.at.at("Postmaster", "Account").error(
                f"no account {postmaster.account[:100]!r} is configured"
            )
        return AccountDestination(
            postmaster.account,
            "postmaster",
            "postmaster",
            self.static.dns_hostname,
            Destination(mailbox=postmaster.mailbox),
        )

    def _host_tlsrpt(self) -> AccountDestination | None:
        reports = self.static.host_tlsrpt
        if not reports.parsed_localpart:
            return None
        if reports.account and reports.account not in self.dynamic.accounts:
            self.at.at("HostTLSRPT", "Account").error(
                f"no account {reports.account[:100]!r} is configured"
            )
        address = Address(reports.parsed_localpart, self.static.dns_hostname)
        entry = self.domains.get(address.domain.name)
        if entry is not None:
            known = entry.addresses.get(entry.canonical(address.localpart))
            if isinstance(known, AliasMatch) or (
                known is not None and known.account != reports.account
            ):
                self.at.at("HostTLSRPT").error(f"address {address.pack()} is used otherwise")
        return AccountDestination(
            reports.account,
            address.pack(),
            address.localpart,
            address.domain,
            Destination(mailbox=reports.mailbox),
            host_tls_reports=True,
        )

    # Accounts

    def _account(self, name: str, account: Account) -> None:
        at = self.at.at("Accounts", name)
        domain = account.dns_domain
        if not domain.is_zero and domain.name not in self.domains:
            at.at("Domain").error(f"domain {domain} is not configured")
        self.by_account[name] = found = []
        for key, destination in account.destinations.items():
            scope = at.at("Destinations", key)
            parsed = _parse_destination(key, account, scope)
            if parsed is None:
                continue
            localpart, domain = parsed
            entry = self.domains.get(domain.name)
            if entry is None:
                scope.error(f"domain {domain} is not configured")
                continue
            if localpart is None:
                match = AccountDestination(
                    name, f"@{domain.name}", "", domain, destination, catchall=True
                )
                if entry.catchall is not None:
                    scope.error(
                        f"duplicate address @{domain}, also of account {entry.catchall.account!r}"
                    )
                    continue
                entry.catchall = match
            else:
                match = self._destination(name, localpart, entry, destination, scope)
            found.append(match)

    def _destination(
        self,
        account: str,
        localpart: str,
        entry: DomainIndex,
        destination: Destination,
        at: Scope,
    ) -> AccountDestination:
        canonical = entry.canonical(localpart)
        if canonical not in entry.reserved:
            for separator in entry.separators:
                if separator and separator in canonical_localpart(
                    localpart, case_sensitive=entry.case_sensitive
                ):
                    at.error(f"the localpart holds the catchall separator {separator!r}")
                    break
        match = AccountDestination(
            account,
            Address(canonical, entry.domain).pack(),
            canonical,
            entry.domain,
            destination,
        )
        other = entry.addresses.setdefault(canonical, match)
        if other is not match and isinstance(other, AccountDestination):
            at.error(f"duplicate address {match.canonical}, also of account {other.account!r}")
        return match

    def _from_ids(self, name: str, account: Account) -> None:
        for index, address in enumerate(account.parsed_from_id_login_addresses):
            scope = self.at.at("Accounts", name, "FromIDLoginAddresses", index)
            entry = self.domains.get(address.domain.name)
            match = None
            if entry is not None:
                match = entry.addresses.get(entry.canonical(address.localpart)) or entry.catchall
            if entry is None or not isinstance(match, AccountDestination):
                scope.error(f"{address} is not an address of an account")
            elif match.account != name:
                scope.error(f"{address} is an address of account {match.account!r}")
            elif not entry.separators:
                scope.error(f"domain {address.domain} has no catchall separator")

    # Aliases

    def _aliases(self, key: str, config: ConfigDomain) -> ConfigDomain:
        entry = self.domains.get(config.domain.name)
        if not config.aliases or entry is None:
            return config
        aliases = {}
        for text, alias in config.aliases.items():
            at = self.at.at("Domains", key, "Aliases", text)
            aliases[text] = self._alias(text, alias, entry, at)
        if all(aliases[text] is config.aliases[text] for text in aliases):
            return config
        changed = dataclasses.replace(config, aliases=aliases)
        set_resolved(
            changed,
            domain=config.domain,
            effective_separators=config.effective_separators,
            client_settings_dns_domain=config.client_settings_dns_domain,
            checked=config.checked,
        )
        return changed

    def _alias(self, text: str, alias: Alias, entry: DomainIndex, at: Scope) -> Alias:
        try:
            localpart = parse_localpart(text)
        except AddressError as exc:
            at.error(f"bad localpart {text[:100]!r}: {exc}")
            return alias
        canonical = entry.canonical(localpart)
        whole = canonical_localpart(localpart, case_sensitive=entry.case_sensitive)
        if canonical != whole:
            at.error("the localpart holds a catchall separator")
        if not alias.addresses:
            at.at("Addresses").error("need at least one address")
        members = []
        seen: set[Address] = set()
        for index, member in enumerate(alias.addresses):
            scope = at.at("Addresses", index)
            found = self._member(member, scope)
            if found is None:
                continue
            if found.address in seen:
                scope.error(f"duplicate address {found.address}")
            seen.add(found.address)
            members.append(found)
        alias = with_resolved(
            alias, localpart_str=canonical, domain=entry.domain, parsed_addresses=tuple(members)
        )
        match = AliasMatch(alias, Address(canonical, entry.domain).pack(), canonical, entry.domain)
        other = entry.addresses.setdefault(canonical, match)
        if isinstance(other, AccountDestination):
            at.error(f"duplicate address {match.canonical}, also of account {other.account!r}")
        elif other is not match:
            at.error(f"duplicate alias {match.canonical}")
        for found in members:
            self.memberships.setdefault(found.account_name, []).append(
                (found.address.pack(), alias)
            )
        return alias

    def _member(self, text: str, at: Scope) -> AliasAddress | None:
        address = at.address(text)
        if address is None:
            return None
        entry = self.domains.get(address.domain.name)
        match = None if entry is None else entry.addresses.get(entry.canonical(address.localpart))
        if not isinstance(match, AccountDestination):
            at.error(f"{address} is not an address of an account")
            return None
        return AliasAddress(
            Address(match.localpart, match.domain), match.account, match.destination
        )

    def _with_aliases(self) -> dict[str, Account]:
        """The accounts, each knowing the aliases that it is a member of."""
        accounts = {}
        for name, account in self.dynamic.accounts.items():
            memberships = []
            for address, alias in self.memberships.get(name, ()):
                others: tuple[str, ...] = ()
                if alias.list_members:
                    others = tuple(m.address.pack() for m in alias.parsed_addresses)
                memberships.append(AddressAlias(address, alias, others))
            # Aliases compare equal wherever they stand: it is the very objects that count.
            known = account.aliases
            if len(known) != len(memberships) or any(
                old.alias is not new.alias or old != new
                for old, new in zip(known, memberships, strict=True)
            ):
                account = copy.copy(account)
                set_resolved(account, aliases=tuple(memberships))
            accounts[name] = account
        return accounts


def _copy_destination(destination: Destination, mailbox: str) -> Destination:
    """A destination with another mailbox, keeping what checking has set."""
    changed = dataclasses.replace(destination, mailbox=mailbox)
    set_resolved(
        changed,
        smtp_error_code=destination.smtp_error_code,
        smtp_error_secode=destination.smtp_error_secode,
        smtp_error_text=destination.smtp_error_text,
        forward_addresses=destination.forward_addresses,
    )
    return changed


def _parse_destination(key: str, account: Account, at: Scope) -> tuple[str | None, Domain] | None:
    """Localpart (None for a catchall) and domain of a destination's name."""
    try:
        if key.startswith("@"):
            return None, parse_domain(key[1:])
        if "@" in key:
            address = parse_address(key)
            return address.localpart, address.domain
        # Older configurations name just the localpart, in the domain of the account.
        localpart = parse_localpart(key)
    except (AddressError, DomainError) as exc:
        at.error(f"bad address {key[:100]!r}: {exc}")
        return None
    if account.dns_domain.is_zero:
        at.error("needs a domain: the account has none")
        return None
    return localpart, account.dns_domain
