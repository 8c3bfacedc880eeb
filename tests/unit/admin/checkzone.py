"""A zone made of the records that are suggested for a domain."""

from __future__ import annotations

from typing import Any

import dns.rdatatype
import dns.zone

from moxtw.admin import dnsrecords
from moxtw.dns.fake import ZoneResolver


def zone_of(lines: list[str]) -> dict[str, dict[str, list[Any]]]:
    """The records of lines of a zone file, for ZoneResolver."""
    found: dict[str, dict[str, list[Any]]] = {}
    text = "$TTL 300\n" + "\n".join(dnsrecords.records_only(lines)) + "\n"
    zone = dns.zone.from_text(text, origin=".", relativize=False, check_origin=False)
    for name, _, rdata in zone.iterate_rdatas():
        kind = dns.rdatatype.to_text(rdata.rdtype)
        value: Any = rdata.to_text()
        if kind == "TXT":
            value = b"".join(rdata.strings).decode()
        elif kind == "MX":
            value = (rdata.preference, rdata.exchange.to_text())
        elif kind == "SRV":
            value = (rdata.priority, rdata.weight, rdata.port, rdata.target.to_text())
        elif kind == "TLSA":
            value = (rdata.usage, rdata.selector, rdata.mtype, rdata.cert)
        found.setdefault(name.to_text(), {}).setdefault(kind, []).append(value)
    return found


def good_resolver(lines: list[str], **addresses: list[str]) -> ZoneResolver:
    """What others see when all is as suggested; keyword arguments are for mail.example.org."""
    zones = zone_of(lines)
    zones["com."] = {"NS": ["a.gtld-servers.net."]}
    for rtype, ips in addresses.items():
        zones.setdefault("mail.example.org.", {})[rtype] = ips
    resolver = ZoneResolver(zones, authentic=True)
    for ips in addresses.values():
        for ip in ips:
            from moxtw.dns.resolver import reverse_name

            resolver.add(reverse_name(ip), "PTR", "mail.example.org.")
    return resolver
