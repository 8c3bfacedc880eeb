"""DKIM's canonical forms of header fields and bodies (RFC 6376 3.4), in bounded memory."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from typing import Final

from moxtw.mail.header import iter_fields

_BLANKS: Final = re.compile(rb"[ \t]+")
# Blanks that one space is to replace; most text has none of these.
_RUNS: Final = re.compile(rb"[ \t]{2,}|\t")
_PIECE: Final = 1 << 16
_B_TAG: Final = re.compile(rb"[ \t\r\n]*b[ \t\r\n]*=")


def relaxed_field(raw: bytes) -> bytes:
    """A raw header field in relaxed form (3.4.2), ending in CRLF."""
    name, _, value = raw.partition(b":")
    value = value.replace(b"\r\n", b"").replace(b"\n", b"")
    return b"%s:%s\r\n" % (name.strip(b" \t").lower(), _BLANKS.sub(b" ", value).strip(b" "))


class SignedFields:
    """The fields of a header section, to be taken by name from the bottom up (5.4.2)."""

    def __init__(self, section: bytes) -> None:
        self._fields: dict[bytes, list[bytes]] = {}
        # Relaxed forms, made once for all signatures.
        self._relaxed: dict[tuple[bytes, int], bytes] = {}
        for field in iter_fields(section, 0, len(section)):
            if field.name:
                raw = section[field.start : field.end]
                self._fields.setdefault(field.name, []).append(raw)

    def count(self, name: str) -> int:
        """How often a field occurs."""
        return len(self._fields.get(name.lower().encode(), ()))

    def all(self, name: bytes) -> list[bytes]:
        """The raw fields of a lower-case name, from the top."""
        return self._fields.get(name, [])

    def select(self, names: Iterable[str], *, relaxed: bool) -> list[bytes]:
        """Canonical fields for a list of names; names that come too often select nothing."""
        taken: dict[bytes, int] = {}
        found = []
        for name in names:
            key = name.lower().encode()
            fields = self._fields.get(key)
            if fields is None:
                continue
            at = taken.get(key, len(fields)) - 1
            if at < 0:
                continue
            taken[key] = at
            found.append(self._relaxed_form(key, at) if relaxed else fields[at])
        return found

    def _relaxed_form(self, name: bytes, at: int) -> bytes:
        form = self._relaxed.get((name, at))
        if form is None:
            form = self._relaxed[name, at] = relaxed_field(self._fields[name][at])
        return form


def without_signature(raw: bytes) -> bytes:
    """A raw signature field with an empty ``b=``: its value and the blanks around it go (3.5)."""
    raw = raw.removesuffix(b"\n").removesuffix(b"\r")
    name, colon, value = raw.partition(b":")
    tags = []
    for tag in value.split(b";"):
        match = _B_TAG.match(tag)
        tags.append(tag if match is None else match[0])
    return name + colon + b";".join(tags) + b"\r\n"


def header_data(forms: Sequence[bytes], signature: bytes, *, relaxed: bool) -> bytes:
    """What is signed: canonical fields, then the signature's own with empty ``b=`` (3.7).

    signature: that field, raw.
    """
    data = b"".join(forms) + (relaxed_field(signature) if relaxed else signature)
    return data.removesuffix(b"\r\n")


class BodyHash:
    """The hash of a body that comes in pieces, cut anywhere.

    Lines end in CRLF. A line end that is missing at the end of a body that is not empty counts
    as being there: on its way the message gets one.

    length: of the canonical body, so many bytes are hashed, the rest is not (``l=``).
    """

    def __init__(self, algorithm: str, *, relaxed: bool, length: int | None = None) -> None:
        self._hash = hashlib.new(algorithm)
        self._left = length
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
            if b"  " in data or b"\t" in data:
                data = _RUNS.sub(b" ", data)
            data = data.replace(b" \r\n", b"\r\n")
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
            self._put(text)
            self._open = True
        self._empty += ends

    def _flush(self) -> None:
        while self._empty:
            count = min(self._empty, _PIECE)
            self._put(b"\r\n" * count)
            self._empty -= count

    def _put(self, data: bytes) -> None:
        if self._left is not None:
            data = data[: self._left]
            self._left -= len(data)
        self._hash.update(data)

    @property
    def missing(self) -> int:
        """After the digest: how many bytes the body was shorter than its length."""
        return self._left or 0

    def digest(self) -> bytes:
        """The hash of all that came."""
        carry, self._carry = self._carry, b""
        if carry and not (self._relaxed and carry == b" "):
            self._lines(carry)
        if self._open or not self._relaxed:
            # One line end is left of all at the end; simple form has it even for an empty body
            # (3.4.3), relaxed form then has nothing (3.4.4).
            self._put(b"\r\n")
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
