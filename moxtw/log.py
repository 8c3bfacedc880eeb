"""Logging: logfmt lines with levels, packages, connection ids and protocol traces.

A `Logger` belongs to a package ("smtpserver", "queue"). Its level check is one integer
comparison, so that debug and trace calls cost next to nothing when they are off. Events go
through twisted.logger, so that what Twisted itself logs ends up in the same stream.

Levels, from rare to chatty: error, warn, info, debug, trace, traceauth, tracedata. ``trace``
shows protocol transcripts with credentials and message data hidden, ``traceauth`` shows
credentials, ``tracedata`` message data as well.
"""

from __future__ import annotations

import atexit
import contextlib
import re
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any, Final, TextIO

from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent, globalLogPublisher
from twisted.python import threadable
from twisted.python.failure import Failure
from zope.interface import implementer

from moxtw import metrics

PRINT: Final = 0
FATAL: Final = 1
ERROR: Final = 2
WARN: Final = 3
INFO: Final = 4
DEBUG: Final = 5
TRACE: Final = 6
TRACEAUTH: Final = 7
TRACEDATA: Final = 8

LEVELS: Final[dict[str, int]] = {
    "print": PRINT,
    "fatal": FATAL,
    "error": ERROR,
    "warn": WARN,
    "info": INFO,
    "debug": DEBUG,
    "trace": TRACE,
    "traceauth": TRACEAUTH,
    "tracedata": TRACEDATA,
}
NAMES: Final[dict[int, str]] = {value: name for name, value in LEVELS.items()}

_TWISTED_LEVEL: Final = {
    PRINT: LogLevel.info,
    FATAL: LogLevel.critical,
    ERROR: LogLevel.error,
    WARN: LogLevel.warn,
    INFO: LogLevel.info,
    DEBUG: LogLevel.debug,
    TRACE: LogLevel.debug,
    TRACEAUTH: LogLevel.debug,
    TRACEDATA: LogLevel.debug,
}


class Levels:
    """The levels in force: a default and exceptions for single packages.

    Changed at run time by the admin API and the control socket; every `Logger` looks here.
    """

    def __init__(self) -> None:
        self.default = INFO
        self.packages: dict[str, int] = {}
        self._cached: list[_Pkg] = []

    def configure(self, default: str, packages: Mapping[str, str] | None = None) -> None:
        """Set all levels by name. Raises ValueError for an unknown name."""
        self.default = parse_level(default)
        self.packages = {pkg: parse_level(name) for pkg, name in (packages or {}).items()}
        self._refresh()

    def set(self, pkg: str, level: str) -> None:
        """Set the level of one package, or of all others for the package name ''."""
        if pkg:
            self.packages[pkg] = parse_level(level)
        else:
            self.default = parse_level(level)
        self._refresh()

    def remove(self, pkg: str) -> None:
        """Drop the exception for one package. Raises KeyError if there is none."""
        del self.packages[pkg]
        self._refresh()

    def names(self) -> dict[str, str]:
        """The levels as names; the default stands under ''."""
        return {"": NAMES[self.default], **{p: NAMES[v] for p, v in self.packages.items()}}

    def _register(self, pkg: _Pkg) -> None:
        self._cached.append(pkg)
        pkg.level = self.packages.get(pkg.name, self.default)

    def _refresh(self) -> None:
        for pkg in self._cached:
            pkg.level = self.packages.get(pkg.name, self.default)


