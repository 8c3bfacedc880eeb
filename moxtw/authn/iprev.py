"""iprev (RFC 8601 3): whether the name of a client's address leads back to the address."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Any, Final

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.defer import TimeoutError as WaitedTooLong

from moxtw import metrics
from moxtw.dns import resolver as dns
from moxtw.dns.resolver import DNSError, NotFound, Resolver
from moxtw.log import Logger

log = Logger("iprev")

TIMEOUT: Final = 20.0
"""Seconds for all lookups."""

MAX_NAMES: Final = 10
"""Names that are confirmed, of those that an address has."""

# What a host can be called. Other names would be written into header fields too.
_NAME: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?")


@dataclass(frozen=True, slots=True)
class IPRevResult:
    """What came out.

    status: ``pass``; ``fail``: none of the names leads back; ``permerror``: there is no name;
        ``temperror``: not known for now.
    name: the confirmed one, in ASCII without final dot, or empty.
    names: up to 10 that the address has, confirmed or not.
    authentic: whether DNSSEC vouches for the answers that led to this.
    problem: why it is not ``pass``.
    """

    status: str
    name: str = ""
    names: tuple[str, ...] = ()
    authentic: bool = False
    problem: str = ""


async def check(
    resolver: Resolver, ip: str, *, clock: Any, timeout: float = TIMEOUT, cid: int = 0
) -> IPRevResult:
    """Look up the names of an address, and the addresses of those names.

    clock: IReactorTime. Raises nothing: what goes wrong is a result.
    """
    started = clock.seconds()
    work = Deferred.fromCoroutine(_check(dns.for_pkg(resolver, "iprev"), ip))
    try:
        result: IPRevResult = await work.addTimeout(timeout, clock)
    except WaitedTooLong:
        result = IPRevResult("temperror", problem=f"no result within {timeout:g} seconds")
    except Exception as exc:  # noqa: BLE001 - mail must not depend on this
        log.failure("iprev check", exc, cid=cid)
        result = IPRevResult("temperror", problem="internal error")
    metrics.iprev_lookup_total.labels(result.status).inc()
    log.debug(
        "iprev check",
        cid=cid,
        ip=ip,
        status=result.status,
        name=result.name,
        dnssec=result.authentic,
        problem=result.problem,
        duration=round(clock.seconds() - started, 3),
    )
    return result


async def _check(resolver: Resolver, ip: str) -> IPRevResult:
    address = ipaddress.ip_address(ip.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    wanted = str(address)
    try:
        reverse = await dns.ptr(resolver, wanted)
    except NotFound as exc:
        return IPRevResult("permerror", authentic=exc.authentic, problem="address has no name")
    except DNSError as exc:
        return IPRevResult("temperror", problem=str(exc))
    names = [name for name in reverse.records[:MAX_NAMES] if _NAME.fullmatch(name[:-1])]
    if not names:
        return IPRevResult(
            "fail", authentic=reverse.authentic, problem="address has no valid name"
        )
    shown = tuple(name[:-1] for name in names)
    rtype = "A" if address.version == 4 else "AAAA"
    works = [
        Deferred.fromCoroutine(_confirm(resolver, name, rtype, wanted)) for name in names
    ]
    # One name is enough: a slow name server of another one holds up nothing.
    gathered: Any = await DeferredList(works, fireOnOneCallback=True, consumeErrors=True)
    if isinstance(gathered, tuple):
        found, index = gathered
        for work in works:
            work.cancel()
        return IPRevResult("pass", shown[index], shown, reverse.authentic and found)
    authentic = reverse.authentic
    failed: DNSError | None = None
    for _, failure in gathered:
        if isinstance(failure.value, _Unconfirmed):
            authentic = authentic and failure.value.authentic
        elif isinstance(failure.value, DNSError):
            failed = failed or failure.value
        else:
            failure.raiseException()
    if failed is not None:
        return IPRevResult("temperror", names=shown, problem=str(failed))
    return IPRevResult("fail", "", shown, authentic, "no name of the address leads back to it")


class _Unconfirmed(Exception):
    """A name does not lead to the address."""

    def __init__(self, authentic: bool) -> None:
        super().__init__()
        self.authentic = authentic


async def _confirm(resolver: Resolver, name: str, rtype: str, wanted: str) -> bool:
    """Check that a name has an address, and return whether DNSSEC vouches for it."""
    try:
        answer = await resolver.lookup(name, rtype)
    except NotFound as exc:
        raise _Unconfirmed(exc.authentic) from exc
    if wanted not in answer.records:
        raise _Unconfirmed(answer.authentic)
    return answer.authentic
