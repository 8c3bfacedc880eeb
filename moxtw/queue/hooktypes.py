"""What webhooks tell: the JSON objects of calls."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import msgspec

from moxtw.mail import readable
from moxtw.mail.readable import NameAddress
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


class IncomingMeta(msgspec.Struct, forbid_unknown_fields=True):
    """How a message came, and where it went. Automated: programs must not reply."""

    MsgID: Int64 = 0
    MailFrom: str = ""
    MailFromValidated: bool = False
    MsgFromValidated: bool = False
    RcptTo: str = ""
    DKIMVerifiedDomains: list[str] = []
    RemoteIP: str = ""
    Received: datetime | None = None
    MailboxName: str = ""
    Automated: bool = False


def no_structure() -> readable.Structure:
    """The structure of a message that there is none of."""
    return readable.Structure("", {}, "", "", "", 0, [])


class Incoming(msgspec.Struct, forbid_unknown_fields=True):
    """A message that was delivered to a mailbox."""

    Version: Int32 = 0
    From: list[NameAddress] = []
    To: list[NameAddress] = []
    CC: list[NameAddress] = []
    BCC: list[NameAddress] = []
    ReplyTo: list[NameAddress] = []
    Subject: str = ""
    MessageID: str = ""
    InReplyTo: str = ""
    References: list[str] = []
    Date: datetime | None = None
    Text: str = ""
    HTML: str = ""
    Structure: readable.Structure = msgspec.field(default_factory=no_structure)
    Meta: IncomingMeta = msgspec.field(default_factory=IncomingMeta)


_encode = msgspec.json.Encoder().encode


def encode(value: Any) -> str:
    """The payload of a call."""
    return _encode(value).decode()
