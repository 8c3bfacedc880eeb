"""Domain names, in ASCII and Unicode form (IDNA2008, RFC 5890 to 5893).

Names come in from configuration, protocols and DNS; inside the program a name is a `Domain`,
lower-case, whose two forms are checked once, here. Address literals are no names: see
`moxtw.mail.address.IPDomain`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import idna

MAX_LABEL: Final = 63
"""Octets of a label, RFC 1035 2.3.4."""

MAX_DOMAIN: Final = 255
"""Octets of a name, RFC 5321 4.5.3.1.2."""

# RFC 5321 4.1.2: sub-domain = Let-dig [Ldh-str]. Hyphens in places 3 and 4 exist in DNS.
_LABEL: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?")
_LABEL_LAX: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?")


class DomainError(ValueError):
    """Text that is no domain name; the message says why."""


@dataclass(frozen=True, slots=True)
class Domain:
    """A domain name, lower-case, without trailing dot.

    `ascii` is the form for DNS and for protocols without UTF-8: letters, digits, hyphens,
    A-labels. `unicode` is the form with U-labels, or empty when it would not differ.
    The zero value `Domain()` stands for "no domain".
    """

    ascii: str = ""
    unicode: str = ""

    @property
    def name(self) -> str:
        """The name for people and for storage: Unicode when there is one, else ASCII."""
        return self.unicode or self.ascii

    @property
    def is_zero(self) -> bool:
        """Whether there is no name."""
        return not self.ascii

    def form(self, utf8: bool) -> str:
        """The name for a protocol that allows UTF-8, or does not."""
        return self.unicode or self.ascii if utf8 else self.ascii

    @property
    def log_name(self) -> str:
        """Both forms, `unicode/ascii`, where they differ: for logs, against lookalikes."""
        return f"{self.unicode}/{self.ascii}" if self.unicode else self.ascii

    def is_within(self, parent: Domain) -> bool:
        """Whether this name is `parent` or below it."""
        return self.ascii == parent.ascii or self.ascii.endswith("." + parent.ascii)

    def __str__(self) -> str:
        return self.name


@lru_cache(maxsize=8192)
def parse_domain(text: str, strict: bool = True, *, absolute: bool = False) -> Domain:
    """Make a `Domain` of text in ASCII or Unicode form, in any case.

    Unicode is mapped by UTS 46 (non-transitional: "ß" stays) and checked by IDNA2008.

    strict: hostnames only. Otherwise labels may hold underscores (DNS has them, some hosts
        announce themselves with one) and A-labels that decode to nothing valid stay as they are.
    absolute: accept one trailing dot, as names in DNS data have; without it a trailing dot is
        an error, as mail addresses have none (RFC 5321 2.3.5).

    Raises DomainError.
    """
    if absolute and text.endswith("."):
        text = text[:-1]
    if not text:
        raise DomainError("empty domain name")
    if len(text) > MAX_DOMAIN:  # An A-label is never shorter than its U-label.
        raise DomainError(f"domain name longer than {MAX_DOMAIN} octets")
    label_pattern = _LABEL if strict else _LABEL_LAX
    if text.isascii():
        mapped = text.lower()
    else:
        try:
            mapped = idna.uts46_remap(text, std3_rules=False)
        except (idna.IDNAError, UnicodeError) as exc:
            raise DomainError(f"invalid internationalised domain name: {exc}") from exc
    if mapped.endswith("."):
        raise DomainError("trailing dot in domain name")
    ascii_labels = []
    unicode_labels = []
    international = False
    for label in mapped.split("."):
        a_label = u_label = label
        if label.isascii():
            if not label_pattern.fullmatch(label):
                raise DomainError(_label_problem(label))
            if label.startswith("xn--"):
                try:
                    u_label = idna.ulabel(label)
                except (idna.IDNAError, UnicodeError) as exc:
                    if strict:
                        raise DomainError(f"invalid A-label {label!r}: {exc}") from exc
        else:
            try:
                a_label = idna.alabel(label).decode("ascii")
            except (idna.IDNAError, UnicodeError) as exc:
                raise DomainError(f"invalid label {label!r}: {exc}") from exc
        if len(a_label) > MAX_LABEL:
            raise DomainError(f"label longer than {MAX_LABEL} octets in domain name")
        international = international or a_label != u_label
        ascii_labels.append(a_label)
        unicode_labels.append(u_label)
    ascii_name = ".".join(ascii_labels)
    if len(ascii_name) > MAX_DOMAIN:
        raise DomainError(f"domain name longer than {MAX_DOMAIN} octets")
    return Domain(ascii_name, ".".join(unicode_labels) if international else "")


def _label_problem(label: str) -> str:
    """Why an ASCII label does not match."""
    if not label:
        return "empty label in domain name"
    if label.startswith("-") or label.endswith("-"):
        return f"label {label!r} starts or ends with a hyphen"
    if "_" in label:
        return f"underscore in label {label!r}"
    return f"character not allowed in label {label!r}"
