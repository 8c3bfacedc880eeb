"""The notification when a message was accepted for some recipients and refused for others.

The client got one reply for the whole message, and that said yes; so the sender is told about
the others by mail (RFC 5321 6.1, RFC 3464).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from moxtw import metrics
from moxtw.authn.dkimsign import SignError, selectors_for, sign
from moxtw.config.dynamic import Selector
from moxtw.config.lookup import ConfigView, domain_index
from moxtw.inbound.envelope import Envelope, RecipientResult
from moxtw.log import Logger
from moxtw.mail.address import IPDomain, Path
from moxtw.mail.compose import is_message_id, message_id
from moxtw.mail.domain import Domain
from moxtw.mail.dsn import DSN, FAILED, DSNRecipient, compose_dsn
from moxtw.mail.header import parse_headers
from moxtw.store import queuedb
from moxtw.store.content import Spooled
from moxtw.store.db import Store
from moxtw.store.queuerecord import NewQueued

log = Logger("smtpserver")

MAX_ORIGINAL: Final = 64 * 1024
"""Bytes of the original header that a notification quotes."""


class Bouncer:
    """Queues notifications for senders elsewhere; they belong to the postmaster."""

    def __init__(self, store: Store, config: ConfigView) -> None:
        self._store = store
        self._config = config

    async def __call__(
        self, envelope: Envelope, content: Spooled, failed: Sequence[RecipientResult]
    ) -> None:
        """Queue one notification about all `failed` recipients, for the sender."""
        config = self._config
        hostname = config.static.dns_hostname
        domain = failed[0].recipient.path.ipdomain.domain or hostname
        now = self._store.now()
        new_id = message_id(hostname)

        def compose(utf8: bool) -> bytes:
            return compose_dsn(
                self._notification(envelope, failed),
                mail_from=Path("postmaster", IPDomain(domain=domain)),
                to=envelope.mail_from,
                subject="mail delivery failure",
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
            "queued notification of failed delivery",
            cid=envelope.cid,
            to=mail_from.log_name,
            recipients=len(failed),
        )

    def _notification(self, envelope: Envelope, failed: Sequence[RecipientResult]) -> DSN:
        original = parse_headers(envelope.head).section.removesuffix(b"\r\n")
        if len(original) > MAX_ORIGINAL:
            original = original[: original.rfind(b"\r\n", 0, MAX_ORIGINAL) + 2]
        lines = [
            "Your message has been delivered, but not to the recipients below.",
            "",
            *(f"\t{result.recipient.path.form()}: {_reply(result)}" for result in failed),
        ]
        return DSN(
            reporting_mta=self._config.static.dns_hostname.ascii,
            received_from_mta=envelope.hello.form(False),
            arrival_date=envelope.received,
            recipients=tuple(
                DSNRecipient(
                    final_recipient=result.recipient.path,
                    action=FAILED,
                    # Nobody tries again, whatever the class of the error was.
                    status=f"5.{result.secode.partition('.')[2] or '0.0'}",
                    diagnostic=_reply(result),
                    last_attempt=envelope.received,
                )
                for result in failed
            ),
            text="\r\n".join(lines) + "\r\n",
            original=original,
            original_utf8=envelope.smtputf8,
        )

    async def _signatures(self, domain: Domain, data: bytes, now: int) -> bytes:
        """DKIM signatures by the domain, or the nearest one above it that has keys."""
        found = self._signer(domain)
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

    def _signer(self, domain: Domain) -> tuple[Domain, tuple[Selector, ...]] | None:
        ascii_name, unicode_name = domain.ascii, domain.name
        while "." in ascii_name:
            parent = Domain(ascii_name, "" if unicode_name == ascii_name else unicode_name)
            entry = domain_index(self._config, parent)
            if entry is not None and (selectors := selectors_for(entry.config)):
                return parent, selectors
            ascii_name = ascii_name.partition(".")[2]
            unicode_name = unicode_name.partition(".")[2]
        return None


def _references(canonical_id: str) -> list[str]:
    """The message's id, unless it is one that nobody could refer to."""
    text = f"<{canonical_id}>"
    return [text] if is_message_id(text) else []


def _reply(result: RecipientResult) -> str:
    return f"{result.code} {result.secode} {result.text}"
