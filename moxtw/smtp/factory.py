"""Makes the protocols of a listening socket, and keeps track of them."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import ServerFactory

from moxtw import metrics
from moxtw.smtp.context import Settings, SMTPContext
from moxtw.smtp.server import SMTPServer


class SMTPServerFactory(ServerFactory):
    """Serves SMTP, submission or submissions, as its settings say.

    For immediate TLS, and behind a proxy, it is wrapped by `moxtw.net.listen.wrap_factory`.
    """

    noisy = False

    def __init__(self, ctx: SMTPContext, settings: Settings) -> None:
        self.services = ctx
        self.settings = settings
        self.connections: set[SMTPServer] = set()
        self._stopping = False
        self._all_closed: list[Deferred[None]] = []
        self._gauge = metrics.connections_count.labels(settings.kind, settings.listener)

    def buildProtocol(self, addr: Any) -> SMTPServer:  # noqa: N802
        """Make the protocol of a new connection."""
        protocol = SMTPServer(self.services, self.settings)
        protocol.factory = self
        return protocol

    def opened(self, protocol: SMTPServer) -> None:
        """A connection begins."""
        self.connections.add(protocol)
        self._gauge.inc()
        if self._stopping:
            protocol.shutdown()

    def closed(self, protocol: SMTPServer) -> None:
        """A connection is gone."""
        if protocol in self.connections:
            self.connections.remove(protocol)
            self._gauge.dec()
            if not self.connections:
                waiting, self._all_closed = self._all_closed, []
                for deferred in waiting:
                    deferred.callback(None)

    def shutdown(self) -> Deferred[None]:
        """Let transfers in progress come to their end, close all others.

        Fires when no connection is left. `abort` ends those that take too long.
        """
        self._stopping = True
        done: Deferred[None] = Deferred()
        for protocol in list(self.connections):
            protocol.shutdown()
        if self.connections:
            self._all_closed.append(done)
        else:
            done.callback(None)
        return done

    def end_sessions(self, account: str) -> None:
        """End the sessions of an account that may no longer log in."""
        for protocol in list(self.connections):
            if protocol.login is not None and protocol.login.account == account:
                protocol.shutdown("account disabled")

    def abort(self) -> None:
        """Disconnect everybody."""
        for protocol in list(self.connections):
            protocol.abort()
