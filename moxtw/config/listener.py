"""Sections of mox.conf for listeners: addresses, TLS, and the services on them."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.x509 import Certificate

from moxtw.config.codec import opt, req, resolved, section
from moxtw.config.duration import Duration
from moxtw.mail.domain import Domain

IPAddress = IPv4Address | IPv6Address


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
    greeting_delay: Duration | None = opt(
        "GreetingDelay",
        "Wait before the greeting of each connection, at most 60s. Programs that send junk often "
        "talk without waiting for it, and are refused then. Default: 5s for addresses and networks "
        "from which many messages were refused in the last minutes, no wait for all others; 0s "
        "switches the wait off for all.",
        None,
        example=Duration.of(seconds=0),
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
