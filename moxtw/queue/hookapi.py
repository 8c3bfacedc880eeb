"""Webhooks as their admins see them: JSON types of the admin API and the control socket.

Field names are those on the wire. Times are RFC 3339 timestamps, durations nanoseconds.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from moxtw.queue import hooktypes
from moxtw.queue.api import FilterError, Int32, Int64, Time, moment, most, order_by, timestamp
from moxtw.store import hooksdb
from moxtw.store.hooklists import INCOMING, HookQuery
from moxtw.store.queuelists import Order

EVENTS: Final = (
    hooktypes.DELIVERED,
    hooktypes.SUPPRESSED,
    hooktypes.DELAYED,
    hooktypes.FAILED,
    hooktypes.RELAYED,
    hooktypes.EXPANDED,
    hooktypes.CANCELED,
    hooktypes.UNRECOGNIZED,
)


class HookFilter(msgspec.Struct, forbid_unknown_fields=True):
    """Which webhook calls. Empty fields do not matter.

    Submitted and NextAttempt: "<" or ">", then "now" or a duration relative to now. Event: of
    an outgoing message, or "incoming".
    """

    Max: Int32 = 0
    IDs: list[Int64] = []
    Account: str = ""
    Submitted: str = ""
    NextAttempt: str = ""
    Event: str = ""


class HookSort(msgspec.Struct, forbid_unknown_fields=True):
    """By Field, "NextAttempt" or "Submitted"; a list goes on after the hook LastID, Last."""

    Field: str = ""
    LastID: Int64 = 0
    Last: Any = None
    Asc: bool = False


class HookRetiredFilter(msgspec.Struct, forbid_unknown_fields=True):
    """Which retired webhook calls; see HookFilter."""

    Max: Int32 = 0
    IDs: list[Int64] = []
    Account: str = ""
    Submitted: str = ""
    LastActivity: str = ""
    Event: str = ""


class HookRetiredSort(msgspec.Struct, forbid_unknown_fields=True):
    """By Field, "LastActivity" or "Submitted"; see HookSort."""

    Field: str = ""
    LastID: Int64 = 0
    Last: Any = None
    Asc: bool = False


class HookResult(msgspec.Struct):
    """The result of a call: Code is the HTTP status, 0 if there was no response."""

    Start: Time
    Duration: Int64
    URL: str
    Success: bool
    Code: Int32
    Error: str
    Response: str


class Hook(msgspec.Struct):
    """A webhook call that is to be made; QueueMsgID is 0 if it is about an incoming message."""

    ID: Int64
    QueueMsgID: Int64
    FromID: str
    MessageID: str
    Subject: str
    Extra: dict[str, str]
    Account: str
    URL: str
    Authorization: str
    IsIncoming: bool
    OutgoingEvent: str
    Payload: str
    Submitted: Time
    Attempts: Int32
    NextAttempt: Time
    Results: list[HookResult]


class HookRetired(msgspec.Struct):
    """A webhook call that was made, given up, canceled, or superseded by a newer one.

    Authorization: whether there was one.
    """

    ID: Int64
    QueueMsgID: Int64
    FromID: str
    MessageID: str
    Subject: str
    Extra: dict[str, str]
    Account: str
    URL: str
    Authorization: bool
    IsIncoming: bool
    OutgoingEvent: str
    Payload: str
    Submitted: Time
    SupersededByID: Int64
    Attempts: Int32
    Results: list[HookResult]
    Success: bool
    LastActivity: Time
    KeepUntil: Time


# -- From rows -------------------------------------------------------------------------------


def result(row: hooksdb.HookResult) -> HookResult:
    """The result of a call."""
    return HookResult(
        timestamp(row.start),
        row.duration * 1000,
        row.url,
        row.success,
        row.code,
        row.error,
        row.response,
    )


def _common(row: hooksdb.Hook | hooksdb.RetiredHook) -> dict[str, Any]:
    return {
        "ID": row.id,
        "QueueMsgID": row.queue_msg_id,
        "FromID": row.from_id,
        "MessageID": row.message_id,
        "Subject": row.subject,
        "Extra": row.extra,
        "Account": row.account,
        "URL": row.url,
        "IsIncoming": row.is_incoming,
        "OutgoingEvent": row.event,
        "Payload": row.payload,
        "Submitted": timestamp(row.submitted),
        "Attempts": row.attempts,
        "Results": [result(each) for each in row.results],
    }


def waiting(row: hooksdb.Hook) -> Hook:
    """A hook that waits."""
    return Hook(
        Authorization=row.authorization, NextAttempt=timestamp(row.next_attempt), **_common(row)
    )


def retired(row: hooksdb.RetiredHook) -> HookRetired:
    """A retired hook."""
    return HookRetired(
        Authorization=row.has_authorization,
        SupersededByID=row.superseded_by,
        Success=row.success,
        LastActivity=timestamp(row.last_activity),
        KeepUntil=timestamp(row.keep_until),
        **_common(row),
    )


# -- Into queries ----------------------------------------------------------------------------


def _event(name: str) -> str:
    if name and name != INCOMING and name not in EVENTS:
        raise FilterError(f"unknown event {name[:50]!r}")
    return name


def query(wanted: HookFilter, now: int) -> HookQuery:
    """A filter as the store takes it. Raises FilterError."""
    return HookQuery(
        most=most(wanted.Max),
        ids=tuple(wanted.IDs),
        account=wanted.Account,
        event=_event(wanted.Event),
        submitted=moment(wanted.Submitted, now),
        next_attempt=moment(wanted.NextAttempt, now),
    )


def retired_query(wanted: HookRetiredFilter, now: int) -> HookQuery:
    """A filter for retired hooks. Raises FilterError."""
    return HookQuery(
        most=most(wanted.Max),
        ids=tuple(wanted.IDs),
        account=wanted.Account,
        event=_event(wanted.Event),
        submitted=moment(wanted.Submitted, now),
        last_activity=moment(wanted.LastActivity, now),
    )


def order(wanted: HookSort) -> Order:
    """A sort as the store takes it. Raises FilterError."""
    columns = {"": "next_attempt", "NextAttempt": "next_attempt", "Submitted": "submitted"}
    return order_by(wanted, columns)


def retired_order(wanted: HookRetiredSort) -> Order:
    """A sort for retired hooks. Raises FilterError."""
    columns = {"": "last_activity", "LastActivity": "last_activity", "Submitted": "submitted"}
    return order_by(wanted, columns)
