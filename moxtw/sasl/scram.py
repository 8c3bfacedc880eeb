"""SCRAM (RFC 5802, RFC 7677): its computations and messages, for server and client alike."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field
from typing import Final

HASHES: Final = {"sha1": 20, "sha256": 32}
"""hashlib's names of the hashes, and their length."""

ITERATIONS: Final = {"sha1": 8192, "sha256": 4096}
"""Iterations for new passwords."""

SALT_LENGTH: Final = 12

MIN_NONCE: Final = 8
"""Characters of a nonce that are asked of the other side."""

MAX_MESSAGE: Final = 8192
"""Octets of a message that are looked at."""

_NONCE: Final = re.compile(r"[!-+\--~]+")  # RFC 5802 7 printable
_SASLNAME_ESCAPE: Final = re.compile(r"=(2C|3D)?")


class SyntaxProblem(ValueError):
    """A message that does not follow RFC 5802 7.

    error: what the server tells, RFC 5802 7 server-error-value.
    """

    def __init__(self, text: str, error: str = "other-error") -> None:
        super().__init__(text)
        self.error = error


@dataclass(frozen=True, slots=True)
class ScramSecret:
    """The verifier of a password.

    The salted password itself is not kept: with it one could act as the client. StoredKey and
    ServerKey only let verify a client, and prove to it that we can (RFC 5802 3).
    """

    salt: bytes
    iterations: int
    stored_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)

    @classmethod
    def derive(
        cls, hash_name: str, password: str, *, salt: bytes | None = None, iterations: int = 0
    ) -> ScramSecret:
        """Make the verifier of a prepared password; takes milliseconds."""
        salt = salt or secrets.token_bytes(SALT_LENGTH)
        iterations = iterations or ITERATIONS[hash_name]
        salted = salt_password(hash_name, password, salt, iterations)
        return cls.from_salted(hash_name, salt, iterations, salted)

    @classmethod
    def from_salted(
        cls, hash_name: str, salt: bytes, iterations: int, salted: bytes
    ) -> ScramSecret:
        """Make the verifier out of a salted password that was stored elsewhere."""
        client_key = hmac.digest(salted, b"Client Key", hash_name)
        stored_key = hashlib.new(hash_name, client_key).digest()
        return cls(salt, iterations, stored_key, hmac.digest(salted, b"Server Key", hash_name))


def salt_password(hash_name: str, password: str, salt: bytes, iterations: int) -> bytes:
    """SaltedPassword, RFC 5802 3."""
    return hashlib.pbkdf2_hmac(hash_name, password.encode(), salt, iterations)


_PROCESS_KEY: Final = secrets.token_bytes(32)


def fake_secret(hash_name: str, user: str, key: bytes | None = None) -> ScramSecret:
    """A verifier for a user who does not exist: always the same for a name, matching nothing.

    key: keeps the salts the same beyond the life of this process.
    """
    text = f"{hash_name} {user}".encode("utf-8", "replace")
    salt = hmac.digest(key or _PROCESS_KEY, text, "sha256")[:SALT_LENGTH]
    size = HASHES[hash_name]
    return ScramSecret(salt, ITERATIONS[hash_name], secrets.token_bytes(size), bytes(size))


def client_proof(hash_name: str, salted: bytes, auth_message: bytes) -> bytes:
    """ClientProof, RFC 5802 3."""
    client_key = hmac.digest(salted, b"Client Key", hash_name)
    stored_key = hashlib.new(hash_name, client_key).digest()
    return _xor(client_key, hmac.digest(stored_key, auth_message, hash_name))


def server_signature(hash_name: str, server_key: bytes, auth_message: bytes) -> bytes:
    """ServerSignature, RFC 5802 3."""
    return hmac.digest(server_key, auth_message, hash_name)


def check_proof(hash_name: str, secret: ScramSecret, auth_message: bytes, proof: bytes) -> bool:
    """Whether a client's proof is right, RFC 5802 3."""
    signature = hmac.digest(secret.stored_key, auth_message, hash_name)
    if len(proof) != len(signature):
        return False
    stored_key = hashlib.new(hash_name, _xor(proof, signature)).digest()
    return hmac.compare_digest(stored_key, secret.stored_key)


def _xor(left: bytes, right: bytes) -> bytes:
    length = len(left)
    return (int.from_bytes(left, "big") ^ int.from_bytes(right, "big")).to_bytes(length, "big")


# Messages


@dataclass(frozen=True, slots=True)
class ClientFirst:
    """A client's first message.

    gs2_header: as sent, with its last comma. flag: `n`, `y` or `p`; binding: the name after `p=`.
    bare: the message without the gs2 header.
    """

    gs2_header: str
    flag: str
    binding: str
    authzid: str
    username: str
    nonce: str
    bare: str


@dataclass(frozen=True, slots=True)
class ClientFinal:
    """A client's final message; `without_proof` is what the proof is made over."""

    binding: bytes
    nonce: str
    proof: bytes
    without_proof: str


def new_nonce() -> str:
    """A nonce of 144 bits."""
    return base64.b64encode(secrets.token_bytes(18)).decode("ascii")


