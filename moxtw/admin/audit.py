"""The audit log: who changed what, from where, and how it ended.

Who calls operations for somebody (both JSON APIs, the control socket, uploads) has each that
may change something, or show mail, noted before it begins, and how it ended afterwards. An
entry without a result is of an operation that a crash cut off, or that has not ended yet.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from moxtw.admin.context import OperationError, user_error
from moxtw.config.duration import DurationError, parse_duration
from moxtw.log import Logger
from moxtw.queue.api import microseconds
from moxtw.store import auditdb
from moxtw.store.auditdb import Entry

if TYPE_CHECKING:
    from moxtw.admin.context import AdminContext, Caller
    from moxtw.store.db import Store

log = Logger("admin")

T = TypeVar("T")

Explain = Callable[[Exception], tuple[str, str] | None]
"""Gives a code and a message for an error that it knows."""

OK: Final = "ok"
"""The result of an operation that was done."""
MAX_ENTRIES: Final = 1000
"""Entries that are listed at a time."""

_INTERNAL: Final = OperationError("server", "internal error")

# Names of parameters and fields, in lower case, whose values are nobody's business, or content.
SECRET: Final = frozenset(
    (
        "password",
        "authorization",
        "signingkey",
        "token",
        "importtoken",
        "logintoken",
        "csrf",
        "privatekey",
        "secret",
        "data",
    )
)
_HIDDEN: Final = "(not shown)"
_USERINFO: Final = re.compile(r"(?<=://)[^/@\s]*(?=@)")
_MAX_MESSAGE: Final = 500
# Longest text, and most items of a list, then the same for what is still too long.
_BOUNDS: Final = ((300, 100), (60, 10))
_MAX_PARAMS: Final = 4000


class Audit:
    """Writes the audit log."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def begin(self, caller: Caller, operation: str, params: Mapping[str, Any]) -> int:
        """Note an operation, with its parameters by name; the id is for `end`.

        The operation may begin even if that fails (a full disk must not keep an admin from
        making room); the log then has it.
        """
        text = shown(params)
        try:
            return await self._store.write(
                lambda tx: auditdb.begin(
                    tx, caller.via, caller.name, caller.remote_ip, caller.cid, operation, text
                )
            )
        except Exception as exc:  # noqa: BLE001 - the operation does not fail with its log
            log.error(
                "audit log", cid=caller.cid, caller=caller.name, operation=operation, err=exc
            )
            return 0

    async def end(self, number: int, result: str = OK, message: str = "") -> None:
        """Note how an operation ended: `OK` or a code with what went wrong."""
        if not number:
            return
        short = message[:_MAX_MESSAGE]
        try:
            await self._store.write(lambda tx: auditdb.end(tx, number, result, short))
        except Exception as exc:  # noqa: BLE001 - the operation does not fail with its log
            log.error("audit log", entry=number, result=result, err=exc)

    async def noted(
        self,
        caller: Caller,
        operation: str,
        params: Mapping[str, Any],
        work: Awaitable[T],
        explain: Explain | None = None,
    ) -> T:
        """What `work` gives, with an entry for it; `explain` knows errors that are not ours."""
        entry = await self.begin(caller, operation, params)
        try:
            result = await work
        except Exception as exc:
            await self.failed(entry, exc, explain)
            raise
        await self.end(entry)
        return result

    async def failed(
        self, number: int, exc: Exception, explain: Explain | None = None
    ) -> None:
        """Note that an operation failed."""
        found = explain(exc) if explain is not None else None
        if found is None:
            told = exc if isinstance(exc, OperationError) else _INTERNAL
            found = told.code, str(told)
        await self.end(number, *found)

    async def note(
        self,
        caller: Caller,
        operation: str,
        params: Mapping[str, Any],
        error: OperationError | None = None,
    ) -> None:
        """Note an operation that has ended already."""
        entry = await self.begin(caller, operation, params)
        if error is None:
            await self.end(entry)
        else:
            await self.failed(entry, error)


def shown(params: Mapping[str, Any]) -> str:
    """Parameters as an object in JSON, of a few kilobytes at most, and without secrets."""
    plain = msgspec.to_builtins(dict(params), str_keys=True, enc_hook=str)
    for text, items in _BOUNDS:
        found = msgspec.json.encode(_shortened(plain, text, items)).decode()
        if len(found) <= _MAX_PARAMS:
            return found
    return msgspec.json.encode({"(size)": len(found)}).decode()


def _shortened(value: Any, text: int, items: int) -> Any:
    if isinstance(value, str):
        value = _USERINFO.sub("…", value)
        rest = len(value) - text
        return value if rest <= 0 else f"{value[:text]}… (and {rest} characters)"
    if isinstance(value, list | tuple):
        kept = [_shortened(each, text, items) for each in value[:items]]
        rest = len(value) - items
        return kept if rest <= 0 else [*kept, f"(and {rest} more)"]
    if isinstance(value, dict):
        kept_pairs = {
            key: _HIDDEN
            if key.lower() in SECRET and each not in ("", None)
            else _shortened(each, text, items)
            for key, each in list(value.items())[:items]
        }
        rest = len(value) - items
        return kept_pairs if rest <= 0 else {**kept_pairs, "(more)": rest}
    return value


async def entries(
    ctx: AdminContext,
    caller: Caller,
    *,
    most: int = 0,
    before: int = 0,
    by: str = "",
    operation: str = "",
    since: str = "",
    until: str = "",
) -> list[Entry]:
    """Entries of the audit log, latest first, at most `most` (0: as many as may be).

    before: an entry's id, for those that came before it. by: who called; since, until: times as
    `moment` reads them. Raises OperationError.
    """
    now = ctx.store.now()
    first, end = moment(since, now), moment(until, now)
    count = min(most, MAX_ENTRIES) if most > 0 else MAX_ENTRIES
    return await ctx.store.read(
        lambda tx: auditdb.entries(
            tx,
            count,
            before=before,
            caller=by,
            operation=operation,
            since=first,
            until=end,
        )
    )


def moment(text: str, now: int) -> int:
    """A time as text in microseconds since 1970; 0 for an empty one.

    "now", a duration from now on ("-24h"), or a date with or without a time (RFC 3339; UTC
    without a zone). Raises OperationError.
    """
    if not text:
        return 0
    if text == "now":
        return now
    with contextlib.suppress(DurationError):
        return max(1, now + parse_duration(text).microseconds)
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise user_error(
            f"time {text[:50]!r} is neither a duration as -24h nor a date as 2026-01-31"
        ) from None
    return max(1, microseconds(time))
