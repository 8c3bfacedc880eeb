"""The part of a reactor that tells and waits for time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import Deferred


class DelayedCall(Protocol):
    """A scheduled call."""

    def cancel(self) -> None:
        """Do not call."""

    def active(self) -> bool:
        """Whether it is still to come."""
        ...


class Clock(Protocol):
    """IReactorTime as a type: the reactor, or task.Clock in tests."""

    def seconds(self) -> float:
        """Seconds since the epoch."""
        ...

    def callLater(  # noqa: N802 - Twisted's name
        self, delay: float, callable: Callable[..., Any], *args: Any, **kw: Any
    ) -> DelayedCall:
        """Call after `delay` seconds."""
        ...


def sleep(clock: Clock, seconds: float) -> Deferred[None]:
    """A Deferred that fires after `seconds`."""
    done: Deferred[None] = Deferred()
    clock.callLater(seconds, done.callback, None)
    return done
