r"""The syntax of regular expressions in the configuration, that of RE2 (and Go).

An expression is parsed into a small tree, from which `moxtw.config.regexp` makes a matcher
that takes linear time, and `to_python` an expression for `re`, where groups are needed.

Supported: ``. [a-z] [^a-z] [[:alpha:]] \d \w \s \pL \p{Greek} \b ^ $ \A \z ( ) (?:) (?P<n>)
(?i) (?s) (?m) (?U) * + ? {n,m}``, lazy forms, ``\Q...\E`` and escapes of characters. There are
no references back to groups and no look-around, which is what makes linear time possible.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

MAX_PATTERN: Final = 2000
"""Characters of an expression."""

MAX_NESTING: Final = 100
"""Groups within groups."""

MAX_REPEAT: Final = 1000
"""The largest number in {n,m}."""

Ranges = tuple[tuple[int, int], ...]
"""Code points, as sorted ranges without overlap, both ends included."""

_LAST: Final = sys.maxunicode
_DIGITS: Final[Ranges] = ((0x30, 0x39),)
_SPACE: Final[Ranges] = ((0x09, 0x0A), (0x0C, 0x0D), (0x20, 0x20))
_WORD: Final[Ranges] = ((0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A))
_POSIX: Final[dict[str, Ranges]] = {
    "alnum": ((0x30, 0x39), (0x41, 0x5A), (0x61, 0x7A)),
    "alpha": ((0x41, 0x5A), (0x61, 0x7A)),
    "ascii": ((0x00, 0x7F),),
    "blank": ((0x09, 0x09), (0x20, 0x20)),
    "cntrl": ((0x00, 0x1F), (0x7F, 0x7F)),
    "digit": _DIGITS,
    "graph": ((0x21, 0x7E),),
    "lower": ((0x61, 0x7A),),
    "print": ((0x20, 0x7E),),
    "punct": ((0x21, 0x2F), (0x3A, 0x40), (0x5B, 0x60), (0x7B, 0x7E)),
    "space": ((0x09, 0x0D), (0x20, 0x20)),
    "upper": ((0x41, 0x5A),),
    "word": _WORD,
    "xdigit": ((0x30, 0x39), (0x41, 0x46), (0x61, 0x66)),
}
_CONTROL: Final = {"a": 7, "f": 12, "t": 9, "n": 10, "r": 13, "v": 11}
_CLASSES: Final = {"d": _DIGITS, "s": _SPACE, "w": _WORD}
# Scripts are told by the names of characters: near enough for the common ones.
_SCRIPTS: Final = {
    "Arabic": "ARABIC ",
    "Armenian": "ARMENIAN ",
    "Cyrillic": "CYRILLIC ",
    "Devanagari": "DEVANAGARI ",
    "Georgian": "GEORGIAN ",
    "Greek": "GREEK ",
    "Han": "CJK UNIFIED IDEOGRAPH",
    "Hangul": "HANGUL ",
    "Hebrew": "HEBREW ",
    "Hiragana": "HIRAGANA ",
    "Katakana": "KATAKANA ",
    "Latin": "LATIN ",
    "Thai": "THAI ",
}
_REPEAT: Final = re.compile(r"\{(0|[1-9][0-9]{0,4})(?:(,)(0|[1-9][0-9]{0,4})?)?\}")
_GROUP_NAME: Final = re.compile(r"\?P?<([A-Za-z_][A-Za-z0-9_]{0,30})>")
_FLAGS: Final = re.compile(r"\?([imsU]*)(?:-([imsU]+))?([:)])")


class RegexpError(ValueError):
    """An expression that does not compile; the message says why."""


@dataclass(frozen=True, slots=True)
class CharSet:
    """One character out of a set."""

    ranges: Ranges


@dataclass(frozen=True, slots=True)
class Assertion:
    """A place: A and z are the ends of the text, ^ and $ of a line, b a word's, B none."""

    kind: str


@dataclass(frozen=True, slots=True)
class Cat:
    """One after the other."""

    parts: tuple[Tree, ...]


@dataclass(frozen=True, slots=True)
class Alt:
    """One of these."""

    parts: tuple[Tree, ...]


@dataclass(frozen=True, slots=True)
class Repeat:
    """Several times; `most` None is without end."""

    body: Tree
    least: int
    most: int | None
    greedy: bool


@dataclass(frozen=True, slots=True)
class Group:
    """Part whose text is of interest."""

    body: Tree
    name: str


