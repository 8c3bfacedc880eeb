"""What operations work on, who calls them, and how they say no."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from moxtw.log import Logger

if TYPE_CHECKING:
    from moxtw.admin.clock import Clock
    from moxtw.net.cid import ConnectionIds

log = Logger("admin")

Kind = Literal["user", "notFound", "server"]


class OperationError(Exception):
    """An operation that was refused or failed; the message is for the caller's eyes.

    kind: "user" for a wrong wish, "notFound" for an object that does not exist, "server" for
    a failure of ours.
    """

    def __init__(self, kind: Kind, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def user_error(message: str) -> OperationError:
    """The caller's wish cannot be."""
    return OperationError("user", message)


def not_found(message: str) -> OperationError:
    """What the caller speaks of is not there."""
    return OperationError("notFound", message)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls an operation.

    via: "webadmin", "webaccount", "ctl" or "cli"; name: the account, "(admin)", or the uid of
    a process.
    """

    via: str
    name: str
    remote_ip: str = ""
    cid: int = 0


@dataclass
class AdminContext:
    """The running server, as operations see it."""

    config: Any
    store: Any
    queue: Any
    clock: Clock
    ids: ConnectionIds
    stop: Callable[[], object] = field(default=lambda: None)

    def done(self, caller: Caller, text: str, **fields: Any) -> None:
        """Log that an operation was done, and who did it."""
        log.info(
            text,
            cid=caller.cid,
            via=caller.via,
            caller=caller.name,
            remote=caller.remote_ip or None,
            **fields,
        )
