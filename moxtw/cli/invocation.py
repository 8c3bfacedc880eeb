"""A call of a command: its arguments, streams, configuration and control socket."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, TextIO

from moxtw.cli.command import Command, CommandError
from moxtw.cli.flags import Value
from moxtw.cli.output import clean, clean_json

if TYPE_CHECKING:
    from moxtw.config.dynamic import Dynamic
    from moxtw.config.static import Static
    from moxtw.ctl.client import ControlClient

DEFAULT_CONFIG = "config/mox.conf"


class Invocation:
    """What a command gets.

    args: the arguments; flags: the command's flags by name; config_path: mox.conf as given by
    ``-config`` or MOXCONF, or the default.
    """

    def __init__(
        self,
        command: Command,
        args: list[str],
        flags: dict[str, Value],
        config_path: str,
        *,
        loglevel: str = "",
        pedantic: bool = False,
        stdin: TextIO | None = None,
        stdout: TextIO | None = None,
        stderr: TextIO | None = None,
    ) -> None:
        self.command = command
        self.args = args
        self.flags = flags
        self.config_path = config_path
        self.loglevel = loglevel
        self.pedantic = pedantic
        self.stdin = stdin or sys.stdin
        self.stdout = stdout or sys.stdout
        self.stderr = stderr or sys.stderr

    # -- Flags ---------------------------------------------------------------------------

    def text(self, name: str) -> str:
        """A flag with text, "" if it was not given."""
        value = self.flags[name]
        return "" if value is None else str(value)

    def number(self, name: str) -> int:
        """A flag with a number, 0 if it was not given."""
        value = self.flags[name]
        return value if isinstance(value, int) else 0

    def switch(self, name: str) -> bool:
        """A flag without value."""
        return self.flags[name] is True

    # -- Output --------------------------------------------------------------------------

    def print(self, text: str = "") -> None:
        """Write a line."""
        self.stdout.write(text + "\n")

    def write(self, text: str) -> None:
        """Write text that has its line ends."""
        self.stdout.write(text)

    def write_lines(self, text: str) -> None:
        """Write lines of the server, which may hold what strangers sent."""
        for line in text.removesuffix("\n").split("\n") if text else ():
            self.print(clean(line.replace("\t", "  ")))

    def write_json(self, text: str) -> None:
        """Write JSON of the server, which may hold what strangers sent."""
        self.write(clean_json(text))

    def listing(self, command: str, *params: str) -> None:
        """Write the list that a command of the server answers with, as JSON with flag -json."""
        as_json = self.switch("json")
        with self.control() as control:
            control.command(command, *params, "json" if as_json else "")
            text = control.read_text()
        if as_json:
            self.write_json(text)
        else:
            self.write_lines(text)

    def warn(self, text: str) -> None:
        """Write a line to standard error."""
        self.stderr.write(text + "\n")

    def write_bytes(self, data: bytes) -> None:
        """Write bytes."""
        raw: Any = getattr(self.stdout, "buffer", None)
        if raw is None:
            self.stdout.write(data.decode("utf-8", "surrogateescape"))
            return
        self.stdout.flush()
        raw.write(data)

    def read_bytes(self) -> bytes:
        """All of standard input, as bytes."""
        raw: Any = getattr(self.stdin, "buffer", None)
        return raw.read() if raw is not None else self.stdin.read().encode()

    # -- Configuration -------------------------------------------------------------------

    def static(self, *, check_files: bool = False) -> Static:
        """mox.conf. Raises CommandError."""
        from moxtw.config.load import ConfigError, load_static

        try:
            return load_static(self.config_path, check_files=check_files)
        except ConfigError as exc:
            raise CommandError(self.with_hint(str(exc))) from exc

    def dynamic(self, static: Static) -> Dynamic:
        """domains.conf. Raises CommandError."""
        from moxtw.config.load import ConfigError, load_dynamic

        try:
            return load_dynamic(static.dynamic_path, static, check_files=False)
        except ConfigError as exc:
            raise CommandError(str(exc)) from exc

    def with_hint(self, text: str) -> str:
        """An error, with a hint if the configuration file is not there."""
        if os.path.exists(self.config_path):
            return text
        return f"{text}\n(-config file or MOXCONF name the configuration file)"

    # -- Control socket ------------------------------------------------------------------

    def control(self) -> ControlClient:
        """Connect to the running server. Raises CommandError, ControlError."""
        from moxtw.ctl.client import ControlClient

        return ControlClient(os.path.join(str(self.static().data_path), "ctl"))
