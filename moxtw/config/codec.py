"""Dataclasses as sections of a configuration file: declaring, reading, writing.

A section is a frozen dataclass made with `section`; its fields are declared with `req` and
`opt`, which hold the name in the file, the documentation and the zero value, or with
`resolved` for what checking the configuration adds. `codec_for` gives the reader and writer
of a section.

    @section
    class KeyCert:
        cert_file: str = req("CertFile", "Certificate chain, PEM.")
        key_file: str = req("KeyFile", "Private key, PEM.")

An optional field at its zero value is not written. Sections that may be absent are typed
``X | None``; others always are there, at least as zero value.
"""

from __future__ import annotations

import copy
import dataclasses
import difflib
import math
import re
import sys
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from moxtw.config.duration import Duration, DurationError, parse_duration
from moxtw.config.sconf import Node, SconfError, join_key, plain, split_key

T = TypeVar("T")

_NIL: Final = "nil"
_INT: Final = re.compile(r"[+-]?[0-9]{1,19}")
_FLOAT: Final = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?")
_INT64: Final = 1 << 63


@dataclasses.dataclass(frozen=True)
class FieldInfo:
    """What a field's declaration says beside its type."""

    name: str
    doc: str
    optional: bool
    example: Any = None


def _field(info: FieldInfo, zero: Any) -> Any:
    metadata = {"sconf": info}
    if isinstance(zero, type):
        return dataclasses.field(default_factory=zero, metadata=metadata)
    return dataclasses.field(default=zero, metadata=metadata)


def req(name: str, doc: str, zero: Any = "", *, example: Any = None) -> Any:
    """A field that a file must have. `zero` is a value, or a type to be called for one.

    `example` is shown by `moxtw.config.describe` instead of the zero value.
    """
    return _field(FieldInfo(name, doc, False, example), zero)


def opt(name: str, doc: str, zero: Any = "", *, example: Any = None) -> Any:
    """A field that a file may leave out, which means its zero value."""
    return _field(FieldInfo(name, doc, True, example), zero)


def resolved(json: str = "", zero: Any = None) -> Any:
    """A field that is not in the file: checking sets it, comparing ignores it.

    json: its name in JSON of the admin and account interfaces, if it appears there.
    """
    metadata = {"resolved": json}
    if isinstance(zero, type):
        return dataclasses.field(
            default_factory=zero, init=False, compare=False, repr=False, metadata=metadata
        )
    return dataclasses.field(default=zero, init=False, compare=False, repr=False, metadata=metadata)


@typing.dataclass_transform(kw_only_default=True, frozen_default=True)
def section(cls: type[T]) -> type[T]:
    """Make a section of a class: a frozen dataclass with keyword arguments only."""
    return dataclasses.dataclass(frozen=True, kw_only=True, slots=True)(cls)


def set_resolved(obj: object, **values: Any) -> None:
    """Fill in `resolved` fields of a section. Only for the checks of `moxtw.config`."""
    for name, value in values.items():
        object.__setattr__(obj, name, value)


def with_resolved(obj: T, **values: Any) -> T:
    """`obj` if its `resolved` fields have these values already, else a copy that has them.

    For values that depend on where a section stands: another thread may use `obj` meanwhile.
    """
    if all(getattr(obj, name) == value for name, value in values.items()):
        return obj
    result = copy.copy(obj)
    set_resolved(result, **values)
    return result


class Codec:
    """Reads and writes values of one type."""

    kind: str = ""

    def decode(self, node: Node, text: str, errors: list[SconfError]) -> Any:
        """The value of a line: `text` is what stands behind the key or the dash.

        Errors are collected; a zero value stands in for what cannot be read.
        """
        raise NotImplementedError

    def encode(self, value: Any) -> tuple[str | None, list[Node]]:
        """A value as text of the line, or None with the lines below it.

        Raises SconfError for what the format cannot hold.
        """
        raise NotImplementedError

    def zero(self) -> Any:
        """The value of an absent field."""
        raise NotImplementedError

    def is_zero(self, value: Any) -> bool:
        """Whether an optional field of this value is left out."""
        return bool(value == self.zero())


