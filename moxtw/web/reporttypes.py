"""Types of the admin API about reports, with field names as on the wire."""

from __future__ import annotations

import msgspec

from moxtw.admin.check.types import STSMX, Mode, Pair
from moxtw.queue.api import Domain
from moxtw.web.typewords import Int32, Int64, Time

# -- DMARC ---------------------------------------------------------------------------------


class DateRange(msgspec.Struct):
    """The period of a report: seconds since the epoch."""

    Begin: Int64
    End: Int64


class ReportMetadata(msgspec.Struct):
    """Who made a report."""

    OrgName: str
    Email: str
    ExtraContactInfo: str
    ReportID: str
    DateRange: DateRange
    Errors: list[str]


class PolicyPublished(msgspec.Struct):
    """The policy as found in the DNS."""

    Domain: str
    ADKIM: str
    ASPF: str
    Policy: str
    SubdomainPolicy: str
    Percentage: Int32
    ReportingOptions: str


class PolicyOverrideReason(msgspec.Struct):
    """Why the policy was not applied."""

    Type: str
    Comment: str


class PolicyEvaluated(msgspec.Struct):
    """What was done with messages, and why."""

    Disposition: str
    DKIM: str
    SPF: str
    Reasons: list[PolicyOverrideReason]


class Row(msgspec.Struct):
    """Messages of a client."""

    SourceIP: str
    Count: Int32
    PolicyEvaluated: PolicyEvaluated


class Identifiers(msgspec.Struct):
    """Domains of messages."""

    EnvelopeTo: str
    EnvelopeFrom: str
    HeaderFrom: str


class DKIMAuthResult(msgspec.Struct):
    """A signature and its result."""

    Domain: str
    Selector: str
    Result: str
    HumanResult: str


class SPFAuthResult(msgspec.Struct):
    """A result of SPF."""

    Domain: str
    Scope: str
    Result: str


class AuthResults(msgspec.Struct):
    """Results of DKIM and SPF, aligned or not."""

    DKIM: list[DKIMAuthResult]
    SPF: list[SPFAuthResult]


class ReportRecord(msgspec.Struct):
    """Messages that have all of this in common."""

    Row: Row
    Identifiers: Identifiers
    AuthResults: AuthResults


class DomainFeedback(msgspec.Struct):
    """A DMARC report about a domain."""

    ID: Int64
    Domain: str
    FromDomain: str
    Version: str
    ReportMetadata: ReportMetadata
    PolicyPublished: PolicyPublished
    Records: list[ReportRecord]


class DMARCSummary(msgspec.Struct):
    """Counts of messages in DMARC reports about a domain."""

    Domain: str
    Total: Int32
    DispositionNone: Int32
    DispositionQuarantine: Int32
    DispositionReject: Int32
    DKIMFail: Int32
    SPFFail: Int32
    PolicyOverrides: dict[str, Int32]


class EvaluationStat(msgspec.Struct):
    """Evaluations that are to be reported to a domain."""

    Domain: Domain
    Dispositions: list[str]
    Count: Int32
    SendReport: bool


class Evaluation(msgspec.Struct):
    """What DMARC said of a message, to be reported."""

    ID: Int64
    PolicyDomain: str
    Evaluated: Time
    Optional: bool
    IntervalHours: Int32
    Addresses: list[str]
    PolicyPublished: PolicyPublished
    SourceIP: str
    Disposition: str
    AlignedDKIMPass: bool
    AlignedSPFPass: bool
    OverrideReasons: list[PolicyOverrideReason]
    EnvelopeTo: str
    EnvelopeFrom: str
    HeaderFrom: str
    DKIMResults: list[DKIMAuthResult]
    SPFResults: list[SPFAuthResult]


class SuppressAddress(msgspec.Struct):
    """An address that no DMARC reports are sent to."""

    ID: Int64
    Inserted: Time
    ReportingAddress: str
    Until: Time
    Comment: str


# -- TLS -----------------------------------------------------------------------------------


class TLSRPTDateRange(msgspec.Struct):
    """The period of a report."""

    Start: Time
    End: Time


class ResultPolicy(msgspec.Struct):
    """A policy that sessions were under."""

    Type: str
    String: list[str]
    Domain: str
    MXHost: list[str]


class Summary(msgspec.Struct):
    """How many sessions went well, and how many did not."""

    TotalSuccessfulSessionCount: Int64
    TotalFailureSessionCount: Int64


class FailureDetails(msgspec.Struct):
    """Sessions that failed in the same way."""

    ResultType: str
    SendingMTAIP: str
    ReceivingMXHostname: str
    ReceivingMXHelo: str
    ReceivingIP: str
    FailedSessionCount: Int64
    AdditionalInformation: str
    FailureReasonCode: str


class Result(msgspec.Struct):
    """How sessions under a policy went."""

    Policy: ResultPolicy
    Summary: Summary
    FailureDetails: list[FailureDetails]


class Report(msgspec.Struct):
    """A TLS report."""

    OrganizationName: str
    DateRange: TLSRPTDateRange
    ContactInfo: str
    ReportID: str
    Policies: list[Result]


class TLSReportRecord(msgspec.Struct):
    """A TLS report about a domain, or about our host."""

    ID: Int64
    Domain: str
    FromDomain: str
    MailFrom: str
    HostReport: bool
    Report: Report


class TLSRPTSummary(msgspec.Struct):
    """Counts of sessions in TLS reports about a domain."""

    PolicyDomain: Domain
    Success: Int64
    Failure: Int64
    ResultTypeCounts: dict[str, Int64]


class TLSResult(msgspec.Struct):
    """How a day's sessions for a recipient domain went, as to be reported."""

    ID: Int64
    PolicyDomain: str
    DayUTC: str
    RecipientDomain: str
    Created: Time
    Updated: Time
    IsHost: bool
    SendReport: bool
    SentToRecipientDomain: bool
    RecipientDomainReportingAddresses: list[str]
    SentToPolicyDomain: bool
    Results: list[Result]


class TLSRPTSuppressAddress(msgspec.Struct):
    """An address that no TLS reports are sent to."""

    ID: Int64
    Inserted: Time
    ReportingAddress: str
    Until: Time
    Comment: str


# -- MTA-STS -------------------------------------------------------------------------------


class PolicyRecord(msgspec.Struct):
    """An MTA-STS policy of another domain that is kept."""

    Domain: str
    Inserted: Time
    ValidEnd: Time
    LastUpdate: Time
    LastUse: Time
    Backoff: bool
    RecordID: str
    Version: str
    Mode: Mode
    MX: list[STSMX]
    MaxAgeSeconds: Int32
    Extensions: list[Pair]
    PolicyText: str
