"""Why a TLS handshake failed, as a label for metrics."""

from __future__ import annotations

from typing import Final

from OpenSSL import SSL
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.python.failure import Failure

from moxtw.net.tlsalerts import alert

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
    found = alert(reason)
    if found is not None:
        return found
    if "sslv2" in reason or "ssl2" in reason:
        return "sslv2"
    if "unsupported protocol" in reason or "version too low" in reason:
        return "unsupportedversions"
    return "nottls" if reason in _NOT_TLS else "other"
