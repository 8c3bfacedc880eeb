"""A queued or retired message as a value, and how it stands in a row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from moxtw.mail.address import base_address, pack_address
from moxtw.mail.dsnrequest import NO_REQUEST, DSNRequest
from moxtw.store.content import Spooled
from moxtw.store.schema_queue import queue, queue_retired

DEFAULT_MAX_ATTEMPTS: Final = 8
"""Attempts of a message that says nothing else; a temporary failure of the last is final."""

DELIVERING: Final = "delivering"
"""The error text of the result of an attempt that is under way."""

# A message that comes back again and again with DSNs must not grow without end.
MAX_RESULTS: Final = 100


class Result(msgspec.Struct, omit_defaults=True):
    """The result of an attempt, or of an action by the admin. Times in microseconds."""

    start: int
    duration: int = 0
    success: bool = False
    code: int = 0
    secode: str = ""
    error: str = ""


@dataclass(slots=True)
class NewQueued:
    """A message to queue, for one recipient; `content` gives the bytes after `prefix`."""

    sender_account: str
    sender_localpart: str
    sender_domain: str
    recipient_localpart: str
    recipient_domain: str
    content: Spooled
    prefix: bytes = b""
    from_id: str = ""
    max_attempts: int = 0
    next_attempt: int | None = None
    has8bit: bool = False
    smtputf8: bool = False
    message_id: str = ""
    subject: str = ""
    dsn_utf8: bytes | None = None
    is_dmarc_report: bool = False
    is_tls_report: bool = False
    transport: str = ""
    require_tls: bool | None = None
    future_release: str = ""
    extra: dict[str, str] = field(default_factory=dict)
    dsn: DSNRequest = NO_REQUEST


@dataclass(slots=True)
class Queued:
    """A queued message, without its bytes."""

    id: int
    base_id: int
    queued: int
    sender_account: str
    sender_localpart: str
    sender_domain: str
    recipient_localpart: str
    recipient_domain: str
    from_id: str
    attempts: int
    max_attempts: int
    last_attempt: int | None
    dialed_ips: dict[str, list[str]]
    results: list[Result]
    has8bit: bool
    smtputf8: bool
    size: int
    message_id: str
    subject: str
    is_dmarc_report: bool
    is_tls_report: bool
    transport: str
    require_tls: bool | None
    future_release: str
    extra: dict[str, str]
    dsn: DSNRequest
    hold: bool
    next_attempt: int
    delivering: bool
    source_id: int

    @property
    def sender(self) -> str:
        """The sender's address, empty for the null reverse-path."""
        if not self.sender_domain and not self.sender_localpart:
            return ""
        return pack_address(self.sender_localpart, self.sender_domain)

    @property
    def recipient(self) -> str:
        """The recipient's address."""
        return pack_address(self.recipient_localpart, self.recipient_domain)

    @property
    def recipient_base(self) -> str:
        """The base form of the recipient's address."""
        return base_address(self.recipient_localpart, self.recipient_domain)

    @property
    def attempts_allowed(self) -> int:
        """How many attempts are made before giving up."""
        return self.max_attempts or DEFAULT_MAX_ATTEMPTS


@dataclass(slots=True)
class Retired:
    """A message that is queued no more."""

    id: int
    base_id: int
    queued: int
    sender_account: str
    sender_localpart: str
    sender_domain: str
    recipient_localpart: str
    recipient_domain: str
    from_id: str
    attempts: int
    max_attempts: int
    last_attempt: int | None
    dialed_ips: dict[str, list[str]]
    results: list[Result]
    has8bit: bool
    smtputf8: bool
    size: int
    message_id: str
    subject: str
    is_dmarc_report: bool
    is_tls_report: bool
    transport: str
    require_tls: bool | None
    future_release: str
    extra: dict[str, str]
    dsn: DSNRequest
    recipient_address: str
    success: bool
    last_activity: int
    keep_until: int


_COMMON: Final = (
    "id",
    "base_id",
    "queued",
    "sender_account",
    "sender_localpart",
    "sender_domain",
    "recipient_localpart",
    "recipient_domain",
    "from_id",
    "attempts",
    "max_attempts",
    "last_attempt",
    "dialed_ips",
    "results",
    "has8bit",
    "smtputf8",
    "size",
    "message_id",
    "subject",
    "is_dmarc_report",
    "is_tls_report",
    "transport",
    "require_tls",
    "future_release",
    "extra",
    "dsn",
)
COLUMNS: Final = tuple(
    queue.c[name] for name in (*_COMMON, "hold", "next_attempt", "delivering", "source_id")
)
RETIRED_COLUMNS: Final = tuple(
    queue_retired.c[name]
    for name in (*_COMMON, "recipient_address", "success", "last_activity", "keep_until")
)

_encode = msgspec.json.Encoder().encode
_dialed = msgspec.json.Decoder(dict[str, list[str]])
_results = msgspec.json.Decoder(list[Result])
_extra = msgspec.json.Decoder(dict[str, str])
_dsn = msgspec.json.Decoder(DSNRequest)


def to_json(value: Any) -> str:
    """A list or map for a column; empty ones are empty text."""
    return _encode(value).decode() if value else ""


def dsn_to_json(request: DSNRequest) -> str:
    """A request for a column; the usual one is empty text."""
    return "" if request == NO_REQUEST else _encode(request).decode()


def results_of(text: str) -> list[Result]:
    """The value of a `results` column."""
    return _results.decode(text) if text else []


def _common(row: Sequence[Any]) -> list[Any]:
    values = list(row)
    values[8] = values[8] or ""
    values[12] = _dialed.decode(values[12]) if values[12] else {}
    values[13] = results_of(values[13])
    for index in (14, 15, 19, 20):
        values[index] = bool(values[index])
    values[22] = None if values[22] is None else bool(values[22])
    values[24] = _extra.decode(values[24]) if values[24] else {}
    values[25] = _dsn.decode(values[25]) if values[25] else NO_REQUEST
    return values


def queued_row(row: Sequence[Any]) -> Queued:
    """A row of `COLUMNS`."""
    values = _common(row)
    values[26] = bool(values[26])
    values[28] = bool(values[28])
    return Queued(*values)


def retired_row(row: Sequence[Any]) -> Retired:
    """A row of `RETIRED_COLUMNS`."""
    values = _common(row)
    values[27] = bool(values[27])
    return Retired(*values)
