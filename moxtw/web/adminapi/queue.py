"""Functions on queued messages and hold rules."""

from __future__ import annotations

from datetime import datetime

from moxtw.admin import queue
from moxtw.mail.domain import DomainError, parse_domain
from moxtw.store.queuedb import HoldRule as StoredRule
from moxtw.store.queuerecord import Queued, Result, Retired
from moxtw.web.adminapi.base import admin_of, registry, time_of, to_api
from moxtw.web.admintypes import (
    IP,
    Filter,
    HoldRule,
    IPDomain,
    Msg,
    MsgResult,
    MsgRetired,
    RetiredFilter,
    RetiredSort,
    Sort,
)
from moxtw.web.configtypes import Domain, Localpart
from moxtw.web.rpc import Call
from moxtw.web.typewords import Int32, Int64


@registry.function()
async def QueueSize(call: Call) -> Int32:
    """How many messages are queued."""
    return await queue.size(*admin_of(call))


@registry.function()
async def QueueHoldRuleList(call: Call) -> list[HoldRule]:
    """The hold rules: messages that match one are queued on hold."""
    return [_rule(rule) for rule in await queue.hold_rules(*admin_of(call))]


@registry.function()
async def QueueHoldRuleAdd(call: Call, hr: HoldRule) -> HoldRule:
    """Add a hold rule, of an account and of domains in ...DomainStr; queued messages too.

    A rule that names nothing holds everything.
    """
    sender = hr.sender_domain_str or hr.sender_domain.unicode or hr.sender_domain.ascii
    recipient = (
        hr.recipient_domain_str or hr.recipient_domain.unicode or hr.recipient_domain.ascii
    )
    rule = await queue.hold_rule_add(*admin_of(call), hr.account, sender, recipient)
    return _rule(rule)


@registry.function()
async def QueueHoldRuleRemove(call: Call, holdRuleID: Int64) -> None:
    """Remove a hold rule. Messages that it holds stay on hold."""
    await queue.hold_rule_remove(*admin_of(call), holdRuleID)


@registry.function()
async def QueueList(call: Call, filter: Filter, sort: Sort) -> list[Msg]:
    """Queued messages that match a filter, sorted by NextAttempt or Queued."""
    order = queue.Sort(sort.field, sort.last_id, sort.last, sort.asc)
    rows = await queue.queued(*admin_of(call), _filter(filter), order)
    return [_msg(*row) for row in rows]


@registry.function("affected")
async def QueueNextAttemptSet(call: Call, filter: Filter, minutes: Int32) -> Int32:
    """Set the next attempt of messages to so many minutes from now."""
    return await queue.set_next_attempt(*admin_of(call), _filter(filter), minutes)


@registry.function("affected")
async def QueueNextAttemptAdd(call: Call, filter: Filter, minutes: Int32) -> Int32:
    """Move the next attempt of messages by so many minutes."""
    return await queue.add_next_attempt(*admin_of(call), _filter(filter), minutes)


@registry.function("affected")
async def QueueHoldSet(call: Call, filter: Filter, onHold: bool) -> Int32:
    """Put messages on hold, or let them go."""
    return await queue.set_hold(*admin_of(call), _filter(filter), onHold)


@registry.function("affected")
async def QueueFail(call: Call, filter: Filter) -> Int32:
    """Give messages up: their senders get a notification."""
    return await queue.fail(*admin_of(call), _filter(filter))


@registry.function("affected")
async def QueueDrop(call: Call, filter: Filter) -> Int32:
    """Remove messages from the queue, without notifications."""
    return await queue.drop(*admin_of(call), _filter(filter))


@registry.function("affected")
async def QueueRequireTLSSet(call: Call, filter: Filter, requireTLS: bool | None) -> Int32:
    """Demand verified TLS for messages (true), ignore TLS policies (false), or neither."""
    return await queue.set_require_tls(*admin_of(call), _filter(filter), requireTLS)


@registry.function("affected")
async def QueueTransportSet(call: Call, filter: Filter, transport: str) -> Int32:
    """Set the transport of messages, '' for what routes say."""
    return await queue.set_transport(*admin_of(call), _filter(filter), transport)


@registry.function()
async def RetiredList(call: Call, filter: RetiredFilter, sort: RetiredSort) -> list[MsgRetired]:
    """Messages that are queued no more, sorted by LastActivity or Queued."""
    order = queue.Sort(sort.field, sort.last_id, sort.last, sort.asc)
    wanted = queue.Filter(
        max=filter.max,
        ids=filter.ids,
        account=filter.account,
        sender=filter.from_,
        recipient=filter.to,
        submitted=filter.submitted,
        last_activity=filter.last_activity,
        transport=filter.transport,
        success=filter.success,
    )
    return [_retired(row) for row in await queue.retired(*admin_of(call), wanted, order)]


