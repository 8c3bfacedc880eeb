"""Tokens of what an IMAP server sends, and FETCH responses, read strictly (RFC 9051 section 9).

The rest of the grammar is in `tests.support.imapgrammar`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NoReturn

ATOM = re.compile(rb'[^\x00-\x20\x7f-\xff(){%*"\\\]]+')
_ASTRING = re.compile(rb'[^\x00-\x20\x7f-\xff(){%*"\\]+')
_TAG = re.compile(rb'[^\x00-\x20\x7f-\xff(){%*"\\+]+')
_QUOTED = re.compile(rb'"((?:[^"\\\x00\r\n\x80-\xff]|\\["\\])*)"')
_QUOTED_UTF8 = re.compile(rb'"((?:[^"\\\x00\r\n]|\\["\\])*)"')
_LITERAL = re.compile(rb"\{(0|[1-9][0-9]*)\}\r\n")
_LITERAL8 = re.compile(rb"~\{(0|[1-9][0-9]*)\}\r\n")
_NUMBER = re.compile(rb"0|[1-9][0-9]*")
_SET = re.compile(rb"[1-9][0-9]*(?::[1-9][0-9]*)?(?:,[1-9][0-9]*(?::[1-9][0-9]*)?)*")
FLAG = re.compile(rb'\\?[^\x00-\x20\x7f-\xff(){%*"\\\]]+')
_OBJECT_ID = re.compile(rb"[A-Za-z0-9_-]{1,255}")
_DATE_TIME = re.compile(
    rb'"( [1-9]|[0-3][0-9])-(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)-[0-9]{4} '
    rb'[0-2][0-9]:[0-5][0-9]:[0-5][0-9] [+-][0-1][0-9][0-5][0-9]"'
)
_SYSTEM_FLAGS = {rb"\answered", rb"\flagged", rb"\deleted", rb"\seen", rb"\draft", rb"\recent"}
_SECTION_PART = re.compile(rb"[1-9][0-9]*(?:\.[1-9][0-9]*)*")
_SECTION_TEXT = re.compile(rb"HEADER\.FIELDS\.NOT|HEADER\.FIELDS|HEADER|TEXT|MIME", re.I)


class GrammarError(Exception):
    """A response is not in the grammar."""


@dataclass
class Tokens:
    """Reads from a whole response; every method raises GrammarError."""

    raw: bytes
    utf8: bool
    pos: int = 0
    depth: int = field(default=0)

    # -- Pieces ---------------------------------------------------------------------------

    def fail(self, what: str) -> NoReturn:
        shown = self.raw[max(0, self.pos - 60) : self.pos] + b" >>> "
        shown += self.raw[self.pos : self.pos + 60]
        raise GrammarError(f"{what} expected: {shown!r}")

    def peek(self, text: bytes) -> bool:
        return self.raw[self.pos : self.pos + len(text)].upper() == text

    def take(self, text: bytes) -> bool:
        if self.peek(text):
            self.pos += len(text)
            return True
        return False

    def expect(self, text: bytes) -> None:
        if not self.take(text):
            self.fail(repr(text))

    def match(self, pattern: re.Pattern[bytes], what: str) -> re.Match[bytes]:
        match = pattern.match(self.raw, self.pos)
        if match is None:
            self.fail(what)
        self.pos = match.end()
        return match

    def sp(self) -> None:
        self.expect(b" ")

    def atom(self) -> bytes:
        return self.match(ATOM, "atom")[0]

    def number(self, most: int = 0xFFFFFFFF) -> int:
        value = int(self.match(_NUMBER, "number")[0])
        if value > most:
            self.fail("smaller number")
        return value

    def number64(self) -> int:
        return self.number((1 << 63) - 1)

    def nz_number(self) -> int:
        value = self.number()
        if not value:
            self.fail("number above 0")
        return value

    def quoted(self) -> bytes:
        match = self.match(_QUOTED_UTF8 if self.utf8 else _QUOTED, "quoted string")
        value = re.sub(rb"\\(.)", rb"\1", match[1], flags=re.DOTALL)
        self.check_utf8(value)
        return value

    def check_utf8(self, value: bytes) -> None:
        try:
            value.decode("utf-8")
        except UnicodeDecodeError:
            self.fail("UTF-8 in quoted string")

    def literal(self, eight: bool = False) -> bytes:
        match = self.match(_LITERAL8 if eight else _LITERAL, "literal")
        end = match.end() + int(match[1])
        value = self.raw[match.end() : end]
        if len(value) != int(match[1]):
            self.fail("whole literal")
        if not eight and b"\0" in value:
            self.fail("literal without NUL")
        self.pos = end
        return value

    def string(self) -> bytes:
        return self.quoted() if self.peek(b'"') else self.literal()

    def nstring(self) -> bytes | None:
        return None if self.nil() else self.string()

    def nil(self) -> bool:
        if self.peek(b"NIL") and self.raw[self.pos + 3 : self.pos + 4] in (b" ", b")", b"\r"):
            self.pos += 3
            return True
        return False

    def astring(self) -> bytes:
        match = _ASTRING.match(self.raw, self.pos)
        if match is not None:
            self.pos = match.end()
            return match[0]
        return self.string()

    def mailbox(self) -> bytes:
        name = self.astring()
        if not self.utf8 and any(byte > 126 for byte in name):
            self.fail("mailbox name in modified UTF-7")
        return name

    def sequence_set(self) -> list[int]:
        """A set without ``*``, as its numbers; not longer than a test makes them."""
        text = self.match(_SET, "sequence set")[0]
        numbers: list[int] = []
        for item in text.split(b","):
            first, _, last = item.partition(b":")
            start, end = int(first), int(last or first)
            if max(start, end) > 0xFFFFFFFF or abs(end - start) > 1_000_000:
                self.fail("sensible set")
            numbers.extend(range(min(start, end), max(start, end) + 1))
        return numbers

    def items(self, read: Callable[[], Any], empty: bool = False) -> list[Any]:
        """A list in parentheses, with single spaces."""
        self.expect(b"(")
        if empty and self.take(b")"):
            return []
        found = [read()]
        while not self.take(b")"):
            self.sp()
            found.append(read())
        return found

    def flag(self) -> bytes:
        flag = self.match(FLAG, "flag")[0]
        if flag.startswith(b"\\") and flag.lower() not in _SYSTEM_FLAGS:
            self.fail("known system flag")
        return flag

    def flags(self) -> frozenset[bytes]:
        found = self.items(self.flag, empty=True)
        lower = frozenset(flag.lower() for flag in found)
        if len(lower) != len(found):
            self.fail("each flag once")
        return lower

    def object_id(self) -> bytes:
        self.expect(b"(")
        value = self.match(_OBJECT_ID, "object id")[0]
        self.expect(b")")
        return value


class FetchTokens(Tokens):
    """What stands in FETCH responses."""

    def msg_att(self, uidonly: bool) -> dict[str, Any]:
        found: dict[str, Any] = {}

        def item() -> None:
            name, value = self.msg_att_item()
            if name in found:
                self.fail("item said once")
            found[name] = value

        self.items(item, empty=uidonly)
        return found

    def msg_att_item(self) -> tuple[str, Any]:
        name = self.match(re.compile(rb"[A-Z0-9.]+"), "item name")[0].decode()
        if name in ("BODY", "BINARY", "BINARY.SIZE") and self.peek(b"["):
            start = self.pos
            self.section(name)
            label = name + self.raw[start : self.pos].decode("latin-1")
            self.sp()
            if name == "BINARY.SIZE":
                return label, self.number64()
            if name == "BINARY" and self.peek(b"~{"):
                return label, self.literal(eight=True)
            return label, self.nstring()
        self.sp()
        if name not in _ITEMS:
            self.fail("known FETCH item")
        return name, _ITEMS[name](self)

    def section(self, name: str) -> None:
        self.expect(b"[")
        part = _SECTION_PART.match(self.raw, self.pos)
        if part is not None:
            self.pos = part.end()
        # Specifiers with BINARY are beyond the grammar; only those who ask get them.
        if not self.peek(b"]"):
            if part is not None:
                self.expect(b".")
            text = self.match(_SECTION_TEXT, "section")[0].upper()
            if text == b"MIME" and part is None:
                self.fail("part in front of MIME")
            if text.startswith(b"HEADER.FIELDS"):
                self.sp()
                self.items(self.astring)
        self.expect(b"]")
        if name != "BINARY.SIZE" and self.take(b"<"):
            self.number64()
            self.expect(b">")

    def date_time(self) -> bytes:
        return self.match(_DATE_TIME, "date-time")[0]

    def address(self) -> tuple[bytes | None, ...]:
        self.expect(b"(")
        fields = [self.nstring()]
        for _ in range(3):
            self.sp()
            fields.append(self.nstring())
        self.expect(b")")
        return tuple(fields)

    def addresses(self) -> list[tuple[bytes | None, ...]] | None:
        if self.nil():
            return None
        self.expect(b"(")
        found = [self.address()]
        while not self.take(b")"):
            found.append(self.address())
        group = False
        for name, route, local, domain in found:
            if domain is None:
                if name is not None or route is not None or group == (local is not None):
                    self.fail("groups that begin and end")
                group = local is not None
        if group:
            self.fail("end of a group")
        return found

    def envelope(self) -> list[Any]:
        self.expect(b"(")
        found: list[Any] = [self.nstring()]
        self.sp()
        found.append(self.nstring())
        for _ in range(6):
            self.sp()
            found.append(self.addresses())
        for _ in range(2):
            self.sp()
            found.append(self.nstring())
        self.expect(b")")
        return found

    def params(self) -> dict[bytes, bytes] | None:
        if self.nil():
            return None
        self.expect(b"(")
        found: dict[bytes, bytes] = {}
        while True:
            name = self.string().lower()
            self.sp()
            if name in found:
                self.fail("parameter said once")
            found[name] = self.string()
            if self.take(b")"):
                return found
            self.sp()

    def disposition(self) -> tuple[bytes, Any] | None:
        if self.nil():
            return None
        self.expect(b"(")
        kind = self.string()
        self.sp()
        params = self.params()
        self.expect(b")")
        return kind, params

    def language(self) -> list[bytes] | None:
        if self.peek(b"("):
            return self.items(self.string)
        value = self.nstring()
        return None if value is None else [value]

    def body(self, extended: bool) -> dict[str, Any]:
        """A BODY or BODYSTRUCTURE as a dictionary; ``parts`` for multiparts and messages."""
        self.depth += 1
        if self.depth > 400:
            self.fail("less depth")
        self.expect(b"(")
        part: dict[str, Any] = {}
        if self.peek(b"("):
            part["parts"] = [self.body(extended)]
            while self.peek(b"("):
                part["parts"].append(self.body(extended))
            self.sp()
            part["type"] = b"MULTIPART"
            part["subtype"] = self.string()
            if extended:
                self.sp()
                part["params"] = self.params()
                self.extension(part)
        else:
            self.single(part, extended)
        self.expect(b")")
        self.depth -= 1
        return part

    def single(self, part: dict[str, Any], extended: bool) -> None:
        part["type"] = self.string().upper()
        self.sp()
        part["subtype"] = self.string()
        self.sp()
        part["params"] = self.params()
        self.sp()
        part["id"] = self.nstring()
        self.sp()
        part["description"] = self.nstring()
        self.sp()
        part["encoding"] = self.string()
        self.sp()
        part["size"] = self.number64()
        if part["type"] == b"TEXT":
            self.sp()
            part["lines"] = self.number64()
        elif part["type"] == b"MESSAGE" and part["subtype"].upper() in (b"RFC822", b"GLOBAL"):
            self.sp()
            part["envelope"] = self.envelope()
            self.sp()
            part["parts"] = [self.body(extended)]
            self.sp()
            part["lines"] = self.number64()
        if extended:
            self.sp()
            part["md5"] = self.nstring()
            self.extension(part)

    def extension(self, part: dict[str, Any]) -> None:
        """What multiparts and others have in common; this server sends all of it."""
        self.sp()
        part["disposition"] = self.disposition()
        self.sp()
        part["language"] = self.language()
        self.sp()
        part["location"] = self.nstring()

def _in_parentheses(read: Callable[[FetchTokens], Any]) -> Callable[[FetchTokens], Any]:
    def value(reader: FetchTokens) -> Any:
        reader.expect(b"(")
        result = read(reader)
        reader.expect(b")")
        return result

    return value


_ITEMS: dict[str, Callable[[FetchTokens], Any]] = {
    "BODY": lambda reader: reader.body(False),
    "BODYSTRUCTURE": lambda reader: reader.body(True),
    "EMAILID": FetchTokens.object_id,
    "ENVELOPE": FetchTokens.envelope,
    "FLAGS": FetchTokens.flags,
    "INTERNALDATE": FetchTokens.date_time,
    "MODSEQ": _in_parentheses(FetchTokens.number64),
    "PREVIEW": FetchTokens.nstring,
    "RFC822": FetchTokens.nstring,
    "RFC822.HEADER": FetchTokens.nstring,
    "RFC822.SIZE": FetchTokens.number64,
    "RFC822.TEXT": FetchTokens.nstring,
    "SAVEDATE": lambda reader: None if reader.nil() else reader.date_time(),
    "THREADID": lambda reader: None if reader.nil() else reader.object_id(),
    "UID": FetchTokens.nz_number,
}
