"""Checking mox.conf, and filling in what follows from it."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.x509 import load_pem_x509_certificates

from moxtw.config.check import Report, Scope
from moxtw.config.codec import set_resolved
from moxtw.config.duration import Duration
from moxtw.config.static import (
    ACME,
    TLS,
    IPNetwork,
    KeyCert,
    Listener,
    Static,
    Transport,
    TransportFail,
    TransportSMTP,
    TransportSocks,
    WebService,
)
from moxtw.log import LEVELS

SASL_MECHANISMS: Final = (
    "SCRAM-SHA-256-PLUS",
    "SCRAM-SHA-256",
    "SCRAM-SHA-1-PLUS",
    "SCRAM-SHA-1",
    "CRAM-MD5",
)
"""Mechanisms used with a smarthost that names none."""

_OTHER_MECHANISMS: Final = ("PLAIN", "LOGIN")
_TLS_VERSIONS: Final = ("", "TLSv1.0", "TLSv1.1", "TLSv1.2", "TLSv1.3")
_PACKAGE: Final = re.compile(r"[a-z][a-z0-9_]*")
_USER: Final = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.@-]*\$?")
_DATABASE: Final = re.compile(r"[a-z][a-z0-9]*(?:\+[a-z0-9_]+)?://.*")
_SPECIAL_USE_ATTRS: Final = ("sent", "archive", "trash", "draft", "junk")


def check_static(static: Static, path: Path, report: Report, *, check_files: bool) -> None:
    """Check all that can be checked without domains.conf; set the resolved fields.

    check_files: read keys and certificates. Without it they are left unset, for programs that
    need no keys and may not be allowed to read them.
    """
    at = Scope(report)
    directory = path.parent
    set_resolved(
        static,
        path=path,
        directory=directory,
        data_path=directory / static.data_dir,
        dynamic_path=directory / "domains.conf",
        admin_password_path=(
            directory / static.admin_password_file if static.admin_password_file else None
        ),
        dns_hostname=at.at("Hostname").domain(static.hostname),
        effective_user=static.user or "mox",
    )
    if not static.data_dir:
        at.at("DataDir").error("must not be empty")
    _check_levels(static, at)
    _check_updates(static, at)
    if static.user and not _USER.fullmatch(static.user):
        at.at("User").error(f"bad user name or number {static.user[:100]!r}")
    _check_extensions(static, at)
    _check_ca(static, at.at("TLS", "CA", "CertFiles"), check_files)
    for name, acme in static.acme.items():
        _check_acme(acme, static, at.at("ACME", name), check_files)
    if not static.listeners:
        at.at("Listeners").error("need at least one listener")
    for name, listener in static.listeners.items():
        _check_listener(listener, static, at.at("Listeners", name), check_files)
    _check_sockets(static, at.at("Listeners"))
    set_resolved(
        static,
        smtp_hostnames=frozenset(
            listener.effective_hostname.name
            for listener in static.listeners.values()
            if listener.smtp.enabled
        ),
    )
    _check_postmaster(static, at)
    _check_mailboxes(static, at)
    for name, transport in static.transports.items():
        if not name:
            at.at("Transports").error("empty transport name")
        _check_transport(transport, at.at("Transports", name))


def _check_levels(static: Static, at: Scope) -> None:
    if static.log_level not in LEVELS:
        at.at("LogLevel").error(_bad_level(static.log_level))
    for package, level in static.package_log_levels.items():
        if not _PACKAGE.fullmatch(package):
            at.at("PackageLogLevels", package).error(f"bad package name {package[:100]!r}")
        if level not in LEVELS:
            at.at("PackageLogLevels", package).error(_bad_level(level))


def _bad_level(level: str) -> str:
    return f"unknown log level {level[:100]!r}, need one of {', '.join(LEVELS)}"


def _check_extensions(static: Static, at: Scope) -> None:
    resolvers = []
    for index, text in enumerate(static.resolvers):
        server = _resolver(text)
        if server is None:
            at.at("Resolvers", index).error(
                f"bad resolver {text[:100]!r}, need an IP address, or with port "
                "127.0.0.1:5353 or [::1]:5353"
            )
        else:
            resolvers.append(server)
    networks: list[IPNetwork] = []
    for index, text in enumerate(static.connection_limit_exemptions):
        try:
            networks.append(ipaddress.ip_network(text, strict=False))
        except ValueError:
            at.at("ConnectionLimitExemptions", index).error(f"bad network {text[:100]!r}")
    if static.database_url and not _DATABASE.fullmatch(static.database_url):
        # The URL may hold a password: it is not shown.
        at.at("DatabaseURL").error("bad URL, need for example postgresql+psycopg://host/name")
    set_resolved(
        static, resolver_addresses=tuple(resolvers), connection_limit_exempt=tuple(networks)
    )


def _resolver(text: str) -> tuple[str, int] | None:
    """A resolver's address and port."""
    host, port = text, "53"
    if text.startswith("["):
        host, closing, rest = text[1:].partition("]")
        if not closing or (rest and not rest.startswith(":")):
            return None
        port = rest[1:] if rest else "53"
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return None
    if not (port.isascii() and port.isdigit() and 0 < int(port[:6]) <= 65535):
        return None
    return str(ip), int(port)


