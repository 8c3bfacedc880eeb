"""What one attempt at a domain tells of TLS there, for reports (RFC 8460 4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from twisted.internet.defer import Deferred, succeed

from moxtw.dns.resolver import TemporaryError
from moxtw.log import Logger
from moxtw.queue.delivery import DeliveryError, Finding
from moxtw.queue.mtasts import Known
from moxtw.store import tlsresults
from moxtw.store.db import Store
from moxtw.store.errors import StoreClosed
from moxtw.store.tx import Tx
from moxtw.tlspolicy import dane, tlsrpt
from moxtw.tlspolicy.tlsrpt import Failure, Result

log = Logger("tlsrptdb")

FLUSH: Final = 5.0
"""Seconds that results wait for others to be written with."""

_MAX_WAITING: Final = 1000


class TLSReport:
    """Gathers the results of an attempt: one for the recipient domain, one for each host.

    domain: of the recipients, in ASCII; empty for none that could get reports.
    """

    def __init__(self, domain: str) -> None:
        self.name = domain
        self.domain = Result(tlsrpt.NO_POLICY, domain)
        self.hosts: dict[str, Result] = {}
        # Whether it is known which policy there is; otherwise there is nothing to report.
        self._known = False
        self._host: Result | None = None

    def policy(self, known: Known) -> None:
        """What is known of MTA-STS."""
        self._known = True
        policy = known.policy
        if policy is not None:
            lines = tuple(line for line in known.text.splitlines() if line)
            self.domain = replace(
                self.domain,
                policy_type=tlsrpt.STS,
                strings=lines,
                mx_hosts=policy.mx,
            )
        elif known.problem:
            # There should be one.
            self.domain = replace(self.domain, policy_type=tlsrpt.STS)
        if known.problem:
            reason = "fallback-to-cached-policy" if known.cached else ""
            self.domain.note(Failure(known.problem, reason=reason))

    def host(self, host: str, found: dane.Found | None = None) -> None:
        """The host whose turn it is, and its TLSA records."""
        if found is None:
            self._host = self.hosts.setdefault(host, Result(tlsrpt.NO_POLICY, host))
            return
        strings = tuple(sorted(dane.presentation(record) for record in found.records))
        old = self.hosts.setdefault(host, Result(tlsrpt.NO_POLICY, host))
        self._host = self.hosts[host] = replace(
            old, policy_type=tlsrpt.TLSA, domain=found.base, strings=strings
        )

    def domain_noted(self, failure: Failure) -> None:
        """Something that did not stop the session."""
        self.domain.note(failure)

    def domain_failed(self, failure: Failure) -> None:
        """Something that kept a session from being tried."""
        self.domain.failure += 1
        self.domain.note(failure)

    def host_noted(self, failure: Failure) -> None:
        """Something about the host that did not stop the session."""
        if self._host is not None:
            self._host.note(failure)

    def host_failed(self, failure: Failure) -> None:
        """Something about the host that kept a session from being tried."""
        self._count(False, failure)

    def forged(self, exc: BaseException | None, host: str = "") -> bool:
        """A lookup failed, about a host or the domain: count it if DNSSEC is the trouble.

        RFC 8460 4.3 has "dnssec-invalid" for the records of DANE only, so this is a failure of
        validation. Returns whether it was counted.
        """
        if not isinstance(exc, TemporaryError) or not exc.dnssec:
            return False
        self._known = True
        failure = Failure(
            tlsrpt.VALIDATION_FAILURE, receiving_mx_hostname=host, reason=tlsrpt.dns_reason(exc)
        )
        if not host:
            self.domain_failed(failure)
            return True
        # With valid answers there might be DANE.
        self.host(host, dane.Found(host, ()))
        self.host_failed(failure)
        return True

    # -- Sessions ----------------------------------------------------------------------

    def session(
        self, host: str, local_ip: str, remote_ip: str, findings: Sequence[Finding], *, tls: bool
    ) -> None:
        """A session was set up, with TLS or without."""
        base = Failure("", local_ip, host, "", remote_ip)
        if not tls:
            self._count(False, replace(base, result_type=tlsrpt.STARTTLS_NOT_SUPPORTED))
            return
        self._count(True, None)
        for finding in findings:
            failure = replace(base, result_type=finding.problem, reason=finding.reason)
            self._note(failure, finding.reason.startswith("dane-"))

    def failed(self, host: str, local_ip: str, remote_ip: str, error: DeliveryError) -> None:
        """TLS failed."""
        failure = Failure(
            error.problem or tlsrpt.VALIDATION_FAILURE, local_ip, host, "", remote_ip, error.reason
        )
        self._count(False, failure)

    def _count(self, good: bool, failure: Failure | None) -> None:
        for result in (self.domain, self._host):
            if result is None:
                continue
            if good:
                result.success += 1
            else:
                result.failure += 1
            if failure is not None:
                result.note(failure)

    def _note(self, failure: Failure, of_dane: bool) -> None:
        """Note something where it matters: of DANE for the host, of PKIX where no DANE is."""
        host = self._host
        if host is not None and (host.policy_type == tlsrpt.TLSA) == of_dane:
            host.note(failure)
        if not of_dane:
            self.domain.note(failure)

    def results(self) -> list[tuple[Result, bool]]:
        """What there is to report; second: whether it is about a host."""
        if not self._known or not self.name:
            return []
        found = [
            (result, True) for result in self.hosts.values() if result.success or result.failure
        ]
        tlsa = {r.domain for r, _ in found if r.policy_type == tlsrpt.TLSA}
        domain = self.domain
        if (domain.success or domain.failure or domain.failures) and not (
            domain.policy_type == tlsrpt.NO_POLICY and domain.domain in tlsa
        ):
            found.insert(0, (domain, False))
        return found


class Recorder:
    """Writes results to the store, those of some seconds together.

    What a crash loses of them is missed by nobody but statistics.
    """

    def __init__(self, store: Store, clock: Any) -> None:
        self._store = store
        self._clock = clock
        self._waiting: dict[tuple[str, bool], list[tuple[Result, bool]]] = {}
        self._count = 0
        self._timer: Any = None

    def record(self, report: TLSReport, *, send_report: bool) -> None:
        """Take the results of an attempt. send_report: it was not itself about a report."""
        results = report.results()
        if not results:
            return
        self._waiting.setdefault((report.name, send_report), []).extend(results)
        self._count += len(results)
        if self._count >= _MAX_WAITING:
            self.flush()
        elif self._timer is None:
            self._timer = self._clock.callLater(FLUSH, self.flush)

    def flush(self) -> Deferred[None]:
        """Write what waits."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        waiting, self._waiting, self._count = self._waiting, {}, 0
        if not waiting:
            return succeed(None)

        def job(tx: Tx) -> None:
            for (domain, send_report), results in waiting.items():
                hosts = {result.domain: host for result, host in results}
                merged = tlsrpt.merged(result for result, _ in results)
                tlsresults.add(
                    tx,
                    domain,
                    [(result, hosts[result.domain]) for result in merged],
                    send_report=send_report,
                )

        def failed(failure: Any) -> None:
            if not failure.check(StoreClosed):
                log.failure("storing tls results", failure)

        return self._store.write(job).addErrback(failed)
