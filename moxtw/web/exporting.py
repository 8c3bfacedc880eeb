"""Downloads of mail as mbox files and maildirs."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator
from typing import Any, Final

from klein import Klein, Response
from twisted.internet.defer import Deferred

from moxtw.admin.context import AdminContext, Caller
from moxtw.admin.exports import operations
from moxtw.log import Logger
from moxtw.store.errors import StoreError
from moxtw.web.conversions import answered
from moxtw.web.flow import send_pieces
from moxtw.web.rpc import PlainError, plain, shielded
from moxtw.web.sessions import WebAuth
from moxtw.web.visit import SECURITY_HEADERS, Origin, Visit, header
from moxtw.web.webapi.formdata import FormError, parse_form

log = Logger("webaccount")

MAX_MESSAGES: Final = 100_000
_TYPES: Final = {
    "tar": ("tar", "application/x-tar"),
    "tgz": ("tgz", "application/gzip"),
    "zip": ("zip", "application/zip"),
}
_IDS: Final = re.compile(r"\s*[0-9]{1,18}\s*(,\s*[0-9]{1,18}\s*)*")


class Exporting:
    """The path ``export`` of an interface."""

    def __init__(self, ctx: AdminContext, auth: WebAuth, origin: Origin, via: str) -> None:
        self._ctx = ctx
        self._auth = auth
        self._origin = origin
        self._via = via

    def route(self, app: Klein) -> None:
        """Add the route to a Klein app."""

        @app.route("/export")  # type: ignore[type-var]
        def export(request: Any) -> Deferred[Response | bytes]:
            return shielded(self._answered(request))

    async def _answered(self, request: Any) -> Response | bytes:
        visit = self._origin(request)
        return await answered(visit, self._export(request, visit))

    async def _export(self, request: Any, visit: Visit) -> Response | bytes:
        if request.method != b"POST":
            return plain(405, visit.text("method not allowed"), {"Allow": "POST"})
        # Who is not logged in does not get to have a form read.
        await self._auth.page(request, visit)
        try:
            form = await self._ctx.store.run(
                parse_form, header(request, "Content-Type"), request.content
            )
        except FormError as exc:
            raise PlainError(400, str(exc)) from exc

        def value(name: str) -> str:
            return bytes(form.fields.get(name, [b""])[0]).decode("utf-8", "replace")

        if not value("csrf"):
            raise PlainError(403, "missing form field csrf")
        session = await self._auth.page(request, visit, value("csrf"))
        ids = value("messageids")
        if ids and not _IDS.fullmatch(ids):
            raise PlainError(400, "messageids must be numbers with commas between them")
        numbers = sorted({int(each) for each in ids.split(",")}) if ids else []
        if len(numbers) > MAX_MESSAGES:
            raise PlainError(400, f"more than {MAX_MESSAGES} messages")
        kind, archive, mailbox = value("format"), value("archive"), value("mailbox")
        caller = Caller(self._via, session.account, visit.remote_ip, visit.cid)
        pieces = await operations.export(
            self._ctx,
            caller,
            session.account,
            kind=kind,
            archive=archive,
            mailbox=mailbox,
            recursive=value("recursive").lower() not in ("", "0", "false", "off", "no"),
            message_ids=numbers,
        )
        extension, media = _TYPES.get(archive, ("mbox", "application/mbox"))
        what = re.sub(r"[^A-Za-z0-9.]+", "-", mailbox).strip("-.")[:60]
        stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(self._ctx.clock.seconds()))
        name = "-".join(part for part in ("mailexport", what, kind, stamp) if part)
        headers = request.responseHeaders
        for key, text in SECURITY_HEADERS.items():
            headers.setRawHeaders(key, [text])
        headers.setRawHeaders("Cache-Control", ["no-store"])
        headers.setRawHeaders("Content-Type", [media])
        headers.setRawHeaders(
            "Content-Disposition", [f'attachment; filename="{name}.{extension}"']
        )
        await self._send(request, pieces)
        return b""

    async def _send(self, request: Any, pieces: AsyncIterator[bytes]) -> None:
        async def following() -> bytes:
            async for piece in pieces:
                if piece:
                    return piece
            return b""

        try:
            await send_pieces(request, following)
        except (StoreError, OSError) as exc:
            log.error("export failed", cid=request.cid, err=exc)
            if not request._disconnected:
                # The client must see that the answer is cut off.
                request.transport.abortConnection()
        finally:
            close: Any = getattr(pieces, "aclose", None)
            if close is not None:
                await close()
