"""The checks of a message that has just come in, all together.

iprev, SPF, DKIM and ARC run at the same time, then DMARC, which takes what SPF and DKIM found.
Each has its bound of time, and none can make the message fail: what goes wrong is a result.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as TookTooLong

from moxtw.authn import AuthResults, MessageSource, iprev, spf
from moxtw.authn.arc import NO_CHAIN, ARCResult, validate
from moxtw.authn.dkim import DKIMPolicy, DKIMResult
from moxtw.authn.dkim import verify as verify_dkim
from moxtw.authn.dmarc import DMARCResult, organizational
from moxtw.authn.dmarc import verify as verify_dmarc
from moxtw.authn.iprev import IPRevResult
from moxtw.authn.results import (
    arc_methods,
    dkim_methods,
    dmarc_method,
    iprev_method,
    spf_method,
)
from moxtw.authn.signedmessage import Run, SignedMessage, run_here
from moxtw.authn.spf import SPFResult
from moxtw.dns.resolver import Resolver
from moxtw.log import DEBUG, Logger
from moxtw.mail.address import Address, IPDomain, Path
from moxtw.mail.domain import Domain, DomainError, parse_domain

T = TypeVar("T")

STEP_TIMEOUT: Final = 60.0
"""Seconds for each check."""

_log: Final = Logger("smtpserver")


class Evaluation:
    """The evaluator of the running server.

    clock: IReactorTime. hostname: gives our own name. run: for work that takes long, off the
    reactor's thread. localserve: mail of the domain localhost can be signed. random: as
    `secrets.randbelow`, for the sampling of DMARC. tree_walk: find organizational domains by
    DMARC records, not by the public suffix list.
    """

    def __init__(
        self,
        resolver: Resolver,
        clock: Any,
        hostname: Callable[[], Domain],
        *,
        run: Run = run_here,
        localserve: bool = False,
        random: Callable[[int], int] = secrets.randbelow,
        tree_walk: bool = False,
    ) -> None:
        self._resolver = resolver
        self._clock = clock
        self._hostname = hostname
        self._run = run
        self._policy = DKIMPolicy(localhost=localserve)
        self._random = random
        self._tree_walk = tree_walk

    async def authenticate(
        self,
        *,
        remote_ip: str,
        hello: IPDomain,
        mail_from: Path,
        message: MessageSource,
        cid: int,
        utf8: bool = False,
    ) -> AuthResults:
        """All checks. Raises nothing: what goes wrong is a result."""
        start = self._clock.seconds()
        steps = (
            self._start(
                "iprev",
                iprev.check(self._resolver, remote_ip, clock=self._clock, cid=cid),
                lambda why: IPRevResult("temperror", problem=why),
                cid,
            ),
            self._start(
                "spf",
                spf.check(
                    self._resolver,
                    clock=self._clock,
                    remote_ip=remote_ip,
                    mail_from=mail_from,
                    hello=hello,
                    local_hostname=self._hostname(),
                    cid=cid,
                ),
                lambda why: SPFResult("temperror", problem=why),
                cid,
            ),
            Deferred.fromCoroutine(self._signatures(message, cid)),
        )
        reverse = await steps[0]
        sender = await steps[1]
        count, signatures, chain = await steps[2]
        author = _author(message, count)
        policy = None
        if author is not None:
            policy = await self._dmarc(author.domain, sender, signatures, cid)
        try:
            results = self._results(
                remote_ip, hello, mail_from, utf8, reverse, sender, signatures, chain, author,
                policy,
            )  # fmt: skip
        except Exception as exc:  # noqa: BLE001 - mail must not depend on how results are written
            _log.failure("results of checks", exc, cid=cid)
            return AuthResults(evaluated=True, temporary=True)
        if _log.enabled(DEBUG):
            _log.debug(
                "message checked",
                cid=cid,
                iprev=reverse.status,
                spf=sender.status,
                dkim=",".join(each.status for each in signatures),
                arc=chain.status,
                dmarc=policy.status if policy is not None else "",
                validation=results.from_validation,
                duration=round(self._clock.seconds() - start, 3),
            )
        return results

    def _start(
        self,
        name: str,
        work: Coroutine[Deferred[Any], Any, T],
        failed: Callable[[str], T],
        cid: int,
        timeout: float = STEP_TIMEOUT,
    ) -> Deferred[T]:
        """Begin a check that ends in time and does not fail."""
        return Deferred.fromCoroutine(self._bounded(name, work, failed, cid, timeout))

    async def _bounded(
        self,
        name: str,
        work: Coroutine[Deferred[Any], Any, T],
        failed: Callable[[str], T],
        cid: int,
        timeout: float,
    ) -> T:
        deferred = Deferred.fromCoroutine(work)
        if not deferred.called and timeout:
            deferred.addTimeout(timeout, self._clock)
        try:
            return await deferred
        except TookTooLong:
            _log.info("check takes too long", cid=cid, check=name)
            return failed("timeout")
        except OSError as exc:
            _log.error("reading message for check", cid=cid, check=name, err=exc)
            return failed("message could not be read")
        except Exception as exc:  # noqa: BLE001 - a message is not refused for our bugs
            _log.failure("check of message", exc, cid=cid, unforeseen=True)
            return failed("internal error")

    async def _signatures(
        self, message: MessageSource, cid: int
    ) -> tuple[int, list[DKIMResult], ARCResult]:
        """The number of From fields, and what the signatures and the chain are worth."""

        async def read() -> SignedMessage | None:
            return await SignedMessage.open(message, self._run)

        opened = await self._bounded("dkim", read(), lambda why: None, cid, 0)
        if opened is None:
            return 0, [DKIMResult("temperror", "message could not be read")], NO_CHAIN
        now = int(self._clock.seconds())
        # Their lookups have their own bound of time; the rest is bounded by the message's size.
        dkim = self._start(
            "dkim",
            verify_dkim(
                self._resolver,
                opened,
                now,
                policy=self._policy,
                clock=self._clock,
                timeout=STEP_TIMEOUT,
            ),
            lambda why: [DKIMResult("temperror", why)],
            cid,
            timeout=0,
        )
        chain = self._start(
            "arc",
            validate(
                self._resolver, opened, now, clock=self._clock, timeout=STEP_TIMEOUT
            ),
            lambda why: ARCResult("fail", why, temporary=True),
            cid,
            timeout=0,
        )
        return opened.fields.count("From"), await dkim, await chain

    async def _dmarc(
        self, author: Domain, sender: SPFResult, signatures: Sequence[DKIMResult], cid: int
    ) -> DMARCResult:
        work = verify_dmarc(
            self._resolver,
            author,
            spf_status=sender.status,
            spf_domain=None if sender.domain.is_zero else sender.domain,
            dkim=signatures,
            random=self._random,
            tree_walk=self._tree_walk,
        )
        return await self._bounded(
            "dmarc",
            work,
            lambda why: DMARCResult("temperror", author, organizational(author), reason=why),
            cid,
            STEP_TIMEOUT,
        )

    def _results(
        self,
        remote_ip: str,
        hello: IPDomain,
        mail_from: Path,
        utf8: bool,
        reverse: IPRevResult,
        sender: SPFResult,
        signatures: list[DKIMResult],
        chain: ARCResult,
        author: Address | None,
        policy: DMARCResult | None,
    ) -> AuthResults:
        by_mail_from = sender.identity == "mailfrom"
        by_hello = sender.identity == "helo"
        methods = [
            iprev_method(reverse, remote_ip),
            *dkim_methods(signatures, utf8),
            spf_method(sender, mail_from, hello, utf8),
            dmarc_method(policy, utf8),
            *arc_methods(chain, remote_ip),
        ]
        statuses = [reverse.status, sender.status, *(each.status for each in signatures)]
        if policy is not None:
            statuses.append(policy.status)
        return AuthResults(
            evaluated=True,
            reverse_name=reverse.name,
            ehlo_validated=by_hello and sender.status == "pass",
            mail_from_validated=by_mail_from and sender.status == "pass",
            mail_from_status=sender.status if by_mail_from else "",
            ehlo_status=sender.status if by_hello else "",
            dkim_domains=tuple(
                dict.fromkeys(
                    each.domain.name
                    for each in signatures
                    if each.passed and each.domain is not None
                )
            ),
            from_validation=_validation(author, sender, signatures, policy),
            methods=tuple(methods),
            received_spf=spf.received_field(
                sender, remote_ip=remote_ip, hello=hello, local_hostname=self._hostname()
            ),
            author=author,
            iprev=reverse,
            spf=sender,
            dkim=tuple(signatures),
            dmarc=policy,
            arc=chain,
            temporary="temperror" in statuses or chain.temporary,
        )


def _author(message: MessageSource, from_fields: int) -> Address | None:
    """The one author of a message, or None (RFC 7489 6.6.1)."""
    found = message.parsed.from_
    if from_fields != 1 or len(found) != 1 or not found[0].domain:
        return None
    try:
        return Address(found[0].localpart, parse_domain(found[0].domain, strict=False))
    except DomainError:
        return None


def _validation(
    author: Address | None,
    sender: SPFResult,
    signatures: Sequence[DKIMResult],
    policy: DMARCResult | None,
) -> str:
    """How the author's domain is known to stand for the message."""
    if author is None:
        return "none"
    domains = {each.domain for each in signatures if each.passed and each.domain is not None}
    if sender.status == "pass" and not sender.domain.is_zero:
        domains.add(sender.domain)
    if author.domain in domains:
        return "strict"
    above = organizational(author.domain)
    if not any(
        each.is_within(above) and organizational(each) == above for each in domains
    ):
        return "none"
    return "dmarc" if policy is not None and policy.status == "pass" else "relaxed"


