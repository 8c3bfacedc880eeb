"""Functions on accounts and addresses."""

from __future__ import annotations

from moxtw.admin import accounts
from moxtw.config import dynamic as config
from moxtw.web.adminapi.base import admin_of, registry
from moxtw.web.configtypes import Account as AccountConfig
from moxtw.web.configtypes import Route
from moxtw.web.conversions import list_from_api, to_api
from moxtw.web.rpc import Call
from moxtw.web.typewords import Int32, Int64


@registry.function("all", "disabled", reads=True)
async def Accounts(call: Call) -> tuple[list[str], list[str]]:
    """The names of all accounts, and of those that may not log in."""
    return await accounts.account_list(*admin_of(call))


@registry.function("accountConfig", "diskUsage", reads=True)
async def Account(call: Call, account: str) -> tuple[AccountConfig, Int64]:
    """A configured account, and how many bytes its messages take."""
    found, usage = await accounts.account(*admin_of(call), account)
    return to_api(found, AccountConfig), usage


@registry.function()
async def AccountAdd(call: Call, accountName: str, address: str) -> None:
    """Add an account with an address."""
    await accounts.add(*admin_of(call), accountName, address)


@registry.function()
async def AccountRemove(call: Call, accountName: str) -> None:
    """Remove an account with all its mail."""
    await accounts.remove(*admin_of(call), accountName)


@registry.function()
async def AddressAdd(call: Call, address: str, accountName: str) -> None:
    """Give an account an address, or @domain for all that no other address takes."""
    await accounts.address_add(*admin_of(call), address, accountName)


@registry.function()
async def AddressRemove(call: Call, address: str) -> None:
    """Take an address from its account and from aliases."""
    await accounts.address_remove(*admin_of(call), address)


@registry.function()
async def SetPassword(call: Call, accountName: str, password: str) -> None:
    """Set the password of an account, of 8 bytes or more."""
    await accounts.set_password(*admin_of(call), accountName, password)


@registry.function()
async def AccountSettingsSave(
    call: Call,
    accountName: str,
    maxOutgoingMessagesPerDay: Int32,
    maxFirstTimeRecipientsPerDay: Int32,
    maxMsgSize: Int64,
    firstTimeSenderDelay: bool,
    noCustomPassword: bool,
) -> None:
    """Change the limits of an account; maxMsgSize is for all its messages together."""
    await accounts.save_settings(
        *admin_of(call),
        accountName,
        max_outgoing=maxOutgoingMessagesPerDay,
        max_first_time=maxFirstTimeRecipientsPerDay,
        quota=maxMsgSize,
        first_time_sender_delay=firstTimeSenderDelay,
        no_custom_password=noCustomPassword,
    )


@registry.older("AccountSettingsSave")
async def _settings_save(
    call: Call,
    accountName: str,
    maxOutgoingMessagesPerDay: Int32,
    maxFirstTimeRecipientsPerDay: Int32,
    maxMsgSize: Int64,
    firstTimeSenderDelay: bool,
) -> None:
    await accounts.save_settings(
        *admin_of(call),
        accountName,
        max_outgoing=maxOutgoingMessagesPerDay,
        max_first_time=maxFirstTimeRecipientsPerDay,
        quota=maxMsgSize,
        first_time_sender_delay=firstTimeSenderDelay,
    )


@registry.function()
async def AccountLoginDisabledSave(call: Call, accountName: str, loginDisabled: str) -> None:
    """Forbid logins to an account, with a message for who tries; '' allows them."""
    await accounts.save_login_disabled(*admin_of(call), accountName, loginDisabled)


@registry.function()
async def AccountRoutesSave(call: Call, accountName: str, routes: list[Route]) -> None:
    """Replace the routes of an account."""
    await accounts.save_routes(*admin_of(call), accountName, list_from_api(config.Route, routes))
