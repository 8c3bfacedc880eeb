"""Delivery to a fixed server: smarthosts, and the own one of a local test server."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Final

from moxtw.config.static import Transport, TransportFail, TransportSMTP
from moxtw.dns.resolver import DNSError, Resolver, ips
from moxtw.queue.attempt import Attempt, connect
from moxtw.queue.delivery import (
    DeliveryError,
    Login,
    SMTPDialer,
    Target,
    Timeouts,
    TLSMode,
    Trouble,
)
from moxtw.queue.sessions import Sessions

_MIB: Final = 1 << 20
_MAX_SESSIONS: Final = 5


def failing(transport: TransportFail) -> DeliveryError:
    """The failure that a Fail transport stands for."""
    code = transport.effective_code
    text = transport.effective_message or "delivery is configured to fail"
    return DeliveryError(
        Trouble.REPLY,
        text,
        permanent=code >= 500,
        code=code,
        secode="7.0",
        lines=(f"{code} {code // 100}.7.0 {text}",),
    )


def smarthost_target(transport: Transport, ehlo: str, require_tls: bool | None) -> Target | None:
    """The server of a transport, without its addresses; None if it is no smarthost.

    Raises DeliveryError when it is not safe enough for REQUIRETLS.
    """
    config: TransportSMTP
    if transport.submissions is not None:
        config, mode, port = transport.submissions, TLSMode.IMMEDIATE, 465
    elif transport.submission is not None:
        config, mode, port = transport.submission, TLSMode.REQUIRED, 587
    elif transport.smtp is not None:
        config, mode, port = transport.smtp, TLSMode.REQUIRED, 25
    else:
        return None
    verify = True
    if mode is TLSMode.REQUIRED:
        verify = not config.starttls_insecure_skip_verify
        if config.no_starttls:
            mode, verify = TLSMode.SKIP, False
    if require_tls and not verify:
        raise DeliveryError(
            Trouble.UNSUPPORTED,
            "message demands REQUIRETLS, but the transport does not verify TLS",
            permanent=True,
            code=554,
            secode="7.30",
        )
    auth = config.auth
    login = None
    if auth is not None:
        login = Login(auth.username, auth.password, tuple(auth.mechanisms))
    return Target(
        host=config.dns_host.ascii,
        ips=(),
        port=config.effective_port or config.port or port,
        ehlo=ehlo,
        tls=mode,
        verify=verify,
        login=login,
    )


class FixedDelivery:
    """Delivers to one server.

    target: its `ips` may be empty, then they are looked up.
    """

    def __init__(
        self,
        dialer: SMTPDialer,
        resolver: Resolver,
        target: Target,
        *,
        require_8bitmime: bool = True,
    ) -> None:
        self._dialer = dialer
        self._resolver = resolver
        self._target = target
        self._require_8bitmime = require_8bitmime

    async def deliver(self, attempt: Attempt, sessions: Sessions) -> None:
        """Try to deliver; what comes of it is noted in the attempt."""
        try:
            await self._deliver(attempt, sessions)
        except DeliveryError as exc:
            attempt.explain(exc)
            if exc.permanent:
                attempt.fail(exc)

    async def _deliver(self, attempt: Attempt, sessions: Sessions) -> None:
        target = self._target
        if not target.ips:
            try:
                answer = await ips(self._resolver, target.host)
            except DNSError as exc:
                raise DeliveryError(
                    Trouble.LOCAL, f"looking up {target.host}: {exc}", secode="4.3"
                ) from exc
            target = replace(target, ips=tuple(answer.records))
        # A session is kept for messages of a like size only, as its time is for those.
        size = 1 + attempt.source.size // _MIB
        target = replace(
            target, timeouts=Timeouts(dial=30, setup=60, transaction=60 + size)
        )
        key = (self._target, size)
        attempt.tls_label = target.tls.value
        lost = False
        for _ in range(_MAX_SESSIONS):
            ids = list(attempt.left)
            session = None if lost else sessions.take(key)
            kept = session is not None
            if session is None:
                session = await connect(self._dialer, target)
                sessions.use(key, session)
            attempt.tls_seen = None
            results = await session.deliver(
                attempt.transaction(ids, require_8bitmime=self._require_8bitmime)
            )
            sessions.keep(session)
            if kept and all(
                result.error is not None and result.error.trouble is Trouble.IO
                for result in results
            ):
                lost = True
                continue
            if not attempt.take_results(
                ids, results, judge=lambda error: (error.permanent, error)
            ):
                return
        raise DeliveryError(
            Trouble.PROTOCOL,
            f"{target.host} takes too few recipients",
            remote_mta=target.host,
        )


_SPECIAL: Final = re.compile(
    r"queue.*?(?:(temperror)|(permerror)|(timeout)|([4-6][0-9][0-9]))", re.DOTALL
)

TEST_TIMEOUT: Final = 3600
"""Seconds that a message to ``queuetimeout`` waits."""


def asked_failure(localpart: str) -> tuple[DeliveryError | None, float]:
    """How delivery is to fail in a local test server, by the recipient's localpart.

    Localparts begin with ``queue``, and end as those that the SMTP server knows. Returns the
    failure, and how long to wait before it.
    """
    match = _SPECIAL.fullmatch(localpart)
    if match is None:
        return None, 0
    code = 451
    if match[2]:
        code = 550
    elif match[4]:
        code = int(match[4])
        if code > 600:
            return None, 0
    text = f"{code} {code // 100}.3.0 failure, as asked for"
    error = DeliveryError(
        Trouble.TIMEOUT if match[3] else Trouble.REPLY,
        text,
        permanent=code >= 500,
        code=code,
        secode="3.0",
        lines=(text,),
    )
    return error, TEST_TIMEOUT if match[3] else 0
