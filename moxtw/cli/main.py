"""The command ``moxtw``: finds the command that is meant, takes its flags, runs it.

Exit codes: 0 when all is well, 1 for an error, 2 for a wrong call; ``serve`` has its own.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import TextIO

from moxtw.cli import help as helptext
from moxtw.cli.command import BOOL, TEXT, Command, CommandError, Flag, UsageError
from moxtw.cli.flags import HelpWanted, Parsed, parse
from moxtw.cli.invocation import DEFAULT_CONFIG, Invocation
from moxtw.cli.table import COMMANDS

GLOBAL_FLAGS = (
    Flag(
        "config",
        TEXT,
        f"Static configuration file; by default that of the environment variable MOXCONF, "
        f"or {DEFAULT_CONFIG}. Other files are looked for beside it.",
    ),
    Flag(
        "loglevel",
        TEXT,
        "Log level of this command, in place of the configured one: error, warn, info, debug, "
        "trace, traceauth or tracedata.",
    ),
    Flag("pedantic", BOOL, "Be strict about protocols, where leniency is usual."),
    Flag("cpuprof", TEXT, "Write a profile of the time used to this file, for pstats."),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    if argv is None:
        argv = sys.argv[1:]
        if os.path.basename(sys.argv[0]) == "sendmail":
            # Other programs know it by that name.
            argv = ["sendmail", *argv]
    if os.getegid() != os.getgid() and list(argv[:1]) != ["sendmail"]:
        # Installed with the group of the submission password, for sendmail only.
        sys.stderr.write("moxtw: refusing to run with another group than that of the user\n")
        return 1
    try:
        code = run(argv)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader had enough (head, less). What is left in the buffer has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    return code


def find(words: Sequence[str]) -> tuple[Command | None, int]:
    """The command that the first words name, and how many words of them it has."""
    for count in range(min(len(words), 4), 0, -1):
        command = COMMANDS.get(tuple(words[:count]))
        if command is not None:
            return command, count
    return None, 0


def below(prefix: Sequence[str]) -> list[Command]:
    """The commands whose names begin with some words."""
    wanted = tuple(prefix)
    return [c for w, c in COMMANDS.items() if w[: len(wanted)] == wanted]


def run(
    argv: Sequence[str],
    *,
    stdin: TextIO | None = None,
    stdout: TextIO | None = None,
    stderr: TextIO | None = None,
) -> int:
    """Run a command with streams of choice (by default the process's own)."""
    out, err = stdout or sys.stdout, stderr or sys.stderr
    try:
        first = parse(argv, GLOBAL_FLAGS, until_argument=True)
    except HelpWanted:
        out.write(helptext.overview(COMMANDS.values(), GLOBAL_FLAGS))
        return 0
    except UsageError as exc:
        err.write(f"moxtw: {exc}\nRun \"moxtw help\" for a list of commands.\n")
        return 2
    if not first.args:
        err.write(helptext.overview(COMMANDS.values(), GLOBAL_FLAGS))
        return 2
    command, count = find(first.args)
    if command is None:
        return _no_command(first.args, out, err)
    own = {flag.name for flag in command.flags}
    flags = (*command.flags, *(flag for flag in GLOBAL_FLAGS if flag.name not in own))
    try:
        rest = parse(first.args[count:], flags, lenient=command.dashes)
        _check_count(command, rest)
        invocation = Invocation(
            command,
            rest.args,
            rest.values,
            str(_either(rest, first, "config") or os.environ.get("MOXCONF") or DEFAULT_CONFIG),
            loglevel=str(_either(rest, first, "loglevel") or ""),
            pedantic=bool(_either(rest, first, "pedantic")),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
        )
        profile = _either(rest, first, "cpuprof")
        if profile:
            return _profiled(str(profile), lambda: _call(command, invocation))
        return _call(command, invocation)
    except HelpWanted:
        out.write(helptext.command_help(command))
        return 0
    except UsageError as exc:
        err.write(f"moxtw {command.name}: {exc}\n{helptext.short_help(command)}")
        return 2
    except KeyboardInterrupt:
        err.write("moxtw: interrupted\n")
        return 130


def _either(rest: Parsed, first: Parsed, name: str) -> object:
    """A global flag, from behind the command or before it."""
    return rest.values.get(name) or first.values.get(name)


def _check_count(command: Command, parsed: Parsed) -> None:
    count = len(parsed.args)
    if count < command.least:
        raise UsageError("arguments are missing" if count or command.least > 1 else
                         "an argument is missing")
    if command.most is not None and count > command.most:
        raise UsageError(f"too many arguments: {' '.join(parsed.args[command.most:])[:200]}")


def _call(command: Command, invocation: Invocation) -> int:
    """Run a command, and turn its errors into lines."""
    module, function = command.run.split(":")
    handler: Callable[[Invocation], int | None] = getattr(
        import_module(f"moxtw.cli.{module}"), function
    )
    try:
        if invocation.loglevel and not command.logs:
            _begin_logging(invocation)
        code = handler(invocation)
        invocation.stdout.flush()
    except (BrokenPipeError, UsageError, HelpWanted):
        raise
    except Exception as exc:
        if not isinstance(exc, _expected()):
            raise
        invocation.stdout.flush()
        invocation.stderr.write(f"moxtw: {_told(exc)}\n")
        return 1
    return code or 0


def _told(exc: Exception) -> str:
    """An error in words, without the number that errors of the system carry."""
    if not isinstance(exc, OSError) or not exc.strerror:
        return str(exc) or type(exc).__name__
    return exc.strerror if exc.filename is None else f"{exc.filename}: {exc.strerror}"


def _begin_logging(invocation: Invocation) -> None:
    from moxtw.cli import logs

    try:
        logs.begin(invocation.loglevel, invocation.stderr)
    except ValueError as exc:
        raise UsageError(f"flag -loglevel: {exc}") from exc


# Errors that are no faults of the program, by module, so that only what a command has imported
# is looked at.
_ERRORS = (
    ("moxtw.admin.context", "OperationError"),
    ("moxtw.config.load", "ConfigError"),
    ("moxtw.ctl.client", "ControlError"),
    ("moxtw.store.errors", "StoreError"),
)


def _expected() -> tuple[type[Exception], ...]:
    """Errors that are told in a line, without a traceback."""
    known = [CommandError, OSError]
    for name, error in _ERRORS:
        module = sys.modules.get(name)
        if module is not None:
            known.append(getattr(module, error))
    return tuple(known)


def _profiled(path: str, fn: Callable[[], int]) -> int:
    import cProfile

    profile = cProfile.Profile()
    try:
        return profile.runcall(fn)
    finally:
        profile.dump_stats(path)


def _no_command(words: Sequence[str], out: TextIO, err: TextIO) -> int:
    """For a group of commands, list it; else say that there is no such command."""
    helped = [word for word in words if word.lstrip("-") in ("h", "help") and word[0] == "-"]
    plain = [word for word in words if word not in helped]
    if found := below(plain):
        text = helptext.group_help(plain, found)
        (out if helped else err).write(text)
        return 0 if helped else 2
    err.write(f"moxtw: unknown command {' '.join(plain)!r}\n")
    if close := helptext.similar(plain, COMMANDS.values()):
        err.write("Did you mean:\n" + "".join(f"  moxtw {name}\n" for name in close))
    else:
        err.write('Run "moxtw help" for a list of commands.\n')
    return 2


def help_command(invocation: Invocation) -> int:
    """``moxtw help``."""
    words = [word for arg in invocation.args for word in arg.split()]
    if not words:
        invocation.write(helptext.overview(COMMANDS.values(), GLOBAL_FLAGS))
        return 0
    command, count = find(words)
    if command is not None and count == len(words):
        invocation.write(helptext.command_help(command))
        return 0
    return _no_command([*words, "-help"], invocation.stdout, invocation.stderr)


def helpall_command(invocation: Invocation) -> None:
    """``moxtw helpall``."""
    invocation.write(helptext.overview(COMMANDS.values(), GLOBAL_FLAGS))
    for command in COMMANDS.values():
        invocation.write(f"\n{'=' * 8} moxtw {command.name}\n\n")
        invocation.write(helptext.command_help(command))


if __name__ == "__main__":
    sys.exit(main())
