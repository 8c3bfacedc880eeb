"""The IP addresses of this machine's network interfaces (getifaddrs(3))."""

from __future__ import annotations

import ctypes
import ctypes.util
import ipaddress
import os
import socket
from dataclasses import dataclass
from typing import Any, Final

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_IFF_UP: Final = 1
_MAX_ADDRESSES: Final = 10_000


class _SockAddr(ctypes.Structure):
    """The beginning that all kinds of socket address share."""

    _fields_ = (("family", ctypes.c_uint16), ("data", ctypes.c_uint8 * 26))


class _IfAddrs(ctypes.Structure):
    """struct ifaddrs, as far as it is needed."""


_IfAddrs._fields_ = (
    ("next", ctypes.POINTER(_IfAddrs)),
    ("name", ctypes.c_char_p),
    ("flags", ctypes.c_uint),
    ("address", ctypes.POINTER(_SockAddr)),
)


@dataclass(frozen=True, slots=True)
class Addresses:
    """Addresses by kind: for everybody, for a private network, for this machine only."""

    public: tuple[str, ...] = ()
    private: tuple[str, ...] = ()
    loopback: tuple[str, ...] = ()


def addresses() -> list[IPAddress]:
    """The addresses of interfaces that are up, each once, link-local ones left out.

    Raises OSError.
    """
    libc = ctypes.CDLL(ctypes.util.find_library("c"), use_errno=True)
    head = ctypes.POINTER(_IfAddrs)()
    if libc.getifaddrs(ctypes.byref(head)) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    found: dict[IPAddress, None] = {}
    try:
        entry: Any = head
        for _ in range(_MAX_ADDRESSES):
            if not entry:
                break
            item = entry.contents
            entry = item.next
            if not item.address or not item.flags & _IFF_UP:
                continue
            address = _address(item.address.contents)
            if address is not None and not address.is_link_local:
                found[address] = None
    finally:
        libc.freeifaddrs(head)
    return list(found)


def _address(raw: _SockAddr) -> IPAddress | None:
    data = bytes(raw.data)
    if raw.family == socket.AF_INET:  # port, then address
        return ipaddress.IPv4Address(data[2:6])
    if raw.family == socket.AF_INET6:  # port, flow, then address
        return ipaddress.IPv6Address(data[6:22])
    return None


def by_kind(found: list[IPAddress]) -> Addresses:
    """Sort addresses into kinds; IPv4 before IPv6, otherwise in their order."""
    public, private, loopback = [], [], []
    for address in sorted(found, key=lambda address: address.version):
        if address.is_loopback:
            loopback.append(str(address))
        elif is_private(address):
            private.append(str(address))
        else:
            public.append(str(address))
    return Addresses(tuple(public), tuple(private), tuple(loopback))


_PRIVATE: Final = tuple(
    map(
        ipaddress.ip_network,
        # RFC 1918 3, RFC 6598 7 (networks of providers behind NAT), RFC 4193 3.1.
        ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7"),
    )
)


def is_private(address: IPAddress) -> bool:
    """Whether an address only means something in a private network."""
    return any(address.version == net.version and address in net for net in _PRIVATE)
