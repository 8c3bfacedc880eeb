"""A changelog over HTTP: JSON for servers that look for new versions, a page for people."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from klein import Klein, Response
from twisted.web.http import Request

from moxtw.log import Logger
from moxtw.updates import changelog
from moxtw.updates.changelog import Change, ChangelogError
from moxtw.updates.record import parse_version
from moxtw.web.pages import page
from moxtw.web.rpc import plain

log = Logger("updates")


def make_changelog(path: Path) -> Any:
    """The resource of a changelog file, which is read with each request.

    With ``?from=<version>``, only later versions are told of.
    """
    app = Klein()

    @app.route("/")  # type: ignore[type-var]
    @app.route("/changelog")
    def changes(request: Request) -> Response:
        try:
            found = changelog.decode(path.read_bytes())
            since = request.args.get(b"from", [b""])[0].decode("utf-8", "replace")
            if since:
                try:
                    found = changelog.since(found, parse_version(since))
                except ChangelogError:
                    raise
                except ValueError as exc:
                    return plain(400, f"from: {exc}")
        except (OSError, ChangelogError) as exc:
            log.error("reading the changelog", path=str(path), err=exc)
            return plain(500, "the changelog cannot be read")
        if wants_html(request.getHeader("accept") or ""):
            return page(request, "Changes", _body(found, since))
        if request.method not in (b"GET", b"HEAD"):
            return plain(405, "method not allowed", {"Allow": "GET, HEAD"})
        content = changelog.encode(found)
        return Response(
            200,
            {
                "Content-Type": "application/json; charset=utf-8",
                "Content-Length": str(len(content)),
            },
            content,
        )

    return app.resource()


def wants_html(accept: str) -> bool:
    """Whether an Accept field (RFC 9110 12.5.1) names HTML, as those of browsers do."""
    for entry in accept.split(","):
        media, *params = (part.strip().lower() for part in entry.split(";"))
        if media in ("text/html", "text/*"):
            weights = [p.partition("=")[2] for p in params if p.partition("=")[0] == "q"]
            return not weights or weights[0].strip("0.") != ""
    return False


def _body(changes: Sequence[Change], since: str) -> str:
    title = f"Changes since {since}" if since else "Changes"
    texts = "".join(f"<pre>{escape(change.text)}</pre>\n" for change in changes)
    return f"<h1>{escape(title)}</h1>\n{texts or '<p>None.</p>'}\n"
