"""Patterns of LIST and LSUB (RFC 9051 6.3.9): ``*`` matches anything, ``%`` all but ``/``.

The pattern runs as a set of states over the name, held in the bits of one integer, so that no
pattern costs more than a step for each character of the name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

SEPARATOR: Final = "/"


def join(reference: str, pattern: str) -> str | None:
    """Reference and pattern as one pattern, joined like a path; None if it cannot match.

    No name starts with the separator, so neither does a pattern that matches.
    """
    if pattern.startswith(SEPARATOR):
        return None
    if reference and pattern and not reference.endswith(SEPARATOR):
        return reference + SEPARATOR + pattern
    return reference + pattern


def compile(pattern: str) -> Callable[[str], bool]:  # noqa: A001
    """A function that says whether the whole of a mailbox name matches `pattern`.

    The first element of a name matches without regard to case if it is Inbox (RFC 9051 5.1).
    """
    if pattern == "*":
        return lambda name: True
    literals: dict[str, int] = {}
    stars = percents = length = fixed = 0
    last = ""
    for c in pattern:
        if c in "*%":
            if last == "*" or (last == "%" and c == "%"):
                continue  # a run of wildcards is as good as its widest
            if last == "%":
                percents &= ~(1 << (length - 1))
                stars |= 1 << (length - 1)
                last = c
                continue
            if c == "*":
                stars |= 1 << length
            else:
                percents |= 1 << length
        else:
            literals[c] = literals.get(c, 0) | 1 << length
            fixed += 1
        last = c
        length += 1
    wild = stars | percents
    accept = 1 << length
    get = literals.get

    def matches(name: str) -> bool:
        if fixed > len(name):
            return False
        any_case = 5 if name == "Inbox" or name.startswith("Inbox/") else 0
        # Bit n: the first n elements of the pattern have matched. A wildcard may match nothing.
        states = 1 | (1 & wild) << 1
        for index, c in enumerate(name):
            literal = get(c, 0)
            if index < any_case:
                literal |= get(c.swapcase(), 0)
            stay = stars if c == SEPARATOR else wild
            states = (states & literal) << 1 | states & stay
            if not states:
                return False
            states |= (states & wild) << 1
        return bool(states & accept)

    return matches
