"""Configurations without files, for tests of whatever needs one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock

from moxtw.config import document
from moxtw.config.check import Report
from moxtw.config.check_dynamic import check_dynamic
from moxtw.config.check_static import check_static
from moxtw.config.dynamic import Dynamic
from moxtw.config.live import LiveConfig
from moxtw.config.load import ConfigError
from moxtw.config.sconf import SconfError
from moxtw.config.static import Static

T = TypeVar("T")

STATIC = """\
DataDir: data
LogLevel: error
Hostname: mail.example.org
Listeners:
	public:
		IPs:
			- 127.0.0.1
		SMTP:
			Enabled: true
			NoSTARTTLS: true
Postmaster:
	Account: me
	Mailbox: Postmaster
HostTLSRPT:
	Account: me
	Mailbox: TLSRPT
	Localpart: tlsreports
"""
"""A small mox.conf."""

DYNAMIC = """\
Domains:
	example.org:
		LocalpartCatchallSeparator: +
Accounts:
	me:
		Domain: example.org
		Destinations:
			me@example.org: nil
"""
"""A small domains.conf."""


def run_now(fn: Callable[..., T], *args: Any) -> Deferred[T]:
    """Run a blocking function at once, in place of a thread."""
    return maybeDeferred(fn, *args)


def static_from(text: str = STATIC, directory: Path | str = "/nonexistent") -> Static:
    """A checked mox.conf, without key files. Raises ConfigError."""
    errors: list[SconfError] = []
    static = document.read(text, Static, errors).value
    report = Report()
    if not errors:
        check_static(static, Path(directory) / "mox.conf", report, check_files=False)
    _raise(errors, report)
    return static


def dynamic_from(text: str = DYNAMIC, static: Static | None = None) -> Dynamic:
    """A checked domains.conf, without key files. Raises ConfigError."""
    errors: list[SconfError] = []
    dynamic = document.read(text, Dynamic, errors).value
    report = Report()
    if not errors:
        dynamic = check_dynamic(dynamic, static or static_from(), report, check_files=False)
    _raise(errors, report)
    return dynamic


def _raise(errors: list[SconfError], report: Report) -> None:
    if errors or report.errors:
        raise ConfigError([str(e) for e in errors] + [f"{p}: {t}" for p, t in report.errors])


def live_from(
    dynamic: str = DYNAMIC,
    static: str = STATIC,
    *,
    directory: Path | str,
    reactor: Any = None,
) -> LiveConfig:
    """Both files written into `directory` and loaded, with edits done at once.

    `reactor` is a Clock by default.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "mox.conf").write_text(static)
    (directory / "domains.conf").write_text(dynamic)
    return LiveConfig.load(
        static_from(static, directory), reactor or Clock(), run=run_now, check_files=False
    )


class FixedConfig:
    """A configuration in memory that takes edits, for what needs no files."""

    def __init__(self, dynamic: str = DYNAMIC, static: str = STATIC) -> None:
        self.static = static_from(static)
        self.dynamic = dynamic_from(dynamic, self.static)
        self._callbacks: list[Callable[[Dynamic, Dynamic], None]] = []

    @property
    def domains(self) -> Any:
        """As in LiveConfig."""
        return self.dynamic.domains

    def on_change(self, callback: Callable[[Dynamic, Dynamic], None]) -> Callable[[], None]:
        """As in LiveConfig."""
        self._callbacks.append(callback)
        return lambda: self._callbacks.remove(callback)

    async def change(self, edit: Callable[[Dynamic], Dynamic]) -> Dynamic:
        """As in LiveConfig, without a file. Raises ConfigError."""
        report = Report()
        old = self.dynamic
        new = check_dynamic(edit(old), self.static, report, check_files=False)
        _raise([], report)
        self.dynamic = new
        for callback in list(self._callbacks):
            callback(old, new)
        return new
