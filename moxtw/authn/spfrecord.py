"""SPF records: the grammar of RFC 7208 12, strictly, and back to text."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from moxtw.authn import spfmacro
from moxtw.authn.spfmacro import MacroError, MacroString

MAX_RECORD: Final = 8192
"""Characters of a record. RFC 7208 3.4 wants it to fit into 512 octets of UDP."""

IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

_MODIFIER: Final = re.compile(r"([A-Za-z][A-Za-z0-9_.-]*)=(.*)", re.DOTALL)
_DIRECTIVE: Final = re.compile(r"([+?~-]?)([A-Za-z][A-Za-z0-9_.-]*)(.*)", re.DOTALL)
# domain-end of a literal text: "." toplabel [ "." ]. A toplabel is alphanumeric with a letter,
# or has a hyphen within.
_DOMAIN_END: Final = re.compile(
    r"\.(?![0-9]*\.?\Z)[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?\.?\Z"
)
_LAST_PIECE: Final = 256
_NUMBER: Final = r"(0|[1-9][0-9]{0,2})"
_DUAL_CIDR: Final = re.compile(rf"(?:/{_NUMBER})?(?://{_NUMBER})?\Z")
_CIDR: Final = re.compile(rf"/{_NUMBER}\Z")
_OCTET: Final = r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_IP4: Final = re.compile(rf"{_OCTET}(?:\.{_OCTET}){{3}}")
_IP6: Final = re.compile(r"[0-9A-Fa-f:.]{2,45}")


class RecordError(ValueError):
    """Text that is no valid SPF record; the message says why."""


@dataclass(frozen=True, slots=True)
class DomainSpec:
    """A domain-spec: its text, and that parsed into literal texts and macros."""

    text: str
    parts: MacroString

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Directive:
    """A mechanism with its qualifier.

    qualifier: one of ``+-~?``, also where the record leaves "+" out.
    mechanism: name in lower case.
    domain: the domain-spec, if there is one.
    network: of ip4 and ip6. The address as written is the text's.
    ip4_prefix, ip6_prefix: of a and mx, None where not given.
    text: the mechanism with its parameters, without qualifier.
    """

    qualifier: str
    mechanism: str
    text: str
    domain: DomainSpec | None = None
    network: IPNetwork | None = None
    ip4_prefix: int | None = None
    ip6_prefix: int | None = None

    def __str__(self) -> str:
        return (self.qualifier if self.qualifier != "+" else "") + self.text


@dataclass(frozen=True, slots=True)
class Modifier:
    """A modifier that means nothing to SPF; it is kept (RFC 7208 6)."""

    name: str
    value: str

    def __str__(self) -> str:
        return f"{self.name}={self.value}"


@dataclass(frozen=True, slots=True)
class Record:
    """A record: directives in order, and modifiers."""

    directives: tuple[Directive, ...] = ()
    redirect: DomainSpec | None = None
    exp: DomainSpec | None = None
    others: tuple[Modifier, ...] = ()

    def __str__(self) -> str:
        """The record as text, in normal form: modifiers last, lower-case names."""
        terms = ["v=spf1", *map(str, self.directives)]
        if self.redirect is not None:
            terms.append(f"redirect={self.redirect}")
        if self.exp is not None:
            terms.append(f"exp={self.exp}")
        return " ".join([*terms, *map(str, self.others)])


def is_record(text: str) -> bool:
    """Whether a TXT record claims to be SPF's, RFC 7208 4.5."""
    return text[:6].lower() == "v=spf1" and text[6:7] in ("", " ")


def parse_record(text: str) -> Record:
    """Parse a record. Raises RecordError."""
    # What many domains share, such as records of large providers, comes by again and again.
    return _parse_short(text) if len(text) <= 1024 else _parse(text)


def _parse(text: str) -> Record:
    if not is_record(text):
        raise RecordError("record does not begin with v=spf1")
    if len(text) > MAX_RECORD:
        raise RecordError(f"record longer than {MAX_RECORD} characters")
    directives: list[Directive] = []
    known: dict[str, DomainSpec] = {}
    others: list[Modifier] = []
    # Only the blank parts terms, RFC 7208 4.6.1; other white space falls to the checks of terms.
    for term in text[6:].split(" "):
        if not term:
            continue
        if (match := _MODIFIER.fullmatch(term)) is None:
            directives.append(_directive(term))
            continue
        name, value = match[1], match[2]
        if (key := name.lower()) not in ("redirect", "exp"):
            try:
                spfmacro.parse(value)
            except MacroError as exc:
                raise RecordError(f"modifier {_show(name)}: {exc}") from exc
            others.append(Modifier(name, value))
        elif key in known:  # RFC 7208 6: at most once each.
            raise RecordError(f"modifier {key} more than once")
        else:
            known[key] = _domain_spec(value, key)
    return Record(tuple(directives), known.get("redirect"), known.get("exp"), tuple(others))


