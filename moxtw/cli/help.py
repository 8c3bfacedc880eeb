"""Texts of help."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from moxtw.cli.command import Command, Flag

WIDTH = 88


def _wrap(text: str, indent: str = "") -> str:
    """Paragraphs, filled; lines that begin with a blank stay as they are."""
    # textwrap costs an import of 10 ms, and all words here are short.
    lines: list[str] = []
    current = ""
    for source in text.split("\n"):
        if not source or source[0] == " ":
            if current:
                lines.append(current)
            current = ""
            lines.append((indent + source).rstrip())
            continue
        for word in source.split():
            if current and len(current) + 1 + len(word) > WIDTH:
                lines.append(current)
                current = ""
            current = f"{current} {word}" if current else indent + word
    if current:
        lines.append(current)
    return "\n".join(lines) + "\n"


def _flags(flags: Iterable[Flag]) -> str:
    return "".join(f"  {flag.usage}\n{_wrap(flag.doc, '        ')}" for flag in flags)


def command_help(command: Command) -> str:
    """All about a command."""
    text = f"usage: {command.usage}\n\n{_wrap(command.doc)}"
    if command.flags:
        text += "\nFlags:\n" + _flags(command.flags)
    return text


def short_help(command: Command) -> str:
    """The usage line, and where there is more."""
    return f'usage: {command.usage}\nRun "moxtw help {command.name}" for more.\n'


def _list(commands: Iterable[Command]) -> str:
    rows = [(f"moxtw {command.name}", command.summary) for command in commands]
    width = max(len(name) for name, _ in rows)
    return "".join(f"  {name:<{width}}  {summary}\n" for name, summary in rows)


def group_help(words: Sequence[str], commands: Sequence[Command]) -> str:
    """The commands that begin with some words."""
    return f"moxtw {' '.join(words)} is followed by one of:\n\n{_list(commands)}" + (
        f'\nRun "moxtw help {" ".join(words)} …" with a command for its flags.\n'
    )


def overview(commands: Iterable[Command], global_flags: Iterable[Flag]) -> str:
    """All commands."""
    return (
        "usage: moxtw [global flags] command [flags] [arguments]\n\n"
        f"Commands:\n\n{_list(commands)}\nGlobal flags:\n{_flags(global_flags)}"
        '\nRun "moxtw help command" for more about one.\n'
    )


def similar(words: Sequence[str], commands: Iterable[Command]) -> list[str]:
    """Names of commands that may have been meant."""
    from difflib import get_close_matches

    names = [command.name for command in commands]
    for count in range(len(words), 0, -1):
        if found := get_close_matches(" ".join(words[:count]), names, n=3, cutoff=0.7):
            return found
    return []
