"""Functions on queued messages and hold rules."""

from __future__ import annotations

from moxtw.admin import queue
from moxtw.queue.api import (
    Filter,
    HoldRule,
    Msg,
    MsgRetired,
    RetiredFilter,
    RetiredSort,
    Sort,
)
from moxtw.web.adminapi.base import admin_of, registry
from moxtw.web.rpc import Call
from moxtw.web.typewords import Int32, Int64


@registry.function(reads=True)
async def QueueSize(call: Call) -> Int32:
    """How many messages are queued."""
    return await queue.size(*admin_of(call))


@registry.function(reads=True)
async def QueueHoldRuleList(call: Call) -> list[HoldRule]:
    """The hold rules: messages that match one are queued on hold."""
    return await queue.hold_rules(*admin_of(call))


@registry.function()
async def QueueHoldRuleAdd(call: Call, hr: HoldRule) -> HoldRule:
    """Add a hold rule, of an account and of domains in ...DomainStr; queued messages too.

    A rule that names nothing holds everything.
    """
    sender = hr.SenderDomainStr or hr.SenderDomain.Unicode or hr.SenderDomain.ASCII
    recipient = hr.RecipientDomainStr or hr.RecipientDomain.Unicode or hr.RecipientDomain.ASCII
    return await queue.hold_rule_add(*admin_of(call), hr.Account, sender, recipient)


@registry.function()
async def QueueHoldRuleRemove(call: Call, holdRuleID: Int64) -> None:
    """Remove a hold rule. Messages that it holds stay on hold."""
    await queue.hold_rule_remove(*admin_of(call), holdRuleID)


@registry.function(reads=True)
async def QueueList(call: Call, filter: Filter, sort: Sort) -> list[Msg]:
    """Queued messages that match a filter, sorted by NextAttempt or Queued."""
    return await queue.queued(*admin_of(call), filter, sort)


@registry.older("QueueList")
async def _queue_list(call: Call) -> list[Msg]:
    return await queue.queued(*admin_of(call), Filter(), Sort())


@registry.function("affected")
async def QueueNextAttemptSet(call: Call, filter: Filter, minutes: Int32) -> Int32:
    """Set the next attempt of messages to so many minutes from now."""
    return await queue.set_next_attempt(*admin_of(call), filter, minutes)


@registry.function("affected")
async def QueueNextAttemptAdd(call: Call, filter: Filter, minutes: Int32) -> Int32:
    """Move the next attempt of messages by so many minutes."""
    return await queue.add_next_attempt(*admin_of(call), filter, minutes)


@registry.function("affected")
async def QueueHoldSet(call: Call, filter: Filter, onHold: bool) -> Int32:
    """Put messages on hold, or let them go."""
    return await queue.set_hold(*admin_of(call), filter, onHold)


@registry.function("affected")
async def QueueFail(call: Call, filter: Filter) -> Int32:
    """Give messages up: their senders get a notification."""
    return await queue.fail(*admin_of(call), filter)


@registry.function("affected")
async def QueueDrop(call: Call, filter: Filter) -> Int32:
    """Remove messages from the queue, without notifications."""
    return await queue.drop(*admin_of(call), filter)


@registry.older("QueueDrop")
async def _queue_drop(call: Call, id: Int64) -> Int32:
    return await queue.drop(*admin_of(call), Filter(IDs=[id]))


@registry.function("affected")
async def QueueRequireTLSSet(call: Call, filter: Filter, requireTLS: bool | None) -> Int32:
    """Demand verified TLS for messages (true), ignore TLS policies (false), or neither."""
    return await queue.set_require_tls(*admin_of(call), filter, requireTLS)


@registry.function("affected")
async def QueueTransportSet(call: Call, filter: Filter, transport: str) -> Int32:
    """Set the transport of messages, '' for what routes say."""
    return await queue.set_transport(*admin_of(call), filter, transport)


@registry.function(reads=True)
async def RetiredList(call: Call, filter: RetiredFilter, sort: RetiredSort) -> list[MsgRetired]:
    """Messages that are queued no more, sorted by LastActivity or Queued."""
    return await queue.retired(*admin_of(call), filter, sort)
