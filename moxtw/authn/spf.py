"""SPF (RFC 7208): whether an address may send for a domain.

`check` asks it about the sender of an SMTP transaction: MAIL FROM, or, where that is null, the
name of HELO or EHLO. `received_field` gives the Received-SPF field about it.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as WaitedTooLong
from twisted.internet.task import deferLater

from moxtw import metrics
from moxtw.authn.spfeval import (
    FAIL,
    NEUTRAL,
    NONE,
    PASS,
    PERMERROR,
    SOFTFAIL,
    TEMPERROR,
    Evaluation,
    NoRecord,
    Verdict,
    find_record,
)
from moxtw.authn.spfrecord import Record, RecordError
from moxtw.dns import resolver as dns
from moxtw.dns.resolver import Resolver
from moxtw.log import Logger
from moxtw.mail.address import IPDomain, Path
from moxtw.mail.domain import Domain
from moxtw.mail.received import ReceivedSPF

__all__ = [
    "FAIL",
    "NEUTRAL",
    "NONE",
    "PASS",
    "PERMERROR",
    "SOFTFAIL",
    "TEMPERROR",
    "NoRecord",
    "RecordError",
    "SPFResult",
    "check",
    "lookup",
    "received_field",
]

log = Logger("spf")

TIMEOUT: Final = 20.0
"""Seconds for a check. RFC 7208 4.6.4 wants at least 20."""

EXPLANATION_TIMEOUT: Final = 5.0
"""Seconds for the explanation of a fail, which is only for people."""


NO_DOMAIN: Final = Domain()


@dataclass(frozen=True, slots=True)
class SPFResult:
    """What came out of a check.

    status: ``none``, ``neutral``, ``pass``, ``fail``, ``softfail``, ``temperror`` or
        ``permerror``.
    identity: what was checked, ``mailfrom`` or ``helo``, or empty if there was nothing.
    domain: that of the identity; zero without. sender: the identity as an address.
    mechanism: the mechanism that decided, ``default`` if none matched, or empty.
    explanation: what the domain tells about a fail, printable ASCII of up to 800 characters.
        It is a stranger's text.
    authentic: whether DNSSEC vouches for all answers that led to this.
    problem: what is wrong, of an error or of ``none``.
    """

    status: str
    identity: str = ""
    domain: Domain = Domain()
    sender: Path = Path()
    mechanism: str = ""
    explanation: str = ""
    authentic: bool = False
    problem: str = ""


async def lookup(resolver: Resolver, domain: Domain) -> tuple[str, Record, bool]:
    """The record of a domain: its text, the text parsed, and whether DNSSEC vouches for it.

    Raises NoRecord, RecordError, DNSError.
    """
    return await find_record(dns.for_pkg(resolver, "spf"), domain.ascii)


async def check(
    resolver: Resolver,
    *,
    clock: Any,
    remote_ip: str,
    mail_from: Path,
    hello: IPDomain,
    local_hostname: Domain = NO_DOMAIN,
    record: Record | None = None,
    explain: bool = True,
    timeout: float = TIMEOUT,
    cid: int = 0,
) -> SPFResult:
    """Check whether a client may send for the domain of MAIL FROM, or of HELO if that is null.

    clock: IReactorTime, for the bounds of time and for macro ``t``. remote_ip: of the client.
    record: evaluated in place of that in the DNS. explain: whether to fetch an explanation.
    Raises nothing: what goes wrong is a result, such as ``temperror`` after `timeout` seconds.
    """
    started = clock.seconds()
    try:
        result = await _check(
            dns.for_pkg(resolver, "spf"),
            clock,
            remote_ip,
            mail_from,
            hello,
            local_hostname,
            record,
            explain,
            timeout,
        )
    except Exception as exc:  # noqa: BLE001 - mail must not depend on this
        log.failure("spf check", exc, cid=cid)
        result = SPFResult(TEMPERROR, problem="internal error")
    duration = clock.seconds() - started
    metrics.spf_verify_duration_seconds.labels(result.status).observe(duration)
    log.debug(
        "spf check",
        cid=cid,
        status=result.status,
        identity=result.identity,
        domain=result.domain.log_name,
        ip=remote_ip,
        mechanism=result.mechanism,
        problem=result.problem,
        explanation=result.explanation,
        dnssec=result.authentic,
        duration=round(duration, 3),
    )
    return result


def _identity(mail_from: Path, hello: IPDomain) -> tuple[str, Domain, Path, str]:
    """What to check: identity, domain, sender, and why there is nothing."""
    if not mail_from.is_zero:
        domain = mail_from.ipdomain.domain
        if domain is None or domain.is_zero:
            return "", Domain(), mail_from, "mail from has no domain"
        # RFC 7208 4.3: without a local part it is postmaster.
        return "mailfrom", domain, Path(mail_from.localpart or "postmaster", mail_from.ipdomain), ""
    domain = hello.domain
    if domain is None or domain.is_zero:
        return "", Domain(), mail_from, "mail from is null, and helo is no domain"
    return "helo", domain, Path("postmaster", hello), ""


async def _check(
    resolver: Resolver,
    clock: Any,
    remote_ip: str,
    mail_from: Path,
    hello: IPDomain,
    local_hostname: Domain,
    record: Record | None,
    explain: bool,
    timeout: float,
) -> SPFResult:
    identity, domain, sender, problem = _identity(mail_from, hello)
    if not identity:
        return SPFResult(NONE, sender=sender, problem=problem)

    async def pause() -> None:
        await deferLater(clock, 0)

    evaluation = Evaluation(
        resolver,
        ip=_client_address(remote_ip),
        localpart=sender.localpart,
        domain=domain.ascii,
        hello=hello.form(utf8=False),
        receiver=local_hostname.ascii,
        now=int(clock.seconds()),
        pause=pause,
    )
    work = Deferred.fromCoroutine(evaluation.check_host(domain.ascii, record))
    try:
        verdict: Verdict = await work.addTimeout(timeout, clock)
        authentic = evaluation.authentic
    except WaitedTooLong:
        verdict = Verdict(TEMPERROR, evaluation.current, f"no result within {timeout:g} seconds")
        authentic = False
    explanation = ""
    if explain and verdict.status == FAIL:
        explaining = Deferred.fromCoroutine(evaluation.explain(verdict))
        try:
            explanation = await explaining.addTimeout(EXPLANATION_TIMEOUT, clock)
        except WaitedTooLong:
            log.debug("no explanation in time", domain=domain.log_name)
    return SPFResult(
        verdict.status,
        identity,
        domain,
        sender,
        verdict.mechanism,
        explanation,
        authentic,
        verdict.problem,
    )


def _client_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The client's address; RFC 7208 5: an IPv4-mapped one is IPv4."""
    ip = ipaddress.ip_address(text.partition("%")[0])
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return ip if mapped is None else mapped


