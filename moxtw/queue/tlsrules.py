"""How safe the way to a host must be: MTA-STS (RFC 8461), DANE (RFC 7672), REQUIRETLS (RFC 8689).

`TLSPolicy` finds that out for each delivery; `Opportunistic` is what holds without any policy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from twisted.internet.defer import Deferred, TimeoutError

from moxtw import metrics
from moxtw.dns.resolver import DNSError, Resolver, ServFail, TemporaryError
from moxtw.log import Logger
from moxtw.queue.delivery import Associations, DeliveryError, TLSMode, Trouble
from moxtw.queue.hosts import LOOKUP_TIMEOUT, Addresses, Destination
from moxtw.queue.mtasts import Known
from moxtw.queue.tlsreport import TLSReport
from moxtw.tlspolicy import dane, tlsrpt
from moxtw.tlspolicy.mtastsfetch import FETCH_ERROR

log = Logger("queue")


@dataclass(frozen=True, slots=True)
class HostRule:
    """What a session with a host must be like.

    verify: the certificate must be good for the host. dane: what DANE demands of it, or would.
    server_name: for TLS, if it is not the host's. fallback: after TLS trouble, plain text may
    be used. secure: the way is safe enough for REQUIRETLS (RFC 8689 4.2.1). label: for
    metrics, what policies are behind it (``+mtasts``, ``+dane``).
    """

    mode: TLSMode = TLSMode.OPPORTUNISTIC
    verify: bool = False
    dane: Associations | None = None
    server_name: str = ""
    fallback: bool = True
    secure: bool = False
    label: str = ""


class DomainRule(Protocol):
    """The policy for a recipient domain."""

    async def host(self, destination: Destination, addresses: Addresses) -> HostRule:
        """The rule for one of its hosts. Raises DeliveryError when the host is out."""
        ...


class TLSPolicy(Protocol):
    """Finds policies."""

    async def domain(
        self, name: str, require_tls: bool | None, report: TLSReport
    ) -> DomainRule:
        """The policy for a recipient domain (ASCII). Raises DeliveryError when unknown.

        What is found goes into the report.
        """
        ...


class Opportunistic:
    """No policy: TLS when it is offered, and plain text when it fails (RFC 7435)."""

    async def domain(
        self, name: str, require_tls: bool | None, report: TLSReport
    ) -> Opportunistic:
        """See TLSPolicy."""
        return self

    async def host(self, destination: Destination, addresses: Addresses) -> HostRule:
        """See DomainRule."""
        return HostRule()


class Policies(Protocol):
    """Gives MTA-STS policies, as `moxtw.queue.mtasts.PolicyCache`."""

    async def get(self, domain: str) -> Known:
        """What is known of a domain. Raises DNSError."""
        ...


class Safety:
    """MTA-STS and DANE. clock: an IReactorTime."""

    def __init__(self, policies: Policies, resolver: Resolver, clock: Any) -> None:
        self._policies = policies
        self.resolver = resolver
        self.clock = clock

    async def domain(self, name: str, require_tls: bool | None, report: TLSReport) -> DomainRule:
        """See TLSPolicy. Without a name (for addresses) there is no policy."""
        if not name:
            return Opportunistic()
        try:
            known = await self._policies.get(name)
        except DNSError as exc:
            if not report.forged(exc):
                report.domain_failed(tlsrpt.Failure(FETCH_ERROR, reason="dns-lookup-error"))
            if require_tls is not False:
                raise DeliveryError(
                    Trouble.LOCAL, f"finding the mta-sts policy of {name}: {exc}", secode="7.5"
                ) from exc
            _ignored("mtastspolicy", exc)
            known = Known(None)
        report.policy(known)
        return _Rule(self, name, known, require_tls, report)


def _ignored(label: str, exc: object) -> None:
    """TLS-Required: No (RFC 8689 5): what would have stopped the message does not."""
    log.info("going on, as the message does not require tls", ignored=label, err=exc)
    metrics.queue_tlsrequiredno_ignored_total.labels(label).inc()


@dataclass(frozen=True, slots=True)
class _Rule:
    """The rule for a domain whose policy is known."""

    safety: Safety
    name: str
    known: Known
    require_tls: bool | None
    report: TLSReport

    async def host(self, destination: Destination, addresses: Addresses) -> HostRule:
        """See DomainRule."""
        host = addresses.host
        enforced = self._mtasts(host)
        found = await self._tlsa(destination, addresses)
        lax = self.require_tls is False
        if found is None:
            return HostRule(
                TLSMode.REQUIRED if enforced and not lax else TLSMode.OPPORTUNISTIC,
                verify=enforced and not lax,
                fallback=lax or not enforced,
                secure=enforced,
                label="+mtasts" if enforced else "",
            )
        names = [found.base, host]
        if destination.has_mx:
            names += [destination.name, destination.expanded]
        usable = found.usable
        if usable:
            metrics.queue_destination_dane_required_total.inc()
        else:
            metrics.queue_destination_dane_starttlsunverified_total.inc()
            self.report.host_noted(
                tlsrpt.Failure(
                    tlsrpt.TLSA_INVALID,
                    receiving_mx_hostname=host,
                    reason="all-unusable-records+ignored",
                )
            )
        return HostRule(
            TLSMode.OPPORTUNISTIC if lax else TLSMode.REQUIRED,
            verify=enforced and not lax,
            dane=(
                Associations(usable, tuple(dict.fromkeys(names)), enforce=not lax)
                if usable
                else None
            ),
            server_name=found.base,
            fallback=lax,
            secure=bool(usable) or enforced,
            label=("+mtasts" if enforced else "") + "+dane",
        )

    def _mtasts(self, host: str) -> bool:
        """Whether MTA-STS is enforced. Raises DeliveryError for a host that is out."""
        policy = self.known.policy
        if policy is None or policy.mode == "none":
            return False
        if policy.matches(host):
            return policy.mode == "enforce"
        problem = f"{host} is not in the mta-sts policy of {self.name}"
        noted = tlsrpt.Failure(
            tlsrpt.VALIDATION_FAILURE,
            receiving_mx_hostname=host,
            reason="mtasts-policy-mx-mismatch",
        )
        if policy.mode == "testing":
            self.report.domain_noted(noted)
            return False
        if self.require_tls is False:
            self.report.domain_noted(noted)
            _ignored("mtastsmx", problem)
            return False
        self.report.domain_failed(noted)
        raise DeliveryError(
            Trouble.TLS, problem, secode="7.5", remote_mta=host, problem=noted.result_type
        )

    async def _tlsa(self, destination: Destination, addresses: Addresses) -> dane.Found | None:
        """The TLSA records that count for a host (RFC 7672 2.2). Raises DeliveryError."""
        host = addresses.host
        self.report.host(host)
        if not (destination.expanded_authentic and addresses.authentic) or not self.name:
            return None
        bases = [host]
        if addresses.expanded_authentic:
            bases.insert(0, addresses.expanded)
        work = Deferred.fromCoroutine(dane.find(self.safety.resolver, bases))
        work.addTimeout(LOOKUP_TIMEOUT, self.safety.clock)
        try:
            found = await work
        except (DNSError, TimeoutError) as exc:
            metrics.queue_destination_dane_gathertlsa_errors_total.inc()
            # What the records are is not known, but the failure is about them.
            self.report.host(host, dane.Found(host, ()))
            failure = _dns_failure(exc, host)
            if self.require_tls is False:
                self.report.host_noted(failure)
                _ignored("badtlsa", exc)
                return None
            self.report.host_failed(failure)
            raise DeliveryError(
                Trouble.LOCAL, f"finding tlsa records of {host}: {exc}", secode="7.5",
                remote_mta=host,
            ) from exc
        if found is not None:
            self.report.host(host, found)
        return found


def _dns_failure(exc: Exception, host: str) -> tlsrpt.Failure:
    """How a failed lookup of TLSA records is reported (RFC 8460 4.3.2.1)."""
    kind = tlsrpt.VALIDATION_FAILURE
    reason = tlsrpt.dns_reason(exc) or "tlsa-lookup-error"
    # "No valid records were returned from the recursive resolver", whether it says why or not.
    if isinstance(exc, ServFail) or (isinstance(exc, TemporaryError) and exc.dnssec):
        kind = tlsrpt.DNSSEC_INVALID
    return tlsrpt.Failure(kind, receiving_mx_hostname=host, reason=reason)
