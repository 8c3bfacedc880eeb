"""Sections of domains.conf for the web server: files, redirects, proxying."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from moxtw.config.codec import opt, req, resolved, section
from moxtw.config.regexp import Regexp
from moxtw.mail.domain import Domain

_DOMAIN_EXAMPLE: Final = "example.org"


@section
class WebStatic:
    """Files of a directory."""

    strip_prefix: str = opt(
        "StripPrefix",
        "Text to take from the start of the path before the file is looked for.",
        example="/files/",
    )
    root: str = req("Root", "Directory with the files.", example="../web/example.org")
    list_files: bool = opt(
        "ListFiles",
        "Show what is in a directory without index.html, instead of refusing.",
        False,
    )
    continue_not_found: bool = opt(
        "ContinueNotFound",
        "If there is no such file, go on with the next handler, instead of answering that there "
        "is none. So a directory of files can lie over an application.",
        False,
    )
    response_headers: Mapping[str, str] = opt(
        "ResponseHeaders",
        "Header fields to add to answers.",
        dict,
        example={"Cache-Control": "max-age=3600"},
    )

    root_path: Path = resolved()


@section
class WebRedirect:
    """Another URL for a URL."""

    base_url: str = opt(
        "BaseURL",
        "URL to redirect to. Its scheme, host and fragment are taken, and its query if there "
        "is one. Its path too, unless ReplacePath makes one. Without BaseURL the host stays and "
        "only the path changes, always over HTTPS.",
        example="https://www.example.org/",
    )
    orig_path_regexp: str = opt(
        "OrigPathRegexp",
        "Regular expression for the path of the request, to be replaced by ReplacePath. Paths "
        "that do not match are answered with not found.",
        example="^/old/(.*)$",
    )
    replace_path: str = opt(
        "ReplacePath",
        "New path. $1, ${1} and so on stand for the groups of the expression, ${name} for "
        "named ones, $$ for a dollar sign.",
        example="/new/$1",
    )
    status_code: int = opt(
        "StatusCode",
        "301: moved for good. 302, 303, 307: moved for now. 308: as 301, but repeated with the "
        "same method. Default: 308.",
        0,
        example=308,
    )

    orig_path: Regexp | None = resolved()
    replacement: str = resolved(zero="")
    effective_status_code: int = resolved(zero=308)


@section
class WebForward:
    """A reverse proxy."""

    strip_path: bool = opt(
        "StripPath",
        "Take the part of the path that PathRegexp matched away before the request is passed "
        "on. The expression then must match a part that ends with a slash, and the rest begins "
        "behind it.",
        False,
    )
    url: str = req(
        "URL",
        "URL to pass requests to. Its path comes before that of the request. Over HTTPS its "
        "certificate is verified.",
        example="http://127.0.0.1:8888",
    )
    response_headers: Mapping[str, str] = opt(
        "ResponseHeaders",
        "Header fields to add to answers.",
        dict,
        example={"X-Frame-Options": "deny"},
    )


@section
class WebInternal:
    """One of the server's own interfaces at another place."""

    base_path: str = req(
        "BasePath",
        "Path at which the interface is served, with a slash at both ends.",
        example="/mail/",
    )
    service: str = req("Service", "admin, account, webmail or webapi.", example="webmail")


@section
class WebHandler:
    """What to answer to some requests: exactly one of the kinds."""

    log_name: str = opt(
        "LogName", "Name in logs and metrics. Default: the number of the handler.", example="site"
    )
    domain: str = req("Domain", "Host name of the request.", example=_DOMAIN_EXAMPLE)
    path_regexp: str = opt(
        "PathRegexp",
        "Regular expression for the path of the request; must start with ^. Without $ at its "
        "end, longer paths match too. Default: every path.",
        example="^/",
    )
    dont_redirect_plain_http: bool = opt(
        "DontRedirectPlainHTTP",
        "Answer requests over plain HTTP too, instead of redirecting them to HTTPS. For tests, "
        "and for listeners without TLS.",
        False,
    )
    compress: bool = opt(
        "Compress",
        "Compress answers that look like text for clients that can read it. Compressed files "
        "are kept. Takes time on the server, and must not be used where answers hold secrets "
        "beside what others can choose.",
        False,
    )
    web_static: WebStatic | None = opt("WebStatic", "Serve files of a directory.", None)
    web_redirect: WebRedirect | None = opt("WebRedirect", "Redirect to another URL.", None)
    web_forward: WebForward | None = opt(
        "WebForward",
        "Pass requests on to another server, also WebSocket connections. X-Forwarded-For, -Host "
        "and -Proto are set.",
        None,
    )
    web_internal: WebInternal | None = opt(
        "WebInternal", "Serve one of the interfaces of this server.", None
    )

    name: str = resolved("Name", "")
    dns_domain: Domain = resolved("DNSDomain", Domain)
    path: Regexp | None = resolved()