class _Pkg:
    """A package name with its level in force, shared by all its loggers."""

    __slots__ = ("level", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.level = INFO


levels: Final = Levels()

# Writers that take our events straight from the loggers, instead of through Twisted's
# publisher: traces come by the thousand each second. See `LogfmtObserver.install`.
_sinks: list[Callable[[int, str, str, dict[str, Any]], None]] = []
_pkgs: dict[str, _Pkg] = {}


def parse_level(name: str) -> int:
    """The number of a level name. Raises ValueError when there is no such level."""
    try:
        return LEVELS[name]
    except KeyError:
        raise ValueError(f"unknown log level {name!r}") from None


class Logger:
    """Writes log events of one package, with fields bound to each of them."""

    __slots__ = ("_fields", "_pkg")

    def __init__(self, pkg: str, **fields: Any) -> None:
        known = _pkgs.get(pkg)
        if known is None:
            known = _pkgs[pkg] = _Pkg(pkg)
            levels._register(known)
        self._pkg = known
        self._fields = fields

    def bind(self, **fields: Any) -> Logger:
        """A logger of the same package that adds `fields` to each event."""
        return Logger(self._pkg.name, **{**self._fields, **fields})

    def enabled(self, level: int) -> bool:
        """Whether events of `level` are written: ask before work that only logging needs."""
        return level <= self._pkg.level

    def log(self, level: int, text: str, **fields: Any) -> None:
        """Write an event. `cid` is a connection id (int), `err` an exception or text."""
        if level > self._pkg.level:
            return
        if self._fields:
            fields = {**self._fields, **fields}
        if _sinks:
            for sink in _sinks:
                sink(level, self._pkg.name, text, fields)
            return
        globalLogPublisher(
            {
                "log_level": _TWISTED_LEVEL[level],
                "log_time": time.time(),
                "log_logger": None,
                "log_source": None,
                "log_namespace": self._pkg.name,
                "log_format": "{moxtw_text}",
                "moxtw_text": text,
                "moxtw_level": level,
                "moxtw_fields": fields,
            }
        )

    def print(self, text: str, **fields: Any) -> None:
        """Write what appears at every level."""
        self.log(PRINT, text, **fields)

    def fatal(self, text: str, **fields: Any) -> None:
        """Write why the program cannot go on."""
        self.log(FATAL, text, **fields)

    def error(self, text: str, **fields: Any) -> None:
        """Write a failure that an admin should look at."""
        metrics.logging_level_error_total.inc()
        self.log(ERROR, text, **fields)

    def warn(self, text: str, **fields: Any) -> None:
        """Write something odd that is handled."""
        metrics.logging_level_warn_total.inc()
        self.log(WARN, text, **fields)

    def info(self, text: str, **fields: Any) -> None:
        """Write what happened, in normal operation."""
        metrics.logging_level_info_total.inc()
        self.log(INFO, text, **fields)

    def debug(self, text: str, **fields: Any) -> None:
        """Write what helps to find a fault."""
        if self._pkg.level >= DEBUG:
            self.log(DEBUG, text, **fields)

    def trace(self, prefix: str, data: bytes, level: int = TRACE, **fields: Any) -> None:
        """Write a piece of a protocol transcript; shown as ``***`` or ``...`` below `level`.

        `level` is TRACE for plain protocol text, TRACEAUTH for credentials, TRACEDATA for
        message data.
        """
        if self._pkg.level < TRACE:
            return
        if level > self._pkg.level:
            shown = "***" if level == TRACEAUTH else "..."
        else:
            shown = data.decode("utf-8", "backslashreplace")
        self.log(TRACE, prefix + shown, **fields)

    def failure(self, text: str, failure: Failure | BaseException, **fields: Any) -> None:
        """Write an unforeseen exception with its traceback, and count it in panic_total."""
        metrics.panic_total.labels(self._pkg.name).inc()
        metrics.logging_level_error_total.inc()
        if isinstance(failure, Failure):
            exc: BaseException | None = failure.value
            stack = failure.getTraceback(elideFrameworkCode=True)
        else:
            exc = failure
            stack = "".join(traceback.format_exception(failure))
        self.log(ERROR, text, err=exc, stack=stack, **fields)


_is_plain: Final = re.compile(r"[!#-<>-\[\]-~]+").fullmatch
_ESCAPES: Final = {
    **{n: chr(n).encode("unicode_escape").decode() for n in (*range(32), 127)},
    ord('"'): '\\"',
    ord("\\"): "\\\\",
}


def _quote(value: str) -> str:
    """A logfmt value: bare when it is plain, else quoted with escapes."""
    if _is_plain(value):
        return value
    escaped = value.translate(_ESCAPES)
    if not escaped.isprintable():
        escaped = "".join(
            c if c.isprintable() else c.encode("unicode_escape").decode() for c in escaped
        )
    return f'"{escaped}"'


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, bytes):
        return _quote(value.decode("utf-8", "backslashreplace"))
    if isinstance(value, BaseException):
        return _quote(str(value) or type(value).__name__)
    return _quote(str(value))


