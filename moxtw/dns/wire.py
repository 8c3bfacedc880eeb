"""DNS messages: queries made, answers recognised and read (RFC 1035 4, RFC 6891).

An answer may come from anywhere, and reading one must not hold up the server. So only what
is asked for is read, each name once, and only so many records: the longest and worst message
takes some milliseconds. (dnspython, whose reader takes seconds for such ones, reads the data
of types that have no reader here.)
"""

from __future__ import annotations

import ipaddress
import re
import struct
from collections.abc import Callable
from typing import Any

import dns.rdata
import dns.rdataclass
import dns.rdatatype

from moxtw.dns.resolver import (
    MX,
    SRV,
    TLSA,
    Answer,
    BadAnswer,
    CNAMEError,
    DNSError,
    NoData,
    NXDomain,
    ServFail,
)

# Fits a packet of any path without fragments, as agreed on for the DNS flag day 2020.
UDP_SIZE = 1232

# Only the first records of a section are looked at; of a set of records only so many used.
MAX_READ = 1000
MAX_RECORDS = 256
_MAX_CHAIN = 16

_IN = 1
_NS, _CNAME, _SOA, _OPT = 2, 5, 6, 41
_NOERROR, _FORMERR, _NXDOMAIN, _NOTIMP, _BADVERS = 0, 1, 3, 4, 16
_RCODES = {1: "FORMERR", 2: "SERVFAIL", 4: "NOTIMP", 5: "REFUSED", 9: "NOTAUTH", 16: "BADVERS"}
_RD, _RA, _AD, _TC, _AA = 0x0100, 0x0080, 0x0020, 0x0200, 0x0400
_EDE = 15  # RFC 8914 2

# Root name, type OPT, our UDP size, no flags: no DO, as we do not read signatures. The AD
# bit in the query asks for the AD bit in the answer (RFC 6840 5.7).
_EDNS = struct.pack("!BHHIH", 0, _OPT, UDP_SIZE, 0, 0)

_RECORD = struct.Struct("!HHIH")

# What is in a label as it is; other octets are escaped, as in master files (RFC 1035 5.1).
_PLAIN = re.compile(rb"[!-\-/-\[\]-~]+")

_numbers: dict[str, int] = {}


class NoEDNS(Exception):
    """The server does not understand EDNS: ask it again without."""


class _Damaged(Exception):
    """A message does not have the form that it should have."""


def rtype_number(rtype: str) -> int:
    """Number of a record type. Raises ValueError for an unknown one."""
    number = _numbers.get(rtype)
    if number is None:
        try:
            number = int(dns.rdatatype.from_text(rtype))
        except (dns.rdatatype.UnknownRdatatype, ValueError) as exc:
            raise ValueError(f"unknown dns record type {rtype!r}") from exc
        if len(_numbers) < 1000:
            _numbers[rtype] = number
    return number


def make_query(ident: int, name: str, rtype: str, *, edns: bool = True) -> bytes:
    """A query for the records of an absolute name, recursion desired.

    The name is in the form of ``resolver.absolute``, and ``ident`` 16 bits.
    """
    parts = [struct.pack("!6H", ident, _RD | _AD, 1, 0, 0, 1 if edns else 0)]
    for label in name.encode("ascii").split(b"."):
        if label:
            parts += (bytes((len(label),)), label)
    parts.append(struct.pack("!BHH", 0, rtype_number(rtype), _IN))
    if edns:
        parts.append(_EDNS)
    return b"".join(parts)


def is_answer(query: bytes, data: bytes) -> bool:
    """Whether a message answers a query: the same id and question (RFC 5452 9.1)."""
    if len(data) < 12 or data[:2] != query[:2] or not data[2] & 0x80:
        return False
    end = len(query) - 4 - (len(_EDNS) if query[11] else 0)  # of the name
    if data[4:6] == b"\0\1":
        same_name = data[12:end].lower() == query[12:end].lower()
        return same_name and data[end : end + 4] == query[end : end + 4]
    # Some servers leave the question out when they do not understand the query at all.
    return data[4:6] == b"\0\0" and data[3] & 0x0F in (_FORMERR, _NOTIMP)


def is_truncated(data: bytes) -> bool:
    """Whether the answer did not fit in a datagram (RFC 1035 4.1.1)."""
    return bool(data[2] & 0x02)


def read_answer(
    data: bytes, name: str, rtype: str, *, trusted: bool, edns: bool = True
) -> tuple[Answer[Any] | DNSError, str | None]:
    """Read a message for which ``is_answer`` is true.

    Returns the answer, or the error that it amounts to, to be raised. With type CNAME only
    the name itself is looked at, otherwise CNAMEs are followed within the answer; where
    they lead out of it, the second item names the target that is to be looked up, and the
    answer has no records. ``trusted``: whether the AD bit counts. ``edns``: whether the
    query had EDNS. Raises NoEDNS.
    """
    try:
        return _read(_Message(data, rtype_number(rtype)), name, rtype, trusted, edns)
    except (_Damaged, struct.error, IndexError) as exc:
        return BadAnswer(name, rtype, f"bad dns answer: {exc}"), None


