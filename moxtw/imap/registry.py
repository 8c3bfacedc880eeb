"""The commands, each with its parser and the function that carries it out.

A family of commands is a module with a tuple `COMMANDS`; this one brings them together.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from enum import IntFlag
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from moxtw.imap.parser import Parser
    from moxtw.imap.server import IMAPServer


class State(IntFlag):
    """States of a connection (RFC 9051 section 3), and sets of them."""

    NOT_AUTHENTICATED = 1
    AUTHENTICATED = 2
    SELECTED = 4
    LOGGED_IN = AUTHENTICATED | SELECTED
    ANY = NOT_AUTHENTICATED | LOGGED_IN


@dataclass(frozen=True, slots=True)
class Command:
    """A command.

    `parse` reads the arguments. `run` gets the connection, the tag and what was parsed, and
    gives the text of the tagged OK, or None if it has replied itself. With `whole` the
    command must end where `parse` stopped; a command that reads literals of its own does
    without. `notices`: changes made by others are told before the tagged reply.
    """

    name: str
    states: State
    parse: Callable[[Parser], Any]
    run: Callable[[IMAPServer, bytes, Any], Awaitable[bytes | None]]
    notices: bool = True
    whole: bool = True


def no_arguments(p: Parser) -> None:
    """Parse nothing."""


def collect(families: Iterable[Iterable[Command]]) -> dict[bytes, Command]:
    """All commands by name, ``UID`` and its command as one name."""
    commands: dict[bytes, Command] = {}
    for family in families:
        for command in family:
            name = command.name.encode("ascii")
            if name in commands:
                raise ValueError(f"command {command.name} is there twice")
            commands[name] = command
    return commands
