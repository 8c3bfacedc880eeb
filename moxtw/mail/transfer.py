"""Content-Transfer-Encoding (RFC 2045 6): decoding that tolerates damage, whole or in pieces."""

from __future__ import annotations

import binascii
import re
from typing import Final, Protocol

IDENTITY: Final = frozenset(("7bit", "8bit", "binary"))
"""Encodings that leave the content as it is."""

_BASE64: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_NOT_BASE64: Final = bytes(sorted(set(range(256)) - set(_BASE64)))
_NOT_BASE64_OR_PAD: Final = _NOT_BASE64.replace(b"=", b"")
# RFC 2045 6.7 (3): blanks at the end of a line are not of the content. (The look-behind and the
# possessive repeat keep long runs of blanks from costing quadratic time.)
_TRAILING_BLANKS: Final = re.compile(rb"(?<![ \t])[ \t]++(?=\r?\n|\Z)")


class UnknownEncoding(ValueError):
    """The transfer encoding is not one of RFC 2045."""


def _decode_base64(data: bytes) -> bytes:
    try:
        return binascii.a2b_base64(data)
    except binascii.Error:
        # Cut short or badly padded: decode what makes whole bytes.
        digits = data.translate(None, _NOT_BASE64)
        if len(digits) % 4 == 1:
            digits = digits[:-1]
        return binascii.a2b_base64(digits + b"=" * (-len(digits) % 4))


def _decode_quoted_printable(data: bytes) -> bytes:
    if (
        b" \r\n" in data
        or b" \n" in data
        or b"\t\r\n" in data
        or b"\t\n" in data
        or data.endswith((b" ", b"\t"))
    ):
        data = _TRAILING_BLANKS.sub(b"", data)
    return binascii.a2b_qp(data)


def decode(data: bytes, encoding: str) -> bytes:
    """The content behind the (lower-case) transfer encoding.

    Characters that do not belong are skipped, a cut-off end is dropped.

    Raises UnknownEncoding.
    """
    if encoding in IDENTITY:
        return data
    if encoding == "base64":
        return _decode_base64(data)
    if encoding == "quoted-printable":
        return _decode_quoted_printable(data)
    raise UnknownEncoding(encoding)


class Decoder(Protocol):
    """Decodes content that comes in pieces. A copy goes on by itself."""

    @property
    def held(self) -> int:
        """How many bytes are kept back until more comes."""
        ...

    def feed(self, data: bytes) -> bytes:
        """What can be decoded so far and was not returned before."""
        ...

    def finish(self) -> bytes:
        """The rest."""
        ...


class _Identity:
    held = 0

    def feed(self, data: bytes) -> bytes:
        return data

    def finish(self) -> bytes:
        return b""


class _Base64:
    """Groups of four digits, whatever lies between; the first padding ends the content."""

    def __init__(self) -> None:
        self._rest = b""
        self._ended = False

    @property
    def held(self) -> int:
        return len(self._rest)

    def feed(self, data: bytes) -> bytes:
        if self._ended:
            return b""
        digits = self._rest + data.translate(None, _NOT_BASE64_OR_PAD)
        pad = digits.find(b"=")
        if pad >= 0:
            self._ended = True
            self._rest = b""
            return _decode_base64(digits[:pad])
        whole = len(digits) & ~3
        self._rest = digits[whole:]
        return binascii.a2b_base64(digits[:whole])

    def finish(self) -> bytes:
        rest, self._rest = self._rest, b""
        return _decode_base64(rest)


class _QuotedPrintable:
    """Whole lines are decoded; a very long one in parts that do not cut an escape or blanks.

    Only so many blanks are kept together, though.
    """

    _LONG: Final = 65536

    def __init__(self) -> None:
        self._rest = b""

    @property
    def held(self) -> int:
        return len(self._rest)

    def feed(self, data: bytes) -> bytes:
        data = self._rest + data
        cut = data.rfind(b"\n") + 1
        if len(data) - cut > self._LONG:
            cut = len(data.rstrip(b" \t\r"))
            if len(data) - cut > self._LONG:
                cut = len(data)
            escape = data.rfind(b"=", max(0, cut - 3), cut)
            if escape >= 0:
                cut = escape
        self._rest = data[cut:]
        return _decode_quoted_printable(data[:cut])

    def finish(self) -> bytes:
        rest, self._rest = self._rest, b""
        return _decode_quoted_printable(rest)


def decoder(encoding: str) -> Decoder:
    """A decoder for content that comes in pieces. Raises UnknownEncoding."""
    if encoding in IDENTITY:
        return _Identity()
    if encoding == "base64":
        return _Base64()
    if encoding == "quoted-printable":
        return _QuotedPrintable()
    raise UnknownEncoding(encoding)
