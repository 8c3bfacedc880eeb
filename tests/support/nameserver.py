"""A small DNS server on loopback that answers from a dict of records, by UDP and TCP.

::

    server = NameServer(reactor, {"a.example.": {"MX": ["10 mail.a.example."]}})
    server.start()          # server.address is "127.0.0.1:port", for Resolvers in mox.conf
    server.stop()           # a Deferred

Records are in the text form of zone files. ``BackgroundNameServer(zone)`` is the same without
a reactor.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
from twisted.internet import defer
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol

Zone = Mapping[str, Mapping[str, Sequence[str]]]

UDP_SIZE = 512


class Answers:
    """Answers from ``zone``, name to type to records; all with the AD bit if ``authentic``.

    ``tweak(data)`` may change each UDP answer into several, or none. ``questions`` holds what
    was asked as (name, type), ``ports`` from which UDP ports.
    """

    def __init__(
        self,
        zone: Zone,
        *,
        interface: str = "127.0.0.1",
        authentic: bool = True,
        ttl: int = 60,
    ) -> None:
        self.zone = {name.lower().rstrip(".") + ".": dict(types) for name, types in zone.items()}
        self._interface = interface
        self._authentic = authentic
        self._ttl = ttl
        self.questions: list[tuple[str, str]] = []
        self.ports: set[int] = set()
        self.tweak: Callable[[bytes], list[bytes]] = lambda data: [data]
        self.address = ""

    def answer(self, data: bytes, size: int) -> bytes:
        """The answer to a query, in wire form and at most that large."""
        query = dns.message.from_wire(data)
        question = query.question[0]
        name = question.name.to_text().lower()
        rtype = dns.rdatatype.to_text(question.rdtype)
        self.questions.append((name, rtype))
        response = dns.message.make_response(query, recursion_available=True)
        if self._authentic:
            response.flags |= dns.flags.AD
        types = self.zone.get(name)
        if types is None:
            below = any(other.endswith("." + name) for other in self.zone)
            if not below:
                response.set_rcode(dns.rcode.NXDOMAIN)
        elif records := types.get(rtype):
            response.answer.append(
                dns.rrset.from_text(question.name, self._ttl, "IN", rtype, *records)
            )
        try:
            return response.to_wire(max_size=size)
        except dns.exception.TooBig:
            response.answer.clear()
            response.flags |= dns.flags.TC
            return response.to_wire()


class NameServer(Answers):
    """A name server on a reactor."""

    def __init__(self, reactor: Any, zone: Zone, **options: Any) -> None:
        super().__init__(zone, **options)
        self._reactor = reactor

    def start(self) -> NameServer:
        """Listen, on one port for UDP and TCP."""
        server = self

        class Datagrams(DatagramProtocol):
            noisy = False

            def datagramReceived(self, data: bytes, addr: Any) -> None:
                server.ports.add(addr[1])
                for answer in server.tweak(server.answer(data, UDP_SIZE)):
                    self.transport.write(answer, addr)

        class Connection(Protocol):
            def connectionMade(self) -> None:
                self.received = b""

            def dataReceived(self, data: bytes) -> None:
                self.received += data
                while len(self.received) >= 2:
                    end = 2 + int.from_bytes(self.received[:2])
                    if len(self.received) < end:
                        return
                    answer = server.answer(self.received[2:end], 65535)
                    self.received = self.received[end:]
                    # In pieces, as a network may deliver it.
                    for piece in (len(answer).to_bytes(2), answer[:5], answer[5:]):
                        self.transport.write(piece)

        factory = Factory.forProtocol(Connection)
        factory.noisy = False
        for attempt in range(20):
            self.udp = self._reactor.listenUDP(0, Datagrams(), interface=self._interface)
            port = self.udp.getHost().port
            try:
                self.tcp = self._reactor.listenTCP(port, factory, interface=self._interface)
            except OSError:
                # Somebody has the port of that number for TCP.
                self.udp.stopListening()
                if attempt == 19:
                    raise
            else:
                break
        host = f"[{self._interface}]" if ":" in self._interface else self._interface
        self.address = f"{host}:{port}"
        return self

    async def _stop(self) -> None:
        for port in (self.udp, self.tcp):
            await defer.maybeDeferred(port.stopListening)

    def stop(self) -> defer.Deferred[None]:
        """Stop listening."""
        return defer.Deferred.fromCoroutine(self._stop())


class BackgroundNameServer(Answers):
    """The same by threads, for tests and programs that run no reactor."""

    def start(self) -> BackgroundNameServer:
        """Listen, on one port for UDP and TCP."""
        for _ in range(20):
            self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self._udp.bind((self._interface, 0))
            host, port = self._udp.getsockname()
            self._tcp = socket.socket()
            try:
                self._tcp.bind((host, port))
            except OSError:
                self._udp.close()
                self._tcp.close()
            else:
                break
        self._tcp.listen(20)
        self.address = f"{host}:{port}"
        for target in (self._serve_udp, self._serve_tcp):
            threading.Thread(target=target, daemon=True).start()
        return self

    def _serve_udp(self) -> None:
        while True:
            try:
                data, address = self._udp.recvfrom(65535)
            except OSError:
                return
            if not data:
                return
            self.ports.add(address[1])
            for answer in self.tweak(self.answer(data, UDP_SIZE)):
                self._udp.sendto(answer, address)

    def _serve_tcp(self) -> None:
        while True:
            try:
                connection, _ = self._tcp.accept()
            except OSError:
                return
            connection.settimeout(10)
            with connection, connection.makefile("rb") as file:
                try:
                    while size := file.read(2):
                        answer = self.answer(file.read(int.from_bytes(size)), 65535)
                        connection.sendall(len(answer).to_bytes(2) + answer)
                except OSError:
                    continue

    def stop(self) -> None:
        """Stop listening; the threads end."""
        for sock in (self._udp, self._tcp):
            # A datagram socket is not connected, but wakes up its reader all the same.
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
