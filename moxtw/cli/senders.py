"""Commands that check who may send: SPF, names of addresses, DNS block lists."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moxtw.cli.command import CommandError, UsageError
from moxtw.cli.dns import make_resolver, run_async
from moxtw.cli.invocation import Invocation
from moxtw.cli.output import clean

if TYPE_CHECKING:
    from moxtw.authn.spfrecord import Record
    from moxtw.mail.domain import Domain


def domain_argument(text: str) -> Domain:
    """A domain name that was given as an argument. Raises UsageError."""
    from moxtw.mail.domain import DomainError, parse_domain

    try:
        return parse_domain(text, False, absolute=True)
    except DomainError as exc:
        raise UsageError(f"domain: {exc}") from exc


def _ip(text: str) -> str:
    import ipaddress

    try:
        return str(ipaddress.ip_address(text))
    except ValueError as exc:
        raise UsageError(str(exc)) from exc


def _show(invocation: Invocation, **fields: str) -> None:
    """Print what is not empty, a line each."""
    for name, text in fields.items():
        if text:
            invocation.print(f"{name}: {clean(text)}")


def _dnssec(authentic: bool) -> str:
    return "with" if authentic else "without"


def spf_check(invocation: Invocation) -> None:
    """``moxtw spf check``."""
    from moxtw.authn import spf
    from moxtw.mail.address import IPDomain, Path

    domain, ip = domain_argument(invocation.args[0]), _ip(invocation.args[1])
    hello = IPDomain(domain=domain)
    result = run_async(
        lambda reactor: spf.check(
            make_resolver(invocation, reactor),
            clock=reactor,
            remote_ip=ip,
            mail_from=Path("user", hello),
            hello=hello,
        )
    )
    _show(
        invocation,
        status=result.status,
        mechanism=result.mechanism,
        problem=result.problem,
        explanation=result.explanation,
        dnssec=_dnssec(result.authentic),
    )


def spf_lookup(invocation: Invocation) -> None:
    """``moxtw spf lookup``."""
    from moxtw.authn import spf
    from moxtw.dns.resolver import DNSError

    domain = domain_argument(invocation.args[0])
    try:
        text, record, authentic = run_async(
            lambda reactor: spf.lookup(make_resolver(invocation, reactor), domain)
        )
    except (spf.NoRecord, spf.RecordError, DNSError) as exc:
        raise CommandError(clean(str(exc))) from exc
    invocation.print(f"{clean(text)}\n({_dnssec(authentic)} DNSSEC)\n")
    _print_record(invocation, record)


def spf_parse(invocation: Invocation) -> None:
    """``moxtw spf parse``."""
    from moxtw.authn.spfrecord import RecordError, parse_record

    try:
        record = parse_record(invocation.args[0])
    except RecordError as exc:
        raise CommandError(clean(str(exc))) from exc
    _print_record(invocation, record)


_QUALIFIERS = {"+": "pass", "-": "fail", "~": "softfail", "?": "neutral"}


def _print_record(invocation: Invocation, record: Record) -> None:
    """What a record says, a line for each term."""
    for directive in record.directives:
        invocation.print(f"{_QUALIFIERS[directive.qualifier]}: {directive.text}")
    if record.redirect is not None:
        invocation.print(f"otherwise as: {record.redirect}")
    elif not any(directive.mechanism == "all" for directive in record.directives):
        invocation.print("otherwise: neutral")
    if record.exp is not None:
        invocation.print(f"explanation of fail at: {record.exp}")
    for modifier in record.others:
        invocation.print(f"unknown modifier: {modifier}")


def iprev(invocation: Invocation) -> None:
    """``moxtw iprev``."""
    from moxtw.authn import iprev

    ip = _ip(invocation.args[0])
    result = run_async(
        lambda reactor: iprev.check(make_resolver(invocation, reactor), ip, clock=reactor)
    )
    _show(
        invocation,
        status=result.status,
        name=result.name,
        names=" ".join(result.names),
        problem=result.problem,
        dnssec=_dnssec(result.authentic),
    )


def dnsbl_check(invocation: Invocation) -> None:
    """``moxtw dnsbl check``."""
    from moxtw.authn import dnsbl

    zone, ip = domain_argument(invocation.args[0]), _ip(invocation.args[1])
    result = run_async(
        lambda reactor: dnsbl.lookup(make_resolver(invocation, reactor), zone, ip, clock=reactor)
    )
    meaning = {"pass": "not listed", "fail": "listed", "temperror": "not known"}
    _show(
        invocation,
        status=f"{result.status} ({meaning[result.status]})",
        codes=" ".join(result.codes),
        explanation=result.explanation,
        problem=result.problem,
    )


def dnsbl_check_health(invocation: Invocation) -> None:
    """``moxtw dnsbl checkhealth``."""
    from moxtw.authn import dnsbl

    zone = domain_argument(invocation.args[0])

    async def check(reactor: object) -> tuple[dnsbl.Health, dnsbl.Health]:
        resolver = make_resolver(invocation, reactor)
        return (
            await dnsbl.check_health(resolver, zone, family=4, clock=reactor),
            await dnsbl.check_health(resolver, zone, family=6, clock=reactor),
        )

    four, six = run_async(check)
    if four.problem:
        raise CommandError(clean(four.problem))
    invocation.print("healthy")
    invocation.print(f"not for IPv6: {clean(six.problem)}" if six.problem else "healthy for IPv6")
