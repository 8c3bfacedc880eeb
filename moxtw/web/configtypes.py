"""The configuration in the JSON of the APIs, as types.

Names in JSON are those of the files, durations are nanoseconds. Fields that are absent in
input have the values given here.
"""

from __future__ import annotations

import enum
from typing import Final, NewType

import msgspec
from msgspec import field

from moxtw.web.typewords import Int32, Int64

_WORDS: Final = {
    word.lower(): word
    for word in [
        "ASCII",
        "DER",
        "DKIM",
        "DMARC",
        "DNS",
        "DNSBL",
        "DNSBLs",
        "DSNUTF8",
        "HTTP",
        "ID",
        "IDs",
        "IMAP",
        "IP",
        "IPs",
        "IPv4",
        "IPv6",
        "MTASTS",
        "MX",
        "SMTP",
        "SMTPUTF8",
        "STARTTLS",
        "TLS",
        "TLSRPT",
        "URL",
    ]
}


def api_name(name: str) -> str:
    """The name in JSON of a field: ``dns_domain`` is ``DNSDomain``."""
    return "".join(
        _WORDS.get(word, word[:1].upper() + word[1:]) for word in name.strip("_").split("_")
    )


class ApiStruct(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, rename=api_name):
    """A type of an API: an object in JSON."""


Localpart = NewType("Localpart", str)


class Mode(enum.Enum):
    """How strictly an MTA-STS policy is to be followed."""

    ModeEnforce = "enforce"
    ModeTesting = "testing"
    ModeNone = "none"


class Canonicalization(ApiStruct):
    """How a DKIM signature canonicalizes."""

    header_relaxed: bool = False
    body_relaxed: bool = False


class Selector(ApiStruct):
    """A DKIM key and how to sign with it."""

    hash: str = ""
    hash_effective: str = ""
    canonicalization: Canonicalization = field(default_factory=Canonicalization)
    headers: list[str] = []
    headers_effective: list[str] = []
    dont_seal_headers: bool = False
    expiration: str = ""
    private_key_file: str = ""
    algorithm: str = ""


class DKIM(ApiStruct):
    """The DKIM keys of a domain, by selector, and which sign."""

    selectors: dict[str, Selector] = {}
    sign: list[str] = []


class Domain(ApiStruct):
    """A domain name; `Unicode` is empty for plain ASCII names."""

    ascii: str = ""
    unicode: str = ""


class DMARC(ApiStruct):
    """Where DMARC reports about a domain go."""

    localpart: str = ""
    domain: str = ""
    account: str = ""
    mailbox: str = ""
    parsed_localpart: Localpart = Localpart("")
    dns_domain: Domain = field(default_factory=Domain)


class MTASTS(ApiStruct):
    """The MTA-STS policy of a domain; MaxAge in nanoseconds."""

    policy_id: str = ""
    mode: Mode = Mode.ModeNone
    max_age: Int64 = 0
    mx: list[str] = []


class TLSRPT(ApiStruct):
    """Where TLS reports about a domain go."""

    localpart: str = ""
    domain: str = ""
    account: str = ""
    mailbox: str = ""
    parsed_localpart: Localpart = Localpart("")
    dns_domain: Domain = field(default_factory=Domain)


class Route(ApiStruct):
    """Which messages take which transport."""

    from_domain: list[str] = []
    to_domain: list[str] = []
    minimum_attempts: Int32 = 0
    transport: str = ""
    from_domain_ascii: list[str] = []
    to_domain_ascii: list[str] = []


class Address(ApiStruct):
    """A mail address."""

    localpart: Localpart = Localpart("")
    domain: Domain = field(default_factory=Domain)


class Ruleset(ApiStruct):
    """Conditions on a message, and its mailbox."""

    smtp_mail_from_regexp: str = ""
    msg_from_regexp: str = ""
    verified_domain: str = ""
    headers_regexp: dict[str, str] = {}
    is_forward: bool = False
    list_allow_domain: str = ""
    accept_rejects_to_mailbox: str = ""
    mailbox: str = ""
    comment: str = ""
    verified_dns_domain: Domain = field(default_factory=Domain)
    list_allow_dns_domain: Domain = field(default_factory=Domain)


class Destination(ApiStruct):
    """How mail to an address is delivered."""

    mailbox: str = ""
    rulesets: list[Ruleset] = []
    smtp_error: str = ""
    message_auth_required_smtp_error: str = ""
    full_name: str = ""


class AliasAddress(ApiStruct):
    """A member of an alias."""

    address: Address = field(default_factory=Address)
    account_name: str = ""
    destination: Destination = field(default_factory=Destination)


class Alias(ApiStruct):
    """An address that delivers to several others."""

    addresses: list[str] = []
    post_public: bool = False
    list_members: bool = False
    allow_msg_from: bool = False
    localpart_str: str = ""
    domain: Domain = field(default_factory=Domain)
    parsed_addresses: list[AliasAddress] = []


class ConfigDomain(ApiStruct):
    """A configured domain."""

    disabled: bool = False
    description: str = ""
    client_settings_domain: str = ""
    localpart_catchall_separator: str = ""
    localpart_catchall_separators: list[str] = []
    localpart_case_sensitive: bool = False
    dkim: DKIM = field(default_factory=DKIM)
    dmarc: DMARC | None = None
    mtasts: MTASTS | None = None
    tlsrpt: TLSRPT | None = None
    routes: list[Route] = []
    aliases: dict[str, Alias] = {}
    domain: Domain = field(default_factory=Domain)
    localpart_catchall_separators_effective: list[str] = []