def _no_children(node: Node, errors: list[SconfError]) -> None:
    if node.children:
        errors.append(
            SconfError(node.children[0].line, "unexpected indented line below a plain value")
        )


class ScalarCodec(Codec):
    """Values that stand on their line."""

    def __init__(
        self,
        kind: str,
        parse: Callable[[str], Any],
        form: Callable[[Any], str],
        zero: Any,
    ) -> None:
        self.kind = kind
        self._parse = parse
        self._form = form
        self._zero = zero

    def decode(self, node: Node, text: str, errors: list[SconfError]) -> Any:
        """See `Codec`."""
        if node.children:
            _no_children(node, errors)
        try:
            return self._parse(text)
        except ValueError as exc:
            errors.append(SconfError(node.line, str(exc)))
            return self._zero

    def encode(self, value: Any) -> tuple[str | None, list[Node]]:
        """See `Codec`."""
        return self._form(value), []

    def zero(self) -> Any:
        """See `Codec`."""
        return self._zero

    def is_zero(self, value: Any) -> bool:
        """See `Codec`."""
        return not value


def _parse_str(text: str) -> str:
    return text


def _parse_bool(text: str) -> bool:
    word = text.strip()
    if word == "true":
        return True
    if word == "false":
        return False
    raise ValueError(f"bad value {text[:60]!r}, need true or false")


def _parse_int(text: str) -> int:
    word = text.strip()
    value = int(word) if _INT.fullmatch(word) else _INT64
    if not -_INT64 <= value < _INT64:
        raise ValueError(f"bad value {text[:60]!r}, need a whole number")
    return value


def _parse_float(text: str) -> float:
    word = text.strip()
    value = float(word) if _FLOAT.fullmatch(word) else math.inf
    if math.isinf(value):
        raise ValueError(f"bad value {text[:60]!r}, need a number")
    return value


def _form_float(value: float) -> str:
    if not math.isfinite(value):
        raise SconfError(0, f"cannot be written as a number: {value}")
    # Six decimals as a rule; all of them where six would change the value.
    text = f"{value:f}"
    return text if float(text) == value else repr(float(value))


def _parse_duration(text: str) -> Duration:
    try:
        return parse_duration(text.strip())
    except DurationError as exc:
        raise ValueError(str(exc)) from exc


def _form_str(value: str) -> str:
    if not plain(value):
        raise SconfError(0, f"a value cannot hold line ends: {value[:60]!r}")
    return value


STRING: Final = ScalarCodec("string", _parse_str, _form_str, "")
BOOL: Final = ScalarCodec("bool", _parse_bool, lambda v: "true" if v else "false", False)
INT: Final = ScalarCodec("int", _parse_int, lambda v: str(int(v)), 0)
FLOAT: Final = ScalarCodec("float", _parse_float, _form_float, 0.0)
DURATION: Final = ScalarCodec("duration", _parse_duration, str, Duration(0))


def _is_nil(text: str) -> bool:
    return text.strip() in ("", _NIL)


def _bad_inline(node: Node, text: str, what: str, errors: list[SconfError]) -> None:
    errors.append(
        SconfError(node.line, f"unexpected value {text[:60]!r}, need {what} on the lines below")
    )


def _nil_with_children(node: Node, text: str, errors: list[SconfError]) -> None:
    if text.strip() and node.children:
        errors.append(SconfError(node.children[0].line, "unexpected indented line below nil"))


