"""Operations on reports about DMARC and TLS: those received, and what is to be reported."""

from __future__ import annotations

import re
from typing import Final

from moxtw.admin.context import AdminContext, Caller, not_found, user_error
from moxtw.authn.dmarcreport import Summary
from moxtw.dns.resolver import DNSError
from moxtw.mail.address import AddressError, parse_address
from moxtw.mail.domain import Domain, DomainError, parse_domain
from moxtw.store import dmarcdb, mtastsdb, reportsuppressions, tlsreportsdb, tlsresults
from moxtw.store.reportsuppressions import AlreadySuppressed, Kind, ReportSuppression
from moxtw.store.tlsresults import TLSResult
from moxtw.tlspolicy import tlsrpt
from moxtw.tlspolicy.tlsrpt import Record, RecordError

MAX_COMMENT: Final = 1000


def domain_of(text: str) -> Domain:
    """A domain that was given. Raises OperationError."""
    try:
        return parse_domain(text)
    except DomainError as exc:
        raise user_error(f"domain {text[:100]!r}: {exc}") from exc


def _name(text: str) -> str:
    return domain_of(text).name if text else ""


# -- Received ------------------------------------------------------------------------------


async def dmarc_reports(
    ctx: AdminContext, caller: Caller, start: int, end: int, domain: str
) -> list[dmarcdb.StoredFeedback]:
    """DMARC reports that end in [start, end), of a domain, or of all for an empty one."""
    name = _name(domain)
    return await ctx.store.read(lambda tx: dmarcdb.reports(tx, start, end, name))


async def dmarc_report(
    ctx: AdminContext, caller: Caller, domain: str, report_id: int
) -> dmarcdb.StoredFeedback:
    """One DMARC report."""
    name = _name(domain)
    found = await ctx.store.read(lambda tx: dmarcdb.report(tx, name, report_id))
    if found is None:
        raise not_found("no such report")
    return found


async def dmarc_summaries(
    ctx: AdminContext, caller: Caller, start: int, end: int, domain: str
) -> dict[str, Summary]:
    """Counts of messages in DMARC reports, by domain."""
    name = _name(domain)
    return await ctx.store.read(lambda tx: dmarcdb.summaries(tx, start, end, name))


async def tls_reports(
    ctx: AdminContext, caller: Caller, start: int, end: int, domain: str
) -> list[tlsreportsdb.StoredReport]:
    """TLS reports that end in [start, end), of a domain, or of all for an empty one."""
    name = _name(domain)
    return await ctx.store.read(lambda tx: tlsreportsdb.reports(tx, start, end, name))


async def tls_report(
    ctx: AdminContext, caller: Caller, domain: str, report_id: int
) -> tlsreportsdb.StoredReport:
    """One TLS report."""
    name = _name(domain)
    found = await ctx.store.read(lambda tx: tlsreportsdb.report(tx, name, report_id))
    if found is None:
        raise not_found("no such report")
    return found


async def tls_summaries(
    ctx: AdminContext, caller: Caller, start: int, end: int, domain: str
) -> list[tlsreportsdb.TLSSummary]:
    """Counts of sessions in TLS reports, by domain."""
    name = _name(domain)
    return await ctx.store.read(lambda tx: tlsreportsdb.summaries(tx, start, end, name))


# -- To be reported ------------------------------------------------------------------------


async def evaluation_stats(
    ctx: AdminContext, caller: Caller
) -> list[dmarcdb.EvaluationStat]:
    """DMARC evaluations that are to be reported, by policy domain."""
    return await ctx.store.read(dmarcdb.stats)


async def evaluations(
    ctx: AdminContext, caller: Caller, domain: str
) -> tuple[Domain, list[dmarcdb.Evaluation]]:
    """Those of a policy domain."""
    parsed = domain_of(domain)
    return parsed, await ctx.store.read(lambda tx: dmarcdb.evaluations(tx, parsed.name))


