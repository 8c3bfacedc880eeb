"""OpenAPI descriptions of the JSON APIs, made from the functions and types that answer calls.

A document describes each function as a POST of ``{"params": [...]}``, with types as JSON
Schema. Types of parameters and of results differ: fields of parameters may be left out, and
null stands for an empty list or map; results have all their fields. Where a type is used both
ways, the one for parameters is named after the other, with ``Input`` behind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec
from klein import Klein, Response
from twisted.web.http import Request

from moxtw import metrics
from moxtw.version import VERSION
from moxtw.web.rpc import (
    BAD_FUNCTION,
    BAD_PARAMS,
    BAD_REQUEST,
    MAX_BODY,
    SERVER_ERROR,
    USER_ERROR,
    USER_NOT_FOUND,
    Function,
    Registry,
    json_answer,
    plain,
)
from moxtw.web.sessions import BAD_AUTH, CSRF_HEADER, LOGIN_FAILED, NO_AUTH

Schema = dict[str, Any]

CODES: Final = {
    USER_ERROR: "The call cannot be fulfilled; the message says why.",
    USER_NOT_FOUND: "What the call speaks of does not exist.",
    NO_AUTH: "No session cookie, or no CSRF header.",
    BAD_AUTH: "The session has ended, or the CSRF token is another one's.",
    LOGIN_FAILED: "Wrong credentials, or logins are disabled.",
    SERVER_ERROR: "The server failed.",
    BAD_REQUEST: "The request does not have the form of a call.",
    BAD_PARAMS: "Wrong number or types of parameters.",
    BAD_FUNCTION: "There is no such function.",
}
"""What error codes mean."""

_ABOUT: Final = f"""\


