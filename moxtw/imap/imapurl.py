"""URLs of messages and their parts, as CATENATE names them (RFC 4469 4, RFC 5092).

Those that stand for something on another server, or on behalf of somebody else, are none here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote_to_bytes

from moxtw.imap.errors import Bad
from moxtw.imap.fetchitems import Section, parse_section_text
from moxtw.imap.parser import NeedLiteral

MAX_URL: Final = 8192

_MAX_UID: Final = 0xFFFFFFFF
_URL: Final = re.compile(
    r"(?P<mailbox>/[^;]*?)?(?:;UIDVALIDITY=(?P<validity>[0-9]{1,10}))?"
    r"/?;UID=(?P<uid>[0-9]{1,10})"
    r"(?:/?;SECTION=(?P<section>[^;]*?))?"
    r"(?:/?;PARTIAL=(?P<start>[0-9]{1,19})(?:\.(?P<count>[0-9]{1,19}))?)?",
    re.IGNORECASE | re.ASCII,
)
_BAD_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")


class URLError(ValueError):
    """Not the URL of a message here."""


@dataclass(frozen=True, slots=True)
class MessageURL:
    """A message, or a part of it. mailbox: empty for the selected one; uidvalidity 0: any."""

    mailbox: str
    uidvalidity: int
    uid: int
    section: Section


def parse_url(url: bytes, host: str) -> MessageURL:
    """Parse an absolute path, a path relative to the selected mailbox, or a URL of `host`.

    Raises URLError.
    """
    if len(url) > MAX_URL or not url.isascii():
        raise URLError("too long, or not ascii")
    text = url.decode("ascii")
    if text[:7].lower() == "imap://":
        server, slash, rest = text[7:].partition("/")
        name = server.rpartition("@")[2]
        if name.partition(":")[0].lower() != host.lower():
            raise URLError("on another server")
        text = slash + rest
    if not text.isprintable() or " " in text or _BAD_ESCAPE.search(text):
        raise URLError("bad characters")
    match = _URL.fullmatch(text)
    if match is None:
        raise URLError("not the url of a message")
    try:
        mailbox = unquote_to_bytes((match["mailbox"] or "")[1:]).decode("utf-8")
    except UnicodeDecodeError:
        raise URLError("mailbox is not utf-8") from None
    uid = int(match["uid"])
    validity = int(match["validity"] or 0)
    if not 0 < uid <= _MAX_UID or validity > _MAX_UID:
        raise URLError("number out of range")
    if match["validity"] is not None and not mailbox:
        raise URLError("uidvalidity without mailbox")
    partial = None
    if match["start"] is not None:
        start = int(match["start"])
        count = int(match["count"]) if match["count"] is not None else 2**62
        if not count or max(start, count) >= 2**63:
            raise URLError("bad range")
        partial = (start, count)
    try:
        section = parse_section_text(unquote_to_bytes(match["section"] or ""), partial)
    except (Bad, NeedLiteral):
        raise URLError("bad section") from None
    return MessageURL(mailbox, validity, uid, section)
