"""A message as programs read it: addresses, text, and the structure of its parts.

The classes are written as JSON as they are: by the HTTP API, and in webhooks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from typing import Final

import msgspec

from moxtw.mail import transfer
from moxtw.mail.address import pack_address
from moxtw.mail.addrlist import Mailbox, mailboxes, parse_entries
from moxtw.mail.charset import decode
from moxtw.mail.dates import parse_date
from moxtw.mail.domain import DomainError, parse_domain
from moxtw.mail.header import Headers
from moxtw.mail.mime import Part
from moxtw.mail.text import decode_content
from moxtw.mail.words import decode_header, header_text

MAX_TEXT: Final = 1 << 20
"""Bytes (in UTF-8) of text that are told, of each kind."""

_PIECE: Final = 1 << 20
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# Encoded text is longer than its content, at most so many times.
_EXPANSION: Final = 4

Read = Callable[[int, int], bytes]
"""Gives the bytes of a content from a start to an end."""


class NameAddress(msgspec.Struct, forbid_unknown_fields=True):
    """An address with a display name."""

    Name: str = ""
    Address: str = ""


class Structure(msgspec.Struct):
    """A part with those below it.

    DecodedSize is that of the content without its transfer encoding; 0 for a multipart. An
    embedded message has no Parts: it is a content like others.
    """

    ContentType: str
    ContentTypeParams: dict[str, str]
    ContentID: str
    ContentDisposition: str
    Filename: str
    DecodedSize: int
    Parts: list[Structure]


class Summary(msgspec.Struct):
    """What the header of a message says. Ids are with angle brackets, as they stand there."""

    From: list[NameAddress]
    To: list[NameAddress]
    CC: list[NameAddress]
    BCC: list[NameAddress]
    ReplyTo: list[NameAddress]
    MessageID: str
    InReplyTo: str
    References: list[str]
    Date: datetime | None
    Subject: str


def summary(headers: Headers) -> Summary:
    """The summary of a header section."""

    def text(name: bytes) -> str:
        raw = headers.raw(name)
        return header_text(raw) if raw else ""

    def addresses(name: bytes) -> list[NameAddress]:
        values = headers.raw_all(name)
        return [_address(one) for value in values for one in mailboxes(parse_entries(value))]

    raw_subject = headers.raw(b"subject")
    return Summary(
        From=addresses(b"from"),
        To=addresses(b"to"),
        CC=addresses(b"cc"),
        BCC=addresses(b"bcc"),
        ReplyTo=addresses(b"reply-to"),
        MessageID=text(b"message-id"),
        InReplyTo=text(b"in-reply-to"),
        References=[
            word for value in headers.raw_all(b"references") for word in header_text(value).split()
        ],
        Date=_date(text(b"date")),
        Subject=decode_header(raw_subject) if raw_subject else "",
    )


def _address(mailbox: Mailbox) -> NameAddress:
    domain = mailbox.domain
    with suppress(DomainError):  # An address literal, or nonsense, is told as it stands there.
        domain = parse_domain(domain, strict=False).name
    address = pack_address(mailbox.localpart, domain) if domain else mailbox.localpart
    return NameAddress(mailbox.name, address)


def _date(text: str) -> datetime | None:
    found = parse_date(text) if text else None
    if found is None:
        return None
    when, zone = found
    try:
        time = _EPOCH + timedelta(microseconds=when)
        return time.astimezone(timezone(timedelta(minutes=zone)))
    except (OverflowError, ValueError):
        return None


def texts(root: Part, read: Read) -> tuple[str, str]:
    """The first plain text and the first HTML, with LF line ends; "" if there is none.

    Both only where they are alternatives of each other. Attachments count when there is
    nothing else.
    """
    found = _find(root, attachments=False) or _find(root, attachments=True) or {}
    return tuple(  # type: ignore[return-value]
        "" if (part := found.get(kind)) is None else _text(part, read) for kind in ("plain", "html")
    )


def _find(part: Part, *, attachments: bool) -> dict[str, Part]:
    """The parts with text, by subtype."""
    if not part.parts:
        wanted = part.media_type == "text" and part.media_subtype in ("plain", "html")
        if wanted and (attachments or part.disposition != "attachment"):
            return {part.media_subtype: part}
        return {}
    found: dict[str, Part] = {}
    for child in part.parts:
        for kind, text in _find(child, attachments=attachments).items():
            found.setdefault(kind, text)
        if found and part.media_subtype != "alternative":
            break
    return found


def _text(part: Part, read: Read) -> str:
    end = min(part.body_end, part.body_start + _EXPANSION * MAX_TEXT)
    data = decode_content(read(part.body_start, end), part.encoding)
    text = decode(data[: _EXPANSION * MAX_TEXT], part.charset).replace("\r\n", "\n")
    if len(text) > MAX_TEXT // 4:
        encoded = text.encode("utf-8", "replace")
        if len(encoded) > MAX_TEXT:
            text = encoded[:MAX_TEXT].decode("utf-8", "ignore")
    return text


def structure(part: Part, read: Read) -> Structure:
    """The structure of a part of the content behind `read`."""
    size = 0 if part.parts else sum(map(len, decoded(part, read)))
    return Structure(
        ContentType=part.content_type,
        ContentTypeParams=dict(part.params),
        ContentID=part.id or "",
        ContentDisposition=part.disposition or "",
        Filename=part.filename or "",
        DecodedSize=size,
        Parts=[structure(child, read) for child in part.parts],
    )


def decoded(part: Part, read: Read, piece: int = _PIECE) -> Iterator[bytes]:
    """The body of a part without its transfer encoding, in pieces."""
    try:
        decoder = transfer.decoder(part.encoding)
    except transfer.UnknownEncoding:
        decoder = transfer.decoder("binary")
    for start in range(part.body_start, part.body_end, piece):
        data = decoder.feed(read(start, min(start + piece, part.body_end)))
        if data:
            yield data
    data = decoder.finish()
    if data:
        yield data


def find(root: Part, path: list[int]) -> Part | None:
    """The part at a path of indices, from 0; None if there is none."""
    part = root
    for index in path:
        if not 0 <= index < len(part.parts):
            return None
        part = part.parts[index]
    return part
