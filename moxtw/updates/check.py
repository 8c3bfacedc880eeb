"""Asking whether there is a new version: DNS for the version, HTTPS for what is new in it."""

from __future__ import annotations

import time
from typing import Any, Final, Protocol

from moxtw import metrics
from moxtw.dns.resolver import DNSError, NotFound, Resolver, ips, txt_in_time
from moxtw.net.httpclient import HTTPClient, HTTPError
from moxtw.net.tlsclient import Roots, VerificationError
from moxtw.updates import changelog
from moxtw.updates.changelog import Change, ChangelogError
from moxtw.updates.record import RecordError, Version, find_record, parse_version
from moxtw.version import VERSION

LOOKUP_TIMEOUT: Final = 30.0
FETCH_TIMEOUT: Final = 60.0


class UpdateError(Exception):
    """What is new could not be found out; the message says why."""


class Source(Protocol):
    """Where versions are announced; see `Announcements`."""

    async def latest(self) -> Version:
        """The latest version."""
        ...

    async def changes(self, since: Version) -> list[Change]:
        """What is new."""
        ...


def running() -> Version:
    """The version of this program; zeros for one that has no number."""
    try:
        return parse_version(VERSION)
    except ValueError:
        return Version()


class Announcements:
    """The announcements of a domain (ASCII), signed with a key (32 bytes).

    ports: for tests, see HTTPClient.
    """

    def __init__(
        self,
        domain: str,
        key: bytes,
        resolver: Resolver,
        reactor: Any,
        roots: Roots,
        *,
        ports: dict[int, int] | None = None,
    ) -> None:
        self._domain = domain
        self._key = key
        self._resolver = resolver
        self._reactor = reactor

        async def resolve(host: str) -> list[str]:
            return list(await ips(resolver, host))

        self._client = HTTPClient(
            reactor, roots, resolve, pkg="updates", user_agent=f"moxtw/{VERSION}", ports=ports
        )

    async def latest(self) -> Version:
        """The latest version, by ``_updates.<domain>``. Raises UpdateError."""
        begun = time.monotonic()
        result = "error"
        name = f"_updates.{self._domain}."
        try:
            answer = await txt_in_time(self._resolver, name, self._reactor, LOOKUP_TIMEOUT)
            found = find_record(answer.records)
            result = "ok"
        except NotFound as exc:
            raise UpdateError(f"no record about updates at {name}") from exc
        except DNSError as exc:
            raise UpdateError(str(exc)) from exc
        except RecordError as exc:
            raise UpdateError(f"{name} {exc}") from exc
        finally:
            seconds = time.monotonic() - begun
            metrics.updates_lookup_duration_seconds.labels(result).observe(seconds)
        return found

    async def changes(self, since: Version) -> list[Change]:
        """What is new after a version, verified, newest first. Raises UpdateError."""
        begun = time.monotonic()
        result = "error"
        url = f"https://updates.{self._domain}/?from={since}"
        try:
            response = await self._client.request(
                "GET",
                url,
                timeout=FETCH_TIMEOUT,
                max_size=changelog.MAX_SIZE,
                headers={"Accept": "application/json"},
            )
            if response.code != 200:
                raise UpdateError(f"{url}: status {response.code}")
            found = changelog.decode(response.body)
            changelog.verify(found, self._key)
            found = changelog.since(found, since)
            result = "ok"
        except (HTTPError, DNSError, VerificationError, ChangelogError) as exc:
            raise UpdateError(f"{url}: {exc}") from exc
        finally:
            seconds = time.monotonic() - begun
            metrics.updates_fetchchangelog_duration_seconds.labels(result).observe(seconds)
        return found
