"""Commands that compare a domain's configuration with DNS."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from moxtw.cli.command import CommandError
from moxtw.cli.dns import make_resolver, run_async
from moxtw.cli.invocation import Invocation

if TYPE_CHECKING:
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
