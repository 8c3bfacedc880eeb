"""A certificate authority for tests."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from OpenSSL import SSL, crypto
from twisted.internet.ssl import ContextFactory


class Issued:
    """A certificate with its key, and the certificates above it."""

    def __init__(
        self,
        certificate: x509.Certificate,
        key: ec.EllipticCurvePrivateKey,
        above: Sequence[x509.Certificate] = (),
    ) -> None:
        self.certificate = certificate
        self.key = key
        self.above = list(above)

    @property
    def chain(self) -> list[x509.Certificate]:
        return [self.certificate, *self.above]

    def context_factory(self) -> Any:
        return _Factory(self)


class _Factory(ContextFactory):
    def __init__(self, issued: Issued) -> None:
        self._context = SSL.Context(SSL.TLS_SERVER_METHOD)
        self._context.use_certificate(crypto.X509.from_cryptography(issued.certificate))
        self._context.use_privatekey(crypto.PKey.from_cryptography_key(issued.key))
        for certificate in issued.above:
            self._context.add_extra_chain_cert(crypto.X509.from_cryptography(certificate))

    def getContext(self) -> SSL.Context:  # noqa: N802
        return self._context


class Authority:
    """Issues certificates."""

    def __init__(self, name: str = "Test CA", parent: Authority | None = None) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self._above: list[x509.Certificate] = [] if parent is None else parent.chain
        issuer = self if parent is None else parent
        self.name = _name(name)
        self.certificate = issuer._sign(
            self.name, self.key, [], ca=True, begin=timedelta(days=-365)
        )

    @property
    def chain(self) -> list[x509.Certificate]:
        return [self.certificate, *self._above]

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    def issue(
        self,
        *names: str,
        common_name: str = "",
        begin: timedelta = timedelta(days=-1),
        end: timedelta = timedelta(days=30),
    ) -> Issued:
        """A certificate for DNS names."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _name(common_name or "leaf")
        return Issued(
            self._sign(subject, key, names, ca=False, begin=begin, end=end), key, self.chain
        )

    def _sign(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        names: Sequence[str],
        *,
        ca: bool,
        begin: timedelta,
        end: timedelta = timedelta(days=365),
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + begin)
            .not_valid_after(now + end)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        if names:
            alternatives = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
            builder = builder.add_extension(alternatives, critical=False)
        return builder.sign(self.key, hashes.SHA256())


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])
