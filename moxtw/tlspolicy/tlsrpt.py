"""How TLS with other domains goes, and where they want that reported (RFC 8460)."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final
from urllib.parse import urlsplit

from moxtw import metrics
from moxtw.dns.resolver import NotFound, Resolver, TemporaryError, txt
from moxtw.net.tlsalerts import alert

STS: Final = "sts"
TLSA: Final = "tlsa"
NO_POLICY: Final = "no-policy-found"

STARTTLS_NOT_SUPPORTED: Final = "starttls-not-supported"
VALIDATION_FAILURE: Final = "validation-failure"
TLSA_INVALID: Final = "tlsa-invalid"
DNSSEC_INVALID: Final = "dnssec-invalid"

MAX_DETAILS: Final = 100
"""Different failures of a policy that are told apart; more are counted only."""

_TEXT_LIMIT: Final = 255
_MAX_URIS: Final = 20


class RecordError(ValueError):
    """No valid TLSRPT record: why. ``text``: of the one that was found, empty if none."""

    def __init__(self, reason: str, text: str = "") -> None:
        super().__init__(reason)
        self.text = text


@dataclass(frozen=True, slots=True)
class Record:
    """A TXT record: the URIs that reports go to. extensions: further fields, in order.

    uris: the values of each ``rua`` field, in order.
    """

    uris: tuple[tuple[str, ...], ...]
    extensions: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        fields = ["v=TLSRPTv1", *(f"rua={','.join(uris)}" for uris in self.uris)]
        fields += [f"{name}={value}" for name, value in self.extensions]
        return "; ".join(fields) + ";"


async def lookup(resolver: Resolver, domain: str) -> tuple[Record, str]:
    """The record of a domain (ASCII) and its text. Raises RecordError and DNSError.

    That there is no such name is a RecordError, too.
    """
    begun = time.monotonic()
    result = "error"
    try:
        answer = await txt(resolver, f"_smtp._tls.{domain}.")
        found = find_record(answer.records)
        result = "ok"
    except NotFound:
        result = "notfound"
        raise RecordError("no tlsrpt record") from None
    except TemporaryError:
        result = "temporary"
        raise
    except RecordError as exc:
        result = "malformed" if exc.text else "notfound"
        raise
    finally:
        metrics.tlsrpt_lookup_duration_seconds.labels(result).observe(time.monotonic() - begun)
    return found, _texts(answer.records)[0]


def _texts(texts: Iterable[str]) -> list[str]:
    return [text for text in texts if re.match(r"v=TLSRPTv1[ \t]*(;|$)", text)]


def find_record(texts: Iterable[str]) -> Record:
    """The record among the TXT records of ``_smtp._tls.<domain>`` (RFC 8460 3).

    Raises RecordError when there is none, more than one, or a bad one.
    """
    found = _texts(texts)
    if not found:
        raise RecordError("no tlsrpt record")
    if len(found) > 1:
        raise RecordError("more than one tlsrpt record", found[0])
    try:
        return parse_record(found[0])
    except RecordError as exc:
        raise RecordError(str(exc), found[0]) from None


def parse_record(text: str) -> Record:
    """Parse one record. Raises RecordError."""
    fields = text.split(";")
    if fields[0].rstrip(" \t") != "v=TLSRPTv1":
        raise RecordError("does not start with v=TLSRPTv1")
    if len(fields) > 1 and not fields[-1].strip(" \t"):
        fields.pop()
    uris: list[tuple[str, ...]] = []
    extensions: list[tuple[str, str]] = []
    for each in fields[1:]:
        name, equals, value = each.strip(" \t").partition("=")
        if not equals or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}", name):
            raise RecordError(f"bad field {each.strip()[:80]!r}")
        if name == "rua":
            uris.append(tuple(_uri(uri.strip(" \t")) for uri in value.split(",")))
        else:
            extensions.append((name, value))
    if not uris:
        raise RecordError("no rua")
    if sum(map(len, uris)) > _MAX_URIS:
        raise RecordError("too many addresses for reports")
    return Record(tuple(uris), tuple(extensions))


def _uri(text: str) -> str:
    """A URI that reports can go to. Raises RecordError."""
    # RFC 8460 3: commas, exclamation points and semicolons must be encoded.
    if not re.fullmatch(r"[\x21-\x7e]+", text) or "!" in text:
        raise RecordError(f"bad uri {text[:80]!r}")
    try:
        parts = urlsplit(text)
        host = parts.hostname
    except ValueError:
        raise RecordError(f"bad uri {text[:80]!r}") from None
    scheme = parts.scheme.lower()
    if scheme == "mailto":
        if "@" not in parts.path:
            raise RecordError(f"bad address {text[:80]!r}")
    elif scheme != "https" or not host:
        raise RecordError(f"neither a mailto nor an https uri: {text[:80]!r}")
    return text


def dns_reason(exc: BaseException) -> str:
    """The reason code of a failed lookup, by its extended error (RFC 8914); empty without."""
    if isinstance(exc, TemporaryError) and exc.extended is not None:
        return f"dns-extended-error-{exc.extended_name}"
    return ""


@dataclass(frozen=True, slots=True)
class Failure:
    """What sessions that failed in the same way have in common (RFC 8460 4.4).

    reason: the failure-reason-code. more: the URI of additional information.
    """

    result_type: str
    sending_mta_ip: str = ""
    receiving_mx_hostname: str = ""
    receiving_mx_helo: str = ""
    receiving_ip: str = ""
    reason: str = ""
    more: str = ""

    def to_json(self, count: int) -> dict[str, Any]:
        """As in a report; fields without value are left out."""
        found: dict[str, Any] = {"result-type": self.result_type}
        for name, value in (
            ("sending-mta-ip", self.sending_mta_ip),
            ("receiving-mx-hostname", self.receiving_mx_hostname),
            ("receiving-mx-helo", self.receiving_mx_helo),
            ("receiving-ip", self.receiving_ip),
        ):
            if value:
                found[name] = value
        found["failed-session-count"] = count
        if self.more:
            found["additional-information"] = self.more
        if self.reason:
            found["failure-reason-code"] = self.reason
        return found

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Failure:
        """The inverse of `to_json`, but for the count."""
        return cls(
            str(data.get("result-type", "")),
            str(data.get("sending-mta-ip", "")),
            str(data.get("receiving-mx-hostname", "")),
            str(data.get("receiving-mx-helo", "")),
            str(data.get("receiving-ip", "")),
            str(data.get("failure-reason-code", "")),
            str(data.get("additional-information", "")),
        )


@dataclass(slots=True)
class Result:
    """How sessions under one policy went.

    policy_type: one of the constants above. domain: the policy's, in ASCII. strings: the
    policy itself; mx_hosts: its patterns. failures: sessions by kind, which need not be as many
    as `failure`: what is only noticed counts there, too.
    """

    policy_type: str
    domain: str
    strings: tuple[str, ...] = ()
    mx_hosts: tuple[str, ...] = ()
    success: int = 0
    failure: int = 0
    failures: dict[Failure, int] = field(default_factory=dict)

    @property
    def policy(self) -> tuple[str, str, tuple[str, ...], tuple[str, ...]]:
        """What tells one policy from another."""
        return self.policy_type, self.domain, self.strings, self.mx_hosts

    def note(self, failure: Failure, count: int = 1) -> None:
        """Count a kind of failure."""
        failure = replace(failure, reason=failure.reason[:_TEXT_LIMIT])
        if failure in self.failures or len(self.failures) < MAX_DETAILS:
            self.failures[failure] = self.failures.get(failure, 0) + count

    def merge(self, other: Result) -> None:
        """Add what another result of the same policy counted."""
        self.success += other.success
        self.failure += other.failure
        for failure, count in other.failures.items():
            self.note(failure, count)

    def to_json(self) -> dict[str, Any]:
        """As in a report (RFC 8460 4.4)."""
        policy: dict[str, Any] = {
            "policy-type": self.policy_type,
            "policy-domain": self.domain,
        }
        if self.strings:
            policy["policy-string"] = list(self.strings)
        if self.mx_hosts:
            policy["mx-host"] = list(self.mx_hosts)
        found: dict[str, Any] = {
            "policy": policy,
            "summary": {
                "total-successful-session-count": self.success,
                "total-failure-session-count": self.failure,
            },
        }
        if self.failures:
            found["failure-details"] = [
                failure.to_json(count) for failure, count in self.failures.items()
            ]
        return found

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Result:
        """The inverse of `to_json`. Raises KeyError, TypeError, ValueError."""
        policy, summary = data["policy"], data["summary"]
        return cls(
            policy["policy-type"],
            policy["policy-domain"],
            tuple(policy.get("policy-string", ())),
            tuple(policy.get("mx-host", ())),
            int(summary["total-successful-session-count"]),
            int(summary["total-failure-session-count"]),
            {
                Failure.from_json(each): int(each["failed-session-count"])
                for each in data.get("failure-details", ())
            },
        )


def merged(results: Iterable[Result]) -> list[Result]:
    """Results with those of the same policy made one."""
    found: dict[object, Result] = {}
    for result in results:
        known = found.get(result.policy)
        if known is None:
            found[result.policy] = replace(result, failures=dict(result.failures))
        else:
            known.merge(result)
    return list(found.values())


def tls_reason(texts: Sequence[str]) -> str:
    """The reason code for what OpenSSL says of an error: each text one of its reasons.

    An alert of the peer's has its number and name; other errors are ours.
    """
    for text in texts:
        found = alert(text.strip().lower())
        if found is not None:
            return "tls-remote-" + found
    if texts:
        return "tls-local-error-" + re.sub(r"[^a-z0-9]+", "-", texts[-1].lower()).strip("-")
    return ""