_COMMENTS: Final = {
    PASS: "domain {domain} designates {ip} as permitted sender",
    FAIL: "domain {domain} does not designate {ip} as permitted sender",
    SOFTFAIL: "domain {domain} probably does not designate {ip} as permitted sender",
    NEUTRAL: "domain {domain} says nothing about {ip}",
    NONE: "domain {domain} has no sender policy",
    TEMPERROR: "temporary error for domain {domain}",
    PERMERROR: "broken sender policy of domain {domain}",
}


def received_field(
    result: SPFResult, *, remote_ip: str, hello: IPDomain, local_hostname: Domain
) -> ReceivedSPF:
    """What the Received-SPF field says about a result, RFC 7208 9.1."""
    if result.identity:
        comment = _COMMENTS[result.status].format(domain=result.domain.ascii, ip=remote_ip)
        if result.identity == "helo":
            comment += ", checked by helo because mail from is null"
    else:
        comment = f"nothing to check, {result.problem}"
    return ReceivedSPF(
        result=result.status,
        client_ip=remote_ip,
        envelope_from=result.sender,
        helo=hello,
        receiver=local_hostname.ascii,
        identity=result.identity,
        comment=comment,
        problem=result.problem if result.status in (TEMPERROR, PERMERROR) else "",
        mechanism=result.mechanism,
    )
