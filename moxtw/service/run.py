"""Running a server in the foreground, with twistd's runner: what ``moxtw serve`` does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.application import service
from twisted.scripts._twistd_unix import ServerOptions, UnixApplicationRunner

from moxtw import log
from moxtw.service.tree import Server


class _Runner(UnixApplicationRunner):
    """twistd for a server that is there already."""

    def __init__(self, server: Server) -> None:
        config = ServerOptions()
        config.parseOptions(["--nodaemon", "--pidfile=", "--no_save"])
        super().__init__(config)  # type: ignore[no-untyped-call]
        self._server = server

    def createOrGetApplication(self) -> Any:  # noqa: N802 - Twisted's name
        """The application around the server."""
        application = service.Application("moxtw")
        self._server.setServiceParent(application)
        return application


def make_server(
    path: Path, *, localserve: bool = False, log_level: str = "", pedantic: bool = False
) -> Server:
    """A server for the foreground. Raises ConfigError, OSError, PrivilegeError, ValueError.

    `log_level` and `pedantic` come before what is configured.
    """
    from twisted.internet import reactor

    if log_level:
        log.parse_level(log_level)
    server = Server.from_config(path, reactor, localserve=localserve)
    if pedantic:
        object.__setattr__(server.static, "pedantic", True)
    if log_level:
        log.levels.configure(log_level)
    return server


def run(server: Server) -> int:
    """Serve until told to stop; returns the exit code: the number of the signal that ended it.

    Raises OSError when an address cannot be bound, PrivilegeError, StoreError.
    """
    runner = _Runner(server)
    runner.run()  # type: ignore[no-untyped-call]
    signal: int | None = runner._exitSignal
    return server.exit_code or signal or 0
