"""Functions on settings of the account, and on its suppression list."""

from __future__ import annotations

from moxtw.admin import suppressions, usersettings
from moxtw.config import dynamic as config
from moxtw.store import suppressions as store
from moxtw.web.accountapi.base import own, registry
from moxtw.web.accounttypes import Suppression
from moxtw.web.configtypes import Account as AccountConfig
from moxtw.web.configtypes import Destination, JunkFilter
from moxtw.web.conversions import from_api, time_of, to_api
from moxtw.web.rpc import Call
from moxtw.web.typewords import Int64


def _suppression(entry: store.Suppression) -> Suppression:
    return Suppression(
        id=entry.id,
        created=time_of(entry.created),
        account=entry.account,
        base_address=entry.base_address,
        original_address=entry.original_address,
        manual=entry.manual,
        reason=entry.reason,
    )


@registry.function("account", "storageUsed", "storageLimit", "suppressions", reads=True)
async def Account(call: Call) -> tuple[AccountConfig, Int64, Int64, list[Suppression]]:
    """Settings, bytes that messages take and may take (0: no limit), and suppressions."""
    found, used, limit, entries = await usersettings.account(*own(call))
    result = to_api(found, AccountConfig)
    for membership in result.aliases:
        # Who else is a member is told only where members may know.
        if not membership.alias.list_members:
            membership.alias.addresses = []
            membership.alias.parsed_addresses = []
    return result, used, limit, [_suppression(entry) for entry in entries]


@registry.function()
async def AccountSaveFullName(call: Call, fullName: str) -> None:
    """Change the full name, which is shown with addresses that have none of their own."""
    await usersettings.save_full_name(*own(call), fullName)


@registry.function()
async def DestinationSave(
    call: Call, destName: str, oldDest: Destination, newDest: Destination
) -> None:
    """Change what becomes of messages to an address, if it still is as in oldDest."""
    old, new = from_api(config.Destination, oldDest), from_api(config.Destination, newDest)
    await usersettings.save_destination(*own(call), destName, old, new)


@registry.function("suppressions", reads=True)
async def SuppressionList(call: Call) -> list[Suppression]:
    """Addresses that the account sends nothing to."""
    return [_suppression(entry) for entry in await suppressions.listed(*own(call))]


@registry.function("suppression")
async def SuppressionAdd(call: Call, address: str, manual: bool, reason: str) -> Suppression:
    """Send nothing to an address any more."""
    added = await suppressions.add(
        *own(call), address, manual=manual, reason=reason
    )
    return _suppression(added)


@registry.function()
async def SuppressionRemove(call: Call, address: str) -> None:
    """Send to an address again."""
    await suppressions.remove(*own(call), address)


@registry.function()
async def FromIDLoginAddressesSave(call: Call, loginAddresses: list[str]) -> None:
    """Change which login addresses send with unique sender addresses."""
    await usersettings.save_from_id_addresses(*own(call), loginAddresses)


@registry.function()
async def KeepRetiredPeriodsSave(
    call: Call, keepRetiredMessagePeriod: Int64, keepRetiredWebhookPeriod: Int64
) -> None:
    """Change how long messages and webhook calls are remembered, in nanoseconds."""
    await usersettings.save_keep_retired(
        *own(call), keepRetiredMessagePeriod, keepRetiredWebhookPeriod
    )


@registry.function()
async def AutomaticJunkFlagsSave(
    call: Call, enabled: bool, junkRegexp: str, neutralRegexp: str, notJunkRegexp: str
) -> None:
    """Change how names of mailboxes mark messages as junk or not."""
    await usersettings.save_automatic_junk_flags(
        *own(call), enabled, junkRegexp, neutralRegexp, notJunkRegexp
    )


@registry.function()
async def JunkFilterSave(call: Call, junkFilter: JunkFilter | None) -> None:
    """Change the junk filter; null ends it."""
    value = None if junkFilter is None else from_api(config.JunkFilter, junkFilter)
    await usersettings.save_junk_filter(*own(call), value)


@registry.function()
async def RejectsSave(call: Call, mailbox: str, keep: bool) -> None:
    """Change the mailbox for copies of refused messages, '' for none, and whether they stay."""
    await usersettings.save_rejects(*own(call), mailbox, keep)


@registry.function()
async def IntroboxSave(call: Call, mailbox: str) -> None:
    """Change the mailbox for messages from unknown people, '' for none."""
    await usersettings.save_introbox(*own(call), mailbox)


@registry.function()
async def IMAPSave(call: Call, capabilitiesDisabled: list[str]) -> None:
    """Change which IMAP capabilities are not announced to clients of this account."""
    await usersettings.save_imap(*own(call), capabilitiesDisabled)
