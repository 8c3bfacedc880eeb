"""Calls of commands in the process of a test."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

from moxtw.cli import main


class Stdin(io.TextIOWrapper):
    """Standard input with given bytes, and no terminal."""

    def __init__(self, data: bytes = b"") -> None:
        super().__init__(io.BytesIO(data), encoding="utf-8")


@dataclass
class Result:
    """What a command gave."""

    code: int
    out: str
    err: str


def decode(data: bytes) -> str:
    """Output as text."""
    return data.decode()


def call(*args: Any, stdin: bytes = b"") -> Result:
    """Call ``moxtw`` with arguments."""
    raw, err = io.BytesIO(), io.StringIO()
    out = io.TextIOWrapper(raw, encoding="utf-8", newline="\n")
    code = main.run([str(arg) for arg in args], stdin=Stdin(stdin), stdout=out, stderr=err)
    out.flush()
    return Result(code, decode(raw.getvalue()), err.getvalue())
