"""domains.conf: domains, accounts, web server and more, reloaded and edited while running.

Attributes that are not in the file (declared with `resolved`) are set by `moxtw.config.load`.
The values themselves never change: an edit makes new ones, see `moxtw.config.edit`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from moxtw.config.codec import opt, req, resolved, section
from moxtw.config.duration import Duration
from moxtw.config.regexp import Regexp
from moxtw.mail.address import Address
from moxtw.mail.domain import Domain

if TYPE_CHECKING:
    from moxtw.config.index import Index

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

DEFAULT_MAX_OUTGOING: Final = 1000
"""Recipients an account may write to in 24 hours."""

DEFAULT_MAX_FIRST_TIME: Final = 200
"""Recipients never written to before that an account may write to in 24 hours."""

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


@section
class Ruleset:
    """A condition on messages, and what becomes of those that match."""

    smtp_mail_from_regexp: str = opt(
        "SMTPMailFromRegexp",
        "Matches if the envelope sender (MAIL FROM) matches this regular expression. With a "
        "mailing list, it often is the address for bounces. An expression matches anywhere in "
        "the text unless it has ^ and $.",
        example="^list-bounces@lists\\.example\\.org$",
    )
    msg_from_regexp: str = opt(
        "MsgFromRegexp",
        "Matches if the address in the From header matches this regular expression.",
        example="^news@example\\.org$",
    )
    verified_domain: str = opt(
        "VerifiedDomain",
        "Matches if the sender is verified, by SPF or DKIM, to be this domain or one below it.",
        example="lists.example.org",
    )
    headers_regexp: Mapping[str, str] = opt(
        "HeadersRegexp",
        "Matches if, for each pair, the message has a header field whose name matches the first "
        "and whose value matches the second regular expression. Both are compared in lower case, "
        "the expressions must be in lower case too.",
        dict,
        example={"^list-id$": "<announce\\.lists\\.example\\.org>"},
    )
    is_forward: bool = opt(
        "IsForward",
        "Messages that match were forwarded here by a service of yours. Its DMARC failures do "
        "not count, and its address and domain earn no reputation. Needs SMTPMailFromRegexp and "
        "VerifiedDomain. Not together with ListAllowDomain.",
        False,
    )
    list_allow_domain: str = opt(
        "ListAllowDomain",
        "Messages that match are from a mailing list: they are accepted without analysis of "
        "their content if the sender is verified, by SPF or DKIM, to be this very domain.",
        example="lists.example.org",
    )
    accept_rejects_to_mailbox: str = opt(
        "AcceptRejectsToMailbox",
        "If a message that matches would be refused, accept it into this mailbox, marked as "
        "read. For forwarded mail, where a refusal would make the forwarding service send a "
        "bounce. Not Inbox.",
        example="Rejects",
    )
    mailbox: str = req("Mailbox", "Mailbox for messages that match.", example="Lists/announce")
    comment: str = opt("Comment", "Free text.", example="announcements")

    smtp_mail_from: Regexp | None = resolved()
    msg_from: Regexp | None = resolved()
    headers: tuple[tuple[Regexp, Regexp], ...] = resolved(zero=())
    verified_dns_domain: Domain = resolved("VerifiedDNSDomain", Domain)
    list_allow_dns_domain: Domain = resolved("ListAllowDNSDomain", Domain)


@section
class Destination:
    """What becomes of messages to an address."""

    mailbox: str = opt("Mailbox", "Mailbox to deliver to. Default: Inbox.", example="Inbox")
    rulesets: tuple[Ruleset, ...] = opt(
        "Rulesets",
        "Rules for messages that go elsewhere, for example those of mailing lists. The first "
        "that matches decides.",
        (),
    )
    smtp_error: str = opt(
        "SMTPError",
        "Refuse all messages to this address when it is named as recipient: 421 or 550, "
        "optionally followed by a text. 421 tells senders to try again later, 550 that the "
        "address does not exist. Excludes exceptions from a catchall address. Not together with "
        "Mailbox and Rulesets.",
        example="550 no longer here",
    )
    message_auth_required_smtp_error: str = opt(
        "MessageAuthRequiredSMTPError",
        "Refuse messages whose author is not verified, by an SPF or DKIM domain that belongs to "
        "the address in the From header, with this text.",
        example="messages must be authenticated with aligned SPF or DKIM",
    )
    full_name: str = opt(
        "FullName",
        "Name to be shown with this address when sending. Default: that of the account.",
        example="A. N. Other",
    )

    smtp_error_code: int = resolved(zero=0)
    smtp_error_secode: str = resolved(zero="")
    smtp_error_text: str = resolved(zero="")


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


@section
class OutgoingWebhook:
    """A call for events of outgoing messages."""

    url: str = req(
        "URL",
        "URL to POST to, JSON. The request is repeated until it is answered with status 200.",
        example="https://example.org/hooks/outgoing",
    )
    authorization: str = opt(
        "Authorization",
        "Value of the Authorization header, for example Basic with user name and password.",
        example="Basic dXNlcjpwYXNzd29yZA==",
    )
    events: tuple[str, ...] = opt(
        "Events",
        "Events to be told about: delivered, suppressed, delayed, failed, relayed, expanded, "
        "canceled, unrecognized. None given: all.",
        (),
        example=("failed", "suppressed"),
    )


@section
class IncomingWebhook:
    """A call for incoming messages."""

    url: str = req(
        "URL",
        "URL to POST to, JSON. The request is repeated until it is answered with status 200.",
        example="https://example.org/hooks/incoming",
    )
    authorization: str = opt(
        "Authorization",
        "Value of the Authorization header, for example Basic with user name and password.",
        example="Basic dXNlcjpwYXNzd29yZA==",
    )


@section
class SubjectPass:
    """A way past the junk filter for people who were refused."""

    period: Duration = req(
        "Period",
        "How long the token is valid that a refused sender is asked to add to the subject.",
        Duration(0),
        example=Duration.of(hours=12),
    )


@section
class AutomaticJunkFlags:
    """Training the junk filter by the mailboxes that messages are moved to."""

    enabled: bool = req(
        "Enabled",
        "Mark messages as junk or not junk when they are delivered, moved or copied to mailboxes "
        "whose names match the expressions below, in lower case and in the order of the fields. "
        "If one of the three is empty, it stands for all mailboxes that match neither of the "
        "others. Mailboxes with the Junk role always mark as junk.",
        False,
        example=True,
    )
    junk_mailbox_regexp: str = opt(
        "JunkMailboxRegexp", "Mailboxes with junk.", example="^(junk|spam)"
    )
    neutral_mailbox_regexp: str = opt(
        "NeutralMailboxRegexp",
        "Mailboxes that say nothing: both marks are taken away.",
        example="^(inbox|introbox|neutral|postmaster|dmarc|tlsrpt|rejects)",
    )
    not_junk_mailbox_regexp: str = opt(
        "NotJunkMailboxRegexp", "Mailboxes with mail that is not junk."
    )

    junk: Regexp | None = resolved()
    neutral: Regexp | None = resolved()
    not_junk: Regexp | None = resolved()


@section
class JunkParams:
    """How words are counted and weighed."""

    onegrams: bool = opt("Onegrams", "Look at single words.", False, example=True)
    twograms: bool = opt(
        "Twograms", "Look at pairs of words. More exact, needs much more space.", False
    )
    threegrams: bool = opt(
        "Threegrams", "Look at groups of three words. Seldom worth the space.", False
    )
    max_power: float = req(
        "MaxPower",
        "How far a single word may push: its probability stays this far away from 0 and from 1.",
        0.0,
        example=0.01,
    )
    top_words: int = req(
        "TopWords",
        "How many of the most telling words count, for junk and against.",
        0,
        example=10,
    )
    ignore_words: float = opt(
        "IgnoreWords",
        "Ignore words whose probability is nearer to 0.5 than this.",
        0.0,
        example=0.1,
    )
    rare_words: int = opt(
        "RareWords",
        "Words seen at most this often count less.",
        0,
        example=2,
    )


@section
class JunkFilter:
    """The filter by content."""

    threshold: float = req(
        "Threshold",
        "Refuse messages whose probability of being junk is above this, between 0 and 1. It is "
        "lowered for suspicious senders.",
        0.0,
        example=0.95,
    )
    params: JunkParams = req(
        "Params",
        "What the filter looks at. A change needs the filter to be trained anew: retrain.",
        JunkParams,
    )


@section
class Account:
    """A user of this server."""

    outgoing_webhook: OutgoingWebhook | None = opt(
        "OutgoingWebhook", "Call a URL for events of messages that this account sent.", None
    )
    incoming_webhook: IncomingWebhook | None = opt(
        "IncomingWebhook", "Call a URL for each message that arrives.", None
    )
    from_id_login_addresses: tuple[str, ...] = opt(
        "FromIDLoginAddresses",
        "Addresses of this account: messages sent after login with one of them get a unique "
        "sender address each, so that later reports of delivery or failure are known to belong "
        "to them. Their domain must have a catchall separator.",
        (),
        example=("me@example.org",),
    )
    keep_retired_message_period: Duration = opt(
        "KeepRetiredMessagePeriod",
        "How long messages are remembered, without their content, after they left the queue. "
        "Needed for suppression lists and for reports that come late.",
        Duration(0),
        example=Duration.of(hours=168),
    )
    keep_retired_webhook_period: Duration = opt(
        "KeepRetiredWebhookPeriod",
        "How long webhook calls are remembered after they left the queue.",
        Duration(0),
        example=Duration.of(hours=168),
    )
    login_disabled: str = opt(
        "LoginDisabled",
        "If not empty, nobody can log in to the account, and this text says why. Mail still "
        "arrives.",
        example="please contact the office",
    )
    domain: str = req(
        "Domain",
        "Domain for names in Destinations that have none. May be empty if all have one.",
        example=_DOMAIN_EXAMPLE,
    )
    description: str = opt("Description", "Free text.", example="A. N. Other, office")
    full_name: str = opt(
        "FullName",
        "Name of the user, shown with addresses that have no name of their own when sending.",
        example="A. N. Other",
    )
    destinations: Mapping[str, Destination] = opt(
        "Destinations",
        "Addresses of the account, each with what becomes of its messages; nil is enough. "
        "@example.org receives everything to the domain that has no address of its own.",
        dict,
        example="me@example.org",
    )
    subject_pass: SubjectPass = opt(
        "SubjectPass",
        "Tell senders who are refused for content, but are verified and unknown, to try again "
        "with a token in the subject. People can do that, junk senders do not.",
        SubjectPass,
    )
    quota_message_size: int = opt(
        "QuotaMessageSize",
        "Space that the account's messages may take, in bytes. 0: as in mox.conf. Negative: no "
        "limit. A full account refuses messages until some are removed.",
        0,
        example=10737418240,
    )
    rejects_mailbox: str = opt(
        "RejectsMailbox",
        "Mailbox for copies of messages that were refused, so that nothing is lost if that was "
        "an error. They disappear after two weeks. Not Inbox.",
        example="Rejects",
    )
    keep_rejects: bool = opt(
        "KeepRejects", "Never remove old messages from the rejects mailbox.", False
    )
    introbox: str = opt(
        "Introbox",
        "Mailbox for messages to Inbox from people that were never in contact with this "
        "account. Moving a message from there to Inbox makes its author known. Not Inbox, and "
        "not the rejects mailbox; NeutralMailboxRegexp should match it.",
        example="Introbox",
    )
    automatic_junk_flags: AutomaticJunkFlags = opt(
        "AutomaticJunkFlags",
        "Mark messages as junk or not by the mailbox they are put into, for mail clients that "
        "cannot mark messages.",
        AutomaticJunkFlags,
    )
    junk_filter: JunkFilter | None = opt(
        "JunkFilter",
        "Filter by content for messages from senders without reputation, trained by messages "
        "that are marked as junk or not junk.",
        None,
    )
    max_outgoing_messages_per_day: int = opt(
        "MaxOutgoingMessagesPerDay",
        "Recipients that the account may write to in 24 hours: limits the damage when somebody "
        f"else gets hold of the password. Default: {DEFAULT_MAX_OUTGOING}.",
        0,
        example=DEFAULT_MAX_OUTGOING,
    )
    max_first_time_recipients_per_day: int = opt(
        "MaxFirstTimeRecipientsPerDay",
        "Recipients never written to before that the account may write to in 24 hours. "
        f"Default: {DEFAULT_MAX_FIRST_TIME}.",
        0,
        example=DEFAULT_MAX_FIRST_TIME,
    )
    no_first_time_sender_delay: bool = opt(
        "NoFirstTimeSenderDelay",
        "Do not wait before a message from an unknown sender is accepted.",
        False,
    )
    no_custom_password: bool = opt(
        "NoCustomPassword",
        "Passwords for this account are generated; its user cannot choose one.",
        False,
    )
    imap_capabilities_disabled: tuple[str, ...] = opt(
        "IMAPCapabilitiesDisabled",
        "IMAP capabilities not to announce to clients of this account, for clients that misuse "
        "one, for example IMAP4rev2 or UIDONLY.",
        (),
        example=("UIDONLY",),
    )
    routes: tuple[Route, ...] = opt(
        "Routes",
        "How messages of the account are delivered; the first route that matches is taken. They "
        "come before those of the domain and the global ones.",
        (),
    )

    dns_domain: Domain = resolved("DNSDomain", Domain)
    aliases: tuple[AddressAlias, ...] = resolved("Aliases", ())
    parsed_from_id_login_addresses: tuple[Address, ...] = resolved(zero=())
    effective_max_outgoing: int = resolved(zero=DEFAULT_MAX_OUTGOING)
    effective_max_first_time: int = resolved(zero=DEFAULT_MAX_FIRST_TIME)
    disabled_capabilities: frozenset[str] = resolved(zero=frozenset)
    checked: object = resolved()


@section
class WebStatic:
    """Files of a directory."""

    strip_prefix: str = opt(
        "StripPrefix",
        "Text to take from the start of the path before the file is looked for.",
        example="/files/",
    )
    root: str = req("Root", "Directory with the files.", example="../web/example.org")
    list_files: bool = opt(
        "ListFiles",
        "Show what is in a directory without index.html, instead of refusing.",
        False,
    )
    continue_not_found: bool = opt(
        "ContinueNotFound",
        "If there is no such file, go on with the next handler, instead of answering that there "
        "is none. So a directory of files can lie over an application.",
        False,
    )
    response_headers: Mapping[str, str] = opt(
        "ResponseHeaders",
        "Header fields to add to answers.",
        dict,
        example={"Cache-Control": "max-age=3600"},
    )

    root_path: Path = resolved()


@section
class WebRedirect:
    """Another URL for a URL."""

    base_url: str = opt(
        "BaseURL",
        "URL to redirect to. Its scheme, host and fragment are taken, and its query if there "
        "is one. Its path too, unless ReplacePath makes one. Without BaseURL the host stays and "
        "only the path changes, always over HTTPS.",
        example="https://www.example.org/",
    )
    orig_path_regexp: str = opt(
        "OrigPathRegexp",
        "Regular expression for the path of the request, to be replaced by ReplacePath. Paths "
        "that do not match are answered with not found.",
        example="^/old/(.*)$",
    )
    replace_path: str = opt(
        "ReplacePath",
        "New path. $1, ${1} and so on stand for the groups of the expression, ${name} for "
        "named ones, $$ for a dollar sign.",
        example="/new/$1",
    )
    status_code: int = opt(
        "StatusCode",
        "301: moved for good. 302, 303, 307: moved for now. 308: as 301, but repeated with the "
        "same method. Default: 308.",
        0,
        example=308,
    )

    orig_path: Regexp | None = resolved()
    replacement: str = resolved(zero="")
    effective_status_code: int = resolved(zero=308)


@section
class WebForward:
    """A reverse proxy."""

    strip_path: bool = opt(
        "StripPath",
        "Take the part of the path that PathRegexp matched away before the request is passed "
        "on. The expression then must match a part that ends with a slash, and the rest begins "
        "behind it.",
        False,
    )
    url: str = req(
        "URL",
        "URL to pass requests to. Its path comes before that of the request. Over HTTPS its "
        "certificate is verified.",
        example="http://127.0.0.1:8888",
    )
    response_headers: Mapping[str, str] = opt(
        "ResponseHeaders",
        "Header fields to add to answers.",
        dict,
        example={"X-Frame-Options": "deny"},
    )


@section
class WebInternal:
    """One of the server's own interfaces at another place."""

    base_path: str = req(
        "BasePath",
        "Path at which the interface is served, with a slash at both ends.",
        example="/mail/",
    )
    service: str = req("Service", "admin, account, webmail or webapi.", example="webmail")


