"""Whether the domain of a sender takes mail itself: nobody could answer it otherwise.

RFC 7505 4.2: mail from a domain with a null MX can be refused. RFC 5321 5.1: without MX
records the domain's own address records count; here they do, too, when no exchanger has any.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable
from typing import Any, Final

from twisted.internet.defer import Deferred

from moxtw.dns import resolver as dns
from moxtw.dns.resolver import NotFound, Resolver, TemporaryError
from moxtw.log import Logger
from moxtw.mail.domain import Domain
from moxtw.smtp.reply import SMTPError

log = Logger("smtpserver")

MAX_CACHED: Final = 10_000
GOOD_SECONDS: Final = 300
BAD_SECONDS: Final = 30
TIMEOUT: Final = 60


class SenderDomains:
    """Looks up sender domains, and remembers the results for a little while.

    The memory is there so that a further message of the same domain needs no waiting at all;
    how long records live is the resolver's business.

    lenient: domains about which nothing is known pass, for a server without DNS.
    """

    def __init__(self, resolver: Resolver, clock: Any, *, lenient: bool = False) -> None:
        self._resolver = dns.for_pkg(resolver, "smtpserver")
        self._clock = clock
        self._lenient = lenient
        # Domain in ASCII: until when, and whether it takes mail.
        self._known: OrderedDict[str, tuple[float, bool]] = OrderedDict()
        # The same for names in HELO: whether they have an address.
        self._hosts: OrderedDict[str, tuple[float, bool]] = OrderedDict()

    def check(self, domain: Domain) -> Awaitable[None] | None:
        """None when the domain is known to take mail, else what to wait for.

        Raises SMTPError, at once or when awaited.
        """
        known = self._known.get(domain.ascii)
        if known is not None and known[0] > self._clock.seconds():
            if not known[1]:
                raise _refusal()
            return None
        return self._look_up(domain)

    async def _look_up(self, domain: Domain) -> None:
        work = Deferred.fromCoroutine(self._takes_mail(domain.ascii + "."))
        work.addTimeout(TIMEOUT, self._clock, onTimeoutCancel=_timed_out)
        try:
            good = await work
        except TemporaryError as exc:
            log.info("temporary error for mx of sender domain", domain=domain.ascii, err=exc)
            raise SMTPError(
                451, "4.4.0", "cannot verify mx records for mailfrom domain"
            ) from None
        self._remember(self._known, domain, good)
        if not good:
            raise _refusal()

    async def _takes_mail(self, name: str) -> bool:
        try:
            exchangers = (await dns.mx(self._resolver, name)).records
        except NotFound:
            return await self._has_address(name) or self._lenient
        if len(exchangers) == 1 and exchangers[0].host == ".":
            return False
        temporary: TemporaryError | None = None
        # Who sends with exchangers that are gone is refused only if the name leads nowhere, too.
        for host in (*(exchanger.host for exchanger in exchangers[:10]), name):
            try:
                if await self._has_address(host):
                    return True
            except TemporaryError as exc:
                temporary = exc
        if temporary is not None:
            raise temporary
        return self._lenient

    async def _has_address(self, name: str) -> bool:
        try:
            return bool((await dns.ips(self._resolver, name)).records)
        except NotFound:
            return False

    def known_address(self, domain: Domain) -> bool | None:
        """What `has_address` has found a while ago, None if nothing."""
        known = self._hosts.get(domain.ascii)
        if known is not None and known[0] > self._clock.seconds():
            return known[1]
        return None

    async def has_address(self, domain: Domain) -> bool:
        """Whether the name has an address; yes too when that cannot be found out now."""
        try:
            good = await self._has_address(domain.ascii + ".") or self._lenient
        except TemporaryError as exc:
            log.info("temporary error for address of name", domain=domain.ascii, err=exc)
            return True
        self._remember(self._hosts, domain, good)
        return good

    def _remember(
        self, memory: OrderedDict[str, tuple[float, bool]], domain: Domain, good: bool
    ) -> None:
        memory.pop(domain.ascii, None)
        if len(memory) >= MAX_CACHED:
            memory.popitem(last=False)
        lifetime = GOOD_SECONDS if good else BAD_SECONDS
        memory[domain.ascii] = (self._clock.seconds() + lifetime, good)


def _refusal() -> SMTPError:
    return SMTPError(550, "5.7.27", "mailfrom domain not configured for mail")


def _timed_out(result: object, timeout: float) -> object:
    raise dns.Timeout("", "MX")
