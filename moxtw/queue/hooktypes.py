"""What webhooks tell: the JSON objects of calls."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import msgspec

from moxtw.queue.api import Int32, Int64

DELIVERED: Final = "delivered"
SUPPRESSED: Final = "suppressed"
DELAYED: Final = "delayed"
FAILED: Final = "failed"
RELAYED: Final = "relayed"
EXPANDED: Final = "expanded"
CANCELED: Final = "canceled"
UNRECOGNIZED: Final = "unrecognized"


class Outgoing(msgspec.Struct, forbid_unknown_fields=True):
    """What happened to an outgoing message.

    DSN: a notification of another system says so. Suppressing: the address is on the
    suppression list from now on. Error is that of the last attempt.
    """

    Version: Int32 = 0
    Event: str = ""
    DSN: bool = False
    Suppressing: bool = False
    QueueMsgID: Int64 = 0
    FromID: str = ""
    MessageID: str = ""
    Subject: str = ""
    WebhookQueued: datetime | None = None
    SMTPCode: Int32 = 0
    SMTPEnhancedCode: str = ""
    Error: str = ""
    Extra: dict[str, str] = {}


_encode = msgspec.json.Encoder().encode


def encode(value: Any) -> str:
    """The payload of a call."""
    return _encode(value).decode()
