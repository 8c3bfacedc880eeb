"""Webhooks as rows: adding, the scheduler's picks, outcomes, retired hooks.

A hook is a call that is to be made to a URL. Functions take the transaction of a job. What is
due is found by URL, through an index, so that nothing reads all rows however many there are.
Lists and changes by filter stand in `moxtw.store.hooklists`.

What adds hooks or makes them due earlier names their URLs in `Tx.hook_urls`, and so wakes the
scheduler after the commit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy import bindparam

from moxtw.store.schema_hooks import hooks, hooks_retired
from moxtw.store.tx import Statement, Tx

DELIVERING: Final = "delivering"
"""The error text of the result of an attempt that is under way."""

INTERRUPTED: Final = "interrupted: the server was stopped during this attempt"

# A hook that is called again and again by hand must not grow without end.
MAX_RESULTS: Final = 100


class HookResult(msgspec.Struct, omit_defaults=True):
    """The result of a call, or of an action by the admin. Times in microseconds."""

    start: int
    duration: int = 0
    url: str = ""
    success: bool = False
    code: int = 0
    error: str = ""
    response: str = ""


@dataclass(slots=True)
class NewHook:
    """A call to be made; `payload` is JSON. `event` is empty for incoming messages."""

    account: str
    url: str
    payload: str
    authorization: str = ""
    signing_key: str = ""
    is_incoming: bool = False
    event: str = ""
    queue_msg_id: int = 0
    from_id: str = ""
    message_id: str = ""
    subject: str = ""
    extra: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Hook:
    """A call that is to be made still."""

    id: int
    queue_msg_id: int
    from_id: str
    message_id: str
    subject: str
    extra: dict[str, str]
    account: str
    url: str
    is_incoming: bool
    event: str
    submitted: int
    attempts: int
    results: list[HookResult]
    authorization: str
    signing_key: str
    next_attempt: int
    delivering: bool
    payload: str


@dataclass(slots=True)
class RetiredHook:
    """A call that was made, given up, canceled, or superseded by a newer one."""

    id: int
    queue_msg_id: int
    from_id: str
    message_id: str
    subject: str
    extra: dict[str, str]
    account: str
    url: str
    is_incoming: bool
    event: str
    submitted: int
    attempts: int
    results: list[HookResult]
    has_authorization: bool
    superseded_by: int
    success: bool
    last_activity: int
    keep_until: int
    payload: str


_COMMON: Final = (
    "id",
    "queue_msg_id",
    "from_id",
    "message_id",
    "subject",
    "extra",
    "account",
    "url",
    "is_incoming",
    "event",
    "submitted",
    "attempts",
    "results",
)
COLUMNS: Final = tuple(
    hooks.c[name]
    for name in (
        *_COMMON, "authorization", "signing_key", "next_attempt", "delivering", "payload"
    )
)  # fmt: skip
RETIRED_COLUMNS: Final = tuple(
    hooks_retired.c[name]
    for name in (
        *_COMMON,
        "has_authorization",
        "superseded_by",
        "success",
        "last_activity",
        "keep_until",
        "payload",
    )
)

_encode = msgspec.json.Encoder().encode
_extra = msgspec.json.Decoder(dict[str, str])
_results = msgspec.json.Decoder(list[HookResult])


def _to_json(value: Any) -> str:
    return _encode(value).decode() if value else ""


def _results_of(text: str) -> list[HookResult]:
    return _results.decode(text) if text else []


def _values(row: Sequence[Any]) -> list[Any]:
    values = list(row)
    values[5] = _extra.decode(values[5]) if values[5] else {}
    values[8] = bool(values[8])
    values[12] = _results_of(values[12])
    return values


def hook_row(row: Sequence[Any]) -> Hook:
    """A row of `COLUMNS`."""
    values = _values(row)
    values[16] = bool(values[16])
    return Hook(*values)


def retired_row(row: Sequence[Any]) -> RetiredHook:
    """A row of `RETIRED_COLUMNS`."""
    values = _values(row)
    values[13] = bool(values[13])
    values[15] = bool(values[15])
    return RetiredHook(*values)


# -- Adding ----------------------------------------------------------------------------------

_INSERT = Statement(
    hooks.insert()
    .values({c.name: bindparam(c.name) for c in hooks.c if c.name not in ("id", "delivering")})
    .returning(hooks.c.id)
)
_OLDER = Statement(
    sa.select(*COLUMNS)
    .where(
        hooks.c.queue_msg_id == bindparam("message"),
        hooks.c.queue_msg_id > sa.literal_column("0"),  # literal, for the partial index
        hooks.c.id != bindparam("i"),
    )
    .order_by(hooks.c.id)
)


def add(tx: Tx, new: NewHook, keep: int) -> int:
    """Add a call; returns its id.

    An older one about the same queued message that waits still is superseded: receivers get
    the latest state. It is retired, for `keep` microseconds (0: not kept).
    """
    hook_id: int = tx.value(
        _INSERT,
        queue_msg_id=new.queue_msg_id,
        from_id=new.from_id,
        message_id=new.message_id,
        subject=new.subject,
        extra=_to_json(new.extra),
        account=new.account,
        url=new.url,
        is_incoming=int(new.is_incoming),
        event=new.event,
        submitted=tx.now,
        attempts=0,
        results="",
        authorization=new.authorization,
        signing_key=new.signing_key,
        next_attempt=tx.now,
        payload=new.payload,
    )
    if new.queue_msg_id:
        for row in tx.all(_OLDER, message=new.queue_msg_id, i=hook_id):
            older = hook_row(row)
            if older.delivering and older.results:
                # The attempt that is under way adds its result when it has one.
                older.results.pop()
            retire(tx, older, success=False, keep=keep, superseded_by=hook_id)
    tx.hook_urls.add(new.url)
    return hook_id


# -- The schedule ----------------------------------------------------------------------------


def _urls() -> Statement:
    """Each URL with hooks, and when its next one is due.

    Goes from URL to URL through the index `hooks_due`, instead of reading all its rows.
    """
    found = sa.select(sa.func.min(hooks.c.url).label("url")).cte("found", recursive=True)
    following = (
        sa.select(sa.func.min(hooks.c.url)).where(hooks.c.url > found.c.url).scalar_subquery()
    )
    found = found.union_all(sa.select(following).where(found.c.url.is_not(None)))
    due = (
        sa.select(sa.func.min(hooks.c.next_attempt))
        .where(hooks.c.url == found.c.url)
        .scalar_subquery()
    )
    return Statement(sa.select(found.c.url, due).where(found.c.url.is_not(None)))


_URLS = _urls()
_NEXT_OF_URL = Statement(
    sa.select(sa.func.min(hooks.c.next_attempt)).where(hooks.c.url == bindparam("url"))
)
_FIRST_DUE = Statement(
    sa.select(*COLUMNS)
    .where(hooks.c.url == bindparam("url"), hooks.c.next_attempt <= bindparam("t"))
    .order_by(hooks.c.next_attempt, hooks.c.id)
    .limit(1)
)
_BEGIN = Statement(
    hooks.update()
    .where(hooks.c.id == bindparam("i"))
    .values(
        attempts=hooks.c.attempts + 1,
        next_attempt=bindparam("next"),
        results=bindparam("r"),
        delivering=1,
    )
)
_BY_ID = Statement(sa.select(*COLUMNS).where(hooks.c.id == bindparam("i")))
_INTERRUPTED = Statement(
    sa.select(hooks.c.id, hooks.c.results, hooks.c.url)
    .where(hooks.c.delivering == sa.literal_column("1"))
    .limit(bindparam("most"))
)
_RESUME = Statement(
    hooks.update()
    .where(hooks.c.id == bindparam("i"))
    .values(delivering=0, next_attempt=bindparam("next"), results=bindparam("r"))
)


def urls(tx: Tx) -> list[tuple[str, int]]:
    """URLs with hooks, and when the next one of each is due."""
    return [(row[0], row[1]) for row in tx.all(_URLS)]


def next_of_url(tx: Tx, url: str) -> int | None:
    """When the next hook of a URL is due, None if there is none."""
    value: int | None = tx.value(_NEXT_OF_URL, url=url)
    return value


def first_due(tx: Tx, url: str) -> Hook | None:
    """The hook of a URL that is due for the longest time; of equal ones, the oldest."""
    row = tx.one(_FIRST_DUE, url=url, t=tx.now)
    return None if row is None else hook_row(row)


def get(tx: Tx, hook_id: int) -> Hook | None:
    """A hook that waits still."""
    row = tx.one(_BY_ID, i=hook_id)
    return None if row is None else hook_row(row)


def begin(tx: Tx, hook: Hook, next_attempt: int) -> None:
    """Begin an attempt: count it, set the time of the next, note a result under way.

    The hook is updated too.
    """
    hook.attempts += 1
    hook.next_attempt = next_attempt
    hook.delivering = True
    hook.results.append(HookResult(tx.now, url=hook.url, error=DELIVERING))
    del hook.results[:-MAX_RESULTS]
    tx.run(_BEGIN, i=hook.id, next=next_attempt, r=_to_json(hook.results))


def resume(tx: Tx, most: int = 500) -> int:
    """Make hooks whose attempt was interrupted due again; returns how many there were.

    Call until it returns 0. The attempt counts: the receiver may have had the call.
    """
    rows = tx.all(_INTERRUPTED, most=most)
    for hook_id, text, url in rows:
        results = _results_of(text)
        if results and results[-1].error == DELIVERING:
            results[-1].error = INTERRUPTED
        tx.run(_RESUME, i=hook_id, next=tx.now, r=_to_json(results))
        tx.hook_urls.add(url)
    return len(rows)


# -- Outcomes --------------------------------------------------------------------------------

_POSTPONE = Statement(
    hooks.update()
    .where(hooks.c.id == bindparam("i"))
    .values(delivering=0, next_attempt=bindparam("next"), results=bindparam("r"))
)
_DELETE = Statement(hooks.delete().where(hooks.c.id == bindparam("i")))


def _retire() -> Statement:
    """From one table to the other, within the database: payloads can be long."""
    changed: dict[str, Any] = {
        name: sa.cast(bindparam(name), hooks_retired.c[name].type)
        for name in (
            "attempts",
            "results",
            "has_authorization",
            "superseded_by",
            "success",
            "last_activity",
            "keep_until",
        )
    }
    names = [column.name for column in hooks_retired.c]
    values = [changed[name] if name in changed else hooks.c[name] for name in names]
    row = sa.select(*values).where(hooks.c.id == bindparam("i"))
    return Statement(hooks_retired.insert().from_select(names, row, include_defaults=False))


_RETIRE = _retire()
_RETIRED_RESULTS = Statement(
    sa.select(hooks_retired.c.results, hooks_retired.c.superseded_by).where(
        hooks_retired.c.id == bindparam("i")
    )
)
_SET_RETIRED_RESULTS = Statement(
    hooks_retired.update()
    .where(hooks_retired.c.id == bindparam("i"))
    .values(
        attempts=bindparam("n"),
        results=bindparam("r"),
        success=bindparam("success"),
        last_activity=bindparam("t"),
    )
)
_EXPIRED = Statement(
    hooks_retired.delete().where(
        hooks_retired.c.id.in_(
            sa.select(hooks_retired.c.id)
            .where(hooks_retired.c.keep_until < bindparam("t"))
            .order_by(hooks_retired.c.keep_until)
            .limit(500)
        )
    )
)


def postpone(tx: Tx, hook: Hook) -> bool:
    """An attempt has failed for now: store its results. False if the hook is gone."""
    hook.delivering = False
    return tx.run(_POSTPONE, i=hook.id, next=hook.next_attempt, r=_to_json(hook.results)) > 0


def retire(
    tx: Tx, hook: Hook, *, success: bool, keep: int, superseded_by: int = 0
) -> bool:
    """Take a hook from those that wait; its record is kept for `keep` microseconds (0: not).

    Its attempts and results are those of `hook`. False if it is gone already. The value of its
    authorization is not kept.
    """
    if keep > 0:
        tx.run(
            _RETIRE,
            i=hook.id,
            attempts=hook.attempts,
            results=_to_json(hook.results),
            has_authorization=int(bool(hook.authorization)),
            superseded_by=superseded_by,
            success=int(success),
            last_activity=tx.now,
            keep_until=tx.now + keep,
        )
    return tx.run(_DELETE, i=hook.id) > 0


def cancel(tx: Tx, hook: Hook, *, keep: int, reason: str) -> bool:
    """Take a hook from those that wait, with a result that says why. False if it is gone."""
    if hook.delivering and hook.results:
        # The attempt that is under way adds its result when it has one.
        hook.results.pop()
    hook.results.append(HookResult(tx.now, url=hook.url, error=reason))
    return retire(tx, hook, success=False, keep=keep)


def add_late_result(tx: Tx, hook: Hook, result: HookResult) -> None:
    """The result of an attempt whose hook was retired meanwhile, if that is kept."""
    row = tx.one(_RETIRED_RESULTS, i=hook.id)
    if row is None:
        return
    why = "superseded" if row[1] else "canceled"
    late = msgspec.structs.replace(result, error=f"{result.error} ({why})".strip())
    results = [*_results_of(row[0]), late][-MAX_RESULTS:]
    tx.run(
        _SET_RETIRED_RESULTS,
        i=hook.id,
        n=hook.attempts,
        r=_to_json(results),
        success=int(result.success),
        t=tx.now,
    )


def remove_expired(tx: Tx) -> int:
    """Remove retired hooks that need not be kept longer; call until it returns 0."""
    return tx.run(_EXPIRED, t=tx.now)