class OutgoingWebhook(ApiStruct):
    """Where to tell of deliveries."""

    url: str = ""
    authorization: str = ""
    events: list[str] = []
    signing_key: str = ""


class IncomingWebhook(ApiStruct):
    """Where to tell of incoming messages."""

    url: str = ""
    authorization: str = ""
    signing_key: str = ""


class SubjectPass(ApiStruct):
    """Passing the junk filter by a token in the subject; Period in nanoseconds."""

    period: Int64 = 0


class AutomaticJunkFlags(ApiStruct):
    """Junk flags by mailbox names."""

    enabled: bool = False
    junk_mailbox_regexp: str = ""
    neutral_mailbox_regexp: str = ""
    not_junk_mailbox_regexp: str = ""


class JunkFilter(ApiStruct):
    """The junk filter of an account."""

    threshold: float = 0.0
    onegrams: bool = False
    twograms: bool = False
    threegrams: bool = False
    max_power: float = 0.0
    top_words: Int32 = 0
    ignore_words: float = 0.0
    rare_words: Int32 = 0


class AddressAlias(ApiStruct):
    """An alias that an account is a member of."""

    subscription_address: str = ""
    alias: Alias = field(default_factory=Alias)
    member_addresses: list[str] = []


class Account(ApiStruct):
    """A configured account; periods in nanoseconds."""

    outgoing_webhook: OutgoingWebhook | None = None
    incoming_webhook: IncomingWebhook | None = None
    from_id_login_addresses: list[str] = []
    keep_retired_message_period: Int64 = 0
    keep_retired_webhook_period: Int64 = 0
    login_disabled: str = ""
    domain: str = ""
    description: str = ""
    full_name: str = ""
    destinations: dict[str, Destination] = {}
    subject_pass: SubjectPass = field(default_factory=SubjectPass)
    quota_message_size: Int64 = 0
    rejects_mailbox: str = ""
    keep_rejects: bool = False
    introbox: str = ""
    automatic_junk_flags: AutomaticJunkFlags = field(default_factory=AutomaticJunkFlags)
    junk_filter: JunkFilter | None = None
    max_outgoing_messages_per_day: Int32 = 0
    max_first_time_recipients_per_day: Int32 = 0
    no_first_time_sender_delay: bool = False
    no_custom_password: bool = False
    imap_capabilities_disabled: list[str] = []
    routes: list[Route] = []
    dns_domain: Domain = field(default_factory=Domain)
    aliases: list[AddressAlias] = []


class WebStatic(ApiStruct):
    """Files of a directory."""

    strip_prefix: str = ""
    root: str = ""
    list_files: bool = False
    continue_not_found: bool = False
    response_headers: dict[str, str] = {}


class WebRedirect(ApiStruct):
    """Another URL for a URL."""

    base_url: str = ""
    orig_path_regexp: str = ""
    replace_path: str = ""
    status_code: Int32 = 0


class WebForward(ApiStruct):
    """A reverse proxy."""

    strip_path: bool = False
    url: str = ""
    response_headers: dict[str, str] = {}


class WebInternal(ApiStruct):
    """One of the server's own interfaces at another place."""

    base_path: str = ""
    service: str = ""


class WebHandler(ApiStruct):
    """What to answer to some requests."""

    log_name: str = ""
    domain: str = ""
    path_regexp: str = ""
    dont_redirect_plain_http: bool = False
    compress: bool = False
    web_static: WebStatic | None = None
    web_redirect: WebRedirect | None = None
    web_forward: WebForward | None = None
    web_internal: WebInternal | None = None
    name: str = ""
    dns_domain: Domain = field(default_factory=Domain)


class SMTPAuth(ApiStruct):
    """Credentials for a smarthost."""

    username: str = ""
    password: str = ""
    mechanisms: list[str] = []


class TransportSMTP(ApiStruct):
    """A smarthost."""

    host: str = ""
    port: Int32 = 0
    starttls_insecure_skip_verify: bool = False
    no_starttls: bool = False
    auth: SMTPAuth | None = None


class TransportSocks(ApiStruct):
    """Delivery through a SOCKS proxy."""

    address: str = ""
    remote_ips: list[str] = []
    remote_hostname: str = ""


class TransportDirect(ApiStruct):
    """Direct delivery with limits."""

    disable_ipv4: bool = False
    disable_ipv6: bool = False


class TransportFail(ApiStruct):
    """No delivery, but an error."""

    smtp_code: Int32 = 0
    smtp_message: str = ""
    code: Int32 = 0
    message: str = ""


class Transport(ApiStruct):
    """A way of delivery: one of these."""

    submissions: TransportSMTP | None = None
    submission: TransportSMTP | None = None
    smtp: TransportSMTP | None = None
    socks: TransportSocks | None = None
    direct: TransportDirect | None = None
    fail: TransportFail | None = None


class Dynamic(ApiStruct):
    """The whole of domains.conf."""

    domains: dict[str, ConfigDomain] = {}
    accounts: dict[str, Account] = {}
    web_domain_redirects: dict[str, str] = {}
    web_handlers: list[WebHandler] = []
    routes: list[Route] = []
    monitor_dnsbls: list[str] = []
    monitor_dnsbl_zones: list[Domain] = []
