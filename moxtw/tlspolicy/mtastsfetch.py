"""Finding the MTA-STS record of a domain in DNS, and its policy over HTTPS (RFC 8461 3.3)."""

from __future__ import annotations

import time
from typing import Any, Final

from twisted.internet.defer import TimeoutError

from moxtw import metrics
from moxtw.dns.resolver import DNSError, NotFound, Resolver, ips, txt_in_time
from moxtw.net.httpclient import HTTPClient, HTTPError
from moxtw.net.tlsclient import Roots, VerificationError
from moxtw.tlspolicy.mtasts import (
    MAX_POLICY_SIZE,
    Policy,
    PolicyError,
    Record,
    RecordError,
    find_record,
    parse_policy,
)

RECORD_TIMEOUT: Final = 30.0
POLICY_TIMEOUT: Final = 60.0

# Result types of TLS reports (RFC 8460 4.3).
FETCH_ERROR: Final = "sts-policy-fetch-error"
INVALID: Final = "sts-policy-invalid"
WEBPKI_INVALID: Final = "sts-webpki-invalid"


class FetchError(Exception):
    """No policy could be had. kind: the result type for TLS reports."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


class NoPolicy(FetchError):
    """There is no policy where it should be: no such host, or it does not know of one."""


class Fetcher:
    """Looks up records and fetches policies.

    ports: for tests, see HTTPClient.
    """

    def __init__(
        self,
        resolver: Resolver,
        reactor: Any,
        roots: Roots,
        *,
        user_agent: str,
        ports: dict[int, int] | None = None,
    ) -> None:
        self._resolver = resolver
        self._reactor = reactor

        async def resolve(host: str) -> list[str]:
            return list(await ips(resolver, host))

        self._client = HTTPClient(
            reactor, roots, resolve, pkg="mtasts", user_agent=user_agent, ports=ports
        )

    async def record(self, domain: str, timeout: float = RECORD_TIMEOUT) -> Record:
        """The record of a domain (ASCII).

        Raises RecordError when it has none that is valid, DNSError when that could not be
        found out.
        """
        name = f"_mta-sts.{domain}"
        try:
            answer = await txt_in_time(self._resolver, name, self._reactor, timeout)
        except NotFound as exc:
            raise RecordError("no mta-sts record") from exc
        return find_record(answer.records)

    async def policy(self, domain: str, timeout: float = POLICY_TIMEOUT) -> tuple[Policy, str]:
        """The policy of a domain (ASCII), and its text. Raises FetchError."""
        begun = time.monotonic()
        result = "error"
        try:
            found = await self._policy(domain, timeout)
            result = "ok"
            return found
        except NoPolicy:
            result = "notfound"
            raise
        finally:
            metrics.mtasts_get_duration_seconds.labels(result).observe(time.monotonic() - begun)

    async def _policy(self, domain: str, timeout: float) -> tuple[Policy, str]:
        url = f"https://mta-sts.{domain}/.well-known/mta-sts.txt"
        try:
            response = await self._client.request(
                "GET", url, timeout=timeout, max_size=MAX_POLICY_SIZE
            )
        except NotFound as exc:
            raise NoPolicy(FETCH_ERROR, f"mta-sts.{domain} does not exist") from exc
        except VerificationError as exc:
            raise FetchError(WEBPKI_INVALID, str(exc)) from exc
        except (HTTPError, DNSError, TimeoutError) as exc:
            raise FetchError(FETCH_ERROR, str(exc)) from exc
        if response.code == 404:
            raise NoPolicy(FETCH_ERROR, f"{url}: not found")
        if response.code != 200:
            # RFC 8461 3.3: redirects are not followed.
            raise FetchError(FETCH_ERROR, f"{url}: status {response.code}")
        try:
            policy = parse_policy(response.body)
        except PolicyError as exc:
            raise FetchError(INVALID, str(exc)) from exc
        return policy, response.body.decode("utf-8")
