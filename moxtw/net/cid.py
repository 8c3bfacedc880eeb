"""Connection ids: numbers for the log, and an encrypted form of them for outsiders.

Each connection has a number, counted from the unix time in milliseconds at the start so
that numbers hardly repeat over restarts. What goes over the wire (error texts, Received
headers) is the number encrypted, so that it tells nothing about traffic but the operator
can find the log lines.
"""

from __future__ import annotations

import base64
import binascii
import os
from pathlib import Path

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

KEY_SIZE = 24
KEY_FILE = "receivedid.key"


class ConnectionIds:
    """Hands out connection ids.

    ``key`` is 24 bytes: an AES-128 key and 8 random bytes. ``start`` is the unix time in
    milliseconds.
    """

    def __init__(self, key: bytes, start: int) -> None:
        if len(key) != KEY_SIZE:
            raise ValueError(f"connection id key has {len(key)} bytes instead of {KEY_SIZE}")
        # One block with a fixed secret prefix: the numbers are distinct, so the blocks are.
        self._cipher = Cipher(algorithms.AES(key[:16]), modes.ECB())  # noqa: S305
        self._prefix = key[16:]
        self._last = start

    def next(self) -> int:
        """A new id."""
        self._last += 1
        return self._last

    def encrypt(self, cid: int) -> str:
        """Form for outsiders: 22 characters of base64url, without padding."""
        encryptor = self._cipher.encryptor()
        block = encryptor.update(self._prefix + cid.to_bytes(8)) + encryptor.finalize()
        return base64.urlsafe_b64encode(block).rstrip(b"=").decode("ascii")

    def decrypt(self, text: str) -> int:
        """The id of an encrypted form. Raises ValueError if it is not one of ours."""
        try:
            block = base64.b64decode(text.strip().encode("ascii") + b"==", b"-_", validate=True)
        except (binascii.Error, UnicodeError) as exc:
            raise ValueError("not a connection id: bad base64url") from exc
        if len(block) != 16:
            raise ValueError("not a connection id: bad length")
        decryptor = self._cipher.decryptor()
        plain = decryptor.update(block) + decryptor.finalize()
        if plain[:8] != self._prefix:
            raise ValueError("not a connection id of this installation")
        return int.from_bytes(plain[8:])


def load_key(data_dir: str | Path) -> bytes:
    """Read the key of an installation, ``receivedid.key`` in its data directory.

    Raises OSError, and ValueError when the file has another length.
    """
    key = (Path(data_dir) / KEY_FILE).read_bytes()
    if len(key) != KEY_SIZE:
        raise ValueError(f"{KEY_FILE} has {len(key)} bytes instead of {KEY_SIZE}")
    return key


def load_or_create_key(data_dir: str | Path) -> bytes:
    """Read the key, or make one (mode 0640) if there is none yet. Blocks: for the start."""
    path = Path(data_dir) / KEY_FILE
    try:
        return load_key(data_dir)
    except FileNotFoundError:
        pass
    key = os.urandom(KEY_SIZE)
    # Complete before it has its name: an interrupted start leaves no half a key behind.
    temporary = path.with_name(f".{KEY_FILE}.{os.getpid()}")
    try:
        with open(temporary, "xb", opener=_private) as file:
            os.fchmod(file.fileno(), 0o640)
            file.write(key)
            file.flush()
            os.fsync(file.fileno())
        os.link(temporary, path)  # unlike a rename this never replaces another's key
    except FileExistsError:
        return load_key(data_dir)
    finally:
        temporary.unlink(missing_ok=True)
    return key


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o640)
