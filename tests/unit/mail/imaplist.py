"""A strict reader of IMAP lists, to check what the program writes."""

from __future__ import annotations

import re
from typing import Any

_ATOM = re.compile(rb"NIL(?=[ ()]|\Z)|\d+(?=[ ()]|\Z)")
_QUOTED = re.compile(rb'"((?:[^"\\\r\n\x00\x80-\xff]|\\["\\])*)"')
_LITERAL = re.compile(rb"\{(\d+)\}\r\n")


def read_list(wire: bytes) -> list[Any]:
    """The nested lists, bytes, ints and None of a parenthesised list (RFC 9051 9).

    Raises ValueError at anything but exact syntax. No recursion, so that depth is no matter.
    """
    stack: list[list[Any]] = [[]]
    pos = 0
    need_space = False
    while pos < len(wire):
        char = wire[pos : pos + 1]
        if char == b"(":
            # Lists stand next to each other: the parts of a multipart, the addresses of a list.
            stack.append([])
            pos += 1
            need_space = False
            continue
        if char == b")":
            if len(stack) < 2 or not need_space:
                raise ValueError(f"bad end of list at {pos}")
            done = stack.pop()
            stack[-1].append(done)
            pos += 1
            need_space = True
            continue
        if char == b" ":
            if not need_space:
                raise ValueError(f"unexpected space at {pos}")
            pos += 1
            need_space = False
            continue
        if need_space:
            raise ValueError(f"space expected at {pos}: {wire[pos : pos + 20]!r}")
        if match := _ATOM.match(wire, pos):
            stack[-1].append(None if match[0] == b"NIL" else int(match[0]))
            pos = match.end()
        elif match := _QUOTED.match(wire, pos):
            stack[-1].append(re.sub(rb"\\(.)", rb"\1", match[1]))
            pos = match.end()
        elif match := _LITERAL.match(wire, pos):
            end = match.end() + int(match[1])
            data = wire[match.end() : end]
            if len(data) != int(match[1]) or b"\0" in data:
                raise ValueError(f"bad literal at {pos}")
            stack[-1].append(data)
            pos = end
        else:
            raise ValueError(f"not in the grammar at {pos}: {wire[pos : pos + 20]!r}")
        need_space = True
    if len(stack) != 1 or len(stack[0]) != 1:
        raise ValueError("unbalanced")
    result: list[Any] = stack[0][0]
    return result


def check_addresses(value: Any) -> None:
    """Check a list of addresses of an envelope."""
    if value is None:
        return
    assert isinstance(value, list) and value, value
    for address in value:
        assert len(address) == 4, address
        assert all(item is None or isinstance(item, bytes) for item in address), address


def check_envelope(envelope: Any) -> None:
    """Check that a list has the form of an ENVELOPE."""
    assert isinstance(envelope, list) and len(envelope) == 10, envelope
    for index in (0, 1, 8, 9):
        assert envelope[index] is None or isinstance(envelope[index], bytes)
    for index in range(2, 8):
        check_addresses(envelope[index])


def _check_params(params: Any) -> None:
    if params is not None:
        assert params and len(params) % 2 == 0, params
        assert all(isinstance(item, bytes) for item in params), params
        assert params[::2] == sorted(params[::2])


def _check_tail(items: list[Any]) -> None:
    disposition, language, location = items
    if disposition is not None:
        assert len(disposition) == 2 and isinstance(disposition[0], bytes)
        _check_params(disposition[1])
    assert language is None or isinstance(language, bytes | list)
    assert location is None or isinstance(location, bytes)


def check_body(body: Any, extended: bool) -> None:
    """Check that a list has the form of a BODY or BODYSTRUCTURE (RFC 9051 9, body)."""
    todo = [body]
    while todo:
        body = todo.pop()
        assert isinstance(body, list) and body
        if isinstance(body[0], list):
            count = next(i for i, item in enumerate(body) if not isinstance(item, list))
            todo.extend(body[:count])
            rest = body[count:]
            assert isinstance(rest[0], bytes)
            assert len(rest) == (5 if extended else 1), rest
            if extended:
                _check_params(rest[1])
                _check_tail(rest[2:])
            continue
        media_type, subtype, params, part_id, description, encoding, size, *rest = body
        assert isinstance(media_type, bytes) and isinstance(subtype, bytes)
        assert isinstance(encoding, bytes) and encoding
        assert isinstance(size, int)
        assert part_id is None or isinstance(part_id, bytes)
        assert description is None or isinstance(description, bytes)
        _check_params(params)
        if media_type == b"MESSAGE" and subtype in (b"RFC822", b"GLOBAL"):
            check_envelope(rest[0])
            todo.append(rest[1])
            assert isinstance(rest[2], int)
            rest = rest[3:]
        elif media_type == b"TEXT":
            assert isinstance(rest[0], int)
            rest = rest[1:]
        assert len(rest) == (4 if extended else 0), rest
        if extended:
            assert rest[0] is None or isinstance(rest[0], bytes)
            _check_tail(rest[1:])
