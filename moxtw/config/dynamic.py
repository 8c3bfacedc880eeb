"""domains.conf: domains, accounts, web server and more, reloaded and edited while running.

Attributes that are not in the file (declared with `resolved`) are set by `moxtw.config.load`.
The values themselves never change: an edit makes new ones, see `moxtw.config.edit`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from moxtw.config.accounts import (
    DEFAULT_MAX_FIRST_TIME,
    DEFAULT_MAX_OUTGOING,
    Account,
    AutomaticJunkFlags,
    IncomingWebhook,
    JunkFilter,
    JunkParams,
    OutgoingWebhook,
    SubjectPass,
)
from moxtw.config.codec import opt, req, resolved, section
from moxtw.config.destination import (
    Destination,
    Ruleset,
)
from moxtw.config.domains import (
    DEFAULT_DKIM_HEADERS,
    DKIM,
    DMARC,
    MTASTS,
    TLSRPT,
    AddressAlias,
    Alias,
    AliasAddress,
    Canonicalization,
    ConfigDomain,
    Route,
    Selector,
)
from moxtw.config.webserver import (
    WebForward,
    WebHandler,
    WebInternal,
    WebRedirect,
    WebStatic,
)
from moxtw.mail.domain import Domain

if TYPE_CHECKING:
    from moxtw.config.index import Index

__all__ = [
    "Account",
    "AddressAlias",
    "Alias",
    "AliasAddress",
    "AutomaticJunkFlags",
    "Canonicalization",
    "ConfigDomain",
    "DEFAULT_DKIM_HEADERS",
    "DEFAULT_MAX_FIRST_TIME",
    "DEFAULT_MAX_OUTGOING",
    "DKIM",
    "DMARC",
    "Destination",
    "Dynamic",
    "IncomingWebhook",
    "JunkFilter",
    "JunkParams",
    "MTASTS",
    "OutgoingWebhook",
    "Route",
    "Ruleset",
    "Selector",
    "SubjectPass",
    "TLSRPT",
    "WebForward",
    "WebHandler",
    "WebInternal",
    "WebRedirect",
    "WebStatic",
]

_DOMAIN_EXAMPLE: Final = "example.org"


@section
class Dynamic:
    """The whole of domains.conf."""

    domains: Mapping[str, ConfigDomain] = req(
        "Domains",
        "Domains with mail here, by name. Internationalised names are written in Unicode.",
        dict,
        example=_DOMAIN_EXAMPLE,
    )
    accounts: Mapping[str, Account] = req(
        "Accounts",
        "Accounts, by name. The name is not used for login, which takes an address.",
        dict,
        example="me",
    )
    web_domain_redirects: Mapping[str, str] = opt(
        "WebDomainRedirects",
        "Redirect all requests for the first domain to the second, with the same path, over "
        "HTTPS. Done before WebHandlers.",
        dict,
        example={"www.example.org": "example.org"},
    )
    web_handlers: tuple[WebHandler, ...] = opt(
        "WebHandlers",
        "What the web server answers, on listeners with WebserverHTTP or WebserverHTTPS. The "
        "first handler that matches runs. Handlers come before the server's own web interfaces, "
        "but after what it must serve for ACME, MTA-STS and autoconfig.",
        (),
    )
    routes: tuple[Route, ...] = opt(
        "Routes",
        "How messages are delivered if neither the account nor the domain has a route that "
        "matches; the first one that matches is taken. Otherwise delivery is direct.",
        (),
    )
    monitor_dnsbls: tuple[str, ...] = opt(
        "MonitorDNSBLs",
        "DNS block lists to look up this server's addresses in, to see in metrics and at the "
        "admin page when one of them lists an address. They have no influence on delivery.",
        (),
        example=("sbl.spamhaus.org", "bl.spamcop.net"),
    )

    monitor_dnsbl_zones: tuple[Domain, ...] = resolved("MonitorDNSBLZones", ())
    web_dns_domain_redirects: Mapping[str, Domain] = resolved(zero=dict)
    index: Index = resolved()
    warnings: tuple[str, ...] = resolved(zero=())
