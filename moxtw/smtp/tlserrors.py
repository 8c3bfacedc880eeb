"""Why a TLS handshake failed, as a label for metrics."""

from __future__ import annotations

import re
from typing import Final

from OpenSSL import SSL
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.python.failure import Failure

# OpenSSL: "sslv3 alert certificate unknown", "tlsv1 alert unknown ca", "tlsv13 alert ...".
_ALERT: Final = re.compile(r"(?:ssl|tls)v[0-9]+ alert ([a-z0-9 ]+)|alert ([a-z0-9 ]+)")

# RFC 8446 B.2.
_ALERT_NUMBERS: Final = {
    "unexpected message": 10,
    "bad record mac": 20,
    "record overflow": 22,
    "handshake failure": 40,
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
    "missing extension": 109,
    "unsupported extension": 110,
    "unrecognized name": 112,
    "bad certificate status response": 113,
    "unknown psk identity": 115,
    "certificate required": 116,
    "no application protocol": 120,
}

_NOT_TLS: Final = (
    "wrong version number",
    "http request",
    "https proxy request",
    "packet length too long",
)


def handshake_error(failure: Failure) -> str:
    """eof, sslv2, unsupportedversions, nottls, alert-NUMBER-NAME or other."""
    exc = failure.value
    if isinstance(exc, (ConnectionDone, ConnectionLost, SSL.SysCallError, SSL.ZeroReturnError)):
        return "eof"
    if not isinstance(exc, SSL.Error) or not exc.args or not exc.args[0]:
        return "other"
    reason = str(exc.args[0][-1][-1]).lower()
    match = _ALERT.search(reason)
    if match is not None:
        name = (match[1] or match[2]).strip()
        number = _ALERT_NUMBERS.get(name, 0)
        return f"alert-{number}-{name.replace(' ', '-')}"
    if "sslv2" in reason or "ssl2" in reason:
        return "sslv2"
    if "unsupported protocol" in reason or "version too low" in reason:
        return "unsupportedversions"
    return "nottls" if reason in _NOT_TLS else "other"
