"""Operations on aliases. They are named by decoded localpart and domain."""

from __future__ import annotations

from collections.abc import Sequence

from moxtw.admin.context import AdminContext, Caller, looked_up
from moxtw.admin.domains import get as get_domain
from moxtw.config import edit
from moxtw.config.dynamic import Alias
from moxtw.mail.address import pack_address


def split(address: str) -> tuple[str, str]:
    """The localpart and domain of an alias's address."""
    return looked_up(lambda: edit.split_alias(address))


async def alias_list(ctx: AdminContext, caller: Caller, domain: str) -> list[Alias]:
    """The aliases of a domain, sorted by localpart."""
    aliases = get_domain(ctx, domain).aliases.values()
    return sorted(aliases, key=lambda alias: alias.localpart_str)


async def get(ctx: AdminContext, caller: Caller, localpart: str, domain: str) -> Alias:
    """An alias."""
    return looked_up(lambda: edit.find_alias(ctx.config.dynamic, localpart, domain))


async def add(
    ctx: AdminContext, caller: Caller, localpart: str, domain: str, alias: Alias
) -> None:
    """Add an alias."""
    await ctx.change(lambda dynamic: edit.alias_add(dynamic, localpart, domain, alias))
    ctx.done(caller, "alias added", alias=pack_address(localpart, domain))


async def update(
    ctx: AdminContext,
    caller: Caller,
    localpart: str,
    domain: str,
    *,
    post_public: bool | None = None,
    list_members: bool | None = None,
    allow_msg_from: bool | None = None,
) -> None:
    """Change flags of an alias; None keeps one."""
    await ctx.change(
        lambda dynamic: edit.alias_update(
            dynamic,
            localpart,
            domain,
            post_public=post_public,
            list_members=list_members,
            allow_msg_from=allow_msg_from,
        )
    )
    ctx.done(caller, "alias changed", alias=pack_address(localpart, domain))


async def remove(ctx: AdminContext, caller: Caller, localpart: str, domain: str) -> None:
    """Remove an alias."""
    await ctx.change(lambda dynamic: edit.alias_remove(dynamic, localpart, domain))
    ctx.done(caller, "alias removed", alias=pack_address(localpart, domain))


async def addresses_add(
    ctx: AdminContext, caller: Caller, localpart: str, domain: str, addresses: Sequence[str]
) -> None:
    """Add members to an alias."""
    await ctx.change(
        lambda dynamic: edit.alias_addresses_add(dynamic, localpart, domain, addresses)
    )
    ctx.done(caller, "alias members added", alias=pack_address(localpart, domain))


async def addresses_remove(
    ctx: AdminContext, caller: Caller, localpart: str, domain: str, addresses: Sequence[str]
) -> None:
    """Remove members from an alias."""
    await ctx.change(
        lambda dynamic: edit.alias_addresses_remove(dynamic, localpart, domain, addresses)
    )
    ctx.done(caller, "alias members removed", alias=pack_address(localpart, domain))
