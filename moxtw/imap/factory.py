"""Makes the connections of a listening socket, and ends them."""

from __future__ import annotations

from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import ServerFactory

from moxtw.imap.context import IMAPContext, IMAPListener
from moxtw.imap.server import IMAPServer
from moxtw.store.auth import Login


class IMAPServerFactory(ServerFactory):
    """Connections of one listening socket.

    For a listener of kind ``imaps`` the transport is TLS already when a connection is made
    (`TLSMemoryBIOFactory` around this factory); a PROXY header has been read by then too.
    """

    noisy = False

    def __init__(self, app: IMAPContext, listener: IMAPListener) -> None:
        self.app = app
        self.listener = listener
        self.connections: set[IMAPServer] = set()

    def buildProtocol(self, addr: IAddress | None) -> IMAPServer:  # noqa: N802
        """A new connection."""
        return self.connection()

    def connection(self, login: Login | None = None) -> IMAPServer:
        """A new connection, of somebody who is logged in from the start if `login` says who."""
        connection = IMAPServer(self.app, self.listener, opened=self.connections, login=login)
        connection.factory = self
        return connection

    def shutdown(self) -> None:
        """End all connections, each when its running command is done."""
        for connection in list(self.connections):
            connection.shutdown()

    def end_sessions(self, account: str) -> None:
        """End the sessions of an account that was removed, or whose login was disabled."""
        for connection in list(self.connections):
            session = connection.session
            if session is not None and session.account_name == account:
                connection.shutdown()