@section
class WebHandler:
    """What to answer to some requests: exactly one of the kinds."""

    log_name: str = opt(
        "LogName", "Name in logs and metrics. Default: the number of the handler.", example="site"
    )
    domain: str = req("Domain", "Host name of the request.", example=_DOMAIN_EXAMPLE)
    path_regexp: str = opt(
        "PathRegexp",
        "Regular expression for the path of the request; must start with ^. Without $ at its "
        "end, longer paths match too. Default: every path.",
        example="^/",
    )
    dont_redirect_plain_http: bool = opt(
        "DontRedirectPlainHTTP",
        "Answer requests over plain HTTP too, instead of redirecting them to HTTPS. For tests, "
        "and for listeners without TLS.",
        False,
    )
    compress: bool = opt(
        "Compress",
        "Compress answers that look like text for clients that can read it. Compressed files "
        "are kept. Takes time on the server, and must not be used where answers hold secrets "
        "beside what others can choose.",
        False,
    )
    web_static: WebStatic | None = opt("WebStatic", "Serve files of a directory.", None)
    web_redirect: WebRedirect | None = opt("WebRedirect", "Redirect to another URL.", None)
    web_forward: WebForward | None = opt(
        "WebForward",
        "Pass requests on to another server, also WebSocket connections. X-Forwarded-For, -Host "
        "and -Proto are set.",
        None,
    )
    web_internal: WebInternal | None = opt(
        "WebInternal", "Serve one of the interfaces of this server.", None
    )

    name: str = resolved("Name", "")
    dns_domain: Domain = resolved("DNSDomain", Domain)
    path: Regexp | None = resolved()


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
