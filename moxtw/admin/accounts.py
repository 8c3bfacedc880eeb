"""Operations on accounts, their addresses and passwords."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from moxtw.admin.context import AdminContext, Caller, OperationError, looked_up, user_error
from moxtw.config import edit
from moxtw.config.dynamic import Account, Route
from moxtw.config.lookup import account_destinations, account_for_login
from moxtw.sasl import password as passwords
from moxtw.store import accounts as rows
from moxtw.store import credentials, websessions
from moxtw.store.auth import Login
from moxtw.store.errors import NoSuchAccount
from moxtw.store.tx import Tx


def get(ctx: AdminContext, name: str) -> Account:
    """A configured account."""
    return looked_up(lambda: edit.find_account(ctx.config.dynamic, name))


async def account_list(ctx: AdminContext, caller: Caller) -> tuple[list[str], list[str]]:
    """The names of all accounts, and of those that may not log in, sorted."""
    accounts = ctx.config.dynamic.accounts
    disabled = [name for name, account in accounts.items() if account.login_disabled]
    return sorted(accounts), sorted(disabled)


async def account(ctx: AdminContext, caller: Caller, name: str) -> tuple[Account, int]:
    """An account, and how many bytes its messages take."""
    config = get(ctx, name)

    def usage(tx: Tx) -> int:
        found = rows.find(tx, name)
        return 0 if found is None else found.disk_usage

    return config, await ctx.store.read(usage)


async def addresses(ctx: AdminContext, caller: Caller, name: str) -> list[str]:
    """The addresses of an account, ``@domain`` for catchalls, in the order of the file."""
    get(ctx, name)
    return [
        f"@{found.domain.name}" if found.catchall else found.canonical
        for found in account_destinations(ctx.config, name)
    ]


async def add(ctx: AdminContext, caller: Caller, name: str, address: str) -> None:
    """Add an account with an address."""
    await check_unused(ctx, name)
    await ctx.change(lambda dynamic: edit.account_add(dynamic, name, address))
    await ctx.ensure_accounts()
    ctx.done(caller, "account added", account=name, address=address)


async def check_unused(ctx: AdminContext, name: str) -> None:
    """Refuse the name of an account that there is, or was. Raises OperationError."""
    if await ctx.store.read(lambda tx: rows.find(tx, name)) is not None:
        if name in ctx.config.dynamic.accounts:
            raise user_error(f"account {name!r} exists already")
        # Left by an edit of the file: nobody gets another's mail by chance.
        raise user_error(
            f"there is mail of an earlier account {name!r}, that was removed from the "
            "configuration file: choose another name"
        )


async def remove(ctx: AdminContext, caller: Caller, name: str) -> None:
    """Remove an account with its mail; what it has queued fails, webhooks are canceled."""
    await ctx.change(lambda dynamic: edit.account_remove(dynamic, name))
    ctx.end_sessions(name)
    await ctx.queue.remove_account(name)
    await ctx.hooks.remove_account(name)
    with contextlib.suppress(NoSuchAccount):  # it may have been in the configuration only
        await rows.remove(ctx.store, name)
    ctx.done(caller, "account removed", account=name)


async def save(ctx: AdminContext, caller: Caller, name: str, **changes: object) -> None:
    """Change fields of an account."""
    await ctx.change(lambda dynamic: edit.account_save(dynamic, name, **changes))
    ctx.done(caller, "account changed", account=name, fields=",".join(changes))


async def save_settings(
    ctx: AdminContext,
    caller: Caller,
    name: str,
    *,
    max_outgoing: int,
    max_first_time: int,
    quota: int,
    first_time_sender_delay: bool,
    no_custom_password: bool | None = None,
) -> None:
    """Change the limits of an account; `no_custom_password` None leaves that as it is."""
    await ctx.change(
        lambda dynamic: edit.account_settings(
            dynamic,
            name,
            max_outgoing_messages_per_day=max_outgoing,
            max_first_time_recipients_per_day=max_first_time,
            quota_message_size=quota,
            first_time_sender_delay=first_time_sender_delay,
            no_custom_password=no_custom_password,
        )
    )
    ctx.done(caller, "account settings changed", account=name)


async def save_login_disabled(
    ctx: AdminContext, caller: Caller, name: str, message: str
) -> None:
    """Forbid logins, with a message for who tries, or allow them with an empty one."""
    await ctx.change(lambda dynamic: edit.account_save(dynamic, name, login_disabled=message))
    ctx.end_sessions(name)

    def end(tx: Tx) -> None:
        found = rows.find(tx, name)
        if found is not None:
            websessions.end_all(tx, found.id)

    if message:
        await ctx.store.write(end)
    ctx.done(caller, "account login disabled" if message else "account enabled", account=name)


async def save_routes(
    ctx: AdminContext, caller: Caller, name: str, routes: Sequence[Route]
) -> None:
    """Replace the routes of an account."""
    await save(ctx, caller, name, routes=tuple(routes))


async def set_password(
    ctx: AdminContext, caller: Caller, name: str, password: str, *, keep: bytes = b""
) -> None:
    """Set the password of an account; its web sessions end, but for the one of digest `keep`."""
    get(ctx, name)
    try:
        verifiers = await ctx.store.run(passwords.derive, password)
    except passwords.PasswordError as exc:
        raise user_error(str(exc)) from exc

    def job(tx: Tx) -> None:
        credentials.set_password(tx, rows.get(tx, name).id, verifiers, keep)

    try:
        await ctx.store.write(job)
    except NoSuchAccount as exc:
        raise OperationError("server", f"account {name!r} is not ready yet") from exc
    ctx.done(caller, "password set", account=name)


async def address_add(ctx: AdminContext, caller: Caller, address: str, name: str) -> None:
    """Give an account another address, or ``@domain``: all that no other address takes."""
    await ctx.change(lambda dynamic: edit.address_add(dynamic, address, name))
    ctx.done(caller, "address added", address=address, account=name)


async def address_remove(ctx: AdminContext, caller: Caller, address: str) -> None:
    """Take an address from its account, and from aliases."""
    found = looked_up(lambda: edit.find_address(ctx.config.dynamic, address))
    for key in await ctx.store.read(lambda tx: credentials.tls_keys(tx, found.account)):
        login = account_for_login(ctx.config, key.login_address)
        if login is not None and login.canonical == found.canonical:
            raise user_error(
                f"a TLS public key has login address {key.login_address}: remove that key first"
            )
    await ctx.change(lambda dynamic: edit.address_remove(dynamic, address))
    ctx.done(caller, "address removed", address=address, account=found.account)


async def address_account(ctx: AdminContext, caller: Caller, address: str) -> str:
    """The account that an address belongs to."""
    found = looked_up(lambda: edit.find_address(ctx.config.dynamic, address))
    return found.account


async def login_of(ctx: AdminContext, caller: Caller, address: str) -> Login:
    """Who an address belongs to, as if they had logged in with it. Raises OperationError."""
    name = await address_account(ctx, caller, address)
    row = await ctx.store.read(lambda tx: rows.get(tx, name))
    return Login(name, row.id, address)
