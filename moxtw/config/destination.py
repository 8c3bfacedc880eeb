"""Sections of domains.conf for what becomes of messages to an address."""

from __future__ import annotations

from collections.abc import Mapping

from moxtw.config.codec import opt, req, resolved, section
from moxtw.config.regexp import Regexp
from moxtw.mail.address import Address
from moxtw.mail.domain import Domain


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
    forward_to: tuple[str, ...] = opt(
        "ForwardTo",
        "Addresses elsewhere that get a copy of each message that is accepted for this address, "
        "but for those that go to the rejects mailbox. The message is delivered here too. Copies "
        "are from this address, count for the account's limits on sending, and tell in an ARC "
        "set, signed with the DKIM key of the domain, what was found about the message. Junk "
        "that is accepted is passed on as well, and may harm the reputation of this server. Can "
        "be set in this file only.",
        (),
        example=("me@example.net",),
    )

    smtp_error_code: int = resolved(zero=0)
    smtp_error_secode: str = resolved(zero="")
    smtp_error_text: str = resolved(zero="")
    forward_addresses: tuple[Address, ...] = resolved(zero=())