def encode_name(name: str) -> str:
    """A name as saslname, RFC 5802 5.1."""
    return name.replace("=", "=3D").replace(",", "=2C")


def decode_name(text: str) -> str:
    """A saslname decoded. Raises SyntaxProblem."""
    if "=" not in text:
        return text
    for match in _SASLNAME_ESCAPE.finditer(text):
        if match[1] is None:
            raise SyntaxProblem("malformed name", "invalid-username-encoding")
    return text.replace("=2C", ",").replace("=3D", "=")


def parse_client_first(message: bytes) -> ClientFirst:
    """Parse client-first-message, RFC 5802 7. Raises SyntaxProblem."""
    text = _decode(message)
    try:
        flag, authz, bare = text.split(",", 2)
    except ValueError:
        raise SyntaxProblem("malformed gs2 header") from None
    binding = ""
    if flag.startswith("p="):
        flag, binding = "p", flag[2:]
        if not re.fullmatch(r"[A-Za-z0-9.-]+", binding):
            raise SyntaxProblem("malformed name of channel binding")
    elif flag not in ("n", "y"):
        raise SyntaxProblem("malformed gs2 header")
    authzid = ""
    if authz:
        if not authz.startswith("a=") or authz == "a=":
            raise SyntaxProblem("malformed authorization identity")
        authzid = decode_name(authz[2:])
    attributes = bare.split(",")
    if attributes[0].startswith("m="):
        raise SyntaxProblem("mandatory extension", "extensions-not-supported")
    if len(attributes) < 2 or not attributes[0].startswith("n="):
        raise SyntaxProblem("missing user name")
    user = decode_name(attributes[0][2:])
    if not user:
        raise SyntaxProblem("empty user name", "invalid-username-encoding")
    nonce = _nonce(attributes[1])
    _check_extensions(attributes[2:])
    gs2_header = text[: len(text) - len(bare)]
    return ClientFirst(gs2_header, flag, binding, authzid, user, nonce, bare)


def server_first(nonce: str, secret: ScramSecret) -> str:
    """The server's first message; `nonce` is the client's and the server's."""
    salt = base64.b64encode(secret.salt).decode("ascii")
    return f"r={nonce},s={salt},i={secret.iterations}"


def parse_server_first(message: bytes) -> tuple[str, bytes, int]:
    """Nonce, salt and iterations of server-first-message. Raises SyntaxProblem."""
    attributes = _decode(message).split(",")
    if attributes[0].startswith("m="):
        raise SyntaxProblem("mandatory extension", "extensions-not-supported")
    if len(attributes) < 3:
        raise SyntaxProblem("malformed first message of server")
    nonce = _nonce(attributes[0])
    if not attributes[1].startswith("s="):
        raise SyntaxProblem("missing salt")
    salt = _base64(attributes[1][2:])
    if not salt:
        raise SyntaxProblem("empty salt")
    if not re.fullmatch(r"i=[1-9][0-9]{0,8}", attributes[2], re.ASCII):
        raise SyntaxProblem("malformed iteration count")
    _check_extensions(attributes[3:])
    return nonce, salt, int(attributes[2][2:])


def client_final_without_proof(binding: bytes, nonce: str) -> str:
    """The client's final message but for the proof; `binding` begins with the gs2 header."""
    return f"c={base64.b64encode(binding).decode('ascii')},r={nonce}"


def parse_client_final(message: bytes) -> ClientFinal:
    """Parse client-final-message, RFC 5802 7. Raises SyntaxProblem."""
    text = _decode(message)
    without_proof, separator, proof = text.rpartition(",p=")
    if not separator:
        raise SyntaxProblem("missing proof", "invalid-proof")
    attributes = without_proof.split(",")
    if len(attributes) < 2 or not attributes[0].startswith("c="):
        raise SyntaxProblem("missing channel binding")
    binding = _base64(attributes[0][2:])
    nonce = _nonce(attributes[1])
    _check_extensions(attributes[2:])
    return ClientFinal(binding, nonce, _base64(proof), without_proof)


def _decode(message: bytes) -> str:
    if len(message) > MAX_MESSAGE:
        raise SyntaxProblem("message too long")
    try:
        text = message.decode()
    except UnicodeDecodeError:
        raise SyntaxProblem("message is not UTF-8", "invalid-encoding") from None
    if "\0" in text:
        raise SyntaxProblem("NUL in message", "invalid-encoding")
    return text


def _nonce(attribute: str) -> str:
    if not attribute.startswith("r=") or not _NONCE.fullmatch(attribute, 2):
        raise SyntaxProblem("missing or malformed nonce")
    if len(attribute) < 2 + MIN_NONCE:
        raise SyntaxProblem("nonce too short")
    return attribute[2:]


def _check_extensions(attributes: list[str]) -> None:
    """Extensions are ignored, but must look like some, RFC 5802 5.1."""
    for attribute in attributes:
        if not re.match(r"[A-Za-z]=.", attribute):
            raise SyntaxProblem("malformed extension")


def _base64(text: str) -> bytes:
    try:
        return base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise SyntaxProblem("malformed base64", "invalid-encoding") from None
