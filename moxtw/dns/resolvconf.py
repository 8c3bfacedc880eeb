"""Which servers to ask: ``/etc/resolv.conf`` (resolv.conf(5)), or configured addresses."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

PATH = "/etc/resolv.conf"

# resolv.conf(5) takes three; a few more do no harm.
MAX_SERVERS = 8
_MAX_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Server:
    """A recursive resolver. ``trusted``: whether its word on DNSSEC (the AD bit) counts."""

    ip: str
    port: int = 53
    trusted: bool = False

    @property
    def loopback(self) -> bool:
        """Whether it runs on this machine."""
        return ipaddress.ip_address(self.ip.partition("%")[0]).is_loopback


@dataclass(frozen=True, slots=True)
class ResolvConf:
    """Servers in the order to try them, seconds to wait for one, rounds over all of them."""

    servers: tuple[Server, ...]
    timeout: float = 5.0
    attempts: int = 2


def parse_server(text: str, *, trusted: bool = False) -> Server:
    """Read ``ip``, ``ip:port`` or ``[ip6]:port``. Raises ValueError."""
    host, port = text.strip(), 53
    if host.startswith("["):
        host, _, rest = host[1:].partition("]")
        if rest:
            port = _port(rest.removeprefix(":")) if rest.startswith(":") else _port("")
    elif host.count(":") == 1:
        host, _, digits = host.partition(":")
        port = _port(digits)
    # The scope of a link local address stays in: sockets need it.
    address, percent, scope = host.partition("%")
    return Server(str(ipaddress.ip_address(address)) + percent + scope, port, trusted)


def _port(digits: str) -> int:
    if not (digits.isascii() and digits.isdigit() and 0 < int(digits) < 65536):
        raise ValueError(f"bad port {digits!r}")
    return int(digits)


def configured(resolvers: Iterable[str]) -> ResolvConf:
    """Servers that the operator named for this program: their word on DNSSEC counts.

    Raises ValueError.
    """
    return ResolvConf(tuple(parse_server(text, trusted=True) for text in resolvers))


def parse(text: str) -> ResolvConf:
    """Read the text of a resolv.conf.

    ``nameserver`` and the options timeout, attempts and trust-ad count; EDNS0 is always
    used, and search lists never (all names are absolute). Lines that make no sense are
    passed over, as the C library does. Without servers, the one on this machine is asked.
    AD bits are believed from servers on loopback, and with trust-ad from all.
    """
    addresses: list[str] = []
    timeout, attempts, trust_ad = 5, 2, False
    for line in text.splitlines():
        words = line.split()
        if not words or words[0][0] in "#;":
            continue
        if words[0] == "nameserver" and len(words) > 1:
            addresses.append(words[1])
        elif words[0] == "options":
            for option in words[1:]:
                name, _, value = option.partition(":")
                number = int(value) if value.isascii() and value.isdigit() else 0
                if name == "timeout" and number:
                    timeout = min(number, 30)
                elif name == "attempts" and number:
                    attempts = min(number, 5)
                elif name == "trust-ad":
                    trust_ad = True
    servers: list[Server] = []
    for address in addresses:
        try:
            server = parse_server(f"[{address}]")
        except ValueError:
            continue
        server = Server(server.ip, 53, trust_ad or server.loopback)
        if server not in servers:
            servers.append(server)
    if not servers:
        servers = [Server("127.0.0.1", 53, trusted=True)]
    return ResolvConf(tuple(servers[:MAX_SERVERS]), float(timeout), attempts)


def read(path: str | Path = PATH) -> ResolvConf:
    """Read a resolv.conf; one that is missing or unreadable counts as empty. Blocks."""
    try:
        with open(path, "rb") as file:
            data = file.read(_MAX_BYTES)
    except OSError:
        data = b""
    return parse(data.decode("utf-8", "replace"))