def _read(
    message: _Message, name: str, rtype: str, trusted: bool, edns: bool
) -> tuple[Answer[Any] | DNSError, str | None]:
    rcode = message.rcode
    if edns and rcode in (_FORMERR, _NOTIMP, _BADVERS):
        raise NoEDNS
    if rcode not in (_NOERROR, _NXDOMAIN):
        text = f"dns server failure ({_RCODES.get(rcode, rcode)})"
        return ServFail(name, rtype, text, extended=message.extended), None
    authentic = trusted and bool(message.flags & _AD)

    owner = message.owner
    ttl = 0x7FFFFFFF
    for _ in range(_MAX_CHAIN):
        if found := message.wanted.get(owner):
            convert = _CONVERT.get(rtype)
            records = tuple(
                convert(message, start, end) if convert else _other(message, start, end)
                for start, end, _ in found[:MAX_RECORDS]
            )
            ttl = min(ttl, *(each[2] for each in found))
            return Answer(records, authentic, ttl), None
        alias = message.aliases.get(owner) if rtype != "CNAME" else None
        if alias is None:
            break
        start, end, alias_ttl = alias
        owner = _name(message, start, end)
        ttl = min(ttl, alias_ttl)
    else:
        return CNAMEError(name, rtype), None

    negative = message.negative_ttl
    if owner != message.owner and negative is None and rcode == _NOERROR:
        return Answer((), authentic, ttl), owner
    if negative is None and message.refers and not message.flags & (_AA | _RA):
        return ServFail(name, rtype, "dns server does not resolve, but refers to others"), None
    kind = NXDomain if rcode == _NXDOMAIN else NoData
    return kind(name, rtype, authentic=authentic, ttl=negative or 0), None


class _Message:
    """A message, read as far as an answer of one type asks for it.

    ``wanted`` has, by owner, the records of the type: (start, end, ttl), the bounds being
    those of their data; ``aliases`` the first CNAME by owner. ``negative_ttl`` is None
    without an SOA record.
    """

    def __init__(self, data: bytes, number: int) -> None:
        self.data = data
        self.number = number
        self._names: dict[int, tuple[str, int]] = {}
        _, self.flags, questions, answers, authority, additional = struct.unpack_from("!6H", data)
        self.rcode = self.flags & 0x0F
        self.owner = "."
        self.wanted: dict[str, list[tuple[int, int, int]]] = {}
        self.aliases: dict[str, tuple[int, int, int]] = {}
        self.negative_ttl: int | None = None
        self.refers = False
        self.extended: tuple[int, str] | None = None
        at = 12
        if questions:
            self.owner, at = self.name(at)
            at += 4
        for index in range(answers):
            if index == MAX_READ:
                return  # the rest of the message is not looked at either
            at = self._answer(at)
        for index in range(authority + additional):
            if index == MAX_READ:
                return
            at = self._other(at, index < authority)

    def _record(self, at: int) -> tuple[int, int, int, int, int]:
        """Type, class, TTL, start and end of data, of the record whose name ends at ``at``."""
        rtype, rclass, ttl, size = _RECORD.unpack_from(self.data, at)
        start = at + _RECORD.size
        if start + size > len(self.data):
            raise _Damaged("record cut short")
        # RFC 2181 8: with the highest bit set it counts as 0.
        return rtype, rclass, ttl if ttl < 0x80000000 else 0, start, start + size

    def _answer(self, at: int) -> int:
        after = self.skip_name(at)
        rtype, rclass, ttl, start, end = self._record(after)
        if rclass == _IN and rtype in (self.number, _CNAME):
            owner, _ = self.name(at)
            if rtype == self.number:
                self.wanted.setdefault(owner, []).append((start, end, ttl))
            else:
                self.aliases.setdefault(owner, (start, end, ttl))
        return end

    def _other(self, at: int, authority: bool) -> int:
        rtype, rclass, ttl, start, end = self._record(self.skip_name(at))
        if authority:
            if rtype == _SOA and rclass == _IN and self.negative_ttl is None:
                # RFC 2308 5: the lower of the SOA's own TTL and its MINIMUM field.
                numbers = self.skip_name(self.skip_name(start))
                if numbers + 20 != end:
                    raise _Damaged("SOA record cut short")
                (minimum,) = struct.unpack_from("!I", self.data, end - 4)
                self.negative_ttl = min(ttl, minimum)
            elif rtype == _NS:
                self.refers = True
        elif rtype == _OPT:
            extended_flags = int.from_bytes(self.data[start - 6 : start - 2])
            self.rcode |= (extended_flags >> 24) << 4
            self._options(start, end)
        return end

    def _options(self, at: int, end: int) -> None:
        while at + 4 <= end and self.extended is None:
            code, size = struct.unpack_from("!2H", self.data, at)
            value = self.data[at + 4 : min(at + 4 + size, end)]
            if code == _EDE and len(value) >= 2:
                text = value[2:202].rstrip(b"\0").decode("utf-8", "backslashreplace")
                self.extended = int.from_bytes(value[:2]), text
            at += 4 + size

    def skip_name(self, at: int) -> int:
        """Where a name ends, without reading it."""
        data = self.data
        start = at
        while True:
            size = data[at]
            if size == 0:
                return at + 1
            if size >= 0xC0:
                return at + 2
            at += 1 + size
            if size > 63 or at - start > 255:
                raise _Damaged("bad name")

    def name(self, at: int) -> tuple[str, int]:
        """Text of the name that begins at ``at``, and where it ends there."""
        text, _ = self._read_name(at)
        return text, self.skip_name(at)

    def _read_name(self, at: int) -> tuple[str, int]:
        """Text and length on the wire, uncompressed, of a name."""
        known = self._names.get(at)
        if known is not None:
            return known
        data = self.data
        start = segment = at
        labels: list[str] = []
        length = 1
        rest = ""
        while size := data[at]:
            if size >= 0xC0:
                target = (size & 0x3F) << 8 | data[at + 1]
                # Always backwards, so that it ends.
                if target >= segment or target < 12:
                    raise _Damaged("bad compression pointer")
                known = self._names.get(target)
                if known is not None:
                    rest = known[0] if known[0] != "." else ""
                    length += known[1] - 1
                    break
                at = segment = target
                continue
            label = data[at + 1 : at + 1 + size]
            if size > 63 or len(label) < size:
                raise _Damaged("bad label")
            labels.append(label.decode("ascii") if _PLAIN.fullmatch(label) else _escaped(label))
            length += 1 + size
            if length > 255:
                break
            at += 1 + size
        if length > 255:
            raise _Damaged("name too long")
        text = ("".join(f"{label}." for label in labels) + rest).lower() or "."
        self._names[start] = text, length
        return text, length


