"""Whether somebody else takes DMARC reports about a domain (RFC 7489 7.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from moxtw.authn.dmarcrecord import DMARCFormatError, DMARCRecord, parse_dmarc_record
from moxtw.dns.resolver import DNSError, NotFound, Resolver, TemporaryError, for_pkg, txt
from moxtw.mail.domain import Domain

_MAX_TEXTS: Final = 20


@dataclass(frozen=True, slots=True)
class Permission:
    """The answer: ``pass``, ``none``, or ``temperror`` if it cannot be known for now.

    records: those that give permission; their own addresses for reports count instead of those
    that were asked about, in the same domain.
    """

    status: Literal["pass", "none", "temperror"]
    records: tuple[DMARCRecord, ...] = ()
    authentic: bool = False
    reason: str = ""


async def permission(resolver: Resolver, about: Domain, taker: Domain) -> Permission:
    """Ask the domain that is to take reports. about: the domain that they are about."""
    name = f"{about.ascii}._report._dmarc.{taker.ascii}."
    try:
        answer = await txt(for_pkg(resolver, "dmarc"), name)
    except NotFound as exc:
        return Permission("none", authentic=exc.authentic, reason=f"no record at {name}")
    except TemporaryError as exc:
        return Permission("temperror", reason=str(exc))
    except DNSError as exc:
        return Permission("none", reason=str(exc))
    records = []
    for text in answer.records[:_MAX_TEXTS]:
        if text.strip() == "v=DMARC1":
            # Without the semicolon it is no record, but this is what some publish.
            records.append(DMARCRecord())
            continue
        try:
            records.append(parse_dmarc_record(text, need_policy=False))
        except DMARCFormatError:
            # Other texts may stand there as well.
            continue
    if not records:
        return Permission(
            "none", authentic=answer.authentic, reason=f"no DMARC record at {name}"
        )
    return Permission("pass", tuple(records), answer.authentic)
