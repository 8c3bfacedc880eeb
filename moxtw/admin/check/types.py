"""What checks of a domain find: JSON types of the admin API, with field names as on the wire."""

from __future__ import annotations

import enum
from typing import Annotated, NewType

import msgspec

from moxtw.queue.api import Domain, Int32

UInt16 = Annotated[int, msgspec.Meta(ge=0, le=2**16 - 1, title="uint16")]
UInt64 = Annotated[int, msgspec.Meta(ge=0, title="uint64")]
RUA = NewType("RUA", str)


class DMARCPolicy(enum.Enum):
    """What is to happen with messages that fail."""

    PolicyEmpty = ""
    PolicyNone = "none"
    PolicyQuarantine = "quarantine"
    PolicyReject = "reject"


class Align(enum.Enum):
    """How alike domains must be."""

    AlignStrict = "s"
    AlignRelaxed = "r"


class Mode(enum.Enum):
    """How strictly an MTA-STS policy is to be followed."""

    ModeEnforce = "enforce"
    ModeTesting = "testing"
    ModeNone = "none"


class Findings(msgspec.Struct, kw_only=True):
    """What all sections have.

    Errors: what does not work or is missing; Warnings: what could be better; Instructions: what
    to do, with records for DNS. All are texts for people.
    """

    Errors: list[str] = []
    Warnings: list[str] = []
    Instructions: list[str] = []


class DNSSECResult(Findings):
    """Whether DNSSEC protects lookups, and the domain."""


class IPRevCheckResult(Findings):
    """Whether addresses lead to the hostname; IPNames has the names of each."""

    Hostname: Domain = msgspec.field(default_factory=Domain)
    IPNames: dict[str, list[str]] = {}


class MX(msgspec.Struct):
    """A mail host of the domain."""

    Host: str
    Pref: Int32
    IPs: list[str]


class MXCheckResult(Findings):
    """Whether mail for the domain comes to us."""

    Records: list[MX] = []


class TLSCheckResult(Findings):
    """Whether mail hosts have TLS with a certificate that others can verify."""


class DANECheckResult(Findings):
    """Whether TLSA records fit the host keys."""


class Directive(msgspec.Struct):
    """A mechanism of an SPF record."""

    Qualifier: str
    Mechanism: str
    DomainSpec: str = ""
    IPstr: str = ""
    IP4CIDRLen: Int32 | None = None
    IP6CIDRLen: Int32 | None = None


class Modifier(msgspec.Struct):
    """An unknown modifier of an SPF record."""

    Key: str
    Value: str


class SPFRecord(msgspec.Struct):
    """An SPF record."""

    Version: str
    Directives: list[Directive]
    Redirect: str
    Explanation: str
    Other: list[Modifier]


class SPFCheckResult(Findings):
    """Whether our addresses may send for the domain, and for the host."""

    DomainTXT: str = ""
    DomainRecord: SPFRecord | None = None
    HostTXT: str = ""
    HostRecord: SPFRecord | None = None


class Record(msgspec.Struct):
    """A DKIM record."""

    Version: str
    Hashes: list[str]
    Key: str
    Notes: str
    Pubkey: bytes
    Services: list[str]
    Flags: list[str]


class DKIMRecord(msgspec.Struct):
    """A selector with its record."""

    Selector: str
    TXT: str
    Record: Record | None


class DKIMCheckResult(Findings):
    """Whether the public keys of selectors are published."""

    Records: list[DKIMRecord] = []


class URI(msgspec.Struct):
    """Where DMARC reports go; MaxSize in units of Unit ("k", "m", "g", "t", or "" for bytes)."""

    Address: str
    MaxSize: UInt64
    Unit: str


class DMARCRecord(msgspec.Struct):
    """A DMARC record."""

    Version: str
    Policy: DMARCPolicy
    SubdomainPolicy: DMARCPolicy
    AggregateReportAddresses: list[URI]
    FailureReportAddresses: list[URI]
    ADKIM: Align
    ASPF: Align
    AggregateReportingInterval: Int32
    FailureReportingOptions: list[str]
    ReportingFormat: list[str]
    Percentage: Int32


