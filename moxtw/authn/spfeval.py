"""The evaluation of SPF records: check_host() of RFC 7208 4 to 6.

One `Evaluation` is one check: it counts what RFC 7208 4.6.4 limits, and joins the DNSSEC
status of all answers that it used.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from moxtw.authn import spfmacro, spfrecord
from moxtw.authn.spfmacro import MacroError
from moxtw.authn.spfrecord import Directive, DomainSpec, Record, RecordError
from moxtw.dns import resolver as dns
from moxtw.dns.resolver import Answer, DNSError, InvalidName, NotFound, Resolver

NONE: Final = "none"
NEUTRAL: Final = "neutral"
PASS: Final = "pass"  # noqa: S105 - a result
FAIL: Final = "fail"
SOFTFAIL: Final = "softfail"
TEMPERROR: Final = "temperror"
PERMERROR: Final = "permerror"

MAX_TERMS: Final = 10
"""Terms that ask the DNS, RFC 7208 4.6.4."""

MAX_VOID: Final = 2
"""Terms whose lookup finds nothing, RFC 7208 4.6.4."""

MAX_HOSTS: Final = 10
"""Hosts of an MX and names of an address whose addresses are looked up, RFC 7208 4.6.4."""

MAX_ADDRESSES: Final = 10_000
"""Addresses that are compared. The RFC knows no limit; only an attack comes near to this."""

MAX_EXPLANATION: Final = 800
"""Characters of an explanation; longer ones are cut."""

_STATUS: Final = {"+": PASS, "-": FAIL, "~": SOFTFAIL, "?": NEUTRAL}

# Octets of a TXT record that are no UTF-8 come as escapes; SPF is ASCII (RFC 7208 3.1).
_ESCAPED_OCTET: Final = re.compile(r"\\x[89a-f][0-9a-f]")
_EXPLANATION: Final = re.compile(r"[ -~]*")
# Work after which other sessions get a turn.
_LONG_RECORD: Final = 1024
_MANY_ADDRESSES: Final = 500

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came out for a domain.

    mechanism: the one that decided or failed, ``default`` if none matched, empty without.
    problem: of an error, or why there is no result. domain, exp: whose record it was in the
    end, and its explanation.
    """

    status: str
    mechanism: str = ""
    problem: str = ""
    domain: str = ""
    exp: DomainSpec | None = None


class _Stop(Exception):
    """The evaluation ends here, with an error."""

    def __init__(self, status: str, problem: str) -> None:
        super().__init__(problem)
        self.status = status
        self.problem = problem


class NoRecord(Exception):
    """A domain has no SPF record, or cannot have one; the message says why."""


async def no_pause() -> None:
    """Do not pause."""


async def find_record(
    resolver: Resolver, domain: str, pause: Callable[[], Awaitable[None]] = no_pause
) -> tuple[str, Record, bool]:
    """Find the record of a domain (RFC 7208 4.3 to 4.6): its text, that parsed, DNSSEC status.

    Raises NoRecord, RecordError, and DNSError for what is not NotFound. Both of the former
    have an attribute ``authentic`` if an answer was found.
    """
    try:
        name = dns.absolute(domain, "TXT")
    except InvalidName as exc:
        raise NoRecord(str(exc)) from exc
    if "." not in name[:-1]:
        raise NoRecord(f"{domain} is no name of several labels")
    try:
        answer = await dns.txt(resolver, name)
    except NotFound as exc:
        raise _marked(NoRecord(f"no txt records at {domain}"), exc.authentic) from exc
    found = [text for text in answer if spfrecord.is_record(text)]
    if not found:
        raise _marked(NoRecord(f"no spf record at {domain}"), answer.authentic)
    if len(found) > 1:
        raise _marked(RecordError(f"{len(found)} spf records at {domain}"), answer.authentic)
    text = found[0]
    try:
        if not text.isascii() or _ESCAPED_OCTET.search(text):
            raise RecordError("record is not in ascii")
        if len(text) > _LONG_RECORD:
            await pause()
        return text, spfrecord.parse_record(text), answer.authentic
    except RecordError as exc:
        raise _marked(RecordError(f"spf record of {domain}: {exc}"), answer.authentic) from exc


