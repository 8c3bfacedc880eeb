"""Functions on webhooks."""

from __future__ import annotations

import msgspec

from moxtw.admin import usersettings
from moxtw.web.accountapi.base import own, registry
from moxtw.web.accounttypes import Incoming, Outgoing
from moxtw.web.rpc import Call
from moxtw.web.typewords import Int32


@registry.function()
async def OutgoingWebhookSave(
    call: Call, url: str, authorization: str, events: list[str]
) -> None:
    """Change the call for events of outgoing messages; no events are all, no URL ends it."""
    await usersettings.save_outgoing_webhook(*own(call), url, authorization, events)


@registry.function()
async def IncomingWebhookSave(call: Call, url: str, authorization: str) -> None:
    """Change the call for incoming messages; no URL ends it."""
    await usersettings.save_incoming_webhook(*own(call), url, authorization)


async def _test(
    call: Call, url: str, authorization: str, data: Outgoing | Incoming
) -> tuple[int, str, str]:
    payload = msgspec.json.encode(data).decode()
    answer = await usersettings.webhook_test(*own(call), url, authorization, payload)
    return answer.code, answer.response, answer.error


@registry.function("code", "response", "errmsg")
async def OutgoingWebhookTest(
    call: Call, urlStr: str, authorization: str, data: Outgoing
) -> tuple[Int32, str, str]:
    """Make a call with the given data; returns status, begin of the response, error text."""
    return await _test(call, urlStr, authorization, data)


@registry.function("code", "response", "errmsg")
async def IncomingWebhookTest(
    call: Call, urlStr: str, authorization: str, data: Incoming
) -> tuple[Int32, str, str]:
    """Make a call with the given data; returns status, begin of the response, error text."""
    return await _test(call, urlStr, authorization, data)
