"""Annotated configuration files: every field, with its documentation."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any, Final

from moxtw.config.codec import (
    Codec,
    Field,
    ListCodec,
    MapCodec,
    OptionalCodec,
    StructCodec,
    struct_codec,
)
from moxtw.config.dynamic import Dynamic
from moxtw.config.sconf import join_key
from moxtw.config.sendmail import Sendmail
from moxtw.config.static import Static

_WIDTH: Final = 92
_MIN_WIDTH: Final = 50
_TAB: Final = 4

_FORMAT: Final = (
    "Lines are indented with tabs. A value is the rest of its line, without quotes; comments "
    "stand on lines of their own. Lists have a dash and a blank before each item. nil stands for "
    "an empty section, list or map. Sections that can be named freely have an example name."
)

_STATIC: Final = (
    "mox.conf, the static configuration: read at start. This file shows every field; those "
    "marked optional can be left out. Some exclude each other, so it is to be read, not run."
)

_DYNAMIC: Final = (
    "domains.conf, the dynamic configuration: read again when it changes, and written by the "
    "server when settings change on the web pages or on the command line. This file shows every "
    "field; those marked optional can be left out. Some exclude each other, so it is to be read, "
    "not run."
)


_SENDMAIL: Final = (
    "moxsubmit.conf, the configuration of \"moxtw sendmail\": how programs on this machine submit "
    "mail. It holds a secret: let only a group of its own read it. This file shows every field; "
    "those marked optional can be left out."
)


def describe_sendmail() -> str:
    """An annotated moxsubmit.conf."""
    return _describe(_SENDMAIL, Sendmail)


def describe_static() -> str:
    """An annotated mox.conf."""
    return _describe(_STATIC, Static)


def describe_dynamic() -> str:
    """An annotated domains.conf."""
    return _describe(_DYNAMIC, Dynamic)


def _describe(intro: str, cls: type[Any]) -> str:
    lines = [*_comment(intro, 0), "#", *_comment(_FORMAT, 0)]
    lines += _section(struct_codec(cls), 0)
    return "\n".join(lines) + "\n"


def _comment(text: str, depth: int) -> Iterator[str]:
    width = max(_MIN_WIDTH, _WIDTH - depth * _TAB - 2)
    for line in textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False):
        yield "\t" * depth + "# " + line


def _section(codec: StructCodec, depth: int) -> Iterator[str]:
    for number, field in enumerate(codec.fields):
        if number or not depth:
            yield ""
        yield from _comment(field.doc + (" (optional)" if field.optional else ""), depth)
        yield from _value(join_key(field.name, ""), field.codec, field, depth)


def _value(head: str, codec: Codec, field: Field, depth: int) -> Iterator[str]:
    """The lines of an example value behind `head`, a key with colon and blank, or a dash."""
    tabs = "\t" * depth
    example = field.example
    if isinstance(codec, OptionalCodec):
        codec = codec.inner
    if isinstance(codec, StructCodec):
        yield tabs + head.rstrip()
        yield from _section(codec, depth + 1)
    elif isinstance(codec, MapCodec):
        yield tabs + head.rstrip()
        if isinstance(codec.item, StructCodec):
            yield from _value(join_key(example, ""), codec.item, field, depth + 1)
        else:
            for key, value in example.items():
                yield tabs + "\t" + join_key(key, value)
    elif isinstance(codec, ListCodec):
        yield tabs + head.rstrip()
        if isinstance(codec.item, StructCodec):
            yield from _value("- ", codec.item, field, depth + 1)
        else:
            for value in example:
                yield f"{tabs}\t- {value}"
    else:
        text, _ = codec.encode(codec.zero() if example is None else example)
        yield f"{tabs}{head}{text}"