class ListCodec(Codec):
    """Items, each on a line with a dash."""

    kind = "list"

    def __init__(self, item: Codec) -> None:
        self.item = item

    def decode(self, node: Node, text: str, errors: list[SconfError]) -> tuple[Any, ...]:
        """See `Codec`."""
        if not _is_nil(text):
            _bad_inline(node, text, "a list of lines with a dash", errors)
            return ()
        _nil_with_children(node, text, errors)
        items = []
        decode = self.item.decode
        for child in node.children:
            line = child.text
            if line.startswith("- "):
                items.append(decode(child, line[2:], errors))
            elif line == "-":
                items.append(decode(child, "", errors))
            else:
                errors.append(SconfError(child.line, "need a list item: a dash and a blank"))
        return tuple(items)

    def encode(self, value: Any) -> tuple[str | None, list[Node]]:
        """See `Codec`."""
        if not value:
            return _NIL, []
        return None, [self.item_node(item) for item in value]

    def item_node(self, item: Any) -> Node:
        """The line or lines of one item."""
        text, children = self.item.encode(item)
        return Node("-" if text is None else f"- {text}", children)

    def zero(self) -> Any:
        """See `Codec`."""
        return ()

    def is_zero(self, value: Any) -> bool:
        """See `Codec`."""
        return not value


class MapCodec(Codec):
    """Values under keys that the admin chooses."""

    kind = "map"

    def __init__(self, item: Codec) -> None:
        self.item = item

    def decode(self, node: Node, text: str, errors: list[SconfError]) -> dict[str, Any]:
        """See `Codec`."""
        result: dict[str, Any] = {}
        if not _is_nil(text):
            _bad_inline(node, text, "keys and values", errors)
            return result
        _nil_with_children(node, text, errors)
        decode = self.item.decode
        for child in node.children:
            pair = split_key(child.text)
            if pair is None:
                errors.append(SconfError(child.line, "need a key, a colon and a blank"))
                continue
            key, rest = pair
            if key in result:
                errors.append(SconfError(child.line, f"duplicate key {key!r}"))
                continue
            result[key] = decode(child, rest, errors)
        return result

    def encode(self, value: Any) -> tuple[str | None, list[Node]]:
        """See `Codec`."""
        if not value:
            return _NIL, []
        return None, [self.item_node(key, value[key]) for key in value]

    def item_node(self, key: str, item: Any) -> Node:
        """The line or lines of one key with its value."""
        text, children = self.item.encode(item)
        return Node(join_key(key, text), children)

    def zero(self) -> Any:
        """See `Codec`."""
        return {}

    def is_zero(self, value: Any) -> bool:
        """See `Codec`."""
        return not value


class OptionalCodec(Codec):
    """A value that may be absent, as None."""

    kind = "optional"

    def __init__(self, inner: Codec) -> None:
        self.inner = inner

    def decode(self, node: Node, text: str, errors: list[SconfError]) -> Any:
        """See `Codec`."""
        # "nil" for a section without required fields means that it is there and empty, as
        # absent ones are not written; all else has no use of being empty.
        inner = self.inner
        if text.strip() == _NIL and not (isinstance(inner, StructCodec) and not inner.required):
            _nil_with_children(node, text, errors)
            return None
        return inner.decode(node, text, errors)

    def encode(self, value: Any) -> tuple[str | None, list[Node]]:
        """See `Codec`."""
        return (_NIL, []) if value is None else self.inner.encode(value)

    def zero(self) -> Any:
        """See `Codec`."""
        return None

    def is_zero(self, value: Any) -> bool:
        """See `Codec`."""
        return value is None


@dataclasses.dataclass(frozen=True, slots=True)
class Field:
    """A field of a section, with its codec."""

    attr: str
    name: str
    doc: str
    optional: bool
    codec: Codec
    example: Any


