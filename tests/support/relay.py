"""A relay between a client and a server that cuts a connection when it is told to."""

from __future__ import annotations

import select
import socket
import struct
import threading
from contextlib import suppress

from tests.support.server import free_port

_SIZE = 65536


class Relay:
    """Forwards connections to a port of a server, each by a thread.

    cut: the first connection made after it was set is reset when so many bytes have gone
    towards the client (or towards the server); those beyond do not arrive. Later ones live.
    """

    def __init__(self, ip: str, port: int) -> None:
        self._target = (ip, port)
        self.port = free_port()
        self.cuts = 0
        self._cut: tuple[bool, int] | None = None
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self, *, to_client: int = 0, to_server: int = 0) -> None:
        """Cut the next connection after so many bytes in one of the directions."""
        self._cut = (bool(to_client), to_client or to_server)

    def stop(self) -> None:
        """Accept no more connections."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                cut, self._cut = self._cut, None
                threading.Thread(target=self._serve, args=(client, cut), daemon=True).start()

    def _serve(self, client: socket.socket, cut: tuple[bool, int] | None) -> None:
        with client, socket.create_connection(self._target) as server, suppress(OSError):
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            room = -1 if cut is None else cut[1]
            while True:
                ready, _, _ = select.select([client, server], [], [])
                for source in ready:
                    data = source.recv(_SIZE)
                    if not data:
                        return
                    counted = cut is not None and cut[0] == (source is server)
                    if counted and len(data) >= room:
                        self.cuts += 1
                        for end in (client, server):
                            # No end is told politely.
                            end.setsockopt(
                                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                            )
                        return
                    if counted:
                        room -= len(data)
                    (server if source is client else client).sendall(data)
