"""Operations on suppression lists: the addresses that an account sends nothing more to."""

from __future__ import annotations

from typing import Final

from moxtw.admin import accounts
from moxtw.admin.context import AdminContext, Caller, check_text, not_found, user_error
from moxtw.admin.queue import asked
from moxtw.store.suppressions import Suppression

MAX_ADDRESS: Final = 512


async def listed(ctx: AdminContext, caller: Caller, account: str = "") -> list[Suppression]:
    """The entries of an account, or (empty) of all."""
    if account:
        accounts.get(ctx, account)
    return await ctx.queue.suppress_list(account)


async def lookup(
    ctx: AdminContext, caller: Caller, account: str, address: str
) -> list[Suppression]:
    """The entries that keep mail from an address, of an account or (empty) of all."""
    if account:
        accounts.get(ctx, account)
    return await asked(ctx.queue.suppress_lookup(account, address))


async def add(
    ctx: AdminContext,
    caller: Caller,
    account: str,
    address: str,
    *,
    manual: bool = True,
    reason: str = "",
) -> Suppression:
    """Send nothing to an address any more."""
    accounts.get(ctx, account)
    if len(address) > MAX_ADDRESS:
        raise user_error("the address is too long")
    check_text(reason, "the reason")
    added = await asked(ctx.queue.suppress_add(account, address, manual=manual, reason=reason))
    if added is None:
        raise user_error("the address is on the list already")
    ctx.done(caller, "suppression added", account=account, address=added.base_address)
    return added


async def remove(ctx: AdminContext, caller: Caller, account: str, address: str) -> None:
    """Send to an address again."""
    accounts.get(ctx, account)
    if not await asked(ctx.queue.suppress_remove(account, address)):
        raise not_found("the address is not on the list")
    ctx.done(caller, "suppression removed", account=account, address=address)
