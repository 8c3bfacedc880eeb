"""Requests and results of the methods, as in their JSON."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec

Time = Annotated[datetime, msgspec.Meta(tz=True)]


class NameAddress(msgspec.Struct, forbid_unknown_fields=True):
    """An address with a display name."""

    Name: str = ""
    Address: str = ""


class File(msgspec.Struct, forbid_unknown_fields=True):
    """A file: Data is base64; ContentType is found out if it is empty."""

    Name: str = ""
    ContentType: str = ""
    ContentID: str = ""
    Data: bytes = b""


class SendRequest(msgspec.Struct, forbid_unknown_fields=True):
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


class WebapiError(Exception):
    """A call that failed: code and message for the client, status 400."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
