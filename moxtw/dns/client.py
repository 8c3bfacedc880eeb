"""The stub resolver: asks recursive resolvers, with cache, retries and DNSSEC status.

Validation is left to a resolver that does it; its AD bit is believed only from servers on
this machine and from those that the operator named, for anybody on the path to another one
could set it (RFC 6840 5.8, RFC 4033 7).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import (
    CancelledError,
    Deferred,
    DeferredList,
    DeferredSemaphore,
)
from twisted.internet.defer import (
    TimeoutError as WaitedTooLong,
)
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThreadPool

from moxtw import metrics
from moxtw.dns import resolvconf, wire
from moxtw.dns.cache import Cache, Key
from moxtw.dns.resolvconf import ResolvConf, Server
from moxtw.dns.resolver import (
    Answer,
    BadAnswer,
    CNAMEError,
    DNSError,
    NotFound,
    ServFail,
    TemporaryError,
    Timeout,
    absolute,
    special,
)
from moxtw.dns.transport import ExchangeError, Forged, Transport, TwistedTransport
from moxtw.log import Logger

log = Logger("dns")

TOTAL_TIMEOUT = 30.0
# Questions being asked at a time, each with a socket; more wait.
MAX_QUERIES = 256
# How long a server that did not answer is asked only after the others.
DEMOTED = 30.0
RELOAD_INTERVAL = 60.0
_MAX_CHAIN = 8

Outcome = Answer[Any] | DNSError


class StubResolver(Service):
    """A ``Resolver`` that asks real servers.

    reactor
        For sockets and time.
    resolvers
        Addresses of servers as configured (``ip``, ``ip:port``, ``[ip6]:port``), whose word
        on DNSSEC counts. None: the servers of /etc/resolv.conf, which is read again from
        time to time while the service runs. Raises ValueError for a bad one.
    path
        The resolv.conf to read.
    transport, cache, total
        For tests, and other bounds.

    It also works without being started as a service, as for a command.
    """

    def __init__(
        self,
        reactor: Any,
        resolvers: Iterable[str] | None = None,
        *,
        path: str = resolvconf.PATH,
        transport: Transport | None = None,
        cache: Cache | None = None,
        total: float = TOTAL_TIMEOUT,
    ) -> None:
        self._reactor = reactor
        self._path = path
        self._watch = True
        self.conf: ResolvConf
        named = list(resolvers or ())
        if named:
            self.conf = resolvconf.configured(named)
            self._watch = False
        else:
            self.conf = resolvconf.read(path)
        self._transport = transport if transport is not None else TwistedTransport(reactor)
        self._total = total
        self.cache = cache if cache is not None else Cache()
        self._flights: dict[Key, _Flight] = {}
        self._slots = DeferredSemaphore(MAX_QUERIES)
        self._demoted: dict[Server, float] = {}
        self._plain: set[Server] = set()
        self._random = random.SystemRandom()
        self._reload: LoopingCall | None = None
        self._default_view = View(self, "dns")

    # Service

    def startService(self) -> None:  # noqa: N802
        """Begin to watch resolv.conf."""
        super().startService()  # type: ignore[no-untyped-call]
        if self._watch:
            self._reload = LoopingCall(self._read_conf)
            self._reload.clock = self._reactor
            self._reload.start(RELOAD_INTERVAL, now=False)

    def stopService(self) -> Deferred[Any] | None:  # noqa: N802
        """Give up lookups under way, and wait for sockets to close."""
        super().stopService()  # type: ignore[no-untyped-call]
        if self._reload is not None:
            self._reload.stop()
            self._reload = None
        for flight in list(self._flights.values()):
            flight.cancel()
        closing = getattr(self._transport, "closing", ())
        return DeferredList(list(closing)) if closing else None

    async def _read_conf(self) -> None:
        try:
            conf = await deferToThreadPool(
                self._reactor, self._reactor.getThreadPool(), resolvconf.read, self._path
            )
        except Exception as exc:  # noqa: BLE001 - or the LoopingCall would end
            log.failure("reading resolv.conf", exc)
            return
        if conf != self.conf:
            log.info("dns servers changed", servers=", ".join(s.ip for s in conf.servers))
            self.use(conf)

    def use(self, conf: ResolvConf) -> None:
        """Ask other servers from now on."""
        self.conf = conf
        self.cache.clear()
        self._demoted.clear()
        self._plain.clear()

    # Lookups

    async def lookup(self, name: str, rtype: str) -> Answer[Any]:
        """Look up records; see ``moxtw.dns.resolver.Resolver``."""
        return await self._default_view.lookup(name, rtype)

    def for_pkg(self, pkg: str) -> View:
        """The same resolver, with its lookups counted for ``pkg``."""
        return View(self, pkg)

    def fresh(self) -> View:
        """The same resolver, asking anew what the cache knows, as for checks by an admin."""
        return View(self, "dns", fresh=True)

    def find(self, name: str, rtype: str, fresh: bool) -> Outcome | Deferred[Outcome]:
        """Outcome of a lookup, at once if it is known. DNSErrors are returned, not raised.

        Equal lookups at the same time share one query.
        """
        name = absolute(name, rtype)
        known: Outcome | None = special(name, rtype)
        key = (name, rtype)
        if known is None and not fresh:
            known = self.cache.get(key, self._reactor.seconds())
        if known is not None:
            return known
        flight = self._flights.get(key)
        if flight is None:
            wire.rtype_number(rtype)  # ValueError here, and not in the flight
            flight = self._flights[key] = _Flight()
            flight.start(self._resolve(name, rtype), lambda: self._landed(key, flight))
        return flight.join()

    def _landed(self, key: Key, flight: _Flight) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]

    async def _resolve(self, name: str, rtype: str) -> Outcome:
        """Outcome of a lookup, from servers, within the total time."""
        work = Deferred.fromCoroutine(self._follow(name, rtype))
        work.addTimeout(self._total, self._reactor)
        try:
            outcome = await work
        except WaitedTooLong:
            return Timeout(name, rtype)
        except CancelledError:
            return ServFail(name, rtype, "dns lookup given up")
        except Exception as exc:  # noqa: BLE001
            log.failure("dns lookup", exc, name=name, type=rtype)
            return ServFail(name, rtype, "internal error")
        if isinstance(outcome, Answer | NotFound):
            self.cache.put((name, rtype), outcome, self._reactor.seconds())
        return outcome

    async def _follow(self, name: str, rtype: str) -> Outcome:
        """Ask, and ask on where a server gives only the alias and not what is behind it."""
        asked = name
        authentic, ttl = True, 0x7FFFFFFF
        for _ in range(_MAX_CHAIN):
            outcome, target = await self._ask(asked, rtype)
            if isinstance(outcome, Answer):
                authentic = authentic and outcome.authentic
                ttl = min(ttl, outcome.ttl)
                if target is None:
                    return Answer(outcome.records, authentic, ttl)
                asked = target
                continue
            if asked != name and isinstance(outcome, NotFound):
                authentic = authentic and outcome.authentic
                ttl = min(ttl, outcome.ttl)
                return type(outcome)(name, rtype, authentic=authentic, ttl=ttl)
            return outcome
        return CNAMEError(name, rtype)

    async def _ask(self, name: str, rtype: str) -> tuple[Outcome, str | None]:
        """Ask servers in turn until one knows."""
        conf = self.conf
        now = self._reactor.seconds()
        waiting = sorted(conf.servers, key=lambda s: self._demoted.get(s, 0.0) > now)
        error: TemporaryError = Timeout(name, rtype)
        for _ in range(conf.attempts):
            for server in list(waiting):
                outcome, target = await self._ask_server(server, name, rtype, conf.timeout)
                if not isinstance(outcome, TemporaryError) or isinstance(outcome, CNAMEError):
                    self._demoted.pop(server, None)
                    return outcome, target
                if isinstance(outcome, Timeout):
                    self._demoted[server] = self._reactor.seconds() + DEMOTED
                    continue
                # It did answer: asking it the same again would not help. Its reason says
                # more than that others were silent; a reason with details most of all.
                waiting.remove(server)
                if isinstance(error, Timeout) or outcome.extended is not None:
                    error = outcome
            if not waiting:
                break
        return error, None

    async def _ask_server(
        self, server: Server, name: str, rtype: str, timeout: float
    ) -> tuple[Outcome, str | None]:
        """Ask one server: by UDP, then by TCP if need be, then without EDNS if need be."""
        edns = server not in self._plain
        for use_edns in (True, False) if edns else (False,):
            query = wire.make_query(self._random.getrandbits(16), name, rtype, edns=use_edns)
            try:
                data = await self._exchange(self._transport.udp, server, query, timeout)
                truncated = wire.is_truncated(data)
            except Forged:
                log.warn("forged dns answers, asking by tcp", server=server.ip, name=name)
                truncated = True
            except ExchangeError as exc:
                return ServFail(name, rtype, f"dns server {server.ip}: {exc}"), None
            except WaitedTooLong:
                return Timeout(name, rtype), None
            if truncated:
                try:
                    data = await self._exchange(self._transport.tcp, server, query, timeout)
                except ExchangeError as exc:
                    return ServFail(name, rtype, f"dns server {server.ip}: {exc}"), None
                except WaitedTooLong:
                    return Timeout(name, rtype), None
                if wire.is_truncated(data):
                    # Without its records, "no such records" is not to be believed.
                    return BadAnswer(name, rtype, "answer is incomplete even by tcp"), None
            try:
                result = wire.read_answer(
                    data, name, rtype, trusted=server.trusted, edns=use_edns
                )
            except wire.NoEDNS:
                continue
            if edns and not use_edns and not isinstance(result[0], TemporaryError):
                self._plain.add(server)
            return result
        return BadAnswer(name, rtype), None

    async def _exchange(
        self,
        ask: Callable[[Server, bytes], Deferred[bytes]],
        server: Server,
        query: bytes,
        timeout: float,
    ) -> bytes:
        await self._slots.acquire()
        try:
            return await ask(server, query).addTimeout(timeout, self._reactor)
        finally:
            self._slots.release()


class View:
    """A StubResolver as one package uses it: its name in metrics, with or without cache."""

    def __init__(self, stub: StubResolver, pkg: str, *, fresh: bool = False) -> None:
        self._stub = stub
        self._pkg = pkg
        self._fresh = fresh

    def for_pkg(self, pkg: str) -> View:
        """The same for another package."""
        return View(self._stub, pkg, fresh=self._fresh)

    async def lookup(self, name: str, rtype: str) -> Answer[Any]:
        """Look up records; see ``moxtw.dns.resolver.Resolver``."""
        rtype = rtype.upper()
        clock = self._stub._reactor
        started = clock.seconds()
        result = "error"
        try:
            found = self._stub.find(name, rtype, self._fresh)
            outcome = await found if isinstance(found, Deferred) else found
            if isinstance(outcome, Answer):
                result = "ok"
                return outcome
            raise outcome
        except NotFound:
            result = "nxdomain"
            raise
        except Timeout:
            result = "timeout"
            raise
        except TemporaryError:
            result = "temporary"
            raise
        except CancelledError:
            result = "canceled"
            raise
        finally:
            metrics.dns_lookup_duration_seconds.labels(self._pkg, rtype.lower(), result).observe(
                clock.seconds() - started
            )


class _Flight:
    """A query under way, and those who wait for it. It is given up when nobody does."""

    def __init__(self) -> None:
        self._work: Deferred[None] | None = None
        self._waiters: list[Deferred[Outcome]] = []
        self._outcome: Outcome | None = None

    def start(self, resolving: Coroutine[Any, Any, Outcome], landed: Callable[[], None]) -> None:
        """Begin. ``resolving`` returns an outcome, come what may; then ``landed`` is called."""
        self._work = Deferred.fromCoroutine(self._fly(resolving, landed))

    async def _fly(
        self, resolving: Coroutine[Any, Any, Outcome], landed: Callable[[], None]
    ) -> None:
        self._outcome = await resolving
        landed()
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.callback(_copy(self._outcome))

    def join(self) -> Deferred[Outcome]:
        """Wait for the outcome."""
        waiter: Deferred[Outcome] = Deferred(self._leave)
        if self._outcome is not None:
            waiter.callback(_copy(self._outcome))
        else:
            self._waiters.append(waiter)
        return waiter

    def _leave(self, waiter: Deferred[Outcome]) -> None:
        self._waiters.remove(waiter)
        if not self._waiters:
            self.cancel()

    def cancel(self) -> None:
        """Give up."""
        if self._work is not None:
            self._work.cancel()


def _copy(outcome: Outcome) -> Outcome:
    """The same outcome for another waiter: errors get a traceback each time they are raised."""
    if not isinstance(outcome, DNSError):
        return outcome
    copy = type(outcome).__new__(type(outcome))
    copy.__dict__.update(outcome.__dict__)
    copy.args = outcome.args
    return copy
