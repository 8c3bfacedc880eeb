"""Commands that need neither a server nor a configuration."""

from __future__ import annotations

from moxtw.cli.invocation import Invocation


def version(invocation: Invocation) -> None:
    """``moxtw version``."""
    import platform

    from moxtw.version import VERSION

    invocation.print(f"moxtw {VERSION} (Python {platform.python_version()})")
