"""Sections of mox.conf for transports: ways to deliver outgoing messages."""

from __future__ import annotations

from moxtw.config.codec import opt, req, resolved, section
from moxtw.config.listener import IPAddress
from moxtw.mail.domain import Domain


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