Tree = CharSet | Assertion | Cat | Alt | Repeat | Group


def normalise(ranges: Iterable[tuple[int, int]]) -> Ranges:
    """Sort ranges and join those that touch."""
    result: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if result and low <= result[-1][1] + 1:
            if high > result[-1][1]:
                result[-1] = (result[-1][0], high)
        else:
            result.append((low, high))
    return tuple(result)


def negate(ranges: Ranges) -> Ranges:
    """All other code points."""
    result = []
    start = 0
    for low, high in ranges:
        if low > start:
            result.append((start, low - 1))
        start = high + 1
    if start <= _LAST:
        result.append((start, _LAST))
    return tuple(result)


def _scan(wanted: Callable[[str], bool]) -> Ranges:
    return normalise((c, c) for c in range(_LAST + 1) if wanted(chr(c)))


@lru_cache(maxsize=64)
def _property(name: str) -> Ranges | None:
    """The characters of a general category or script; scans all of Unicode once for each."""
    if name == "Any":
        return ((0, _LAST),)
    if name in _SCRIPTS:
        prefix = _SCRIPTS[name]
        return _scan(lambda c: unicodedata.name(c, "").startswith(prefix))
    if re.fullmatch("[CLMNPSZ][a-z]?", name):
        return _scan(lambda c: unicodedata.category(c).startswith(name)) or None
    return None


@lru_cache(maxsize=1)
def _cased() -> dict[int, tuple[int, ...]]:
    """Characters that differ only in case, each with the others."""
    groups: dict[str, list[int]] = {}
    for code in range(_LAST + 1):
        char = chr(code)
        folded = char.casefold()
        if len(folded) > 1:  # As of sharp s: folding of one to one is wanted.
            folded = char.lower()
        if len(folded) == 1 and (folded != char or char.upper() != char):
            groups.setdefault(folded, []).append(code)
    return {
        code: tuple(other for other in codes if other != code)
        for codes in groups.values()
        for code in codes
        if len(codes) > 1
    }


def fold(ranges: Ranges) -> Ranges:
    """Add the characters that differ only in case."""
    if ranges and ranges[-1][1] < 0x80:
        added = []
        for low, high in ranges:
            for code in range(low, high + 1):
                char = chr(code)
                if char.isalpha():
                    other = ord(char.swapcase())
                    added.append((other, other))
                    if char in "kKsS":  # Kelvin sign, long s.
                        code = 0x212A if char in "kK" else 0x17F
                        added.append((code, code))
    else:
        added = [
            (other, other)
            for code, others in _cased().items()
            if any(low <= code <= high for low, high in ranges)
            for other in others
        ]
    return normalise([*ranges, *added])


@dataclass(slots=True)
class _Flags:
    ignore_case: bool = False
    multi_line: bool = False
    dot_all: bool = False
    ungreedy: bool = False

    def copy(self) -> _Flags:
        return _Flags(self.ignore_case, self.multi_line, self.dot_all, self.ungreedy)

    def set(self, letters: str, value: bool) -> None:
        for letter in letters:
            if letter == "i":
                self.ignore_case = value
            elif letter == "m":
                self.multi_line = value
            elif letter == "s":
                self.dot_all = value
            else:
                self.ungreedy = value


