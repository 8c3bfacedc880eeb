"""Completion of commands, flags and their values in shells, made from the list of commands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from moxtw.cli.command import BOOL, BOOL_VALUE, IDS, INT, TEXT, UsageError
from moxtw.cli.invocation import Invocation

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from moxtw.cli.command import Command, Flag

# Words so far (of a command, or on the way to one) lead to words that may follow, and to flags;
# words and a flag to the values of the flag, "" for any.
_BASH: Final = """\
# Completion of moxtw in bash: load it by
#   source <(moxtw completion bash)
declare -A _moxtw_next=(
%(next)s)
declare -A _moxtw_flags=(
%(flags)s)
declare -A _moxtw_values=(
%(values)s)
_moxtw() {
    local current=${COMP_WORDS[COMP_CWORD]} at="" word before="" i key
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
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
    COMPREPLY=()
    if [[ -n $before ]]; then
        word=${_moxtw_values[$before]}
    elif [[ $current == -* ]]; then
        word="${_moxtw_flags[$at]} ${_moxtw_flags[-]}"
    else
        word=${_moxtw_next[${at:--}]}
    fi
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
_moxtw() {
    local current=${words[CURRENT]} at="" word before="" key
    integer i
    for ((i = 2; i < CURRENT; i++)); do
        word=${words[i]}
        if [[ -n $before ]]; then
            before=""
        elif [[ $word == -* ]]; then
            for key in "$at $word" " $word"; do
                if (( ${+_moxtw_values[$key]} )); then before=$key; break; fi
            done
        else
            key=${at:+$at }$word
            if (( ${+_moxtw_next[$key]} || ${+_moxtw_flags[$key]} )); then at=$key; fi
        fi
    done
    if [[ -n $before ]]; then
        word=${_moxtw_values[$before]}
    elif [[ $current == -* ]]; then
        word="${_moxtw_flags[$at]} ${_moxtw_flags[-]}"
    else
        word=${_moxtw_next[${at:--}]}
    fi
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
    return _SCRIPTS[shell] % {name: _table(rows, pair) for name, rows in tables.items()}


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
