"""Regular expressions of the configuration."""

from __future__ import annotations

import re
from dataclasses import dataclass


class RegexpError(ValueError):
    """An expression that does not compile."""


@dataclass(frozen=True, slots=True)
class Regexp:
    """A compiled expression."""

    pattern: str
    _compiled: re.Pattern[str]

    def search(self, text: str) -> bool:
        """Whether the expression matches anywhere in `text`."""
        return self._compiled.search(text) is not None


def compile_regexp(pattern: str) -> Regexp:
    """Compile an expression. Raises RegexpError."""
    try:
        return Regexp(pattern, re.compile(pattern))
    except (re.error, RecursionError, OverflowError) as exc:
        raise RegexpError(f"bad regular expression {pattern[:100]!r}: {exc}") from exc


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """Compile an expression of the admin, with groups. Raises RegexpError."""
    try:
        return re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as exc:
        raise RegexpError(f"bad regular expression {pattern[:100]!r}: {exc}") from exc


_REFERENCE = re.compile(r"\$(?:(\$)|\{([0-9A-Za-z_]+)\}|([0-9A-Za-z_]+))|\\")


def replacement_template(text: str, pattern: re.Pattern[str]) -> str:
    """A replacement with $1 and ${name} as template for `re.Match.expand`.

    References to groups that do not exist stand for nothing.
    """

    def convert(match: re.Match[str]) -> str:
        if match[0] == "\\":
            return "\\\\"
        if match[1]:
            return "$"
        name = match[2] or match[3]
        known = int(name) <= pattern.groups if name.isdigit() else name in pattern.groupindex
        return f"\\g<{name}>" if known else ""

    return _REFERENCE.sub(convert, text)
