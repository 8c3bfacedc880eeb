"""Composing messages: header fields with encoded words, MIME parts, transfer encodings.

Lines end in CRLF. Messages can be had in one piece or, for large attachments, in pieces of
bounded size (`Composer.pieces`).
"""

from __future__ import annotations

import base64
import binascii
import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote

from moxtw.mail.address import Address
from moxtw.mail.dates import format_date
from moxtw.mail.domain import Domain
from moxtw.mail.headerwriter import HeaderWriter, quoted_string
from moxtw.mail.words import encoded_words

MAX_LINE: Final = 998
"""Octets of a line without CRLF, RFC 5322 2.1.1."""

_PIECE: Final = 57 * 16384  # Octets of data to encode at once; 57 of them make a base64 line.

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_HEADER_NAME: Final = re.compile(r"[!-9;-~]{1,76}")  # RFC 5322 3.6.8, short enough to fold after
_ATOMS: Final = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?: [A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_TOKEN: Final = re.compile(r"[A-Za-z0-9!#$%&'*+^_`{|}~.-]+")  # RFC 2045 5.1
_MEDIA_TYPE: Final = re.compile(
    r"([A-Za-z0-9!#$&^_.+-]{1,127})/([A-Za-z0-9!#$&^_.+-]{1,127})(?=\s*(?:;|\Z))"
)
_PARAM: Final = re.compile(
    r'\s*;\s*([A-Za-z0-9!#$%&\'*+^_`{|}~.-]+)\s*=\s*'
    r'(?:"((?:[^"\\]|\\.)*)"|([A-Za-z0-9!#$%&\'*+^_`{|}~.-]+))\s*'
)
_LINE_END: Final = re.compile(r"\r\n|\r|\n")
_MESSAGE_ID: Final = re.compile(r"<[!-;=?-~]+>")
_LONG_LINE: Final = re.compile(rb"[^\r\n]{%d}" % (MAX_LINE + 1))


class ComposeError(ValueError):
    """What was to be written cannot stand in a message; the message says why."""


# Header fields


def message_id(hostname: Domain | str) -> str:
    """A new Message-ID with its angle brackets: 16 random octets in base64url at the host."""
    host = hostname if isinstance(hostname, str) else hostname.ascii
    return f"<{random_id()}@{host}>"


def random_id() -> str:
    """16 random octets, in base64url: 22 characters."""
    return base64.urlsafe_b64encode(secrets.token_bytes(16)).rstrip(b"=").decode("ascii")


def needs_encoding(text: str, utf8: bool) -> bool:
    """Whether unstructured text must be written as encoded words.

    So is what would be taken for one, and what has no blank to fold at.
    """
    if "=?" in text or not (utf8 or text.isascii()):
        return True
    return len(text) > 200 and any(len(word.encode()) > 900 for word in text.split(" "))


def text_header(name: str, text: str, *, utf8: bool = False) -> bytes:
    """A header field of unstructured text. Raises ComposeError for control characters.

    utf8: write non-ASCII as it is (RFC 6532), not as encoded words.
    """
    _check_name(name)
    _check_text(name, text)
    writer = HeaderWriter(name)
    text = text.strip(" ")
    if needs_encoding(text, utf8):
        writer.add(*encoded_words(text))
    else:
        writer.add_text(text)
    return writer.data()


def _check_name(name: str) -> None:
    if not _HEADER_NAME.fullmatch(name):
        raise ComposeError(f"invalid header field name {name!r}")


def _check_text(name: str, text: str) -> None:
    if _CONTROL.search(text):
        raise ComposeError(f"control character in {name}")
    try:
        text.encode()
    except UnicodeEncodeError as exc:
        raise ComposeError(f"text of {name} is not Unicode") from exc


@dataclass(frozen=True, slots=True)
class NameAddress:
    """An address with a display name, which may be empty."""

    name: str
    address: Address


def format_mailbox(mailbox: NameAddress, *, utf8: bool = False) -> list[str]:
    """A mailbox (RFC 5322 3.4) as tokens to fold between."""
    spec = mailbox.address.pack(utf8)
    name = mailbox.name
    if not name:
        return [f"<{spec}>"]
    _check_text("display name", name)
    if "=?" in name or not (utf8 or name.isascii()) or len(name) > 300:
        return [*encoded_words(name), f"<{spec}>"]
    if _ATOMS.fullmatch(name):
        return [*name.split(" "), f"<{spec}>"]
    return [quoted_string(name), f"<{spec}>"]


def address_header(name: str, mailboxes: Iterable[NameAddress], *, utf8: bool = False) -> bytes:
    """A header field of addresses. Raises ComposeError for control characters in names."""
    _check_name(name)
    lists = [format_mailbox(mailbox, utf8=utf8) for mailbox in mailboxes]
    if not lists:
        raise ComposeError(f"no address for {name}")
    writer = HeaderWriter(name)
    for tokens in lists[:-1]:
        tokens[-1] += ","
        writer.add(*tokens)
    writer.add(*lists[-1])
    return writer.data()


def is_message_id(text: str) -> bool:
    """Whether text can stand as a message id: with angle brackets, ASCII without blanks."""
    return len(text) <= 900 and _MESSAGE_ID.fullmatch(text) is not None


def message_ids_header(name: str, ids: Sequence[str]) -> bytes:
    """A header field of message ids (References, In-Reply-To), one to a line."""
    _check_name(name)
    writer = HeaderWriter(name)
    for index, text in enumerate(ids):
        if not is_message_id(text):
            raise ComposeError(f"malformed message id in {name}")
        if index:
            writer.newline()
        writer.add(text)
    return writer.data()


def date_header(when: int, zone: int = 0, name: str = "Date") -> bytes:
    """The Date field: microseconds since the epoch, offset from UTC in minutes."""
    return f"{name}: {format_date(when, zone)}\r\n".encode()


# Parts


@dataclass(frozen=True, slots=True)
class TextPart:
    """Text in UTF-8, any line ends. `subtype` is plain, html or another."""

    text: str
    subtype: str = "plain"


@dataclass(frozen=True, slots=True)
class FilePart:
    """A file as an attachment, or inline.

    content_type: media type with parameters, as given; empty for application/octet-stream.
    disposition: `attachment` or `inline`.
    content_id: with angle brackets, or empty.
    """

    data: bytes
    name: str = ""
    content_type: str = ""
    disposition: str = "attachment"
    content_id: str = ""


@dataclass(frozen=True, slots=True)
class RawPart:
    """A part whose header fields and encoded body are made already, CRLF lines."""

    headers: bytes
    body: bytes


@dataclass(frozen=True, slots=True)
class MultiPart:
    """Parts within a multipart; `params` are further parameters of its Content-Type."""

    subtype: str
    parts: tuple[Part, ...]
    params: tuple[tuple[str, str], ...] = ()


Part = TextPart | FilePart | RawPart | MultiPart


def assemble(
    *,
    text: str | None = None,
    html: str | None = None,
    alternative: Sequence[FilePart] = (),
    inline: Sequence[FilePart] = (),
    attached: Sequence[FilePart] = (),
) -> Part:
    """The part of a message that holds these, with multiparts only as far as needed.

    Attachments in multipart/mixed around inline files in multipart/related around the forms
    of the text in multipart/alternative. Raises ComposeError without text, html or alternative.
    """
    forms: list[Part] = []
    if text is not None:
        forms.append(TextPart(text))
    if html is not None:
        forms.append(TextPart(html, "html"))
    forms += alternative
    if not forms:
        raise ComposeError("message without text")
    part: Part = forms[0] if len(forms) == 1 else MultiPart("alternative", tuple(forms))
    if inline:
        # RFC 2387 3.1: the type of the root must be told.
        params = (("type", _media_type(part)),)
        part = MultiPart("related", (part, *inline), params)
    if attached:
        part = MultiPart("mixed", (part, *attached))
    return part


def _media_type(part: Part) -> str:
    match part:
        case TextPart():
            return f"text/{part.subtype}"
        case MultiPart():
            return f"multipart/{part.subtype}"
        case FilePart():
            return parse_content_type(part.content_type)[0]
        case RawPart():
            return "application/octet-stream"


def parse_content_type(text: str) -> tuple[str, list[tuple[str, str]]]:
    """Check a Content-Type given by a client: media type, and parameters decoded.

    Empty is application/octet-stream. Raises ComposeError.
    """
    text = text.strip()
    if not text:
        return "application/octet-stream", []
    _check_text("content type", text)
    match = _MEDIA_TYPE.match(text) if len(text) < 1000 else None
    if match is None:
        raise ComposeError("invalid content type")
    params = []
    pos = match.end()
    while pos < len(text):
        param = _PARAM.match(text, pos)
        if param is None:
            if text[pos:].strip() == ";":
                break
            raise ComposeError("invalid parameters in content type")
        value = re.sub(r"\\(.)", r"\1", param[2]) if param[2] is not None else param[3]
        params.append((param[1].lower(), value))
        pos = param.end()
    return match[0].lower(), params


def param_tokens(name: str, value: str) -> list[str]:
    """A MIME parameter as tokens to fold between; non-ASCII and long ones by RFC 2231."""
    if value.isascii() and len(value) <= 60:
        return [f"{name}={value if _TOKEN.fullmatch(value) else quoted_string(value)}"]
    encoded = [quote(char, safe="!#$&+^`{}|~", errors="replace") for char in value]
    chunks = ["utf-8''"]
    for char in encoded:
        if len(chunks[-1]) + len(char) > 60:
            chunks.append("")
        chunks[-1] += char
    if len(chunks) == 1:
        return [f"{name}*={chunks[0]}"]
    return [f"{name}*{index}*={chunk}" for index, chunk in enumerate(chunks)]


def content_header(name: str, value: str, params: Iterable[tuple[str, str]] = ()) -> bytes:
    """A MIME header field with parameters: Content-Type, Content-Disposition."""
    tokens = [value]
    for key, text in params:
        _check_text(key, text)
        tokens[-1] += ";"
        encoded = param_tokens(key, text)
        tokens += [token + ";" for token in encoded[:-1]] + encoded[-1:]
    writer = HeaderWriter(name)
    writer.add(*tokens)
    return writer.data()


def crlf_text(text: str) -> str:
    """Text with CRLF line ends whatever they were, and one at its end."""
    text = _LINE_END.sub("\r\n", text)
    return text if text.endswith("\r\n") else text + "\r\n"


def quoted_printable(data: bytes) -> bytes:
    """Text with CRLF line ends as quoted-printable, RFC 2045 6.7."""
    # The codec of the standard library keeps to the line ends that it finds first.
    return binascii.b2a_qp(data, quotetabs=False, istext=True, header=False)


def base64_lines(data: bytes | memoryview) -> bytes:
    """Data as base64, in lines of 76 characters that end in CRLF."""
    encoded = binascii.b2a_base64(data, newline=False)
    lines = [encoded[i : i + 76] for i in range(0, len(encoded), 76)]
    lines.append(b"")
    return b"\r\n".join(lines)


def is_clean_text(data: bytes) -> bool:
    """Whether data may be sent unencoded: no NUL, no bare CR or LF, no line over 998 octets."""
    return (
        b"\0" not in data
        and data.count(b"\r\n") == data.count(b"\n") == data.count(b"\r")
        and _LONG_LINE.search(data) is None
    )


def text_part(part: TextPart, *, eight_bit: bool = True) -> tuple[bytes, bytes]:
    """Header fields and body of a text part, in 7bit, 8bit or quoted-printable."""
    try:
        data = crlf_text(part.text).encode()
    except UnicodeEncodeError as exc:
        raise ComposeError("text is not Unicode") from exc
    plain = data.isascii()
    if not is_clean_text(data) or not (plain or eight_bit):
        encoding = "quoted-printable"
        data = quoted_printable(data)
    else:
        encoding = "7bit" if plain else "8bit"
    charset = "us-ascii" if plain else "utf-8"
    headers = (
        content_header("Content-Type", f"text/{part.subtype}", [("charset", charset)])
        + f"Content-Transfer-Encoding: {encoding}\r\n".encode()
    )
    return headers, data


def file_headers(part: FilePart, *, eight_bit: bool = True) -> tuple[bytes, bool]:
    """Header fields of a file part, and whether its body is base64.

    Messages must not be (RFC 2046 5.2.1): they go as they are where possible, or else under
    another type.
    """
    media_type, params = parse_content_type(part.content_type)
    if media_type.startswith("multipart/"):
        media_type, params = "application/octet-stream", []
    encoding = "base64"
    if media_type in ("message/rfc822", "message/global"):
        if is_clean_text(part.data) and (eight_bit or part.data.isascii()):
            encoding = "7bit" if part.data.isascii() else "8bit"
        else:
            media_type, params = "application/octet-stream", []
    lines = [content_header("Content-Type", media_type, params)]
    lines.append(f"Content-Transfer-Encoding: {encoding}\r\n".encode())
    disposition = [("filename", part.name)] if part.name else []
    lines.append(content_header("Content-Disposition", part.disposition, disposition))
    if part.content_id:
        if not is_message_id(part.content_id):
            raise ComposeError("malformed content id")
        lines.append(f"Content-ID: {part.content_id}\r\n".encode())
    return b"".join(lines), encoding == "base64"


def render(
    part: Part, *, eight_bit: bool = True, boundary: Callable[[], str] = random_id
) -> Iterator[bytes]:
    """A part in pieces of about a MiB at most: header fields, empty line, body.

    eight_bit: allow the 8bit transfer encoding.
    boundary: makes the boundaries of multiparts, each unlike any line of the content.
    """
    match part:
        case TextPart():
            headers, body = text_part(part, eight_bit=eight_bit)
            yield headers + b"\r\n"
            yield body
        case RawPart():
            yield part.headers + b"\r\n"
            yield part.body
        case FilePart():
            headers, encoded = file_headers(part, eight_bit=eight_bit)
            yield headers + b"\r\n"
            view = memoryview(part.data)
            for start in range(0, len(view), _PIECE):
                piece = view[start : start + _PIECE]
                yield base64_lines(piece) if encoded else bytes(piece)
        case MultiPart():
            limit = boundary()
            params = [*part.params, ("boundary", limit)]
            yield content_header("Content-Type", f"multipart/{part.subtype}", params) + b"\r\n"
            delimiter = f"--{limit}\r\n".encode()
            for child in part.parts:
                yield delimiter
                yield from render(child, eight_bit=eight_bit, boundary=boundary)
                # The line end before a delimiter belongs to it, RFC 2046 5.1.1.
                delimiter = f"\r\n--{limit}\r\n".encode()
            yield f"\r\n--{limit}--\r\n".encode()


@dataclass(slots=True)
class Composer:
    """A message in the making: add header fields in order, then take it with a part.

    utf8: the message will be sent with SMTPUTF8, so its header may hold UTF-8 (RFC 6532).
    eight_bit: allow the 8bit transfer encoding.
    """

    utf8: bool = False
    eight_bit: bool = True
    boundary: Callable[[], str] = random_id
    _fields: list[bytes] = field(default_factory=list)

    def text(self, name: str, text: str) -> None:
        """Add a field of unstructured text, such as Subject."""
        self._fields.append(text_header(name, text, utf8=self.utf8))

    def addresses(self, name: str, mailboxes: Sequence[NameAddress]) -> None:
        """Add a field of addresses, unless there are none."""
        if mailboxes:
            self._fields.append(address_header(name, mailboxes, utf8=self.utf8))

    def message_ids(self, name: str, ids: Sequence[str]) -> None:
        """Add a field of message ids, unless there are none."""
        if ids:
            self._fields.append(message_ids_header(name, ids))

    def date(self, when: int, zone: int = 0) -> None:
        """Add the Date field: microseconds since the epoch, offset from UTC in minutes."""
        self._fields.append(date_header(when, zone))

    def raw(self, fields: bytes) -> None:
        """Add fields that are made already, each ending in CRLF."""
        self._fields.append(fields)

    def pieces(self, part: Part) -> Iterator[bytes]:
        """The message in pieces of about a MiB at most."""
        yield b"".join(self._fields) + b"MIME-Version: 1.0\r\n"
        yield from render(part, eight_bit=self.eight_bit, boundary=self.boundary)

    def message(self, part: Part) -> bytes:
        """The whole message."""
        return b"".join(self.pieces(part))
