"""What users do with their own account: settings, password, suppression list, webhook tests."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from moxtw.admin import accounts
from moxtw.admin.context import (
    MAX_TEXT,
    AdminContext,
    Caller,
    OperationError,
    check_text,
    user_error,
)
from moxtw.config import edit
from moxtw.config.accounts import (
    Account,
    AutomaticJunkFlags,
    IncomingWebhook,
    JunkFilter,
    OutgoingWebhook,
)
from moxtw.config.duration import Duration
from moxtw.config.dynamic import Destination
from moxtw.queue.hookcall import Answer, ascii_url
from moxtw.store.suppressions import Suppression

_PASSWORD_BYTES: Final = 12


async def account(
    ctx: AdminContext, caller: Caller, name: str
) -> tuple[Account, int, int, list[Suppression]]:
    """An account as its user may see it: settings, bytes used, most bytes, suppressions.

    Most bytes are 0 if there is no limit. Members of aliases are left out where they are not
    to be listed.
    """
    found, used = await accounts.account(ctx, caller, name)
    limit = found.quota_message_size or ctx.config.static.quota_message_size
    return found, used, max(limit, 0), await ctx.queue.suppress_list(name)


# Passwords


async def set_password(
    ctx: AdminContext, caller: Caller, name: str, password: str, *, keep: bytes = b""
) -> None:
    """Change the own password; web sessions end, but for the one of digest `keep`."""
    if accounts.get(ctx, name).no_custom_password:
        raise user_error("passwords of this account cannot be chosen, only generated")
    await accounts.set_password(ctx, caller, name, password, keep=keep)


async def generate_password(
    ctx: AdminContext, caller: Caller, name: str, *, keep: bytes = b""
) -> str:
    """Set a new password that nobody can guess; returns it. As `set_password`."""
    password = secrets.token_urlsafe(_PASSWORD_BYTES)
    await accounts.set_password(ctx, caller, name, password, keep=keep)
    return password


# Settings


async def save_full_name(ctx: AdminContext, caller: Caller, name: str, full_name: str) -> None:
    """Change the full name."""
    check_text(full_name, "the name")
    await accounts.save(ctx, caller, name, full_name=full_name)


async def save_destination(
    ctx: AdminContext,
    caller: Caller,
    name: str,
    destination: str,
    old: Destination,
    new: Destination,
) -> None:
    """Change an address of the account, if it still is as in `old`."""
    check_text(new.full_name, "the name")
    await ctx.change(lambda dynamic: edit.destination_save(dynamic, name, destination, old, new))
    ctx.done(caller, "address changed", account=name, address=destination)


async def save_outgoing_webhook(
    ctx: AdminContext,
    caller: Caller,
    name: str,
    url: str,
    authorization: str,
    events: Sequence[str],
) -> None:
    """Change the call for events of outgoing messages; an empty URL ends it."""
    if not url and (authorization or events):
        raise user_error("without URL there can be no authorization and no events")
    hook: OutgoingWebhook | None = None
    if url:
        known = accounts.get(ctx, name).outgoing_webhook or OutgoingWebhook(url=url)
        hook = replace(known, url=url, authorization=authorization, events=tuple(events))
    await accounts.save(ctx, caller, name, outgoing_webhook=hook)


async def save_incoming_webhook(
    ctx: AdminContext, caller: Caller, name: str, url: str, authorization: str
) -> None:
    """Change the call for incoming messages; an empty URL ends it."""
    if not url and authorization:
        raise user_error("without URL there can be no authorization")
    hook: IncomingWebhook | None = None
    if url:
        known = accounts.get(ctx, name).incoming_webhook or IncomingWebhook(url=url)
        hook = replace(known, url=url, authorization=authorization)
    await accounts.save(ctx, caller, name, incoming_webhook=hook)


async def save_from_id_addresses(
    ctx: AdminContext, caller: Caller, name: str, addresses: Sequence[str]
) -> None:
    """Change which login addresses send with unique sender addresses."""
    await accounts.save(ctx, caller, name, from_id_login_addresses=tuple(addresses))


async def save_keep_retired(
    ctx: AdminContext, caller: Caller, name: str, messages: int, webhooks: int
) -> None:
    """Change how long retired messages and webhook calls are kept, in nanoseconds."""
    if messages < 0 or webhooks < 0:
        raise user_error("a period cannot be negative")
    await accounts.save(
        ctx,
        caller,
        name,
        keep_retired_message_period=Duration(messages),
        keep_retired_webhook_period=Duration(webhooks),
    )


async def save_automatic_junk_flags(
    ctx: AdminContext, caller: Caller, name: str, enabled: bool, *regexps: str
) -> None:
    """Change the flags by mailbox names: expressions for junk, neutral and not junk."""
    junk, neutral, not_junk = regexps
    flags = AutomaticJunkFlags(
        enabled=enabled,
        junk_mailbox_regexp=junk,
        neutral_mailbox_regexp=neutral,
        not_junk_mailbox_regexp=not_junk,
    )
    await accounts.save(ctx, caller, name, automatic_junk_flags=flags)


async def save_junk_filter(
    ctx: AdminContext, caller: Caller, name: str, junk_filter: JunkFilter | None
) -> None:
    """Change the junk filter; None ends it."""
    await accounts.save(ctx, caller, name, junk_filter=junk_filter)


async def save_rejects(
    ctx: AdminContext, caller: Caller, name: str, mailbox: str, keep: bool
) -> None:
    """Change the mailbox for rejected messages, and whether they stay."""
    await accounts.save(ctx, caller, name, rejects_mailbox=mailbox, keep_rejects=keep)


async def save_introbox(ctx: AdminContext, caller: Caller, name: str, mailbox: str) -> None:
    """Change the mailbox for messages of unknown people; empty for none."""
    await accounts.save(ctx, caller, name, introbox=mailbox)


async def save_imap(
    ctx: AdminContext, caller: Caller, name: str, disabled: Sequence[str]
) -> None:
    """Change which IMAP capabilities are not announced."""
    await accounts.save(ctx, caller, name, imap_capabilities_disabled=tuple(disabled))


# Webhooks


async def webhook_test(
    ctx: AdminContext, caller: Caller, name: str, url: str, authorization: str, payload: str
) -> Answer:
    """Make a webhook call now, as attempt 1 with id 1; says what came of it."""
    try:
        ascii_url(url)
    except ValueError as exc:
        raise user_error(f"URL: {exc}") from exc
    if len(authorization) > MAX_TEXT or not authorization.isprintable():
        raise user_error("bad authorization")
    if not authorization.isascii():
        raise user_error("the authorization has characters that are not ASCII")
    if ctx.hook_caller is None:
        raise OperationError("server", "webhooks are not available")
    answer = await ctx.hook_caller.call(url, payload, authorization=authorization)
    ctx.done(caller, "webhook tested", account=name, code=answer.code)
    return answer
