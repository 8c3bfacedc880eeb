"""Calls of the HTTP API for programs."""

from __future__ import annotations

import base64
import json

from moxtw.cli.command import CommandError, UsageError
from moxtw.cli.invocation import Invocation
from moxtw.cli.output import clean

TIMEOUT = 60
"""Seconds for a call."""
MAX_ERROR = 10_000


def webapi(invocation: Invocation) -> None:
    """``moxtw webapi``."""
    if len(invocation.args) == 2:
        _call(invocation, *invocation.args)
        return
    from moxtw.web.webapi.examples import EXAMPLES, indented

    if not invocation.args:
        for name, example in EXAMPLES.items():
            invocation.print(f"{name}\n    {example.doc}")
        return
    found = EXAMPLES.get(invocation.args[0])
    if found is None:
        raise CommandError(
            f"no method {invocation.args[0]!r}: there are {', '.join(EXAMPLES)}"
        )
    invocation.print(f"{found.name}: {found.doc}")
    invocation.print(f"\nExample of a request:\n{indented(found.request)}")
    invocation.print(f"\nExample of an answer:\n{indented(found.result)}")


def target(url: str, method: str) -> tuple[str, str]:
    """URL of a method, and the Authorization for it, from a base URL with user and password.

    Raises UsageError.
    """
    from urllib.parse import quote, unquote, urlsplit, urlunsplit

    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as exc:
        raise UsageError(f"base URL: {exc}") from exc
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError("the base URL must be like https://user:password@host/webapi/")
    if parts.username is None or parts.password is None:
        raise UsageError(
            "the base URL needs user and password: https://user:password@host/webapi/"
        )
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    path = parts.path.rstrip("/")
    path = path if path.endswith("/v0") else path + "/v0"
    place = host if port is None else f"{host}:{port}"
    credentials = f"{unquote(parts.username)}:{unquote(parts.password)}".encode()
    return (
        urlunsplit((parts.scheme, place, f"{path}/{quote(method, safe='')}", "", "")),
        "Basic " + base64.b64encode(credentials).decode("ascii"),
    )


def _call(invocation: Invocation, method: str, base: str) -> None:
    from http.client import HTTPException
    from urllib.error import HTTPError, URLError
    from urllib.parse import urlencode
    from urllib.request import Request, urlopen

    url, authorization = target(base, method)
    body = urlencode({"request": invocation.read_bytes()}).encode("ascii")
    request = Request(  # noqa: S310 - the scheme was checked
        url,
        body,
        {
            "Authorization": authorization,
            "Content-Type": "application/x-www-form-urlencoded",
        },
    )
    try:
        with urlopen(request, timeout=TIMEOUT) as response:  # noqa: S310
            if response.headers.get_content_type() != "application/json":
                while piece := response.read(1 << 16):
                    invocation.write_bytes(piece)
                return
            data = response.read()
    except HTTPError as exc:
        with exc:
            raise CommandError(_error(exc.code, exc.read(MAX_ERROR))) from exc
    except URLError as exc:
        raise CommandError(f"{url}: {exc.reason}") from exc
    except (HTTPException, TimeoutError) as exc:
        raise CommandError(f"{url}: {exc or type(exc).__name__}") from exc
    try:
        data = json.dumps(json.loads(data), indent=2, ensure_ascii=False).encode() + b"\n"
    except ValueError as exc:
        raise CommandError(f"{url}: the answer is not JSON: {exc}") from exc
    invocation.write_bytes(data)


def _error(status: int, data: bytes) -> str:
    """An error of the server: JSON with status 400, else text."""
    text = data.decode("utf-8", "replace").strip()
    try:
        found = json.loads(text)
        return clean(f"{found['Code']}: {found['Message']}")
    except (ValueError, TypeError, KeyError):
        return clean(f"status {status}: {text[:500]}")
