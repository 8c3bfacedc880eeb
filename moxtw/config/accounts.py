"""Sections of domains.conf for accounts: addresses, junk filter, limits, webhooks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from moxtw.config.codec import opt, req, resolved, section
from moxtw.config.destination import Destination
from moxtw.config.domains import AddressAlias, Route
from moxtw.config.duration import Duration
from moxtw.config.regexp import Regexp
from moxtw.mail.address import Address
from moxtw.mail.domain import Domain

DEFAULT_MAX_OUTGOING: Final = 1000
"""Recipients an account may write to in 24 hours."""

DEFAULT_MAX_FIRST_TIME: Final = 200
"""Recipients never written to before that an account may write to in 24 hours."""

_DOMAIN_EXAMPLE: Final = "example.org"


@section
class OutgoingWebhook:
    """A call for events of outgoing messages."""

    url: str = req(
        "URL",
        "URL to POST to, JSON. The request is repeated, up to 12 times in two days, until it is "
        "answered with a 2xx status.",
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
    signing_key: str = opt(
        "SigningKey",
        "Secret by which the receiver can tell that a call comes from here. With it, each request "
        "has a header X-Mox-Webhook-Signature: sha256= and the HMAC-SHA256 of the request's body "
        "with this key, in hexadecimal.",
        example="b2b0b1a6f1a24a0c9d5f3d1c7e8a9f60",
    )


@section
class IncomingWebhook:
    """A call for incoming messages."""

    url: str = req(
        "URL",
        "URL to POST to, JSON. The request is repeated, up to 12 times in two days, until it is "
        "answered with a 2xx status.",
        example="https://example.org/hooks/incoming",
    )
    authorization: str = opt(
        "Authorization",
        "Value of the Authorization header, for example Basic with user name and password.",
        example="Basic dXNlcjpwYXNzd29yZA==",
    )
    signing_key: str = opt(
        "SigningKey",
        "Secret by which the receiver can tell that a call comes from here. With it, each request "
        "has a header X-Mox-Webhook-Signature: sha256= and the HMAC-SHA256 of the request's body "
        "with this key, in hexadecimal.",
        example="b2b0b1a6f1a24a0c9d5f3d1c7e8a9f60",
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
