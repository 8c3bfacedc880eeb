"""A name server on loopback that wants to hurt: what it answers depends on a label of the name.

``KINDS`` lists them: names with such a label get an answer of that kind for all types, others
are answered from the zone.
"""

from __future__ import annotations

import contextlib
import itertools
import random
import socket
import threading
from collections.abc import Callable
from typing import Final

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

from tests.support.nameserver import BackgroundNameServer

_STALL: Final = b"stall"

Answer = Callable[[dns.message.Message, int], bytes]


def _with(query: dns.message.Message, size: int, rtype: str, *records: str) -> bytes:
    """An answer with these records, truncated if it has to be."""
    response = dns.message.make_response(query, recursion_available=True)
    name = query.question[0].name
    response.answer.append(dns.rrset.from_text(name, 60, "IN", rtype, *records))
    wire = response.to_wire(max_size=65535)
    return wire if len(wire) <= size else _truncated(query, size)


def _truncated(query: dns.message.Message, _size: int) -> bytes:
    response = dns.message.make_response(query)
    response.flags |= dns.flags.TC
    return response.to_wire()


def _stalled(query: dns.message.Message, size: int) -> bytes:
    """By UDP: ask by TCP. There: nothing."""
    return _truncated(query, size) if size < 65535 else _STALL


def _code(code: dns.rcode.Rcode) -> Answer:
    def answer(query: dns.message.Message, _size: int) -> bytes:
        response = dns.message.make_response(query, recursion_available=True)
        response.set_rcode(code)
        return response.to_wire()

    return answer


def _loop(query: dns.message.Message, size: int) -> bytes:
    first = query.question[0].name.labels[0]
    return _with(query, size, "CNAME", f"{'b' if first == b'a' else 'a'}.loop.example.")


_numbers = itertools.count()


def _chain(query: dns.message.Message, size: int) -> bytes:
    return _with(query, size, "CNAME", f"x{next(_numbers)}.chain.example.")


def _raw(query: dns.message.Message, counts: bytes, rest: bytes) -> bytes:
    """An answer to the question, with what follows as it is."""
    question = _question(query)
    return question[:6] + counts + question[12:] + rest


def _question(query: dns.message.Message) -> bytes:
    """An answer with only the question."""
    response = dns.message.make_response(query)
    response.use_edns(False)
    return response.to_wire()


def _pointers(query: dns.message.Message, _size: int) -> bytes:
    """Records whose names lead to themselves, and to each other."""
    at = len(_question(query))
    own = (0xC000 | at).to_bytes(2)
    rtype = int(query.question[0].rdtype).to_bytes(2)
    record = own + rtype + b"\0\1\0\0\0\x3c\0\2" + own
    return _raw(query, b"\0\x14\0\0\0\0", record * 20)


def _texts(query: dns.message.Message, size: int) -> bytes:
    """As many texts as fit."""
    return _with(query, size, "TXT", *(f'"v=spf1 {number} {"x" * 200}"' for number in range(250)))


def _text(query: dns.message.Message, size: int) -> bytes:
    """A text as large as one can be."""
    return _with(query, size, "TXT", " ".join(f'"{"v=spf1 a " * 28}"' for _ in range(230)))


def _many(query: dns.message.Message, size: int) -> bytes:
    """Thousands of addresses and exchangers, all different."""
    if query.question[0].rdtype == dns.rdatatype.MX:
        return _with(query, size, "MX", *(f"{n} h{n}.many.example." for n in range(1000)))
    addresses = (f"192.0.{n >> 8}.{n & 255}" for n in range(3000))
    return _with(query, size, "A", *addresses)


def _cut(query: dns.message.Message, _size: int) -> bytes:
    """A record that ends behind the end."""
    rtype = int(query.question[0].rdtype).to_bytes(2)
    return _raw(query, b"\0\1\0\0\0\0", b"\xc0\x0c" + rtype + b"\0\1\0\0\0\x3c\xff\xff")


def _garbage(query: dns.message.Message, _size: int) -> bytes:
    return _question(query)[:12] + random.randbytes(300)


KINDS: Final[dict[str, Answer]] = {
    "silent": lambda query, size: b"",
    "stalled": _stalled,
    "servfail": _code(dns.rcode.SERVFAIL),
    "refused": _code(dns.rcode.REFUSED),
    "formerr": _code(dns.rcode.FORMERR),
    "nothing": _code(dns.rcode.NXDOMAIN),
    "loop": _loop,
    "chain": _chain,
    "pointers": _pointers,
    "texts": _texts,
    "text": _text,
    "many": _many,
    "truncated": _truncated,
    "counts": lambda query, size: _raw(query, b"\xff" * 6, b""),
    "cut": _cut,
    "garbage": _garbage,
}

SLOW: Final = frozenset({"silent", "stalled", "garbage"})
"""Those without an answer that is one; they take as long as the resolver waits."""


class HostileNameServer(BackgroundNameServer):
    """The name server."""

    def answer(self, data: bytes, size: int) -> bytes:
        """The answer; empty for none."""
        query = dns.message.from_wire(data)
        for label in query.question[0].name.labels:
            kind = KINDS.get(label.decode("ascii", "replace"))
            if kind is not None:
                return kind(query, size)
        return super().answer(data, size)

    def start(self) -> HostileNameServer:
        """Listen, on one port for UDP and TCP."""
        self.tweak = lambda data: [data] if data else []
        super().start()
        return self

    def _serve_tcp(self) -> None:
        while True:
            try:
                connection, _ = self._tcp.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(60)
        with connection, connection.makefile("rb") as file, contextlib.suppress(OSError):
            while size := file.read(2):
                answer = self.answer(file.read(int.from_bytes(size)), 65535)
                if answer == _STALL:
                    connection.sendall(b"\0")
                else:
                    connection.sendall(len(answer).to_bytes(2) + answer)
