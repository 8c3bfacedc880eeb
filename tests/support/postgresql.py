"""PostgreSQL as the database of a test."""

from __future__ import annotations

import glob
import os
import shutil
import subprocess
import tempfile
from typing import Any

from twisted.trial.unittest import SkipTest, TestCase

from tests.support.server import free_port


def start_postgresql(testcase: TestCase) -> str:
    """Start a PostgreSQL server of our own; returns its URL, or skips the test."""
    try:
        import psycopg  # noqa: F401
    except ImportError:
        raise SkipTest("psycopg is not installed") from None
    folders = sorted(glob.glob("/usr/lib/postgresql/*/bin"))
    if not folders:
        raise SkipTest("PostgreSQL is not installed")
    programs = folders[-1]
    directory = tempfile.mkdtemp(prefix="moxtw-pg.")
    testcase.addCleanup(shutil.rmtree, directory, True)
    data = os.path.join(directory, "data")
    # It refuses to run as root.
    somebody: dict[str, Any] = {}
    if os.getuid() == 0:
        shutil.chown(directory, "postgres")
        somebody = {"user": "postgres", "group": "postgres", "extra_groups": []}

    def run(*command: str) -> None:
        with open(os.path.join(directory, "out"), "ab") as out:
            subprocess.run(
                command, check=True, stdout=out, stderr=out, timeout=60, cwd=directory, **somebody
            )

    port = free_port("127.0.0.1")
    run(f"{programs}/initdb", "-D", data, "-A", "trust", "-U", "moxtw", "-E", "UTF8")
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={directory}"
    run(f"{programs}/pg_ctl", "-D", data, "-o", options, "-l", f"{data}/log", "-w", "start")
    testcase.addCleanup(run, f"{programs}/pg_ctl", "-D", data, "-m", "fast", "stop")
    return f"postgresql+psycopg://moxtw@127.0.0.1:{port}/postgres"
