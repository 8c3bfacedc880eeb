"""Mailbox names on the wire: modified UTF-7 (RFC 3501 5.1.3) and UTF-8 (RFC 9051 5.1).

Which names exist and are allowed is the store's matter; here is only their spelling.
"""

from __future__ import annotations

import binascii
import re
from typing import Final

from moxtw.imap.errors import Bad

# Longer names cannot be given to the store, so there is no use in decoding them.
MAX_NAME: Final = 4096

_SHIFT: Final = re.compile(rb"&([A-Za-z0-9+,]*)-")
_RUN: Final = re.compile(r"&|[^\x20-\x7e]+")
_TO_BASE64: Final = bytes.maketrans(b",", b"/")


def decode(wire: bytes, utf8: bool) -> str:
    """The mailbox name that the bytes of an astring spell. Raises Bad when they spell none."""
    if len(wire) > MAX_NAME:
        raise Bad("mailbox name too long")
    if utf8:
        try:
            return wire.decode("utf-8")
        except UnicodeDecodeError:
            raise Bad("mailbox name is not valid UTF-8") from None
    return decode_utf7(wire)


def decode_utf7(wire: bytes) -> str:
    """Decode modified UTF-7, strictly: there is one spelling for each name, all else is Bad."""
    if b"&" not in wire:
        try:
            return wire.decode("ascii")
        except UnicodeDecodeError:
            raise Bad("mailbox name with 8-bit characters, modified UTF-7 expected") from None
    parts: list[str] = []
    pos = 0
    after_shift = -1
    while (amp := wire.find(b"&", pos)) >= 0:
        if amp > pos:
            parts.append(_ascii(wire[pos:amp]))
        match = _SHIFT.match(wire, amp)
        if match is None:
            raise Bad("modified UTF-7 in mailbox name does not end or has wrong characters")
        if match.group(1):
            if amp == after_shift:
                raise Bad("superfluous shift in modified UTF-7 of mailbox name")
            parts.append(_decode_shift(match.group(1)))
            after_shift = match.end()
        else:
            parts.append("&")
        pos = match.end()
    parts.append(_ascii(wire[pos:]))
    return "".join(parts)


def _ascii(piece: bytes) -> str:
    try:
        return piece.decode("ascii")
    except UnicodeDecodeError:
        raise Bad("mailbox name with 8-bit characters, modified UTF-7 expected") from None


def _decode_shift(digits: bytes) -> str:
    base64 = digits.translate(_TO_BASE64)
    try:
        raw = binascii.a2b_base64(base64 + b"=" * (-len(base64) % 4))
        text = raw.decode("utf-16-be")
    except (binascii.Error, UnicodeDecodeError):
        raise Bad("bad modified UTF-7 in mailbox name") from None
    # Unused bits must be zero, and characters that stand for themselves must do so.
    if _encode_shift(text) != digits or any(" " <= c <= "~" for c in text):
        raise Bad("modified UTF-7 in mailbox name is not in its one right form")
    return text


def _encode_shift(text: str) -> bytes:
    raw = binascii.b2a_base64(text.encode("utf-16-be"), newline=False)
    return raw.rstrip(b"=").replace(b"/", b",")


def encode(name: str, utf8: bool) -> bytes:
    """The bytes that spell a mailbox name; they still need quoting."""
    if utf8:
        return name.encode("utf-8", "replace")
    if name.isascii() and "&" not in name and name.isprintable():
        return name.encode("ascii")
    parts: list[bytes] = []
    pos = 0
    for match in _RUN.finditer(name):
        parts.append(name[pos : match.start()].encode("ascii"))
        run = match.group()
        parts.append(b"&-" if run == "&" else b"&" + _encode_shift(run) + b"-")
        pos = match.end()
    parts.append(name[pos:].encode("ascii"))
    return b"".join(parts)
