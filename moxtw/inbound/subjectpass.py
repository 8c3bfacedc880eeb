"""Tokens for the Subject with which a refused sender gets past the junk filter.

A token is `(pass:…)`: in base64 without padding, four bytes with version and time, and twelve
bytes of an HMAC over these and the author's address. Whoever was refused with one, and means
it, sends the message again with the token in its subject.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from typing import Final

TEXT: Final = (
    "your message resembles junk; if it is none, please send it again with the following added"
    " to the subject: "
)

_TOKEN: Final = re.compile(r"\(pass:([A-Za-z0-9_-]{22})\)")
# Tokens that are looked at in a subject.
_MOST: Final = 10
_VERSION: Final = 0
_SIGNATURE: Final = 12
# The low bits of the time are not kept.
_COARSE: Final = 256


def generate(address: str, key: bytes, now: int) -> str:
    """A token for an author's address. now: seconds since the epoch."""
    head = (now & 0x0FFFFF00 | _VERSION << 28).to_bytes(4, "big")
    return f"(pass:{base64.urlsafe_b64encode(head + _sign(head, address, key)).decode()[:22]})"


def verify(subject: str, address: str, key: bytes, now: int, period: int) -> bool:
    """Whether the subject has a good token not older than `period` seconds."""
    for count, match in enumerate(_TOKEN.finditer(subject)):
        if count == _MOST:
            break
        try:
            data = base64.urlsafe_b64decode(match[1] + "==")
        except (binascii.Error, ValueError):
            continue
        head = data[:4]
        if head[0] >> 4 != _VERSION:
            continue
        if not hmac.compare_digest(data[4:], _sign(head, address, key)):
            continue
        # Of the time, 28 bits are there: the latest such time that is not in the future.
        age = (now - (int.from_bytes(head, "big") & 0x0FFFFFFF)) & 0x0FFFFFFF
        if age <= period + _COARSE:
            return True
    return False


def _sign(head: bytes, address: str, key: bytes) -> bytes:
    return hmac.new(key, head + address.encode(), hashlib.sha256).digest()[:_SIGNATURE]
