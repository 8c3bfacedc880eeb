"""Checks of the mail host: DNSSEC, names of addresses, MX records, TLS, DANE."""

from __future__ import annotations

from moxtw.admin.check.base import (
    Check,
    Found,
    is_loopback,
    listed,
    ours_only,
    together,
)
from moxtw.admin.check.types import (
    MX,
    DANECheckResult,
    DNSSECResult,
    IPRevCheckResult,
    MXCheckResult,
    TLSCheckResult,
)
from moxtw.admin.ownips import smtp_ips
from moxtw.dns import resolver as dns
from moxtw.dns.resolver import DNSError, NotFound
from moxtw.mail.domain import DomainError, parse_domain
from moxtw.queue.api import Domain
from moxtw.tlspolicy import dane

UNBOUND_ADVICE = """\
If it is signed, the resolver of this machine may not verify DNSSEC. Install one that does on \
this machine, such as unbound, with the keys of the root zone (package unbound-anchor), and with \
"ede: yes" in its configuration, so that it says why a lookup failed. "dig com. ns" shows "ad" \
among the flags of the answer if it verifies. The address in /etc/resolv.conf must be a loopback \
address, or the options there must have "trust-ad"; or name it in Resolvers of mox.conf."""


async def dnssec(check: Check, result: DNSSECResult) -> None:
    """Whether the resolver verifies, and the zone is signed."""
    result.Instructions += [
        f"Sign the zone of {check.name} with DNSSEC, at whoever serves its DNS.",
        UNBOUND_ADVICE,
    ]
    try:
        # Some resolvers do not vouch for the root itself.
        answer = await dns.ns(check.resolver, "com.")
    except DNSError as exc:
        result.Errors.append(
            f"Looking up name servers of the root's zone com., to see whether the resolver "
            f"verifies DNSSEC: {exc}"
        )
        return
    if not answer.authentic:
        result.Warnings.append(
            "The DNS resolver does not verify DNSSEC, or is not trusted to: it has no loopback "
            'address, and /etc/resolv.conf no "options trust-ad". Mail is sent to MX hosts that '
            "nobody vouches for, and their TLS is not verified with DANE, only with MTA-STS, or "
            "not at all."
        )
        return
    try:
        authentic = (await dns.mx(check.resolver, check.name)).authentic
    except NotFound as exc:
        authentic = exc.authentic
    except DNSError:
        return  # The section on MX records tells.
    if not authentic:
        result.Warnings.append(
            f"The zone of {check.name} is not signed with DNSSEC: others cannot be sure of its MX, "
            "SPF, DKIM, DMARC and MTA-STS records."
        )


async def iprev(check: Check, result: IPRevCheckResult) -> None:
    """Whether the addresses of the host lead back to its name."""
    static = check.static
    result.Hostname = Domain(static.dns_hostname.ascii, static.dns_hostname.unicode)
    ips: dict[str, None] = {}
    try:
        ips.update(dict.fromkeys((await check.addresses(check.host)).ips))
    except DNSError as exc:
        result.Errors.append(f"Looking up addresses of hostname {check.host}: {exc}")
    # Behind NAT, these are the public ones as far as they are known.
    ips.update(dict.fromkeys(smtp_ips(static)))
    result.Instructions.append(
        f"See to it that addresses {listed(list(ips))} have {check.host} as their reverse name. "
        "Reverse names are set at the provider of the addresses."
    )
    for ip in ips:
        if is_loopback(ip):
            result.Errors.append(
                f"Hostname {check.host} has loopback address {ip}: mail for accounts of this "
                "machine may not arrive. It probably stands in /etc/hosts since the installation: "
                "write the public addresses there, or remove the line."
            )
    wanted = [(check.host, ip, True) for ip in ips]
    for name, transport in sorted(static.transports.items()):
        if transport.socks is not None:
            host = transport.socks.dns_remote_hostname.ascii
            remote = [str(ip) for ip in transport.socks.remote_ip_addresses]
            result.Instructions.append(
                f"For transport {name}, see to it that addresses {listed(remote)} have {host} as "
                "their reverse name."
            )
            wanted += [(host, ip, False) for ip in remote]
    await together(_reverse(check, result, host, ip, own) for host, ip, own in wanted)


async def _reverse(
    check: Check, result: IPRevCheckResult, host: str, ip: str, own: bool
) -> None:
    try:
        answer = await dns.ptr(check.resolver, ip)
    except DNSError as exc:
        result.Errors.append(f"Looking up the reverse name of {ip}, of {host}: {exc}")
        return
    names = [name.removesuffix(".") for name in answer.records[:20]]
    result.IPNames[ip] = names
    for name in names:
        try:
            parse_domain(name)
        except DomainError as exc:
            result.Errors.append(f"Reverse name {name!r} of {ip}: {exc}")
    if own and host not in names and not check.nat:
        result.Warnings.append(
            f"Address {ip} has reverse name {', '.join(names)}, not hostname {host}."
        )


