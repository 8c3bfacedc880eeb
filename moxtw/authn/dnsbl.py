"""DNS block lists (RFC 5782): whether an address is listed, and whether a list can be believed.

A list that answers in a wrong way, because it has closed, changed owner, or refuses to answer
us, would block everybody. So each is tested with addresses that must and must not be listed
before it is believed, and answers that are no listings are not taken for such.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.defer import TimeoutError as WaitedTooLong

from moxtw import metrics
from moxtw.dns import resolver as dns
from moxtw.dns.resolver import DNSError, InvalidName, NotFound, Resolver
from moxtw.log import Logger
from moxtw.mail.domain import Domain

log = Logger("dnsbl")

TIMEOUT: Final = 30.0
"""Seconds for a lookup in one zone."""

EXPLANATION_TIMEOUT: Final = 5.0
"""Seconds for the text about a listing, which is only for people."""

HEALTH_TTL: Final = 4 * 3600.0
"""Seconds for which it is believed that a zone is healthy, or not."""

RETRY: Final = 300.0
"""Seconds until a zone is tested again whose test gave no result."""

MAX_EXPLANATION: Final = 500
"""Characters of an explanation; longer ones are cut."""

_LISTED: Final = ipaddress.IPv4Network("127.0.0.0/8")
# What large lists answer to those that they do not want to answer, such as public resolvers.
_REFUSED: Final = ipaddress.IPv4Network("127.255.255.0/24")

# RFC 5782 5: the second of each is listed, the first is not.
_TESTS: Final = {
    4: ("127.0.0.1", "127.0.0.2"),
    6: ("::ffff:7f00:1", "::ffff:7f00:2"),
}


@dataclass(frozen=True, slots=True)
class Lookup:
    """What a zone says of an address.

    status: ``pass``: not listed; ``fail``: listed; ``temperror``: not known.
    explanation: what the zone tells about a listing, on one line. It is a stranger's text.
    codes: addresses of the answer, whose meaning is the zone's affair.
    authentic: whether DNSSEC vouches for the listing or its absence.
    problem: of temperror.
    """

    zone: Domain
    status: str
    explanation: str = ""
    codes: tuple[str, ...] = ()
    authentic: bool = False
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Health:
    """Whether a zone can be used.

    healthy: whether it answers as it must, or could not be asked. known: whether it could be.
    problem: what is wrong.
    """

    healthy: bool
    known: bool = True
    problem: str = ""


def query_name(ip: str, zone: Domain) -> str:
    """The name that stands for an address in a zone, RFC 5782 2.1 and 2.4."""
    return f"{_query_labels(_address(ip))}.{zone.ascii}."


def _address(ip: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The address; an IPv4-mapped one is IPv4."""
    address = ipaddress.ip_address(ip.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return address if mapped is None else mapped


def _query_labels(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    return address.reverse_pointer.removesuffix(".in-addr.arpa").removesuffix(".ip6.arpa")


async def lookup(
    resolver: Resolver,
    zone: Domain,
    ip: str,
    *,
    clock: Any,
    explain: bool = True,
    timeout: float = TIMEOUT,
    cid: int = 0,
) -> Lookup:
    """Look up an address in a zone.

    clock: IReactorTime. explain: whether to fetch the text about a listing. Raises nothing:
    what goes wrong is a result.
    """
    return await _lookup(
        resolver, zone, _query_labels(_address(ip)), clock, explain, timeout, cid=cid, ip=ip
    )


async def _lookup(
    resolver: Resolver,
    zone: Domain,
    labels: str,
    clock: Any,
    explain: bool,
    timeout: float,
    **fields: Any,
) -> Lookup:
    resolver = dns.for_pkg(resolver, "dnsbl")
    started = clock.seconds()
    name = f"{labels}.{zone.ascii}."
    work = Deferred.fromCoroutine(_listed(resolver, zone, name))
    try:
        result: Lookup = await work.addTimeout(timeout, clock)
        if result.status == "fail" and explain:
            result = await _explained(resolver, result, name, clock)
    except WaitedTooLong:
        problem = f"no result within {timeout:g} seconds"
        result = Lookup(zone, "temperror", problem=problem)
    except Exception as exc:  # noqa: BLE001 - mail must not depend on this
        log.failure("dnsbl lookup", exc, zone=zone.name, **fields)
        result = Lookup(zone, "temperror", problem="internal error")
    duration = clock.seconds() - started
    metrics.dnsbl_lookup_duration_seconds.labels(zone.name, result.status).observe(duration)
    log.debug(
        "dnsbl lookup",
        zone=zone.name,
        status=result.status,
        explanation=result.explanation,
        codes=" ".join(result.codes),
        problem=result.problem,
        duration=round(duration, 3),
        **fields,
    )
    return result


async def _listed(resolver: Resolver, zone: Domain, name: str) -> Lookup:
    try:
        # RFC 5782 2.1: type A, for IPv6 as well.
        answer = await resolver.lookup(name, "A")
    except InvalidName as exc:
        return Lookup(zone, "temperror", problem=str(exc))
    except NotFound as exc:
        return Lookup(zone, "pass", authentic=exc.authentic)
    except DNSError as exc:
        return Lookup(zone, "temperror", problem=str(exc))
    codes = tuple(answer.records[:16])
    addresses = [ipaddress.IPv4Address(code) for code in codes]
    if any(address in _REFUSED for address in addresses):
        return Lookup(zone, "temperror", codes=codes, problem=f"zone refuses to answer: {codes[0]}")
    if not any(address in _LISTED for address in addresses):
        problem = f"answer {codes[0]} is no code of a block list"
        return Lookup(zone, "temperror", codes=codes, problem=problem)
    return Lookup(zone, "fail", codes=codes, authentic=answer.authentic)


async def _explained(resolver: Resolver, result: Lookup, name: str, clock: Any) -> Lookup:
    """The same with its explanation, RFC 5782 2.1."""
    try:
        work = Deferred.fromCoroutine(dns.txt(resolver, name))
        texts = await work.addTimeout(EXPLANATION_TIMEOUT, clock)
    except (DNSError, WaitedTooLong) as exc:
        log.debug("no explanation of dnsbl listing", zone=result.zone.name, err=exc)
        return result
    text = "; ".join(text[:MAX_EXPLANATION] for text in texts.records[:8])[:MAX_EXPLANATION]
    text = "".join(c if c.isprintable() else "?" for c in text)
    return Lookup(result.zone, result.status, text, result.codes, result.authentic)


async def check_health(
    resolver: Resolver, zone: Domain, *, family: int = 4, clock: Any, timeout: float = TIMEOUT
) -> Health:
    """Test a zone, for addresses of family 4 or 6, with what it must and must not list.

    RFC 5782 5. Raises nothing: what goes wrong is a result.
    """
    lookups = [
        Deferred.fromCoroutine(
            _lookup(
                resolver,
                zone,
                # IPv4-mapped addresses, but as the IPv6 addresses that they are here.
                _query_labels(ipaddress.ip_address(ip)),
                clock,
                explain=False,
                timeout=timeout,
                ip=ip,
            )
        )
        for ip in _TESTS[family]
    ]
    absent, present = [await work for work in lookups]
    first, second = _TESTS[family]
    if absent.status == "fail":
        health = Health(False, problem=f"zone lists {first}, which must not be listed")
    elif present.status == "pass":
        health = Health(False, problem=f"zone does not list {second}, which must be listed")
    elif wrong := [found.problem for found in (absent, present) if found.problem and found.codes]:
        health = Health(False, problem=wrong[0])  # No (longer a) block list, or not for us.
    elif problem := absent.problem or present.problem:
        health = Health(True, known=False, problem=problem)
    else:
        health = Health(True)
    if health.problem:
        log.info(
            "dnsbl test",
            zone=zone.name,
            family=family,
            healthy=health.healthy,
            problem=health.problem,
        )
    return health


class BlockLists:
    """Looks up addresses in zones that are healthy, and remembers which are."""

    def __init__(self, resolver: Resolver, clock: Any) -> None:
        self._resolver = resolver
        self._clock = clock
        self._known: dict[tuple[str, int], tuple[float, Health]] = {}
        self._waiting: dict[tuple[str, int], list[Deferred[Health]]] = {}

    async def health(self, zone: Domain, family: int = 4) -> Health:
        """Whether a zone can be used, tested now or within the last 4 hours.

        There is one test at a time, which goes on when those who asked have gone.
        """
        key = (zone.ascii, family)
        known = self._known.get(key)
        if known is not None and known[0] > self._clock.seconds():
            return known[1]
        waiter: Deferred[Health] = Deferred()
        if key in self._waiting:
            self._waiting[key].append(waiter)
        else:
            self._waiting[key] = [waiter]
            Deferred.fromCoroutine(self._test(zone, family))
        return await waiter

    async def _test(self, zone: Domain, family: int) -> None:
        try:
            health = await check_health(self._resolver, zone, family=family, clock=self._clock)
        except Exception as exc:  # noqa: BLE001 - or all would wait forever
            log.failure("dnsbl test", exc, zone=zone.name)
            health = Health(True, known=False, problem="internal error")
        key = (zone.ascii, family)
        ttl = HEALTH_TTL if health.known else RETRY
        self._known[key] = (self._clock.seconds() + ttl, health)
        for waiter in self._waiting.pop(key):
            if not waiter.called:  # as when it was cancelled
                waiter.callback(health)

    async def check(self, zones: Iterable[Domain], ip: str, *, cid: int = 0) -> tuple[Lookup, ...]:
        """What the healthy ones among zones say of an address, in the order of the zones.

        All are asked at once. A zone that cannot be used is left out.
        """
        family = _address(ip).version
        works = [Deferred.fromCoroutine(self._check(zone, family, ip, cid)) for zone in zones]
        results = await DeferredList(works, fireOnOneErrback=True, consumeErrors=True)
        return tuple(result for _, result in results if result is not None)

    async def _check(self, zone: Domain, family: int, ip: str, cid: int) -> Lookup | None:
        health = await self.health(zone, family)
        if not health.healthy:
            return None
        return await lookup(self._resolver, zone, ip, clock=self._clock, cid=cid)
