"""Messages about messages that we sent: matched, and told to the sender's webhook.

A notification (RFC 3464) is matched by the unique id in the MAIL FROM that it was sent to. Such
ids cannot be guessed, so what it says counts: failures may suppress the address. Without such
an id it is matched by the Message-ID of the original, or by its envelope id (RFC 3461 5.4), and
told only. Always only messages of the account that gets the notification are considered.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from moxtw.config.lookup import ConfigView
from moxtw.log import Logger
from moxtw.mail.address import AddressError, base_address, parse_path
from moxtw.mail.dsn import DSN, DSNRecipient
from moxtw.mail.dsnparse import DSNError, parse_dsn
from moxtw.mail.header import parse_headers
from moxtw.mail.mime import TreeError, unpack_tree
from moxtw.queue import events, hooktypes, outcome
from moxtw.store import retireddb
from moxtw.store.content import Spooled
from moxtw.store.queuerecord import Queued, Result, Retired
from moxtw.store.tx import Tx

log = Logger("webhook")

MAX_READ: Final = 1 << 21
"""Bytes of a notification that are looked at."""

MAX_RECIPIENTS: Final = 100
"""Recipients of a notification that are told of."""

_ACTIONS: Final = {
    "failed": hooktypes.FAILED,
    "delayed": hooktypes.DELAYED,
    "delivered": hooktypes.DELIVERED,
    "relayed": hooktypes.RELAYED,
    "expanded": hooktypes.EXPANDED,
}
_CODES: Final = re.compile(
    r"([2-5][0-9]{2})(?:[ -]+[245]\.([0-9]{1,3}\.[0-9]{1,3})(?![0-9.]))?(?![0-9])", re.ASCII
)


def read(content: Spooled) -> DSN | str:
    """The notification that a message is, or why it is none that is understood. Blocks."""
    if not content.parsed.is_dsn:
        return "incoming message is no notification"
    try:
        root = unpack_tree(content.parsed.tree)
        return parse_dsn(root, content.read(0, min(content.size, MAX_READ)))
    except (DSNError, TreeError) as exc:
        return f"parsing notification: {exc}"[:500]


def from_id(localpart: str, separators: Sequence[str]) -> str:
    """What stands behind the first separator of an address; empty for nothing."""
    return localpart.partition(separators[0])[2] if separators else ""


def codes(recipient: DSNRecipient) -> tuple[int, str]:
    """SMTP code and enhanced code without its class; 0 and empty if it says neither."""
    if recipient.diagnostic_type == "smtp":
        match = _CODES.match(recipient.diagnostic)
        if match is not None:
            return int(match[1]), match[2] or ""
    if recipient.status[:1] not in ("4", "5"):
        return 0, ""
    return recipient.smtp_code, recipient.secode


def by_from_id(
    tx: Tx, config: ConfigView, account: str, from_id: str, found: DSN | str
) -> bool:
    """Take a message to an address with a unique id as being about the message sent with it.

    False if the account has sent none with that id.
    """
    message = retireddb.by_from_id(tx, from_id)
    if message is None or message.sender_account != account:
        return False
    if isinstance(found, str):
        error = found
    elif len(found.recipients) != 1:
        error = f"notification about {len(found.recipients)} recipients"
    else:
        _tell(tx, config, message, found.recipients[0], trusted=True)
        return True
    if isinstance(message, Retired):
        result = Result(tx.now, error=error)
        retireddb.add_result(tx, message, result, success=message.success)
    dsn = not isinstance(found, str)
    events.add(tx, config, message, hooktypes.UNRECOGNIZED, dsn=dsn)
    return True


def by_original(tx: Tx, config: ConfigView, account: str, found: DSN) -> None:
    """Tell of the messages that a notification is about, by what it quotes of them."""
    message_id = (parse_headers(found.original).get("message-id") or "").strip()
    same = retireddb.by_message_id(tx, account, message_id)
    for recipient in found.recipients[:MAX_RECIPIENTS]:
        message = _match(tx, account, found, recipient, same)
        if message is not None:
            _tell(tx, config, message, recipient, trusted=False)


def _match(
    tx: Tx, account: str, found: DSN, recipient: DSNRecipient, same: Sequence[Retired]
) -> Retired | None:
    addresses = _addresses(recipient)
    for address in addresses:
        for message in same:
            if message.recipient_address == address:
                return message
    if len(same) == 1 and len(found.recipients) == 1:
        # Forwarded: the address of the report is one that the sender never saw.
        return same[0]
    if found.envelope_id:
        for address in addresses:
            for message in retireddb.by_address(tx, account, address):
                if message.dsn.envelope_id == found.envelope_id:
                    return message
    return None


def _addresses(recipient: DSNRecipient) -> list[str]:
    """The base addresses that a report names: what the sender called it first."""
    addresses = []
    original = recipient.original_recipient.partition(";")[2]
    if original:
        try:
            path = parse_path(original)
            addresses.append(base_address(path.localpart, path.ipdomain.name))
        except AddressError:
            pass  # Of another kind: an X.400 address, say.
    path = recipient.final_recipient
    addresses.append(base_address(path.localpart, path.ipdomain.name))
    return addresses


def _tell(
    tx: Tx,
    config: ConfigView,
    message: Retired | Queued,
    recipient: DSNRecipient,
    *,
    trusted: bool,
) -> None:
    """Note and tell what a notification says about a message."""
    event = _ACTIONS.get(recipient.action, hooktypes.UNRECOGNIZED)
    code, secode = codes(recipient)
    failed = event == hooktypes.FAILED
    if isinstance(message, Retired):
        good = event in (hooktypes.DELIVERED, hooktypes.RELAYED, hooktypes.EXPANDED)
        text = "" if good else f"notification: {recipient.action[:50]}"
        if recipient.diagnostic and not good:
            text += f": {recipient.diagnostic[:300]}"
        result = Result(tx.now, success=good, code=code, secode=secode, error=text)
        success = message.success and not (failed and trusted)
        retireddb.add_result(tx, message, result, success=success)
    suppressing = (
        trusted and failed and code != 0 and outcome.suppress(tx, message, code, secode, "DSN")
    )
    log.debug(
        "notification about sent message",
        msgid=message.id,
        action=recipient.action[:50],
        code=code,
        suppressing=suppressing,
    )
    events.add(
        tx,
        config,
        message,
        event,
        code=code,
        secode=secode,
        dsn=True,
        suppressing=suppressing,
    )
