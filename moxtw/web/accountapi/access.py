"""Functions on who may log in: passwords, TLS public keys, login attempts."""

from __future__ import annotations

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from moxtw.admin import system, tlskeys, usersettings
from moxtw.web.accountapi.base import own, registry, session_digest
from moxtw.web.adminapi.system import login_attempt
from moxtw.web.admintypes import LoginAttempt, TLSPublicKey
from moxtw.web.conversions import tls_public_key
from moxtw.web.rpc import USER_ERROR, ApiError, Call
from moxtw.web.typewords import Int32


@registry.function()
async def SetPassword(call: Call, password: str) -> None:
    """Change the password, to one of 8 bytes or more. Other web sessions end."""
    await usersettings.set_password(*own(call), password, keep=session_digest(call))


@registry.function("password")
async def GeneratePassword(call: Call) -> str:
    """Set a new password that nobody can guess, and return it. Other web sessions end."""
    return await usersettings.generate_password(*own(call), keep=session_digest(call))


@registry.function(reads=True)
async def TLSPublicKeys(call: Call) -> list[TLSPublicKey]:
    """The TLS public keys that log in to the account."""
    ctx, caller, name = own(call)
    return [tls_public_key(key) for key in await tlskeys.key_list(ctx, caller, name)]


@registry.function()
async def TLSPublicKeyAdd(
    call: Call, loginAddress: str, name: str, noIMAPPreauth: bool, certPEM: str
) -> TLSPublicKey:
    """Let who has the key of a certificate, in PEM, log in with an address of the account."""
    ctx, caller, account = own(call)
    if len(certPEM) > 2 * tlskeys.MAX_CERTIFICATE:
        raise ApiError(USER_ERROR, "the certificate is too large")
    try:
        der = x509.load_pem_x509_certificate(certPEM.encode()).public_bytes(Encoding.DER)
    except (ValueError, TypeError) as exc:
        raise ApiError(USER_ERROR, f"no certificate in PEM: {str(exc)[:200]}") from exc
    added = await tlskeys.add(
        ctx, caller, loginAddress, name, der, no_imap_preauth=noIMAPPreauth, account=account
    )
    return tls_public_key(added)


@registry.function()
async def TLSPublicKeyRemove(call: Call, fingerprint: str) -> None:
    """Remove a TLS public key."""
    ctx, caller, account = own(call)
    await tlskeys.own(ctx, caller, fingerprint, account)
    await tlskeys.remove(ctx, caller, fingerprint)


@registry.function()
async def TLSPublicKeyUpdate(call: Call, pubKey: TLSPublicKey) -> None:
    """Change name, login address and preauthentication of a TLS public key."""
    await tlskeys.update(
        *own(call),
        pubKey.fingerprint,
        login_address=pubKey.login_address,
        name=pubKey.name,
        no_imap_preauth=pubKey.no_imap_preauth,
    )


@registry.function(reads=True)
async def LoginAttempts(call: Call, limit: Int32) -> list[LoginAttempt]:
    """Login attempts of the account, latest first; a limit of 0 or less gives up to 10000."""
    rows = await system.login_attempts(*own(call), limit)
    return [login_attempt(row) for row in rows]
