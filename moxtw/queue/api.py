"""The queue as its admins see it: JSON types of the admin API and the control socket.

Field names are those on the wire. Times are RFC 3339 timestamps, durations nanoseconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, NewType, Protocol

import msgspec

from moxtw.config.duration import DurationError, parse_duration
from moxtw.mail.address import Localpart
from moxtw.mail.domain import DomainError, parse_domain
from moxtw.store.queuedb import HoldRule as StoredHoldRule
from moxtw.store.queuelists import Moment, Order, Query
from moxtw.store.queuerecord import Queued, Result, Retired

Int32 = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1, title="int32")]
Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1, title="int64")]
Time = Annotated[datetime, msgspec.Meta(tz=True)]
IP = NewType("IP", str)

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class FilterError(ValueError):
    """A filter or sort that cannot be understood; the message says why."""


class Domain(msgspec.Struct, forbid_unknown_fields=True):
    """A domain name; Unicode is empty if it is the same as ASCII."""

    ASCII: str = ""
    Unicode: str = ""


class IPDomain(msgspec.Struct):
    """An IP address or a domain."""

    IP: IP
    Domain: Domain


class HoldRule(msgspec.Struct, forbid_unknown_fields=True):
    """Messages that match all fields given are put on hold when they are queued."""

    ID: Int64 = 0
    Account: str = ""
    SenderDomain: Domain = msgspec.field(default_factory=Domain)
    RecipientDomain: Domain = msgspec.field(default_factory=Domain)
    SenderDomainStr: str = ""
    RecipientDomainStr: str = ""


class Filter(msgspec.Struct, forbid_unknown_fields=True):
    """Which queued messages. Empty fields do not matter; for From and To one is enough.

    Submitted and NextAttempt: "<" or ">", then "now" or a duration relative to now.
    """

    Max: Int32 = 0
    IDs: list[Int64] = []
    Account: str = ""
    From: str = ""
    To: str = ""
    Hold: bool | None = None
    Submitted: str = ""
    NextAttempt: str = ""
    Transport: str | None = None


class Sort(msgspec.Struct, forbid_unknown_fields=True):
    """By Field, "NextAttempt" or "Queued"; a list goes on after the message LastID, Last."""

    Field: str = ""
    LastID: Int64 = 0
    Last: Any = None
    Asc: bool = False


class RetiredFilter(msgspec.Struct, forbid_unknown_fields=True):
    """Which retired messages; see Filter."""

    Max: Int32 = 0
    IDs: list[Int64] = []
    Account: str = ""
    From: str = ""
    To: str = ""
    Submitted: str = ""
    LastActivity: str = ""
    Transport: str | None = None
    Success: bool | None = None


class RetiredSort(msgspec.Struct, forbid_unknown_fields=True):
    """By Field, "LastActivity" or "Queued"; see Sort."""

    Field: str = ""
    LastID: Int64 = 0
    Last: Any = None
    Asc: bool = False


class MsgResult(msgspec.Struct):
    """The result of a delivery attempt."""

    Start: Time
    Duration: Int64
    Success: bool
    Code: Int32
    Secode: str
    Error: str


class Msg(msgspec.Struct):
    """A queued message: one recipient of a submission."""

    ID: Int64
    BaseID: Int64
    Queued: Time
    Hold: bool
    SenderAccount: str
    SenderLocalpart: Localpart
    SenderDomain: IPDomain
    SenderDomainStr: str
    FromID: str
    RecipientLocalpart: Localpart
    RecipientDomain: IPDomain
    RecipientDomainStr: str
    Attempts: Int32
    MaxAttempts: Int32
    DialedIPs: dict[str, list[IP]]
    NextAttempt: Time
    LastAttempt: Time | None
    Results: list[MsgResult]
    Has8bit: bool
    SMTPUTF8: bool
    IsDMARCReport: bool
    IsTLSReport: bool
    Size: Int64
    MessageID: str
    MsgPrefix: bytes
    Subject: str
    DSNUTF8: bytes
    Transport: str
    RequireTLS: bool | None
    FutureReleaseRequest: str
    Extra: dict[str, str]


class MsgRetired(msgspec.Struct):
    """A message that has been delivered, has failed, or was removed."""

    ID: Int64
    BaseID: Int64
    Queued: Time
    SenderAccount: str
    SenderLocalpart: Localpart
    SenderDomainStr: str
    FromID: str
    RecipientLocalpart: Localpart
    RecipientDomain: IPDomain
    RecipientDomainStr: str
    Attempts: Int32
    MaxAttempts: Int32
    DialedIPs: dict[str, list[IP]]
    LastAttempt: Time | None
    Results: list[MsgResult]
    Has8bit: bool
    SMTPUTF8: bool
    IsDMARCReport: bool
    IsTLSReport: bool
    Size: Int64
    MessageID: str
    Subject: str
    Transport: str
    RequireTLS: bool | None
    FutureReleaseRequest: str
    Extra: dict[str, str]
    LastActivity: Time
    RecipientAddress: str
    Success: bool
    KeepUntil: Time


# -- From rows -------------------------------------------------------------------------------


def timestamp(microseconds: int) -> datetime:
    """A time of the store as a timestamp."""
    return _EPOCH + timedelta(microseconds=microseconds)


def microseconds(time: datetime) -> int:
    """A timestamp as a time of the store; without zone it is UTC."""
    if time.tzinfo is None:
        time = time.replace(tzinfo=UTC)
    return (time - _EPOCH) // timedelta(microseconds=1)


def domain(name: str) -> Domain:
    """A domain by its stored name."""
    if not name:
        return Domain()
    try:
        parsed = parse_domain(name, strict=False)
    except DomainError:
        return Domain(name, "")
    return Domain(parsed.ascii, parsed.unicode)


def ip_domain(name: str) -> IPDomain:
    """A domain or literal by its stored name."""
    if name.startswith("["):
        return IPDomain(IP(name[1:-1]), Domain())
    return IPDomain(IP(""), domain(name))


def hold_rule(rule: StoredHoldRule) -> HoldRule:
    """A hold rule."""
    return HoldRule(
        rule.id,
        rule.account,
        domain(rule.sender_domain),
        domain(rule.recipient_domain),
        rule.sender_domain,
        rule.recipient_domain,
    )


def result(row: Result) -> MsgResult:
    """The result of an attempt."""
    return MsgResult(
        timestamp(row.start), row.duration * 1000, row.success, row.code, row.secode, row.error
    )


def _dialed(ips: dict[str, list[str]]) -> dict[str, list[IP]]:
    return {host: [IP(ip) for ip in tried] for host, tried in ips.items()}


def queued(message: Queued, prefix: bytes, utf8: bytes | None) -> Msg:
    """A queued message."""
    return Msg(
        ID=message.id,
        BaseID=message.base_id,
        Queued=timestamp(message.queued),
        Hold=message.hold,
        SenderAccount=message.sender_account,
        SenderLocalpart=Localpart(message.sender_localpart),
        SenderDomain=ip_domain(message.sender_domain),
        SenderDomainStr=message.sender_domain,
        FromID=message.from_id,
        RecipientLocalpart=Localpart(message.recipient_localpart),
        RecipientDomain=ip_domain(message.recipient_domain),
        RecipientDomainStr=message.recipient_domain,
        Attempts=message.attempts,
        MaxAttempts=message.max_attempts,
        DialedIPs=_dialed(message.dialed_ips),
        NextAttempt=timestamp(message.next_attempt),
        LastAttempt=None if message.last_attempt is None else timestamp(message.last_attempt),
        Results=[result(row) for row in message.results],
        Has8bit=message.has8bit,
        SMTPUTF8=message.smtputf8,
        IsDMARCReport=message.is_dmarc_report,
        IsTLSReport=message.is_tls_report,
        Size=message.size,
        MessageID=message.message_id,
        MsgPrefix=prefix,
        Subject=message.subject,
        DSNUTF8=utf8 or b"",
        Transport=message.transport,
        RequireTLS=message.require_tls,
        FutureReleaseRequest=message.future_release,
        Extra=message.extra,
    )


def retired(message: Retired) -> MsgRetired:
    """A retired message."""
    return MsgRetired(
        ID=message.id,
        BaseID=message.base_id,
        Queued=timestamp(message.queued),
        SenderAccount=message.sender_account,
        SenderLocalpart=Localpart(message.sender_localpart),
        SenderDomainStr=message.sender_domain,
        FromID=message.from_id,
        RecipientLocalpart=Localpart(message.recipient_localpart),
        RecipientDomain=ip_domain(message.recipient_domain),
        RecipientDomainStr=message.recipient_domain,
        Attempts=message.attempts,
        MaxAttempts=message.max_attempts,
        DialedIPs=_dialed(message.dialed_ips),
        LastAttempt=None if message.last_attempt is None else timestamp(message.last_attempt),
        Results=[result(row) for row in message.results],
        Has8bit=message.has8bit,
        SMTPUTF8=message.smtputf8,
        IsDMARCReport=message.is_dmarc_report,
        IsTLSReport=message.is_tls_report,
        Size=message.size,
        MessageID=message.message_id,
        Subject=message.subject,
        Transport=message.transport,
        RequireTLS=message.require_tls,
        FutureReleaseRequest=message.future_release,
        Extra=message.extra,
        LastActivity=timestamp(message.last_activity),
        RecipientAddress=message.recipient_address,
        Success=message.success,
        KeepUntil=timestamp(message.keep_until),
    )


# -- Into queries ----------------------------------------------------------------------------


def moment(text: str, now: int) -> Moment | None:
    """A bound of time from its text; empty: None. Raises FilterError."""
    text = text.strip()
    if not text:
        return None
    if text[0] not in "<>":
        raise FilterError(f"time {text[:50]!r} must begin with < or >")
    value = text[1:].strip()
    offset = 0
    if value != "now":
        try:
            offset = parse_duration(value).microseconds
        except DurationError as exc:
            raise FilterError(f"time {text[:50]!r}: {exc}") from exc
    return Moment(text[0] == "<", now + offset)


def query(wanted: Filter, now: int) -> Query:
    """A filter as the store takes it. Raises FilterError."""
    return Query(
        most=most(wanted.Max),
        ids=tuple(wanted.IDs),
        account=wanted.Account,
        sender=wanted.From,
        recipient=wanted.To,
        hold=wanted.Hold,
        submitted=moment(wanted.Submitted, now),
        next_attempt=moment(wanted.NextAttempt, now),
        transport=wanted.Transport,
    )


def retired_query(wanted: RetiredFilter, now: int) -> Query:
    """A filter for retired messages. Raises FilterError."""
    return Query(
        most=most(wanted.Max),
        ids=tuple(wanted.IDs),
        account=wanted.Account,
        sender=wanted.From,
        recipient=wanted.To,
        submitted=moment(wanted.Submitted, now),
        last_activity=moment(wanted.LastActivity, now),
        transport=wanted.Transport,
        success=wanted.Success,
    )


def most(value: int) -> int:
    """A greatest number, 0 for all. Raises FilterError."""
    if value < 0:
        raise FilterError("Max must not be negative")
    return value


def order(wanted: Sort) -> Order:
    """A sort as the store takes it. Raises FilterError."""
    return order_by(wanted, {"": "next_attempt", "NextAttempt": "next_attempt", "Queued": "queued"})


def retired_order(wanted: RetiredSort) -> Order:
    """A sort for retired messages. Raises FilterError."""
    return order_by(
        wanted, {"": "last_activity", "LastActivity": "last_activity", "Queued": "queued"}
    )


class AnySort(Protocol):
    """What sorts have in common."""

    Field: str
    LastID: int
    Last: Any
    Asc: bool


def order_by(wanted: AnySort, columns: Mapping[str, str]) -> Order:
    """A sort as the store takes it, with the columns that fields stand for.

    Raises FilterError.
    """
    column = columns.get(wanted.Field)
    if column is None:
        raise FilterError(f"unknown field to sort by: {wanted.Field[:50]!r}")
    last: int | None = None
    if wanted.Last not in (None, ""):
        if not isinstance(wanted.Last, str):
            raise FilterError("Last must be a timestamp")
        try:
            last = microseconds(datetime.fromisoformat(wanted.Last))
        except (ValueError, OverflowError) as exc:
            raise FilterError(f"Last {wanted.Last[:50]!r} is no timestamp") from exc
    return Order(column, wanted.Asc, last, wanted.LastID)
