"""Requests and results of the methods, as in their JSON."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated

import msgspec

from moxtw.mail.readable import NameAddress, Structure

Time = Annotated[datetime, msgspec.Meta(tz=True)]
Id = Annotated[int, msgspec.Meta(ge=-(1 << 63), le=(1 << 63) - 1)]
Index = Annotated[int, msgspec.Meta(ge=-(1 << 31), le=(1 << 31) - 1)]


class Request(msgspec.Struct, forbid_unknown_fields=True):
    """What a method is asked: an object, unknown fields are refused."""


class File(Request):
    """A file: Data is base64; ContentType is found out if it is empty."""

    Name: str = ""
    ContentType: str = ""
    ContentID: str = ""
    Data: bytes = b""


class SendRequest(Request):
    """A message to send. Without From it comes from the address that logs in."""

    From: list[NameAddress] = []
    To: list[NameAddress] = []
    CC: list[NameAddress] = []
    BCC: list[NameAddress] = []
    ReplyTo: list[NameAddress] = []
    MessageID: str = ""
    References: list[str] = []
    Date: Time | None = None
    Subject: str = ""
    Text: str = ""
    HTML: str = ""
    Extra: dict[str, str] = {}
    Headers: list[tuple[str, str]] = []
    AlternativeFiles: list[File] = []
    InlineFiles: list[File] = []
    AttachedFiles: list[File] = []
    RequireTLS: bool | None = None
    FutureRelease: Time | None = None
    SaveSent: bool = False


class Submission(msgspec.Struct):
    """What became of a recipient: the id of the queued message."""

    Address: str
    QueueMsgID: int
    FromID: str


class SendResult(msgspec.Struct):
    """A message that is queued."""

    MessageID: str
    Submissions: list[Submission]


class SuppressionListRequest(Request):
    """Nothing is asked."""


class Suppression(msgspec.Struct):
    """An address that the account sends nothing to."""

    ID: int
    Created: datetime
    Account: str
    BaseAddress: str
    OriginalAddress: str
    Manual: bool
    Reason: str


class SuppressionListResult(msgspec.Struct):
    """The list, oldest first."""

    Suppressions: list[Suppression]


class SuppressionAddRequest(Request):
    """An address for the list."""

    EmailAddress: str = ""
    Manual: bool = False
    Reason: str = ""


class SuppressionRequest(Request):
    """An address, to be removed or looked up."""

    EmailAddress: str = ""


class SuppressionPresentResult(msgspec.Struct):
    """Whether an address is on the list."""

    Present: bool


class MessageRequest(Request):
    """A message, by the id that webhooks and MessageGet tell."""

    MsgID: Id = 0


class MessagePartRequest(Request):
    """A part: indices from 0 into Parts of the structure, none for the whole body."""

    MsgID: Id = 0
    PartPath: list[Index] = []


class MessageFlagsRequest(Request):
    """A message, with flags to be added or removed."""

    MsgID: Id = 0
    Flags: list[str] = []


class MessageMoveRequest(Request):
    """A message, and the mailbox that it is to go to."""

    MsgID: Id = 0
    DestMailboxName: str = ""


class Message(msgspec.Struct):
    """A message as it was composed."""

    From: list[NameAddress]
    To: list[NameAddress]
    CC: list[NameAddress]
    BCC: list[NameAddress]
    ReplyTo: list[NameAddress]
    MessageID: str
    References: list[str]
    Date: datetime | None
    Subject: str
    Text: str
    HTML: str


class MessageMeta(msgspec.Struct):
    """What is known of a message beside its content."""

    Size: int
    DSN: bool
    Flags: list[str]
    MailFrom: str
    MailFromValidated: bool
    RcptTo: str
    MsgFrom: str
    MsgFromValidated: bool
    DKIMVerifiedDomains: list[str]
    RemoteIP: str
    MailboxName: str


class MessageGetResult(msgspec.Struct):
    """A message."""

    Message: Message
    Structure: Structure
    Meta: MessageMeta


class Empty(msgspec.Struct):
    """Nothing is told."""


@dataclass(slots=True)
class Download:
    """An answer that is bytes. `following` gives the next piece in a thread, empty at the end.

    size: in bytes, None if it is not known before.
    """

    following: Callable[[], bytes]
    close: Callable[[], None]
    content_type: str
    size: int | None = None
    headers: dict[str, str] = field(default_factory=dict)


class WebapiError(Exception):
    """A call that failed: code and message for the client, status 400."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
