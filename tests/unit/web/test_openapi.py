"""The OpenAPI documents of the JSON APIs, and how they are served."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from klein import Klein
from openapi_spec_validator import OpenAPIV31SpecValidator
from treq.testing import StubTreq
from twisted.trial.unittest import SynchronousTestCase

import moxtw
from moxtw.web import accountapi, adminapi, openapi
from moxtw.web.rpc import Call, Registry
from tests.unit.web.test_rpc import registry

APIS = [(adminapi.registry, "webadmin"), (accountapi.registry, "webaccount")]
DOCS = Path(moxtw.__file__).parent.parent / "docs"


def result_of(document: dict[str, Any], name: str) -> Any:
    """The schema of a function's result."""
    (content,) = document["paths"][f"/{name}"]["post"]["responses"]["200"]["content"].values()
    good, bad = content["schema"]["oneOf"]
    assert bad == {"$ref": "#/components/schemas/ErrorAnswer"}
    return good["properties"]["result"]


def params_of(document: dict[str, Any], name: str) -> Any:
    """The schema of a function's parameters."""
    (content,) = document["paths"][f"/{name}"]["post"]["requestBody"]["content"].values()
    return content["schema"]["properties"]["params"]


def references(value: Any) -> Iterator[str]:
    """All references in a document."""
    if isinstance(value, dict):
        if "$ref" in value:
            yield value["$ref"]
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from references(each)


