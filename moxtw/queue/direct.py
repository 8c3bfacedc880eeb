"""Direct delivery: to the hosts of the recipient domain, one after the other."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Final

from moxtw import metrics
from moxtw.config.static import Static
from moxtw.log import Logger
from moxtw.queue.attempt import Attempt, connect
from moxtw.queue.delivery import (
    DeliveryError,
    Finding,
    SMTPDialer,
    SMTPSession,
    Target,
    TLSMode,
    Trouble,
)
from moxtw.queue.hosts import Addresses, Destination, HostFinder
from moxtw.queue.routes import ascii_domain
from moxtw.queue.sessions import Sessions
from moxtw.queue.tlsreport import TLSReport
from moxtw.queue.tlsrules import DomainRule, HostRule, TLSPolicy

SMTP_PORT: Final = 25

# A recipient whose transaction would be its connection's next, again and again, is put off.
_MAX_SESSIONS: Final = 5

log = Logger("queue")


@dataclass(frozen=True, slots=True)
class Socks:
    """A proxy to go through: its address and port, and the name that we have behind it."""

    address: tuple[str, int]
    ehlo: str


@dataclass(slots=True)
class _Seen:
    """How TLS went when a session was set up, and which recipient domains it was counted for.

    error: with TLS, whereupon the session was set up without.
    """

    host: str
    local_ip: str
    remote_ip: str
    findings: tuple[Finding, ...] = ()
    tls: bool = False
    error: DeliveryError | None = None
    counted: set[str] = field(default_factory=set)

    def count(self, report: TLSReport) -> None:
        """Count the session for the domain of a report, once.

        Domains that share a host share sessions with it. Each has its own policy, which this
        session was found to suit, and wants to know (RFC 8460 3).
        """
        if report.name in self.counted:
            return
        self.counted.add(report.name)
        if self.error is not None:
            report.failed(self.host, self.local_ip, self.remote_ip, self.error)
        else:
            report.session(
                self.host, self.local_ip, self.remote_ip, self.findings, tls=self.tls
            )


class DirectDelivery:
    """Delivers to the hosts that DNS names.

    ehlo: our own name. local_ips: see `local_addresses`. port: for tests. record: told of how
    TLS went.
    """

    def __init__(
        self,
        dialer: SMTPDialer,
        finder: HostFinder,
        policy: TLSPolicy,
        ehlo: str,
        local_ips: tuple[tuple[int, str], ...] = (),
        *,
        port: int = SMTP_PORT,
        record: Callable[[Attempt, TLSReport], None] | None = None,
    ) -> None:
        self._dialer = dialer
        self._finder = finder
        self._policy = policy
        self._ehlo = ehlo
        self._local_ips = local_ips
        self._port = port
        self._record = record

    async def deliver(
        self,
        attempt: Attempt,
        sessions: Sessions,
        families: tuple[int, ...] = (4, 6),
        socks: Socks | None = None,
    ) -> None:
        """Try to deliver; what comes of it is noted in the attempt."""
        name = attempt.first.recipient_domain
        report = TLSReport("" if name.startswith("[") else ascii_domain(name))
        try:
            await self._deliver(attempt, sessions, families, report, socks)
        except DeliveryError as exc:
            if exc.trouble is Trouble.LOCAL and exc.permanent:
                attempt.fail(exc)
            else:
                attempt.explain(exc)
        finally:
            if self._record is not None:
                self._record(attempt, report)

    async def _deliver(
        self,
        attempt: Attempt,
        sessions: Sessions,
        families: tuple[int, ...],
        report: TLSReport,
        socks: Socks | None,
    ) -> None:
        name = attempt.first.recipient_domain
        require_tls = attempt.first.require_tls
        metrics.queue_destinations_total.inc()
        if name.startswith("["):
            ip = name[1:-1]
            destination = Destination(ip, ip, (ip,), False, False, False)
            rule = await self._policy.domain("", require_tls, report)
        else:
            domain = ascii_domain(name)
            try:
                destination = await self._finder.destination(domain)
            except DeliveryError as exc:
                report.forged(exc.__cause__)
                raise
            rule = await self._policy.domain(domain, require_tls, report)
        if destination.expanded_authentic:
            metrics.queue_destinations_authentic_total.inc()
        unsafe: list[DeliveryError] = []
        for host in destination.hosts:
            try:
                if name.startswith("["):
                    addresses = Addresses(host, host, (host,), False, False, False)
                else:
                    dialed = attempt.first.dialed_ips.get(host, [])
                    addresses = await self._addresses(host, dialed, families, report)
                await self._host(attempt, sessions, destination, addresses, rule, report, socks)
            except DeliveryError as exc:
                log.debug("delivery to host", host=host, domain=name, err=exc)
                attempt.explain(exc)
                if exc.trouble is Trouble.CANCELED:
                    return
                if exc.trouble is Trouble.LOCAL and exc.permanent:
                    # Nothing about the host.
                    attempt.fail(exc)
                    return
                if require_tls and exc.secode == "7.30":
                    unsafe.append(exc)
            if not attempt.left:
                return
        if len(unsafe) == len(destination.hosts):
            # RFC 8689 5: waiting will not help.
            attempt.fail(
                DeliveryError(
                    Trouble.UNSUPPORTED,
                    f"no host of {name} can be reached as safely as REQUIRETLS demands: "
                    f"{unsafe[-1].text}",
                    permanent=True,
                    code=554,
                    secode="7.30",
                )
            )
            return
        attempt.conclude()

    async def _addresses(
        self, host: str, dialed: Sequence[str], families: tuple[int, ...], report: TLSReport
    ) -> Addresses:
        """The addresses of a host. Raises DeliveryError."""
        try:
            return await self._finder.addresses(host, dialed, families)
        except DeliveryError as exc:
            report.forged(exc.__cause__, host)
            raise

    async def _host(
        self,
        attempt: Attempt,
        sessions: Sessions,
        destination: Destination,
        addresses: Addresses,
        domain_rule: DomainRule,
        report: TLSReport,
        socks: Socks | None,
    ) -> None:
        """Try a host. Raises DeliveryError when there was no session with it."""
        rule = await domain_rule.host(destination, addresses)
        require_tls = attempt.first.require_tls
        if require_tls and not rule.secure:
            metrics.queue_requiretls_unsupported_total.labels("nopolicy").inc()
            raise DeliveryError(
                Trouble.UNSUPPORTED,
                f"{addresses.host}: REQUIRETLS demands a policy that makes sure of TLS",
                secode="7.30",
                remote_mta=addresses.host,
            )
        host = addresses.host

        def judge(error: DeliveryError) -> tuple[bool, DeliveryError]:
            if error.trouble is not Trouble.REPLY or not error.permanent:
                return False, error
            # A host that rejects by the family of our address may take the other one.
            if (
                attempt.first.attempts == 1
                and addresses.dual_stack
                and error.secode.startswith("7.")
            ):
                return False, error.copy(permanent=False)
            return True, error

        # A further attempt is not to come to the same address again, see `HostFinder`.
        again = bool(attempt.first.dialed_ips.get(host))
        ips = addresses.ips[:1] if again else addresses.ips
        lost = False
        for _ in range(_MAX_SESSIONS):
            ids = list(attempt.left)
            # Without TLS after trouble with it, a session is not for reports.
            key: Hashable = (host, rule, require_tls, socks, attempt.first.is_dmarc_report)
            session = None if lost else sessions.take(key, ips)
            kept = session is not None
            if session is None:
                session, seen = await self._session(attempt, addresses, rule, report, socks)
                sessions.use(key, session, seen)
            else:
                sessions.about.count(report)
            attempt.tls_seen = (session.has_starttls, session.has_requiretls)
            if require_tls and not session.has_requiretls:
                metrics.queue_requiretls_unsupported_total.labels("norequiretls").inc()
                sessions.drop(session)
                raise DeliveryError(
                    Trouble.UNSUPPORTED,
                    f"{host} lacks REQUIRETLS",
                    secode="7.30",
                    remote_mta=host,
                )
            results = await session.deliver(attempt.transaction(ids))
            sessions.keep(session)
            if kept and all(
                result.error is not None and result.error.trouble is Trouble.IO
                for result in results
            ):
                # The server had enough of a session that was idle: no fault of the message.
                lost = True
                continue
            if not attempt.take_results(ids, results, judge=judge):
                return
        error = DeliveryError(
            Trouble.PROTOCOL, f"{host} takes too few recipients", remote_mta=host
        )
        attempt.explain(error)

    async def _session(
        self,
        attempt: Attempt,
        addresses: Addresses,
        rule: HostRule,
        report: TLSReport,
        socks: Socks | None,
    ) -> tuple[SMTPSession, _Seen]:
        host = addresses.host
        remote = ""

        def dialed(ip: str) -> None:
            nonlocal remote
            remote = ip
            for message in attempt.messages:
                ips = message.dialed_ips.setdefault(host, [])
                ips.append(ip)
                del ips[:-50]

        target = Target(
            host=host,
            ips=addresses.ips,
            port=self._port,
            ehlo=self._ehlo if socks is None else socks.ehlo,
            proxy=None if socks is None else socks.address,
            tls=rule.mode,
            verify=rule.verify,
            dane=rule.dane,
            server_name=rule.server_name,
            local_ips=self._local_ips,
        )
        attempt.tls_label = rule.mode.value + rule.label
        try:
            session = await connect(self._dialer, target, dialed)
        except DeliveryError as exc:
            if exc.trouble is not Trouble.TLS:
                raise
            seen = _Seen(host, exc.local_ip, remote, error=exc)
            seen.count(report)
            if not rule.fallback or attempt.first.is_dmarc_report:
                raise
            log.info("tls failed, trying without", host=host, err=exc)
            if attempt.first.require_tls is False:
                metrics.queue_tlsrequiredno_ignored_total.labels("badtls").inc()
        else:
            findings = session.tls_findings
            seen = _Seen(
                host, session.local_ip, remote, tuple(findings), bool(session.tls_version)
            )
            seen.count(report)
            if findings and attempt.first.require_tls is False and (rule.dane or rule.secure):
                log.info("bad tls ignored", host=host, err=findings[0].text)
                metrics.queue_tlsrequiredno_ignored_total.labels("badtls").inc()
            return session, seen
        metrics.queue_plaintext_fallback_total.inc()
        attempt.tls_label = TLSMode.SKIP.value + rule.label
        plain = Target(
            host=host,
            ips=addresses.ips,
            port=self._port,
            ehlo=self._ehlo if socks is None else socks.ehlo,
            proxy=None if socks is None else socks.address,
            tls=TLSMode.SKIP,
            local_ips=self._local_ips,
        )
        return await connect(self._dialer, plain, dialed), seen


def local_addresses(static: Static) -> tuple[tuple[int, str], ...]:
    """The addresses to connect from: those that SMTP listens on, if that is clear.

    Other servers compare the address that connects with the one that our name leads to. With
    a wildcard, or more than one address of a family, the system chooses. Loopback addresses
    reach nobody, and do not count.
    """
    found: dict[int, set[str]] = {4: set(), 6: set()}
    for listener in static.listeners.values():
        if not listener.smtp.enabled:
            continue
        for text in listener.ips:
            ip = ipaddress.ip_address(text)
            if ip.is_unspecified:
                return ()
            if not ip.is_loopback:
                found[ip.version].add(str(ip))
    if any(len(ips) > 1 for ips in found.values()):
        return ()
    return tuple((version, ip) for version, ips in found.items() for ip in ips)
