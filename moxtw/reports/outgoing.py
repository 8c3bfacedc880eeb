"""Reports as messages: composed, signed, put into the queue."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

from moxtw.authn.dkimsign import SignError, sign
from moxtw.config.dynamic import Selector
from moxtw.config.lookup import ConfigView
from moxtw.log import Logger
from moxtw.mail.address import Address, AddressError, parse_address
from moxtw.mail.compose import (
    Composer,
    FilePart,
    MultiPart,
    NameAddress,
    Part,
    TextPart,
    message_id,
)
from moxtw.mail.domain import Domain
from moxtw.mail.header import parse_headers
from moxtw.store import queuedb, reportsuppressions
from moxtw.store.db import Store
from moxtw.store.queuerecord import NewQueued
from moxtw.store.reportsuppressions import Kind
from moxtw.store.tx import Tx

log = Logger("reports")

MAX_ATTEMPTS: Final = 5
"""Deliveries of a report that are tried."""

Signer = tuple[Domain, tuple[Selector, ...]]


def parse_mailto(uri: str) -> Address | None:
    """The address of a ``mailto`` URI (RFC 6068); None for others."""
    scheme, colon, rest = uri.partition(":")
    if not colon or scheme.lower() != "mailto":
        return None
    try:
        return parse_address(unquote(rest.partition("?")[0], errors="strict"))
    except (AddressError, UnicodeDecodeError):
        return None


@dataclass(frozen=True, slots=True)
class Taker:
    """Who gets a report: the address, and the largest message that it takes, 0 for any."""

    address: Address
    max_size: int = 0


@dataclass(frozen=True, slots=True)
class Letter:
    """A message to be made. author: the domain of its postmaster, who sends it.

    headers: further fields. attachment: a file, packed, with its name and type; None for none.
    report_type: of a multipart/report. signed: further fields that signatures cover.
    """

    kind: Kind
    author: Domain
    subject: str
    text: str
    headers: tuple[tuple[str, str], ...] = ()
    attachment: tuple[str, str, bytes] | None = None
    report_type: str = ""
    signed: tuple[str, ...] = ()
    require_tls: bool | None = None


def report_subject(domain: Domain, submitter: Domain, report_id: str) -> str:
    """The subject of a report (RFC 7489 7.2.1.1, RFC 8460 5.3)."""
    return (
        f"Report Domain: {domain.ascii} Submitter: {submitter.ascii} Report-ID: <{report_id}>"
    )


def pack(data: bytes) -> bytes:
    """A file with gzip, the same each time."""
    return gzip.compress(data, mtime=0)


@dataclass(frozen=True, slots=True)
class Queued:
    """What became of a letter: to how many it was queued, and who was left out, with the size."""

    count: int
    size: int
    too_small: tuple[Taker, ...] = ()
    suppressed: tuple[Taker, ...] = ()


class Outbox:
    """Puts reports into the queue; they belong to the postmaster."""

    def __init__(self, store: Store, config: ConfigView) -> None:
        self._store = store
        self._config = config

    async def send(self, letter: Letter, takers: Sequence[Taker], signer: Signer | None) -> Queued:
        """Queue a letter, for each that takes it one message."""
        now = self._store.now()
        new_id = message_id(letter.author)
        data = await self._store.run(lambda: _compose(letter, takers, new_id, now))
        prefix = b"" if signer is None else await self._sign(letter, data, signer, now)
        size = len(prefix) + len(data)
        fitting = [each for each in takers if not each.max_size or size <= each.max_size]
        too_small = tuple(each for each in takers if each not in fitting)
        content = await self._store.contents.from_bytes(data)
        sender_account = self._config.static.postmaster.account

        def job(tx: Tx) -> tuple[Taker, ...]:
            suppressed = tuple(
                each
                for each in fitting
                if reportsuppressions.is_suppressed(tx, letter.kind, each.address.pack())
            )
            rows = [
                NewQueued(
                    sender_account=sender_account,
                    sender_localpart="postmaster",
                    sender_domain=letter.author.name,
                    recipient_localpart=each.address.localpart,
                    recipient_domain=each.address.domain.name,
                    content=content,
                    prefix=prefix,
                    max_attempts=MAX_ATTEMPTS,
                    has8bit=not data.isascii(),
                    smtputf8=not each.address.localpart.isascii(),
                    message_id=new_id,
                    subject=letter.subject,
                    is_dmarc_report=letter.kind == "dmarc",
                    is_tls_report=letter.kind == "tls",
                    require_tls=letter.require_tls,
                )
                for each in fitting
                if each not in suppressed
            ]
            if rows:
                queuedb.add(tx, rows)
            return suppressed

        try:
            suppressed = await self._store.write(job)
        finally:
            content.discard()
        return Queued(len(fitting) - len(suppressed), size, too_small, suppressed)

    async def _sign(self, letter: Letter, data: bytes, signer: Signer, now: int) -> bytes:
        domain, selectors = signer
        headers = parse_headers(data)
        try:
            return await self._store.run(
                lambda: sign(
                    selectors,
                    localpart="postmaster",
                    domain=domain.ascii,
                    header=headers.section,
                    body=(data[headers.body_offset :],),
                    now=now // 1_000_000,
                    also=letter.signed,
                )
            )
        except SignError as exc:
            log.error("signing report", domain=domain.name, err=exc)
            return b""


def _compose(letter: Letter, takers: Sequence[Taker], new_id: str, now: int) -> bytes:
    utf8 = not all(each.address.localpart.isascii() for each in takers)
    composer = Composer(utf8=utf8, eight_bit=False)
    composer.addresses("From", [NameAddress("", Address("postmaster", letter.author))])
    composer.addresses("To", [NameAddress("", each.address) for each in takers])
    composer.text("Subject", letter.subject)
    composer.raw(f"Message-Id: {new_id}\r\n".encode())
    composer.date(now)
    composer.raw(b"Auto-Submitted: auto-generated\r\n")  # RFC 3834 5
    for name, text in letter.headers:
        composer.text(name, text)
    part: Part = TextPart(letter.text)
    if letter.attachment is not None:
        name, media_type, content = letter.attachment
        attached = FilePart(content, name, media_type)
        if letter.report_type:
            params = (("report-type", letter.report_type),)
            part = MultiPart("report", (part, attached), params)
        else:
            part = MultiPart("mixed", (part, attached))
    return composer.message(part)
