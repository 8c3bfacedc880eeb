"""The addresses that this server has, by its configuration."""

from __future__ import annotations

from moxtw.config.static import Listener, Static
from moxtw.net import interfaces
from moxtw.net.interfaces import IPAddress


def _outside(listener: Listener) -> tuple[IPAddress, ...]:
    """The addresses of a listener as others see them."""
    return listener.nat_ip_addresses or listener.ip_addresses


def behind_unknown_nat(static: Static) -> bool:
    """Whether mail arrives at addresses that the configuration does not know."""
    return any(each.smtp.enabled and each.ips_nated for each in static.listeners.values())


def behind_nat(static: Static) -> bool:
    """Whether mail arrives at addresses that are not those of this machine."""
    return any(
        each.smtp.enabled and (each.ips_nated or bool(each.nat_ip_addresses))
        for each in static.listeners.values()
    )


def listen_ips(static: Static) -> list[str]:
    """All addresses at which others may reach listeners.

    For listeners on all addresses (0.0.0.0, ::) those of the interfaces. Empty if there is a
    listener behind NAT whose public addresses are not known. Raises OSError.
    """
    found: dict[str, None] = {}
    families: set[int] = set()
    for listener in static.listeners.values():
        if listener.ips_nated:
            return []
        for address in _outside(listener):
            if address.is_unspecified:
                # In practice :: takes IPv4 as well.
                families.update((4, 6) if address.version == 6 else (4,))
            else:
                found[str(address)] = None
    if families:
        for address in interfaces.addresses():
            if address.version in families:
                found[str(address)] = None
    return list(found)


def smtp_ips(static: Static) -> list[str]:
    """The addresses named in the configuration that mail arrives at and goes out from."""
    found: dict[str, None] = {}
    for listener in static.listeners.values():
        if not listener.smtp.enabled or listener.ips_nated:
            continue
        for address in _outside(listener):
            if not address.is_unspecified:
                found[str(address)] = None
    return list(found)
