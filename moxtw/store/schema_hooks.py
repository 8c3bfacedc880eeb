"""The tables of webhooks: calls that are to be made, and calls that are done with.

Times are microseconds since the epoch (UTC); booleans are 0 and 1. The payload stands last in
a row, as it can be long, and lists and the scheduler look at what is before it.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import BigInteger, Column, Index, Table, Text

from moxtw.store.schema import Id, _bool, _id, _int, _text, metadata
from moxtw.store.schema_queue import _where


def _common() -> list[Column[Any]]:
    """Columns of hooks that wait and of those that are done with."""
    return [
        # The queued (or retired) message that the call is about, 0 for an incoming message.
        _int("queue_msg_id"),
        _text("from_id"),
        _text("message_id"),
        _text("subject"),
        _text("extra"),  # JSON: map of strings, from the submission
        Column("account", Text, nullable=False),
        Column("url", Text, nullable=False),
        _bool("is_incoming"),
        _text("event"),  # of an outgoing message, else empty
        Column("submitted", BigInteger, nullable=False),
        _int("attempts"),
        _text("results"),  # JSON: list of attempts
    ]


hooks: Final = Table(
    "hooks",
    metadata,
    _id(),
    *_common(),
    _text("authorization"),
    _text("signing_key"),
    Column("next_attempt", BigInteger, nullable=False),
    # An attempt is under way, or was when the server ended without notice.
    _bool("delivering"),
    Column("payload", Text, nullable=False),
    # The scheduler goes by URL, lists by time.
    Index("hooks_due", "url", "next_attempt", "id"),
    Index("hooks_next_attempt", "next_attempt", "id"),
    Index("hooks_submitted", "submitted", "id"),
    Index("hooks_account_next", "account", "next_attempt", "id"),
    Index("hooks_account_submitted", "account", "submitted", "id"),
    Index("hooks_event_next", "event", "next_attempt", "id"),
    Index("hooks_event_submitted", "event", "submitted", "id"),
    Index("hooks_message", "queue_msg_id", **_where("queue_msg_id > 0")),
    Index("hooks_delivering", "delivering", **_where("delivering = 1")),
    # Ids are shared with retired hooks, and receivers tell calls apart by them.
    sqlite_autoincrement=True,
)

hooks_retired: Final = Table(
    "hooks_retired",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=False),  # the id it had as a hook
    *_common(),
    _bool("has_authorization"),
    # The hook about the same message that took its place, 0 for none.
    _int("superseded_by"),
    _bool("success"),
    Column("last_activity", BigInteger, nullable=False),
    Column("keep_until", BigInteger, nullable=False),
    Column("payload", Text, nullable=False),
    Index("hooks_retired_last_activity", "last_activity", "id"),
    Index("hooks_retired_submitted", "submitted", "id"),
    Index("hooks_retired_account", "account", "last_activity", "id"),
    Index("hooks_retired_account_submitted", "account", "submitted", "id"),
    Index("hooks_retired_event", "event", "last_activity", "id"),
    Index("hooks_retired_event_submitted", "event", "submitted", "id"),
    Index("hooks_retired_keep_until", "keep_until"),
)
