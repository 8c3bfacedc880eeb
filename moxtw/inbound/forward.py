"""Copies of accepted messages that an address passes on to others elsewhere (ForwardTo).

The copy is from the address that passes it on, so that SPF holds for it, and who cannot be
reached is told to its account. What we found about the message, which the next server cannot
find out any more, goes along in an ARC set (RFC 8617 5.1). The row in the queue is made in the
transaction that stores the message.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from moxtw import metrics
from moxtw.authn import AuthResults
from moxtw.authn.arc import NO_CHAIN, Sealer, seal
from moxtw.authn.dkimsign import SignError, signer_for
from moxtw.config.dynamic import Account, Destination
from moxtw.config.lookup import ConfigView
from moxtw.inbound.envelope import Envelope
from moxtw.log import Logger
from moxtw.mail.address import Path
from moxtw.mail.dsnrequest import DSNRequest, Notify
from moxtw.mail.header import parse_headers
from moxtw.mail.received import delivered_to
from moxtw.store import outgoing, queuedb
from moxtw.store.content import Spooled
from moxtw.store.db import Store
from moxtw.store.queuerecord import NewQueued
from moxtw.store.tx import Tx

log = Logger("smtpserver")

# A copy that is late is no news for the account, which has the message.
_NOTIFY: Final = DSNRequest(notify=int(Notify.FAILURE))


@dataclass(slots=True)
class Forward:
    """A message that an address passes on. trace: fields about its arrival, for the copy."""

    account_name: str
    account: Account
    destination: Destination
    final: Path
    trace: bytes
    rows: list[NewQueued] = field(default_factory=list)


class _Message:
    """A message as it is sent: fields in front of a content."""

    def __init__(self, prefix: bytes, content: Spooled) -> None:
        self._prefix = prefix
        self._content = content
        self.size = len(prefix) + content.size

    def read(self, start: int, length: int) -> bytes:
        """A piece of it. Raises OSError."""
        own = self._prefix[start : start + length]
        if len(own) == length:
            return own
        at = max(start - len(self._prefix), 0)
        return own + self._content.read(at, length - len(own))


async def prepare(
    store: Store,
    config: ConfigView,
    forwards: Sequence[Forward],
    envelope: Envelope,
    content: Spooled,
    auth: AuthResults,
) -> None:
    """Make the rows for the queue; none where a message comes back that was passed on before."""
    before = {
        value.strip().lower() for value in parse_headers(envelope.head).all("delivered-to")
    }
    for each in forwards:
        if {each.final.form(True).lower(), each.final.form(False).lower()} & before:
            metrics.smtpserver_forward_total.labels("loop").inc()
            log.info(
                "not forwarding: message was delivered here before",
                cid=envelope.cid,
                rcptto=each.final.log_name,
            )
            continue
        utf8 = envelope.smtputf8
        fields = delivered_to(each.final, utf8 or each.final.needs_utf8) + each.trace
        fields = await _set(store, config, each, fields, envelope, content, auth) + fields
        parsed = content.parsed
        ascii_only = fields.isascii()
        # RFC 5321 3.9: nobody answers to a notification.
        sender = Path() if envelope.mail_from.is_zero else each.final
        each.rows = [
            NewQueued(
                sender_account=each.account_name,
                sender_localpart=sender.localpart,
                sender_domain=sender.ipdomain.name,
                recipient_localpart=to.localpart,
                recipient_domain=to.domain.name,
                content=content,
                prefix=fields,
                has8bit=parsed.has_8bit_header or parsed.has_8bit_body or not ascii_only,
                smtputf8=(
                    parsed.needs_smtputf8
                    or not ascii_only
                    or sender.needs_utf8
                    or to.path.needs_utf8
                ),
                message_id=f"<{parsed.message_id}>" if parsed.message_id else "",
                subject=parsed.subject,
                require_tls=True if envelope.requiretls else None,
                dsn=_NOTIFY,
            )
            for to in each.destination.forward_addresses
        ]


async def _set(
    store: Store,
    config: ConfigView,
    forward: Forward,
    fields: bytes,
    envelope: Envelope,
    content: Spooled,
    auth: AuthResults,
) -> bytes:
    """The ARC set of a copy; nothing without key, or for a message that takes none."""
    domain = forward.final.ipdomain.domain
    found = None if domain is None else signer_for(config, domain)
    if found is None or not auth.evaluated:
        return b""
    signer, selectors = found
    # RFC 8617 4.1: all know RSA.
    rsa = [each for each in selectors if isinstance(each.private_key, RSAPrivateKey)]
    selector = (rsa or selectors)[0]
    sealer = Sealer(
        selector.private_key,
        signer.ascii,
        selector.dns_name.ascii,
        config.static.dns_hostname.ascii,
    )
    try:
        return await seal(
            _Message(fields, content),
            auth.arc or NO_CHAIN,
            sealer,
            auth.methods,
            envelope.received // 1_000_000,
            run=store.run,
        )
    except (SignError, OSError) as exc:
        log.info("forwarding without arc set", cid=envelope.cid, err=exc)
        return b""


def queue(
    tx: Tx, forward: Forward, account_id: int, saved: dict[int, int], cid: int
) -> str:
    """Queue the copies of a message that was stored; how that went, for the metric."""
    if not forward.rows:
        return ""
    account = forward.account
    recipients = [to.pack() for to in forward.destination.forward_addresses]
    try:
        outgoing.check_limits(
            tx,
            account_id,
            recipients,
            account.effective_max_outgoing,
            account.effective_max_first_time,
        )
    except (outgoing.MessageLimit, outgoing.FirstTimeLimit) as exc:
        log.info("not forwarding", cid=cid, account=forward.account_name, err=exc)
        return "limit"
    queuedb.add(tx, forward.rows, saved)
    outgoing.add(tx, account_id, recipients)
    return "queued"
