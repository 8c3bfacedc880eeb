"""Reports of others on how TLS with our domains and hosts went (RFC 8460)."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import bindparam

from moxtw.store.schema_reports import tls_reports
from moxtw.store.tx import Statement, Tx
from moxtw.tlspolicy.tlsreport import Report, encode_report, parse_report

_SECOND: Final = 1_000_000
_R = tls_reports.c
_HAS: Final = Statement(
    sa.select(_R.id).where(
        _R.domain == bindparam("domain"),
        _R.from_domain == bindparam("from_domain"),
        _R.organization == bindparam("organization"),
        _R.report_id == bindparam("report_id"),
        _R.begin_time == bindparam("begin"),
    )
)
_ADD: Final = Statement(
    tls_reports.insert().values(
        domain=bindparam("domain"),
        from_domain=bindparam("from_domain"),
        mail_from=bindparam("mail_from"),
        host_report=bindparam("host"),
        received=bindparam("now"),
        begin_time=bindparam("begin"),
        end_time=bindparam("end"),
        organization=bindparam("organization"),
        report_id=bindparam("report_id"),
        success=bindparam("success"),
        failure=bindparam("failure"),
        types=bindparam("types"),
        report=bindparam("report"),
    )
)
_COLUMNS: Final = (_R.id, _R.domain, _R.from_domain, _R.mail_from, _R.host_report, _R.report)
_IN_TIME: Final = (_R.end_time >= bindparam("start"), _R.end_time < bindparam("end"))
_OF_DOMAIN: Final = _R.domain == bindparam("domain")
_LIST: Final = {
    False: Statement(sa.select(*_COLUMNS).where(*_IN_TIME).order_by(_R.end_time.desc(), _R.id)),
    True: Statement(
        sa.select(*_COLUMNS).where(_OF_DOMAIN, *_IN_TIME).order_by(_R.end_time.desc(), _R.id)
    ),
}
_GET: Final = Statement(
    sa.select(*_COLUMNS).where(_R.id == bindparam("i"), _R.domain == bindparam("domain"))
)
_COUNTS: Final = (_R.domain, _R.success, _R.failure, _R.types)
_SUMMARIES: Final = {
    False: Statement(sa.select(*_COUNTS).where(*_IN_TIME)),
    True: Statement(sa.select(*_COUNTS).where(_OF_DOMAIN, *_IN_TIME)),
}


@dataclass(frozen=True, slots=True)
class StoredReport:
    """A report about a domain of ours, or about our host (`host_report`)."""

    id: int
    domain: str
    from_domain: str
    mail_from: str
    host_report: bool
    report: Report


@dataclass(slots=True)
class TLSSummary:
    """Sessions with a domain, and the failures by type."""

    domain: str
    success: int
    failure: int
    types: dict[str, int]


def add(
    tx: Tx, report: Report, domain: str, *, from_domain: str, mail_from: str, host: bool
) -> bool:
    """Keep a report about a domain; whether it was new.

    The report holds only what is about the domain, so that counts are of that.
    """
    key: dict[str, Any] = {
        "domain": domain,
        "from_domain": from_domain,
        "organization": report.organization,
        "report_id": report.report_id,
        "begin": report.start * _SECOND,
    }
    if tx.one(_HAS, **key) is not None:
        return False
    tx.run(
        _ADD,
        **key,
        mail_from=mail_from,
        host=int(host),
        now=tx.now,
        end=report.end * _SECOND,
        success=report.success,
        failure=report.failure,
        types=json.dumps(report.types()),
        report=encode_report(report).decode(),
    )
    return True


def _stored(row: tuple[Any, ...]) -> StoredReport:
    return StoredReport(
        row[0], row[1], row[2], row[3], bool(row[4]), parse_report(row[5].encode())
    )


def reports(tx: Tx, start: int, end: int, domain: str = "") -> list[StoredReport]:
    """Reports that end in [start, end), the latest first; of one domain, or all."""
    more = {"domain": domain} if domain else {}
    return [_stored(row) for row in tx.all(_LIST[bool(domain)], start=start, end=end, **more)]


def report(tx: Tx, domain: str, report_id: int) -> StoredReport | None:
    """One report."""
    row = tx.one(_GET, i=report_id, domain=domain)
    return None if row is None else _stored(row)


def summaries(tx: Tx, start: int, end: int, domain: str = "") -> list[TLSSummary]:
    """Counts by domain, of reports that end in [start, end)."""
    more = {"domain": domain} if domain else {}
    found: dict[str, TLSSummary] = {}
    for name, success, failure, types in tx.all(
        _SUMMARIES[bool(domain)], start=start, end=end, **more
    ):
        entry = found.setdefault(name, TLSSummary(name, 0, 0, {}))
        entry.success += success
        entry.failure += failure
        for kind, count in json.loads(types).items():
            entry.types[kind] = entry.types.get(kind, 0) + count
    return [found[name] for name in sorted(found)]


def about(report: Report, domain: str) -> Report:
    """The part of a report that is about a domain, in ASCII as there."""
    return replace(
        report,
        policies=tuple(each for each in report.policies if each.domain.lower() == domain),
    )
