"""The control socket in memory: the client of commands on the real protocol of the server."""

from __future__ import annotations

from typing import Any

from twisted.internet.testing import StringTransport

from moxtw.admin.context import AdminContext
from moxtw.ctl import client
from moxtw.ctl.commands import COMMANDS
from moxtw.ctl.server import ControlFactory


class _File:
    """A connection as a file; what the server answers is there at once."""

    def __init__(self, factory: ControlFactory) -> None:
        self._protocol = factory.buildProtocol(None)
        self._transport = StringTransport()
        self._protocol.makeConnection(self._transport)
        self._written = b""
        self._waiting = b""

    def write(self, data: bytes) -> None:
        self._written += data

    def flush(self) -> None:
        written, self._written = self._written, b""
        self._protocol.dataReceived(written)

    def _fill(self) -> None:
        self._waiting += self._transport.value()
        self._transport.clear()

    def read(self, size: int) -> bytes:
        self._fill()
        found, self._waiting = self._waiting[:size], self._waiting[size:]
        return found

    def readline(self, size: int) -> bytes:
        self._fill()
        return self.read(self._waiting.find(b"\n", 0, size) + 1 or size)

    def close(self) -> None:
        pass


class _Socket:
    def __init__(self, factory: ControlFactory) -> None:
        self._factory = factory

    def settimeout(self, seconds: float) -> None:
        pass

    def makefile(self, mode: str) -> _File:
        return _File(self._factory)

    def getsockopt(self, *args: int) -> bytes:
        return bytes(12)

    def close(self) -> None:
        pass


def serve_in_memory(testcase: Any, ctx: AdminContext) -> list[str]:
    """Let all control clients of a test speak with a server of this context.

    Operations must be done at once, as with `tests.support.admin`. Returns a list that takes
    the paths that are connected to.
    """
    factory = ControlFactory(ctx, COMMANDS, ctx.clock)
    paths: list[str] = []
    testcase.patch(client.socket, "socket", lambda *args: _Socket(factory))
    testcase.patch(client, "_connect", lambda sock, path: paths.append(path))
    return paths
