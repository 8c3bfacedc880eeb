"""The alerts of TLS by which a peer ends a handshake, from what OpenSSL says of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

# "sslv3 alert certificate unknown", "tlsv1 alert unknown ca", "tlsv13 alert ..."; and what is
# new to OpenSSL: "reason(1114)".
_ALERT: Final = re.compile(
    r"(?:ssl|tls)v[0-9]+ alert ([a-z0-9 ]+)|alert ([a-z0-9 ]+)|reason\(1(\d\d\d)\)"
)

_NUMBERS: Final[Mapping[str, int]] = {
    # RFC 8446 6, RFC 5246 7.2.
    "close notify": 0,
    "unexpected message": 10,
    "bad record mac": 20,
    "decryption failed": 21,
    "record overflow": 22,
    "decompression failure": 30,
    "handshake failure": 40,
    "no certificate": 41,
    "bad certificate": 42,
    "unsupported certificate": 43,
    "certificate revoked": 44,
    "certificate expired": 45,
    "certificate unknown": 46,
    "illegal parameter": 47,
    "unknown ca": 48,
    "access denied": 49,
    "decode error": 50,
    "decrypt error": 51,
    "protocol version": 70,
    "insufficient security": 71,
    "internal error": 80,
    "inappropriate fallback": 86,
    "user canceled": 90,
    "user cancelled": 90,
    "no renegotiation": 100,
    "missing extension": 109,
    "unsupported extension": 110,
    "certificate unobtainable": 111,
    "unrecognized name": 112,
    "bad certificate status response": 113,
    "bad certificate hash value": 114,
    "unknown psk identity": 115,
    "certificate required": 116,
    "no application protocol": 120,
}


def alert(reason: str) -> str | None:
    """``alert-NUMBER-NAME`` for a reason of OpenSSL in lower case; None if it is no alert.

    Without the name if only the number is known; the number is 0 if only the name is.
    """
    match = _ALERT.search(reason)
    if match is None:
        return None
    if match[3]:
        return f"alert-{int(match[3])}"
    name = (match[1] or match[2]).strip()
    return f"alert-{_NUMBERS.get(name, 0)}-{name.replace(' ', '-')}"
