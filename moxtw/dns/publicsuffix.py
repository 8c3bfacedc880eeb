"""Organizational domains, by the public suffix list (RFC 7489 3.2)."""

from __future__ import annotations

from functools import lru_cache

from publicsuffixlist import PublicSuffixList


@lru_cache(maxsize=1)
def _list() -> PublicSuffixList:
    # The suffixes of registries; not those that hosters asked for.
    return PublicSuffixList(only_icann=True)


@lru_cache(maxsize=10_000)
def organizational_domain(domain: str) -> str:
    """The domain directly below the public suffix; the domain itself if it is a suffix.

    Takes and gives Unicode names in lower case.
    """
    found: str | None = _list().privatesuffix(domain)
    return found or domain


@lru_cache(maxsize=10_000)
def is_public_suffix(domain: str) -> bool:
    """Whether a domain (Unicode or ASCII, lower case) is at or above a public suffix."""
    return _list().privatesuffix(domain) is None