def _marked(exc: Exception, authentic: bool) -> Exception:
    exc.authentic = authentic  # type: ignore[attr-defined]
    return exc


class Evaluation:
    """One check of an address against the records of a domain.

    ip: of the client, not an IPv4-mapped one. localpart, domain: of the sender, decoded and in
    ASCII. hello: as the client said it. receiver: our name. now: time for macro ``t``, in
    seconds. pause: awaited between larger pieces of work.
    """

    def __init__(
        self,
        resolver: Resolver,
        *,
        ip: IPAddress,
        localpart: str,
        domain: str,
        hello: str,
        receiver: str,
        now: int,
        pause: Callable[[], Awaitable[None]] = no_pause,
    ) -> None:
        self._resolver = resolver
        self._ip = ip
        self._ip_text = str(ip)
        self._family = "A" if ip.version == 4 else "AAAA"
        self._pause = pause
        self._utf8 = not localpart.isascii()
        self._values = {
            "s": f"{localpart}@{domain}",
            "l": localpart,
            "o": domain,
            "i": self._ip_text if ip.version == 4 else ".".join(ip.exploded.replace(":", "")),
            "v": "in-addr" if ip.version == 4 else "ip6",
            "h": hello,
            "c": self._ip_text,
            "r": receiver or "unknown",
            "t": str(now),
        }
        self._terms = 0
        self._voids = 0
        self._addresses = 0
        self._names: list[str] | None = None
        self._validated: dict[str, bool] = {}
        self._authentic: bool | None = None
        self.current = ""
        """The mechanism that is being evaluated."""

    @property
    def authentic(self) -> bool:
        """Whether DNSSEC vouches for all answers, of which there were some."""
        return self._authentic is True

    # -- check_host ----------------------------------------------------------------------

    async def check_host(self, domain: str, record: Record | None = None) -> Verdict:
        """Evaluate the record of a domain (RFC 7208 4), or a given one in its place."""
        redirected = False
        while True:
            try:
                if record is None:
                    record = await self._find_record(domain)
                verdict = await self._evaluate(domain, record)
                if verdict is not None:
                    return verdict
                if record.redirect is None:
                    return Verdict(NEUTRAL, "default", domain=domain)
                # RFC 7208 6.1. It counts, so that there are no endless chains.
                self.current = f"redirect={record.redirect}"
                self._count_term()
                target = await self._expand(record.redirect, domain)
            except NoRecord as exc:
                status = PERMERROR if redirected else NONE
                return Verdict(status, self.current if redirected else "", str(exc), domain)
            except _Stop as exc:
                return Verdict(exc.status, self.current, exc.problem, domain)
            if target is None:
                problem = "local part in UTF-8 cannot be part of a domain"
                return Verdict(PERMERROR, self.current, problem, domain)
            domain, record, redirected = target, None, True

    async def _find_record(self, domain: str) -> Record:
        """The record. Raises NoRecord, _Stop."""
        try:
            _, record, authentic = await find_record(self._resolver, domain, self._pause)
        except (NoRecord, RecordError) as exc:
            self._join(getattr(exc, "authentic", False))
            if isinstance(exc, NoRecord):
                raise
            raise _Stop(PERMERROR, str(exc)) from exc
        except DNSError as exc:
            self._join(False)
            raise _Stop(TEMPERROR, str(exc)) from exc
        self._join(authentic)
        return record

    async def _evaluate(self, domain: str, record: Record) -> Verdict | None:
        """The first match among the directives, RFC 7208 4.6.2. Raises _Stop."""
        outer = self.current
        for directive in record.directives:
            self.current = directive.text
            if await self._matches(directive, domain):
                status = _STATUS[directive.qualifier]
                return Verdict(status, directive.text, "", domain, record.exp)
        self.current = outer
        return None

    def _join(self, authentic: bool) -> None:
        self._authentic = authentic and self._authentic is not False

    def _count_term(self) -> None:
        self._terms += 1
        if self._terms > MAX_TERMS:
            raise _Stop(PERMERROR, f"more than {MAX_TERMS} dns lookups")

    def _count_void(self) -> None:
        self._voids += 1
        if self._voids > MAX_VOID:
            raise _Stop(PERMERROR, f"more than {MAX_VOID} void dns lookups")

    # -- Mechanisms ----------------------------------------------------------------------

    async def _matches(self, directive: Directive, domain: str) -> bool:
        """Whether a mechanism matches, RFC 7208 5. Raises _Stop."""
        mechanism = directive.mechanism
        if mechanism == "all":
            return True
        if directive.network is not None:
            return (
                directive.network.version == self._ip.version and self._ip in directive.network
            )
        self._count_term()
        target: str | None = domain
        if directive.domain is not None:
            target = await self._expand(directive.domain, domain)
            if target is None:
                return False
        assert target is not None
        if mechanism == "include":
            return await self._include(target)
        if mechanism == "a":
            return await self._host_matches(target, directive, count=True)
        if mechanism == "mx":
            return await self._mx(target, directive)
        if mechanism == "ptr":
            return await self._ptr(target)
        # RFC 7208 5.7: type A, whatever the family of the client.
        return await self._lookup(target, "A", count=True) is not None

    async def _include(self, target: str) -> bool:
        """RFC 7208 5.2."""
        term = self.current
        verdict = await self.check_host(target)
        self.current = term
        if verdict.status in (TEMPERROR, PERMERROR, NONE):
            status = TEMPERROR if verdict.status == TEMPERROR else PERMERROR
            raise _Stop(status, verdict.problem)
        return verdict.status == PASS

    async def _host_matches(self, name: str, directive: Directive, *, count: bool) -> bool:
        """Whether one of the addresses of a host matches, RFC 7208 5.3."""
        answer = await self._lookup(name, self._family, count=count)
        if answer is None:
            return False
        four = self._ip.version == 4
        width = 32 if four else 128
        prefix = directive.ip4_prefix if four else directive.ip6_prefix
        return await self._any_matches(answer.records, width, width if prefix is None else prefix)

    async def _any_matches(self, addresses: Sequence[str], width: int, prefix: int) -> bool:
        self._addresses += len(addresses)
        if self._addresses > MAX_ADDRESSES:
            raise _Stop(PERMERROR, f"more than {MAX_ADDRESSES} addresses")
        if len(addresses) > _MANY_ADDRESSES:
            await self._pause()
        if prefix == width:
            return self._ip_text in addresses
        family = socket.AF_INET if width == 32 else socket.AF_INET6
        shift = width - prefix
        wanted = int(self._ip) >> shift
        return any(
            int.from_bytes(socket.inet_pton(family, text)) >> shift == wanted
            for text in addresses
        )

    async def _mx(self, target: str, directive: Directive) -> bool:
        """RFC 7208 5.4."""
        answer = await self._lookup(target, "MX", count=True)
        if answer is None:
            return False
        for index, (_, host) in enumerate(sorted(answer.records, key=lambda mx: mx[0])):
            if index >= MAX_HOSTS:
                raise _Stop(PERMERROR, f"more than {MAX_HOSTS} mx hosts")
            # A null MX (RFC 7505) names no host.
            if host != "." and await self._host_matches(host, directive, count=False):
                return True
        return False

    async def _ptr(self, target: str) -> bool:
        """RFC 7208 5.5."""
        try:
            wanted = dns.absolute(target)
        except InvalidName:
            return False
        if not await self._reverse_names(count=True):
            return False
        return await self._validated_within(wanted) is not None

    # -- Names of the client's address ---------------------------------------------------

    async def _reverse_names(self, *, count: bool) -> list[str]:
        """Up to 10 names that the client's address leads back to, asked for once.

        A failing lookup is as good as no name, RFC 7208 5.5.
        """
        if self._names is not None:
            return self._names
        self._names = []
        try:
            answer = await self._lookup(dns.reverse_name(self._ip_text), "PTR", count=count)
        except _Stop as exc:
            if exc.status == PERMERROR:
                raise
        else:
            if answer is not None:
                self._names = list(answer.records[:MAX_HOSTS])
        return self._names

    async def _validated_within(self, parent: str) -> str | None:
        """The first of the names at or below `parent` that leads to the client's address."""
        for name in self._names or ():
            if (name == parent or name.endswith("." + parent)) and await self._validates(name):
                return name
        return None

    async def _validates(self, name: str) -> bool:
        if name not in self._validated:
            self._validated[name] = False
            try:
                answer = await self._lookup(name, self._family, count=False)
                if answer is not None:
                    self._addresses += len(answer.records)
                    self._validated[name] = self._ip_text in answer.records
            except _Stop:
                pass  # RFC 7208 5.5: a name whose lookup fails is skipped.
        return self._validated[name]

    async def _client_name(self, domain: str, *, limited: bool) -> str:
        """Macro ``p`` (RFC 7208 7.3): the domain, else a name below it, else any, else unknown."""
        if self._names is None and limited:
            self._count_term()
        names = await self._reverse_names(count=limited)
        try:
            wanted = dns.absolute(domain)
        except InvalidName:
            wanted = "."
        below = [name for name in names if name.endswith("." + wanted)]
        candidates: list[str] = [*([wanted] if wanted in names else []), *below, *names]
        for name in candidates:
            if await self._validates(name):
                return name.removesuffix(".")
        return "unknown"

    # -- Lookups and macros --------------------------------------------------------------

    async def _lookup(self, name: str, rtype: str, *, count: bool) -> Answer[Any] | None:
        """Records, None for none; a name that cannot exist has none. Raises _Stop.

        count: whether finding none is a void lookup.
        """
        try:
            name = dns.absolute(name, rtype)
        except InvalidName:
            return None  # RFC 7208 4.8 leaves it open; nothing is asked, so nothing counts.
        try:
            answer = await self._resolver.lookup(name, rtype)
        except NotFound as exc:
            self._join(exc.authentic)
            if count:
                self._count_void()
            return None
        except DNSError as exc:
            self._join(False)
            raise _Stop(TEMPERROR, str(exc)) from exc
        self._join(answer.authentic)
        return answer

    async def _expand(
        self, spec: DomainSpec, domain: str, *, limited: bool = True
    ) -> str | None:
        """Expand a domain-spec. None: it matches nothing. Raises _Stop.

        RFC 8616 4: local parts beyond ASCII cannot be part of a name in the DNS.
        """
        letters = spfmacro.letters_of(spec.parts)
        if self._utf8 and letters & {"s", "l"}:
            return None
        return spfmacro.expand_name(
            spec.parts, await self._macro_values(letters, domain, limited=limited)
        )

    async def _macro_values(
        self, letters: set[str], domain: str, *, limited: bool
    ) -> dict[str, str]:
        values = {**self._values, "d": domain.removesuffix(".")}
        if "p" in letters:
            values["p"] = await self._client_name(domain, limited=limited)
        return values

    # -- Explanation ---------------------------------------------------------------------

    async def explain(self, verdict: Verdict) -> str:
        """The explanation of a fail, empty if there is none that is valid, RFC 7208 6.2."""
        if verdict.status != FAIL or verdict.exp is None:
            return ""
        authentic = self._authentic
        try:
            name = await self._expand(verdict.exp, verdict.domain, limited=False)
            answer = None if name is None else await self._lookup(name, "TXT", count=False)
            if answer is None or len(answer) != 1:
                return ""
            text = str(answer[0])
            if len(text) > MAX_EXPLANATION * 2 or _ESCAPED_OCTET.search(text):
                return ""
            parts = spfmacro.parse(text, blanks=True)
            values = await self._macro_values(
                spfmacro.letters_of(parts), verdict.domain, limited=False
            )
        except (_Stop, MacroError):
            return ""
        finally:
            self._authentic = authentic  # It is no part of the result.
        text = spfmacro.expand_text(parts, values, MAX_EXPLANATION)
        return text if _EXPLANATION.fullmatch(text) else ""
