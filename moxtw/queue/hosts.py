"""Where mail for a domain goes: CNAME, MX, A and AAAA lookups (RFC 5321 5.1)."""

from __future__ import annotations

from collections.abc import Awaitable, Coroutine, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Final, TypeVar

from twisted.internet.defer import Deferred, TimeoutError

from moxtw.dns.resolver import (
    MAX_CNAMES_HOST,
    DNSError,
    NotFound,
    Resolver,
    follow_cnames,
    ips,
    mx,
)
from moxtw.mail.domain import DomainError, parse_domain
from moxtw.queue.delivery import DeliveryError, Trouble

T = TypeVar("T")

LOOKUP_TIMEOUT: Final = 30
"""Seconds that a lookup may take."""

MAX_HOSTS: Final = 50
"""Hosts of a domain that are looked at."""


@dataclass(frozen=True, slots=True)
class Destination:
    """The hosts that take mail for a domain, those to be tried first in front.

    name: the recipient domain; expanded: what its CNAMEs lead to. authentic: DNSSEC vouches
    for the answers about the name itself, expanded_authentic: for all of them. has_mx: the
    hosts come from MX records.
    """

    name: str
    expanded: str
    hosts: tuple[str, ...]
    has_mx: bool
    authentic: bool
    expanded_authentic: bool


@dataclass(frozen=True, slots=True)
class Addresses:
    """The addresses of a host, in the order in which to try them.

    expanded: what the host's CNAMEs lead to. dual_stack: there are some of both families.
    authentic: DNSSEC vouches for the addresses, or where the host is an alias for that;
    expanded_authentic: for all answers.
    """

    host: str
    expanded: str
    ips: tuple[str, ...]
    dual_stack: bool
    authentic: bool
    expanded_authentic: bool


class HostFinder:
    """Looks up hosts and addresses. `clock` is an IReactorTime."""

    def __init__(
        self, resolver: Resolver, clock: Any, random: Random, *, pedantic: bool = False
    ) -> None:
        self._resolver = resolver
        self._clock = clock
        self._random = random
        self._pedantic = pedantic

    async def destination(self, domain: str) -> Destination:
        """The hosts for a domain (ASCII, without final dot). Raises DeliveryError."""
        chain = await self._look_up(follow_cnames(self._resolver, domain), domain)
        expanded = chain.name.removesuffix(".")
        try:
            answer = await self._look_up(mx(self._resolver, chain.name), domain)
        except _NoRecords as exc:
            # RFC 5321 5.1: then the name itself is the host.
            return Destination(
                domain,
                expanded,
                (expanded,),
                False,
                chain.first_authentic and exc.authentic,
                chain.authentic and exc.authentic,
            )
        if len(answer) == 1 and answer[0].host == ".":
            # RFC 7505 3.
            raise DeliveryError(
                Trouble.LOCAL, f"{domain} accepts no mail (null MX)", permanent=True, secode="1.10"
            )
        by_preference: dict[int, list[str]] = {}
        for record in answer:
            host = self._host(record.host.removesuffix("."))
            if host is None:
                continue
            by_preference.setdefault(record.preference, []).append(host)
        hosts: list[str] = []
        for preference in sorted(by_preference):
            equal = by_preference[preference]
            self._random.shuffle(equal)
            hosts += equal
        if not hosts:
            raise DeliveryError(
                Trouble.LOCAL, f"{domain} has no valid MX record", secode="4.4"
            )
        return Destination(
            domain,
            expanded,
            tuple(dict.fromkeys(hosts))[:MAX_HOSTS],
            True,
            chain.first_authentic and answer.authentic,
            chain.authentic and answer.authentic,
        )

    def _host(self, name: str) -> str | None:
        """A valid host name, or None."""
        if name.rpartition(".")[2].isdigit():  # An address; no top-level domain is a number.
            return None
        try:
            return parse_domain(name, strict=self._pedantic).ascii
        except DomainError:
            return None

    async def addresses(
        self, host: str, dialed: Sequence[str], families: tuple[int, ...] = (4, 6)
    ) -> Addresses:
        """The addresses of a host. Raises DeliveryError.

        dialed: addresses of it that were connected to before, the latest last.
        """
        chain = await self._look_up(
            follow_cnames(self._resolver, host, MAX_CNAMES_HOST), host
        )
        try:
            answer = await self._look_up(ips(self._resolver, chain.name, families), host)
        except _NoRecords as exc:
            raise DeliveryError(
                Trouble.LOCAL, f"{host} has no addresses", secode="4.4", remote_mta=host
            ) from exc
        return Addresses(
            host,
            chain.name.removesuffix("."),
            rotate(answer.records, dialed),
            len({":" in ip for ip in answer.records}) == 2,
            # RFC 7672 2.2.2: of an alias, what it leads to need not be authentic.
            chain.first_authentic and (len(chain.names) > 1 or answer.authentic),
            chain.authentic and answer.authentic,
        )

    async def _look_up(self, lookup: Coroutine[Any, Any, T] | Awaitable[T], name: str) -> T:
        deferred: Deferred[T] = Deferred.fromCoroutine(lookup)  # type: ignore[arg-type]
        deferred.addTimeout(LOOKUP_TIMEOUT, self._clock)
        try:
            return await deferred
        except NotFound as exc:
            raise _NoRecords(exc.authentic) from exc
        except (DNSError, TimeoutError) as exc:
            raise DeliveryError(
                Trouble.LOCAL, f"looking up {name}: {exc}", secode="4.3", remote_mta=""
            ) from exc


class _NoRecords(Exception):
    def __init__(self, authentic: bool) -> None:
        super().__init__("no records")
        self.authentic = authentic


def rotate(addresses: Sequence[str], dialed: Sequence[str]) -> tuple[str, ...]:
    """The order in which to try addresses, seen what was `dialed` before (the latest last).

    The family that was not tried last comes first. A second try in a family goes to the same
    address as the first: that is what helps with greylisting.
    """
    if not dialed:
        return tuple(addresses)
    last = dialed[-1]
    six = ":" in last
    same = [ip for ip in addresses if (":" in ip) == six]
    other = [ip for ip in addresses if (":" in ip) != six]
    if last in same and sum((":" in ip) == six for ip in dialed) == 1:
        same.remove(last)
        same.insert(0, last)
    return (*other, *same)
