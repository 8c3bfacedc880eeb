"""Flags in the way of Go programs: ``-flag value``, ``-flag=value``, ``--flag``, switches."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from moxtw.cli.command import BOOL, BOOL_VALUE, IDS, INT, TEXT, Flag, UsageError

Value = str | int | bool | tuple[int, ...] | None

_TRUE = frozenset(("1", "t", "T", "true", "TRUE", "True"))
_FALSE = frozenset(("0", "f", "F", "false", "FALSE", "False"))
HELP = frozenset(("h", "help"))


class HelpWanted(Exception):
    """One of ``-h``, ``-help``, ``--help`` was given."""


class Parsed:
    """Flags with their values, and the arguments between and behind them."""

    def __init__(self, flags: Iterable[Flag]) -> None:
        self.values: dict[str, Value] = {
            flag.name: False if flag.kind == BOOL else None for flag in flags
        }
        self.args: list[str] = []


def _bool(text: str) -> bool:
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ValueError("must be true or false")


def _number(text: str) -> int:
    if not text.isascii() or not text.removeprefix("-").isdigit() or len(text) > 19:
        raise ValueError("must be a whole number")
    return int(text)


def _value(flag: Flag, text: str) -> Value:
    """The value of a flag. Raises ValueError."""
    if flag.kind == TEXT:
        return text
    if flag.kind in (BOOL, BOOL_VALUE):
        return _bool(text)
    if flag.kind == INT:
        return _number(text)
    if flag.kind == IDS:
        return tuple(_number(part.strip()) for part in text.split(","))
    choices = flag.kind.split("|")
    if text not in choices:
        raise ValueError(f"must be one of {', '.join(choices)}")
    return text


def _name(arg: str) -> tuple[str, str | None] | None:
    """Name and value of ``-name`` or ``-name=value``, None for what is no flag."""
    if len(arg) < 2 or arg[0] != "-":
        return None
    text = arg[2:] if arg.startswith("--") else arg[1:]
    # -1h is a duration, -5 a number.
    if not text or text[0].isdigit() or text[0] in "-=.":
        return None
    name, equals, value = text.partition("=")
    return name, value if equals else None


def parse(
    args: Sequence[str],
    flags: Sequence[Flag],
    *,
    until_argument: bool = False,
    lenient: bool = False,
) -> Parsed:
    """Take flags from arguments, up to ``--``.

    Known flags are also taken behind arguments, unknown ones are arguments there, and with
    `lenient` everywhere. With `until_argument` the first argument ends the flags. Raises
    UsageError, HelpWanted.
    """
    known = {flag.name: flag for flag in flags}
    parsed = Parsed(flags)
    position = 0
    while position < len(args):
        arg = args[position]
        position += 1
        if arg == "--":
            parsed.args += args[position:]
            break
        found = _name(arg)
        if found is None:
            parsed.args.append(arg)
            if until_argument:
                parsed.args += args[position:]
                break
            continue
        name, text = found
        flag = known.get(name)
        if flag is None:
            if name in HELP and text is None:
                raise HelpWanted
            if parsed.args or lenient:
                parsed.args.append(arg)
                continue
            raise UsageError(f"unknown flag -{name}")
        if text is None:
            if flag.kind == BOOL:
                parsed.values[name] = True
                continue
            if position >= len(args):
                raise UsageError(f"flag -{name} needs a value")
            text = args[position]
            position += 1
        try:
            parsed.values[name] = _value(flag, text)
        except ValueError as exc:
            raise UsageError(f"flag -{name}: {text!r} {exc}") from None
    return parsed
