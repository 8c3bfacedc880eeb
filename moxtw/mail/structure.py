"""IMAP's BODY and BODYSTRUCTURE in wire form (RFC 9051 7.5.2, RFC 3501 7.4.2).

Types, encodings and parameter names are in upper case, parameters sorted by name. Continued
parameters are joined (RFC 2231 6); a value that is not ASCII is sent in the extended form of
RFC 2231, under the name with an asterisk.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

from moxtw.mail.envelope import (
    NO_ADDRESSES,
    address_bytes,
    build_envelope,
    parse_addresses,
    wire_string,
)
from moxtw.mail.mime import Buffer, Part, as_bytes, part_headers

MAX_ADDRESS_BYTES: Final = 1 << 20
"""Bytes of address fields that are looked at in all embedded messages together. Envelopes of
those that come later have no addresses."""

# RFC 2231 7, attribute-char; what quote() leaves alone anyway is not named.
_ATTRIBUTE_CHARS: Final = "!#$&+^`{|}"


def _string(value: str) -> bytes:
    return wire_string(value.encode("utf-8"))


def _nstring(value: str | None) -> bytes:
    return b"NIL" if value is None else wire_string(value.encode("utf-8"))


def _upper(value: str) -> bytes:
    return wire_string(value.upper().encode("utf-8"))


def _params(params: dict[str, str]) -> bytes:
    if not params:
        return b"NIL"
    pairs = [
        (name.upper(), value)
        if value.isascii()
        else (name.upper() + "*", "utf-8''" + quote(value, safe=_ATTRIBUTE_CHARS))
        for name, value in params.items()
    ]
    pairs.sort()
    out = [b"%b %b" % (_string(name), _string(value)) for name, value in pairs]
    return b"(%b)" % b" ".join(out)


def _disposition(part: Part) -> bytes:
    if part.disposition is None:
        return b"NIL"
    return b"(%b %b)" % (_string(part.disposition), _params(part.disp_params))


def _language(part: Part) -> bytes:
    if part.language is None:
        return b"NIL"
    if len(part.language) == 1:
        return _string(part.language[0])
    return b"(%b)" % b" ".join([_string(tag) for tag in part.language])


def _leaf(part: Part) -> bytes:
    """The fields that all but multiparts begin with (body-fields and the types before)."""
    return b"(%b %b %b %b %b %b %d" % (
        _upper(part.media_type),
        _upper(part.media_subtype),
        _params(part.params),
        _nstring(part.id),
        _nstring(part.description),
        _upper(part.encoding),
        part.body_end - part.body_start,
    )


def _extension(part: Part) -> bytes:
    """Disposition, language, location."""
    if part.disposition is None and part.language is None and part.location is None:
        return b" NIL NIL NIL"
    return b" %b %b %b" % (_disposition(part), _language(part), _nstring(part.location))


def structure_wires(root: Part, buf: Buffer) -> tuple[bytes, bytes]:
    """BODY and BODYSTRUCTURE of the message in `buf`."""
    data = as_bytes(buf)
    room = MAX_ADDRESS_BYTES
    body: list[bytes] = []
    full: list[bytes] = []
    # Parts still to be written, and what closes those begun: (for BODY, for BODYSTRUCTURE).
    todo: list[Part | tuple[bytes, bytes]] = [root]
    while todo:
        part = todo.pop()
        if isinstance(part, tuple):
            body.append(part[0])
            full.append(part[1])
            continue
        if part.parts:
            subtype = b" " + _upper(part.media_subtype)
            body.append(b"(")
            full.append(b"(")
            close = b"%b %b%b)" % (subtype, _params(part.params), _extension(part))
            todo.append((subtype + b")", close))
            todo.extend(reversed(part.parts))
            continue
        start = _leaf(part)
        if part.message is not None:
            headers = part_headers(part.message, data)
            room -= address_bytes(headers)
            addresses = parse_addresses(headers) if room >= 0 else NO_ADDRESSES
            envelope = build_envelope(headers, addresses)
            start = b"%b %b " % (start, envelope)
            lines = b" %d" % part.lines
            close = b"%b %b%b)" % (lines, _nstring(part.md5), _extension(part))
            body.append(start)
            full.append(start)
            todo.append((lines + b")", close))
            todo.append(part.message)
            continue
        if part.media_type == "text":
            start = b"%b %d" % (start, part.lines)
        body.append(start + b")")
        full.append(b"%b %b%b)" % (start, _nstring(part.md5), _extension(part)))
    return b"".join(body), b"".join(full)


def bodystructure_wire(root: Part, buf: Buffer, extended: bool) -> bytes:
    """The parenthesised list for BODYSTRUCTURE, or for BODY without the extension data."""
    return structure_wires(root, buf)[1 if extended else 0]
