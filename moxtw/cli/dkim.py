"""Commands on DKIM keys and signatures."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from moxtw.cli.command import CommandError
from moxtw.cli.invocation import Invocation

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

RSA_BITS = 2048


def gen_ed25519(invocation: Invocation) -> None:
    """``moxtw dkim gened25519``."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    _write_key(invocation, Ed25519PrivateKey.generate())


def gen_rsa(invocation: Invocation) -> None:
    """``moxtw dkim genrsa``."""
    from cryptography.hazmat.primitives.asymmetric import rsa

    _write_key(invocation, rsa.generate_private_key(public_exponent=65537, key_size=RSA_BITS))


def _write_key(invocation: Invocation, key: Ed25519PrivateKey | RSAPrivateKey) -> None:
    from cryptography.hazmat.primitives import serialization

    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    invocation.write(pem.decode("ascii"))


def txt(invocation: Invocation) -> None:
    """``moxtw dkim txt``."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    from moxtw.authn.dkimkey import public_record

    try:
        key = serialization.load_pem_private_key(invocation.read_bytes(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
        raise CommandError(f"standard input is no private key in PKCS#8 PEM: {exc}") from exc
    try:
        record = public_record(key)
    except TypeError as exc:
        raise CommandError(str(exc)) from exc
    # Strings of a record hold at most 255 bytes (RFC 1035 3.3); they are joined (RFC 6376 3.6.2.2).
    strings = " ".join(f'"{record[at : at + 255]}"' for at in range(0, len(record), 255))
    invocation.print(f"<selector>._domainkey.<domain>. TXT {strings}")


def sign(invocation: Invocation) -> None:
    """``moxtw dkim sign``."""
    from moxtw.authn.dkimsign import SignError, selectors_for
    from moxtw.authn.dkimsign import sign as signature
    from moxtw.config.load import load_dynamic
    from moxtw.mail.domain import DomainError, parse_domain
    from moxtw.mail.header import parse_headers
    from moxtw.mail.parsed import analyse

    with open(invocation.args[0], "rb") as file:
        data = file.read()
    # Kept as it is on the wire, whatever the line ends of the file are.
    data = data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    authors = analyse(data).from_
    if len(authors) != 1:
        raise CommandError("the message needs a From field with one address")
    static = invocation.static(check_files=True)
    dynamic = load_dynamic(static.dynamic_path, static)
    try:
        domain = parse_domain(authors[0].domain)
    except DomainError as exc:
        raise CommandError(f"domain of the From address: {exc}") from exc
    config = dynamic.domains.get(domain.name)
    if config is None:
        raise CommandError(f"domain {domain.name} of the From address is not configured")
    selectors = selectors_for(config)
    if not selectors:
        raise CommandError(f"domain {domain.name} has no DKIM selectors to sign with")
    end = parse_headers(data).body_offset
    try:
        fields = signature(
            selectors,
            localpart=authors[0].localpart,
            domain=domain.ascii,
            header=data[:end],
            body=(data[end:],),
            now=int(time.time()),
        )
    except SignError as exc:
        raise CommandError(str(exc)) from exc
    invocation.write_bytes(fields + data)
