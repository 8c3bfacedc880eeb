"""The server as a tree of services, for twistd and for the ``moxtw serve`` command.

`Options` and `makeService` are what the twistd plugin names.
"""

from __future__ import annotations

from moxtw.service.plugin import Options, makeService

__all__ = ["Options", "makeService"]
