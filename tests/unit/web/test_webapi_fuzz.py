"""Hostile input to the HTTP API: refused in its own words, never a failure of the server."""

from __future__ import annotations

import json
from typing import Any, get_args, get_origin, get_type_hints
from urllib.parse import urlencode

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from moxtw.web.webapi.examples import EXAMPLES
from tests.support.webapi import WebapiCase

TEXT = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        ["a@c.example", "me@example.org", "<a@b>", "text/plain", "\0", "a\r\nb", "x/y; a=\"", "=?"]
    ),
)
ANY = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), TEXT),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXT, inner, max_size=3)),
    max_leaves=5,
)


def values(hint: Any) -> st.SearchStrategy[Any]:
    """Values mostly of a type, in JSON."""
    if get_origin(hint) is not None and hasattr(hint, "__metadata__"):
        hint = get_args(hint)[0]
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        hints = get_type_hints(hint, include_extras=True)
        return st.fixed_dictionaries({}, optional={k: values(h) for k, h in hints.items()})
    origin, args = get_origin(hint), get_args(hint)
    if origin is list:
        return st.lists(values(args[0]), max_size=3)
    if origin is tuple:
        return st.tuples(*map(values, args))
    if origin is dict:
        return st.dictionaries(TEXT, TEXT, max_size=3)
    if hint is str:
        return TEXT
    if hint is bytes:
        return st.sampled_from(["", "eA==", "JVBERi0=", "?"])
    if hint is int:
        return st.one_of(st.integers(-2, 3), st.integers())
    if hint is bool:
        return st.booleans()
    times = ["2025-06-15T12:00:00Z", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"]
    return st.sampled_from([*times, None, True, False, "2025-06-15T12:00:00.123456789+02:00"])


class FuzzTests(WebapiCase):
    def check(self, name: str, body: bytes, content_type: str, more: dict[str, str]) -> None:
        status, content = self.request(
            "POST", f"v0/{name}", body, content_type=content_type, more=more
        )
        self.assertIn(status, (200, 400), (name, body, content))

    def test_requests(self) -> None:
        @settings(
            max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), database=None
        )
        @given(st.data())
        def run(data: st.DataObject) -> None:
            name = data.draw(st.sampled_from(list(EXAMPLES)))
            hint = type(EXAMPLES[name].request)
            request = data.draw(st.one_of(values(hint), values(hint), ANY))
            if isinstance(request, dict) and name == "Send" and data.draw(st.booleans()):
                request.setdefault("To", [{"Address": "a@c.example"}])
                request.setdefault("Text", "x")
            text = json.dumps(request)
            body = urlencode({"request": text}).encode()
            self.check(name, body, "application/x-www-form-urlencoded", {})

        run()

    def test_bodies(self) -> None:
        kinds = [
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=X",
            "multipart/form-data",
            "text/plain",
            "",
        ]

        @settings(
            max_examples=50, deadline=None, suppress_health_check=list(HealthCheck), database=None
        )
        @given(st.sampled_from(list(EXAMPLES)), st.binary(max_size=60), st.sampled_from(kinds))
        def run(name: str, data: bytes, kind: str) -> None:
            self.check(name, b"request=" + data, kind, {})
            part = b'--X\r\nContent-Disposition: form-data; name="request"\r\n\r\n'
            self.check(name, part + data + b"\r\n--X--", kind, {})

        run()
