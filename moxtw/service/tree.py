"""The tree of services: what is made of a configuration, started and stopped in order."""

from __future__ import annotations

import errno
import gc
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from twisted.application.service import MultiService, Service
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.logger import ILogObserver
from twisted.python.components import Componentized
from twisted.python.failure import Failure

from moxtw import log
from moxtw.config.live import LiveConfig
from moxtw.config.load import load_static
from moxtw.config.static import Static
from moxtw.dns.client import StubResolver
from moxtw.dns.publicsuffix import organizational_domain
from moxtw.dns.resolver import OfflineResolver, Resolver
from moxtw.net.cid import KEY_FILE, ConnectionIds, load_or_create_key
from moxtw.ratelimit import (
    connection_rate_limiter,
    failed_auth_limiter,
    open_connections_limiter,
    refusals_limiter,
)
from moxtw.service import privileges
from moxtw.service.listeners import Endpoint, Parts, make_endpoints
from moxtw.service.policy import ConfigDirectory, JunkFlags, first_mailboxes
from moxtw.service.process import DataLock, allow_open_files, on_hangup, open_log
from moxtw.store import accounts, history, longcopy, sorting
from moxtw.store.auth import Authenticator
from moxtw.store.db import Store
from moxtw.store.errors import StoreError
from moxtw.version import VERSION

logger = log.Logger("service")

STOP_SECONDS: Final = 3
"""How long connections may take to end when the server stops."""


