"""The queue at work: takes due messages, one recipient domain at a time, and delivers them."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from random import SystemRandom
from typing import Any, Final

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure

from moxtw import metrics
from moxtw.config.static import Transport, TransportSocks
from moxtw.dns.resolver import DNSError, Resolver, for_pkg, ips
from moxtw.log import Logger
from moxtw.queue import outcome
from moxtw.queue.attempt import Attempt, Source
from moxtw.queue.delivery import DeliveryError, SMTPDialer, Target, Trouble
from moxtw.queue.direct import DirectDelivery, Socks, local_addresses
from moxtw.queue.hosts import HostFinder
from moxtw.queue.routes import Config, transport_for
from moxtw.queue.schedule import SECOND, Schedule, backoff
from moxtw.queue.sessions import Closing, Pool, Sessions
from moxtw.queue.smarthost import FixedDelivery, asked_failure, failing, smarthost_target
from moxtw.queue.tlsreport import Recorder, TLSReport
from moxtw.queue.tlsrules import Opportunistic, TLSPolicy
from moxtw.store import queuedb, suppressions
from moxtw.store.db import Store
from moxtw.store.errors import StoreClosed
from moxtw.store.tx import Tx

log = Logger("queue")

MAX_GATHER: Final = 1000
"""Recipients that go out together."""

MAX_TURN: Final = 20
"""Messages to a domain in a row when other domains wait."""

IDLE: Final = 86400
"""Seconds until the next look when nothing is due."""

AFTER_ERROR: Final = 60
"""Seconds until the next look after an error of the database."""

STOP_GRACE: Final = 2.5
"""Seconds that attempts under way get when the service stops."""

RECOUNT: Final = 5
"""Seconds in which messages on hold are counted once, however many come."""

CLEANUP: Final = 3600
"""Seconds between removals of retired messages."""


@dataclass(slots=True)
class _Begun:
    """An attempt as the database knows it."""

    attempt: Attempt
    suppressed: dict[int, str]
    time: int


class _Turn:
    """A domain's turn: what can be stopped of it."""

    def __init__(self, sessions: Sessions) -> None:
        self.sessions = sessions
        self.deferred: Deferred[None] = Deferred()
        # Whatever is waited for while a message is delivered, and nothing else.
        self.delivering: Deferred[None] | None = None
        self.aborted = False

    def abort(self) -> None:
        """Stop delivering."""
        self.aborted = True
        self.sessions.abort()
        if self.delivering is not None:
            self.delivering.cancel()


