"""What twistd asks of the plugin: options, and the service that they make."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, cast

from twisted.application.service import IService
from twisted.python import usage

from moxtw.config.load import ConfigError
from moxtw.service.tree import Server


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


def makeService(options: Options) -> IService:  # noqa: N802 - Twisted's name
    """The tree of services for a configuration; ends the process when that is not valid."""
    from twisted.internet import reactor

    parent: Any = getattr(options, "parent", None) or {}
    try:
        server = Server.from_config(
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
    except OSError as exc:
        sys.stderr.write(f"{exc}\n")
        raise SystemExit(1) from None
    return cast(IService, server)
