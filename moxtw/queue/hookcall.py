"""Making a webhook call: an HTTP POST with a JSON object, and what came of it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, Protocol
from urllib.parse import quote, unquote, urljoin, urlsplit, urlunsplit

from moxtw import metrics
from moxtw.dns.resolver import DNSError, Resolver, ips
from moxtw.log import Logger
from moxtw.mail.domain import DomainError, parse_domain
from moxtw.net.httpclient import HTTPClient, HTTPError, Response
from moxtw.net.tlsclient import Roots, VerificationError
from moxtw.version import VERSION

log = Logger("webhook")

TIMEOUT: Final = 60.0
"""Seconds for an attempt, redirects included."""

MAX_RESPONSE: Final = 512
"""Bytes of the response's body that are kept."""

MAX_REDIRECTS: Final = 10

MAX_ERROR: Final = 500
"""Characters of an error's text that are kept."""

_KNOWN: Final = frozenset(status.value for status in HTTPStatus)
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a call: `code` is 0 if there was no response, `error` empty for success."""

    code: int
    error: str = ""
    response: str = ""

    @property
    def success(self) -> bool:
        """Whether the receiver has taken the call."""
        return not self.error


class Client(Protocol):
    """An HTTP client, see `moxtw.net.httpclient.HTTPClient`."""

    async def request(
        self,
        method: str,
        url: str,
        *,
        timeout: float,
        max_size: int,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        truncate: bool = False,
    ) -> Response:
        """Make a request."""
        ...


def make_client(resolver: Resolver, reactor: Any, roots: Roots) -> HTTPClient:
    """The client for webhooks: our resolver, verified TLS."""

    async def resolve(host: str) -> list[str]:
        # RFC 6761 6.3: names of the local host are not for resolvers to find.
        if host.rstrip(".").lower().rpartition(".")[2] == "localhost":
            return ["127.0.0.1", "::1"]
        return list(await ips(resolver, host))

    return HTTPClient(
        reactor, roots, resolve, pkg="webhook", user_agent=f"moxtw/{VERSION} (webhook)"
    )


def signature(key: str, body: bytes) -> str:
    """The value of X-Mox-Webhook-Signature: the HMAC-SHA256 of the body (RFC 2104)."""
    return "sha256=" + hmac.new(key.encode(), body, hashlib.sha256).hexdigest()


def ascii_url(url: str) -> str:
    """A URL as it is requested: in ASCII, without fragment. Raises ValueError."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("URL must be http or https, with a host")
    host = parts.hostname
    if not host.isascii():
        try:
            host = parse_domain(host, strict=False).ascii
        except DomainError as exc:
            raise ValueError(str(exc)) from exc
    if ":" in host:
        host = f"[{host}]"
    netloc = host if parts.port is None else f"{host}:{parts.port}"
    path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._")
    query = quote(parts.query, safe="/%:@!$&'()*+,;=~-._?")
    return urlunsplit((parts.scheme, netloc, path, query, ""))


def _credentials(url: str) -> str:
    """An Authorization value of what stands before the host of a URL (RFC 7617)."""
    parts = urlsplit(url)
    if not parts.username and not parts.password:
        return ""
    pair = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
    return "Basic " + base64.b64encode(pair.encode()).decode()


class HookCaller:
    """Makes calls."""

    def __init__(self, client: Client, reactor: Any) -> None:
        self._client = client
        self._reactor = reactor

    async def call(
        self,
        url: str,
        payload: str,
        *,
        authorization: str = "",
        signing_key: str = "",
        hook_id: int = 1,
        attempt: int = 1,
    ) -> Answer:
        """POST a payload. Any 2xx status is success. Raises nothing but cancellation."""
        body = payload.encode()
        headers = {
            "Content-Type": "application/json; charset=utf-8",
            "X-Mox-Webhook-ID": str(hook_id),
            "X-Mox-Webhook-Attempt": str(attempt),
        }
        if signing_key:
            headers["X-Mox-Webhook-Signature"] = signature(signing_key, body)
        begun = time.monotonic()
        try:
            response = await self._request(url, authorization, headers, body)
        except (HTTPError, VerificationError, DNSError, ValueError) as exc:
            metrics.webhook_results_total.labels("error").inc()
            log.debug("webhook call failed", url=url, err=exc)
            return Answer(0, (str(exc) or type(exc).__name__)[:MAX_ERROR])
        finally:
            metrics.webhook_request_duration_seconds.observe(time.monotonic() - begun)
        code = response.code
        known = str(code) if code in _KNOWN else f"{code // 100}xx"
        metrics.webhook_results_total.labels(known).inc()
        log.debug("webhook call answered", url=url, code=code)
        error = "" if 200 <= code < 300 else f"http status {code}, expected 2xx"
        return Answer(code, error, response.body[:MAX_RESPONSE].decode("utf-8", "replace"))

    async def _request(
        self, url: str, authorization: str, headers: dict[str, str], body: bytes
    ) -> Response:
        """The response, behind redirects. Raises ValueError, and what the client raises."""
        end = self._reactor.seconds() + TIMEOUT
        method, target = "POST", ascii_url(url)
        authorization = authorization or _credentials(url)
        for _ in range(MAX_REDIRECTS + 1):
            fields = dict(headers)
            if authorization and urlsplit(target).netloc == urlsplit(ascii_url(url)).netloc:
                fields["Authorization"] = authorization
            response = await self._client.request(
                method,
                target,
                timeout=max(0.001, end - self._reactor.seconds()),
                max_size=MAX_RESPONSE,
                headers=fields,
                body=body if method == "POST" else b"",
                truncate=True,
            )
            location = response.headers.get("location")
            if response.code not in _REDIRECTS or not location:
                return response
            if response.code == 303:
                # RFC 9110 15.4.4: the answer to the call is to be had there. With the others
                # the call itself has to go there, or it would be lost.
                method = "GET"
            following = ascii_url(urljoin(target, location))
            if target.startswith("https:") and not following.startswith("https:"):
                raise HTTPError("redirect from https to http")
            target = following
        raise HTTPError(f"more than {MAX_REDIRECTS} redirects")
