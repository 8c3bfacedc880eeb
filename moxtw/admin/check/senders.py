"""Checks of what tells others that mail is from us: SPF, DKIM, DMARC."""

from __future__ import annotations

import base64
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from moxtw.admin import dnsrecords
from moxtw.admin.check import types
from moxtw.admin.check.base import Check, together
from moxtw.admin.ownips import smtp_ips
from moxtw.authn import dmarc as dmarclib
from moxtw.authn import spf as spflib
from moxtw.authn.dkimkey import KeyLookupError, KeyRecord, choose_record
from moxtw.authn.dmarcpermit import permission
from moxtw.authn.dmarcrecord import DMARCRecord, ReportURI
from moxtw.authn.spfrecord import Directive, Record, is_record
from moxtw.dns import resolver as dns
from moxtw.dns.resolver import DNSError, NotFound
from moxtw.mail.address import IPDomain, Path
from moxtw.mail.domain import Domain

_INT32_MAX: Final = 2**31 - 1


def spf_json(record: Record) -> types.SPFRecord:
    """An SPF record as in the API."""
    return types.SPFRecord(
        Version="spf1",
        Directives=[_directive(each) for each in record.directives],
        Redirect=record.redirect.text if record.redirect is not None else "",
        Explanation=record.exp.text if record.exp is not None else "",
        Other=[types.Modifier(each.name, each.value) for each in record.others],
    )


def _directive(directive: Directive) -> types.Directive:
    address = ""
    four, six = directive.ip4_prefix, directive.ip6_prefix
    if directive.network is not None:
        address = directive.text.partition(":")[2]
        prefix = directive.network.prefixlen if "/" in address else None
        four, six = (prefix, None) if directive.network.version == 4 else (None, prefix)
    return types.Directive(
        Qualifier=directive.qualifier if directive.qualifier != "+" else "",
        Mechanism=directive.mechanism,
        DomainSpec=directive.domain.text if directive.domain is not None else "",
        IPstr=address.partition("/")[0],
        IP4CIDRLen=four,
        IP6CIDRLen=six,
    )


async def spf(check: Check, result: types.SPFCheckResult) -> None:
    """Whether our addresses may send for the domain, and for the host."""
    ips = smtp_ips(check.static)
    if not ips:
        result.Warnings.append(
            "No addresses are configured that SPF records could be checked with: name the public "
            'addresses in listener "public" of mox.conf instead of 0.0.0.0 and ::, or in NATIPs.'
        )
    domain = dnsrecords.txt_strings(dnsrecords.spf_text(check.static))
    result.Instructions.append(
        f"Have TXT records like these in DNS:\n\n\t{check.name}. TXT {domain}\n"
        f'\t{check.host}. TXT "v=spf1 a -all"\n\n'
        "Add the addresses of others that send mail of the domain. ~all says that mail from "
        "elsewhere is suspect (softfail), -all that it is to be refused, ?all says nothing."
    )
    host = check.static.dns_hostname
    (result.DomainTXT, result.DomainRecord), (result.HostTXT, result.HostRecord) = await together(
        [
            _spf(check, result, "domain", check.domain.domain, ips),
            _spf(check, result, "host", host, ips),
        ]
    )


async def _spf(
    check: Check, result: types.SPFCheckResult, kind: str, domain: Domain, ips: list[str]
) -> tuple[str, types.SPFRecord | None]:
    try:
        text, record, _ = await spflib.lookup(check.resolver, domain)
    except spflib.RecordError as exc:
        result.Errors.append(f"SPF record of {kind} {domain}: {exc}")
        return await _texts(check, domain), None
    except (spflib.NoRecord, DNSError) as exc:
        result.Errors.append(f"Looking up SPF record of {kind} {domain}: {exc}")
        return "", None
    hello = IPDomain(domain=domain)

    async def one(ip: str) -> None:
        found = await spflib.check(
            check.resolver,
            clock=check.reactor,
            remote_ip=ip,
            mail_from=Path("postmaster", hello),
            hello=hello,
            record=record,
        )
        if found.status != spflib.PASS:
            why = found.problem or found.explanation or f"mechanism {found.mechanism}"
            result.Errors.append(
                f"Address {ip} does not pass SPF of {kind} {domain}: {found.status} ({why})"
            )

    await together(one(ip) for ip in ips)
    return text, spf_json(record)


async def _texts(check: Check, domain: Domain) -> str:
    """The SPF record of a domain although it is none."""
    try:
        answer = await dns.txt(check.resolver, domain.ascii)
    except DNSError:
        return ""
    return next((text for text in answer if is_record(text)), "")


# -- DKIM -------------------------------------------------------------------------------------


def dkim_json(record: KeyRecord) -> types.Record:
    """A DKIM record as in the API."""
    key = record.public_key
    data = b""
    if isinstance(key, Ed25519PublicKey):
        data = key.public_bytes(Encoding.Raw, PublicFormat.Raw)
    elif key is not None:
        data = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return types.Record(
        Version="DKIM1",
        Hashes=list(record.hashes or ()),
        Key=record.kind,
        Notes=record.notes,
        Pubkey=data,
        Services=list(record.services),
        Flags=list(record.flags),
    )


