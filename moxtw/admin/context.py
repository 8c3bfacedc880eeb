"""What operations work on, who calls them, and how they say no."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, TypeVar

from moxtw.admin.imports.service import Imports
from moxtw.config.dynamic import Dynamic
from moxtw.config.edit import EditError, NotFound
from moxtw.config.load import ConfigError
from moxtw.log import Logger

if TYPE_CHECKING:
    from pathlib import Path

    from twisted.internet.protocol import Protocol as Connection

    from moxtw.admin.audit import Audit
    from moxtw.admin.clock import Clock
    from moxtw.config.static import Static
    from moxtw.dns.resolver import Resolver
    from moxtw.junk.trainer import Trainer
    from moxtw.net.cid import ConnectionIds
    from moxtw.net.tlsclient import Roots
    from moxtw.queue.hookcall import HookCaller
    from moxtw.queue.hookoperations import HookOperations
    from moxtw.queue.operations import QueueOperations
    from moxtw.store.auth import Login
    from moxtw.store.db import Store

log = Logger("admin")

MAX_TEXT: Final = 1000
"""Longest name or reason, in characters."""

T = TypeVar("T")
Kind = Literal["user", "notFound", "server"]
_CODES: Final[dict[Kind, str]] = {
    "user": "user:error",
    "notFound": "user:notFound",
    "server": "server:error",
}


class OperationError(Exception):
    """An operation that was refused or failed; the message is for the caller's eyes.

    kind: "user" for a wrong wish, "notFound" for an object that does not exist, "server" for
    a failure of ours.
    """

    def __init__(self, kind: Kind, message: str) -> None:
        super().__init__(message)
        self.kind: Kind = kind

    @property
    def code(self) -> str:
        """The kind as both JSON APIs and the audit log say it."""
        return _CODES[self.kind]


def user_error(message: str) -> OperationError:
    """The caller's wish cannot be."""
    return OperationError("user", message)


def check_text(text: str, what: str) -> None:
    """Refuse a name or reason that is too long or not plain text."""
    if len(text) > MAX_TEXT or not text.isprintable():
        raise user_error(f"{what} is longer than {MAX_TEXT} characters, or not plain text")


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


class Config(Protocol):
    """The configuration in use, see `moxtw.config.live.LiveConfig`."""

    @property
    def static(self) -> Static:
        """mox.conf."""

    @property
    def dynamic(self) -> Dynamic:
        """domains.conf."""

    @property
    def path(self) -> Path:
        """The path of domains.conf."""

    @property
    def text(self) -> str:
        """The text of domains.conf."""

    async def change(self, edit: Callable[[Dynamic], Dynamic]) -> Dynamic:
        """Make an edit."""
        ...


async def _nothing() -> None:
    return None


@dataclass
class AdminContext:
    """The running server, as operations see it.

    stop: ends the process, as after SIGTERM.
    end_sessions: ends what an account has open, and forgets what was cached of its logins.
    ensure_accounts: makes the rows of configured accounts that have none.
    keys_changed: lets TLS public keys that were added or removed count.
    trainer: trains the junk filters.
    resolver: looks up what others see of us.
    roots: the certificate authorities that are trusted.
    hook_caller: makes webhook calls.
    imap: makes IMAP connections for somebody who needs not log in.
    """

    config: Config
    store: Store
    queue: QueueOperations
    hooks: HookOperations
    clock: Clock
    ids: ConnectionIds
    stop: Callable[[], object] = field(default=lambda: None)
    end_sessions: Callable[[str], object] = field(default=lambda account: None)
    ensure_accounts: Callable[[], Awaitable[None]] = field(default=_nothing)
    keys_changed: Callable[[], Awaitable[None]] = field(default=_nothing)
    trainer: Trainer | None = None
    resolver: Resolver | None = None
    roots: Roots | None = None
    hook_caller: HookCaller | None = None
    imap: Callable[[Login], Connection] | None = None
    audit: Audit = field(init=False)
    imports: Imports = field(init=False)

    def __post_init__(self) -> None:
        # It depends on this module, as operations do.
        from moxtw.admin.audit import Audit

        self.audit = Audit(self.store)
        self.imports = Imports(self.store, self.clock)

    async def change(self, edit: Callable[[Dynamic], Dynamic]) -> Dynamic:
        """Change domains.conf. Raises OperationError, and nothing is changed then."""
        try:
            return await self.config.change(edit)
        except NotFound as exc:
            raise not_found(str(exc)) from exc
        except EditError as exc:
            raise user_error(str(exc)) from exc
        except ConfigError as exc:
            raise user_error("; ".join(exc.errors)) from exc
        except OSError as exc:
            log.error("writing configuration file", path=str(self.config.path), err=exc)
            raise OperationError(
                "server", f"writing configuration file: {exc.strerror or exc}"
            ) from exc

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


def looked_up(find: Callable[[], T]) -> T:
    """What `find` gives, with the errors of edits turned into ours."""
    try:
        return find()
    except NotFound as exc:
        raise not_found(str(exc)) from exc
    except EditError as exc:
        raise user_error(str(exc)) from exc