class QueueService(Service):
    """Delivers queued messages.

    dialer: makes SMTP sessions. local: for a local test server, where all messages go.
    policy: how safe the way must be.
    """

    name = "queue"

    def __init__(
        self,
        store: Store,
        config: Config,
        resolver: Resolver,
        dialer: SMTPDialer,
        reactor: Any,
        *,
        local: Target | None = None,
        policy: TLSPolicy | None = None,
        random: Any = None,
        port: int = 25,
    ) -> None:
        self._store = store
        self._config = config
        self._resolver = for_pkg(resolver, "queue")
        self._dialer = dialer
        self._reactor = reactor
        self._local = local
        self._random = random or SystemRandom()
        static = config.static
        self._ehlo = static.dns_hostname.ascii
        self._direct = DirectDelivery(
            dialer,
            HostFinder(self._resolver, reactor, self._random, pedantic=static.pedantic),
            policy or Opportunistic(),
            self._ehlo,
            local_addresses(static),
            port=port,
            record=None if static.no_outgoing_tls_reports else self._record,
        )
        self._tls_results = Recorder(store, reactor)
        self._schedule = Schedule()
        self._closing = Closing()
        self._pool = Pool(self._closing, reactor)
        self._turns: dict[str, _Turn] = {}
        self._timer: Any = None
        self._recount: Any = None
        self._unsubscribe: Any = None
        self._reading = False
        # Domains named while the schedule is read anew; "" asks to read once more.
        self._named: set[str] = set()
        self._cleanup = LoopingCall(self._remove_expired)
        self._stopping = False

    # -- Life cycle --------------------------------------------------------------------

    def startService(self) -> None:
        """Begin: what was interrupted at the end of the last run is due again."""
        super().startService()  # type: ignore[no-untyped-call]
        self._stopping = False
        self._pool.start()
        self._unsubscribe = self._store.changes.on_queue(self._changed)
        # A new one: a run of the last one that is still under way would schedule this one too.
        self._cleanup = LoopingCall(self._remove_expired)
        self._cleanup.clock = self._reactor
        self._cleanup.start(CLEANUP, now=True).addErrback(self._failed, "cleanup")
        self._start(self._resume(), "starting")

    def stopService(self) -> Deferred[Any]:
        """Begin nothing more; give attempts under way a little time, then stop them."""
        super().stopService()  # type: ignore[no-untyped-call]
        self._stopping = True
        if self._unsubscribe is not None:
            self._unsubscribe()
        if self._cleanup.running:
            self._cleanup.stop()
        self._set_timer(None)
        if self._recount is not None:
            self._recount.cancel()
            self._recount = None
        self._pool.stop()
        waits: list[Deferred[Any]] = [turn.deferred for turn in self._turns.values()]
        done = DeferredList(waits) if waits else succeed(None)
        deadline = self._reactor.callLater(STOP_GRACE, self._abort)
        done.addCallback(lambda _: self._closing.wait())
        done.addCallback(lambda _: self._tls_results.flush())

        def stopped(result: object) -> None:
            if deadline.active():
                deadline.cancel()

        return done.addBoth(stopped)

    def _abort(self) -> None:
        for turn in list(self._turns.values()):
            turn.abort()
        self._closing.abort()

    def _record(self, attempt: Attempt, report: TLSReport) -> None:
        first = attempt.first
        # Reports about reports would never end.
        self._tls_results.record(
            report, send_report=not (first.is_tls_report or first.is_dmarc_report)
        )

    async def _resume(self) -> None:
        while await self._store.write(queuedb.resume):
            pass
        await self._read_schedule()

    def _start(self, coroutine: Any, what: str) -> None:
        Deferred.fromCoroutine(coroutine).addErrback(self._failed, what)

    def _failed(self, failure: Failure, what: str) -> None:
        if failure.check(StoreClosed):
            return
        log.failure(f"queue: {what}", failure, unforeseen=True)

    async def _remove_expired(self) -> None:
        try:
            while await self._store.write(queuedb.remove_expired):
                pass
            metrics.queue_hold.set(await self._store.read(queuedb.held))
        except StoreClosed:
            return
        except Exception as exc:  # noqa: BLE001 - tried again in an hour
            log.failure("removing retired messages", exc)

    # -- The schedule ------------------------------------------------------------------

    def kick(self) -> None:
        """Look at everything anew."""
        self._changed({""})

    def _changed(self, domains: set[str]) -> None:
        """Messages to these domains are due earlier than was known; "": who knows which."""
        if self._stopping:
            return
        if queuedb.HELD in domains:
            domains = domains - {queuedb.HELD}
            if self._recount is None:
                self._recount = self._reactor.callLater(RECOUNT, self._count_held)
        if self._reading:
            self._named |= domains
        elif "" in domains:
            self._start(self._read_schedule(), "reading the schedule")
        else:
            now = self._store.now()
            for domain in domains:
                self._schedule.earlier(domain, now)
            self._run()

    def _count_held(self) -> None:
        self._recount = None

        async def count() -> None:
            metrics.queue_hold.set(await self._store.read(queuedb.held))

        self._start(count(), "counting messages on hold")

    async def _read_schedule(self) -> None:
        """Learn from the database what is due when."""
        self._reading = True
        try:
            while True:
                self._named.clear()
                due, held = await self._store.read(
                    lambda tx: (dict(queuedb.domains(tx)), queuedb.held(tx))
                )
                metrics.queue_hold.set(held)
                self._schedule.replace(due)
                if "" not in self._named:
                    break
        except StoreClosed:
            return
        except Exception as exc:  # noqa: BLE001 - tried again
            log.failure("reading the schedule of the queue", exc)
            if not self._stopping:
                self._reactor.callLater(AFTER_ERROR, self.kick)
            return
        finally:
            self._reading = False
        now = self._store.now()
        for domain in self._named:
            self._schedule.earlier(domain, now)
        self._named.clear()
        self._run()

    def _run(self) -> None:
        """Begin turns of domains that are due, and set the timer for the next."""
        if self._stopping or not self.running:
            return
        now = self._store.now()
        while (domain := self._schedule.take(now)) is not None:
            turn = self._turns[domain] = _Turn(Sessions(self._closing, self._pool))
            self._start(self._turn(domain, turn), "delivering")
        due = self._schedule.next_time()
        wait = IDLE if due is None else min(IDLE, max(0.0, (due - now) / SECOND))
        # All places taken: the end of a turn is what matters.
        self._set_timer(wait if wait > 0 or due is None else None)

    def _set_timer(self, wait: float | None) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        if wait is not None:
            self._timer = self._reactor.callLater(wait, self._run)

    async def _turn(self, domain: str, turn: _Turn) -> None:
        """Deliver what is due for a domain."""
        due: int | None = None
        try:
            for number in range(1_000_000):
                begun, due = await self._store.write(lambda tx: self._begin(tx, domain))
                if begun is None:
                    break
                await self._deliver(begun, turn)
                if turn.aborted and not begun.attempt.keep_decided():
                    # What was not decided is found at the next start, and tried again then.
                    break
                due = await outcome.finish(
                    self._store, self._config, begun.attempt, began=begun.time
                )
                if self._stopping or due is None or due > self._store.now():
                    break
                if number + 1 >= MAX_TURN and self._others_wait():
                    # Those who wait come first, however long this domain's line is.
                    due = self._store.now()
                    break
        except StoreClosed:
            due = None
        except Exception as exc:  # noqa: BLE001 - the domain is tried again, others go on
            log.failure("delivering from queue", exc, domain=domain, unforeseen=True)
            due = self._store.now() + AFTER_ERROR * SECOND
        finally:
            turn.sessions.end()
            del self._turns[domain]
            self._schedule.done(domain, due)
            turn.deferred.callback(None)
            self._run()

    def _others_wait(self) -> bool:
        due = self._schedule.next_time()
        return due is not None and due <= self._store.now()

    # -- An attempt --------------------------------------------------------------------

    def _begin(self, tx: Tx, domain: str) -> tuple[_Begun | None, int | None]:
        """Begin an attempt, if a message to the domain is due; else when the next one is."""
        message = queuedb.first_due(tx, domain)
        if message is None:
            return None, queuedb.next_in_domain(tx, domain)
        found = [message, *queuedb.gather(tx, message, MAX_GATHER - 1)]
        wait = backoff(message.attempts, self._random)
        queuedb.begin(tx, found, tx.now + wait * SECOND)
        content_id, prefix, utf8 = queuedb.source(tx, message.id)
        suppressed = {}
        for each in found:
            entry = suppressions.suppression(tx, each.sender_account, each.recipient_base)
            if entry is not None:
                suppressed[each.id] = entry.reason
        source = Source(self._store, content_id, prefix, message.size, utf8)
        return _Begun(Attempt(found, source), suppressed, tx.now), None

    async def _deliver(self, begun: _Begun, turn: _Turn) -> None:
        """Deliver; whatever goes wrong is noted in the attempt."""
        attempt = begun.attempt
        log.debug(
            "delivery attempt",
            msgids=",".join(str(message.id) for message in attempt.messages),
            domain=attempt.first.recipient_domain,
            attempt=attempt.first.attempts,
        )
        turn.delivering = Deferred.fromCoroutine(self._try(begun, turn.sessions))
        try:
            await turn.delivering
        except DeliveryError as exc:
            if exc.permanent:
                attempt.fail(exc)
            else:
                attempt.explain(exc)
        except Exception as exc:  # noqa: BLE001 - counts as a failed attempt
            if not self._stopping:
                log.failure("delivering from queue", exc, unforeseen=True)
            attempt.explain(DeliveryError(Trouble.LOCAL, f"internal error: {exc!r}"))
        finally:
            turn.delivering = None
        attempt.observe()

    async def _try(self, begun: _Begun, sessions: Sessions) -> None:
        attempt = begun.attempt
        first = attempt.first
        if first.attempts > first.attempts_allowed + 1:
            # Attempts that a crash ended do not fail a message, but may be its doing.
            raise DeliveryError(
                Trouble.LOCAL, "too many attempts were interrupted", permanent=True
            )
        sender = self._config.domains.get(first.sender_domain)
        if sender is not None and sender.disabled:
            raise DeliveryError(
                Trouble.LOCAL, f"domain {first.sender_domain} of the sender is disabled"
            )
        for message_id, reason in begun.suppressed.items():
            attempt.fail(
                DeliveryError(
                    Trouble.SUPPRESSED,
                    f"address is on the suppression list of the account: {reason}",
                    permanent=True,
                ),
                [message_id],
            )
        if not attempt.left:
            return
        attempt.transport, transport = transport_for(
            self._config,
            account=first.sender_account,
            sender_domain=first.sender_domain,
            recipient_domain=first.recipient_domain,
            attempts=first.attempts - 1,
            explicit=first.transport,
        )
        await self._by(attempt, transport, sessions)

    async def _by(
        self, attempt: Attempt, transport: Transport | None, sessions: Sessions
    ) -> None:
        first = attempt.first
        if transport is not None and transport.fail is not None:
            raise failing(transport.fail)
        if self._local is not None:
            await self._to_itself(attempt, self._local, sessions)
            return
        families: tuple[int, ...] = (4, 6)
        if transport is not None:
            if transport.socks is not None:
                await self._direct.deliver(
                    attempt, sessions, socks=await self._proxy(transport.socks)
                )
                return
            target = smarthost_target(transport, self._ehlo, first.require_tls)
            if target is not None:
                fixed = FixedDelivery(self._dialer, self._resolver, target)
                await fixed.deliver(attempt, sessions)
                return
            if transport.direct is not None:
                families = tuple(
                    family
                    for family, disabled in (
                        (4, transport.direct.disable_ipv4),
                        (6, transport.direct.disable_ipv6),
                    )
                    if not disabled
                )
        await self._direct.deliver(attempt, sessions, families)

    async def _proxy(self, socks: TransportSocks) -> Socks:
        """The proxy of a transport. Raises DeliveryError when its address is not known."""
        host = socks.host
        try:
            ip = str(ipaddress.ip_address(host))
        except ValueError:
            try:
                ip = (await ips(self._resolver, host))[0]
            except DNSError as exc:
                raise DeliveryError(Trouble.LOCAL, f"socks proxy {host}: {exc}") from exc
        return Socks((ip, socks.port), socks.dns_remote_hostname.ascii)

    async def _to_itself(self, attempt: Attempt, target: Target, sessions: Sessions) -> None:
        """Deliver to the server of a local test setup, or fail as recipients ask for."""
        wait = 0.0
        for message_id, message in list(attempt.left.items()):
            error, seconds = asked_failure(message.recipient_localpart)
            if error is not None:
                wait = max(wait, seconds)
                if error.permanent:
                    attempt.fail(error, [message_id])
                else:
                    attempt.explain(error, [message_id])
                    attempt.left.pop(message_id)
        if wait:
            slept: Deferred[None] = Deferred()
            call = self._reactor.callLater(wait, slept.callback, None)
            try:
                await slept
            finally:
                if call.active():
                    call.cancel()
        if attempt.left:
            fixed = FixedDelivery(
                self._dialer, self._resolver, target, require_8bitmime=False
            )
            await fixed.deliver(attempt, sessions)


def local_target(config: Config) -> Target:
    """Where a local test server delivers everything: its own SMTP service."""
    listener = config.static.listeners.get("local")
    ip, port = "", 1025
    if listener is not None:
        ip = listener.ips[0] if listener.ips else ""
        port = listener.smtp.port or port
    return Target(
        host="localhost", ips=(ip or "127.0.0.1",), port=port, ehlo="localhost"
    )
