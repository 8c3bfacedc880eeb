"""The interface of a resolver, its answers and errors, and helpers over any resolver.

Everything that asks the DNS takes a ``Resolver``: the stub resolver of ``moxtw.dns.client``
in the running server, ``moxtw.dns.fake.ZoneResolver`` in tests.

Names are absolute, always: the final dot may be left out, a search list is never applied.
U-labels are turned into A-labels (RFC 5891). Names inside answers are A-labels in lower case
*with* the final dot; the root, as in a null MX (RFC 7505), is ``"."``.

What ``Answer.records`` holds, by type:

===============  ==============================================================
A, AAAA          ``str``, canonical text of the address
CNAME, NS, PTR   ``str``, a name
MX               ``MX(preference, host)``
TXT, SPF         ``str``, the strings of one record joined (RFC 7208 3.3)
SRV              ``SRV(priority, weight, port, target)``
TLSA             ``TLSA(usage, selector, match, data)``
any other        ``str``, the record in master file form
===============  ==============================================================
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import idna
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.defer import TimeoutError as WaitedTooLong

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

# How many CNAMEs are followed: for the domain of a recipient, and for a mail host.
MAX_CNAMES_DOMAIN = 15
MAX_CNAMES_HOST = 11

# RFC 8914 5: the codes that speak of DNSSEC: unsupported algorithms (1, 2), indeterminate
# and bogus (5, 6), expired, not yet valid, missing keys and signatures, NSEC (7 to 12).
_DNSSEC_CODES = frozenset({1, 2, *range(5, 13)})

# RFC 8914 4.
_EXTENDED_NAMES = (
    "other",
    "unsupported-dnskey-algorithm",
    "unsupported-ds-digest-type",
    "stale-answer",
    "forged-answer",
    "dnssec-indeterminate",
    "dnssec-bogus",
    "signature-expired",
    "signature-not-yet-valid",
    "dnskey-missing",
    "rrsigs-missing",
    "no-zone-key-bit-set",
    "nsec-missing",
    "cached-error",
    "not-ready",
    "blocked",
    "censored",
    "filtered",
    "prohibited",
    "stale-nxdomain-answer",
    "not-authoritative",
    "not-supported",
    "no-reachable-authority",
    "network-error",
    "invalid-data",
)


class DNSError(Exception):
    """A lookup gave no records. ``name`` and ``rtype`` say which lookup."""

    def __init__(self, name: str, rtype: str, text: str = "") -> None:
        self.name = name
        self.rtype = rtype
        self.text = text or self.default_text
        super().__init__(f"{self.text}: {rtype} {name}")

    default_text = "dns error"


class NotFound(DNSError):
    """There are no such records. ``authentic`` tells whether DNSSEC vouches for that.

    ``ttl`` is how many seconds this may be believed (RFC 2308), 0 when unknown.
    """

    default_text = "no such dns records"

    def __init__(
        self, name: str, rtype: str, text: str = "", *, authentic: bool = False, ttl: int = 0
    ) -> None:
        super().__init__(name, rtype, text)
        self.authentic = authentic
        self.ttl = ttl


class NXDomain(NotFound):
    """The name does not exist (RFC 8020: nor does anything below it)."""

    default_text = "no such domain"


class InvalidName(NXDomain):
    """The name cannot stand in the DNS: a label or the whole too long, or empty labels."""

    default_text = "not a valid dns name"


class NoData(NotFound):
    """The name exists, but has no records of this type."""


class TemporaryError(DNSError):
    """Nothing is known about the records; it may be later.

    ``extended`` is the first extended error of the answer (RFC 8914) as code and text, or
    None; ``dnssec`` tells whether that speaks of failed validation.
    """

    default_text = "temporary dns error"

    def __init__(
        self, name: str, rtype: str, text: str = "", *, extended: tuple[int, str] | None = None
    ) -> None:
        if extended is not None:
            text = f"{text or self.default_text} (extended error {extended[0]} {extended[1]!r})"
        super().__init__(name, rtype, text)
        self.extended = extended

    @property
    def dnssec(self) -> bool:
        """Whether the resolver said that DNSSEC validation is the trouble."""
        return self.extended is not None and self.extended[0] in _DNSSEC_CODES

    @property
    def extended_name(self) -> str:
        """The extended error in one word, such as ``6-dnssec-bogus``; empty without one.

        Without the resolver's own text, which is different with each name.
        """
        if self.extended is None:
            return ""
        code = self.extended[0]
        return f"{code}-{_EXTENDED_NAMES[code]}" if code < len(_EXTENDED_NAMES) else str(code)


class ServFail(TemporaryError):
    """A server could not or would not answer (SERVFAIL, REFUSED and the like)."""

    default_text = "dns server failure"


class Timeout(TemporaryError):
    """No answer came in time."""

    default_text = "dns lookup timed out"


class BadAnswer(TemporaryError):
    """An answer came that cannot be understood, or that passes our bounds."""

    default_text = "bad dns answer"


class CNAMEError(TemporaryError):
    """A chain of CNAMEs is a loop, or too long."""

    default_text = "too many cnames"


class MX(NamedTuple):
    """Mail exchanger (RFC 1035 3.3.9); host ``"."`` is a null MX (RFC 7505)."""

    preference: int
    host: str


class SRV(NamedTuple):
    """Location of a service (RFC 2782); target ``"."`` means that there is none."""

    priority: int
    weight: int
    port: int
    target: str


class TLSA(NamedTuple):
    """Certificate association (RFC 6698 2.1)."""

    usage: int
    selector: int
    match: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Answer(Generic[T_co]):
    """Records that were found, at least one. Iterates, indexes and counts as its records.

    ``authentic`` means that DNSSEC vouches for all of it, CNAMEs on the way included;
    ``ttl`` is the number of seconds that it may be believed.
    """

    records: Sequence[T_co]
    authentic: bool = False
    ttl: int = 0

    def __iter__(self) -> Iterator[T_co]:
        return iter(self.records)

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> T_co:
        return self.records[index]


class Resolver(Protocol):
    """What can look up DNS records."""

    async def lookup(self, name: str, rtype: str) -> Answer[Any]:
        """Look up the records of type ``rtype`` (``"MX"``) of an absolute name.

        CNAMEs are followed, except for type CNAME itself. Raises ``NotFound`` when there is
        no record, ``TemporaryError`` when that could not be found out; nothing else.
        """
        ...


def for_pkg(resolver: Resolver, pkg: str) -> Resolver:
    """The same resolver, its lookups counted in metrics as those of package ``pkg``."""
    view = getattr(resolver, "for_pkg", None)
    return resolver if view is None else view(pkg)


def absolute(name: str, rtype: str = "") -> str:
    """Normal form of a name for lookups and comparisons: A-labels, lower case, final dot.

    Raises InvalidName. Only lengths are checked: the DNS itself knows no other rules (RFC
    2181 11). But control characters, and the escapes that stand for them, are refused.
    """
    if "\\" in name or not name.isprintable():
        raise InvalidName(name[:64], rtype)
    if not name.isascii():
        name = ".".join(map(_alabel, name.split("."), [name] * 256, [rtype] * 256))
    name = name.lower()
    if not name.endswith("."):
        name += "."
    if name == ".":
        return name
    # 255 octets on the wire, with a length before each label and the empty root label.
    if len(name) > 254:
        raise InvalidName(name[:64] + "...", rtype)
    for label in name[:-1].split("."):
        if not 0 < len(label) <= 63:
            raise InvalidName(name, rtype)
    return name


def _alabel(label: str, name: str, rtype: str) -> str:
    if label.isascii():
        return label
    if len(label) > 63:  # an A-label is never shorter than its U-label
        raise InvalidName(name[:64], rtype)
    try:
        return idna.alabel(label.lower()).decode("ascii")
    except (idna.IDNAError, UnicodeError) as exc:
        raise InvalidName(name[:64], rtype, f"not a valid dns name ({exc})") from exc


def reverse_name(ip: str) -> str:
    """Name under in-addr.arpa. or ip6.arpa. for an address (RFC 1035 3.5, RFC 3596 2.5)."""
    return ipaddress.ip_address(ip.partition("%")[0]).reverse_pointer + "."


def special(name: str, rtype: str) -> Answer[Any] | NotFound | None:
    """What is known without asking, or None (``name`` in absolute form).

    RFC 6761 6.3: names under localhost are the loopback addresses; 6.4: names under
    invalid do not exist; RFC 7686 2: nor do those under onion, in the DNS. Reverse names of
    loopback addresses lead to localhost.
    """
    top = name.rsplit(".", 2)[-2] if name != "." else ""
    if top == "localhost":
        if rtype == "A":
            return Answer(("127.0.0.1",))
        if rtype == "AAAA":
            return Answer(("::1",))
        return NoData(name, rtype)
    if top in ("invalid", "onion"):
        return NXDomain(name, rtype)
    if top == "arpa" and (name.endswith(".127.in-addr.arpa.") or name == _LOOPBACK6):
        return Answer(("localhost.",)) if rtype == "PTR" else NoData(name, rtype)
    return None


_LOOPBACK6 = ipaddress.ip_address("::1").reverse_pointer + "."


async def mx(resolver: Resolver, name: str) -> Answer[MX]:
    """Mail exchangers, by preference; equal ones stay in the order of the answer."""
    answer = await resolver.lookup(name, "MX")
    return Answer(sorted(answer.records, key=lambda r: r[0]), answer.authentic, answer.ttl)


async def txt(resolver: Resolver, name: str) -> Answer[str]:
    """TXT records, the strings of each joined."""
    return await resolver.lookup(name, "TXT")


async def txt_in_time(
    resolver: Resolver, name: str, clock: Any, seconds: float
) -> Answer[str]:
    """The same, or a DNSError after so many seconds. clock: an IReactorTime."""
    work = Deferred.fromCoroutine(txt(resolver, name))

    def expired(_: object, seconds: float) -> Answer[str]:
        raise DNSError(name, "TXT", f"no answer within {seconds:g} s")

    return await work.addTimeout(seconds, clock, expired)


async def cname(resolver: Resolver, name: str) -> Answer[str]:
    """The CNAME of exactly this name; NotFound if it has none."""
    return await resolver.lookup(name, "CNAME")


async def ns(resolver: Resolver, name: str) -> Answer[str]:
    """Name servers."""
    return await resolver.lookup(name, "NS")


async def srv(resolver: Resolver, name: str) -> Answer[SRV]:
    """Service locations, by priority, then by weight, highest first."""
    answer = await resolver.lookup(name, "SRV")
    records = sorted(answer.records, key=lambda r: (r[0], -r[1]))
    return Answer(records, answer.authentic, answer.ttl)


async def tlsa(resolver: Resolver, name: str) -> Answer[TLSA]:
    """Certificate associations of a full name (``_25._tcp.mail.example.org``)."""
    return await resolver.lookup(name, "TLSA")


async def ptr(resolver: Resolver, ip: str) -> Answer[str]:
    """Names that an address leads back to."""
    return await resolver.lookup(reverse_name(ip), "PTR")


async def ips(resolver: Resolver, name: str, families: Iterable[int] = (4, 6)) -> Answer[str]:
    """Addresses of a name, IPv4 before IPv6; ``families`` holds 4, 6 or both.

    Both types are asked for at once. With records of one type, failure to get the other is
    let pass, but then the answer is not authentic.
    """
    types = [rtype for family, rtype in ((4, "A"), (6, "AAAA")) if family in set(families)]
    if not types:
        raise NoData(name, "A")
    if len(types) == 1:
        return await resolver.lookup(name, types[0])
    lookups = [Deferred.fromCoroutine(resolver.lookup(name, rtype)) for rtype in types]
    results = await DeferredList(lookups, consumeErrors=True)
    records: list[str] = []
    authentic, ttls = True, []
    missing: list[NotFound] = []
    failed: DNSError | None = None
    for good, got in results:
        result: Any = got  # an Answer, or a Failure
        if good:
            records.extend(result.records)
            authentic = authentic and result.authentic
            ttls.append(result.ttl)
        elif isinstance(result.value, NotFound):
            missing.append(result.value)
            authentic = authentic and result.value.authentic
        elif isinstance(result.value, DNSError):
            failed = result.value
            authentic = False
        else:
            result.raiseException()
    if records:
        return Answer(records, authentic, min(ttls))
    if failed is not None:
        raise failed
    # NODATA for one type means that the name exists.
    kind = NoData if any(isinstance(exc, NoData) for exc in missing) else NXDomain
    ttl = min(exc.ttl for exc in missing)
    raise kind(name, "A/AAAA", authentic=authentic, ttl=ttl)


@dataclass(frozen=True, slots=True)
class Chain:
    """Where the CNAMEs of a name lead.

    ``names`` starts with the name itself and ends with the final one. ``first_authentic``
    is the DNSSEC status of the answer about the first name alone (that it is a CNAME, or
    that it is none), ``authentic`` that of all answers along the way.
    """

    names: tuple[str, ...]
    first_authentic: bool
    authentic: bool

    @property
    def name(self) -> str:
        """The final name, absolute."""
        return self.names[-1]


async def follow_cnames(
    resolver: Resolver, name: str, limit: int = MAX_CNAMES_DOMAIN
) -> Chain:
    """Follow the CNAMEs of a name, one lookup for each, with the DNSSEC status of each.

    A recursive resolver follows them itself, but its one AD bit tells only about all
    together, and DANE asks for the parts (RFC 7672 2.2). Raises CNAMEError for a loop or
    for more than ``limit`` of them, and whatever TemporaryError the lookups raise.
    """
    name = absolute(name, "CNAME")
    names = [name]
    first = None
    authentic = True
    while True:
        try:
            answer = await resolver.lookup(names[-1], "CNAME")
        except NotFound as exc:
            found, target = exc.authentic, None
        else:
            found, target = answer.authentic, absolute(answer.records[0], "CNAME")
        authentic = authentic and found
        first = found if first is None else first
        if target is None:
            return Chain(tuple(names), first, authentic)
        if target in names:
            raise CNAMEError(name, "CNAME", "cname loop")
        if len(names) > limit:
            raise CNAMEError(name, "CNAME", f"more than {limit} cnames")
        names.append(target)


class OfflineResolver:
    """A resolver for machines that may have no DNS, as for trying mail on one's own machine.

    What cannot be found out counts as not existing, so that nothing waits or fails for want
    of a resolver. With ``resolver`` None nothing is ever asked. With a clock, lookups that
    get no answer end after ``patience`` seconds, and then for ``pause`` seconds none is tried.
    """

    patience = 2.0
    pause = 60.0

    def __init__(self, resolver: Resolver | None = None, *, clock: Any = None) -> None:
        self._resolver = resolver
        self._clock = clock
        self._silent_until = 0.0

    async def lookup(self, name: str, rtype: str) -> Answer[Any]:
        """Look up, with temporary errors as NoData."""
        name = absolute(name, rtype)
        known = special(name, rtype)
        if isinstance(known, NotFound):
            raise known
        if known is not None:
            return known
        if self._resolver is None:
            raise NXDomain(name, rtype)
        if self._clock is not None and self._clock.seconds() < self._silent_until:
            raise NoData(name, rtype, "taken as absent: no dns server answers")
        work = Deferred.fromCoroutine(self._resolver.lookup(name, rtype))
        if self._clock is not None:
            work.addTimeout(self.patience, self._clock)
        try:
            return await work
        except (TemporaryError, WaitedTooLong) as exc:
            if self._clock is not None and isinstance(exc, Timeout | WaitedTooLong):
                self._silent_until = self._clock.seconds() + self.pause
            raise NoData(name, rtype, f"taken as absent: {exc}") from exc

    def for_pkg(self, pkg: str) -> Resolver:
        """The same; lookups of this resolver are not told apart."""
        return self
