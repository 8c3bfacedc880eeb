"""The likely media type of data, by its first bytes (after WHATWG MIME Sniffing, 7)."""

from __future__ import annotations

import re
from typing import Final

SNIFFED: Final = 512
"""How many bytes are looked at."""

_DEFAULT: Final = "application/octet-stream"
_HTML: Final = re.compile(
    rb"[\t\n\x0c\r ]*<(?:!doctype html|html|head|script|iframe|h1|div|font|table|a|style|title|b"
    rb"|body|br|p|!--)(?:[ >]|(?<=!--))",
    re.IGNORECASE,
)
_XML: Final = re.compile(rb"[\t\n\x0c\r ]*<\?xml")
_MAGIC: Final = (
    (b"%PDF-", "application/pdf"),
    (b"%!PS-Adobe-", "application/postscript"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"BM", "image/bmp"),
    (b"\x00\x00\x01\x00", "image/x-icon"),
    (b"PK\x03\x04", "application/zip"),
    (b"\x1f\x8b\x08", "application/x-gzip"),
    (b"Rar!\x1a\x07", "application/x-rar-compressed"),
    (b"OggS\x00", "application/ogg"),
    (b"ID3", "audio/mpeg"),
    (b"MThd\x00\x00\x00\x06", "audio/midi"),
    (b"\x1aE\xdf\xa3", "video/webm"),
    (b"\x00asm", "application/wasm"),
    (b"wOFF", "font/woff"),
    (b"wOF2", "font/woff2"),
)
_RIFF: Final = {b"WEBP": "image/webp", b"WAVE": "audio/wave", b"AVI ": "video/avi"}
_BINARY: Final = re.compile(rb"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f]")


def sniff(data: bytes | memoryview) -> str:
    """The media type of data, by its first 512 bytes; application/octet-stream if unknown."""
    head = bytes(data[:SNIFFED])
    if _HTML.match(head):
        return "text/html; charset=utf-8"
    if _XML.match(head):
        return "text/xml; charset=utf-8"
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            return kind
    if head[:4] == b"RIFF" and head[8:12] in _RIFF:
        return _RIFF[head[8:12]]
    if head[4:8] == b"ftyp":
        return "video/mp4"
    if head.startswith((b"\xfe\xff", b"\xff\xfe")):
        return f"text/plain; charset=utf-16{'be' if head[0] == 0xFE else 'le'}"
    if head and not _BINARY.search(head):
        return "text/plain; charset=utf-8"
    return _DEFAULT
