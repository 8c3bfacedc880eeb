"""Configuration in the JSON of the admin and account interfaces.

Names are those of the files; what checking worked out is added under names of its own
(``DNSDomain``, ``HashEffective``). Durations are nanoseconds. Absent lists and maps are empty,
absent sections null.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final, TypeVar

from moxtw.config.codec import (
    BOOL,
    DURATION,
    FLOAT,
    INT,
    STRING,
    Codec,
    ListCodec,
    MapCodec,
    OptionalCodec,
    StructCodec,
    codec_of,
    struct_codec,
)
from moxtw.config.duration import Duration
from moxtw.config.dynamic import (
    AddressAlias,
    AliasAddress,
    Destination,
    JunkFilter,
    JunkParams,
)
from moxtw.mail.address import Address
from moxtw.mail.domain import Domain

T = TypeVar("T")

_INT64: Final = 1 << 63

# Sections whose fields stand in JSON beside those of the section that they are part of.
_EMBEDDED: Final = {(JunkFilter, "params"): JunkParams}


# Fields of the files alone: programs know the types of the interfaces, and send whole values.
_FILE_ONLY: Final = {(Destination, "forward_to")}


class JSONError(ValueError):
    """JSON that is not of the form asked for; the message says where and why."""


def json_value(value: Any) -> Any:
    """The JSON form of a section, or of a list or map of sections, or of a part of one."""
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, int):
        return int(value)  # A Duration too.
    if isinstance(value, float):
        return value
    if isinstance(value, Domain):
        return {"ASCII": value.ascii, "Unicode": value.unicode}
    if isinstance(value, Address):
        return {"Localpart": value.localpart, "Domain": json_value(value.domain)}
    if isinstance(value, AliasAddress):
        return {
            "Address": json_value(value.address),
            "AccountName": value.account_name,
            "Destination": json_value(value.destination),
        }
    if isinstance(value, AddressAlias):
        return {
            "SubscriptionAddress": value.subscription_address,
            "Alias": json_value(value.alias),
            "MemberAddresses": list(value.member_addresses),
        }
    if isinstance(value, tuple | list):
        return [json_value(item) for item in value]
    if isinstance(value, Mapping):
        return {key: json_value(item) for key, item in value.items()}
    return _section(value)


def _section(value: Any) -> dict[str, Any]:
    cls = type(value)
    result: dict[str, Any] = {}
    codec = struct_codec(cls)
    for field in codec.fields:
        if (cls, field.attr) in _FILE_ONLY:
            continue
        item = getattr(value, field.attr)
        if (cls, field.attr) in _EMBEDDED:
            result.update(_section(item))
        else:
            result[field.name] = json_value(item)
    for attr, name in codec.resolved_json:
        result[name] = json_value(getattr(value, attr))
    return result


def from_json(kind: Any, value: Any) -> Any:
    """A value of a section class, or of a type like ``tuple[Route, ...]``, out of its JSON.

    Absent fields and nulls mean the zero value. What `json_value` adds is accepted and ignored;
    other unknown fields are refused. Raises JSONError.
    """
    return _decode(codec_of(kind), value, "")


def _fail(path: str, text: str) -> JSONError:
    return JSONError(f"{path or 'value'}: {text}")


def _decode(codec: Codec, value: Any, path: str) -> Any:
    if value is None:
        return codec.zero()
    if isinstance(codec, OptionalCodec):
        return _decode(codec.inner, value, path)
    if isinstance(codec, StructCodec):
        return _decode_section(codec, value, path)
    if isinstance(codec, ListCodec):
        if not isinstance(value, list | tuple):
            raise _fail(path, "need a list")
        return tuple(
            _decode(codec.item, item, f"{path}[{index}]") for index, item in enumerate(value)
        )
    if isinstance(codec, MapCodec):
        if not isinstance(value, Mapping):
            raise _fail(path, "need an object")
        return {
            str(key): _decode(codec.item, item, f"{path}[{str(key)[:60]}]")
            for key, item in value.items()
        }
    if codec is STRING:
        if not isinstance(value, str):
            raise _fail(path, "need a string")
        return value
    if codec is BOOL:
        if not isinstance(value, bool):
            raise _fail(path, "need true or false")
        return value
    return _decode_number(codec, value, path)


def _decode_number(codec: Codec, value: Any, path: str) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _fail(path, "need a number")
    if codec is FLOAT:
        if isinstance(value, float) and not math.isfinite(value):
            raise _fail(path, "need a finite number")
        return float(value)
    if int(value) != value if math.isfinite(value) else True:
        raise _fail(path, "need a whole number")
    if not -_INT64 <= value < _INT64:
        raise _fail(path, "number out of range")
    if codec is DURATION:
        return Duration(int(value))
    if codec is not INT:
        raise TypeError(f"no JSON form for {codec.kind}")
    return int(value)


def _decode_section(codec: StructCodec, value: Any, path: str) -> Any:
    if not isinstance(value, Mapping):
        raise _fail(path, "need an object")
    ignored = {name for _, name in codec.resolved_json}
    rest = dict(value)
    values: dict[str, Any] = {}
    for field in codec.fields:
        embedded = _EMBEDDED.get((codec.cls, field.attr))
        if embedded is not None:
            inner = struct_codec(embedded)
            part = {f.name: rest.pop(f.name) for f in inner.fields if f.name in rest}
            values[field.attr] = _decode_section(inner, part, path)
        elif field.name in rest:
            place = f"{path}.{field.name}" if path else field.name
            values[field.attr] = _decode(field.codec, rest.pop(field.name), place)
    unknown = [name for name in rest if name not in ignored]
    if unknown:
        raise _fail(path, f"unknown field {str(unknown[0])[:60]!r}")
    return codec.cls(**values)
