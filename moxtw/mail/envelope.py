"""IMAP's ENVELOPE in wire form (RFC 9051 7.5.2, RFC 3501 7.4.2).

Header text is passed on as it is: encoded words stay encoded. What is not 7-bit becomes a
literal, which is right for every client, whatever it has enabled.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, NamedTuple

from moxtw.mail.addrlist import Entry, parse_entries
from moxtw.mail.header import Headers

_NOT_QUOTABLE: Final = re.compile(rb"[\x00\r\n\x80-\xff]")
_TO_ESCAPE: Final = re.compile(rb'(["\\])')


class Addresses(NamedTuple):
    """The address fields of a message; Sender and Reply-To are those of From if missing."""

    from_: list[Entry]
    sender: list[Entry]
    reply_to: list[Entry]
    to: list[Entry]
    cc: list[Entry]
    bcc: list[Entry]


NO_ADDRESSES: Final = Addresses([], [], [], [], [], [])


def wire_string(value: bytes) -> bytes:
    """A quoted string, or a literal if `value` has bytes that cannot be quoted.

    NULs, which IMAP has no way to send, are left out; line ends become blanks.
    """
    if _NOT_QUOTABLE.search(value):
        value = value.replace(b"\0", b"").replace(b"\r\n", b" ")
        value = value.replace(b"\r", b" ").replace(b"\n", b" ")
        if not value.isascii():
            return b"{%d}\r\n%b" % (len(value), value)
    if b'"' in value or b"\\" in value:
        value = _TO_ESCAPE.sub(rb"\\\1", value)
    return b'"%b"' % value


def wire_nstring(value: bytes | None) -> bytes:
    """A string, or NIL for None."""
    return b"NIL" if value is None else wire_string(value)


def _wire_entries(entries: Iterable[Entry]) -> bytes:
    out = [b"("]
    for name, route, local, host in entries:
        if name is None and route is None and local is not None and host is not None:
            out.append(b"(NIL NIL %b %b)" % (wire_string(local), wire_string(host)))
        else:
            out.append(
                b"(%b %b %b %b)"
                % (wire_nstring(name), wire_nstring(route), wire_nstring(local), wire_nstring(host))
            )
    if len(out) == 1:
        return b"NIL"
    out.append(b")")
    return b"".join(out)


def _entries(headers: Headers, name: bytes) -> list[Entry]:
    values = headers.raw_all(name)
    if len(values) == 1:
        return parse_entries(values[0])
    # RFC 5322 3.6 allows one of each. Of several none is hidden.
    return [entry for value in values for entry in parse_entries(value)]


def address_bytes(headers: Headers) -> int:
    """The length of all address fields, that is, how much work they are to parse."""
    return sum(
        len(value)
        for name in (b"from", b"sender", b"reply-to", b"to", b"cc", b"bcc")
        for value in headers.raw_all(name)
    )


def parse_addresses(headers: Headers) -> Addresses:
    """The address fields. Fields of one name are taken together."""
    from_ = _entries(headers, b"from")
    return Addresses(
        from_,
        _entries(headers, b"sender") or from_,
        _entries(headers, b"reply-to") or from_,
        _entries(headers, b"to"),
        _entries(headers, b"cc"),
        _entries(headers, b"bcc"),
    )


def build_envelope(headers: Headers, addresses: Addresses) -> bytes:
    """The envelope of the headers, whose address fields were parsed before."""
    from_, sender, reply_to, to, cc, bcc = addresses
    wire_from = _wire_entries(from_)
    return b"(%b %b %b %b %b %b %b %b %b %b)" % (
        wire_nstring(headers.raw(b"date")),
        wire_nstring(headers.raw(b"subject")),
        wire_from,
        wire_from if sender is from_ else _wire_entries(sender),
        wire_from if reply_to is from_ else _wire_entries(reply_to),
        _wire_entries(to),
        _wire_entries(cc),
        _wire_entries(bcc),
        wire_nstring(headers.raw(b"in-reply-to")),
        wire_nstring(headers.raw(b"message-id")),
    )


def envelope_wire(headers: Headers) -> bytes:
    """The parenthesised list for ENVELOPE.

    Date, Subject, In-Reply-To and Message-ID are as in the header, unfolded and trimmed: NIL if
    missing, "" if empty. An address without domain has the host "".
    """
    return build_envelope(headers, parse_addresses(headers))
