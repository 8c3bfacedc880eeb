"""mox.conf: what the server reads once, at start.

Attributes that are not in the file (declared with `resolved`) are set by `moxtw.config.load`:
parsed domain names, effective ports and paths, loaded keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

from moxtw.config.codec import opt, req, resolved, section
from moxtw.config.duration import Duration
from moxtw.config.listener import (
    TLS,
    IPAddress,
    KeyCert,
    Listener,
    ListenerIMAP,
    ListenerIMAPS,
    ListenerMonitor,
    ListenerPolicy,
    ListenerSMTP,
    ListenerSubmission,
    ListenerSubmissions,
    ListenerWebserver,
    WebService,
)
from moxtw.config.transport import (
    SMTPAuth,
    Transport,
    TransportDirect,
    TransportFail,
    TransportSMTP,
    TransportSocks,
)
from moxtw.mail.domain import Domain

IPNetwork = IPv4Network | IPv6Network

__all__ = [
    "ACME",
    "CA",
    "ExternalAccountBinding",
    "HostTLSRPT",
    "IPAddress",
    "IPNetwork",
    "InitialMailboxes",
    "KeyCert",
    "Listener",
    "ListenerIMAP",
    "ListenerIMAPS",
    "ListenerMonitor",
    "ListenerPolicy",
    "ListenerSMTP",
    "ListenerSubmission",
    "ListenerSubmissions",
    "ListenerWebserver",
    "Postmaster",
    "SMTPAuth",
    "SpecialUseMailboxes",
    "Static",
    "StaticTLS",
    "TLS",
    "Transport",
    "TransportDirect",
    "TransportFail",
    "TransportSMTP",
    "TransportSocks",
    "Updates",
    "WebService",
]


@section
class CA:
    """Certificate authorities."""

    additional_to_system: bool = opt(
        "AdditionalToSystem",
        "Trust the certificates below as well as those of the operating system, instead of only "
        "the ones below.",
        False,
    )
    cert_files: tuple[str, ...] = opt(
        "CertFiles", "Files with CA certificates, PEM.", (), example=("ca.crt",)
    )

    cert_pem: bytes = resolved(zero=b"")


@section
class StaticTLS:
    """TLS settings for all connections that the server makes."""

    ca: CA = opt(
        "CA",
        "Which certificate authorities are trusted for connections that this server makes, for "
        "example for ACME, MTA-STS policies and webhooks. Useful for tests with a CA of one's "
        "own.",
        CA,
    )


@section
class ExternalAccountBinding:
    """Credentials that tie an ACME account to an account with the provider."""

    key_id: str = req("KeyID", "Key identifier, from the ACME provider.", example="abcdef")
    key_file: str = req(
        "KeyFile",
        "File with the MAC key from the ACME provider, base64url encoded. It is used to bind the "
        "ACME account to an account with the provider when it is first registered.",
        example="eab.key",
    )

    key: bytes = resolved(zero=b"")


@section
class ACME:
    """A provider of TLS certificates."""

    directory_url: str = req(
        "DirectoryURL",
        "Where the ACME conversation begins, for example "
        "https://acme-v02.api.letsencrypt.org/directory.",
        example="https://acme-v02.api.letsencrypt.org/directory",
    )
    renew_before: Duration = opt(
        "RenewBefore",
        "How long before expiration a certificate is renewed. Default: when a third of its "
        "lifetime is left, at most 30 days.",
        Duration(0),
        example=Duration.of(hours=720),
    )
    contact_email: str = req(
        "ContactEmail",
        "Address that the provider may write to about certificates, given at registration.",
        example="postmaster@example.org",
    )
    port: int = opt(
        "Port",
        "Port on which TLS-ALPN-01 challenges arrive. The provider always connects to port 443, "
        "so this is only for setups that forward that port to another one. Default: 443.",
        0,
        example=443,
    )
    issuer_domain_name: str = opt(
        "IssuerDomainName",
        "Name of the provider for CAA records, which say who may issue certificates for a "
        "domain. Only used in suggested DNS records. For Let's Encrypt: letsencrypt.org.",
        example="letsencrypt.org",
    )
    external_account_binding: ExternalAccountBinding | None = opt(
        "ExternalAccountBinding",
        "For providers that demand an account with them. Let's Encrypt does not.",
        None,
    )

    effective_port: int = resolved(zero=443)


@section
class Postmaster:
    """Where mail for the postmaster goes."""

    account: str = req(
        "Account",
        "Account for mail to postmaster at the hostname and at every hosted domain, for error "
        "reports of the server, and owner of the reports that it sends.",
        example="me",
    )
    mailbox: str = req("Mailbox", "Mailbox in that account.", example="Postmaster")


@section
class Updates:
    """Who announces new versions of this program."""

    domain: str = req(
        "Domain",
        "Domain of the announcements: the latest version is in a TXT record at "
        "_updates.<domain>, and what is new in it at https://updates.<domain>/.",
        example="moxtw.example",
    )
    public_key: str = req(
        "PublicKey",
        "Key that descriptions of versions are signed with: ed25519, base64 of 32 bytes, as "
        "printed by the command updates pubkey.",
        example="8qEgTwQ4iPUnOHwdK0iKUvNJzOjOtEpRMB3FEcBRB4Q=",
    )

    dns_domain: Domain = resolved(zero=Domain)
    key: bytes = resolved(zero=b"")


@section
class HostTLSRPT:
    """Where reports about TLS to the hostname go."""

    account: str = req("Account", "Account that receives the reports.", example="me")
    mailbox: str = req("Mailbox", "Mailbox in that account.", example="TLSRPT")
    localpart: str = req(
        "Localpart", "Localpart of the address at the hostname.", example="tlsreports"
    )

    parsed_localpart: str = resolved(zero="")


@section
class SpecialUseMailboxes:
    """Names for mailboxes with a role."""

    sent: str = opt("Sent", "Mailbox for sent messages.", example="Sent")
    archive: str = opt("Archive", "Mailbox for archived messages.", example="Archive")
    trash: str = opt("Trash", "Mailbox for deleted messages.", example="Trash")
    draft: str = opt("Draft", "Mailbox for drafts.", example="Drafts")
    junk: str = opt("Junk", "Mailbox for junk.", example="Junk")


@section
class InitialMailboxes:
    """Mailboxes of a new account."""

    special_use: SpecialUseMailboxes = opt(
        "SpecialUse",
        "Mailboxes with a role that mail clients know about. A role without name gets no mailbox.",
        SpecialUseMailboxes,
    )
    regular: tuple[str, ...] = opt(
        "Regular", "Further mailboxes. Inbox always exists.", (), example=("Lists",)
    )


@section
class Static:
    """The whole of mox.conf."""

    data_dir: str = req(
        "DataDir",
        "Directory for all that the server stores. A relative path, here and everywhere in both "
        "files, starts from the directory of mox.conf.",
        example="../data",
    )
    log_level: str = req(
        "LogLevel",
        "What is logged: error, warn, info, debug, trace (protocol transcripts without "
        "credentials and data), traceauth (with credentials), tracedata (with message data).",
        example="info",
    )
    package_log_levels: Mapping[str, str] = opt(
        "PackageLogLevels",
        "Log levels of parts of the program that differ from LogLevel, for example smtpserver, "
        "imapserver, queue, http.",
        dict,
        example={"smtpserver": "debug"},
    )
    user: str = opt(
        "User",
        "User to run as once the ports are open: a name, or a user id, which is also the group "
        "id. Started as root, the server needs it to give up its rights. Default: mox.",
        example="mox",
    )
    no_fix_permissions: bool = opt(
        "NoFixPermissions",
        "Do not correct owners and permissions of files at start as root. Without this, the "
        "configuration and data directories are made accessible to User only.",
        False,
    )
    hostname: str = req(
        "Hostname",
        "Full name of this machine. Others find mail servers by name and compare: the name must "
        "resolve to the addresses of this machine, and those addresses back to the name. It is "
        "used in greetings, Received headers and Message-Ids.",
        example="mail.example.org",
    )
    check_updates: bool = opt(
        "CheckUpdates",
        "Look once a day whether there is a new version, and deliver its description to the "
        "postmaster. Who announces them is said under Updates.",
        False,
    )
    updates: Updates | None = opt(
        "Updates", "Who announces new versions of this program, for CheckUpdates.", None
    )
    pedantic: bool = opt(
        "Pedantic",
        "Refuse protocol violations of clients and servers that otherwise are tolerated. For "
        "tests of clients; in daily use this loses mail.",
        False,
    )
    resolvers: tuple[str, ...] = opt(
        "Resolvers",
        "DNS resolvers to ask instead of those in /etc/resolv.conf: IP addresses, with a port "
        "if it is not 53, as in 127.0.0.1:5353 or [::1]:5353. DNSSEC results are trusted from "
        "loopback addresses.",
        (),
        example=("127.0.0.1", "[::1]:5353"),
    )
    database_url: str = opt(
        "DatabaseURL",
        "Database to keep everything in, as URL of SQLAlchemy. Default: an SQLite file in "
        "DataDir, which suits all but the largest servers. For PostgreSQL: "
        "postgresql+psycopg://user:password@host/name.",
        example="postgresql+psycopg://mox:secret@localhost/mox",
    )
    connection_limit_exemptions: tuple[str, ...] = opt(
        "ConnectionLimitExemptions",
        "Networks whose clients are not held to the limits on new and on open connections, for "
        "example a load balancer or a monitoring system. Limits on failed logins still hold.",
        (),
        example=("127.0.0.0/8", "::1/128"),
    )
    tls: StaticTLS = opt("TLS", "Settings for connections that this server makes.", StaticTLS)
    acme: Mapping[str, ACME] = opt(
        "ACME",
        "Providers of TLS certificates, by names for use in the TLS section of listeners. "
        "Certificates are requested and renewed automatically.",
        dict,
        example="letsencrypt",
    )
    admin_password_file: str = opt(
        "AdminPasswordFile",
        "File with the bcrypt hash of the password for the admin pages, as written by the "
        "setadminpassword command. Without it, nobody can log in there.",
        example="adminpasswd",
    )
    listeners: Mapping[str, Listener] = req(
        "Listeners",
        "Groups of addresses and the services on them. The names are free, but: the listener "
        "named public is taken for the one that the internet reaches, in suggested DNS records "
        "and client settings. A good setup has it and one named internal, on loopback "
        "addresses, for the admin pages.",
        dict,
        example="public",
    )
    postmaster: Postmaster = req(
        "Postmaster", "Where mail for the postmaster and the server's own mail goes.", Postmaster
    )
    host_tlsrpt: HostTLSRPT = opt(
        "HostTLSRPT",
        "Where reports (TLSRPT, RFC 8460) about TLS connections to the hostname go. Other "
        "servers send them if DNS has a record for them, see the suggested records.",
        HostTLSRPT,
    )
    initial_mailboxes: InitialMailboxes = opt(
        "InitialMailboxes",
        "Mailboxes that new accounts get. Default: Sent, Archive, Trash, Drafts and Junk, with "
        "their roles. Not together with DefaultMailboxes.",
        InitialMailboxes,
    )
    default_mailboxes: tuple[str, ...] = opt(
        "DefaultMailboxes",
        "Older form of InitialMailboxes: just names. Sent, Archive, Trash, Drafts and Junk get "
        "their role. Inbox always exists.",
        (),
        example=("Sent", "Archive", "Trash", "Drafts", "Junk"),
    )
    transports: Mapping[str, Transport] = opt(
        "Transports",
        "Ways to deliver outgoing messages other than directly, by names for use in Routes and "
        "in the queue.",
        dict,
        example="smarthost",
    )
    dmarc_tree_walk: bool = opt(
        "DMARCTreeWalk",
        "Find out which domains belong together for DMARC by a walk up the records in DNS, as the "
        "revision of DMARC (DMARCbis) has it, rather than by the public suffix list of RFC 7489.",
        False,
    )
    no_outgoing_dmarc_reports: bool = opt(
        "NoOutgoingDMARCReports",
        "Send no DMARC aggregate reports to domains that ask for them, and collect no data for "
        "them.",
        False,
    )
    no_outgoing_tls_reports: bool = opt(
        "NoOutgoingTLSReports",
        "Send no TLS reports to domains that ask for them, and collect no data for them.",
        False,
    )
    outgoing_tls_reports_for_all_success: bool = opt(
        "OutgoingTLSReportsForAllSuccess",
        "Send TLS reports also if there was no failure. By default such reports, which are most "
        "of them, are not sent.",
        False,
    )
    quota_message_size: int = opt(
        "QuotaMessageSize",
        "Space that the messages of an account may take, in bytes, if the account has no limit "
        "of its own. 0: no limit.",
        0,
        example=10737418240,
    )

    path: Path = resolved()
    directory: Path = resolved()
    data_path: Path = resolved()
    dynamic_path: Path = resolved()
    admin_password_path: Path | None = resolved()
    dns_hostname: Domain = resolved(zero=Domain)
    effective_user: str = resolved(zero="mox")
    resolver_addresses: tuple[tuple[str, int], ...] = resolved(zero=())
    connection_limit_exempt: tuple[IPNetwork, ...] = resolved(zero=())
    smtp_hostnames: frozenset[str] = resolved(zero=frozenset)
    warnings: tuple[str, ...] = resolved(zero=())

    def resolve_path(self, name: str) -> Path:
        """A path from a configuration file: relative ones start beside mox.conf."""
        return self.directory / name