class _Parser:
    def __init__(self, pattern: str) -> None:
        self.text = pattern
        self.pos = 0
        self.flags = _Flags()
        self.depth = 0
        self.names: set[str] = set()

    def parse(self) -> Tree:
        tree = self._alternatives()
        if self.pos < len(self.text):
            raise RegexpError("unmatched )")
        return tree

    def _peek(self) -> str:
        return self.text[self.pos : self.pos + 1]

    def _alternatives(self) -> Tree:
        branches = [self._sequence()]
        while self._peek() == "|":
            self.pos += 1
            branches.append(self._sequence())
        return branches[0] if len(branches) == 1 else Alt(tuple(branches))

    def _sequence(self) -> Tree:
        parts: list[Tree] = []
        repeatable = False
        while self.pos < len(self.text):
            char = self.text[self.pos]
            if char in "|)":
                break
            repeat = self._repeat()
            if repeat is not None:
                if not repeatable:
                    raise RegexpError("nothing to repeat, or repeated twice")
                least, most, greedy = repeat
                parts[-1] = Repeat(parts[-1], least, most, greedy)
                repeatable = False
                continue
            if self.text.startswith("\\Q", self.pos):
                parts += self._quoted()
                repeatable = bool(parts)
                continue
            part = self._group() if char == "(" else self._atom()
            if part is not None:
                parts.append(part)
                repeatable = True
        return parts[0] if len(parts) == 1 else Cat(tuple(parts))

    def _repeat(self) -> tuple[int, int | None, bool] | None:
        char = self.text[self.pos]
        least: int
        most: int | None
        if char in "*+?":
            least, most = {"*": (0, None), "+": (1, None), "?": (0, 1)}[char]
            self.pos += 1
        elif char == "{":
            match = _REPEAT.match(self.text, self.pos)
            if match is None:
                return None  # An ordinary character.
            least = int(match[1])
            most = least if not match[2] else int(match[3]) if match[3] else None
            if max(least, most or 0) > MAX_REPEAT or (most is not None and most < least):
                raise RegexpError(f"bad repeat count {match[0]}")
            self.pos = match.end()
        else:
            return None
        greedy = not self.flags.ungreedy
        if self._peek() == "?":
            self.pos += 1
            greedy = not greedy
        return least, most, greedy

    def _quoted(self) -> list[Tree]:
        end = self.text.find("\\E", self.pos + 2)
        stop = len(self.text) if end < 0 else end
        literal = self.text[self.pos + 2 : stop]
        self.pos = len(self.text) if end < 0 else end + 2
        return [self._char(ord(c)) for c in literal]

    def _group(self) -> Tree | None:
        self.depth += 1
        if self.depth > MAX_NESTING:
            raise RegexpError("too many groups within groups")
        self.pos += 1
        outer = self.flags.copy()
        name: str | None = ""
        if self._peek() == "?":
            named = _GROUP_NAME.match(self.text, self.pos)
            flags = _FLAGS.match(self.text, self.pos)
            if named is not None:
                name = named[1]
                if name in self.names:
                    raise RegexpError(f"duplicate group name {name}")
                self.names.add(name)
                self.pos = named.end()
            elif flags is not None:
                self.flags.set(flags[1], True)
                self.flags.set(flags[2] or "", False)
                self.pos = flags.end()
                if flags[3] == ")":
                    self.depth -= 1
                    return None  # For the rest of the group around it.
                name = None
            else:
                raise RegexpError("unknown kind of group after (?")
        body = self._alternatives()
        if self._peek() != ")":
            raise RegexpError("missing )")
        self.pos += 1
        self.depth -= 1
        self.flags = outer
        # An empty body must stay something that can be repeated.
        return body if name is None else Group(body, name)

    def _set(self, ranges: Ranges) -> CharSet:
        return CharSet(fold(ranges) if self.flags.ignore_case else ranges)

    def _char(self, code: int) -> CharSet:
        return self._set(((code, code),))

    def _atom(self) -> Tree:
        char = self.text[self.pos]
        self.pos += 1
        if char == ".":
            return CharSet(((0, _LAST),) if self.flags.dot_all else negate(((10, 10),)))
        if char == "^":
            return Assertion("^" if self.flags.multi_line else "A")
        if char == "$":
            return Assertion("$" if self.flags.multi_line else "z")
        if char == "[":
            return self._bracket()
        if char != "\\":
            return self._char(ord(char))
        letter = self._peek()
        if letter and letter in "AzbB":
            self.pos += 1
            return Assertion(letter)
        ranges = self._class_escape()
        if ranges is not None:
            return self._set(ranges)
        return self._char(self._char_escape())

    def _class_escape(self) -> Ranges | None:
        """A class after a backslash, or None with the position unchanged."""
        letter = self._peek()
        if letter and letter.lower() in _CLASSES and letter in "dswDSW":
            self.pos += 1
            ranges = _CLASSES[letter.lower()]
            return ranges if letter.islower() else negate(ranges)
        if letter not in ("p", "P"):
            return None
        self.pos += 1
        name = self._peek()
        self.pos += 1
        if name == "{":
            end = self.text.find("}", self.pos)
            if end < 0:
                raise RegexpError("missing } after \\p{")
            name = self.text[self.pos : end]
            self.pos = end + 1
        wanted = (letter == "p") != name.startswith("^")
        found = _property(name.removeprefix("^"))
        if found is None:
            raise RegexpError(f"unknown property \\{letter}{{{name[:40]}}}")
        return found if wanted else negate(found)

    def _char_escape(self) -> int:
        """The character after a backslash."""
        if self.pos >= len(self.text):
            raise RegexpError("backslash at the end")
        char = self.text[self.pos]
        self.pos += 1
        if char in _CONTROL:
            return _CONTROL[char]
        if char in "01234567":
            if char != "0" and not re.match("[0-7]", self._peek() or "x"):
                raise RegexpError("references to groups are not supported")
            match = re.compile("[0-7]{0,2}").match(self.text, self.pos)
            digits = match[0] if match else ""
            self.pos += len(digits)
            return int(char + digits, 8)
        if char == "x":
            match = re.compile(r"([0-9A-Fa-f]{2})|\{([0-9A-Fa-f]{1,6})\}").match(
                self.text, self.pos
            )
            code = int(match[1] or match[2], 16) if match else _LAST + 1
            if match is None or code > _LAST:
                raise RegexpError("bad \\x escape")
            self.pos = match.end()
            return code
        if char.isascii() and char.isalnum():
            raise RegexpError(f"unknown escape \\{char}")
        return ord(char)

    def _bracket(self) -> CharSet:
        negated = self._peek() == "^"
        if negated:
            self.pos += 1
        found: list[tuple[int, int]] = []
        first = True
        while True:
            if self.pos >= len(self.text):
                raise RegexpError("missing ]")
            char = self.text[self.pos]
            if char == "]" and not first:
                self.pos += 1
                break
            first = False
            if self.text.startswith("[:", self.pos):
                found += self._posix()
                continue
            if char == "\\":
                self.pos += 1
                ranges = self._class_escape()
                if ranges is not None:
                    found += ranges
                    continue
                low = self._char_escape()
            else:
                self.pos += 1
                low = ord(char)
            found.append((low, self._range_end(low)))
        ranges = normalise(found)
        if self.flags.ignore_case:
            ranges = fold(ranges)
        return CharSet(negate(ranges) if negated else ranges)

    def _range_end(self, low: int) -> int:
        text, pos = self.text, self.pos
        if text[pos : pos + 1] != "-" or text[pos + 1 : pos + 2] in ("]", ""):
            return low
        self.pos += 2
        high = self._char_escape() if text[pos + 1] == "\\" else ord(text[pos + 1])
        if high < low:
            raise RegexpError("bad range of characters")
        return high

    def _posix(self) -> Ranges:
        end = self.text.find(":]", self.pos + 2)
        name = self.text[self.pos + 2 : end] if end >= 0 else ""
        ranges = _POSIX.get(name.removeprefix("^"))
        if ranges is None:
            raise RegexpError(f"unknown class of characters [:{name[:40]}:]")
        self.pos = end + 2
        return negate(ranges) if name.startswith("^") else ranges


