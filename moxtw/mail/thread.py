"""What threads are made from: message ids, references, base subjects (RFC 5256, RFC 5322 3.6.4)."""

from __future__ import annotations

import re
from typing import Final

from moxtw.mail.header import Headers
from moxtw.mail.words import decode_words, header_text

MAX_REFERENCES: Final = 1000
"""Ids looked at in a References or In-Reply-To field: the last ones."""

MAX_MESSAGE_ID: Final = 998
"""Characters of a message id that are kept: no line is longer (RFC 5322 2.1.1)."""

_ID: Final = re.compile(rb"<([^<>]*+)>")
_QUOTED_LOCAL: Final = re.compile(r'"((?:[^"\\]|\\.)*)"@', re.DOTALL)
_ESCAPE: Final = re.compile(r"\\(.)", re.DOTALL)
_ATOM: Final = r'[^\s\x00-\x1f\x7f()<>@,;:\\"\[\].]++'
_DOT_ATOM: Final = re.compile(rf"{_ATOM}(?:\.{_ATOM})*+")


def canonical_message_id(value: str) -> str:
    """A Message-ID value without its angle brackets and needless quotes, in lower case.

    What is oddly formed is kept as it is, but for brackets and case. "" if there is nothing.
    """
    value = value.strip()
    start = value.find("<")
    if start >= 0:
        end = value.find(">", start)
        value = value[start + 1 : end if end > start else None]
    return _canonical(value)


def _canonical(value: str) -> str:
    value = value.strip()[:MAX_MESSAGE_ID].lower()
    if '"' not in value:
        value = "".join(value.split())  # Some programs fold within an id.
    if value[:1] == '"' and (match := _QUOTED_LOCAL.match(value)):
        local = _ESCAPE.sub(r"\1", match[1]) if "\\" in match[1] else match[1]
        if _DOT_ATOM.fullmatch(local):
            value = f"{local}@{value[match.end() :]}"
    return value


def _ids(value: bytes) -> list[str]:
    """The message ids in an unfolded value; bare words if none is in brackets."""
    found = _ID.findall(value)
    if not found:
        if b"<" in value or b"@" not in value:
            return []
        found = [word for word in value.split() if b"@" in word]
    ids = []
    for raw in found[-MAX_REFERENCES:]:
        text = _canonical(header_text(raw))
        if text:
            ids.append(text)
    return ids


def reference_chain(headers: Headers) -> list[str]:
    """The canonical ids in References as they stand there, oldest first."""
    raw = headers.raw(b"references")
    return _ids(raw) if raw else []


def references(headers: Headers) -> list[str]:
    """The canonical ids in References, oldest first, each once (the last place counts)."""
    return once(reference_chain(headers))


def in_reply_to(headers: Headers) -> list[str]:
    """The canonical ids in In-Reply-To, in order, each once (the first place counts)."""
    raw = headers.raw(b"in-reply-to")
    return list(dict.fromkeys(_ids(raw))) if raw else []


def message_id(headers: Headers) -> str:
    """The canonical Message-ID; "" if there is none."""
    raw = headers.raw(b"message-id")
    return canonical_message_id(header_text(raw)) if raw else ""


def once(ids: list[str]) -> list[str]:
    """The ids, each once: the last place counts."""
    return list(dict.fromkeys(reversed(ids)))[::-1] if len(ids) > 1 else ids


# Base subjects, RFC 5256 2.1 and the grammar of its section 5 -------------------------------------

_WSP: Final = " \t\r\n"
_MAX_SUBJECT: Final = 4096
# subj-trailer
_FWD_TRAILER: Final = re.compile(r"\(fwd\)\s*\Z", re.IGNORECASE)
_BLOBS: Final = re.compile(r"(?:\[[^\[\]]*+\]\s*+)++")
# subj-refwd
_REFWD: Final = re.compile(r"(?:re|fwd?)\s*+(?:\[[^\[\]]*+\]\s*+)?:\s*+", re.IGNORECASE)
_FWD_HEADER: Final = re.compile(r"\[fwd:", re.IGNORECASE)


def base_subject(subject: str) -> tuple[str, bool]:
    """The base subject, case-folded for comparison, and whether it is of a reply or forward.

    `subject` is unfolded; encoded words in it are decoded.
    """
    base, response = bare_subject(subject)
    return base.casefold(), response


def bare_subject(subject: str) -> tuple[str, bool]:
    """The same with the base subject as it is written."""
    text = " ".join(decode_words(subject[:_MAX_SUBJECT]).split())
    response = False
    while True:
        # (2) trailers
        while match := _FWD_TRAILER.search(text, max(0, len(text) - 8)):
            text = text[: match.start()].rstrip(_WSP)
            response = True
        # (3)-(5) leaders and blobs
        start = 0
        while True:
            blobs = _BLOBS.match(text, start)
            leader = _REFWD.match(text, blobs.end() if blobs else start)
            if leader:
                start = leader.end()
                response = True
                continue
            if blobs:
                if blobs.end() < len(text):
                    start = blobs.end()
                    continue
                # Something must remain: the last blob stays.
                start = max(start, text.rfind("[", start))
            break
        text = text[start:]
        # (6) a forward around it all
        if text[-1:] == "]" and (match := _FWD_HEADER.match(text)):
            text = text[match.end() : -1].strip(_WSP)
            response = True
            continue
        return text, response
