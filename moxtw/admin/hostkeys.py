"""The keys that TLS certificates of the mail host are made for, and what DNS says of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from moxtw.admin import keys
from moxtw.config.static import Listener, Static
from moxtw.mail.domain import Domain
from moxtw.tlspolicy import dane

HostKey = RSAPrivateKey | ec.EllipticCurvePrivateKey

DIRECTORY: Final = "hostkeys"
KINDS: Final = ("rsa2048", "ecdsap256")


def make_host_key(kind: str) -> HostKey:
    """A new key of a kind in KINDS. RSA takes a while: not for the reactor thread."""
    if kind == "rsa2048":
        return generate_private_key(65537, keys.RSA_BITS)
    if kind == "ecdsap256":
        return ec.generate_private_key(ec.SECP256R1())
    raise ValueError(f"unknown kind {kind!r}")


def host_key_pem(key: HostKey) -> bytes:
    """A key as PKCS#8 PEM."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def host_key_file(host: Domain, kind: str, now: float) -> str:
    """The name of a host key's file, from the configuration's directory."""
    return f"{DIRECTORY}/{host.ascii}.{keys.timestamp(now)}.{kind}.privatekey.pkcs8.pem"


def host_keys(static: Static, listener: Listener) -> list[HostKey]:
    """The host keys of a listener: ECDSA, then RSA. Reads files if loading did not.

    Raises OSError, ValueError.
    """
    if listener.tls is None:
        return []
    found: list[HostKey] = list(listener.tls.host_private_keys)
    if not found:
        found = [_read(static.directory / name) for name in listener.tls.host_private_key_files]
    return sorted(found, key=lambda key: isinstance(key, RSAPrivateKey))


def _read(path: Path) -> HostKey:
    key = load_pem_private_key(path.read_bytes(), None)
    if not isinstance(key, RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise ValueError(f"{path}: neither an RSA nor an ECDSA key")
    return key


def tlsa_records(static: Static, listener: Listener) -> list[str]:
    """What TLSA records say of a listener's host keys: DANE-EE, SPKI, SHA2-256 (RFC 7672 3.1.1).

    Raises OSError, ValueError.
    """
    return [
        dane.presentation(dane.key_record(dane.DANE_EE, 1, key.public_key()))
        for key in host_keys(static, listener)
    ]


def ensure_host_keys(
    static: Static, now: float, told: Callable[[str], object]
) -> dict[str, list[str]]:
    """Make the host keys that listeners with certificates by ACME lack.

    Returns the files that were made, as names from the configuration's directory, by the names
    of listeners, whose HostPrivateKeyFiles they belong in; listeners with the same host share
    them. `told` hears of each file. Blocks. Raises OSError, ValueError.
    """
    made: dict[tuple[str, str], str] = {}
    missing: dict[str, list[str]] = {}
    for name, listener in static.listeners.items():
        if listener.tls is None or not listener.tls.acme:
            continue
        host = listener.effective_hostname
        there = {kind_of(key) for key in host_keys(static, listener)}
        for kind in KINDS:
            if kind in there:
                continue
            file = made.get((host.ascii, kind))
            if file is None:
                file = made[host.ascii, kind] = host_key_file(host, kind, now)
                path = static.directory / file
                path.parent.mkdir(mode=0o700, exist_ok=True)
                keys.write_private(path, host_key_pem(make_host_key(kind)), mode=0o600)
                told(file)
            missing.setdefault(name, []).append(file)
    return missing


def kind_of(key: HostKey) -> str:
    """The kind of a key, "" for one that is of none in KINDS."""
    if isinstance(key, RSAPrivateKey):
        return "rsa2048" if key.key_size >= keys.RSA_BITS else ""
    return "ecdsap256" if isinstance(key.curve, ec.SECP256R1) else ""
