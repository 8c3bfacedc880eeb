"""When a domain was registered, as its registry tells by RDAP.

RFC 9224: which server knows a domain; RFC 9082: how it is asked; RFC 9083: what it answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Protocol
from urllib.parse import urljoin, urlsplit

import msgspec
from twisted.internet.defer import Deferred

from moxtw.dns.publicsuffix import organizational_domain
from moxtw.dns.resolver import DNSError
from moxtw.mail.domain import Domain, parse_domain
from moxtw.net.httpclient import HTTPError, Response
from moxtw.net.tlsclient import VerificationError

BOOTSTRAP: Final = "https://data.iana.org/rdap/dns.json"
"""IANA's list of the servers of registries, RFC 9224 5."""

TIMEOUT: Final = 10.0
"""Seconds for the list and the answer of a registry together."""

MAX_LIST: Final = 4 << 20
MAX_ANSWER: Final = 1 << 20
MAX_SERVERS: Final = 3
MAX_REDIRECTS: Final = 3

_REDIRECTS: Final = frozenset((301, 302, 303, 307, 308))
# RFC 9083 10.2.3: a domain that was given up and came back has no reputation of before.
_BEGINNINGS: Final = frozenset(("registration", "reregistration", "reinstantiation"))


class RDAPError(Exception):
    """The registration is not known: why, for people."""


class Client(Protocol):
    """An HTTP client, see `moxtw.net.httpclient.HTTPClient`."""

    async def request(
        self,
        method: str,
        url: str,
        *,
        timeout: float,
        max_size: int,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """Make a request."""
        ...


class _Bootstrap(msgspec.Struct):
    """RFC 9224 3, as far as it is needed: suffixes with URLs of servers."""

    services: list[tuple[list[str], list[str]]]


class _Event(msgspec.Struct):
    """RFC 9083 4.5."""

    eventAction: str  # noqa: N815 - the name in JSON
    eventDate: str  # noqa: N815


class _Domain(msgspec.Struct):
    """RFC 9083 5.3, as far as it is needed."""

    events: list[_Event] = []


class _Problem(msgspec.Struct):
    """RFC 9083 6."""

    title: str = ""
    description: list[str] = []


def registered_domain(domain: Domain) -> Domain:
    """The domain that a registry knows, for one that may be below it."""
    return parse_domain(organizational_domain(domain.name), strict=False)


def servers(data: bytes, domain: Domain) -> list[str]:
    """The servers for a domain, from IANA's list: those with TLS first. Raises RDAPError."""
    try:
        found = msgspec.json.decode(data, type=_Bootstrap)
    except msgspec.DecodeError as exc:
        raise RDAPError(f"the list of registries cannot be read: {exc}") from exc
    name, longest = "." + domain.ascii, ""
    urls: Sequence[str] = ()
    for suffixes, listed in found.services:
        for suffix in suffixes:
            # The longest match counts, label by label (RFC 9224 4).
            if len(suffix) > len(longest) and name.endswith("." + suffix.lower()):
                urls, longest = listed, suffix
    usable = [url for url in urls if urlsplit(url).scheme in ("http", "https")]
    if not usable:
        raise RDAPError(f"the registry of {domain} offers no RDAP")
    return sorted(usable, key=lambda url: not url.startswith("https:"))[:MAX_SERVERS]


def last_registration(data: bytes, now: datetime) -> datetime:
    """The last time that a domain was registered, from a registry's answer. Raises RDAPError."""
    try:
        found = msgspec.json.decode(data, type=_Domain)
    except msgspec.DecodeError as exc:
        raise RDAPError(f"the registry's answer cannot be read: {exc}") from exc
    times = []
    for event in found.events:
        if event.eventAction.lower() not in _BEGINNINGS:
            continue
        try:
            moment = datetime.fromisoformat(event.eventDate)
        except ValueError as exc:
            raise RDAPError(f"the registry's answer has a bad date: {exc}") from exc
        moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
        if moment <= now:
            times.append(moment.astimezone(UTC))
    if not times:
        raise RDAPError("the registry does not tell when the domain was registered")
    return max(times)


async def registration(
    client: Client, domain: Domain, clock: Any, *, bootstrap: str = BOOTSTRAP
) -> datetime:
    """When a domain, or the one above it that can be registered, was last registered.

    clock: IReactorTime. bootstrap: URL of the list of servers. Raises RDAPError.
    """
    work = Deferred.fromCoroutine(_registration(client, domain, clock, bootstrap))

    def late(_: object, seconds: float) -> None:
        raise RDAPError(f"no answer within {seconds:g} seconds")

    work.addTimeout(TIMEOUT, clock, late)
    return await work


async def _registration(
    client: Client, domain: Domain, clock: Any, bootstrap: str
) -> datetime:
    asked = registered_domain(domain)
    response = await _get(client, bootstrap, "application/json", MAX_LIST)
    if response.code != 200:
        raise RDAPError(f"list of registries: HTTP status {response.code}")
    now = datetime.fromtimestamp(clock.seconds(), UTC)
    problem = RDAPError("no server was asked")
    for url in servers(response.body, asked):
        base = url if url.endswith("/") else url + "/"
        try:
            # RFC 9082 3.1.3.
            answer = await _get(
                client, f"{base}domain/{asked.ascii}", "application/rdap+json", MAX_ANSWER
            )
            if answer.code == 404:  # RFC 7480 5.3
                raise RDAPError(f"{asked} is not registered")
            if answer.code != 200:
                raise RDAPError(f"HTTP status {answer.code}{_reason(answer.body)}")
            return last_registration(answer.body, now)
        except RDAPError as exc:
            problem = exc
    raise problem


async def _get(client: Client, url: str, media: str, size: int) -> Response:
    """GET, with redirects, which never lead from TLS to no TLS. Raises RDAPError."""
    secure = url.startswith("https:")
    for _ in range(MAX_REDIRECTS + 1):
        try:
            response = await client.request(
                "GET", url, timeout=TIMEOUT, max_size=size, headers={"Accept": media}
            )
        except (HTTPError, VerificationError, DNSError, ValueError) as exc:
            raise RDAPError(f"{urlsplit(url).hostname}: {exc}") from exc
        if response.code not in _REDIRECTS:
            return response
        url = urljoin(url, response.headers.get("location", ""))
        if urlsplit(url).scheme not in (("https",) if secure else ("http", "https")):
            raise RDAPError("redirect to another kind of URL")
        secure = url.startswith("https:")
    raise RDAPError("too many redirects")


def _reason(body: bytes) -> str:
    """What a server says of an error, as far as it does so in the form for it."""
    try:
        found = msgspec.json.decode(body, type=_Problem)
    except msgspec.DecodeError:
        return ""
    text = " ".join(filter(None, (found.title, *found.description)))[:200]
    return ": " + "".join(c if c.isprintable() else "?" for c in text) if text else ""
