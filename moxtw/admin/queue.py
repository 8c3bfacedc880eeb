"""Operations on queued messages, one by one or all that match a filter, and on hold rules."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from moxtw.admin.context import AdminContext, Caller, not_found, user_error
from moxtw.config.duration import DurationError, parse_duration
from moxtw.mail.domain import DomainError, parse_domain
from moxtw.store import queuedb, queuelists
from moxtw.store.db import Tx
from moxtw.store.queuedb import HoldRule
from moxtw.store.queuelists import Moment, Order, Query
from moxtw.store.queuerecord import Queued, Retired

SECOND: Final = 1_000_000
MAX_IDS: Final = 10_000
MAX_MINUTES: Final = 60 * 24 * 366
_PIECE: Final = 1 << 18


@dataclass(frozen=True, slots=True)
class Filter:
    """Which messages; what is empty or None does not matter.

    sender, recipient: parts of the full address; with both given, one is enough.
    submitted, next_attempt, last_activity: ``<`` (before) or ``>`` (after), then ``now`` or a
        duration from now, such as ``>-1h``.
    max: most messages, 0 for all.
    """

    max: int = 0
    ids: Sequence[int] = ()
    account: str = ""
    sender: str = ""
    recipient: str = ""
    hold: bool | None = None
    submitted: str = ""
    next_attempt: str = ""
    transport: str | None = None
    last_activity: str = ""
    success: bool | None = None


@dataclass(frozen=True, slots=True)
class Sort:
    """Order of a list: by `field`, and after which row it goes on.

    `last` is the RFC 3339 text of the field of the row `last_id`.
    """

    field: str = ""
    last_id: int = 0
    last: object = None
    ascending: bool = False


_QUEUED_FIELDS: Final = {"": "next_attempt", "NextAttempt": "next_attempt", "Queued": "queued"}
_RETIRED_FIELDS: Final = {
    "": "last_activity",
    "LastActivity": "last_activity",
    "Queued": "queued",
}


def _moment(text: str, what: str, now: int) -> Moment | None:
    if not text:
        return None
    sign, rest = text[:1], text[1:].strip()
    if sign not in ("<", ">"):
        raise user_error(f"{what} must begin with < or >")
    if rest == "now":
        return Moment(sign == "<", now)
    try:
        duration = parse_duration(rest)
    except DurationError as exc:
        raise user_error(f"{what}: {exc}") from exc
    return Moment(sign == "<", now + int(duration) // 1000)


def _query(ctx: AdminContext, filter: Filter) -> Query:
    now = ctx.store.now()
    if len(filter.ids) > MAX_IDS:
        raise user_error(f"more than {MAX_IDS} ids")
    if filter.max < 0:
        raise user_error("negative maximum")
    return Query(
        most=filter.max,
        ids=tuple(filter.ids),
        account=filter.account,
        sender=filter.sender,
        recipient=filter.recipient,
        submitted=_moment(filter.submitted, "submitted", now),
        transport=filter.transport,
        hold=filter.hold,
        next_attempt=_moment(filter.next_attempt, "next attempt", now),
        last_activity=_moment(filter.last_activity, "last activity", now),
        success=filter.success,
    )


def _order(sort: Sort, fields: dict[str, str]) -> Order:
    column = fields.get(sort.field)
    if column is None:
        names = ", ".join(name for name in fields if name)
        raise user_error(f"unknown field to sort by {sort.field[:100]!r}: {names}")
    last: int | None = None
    if sort.last_id:
        last = _microseconds(sort.last)
    return Order(column, sort.ascending, last, sort.last_id)


def _microseconds(value: object) -> int:
    try:
        if not isinstance(value, str):
            raise ValueError("not a text")
        time = datetime.fromisoformat(value)
        if time.tzinfo is None:
            raise ValueError("no time zone")
        seconds = (time - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()
    except (ValueError, OverflowError) as exc:
        raise user_error(f"bad time of the last row: {exc}") from exc
    return round(seconds * SECOND)


# Listing


async def size(ctx: AdminContext, caller: Caller) -> int:
    """How many messages are queued."""
    return await ctx.store.read(queuelists.count)


async def queued(
    ctx: AdminContext, caller: Caller, filter: Filter, sort: Sort
) -> list[tuple[Queued, bytes, bytes | None]]:
    """Queued messages, with their prefix and UTF-8 form."""
    query, order = _query(ctx, filter), _order(sort, _QUEUED_FIELDS)
    return await ctx.store.read(lambda tx: queuelists.queued(tx, query, order))


async def retired(
    ctx: AdminContext, caller: Caller, filter: Filter, sort: Sort
) -> list[Retired]:
    """Messages that are queued no more."""
    query, order = _query(ctx, filter), _order(sort, _RETIRED_FIELDS)
    return await ctx.store.read(lambda tx: queuelists.retired(tx, query, order))


async def dump(ctx: AdminContext, caller: Caller, message_id: int) -> AsyncIterator[bytes]:
    """The bytes of a queued message, in pieces."""
    try:
        first = await ctx.store.read(lambda tx: queuedb.read(tx, message_id, 0, _PIECE))
    except queuedb.NoSuchQueued as exc:
        raise not_found(f"no message {message_id} is queued") from exc
    return _pieces(ctx, message_id, first)


async def _pieces(ctx: AdminContext, message_id: int, piece: bytes) -> AsyncIterator[bytes]:
    start = 0
    while piece:
        yield piece
        start += len(piece)

        def read(tx: Tx, at: int = start) -> bytes:
            return queuedb.read(tx, message_id, at, _PIECE)

        try:
            piece = await ctx.store.read(read)
        except queuedb.NoSuchQueued as exc:
            raise not_found(f"message {message_id} is queued no more") from exc


# Changing many

Change = Callable[[Tx, Sequence[int]], int]


async def _change(ctx: AdminContext, filter: Filter, change: Change) -> int:
    """Change all that match, some in each transaction. Returns how many there were."""
    query = _query(ctx, filter)
    found = await ctx.store.read(lambda tx: queuelists.ids(tx, query))
    changed = 0
    for start in range(0, len(found), queuelists.PART):
        part = found[start : start + queuelists.PART]

        def job(tx: Tx, ids: Sequence[int] = part) -> int:
            return change(tx, ids)

        changed += await ctx.store.write(job)
    return changed


def _minutes(value: int) -> int:
    if abs(value) > MAX_MINUTES:
        raise user_error("more than a year away")
    return value * 60 * SECOND


async def set_next_attempt(
    ctx: AdminContext, caller: Caller, filter: Filter, minutes: int
) -> int:
    """Set the next attempt to so many minutes from now. These return how many were changed."""
    return await _set_time(ctx, caller, filter, _minutes(minutes))


async def _set_time(ctx: AdminContext, caller: Caller, filter: Filter, away: int) -> int:
    time = ctx.store.now() + away
    count = await _change(
        ctx, filter, lambda tx, ids: queuelists.set_next_attempt(tx, ids, time)
    )
    ctx.done(caller, "queue: next attempt set", count=count)
    return count


async def add_next_attempt(
    ctx: AdminContext, caller: Caller, filter: Filter, minutes: int
) -> int:
    """Move the next attempt by so many minutes."""
    return await _add_time(ctx, caller, filter, _minutes(minutes))


async def _add_time(ctx: AdminContext, caller: Caller, filter: Filter, away: int) -> int:
    count = await _change(
        ctx, filter, lambda tx, ids: queuelists.add_next_attempt(tx, ids, away)
    )
    ctx.done(caller, "queue: next attempt moved", count=count)
    return count


async def schedule(
    ctx: AdminContext, caller: Caller, filter: Filter, duration: str, *, from_now: bool
) -> int:
    """Set or move the next attempt by a duration such as ``1h30m`` or ``-10m``."""
    try:
        away = int(parse_duration(duration)) // 1000
    except DurationError as exc:
        raise user_error(str(exc)) from exc
    if abs(away) > MAX_MINUTES * 60 * SECOND:
        raise user_error("more than a year away")
    return await (_set_time if from_now else _add_time)(ctx, caller, filter, away)


async def set_hold(ctx: AdminContext, caller: Caller, filter: Filter, hold: bool) -> int:
    """Put messages on hold, or let them go."""
    count = await _change(ctx, filter, lambda tx, ids: queuelists.set_hold(tx, ids, hold))
    ctx.done(caller, "queue: put on hold" if hold else "queue: let go", count=count)
    return count


async def set_transport(
    ctx: AdminContext, caller: Caller, filter: Filter, transport: str
) -> int:
    """Set the transport, '' for what routes say."""
    if transport and transport not in ctx.config.static.transports:
        raise not_found(f"no transport {transport[:100]!r} is configured")
    count = await _change(
        ctx, filter, lambda tx, ids: queuelists.set_transport(tx, ids, transport)
    )
    ctx.done(caller, "queue: transport set", count=count, transport=transport)
    return count


async def set_require_tls(
    ctx: AdminContext, caller: Caller, filter: Filter, require_tls: bool | None
) -> int:
    """Set what is demanded of TLS: True, False, or None for the default."""
    count = await _change(
        ctx, filter, lambda tx, ids: queuelists.set_require_tls(tx, ids, require_tls)
    )
    ctx.done(caller, "queue: require tls set", count=count, requiretls=require_tls)
    return count


async def fail(ctx: AdminContext, caller: Caller, filter: Filter) -> int:
    """Give messages up: their senders get a notification."""
    count: int = await ctx.queue.fail(_query(ctx, filter))
    ctx.done(caller, "queue: failed", count=count)
    return count


async def drop(ctx: AdminContext, caller: Caller, filter: Filter) -> int:
    """Remove messages, without a word to their senders."""
    count: int = await ctx.queue.drop(_query(ctx, filter))
    ctx.done(caller, "queue: dropped", count=count)
    return count


# Hold rules


def _domain(text: str) -> str:
    if not text:
        return ""
    try:
        return parse_domain(text).name
    except DomainError as exc:
        raise user_error(f"bad domain {text[:100]!r}: {exc}") from exc


async def hold_rules(ctx: AdminContext, caller: Caller) -> list[HoldRule]:
    """All hold rules."""
    return await ctx.store.read(queuedb.hold_rules)


async def hold_rule_add(
    ctx: AdminContext, caller: Caller, account: str, sender_domain: str, recipient_domain: str
) -> HoldRule:
    """Put messages on hold that match all that is given: those that come, and those queued."""
    sender, recipient = _domain(sender_domain), _domain(recipient_domain)
    if account and account not in ctx.config.dynamic.accounts:
        raise not_found(f"no account {account[:100]!r} is configured")
    rule = await ctx.store.write(
        lambda tx: queuedb.hold_rule_add(tx, account, sender, recipient)
    )
    query = Query(
        account=account, sender_domain=sender, recipient_domain=recipient, hold=False
    )
    found = await ctx.store.read(lambda tx: queuelists.ids(tx, query))
    for start in range(0, len(found), queuelists.PART):
        part = found[start : start + queuelists.PART]
        await ctx.store.write(
            lambda tx, ids=part: queuelists.set_hold(tx, ids, True)  # type: ignore[misc]
        )
    ctx.done(
        caller, "hold rule added", rule=rule.id, account=account, sender=sender, to=recipient
    )
    return rule


async def hold_rule_remove(ctx: AdminContext, caller: Caller, rule_id: int) -> None:
    """Remove a hold rule; what it holds stays on hold."""
    if not await ctx.store.write(lambda tx: queuedb.hold_rule_remove(tx, rule_id)):
        raise not_found(f"no hold rule {rule_id}")
    ctx.done(caller, "hold rule removed", rule=rule_id)
