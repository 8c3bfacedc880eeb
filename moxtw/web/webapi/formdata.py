"""Forms in request bodies: urlencoded (WHATWG URL 5.1) and multipart/form-data (RFC 7578).

A form of many megabytes is not copied more often than needed: files stay views of the body.
Blocks for as long as the form is large: for the reactor thread only if it is small.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import unquote_to_bytes

MAX_PARTS: Final = 1000
MAX_PART_HEADER: Final = 16_384
_STEP: Final = 1 << 20
_WINDOW: Final = 1 << 24

_PARAM: Final = re.compile(
    rb';\s*([!#$%&\'*+.^_`|~0-9A-Za-z-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^;"\s]+))'
)
_ESCAPED: Final = re.compile(rb'\\(["\\])')
_BOUNDARY: Final = re.compile(rb"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")


class FormError(ValueError):
    """A body that is not the form that it says; the message says why."""


@dataclass(frozen=True, slots=True)
class Upload:
    """A file in a form: `data` is a view, valid as long as the body; `start` its place there."""

    name: str
    content_type: str
    content_id: str
    data: memoryview
    start: int = 0


@dataclass(slots=True)
class Form:
    """Fields and files by name, in order."""

    fields: dict[str, list[bytes | bytearray]] = field(default_factory=dict)
    files: dict[str, list[Upload]] = field(default_factory=dict)


def parse_form(content_type: str, body: Any) -> Form:
    """Parse a body, a binary file, by its Content-Type. Raises FormError, OSError."""
    raw = content_type.encode("utf-8", "replace")
    media = raw.partition(b";")[0].strip().lower()
    if media == b"application/x-www-form-urlencoded":
        return _urlencoded(_view(body))
    if media == b"multipart/form-data":
        boundary = _params(raw).get(b"boundary", b"")
        if not _BOUNDARY.fullmatch(boundary):
            raise FormError("multipart form without a valid boundary")
        return _multipart(_view(body), boundary)
    if not media:
        raise FormError("no content type; a form is expected")
    raise FormError(f"content type {media.decode('utf-8', 'replace')[:100]!r} is not a form")


def _view(body: Any) -> memoryview:
    """The bytes of a body, mapped if it is in a file of the file system."""
    body.seek(0)
    file = getattr(body, "file", None)
    if file is None:
        return memoryview(body.read())
    size = file.seek(0, 2)
    if size == 0:
        return memoryview(b"")
    return memoryview(mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ))


def _params(value: bytes) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    for match in _PARAM.finditer(value):
        text = match[3] if match[2] is None else _ESCAPED.sub(rb"\1", match[2])
        found.setdefault(match[1].lower(), text)
    return found


# application/x-www-form-urlencoded


def _urlencoded(view: memoryview) -> Form:
    source: Any = view.obj
    form = Form()
    start, size, count = 0, len(view), 0
    while start < size:
        end = source.find(b"&", start)
        end = size if end < 0 else end
        if end > start:
            count += 1
            if count > MAX_PARTS:
                raise FormError(f"more than {MAX_PARTS} fields")
            equals = source.find(b"=", start, end)
            equals = end if equals < 0 else equals
            key = bytes(_unquoted(view[start:equals])).decode("utf-8", "replace")
            form.fields.setdefault(key, []).append(_unquoted(view[equals + 1 : end]))
        start = end + 1
    return form


def _unquoted(view: memoryview) -> bytes | bytearray:
    """Undo the encoding, in steps: the standard library makes an object of each escape."""
    if len(view) <= _STEP:
        return unquote_to_bytes(bytes(view).replace(b"+", b" "))
    out = bytearray()
    start = 0
    while start < len(view):
        piece = bytes(view[start : start + _STEP])
        if start + _STEP < len(view):
            # An escape must not be cut.
            cut = piece.rfind(b"%", -2)
            if cut > 0:
                piece = piece[:cut]
        out += unquote_to_bytes(piece.replace(b"+", b" "))
        start += len(piece)
    return out


# multipart/form-data


def _multipart(view: memoryview, boundary: bytes) -> Form:
    form = Form()
    for header, data, start in _parts(view, boundary):
        disposition, content_type, content_id = _part_header(header)
        media, params = disposition.partition(b";")[0].strip().lower(), _params(disposition)
        if media != b"form-data" or b"name" not in params:
            raise FormError("part of the form without a name")
        name = params[b"name"].decode("utf-8", "replace")
        if b"filename" in params:
            if not params[b"filename"] and not data:
                continue  # What browsers send for a field without a file.
            filename = params[b"filename"].replace(b"%22", b'"').decode("utf-8", "replace")
            upload = Upload(filename, content_type, content_id, data, start)
            form.files.setdefault(name, []).append(upload)
        else:
            form.fields.setdefault(name, []).append(bytes(data))
    return form


def _find(source: Any, wanted: bytes, start: int) -> int:
    """As `find`, without keeping all of a mapped file in memory."""
    if not isinstance(source, mmap.mmap):
        found: int = source.find(wanted, start)
        return found
    while start < len(source):
        at = source.find(wanted, start, start + _WINDOW + len(wanted))
        if at >= 0:
            return at
        page = start - start % mmap.PAGESIZE
        source.madvise(mmap.MADV_DONTNEED, page, min(_WINDOW, len(source) - page))
        start += _WINDOW
    return -1


def _parts(view: memoryview, boundary: bytes) -> Iterator[tuple[bytes, memoryview, int]]:
    """Header and content of each part, and where the content begins."""
    source: Any = view.obj  # bytes or mmap: both can search
    delimiter = b"\r\n--" + boundary
    if source[: len(boundary) + 2] == b"--" + boundary:
        at = len(boundary) + 2
    else:
        found = source.find(delimiter)
        if found < 0:
            raise FormError("multipart form without its boundary")
        at = found + len(delimiter)
    count = 0
    while source[at : at + 2] != b"--":
        line_end = source.find(b"\r\n", at, at + 1000)
        if line_end < 0 or source[at:line_end].strip(b" \t"):
            raise FormError("malformed boundary in multipart form")
        count += 1
        if count > MAX_PARTS:
            raise FormError(f"more than {MAX_PARTS} parts")
        start = line_end + 2
        end = _find(source, delimiter, line_end)
        if end < 0:
            raise FormError("multipart form is cut off")
        if source[start : start + 2] == b"\r\n":
            header_end, body = start, start + 2
        else:
            header_end = source.find(b"\r\n\r\n", start, min(start + MAX_PART_HEADER, end))
            if header_end < 0:
                raise FormError("malformed or oversized header of a part")
            body = header_end + 4
        body = min(body, end)
        yield bytes(view[start:header_end]), view[body:end], body
        at = end + len(delimiter)


def _part_header(header: bytes) -> tuple[bytes, str, str]:
    """Content-Disposition, Content-Type and Content-ID."""
    found: dict[bytes, bytes] = {}
    for line in header.split(b"\r\n"):
        name, colon, value = line.partition(b":")
        if colon:
            found.setdefault(name.strip().lower(), value.strip())
    return (
        found.get(b"content-disposition", b""),
        found.get(b"content-type", b"").decode("utf-8", "replace"),
        found.get(b"content-id", b"").decode("utf-8", "replace"),
    )