def _escaped(label: bytes) -> str:
    parts = []
    for octet in label:
        if octet in b".\\":
            parts.append("\\" + chr(octet))
        elif 0x20 < octet < 0x7F:
            parts.append(chr(octet))
        else:
            parts.append(f"\\{octet:03d}")
    return "".join(parts)


# Readers of record data, from start to end.


def _name(message: _Message, start: int, end: int) -> str:
    text, after = message.name(start)
    if after != end:
        raise _Damaged("name does not fill its record")
    return text


def _a(message: _Message, start: int, end: int) -> str:
    if end - start != 4:
        raise _Damaged("bad A record")
    return ".".join(map(str, message.data[start:end]))


def _aaaa(message: _Message, start: int, end: int) -> str:
    if end - start != 16:
        raise _Damaged("bad AAAA record")
    return str(ipaddress.IPv6Address(message.data[start:end]))


def _mx(message: _Message, start: int, end: int) -> MX:
    (preference,) = struct.unpack_from("!H", message.data, start)
    return MX(preference, _name(message, start + 2, end))


def _srv(message: _Message, start: int, end: int) -> SRV:
    priority, weight, port = struct.unpack_from("!3H", message.data, start)
    return SRV(priority, weight, port, _name(message, start + 6, end))


def _tlsa(message: _Message, start: int, end: int) -> TLSA:
    if end - start < 3:
        raise _Damaged("bad TLSA record")
    usage, selector, match = message.data[start : start + 3]
    return TLSA(usage, selector, match, message.data[start + 3 : end])


def _txt(message: _Message, start: int, end: int) -> str:
    data = message.data
    strings = []
    while start < end:
        after = start + 1 + data[start]
        if after > end:
            raise _Damaged("bad TXT record")
        strings.append(data[start + 1 : after])
        start = after
    # Nearly always ASCII. UTF-8 is read as such, other octets are shown escaped.
    return b"".join(strings).decode("utf-8", "backslashreplace")


def _other(message: _Message, start: int, end: int) -> str:
    try:
        rdata = dns.rdata.from_wire(
            dns.rdataclass.IN,
            dns.rdatatype.RdataType.make(message.number),
            message.data,
            start,
            end - start,
        )
        return str(rdata.to_text())
    except Exception as exc:  # noqa: BLE001
        # Its own exceptions and, for rarer damage, many a built-in one.
        raise _Damaged(f"{type(exc).__name__}: {exc}") from exc


_CONVERT: dict[str, Callable[[_Message, int, int], Any]] = {
    "A": _a,
    "AAAA": _aaaa,
    "CNAME": _name,
    "NS": _name,
    "PTR": _name,
    "MX": _mx,
    "SRV": _srv,
    "TLSA": _tlsa,
    "TXT": _txt,
    "SPF": _txt,
}
