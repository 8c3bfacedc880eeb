"""Tag lists, ``name=value; name=value``, as in DKIM signatures and key records (RFC 6376 3.2)."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Final

# The most tags that a list may have: what is defined are some twelve.
MAX_TAGS: Final = 100

_TAG: Final = re.compile(r"[ \t\r\n]*([A-Za-z][A-Za-z0-9_]*)[ \t\r\n]*=(.*)", re.DOTALL)
_FWS: Final = re.compile(r"[ \t\r\n]+")
_BLANK: Final = " \t\r\n"
# Printable text, with the UTF-8 of RFC 8616.
_VALUE: Final = re.compile(r"[ \t\r\n!-~\u00a0-\ud7ff\ue000-\U0010ffff]*")
_BASE64: Final = re.compile(r"[A-Za-z0-9+/]+={0,2}")
_NUMBER: Final = re.compile(r"[0-9]{1,76}")
_HEX: Final = re.compile(r"=([0-9A-Fa-f]{2})")


class TagError(ValueError):
    """Text that is no tag list, or a value that is not what its tag wants."""


def parse_tags(text: str) -> dict[str, str]:
    """Values by name, in order, without blanks around them. Raises TagError.

    Names are case-sensitive, and none may come twice.
    """
    tags: dict[str, str] = {}
    parts = text.split(";", MAX_TAGS + 1)
    if not parts[-1].strip(_BLANK):
        parts.pop()  # A last ";" ends the list.
    if not parts:
        raise TagError("no tags")
    if len(parts) > MAX_TAGS:
        raise TagError("too many tags")
    for part in parts:
        match = _TAG.fullmatch(part)
        if match is None:
            raise TagError("tag is not of the form name=value")
        name, value = match.groups()
        if name in tags:
            raise TagError(f"duplicate tag {name[:20]}")
        if not _VALUE.fullmatch(value):
            raise TagError(f"bad character in tag {name[:20]}")
        tags[name] = value.strip(_BLANK)
    return tags


def need(tags: Mapping[str, str], *names: str) -> None:
    """Raise TagError unless all these tags are there."""
    for name in names:
        if name not in tags:
            raise TagError(f"tag {name} is missing")


def without_blanks(value: str) -> str:
    """A value without folding blanks, which may stand anywhere in base64 text."""
    return _FWS.sub("", value)


def base64_value(value: str, name: str) -> bytes:
    """What base64 text stands for, padded to groups of four. Raises TagError."""
    compact = without_blanks(value)
    if not _BASE64.fullmatch(compact):
        raise TagError(f"tag {name} is not base64")
    try:
        return base64.b64decode(compact, validate=True)
    except binascii.Error as exc:
        raise TagError(f"tag {name} is not base64") from exc


def number(value: str, name: str) -> int:
    """An unsigned number. Raises TagError."""
    if not _NUMBER.fullmatch(value):
        raise TagError(f"tag {name} is not a number")
    return int(value)


def words(value: str) -> tuple[str, ...]:
    """The words of a list with colons between them, in lower case."""
    return tuple(word.strip(_BLANK).lower() for word in value.split(":"))


def quoted_printable(value: str, name: str) -> str:
    """What dkim-quoted-printable stands for (RFC 6376 2.11). Raises TagError."""
    text = without_blanks(value)
    if "=" not in text:
        return text
    data = bytearray()
    at = 0
    raw = text.encode("utf-8")
    while True:
        found = raw.find(b"=", at)
        if found < 0:
            data += raw[at:]
            break
        data += raw[at:found]
        code = raw[found : found + 3].decode("utf-8", "replace")
        if not _HEX.fullmatch(code):
            raise TagError(f"tag {name} is not quoted-printable")
        data.append(int(code[1:], 16))
        at = found + 3
    return data.decode("utf-8", "replace")
