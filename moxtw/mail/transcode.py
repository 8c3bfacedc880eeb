"""A message in another transfer encoding: for servers that take less than it has.

Binary content (BODY=BINARYMIME, RFC 3030 3) becomes base64, so that all of the message are
lines of bounded length, as DATA has them; for servers without 8BITMIME 8-bit content does, too
(RFC 6152 3). Parts that are fine stay as they are, byte for byte.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator
from typing import Final

from moxtw.mail.header import parse_headers
from moxtw.mail.mime import Part

PIECE: Final = 57 * 4096
"""Bytes read at once: whole lines of base64."""

MAX_LINE: Final = 998
"""Octets of a line without its CRLF, RFC 5322 2.1.1."""

_MAX_HEADER: Final = 1 << 20
_BAD_BYTES: Final = re.compile(rb"\x00|\r(?!\n)|(?<!\r)\n")
_LONG: Final = re.compile(rb"[^\n]{%d}" % (MAX_LINE + 2))
_EIGHT_BIT: Final = re.compile(rb"[\x80-\xff]")
_LINE_END: Final = re.compile(rb"\r\n|\n")

Read = Callable[[int, int], bytes]
"""`read(start, length)`: bytes of the message."""


class TranscodeError(ValueError):
    """A message that cannot be brought into that form, with the reason."""


def transcode(root: Part, size: int, read: Read, *, seven_bit: bool = False) -> Iterator[bytes]:
    """The message in pieces, each part in an encoding made of lines.

    root: its MIME tree. seven_bit: without 8-bit bytes in bodies, too. Reads a part twice, in
    pieces. Raises TranscodeError, at the latest with the piece that cannot be.
    """
    return _Transcoder(read, size, seven_bit).message(root)


class _Transcoder:
    def __init__(self, read: Read, size: int, seven_bit: bool) -> None:
        self._read = read
        self._size = size
        self._seven_bit = seven_bit

    def message(self, root: Part) -> Iterator[bytes]:
        yield from self._part(root, root.header_start, top=True)
        yield from self._text(root.body_end, self._size)

    def _part(self, part: Part, start: int, *, top: bool = False) -> Iterator[bytes]:
        """A part from `start` on, where the bytes between are of nobody."""
        yield from self._text(start, part.header_start)
        if part.message is None and not part.parts:
            yield from self._leaf(part, top)
            return
        encoding = part.encoding
        if encoding == "binary":
            encoding = "8bit"
        if encoding == "8bit" and self._seven_bit:
            encoding = "7bit"
        yield self._header(part, encoding if encoding != part.encoding else "", top)
        at = part.body_start
        for child in [part.message] if part.message is not None else part.parts:
            yield from self._part(child, at)
            at = child.body_end
        yield from self._text(at, part.body_end)

    def _leaf(self, part: Part, top: bool) -> Iterator[bytes]:
        encoding = part.encoding
        clean, eight_bit = self._look(part)
        if encoding in ("7bit", "8bit", "binary"):
            if not clean or (eight_bit and self._seven_bit):
                yield self._header(part, "base64", top)
                yield from self._base64(part)
                return
            if encoding == "binary" or (encoding == "8bit" and self._seven_bit):
                encoding = "8bit" if eight_bit else "7bit"
        elif not clean and encoding not in ("base64", "quoted-printable"):
            raise TranscodeError(f"part with unknown transfer encoding {encoding!r} is binary")
        yield self._header(part, encoding if encoding != part.encoding else "", top)
        yield from self._text(part.body_start, part.body_end)

    def _look(self, part: Part) -> tuple[bool, bool]:
        """Whether a body consists of clean lines, and whether it has 8-bit bytes."""
        clean, eight_bit = True, False
        left = b""
        for piece in self._pieces(part.body_start, part.body_end):
            eight_bit = eight_bit or _EIGHT_BIT.search(piece) is not None
            data = left + piece
            # What is open at the end of a piece is looked at with the next.
            cut = data.rfind(b"\n") + 1
            line, left = data[:cut], data[cut:]
            if _BAD_BYTES.search(line) or _LONG.search(line) or len(left) > MAX_LINE + 2:
                clean = False
            if not clean:
                left = b""
                if eight_bit:
                    break
        if _BAD_BYTES.search(left) or len(left) > MAX_LINE:
            clean = False
        return clean, eight_bit

    def _header(self, part: Part, encoding: str, top: bool) -> bytes:
        """The header section, with another transfer encoding unless that is empty."""
        size = part.body_start - part.header_start
        if size > _MAX_HEADER:
            raise TranscodeError("header section too large")
        section = self._read(part.header_start, size)
        if encoding:
            headers = parse_headers(section)
            kept = []
            at = 0
            for field in headers.fields:
                if field.name == b"content-transfer-encoding":
                    kept.append(section[at : field.start])
                    at = field.end
            fields = b"".join([*kept, section[at:]]).rstrip(b"\r\n")
            added = f"Content-Transfer-Encoding: {encoding}".encode()
            if top and b"mime-version" not in headers:
                added = b"MIME-Version: 1.0\r\n" + added
            section = (fields + b"\r\n" if fields else b"") + added + b"\r\n\r\n"
        return self._lines(section)

    def _base64(self, part: Part) -> Iterator[bytes]:
        for piece in self._pieces(part.body_start, part.body_end):
            yield base64.encodebytes(piece).replace(b"\n", b"\r\n")

    def _text(self, start: int, end: int) -> Iterator[bytes]:
        """Lines: bare line feeds among them become line ends."""
        held = b""
        for piece in self._pieces(start, end):
            data = held + piece
            held = b""
            if data.endswith(b"\r"):
                data, held = data[:-1], b"\r"
            yield self._lines(data)
        if held:
            raise TranscodeError("bare carriage return")

    @staticmethod
    def _lines(data: bytes) -> bytes:
        if b"\0" in data or re.search(rb"\r(?!\n)", data):
            raise TranscodeError("carriage return alone, or NUL, outside of binary content")
        if data.count(b"\n") != data.count(b"\r\n"):
            return _LINE_END.sub(b"\r\n", data)
        return data

    def _pieces(self, start: int, end: int) -> Iterator[bytes]:
        while start < end:
            piece = self._read(start, min(PIECE, end - start))
            if not piece:
                raise TranscodeError("message is shorter than it should be")
            start += len(piece)
            yield piece
