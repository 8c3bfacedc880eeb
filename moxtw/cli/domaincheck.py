"""Commands that compare a domain's configuration with DNS."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from moxtw.cli.command import CommandError
from moxtw.cli.dns import configured_roots, make_resolver, run_async
from moxtw.cli.invocation import Invocation
from moxtw.cli.output import clean

if TYPE_CHECKING:
    from moxtw.admin.check.types import Findings
    from moxtw.config.dynamic import ConfigDomain
    from moxtw.config.static import Static


def _configured(invocation: Invocation, static: Static) -> ConfigDomain:
    """The domain that the first argument names. Raises CommandError."""
    from moxtw.mail.domain import DomainError, parse_domain

    try:
        domain = parse_domain(invocation.args[0])
    except DomainError as exc:
        raise CommandError(f"domain {invocation.args[0]!r}: {exc}") from exc
    found = invocation.dynamic(static).domains.get(domain.name)
    if found is None:
        raise CommandError(f"domain {domain.name} is not configured")
    return found


def dnscheck(invocation: Invocation) -> int:
    """``moxtw config dnscheck``."""
    import msgspec

    from moxtw.admin.check import run
    from moxtw.admin.check.types import CheckResult
    from moxtw.net.certs import CertError

    static = invocation.static()
    domain = _configured(invocation, static)

    async def check(reactor: Any) -> CheckResult:
        prepared = run.prepare(
            static,
            domain,
            resolver=make_resolver(invocation, reactor),
            reactor=reactor,
            roots=configured_roots(static),
        )
        return await run.run(prepared)

    try:
        result = run_async(check)
    except (ValueError, TypeError, CertError) as exc:
        raise CommandError(str(exc)) from exc
    sections = [(name, getattr(result, name)) for name in run.SECTIONS]
    if invocation.switch("json"):
        invocation.print(msgspec.json.format(msgspec.json.encode(result), indent=2).decode())
    else:
        for name, section in sections:
            _print_section(invocation, name, section)
    return 1 if any(section.Errors for _, section in sections) else 0


def _print_section(invocation: Invocation, name: str, section: Findings) -> None:
    instructions = section.Instructions if invocation.switch("instructions") else []
    if not (section.Errors or section.Warnings or instructions):
        return
    invocation.print(f"# {name}")
    for kind, texts in (("error", section.Errors), ("warning", section.Warnings)):
        for text in texts:
            invocation.print(f"{kind}: {clean(text)}")
    for text in instructions:
        # Our own texts, in paragraphs, but names in them come from the configuration.
        invocation.print()
        for line in text.rstrip("\n").split("\n"):
            tabs = len(line) - len(line.lstrip("\t"))
            invocation.print("\t" * tabs + clean(line[tabs:]))
    invocation.print()


def dnsrecords(invocation: Invocation) -> None:
    """``moxtw config dnsrecords``."""
    from moxtw.admin import dnsrecords as records
    from moxtw.dns.resolver import DNSError

    static = invocation.static()
    domain = _configured(invocation, static)
    try:
        dnssec = run_async(
            lambda reactor: records.is_signed(make_resolver(invocation, reactor), domain.domain)
        )
    except DNSError as exc:
        invocation.warn(f"warning: whether the zone is signed is not known: {exc}")
        dnssec = False
    issuer, account = records.issuer_of(static)
    try:
        lines = records.zone_lines(
            static, domain, dnssec=dnssec, issuer=issuer, account_uri=account
        )
    except (ValueError, TypeError) as exc:
        raise CommandError(str(exc)) from exc
    if invocation.switch("json"):
        found = list(records.records_only(lines))
        invocation.print(json.dumps({"records": found, "dnssec": dnssec}, indent=2))
        return
    for line in lines:
        invocation.print(line)
