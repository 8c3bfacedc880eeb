"""Delivery status notifications about queued messages (RFC 3464), for their senders here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from moxtw.config.static import Static
from moxtw.mail.address import IPDomain, Path, parse_path
from moxtw.mail.compose import is_message_id, message_id
from moxtw.mail.dsn import DELAYED, DSN, FAILED, RELAYED, DSNRecipient, compose_dsn
from moxtw.mail.header import parse_headers
from moxtw.mail.received import delivered_to, return_path
from moxtw.queue.attempt import Outcome
from moxtw.queue.schedule import SECOND, waits_after
from moxtw.store import accounts, mailboxes, messages
from moxtw.store.content import Spooled
from moxtw.store.errors import NoSuchAccount
from moxtw.store.model import Flag, NewMessage
from moxtw.store.queuerecord import Queued
from moxtw.store.tx import Tx

DELAY_ATTEMPT: Final = 5
"""The failed attempt after which the sender is told that delivery takes longer."""

MAX_ORIGINAL: Final = 64 * 1024
"""Bytes of the original header that a notification quotes."""

MAX_FULL: Final = 1 << 20
"""Bytes of a message that is returned whole, if the sender wants that (RFC 3461 4.3)."""

_CLASS: Final = {FAILED: 5, DELAYED: 4, RELAYED: 2}
_SUBJECT: Final = {
    FAILED: "mail delivery failed",
    DELAYED: "mail delivery delayed",
    RELAYED: "mail was relayed",
}


@dataclass(frozen=True, slots=True)
class Notification:
    """A notification to be stored: where (account, mailbox), and what."""

    account: str
    mailbox: str
    flags: int
    prefix: bytes
    data: bytes


def original_header(head: bytes) -> bytes:
    """The header section of a message, without its empty line, from the message's beginning."""
    section = parse_headers(head).section.removesuffix(b"\r\n")
    if len(section) > MAX_ORIGINAL:
        section = section[: section.rfind(b"\r\n", 0, MAX_ORIGINAL) + 2]
    return section


def wanted(message: Queued, outcome: Outcome, *, success: bool, final: bool) -> str:
    """The action that the sender is to be told of after an attempt; empty for none."""
    asked = message.dsn
    if success:
        # A host that knows of notifications cares for this one itself (RFC 3461 5.2.2).
        return RELAYED if asked.on_success and not outcome.dsn else ""
    if final:
        return FAILED if asked.on_failure else ""
    if message.attempts == DELAY_ATTEMPT and not message.is_dmarc_report and asked.on_delay:
        return DELAYED
    return ""


def returns_full(message: Queued, action: str) -> bool:
    """Whether the notification has the whole message, rather than its header."""
    return action == FAILED and message.dsn.ret == "FULL" and message.size <= MAX_FULL


def compose(
    static: Static, message: Queued, outcome: Outcome, original: bytes, now: int, action: str
) -> Notification:
    """The notification that a message failed for good, is delayed, or was relayed.

    original: the message, or its beginning; see `returns_full`. now: microseconds since the
    epoch.
    """
    hostname = static.dns_hostname
    sender = _path(message.sender)
    recipient = _path(message.recipient)
    error = outcome.error
    text = outcome.text if error is None else error.text
    lines = () if error is None else error.lines
    until = None
    if action == DELAYED:
        waits = waits_after(message.attempts, message.attempts_allowed)
        until = (message.last_attempt or now) + sum(waits) * SECOND
    report = DSNRecipient(
        final_recipient=recipient,
        action=action,
        # RFC 3464 2.3.4: giving up is permanent, whatever the replies were.
        status=f"{_CLASS[action]}.{outcome.secode or '0.0'}",
        status_comment=text,
        original_recipient=message.dsn.original,
        remote_mta="" if error is None else error.remote_mta,
        diagnostic=" ".join(lines),
        last_attempt=message.last_attempt,
        will_retry_until=until,
    )
    full = returns_full(message, action)
    dsn = DSN(
        reporting_mta=hostname.ascii,
        recipients=(report,),
        arrival_date=message.queued,
        future_release=message.future_release,
        envelope_id=message.dsn.envelope_id,
        text=_text(message, text, lines, action),
        original=original if full else original_header(original),
        original_utf8=message.smtputf8,
        full=full,
    )
    utf8 = message.smtputf8
    data = compose_dsn(
        dsn,
        mail_from=Path("postmaster", IPDomain(domain=hostname)),
        to=sender,
        subject=_SUBJECT[action],
        message_id=message_id(hostname),
        when=now,
        utf8=utf8,
        # One that nobody could refer to must not keep the sender from being told.
        references=[message.message_id] if is_message_id(message.message_id) else [],
    )
    prefix = return_path(Path()) + (b"" if sender.is_zero else delivered_to(sender, utf8))
    if message.is_dmarc_report:
        mailbox = f"{static.postmaster.mailbox}/dmarc"
        return Notification(static.postmaster.account, mailbox, int(Flag.SEEN), prefix, data)
    return Notification(message.sender_account, "Inbox", 0, prefix, data)


def _path(address: str) -> Path:
    return parse_path(address) if address else Path()


def _text(message: Queued, error: str, lines: tuple[str, ...], action: str) -> str:
    if action == RELAYED:
        return (
            "Your email was handed on to the mail server of the recipient below. That server\r\n"
            "does not tell of deliveries, so there will be no further notice.\r\n\r\n"
            f"\t{message.recipient}\r\n"
        )
    said = []
    if action == FAILED:
        said.append(
            "Delivery has failed permanently for your email to the recipient below. "
            "No further deliveries will be tried."
        )
    else:
        said.append(
            "Delivery has been delayed of your email to the recipient below. "
            f"Next attempts to deliver: {_attempts(message)}."
        )
    said += ["", f"\t{message.recipient}", "", "Error during the last delivery attempt:", ""]
    said.append(f"\t{error}")
    if lines:
        said += ["", "Full reply of the receiving server:", ""]
        said += [f"\t{line}" for line in lines]
    return "\r\n".join(said) + "\r\n"


def _attempts(message: Queued) -> str:
    """When the attempts are that will be made still, as in "in 2 hours, in 6 hours"."""
    total = 0
    words = []
    for wait in waits_after(message.attempts, message.attempts_allowed):
        total += wait
        hours, minutes = total // 3600, total % 3600 // 60
        words.append(
            "in " + " and ".join(
                f"{number} {unit}{'' if number == 1 else 's'}"
                for number, unit in ((hours, "hour"), (minutes, "minute"))
                if number
            )
        )
    return ", ".join(words)


def store(tx: Tx, static: Static, notification: Notification, content: Spooled) -> None:
    """Put a notification into its mailbox; the postmaster gets it if the account is gone.

    It is stored whatever the account's quota: the sender has to know.
    """
    try:
        account = accounts.get(tx, notification.account)
        mailbox = notification.mailbox
    except NoSuchAccount:
        account = accounts.get(tx, static.postmaster.account)
        mailbox = static.postmaster.mailbox
    target = mailboxes.ensure(tx, account.id, mailbox)
    messages.add(
        tx,
        account.id,
        target.id,
        NewMessage(content, notification.prefix, flags=notification.flags),
    )
