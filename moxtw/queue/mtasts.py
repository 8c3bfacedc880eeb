"""MTA-STS policies for deliveries: from those kept, or from their domains (RFC 8461 5).

A policy that is kept holds until its end, whatever happens to the record or the server: who can
cut off those must not be able to make deliveries less safe.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import LoopingCall, deferLater

from moxtw import metrics
from moxtw.dns.resolver import DNSError
from moxtw.log import Logger
from moxtw.store import mtastsdb
from moxtw.store.db import Store
from moxtw.store.errors import StoreClosed
from moxtw.tlspolicy.mtasts import Policy, Record, RecordError
from moxtw.tlspolicy.mtastsfetch import FetchError, NoPolicy

log = Logger("mtastsdb")

# Seconds for the checks of a policy that is kept: without them there is one to go by.
_CHECK_TIMEOUT: Final = 30.0
# And for a domain of which nothing is known.
_FIRST_TIMEOUT: Final = 60.0

REFRESH: Final = 24 * 3600
"""Seconds between rounds of refreshing."""

UNUSED: Final = 180 * 24 * 3600
"""Seconds after its last use that a policy is kept."""

STALE: Final = 12 * 3600
"""Seconds after which a policy is refreshed."""

SPREAD: Final = 3 * 3600
"""Seconds over which a round of refreshing is spread at most."""

_MAX_PAUSE: Final = 60.0
_MAX_ROUND: Final = 10_000


class Source(Protocol):
    """Where policies come from, as `moxtw.tlspolicy.mtastsfetch.Fetcher`."""

    async def record(self, domain: str, timeout: float = ...) -> Record:
        """The record of a domain. Raises RecordError, DNSError."""
        ...

    async def policy(self, domain: str, timeout: float = ...) -> tuple[Policy, str]:
        """The policy of a domain and its text. Raises FetchError."""
        ...


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a domain: its policy, None if it has none that can be had.

    text: the policy's text. problem: a result type for TLS reports (RFC 8460 4.3) where
    something failed, with cached: though the policy of before is still there. detail: more.
    """

    policy: Policy | None
    text: str = ""
    problem: str = ""
    detail: str = ""
    cached: bool = False


class PolicyCache:
    """Gives the policies of domains."""

    def __init__(self, store: Store, source: Source, now: Callable[[], float]) -> None:
        self._store = store
        self._source = source
        self._now = now
        # Lookups under way: several deliveries to a domain at once ask but once.
        self._asking: dict[str, list[Deferred[Known]]] = {}

    async def get(self, domain: str) -> Known:
        """What is known of a domain (ASCII).

        Raises DNSError when it cannot be found out whether there is a policy.
        """
        waiting = self._asking.get(domain)
        if waiting is not None:
            own: Deferred[Known] = Deferred(lambda deferred: _forget(waiting, deferred))
            waiting.append(own)
            return await own
        self._asking[domain] = []
        try:
            known = await self._get(domain)
        except BaseException as exc:
            for deferred in self._asking.pop(domain):
                # Others that wait are not stopped with this one.
                stopped = isinstance(exc, CancelledError | GeneratorExit)
                deferred.errback(
                    DNSError(domain, "TXT", "lookup was stopped") if stopped else exc
                )
            raise
        for deferred in self._asking.pop(domain):
            deferred.callback(known)
        return known

    async def _get(self, domain: str) -> Known:
        kept = await self._store.read(lambda tx: mtastsdb.get(tx, domain))
        if kept is None or kept.valid_end <= self._now() * 1_000_000:
            metrics.mtastsdb_get_total.labels("notfound").inc()
            return await self._first(domain)
        if kept.backoff or kept.policy is None:
            metrics.mtastsdb_get_total.labels("backoff").inc()
            return Known(None)
        metrics.mtastsdb_get_total.labels("ok").inc()
        await self._store.write(lambda tx: mtastsdb.used(tx, domain))
        return await self._check(kept, kept.policy)

    async def _first(self, domain: str) -> Known:
        """For a domain of which nothing is known, or nothing that still holds."""
        try:
            record = await self._source.record(domain, _FIRST_TIMEOUT)
        except RecordError:
            return Known(None)
        except DNSError:
            metrics.mtastsdb_get_total.labels("error").inc()
            raise
        try:
            policy, text = await self._source.policy(domain, _FIRST_TIMEOUT)
        except FetchError as exc:
            log.info("no mta-sts policy", domain=domain, err=exc)
            await self._store.write(lambda tx: mtastsdb.back_off(tx, domain, record.id))
            return Known(None, problem=exc.kind, detail=str(exc))
        await self._store.write(lambda tx: mtastsdb.keep(tx, domain, record.id, policy, text))
        return Known(policy, text)

    async def _check(self, kept: mtastsdb.PolicyRecord, policy: Policy) -> Known:
        """See whether there is a newer policy than the one kept."""
        domain = kept.domain
        try:
            record = await self._source.record(domain, _CHECK_TIMEOUT)
        except (RecordError, DNSError) as exc:
            log.debug("mta-sts record", domain=domain, err=exc)
            return Known(policy, kept.policy_text)
        if record.id == kept.record_id:
            return Known(policy, kept.policy_text)
        try:
            newer, text = await self._source.policy(domain, _CHECK_TIMEOUT)
        except FetchError as exc:
            log.info("newer mta-sts policy, going on with the older", domain=domain, err=exc)
            return Known(policy, kept.policy_text, exc.kind, str(exc), cached=True)
        await self._store.write(lambda tx: mtastsdb.keep(tx, domain, record.id, newer, text))
        return Known(newer, text)

    # -- Refreshing --------------------------------------------------------------------

    async def refresh(self, kept: mtastsdb.PolicyRecord) -> None:
        """Look at one policy anew, so that it holds on while its domain says so."""
        domain, policy = kept.domain, kept.policy
        record: Record | None = None
        try:
            record = await self._source.record(domain, _CHECK_TIMEOUT)
        except RecordError as exc:
            if policy is not None and policy.mode == "none":
                # RFC 8461 8.3: that is how a domain ends having policies.
                await self._store.write(lambda tx: mtastsdb.remove(tx, domain))
                return
            log.info("mta-sts record is gone", domain=domain, err=exc)
        except DNSError as exc:
            log.info("mta-sts record", domain=domain, err=exc)
        if record is not None and policy is not None and record.id == kept.record_id:
            known = policy
            await self._store.write(lambda tx: mtastsdb.renew(tx, domain, kept.record_id, known))
            return
        try:
            newer, text = await self._source.policy(domain, _FIRST_TIMEOUT)
        except NoPolicy as exc:
            log.info("mta-sts policy is gone, the last one holds on", domain=domain, err=exc)
            return
        except FetchError as exc:
            log.info("mta-sts policy", domain=domain, err=exc)
            return
        new_id = kept.record_id if record is None else record.id
        await self._store.write(lambda tx: mtastsdb.keep(tx, domain, new_id, newer, text))


