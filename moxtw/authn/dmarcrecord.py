"""DMARC records: what a domain asks of those who receive mail in its name (RFC 7489 6.3)."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final, Literal

Policy = Literal["none", "quarantine", "reject"]

MAX_RECORD: Final = 8192
"""Characters of a record."""

_MAX_URIS: Final = 50
_START: Final = re.compile(r"[vV][ \t]*=[ \t]*DMARC1[ \t]*;")
_TAG: Final = re.compile(r"[ \t]*([A-Za-z0-9]+)[ \t]*=[ \t]*(.*)", re.DOTALL)
_NUMBER: Final = re.compile(r"[0-9]{1,10}")
_KEYWORD: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?")
_URI: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[!-~]+")
_SIZE: Final = re.compile(r"([0-9]{1,18})([kmgtKMGT]?)")
_POLICIES: Final = ("none", "quarantine", "reject")


class DMARCFormatError(ValueError):
    """Text that is no DMARC record. `claimed`: it begins as one does."""

    def __init__(self, text: str, claimed: bool) -> None:
        super().__init__(text)
        self.claimed = claimed


@dataclass(frozen=True, slots=True)
class ReportURI:
    """Where reports go (6.2): the URI, and the size in bytes that reports may have, 0 for any."""

    uri: str
    max_size: int = 0

    def __str__(self) -> str:
        return f"{self.uri}!{self.max_size}" if self.max_size else self.uri


@dataclass(frozen=True, slots=True)
class DMARCRecord:
    """A record, with the defaults of tags that are not there.

    policy, subdomain_policy (sp), nonexistent_policy (np, RFC 9091): the latter empty if not
    there. adkim, aspf: ``r`` relaxed, ``s`` strict. percent: of messages that the policy is for.
    rua, ruf: for aggregate and failure reports. interval: of aggregate reports, seconds.
    psd: ``y`` the domain is a public suffix, ``n`` it is an organizational domain, ``u`` not said;
    testing: the policy is not to be applied in full; both for the tree walk only.
    """

    policy: Policy = "none"
    subdomain_policy: Policy | Literal[""] = ""
    nonexistent_policy: Policy | Literal[""] = ""
    adkim: Literal["r", "s"] = "r"
    aspf: Literal["r", "s"] = "r"
    percent: int = 100
    rua: tuple[ReportURI, ...] = ()
    ruf: tuple[ReportURI, ...] = ()
    interval: int = 86400
    failure_options: tuple[str, ...] = ("0",)
    formats: tuple[str, ...] = ("afrf",)
    psd: Literal["y", "n", "u"] = "u"
    testing: bool = False


def parse_dmarc_record(text: str, *, need_policy: bool = True) -> DMARCRecord:
    """Parse the text of a record. Raises DMARCFormatError.

    need_policy: without a good policy it is no record, unless it asks for reports (6.6.3). The
    records that allow reports to others (7.1) need none.
    """
    start = _START.match(text)
    if start is None:
        raise DMARCFormatError("not a DMARC record", False)
    try:
        if len(text) > MAX_RECORD:
            raise _Bad("record is too long")
        return _parse(text[start.end() :], need_policy)
    except _Bad as exc:
        raise DMARCFormatError(str(exc), True) from exc


class _Bad(Exception):
    """What is wrong with a record."""


# Records of the same domains come by again and again. Bad ones are not remembered.
@lru_cache(maxsize=256)
def _parse(text: str, need_policy: bool) -> DMARCRecord:
    tags: dict[str, str] = {}
    for part in text.split(";"):
        if not part.strip(" \t"):
            continue
        match = _TAG.fullmatch(part)
        if match is None:
            raise _Bad("tag is not of the form name=value")
        name = match[1].lower()
        if name in tags:
            # Nothing is said of these; they can only confuse.
            raise _Bad(f"duplicate tag {name[:20]}")
        if name == "p" and tags:
            raise _Bad("p is not the first tag after v")
        tags[name] = match[2].rstrip(" \t")
    record = DMARCRecord()
    for name, parse in _PARSERS.items():
        if name in tags:
            record = parse(record, tags[name])
    if need_policy and not (
        tags.get("p", "").lower() in _POLICIES
        and all(tags[name].lower() in _POLICIES for name in ("sp", "np") if name in tags)
    ):
        if not record.rua:
            raise _Bad("no valid policy, and no address for reports")
        record = replace(record, policy="none", subdomain_policy="", nonexistent_policy="")
    return record


def _policy(field: str) -> Callable[[DMARCRecord, str], DMARCRecord]:
    def parse(record: DMARCRecord, value: str) -> DMARCRecord:
        if value.lower() not in _POLICIES:
            return record  # Judged at the end.
        return replace(record, **{field: value.lower()})  # type: ignore[arg-type]

    return parse


def _choice(field: str, choices: str) -> Callable[[DMARCRecord, str], DMARCRecord]:
    def parse(record: DMARCRecord, value: str) -> DMARCRecord:
        if len(value) != 1 or value.lower() not in choices:
            raise _Bad(f"unknown value of {field}")
        return replace(record, **{field: value.lower()})  # type: ignore[arg-type]

    return parse


def _number(field: str, most: int) -> Callable[[DMARCRecord, str], DMARCRecord]:
    def parse(record: DMARCRecord, value: str) -> DMARCRecord:
        if not _NUMBER.fullmatch(value) or int(value) > most:
            raise _Bad(f"bad number for {field}")
        return replace(record, **{field: int(value)})  # type: ignore[arg-type]

    return parse


def _words(field: str, pattern: re.Pattern[str]) -> Callable[[DMARCRecord, str], DMARCRecord]:
    def parse(record: DMARCRecord, value: str) -> DMARCRecord:
        words = tuple(word.strip(" \t").lower() for word in value.split(":"))
        if not all(map(pattern.fullmatch, words)):
            raise _Bad(f"bad word in {field}")
        return replace(record, **{field: words})  # type: ignore[arg-type]

    return parse


def _uris(field: str) -> Callable[[DMARCRecord, str], DMARCRecord]:
    def parse(record: DMARCRecord, value: str) -> DMARCRecord:
        texts = [each.strip(" \t") for each in value.split(",")]
        if len(texts) > _MAX_URIS:
            raise _Bad(f"too many addresses in {field}")
        return replace(record, **{field: tuple(map(_uri, texts))})  # type: ignore[arg-type]

    return parse


def _uri(text: str) -> ReportURI:
    uri, mark, size = text.partition("!")
    if not _URI.fullmatch(uri):
        raise _Bad("bad URI for reports")
    if not mark:
        return ReportURI(uri)
    match = _SIZE.fullmatch(size)
    if match is None:
        raise _Bad("bad size for reports")
    unit = " kmgt".index(match[2].lower() or " ")
    return ReportURI(uri, int(match[1]) * 1024**unit)


def _testing(record: DMARCRecord, value: str) -> DMARCRecord:
    if value.lower() not in ("y", "n"):
        raise _Bad("unknown value of t")
    return replace(record, testing=value.lower() == "y")


_PARSERS: Final[dict[str, Callable[[DMARCRecord, str], DMARCRecord]]] = {
    "p": _policy("policy"),
    "sp": _policy("subdomain_policy"),
    "np": _policy("nonexistent_policy"),
    "adkim": _choice("adkim", "rs"),
    "aspf": _choice("aspf", "rs"),
    "pct": _number("percent", 100),
    "rua": _uris("rua"),
    "ruf": _uris("ruf"),
    "ri": _number("interval", 2**32 - 1),
    "fo": _words("failure_options", re.compile("[01ds]")),
    "rf": _words("formats", _KEYWORD),
    "psd": _choice("psd", "ynu"),
    "t": _testing,
}
