"""Functions on webhook calls."""

from __future__ import annotations

from moxtw.admin import hooks
from moxtw.queue.hookapi import (
    Hook,
    HookFilter,
    HookRetired,
    HookRetiredFilter,
    HookRetiredSort,
    HookSort,
)
from moxtw.web.adminapi.base import admin_of, registry
from moxtw.web.rpc import Call
from moxtw.web.typewords import Int32


@registry.function(reads=True)
async def HookQueueSize(call: Call) -> Int32:
    """How many webhook calls are to be made."""
    return await hooks.size(*admin_of(call))


@registry.function(reads=True)
async def HookList(call: Call, filter: HookFilter, sort: HookSort) -> list[Hook]:
    """Webhook calls to be made that match a filter, sorted by NextAttempt or Submitted."""
    return await hooks.waiting(*admin_of(call), filter, sort)


@registry.function("affected")
async def HookNextAttemptSet(call: Call, filter: HookFilter, minutes: Int32) -> Int32:
    """Set the next attempt of webhook calls to so many minutes from now."""
    return await hooks.set_next_attempt(*admin_of(call), filter, minutes)


@registry.function("affected")
async def HookNextAttemptAdd(call: Call, filter: HookFilter, minutes: Int32) -> Int32:
    """Move the next attempt of webhook calls by so many minutes."""
    return await hooks.add_next_attempt(*admin_of(call), filter, minutes)


@registry.function(reads=True)
async def HookRetiredList(
    call: Call, filter: HookRetiredFilter, sort: HookRetiredSort
) -> list[HookRetired]:
    """Webhook calls that are done with, sorted by LastActivity or Submitted."""
    return await hooks.retired(*admin_of(call), filter, sort)


@registry.function("affected")
async def HookCancel(call: Call, filter: HookFilter) -> Int32:
    """Give webhook calls up."""
    return await hooks.cancel(*admin_of(call), filter)
