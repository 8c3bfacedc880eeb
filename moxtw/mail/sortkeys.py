"""What messages are sorted and threaded by (RFC 5256, RFC 5957), in forms ready to compare.

Text is in the form of `moxtw.mail.collate`. For threads, message ids and subjects stand as
numbers of 64 bits made of them, as threads only ask whether two are the same.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Final

import msgspec

from moxtw.mail.addrlist import Entry, text_of
from moxtw.mail.collate import casemap
from moxtw.mail.dates import parse_date
from moxtw.mail.envelope import parse_addresses
from moxtw.mail.header import parse_headers
from moxtw.mail.thread import bare_subject, in_reply_to, message_id, reference_chain
from moxtw.mail.words import decode_header, header_text

# Bytes of a key that are kept; what differs behind them counts as equal.
MAX_KEY: Final = 1000
# References that are looked at, the last ones: so many of each message, and so many more of all.
FREE_LINKS: Final = 4
MORE_LINKS: Final = 1_000_000
_WORD: Final = 8
_HEAD: Final = 3 * _WORD


class SortKeys(msgspec.Struct, frozen=True):
    """The keys of a message: empty where it has no such field.

    `thread` is packed, see `ThreadKeys`.
    """

    subject: bytes
    from_: bytes
    to: bytes
    cc: bytes
    display_from: bytes
    display_to: bytes
    thread: bytes


class ThreadKeys:
    """What messages are threaded by, of one behind that of the other.

    Each begins at its place in `starts` with three of the `words`: its id, its base subject (0
    if there is none), whether it is a reply or forward; its references follow, oldest first.
    There is one start more, behind the last. Of hostile numbers of references some are left
    out, so that the room taken has a bound.
    """

    __slots__ = ("_more", "starts", "words")

    def __init__(self) -> None:
        self.words = array("q")
        self.starts = array("Q", [0])
        self._more = MORE_LINKS

    def __len__(self) -> int:
        return len(self.starts) - 1

    def copy(self) -> ThreadKeys:
        """The same, to be added to."""
        other = ThreadKeys()
        other.words = self.words[:]
        other.starts = self.starts[:]
        other._more = self._more
        return other

    def among(self, places: Iterable[int]) -> ThreadKeys:
        """Those of some messages, by their places, ascending."""
        other = ThreadKeys()
        words, starts = self.words, self.starts
        for place in places:
            other.words += words[starts[place] : starts[place + 1]]
            other.starts.append(len(other.words))
        return other

    def append(self, packed: bytes) -> None:
        """Add what `pack_thread` packed."""
        more = (len(packed) - _HEAD) // _WORD - FREE_LINKS
        if more > 0:
            if more > self._more:
                left = _WORD * (FREE_LINKS + self._more)
                packed = packed[:_HEAD] + packed[-left:]
                more = self._more
            self._more -= more
        if _SWAPPED:
            swapped = array("q", packed)
            swapped.byteswap()
            packed = swapped.tobytes()
        self.words.frombytes(packed)
        self.starts.append(len(self.words))


def number(key: bytes) -> int:
    """64 bits made of a key, signed, not 0; 0 if it is empty."""
    if not key:
        return 0
    digest = blake2b(key, digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True) or 1


def _short(text: str) -> bytes:
    return casemap(text[:MAX_KEY])[:MAX_KEY]


def _mailbox(entries: Sequence[Entry]) -> bytes:
    """The addr-mailbox of the first address (RFC 5256 3): of a group its name."""
    if not entries or entries[0].local is None:
        return b""
    return _short(header_text(entries[0].local))


def _display(entries: Sequence[Entry]) -> bytes:
    """How the first address is shown (RFC 5957 3): its name, else itself."""
    if not entries:
        return b""
    name, _, local, host = entries[0]
    if name:
        return _short(text_of(name))
    if local is None:
        return b""
    if host is None:
        return _short(text_of(local))
    text = header_text(local)
    return _short(f"{text}@{header_text(host)}" if host else text)


def make_keys(
    *,
    subject: tuple[str, bool],
    from_: Sequence[Entry],
    to: Sequence[Entry],
    cc: Sequence[Entry],
    message_id: str,
    links: Sequence[str],
) -> SortKeys:
    """Keys of what was parsed.

    `subject` is the base subject, not yet folded, and whether it is of a reply or forward;
    `links` are the references, or, without any, the first id of In-Reply-To.
    """
    base, is_response = subject
    folded = casemap(base)
    return SortKeys(
        folded[:MAX_KEY],
        _mailbox(from_),
        _mailbox(to),
        _mailbox(cc),
        _display(from_),
        _display(to),
        pack_thread(message_id, folded, is_response, links),
    )


def pack_thread(
    message_id: str, subject: bytes, is_response: bool, links: Iterable[str]
) -> bytes:
    """The words of a message in ThreadKeys, of 64 bits, little-endian."""
    words = array("q", [number(message_id.encode("utf-8", "replace")), number(subject)])
    words.append(is_response)
    words.extend(number(link.encode("utf-8", "replace")) for link in links)
    if _SWAPPED:
        words.byteswap()
    return words.tobytes()


_SWAPPED: Final = array("q", [1]).tobytes()[0] == 0


def links_of(references: Sequence[str], in_reply_to: Sequence[str]) -> Sequence[str]:
    """The ids that a message refers to (RFC 5256 3): In-Reply-To counts without References."""
    return references or in_reply_to[:1]


def read_keys(data: bytes) -> tuple[int | None, SortKeys]:
    """The date (microseconds since the epoch) and the keys, from a message's header section."""
    headers = parse_headers(data)
    addresses = parse_addresses(headers)
    raw_subject = headers.raw(b"subject")
    raw_date = headers.raw(b"date")
    date = parse_date(header_text(raw_date)) if raw_date else None
    keys = make_keys(
        subject=bare_subject(decode_header(raw_subject) if raw_subject else ""),
        from_=addresses.from_,
        to=addresses.to,
        cc=addresses.cc,
        message_id=message_id(headers),
        links=links_of(reference_chain(headers), in_reply_to(headers)),
    )
    return (None if date is None else date[0]), keys
