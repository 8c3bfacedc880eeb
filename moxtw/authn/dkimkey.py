"""The public keys of DKIM in the DNS: their records, and looking them up (RFC 6376 3.6)."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

from moxtw.authn.tags import TagError, base64_value, parse_tags, quoted_printable, words
from moxtw.dns.resolver import DNSError, NotFound, Resolver, for_pkg

MIN_RSA_BITS: Final = 1024
"""RFC 8301 3.2: signatures by smaller keys are no good."""

MAX_RSA_BITS: Final = 8192
"""Keys for which a signature costs more than a few milliseconds are not used."""

MAX_RECORD: Final = 8192
"""Characters of a record: the largest key fits twice."""

# Texts of a name that are looked at.
_MAX_TEXTS: Final = 20
# RFC 6376 3.6.1: key-h-tag-alg, key-k-tag-type and so on are hyphenated words.
_WORD: Final = re.compile(r"[a-z](?:[a-z0-9-]*[a-z0-9])?|\*")


class KeyFormatError(ValueError):
    """Text that is no key record. `claimed`: it says of itself that it is one (v=DKIM1)."""

    def __init__(self, text: str, claimed: bool) -> None:
        super().__init__(text)
        self.claimed = claimed


class KeyLookupError(Exception):
    """There is no key to be had; `temporary`: there may be later."""

    def __init__(self, text: str, *, temporary: bool = False, authentic: bool = False) -> None:
        super().__init__(text)
        self.temporary = temporary
        self.authentic = authentic


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """A key record.

    hashes: those allowed, None for all. kind: ``rsa`` or ``ed25519``. services: of the
    services that the key is for, ``*`` for all. flags: ``y`` testing, ``s`` strict.
    public_key: None if the key is revoked. bits: its size.
    """

    kind: str = "rsa"
    hashes: tuple[str, ...] | None = None
    services: tuple[str, ...] = ("*",)
    flags: tuple[str, ...] = ()
    notes: str = ""
    public_key: RSAPublicKey | Ed25519PublicKey | None = None
    bits: int = 0

    @property
    def revoked(self) -> bool:
        """Whether the domain took the key back (empty ``p=``)."""
        return self.public_key is None

    @property
    def testing(self) -> bool:
        """Flag y: the domain tries DKIM; failures are not to count."""
        return "y" in self.flags

    @property
    def strict(self) -> bool:
        """Flag s: the identity must be of the very domain that signs."""
        return "s" in self.flags

    def serves(self, service: str) -> bool:
        """Whether the key is for this service, such as ``email``."""
        return "*" in self.services or service in self.services


def parse_key_record(text: str) -> KeyRecord:
    """Parse the text of a record. Raises KeyFormatError."""
    return _parse(text) if len(text) <= MAX_RECORD else _too_long(text)


def _too_long(text: str) -> KeyRecord:
    raise KeyFormatError("record is too long", text.lstrip().startswith("v=DKIM1;"))


@lru_cache(maxsize=1024)
def _parse(text: str) -> KeyRecord:
    claimed = re.match(r"[ \t]*v[ \t]*=[ \t]*DKIM1[ \t]*(?:;|$)", text) is not None
    try:
        return _record(parse_tags(text))
    except TagError as exc:
        raise KeyFormatError(str(exc), claimed) from exc


def _record(tags: dict[str, str]) -> KeyRecord:
    if "v" in tags and (next(iter(tags)) != "v" or tags["v"] != "DKIM1"):
        raise TagError("tag v is not the first, or not DKIM1")
    if "p" not in tags:
        raise TagError("tag p is missing")
    kind = _words(tags, "k", ("rsa",))
    if len(kind) != 1 or kind[0] not in ("rsa", "ed25519"):
        raise TagError("unknown kind of key")
    key, bits = _public_key(kind[0], tags["p"])
    return KeyRecord(
        kind=kind[0],
        hashes=_words(tags, "h", None),
        services=_words(tags, "s", ("*",)),
        flags=_words(tags, "t", ()),
        notes=quoted_printable(tags.get("n", ""), "n"),
        public_key=key,
        bits=bits,
    )


def _words(tags: dict[str, str], name: str, default: tuple[str, ...] | None) -> tuple[str, ...]:
    if name not in tags:
        return default  # type: ignore[return-value]
    found = words(tags[name])
    for word in found:
        # Single letters are words too: the flags.
        if not _WORD.fullmatch(word):
            raise TagError(f"bad word in tag {name}")
    return found


def _public_key(kind: str, value: str) -> tuple[RSAPublicKey | Ed25519PublicKey | None, int]:
    if not value:
        return None, 0
    data = base64_value(value, "p")
    if kind == "ed25519":  # RFC 8463 4: the 32 bytes of the key.
        if len(data) != 32:
            raise TagError("ed25519 key is not of 32 bytes")
        return Ed25519PublicKey.from_public_bytes(data), 256
    try:
        # SubjectPublicKeyInfo in practice, RSAPublicKey by the text of RFC 6376 3.6.1.
        key = serialization.load_der_public_key(data)
    except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
        raise TagError("tag p is not an RSA key") from exc
    if not isinstance(key, RSAPublicKey):
        raise TagError("tag p is not an RSA key")
    # Numbers that make the arithmetic slow: no key in use has such.
    if key.key_size > MAX_RSA_BITS or key.public_numbers().e.bit_length() > 64:
        raise TagError("RSA key is too large")
    return key, key.key_size


async def lookup_key(resolver: Resolver, selector: str, domain: str) -> tuple[KeyRecord, bool]:
    """The key record of a selector (ASCII names), and whether DNSSEC vouches for it.

    Raises KeyLookupError.
    """
    name = f"{selector}._domainkey.{domain}."
    try:
        answer = await for_pkg(resolver, "dkim").lookup(name, "TXT")
    except NotFound as exc:
        raise KeyLookupError("no key record", authentic=exc.authentic) from exc
    except DNSError as exc:
        raise KeyLookupError(f"looking up key record: {exc.text}", temporary=True) from exc
    return choose_record(list(answer.records), answer.authentic)


def choose_record(texts: list[str], authentic: bool) -> tuple[KeyRecord, bool]:
    """The one key record among the texts of a name. Raises KeyLookupError."""
    found: KeyRecord | None = None
    problem = ""
    for text in texts[:_MAX_TEXTS]:
        try:
            record = parse_key_record(text)
        except KeyFormatError as exc:
            if exc.claimed:
                raise KeyLookupError(f"bad key record: {exc}", authentic=authentic) from exc
            # Wildcard records answer for all names with texts that mean something else.
            problem = str(exc)
            continue
        if found is not None:
            raise KeyLookupError("several key records", temporary=True, authentic=authentic)
        found = record
    if found is None:
        raise KeyLookupError(f"not a key record: {problem}", temporary=True, authentic=authentic)
    return found, authentic


def public_record(key: object) -> str:
    """The text that publishes a private key's public part (RFC 6376 3.6.1, RFC 8463 4).

    Raises TypeError for another kind of key.
    """
    if isinstance(key, Ed25519PrivateKey):
        tags = "v=DKIM1;h=sha256;k=ed25519;p="
        public = key.public_key().public_bytes(
            serialization.Encoding.Raw, serialization.PublicFormat.Raw
        )
    elif isinstance(key, RSAPrivateKey):
        tags = "v=DKIM1;h=sha256;p="
        public = key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    else:
        raise TypeError("DKIM keys are RSA or ed25519 keys")
    return tags + base64.b64encode(public).decode("ascii")
