"""Signing messages with DKIM (RFC 6376, RFC 8463 for ed25519, RFC 8301 for key sizes)."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from moxtw import metrics
from moxtw.authn.dkimcanon import BodyHash, SignedFields, header_data
from moxtw.authn.dkimkey import MIN_RSA_BITS
from moxtw.config.dynamic import ConfigDomain, Selector
from moxtw.config.lookup import ConfigView, domain_index
from moxtw.mail.domain import Domain
from moxtw.mail.header import MAX_HEADER_BYTES

_WIDTH: Final = 76


class SignError(Exception):
    """A message that cannot be signed; the text says why."""


def selectors_for(config: ConfigDomain | None) -> tuple[Selector, ...]:
    """The selectors that messages of a domain are signed with; none if it is disabled."""
    if config is None or config.disabled:
        return ()
    return tuple(selector for _, selector in config.dkim.sign_selectors)


def signer_for(
    config: ConfigView, domain: Domain
) -> tuple[Domain, tuple[Selector, ...]] | None:
    """The nearest domain at or above a name that signs mail, with its selectors."""
    ascii_name, unicode_name = domain.ascii, domain.name
    while "." in ascii_name:
        parent = Domain(ascii_name, "" if unicode_name == ascii_name else unicode_name)
        entry = domain_index(config, parent)
        if entry is not None and (selectors := selectors_for(entry.config)):
            return parent, selectors
        ascii_name = ascii_name.partition(".")[2]
        unicode_name = unicode_name.partition(".")[2]
    return None


def sign(
    selectors: Sequence[Selector],
    *,
    localpart: str,
    domain: str,
    header: bytes,
    body: Iterable[bytes],
    now: int,
    also: Sequence[str] = (),
) -> bytes:
    """DKIM-Signature fields for a message, one for each selector.

    localpart, domain: of the author; the domain in ASCII. header: the header section, with
    fields that are put in front of it. body: in pieces. now: seconds since the epoch. also:
    fields to sign beside those of the selector.

    Raises SignError. Uses the CPU for a while: for large bodies and RSA keys not to be called
    on the reactor thread.
    """
    if len(header) > MAX_HEADER_BYTES:
        raise SignError("header is too large")
    fields = SignedFields(header)
    if fields.count("From") != 1:
        raise SignError("message needs exactly one From field")
    hashers: dict[tuple[str, bool], BodyHash] = {}
    for selector in selectors:
        relaxed = selector.canonicalization.body_relaxed
        key = (selector.effective_hash, relaxed)
        if key not in hashers:
            hashers[key] = BodyHash(selector.effective_hash, relaxed=relaxed)
    for piece in body:
        for hasher in hashers.values():
            hasher.update(piece)
    digests = {key: hasher.digest() for key, hasher in hashers.items()}
    identity = f"{_quoted_printable(localpart)}@{domain}"
    return b"".join(
        _signature(
            selector,
            fields,
            domain,
            identity,
            digests[selector.effective_hash, selector.canonicalization.body_relaxed],
            now,
            also,
        )
        for selector in selectors
    )


def _signature(
    selector: Selector,
    fields: SignedFields,
    domain: str,
    identity: str,
    body_hash: bytes,
    now: int,
    also: Sequence[str],
) -> bytes:
    key = selector.private_key
    if isinstance(key, RSAPrivateKey):
        kind = "rsa"
    elif isinstance(key, Ed25519PrivateKey):
        kind = "ed25519"
    else:
        raise SignError(f"no private key for selector {selector.dns_name.name}")
    relaxed = selector.canonicalization.header_relaxed
    forms = [
        "relaxed" if flag else "simple"
        for flag in (relaxed, selector.canonicalization.body_relaxed)
    ]
    names: list[str] = []
    for name in (*selector.effective_headers, *also):
        # One more than there are, so that none can be added (5.4, 8.15).
        names += [name] * (fields.count(name) + (0 if selector.dont_seal_headers else 1))
    tags = [
        "v=1",
        f"d={domain}",
        f"s={selector.dns_name.ascii}",
        f"i={identity}",
        f"a={kind}-{selector.effective_hash}",
    ]
    if forms != ["simple", "simple"]:
        tags.append(f"c={'/'.join(forms)}")
    tags.append(f"t={now}")
    if selector.expiration_seconds:
        tags.append(f"x={now + selector.expiration_seconds}")
    unsigned = fold_signature(
        "DKIM-Signature", tags, names, base64.b64encode(body_hash).decode("ascii")
    )
    data = header_data(fields.select(names, relaxed=relaxed), unsigned, relaxed=relaxed)
    signature = sign_data(key, data, selector.effective_hash)
    metrics.dkim_sign_total.labels(kind).inc()
    return fold_value(unsigned, signature)


def sign_data(
    key: RSAPrivateKey | Ed25519PrivateKey, data: bytes, hash_name: str = "sha256"
) -> bytes:
    """Sign canonical data (RFC 6376 3.3). Raises SignError."""
    if isinstance(key, RSAPrivateKey):
        if key.key_size < MIN_RSA_BITS:
            raise SignError(f"RSA key is below {MIN_RSA_BITS} bits")
        algorithm = hashes.SHA1() if hash_name == "sha1" else hashes.SHA256()  # noqa: S303
        return key.sign(data, PKCS1v15(), algorithm)
    # RFC 8463 3: of the hash, not of the data.
    return key.sign(hashlib.sha256(data).digest())


def fold_value(unsigned: bytes, signature: bytes) -> bytes:
    """A field that ends in an empty ``b=``, with the signature there."""
    text = base64.b64encode(signature)
    lines = [text[at : at + _WIDTH - 8] for at in range(0, len(text), _WIDTH - 8)]
    return unsigned.removesuffix(b"\r\n") + b"\r\n\t ".join(lines) + b"\r\n"


def fold_signature(
    field: str, tags: Sequence[str], names: Sequence[str] | None, body_hash: str | None
) -> bytes:
    """A signature's field with an empty ``b=``, folded where folding is allowed (3.2).

    names: for ``h=``; body_hash: in base64; seals have neither.
    """
    lines = []
    line = field + ":"
    for tag in tags:
        if len(line) + len(tag) + 2 > _WIDTH and line.strip():
            lines.append(line)
            line = "\t" + tag + ";"
        else:
            line += " " + tag + ";"
    lines.append(line)
    if names is not None:
        line = "\th="
        for number, name in enumerate(names):
            word = name + (";" if number == len(names) - 1 else ":")
            if len(line) + len(word) > _WIDTH:
                lines.append(line)
                line = "\t "
            line += word
        lines.append(line)
    if body_hash is not None:
        lines.append(f"\tbh={body_hash};")
    lines.append("\tb=")
    return "\r\n".join(lines).encode("ascii") + b"\r\n"


def _quoted_printable(text: str) -> str:
    """A localpart as dkim-quoted-printable (2.11), in ASCII."""
    return "".join(
        chr(byte) if 0x21 <= byte <= 0x7E and byte not in b';="@\\<>()[],:' else f"={byte:02X}"
        for byte in text.encode()
    )
