"""Parameters and answers of the control socket as text."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime
from typing import TypeVar

import msgspec

from moxtw.admin.context import user_error
from moxtw.ctl.server import Lines, Stream

T = TypeVar("T")


def from_json(text: str, kind: type[T], what: str) -> T:
    """A parameter in JSON. Raises OperationError."""
    try:
        return msgspec.json.decode(text, type=kind)
    except (ValueError, RecursionError) as exc:
        raise user_error(f"{what}: {exc}") from exc


def number_of(text: str, what: str) -> int:
    """A parameter that is a number from 0 on."""
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise user_error(f"{what} {text[:100]!r} is not a number")
    return int(text)


def bool_of(text: str) -> bool:
    """A parameter that is ``true`` or ``false``."""
    if text not in ("true", "false"):
        raise user_error(f"{text[:100]!r} is neither true nor false")
    return text == "true"


def optional_bool(text: str) -> bool | None:
    """The same, or None for nothing."""
    return None if text == "" else bool_of(text)


def table(titles: str, rows: Sequence[Sequence[str]]) -> bytes:
    """Columns under titles, or that there is nothing."""
    if not rows:
        return b"(none)\n"
    head = titles.split()
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    return "".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        + "\n"
        for row in [head, *rows]
    ).encode()


async def tables(
    titles: str, pages: AsyncIterator[list[T]], row: Callable[[T], Sequence[str]]
) -> AsyncIterator[bytes]:
    """A table as its rows come; columns get wider if they must."""
    lines: list[Sequence[str]] = [titles.split()]
    widths = [len(title) for title in lines[0]]
    async for page in pages:
        if not page:
            continue
        lines += [row(each) for each in page]
        widths = [
            max(width, *map(len, column))
            for width, column in zip(widths, zip(*lines, strict=True), strict=True)
        ]
        yield "".join(
            "  ".join(
                cell.ljust(width) for cell, width in zip(line, widths, strict=True)
            ).rstrip()
            + "\n"
            for line in lines
        ).encode()
        lines = []
    if lines:
        yield b"(none)\n"


def stamp(time: datetime) -> str:
    """A time in UTC."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def text_lines(texts: Sequence[str]) -> Stream:
    """Lines as an answer."""
    return Stream("".join(text + "\n" for text in texts).encode())


def counted(number: int) -> Lines:
    """How many were changed."""
    return Lines([str(number)])


def indented(value: object) -> Stream:
    """One thing as JSON that people read, too."""
    return Stream(msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")


async def json_list(pages: AsyncIterator[list[T]]) -> AsyncIterator[bytes]:
    """A JSON list as its elements come, one on a line."""
    before = b"["
    async for page in pages:
        if page:
            yield before + b",\n".join(map(msgspec.json.encode, page))
            before = b",\n"
    yield b"[]\n" if before == b"[" else b"]\n"


async def listing(
    form: str, titles: str, pages: AsyncIterator[list[T]], row: Callable[[T], Sequence[str]]
) -> Stream:
    """A list as a table, or with the form ``json`` all there is about each.

    Raises OperationError.
    """
    if form not in ("", "json"):
        raise user_error(f"{form[:100]!r} is no form of lists")
    return Stream(json_list(pages) if form else tables(titles, pages, row))
