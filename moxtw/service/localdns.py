"""Made-up DNS records for a local test server: its own domains can be verified without DNS."""

from __future__ import annotations

from typing import Any, Final

from moxtw.authn.dkimkey import public_record
from moxtw.config.lookup import ConfigView
from moxtw.dns.resolver import Answer, NoData, Resolver, absolute
from moxtw.mail.domain import DomainError, parse_domain

_SPF: Final = "v=spf1 ip4:127.0.0.0/8 ip6:::1 ~all"
_SELECTOR: Final = "._domainkey."


class LocalRecords:
    """A resolver that knows DKIM keys and SPF records of the configured domains."""

    def __init__(self, resolver: Resolver, config: ConfigView) -> None:
        self._resolver = resolver
        self._config = config

    async def lookup(self, name: str, rtype: str) -> Answer[Any]:
        """Look up records, in the configuration or else in the DNS."""
        if rtype.upper() == "TXT":
            own = absolute(name, rtype)[:-1]
            selector, key, domain = own.rpartition(_SELECTOR)
            if key and (found := self._key(selector, domain)) is not None:
                return Answer((found,))
            if not key and self._domain(own) is not None:
                return Answer((_SPF,))
            if key and self._domain(domain) is not None:
                raise NoData(name, rtype)
        return await self._resolver.lookup(name, rtype)

    def for_pkg(self, pkg: str) -> Resolver:
        """The same; lookups of this resolver are not told apart."""
        return self

    def _domain(self, name: str) -> Any:
        try:
            return self._config.dynamic.domains.get(parse_domain(name, strict=False).name)
        except DomainError:
            return None

    def _key(self, selector: str, domain: str) -> str | None:
        config = self._domain(domain)
        if config is None:
            return None
        for each in config.dkim.selectors.values():
            if each.dns_name.ascii == selector and each.private_key is not None:
                return public_record(each.private_key)
        return None
