r"""Delivery status notifications: RFC 3464, RFC 3461 6, with non-ASCII addresses RFC 6533.

`compose_dsn` makes a notification in ASCII, or in UTF-8 for a sender whose mail system takes
that. In the ASCII form, what is more than ASCII is escaped as `\x{hex}` (RFC 6533 3).
`moxtw.mail.dsnparse` reads what others send.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from moxtw.mail.address import Path
from moxtw.mail.compose import (
    Composer,
    MultiPart,
    RawPart,
    base64_lines,
    is_clean_text,
    quoted_printable,
    random_id,
)
from moxtw.mail.dates import format_date
from moxtw.mail.headerwriter import HeaderWriter, comment
from moxtw.mail.words import encoded_words

FAILED: Final = "failed"
DELAYED: Final = "delayed"
DELIVERED: Final = "delivered"
RELAYED: Final = "relayed"
EXPANDED: Final = "expanded"

_MAX_WORD: Final = 200

_NOT_XTEXT: Final = re.compile(r"[^!-*,-<>-\[\]-~]")  # RFC 6533 3 QCHAR
_NOT_UNITEXT: Final = re.compile(r"[^!-*,-<>-\[\]-~\u00a0-\U0010ffff]")
_NOT_ASCII: Final = re.compile(r"[^\t\n\r -~]")
_LINE_END: Final = re.compile(r"\r\n|\r|\n")
_EMBEDDED: Final = re.compile(r"\\x\{([0-9A-Fa-f]{1,6})\}")
_REPLY: Final = re.compile(r"([2-5][0-9][0-9])(?:[ -]|\Z)")


@dataclass(frozen=True, slots=True)
class DSNRecipient:
    """What happened for one recipient, RFC 3464 2.3.

    action: failed, delayed, delivered, relayed or expanded; in parsed ones whatever stood there,
        in lower case.
    status: enhanced code with its class, such as `5.1.1`.
    status_comment: explanation of it.
    original_recipient: what the sender called the recipient, as `type;address` (RFC 3461 4.2).
    remote_mta: name of the host that answered, if one did.
    diagnostic: its reply, lines joined by blanks. diagnostic_type: `smtp`, or for parsed ones
        whatever stood there.
    last_attempt, will_retry_until: microseconds since the epoch, None if not known.
    """

    final_recipient: Path
    action: str
    status: str
    status_comment: str = ""
    original_recipient: str = ""
    remote_mta: str = ""
    diagnostic: str = ""
    diagnostic_type: str = "smtp"
    last_attempt: int | None = None
    will_retry_until: int | None = None
    final_log_id: str = ""

    @property
    def secode(self) -> str:
        """The enhanced code without its class, such as `1.1`."""
        return self.status.partition(".")[2]

    @property
    def smtp_code(self) -> int:
        """The code of the SMTP reply; without one 400 or 500 (200) by the class of the status."""
        if self.diagnostic_type == "smtp":
            match = _REPLY.match(self.diagnostic)
            if match is not None:
                return int(match[1])
        return int(self.status[:1]) * 100


@dataclass(frozen=True, slots=True)
class DSN:
    """A notification, RFC 3464 2.2.

    reporting_mta: name of the host that reports.
    received_from_mta: name or literal of the client that the message came from, if it matters.
    arrival_date: microseconds since the epoch.
    future_release: the request of RFC 4865 4.1, `for;N` or `until;TIME`.
    envelope_id: what the sender called the message (RFC 3461 4.4).
    text: for people. original: the header of the message it is about, or empty. full: it is the
        whole message.
    original_utf8: that message was sent with SMTPUTF8.
    """

    reporting_mta: str
    recipients: tuple[DSNRecipient, ...]
    received_from_mta: str = ""
    arrival_date: int | None = None
    future_release: str = ""
    envelope_id: str = ""
    text: str = ""
    original: bytes = b""
    original_utf8: bool = False
    full: bool = False


def encode_utf8_address(text: str, *, utf8: bool) -> str:
    """An address as utf-8-addr-unitext, or in ASCII as utf-8-addr-xtext, RFC 6533 3."""
    pattern = _NOT_UNITEXT if utf8 else _NOT_XTEXT
    return pattern.sub(_embed, text)


def decode_utf8_address(text: str) -> str:
    """Undo `encode_utf8_address`; what is no code point stays as it is."""
    return _EMBEDDED.sub(_unembed, text)


def escape_ascii(text: str) -> str:
    r"""Text with what is not printable ASCII as `\x{hex}`, but for tab and line ends."""
    return _NOT_ASCII.sub(_embed, text)


def _embed(match: re.Match[str]) -> str:
    return f"\\x{{{ord(match[0]):02X}}}"


def _unembed(match: re.Match[str]) -> str:
    code = int(match[1], 16)
    return chr(code) if code <= 0x10FFFF and not 0xD800 <= code <= 0xDFFF else match[0]


# Composing


def compose_dsn(
    dsn: DSN,
    *,
    mail_from: Path,
    to: Path,
    subject: str,
    message_id: str,
    when: int,
    utf8: bool,
    references: Sequence[str] = (),
    zone: int = 0,
    boundary: Callable[[], str] = random_id,
) -> bytes:
    """The notification as a message, without Return-Path and Delivered-To.

    mail_from, to: for the header; the envelope's sender must be null (RFC 3464 2).
    when: microseconds since the epoch; zone: offset from UTC in minutes, for all times.
    utf8: the UTF-8 form.
    """
    composer = Composer(utf8=utf8, boundary=boundary)
    composer.raw(_path_header("From", mail_from, utf8))
    composer.raw(_path_header("To", to, utf8))
    composer.text("Subject", subject)
    composer.raw(f"Message-Id: {message_id}\r\n".encode())
    composer.message_ids("References", references)
    composer.date(when, zone)
    composer.raw(b"Auto-Submitted: auto-replied\r\n")  # RFC 3834 5
    parts = [_text_part(dsn.text, utf8), _status_part(dsn, utf8, zone)]
    if dsn.original:
        parts.append(_original_part(dsn, utf8))
    params = (("report-type", "delivery-status"),)
    return composer.message(MultiPart("report", tuple(parts), params))


def _path_header(name: str, path: Path, utf8: bool) -> bytes:
    writer = HeaderWriter(name)
    if utf8 or not path.needs_utf8:
        writer.add(path.wire(utf8))
    else:
        # There is no ASCII form; as in RFC 6857 3.1.8 an empty group names the address.
        words = encoded_words(path.form(False))
        writer.add(*words[:-1], words[-1] + ":;")
    return writer.data()


def _text_part(text: str, utf8: bool) -> RawPart:
    if not utf8:
        text = escape_ascii(text)
    text = text.removesuffix("\n").removesuffix("\r")
    lines = [piece for line in _LINE_END.split(text) for piece in _wrapped(line)]
    body = "\r\n".join([*lines, ""]).encode("utf-8", "replace")
    if not utf8:
        return _raw_part("text/plain", "7bit", body)
    encoding = "8bit" if is_clean_text(body) else "quoted-printable"
    body = body if encoding == "8bit" else quoted_printable(body)
    return _raw_part("text/plain; charset=utf-8", encoding, body)


def _wrapped(line: str, width: int = 240) -> list[str]:
    """A line in pieces that SMTP can carry, even with four octets to a character."""
    pieces = []
    while len(line) > width:
        cut = line.rfind(" ", 1, width) + 1 or width
        pieces.append(line[:cut])
        line = line[cut:]
    pieces.append(line)
    return pieces


def _raw_part(content_type: str, encoding: str, body: bytes) -> RawPart:
    headers = f"Content-Type: {content_type}\r\nContent-Transfer-Encoding: {encoding}\r\n"
    return RawPart(headers.encode("ascii"), body)


def _status_part(dsn: DSN, utf8: bool, zone: int) -> RawPart:
    fields = [_field("Reporting-MTA", f"dns; {dsn.reporting_mta}", utf8)]
    if dsn.envelope_id:
        fields.insert(0, _field("Original-Envelope-Id", dsn.envelope_id, utf8))
    if dsn.received_from_mta:
        fields.append(_field("Received-From-MTA", f"dns; {dsn.received_from_mta}", utf8))
    if dsn.arrival_date is not None:
        fields.append(_field("Arrival-Date", format_date(dsn.arrival_date, zone), utf8))
    if dsn.future_release:
        fields.append(_field("Future-Release-Request", dsn.future_release, utf8))
    for recipient in dsn.recipients:
        fields.append(b"\r\n")
        fields += _recipient_fields(recipient, utf8, zone)
    body = b"".join(fields)
    if utf8:
        return _raw_part("message/global-delivery-status", "8bit", body)
    return _raw_part("message/delivery-status", "7bit", body)


def _recipient_fields(recipient: DSNRecipient, utf8: bool, zone: int) -> list[bytes]:
    fields = []
    if recipient.original_recipient:
        kind, _, address = recipient.original_recipient.partition(";")
        if kind.lower() == "utf-8":
            address = encode_utf8_address(address, utf8=utf8)
        fields.append(_field("Original-Recipient", f"{kind}; {address}", utf8))
    final = _typed_address(recipient.final_recipient, utf8)
    fields.append(_field("Final-Recipient", final, utf8))
    fields.append(_field("Action", recipient.action, utf8))
    status = recipient.status
    if recipient.status_comment:
        status += " " + comment(recipient.status_comment)
    fields.append(_field("Status", status, utf8))
    if recipient.remote_mta:
        fields.append(_field("Remote-MTA", f"dns;{recipient.remote_mta}", utf8))
    if recipient.diagnostic:
        diagnostic = f"{recipient.diagnostic_type}; {recipient.diagnostic}"
        fields.append(_field("Diagnostic-Code", diagnostic, utf8))
    if recipient.last_attempt is not None:
        fields.append(_field("Last-Attempt-Date", format_date(recipient.last_attempt, zone), utf8))
    if recipient.final_log_id:
        fields.append(_field("Final-Log-ID", recipient.final_log_id, utf8))
    if recipient.will_retry_until is not None:
        until = format_date(recipient.will_retry_until, zone)
        fields.append(_field("Will-Retry-Until", until, utf8))
    return fields


def _typed_address(path: Path, utf8: bool) -> str:
    """Address type and address, RFC 3464 2.1.2, RFC 6533 3."""
    if path.needs_utf8 or (utf8 and not path.form(True).isascii()):
        return "utf-8; " + encode_utf8_address(path.form(utf8), utf8=utf8)
    return "rfc822; " + path.form(False)


def _field(name: str, text: str, utf8: bool) -> bytes:
    writer = HeaderWriter(name)
    # Replies of other systems come in here: line ends would begin other fields.
    text = " ".join(text.split())
    if not utf8:
        text = escape_ascii(text)
    words = (
        word[start : start + _MAX_WORD]
        for word in text.split(" ")
        for start in range(0, len(word), _MAX_WORD)
    )
    writer.add(*words)
    return writer.data()


def _original_part(dsn: DSN, utf8: bool) -> RawPart:
    if dsn.full:
        kind = "global" if utf8 and dsn.original_utf8 else "rfc822"
        encoding = "7bit" if dsn.original.isascii() else "8bit"
        return _raw_part(f"message/{kind}", encoding, dsn.original)
    original = dsn.original if dsn.original.endswith(b"\r\n") else dsn.original + b"\r\n"
    clean = is_clean_text(original)
    if utf8:
        if clean:
            return _raw_part("message/global-headers", "8bit", original)
        return _raw_part("message/global-headers", "base64", base64_lines(original))
    if dsn.original_utf8 or not clean or not original.isascii():
        content_type = "text/rfc822-headers; charset=utf-8"
        return _raw_part(content_type, "base64", base64_lines(original))
    return _raw_part("text/rfc822-headers", "7bit", original)
