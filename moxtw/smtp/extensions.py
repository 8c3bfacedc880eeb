"""What a server can do: the keywords in its reply to EHLO (RFC 5321 4.1.1.1)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_NUMBER = re.compile(r"[0-9]{1,20}")
# RFC 9422 3: limit names, and values of up to six digits without leading zero.
_LIMIT = re.compile(r"([A-Za-z][A-Za-z0-9-]*)=([1-9][0-9]{0,5})")


@dataclass(frozen=True, slots=True)
class Extensions:
    """The service extensions that matter to us. `size_limit` 0: no fixed limit."""

    starttls: bool = False
    enhancedstatuscodes: bool = False
    eightbitmime: bool = False
    pipelining: bool = False
    requiretls: bool = False
    smtputf8: bool = False
    dsn: bool = False
    size: bool = False
    size_limit: int = 0
    auth: tuple[str, ...] = ()
    mailmax: int | None = None
    rcptmax: int | None = None
    rcptdomainmax: int | None = None


def parse_extensions(lines: Iterable[str]) -> Extensions:
    """Read the lines after the first of a reply to EHLO, without their codes.

    Unknown keywords and malformed parameters are passed over.
    """
    found: dict[str, list[str]] = {}
    for line in lines:
        # "AUTH=LOGIN" is an old form that is still met.
        words = line.replace("AUTH=", "AUTH ", 1).split()
        if words:
            found.setdefault(words[0].upper(), []).extend(words[1:])
    size = found.get("SIZE")
    size_limit = int(size[0]) if size and _NUMBER.fullmatch(size[0]) else 0
    limits = _limits(found.get("LIMITS", []))
    return Extensions(
        starttls="STARTTLS" in found,
        enhancedstatuscodes="ENHANCEDSTATUSCODES" in found,
        eightbitmime="8BITMIME" in found,
        pipelining="PIPELINING" in found,
        requiretls="REQUIRETLS" in found,
        smtputf8="SMTPUTF8" in found,
        dsn="DSN" in found,
        size=size is not None,
        size_limit=size_limit,
        auth=tuple(dict.fromkeys(name.upper() for name in found.get("AUTH", ()))),
        mailmax=limits.get("MAILMAX"),
        rcptmax=limits.get("RCPTMAX"),
        rcptdomainmax=limits.get("RCPTDOMAINMAX"),
    )


def _limits(words: list[str]) -> dict[str, int]:
    """The server's limits (RFC 9422); a syntax error or a duplicate voids them all."""
    limits: dict[str, int] = {}
    for word in words:
        match = _LIMIT.fullmatch(word)
        if match is None or match[1].upper() in limits:
            return {}
        limits[match[1].upper()] = int(match[2])
    return limits
