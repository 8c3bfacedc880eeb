"""The grammar of commands (RFC 9051 section 9): tokens, strings, literals, flags, dates.

A command is a list of lines with a literal between each two of them. The parser walks over
them with a regular expression for each token, so that time grows with the length of the
command only. When it comes to a literal that has not been read yet it raises NeedLiteral; the
connection reads it and parses anew. Families of commands have their own parsers built from
these pieces, in the modules that carry them out.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Final, TypeVar

from moxtw.imap import names, seqset, wire
from moxtw.imap.errors import Bad

T = TypeVar("T")

# Parentheses, NOT and OR inside each other, in any list.
MAX_DEPTH: Final = 50

# A number of RFC 9051 is 32 bits, number64 63 bits.
MAX_NUMBER: Final = 0xFFFFFFFF
MAX_NUMBER64: Final = 0x7FFFFFFFFFFFFFFF

_ATOM: Final = re.compile(rb"[^\x00-\x20\x7f-\xff(){%*\"\\\]]+")
_ASTRING: Final = re.compile(rb"[^\x00-\x20\x7f-\xff(){%*\"\\]+")
_LIST: Final = re.compile(rb"[^\x00-\x20\x7f-\xff(){\"\\]+")
_TAG: Final = re.compile(rb"[^\x00-\x20\x7f-\xff(){%*\"\\+]{1,1000}")
_WORD: Final = re.compile(rb"[A-Za-z0-9.=_-]+")
_QUOTED: Final = re.compile(rb'"([^"\\\x00\r\n]*)"')
_QUOTED_ESCAPED: Final = re.compile(rb'"((?:[^"\\\x00\r\n]++|\\["\\])*+)"')
_UNESCAPE: Final = re.compile(rb"\\(.)")
_BASE64: Final = re.compile(rb"=|[A-Za-z0-9+/]+={0,2}")
_DIGITS: Final = re.compile(rb"[0-9]{1,20}")
_FLAG: Final = re.compile(rb"\\?[^\x00-\x20\x7f-\xff(){%*\"\\\]]+")
LITERAL: Final = re.compile(rb"(~?)\{([0-9]{1,20})(\+?)\}\Z")
_DATE: Final = re.compile(rb"([0-9]{1,2})-([A-Za-z]{3})-([0-9]{4})")
_DATE_TIME: Final = re.compile(
    rb'"([ 0-9][0-9])-([A-Za-z]{3})-([0-9]{4}) '
    rb'([0-9]{2}):([0-9]{2}):([0-9]{2}) ([+-])([0-9]{2})([0-9]{2})"'
)
_MONTHS: Final = {
    name: number
    for number, name in enumerate(
        b"jan feb mar apr may jun jul aug sep oct nov dec".split(), start=1
    )
}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class NeedLiteral(Exception):
    """The parser came to a literal that is not there yet.

    `binary` for a literal8, `sync` if the client waits for the continuation request.
    """

    def __init__(self, size: int, sync: bool, binary: bool) -> None:
        super().__init__(size)
        self.size = size
        self.sync = sync
        self.binary = binary


class Parser:
    """Walks over one command.

    `utf8` says how mailbox names are spelled. Every method raises Bad when something else
    stands at the current place, and does not move then.
    """

    __slots__ = ("_depth", "buf", "index", "lines", "literals", "pos", "utf8")

    def __init__(self, line: bytes, utf8: bool = False) -> None:
        self.lines = [line]
        self.literals: list[bytes] = []
        self.utf8 = utf8
        self.buf = line
        self.index = 0
        self.pos = 0
        self._depth = 0

    def feed(self, literal: bytes, line: bytes) -> None:
        """Add the literal that was asked for, and the line behind it."""
        self.literals.append(literal)
        self.lines.append(line)

    def restart(self, line: bytes) -> None:
        """Go on with a new line; what was before is done with."""
        self.lines = [line]
        self.literals = []
        self.buf = line
        self.index = self.pos = self._depth = 0

    def rewind(self, pos: int) -> None:
        """Start again at `pos` of the first line."""
        self.buf = self.lines[0]
        self.index = 0
        self.pos = pos
        self._depth = 0

    def announced(self) -> NeedLiteral | None:
        """The literal that the last line announces and that has not been read."""
        match = LITERAL.search(self.lines[-1], max(len(self.lines[-1]) - 30, 0))
        if match is None:
            return None
        return NeedLiteral(int(match.group(2)), not match.group(3), bool(match.group(1)))

    def partial_tag(self) -> bytes | None:
        """The tag of a command that went wrong before anything else, or None."""
        match = _TAG.match(self.lines[0])
        if match is None or self.lines[0][match.end() : match.end() + 1] not in (b" ", b""):
            return None
        return match.group()

    def rest(self) -> bytes:
        """What is left of the current line: for the text of a Bad."""
        return self.buf[self.pos : self.pos + 60]

    # Single characters.

    def at_end(self) -> bool:
        """Whether the command ends here."""
        return self.pos == len(self.buf)

    def end(self) -> None:
        """The command ends here."""
        if self.pos != len(self.buf):
            raise Bad("end of command expected")

    def peek(self, text: bytes) -> bool:
        """Whether `text` (upper-case) comes next, in any case."""
        return self.buf[self.pos : self.pos + len(text)].upper() == text

    def take(self, text: bytes) -> bool:
        """Step over `text` (upper-case, or punctuation) if it comes next."""
        end = self.pos + len(text)
        if self.buf[self.pos : end].upper() == text:
            self.pos = end
            return True
        return False

    def expect(self, text: bytes) -> None:
        """Step over `text`, which must come next."""
        if not self.take(text):
            raise Bad(f"{text.decode('ascii')!r} expected")

    def space(self) -> None:
        """Step over one space."""
        if self.buf[self.pos : self.pos + 1] != b" ":
            raise Bad("space expected" if self.pos < len(self.buf) else "argument missing")
        self.pos += 1

    def match(self, pattern: re.Pattern[bytes], what: str) -> bytes:
        """What `pattern` matches here."""
        match = pattern.match(self.buf, self.pos)
        if match is None:
            raise Bad(what + " expected")
        self.pos = match.end()
        return match.group()

    # Words and numbers.

    def base64(self) -> bytes:
        """Base64, still encoded; "=" stands for no bytes (RFC 4959 3)."""
        return self.match(_BASE64, "base64")

    def tag(self) -> bytes:
        """A command's tag."""
        return self.match(_TAG, "tag")

    def atom(self) -> bytes:
        """An atom, as written."""
        return self.match(_ATOM, "atom")

    def word(self) -> bytes:
        """A keyword of the protocol (letters, digits, and ``.=_-``), in upper case."""
        return self.match(_WORD, "keyword").upper()

    def number(self, most: int = MAX_NUMBER) -> int:
        """A number without sign, up to `most`."""
        pos = self.pos
        number = int(self.match(_DIGITS, "number"))
        if number > most:
            self.pos = pos
            raise Bad("number too large")
        return number

    def number64(self) -> int:
        """A number of 63 bits (RFC 9051 section 9, number64)."""
        return self.number(MAX_NUMBER64)

    def nz_number(self) -> int:
        """A number that is not 0."""
        number = self.number()
        if not number:
            raise Bad("number above 0 expected")
        return number

    def sequence_set(self) -> seqset.Ranges:
        """A sequence set, unresolved."""
        ranges, self.pos = seqset.parse(self.buf, self.pos)
        return ranges

    # Strings.

    def string(self) -> bytes:
        """A quoted string or a literal."""
        c = self.buf[self.pos : self.pos + 1]
        if c == b'"':
            return self.quoted()
        if c == b"{" or (c == b"~" and self.buf[self.pos : self.pos + 2] == b"~{"):
            return self.literal()
        raise Bad("string expected")

    def quoted(self) -> bytes:
        r"""A quoted string; a backslash takes ``"`` and ``\`` only (RFC 9051 section 9)."""
        match = _QUOTED.match(self.buf, self.pos)
        if match is not None:
            self.pos = match.end()
            return match.group(1)
        match = _QUOTED_ESCAPED.match(self.buf, self.pos)
        if match is None:
            raise Bad("quoted string expected, or it does not end")
        self.pos = match.end()
        return _UNESCAPE.sub(rb"\1", match.group(1))

    def literal(self, binary: bool = False) -> bytes:
        """A literal, or with `binary` also a literal8. Raises NeedLiteral to get it."""
        need = self.literal_here(binary)
        if self.index == len(self.literals):
            raise need
        value = self.literals[self.index]
        if not need.binary and b"\0" in value:
            raise Bad("NUL in literal")
        self.index += 1
        self.buf = self.lines[self.index]
        self.pos = 0
        return value

    def literal_here(self, binary: bool = False) -> NeedLiteral:
        """What a literal (with `binary`, or a literal8) here at the end of the line announces."""
        match = LITERAL.match(self.buf, self.pos)
        if match is None:
            raise Bad("literal expected at the end of the line")
        mark, digits, plus = match.groups()
        if mark and not binary:
            raise Bad("binary literal not allowed here")
        size = int(digits)
        if size > MAX_NUMBER64:
            raise Bad("literal too large")
        return NeedLiteral(size, not plus, bool(mark))

    def astring(self) -> bytes:
        """An atom (which may have ``]``) or a string."""
        match = _ASTRING.match(self.buf, self.pos)
        if match is not None:
            # A "~" may start an atom, but not a literal8 here.
            self.pos = match.end()
            return match.group()
        return self.string()

    def nstring(self) -> bytes | None:
        """A string, or None for NIL."""
        if self.buf[self.pos : self.pos + 1] in (b'"', b"{"):
            return self.string()
        self.expect(b"NIL")
        return None

    def text(self, value: bytes) -> str:
        """A string's value as text."""
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            raise Bad("string is not valid UTF-8") from None

    def mailbox(self) -> str:
        """A mailbox name, decoded."""
        return names.decode(self.astring(), self.utf8)

    def list_mailbox(self) -> str:
        """A pattern of mailbox names (RFC 9051 section 9, list-mailbox), decoded."""
        match = _LIST.match(self.buf, self.pos)
        if match is None:
            return names.decode(self.string(), self.utf8)
        self.pos = match.end()
        return names.decode(match.group(), self.utf8)

    # Lists.

    def nested(self, parse: Callable[[], T]) -> T:
        """What `parse` gives, one level deeper; too deep is Bad."""
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise Bad(f"nested deeper than {MAX_DEPTH} levels")
        try:
            return parse()
        finally:
            self._depth -= 1

    def parenthesised(self, parse: Callable[[], T], empty: bool = False) -> list[T]:
        """A list in parentheses of what `parse` reads, separated by single spaces."""
        self.expect(b"(")
        items: list[T] = []
        if empty and self.take(b")"):
            return items
        while True:
            items.append(parse())
            if self.take(b")"):
                return items
            self.space()

    # Flags.

    def flag(self) -> bytes:
        """A flag: one of the system flags or a keyword, as written."""
        flag = self.match(_FLAG, "flag")
        if flag[:1] == b"\\" and flag.lower() not in wire.FLAG_BITS:
            raise Bad("unknown system flag")
        return flag

    def flag_list(self) -> tuple[int, tuple[str, ...]]:
        """Flags in parentheses: bits of the system flags, and keywords in lower case."""
        return split_flags(self.parenthesised(self.flag, empty=True))

    # Dates.

    def date(self) -> int:
        """A date, quoted or not, as days since 1 January 1970."""
        quoted = self.take(b'"')
        match = _DATE.match(self.buf, self.pos)
        if match is None:
            raise Bad("date expected")
        day, month, year = match.groups()
        try:
            date = datetime(int(year), _month(month), int(day), tzinfo=UTC)
        except ValueError:
            raise Bad("no such date") from None
        self.pos = match.end()
        if quoted:
            self.expect(b'"')
        return (date - _EPOCH).days

    def date_time(self) -> int:
        """A date-time in its quotes, as microseconds since the epoch."""
        match = _DATE_TIME.match(self.buf, self.pos)
        if match is None:
            raise Bad("date-time expected")
        day, month, year, hour, minute, second, sign, zone_hour, zone_minute = match.groups()
        offset = timedelta(hours=int(zone_hour), minutes=int(zone_minute))
        try:
            zone = timezone(-offset if sign == b"-" else offset)
            time = datetime(
                int(year),
                _month(month),
                int(day),
                int(hour),
                int(minute),
                min(int(second), 59),  # a leap second
                tzinfo=zone,
            )
            if int(second) > 60 or int(zone_minute) > 59:
                raise ValueError
        except ValueError:
            raise Bad("no such date and time") from None
        self.pos = match.end()
        return (time - _EPOCH) // timedelta(microseconds=1)


def _month(name: bytes) -> int:
    try:
        return _MONTHS[name.lower()]
    except KeyError:
        raise Bad("no such month") from None


def split_flags(flags: list[bytes]) -> tuple[int, tuple[str, ...]]:
    """Flags as bits of the system flags and keywords: lower-case, each once, in order."""
    bits = 0
    keywords: dict[str, None] = {}
    for flag in flags:
        lower = flag.lower()
        bit = wire.FLAG_BITS.get(lower)
        if bit:
            bits |= bit
        else:
            keywords[lower.decode("ascii")] = None
    return bits, tuple(keywords)
