"""Private keys with their certificates: loading, names, fingerprints, self-signed ones."""

from __future__ import annotations

import base64
import datetime
import hashlib
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

PrivateKey = (
    rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
    | ed448.Ed448PrivateKey
)  # fmt: skip


class CertError(Exception):
    """A key or certificate cannot be used."""


@dataclass(frozen=True, slots=True, eq=False)
class KeyPair:
    """A private key with its certificate and the chain above that.

    ``names`` are the DNS names of the certificate, lower case A-labels, some perhaps
    beginning with ``*.``; ``ips`` its addresses in canonical text.
    """

    key: PrivateKey
    chain: tuple[x509.Certificate, ...]
    names: tuple[str, ...]
    ips: tuple[str, ...]

    @property
    def key_type(self) -> str:
        """``rsa``, ``ecdsa`` or ``eddsa``: TLS can serve one certificate of each kind."""
        if isinstance(self.key, rsa.RSAPrivateKey):
            return "rsa"
        return "ecdsa" if isinstance(self.key, ec.EllipticCurvePrivateKey) else "eddsa"


def load_key_pair(cert_pem: bytes, key_pem: bytes, what: str = "certificate") -> KeyPair:
    """Make a KeyPair of PEM texts: certificates, own one first, and an unencrypted key.

    Raises CertError, beginning with ``what``, if they cannot be read or do not belong
    together.
    """
    try:
        chain = tuple(x509.load_pem_x509_certificates(cert_pem))
        key = serialization.load_pem_private_key(key_pem, None)
        same = _public_der(chain[0].public_key()) == _public_der(key.public_key())
    except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
        raise CertError(f"{what}: {exc}") from exc
    if not same:
        raise CertError(f"{what}: key does not belong to certificate")
    if not isinstance(key, PrivateKey):
        raise CertError(f"{what}: keys of this type cannot be used for TLS")
    names, ips = _names(chain[0])
    return KeyPair(key, chain, names, ips)


def read_key_pair(cert_file: str | Path, key_file: str | Path) -> KeyPair:
    """Load a KeyPair from PEM files. Raises CertError.

    Blocks: for the start, or a thread.
    """
    try:
        cert_pem, key_pem = Path(cert_file).read_bytes(), Path(key_file).read_bytes()
    except OSError as exc:
        raise CertError(str(exc)) from exc
    return load_key_pair(cert_pem, key_pem, f"{cert_file}, {key_file}")


def _public_der(key: object) -> bytes:
    return key.public_bytes(  # type: ignore[attr-defined,no-any-return]
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _names(cert: x509.Certificate) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """DNS names and addresses of a certificate; without any, the common name counts."""
    try:
        alternatives = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        common = cert.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        return tuple(str(name.value).lower() for name in common), ()
    return (
        tuple(name.lower() for name in alternatives.get_values_for_type(x509.DNSName)),
        tuple(str(ip) for ip in alternatives.get_values_for_type(x509.IPAddress)),
    )


def subject_public_key_info(cert_der: bytes) -> bytes:
    """The SubjectPublicKeyInfo of a certificate, its own DER bytes (RFC 5280 4.1).

    Cut out instead of decoded and encoded anew, so that keys of any type, and encodings
    that are not quite canonical, have the fingerprint that others compute. Raises
    CertError.
    """
    # Certificate ::= SEQUENCE { tbsCertificate SEQUENCE { [0] version DEFAULT,
    # serialNumber, signature, issuer, validity, subject, subjectPublicKeyInfo, ... } ... }
    _, start, end = _der(cert_der, 0, len(cert_der))
    _, start, end = _der(cert_der, start, end)
    tag, _, after = _der(cert_der, start, end)
    if tag == 0xA0:
        start = after
    for _ in range(5):
        _, _, start = _der(cert_der, start, end)
    _, _, after = _der(cert_der, start, end)
    return cert_der[start:after]


def _der(data: bytes, at: int, end: int) -> tuple[int, int, int]:
    """Tag, start and end of the content of the DER value at ``at``."""
    if at + 2 > end:
        raise CertError("certificate cut short")
    tag, length, start = data[at], data[at + 1], at + 2
    if length & 0x80:
        size = length & 0x7F
        if not 0 < size <= 4 or start + size > end:
            raise CertError("bad length in certificate")
        length = int.from_bytes(data[start : start + size])
        start += size
    if start + length > end:
        raise CertError("certificate cut short")
    return tag, start, start + length


def fingerprint(cert: x509.Certificate) -> str:
    """Name of a certificate's key, see ``spki_fingerprint``."""
    spki = subject_public_key_info(cert.public_bytes(serialization.Encoding.DER))
    return spki_fingerprint(spki)


def spki_fingerprint(spki: bytes) -> str:
    """SHA-256 of a SubjectPublicKeyInfo in DER, as base64url without padding."""
    return base64.urlsafe_b64encode(hashlib.sha256(spki).digest()).rstrip(b"=").decode("ascii")


def self_signed(
    hostnames: Iterable[str],
    ips: Iterable[str] = (),
    *,
    years: int = 4,
    ecdsa: bool = True,
    now: datetime.datetime | None = None,
) -> tuple[bytes, bytes]:
    """Make a key and a certificate signed with it, as PEM texts: (certificate, key).

    The key is ECDSA P-256, or RSA 2048. Hostnames are A-labels.
    """
    hostnames = list(hostnames)
    addresses = [ipaddress.ip_address(ip) for ip in ips]
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
    if ecdsa:
        key = ec.generate_private_key(ec.SECP256R1())
    else:
        key = rsa.generate_private_key(65537, 2048)
    now = now or datetime.datetime.now(datetime.UTC)
    public = key.public_key()
    name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "moxtw self-signed")])
    alternatives = [
        *map(x509.DNSName, hostnames),
        *map(x509.IPAddress, addresses),
    ]
    cert = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=365 * years + years // 4))
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        # A certificate that clients can also take as their own root.
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=True,
                content_commitment=False,
                key_encipherment=not ecdsa,
                data_encipherment=False,
                key_agreement=False,
                key_cert_sign=True,
                crl_sign=False,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return cert.public_bytes(serialization.Encoding.PEM), private_key_pem(key)


def private_key_pem(key: PrivateKey) -> bytes:
    """PKCS #8 PEM of a key, unencrypted."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def client_pair(
    key: ed25519.Ed25519PrivateKey, now: datetime.datetime | None = None
) -> KeyPair:
    """A short-lived certificate that carries a key, to log in with by TLS."""
    now = now or datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "moxtw")])
    cert = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, None)
    )
    return KeyPair(key, (cert,), (), ())
