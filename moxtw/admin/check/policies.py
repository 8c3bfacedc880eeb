"""Checks of policies on TLS: MTA-STS, and reports about TLS."""

from __future__ import annotations

from typing import Final

from moxtw.admin import dnsrecords
from moxtw.admin.check import types
from moxtw.admin.check.base import Check
from moxtw.admin.keys import timestamp
from moxtw.dns import resolver as dns
from moxtw.dns.resolver import DNSError, NotFound
from moxtw.mail.address import Address
from moxtw.mail.domain import Domain, DomainError, parse_domain
from moxtw.queue.api import Domain as DomainName
from moxtw.tlspolicy import mtasts as sts
from moxtw.tlspolicy import tlsrpt
from moxtw.tlspolicy.mtastsfetch import Fetcher, FetchError, NoPolicy
from moxtw.version import VERSION

_DAY: Final = 24 * 3600
_INT32_MAX: Final = 2**31 - 1

_ABOUT_TLSRPT: Final = (
    "With TLSRPT (RFC 8460) others report once a day how many of their TLS connections to our "
    "mail host worked and failed, and why. The record of the host is for reports about DANE, the "
    "record of the domain for reports about MTA-STS."
)

_ABOUT_MTASTS: Final = (
    "MTA-STS (RFC 8461) tells others which hosts take mail for the domain, and that TLS with a "
    "certificate for these hosts is a must. Not all servers follow it. Without it, somebody "
    "between two servers can make mail go in plain text or to a host of his own.\n\n"
    "Begin with mode testing and with TLSRPT: others report problems and deliver all the same. "
    "Change to enforce when all is well. max_age says how long others remember the policy: a day "
    "at first, weeks later. To leave MTA-STS, publish mode none until all have forgotten.\n\n"
    "When the policy changes, change the configuration first, then the id of the record in DNS."
)


def tlsrpt_json(record: tlsrpt.Record) -> types.TLSRPTRecord:
    """A TLSRPT record as in the API."""
    return types.TLSRPTRecord(
        Version="TLSRPTv1",
        RUAs=[[types.RUA(uri) for uri in uris] for uris in record.uris],
        Extensions=[types.Extension(name, value) for name, value in record.extensions],
    )


async def host_tlsrpt(check: Check, result: types.TLSRPTCheckResult) -> None:
    """Whether reports about TLS with the host are asked for."""
    address = dnsrecords.host_tlsrpt_address(check.static)
    if address is None:
        result.Errors.append(
            "No address for reports about TLS with the host is configured: add HostTLSRPT to "
            "mox.conf, restart, and look here again for the DNS record."
        )
        result.Instructions.append(
            f"{_ABOUT_TLSRPT}\n\nHave this in mox.conf, indented with tabs:\n\n"
            f"HostTLSRPT:\n\tAccount: {check.static.postmaster.account}\n\tMailbox: TLSRPT\n"
            "\tLocalpart: tlsreports\n"
        )
    await _tlsrpt(check, result, check.static.dns_hostname, address)


async def domain_tlsrpt(check: Check, result: types.TLSRPTCheckResult) -> None:
    """Whether reports about TLS with the domain are asked for."""
    address = dnsrecords.domain_tlsrpt_address(check.domain)
    if address is None:
        result.Errors.append(
            "No address for reports about TLS with the domain is configured: add TLSRPT to the "
            "domain, and look here again for the DNS record."
        )
        result.Instructions.append(_ABOUT_TLSRPT)
    await _tlsrpt(check, result, check.domain.domain, address)


async def _tlsrpt(
    check: Check, result: types.TLSRPTCheckResult, domain: Domain, address: Address | None
) -> None:
    if address is not None:
        text = dnsrecords.txt_strings(dnsrecords.tlsrpt_text(address))
        result.Instructions.append(
            f"{_ABOUT_TLSRPT}\n\nHave a TXT record like this in DNS:\n\n"
            f"\t_smtp._tls.{domain.ascii}. TXT {text}\n"
        )
    try:
        record, result.TXT = await tlsrpt.lookup(check.resolver, domain.ascii)
    except tlsrpt.RecordError as exc:
        result.TXT = exc.text
        result.Errors.append(f"TLSRPT record of {domain}: {exc}")
        return
    except DNSError as exc:
        result.Errors.append(f"Looking up TLSRPT record of {domain}: {exc}")
        return
    result.Record = tlsrpt_json(record)
    if address is not None:
        wanted = dnsrecords.mailto(address.localpart, address.domain).lower()
        if not any(uri.lower() == wanted for uris in record.uris for uri in uris):
            result.Errors.append(
                f"The configured address for reports is not in the TLSRPT record: {wanted}"
            )


# -- MTA-STS ----------------------------------------------------------------------------------


