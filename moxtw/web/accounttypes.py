"""Types of the account API beside those of the configuration and of the admin API."""

from __future__ import annotations

import enum

import msgspec
from msgspec import field

from moxtw.mail.readable import NameAddress, Structure
from moxtw.queue.hooktypes import no_structure
from moxtw.web.admintypes import ZERO_TIME
from moxtw.web.configtypes import ApiStruct
from moxtw.web.typewords import Int32, Int64, Time


class ImportProgress(ApiStruct):
    """An import that has begun; the token is for watching and aborting it."""

    token: str = ""


class Suppression(ApiStruct):
    """An address that the account sends nothing to."""

    id: Int64 = 0
    created: Time = ZERO_TIME
    account: str = ""
    base_address: str = ""
    original_address: str = ""
    manual: bool = False
    reason: str = ""


class OutgoingEvent(enum.Enum):
    """What happened to an outgoing message."""

    EventDelivered = "delivered"
    EventSuppressed = "suppressed"
    EventDelayed = "delayed"
    EventFailed = "failed"
    EventRelayed = "relayed"
    EventExpanded = "expanded"
    EventCanceled = "canceled"
    EventUnrecognized = "unrecognized"


class Outgoing(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A webhook call for an event of an outgoing message."""

    Version: Int32 = 0
    Event: OutgoingEvent = OutgoingEvent.EventDelivered
    DSN: bool = False
    Suppressing: bool = False
    QueueMsgID: Int64 = 0
    FromID: str = ""
    MessageID: str = ""
    Subject: str = ""
    WebhookQueued: Time = ZERO_TIME
    SMTPCode: Int32 = 0
    SMTPEnhancedCode: str = ""
    Error: str = ""
    Extra: dict[str, str] = {}


class IncomingMeta(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """How a message came, and where it went."""

    MsgID: Int64 = 0
    MailFrom: str = ""
    MailFromValidated: bool = False
    MsgFromValidated: bool = False
    RcptTo: str = ""
    DKIMVerifiedDomains: list[str] = []
    RemoteIP: str = ""
    Received: Time = ZERO_TIME
    MailboxName: str = ""
    Automated: bool = False


class Incoming(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A webhook call for an incoming message."""

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
    Date: Time | None = None
    Text: str = ""
    HTML: str = ""
    Structure: Structure = field(default_factory=no_structure)
    Meta: IncomingMeta = field(default_factory=IncomingMeta)