_parse_short = lru_cache(maxsize=256)(_parse)


def _show(text: str) -> str:
    """A piece of a record for a message."""
    return repr(text if len(text) <= 64 else text[:61] + "...")


def _directive(term: str) -> Directive:
    match = _DIRECTIVE.fullmatch(term)
    name = match[2].lower() if match is not None else ""
    if match is None or name not in _MECHANISMS:
        raise RecordError(f"unknown term {_show(term)}")
    qualifier, rest = match[1] or "+", match[3]
    if name in ("ip4", "ip6"):
        return _address(qualifier, name, rest)
    prefixes: tuple[int | None, int | None] = (None, None)
    text = name + rest
    if name in ("a", "mx"):
        rest, *prefixes_found = _dual_cidr(rest, term)
        prefixes = (prefixes_found[0], prefixes_found[1])
    if not rest and name not in ("include", "exists"):
        return Directive(qualifier, name, text, None, None, *prefixes)
    if not rest.startswith(":") or name == "all":
        raise RecordError(f"bad parameters in {_show(term)}")
    return Directive(qualifier, name, text, _domain_spec(rest[1:], name), None, *prefixes)


_MECHANISMS: Final = frozenset(("all", "include", "a", "mx", "ptr", "ip4", "ip6", "exists"))


def _dual_cidr(rest: str, term: str) -> tuple[str, int | None, int | None]:
    """Take the prefix lengths off the end, RFC 7208 5.3."""
    # They are a few characters: the search begins near the end.
    match = _DUAL_CIDR.search(rest, max(0, len(rest) - 9))
    if match is None or (match[1] is None and match[2] is None):
        return rest, None, None
    four, six = (int(number) if number else None for number in match.groups())
    if (four is not None and four > 32) or (six is not None and six > 128):
        raise RecordError(f"prefix length too large in {_show(term)}")
    return rest[: match.start()], four, six


def _address(qualifier: str, name: str, rest: str) -> Directive:
    """``ip4`` or ``ip6``, RFC 7208 5.6."""
    width, pattern = (32, _IP4) if name == "ip4" else (128, _IP6)
    address = rest[1:]
    prefix = width
    if (match := _CIDR.search(address, max(0, len(address) - 4))) is not None:
        prefix, address = int(match[1]), address[: match.start()]
    if not rest.startswith(":") or not pattern.fullmatch(address) or prefix > width:
        raise RecordError(f"bad network in {_show(name + rest)}")
    network: IPNetwork
    try:
        if name == "ip4":
            network = ipaddress.IPv4Network((address, prefix), strict=False)
        else:
            network = ipaddress.IPv6Network((address, prefix), strict=False)
    except ValueError as exc:
        raise RecordError(f"bad network in {_show(name + rest)}") from exc
    return Directive(qualifier, name, name + rest, network=network)


def _domain_spec(text: str, name: str) -> DomainSpec:
    """Parse a domain-spec, RFC 7208 7.1: it ends in a top label or in a macro."""
    try:
        parts = spfmacro.parse(text, spfmacro.LETTERS)
    except MacroError as exc:
        raise RecordError(f"{name}: {exc}") from exc
    if not parts:
        raise RecordError(f"{name}: empty domain")
    if (
        isinstance(parts[-1], str)
        and not _ends_in_escape(text)
        and not _DOMAIN_END.search(text, max(0, len(text) - _LAST_PIECE))
    ):
        raise RecordError(f"{name}: bad end of domain {_show(text)}")
    return DomainSpec(text, parts)


def _ends_in_escape(text: str) -> bool:
    """Whether the end is one of ``%%``, ``%_``, ``%-``, which are macros too."""
    if text.endswith("%"):
        return True  # or it would not have been parsed
    before = text[:-1]
    return text[-1] in "_-" and (len(before) - len(before.rstrip("%"))) % 2 == 1
