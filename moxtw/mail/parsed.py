"""All that is kept of a message at its arrival, found in one go."""

from __future__ import annotations

from typing import Final

import msgspec

from moxtw.mail.addrlist import Mailbox, mailboxes
from moxtw.mail.dates import parse_date
from moxtw.mail.envelope import Addresses, build_envelope, parse_addresses
from moxtw.mail.header import Headers, parse_headers
from moxtw.mail.mime import Buffer, Part, as_bytes, pack_tree, parse_message
from moxtw.mail.sortkeys import SortKeys, links_of, make_keys
from moxtw.mail.structure import structure_wires
from moxtw.mail.text import MAX_SEARCH_TEXT, folded, preview, search_text
from moxtw.mail.thread import bare_subject, in_reply_to, message_id, once, reference_chain
from moxtw.mail.words import decode_header, header_text

PARSE_VERSION: Final = 2
"""Grows when the result of `analyse` changes, so that stored results can be made anew."""


_ADDRESS_FIELDS: Final = (b"from", b"sender", b"reply-to", b"to", b"cc", b"bcc")
# Addresses of a field that are looked at whether comments stand in them.
_MAX_PLAIN: Final = 50


class ParsedMessage(msgspec.Struct, frozen=True, kw_only=True):
    """What lists, searches, threads and decisions need to know about a message.

    `envelope`, `body` and `bodystructure` are in IMAP wire form, `tree` is packed
    (`moxtw.mail.mime.unpack_tree`). `header_text` and `body_text` are case-folded UTF-8 for word
    search. `message_id`, `references` and `in_reply_to` are canonical ids ("" and empty if there
    are none), `subject_base` is case-folded. `date` is in microseconds since the epoch, None if
    missing or unreadable, and `date_zone` its zone in minutes. Addresses are those of all fields
    of the name; Sender and Reply-To are those of From if missing. `keys` are for sorting.
    """

    envelope: bytes
    body: bytes
    bodystructure: bytes
    tree: bytes
    preview: str
    header_text: bytes
    body_text: bytes
    message_id: str
    references: list[str]
    in_reply_to: list[str]
    subject: str
    subject_base: str
    is_response: bool
    date: int | None
    date_zone: int
    from_: list[Mailbox]
    sender: list[Mailbox]
    reply_to: list[Mailbox]
    to: list[Mailbox]
    cc: list[Mailbox]
    bcc: list[Mailbox]
    is_dsn: bool
    is_mailing_list: bool
    has_8bit_header: bool
    has_8bit_body: bool
    needs_smtputf8: bool
    keys: SortKeys


def is_dsn(root: Part) -> bool:
    """Whether the message is a delivery status notification (RFC 3464 2, RFC 6533 6)."""
    return (
        root.media_subtype == "report"
        and len(root.parts) >= 2
        and root.parts[1].media_type == "message"
        and root.parts[1].media_subtype in ("delivery-status", "global-delivery-status")
    )


def is_mailing_list(headers: Headers) -> bool:
    """Whether the message came through a mailing list (RFC 2919, RFC 2369)."""
    if b"list-id" in headers or b"list-post" in headers:
        return True
    precedence = headers.raw(b"precedence")
    return precedence is not None and precedence.lower() == b"list"


def needs_smtputf8(root: Part, buf: bytes) -> bool:
    """Whether a header of the message or of any part is not ASCII (RFC 6531 3.5, RFC 6532 3.7)."""
    for part in root.walk():
        if not buf[part.header_start : part.body_start].isascii():
            return True
        if part.media_type == "message" and part.media_subtype.startswith("global"):
            return True
    return False


def _with_addresses(words: bytes, headers: Headers, addresses: Addresses) -> bytes:
    """The text of the header, with addresses that comments are written into also without them.

    A search for an address looks for what the envelope says (RFC 9051 6.4.4).
    """
    for name, entries in zip(_ADDRESS_FIELDS, addresses, strict=True):
        if not any(b"(" in value for value in headers.raw_all(name)):
            continue
        said = [
            folded(header_text(local + b"@" + host))
            for _, _, local, host in entries[:_MAX_PLAIN]
            if local and host
        ]
        missing = [address for address in said if address not in words]
        start = (b"\n" + words).find(b"\n" + name + b":")
        if missing and start >= 0:
            end = words.find(b"\n", start)
            end = len(words) if end < 0 else end
            end -= words[end - 1 : end] == b"\r"
            words = b" ".join([words[:end], *missing]) + words[end:]
    return words


def analyse(buf: Buffer, text_limit: int = MAX_SEARCH_TEXT) -> ParsedMessage:
    """Parse a complete message. Never fails; the time is linear in the size of the message.

    text_limit: bytes of `body_text` at most.
    """
    data = as_bytes(buf)
    headers = parse_headers(data)
    root = parse_message(data, headers=headers)
    addresses = parse_addresses(headers)
    from_ = mailboxes(addresses.from_)
    body, bodystructure = structure_wires(root, data)
    header_words, body_words = search_text(root, data, text_limit)
    raw_subject = headers.raw(b"subject")
    subject = decode_header(raw_subject) if raw_subject else ""
    base, is_response = bare_subject(subject)
    own_id = message_id(headers)
    chain = reference_chain(headers)
    replied = in_reply_to(headers)
    raw_date = headers.raw(b"date")
    date = parse_date(header_text(raw_date)) if raw_date else None
    is_ascii = data.isascii()
    return ParsedMessage(
        envelope=build_envelope(headers, addresses),
        body=body,
        bodystructure=bodystructure,
        tree=pack_tree(root),
        preview=preview(root, data),
        header_text=_with_addresses(header_words, headers, addresses),
        body_text=body_words,
        message_id=own_id,
        references=once(chain),
        in_reply_to=replied,
        subject=subject,
        subject_base=base.casefold(),
        is_response=is_response,
        date=None if date is None else date[0],
        date_zone=0 if date is None else date[1],
        from_=from_,
        sender=from_ if addresses.sender is addresses.from_ else mailboxes(addresses.sender),
        reply_to=from_ if addresses.reply_to is addresses.from_ else mailboxes(addresses.reply_to),
        to=mailboxes(addresses.to),
        cc=mailboxes(addresses.cc),
        bcc=mailboxes(addresses.bcc),
        is_dsn=is_dsn(root),
        is_mailing_list=is_mailing_list(headers),
        has_8bit_header=not is_ascii and not headers.section.isascii(),
        has_8bit_body=not is_ascii and not data[root.body_start :].isascii(),
        needs_smtputf8=needs_smtputf8(root, data),
        keys=make_keys(
            subject=(base, is_response),
            from_=addresses.from_,
            to=addresses.to,
            cc=addresses.cc,
            message_id=own_id,
            links=links_of(chain, replied),
        ),
    )
