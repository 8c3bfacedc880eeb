"""What mail clients are to be set to, for a domain."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from moxtw.config.dynamic import ConfigDomain
from moxtw.config.lookup import ConfigView
from moxtw.config.static import Listener
from moxtw.mail.domain import Domain

SUBMISSION: Final = "Submission (SMTP)"
IMAP: Final = "IMAP"

TLS_IMMEDIATE: Final = "tls"
TLS_STARTTLS: Final = "starttls"
TLS_OPTIONAL: Final = "starttls-optional"
TLS_NONE: Final = "plain"

_NOTES: Final = {
    TLS_IMMEDIATE: "TLS from the start",
    TLS_STARTTLS: "STARTTLS required",
    TLS_OPTIONAL: "STARTTLS optional",
    TLS_NONE: "plain text, no STARTTLS",
}

ADVICE: Final = """\
User name: the full address. Authentication, the strongest that the client offers of:
SCRAM-SHA-256-PLUS, SCRAM-SHA-256, SCRAM-SHA-1-PLUS, SCRAM-SHA-1, CRAM-MD5, PLAIN.
A client may also authenticate with a TLS certificate that is registered for the account.
"""
"""What to tell beside the table."""


@dataclass(frozen=True, slots=True)
class ClientConfigEntry:
    """A service that clients can connect to; a row of the table.

    `tls` is one of the TLS_ values. `alpn_443` says that the service is reachable on port 443
    too, by its ALPN name.
    """

    protocol: str
    host: Domain
    port: int
    listener: str
    tls: str
    alpn_443: bool = False

    @property
    def note(self) -> str:
        """How TLS is used, in words."""
        note = _NOTES[self.tls]
        if self.alpn_443:
            name = "smtp" if self.protocol == SUBMISSION else "imap"
            note += f"; also on port 443 with ALPN {name}"
        return note

    def json(self) -> dict[str, object]:
        """The form of the admin interface."""
        return {
            "Protocol": self.protocol,
            "Host": {"ASCII": self.host.ascii, "Unicode": self.host.unicode},
            "Port": self.port,
            "Listener": self.listener,
            "Note": self.note,
        }


def _host(domain: ConfigDomain, listener: Listener) -> Domain:
    settings = domain.client_settings_dns_domain
    return listener.effective_hostname if settings.is_zero else settings


def _entries(domain: ConfigDomain, name: str, listener: Listener) -> Iterator[ClientConfigEntry]:
    host = _host(domain, listener)
    starttls = listener.tls is not None
    submissions, imaps = listener.submissions, listener.imaps
    if submissions.enabled:
        yield ClientConfigEntry(
            SUBMISSION,
            host,
            submissions.effective_port,
            name,
            TLS_IMMEDIATE,
            submissions.enabled_on_https,
        )
    if imaps.enabled:
        yield ClientConfigEntry(
            IMAP, host, imaps.effective_port, name, TLS_IMMEDIATE, imaps.enabled_on_https
        )
    for protocol, service in ((SUBMISSION, listener.submission), (IMAP, listener.imap)):
        if service.enabled:
            tls = TLS_STARTTLS
            if service.no_require_starttls:
                tls = TLS_OPTIONAL if starttls else TLS_NONE
            yield ClientConfigEntry(protocol, host, service.effective_port, name, tls)


def client_config_entries(cfg: ConfigView, domain: Domain) -> list[ClientConfigEntry]:
    """All services for users of a domain, by name of listener. Raises KeyError if unknown."""
    config = cfg.dynamic.domains[domain.name]
    result: list[ClientConfigEntry] = []
    for name, listener in sorted(cfg.static.listeners.items()):
        result.extend(_entries(config, name, listener))
    return result


@dataclass(frozen=True, slots=True)
class ClientConfig:
    """The one service of each kind that a client is told about; None if there is none."""

    imap: ClientConfigEntry | None
    submission: ClientConfigEntry | None


def client_config(cfg: ConfigView, domain: Domain) -> ClientConfig:
    """The best choice for a client: listener "public" first, TLS from the start first.

    Raises KeyError for an unknown domain.
    """
    entries = client_config_entries(cfg, domain)
    entries.sort(key=lambda e: (e.listener != "public", e.listener, e.tls != TLS_IMMEDIATE))
    return ClientConfig(
        next((e for e in entries if e.protocol == IMAP), None),
        next((e for e in entries if e.protocol == SUBMISSION), None),
    )
