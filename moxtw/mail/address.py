"""Mail addresses and SMTP paths (RFC 5321 4.1.2, RFC 6531 3.3).

A localpart is kept decoded (no quotes, no backslashes) and in Unicode normalisation form C,
and is quoted again where it is written. `Address` is a localpart at a domain name; `Path`, as
in SMTP's MAIL and RCPT, may also have an address literal for a domain, or be empty.
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NewType

from moxtw.mail.domain import MAX_DOMAIN, Domain, DomainError, parse_domain

Localpart = NewType("Localpart", str)
"""A decoded localpart. Functions here take and return plain str, for convenience."""

MAX_LOCALPART: Final = 128
"""Octets (UTF-8) of a localpart: generated bounce addresses pass RFC 5321's 64."""

MAX_LOCALPART_STRICT: Final = 64
"""Octets of a localpart, RFC 5321 4.5.3.1.1."""

MAX_PATH: Final = 256
"""Octets of a path with its angle brackets, RFC 5321 4.5.3.1.3."""

# RFC 5322 3.2.3 atext; RFC 6531 3.3 adds what is beyond ASCII. C1 control characters and lone
# surrogates (undecodable input) are never text.
_HIGH = "\u00a0-\ud7ff\ue000-\U0010ffff"
_ATEXT = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~" + _HIGH + r"-]+"
_DOT_STRING: Final = re.compile(rf"{_ATEXT}(?:\.{_ATEXT})*")
# RFC 5321 4.1.2: qtextSMTP and quoted-pairSMTP.
_QUOTED: Final = re.compile(rf'"((?:[ !#-\[\]-~{_HIGH}]|\\[ -~])*)"')
_QUOTED_PAIR: Final = re.compile(r"\\(.)")
_TO_QUOTE: Final = re.compile(r'["\\]')
_QUOTABLE: Final = re.compile(rf"[ -~{_HIGH}]*")
_DOMAIN_TEXT: Final = re.compile(rf"[A-Za-z0-9._{_HIGH}-]+")
_LITERAL: Final = re.compile(r"\[([A-Za-z0-9:.-]{1,60})\]")


class AddressError(ValueError):
    """Text that is no address, path or localpart; the message says why."""


@dataclass(frozen=True, slots=True)
class Address:
    """A localpart (decoded, NFC) at a domain."""

    localpart: str
    domain: Domain

    def pack(self, utf8: bool = True) -> str:
        """The address as text, localpart quoted if needed, domain in Unicode if `utf8`.

        A non-ASCII localpart has no other form: check `needs_utf8` where ASCII is a must.
        """
        return f"{format_localpart(self.localpart)}@{self.domain.form(utf8)}"

    @property
    def needs_utf8(self) -> bool:
        """Whether the address cannot be written in ASCII."""
        return not self.localpart.isascii()

    @property
    def path(self) -> Path:
        """The same as a path."""
        return Path(self.localpart, IPDomain(domain=self.domain))

    def __str__(self) -> str:
        return self.pack()


@dataclass(frozen=True, slots=True)
class IPDomain:
    """Where mail goes: an IP address (from a literal) or a domain, or neither.

    `ip` is in canonical text form: dotted quad, or compressed lower-case IPv6.
    """

    ip: str | None = None
    domain: Domain | None = None

    @property
    def is_ip(self) -> bool:
        """Whether this is an address literal."""
        return self.ip is not None

    @property
    def is_zero(self) -> bool:
        """Whether this is neither address nor domain."""
        return self.ip is None and (self.domain is None or self.domain.is_zero)

    def form(self, utf8: bool = True) -> str:
        """Domain name, or literal as in SMTP (`[1.2.3.4]`, `[IPv6:::1]`); empty if zero."""
        if self.ip is not None:
            return address_literal(self.ip)
        return self.domain.form(utf8) if self.domain is not None else ""

    @property
    def name(self) -> str:
        """Name for storage and comparison: the Unicode domain, or `[ip]`."""
        if self.ip is not None:
            return f"[{self.ip}]"
        return self.domain.name if self.domain is not None else ""

    @property
    def log_name(self) -> str:
        """Like `form`, with both forms of an internationalised domain."""
        if self.domain is not None:
            return self.domain.log_name
        return self.form()

    def __str__(self) -> str:
        return self.form()


