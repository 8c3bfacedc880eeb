"""What twistd asks of the plugin: options, and the service that they make."""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from twisted.application.service import IService
from twisted.python import usage
from twisted.python.failure import Failure

from moxtw import log
from moxtw.config.load import ConfigError
from moxtw.service.privileges import PrivilegeError
from moxtw.service.tree import Server
from moxtw.store.errors import StoreError

logger = log.Logger("service")


class Options(usage.Options):
    """Command line of ``twistd moxtw``."""

    synopsis = "[-c mox.conf]"
    longdesc = (
        "A complete mail server. mox.conf names listeners and the data directory; domains.conf "
        "beside it holds domains and accounts."
    )
    optParameters = [  # noqa: RUF012 - Twisted's way
        ["config", "c", os.environ.get("MOXCONF", "config/mox.conf"), "Configuration file."],
    ]


class StartError(SystemExit, Exception):
    """Ends twistd with exit code 1 and no traceback.

    An Exception as well, so that twistd cleans up and tells the process that daemonized it.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.code = 1


class TwistdServer(Server):
    """A server whose failures to start end twistd in the way of `StartError`."""

    def privilegedStartService(self) -> None:  # noqa: N802 - Twisted's name
        """Bind all addresses. Raises StartError."""
        self._or_end(super().privilegedStartService)

    def startService(self) -> None:  # noqa: N802 - Twisted's name
        """Give up root, then serve. Raises StartError."""
        self._or_end(super().startService)

    def _or_end(self, start: Callable[[], None]) -> None:
        try:
            start()
        except StartError:
            raise
        except (OSError, PrivilegeError, StoreError) as exc:
            text = error_text(exc)
            logger.fatal("starting", err=text)
            raise StartError(text) from None

    def _failed(self, failure: Failure) -> None:
        """What fails once the reactor runs has an exit code, too: twistd knows none of its own."""
        super()._failed(failure)
        if self.exit_code:
            atexit.register(self._exit)

    def _exit(self) -> None:
        self.flush_log()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(self.exit_code)


def error_text(exc: BaseException) -> str:
    """An error for people: those of the system without their number."""
    if isinstance(exc, OSError) and exc.strerror:
        return f"{exc.filename}: {exc.strerror}" if exc.filename else exc.strerror
    return str(exc)


def makeService(options: Options) -> IService:  # noqa: N802 - Twisted's name
    """The tree of services for a configuration; ends the process when that is not valid."""
    from twisted.internet import reactor

    parent: Any = getattr(options, "parent", None) or {}
    try:
        server = TwistdServer.from_config(
            Path(options["config"]),
            reactor,
            own_log=not (parent.get("logger") or parent.get("syslog")),
            log_file=parent.get("logfile"),
            foreground=bool(parent.get("nodaemon", True)),
        )
    except ConfigError as exc:
        for error in exc.errors:
            sys.stderr.write(f"{error}\n")
        raise SystemExit(1) from None
    except (OSError, PrivilegeError) as exc:
        sys.stderr.write(f"{error_text(exc)}\n")
        raise SystemExit(1) from None
    return cast(IService, server)
