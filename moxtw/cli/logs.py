"""Log lines of commands: for people, on standard error."""

from __future__ import annotations

from typing import Any, TextIO

from twisted.logger import ILogObserver, LogEvent, globalLogBeginner
from zope.interface import implementer

from moxtw import log


@implementer(ILogObserver)
class ReadableObserver:
    """Writes what moxtw logs: ``level: text (key: value; …)``."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def __call__(self, event: LogEvent) -> None:
        """Write one event (ILogObserver)."""
        if "moxtw_text" not in event:
            return
        fields = dict(event["moxtw_fields"])
        stack = fields.pop("stack", "")
        line = f"{log.NAMES[event['moxtw_level']]}: {event['moxtw_text']}"
        told = {"pkg": event.get("log_namespace"), **fields}
        line += f" ({'; '.join(f'{k}: {v}' for k, v in told.items() if v is not None)})"
        self._out.write(line + "\n" + str(stack))
        self._out.flush()


def begin(level: str, out: TextIO) -> None:
    """Log to `out` from now on. Raises ValueError for an unknown level."""
    log.levels.configure(level)
    observer: Any = ReadableObserver(out)
    globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False)