@dataclass(frozen=True, slots=True)
class Path:
    """Reverse-path or forward-path, without source route.

    The zero value is the null reverse-path `<>`. A localpart without domain is SMTP's special
    `<postmaster>` (RFC 5321 4.1.1.3).
    """

    localpart: str = ""
    ipdomain: IPDomain = IPDomain()

    @property
    def is_zero(self) -> bool:
        """Whether this is the null path."""
        return not self.localpart and self.ipdomain.is_zero

    @property
    def needs_utf8(self) -> bool:
        """Whether the path cannot be written in ASCII."""
        return not self.localpart.isascii()

    @property
    def address(self) -> Address | None:
        """The same as an address, or None for literals, `<postmaster>` and the null path."""
        domain = self.ipdomain.domain
        return None if domain is None or domain.is_zero else Address(self.localpart, domain)

    def form(self, utf8: bool = True) -> str:
        """The path without angle brackets; the null path is empty."""
        if self.is_zero:
            return ""
        localpart = format_localpart(self.localpart)
        if self.ipdomain.is_zero:
            return localpart
        return f"{localpart}@{self.ipdomain.form(utf8)}"

    def wire(self, utf8: bool = True) -> str:
        """The path as in MAIL, RCPT, Return-Path: within angle brackets."""
        return f"<{self.form(utf8)}>"

    @property
    def log_name(self) -> str:
        """Like `form`, with both forms of an internationalised domain."""
        if self.is_zero or self.ipdomain.is_zero:
            return self.form()
        return f"{format_localpart(self.localpart)}@{self.ipdomain.log_name}"

    def __str__(self) -> str:
        return self.form()


def address_literal(ip: str) -> str:
    """An IP address as SMTP writes it in place of a domain, RFC 5321 4.1.3."""
    return f"[IPv6:{ip}]" if ":" in ip else f"[{ip}]"


