"""A server for the foreground: what the command line puts before the configuration."""

from __future__ import annotations

import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from moxtw import log
from moxtw.admin import localserve
from moxtw.config.load import ConfigError
from moxtw.service import run


class MakeTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        localserve.prepare(self.directory, "127.0.0.1")
        self.path = self.directory / "mox.conf"
        self.path.write_text(self.path.read_text().replace("Pedantic: true\n", ""))
        before = log.levels.names()
        self.addCleanup(log.levels.configure, before.pop(""), before)

    def test_configured(self) -> None:
        server = run.make_server(self.path)
        self.assertFalse(server.static.pedantic)
        self.assertFalse(server.localserve)
        self.assertEqual(log.levels.names(), {"": "traceauth"})

    def test_told_otherwise(self) -> None:
        server = run.make_server(self.path, localserve=True, log_level="warn", pedantic=True)
        self.assertTrue(server.static.pedantic)
        self.assertTrue(server.localserve)
        self.assertEqual(log.levels.names(), {"": "warn"})

    def test_mistakes(self) -> None:
        self.assertRaises(ValueError, run.make_server, self.path, log_level="loud")
        self.assertRaises(ConfigError, run.make_server, self.directory / "none")


class ExitCodeTests(SynchronousTestCase):
    def test_codes(self) -> None:
        for exit_code, number, expected in (
            (0, None, 0),
            (0, signal.SIGTERM, 15),
            (0, signal.SIGINT, 2),
            (1, None, 1),
            (1, signal.SIGTERM, 1),
        ):
            server: Any = SimpleNamespace(exit_code=exit_code)
            runner = SimpleNamespace(run=lambda: None, _exitSignal=number)
            self.patch(run, "_Runner", lambda server, runner=runner: runner)
            self.assertEqual(run.run(server), expected)
