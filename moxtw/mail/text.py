"""The text of a message: decoded for reading, case-folded for word search, short as a preview."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from typing import Final

from moxtw.mail import transfer
from moxtw.mail.charset import decode, is_ascii_superset
from moxtw.mail.header import MAX_HEADER_BYTES
from moxtw.mail.mime import Buffer, Part, as_bytes
from moxtw.mail.preview import MAX_PREVIEW, html_preview, is_encrypted, plain_preview
from moxtw.mail.words import decode_words, header_text

MAX_PART_FIELDS: Final = 64 << 10
"""Bytes of header fields of parts that are kept for search."""

MAX_SEARCH_TEXT: Final = 16 << 20
"""Bytes of body text kept for search; what comes later in a message is not found."""

PREVIEW_REACH: Final = 1_000_000
"""The preview is made from the first bytes of a message, this many."""

# Most previews need no more of a long text than this; what begins with a long quote or a style
# sheet is read up to the reach.
_FIRST_LOOK: Final = 16384

# Many programs fold with a tab where a blank was.
_FOLD: Final = re.compile(rb"\r?\n[ \t]++")
# An encoded text is longer than its content: at most so many times, for any of the encodings.
_MAX_EXPANSION: Final = 3


def decode_content(data: bytes, encoding: str) -> bytes:
    """Content without its transfer encoding; of an unknown one as it is."""
    if encoding in transfer.IDENTITY:
        return data
    try:
        return transfer.decode(data, encoding)
    except transfer.UnknownEncoding:
        return data


def part_text(part: Part, buf: bytes, limit: int | None = None) -> str:
    """The decoded text of a text/* part, of at most `limit` encoded bytes."""
    end = part.body_end if limit is None else min(part.body_end, part.body_start + limit)
    return decode(decode_content(buf[part.body_start : end], part.encoding), part.charset)


# Search ------------------------------------------------------------------------------------------


def folded(text: str) -> bytes:
    """The form in which text is searched: case-folded, decomposed, UTF-8.

    What is the same for i;unicode-casemap (RFC 5051) is the same here, and so are "ss" and the
    sharp s. An accented letter contains the letter.
    """
    if text.isascii():
        return text.lower().encode("ascii")
    # The small dotless i has the capital I, too.
    text = unicodedata.normalize("NFKD", text).casefold().replace("\u0131", "i")
    return unicodedata.normalize("NFKD", text).encode("utf-8", "replace")


def folded_header(section: bytes) -> bytes:
    """Header lines in the form in which text is searched: unfolded, their words decoded."""
    section = section[:MAX_HEADER_BYTES]
    if b"\n " in section or b"\n\t" in section:
        section = _FOLD.sub(b" ", section)
    if b"=?" not in section and section.isascii():
        return section.lower()
    return folded(decode_words(header_text(section)))


def _folded_body(part: Part, buf: bytes, room: int) -> bytes:
    raw = buf[part.body_start : min(part.body_end, part.body_start + room * _MAX_EXPANSION)]
    data = decode_content(raw, part.encoding)
    charset = part.charset
    if data.isascii() and is_ascii_superset(charset):
        return data[:room].lower()
    text = folded(decode(data, charset))
    if len(text) > room:
        text = text[:room].decode("utf-8", "ignore").encode("utf-8")
    return text


def search_text(
    root: Part, buf: Buffer, limit: int = MAX_SEARCH_TEXT
) -> tuple[bytes, bytes]:
    """Header and body text for word search: decoded, in the form of `folded`.

    The header is unfolded, its encoded words are decoded. Behind it stand the fields of parts
    (RFC 9051 6.4.4: a search of TEXT is one of MIME header fields, too) and their file names, each
    line with a tab in front, so that none is taken for a field of the message. The body is all
    text/* parts, HTML as source, what message/* parts other than messages hold, such as delivery
    status, and the headers and text parts of embedded messages; at most `limit` bytes. What is
    longer is cut at a character, so a few bytes below that.
    """
    data = as_bytes(buf)
    header = folded_header(data[root.header_start : root.body_start])
    fields: list[bytes] = []
    fields_room = MAX_PART_FIELDS
    texts: list[bytes] = []
    room = limit
    todo = [root]
    # Whose header is text already.
    known = root
    while todo and room > 0:
        part = todo.pop()
        if part is not known and fields_room > 0:
            fields.append(_part_fields(part, data, fields_room))
            fields_room -= len(fields[-1])
        if part.parts:
            todo.extend(reversed(part.parts))
            continue
        message = part.message
        if message is not None:
            text = folded_header(data[message.header_start : message.body_start])[:room]
            todo.append(message)
            known = message  # The next one.
        elif part.media_type in ("text", "message"):
            text = _folded_body(part, data, room)
        else:
            continue
        texts.append(text)
        room -= len(text) + 1
    header += b"".join(fields)
    return header, texts[0] if len(texts) == 1 else b"\n".join(texts)


def _part_fields(part: Part, data: bytes, room: int) -> bytes:
    """The header fields of a part, and its file name, as lines that begin with a tab."""
    section = data[part.header_start : min(part.body_start, part.header_start + room)]
    lines = folded_header(section).replace(b"\r", b"").strip(b"\n").split(b"\n")
    # In its field it may be in pieces, or encoded (RFC 2231).
    name = folded(part.filename or "")
    if name and not any(name in line for line in lines):
        lines.append(name.replace(b"\n", b" "))
    return b"".join([b"\t%b\r\n" % line for line in lines if line])[:room]


# Preview -----------------------------------------------------------------------------------------


def preview(root: Part, buf: Buffer) -> str:
    """The beginning of the message's text on one line, at most `MAX_PREVIEW` characters.

    From the first text/plain or text/html part that has any and begins within the first MB;
    quoted text is replaced by "[...]", the signature dropped. Attachments and embedded messages
    are passed over, of multipart/signed the first part counts. Encrypted messages, and those
    without text, have an empty preview.
    """
    data = as_bytes(buf)
    todo = [root]
    while todo:
        part = todo.pop()
        if part.body_start > PREVIEW_REACH:
            break
        if part.parts:
            if part.media_subtype == "encrypted":
                return ""
            if part.media_subtype == "signed":
                todo.append(part.parts[0])
            else:
                todo.extend(reversed(part.parts))
            continue
        if part.media_type != "text" or part.disposition == "attachment":
            continue
        if part.media_subtype == "plain":
            text = _plain(part, data)
            if text is None:
                return ""
        elif part.media_subtype == "html":
            text = _first_or_all(part, data, html_preview)
        else:
            continue
        if text:
            return text
    return ""


def _plain(part: Part, data: bytes) -> str | None:
    """The preview of a plain text part; None if its text is encrypted."""
    if is_encrypted(part_text(part, data, 256)):
        return None
    return _first_or_all(part, data, plain_preview)


def _first_or_all(part: Part, data: bytes, make: Callable[[str], str]) -> str:
    """The preview of the beginning of a part, if that has enough text, else of more of it."""
    text = make(part_text(part, data, _FIRST_LOOK))
    if len(text) < MAX_PREVIEW - 8 and part.size > _FIRST_LOOK:
        text = make(part_text(part, data, max(_FIRST_LOOK, PREVIEW_REACH - part.body_start)))
    return text
