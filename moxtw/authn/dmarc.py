"""DMARC: whether the author's domain stands for a message, and what it asks if not (RFC 7489).

The organizational domain, under which names belong together, comes from the public suffix list;
or, with `tree_walk`, from the records themselves, as the revision of DMARC has it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final, Literal

from moxtw import metrics
from moxtw.authn.dkim import DKIMResult
from moxtw.authn.dmarcrecord import (
    DMARCFormatError,
    DMARCRecord,
    Policy,
    parse_dmarc_record,
)
from moxtw.dns.publicsuffix import organizational_domain
from moxtw.dns.resolver import DNSError, NotFound, NXDomain, Resolver, for_pkg
from moxtw.mail.domain import Domain, DomainError, parse_domain

Status = Literal["none", "pass", "fail", "temperror", "permerror"]

# Texts of a name that are looked at.
_MAX_TEXTS: Final = 20
# Queries of a tree walk.
_MAX_WALK: Final = 8
# Signing domains that are compared by tree walk.
_MAX_WALKED_DOMAINS: Final = 5


@dataclass(frozen=True, slots=True)
class Found:
    """The record that a domain is subject to, or why there is none.

    status: ``none`` also with a record; ``temperror``, ``permerror``. domain: where the record
    stands. organizational: the organizational domain of the domain asked about. authentic: DNSSEC
    vouches for the answers.
    """

    status: Status
    domain: Domain
    organizational: Domain
    record: DMARCRecord | None = None
    text: str = ""
    authentic: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True)
class DMARCResult:
    """What was found about a message, with all that a report tells of it (7.2).

    status: of RFC 8601 2.7.1. author: the domain of the From field. record, record_domain,
    record_text: what was published, and where; None and empty without. policy: what is asked for
    messages of this author that fail; `policy_tag` says by which tag. use: by sampling, the
    policy is to be applied to this message. spf_aligned, dkim_aligned: passed, in a domain that
    belongs with the author's. authentic: DNSSEC vouches for the record, or that there is none.
    """

    status: Status
    author: Domain
    organizational: Domain
    record: DMARCRecord | None = None
    record_domain: Domain | None = None
    record_text: str = ""
    policy: Policy = "none"
    policy_tag: Literal["", "p", "sp", "np"] = ""
    use: bool = False
    spf_aligned: bool = False
    dkim_aligned: bool = False
    aligned_dkim: tuple[Domain, ...] = ()
    authentic: bool = False
    reason: str = ""

    @property
    def reject(self) -> bool:
        """Whether the domain asks to refuse the message; quarantine counts as that."""
        return self.status == "fail" and self.policy != "none"

    @property
    def apply_reject(self) -> bool:
        """The same, for the share of messages that the domain asks it for."""
        return self.reject and self.use

    @property
    def sampled_out(self) -> bool:
        """Whether sampling spared the message."""
        return self.record is not None and not self.use


async def lookup_record(resolver: Resolver, domain: Domain) -> Found:
    """The record of exactly this domain (6.6.3)."""
    name = f"_dmarc.{domain.ascii}."
    found = Found("none", domain, domain)
    try:
        answer = await for_pkg(resolver, "dmarc").lookup(name, "TXT")
    except NotFound as exc:
        return replace(found, authentic=exc.authentic, reason="no record")
    except DNSError as exc:
        return replace(found, status="temperror", reason=f"looking up record: {exc.text}")
    found = replace(found, authentic=answer.authentic, reason="no record")
    record: DMARCRecord | None = None
    for text in list(answer.records)[:_MAX_TEXTS]:
        try:
            parsed = parse_dmarc_record(text)
        except DMARCFormatError as exc:
            if exc.claimed:
                return replace(found, status="permerror", reason=f"bad record: {exc}")
            continue
        if record is not None:
            return replace(found, record=None, text="", reason="several records")
        record = parsed
        found = replace(found, record=record, text=text, reason="")
    return found


def organizational(domain: Domain) -> Domain:
    """The organizational domain by the public suffix list (3.2)."""
    name = organizational_domain(domain.name)
    if name == domain.name:
        return domain
    try:
        return parse_domain(name, strict=False)
    except DomainError:  # A suffix of a domain is one; but lists are made by people.
        return domain


async def lookup(resolver: Resolver, domain: Domain, *, tree_walk: bool = False) -> Found:
    """The record that mail of a domain is subject to: its own, or the organizational domain's."""
    if tree_walk:
        return await _Walker(resolver).policy(domain)
    above = organizational(domain)
    own = replace(await lookup_record(resolver, domain), organizational=above)
    if own.status != "none" or own.record is not None or above == domain:
        return own
    return replace(await lookup_record(resolver, above), organizational=above)


async def verify(
    resolver: Resolver,
    author: Domain,
    *,
    spf_status: str,
    spf_domain: Domain | None,
    dkim: Iterable[DKIMResult],
    random: Callable[[int], int],
    sample: bool = True,
    tree_walk: bool = False,
) -> DMARCResult:
    """Evaluate a message (6.6.2).

    author: the domain of its From field. spf_domain: what SPF was evaluated for. random: gives
    a number from 0 up to, but without, its argument, for the sampling (6.6.4), if `sample`.
    """
    start = time.monotonic()
    walker = _Walker(resolver) if tree_walk else None
    found = await (walker.policy(author) if walker else lookup(resolver, author))
    result = DMARCResult(
        found.status,
        author,
        found.organizational,
        record_domain=found.domain,
        authentic=found.authentic,
        reason=found.reason,
    )
    if found.record is not None:
        result = await _evaluate(
            resolver, result, found, walker, spf_status, spf_domain, list(dkim)
        )
        percent = found.record.percent
        # The revision has no sampling any more.
        use = not sample or walker is not None or percent == 100 or random(100) < percent
        result = replace(result, use=use)
    metrics.dmarc_verify_duration_seconds.labels(
        result.status, "yes" if result.reject else "no", "yes" if result.use else "no"
    ).observe(time.monotonic() - start)
    return result


