r"""The mbox format: many messages in one file (RFC 4155), with quoting as in mboxrd.

Each message begins with a line ``From sender date`` after an empty line, or at the start of
the file. In messages, lines of any number of ``>`` and ``From `` get one more ``>``. Flags
stand in header fields Status, X-Status and X-Keywords.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

from moxtw.mail.dates import parse_date

READ: Final = 1 << 18
PIECE: Final = 1 << 22
"""Messages longer than about this are given in several pieces."""
MAX_FROM_LINE: Final = 4096

_SEPARATOR: Final = re.compile(rb"\n\r?\nFrom ")
_QUOTED: Final = re.compile(rb"^>(>*From )", re.MULTILINE)
_UNQUOTED: Final = re.compile(rb"^(>*From )", re.MULTILINE)
_KEEP: Final = 16
_STATUS: Final = re.compile(
    rb"^(status|x-status|x-keywords):((?:[^\n]|\n[ \t])*)(?:\n|\Z)", re.MULTILINE | re.IGNORECASE
)
_HEADER_END: Final = re.compile(rb"\A\r?\n|\n\r?\n")

_X_STATUS: Final = {"A": "\\answered", "F": "\\flagged", "T": "\\draft", "D": "\\deleted"}
ALIASES: Final = {
    "forwarded": "$forwarded",
    "junk": "$junk",
    "notjunk": "$notjunk",
    "nonjunk": "$notjunk",
    "$nonjunk": "$notjunk",
    "phishing": "$phishing",
    "mdnsent": "$mdnsent",
}
"""Keywords that other programs write for flags."""

_SYSTEM: Final = frozenset(("\\seen", *_X_STATUS.values()))


class MboxError(ValueError):
    """A file that is no mbox; the message says why."""


class Start(NamedTuple):
    """A message begins, with this From line."""

    from_line: bytes


class Piece(NamedTuple):
    """A part of a message as it stands in the file.

    All but the last end with a line, unless lines are extremely long; `line_start` says that a
    line begins with it, `first` and `last` where in the message it is.
    """

    data: bytes
    line_start: bool
    first: bool
    last: bool


def keyword(word: str) -> str:
    """A keyword in lower case, under the name that is usual for it."""
    lower = word.strip().lower()
    return ALIASES.get(lower, lower)


# -- Reading -------------------------------------------------------------------------------


def read(source: Callable[[int], bytes]) -> Iterator[Start | Piece]:
    """The messages of an mbox, of which `source` gives the next bytes. Raises MboxError.

    Each is a Start, then at least one Piece, the last of which is marked so.
    """
    buffer = source(READ)
    while buffer and len(buffer) < 5:
        more = source(READ)
        if not more:
            break
        buffer += more
    if not buffer:
        return
    if not buffer.startswith(b"From "):
        raise MboxError("does not begin with a line of From, so it is no mbox")
    at, end = 0, False
    while True:
        line_end = buffer.find(b"\n", at, at + MAX_FROM_LINE)
        while line_end < 0 and not end and len(buffer) - at < MAX_FROM_LINE:
            more = source(READ)
            end = not more
            buffer, at = buffer[at:] + more, 0
            line_end = buffer.find(b"\n", at, at + MAX_FROM_LINE)
        if line_end < 0:
            if not end:
                raise MboxError("line of From is too long")
            line_end = len(buffer)
        yield Start(buffer[at:line_end].rstrip(b"\r"))
        # The message begins behind the line end, which may be part of a separator already.
        at, looked, first, line_start = line_end + 1, line_end, True, True
        while True:
            found = _SEPARATOR.search(buffer, looked)
            if found is not None:
                yield Piece(buffer[at : found.start() + 1], line_start, first, True)
                at = found.end() - 5
                break
            if end:
                data = buffer[at:]
                # The empty line behind the last message is none of it.
                if data.endswith(b"\n\r\n"):
                    data = data[:-2]
                elif data.endswith(b"\n\n") or data == b"\n":
                    data = data[:-1]
                yield Piece(data, line_start, first, True)
                return
            looked = max(looked, len(buffer) - _KEEP)
            if len(buffer) - at > PIECE:
                cut = buffer.rfind(b"\n", at, len(buffer) - _KEEP) + 1
                whole = cut > at
                if not whole:
                    cut = len(buffer) - _KEEP
                yield Piece(buffer[at:cut], line_start, first, False)
                first, line_start = False, whole
                # A separator begins with the end of a line that has been given out.
                buffer, at, looked = buffer[cut - 1 :], 1, max(looked - cut + 1, 0)
            more = source(READ if len(buffer) - at < READ else len(buffer) - at)
            end = not more
            base = min(at, looked)
            buffer, at, looked = buffer[base:] + more, at - base, looked - base


def unquote(piece: Piece) -> bytes:
    """A piece without the quoting of lines with From, with line ends as in messages."""
    data = piece.data
    if b"From " in data:
        if piece.line_start:
            data = _QUOTED.sub(rb"\1", data)
        else:
            head, newline, rest = data.partition(b"\n")
            data = head + newline + _QUOTED.sub(rb"\1", rest)
    return crlf(data)


def crlf(data: bytes) -> bytes:
    """Data with each line end as CRLF."""
    return data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def take_status(data: bytes) -> tuple[bytes, set[str]]:
    """A message (or its first piece) without the fields for flags, and what these say."""
    flags: set[str] = set()
    end = _HEADER_END.search(data)
    size = len(data) if end is None else end.start() + 1
    header = data[:size]
    lower = header.lower()
    if b"status:" not in lower and b"x-keywords:" not in lower:
        return data, flags

    def taken(match: re.Match[bytes]) -> bytes:
        name, value = match[1].lower(), match[2].decode("utf-8", "replace")
        if name == b"status":
            if "R" in value:
                flags.add("\\seen")
        elif name == b"x-status":
            flags.update(_X_STATUS[letter] for letter in value if letter in _X_STATUS)
        else:
            words = value.replace(",", " ").split()[:100]
            flags.update(keyword(word) for word in words)
        return b""

    return _STATUS.sub(taken, header) + data[size:], flags


def parse_from_line(line: bytes) -> int | None:
    """The time in a From line, in microseconds since the epoch; None if it has none.

    Read are the forms of C (``Thu Jan  2 15:04:05 2006``), of Unix with a zone before or
    behind the year, and those of message headers.
    """
    text = line.decode("ascii", "replace")
    words = text.split()
    # Senders may have spaces in quoted strings: the date begins at the name of a day.
    for start in range(1, min(len(words), 12)):
        if words[start].rstrip(",")[:3].lower() in _DAYS:
            parsed = parse_date(" ".join(words[start : start + 8]))
            if parsed is not None:
                return parsed[0]
    return None


_DAYS: Final = frozenset(("mon", "tue", "wed", "thu", "fri", "sat", "sun"))


# -- Writing -------------------------------------------------------------------------------


def from_line(sender: str, received: int) -> bytes:
    """The line before a message; `received` in microseconds since the epoch."""
    address = "".join(char for char in sender if char > " " and char != "\x7f")
    moment = time.gmtime(max(received, 0) // 1_000_000)
    date = time.strftime("%a %b %e %H:%M:%S %Y", moment)
    return f"From {address or 'MAILER-DAEMON'} {date}\n".encode()


def status_fields(flags: Iterable[str]) -> bytes:
    """The header fields for flags, given by their lower-case names."""
    names = list(flags)
    lines = []
    if "\\seen" in names:
        lines.append("Status: R")
    letters = "".join(letter for letter, name in _X_STATUS.items() if name in names)
    if letters:
        lines.append(f"X-Status: {letters}")
    words = [name for name in names if name not in _SYSTEM]
    if words:
        lines.append(f"X-Keywords: {','.join(words)}")
    return "".join(line + "\n" for line in lines).encode()


def quote(data: bytes, line_start: bool = True) -> bytes:
    """Data with LF as line ends, and lines with From quoted."""
    data = data.replace(b"\r\n", b"\n")
    if b"From " not in data:
        return data
    if line_start:
        return _UNQUOTED.sub(rb">\1", data)
    head, newline, rest = data.partition(b"\n")
    return head + newline + _UNQUOTED.sub(rb">\1", rest)
