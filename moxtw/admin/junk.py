"""The junk filter of accounts."""

from __future__ import annotations

from collections.abc import Callable

from moxtw.admin.context import AdminContext, Caller, OperationError, not_found, user_error
from moxtw.store import accounts
from moxtw.store.errors import NoSuchAccount, StoreError


async def filtered_accounts(ctx: AdminContext, caller: Caller) -> list[str]:
    """Accounts with a junk filter."""
    configured = ctx.config.dynamic.accounts
    return sorted(name for name, account in configured.items() if account.junk_filter)


async def retrain(
    ctx: AdminContext,
    caller: Caller,
    name: str,
    progress: Callable[[int], object] = lambda count: None,
) -> int:
    """Train the junk filter of an account anew, with all its messages that have a junk flag.

    Until that is done the old one is asked. `progress` is told how many messages were trained
    so far; returns how many in the end.
    """
    account = ctx.config.dynamic.accounts.get(name)
    if account is None:
        raise not_found(f"no account {name[:100]!r}")
    if account.junk_filter is None:
        raise user_error(f"account {name} has no junk filter (JunkFilter in domains.conf)")
    if ctx.trainer is None:
        raise OperationError("server", "nothing trains junk filters here")
    try:
        row = await ctx.store.read(lambda tx: accounts.get(tx, name))
        count = await ctx.trainer.retrain(row.id, account.junk_filter.params, progress)
    except NoSuchAccount as exc:
        raise not_found(f"no account {name[:100]!r}") from exc
    except StoreError as exc:
        raise OperationError("server", f"training account {name}: {exc}") from exc
    ctx.done(caller, "junk filter trained anew", account=name, messages=count)
    return count
