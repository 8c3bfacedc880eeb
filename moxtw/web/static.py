"""Files of a directory, read off the reactor thread: listings, ranges, conditional requests."""

from __future__ import annotations

import mimetypes
import os
import stat
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import IO, Any, Final
from urllib.parse import quote

from twisted.internet.defer import Deferred
from twisted.web import http
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from moxtw.web.flow import send_pieces
from moxtw.web.pages import html
from moxtw.web.site import method_not_allowed

Run = Callable[..., Awaitable[Any]]
"""Runs a blocking function with arguments in a thread."""

CHUNK: Final = 1 << 16
MAX_LISTED: Final = 10_000


@dataclass(frozen=True, slots=True)
class _File:
    file: IO[bytes]
    name: str
    size: int
    mtime: float


@dataclass(frozen=True, slots=True)
class _Listing:
    entries: list[tuple[str, int, float]]


@dataclass(frozen=True, slots=True)
class _Problem:
    status: int
    text: str


class StaticFiles(Resource):
    """The files below `root`; what is left of the path after `strip` names one of them."""

    isLeaf = True

    def __init__(
        self,
        root: Path,
        run: Run,
        *,
        strip: str = "",
        list_files: bool = False,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._root = root
        self._run = run
        self._strip = strip
        self._list_files = list_files
        self._headers = dict(headers or {})

    def render(self, request: Any) -> Any:
        """Answer GET and HEAD."""
        if request.method not in (b"GET", b"HEAD"):
            return method_not_allowed(request, "GET, HEAD")
        Deferred.fromCoroutine(self._answer(request)).addErrback(request.processingFailed)
        return NOT_DONE_YET

    async def _answer(self, request: Any) -> None:
        path = "/" + b"/".join([*request.prepath, *request.postpath]).decode()
        found = await self._run(self._find, path)
        if request._disconnected:
            if isinstance(found, _File):
                found.file.close()
            return
        for name, value in self._headers.items():
            request.responseHeaders.setRawHeaders(name, [value])
        if isinstance(found, _File):
            await self._send(request, found)
        elif isinstance(found, _Listing):
            if path.endswith("/"):
                _finish(request, 200, _listing_page(path, found), "text/html; charset=utf-8")
            else:
                _redirect(request, path)
        elif found.status == 307:
            _redirect(request, path)
        else:
            text = f"{found.status} - {found.text} (id {request.site.ids.encrypt(request.cid)})\n"
            _finish(request, found.status, text.encode(), "text/plain; charset=utf-8")

    def _find(self, path: str) -> _File | _Listing | _Problem:
        """What is at a path. Blocks. `path` is clean: it has no ``..``."""
        relative = path.removeprefix(self._strip).lstrip("/")
        target = self._root / relative
        try:
            info = target.stat()
            if stat.S_ISDIR(info.st_mode):
                return self._find_in_directory(target, path)
            if relative.endswith("/") or not stat.S_ISREG(info.st_mode):
                return _Problem(404, "page not found")
            return _open(target)
        except (FileNotFoundError, NotADirectoryError):
            return _Problem(404, "page not found")
        except PermissionError:
            return _Problem(403, "permission denied")
        except OSError:
            return _Problem(404, "page not found")  # such as a name that is too long

    def _find_in_directory(self, target: Path, path: str) -> _File | _Listing | _Problem:
        if not path.endswith("/"):
            return _Problem(307, "")
        index = target / "index.html"
        if index.is_file():
            return _open(index)
        if not self._list_files:
            return _Problem(403, "permission denied")
        entries = []
        with os.scandir(target) as scan:
            for entry in scan:
                try:
                    info = entry.stat()
                except OSError:
                    continue
                slash = "/" if stat.S_ISDIR(info.st_mode) else ""
                entries.append((entry.name + slash, info.st_size, info.st_mtime))
                if len(entries) >= MAX_LISTED:
                    break
        return _Listing(sorted(entries))

    async def _send(self, request: Any, found: _File) -> None:
        try:
            if request.setLastModified(found.mtime) is http.CACHED:
                request.finish()
                return
            kind, encoding = mimetypes.guess_type(found.name)
            if encoding is not None or kind is None:
                kind = "application/octet-stream"
            elif kind.startswith("text/"):
                kind += "; charset=utf-8"
            headers = request.responseHeaders
            headers.setRawHeaders(b"Content-Type", [kind])
            headers.setRawHeaders(b"Accept-Ranges", [b"bytes"])
            start, end = 0, found.size
            wanted = parse_range(request.getHeader(b"range"), found.size)
            if wanted is not None and request.getHeader(b"if-range") is None:
                start, end = wanted
                if start >= end:
                    headers.setRawHeaders(b"Content-Range", [f"bytes */{found.size}"])
                    _finish(request, 416, b"", None)
                    return
                headers.setRawHeaders(b"Content-Range", [f"bytes {start}-{end - 1}/{found.size}"])
                request.setResponseCode(206)
            headers.setRawHeaders(b"Content-Length", [b"%d" % (end - start)])
            if request.method == b"HEAD":
                request.write(b"")
            else:
                await self._copy(request, found.file, start, end - start)
            if not request._disconnected:
                request.finish()
        finally:
            found.file.close()

    async def _copy(self, request: Any, file: IO[bytes], start: int, left: int) -> None:
        await self._run(file.seek, start)

        async def following() -> bytes:
            nonlocal left
            if left <= 0:
                return b""
            data: bytes = await self._run(file.read, min(left, CHUNK))
            left -= len(data)
            return data

        if await send_pieces(request, following) and left > 0:
            # Shorter than it was: the client must see that the answer is cut off.
            request.transport.abortConnection()


def _open(path: Path) -> _File:
    file = path.open("rb")
    info = os.fstat(file.fileno())
    return _File(file, path.name, info.st_size, info.st_mtime)


def _finish(request: Any, status: int, body: bytes, content_type: str | None) -> None:
    request.setResponseCode(status)
    if content_type is not None:
        request.responseHeaders.setRawHeaders(b"Content-Type", [content_type])
    request.responseHeaders.setRawHeaders(b"Content-Length", [b"%d" % len(body)])
    request.write(body if request.method != b"HEAD" else b"")
    request.finish()


def _redirect(request: Any, path: str) -> None:
    location = quote(path, safe="/~") + "/"
    request.responseHeaders.setRawHeaders(b"Location", [location])
    _finish(request, 307, b"", None)


def _listing_page(path: str, listing: _Listing) -> bytes:
    rows = []
    for name, size, mtime in [("../", 0, 0.0), *listing.entries]:
        shown = "" if name.endswith("/") else str(size)
        time = http.datetimeToString(mtime).decode() if mtime else ""
        link = "./" + quote(name, safe="/~") if name != "../" else name
        rows.append(
            f'<tr><td><a href="{escape(link)}">{escape(name)}</a></td>'
            f'<td style="text-align:right">{shown}</td><td>{time}</td></tr>\n'
        )
    title = f"Index of {path}"
    return html(title, f"<h1>{escape(title)}</h1>\n<table>\n{''.join(rows)}</table>\n")


def parse_range(header: bytes | None, size: int) -> tuple[int, int] | None:
    """The single range that a header asks for, as [start, end), RFC 9110 14.1.2.

    None for no range, several, or ones that are malformed: then the whole is sent. An empty
    range: it lies outside.
    """
    if header is None or not header.startswith(b"bytes=") or b"," in header:
        return None
    first, dash, last = header[6:].strip().partition(b"-")
    if not dash or not (first or last) or len(first) > 18 or len(last) > 18:
        return None
    if (first and not first.isdigit()) or (last and not last.isdigit()):
        return None
    if not first:
        count = int(last)
        return (max(size - count, 0), size) if count else (0, 0)
    start = int(first)
    end = int(last) + 1 if last else size
    if last and end <= start:
        return None
    return (start, min(end, size)) if start < size else (0, 0)
