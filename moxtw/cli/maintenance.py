"""``moxtw backup`` and other long work on what is stored."""

from __future__ import annotations

import os
from collections.abc import Iterator

from moxtw.cli.invocation import Invocation
from moxtw.cli.output import clean


def stream(invocation: Invocation, name: str, *params: str) -> Iterator[str]:
    """The lines that a command of the control socket tells, as they come."""
    with invocation.control() as control:
        control.command(name, *params)
        rest = ""
        for piece in control.read_stream():
            *lines, rest = (rest + piece.decode("utf-8", "replace")).split("\n")
            for line in lines:
                yield clean(line)


def backup(invocation: Invocation) -> None:
    """``moxtw backup``."""
    directory = os.path.abspath(invocation.args[0])
    verbose = invocation.switch("verbose")
    for line in stream(invocation, "backup", directory, "verbose" if verbose else ""):
        if line.startswith("warning: "):
            invocation.warn(f"moxtw: {line}")
        else:
            invocation.print(line)
            invocation.stdout.flush()


def _told(invocation: Invocation, name: str) -> None:
    for line in stream(invocation, name, invocation.args[0] if invocation.args else ""):
        invocation.print(line)
        invocation.stdout.flush()


def recalculatemailboxcounts(invocation: Invocation) -> None:
    """``moxtw recalculatemailboxcounts``."""
    _told(invocation, "recalculatemailboxcounts")


def fixmsgsize(invocation: Invocation) -> None:
    """``moxtw fixmsgsize``."""
    _told(invocation, "fixmsgsize")


def reparse(invocation: Invocation) -> None:
    """``moxtw reparse``."""
    _told(invocation, "reparse")


def reassignthreads(invocation: Invocation) -> None:
    """``moxtw reassignthreads``."""
    _told(invocation, "reassignthreads")