def _forget(waiting: list[Deferred[Known]], deferred: Deferred[Known]) -> None:
    if deferred in waiting:
        waiting.remove(deferred)


class Refresher(Service):
    """Refreshes the policies that are kept, each day, spread so that nobody is rushed at.

    clock: an IReactorTime. random: a random.Random.
    """

    name = "mtasts"

    def __init__(self, store: Store, cache: PolicyCache, clock: Any, random: Any) -> None:
        self._store = store
        self._cache = cache
        self._clock = clock
        self._random = random
        self._loop = LoopingCall(self._round)
        self._under_way: Deferred[None] | None = None

    def startService(self) -> None:  # noqa: N802 - Twisted's name
        """Begin with a round now."""
        super().startService()  # type: ignore[no-untyped-call]
        self._loop = LoopingCall(self._round)
        self._loop.clock = self._clock
        self._loop.start(REFRESH, now=True).addErrback(
            lambda failure: log.failure("refreshing policies", failure, unforeseen=True)
        )

    def stopService(self) -> Deferred[Any]:  # noqa: N802 - Twisted's name
        """Stop where it is."""
        super().stopService()  # type: ignore[no-untyped-call]
        if self._loop.running:
            self._loop.stop()
        if self._under_way is not None:
            self._under_way.cancel()
        return succeed(None)

    def _round(self) -> Deferred[None]:
        self._under_way = Deferred.fromCoroutine(self._refresh())

        def ended(result: Any) -> None:
            self._under_way = None
            if result is None:
                return
            if not result.check(CancelledError, StoreClosed):
                log.failure("refreshing policies", result)

        return self._under_way.addBoth(ended)

    async def _refresh(self) -> None:
        now = int(self._clock.seconds() * 1_000_000)
        await self._store.write(
            lambda tx: mtastsdb.remove_unused(tx, now - UNUSED * 1_000_000)
        )
        stale = await self._store.read(
            lambda tx: mtastsdb.stale(tx, now - STALE * 1_000_000, _MAX_ROUND)
        )
        self._random.shuffle(stale)
        for kept in stale:
            pause = min(_MAX_PAUSE, SPREAD / len(stale)) * self._random.uniform(0.5, 1.5)
            await deferLater(self._clock, pause)
            await self._cache.refresh(kept)
