"""Versions, and the DNS record that announces the latest one.

It is a TXT record at ``_updates.<domain>``, such as ``v=UPDATES0; l=v1.2.3``: fields with ";"
between them, of which ``v`` comes first; unknown ones are ignored.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, NamedTuple

# What stands behind the numbers (a commit, a kind of release) does not count.
_VERSION: Final = re.compile(r"v?([0-9]{1,9})\.([0-9]{1,9})\.([0-9]{1,9})(?:[-+.a-z].*)?")


class RecordError(ValueError):
    """No record that can be used; the message says why."""


class Version(NamedTuple):
    """A version; later ones are greater."""

    major: int = 0
    minor: int = 0
    patch: int = 0

    def __str__(self) -> str:
        return f"v{self.major}.{self.minor}.{self.patch}"


def parse_version(text: str) -> Version:
    """A version: three numbers, perhaps with a "v" in front. Raises ValueError."""
    match = _VERSION.fullmatch(text)
    if match is None:
        raise ValueError(f"bad version {text[:50]!r}")
    return Version(*map(int, match.groups()))


def find_record(texts: Iterable[str]) -> Version:
    """The latest version by the TXT records of a name. Raises RecordError."""
    found = [text for text in texts if _is_ours(text)]
    if not found:
        raise RecordError("no record about updates")
    if len(found) > 1:
        raise RecordError("several records about updates")
    latest: Version | None = None
    seen = set()
    for field in found[0].rstrip("; ").split(";")[1:]:
        name, equals, value = field.strip().partition("=")
        name = name.lower()
        if not equals:
            raise RecordError(f"field {name[:50]!r} without value")
        if name in seen:
            raise RecordError(f"field {name[:50]!r} twice")
        seen.add(name)
        if name == "l":
            try:
                latest = parse_version(value)
            except ValueError as exc:
                raise RecordError(str(exc)) from exc
    if latest is None:
        raise RecordError("no latest version in the record about updates")
    return latest


def _is_ours(text: str) -> bool:
    name, _, value = text.partition(";")[0].strip().partition("=")
    return name == "v" and value.upper() == "UPDATES0"
