"""JSON types of the APIs: number types, and how types are described to readers.

Types are described as lists of words read left to right: ``[]`` list of, ``{}`` map from
string to, ``nullable`` may be null, then the name of a type.
"""

from __future__ import annotations

import enum
import types
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Annotated, Any, Final, NewType, Union, get_args, get_origin, get_type_hints

import msgspec

Int32 = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1, title="int32")]
Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1, title="int64")]
UInt16 = Annotated[int, msgspec.Meta(ge=0, le=2**16 - 1, title="uint16")]
Time = Annotated[datetime, msgspec.Meta(tz=True)]

_SCALARS: Final[dict[Any, list[str]]] = {
    str: ["string"],
    bool: ["bool"],
    int: ["int64"],
    float: ["float64"],
    datetime: ["timestamp"],
    bytes: ["[]", "uint8"],
    Any: ["any"],
}


class Describer:
    """Turns types into words, collecting the named types that they speak of."""

    def __init__(self) -> None:
        self.structs: dict[str, dict[str, Any]] = {}
        self.strings: dict[str, dict[str, Any]] = {}

    def words(self, hint: Any) -> list[str]:
        """The words for a type. Raises TypeError for a type that no API may use."""
        origin = get_origin(hint)
        if origin is Annotated:
            base, *extras = get_args(hint)
            for extra in extras:
                # Types of lower floors say it in the words of JSON schema.
                if isinstance(extra, msgspec.Meta) and extra.title:
                    return [extra.title]
            return self.words(base)
        if origin in (Union, types.UnionType):
            args = [arg for arg in get_args(hint) if arg is not type(None)]
            if len(args) == 1:
                return ["nullable", *self.words(args[0])]
        elif origin is list:
            return ["[]", *self.words(get_args(hint)[0])]
        elif origin is dict:
            key, value = get_args(hint)
            if key is str:
                return ["{}", *self.words(value)]
        elif isinstance(hint, NewType):
            return self._string(hint.__name__, "", [])
        elif isinstance(hint, type) and issubclass(hint, enum.Enum):
            values = [{"Name": m.name, "Value": m.value, "Docs": ""} for m in hint]
            return self._string(hint.__name__, hint.__doc__ or "", values)
        elif isinstance(hint, type) and issubclass(hint, msgspec.Struct):
            return self._struct(hint)
        elif hint in _SCALARS:
            return list(_SCALARS[hint])
        raise TypeError(f"no words for type {hint!r}")

    def _string(self, name: str, doc: str, values: list[dict[str, str]]) -> list[str]:
        self.strings.setdefault(name, {"Name": name, "Docs": doc, "Values": values})
        return [name]

    def _struct(self, struct: type[msgspec.Struct]) -> list[str]:
        name = struct.__name__
        if name not in self.structs:
            # Entered before the fields are looked at: a type may speak of itself.
            fields: list[dict[str, Any]] = []
            self.structs[name] = {"Name": name, "Docs": struct.__doc__ or "", "Fields": fields}
            hints = get_type_hints(struct, include_extras=True)
            for field in msgspec.structs.fields(struct):
                words = self.words(hints[field.name])
                fields.append({"Name": field.encode_name, "Docs": "", "Typewords": words})
        return [name]


Cleaner = Callable[[Any], Any]
"""Puts values in decoded JSON into the form that their type is read from."""


class Cleaners:
    """Makes cleaners: null stands for an empty list or map wherever one is expected.

    Clients in languages where an empty list is written as null rely on it. For all other
    types null stays, and is refused later where it is not allowed. Where an integer is
    expected, 1.0 is one, as JSON and JSON Schema have but one kind of numbers.
    """

    def __init__(self) -> None:
        self._structs: dict[type, Mapping[str, Cleaner]] = {}

    def make(self, hint: Any) -> Cleaner | None:
        """The cleaner for values of a type, None if they need none."""
        origin = get_origin(hint)
        if origin is Annotated:
            return self.make(get_args(hint)[0])
        if origin in (Union, types.UnionType):
            (inner,) = (arg for arg in get_args(hint) if arg is not type(None))
            clean = self.make(inner)
            if clean is None:
                return None
            return lambda value: None if value is None else clean(value)
        if origin is list:
            return _list_cleaner(self.make(get_args(hint)[0]))
        if origin is dict:
            return _dict_cleaner(self.make(get_args(hint)[1]))
        if hint is int:
            return _integer
        if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
            fields = self._fields(hint)
            return _struct_cleaner(fields) if fields else None
        return None

    def _fields(self, struct: type[msgspec.Struct]) -> Mapping[str, Cleaner]:
        known = self._structs.get(struct)
        if known is None:
            made: dict[str, Cleaner] = {}
            known = self._structs[struct] = made
            hints = get_type_hints(struct, include_extras=True)
            for field in msgspec.structs.fields(struct):
                clean = self.make(hints[field.name])
                if clean is not None:
                    made[field.encode_name] = clean
        return known


def _integer(value: Any) -> Any:
    return int(value) if type(value) is float and value.is_integer() else value


def _list_cleaner(item: Cleaner | None) -> Cleaner:
    def clean(value: Any) -> Any:
        if value is None:
            return []
        if item is not None and type(value) is list:
            return [item(one) for one in value]
        return value

    return clean


def _dict_cleaner(item: Cleaner | None) -> Cleaner:
    def clean(value: Any) -> Any:
        if value is None:
            return {}
        if item is not None and type(value) is dict:
            return {key: item(one) for key, one in value.items()}
        return value

    return clean


def _struct_cleaner(fields: Mapping[str, Cleaner]) -> Cleaner:
    def clean(value: Any) -> Any:
        if type(value) is not dict:
            return value
        return {
            key: fields[key](one) if key in fields else one for key, one in value.items()
        }

    return clean
