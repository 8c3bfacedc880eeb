"""mox.conf: what the server reads once, at start.

Attributes that are not in the file (declared with `resolved`) are set by `moxtw.config.load`:
parsed domain names, effective ports and paths, loaded keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.x509 import Certificate

from moxtw.config.codec import opt, req, resolved, section
from moxtw.config.duration import Duration
from moxtw.mail.domain import Domain

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network


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
class KeyCert:
    """A private key with its certificates."""

    cert_file: str = req(
        "CertFile",
        "File with the certificate, followed by its intermediate certificates, PEM.",
        example="mail.example.org-chain.crt.pem",
    )
    key_file: str = req(
        "KeyFile",
        "File with the private key, PEM; PKCS#8 as well as the older forms.",
        example="mail.example.org.key.pem",
    )

    cert_path: Path = resolved()
    key_path: Path = resolved()
    cert_pem: bytes = resolved(zero=b"")
    key_pem: bytes = resolved(zero=b"")
    chain: tuple[Certificate, ...] = resolved(zero=())


@section
class TLS:
    """TLS settings of a listener."""

    acme: str = opt(
        "ACME",
        "Name of a provider from the ACME section at the top. Certificates for all names that "
        "are needed on this listener are requested from it. Not together with KeyCerts.",
        example="letsencrypt",
    )
    key_certs: tuple[KeyCert, ...] = opt(
        "KeyCerts",
        "Keys and certificates to use, for certificates that something else renews. They are "
        "read at start. With clients that name the host they want (SNI), the certificate for "
        "that name is used. Not together with ACME.",
        (),
    )
    min_version: str = opt(
        "MinVersion",
        "Oldest version of TLS to allow: TLSv1.0, TLSv1.1, TLSv1.2 or TLSv1.3. Default: TLSv1.2.",
        example="TLSv1.2",
    )
    host_private_key_files: tuple[str, ...] = opt(
        "HostPrivateKeyFiles",
        "Private keys (PKCS#8 PEM, RSA 2048 or ECDSA P-256) to be used for certificates from "
        "ACME for the hostname. With keys that stay the same over renewals, their hashes can be "
        "published in DNS TLSA records, so that others verify with DANE. Listeners without such "
        "keys take those of the listener named public, else of another one, for the same host. "
        "Has no effect without ACME.",
        (),
        example=(
            "hostkeys/mail.example.org.20260101T000000.rsa2048.privatekey.pkcs8.pem",
            "hostkeys/mail.example.org.20260101T000000.ecdsap256.privatekey.pkcs8.pem",
        ),
    )
    client_auth_disabled: bool = opt(
        "ClientAuthDisabled",
        "Do not ask clients of submission and IMAP for TLS certificates. Asking lets users "
        "authenticate with a certificate that they registered; some clients handle the request "
        "badly and ask their user about it.",
        False,
    )

    host_private_keys: tuple[RSAPrivateKey | EllipticCurvePrivateKey, ...] = resolved(zero=())


@section
class ListenerSMTP:
    """Incoming mail from other servers."""

    enabled: bool = req("Enabled", "Accept mail from other servers.", False, example=True)
    port: int = opt("Port", "Default: 25.", 0, example=25)
    no_starttls: bool = opt(
        "NoSTARTTLS",
        "Do not offer STARTTLS, so that mail arrives unencrypted. Only for tests and for "
        "listeners that are reached through a tunnel.",
        False,
    )
    require_starttls: bool = opt(
        "RequireSTARTTLS",
        "Refuse mail on connections without TLS, except reports about TLS. Mail is lost if the "
        "sender's server has no usable TLS; servers usually do not demand it.",
        False,
    )
    no_require_tls: bool = opt(
        "NoRequireTLS",
        "Do not announce the REQUIRETLS extension (RFC 8689). With it, senders can demand that "
        "a message is passed on only over verified TLS. With any trouble about that, it can be "
        "switched off here.",
        False,
    )
    dnsbls: tuple[str, ...] = opt(
        "DNSBLs",
        "DNS block lists to look up the addresses of unknown senders in. Their lookups tell the "
        "list who writes to you, and their answers reject mail, so choose with care. Messages "
        "from senders with a good reputation are not looked up. For lists without influence on "
        "delivery, only to watch one's own addresses, see MonitorDNSBLs in domains.conf.",
        (),
        example=("sbl.spamhaus.org", "bl.spamcop.net"),
    )
    first_time_sender_delay: Duration | None = opt(
        "FirstTimeSenderDelay",
        "Wait before a message from an unknown sender is accepted. Most junk comes from unknown "
        "senders, many of which give up when an answer takes long. Default: 15s; 0s switches "
        "the wait off.",
        None,
        example=Duration.of(seconds=15),
    )
    tls_session_tickets_disabled: bool | None = opt(
        "TLSSessionTicketsDisabled",
        "Hand out no TLS session tickets. Default: true, as mail servers of Microsoft fail to "
        "use tickets and then deliver without verified TLS or not at all.",
        None,
        example=True,
    )

    effective_port: int = resolved(zero=25)
    dnsbl_zones: tuple[Domain, ...] = resolved(zero=())
    effective_first_time_sender_delay: Duration = resolved(zero=Duration.of(seconds=15))
    effective_session_tickets: bool = resolved(zero=False)


@section
class ListenerSubmission:
    """Mail from users, with STARTTLS."""

    enabled: bool = req(
        "Enabled",
        "Accept mail to be sent from users who authenticate, on connections that start "
        "unencrypted and change to TLS with STARTTLS.",
        False,
        example=True,
    )
    port: int = opt("Port", "Default: 587.", 0, example=587)
    no_require_starttls: bool = opt(
        "NoRequireSTARTTLS",
        "Allow authentication and sending without TLS. Passwords can then be read on the way.",
        False,
    )

    effective_port: int = resolved(zero=587)


@section
class ListenerSubmissions:
    """Mail from users, TLS from the start."""

    enabled: bool = req(
        "Enabled",
        "Accept mail to be sent from users who authenticate, on connections with TLS from the "
        "start. To be preferred over Submission.",
        False,
        example=True,
    )
    port: int = opt("Port", "Default: 465.", 0, example=465)
    enabled_on_https: bool = opt(
        "EnabledOnHTTPS",
        "Offer submission on the HTTPS port 443 as well, to clients that ask for the protocol "
        '"smtp" with ALPN. For networks that let only web traffic pass. Needs a service on port '
        "443.",
        False,
    )

    effective_port: int = resolved(zero=465)


@section
class ListenerIMAP:
    """Reading mail over IMAP, with STARTTLS."""

    enabled: bool = req(
        "Enabled",
        "Serve IMAP on connections that start unencrypted and change to TLS with STARTTLS.",
        False,
        example=True,
    )
    port: int = opt("Port", "Default: 143.", 0, example=143)
    no_require_starttls: bool = opt(
        "NoRequireSTARTTLS",
        "Allow login without TLS. Passwords and mail can then be read on the way.",
        False,
    )

    effective_port: int = resolved(zero=143)


@section
class ListenerIMAPS:
    """Reading mail over IMAP, TLS from the start."""

    enabled: bool = req(
        "Enabled",
        "Serve IMAP on connections with TLS from the start. To be preferred over IMAP.",
        False,
        example=True,
    )
    port: int = opt("Port", "Default: 993.", 0, example=993)
    enabled_on_https: bool = opt(
        "EnabledOnHTTPS",
        "Offer IMAP on the HTTPS port 443 as well, to clients that ask for the protocol "
        '"imap" with ALPN. For networks that let only web traffic pass. Needs a service on port '
        "443.",
        False,
    )

    effective_port: int = resolved(zero=993)


@section
class WebService:
    """A web interface on one port."""

    enabled: bool = req("Enabled", "Serve this interface.", False, example=True)
    port: int = opt("Port", "Default: 80 for HTTP, 443 for HTTPS.", 0)
    path: str = opt(
        "Path",
        "Path at which the interface is served, with a slash at both ends. Default: / for "
        "account, /admin/, /webmail/, /webapi/.",
    )
    forwarded: bool = opt(
        "Forwarded",
        "Requests come from a reverse proxy: take the address of the client from the "
        "X-Forwarded-For header, and whether it uses HTTPS from X-Forwarded-Proto. Never set "
        "this where clients connect directly, as they could claim any address.",
        False,
    )

    effective_port: int = resolved(zero=0)
    effective_path: str = resolved(zero="")


@section
class ListenerMonitor:
    """A service for machines of the admin, plain HTTP on a port of its own."""

    enabled: bool = req("Enabled", "Serve it.", False, example=True)
    port: int = opt("Port", "Default: 8010 for metrics, 8011 for profiling.", 0)

    effective_port: int = resolved(zero=0)


@section
class ListenerPolicy:
    """A service under names of the hosted domains: autoconfig or MTA-STS."""

    enabled: bool = req("Enabled", "Serve it.", False, example=True)
    port: int = opt("Port", "Default: 443.", 0, example=443)
    non_tls: bool = opt(
        "NonTLS",
        "Serve plain HTTP, behind a reverse proxy that does TLS. Clients and other servers use "
        "HTTPS on port 443 only.",
        False,
    )
    forwarded: bool = opt(
        "Forwarded",
        "Requests come from a reverse proxy: take the address of the client from the "
        "X-Forwarded-For header.",
        False,
    )

    effective_port: int = resolved(zero=443)


@section
class ListenerWebserver:
    """The web server for sites that the admin configures."""

    enabled: bool = req(
        "Enabled",
        "Serve the redirects and handlers of domains.conf on this port.",
        False,
        example=True,
    )
    port: int = opt("Port", "Default: 80 for HTTP, 443 for HTTPS.", 0)
    rate_limit_disabled: bool = opt(
        "RateLimitDisabled",
        "Do not limit how many requests a client may make to this port.",
        False,
    )

    effective_port: int = resolved(zero=0)


@section
class Listener:
    """Addresses with the services on them."""

    ips: tuple[str, ...] = req(
        "IPs",
        "Addresses to listen on. 0.0.0.0 and :: stand for all addresses; naming the public "
        "addresses is better, as outgoing connections are then made from them and the checks of "
        "the DNS setup know them.",
        (),
        example=("192.0.2.2", "2001:db8::2"),
    )
    nat_ips: tuple[str, ...] = opt(
        "NATIPs",
        "Public addresses that are translated (NAT) to those in IPs. Used in checks of the DNS "
        "setup, in suggested records and for ACME.",
        (),
        example=("198.51.100.2",),
    )
    ips_nated: bool = opt(
        "IPsNATed",
        "The addresses in IPs are behind NAT, and what the public ones are is not known. Checks "
        "that compare with DNS are left out. Not together with NATIPs, which are better.",
        False,
    )
    hostname: str = opt(
        "Hostname",
        "Name used in greetings and certificates of this listener. Default: the Hostname at the "
        "top.",
        example="mail.example.org",
    )
    tls: TLS | None = opt("TLS", "Needed for STARTTLS and for all services over TLS.", None)
    smtp_max_message_size: int = opt(
        "SMTPMaxMessageSize",
        "Largest message accepted, in bytes, both from other servers and from users. "
        "Default: 104857600 (100 MiB).",
        0,
        example=104857600,
    )
    proxy_protocol: bool = opt(
        "ProxyProtocol",
        "Each connection to this listener begins with a PROXY protocol header (version 1 or 2), "
        "written by a load balancer, that says who the client is. All connections must come "
        "from the load balancer: a client that could connect directly could claim any address.",
        False,
    )
    smtp: ListenerSMTP = opt("SMTP", "Mail from other servers.", ListenerSMTP)
    submission: ListenerSubmission = opt(
        "Submission", "Mail from users, with STARTTLS.", ListenerSubmission
    )
    submissions: ListenerSubmissions = opt(
        "Submissions", "Mail from users, TLS from the start.", ListenerSubmissions
    )
    imap: ListenerIMAP = opt("IMAP", "Reading mail, with STARTTLS.", ListenerIMAP)
    imaps: ListenerIMAPS = opt("IMAPS", "Reading mail, TLS from the start.", ListenerIMAPS)
    account_http: WebService = opt(
        "AccountHTTP",
        "Pages where users change settings of their account, over plain HTTP. Only for "
        "addresses that are reached through a tunnel or a reverse proxy.",
        WebService,
    )
    account_https: WebService = opt("AccountHTTPS", "Account pages over HTTPS.", WebService)
    admin_http: WebService = opt(
        "AdminHTTP",
        "Pages for the admin, over plain HTTP. Best kept on a loopback address and reached "
        "through a tunnel.",
        WebService,
    )
    admin_https: WebService = opt("AdminHTTPS", "Admin pages over HTTPS.", WebService)
    webmail_http: WebService = opt(
        "WebmailHTTP", "Mail in the browser, over plain HTTP.", WebService
    )
    webmail_https: WebService = opt("WebmailHTTPS", "Mail in the browser, over HTTPS.", WebService)
    webapi_http: WebService = opt(
        "WebAPIHTTP",
        "The interface for programs that send and receive mail, over plain HTTP.",
        WebService,
    )
    webapi_https: WebService = opt(
        "WebAPIHTTPS",
        "The interface for programs that send and receive mail, over HTTPS.",
        WebService,
    )
    metrics_http: ListenerMonitor = opt(
        "MetricsHTTP",
        "Metrics in the format of Prometheus at /metrics. Not for the public.",
        ListenerMonitor,
    )
    pprof_http: ListenerMonitor = opt(
        "PprofHTTP",
        "Profiles of the running program. Not for the public. Needs a port for itself.",
        ListenerMonitor,
    )
    autoconfig_https: ListenerPolicy = opt(
        "AutoconfigHTTPS",
        "Settings for mail clients: under autoconfig.<domain> for Thunderbird and others, "
        "autodiscover for Outlook, and profiles for Apple devices.",
        ListenerPolicy,
    )
    mtasts_https: ListenerPolicy = opt(
        "MTASTSHTTPS",
        "MTA-STS policies under mta-sts.<domain>, from which other servers learn that mail to "
        "the domain must be delivered over verified TLS. Needed for the MTASTS settings of a "
        "domain to have an effect.",
        ListenerPolicy,
    )
    webserver_http: ListenerWebserver = opt(
        "WebserverHTTP", "The web server of domains.conf, plain HTTP.", ListenerWebserver
    )
    webserver_https: ListenerWebserver = opt(
        "WebserverHTTPS", "The web server of domains.conf, HTTPS.", ListenerWebserver
    )

    ip_addresses: tuple[IPAddress, ...] = resolved(zero=())
    nat_ip_addresses: tuple[IPAddress, ...] = resolved(zero=())
    effective_hostname: Domain = resolved(zero=Domain)
    effective_max_message_size: int = resolved(zero=100 << 20)


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
class SMTPAuth:
    """Credentials for another mail server."""

    username: str = req("Username", "User name.", example="user@example.org")
    password: str = req("Password", "Password.", example="secret")
    mechanisms: tuple[str, ...] = opt(
        "Mechanisms",
        "Authentication mechanisms to use, the first that the server offers. Default: "
        "SCRAM-SHA-256-PLUS, SCRAM-SHA-256, SCRAM-SHA-1-PLUS, SCRAM-SHA-1, CRAM-MD5. Not among "
        "them, but possible: PLAIN, which gives the password to the server.",
        (),
        example=("SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"),
    )

    effective_mechanisms: tuple[str, ...] = resolved(zero=())


@section
class TransportSMTP:
    """Delivery through another mail server, a smarthost."""

    host: str = req(
        "Host",
        "Host name to connect to. Its certificate must be valid for this name.",
        example="smtp.example.net",
    )
    port: int = opt("Port", "Default: 465 for Submissions, 587 for Submission, 25 for SMTP.", 0)
    starttls_insecure_skip_verify: bool = opt(
        "STARTTLSInsecureSkipVerify",
        "Do not verify the certificate of the host when STARTTLS is used.",
        False,
    )
    no_starttls: bool = opt(
        "NoSTARTTLS",
        "Do not use STARTTLS. Messages, and with PLAIN the password, can be read on the way.",
        False,
    )
    auth: SMTPAuth | None = opt("Auth", "Credentials, if the host needs any.", None)

    dns_host: Domain = resolved(zero=Domain)
    effective_port: int = resolved(zero=0)


@section
class TransportSocks:
    """Direct delivery through a SOCKS5 proxy."""

    address: str = req(
        "Address",
        "Address of the proxy, host:port.",
        example="localhost:1080",
    )
    remote_ips: tuple[str, ...] = req(
        "RemoteIPs",
        "Addresses from which other servers see the connections. Used for checks of SPF.",
        (),
        example=("198.51.100.7",),
    )
    remote_hostname: str = req(
        "RemoteHostname",
        "Host name that belongs to these addresses, for the greeting (EHLO).",
        example="out.example.org",
    )

    dns_remote_hostname: Domain = resolved(zero=Domain)
    remote_ip_addresses: tuple[IPAddress, ...] = resolved(zero=())
    host: str = resolved(zero="")
    port: int = resolved(zero=0)


@section
class TransportDirect:
    """Delivery to the hosts in the recipient domain's DNS, over one kind of addresses."""

    disable_ipv4: bool = opt("DisableIPv4", "Deliver over IPv6 only.", False, example=True)
    disable_ipv6: bool = opt("DisableIPv6", "Deliver over IPv4 only.", False)


