"""The pages that describe the API and its methods, with forms to try them."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from moxtw.web.webapi.examples import CODES, EXAMPLES, Example, indented


def index_page(names: Iterable[str]) -> str:
    """The introduction, with the list of methods, as HTML."""
    methods = "".join(
        f'<li><a href="{name}"><code>{name}</code></a>: {escape(EXAMPLES[name].doc)}</li>\n'
        for name in names
    )
    return (
        "<h1>moxtw webapi</h1>\n"
        "<p>An HTTP API for programs: to send messages, and to handle those that come in.</p>\n"
        f"<h2>Methods</h2>\n<ul>\n{methods}</ul>\n"
        "<h2>Calls</h2>\n"
        "<p>A call is a <code>POST</code> to the name of a method, with HTTP basic "
        "authentication: an e-mail address of the account, and its password. The body is a form, "
        "<code>application/x-www-form-urlencoded</code> or <code>multipart/form-data</code>, "
        "with a field <code>request</code> that holds a JSON object. With curl:</p>\n"
        "<pre>curl --user me@example.org --data-urlencode \\\n"
        '  request=\'{"To":[{"Address":"you@example.net"}],"Subject":"hi","Text":"hello"}\' \\\n'
        "  https://mail.example.org/webapi/v0/Send</pre>\n"
        "<p>A call that worked has status 200 and a JSON object, or the bytes that were asked "
        "for. One that failed has status 400 and a JSON object with <code>Code</code> and "
        "<code>Message</code>. Other statuses come with plain text: 401 without the right "
        "password, 429 after too many failed logins or too many requests from an IP address, "
        "404 and 405 for what is not there, 413 for bodies that are too large, 500 for failures "
        "inside the server.</p>\n"
        "<p>Times are written as in RFC 3339, bytes in base64. Fields that a method does not know "
        "are refused.</p>\n"
        f"<h2>Error codes</h2>\n{_codes(CODES)}"
    )


def _codes(codes: Iterable[str]) -> str:
    rows = "".join(
        f"<tr><td><code>{code}</code></td><td>{escape(CODES[code])}</td></tr>\n" for code in codes
    )
    return f"<table>\n{rows}</table>\n"


def method_page(method: Example) -> str:
    """A method, with a form to call it, as HTML."""
    example = indented(method.request)
    result = indented(method.result)
    more = "".join(f"<p>{escape(text)}</p>\n" for text in method.more)
    files = (
        "".join(
            f'<p><label>{name} <input type="file" name="{name}" multiple></label></p>\n'
            for name in ("alternativefile", "inlinefile", "attachedfile")
        )
        if method.files
        else ""
    )
    codes = [*method.codes, *(c for c in ("user", "protocol", "server") if c not in method.codes)]
    return (
        f"<h1>{method.name}</h1>\n<p>{escape(method.doc)}</p>\n{more}"
        "<h2>Try it</h2>\n"
        '<form method="POST" enctype="multipart/form-data">\n'
        f'<p><textarea name="request" aria-label="request">{escape(example)}</textarea></p>\n'
        f'{files}<p><button type="submit">Call</button></p></form>\n'
        f"<h2>Example of a request</h2>\n<pre>{escape(example)}</pre>\n"
        f"<h2>Example of an answer</h2>\n<pre>{escape(result)}</pre>\n"
        f"<h2>Error codes</h2>\n{_codes(codes)}"
        '<p><a href="./">All methods</a></p>\n'
    )