def parse(pattern: str) -> Tree:
    """Parse an expression. Raises RegexpError."""
    if len(pattern) > MAX_PATTERN:
        raise RegexpError(f"longer than {MAX_PATTERN} characters")
    return _Parser(pattern).parse()


_PYTHON_ASSERTIONS: Final = {
    "A": r"\A",
    "z": r"\Z",
    "^": "(?m:^)",
    # Python's $ also matches before a last line end in both modes; in this one that is right.
    "$": "(?m:$)",
    "b": r"(?a:\b)",
    "B": r"(?a:\B)",
}


def to_python(tree: Tree) -> str:
    """The same as an expression for `re`, without flags."""
    if isinstance(tree, CharSet):
        if not tree.ranges:
            return "(?!)"
        return "[" + "".join(_python_range(*r) for r in tree.ranges) + "]"
    if isinstance(tree, Assertion):
        return _PYTHON_ASSERTIONS[tree.kind]
    if isinstance(tree, Cat):
        return "".join(to_python(part) for part in tree.parts)
    if isinstance(tree, Alt):
        return "(?:" + "|".join(to_python(part) for part in tree.parts) + ")"
    if isinstance(tree, Group):
        return f"({f'?P<{tree.name}>' if tree.name else ''}{to_python(tree.body)})"
    most = "" if tree.most is None else tree.most
    lazy = "" if tree.greedy else "?"
    return f"(?:{to_python(tree.body)}){{{tree.least},{most}}}{lazy}"


def _python_range(low: int, high: int) -> str:
    first = f"\\U{low:08x}"
    return first if low == high else f"{first}-\\U{high:08x}"
