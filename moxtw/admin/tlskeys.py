"""Operations on TLS public keys: client certificates that log in to an account."""

from __future__ import annotations

from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from moxtw.admin.context import AdminContext, Caller, not_found, user_error
from moxtw.config.index import AccountDestination
from moxtw.config.lookup import account_for_login
from moxtw.net.certs import CertError, fingerprint
from moxtw.store import credentials
from moxtw.store.credentials import TLSKey
from moxtw.store.errors import StoreError

MAX_CERTIFICATE: Final = 64 << 10
"""Largest certificate in bytes."""
_MAX_NAME: Final = 200


async def key_list(ctx: AdminContext, caller: Caller, account: str = "") -> list[TLSKey]:
    """The keys of an account, or of all for ""."""
    if account and account not in ctx.config.dynamic.accounts:
        raise not_found(f"no account {account[:100]!r} is configured")
    return await ctx.store.read(lambda tx: credentials.tls_keys(tx, account or None))


async def get(ctx: AdminContext, caller: Caller, wanted: str) -> TLSKey:
    """The key with a fingerprint."""
    keys = await ctx.store.read(credentials.tls_keys)
    found = next((key for key in keys if key.fingerprint == wanted), None)
    if found is None:
        raise not_found(f"no TLS public key with fingerprint {wanted[:100]!r}")
    return found


async def add(
    ctx: AdminContext,
    caller: Caller,
    login_address: str,
    name: str,
    cert_der: bytes,
    *,
    no_imap_preauth: bool = False,
    account: str = "",
) -> TLSKey:
    """Let who has the key of a certificate log in with an address of an account.

    name: "" for the common name in the certificate. no_imap_preauth: IMAP connections with the
    certificate are not logged in from their start. account: whose address it must be, "" for any.
    """
    login = _login(ctx, login_address, account)
    _check_name(name)
    if len(cert_der) > MAX_CERTIFICATE:
        raise user_error("the certificate is too large")
    try:
        cert = x509.load_der_x509_certificate(cert_der)
        found, kind = fingerprint(cert), _kind(cert)
        key = TLSKey(
            fingerprint=found,
            created=ctx.store.now(),
            type=kind,
            name=name or _name(cert),
            no_imap_preauth=no_imap_preauth,
            cert_der=cert.public_bytes(Encoding.DER),
            account=login.account,
            login_address=login.canonical,
        )
    except (ValueError, TypeError, x509.UnsupportedGeneralNameType, CertError) as exc:
        raise user_error(f"the certificate cannot be read: {exc}") from exc
    try:
        await ctx.store.write(lambda tx: credentials.add_tls_key(tx, key))
    except StoreError as exc:
        raise user_error(str(exc)) from exc
    await ctx.keys_changed()
    ctx.done(caller, "tls public key added", fingerprint=found, account=login.account)
    return key


async def own(ctx: AdminContext, caller: Caller, wanted: str, account: str) -> TLSKey:
    """The key with a fingerprint, if it is one of the account."""
    key = await get(ctx, caller, wanted)
    if key.account != account:
        raise not_found(f"no TLS public key with fingerprint {wanted[:100]!r}")
    return key


async def update(
    ctx: AdminContext,
    caller: Caller,
    account: str,
    wanted: str,
    *,
    login_address: str,
    name: str,
    no_imap_preauth: bool,
) -> None:
    """Change name, address and preauthentication of a key of an account."""
    key = await own(ctx, caller, wanted, account)
    login = _login(ctx, login_address, account)
    _check_name(name)
    try:
        await ctx.store.write(
            lambda tx: credentials.update_tls_key(
                tx,
                key.fingerprint,
                name or key.name,
                login.canonical,
                no_imap_preauth=no_imap_preauth,
            )
        )
    except StoreError as exc:
        raise not_found(str(exc)) from exc
    await ctx.keys_changed()
    ctx.done(caller, "tls public key changed", fingerprint=key.fingerprint, account=account)


def _login(ctx: AdminContext, address: str, account: str) -> AccountDestination:
    login = account_for_login(ctx.config, address)
    if login is None or (account and login.account != account):
        whose = "this account has not" if account else "no account has"
        raise not_found(f"{whose} address {address[:200]!r}")
    return login


def _check_name(name: str) -> None:
    if len(name) > _MAX_NAME or not name.isprintable():
        raise user_error("bad name for the key")


async def remove(ctx: AdminContext, caller: Caller, wanted: str) -> None:
    """Remove a key."""
    key = await get(ctx, caller, wanted)
    try:
        await ctx.store.write(lambda tx: credentials.remove_tls_key(tx, key.fingerprint))
    except StoreError as exc:
        raise not_found(str(exc)) from exc
    await ctx.keys_changed()
    ctx.done(caller, "tls public key removed", fingerprint=key.fingerprint, account=key.account)


def _kind(cert: x509.Certificate) -> str:
    """The kind of key, as stored. Raises OperationError for one that is refused."""
    try:
        key = cert.public_key()
    except Exception as exc:
        raise ValueError(f"public key: {exc}") from exc
    if isinstance(key, ed25519.Ed25519PublicKey):
        return "ed25519"
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        return "ecdsa-p256"
    if isinstance(key, rsa.RSAPublicKey) and key.key_size >= 2048:
        return f"rsa-{key.key_size}"
    raise user_error("the key must be ed25519, ECDSA with P-256, or RSA with 2048 bits or more")


def _name(cert: x509.Certificate) -> str:
    """The common name, or else the serial number."""
    for attribute in cert.subject.get_attributes_for_oid(NameOID.COMMON_NAME):
        text = str(attribute.value)
        if text.isprintable() and text.strip():
            return text[:_MAX_NAME]
    return f"{cert.serial_number:x}"