class Server(MultiService):
    """A whole server.

    Order: `privilegedStartService` binds all addresses, `startService` gives up root, opens
    the store and, when all is ready, accepts. Stopping goes the other way round.
    """

    def __init__(self, static: Static, reactor: Any, *, localserve: bool = False) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.static = static
        self.reactor = reactor
        self.localserve = localserve
        self.exit_code = 0
        self._own_log = False
        self._log_file: str | None = None
        self.flush_log: Callable[[], None] = lambda: None
        self._lock: DataLock | None = None
        self._endpoints: list[Endpoint] = []
        self._bound = False
        self._started = False
        self._stopping: Deferred[None] | None = None
        self._user = privileges.find_user(static.effective_user) if os.geteuid() == 0 else None
        self.config = LiveConfig.load(static, reactor)
        log.levels.configure(static.log_level, static.package_log_levels)
        self._build()

    @classmethod
    def from_config(
        cls,
        path: Path,
        reactor: Any,
        *,
        localserve: bool = False,
        own_log: bool = True,
        log_file: str | None = None,
        foreground: bool = True,
    ) -> Server:
        """Load the configuration. Raises ConfigError, OSError.

        With `own_log`, log lines are written as logfmt, to standard error in the foreground
        and to `log_file` (by default twistd.log) otherwise.
        """
        server = cls(load_static(path), reactor, localserve=localserve)
        server._own_log = own_log
        server._log_file = log_file if log_file or foreground else "twistd.log"
        return server

    def _build(self) -> None:
        static, reactor = self.static, self.reactor
        self.store = Store(
            str(static.data_path), reactor, url=static.database_url or None
        )
        rules = JunkFlags(self.config)
        self.store.junk_flags, self.store.introbox = rules, rules.introbox
        self.store.organizational_domain = organizational_domain
        self.store.add_chore("history", history.follow)
        self.store.add_chore("sort keys", sorting.fill)
        resolvers = [
            f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"
            for ip, port in static.resolver_addresses
        ]
        self.stub_resolver = StubResolver(reactor, resolvers or None)
        self.stub_resolver.name = "resolver"
        self.store.setServiceParent(self)  # type: ignore[no-untyped-call]
        self.stub_resolver.setServiceParent(self)  # type: ignore[no-untyped-call]
        self.resolver: Resolver = self.stub_resolver
        if self.localserve:
            self.resolver = OfflineResolver(self.stub_resolver, clock=reactor)
        self.failed_auth = failed_auth_limiter()
        self.authenticator = Authenticator(
            self.store, ConfigDirectory(self.config), self.failed_auth, reactor.seconds
        )

    # -- twistd ------------------------------------------------------------------------

    def setServiceParent(self, parent: Any) -> None:  # noqa: N802 - Twisted's name
        """Under twistd's application, take over how log events are written."""
        if self._own_log and isinstance(parent, Componentized):
            if self._log_file in (None, "-"):
                out = sys.stdout if self._log_file else sys.stderr
                observer = log.LogfmtObserver(out, self.reactor)
            else:
                # Journals know the time of a line by themselves, files do not.
                file = open_log(self._log_file)
                observer = log.LogfmtObserver(file, self.reactor, times=True)
            observer.install()
            self.flush_log = observer.flush
            parent.setComponent(ILogObserver, observer)
        super().setServiceParent(parent)  # type: ignore[no-untyped-call]

    def privilegedStartService(self) -> None:  # noqa: N802 - Twisted's name
        """Bind all addresses, as root where ports below 1024 need that. Raises OSError."""
        self._bound = True
        allow_open_files()
        self.ids = ConnectionIds(self._prepare_data(), int(time.time() * 1000))
        exempt = [str(network) for network in self.static.connection_limit_exempt]
        self.parts = Parts(
            server=self,
            static=self.static,
            config=self.config,
            reactor=self.reactor,
            store=self.store,
            resolver=self.resolver,
            authenticator=self.authenticator,
            ids=self.ids,
            failed_auth=self.failed_auth,
            smtp_rate=connection_rate_limiter(exempt),
            smtp_open=open_connections_limiter(exempt),
            smtp_refusals=refusals_limiter(exempt),
            imap_rate=connection_rate_limiter(exempt),
            imap_open=open_connections_limiter(exempt),
            exempt=exempt,
            localserve=self.localserve,
            stop_process=self.stop_process,
        )
        self._endpoints = make_endpoints(self.parts)
        for child in (self.parts.queue, self.parts.control, *self._endpoints):
            child.setServiceParent(self)
        super().privilegedStartService()  # type: ignore[no-untyped-call]
        self._lock = DataLock(self.static.data_path)

    def _prepare_data(self) -> bytes:
        """Make the data directory, for the service user; returns the key of connection ids."""
        data = self.static.data_path
        new = not data.exists()
        data.mkdir(mode=0o750, parents=True, exist_ok=True)
        key_is_new = not (data / KEY_FILE).exists()
        try:
            key = load_or_create_key(data)
        except ValueError as exc:
            raise OSError(errno.EINVAL, f"{data}: {exc}") from exc
        if self._drops_root and self._user is not None:
            if new:
                os.chown(data, self._user.uid, self._user.gid)
            if key_is_new:
                os.chown(
                    data / KEY_FILE, self._user.uid, self._user.gid, follow_symlinks=False
                )
        return key

    @property
    def _drops_root(self) -> bool:
        return self._user is not None and not self.localserve

    def startService(self) -> None:  # noqa: N802 - Twisted's name
        """Give up root, open the store, then serve."""
        if not self._bound:
            self.privilegedStartService()
        os.umask(0o007)
        if self._user is not None and self._drops_root:
            if not self.static.no_fix_permissions:
                privileges.fix_permissions(
                    self.static.directory, self.static.data_path, self._user
                )
            privileges.drop(self._user)
            privileges.check_access(
                self._user, self.static.directory, self.config.path, self.static.data_path
            )
        self.store.open()
        self.store.startService()
        self.stub_resolver.startService()
        on_hangup(lambda: self.reactor.callFromThread(self.hangup))
        self.config.start()
        self.config.on_change(lambda old, new: self._config_changed(old, new))
        # Not MultiService's: the children start in order, each when what it needs is there.
        Service.startService(self)
        self._started = True
        Deferred.fromCoroutine(self._serve()).addErrback(self._failed)

    async def _serve(self) -> None:
        for warning in (*self.static.warnings, *self.config.dynamic.warnings):
            logger.warn("configuration", warning=warning)
        await self.ensure_accounts()
        await accounts.finish_removals(self.store)
        if parts := await self.store.write(longcopy.undo_all):
            logger.info("interrupted copies taken back", parts=parts)
        await self.authenticator.start()
        await self.parts.start()
        if self._stopping is not None:
            return
        for endpoint in self._endpoints:
            endpoint.startService()
        # What exists now stays: collections need not look at it again. And they come less often
        # than for programs that make little garbage, as each message makes thousands of objects.
        gc.collect()
        gc.freeze()
        gc.set_threshold(20_000, 20, 20)
        if self._endpoints:
            logger.print(
                "ready to serve",
                version=VERSION,
                listeners=" ".join(f"{e.kind}={e.address}" for e in self._endpoints),
            )

    async def ensure_accounts(self) -> None:
        """Make the rows of configured accounts that have none."""
        special, regular = first_mailboxes(self.static)
        names = list(self.config.dynamic.accounts)

        def job(tx: Any) -> None:
            for name in names:
                accounts.ensure(tx, name, special, regular)

        await self.store.write(job)

    def _config_changed(self, old: Any, new: Any) -> None:
        """Make accounts that an edit of the file added; end sessions that may no longer be."""
        added = [name for name in new.accounts if name not in old.accounts]
        if added:
            Deferred.fromCoroutine(self.ensure_accounts()).addErrback(
                lambda failure: logger.failure("making new accounts", failure)
            )
        for name, before in old.accounts.items():
            after = new.accounts.get(name)
            if after is None or (after.login_disabled and not before.login_disabled):
                self.end_sessions(name)

    def end_sessions(self, account: str) -> None:
        """End what an account has open: it was removed, or may not log in any more."""
        self.authenticator.forget(account)
        for endpoint in self._endpoints:
            endpoint.end_sessions(account)
        self.parts.control_imap.end_sessions(account)

    def _failed(self, failure: Failure) -> None:
        if self._stopping is not None:
            return
        if failure.check(StoreError, OSError):
            logger.fatal("starting", err=failure.value)
        else:
            logger.failure("starting", failure)
        self.exit_code = 1
        self.stop_process()

    def hangup(self) -> None:
        """SIGHUP: the terminal is gone, or somebody wants us to read domains.conf now."""
        if sys.stdin is not None and sys.stdin.isatty():
            self.stop_process()
            return
        logger.info("reading domains.conf, as told by SIGHUP; mox.conf needs a restart")
        Deferred.fromCoroutine(self.config.refresh()).addErrback(
            lambda failure: logger.failure("reading the configuration", failure)
        )

    # -- Stopping ----------------------------------------------------------------------

    def stop_process(self) -> None:
        """End the process, as after SIGTERM."""
        if self.reactor.running:
            self.reactor.callLater(0, self.reactor.stop)

    def stopService(self) -> Deferred[None]:  # noqa: N802 - Twisted's name
        """Stop accepting, let transactions in flight end (3 s), then close everything."""
        if self._stopping is None:
            self._stopping = Deferred.fromCoroutine(self._stop())
        return self._stopping

    async def _stop(self) -> None:
        if not self._started:
            return
        self._started = False
        logger.info("stopping")
        begun = time.monotonic()
        Service.stopService(self)
        await DeferredList([endpoint.stopService() for endpoint in self._endpoints])
        for endpoint in self._endpoints:
            endpoint.shutdown()
        await self.parts.stop_sending()
        await self._until(lambda: not any(e.busy() for e in self._endpoints), STOP_SECONDS)
        left = sum(endpoint.abort() for endpoint in self._endpoints)
        if left:
            logger.info("connections cut at shutdown", count=left)
            await self._until(lambda: not any(e.busy() for e in self._endpoints), 1)
        await self.parts.stop()
        self.authenticator.stop()
        self.config.stop()
        await maybeDeferred(self.stub_resolver.stopService)
        await self.store.stopService()
        if self._lock is not None:
            self._lock.release()
        logger.info("stopped", seconds=round(time.monotonic() - begun, 3))

    async def _until(self, done: Callable[[], bool], seconds: float) -> None:
        """Wait until `done()`, at most some seconds."""
        end = self.reactor.seconds() + seconds
        while not done() and self.reactor.seconds() < end:
            tick: Deferred[None] = Deferred()
            self.reactor.callLater(0.02, tick.callback, None)
            await tick
