"""DANE for SMTP: certificates by way of TLSA records (RFC 6698, RFC 7671, RFC 7672)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import service_identity
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
)
from OpenSSL import crypto
from service_identity.cryptography import verify_certificate_hostname

from moxtw import metrics
from moxtw.dns.resolver import (
    TLSA,
    Answer,
    CNAMEError,
    NotFound,
    Resolver,
    absolute,
    cname,
    tlsa,
)

PKIX_TA, PKIX_EE, DANE_TA, DANE_EE = 0, 1, 2, 3
"""Certificate usages (RFC 7218 2.1)."""

MAX_CNAMES: Final = 10
_MAX_RECORDS: Final = 100
_HASHES: Final = {1: hashlib.sha256, 2: hashlib.sha512}


class DANEError(Exception):
    """No record fits the certificate. kind: the result type for TLS reports (RFC 8460 4.3).

    reason: a short code of what is wrong, for the same.
    """

    kind = "validation-failure"

    def __init__(self, text: str, reason: str = "dane-no-match") -> None:
        super().__init__(text)
        self.reason = reason


def usable(record: TLSA) -> bool:
    """Whether a record is of a kind that counts with SMTP (RFC 7672 3.1)."""
    return record.usage in (DANE_TA, DANE_EE) and well_formed(record)


def well_formed(record: TLSA) -> bool:
    """Whether a record's selector, matching type and data make sense."""
    if record.selector not in (0, 1) or record.match not in (0, 1, 2):
        return False
    if record.match == 0:
        try:
            if record.selector == 0:
                x509.load_der_x509_certificate(record.data)
            else:
                load_der_public_key(record.data)
        except Exception:  # noqa: BLE001 - whatever the parser finds wrong
            return False
        return True
    return len(record.data) == _HASHES[record.match]().digest_size


def presentation(record: TLSA) -> str:
    """A record as in a zone file (RFC 6698 2.2)."""
    return f"{record.usage} {record.selector} {record.match} {record.data.hex()}"


def matches(record: TLSA, certificate: x509.Certificate) -> bool:
    """Whether a record is about a certificate or its key."""
    if record.selector == 0:
        data = certificate.public_bytes(Encoding.DER)
    else:
        data = _spki(certificate.public_key())
    return _digest(record.match, data) == record.data


