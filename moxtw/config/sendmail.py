"""The configuration of ``moxtw sendmail``: where and how local programs submit mail."""

from __future__ import annotations

import base64
import binascii
from pathlib import Path
from typing import Final

from moxtw.config import document
from moxtw.config.codec import opt, req, section
from moxtw.config.sconf import SconfError
from moxtw.mail.address import AddressError, parse_address

DEFAULT_PATH: Final = "/etc/moxsubmit.conf"

_MAX_FILE: Final = 64 * 1024


class SendmailConfigError(Exception):
    """The configuration cannot be used: why, without the secrets in it."""


@section
class Sendmail:
    """moxsubmit.conf."""

    local_hostname: str = req(
        "LocalHostname",
        "Name of this machine, for the greeting and in new message ids.",
        example="host.example.org",
    )
    host: str = req("Host", "Server to submit to.", example="mail.example.org")
    port: int = req("Port", "Port for submission: 465 with TLS, 587 with STARTTLS.", 0, example=465)
    tls: bool = opt("TLS", "TLS from the first byte on.", False, example=True)
    starttls: bool = opt("STARTTLS", "Begin TLS with STARTTLS.", False)
    tls_insecure_skip_verify: bool = opt(
        "TLSInsecureSkipVerify", "Take any certificate. Only for tests.", False
    )
    username: str = opt("Username", "For the login.", example="me@example.org")
    password: str = opt(
        "Password", "For the login, unless a client certificate is used.", example="secret"
    )
    client_auth_ed25519_private_key: str = opt(
        "ClientAuthEd25519PrivateKey",
        "Log in by a TLS client certificate, made anew each time for this key: the 32 bytes of "
        "an ed25519 seed, in base64url without padding. The server must know the key.",
    )
    client_auth_cert_private_key_pem_file: str = opt(
        "ClientAuthCertPrivateKeyPEMFile",
        "Log in by the TLS client certificate in this file, PEM of the certificate and of its "
        "private key in PKCS#8.",
    )
    auth_method: str = opt(
        "AuthMethod",
        "SASL mechanism: SCRAM-SHA-256-PLUS, SCRAM-SHA-256, SCRAM-SHA-1-PLUS, SCRAM-SHA-1, "
        "CRAM-MD5, PLAIN or EXTERNAL. Default: the best that both sides have, PLAIN not among "
        "them.",
        example="SCRAM-SHA-256-PLUS",
    )
    from_: str = req(
        "From", "Address that all messages are from, also in MAIL FROM.", example="me@example.org"
    )
    default_destination: str = opt(
        "DefaultDestination",
        "Address for recipients that are only a name, such as root.",
        example="me@example.org",
    )
    require_tls: str = opt(
        "RequireTLS",
        "yes: the message may only travel over verified TLS (RFC 8689). no: trouble with TLS on "
        "the way shall not keep it from being delivered. Default: as the server does it.",
    )


_METHODS: Final = (
    "SCRAM-SHA-256-PLUS",
    "SCRAM-SHA-256",
    "SCRAM-SHA-1-PLUS",
    "SCRAM-SHA-1",
    "CRAM-MD5",
    "PLAIN",
    "EXTERNAL",
)


def read_config(path: str | Path) -> Sendmail:
    """Read and check the file. Raises SendmailConfigError."""
    try:
        with open(path, "rb") as file:
            text = file.read(_MAX_FILE + 1).decode()
    except OSError as exc:
        raise SendmailConfigError(f"{path}: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise SendmailConfigError(f"{path}: not UTF-8") from exc
    if len(text) > _MAX_FILE:
        raise SendmailConfigError(f"{path}: too large")
    errors: list[SconfError] = []
    config = document.read(text, Sendmail, errors).value
    if errors:
        # Only places: the texts of errors quote values, which may be secrets. What is missing
        # has no place, and no value.
        places = [f"error in line {error.line}" if error.line else str(error) for error in errors]
        raise SendmailConfigError(f"{path}: {', '.join(dict.fromkeys(places))}")
    problems = list(_problems(config))
    if problems:
        raise SendmailConfigError("\n".join(f"{path}: {problem}" for problem in problems))
    return config


def _problems(config: Sendmail) -> list[str]:
    found = []
    for name, value in (("LocalHostname", config.local_hostname), ("Host", config.host)):
        if not value:
            found.append(f"{name} is missing")
    if not 0 < config.port < 65536:
        found.append("Port must be from 1 to 65535")
    if config.tls and config.starttls:
        found.append("not both TLS and STARTTLS")
    secrets = (
        config.password,
        config.client_auth_ed25519_private_key,
        config.client_auth_cert_private_key_pem_file,
    )
    if sum(map(bool, secrets)) > 1:
        found.append(
            "only one of Password, ClientAuthEd25519PrivateKey and "
            "ClientAuthCertPrivateKeyPEMFile"
        )
    if any(secrets[1:]) and not (config.tls or config.starttls):
        found.append("a client certificate needs TLS or STARTTLS")
    if config.password and not config.username:
        found.append("Password needs Username")
    if config.client_auth_ed25519_private_key and seed(config) is None:
        found.append("ClientAuthEd25519PrivateKey is not 32 bytes in base64url")
    if config.auth_method and config.auth_method.upper() not in _METHODS:
        found.append(f"AuthMethod must be one of {', '.join(_METHODS)}")
    if config.require_tls not in ("", "yes", "no"):
        found.append("RequireTLS must be yes or no")
    for name, value in (
        ("From", config.from_),
        ("DefaultDestination", config.default_destination),
    ):
        if not value and name != "From":
            continue
        try:
            parse_address(value)
        except AddressError as exc:
            found.append(f"{name}: {exc}")
    return found


def seed(config: Sendmail) -> bytes | None:
    """The seed of the ed25519 key; None if it is none."""
    text = config.client_auth_ed25519_private_key
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    return data if len(data) == 32 else None
