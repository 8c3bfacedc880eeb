"""Functions on reports about DMARC and TLS, and on policies of others."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from moxtw.admin import reports
from moxtw.admin.check.policies import policy_json, tlsrpt_json
from moxtw.admin.check.types import Mode, TLSRPTRecord
from moxtw.authn import dmarcreport
from moxtw.mail.domain import DomainError, parse_domain
from moxtw.queue.api import Domain
from moxtw.store.dmarcdb import StoredFeedback
from moxtw.store.mtastsdb import PolicyRecord
from moxtw.store.tlsreportsdb import StoredReport
from moxtw.store.tlsresults import TLSResult
from moxtw.tlspolicy import tlsrpt
from moxtw.web import reporttypes as types
from moxtw.web.adminapi.base import admin_of, registry
from moxtw.web.conversions import time_of
from moxtw.web.rpc import Call
from moxtw.web.typewords import Int64, Time

_INT32_MAX = 2**31 - 1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST = 253402300799 * 1_000_000  # the end of year 9999


def _micro(time: datetime) -> int:
    """Microseconds since the epoch."""
    difference = time - _EPOCH
    return (difference.days * 86400 + difference.seconds) * 1_000_000 + difference.microseconds


def _time(microseconds: int) -> datetime:
    """A time that strangers may have given."""
    return time_of(min(max(microseconds, 0), _LATEST))


def _domain(name: str) -> Domain:
    try:
        found = parse_domain(name, strict=False)
    except DomainError:
        return Domain(name, "")
    return Domain(found.ascii, found.unicode)


# -- DMARC ---------------------------------------------------------------------------------


def _published(found: dmarcreport.Published) -> types.PolicyPublished:
    return types.PolicyPublished(
        Domain=found.domain,
        ADKIM=found.adkim,
        ASPF=found.aspf,
        Policy=found.policy,
        SubdomainPolicy=found.subdomain_policy,
        Percentage=found.percentage,
        ReportingOptions=found.reporting_options,
    )


def _reasons(found: Sequence[dmarcreport.Reason]) -> list[types.PolicyOverrideReason]:
    return [types.PolicyOverrideReason(each.type, each.comment) for each in found]


def _dkim(found: Sequence[dmarcreport.DKIMAuth]) -> list[types.DKIMAuthResult]:
    return [
        types.DKIMAuthResult(each.domain, each.selector, each.result, each.human_result)
        for each in found
    ]


def _spf(found: Sequence[dmarcreport.SPFAuth]) -> list[types.SPFAuthResult]:
    return [types.SPFAuthResult(each.domain, each.scope, each.result) for each in found]


def _record(record: dmarcreport.Record) -> types.ReportRecord:
    row = record.row
    return types.ReportRecord(
        types.Row(
            row.source_ip,
            record.count,
            types.PolicyEvaluated(row.disposition, row.dkim, row.spf, _reasons(row.reasons)),
        ),
        types.Identifiers(row.envelope_to, row.envelope_from, row.header_from),
        types.AuthResults(_dkim(row.dkim_results), _spf(row.spf_results)),
    )


def _feedback(stored: StoredFeedback) -> types.DomainFeedback:
    found = stored.feedback
    return types.DomainFeedback(
        ID=stored.id,
        Domain=stored.domain,
        FromDomain=stored.from_domain,
        Version=found.version,
        ReportMetadata=types.ReportMetadata(
            OrgName=found.org_name,
            Email=found.email,
            ExtraContactInfo=found.extra_contact_info,
            ReportID=found.report_id,
            DateRange=types.DateRange(found.begin, found.end),
            Errors=list(found.errors),
        ),
        PolicyPublished=_published(found.published),
        Records=[_record(each) for each in found.records],
    )


@registry.function("reports", reads=True)
async def DMARCReports(
    call: Call, start: Time, end: Time, domain: str
) -> list[types.DomainFeedback]:
    """DMARC reports of others that end in a period, about a domain, or about all for ''."""
    found = await reports.dmarc_reports(*admin_of(call), _micro(start), _micro(end), domain)
    return [_feedback(each) for each in found]


@registry.function("report", reads=True)
async def DMARCReportID(call: Call, domain: str, reportID: Int64) -> types.DomainFeedback:
    """A DMARC report about a domain."""
    return _feedback(await reports.dmarc_report(*admin_of(call), domain, reportID))


def _int32(number: int) -> int:
    return min(number, _INT32_MAX)


@registry.function("domainSummaries", reads=True)
async def DMARCSummaries(
    call: Call, start: Time, end: Time, domain: str
) -> list[types.DMARCSummary]:
    """Counts of messages in DMARC reports that end in a period, for each domain."""
    found = await reports.dmarc_summaries(*admin_of(call), _micro(start), _micro(end), domain)
    return [
        types.DMARCSummary(
            Domain=name,
            Total=_int32(each.total),
            DispositionNone=_int32(each.none),
            DispositionQuarantine=_int32(each.quarantine),
            DispositionReject=_int32(each.reject),
            DKIMFail=_int32(each.dkim_fail),
            SPFFail=_int32(each.spf_fail),
            PolicyOverrides={kind: _int32(count) for kind, count in each.overrides.items()},
        )
        for name, each in found.items()
    ]


@registry.function(reads=True)
async def DMARCEvaluationStats(call: Call) -> dict[str, types.EvaluationStat]:
    """DMARC evaluations that are to be reported, by the domain of the policy."""
    return {
        each.domain: types.EvaluationStat(
            _domain(each.domain), list(each.dispositions), each.count, each.send_report
        )
        for each in await reports.evaluation_stats(*admin_of(call))
    }


@registry.function(reads=True)
async def DMARCEvaluationsDomain(
    call: Call, domain: str
) -> tuple[Domain, list[types.Evaluation]]:
    """DMARC evaluations that are to be reported to a domain."""
    parsed, found = await reports.evaluations(*admin_of(call), domain)
    return Domain(parsed.ascii, parsed.unicode), [
        types.Evaluation(
            ID=each.id,
            PolicyDomain=each.policy_domain,
            Evaluated=time_of(each.evaluated),
            Optional=each.optional,
            IntervalHours=each.interval_hours,
            Addresses=list(each.addresses),
            PolicyPublished=_published(each.published),
            SourceIP=each.row.source_ip,
            Disposition=each.row.disposition,
            AlignedDKIMPass=each.row.dkim == "pass",
            AlignedSPFPass=each.row.spf == "pass",
            OverrideReasons=_reasons(each.row.reasons),
            EnvelopeTo=each.row.envelope_to,
            EnvelopeFrom=each.row.envelope_from,
            HeaderFrom=each.row.header_from,
            DKIMResults=_dkim(each.row.dkim_results),
            SPFResults=_spf(each.row.spf_results),
        )
        for each in found
    ]


@registry.function()
async def DMARCRemoveEvaluations(call: Call, domain: str) -> None:
    """Forget DMARC evaluations: they are not reported."""
    await reports.remove_evaluations(*admin_of(call), domain)


@registry.function()
async def DMARCSuppressAdd(
    call: Call, reportingAddress: str, until: Time, comment: str
) -> None:
    """Send no DMARC reports to an address until a time."""
    await reports.suppress(*admin_of(call), "dmarc", reportingAddress, _micro(until), comment)


@registry.function(reads=True)
async def DMARCSuppressList(call: Call) -> list[types.SuppressAddress]:
    """Addresses that no DMARC reports are sent to."""
    return [
        types.SuppressAddress(
            each.id, time_of(each.inserted), each.address, _time(each.until), each.comment
        )
        for each in await reports.suppressions(*admin_of(call), "dmarc")
    ]


@registry.function()
async def DMARCSuppressRemove(call: Call, id: Int64) -> None:
    """Send DMARC reports to an address again."""
    await reports.unsuppress(*admin_of(call), "dmarc", id)


@registry.function()
async def DMARCSuppressExtend(call: Call, id: Int64, until: Time) -> None:
    """Change until when an address gets no DMARC reports."""
    await reports.extend_suppression(*admin_of(call), "dmarc", id, _micro(until))


# -- TLS -----------------------------------------------------------------------------------


def _result(found: tlsrpt.Result) -> types.Result:
    return types.Result(
        types.ResultPolicy(
            found.policy_type, list(found.strings), found.domain, list(found.mx_hosts)
        ),
        types.Summary(found.success, found.failure),
        [
            types.FailureDetails(
                ResultType=failure.result_type,
                SendingMTAIP=failure.sending_mta_ip,
                ReceivingMXHostname=failure.receiving_mx_hostname,
                ReceivingMXHelo=failure.receiving_mx_helo,
                ReceivingIP=failure.receiving_ip,
                FailedSessionCount=count,
                AdditionalInformation=failure.more,
                FailureReasonCode=failure.reason,
            )
            for failure, count in found.failures.items()
        ],
    )


def _report(stored: StoredReport) -> types.TLSReportRecord:
    found = stored.report
    return types.TLSReportRecord(
        ID=stored.id,
        Domain=stored.domain,
        FromDomain=stored.from_domain,
        MailFrom=stored.mail_from,
        HostReport=stored.host_report,
        Report=types.Report(
            OrganizationName=found.organization,
            DateRange=types.TLSRPTDateRange(
                _time(found.start * 1_000_000), _time(found.end * 1_000_000)
            ),
            ContactInfo=found.contact,
            ReportID=found.report_id,
            Policies=[_result(each) for each in found.policies],
        ),
    )


@registry.function("reports", reads=True)
async def TLSReports(
    call: Call, start: Time, end: Time, policyDomain: str
) -> list[types.TLSReportRecord]:
    """TLS reports of others that end in a period, about a domain, or about all for ''."""
    found = await reports.tls_reports(
        *admin_of(call), _micro(start), _micro(end), policyDomain
    )
    return [_report(each) for each in found]


@registry.function(reads=True)
async def TLSReportID(call: Call, domain: str, reportID: Int64) -> types.TLSReportRecord:
    """A TLS report about a domain."""
    return _report(await reports.tls_report(*admin_of(call), domain, reportID))


@registry.function("domainSummaries", reads=True)
async def TLSRPTSummaries(
    call: Call, start: Time, end: Time, policyDomain: str
) -> list[types.TLSRPTSummary]:
    """Counts of sessions in TLS reports that end in a period, for each domain."""
    found = await reports.tls_summaries(
        *admin_of(call), _micro(start), _micro(end), policyDomain
    )
    return [
        types.TLSRPTSummary(_domain(each.domain), each.success, each.failure, each.types)
        for each in found
    ]


def _tls_result(found: TLSResult) -> types.TLSResult:
    return types.TLSResult(
        ID=found.id,
        PolicyDomain=found.policy_domain,
        DayUTC=found.day,
        RecipientDomain=found.recipient_domain,
        Created=time_of(found.created),
        Updated=time_of(found.updated),
        IsHost=found.is_host,
        SendReport=found.send_report,
        SentToRecipientDomain=found.sent_to_recipient_domain,
        RecipientDomainReportingAddresses=list(found.recipient_domain_addresses),
        SentToPolicyDomain=found.sent_to_policy_domain,
        Results=[_result(each) for each in found.results],
    )


@registry.function(reads=True)
async def TLSRPTResults(call: Call) -> list[types.TLSResult]:
    """Results of TLS with others that are to be reported, latest days first."""
    return [_tls_result(each) for each in await reports.tls_results(*admin_of(call))]


@registry.function(reads=True)
async def TLSRPTResultsDomain(
    call: Call, isRcptDom: bool, policyDomain: str
) -> tuple[Domain, list[types.TLSResult]]:
    """Results of TLS that are to be reported, of a recipient domain or of a policy domain."""
    parsed, found = await reports.tls_results_of(
        *admin_of(call), policyDomain, recipient=isRcptDom
    )
    return Domain(parsed.ascii, parsed.unicode), [_tls_result(each) for each in found]


@registry.function()
async def TLSRPTRemoveResults(call: Call, isRcptDom: bool, domain: str, day: str) -> None:
    """Forget results of TLS of a day, as 20261231: they are not reported."""
    await reports.remove_tls_results(*admin_of(call), domain, day, recipient=isRcptDom)


@registry.function("record", "txt", "errstr", reads=True)
async def LookupTLSRPTRecord(
    call: Call, domain: str
) -> tuple[TLSRPTRecord | None, str, str]:
    """Look up where a domain wants TLS reports, or what is wrong with its record."""
    record, text, error = await reports.lookup_tlsrpt(*admin_of(call), domain)
    return None if record is None else tlsrpt_json(record), text, error


@registry.function()
async def TLSRPTSuppressAdd(
    call: Call, reportingAddress: str, until: Time, comment: str
) -> None:
    """Send no TLS reports to an address until a time."""
    await reports.suppress(*admin_of(call), "tls", reportingAddress, _micro(until), comment)


@registry.function(reads=True)
async def TLSRPTSuppressList(call: Call) -> list[types.TLSRPTSuppressAddress]:
    """Addresses that no TLS reports are sent to."""
    return [
        types.TLSRPTSuppressAddress(
            each.id, time_of(each.inserted), each.address, _time(each.until), each.comment
        )
        for each in await reports.suppressions(*admin_of(call), "tls")
    ]


@registry.function()
async def TLSRPTSuppressRemove(call: Call, id: Int64) -> None:
    """Send TLS reports to an address again."""
    await reports.unsuppress(*admin_of(call), "tls", id)


@registry.function()
async def TLSRPTSuppressExtend(call: Call, id: Int64, until: Time) -> None:
    """Change until when an address gets no TLS reports."""
    await reports.extend_suppression(*admin_of(call), "tls", id, _micro(until))


# -- MTA-STS -------------------------------------------------------------------------------


def _policy(kept: PolicyRecord) -> types.PolicyRecord:
    policy = None if kept.policy is None else policy_json(kept.policy)
    return types.PolicyRecord(
        Domain=_domain(kept.domain).Unicode or kept.domain,
        Inserted=time_of(kept.inserted),
        ValidEnd=_time(kept.valid_end),
        LastUpdate=time_of(kept.last_update),
        LastUse=time_of(kept.last_use),
        Backoff=kept.backoff,
        RecordID=kept.record_id,
        Version="" if policy is None else policy.Version,
        Mode=Mode.ModeNone if policy is None else policy.Mode,
        MX=[] if policy is None else policy.MX,
        MaxAgeSeconds=0 if policy is None else policy.MaxAgeSeconds,
        Extensions=[] if policy is None else policy.Extensions,
        PolicyText=kept.policy_text,
    )


@registry.function("records", reads=True)
async def MTASTSPolicies(call: Call) -> list[types.PolicyRecord]:
    """MTA-STS policies of other domains that are kept."""
    return [_policy(each) for each in await reports.mtasts_policies(*admin_of(call))]