Answers have status 200, with a result or an error in it. In parameters, fields with a default
may be left out, unknown fields are refused, and null stands for an empty list or map. Times
are as in RFC 3339, periods are nanoseconds if nothing else is said. A body has at most
{MAX_BODY} bytes.
"""

_REF: Final = "#/components/schemas/"

_BASE64: Final = "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"

_INTEGERS: Final = {"int32", "int64", "uint16", "uint64"}
"""Titles of number types, which are formats in OpenAPI."""


def document(registry: Registry, kind: str) -> dict[str, Any]:
    """The OpenAPI 3.1 document of an API; `kind` is how the names of its cookies begin.

    Raises TypeError if two different types have the same name.
    """
    functions = registry.functions.values()
    taken, given = _Types(_parameter_schema), _Types(_result_schema)
    for fn in functions:
        for form in (fn, fn.older):
            taken.add(hint for _, hint in (form.params if form else ()))
        given.add(hint for _, hint in fn.results)
    results = given.make({})
    objects = [name for name, schema in results.items() if schema.get("type") == "object"]
    params = taken.make({name: f"{name}Input" for name in objects})
    return {
        "openapi": "3.1.0",
        "info": {
            "title": f"moxtw {registry.name}",
            "version": VERSION,
            "description": registry.doc + _ABOUT,
        },
        # Relative to where the document is.
        "servers": [{"url": "../api"}],
        "security": [{"session": [], "csrf": []}],
        "paths": {f"/{fn.name}": {"post": _operation(fn, taken, given)} for fn in functions},
        "components": {
            "schemas": {**_ERRORS, **dict(sorted({**results, **params}.items()))},
            "responses": _RESPONSES,
            "securitySchemes": {
                "session": {"type": "apiKey", "in": "cookie", "name": f"{kind}session"},
                "csrf": {"type": "apiKey", "in": "header", "name": CSRF_HEADER},
                "login": {"type": "apiKey", "in": "cookie", "name": f"{kind}login"},
            },
        },
    }


def route(app: Klein, registry: Registry, kind: str, base: str = "/api/") -> None:
    """Add ``GET api/openapi.json`` to a Klein app."""
    made: list[dict[str, Any]] = []

    @app.route(f"{base}openapi.json")  # type: ignore[type-var]
    def openapi(request: Request) -> Response:
        if request.method not in (b"GET", b"HEAD"):
            return plain(405, "method not allowed", {"Allow": "GET, HEAD"})
        if not made:
            made.append(document(registry, kind))
        metrics.sherpa_json_requests_total.labels(registry.label).inc()
        return json_answer(200, made[0], {"Cache-Control": "no-cache"})


# -- Operations ----------------------------------------------------------------------------


def _operation(fn: Function, taken: _Types, given: _Types) -> dict[str, Any]:
    summary, _, more = fn.doc.partition("\n\n")
    operation: dict[str, Any] = {"operationId": fn.name, "summary": " ".join(summary.split())}
    if more:
        operation["description"] = more
    if fn.open:
        operation["security"] = [{"login": []}] if fn.name == "Login" else []
    params = _params(fn, taken)
    if fn.older is not None:
        params = {"anyOf": [params, {**_params(fn.older, taken), "deprecated": True}]}
    body = _object({"params": params})
    operation["requestBody"] = {
        "required": True,
        "content": {"application/json": {"schema": body}},
    }
    answer = {"oneOf": [_object({"result": _result(fn, given)}), _ref("ErrorAnswer")]}
    operation["responses"] = {
        "200": {
            "description": "The result, or an error.",
            "content": {"application/json": {"schema": answer}},
        },
        "413": {"$ref": "#/components/responses/TooLarge"},
        "429": {"$ref": "#/components/responses/TooMany"},
        "500": {"$ref": "#/components/responses/Failed"},
    }
    return operation


def _params(fn: Function, types: _Types) -> Schema:
    if not fn.params:
        return {"type": ["array", "null"], "maxItems": 0}
    return _list_of({**types.schema(hint), "title": name} for name, hint in fn.params)


def _result(fn: Function, types: _Types) -> Schema:
    named = [{**types.schema(hint), "title": name} for name, hint in fn.results]
    if not named:
        return {"type": "null"}
    return named[0] if len(named) == 1 else _list_of(named)


def _list_of(items: Iterable[Schema]) -> Schema:
    schemas = list(items)
    count = len(schemas)
    return {
        "type": "array",
        "prefixItems": schemas,
        "items": False,
        "minItems": count,
        "maxItems": count,
    }


def _object(properties: Mapping[str, Schema]) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _ref(name: str) -> Schema:
    return {"$ref": _REF + name}


_MESSAGE: Final = {
    "type": "string",
    "description": "For people; ends in an id that the log knows.",
}

_ERRORS: Final = {
    "ErrorAnswer": _object({"error": _object({"code": _ref("ErrorCode"), "message": _MESSAGE})}),
    "ErrorCode": {
        "type": "string",
        "enum": list(CODES),
        "description": "\n".join(f"- `{code}`: {text}" for code, text in CODES.items()),
    },
}

_TEXT: Final = {"text/plain": {"schema": {"type": "string"}}}

_RESPONSES: Final = {
    "TooLarge": {"description": "The body is too large.", "content": _TEXT},
    "TooMany": {"description": "Too many requests, or failed logins.", "content": _TEXT},
    "Failed": {
        "description": "The server failed in a way that was not foreseen.",
        "content": {"application/json": {"schema": _ref("ErrorAnswer")}},
    },
}


# -- Types ---------------------------------------------------------------------------------


class _Types:
    """Schemas of types, and of the named types that they speak of."""

    def __init__(self, adapt: Callable[[Schema], None]) -> None:
        self._adapt = adapt
        self._hints: list[Any] = []
        self._schemas: Sequence[Schema] = ()

    def add(self, hints: Iterable[Any]) -> None:
        """Take types, before `make` is called."""
        self._hints += hints

    def make(self, names: Mapping[str, str]) -> dict[str, Schema]:
        """The named types, some under other names. Raises TypeError."""
        schemas, components = msgspec.json.schema_components(
            self._hints, ref_template=_REF + "{name}"
        )

        def rename(name: str) -> str:
            # Types of the same name in several modules are told apart by the module.
            short = name.rpartition(".")[2]
            return names.get(short, short)

        found: dict[str, Schema] = {}
        for name, schema in components.items():
            self._finish(schema, rename)
            known = found.setdefault(rename(name), schema)
            if {**known, "description": ""} != {**schema, "description": ""}:
                raise TypeError(f"two different types are named {rename(name)}")
        for schema in schemas:
            self._finish(schema, rename)
        self._schemas = schemas
        return found

    def schema(self, hint: Any) -> Schema:
        """The schema of a type that was added."""
        return self._schemas[self._hints.index(hint)]

    def _finish(self, schema: Schema, rename: Callable[[str], str]) -> None:
        if "$ref" in schema:
            schema["$ref"] = _REF + rename(schema["$ref"].removeprefix(_REF))
        if schema.get("title") in _INTEGERS:
            schema["format"] = schema.pop("title")
        if "enum" in schema:
            schema["type"] = "string"
        if "contentEncoding" in schema:
            schema["pattern"] = _BASE64
        self._adapt(schema)
        inner = [*schema.get("properties", {}).values(), *schema.get("anyOf", [])]
        inner += [schema[key] for key in ("items", "additionalProperties") if key in schema]
        for each in inner:
            if isinstance(each, dict):
                self._finish(each, rename)


def _parameter_schema(schema: Schema) -> None:
    kind = schema.get("type")
    if kind == "array" or (kind == "object" and "properties" not in schema):
        schema["type"] = [kind, "null"]


def _result_schema(schema: Schema) -> None:
    schema.pop("default", None)
    if "properties" in schema:
        schema["required"] = list(schema["properties"])
        # Later versions may add fields.
        schema.pop("additionalProperties", None)
