"""Regular expressions of the configuration, matched in linear time.

Users of accounts write expressions that run against mail from strangers, and web handlers have
some that run against paths of requests. With a matcher that backtracks, as `re` is, somebody
would find the text that takes hours. Here the expression becomes an automaton that is in a set
of states at once; the set is a number, and steps between sets are remembered.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from functools import lru_cache
from typing import Final

from moxtw.config.regexp_syntax import (
    Alt,
    Assertion,
    Cat,
    CharSet,
    Group,
    Ranges,
    RegexpError,
    Repeat,
    Tree,
    parse,
    to_python,
)

__all__ = ["Regexp", "RegexpError", "compile_regexp"]

MAX_STATES: Final = 1000
"""States of an automaton; repeat counts multiply them."""

MAX_TEXT: Final = 16384
"""Characters of a text that are looked at."""

_CACHE_LIMIT: Final = 20000

# What stands at a side of a place in the text.
_EDGE: Final = 0
_NEWLINE: Final = 1
_WORD: Final = 2
_OTHER: Final = 3

_KINDS: Final = {
    "\n": _NEWLINE,
    **dict.fromkeys("0123456789_abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", _WORD),
}

_SPLIT: Final = 0
_CHAR: Final = 1
_ASSERT: Final = 2


def _holds(kind: str, before: int, after: int) -> bool:
    if kind == "A":
        return before == _EDGE
    if kind == "z":
        return after == _EDGE
    if kind == "^":
        return before <= _NEWLINE
    if kind == "$":
        return after <= _NEWLINE
    return ((before == _WORD) != (after == _WORD)) == (kind == "b")


class _Program:
    """States: where to go without a character, on one, or only at some places."""

    def __init__(self, tree: Tree) -> None:
        # A state is (_SPLIT, nexts), (_CHAR, next, ranges) or (_ASSERT, next, kind).
        self.kinds: list[int] = []
        self.nexts: list[tuple[int, ...]] = []
        self.ranges: dict[int, Ranges] = {}
        self.asserts: dict[int, str] = {}
        self.match = self._add(_SPLIT, ())
        self.start = self._compile(tree, self.match)

    def _add(self, kind: int, nexts: tuple[int, ...]) -> int:
        if len(self.kinds) >= MAX_STATES:
            raise RegexpError("too large, mind the repeat counts")
        self.kinds.append(kind)
        self.nexts.append(nexts)
        return len(self.kinds) - 1

    def _compile(self, tree: Tree, then: int) -> int:
        """Add the states for `tree`, to go on at `then`; return where it begins."""
        if isinstance(tree, CharSet):
            state = self._add(_CHAR, (then,))
            self.ranges[state] = tree.ranges
            return state
        if isinstance(tree, Assertion):
            state = self._add(_ASSERT, (then,))
            self.asserts[state] = tree.kind
            return state
        if isinstance(tree, Cat):
            for part in reversed(tree.parts):
                then = self._compile(part, then)
            return then
        if isinstance(tree, Alt):
            return self._add(_SPLIT, tuple(self._compile(part, then) for part in tree.parts))
        if isinstance(tree, Group):
            return self._compile(tree.body, then)
        return self._compile_repeat(tree, then)

    def _compile_repeat(self, tree: Repeat, then: int) -> int:
        if tree.most is None:
            loop = self._add(_SPLIT, ())
            self.nexts[loop] = (self._compile(tree.body, loop), then)
            start = loop
        else:
            start = then
            for _ in range(tree.most - tree.least):
                start = self._add(_SPLIT, (self._compile(tree.body, start), then))
        for _ in range(tree.least):
            start = self._compile(tree.body, start)
        return start


class Regexp:
    """A compiled expression. Two of the same pattern are equal."""

    __slots__ = (
        "_anchored",
        "_cache",
        "_chars",
        "_closures",
        "_literals",
        "_looks_ahead",
        "_program",
        "_python",
        "_sets",
        "_tree",
        "_unions",
        "pattern",
    )

    def __init__(self, pattern: str) -> None:
        """Raises RegexpError."""
        self.pattern = pattern
        self._tree = parse(pattern)
        self._program = program = _Program(self._tree)
        self._anchored = _anchored(self._tree)
        self._looks_ahead = any(kind not in "A^" for kind in program.asserts.values())
        # Bit n of a set of states is state n.
        self._literals: dict[str, int] = {}
        self._sets: dict[Ranges, int] = {}
        for state, ranges in program.ranges.items():
            if len(ranges) == 1 and ranges[0][0] == ranges[0][1]:
                char = chr(ranges[0][0])
                self._literals[char] = self._literals.get(char, 0) | 1 << state
            else:
                self._sets[ranges] = self._sets.get(ranges, 0) | 1 << state
        self._chars: dict[str, int] = {}
        self._closures: dict[tuple[int, int, int], int] = {}
        self._unions: dict[tuple[int, int, int, int], int] = {}
        self._cache: dict[tuple[int, str, int], int] = {}
        self._python: re.Pattern[str] | None = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Regexp) and other.pattern == self.pattern

    def __hash__(self) -> int:
        return hash(self.pattern)

    def __repr__(self) -> str:
        return f"Regexp({self.pattern!r})"

    def search(self, text: str) -> bool:
        """Whether the expression matches anywhere in `text` (its first 16384 characters)."""
        text = text[:MAX_TEXT]
        last = len(text) - 1
        match = 1 << self._program.match
        cache = self._cache
        looks_ahead = self._looks_ahead
        after = _KINDS.get(text[0], _OTHER) if text else _EDGE
        states = self._closure(self._program.start, _EDGE, after)
        for index, char in enumerate(text):
            if states & match:
                return True
            if index == last:
                after = _EDGE
            elif looks_ahead:
                after = _KINDS.get(text[index + 1], _OTHER)
            else:
                after = _OTHER
            key = (states, char, after)
            following = cache.get(key)
            if following is None:
                following = self._step(states, char, after)
                if len(cache) >= _CACHE_LIMIT:
                    cache.clear()
                cache[key] = following
            if not following and self._anchored:
                return False
            states = following
        return bool(states & match)

    def match(self, text: str) -> re.Match[str] | None:
        """Where the expression matches in `text`, with its groups, as `re.search` says it.

        Text that does not match takes linear time.
        """
        if not self.search(text):
            return None
        if self._python is None:
            try:
                self._python = re.compile(to_python(self._tree))
            except (re.error, RecursionError, OverflowError) as exc:
                raise RegexpError(f"cannot be compiled with groups: {exc}") from exc
        return self._python.search(text)

    def _step(self, states: int, char: str, after: int) -> int:
        """The states after `char`, with `after` following it."""
        before = _KINDS.get(char, _OTHER)
        left = states & self._accepting(char)
        result = 0
        if left:
            unions = self._unions
            data = left.to_bytes((left.bit_length() + 7) // 8, "little")
            for place, bits in enumerate(data):
                if bits:
                    key = (before, after, place, bits)
                    union = unions.get(key)
                    if union is None:
                        union = 0
                        for bit in range(8):
                            if bits >> bit & 1:
                                target = self._program.nexts[place * 8 + bit][0]
                                union |= self._closure(target, before, after)
                        if len(unions) >= _CACHE_LIMIT:
                            unions.clear()
                        unions[key] = union
                    result |= union
        if not self._anchored:
            result |= self._closure(self._program.start, before, after)
        return result

    def _accepting(self, char: str) -> int:
        """The states that go on with `char`."""
        states = self._chars.get(char)
        if states is None:
            states = self._literals.get(char, 0)
            code = ord(char)
            for ranges, those in self._sets.items():
                place = bisect_right(ranges, (code, 0x110000)) - 1
                if place >= 0 and ranges[place][1] >= code:
                    states |= those
            if len(self._chars) >= _CACHE_LIMIT:
                self._chars.clear()
            self._chars[char] = states
        return states

    def _closure(self, state: int, before: int, after: int) -> int:
        """What can be reached from a state at a place without a character."""
        key = (state, before, after)
        known = self._closures.get(key)
        if known is not None:
            return known
        program = self._program
        result = 0
        seen = {state}
        todo = [state]
        while todo:
            current = todo.pop()
            kind = program.kinds[current]
            if kind == _CHAR or current == program.match:
                result |= 1 << current
                continue
            if kind == _ASSERT and not _holds(program.asserts[current], before, after):
                continue
            for following in program.nexts[current]:
                if following not in seen:
                    seen.add(following)
                    todo.append(following)
        self._closures[key] = result
        return result


def _anchored(tree: Tree) -> bool:
    """Whether a match can only begin where the text does."""
    if isinstance(tree, Assertion):
        return tree.kind == "A"
    if isinstance(tree, Cat):
        return bool(tree.parts) and _anchored(tree.parts[0])
    if isinstance(tree, Alt):
        return all(_anchored(part) for part in tree.parts)
    if isinstance(tree, Group):
        return _anchored(tree.body)
    if isinstance(tree, Repeat):
        return tree.least > 0 and _anchored(tree.body)
    return False


@lru_cache(maxsize=2048)
def _compile(pattern: str) -> Regexp:
    return Regexp(pattern)


def compile_regexp(pattern: str) -> Regexp:
    """Compile an expression. Raises RegexpError."""
    try:
        return _compile(pattern)
    except RegexpError as exc:
        shown = pattern if len(pattern) <= 100 else pattern[:100] + "..."
        raise RegexpError(f"bad regular expression {shown!r}: {exc}") from exc


_REFERENCE: Final = re.compile(r"\$(?:(\$)|\{([0-9A-Za-z_]+)\}|([0-9A-Za-z_]+))|\\")


def replacement_template(text: str, regexp: Regexp) -> str:
    """A replacement with $1 and ${name} as template for `re.Match.expand`.

    References to groups that do not exist stand for nothing.
    """
    groups: list[str] = []
    _collect_groups(regexp._tree, groups)

    def convert(match: re.Match[str]) -> str:
        if match[0] == "\\":
            return "\\\\"
        if match[1]:
            return "$"
        name: str = match[2] or match[3]
        if name.isdigit():
            return f"\\g<{int(name)}>" if int(name[:6]) <= len(groups) else ""
        return f"\\g<{name}>" if name in groups else ""

    return _REFERENCE.sub(convert, text)


def _collect_groups(tree: Tree, groups: list[str]) -> None:
    if isinstance(tree, Group):
        groups.append(tree.name)
        _collect_groups(tree.body, groups)
    elif isinstance(tree, Cat | Alt):
        for part in tree.parts:
            _collect_groups(part, groups)
    elif isinstance(tree, Repeat):
        _collect_groups(tree.body, groups)
