"""The last version that the postmaster was told of: a file in the data directory.

Its time is that of the last check.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from moxtw.updates.record import Version, parse_version

NAME: Final = "lastknownversion"


def read(data_path: Path) -> tuple[Version | None, float]:
    """The version, None if there is none, and when was checked (seconds since the epoch).

    Blocks. Raises OSError.
    """
    path = data_path / NAME
    try:
        text = path.read_text("ascii", "replace")
        checked = path.stat().st_mtime
    except FileNotFoundError:
        return None, 0.0
    try:
        return parse_version(text.strip()), checked
    except ValueError:
        return None, 0.0  # What is unreadable is written anew.


def write(data_path: Path, version: Version, checked: float) -> None:
    """Write it durably. Blocks. Raises OSError."""
    path = data_path / NAME
    temporary = path.with_name(f".{NAME}.tmp")
    with open(temporary, "w", encoding="ascii") as file:
        file.write(f"{version}\n")
        file.flush()
        os.fsync(file.fileno())
    os.utime(temporary, (checked, checked))
    os.rename(temporary, path)
