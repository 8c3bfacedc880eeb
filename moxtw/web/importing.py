"""Uploads of mail to import, and their progress as a stream of events."""

from __future__ import annotations

import io
import os
from collections import deque
from typing import IO, Any, Final

import msgspec
from klein import Klein, Response
from twisted.internet.defer import Deferred
from twisted.web.http import Request

from moxtw.admin.context import AdminContext, Caller
from moxtw.admin.imports import operations
from moxtw.admin.imports.engine import Event
from moxtw.log import Logger
from moxtw.web.conversions import answered
from moxtw.web.flow import send_pieces
from moxtw.web.rpc import PlainError, plain, shielded
from moxtw.web.sessions import CSRF_HEADER, WebAuth
from moxtw.web.visit import SECURITY_HEADERS, Origin, Visit, header
from moxtw.web.webapi.formdata import FormError, parse_form

log = Logger("webaccount")

MAX_UPLOAD: Final = 16 << 30
"""Longest upload in bytes, of who is logged in."""
MAX_STRANGER: Final = 32 << 20
"""Longest upload of who has not used a session since the server started."""
_KEEPALIVE: Final = 60.0
_PENDING: Final = 1000


class _Part(io.RawIOBase):
    """A part of a file, with a place of its own to read from."""

    def __init__(self, fd: int, start: int, size: int) -> None:
        super().__init__()
        self._fd = fd
        self._start = start
        self._size = size
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        base = (0, self._at, self._size)[whence]
        self._at = max(base + offset, 0)
        return self._at

    def readinto(self, buffer: Any) -> int:
        size = max(min(len(buffer), self._size - self._at), 0)
        data = os.pread(self._fd, size, self._start + self._at)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def close(self) -> None:
        if not self.closed:
            os.close(self._fd)
        super().close()


class Importing:
    """The paths ``import`` and ``importprogress`` of the account interface."""

    def __init__(self, ctx: AdminContext, auth: WebAuth, origin: Origin) -> None:
        self._ctx = ctx
        self._auth = auth
        self._origin = origin

    def route(self, app: Klein) -> None:
        """Add the routes to a Klein app."""

        @app.route("/import")  # type: ignore[type-var]
        def upload(request: Request) -> Deferred[Response]:
            return shielded(self._answered(request))

        @app.route("/importprogress")
        def progress(request: Request) -> Deferred[Any]:
            return shielded(self._progress(request))

    async def _answered(self, request: Request) -> Response:
        visit = self._origin(request)
        return await answered(visit, self._upload(request, visit), not_found=400)

    async def _upload(self, request: Request, visit: Visit) -> Response:
        if request.method != b"POST":
            return plain(405, visit.text("method not allowed"), {"Allow": "POST"})
        csrf = header(request, CSRF_HEADER)
        if not csrf:
            raise PlainError(403, f"missing header {CSRF_HEADER}")
        session = await self._auth.page(request, visit, csrf)
        run = self._ctx.store.run
        content_type = header(request, "Content-Type")
        try:
            file, name, size, prefix = await run(_parse, content_type, request.content)
        except FormError as exc:
            raise PlainError(400, str(exc)) from exc
        caller = Caller("webaccount", session.account, visit.remote_ip, visit.cid)
        running = await self._ctx.audit.noted(
            caller,
            "import",
            {"name": name, "size": size, "prefix": prefix},
            operations.begin_upload(
                self._ctx, caller, session.account, file, name, size, prefix
            ),
        )
        return Response(
            200,
            {
                **SECURITY_HEADERS,
                "Cache-Control": "no-store",
                "Content-Type": "application/json; charset=utf-8",
            },
            msgspec.json.encode({"Token": running.token}),
        )

    async def _progress(self, request: Any) -> Response | bytes:
        """Stream the events of an import, those so far first, until it ends."""
        visit = self._origin(request)
        if request.method != b"GET":
            return plain(405, visit.text("method not allowed"), {"Allow": "GET"})
        token = request.args.get(b"token", [b""])[0].decode("utf-8", "replace")
        running = self._ctx.imports.find(token) if token else None
        if running is None:
            text = "unknown token, the import may have ended more than a minute ago"
            return plain(400, visit.text(text if token else "no token given"))
        headers = request.responseHeaders
        for key, value in SECURITY_HEADERS.items():
            headers.setRawHeaders(key, [value])
        headers.setRawHeaders("Content-Type", ["text/event-stream"])
        headers.setRawHeaders("Cache-Control", ["no-cache"])
        queue: deque[Event] = deque(running.history())
        wake: list[Deferred[None]] = []

        def listen(event: Event) -> None:
            # Of counts for the same mailbox the last one says it all.
            if queue and event.kind == "count" and queue[-1].kind == "count":
                if queue[-1].mailbox == event.mailbox:
                    queue.pop()
            elif len(queue) >= _PENDING and event.kind not in ("done", "aborted"):
                return
            queue.append(event)
            rouse()

        def rouse() -> None:
            if wake:
                wake.pop().callback(None)

        ended = False

        async def following() -> bytes:
            nonlocal ended
            if ended:
                return b""
            if not queue:
                waiting: Deferred[None] = Deferred()
                wake.append(waiting)
                timer = self._ctx.clock.callLater(_KEEPALIVE, rouse)
                await waiting
                if timer.active():
                    timer.cancel()
            if request._disconnected:
                return b""
            if not queue:
                return b": keepalive\n\n"
            parts = []
            while queue:
                event = queue.popleft()
                ended = ended or event.kind in ("done", "aborted")
                parts.append(_message(event))
            return b"".join(parts)

        running.listeners.add(listen)
        gone: Deferred[None] = request.notifyFinish()
        gone.addBoth(lambda _: rouse())
        try:
            request.write(b": keepalive\n\n")
            await send_pieces(request, following)
        finally:
            running.listeners.discard(listen)
        return b""


def _message(event: Event) -> bytes:
    """An event as it goes out (HTML Living Standard 9.2)."""
    data: dict[str, Any] = {}
    if event.kind == "count":
        data = {"Mailbox": event.mailbox, "Count": event.count}
    elif event.kind == "problem":
        data = {"Message": event.text}
    elif event.kind == "step":
        data = {"Title": event.text}
    return b"event: %s\ndata: %s\n\n" % (event.kind.encode(), msgspec.json.encode(data))


def _parse(content_type: str, body: Any) -> tuple[IO[bytes], str, int, str]:
    """The uploaded file with its name and size, and the prefix. Blocks. Raises FormError."""
    form = parse_form(content_type, body)
    uploads = form.files.get("file")
    if not uploads:
        raise FormError("no file in field file")
    upload = uploads[0]
    prefixes = form.fields.get("skipMailboxPrefix", [b""])
    prefix = bytes(prefixes[0]).decode("utf-8", "replace")
    size = len(upload.data)
    known = getattr(body, "file", None)
    if known is None:
        return io.BytesIO(bytes(upload.data)), upload.name, size, prefix
    part = _Part(os.dup(known.fileno()), upload.start, size)
    return io.BufferedReader(part, 1 << 16), upload.name, size, prefix
