"""The packages that this program is made of, as they are installed, and their licenses."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from typing import Any, Final, NamedTuple

# A requirement's name and extras, and the extra that it is for (PEP 508).
_REQUIRED: Final = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[([^\]]*)\])?")
_EXTRA: Final = re.compile(r"extra\s*==\s*['\"]([^'\"]+)['\"]")
_OWN_EXTRAS: Final = frozenset(("postgresql",))
_FILES: Final = re.compile(r"(?:^|/)(?:LICEN[CS]E|COPYING|NOTICE|AUTHORS)[^/]*$", re.IGNORECASE)
_MAX_TEXT: Final = 200_000


class Package(NamedTuple):
    """license: as the package names it; texts: names and contents of its license files."""

    name: str
    version: str
    license: str
    texts: tuple[tuple[str, str], ...]


def needed(name: str) -> Iterator[Package]:
    """A package and all that it needs, and these need, that is installed; by name behind it."""
    seen: dict[str, Distribution] = {}
    followed: set[tuple[str, frozenset[str]]] = set()
    waiting = [(name, _OWN_EXTRAS)]
    while waiting:
        wanted, extras = waiting.pop()
        key = re.sub(r"[-_.]+", "-", wanted).lower()
        if (key, extras) in followed:
            continue
        followed.add((key, extras))
        try:
            found = seen[key] = distribution(wanted)
        except PackageNotFoundError:
            continue  # For another system or version of Python, or an extra.
        for requirement in found.requires or ():
            match = _REQUIRED.match(requirement)
            of_extra = _EXTRA.search(requirement.partition(";")[2])
            if match is not None and (of_extra is None or of_extra[1] in extras):
                more = (each.strip() for each in (match[2] or "").split(","))
                waiting.append((match[1], frozenset(each for each in more if each)))
    first = next(iter(seen), None)
    for key in sorted(seen, key=lambda key: (key != first, key)):
        yield _package(seen[key])


def _package(found: Distribution) -> Package:
    meta: Any = found.metadata
    classified = [
        value.rpartition(" :: ")[2]
        for value in meta.get_all("Classifier") or ()
        if value.startswith("License ::")
    ]
    named = meta.get("License-Expression") or meta.get("License") or ""
    # Some have the whole text there.
    named = named if named and "\n" not in named.strip() else ", ".join(classified) or "see below"
    texts = []
    for path in found.files or ():
        if _FILES.search(str(path)) and path.suffix not in (".py", ".pyc", ".so"):
            texts.append((path.name, path.read_text(encoding="utf-8")[:_MAX_TEXT]))
    return Package(meta["Name"], found.version, named.strip(), tuple(texts))
