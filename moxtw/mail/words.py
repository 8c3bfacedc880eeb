"""Encoded words: text other than ASCII in header fields (RFC 2047, RFC 2231 5)."""

from __future__ import annotations

import binascii
import re
from base64 import b64encode
from typing import Final

from moxtw.mail.charset import decode, guess

_WORD: Final = re.compile(r"=\?([^?*\s]{1,64})(?:\*[^?\s]{0,64})?\?([bBqQ])\?([^?]*)\?=")
_NOT_BASE64: Final = re.compile(r"[^A-Za-z0-9+/]+")
# RFC 2047 2: an encoded word is at most 75 characters long.
_MAX_WORD: Final = 75
# RFC 2047 5 (3): what may stand for itself in a Q word within a phrase.
_Q_PLAIN: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!*+-/")
_ATOMS: Final = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?: [A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")


def header_text(value: bytes) -> str:
    """The text of raw header bytes: ASCII, UTF-8 (RFC 6532), else a guess; without NULs."""
    if b"\0" in value:
        value = value.replace(b"\0", b"")
    if value.isascii():
        return value.decode("ascii")
    return guess(value)


def _word_bytes(encoding: str, text: str) -> bytes | None:
    """The content of an encoded word, None if it is damaged beyond reading."""
    if encoding in "bB":
        digits = _NOT_BASE64.sub("", text)
        if len(digits) % 4 == 1:
            digits = digits[:-1]
        if not digits and text:
            return None
        return binascii.a2b_base64(digits + "=" * (-len(digits) % 4))
    return binascii.a2b_qp(text.encode("utf-8", "replace"), header=True)


def decode_words(text: str) -> str:
    """`text` with its encoded words decoded; damaged ones stay as they are.

    NULs, and blanks between two encoded words (RFC 2047 6.2), are dropped. Neighbours of one
    charset are decoded together, as many senders cut within a character.
    """
    if "=?" not in text:
        return text
    out: list[str] = []
    pending: list[bytes] = []
    pending_charset = ""
    done = 0  # Everything before is in `out` or `pending`.
    for match in _WORD.finditer(text):
        charset, encoding, content = match.groups()
        data = _word_bytes(encoding, content)
        if data is None:
            continue
        charset = charset.lower()
        between = text[done : match.start()]
        if pending and (charset != pending_charset or not _is_blank(between)):
            out.append(decode(b"".join(pending), pending_charset))
            pending = []
            if not _is_blank(between):
                out.append(between)
        elif not pending and between:
            out.append(between)
        pending.append(data)
        pending_charset = charset
        done = match.end()
    if pending:
        out.append(decode(b"".join(pending), pending_charset))
    out.append(text[done:])
    return "".join(out).replace("\0", "")


def _is_blank(text: str) -> bool:
    return not text.strip(" \t\r\n")


def decode_header(value: bytes) -> str:
    """The text of a raw, unfolded, unstructured header value, encoded words decoded."""
    return decode_words(header_text(value))


def needs_encoding(text: str) -> bool:
    """Whether `text` cannot stand in a header as it is: not ASCII, controls, or like a word."""
    return not text.isascii() or not text.isprintable() or "=?" in text


def encode_words(text: str, first: int = _MAX_WORD) -> str:
    """`text` as UTF-8 encoded words separated by single blanks, at which lines can be folded.

    What needs no encoding comes back as it is. For `first` see `encoded_words`.
    """
    return " ".join(encoded_words(text, first)) if needs_encoding(text) else text


def encoded_words(text: str, first: int = _MAX_WORD) -> list[str]:
    """`text` as UTF-8 encoded words, whether it needs encoding or not.

    `first` is the most characters for the first word, when a field name stands before it. Q or
    B encoding, whichever is shorter; characters are never cut.
    """
    text = text.encode("utf-8", "replace").decode("utf-8")
    data = text.encode("utf-8")
    quoted = sum(1 if byte in _Q_PLAIN or byte == 0x20 else 3 for byte in data)
    use_q = quoted <= (len(data) + 2) // 3 * 4
    room = max(min(first, _MAX_WORD), 24) - len("=?utf-8?q??=")
    words: list[str] = []
    chunk: list[bytes] = []
    size = 0
    for char in text:
        encoded = char.encode("utf-8")
        if use_q:
            encoded = b"".join(
                b"_" if byte == 0x20 else b"%c" % byte if byte in _Q_PLAIN else b"=%02X" % byte
                for byte in encoded
            )
        full = size + len(encoded) > room if use_q else (size + len(encoded) + 2) // 3 * 4 > room
        if chunk and full:
            words.append(_word(use_q, b"".join(chunk)))
            chunk = []
            size = 0
            room = _MAX_WORD - len("=?utf-8?q??=")
        chunk.append(encoded)
        size += len(encoded)
    words.append(_word(use_q, b"".join(chunk)))
    return words


def _word(use_q: bool, content: bytes) -> str:
    if use_q:
        return f"=?utf-8?q?{content.decode('ascii')}?="
    return f"=?utf-8?b?{b64encode(content).decode('ascii')}?="


def encode_phrase(text: str) -> str:
    """A display name for an address (RFC 5322 3.2.5): atoms, a quoted string, or encoded words."""
    if needs_encoding(text):
        return encode_words(text)
    if _ATOMS.fullmatch(text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
