"""CRAM-MD5 (RFC 2195) without a stored password.

HMAC hashes a block made of the key before anything else, inside and outside (RFC 2104 2).
What MD5's state is after those two blocks is all that is needed to compute the HMAC of any
challenge, and is what we keep. It cannot be turned back into the password, other than by
guessing; but who has it can log in by CRAM-MD5, as with every verifier of this mechanism.

hashlib neither gives nor takes MD5's state, so that MD5's compression function stands here.
Only CRAM-MD5 logins and new passwords run it, at some 0.1 ms a block.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import math
import secrets
import struct
import time
from dataclasses import dataclass, field
from typing import Final

from moxtw.sasl.errors import BadMessage
from moxtw.sasl.precis import username

_BLOCK: Final = 64
_INITIAL: Final = (0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476)  # RFC 1321 3.3
_WORDS: Final = struct.Struct("<16I")
_STATE: Final = struct.Struct("<4I")


def _steps() -> tuple[tuple[int, int, int], ...]:
    """MD5's 64 steps, RFC 1321 3.4: word of the block, constant, rotation."""
    rotations = ((7, 12, 17, 22), (5, 9, 14, 20), (4, 11, 16, 23), (6, 10, 15, 21))
    orders = ((1, 0), (5, 1), (3, 5), (7, 0))
    return tuple(
        (
            (orders[i // 16][0] * i + orders[i // 16][1]) % 16,
            int(abs(math.sin(i + 1)) * 2**32) & 0xFFFFFFFF,
            rotations[i // 16][i % 4],
        )
        for i in range(64)
    )


_STEPS: Final = _steps()

State = tuple[int, int, int, int]


def _compress(state: State, block: bytes) -> State:
    """Take one block of 64 octets into MD5's state, RFC 1321 3.4."""
    words = _WORDS.unpack(block)
    a, b, c, d = state
    for i, (index, constant, rotation) in enumerate(_STEPS):
        if i < 16:
            mixed = (b & c) | (~b & d)
        elif i < 32:
            mixed = (d & b) | (~d & c)
        elif i < 48:
            mixed = b ^ c ^ d
        else:
            mixed = c ^ (b | (~d & 0xFFFFFFFF))
        total = (a + mixed + words[index] + constant) & 0xFFFFFFFF
        a, d, c = d, c, b
        b = (b + ((total << rotation) | (total >> (32 - rotation)))) & 0xFFFFFFFF
    return (
        (state[0] + a) & 0xFFFFFFFF,
        (state[1] + b) & 0xFFFFFFFF,
        (state[2] + c) & 0xFFFFFFFF,
        (state[3] + d) & 0xFFFFFFFF,
    )


def _finish(state: State, taken: int, data: bytes) -> bytes:
    """The digest of `taken` octets, already in the state, and data; RFC 1321 3.1, 3.2."""
    length = taken + len(data)
    padding = b"\x80" + bytes((55 - length) % _BLOCK)
    data += padding + struct.pack("<Q", length * 8)
    for start in range(0, len(data), _BLOCK):
        state = _compress(state, data[start : start + _BLOCK])
    return _STATE.pack(*state)


@dataclass(frozen=True, slots=True)
class CramSecret:
    """The verifier of a password: MD5's states after HMAC's inner and outer block, 16 octets each.

    Each is four little-endian 32-bit words, as in an MD5 digest.
    """

    inner: bytes = field(repr=False)
    outer: bytes = field(repr=False)

    @classmethod
    def derive(cls, password: str) -> CramSecret:
        """Make the verifier of a prepared password."""
        key = password.encode()
        if len(key) > _BLOCK:
            key = hashlib.md5(key, usedforsecurity=False).digest()
        key = key.ljust(_BLOCK, b"\0")
        inner = _compress(_INITIAL, bytes(octet ^ 0x36 for octet in key))
        outer = _compress(_INITIAL, bytes(octet ^ 0x5C for octet in key))
        return cls(_STATE.pack(*inner), _STATE.pack(*outer))

    def pack(self) -> bytes:
        """Both states, for storage."""
        return self.inner + self.outer

    @classmethod
    def unpack(cls, data: bytes) -> CramSecret:
        """What `pack` made. Raises ValueError for another length."""
        if len(data) != 2 * _STATE.size:
            raise ValueError("CRAM-MD5 secret of wrong length")
        return cls(data[: _STATE.size], data[_STATE.size :])

    def digest(self, challenge: bytes) -> bytes:
        """The HMAC-MD5 of the challenge, in lower-case hexadecimal."""
        inner = _finish(_STATE.unpack(self.inner), _BLOCK, challenge)
        return _finish(_STATE.unpack(self.outer), _BLOCK, inner).hex().encode("ascii")

    def verify(self, challenge: bytes, digest: bytes) -> bool:
        """Whether `digest` (hexadecimal) answers the challenge."""
        return hmac.compare_digest(self.digest(challenge), digest)


FAKE: Final = CramSecret(bytes(16), bytes(16))
"""Costs an unknown user's exchange the same time."""


def new_challenge(hostname: str) -> bytes:
    """A challenge `<random.nanoseconds@hostname>` that never comes twice."""
    random = base64.urlsafe_b64encode(secrets.token_bytes(16)).rstrip(b"=").decode("ascii")
    return f"<{random}.{time.time_ns()}@{hostname}>".encode()


def parse_response(response: bytes) -> tuple[str, bytes]:
    """The user name and digest of a response. Raises BadMessage."""
    name, separator, digest = response.rpartition(b" ")
    if not separator or not name or len(digest) != 32:
        raise BadMessage("malformed CRAM-MD5 response")
    try:
        return username(name.decode()), digest.lower()
    except UnicodeDecodeError as exc:
        raise BadMessage("user name is not UTF-8") from exc


def respond(user: str, password: str, challenge: bytes) -> bytes:
    """A client's response."""
    digest = hmac.new(password.encode(), challenge, "md5").hexdigest()
    return f"{user} {digest}".encode()
