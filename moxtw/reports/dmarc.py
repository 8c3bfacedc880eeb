"""Aggregate reports of DMARC to domains whose mail came here (RFC 7489 7.2)."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from moxtw import metrics
from moxtw.authn.dkimsign import signer_for
from moxtw.authn.dmarc import lookup_record, organizational
from moxtw.authn.dmarcpermit import permission
from moxtw.authn.dmarcrecord import DMARCRecord, ReportURI
from moxtw.authn.dmarcreport import Feedback, feedback_xml, merged
from moxtw.config.lookup import ConfigView
from moxtw.dns.resolver import Resolver
from moxtw.log import Logger
from moxtw.mail.address import Address
from moxtw.mail.dates import format_date
from moxtw.mail.domain import Domain, parse_domain
from moxtw.reports.outgoing import (
    Letter,
    Outbox,
    Taker,
    pack,
    parse_mailto,
    report_subject,
)
from moxtw.reports.pace import day_of, hour_of
from moxtw.store import dmarcdb
from moxtw.store.db import Store
from moxtw.version import VERSION

log = Logger("dmarcdb")

HOUR: Final = 3600
KEEP: Final = 48 * HOUR
"""Seconds that evaluations are kept at most."""

MAX_TAKERS: Final = 20
"""Addresses that one report goes to."""


@dataclass(slots=True)
class _Takers:
    """Who gets a report, why others do not, and whether some cannot be known for now."""

    takers: list[Taker]
    errors: list[str]
    temporary: bool = False


class DMARCReports:
    """Makes the reports that are due, and queues them."""

    def __init__(
        self, store: Store, config: ConfigView, resolver: Resolver, outbox: Outbox
    ) -> None:
        self._store = store
        self._config = config
        self._resolver = resolver
        self._outbox = outbox

    async def due(self, end: int) -> list[str]:
        """The domains that a report is due for at a whole hour, seconds since the epoch.

        What is too old is dropped, and what alone is not worth a report once that would be due.
        """
        hour = hour_of(end) or 24
        found = []
        await self._store.write(lambda tx: dmarcdb.remove_before(tx, (end - KEEP) * 1_000_000))
        for each in await self._store.read(lambda tx: dmarcdb.pending(tx, end * 1_000_000)):
            if not any(hour % interval == 0 for interval in each.hours):
                continue
            if each.send:
                found.append(each.domain)
            else:
                await self._remove(each.domain, end)
        return found

    async def _remove(self, domain: str, end: int) -> None:
        await self._store.write(
            lambda tx: dmarcdb.remove_evaluations(tx, domain, end * 1_000_000)
        )

    async def send(self, name: str, end: int) -> bool:
        """Report to a domain what was evaluated before `end`; whether something was queued.

        Evaluations go when they are reported, or when nobody wants them; they stay for the next
        time when that cannot be known now.
        """
        domain = parse_domain(name, strict=False)
        found = await lookup_record(self._resolver, domain)
        if found.status == "temperror":
            log.info("dmarc record for report, next time", domain=name, err=found.reason)
            return False
        if found.record is None:
            log.info("no dmarc record any more for report", domain=name, err=found.reason)
            await self._remove(name, end)
            return False
        takers = await self._takers(domain, found.record)
        if not takers.takers:
            if not takers.temporary:
                await self._remove(name, end)
            log.info("nobody for dmarc report", domain=name, errors="; ".join(takers.errors))
            return False
        evaluations = await self._store.read(
            lambda tx: dmarcdb.evaluations(tx, name, end * 1_000_000)
        )
        if not evaluations:
            return False
        queued = await self._report(domain, evaluations, takers, end)
        await self._remove(name, end)
        return queued

    # -- Who gets it -------------------------------------------------------------------

    async def _takers(self, domain: Domain, record: DMARCRecord) -> _Takers:
        result = _Takers([], [])
        addresses: set[str] = set()
        for uri in record.rua[:MAX_TAKERS]:
            address = parse_mailto(uri.uri)
            if address is None:
                result.errors.append(f"not a mailto address: {uri.uri}")
                continue
            for taker in await self._allowed(domain, address, uri, result):
                if taker.address.pack() not in addresses:
                    addresses.add(taker.address.pack())
                    result.takers.append(taker)
        return result

    async def _allowed(
        self, domain: Domain, address: Address, uri: ReportURI, result: _Takers
    ) -> Sequence[Taker]:
        """The address, or those that its domain names for it (RFC 7489 7.1)."""
        asked = [Taker(address, uri.max_size)]
        about = organizational(domain)
        if organizational(address.domain) == about:
            return asked
        found = await permission(self._resolver, about, address.domain)
        if found.status == "temperror":
            result.temporary = True
            result.errors.append(f"{address.pack()}: {found.reason}")
            return []
        if found.status != "pass":
            result.errors.append(f"{address.pack()} does not take reports: {found.reason}")
            return []
        named = [
            Taker(other, each.max_size)
            for record in found.records
            for each in record.rua[:MAX_TAKERS]
            if (other := parse_mailto(each.uri)) is not None
            and other.domain == address.domain
        ]
        return named or asked

    # -- The report --------------------------------------------------------------------

    async def _report(
        self,
        domain: Domain,
        evaluations: Sequence[dmarcdb.Evaluation],
        takers: _Takers,
        end: int,
    ) -> bool:
        hostname = self._config.static.dns_hostname
        newest = evaluations[-1]
        interval = newest.interval_hours * HOUR
        begin = end - interval
        while begin > evaluations[0].evaluated // 1_000_000:
            begin -= interval
        report_id = f"{day_of(end)}.{hour_of(end):02}.{uuid.uuid4().hex}"
        feedback = Feedback(
            org_name=hostname.ascii,
            email=f"postmaster@{hostname.ascii}",
            report_id=report_id,
            begin=begin,
            end=end - 1,
            published=newest.published,
            records=merged(each.row for each in evaluations),
            errors=tuple(takers.errors),
            version="1.0",
        )
        signer = signer_for(self._config, hostname)
        packed = await self._store.run(lambda: pack(feedback_xml(feedback)))
        name = f"{hostname.ascii}!{domain.ascii}!{begin}!{end - 1}.xml.gz"
        subject = report_subject(domain, hostname, report_id)
        letter = Letter(
            "dmarc",
            hostname,
            subject,
            _text(domain, hostname, begin, end),
            attachment=(name, "application/gzip", packed),
        )
        try:
            queued = await self._outbox.send(letter, takers.takers, signer)
            if not queued.count and queued.too_small:
                # RFC 7489 7.2.2: that there is a report that is too large for them.
                text = _error_text(
                    domain, hostname, report_id, end, queued.size, queued.too_small
                )
                short = Letter("dmarc", hostname, subject, text)
                all_sizes = [Taker(each.address) for each in queued.too_small]
                queued = await self._outbox.send(short, all_sizes, signer)
        except Exception:
            metrics.dmarcdb_report_error_total.inc()
            raise
        metrics.dmarcdb_report_queued_total.inc(queued.count)
        log.info(
            "dmarc report",
            domain=domain.name,
            evaluations=len(evaluations),
            queued=queued.count,
            suppressed=len(queued.suppressed),
            errors="; ".join(takers.errors),
        )
        return queued.count > 0


def _text(domain: Domain, hostname: Domain, begin: int, end: int) -> str:
    return (
        f"Attached is an aggregate DMARC report with results of evaluations of the DMARC policy\n"
        f"of the domain {domain.name}, for messages received by {hostname.name}.\n\n"
        f"Period: {_date(begin)} - {_date(end - 1)}\n"
        f"Software: moxtw {VERSION}\n"
    )


def _date(seconds: int) -> str:
    return format_date(seconds * 1_000_000, 0)


def _error_text(
    domain: Domain,
    hostname: Domain,
    report_id: str,
    end: int,
    size: int,
    takers: Sequence[Taker],
) -> str:
    """What RFC 7489 7.2.2 has in a report about a report that is too large."""
    lines: list[tuple[str, Any]] = [
        ("Report-Date", _date(end)),
        ("Report-Domain", domain.ascii),
        ("Report-ID", report_id),
        ("Report-Size", size),
        ("Submitter", hostname.ascii),
        *(("Submitting-URI", f"mailto:{each.address.pack(False)}") for each in takers),
    ]
    return "\n".join(f"{name}: {value}" for name, value in lines) + "\n"
