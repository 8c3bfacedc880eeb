"""Reports on how TLS with other domains and their hosts went (RFC 8460)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from moxtw import metrics
from moxtw.authn.dkimsign import signer_for
from moxtw.config.lookup import ConfigView
from moxtw.dns.resolver import DNSError, Resolver, TemporaryError, for_pkg
from moxtw.log import Logger
from moxtw.mail.dates import format_date
from moxtw.mail.domain import Domain, DomainError, parse_domain
from moxtw.reports.outgoing import (
    Letter,
    Outbox,
    Signer,
    Taker,
    pack,
    parse_mailto,
    report_subject,
)
from moxtw.reports.pace import DAY, day_of, start_of
from moxtw.store import tlsresults
from moxtw.store.db import Store
from moxtw.store.tlsresults import TLSResult
from moxtw.tlspolicy.tlsreport import Report, encode_report
from moxtw.tlspolicy.tlsrpt import RecordError, Result, lookup, merged
from moxtw.version import VERSION

log = Logger("tlsrptsend")

KEEP: Final = 2 * DAY
"""Seconds that results are kept at most after their day."""

MAX_TAKERS: Final = 20


@dataclass(frozen=True, slots=True)
class Due:
    """A report that is due: the results of a day for a recipient domain, or for a host."""

    day: str
    domain: str
    host: bool
    results: tuple[TLSResult, ...]


class _Later(Exception):
    """Where a report goes cannot be known for now."""


class TLSReports:
    """Makes the reports that are due, and queues them."""

    def __init__(
        self, store: Store, config: ConfigView, resolver: Resolver, outbox: Outbox
    ) -> None:
        self._store = store
        self._config = config
        self._resolver = for_pkg(resolver, "tlsrpt")
        self._outbox = outbox

    def _signer(self) -> Signer | None:
        return signer_for(self._config, self._config.static.dns_hostname)

    async def due(self, now: int) -> list[Due]:
        """What is to be reported of days before this one: to recipient domains, then to hosts.

        What is too old is dropped. Without a domain that signs, nobody would believe a report:
        then all is dropped.
        """
        oldest = day_of(now - KEEP)
        today = day_of(now)
        if self._signer() is None:
            removed = await self._store.write(lambda tx: tlsresults.remove_before(tx, today))
            if removed:
                log.info("no domain signs tls reports: dropping results", count=removed)
            return []
        await self._store.write(lambda tx: tlsresults.remove_before(tx, oldest))
        results = await self._store.read(lambda tx: tlsresults.unsent(tx, today))
        by_domain: dict[tuple[str, str], list[TLSResult]] = {}
        by_host: dict[tuple[str, str], list[TLSResult]] = {}
        domains = {result.recipient_domain for result in results}
        for result in results:
            if not result.sent_to_recipient_domain:
                by_domain.setdefault((result.day, result.recipient_domain), []).append(result)
            if (
                result.is_host
                and not result.sent_to_policy_domain
                and result.policy_domain not in domains
            ):
                by_host.setdefault((result.day, result.policy_domain), []).append(result)
        return [
            Due(day, domain, host, tuple(found))
            for groups, host in ((by_domain, False), (by_host, True))
            for (day, domain), found in groups.items()
        ]

    async def send(self, due: Due) -> bool:
        """Report to a domain; whether something was queued.

        When it cannot be known for now whether it wants reports, results stay.
        """
        signer = self._signer()
        if signer is None:
            return False
        due = replace(due, results=await self._fresh(due))
        if not due.results:
            return False
        try:
            addresses = await self._addresses(due.domain)
        except _Later as exc:
            log.info("tlsrpt record for report, next time", domain=due.domain, err=exc)
            return False
        results = due.results
        if due.host:
            # Domains that are told at the same addresses know already.
            results = tuple(
                each
                for each in results
                if not addresses or set(each.recipient_domain_addresses) != set(addresses)
            )
        await self._mark(due, addresses)
        policies = tuple(_policies(results, due.host))
        # A day on which only reports were sent would bring reports about those.
        worth = any(each.send_report for each in results) and (
            self._config.static.outgoing_tls_reports_for_all_success
            or any(policy.failure or policy.failures for policy in policies)
        )
        takers = [
            Taker(address)
            for uri in addresses[:MAX_TAKERS]
            if (address := parse_mailto(uri)) is not None
        ]
        if not worth or not takers:
            return False
        return await self._report(due, policies, takers, signer)

    async def _fresh(self, due: Due) -> tuple[TLSResult, ...]:
        """The results as they are now, with the addresses that were told meanwhile."""
        found = await self._store.read(
            lambda tx: tlsresults.of_domain(tx, due.domain, recipient=not due.host)
        )
        wanted = {result.id for result in due.results}
        return tuple(result for result in found if result.id in wanted)

    async def _addresses(self, domain: str) -> tuple[str, ...]:
        """The URIs that a domain wants reports at; none if it wants none. Raises _Later."""
        try:
            record, _ = await lookup(self._resolver, domain)
        except TemporaryError as exc:
            raise _Later(str(exc)) from None
        except (RecordError, DNSError) as exc:
            log.info("tlsrpt record", domain=domain, err=exc)
            return ()
        return tuple(uri for uris in record.uris for uri in uris)

    async def _mark(self, due: Due, addresses: Sequence[str]) -> None:
        """Note that the domain is told, before it is: better once too little than over and over."""
        ids = [result.id for result in due.results]
        if due.host:
            await self._store.write(lambda tx: tlsresults.sent_to_policy(tx, ids))
        else:
            await self._store.write(lambda tx: tlsresults.sent_to_recipient(tx, ids, addresses))

    async def _report(
        self, due: Due, policies: tuple[Result, ...], takers: list[Taker], signer: Signer
    ) -> bool:
        submitter = signer[0]
        domain = _domain(due.domain)
        begin = start_of(due.day)
        end = begin + DAY - 1
        report_id = f"{due.day}.{domain.ascii}@{submitter.ascii}"
        report = Report(
            submitter.ascii, begin, end, f"postmaster@{submitter.ascii}", report_id, policies
        )
        packed = await self._store.run(lambda: pack(encode_report(report)))
        letter = Letter(
            "tls",
            submitter,
            report_subject(domain, submitter, report_id),
            _text(domain, submitter, begin, end),
            headers=(
                ("TLS-Report-Domain", domain.ascii),
                ("TLS-Report-Submitter", submitter.ascii),
                # RFC 8689 5: what is wrong with TLS must not keep the report away.
                ("TLS-Required", "No"),
            ),
            attachment=(
                f"{submitter.ascii}!{domain.ascii}!{begin}!{end}.json.gz",
                "application/tlsrpt+gzip",
                packed,
            ),
            report_type="tlsrpt",
            signed=("TLS-Report-Domain", "TLS-Report-Submitter", "TLS-Required"),
            require_tls=False,
        )
        try:
            queued = await self._outbox.send(letter, takers, signer)
        except Exception:
            metrics.tlsrptsend_report_error_total.inc()
            raise
        metrics.tlsrptsend_report_queued_total.inc(queued.count)
        log.info(
            "tls report",
            domain=due.domain,
            day=due.day,
            host=due.host,
            queued=queued.count,
            suppressed=len(queued.suppressed),
        )
        return queued.count > 0


def _policies(results: Iterable[TLSResult], host: bool) -> list[Result]:
    """The results of a report; one to a host is about the recipient domains behind it."""
    found: list[Result] = []
    for each in results:
        for result in each.results:
            if host:
                result = replace(
                    result,
                    domain=each.recipient_domain,
                    mx_hosts=(each.policy_domain,),
                    failures=dict(result.failures),
                )
            found.append(result)
    return merged(found)


def _domain(name: str) -> Domain:
    try:
        return parse_domain(name, strict=False)
    except DomainError:
        # It was looked up and sent to under this name.
        return Domain(name)


def _text(domain: Domain, submitter: Domain, begin: int, end: int) -> str:
    return (
        f"Attached is a TLS report with a summary of connection successes and failures during\n"
        f"attempts to securely deliver messages to your mail servers, including details about\n"
        f"errors encountered.\n\n"
        f"Domain: {domain.name}\n"
        f"Submitter: {submitter.name}\n"
        f"Period: {format_date(begin * 1_000_000, 0)} - {format_date(end * 1_000_000, 0)}\n"
        f"Software: moxtw {VERSION}\n"
    )
