"""Who asks: the facts about one HTTP request that sessions, logs and limits need."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.web.http import Request

if TYPE_CHECKING:
    from moxtw.net.cid import ConnectionIds

HeaderDict = dict[str | bytes, str | bytes | Sequence[str | bytes]]

SECURITY_HEADERS: Final[HeaderDict] = {
    "X-Frame-Options": "deny",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'self' 'unsafe-inline' data:",
    "Referrer-Policy": "same-origin",
}

MAX_AGENT: Final = 256
"""Longest user agent text, in characters, that is kept."""


@dataclass(frozen=True, slots=True)
class Visit:
    """One request's origin.

    `remote_ip` is empty when it cannot be known: behind a proxy that names no client.
    `id_text` is the encrypted connection id, for texts that outsiders see. `tls` is the TLS
    text of login attempts, empty for plain connections.
    """

    cid: int
    id_text: str
    remote_ip: str
    local_ip: str
    secure: bool
    user_agent: str
    tls: str

    def text(self, message: str) -> str:
        """An error text with the id that lets the operator find the log lines."""
        return f"{message} (id {self.id_text})"


class Origin(Protocol):
    """Derives the visit of a request; one per service, as proxies are configured so."""

    def __call__(self, request: Request) -> Visit:
        """The visit of `request`."""
        ...


def valid_ip(text: str) -> str:
    """`text` if it is an IP address, without a zone; '' otherwise."""
    try:
        return str(ipaddress.ip_address(text.strip().partition("%")[0]))
    except ValueError:
        return ""


def _host(address: object) -> str:
    return valid_ip(address.host) if isinstance(address, IPv4Address | IPv6Address) else ""


def header(request: Request, name: str) -> str:
    """A request header as text, '' if absent; bytes that are no UTF-8 are replaced."""
    values = request.requestHeaders.getRawHeaders(name.encode())
    return values[-1].decode("utf-8", "replace") if values else ""


def make_origin(ids: ConnectionIds, *, forwarded: bool = False) -> Origin:
    """Visits for a service; with `forwarded`, a proxy in front names the client."""

    def origin(request: Request) -> Visit:
        known: Visit | None = getattr(request, "moxtw_visit", None)
        if known is not None:
            return known
        cid = getattr(request, "cid", None) or ids.next()
        secure = bool(request.isSecure())
        remote = _host(request.getClientAddress())
        if forwarded:
            # The first entry is the client as the proxy saw it.
            values = request.requestHeaders.getRawHeaders(b"X-Forwarded-For") or [b""]
            remote = valid_ip(values[0].partition(b",")[0].decode("latin-1"))
            proto = header(request, "X-Forwarded-Proto").partition(",")[0].strip().lower()
            secure = secure or proto == "https"
        visit = Visit(
            cid=cid,
            id_text=ids.encrypt(cid),
            remote_ip=remote,
            local_ip=_host(request.getHost()),
            secure=secure,
            user_agent=header(request, "User-Agent")[:MAX_AGENT],
            tls=_tls_text(request),
        )
        request.moxtw_visit = visit  # type: ignore[attr-defined]
        return visit

    return origin


def _tls_text(request: Request) -> str:
    describe: Callable[[], str] | None = getattr(request, "tls_text", None)
    return describe() if describe is not None else ""