class DocumentTests(SynchronousTestCase):
    def test_are_valid(self) -> None:
        for api, kind in APIS:
            document = openapi.document(api, kind)
            self.assertEqual(list(OpenAPIV31SpecValidator(document).iter_errors()), [])

    def test_all_types_are_there_and_used(self) -> None:
        for api, kind in APIS:
            document = openapi.document(api, kind)
            used = {name.removeprefix("#/components/schemas/") for name in references(document)}
            used = {name for name in used if "/" not in name}
            self.assertEqual(used, set(document["components"]["schemas"]))

    def test_describe_what_the_listing_describes(self) -> None:
        for api, kind in APIS:
            document = openapi.document(api, kind)
            listed = api.describe()["Functions"]
            self.assertEqual(list(document["paths"]), [f"/{fn['Name']}" for fn in listed])
            for fn in listed:
                name = fn["Name"]
                schema = params_of(document, name)
                params = schema.get("anyOf", [schema])[0].get("prefixItems", [])
                self.assertEqual([p["title"] for p in params], [p["Name"] for p in fn["Params"]])
                result = result_of(document, name)
                results = result.get("prefixItems", [result] if "title" in result else [])
                self.assertEqual([r["title"] for r in results], [r["Name"] for r in fn["Returns"]])
                self.assertTrue(document["paths"][f"/{name}"]["post"]["summary"], name)

    def test_calls_need_the_session_and_the_csrf_header(self) -> None:
        for api, kind in APIS:
            document = openapi.document(api, kind)
            self.assertEqual(document["security"], [{"session": [], "csrf": []}])
            schemes = document["components"]["securitySchemes"]
            self.assertEqual(schemes["session"]["name"], f"{kind}session")
            self.assertEqual(schemes["csrf"]["name"], "x-mox-csrf")
            other = {
                path: item["post"]["security"]
                for path, item in document["paths"].items()
                if "security" in item["post"]
            }
            self.assertEqual(other, {"/LoginPrep": [], "/Login": [{"login": []}]})

    def test_types_of_parameters_and_of_results(self) -> None:
        document = openapi.document(registry, "test")
        schemas = document["components"]["schemas"]
        tree, leaf = schemas["TreeInput"], schemas["Leaf"]
        self.assertEqual(
            params_of(document, "Echo"),
            {
                "type": "array",
                "prefixItems": [
                    {"type": ["array", "null"], "items": {"type": "string"}, "title": "words"},
                    {"$ref": "#/components/schemas/TreeInput", "title": "tree"},
                    {"anyOf": [{"type": "boolean"}, {"type": "null"}], "title": "flag"},
                ],
                "items": False,
                "minItems": 3,
                "maxItems": 3,
            },
        )
        int32 = {"type": "integer", "format": "int32", "minimum": -(2**31), "maximum": 2**31 - 1}
        self.assertEqual(
            result_of(document, "Echo")["prefixItems"],
            [
                {"$ref": "#/components/schemas/Tree", "title": "all"},
                {**int32, "title": "count"},
            ],
        )
        self.assertEqual(result_of(document, "Nothing"), {"type": "null"})
        self.assertEqual(params_of(document, "Prep"), {"type": ["array", "null"], "maxItems": 0})
        self.assertEqual(
            tree["properties"]["Leaves"],
            {
                "type": ["object", "null"],
                "additionalProperties": {"$ref": "#/components/schemas/LeafInput"},
                "default": {},
            },
        )
        self.assertEqual((tree["required"], tree["additionalProperties"]), ([], False))
        self.assertEqual(leaf["properties"]["Tags"], {"type": "array", "items": {"type": "string"}})
        self.assertEqual(leaf["required"], ["Name", "Tags", "Size"])
        # Values that are none but strings are the same both ways.
        self.assertEqual(schemas["Colour"]["enum"], ["", "red"])
        self.assertEqual(schemas["Colour"]["type"], "string")
        self.assertNotIn("ColourInput", schemas)

    def test_parameters_of_the_past(self) -> None:
        document = openapi.document(adminapi.registry, "webadmin")
        now, past = params_of(document, "DomainAdd")["anyOf"]
        self.assertNotIn("deprecated", now)
        self.assertEqual((past["deprecated"], past["minItems"]), (True, 3))

    def test_two_types_with_one_name_are_refused(self) -> None:
        api = Registry("Twins", "test", "For tests.")
        first = msgspec.defstruct("Twin", [("A", str)], module="one")
        second = msgspec.defstruct("Twin", [("A", int)], module="two")

        async def Both(call: Call, one: Any) -> Any:
            """Takes one, gives another."""

        async def Same(call: Call) -> Any:
            """Gives one of both."""

        Both.__annotations__ = {"call": Call, "one": first, "return": first}
        Same.__annotations__ = {"call": Call, "return": second}
        api.function()(Both)
        openapi.document(api, "test")
        api.function()(Same)
        with self.assertRaisesRegex(TypeError, "two different types are named Twin"):
            openapi.document(api, "test")

    def test_all_error_codes_are_described(self) -> None:
        found: set[str] = set()
        for path in (Path(moxtw.__file__).parent / "web").rglob("*.py"):
            found |= set(re.findall(r'"((?:user|server|sherpa):\w+)"', path.read_text()))
        self.assertEqual(found, set(openapi.CODES))
        if (DOCS / "api.md").exists():
            rows = re.findall(r"^\| `(\w+:\w+)` \| (.+) \|$", (DOCS / "api.md").read_text(), re.M)
            self.assertEqual(dict(rows), openapi.CODES)


class ServedTests(SynchronousTestCase):
    def setUp(self) -> None:
        app = Klein()
        openapi.route(app, registry, "test")
        self.stub = StubTreq(app.resource())

    def request(self, method: str) -> Any:
        deferred = self.stub.request(method, "http://localhost/api/openapi.json")
        self.stub.flush()
        return self.successResultOf(deferred)

    def test_served(self) -> None:
        for _ in range(2):
            response = self.request("GET")
            self.assertEqual(response.code, 200)
            self.assertEqual(
                json.loads(self.successResultOf(response.content())),
                openapi.document(registry, "test"),
            )
            (kind,) = response.headers.getRawHeaders("Content-Type")
            self.assertEqual(kind, "application/json; charset=utf-8")
        self.assertEqual(self.request("HEAD").code, 200)

    def test_other_methods(self) -> None:
        for method in ("POST", "PUT", "DELETE", "OPTIONS"):
            response = self.request(method)
            self.assertEqual(response.code, 405)
            self.assertEqual(response.headers.getRawHeaders("Allow"), ["GET, HEAD"])
