"""What FETCH can ask for (RFC 9051 6.4.5): parsing, and lines made from rows of the store.

Items that the store keeps ready are columns: for a batch of rows each makes a list of values,
and one template makes a line of each row. Sections of messages stand in `sections`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from moxtw.imap import wire
from moxtw.imap.errors import Bad
from moxtw.imap.parser import MAX_NUMBER, Parser
from moxtw.store.model import Want

# Numbers of a part; a message is not nested deeper than the MIME parser goes.
MAX_PART: Final = 100

_PART: Final = re.compile(rb"[1-9][0-9]{0,9}(?:\.[1-9][0-9]{0,9})*")
_KINDS: Final = (b"HEADER.FIELDS.NOT", b"HEADER.FIELDS", b"HEADER", b"TEXT", b"MIME")
_MACROS: Final[dict[bytes, tuple[bytes, ...]]] = {
    b"ALL": (b"FLAGS", b"INTERNALDATE", b"RFC822.SIZE", b"ENVELOPE"),
    b"FAST": (b"FLAGS", b"INTERNALDATE", b"RFC822.SIZE"),
    b"FULL": (b"FLAGS", b"INTERNALDATE", b"RFC822.SIZE", b"ENVELOPE", b"BODY"),
}


@dataclass(frozen=True, slots=True)
class Section:
    """A section of a message (RFC 9051 6.4.5.1).

    `what` is the form: ``BODY``, ``BINARY``, or ``BINARY.SIZE``. `kind` is the specifier:
    ``HEADER``, ``TEXT``, ``MIME`` or empty; `fields` are lower-case names for HEADER.FIELDS,
    None without, and `exclude` turns them round. `partial`: first byte and count. `label` is
    how the answer names the section. `seen`: reading it sets Seen.
    """

    what: bytes
    part: tuple[int, ...]
    kind: bytes
    fields: tuple[bytes, ...] | None
    exclude: bool
    partial: tuple[int, int] | None
    label: bytes
    seen: bool


# Field by field, its values in all rows.
Fields = Sequence[Sequence[Any]]


@dataclass(frozen=True, slots=True)
class Column:
    """An item that is made from columns of rows; `template` takes one value.

    `values` makes the values of many rows, given their fields and where each of them stands.
    """

    name: bytes
    want: Want
    template: bytes
    values: Callable[[Fields, dict[str, int], bool], Iterable[Any]]


def _plain(field: str) -> Callable[[Fields, dict[str, int], bool], Iterable[Any]]:
    def values(fields: Fields, at: dict[str, int], utf8: bool) -> Iterable[Any]:
        return fields[at[field]]

    return values


def _flags(fields: Fields, at: dict[str, int], utf8: bool) -> Iterable[bytes]:
    return map(wire.flag_list, fields[at["flags"]], fields[at["keywords"]])


def _received(fields: Fields, at: dict[str, int], utf8: bool) -> Iterable[bytes]:
    return map(wire.date_time, fields[at["received"]])


def _saved(fields: Fields, at: dict[str, int], utf8: bool) -> Iterable[bytes]:
    return [
        b"NIL" if time is None else b'"%b"' % wire.date_time(time)
        for time in fields[at["save_date"]]
    ]


def _preview(fields: Fields, at: dict[str, int], utf8: bool) -> Iterable[bytes]:
    # RFC 8970 3.1: at most 200 characters.
    return [
        wire.string((text or "")[:200].strip().encode("utf-8", "replace"), utf8)
        for text in fields[at["preview"]]
    ]


COLUMNS: Final[dict[bytes, Column]] = {
    column.name: column
    for column in (
        Column(b"UID", Want(0), b"UID %d", _plain("uid")),
        Column(b"FLAGS", Want.FLAGS, b"FLAGS (%b)", _flags),
        Column(b"INTERNALDATE", Want.DATE, b'INTERNALDATE "%b"', _received),
        Column(b"RFC822.SIZE", Want.SIZE, b"RFC822.SIZE %d", _plain("size")),
        Column(b"ENVELOPE", Want.ENVELOPE, b"ENVELOPE %b", _plain("envelope")),
        Column(b"BODY", Want.BODY, b"BODY %b", _plain("body")),
        Column(
            b"BODYSTRUCTURE", Want.BODYSTRUCTURE, b"BODYSTRUCTURE %b", _plain("bodystructure")
        ),
        Column(b"MODSEQ", Want.MODSEQ, b"MODSEQ (%d)", _plain("modseq")),
        Column(b"SAVEDATE", Want.SAVEDATE, b"SAVEDATE %b", _saved),
        Column(b"PREVIEW", Want.PREVIEW, b"PREVIEW %b", _preview),
        # RFC 8474 5.3.
        Column(b"EMAILID", Want.EMAIL, b"EMAILID (M%d)", _plain("email_id")),
        Column(b"THREADID", Want.THREAD, b"THREADID (T%d)", _plain("thread_id")),
    )
}

# Where fields stand in the rows that the store gives.
ROW: Final = {
    "uid": 0, "id": 1, "flags": 2, "keywords": 3, "size": 4, "received": 5, "save_date": 6,
    "modseq": 7, "envelope": 8, "body": 9, "bodystructure": 10, "preview": 11, "tree": 12,
    "prefix": 13, "content_id": 14, "thread_id": 15, "email_id": 16,
}  # fmt: skip
FLAG_ROW: Final = {"uid": 0, "flags": 1, "keywords": 2, "modseq": 3}


@dataclass(frozen=True, slots=True)
class Items:
    """What a FETCH asks for: columns (the UID first) and sections.

    `asks_uid`: the client named the UID itself.
    """

    columns: tuple[Column, ...]
    sections: tuple[Section, ...]
    asks_uid: bool = False

    @property
    def seen(self) -> bool:
        """Whether reading sets Seen."""
        return any(section.seen for section in self.sections)

    @property
    def flags_only(self) -> bool:
        """Whether nothing but UID, FLAGS and MODSEQ is asked for."""
        return not self.sections and all(
            column.name in (b"UID", b"FLAGS", b"MODSEQ") for column in self.columns
        )

    def want(self) -> int:
        """The columns to read."""
        want = 0
        for column in self.columns:
            want |= column.want
        if self.sections:
            want |= Want.TREE | Want.PREFIX | Want.CONTENT | Want.FLAGS
        return want

    def unasked(self) -> Items:
        """The same for messages that nobody has looked at yet: Seen stays as it is."""
        quiet = tuple(replace(section, seen=False) for section in self.sections)
        return Items(self.columns, quiet, asks_uid=True)

    def with_column(self, name: bytes) -> Items:
        """These items and one more column, if it is not among them."""
        column = COLUMNS[name]
        if column in self.columns:
            return self
        return Items((*self.columns, column), self.sections, self.asks_uid)

    def lines(
        self,
        rows: Sequence[Any],
        numbers: Sequence[int],
        utf8: bool,
        at: dict[str, int] = ROW,
        end: bytes = b")\r\n",
        uidonly: bool = False,
    ) -> list[bytes]:
        """The beginning of each row's FETCH response, up to and with `end`.

        With `uidonly` it is UIDFETCH (RFC 9586 3.2), where the UID takes the number's place.
        """
        # Field by field rather than row by row: most of it then runs outside of bytecode.
        fields = list(zip(*rows, strict=True))
        return self.lines_of(fields, numbers, utf8, at, end, uidonly) if fields else []

    def lines_of(
        self,
        fields: Fields,
        numbers: Sequence[int],
        utf8: bool,
        at: dict[str, int],
        end: bytes = b")\r\n",
        uidonly: bool = False,
    ) -> list[bytes]:
        """The same of rows that are given field by field."""
        shown = self.columns
        start = b"* %d FETCH ("
        if uidonly:
            start = b"* %d UIDFETCH ("
            numbers = fields[at["uid"]]
            if not self.asks_uid:
                shown = shown[1:]
        template = b" ".join([column.template for column in shown])
        columns = [column.values(fields, at, utf8) for column in shown]
        whole = start + template + (end if shown else end.lstrip())
        return list(map(whole.__mod__, zip(numbers, *columns, strict=True)))


def parse_items(p: Parser) -> Items:
    """One item, a macro, or items in parentheses. The UID is always among them."""
    names: dict[bytes, None] = {b"UID": None}
    sections: dict[bytes, Section] = {}
    asks_uid = False

    def item() -> None:
        nonlocal asks_uid
        word = p.word()
        if word in (b"BODY", b"BODY.PEEK", b"BINARY", b"BINARY.PEEK", b"BINARY.SIZE") and p.take(
            b"["
        ):
            section = _parse_section(p, word)
        elif word == b"RFC822":
            section = Section(b"BODY", (), b"", None, False, None, b"RFC822", True)
        elif word == b"RFC822.HEADER":
            section = Section(b"BODY", (), b"HEADER", None, False, None, word, False)
        elif word == b"RFC822.TEXT":
            section = Section(b"BODY", (), b"TEXT", None, False, None, word, True)
        elif word in COLUMNS:
            if word == b"PREVIEW" and p.take(b" ("):
                # RFC 8970 3.2: whether LAZY or not, previews are at hand.
                p.expect(b"LAZY")
                p.expect(b")")
            names[word] = None
            asks_uid = asks_uid or word == b"UID"
            return
        else:
            raise Bad("unknown FETCH item")
        known = sections.get(section.label)
        if known is None or section.seen:
            sections[section.label] = section

    for macro, expansion in _MACROS.items():
        if p.peek(macro) and p.buf[p.pos + len(macro) : p.pos + len(macro) + 1] in (b"", b" "):
            p.word()
            names.update(dict.fromkeys(expansion))
            break
    else:
        if p.peek(b"("):
            p.parenthesised(item)
        else:
            item()
    return Items(tuple(COLUMNS[name] for name in names), tuple(sections.values()), asks_uid)


def _parse_section(p: Parser, word: bytes) -> Section:
    """The rest of a section, behind its opening bracket."""
    what = b"BODY" if word.startswith(b"BODY") else b"BINARY"
    if word == b"BINARY.SIZE":
        what = word
    part: tuple[int, ...] = ()
    label = what + b"["
    kind = b""
    fields: tuple[bytes, ...] | None = None
    exclude = False
    if p.buf[p.pos : p.pos + 1].isdigit():
        text = p.match(_PART, "part number")
        part = tuple(int(number) for number in text.split(b"."))
        if len(part) > MAX_PART or max(part) > MAX_NUMBER:
            raise Bad("part number too deep")
        label += text
    if p.take(b".") if part else not p.peek(b"]"):
        for name in _KINDS:
            if p.take(name):
                break
        else:
            raise Bad("unknown section")
        kind = name
        label += (b"." if part else b"") + name
        if kind == b"MIME" and not part:
            raise Bad("MIME needs a part number")
        if kind.startswith(b"HEADER.FIELDS"):
            exclude = kind.endswith(b"NOT")
            kind = b"HEADER"
            p.space()
            given = p.parenthesised(p.astring)
            fields = tuple(name.lower() for name in given)
            label += b" (" + b" ".join([wire.astring(name) for name in given]) + b")"
    p.expect(b"]")
    label += b"]"
    partial: tuple[int, int] | None = None
    if what != b"BINARY.SIZE" and p.take(b"<"):
        start = p.number64()
        count = MAX_NUMBER
        # Without a count: to the end. No RFC has this, but servers have taken it for long.
        if what == b"BODY" or not p.peek(b">"):
            p.expect(b".")
            count = p.number64()
            if not count:
                raise Bad("partial of no bytes")
        p.expect(b">")
        partial = (start, count)
        label += b"<%d>" % start
    seen = word in (b"BODY", b"BINARY")
    return Section(what, part, kind, fields, exclude, partial, label, seen)


def parse_section_text(text: bytes, partial: tuple[int, int] | None = None) -> Section:
    """A section of a message by its specifier alone, as in URLs. Raises Bad."""
    if not text.isascii() or b"\r" in text or b"\n" in text:
        raise Bad("bad section")
    # Never a literal: there is nothing behind this text.
    p = Parser(b"BODY.PEEK[%b]%b" % (text, b"<%d.%d>" % partial if partial else b""))
    items = parse_items(p)
    if not p.at_end() or len(items.sections) != 1:
        raise Bad("bad section")
    return items.sections[0]
