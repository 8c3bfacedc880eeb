"""Commands of the control socket on the queue: messages, hold rules, suppressions, webhooks.

Filters and sorts are JSON on one line; a form is empty for a table, or ``json``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Final, TypeVar

from moxtw.admin import hooks, queue, suppressions
from moxtw.admin.context import AdminContext, Caller, user_error
from moxtw.ctl.server import Answer, Command, Lines, Stream
from moxtw.ctl.texts import (
    bool_of,
    counted,
    from_json,
    indented,
    listing,
    number_of,
    optional_bool,
    stamp,
)
from moxtw.mail.address import pack_address
from moxtw.queue import api, hookapi
from moxtw.web.webapi.suppressions import suppression
from moxtw.web.webapi.types import Suppression

T = TypeVar("T")


async def _one_page(found: list[T]) -> AsyncIterator[list[T]]:
    yield found


def _from_now(relative: str) -> bool:
    if relative not in ("", "now"):
        raise user_error(f"{relative[:100]!r} is neither now nor empty")
    return relative == "now"


def _one_line(text: str) -> str:
    return text[:200].replace("\n", " ")


# Messages


def _filter(text: str) -> api.Filter:
    return from_json(text, api.Filter, "filter")


def _last_error(row: api.Msg | api.MsgRetired) -> str:
    return _one_line(row.Results[-1].Error) if row.Results else ""


def _address(localpart: str, domain: str) -> str:
    return pack_address(localpart, domain) if domain or localpart else "<>"


async def _queue_list(
    ctx: AdminContext, caller: Caller, filter: str, sort: str, form: str
) -> Answer:
    def row(message: api.Msg) -> Sequence[str]:
        return (
            str(message.ID),
            stamp(message.Queued),
            stamp(message.NextAttempt),
            "hold" if message.Hold else "",
            str(message.Attempts),
            str(message.Size),
            message.SenderAccount,
            _address(message.SenderLocalpart, message.SenderDomainStr),
            _address(message.RecipientLocalpart, message.RecipientDomainStr),
            message.Transport,
            _last_error(message),
        )

    order = from_json(sort, api.Sort, "sort")
    pages = await queue.queued_pages(ctx, caller, _filter(filter), order)
    titles = "ID QUEUED NEXT HOLD TRIES SIZE ACCOUNT FROM TO TRANSPORT LAST-RESULT"
    return await listing(form, titles, pages, row)


async def _queue_retired_list(
    ctx: AdminContext, caller: Caller, filter: str, sort: str, form: str
) -> Answer:
    def row(message: api.MsgRetired) -> Sequence[str]:
        return (
            str(message.ID),
            stamp(message.Queued),
            stamp(message.LastActivity),
            "ok" if message.Success else "failed",
            str(message.Attempts),
            str(message.Size),
            message.SenderAccount,
            _address(message.SenderLocalpart, message.SenderDomainStr),
            _address(message.RecipientLocalpart, message.RecipientDomainStr),
            _last_error(message),
        )

    wanted = from_json(filter, api.RetiredFilter, "filter")
    order = from_json(sort, api.RetiredSort, "sort")
    pages = await queue.retired_pages(ctx, caller, wanted, order)
    titles = "ID QUEUED LAST RESULT TRIES SIZE ACCOUNT FROM TO LAST-RESULT"
    return await listing(form, titles, pages, row)


async def _queue_retired_print(ctx: AdminContext, caller: Caller, number: str) -> Answer:
    return indented(await queue.get_retired(ctx, caller, number_of(number, "id")))


async def _queue_hold_set(ctx: AdminContext, caller: Caller, filter: str, hold: str) -> Answer:
    return counted(await queue.set_hold(ctx, caller, _filter(filter), bool_of(hold)))


async def _queue_schedule(
    ctx: AdminContext, caller: Caller, filter: str, relative: str, duration: str
) -> Answer:
    count = await queue.schedule(
        ctx, caller, _filter(filter), duration, from_now=_from_now(relative)
    )
    return counted(count)


async def _queue_transport(
    ctx: AdminContext, caller: Caller, filter: str, transport: str
) -> Answer:
    return counted(await queue.set_transport(ctx, caller, _filter(filter), transport))


async def _queue_require_tls(
    ctx: AdminContext, caller: Caller, filter: str, value: str
) -> Answer:
    require = optional_bool(value)
    return counted(await queue.set_require_tls(ctx, caller, _filter(filter), require))


async def _queue_fail(ctx: AdminContext, caller: Caller, filter: str) -> Answer:
    return counted(await queue.fail(ctx, caller, _filter(filter)))


async def _queue_drop(ctx: AdminContext, caller: Caller, filter: str) -> Answer:
    return counted(await queue.drop(ctx, caller, _filter(filter)))


async def _queue_dump(ctx: AdminContext, caller: Caller, number: str) -> Answer:
    return Stream(await queue.dump(ctx, caller, number_of(number, "id")))


# Hold rules


async def _hold_rules_list(ctx: AdminContext, caller: Caller, form: str) -> Answer:
    def row(rule: api.HoldRule) -> Sequence[str]:
        return (
            str(rule.ID),
            rule.Account or "*",
            rule.SenderDomainStr or "*",
            rule.RecipientDomainStr or "*",
        )

    pages = _one_page(await queue.hold_rules(ctx, caller))
    return await listing(form, "ID ACCOUNT SENDER-DOMAIN RECIPIENT-DOMAIN", pages, row)


async def _hold_rules_add(
    ctx: AdminContext, caller: Caller, account: str, sender: str, recipient: str
) -> Answer:
    rule = await queue.hold_rule_add(ctx, caller, account, sender, recipient)
    return Lines([str(rule.ID)])


async def _hold_rules_remove(ctx: AdminContext, caller: Caller, number: str) -> Answer:
    await queue.hold_rule_remove(ctx, caller, number_of(number, "id"))
    return None


# Suppressions


def _suppression(entry: Suppression) -> Sequence[str]:
    return (
        entry.Account,
        entry.BaseAddress,
        entry.OriginalAddress,
        "manual" if entry.Manual else "automatic",
        stamp(entry.Created),
        entry.Reason,
    )


_SUPPRESSION_TITLES: Final = "ACCOUNT ADDRESS AS-GIVEN KIND SINCE REASON"


async def _suppress_list(ctx: AdminContext, caller: Caller, account: str, form: str) -> Answer:
    found = await suppressions.listed(ctx, caller, account)
    pages = _one_page([suppression(entry) for entry in found])
    return await listing(form, _SUPPRESSION_TITLES, pages, _suppression)


async def _suppress_lookup(
    ctx: AdminContext, caller: Caller, account: str, address: str, form: str
) -> Answer:
    found = await suppressions.lookup(ctx, caller, account, address)
    pages = _one_page([suppression(entry) for entry in found])
    return await listing(form, _SUPPRESSION_TITLES, pages, _suppression)


async def _suppress_add(
    ctx: AdminContext, caller: Caller, account: str, address: str
) -> Answer:
    added = await suppressions.add(ctx, caller, account, address)
    return Lines([added.base_address])


async def _suppress_remove(
    ctx: AdminContext, caller: Caller, account: str, address: str
) -> Answer:
    await suppressions.remove(ctx, caller, account, address)
    return None


# Webhooks


def _hook_filter(text: str) -> hookapi.HookFilter:
    return from_json(text, hookapi.HookFilter, "filter")


def _event(hook: hookapi.Hook | hookapi.HookRetired) -> str:
    return "incoming" if hook.IsIncoming else hook.OutgoingEvent


def _last_result(hook: hookapi.Hook | hookapi.HookRetired) -> str:
    if not hook.Results:
        return ""
    last = hook.Results[-1]
    return _one_line(last.Error or (f"HTTP status {last.Code}" if last.Code else ""))


async def _hook_list(
    ctx: AdminContext, caller: Caller, filter: str, sort: str, form: str
) -> Answer:
    def row(hook: hookapi.Hook) -> Sequence[str]:
        return (
            str(hook.ID),
            stamp(hook.Submitted),
            stamp(hook.NextAttempt),
            str(hook.Attempts),
            hook.Account,
            _event(hook),
            str(hook.QueueMsgID or ""),
            hook.URL,
            _last_result(hook),
        )

    order = from_json(sort, hookapi.HookSort, "sort")
    pages = await hooks.waiting_pages(ctx, caller, _hook_filter(filter), order)
    titles = "ID SUBMITTED NEXT TRIES ACCOUNT EVENT MESSAGE URL LAST-RESULT"
    return await listing(form, titles, pages, row)


async def _hook_retired_list(
    ctx: AdminContext, caller: Caller, filter: str, sort: str, form: str
) -> Answer:
    def row(hook: hookapi.HookRetired) -> Sequence[str]:
        result = "ok" if hook.Success else "failed"
        if hook.SupersededByID:
            result = f"superseded by {hook.SupersededByID}"
        return (
            str(hook.ID),
            stamp(hook.Submitted),
            stamp(hook.LastActivity),
            result,
            str(hook.Attempts),
            hook.Account,
            _event(hook),
            str(hook.QueueMsgID or ""),
            hook.URL,
            _last_result(hook),
        )

    wanted = from_json(filter, hookapi.HookRetiredFilter, "filter")
    order = from_json(sort, hookapi.HookRetiredSort, "sort")
    pages = await hooks.retired_pages(ctx, caller, wanted, order)
    titles = "ID SUBMITTED LAST RESULT TRIES ACCOUNT EVENT MESSAGE URL LAST-RESULT"
    return await listing(form, titles, pages, row)


async def _hook_print(ctx: AdminContext, caller: Caller, number: str) -> Answer:
    return indented(await hooks.get(ctx, caller, number_of(number, "id")))


async def _hook_retired_print(ctx: AdminContext, caller: Caller, number: str) -> Answer:
    return indented(await hooks.get_retired(ctx, caller, number_of(number, "id")))


async def _hook_schedule(
    ctx: AdminContext, caller: Caller, filter: str, relative: str, duration: str
) -> Answer:
    count = await hooks.schedule(
        ctx, caller, _hook_filter(filter), duration, from_now=_from_now(relative)
    )
    return counted(count)


async def _hook_cancel(ctx: AdminContext, caller: Caller, filter: str) -> Answer:
    return counted(await hooks.cancel(ctx, caller, _hook_filter(filter)))


QUEUE: Final[dict[str, Command]] = {
    "queuelist": Command(_queue_list, 3, reads=True),
    "queueretiredlist": Command(_queue_retired_list, 3, reads=True),
    "queueretiredprint": Command(_queue_retired_print, 1, reads=True),
    "queueholdset": Command(_queue_hold_set, 2),
    "queueschedule": Command(_queue_schedule, 3),
    "queuetransport": Command(_queue_transport, 2),
    "queuerequiretls": Command(_queue_require_tls, 2),
    "queuefail": Command(_queue_fail, 1),
    "queuedrop": Command(_queue_drop, 1),
    "queuedump": Command(_queue_dump, 1),
    "queueholdruleslist": Command(_hold_rules_list, 1, reads=True),
    "queueholdrulesadd": Command(_hold_rules_add, 3),
    "queueholdrulesremove": Command(_hold_rules_remove, 1),
    "queuesuppresslist": Command(_suppress_list, 2, reads=True),
    "queuesuppresslookup": Command(_suppress_lookup, 3, reads=True),
    "queuesuppressadd": Command(_suppress_add, 2),
    "queuesuppressremove": Command(_suppress_remove, 2),
    "queuehooklist": Command(_hook_list, 3, reads=True),
    "queuehookprint": Command(_hook_print, 1, reads=True),
    "queuehookschedule": Command(_hook_schedule, 3),
    "queuehookcancel": Command(_hook_cancel, 1),
    "queuehookretiredlist": Command(_hook_retired_list, 3, reads=True),
    "queuehookretiredprint": Command(_hook_retired_print, 1, reads=True),
}
