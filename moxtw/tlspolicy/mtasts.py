"""MTA-STS: what a domain says of TLS to its hosts (RFC 8461): records, policies, matching."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from moxtw.mail.domain import DomainError, parse_domain

MAX_POLICY_SIZE: Final = 64 * 1024
"""Bytes of a policy (RFC 8461 3.3)."""

MAX_AGE: Final = 31_557_600
"""Seconds that a policy can be kept at most (RFC 8461 3.2)."""

_MAX_HOSTS: Final = 1000

_ID: Final = re.compile(r"[A-Za-z0-9]{1,32}")
_EXTENSION: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}")
_EXTENSION_VALUE: Final = re.compile(r"[\x21-\x3a\x3c\x3e-\x7e]+")
_MODES: Final = ("enforce", "testing", "none")


class RecordError(ValueError):
    """No valid record of MTA-STS: why."""


class PolicyError(ValueError):
    """Not a valid policy: why."""


@dataclass(frozen=True, slots=True)
class Record:
    """A TXT record: `id` changes with the policy. extensions: further fields, in order."""

    id: str
    extensions: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        fields = (("v", "STSv1"), ("id", self.id), *self.extensions)
        return "; ".join(f"{name}={value}" for name, value in fields) + ";"


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy. mode: ``enforce``, ``testing`` or ``none``; max_age: seconds.

    mx: A-labels in lower case, with ``*.`` in front where any one label may stand there.
    extensions: further fields, in order.
    """

    mode: str
    max_age: int
    mx: tuple[str, ...] = ()
    extensions: tuple[tuple[str, str], ...] = ()

    def matches(self, host: str) -> bool:
        """Whether a host (A-labels) is one of the policy's (RFC 8461 4.1)."""
        host = host.lower().removesuffix(".")
        parent = "*." + host.partition(".")[2]
        return any(pattern in (host, parent) for pattern in self.mx)

    def __str__(self) -> str:
        lines = ["version: STSv1", f"mode: {self.mode}", f"max_age: {self.max_age}"]
        lines += [f"mx: {pattern}" for pattern in self.mx]
        lines += [f"{name}: {value}" for name, value in self.extensions]
        return "\n".join(lines) + "\n"


def find_record(texts: Iterable[str]) -> Record:
    """The record among the TXT records of ``_mta-sts.<domain>`` (RFC 8461 3.1).

    Raises RecordError when there is none, more than one, or a bad one.
    """
    found = [text for text in texts if re.match(r"v=STSv1[ \t]*(;|$)", text)]
    if not found:
        raise RecordError("no mta-sts record")
    if len(found) > 1:
        raise RecordError("more than one mta-sts record")
    return parse_record(found[0])


def parse_record(text: str) -> Record:
    """Parse one record. Raises RecordError."""
    fields = text.split(";")
    if fields[0].rstrip(" \t") != "v=STSv1":
        raise RecordError("does not start with v=STSv1")
    if len(fields) > 1 and not fields[-1].strip(" \t"):
        fields.pop()
    values: dict[str, str] = {}
    for field in fields[1:]:
        name, equals, value = field.strip(" \t").partition("=")
        if not equals or not _EXTENSION.fullmatch(name):
            raise RecordError(f"bad field {field.strip()[:80]!r}")
        if name == "id":
            if "id" not in values and not _ID.fullmatch(value):
                raise RecordError(f"bad id {value[:80]!r}")
        elif not _EXTENSION_VALUE.fullmatch(value):
            raise RecordError(f"bad value of field {name!r}")
        values.setdefault(name, value)
    if "id" not in values:
        raise RecordError("no id")
    record_id = values.pop("id")
    return Record(record_id, tuple(values.items()))


def parse_policy(data: bytes) -> Policy:
    """Parse a policy as it was fetched (RFC 8461 3.2). Raises PolicyError."""
    if len(data) > MAX_POLICY_SIZE:
        raise PolicyError("policy is too large")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise PolicyError("policy is not UTF-8") from None
    lines = text.split("\n")
    if not lines[-1].strip():
        lines.pop()
    values: dict[str, str] = {}
    hosts: dict[str, None] = {}
    for line in lines:
        name, colon, value = line.removesuffix("\r").partition(":")
        name, value = name.rstrip(" \t"), value.strip(" \t")
        if not colon or not _EXTENSION.fullmatch(name):
            raise PolicyError(f"bad line {line.strip()[:80]!r}")
        if not value.isprintable():
            raise PolicyError(f"bad value of field {name!r}")
        if name == "mx":
            hosts.setdefault(_pattern(value))
        else:
            values.setdefault(name, value)
    if len(hosts) > _MAX_HOSTS:
        raise PolicyError("too many hosts")
    if values.pop("version", "") != "STSv1":
        raise PolicyError("no version STSv1")
    mode = values.pop("mode", "")
    if mode not in _MODES:
        raise PolicyError(f"bad mode {mode[:80]!r}")
    age = values.pop("max_age", "")
    if not re.fullmatch(r"[0-9]{1,10}", age, re.ASCII):
        raise PolicyError(f"bad max_age {age[:80]!r}")
    if mode != "none" and not hosts:
        raise PolicyError("no hosts")
    return Policy(mode, int(age), tuple(hosts), tuple(values.items()))


def _pattern(value: str) -> str:
    """A host or a pattern of hosts, in lower case."""
    name = value.removeprefix("*.")
    try:
        if not name.isascii():
            # RFC 8461 3.2: hosts are given as A-labels.
            raise DomainError("not ascii")
        name = parse_domain(name.removesuffix("."), strict=False).ascii
    except DomainError:
        raise PolicyError(f"bad host {value[:80]!r}") from None
    return ("*." if value.startswith("*.") else "") + name
