"""What a machine and its surroundings are like, before a mail server is set up there.

Checks run at the same time, each within a bound, and are told in order. None of them fails:
what is not as it should be is a warning, with what to do about it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol, TypeVar

from twisted.internet.defer import Deferred, TimeoutError

from moxtw.admin.check.base import listed, together
from moxtw.admin.check.hosts import UNBOUND_ADVICE
from moxtw.admin.check.probe import ProbeError
from moxtw.admin.check.run import within
from moxtw.admin.placement import Placement, is_public, place
from moxtw.admin.rdap import RDAPError, registered_domain
from moxtw.authn.dnsbl import BlockLists
from moxtw.config.setups import MONITOR_DNSBLS
from moxtw.dns import resolver as dns
from moxtw.dns.resolver import Answer, DNSError, NotFound, Resolver
from moxtw.log import Logger
from moxtw.mail.domain import Domain, DomainError, parse_domain
from moxtw.net.interfaces import IPAddress

log = Logger("quickstart")

T = TypeVar("T")

SECONDS: Final = 10.0
"""For each check. No more than three wait for each other."""

DIAL_DOMAIN: Final = "gmail.com"
"""A domain whose mail hosts take connections from everybody."""

YOUNG: Final = timedelta(weeks=6)
"""Mail of domains younger than that is often refused."""

_MAX_DIALS: Final = 4
_MAX_ADDRESSES: Final = 20
_LOCAL_NAMES: Final = (".localdomain", ".local", ".internal", ".lan", ".home.arpa", ".localhost")

OK: Final = "OK"
UNKNOWN: Final = "not known"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found: a few words, and what to worry about, in paragraphs."""

    title: str
    result: str = OK
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What was asked for.

    hostname: None to find it out. ips: addresses to listen on, none to find them out.
    selectors: DKIM selectors that will be used. ports: (internal, port) of what will be
    listened on. skip_dial: make no connections, and do not ask for the domain's age.
    """

    domain: Domain
    selectors: Sequence[str]
    ports: Sequence[tuple[bool, int]]
    hostname: Domain | None = None
    ips: Sequence[str] = ()
    skip_dial: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """Ways to look around.

    addresses: of interfaces. system_name: what the system calls itself. dial: connects, or
    raises ProbeError. listen_problem: what would keep us from listening on an address and port,
    empty for nothing. registration: when a domain was registered, or RDAPError.
    """

    resolver: Resolver
    clock: Any
    addresses: Sequence[IPAddress]
    system_name: str
    dial: Callable[[str, int], Awaitable[None]]
    listen_problem: Callable[[str, int], str]
    registration: Callable[[Domain], Awaitable[datetime]]


class Listener(Protocol):
    """Who is told what is done."""

    def begins(self, title: str) -> None:
        """A check's turn has come."""

    def found(self, finding: Finding) -> None:
        """Its result."""


@dataclass(slots=True)
class Survey:
    """What was found out.

    verifies: whether the resolver verifies DNSSEC; signed: whether the domain's zone is.
    """

    hostname: Domain
    placement: Placement
    verifies: bool = False
    signed: bool = False
    findings: list[Finding] = field(default_factory=list)

    @property
    def warnings(self) -> int:
        """How many checks have warnings."""
        return sum(bool(finding.warnings) for finding in self.findings)


async def survey(wishes: Wishes, around: Surroundings, listener: Listener) -> Survey:
    """Look around. Raises placement.NoAddress."""
    return await _Surveyor(wishes, around, listener).run()


