"""The notification about a message that was accepted, for a sender elsewhere.

When it was refused for some recipients, the client still got one reply for the whole message,
and that said yes; so the sender is told about the others by mail (RFC 5321 6.1, RFC 3464).
Who asked for it is told of what was delivered, too (RFC 3461 5.2.1).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from moxtw import metrics
from moxtw.authn.dkimsign import SignError, sign, signer_for
from moxtw.config.lookup import ConfigView
from moxtw.inbound.envelope import Envelope, RecipientResult
from moxtw.log import Logger
from moxtw.mail.address import IPDomain, Path
from moxtw.mail.compose import is_message_id, message_id
from moxtw.mail.domain import Domain
from moxtw.mail.dsn import DELIVERED, DSN, FAILED, DSNRecipient, compose_dsn
from moxtw.mail.header import parse_headers
from moxtw.store import queuedb
from moxtw.store.content import Spooled
from moxtw.store.db import Store
from moxtw.store.queuerecord import NewQueued

log = Logger("smtpserver")

MAX_ORIGINAL: Final = 64 * 1024
"""Bytes of the original header that a notification quotes."""

MAX_FULL: Final = 1 << 20
"""Bytes of a message that is returned whole, if the sender wants that (RFC 3461 4.3)."""


class Bouncer:
    """Queues notifications for senders elsewhere; they belong to the postmaster."""

    def __init__(self, store: Store, config: ConfigView) -> None:
        self._store = store
        self._config = config

    async def __call__(
        self, envelope: Envelope, content: Spooled, told: Sequence[RecipientResult]
    ) -> None:
        """Queue one notification for the sender, about all recipients in `told`."""
        config = self._config
        hostname = config.static.dns_hostname
        failed = [result for result in told if result.code]
        domain = (failed or told)[0].recipient.path.ipdomain.domain or hostname
        now = self._store.now()
        new_id = message_id(hostname)
        full = (
            bool(failed)
            and failed[0].recipient.dsn.ret == "FULL"
            and content.size <= MAX_FULL
        )
        if full:
            original = await self._store.run(content.read, 0, content.size)
        else:
            original = _header(envelope.head)

        def compose(utf8: bool) -> bytes:
            return compose_dsn(
                self._notification(envelope, told, original, full),
                mail_from=Path("postmaster", IPDomain(domain=domain)),
                to=envelope.mail_from,
                subject="mail delivery failure" if failed else "mail was delivered",
                message_id=new_id,
                when=now,
                utf8=utf8,
                references=_references(content.parsed.message_id),
            )

        # For many recipients this takes a while.
        data = await self._store.run(compose, False)
        dsn_utf8 = None
        if envelope.smtputf8:
            # RFC 6533 4: for a server that takes it; the other form is for all others.
            form = await self._store.run(compose, True)
            dsn_utf8 = await self._signatures(domain, form, now) + form
        spooled = await self._store.contents.from_bytes(data)
        mail_from = envelope.mail_from
        row = NewQueued(
            sender_account=config.static.postmaster.account,
            sender_localpart="",
            sender_domain="",
            recipient_localpart=mail_from.localpart,
            recipient_domain=mail_from.ipdomain.name,
            content=spooled,
            prefix=await self._signatures(domain, data, now),
            has8bit=not data.isascii(),
            smtputf8=mail_from.needs_utf8,
            dsn_utf8=dsn_utf8,
            message_id=new_id,
            subject=spooled.parsed.subject,
            require_tls=True if envelope.requiretls else None,
        )
        await self._store.write(lambda tx: queuedb.add(tx, [row]))
        log.info(
            "queued notification about delivery",
            cid=envelope.cid,
            to=mail_from.log_name,
            recipients=len(told),
            failed=len(failed),
        )

    def _notification(
        self,
        envelope: Envelope,
        told: Sequence[RecipientResult],
        original: bytes,
        full: bool,
    ) -> DSN:
        return DSN(
            reporting_mta=self._config.static.dns_hostname.ascii,
            received_from_mta=envelope.hello.form(False),
            arrival_date=envelope.received,
            envelope_id=told[0].recipient.dsn.envelope_id,
            recipients=tuple(
                DSNRecipient(
                    final_recipient=result.recipient.path,
                    original_recipient=result.recipient.dsn.original,
                    action=FAILED if result.code else DELIVERED,
                    # Nobody tries again, whatever the class of the error was.
                    status=f"5.{result.secode.partition('.')[2] or '0.0'}"
                    if result.code
                    else "2.0.0",
                    diagnostic=_reply(result) if result.code else "",
                    last_attempt=envelope.received,
                )
                for result in told
            ),
            text=_text(told),
            original=original,
            original_utf8=envelope.smtputf8,
            full=full,
        )

    async def _signatures(self, domain: Domain, data: bytes, now: int) -> bytes:
        """DKIM signatures by the domain, or the nearest one above it that has keys."""
        found = signer_for(self._config, domain)
        if found is None:
            return b""
        signer, selectors = found
        headers = parse_headers(data)
        try:
            return await self._store.run(
                lambda: sign(
                    selectors,
                    localpart="postmaster",
                    domain=signer.ascii,
                    header=headers.section,
                    body=(data[headers.body_offset :],),
                    now=now // 1_000_000,
                )
            )
        except SignError as exc:
            metrics.smtpserver_errors_total.labels("dkimsign").inc()
            log.error("signing notification", domain=signer.name, err=exc)
            return b""


def _header(head: bytes) -> bytes:
    """The header section to quote, without its empty line."""
    section = parse_headers(head).section.removesuffix(b"\r\n")
    if len(section) > MAX_ORIGINAL:
        section = section[: section.rfind(b"\r\n", 0, MAX_ORIGINAL) + 2]
    return section


def _text(told: Sequence[RecipientResult]) -> str:
    """What people read."""
    failed = [result for result in told if result.code]
    delivered = [result for result in told if not result.code]
    lines = []
    if failed:
        lines += ["Your message has been delivered, but not to the recipients below.", ""]
        lines += [f"\t{result.recipient.path.form()}: {_reply(result)}" for result in failed]
    if delivered:
        lines += [""] * bool(lines)
        lines += ["Your message has been delivered to:", ""]
        lines += [f"\t{result.recipient.path.form()}" for result in delivered]
    return "\r\n".join(lines) + "\r\n"


def _references(canonical_id: str) -> list[str]:
    """The message's id, unless it is one that nobody could refer to."""
    text = f"<{canonical_id}>"
    return [text] if is_message_id(text) else []


def _reply(result: RecipientResult) -> str:
    return f"{result.code} {result.secode} {result.text}"