def _check_ca(static: Static, at: Scope, check_files: bool) -> None:
    ca = static.tls.ca
    if not check_files:
        return
    pem = []
    for index, name in enumerate(ca.cert_files):
        scope = at.at(index)
        path = static.resolve_path(name)
        data = scope.file(path)
        if data and _certificates(scope, path, data):
            pem.append(data)
    set_resolved(ca, cert_pem=b"\n".join(pem))


def _certificates(at: Scope, path: Path, data: bytes) -> tuple[Any, ...]:
    try:
        return tuple(load_pem_x509_certificates(data))
    except ValueError as exc:
        at.error(f"no usable certificate in {path}: {str(exc).split('(', 1)[0].strip()}")
        return ()


def _check_acme(acme: ACME, static: Static, at: Scope, check_files: bool) -> None:
    at.at("DirectoryURL").url(acme.directory_url, "https", "http")
    at.at("ContactEmail").address(acme.contact_email)
    if acme.renew_before < 0:
        at.at("RenewBefore").error("must not be negative")
    set_resolved(acme, effective_port=at.at("Port").port(acme.port, 443))
    at.at("IssuerDomainName").optional_domain(acme.issuer_domain_name)
    binding = acme.external_account_binding
    if binding is None:
        return
    if not binding.key_id:
        at.at("ExternalAccountBinding", "KeyID").error("must not be empty")
    if not check_files:
        return
    scope = at.at("ExternalAccountBinding", "KeyFile")
    data = scope.file(static.resolve_path(binding.key_file)).strip()
    try:
        key = base64.b64decode(data + b"=" * (-len(data) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        scope.error("the key must be base64url encoded")
    else:
        set_resolved(binding, key=key)


def _check_listener(listener: Listener, static: Static, at: Scope, check_files: bool) -> None:
    ips = [at.at("IPs", n).ip(text) for n, text in enumerate(listener.ips)]
    if not ips:
        at.at("IPs").error("need at least one IP address")
    nat_ips = [at.at("NATIPs", n).ip(text) for n, text in enumerate(listener.nat_ips)]
    for index, ip in enumerate(nat_ips):
        if ip is not None and (ip.is_unspecified or ip.is_loopback):
            at.at("NATIPs", index).error("must be a public address")
    if listener.nat_ips and listener.ips_nated:
        at.at("IPsNATed").error("not together with NATIPs")
    if listener.smtp_max_message_size < 0:
        at.at("SMTPMaxMessageSize").error("must not be negative")
    set_resolved(
        listener,
        ip_addresses=tuple(ip for ip in ips if ip is not None),
        nat_ip_addresses=tuple(ip for ip in nat_ips if ip is not None),
        effective_hostname=(
            at.at("Hostname").domain(listener.hostname)
            if listener.hostname
            else static.dns_hostname
        ),
        effective_max_message_size=listener.smtp_max_message_size or 100 << 20,
    )
    if listener.tls is not None:
        _check_tls(listener.tls, static, at.at("TLS"), check_files)
    _check_mail_services(listener, at)
    _check_web_services(listener, at)
    _check_tls_needs(listener, at)


def _check_mail_services(listener: Listener, at: Scope) -> None:
    smtp = listener.smtp
    scope = at.at("SMTP")
    delay = smtp.first_time_sender_delay
    if delay is not None and delay < 0:
        scope.at("FirstTimeSenderDelay").error("must not be negative")
    if smtp.greeting_delay is not None and not 0 <= smtp.greeting_delay.seconds <= 60:
        scope.at("GreetingDelay").error("must be from 0s to 60s")
    if smtp.no_starttls and smtp.require_starttls:
        scope.at("RequireSTARTTLS").error("not together with NoSTARTTLS")
    disabled = smtp.tls_session_tickets_disabled
    set_resolved(
        smtp,
        effective_port=scope.at("Port").port(smtp.port, 25),
        dnsbl_zones=tuple(scope.at("DNSBLs", n).domain(z) for n, z in enumerate(smtp.dnsbls)),
        effective_first_time_sender_delay=Duration.of(seconds=15) if delay is None else delay,
        effective_session_tickets=disabled is False,
    )
    for service, name, default in (
        (listener.submission, "Submission", 587),
        (listener.submissions, "Submissions", 465),
        (listener.imap, "IMAP", 143),
        (listener.imaps, "IMAPS", 993),
    ):
        port = at.at(name, "Port").port(service.port, default)
        set_resolved(service, effective_port=port)


_WEB_SERVICES: Final = (
    ("account_http", "AccountHTTP", 80, "/"),
    ("account_https", "AccountHTTPS", 443, "/"),
    ("admin_http", "AdminHTTP", 80, "/admin/"),
    ("admin_https", "AdminHTTPS", 443, "/admin/"),
    ("webmail_http", "WebmailHTTP", 80, "/webmail/"),
    ("webmail_https", "WebmailHTTPS", 443, "/webmail/"),
    ("webapi_http", "WebAPIHTTP", 80, "/webapi/"),
    ("webapi_https", "WebAPIHTTPS", 443, "/webapi/"),
)

_OTHER_HTTP: Final = (
    ("metrics_http", "MetricsHTTP", 8010),
    ("pprof_http", "PprofHTTP", 8011),
    ("autoconfig_https", "AutoconfigHTTPS", 443),
    ("mtasts_https", "MTASTSHTTPS", 443),
    ("webserver_http", "WebserverHTTP", 80),
    ("webserver_https", "WebserverHTTPS", 443),
)


def _check_web_services(listener: Listener, at: Scope) -> None:
    for attr, name, port, path in _WEB_SERVICES:
        service: WebService = getattr(listener, attr)
        effective = service.path or path
        if not effective.startswith("/") or "//" in effective:
            at.at(name, "Path").error(f"bad path {effective[:100]!r}, need /, or for example /x/")
        elif not effective.endswith("/"):
            at.at(name, "Path").warn(f"path {effective!r} should end with a slash; added")
            effective += "/"
        set_resolved(
            service,
            effective_port=at.at(name, "Port").port(service.port, port),
            effective_path=effective,
        )
    for attr, name, port in _OTHER_HTTP:
        other = getattr(listener, attr)
        set_resolved(other, effective_port=at.at(name, "Port").port(other.port, port))


def _check_tls_needs(listener: Listener, at: Scope) -> None:
    """TLS settings must be there where a service cannot do without."""
    tls = listener.tls
    smtp = listener.smtp
    needs = [
        ("SMTP", smtp.enabled and not smtp.no_starttls),
        (
            "Submission",
            listener.submission.enabled and not listener.submission.no_require_starttls,
        ),
        ("Submissions", listener.submissions.enabled),
        ("IMAP", listener.imap.enabled and not listener.imap.no_require_starttls),
        ("IMAPS", listener.imaps.enabled),
    ]
    needs += [
        (name, getattr(listener, attr).enabled)
        for attr, name, _, _ in _WEB_SERVICES
        if attr.endswith("_https")
    ]
    for attr, name in (("autoconfig_https", "AutoconfigHTTPS"), ("mtasts_https", "MTASTSHTTPS")):
        service = getattr(listener, attr)
        needs.append((name, service.enabled and not service.non_tls))
    needs.append(("WebserverHTTPS", listener.webserver_https.enabled))
    needing = [name for name, need in needs if need]
    if tls is None:
        if needing:
            at.error(f"needs a TLS section, for {', '.join(needing)}")
    elif not tls.acme and not tls.key_certs and needing:
        at.at("TLS").error(f"needs ACME or KeyCerts, for {', '.join(needing)}")
    https = {port for port, tls_on, _, _ in http_services(listener) if tls_on}
    for name, mail in (("Submissions", listener.submissions), ("IMAPS", listener.imaps)):
        if mail.enabled_on_https and mail.enabled and 443 not in https:
            at.at(name, "EnabledOnHTTPS").error("needs a service with HTTPS on port 443")


def _check_tls(tls: TLS, static: Static, at: Scope, check_files: bool) -> None:
    if tls.acme and tls.key_certs:
        at.at("ACME").error("not together with KeyCerts")
    if tls.acme and tls.acme not in static.acme:
        at.at("ACME").error(f"no ACME provider {tls.acme[:100]!r} is configured")
    if tls.min_version not in _TLS_VERSIONS:
        at.at("MinVersion").error(
            f"unknown TLS version {tls.min_version[:100]!r}, "
            f"need one of {', '.join(_TLS_VERSIONS[1:])}"
        )
    for index, key_cert in enumerate(tls.key_certs):
        _check_key_cert(key_cert, static, at.at("KeyCerts", index), check_files)
    if not check_files:
        return
    keys: list[RSAPrivateKey | EllipticCurvePrivateKey] = []
    for index, name in enumerate(tls.host_private_key_files):
        scope = at.at("HostPrivateKeyFiles", index)
        path = static.resolve_path(name)
        key = scope.private_key(scope.file(path), path)
        if isinstance(key, RSAPrivateKey):
            if key.key_size != 2048:
                scope.error(f"need an RSA key of 2048 bits, this one has {key.key_size}")
            else:
                keys.append(key)
        elif isinstance(key, EllipticCurvePrivateKey):
            if not isinstance(key.curve, SECP256R1):
                scope.error(f"need the curve P-256 for an ECDSA key, this is {key.curve.name}")
            else:
                keys.append(key)
        elif key is not None:
            scope.error("need an RSA or ECDSA key")
    set_resolved(tls, host_private_keys=tuple(keys))


def _check_key_cert(key_cert: KeyCert, static: Static, at: Scope, check_files: bool) -> None:
    cert_path = static.resolve_path(key_cert.cert_file)
    key_path = static.resolve_path(key_cert.key_file)
    set_resolved(key_cert, cert_path=cert_path, key_path=key_path)
    if not check_files:
        return
    at_cert, at_key = at.at("CertFile"), at.at("KeyFile")
    cert_pem = at_cert.file(cert_path)
    key_pem = at_key.file(key_path)
    chain = _certificates(at_cert, cert_path, cert_pem) if cert_pem else ()
    key = at_key.private_key(key_pem, key_path)
    if not chain or key is None:
        return
    if chain[0].public_key() != key.public_key():
        at_key.error(f"the key in {key_path} does not belong to the certificate in {cert_path}")
        return
    set_resolved(key_cert, cert_pem=cert_pem, key_pem=key_pem, chain=chain)


def http_services(listener: Listener) -> Iterator[tuple[int, bool, str, Any]]:
    """The enabled HTTP services of a listener: port, whether with TLS, name, settings."""
    for attr, name, _, _ in _WEB_SERVICES:
        service = getattr(listener, attr)
        if service.enabled:
            yield service.effective_port, attr.endswith("_https"), name, service
    for attr, name, _ in _OTHER_HTTP:
        service = getattr(listener, attr)
        if service.enabled:
            tls = attr.endswith("_https") and not getattr(service, "non_tls", False)
            yield service.effective_port, tls, name, service


def _mail_services(listener: Listener) -> Iterator[tuple[int, str]]:
    for service, name in (
        (listener.smtp, "SMTP"),
        (listener.submission, "Submission"),
        (listener.submissions, "Submissions"),
        (listener.imap, "IMAP"),
        (listener.imaps, "IMAPS"),
    ):
        if service.enabled:
            yield service.effective_port, name


def _check_sockets(static: Static, at: Scope) -> None:
    """Each address and port can be used once; HTTP services of a listener share theirs."""
    used: dict[tuple[Any, int], tuple[str, str]] = {}
    for listener_name, listener in static.listeners.items():
        ports: dict[int, tuple[str, str]] = {}
        for port, name in _mail_services(listener):
            if port in ports:
                at.at(listener_name, name).error(f"port {port} is used by {ports[port][1]} too")
            ports[port] = (listener_name, name)
        http: dict[int, tuple[bool, str]] = {}
        for port, tls, name, _ in http_services(listener):
            scope = at.at(listener_name, name)
            if port in ports and port not in http:
                scope.error(f"port {port} is used by {ports[port][1]} too")
                continue
            if port in http:
                if http[port][0] != tls:
                    scope.error(f"port {port} cannot be both HTTP and HTTPS ({http[port][1]})")
                if "PprofHTTP" in (name, http[port][1]):
                    scope.error(f"PprofHTTP needs port {port} for itself")
            http.setdefault(port, (tls, name))
            ports.setdefault(port, (listener_name, name))
        for port, user in ports.items():
            for ip in listener.ip_addresses:
                other = used.setdefault((ip, port), user)
                if other is not user:
                    at.at(*user).error(
                        f"{ip} port {port} is used by listener {other[0]!r} ({other[1]}) too"
                    )


def _check_postmaster(static: Static, at: Scope) -> None:
    if not static.postmaster.account:
        at.at("Postmaster", "Account").error("must not be empty")
    at.at("Postmaster", "Mailbox").mailbox(static.postmaster.mailbox)
    report = static.host_tlsrpt
    if report == type(report)():
        return
    scope = at.at("HostTLSRPT")
    if not report.account:
        scope.at("Account").error("must not be empty")
    scope.at("Mailbox").mailbox(report.mailbox)
    set_resolved(report, parsed_localpart=scope.at("Localpart").report_localpart(report.localpart))


def _check_updates(static: Static, at: Scope) -> None:
    updates = static.updates
    if updates is None:
        if static.check_updates:
            at.at("CheckUpdates").warn("has no effect without Updates")
        return
    scope = at.at("Updates")
    key = b""
    try:
        key = base64.b64decode(updates.public_key, validate=True)
    except ValueError as exc:
        scope.at("PublicKey").error(f"bad base64: {exc}")
    else:
        if len(key) != 32:
            scope.at("PublicKey").error(f"need 32 bytes, not {len(key)}")
    set_resolved(updates, dns_domain=scope.at("Domain").domain(updates.domain), key=key)


def _check_mailboxes(static: Static, at: Scope) -> None:
    initial = static.initial_mailboxes
    if static.default_mailboxes and initial != type(initial)():
        at.at("InitialMailboxes").error("not together with DefaultMailboxes")
    names: set[str] = set()

    def unique(scope: Scope, name: str) -> None:
        if name in names:
            scope.error(f"mailbox {name!r} is named twice")
        names.add(name)

    special = initial.special_use
    for attr in _SPECIAL_USE_ATTRS:
        name = getattr(special, attr)
        scope = at.at("InitialMailboxes", "SpecialUse", attr.capitalize())
        if name:
            scope.mailbox(name, inbox=False)
            unique(scope, name)
    for index, name in enumerate(initial.regular):
        scope = at.at("InitialMailboxes", "Regular", index)
        scope.mailbox(name)
        unique(scope, name)
    for index, name in enumerate(static.default_mailboxes):
        scope = at.at("DefaultMailboxes", index)
        scope.mailbox(name)
        unique(scope, name)


def _check_transport(transport: Transport, at: Scope) -> None:
    kinds = [
        (name, value)
        for name, value in (
            ("Submissions", transport.submissions),
            ("Submission", transport.submission),
            ("SMTP", transport.smtp),
            ("Socks", transport.socks),
            ("Direct", transport.direct),
            ("Fail", transport.fail),
        )
        if value is not None
    ]
    if len(kinds) != 1:
        at.error("need exactly one of Submissions, Submission, SMTP, Socks, Direct, Fail")
    ports = {"Submissions": 465, "Submission": 587, "SMTP": 25}
    for name, value in kinds:
        scope = at.at(name)
        if isinstance(value, TransportSMTP):
            _check_transport_smtp(value, scope, ports[name])
            if name == "Submissions" and value.no_starttls:
                scope.at("NoSTARTTLS").error("TLS is used from the start here, not STARTTLS")
        elif isinstance(value, TransportSocks):
            _check_transport_socks(value, scope)
        elif isinstance(value, TransportFail):
            _check_transport_fail(value, scope)
        elif value.disable_ipv4 and value.disable_ipv6:
            scope.error("cannot disable both IPv4 and IPv6")


def _check_transport_smtp(smtp: TransportSMTP, at: Scope, port: int) -> None:
    set_resolved(
        smtp,
        dns_host=at.at("Host").domain(smtp.host),
        effective_port=at.at("Port").port(smtp.port, port),
    )
    if smtp.no_starttls and smtp.starttls_insecure_skip_verify:
        at.at("STARTTLSInsecureSkipVerify").error("not together with NoSTARTTLS")
    auth = smtp.auth
    if auth is None:
        return
    for index, name in enumerate(auth.mechanisms):
        if name not in SASL_MECHANISMS and name not in _OTHER_MECHANISMS:
            at.at("Auth", "Mechanisms", index).error(
                f"unknown mechanism {name[:100]!r}, need one of "
                f"{', '.join((*SASL_MECHANISMS, *_OTHER_MECHANISMS))}"
            )
    set_resolved(auth, effective_mechanisms=auth.mechanisms or SASL_MECHANISMS)


def _check_transport_socks(socks: TransportSocks, at: Scope) -> None:
    host, colon, port = socks.address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    number = int(port) if port.isascii() and port.isdigit() and len(port) < 6 else 0
    if not (host and colon and 0 < number <= 65535):
        at.at("Address").error(f"bad address {socks.address[:100]!r}, need host:port")
    if not socks.remote_ips:
        at.at("RemoteIPs").error("need at least one IP address")
    ips = [at.at("RemoteIPs", n).ip(text) for n, text in enumerate(socks.remote_ips)]
    set_resolved(
        socks,
        host=host,
        port=number,
        remote_ip_addresses=tuple(ip for ip in ips if ip is not None),
        dns_remote_hostname=at.at("RemoteHostname").domain(socks.remote_hostname),
    )


def _check_transport_fail(fail: TransportFail, at: Scope) -> None:
    code = fail.smtp_code or 554
    if not 400 <= code <= 599:
        at.at("SMTPCode").error(f"bad code {code}, need 4xx or 5xx")
    at.at("SMTPMessage").text(fail.smtp_message)
    set_resolved(
        fail,
        effective_code=code,
        effective_message=fail.smtp_message or "delivery by this transport is switched off",
    )
