"""The servers that are measured, each started for the time of a block."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.nameserver import BackgroundNameServer, Zone
from tests.support.peers import Dovecot, Postfix
from tests.support.server import ZONE, MailServer

USER = "mjl@a.example"


def can_run(program: str) -> bool:
    """Whether a server of others can be started."""
    return shutil.which(program) is not None and os.getuid() == 0


def cpu_seconds(pid: int) -> float:
    """What a process and its children have used of the processors so far."""
    ticks = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(path.parent.name) == pid or int(fields[1]) == pid:
            # utime, stime, and those of children that ended.
            ticks += sum(int(field) for field in fields[11:15])
    return ticks / os.sysconf("SC_CLK_TCK")


@contextmanager
def moxtw(*, start: bool = True, zone: Zone = ZONE, **options: Any) -> Iterator[MailServer]:
    """The server, with an account; its log goes with it. zone: what it finds in DNS."""
    directory = Path(tempfile.mkdtemp(prefix="moxtw-bench."))
    names = BackgroundNameServer(zone).start()
    server = MailServer(
        directory / "server",
        accounts={"mjl": [USER]},
        resolver=names.address,
        log_level="info",
        **options,
    )
    try:
        yield server.start() if start else server
        errors = server.errors()
        if errors:
            raise RuntimeError("\n".join(errors[:5]))
    finally:
        server.kill()
        names.stop()
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def postfix(**options: Any) -> Iterator[Postfix | None]:
    """Postfix; None where it cannot be started."""
    if not can_run("postfix"):
        yield None
        return
    server = Postfix(**options)
    try:
        yield server.start()
    finally:
        server.stop()


@contextmanager
def dovecot() -> Iterator[Dovecot | None]:
    """Dovecot; None where it cannot be started."""
    if not can_run("dovecot"):
        yield None
        return
    server = Dovecot()
    try:
        yield server.start()
    finally:
        server.stop()
