"""Which addresses a new server listens on, by those of the machine and those of its name."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

from moxtw.net.interfaces import IPAddress, is_private


@dataclass(frozen=True, slots=True)
class Placement:
    """Addresses of listeners.

    listen: for others to connect to. outside: how others see these, the same unless there is
    NAT. nat: whether there is; unknown_nat: and what is outside is not known. internal: for
    this machine only. problems: what does not fit together, for people.
    """

    listen: tuple[str, ...]
    outside: tuple[str, ...]
    internal: tuple[str, ...] = ("127.0.0.1",)
    nat: bool = False
    unknown_nat: bool = False
    problems: tuple[str, ...] = ()


class NoAddress(ValueError):
    """There is no address to listen on; says why."""


def is_public(address: IPAddress) -> bool:
    """Whether an address may be reached from anywhere."""
    return not (
        is_private(address)
        or address.is_loopback
        or address.is_link_local
        or address.is_unspecified
        or address.is_multicast
    )


def place(
    machine: Sequence[IPAddress],
    host: Sequence[str],
    named: Sequence[str] = (),
) -> Placement:
    """Decide on addresses.

    machine: the addresses of interfaces. host: those that DNS has for the hostname. named: what
    to listen on, if that was said; else it is, for IPv4 and for IPv6, what DNS has and the
    machine too, else its public addresses, else its private ones: those are behind NAT. Raises
    NoAddress.
    """
    mine = dict.fromkeys(a for a in machine if not (a.is_loopback or a.is_link_local))
    theirs = [ipaddress.ip_address(ip) for ip in host]
    given = [ipaddress.ip_address(ip) for ip in named]
    listen: list[IPAddress] = []
    outside: list[IPAddress] = []
    problems: list[str] = []
    nat = False
    for version in (4, 6):
        own = given if named else mine
        own_v = [address for address in own if address.version == version]
        host_v = [a for a in theirs if a.version == version and not a.is_loopback]
        here = own_v if named else [address for address in own_v if address in host_v]
        public = [address for address in own_v if is_public(address)]
        elsewhere = [address for address in host_v if address not in own_v]
        if elsewhere and own_v and not public and not set(host_v) & set(own_v):
            nat = True
            listen += own_v
            outside += elsewhere
            continue
        chosen = here or public
        listen += chosen
        outside += chosen
        if elsewhere:
            problems.append(
                f"DNS leads to {_listed(elsewhere)}, which this machine does not have"
                + (f": it has {_listed(own_v)}" if own_v else "")
                + ". Mail that goes there does not arrive here."
            )
        if missing := [address for address in chosen if theirs and address not in theirs]:
            problems.append(f"DNS does not lead to {_listed(missing)}: mail may go out from there.")
    unknown_nat = False
    if not listen:
        listen = [address for address in mine if is_private(address)]
        outside = []
        # Without a public address here or in DNS, others come through NAT, if at all.
        nat = unknown_nat = True
    if not listen:
        raise NoAddress("this machine has no address but for itself (loopback)")
    return Placement(
        listen=_texts(listen),
        outside=_texts(outside),
        internal=_internal(machine),
        nat=nat,
        unknown_nat=unknown_nat,
        problems=tuple(problems),
    )


def _internal(machine: Sequence[IPAddress]) -> tuple[str, ...]:
    loopback = [ip for ip in ("127.0.0.1", "::1") if ipaddress.ip_address(ip) in machine]
    return tuple(loopback) or ("127.0.0.1",)


def _texts(addresses: Sequence[IPAddress]) -> tuple[str, ...]:
    return tuple(str(address) for address in addresses)


def _listed(addresses: Sequence[IPAddress]) -> str:
    return ", ".join(_texts(addresses))