def format_logfmt(event: LogEvent) -> str:
    """One event as a logfmt line without its line end: ``l=info m="text" cid=… pkg=… k=v``.

    A traceback follows on lines of its own, each starting with a tab.
    """
    if "moxtw_text" in event:
        return _format(
            event["moxtw_level"],
            event["log_namespace"],
            event["moxtw_text"],
            event["moxtw_fields"],
        )
    # What Twisted logs. Its "info" is chatter about factories, so it counts as debug.
    level = {LogLevel.critical: ERROR, LogLevel.error: ERROR, LogLevel.warn: WARN}.get(
        event.get("log_level", LogLevel.info), DEBUG
    )
    fields = {}
    failure = event.get("log_failure")
    if failure is not None:
        fields = {"err": failure.value, "stack": failure.getTraceback()}
    return _format(level, str(event.get("log_namespace") or "-"), formatEvent(event) or "", fields)


def _format(level: int, pkg: str, text: str, fields: Mapping[str, Any]) -> str:
    parts = [f"l={NAMES[level]} m={_quote(text)}"]
    cid = fields.get("cid")
    if cid is not None:
        parts.append(f"cid={cid:x}" if isinstance(cid, int) else f"cid={_value(cid)}")
    parts.append(f"pkg={_quote(pkg)}")
    for key, value in fields.items():
        if value is not None and key not in ("cid", "stack"):
            parts.append(f"{key}={value}" if type(value) is int else f"{key}={_value(value)}")
    line = " ".join(parts)
    if "stack" in fields:
        rows = str(fields["stack"]).rstrip("\n").split("\n")
        line += "\n" + "\n".join("\t" + row for row in rows)
    return line


def _rfc3339(seconds: float) -> str:
    whole, millis = divmod(round(seconds * 1000), 1000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(whole))}.{millis:03}Z"


@implementer(ILogObserver)
class LogfmtObserver:
    """Writes events to a text file, one logfmt line each.

    With a reactor, the lines of one of its turns are written together. With `times`, each line
    begins with its time, ``t=2024-01-31T12:00:00.000Z``.
    """

    def __init__(self, out: TextIO, reactor: Any = None, *, times: bool = False) -> None:
        self._out = out
        self._reactor = reactor
        self._times = times
        self._lines: list[str] = []
        self._lock = threading.Lock()

    def install(self) -> None:
        """Take our own loggers' events directly; Twisted's still come as to any observer."""
        _sinks.append(self._write_ours)
        atexit.register(self.flush)

    def uninstall(self) -> None:
        """Undo `install`."""
        _sinks.remove(self._write_ours)
        atexit.unregister(self.flush)
        self.flush()

    def __call__(self, event: LogEvent) -> None:
        """Write one event (ILogObserver)."""
        if "moxtw_text" not in event:
            theirs = event.get("log_level", LogLevel.info)
            if theirs < LogLevel.warn and levels.default < DEBUG:
                return
        self._add(format_logfmt(event))

    def _write_ours(self, level: int, pkg: str, text: str, fields: dict[str, Any]) -> None:
        self._add(_format(level, pkg, text, fields))

    def _add(self, line: str) -> None:
        if self._times:
            line = f"t={_rfc3339(time.time())} {line}"
        # Loggers are used in the threads of the store too.
        with self._lock:
            self._lines.append(line)
            waiting = len(self._lines)
        if self._reactor is None or not self._reactor.running:
            self.flush()
        elif waiting == 1:
            if threadable.isInIOThread():
                self._reactor.callLater(0, self.flush)
            else:
                self._reactor.callFromThread(self.flush)

    def flush(self) -> None:
        """Write what waits."""
        with self._lock:
            lines, self._lines = self._lines, []
        if not lines:
            return
        lines.append("")
        try:
            self._out.write("\n".join(lines))
            self._out.flush()
        except (OSError, ValueError):
            # A closed or full log target must not take the server down, and there is no
            # better place to report it than standard error.
            with contextlib.suppress(OSError, ValueError):
                sys.stderr.write("moxtw: cannot write log line\n")
