"""Replies of an SMTP server, as its client sees them (RFC 5321 4.2)."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from OpenSSL import SSL

from moxtw.queue.delivery import DeliveryError, Trouble
from moxtw.tlspolicy import tlsrpt

# RFC 2034 4, RFC 3463 2.
_ENHANCED: Final = re.compile(r"([245])\.(\d{1,3}\.\d{1,3})(?: |$)")


class Reply(NamedTuple):
    """A reply: its code, enhanced code without class (or empty), and full lines."""

    code: int
    secode: str
    lines: tuple[str, ...]

    @property
    def good(self) -> bool:
        """Whether the command was completed.

        By the first digit alone, as RFC 5321 4.2 has it: 250 is usual, but a server that says
        251 has taken the recipient too.
        """
        return 200 <= self.code < 300

    @property
    def text(self) -> str:
        """All lines in one."""
        return " / ".join(self.lines)


def refusal(reply: Reply, command: str, remote: str) -> DeliveryError:
    """A reply as error. 552 for a recipient means "too many" (RFC 5321 4.5.3.1.10)."""
    return DeliveryError(
        Trouble.REPLY,
        f"{remote} answered {command} with: {reply.text}",
        permanent=500 <= reply.code < 600 and (reply.code != 552 or command != "RCPT"),
        code=reply.code,
        secode=reply.secode,
        lines=reply.lines,
        remote_mta=remote,
    )


def make_reply(code: int, lines: tuple[str, ...]) -> Reply:
    """A reply from its lines. The enhanced code counts only if its class is the reply's."""
    found = _ENHANCED.match(lines[-1], 4)
    secode = found[2] if found is not None and found[1] == lines[-1][0] else ""
    return Reply(code, secode, lines)


def tls_reason(exc: BaseException) -> str:
    """What went wrong in TLS, as a reason code for TLS reports (RFC 8460 4.4)."""
    if isinstance(exc, SSL.Error):
        found = exc.args[0] if exc.args and isinstance(exc.args[0], list) else []
        return tlsrpt.tls_reason([str(entry[-1]) for entry in found])
    reason = getattr(exc, "reason", "")
    if isinstance(reason, str) and reason:
        return reason
    return "connection-closed-during-handshake"


def tls_error_text(exc: BaseException) -> str:
    """What went wrong in TLS, in words: OpenSSL's errors are lists of tuples."""
    if isinstance(exc, SSL.Error) and exc.args and isinstance(exc.args[0], list):
        return "; ".join(str(entry[-1]) for entry in exc.args[0]) or "unknown error"
    return str(exc) or type(exc).__name__
