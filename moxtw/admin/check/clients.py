"""Checks of what mail clients find: SRV records, autoconfig, autodiscover."""

from __future__ import annotations

from moxtw.admin.check import types
from moxtw.admin.check.base import Check, absent_if_missing, ours_only, together
from moxtw.admin.dnsrecords import client_settings_host
from moxtw.dns import resolver as dns
from moxtw.dns.resolver import DNSError


async def srv(check: Check, result: types.SRVConfCheckResult) -> None:
    """Whether services are found by SRV records (RFC 6186, RFC 8314 5.1)."""
    listeners = check.static.listeners.values()
    submissions = any(each.tls is not None and each.submissions.enabled for each in listeners)
    imaps = any(each.tls is not None and each.imaps.enabled for each in listeners)
    # RFC 6186 3.4: "." says that there is no such service.
    wanted = [
        ("_submissions", 465 if submissions else 0),
        ("_submission", 0 if submissions else 587),
        ("_imaps", 993 if imaps else 0),
        ("_imap", 0 if imaps else 143),
        ("_pop3", 0),
        ("_pop3s", 0),
    ]
    target = client_settings_host(check.static, check.domain).ascii + "."
    lines = "".join(
        f"\t{service}._tcp.{check.name}. SRV 0 {min(port, 1)} {port} {target if port else '.'}\n"
        for service, port in wanted
    )
    result.Instructions.append(
        "Have SRV records like these in DNS. Those with a dot at the end say that there is no such "
        f"service, and are optional.\n\n{lines}"
    )
    # The host itself does as well as another name of it.
    good = {target, check.host + "."}
    found = await together(_srv(check, result, service, port) for service, port in wanted)
    for (service, port), records in zip(wanted, found, strict=True):
        if records is None:
            continue
        result.SRVs[service] = [
            types.SRV(r.target, r.port, r.priority, r.weight) for r in records
        ]
        name = f"{service}._tcp.{check.name}"
        where = result.Errors if port else result.Warnings
        if not records:
            where.append(f"Missing {'' if port else 'optional '}SRV record {name}")
        elif (
            len(records) != 1
            or records[0].target not in (good if port else {"."})
            or records[0].port != port
        ):
            shown = ", ".join(f"{r.priority} {r.weight} {r.port} {r.target}" for r in records)
            where.append(f"Unexpected SRV records {name}: {shown}")


async def _srv(
    check: Check, result: types.SRVConfCheckResult, service: str, port: int
) -> list[dns.SRV] | None:
    name = f"{service}._tcp.{check.name}"
    try:
        return list(await absent_if_missing(dns.srv(check.resolver, name)))[:50]
    except DNSError as exc:
        where = result.Errors if port else result.Warnings
        where.append(f"Looking up SRV record {name}: {exc}")
        return None


def _cname(name: str, host: str) -> str:
    return (
        f"Have a record like this in DNS:\n\n\t{name}. CNAME {host}.\n\n"
        "The dots at the ends make the names absolute."
    )


async def autoconf(check: Check, result: types.AutoconfCheckResult) -> None:
    """Whether the names for mail clients lead to us."""
    await together([_settings(check, result), _autoconfig(check, result)])


async def _settings(check: Check, result: types.AutoconfCheckResult) -> None:
    name = check.domain.client_settings_dns_domain.ascii
    if not name:
        return
    if name != check.host:
        result.Instructions.insert(0, _cname(name, check.host))
    try:
        found = await check.addresses(name)
    except DNSError as exc:
        result.Errors.append(f"Looking up client settings host {name}: {exc}")
        return
    result.ClientSettingsDomainIPs = found.ips
    ours_only(result.Errors, check, f"Client settings host {name}", found)


async def _autoconfig(check: Check, result: types.AutoconfCheckResult) -> None:
    name = f"autoconfig.{check.name}"
    result.Instructions.append(_cname(name, check.host))
    try:
        found = await check.addresses(name)
    except DNSError as exc:
        result.Errors.append(f"Looking up autoconfig host {name}: {exc}")
        return
    result.IPs = found.ips
    ours_only(result.Errors, check, f"Autoconfig host {name}", found)
    await check.https(result.Errors, name, found.ips)


async def autodiscover(check: Check, result: types.AutodiscoverCheckResult) -> None:
    """Whether autodiscover leads to us."""
    name = f"_autodiscover._tcp.{check.name}"
    result.Instructions.append(
        f"Have records like these in DNS:\n\n\t{name}. SRV 0 1 443 {check.host}.\n"
        f"\tautoconfig.{check.name}. CNAME {check.host}.\n\n"
        "The dots at the ends make the names absolute."
    )
    try:
        records = list(await absent_if_missing(dns.srv(check.resolver, name)))[:20]
    except DNSError as exc:
        result.Errors.append(f"Looking up SRV record {name}: {exc}")
        return

    async def one(record: dns.SRV) -> None:
        shown = types.AutodiscoverSRV(
            record.target, record.port, record.priority, record.weight, []
        )
        result.Records.append(shown)
        host = record.target.removesuffix(".")
        if not host:
            return
        try:
            found = await check.addresses(host)
        except DNSError as exc:
            result.Errors.append(f"Looking up {host}, of SRV record {name}: {exc}")
            return
        shown.IPs = found.ips
        ours_only(result.Errors, check, f"Host {host} of SRV record {name}", found)
        await check.https(result.Errors, host, found.ips)

    usable = [record for record in records if record.port == 443 and record.target != "."]
    if not usable:
        missing = "is for another port" if records else "is missing"
        result.Errors.append(f"SRV record {name} for port 443 {missing}.")
    await together(one(record) for record in usable)
