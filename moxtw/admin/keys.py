"""Private keys for DKIM: making them, naming their files, writing and moving these."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

DKIM_DIRECTORY: Final = "dkim"
RSA_BITS: Final = 2048

_KINDS: Final = {"rsa": "rsa2048", "ed25519": "ed25519"}


def make_key(algorithm: str) -> RSAPrivateKey | Ed25519PrivateKey:
    """A new key for ``rsa`` or ``ed25519``. RSA takes a while: not for the reactor thread."""
    if algorithm == "ed25519":
        return Ed25519PrivateKey.generate()
    if algorithm == "rsa":
        return generate_private_key(65537, RSA_BITS)
    raise ValueError(f"unknown algorithm {algorithm!r}")


def key_pem(key: RSAPrivateKey | Ed25519PrivateKey) -> bytes:
    """A private key as PKCS#8 PEM."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def timestamp(seconds: float) -> str:
    """A time as in names of files and policies: 20260102T030405, UTC."""
    return time.strftime("%Y%m%dT%H%M%S", time.gmtime(seconds))


def dkim_file(selector: str, domain: str, algorithm: str, now: float) -> str:
    """The name of a DKIM key's file, from the configuration's directory."""
    kind = _KINDS[algorithm]
    record = f"{selector}._domainkey.{domain}"
    return f"{DKIM_DIRECTORY}/{record}.{timestamp(now)}.{kind}.privatekey.pkcs8.pem"


def write_private(path: Path, data: bytes, *, mode: int = 0o640) -> None:
    """Write a new private file durably. Blocks.

    Raises FileExistsError if it exists, and OSError; half a file is never left behind.
    """
    path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with open(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        os.link(temporary, path)  # unlike a rename this never replaces a file
    finally:
        temporary.unlink(missing_ok=True)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make names in a directory durable. Blocks."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def move_to_old(path: Path) -> Path:
    """Move a DKIM key that is in use no more to ``old/`` beside it. Blocks. Raises OSError."""
    old = path.parent / "old"
    old.mkdir(mode=0o750, exist_ok=True)
    target = old / path.name
    number = 1
    while target.exists():
        number += 1
        target = old / f"{path.name}.{number}"
    path.rename(target)
    sync_directory(old)
    sync_directory(path.parent)
    return target
