"""Plain HTML pages."""

from __future__ import annotations

from html import escape

from klein import Response
from twisted.web.http import Request

from moxtw.web.rpc import plain
from moxtw.web.visit import SECURITY_HEADERS

_STYLE = (
    "body{font-family:sans-serif;max-width:50em;margin:2em auto;padding:0 1em;line-height:1.5}"
    "pre,code{background:#8882;border-radius:3px;padding:.1em .3em}"
    "pre{padding:1em;overflow:auto}"
    "textarea{width:100%;height:20em;box-sizing:border-box}"
    "@media(prefers-color-scheme:dark){body{background:#222;color:#eee}a{color:#9cf}}"
)


def html(title: str, body: str) -> bytes:
    """A whole page; `body` is HTML."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n"
        f"<body>\n{body}</body></html>\n"
    ).encode()


def page(request: Request, title: str, body: str) -> Response:
    """Answer GET with a page; 405 for other methods."""
    if request.method not in (b"GET", b"HEAD"):
        return plain(405, "method not allowed", {"Allow": "GET, HEAD"})
    content = html(title, body)
    return Response(
        200,
        {
            **SECURITY_HEADERS,
            "Content-Type": "text/html; charset=utf-8",
            "Content-Length": str(len(content)),
            "Cache-Control": "no-cache",
        },
        content,
    )
