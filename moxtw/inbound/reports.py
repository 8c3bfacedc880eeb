"""Reports of others that arrive by mail: which messages hold one that is to be believed.

A report counts when its sender is known to be who it says: by DMARC for reports about DMARC,
by a signature made for that for reports about TLS (RFC 8460 3). Others are messages like any.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from moxtw import metrics
from moxtw.authn import AuthResults
from moxtw.authn.dmarc import organizational
from moxtw.authn.dmarcreport import Feedback, parse_feedback
from moxtw.config.index import AccountDestination
from moxtw.config.lookup import ConfigView
from moxtw.log import Logger
from moxtw.mail import attachedreport
from moxtw.mail.attachedreport import MAX_MESSAGE, ReportError
from moxtw.mail.domain import Domain, DomainError, parse_domain
from moxtw.store import dmarcdb, tlsreportsdb
from moxtw.store.content import Spooled
from moxtw.store.db import Store
from moxtw.store.tx import Tx
from moxtw.tlspolicy.tlsreport import Report, parse_report

if TYPE_CHECKING:
    from collections.abc import Iterator

log = Logger("smtpserver")

DMARC_ERROR: Final = "X-Mox-DMARCReport-Error"
TLS_ERROR: Final = "X-Mox-TLSReport-Error"

_MAX_AHEAD: Final = 60
"""Seconds that the end of a report may lie in the future: clocks differ."""


@dataclass(frozen=True, slots=True)
class Found:
    """The reports of a message, and why others were not taken: fields for its header.

    domain: that the DMARC report is about. tls: with each domain its part of the TLS report, and
    whether that is about our host.
    """

    feedback: Feedback | None = None
    domain: str = ""
    tls: tuple[tuple[str, Report, bool], ...] = ()
    from_domain: str = ""
    errors: tuple[tuple[str, str], ...] = ()

    @property
    def valid(self) -> bool:
        """Whether there is a report to be kept."""
        return self.feedback is not None or bool(self.tls)

    def keep(self, tx: Tx, mail_from: str) -> list[Callable[[], None]]:
        """Put them into the store; gives what is to be counted once that is committed."""
        counts: list[Callable[[], None]] = []
        feedback = self.feedback
        if feedback is not None and dmarcdb.add_report(
            tx, feedback, self.domain, self.from_domain
        ):
            counts.append(lambda: _count_feedback(self.domain, feedback))
        for domain, report, host in self.tls:
            if tlsreportsdb.add(
                tx,
                report,
                domain,
                from_domain=self.from_domain,
                mail_from=mail_from,
                host=host,
            ):
                counts.append(lambda report=report: _count_tls(report))  # type: ignore[misc]
        return counts


NONE: Final = Found()


class ReportReader:
    """Looks for reports in messages to addresses for them."""

    def __init__(self, store: Store, config: ConfigView) -> None:
        self._store = store
        self._config = config

    async def find(
        self, destination: AccountDestination, content: Spooled, auth: AuthResults
    ) -> Found:
        """The reports in a message; nothing for other destinations."""
        if not (destination.dmarc_reports or destination.tls_reports):
            return NONE
        found = Found(from_domain="" if auth.author is None else auth.author.domain.name)
        data = b""
        if content.size <= MAX_MESSAGE:
            try:
                data = await self._store.disk(lambda: content.read(0, content.size))
            except OSError as exc:
                log.error("reading message for report", err=exc)
                return found
        problem = "" if data else "message is too large"
        if destination.dmarc_reports:
            found = await self._dmarc(found, data, auth, problem)
        if destination.tls_reports:
            found = await self._tls(found, destination, data, auth, problem)
        return found

    async def _dmarc(
        self, found: Found, data: bytes, auth: AuthResults, problem: str
    ) -> Found:
        try:
            if problem:
                raise ReportError(problem)
            if auth.dmarc is None or auth.dmarc.status != "pass":
                raise ReportError("no dmarc pass")
            feedback = await self._store.run(
                lambda: parse_feedback(attachedreport.dmarc_report(data))
            )
            domain = _domain(feedback.published.domain)
            if domain is None or domain.name not in self._config.dynamic.domains:
                raise ReportError("dmarc policy domain is not one of this server")
            if feedback.end > self._store.now() // 1_000_000 + _MAX_AHEAD:
                raise ReportError("end of the period is in the future")
        except ReportError as exc:
            log.info("message to address for dmarc reports without one", err=exc)
            return replace(found, errors=(*found.errors, (DMARC_ERROR, str(exc))))
        return replace(found, feedback=feedback, domain=domain.name)

    async def _tls(
        self,
        found: Found,
        destination: AccountDestination,
        data: bytes,
        auth: AuthResults,
        problem: str,
    ) -> Found:
        try:
            if problem:
                raise ReportError(problem)
            if not _signed_for_tls(auth):
                raise ReportError("no signature of the sender's domain for tls reports")
            report = await self._store.run(lambda: parse_report(attachedreport.tls_report(data)))
            parts = tuple(self._known(report))
            if not parts:
                raise ReportError("no policy domain of this server")
        except ReportError as exc:
            log.info("message to address for tls reports without one", err=exc)
            return replace(found, errors=(*found.errors, (TLS_ERROR, str(exc))))
        return replace(found, tls=parts)

    def _known(self, report: Report) -> Iterator[tuple[str, Report, bool]]:
        """Domains of ours in a report, each with its part."""
        hostname = self._config.static.dns_hostname
        for text in dict.fromkeys(policy.domain.lower() for policy in report.policies):
            domain = _domain(text)
            if domain is None:
                continue
            host = domain == hostname
            if host or domain.name in self._config.dynamic.domains:
                yield domain.name, tlsreportsdb.about(report, text), host


def _domain(text: str) -> Domain | None:
    try:
        return parse_domain(text.rstrip("."), strict=False)
    except DomainError:
        return None


def _signed_for_tls(auth: AuthResults) -> bool:
    """Whether a domain that the author's belongs to vouches for a TLS report (RFC 8460 3)."""
    if auth.author is None:
        return False
    author = auth.author.domain
    above = organizational(author)
    return any(
        each.passed
        and each.domain is not None
        # What is behind the signed length could be anything.
        and each.length is None
        and each.serves("tlsrpt")
        and author.is_within(each.domain)
        and each.domain.is_within(above)
        for each in auth.dkim
    )


