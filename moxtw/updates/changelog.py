"""Changelogs: descriptions of versions, each signed with ed25519.

A changelog is JSON, ``{"Changes": [{"PubKey": "…", "Sig": "…", "Text": "…"}]}``, newest first,
keys and signatures in base64. A text begins with a head of lines ``name: value``, of which
``version`` and ``date`` are needed, and an empty line. What is signed are the texts: whoever
comes to own the domain can announce nothing without the key.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from moxtw.updates.record import Version, parse_version

MAX_SIZE: Final = 1 << 20
"""Bytes of a changelog."""

KEY_SIZE: Final = 32
"""Bytes of a key: a public one, or the seed of a private one (RFC 8032 5.1.5)."""


class ChangelogError(ValueError):
    """A changelog that is not to be trusted, or no changelog at all; the message says why."""


class Change(msgspec.Struct, rename="pascal", frozen=True):
    """A version. pub_key: of the key that signed it; sig: of the text in UTF-8."""

    pub_key: bytes
    sig: bytes
    text: str

    @property
    def version(self) -> Version:
        """The version that the text is about. Raises ChangelogError."""
        return head_of(self.text)


class _Changelog(msgspec.Struct, rename="pascal"):
    changes: list[Change] | None = None


def decode(data: bytes) -> list[Change]:
    """The changes of a changelog. Raises ChangelogError."""
    try:
        return msgspec.json.decode(data, type=_Changelog).changes or []
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise ChangelogError(f"not a changelog: {exc}") from exc


def encode(changes: Sequence[Change]) -> bytes:
    """A changelog, for people to read too."""
    return msgspec.json.format(msgspec.json.encode(_Changelog(list(changes))), indent=2) + b"\n"


def head_of(text: str) -> Version:
    """The version in the head of a text, which needs a date as well. Raises ChangelogError."""
    head = text.replace("\r\n", "\n").partition("\n\n")[0]
    fields: dict[str, str] = {}
    for line in head.split("\n"):
        name, colon, value = line.partition(":")
        if colon:
            fields.setdefault(name.strip().lower(), value.strip())
    for name in ("version", "date"):
        if not fields.get(name):
            raise ChangelogError(f"no {name} in the head of the text")
    try:
        return parse_version(fields["version"])
    except ValueError as exc:
        raise ChangelogError(str(exc)) from exc


def public_key(seed: bytes) -> bytes:
    """The public key of a private one. Raises ValueError for a seed of the wrong size."""
    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()


def sign(seed: bytes, text: str) -> Change:
    """Sign a text. Raises ChangelogError for one without its head, ValueError for a bad seed."""
    head_of(text)
    key = Ed25519PrivateKey.from_private_bytes(seed)
    return Change(public_key(seed), key.sign(text.encode()), text)


def verify(changes: Sequence[Change], key: bytes) -> None:
    """Check that all of the changes are signed with a key. Raises ChangelogError."""
    public = Ed25519PublicKey.from_public_bytes(key)
    for number, change in enumerate(changes, 1):
        if change.pub_key != key:
            raise ChangelogError(f"change {number} is signed with another key")
        try:
            public.verify(change.sig, change.text.encode("utf-8", "surrogatepass"))
        except InvalidSignature:
            raise ChangelogError(f"change {number} has an invalid signature") from None
        try:
            head_of(change.text)
        except ChangelogError as exc:
            raise ChangelogError(f"change {number}: {exc}") from exc


def since(changes: Sequence[Change], version: Version) -> list[Change]:
    """The changes of later versions, the newest first. Raises ChangelogError."""
    later = [change for change in changes if change.version > version]
    return sorted(later, key=lambda change: change.version, reverse=True)
