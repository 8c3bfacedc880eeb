"""The JSON API convention, over an in-memory HTTP client."""

from __future__ import annotations

import enum
import json
from datetime import UTC, datetime
from typing import Any, NewType

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from klein import Klein
from treq.testing import StubTreq
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from moxtw.admin.audit import Audit
from moxtw.admin.context import Caller
from moxtw.net.cid import ConnectionIds
from moxtw.store import auditdb
from moxtw.web.rpc import MAX_BODY, ApiError, Call, Endpoint, PlainError, Registry
from moxtw.web.typewords import Int32, Int64, UInt16
from moxtw.web.visit import make_origin
from tests.support.store import make_store

Word = NewType("Word", str)


class Colour(enum.Enum):
    ColourRed = "red"
    ColourNone = ""


class Leaf(msgspec.Struct, forbid_unknown_fields=True):
    Name: str = ""
    Tags: list[str] = []
    Size: Int64 = 0


class Tree(msgspec.Struct, forbid_unknown_fields=True):
    Leaves: dict[str, Leaf] = {}
    Path: list[Leaf] = []
    Maybe: Leaf | None = None
    Data: bytes = b""
    When: datetime = datetime(2024, 1, 2, tzinfo=UTC)
    Kind: Colour = Colour.ColourNone


registry = Registry("Test", "test", "For tests.")


@registry.function(open=True, any_form=True)
async def Prep(call: Call) -> str:
    """Says hello."""
    call.headers["X-Extra"] = "yes"
    return "hello"


@registry.function("all", "count")
async def Echo(call: Call, words: list[str], tree: Tree, flag: bool | None) -> tuple[Tree, Int32]:
    """Gives back."""
    return tree, len(words)


@registry.function()
async def Nothing(call: Call, n: Int32, p: UInt16, w: Word) -> None:
    """Does nothing."""


@registry.function(reads=True)
async def Read(call: Call) -> None:
    """Changes nothing."""


@registry.function()
async def Fail(call: Call, how: str) -> None:
    """Fails."""
    if how == "user":
        raise ApiError("user:error", "your doing")
    if how == "operation":
        raise LookupError("not there")
    raise ZeroDivisionError("secret detail")


def errors(exc: Exception) -> ApiError | None:
    return ApiError("user:notFound", str(exc)) if isinstance(exc, LookupError) else None


async def gate(request: Any, visit: Any) -> object:
    token = request.getHeader(b"x-token")
    if token is None:
        raise ApiError("user:noAuth", "no session")
    if token == b"limited":
        raise PlainError(429, "too many")
    return token


class RPCTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.store = make_store(self)
        app = Klein()
        Endpoint(
            registry,
            context="context",
            origin=make_origin(ConnectionIds(b"k" * 24, 1000)),
            gate=gate,
            errors=errors,
            clock=Clock(),
            audit=Audit(self.store),
            caller=lambda call: Caller("test", call.session.decode(), "192.0.2.1", 16),
        ).route(app)
        self.stub = StubTreq(app.resource())

    def request(
        self,
        path: str,
        body: bytes | Any = b"",
        *,
        method: str = "POST",
        content_type: str | None = "application/json",
        token: str | None = "t",
    ) -> tuple[int, Any, Any]:
        headers = {}
        if content_type is not None:
            headers["Content-Type"] = content_type
        if token is not None:
            headers["x-token"] = token
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        deferred = self.stub.request(
            method, f"http://localhost/api/{path}", data=data, headers=headers
        )
        self.stub.flush()
        response = self.successResultOf(deferred)
        content = self.successResultOf(response.content())
        self.headers = response.headers
        kind = response.headers.getRawHeaders("content-type", [""])[0]
        value = json.loads(content) if kind.startswith("application/json") else content
        return response.code, value, kind

    def call(self, name: str, *params: Any, **kw: Any) -> Any:
        status, value, _ = self.request(name, {"params": list(params)}, **kw)
        self.assertEqual(status, 200, value)
        return value

    def code(self, *args: Any, **kw: Any) -> str:
        status, value, _ = self.request(*args, **kw)
        self.assertEqual(status, 200, value)
        self.assertEqual(list(value), ["error"])
        self.assertEqual(list(value["error"]), ["code", "message"])
        self.assertRegex(value["error"]["message"], r" \(id [A-Za-z0-9_-]{22}\)$")
        code: str = value["error"]["code"]
        return code

    def test_audit_log(self) -> None:
        self.call("Nothing", 1, 2, "w")
        self.call("Read")
        self.call("Prep")
        self.code("Nothing", {"params": []})
        for how in ("user", "operation", "other"):
            self.request("Fail", {"params": [how]})
        rows = self.successResultOf(self.store.read(lambda tx: auditdb.entries(tx, 9)))
        self.assertEqual(rows[-1][2:6], ("test", "t", "192.0.2.1", 16))
        self.assertEqual(
            [(row.operation, row.params, row.result, row.message) for row in rows[::-1]],
            [
                ("Nothing", '{"n":1,"p":2,"w":"w"}', "ok", ""),
                ("Fail", '{"how":"user"}', "user:error", "your doing"),
                ("Fail", '{"how":"operation"}', "user:notFound", "not there"),
                ("Fail", '{"how":"other"}', "server:error", "internal error"),
            ],
        )

    def test_results(self) -> None:
        self.assertEqual(self.call("Prep", token=None), {"result": "hello"})
        self.assertEqual(self.headers.getRawHeaders("X-Extra"), ["yes"])
        self.assertEqual(self.call("Nothing", 1, 2, "x"), {"result": None})
        tree = {
            "Leaves": {"a": {"Name": "é", "Tags": ["x"], "Size": 2**53 + 1}},
            "Path": [],
            "Maybe": None,
            "Data": "AAH/",
            "When": "2024-05-06T07:08:09Z",
            "Kind": "red",
        }
        self.assertEqual(self.call("Echo", ["a", "b"], tree, None), {"result": [tree, 2]})

    def test_missing_fields_are_zero_and_null_lists_are_empty(self) -> None:
        (tree, count) = self.call(
            "Echo", None, {"Leaves": None, "Path": [{"Tags": None}], "Maybe": {"Tags": None}}, True
        )["result"]
        self.assertEqual(count, 0)
        self.assertEqual(tree["Leaves"], {})
        self.assertEqual(tree["Path"], [{"Name": "", "Tags": [], "Size": 0}])
        self.assertEqual(tree["Maybe"]["Tags"], [])

    def test_whole_numbers_with_a_point_are_integers(self) -> None:
        self.assertEqual(self.call("Nothing", 1.0, 2e3, "x"), {"result": None})
        leaf = {"Size": -3.0}
        (tree, _) = self.call("Echo", [], {"Path": [leaf]}, None)["result"]
        self.assertEqual(tree["Path"][0]["Size"], -3)
        for number in (1.5, 2.0**31, 1e300):
            body = {"params": [number, 2, "x"]}
            self.assertEqual(self.code("Nothing", body), "sherpa:badParams", number)

    def test_response_headers(self) -> None:
        self.call("Nothing", 1, 2, "x")
        for name, value in [
            ("Cache-Control", "no-store"),
            ("X-Frame-Options", "deny"),
            ("X-Content-Type-Options", "nosniff"),
            ("Referrer-Policy", "same-origin"),
            ("Content-Security-Policy", "default-src 'self' 'unsafe-inline' data:"),
        ]:
            self.assertEqual(self.headers.getRawHeaders(name), [value])
        self.assertIsNone(self.headers.getRawHeaders("Access-Control-Allow-Origin"))

    def test_bad_requests(self) -> None:
        for body in [
            b"",
            b"[]",
            b"null",
            b"{}",
            b'{"params":[]',
            b'{"params":[]} x',
            b'{"params":{}}',
            b'{"params":"x"}',
            b'{"params":[],"more":1}',
            b'{"params":["\xff"]}',
            b"[" * 100_000,
            b'{"params":' + b"[" * 100_000,
            b'{"params":[' + b" " * MAX_BODY + b"]}",
        ]:
            self.assertEqual(self.code("Prep", body), "sherpa:badRequest", body[:40])

    def test_content_types(self) -> None:
        good = {"params": [1, 2, "x"]}
        for kind in [
            "application/json",
            "Application/JSON; charset=UTF-8",
            'application/json;charset="utf-8"',
        ]:
            self.assertEqual(self.request("Nothing", good, content_type=kind)[0], 200)
        for kind in [None, "text/plain", "application/json; charset=latin-1", "garbage", "x/y;"]:
            self.assertEqual(
                self.code("Nothing", good, content_type=kind), "sherpa:badRequest", kind
            )
        form = "application/x-www-form-urlencoded"
        self.assertEqual(self.code("Nothing", good, content_type=form), "sherpa:badRequest")
        self.assertEqual(self.call("Prep", content_type=form), {"result": "hello"})

    def test_bad_params(self) -> None:
        for params in [
            [],
            [1, 2],
            [1, 2, "x", 4],
            ["1", 2, "x"],
            [1.5, 2, "x"],
            [True, 2, "x"],
            [2**31, 2, "x"],
            [-(2**31) - 1, 2, "x"],
            [10**40, 2, "x"],
            [1, -1, "x"],
            [1, 65536, "x"],
            [1, 2, None],
            [1, 2, ["x"]],
            [None, 2, "x"],
        ]:
            self.assertEqual(self.code("Nothing", {"params": params}), "sherpa:badParams", params)
        for tree in [
            {"Unknown": 1},
            {"Path": [{"Nmae": "x"}]},
            {"leaves": {}},
            {"Data": "not base64!"},
            {"When": "yesterday"},
            {"Kind": "green"},
            {"Leaves": []},
            {"Leaves": {"a": None}},
            None,
            [],
        ]:
            self.assertEqual(
                self.code("Echo", {"params": [[], tree, None]}), "sherpa:badParams", tree
            )

    def test_unknown_function(self) -> None:
        for name in ["Nope", "prep", "__init__", "Prep/", "a/b"]:
            status, value, _ = self.request(name, {"params": []})
            self.assertEqual((status, value["error"]["code"]), (404, "sherpa:badFunction"))

    def test_other_methods(self) -> None:
        for method in ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"]:
            for path in ["Prep", "sherpa.json", "Nope"]:
                status, _, _ = self.request(path, method=method)
                self.assertEqual(status, 405, (method, path))
                self.assertEqual(self.headers.getRawHeaders("Allow"), ["POST"])
        self.assertEqual(self.request("")[0], 405)

    def test_gate(self) -> None:
        self.assertEqual(self.code("Nothing", {"params": []}, token=None), "user:noAuth")
        self.assertEqual(self.code("Nope", {"params": []}, token=None), "user:noAuth")
        self.assertEqual(self.code("_docs", {"params": []}, token=None), "user:noAuth")
        status, text, _ = self.request("Nothing", {"params": []}, token="limited")
        self.assertEqual(status, 429)
        self.assertRegex(text, rb"^429 - too many \(id ")

    def test_errors_of_functions(self) -> None:
        self.assertEqual(self.code("Fail", {"params": ["user"]}), "user:error")
        self.assertEqual(self.code("Fail", {"params": ["operation"]}), "user:notFound")
        status, value, _ = self.request("Fail", {"params": ["bug"]})
        self.assertEqual((status, value["error"]["code"]), (500, "server:error"))
        self.assertNotIn("secret", value["error"]["message"])

    def test_description(self) -> None:
        status, described, _ = self.request("", method="GET", token=None)
        self.assertEqual(status, 200)
        self.assertEqual(self.call("_docs"), {"result": described})
        functions = {fn["Name"]: fn for fn in described["Functions"]}
        self.assertEqual(
            functions["Echo"],
            {
                "Name": "Echo",
                "Docs": "Gives back.",
                "Params": [
                    {"Name": "words", "Typewords": ["[]", "string"]},
                    {"Name": "tree", "Typewords": ["Tree"]},
                    {"Name": "flag", "Typewords": ["nullable", "bool"]},
                ],
                "Returns": [
                    {"Name": "all", "Typewords": ["Tree"]},
                    {"Name": "count", "Typewords": ["int32"]},
                ],
            },
        )
        self.assertEqual(functions["Nothing"]["Returns"], [])
        self.assertEqual(functions["Prep"]["Returns"], [{"Name": "r0", "Typewords": ["string"]}])
        structs = {
            one["Name"]: [(f["Name"], f["Typewords"]) for f in one["Fields"]]
            for one in described["Structs"]
        }
        self.assertEqual(
            structs["Tree"],
            [
                ("Leaves", ["{}", "Leaf"]),
                ("Path", ["[]", "Leaf"]),
                ("Maybe", ["nullable", "Leaf"]),
                ("Data", ["[]", "uint8"]),
                ("When", ["timestamp"]),
                ("Kind", ["Colour"]),
            ],
        )
        strings = {one["Name"]: one["Values"] for one in described["Strings"]}
        self.assertEqual(strings["Word"], [])
        self.assertEqual([v["Value"] for v in strings["Colour"]], ["red", ""])

    @settings(max_examples=150, deadline=None)
    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
            max_leaves=12,
        )
    )
    def test_no_input_gives_status_500(self, value: Any) -> None:
        for name in ["Nothing", "Echo"]:
            for body in [{"params": value}, value]:
                self.assertIn(self.request(name, body)[0], (200, 404))
