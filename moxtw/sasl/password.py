"""Passwords: the rules for new ones, the verifiers kept of them, and checking them.

No password is stored. Kept are a bcrypt hash, for mechanisms that send the password, and what
CRAM-MD5 and SCRAM need; see `moxtw.sasl.cram` and `moxtw.sasl.scram` for what those reveal.

Functions that hash take tens of milliseconds: not for the reactor's thread.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from dataclasses import dataclass, field
from typing import Final

import bcrypt

from moxtw.sasl.cram import CramSecret
from moxtw.sasl.precis import PreparationError, opaque_string
from moxtw.sasl.scram import ScramSecret

MIN_LENGTH: Final = 8
"""Octets of a new password, prepared and in UTF-8."""

COST: Final = 10
"""bcrypt's cost: the binary logarithm of its rounds."""

_BCRYPT_MAX: Final = 72  # bcrypt looks at no more octets.

_ALPHABET: Final = "abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789"  # No l, I, O, 0, 1.


class PasswordError(ValueError):
    """A password that cannot be set; the message is for its user."""


@dataclass(frozen=True, slots=True)
class Verifiers:
    """What is stored of a password. Those for single mechanisms can be missing."""

    bcrypt: str = field(repr=False)
    cram_md5: CramSecret | None = None
    scram_sha1: ScramSecret | None = None
    scram_sha256: ScramSecret | None = None

    def scram(self, hash_name: str) -> ScramSecret | None:
        """The verifier for SCRAM with `sha1` or `sha256`."""
        return {"sha1": self.scram_sha1, "sha256": self.scram_sha256}.get(hash_name)


def prepare_new(password: str) -> str:
    """Check and prepare (RFC 8265) a password that is to be set. Raises PasswordError."""
    try:
        prepared = opaque_string(password)
    except PreparationError as exc:
        raise PasswordError(f"password cannot be used: {exc}") from exc
    if len(prepared.encode()) < MIN_LENGTH:
        raise PasswordError(f"password must be at least {MIN_LENGTH} bytes long")
    return prepared


def derive(password: str, *, cost: int = COST) -> Verifiers:
    """Make the verifiers of a new password. Slow. Raises PasswordError."""
    prepared = prepare_new(password)
    return Verifiers(
        hash_password(prepared, cost=cost),
        CramSecret.derive(prepared),
        ScramSecret.derive("sha1", prepared),
        ScramSecret.derive("sha256", prepared),
    )


def hash_password(prepared: str, *, cost: int = COST) -> str:
    """The bcrypt hash of a prepared password. Slow."""
    return bcrypt.hashpw(_bcrypt_input(prepared), bcrypt.gensalt(cost)).decode("ascii")


def verify(password: str, hashed: str) -> bool:
    """Whether a password, as sent by a client, is the one hashed. Slow.

    A password that cannot be prepared is wrong. Raises ValueError for a broken hash.
    """
    try:
        prepared = opaque_string(password)
    except PreparationError:
        return False
    return bcrypt.checkpw(_bcrypt_input(prepared), hashed.encode("ascii"))


FAKE_HASH: Final = "$2b$10$abcdefghijklmnopqrstuuK7ZcM9b6q2fPQ5u9mC8v0O5kQZr9dGe"
"""Checked for unknown users, so that they take as long as known ones; no password matches."""


def _bcrypt_input(prepared: str) -> bytes:
    """What bcrypt hashes: the password, or a hash of a password that is too long for it."""
    data = prepared.encode()
    if len(data) > _BCRYPT_MAX:
        return base64.b64encode(hashlib.sha256(data).digest())
    return data


def generate(length: int = 16) -> str:
    """A random password of letters and digits that are not easily confused."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))
