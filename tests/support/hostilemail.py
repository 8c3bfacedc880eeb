"""Messages that are meant to hurt: each as pieces, so that the large ones need no memory.

``MESSAGES`` gives them by name; each call makes the pieces anew. All have CRLF, end with a line
end, and have no line of a dot.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Final

from tests.support import signing
from tests.support.nameserver import Zone

ZONE: Zone = {
    "load.example": {"A": ["127.0.0.1"], "TXT": ['"v=spf1 ip4:127.0.0.1 -all"']},
    "_dmarc.load.example": {"TXT": ['"v=DMARC1; p=none"']},
}
"""What the sender's domain has, besides the key of `keys`."""

HEAD = b"From: <a@load.example>\r\nTo: <mjl@a.example>\r\nSubject: hi\r\n"
_MIB: Final = 1 << 20
_MULTIPART: Final = b'Content-Type: multipart/mixed; boundary="%b"\r\n\r\n'


def _many(piece: bytes, size: int) -> Iterator[bytes]:
    """A piece again and again up to some size, in blocks."""
    block = piece * max(1, 65536 // len(piece))
    for _ in range(size // len(block)):
        yield block


def received(count: int = 10_000) -> Iterator[bytes]:
    """A trace of many hops."""
    for number in range(count):
        yield b"Received: from a by b id %d; Thu, 1 Jan 1970 00:00:00 +0000\r\n" % number
    yield HEAD + b"\r\nx\r\n"


def signatures(count: int = 1000, *, domain: bytes = b"load.example") -> Iterator[bytes]:
    """DKIM signatures, each of another selector, that look right."""
    for number in range(count):
        yield (
            b"DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=%b; s=s%d;\r\n"
            b"\th=from:to:subject; bh=%b=;\r\n\tb=%b\r\n"
        ) % (domain, number, b"A" * 43, b"A" * 342 + b"==")
    yield HEAD + b"\r\nx\r\n"


def sealed(count: int = 1000) -> Iterator[bytes]:
    """ARC sets, more than can be right."""
    for number in range(count):
        yield (
            b"ARC-Seal: i=%d; a=rsa-sha256; cv=pass; d=load.example; s=s; b=AAAA\r\n"
            b"ARC-Message-Signature: i=%d; a=rsa-sha256; d=load.example; s=s; h=from;"
            b" bh=AAAA; b=AAAA\r\nARC-Authentication-Results: i=%d; load.example; spf=pass\r\n"
        ) % (number, number, number)
    yield HEAD + b"\r\nx\r\n"


def nested(depth: int = 10_000) -> Iterator[bytes]:
    """Multiparts in multiparts."""
    yield HEAD + _MULTIPART % b"b0"
    for number in range(depth):
        yield b"--b%d\r\n" % number + _MULTIPART % b"b%d" % (number + 1)
    yield b"x\r\n"


def nested_alike(depth: int = 10_000) -> Iterator[bytes]:
    """Multiparts in multiparts that all have one boundary."""
    yield HEAD + _MULTIPART % b"b"
    yield (b"--b\r\n" + _MULTIPART % b"b") * depth
    yield b"x\r\n"


def nested_messages(depth: int = 10_000) -> Iterator[bytes]:
    """Messages in messages."""
    yield HEAD + b"Content-Type: message/rfc822\r\n\r\n" * depth + b"x\r\n"


def parts(count: int = 10_000) -> Iterator[bytes]:
    """Parts side by side."""
    yield HEAD + _MULTIPART % b"b"
    yield b"--b\r\nContent-Type: text/plain\r\n\r\nhello\r\n" * count
    yield b"--b--\r\n"


def large_header(size: int = 50 * _MIB) -> Iterator[bytes]:
    """One field, folded."""
    yield HEAD + b"X-Large: a\r\n"
    yield from _many(b" " + b"a" * 70 + b"\r\n", size)
    yield b"\r\nx\r\n"


def long_line(size: int = 50 * _MIB) -> Iterator[bytes]:
    """One field on one line."""
    yield HEAD + b"X-Large: a"
    yield from _many(b"a", size)
    yield b"\r\n\r\nx\r\n"


def many_fields(size: int = 50 * _MIB) -> Iterator[bytes]:
    """Small fields."""
    yield HEAD
    yield from _many(b"X: a\r\n", size)
    yield b"\r\nx\r\n"


def addresses(count: int = 100_000) -> Iterator[bytes]:
    """Long lists of authors and recipients."""
    yield b"From: " + b"<a@load.example>,\r\n " * count + b"<b@load.example>\r\n"
    yield b"To: " + b'"x, y" (z) <a@a.example>,\r\n ' * count + b"<mjl@a.example>\r\n"
    yield b"Cc: " + b"g: a@a.example;,\r\n " * count + b"<mjl@a.example>\r\n\r\nx\r\n"


def broken_addresses(count: int = 300_000) -> Iterator[bytes]:
    """What opens, and never closes."""
    yield b"From: " + b"(" * count + b"\r\nTo: " + b'"' * count + b"\r\nCc: " + b"<" * count
    yield b"\r\nReply-To: " + b"@," * count + b"\r\nBcc: " + b"a:" * count + b"\r\n\r\nx\r\n"


def broken_words(count: int = 50_000) -> Iterator[bytes]:
    """Encoded words that are none, charsets that nobody has, encodings of nothing."""
    yield b"From: =?x-none?q?=ff=fe?= <a@load.example>\r\nSubject: "
    yield b"=?x-none?b?%%%?= =?utf-8?q?=C3?= =?utf-16?b?AAA?= =?\r\n " * count
    yield b"x\r\nContent-Type: text/plain; charset=\"\xff\xfe\"\r\n"
    yield b"Content-Transfer-Encoding: base64\r\n\r\n"
    yield from _many(b"*&^%\xff$\xc3" * 100 + b"\r\n", 10 * _MIB)


def shifting(size: int = 10 * _MIB) -> Iterator[bytes]:
    """Charsets with state."""
    yield HEAD + b"Content-Type: text/html; charset=utf-7\r\n\r\n"
    yield from _many(b"+AGE-<+ADw-!--&#x" * 30 + b"\r\n", size)


def many_params(count: int = 100_000) -> Iterator[bytes]:
    """Parameters in pieces (RFC 2231)."""
    yield HEAD + b"Content-Type: text/plain"
    for number in range(count):
        yield b";\r\n a*%d*=%%41" % number
    yield b"\r\n\r\nx\r\n"


def references(count: int = 500_000) -> Iterator[bytes]:
    """A thread without end."""
    yield HEAD + b"References: " + b"<a@b>\r\n " * count + b"x\r\n\r\nx\r\n"


def html(size: int = 10 * _MIB) -> Iterator[bytes]:
    """Elements in elements."""
    yield HEAD + b"Content-Type: text/html\r\n\r\n"
    yield from _many(b"<div><a href=" * 50 + b"\r\n", size)


def empty_lines(size: int = 50 * _MIB) -> Iterator[bytes]:
    """A body of nothing, which canonical forms have to look through to its end."""
    yield HEAD + b"DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=load.example; s=s;"
    yield b" h=from; bh=%b=; b=%b==\r\n\r\n" % (b"A" * 43, b"A" * 342)
    yield from _many(b" \t\r\n", size)


@cache
def _key() -> signing.Key:
    return signing.rsa_key(4096)


def keys() -> Zone:
    """The key of the sender's domain, which is large."""
    return {"s._domainkey.load.example": {"TXT": [signing.key_record(_key())]}}


def signed(count: int = 50, size: int = 20 * _MIB) -> Iterator[bytes]:
    """As many good signatures as are looked at, in all forms, of a large body."""
    body = [b"Signed \t by\t\tmany  \r\n" * 3000] * (size // 69000)
    hashes = {form: signing.body_hash(body, relaxed=form) for form in (False, True)}
    for number in range(count):
        form = bool(number & 1)
        yield signing.signature(
            _key(),
            "load.example",
            HEAD,
            hashes[form],
            names=["from", "subject"],
            relaxed=bool(number & 2),
            body_relaxed=form,
            more=[f"t={number}"],
        )
    yield HEAD + b"\r\n"
    yield from body


def signed_fields(count: int = 50, fields: int = 8000) -> Iterator[bytes]:
    """Signatures that each cover thousands of fields."""
    for _ in range(count):
        yield (
            b"DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=load.example; s=s;\r\n"
            b"\th=from:to:subject%b; bh=%b=;\r\n\tb=%b\r\n"
        ) % (b":x" * fields, b"A" * 43, b"A" * 682 + b"==")
    yield b"x: a\r\n" * fields + HEAD + b"\r\nx\r\n"


def claims(count: int = 10_000) -> Iterator[bytes]:
    """Results of checks, as if they were ours, and some that nobody could read."""
    yield b"Authentication-Results: mail.a.example;\r\n\tspf=pass\r\n" * count
    yield b"Authentication-Results: " + b"(" * count + b" mail.a.example; dkim=pass\r\n"
    yield b"Authentication-Results: mail.a.example; dkim=pass" + b" reason=\"x\"" * count
    yield b"\r\n" + HEAD + b"\r\nx\r\n"


def reports(count: int = 20_000) -> Iterator[bytes]:
    """A notification about very many recipients (RFC 3464)."""
    yield HEAD + b"Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n"
    yield b"\r\n--b\r\n\r\ntext\r\n--b\r\nContent-Type: message/delivery-status\r\n\r\n"
    yield b"Reporting-MTA: dns; a\r\n\r\n"
    yield (
        b"Final-Recipient: rfc822; a@a.example\r\nAction: failed\r\nStatus: 5.1.1\r\n"
        b"Diagnostic-Code: smtp; 550 %b\r\n\r\n" % (b"x" * 200)
    ) * count
    yield b"--b\r\nContent-Type: message/rfc822\r\n\r\n" * 2 + b"x\r\n--b--\r\n"


def words(count: int = 2_000_000) -> Iterator[bytes]:
    """Text of words that come once."""
    yield HEAD + b"\r\n"
    for number in range(0, count, 1000):
        yield b"".join(b"word%d next\r\n" % each for each in range(number, number + 1000))


MESSAGES: dict[str, Callable[[], Iterable[bytes]]] = {
    "many signatures": signatures,
    "good signatures": signed,
    "signatures of many fields": signed_fields,
    "claims of results": claims,
    "notification of many": reports,
    "many words": words,
    "many seals": sealed,
    "deep": nested,
    "deep, with one boundary": nested_alike,
    "messages in messages": nested_messages,
    "many parts": parts,
    "large header": large_header,
    "long line": long_line,
    "many fields": many_fields,
    "many addresses": addresses,
    "broken addresses": broken_addresses,
    "broken words": broken_words,
    "charset with state": shifting,
    "many parameters": many_params,
    "many references": references,
    "elements in elements": html,
    "empty lines": empty_lines,
}