def normalise(text: str) -> str:
    """Unicode normalisation form C (RFC 6532 3.1)."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def format_localpart(localpart: str) -> str:
    """A localpart as in an address: a dot-string, or quoted where it cannot be one."""
    if _DOT_STRING.fullmatch(localpart):
        return localpart
    return '"' + _TO_QUOTE.sub(r"\\\g<0>", localpart) + '"'


def pack_address(localpart: str, domain_name: str) -> str:
    """Localpart (decoded) and domain as one text; without domain just the localpart."""
    packed = format_localpart(localpart)
    return f"{packed}@{domain_name}" if domain_name else packed


def parse_localpart(text: str, *, strict: bool = False) -> str:
    """Decode a localpart, dot-string or quoted, given alone. Raises AddressError."""
    localpart, end = scan_localpart(text, 0, strict=strict)
    if end != len(text):
        raise AddressError("unexpected text after localpart")
    return localpart


def check_localpart(localpart: str, *, strict: bool = False) -> str:
    """Normalise and check a localpart that is decoded already. Raises AddressError."""
    localpart = normalise(localpart)
    limit = MAX_LOCALPART_STRICT if strict else MAX_LOCALPART
    if len(localpart) > limit:
        raise AddressError(f"localpart longer than {limit} octets")
    if not _QUOTABLE.fullmatch(localpart):
        raise AddressError("character not allowed in localpart")
    # The check above has excluded surrogates, so that this encodes.
    if len(localpart.encode()) > limit:
        raise AddressError(f"localpart longer than {limit} octets")
    return localpart


def scan_localpart(text: str, start: int, *, strict: bool = False) -> tuple[str, int]:
    """Decode the localpart that begins at `start`; return it and where it ends.

    Raises AddressError.
    """
    if text.startswith('"', start):
        match = _QUOTED.match(text, start)
        if match is None:
            raise AddressError("invalid quoted localpart")
        localpart = match[1]
        if "\\" in localpart:
            localpart = _QUOTED_PAIR.sub(r"\1", localpart)
    else:
        match = _DOT_STRING.match(text, start)
        if match is None:
            raise AddressError("missing or invalid localpart")
        localpart = match[0]
    return check_localpart(localpart, strict=strict), match.end()


def scan_ipdomain(text: str, start: int, *, strict: bool = False) -> tuple[IPDomain, int]:
    """Parse the domain or address literal that begins at `start`; return it and where it ends.

    strict: no underscores in names, IPv6 literals only with their tag. Raises AddressError.
    """
    if text.startswith("[", start):
        match = _LITERAL.match(text, start)
        if match is None:
            raise AddressError("invalid address literal")
        return IPDomain(ip=_literal_ip(match[1], strict)), match.end()
    match = _DOMAIN_TEXT.match(text, start)
    if match is None:
        raise AddressError("missing or invalid domain")
    try:
        return IPDomain(domain=parse_domain(match[0], strict)), match.end()
    except DomainError as exc:
        raise AddressError(str(exc)) from exc


def _literal_ip(text: str, strict: bool) -> str:
    """The canonical form of what stands within the brackets of an address literal."""
    try:
        if text[:5].lower() == "ipv6:":
            return str(ipaddress.IPv6Address(text[5:]))
        if ":" in text and not strict:  # The tag is forgotten often.
            return str(ipaddress.IPv6Address(text))
        return str(ipaddress.IPv4Address(text))
    except ValueError as exc:
        raise AddressError("invalid IP address in address literal") from exc


def parse_ipdomain(text: str, *, strict: bool = False) -> IPDomain:
    """Parse a domain or address literal given alone. Raises AddressError."""
    ipdomain, end = scan_ipdomain(text, 0, strict=strict)
    if end != len(text):
        raise AddressError("unexpected text after domain")
    return ipdomain


def scan_mailbox(text: str, start: int, *, strict: bool = False) -> tuple[Path, int]:
    """Parse `localpart@domain-or-literal` at `start`; return it and where it ends.

    RFC 5321 4.1.2 Mailbox. Raises AddressError.
    """
    localpart, pos = scan_localpart(text, start, strict=strict)
    if not text.startswith("@", pos):
        raise AddressError("missing @ after localpart")
    ipdomain, pos = scan_ipdomain(text, pos + 1, strict=strict)
    return Path(localpart, ipdomain), pos


def scan_path(
    text: str,
    start: int = 0,
    *,
    strict: bool = False,
    null: bool = False,
    postmaster: bool = False,
    limit: int | None = None,
) -> tuple[Path, int]:
    """Parse a path in angle brackets at `start`; return it and the place behind its `>`.

    A source route (`<@a,@b:user@c>`, RFC 5321 appendix C) is parsed and dropped.

    null: accept `<>`.
    postmaster: accept `<postmaster>` without domain, in any case.
    limit: largest number of octets with brackets, e.g. `MAX_PATH`.

    Raises AddressError.
    """
    if not text.startswith("<", start):
        raise AddressError("missing < before path")
    if null and text.startswith("<>", start):
        return Path(), start + 2
    pos = start + 1
    if text.startswith("@", pos):
        pos = _scan_source_route(text, pos, strict)
    elif postmaster and text[pos : pos + 11].lower() == "postmaster>":
        return Path(text[pos : pos + 10]), pos + 11
    path, pos = scan_mailbox(text, pos, strict=strict)
    if not text.startswith(">", pos):
        raise AddressError("missing > after path")
    pos += 1
    if limit is not None and len(text[start:pos].encode()) > limit:
        raise AddressError(f"path longer than {limit} octets")
    return path, pos


def _scan_source_route(text: str, pos: int, strict: bool) -> int:
    """Skip `@domain,@domain:` and return the place behind the colon."""
    while True:
        if not text.startswith("@", pos):
            raise AddressError("missing @ in source route")
        _, pos = scan_ipdomain(text, pos + 1, strict=strict)
        separator = text[pos : pos + 1]
        if separator not in (",", ":") or not separator:
            raise AddressError("missing : after source route")
        pos += 1
        if separator == ":":
            return pos


def parse_path(text: str, *, strict: bool = False) -> Path:
    """Parse a path or address given alone, with or without angle brackets.

    `<>` and empty text are the null path. Raises AddressError.
    """
    if not text:
        return Path()
    if text.startswith("<"):
        path, end = scan_path(text, strict=strict, null=True)
    else:
        path, end = scan_mailbox(text, 0, strict=strict)
    if end != len(text):
        raise AddressError("unexpected text after address")
    return path


def parse_address(text: str, *, strict: bool = False) -> Address:
    """Parse `localpart@domain` given alone; address literals are refused.

    Raises AddressError.
    """
    path, end = scan_mailbox(text, 0, strict=strict)
    if end != len(text):
        raise AddressError("unexpected text after address")
    address = path.address
    if address is None:
        raise AddressError("address literal in place of a domain")
    return address


def base_address(localpart: str, domain_name: str) -> str:
    """The address under which delivery problems of all its variants are remembered.

    Cut at the first "+", then at the first "-", dots removed, lower-case: what common
    providers ignore in localparts.
    """
    base = localpart.partition("+")[0].partition("-")[0].replace(".", "").lower()
    return pack_address(normalise(base), domain_name)


def canonical_localpart(
    localpart: str,
    *,
    case_sensitive: bool = False,
    separators: Sequence[str] = (),
    reserved: Iterable[str] = (),
) -> str:
    """The localpart under which a domain knows an address.

    Lower-case unless `case_sensitive`; then cut at the first occurrence of each of the
    domain's catchall `separators`, in their order. A localpart of `reserved` (where reports
    arrive), alone or before a separator, is kept whole even if it holds a separator.
    """
    if not case_sensitive:
        localpart = normalise(localpart.lower())
    for name in reserved:
        if localpart == name or any(localpart.startswith(name + sep) for sep in separators if sep):
            return name
    for separator in separators:
        if separator:
            # A leading separator is no separator: nothing would be left.
            cut = localpart.find(separator)
            if cut > 0:
                localpart = localpart[:cut]
    return localpart


def localpart_suffix(localpart: str, separators: Sequence[str]) -> str:
    """What follows the first occurrence of the first of `separators`, or empty."""
    if not separators or not separators[0]:
        return ""
    return localpart.partition(separators[0])[2]


__all__ = [
    "MAX_DOMAIN",
    "MAX_LOCALPART",
    "MAX_LOCALPART_STRICT",
    "MAX_PATH",
    "Address",
    "AddressError",
    "IPDomain",
    "Localpart",
    "Path",
    "address_literal",
    "base_address",
    "canonical_localpart",
    "check_localpart",
    "format_localpart",
    "localpart_suffix",
    "normalise",
    "pack_address",
    "parse_address",
    "parse_ipdomain",
    "parse_localpart",
    "parse_path",
    "scan_ipdomain",
    "scan_localpart",
    "scan_mailbox",
    "scan_path",
]