# -- Metrics -----------------------------------------------------------------------------

_DISPOSITIONS: Final = ("none", "quarantine", "reject")
_RESULTS: Final = ("pass", "fail")
_DKIM: Final = frozenset(
    ("none", "pass", "fail", "policy", "neutral", "temperror", "permerror")
)
_SPF: Final = frozenset(
    ("none", "neutral", "pass", "fail", "softfail", "temperror", "permerror")
)


def _known(value: str, values: object) -> str:
    """A label; strangers cannot make new ones."""
    return value if value in values else "other"  # type: ignore[operator]


def _count_feedback(domain: str, feedback: Feedback) -> None:
    for record in feedback.records:
        row = record.row
        metrics.dmarcdb_policy_evaluated_total.labels(
            domain,
            _known(row.disposition, _DISPOSITIONS),
            _known(row.dkim, _RESULTS),
            _known(row.spf, _RESULTS),
        ).inc(record.count)
        for signature in row.dkim_results:
            metrics.dmarcdb_dkim_result_total.labels(_known(signature.result, _DKIM)).inc(
                record.count
            )
        for check in row.spf_results:
            metrics.dmarcdb_spf_result_total.labels(_known(check.result, _SPF)).inc(record.count)


def _count_tls(report: Report) -> None:
    metrics.tlsrptdb_session_total.labels("success").inc(report.success)
    for kind, count in report.types().items():
        metrics.tlsrptdb_session_total.labels(kind).inc(count)
