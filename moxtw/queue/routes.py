"""Which transport a message takes: routes of the account, the sender's domain, and all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Protocol

from moxtw.config.dynamic import ConfigDomain, Dynamic, Route
from moxtw.config.static import Static, Transport
from moxtw.mail.domain import DomainError, parse_domain
from moxtw.queue.delivery import DeliveryError, Trouble


class Config(Protocol):
    """A configuration view, see `moxtw.config.live.LiveConfig`."""

    static: Static

    @property
    def dynamic(self) -> Dynamic:
        """domains.conf."""

    @property
    def domains(self) -> Mapping[str, ConfigDomain]:
        """Configured domains by Unicode name."""


@lru_cache(maxsize=4096)
def ascii_domain(name: str) -> str:
    """The ASCII form of a domain as stored; empty for an address literal, or for none."""
    if not name or name.startswith("["):
        return ""
    try:
        return parse_domain(name, strict=False).ascii
    except DomainError:
        return name


def matches(patterns: Iterable[str], domain: str) -> bool:
    """Whether a domain (ASCII, empty if there is none) is meant by one of the patterns.

    With a leading dot a pattern means a domain and all below it; a dot alone means "none".
    """
    for pattern in patterns:
        if pattern == ".":
            if not domain:
                return True
        elif pattern.startswith("."):
            if domain == pattern[1:] or domain.endswith(pattern):
                return True
        elif domain and domain == pattern:
            return True
    return False


def route_for(
    routes: Iterable[Route], sender_domain: str, recipient_domain: str, attempts: int
) -> Route | None:
    """The first route that matches. Domains in ASCII; attempts: those made before."""
    for route in routes:
        if attempts < route.minimum_attempts:
            continue
        if route.from_domain and not matches(route.from_domain_ascii, sender_domain):
            continue
        if route.to_domain and not matches(route.to_domain_ascii, recipient_domain):
            continue
        return route
    return None


def transport_for(
    config: Config,
    *,
    account: str,
    sender_domain: str,
    recipient_domain: str,
    attempts: int,
    explicit: str,
) -> tuple[str, Transport | None]:
    """Name and transport for a message, None for direct delivery.

    Domains as stored. attempts: those made before. explicit: the transport that the message
    is set to, or empty. Raises DeliveryError when that does not exist.
    """
    transports = config.static.transports
    if explicit:
        transport = transports.get(explicit)
        if transport is None:
            raise DeliveryError(
                Trouble.LOCAL, f"transport {explicit} is not configured", secode="3.5"
            )
        return explicit, transport
    dynamic = config.dynamic
    sender_account = dynamic.accounts.get(account)
    sender_config = config.domains.get(sender_domain)
    for routes in (
        () if sender_account is None else sender_account.routes,
        () if sender_config is None else sender_config.routes,
        dynamic.routes,
    ):
        route = route_for(
            routes, ascii_domain(sender_domain), ascii_domain(recipient_domain), attempts
        )
        if route is not None:
            return route.transport, transports.get(route.transport)
    return "", None