def _filter(filter: Filter) -> queue.Filter:
    return queue.Filter(
        max=filter.max,
        ids=filter.ids,
        account=filter.account,
        sender=filter.from_,
        recipient=filter.to,
        hold=filter.hold,
        submitted=filter.submitted,
        next_attempt=filter.next_attempt,
        transport=filter.transport,
    )


def _domain(name: str) -> Domain:
    try:
        return to_api(parse_domain(name, False), Domain)
    except DomainError:
        # It was valid when it was stored; shown as it is rather than not at all.
        return Domain(ascii=name)


def _ip_domain(name: str) -> IPDomain:
    if name.startswith("["):
        return IPDomain(ip=IP(name[1:-1].removeprefix("IPv6:")))
    return IPDomain(domain=_domain(name)) if name else IPDomain()


def _rule(rule: StoredRule) -> HoldRule:
    return HoldRule(
        id=rule.id,
        account=rule.account,
        sender_domain=_domain(rule.sender_domain) if rule.sender_domain else Domain(),
        recipient_domain=_domain(rule.recipient_domain) if rule.recipient_domain else Domain(),
        sender_domain_str=rule.sender_domain,
        recipient_domain_str=rule.recipient_domain,
    )


def _results(results: list[Result]) -> list[MsgResult]:
    return [
        MsgResult(
            start=time_of(result.start),
            duration=result.duration * 1000,
            success=result.success,
            code=result.code,
            secode=result.secode,
            error=result.error,
        )
        for result in results
    ]


def _dialed(ips: dict[str, list[str]]) -> dict[str, list[IP]]:
    return {host: [IP(ip) for ip in each] for host, each in ips.items()}


def _optional(time: int | None) -> datetime | None:
    return None if time is None else time_of(time)


def _msg(row: Queued, prefix: bytes, utf8: bytes | None) -> Msg:
    return Msg(
        id=row.id,
        base_id=row.base_id,
        queued=time_of(row.queued),
        hold=row.hold,
        sender_account=row.sender_account,
        sender_localpart=Localpart(row.sender_localpart),
        sender_domain=_ip_domain(row.sender_domain),
        sender_domain_str=row.sender_domain,
        from_id=row.from_id,
        recipient_localpart=Localpart(row.recipient_localpart),
        recipient_domain=_ip_domain(row.recipient_domain),
        recipient_domain_str=row.recipient_domain,
        attempts=row.attempts,
        max_attempts=row.max_attempts,
        dialed_ips=_dialed(row.dialed_ips),
        next_attempt=time_of(row.next_attempt),
        last_attempt=_optional(row.last_attempt),
        results=_results(row.results),
        has8bit=row.has8bit,
        smtputf8=row.smtputf8,
        is_dmarc_report=row.is_dmarc_report,
        is_tls_report=row.is_tls_report,
        size=row.size,
        message_id=row.message_id,
        msg_prefix=prefix,
        subject=row.subject,
        dsnutf8=utf8 or b"",
        transport=row.transport,
        require_tls=row.require_tls,
        future_release_request=row.future_release,
        extra=row.extra,
    )


def _retired(row: Retired) -> MsgRetired:
    return MsgRetired(
        id=row.id,
        base_id=row.base_id,
        queued=time_of(row.queued),
        sender_account=row.sender_account,
        sender_localpart=Localpart(row.sender_localpart),
        sender_domain_str=row.sender_domain,
        from_id=row.from_id,
        recipient_localpart=Localpart(row.recipient_localpart),
        recipient_domain=_ip_domain(row.recipient_domain),
        recipient_domain_str=row.recipient_domain,
        attempts=row.attempts,
        max_attempts=row.max_attempts,
        dialed_ips=_dialed(row.dialed_ips),
        last_attempt=_optional(row.last_attempt),
        results=_results(row.results),
        has8bit=row.has8bit,
        smtputf8=row.smtputf8,
        is_dmarc_report=row.is_dmarc_report,
        is_tls_report=row.is_tls_report,
        size=row.size,
        message_id=row.message_id,
        subject=row.subject,
        transport=row.transport,
        require_tls=row.require_tls,
        future_release_request=row.future_release,
        extra=row.extra,
        last_activity=time_of(row.last_activity),
        recipient_address=row.recipient_address,
        success=row.success,
        keep_until=time_of(row.keep_until),
    )
