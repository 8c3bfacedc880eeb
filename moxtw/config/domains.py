"""Sections of domains.conf for domains: signatures, reports, routes, aliases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from moxtw.config.codec import opt, req, resolved, section
from moxtw.config.destination import Destination
from moxtw.config.duration import Duration
from moxtw.mail.address import Address
from moxtw.mail.domain import Domain

DEFAULT_DKIM_HEADERS: Final = (
    "From",
    "To",
    "Cc",
    "Bcc",
    "Reply-To",
    "References",
    "In-Reply-To",
    "Subject",
    "Date",
    "Message-Id",
    "Content-Type",
)
"""Header fields that a selector signs if it names none."""

_DOMAIN_EXAMPLE: Final = "example.org"


@section
class Canonicalization:
    """How a message is normalised before it is signed, RFC 6376 3.4."""

    header_relaxed: bool = req(
        "HeaderRelaxed",
        "Ignore changes of white space and of the case of names in headers; otherwise no change "
        "is tolerated.",
        False,
        example=True,
    )
    body_relaxed: bool = req(
        "BodyRelaxed",
        "Ignore changes of white space in the body; otherwise only added empty lines at the end "
        "are tolerated.",
        False,
        example=True,
    )


@section
class Selector:
    """A DKIM key and how to sign with it."""

    hash: str = opt(
        "Hash",
        "sha256 or sha1. Default: sha256. Signatures with sha1 are of no use to most receivers.",
        example="sha256",
    )
    canonicalization: Canonicalization = opt(
        "Canonicalization",
        "What changes on the way leave the signature valid. Default: almost none.",
        Canonicalization,
    )
    headers: tuple[str, ...] = opt(
        "Headers",
        "Header fields to sign; From must be one of them. Default: "
        f"{', '.join(DEFAULT_DKIM_HEADERS)}.",
        (),
        example=("From", "To", "Subject", "Date"),
    )
    dont_seal_headers: bool = opt(
        "DontSealHeaders",
        "Without this, each header field is signed once more than it occurs, so that adding "
        "another one later breaks the signature. Mailing lists that add header fields may need "
        "this.",
        False,
    )
    expiration: str = opt(
        "Expiration",
        "How long a signature is valid, for example 72h. Should allow for messages that are "
        "delivered late. Default: for ever.",
        example="72h",
    )
    private_key_file: str = req(
        "PrivateKeyFile",
        "File with the private key, RSA (2048 bits for example) or ed25519, PKCS#8 PEM.",
        example="dkim/2026a._domainkey.example.org.20260101T000000.rsa2048.privatekey.pkcs8.pem",
    )

    effective_hash: str = resolved("HashEffective", "sha256")
    effective_headers: tuple[str, ...] = resolved("HeadersEffective", ())
    algorithm: str = resolved("Algorithm", "")
    expiration_seconds: int = resolved(zero=0)
    private_key: RSAPrivateKey | Ed25519PrivateKey = resolved()
    private_key_path: Path = resolved()
    dns_name: Domain = resolved(zero=Domain)


@section
class DKIM:
    """Signatures for messages from a domain."""

    selectors: Mapping[str, Selector] = req(
        "Selectors",
        "Keys, by the selector under which DNS has the public part: "
        "<selector>._domainkey.<domain>.",
        dict,
        example="2026a",
    )
    sign: tuple[str, ...] = opt(
        "Sign",
        "Selectors to sign with, a signature for each. Keys that are listed above but not here "
        "can already be published in DNS, ready for use. Without any, messages are not signed.",
        (),
        example=("2026a",),
    )

    sign_selectors: tuple[tuple[str, Selector], ...] = resolved(zero=())


@section
class DMARC:
    """Where DMARC reports about a domain go."""

    localpart: str = req(
        "Localpart",
        "Localpart of the address that receives the reports. Must be ASCII.",
        example="dmarcreports",
    )
    domain: str = opt(
        "Domain",
        "Domain of that address, if it is another one; it must be configured here. Allows to "
        "receive reports for a domain that has its mail elsewhere: configure the domain without "
        "addresses, and change only its DMARC record.",
        example=_DOMAIN_EXAMPLE,
    )
    account: str = req("Account", "Account that receives the reports.", example="me")
    mailbox: str = req("Mailbox", "Mailbox in that account.", example="DMARC")

    parsed_localpart: str = resolved("ParsedLocalpart", "")
    dns_domain: Domain = resolved("DNSDomain", Domain)


@section
class TLSRPT:
    """Where TLS reports about a domain go."""

    localpart: str = req(
        "Localpart",
        "Localpart of the address that receives the reports. Must be ASCII.",
        example="tlsreports",
    )
    domain: str = opt(
        "Domain",
        "Domain of that address, if it is another one; it must be configured here. As for DMARC.",
        example=_DOMAIN_EXAMPLE,
    )
    account: str = req("Account", "Account that receives the reports.", example="me")
    mailbox: str = req("Mailbox", "Mailbox in that account.", example="TLSRPT")

    parsed_localpart: str = resolved("ParsedLocalpart", "")
    dns_domain: Domain = resolved("DNSDomain", Domain)


@section
class MTASTS:
    """The MTA-STS policy of a domain, RFC 8461."""

    policy_id: str = req(
        "PolicyID",
        "Identifies the policy in DNS; others fetch the policy when it changes. Letters and "
        "digits, at most 32, for example the time of the change.",
        example="20260101T000000",
    )
    mode: str = req(
        "Mode",
        "testing: others report what fails. enforce: others deliver over verified TLS only. "
        "none: to take a policy back; keep it published for as long as the older one may be "
        "remembered.",
        example="testing",
    )
    max_age: Duration = req(
        "MaxAge",
        "How long others may remember the policy. Weeks protect best; begin with a day.",
        Duration(0),
        example=Duration.of(hours=24),
    )
    mx: tuple[str, ...] = opt(
        "MX",
        "Mail hosts of the domain, as in its MX records; *.example.org stands for every name "
        "one level below. Default: the hostname.",
        (),
        example=("mail.example.org",),
    )

    effective_mx: tuple[tuple[bool, Domain], ...] = resolved(zero=())


@section
class Route:
    """Which messages take which transport."""

    from_domain: tuple[str, ...] = opt(
        "FromDomain",
        "Match these domains of the envelope sender. With a dot in front: the domain and all "
        "below it. A lone dot: messages without sender domain. None given: any.",
        (),
        example=(_DOMAIN_EXAMPLE,),
    )
    to_domain: tuple[str, ...] = opt(
        "ToDomain",
        "Match these domains of the recipient, as above. None given: any.",
        (),
        example=(".example.com",),
    )
    minimum_attempts: int = opt(
        "MinimumAttempts",
        "Match from this number of failed attempts on: for a second way that is tried when the "
        "first does not work.",
        0,
        example=3,
    )
    transport: str = req(
        "Transport",
        "Name of the transport, from the Transports section of mox.conf.",
        example="smarthost",
    )

    from_domain_ascii: tuple[str, ...] = resolved("FromDomainASCII", ())
    to_domain_ascii: tuple[str, ...] = resolved("ToDomainASCII", ())


@dataclass(frozen=True, slots=True)
class AliasAddress:
    """A member of an alias."""

    address: Address
    account_name: str
    destination: Destination


@section
class Alias:
    """An address that delivers to several members."""

    addresses: tuple[str, ...] = req(
        "Addresses",
        "Members: addresses of accounts on this server.",
        (),
        example=("me@example.org", "you@example.org"),
    )
    post_public: bool = opt(
        "PostPublic", "Anyone may write to the alias, not only its members.", False
    )
    list_members: bool = opt("ListMembers", "Members can see who the other members are.", False)
    allow_msg_from: bool = opt(
        "AllowMsgFrom",
        "Members may send messages with the address of the alias as author (From header).",
        False,
    )

    localpart_str: str = resolved("LocalpartStr", "")
    domain: Domain = resolved("Domain", Domain)
    parsed_addresses: tuple[AliasAddress, ...] = resolved("ParsedAddresses", ())

    @property
    def address(self) -> Address:
        """The address of the alias."""
        return Address(self.localpart_str, self.domain)


@dataclass(frozen=True, slots=True)
class AddressAlias:
    """Membership of an account in an alias, as shown to its user."""

    subscription_address: str
    alias: Alias
    member_addresses: tuple[str, ...]


@section
class ConfigDomain:
    """A domain with mail on this server."""

    disabled: bool = opt(
        "Disabled",
        "No mail is accepted for the domain, with a temporary error, nor sent from it, and no "
        "TLS certificates are requested for its names. Users with addresses in it can still log "
        "in. For setting a domain up before DNS points here, and for moving away.",
        False,
    )
    description: str = opt("Description", "Free text.", example="our club")
    client_settings_domain: str = opt(
        "ClientSettingsDomain",
        "Name that mail clients are told to connect to, instead of the hostname. With a name in "
        "the domain itself, its users need no new settings when it moves to another server. The "
        "web interfaces answer under it too.",
        example="mail.example.org",
    )
    localpart_catchall_separator: str = opt(
        "LocalpartCatchallSeparator",
        "Text that ends the part of a localpart that counts: with +, mail to me+shop@ goes to "
        "me@. Also used for the unique sender addresses of FromIDLoginAddresses.",
        example="+",
    )
    localpart_catchall_separators: tuple[str, ...] = opt(
        "LocalpartCatchallSeparators",
        "Several such texts. The first is the one used for unique sender addresses. Not together "
        "with LocalpartCatchallSeparator.",
        (),
        example=("+", "-"),
    )
    localpart_case_sensitive: bool = opt(
        "LocalpartCaseSensitive",
        "Me@ and me@ are different addresses. Rarely what people expect.",
        False,
    )
    dkim: DKIM = opt(
        "DKIM",
        "Signatures on messages from the domain, by which receivers can verify them.",
        DKIM,
    )
    dmarc: DMARC | None = opt(
        "DMARC",
        "Where the reports go in which other servers say how messages from the domain fared. "
        "They are stored and shown to the admin. DNS must have a record that asks for them.",
        None,
    )
    mtasts: MTASTS | None = opt(
        "MTASTS",
        "Policy by which other servers deliver over verified TLS. Needs a listener with "
        "MTASTSHTTPS, and a record in DNS.",
        None,
    )
    tlsrpt: TLSRPT | None = opt(
        "TLSRPT",
        "Where the reports go in which other servers say whether TLS worked. DNS must have a "
        "record that asks for them.",
        None,
    )
    routes: tuple[Route, ...] = opt(
        "Routes",
        "How messages from the domain are delivered; the first route that matches is taken. "
        "Routes of the account come first, then these, then the global ones, then delivery is "
        "direct.",
        (),
    )
    aliases: Mapping[str, Alias] = opt(
        "Aliases",
        "Addresses that deliver to several accounts, by localpart: small mailing lists, or "
        "addresses for a team. Messages are passed on as they are.",
        dict,
        example="team",
    )

    domain: Domain = resolved("Domain", Domain)
    effective_separators: tuple[str, ...] = resolved("LocalpartCatchallSeparatorsEffective", ())
    client_settings_dns_domain: Domain = resolved(zero=Domain)
    reports_only: bool = resolved(zero=False)
    checked: object = resolved()
