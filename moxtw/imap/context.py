"""What the IMAP server is given: everything it works with comes from here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from moxtw.imap.directory import Directories
from moxtw.imap.uidcache import UidCache
from moxtw.ratelimit import Limiter
from moxtw.store.orders import Orders

if TYPE_CHECKING:
    from moxtw.config.live import LiveConfig
    from moxtw.net.cid import ConnectionIds
    from moxtw.store.auth import Authenticator
    from moxtw.store.db import Store

PLAIN: Final = "imap"
IMPLICIT_TLS: Final = "imaps"


@dataclass(frozen=True)
class IMAPContext:
    """The server around the connections.

    `reactor` gives the time and timers. `connection_rate` and `open_connections` are shared by
    all IMAP listeners, `failed_auth` by all protocols. `stopping` says whether the server is
    shutting down. Sessions share what they know of mailboxes by `uids`, `directories` and `orders`.
    """

    reactor: Any
    store: Store
    config: LiveConfig
    authenticator: Authenticator
    cids: ConnectionIds
    connection_rate: Limiter
    open_connections: Limiter
    failed_auth: Limiter
    version: str
    stopping: Callable[[], bool] = lambda: False
    uids: UidCache = field(default_factory=UidCache)
    directories: Directories = field(default_factory=Directories)
    orders: Orders = field(default_factory=Orders)


@dataclass(frozen=True)
class IMAPListener:
    """One listening socket.

    `kind` is ``imap`` or ``imaps``. `tls` makes TLS connections (`moxtw.net.tls.ServerTLS`),
    None without TLS. `plain_allowed`: passwords may be sent without TLS (NoRequireSTARTTLS).
    `client_auth`: clients are asked for a certificate. `hostname` stands in challenges.
    """

    name: str
    kind: str
    hostname: str
    tls: Any = None
    plain_allowed: bool = False
    client_auth: bool = False
