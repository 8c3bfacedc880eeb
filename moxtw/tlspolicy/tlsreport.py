"""Reports on how TLS went (RFC 8460 4.4): reading and writing their JSON.

Reports of others are read leniently, with bounds on what is kept of them.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from moxtw.mail.attachedreport import ReportError
from moxtw.tlspolicy.tlsrpt import MAX_DETAILS, Failure, Result

_MAX_TEXT: Final = 1000
_MAX_POLICIES: Final = 1000
_MAX_STRINGS: Final = 100
_MAX_COUNT: Final = (1 << 53) - 1

RESULT_TYPES: Final = frozenset(
    (
        "starttls-not-supported",
        "certificate-host-mismatch",
        "certificate-expired",
        "certificate-not-trusted",
        "validation-failure",
        "tlsa-invalid",
        "dnssec-invalid",
        "dane-required",
        "sts-policy-fetch-error",
        "sts-policy-invalid",
        "sts-webpki-invalid",
    )
)
"""The result types of RFC 8460 4.3."""


@dataclass(frozen=True, slots=True)
class Report:
    """A report. start, end: seconds since the epoch, UTC. policies: with the results of each."""

    organization: str
    start: int
    end: int
    contact: str
    report_id: str
    policies: tuple[Result, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As it is sent."""
        return {
            "organization-name": self.organization,
            "date-range": {
                "start-datetime": _date(self.start),
                "end-datetime": _date(self.end),
            },
            "contact-info": self.contact,
            "report-id": self.report_id,
            "policies": [policy.to_json() for policy in self.policies],
        }

    @property
    def success(self) -> int:
        """Sessions that went well."""
        return sum(policy.success for policy in self.policies)

    @property
    def failure(self) -> int:
        """Sessions that did not."""
        return sum(policy.failure for policy in self.policies)

    def types(self) -> dict[str, int]:
        """How many sessions failed in each way; unknown ones together as ``other``."""
        counts: dict[str, int] = {}
        for policy in self.policies:
            for failure, count in policy.failures.items():
                kind = failure.result_type if failure.result_type in RESULT_TYPES else "other"
                counts[kind] = counts.get(kind, 0) + count
        return counts


def _date(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def encode_report(report: Report) -> bytes:
    """A report as JSON."""
    return json.dumps(report.to_json(), ensure_ascii=False, indent="\t").encode() + b"\n"


def parse_report(data: bytes) -> Report:
    """Read a report. Raises ReportError."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as exc:
        raise ReportError(f"json: {str(exc)[:100]}") from None
    if not isinstance(value, dict):
        raise ReportError("json: no object")
    dates = _mapping(value.get("date-range"))
    policies = _sequence(value.get("policies"))
    if not policies:
        raise ReportError("no policies")
    if len(policies) > _MAX_POLICIES:
        raise ReportError("too many policies")
    return Report(
        organization=_text(value.get("organization-name")),
        start=_time(dates.get("start-datetime")),
        end=_time(dates.get("end-datetime")),
        contact=_text(value.get("contact-info")),
        report_id=_text(value.get("report-id")),
        policies=tuple(_result(_mapping(each)) for each in policies),
    )


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _sequence(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else []


def _text(value: Any) -> str:
    # A lone surrogate cannot be stored.
    return value[:_MAX_TEXT].encode("utf-8", "replace").decode() if isinstance(value, str) else ""


def _strings(value: Any) -> tuple[str, ...]:
    # Some write one string in place of a list.
    found = [value] if isinstance(value, str) else _sequence(value)
    return tuple(_text(each) for each in found[:_MAX_STRINGS] if isinstance(each, str))


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return 0
    if isinstance(value, float) and not math.isfinite(value):
        return 0
    return min(max(int(value), 0), _MAX_COUNT)


def _time(value: Any) -> int:
    """Seconds since the epoch; a time without zone is taken for UTC. Raises ReportError."""
    text = _text(value)
    if not re.match(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ]", text):
        raise ReportError(f"bad time {text[:40]!r}")
    try:
        found = datetime.fromisoformat(text.upper())
        if found.tzinfo is None:
            found = found.replace(tzinfo=UTC)
        return int(found.timestamp())
    except (ValueError, OverflowError):
        raise ReportError(f"bad time {text[:40]!r}") from None


def _result(value: Mapping[str, Any]) -> Result:
    policy, summary = _mapping(value.get("policy")), _mapping(value.get("summary"))
    result = Result(
        _text(policy.get("policy-type")),
        _text(policy.get("policy-domain")),
        _strings(policy.get("policy-string")),
        _strings(policy.get("mx-host")),
        _count(summary.get("total-successful-session-count")),
        _count(summary.get("total-failure-session-count")),
    )
    for each in _sequence(value.get("failure-details"))[:MAX_DETAILS]:
        details = _mapping(each)
        failure = Failure(
            _text(details.get("result-type")),
            _text(details.get("sending-mta-ip")),
            _text(details.get("receiving-mx-hostname")),
            _text(details.get("receiving-mx-helo")),
            _text(details.get("receiving-ip")),
            _text(details.get("failure-reason-code")),
            _text(details.get("additional-information")),
        )
        result.note(failure, _count(details.get("failed-session-count")))
    return result