async def mx(check: Check, result: MXCheckResult) -> None:
    """Whether mail for the domain comes to us."""
    result.Instructions.append(
        f"Have this MX record in DNS:\n\n\t{check.name}. MX 10 {check.host}.\n\n"
        "The dots at the ends make the names absolute."
    )
    try:
        records = await check.mx()
    except DNSError as exc:
        result.Errors.append(f"Looking up MX records of {check.name}: {exc}")
        return
    result.Records = [MX(record.host, record.preference, []) for record in records]
    if len(records) == 1 and records[0].host == ".":
        result.Errors.append('The MX record is "." (RFC 7505): the domain takes no mail.')
        return

    async def one(record: MX) -> None:
        try:
            found: Found = await check.addresses(record.Host)
        except DNSError as exc:
            result.Errors.append(f"Looking up addresses of mail host {record.Host}: {exc}")
            return
        record.IPs = found.ips
        ours_only(result.Errors, check, f"Mail host {record.Host}", found)

    await together(one(record) for record in result.Records)


async def tls(check: Check, result: TLSCheckResult) -> None:
    """Whether mail hosts have TLS that others can verify."""
    try:
        records = await check.mx()
    except DNSError:
        return  # The section on MX records tells.

    async def one(host: str) -> None:
        try:
            found = await check.addresses(host)
        except DNSError:
            return
        await check.smtp(result.Errors, host.removesuffix("."), found.ips)

    await together(one(record.host) for record in records if record.host != ".")


async def dane_records(check: Check, result: DANECheckResult) -> None:
    """Whether TLSA records fit the host keys."""
    _dane_instructions(check, result)
    try:
        answer = await dns.mx(check.resolver, check.name)
    except DNSError as exc:
        result.Errors.append(f"Looking up MX records, whose hosts can have DANE: {exc}")
        return
    if not answer.authentic:
        result.Warnings.append("The MX records are not signed with DNSSEC: DANE has no effect.")
    hosts = [record.host for record in answer.records[:20] if record.host != "."]
    await together(_tlsa(check, result, host.removesuffix(".")) for host in hosts)


def _dane_instructions(check: Check, result: DANECheckResult) -> None:
    public = check.static.listeners.get("public")
    expected = check.host_tlsa.get("public", [])
    if public is not None and expected:
        name = f"_25._tcp.{public.effective_hostname.ascii or check.host}."
        lines = "".join(f"\t{name} TLSA {each}\n" for each in expected)
        result.Instructions.append(
            "Have these TLSA records in a zone that is signed with DNSSEC. They are about the host "
            "and hold for all domains: servers that deliver mail verify that the host's TLS "
            "certificate is for one of these keys, whoever issued it.\n\n" + lines
        )
        return
    result.Warnings.append("DANE is not configured: there are no host keys for TLS.")
    result.Instructions.append(
        "Make TLS keys for the host that stay the same when certificates are renewed, and name "
        "them in mox.conf under Listeners, public, TLS, HostPrivateKeyFiles. With certificates "
        'from ACME, "moxtw config ensureacmehostprivatekeys" makes them and says what to write. '
        "With certificates from elsewhere, see to it that keys are used again. The records will "
        "be suggested here then. Publish records for a new key, and let the old ones expire, "
        "before the key is used."
    )


def _expected(check: Check, host: str) -> list[str]:
    """What the TLSA records of a mail host have to be, as far as it is ours."""
    for name, listener in check.static.listeners.items():
        ours = listener.smtp.enabled and listener.effective_hostname.ascii == host
        if ours and (found := check.host_tlsa.get(name)):
            return found
    return check.host_tlsa.get("public", []) if host == check.host else []


async def _tlsa(check: Check, result: DANECheckResult, host: str) -> None:
    expected = _expected(check, host)
    name = f"_25._tcp.{host}"
    try:
        answer = await dns.tlsa(check.resolver, name)
    except NotFound:
        if expected:
            result.Errors.append(f"Missing TLSA records of {name}: {'; '.join(expected)}")
        return
    except DNSError as exc:
        result.Errors.append(f"Looking up TLSA records of mail host {host}: {exc}")
        return
    if not answer.authentic:
        result.Errors.append(f"The TLSA records of mail host {host} are not signed with DNSSEC.")
    found = [dane.presentation(record) for record in answer.records[:100]]
    if missing := [each for each in expected if each not in found]:
        result.Errors.append(f"Missing TLSA records of {name}: {'; '.join(missing)}")
    if extra := sorted(set(found) - set(expected)):
        result.Errors.append(f"Unexpected TLSA records of {name}: {'; '.join(extra)}")
