"""Answers that are sent piece by piece, no faster than the client takes them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet.defer import Deferred


class Flow:
    """Tells when the client can take more (IPushProducer)."""

    def __init__(self) -> None:
        self.stopped = False
        self._paused: Deferred[None] | None = None

    async def ready(self) -> None:
        """Wait until the client can take more, or is gone."""
        if self._paused is not None:
            await self._paused

    def pauseProducing(self) -> None:  # noqa: D102
        if self._paused is None:
            self._paused = Deferred()

    def resumeProducing(self) -> None:  # noqa: D102
        paused, self._paused = self._paused, None
        if paused is not None:
            paused.callback(None)

    def stopProducing(self) -> None:  # noqa: D102
        self.stopped = True
        self.resumeProducing()


async def send_pieces(request: Any, following: Callable[[], Awaitable[bytes]]) -> bool:
    """Write pieces until there is an empty one; False if the client went away before."""
    flow = Flow()
    request.registerProducer(flow, True)
    try:
        while True:
            await flow.ready()
            if flow.stopped or request._disconnected:
                return False
            data = await following()
            if not data:
                return True
            if flow.stopped or request._disconnected:
                return False
            request.write(data)
    finally:
        if not request._disconnected:
            request.unregisterProducer()
