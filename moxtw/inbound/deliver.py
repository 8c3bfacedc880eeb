"""Delivery of a message that arrived to accounts here, directly and through aliases.

For each recipient a decision is taken; then one transaction adds the message to all accounts
that get it, with one content between them. Each recipient has exactly one result.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Protocol

from moxtw import metrics
from moxtw.authn import NOTHING, AuthResults, Evaluator
from moxtw.authn.foreign import forged
from moxtw.config.lookup import ConfigView
from moxtw.inbound.cleaned import cut, forged_spans, without
from moxtw.inbound.decide import Decider
from moxtw.inbound.envelope import Envelope, RecipientResult
from moxtw.inbound.work import FULL, STORAGE, Sleep, Work
from moxtw.log import Logger
from moxtw.store.content import Spooled
from moxtw.store.db import Store
from moxtw.store.errors import DiskFull, StoreError

log = Logger("smtpserver")


class Bounce(Protocol):
    """Tells the sender about recipients that failed while others did not, and others."""

    def __call__(
        self, envelope: Envelope, content: Spooled, told: Sequence[RecipientResult]
    ) -> Awaitable[None]:
        """Queue a notification (RFC 3464)."""
        ...


class Deliverer:
    """Delivers messages to accounts. `bounce` None: nobody is told of partial failure."""

    def __init__(
        self,
        store: Store,
        config: ConfigView,
        decider: Decider,
        evaluator: Evaluator,
        bounce: Bounce | None = None,
    ) -> None:
        self._store = store
        self._config = config
        self._decider = decider
        self._evaluator = evaluator
        self._bounce = bounce

    async def deliver(
        self, envelope: Envelope, content: Spooled, sleep: Sleep
    ) -> list[RecipientResult]:
        """Deliver to all recipients; the results are in the same order.

        `sleep` waits for a number of seconds, for the delay that unknown senders get.
        """
        recipients = envelope.recipients
        known = [r for r in recipients if r.destination is not None or r.alias is not None]
        auth = NOTHING
        if known:
            auth = await self._evaluator.authenticate(
                remote_ip=envelope.remote_ip,
                hello=envelope.hello,
                mail_from=envelope.mail_from,
                message=content,
                cid=envelope.cid,
                utf8=envelope.smtputf8,
            )
            if auth.reverse_name:
                envelope.trace = envelope.trace.with_name(auth.reverse_name)
        try:
            cleaned = await self._clean(envelope, content) if known else content
        except (DiskFull, OSError) as exc:
            log.error("storing message", cid=envelope.cid, err=exc)
            code, secode, text, reason = FULL if isinstance(exc, DiskFull) else STORAGE
            return [RecipientResult(r, code, secode, text, reason) for r in recipients]
        try:
            work = Work(self._config, self._decider, envelope, cleaned, auth, sleep)
            await work.decide_all()
            if work.plans or work.evaluations:
                if work.first_time and envelope.first_time_delay:
                    await sleep(envelope.first_time_delay)
                await work.prepare_hooks(self._store)
                await work.prepare_forwards(self._store)
                await self._store_all(work)
            results = work.finish()
            await self._tell_sender(envelope, cleaned, results, auth)
        finally:
            if cleaned is not content:
                cleaned.discard()
        return results

    async def _clean(self, envelope: Envelope, content: Spooled) -> Spooled:
        """The content without Authentication-Results that claim to be ours (RFC 8601 5)."""
        hostname = self._config.static.dns_hostname
        if content.data is not None:
            spans = forged_spans(content, hostname)
        else:
            spans = await self._store.disk(lambda: forged_spans(content, hostname))
        if not spans:
            return content
        log.info("removing forged authentication-results", cid=envelope.cid, count=len(spans))
        envelope.head = cut(envelope.head, forged(envelope.head, hostname))
        return await without(self._store.contents, content, spans)

    async def _store_all(self, work: Work) -> None:
        try:
            outcomes = await self._store.write(work.job)
        except DiskFull:
            outcomes = [FULL] * len(work.plans)
        except Exception as exc:  # noqa: BLE001 - whatever it is, the sender must try again
            if isinstance(exc, StoreError):
                log.error("delivering message", cid=work.envelope.cid, err=exc)
            else:
                log.failure("delivering message", exc, cid=work.envelope.cid)
            outcomes = [STORAGE] * len(work.plans)
        work.take(outcomes)

    async def _tell_sender(
        self,
        envelope: Envelope,
        content: Spooled,
        results: list[RecipientResult],
        auth: AuthResults,
    ) -> None:
        if (
            self._bounce is None
            or envelope.localserve
            or envelope.mail_from.is_zero
            or all(result.code for result in results)
        ):
            # Nobody to tell, or the client was told with its reply.
            return
        forged = auth.mail_from_status in ("fail", "softfail")
        told = [
            result
            for result in results
            # Success is not told to somebody who has not sent this.
            if (
                result.recipient.dsn.on_failure
                if result.code
                else result.recipient.dsn.on_success and not forged
            )
        ]
        if not told:
            return
        try:
            await self._bounce(envelope, content, told)
        except Exception as exc:  # noqa: BLE001 - the message itself has been delivered
            metrics.smtpserver_errors_total.labels("queuedsn").inc()
            log.failure("queueing notification about delivery", exc, cid=envelope.cid)