async def dkim(check: Check, result: types.DKIMCheckResult) -> None:
    """Whether the public keys of selectors are published."""
    selectors = sorted(check.domain.dkim.selectors.items())
    if not selectors:
        result.Errors.append(
            "No DKIM selectors are configured: add one, and its DNS record will be shown here."
        )
        return
    names = {name: config.dns_name.ascii or name for name, config in selectors}
    missing = await together(_dkim(check, result, names[name], name) for name, _ in selectors)
    result.Records.sort(key=lambda record: record.Selector)
    if any(missing):
        records = "".join(
            f"\t{names[name]}._domainkey.{check.name}. TXT "
            f"{dnsrecords.txt_strings(check.dkim_texts[name])}\n"
            for (name, _), absent in zip(selectors, missing, strict=True)
            if absent
        )
        result.Instructions.append(
            "Have these TXT records in DNS, so that others can verify the signatures of our mail. "
            "A text in several pieces is one text; a web form wants it without quotes and "
            "parentheses.\n\n" + records
        )


async def _dkim(
    check: Check, result: types.DKIMCheckResult, selector: str, name: str
) -> bool:
    """Check a selector; returns whether its record is to be published."""
    try:
        answer = await dns.txt(check.resolver, f"{selector}._domainkey.{check.name}")
    except NotFound:
        result.Errors.append(f"No DKIM record for selector {name!r}.")
        return True
    except DNSError as exc:
        result.Errors.append(f"Looking up DKIM record of selector {name!r}: {exc}")
        return True
    text = answer.records[0]
    try:
        record, _ = choose_record(list(answer.records), answer.authentic)
    except KeyLookupError as exc:
        result.Records.append(types.DKIMRecord(name, text, None))
        result.Errors.append(f"DKIM record of selector {name!r}: {exc}")
        return True
    found = dkim_json(record)
    result.Records.append(types.DKIMRecord(name, text, found))
    expected = base64.b64decode(check.dkim_texts[name].rpartition(";p=")[2])
    if found.Pubkey != expected:
        result.Errors.append(
            f"The DKIM record of selector {name!r} is about another key than the configured one."
        )
        return True
    return False


# -- DMARC ------------------------------------------------------------------------------------


def dmarc_json(record: DMARCRecord) -> types.DMARCRecord:
    """A DMARC record as in the API."""
    return types.DMARCRecord(
        Version="DMARC1",
        Policy=types.DMARCPolicy(record.policy),
        SubdomainPolicy=types.DMARCPolicy(record.subdomain_policy),
        AggregateReportAddresses=[_uri(each) for each in record.rua],
        FailureReportAddresses=[_uri(each) for each in record.ruf],
        ADKIM=types.Align(record.adkim),
        ASPF=types.Align(record.aspf),
        AggregateReportingInterval=min(record.interval, _INT32_MAX),
        FailureReportingOptions=list(record.failure_options),
        ReportingFormat=list(record.formats),
        Percentage=record.percent,
    )


def _uri(uri: ReportURI) -> types.URI:
    size, unit = uri.max_size, ""
    for each in "kmgt":
        if not size or size % 1024:
            break
        size, unit = size // 1024, each
    return types.URI(uri.uri, min(size, 2**64 - 1), unit)


async def dmarc(check: Check, result: types.DMARCCheckResult) -> None:
    """Whether the domain has a DMARC policy, with reports to us."""
    config = check.domain.dmarc
    text = dnsrecords.txt_strings(dnsrecords.dmarc_text(check.domain))
    if config is None:
        result.Instructions.append(
            "Configure an address for DMARC reports, in section DMARC of the domain."
        )
    result.Instructions.append(
        f"Have a TXT record like this in DNS:\n\n\t_dmarc.{check.name}. TXT {text}\n\n"
        "To try first, take p=none instead of p=reject: reports come, and mail is treated as "
        "without a policy. rua= is where daily reports go, which are read and summarized."
    )
    found = await dmarclib.lookup(check.resolver, check.domain.domain)
    result.Domain = found.domain.name
    result.TXT = found.text
    record = found.record
    if record is None:
        if found.status in ("temperror", "permerror"):
            result.Errors.append(f"DMARC record of {found.domain}: {found.reason}")
        else:
            result.Errors.append(f"There is no DMARC record ({found.reason}).")
    else:
        result.Record = dmarc_json(record)
        if record.policy == "none":
            result.Warnings.append(
                "The DMARC policy is for trying only (p=none): change it to p=reject or "
                "p=quarantine when reports show that all is well."
            )
        if record.subdomain_policy == "none":
            result.Warnings.append(
                "The DMARC policy for subdomains is for trying only (sp=none): change it to "
                "sp=reject or sp=quarantine when reports show that all is well."
            )
        if not record.rua:
            result.Warnings.append("The DMARC record does not ask for reports (rua).")
    if config is None:
        return
    if record is not None:
        wanted = dnsrecords.mailto(config.parsed_localpart, config.dns_domain).lower()
        if not any(each.uri.lower() == wanted for each in record.rua):
            result.Errors.append(
                f"The configured address for reports is not in the DMARC record: {wanted}"
            )
    await _external(check, result, config.dns_domain)


async def _external(check: Check, result: types.DMARCCheckResult, taker: Domain) -> None:
    """Whether a domain of somebody else takes reports (RFC 7489 7.1)."""
    about = check.domain.domain
    if dmarclib.organizational(about) == dmarclib.organizational(taker):
        return
    result.Instructions.append(
        f"Have this TXT record in DNS of {taker}, so that reports about {about} may go there:\n\n"
        f'\t{about.ascii}._report._dmarc.{taker.ascii}. TXT "v=DMARC1;"'
    )
    allowed = await permission(check.resolver, about, taker)
    if allowed.status == "temperror":
        result.Errors.append(f"Whether {taker} takes reports is not known: {allowed.reason}")
    elif allowed.status == "none":
        result.Errors.append(f"{taker} does not take reports about {about}: {allowed.reason}")