@section
class TransportFail:
    """No delivery: messages fail at once."""

    smtp_code: int = opt(
        "SMTPCode",
        "Code of the failure. 4xx is temporary: tried again until the attempts run out. 5xx is "
        "permanent. Default: 554.",
        0,
        example=554,
    )
    smtp_message: str = opt(
        "SMTPMessage",
        "Text of the failure, given to the sender in the delivery status notification.",
        example="delivery to this domain is switched off",
    )

    effective_code: int = resolved("Code", 554)
    effective_message: str = resolved("Message", "")


@section
class Transport:
    """A way to deliver: exactly one of the kinds."""

    submissions: TransportSMTP | None = opt(
        "Submissions",
        "Submit to another mail server, TLS from the start, usually on port 465. Verified by "
        "the public certificate authorities.",
        None,
    )
    submission: TransportSMTP | None = opt(
        "Submission",
        "Submit to another mail server, with STARTTLS, usually on port 587.",
        None,
    )
    smtp: TransportSMTP | None = opt(
        "SMTP",
        "Pass on to another mail server, with STARTTLS, usually on port 25 and without "
        "credentials.",
        None,
    )
    socks: TransportSocks | None = opt(
        "Socks", "Deliver directly, over connections made by a SOCKS5 proxy.", None
    )
    direct: TransportDirect | None = opt(
        "Direct", "Deliver directly, restricted to IPv4 or IPv6.", None
    )
    fail: TransportFail | None = opt(
        "Fail", "Let delivery fail at once, for example for domains not to write to.", None
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
        "postmaster.",
        False,
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
