"""Functions on domains."""

from __future__ import annotations

from moxtw.admin import dnsrecords, domains
from moxtw.admin.check import run as checks
from moxtw.admin.check.types import CheckResult
from moxtw.config import dynamic as config
from moxtw.web.adminapi.base import admin_of, registry
from moxtw.web.admintypes import ClientConfigs, ClientConfigsEntry
from moxtw.web.configtypes import Alias, ConfigDomain, Mode, Route, Selector
from moxtw.web.configtypes import Domain as DomainName
from moxtw.web.conversions import from_api, list_from_api, map_to_api, to_api
from moxtw.web.rpc import Call
from moxtw.web.typewords import Int64


@registry.function(reads=True)
async def Domains(call: Call) -> list[ConfigDomain]:
    """All configured domains, sorted by name."""
    return [to_api(d, ConfigDomain) for d in await domains.domain_list(*admin_of(call))]


@registry.function(reads=True)
async def Domain(call: Call, domain: str) -> DomainName:
    """The name of a configured domain in its two forms."""
    ctx, _ = admin_of(call)
    return to_api(domains.get(ctx, domain).domain, DomainName)


@registry.function(reads=True)
async def ParseDomain(call: Call, domain: str) -> DomainName:
    """A domain name in its two forms, whether it is configured or not."""
    return to_api(domains.parse(domain), DomainName)


@registry.function(reads=True)
async def DomainConfig(call: Call, domain: str) -> ConfigDomain:
    """A configured domain."""
    ctx, _ = admin_of(call)
    return to_api(domains.get(ctx, domain), ConfigDomain)


@registry.function("localpartAccounts", "localpartAliases", reads=True)
async def DomainLocalparts(
    call: Call, domain: str
) -> tuple[dict[str, str], dict[str, Alias]]:
    """The localparts of a domain with their accounts ('' for the catchall), and its aliases."""
    accounts, aliases = await domains.localparts(*admin_of(call), domain)
    return accounts, map_to_api(aliases, Alias)


@registry.function()
async def DomainAdd(
    call: Call, disabled: bool, domain: str, accountName: str, localpart: str
) -> None:
    """Add a domain, with new DKIM keys.

    The account gets its reports. With a localpart the account is new, with that address.
    """
    await domains.add(*admin_of(call), domain, accountName, localpart, disabled=disabled)


@registry.older("DomainAdd")
async def _domain_add(call: Call, domain: str, accountName: str, localpart: str) -> None:
    await DomainAdd(call, False, domain, accountName, localpart)


@registry.function()
async def DomainRemove(call: Call, domain: str) -> None:
    """Remove a domain. Refused while accounts have addresses in it."""
    await domains.remove(*admin_of(call), domain)


@registry.function(reads=True)
async def ClientConfigsDomain(call: Call, domain: str) -> ClientConfigs:
    """What mail clients of a domain's users can be set to."""
    entries = await domains.client_configs(*admin_of(call), domain)
    return ClientConfigs(
        entries=[
            ClientConfigsEntry(
                protocol=entry.protocol,
                host=to_api(entry.host, DomainName),
                port=entry.port,
                listener=entry.listener,
                note=entry.note,
            )
            for entry in entries
        ]
    )


@registry.function("r", reads=True)
async def CheckDomain(call: Call, domainName: str) -> CheckResult:
    """Compare the configuration of a domain with DNS, TLS and policies as others see them.

    Takes up to 30 seconds.
    """
    return await checks.check_domain(*admin_of(call), domainName)


@registry.function(reads=True)
async def DomainRecords(call: Call, domain: str) -> list[str]:
    """The DNS records that a domain should have, as lines of a zone file."""
    return await dnsrecords.domain_records(*admin_of(call), domain)


@registry.function()
async def DomainRoutesSave(call: Call, domainName: str, routes: list[Route]) -> None:
    """Replace the routes of a domain."""
    await domains.save_routes(*admin_of(call), domainName, list_from_api(config.Route, routes))


