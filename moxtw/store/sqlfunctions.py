"""Functions in statements that databases spell differently.

They let a statement look through the texts of many messages by itself: rows that come to
Python one by one cost the reactor more, since each of them is a turn at the interpreter.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement


class find_bytes(FunctionElement[int]):  # noqa: N801 - a function
    """Where the second argument begins in the first one, from 1 on; 0: it is not there."""

    inherit_cache = True
    type = sa.Integer()
    name = "find_bytes"


class joined(FunctionElement[str]):  # noqa: N801
    """All values that are not null in one text, separated by commas; null if there are none."""

    inherit_cache = True
    type = sa.Text()
    name = "joined"


class in_list(FunctionElement[bool]):  # noqa: N801
    """Whether the first argument is one of the numbers in the second, a text with commas."""

    inherit_cache = True
    type = sa.Boolean()
    name = "in_list"


class beyond_ascii(FunctionElement[bool]):  # noqa: N801
    """Whether bytes have some that are no ASCII; may be true for others with NULs."""

    inherit_cache = True
    type = sa.Boolean()
    name = "beyond_ascii"


class ascii_header(FunctionElement[bytes]):  # noqa: N801
    """Header lines that are all ASCII, unfolded and in lower case."""

    inherit_cache = True
    type = sa.LargeBinary()
    name = "ascii_header"


def _arguments(element: Any, compiler: Any, kw: Any) -> list[str]:
    return [compiler.process(each, **kw) for each in element.clauses]


@compiles(find_bytes, "sqlite")
def _find_sqlite(element: Any, compiler: Any, **kw: Any) -> str:
    return "instr({}, {})".format(*_arguments(element, compiler, kw))


@compiles(find_bytes, "postgresql")
def _find_postgresql(element: Any, compiler: Any, **kw: Any) -> str:
    text, wanted = element.clauses
    # The order of appearance of parameters does not matter: they have names.
    return f"position({compiler.process(wanted, **kw)} IN {compiler.process(text, **kw)})"


@compiles(joined, "sqlite")
def _joined_sqlite(element: Any, compiler: Any, **kw: Any) -> str:
    return "group_concat({})".format(*_arguments(element, compiler, kw))


@compiles(joined, "postgresql")
def _joined_postgresql(element: Any, compiler: Any, **kw: Any) -> str:
    return "string_agg(({})::text, ',')".format(*_arguments(element, compiler, kw))


@compiles(in_list, "sqlite")
def _list_sqlite(element: Any, compiler: Any, **kw: Any) -> str:
    value, numbers = _arguments(element, compiler, kw)
    return f"{value} IN (SELECT value FROM json_each('[' || {numbers} || ']'))"


@compiles(in_list, "postgresql")
def _list_postgresql(element: Any, compiler: Any, **kw: Any) -> str:
    value, numbers = _arguments(element, compiler, kw)
    return f"{value} = ANY(string_to_array({numbers}, ',')::bigint[])"


@compiles(beyond_ascii, "sqlite")
def _beyond_sqlite(element: Any, compiler: Any, **kw: Any) -> str:
    (data,) = _arguments(element, compiler, kw)
    return f"length(CAST({data} AS TEXT)) <> length({data})"


@compiles(beyond_ascii, "postgresql")
def _beyond_postgresql(element: Any, compiler: Any, **kw: Any) -> str:
    # Other bytes, and backslashes, become longer.
    (data,) = _arguments(element, compiler, kw)
    return f"length(encode({data}, 'escape')) <> length({data})"


@compiles(ascii_header, "sqlite")
def _lower_sqlite(element: Any, compiler: Any, **kw: Any) -> str:
    (data,) = _arguments(element, compiler, kw)
    text = f"lower(CAST({data} AS TEXT))"
    for blank in (9, 32):
        text = f"replace({text}, char(13, 10, {blank}), char({blank}))"
    return f"CAST({text} AS BLOB)"


@compiles(ascii_header, "postgresql")
def _lower_postgresql(element: Any, compiler: Any, **kw: Any) -> str:
    (data,) = _arguments(element, compiler, kw)
    text = f"lower(encode({data}, 'escape'))"
    for blank in (9, 32):
        text = f"replace({text}, chr(13) || chr(10) || chr({blank}), chr({blank}))"
    return f"convert_to({text}, 'UTF8')"


def numbers(text: str | None) -> list[int]:
    """The numbers that `joined` has put together."""
    return [int(each) for each in text.split(",")] if text else []


def as_list(values: Iterable[int]) -> str:
    """Numbers as `in_list` takes them."""
    return ",".join(map(str, values))
