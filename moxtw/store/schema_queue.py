"""The tables of the queue of outgoing messages, on the same metadata as all others.

Times are microseconds since the epoch (UTC); booleans are 0 and 1. Domains are in Unicode
form, or ``[ip]`` for an address literal. A queued message is one recipient of one submission;
its bytes are those of a source, which it shares with other recipients.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import BigInteger, Column, ForeignKey, Index, LargeBinary, SmallInteger, Table, Text
from sqlalchemy import text as sql

from moxtw.store.schema import Id, _bool, _id, _int, _text, metadata


def _where(condition: str) -> dict[str, Any]:
    """A partial index, in each dialect."""
    return {"sqlite_where": sql(condition), "postgresql_where": sql(condition)}


def _common() -> list[Column[Any]]:
    """Columns of queued and of retired messages."""
    return [
        # Id of the first message of the same submission, with the same sender and prefix;
        # 0 for a message of its own.
        _int("base_id"),
        Column("queued", BigInteger, nullable=False),
        Column("sender_account", Text, nullable=False),
        _text("sender_localpart"),
        _text("sender_domain"),  # both empty: the null reverse-path
        _text("recipient_localpart"),
        Column("recipient_domain", Text, nullable=False),
        # Unique id within MAIL FROM, by which later notifications are recognised.
        Column("from_id", Text),
        _int("attempts"),
        _int("max_attempts"),  # 0: the default
        Column("last_attempt", BigInteger),
        _text("dialed_ips"),  # JSON: host to list of addresses connected to so far
        _text("results"),  # JSON: list of attempts
        _bool("has8bit"),
        _bool("smtputf8"),
        _int("size"),  # of prefix and content
        _text("message_id"),  # with its angle brackets
        _text("subject"),
        _bool("is_dmarc_report"),
        _bool("is_tls_report"),
        _text("transport"),  # overrides routes
        # null: by policies; 1: demanded; 0: failures of policies are let pass (RFC 8689).
        Column("require_tls", SmallInteger),
        _text("future_release"),  # for;SECONDS or until;TIME (RFC 4865)
        _text("extra"),  # JSON: map of strings, handed on to webhooks
        _text("dsn"),  # JSON: what the sender wants to be told (RFC 3461), empty for the usual
    ]


# What lists are filtered by, so that a search for a part of an address reads an index only.
_SEARCHED: Final = (
    "sender_account",
    "transport",
    "sender_localpart",
    "sender_domain",
    "recipient_localpart",
    "recipient_domain",
)

# The bytes of queued messages, apart from what the scheduler and lists read: header lines in
# front of a content. Kept once for all recipients of a submission with the same prefix.
queue_sources: Final = Table(
    "queue_sources",
    metadata,
    _id(),
    Column("content_id", Id, ForeignKey("contents.id"), nullable=False),
    Column("prefix", LargeBinary, nullable=False),
    # The whole message in a form for servers with SMTPUTF8 (RFC 6533).
    Column("dsn_utf8", LargeBinary),
    Index("queue_sources_content", "content_id"),
)

queue: Final = Table(
    "queue",
    metadata,
    _id(),
    *_common(),
    _bool("hold"),
    Column("next_attempt", BigInteger, nullable=False),
    # An attempt is under way, or was when the server ended without notice.
    _bool("delivering"),
    Column("source_id", Id, ForeignKey("queue_sources.id"), nullable=False),
    # The scheduler goes by domain, lists by time.
    Index("queue_due_in", "recipient_domain", "next_attempt", "id", **_where("hold = 0")),
    Index("queue_search", "next_attempt", "id", "queued", "hold", *_SEARCHED),
    Index("queue_queued", "queued", "id"),
    # For lists: each order of all, of an account, and of what is held or has a transport.
    Index("queue_account_next", "sender_account", "next_attempt", "id"),
    Index("queue_account_queued", "sender_account", "queued", "id"),
    Index("queue_held_next", "next_attempt", "id", **_where("hold = 1")),
    Index("queue_held_queued", "queued", "id", **_where("hold = 1")),
    Index("queue_transport", "transport", "next_attempt", "id", **_where("transport <> ''")),
    # For hold rules.
    Index("queue_sender_domain", "sender_domain", "id"),
    Index("queue_base", "base_id", **_where("base_id > 0")),
    Index("queue_from_id", "from_id", unique=True, **_where("from_id IS NOT NULL")),
    Index("queue_delivering", "delivering", **_where("delivering = 1")),
    Index("queue_source", "source_id"),
    # Ids are shared with retired messages, so none may come twice.
    sqlite_autoincrement=True,
)

queue_retired: Final = Table(
    "queue_retired",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=False),  # the id it was queued under
    *_common(),
    # Base form of the recipient's address, see moxtw.mail.address.base_address.
    Column("recipient_address", Text, nullable=False),
    _bool("success"),
    Column("last_activity", BigInteger, nullable=False),
    Column("keep_until", BigInteger, nullable=False),
    Index("queue_retired_from_id", "from_id", **_where("from_id IS NOT NULL")),
    Index("queue_retired_search", "last_activity", "id", "queued", "success", *_SEARCHED),
    Index("queue_retired_queued", "queued", "id"),
    Index("queue_retired_account", "sender_account", "last_activity", "id"),
    Index("queue_retired_account_queued", "sender_account", "queued", "id"),
    Index("queue_retired_failed", "last_activity", "id", **_where("success = 0")),
    Index("queue_retired_address", "sender_account", "recipient_address", "last_activity"),
    Index("queue_retired_keep_until", "keep_until"),
    # By which notifications of other systems are matched. What can be longer than entries of
    # an index may be is not.
    Index(
        "queue_retired_message_id",
        "sender_account",
        "message_id",
        **_where("length(message_id) < 400"),
    ),
)

# Queued messages that match all fields given are put on hold.
queue_hold_rules: Final = Table(
    "queue_hold_rules",
    metadata,
    _id(),
    _text("account"),
    _text("sender_domain"),
    _text("recipient_domain"),
)

queue_suppressions: Final = Table(
    "queue_suppressions",
    metadata,
    _id(),
    Column("created", BigInteger, nullable=False),
    Column("account", Text, nullable=False),
    Column("base_address", Text, nullable=False),
    Column("original_address", Text, nullable=False),
    _bool("manual"),
    _text("reason"),
    Index("queue_suppressions_address", "account", "base_address", unique=True),
)

# What the last delivery to a domain saw, shown while a message to it is written.
recipient_domain_tls: Final = Table(
    "recipient_domain_tls",
    metadata,
    Column("account_id", Id, ForeignKey("accounts.id"), primary_key=True),
    Column("domain", Text, primary_key=True),
    Column("updated", BigInteger, nullable=False),
    _bool("starttls"),
    _bool("require_tls"),
)