class _Surveyor:
    """The checks, and what they share."""

    def __init__(self, wishes: Wishes, around: Surroundings, listener: Listener) -> None:
        self.wishes = wishes
        self.around = around
        self.resolver = around.resolver
        self.listener = listener
        self.findings: list[Finding] = []

    async def run(self) -> Survey:
        """All of it."""
        domain = self.wishes.domain
        start = self._start
        verifying = start("DNS resolver", self.verifies())
        naming = start("Hostname", self.hostname())
        signing = start(f"DNSSEC of {domain}", self.signed())
        existing = start(f"DNS records of {domain}", self.records())
        dialing, aging = None, None
        if not self.wishes.skip_dial:
            dialing = start("Outgoing connections to port 25", self.dial())
            aging = start(f"Age of {registered_domain(domain)}", self.age())

        _, verifies = await self._tell("DNS resolver", verifying)
        self._say(self.interfaces())
        _, name = await self._tell("Hostname", naming)
        hostname = name if isinstance(name, Domain) else self._guess()
        title = f"Addresses of {hostname}"
        _, found = await self._tell(title, start(title, self.host_addresses(hostname)))
        host: list[str] = found or []
        placement = place(self.around.addresses, host, self.wishes.ips)
        self._say(self.placed(hostname, host, placement))
        reversing = start("Reverse names", self.reverse(hostname, host, placement))
        listing = start("DNS block lists", self.block_lists(placement))

        await self._tell("Reverse names", reversing)
        _, signed = await self._tell(f"DNSSEC of {domain}", signing)
        await self._tell(f"DNS records of {domain}", existing)
        if dialing is not None and aging is not None:
            await self._tell("Outgoing connections to port 25", dialing)
            await self._tell(f"Age of {registered_domain(domain)}", aging)
        await self._tell("DNS block lists", listing)
        self._say(self.ports(placement))
        return Survey(hostname, placement, bool(verifies), bool(signed), self.findings)

    # -- Running and telling -------------------------------------------------------------

    def _start(self, title: str, work: Awaitable[Any]) -> Deferred[Any]:
        """Begin a check; the Deferred gives its finding and what others want to know of it."""

        async def guarded() -> tuple[Finding, Any]:
            results: list[Any] = []

            async def run() -> None:
                results.append(await work)

            try:
                await within(self.around.clock, SECONDS, Deferred.fromCoroutine(run()))
            except TimeoutError:
                text = f"There was no result within {SECONDS:g} seconds."
                return Finding(title, UNKNOWN, (text,)), None
            except DNSError as exc:
                return Finding(title, UNKNOWN, (f"The lookup failed: {exc}.",)), None
            except Exception as exc:  # noqa: BLE001 - the other checks count
                log.failure("survey", exc, check=title)
                text = f"The check failed for an internal reason: {exc!r}"
                return Finding(title, UNKNOWN, (text,)), None
            (result, warnings, value) = results[0]
            return Finding(title, result, tuple(warnings)), value

        return Deferred.fromCoroutine(guarded())

    async def _tell(self, title: str, work: Deferred[Any]) -> tuple[Finding, Any]:
        self.listener.begins(title)
        finding, value = await work
        self.findings.append(finding)
        self.listener.found(finding)
        return finding, value

    def _say(self, finding: Finding) -> None:
        self.listener.begins(finding.title)
        self.findings.append(finding)
        self.listener.found(finding)

    # -- The machine ---------------------------------------------------------------------

    def interfaces(self) -> Finding:
        """The addresses of this machine, by kind."""
        kinds: dict[str, list[str]] = {"public": [], "private": [], "loopback": []}
        for address in self.around.addresses:
            if address.is_loopback:
                kinds["loopback"].append(str(address))
            elif not address.is_link_local:
                kinds["public" if is_public(address) else "private"].append(str(address))
        texts = [f"{kind} {listed(ips)}" for kind, ips in kinds.items() if ips]
        return Finding("Addresses of this machine", "; ".join(texts) or "none")

    def _guess(self) -> Domain:
        label = self.around.system_name.partition(".")[0].lower()
        try:
            return parse_domain(f"{label}.{self.wishes.domain.ascii}")
        except DomainError:
            return parse_domain(f"mail.{self.wishes.domain.ascii}")

    async def hostname(self) -> tuple[str, list[str], Domain]:
        """The name that others know this machine by."""
        if self.wishes.hostname is not None:
            return str(self.wishes.hostname), [], self.wishes.hostname
        system = self.around.system_name.lower().removesuffix(".")
        if "." in system and not system.endswith(_LOCAL_NAMES):
            try:
                found = parse_domain(system)
            except DomainError as exc:
                warning = f"The system's name {system!r} is no name for a host: {exc}"
                return str(self._guess()), [warning], self._guess()
            return f"{found}, the system's name", [], found
        names: set[str] = set()
        for answer in await together(
            self._names(str(ip)) for ip in self.around.addresses if is_public(ip)
        ):
            names.update(answer)
        again = "If that is wrong, remove what was written, and use -hostname."
        for name in sorted(names):
            try:
                found = parse_domain(name)
            except DomainError:
                continue
            warnings = []
            if len(names) > 1:
                text = f"The public addresses have several names: {', '.join(sorted(names))}. "
                warnings.append(text + f"The first is taken. {again}")
            return f"{found}, a reverse name", warnings, found
        found = self._guess()
        text = (
            f"The system's name {self.around.system_name!r} is not a full one, and no public "
            f"address has a reverse name. {found} is a guess. {again}"
        )
        return str(found), [text], found

    async def _names(self, ip: str) -> list[str]:
        try:
            answer = await dns.ptr(self.resolver, ip)
        except DNSError as exc:
            log.debug("reverse name", ip=ip, err=exc)
            return []
        return [n for r in answer.records if "." in (n := r.removesuffix(".").lower())]

    # -- The host in DNS -----------------------------------------------------------------

    async def host_addresses(self, hostname: Domain) -> tuple[str, list[str], list[str]]:
        """The addresses of the hostname."""
        try:
            answer = await dns.ips(self.resolver, hostname.ascii + ".")
        except NotFound:
            text = (
                f"DNS has no addresses for {hostname}. Either that is not the name of this "
                f"machine: then use -hostname; or add its addresses to DNS before you go on: mail "
                f"servers are found, and judged, by their name."
            )
            return "none", [text], []
        ips = [str(ip) for ip in answer.records[:_MAX_ADDRESSES]]
        warnings = [
            f"{hostname} has loopback address {ip}, so that mail between accounts of this "
            "machine and others may get lost. If your resolver reads /etc/hosts, it probably "
            "comes from there: write the public addresses there, or remove the line."
            for ip in ips
            if ipaddress.ip_address(ip).is_loopback
        ]
        return listed(ips), warnings, ips

    def placed(self, hostname: Domain, host: Sequence[str], placement: Placement) -> Finding:
        """What is made of both."""
        result, warnings = listed(placement.listen), list(placement.problems)
        if placement.unknown_nat:
            warnings.append(
                "This machine has private addresses only, and DNS does not tell the public ones: "
                f"IPsNATed is set. Add addresses of {hostname} to DNS, forward port 25, 465, 993, "
                "80 and 443 from them to this machine, and write them to NATIPs in mox.conf."
            )
        elif placement.nat:
            result += f", behind NAT with {listed(placement.outside)}"
        return Finding("Addresses to listen on", result, tuple(warnings))

    async def reverse(
        self, hostname: Domain, host: Sequence[str], placement: Placement
    ) -> tuple[str, list[str], None]:
        """Whether addresses lead back to the hostname, and it to them."""
        ips = dict.fromkeys(
            ip for ip in (*placement.outside, *host) if not ipaddress.ip_address(ip).is_loopback
        )
        if not ips:
            return "no addresses", [], None
        found = await together(self._reverse(hostname, ip, host) for ip in ips)
        warnings = [text for text in found if text]
        if warnings:
            warnings.append(
                "Other mail servers refuse mail from addresses whose name is missing or does not "
                "lead back. Reverse names are set at the provider of the addresses."
            )
        return OK if not warnings else "not as needed", warnings, None

    async def _reverse(self, hostname: Domain, ip: str, host: Sequence[str]) -> str:
        try:
            answer = await dns.ptr(self.resolver, ip)
        except NotFound:
            return f"{ip} has no reverse name, instead of {hostname}."
        except DNSError as exc:
            return f"Looking up the reverse name of {ip} failed: {exc}."
        names = [name.removesuffix(".").lower() for name in answer.records[:_MAX_ADDRESSES]]
        if hostname.ascii not in names:
            return f"{ip} has reverse name {', '.join(names)}, instead of {hostname}."
        if ip not in host:
            return f"{ip} has reverse name {hostname}, which does not lead back to {ip}."
        if len(names) > 1:
            return f"{ip} has several reverse names, {', '.join(names)}: some look at one only."
        return ""

    # -- DNS -----------------------------------------------------------------------------

    async def verifies(self) -> tuple[str, list[str], bool]:
        """Whether the resolver verifies DNSSEC."""
        # Some resolvers do not vouch for the root itself.
        if (await dns.ns(self.resolver, "com.")).authentic:
            return "verifies DNSSEC", [], True
        text = (
            "The DNS resolver does not verify DNSSEC, or is not trusted to. Without it, mail can "
            "be led astray by forged answers, and the TLS of other servers is not verified by "
            "DANE. "
        )
        return "does not verify DNSSEC", [text + UNBOUND_ADVICE], False

    async def signed(self) -> tuple[str, list[str], bool]:
        """Whether the domain's zone is signed."""
        try:
            authentic = (await dns.mx(self.resolver, self._name)).authentic
        except NotFound as exc:
            authentic = exc.authentic
        if authentic:
            return "signed", [], True
        text = (
            f"DNSSEC does not vouch for {self.wishes.domain}: its zone is not signed, or the "
            "resolver does not verify. DANE works in signed zones only, and others cannot be sure "
            "of its records. Most providers of DNS sign at a click."
        )
        return "not signed", [text], False

    @property
    def _name(self) -> str:
        return self.wishes.domain.ascii + "."

    async def records(self) -> tuple[str, list[str], None]:
        """What DNS already has in the places of the records that will be suggested."""
        name = self._name
        texts = await together(
            self._quietly(lookup)
            for lookup in (
                self._mx(),
                self._text(name, "v=spf1", "an SPF record, of which there can be one only"),
                self._text(f"_dmarc.{name}", "v=DMARC1", "a DMARC record"),
                self._text(f"_mta-sts.{name}", "v=STSv1", "an MTA-STS record: change its id last"),
                self._text(f"_smtp._tls.{name}", "v=TLSRPTv1", "a TLSRPT record"),
                *(
                    self._text(f"{each}._domainkey.{name}", "", "a DKIM key for this selector")
                    for each in self.wishes.selectors
                ),
                *(self._has_addresses(f"{each}.{name}") for each in ("autoconfig", "mta-sts")),
            )
        )
        warnings = [text for text in texts if text]
        if not warnings:
            return "no mail yet", [], None
        warnings.append(
            "Records of an earlier mail service have to give way for those that are listed below. "
            "Change the MX record when all else works: from then on, mail comes here."
        )
        return "some are there", warnings, None

    async def _lookup(self, name: str, rtype: str) -> Answer[Any] | None:
        try:
            return await self.resolver.lookup(name, rtype)
        except NotFound:
            return None

    async def _quietly(self, lookup: Awaitable[str]) -> str:
        try:
            return await lookup
        except DNSError as exc:
            return f"A lookup failed: {exc}."

    async def _mx(self) -> str:
        answer = await self._lookup(self._name, "MX")
        if answer is None:
            return ""
        hosts = ", ".join(record.host for record in answer.records[:_MAX_ADDRESSES])
        return f"Mail of {self.wishes.domain} goes to {hosts} now."

    async def _text(self, name: str, start: str, what: str) -> str:
        answer = await self._lookup(name, "TXT")
        found = [] if answer is None else [t for t in answer.records if t.startswith(start)]
        if not found:
            return ""
        shown = found[0] if len(found[0]) <= 80 else found[0][:80] + "..."
        return f"{name} has {what}: {shown}"

    async def _has_addresses(self, name: str) -> str:
        try:
            answer = await dns.ips(self.resolver, name)
        except NotFound:
            return ""
        ips = [str(ip) for ip in answer.records[:_MAX_ADDRESSES]]
        return f"{name} exists, with addresses {listed(ips)}."

    # -- Others --------------------------------------------------------------------------

    async def dial(self) -> tuple[str, list[str], None]:
        """Whether mail can go out at all."""
        problems: list[str] = []

        async def one(ip: str) -> bool:
            try:
                await self.around.dial(ip, 25)
            except ProbeError as exc:
                problems.append(f"{ip}: {exc}")
                return False
            return True

        try:
            hosts = (await dns.mx(self.resolver, DIAL_DOMAIN + ".")).records[:_MAX_DIALS]
            ips = (await dns.ips(self.resolver, hosts[0].host)).records[:_MAX_DIALS]
        except (DNSError, IndexError) as exc:
            text = f"The mail hosts of {DIAL_DOMAIN} were not found: {exc}."
            return UNKNOWN, [text], None
        if any(await together(one(str(ip)) for ip in ips)):
            return f"OK, to a mail host of {DIAL_DOMAIN}", [], None
        text = (
            f"Mail hosts of {DIAL_DOMAIN} cannot be reached: {'; '.join(problems)}. Many "
            "providers block port 25 for new customers. Ask yours to open it, or send all mail "
            "through another server (Transports in mox.conf, Routes)."
        )
        return "fail", [text], None

    async def age(self) -> tuple[str, list[str], None]:
        """How long the domain exists."""
        try:
            since = await self.around.registration(self.wishes.domain)
        except RDAPError as exc:
            return f"{UNKNOWN}: {exc}", [], None
        age = datetime.fromtimestamp(self.around.clock.seconds(), UTC) - since
        text = f"{age.days} days, registered {since:%Y-%m-%d}"
        if age >= YOUNG:
            return text, [], None
        warning = (
            "Mail of domains younger than six weeks is often refused or taken for junk, since "
            "they are what senders of junk use. Send little at first, and be patient."
        )
        return text, [warning], None

    async def block_lists(self, placement: Placement) -> tuple[str, list[str], None]:
        """Whether the public addresses are on lists of senders of junk."""
        lists = BlockLists(self.resolver, self.around.clock)
        ips = [ip for ip in placement.outside if is_public(ipaddress.ip_address(ip))]
        if not ips:
            return "no public addresses", [], None
        warnings: list[str] = []
        unknown: list[str] = []

        async def one(zone: Domain, ip: str) -> None:
            health = await lists.health(zone, ipaddress.ip_address(ip).version)
            if not health.healthy or not health.known:
                unknown.append(f"{zone}: {health.problem}")
                return
            (result,) = await lists.check([zone], ip)
            if result.status == "fail":
                why = f": {result.explanation}" if result.explanation else ""
                warnings.append(f"{ip} is on block list {zone}{why}")
            elif result.status != "pass":
                unknown.append(f"{zone}: {result.problem}")

        zones = [parse_domain(zone) for zone in MONITOR_DNSBLS]
        await together(one(zone, ip) for zone in zones for ip in ips)
        if warnings:
            warnings.append(
                "Others will refuse mail from listed addresses. Listings may end after a while, "
                "or on request at the list. If a whole network is listed, take another provider."
            )
            return "listed", warnings, None
        if unknown:
            return f"{UNKNOWN}: {'; '.join(sorted(set(unknown)))}", [], None
        return "not listed", [], None

    def ports(self, placement: Placement) -> Finding:
        """Whether other programs have the ports that will be listened on."""
        problems: list[str] = []
        used: set[int] = set()
        for internal, port in self.wishes.ports:
            for ip in placement.internal if internal else placement.listen:
                if problem := self.around.listen_problem(ip, port):
                    problems.append(f"Port {port} of {ip}: {problem}.")
                    used.add(port)
        if not problems:
            return Finding("Ports", "free")
        advice = (
            '"ss -ltnp" shows which programs listen. A mail server that was there before has to '
            "be stopped, and disabled, before moxtw can start."
        )
        if used & {80, 443}:
            advice += (
                " A web server on ports 80 and 443 either gives way, moxtw can serve its sites "
                "(WebHandlers), or stays in front: then use -existing-webserver."
            )
        return Finding("Ports", "not all are free", (*problems, advice))