class StructCodec(Codec):
    """A section: a dataclass made with `section`."""

    kind = "section"

    def __init__(self, cls: type[Any], fields: list[Field]) -> None:
        self.cls = cls
        self.fields = fields
        self.by_name = {field.name: field for field in fields}
        self.required = [field for field in fields if not field.optional]
        self.resolved_json = tuple(
            (item.name, item.metadata["resolved"])
            for item in dataclasses.fields(cls)
            if item.metadata.get("resolved")
        )
        """Attribute and JSON name of the resolved fields that appear in JSON."""

    def decode(self, node: Node, text: str, errors: list[SconfError]) -> Any:
        """See `Codec`."""
        if not _is_nil(text):
            _bad_inline(node, text, "fields", errors)
            return self.cls()
        if text.strip():
            _nil_with_children(node, text, errors)
            return self.cls()
        return self.decode_fields(node, errors)

    def decode_fields(self, node: Node, errors: list[SconfError]) -> Any:
        """The section whose fields are the children of `node`."""
        values: dict[str, Any] = {}
        for child in node.children:
            pair = split_key(child.text)
            if pair is None:
                errors.append(SconfError(child.line, "need a field name, a colon and a blank"))
                continue
            name, rest = pair
            field = self.by_name.get(name)
            if field is None:
                errors.append(SconfError(child.line, self._unknown(name)))
                continue
            if field.attr in values:
                errors.append(SconfError(child.line, f"duplicate field {name}"))
                continue
            values[field.attr] = field.codec.decode(child, rest, errors)
        for field in self.required:
            if field.attr not in values:
                errors.append(SconfError(node.line, f"missing required field {field.name}"))
        return self.cls(**values)

    def _unknown(self, name: str) -> str:
        text = f"unknown field {name[:60]!r}"
        near = difflib.get_close_matches(name[:60], self.by_name, 1)
        return f"{text}, did you mean {near[0]}?" if near else text

    def encode(self, value: Any) -> tuple[str | None, list[Node]]:
        """See `Codec`."""
        nodes = []
        for field in self.fields:
            item = getattr(value, field.attr)
            if not (field.optional and field.codec.is_zero(item)):
                nodes.append(self.field_node(field, item))
        # A required section may well consist of optional fields that are all unset.
        return (None, nodes) if nodes else (_NIL, [])

    def field_node(self, field: Field, item: Any) -> Node:
        """The line or lines of one field."""
        text, children = field.codec.encode(item)
        return Node(join_key(field.name, text), children)

    def zero(self) -> Any:
        """See `Codec`."""
        return self.cls()


_SCALARS: Final[dict[Any, Codec]] = {
    str: STRING,
    bool: BOOL,
    int: INT,
    float: FLOAT,
    Duration: DURATION,
}


def codec_of(tp: Any) -> Codec:
    """The codec for values of a type, as in the annotations of sections."""
    scalar = _SCALARS.get(tp)
    if scalar is not None:
        return scalar
    if dataclasses.is_dataclass(tp):
        return struct_codec(typing.cast("type[Any]", tp))
    origin = typing.get_origin(tp)
    args = typing.get_args(tp)
    if origin is tuple and len(args) == 2 and args[1] is Ellipsis:
        return ListCodec(codec_of(args[0]))
    if origin in (dict, Mapping):
        return MapCodec(codec_of(args[1]))
    if origin in (types.UnionType, typing.Union) and type(None) in args and len(args) == 2:
        return OptionalCodec(codec_of(args[0] if args[1] is type(None) else args[1]))
    raise TypeError(f"no codec for {tp!r}")


_codecs: Final[dict[type[Any], StructCodec]] = {}


def struct_codec(cls: type[Any]) -> StructCodec:
    """The codec of a section."""
    codec = _codecs.get(cls)
    if codec is None:
        codec = _codecs[cls] = _make_struct_codec(cls)
    return codec


def _make_struct_codec(cls: type[Any]) -> StructCodec:
    # Only the fields of the file: resolved ones may be of types that are not known here.
    module = vars(sys.modules[cls.__module__])
    fields = []
    for item in dataclasses.fields(cls):
        info = item.metadata.get("sconf")
        if info is not None:
            fields.append(
                Field(
                    item.name,
                    info.name,
                    info.doc,
                    info.optional,
                    codec_of(eval(item.type, module) if isinstance(item.type, str) else item.type),
                    info.example,
                )
            )
    return StructCodec(cls, fields)