def _spki(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _digest(match: int, data: bytes) -> bytes:
    return data if match == 0 else _HASHES[match](data).digest()


def make_record(
    usage: int, selector: int, match: int, certificate: x509.Certificate
) -> TLSA:
    """The record for a certificate."""
    if selector == 0:
        data = certificate.public_bytes(Encoding.DER)
    else:
        data = _spki(certificate.public_key())
    return TLSA(usage, selector, match, _digest(match, data))


def key_record(usage: int, match: int, key: PublicKeyTypes) -> TLSA:
    """The record for a public key (selector 1)."""
    return TLSA(usage, 1, match, _digest(match, _spki(key)))


@dataclass(frozen=True, slots=True)
class Found:
    """The TLSA records for a host: at `base` (ASCII, no final dot), all authentic."""

    base: str
    records: tuple[TLSA, ...]

    @property
    def usable(self) -> tuple[TLSA, ...]:
        """Those that count with SMTP."""
        return tuple(record for record in self.records if usable(record))


async def find(
    resolver: Resolver, bases: Iterable[str], *, port: int = 25
) -> Found | None:
    """The TLSA records at the first of `bases` that has any (RFC 7672 2.2.3).

    None when there are none that DNSSEC vouches for. Raises DNSError when that could not be
    found out; then DANE may be demanded, and nobody knows.
    """
    for base in dict.fromkeys(bases):
        answer = await _look_up(resolver, f"_{port}._tcp.{base}")
        if answer is not None:
            return Found(base, tuple(answer.records[:_MAX_RECORDS]))
    return None


async def _look_up(resolver: Resolver, name: str) -> Answer[TLSA] | None:
    """The authentic records of a name, along CNAMEs that are authentic, too."""
    for _ in range(MAX_CNAMES + 1):
        try:
            alias = await cname(resolver, name)
        except NotFound as exc:
            if not exc.authentic:
                return None
            break
        if not alias.authentic:
            return None
        name = absolute(alias.records[0], "CNAME")
    else:
        raise CNAMEError(name, "TLSA", f"more than {MAX_CNAMES} cnames")
    try:
        answer = await tlsa(resolver, name)
    except NotFound:
        return None
    return answer if answer.authentic else None


def verify(
    records: Sequence[TLSA],
    chain: Sequence[x509.Certificate],
    names: Sequence[str],
    *,
    now: float,
) -> TLSA:
    """Verify the certificates that a server showed, its own first; the record that fits.

    names: what the certificate may be for (A-labels), where the record wants that (RFC 7672
    3.2.3). now: seconds since the epoch. Only DANE-TA and DANE-EE records count here. Raises
    DANEError.
    """
    metrics.dane_verify_total.inc()
    problems: list[str] = []
    for record in records:
        if not usable(record):
            continue
        try:
            if _fits(record, chain, names, now):
                return record
        except DANEError as exc:
            problems.append(str(exc))
    metrics.dane_verify_errors_total.inc()
    if problems:
        raise DANEError("; ".join(dict.fromkeys(problems)), "dane-no-match+errors")
    raise DANEError("no tlsa record matches the certificate")


def verify_any(
    records: Sequence[TLSA],
    chain: Sequence[x509.Certificate],
    names: Sequence[str],
    *,
    now: float,
    problem: str | None,
) -> TLSA:
    """As `verify`, for protocols in which PKIX-TA and PKIX-EE count, too (RFC 7671 5).

    problem: what is wrong with the certificate without DANE, None if nothing is; those usages
    demand both. Raises DANEError.
    """
    problems: list[str] = []
    for record in records:
        try:
            if record.usage in (DANE_TA, DANE_EE):
                if usable(record) and _fits(record, chain, names, now):
                    return record
                continue
            among = chain if record.usage == PKIX_TA else chain[:1]
            if well_formed(record) and any(matches(record, each) for each in among):
                if problem is None:
                    return record
                problems.append(problem)
        except DANEError as exc:
            problems.append(str(exc))
    raise DANEError("; ".join(dict.fromkeys(problems)) or "no tlsa record matches the certificate")


def _fits(
    record: TLSA, chain: Sequence[x509.Certificate], names: Sequence[str], now: float
) -> bool:
    if not chain:
        raise DANEError("no certificate")
    if record.usage == DANE_EE:
        # RFC 7672 3.1.1: neither names nor dates count; the record says all.
        return matches(record, chain[0])
    anchors = [certificate for certificate in chain if matches(record, certificate)]
    if record.match == 0 and record.selector == 0 and not anchors:
        # The record holds the certificate itself, which need not be in the chain.
        anchors = [x509.load_der_x509_certificate(record.data)]
    if not anchors:
        return False
    _verify_chain(anchors, chain, now)
    if not any(is_for(chain[0], name) for name in names):
        raise DANEError(f"certificate is not for {' or '.join(names)}")
    return True


def _verify_chain(
    anchors: Sequence[x509.Certificate], chain: Sequence[x509.Certificate], now: float
) -> None:
    """Whether a chain ends in one of the anchors. Raises DANEError."""
    store = crypto.X509Store()
    # The anchor is trusted whoever signed it (RFC 7671 5.2.2).
    store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN)
    store.set_time(datetime.fromtimestamp(now, UTC).replace(tzinfo=None))
    for anchor in anchors:
        store.add_cert(crypto.X509.from_cryptography(anchor))
    certificates = [crypto.X509.from_cryptography(each) for each in chain]
    context = crypto.X509StoreContext(store, certificates[0], certificates[1:])
    try:
        context.verify_certificate()
    except crypto.X509StoreContextError as exc:
        raise DANEError(f"certificate chain: {exc}") from exc


def is_for(certificate: x509.Certificate, name: str) -> bool:
    """Whether a certificate is for a host (RFC 7672 3.2.3): its DNS names, or without any the CN.

    name: A-labels.
    """
    try:
        alternatives = certificate.extensions.get_extension_for_class(
            x509.SubjectAlternativeName
        ).value.get_values_for_type(x509.DNSName)
    except x509.ExtensionNotFound:
        alternatives = []
    except ValueError:
        return False
    if not alternatives:
        common = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
        return any(str(each.value).lower() == name.lower() for each in common)
    try:
        verify_certificate_hostname(certificate, name)
    except (service_identity.VerificationError, service_identity.CertificateError, ValueError):
        return False
    return True
