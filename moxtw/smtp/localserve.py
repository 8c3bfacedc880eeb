"""Localparts that make a local test server fail as asked for, to try what a program does then.

An ending of ``temperror``, ``permerror``, ``timeout`` or three digits says how; the beginning
says when: ``mailfrom`` at MAIL, ``rcptto`` at RCPT, ``queue`` in the queue, else after DATA.
"""

from __future__ import annotations

from typing import Final

from moxtw.smtp.reply import SMTPError

TIMEOUT: Final = 3600
"""Seconds that ``timeout`` makes the client wait."""

_PREFIXES: Final = ("mailfrom", "rcptto", "queue")


def special(localpart: str, prefix: str) -> tuple[SMTPError | None, float]:
    """How to fail, and how long to wait before, for a localpart at one of the moments.

    prefix: mailfrom, rcptto, or empty after DATA.
    """
    if prefix:
        if not localpart.startswith(prefix):
            return None, 0
    elif localpart.startswith(_PREFIXES):
        return None, 0
    if localpart.endswith("temperror"):
        return SMTPError(451, "4.3.0", "temporary error, as asked for"), 0
    if localpart.endswith("permerror"):
        return SMTPError(550, "5.3.0", "permanent error, as asked for"), 0
    if localpart.endswith("timeout"):
        return SMTPError(451, "4.3.0", "timed out, as asked for"), TIMEOUT
    digits = localpart[-3:]
    if len(digits) == 3 and digits.isascii() and digits.isdigit() and 400 <= int(digits) <= 600:
        code = int(digits)
        return SMTPError(code, f"{code // 100}.3.0", "error, as asked for"), 0
    return None, 0