async def _evaluate(
    resolver: Resolver,
    result: DMARCResult,
    found: Found,
    walker: _Walker | None,
    spf_status: str,
    spf_domain: Domain | None,
    dkim: list[DKIMResult],
) -> DMARCResult:
    record, author = found.record, result.author
    assert record is not None
    result = replace(result, record=record, record_text=found.text)
    known: dict[Domain, bool] = {}

    async def relaxed(domain: Domain) -> bool:
        """Whether a domain belongs with the author's."""
        if domain == author:
            return True
        if not domain.is_within(result.organizational):
            return False
        if walker is None:
            return organizational(domain) == result.organizational
        if domain not in known:
            if len(known) >= _MAX_WALKED_DOMAINS:
                return False
            known[domain] = await walker.organizational(domain) == result.organizational
        return known[domain]

    async def aligned(domain: Domain | None, mode: str) -> bool:
        if domain is None:
            return False
        return domain == author if mode == "s" else await relaxed(domain)

    # Only what would be aligned counts, so that nobody gets around a policy by adding a
    # signature of a domain of his own whose key cannot be looked up.
    temporary = False
    if spf_status in ("pass", "temperror") and await aligned(spf_domain, record.aspf):
        result = replace(result, spf_aligned=spf_status == "pass")
        temporary = spf_status == "temperror"
    good: dict[Domain, None] = {}
    for each in dkim:
        if each.status in ("pass", "temperror") and await aligned(each.domain, record.adkim):
            assert each.domain is not None
            if each.passed:
                good[each.domain] = None
            else:
                temporary = True
    result = replace(result, dkim_aligned=bool(good), aligned_dkim=tuple(good))
    passed = result.spf_aligned or bool(good)
    policy: Policy = record.policy
    tag: Literal["p", "sp", "np"] = "p"
    if found.domain != author:
        if not passed and record.nonexistent_policy and not await _exists(resolver, author):
            policy, tag = record.nonexistent_policy, "np"
        elif record.subdomain_policy:
            policy, tag = record.subdomain_policy, "sp"
    if walker is not None and record.testing:
        policy = "quarantine" if policy == "reject" else "none"
    status: Status = "fail"
    reason = "neither SPF nor DKIM passed for the domain of the author"
    if passed:
        status, reason = "pass", ""
    elif temporary:
        status, reason = "temperror", "SPF or DKIM could not be checked for now"
    return replace(result, policy=policy, policy_tag=tag, status=status, reason=reason)


async def _exists(resolver: Resolver, domain: Domain) -> bool:
    """Whether a domain is there, as far as mail is concerned (RFC 9091 2.7)."""
    resolver = for_pkg(resolver, "dmarc")
    for rtype in ("MX", "A", "AAAA"):
        try:
            await resolver.lookup(domain.ascii + ".", rtype)
        except NXDomain:
            return False
        except NotFound:
            continue
        except DNSError:
            return True  # It is not known to be missing.
        return True
    return False


class _Walker:
    """The tree walk: up from a domain, to see where records stand, each looked up once."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self._known: dict[str, Found] = {}

    async def _lookup(self, domain: Domain) -> Found:
        found = self._known.get(domain.ascii)
        if found is None:
            found = self._known[domain.ascii] = await lookup_record(self._resolver, domain)
        return found

    async def _walk(self, domain: Domain) -> list[Found]:
        """The answers from the domain upwards, to where a record ends the walk."""
        walked: list[Found] = []
        current: Domain | None = domain
        while current is not None and len(walked) < _MAX_WALK:
            found = await self._lookup(current)
            walked.append(found)
            if found.status == "temperror" or (
                found.record is not None and found.record.psd in ("y", "n")
            ):
                break
            current = _parent(current)
        return walked

    @staticmethod
    def _organizational(domain: Domain, walked: list[Found]) -> Domain:
        found = [each for each in walked if each.record is not None]
        if not found:
            return domain
        last = found[-1]
        assert last.record is not None
        if last.record.psd == "y" and last.domain != domain:
            return _below(domain, last.domain)
        return last.domain

    async def organizational(self, domain: Domain) -> Domain:
        """The organizational domain of a domain."""
        return self._organizational(domain, await self._walk(domain))

    async def policy(self, domain: Domain) -> Found:
        """The record of a domain: its own, the organizational domain's, or the suffix's."""
        walked = await self._walk(domain)
        above = self._organizational(domain, walked)
        own = walked[0]
        if own.record is not None or own.status != "none":
            return replace(own, organizational=above)
        for each in walked:
            if each.status == "temperror" or (
                each.record is not None and each.domain == above
            ):
                return replace(each, organizational=above)
        last = walked[-1]
        if last.record is not None and last.record.psd == "y":
            return replace(last, organizational=above)
        return replace(own, organizational=above)


def _parent(domain: Domain) -> Domain | None:
    """The next domain of a walk: a label less, or seven labels for long names."""
    labels = domain.ascii.split(".")
    rest = labels[-7:] if len(labels) > 8 else labels[1:]
    return parse_domain(".".join(rest), strict=False) if rest else None


def _below(domain: Domain, suffix: Domain) -> Domain:
    """The name one label below a suffix of a domain."""
    count = suffix.ascii.count(".") + 2
    return parse_domain(".".join(domain.ascii.split(".")[-count:]), strict=False)
