"""Signatures: the tags of DKIM-Signature and ARC-Message-Signature, and the arithmetic.

RFC 6376 3.5, RFC 8463, RFC 8301, RFC 8616 (names in UTF-8), RFC 8617 4.1.2.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from moxtw.authn.tags import (
    TagError,
    base64_value,
    need,
    number,
    parse_tags,
    quoted_printable,
    without_blanks,
    words,
)
from moxtw.mail.domain import Domain, DomainError, parse_domain

ALGORITHMS: Final = ("rsa-sha256", "ed25519-sha256", "rsa-sha1")
_HASH_SIZES: Final = {"sha1": 20, "sha256": 32}
_SHA256: Final = hashes.SHA256()
_PADDING: Final = PKCS1v15()
_MAX_IDENTITY: Final = 512


@dataclass(frozen=True, slots=True)
class Signature:
    """What a signature says of itself.

    algorithm: such as ``rsa-sha256``. short: the beginning of the signature in base64, to tell
    signatures of a message apart (RFC 6008). identity: of the agent (i=), as text; `domain`
    or below it is `identity_domain`. headers: the names signed, in order and in lower case.
    length: of the part of the body that is signed, None for all. signed_at, expires_at:
    seconds since the epoch. queries: ways to get the key.
    """

    algorithm: str
    domain: Domain
    selector: Domain
    value: bytes
    short: str
    body_hash: bytes
    header_relaxed: bool
    body_relaxed: bool
    headers: tuple[str, ...]
    identity: str
    identity_domain: Domain
    length: int | None
    signed_at: int | None
    expires_at: int | None
    queries: tuple[str, ...]

    @property
    def key_kind(self) -> str:
        """``rsa`` or ``ed25519``."""
        return self.algorithm.partition("-")[0]

    @property
    def hash_name(self) -> str:
        """``sha256`` or ``sha1``."""
        return self.algorithm.partition("-")[2]


def field_tags(raw: bytes) -> dict[str, str]:
    """The tags of a raw header field. Raises TagError."""
    return parse_tags(raw.partition(b":")[2].decode("utf-8", "surrogateescape"))


def domain_tag(tags: Mapping[str, str], name: str) -> Domain:
    """The domain in a tag; underscores are let pass. Raises TagError."""
    try:
        return parse_domain(tags[name], strict=False)
    except DomainError as exc:
        raise TagError(f"tag {name}: {exc}") from exc


def algorithm_tag(tags: Mapping[str, str]) -> str:
    """The algorithm, one that is known. Raises TagError."""
    algorithm = tags["a"].lower()
    if algorithm not in ALGORITHMS:
        raise TagError("unknown algorithm")
    return algorithm


def parse_signature(tags: Mapping[str, str], *, arc: bool = False) -> Signature:
    """Read the tags of a signature. Raises TagError.

    arc: they are those of an ARC-Message-Signature: no version, and i= is not an identity.
    """
    need(tags, "a", "b", "bh", "d", "h", "s")
    if not arc:
        need(tags, "v")
        if tags["v"] != "1":
            raise TagError("unknown version")
    algorithm = algorithm_tag(tags)
    domain = domain_tag(tags, "d")
    selector = domain_tag(tags, "s")
    value = base64_value(tags["b"], "b")
    body_hash = base64_value(tags["bh"], "bh")
    if len(body_hash) != _HASH_SIZES[algorithm.partition("-")[2]]:
        raise TagError("body hash is not of the size of the algorithm's")
    header_form, slash, body_form = without_blanks(tags.get("c", "simple")).lower().partition("/")
    forms = (header_form, body_form if slash else "simple")
    for form in forms:
        if form not in ("simple", "relaxed"):
            raise TagError("unknown canonicalization")
    headers = words(tags["h"])
    if "" in headers:
        raise TagError("empty name in tag h")
    identity, identity_domain = ("", domain) if arc else _identity(tags, domain)
    signed_at = number(tags["t"], "t") if "t" in tags else None
    expires_at = number(tags["x"], "x") if "x" in tags else None
    if signed_at is not None and expires_at is not None and expires_at <= signed_at:
        raise TagError("expires before it was made")
    return Signature(
        algorithm=algorithm,
        domain=domain,
        selector=selector,
        value=value,
        short=without_blanks(tags["b"])[:12],
        body_hash=body_hash,
        header_relaxed=forms[0] == "relaxed",
        body_relaxed=forms[1] == "relaxed",
        headers=headers,
        identity=identity,
        identity_domain=identity_domain,
        length=number(tags["l"], "l") if "l" in tags else None,
        signed_at=signed_at,
        expires_at=expires_at,
        queries=words(tags.get("q", "dns/txt")),
    )


def _identity(tags: Mapping[str, str], domain: Domain) -> tuple[str, Domain]:
    """The identity (i=), and its domain, which must be the signing one or below it."""
    if "i" not in tags:
        return "", domain
    text = quoted_printable(tags["i"], "i")
    localpart, at, name = text.rpartition("@")
    if not at or len(text) > _MAX_IDENTITY:
        raise TagError("tag i is not an identity")
    try:
        own = parse_domain(name, strict=False)
    except DomainError as exc:
        raise TagError(f"tag i: {exc}") from exc
    if not own.is_within(domain):
        raise TagError("domain of identity is not below the signing domain")
    return f"{localpart}@{own.name}", own


def is_good(
    key: RSAPublicKey | Ed25519PublicKey, hash_name: str, signature: bytes, data: bytes
) -> bool:
    """Whether a signature is of this data by this key (RFC 6376 3.3, RFC 8463 3)."""
    try:
        if isinstance(key, RSAPublicKey):
            algorithm = _SHA256 if hash_name == "sha256" else hashes.SHA1()  # noqa: S303
            key.verify(signature, data, _PADDING, algorithm)
        else:
            key.verify(signature, hashlib.sha256(data).digest())
    except InvalidSignature:
        return False
    return True