class DMARCCheckResult(Findings):
    """Whether the domain has a DMARC policy; Domain is where the record stands."""

    Domain: str = ""
    TXT: str = ""
    Record: DMARCRecord | None = None


class Extension(msgspec.Struct):
    """A further field of a TLSRPT record."""

    Key: str
    Value: str


class TLSRPTRecord(msgspec.Struct):
    """A TLSRPT record."""

    Version: str
    RUAs: list[list[RUA]]
    Extensions: list[Extension]


class TLSRPTCheckResult(Findings):
    """Whether reports about TLS are asked for."""

    TXT: str = ""
    Record: TLSRPTRecord | None = None


class Pair(msgspec.Struct):
    """A further field of an MTA-STS record or policy."""

    Key: str
    Value: str


class MTASTSRecord(msgspec.Struct):
    """An MTA-STS record."""

    Version: str
    ID: str
    Extensions: list[Pair]


class STSMX(msgspec.Struct):
    """A host of an MTA-STS policy, or all names one level below it."""

    Wildcard: bool
    Domain: Domain


class Policy(msgspec.Struct):
    """An MTA-STS policy."""

    Version: str
    Mode: Mode
    MX: list[STSMX]
    MaxAgeSeconds: Int32
    Extensions: list[Pair]


class MTASTSCheckResult(Findings):
    """Whether the domain's MTA-STS policy is served, and fits."""

    TXT: str = ""
    Record: MTASTSRecord | None = None
    PolicyText: str = ""
    Policy: Policy | None = None


class SRV(msgspec.Struct):
    """A location of a service."""

    Target: str
    Port: UInt16
    Priority: UInt16
    Weight: UInt16


class SRVConfCheckResult(Findings):
    """Whether mail clients find services; SRVs by name, such as "_imaps"."""

    SRVs: dict[str, list[SRV]] = {}


class AutoconfCheckResult(Findings):
    """Whether names for mail clients lead to us."""

    ClientSettingsDomainIPs: list[str] = []
    IPs: list[str] = []


class AutodiscoverSRV(msgspec.Struct):
    """A location of autodiscover, with its addresses."""

    Target: str
    Port: UInt16
    Priority: UInt16
    Weight: UInt16
    IPs: list[str]


class AutodiscoverCheckResult(Findings):
    """Whether autodiscover leads to us."""

    Records: list[AutodiscoverSRV] = []


class CheckResult(msgspec.Struct):
    """All checks of a domain."""

    Domain: str
    DNSSEC: DNSSECResult = msgspec.field(default_factory=DNSSECResult)
    IPRev: IPRevCheckResult = msgspec.field(default_factory=IPRevCheckResult)
    MX: MXCheckResult = msgspec.field(default_factory=MXCheckResult)
    TLS: TLSCheckResult = msgspec.field(default_factory=TLSCheckResult)
    DANE: DANECheckResult = msgspec.field(default_factory=DANECheckResult)
    SPF: SPFCheckResult = msgspec.field(default_factory=SPFCheckResult)
    DKIM: DKIMCheckResult = msgspec.field(default_factory=DKIMCheckResult)
    DMARC: DMARCCheckResult = msgspec.field(default_factory=DMARCCheckResult)
    HostTLSRPT: TLSRPTCheckResult = msgspec.field(default_factory=TLSRPTCheckResult)
    DomainTLSRPT: TLSRPTCheckResult = msgspec.field(default_factory=TLSRPTCheckResult)
    MTASTS: MTASTSCheckResult = msgspec.field(default_factory=MTASTSCheckResult)
    SRVConf: SRVConfCheckResult = msgspec.field(default_factory=SRVConfCheckResult)
    Autoconf: AutoconfCheckResult = msgspec.field(default_factory=AutoconfCheckResult)
    Autodiscover: AutodiscoverCheckResult = msgspec.field(
        default_factory=AutodiscoverCheckResult
    )
