"""What DMARC said of a message, as the domain of the policy wants to be told (RFC 7489 7.2)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from moxtw.authn import AuthResults
from moxtw.authn.dmarc import DMARCResult, organizational
from moxtw.authn.dmarcrecord import DMARCRecord
from moxtw.authn.dmarcreport import DKIMAuth, Published, Reason, Row, SPFAuth
from moxtw.inbound.envelope import Envelope
from moxtw.mail.address import Path
from moxtw.store.dmarcdb import NewEvaluation

# Hours that reports can cover; each divides the day.
_INTERVALS: Final = (24, 12, 8, 6, 4, 3, 2, 1)


def interval_hours(seconds: int) -> int:
    """The hours that a report covers, for the ``ri`` of a record."""
    hours = max(math.ceil(seconds / 3600), 1)
    return next(each for each in _INTERVALS if each <= hours)


def wanted(result: DMARCResult | None) -> bool:
    """Whether the domain of the policy wants reports."""
    return (
        result is not None
        and result.record is not None
        and result.record_domain is not None
        and bool(result.record.rua)
    )


def evaluation(
    auth: AuthResults,
    envelope: Envelope,
    recipient: Path,
    *,
    accepted: bool,
    overrides: Sequence[str],
    optional: bool,
) -> NewEvaluation:
    """The evaluation for a recipient; only where one is `wanted`."""
    result = auth.dmarc
    assert result is not None and result.record is not None and result.record_domain is not None
    record = result.record
    reasons = [*overrides, *(["sampled_out"] if result.sampled_out and result.reject else [])]
    mail_from = envelope.mail_from.ipdomain.domain
    to = recipient.ipdomain.domain
    return NewEvaluation(
        policy_domain=result.record_domain.name,
        optional=optional,
        interval_hours=interval_hours(record.interval),
        addresses=tuple(str(uri) for uri in record.rua),
        published=published(result.record_domain.ascii, record),
        row=Row(
            source_ip=envelope.remote_ip,
            disposition="none" if accepted else "reject",
            dkim="pass" if result.dkim_aligned else "fail",
            spf="pass" if result.spf_aligned else "fail",
            reasons=tuple(Reason(each) for each in dict.fromkeys(reasons)),
            envelope_to="" if to is None else to.ascii,
            envelope_from="" if mail_from is None else mail_from.ascii,
            header_from=result.author.ascii,
            dkim_results=_signatures(auth, result),
            spf_results=_spf(auth, envelope),
        ),
    )


def published(domain: str, record: DMARCRecord) -> Published:
    """What a domain publishes, for a report."""
    return Published(
        domain=domain,
        adkim=record.adkim,
        aspf=record.aspf,
        policy=record.policy,
        subdomain_policy=record.subdomain_policy,
        percentage=record.percent,
        reporting_options=":".join(record.failure_options),
    )


def _signatures(auth: AuthResults, result: DMARCResult) -> tuple[DKIMAuth, ...]:
    """Signatures of the author's organization; others are none of its business."""
    return tuple(
        DKIMAuth(
            each.domain.ascii,
            "" if each.selector is None else each.selector.ascii,
            each.status,
            each.reason[:200],
        )
        for each in auth.dkim
        if each.domain is not None and organizational(each.domain) == result.organizational
    )


def _spf(auth: AuthResults, envelope: Envelope) -> tuple[SPFAuth, ...]:
    spf = auth.spf
    if spf is None:
        return ()
    domain = spf.domain.ascii
    if not domain:
        named = envelope.mail_from.ipdomain.domain or envelope.hello.domain
        domain = "" if named is None else named.ascii
    scope = "helo" if spf.identity == "helo" else "mfrom"
    return (SPFAuth(domain, scope, spf.status),)
