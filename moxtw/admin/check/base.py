"""What checks share: the configuration, lookups, connections."""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from twisted.internet.defer import Deferred, gatherResults

from moxtw.admin.check.probe import ProbeError, handshake, starttls
from moxtw.config.dynamic import ConfigDomain
from moxtw.config.static import Static
from moxtw.dns import resolver as dns
from moxtw.dns.resolver import DNSError, NotFound, Resolver
from moxtw.net.tlsclient import Roots

T = TypeVar("T")

MAX_HOSTS: Final = 20
"""Mail hosts, and addresses of a host, that are looked at."""


@dataclass(frozen=True, slots=True)
class Found:
    """Addresses of a name, and which are ours; None for those if that is not known."""

    ips: list[str] = field(default_factory=list)
    ours: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A check in progress.

    our_ips: the addresses at which others reach us. nat: mail arrives through NAT; unknown_nat:
    and at addresses that are not known, so that nothing can be compared with them. smtp_port,
    https_port: where others connect to, for tests. host_tlsa: what TLSA records have to say, by
    listener.
    """

    static: Static
    domain: ConfigDomain
    resolver: Resolver
    reactor: Any
    roots: Roots
    our_ips: frozenset[str]
    nat: bool
    unknown_nat: bool
    host_tlsa: dict[str, list[str]]
    dkim_texts: dict[str, str]
    smtp_port: int = 25
    https_port: int = 443

    @property
    def name(self) -> str:
        """The domain in ASCII."""
        return self.domain.domain.ascii

    @property
    def host(self) -> str:
        """The mail host in ASCII."""
        return self.static.dns_hostname.ascii

    async def addresses(self, name: str) -> Found:
        """The addresses of a name. Raises DNSError."""
        answer = await dns.ips(self.resolver, name)
        ips = [str(ip) for ip in answer.records[:MAX_HOSTS]]
        return Found(
            ips,
            [ip for ip in ips if ip in self.our_ips],
            [ip for ip in ips if ip not in self.our_ips],
        )

    async def mx(self) -> Sequence[dns.MX]:
        """The mail hosts of the domain. Raises DNSError."""
        return (await dns.mx(self.resolver, self.name)).records[:MAX_HOSTS]

    async def https(self, errors: list[str], host: str, ips: Sequence[str]) -> None:
        """Connect with HTTPS's TLS to addresses of a host."""

        async def one(ip: str) -> None:
            try:
                await handshake(self.reactor, self.roots, host, ip, self.https_port)
            except ProbeError as exc:
                errors.append(f"TLS connection to {host} at {ip}: {exc}")

        await together(one(ip) for ip in ips)

    async def smtp(self, errors: list[str], host: str, ips: Sequence[str]) -> None:
        """Connect with SMTP to addresses of a host, and verify TLS there."""

        async def one(ip: str) -> None:
            try:
                await starttls(self.reactor, self.roots, host, ip, self.smtp_port, self.host)
            except ProbeError as exc:
                errors.append(f"SMTP with STARTTLS to mail host {host} at {ip}: {exc}")

        await together(one(ip) for ip in ips)


async def together(works: Any) -> list[Any]:
    """The results of coroutines that run at the same time, in order."""
    running = [Deferred.fromCoroutine(work) for work in works]
    return list(await gatherResults(running, consumeErrors=True))


async def absent_if_missing(lookup: Awaitable[Any]) -> Sequence[Any]:
    """The records of a lookup, none if there are none. Raises TemporaryError."""
    try:
        return list((await lookup).records)
    except NotFound:
        return []


def listed(ips: Sequence[str]) -> str:
    """Addresses as text."""
    return ", ".join(ips) or "(none)"


def ours_only(errors: list[str], check: Check, what: str, found: Found) -> None:
    """Note an error unless all addresses are ours."""
    if check.unknown_nat:
        return
    if not found.ours:
        errors.append(f"{what} does not lead to an address of ours: {listed(found.others)}")
    elif found.others:
        errors.append(f"{what} leads to addresses that are not ours, too: {listed(found.others)}")


def problem(exc: DNSError) -> str:
    """A failed lookup in words."""
    return str(exc)


def is_loopback(ip: str) -> bool:
    """Whether an address is of this machine only."""
    return ipaddress.ip_address(ip).is_loopback
