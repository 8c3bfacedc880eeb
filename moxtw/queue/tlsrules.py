"""How safe the way to a host must be.

`TLSPolicy` is the place where MTA-STS (RFC 8461) and DANE (RFC 7672) come in; `Opportunistic`
is what holds without any such policy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from moxtw.queue.delivery import TLSMode
from moxtw.queue.hosts import Addresses, Destination


@dataclass(frozen=True, slots=True)
class HostRule:
    """What a session with a host must be like.

    verify: the certificate must be good for the host. fallback: after TLS trouble, plain text
    may be used. secure: the way is safe enough for REQUIRETLS (RFC 8689 4.2.1). label: for
    metrics, what policies are behind it (``+mtasts``, ``+dane``).
    """

    mode: TLSMode = TLSMode.OPPORTUNISTIC
    verify: bool = False
    fallback: bool = True
    secure: bool = False
    label: str = ""


class DomainRule(Protocol):
    """The policy for a recipient domain."""

    async def host(self, destination: Destination, addresses: Addresses) -> HostRule:
        """The rule for one of its hosts. Raises DeliveryError when the host is out."""
        ...


class TLSPolicy(Protocol):
    """Finds policies."""

    async def domain(self, name: str, require_tls: bool | None) -> DomainRule:
        """The policy for a recipient domain (ASCII). Raises DeliveryError when unknown."""
        ...


class Opportunistic:
    """No policy: TLS when it is offered, and plain text when it fails (RFC 7435)."""

    async def domain(self, name: str, require_tls: bool | None) -> Opportunistic:
        """See TLSPolicy."""
        return self

    async def host(self, destination: Destination, addresses: Addresses) -> HostRule:
        """See DomainRule."""
        return HostRule()
