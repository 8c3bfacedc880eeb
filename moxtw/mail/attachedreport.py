"""Reports that other servers attach to mail: found in the message, unpacked, with bounds.

What comes out is the report itself, such as the XML of RFC 7489 or the JSON of RFC 8460.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterable
from typing import Final

from moxtw.mail.mime import Part, decode_body, parse_message
from moxtw.mail.transfer import UnknownEncoding

MAX_MESSAGE: Final = 15 << 20
"""Bytes of a message that is looked at."""

MAX_REPORT: Final = 20 << 20
"""Bytes of a report, unpacked."""

_MAX_PARTS: Final = 200
_GZIP: Final = b"\x1f\x8b"
_ZIP: Final = b"PK\x03\x04"


class ReportError(ValueError):
    """There is no report that could be read: why."""


def dmarc_report(data: bytes) -> bytes:
    """The XML of the first part of a message that holds a DMARC report (RFC 7489 7.2.1.1).

    Raises ReportError.
    """
    for part in _leaves(data):
        kind = part.content_type
        if kind in ("text/xml", "application/xml"):
            return _decoded(part, data)
        if kind == "application/zip":
            return unzip(_decoded(part, data))
        if kind in ("application/gzip", "application/x-gzip"):
            return gunzip(_decoded(part, data))
        if kind == "application/octet-stream":
            content = _decoded(part, data)
            if content.startswith(_ZIP):
                return unzip(content)
            if content.startswith(_GZIP):
                return gunzip(content)
            if content.lstrip(b"\xef\xbb\xbf \t\r\n").startswith((b"<?xml", b"<feedback")):
                return content
    raise ReportError("no report in message")


def tls_report(data: bytes) -> bytes:
    """The JSON of a TLS report (RFC 8460 5.3): a message's only part, or one of its parts.

    Raises ReportError.
    """
    root = _root(data)
    parts: Iterable[Part] = [root]
    if root.is_multipart:
        if root.content_type != "multipart/report" or (
            root.params.get("report-type", "").lower() != "tlsrpt"
        ):
            raise ReportError("message is no multipart/report of type tlsrpt")
        parts = root.parts[:_MAX_PARTS]
    for part in parts:
        if part.content_type == "application/tlsrpt+json":
            return _decoded(part, data)
        if part.content_type == "application/tlsrpt+gzip":
            return gunzip(_decoded(part, data))
    raise ReportError("no report in message")


def _root(data: bytes) -> Part:
    if len(data) > MAX_MESSAGE:
        raise ReportError("message is too large")
    return parse_message(data)


def _leaves(data: bytes) -> list[Part]:
    found = []
    for part in _root(data).walk():
        if not part.is_multipart:
            found.append(part)
            if len(found) >= _MAX_PARTS:
                break
    return found


def _decoded(part: Part, data: bytes) -> bytes:
    try:
        content = decode_body(part, data)
    except UnknownEncoding as exc:
        raise ReportError(f"transfer encoding {str(exc)[:50]!r}") from None
    if len(content) > MAX_REPORT:
        raise ReportError("report is too large")
    return content


def gunzip(data: bytes) -> bytes:
    """What is in a gzip file. Raises ReportError."""
    unpacker = zlib.decompressobj(16 + zlib.MAX_WBITS)
    try:
        content = unpacker.decompress(data, MAX_REPORT + 1)
    except zlib.error as exc:
        raise ReportError(f"gzip: {exc}") from None
    if len(content) > MAX_REPORT:
        raise ReportError("report is too large")
    if not unpacker.eof:
        raise ReportError("gzip: cut off")
    return content


def unzip(data: bytes) -> bytes:
    """The only file in a zip archive. Raises ReportError."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            files = [info for info in archive.infolist() if not info.is_dir()]
            if len(files) != 1:
                raise ReportError(f"zip with {len(files)} files, need one")
            with archive.open(files[0]) as member:
                content = member.read(MAX_REPORT + 1)
    except ReportError:
        raise
    # What hostile archives make the module raise.
    except (
        zipfile.BadZipFile,
        zipfile.LargeZipFile,
        NotImplementedError,
        RuntimeError,
        EOFError,
        OSError,
        ValueError,
        zlib.error,
    ) as exc:
        raise ReportError(f"zip: {str(exc)[:100]}") from None
    if len(content) > MAX_REPORT:
        raise ReportError("report is too large")
    return content
