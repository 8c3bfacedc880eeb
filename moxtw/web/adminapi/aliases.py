"""Functions on aliases."""

from __future__ import annotations

from moxtw.admin import aliases
from moxtw.config import dynamic as config
from moxtw.web.adminapi.base import admin_of, registry
from moxtw.web.configtypes import Alias
from moxtw.web.conversions import from_api
from moxtw.web.rpc import Call


@registry.function()
async def AliasAdd(call: Call, aliaslp: str, domainName: str, alias: Alias) -> None:
    """Add an alias."""
    await aliases.add(*admin_of(call), aliaslp, domainName, from_api(config.Alias, alias))


@registry.function()
async def AliasUpdate(
    call: Call,
    aliaslp: str,
    domainName: str,
    postPublic: bool,
    listMembers: bool,
    allowMsgFrom: bool,
) -> None:
    """Change the flags of an alias."""
    await aliases.update(
        *admin_of(call),
        aliaslp,
        domainName,
        post_public=postPublic,
        list_members=listMembers,
        allow_msg_from=allowMsgFrom,
    )


@registry.function()
async def AliasRemove(call: Call, aliaslp: str, domainName: str) -> None:
    """Remove an alias."""
    await aliases.remove(*admin_of(call), aliaslp, domainName)


@registry.function()
async def AliasAddressesAdd(
    call: Call, aliaslp: str, domainName: str, addresses: list[str]
) -> None:
    """Add members to an alias."""
    await aliases.addresses_add(*admin_of(call), aliaslp, domainName, addresses)


@registry.function()
async def AliasAddressesRemove(
    call: Call, aliaslp: str, domainName: str, addresses: list[str]
) -> None:
    """Remove members from an alias."""
    await aliases.addresses_remove(*admin_of(call), aliaslp, domainName, addresses)
