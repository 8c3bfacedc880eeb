"""A request on one of our HTTP ports: routed early, logged and measured when done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.web import http, server

from moxtw import metrics
from moxtw.log import DEBUG, Logger
from moxtw.net.tls import tls_connection, tls_info
from moxtw.web.channel import Body

log = Logger("http")

_METHODS: Final = {
    name.encode(): name.lower()
    for name in ("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH")
}


@dataclass(frozen=True, slots=True)
class Target:
    """Where a request goes.

    handler: its name in logs and metrics.
    resource: what renders the answer.
    prefix: how many segments of the path lead to the resource.
    body_limit: longest body in bytes; `body_dir`: where long ones are kept meanwhile, None
        for memory.
    logged: whether the access log has it.
    """

    handler: str
    resource: Any
    prefix: int = 0
    body_limit: int = 1 << 16
    body_dir: str | None = None
    logged: bool = True
    proto: str = "http"
    segments: tuple[bytes, ...] = ()
    status: int = 0
    client_ip: str = ""


class WebRequest(server.Request):
    """A request; `cid` is its connection id, `auth_account` the account once that is known."""

    channel: Any
    cid: int = 0
    auth_account: str = ""
    error: object = None
    target: Target | None = None
    _started: float = 0.0
    _header_time: float | None = None
    _size: int = 0
    _done: bool = False
    _tls: SSL.Connection | None = None

    def gotLength(self, length: int | None) -> None:
        """The header is complete: find out where the request goes, and what it may send."""
        site = self.channel.site
        self.site = site
        self._started = site.clock.seconds()
        # Asked now: when the connection is lost, its transport no longer knows.
        self._tls = tls_connection(self.transport)
        self.cid = site.ids.next()
        self.method = self.channel._command
        self.uri = self.channel._path
        self.clientproto = self.channel._version
        try:
            target = self.target = site.route(self)
        except Exception as exc:  # noqa: BLE001 - a bug there must not kill the connection silently
            log.failure("routing request", exc, cid=self.cid)
            target = self.target = site.broken()
        self.content = Body(target.body_limit, target.body_dir)
        if target.status and length != 0:
            self._refuse(target.status)
        elif length is not None and length > target.body_limit:
            self._refuse(http.REQUEST_ENTITY_TOO_LARGE)

    def handleContentChunk(self, data: bytes) -> None:
        """Take a piece of the body."""
        body: Any = self.content
        if body.size + len(data) > body.limit:
            self._refuse(http.REQUEST_ENTITY_TOO_LARGE)
            return
        wait = body.write(data)
        if wait is not None:
            channel = self.channel
            channel.transport.pauseProducing()
            wait.addCallbacks(
                lambda _: channel.transport.resumeProducing(), self._body_failed
            )

    def _body_failed(self, failure: Failure) -> None:
        log.failure("keeping request body", failure, cid=self.cid)
        if not self._disconnected:
            self._refuse(http.INSUFFICIENT_STORAGE_SPACE)
            self.channel.transport.resumeProducing()

    def _refuse(self, status: int) -> None:
        self.code = status
        self.channel.refuse(status)
        self.log_once()

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """The body is complete, too."""
        self.args = {}
        self.path, question, query = path.partition(b"?")
        if question:
            self.args = http.parse_qs(query, 1)
        body: Any = self.content
        wait: Deferred[None] | None = body.finish()
        if wait is None:
            self.process()
        else:
            wait.addCallback(self._body_ready)
            wait.addErrback(self.processingFailed)

    def _body_ready(self, _: object) -> None:
        if not self._disconnected:
            body: Any = self.content
            body.seek(0)
            self.process()

    def process(self) -> None:
        """Let the target render the answer."""
        assert self.target is not None
        date = http.datetimeToString()
        self.responseHeaders.setRawHeaders(b"Date", [date])
        segments = list(self.target.segments)
        self.prepath = segments[: self.target.prefix]
        self.postpath = segments[self.target.prefix :]
        try:
            self.render(self.target.resource)  # type: ignore[no-untyped-call]
        except Exception:  # noqa: BLE001
            self.processingFailed(Failure())

    def processingFailed(self, reason: Failure) -> Failure:
        """An unforeseen exception: logged with traceback, and an honest 500."""
        log.failure("handling request", reason, cid=self.cid)
        self.error = reason.value
        if not self.startedWriting and not self._disconnected:
            text = f"500 - internal error (id {self.site.ids.encrypt(self.cid)})\n"  # type: ignore[union-attr]
            body = text.encode()
            self.setResponseCode(http.INTERNAL_SERVER_ERROR)
            self.responseHeaders.setRawHeaders(b"Content-Type", [b"text/plain; charset=utf-8"])
            self.responseHeaders.setRawHeaders(b"Content-Length", [b"%d" % len(body)])
            self.write(body)
        if not self._disconnected:
            self.finish()  # type: ignore[no-untyped-call]
        return reason

    def tls_text(self) -> str:
        """The TLS connection in words, '' for plain ones."""
        return "" if self._tls is None else tls_info(self._tls).text

    def write(self, data: bytes) -> None:
        """Write a piece of the answer."""
        if self._header_time is None and self.site is not None:
            self._header_time = self.site.clock.seconds()  # type: ignore[attr-defined]
        self._size += len(data)
        super().write(data)  # type: ignore[no-untyped-call]

    def connectionLost(self, reason: Failure) -> None:
        """The client went away."""
        if self._header_time is not None or self._started:
            self.error = self.error or "connection lost"
            self.log_once()
        super().connectionLost(reason)  # type: ignore[no-untyped-call]
        if self.content is not None:
            self.content.close()

    def log_once(self) -> None:
        """Count and log the request, when it is done."""
        target = self.target
        if self._done or target is None or self.site is None:
            return
        self._done = True
        now = self.site.clock.seconds()  # type: ignore[attr-defined]
        method = _METHODS.get(self.method, "(other)")
        labels = (target.handler, target.proto, method, str(self.code))
        header_time = now if self._header_time is None else self._header_time
        metrics.httpserver_request_duration_seconds.labels(*labels).observe(
            header_time - self._started
        )
        metrics.httpserver_response_duration_seconds.labels(*labels).observe(
            now - self._started
        )
        if not target.logged or not log.enabled(DEBUG):
            return
        tls = "plain" if self._tls is None else tls_info(self._tls).version.lower()
        log.debug(
            "http request",
            cid=self.cid,
            handler=target.handler,
            method=method,
            url=self.uri,
            host=self.getHeader(b"host"),
            duration=round(now - self._started, 6),
            statuscode=self.code,
            proto=self.clientproto,
            remoteaddr=getattr(self.client, "host", None),
            tlsinfo=tls,
            useragent=self.getHeader(b"user-agent"),
            referer=self.getHeader(b"referer"),
            clientip=target.client_ip or None,
            size=self._size,
            authaccount=self.auth_account or None,
            err=self.error,
        )


def clean_path(raw: bytes) -> tuple[bytes, ...] | None:
    """The segments of a URL path, decoded, without ``.``, ``..`` and empty ones.

    A trailing slash stays, as an empty last segment. None if the path is not acceptable: it
    does not begin with a slash, has a NUL, or is not UTF-8 when decoded.
    """
    path = unquote_to_bytes(raw)
    if not path.startswith(b"/") or b"\0" in path:
        return None
    try:
        path.decode()
    except UnicodeDecodeError:
        return None
    parts = path[1:].split(b"/")
    segments: list[bytes] = []
    for part in parts:
        if part == b"..":
            if segments:
                segments.pop()
        elif part not in (b"", b"."):
            segments.append(part)
    if not segments or parts[-1] in (b"", b".", b".."):
        segments.append(b"")
    return tuple(segments)
