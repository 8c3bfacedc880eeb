"""Operations on queued messages, one by one or all that match a filter, and on hold rules.

What they do is in `moxtw.queue.operations`; here are the answers to wrong wishes, and the log.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from typing import Final, TypeVar

from moxtw.admin.context import AdminContext, Caller, not_found, user_error
from moxtw.config.duration import DurationError, parse_duration
from moxtw.queue import api
from moxtw.store.queuedb import NoSuchQueued

T = TypeVar("T")

MAX_IDS: Final = 10_000
_PIECE: Final = 1 << 18


async def asked(result: Awaitable[T]) -> T:
    """What the queue gives, with its errors turned into ours."""
    try:
        return await result
    except api.FilterError as exc:
        raise user_error(str(exc)) from exc


def _bounded(filter: api.Filter | api.RetiredFilter) -> None:
    if len(filter.IDs) > MAX_IDS:
        raise user_error(f"more than {MAX_IDS} ids")


async def size(ctx: AdminContext, caller: Caller) -> int:
    """How many messages are queued."""
    return await ctx.queue.size()


async def queued(
    ctx: AdminContext, caller: Caller, filter: api.Filter, sort: api.Sort
) -> list[api.Msg]:
    """Queued messages."""
    _bounded(filter)
    return await asked(ctx.queue.messages(filter, sort))


async def queued_pages(
    ctx: AdminContext, caller: Caller, filter: api.Filter, sort: api.Sort
) -> AsyncIterator[list[api.Msg]]:
    """Queued messages in pieces, for lists of all. What is wrong with the filter is told first."""
    _bounded(filter)
    return await begun(ctx.queue.pages(filter, sort))


async def retired_pages(
    ctx: AdminContext, caller: Caller, filter: api.RetiredFilter, sort: api.RetiredSort
) -> AsyncIterator[list[api.MsgRetired]]:
    """Messages that are queued no more, in pieces."""
    _bounded(filter)
    return await begun(ctx.queue.retired_pages(filter, sort))


async def begun(pages: AsyncIterator[list[T]]) -> AsyncIterator[list[T]]:
    """The pages, of which the first has been read."""
    first = await asked(anext(pages, []))

    async def all_pages() -> AsyncIterator[list[T]]:
        yield first
        async for page in pages:
            yield page

    return all_pages()


async def retired(
    ctx: AdminContext, caller: Caller, filter: api.RetiredFilter, sort: api.RetiredSort
) -> list[api.MsgRetired]:
    """Messages that are queued no more."""
    _bounded(filter)
    return await asked(ctx.queue.retired_list(filter, sort))


async def get_retired(ctx: AdminContext, caller: Caller, message_id: int) -> api.MsgRetired:
    """A message that is queued no more."""
    wanted = api.RetiredFilter(IDs=[message_id])
    found = await retired(ctx, caller, wanted, api.RetiredSort())
    if not found:
        raise not_found(f"no retired message {message_id}")
    return found[0]


async def dump(ctx: AdminContext, caller: Caller, message_id: int) -> AsyncIterator[bytes]:
    """The bytes of a queued message, in pieces."""
    try:
        first = await ctx.queue.dump(message_id, 0, _PIECE)
    except NoSuchQueued as exc:
        raise not_found(f"no message {message_id} is queued") from exc
    return _pieces(ctx, message_id, first)


async def _pieces(ctx: AdminContext, message_id: int, piece: bytes) -> AsyncIterator[bytes]:
    start = 0
    while piece:
        yield piece
        start += len(piece)
        try:
            piece = await ctx.queue.dump(message_id, start, _PIECE)
        except NoSuchQueued as exc:
            raise not_found(f"message {message_id} is queued no more") from exc


async def _change(ctx: AdminContext, caller: Caller, what: str, count: Awaitable[int]) -> int:
    changed = await asked(count)
    ctx.done(caller, f"queue: {what}", count=changed)
    return changed


async def set_next_attempt(
    ctx: AdminContext, caller: Caller, filter: api.Filter, minutes: int
) -> int:
    """Set the next attempt to so many minutes from now. These return how many were changed."""
    _bounded(filter)
    count = ctx.queue.next_attempt_set(filter, minutes)
    return await _change(ctx, caller, "next attempt set", count)


async def add_next_attempt(
    ctx: AdminContext, caller: Caller, filter: api.Filter, minutes: int
) -> int:
    """Move the next attempt by so many minutes."""
    _bounded(filter)
    count = ctx.queue.next_attempt_add(filter, minutes)
    return await _change(ctx, caller, "next attempt moved", count)


def microseconds(duration: str) -> int:
    """A duration in microseconds. Raises OperationError."""
    try:
        return parse_duration(duration).microseconds
    except DurationError as exc:
        raise user_error(str(exc)) from exc


async def schedule(
    ctx: AdminContext, caller: Caller, filter: api.Filter, duration: str, *, from_now: bool
) -> int:
    """Set or move the next attempt by a duration such as ``1h30m`` or ``-10m``."""
    _bounded(filter)
    count = ctx.queue.schedule(filter, microseconds(duration), from_now=from_now)
    return await _change(ctx, caller, "scheduled", count)


async def set_hold(ctx: AdminContext, caller: Caller, filter: api.Filter, hold: bool) -> int:
    """Put messages on hold, or let them go."""
    _bounded(filter)
    what = "put on hold" if hold else "let go"
    return await _change(ctx, caller, what, ctx.queue.hold_set(filter, hold))


async def set_transport(
    ctx: AdminContext, caller: Caller, filter: api.Filter, transport: str
) -> int:
    """Set the transport, '' for what routes say."""
    _bounded(filter)
    count = ctx.queue.transport_set(filter, transport)
    return await _change(ctx, caller, "transport set", count)


async def set_require_tls(
    ctx: AdminContext, caller: Caller, filter: api.Filter, require_tls: bool | None
) -> int:
    """Set what is demanded of TLS: True, False, or None for the default."""
    _bounded(filter)
    count = ctx.queue.require_tls_set(filter, require_tls)
    return await _change(ctx, caller, "require tls set", count)


async def fail(ctx: AdminContext, caller: Caller, filter: api.Filter) -> int:
    """Give messages up: their senders get a notification."""
    _bounded(filter)
    return await _change(ctx, caller, "failed", ctx.queue.fail(filter))


async def drop(ctx: AdminContext, caller: Caller, filter: api.Filter) -> int:
    """Remove messages, without a word to their senders."""
    _bounded(filter)
    return await _change(ctx, caller, "dropped", ctx.queue.drop(filter))


async def hold_rules(ctx: AdminContext, caller: Caller) -> list[api.HoldRule]:
    """All hold rules."""
    return await ctx.queue.hold_rule_list()


async def hold_rule_add(
    ctx: AdminContext, caller: Caller, account: str, sender_domain: str, recipient_domain: str
) -> api.HoldRule:
    """Put messages on hold that match all that is given: those that come, and those queued."""
    if account and account not in ctx.config.dynamic.accounts:
        raise not_found(f"no account {account[:100]!r} is configured")
    rule = await asked(ctx.queue.hold_rule_add(account, sender_domain, recipient_domain))
    ctx.done(
        caller,
        "hold rule added",
        rule=rule.ID,
        account=account,
        sender=sender_domain,
        recipient=recipient_domain,
    )
    return rule


async def hold_rule_remove(ctx: AdminContext, caller: Caller, rule_id: int) -> None:
    """Remove a hold rule; what it holds stays on hold."""
    if not await ctx.queue.hold_rule_remove(rule_id):
        raise not_found(f"no hold rule {rule_id}")
    ctx.done(caller, "hold rule removed", rule=rule_id)
