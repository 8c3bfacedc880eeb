"""DKIM's canonical forms of header fields and bodies (RFC 6376 3.4), in bounded memory."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from typing import Final

from moxtw.mail.header import iter_fields

_BLANKS: Final = re.compile(rb"[ \t]+")
_PIECE: Final = 1 << 20


def relaxed_field(raw: bytes) -> bytes:
    """A raw header field in relaxed form (3.4.2), ending in CRLF."""
    name, _, value = raw.partition(b":")
    value = value.replace(b"\r\n", b"").replace(b"\n", b"")
    return b"%s:%s\r\n" % (name.strip(b" \t").lower(), _BLANKS.sub(b" ", value).strip(b" "))


def simple_field(raw: bytes) -> bytes:
    """A raw header field in simple form (3.4.1): as it is."""
    return raw


class SignedFields:
    """The fields of a header section, to be taken by name from the bottom up (5.4.2)."""

    def __init__(self, section: bytes) -> None:
        self._fields: dict[bytes, list[bytes]] = {}
        for field in iter_fields(section, 0, len(section)):
            if field.name:
                raw = section[field.start : field.end]
                self._fields.setdefault(field.name, []).append(raw)

    def count(self, name: str) -> int:
        """How often a field occurs."""
        return len(self._fields.get(name.lower().encode(), ()))

    def select(self, names: Iterable[str]) -> list[bytes]:
        """The raw fields for a list of names; names that come too often select nothing."""
        left = {name: len(fields) for name, fields in self._fields.items()}
        found = []
        for name in names:
            key = name.lower().encode()
            at = left.get(key, 0) - 1
            if at >= 0:
                left[key] = at
                found.append(self._fields[key][at])
        return found


def header_data(
    fields: Sequence[bytes], signature: bytes, *, relaxed: bool
) -> bytes:
    """What is signed: the fields, then the signature's own with empty ``b=`` (3.7)."""
    form = relaxed_field if relaxed else simple_field
    data = b"".join(form(raw) for raw in fields) + form(signature)
    return data.removesuffix(b"\r\n")


class BodyHash:
    """The hash of a body that comes in pieces, cut anywhere.

    Lines end in CRLF. A line end that is missing at the end of a body that is not empty counts
    as being there: on its way the message gets one.
    """

    def __init__(self, algorithm: str, *, relaxed: bool) -> None:
        self._hash = hashlib.new(algorithm)
        self._relaxed = relaxed
        # What can be judged only with the bytes that follow.
        self._carry = b""
        # Line ends that count only if something else follows; and whether anything came
        # before them.
        self._empty = 0
        self._open = False

    def update(self, piece: bytes) -> None:
        """Take bytes."""
        if not piece:
            return
        data = self._carry + piece
        if self._relaxed:
            data = _BLANKS.sub(b" ", data).replace(b" \r\n", b"\r\n")
            keep = 2 if data.endswith(b" \r") else 1 if data.endswith((b" ", b"\r")) else 0
        else:
            keep = 1 if data.endswith(b"\r") else 0
        cut = len(data) - keep
        self._carry = data[cut:]
        self._lines(data[:cut])

    def _lines(self, data: bytes) -> None:
        """Hash canonical lines, but keep count of line ends at the end."""
        ends = _trailing_line_ends(data)
        text = data[: len(data) - 2 * ends]
        if text:
            self._flush()
            self._hash.update(text)
            self._open = True
        self._empty += ends

    def _flush(self) -> None:
        while self._empty:
            count = min(self._empty, _PIECE)
            self._hash.update(b"\r\n" * count)
            self._empty -= count

    def digest(self) -> bytes:
        """The hash of all that came."""
        carry, self._carry = self._carry, b""
        if carry and not (self._relaxed and carry == b" "):
            self._lines(carry)
        if self._open or not self._relaxed:
            # One line end is left of all at the end; simple form has it even for an empty body
            # (3.4.3), relaxed form then has nothing (3.4.4).
            self._hash.update(b"\r\n")
        return self._hash.digest()


def _trailing_line_ends(data: bytes) -> int:
    """How many CRLF stand at the end, in time linear in their number."""
    tail = len(data) - len(data.rstrip(b"\r\n"))
    if tail == 0:
        return 0
    if data.endswith(b"\r\n" * (tail // 2)) and tail % 2 == 0:
        return tail // 2
    low, high = 0, tail // 2
    while low < high:
        middle = (low + high + 1) // 2
        if data.endswith(b"\r\n" * middle):
            low = middle
        else:
            high = middle - 1
    return low
