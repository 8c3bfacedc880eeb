"""Whether our own addresses are in DNS block lists: asked for by the admin, and watched.

Who is in a list that others use has mail refused, and does not hear of it otherwise.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, gatherResults, succeed
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from moxtw import metrics
from moxtw.admin import ownips
from moxtw.authn import dnsbl
from moxtw.log import Logger
from moxtw.net import interfaces

if TYPE_CHECKING:
    from moxtw.admin.context import AdminContext, Caller, Config
    from moxtw.config.dynamic import Dynamic
    from moxtw.config.static import Static
    from moxtw.dns.resolver import Resolver
    from moxtw.mail.domain import Domain

log = Logger("dnsbl")

CONNECTIONS: Final = 100
"""Outgoing connections after which lists are asked again."""
MOST_OFTEN: Final = 5 * 60.0
"""Seconds at least between two rounds, however many connections there are."""
AT_LEAST: Final = 3 * 3600.0
"""Seconds at most between two rounds."""
PAUSE: Final = 1.0
"""Seconds between two lookups of a round."""
UNKNOWN: Final = "unknown"
"""In place of an address in the metric if our addresses are not known."""


def used_zones(static: Static) -> tuple[Domain, ...]:
    """The lists that the public listener asks about clients."""
    listener = static.listeners.get("public")
    return () if listener is None else listener.smtp.dnsbl_zones


def watched_zones(static: Static, dynamic: Dynamic) -> tuple[Domain, ...]:
    """The lists to watch beside those that are used."""
    used = set(used_zones(static))
    return tuple(zone for zone in dynamic.monitor_dnsbl_zones if zone not in used)


def own_addresses(static: Static) -> list[str]:
    """Our addresses as others see them, none of private networks. Raises OSError."""
    found = [ipaddress.ip_address(ip) for ip in ownips.listen_ips(static)]
    return list(interfaces.by_kind(found).public)


async def status(
    ctx: AdminContext, caller: Caller
) -> tuple[dict[str, dict[str, str]], Sequence[Domain], Sequence[Domain]]:
    """What lists say of our addresses now: by address, by list; the lists used, and watched.

    It is "pass" for an address that is not in a list; or else "fail" or "temperror", a colon,
    and what is known of that.
    """
    assert ctx.resolver is not None
    resolver, static = ctx.resolver, ctx.config.static
    using = used_zones(static)
    watching = watched_zones(static, ctx.config.dynamic)
    zones = [*using, *watching]

    async def one(ip: str, zone: Domain) -> str:
        found = await dnsbl.lookup(resolver, zone, ip, clock=ctx.clock, cid=caller.cid)
        detail = found.problem or found.explanation
        return f"{found.status}: {detail}" if detail else found.status

    results: dict[str, dict[str, str]] = {}
    for ip in await ctx.store.run(own_addresses, static):
        said = await gatherResults(
            [Deferred.fromCoroutine(one(ip, zone)) for zone in zones], consumeErrors=True
        )
        results[ip] = {zone.name: text for zone, text in zip(zones, said, strict=True)}
    return results, using, watching


class Monitor(Service):
    """Keeps the metric of our addresses in block lists up to date.

    clock: an IReactorTime; run: runs what blocks in a thread, as `Store.run`.
    """

    name = "dnsbl"

    def __init__(self, config: Config, resolver: Resolver, clock: Any, run: Any) -> None:
        self._config = config
        self._resolver = resolver
        self._clock = clock
        self._run = run
        self._connections = 0
        self._next: Any = None
        self._round: Deferred[None] | None = None
        self._begun = 0.0
        self._known: set[tuple[str, str]] = set()

    def startService(self) -> None:  # noqa: N802 - Twisted's name
        """Begin with a round now."""
        super().startService()  # type: ignore[no-untyped-call]
        self._begin()

    def stopService(self) -> Deferred[Any]:  # noqa: N802 - Twisted's name
        """Stop where it is."""
        super().stopService()  # type: ignore[no-untyped-call]
        if self._next is not None:
            self._next.cancel()
            self._next = None
        if self._round is not None:
            self._round.cancel()
        return succeed(None)

    def connected(self) -> None:
        """An outgoing connection was made."""
        self._connections += 1
        if self._connections == CONNECTIONS and self._next is not None:
            self._next.cancel()
            self._schedule()

    def _schedule(self) -> None:
        interval = MOST_OFTEN if self._connections >= CONNECTIONS else AT_LEAST
        due = self._begun + interval - self._clock.seconds()
        self._next = self._clock.callLater(max(0.0, due), self._begin)

    def _begin(self) -> None:
        self._next = None
        self._connections = 0
        self._begun = self._clock.seconds()
        self._round = Deferred.fromCoroutine(self._check())
        self._round.addBoth(self._ended)

    def _ended(self, result: Any) -> None:
        self._round = None
        if isinstance(result, Failure) and not result.check(CancelledError):
            log.failure("watching block lists", result)
        if self.running:
            self._schedule()

    async def _check(self) -> None:
        static = self._config.static
        zones = [*used_zones(static), *watched_zones(static, self._config.dynamic)]
        if not zones:
            self._forget(set())
            return
        try:
            addresses = await self._run(own_addresses, static)
        except OSError as exc:
            log.error("our addresses", err=exc)
            addresses = []
        pairs = [(zone, ip) for ip in addresses or [UNKNOWN] for zone in zones]
        self._forget({(zone.name, ip) for zone, ip in pairs})
        for number, (zone, ip) in enumerate(pairs):
            if ip == UNKNOWN:
                self._set(zone, ip, -1)
                continue
            if number:
                await deferLater(self._clock, PAUSE)
            found = await dnsbl.lookup(self._resolver, zone, ip, clock=self._clock)
            if found.status != "pass":
                log.error(
                    "our address is in a block list" if found.status == "fail" else "block list",
                    zone=zone.name,
                    ip=ip,
                    status=found.status,
                    explanation=found.explanation,
                    problem=found.problem,
                )
            self._set(zone, ip, 1 if found.status == "pass" else 0)

    def _set(self, zone: Domain, ip: str, value: int) -> None:
        self._known.add((zone.name, ip))
        metrics.dnsbl_ips_success.labels(zone.name, ip).set(value)

    def _forget(self, kept: set[tuple[str, str]]) -> None:
        for gone in self._known - kept:
            metrics.dnsbl_ips_success.remove(*gone)
        self._known &= kept
