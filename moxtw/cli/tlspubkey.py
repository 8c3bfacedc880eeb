"""Commands on TLS public keys: client certificates that log in."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import TYPE_CHECKING

from moxtw.cli.command import CommandError
from moxtw.cli.invocation import Invocation

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

YEARS = 100
"""How long a certificate is valid that we make: its key counts, not its dates."""


def list_(invocation: Invocation) -> None:
    """``moxtw config tlspubkey list``."""
    with invocation.control() as control:
        control.command("tlspubkeylist", invocation.args[0] if invocation.args else "")
        invocation.write_lines(control.read_text())


def get(invocation: Invocation) -> None:
    """``moxtw config tlspubkey get``."""
    with invocation.control() as control:
        control.command("tlspubkeyget", invocation.args[0])
        invocation.write_lines(control.read_text())


def add(invocation: Invocation) -> None:
    """``moxtw config tlspubkey add``."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    address = invocation.args[0]
    name = invocation.args[1] if len(invocation.args) > 1 else ""
    try:
        certs = x509.load_pem_x509_certificates(invocation.read_bytes())
    except ValueError as exc:
        raise CommandError(f"standard input is no certificate in PEM: {exc}") from exc
    if len(certs) != 1:
        raise CommandError(f"standard input has {len(certs)} certificates, instead of one")
    der = base64.b64encode(certs[0].public_bytes(Encoding.DER)).decode("ascii")
    preauth = "false" if invocation.switch("no-imap-preauth") else "true"
    with invocation.control() as control:
        control.command("tlspubkeyadd", address, name, preauth, der)
        found = control.read_line()
    invocation.print(f"Key with fingerprint {found} logs in as {address} now.")


def remove(invocation: Invocation) -> None:
    """``moxtw config tlspubkey rm``."""
    with invocation.control() as control:
        control.command("tlspubkeyrm", invocation.args[0])
    invocation.print(f"Key with fingerprint {invocation.args[0]} removed.")


def gen(invocation: Invocation) -> None:
    """``moxtw config tlspubkey gen``."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from moxtw.net.certs import fingerprint

    stem = invocation.args[0]
    key = Ed25519PrivateKey.generate()
    cert = _certificate(key, os.path.basename(stem))
    key_pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    cert_pem = cert.public_bytes(serialization.Encoding.PEM)
    files = (
        (f"{stem}.ed25519.privatekey.pkcs8.pem", key_pem, 0o600, "private key"),
        (f"{stem}.ed25519.certificate.pem", cert_pem, 0o644, "certificate"),
        (f"{stem}.ed25519.combined.pem", key_pem + cert_pem, 0o600, "both"),
    )
    for name, _, _, _ in files:
        if Path(name).exists():
            raise CommandError(f"{name} exists already")
    for name, data, mode, what in files:
        fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with open(fd, "wb") as file:
            file.write(data)
        invocation.print(f"{what:<12} {name}")
    seed = key.private_bytes_raw()
    invocation.print(f"{'seed':<12} {base64.urlsafe_b64encode(seed).rstrip(b'=').decode()}")
    invocation.print(f"{'fingerprint':<12} {fingerprint(cert)}")
    invocation.print("\nRegister the key, for an address of an account, with")
    invocation.print(f"  moxtw config tlspubkey add address <{files[1][0]}")


def _certificate(key: Ed25519PrivateKey, name: str) -> x509.Certificate:
    """A certificate that says little more than its key."""
    from datetime import UTC, datetime, timedelta

    from cryptography import x509

    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name[:64] or "key")])
    now = datetime.now(UTC).replace(microsecond=0)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=365 * YEARS))
        .add_extension(
            x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .sign(key, None)
    )
