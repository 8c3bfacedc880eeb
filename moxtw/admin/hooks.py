"""Operations on webhook calls: those that are to be made, and those that are done with.

What they do is in `moxtw.queue.hookoperations`; here are the answers to wrong wishes, and the
log.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable

from moxtw.admin.context import AdminContext, Caller, not_found, user_error
from moxtw.admin.queue import MAX_IDS, asked, begun, microseconds
from moxtw.queue.hookapi import (
    Hook,
    HookFilter,
    HookRetired,
    HookRetiredFilter,
    HookRetiredSort,
    HookSort,
)


def _bounded(filter: HookFilter | HookRetiredFilter) -> None:
    if len(filter.IDs) > MAX_IDS:
        raise user_error(f"more than {MAX_IDS} ids")


async def size(ctx: AdminContext, caller: Caller) -> int:
    """How many webhook calls wait."""
    return await ctx.hooks.size()


async def waiting(
    ctx: AdminContext, caller: Caller, filter: HookFilter, sort: HookSort
) -> list[Hook]:
    """Webhook calls that wait."""
    _bounded(filter)
    return await asked(ctx.hooks.waiting(filter, sort))


async def retired(
    ctx: AdminContext, caller: Caller, filter: HookRetiredFilter, sort: HookRetiredSort
) -> list[HookRetired]:
    """Webhook calls that are done with."""
    _bounded(filter)
    return await asked(ctx.hooks.retired(filter, sort))


async def waiting_pages(
    ctx: AdminContext, caller: Caller, filter: HookFilter, sort: HookSort
) -> AsyncIterator[list[Hook]]:
    """Webhook calls that wait, without payloads, in pieces, for lists of all."""
    _bounded(filter)
    return await begun(ctx.hooks.pages(filter, sort, payloads=False))


async def retired_pages(
    ctx: AdminContext, caller: Caller, filter: HookRetiredFilter, sort: HookRetiredSort
) -> AsyncIterator[list[HookRetired]]:
    """Webhook calls that are done with, without payloads, in pieces."""
    _bounded(filter)
    return await begun(ctx.hooks.retired_pages(filter, sort, payloads=False))


async def get(ctx: AdminContext, caller: Caller, hook_id: int) -> Hook:
    """A webhook call that waits."""
    found = await waiting(ctx, caller, HookFilter(IDs=[hook_id]), HookSort())
    if not found:
        raise not_found(f"no webhook call {hook_id} waits")
    return found[0]


async def get_retired(ctx: AdminContext, caller: Caller, hook_id: int) -> HookRetired:
    """A webhook call that is done with."""
    found = await retired(ctx, caller, HookRetiredFilter(IDs=[hook_id]), HookRetiredSort())
    if not found:
        raise not_found(f"no retired webhook call {hook_id}")
    return found[0]


async def _change(ctx: AdminContext, caller: Caller, what: str, count: Awaitable[int]) -> int:
    changed = await asked(count)
    ctx.done(caller, f"webhooks: {what}", count=changed)
    return changed


async def set_next_attempt(
    ctx: AdminContext, caller: Caller, filter: HookFilter, minutes: int
) -> int:
    """Set the next attempt to so many minutes from now. These return how many were changed."""
    _bounded(filter)
    count = ctx.hooks.next_attempt_set(filter, minutes)
    return await _change(ctx, caller, "next attempt set", count)


async def add_next_attempt(
    ctx: AdminContext, caller: Caller, filter: HookFilter, minutes: int
) -> int:
    """Move the next attempt by so many minutes."""
    _bounded(filter)
    count = ctx.hooks.next_attempt_add(filter, minutes)
    return await _change(ctx, caller, "next attempt moved", count)


async def schedule(
    ctx: AdminContext, caller: Caller, filter: HookFilter, duration: str, *, from_now: bool
) -> int:
    """Set or move the next attempt by a duration such as ``1h30m`` or ``-10m``."""
    _bounded(filter)
    count = ctx.hooks.schedule(filter, microseconds(duration), from_now=from_now)
    return await _change(ctx, caller, "scheduled", count)


async def cancel(ctx: AdminContext, caller: Caller, filter: HookFilter) -> int:
    """Give calls up: they are kept as failed, like others that are done with."""
    _bounded(filter)
    return await _change(ctx, caller, "canceled", ctx.hooks.cancel(filter))
