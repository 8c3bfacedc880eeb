"""A resolver over a dict of zone records: for tests, here and in programs built on moxtw.

::

    resolver = ZoneResolver(
        {
            "example.org.": {
                "MX": [(10, "mail.example.org.")],
                "TXT": ["v=spf1 mx -all"],
            },
            "mail.example.org.": {"A": ["192.0.2.1"], "AAAA": ["2001:db8::1"]},
            "www.example.org.": {"CNAME": ["mail.example.org."]},
            "1.2.0.192.in-addr.arpa.": {"PTR": ["mail.example.org."]},
        },
        authentic=["example.org.", ("mail.example.org.", "A")],
        fail={("broken.example.", "TXT"): "servfail", "slow.example.": "timeout"},
    )

It answers at once, follows CNAMEs as a recursive resolver does, and remembers in ``asked``
what it was asked. The dicts may be changed between lookups.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any

from moxtw.dns.resolver import (
    MX,
    SRV,
    TLSA,
    Answer,
    BadAnswer,
    CNAMEError,
    DNSError,
    NoData,
    NotFound,
    NXDomain,
    ServFail,
    Timeout,
    absolute,
    special,
)

Key = str | tuple[str, str]
_MAX_CHAIN = 16
_FAILURES = {"servfail": ServFail, "timeout": Timeout, "badanswer": BadAnswer}


class ZoneResolver:
    """Answers lookups from ``zones``, name to type to records, as in the module's example.

    ``authentic`` names what DNSSEC vouches for: True for everything, or a collection of
    names and of (name, type) pairs, existing or not. ``fail`` maps a name, or a (name,
    type) pair, to ``"servfail"``, ``"timeout"``, ``"badanswer"``, or an exception to raise.
    Names may be written with or without final dot, records as tuples or as the types of
    ``moxtw.dns.resolver``. ``ttl`` is that of all answers, in seconds.
    """

    def __init__(
        self,
        zones: Mapping[str, Mapping[str, Iterable[Any]]] | None = None,
        *,
        authentic: bool | Iterable[Key] = (),
        fail: Mapping[Key, str | DNSError] | None = None,
        ttl: int = 300,
    ) -> None:
        self.zones: dict[str, dict[str, list[Any]]] = {}
        for name, types in (zones or {}).items():
            for rtype, records in types.items():
                self.add(name, rtype, *records)
            self.zones.setdefault(absolute(name), {})
        self.all_authentic = authentic is True
        self.authentic: set[Key] = (
            set() if isinstance(authentic, bool) else {_key(key) for key in authentic}
        )
        self.fail: dict[Key, str | DNSError] = {
            _key(key): failure for key, failure in (fail or {}).items()
        }
        self.ttl = ttl
        self.asked: list[tuple[str, str]] = []

    def add(self, name: str, rtype: str, *records: Any) -> None:
        """Add records of one type to a name."""
        present = self.zones.setdefault(absolute(name), {}).setdefault(rtype.upper(), [])
        present.extend(_record(rtype.upper(), record) for record in records)

    async def lookup(self, name: str, rtype: str) -> Answer[Any]:
        """Look up records; see ``moxtw.dns.resolver.Resolver``."""
        rtype = rtype.upper()
        asked = name = absolute(name, rtype)
        self.asked.append((name, rtype))
        authentic = True
        for _ in range(_MAX_CHAIN):
            self._maybe_fail(name, rtype)
            authentic = authentic and self._is_authentic(name, rtype)
            types = self.zones.get(name)
            if types is None:
                known = special(name, rtype)
                if isinstance(known, Answer):
                    return known
                if isinstance(known, NotFound):
                    raise known
                # A name above an existing one exists too, without records (RFC 8020).
                kind = NoData if self._has_below(name) else NXDomain
                raise kind(asked, rtype, authentic=authentic, ttl=self.ttl)
            if records := types.get(rtype):
                return Answer(tuple(records), authentic, self.ttl)
            if rtype == "CNAME" or not types.get("CNAME"):
                raise NoData(asked, rtype, authentic=authentic, ttl=self.ttl)
            name = absolute(types["CNAME"][0], rtype)
        raise CNAMEError(asked, rtype)

    def _maybe_fail(self, name: str, rtype: str) -> None:
        failure = self.fail.get((name, rtype)) or self.fail.get(name)
        if isinstance(failure, DNSError):
            raise failure
        if failure is not None:
            raise _FAILURES[failure](name, rtype)

    def _is_authentic(self, name: str, rtype: str) -> bool:
        return self.all_authentic or name in self.authentic or (name, rtype) in self.authentic

    def _has_below(self, name: str) -> bool:
        return any(other.endswith("." + name) for other in self.zones)


def _key(key: Key) -> Key:
    return absolute(key) if isinstance(key, str) else (absolute(key[0]), key[1].upper())


def _record(rtype: str, record: Any) -> Any:
    match rtype:
        case "A" | "AAAA":
            return str(ipaddress.ip_address(record))
        case "CNAME" | "NS" | "PTR":
            return absolute(record)
        case "MX":
            return MX(int(record[0]), absolute(record[1]))
        case "SRV":
            priority, weight, port, target = record
            return SRV(int(priority), int(weight), int(port), absolute(target))
        case "TLSA":
            usage, selector, match, data = record
            data = bytes.fromhex(data) if isinstance(data, str) else bytes(data)
            return TLSA(int(usage), int(selector), int(match), data)
    return record
