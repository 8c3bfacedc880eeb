"""Sends reports on time: of DMARC each hour, on TLS each day."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Final

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import deferLater

from moxtw import metrics
from moxtw.config.lookup import ConfigView
from moxtw.dns.resolver import Resolver
from moxtw.log import Logger
from moxtw.reports.dmarc import DMARCReports
from moxtw.reports.outgoing import Outbox
from moxtw.reports.pace import DAY, HOUR, pause
from moxtw.reports.tls import TLSReports
from moxtw.store.db import Store
from moxtw.store.errors import StoreClosed

log = Logger("reports")

DMARC_SPREAD: Final = 45 * 60.0
TLS_SPREAD: Final = 4 * 3600.0


class ReportService(Service):
    """Makes and queues the reports of this server.

    clock: IReactorTime. random: a random.Random, so that not all servers send at once.
    """

    name = "reports"

    def __init__(
        self, store: Store, config: ConfigView, resolver: Resolver, clock: Any, random: Any
    ) -> None:
        outbox = Outbox(store, config)
        self._config = config
        self._clock = clock
        self._random = random
        self._dmarc = DMARCReports(store, config, resolver, outbox)
        self._tls = TLSReports(store, config, resolver, outbox)
        self._running: list[Deferred[None]] = []

    def startService(self) -> None:  # noqa: N802 - Twisted's name
        """Begin: TLS reports of yesterday soon, all others in their time."""
        super().startService()  # type: ignore[no-untyped-call]
        self._running = [
            self._start("dmarc reports", self._each_hour()),
            self._start("tls reports", self._each_day()),
        ]

    def stopService(self) -> Deferred[Any]:  # noqa: N802 - Twisted's name
        """Stop where it is; what was not reported is kept."""
        super().stopService()  # type: ignore[no-untyped-call]
        running, self._running = self._running, []
        for deferred in running:
            deferred.cancel()
        return succeed(None)

    def _start(self, what: str, work: Coroutine[Deferred[Any], Any, None]) -> Deferred[None]:
        def failed(failure: Any) -> None:
            if not failure.check(CancelledError, StoreClosed):
                log.failure(what, failure, unforeseen=True)

        return Deferred.fromCoroutine(work).addErrback(failed)

    async def _sleep_until(self, when: float) -> None:
        await deferLater(self._clock, max(when - self._clock.seconds(), 0.0))

    # -- DMARC -------------------------------------------------------------------------

    async def _each_hour(self) -> None:
        while True:
            end = (int(self._clock.seconds()) // HOUR + 1) * HOUR
            await self._sleep_until(end + self._random.uniform(30, 89))
            await self.dmarc_round(end)

    async def dmarc_round(self, end: int) -> None:
        """Send what is due at a whole hour."""
        if self._config.static.no_outgoing_dmarc_reports:
            return
        try:
            domains = await self._dmarc.due(end)
        except (CancelledError, StoreClosed):
            raise
        except Exception as exc:  # noqa: BLE001 - the next hour must come
            log.failure("dmarc reports", exc)
            return
        wait = pause(len(domains), DMARC_SPREAD)
        for index, domain in enumerate(domains):
            if index:
                await deferLater(self._clock, wait)
            try:
                await self._dmarc.send(domain, end)
            except (CancelledError, StoreClosed):
                raise
            except Exception as exc:  # noqa: BLE001 - others are to get theirs
                metrics.dmarcdb_report_error_total.inc()
                log.failure("dmarc report", exc, domain=domain)

    # -- TLS ---------------------------------------------------------------------------

    async def _each_day(self) -> None:
        await self._sleep_until(self._clock.seconds() + self._random.uniform(30, 89))
        while True:
            await self.tls_round(int(self._clock.seconds()))
            midnight = (int(self._clock.seconds()) // DAY + 1) * DAY
            await self._sleep_until(midnight + self._random.uniform(240, 359))

    async def tls_round(self, now: int) -> None:
        """Send what is due about days that are over."""
        if self._config.static.no_outgoing_tls_reports:
            return
        try:
            due = await self._tls.due(now)
        except (CancelledError, StoreClosed):
            raise
        except Exception as exc:  # noqa: BLE001 - the next day must come
            log.failure("tls reports", exc)
            return
        wait = pause(len(due), TLS_SPREAD)
        for index, each in enumerate(due):
            if index:
                await deferLater(self._clock, wait)
            try:
                await self._tls.send(each)
            except (CancelledError, StoreClosed):
                raise
            except Exception as exc:  # noqa: BLE001 - others are to get theirs
                metrics.tlsrptsend_report_error_total.inc()
                log.failure("tls report", exc, domain=each.domain)
