"""Completion of commands, flags and their values in shells, made from the list of commands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from moxtw.cli.command import BOOL, BOOL_VALUE, IDS, INT, TEXT, UsageError
from moxtw.cli.invocation import Invocation

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from moxtw.cli.command import Command, Flag

# Words so far (of a command, or on the way to one) lead to words that may follow, and to flags;
# words and a flag to the values of the flag, "" for any. _moxtw_find gets the words behind the
# program, the last one being completed; $word then holds what may stand there, nothing for files.
_FIND: Final = """\
_moxtw_find() {
    local at="" before="" key
    while (( $# > 1 )); do
        word=$1
        shift
        if [[ -n $before ]]; then
            before=""
        elif [[ $word == -* ]]; then
            for key in "$at $word" " $word"; do
                if [[ -n ${_moxtw_values[$key]+x} ]]; then before=$key; break; fi
            done
        else
            key=${at:+$at }$word
            if [[ -n ${_moxtw_next[$key]+x} || -n ${_moxtw_flags[$key]+x} ]]; then at=$key; fi
        fi
    done
    if [[ -n $before ]]; then
        word=${_moxtw_values[$before]}
    elif [[ $1 == -* ]]; then
        word="${_moxtw_flags[$at]} ${_moxtw_flags[-]}"
    else
        word=${_moxtw_next[${at:--}]}
    fi
}
"""

_BASH: Final = """\
# Completion of moxtw in bash: load it by
#   source <(moxtw completion bash)
declare -A _moxtw_next=(
%(next)s)
declare -A _moxtw_flags=(
%(flags)s)
declare -A _moxtw_values=(
%(values)s)
%(find)s_moxtw() {
    local current=${COMP_WORDS[COMP_CWORD]} word=""
    _moxtw_find "${COMP_WORDS[@]:1:COMP_CWORD}"
    COMPREPLY=()
    if [[ -n $word ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$word" -- "$current")
    else
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -f -- "$current")
    fi
}
complete -F _moxtw moxtw
"""

_ZSH: Final = """\
#compdef moxtw
# Completion of moxtw in zsh: load it by
#   source <(moxtw completion zsh)
# or write it to a file _moxtw in a folder of fpath.
typeset -gA _moxtw_next _moxtw_flags _moxtw_values
_moxtw_next=(
%(next)s)
_moxtw_flags=(
%(flags)s)
_moxtw_values=(
%(values)s)
%(find)s_moxtw() {
    local word=""
    _moxtw_find "${(@)words[2,CURRENT]}"
    if [[ -n $word ]]; then
        compadd -- ${=word}
    else
        _files
    fi
}
if [[ ${funcstack[1]-} == _moxtw ]]; then _moxtw "$@"; else compdef _moxtw moxtw; fi
"""

_SCRIPTS: Final = {"bash": _BASH, "zsh": _ZSH}


def script(shell: str, commands: Iterable[Command], global_flags: Iterable[Flag]) -> str:
    """The script for ``bash`` or ``zsh``."""
    after: dict[str, set[str]] = {}
    flags: dict[str, list[str]] = {}
    values: dict[str, str] = {}
    for command in commands:
        words = command.words
        for count in range(len(words)):
            after.setdefault(" ".join(words[:count]) or "-", set()).add(words[count])
        flags[command.name] = [f"-{flag.name}" for flag in command.flags]
        for flag in command.flags:
            _add_values(values, f"{command.name} -{flag.name}", flag)
    flags["-"] = ["-help"]
    for flag in global_flags:
        flags["-"].append(f"-{flag.name}")
        _add_values(values, f" -{flag.name}", flag)
    tables = {
        "next": {key: " ".join(sorted(words)) for key, words in after.items()},
        "flags": {key: " ".join(names) for key, names in flags.items()},
        "values": values,
    }
    pair = "    [{}]={}\n" if shell == "bash" else "    {} {}\n"
    parts = {name: _table(rows, pair) for name, rows in tables.items()}
    return _SCRIPTS[shell] % {**parts, "find": _FIND}


def _add_values(values: dict[str, str], key: str, flag: Flag) -> None:
    """What may follow a flag, if something must."""
    if flag.kind == BOOL_VALUE:
        values[key] = "true false"
    elif flag.kind in (TEXT, INT, IDS):
        values[key] = ""
    elif flag.kind != BOOL:
        values[key] = flag.kind.replace("|", " ")


def _table(rows: Mapping[str, str], pair: str) -> str:
    return "".join(
        pair.format(*(f"'{text}'" for text in row)) for row in sorted(rows.items())
    )


def completion(invocation: Invocation) -> None:
    """``moxtw completion``."""
    from moxtw.cli.main import GLOBAL_FLAGS
    from moxtw.cli.table import COMMANDS

    shell = invocation.args[0]
    if shell not in _SCRIPTS:
        raise UsageError(f"{shell[:50]!r} must be {' or '.join(_SCRIPTS)}")
    invocation.write(script(shell, COMMANDS.values(), GLOBAL_FLAGS))
