"""All checks of a domain, at the same time, within a bound of time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from twisted.internet.defer import Deferred, TimeoutError

from moxtw.admin import dnsrecords, hostkeys, ownips
from moxtw.admin.check import clients, hosts, policies, senders
from moxtw.admin.check.base import Check, together
from moxtw.admin.check.types import CheckResult, Findings
from moxtw.admin.context import AdminContext, Caller, OperationError, log
from moxtw.admin.domains import get
from moxtw.config.dynamic import ConfigDomain
from moxtw.config.static import Static
from moxtw.dns.resolver import Resolver
from moxtw.net.tlsclient import Roots

TIMEOUT: Final = 30.0
"""Seconds for all checks."""

Section = Callable[[Check, Any], Awaitable[None]]

SECTIONS: Final[dict[str, Section]] = {
    "DNSSEC": hosts.dnssec,
    "IPRev": hosts.iprev,
    "MX": hosts.mx,
    "TLS": hosts.tls,
    "DANE": hosts.dane_records,
    "SPF": senders.spf,
    "DKIM": senders.dkim,
    "DMARC": senders.dmarc,
    "HostTLSRPT": policies.host_tlsrpt,
    "DomainTLSRPT": policies.domain_tlsrpt,
    "MTASTS": policies.mtasts,
    "SRVConf": clients.srv,
    "Autoconf": clients.autoconf,
    "Autodiscover": clients.autodiscover,
}
"""The sections of the result, in order, with what fills them."""


def prepare(
    static: Static,
    domain: ConfigDomain,
    *,
    resolver: Resolver,
    reactor: Any,
    roots: Roots,
    smtp_port: int = 25,
    https_port: int = 443,
) -> Check:
    """Gather what checks compare with. Reads files. Raises OSError, ValueError, TypeError."""
    return Check(
        static=static,
        domain=domain,
        resolver=resolver,
        reactor=reactor,
        roots=roots,
        our_ips=frozenset(ownips.listen_ips(static)),
        nat=ownips.behind_nat(static),
        unknown_nat=ownips.behind_unknown_nat(static),
        host_tlsa={
            name: hostkeys.tlsa_records(static, listener)
            for name, listener in static.listeners.items()
        },
        dkim_texts={
            name: dnsrecords.dkim_text(static, selector)
            for name, selector in domain.dkim.selectors.items()
        },
        smtp_port=smtp_port,
        https_port=https_port,
    )


async def run(check: Check) -> CheckResult:
    """Check a domain. Raises nothing: what goes wrong is an error in a section."""
    result = CheckResult(check.domain.domain.name)

    async def section(name: str, fill: Section) -> None:
        found: Findings = getattr(result, name)

        async def work() -> None:
            await fill(check, found)

        try:
            await within(check.reactor, TIMEOUT, Deferred.fromCoroutine(work()))
        except TimeoutError:
            found.Errors.append(f"The check was not done within {TIMEOUT:g} seconds.")
        except Exception as exc:  # noqa: BLE001 - the other sections count
            log.failure("domain check", exc, section=name, domain=check.name)
            found.Errors.append("The check failed for an internal reason, see the log.")

    await together(section(name, fill) for name, fill in SECTIONS.items())
    return result


def within(clock: Any, seconds: float, work: Deferred[None]) -> Deferred[None]:
    """`work`, or TimeoutError after some time, also if `work` does not mind being cancelled."""
    done: Deferred[None] = Deferred()

    def late() -> None:
        done.errback(TimeoutError())
        work.cancel()

    timer = clock.callLater(seconds, late)

    def end(result: Any) -> None:
        if not done.called:
            timer.cancel()
            done.callback(result)  # A Failure makes it fail.

    work.addBoth(end)
    return done


async def check_domain(ctx: AdminContext, caller: Caller, name: str) -> CheckResult:
    """Check a configured domain."""
    domain, static = get(ctx, name), ctx.config.static
    resolver, roots = ctx.resolver, ctx.roots
    if resolver is None or roots is None:
        raise OperationError("server", "this server looks nothing up")

    def work() -> Check:
        return prepare(static, domain, resolver=resolver, reactor=ctx.clock, roots=roots)

    try:
        check = await ctx.store.run(work)
    except (OSError, ValueError, TypeError) as exc:
        log.error("preparing domain check", domain=domain.domain, err=exc)
        raise OperationError("server", f"preparing the check: {exc}") from exc
    return await run(check)