@registry.function()
async def DomainDescriptionSave(call: Call, domainName: str, descr: str) -> None:
    """Change the description of a domain."""
    await domains.save(*admin_of(call), domainName, description=descr)


@registry.function()
async def DomainClientSettingsDomainSave(
    call: Call, domainName: str, clientSettingsDomain: str
) -> None:
    """Change the host that mail clients of a domain are told to use."""
    await domains.save(
        *admin_of(call), domainName, client_settings_domain=clientSettingsDomain
    )


@registry.function()
async def DomainLocalpartConfigSave(
    call: Call,
    domainName: str,
    localpartCatchallSeparators: list[str],
    localpartCaseSensitive: bool,
) -> None:
    """Change how localparts of a domain are compared."""
    await domains.save_localparts(
        *admin_of(call), domainName, localpartCatchallSeparators, localpartCaseSensitive
    )


@registry.older("DomainLocalpartConfigSave")
async def _localpart_config_save(
    call: Call, domainName: str, localpartCatchallSeparator: str, localpartCaseSensitive: bool
) -> None:
    separators = [localpartCatchallSeparator] if localpartCatchallSeparator else []
    await DomainLocalpartConfigSave(call, domainName, separators, localpartCaseSensitive)


@registry.function()
async def DomainDMARCAddressSave(
    call: Call, domainName: str, localpart: str, domain: str, account: str, mailbox: str
) -> None:
    """Change where DMARC reports about a domain go; with an empty localpart nowhere."""
    await domains.save_dmarc(*admin_of(call), domainName, localpart, domain, account, mailbox)


@registry.function()
async def DomainTLSRPTAddressSave(
    call: Call, domainName: str, localpart: str, domain: str, account: str, mailbox: str
) -> None:
    """Change where TLS reports about a domain go; with an empty localpart nowhere."""
    await domains.save_tlsrpt(*admin_of(call), domainName, localpart, domain, account, mailbox)


@registry.function()
async def DomainMTASTSSave(
    call: Call, domainName: str, policyID: str, mode: Mode, maxAge: Int64, mx: list[str]
) -> None:
    """Change the MTA-STS policy of a domain, maxAge in nanoseconds; an empty id removes it."""
    await domains.save_mtasts(*admin_of(call), domainName, policyID, mode.value, maxAge, mx)


@registry.function()
async def DomainDKIMAdd(
    call: Call,
    domainName: str,
    selector: str,
    algorithm: str,
    hash: str,
    headerRelaxed: bool,
    bodyRelaxed: bool,
    seal: bool,
    headers: list[str],
    lifetime: Int64,
) -> None:
    """Add a DKIM selector with a new key (rsa, ed25519); lifetime in nanoseconds.

    It is not used for signing until DomainDKIMSave says so.
    """
    await domains.dkim_add(
        *admin_of(call),
        domainName,
        selector,
        algorithm,
        hash=hash,
        header_relaxed=headerRelaxed,
        body_relaxed=bodyRelaxed,
        seal=seal,
        headers=headers,
        lifetime=lifetime,
    )


@registry.function()
async def DomainDKIMRemove(call: Call, domainName: str, selector: str) -> None:
    """Remove a DKIM selector; its key is kept in dkim/old."""
    await domains.dkim_remove(*admin_of(call), domainName, selector)


@registry.function()
async def DomainDKIMSave(
    call: Call, domainName: str, selectors: dict[str, Selector], sign: list[str]
) -> None:
    """Change how DKIM selectors sign, and which do. It adds and removes none."""
    await domains.dkim_save(
        *admin_of(call),
        domainName,
        {name: from_api(config.Selector, value) for name, value in selectors.items()},
        sign,
    )


@registry.function()
async def DomainDisabledSave(call: Call, domainName: str, disabled: bool) -> None:
    """Disable a domain: no mail in or out; or enable it."""
    await domains.save(*admin_of(call), domainName, disabled=disabled)