async def remove_evaluations(ctx: AdminContext, caller: Caller, domain: str) -> None:
    """Forget those of a policy domain: they are not reported."""
    name = domain_of(domain).name
    count = await ctx.store.write(lambda tx: dmarcdb.remove_evaluations(tx, name))
    ctx.done(caller, "dmarc evaluations removed", domain=name, count=count)


async def tls_results(ctx: AdminContext, caller: Caller) -> list[TLSResult]:
    """Results of TLS that are to be reported, latest days first."""
    return await ctx.store.read(tlsresults.list_all)


async def tls_results_of(
    ctx: AdminContext, caller: Caller, domain: str, *, recipient: bool
) -> tuple[Domain, list[TLSResult]]:
    """Those of a recipient domain, or of a policy domain."""
    parsed = domain_of(domain)
    return parsed, await ctx.store.read(
        lambda tx: tlsresults.of_domain(tx, parsed.ascii, recipient=recipient)
    )


async def remove_tls_results(
    ctx: AdminContext, caller: Caller, domain: str, day: str, *, recipient: bool
) -> None:
    """Forget a day's results."""
    name = domain_of(domain).ascii
    if not re.fullmatch(r"[0-9]{8}", day):
        raise user_error(f"bad day {day[:20]!r}, need a form like 20261231")
    count = await ctx.store.write(
        lambda tx: tlsresults.remove(tx, name, day, recipient=recipient)
    )
    ctx.done(caller, "tls results removed", domain=name, day=day, count=count)


async def lookup_tlsrpt(
    ctx: AdminContext, caller: Caller, domain: str
) -> tuple[Record | None, str, str]:
    """The TLSRPT record of a domain, its text, and what is wrong with it."""
    name = domain_of(domain).ascii
    assert ctx.resolver is not None
    try:
        record, text = await tlsrpt.lookup(ctx.resolver, name)
    except RecordError as exc:
        return None, exc.text, str(exc)
    except DNSError as exc:
        return None, "", str(exc)
    return record, text, ""


async def mtasts_policies(
    ctx: AdminContext, caller: Caller
) -> list[mtastsdb.PolicyRecord]:
    """The MTA-STS policies of others that are kept."""
    return await ctx.store.read(mtastsdb.list_all)


# -- Addresses that get none ---------------------------------------------------------------


async def suppressions(
    ctx: AdminContext, caller: Caller, kind: Kind
) -> list[ReportSuppression]:
    """Addresses that no reports are sent to."""
    return await ctx.store.read(lambda tx: reportsuppressions.listed(tx, kind))


async def suppress(
    ctx: AdminContext, caller: Caller, kind: Kind, address: str, until: int, comment: str
) -> None:
    """Send no reports to an address until a time."""
    try:
        packed = parse_address(address).pack()
    except AddressError as exc:
        raise user_error(f"address {address[:100]!r}: {exc}") from exc
    if len(comment) > MAX_COMMENT:
        raise user_error("comment is too long")
    try:
        await ctx.store.write(
            lambda tx: reportsuppressions.add(tx, kind, packed, until, comment)
        )
    except AlreadySuppressed as exc:
        raise user_error(str(exc)) from exc
    ctx.done(caller, "address suppressed for reports", kind=kind, address=packed)


async def unsuppress(ctx: AdminContext, caller: Caller, kind: Kind, suppression_id: int) -> None:
    """Send reports to an address again."""
    if not await ctx.store.write(
        lambda tx: reportsuppressions.remove(tx, kind, suppression_id)
    ):
        raise not_found("no such suppressed address")
    ctx.done(caller, "address for reports suppressed no more", kind=kind, id=suppression_id)


async def extend_suppression(
    ctx: AdminContext, caller: Caller, kind: Kind, suppression_id: int, until: int
) -> None:
    """Change until when an address gets no reports."""
    if not await ctx.store.write(
        lambda tx: reportsuppressions.extend(tx, kind, suppression_id, until)
    ):
        raise not_found("no such suppressed address")
    ctx.done(caller, "suppression of reports extended", kind=kind, id=suppression_id)
