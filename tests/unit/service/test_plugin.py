"""How twistd is told that a server cannot start."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import Any

from twisted.application.service import IServiceMaker
from twisted.plugin import getPlugins
from twisted.trial.unittest import SynchronousTestCase

from moxtw import log
from moxtw.admin import localserve
from moxtw.service import plugin
from moxtw.service.plugin import Options, StartError, TwistdServer, makeService
from moxtw.service.privileges import PrivilegeError
from moxtw.service.process import DataLock
from moxtw.service.tree import Server
from moxtw.store.errors import SchemaTooNew


class Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        localserve.prepare(self.directory, "127.0.0.1")
        self.path = self.directory / "mox.conf"
        before = log.levels.names()
        self.addCleanup(log.levels.configure, before.pop(""), before)
        self.stderr = io.StringIO()
        self.patch(sys, "stderr", self.stderr)

    def edit(self, old: str, new: str) -> None:
        text = self.path.read_text()
        self.assertIn(old, text)
        self.path.write_text(text.replace(old, new))

    def make(self) -> Any:
        options = Options()
        options["config"] = str(self.path)
        return makeService(options)


class MakeServiceTests(Case):
    def refused(self) -> str:
        with self.assertRaises(SystemExit) as caught:
            self.make()
        self.assertEqual(caught.exception.code, 1)
        return self.stderr.getvalue()

    def test_a_valid_configuration_makes_a_server(self) -> None:
        self.assertIsInstance(self.make(), TwistdServer)

    def test_mistakes_are_told_with_file_and_line(self) -> None:
        self.edit("Hostname:", "Hostnaem:")
        self.assertIn(f"{self.path}:6: unknown field 'Hostnaem'", self.refused())

    def test_a_missing_file_is_told(self) -> None:
        self.path.unlink()
        self.assertEqual(self.refused(), f"{self.path}: No such file or directory\n")

    def test_an_unknown_user_is_told(self) -> None:
        self.patch(os, "geteuid", lambda: 0)
        self.edit(f"User: {os.getuid()}\n", "User: no-such-user\n")
        self.assertIn("user 'no-such-user' does not exist", self.refused())


class StartTests(Case):
    """Failures once twistd starts the service."""

    def test_they_end_twistd_without_a_traceback(self) -> None:
        cases = (
            (OSError(98, "listening on 127.0.0.1:25: Address already in use"), None),
            (FileNotFoundError(2, "No such file", "/x"), "/x: No such file"),
            (PrivilegeError("user x cannot read /y"), None),
            (SchemaTooNew("the database has schema version 9"), None),
        )
        for method in ("privilegedStartService", "startService"):
            for error, text in cases:

                def fail(_self: Any, error: Exception = error) -> None:
                    raise error

                self.patch(Server, method, fail)
                server = self.make()
                with self.assertRaises(StartError) as caught:
                    getattr(server, method)()
                # twistd handles an Exception, the interpreter ends silently at a SystemExit.
                self.assertIsInstance(caught.exception, Exception)
                self.assertIsInstance(caught.exception, SystemExit)
                self.assertEqual(caught.exception.code, 1)
                expected = text or getattr(error, "strerror", None) or str(error)
                self.assertEqual(str(caught.exception), expected)

    def test_what_fails_later_has_an_exit_code(self) -> None:
        registered: list[Any] = []
        self.patch(plugin.atexit, "register", lambda *args: registered.append(args))
        server = self.make()
        server.reactor = type("Reactor", (), {"running": False})()
        from twisted.python.failure import Failure

        server._failed(Failure(OSError(28, "No space left on device")))
        self.assertEqual(registered, [(server._exit,)])


class DataLockTests(SynchronousTestCase):
    def test_a_second_server_is_kept_away(self) -> None:
        data = Path(self.mktemp())
        data.mkdir()
        lock = DataLock(data)
        error = self.assertRaises(OSError, DataLock, data)
        self.assertIn("is in use by another server", error.strerror)
        lock.release()
        DataLock(data).release()


class PluginTests(SynchronousTestCase):
    def test_twistd_finds_it(self) -> None:
        found = [maker for maker in getPlugins(IServiceMaker) if maker.tapname == "moxtw"]
        self.assertEqual([maker.module for maker in found], ["moxtw.service"])
