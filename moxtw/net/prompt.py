"""Replies sent at once.

Twisted's transports keep what is written until the reactor finds the socket writable, which
costs two changes to the poll set and a turn of the loop. Short replies nearly always fit into
the socket's buffer, so on plain TCP they are sent right away.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.tcp import Connection


def write_now(transport: Any, data: bytes) -> None:
    """Write to a transport, now if that is possible; order is kept.

    Whatever the socket does not take, and everything on other transports (TLS, tests), goes
    through ``transport.write``. Errors too: the reactor then notices that the connection is
    lost, outside of the caller's code.
    """
    if (
        isinstance(transport, Connection)
        and not transport.TLS
        and transport.connected
        and not transport.disconnecting
        and not transport.dataBuffer
        and not transport._tempDataBuffer
    ):
        sent = transport.writeSomeData(data)
        if isinstance(sent, int) and sent > 0:
            if sent == len(data):
                return
            data = data[sent:]
    transport.write(data)