def mtasts_json(record: sts.Record) -> types.MTASTSRecord:
    """An MTA-STS record as in the API."""
    return types.MTASTSRecord("STSv1", record.id, _pairs(record.extensions))


def policy_json(policy: sts.Policy) -> types.Policy:
    """An MTA-STS policy as in the API."""
    hosts = []
    for pattern in policy.mx:
        name = pattern.removeprefix("*.")
        try:
            domain = parse_domain(name, strict=False)
        except DomainError:
            domain = Domain(name)
        hosts.append(
            types.STSMX(pattern.startswith("*."), DomainName(domain.ascii, domain.unicode))
        )
    return types.Policy(
        Version="STSv1",
        Mode=types.Mode(policy.mode),
        MX=hosts,
        MaxAgeSeconds=min(policy.max_age, _INT32_MAX),
        Extensions=_pairs(policy.extensions),
    )


def _pairs(extensions: tuple[tuple[str, str], ...]) -> list[types.Pair]:
    return [types.Pair(name, value) for name, value in extensions]


async def mtasts(check: Check, result: types.MTASTSCheckResult) -> None:
    """Whether the domain's MTA-STS policy is there, and fits its mail hosts."""
    config = check.domain.mtasts
    policy_id = config.policy_id if config is not None else timestamp(check.reactor.seconds())
    result.Instructions += [
        _ABOUT_MTASTS,
        f"Have a record in DNS by which mta-sts.{check.name} leads to this host, which serves the "
        f"policy there:\n\n\tmta-sts.{check.name}. CNAME {check.host}.\n",
        f"Have a TXT record like this in DNS:\n\n"
        f'\t_mta-sts.{check.name}. TXT "v=STSv1; id={policy_id}"\n\n'
        "The id is up to 32 letters and digits, such as a time. It is the PolicyID of the "
        "configuration, and changes with each change of the policy.",
    ]
    if config is None:
        result.Warnings.append("MTA-STS is not configured for the domain.")
    await _sts_record(check, result)
    fetcher = Fetcher(
        check.resolver,
        check.reactor,
        check.roots,
        user_agent=f"moxtw/{VERSION}",
        ports={443: check.https_port},
    )
    try:
        policy, result.PolicyText = await fetcher.policy(check.name, 20)
    except FetchError as exc:
        if config is not None or not isinstance(exc, NoPolicy):
            result.Errors.append(f"Fetching MTA-STS policy: {exc}")
        return
    result.Policy = policy_json(policy)
    if policy.mode == "none":
        result.Warnings.append("There is an MTA-STS policy, but its mode none asks for nothing.")
        return
    if policy.mode == "testing":
        result.Warnings.append(
            "The MTA-STS policy is for trying only (mode testing): change it to enforce when "
            "reports show that all is well."
        )
    if not policy.matches(check.host):
        result.Warnings.append(f"Hostname {check.host} is not in the MTA-STS policy.")
    if policy.max_age <= _DAY:
        result.Warnings.append(
            "The MTA-STS policy is remembered for a day or less (max_age): weeks protect better, "
            "once all is stable."
        )
    await _sts_hosts(check, result, policy)


async def _sts_record(check: Check, result: types.MTASTSCheckResult) -> None:
    configured = check.domain.mtasts is not None
    try:
        answer = await dns.txt(check.resolver, f"_mta-sts.{check.name}")
    except NotFound as exc:
        if configured:
            result.Errors.append(f"Looking up MTA-STS record: {exc}")
        return
    except DNSError as exc:
        result.Errors.append(f"Looking up MTA-STS record: {exc}")
        return
    texts = [text for text in answer if text.startswith("v=STSv1")]
    result.TXT = texts[0] if texts else ""
    try:
        result.Record = mtasts_json(sts.find_record(answer.records))
    except sts.RecordError as exc:
        if texts or configured:
            result.Errors.append(f"MTA-STS record: {exc}")
        return
    if check.domain.mtasts is not None and check.domain.mtasts.policy_id != result.Record.ID:
        result.Warnings.append(
            f"The id of the MTA-STS record is {result.Record.ID}, not the configured "
            f"{check.domain.mtasts.policy_id}: others do not notice a change of the policy."
        )


async def _sts_hosts(
    check: Check, result: types.MTASTSCheckResult, policy: sts.Policy
) -> None:
    try:
        records = await check.mx()
    except DNSError:
        return  # The section on MX records tells.
    hosts = {record.host.removesuffix(".") for record in records} - {""}
    for host in sorted(hosts):
        if not policy.matches(host):
            result.Warnings.append(f"Mail host {host} is not in the MTA-STS policy.")
    for pattern in policy.mx:
        if not pattern.startswith("*.") and pattern not in hosts:
            result.Warnings.append(
                f"Host {pattern} of the MTA-STS policy is not in the MX records."
            )
